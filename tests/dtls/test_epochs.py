"""The replay window and the sequence numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import SequenceNumbersExhausted
from mediapeer.dtls.epochs import ReadEpoch, ReplayWindow, WriteEpoch
from mediapeer.dtls.protection import ChaCha20Poly1305Protection
from mediapeer.dtls.record import MAXIMUM_SEQUENCE_NUMBER, split_datagram

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


def protection() -> ChaCha20Poly1305Protection:
    return ChaCha20Poly1305Protection(bytes(32), bytes(12))


def test_a_record_passes_once() -> None:
    ((record,), _) = split_datagram(WriteEpoch(1, protection()).seal(23, b"once"))
    epoch = ReadEpoch(1, protection())
    assert epoch.open(record) == b"once"
    assert epoch.open(record) is None


def test_a_forged_record_does_not_move_the_window() -> None:
    write = WriteEpoch(1, protection())
    ((genuine,), _) = split_datagram(write.seal(23, b"genuine"))
    epoch = ReadEpoch(1, protection())
    forged = genuine._replace(epoch_and_sequence_number=(1 << 48) + 10_000)
    assert epoch.open(forged) is None
    assert epoch.open(genuine) == b"genuine"


def test_unprotected_records_have_no_window_to_poison() -> None:
    epoch = ReadEpoch(0, None)
    ((last,), _) = split_datagram(WriteEpoch(0, None, MAXIMUM_SEQUENCE_NUMBER).seal(22, b"last"))
    ((first,), _) = split_datagram(WriteEpoch(0, None).seal(22, b"first"))
    assert epoch.open(last) == b"last"
    assert epoch.open(first) == b"first"


def test_sequence_numbers_do_not_wrap() -> None:
    epoch = WriteEpoch(1, protection(), first_sequence_number=MAXIMUM_SEQUENCE_NUMBER)
    epoch.seal(23, b"the last one")
    with pytest.raises(SequenceNumbersExhausted):
        epoch.seal(23, b"one too many")
