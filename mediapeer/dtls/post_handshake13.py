"""What follows a handshake of DTLS 1.3: tickets and fresh keys (RFC 8446 §4.6, RFC 9147 §5.8.4, §8)."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from mediapeer.dtls.codec import Reader
from mediapeer.dtls.configuration import MAXIMUM_SESSION_LIFETIME, DtlsConfiguration, Role
from mediapeer.dtls.epochs import ReadEpoch13
from mediapeer.dtls.errors import PeerMisbehaved, SequenceNumbersExhausted
from mediapeer.dtls.events import Event, SessionEstablished
from mediapeer.dtls.flights import OutgoingHandshakeMessage, OutgoingMessage
from mediapeer.dtls.handshake import HandshakeResult
from mediapeer.dtls.key_schedule13 import resumption_psk
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages import HandshakeMessage
from mediapeer.dtls.messages13 import KeyUpdate, NewSessionTicket13
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.record_layer import RecordLayer
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS, AlertDescription, ExtensionType, HandshakeType
from mediapeer.dtls.resumption import seal_ticket

MAXIMUM_MESSAGE_SEQ = 2**16 - 1
MAXIMUM_EPOCH = 2**16 - 1
"Far below what would do harm (RFC 9147 §8), and still more keys than any association lives to use."
MAXIMUM_TICKETS_TAKEN = 16
"How many tickets a client hands out: a server that sends more, all its life, is not listened to."
TICKET_NONCE_LENGTH = 8


class PostHandshakeLayer(Protocol):
    """What this needs of the association."""

    counters: Counter[str]
    activity: Counter[str]
    now: float

    @property
    def records(self) -> RecordLayer:
        """The epochs of both directions."""

    @property
    def has_unanswered_flight(self) -> bool:
        """Whether something that was sent is not acknowledged yet."""

    def holds_messages(self, epoch: int) -> bool:
        """Whether pieces of further messages have come in ``epoch``."""

    def emit(self, event: Event) -> None:
        """Hand out an event."""

    def send_flight(self, messages: Sequence[OutgoingMessage], *, answered: bool) -> None:
        """Send messages until they are acknowledged."""

    def install_reader(self, epoch: ReadEpoch13) -> None:
        """Open the peer's records of this epoch from now on."""


