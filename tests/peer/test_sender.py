"""A sender in virtual time, on a transport that keeps what it is given."""

import asyncio
import dataclasses
import inspect
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import av
import pytest
from aiortc.codecs import get_encoder
from aiortc.codecs.base import Encoder
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import RtpPacket as AiortcRtpPacket
from aiortc.stats import RTCStatsReport

from mediapeer.peer import outgoing
from mediapeer.peer.codecs import ABS_SEND_TIME_URI, AUDIO_LEVEL_URI, MID_URI
from mediapeer.peer.sender import BURST, KEYFRAME_INTERVAL, SPREAD, RTCRtpSender
from mediapeer.rtp import RtpPacket, rtcp
from mediapeer.rtp.payload import depacketizer_for
from mediapeer.rtp.rtcp import Goodbye, ReportBlock, SenderReport, SourceDescription
from mediapeer.srtp import is_rtcp
from mediapeer.transport import DtlsTransport
from tests.media.tracks import PushTrack, picture, tone
from tests.transport.virtual import Network, VirtualLoop, virtual

VP8, VP9, H264_HIGH, H264, RTX, OPUS = 96, 98, 100, 102, 97, 111
_VIDEO = (
    RTCRtpCodecParameters("video/VP8", 90000, None, VP8),
    RTCRtpCodecParameters("video/rtx", 90000, None, RTX, parameters={"apt": VP8}),
    RTCRtpCodecParameters("video/VP9", 90000, None, VP9),
    RTCRtpCodecParameters(
        "video/H264",
        90000,
        None,
        H264,
        parameters={"packetization-mode": "1", "profile-level-id": "42e01f"},
    ),
    RTCRtpCodecParameters(
        "video/H264",
        90000,
        None,
        H264_HIGH,
        parameters={"packetization-mode": "1", "profile-level-id": "64001f"},
    ),
)
_AUDIO = (RTCRtpCodecParameters("audio/opus", 48000, 2, OPUS),)
_EXTENSIONS = [
    RTCRtpHeaderExtensionParameters(id, uri)
    for id, uri in ((1, MID_URI), (2, AUDIO_LEVEL_URI), (3, ABS_SEND_TIME_URI))
]


class Media:
    """Stands for the media path: knows the senders."""

    def __init__(self) -> None:
        self.senders: set[object] = set()
        self.add_sender = self.senders.add
        self.remove_sender = self.senders.discard


class Transport:
    """Stands for the DTLS transport."""

    def __init__(self) -> None:
        self.state = "connected"
        self.media = Media()
        self.sent: list[tuple[float, bytes]] = []
        self._stats_id = "transport_1"

    def _get_stats(self) -> RTCStatsReport:
        return RTCStatsReport()

    def send_media(self, data: bytes) -> bool:
        if self.state == "connected":
            self.sent.append((asyncio.get_running_loop().time(), data))
        return self.state == "connected"

    def packets(self) -> list[RtpPacket]:
        """The RTP that went out."""
        return [RtpPacket.parse(data) for _, data in self.sent if not is_rtcp(data)]

    def reports(self) -> list[tuple[float, SenderReport]]:
        """The sender reports, and when they went out."""
        return [
            (time, packet)
            for time, data in self.sent
            if is_rtcp(data)
            for packet in rtcp.parse(data)
            if isinstance(packet, SenderReport)
        ]


