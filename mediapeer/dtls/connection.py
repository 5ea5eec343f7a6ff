"""One DTLS association, without sockets and without a clock: the face of the engine.

Bytes and the time go in; datagrams, time-outs and events come out::

    connection = DtlsConnection(configuration, Role.CLIENT, now)
    ...
    connection.receive_datagram(data, now)        # when one arrives from the peer
    connection.handle_timeout(now)                # when next_timeout() has come
    for datagram in connection.datagrams_to_send(): ...
    while (event := connection.next_event()) is not None: ...
    arm_timer(connection.next_timeout())          # it may have changed

Noise from the network is dropped inside and counted. What ends the association is one typed error, told once in
:class:`ConnectionFailed` and kept in :attr:`DtlsConnection.error`.
"""

import enum
from collections import Counter, deque
from collections.abc import Sequence

from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.epochs import ReadEpoch, WriteEpoch
from mediapeer.dtls.errors import (
    AlertReceived,
    ConfigurationError,
    DecodeError,
    DtlsError,
    HandshakeTimeout,
    NotConnected,
    PeerMisbehaved,
)
from mediapeer.dtls.events import (
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeCompleted,
)
from mediapeer.dtls.flights import (
    OutgoingChangeCipherSpec,
    OutgoingMessage,
    RetransmissionTimer,
    mtu_after_timeouts,
    pack_flight,
)
from mediapeer.dtls.handshake12 import APPLICATION_EPOCH, HANDSHAKE_EPOCH, Handshake12, HandshakeResult
from mediapeer.dtls.handshake12_client import ClientHandshake12
from mediapeer.dtls.handshake12_server import ServerHandshake12
from mediapeer.dtls.protection import RecordProtection
from mediapeer.dtls.reassembly import HandshakeFragment, HandshakeReassembler, parse_fragments
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH, Record, split_datagram
from mediapeer.dtls.registry import (
    AlertDescription,
    AlertLevel,
    CipherSuite,
    ContentType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    SrtpProtectionProfile,
)

MAXIMUM_HELD_RECORDS = 16
"How many records of an epoch without keys yet, and of data before the handshake's end, are kept for later."
MAXIMUM_HELD_BYTES = 32_768
REASSEMBLY_MARGIN = 16_384
"How much may be held of other messages while the longest one is being put together, in bytes."
MAXIMUM_ALERT_REPEATS = 8
"How often a peer that goes on after our fatal alert is told again, in case the alert was lost."
MAXIMUM_REFUSED_RENEGOTIATIONS = 3
_APPLICATION_DATA = int(
    ContentType.APPLICATION_DATA
)  # a plain integer compares faster, and this is for each record
_RESERVED_LABELS = (b"client finished", b"server finished", b"master secret", b"key expansion")


class _State(enum.Enum):
    HANDSHAKING = "handshaking"
    CONNECTED = "connected"
    CLOSED = "closed"
    FAILED = "failed"


