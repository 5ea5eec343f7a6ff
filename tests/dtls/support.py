"""A network in memory with a clock of its own, and two ends on it."""

import functools
import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from mediapeer.dtls import (
    AcceptAnyPeer,
    ApplicationData,
    DtlsConfiguration,
    DtlsConnection,
    Event,
    Fingerprint,
    FingerprintVerifier,
    HandshakeCompleted,
    ProtocolVersion,
    Role,
    Session,
    SessionEstablished,
    X509Credentials,
)
from mediapeer.dtls.reassembly import handshake_header, parse_fragments
from mediapeer.dtls.record import RECORD_HEADER_LENGTH, Record, serialize_record, split_datagram
from mediapeer.dtls.registry import ContentType, HandshakeType

ONE_WAY_DELAY = 0.005
PATIENCE = 120.0
"When nothing is due for so many seconds, nothing happens any more."
LABEL = b"EXPERIMENTAL mediapeer"

#: What becomes of the datagram number ``index`` of a sender: (extra delay in seconds, bytes) for each copy delivered.
Impairment = Callable[[Role, int, bytes], Sequence[tuple[float, bytes]]]


@functools.cache
def credentials(kind: str = "ecdsa-p256", name: str = "") -> X509Credentials:
    """Credentials made once for each kind and name; keys are dear in a large suite."""
    return X509Credentials.generate(kind)


def expecting(peer: X509Credentials) -> FingerprintVerifier:
    """A verifier for exactly this peer."""
    return FingerprintVerifier([Fingerprint("sha-256", peer.fingerprint())])


#: What the configurations of a test speak at the most; the fixture ``version`` sets it.
maximum_version = ProtocolVersion.DTLS_1_3


def configuration(**options: Any) -> DtlsConfiguration:
    """A configuration with credentials that takes everybody, unless said otherwise."""
    options.setdefault("maximum_version", maximum_version)
    options.setdefault("verifier", AcceptAnyPeer())
    options.setdefault("credentials", (credentials(),))
    return DtlsConfiguration(**options)


def deliver(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
    """The impairment that impairs nothing."""
    return [(0.0, datagram)]


class Pair:
    """A client and a server, the path between them, and what has happened."""

    def __init__(
        self,
        client: DtlsConfiguration | None = None,
        server: DtlsConfiguration | None = None,
        impairment: Impairment = deliver,
        *,
        session: Session | None = None,
        now: float = 100.0,
    ) -> None:
        self.now = now
        self.impairment = impairment
        self.client = DtlsConnection(client or configuration(), Role.CLIENT, self.now, session)
        self.server = DtlsConnection(server or configuration(), Role.SERVER, self.now)
        self.events: dict[Role, list[Event]] = {Role.CLIENT: [], Role.SERVER: []}
        self.sent: dict[Role, list[bytes]] = {Role.CLIENT: [], Role.SERVER: []}
        self._order = itertools.count()
        self._under_way: list[tuple[float, int, Role, bytes]] = []

    def end(self, role: Role) -> DtlsConnection:
        """The connection of that role."""
        return self.client if role is Role.CLIENT else self.server

    def peer(self, role: Role) -> DtlsConnection:
        """The connection of the other role."""
        return self.server if role is Role.CLIENT else self.client

    def flush(self) -> None:
        """Put what both ends want to send on the path, and collect their events."""
        for role in Role:
            for datagram in self.end(role).datagrams_to_send():
                index = len(self.sent[role])
                self.sent[role].append(datagram)
                for delay, data in self.impairment(role, index, datagram):
                    arrival = self.now + ONE_WAY_DELAY + delay
                    receiver = Role.SERVER if role is Role.CLIENT else Role.CLIENT
                    heapq.heappush(self._under_way, (arrival, next(self._order), receiver, data))
            while (event := self.end(role).next_event()) is not None:
                self.events[role].append(event)

    def step(self) -> bool:
        """Go on to the next thing that happens; false when nothing does for long (old keys are let go of later)."""
        self.flush()
        timeouts = {role: self.end(role).next_timeout() for role in Role}
        times = [t for t in timeouts.values() if t is not None]
        if self._under_way:
            times.append(self._under_way[0][0])
        if not times or min(times) > self.now + PATIENCE:
            return False
        self.now = max(self.now, min(times))
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, role, data = heapq.heappop(self._under_way)
            self.end(role).receive_datagram(data, self.now)
        for role in Role:
            timeout = timeouts[role]
            if timeout is not None and timeout <= self.now:
                self.end(role).handle_timeout(self.now)
        self.flush()
        return True

    def run(self, steps: int = 2000) -> "Pair":
        """Go on until nothing happens any more."""
        for _ in range(steps):
            if not self.step():
                return self
        raise AssertionError("the two ends never come to rest")

    def completed(self, role: Role) -> HandshakeCompleted:
        """The one HandshakeCompleted of that end."""
        (event,) = (e for e in self.events[role] if isinstance(e, HandshakeCompleted))
        return event

    @property
    def sessions(self) -> list[Session]:
        """What the client may resume."""
        return [e.session for e in self.events[Role.CLIENT] if isinstance(e, SessionEstablished)]

    def received(self, role: Role) -> list[bytes]:
        """The application data that end has received."""
        return [e.data for e in self.events[role] if isinstance(e, ApplicationData)]

    def assert_connected(self) -> None:
        """Both ends are done, agree on everything, and data passes both ways."""
        assert self.client.error is None
        assert self.server.error is None
        assert self.completed(Role.CLIENT) == self.completed(Role.SERVER)
        material = self.client.export_keying_material(LABEL, b"context", 48)
        assert material == self.server.export_keying_material(LABEL, b"context", 48)
        self.impairment = deliver
        before = {role: len(self.received(role)) for role in Role}
        self.client.send_application_data(b"from the client")
        self.server.send_application_data(b"from the server")
        self.run()
        assert self.received(Role.SERVER)[before[Role.SERVER] :] == [b"from the client"]
        assert self.received(Role.CLIENT)[before[Role.CLIENT] :] == [b"from the server"]


def rewrite(handshake_type: HandshakeType, change: Callable[[bytes], bytes]) -> Impairment:
    """An impairment that changes a hello on its way, if it is whole in the first record of a datagram."""

    def impair(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        records, _ = split_datagram(datagram)
        first = records[0]
        is_hello = isinstance(first, Record) and first.content_type == ContentType.HANDSHAKE
        if not isinstance(first, Record) or not is_hello or first.fragment[0] != handshake_type:
            return [(0.0, datagram)]
        (fragment,) = parse_fragments(first.fragment)
        assert len(fragment.data) == fragment.length, "the hello comes in pieces: share X25519 only"
        body = change(fragment.data)
        changed = handshake_header(handshake_type, len(body), fragment.message_seq) + body
        record = serialize_record(first.content_type, first.epoch_and_sequence_number, changed, first.version)
        return [(0.0, record + datagram[RECORD_HEADER_LENGTH + len(first.fragment) :])]

    return impair
