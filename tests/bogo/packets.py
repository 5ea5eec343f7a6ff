"""The runner's framing of datagrams over TCP, and its clock.

Both ways: ``P``, a length in four bytes, a datagram. From the runner alone: ``T`` (the time goes on by so many
nanoseconds; answered by ``t``), ``E`` (the next time-out must be so far away), ``M`` (the MTU changes) and ``U`` (the
initial retransmission time-out changes). There is no other clock: the engine is told the time, and that is ours.
"""

import contextlib
import socket
import struct
from dataclasses import dataclass

NO_TIMEOUT = 2**64 - 1
NANOSECONDS = 1_000_000_000
_FORMATS = {b"P": ">I", b"T": ">Q", b"E": ">Q", b"M": ">I", b"U": ">I"}


class FramingError(Exception):
    """The runner sent something that is no packet, or broke one off."""


@dataclass
class Clock:
    """The time of all connections of one process. It moves only when the runner says so."""

    nanoseconds: int = 1234 * NANOSECONDS

    @property
    def now(self) -> float:
        """The time in seconds, for the engine."""
        return self.nanoseconds / NANOSECONDS

    def advance(self, nanoseconds: int) -> None:
        """Let time go on. One nanosecond more, as no timer fires early: the engine's times are no integers."""
        self.nanoseconds += nanoseconds + 1


class PacketStream:
    """One connection to the runner."""

    def __init__(self, port: int, shim_id: int, *, ipv6: bool) -> None:
        family, host = (socket.AF_INET6, "::1") if ipv6 else (socket.AF_INET, "127.0.0.1")
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.connect((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(struct.pack("<Q", shim_id))

    def receive(self) -> tuple[bytes, bytes | int] | None:
        """The next thing the runner says: an opcode with a datagram or a number; ``None`` at the end."""
        opcode = self._file.read(1)
        if not opcode:
            return None
        if opcode not in _FORMATS:
            raise FramingError(f"the runner sent the opcode {opcode!r}")
        layout = _FORMATS[opcode]
        (value,) = struct.unpack(layout, self._read(struct.calcsize(layout)))
        return opcode, self._read(value) if opcode == b"P" else value

    def send_datagrams(self, datagrams: list[bytes]) -> None:
        """Send datagrams to the runner."""
        self._socket.sendall(b"".join(struct.pack(">cI", b"P", len(each)) + each for each in datagrams))

    def acknowledge_time(self) -> None:
        """Tell the runner that the time has gone on."""
        self._socket.sendall(b"t")

    def close(self) -> None:
        """Send nothing more, and wait until the runner is done: it may still be writing."""
        with contextlib.suppress(OSError):  # the runner may be faster
            self._socket.shutdown(socket.SHUT_WR)
            while self._file.read1(65_536):
                pass
        self._file.close()
        self._socket.close()

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise FramingError("the runner broke off in the middle of a packet")
        return data
