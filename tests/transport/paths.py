"""Two ends of a path in memory, and what lives above a transport, for scenarios without ICE."""

import asyncio
from collections import Counter
from collections.abc import Callable

from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpReceiveParameters,
)
from aiortc.rtp import RtpPacket

from mediapeer.rtp import EncodedFrame
from mediapeer.transport import DtlsTransport, FrameReceiver, SectionRoutes
from tests.transport.virtual import DELAY

#: The payload descriptor of a packet that begins a VP8 frame, and the first byte of one that is no keyframe.
VP8_HEAD = b"\x10\x31"


class PathEnd:
    """One end; what it sends arrives at :attr:`other` when :attr:`route` says."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.counters: Counter[str] = Counter()
        self.round_trip_time: float | None = None
        self.other: PathEnd | None = None
        self.route: Callable[[bytes], list[float]] = lambda datagram: [DELAY]
        self.sent: list[bytes] = []
        self.sent_droppable: list[bytes] = []
        self.times_heard = 0
        self.on_datagram: Callable[[bytes], None] | None = None
        self.on_state: Callable[[str], None] | None = None
        self._lost = False

    def heard(self) -> None:
        self.times_heard += 1

    @property
    def arrival(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def controlling(self) -> bool:
        return self.role == "controlling"

    def send_datagram(self, data: bytes, *, droppable: bool = False) -> None:
        if self._lost:
            raise ConnectionError("the path is gone")
        self.sent.append(data)
        if droppable:
            self.sent_droppable.append(data)
        for delay in self.route(data):
            if self.other is not None:
                # The loop does not promise to keep the order of what is due at the same time.
                in_order = delay + 1e-9 * len(self.sent)
                asyncio.get_running_loop().call_later(in_order, self.other.inject, data)

    def inject(self, data: bytes) -> None:
        """Have a datagram arrive here."""
        if self.on_datagram is not None:
            self.on_datagram(data)

    def lose(self, state: str = "failed") -> None:
        """The path is gone for good."""
        self._lost = True
        self.tell(state)

    def tell(self, state: str) -> None:
        """The path is in another state."""
        if self.on_state is not None:
            self.on_state(state)


class Ends:
    """A DTLS client and a server over a path."""

    def __init__(self, key_log: Callable[[str], None] | None = None) -> None:
        self.client_path, self.server_path = PathEnd("controlled"), PathEnd("controlling")
        self.client_path.other, self.server_path.other = self.server_path, self.client_path
        self.client = DtlsTransport(self.client_path, [RTCCertificate.generateCertificate()], key_log=key_log)
        self.server = DtlsTransport(self.server_path, [RTCCertificate.generateCertificate()])
        self.client._set_role("client")
        self.server._set_role("server")

    async def handshake(
        self,
        for_client: RTCDtlsParameters | None = None,
        for_server: RTCDtlsParameters | None = None,
    ) -> None:
        """Start both, with the other's fingerprints or the given ones."""
        await asyncio.gather(
            self.client.start(for_client or self.server.getLocalParameters()),
            self.server.start(for_server or self.client.getLocalParameters()),
        )

    async def stop(self) -> None:
        await self.client.stop()
        await self.server.stop()


def wrong_fingerprint() -> RTCDtlsParameters:
    """The fingerprint of nobody."""
    return RTCDtlsParameters([RTCDtlsFingerprint("sha-256", ":".join(["00"] * 32))])


class Receiver:
    """Stands for who gets the frames of a section."""

    def __init__(self) -> None:
        self.is_wanted = True
        self.frames: list[EncodedFrame] = []
        self.disconnected = 0
        self.raises: Exception | None = None

    def handle_disconnect(self) -> None:
        self.disconnected += 1

    def take_frame(self, frame: EncodedFrame) -> None:
        self.frames.append(frame)
        if self.raises is not None:
            raise self.raises


class Association:
    """Stands for an RTCSctpTransport."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.raises: Exception | None = None

    async def _handle_data(self, data: bytes) -> None:
        self.records.append(data)
        if self.raises is not None:
            raise self.raises


def receive_parameters(ssrc: int = 1234, payload_type: int = 96) -> RTCRtpReceiveParameters:
    """One video stream, with the extension abs-send-time under the number 3."""
    parameters = RTCRtpReceiveParameters(
        codecs=[RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=payload_type)],
        headerExtensions=[
            RTCRtpHeaderExtensionParameters(
                id=3, uri="http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
            )
        ],
    )
    parameters.encodings = [RTCRtpDecodingParameters(ssrc=ssrc, payloadType=payload_type)]
    return parameters


def routes(
    receiver: FrameReceiver | None, ssrc: int = 1234, payload_type: int = 96, mid: str = "1"
) -> SectionRoutes:
    """A section with that stream."""
    return SectionRoutes(mid, "video", receiver, receive_parameters(ssrc, payload_type))


def rtp(sequence_number: int, content: bytes = b"frame") -> bytes:
    """A packet of that stream, with a whole VP8 frame that has this content after its header."""
    packet = RtpPacket(
        payload_type=96, sequence_number=sequence_number, ssrc=1234, payload=VP8_HEAD + content, marker=1
    )
    packet.timestamp = 3000 * sequence_number
    return packet.serialize()
