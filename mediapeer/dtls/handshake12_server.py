"""The server's side of the DTLS 1.2 handshake."""

from dataclasses import replace

from mediapeer.dtls import extensions
from mediapeer.dtls.choice12 import Choice12, choose12
from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.credentials import SigningCredentials, sign
from mediapeer.dtls.errors import CertificateRejected, DtlsError, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, PeerIdentity, State
from mediapeer.dtls.handshake12 import Handshake12
from mediapeer.dtls.key_exchange import KeyShare, generate_key_share
from mediapeer.dtls.key_schedule import SERVER_FINISHED_LABEL, SessionSecrets, psk_premaster_secret
from mediapeer.dtls.messages import (
    RANDOM_LENGTH,
    CertificateRequest,
    CertificateStatus,
    CertificateVerify,
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
from mediapeer.dtls.messages13 import DOWNGRADE_SENTINEL
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH
from mediapeer.dtls.registry import (
    TLS_EMPTY_RENEGOTIATION_INFO_SCSV,
    AlertDescription,
    ClientCertificateType,
    ExtensionType,
    HandshakeType,
    ProtocolVersion,
    SignatureScheme,
)
from mediapeer.dtls.resumption import seal_ticket
from mediapeer.dtls.resumption12 import (
    SessionOffer,
    find_pre_shared_key,
    may_resume,
    read_session_offer,
)
from mediapeer.dtls.session import Session

SESSION_ID_LENGTH = 32


class ServerHandshake12(Handshake12):
    """A server that has settled on DTLS 1.2.

    :param next_message_seq: the ``message_seq`` of the ClientHello, which our ServerHello takes too: both sides
        have counted the same number of HelloVerifyRequests (RFC 6347 §4.2.2).
    """

    role = Role.SERVER

    def __init__(
        self, configuration: DtlsConfiguration, layer: HandshakeLayer, next_message_seq: int
    ) -> None:
        super().__init__(configuration, layer, next_message_seq)
        self._peer = PeerIdentity()
        self._key_share: KeyShare | None = None
        self._session_id = b""
        self._ticket_announced = False
        self._resumable: Session | None = None
        self._state = State.CLIENT_HELLO
        self._handlers = {
            State.CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: self._on_client_hello},
            State.CLIENT_CERTIFICATE: {HandshakeType.CERTIFICATE: self._on_certificate},
            State.CLIENT_KEY_EXCHANGE: {HandshakeType.CLIENT_KEY_EXCHANGE: self._on_client_key_exchange},
            State.CERTIFICATE_VERIFY: {HandshakeType.CERTIFICATE_VERIFY: self._on_certificate_verify},
            State.FINISHED: {HandshakeType.FINISHED: self._on_finished},
            State.COMPLETE: {},
        }

    # The ClientHello, and what is chosen from it

    def _on_client_hello(self, message: ReassembledMessage) -> None:
        hello = ClientHello.parse(message.body)
        if not hello.offers_null_compression:
            raise PeerMisbehaved("the client insists on compression", AlertDescription.ILLEGAL_PARAMETER)
        self._client_random = hello.random
        self._note(message)
        answer = self._read_client_extensions(hello)
        choice = choose12(self._configuration, hello)
        self._cipher_suite = choice.cipher_suite
        answer |= self._answer_offer(hello.extensions)
        if choice.signing is not None and ExtensionType.SERVER_CERTIFICATE_TYPE in hello.extensions:
            # Said when a session is resumed too: some clients take silence for X.509, and check it even then.
            answer[ExtensionType.SERVER_CERTIFICATE_TYPE] = bytes([choice.signing.certificate_type])
        offer = read_session_offer(self._configuration, hello, self._layer.now)
        session = self._session_to_resume(offer)
        if session is not None:
            self._resume(session, hello, answer, renew=offer.renew)
        else:
            self._negotiate(choice, hello, answer, takes_tickets=offer.takes_tickets)
        self._end_flight()

    def _read_client_extensions(self, hello: ClientHello) -> dict[int, bytes]:
        """Take what the client offers for any handshake of DTLS 1.2, and make what answers it in the ServerHello."""
        offer = hello.extensions
        answer: dict[int, bytes] = {}
        if (body := offer.get(ExtensionType.RENEGOTIATION_INFO)) is not None:
            extensions.check_renegotiation_info(body)
        if body is not None or TLS_EMPTY_RENEGOTIATION_INFO_SCSV in hello.cipher_suites:
            answer[ExtensionType.RENEGOTIATION_INFO] = extensions.RENEGOTIATION_INFO_BODY
        if (body := offer.get(ExtensionType.EXTENDED_MASTER_SECRET)) is not None:
            extensions.check_empty(body, ExtensionType.EXTENDED_MASTER_SECRET)
            self._extended_master_secret = True
            answer[ExtensionType.EXTENDED_MASTER_SECRET] = b""
        elif self._configuration.require_extended_master_secret:
            raise NegotiationFailed(
                "the client lacks extended_master_secret", AlertDescription.HANDSHAKE_FAILURE
            )
        if (body := offer.get(ExtensionType.EC_POINT_FORMATS)) is not None:
            extensions.check_ec_point_formats(body)
            answer[ExtensionType.EC_POINT_FORMATS] = extensions.EC_POINT_FORMATS_BODY
        if self._read_record_size_limit(offer):
            answer[ExtensionType.RECORD_SIZE_LIMIT] = extensions.serialize_uint16(
                self._configuration.record_size_limit or MAXIMUM_PLAINTEXT_LENGTH
            )
        return answer

    def _send_server_hello(self, session_id: bytes, answer: extensions.ExtensionBlock) -> None:
        self._server_random = self._configuration.random_bytes(RANDOM_LENGTH)
        if ProtocolVersion.DTLS_1_3 in self._configuration.versions:
            # Tells a client that could speak 1.3 as well that somebody between us took that away (RFC 8446 §4.1.3).
            self._server_random = self._server_random[: -len(DOWNGRADE_SENTINEL)] + DOWNGRADE_SENTINEL
        self._send(
            ServerHello(ProtocolVersion.DTLS_1_2, self._server_random, self._chosen_suite, answer, session_id)
        )

    # Resumption (RFC 5246 §7.3, RFC 5077 §3)

    def _session_to_resume(self, offer: SessionOffer) -> Session | None:
        """The session that the client offers, if it may be resumed; its peer is taken over then."""
        session = offer.session
        if session is None or not may_resume(
            self._configuration,
            session,
            self._layer.now,
            cipher_suite=self._chosen_suite,
            server_name=self._peer.server_name,
            extended_master_secret=self._extended_master_secret,
        ):
            return None
        return session if self._may_take_over(session) else None

    def _resume(self, session: Session, hello: ClientHello, answer: dict[int, bytes], *, renew: bool) -> None:
        self._resumable = session
        answer.pop(ExtensionType.SERVER_NAME, None)  # that stands with the session (RFC 6066 §3)
        self._ticket_announced = renew
        if renew:
            answer[ExtensionType.SESSION_TICKET] = b""
        # The client's own session ID, made up for a ticket, tells it that the session is resumed (RFC 5077 §3.4).
        self._send_server_hello(hello.session_id, answer)
        secrets = self._derive_keys_from(session)
        self._send_ticket(secrets)
        self._send_finished(SERVER_FINISHED_LABEL, secrets)
        self._state = State.FINISHED

    def _name_session(self, answer: dict[int, bytes], *, takes_tickets: bool) -> None:
        """Say how the session of a full handshake can be resumed, if it can."""
        if takes_tickets:
            self._ticket_announced = True
            answer[ExtensionType.SESSION_TICKET] = b""
        elif self._configuration.session_cache is not None:
            self._session_id = self._configuration.random_bytes(SESSION_ID_LENGTH)

    def _send_ticket(self, secrets: SessionSecrets) -> None:
        """Send the ticket that was announced; an empty one says that there is none after all (RFC 5077 §3.3)."""
        if not self._ticket_announced:
            return
        session = self._new_session(secrets)
        ticket = seal_ticket(self._configuration, session, self._layer.now)
        if ticket:
            self._resumable = session
        self._send(NewSessionTicket(int(session.lifetime) if ticket else 0, ticket))

    # Our first flight of a full handshake

    def _negotiate(
        self, choice: Choice12, hello: ClientHello, answer: dict[int, bytes], *, takes_tickets: bool
    ) -> None:
        self._group = choice.group
        requests_certificate = self._settle_client_certificate(hello, answer)
        self._name_session(answer, takes_tickets=takes_tickets)
        stapled = self._staple(hello, choice.signing, answer)
        self._send_server_hello(self._session_id, answer)
        if choice.signing is not None:
            self._credentials = choice.signing
            self._send(self._certificate(choice.signing.certificate_type, choice.signing))
        if stapled:
            self._send(CertificateStatus(stapled))
        self._send_server_key_exchange(choice.signing, choice.scheme)
        self._state = State.CLIENT_KEY_EXCHANGE
        if requests_certificate:
            self._send(
                CertificateRequest(
                    (ClientCertificateType.ECDSA_SIGN, ClientCertificateType.RSA_SIGN),
                    self._configuration.signature_schemes,
                    self._configuration.certificate_authorities,
                )
            )
            self._state = State.CLIENT_CERTIFICATE
        elif self._uses_certificates:
            self._verify_peer(())
        self._send(ServerHelloDone())

    def _settle_client_certificate(self, hello: ClientHello, answer: dict[int, bytes]) -> bool:
        """Whether to ask for the client's certificate, and of which type it is then (RFC 7250 §4.2)."""
        wanted = self._configuration.client_authentication is not ClientAuthentication.NONE
        if not wanted or not self._uses_certificates:
            return False
        self._settle_client_certificate_type(hello.extensions, answer)
        return True

    def _staple(
        self, hello: ClientHello, credentials: SigningCredentials | None, answer: dict[int, bytes]
    ) -> bytes:
        """Answer what the client asks for beside our certificate; returns the OCSP response to send, if any."""
        body = hello.extensions.get(ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP)
        if body is not None:
            extensions.check_empty(body, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP)
            if credentials is not None and credentials.signed_certificate_timestamps:
                timestamps = credentials.signed_certificate_timestamps
                answer[ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP] = timestamps
        body = hello.extensions.get(ExtensionType.STATUS_REQUEST)
        if body is None or not extensions.asks_for_ocsp(body) or credentials is None:
            return b""
        response = credentials.stapled_ocsp_response()
        if response:
            answer[ExtensionType.STATUS_REQUEST] = b""
        return response

    def _send_server_key_exchange(
        self, credentials: SigningCredentials | None, scheme: SignatureScheme | None
    ) -> None:
        """Send our share, signed or under a pre-shared key; and the identity hint, if there is one."""
        parameters: EcdhParameters | None = None
        if self._group is not None:
            self._key_share = generate_key_share(self._group)
            parameters = EcdhParameters(self._group, self._key_share.public)
        if parameters is not None and credentials is not None and scheme is not None:
            signed = self._client_random + self._server_random + parameters.serialize()
            self._send(ServerKeyExchange(parameters, scheme, sign(credentials.private_key, scheme, signed)))
            return
        hint = self._configuration.psk_identity_hint
        if parameters is not None or hint:
            self._send(PskServerKeyExchange(hint, parameters))

    # The client's second flight

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = self._parse_certificate(message)
        if not chain and self._configuration.client_authentication is ClientAuthentication.REQUIRED:
            raise CertificateRejected("the client sent no certificate", AlertDescription.HANDSHAKE_FAILURE)
        self._verify_peer(chain)
        self._note(message)
        self._state = State.CLIENT_KEY_EXCHANGE

    def _on_client_key_exchange(self, message: ReassembledMessage) -> None:
        if self._uses_certificates:
            premaster_secret = self._exchange(ClientKeyExchange.parse(message.body).public)
        else:
            premaster_secret = self._exchange_with_psk(message)
        self._note(message)
        self._derive_keys(premaster_secret)
        self._key_share = None
        self._state = State.CERTIFICATE_VERIFY if self._peer.chain else State.FINISHED

    def _exchange(self, public: bytes) -> bytes:
        if self._key_share is None:
            raise DtlsError("no key share was sent yet", AlertDescription.INTERNAL_ERROR)
        return self._key_share.exchange(public)

    def _exchange_with_psk(self, message: ReassembledMessage) -> bytes:
        """The premaster secret of a PSK suite; what the client names must be known (RFC 4279 §2)."""
        is_ephemeral = self._parameters.is_ephemeral
        exchange = PskClientKeyExchange.parse(message.body, is_ephemeral=is_ephemeral)
        shared_secret = self._exchange(exchange.public) if is_ephemeral else None
        key = find_pre_shared_key(self._configuration, exchange.identity)
        if key is None:
            raise NegotiationFailed(
                "the client names a pre-shared key that is not known", AlertDescription.UNKNOWN_PSK_IDENTITY
            )
        self._credentials = key
        self._peer = replace(self._peer, pre_shared_key_identity=key.identity)
        return psk_premaster_secret(key.key, shared_secret)

    def _on_certificate_verify(self, message: ReassembledMessage) -> None:
        proof = CertificateVerify.parse(message.body)
        self._verify_signature(proof.signature_scheme, proof.signature, bytes(self._transcript))
        self._note(message)
        self._state = State.FINISHED

    def _on_finished(self, message: ReassembledMessage) -> None:
        secrets = self._derived_secrets
        self._check_finished(message, secrets)
        if self._resumed is not None:
            self._layer.forget_flight()  # the client's Finished answers ours, and ends the handshake
        else:
            self._send_ticket(secrets)
            self._keep_session(secrets)
            self._send_finished(SERVER_FINISHED_LABEL, secrets)
            self._end_flight(answered=False)
        self._complete(secrets, self._resumable)

    def _keep_session(self, secrets: SessionSecrets) -> None:
        """Put the session of a full handshake into the cache, if it was given an ID."""
        cache = self._configuration.session_cache
        if self._session_id and cache is not None:
            self._resumable = replace(self._new_session(secrets), session_id=self._session_id)
            cache.add(self._resumable)
