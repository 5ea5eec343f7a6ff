"""A source of ours: its numbers, what it sends again, and what it reports."""

import random

import pytest
from aiortc.rtp import RtpPacket as AiortcRtpPacket
from aiortc.rtp import unwrap_rtx

from mediapeer.rtp import RtpPacket, rtcp
from mediapeer.rtp.history import CAPACITY, MAXIMUM_AGE
from mediapeer.rtp.outbound import MediaClock, OutboundStream
from mediapeer.rtp.rtcp import Goodbye, ReportBlock, SenderReport, SourceDescription
from mediapeer.rtp.writing import OutboundExtensions

SSRC, RTX_SSRC = 1000, 2000
RTX = 97
NTP = 0xE1234567_80000000


class Scene:
    """A source, and the packets that it has sent."""

    def __init__(self) -> None:
        self.stream = OutboundStream(SSRC, RTX_SSRC)
        self.stream.configure("0", OutboundExtensions(mid=1, abs_send_time=2))
        self.sent: list[bytes] = []

    def send(self, count: int = 1, *, now: float = 0.0, rtx: int | None = RTX) -> None:
        for _ in range(count):
            payload = b"payload %d" % len(self.sent)
            self.sent.append(
                self.stream.packet(payload, 3000, 96, now, NTP, marker=True, rtx_payload_type=rtx)
            )

    def number(self, index: int) -> int:
        return RtpPacket.parse(self.sent[index]).sequence_number

    def repeated(self, *indexes: int, now: float) -> list[bytes]:
        return self.stream.retransmit([self.number(index) for index in indexes], now, NTP + 2**32)


def report(stream: OutboundStream, now: float, ntp: int = NTP) -> SenderReport:
    """The sender report that goes out at that time."""
    compound = stream.sender_report("name", now, ntp)
    assert compound is not None
    first, names = rtcp.parse(compound)
    assert isinstance(first, SenderReport)
    assert isinstance(names, SourceDescription)
    assert names.cnames == {SSRC: "name"}
    return first


def block(report: SenderReport, *, delay: float = 0.0, lost: int = 0) -> ReportBlock:
    """A receiver's answer to a sender report."""
    return ReportBlock(SSRC, 64, lost, 0, 90, report.ntp_timestamp >> 16 & 0xFFFFFFFF, int(delay * 65536))


def test_sequence_numbers_begin_low_and_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randrange", lambda stop: stop - 1)
    scene = Scene()
    scene.send(0x8002)
    assert [scene.number(0), scene.number(-2), scene.number(-1)] == [0x7FFF, 0xFFFF, 0]


def test_a_lost_packet_comes_again_as_rtx() -> None:
    scene = Scene()
    scene.send(3)
    [again] = scene.repeated(1, now=0.01)
    packet = AiortcRtpPacket.parse(again)
    assert (packet.ssrc, packet.payload_type) == (RTX_SSRC, RTX)
    original = unwrap_rtx(packet, payload_type=96, ssrc=SSRC)
    first = RtpPacket.parse(scene.sent[1])
    assert original.payload == b"payload 1"
    assert original.sequence_number == first.sequence_number
    assert (original.timestamp, original.marker) == (first.timestamp, 1)
    extensions = RtpPacket.parse(again).extensions
    assert extensions[1] == b"0", "its section is told by the MID"
    assert extensions[2] != first.extensions[2], "and when this one was sent"
    assert scene.stream.retransmitted_packets_sent == 1
    assert scene.stream.packets_sent == 3


def test_retransmissions_have_numbers_of_their_own_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 4588 §4: else they would be replays to SRTP, or count as lost. The marker is the original's."""
    monkeypatch.setattr(random, "randrange", lambda stop: stop - 1)
    stream = OutboundStream(SSRC, RTX_SSRC)
    stream._rtx_sequence_number = 0xFFFF
    for number in range(4):
        stream.packet(b"payload", 3000, 96, 0.0, NTP, marker=number == 2, rtx_payload_type=RTX)
    again = [RtpPacket.parse(data) for data in stream.retransmit([0x8001, 0x7FFF, 0x8000], 0.01, NTP)]
    assert [packet.sequence_number for packet in again] == [0xFFFF, 0, 1]
    assert [int.from_bytes(packet.payload[:2], "big") for packet in again] == [0x8001, 0x7FFF, 0x8000]
    assert [packet.marker for packet in again] == [True, False, False]
    stream.retransmit([0x8002], 0.02, NTP)
    assert stream.nack_count == 2
    assert (stream.retransmitted_packets_sent, stream.retransmitted_bytes_sent) == (4, 4 * len(b"payload"))


def test_without_rtx_it_is_the_same_packet_byte_for_byte() -> None:
    """SRTP would use one keystream for two packets else."""
    scene = Scene()
    scene.send(3, rtx=None)
    assert scene.repeated(2, 0, now=0.01) == [scene.sent[2], scene.sent[0]]


def test_the_same_number_is_answered_once_in_a_round_trip() -> None:
    scene = Scene()
    scene.stream.note_frame(0, 0.0, 90000)
    scene.stream.receive_report(block(report(scene.stream, 0.0)), 0.3)
    scene.send()
    assert len(scene.repeated(0, 0, 0, now=1.0)) == 1
    assert scene.repeated(0, now=1.29) == []
    assert len(scene.repeated(0, now=1.31)) == 1


