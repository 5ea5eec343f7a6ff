"""Sections over one transport: routing, lazy receivers, layers, retransmissions, feedback, and a peer that lies."""

import struct
from collections import Counter
from typing import Any

import pytest
from aiortc.rtcrtpparameters import (
    RTCRtcpFeedback,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpReceiveParameters,
)
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
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.transport.bandwidth import BandwidthEstimator
from mediapeer.transport.feedback import MAXIMUM_NACKS
from mediapeer.transport.media import (
    MAXIMUM_SOURCES,
    PAUSED_SECTIONS,
    UNROUTED_PACKETS,
    UNROUTED_PATIENCE,
    MediaPath,
)
from mediapeer.transport.routes import SectionRoutes
from tests.rtp.packets import (
    DELTA,
    H264,
    KEYFRAME,
    MID,
    OPUS,
    REPAIRED_RID,
    RID,
    SEND_TIME,
    VP8,
    VP8_RTX,
    rtp,
)
from tests.transport.paths import Receiver

URIS = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": MID,
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": RID,
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": REPAIRED_RID,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": SEND_TIME,
}


class Open:
    """SRTP contexts that protect nothing."""

    def protect(self, packet: bytes) -> bytes:
        return packet

    def unprotect(self, packet: bytes) -> bytes:
        return packet

    unprotect_rtp = unprotect_rtcp = unprotect


class Sender:
    """Stands for an RTCRtpSender."""

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc
        self.feedback: list[AnyRtcpPacket] = []

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        self.feedback.append(packet)


def parameters(kind: str) -> RTCRtpReceiveParameters:
    """VP8 with RTX and H.264, or Opus, with the extensions of a bundle."""
    remb = [RTCRtcpFeedback("goog-remb")]
    if kind == "audio":
        codecs = [RTCRtpCodecParameters("audio/opus", 48000, 2, OPUS)]
    else:
        codecs = [
            RTCRtpCodecParameters("video/VP8", 90000, payloadType=VP8, rtcpFeedback=remb),
            RTCRtpCodecParameters("video/rtx", 90000, payloadType=VP8_RTX, parameters={"apt": VP8}),
            RTCRtpCodecParameters("video/H264", 90000, payloadType=H264),
        ]
    extensions = [RTCRtpHeaderExtensionParameters(number, uri) for uri, number in URIS.items()]
    return RTCRtpReceiveParameters(codecs=codecs, headerExtensions=extensions)


class Scene:
    """A media path whose handshake is over, and its clock. Receivers start when they are told to."""

    def __init__(self, *mids: str, started: bool = True, **routes: Any) -> None:
        self.counters: Counter[str] = Counter()
        self.sent: list[bytes] = []
        self.heard = 0
        self.path = MediaPath(self.counters, self._note_heard, self.sent.append)
        self.path.contexts = Open()  # type: ignore[assignment]
        self.path.on_first_packet = lambda mid: self.first_packets.append(mid)
        self.first_packets: list[str] = []
        self.receivers: dict[str, Receiver] = {}
        self.now = 50.0
        for mid in mids:
            self.section(mid, started=started, **routes)

    def _note_heard(self) -> None:
        self.heard += 1

    def section(self, mid: str, *, started: bool = True, **routes: Any) -> Receiver:
        """A section; ``0`` is audio, all others are video."""
        kind = "audio" if mid == "0" else "video"
        receiver = self.receivers.setdefault(mid, Receiver())
        self.path.set_section(mid, SectionRoutes(mid, kind, receiver, parameters(kind), **routes))
        if started:
            self.start(mid)
        return receiver

    def start(self, mid: str) -> None:
        self.path.register_receiver(self.receivers[mid], RTCRtpReceiveParameters())
        self.path.release(self.now)

    def give(self, *packets: bytes) -> None:
        """What the peer sends, now."""
        for packet in packets:
            self.path.receive(packet, self.now)

    def numbers(self, mid: str) -> list[int]:
        return [packet.sequence_number for packet in self.receivers[mid].packets]

    def said(self) -> list[AnyRtcpPacket]:
        """What was sent, read; each is told once."""
        packets = [packet for data in self.sent for packet in RtcpPacket.parse(data)]
        self.sent.clear()
        return packets

    def outgoing(self, packet: AnyRtcpPacket) -> list[AnyRtcpPacket]:
        """What becomes of a receiver's RTCP."""
        data = self.path.protect(bytes(packet), self.now)
        return RtcpPacket.parse(data) if data is not None else []


