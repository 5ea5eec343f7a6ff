"""Datagrams to a stateless listener: from clients of ours, from others with their cookies, and made up.

An input is a program (`program.py`): its setting chooses what clients and listener are configured with, its steps are
datagrams from three addresses.

What must hold: a datagram gives a connection, one datagram that is not three times as long, or nothing; the
listener keeps nothing; and a connection is only made of a datagram that carries a cookie which the listener gave to
that address, not too long ago.
"""

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping

from mediapeer.dtls import DtlsConnection, Role, StatelessListener
from mediapeer.dtls.extensions import parse_cookie
from mediapeer.dtls.messages import HelloVerifyRequest, ServerHello
from mediapeer.dtls.reassembly import handshake_header, parse_fragments
from mediapeer.dtls.record import Record, serialize_record, split_datagram
from mediapeer.dtls.registry import HYBRID_GROUPS, ContentType, ExtensionType, HandshakeType, NamedGroup
from tests.fuzz.configurations import CODE_POINTS, MEETINGS
from tests.fuzz.determinism import repeatable
from tests.fuzz.duel import Scene
from tests.fuzz.insider import Edit, tampering
from tests.fuzz.program import Argument, Program, mutate_steps, program
from tests.fuzz.target import require, retained_bytes

MAXIMUM_LENGTH = 8192
ADDRESSES = (b"192.0.2.1:1", b"192.0.2.1:2", b"[2001:db8::1]:1")
COOKIE_LIFETIME = 60.0
MAXIMUM_SENT = 256


class Door:
    """A listener, a client at each address, and the connections that came of them."""

    def __init__(self, steps: Program, scene: Scene) -> None:
        self.now = 1000.0
        configuration, client = (scene.configurations[role] for role in (Role.SERVER, Role.CLIENT))
        self._shared = [configuration]
        self._listener = StatelessListener(configuration, bytes(32), COOKIE_LIFETIME)
        if client.groups[0] in HYBRID_GROUPS:
            # A first ClientHello has to be whole for a listener to ask for the cookie of DTLS 1.3.
            client = dataclasses.replace(client, groups_to_share=(NamedGroup.X25519,), mtu=1200)
        self._client_configuration, self._session = client, scene.session
        self._clients = {address: self._new_client() for address in ADDRESSES}
        self._inboxes: dict[bytes, list[bytes]] = {address: [] for address in ADDRESSES}
        self._sent: list[bytes] = []
        self._connections: dict[bytes, DtlsConnection] = {}
        self._cookies: dict[bytes, list[tuple[float, bytes]]] = {address: [] for address in ADDRESSES}
        self._size = retained_bytes(self._listener, shared=self._shared)
        for address in ADDRESSES:
            self._take(address)
        operations = tuple(OPERATIONS.values())
        for step in steps.steps:
            if step.operation < len(operations):
                operations[step.operation](self, Argument(step.argument))
            size = retained_bytes(self._listener, shared=self._shared)
            require(size == self._size, f"the listener keeps something: {self._size}, then {size}")

    # Operations

    def talk(self, argument: Argument) -> None:
        """A client and the listener, and what comes of it, so many datagrams or until both are silent."""
        address = self._address(argument)
        for _ in range(argument.uint8() or 100):
            if not self._inboxes[address]:
                return
            self._arrive(address, self._inboxes[address].pop(0))

    def deliver(self, argument: Argument) -> None:
        """One datagram of any client from any address, whole, changed or cut."""
        address, datagram = self._address(argument), self._some_datagram(argument)
        how, place = argument.uint8(), argument.uint16()
        changed = bytearray(datagram)
        if how & 1:
            for offset, value in enumerate(argument.rest()):
                if changed:
                    changed[(place + offset) % len(changed)] ^= value
        elif how & 2:
            changed = changed[:place]
        elif how & 4:
            changed += argument.rest()
        self._arrive(address, bytes(changed))

    def raw(self, argument: Argument) -> None:
        """Bytes that somebody made up."""
        self._arrive(self._address(argument), argument.rest())

    def fragment(self, argument: Argument) -> None:
        """A piece of a handshake message in a record."""
        address, kind, number = self._address(argument), argument.uint8(), argument.uint8()
        record, length, offset = argument.uint16(), argument.uint24(), argument.uint24()
        body = argument.rest()
        header = handshake_header(kind, length, number, offset, len(body))
        self._arrive(address, serialize_record(ContentType.HANDSHAKE, record, header + body))

    def hello(self, argument: Argument) -> None:
        """A whole ClientHello, or what is said to be one."""
        address, number, record, body = (
            self._address(argument),
            argument.uint8() % 10,
            argument.uint16(),
            argument.rest(),
        )
        header = handshake_header(HandshakeType.CLIENT_HELLO, len(body), number)
        self._arrive(address, serialize_record(ContentType.HANDSHAKE, record, header + body))

    def wait(self, argument: Argument) -> None:
        """Some seconds."""
        self.now += argument.uint8()
        for address, client in self._clients.items():
            client.handle_timeout(self.now)
            self._take(address)
        for address, connection in self._connections.items():
            connection.handle_timeout(self.now)
            self._collect(address)

    def forget(self, argument: Argument) -> None:
        """The server forgets a connection."""
        self._connections.pop(self._address(argument), None)

    def renew(self, argument: Argument) -> None:
        """A client begins again."""
        address = self._address(argument)
        self._clients[address] = self._new_client()
        self._take(address)

    def tamper(self, argument: Argument) -> None:
        """Nothing when its turn comes: the clients' messages are changed when they are made."""

    # Parts of these

    def _new_client(self) -> DtlsConnection:
        return DtlsConnection(self._client_configuration, Role.CLIENT, self.now, self._session)

    def _address(self, argument: Argument) -> bytes:
        return ADDRESSES[argument.uint8() % len(ADDRESSES)]

    def _some_datagram(self, argument: Argument) -> bytes:
        return self._sent[argument.uint8() % len(self._sent)] if self._sent else b""

    def _take(self, address: bytes) -> None:
        """Note what a client sends."""
        datagrams = self._clients[address].datagrams_to_send()
        self._inboxes[address] += datagrams
        self._sent = (self._sent + datagrams)[-MAXIMUM_SENT:]
        while self._clients[address].next_event() is not None:
            pass

    def _arrive(self, address: bytes, datagram: bytes) -> None:
        connection = self._connections.get(address)
        if connection is not None:
            connection.receive_datagram(datagram, self.now)
            self._collect(address)
            return
        answer = self._listener.receive_datagram(datagram, address, self.now)
        if isinstance(answer, DtlsConnection):
            self._check_cookie(address, datagram)
            self._connections[address] = answer
            self._collect(address)
        elif answer is not None:
            self._check_answer(address, datagram, answer)
            self._clients[address].receive_datagram(answer, self.now)
            self._take(address)

    def _collect(self, address: bytes) -> None:
        """Let a connection talk to the client of its address."""
        connection = self._connections[address]
        for datagram in connection.datagrams_to_send():
            self._clients[address].receive_datagram(datagram, self.now)
            self._take(address)
        while connection.next_event() is not None:
            pass

    # What must hold

    def _check_answer(self, address: bytes, datagram: bytes, answer: bytes) -> None:
        require(len(answer) < 3 * len(datagram), f"{len(answer)} bytes answer {len(datagram)}")
        records, whole = split_datagram(answer)
        require(whole and len(records) == 1, "the answer is not one record")
        record = records[0]
        require(isinstance(record, Record) and record.epoch == 0, "the answer is not unprotected")
        if isinstance(record, Record) and record.content_type == ContentType.HANDSHAKE:
            [message] = parse_fragments(record.fragment)
            if message.handshake_type == HandshakeType.HELLO_VERIFY_REQUEST:
                cookie = HelloVerifyRequest.parse(message.data).cookie
            else:
                cookie = parse_cookie(ServerHello.parse(message.data).extensions[ExtensionType.COOKIE])
            self._cookies[address].append((self.now, cookie))

    def _check_cookie(self, address: bytes, datagram: bytes) -> None:
        require(
            any(
                given + COOKIE_LIFETIME >= self.now and cookie in datagram
                for given, cookie in self._cookies[address]
            ),
            "a connection without a cookie for its address",
        )


