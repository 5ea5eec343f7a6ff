"""Multicast DNS, as far as it takes to find a browser behind a ``.local`` name (RFC 6762).

Browsers hide their addresses behind names of the form ``<uuid>.local`` and answer for them on the local network
(draft-ietf-mmusic-mdns-ice-candidates). Only such names are asked for here.
"""

import asyncio
import ipaddress
import logging
import re
import socket
import struct
from collections import Counter
from collections.abc import Sequence

logger = logging.getLogger(__name__)

MDNS_ADDRESS = "224.0.0.251"
MDNS_PORT = 5353
#: Names that are asked for at the same time; more find no address.
MAXIMUM_NAMES = 32
#: Records of one answer that are read.
MAXIMUM_RECORDS = 64
#: Seconds after the first question at which it is asked again (RFC 6762 §5.2 begins with a second).
REPETITIONS = (0.25, 1.0)
#: Seconds after which a name has no address.
TIMEOUT = 2.0
#: Datagrams that are read in one turn of the event loop.
BATCH = 16
#: The largest datagram that is read (RFC 6762 §17).
MAXIMUM_DATAGRAM = 9000

_A, _AAAA, _IN = 1, 28, 1
_RESPONSE, _OPCODE_AND_RCODE = 0x8000, 0x780F
_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.local", re.IGNORECASE)


class MdnsError(ValueError):
    """A datagram is no mDNS message."""


def is_hidden_name(host: str) -> bool:
    """Whether a candidate's address is a name that a browser made up for this purpose."""
    return _NAME.fullmatch(host) is not None