# Routing


def test_a_bundle_is_routed_by_mid_and_then_by_what_the_mid_told() -> None:
    scene = Scene("0", "1", "2")
    scene.give(rtp(1, ssrc=10, mid="1"), rtp(1, ssrc=20, mid="2"), rtp(1, ssrc=30, payload_type=OPUS))
    scene.give(rtp(2, ssrc=10), rtp(2, ssrc=20))
    assert (scene.numbers("1"), scene.numbers("2"), scene.numbers("0")) == ([1, 2], [1, 2], [1])
    assert not scene.counters


def test_receivers_are_given_aiortcs_packets_without_the_time_of_sending() -> None:
    scene = Scene("1")
    scene.give(rtp(1, b"\x10abc", padding=4, marker=True, timestamp=9, mid="1", send_time=b"\0\0\1"))
    (packet,) = scene.receivers["1"].packets
    assert (packet.payload, packet.padding_size, packet.marker, packet.timestamp) == (b"\x10abc", 4, 1, 9)
    assert packet.extensions.abs_send_time is None


def test_receivers_start_at_their_first_packet_and_miss_nothing() -> None:
    scene = Scene("0", "1", started=False)
    assert scene.first_packets == []
    scene.give(rtp(1, KEYFRAME, mid="1"), rtp(2))
    assert scene.first_packets == ["1"], "told once, and only of the section that has packets"
    assert scene.numbers("1") == []
    scene.path.register_receiver(scene.receivers["1"], RTCRtpReceiveParameters())
    scene.give(rtp(3))
    scene.path.release(scene.now)
    scene.give(rtp(4))
    assert scene.numbers("1") == [1, 2, 3, 4]
    assert scene.path.streams()[0].packets_received == 4


def test_what_waits_for_receivers_is_bounded() -> None:
    scene = Scene("0", "1", started=False)
    scene.give(*(rtp(number) for number in range(UNROUTED_PACKETS)))
    scene.give(rtp(1, ssrc=9, payload_type=OPUS), rtp(999))
    assert scene.counters == {"unstarted_rtp_full": 2}
    assert scene.first_packets == ["1", "0"]
    scene.start("1")
    assert len(scene.numbers("1")) == UNROUTED_PACKETS


def test_a_start_that_raises_is_reported_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene("1", started=False)

    def fail(mid: str) -> None:
        raise RuntimeError("no thread can be had")

    scene.path.on_first_packet = fail
    scene.give(rtp(1), rtp(2))
    assert len(caplog.records) == 1
    scene.start("1")
    assert scene.numbers("1") == [1, 2]


def test_media_that_overtakes_signaling_waits_for_its_section_but_not_long() -> None:
    scene = Scene()
    scene.give(rtp(1, mid="1"))
    scene.section("1")
    assert scene.numbers("1") == [1]
    scene.give(rtp(1, ssrc=20, mid="2"), rtp(1, ssrc=30, mid="3"))
    scene.section("2")
    assert scene.numbers("2") == [1]
    scene.now += UNROUTED_PATIENCE
    scene.section("3")
    assert scene.numbers("3") == [1], "it came in time"
    scene.give(*(rtp(number, ssrc=40, mid="9") for number in range(UNROUTED_PACKETS + 3)))
    assert scene.counters == {"rtp_of_unknown_mid": 3}
    scene.now += UNROUTED_PATIENCE
    scene.give(rtp(1, ssrc=50, mid="8"))
    assert scene.counters["unrouted_rtp"] == UNROUTED_PACKETS, "the stale ones made room"


def test_a_renegotiation_disturbs_no_stream_and_a_removed_section_gets_nothing() -> None:
    scene = Scene("1", "2")
    scene.give(rtp(1, mid="1"))
    for _ in range(3):
        scene.section("1", started=False, ssrcs=[77])
    scene.give(rtp(2))
    assert scene.numbers("1") == [1, 2]
    assert scene.path.streams()[0].packets_received == 2
    scene.path.set_section("1", None)
    scene.path.set_section("never set", None)
    scene.give(rtp(3, mid="1"))
    assert scene.numbers("1") == [1, 2]


def test_another_receiver_for_a_section_begins_anew() -> None:
    scene = Scene("1")
    scene.give(rtp(1, mid="1"))
    old = scene.receivers.pop("1")
    scene.section("1", started=False)
    scene.give(rtp(2))
    assert scene.first_packets == ["1"]
    scene.start("1")
    assert scene.numbers("1") == [2]
    assert len(old.packets) == 1
    scene.path.unregister_receiver(scene.receivers["1"])
    scene.give(rtp(3))
    assert scene.numbers("1") == [2]
    assert scene.path.streams()[0].packets_received == 3, "it is still counted"


