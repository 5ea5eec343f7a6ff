"""RTCP of one transport: what the peer is told, when, and what becomes of what it says."""

import itertools
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    pack_remb_fci,
    unpack_remb_fci,
)

from mediapeer.rtp import rtcp
from mediapeer.rtp.rtcp import ReportBlock
from mediapeer.transport.bandwidth import BandwidthEstimator
from mediapeer.transport.feedback import ARRIVALS_INTERVAL, MAXIMUM_NACKS, REPORTED
from tests.rtp.packets import CAPTURE_TIME, OPUS, VP8_RTX, rtp
from tests.transport.scenes import KEYFRAME, Scene, picture, retransmission


class Sender:
    """Stands for who sends a stream."""

    def __init__(self, ssrc: int, rtx_ssrc: int | None = None) -> None:
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        self.told: list[Any] = []
        self.raises = False

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        if self.raises:
            raise RuntimeError("a defect above")

    def receive_report(self, block: ReportBlock, now: float) -> None:
        self._note("report", block, now)

    def receive_nack(self, numbers: Sequence[int], now: float) -> None:
        self._note("nack", list(numbers), now)

    def receive_keyframe_request(self, now: float) -> None:
        self._note("keyframe", now)

    def receive_bitrate(self, bits_per_second: int, now: float) -> None:
        self._note("bitrate", bits_per_second, now)


def of_kind(packets: Sequence[AnyRtcpPacket], kind: type, fmt: int | None = None) -> list[Any]:
    return [p for p in packets if isinstance(p, kind) and (fmt is None or getattr(p, "fmt", None) == fmt)]


# From the peer to our senders


def test_reports_on_senders_and_requests_go_to_them() -> None:
    scene = Scene("1")
    one, other = Sender(7, rtx_ssrc=70), Sender(8)
    scene.path.add_sender(one)
    scene.path.add_sender(other)
    report, of_rtx = RtcpReceiverInfo(7, 1, -2, 3, 4, 5, 6), RtcpReceiverInfo(70, 1, 2, 3, 4, 5, 6)
    packets: list[AnyRtcpPacket] = [
        RtcpRrPacket(1, [report, of_rtx, report]),
        RtcpSrPacket(1, RtcpSenderInfo(1, 2, 3, 4), [report]),
        RtcpPsfbPacket(4, 1, 0, struct.pack("!IIII", 7, 1 << 24, 99, 0)),
        RtcpPsfbPacket(4, 1, 7),
        RtcpPsfbPacket(15, 1, 0, pack_remb_fci(1_000_000, [7, 8, 70])),
        RtcpPsfbPacket(1, 1, 7),
        RtcpRtpfbPacket(1, 1, 7, [1, 2]),
    ]
    scene.give(*(bytes(packet) for packet in packets))
    block = ReportBlock(7, 1, -2, 3, 4, 5, 6)
    assert one.told == [
        ("report", block, 50.0),
        ("report", block, 50.0),
        ("keyframe", 50.0),
        ("keyframe", 50.0),
        ("bitrate", 1_000_000, 50.0),
        ("keyframe", 50.0),
        ("nack", [1, 2], 50.0),
    ]
    assert other.told == [("bitrate", 1_000_000, 50.0)]
    scene.path.remove_sender(one)
    scene.give(*(bytes(packet) for packet in packets))
    assert len(one.told) == 7
    assert not scene.counters


def test_a_sender_that_raises_is_counted_and_the_others_are_told() -> None:
    scene = Scene()
    one, other = Sender(7), Sender(8)
    one.raises = True
    scene.path.add_sender(one)
    scene.path.add_sender(other)
    reports = [RtcpReceiverInfo(ssrc, 0, 0, 0, 0, 0, 0) for ssrc in (7, 8)]
    scene.give(
        bytes(RtcpRrPacket(1, reports)),
        bytes(RtcpPsfbPacket(15, 1, 0, pack_remb_fci(1_000_000, [7, 8]))),
    )
    assert len(other.told) == 2
    assert scene.counters == {"packet_handler_errors": 2}


