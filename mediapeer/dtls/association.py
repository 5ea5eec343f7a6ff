"""What goes on inside an association: records in, messages to the handshake, flights and ACKs out.

:class:`~mediapeer.dtls.connection.DtlsConnection` is its face.
"""

import enum
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
    SequenceNumbersExhausted,
)
from mediapeer.dtls.events import (
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeCompleted,
)
from mediapeer.dtls.flights import Flight, OutgoingHandshakeMessage, OutgoingMessage, RetransmissionTimer
from mediapeer.dtls.handshake import Handshake, HandshakeResult
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages13 import KeyUpdate, NewSessionTicket13, RecordNumber, parse_ack
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

MAXIMUM_HELD_DATA = 16
"How many pieces of data that overtook the handshake's end are kept."
MAXIMUM_HELD_DATA_BYTES = 32_768
REASSEMBLY_MARGIN = 16_384
"How much may be held of other messages while the longest one is being put together, in bytes."
MAXIMUM_ALERT_REPEATS = 8
"How often a peer that goes on after our fatal alert is told again, in case the alert was lost."
MAXIMUM_REFUSED_RENEGOTIATIONS = 3
MAXIMUM_MESSAGE_SEQ = 2**16 - 1
MAXIMUM_DEMANDS = 12
"How often a flight is sent again because the peer repeats what it answers, besides what the timer does."

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
        self._configuration = configuration
        self._now = now
        self._state = AssociationState.HANDSHAKING
        self._is_over = False  # closed or failed; read for each record
        self._is_13 = False
        self._result: HandshakeResult | None = None
        self._handshake: Handshake | None = None
        self._events: deque[Event] = deque()
        self._datagrams: list[bytes] = []
        self._records = RecordLayer(self.counters, first_sequence_number)
        self._saw_authentic_record = False
        self._held_data: list[bytes] = []
        self._change_cipher_spec_received = False
        self._reassembler = HandshakeReassembler(
            configuration.maximum_handshake_message_size,
            configuration.maximum_handshake_message_size + REASSEMBLY_MARGIN,
        )
        self._reassembler.next_message_seq = first_message_seq
        self._acks = AckSchedule(configuration.initial_retransmission_timeout / 4)
        self._flight = Flight()
        self._flight_answers = -1
        self._flight_sent_at = now
        self._demands = 0
        self._mtu = configuration.mtu
        self._timer = RetransmissionTimer(
            configuration.initial_retransmission_timeout,
            configuration.maximum_retransmission_timeout,
            configuration.maximum_retransmissions,
        )
        self._next_message_seq = 0
        self._key_update_under_way = False
        self._key_update_wanted: KeyUpdate | None = None
        self._fatal_alert = b""
        self._alert_repeats = 0
        self._refused_renegotiations = 0

    # Records

    def _receive_record(self, record: Record | UnifiedRecord) -> None:
        opened = self._records.open(record, self._now, self._may_become_readable)
        if opened is None:
            if self._result is None and self._records.is_holding and isinstance(record, UnifiedRecord):
                # What makes its keys is late or lost. An ACK tells the peer which (RFC 9147 §7.1).
                self._acks.expect_more(self._now)
            return
        epoch, content_type, sequence_number, plaintext = opened
        if epoch == INITIAL_EPOCH:
            self._receive_unprotected(content_type, sequence_number, plaintext)
        else:
            self._receive_protected(epoch, content_type, sequence_number, plaintext)

    def _may_become_readable(self, record: Record | UnifiedRecord) -> bool:
        """Whether a record without keys is worth keeping until they come."""
        if isinstance(record, UnifiedRecord):
            traffic = self._result.traffic if self._result else None
            if traffic is not None:
                next_epoch = traffic.read_epoch + 1
                return record.header[0] & UNIFIED_HEADER_EPOCH_MASK == next_epoch & UNIFIED_HEADER_EPOCH_MASK
            # A server's keys come of the ClientHello; only a client can be sent what it has no keys for yet.
            return self._is_13 or (self.role is Role.CLIENT and self._may_be_13)
        return self._handshake is not None and record.epoch == _EPOCH_12

    @property
    def _may_be_13(self) -> bool:
        """Whether this is DTLS 1.3, or may become it: no version is chosen yet, and 1.3 is spoken."""
        if self._is_13:
            return True
        is_open = self._handshake is not None and self._handshake.version is None
        return is_open and ProtocolVersion.DTLS_1_3 in self._configuration.versions

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
                self._change_cipher_spec_received = True
                self._advance_handshake()
            case ContentType.ALERT if len(plaintext) == 2 and not self._saw_authentic_record:
                self._receive_alert(*plaintext)
            case ContentType.ACK if self._may_be_13:
                self._receive_ack(INITIAL_EPOCH, plaintext)
            case _:
                self.counters["unexpected_unprotected_records"] += 1

    def _receive_protected(
        self, epoch: int, content_type: int, sequence_number: int, plaintext: bytes
    ) -> None:
        """An authentic record: what does not fit is the peer's fault."""
        if len(plaintext) > MAXIMUM_PLAINTEXT_LENGTH:
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
        if description == AlertDescription.CLOSE_NOTIFY:
            if self._state is AssociationState.CONNECTED:
                self._end(AssociationState.CLOSED, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
                self._events.append(ConnectionClosed())
            else:
                self._fail(AlertReceived(description))
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
        is_kept = True
        for fragment in fragments:
            if fragment.message_seq < self._reassembler.next_message_seq:
                self._receive_repeated_fragment(fragment, number)
                is_kept = False
            elif self._result is not None and not self._is_13:
                self._refuse_renegotiation(fragment)
            elif not self._takes_fragments_of(epoch) or not self._reassembler.add(epoch, fragment):
                self.counters["fragments_dropped"] += 1
                is_kept = False
        if is_kept:
            self._acks.note(number, self._now)  # only what was kept may be acknowledged (RFC 9147 §7)
        self._advance_handshake()

    def _takes_fragments_of(self, epoch: int) -> bool:
        """Whether a new message may come in ``epoch``: not in one that DTLS 1.3 has left behind.

        When the peer has shown that it has keys, whoever still sends unprotected messages is not the peer.
        """
        if not self._is_13:
            return True
        if self._result is not None and self._result.traffic is not None:
            return epoch == self._result.traffic.read_epoch
        return epoch != INITIAL_EPOCH or not self._saw_authentic_record

    def _advance_handshake(self) -> None:
        while self._handshake is not None:
            epoch = self._handshake.read_epoch
            if epoch == _EPOCH_12 and not self._change_cipher_spec_received:
                return
            message = self._reassembler.next_message(epoch)
            if message is None:
                self._check_epoch_of_next_message(epoch)
                return
            self._handshake.receive(message)
            self._release_held_records()
        if self._result is not None and self._result.traffic is not None:
            self._advance_post_handshake(self._result.traffic)

    def _check_epoch_of_next_message(self, epoch: int) -> None:
        """Refuse an authentic message that comes where an unprotected one is due: the peer skipped something."""
        if epoch == INITIAL_EPOCH and self._reassembler.next_message(_EPOCH_12) is not None:
            raise PeerMisbehaved(
                "the peer protects a message before it is due", AlertDescription.UNEXPECTED_MESSAGE
            )

    def _receive_repeated_fragment(self, fragment: HandshakeFragment, number: RecordNumber) -> None:
        """Something came again that we have dealt with: what we said to it was lost.

        If that was a flight, it is sent again when the end of what it answers comes (RFC 6347 §4.2.4), at a
        bounded pace, so that nobody has us send more than a share of what we are sent. If it was an ACK, another
        one follows at once (RFC 9147 §7.1). After the handshake only authentic records get here.
        """
        if not self._flight.is_done and fragment.message_seq <= self._flight_answers:
            says_something = bool(fragment.data) or not fragment.length
            if fragment.message_seq == self._flight_answers and fragment.is_last and says_something:
                self._retransmit_on_demand()
        elif self._is_13 and self._result is not None:
            self._acks.note(number, self._now)
            self._acks.hurry(self._now)

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

    # After the handshake of DTLS 1.3

    def _advance_post_handshake(self, traffic: ApplicationTraffic) -> None:
        while (message := self._reassembler.next_message(traffic.read_epoch)) is not None:
            self._acks.hurry(self._now)
            match message.handshake_type:
                case HandshakeType.KEY_UPDATE:
                    self._receive_key_update(message, traffic)
                case HandshakeType.NEW_SESSION_TICKET if self.role is Role.CLIENT:
                    NewSessionTicket13.parse(message.body)  # taken, and not kept: sessions are not resumed
                case _:
                    # CertificateRequest among them: post_handshake_auth was not offered (RFC 8446 §4.6.2).
                    raise PeerMisbehaved(
                        f"the peer sent handshake message {message.handshake_type} after the handshake",
                        AlertDescription.UNEXPECTED_MESSAGE,
                    )

    def _receive_key_update(self, message: ReassembledMessage, traffic: ApplicationTraffic) -> None:
        update = KeyUpdate.parse(message.body)
        if self._reassembler.holds(traffic.read_epoch):
            raise PeerMisbehaved(
                "the peer sends more in an epoch after its KeyUpdate", AlertDescription.UNEXPECTED_MESSAGE
            )
        self._records.retire_reader(traffic.read_epoch, traffic.read_epoch + 1)
        traffic.update_reader()
        self._records.install_reader(traffic.reader(self.counters))
        self.activity["key_updates_received"] += 1
        if update.update_requested:
            self._update_keys(KeyUpdate(update_requested=False))
        self._release_held_records()

    def _update_keys(self, update: KeyUpdate) -> None:
        """Send a KeyUpdate, or do so when what is under way is acknowledged: one at a time (RFC 9147 §8)."""
        if not self._flight.is_done:
            wanted = self._key_update_wanted
            self._key_update_wanted = wanted if wanted and wanted.update_requested else update
            return
        if self._next_message_seq > MAXIMUM_MESSAGE_SEQ:
            raise SequenceNumbersExhausted("there is no number left for a handshake message")
        self._key_update_under_way = True
        message = OutgoingHandshakeMessage(
            self._records.writer.number, update.handshake_type, self._next_message_seq, update.serialize()
        )
        self._next_message_seq += 1
        self.activity["key_updates_sent"] += 1
        self.send_flight([message], answered=True)
        self._flight_answers = -1

    def _update_keys_before_the_limit(self) -> None:
        """Change keys because these have sealed enough; said once, however much is sent meanwhile."""
        if not self._key_update_under_way and self._key_update_wanted is None:
            self._update_keys(KeyUpdate(update_requested=False))

    def _flight_acknowledged(self) -> None:
        self._timer.stop()
        traffic = self._result.traffic if self._result else None
        if self._key_update_under_way and traffic is not None:
            self._key_update_under_way = False
            self._records.drop_writer(traffic.write_epoch)
            traffic.update_writer()
            self._records.install_writer(traffic.writer())
            self._records.switch_writer(traffic.write_epoch)
        wanted, self._key_update_wanted = self._key_update_wanted, None
        if wanted is not None and traffic is not None:
            self._update_keys(wanted)

    # ACKs (RFC 9147 §7)

    def _receive_ack(self, epoch: int, plaintext: bytes) -> None:
        try:
            numbers = parse_ack(plaintext)
        except DecodeError:
            if epoch != INITIAL_EPOCH:
                raise
            self.counters["malformed_records"] += 1
            return
        if self._flight.is_done:
            return
        if epoch == INITIAL_EPOCH:
            # Nobody vouches for it, so it speaks of unprotected records only.
            numbers = tuple(n for n in numbers if n.epoch == INITIAL_EPOCH)
        progress = self._flight.acknowledge(numbers)
        if self._flight.is_done and epoch == INITIAL_EPOCH:
            # Nor does it stop the timer: the answer itself will, and it may be forged, or the answer lost.
            self._flight.disregard_acknowledgements()
        elif self._flight.is_done:
            self._flight_acknowledged()
        elif progress:
            # The rest was lost, for the peer has waited for it. Each ACK leaves less to be sent again.
            self._timer.restart(self._now)
            self._retransmit()
        elif not numbers:
            self._retransmit_on_demand()

    @property
    def _may_send_acks(self) -> bool:
        """Whether the peer surely speaks DTLS 1.3: that was settled, or its records already look like it."""
        return self._is_13 or self._records.is_holding_unified

    def _send_due_ack(self) -> None:
        if not self._may_send_acks or not self._acks.is_due(self._now):
            return
        self._datagrams.append(self._records.writer.seal(ContentType.ACK, self._acks.take()))
        self.activity["acks_sent"] += 1
        if self._result is not None:
            self._acks.forget()

    # What a handshake asks for: HandshakeLayer

    def send_flight(self, messages: Sequence[OutgoingMessage], *, answered: bool) -> None:
        """For the handshake: send a flight, and again until it is answered, or as the last one on demand."""
        self._flight = Flight(messages)
        self._flight_answers = self._reassembler.next_message_seq - 1
        self._demands = 0
        if self._result is None:
            # It tells the peer that its own flight has come. A KeyUpdate does not (RFC 9147 §8).
            self._acks.forget()
        if answered:
            self._timer.start(self._now)
        else:
            self._timer.stop()
        self._transmit()

    def forget_flight(self) -> None:
        """For the handshake: the latest flight was answered, and will not be asked for again."""
        self._flight = Flight()
        self._flight_answers = -1
        self._timer.stop()

    def install_reader(self, epoch: ReadEpoch12 | ReadEpoch13) -> None:
        """For the handshake: open the peer's records of this epoch from now on."""
        self._records.install_reader(epoch)

    def install_writer(self, epoch: WriteEpoch) -> None:
        """For the handshake: make an epoch of ours known, for flights to be sent in."""
        self._records.install_writer(epoch)

    def switch_writer(self, number: int) -> None:
        """For the handshake: write alerts and data in this epoch from now on."""
        self._records.switch_writer(number)

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
        self._next_message_seq = result.next_message_seq
        self._records.drop_reader(INITIAL_EPOCH)
        if result.version is ProtocolVersion.DTLS_1_3:
            self._records.retire_reader(_HANDSHAKE_EPOCH_13, _HANDSHAKE_EPOCH_13 + 1)
            if self.role is Role.SERVER:
                self._acks.hurry(self._now)  # no flight of ours tells the client that its last one has come
        else:
            self._acks.forget()
        self._events.append(
            HandshakeCompleted(
                result.version,
                result.cipher_suite,
                result.group,
                result.srtp_profile,
                result.alpn_protocol,
            )
        )
        held, self._held_data = self._held_data, []
        self._events.extend(map(ApplicationData, held))

    def _transmit(self) -> None:
        self._flight_sent_at = self._now
        self._datagrams += self._flight.pack(self._records.writers, self._mtu)

    def _retransmit(self) -> None:
        self.activity["retransmissions"] += 1
        self._transmit()

    def _retransmit_on_demand(self) -> None:
        """Send the flight again because the peer lacks it: ever more slowly, and not for ever."""
        pace = self._configuration.initial_retransmission_timeout / 2 * 2**self._demands
        if self._now - self._flight_sent_at < pace or self._demands >= MAXIMUM_DEMANDS:
            return
        self._demands += 1
        self._retransmit()

    # The end

    def _fail(self, error: DtlsError) -> None:
        self.error = error
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
        self._timer.stop()
        self._acks.forget()
        self._handshake = None
        self._records.close()
        self._held_data.clear()
        self._flight = Flight()
        if state is AssociationState.FAILED:
            self._result = None
        elif self._result is not None:
            self._result = self._result.without_secrets()

    def _send_alert(self, alert: bytes) -> None:
        try:
            self._datagrams.append(self._records.writer.seal(ContentType.ALERT, alert))
        except DtlsError:
            self.counters["alerts_not_sent"] += 1  # the epoch has no sequence number left
