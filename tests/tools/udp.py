"""Runs a sans-IO DTLS connection over a real UDP socket on loopback, beside the command at the other end."""

import contextlib
import itertools
import random
import selectors
import socket
import time
from collections.abc import Callable

from mediapeer.dtls import ApplicationData, DtlsConnection, Event, HandshakeCompleted, StatelessListener
from tests.tools.command import Command

LOOPBACK = "127.0.0.1"
_FIRST_PORT, _LAST_PORT = 10_000, 30_000
_PORTS_TRIED = 100
_ports = itertools.islice(
    itertools.cycle(range(_FIRST_PORT, _LAST_PORT)), random.randrange(_LAST_PORT - _FIRST_PORT), None
)

#: Says of the n-th datagram of a direction, counted from 0, whether it is lost.
Loss = Callable[[int], bool]


def no_loss(index: int) -> bool:
    """Every datagram arrives."""
    return False


def loopback_socket() -> socket.socket:
    """A UDP socket on a free port of loopback."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((LOOPBACK, 0))
    return udp


def free_port() -> int:
    """A UDP port of loopback that nobody had a moment ago. It is none of those that a system gives out by itself, and
    another process that asks is hardly given the same one."""
    for port in itertools.islice(_ports, _PORTS_TRIED):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((LOOPBACK, port))
            return port
    raise OSError("no port is free")


def accept(
    listener: StatelessListener, udp: socket.socket, timeout_seconds: float = 10
) -> tuple[DtlsConnection, int]:
    """Answer ClientHellos until one shows a cookie.

    :returns: its connection, and the port it came from.
    :raises TimeoutError: when none does within ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        udp.settimeout(max(0.001, deadline - time.monotonic()))
        data, address = udp.recvfrom(65_536)
        answer = listener.receive_datagram(data, repr(address).encode(), time.monotonic())
        if isinstance(answer, DtlsConnection):
            return answer, address[1]
        if answer is not None:
            udp.sendto(answer, address)


class UdpAssociation:
    """Our end, its socket and its clock.

    A server takes the sender of the first datagram for its peer. The timer, the socket and the command's
    output are waited for together, so nothing sleeps and nothing polls.
    """

    def __init__(
        self,
        connection: DtlsConnection,
        udp: socket.socket,
        command: Command,
        *,
        peer_port: int | None = None,
        lose_sent: Loss = no_loss,
        lose_received: Loss = no_loss,
    ) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.datagrams_sent: list[bytes] = []
        self.datagrams_received: list[bytes] = []
        self._udp = udp
        self._command = command
        self._lose_sent = lose_sent
        self._lose_received = lose_received
        self._peer = None if peer_port is None else (LOOPBACK, peer_port)
        udp.setblocking(False)

    def heal(self) -> None:
        """From now on nothing is lost."""
        self._lose_sent = self._lose_received = no_loss

    @property
    def completed(self) -> bool:
        """Whether the handshake is done."""
        return any(isinstance(event, HandshakeCompleted) for event in self.events)

    @property
    def received(self) -> bytes:
        """The application data that came, joined."""
        return b"".join(event.data for event in self.events if isinstance(event, ApplicationData))

    def happened(self, kind: type[Event]) -> bool:
        """Whether there was an event of this kind."""
        return any(isinstance(event, kind) for event in self.events)

    def run_until(self, condition: Callable[[], bool], timeout_seconds: float = 15) -> None:
        """Carry datagrams and keep time until ``condition`` holds.

        :raises AssertionError: with both ends' stories, when it does not within ``timeout_seconds``.
        """
        deadline = time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._udp, selectors.EVENT_READ)
            if not self._command.ended:
                selector.register(self._command, selectors.EVENT_READ)
            while True:
                self._flush()
                if condition():
                    return
                now = time.monotonic()
                if now > deadline:
                    raise AssertionError(f"{self.events}\n{self.connection.counters}\n{self._command.text()}")
                timer = self.connection.next_timeout()
                wake = deadline if timer is None else min(timer, deadline)
                for key, _ in selector.select(max(0.0, wake - now) + 0.001):
                    if key.fileobj is self._udp:
                        self._receive()
                        continue
                    self._command.read()
                    if self._command.ended:
                        selector.unregister(self._command)
                timer = self.connection.next_timeout()
                if timer is not None and timer <= time.monotonic():
                    self.connection.handle_timeout(time.monotonic())

    def _receive(self) -> None:
        try:
            data, address = self._udp.recvfrom(65_536)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            return  # the command does not listen yet, or any more: our timer decides
        self._peer = self._peer or address
        lost = self._lose_received(len(self.datagrams_received))
        self.datagrams_received.append(data)
        if not lost:
            self.connection.receive_datagram(data, time.monotonic())

    def _flush(self) -> None:
        while event := self.connection.next_event():
            self.events.append(event)
        for data in self.connection.datagrams_to_send():
            lost = self._lose_sent(len(self.datagrams_sent))
            self.datagrams_sent.append(data)
            if not lost and self._peer is not None:
                self._udp.sendto(data, self._peer)
