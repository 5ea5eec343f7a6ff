"""What goes on inside an association: records in, messages to the handshake, flights and ACKs out.

:class:`~mediapeer.dtls.connection.DtlsConnection` is its face.
"""

import enum
import functools
from collections import Counter, deque
from collections.abc import Sequence

from mediapeer.dtls.acks import AckSchedule
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.epochs import ReadEpoch12, ReadEpoch13, WriteEpoch
from mediapeer.dtls.errors import (
    AlertReceived,
    DecodeError,
    DtlsError,
    PeerMisbehaved,
)
from mediapeer.dtls.events import (
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeCompleted,
    SessionEstablished,
)
from mediapeer.dtls.flights import Flight, OutgoingMessage
from mediapeer.dtls.handshake import Handshake, HandshakeResult
from mediapeer.dtls.messages13 import RecordNumber, parse_ack
from mediapeer.dtls.post_handshake13 import PostHandshake13
from mediapeer.dtls.reassembly import (
    HandshakeFragment,
    HandshakeReassembler,
    ReassembledMessage,
    parse_fragments,
)
from mediapeer.dtls.record import (
    MAXIMUM_PLAINTEXT_LENGTH,
    UNIFIED_HEADER_EPOCH_MASK,
    Record,
    UnifiedRecord,
)
from mediapeer.dtls.record_layer import INITIAL_EPOCH, RecordLayer
from mediapeer.dtls.registry import (
    AlertDescription,
    AlertLevel,
    ContentType,
    HandshakeType,
    ProtocolVersion,
)
from mediapeer.dtls.transmission import NOTHING_ANSWERED, FlightTransmission

MAXIMUM_HELD_DATA = 16
"How many pieces of data that overtook the handshake's end are kept."
MAXIMUM_HELD_DATA_BYTES = 8_192
MAXIMUM_ALERT_REPEATS = 8
"How often a peer that goes on after our fatal alert is told again, in case the alert was lost."
MAXIMUM_REFUSED_RENEGOTIATIONS = 3
#: A plain integer, which compares and packs faster than a member of an enum; this is for each record.
APPLICATION_DATA = int(ContentType.APPLICATION_DATA)
_EPOCH_12 = 1  # the epoch of protected records in DTLS 1.2
_HANDSHAKE_EPOCH_13 = 2


class AssociationState(enum.Enum):
    """Where an association is in its life."""

    HANDSHAKING = "handshaking"
    CONNECTED = "connected"
    CLOSED = "closed"
    FAILED = "failed"


