"""The mux's sockets on the network in memory of :mod:`tests.transport.virtual`, and what stands between."""

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.transport.virtual import Address, Datagram, Network, VirtualLoop


class VirtualUdp:
    """What :class:`mediapeer.ice.sockets.MuxSocket` needs of a socket."""

    def __init__(self, loop: VirtualLoop, address: Address) -> None:
        self.protocol = self
        self.family = socket.AF_INET6 if ipaddress.ip_address(address[0]).version == 6 else socket.AF_INET
        self.readable: Callable[[], None] | None = None
        self._address = address
        self._loop = loop
        self._queue: deque[tuple[bytes, Address]] = deque()
        loop.network._sockets[address] = self  # type: ignore[assignment]

    def getsockname(self) -> tuple[Any, ...]:
        return (*self._address, 0, 0) if self.family == socket.AF_INET6 else self._address

    def fileno(self) -> int:
        return -1

    def datagram_received(self, data: bytes, source: Address) -> None:
        self._queue.append((data, source))
        if self.readable is not None:
            self.readable()

    def recvmsg(self, size: int, _: int) -> tuple[bytes, list[Any], int, Address]:
        if not self._queue:
            raise BlockingIOError
        data, source = self._queue.popleft()
        return data, [], 0, source

    def sendto(self, data: bytes, destination: tuple[Any, ...]) -> None:
        self._loop.network.send(Datagram(data, self._address, (destination[0], destination[1])))

    def close(self) -> None:
        self._loop.network.unbind(self._address)


def virtual_bind_all(addresses: Sequence[str], port: int | range) -> list[VirtualUdp]:
    """Stands in for :func:`mediapeer.ice.sockets.bind_all`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    network = loop.network
    if port == 0:
        network._next_port += 1
    number = network._next_port if port == 0 else port if isinstance(port, int) else port.start
    add_reader, remove_reader = loop.add_reader, loop.remove_reader

    def add(reader: Any, callback: Callable[..., object], *args: Any) -> None:
        inner = getattr(reader, "_socket", reader)
        if isinstance(inner, VirtualUdp):
            inner.readable = lambda: callback(*args) and None
        else:
            add_reader(reader, callback, *args)

    def remove(reader: Any) -> bool:
        return True if isinstance(reader, VirtualUdp) else bool(remove_reader(reader))

    loop.add_reader, loop.remove_reader = add, remove  # type: ignore[assignment, method-assign]
    if any(address.startswith("203.0.113.") for address in addresses):
        raise OSError("none of the addresses can be used")
    return [VirtualUdp(loop, (address, number)) for address in addresses]


class Nat:
    """Maps one inside address to an outside one, and to another when it is told."""

    def __init__(self, network: Network, inside: Address, outside: Address) -> None:
        self._inside = inside
        self._outside = outside
        self._send = network.send
        network.send = self._translate  # type: ignore[method-assign]

    def rebind(self, outside: Address) -> None:
        """Forget the mapping; the next datagram from inside makes another."""
        self._outside = outside

    def _translate(self, datagram: Datagram) -> None:
        if datagram.source == self._inside:
            self._send(replace(datagram, source=self._outside))
        elif datagram.destination == self._outside:
            self._send(replace(datagram, destination=self._inside))
        elif datagram.destination != self._inside:
            self._send(datagram)


def timers_left(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    """The timers that are still to go off."""
    return [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