class DtlsConnection:
    """One end of an association over one path to one peer.

    A client's first flight is ready as soon as it is made; a server waits for a ClientHello.

    :param configuration: what was decided beforehand.
    :param role: which side this end plays.
    :param now: the time, in seconds, of any clock that does not go backwards; all later times are of this clock.
    :raises ConfigurationError: when a server has no credentials.
    """

    def __init__(self, configuration: DtlsConfiguration, role: Role, now: float) -> None:
        if role is Role.SERVER and not configuration.credentials:
            raise ConfigurationError("a server needs credentials")
        self._setup(configuration, role, now, first_message_seq=0, first_sequence_number=0)

    @classmethod
    def _after_cookie(
        cls, configuration: DtlsConfiguration, now: float, message_seq: int, sequence_number: int
    ) -> "DtlsConnection":
        """A server for a client that has shown its cookie in a ClientHello with these numbers.

        Our own numbers go on from there, past those of the HelloVerifyRequests that nobody remembers
        (RFC 6347 §4.2.1, §4.2.2).
        """
        connection = cls.__new__(cls)
        connection._setup(configuration, Role.SERVER, now, message_seq, sequence_number)
        return connection

    def _setup(
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
        "What was dropped, by reason, and how often flights were sent again (``retransmissions``)."
        self._configuration = configuration
        self._now = now
        self._state = _State.HANDSHAKING
        self._is_over = False  # closed or failed; read for each record
        self._result: HandshakeResult | None = None
        self._events: deque[Event] = deque()
        self._datagrams: list[bytes] = []
        self._read_epochs = {HANDSHAKE_EPOCH: ReadEpoch(HANDSHAKE_EPOCH, None)}
        self._write_epochs = {HANDSHAKE_EPOCH: WriteEpoch(HANDSHAKE_EPOCH, None, first_sequence_number)}
        self._write_epoch = self._write_epochs[HANDSHAKE_EPOCH]
        self._held_records: list[Record] = []
        self._held_data: list[bytes] = []
        self._change_cipher_spec_received = False
        self._reassembler = HandshakeReassembler(
            configuration.maximum_handshake_message_size,
            configuration.maximum_handshake_message_size + REASSEMBLY_MARGIN,
        )
        self._reassembler.next_message_seq = first_message_seq
        self._flight: tuple[OutgoingMessage, ...] = ()
        self._flight_answers = -1
        self._flight_sent_at = now
        self._mtu = configuration.mtu
        self._timer = RetransmissionTimer(
            configuration.initial_retransmission_timeout,
            configuration.maximum_retransmission_timeout,
            configuration.maximum_retransmissions,
        )
        timeout = configuration.handshake_timeout
        self._handshake_deadline = None if timeout is None else now + timeout
        self._fatal_alert = b""
        self._alert_repeats = 0
        self._refused_renegotiations = 0
        self._handshake: Handshake12 | None
        if role is Role.CLIENT:
            self._handshake = client = ClientHandshake12(configuration, self)
            client.start()
        else:
            self._handshake = ServerHandshake12(configuration, self, first_message_seq)

    # What was negotiated

    @property
    def version(self) -> ProtocolVersion | None:
        """The version negotiated, or ``None`` before the handshake's end."""
        return ProtocolVersion.DTLS_1_2 if self._result else None

    @property
    def cipher_suite(self) -> CipherSuite | None:
        """The cipher suite negotiated, or ``None`` before the handshake's end."""
        return self._result.cipher_suite if self._result else None

    @property
    def group(self) -> NamedGroup | None:
        """The group of the key exchange, or ``None`` before the handshake's end."""
        return self._result.group if self._result else None

    @property
    def srtp_profile(self) -> SrtpProtectionProfile | None:
        """The SRTP protection profile, or ``None`` when none was negotiated (yet)."""
        return self._result.srtp_profile if self._result else None

    @property
    def alpn_protocol(self) -> bytes | None:
        """The application protocol, or ``None`` when none was negotiated (yet)."""
        return self._result.alpn_protocol if self._result else None

    @property
    def server_name(self) -> str | None:
        """The host name that the client asked for, or ``None`` when there is none (yet)."""
        return self._result.server_name if self._result else None

    @property
    def peer_certificate_chain(self) -> tuple[bytes, ...]:
        """The peer's certificates in DER, the end entity's first; empty when it sent none (yet)."""
        return self._result.peer_chain if self._result else ()

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER, or ``None`` when it sent none (yet)."""
        chain = self.peer_certificate_chain
        return chain[0] if chain else None

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is done and the association neither closed nor failed."""
        return self._state is _State.CONNECTED

    # The face

    def receive_datagram(self, data: bytes, now: float) -> None:
        """Take a datagram from the peer. Whatever is in it, this does not raise."""
        self._now = now
        if self._is_over:
            self._receive_after_end()
            return
        records, whole = split_datagram(data)
        if not whole:
            self.counters["malformed_datagrams"] += 1
        try:
            for record in records:
                self._receive_record(record)
                if self._is_over:
                    return
        except DtlsError as error:
            self._fail(error)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``: send a flight again, or give up."""
        self._now = now
        if self._state is not _State.HANDSHAKING:
            return
        if self._handshake_deadline is not None and now >= self._handshake_deadline:
            self._fail(
                HandshakeTimeout(f"the handshake did not end in {self._configuration.handshake_timeout:g} s")
            )
        elif self._timer.deadline is not None and now >= self._timer.deadline:
            if not self._timer.fire(now):
                self._fail(HandshakeTimeout(f"the peer did not answer {self._timer.timeouts} times"))
                return
            self._mtu = mtu_after_timeouts(self._mtu, self._timer.timeouts)
            self._retransmit()

    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`, or ``None`` for never. Any other call may change it."""
        if self._state is not _State.HANDSHAKING:
            return None
        deadlines = [d for d in (self._timer.deadline, self._handshake_deadline) if d is not None]
        return min(deadlines, default=None)

    def datagrams_to_send(self) -> list[bytes]:
        """The datagrams that are due, each to be sent as one; they are handed out once."""
        datagrams, self._datagrams = self._datagrams, []
        return datagrams

    def next_event(self) -> Event | None:
        """The next event, or ``None`` when there is none."""
        return self._events.popleft() if self._events else None

    def send_application_data(self, data: bytes) -> None:
        """Send ``data`` in one record, in a datagram of its own (the path's MTU is the caller's concern).

        :param data: at most 16,384 bytes.
        :raises NotConnected: before the handshake's end, or after the association's.
        :raises ValueError: when it is too long.
        :raises SequenceNumbersExhausted: after 2^48 records; the association is over then.
        """
        if self._state is not _State.CONNECTED:
            raise NotConnected(f"data cannot be sent: the association is {self._state.value}")
        if len(data) > MAXIMUM_PLAINTEXT_LENGTH:
            raise ValueError(f"a record carries at most {MAXIMUM_PLAINTEXT_LENGTH} bytes, not {len(data)}")
        try:
            self._datagrams.append(self._write_epoch.seal(ContentType.APPLICATION_DATA, data))
        except DtlsError as error:
            self._fail(error)
            raise

    def close(self) -> None:
        """End the association in good order, by close_notify (RFC 5246 §7.2.1). May be called again."""
        if self._state in (_State.HANDSHAKING, _State.CONNECTED):
            self._end(_State.CLOSED, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)

    def export_keying_material(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Derive a secret that both ends share, for another protocol (RFC 5705).

        :param label: what it is for, as that protocol defines.
        :param context: what it depends on; ``None`` and ``b""`` give different secrets.
        :param length: how many bytes.
        :raises NotConnected: before the handshake's end, or after the association's.
        :raises ValueError: for a label that TLS itself uses.
        """
        secrets = self._result.secrets if self._result else None
        if self._state is not _State.CONNECTED or secrets is None:
            raise NotConnected(f"nothing can be exported: the association is {self._state.value}")
        if label in _RESERVED_LABELS:
            raise ValueError(f"the label {label!r} is reserved")
        return secrets.export(label, context, length)

    # Records

    def _receive_record(self, record: Record) -> None:
        read_epoch = self._read_epochs.get(record.epoch)
        if read_epoch is None:
            self._hold_record(record)
            return
        plaintext = read_epoch.open(record)
        if plaintext is None:
            is_fresh = read_epoch.window.is_fresh(record.sequence_number)
            self.counters["unauthentic_records" if is_fresh else "replayed_records"] += 1
        elif read_epoch.protection is None:
            self._receive_unprotected(record.content_type, plaintext)
        else:
            self._receive_protected(record.content_type, plaintext)

    def _receive_unprotected(self, content_type: int, plaintext: bytes) -> None:
        """A record of epoch 0. Nobody vouches for it: what does not fit is dropped."""
        if len(plaintext) > MAXIMUM_PLAINTEXT_LENGTH:
            self.counters["malformed_records"] += 1
            return
        match content_type:
            case ContentType.HANDSHAKE:
                self._receive_handshake(HANDSHAKE_EPOCH, plaintext)
            case ContentType.CHANGE_CIPHER_SPEC if plaintext == b"\x01":
                # It may overtake what comes before it; it takes effect when its turn has come.
                self._change_cipher_spec_received = True
                self._advance_handshake()
            case ContentType.ALERT if len(plaintext) == 2:
                self._receive_alert(*plaintext)
            case _:
                self.counters["unexpected_unprotected_records"] += 1

    def _receive_protected(self, content_type: int, plaintext: bytes) -> None:
        """An authentic record: what does not fit is the peer's fault."""
        if len(plaintext) > MAXIMUM_PLAINTEXT_LENGTH:
            raise PeerMisbehaved("a record of the peer is too long", AlertDescription.RECORD_OVERFLOW)
        if content_type == _APPLICATION_DATA:
            if self._result is not None:
                self._events.append(ApplicationData(plaintext))
            else:
                self._hold_data(plaintext)
            return
        match content_type:
            case ContentType.HANDSHAKE:
                self._receive_handshake(APPLICATION_EPOCH, plaintext)
            case ContentType.ALERT:
                if len(plaintext) != 2:
                    raise DecodeError("an alert does not have two bytes")
                self._receive_alert(*plaintext)
            case _:
                raise PeerMisbehaved(
                    f"the peer sent a record of type {content_type}", AlertDescription.UNEXPECTED_MESSAGE
                )

    def _hold_record(self, record: Record) -> None:
        """Keep a record that overtook the messages which make its keys (RFC 6347 §4.1)."""
        held = self._held_records
        if (
            self._state is _State.HANDSHAKING
            and record.epoch == APPLICATION_EPOCH
            and len(held) < MAXIMUM_HELD_RECORDS
            and sum(len(r.fragment) for r in held) + len(record.fragment) <= MAXIMUM_HELD_BYTES
        ):
            held.append(record)
        else:
            self.counters["records_of_other_epochs"] += 1

    def _hold_data(self, data: bytes) -> None:
        """Keep data that overtook the peer's Finished; none is delivered before the peer is known."""
        held = self._held_data
        if len(held) < MAXIMUM_HELD_RECORDS and sum(map(len, held)) + len(data) <= MAXIMUM_HELD_BYTES:
            held.append(data)
        else:
            self.counters["early_data_dropped"] += 1

    def _receive_alert(self, level: int, description: int) -> None:
        if description == AlertDescription.CLOSE_NOTIFY:
            if self._state is _State.CONNECTED:
                self._end(_State.CLOSED, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
                self._events.append(ConnectionClosed())
            else:
                self._fail(AlertReceived(description))
        elif level == AlertLevel.FATAL:
            self._fail(AlertReceived(description))
        else:
            self.counters["warning_alerts"] += 1

    def _receive_after_end(self) -> None:
        self.counters["datagrams_after_the_end"] += 1
        if self._fatal_alert and self._alert_repeats < MAXIMUM_ALERT_REPEATS:
            self._alert_repeats += 1
            self._send_alert(self._fatal_alert)

    # The handshake

    def _receive_handshake(self, epoch: int, plaintext: bytes) -> None:
        try:
            fragments = parse_fragments(plaintext)
        except DecodeError:
            if epoch != HANDSHAKE_EPOCH:
                raise
            self.counters["malformed_records"] += 1
            return
        for fragment in fragments:
            if fragment.message_seq < self._reassembler.next_message_seq:
                self._receive_repeated_fragment(fragment)
            elif self._state is _State.CONNECTED:
                self._refuse_handshake(fragment)
            elif not self._reassembler.add(epoch, fragment):
                self.counters["fragments_dropped"] += 1
        self._advance_handshake()

    def _advance_handshake(self) -> None:
        while self._handshake is not None:
            epoch = self._handshake.read_epoch
            if epoch == APPLICATION_EPOCH and not self._change_cipher_spec_received:
                return
            message = self._reassembler.next_message(epoch)
            if message is None:
                self._check_epoch_of_next_message(epoch)
                return
            self._handshake.receive(message)
            if self._held_records and APPLICATION_EPOCH in self._read_epochs:
                # Not before the message is done with: these may hold the next ones.
                held, self._held_records = self._held_records, []
                for record in held:
                    self._receive_record(record)

    def _check_epoch_of_next_message(self, epoch: int) -> None:
        """Refuse an authentic message that comes where an unprotected one is due: the peer skipped something."""
        if epoch == HANDSHAKE_EPOCH and self._reassembler.next_message(APPLICATION_EPOCH) is not None:
            raise PeerMisbehaved(
                "the peer protects a message before it is due", AlertDescription.UNEXPECTED_MESSAGE
            )

    def _receive_repeated_fragment(self, fragment: HandshakeFragment) -> None:
        """The end of the flight that ours answered came again: ours was lost (RFC 6347 §4.2.4).

        After the handshake only a repeated Finished gets here, which is authentic. The pace is bounded, so that
        nobody has us send more than a share of what we are sent.
        """
        if fragment.message_seq != self._flight_answers or not fragment.is_last:
            return
        if self._now - self._flight_sent_at < self._configuration.initial_retransmission_timeout / 2:
            return
        self._timer.restart(self._now)
        self._retransmit()

    def _refuse_handshake(self, fragment: HandshakeFragment) -> None:
        """Another handshake inside an established association: renegotiation, which is not done (RFC 5746 §4.5)."""
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

    # What the handshake asks for: HandshakeLayer

    def send_flight(self, messages: Sequence[OutgoingMessage], *, answered: bool) -> None:
        """For the handshake: send a flight, and again until it is answered, or as the last one on demand."""
        self._flight = tuple(messages)
        self._flight_answers = self._reassembler.next_message_seq - 1
        if any(isinstance(message, OutgoingChangeCipherSpec) for message in messages):
            self._write_epoch = self._write_epochs[APPLICATION_EPOCH]
        if answered:
            self._timer.start(self._now)
        else:
            self._timer.stop()
        self._transmit()

    def forget_flight(self) -> None:
        """For the handshake: the latest flight was answered, and will not be asked for again."""
        self._flight = ()
        self._flight_answers = -1
        self._timer.stop()

    def install_keys(self, read: RecordProtection, write: RecordProtection) -> None:
        """For the handshake: these are the keys of epoch 1."""
        self._write_epochs[APPLICATION_EPOCH] = WriteEpoch(APPLICATION_EPOCH, write)
        self._read_epochs[APPLICATION_EPOCH] = ReadEpoch(APPLICATION_EPOCH, read)

    def handshake_completed(self, result: HandshakeResult) -> None:
        """For the handshake: it is done."""
        self._result = result
        self._state = _State.CONNECTED
        self._handshake = None
        self._read_epochs.pop(HANDSHAKE_EPOCH)
        self._events.append(
            HandshakeCompleted(
                ProtocolVersion.DTLS_1_2,
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
        self._datagrams += pack_flight(self._flight, self._write_epochs, self._mtu)

    def _retransmit(self) -> None:
        self.counters["retransmissions"] += 1
        self._transmit()

    # The end

    def _fail(self, error: DtlsError) -> None:
        self.error = error
        if error.alert is None or isinstance(error, AlertReceived):
            self._end(_State.FAILED)
        else:
            self._end(_State.FAILED, AlertLevel.FATAL, error.alert)
        self._events.append(ConnectionFailed(error))

    def _end(
        self, state: _State, level: AlertLevel | None = None, description: AlertDescription | None = None
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
        self._handshake = None
        self._read_epochs.clear()
        self._held_records.clear()
        self._held_data.clear()
        self._flight = ()
        if state is _State.FAILED:
            self._result = None
        elif self._result is not None:
            self._result = self._result.without_secrets()

    def _send_alert(self, alert: bytes) -> None:
        try:
            self._datagrams.append(self._write_epoch.seal(ContentType.ALERT, alert))
        except DtlsError:
            self.counters["alerts_not_sent"] += 1  # the epoch has no sequence number left