class PostHandshake13:
    """Takes the messages that may come after a handshake, and sends ours: one flight at a time (RFC 9147 §8)."""

    def __init__(
        self,
        configuration: DtlsConfiguration,
        role: Role,
        layer: PostHandshakeLayer,
        result: HandshakeResult,
        traffic: ApplicationTraffic,
    ) -> None:
        self._configuration = configuration
        self._role = role
        self._layer = layer
        self._result = result
        self._traffic = traffic
        self._next_message_seq = result.next_message_seq
        self._waiting: deque[HandshakeMessage] = deque()
        self._key_update_under_way = False
        self._tickets_taken = 0

    @property
    def read_epoch(self) -> int:
        """The epoch in which the next message has to come."""
        return self._traffic.read_epoch

    def receive(self, message: ReassembledMessage) -> None:
        """Take the peer's next message.

        :raises PeerMisbehaved: when it is none of those that may come.
        """
        match message.handshake_type:
            case HandshakeType.KEY_UPDATE:
                self._receive_key_update(message)
            case HandshakeType.NEW_SESSION_TICKET if self._role is Role.CLIENT:
                self._receive_ticket(NewSessionTicket13.parse(message.body))
            case _:
                # CertificateRequest among them: post_handshake_auth was not offered (RFC 8446 §4.6.2).
                raise PeerMisbehaved(
                    f"the peer sent handshake message {message.handshake_type} after the handshake",
                    AlertDescription.UNEXPECTED_MESSAGE,
                )

    # Tickets (RFC 8446 §4.6.1)

    def send_tickets(self) -> None:
        """Give the client what it can resume with, if it takes that."""
        session = self._result.session
        if session is None:
            return
        hash_name = CIPHER_SUITE_PARAMETERS[session.cipher_suite].hash_name
        tickets: list[HandshakeMessage] = []
        for number in range(self._configuration.tickets_to_send):
            nonce = number.to_bytes(TICKET_NONCE_LENGTH, "big")
            secret = resumption_psk(hash_name, self._result.resumption_secret, nonce)
            ticket = seal_ticket(self._configuration, replace(session, secret=secret), self._layer.now)
            if ticket:
                age_add = int.from_bytes(self._configuration.random_bytes(4), "big")
                tickets.append(NewSessionTicket13(int(session.lifetime), age_add, nonce, ticket))
        if tickets:
            self._send(tickets)

    def _receive_ticket(self, ticket: NewSessionTicket13) -> None:
        template = self._result.session
        lifetime = min(ticket.lifetime, MAXIMUM_SESSION_LIFETIME)
        if template is None or not lifetime or self._tickets_taken >= MAXIMUM_TICKETS_TAKEN:
            return
        self._tickets_taken += 1
        hash_name = CIPHER_SUITE_PARAMETERS[template.cipher_suite].hash_name
        now = self._layer.now
        remaining = template.created_at + self._configuration.session_lifetime - now
        session = replace(
            template,
            secret=resumption_psk(hash_name, self._result.resumption_secret, ticket.nonce),
            ticket=ticket.ticket,
            age_add=ticket.age_add,
            lifetime=max(0.0, min(lifetime, remaining)),
            received_at=now,
            maximum_early_data=_maximum_early_data(ticket),
        )
        self._layer.emit(SessionEstablished(session))

    # Fresh keys (RFC 9147 §8)

    def _receive_key_update(self, message: ReassembledMessage) -> None:
        update, traffic, records = KeyUpdate.parse(message.body), self._traffic, self._layer.records
        if self._layer.holds_messages(traffic.read_epoch):
            raise PeerMisbehaved(
                "the peer sends more in an epoch after its KeyUpdate", AlertDescription.UNEXPECTED_MESSAGE
            )
        if traffic.read_epoch >= MAXIMUM_EPOCH:
            raise PeerMisbehaved("the peer changes its keys too often", AlertDescription.UNEXPECTED_MESSAGE)
        records.retire_reader(traffic.read_epoch, traffic.read_epoch + 1)
        traffic.update_reader()
        self._layer.install_reader(traffic.reader(self._layer.counters))
        self._layer.activity["key_updates_received"] += 1
        if update.update_requested:
            # One that is under way answers this too: our keys change when it is acknowledged (RFC 8446 §4.6.3).
            self.update_keys(request_peer=False)

    def update_keys(self, *, request_peer: bool) -> None:
        """Send a KeyUpdate, or do so when what is under way is acknowledged; while one is under way, that will do.

        :raises SequenceNumbersExhausted: when there is no number left for the message.
        """
        if self._key_update_under_way:
            return
        update = KeyUpdate(request_peer)
        if not self._layer.has_unanswered_flight:
            self._send([update])
        elif (waiting := self._waiting_key_update) is None:
            self._waiting.append(update)
        elif update.update_requested and not waiting.update_requested:
            self._waiting[self._waiting.index(waiting)] = update

    def update_keys_before_the_limit(self) -> None:
        """Change keys because these have sealed enough; said once, however much is sent meanwhile."""
        if not self._key_update_under_way and self._waiting_key_update is None:
            self.update_keys(request_peer=False)

    @property
    def _waiting_key_update(self) -> KeyUpdate | None:
        return next((message for message in self._waiting if isinstance(message, KeyUpdate)), None)

    def flight_acknowledged(self) -> None:
        """The peer has what was sent: new keys take effect, and the next message may go."""
        traffic, records = self._traffic, self._layer.records
        if self._key_update_under_way:
            self._key_update_under_way = False
            records.drop_writer(traffic.write_epoch)
            traffic.update_writer()
            records.install_writer(traffic.writer())
            records.switch_writer(traffic.write_epoch)
        if self._waiting:
            self._send([self._waiting.popleft()])

    def _send(self, messages: Sequence[HandshakeMessage]) -> None:
        if self._traffic.write_epoch >= MAXIMUM_EPOCH and any(isinstance(m, KeyUpdate) for m in messages):
            raise SequenceNumbersExhausted("keys were changed too often")
        epoch = self._layer.records.writer.number
        flight = []
        for message in messages:
            if self._next_message_seq > MAXIMUM_MESSAGE_SEQ:
                raise SequenceNumbersExhausted("there is no number left for a handshake message")
            flight.append(
                OutgoingHandshakeMessage(
                    epoch, message.handshake_type, self._next_message_seq, message.serialize()
                )
            )
            self._next_message_seq += 1
            if isinstance(message, KeyUpdate):
                self._key_update_under_way = True
                self._layer.activity["key_updates_sent"] += 1
        self._layer.send_flight(flight, answered=True)


def _maximum_early_data(ticket: NewSessionTicket13) -> int:
    """How much 0-RTT data the server would take (RFC 8446 §4.6.1)."""
    body = ticket.extensions.get(ExtensionType.EARLY_DATA)
    if body is None:
        return 0
    reader = Reader(body)
    maximum = int.from_bytes(reader.take(4), "big")
    reader.end()
    return maximum