def test_what_is_too_old_or_was_never_sent_does_not_come_again() -> None:
    scene = Scene()
    scene.send(CAPACITY + 1)
    assert scene.repeated(0, now=0.01) == []
    assert len(scene.repeated(1, now=0.01)) == 1
    assert scene.stream.retransmit([scene.number(-1) + 1 & 0xFFFF], 0.01, NTP) == []
    assert scene.repeated(5, now=MAXIMUM_AGE + 0.1) == []
    scene.stream.forget()
    assert scene.repeated(7, now=0.02) == []


def test_no_more_is_sent_again_than_was_sent() -> None:
    """However often it is asked for: a NACK of some bytes asks for a hundred packets, and may come at any rate."""
    scene = Scene()
    for _ in range(200):
        scene.sent.append(scene.stream.packet(bytes(1000), 3000, 96, 0.0, NTP, rtx_payload_type=RTX))
    numbers = [scene.number(index) for index in range(200)]
    repeated = 0
    for turn in range(40):
        for start in (0, 100):
            now = 0.1 + turn * 0.05
            repeated += sum(map(len, scene.stream.retransmit(numbers[start : start + 100], now, NTP)))
    assert repeated < 2 * sum(map(len, scene.sent))
    scene.send(100, now=2.2)
    assert len(scene.repeated(200, now=2.3)) == 1


def test_reports_relate_the_two_clocks() -> None:
    """RFC 3550 §6.4.1: both timestamps of a report are of the same moment."""
    scene = Scene()
    stream = scene.stream
    begin = 500.0
    for index in range(90):
        late = 0.02 if index % 7 else 0.0  # the program is late now and then
        stream.note_frame(index * 3000, begin + index / 30 + late, 90000)
    data = stream.packet(b"", 89 * 3000, 96, 0.0, NTP)
    frame_timestamp = RtpPacket.parse(data).timestamp
    captured_at = begin + 89 / 30
    told = report(stream, captured_at + 0.5)
    assert told.rtp_timestamp - frame_timestamp == pytest.approx(0.5 * 90000, abs=2)
    assert (told.packet_count, told.octet_count) == (1, 0)
    later = report(stream, captured_at + 1.5, NTP + 2**32)
    assert later.rtp_timestamp - told.rtp_timestamp == 90000


def test_the_earliest_frame_says_how_the_clocks_go_together() -> None:
    clock = MediaClock()
    for timestamp, late in [(0, 0.1), (9000, 0.03), (18000, 0.08), (27000, 0.2)]:
        clock.note(timestamp, 100.0 + timestamp / 90000 + late, 90000)
    assert clock.timestamp_at(100.43) == pytest.approx(0.4 * 90000, abs=1)


def test_a_timeline_that_jumps_is_followed_at_once() -> None:
    clock = MediaClock()
    clock.note(0, 100.0, 90000)
    clock.note(90000 * 60, 101.0, 90000)
    assert clock.timestamp_at(101.0) == 90000 * 60
    clock.note(90000 * 61, 105.0, 90000)  # the program stood still
    assert clock.timestamp_at(105.0) == 90000 * 61


def test_a_clock_that_goes_slow_is_followed_within_seconds() -> None:
    clock = MediaClock()
    for index in range(3000):
        clock.note(index * 900, 100.0 + index / 100 * 1.001, 90000)
    now = 100.0 + 29.99 * 1.001
    assert clock.timestamp_at(now) == pytest.approx(2999 * 900, abs=0.005 * 90000)


def test_the_round_trip_is_measured_by_what_answers_a_report() -> None:
    stream = Scene().stream
    stream.note_frame(0, 0.0, 90000)
    first = report(stream, 1.0)
    stream.receive_report(block(first, delay=0.5, lost=3), 1.75)
    assert stream.remote is not None
    assert stream.remote.round_trip_time == pytest.approx(0.25, abs=0.001)
    assert (stream.remote.packets_lost, stream.remote.fraction_lost, stream.remote.jitter) == (3, 0.25, 90)
    # What answers none of ours, or says that it waited for longer than it can have, measures nothing.
    for wrong in (block(first, delay=5.0), ReportBlock(SSRC, 0, 0, 0, 0, 12345, 0)):
        stream.receive_report(wrong, 2.0)
        assert stream.remote.round_trip_time == pytest.approx(0.25, abs=0.001)
    assert stream.remote.round_trip_time_measurements == 1
    stream.receive_report(block(first, delay=1.25), 2.75)
    assert stream.remote.round_trip_time == pytest.approx(0.5, abs=0.001)
    assert stream.remote.total_round_trip_time == pytest.approx(0.75, abs=0.002)
    assert stream.remote.round_trip_time_measurements == 2


def test_the_end_is_told_after_a_last_report() -> None:
    stream = Scene().stream
    assert stream.goodbye("name", 0.0, NTP) is None, "it never began"
    stream.note_frame(0, 0.0, 90000)
    compound = stream.goodbye("name", 1.0, NTP)
    assert compound is not None
    kinds = [type(packet) for packet in rtcp.parse(compound)]
    assert kinds == [SenderReport, SourceDescription, Goodbye]
