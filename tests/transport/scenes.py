"""A media path whose handshake is over, its clock, and a peer that sends to it."""

from collections import Counter
from typing import Any

from aiortc.rtcrtpparameters import (
    RTCRtcpFeedback,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpReceiveParameters,
)
from aiortc.rtp import AnyRtcpPacket, RtcpPacket

from mediapeer.transport.media import MediaPath
from mediapeer.transport.routes import SectionRoutes
from tests.rtp.packets import (
    H264,
    MID,
    OPUS,
    REPAIRED_RID,
    RID,
    SEND_TIME,
    TRANSPORT_NUMBER,
    VP8,
    VP8_RTX,
    rtp,
)
from tests.transport.paths import VP8_HEAD, Receiver

URIS = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": MID,
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": RID,
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": REPAIRED_RID,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": SEND_TIME,
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": TRANSPORT_NUMBER,
}
KEYFRAME = b"\x10\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00rest"
FEEDBACK = ("goog-remb", "nack", "nack pli", "ccm fir")


class Open:
    """SRTP contexts that protect nothing."""

    def protect(self, packet: bytes) -> bytes:
        return packet

    unprotect = unprotect_rtp = unprotect_rtcp = protect


def parameters(kind: str, feedback: tuple[str, ...] = FEEDBACK) -> RTCRtpReceiveParameters:
    """VP8 with RTX and H.264, or Opus, with the extensions of a bundle."""
    if kind == "audio":
        codecs = [RTCRtpCodecParameters("audio/opus", 48000, 2, OPUS)]
    else:
        lines = [line.partition(" ") for line in feedback]
        told = [RTCRtcpFeedback(name, parameter or None) for name, _, parameter in lines]
        codecs = [
            RTCRtpCodecParameters("video/VP8", 90000, payloadType=VP8, rtcpFeedback=told),
            RTCRtpCodecParameters("video/rtx", 90000, payloadType=VP8_RTX, parameters={"apt": VP8}),
            RTCRtpCodecParameters("video/H264", 90000, payloadType=H264),
        ]
    extensions = [RTCRtpHeaderExtensionParameters(number, uri) for uri, number in URIS.items()]
    return RTCRtpReceiveParameters(codecs=codecs, headerExtensions=extensions)


def picture(number: int, *, keyframe: bool = False, **values: Any) -> bytes:
    """A packet with a whole VP8 frame, whose timestamp tells its number."""
    payload = KEYFRAME if keyframe else VP8_HEAD + b"frame %d" % number
    return rtp(number, payload, marker=True, timestamp=3000 * number, **values)


def retransmission(number: int, original: int, **values: Any) -> bytes:
    """The same over RTX, whose packet has a number of its own."""
    payload = original.to_bytes(2, "big") + VP8_HEAD + b"frame %d" % original
    values = {"ssrc": 2, "payload_type": VP8_RTX, **values}
    return rtp(number, payload, marker=True, timestamp=3000 * original, **values)


class Scene:
    """A media path with sections; ``0`` is audio, all others are video.

    :param routes: for each of the sections.
    """

    def __init__(self, *mids: str, **routes: Any) -> None:
        self.counters: Counter[str] = Counter()
        self.sent: list[bytes] = []
        self.heard = 0
        self.now = 50.0
        self.due: float | None = None
        self.wake_ups = 0
        self.round_trip_time: float | None = None
        self.path = MediaPath(
            self.counters,
            self._note_heard,
            self.sent.append,
            arm=self._note_due,
            clock=lambda: self.now,
            round_trip_time=lambda: self.round_trip_time,
        )
        self.path.contexts = Open()  # type: ignore[assignment]
        self.receivers: dict[str, Receiver] = {}
        for mid in mids:
            self.section(mid, **routes)

    def _note_heard(self) -> None:
        self.heard += 1

    def _note_due(self, when: float | None) -> None:
        self.due = when

    def section(self, mid: str, feedback: tuple[str, ...] = FEEDBACK, **routes: Any) -> Receiver:
        kind = "audio" if mid == "0" else "video"
        receiver = self.receivers.setdefault(mid, Receiver())
        routes = {"reduced_size": True} | routes
        self.path.set_section(mid, SectionRoutes(mid, kind, receiver, parameters(kind, feedback), **routes))
        self.path.release(self.now)
        return receiver

    def give(self, *packets: bytes) -> None:
        """What the peer sends, now."""
        for packet in packets:
            self.path.receive(packet, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, and the timer ring when it was set for."""
        end = self.now + seconds
        while self.due is not None and self.due <= end:
            self.now, self.due = max(self.now, self.due), None
            self.wake_ups += 1
            self.path.handle_timeout(self.now)
        self.now = end

    def until_idle(self) -> float:
        """Let time pass until the timer is off; how long that took."""
        began = self.now
        while self.due is not None:
            self.wait(max(self.due - self.now, 0.0))
            assert self.now - began < 3600
        return self.now - began

    def numbers(self, mid: str) -> list[int]:
        """Of the pictures that the receiver of a section got."""
        return [frame.timestamp // 3000 for frame in self.receivers[mid].frames]

    def said(self) -> list[AnyRtcpPacket]:
        """What was sent, read by aiortc's parser; each is told once."""
        packets = [packet for data in self.sent for packet in RtcpPacket.parse(data)]
        self.sent.clear()
        return packets
