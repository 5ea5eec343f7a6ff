"""Fragments in every order, and what a hostile peer does with them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import DecodeError, PeerMisbehaved
from mediapeer.dtls.reassembly import (
    MAXIMUM_PIECES,
    MESSAGES_AHEAD,
    HandshakeFragment,
    HandshakeReassembler,
    handshake_header,
    parse_fragments,
)

EPOCH = 0


def reassembler(maximum_message_size: int = 4096, maximum_bytes: int = 8192) -> HandshakeReassembler:
    return HandshakeReassembler(maximum_message_size, maximum_bytes)


def fragment(
    body: bytes,
    start: int = 0,
    end: int | None = None,
    *,
    seq: int = 0,
    kind: int = 11,
    length: int | None = None,
) -> HandshakeFragment:
    """The part of ``body`` from ``start`` to ``end``."""
    return HandshakeFragment(kind, len(body) if length is None else length, seq, start, body[start:end])


@given(st.data())
def test_fragments_in_any_order_with_any_overlap_make_the_message(data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=1, max_size=200))
    cuts = sorted({0, len(body), *data.draw(st.lists(st.integers(0, len(body)), max_size=12))})
    spans = list(itertools.pairwise(cuts))
    spans += data.draw(
        st.lists(
            st.tuples(st.integers(0, len(body)), st.integers(0, len(body))).map(sorted).map(tuple), max_size=8
        )
    )
    subject = reassembler()
    for start, end in data.draw(st.permutations(spans)):
        subject.add(EPOCH, fragment(body, start, end))
        assert subject.size <= len(body)
    message = subject.next_message(EPOCH)
    assert message is not None
    assert message.body == body
    assert message.serialize() == handshake_header(11, len(body), 0) + body
    assert subject.size == 0


@given(st.permutations(range(MESSAGES_AHEAD)))
def test_messages_come_out_in_the_order_of_message_seq(order: list[int]) -> None:
    subject = reassembler()
    out = []
    for seq in order:
        subject.add(EPOCH, fragment(bytes([seq]) * 3, seq=seq))
        while (message := subject.next_message(EPOCH)) is not None:
            out.append(message.message_seq)
    assert out == list(range(MESSAGES_AHEAD))


def test_an_empty_message_is_complete_at_once() -> None:
    subject = reassembler()
    assert subject.add(EPOCH, fragment(b"", kind=14))
    message = subject.next_message(EPOCH)
    assert message is not None
    assert message.body == b""


def test_the_first_of_two_contradicting_bytes_stays() -> None:
    subject = reassembler()
    subject.add(EPOCH, fragment(b"aaaa", 0, 3))
    subject.add(EPOCH, fragment(b"bbbb", 1, 4))
    message = subject.next_message(EPOCH)
    assert message is not None
    assert message.body == b"aaab"


@pytest.mark.parametrize("change", [{"kind": 12}, {"length": 9}])
def test_fragments_must_agree_on_type_and_length(change: dict[str, int]) -> None:
    subject = reassembler()
    subject.add(EPOCH, fragment(b"01234567", 0, 4))
    with pytest.raises(PeerMisbehaved, match="differ"):
        subject.add(EPOCH, fragment(b"01234567", 4, 8, **change))


def test_a_message_does_not_span_epochs() -> None:
    subject = reassembler()
    subject.add(0, fragment(b"01234567", 0, 4))
    subject.add(1, fragment(b"01234567", 4, 8))
    assert subject.next_message(0) is None
    assert subject.next_message(1) is None


def test_memory_follows_what_was_received_not_what_was_announced() -> None:
    subject = reassembler()
    for seq in range(MESSAGES_AHEAD):
        subject.add(EPOCH, fragment(b"x", seq=seq, length=4096))
    assert subject.size == MESSAGES_AHEAD


def test_a_message_that_is_too_long_is_fatal() -> None:
    with pytest.raises(PeerMisbehaved, match="too long"):
        reassembler().add(EPOCH, fragment(b"x", length=4097))


def test_no_more_is_held_than_allowed() -> None:
    subject = reassembler(maximum_message_size=4096, maximum_bytes=5000)
    body = bytes(4000)
    assert subject.add(EPOCH, fragment(body, 0, 3999, seq=1))
    assert not subject.add(EPOCH, fragment(body, 0, 3999, seq=2))
    assert subject.size <= 5000


def test_pieces_without_end_are_refused() -> None:
    subject = reassembler()
    body = bytes(4096)
    taken = sum(subject.add(EPOCH, fragment(body, start, start + 1)) for start in range(0, 4096, 2))
    assert taken == MAXIMUM_PIECES


def test_fragments_that_say_nothing_leave_nothing_behind() -> None:
    subject = reassembler()
    for seq in range(MESSAGES_AHEAD):
        assert subject.add(EPOCH, fragment(b"abc", 1, 1, seq=seq))
    assert not subject._partial


@pytest.mark.parametrize("seq", [-1, MESSAGES_AHEAD, 0xFFFF])
def test_messages_far_ahead_or_long_past_are_dropped(seq: int) -> None:
    assert not reassembler().add(EPOCH, fragment(b"abc", seq=seq))


def test_several_fragments_share_a_record() -> None:
    record = handshake_header(2, 3, 0) + b"abc" + handshake_header(14, 0, 1)
    first, second = parse_fragments(record)
    assert (first.data, first.is_last) == (b"abc", True)
    assert (second.handshake_type, second.message_seq, second.is_last) == (14, 1, True)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        handshake_header(11, 3, 0) + b"ab",
        handshake_header(11, 3, 0, offset=2, fragment_length=2) + b"ab",
        handshake_header(11, 3, 0)[:11],
        handshake_header(11, 3, 0) + b"abc" + b"\0",
    ],
    ids=["empty", "cut short", "past the end", "half a header", "a byte too many"],
)
def test_a_record_that_is_no_fragment_is_a_decode_error(record: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_fragments(record)


@given(st.binary(max_size=100))
def test_garbage_is_a_decode_error_or_fragments(record: bytes) -> None:
    try:
        fragments = parse_fragments(record)
    except DecodeError:
        return
    assert sum(len(f.data) for f in fragments) + 12 * len(fragments) == len(record)
