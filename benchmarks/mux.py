"""One UDP socket: CPU of a datagram up to the session, of what a flood has, and the rate without loss; beside aioice.

The datagrams come from one socket of another program's. Ours is a mux with a lite agent that has checked it; the
session is called with each. Aioice's is a connection that is connected to somebody else, for it takes datagrams from
anybody; they come out of ``recv()``. CPU is that of a burst that waits in the socket: reading, deciding, handing
over. A flood is nine forged datagrams and one genuine, which tells that they are through.

SRTP is taken further: a DTLS transport with the keys of a handshake unprotects each packet (AES-128-GCM), parses it,
finds its section and counts it; then also puts it in order and makes it a frame, one of each packet. aiortc's own
transport is beside it, with a receiver in both rows that gets packets as they come.

The highest rate is told by its interval. Each rate is tried for half a second from another process, and counts if not
one datagram is lost.
"""

import asyncio
import functools
import importlib.metadata
import multiprocessing
import multiprocessing.connection
import secrets
import socket
import time
from collections.abc import Callable
from typing import Protocol

import aioice
import aiortc

from benchmarks import Comparison, CpuClock, Figures, Result
from benchmarks._protected import AiortcPath, OurPath, ProtectedMedia, check, material
from mediapeer.ice.mux import UdpMux
from mediapeer.ice.sockets import Address, MuxSocket
from mediapeer.ice.stun import binding_success, transaction_id
from tests.ice.sessions import LiteSession

AIORTC = f"aiortc {aiortc.__version__}"
AIOICE = f"aioice {importlib.metadata.version('aioice')}"

_PAIRS = 7
_RATE_PAIRS = 3
_LENGTH = 1_100
_BURSTS = 100
_BURST = 50
_HOST = "127.0.0.1"
_CPU = "CPU of a datagram"
_INTERVAL = "interval at the highest rate without loss"
_TARGET = 6.0
_TARGET_OF_SRTP = 8.0
# These have to be hashed before they can be told from the peer's.
_TARGET_OF_WRONG_PASSWORDS = 15.0
_SECONDS = 0.5
_FASTEST, _SLOWEST = 1.0, 500.0
_MEDIA = b"\x80" + secrets.token_bytes(_LENGTH - 1)

# Linux cuts one long datagram into several (udp(7)), so that sending costs less than receiving.
_UDP_SEGMENT = 103
_SEGMENTS = 20


class Media(Protocol):
    """Genuine datagrams, in whatever process."""

    def take(self, count: int) -> list[bytes]:
        """The next ones."""


class PlainMedia:
    """One datagram again and again."""

    def take(self, count: int) -> list[bytes]:
        return [_MEDIA] * count


class Receiver(Protocol):
    """What is measured, listening on loopback."""

    address: Address

    @property
    def count(self) -> int:
        """Datagrams that came through."""

    async def open(self) -> None:
        """Make it ready to receive."""

    def check(self) -> bytes | None:
        """What a sender has to send first."""

    def media(self) -> "Media":
        """What it takes as the peer's."""

    def forged(self, kind: str) -> bytes:
        """A datagram that it is to drop."""

    async def close(self) -> None:
        """End it."""


class _CountingSession(LiteSession):
    """A lite agent's session that counts what it is handed."""

    count = 0

    def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        if data[0] > 3:
            self.count += 1
        else:
            super().datagram_received(data, socket, source)


class OurReceiver:
    """A mux with one session."""

    async def open(self) -> None:
        self._mux = await UdpMux.open([_HOST])
        self.address = self._mux.sockets[0].address
        self._session = _CountingSession(self._mux)

    @property
    def count(self) -> int:
        return self._session.count

    def check(self) -> bytes | None:
        local = self._session.agent.local_parameters
        return check(local.username_fragment, local.password)

    def media(self) -> Media:
        return PlainMedia()

    def forged(self, kind: str) -> bytes:
        return FORGERIES[kind](self._session.agent.local_parameters.username_fragment)

    async def close(self) -> None:
        await self._mux.close()


class _LoopbackConnection(aioice.Connection):
    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109 - the name is aioice's
    ) -> list[aioice.Candidate]:
        return await super().get_component_candidates(component, [_HOST], timeout)