Operation = Callable[[Door, Argument], None]
OPERATIONS: Mapping[str, Operation] = {
    "talk": Door.talk,
    "deliver": Door.deliver,
    "raw": Door.raw,
    "fragment": Door.fragment,
    "hello": Door.hello,
    "wait": Door.wait,
    "forget": Door.forget,
    "renew": Door.renew,
    "tamper": Door.tamper,
}


def number_of(operation: str) -> int:
    """How a program calls an operation."""
    return list(OPERATIONS).index(operation)


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    steps = Program.parse(data)
    generator = random.Random(1)
    tamper = number_of("tamper")
    if steps.setting >= len(MEETINGS):
        return
    edits = [Edit.parse(step.argument) for step in steps.steps if step.operation == tamper]
    with repeatable(generator):
        scene = Scene.of(MEETINGS[steps.setting], generator)
        with tampering(Role.CLIENT, edits):
            Door(steps, scene)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """See :class:`tests.fuzz.target.Target`."""
    return (
        data
        if generator.random() < 0.3
        else mutate_steps(data, generator, len(OPERATIONS), len(MEETINGS), CODE_POINTS)
    )


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""
    from tests.fuzz.recordings import recording

    def step(operation: str, argument: bytes = b"") -> tuple[int, bytes]:
        return number_of(operation), argument

    for setting in range(len(MEETINGS)):
        hello = next(body for kind, body in recording(setting).messages if kind == HandshakeType.CLIENT_HELLO)
        length = len(hello).to_bytes(3, "big")
        stories = {
            "talk": [step("talk", b"\0"), step("talk", b"\1"), step("wait", b"\1")],
            "others": [
                step("talk", b"\0\1"),
                step("deliver", b"\1\3"),
                step("wait", b"\x3d"),
                step("deliver", b"\0\3"),
                step("deliver", b"\2\0\1\0\x30\1"),
                step("deliver", b"\2\0\2\0\x40"),
                step("forget", b"\0"),
                step("deliver", b"\0\3"),
                step("renew", b"\2"),
                step("talk", b"\2"),
            ],
            "pieces": [
                step("hello", b"\0\0\0\0" + hello),
                step("hello", b"\0\1\0\1" + hello),
                step("fragment", b"\1\1\0\0\0" + length + bytes(3) + hello[:80]),
                step("fragment", b"\1\1\0\0\1" + length + b"\0\0\x50" + hello[80:]),
            ],
            "tampered": [
                step("tamper", b"\1\1\0\0\x21\1"),
                step("tamper", b"\1\0\7\0\x2c\0\2ab"),
                step("talk", b"\0"),
            ],
        }
        for name, steps in stories.items():
            yield f"{setting}-{name}", program(setting, steps)
