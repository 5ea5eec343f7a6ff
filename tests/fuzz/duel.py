"""Two ends of the engine, the datagrams between them, and what must hold whatever happens to these.

Both ends are watched alike: one may be told to misbehave, but what it does on its own is the engine's doing too.
"""

import math
import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    ApplicationData,
    ClientAuthentication,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    Event,
    HandshakeCompleted,
    HandshakeTimeout,
    NotConnected,
    ProtocolVersion,
    Role,
    Session,
    SessionEstablished,
)
from mediapeer.dtls.registry import HandshakeType
from tests.fuzz.configurations import Meeting
from tests.fuzz.insider import tampering
from tests.fuzz.target import require, retained_bytes

LABEL = b"EXPERIMENTAL mediapeer"
MAXIMUM_DATAGRAMS_AT_ONCE = 64
"What one datagram or one time-out may make an end send: a flight in small datagrams, and something to spare."
MAXIMUM_RETAINED_BYTES = 160_000
"Reassembly, records held, data held, a flight; each of them may be full. An idle end keeps some 20,000."
UNDER_WAY = 256
"How many datagrams may be under way to one end; the path loses what is more."
TALK = 2_000
"How many datagrams each end may be delivered without time passing before both have to fall silent."
SETTLED_AFTER = 2_000.0
MAXIMUM_TIMEOUTS = 300
"""In how many time-outs an end must come to rest that is left alone: a dozen for each of a few flights, and those
that let go of keys."""


def other(role: Role) -> Role:
    """The role of the peer."""
    return Role.SERVER if role is Role.CLIENT else Role.CLIENT


class End:
    """One end and what is known of it."""

    def __init__(self, role: Role, scene: "Scene", now: float, peer_said: set[int]) -> None:
        self.role = role
        self.peer_said = peer_said
        "The types of all handshake messages that the peer has sent."
        self.configuration = scene.configurations[role]
        session = scene.session if role is Role.CLIENT else None
        self.connection = DtlsConnection(self.configuration, role, now, session)
        self.inbox: deque[bytes] = deque(maxlen=UNDER_WAY)
        self.sent: list[bytes] = []
        "Every datagram it has sent."
        self.events: list[Event] = []
        self.may_arrive: Counter[bytes] = Counter()
        "Data that the peer has sealed for it and that has not come out."
        self.completed: HandshakeCompleted | None = None
        self.sessions: list[Session] = []
        self.keying_material: bytes | None = None
        self.is_over = False

    def note(self, event: Event) -> None:
        """Take an event, and see that it may come now."""
        require(not self.is_over, f"{self.role}: {event} comes after the end")
        self.events.append(event)
        match event:
            case HandshakeCompleted():
                require(self.completed is None, f"{self.role}: a second HandshakeCompleted")
                self.completed = event
                self._check_what_was_needed()
                if self.connection.is_connected:  # it may have ended in the same datagram
                    self.keying_material = self.connection.export_keying_material(LABEL, b"", 32)
            case SessionEstablished(session):
                require(self.role is Role.CLIENT, f"{self.role}: is given a session")
                require(self.completed is not None, f"{self.role}: a session before HandshakeCompleted")
                self.sessions.append(session)
                stored = session.serialize()
                require(Session.parse(stored).serialize() == stored, "a session is not stored as it is")
            case ApplicationData(data):
                require(self.completed is not None, f"{self.role}: data before HandshakeCompleted")
                require(self.may_arrive[data] > 0, f"{self.role}: data that the peer did not send: {data!r}")
                self.may_arrive[data] -= 1
            case ConnectionClosed():
                require(self.completed is not None, f"{self.role}: closed before HandshakeCompleted")
                self.is_over = True
            case ConnectionFailed(error):
                require(error is self.connection.error, f"{self.role}: the error is not kept")
                require(
                    error.alert is not AlertDescription.INTERNAL_ERROR or isinstance(error, AlertReceived),
                    f"{self.role}: a mistake of its own: {error}",
                )
                self.is_over = True

    def _check_what_was_needed(self) -> None:
        """No message that proves who the peer is can be left out, whatever the peer does."""
        connection = self.connection
        shown = connection.peer_certificate_chain or connection.peer_raw_public_key
        required = self.configuration.client_authentication is ClientAuthentication.REQUIRED
        knows_key = bool(connection.pre_shared_key_identity)
        if connection.is_connected and not knows_key and (self.role is Role.CLIENT or required):
            require(shown, f"{self.role}: connected to nobody")
        needed = {HandshakeType.FINISHED}
        needed |= {HandshakeType.CLIENT_HELLO if self.role is Role.SERVER else HandshakeType.SERVER_HELLO}
        if shown and not connection.is_resumed:
            is_server_of_12 = self.role is Role.CLIENT and connection.version is ProtocolVersion.DTLS_1_2
            proof = HandshakeType.SERVER_KEY_EXCHANGE if is_server_of_12 else HandshakeType.CERTIFICATE_VERIFY
            needed |= {HandshakeType.CERTIFICATE, proof}
        require(needed <= self.peer_said, f"{self.role}: connected without {needed - self.peer_said}")

    def check(self) -> None:
        """What its properties say must fit what its events have said."""
        connection = self.connection
        failed = bool(self.events) and isinstance(self.events[-1], ConnectionFailed)
        require(failed == (connection.error is not None), f"{self.role}: error and event differ")
        require(
            not connection.is_connected or (self.completed is not None and not self.is_over),
            f"{self.role}: connected without its handshake, or after its end",
        )
        require(not self.is_over or connection.next_timeout() is None, f"{self.role}: a timer after the end")
        try:
            material = connection.export_keying_material(LABEL, b"", 32)
            require(material == self.keying_material, f"{self.role}: the exporter changes its mind")
            require(connection.is_connected, f"{self.role}: exports, and is not connected")
        except NotConnected:
            require(not connection.is_connected, f"{self.role}: connected, and exports nothing")
        self.check_size()

    def check_size(self) -> None:
        """What it keeps is bounded."""
        kept = retained_bytes(self.connection, shared=[self.configuration])
        require(kept <= MAXIMUM_RETAINED_BYTES, f"{self.role}: keeps {kept} bytes")