class FakeEncoder(Encoder):
    """An encoder whose pictures are as many packets as the test wants."""

    def __init__(self) -> None:
        self.keyframes: list[bool] = []
        self.target_bitrate = 0
        self.packets = 1
        self.error: Exception | None = None

    def encode(self, frame: Any, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        if self.error is not None:
            raise self.error
        self.keyframes.append(force_keyframe)
        return [b"\x10" + bytes(100)] * self.packets, frame.pts

    def pack(self, packet: Any) -> tuple[list[bytes], int]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def threads_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to a thread is done at once: virtual time would run away from it."""

    def run(loop: VirtualLoop, executor: object, function: Callable[..., Any], *args: Any) -> Any:
        future = loop.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(VirtualLoop, "run_in_executor", run)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """The one that encodes in place of aiortc's."""
    made = FakeEncoder()
    monkeypatch.setattr(outgoing, "get_encoder", lambda parameters: made)
    return made


def parameters(kind: str, *payload_types: int) -> RTCRtpSendParameters:
    """What was negotiated: all there is, or those payload types."""
    codecs = [
        codec
        for codec in (_VIDEO if kind == "video" else _AUDIO)
        if not payload_types or codec.payloadType in payload_types
    ]
    return RTCRtpSendParameters(
        codecs=codecs, headerExtensions=_EXTENSIONS, muxId="0", rtcp=RTCRtcpParameters(cname="name")
    )


class Scene:
    """A sender that has begun, its track and its transport."""

    def __init__(self, kind: str = "video", *payload_types: int) -> None:
        self.transport = Transport()
        self.track = PushTrack(kind)
        self.sender = RTCRtpSender(self.track, cast(DtlsTransport, self.transport))
        self.sender.start(parameters(kind, *payload_types))

    async def play(self, count: int, *, first: int = 0, item: Callable[[int], object] = picture) -> None:
        """Pictures, 30 a second."""
        for index in range(first, first + count):
            self.track.put(item(index))
            await asyncio.sleep(1 / 30)

    def ask(self) -> None:
        """The peer wants a keyframe."""
        self.sender.receive_keyframe_request(asyncio.get_running_loop().time())


def encoded(index: int, *, group: int = 1000, codec: str = "") -> "av.Packet[Any]":
    """A packet as a demultiplexer gives it: 30 pictures a second, each with its number in it."""
    is_keyframe = index % group == 0
    # The beginning of a VP8 frame: the lowest bit says that it is no keyframe (RFC 7741 §4.3).
    start = b"\x10\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00" if is_keyframe else b"\x11\x00\x00"
    packet: Any = av.Packet(start + b"%d" % index)
    packet.pts, packet.time_base, packet.is_keyframe = index * 3000, Fraction(1, 90000), is_keyframe
    return packet


def frames(packets: list[RtpPacket]) -> list[bytes]:
    """The frames in packets of VP8."""
    depacketizer = depacketizer_for("vp8", 90000)
    assert depacketizer is not None
    found: list[list[bytes]] = [[]]
    for packet in packets:
        found[-1].append(packet.payload)
        if packet.marker:
            found.append([])
    return [depacketizer.depacketize(payloads).data for payloads in found[:-1]]


def numbers(packets: list[RtpPacket]) -> list[int]:
    """Which of the test's packets went out."""
    return [int(data[10:] if not data[0] & 1 else data[3:]) for data in frames(packets)]


# Frames


@virtual
async def test_pictures_are_encoded_and_sent(network: Network) -> None:
    scene = Scene()
    await scene.play(10)
    packets = scene.transport.packets()
    sender = scene.sender
    assert {packet.payload_type for packet in packets} == {VP8} == {sender.payload_type}
    assert {packet.ssrc for packet in packets} == {sender.ssrc}
    assert sum(packet.marker for packet in packets) == 10
    begin = packets[0].timestamp
    assert sorted({packet.timestamp - begin & 0xFFFFFFFF for packet in packets}) == [
        3000 * n for n in range(10)
    ]
    assert [p.sequence_number - packets[0].sequence_number for p in packets] == list(range(len(packets)))
    assert packets[0].extensions[1] == b"0"
    assert len(packets[0].extensions[3]) == 3
    decoder: Any = av.CodecContext.create("vp8", "r")
    for index, data in enumerate(frames(packets)):
        [frame] = decoder.decode(av.Packet(data))
        assert bytes(frame.planes[0])[0] == pytest.approx(3 * index, abs=8)
    for _, data in scene.transport.sent:
        if not is_rtcp(data):
            AiortcRtpPacket.parse(data)
    await sender.stop()


@virtual
async def test_pictures_keep_their_times_and_are_not_written_to(network: Network) -> None:
    """60 a second; aiortc's encoders have steps of a 30th, and keep them in the frame."""
    scene = Scene()
    shown = [picture(index, pts=1500 * index) for index in range(6)]
    await scene.play(6, item=lambda index: shown[index])
    packets = scene.transport.packets()
    times = sorted({packet.timestamp - packets[0].timestamp & 0xFFFFFFFF for packet in packets})
    assert times == [1500 * n for n in range(6)]
    assert [frame.pts for frame in shown] == times
    await scene.sender.stop()


@virtual
async def test_sound_has_a_level_and_one_marker(network: Network) -> None:
    scene = Scene("audio")
    await scene.play(10, item=tone)
    packets = scene.transport.packets()
    assert len(packets) >= 9
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    assert {later.timestamp - packets[0].timestamp & 0xFFFFFFFF for later in packets} == {
        960 * n for n in range(len(packets))
    }
    assert 5 < packets[-1].extensions[2][0] < 20, "a tone of a third of full scale, in -dBov"
    await scene.sender.stop()


@virtual
async def test_sound_in_long_frames_is_several_packets_with_times_of_their_own(network: Network) -> None:
    scene = Scene("audio")
    long = av.AudioFrame("s16", "stereo", 960 * 5)
    for plane in long.planes:
        plane.update(bytes(plane.buffer_size))
    long.sample_rate, long.pts, long.time_base = 48000, 0, Fraction(1, 48000)
    scene.track.put(long)
    await asyncio.sleep(0.1)
    packets = scene.transport.packets()
    assert len(packets) >= 4
    assert len({packet.timestamp for packet in packets}) == len(packets)
    await scene.sender.stop()


@virtual
async def test_requests_for_keyframes_are_heeded_twice_a_second(
    network: Network, encoder: FakeEncoder
) -> None:
    scene = Scene()
    for index in range(60):
        scene.ask()
        await scene.play(1, first=index)
    forced = [index for index, was_forced in enumerate(encoder.keyframes) if was_forced]
    assert forced[0] == 0
    assert len(forced) == 4
    gap = min(after - before for before, after in itertools.pairwise(forced))
    assert gap >= int(KEYFRAME_INTERVAL * 30)
    await scene.sender.stop()


@virtual
async def test_the_peers_estimate_sets_the_bitrate(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    scene.sender.receive_bitrate(700_000, 0.0)
    await scene.play(1)
    assert encoder.target_bitrate == 700_000, "also when it comes before the first picture"
    scene.sender.receive_bitrate(300_000, 0.0)
    assert encoder.target_bitrate == 300_000
    await scene.sender.stop()


@virtual
async def test_an_estimate_that_flaps_does_not_have_the_encoder_made_anew(
    network: Network, encoder: FakeEncoder
) -> None:
    """A fall counts at once, a rise when it has lasted, and what hardly changes not at all."""
    scene = Scene()
    await scene.play(1)
    told: list[int] = []

    def estimate(now: float, bits_per_second: int) -> None:
        before = encoder.target_bitrate
        scene.sender.receive_bitrate(bits_per_second, now)
        if encoder.target_bitrate != before:
            told.append(encoder.target_bitrate)

    for tenth in range(100):
        estimate(tenth / 10, (2_000_000, 1_000_000)[tenth % 2])
    assert told == [2_000_000, 1_000_000]
    for tenth in range(100, 200):
        estimate(tenth / 10, 950_000 + tenth % 3 * 50_000)
    assert told == [2_000_000, 1_000_000]
    for second, bits_per_second in enumerate((1_500_000, 1_800_000, 1_700_000, 2_500_000, 2_500_000)):
        estimate(20.0 + second, bits_per_second)
    assert told[2:] == [1_500_000, 1_700_000, 2_500_000], "by the least of a second"
    estimate(24.1, 600_000)
    assert told[5:] == [600_000]
    await scene.sender.stop()


@virtual
async def test_a_large_frame_is_spread(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    encoder.packets = 10 * BURST
    await scene.play(1)
    times = [time for time, data in scene.transport.sent if not is_rtcp(data)]
    assert len(times) == 10 * BURST
    assert 0.5 * SPREAD < times[-1] - times[0] <= SPREAD
    assert max(times.count(time) for time in set(times)) == BURST
    packets = scene.transport.packets()
    assert [packet.marker for packet in packets] == [False] * (10 * BURST - 1) + [True]
    await scene.sender.stop()


@virtual
async def test_a_frame_that_cannot_be_encoded_ends_nothing(
    network: Network, encoder: FakeEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    encoder.error = AssertionError("of another format")
    await scene.play(3)
    encoder.error = None
    await scene.play(2, first=3)
    assert len(scene.transport.packets()) == 2
    assert scene.sender.counters["frames_not_encoded"] == 3
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    await scene.sender.stop()


@virtual
async def test_what_may_not_be_sent_is_read_and_dropped(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    scene.sender._enabled = False
    await scene.play(3)
    assert encoder.keyframes == []
    scene.sender._enabled = True
    await scene.play(1, first=3)
    assert len(scene.transport.packets()) == 1
    await scene.sender.stop()


@virtual
async def test_a_track_that_raises_makes_room_for_the_next(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    scene.track.put(RuntimeError("a fault of the program's"))
    await asyncio.sleep(0.1)
    scene.track = PushTrack("video")
    scene.sender.replaceTrack(scene.track)
    await scene.play(2)
    assert len(scene.transport.packets()) == 2
    await scene.sender.stop()


@virtual
async def test_another_negotiation_changes_the_payload_type(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    await scene.play(2)
    scene.sender.start(parameters("video", H264))
    await scene.play(2, first=2)
    packets = scene.transport.packets()
    assert [packet.payload_type for packet in packets] == [VP8, VP8, H264, H264]
    assert [p.sequence_number - packets[0].sequence_number for p in packets] == [0, 1, 2, 3]
    await scene.sender.stop()


# Encoded packets


@virtual
async def test_encoded_packets_are_sent_as_they_are(network: Network) -> None:
    scene = Scene()
    await scene.play(5, item=encoded)
    packets = scene.transport.packets()
    assert frames(packets) == [bytes(encoded(index)) for index in range(5)]
    assert packets[-1].timestamp - packets[0].timestamp & 0xFFFFFFFF == 4 * 3000
    await scene.sender.stop()


@virtual
async def test_after_frames_may_come_packets(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    await scene.play(2)
    scene.track = PushTrack("video")
    scene.sender.replaceTrack(scene.track)
    await scene.play(2, item=encoded)
    packets = scene.transport.packets()
    assert len(packets) == 4
    # One timeline, whatever the new track's begins with.
    gaps = [after.timestamp - before.timestamp & 0xFFFFFFFF for before, after in itertools.pairwise(packets)]
    assert all(2900 < gap < 9100 for gap in gaps)
    await scene.sender.stop()


@virtual
async def test_encoded_packets_have_the_payload_type_that_was_negotiated_last(network: Network) -> None:
    scene = Scene("video", VP8, RTX)
    await scene.play(2, item=encoded)
    scene.sender.start(parameters("video", VP8))
    await scene.play(2, first=2, item=encoded)
    [vp8] = [codec for codec in parameters("video").codecs if codec.payloadType == VP8]
    negotiated = parameters("video", VP8)
    negotiated.codecs = [dataclasses.replace(vp8, payloadType=120)]
    scene.sender.start(negotiated)
    await scene.play(2, first=4, item=encoded)
    packets = scene.transport.packets()
    assert [packet.payload_type for packet in packets] == [VP8, VP8, VP8, VP8, 120, 120]
    assert numbers(packets) == [0, 1, 2, 3, 4, 5]
    await scene.sender.stop()


@virtual
async def test_the_format_is_that_of_the_tracks_codec(network: Network) -> None:
    scene = Scene("video", VP8, VP9)
    scene.track.codec = "vp9"  # type: ignore[attr-defined]
    await scene.play(1, item=lambda index: encoded(index))
    assert {packet.payload_type for packet in scene.transport.packets()} == {VP9}
    await scene.sender.stop()


@pytest.mark.parametrize(("profile", "expected"), [("42c01f", H264), ("64001f", H264_HIGH), ("4d001f", H264)])
@virtual
async def test_of_several_kinds_of_h264_the_streams_own_is_taken(
    network: Network, profile: str, expected: int
) -> None:
    scene = Scene()
    scene.track.codec = "h264"  # type: ignore[attr-defined]
    data = bytes.fromhex(f"0000000167{profile}aabb0000000168ce0000000165888400")

    def keyframe(index: int) -> object:
        packet: Any = av.Packet(data)
        packet.pts, packet.time_base, packet.is_keyframe = index * 3000, Fraction(1, 90000), True
        return packet

    await scene.play(1, item=keyframe)
    assert {packet.payload_type for packet in scene.transport.packets()} == {expected}
    await scene.sender.stop()


@virtual
async def test_another_track_is_not_held_back_for_the_one_before(network: Network) -> None:
    scene = Scene()
    await scene.play(10, item=lambda index: encoded(index, group=300))
    scene.ask()
    await scene.play(5, first=10, item=lambda index: encoded(index, group=300))
    scene.track = PushTrack("video")
    scene.sender.replaceTrack(scene.track)
    # Its beginning went to somebody else; what follows may still be of use to a decoder.
    await scene.play(5, first=20, item=encoded)
    assert numbers(scene.transport.packets()) == [*range(10), 0, *range(20, 25)]
    await scene.sender.stop()


@virtual
async def test_a_packet_that_is_none_of_its_codec_is_dropped(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene("video", H264)
    scene.track.codec = "h264"  # type: ignore[attr-defined]
    await scene.play(3, item=encoded)
    assert scene.transport.packets() == []
    assert scene.sender.counters["packets_not_divided"] == 3
    assert len(caplog.records) == 1
    await scene.sender.stop()


@virtual
async def test_a_codec_that_the_peer_does_not_take_is_told_once(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene("video", VP8, H264)
    scene.track.codec = "av1"  # type: ignore[attr-defined]
    await scene.play(3, item=encoded)
    assert scene.transport.packets() == []
    assert "av1, and the peer takes vp8, h264" in str(scene.sender.error)
    assert "transcode=True" in str(scene.sender.error)
    assert len(caplog.records) == 1
    scene.sender.replaceTrack(None)
    assert scene.sender.error is None
    await scene.sender.stop()


class Decodable(PushTrack):
    """A track that can decode what it gives."""

    codec: str | None = "av1"

    def decode_instead(self) -> bool:
        self.codec = None
        return True


@virtual
async def test_a_track_that_can_decode_is_asked_to(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene("video", VP8)
    scene.track = Decodable("video")
    scene.sender.replaceTrack(scene.track)
    await scene.play(1, item=encoded)
    assert scene.track.codec is None
    assert scene.sender.error is None
    await scene.play(2, first=1)
    assert len(scene.transport.packets()) == 2
    await scene.sender.stop()


@virtual
async def test_who_needs_a_keyframe_of_a_file_sees_the_latest_one_until_the_next(network: Network) -> None:
    scene = Scene()
    await scene.play(10, item=lambda index: encoded(index, group=150))
    scene.ask()
    await scene.play(145, first=10, item=lambda index: encoded(index, group=150))
    # In the place of picture 10 the keyframe again; what needs 1 to 9 is of no use until the next keyframe.
    packets = scene.transport.packets()
    assert numbers(packets) == [*range(10), 0, *range(150, 155)]
    assert packets[10].timestamp - packets[9].timestamp & 0xFFFFFFFF == 3000
    await scene.sender.stop()


@virtual
async def test_a_keyframe_that_is_near_or_on_its_way_is_not_repeated(network: Network) -> None:
    scene = Scene()
    group = 30

    def item(index: int) -> object:
        return encoded(index, group=group)

    await scene.play(2, item=item)
    scene.ask()  # the first keyframe is still on its way
    await scene.play(40, first=2, item=item)
    scene.ask()  # the next is due in 0.6 s
    await scene.play(20, first=42, item=item)
    assert numbers(scene.transport.packets()) == list(range(62))
    await scene.sender.stop()


class Live(PushTrack):
    """A track whose encoder can be asked."""

    asked = 0

    def request_keyframe(self) -> None:
        self.asked += 1


@virtual
async def test_a_track_that_can_make_keyframes_is_asked_for_them(network: Network) -> None:
    scene = Scene()
    scene.track = live = Live("video")
    scene.sender.replaceTrack(live)
    await scene.play(10, item=encoded)
    scene.ask()
    await scene.play(10, first=10, item=encoded)
    assert live.asked == 1
    assert numbers(scene.transport.packets()) == list(range(20))
    await scene.sender.stop()


@virtual
async def test_packets_that_others_read_too_stay_as_they_are(network: Network) -> None:
    scene = Scene()
    await scene.play(1, item=lambda index: encoded(500))
    scene.track = PushTrack("video")
    scene.sender.replaceTrack(scene.track)
    shared = encoded(0)
    await scene.play(1, item=lambda index: shared)
    assert shared.pts == 0
    assert len(scene.transport.packets()) == 2
    await scene.sender.stop()


# Reports, feedback, and the end


@virtual
async def test_reports_go_out_each_second_while_something_is_sent(
    network: Network, encoder: FakeEncoder
) -> None:
    scene = Scene()
    await scene.play(300)
    reports = scene.transport.reports()
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(reports)]
    assert 7 <= len(reports) <= 20
    assert min(gaps) >= 0.5
    assert max(gaps) <= 1.5
    first_packet = next(time for time, data in scene.transport.sent if not is_rtcp(data))
    assert reports[0][0] == pytest.approx(first_packet, abs=0.001), (
        "the first at once: lips are in sync by it"
    )
    await asyncio.sleep(30)
    before = len(scene.transport.reports())
    assert before <= len(reports) + 1, "none while nothing is sent"
    await scene.play(90, first=1200)
    assert len(scene.transport.reports()) >= before + 2, "and then again"
    compounds = [rtcp.parse(data) for _, data in scene.transport.sent if is_rtcp(data)]
    assert {compound[1].cnames[scene.sender.ssrc] for compound in compounds} == {"name"}
    await scene.sender.stop()


@virtual
async def test_a_report_says_when_a_picture_was_taken(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    await scene.play(100)
    packets = [(time, RtpPacket.parse(data)) for time, data in scene.transport.sent if not is_rtcp(data)]
    for time, report in scene.transport.reports():
        sent_at, packet = max((p for p in packets if p[0] <= time), key=lambda pair: pair[0])
        elapsed = ((report.rtp_timestamp - packet.timestamp + 2**31) % 2**32 - 2**31) / 90000
        assert elapsed == pytest.approx(time - sent_at, abs=0.002)
    await scene.sender.stop()


@virtual
async def test_a_nack_is_answered_by_rtx(network: Network) -> None:
    scene = Scene()
    await scene.play(5, item=encoded)
    missing = scene.transport.packets()[2]
    scene.transport.sent.clear()
    scene.sender.receive_nack([missing.sequence_number], 0.0)
    [again] = scene.transport.packets()
    assert (again.ssrc, again.payload_type) == (scene.sender.rtx_ssrc, RTX)
    assert again.payload == missing.sequence_number.to_bytes(2, "big") + missing.payload
    await scene.sender.stop()


@virtual
async def test_statistics_are_ours_and_the_peers(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    await scene.play(60)
    sender = scene.sender
    time, report = scene.transport.reports()[-1]
    middle = report.ntp_timestamp >> 16 & 0xFFFFFFFF
    sender.receive_report(ReportBlock(sender.ssrc, 128, 2, 0, 9, middle, 0), time + 0.125)
    sender.receive_report(ReportBlock(sender.rtx_ssrc, 0, 77, 0, 0, 0, 0), time + 0.125)
    scene.ask()
    stats = {entry.type: entry for entry in (await sender.getStats()).values()}
    outbound, remote = stats["outbound-rtp"], stats["remote-inbound-rtp"]
    assert (outbound.packetsSent, outbound.framesSent, outbound.pliCount) == (60, 60, 1)
    assert outbound.bytesSent == 60 * 101
    assert (outbound.remoteId, remote.localId) == (remote.id, outbound.id)
    assert (remote.packetsLost, remote.fractionLost, remote.jitter) == (2, 0.5, 9)
    assert remote.roundTripTime == pytest.approx(0.125)
    await sender.stop()


@virtual
async def test_a_stop_says_goodbye_and_leaves_nothing(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    assert scene.transport.media.senders == {scene.sender}
    await scene.play(3)
    await scene.sender.stop()
    kinds = [type(packet) for packet in rtcp.parse(scene.transport.sent[-1][1])]
    assert kinds == [SenderReport, SourceDescription, Goodbye]
    assert scene.transport.media.senders == set()
    assert scene.track.readyState == "ended"
    count = len(scene.transport.sent)
    scene.sender.receive_nack([0], 0.0)
    scene.sender.start(parameters("video"))
    await scene.sender.stop()
    await asyncio.sleep(5)
    assert len(scene.transport.sent) == count
    assert not scene.sender.is_sending


@virtual
async def test_one_that_never_sent_stops_too(network: Network) -> None:
    transport = Transport()
    sender = RTCRtpSender("video", cast(DtlsTransport, transport))
    await sender.stop()
    assert transport.sent == []


@virtual
async def test_nothing_is_read_for_a_transport_that_is_over(network: Network, encoder: FakeEncoder) -> None:
    scene = Scene()
    await scene.play(2)
    scene.transport.state = "closed"
    await scene.play(2, first=2)
    count = len(encoder.keyframes)
    assert count == 2
    other = Transport()
    scene.sender.use_transport(cast(DtlsTransport, other))
    await scene.play(2, first=4)
    assert other.media.senders == {scene.sender}
    assert scene.transport.media.senders == set()
    assert len(other.packets()) >= 2
    scene.sender.receive_nack([scene.transport.packets()[0].sequence_number], 0.0)
    assert all(packet.payload_type == VP8 for packet in other.packets()), "not under other keys"
    await scene.sender.stop()


def test_the_encoders_of_aiortc_are_as_they_were() -> None:
    """What is used of them; see ``test_contract.py``."""
    for codec in (*_VIDEO, *_AUDIO):
        if codec.payloadType in (VP8, H264, OPUS):
            encoder = get_encoder(codec)
            assert list(inspect.signature(encoder.encode).parameters) == ["frame", "force_keyframe"]
            assert hasattr(encoder, "target_bitrate") == (codec.payloadType != OPUS)
    with pytest.raises(ValueError, match="No encoder"):
        get_encoder(_VIDEO[2])


async def test_a_track_of_the_other_kind_is_refused() -> None:
    sender = RTCRtpSender("video", cast(DtlsTransport, Transport()))
    with pytest.raises(ValueError, match="cannot send a track of audio"):
        sender.replaceTrack(PushTrack("audio"))
