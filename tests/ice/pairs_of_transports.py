"""Two ICE transports and the signaling between them."""

import asyncio
from collections.abc import Callable

from mediapeer.ice import Candidate, IceOptions, IceState, IceTransport
from tests.transport.virtual import Address, until

OURS, PEERS = "192.0.2.1", "192.0.2.2"
ALIVE = (IceState.CONNECTED, IceState.COMPLETED)


class End:
    """A transport that keeps what it is told."""

    def __init__(self, *addresses: str, controlling: bool, options: IceOptions | None = None) -> None:
        self.transport = IceTransport(options or IceOptions(addresses=addresses), controlling=controlling)
        self.states: list[IceState] = []
        self.candidates: list[Candidate] = []
        self.received: list[bytes] = []
        self.peer: End | None = None
        self.transport.on_state = self.states.append
        self.transport.on_candidate = self._on_candidate
        self.transport.on_datagram = self.received.append

    def _on_candidate(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        if self.peer is not None:
            self.peer.transport.add_remote_candidate(candidate)

    @property
    def address(self) -> Address:
        candidate = self.transport.local_candidates[0]
        return candidate.host, candidate.port

    @property
    def is_alive(self) -> bool:
        return self.transport.state in ALIVE


def pair_of_ends(
    ours: IceOptions | None = None,
    peers: IceOptions | None = None,
    *,
    controlling: tuple[bool, bool] = (True, False),
) -> tuple[End, End]:
    """Two ends whose candidates trickle to each other."""
    a = End(OURS, controlling=controlling[0], options=ours)
    b = End(PEERS, controlling=controlling[1], options=peers)
    a.peer, b.peer = b, a
    return a, b


async def connect(a: End, b: End) -> None:
    """Gather, exchange all, and wait for the path."""
    await asyncio.gather(a.transport.gather(), b.transport.gather())
    start(a, b)
    for end in (a, b):
        end.transport.add_remote_candidate(None)
    await until(lambda: a.is_alive and b.is_alive)


def start(a: End, b: End) -> None:
    """Give each end the other's credentials."""
    b.transport.start(a.transport.local_parameters)
    a.transport.start(b.transport.local_parameters)


async def restart(a: End, b: End) -> None:
    """An offer of ``a`` that restarts ICE, and its answer."""
    a.transport.restart()
    await a.transport.gather()
    b.transport.restart()
    await b.transport.gather()
    start(a, b)


async def close(*ends: End) -> None:
    await asyncio.gather(*(end.transport.close() for end in ends))


class Flow:
    """Numbered datagrams, every 5 ms from ``sender`` to ``receiver``."""

    def __init__(self, sender: End, receiver: End, *, heard: bool = True) -> None:
        self._sender = sender
        self._got: list[int] = []
        self._count = 0
        self.last_arrival = 0.0
        self.gap = 0.0
        "The longest time without one."
        self._heard: Callable[[], None] | None = receiver.transport.heard if heard else None
        receiver.transport.on_datagram = self._arrived
        self._task = asyncio.create_task(self._send())

    def _arrived(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self.last_arrival:
            self.gap = max(self.gap, now - self.last_arrival)
        self.last_arrival = now
        self._got.append(int(data[1:]))
        if self._heard is not None:
            self._heard()

    async def _send(self) -> None:
        while True:
            try:
                self._sender.transport.send_datagram(b"\x80%d" % self._count, droppable=True)
                self._count += 1
            except ConnectionError:
                pass
            await asyncio.sleep(0.005)

    async def stop(self) -> tuple[list[int], int]:
        """What arrived, and how many were sent."""
        self._task.cancel()
        await asyncio.sleep(0.05)
        return self._got, self._count