class AioiceReceiver:
    """A connection of aioice's, and the task that receives from it."""

    _received = 0

    async def open(self) -> None:
        self._mux = await UdpMux.open([_HOST])
        session = LiteSession(self._mux)
        local = session.agent.local_parameters
        self._connection = _LoopbackConnection(True, stun_server=None)
        self._connection.remote_is_lite = True
        await self._connection.gather_candidates()
        self._connection.remote_username = local.username_fragment
        self._connection.remote_password = local.password
        await self._connection.add_remote_candidate(aioice.Candidate.from_sdp(session.candidates[0].to_sdp()))
        await self._connection.add_remote_candidate(None)
        await self._connection.connect()
        host = self._connection.local_candidates[0]
        self.address = (host.host, host.port)
        self._start()

    @property
    def count(self) -> int:
        return self._received

    def _start(self) -> None:
        self._task = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        while True:
            await self._connection.recv()
            self._received += 1

    async def _stop(self) -> None:
        self._task.cancel()

    def check(self) -> bytes | None:
        return None

    def media(self) -> Media:
        return PlainMedia()

    def forged(self, kind: str) -> bytes:
        return FORGERIES[kind](self._connection.local_username)

    async def close(self) -> None:
        await self._stop()
        await self._connection.close()
        await self._mux.close()


class OurSrtpReceiver:
    """The transports of a call of ours.

    :param has_receiver: whether the packets of its section have a receiver.
    """

    def __init__(self, *, has_receiver: bool = True) -> None:
        self._keys = material()
        self._path = OurPath(self._keys, has_receiver=has_receiver)

    async def open(self) -> None:
        self.address = await self._path.open(_HOST)

    @property
    def count(self) -> int:
        return self._path.count

    def check(self) -> bytes | None:
        local = self._path.ice.local_parameters
        return check(local.username_fragment, local.password)

    def media(self) -> Media:
        return ProtectedMedia(self._keys, _LENGTH)

    def forged(self, kind: str) -> bytes:
        return FORGERIES[kind](self._path.ice.local_parameters.username_fragment)

    async def close(self) -> None:
        await self._path.close()


class AiortcSrtpReceiver(AioiceReceiver):
    """The transports of a call of aiortc's."""

    async def open(self) -> None:
        self._keys = material()
        await super().open()

    def _start(self) -> None:
        self._path = AiortcPath(self._keys, self._connection)

    @property
    def count(self) -> int:
        return self._path.count

    def media(self) -> Media:
        return ProtectedMedia(self._keys, _LENGTH)

    async def _stop(self) -> None:
        await self._path.close()


#: What somebody may send who has not seen the description; of the first, who has seen half of it.
FORGERIES: dict[str, Callable[[str], bytes]] = {
    "checks with a wrong password": lambda fragment: check(fragment, "x" * 32),
    "checks of unknown sessions": lambda fragment: check("unknown", "x" * 32),
    "answers to no request": lambda fragment: binding_success(transaction_id(), (_HOST, 1), "x" * 32),
}


def cpu(make: Callable[[], Receiver], kind: str | None) -> Figures:
    """The microseconds of a genuine datagram, or of one of a flood, whose genuine ones are counted as well.

    :raises RuntimeError: when something is lost.
    """
    return asyncio.run(_cpu(make(), kind))


async def _cpu(receiver: Receiver, kind: str | None) -> Figures:
    await receiver.open()
    sender = _connected(receiver)
    media = receiver.media()
    forged = [] if kind is None else [receiver.forged(kind)] * 9
    genuine = _BURST // (1 + len(forged))
    clock = CpuClock()
    try:
        for expected in range(genuine, (_BURSTS + 1) * genuine, genuine):
            for data in media.take(genuine):
                for each in (*forged, data):
                    sender.send(each)
            with clock:
                arrived = await _until(functools.partial(_has_received, receiver, expected), 1.0)
            if not arrived:
                raise RuntimeError("genuine datagrams were lost")
    finally:
        sender.close()
        await receiver.close()
    return {_CPU: 1e6 * clock.seconds / (_BURSTS * _BURST)}


