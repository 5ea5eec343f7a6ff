"""The client's side of the DTLS 1.2 handshake."""

from dataclasses import replace

from mediapeer.dtls import extensions
from mediapeer.dtls.choice12 import choose_schemes12
from mediapeer.dtls.client_offer import own_certificate_types
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import SigningCredentials, authentication_method
from mediapeer.dtls.errors import CertificateRejected, DecodeError, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, State
from mediapeer.dtls.handshake12 import Handshake12
from mediapeer.dtls.key_exchange import generate_key_share
from mediapeer.dtls.key_schedule import CLIENT_FINISHED_LABEL, SessionSecrets, psk_premaster_secret
from mediapeer.dtls.messages import (
    CertificateRequest,
    CertificateStatus,
    ClientHello,
    ClientKeyExchange,
    EcdhParameters,
    NewSessionTicket,
    PskClientKeyExchange,
    PskServerKeyExchange,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from mediapeer.dtls.psk import PreSharedKey
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    HYBRID_GROUPS,
    AlertDescription,
    AuthenticationMethod,
    CertificateType,
    ClientCertificateType,
    ExtensionType,
    HandshakeType,
    SignatureScheme,
)
from mediapeer.dtls.resumption12 import pre_shared_keys12
from mediapeer.dtls.selection import NO_COMMON_SCHEME, PeerAccepts, mismatch, nothing_fits
from mediapeer.dtls.session import Session

_CERTIFICATE_TYPES = {
    AuthenticationMethod.ECDSA: ClientCertificateType.ECDSA_SIGN,
    AuthenticationMethod.RSA: ClientCertificateType.RSA_SIGN,
}


