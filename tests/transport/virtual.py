"""An event loop whose time jumps to what happens next, and a UDP network in memory.

Scenarios of half a minute run in milliseconds, and the same way each time. A scenario that leaves a task
behind, or lets an exception reach the event loop, fails.
"""

import asyncio
import functools
import gc
import inspect
import selectors
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Address = tuple[str, int]

#: Seconds that a datagram travels when nothing else is said.
DELAY = 0.001


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram on its way."""

    data: bytes
    source: Address
    destination: Address


class Network:
    """Delivers datagrams between the sockets of one :class:`VirtualLoop`."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._sockets: dict[Address, VirtualSocket] = {}
        self._next_port = 40_000
        self.sent: list[tuple[float, Datagram]] = []
        "Everything that was sent, with its time."
        self.route: Callable[[Datagram], list[float]] = lambda datagram: [DELAY]
        "After how many seconds a datagram arrives: none is loss, two is duplication."

    def bind(self, protocol: asyncio.DatagramProtocol, host: str) -> "VirtualSocket":
        """A socket on the next free port."""
        self._next_port += 1
        bound = VirtualSocket(self, protocol, (host, self._next_port))
        self._sockets[bound.address] = bound
        return bound

    def send(self, datagram: Datagram) -> None:
        """Put a datagram on its way."""
        self.sent.append((self._loop.time(), datagram))
        for delay in self.route(datagram):
            self._loop.call_later(delay, self._deliver, datagram)

    def inject(self, data: bytes, source: Address, destination: Address) -> None:
        """Deliver a datagram whose source may be anything, as an attacker would send it."""
        self._deliver(Datagram(data, source, destination))

    def _deliver(self, datagram: Datagram) -> None:
        receiver = self._sockets.get(datagram.destination)
        if receiver is not None:
            receiver.protocol.datagram_received(datagram.data, datagram.source)

    def unbind(self, address: Address) -> None:
        """Forget a socket."""
        self._sockets.pop(address, None)


class VirtualSocket(asyncio.DatagramTransport):
    """One end in the network."""

    def __init__(self, network: Network, protocol: asyncio.DatagramProtocol, address: Address) -> None:
        super().__init__({"sockname": address})
        self.protocol = protocol
        self.address = address
        self._network = network
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        if not self._closing:
            self._network.send(Datagram(bytes(data), self.address, (addr[0], addr[1])))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._network.unbind(self.address)
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._closing


class _JumpingSelector:
    """Asks the real selector without waiting, and lets time jump where the loop would wait."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._jump = jump

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        events = self._selector.select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing is left to happen")
            self._jump(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop for scenarios on :class:`Network`."""

    def __init__(self) -> None:
        self._virtual_time = 1000.0
        super().__init__(_JumpingSelector(self._jump))  # type: ignore[arg-type]
        self.network = Network(self)
        self.errors: list[str] = []
        self.set_exception_handler(lambda loop, context: self.errors.append(str(context)))

    def time(self) -> float:
        return self._virtual_time

    def be_busy(self, seconds: float) -> None:
        """As if a callback took so long."""
        self._virtual_time += seconds

    def _jump(self, seconds: float) -> None:
        self._virtual_time += max(0.0, seconds)

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], local_addr: Address | None = None, **kwargs: Any
    ) -> tuple[VirtualSocket, Any]:
        if local_addr is None:
            raise OSError("the virtual network has sockets with an address only")
        if local_addr[0] == "203.0.113.255":
            raise OSError("Cannot assign requested address")
        protocol = protocol_factory()
        bound = self.network.bind(protocol, local_addr[0])
        protocol.connection_made(bound)
        return bound, protocol


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make an ``async`` test with a parameter ``network`` a test that runs in virtual time."""

    async def scenario(loop: VirtualLoop, kwargs: dict[str, Any]) -> None:
        async with asyncio.timeout(600):
            await test(network=loop.network, **kwargs)
        # What was closed ends within a turn of aioice's pacing (20 ms).
        await asyncio.sleep(0.1)
        gc.collect()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        assert not left, f"tasks were left behind: {left}"

    @functools.wraps(test)
    def run(**kwargs: Any) -> None:
        loop = VirtualLoop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(scenario(loop, kwargs))
        assert loop.errors == [], loop.errors

    signature = inspect.signature(test)
    parameters = [p for p in signature.parameters.values() if p.name != "network"]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Let virtual time pass until ``condition`` holds.

    :raises AssertionError: when it does not within ``seconds``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.001)
