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

from mediapeer.dtls.association import APPLICATION_DATA, Association, AssociationState
from mediapeer.dtls.client_hello import ClientHelloPhase
from mediapeer.dtls.configuration import MAXIMUM_MTU, MINIMUM_MTU, DtlsConfiguration, Role
from mediapeer.dtls.credentials import Credentials
from mediapeer.dtls.errors import ConfigurationError, DtlsError, HandshakeTimeout, NotConnected
from mediapeer.dtls.events import Event
from mediapeer.dtls.handshake import PeerIdentity
from mediapeer.dtls.handshake13_server import RetryState
from mediapeer.dtls.record import split_datagram
from mediapeer.dtls.registry import (
    AlertDescription,
    AlertLevel,
    CertificateType,
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    SrtpProtectionProfile,
)
from mediapeer.dtls.server_hello import ServerHelloPhase
from mediapeer.dtls.session import Session

MAXIMUM_FORGERIES = 3
"How many records that are not authentic make the rest of a datagram not worth a look: a peer has none in its own."
_RESERVED_LABELS = (b"client finished", b"server finished", b"master secret", b"key expansion")


class DtlsConnection(Association):
    """One end of an association over one path to one peer.

    A client's first flight is ready as soon as it is made; a server waits for a ClientHello.

    :param configuration: what was decided beforehand.
    :param role: which side this end plays.
    :param now: the time, in seconds, of any clock that does not go backwards; all later times are of this clock.
    :param session: what a client wants to resume; if the server does not, the handshake is a full one.
    :raises ConfigurationError: when a server has no credentials, or is given a session, or when the verifier is one
        for the other role.
    """

    def __init__(
        self,
        configuration: DtlsConfiguration,
        role: Role,
        now: float,
        session: Session | None = None,
        *,
        _first_message_seq: int = 0,
        _first_sequence_number: int = 0,
        _retry: RetryState | None = None,
    ) -> None:
        # The last three are for a listener, whose client has shown its cookie: our numbers go on from there, past
        # those of the requests for cookies that nobody remembers (RFC 6347 §4.2.1, §4.2.2).
        if role is Role.SERVER and not configuration.credentials:
            raise ConfigurationError("a server needs credentials")
        if role is Role.SERVER and session is not None:
            raise ConfigurationError("a server finds sessions by its tickets or its cache")
        if getattr(configuration.verifier, "judges", None) is role:
            raise ConfigurationError(f"the verifier judges {role.value}s, and this is one: its peer is none")
        super().__init__(configuration, role, now, _first_message_seq, _first_sequence_number)
        timeout = configuration.handshake_timeout
        self._handshake_deadline = None if timeout is None else now + timeout
        if role is Role.CLIENT:
            self._handshake = client = ClientHelloPhase(configuration, self, session)
            client.start()
        else:
            self._handshake = ServerHelloPhase(configuration, self, _first_message_seq, _retry)

    # What was negotiated

    @property
    def version(self) -> ProtocolVersion | None:
        """The version negotiated, or ``None`` before the handshake's end."""
        return self._result.version if self._result else None

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
        return self._result.peer.server_name if self._result else None

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier session was resumed; false before the handshake's end."""
        return self._result is not None and self._result.is_resumed

    @property
    def hello_retry_requested(self) -> bool:
        """Whether a HelloRetryRequest cost a round trip more; false before the handshake's end."""
        return self._result is not None and self._result.hello_retry_requested

    @property
    def credentials(self) -> Credentials | None:
        """Which of our credentials was used, or ``None`` when none was (yet)."""
        return self._result.credentials if self._result else None

    @property
    def session(self) -> Session | None:
        """What was established, of DTLS 1.2 when it can be resumed; a client of 1.3 gets tickets later, by events."""
        return self._result.session if self._result else None

    @property
    def peer_certificate_chain(self) -> tuple[bytes, ...]:
        """The peer's certificates in DER, the end entity's first; empty when it sent none (yet)."""
        peer = self._peer_identity
        return peer.chain if peer.certificate_type is CertificateType.X509 else ()

    @property
    def peer_raw_public_key(self) -> bytes | None:
        """The peer's ``SubjectPublicKeyInfo`` in DER, or ``None`` when it sent none (yet) (RFC 7250)."""
        peer = self._peer_identity
        return (
            peer.chain[0] if peer.chain and peer.certificate_type is CertificateType.RAW_PUBLIC_KEY else None
        )

    @property
    def pre_shared_key_identity(self) -> bytes | None:
        """The identity of the pre-shared key that both know, or ``None`` when certificates are used (or not yet)."""
        return self._peer_identity.pre_shared_key_identity

    @property
    def peer_ocsp_response(self) -> bytes:
        """The OCSP response that the server stapled, in DER and not judged; empty when it sent none (yet)."""
        return self._peer_identity.ocsp_response

    @property
    def peer_signed_certificate_timestamps(self) -> bytes:
        """The server's ``SignedCertificateTimestampList``, not judged; empty when it sent none (yet) (RFC 6962)."""
        return self._peer_identity.signed_certificate_timestamps

    @property
    def _peer_identity(self) -> PeerIdentity:
        return self._result.peer if self._result else PeerIdentity()

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER, or ``None`` when it sent none (yet)."""
        chain = self.peer_certificate_chain
        return chain[0] if chain else None

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is done and the association neither closed nor failed."""
        return self._state is AssociationState.CONNECTED

    # The face

    def receive_datagram(self, data: bytes, now: float) -> None:
        """Take a datagram from the peer. Whatever is in it, this does not raise."""
        self.now = now
        if self._is_over:
            self._receive_after_end()
            return
        if now >= self._records.expires_at:
            self._records.expire(now)
        records, whole = split_datagram(data)
        if not whole:
            self.counters["malformed_datagrams"] += 1
        try:
            is_watched = len(records) > MAXIMUM_FORGERIES
            forgeries = self.counters["unauthentic_records"] if is_watched else 0
            for record in records:
                self._receive_record(record)
                if self._is_over:
                    return
                if is_watched and self.counters["unauthentic_records"] - forgeries >= MAXIMUM_FORGERIES:
                    break  # trying the rest would cost more than sending it
            if self._acks.deadline is not None:
                self._send_due_ack()
        except DtlsError as error:
            self._fail(error)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``: send a flight again, tell what has come, or give up."""
        self.now = now
        if self._is_over:
            return
        try:
            self._do_what_is_due(now)
        except DtlsError as error:
            self._fail(error)

    def _do_what_is_due(self, now: float) -> None:
        self._records.expire(now)
        deadline = self._handshake_deadline if self._handshake is not None else None
        granularity = self._configuration.timer_granularity
        if deadline is not None and now >= deadline - granularity:
            timeout = self._configuration.handshake_timeout
            self._fail(HandshakeTimeout(f"the handshake did not end in {timeout:g} s"))
            return
        timer = self._transmission.timer
        is_due = timer.deadline is not None and now >= timer.deadline - granularity
        if is_due and not self._transmission.fire(now):
            if self._result is None or not self._transmission.flight.is_end_acknowledged:
                self._fail(HandshakeTimeout(f"the peer did not answer {timer.timeouts} times"))
                return
            # The peer has the end of it, and was asked for its beginning often enough: it does not name every record
            # that it has had. Firefox forgets those with the first pieces of a client's certificate.
            self._transmission.forget()
            self._flight_acknowledged()
        self._send_due_ack()

    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`, or ``None`` for never. Any other call may change it.

        Keys that have had their time are let go of by the next call of any kind; nobody has to be woken for that.
        """
        if self._is_over:
            return None
        deadlines = [
            self._transmission.timer.deadline,
            self._handshake_deadline if self._handshake is not None else None,
            self._acks.deadline if self._may_send_acks else None,
        ]
        return min((d for d in deadlines if d is not None), default=None)

    def datagrams_to_send(self) -> list[bytes]:
        """The datagrams that are due, each to be sent as one; they are handed out once."""
        datagrams, self._datagrams = self._datagrams, []
        return datagrams

    def next_event(self) -> Event | None:
        """The next event, or ``None`` when there is none."""
        return self._events.popleft() if self._events else None

    def send_application_data(self, data: bytes) -> None:
        """Send ``data`` in one record, in a datagram of its own (the path's MTU is the caller's concern).

        :param data: at most 16,384 bytes, or less if the peer said so (RFC 8449).
        :raises NotConnected: before the handshake's end, or after the association's.
        :raises ValueError: when it is too long.
        :raises SequenceNumbersExhausted: after 2^48 records; the association is over then.
        """
        if self._result is None or self._is_over:
            raise NotConnected(f"data cannot be sent: the association is {self._state.value}")
        writer = self._records.writer
        if len(data) > writer.maximum_plaintext:
            raise ValueError(f"a record carries at most {writer.maximum_plaintext} bytes, not {len(data)}")
        try:
            self._datagrams.append(writer.seal(APPLICATION_DATA, data))
            if writer.next_sequence_number >= writer.limit and self._post_handshake is not None:
                self._post_handshake.update_keys_before_the_limit()
        except DtlsError as error:
            self._fail(error)
            raise

    def update_keys(self, *, request_peer: bool = True) -> None:
        """Change to fresh keys (RFC 9147 §8). The change is done when the peer has acknowledged it.

        :param request_peer: whether the peer is to change its keys too.
        :raises NotConnected: when there is no association of DTLS 1.3; DTLS 1.2 has no such thing.
        :raises SequenceNumbersExhausted: when no number is left for the message; the association is over then.
        """
        if self._state is not AssociationState.CONNECTED or self._post_handshake is None:
            raise NotConnected("keys are updated in an established association of DTLS 1.3 only")
        try:
            self._post_handshake.update_keys(request_peer=request_peer)
        except DtlsError as error:
            self._fail(error)
            raise

    def set_mtu(self, mtu: int) -> None:
        """Cut what a handshake sends to ``mtu`` bytes of UDP payload from now on.

        :raises ConfigurationError: when that is not 256 to 65,507.
        """
        if not MINIMUM_MTU <= mtu <= MAXIMUM_MTU:
            raise ConfigurationError(f"the MTU must be {MINIMUM_MTU} to {MAXIMUM_MTU}")
        self._transmission.mtu = mtu

    def set_initial_retransmission_timeout(self, timeout: float) -> None:
        """Wait ``timeout`` seconds before a flight is first sent again; a timer that is running is rescaled.

        :raises ConfigurationError: when that is not positive.
        """
        if timeout <= 0:
            raise ConfigurationError("the retransmission time-out must be positive")
        self._transmission.timer.set_initial(timeout)
        self._acks.set_delay(timeout / 4, self.now)

    def abort(self, alert: AlertDescription) -> None:
        """End the association by a fatal alert of the program's choice; no event follows. May be called again."""
        if not self._is_over:
            self._end(AssociationState.CLOSED, AlertLevel.FATAL, alert)

    def close(self) -> None:
        """End the association in good order, by close_notify (RFC 5246 §7.2.1). May be called again."""
        if not self._is_over:
            self._end(AssociationState.CLOSED, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)

    def export_keying_material(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Derive a secret that both ends share, for another protocol (RFC 5705, RFC 8446 §7.5).

        :param label: what it is for, as that protocol defines.
        :param context: what it depends on; in DTLS 1.2 ``None`` and ``b""`` give different secrets.
        :param length: how many bytes.
        :raises NotConnected: before the handshake's end, or after the association's.
        :raises ValueError: for a label that TLS itself uses.
        """
        exporter = self._result.exporter if self._result else None
        if self._state is not AssociationState.CONNECTED or exporter is None:
            raise NotConnected(f"nothing can be exported: the association is {self._state.value}")
        if label in _RESERVED_LABELS:
            raise ValueError(f"the label {label!r} is reserved")
        return exporter.export(label, context, length)
