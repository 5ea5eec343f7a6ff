"""UDP sockets that many sessions send through, and their opening on one port for several addresses."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import cast

logger = logging.getLogger(__name__)

Address = tuple[str, int]
"Host, an IP address in its canonical form without a scope, and port."

#: What the kernel is asked to keep for a socket until the event loop comes to read or the network takes it, in
#: bytes. It gives what its own limit allows (on Linux ``net.core.rmem_max`` and ``wmem_max``).
RECEIVE_BUFFER = 4 << 20
SEND_BUFFER = 1 << 20
#: Datagrams that wait for the kernel's send buffer: checks, handshakes, data. Media does not wait.
CONTROL_QUEUE_LENGTH = 256
#: Destinations whose form the kernel takes is remembered; beyond it they are worked out anew.
DESTINATIONS = 1024
#: Asks Linux to say of each datagram when it came, in a ``timespec`` of the clock on the wall; ``socket`` has no name
#: for it. Elsewhere it is refused, or says nothing that is understood here.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
_ANCILLARY_SIZE = socket.CMSG_SPACE(_TIMESPEC.size)
#: A datagram that is said to be older came before somebody set the clock, in seconds.
_MAXIMUM_AGE = 2.0
#: How many free ports of the system's choice are tried until one is free on every address.
PORT_ATTEMPTS = 32

# Linux says EINVAL of a source address that is gone where there is a route for others.
_NO_WAY_OUT = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EINVAL)


class MuxSocket:
    """One UDP socket. What is sent goes out at once or not at all, except a little that may wait.

    :param counters: where it counts what it did not send.
    """

    __slots__ = (
        "_destinations",
        "_loop",
        "_scope",
        "_socket",
        "_waiting",
        "address",
        "arrival",
        "counters",
        "family",
        "is_closed",
        "is_cut_off",
    )

    def __init__(self, bound: socket.socket, counters: Counter[str], loop: asyncio.AbstractEventLoop) -> None:
        name = bound.getsockname()
        self.address: Address = (name[0].partition("%")[0], name[1])
        "What it is bound to."
        self.family = bound.family
        "``socket.AF_INET`` or ``socket.AF_INET6``."
        self.counters = counters
        self.is_closed = False
        self.is_cut_off = False
        """Whether the last datagram did not leave this machine: it has no route, or no longer this address."""
        self._socket = bound
        self._scope = name[3] if len(name) > 3 else 0
        self.arrival = 0.0
        """When the datagram that was received last came, in seconds of the event loop's clock: where the kernel says
        so, by what it says. A loop that was busy sees many at once, and how fast they came is how fast a path is."""
        self._loop = loop
        self._waiting: deque[tuple[bytes, tuple[str | int, ...]]] = deque()
        self._destinations: dict[Address, tuple[str | int, ...]] = {}

    def __repr__(self) -> str:
        host, port = self.address
        return f"<MuxSocket {f'[{host}]' if ':' in host else host}:{port}>"

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._socket.fileno()

    def receive(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The next datagram with its source, which has two more members for IPv6.

        :raises BlockingIOError: when there is none.
        :raises OSError: for errors that earlier datagrams brought about.
        """
        data, ancillary, _, source = self._socket.recvmsg(size, _ANCILLARY_SIZE)
        arrival = self._loop.time()
        if ancillary and len(stamp := ancillary[0][2]) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            age = time.time() - seconds - nanoseconds * 1e-9
            if 0 < age < _MAXIMUM_AGE:  # else somebody has set the clock
                arrival -= age
        self.arrival = arrival
        return data, source

    def send(self, data: bytes, remote: Address, *, droppable: bool = False) -> bool:
        """Send a datagram.

        When the kernel's buffer is full, what is droppable is dropped and the rest waits in a queue of
        :data:`CONTROL_QUEUE_LENGTH`; as long as something waits, nothing droppable overtakes it. What is not
        sent is counted; errors of the network are counted too and never raised, for UDP owes nobody anything.

        :param droppable: whether it is media, of which the next packet is worth more than this one.
        :return: whether it was sent or waits.
        """
        destination = self._destinations.get(remote) or self._destination(remote)
        if destination is None or self.is_closed:
            self.counters["bad_destinations" if destination is None else "sent_after_close"] += 1
            return False
        if self._waiting:
            return self._wait(data, destination, droppable)
        try:
            self._socket.sendto(data, destination)
        except (BlockingIOError, InterruptedError):
            return self._wait(data, destination, droppable)
        except OSError as error:
            self._failed(error)
            return False
        self.is_cut_off = False
        return True

    def _wait(self, data: bytes, destination: tuple[str | int, ...], droppable: bool) -> bool:
        if droppable:
            self.counters["media_shed"] += 1
            return False
        if len(self._waiting) >= CONTROL_QUEUE_LENGTH:
            self.counters["control_shed"] += 1
            return False
        if not self._waiting:
            self._loop.add_writer(self._socket, self._writable)
        self._waiting.append((data, destination))
        return True

    def _writable(self) -> None:
        while self._waiting:
            data, destination = self._waiting[0]
            try:
                self._socket.sendto(data, destination)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._failed(error)
            self._waiting.popleft()
        self._loop.remove_writer(self._socket)

    def _failed(self, error: OSError) -> None:
        """A network that cannot be reached, a datagram that is too long, no memory in the kernel."""
        self.counters["send_errors"] += 1
        self.is_cut_off = error.errno in _NO_WAY_OUT
        logger.debug("%r did not send a datagram: %s", self, error)

    def _destination(self, remote: Address) -> tuple[str | int, ...] | None:
        """What the kernel takes for an address; ``None`` when it cannot be sent to from here.

        Only addresses pass: for a name, the socket module would ask DNS, with the whole program waiting.
        """
        try:
            host = ipaddress.ip_address(remote[0])
        except ValueError:
            return None
        if not 0 < remote[1] < 65536 or (host.version == 6) != (self.family == socket.AF_INET6):
            return None
        destination: tuple[str | int, ...] = remote
        if isinstance(host, ipaddress.IPv6Address):
            destination = (
                str(host).partition("%")[0],
                remote[1],
                0,
                self._scope if host.is_link_local else 0,
            )
        if len(self._destinations) >= DESTINATIONS:
            self._destinations.clear()
        self._destinations[remote] = destination
        return destination

    def close(self) -> None:
        """Close it; what waits is lost."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._waiting:
            self._loop.remove_writer(self._socket)
            self._waiting.clear()
        self._loop.remove_reader(self._socket)
        self._socket.close()


def bind_all(addresses: Sequence[str], port: int | range) -> list[socket.socket]:
    """Bind one non-blocking socket to each address, all to one port.

    Addresses that this machine does not have (any more, or not yet) are left out, with a warning, as long as
    one remains.

    :param port: the port; or those to choose from; or 0 for any that is free on all.
    :raises ValueError: when an address is none, or a port is out of range.
    :raises OSError: when no address can be used, or no port is free; the text says so.
    """
    resolved = [_resolve(address) for address in addresses]
    if not resolved:
        raise ValueError("no address to listen on is given")
    usable, errors = _usable(resolved)
    if not usable:
        raise OSError(errno.EADDRNOTAVAIL, f"none of the addresses can be used: {'; '.join(errors)}")
    for error in errors:
        logger.warning("no candidate on %s", error)
    for candidate in _ports(port):
        bound = _bind_port(usable, candidate)
        if bound is not None:
            return bound
    names = ", ".join(str(sockaddr[0]) for _, sockaddr in usable)
    ports = f"{port.start} to {port.stop - 1}" if isinstance(port, range) else str(port or "any")
    raise OSError(errno.EADDRINUSE, f"no UDP port is free on all of {names}: tried {ports}")


_Resolved = tuple[socket.AddressFamily, tuple[str | int, ...]]


def _resolve(address: str) -> _Resolved:
    """The family and the kernel's form of an address, whose scope may stand behind a per cent sign."""
    host = ipaddress.ip_address(address)
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(str(host), "0", type=socket.SOCK_DGRAM, flags=flags)
    except socket.gaierror as error:
        raise ValueError(f"{address} is no address of this machine: {error.strerror}") from None
    return found[0][0], cast(tuple[str | int, ...], found[0][4])