def test_a_section_on_hold_goes_on_with_the_receiver_that_has_started() -> None:
    scene = Scene("1")
    scene.give(rtp(100, mid="1", timestamp=5000))
    scene.path.set_section("1", None)
    scene.give(rtp(101, mid="1"))
    scene.now += 3
    scene.section("1", started=False)
    scene.path.release(scene.now)
    assert scene.counters["unrouted_rtp"] == 1, "what came during the hold is too old"
    scene.give(rtp(40000, ssrc=7, mid="1", timestamp=99))
    assert scene.numbers("1") == [100, 101], "one source to the receiver, though it is another"
    assert [packet.ssrc for packet in scene.receivers["1"].packets] == [1000, 1000]
    scene.path.set_section("1", None)
    scene.path.disconnect()
    assert scene.receivers["1"].disconnected


def test_a_receiver_that_starts_while_its_section_is_on_hold_is_started() -> None:
    scene = Scene("1", started=False)
    scene.give(rtp(1, mid="1"))
    scene.path.set_section("1", None)
    scene.start("1")
    scene.section("1", started=False)
    scene.give(rtp(2, mid="1"))
    assert scene.numbers("1") == [2]


def test_what_is_remembered_of_sections_on_hold_is_bounded() -> None:
    scene = Scene()
    for number in range(1, 200):
        scene.section(str(number))
        scene.path.set_section(str(number), None)
    assert len(scene.path._paused) == PAUSED_SECTIONS
    scene.path.unregister_receiver(scene.receivers["199"])
    assert len(scene.path._paused) == PAUSED_SECTIONS - 1


# Layers and retransmissions


def test_all_layers_are_counted_and_the_best_that_flows_is_received() -> None:
    scene = Scene("1", rids=["f", "h"])
    for number in range(1, 4):
        scene.now += 0.03
        rid = {"mid": "1", "rid": "h"} if number == 1 else {}
        scene.give(rtp(number, KEYFRAME, ssrc=2, timestamp=number * 3000, **rid))
    scene.now += 0.03
    scene.give(rtp(500, DELTA, ssrc=1, mid="1", rid="f"))
    assert [(p.fmt, p.media_ssrc) for p in scene.said() if isinstance(p, RtcpPsfbPacket)] == [(1, 1)]
    scene.give(rtp(501, KEYFRAME, ssrc=1), rtp(502, ssrc=1), rtp(4, ssrc=2))
    assert scene.numbers("1") == [1, 2, 3, 4, 5]
    assert {packet.ssrc for packet in scene.receivers["1"].packets} == {2}
    selected = scene.path.selected_stream("1")
    assert selected is not None
    assert selected.rid == "f"
    assert {(s.rid, s.packets_received) for s in scene.path.streams()} == {("h", 4), ("f", 3)}
    # The best one goes silent.
    for number in range(5, 30):
        scene.now += 0.03
        scene.give(rtp(number, ssrc=2))
    assert scene.numbers("1") == list(range(1, 6 + 25 - 16))
    assert [(p.fmt, p.media_ssrc) for p in scene.said() if isinstance(p, RtcpPsfbPacket)] == [(1, 2)]


def test_keyframes_are_asked_for_at_most_twice_a_second() -> None:
    scene = Scene("1", rids=["f", "h"])
    scene.give(rtp(1, ssrc=2, mid="1", rid="h"))
    for number in range(100):
        scene.now += 0.02
        scene.give(rtp(number, DELTA, ssrc=1, mid="1", rid="f"), rtp(2 + number, ssrc=2))
    assert 3 <= len(scene.said()) <= 5


def test_a_retransmission_is_unwrapped_without_a_word_of_signaling() -> None:
    scene = Scene("1")
    scene.give(rtp(10, mid="1"), rtp(12))
    scene.give(rtp(1, b"\x00\x0bmissing", ssrc=2, payload_type=VP8_RTX, mid="1"))
    assert scene.numbers("1") == [10, 12, 11]
    packet = scene.receivers["1"].packets[-1]
    assert (packet.payload, packet.ssrc, packet.payload_type) == (b"missing", 1000, VP8)
    original = next(s for s in scene.path.streams() if s.ssrc == 1000)
    assert (original.retransmitted_packets_received, original.rtx_ssrc) == (1, 2)
    assert (original.packets_received, original.packets_lost) == (2, 1)