def encode_question(name: str) -> bytes:
    """The question for the addresses of ``name``, of both families (RFC 6762 §18)."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\x00"
    # The second question repeats the name by a pointer to the first, which begins after the header.
    return (
        struct.pack("!6H", 0, 0, 2, 0, 0, 0)
        + labels
        + struct.pack("!2H", _A, _IN)
        + struct.pack("!3H", 0xC00C, _AAAA, _IN)
    )


def decode_answer(data: bytes) -> dict[str, list[str]]:
    """The addresses in an mDNS response: name in lower case → addresses. Empty for questions.

    Records of other types, such as the NSEC records of Chromium's answers, are skipped by their length.

    :raises MdnsError: when the message is cut short or malformed.
    """
    if len(data) < 12:
        raise MdnsError("a header has twelve bytes")
    _, flags, questions, answers, authorities, additional = struct.unpack_from("!6H", data)
    if not flags & _RESPONSE or flags & _OPCODE_AND_RCODE:
        return {}
    records = answers + authorities + additional
    if questions > MAXIMUM_RECORDS or records > MAXIMUM_RECORDS:
        raise MdnsError("there are too many records")
    position = 12
    for _ in range(questions):
        position = _read_name(data, position)[1] + 4
    found: dict[str, list[str]] = {}
    for _ in range(records):
        name, position = _read_name(data, position)
        if position + 10 > len(data):
            raise MdnsError("a record is cut short")
        kind, kind_of_network, _, length = struct.unpack_from("!HHIH", data, position)
        position += 10
        value = data[position : position + length]
        position += length
        if position > len(data):
            raise MdnsError("a record is cut short")
        # The top bit of the class says that the record replaces older ones (RFC 6762 §10.2).
        if kind_of_network & 0x7FFF == _IN and (kind, length) in ((_A, 4), (_AAAA, 16)):
            found.setdefault(name, []).append(str(ipaddress.ip_address(value)))
    return found


def _read_name(data: bytes, position: int) -> tuple[str, int]:
    """A name and where it ends (RFC 1035 §4.1.4); a pointer leads backwards only, so this ends."""
    labels: list[str] = []
    end: int | None = None
    limit = position
    total = 0
    while True:
        if position >= len(data):
            raise MdnsError("a name is cut short")
        length = data[position]
        if length & 0xC0 == 0xC0:
            if position + 2 > len(data):
                raise MdnsError("a name is cut short")
            target = struct.unpack_from("!H", data, position)[0] & 0x3FFF
            end = position + 2 if end is None else end
            if target >= limit:
                raise MdnsError("a pointer does not lead backwards")
            position = limit = target
            continue
        if length & 0xC0:
            raise MdnsError("a label is of an unknown kind")
        position += 1
        if length == 0:
            return ".".join(labels).lower(), position if end is None else end
        total += length + 1
        if position + length > len(data) or total > 255:
            raise MdnsError("a name is too long or cut short")
        labels.append(data[position : position + length].decode("utf-8", "replace"))
        position += length


class MdnsResolver:
    """Asks the local network for names; open only while it waits for an answer.

    :param interfaces: the IPv4 addresses of the interfaces to ask on; others are passed over.
    :param counters: where to count; its own when none are given.
    """

    def __init__(self, interfaces: Sequence[str], counters: Counter[str] | None = None) -> None:
        self.counters: Counter[str] = Counter() if counters is None else counters
        "What was not asked, or dropped, and why."
        self._interfaces: list[str] = []
        self.ask_on(interfaces)
        self._socket: socket.socket | None = None
        self._waiting: dict[str, asyncio.Future[list[str]]] = {}

    def ask_on(self, interfaces: Sequence[str]) -> None:
        """Ask on other interfaces from the next name on, because this machine has moved to another network."""
        self._interfaces = [address for address in interfaces if ":" not in address]

    async def resolve(self, name: str) -> list[str]:
        """The addresses that somebody on the local network gives for ``name``; none after two seconds.

        :param name: as :func:`is_hidden_name` has it; another gives no address.
        """
        name = name.lower()
        waiting = self._waiting.get(name)
        if waiting is not None:
            return await asyncio.shield(waiting)
        if not is_hidden_name(name) or len(self._waiting) >= MAXIMUM_NAMES:
            self.counters["mdns_not_asked"] += 1
            return []
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        self._waiting[name] = answer
        timers = []
        try:
            if self._open():
                question = encode_question(name)
                self._ask(question)
                timers = [loop.call_later(seconds, self._ask, question) for seconds in REPETITIONS]
                timers.append(loop.call_later(TIMEOUT, self._give, name, []))
                return await asyncio.shield(answer)
            return []
        finally:
            for timer in timers:
                timer.cancel()
            self._give(name, [])
            if not self._waiting:
                self.close()

    def close(self) -> None:
        """Give nobody an address any more, and close the socket."""
        for name in list(self._waiting):
            self._give(name, [])
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def received(self, data: bytes, source_port: int) -> None:
        """Take a datagram; only port 5353 answers (RFC 6762 §6)."""
        if source_port != MDNS_PORT:
            self.counters["mdns_foreign_port"] += 1
            return
        try:
            found = decode_answer(data)
        except MdnsError as error:
            self.counters["mdns_malformed"] += 1
            logger.debug("dropped an mDNS message: %s", error)
            return
        for name, addresses in found.items():
            usable = [
                address
                for address in addresses
                if not (
                    ipaddress.ip_address(address).is_multicast or ipaddress.ip_address(address).is_unspecified
                )
            ]
            if name in self._waiting and usable:
                self._give(name, usable)

    def _give(self, name: str, addresses: list[str]) -> None:
        answer = self._waiting.pop(name, None)
        if answer is not None and not answer.done():
            answer.set_result(addresses)

    def _open(self) -> bool:
        """Open the socket where answers come, shared with other programs on this machine (RFC 6762 §15.1)."""
        if self._socket is not None:
            return True
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            opened.bind(("", MDNS_PORT))
        except OSError as error:
            logger.debug("mDNS cannot be asked: %s", error)
            self.counters["mdns_unavailable"] += 1
            opened.close()
            return False
        group = socket.inet_aton(MDNS_ADDRESS)
        for interface in self._interfaces:
            try:
                opened.setsockopt(
                    socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton(interface)
                )
            except OSError as error:
                logger.debug("no mDNS on %s: %s", interface, error)
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened, self._readable, opened)
        return True

    def _readable(self, opened: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, source = opened.recvfrom(MAXIMUM_DATAGRAM)
            except OSError:
                return
            self.received(data, source[1])
            if self._socket is not opened:
                return

    def _ask(self, question: bytes) -> None:
        if self._socket is None:
            return
        for interface in self._interfaces:
            try:
                self._socket.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface)
                )
                self._socket.sendto(question, (MDNS_ADDRESS, MDNS_PORT))
            except OSError as error:
                self.counters["mdns_unreachable"] += 1
                logger.debug("mDNS cannot be asked on %s: %s", interface, error)
