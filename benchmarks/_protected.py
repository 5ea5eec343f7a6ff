"""SRTP on its way from the socket to the receiver, ours and aiortc's, for the benchmarks ``mux`` and ``receive``.

Both ends of the keys are made up, so that no handshake is needed: what is measured begins when it is over.
"""

import asyncio
import secrets
from collections.abc import Callable

import aioice
import aiortc
import pylibsrtp
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import AnyRtcpPacket, RtpPacket

from mediapeer.dtls import SrtpProtectionProfile
from mediapeer.ice import IceOptions, IceParameters, IceTransport, UdpMux
from mediapeer.ice.sockets import Address, MuxSocket
from mediapeer.ice.stun import binding_request, transaction_id
from mediapeer.rtp import EncodedFrame
from mediapeer.srtp import PROFILES, SrtpContexts
from mediapeer.transport import DtlsTransport
from mediapeer.transport.routes import SectionRoutes

PROFILE = SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM
REMOTE = "theirs"
_PAYLOAD_TYPE = 96
_HEADER = 12
_TAG = 16
#: The payload descriptor of a packet that begins a VP8 frame, and the first byte of one that is no keyframe.
_PICTURE = b"\x10\x31"


class ProtectedMedia:
    """SRTP packets, each once, and each with a whole picture. It can be sent to another process.

    :param material: the keying material of the handshake that there was not.
    :param length: of a protected packet in bytes.
    """

    def __init__(self, material: bytes, length: int) -> None:
        self._material = material
        self._payload = _PICTURE + secrets.token_bytes(length - _HEADER - _TAG - len(_PICTURE))
        self._contexts: SrtpContexts | None = None
        self._count = 0

    def take(self, count: int) -> list[bytes]:
        """The next packets."""
        if self._contexts is None:
            self._contexts = SrtpContexts(PROFILE, self._material, is_client=True)
        packets = []
        for _ in range(count):
            self._count += 1
            number, time = self._count & 0xFFFF, 90 * self._count & 0xFFFFFFFF
            header = (0x80E0 << 16 | number, time, 1)
            packets.append(b"".join(part.to_bytes(4, "big") for part in header) + self._payload)
        return [self._contexts.protect(packet) for packet in packets]


class FrameCounter:
    """Who gets the frames of a section of ours, and only counts them."""

    is_wanted = True

    def __init__(self) -> None:
        self.count = 0

    def take_frame(self, frame: EncodedFrame) -> None:
        self.count += 1

    def handle_disconnect(self) -> None:
        pass


class PacketCounter:
    """Who gets the packets of a track of aiortc's: its receiver, but for what that does with them."""

    def __init__(self) -> None:
        self.count = 0

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        self.count += 1

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        pass

    def _handle_disconnect(self) -> None:
        pass


def check(fragment: str, password: str) -> bytes:
    """A check that nominates, of who has these credentials of ours."""
    return binding_request(
        transaction_id(),
        username=f"{fragment}:{REMOTE}",
        password=password,
        priority=1,
        controlling=1,
        use_candidate=True,
    )


def parameters() -> RTCRtpReceiveParameters:
    """One codec and one section."""
    codec = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90_000, payloadType=_PAYLOAD_TYPE)
    return RTCRtpReceiveParameters(codecs=[codec], muxId="0")


def material() -> bytes:
    """Keying material for :data:`PROFILE`."""
    return secrets.token_bytes(PROFILES[PROFILE].keying_material_length)


class OurPath:
    """A mux, a lite ICE transport, a DTLS transport, and a section whose frames somebody takes, or nobody.

    :param keys: the keying material.
    :param has_receiver: without one, packets are unprotected, parsed, routed and counted, and that is all.
    """

    def __init__(self, keys: bytes, *, has_receiver: bool) -> None:
        self._keys = keys
        self._receiver = FrameCounter() if has_receiver else None

    async def open(self, host: str) -> Address:
        """The address that it listens on."""
        self._mux = await UdpMux.open([host])
        self.ice = IceTransport(IceOptions(mux=self._mux, lite=True), controlling=False)
        await self.ice.gather()
        self.ice.start(IceParameters(REMOTE, "x" * 24))
        self.dtls = DtlsTransport(self.ice, [aiortc.RTCCertificate.generateCertificate()])
        media = self.dtls.media
        media.contexts = SrtpContexts(PROFILE, self._keys, is_client=False)
        media.set_section("0", SectionRoutes("0", "video", self._receiver, parameters()))
        return self.socket.address

    @property
    def socket(self) -> MuxSocket:
        """What it reads from."""
        return self._mux.sockets[0]

    async def check(self, send: Callable[[bytes], None]) -> None:
        """Take a check of the peer's, from where it sends."""
        local = self.ice.local_parameters
        send(check(local.username_fragment, local.password))
        while self.ice.selected_pair is None:  # noqa: ASYNC110 - the socket has to be read
            await asyncio.sleep(0)

    @property
    def count(self) -> int:
        """The packets that came through, or the pictures, one in each."""
        if self._receiver is not None:
            return self._receiver.count
        return sum(stream.packets_received for stream in self.dtls.media.streams())

    async def close(self) -> None:
        """End it."""
        await self.dtls.stop()
        await self.ice.close()
        await self._mux.close()


class AiortcPath:
    """A DTLS transport of aiortc's on a connection of aioice's, as it is after its handshake.

    :param keys: the keying material.
    :param connection: one that is connected.
    """

    def __init__(self, keys: bytes, connection: aioice.Connection) -> None:
        gatherer = aiortc.RTCIceGatherer(iceServers=[])
        gatherer._connection = connection
        transport = aiortc.RTCDtlsTransport(
            aiortc.RTCIceTransport(gatherer), [aiortc.RTCCertificate.generateCertificate()]
        )
        length = PROFILES[PROFILE].key_length
        key, salt = keys[:length], keys[2 * length :][: PROFILES[PROFILE].salt_length]
        policy = pylibsrtp.Policy(
            key=key + salt,
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
            srtp_profile=PROFILES[PROFILE].libsrtp_profile,
        )
        transport._rx_srtp = pylibsrtp.Session(policy)
        setattr(transport, "_RTCDtlsTransport__handshake_done", True)  # noqa: B010
        self._receiver = PacketCounter()
        transport._register_rtp_receiver(self._receiver, parameters())
        self._task = asyncio.create_task(getattr(transport, "_RTCDtlsTransport__run")())  # noqa: B009

    @property
    def count(self) -> int:
        """The packets that came through."""
        return self._receiver.count

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait([self._task])