def test_retransmissions_of_layers_go_where_their_rid_says() -> None:
    scene = Scene("1", rids=["f", "h"])
    scene.give(rtp(10, KEYFRAME, ssrc=1, mid="1", rid="f"), rtp(12, ssrc=1))
    scene.give(rtp(70, KEYFRAME, ssrc=2, mid="1", rid="h"))
    scene.give(rtp(1, b"\x00\x47low", ssrc=4, payload_type=VP8_RTX, mid="1", repaired_rid="h"))
    scene.give(rtp(1, b"\x00\x0bhigh", ssrc=3, payload_type=VP8_RTX, mid="1", repaired_rid="f"))
    assert scene.numbers("1") == [10, 12, 11]


def test_retransmissions_that_carry_nothing_are_dropped() -> None:
    scene = Scene("1")
    scene.give(rtp(1, b"\0\1x", ssrc=2, payload_type=VP8_RTX, mid="1"))
    assert scene.counters == {"rtx_of_unknown_stream": 1}
    scene.give(rtp(10))
    scene.give(rtp(2, b"", ssrc=2, payload_type=VP8_RTX), rtp(3, b"\0", ssrc=2, payload_type=VP8_RTX))
    assert scene.counters["malformed_rtx"] == 1, "padding is none"
    assert scene.numbers("1") == [10]


# Feedback


def sender_report(ssrc: int = 1000) -> RtcpSrPacket:
    return RtcpSrPacket(ssrc, RtcpSenderInfo(0x1111222233334444, 5, 6, 7))


def test_reports_on_senders_and_requests_go_to_them() -> None:
    scene = Scene("1")
    one, other = Sender(7), Sender(8)
    scene.path.register_sender(one, None)  # type: ignore[arg-type]
    scene.path.register_sender(other, None)  # type: ignore[arg-type]
    report = RtcpReceiverInfo(7, 1, 2, 3, 4, 5, 6)
    fir = RtcpPsfbPacket(4, 1, 0, struct.pack("!IIII", 7, 1 << 24, 99, 0))
    remb = RtcpPsfbPacket(15, 1, 0, pack_remb_fci(1_000_000, [7, 8]))
    pli, nack = RtcpPsfbPacket(1, 1, 7), RtcpRtpfbPacket(1, 1, 7, [1, 2])
    packets: list[AnyRtcpPacket] = [RtcpRrPacket(1, [report, report]), fir, remb, pli, nack]
    scene.give(*(bytes(packet) for packet in packets))
    assert one.feedback == packets
    assert other.feedback == [remb]
    scene.path.unregister_sender(one)
    scene.give(bytes(pli))
    assert len(one.feedback) == 5


