"""Time from offer to first media, beside aiortc: on loopback, with delay, and with a lost datagram.

Two ends of one kind in one process; the offerer sends audio, and the clock stops at the first frame that the
answerer's track gives. The exchange of offer and answer costs nothing here, as in no real call.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast
from unittest import mock

import aiortc

import mediapeer
from benchmarks import Result, paired_medians

_LOOPBACK = "127.0.0.1"
_CANDIDATE = re.compile(rf"(a=candidate:\S+ 1 udp \d+ {re.escape(_LOOPBACK)} )(\d+)( typ host)")

Address = tuple[str, int]
MakePeer = Callable[[], aiortc.RTCPeerConnection]


class _Side(asyncio.DatagramProtocol):
    """The relay's socket that stands for one end: what comes in for that end leaves by the other socket."""

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self.end: Address | None = None
        "Where the end that this socket stands for really is."
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    @property
    def port(self) -> int:
        """Where the other end shall send to."""
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self.other is None or self.end is None or self._relay.loses(data):
            return
        asyncio.get_running_loop().call_later(self._relay.delay, self.other.transport.sendto, data, self.end)


class Relay:
    """A UDP relay between two ends on loopback, which delays, and loses the first DTLS datagram if told so.

    :param delay: seconds each way.
    :param lose_first: whether the first datagram of the handshake is lost.
    """

    def __init__(self, delay: float, lose_first: bool) -> None:
        self.delay = delay
        self._lose = lose_first
        self._offerer, self._answerer = _Side(self), _Side(self)
        self._offerer.other, self._answerer.other = self._answerer, self._offerer

    async def open(self) -> None:
        """Open both sockets."""
        loop = asyncio.get_running_loop()
        for side in (self._offerer, self._answerer):
            await loop.create_datagram_endpoint(lambda side=side: side, local_addr=(_LOOPBACK, 0))

    def close(self) -> None:
        """Close both sockets."""
        for side in (self._offerer, self._answerer):
            side.transport.close()

    def loses(self, data: bytes) -> bool:
        """Whether this datagram is lost."""
        if self._lose and 20 <= data[0] <= 63:
            self._lose = False
            return True
        return False

    def through(self, description: aiortc.RTCSessionDescription) -> aiortc.RTCSessionDescription:
        """The description with the relay in place of the end that gave it.

        :raises RuntimeError: when it does not have exactly one candidate on loopback.
        """
        side = self._offerer if description.type == "offer" else self._answerer
        ports = set(_CANDIDATE.findall(description.sdp))
        if len(ports) != 1:
            raise RuntimeError(f"one candidate on loopback is needed, not {len(ports)}")
        side.end = (_LOOPBACK, int(ports.pop()[1]))
        sdp = _CANDIDATE.sub(rf"\g<1>{side.port}\g<3>", description.sdp)
        return aiortc.RTCSessionDescription(sdp, description.type)


def our_peer() -> aiortc.RTCPeerConnection:
    """An end of ours."""
    return mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(iceAddresses=[_LOOPBACK]))


def aiortc_peer() -> aiortc.RTCPeerConnection:
    """An end of aiortc's own."""
    return aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))


async def _call(make_peer: MakePeer, relay: Relay | None) -> float:
    if relay is not None:
        await relay.open()
    offerer, answerer = make_peer(), make_peer()
    offerer.addTrack(aiortc.AudioStreamTrack())
    arrived: asyncio.Future[aiortc.MediaStreamTrack] = asyncio.get_running_loop().create_future()
    answerer.on("track", arrived.set_result)
    try:
        started = time.perf_counter()
        await offerer.setLocalDescription(await offerer.createOffer())
        offer = offerer.localDescription
        await answerer.setRemoteDescription(relay.through(offer) if relay else offer)
        await answerer.setLocalDescription(await answerer.createAnswer())
        answer = answerer.localDescription
        await offerer.setRemoteDescription(relay.through(answer) if relay else answer)
        track = await arrived
        async with asyncio.timeout(30):
            await track.recv()
        return time.perf_counter() - started
    finally:
        await offerer.close()
        await answerer.close()
        if relay is not None:
            relay.close()


def call(make_peer: MakePeer, make_relay: Callable[[], Relay | None]) -> float:
    """Make one call; the milliseconds from offer to first media."""
    # aioice leaves loopback out; for aiortc's own ends there is no option to have it.
    with mock.patch("aioice.ice.get_host_addresses", return_value=[_LOOPBACK]):
        return 1000 * asyncio.run(_call(make_peer, make_relay()))


_CASES: list[tuple[str, Callable[[], Relay | None], int]] = [
    ("loopback", lambda: None, 15),
    ("50 ms delay each way", lambda: Relay(0.05, lose_first=False), 9),
    ("50 ms delay each way, first handshake datagram lost", lambda: Relay(0.05, lose_first=True), 5),
]


def run() -> list[Result]:
    """Measure each case."""
    results = []
    for case, make_relay, pairs in _CASES:
        ours, peer = paired_medians(
            lambda make_relay=make_relay: call(our_peer, make_relay),
            lambda make_relay=make_relay: call(aiortc_peer, make_relay),
            pairs,
        )
        results.append(
            Result(
                case=case,
                metric="offer to first audio frame",
                unit="ms",
                ours=ours,
                peer=peer,
                peer_name=f"aiortc {aiortc.__version__}",
                runs=pairs,
            )
        )
    return results
