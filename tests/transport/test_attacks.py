"""RTP of a peer with the keys that is not what was negotiated, or not any more."""

from collections import Counter
from typing import Any

from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import RtpPacket

from mediapeer.transport.media import MediaPath
from mediapeer.transport.routes import SectionRoutes
from tests.fuzz.media import Open
from tests.fuzz.sections import Receiver


def routes(receiver: Receiver, *payload_types: int) -> SectionRoutes:
    codecs = [RTCRtpCodecParameters("video/VP8", 90_000, None, number) for number in payload_types]
    return SectionRoutes("0", "video", receiver, RTCRtpReceiveParameters(codecs), ssrcs=[2])  # type: ignore[arg-type]


def packet(source: int, payload_type: int) -> bytes:
    return RtpPacket(payload_type=payload_type, ssrc=source, payload=b"\x10\0payload").serialize()


def test_packets_that_wait_when_their_format_goes_do_no_harm() -> None:
    """A renegotiation takes a payload type away before the receiver has started: the transport goes on."""
    counters: Counter[str] = Counter()
    path: Any = MediaPath(counters, lambda: None)
    path.contexts = Open()
    receiver = Receiver("0")
    path.set_section("0", routes(receiver, 96, 97))
    for source, payload_type in ((1, 96), (2, 96), (2, 97)):
        path.receive(packet(source, payload_type), 0.0)
    path.set_section("0", routes(receiver, 97))
    path.register_receiver(receiver, RTCRtpReceiveParameters())
    path.release(0.0)
    assert receiver.sources == {2}
    assert counters["unrouted_rtp"] == 2