def test_a_nack_costs_no_more_than_a_sender_remembers() -> None:
    scene = Scene()
    sender = Sender(7)
    scene.path.register_sender(sender, None)  # type: ignore[arg-type]
    same = struct.pack("!HH", 5, 0xFFFF) * 340
    different = b"".join(struct.pack("!HH", 17 * number, 0xFFFF) for number in range(340))
    for entries in (same, different):
        body = struct.pack("!II", 1, 7) + entries
        scene.give(struct.pack("!BBH", 0x81, 205, len(body) // 4) + body)
    first, second = sender.feedback
    assert isinstance(first, RtcpRtpfbPacket)
    assert isinstance(second, RtcpRtpfbPacket)
    assert sorted(first.lost) == list(range(5, 22))
    assert sorted(second.lost) == list(range(MAXIMUM_NACKS))


def test_sender_reports_names_and_goodbyes_are_noted_where_they_belong() -> None:
    scene = Scene("1")
    scene.give(rtp(1, mid="1"))
    names = RtcpSdesPacket([RtcpSourceInfo(1000, [(1, b"someone")])])
    scene.give(bytes(sender_report()) + bytes(names))
    (stream,) = scene.path.streams()
    assert (stream.cname, stream.remote_packets_sent) == ("someone", 6)
    (report,) = scene.receivers["1"].feedback
    assert isinstance(report, RtcpSrPacket)
    scene.give(bytes(RtcpByePacket([1000, 5])))
    assert stream.ended
    assert scene.receivers["1"].feedback == [report], "a goodbye ends no track"


def test_a_receiver_hears_of_the_layer_it_gets_under_the_ssrc_it_knows() -> None:
    scene = Scene("1", rids=["f", "h"])
    scene.give(rtp(1, ssrc=2, mid="1", rid="h"), rtp(1, KEYFRAME, ssrc=1, mid="1", rid="f"))
    scene.give(bytes(sender_report(2)), bytes(sender_report(1)))
    assert [packet.ssrc for packet in scene.receivers["1"].feedback] == [2]  # type: ignore[union-attr]
    assert [s.remote_packets_sent for s in scene.path.streams()] == [6, 6]


def test_what_is_broken_in_a_compound_is_dropped_alone() -> None:
    scene = Scene("1")
    scene.give(rtp(1, mid="1"))
    broken = b"\x81\xca\x00\x02" + struct.pack("!I", 1000) + b"\x01\xffab"
    scene.give(broken + bytes(sender_report()))
    assert scene.counters == {"malformed_rtcp": 1}
    assert scene.path.streams()[0].remote_packets_sent == 6
    scene.give(b"\x80\xc8\x00\x09" + bytes(8))
    assert scene.counters == {"malformed_rtcp": 2}


def test_receiver_reports_cover_every_layer_and_every_retransmission_stream() -> None:
    scene = Scene("1", "0", rids=["f", "h"])
    scene.give(rtp(1, ssrc=2, mid="1", rid="h"), rtp(5, ssrc=1, mid="1", rid="f"), rtp(9, ssrc=1))
    scene.give(rtp(3, b"", ssrc=4, payload_type=VP8_RTX, mid="1", repaired_rid="f"))
    seen = RtcpReceiverInfo(2, 0, 0, 1, 0, 0, 0)
    (report,) = scene.outgoing(RtcpRrPacket(55, [seen]))
    assert isinstance(report, RtcpRrPacket)
    assert report.ssrc == 55
    assert {(b.ssrc, b.packets_lost, b.highest_sequence) for b in report.reports} == {
        (2, 0, 1),
        (1, 3, 9),
        (4, 0, 3),
    }
    scene.now += 60
    assert scene.outgoing(RtcpRrPacket(55, [seen])) == [], "nothing flows, nothing is said"


def test_requests_of_a_receiver_are_told_in_the_peers_numbers() -> None:
    scene = Scene("1", rids=["f", "h"])
    scene.give(rtp(1, ssrc=2, mid="1", rid="h"), rtp(65534, KEYFRAME, ssrc=1, mid="1", rid="f"))
    scene.give(rtp(2, ssrc=1))
    assert scene.numbers("1") == [1, 2, 6]
    (nack,) = scene.outgoing(RtcpRtpfbPacket(1, 55, 2, [3, 4, 5]))
    assert isinstance(nack, RtcpRtpfbPacket)
    assert (nack.ssrc, nack.media_ssrc, sorted(nack.lost)) == (55, 1, [0, 1, 65535])
    (pli,) = scene.outgoing(RtcpPsfbPacket(1, 55, 2))
    assert isinstance(pli, RtcpPsfbPacket)
    assert pli.media_ssrc == 1
    assert scene.outgoing(RtcpRtpfbPacket(1, 55, 2, [1])) == [], "of the layer before nothing is asked for"
    assert (scene.path.streams()[1].nack_count, scene.path.streams()[1].pli_count) == (1, 1)
    unknown = RtcpRtpfbPacket(1, 55, 999, [1])
    assert scene.outgoing(unknown) == [unknown]
    assert scene.outgoing(sender_report(5)) == [sender_report(5)]


def send_for(scene: Scene, seconds: float, size: int = 1000) -> None:
    """A steady stream of two sources, with the time of sending."""
    for step in range(int(seconds * 100)):
        scene.now += 0.01
        sent_at = int(scene.now * (1 << 18)) & 0xFFFFFF
        ssrc = 1000 + step % 2
        scene.give(
            rtp(step, bytes(size), ssrc=ssrc, mid=str(1 + step % 2), send_time=sent_at.to_bytes(3, "big"))
        )


def test_one_estimate_of_the_bandwidth_is_told_for_all_sources() -> None:
    scene = Scene("1", "2")
    scene.path.feedback_ssrc = 4242
    send_for(scene, 10)
    told = [packet for packet in scene.said() if isinstance(packet, RtcpPsfbPacket)]
    assert 5 <= len(told) <= 20
    assert {(packet.fmt, packet.ssrc, packet.media_ssrc) for packet in told} == {(15, 4242, 0)}
    bitrate, ssrcs = unpack_remb_fci(told[-1].fci)
    assert bitrate > 500_000
    assert sorted(ssrcs) == [1000, 1001]


def test_a_pause_of_a_week_costs_nothing_and_ends_no_estimate() -> None:
    scene = Scene("1", "2")
    send_for(scene, 5)
    scene.said()
    scene.now += 7 * 86400
    send_for(scene, 5)
    assert scene.said()


def test_the_estimator_keeps_no_source() -> None:
    estimator = BandwidthEstimator(Counter())
    for ssrc in range(50):
        estimator.add(ssrc, ssrc / 100, 1000, ssrc)
    assert estimator._estimator is not None
    assert not estimator._estimator.ssrcs


def test_nobody_is_told_who_did_not_ask() -> None:
    scene = Scene()
    scene.receivers["1"] = Receiver()
    plain = parameters("video")
    plain.codecs[0].rtcpFeedback = []
    scene.path.set_section("1", SectionRoutes("1", "video", scene.receivers["1"], plain))
    scene.start("1")
    send_for(scene, 6)
    assert not scene.sent


# A peer that lies


def test_broken_extensions_cost_their_packet_and_no_other() -> None:
    scene = Scene("1")
    scene.give(rtp(1, block=bytes([SEND_TIME << 4 | 1, 0, 0, 0])))
    scene.give(rtp(2, block=bytes([SEND_TIME << 4 | 15, 0, 0, 0])))
    scene.give(rtp(3, block=b"\xff\xff\xff\xff"), rtp(4, mid=b"\xff\xff"), rtp(5))
    assert scene.numbers("1") == [3, 5]
    assert scene.counters["malformed_rtp"] == 2


def test_made_up_sources_get_no_room_in_srtp_either() -> None:
    scene = Scene("1")
    for ssrc in range(MAXIMUM_SOURCES + 10):
        scene.give(rtp(1, ssrc=ssrc))
    assert scene.counters["srtp_of_too_many_sources"] == 10
    scene.give(rtp(2, ssrc=0))
    assert scene.numbers("1") == [1, 2]


def test_the_peer_is_heard_but_not_at_every_packet() -> None:
    scene = Scene("1")
    for number in range(100):
        scene.now += 0.01
        scene.give(rtp(number))
    assert 8 <= scene.heard <= 12


_mids = st.sampled_from([None, "0", "1", "2", "9", b"\xff"])
_lies = st.builds(
    rtp,
    st.integers(0, 0xFFFF),
    st.binary(max_size=12),
    ssrc=st.integers(0, 40),
    payload_type=st.sampled_from([VP8, VP8_RTX, H264, OPUS, 3]),
    timestamp=st.integers(0, 0xFFFFFFFF),
    mid=_mids,
    rid=st.sampled_from([None, "f", "h", "x"]),
    repaired_rid=st.sampled_from([None, "f", "h"]),
    send_time=st.sampled_from([None, b"\0\0\1", b"\xff\xff\xff", b"\0"]),
)
_reports = st.sampled_from(
    [
        bytes(sender_report(3)),
        bytes(RtcpByePacket([0, 1, 2, 3])),
        bytes(RtcpPsfbPacket(15, 1, 0, b"REMB\xff\0\0\0")),
        bytes(RtcpPsfbPacket(4, 1, 0, b"abc!")),
        b"\x9f\xc9\0\0",
    ]
)


@given(st.lists(st.one_of(_lies, _reports, st.binary(max_size=40)), max_size=60), st.floats(0, 2))
def test_no_sequence_of_packets_raises_or_ends_a_section(datagrams: list[bytes], pause: float) -> None:
    scene = Scene("0", "1", rids=["f", "h"])
    for datagram in datagrams:
        scene.now += pause / 10
        scene.give(datagram)
        scene.path.release(scene.now)
        scene.outgoing(RtcpRrPacket(5, [RtcpReceiverInfo(scene_ssrc(scene), 0, 0, 0, 0, 0, 0)]))
        scene.outgoing(RtcpRtpfbPacket(1, 5, scene_ssrc(scene), [0, 65535]))
    assert scene.counters["packet_handler_errors"] == 0
    scene.now += 11
    scene.give(rtp(1, ssrc=5000, mid="1", rid="f"), rtp(2, ssrc=5000))
    assert scene.receivers["1"].packets[-1].payload == DELTA


def scene_ssrc(scene: Scene) -> int:
    """The SSRC that the video's receiver sees."""
    packets = scene.receivers["1"].packets
    return packets[-1].ssrc if packets else 0
