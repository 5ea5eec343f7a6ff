"""The counts of a source: loss, jitter and what a receiver report says of them."""

import itertools
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import InboundStream
from tests.rtp.packets import parsed


def receive(stream: InboundStream, number: int, now: float = 0.0, timestamp: int = 0) -> int:
    return stream.receive(parsed(number, b"12345", timestamp=timestamp, padding=3, mid="1"), now, 90000)


def block(stream: InboundStream, now: float = 0.0) -> tuple[int, int, int, int, int, int, int]:
    """SSRC, fraction lost, packets lost, highest, jitter, last report, delay."""
    return astuple(stream.report_block(now))


def test_bytes_are_told_apart_into_payload_and_headers() -> None:
    stream = InboundStream(1, "1")
    receive(stream, 1)
    assert (stream.packets_received, stream.bytes_received) == (1, 5)
    assert stream.header_bytes_received == 12 + 4 + 4 + 3


def test_loss_is_counted_and_late_packets_take_it_back() -> None:
    stream = InboundStream(7, "1")
    for number in (10, 11, 15):
        receive(stream, number)
    assert stream.packets_lost == 3
    assert block(stream)[:4] == (7, 128, 3, 15)
    receive(stream, 12)
    receive(stream, 9)
    assert stream.packets_lost == 2
    assert block(stream)[1] == 0, "since the last report none was lost"


def test_the_fraction_lost_is_that_since_the_report_before() -> None:
    """RFC 3550 appendix A.3."""
    stream = InboundStream(7, "1")
    for number in range(100):
        receive(stream, number)
    assert block(stream)[1:4] == (0, 0, 99)
    for number in range(100, 140, 4):
        receive(stream, number)
    receive(stream, 139)
    assert block(stream)[1:4] == (29 * 256 // 40, 29, 139)
    for number in range(140, 150, 2):
        receive(stream, number)
    assert block(stream)[1:4] == (4 * 256 // 9, 33, 148)
    for _ in range(40):
        receive(stream, 149)
    assert block(stream)[1:4] == (0, -6, 149), "duplicates are no negative fraction"
    assert block(stream)[1:4] == (0, -6, 149)


def test_the_sequence_number_wraps() -> None:
    stream = InboundStream(1, "1")
    extended = [receive(stream, number & 0xFFFF) for number in range(65530, 65545)]
    assert [b - a for a, b in itertools.pairwise(extended)] == [1] * 14
    assert stream.packets_lost == 0
    assert block(stream)[3] == 65536 + 8


def test_a_wild_step_is_a_new_beginning_and_no_loss() -> None:
    stream = InboundStream(1, "1")
    receive(stream, 1)
    receive(stream, 20001)
    receive(stream, 20003)
    assert stream.packets_lost == 1


def test_jitter_is_that_of_the_rfc() -> None:
    stream = InboundStream(1, "1")
    for number in range(100):
        # Every second frame is 10 ms late: the transit time changes by that each time.
        timestamp = 0xFFFFF000 + number * 3000
        receive(stream, number, now=number / 30 + 0.01 * (number % 2), timestamp=timestamp)
    assert stream.jitter == pytest.approx(0.01, abs=0.001)
    assert block(stream)[4] == int(stream.jitter * 90000)
    before = stream.jitter
    receive(stream, 100, now=4000.0, timestamp=101 * 3000)
    assert stream.jitter == before, "an hour's pause is no jitter"


def test_a_receiver_report_answers_the_last_sender_report() -> None:
    stream = InboundStream(1, "1")
    receive(stream, 1)
    assert block(stream)[5:] == (0, 0)
    stream.receive_report(0x1111222233334444, 5, 6, 7, now=10.0)
    assert block(stream, now=12.5)[5:] == (0x22223333, int(2.5 * 65536))
    assert (stream.remote_packets_sent, stream.remote_bytes_sent, stream.remote_rtp_timestamp) == (6, 7, 5)


def test_a_stream_flows_until_it_is_silent_or_says_goodbye() -> None:
    stream = InboundStream(1, "1")
    assert not stream.is_flowing(0.0, 1.0)
    receive(stream, 1, now=5.0)
    assert stream.is_flowing(5.9, 1.0)
    assert not stream.is_flowing(6.0, 1.0)
    stream.ended = True
    assert not stream.is_flowing(5.0, 1.0)
    receive(stream, 2, now=5.1)
    assert stream.is_flowing(5.2, 1.0)


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.floats(0, 1e6), st.integers(0, 0xFFFFFFFF)), max_size=60)
)
def test_any_packets_leave_a_report_that_can_be_sent(packets: list[tuple[int, float, int]]) -> None:
    stream = InboundStream(1, "1")
    for number, now, timestamp in packets:
        extended = receive(stream, number, now, timestamp)
        assert extended & 0xFFFF == number
        assert len(stream.report_block(now).serialize()) == 24