def test_a_nack_names_each_packet_once_and_not_too_many() -> None:
    scene = Scene()
    sender = Sender(7)
    scene.path.add_sender(sender)
    same = struct.pack("!HH", 5, 0xFFFF) * 340
    different = b"".join(struct.pack("!HH", 17 * number, 0xFFFF) for number in range(340))
    for entries in (same, different):
        body = struct.pack("!II", 1, 7) + entries
        scene.give(struct.pack("!BBH", 0x81, 205, len(body) // 4) + body)
    first, second = (numbers for _, numbers, _ in sender.told)
    assert first == list(range(5, 22))
    assert second == list(range(MAXIMUM_NACKS))


# From the peer on its streams


def sender_report(ssrc: int = 1000, timestamp: int = 3000) -> RtcpSrPacket:
    return RtcpSrPacket(ssrc, RtcpSenderInfo(0xE111222233334444, timestamp, 6, 7))


def test_sender_reports_names_and_goodbyes_are_noted_where_they_belong() -> None:
    scene = Scene("1")
    scene.give(picture(1, mid="1"))
    names = RtcpSdesPacket([RtcpSourceInfo(1000, [(1, b"someone")])])
    scene.give(bytes(sender_report()) + bytes(names))
    (stream,) = scene.path.streams()
    assert (stream.cname, stream.remote_packets_sent) == ("someone", 6)
    scene.give(bytes(RtcpByePacket([1000, 5])))
    assert stream.ended
    scene.give(picture(2))
    assert not stream.ended
    first, second = scene.receivers["1"].frames, scene.receivers["1"].disconnected
    assert (len(first), second) == (2, 0), "a goodbye ends no track"


def test_frames_bear_the_time_of_the_senders_clock_once_it_has_told_it() -> None:
    scene = Scene("1")
    scene.give(picture(1, mid="1"), bytes(sender_report()), picture(2))
    first, second = scene.receivers["1"].frames
    assert first.captured_at is None
    assert second.captured_at == pytest.approx(0xE1112222 + 0x33334444 / (1 << 32) + 1 / 30)
    scene.give(bytes(sender_report(timestamp=900_000_000)))
    assert scene.counters == {"disbelieved_sender_reports": 1}


def test_frames_bear_the_time_of_their_capture_where_that_was_negotiated() -> None:
    """By abs-capture-time, which goes before sender reports."""
    uri = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
    scene = Scene("1", extension_ids={uri: CAPTURE_TIME})
    scene.give(picture(1, mid="1", keyframe=True, capture_time=struct.pack("!Q", 3_976_000_000 << 32)))
    scene.give(picture(2))
    first, second = (frame.captured_at for frame in scene.receivers["1"].frames)
    assert first == 3_976_000_000.0
    assert second == pytest.approx(first + 1 / 30, abs=1e-4, rel=0)


def test_what_is_broken_in_a_compound_is_dropped_alone() -> None:
    scene = Scene("1")
    scene.give(picture(1, mid="1"))
    broken = b"\x81\xca\x00\x02" + struct.pack("!I", 1000) + b"\x01\xffab"
    scene.give(broken + bytes(sender_report()))
    assert scene.counters == {"malformed_rtcp": 1}
    assert scene.path.streams()[0].remote_packets_sent == 6
    scene.give(b"\x80\xc8\x00\x09" + bytes(8))
    assert scene.counters == {"malformed_rtcp": 2}


def test_feedback_on_what_was_not_numbered_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram of 1,440 bytes could speak of half a million packets, and took seven milliseconds."""
    scene, read = Scene("1"), []
    parse = rtcp.parse_packet
    monkeypatch.setattr(rtcp, "parse_packet", lambda packet: read.append(packet) or parse(packet))
    sender = Sender(7)
    scene.path.add_sender(sender)
    thousands = rtcp.TransportFeedback(1, 7, 0, 0, 0, [None] * rtcp.MAXIMUM_STATUSES).serialize()
    request = bytes(RtcpPsfbPacket(1, 1, 7))
    scene.give(thousands * 60 + request)
    assert (read, sender.told) == ([request], [("keyframe", 50.0)])
    assert scene.counters == {"unasked_transport_feedback": 60}


# Requests


def test_what_is_missing_is_asked_for_and_repaired() -> None:
    scene = Scene("1")
    scene.path.feedback_ssrc = 55
    scene.give(picture(65534, mid="1", keyframe=True))
    scene.give(picture(65535 + 3))
    scene.wait(0.05)
    nacks = of_kind(scene.said(), RtcpRtpfbPacket, 1)
    assert nacks
    lost = [number & 0xFFFF for number in nacks[0].lost]
    assert (nacks[0].ssrc, nacks[0].media_ssrc, lost) == (55, 1000, [65535, 0, 1])
    stream = scene.path.selected_stream("1")
    assert stream is not None
    assert stream.nack_count == len(nacks)
    scene.give(*(retransmission(number, missing, mid="1") for number, missing in enumerate((65535, 0, 1))))
    assert [frame.lost_before for frame in scene.receivers["1"].frames] == [0, 0, 0, 0, 0]
    counts = scene.path.counts("1")
    assert (counts.received, counts.lost, counts.repaired, counts.given_up) == (5, 3, 3, 0)
    scene.said()
    scene.wait(0.3)
    assert not of_kind(scene.said(), RtcpRtpfbPacket), "what has come is not asked for any more"


def test_what_does_not_come_is_asked_for_again_and_then_given_up_for_a_keyframe() -> None:
    scene = Scene("1")
    scene.give(picture(1, mid="1", keyframe=True), picture(3))
    scene.wait(1)
    said = scene.said()
    assert 2 <= len(of_kind(said, RtcpRtpfbPacket, 1)) <= 10
    assert of_kind(said, RtcpPsfbPacket, 1), "a keyframe instead"
    assert scene.numbers("1") == [1, 3]
    assert [frame.lost_before for frame in scene.receivers["1"].frames] == [0, 1]


def test_where_nack_was_not_negotiated_nothing_is_asked_for_again() -> None:
    scene = Scene("1", feedback=("nack pli",))
    scene.give(picture(1, mid="1", keyframe=True), picture(3))
    scene.wait(1)
    said = scene.said()
    assert not of_kind(said, RtcpRtpfbPacket)
    assert of_kind(said, RtcpPsfbPacket, 1)
    assert scene.numbers("1") == [1, 3]


@pytest.mark.parametrize(
    ("feedback", "kind"),
    [
        (("nack", "nack pli", "ccm fir"), "pli"),
        (("nack pli",), "pli"),
        (("ccm fir",), "fir"),
        (("nack", "ccm fir"), "fir"),
        ((), "pli"),
    ],
)
def test_keyframes_are_asked_for_in_the_way_that_was_negotiated(feedback: tuple[str, ...], kind: str) -> None:
    scene = Scene("1", feedback=feedback)
    scene.give(picture(1, mid="1", keyframe=True))
    scene.wait(1)
    scene.said()
    for request in range(1, 3):
        scene.path.request_keyframe("1")
        (asked,) = of_kind(scene.said(), RtcpPsfbPacket)
        if kind == "fir":
            assert (asked.fmt, asked.media_ssrc) == (4, 0)
            assert asked.fci == struct.pack("!IBxxx", 1000, request), "each is another request"
        else:
            assert (asked.fmt, asked.media_ssrc) == (1, 1000)
        scene.give(picture(1 + request, keyframe=True))
        scene.wait(1)
        scene.said()
    (stream,) = scene.path.streams()
    assert (stream.pli_count, stream.fir_count) == ((0, 2) if kind == "fir" else (2, 0))


def test_full_intra_requests_are_numbered_for_each_source() -> None:
    """RFC 5104 §4.3.1.1: by one for each new request to a source, modulo 256."""
    scene = Scene("1", "2", feedback=("ccm fir",))
    for number in range(1, 300):
        scene.give(
            picture(number, mid="1", keyframe=True), picture(number, ssrc=2000, mid="2", keyframe=True)
        )
        scene.path.request_keyframe("1")
        if number % 2:
            scene.path.request_keyframe("2")
        scene.wait(1)
    asked = [struct.unpack("!IBxxx", packet.fci) for packet in of_kind(scene.said(), RtcpPsfbPacket, 4)]
    for ssrc in (1000, 2000):
        numbers = [number for source, number in asked if source == ssrc]
        assert len(numbers) > 256
        assert {(b - a) & 0xFF for a, b in itertools.pairwise(numbers)} == {1}


def test_keyframes_are_asked_for_at_most_twice_a_second() -> None:
    scene = Scene("1")
    for number in range(100):
        scene.give(picture(number, mid="1"))
        scene.path.request_keyframe("1")
        scene.wait(0.02)
    assert 3 <= len(of_kind(scene.said(), RtcpPsfbPacket)) <= 5
    scene.path.request_keyframe("nobody's")


def first_kinds(scene: Scene) -> set[tuple[int, ...]]:
    """The packet types of what was sent, in their order."""
    kinds = {tuple(packet[1] for packet in rtcp.split(data)) for data in scene.sent}
    scene.sent.clear()
    return kinds


@pytest.mark.parametrize("is_reduced", [False, True])
@pytest.mark.parametrize("feedback", [("nack", "nack pli"), ("ccm fir",)])
def test_feedback_goes_out_alone_only_where_the_peer_takes_that(
    feedback: tuple[str, ...], is_reduced: bool
) -> None:
    """RFC 5506 §4.1, RFC 4585 §3.1: otherwise a report comes first, and a name."""
    scene = Scene("1", feedback=feedback, reduced_size=is_reduced)
    scene.path.cname = "us"
    scene.give(picture(1, mid="1", keyframe=True), picture(3))
    scene.wait(0.05)
    expected: set[tuple[int, ...]] = {(205,)} if "nack" in feedback else set()
    scene.path.request_keyframe("1")
    scene.wait(1)
    expected |= {(206,)}
    if not is_reduced:
        expected = {(201, 202, *kinds) for kinds in expected}
    assert first_kinds(scene) == expected | {(201, 202)}


def test_the_report_before_feedback_is_empty_and_changes_none() -> None:
    scene = Scene("1", reduced_size=False)
    scene.give(picture(1, mid="1", keyframe=True), picture(3))
    while not of_kind(said := scene.said(), RtcpRtpfbPacket):
        scene.wait(0.001)
    (report,) = of_kind(said, RtcpRrPacket)
    assert (report.ssrc, report.reports) == (1, [])
    while not (reports := [r for r in of_kind(scene.said(), RtcpRrPacket) if r.reports]):
        scene.wait(0.001)
    assert (reports[0].reports[0].packets_lost, reports[0].reports[0].fraction_lost) == (1, 256 // 3)


@pytest.mark.parametrize(("feedback", "kind"), [("transport-cc", 205), ("goog-remb", 206)])
def test_feedback_on_the_path_goes_out_as_the_sections_take_it_that_have_it(feedback: str, kind: int) -> None:
    """Firefox takes RTCP of reduced size for video, and not for sound on the same transport."""
    for is_reduced in (True, False):
        scene = Scene()
        scene.path.cname = "us"
        scene.section("0", reduced_size=False)
        scene.section("1", feedback=(feedback,), reduced_size=is_reduced)
        for number in range(1, 200):
            sent_at = int(scene.now * (1 << 18)) & 0xFFFFFF
            values = {"transport_number": number.to_bytes(2, "big"), "send_time": sent_at.to_bytes(3, "big")}
            scene.give(picture(number, keyframe=number == 1, mid="1", **values))
            scene.wait(0.02)
        kinds = first_kinds(scene)
        assert ((kind,) in kinds) is is_reduced
        assert ((201, 202, kind) in kinds) is not is_reduced


# Reports


def flow(scene: Scene, seconds: float, *, first: int = 1, step: float = 0.02, **values: Any) -> int:
    """Pictures for so long; the next number."""
    number = first
    end = scene.now + seconds
    while scene.now < end:
        scene.give(picture(number, keyframe=number == 1, mid="1", **values))
        number += 1
        scene.wait(step)
    return number


def test_receiver_reports_cover_every_layer_and_every_retransmission_stream() -> None:
    scene = Scene("1", "0", rids=["f", "h"])
    scene.path.feedback_ssrc = 55
    scene.give(rtp(1, ssrc=2, mid="1", rid="h"), rtp(5, ssrc=1, mid="1", rid="f"), rtp(9, ssrc=1))
    scene.give(rtp(3, b"", ssrc=4, payload_type=VP8_RTX, mid="1", repaired_rid="f"))
    scene.wait(1)
    reports = of_kind(scene.said(), RtcpRrPacket)
    assert {report.ssrc for report in reports} == {55}
    assert {(b.ssrc, b.packets_lost, b.highest_sequence) for b in reports[0].reports} == {
        (2, 0, 1),
        (1, 3, 9),
        (4, 0, 3),
    }


def test_a_report_says_what_was_lost_since_the_last_one_and_how_old_the_senders_is() -> None:
    scene = Scene("1", feedback=())
    scene.give(picture(1, mid="1", keyframe=True), bytes(sender_report()))
    arrived = scene.now
    scene.give(*(picture(number) for number in (2, 3, 6)))
    while not (reports := of_kind(scene.said(), RtcpRrPacket)):
        scene.wait(0.001)
    (block,) = reports[0].reports
    assert (block.ssrc, block.packets_lost, block.fraction_lost) == (1000, 2, 2 * 256 // 6)
    assert block.highest_sequence == 6
    assert block.lsr == 0x22223333
    assert block.dlsr / 65536 == pytest.approx(scene.now - arrived, abs=0.002)
    scene.give(*(picture(number) for number in range(7, 11)))
    scene.wait(2)
    again = of_kind(scene.said(), RtcpRrPacket)[0].reports[0]
    assert (again.packets_lost, again.fraction_lost, again.highest_sequence) == (2, 0, 10)


def test_reports_go_out_about_once_a_second_at_random_and_end_with_the_packets() -> None:
    scene = Scene("1")
    times: list[float] = []
    scene.path._feedback._send = note(scene, times)  # type: ignore[method-assign]
    flow(scene, 30)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 24 <= len(gaps) <= 38
    assert all(0.5 <= gap <= 1.53 for gap in gaps)
    assert max(gaps) - min(gaps) > 0.2
    assert scene.until_idle() <= REPORTED + 2
    assert scene.due is None, "nobody is woken while nothing flows"
    scene.wait(600)
    before = len(times)
    flow(scene, 2, first=5000)
    assert len(times) > before


def test_nobody_is_woken_for_the_keyframe_of_a_source_that_is_silent() -> None:
    scene = Scene("1")
    scene.give(picture(1, mid="1"))
    assert scene.until_idle() <= 30
    assert 2 <= len(of_kind(scene.said(), RtcpPsfbPacket)) <= 6
    scene.wait(600)
    scene.give(picture(2))
    assert len(of_kind(scene.said(), RtcpPsfbPacket)) == 1, "it is asked again when it begins again"


def test_a_receiver_that_is_never_content_does_not_stop_the_program() -> None:
    scene = Scene("1")
    scene.path._sections["1"].receiver = Overdue()  # type: ignore[assignment]
    scene.give(picture(1, mid="1"))
    scene.wait(1)
    assert 10 <= scene.wake_ups <= 1100


class Overdue:
    """A receiver whose time-out has always passed."""

    next_timeout = 0.0
    has_requests = is_wanted = False

    def receive(self, *packet: object, is_repair: bool = False) -> tuple[()]:
        return ()

    def handle_timeout(self, now: float) -> tuple[()]:
        return ()


def note(scene: Scene, times: list[float]) -> Callable[[bytes], None]:
    def send(data: bytes) -> None:
        if any(isinstance(packet, RtcpRrPacket) for packet in RtcpPacket.parse(data)):
            times.append(scene.now)

    return send


def test_sound_alone_is_reported_on_less_often() -> None:
    scene = Scene("0")
    for number in range(1500):
        scene.give(rtp(number, b"\x08sound", payload_type=OPUS, timestamp=960 * number))
        scene.wait(0.02)
    assert 9 <= len(of_kind(scene.said(), RtcpRrPacket)) <= 17


def test_what_nobody_wants_is_reported_on_too() -> None:
    scene = Scene("1")
    scene.receivers["1"].is_wanted = False
    flow(scene, 5)
    said = scene.said()
    assert len(of_kind(said, RtcpRrPacket)) >= 3
    assert not of_kind(said, RtcpPsfbPacket)


def test_more_streams_than_a_report_has_room_for_are_told_in_several() -> None:
    scene = Scene("1", "2")
    for ssrc in range(20):
        scene.give(rtp(1, ssrc=ssrc, mid="1"), rtp(1, ssrc=100 + ssrc, mid="2"))
    scene.wait(0.8)
    reports = of_kind(scene.said(), RtcpRrPacket)
    assert [len(report.reports) for report in reports] == [31, 9]


def test_reports_bear_a_name_where_there_is_one() -> None:
    scene = Scene("1")
    scene.path.cname = "we"
    scene.path.feedback_ssrc = 55
    flow(scene, 2)
    names = of_kind(scene.said(), RtcpSdesPacket)
    assert names
    assert names[0].chunks == [RtcpSourceInfo(55, [(1, b"we")])]


def test_after_the_end_no_timer_is_set() -> None:
    scene = Scene("1", feedback=("nack", "transport-cc"))
    scene.give(picture(1, mid="1", transport_number=b"\0\1"), picture(3))
    assert scene.due is not None
    scene.path.disconnect()
    assert scene.due is None
    assert scene.numbers("1") == [1, 3], "what waited is given out"


# How much the path can carry


def send_for(scene: Scene, seconds: float, size: int = 1000) -> None:
    """A steady stream of two sources, with the time of sending."""
    for step in range(int(seconds * 100)):
        scene.wait(0.01)
        sent_at = int(scene.now * (1 << 18)) & 0xFFFFFF
        values = {"ssrc": 1000 + step % 2, "mid": str(1 + step % 2), "send_time": sent_at.to_bytes(3, "big")}
        scene.give(rtp(step, bytes(size), **values))  # type: ignore[arg-type]


def test_one_estimate_of_the_bandwidth_is_told_for_all_sources() -> None:
    scene = Scene("1", "2")
    scene.path.feedback_ssrc = 4242
    for _ in range(10):
        send_for(scene, 1)
        scene.give(rtp(1, b"", ssrc=9, payload_type=VP8_RTX, mid="1"))
    told = of_kind(scene.said(), RtcpPsfbPacket, 15)
    assert 5 <= len(told) <= 20
    assert {(packet.ssrc, packet.media_ssrc) for packet in told} == {(4242, 0)}
    bitrate, ssrcs = unpack_remb_fci(told[-1].fci)
    assert bitrate > 500_000
    assert sorted(ssrcs) == [1000, 1001]


def test_a_pause_of_a_week_costs_nothing_and_ends_no_estimate() -> None:
    scene = Scene("1", "2")
    send_for(scene, 5)
    scene.said()
    scene.wait(7 * 86400)
    send_for(scene, 5)
    assert of_kind(scene.said(), RtcpPsfbPacket, 15)


def test_the_estimator_keeps_no_source() -> None:
    estimator = BandwidthEstimator(Counter())
    for ssrc in range(50):
        estimator.add(ssrc, ssrc / 100, 1000, ssrc)
    assert estimator._estimator is not None
    assert not estimator._estimator.ssrcs


def test_nobody_is_told_who_did_not_ask() -> None:
    scene = Scene("1", "2", feedback=())
    send_for(scene, 6)
    assert not of_kind(scene.said(), RtcpPsfbPacket, 15)


# Transport-wide feedback


def arrivals(scene: Scene) -> dict[int, float | None]:
    """By their numbers, when packets came by what the peer was told; on the scene's clock, to the first of them."""
    found: dict[int, float | None] = {}
    for data in scene.sent:
        for packet in rtcp.parse(data):
            if isinstance(packet, rtcp.TransportFeedback):
                for offset, arrival in enumerate(packet.arrivals()):
                    found[(packet.base + offset) & 0xFFFF] = arrival
    scene.sent.clear()
    return found


def test_arrivals_are_told_where_that_was_negotiated_and_no_estimate_is_made() -> None:
    scene = Scene("0", "1", feedback=("goog-remb", "transport-cc"))
    came: dict[int, float] = {}
    sequence_number = 0
    for number in range(65_500, 65_900):
        scene.wait(0.0123 if number % 7 else 0.0301)
        if number % 50 == 3:
            continue  # lost, and so are sources of which nothing comes
        came[number & 0xFFFF] = scene.now
        values: dict[str, Any] = {"transport_number": (number & 0xFFFF).to_bytes(2, "big")}
        if number % 5 == 0:  # sound, and a packet that belongs to nobody, are carried by the same path
            values |= {"payload_type": 3 if number % 10 else OPUS, "ssrc": 7}
        else:
            sequence_number += 1
        values["send_time"] = (int(scene.now * (1 << 18)) & 0xFFFFFF).to_bytes(3, "big")
        scene.give(rtp(sequence_number, KEYFRAME, marker=True, timestamp=number, **values))
    scene.wait(ARRIVALS_INTERVAL)
    assert not any(packet[1] == 206 and packet[0] & 31 == 15 for packet in scene.sent)
    feedbacks = [packet for packet in scene.sent if packet[1] == 205]
    assert 40 <= len(feedbacks) <= 60
    told = arrivals(scene)
    lost = {number & 0xFFFF for number in range(65_500, 65_900) if number % 50 == 3}
    assert {number for number, arrival in told.items() if arrival is None} == lost
    offset = next(iter(came.values()))
    base = next(arrival for arrival in told.values() if arrival is not None)
    for number, time in came.items():
        arrival = told[number]
        assert arrival is not None
        assert arrival - base == pytest.approx(time - offset, abs=0.00025)
    scene.until_idle()
    assert arrivals(scene) == {}


def test_without_negotiation_no_arrival_is_told() -> None:
    scene = Scene("1", feedback=("goog-remb",))
    for number in range(50):
        scene.wait(0.01)
        scene.give(picture(number, mid="1", transport_number=number.to_bytes(2, "big")))
    scene.wait(1)
    assert arrivals(scene) == {}


def test_the_round_trip_is_told_to_the_receivers() -> None:
    scene = Scene("1")
    scene.round_trip_time = 0.25
    flow(scene, 3)
    section = scene.path._sections["1"]
    assert section.receiver.round_trip_time == 0.25