class ClientHandshake12(Handshake12):
    """A client whose server has chosen DTLS 1.2.

    :param hello: the ClientHello that the server answers.
    :param hello_message: the same as it goes into the transcript.
    :param session: the session that it offers to resume.
    """

    role = Role.CLIENT

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        hello: ClientHello,
        hello_message: bytes,
        session: Session | None,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq)
        self._client_random = hello.random
        self._hello = hello
        self._transcript += hello_message
        self._offered_session = session
        self._session_id = b""
        self._ticket_announced = False
        self._new_ticket: NewSessionTicket | None = None
        self._status_announced = False
        self._own_certificate_type = CertificateType.X509
        self._peer_share = b""
        self._certificate_requested = False
        self._signing: SigningCredentials | None = None
        self._scheme: SignatureScheme | None = None
        self._state = State.SERVER_HELLO
        key_exchange = {
            HandshakeType.SERVER_KEY_EXCHANGE: self._on_server_key_exchange,
            HandshakeType.SERVER_HELLO_DONE: self._on_omitted_key_exchange,
        }
        self._handlers = {
            State.SERVER_HELLO: {HandshakeType.SERVER_HELLO: self._on_server_hello},
            State.SERVER_CERTIFICATE: {HandshakeType.CERTIFICATE: self._on_certificate},
            State.CERTIFICATE_STATUS: {
                HandshakeType.CERTIFICATE_STATUS: self._on_certificate_status,
                **key_exchange,
            },
            State.SERVER_KEY_EXCHANGE: key_exchange,
            State.CERTIFICATE_REQUEST: {
                HandshakeType.CERTIFICATE_REQUEST: self._on_certificate_request,
                HandshakeType.SERVER_HELLO_DONE: self._on_server_hello_done,
            },
            State.SERVER_HELLO_DONE: {HandshakeType.SERVER_HELLO_DONE: self._on_server_hello_done},
            State.NEW_SESSION_TICKET: {HandshakeType.NEW_SESSION_TICKET: self._on_new_session_ticket},
            State.FINISHED: {HandshakeType.FINISHED: self._on_finished},
            State.COMPLETE: {},
        }

    # The ServerHello

    def _on_server_hello(self, message: ReassembledMessage) -> None:
        hello = ServerHello.parse(message.body)
        offered = [s for s in self._configuration.suites_of(self.version) if s in self._hello.cipher_suites]
        suite = next((s for s in offered if s == hello.cipher_suite), None)
        if suite is None:
            raise PeerMisbehaved(
                f"the server chose cipher suite 0x{hello.cipher_suite:04x}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._cipher_suite = suite
        self._server_random = hello.random
        session = self._session_resumed_by(hello)
        self._read_server_extensions(hello.extensions)
        self._note(message)
        if session is not None:
            self._resume(session)
            return
        self._session_id = hello.session_id
        self._check_certificate_types()
        self._state = State.SERVER_CERTIFICATE if self._uses_certificates else State.SERVER_KEY_EXCHANGE

    def _session_resumed_by(self, hello: ServerHello) -> Session | None:
        """The session that we offered, if the server resumes it: it echoes our session ID then (RFC 5246 §7.3)."""
        if not hello.session_id or hello.session_id != self._hello.session_id:
            return None
        session = self._offered_session
        if session is None or session.cipher_suite is not self._chosen_suite:
            raise PeerMisbehaved(
                "the server resumes a session that was not offered, or with another cipher suite",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        return session

    def _read_server_extensions(self, block: extensions.ExtensionBlock) -> None:
        for kind, body in block.items():
            if kind not in self._hello.extensions:
                raise PeerMisbehaved(
                    f"the server answers extension {kind}, which was not offered",
                    AlertDescription.UNSUPPORTED_EXTENSION,
                )
            match kind:
                case ExtensionType.EXTENDED_MASTER_SECRET:
                    extensions.check_empty(body, ExtensionType.EXTENDED_MASTER_SECRET)
                    self._extended_master_secret = True
                case ExtensionType.SERVER_NAME:
                    extensions.check_empty(body, ExtensionType.SERVER_NAME)
                case ExtensionType.RENEGOTIATION_INFO:
                    extensions.check_renegotiation_info(body)
                case ExtensionType.EC_POINT_FORMATS:
                    extensions.check_ec_point_formats(body)
                case ExtensionType.USE_SRTP:
                    self._srtp_profile = extensions.read_chosen_srtp_profile(
                        body, self._configuration.srtp_profiles
                    )
                case ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION:
                    self._alpn_protocol = self._read_alpn_protocol(body)
                case ExtensionType.SESSION_TICKET:
                    extensions.check_empty(body, ExtensionType.SESSION_TICKET)
                    self._ticket_announced = True
                case ExtensionType.RECORD_SIZE_LIMIT:
                    self._read_record_size_limit(block)
                case _:
                    self._read_certificate_extension(kind, body)
        if self._configuration.require_extended_master_secret and not self._extended_master_secret:
            raise NegotiationFailed(
                "the server lacks extended_master_secret", AlertDescription.HANDSHAKE_FAILURE
            )

    def _read_certificate_extension(self, kind: int, body: bytes) -> None:
        """An extension that speaks of certificates; if a session is resumed, what that says takes its place."""
        if kind == ExtensionType.SERVER_CERTIFICATE_TYPE:
            types = self._configuration.peer_certificate_types
            chosen = extensions.read_chosen_certificate_type(body, types)
            self._peer = replace(self._peer, certificate_type=chosen)
        elif kind == ExtensionType.CLIENT_CERTIFICATE_TYPE:
            types = own_certificate_types(self._configuration)
            self._own_certificate_type = extensions.read_chosen_certificate_type(body, types)
        elif kind == ExtensionType.STATUS_REQUEST and self._uses_certificates:
            extensions.check_empty(body, ExtensionType.STATUS_REQUEST)
            self._status_announced = True
        elif kind == ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP and self._uses_certificates:
            timestamps = extensions.check_signed_certificate_timestamps(body)
            self._peer = replace(self._peer, signed_certificate_timestamps=timestamps)
        else:
            # supported_groups, signature_algorithms and the like, which a server has no business to send.
            raise PeerMisbehaved(
                f"extension {kind} has no place in this ServerHello", AlertDescription.UNSUPPORTED_EXTENSION
            )

    def _read_alpn_protocol(self, body: bytes) -> bytes:
        offered = self._configuration.alpn_protocols
        if self._configuration.accept_unoffered_alpn:
            offered = extensions.parse_alpn(body)
        return extensions.read_chosen_alpn_protocol(body, offered)

    def _check_certificate_types(self) -> None:
        """Make sure that X.509 is taken where the server has not said otherwise (RFC 7250 §4.2)."""
        types = self._configuration.peer_certificate_types
        if self._uses_certificates and self._peer.certificate_type not in types:
            raise NegotiationFailed(
                "the server has no certificate of a type that is taken",
                AlertDescription.UNSUPPORTED_CERTIFICATE,
            )

    def _resume(self, session: Session) -> None:
        """Go on with the session that the server resumes (RFC 7627 §5.3)."""
        if session.extended_master_secret != self._extended_master_secret:
            raise NegotiationFailed(
                "the server has changed its mind on extended_master_secret",
                AlertDescription.HANDSHAKE_FAILURE,
            )
        self._take_over(session)
        self._derive_keys_from(session)
        self._await_last_flight()

    def _await_last_flight(self) -> None:
        self._state = State.NEW_SESSION_TICKET if self._ticket_announced else State.FINISHED

    # The rest of the server's first flight

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = self._parse_certificate(message)
        if not chain:
            raise DecodeError("the server's Certificate is empty")
        self._verify_peer(chain)
        method = self._parameters.authentication
        if self._peer_key is None or authentication_method(self._peer_key) is not method:
            raise CertificateRejected(
                f"the server's key is not of the kind that {self._chosen_suite.name} needs",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._note(message)
        # A server that has announced its OCSP response may leave it out all the same (RFC 6066 §8).
        self._state = State.CERTIFICATE_STATUS if self._status_announced else State.SERVER_KEY_EXCHANGE

    def _on_certificate_status(self, message: ReassembledMessage) -> None:
        response = CertificateStatus.parse(message.body).ocsp_response
        self._peer = replace(self._peer, ocsp_response=response)
        self._note(message)
        self._state = State.SERVER_KEY_EXCHANGE

    def _on_server_key_exchange(self, message: ReassembledMessage) -> None:
        if not self._uses_certificates:
            self._take_psk_key_exchange(message)
            return
        exchange = ServerKeyExchange.parse(message.body)
        self._take_parameters(exchange.parameters)
        self._verify_signature(
            exchange.signature_scheme,
            exchange.signature,
            self._client_random + self._server_random + exchange.parameters.serialize(),
        )
        self._note(message)
        self._state = State.CERTIFICATE_REQUEST

    def _take_psk_key_exchange(self, message: ReassembledMessage) -> None:
        """The server's share, if it has one. Its hint is nothing to go by (RFC 4279 §5.2)."""
        exchange = PskServerKeyExchange.parse(message.body, is_ephemeral=self._parameters.is_ephemeral)
        if exchange.parameters is not None:
            self._take_parameters(exchange.parameters)
        self._note(message)
        self._state = State.SERVER_HELLO_DONE

    def _on_omitted_key_exchange(self, message: ReassembledMessage) -> None:
        """ServerHelloDone, and no ServerKeyExchange: so it is with a bare PSK and no hint (RFC 4279 §2)."""
        if self._parameters.is_ephemeral:
            raise PeerMisbehaved(
                "the server leaves its ServerKeyExchange out", AlertDescription.UNEXPECTED_MESSAGE
            )
        self._on_server_hello_done(message)

    def _take_parameters(self, parameters: EcdhParameters) -> None:
        group = next((g for g in self._configuration.groups if g == parameters.named_curve), None)
        if group is None or group in HYBRID_GROUPS:
            raise PeerMisbehaved(
                f"the server chose group {parameters.named_curve}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._group = group
        self._peer_share = parameters.public

    def _on_certificate_request(self, message: ReassembledMessage) -> None:
        request = CertificateRequest.parse(message.body)
        self._certificate_requested = True
        self._choose_credentials(request)
        self._note(message)
        self._state = State.SERVER_HELLO_DONE

    def _choose_credentials(self, request: CertificateRequest) -> None:
        """Take the first of our credentials that the server can deal with; without any, the server decides.

        :raises NegotiationFailed: when the configuration insists; it tells why the last one does not fit.
        """
        accepts = PeerAccepts(request.signature_schemes, (self._own_certificate_type,), request.authorities)
        reason = ""
        for credentials in self._configuration.signing_credentials:
            kind = _CERTIFICATE_TYPES[authentication_method(credentials.private_key)]
            schemes = choose_schemes12(credentials, self._configuration.signature_schemes, accepts)
            misfit = mismatch(credentials, accepts)
            if misfit is not None:
                reason = misfit
            elif kind not in request.certificate_types:
                reason = f"does not take certificates of type {kind.name.lower()}"
            elif not schemes:
                reason = NO_COMMON_SCHEME
            else:
                self._credentials = self._signing = credentials
                self._scheme = schemes[0]
                return
        if reason and self._configuration.insist_on_credentials:
            raise nothing_fits(reason)

    # Our answer, and the end

    def _on_server_hello_done(self, message: ReassembledMessage) -> None:
        ServerHelloDone.parse(message.body)
        self._note(message)
        if self._certificate_requested:
            self._send(self._certificate(self._own_certificate_type, self._signing))
        premaster_secret = self._send_client_key_exchange()
        secrets = self._derive_keys(premaster_secret)
        if self._signing is not None and self._scheme is not None:
            self._send(self._certificate_verify(self._signing, self._scheme))
        self._send_finished(CLIENT_FINISHED_LABEL, secrets)
        self._await_last_flight()
        self._end_flight()

    def _send_client_key_exchange(self) -> bytes:
        """Send our share, or by what name we know our key, or both; returns the premaster secret."""
        public, shared_secret = b"", None
        if self._parameters.is_ephemeral:
            share = generate_key_share(self._chosen_group)
            public, shared_secret = share.public, share.exchange(self._peer_share)
        if self._uses_certificates and shared_secret is not None:
            self._send(ClientKeyExchange(public))
            return shared_secret
        key = self._pre_shared_key
        self._credentials = key
        self._peer = replace(self._peer, pre_shared_key_identity=key.identity)
        self._send(PskClientKeyExchange(key.identity, public))
        return psk_premaster_secret(key.key, shared_secret)

    @property
    def _pre_shared_key(self) -> PreSharedKey:
        """The first of our keys: the server cannot say which ones it knows."""
        keys = pre_shared_keys12(self._configuration)
        if not keys:
            raise NegotiationFailed("there is no pre-shared key", AlertDescription.INTERNAL_ERROR)
        return keys[0]

    def _on_new_session_ticket(self, message: ReassembledMessage) -> None:
        self._new_ticket = NewSessionTicket.parse(message.body)
        self._note(message)
        self._state = State.FINISHED

    def _on_finished(self, message: ReassembledMessage) -> None:
        secrets = self._derived_secrets
        self._check_finished(message, secrets)
        if self._resumed is not None:
            self._send_finished(CLIENT_FINISHED_LABEL, secrets)
            self._end_flight(answered=False)
        else:
            self._layer.forget_flight()
        self._complete(secrets, self._session_to_keep(secrets))

    def _session_to_keep(self, secrets: SessionSecrets) -> Session | None:
        """What can be resumed from here on: by the new ticket, as before, or by the server's session ID."""
        if not self._configuration.resume_sessions:
            return None
        session = self._new_session(secrets)
        if self._new_ticket is not None and self._new_ticket.ticket:
            # Not longer than we want ourselves; a hint of 0 leaves it to us (RFC 5077 §3.3).
            lifetime = min(self._new_ticket.lifetime_hint or session.lifetime, session.lifetime)
            return session.with_ticket(self._new_ticket.ticket, lifetime, self._layer.now)
        if self._resumed is not None:
            return self._resumed
        return replace(session, session_id=self._session_id) if self._session_id else None
