"""Fragments in every order, and what a hostile peer does with them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import DecodeError, PeerMisbehaved
from mediapeer.dtls.reassembly import (
    BLOCK_LENGTH,
    BLOCKS_AHEAD,
    MESSAGES_AHEAD,
    HandshakeFragment,
    HandshakeReassembler,
    handshake_header,
    parse_fragments,
)

EPOCH = 0


def reassembler(maximum_message_size: int = 4096) -> HandshakeReassembler:
    return HandshakeReassembler(maximum_message_size)


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
    body = data.draw(st.binary(min_size=1, max_size=200)) * data.draw(st.sampled_from([1, 7]))
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
        assert subject.blocks <= len(body) // BLOCK_LENGTH + 1
    message = subject.next_message(EPOCH)
    assert message is not None
    assert message.body == body
    assert message.serialize() == handshake_header(11, len(body), 0) + body
    assert subject.blocks == 0


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
    assert subject.blocks == MESSAGES_AHEAD


def test_a_message_that_is_too_long_is_fatal() -> None:
    with pytest.raises(PeerMisbehaved, match="too long"):
        reassembler().add(EPOCH, fragment(b"x", length=4097))


def test_what_runs_ahead_leaves_room_for_the_next_message() -> None:
    subject = reassembler(maximum_message_size=16_384)
    ahead, body = bytes(BLOCKS_AHEAD * BLOCK_LENGTH), bytes(range(256)) * 64
    assert subject.add(EPOCH, fragment(ahead, 0, len(ahead) - 1, seq=1))
    assert not subject.add(EPOCH, fragment(b"xy", 0, 1, seq=2))
    for start in range(0, len(body), 1000):
        assert subject.add(EPOCH, fragment(body, start, start + 1000))
    message = subject.next_message(EPOCH)
    assert message is not None
    assert message.body == body


def test_a_message_in_another_epoch_does_not_double_what_is_held() -> None:
    subject = reassembler(maximum_message_size=16_384)
    body = bytes(16_384)
    assert subject.add(0, fragment(body, 0, 16_383))
    subject.add(1, fragment(body, 0, 16_383))
    assert subject.blocks <= 32 + BLOCKS_AHEAD


def test_pieces_of_one_byte_in_any_order_cost_no_more_than_the_message() -> None:
    subject = reassembler()
    body = bytes(range(256)) * 16
    for start in [*range(4094, -1, -2), *range(1, 4096, 2)]:
        assert subject.add(EPOCH, fragment(body, start, start + 1))
        assert subject.blocks <= 8
    message = subject.next_message(EPOCH)
    assert message is not None
    assert message.body == body


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