class Association:
    """The state of one end, and what each record does to it. Everything here is for the subclass."""

    def __init__(
        self,
        configuration: DtlsConfiguration,
        role: Role,
        now: float,
        first_message_seq: int,
        first_sequence_number: int,
    ) -> None:
        self.role = role
        self.error: DtlsError | None = None
        "Why the association failed, or ``None``."
        self.counters: Counter[str] = Counter()
        "What was dropped, by reason."
        self.activity: Counter[str] = Counter()
        "What was done beyond the plain course: ``retransmissions``, ``acks_sent``, ``key_updates_sent``, …."
        self.now = now
        "When the latest call came, in seconds of the caller's clock."
        self._configuration = configuration
        self._state = AssociationState.HANDSHAKING
        self._is_over = False  # closed or failed; read for each record
        self._is_13 = False
        self._result: HandshakeResult | None = None
        self._handshake: Handshake | None = None
        self._events: deque[Event] = deque()
        self._datagrams: list[bytes] = []
        self._records = RecordLayer(self.counters, first_sequence_number)
        self._maximum_received = MAXIMUM_PLAINTEXT_LENGTH
        self._saw_authentic_record = False
        self._held_data: list[bytes] = []
        self._change_cipher_spec_received = False
        self._reassembler = HandshakeReassembler(configuration.maximum_handshake_message_size)
        self._reassembler.next_message_seq = first_message_seq
        self._acks = AckSchedule(configuration.initial_retransmission_timeout / 4)
        self._transmission = FlightTransmission(configuration, now, self._transmit, self.activity)
        self._post_handshake: PostHandshake13 | None = None
        self._fatal_alert = b""
        self._alert_repeats = 0
        self._refused_renegotiations = 0

    # Records

    def _receive_record(self, record: Record | UnifiedRecord) -> None:
        opened = self._records.open(record, self.now, self._may_become_readable)
        if opened is None:
            if self._misses_server_hello and self._records.is_holding_unified:
                # What makes their keys is late or lost. An empty ACK tells the server so (RFC 9147 §7.1).
                self._acks.expect_more(self.now)
            return
        epoch, content_type, sequence_number, plaintext = opened
        if epoch == INITIAL_EPOCH:
            self._receive_unprotected(content_type, sequence_number, plaintext)
        else:
            self._receive_protected(epoch, content_type, sequence_number, plaintext)

    def _may_become_readable(self, record: Record | UnifiedRecord) -> bool:
        """Whether a record without keys is worth keeping until they come."""
        if isinstance(record, UnifiedRecord):
            if self._post_handshake is not None:
                next_epoch = self._post_handshake.read_epoch + 1
                return record.header[0] & UNIFIED_HEADER_EPOCH_MASK == next_epoch & UNIFIED_HEADER_EPOCH_MASK
            # A server's keys come of the ClientHello; only a client can be sent what it has no keys for yet.
            return self._is_13 or (self.role is Role.CLIENT and self._may_be_13)
        is_under_way = self._handshake is not None and (self.role is Role.CLIENT or self._handshake.version)
        return bool(is_under_way) and record.epoch == _EPOCH_12

    @property
    def _misses_server_hello(self) -> bool:
        """Whether a client waits for what tells it the version."""
        is_early = self._handshake is not None and self._handshake.read_epoch == INITIAL_EPOCH
        return self.role is Role.CLIENT and is_early

    @property
    def _is_surely_13(self) -> bool:
        """Whether the version is settled, be it by a HelloRetryRequest."""
        handshake = self._handshake
        return self._is_13 or (handshake is not None and handshake.version is ProtocolVersion.DTLS_1_3)

    @property
    def _may_be_13(self) -> bool:
        """Whether this is DTLS 1.3, or may become it: no version is chosen yet, and 1.3 is spoken."""
        is_open = self._handshake is not None and self._handshake.version is None
        return self._is_surely_13 or (is_open and ProtocolVersion.DTLS_1_3 in self._configuration.versions)

    def _receive_unprotected(self, content_type: int, sequence_number: int, plaintext: bytes) -> None:
        """A record of epoch 0. Nobody vouches for it: what does not fit is dropped."""
        if len(plaintext) > MAXIMUM_PLAINTEXT_LENGTH:
            self.counters["malformed_records"] += 1
            return
        match content_type:
            case ContentType.HANDSHAKE:
                self._receive_handshake(INITIAL_EPOCH, sequence_number, plaintext)
            case ContentType.CHANGE_CIPHER_SPEC if plaintext == b"\x01":
                # It may overtake what comes before it; it takes effect when its turn has come. In 1.3 it has none.
                self._trace(False, ContentType.CHANGE_CIPHER_SPEC, plaintext)
                self._change_cipher_spec_received = True
                self._advance_handshake()
            case ContentType.ALERT if len(plaintext) == 2 and not self._saw_authentic_record:
                self._receive_alert(*plaintext)
            case ContentType.ACK if self._is_surely_13:
                self._receive_ack(INITIAL_EPOCH, plaintext)
            case _:
                self.counters["unexpected_unprotected_records"] += 1

    def _receive_protected(
        self, epoch: int, content_type: int, sequence_number: int, plaintext: bytes
    ) -> None:
        """An authentic record: what does not fit is the peer's fault."""
        # An ACK may go before the peer has heard of a limit that came in the flight it acknowledges.
        limit = MAXIMUM_PLAINTEXT_LENGTH if content_type == ContentType.ACK else self._maximum_received
        if len(plaintext) > limit:
            raise PeerMisbehaved("a record of the peer is too long", AlertDescription.RECORD_OVERFLOW)
        if content_type == APPLICATION_DATA and epoch != _HANDSHAKE_EPOCH_13:
            if self._result is not None:
                self._events.append(ApplicationData(plaintext))
            else:
                self._hold_data(plaintext)
            return
        if not self._saw_authentic_record:
            self._saw_authentic_record = True
            if self._is_13:
                self._reassembler.drop_epoch(INITIAL_EPOCH)
        match content_type:
            case ContentType.HANDSHAKE:
                if self._handshake is not None:
                    self._handshake.peer_goes_on()
                self._receive_handshake(epoch, sequence_number, plaintext)
            case ContentType.ALERT:
                if len(plaintext) != 2:
                    raise DecodeError("an alert does not have two bytes")
                self._receive_alert(*plaintext)
            case ContentType.ACK if self._is_13:
                self._receive_ack(epoch, plaintext)
            case _:
                raise PeerMisbehaved(
                    f"the peer sent a record of type {content_type} in epoch {epoch}",
                    AlertDescription.UNEXPECTED_MESSAGE,
                )

    def _release_held_records(self) -> None:
        """Look again at what had no keys. Never inside a message: these may hold the next ones."""
        if self._records.is_holding:
            for record in self._records.take_held():
                self._receive_record(record)

    def _hold_data(self, data: bytes) -> None:
        """Keep data that overtook the peer's Finished; none is delivered before the peer is known."""
        held = self._held_data
        if len(held) < MAXIMUM_HELD_DATA and sum(map(len, held)) + len(data) <= MAXIMUM_HELD_DATA_BYTES:
            held.append(data)
        else:
            self.counters["early_data_dropped"] += 1

    def _receive_alert(self, level: int, description: int) -> None:
        self._trace(False, ContentType.ALERT, bytes([level, description]))
        if description == AlertDescription.CLOSE_NOTIFY:
            if self._state is AssociationState.CONNECTED:
                self._end(AssociationState.CLOSED, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
                self._events.append(ConnectionClosed())
            else:
                self._fail(AlertReceived(description))
        elif level not in (AlertLevel.WARNING, AlertLevel.FATAL) and self._saw_authentic_record:
            raise PeerMisbehaved(f"an alert has level {level}", AlertDescription.ILLEGAL_PARAMETER)
        elif level == AlertLevel.FATAL or (self._is_13 and description != AlertDescription.USER_CANCELED):
            # In DTLS 1.3 the level says nothing (RFC 8446 §6).
            self._fail(AlertReceived(description))
        else:
            self.counters["warning_alerts"] += 1

    def _receive_after_end(self) -> None:
        self.counters["datagrams_after_the_end"] += 1
        if self._fatal_alert and self._alert_repeats < MAXIMUM_ALERT_REPEATS:
            self._alert_repeats += 1
            self._send_alert(self._fatal_alert)

    # Handshake messages

    def _receive_handshake(self, epoch: int, sequence_number: int, plaintext: bytes) -> None:
        try:
            fragments = parse_fragments(plaintext)
        except DecodeError:
            if epoch != INITIAL_EPOCH:
                raise
            self.counters["malformed_records"] += 1
            return
        number = RecordNumber(epoch, sequence_number)
        is_kept = is_new = True
        for fragment in fragments:
            if fragment.message_seq < self._reassembler.next_message_seq:
                self._receive_repeated_fragment(epoch, fragment, number)
                is_new = False
            elif self._result is not None and not self._is_13:
                self._refuse_renegotiation(fragment)
            elif not self._takes_fragments_of(epoch) or not self._reassembler.add(epoch, fragment):
                self.counters["fragments_dropped"] += 1
                is_kept = False
        if is_kept and is_new:
            self._note_new_record(epoch, number)
        self._advance_handshake()

    def _note_new_record(self, epoch: int, number: RecordNumber) -> None:
        """All of a handshake record is here: only such a one may be acknowledged (RFC 9147 §7)."""
        if not self._may_be_13:
            return
        self._acks.note(number)
        if self._is_13:
            self._acks.expect_more(self.now)
        if self._handshake is None or self._transmission.is_done:
            return
        # A part of the peer's next flight says that it has the whole of ours (RFC 9147 §7.1), if it is the peer's. A
        # server that was deceived is asked again by the client's own timer; a client would wait for ever.
        if epoch != INITIAL_EPOCH:
            self.forget_flight()
        elif self.role is Role.SERVER and self._is_13:
            self._transmission.timer.stop()

    def _takes_fragments_of(self, epoch: int) -> bool:
        """Whether a new message may come in ``epoch``: not in one that the handshake has left behind.

        Whoever still sends unprotected messages then is not the peer.
        """
        if epoch == INITIAL_EPOCH:
            return self._handshake is not None and self._handshake.read_epoch == INITIAL_EPOCH
        if self._post_handshake is not None and epoch < self._post_handshake.read_epoch:
            raise PeerMisbehaved(
                "the peer sends more in an epoch than the last message of it",
                AlertDescription.UNEXPECTED_MESSAGE,
            )
        return True

    def _advance_handshake(self) -> None:
        while self._handshake is not None:
            epoch = self._handshake.read_epoch
            if epoch == _EPOCH_12 and not self._change_cipher_spec_received:
                return
            message = self._reassembler.next_message(epoch)
            if message is None:
                self._check_epoch_of_next_message(epoch)
                return
            self._trace_message(message)
            self._handshake.receive(message)
            self._release_held_records()
        if self._post_handshake is not None:
            self._advance_post_handshake(self._post_handshake)

    def _check_epoch_of_next_message(self, epoch: int) -> None:
        """Refuse an authentic message that comes where an unprotected one is due: the peer skipped something."""
        if epoch == INITIAL_EPOCH and self._reassembler.next_message(_EPOCH_12) is not None:
            raise PeerMisbehaved(
                "the peer protects a message before it is due", AlertDescription.UNEXPECTED_MESSAGE
            )

    def _receive_repeated_fragment(
        self, epoch: int, fragment: HandshakeFragment, number: RecordNumber
    ) -> None:
        """Something came again that we have dealt with: what we said to it was lost.

        If that was a flight, it is sent again when the end of what it answers comes (RFC 6347 §4.2.4). If it was an
        ACK, another one follows (RFC 9147 §7.1). After the handshake only authentic records get here.
        """
        sent = self._transmission
        if not sent.is_done and fragment.message_seq <= sent.answers:
            says_something = bool(fragment.data) or not fragment.length
            if fragment.message_seq == sent.answers and fragment.is_last and says_something:
                sent.flight.disregard_acknowledgements_of(INITIAL_EPOCH)
                # In 1.2 only this brings the last flight again; in 1.3 there is a timer on every one.
                may_be_anybody = self._is_13 or epoch == INITIAL_EPOCH
                sent.retransmit_on_demand(self.now, is_paced=may_be_anybody)
        elif self._is_13 and self._result is not None:
            self._acks.note(number)
            self._acknowledge_soon()

    def _acknowledge_soon(self) -> None:
        """Tell the peer what has come after the handshake: at once, or when the timer says so."""
        if self._configuration.is_eager and not self._reassembler.is_holding:
            self._acks.hurry(self.now)
        else:
            self._acks.expect_more(self.now)

    def _refuse_renegotiation(self, fragment: HandshakeFragment) -> None:
        """Another handshake inside an association of DTLS 1.2: that is not done (RFC 5746 §4.5)."""
        wish = HandshakeType.HELLO_REQUEST if self.role is Role.CLIENT else HandshakeType.CLIENT_HELLO
        if fragment.handshake_type != wish:
            raise PeerMisbehaved(
                f"the peer sent handshake message {fragment.handshake_type} after the handshake",
                AlertDescription.UNEXPECTED_MESSAGE,
            )
        self.counters["renegotiations_refused"] += 1
        if self._refused_renegotiations < MAXIMUM_REFUSED_RENEGOTIATIONS:
            self._refused_renegotiations += 1
            self._send_alert(bytes([AlertLevel.WARNING, AlertDescription.NO_RENEGOTIATION]))

    # After the handshake of DTLS 1.3: PostHandshakeLayer

    def _advance_post_handshake(self, post_handshake: PostHandshake13) -> None:
        while (message := self._reassembler.next_message(post_handshake.read_epoch)) is not None:
            self._acknowledge_soon()
            self._trace_message(message)
            post_handshake.receive(message)
            self._release_held_records()

    @property
    def records(self) -> RecordLayer:
        """For what follows the handshake: the epochs of both directions."""
        return self._records

    @property
    def has_unanswered_flight(self) -> bool:
        """For what follows the handshake: whether something that was sent is not acknowledged yet."""
        return not self._transmission.is_done

    def holds_messages(self, epoch: int) -> bool:
        """For what follows the handshake: whether pieces of further messages have come in ``epoch``."""
        return self._reassembler.holds(epoch)

    def emit(self, event: Event) -> None:
        """For what follows the handshake: hand out an event."""
        self._events.append(event)

    def _flight_acknowledged(self) -> None:
        self._transmission.timer.stop()
        if self._post_handshake is not None:
            self._post_handshake.flight_acknowledged()

    # ACKs (RFC 9147 §7)

    def _receive_ack(self, epoch: int, plaintext: bytes) -> None:
        try:
            numbers = parse_ack(plaintext)
        except DecodeError:
            if epoch != INITIAL_EPOCH:
                raise
            self.counters["malformed_records"] += 1
            return
        self._trace(False, ContentType.ACK, plaintext)
        sent = self._transmission
        if sent.is_done:
            return
        if epoch == INITIAL_EPOCH:
            # Nobody vouches for it, so it speaks of unprotected records only.
            numbers = tuple(n for n in numbers if n.epoch == INITIAL_EPOCH)
        progress = sent.acknowledge(numbers)
        if sent.is_done and epoch != INITIAL_EPOCH:
            self._flight_acknowledged()
        elif sent.is_done:
            # Nobody vouches for that either. A server can wait: the client's timer brings the ClientHello again, and
            # with it all of the flight. A client that waited for a forger's word would wait for ever.
            sent.flight.disregard_acknowledgements()
            if self.role is Role.SERVER:
                sent.timer.stop()
        elif progress:
            sent.note_progress(self.now, is_eager=self._configuration.is_eager)
        elif not numbers:
            sent.retransmit_on_demand(self.now)

    @property
    def _may_send_acks(self) -> bool:
        """Whether the peer surely speaks DTLS 1.3: that was settled, or its records already look like it."""
        return self._is_13 or self._records.is_holding_unified

    def _send_due_ack(self) -> None:
        granularity = self._configuration.timer_granularity
        if not self._may_send_acks or not self._acks.is_due(self.now + granularity):
            return
        writer = self._records.writer
        room = min(self._transmission.mtu - writer.overhead, writer.maximum_plaintext)
        if self._acks.is_empty and not self._misses_server_hello:
            self._acks.deadline = None  # what was to be named was not kept
            return
        for body in self._acks.take(room, in_full=self._configuration.is_eager):
            self._trace(True, ContentType.ACK, body)
            self._datagrams.append(writer.seal(ContentType.ACK, body))
        self.activity["acks_sent"] += 1

    # What a handshake asks for: HandshakeLayer

    def send_flight(self, messages: Sequence[OutgoingMessage], *, answered: bool) -> None:
        """For the handshake: send a flight, and again until it is answered, or as the last one on demand."""
        answers = NOTHING_ANSWERED
        if self._result is None:
            # It answers the peer's flight, and tells that that has come. What follows the handshake does not.
            answers = self._reassembler.next_message_seq - 1
            self._acks.forget()
        self._transmission.send(messages, self.now, answers=answers, is_answered=answered)

    def forget_flight(self) -> None:
        """For the handshake: the latest flight was answered, and will not be asked for again."""
        self._transmission.forget()

    def install_reader(self, epoch: ReadEpoch12 | ReadEpoch13) -> None:
        """For the handshake: open the peer's records of this epoch from now on."""
        self._records.install_reader(epoch)

    def install_writer(self, epoch: WriteEpoch) -> None:
        """For the handshake: make an epoch of ours known, for flights to be sent in."""
        self._records.install_writer(epoch)

    def switch_writer(self, number: int) -> None:
        """For the handshake: write alerts and data in this epoch from now on."""
        self._records.switch_writer(number)

    def limit_records(self, size: int) -> None:
        """For the handshake: put at most ``size`` bytes into a protected record from now on (RFC 8449 §4)."""
        self._records.limit_plaintext(size)
        # The peer has said so because we did, and heeds what we said. In 1.3 that counts the content type too.
        ours = self._configuration.record_size_limit
        if ours is not None:
            self._maximum_received = ours - 1 if self._is_13 else ours

    def continue_with(self, handshake: Handshake) -> None:
        """For the hellos: the version is chosen, and this is its handshake."""
        self._handshake = handshake
        self._is_13 = handshake.version is ProtocolVersion.DTLS_1_3
        if not self._is_13:
            self._records.take_held()  # what looked like DTLS 1.3 was none
            self._acks.forget()

    def handshake_completed(self, result: HandshakeResult) -> None:
        """For the handshake: it is done."""
        self._result = result
        self._state = AssociationState.CONNECTED
        self._handshake = None
        self._records.drop_reader(INITIAL_EPOCH)
        if result.traffic is not None:
            self._post_handshake = PostHandshake13(
                self._configuration, self.role, self, result, result.traffic
            )
            self._records.retire_reader(_HANDSHAKE_EPOCH_13, _HANDSHAKE_EPOCH_13 + 1)
            if self._reassembler.holds(_HANDSHAKE_EPOCH_13):
                raise PeerMisbehaved(
                    "the peer sends more than its last flight", AlertDescription.UNEXPECTED_MESSAGE
                )
            if self.role is Role.SERVER:
                # No flight of ours tells the client that its last one has come; what follows may.
                self._acks.hurry(self.now)
                self._send_due_ack()
        else:
            self._acks.forget()
            self._check_nothing_follows()
        self._reassembler.clear()
        self._events.append(
            HandshakeCompleted(
                result.version,
                result.cipher_suite,
                result.group,
                result.srtp_profile,
                result.alpn_protocol,
                result.is_resumed,
            )
        )
        held, self._held_data = self._held_data, []
        self._events.extend(map(ApplicationData, held))
        if result.version is ProtocolVersion.DTLS_1_2:
            if self.role is Role.CLIENT and result.session is not None:
                self._events.append(SessionEstablished(result.session))
        elif self._post_handshake is not None and self.role is Role.SERVER:
            self._post_handshake.send_tickets()

    def _check_nothing_follows(self) -> None:
        """Refuse what has come of further messages in the epoch of DTLS 1.2 whose last one is Finished."""
        if self._reassembler.holds(_EPOCH_12):
            raise PeerMisbehaved(
                "the peer sends more than its last flight", AlertDescription.UNEXPECTED_MESSAGE
            )

    def _transmit(self, flight: Flight, mtu: int) -> None:
        trace = functools.partial(self._trace, True) if self._configuration.trace is not None else None
        self._datagrams += flight.pack(self._records.writers, mtu, trace)

    def _trace_message(self, message: ReassembledMessage) -> None:
        if self._configuration.trace is not None:
            self._trace(False, ContentType.HANDSHAKE, message.serialize())

    def _trace(self, is_sent: bool, content_type: int, plaintext: bytes) -> None:
        if self._configuration.trace is not None:
            self._configuration.trace(is_sent, content_type, plaintext)

    # The end

    def _fail(self, error: DtlsError) -> None:
        # What led here holds frames, and they hold secrets: the error is kept, they are not.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        self.error = error
        session, cache = self._result.session if self._result else None, self._configuration.session_cache
        if session is not None and session.session_id and cache is not None and self.role is Role.SERVER:
            cache.remove(session.session_id)  # it is not to be resumed any more (RFC 5246 §7.2.2)
        if error.alert is None or isinstance(error, AlertReceived):
            self._end(AssociationState.FAILED)
        else:
            self._end(AssociationState.FAILED, AlertLevel.FATAL, error.alert)
        self._events.append(ConnectionFailed(error))

    def _end(
        self,
        state: AssociationState,
        level: AlertLevel | None = None,
        description: AlertDescription | None = None,
    ) -> None:
        """Leave for good: say so if there is something to say, and drop every secret."""
        if level is not None and description is not None:
            alert = bytes([level, description])
            self._send_alert(alert)
            if level is AlertLevel.FATAL:
                self._fatal_alert = alert
        self._state = state
        self._is_over = True
        self._transmission.forget()
        self._acks.forget()
        self._handshake = None
        self._post_handshake = None
        self._records.close(may_repeat_alert=bool(self._fatal_alert))
        self._held_data.clear()
        self._reassembler.clear()
        if state is AssociationState.FAILED:
            self._result = None
        elif self._result is not None:
            self._result = self._result.without_secrets()

    def _send_alert(self, alert: bytes) -> None:
        self._trace(True, ContentType.ALERT, alert)
        try:
            self._datagrams.append(self._records.writer.seal(ContentType.ALERT, alert))
        except DtlsError:
            self.counters["alerts_not_sent"] += 1  # the epoch has no sequence number left