def _usable(resolved: Sequence[_Resolved]) -> tuple[list[_Resolved], list[str]]:
    usable, errors = [], []
    for family, sockaddr in resolved:
        try:
            _bind(family, sockaddr, 0).close()
        except OSError as error:
            errors.append(f"{sockaddr[0]}: {error.strerror}")
        else:
            usable.append((family, sockaddr))
    return usable, errors


def _ports(port: int | range) -> Sequence[int]:
    if isinstance(port, range):
        if not port or min(port) < 1 or max(port) > 65535:
            raise ValueError(f"{port} is no range of ports")
        # From somewhere in the middle, so that the ports of several servers spread over the range.
        start = random.randrange(len(port))
        return [*port[start:], *port[:start]]
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port")
    return [port] if port else [0] * PORT_ATTEMPTS


def _bind_port(addresses: Sequence[_Resolved], port: int) -> list[socket.socket] | None:
    """A socket for each address on the port; ``None`` when one of them has it taken."""
    bound: list[socket.socket] = []
    try:
        for family, sockaddr in addresses:
            bound.append(_bind(family, sockaddr, port))
            port = bound[0].getsockname()[1]
    except OSError as error:
        for opened in bound:
            opened.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        return None
    return bound


def _bind(family: socket.AddressFamily, sockaddr: tuple[str | int, ...], port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.bind((sockaddr[0], port, *sockaddr[2:]))
    except BaseException:
        opened.close()
        raise
    return opened