@dataclass
class Scene:
    """What two ends bring along to a duel: their configurations, and a session when they have met before."""

    configurations: Mapping[Role, DtlsConfiguration]
    is_repeatable: bool
    session: Session | None = None

    @classmethod
    def of(cls, meeting: Meeting, generator: random.Random) -> "Scene":
        """Make ready, which may take an earlier handshake.

        :param generator: where all randomness comes from.
        """
        configurations = {role: meeting.configuration(role, generator) for role in Role}
        scene = cls(configurations, meeting.is_repeatable)
        if meeting.is_second:
            with tampering(Role.CLIENT, []) as said:
                earlier = Duel(scene, said, now=900.0)
                earlier.pump(TALK)
            scene.session = earlier.ends[Role.CLIENT].sessions[0]
        return scene


class Duel:
    """A client and a server on a path where the caller does what he likes.

    :param scene: what both bring along.
    :param said: the types of handshake message that each side has sent, as :func:`tampering` knows them.
    """

    def __init__(self, scene: Scene, said: Mapping[Role, set[int]], now: float = 1000.0) -> None:
        self.said = said
        self.now = now
        self.is_honest = True
        "Whether both ends do what the engine means to. The path may do anything all the same."
        self.log: list[tuple[object, ...]] = []
        "What happened, to be compared with another time."
        self._is_repeatable = scene.is_repeatable
        self.ends = {role: End(role, scene, now, said[other(role)]) for role in Role}
        for end in self.ends.values():
            self.collect(end)

    # What can be done

    def receive(self, end: End, datagram: bytes) -> None:
        """Have a datagram arrive at an end."""
        end.connection.receive_datagram(datagram, self.now)
        self.collect(end)

    def deliver(self, end: End) -> bool:
        """Have the oldest datagram under way arrive; false when there is none."""
        if not end.inbox:
            return False
        self.receive(end, end.inbox.popleft())
        return True

    def pump(self, limit: int) -> None:
        """Deliver what is under way, and what comes of it, without time passing."""
        for _ in range(limit):
            delivered = [self.deliver(end) for end in self.ends.values()]
            if not any(delivered):
                return

    def close(self, end: End) -> None:
        """Have an end close the association."""
        end.connection.close()
        end.is_over = True
        self.collect(end)

    def next_timeout(self) -> float:
        """When the next timer fires of either end; infinity for never."""
        timeouts = [end.connection.next_timeout() for end in self.ends.values()]
        nearest = min((t for t in timeouts if t is not None), default=math.inf)
        require(not math.isnan(nearest) and nearest > -math.inf, f"time-outs at {timeouts}")
        return nearest

    def advance(self, now: float) -> None:
        """Let time pass until ``now``, and each timer fire when it is due."""
        for _ in range(MAXIMUM_TIMEOUTS):
            nearest = self.next_timeout()
            if nearest > now:
                break
            self.now = max(self.now, nearest)
            for end in self.ends.values():
                self._fire(end)
        else:
            require(False, f"timers fire for ever: the next at {nearest} of {now}")
        self.now = max(self.now, now)

    def collect(self, end: End) -> None:
        """Take what an end has to say after each call of it."""
        datagrams = end.connection.datagrams_to_send()
        require(
            len(datagrams) <= MAXIMUM_DATAGRAMS_AT_ONCE, f"{end.role}: {len(datagrams)} datagrams at once"
        )
        for datagram in datagrams:
            require(datagram, f"{end.role}: an empty datagram")
            end.sent.append(datagram)
            self.ends[other(end.role)].inbox.append(datagram)
            self.log.append((end.role, datagram if self._is_repeatable else len(datagram)))
        while (event := end.connection.next_event()) is not None:
            end.note(event)
            self.log.append((end.role, repr(event)))
        self.log.append((end.role, end.connection.next_timeout()))
        self._check_agreement(end)

    def _fire(self, end: End) -> None:
        due = end.connection.next_timeout()
        if due is None or due > self.now:
            return
        end.connection.handle_timeout(self.now)
        self.collect(end)
        after = end.connection.next_timeout()
        require(
            after is None or after > self.now, f"{end.role}: the time-out at {due} stays due at {self.now}"
        )

    # What must hold

    def _check_agreement(self, end: End) -> None:
        """Between honest ends nobody on the path can make them disagree, nor part them when they are connected."""
        if not self.is_honest:
            return
        peer = self.ends[other(end.role)]
        if end.completed is None or peer.completed is None:
            return
        require(end.completed == peer.completed, f"{end.completed} and {peer.completed}")
        if end.connection.is_connected:
            shown = end.connection.peer_certificate_chain or (end.connection.peer_raw_public_key,)
            known = [credentials.chain for credentials in peer.configuration.signing_credentials]
            require(shown in [*known, (None,)], f"{end.role}: has another certificate than the peer's")
        materials = {end.keying_material, peer.keying_material} - {None}
        require(len(materials) <= 1, "both ends export, and different keys")
        errors = [e.connection.error for e in (end, peer)]
        require(
            errors == [None, None] or any(isinstance(error, HandshakeTimeout) for error in errors),
            f"{end.role}: failed after both were connected: {errors}",
        )

    def check(self) -> None:
        """All that can be seen from outside."""
        for end in self.ends.values():
            end.check()

    def settle(self) -> None:
        """Leave both alone until nothing happens any more, which must come, and soon."""
        self.check()
        for _ in range(MAXIMUM_TIMEOUTS):
            self.pump(TALK)
            require(not any(end.inbox for end in self.ends.values()), "the two never stop talking")
            nearest = self.next_timeout()
            if nearest > self.now + SETTLED_AFTER:
                break
            self.advance(nearest)
        else:
            require(False, f"timers fire for ever: the next at {nearest} of {self.now}")
        for end in self.ends.values():
            require(end.is_over or end.completed, f"{end.role}: the handshake neither succeeds nor fails")
        self.check()
