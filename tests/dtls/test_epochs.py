"""The replay window and the sequence numbers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import SequenceNumbersExhausted
from mediapeer.dtls.epochs import ReadEpoch12, ReplayWindow, WriteEpoch12
from mediapeer.dtls.protection import ChaCha20Poly1305Protection
from mediapeer.dtls.record import MAXIMUM_SEQUENCE_NUMBER, Record, split_datagram

SIZE = 64


@given(st.lists(st.integers(0, 300), max_size=300))
def test_the_window_agrees_with_a_plain_set(numbers: list[int]) -> None:
    """Each number passes once, unless it is more than the window behind the highest that passed."""
    window, passed = ReplayWindow(SIZE), set[int]()
    for number in numbers:
        expected = number not in passed and (not passed or number > max(passed) - SIZE)
        assert window.is_fresh(number) == expected
        if expected:
            window.mark(number)
            passed.add(number)


@given(st.integers(0, MAXIMUM_SEQUENCE_NUMBER), st.integers(0, MAXIMUM_SEQUENCE_NUMBER))
def test_the_window_stays_small_however_far_it_jumps(first: int, second: int) -> None:
    window = ReplayWindow(SIZE)
    window.mark(first)
    window.mark(second)
    assert window._bitmap < 1 << SIZE
    assert not window.is_fresh(first) or first > second
    assert not window.is_fresh(second) or second <= first - SIZE


def only_record(datagram: bytes) -> Record:
    """The one record of a datagram."""
    ((record,), whole) = split_datagram(datagram)
    assert whole
    assert isinstance(record, Record)
    return record


def protection() -> ChaCha20Poly1305Protection:
    return ChaCha20Poly1305Protection(bytes(32), bytes(12))


def test_a_record_passes_once() -> None:
    record = only_record(WriteEpoch12(1, protection()).seal(23, b"once"))
    epoch = ReadEpoch12(1, protection(), Counter())
    assert epoch.open(record) == (1, 23, 0, b"once")
    assert epoch.open(record) is None


def test_a_forged_record_does_not_move_the_window() -> None:
    write = WriteEpoch12(1, protection())
    genuine = only_record(write.seal(23, b"genuine"))
    epoch = ReadEpoch12(1, protection(), Counter())
    forged = genuine._replace(epoch_and_sequence_number=(1 << 48) + 10_000)
    assert epoch.open(forged) is None
    assert epoch.open(genuine) == (1, 23, 0, b"genuine")


def test_unprotected_records_have_no_window_to_poison() -> None:
    epoch = ReadEpoch12(0, None, Counter())
    last = only_record(WriteEpoch12(0, None, MAXIMUM_SEQUENCE_NUMBER).seal(22, b"last"))
    first = only_record(WriteEpoch12(0, None).seal(22, b"first"))
    assert epoch.open(last) == (0, 22, MAXIMUM_SEQUENCE_NUMBER, b"last")
    assert epoch.open(first) == (0, 22, 0, b"first")


def test_sequence_numbers_do_not_wrap() -> None:
    epoch = WriteEpoch12(1, protection(), first_sequence_number=MAXIMUM_SEQUENCE_NUMBER)
    epoch.seal(23, b"the last one")
    with pytest.raises(SequenceNumbersExhausted):
        epoch.seal(23, b"one too many")