def _connected(receiver: Receiver) -> socket.socket:
    """A socket whose datagrams the receiver takes."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((_HOST, 0))
    sender.connect(receiver.address)
    check = receiver.check()
    if check is not None:
        sender.send(check)
    return sender


def _has_received(receiver: Receiver, count: int) -> bool:
    return receiver.count == count


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Run the event loop until something holds, or not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0)
    return True


def interval(make: Callable[[], Receiver]) -> Figures:
    """The microseconds between datagrams, of 1,100 bytes each, at the highest rate that loses none."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send_as_told, args=(theirs,), daemon=True)
    process.start()
    try:
        return {_INTERVAL: asyncio.run(_search(make, ours))}
    finally:
        ours.send(None)
        process.join(5)
        ours.close()
        theirs.close()


async def _search(make: Callable[[], Receiver], pipe: multiprocessing.connection.Connection) -> float:
    lossy, lossless = _FASTEST, _SLOWEST
    while lossless > 1.05 * lossy:
        tried = (lossy * lossless) ** 0.5
        if await _loses_none(make(), pipe, tried):
            lossless = tried
        else:
            lossy = tried
    return lossless


async def _loses_none(
    receiver: Receiver, pipe: multiprocessing.connection.Connection, microseconds: float
) -> bool:
    await receiver.open()
    pipe.send((receiver.address, receiver.check(), receiver.media(), microseconds))
    sent: int = await asyncio.to_thread(pipe.recv)
    arrived = await _until(lambda: receiver.count == sent, 0.5)
    await receiver.close()
    return arrived


def _send_as_told(pipe: multiprocessing.connection.Connection) -> None:
    """Send for half a second at each interval that comes through the pipe, and say how many it were."""
    while (order := pipe.recv()) is not None:
        address, check, media, microseconds = order
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((_HOST, 0))
            sender.connect(address)
            if check is not None:
                sender.send(check)
                sender.recv(_LENGTH)
            sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, _LENGTH)
            pipe.send(_send_evenly(sender, media, microseconds / 1e6))


def _send_evenly(sender: socket.socket, media: Media, seconds: float) -> int:
    datagrams, count = b"".join(media.take(_SEGMENTS)), 0
    started = time.perf_counter()
    while (now := time.perf_counter() - started) < _SECONDS:
        if now >= count * seconds:
            sender.send(datagrams)
            count += _SEGMENTS
            datagrams = b"".join(media.take(_SEGMENTS))
    return count


def _targets(kind: str | None) -> Callable[[Figures], Figures]:
    target = _TARGET_OF_WRONG_PASSWORDS if kind == "checks with a wrong password" else _TARGET
    return lambda _: {_CPU: target}


def _target_of_srtp(peer: Figures, *, has_receiver: bool) -> Figures:
    return {} if has_receiver else {_CPU: _TARGET_OF_SRTP}


def run() -> list[Result]:
    """Measure genuine datagrams, floods of each kind, SRTP, and the rates."""
    results: list[Result] = []
    for kind in (None, *FORGERIES):
        results += Comparison(
            case="media of a checked peer" if kind is None else f"nine in ten are {kind}",
            unit="µs",
            ours=functools.partial(cpu, OurReceiver, kind),
            peer=functools.partial(cpu, AioiceReceiver, kind),
            peer_name=AIOICE,
            targets=_targets(kind),
        ).results(_PAIRS)
    for case, has_receiver in (("SRTP, unprotected and counted", False), ("SRTP, to the receiver", True)):
        results += Comparison(
            case=case,
            unit="µs",
            ours=functools.partial(cpu, functools.partial(OurSrtpReceiver, has_receiver=has_receiver), None),
            peer=functools.partial(cpu, AiortcSrtpReceiver, None),
            peer_name=AIORTC,
            targets=functools.partial(_target_of_srtp, has_receiver=has_receiver),
        ).results(_PAIRS)
    ends: list[tuple[str, Callable[[], Receiver], Callable[[], Receiver], str]] = [
        ("media of a checked peer", OurReceiver, AioiceReceiver, AIOICE),
        ("SRTP, to the receiver", OurSrtpReceiver, AiortcSrtpReceiver, AIORTC),
    ]
    for case, ours, peer, name in ends:
        results += Comparison(
            case=case,
            unit="µs",
            ours=functools.partial(interval, ours),
            peer=functools.partial(interval, peer),
            peer_name=name,
        ).results(_RATE_PAIRS)
    return results
