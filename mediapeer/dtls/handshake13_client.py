"""The client's side of the DTLS 1.3 handshake, from the ServerHello on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mediapeer.dtls import extensions
from mediapeer.dtls.choice13 import choose_scheme13
from mediapeer.dtls.client_offer import own_certificate_types
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import SigningCredentials
from mediapeer.dtls.errors import DecodeError, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, State
from mediapeer.dtls.handshake13 import HANDSHAKE_EPOCH, Handshake13
from mediapeer.dtls.key_exchange import KeyShare
from mediapeer.dtls.messages import ClientHello, ServerHello
from mediapeer.dtls.messages13 import CertificateRequest13, EncryptedExtensions
from mediapeer.dtls.psk_offer import ClientPsk
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CertificateType,
    CipherSuite,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)
from mediapeer.dtls.selection import PeerAccepts, nothing_fits
from mediapeer.dtls.session import Session
from mediapeer.dtls.transcript13 import Transcript

_SERVER_HELLO_EXTENSIONS = frozenset(
    {ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.PRE_SHARED_KEY}
)
_CERTIFICATE_EXTENSIONS = frozenset(
    {ExtensionType.STATUS_REQUEST, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP}
)


class ClientHandshake13(Handshake13):
    """A client whose server has taken up DTLS 1.3.

    :param hello: the ClientHello that the server answers.
    :param key_shares: the shares in it.
    :param psks: the pre-shared keys in it.
    :param transcript: everything up to that ClientHello.
    :param retry_suite: what a HelloRetryRequest has settled on, if there was one.
    """

    role = Role.CLIENT

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        hello: ClientHello,
        key_shares: Mapping[NamedGroup, KeyShare],
        psks: Sequence[ClientPsk],
        transcript: Transcript,
        retry_suite: CipherSuite | None,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq, transcript)
        self._hello = hello
        self._client_random = hello.random
        self._key_shares = key_shares
        self._psks = psks
        self._retry_suite = retry_suite
        self._hello_retry_requested = retry_suite is not None
        self._own_certificate_type = CertificateType.X509
        self._session_to_resume: Session | None = None
        self._certificate_requested = False
        self._signing: SigningCredentials | None = None
        self._scheme: SignatureScheme | None = None
        self._state = State.SERVER_HELLO
        self._handlers = {
            State.SERVER_HELLO: {HandshakeType.SERVER_HELLO: self._on_server_hello},
            State.ENCRYPTED_EXTENSIONS: {HandshakeType.ENCRYPTED_EXTENSIONS: self._on_encrypted_extensions},
            State.CERTIFICATE_OR_REQUEST: {
                HandshakeType.CERTIFICATE_REQUEST: self._on_certificate_request,
                HandshakeType.CERTIFICATE: self._on_certificate,
            },
            State.SERVER_CERTIFICATE: {HandshakeType.CERTIFICATE: self._on_certificate},
            State.CERTIFICATE_VERIFY: {HandshakeType.CERTIFICATE_VERIFY: self._on_certificate_verify},
            State.FINISHED: {HandshakeType.FINISHED: self._on_finished},
            State.COMPLETE: {},
        }

    def _on_server_hello(self, message: ReassembledMessage) -> None:
        hello = ServerHello.parse(message.body)
        ours = self._configuration.suites_of(ProtocolVersion.DTLS_1_3)
        suite = next((s for s in ours if s == hello.cipher_suite), None)
        if suite is None or suite is not (self._retry_suite or suite):
            raise PeerMisbehaved(
                f"the server chose cipher suite 0x{hello.cipher_suite:04x}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        if hello.session_id:
            raise PeerMisbehaved(
                "the server echoes a session ID that was not sent", AlertDescription.ILLEGAL_PARAMETER
            )
        if any(
            kind not in _SERVER_HELLO_EXTENSIONS or kind not in self._hello.extensions
            for kind in hello.extensions
        ):
            raise PeerMisbehaved(
                "an extension has no place in a ServerHello of DTLS 1.3",
                AlertDescription.UNSUPPORTED_EXTENSION,
            )
        self._read_psk(hello, suite)
        body = hello.extensions.get(ExtensionType.KEY_SHARE)
        if body is None:
            raise PeerMisbehaved("the server sent no key share", AlertDescription.MISSING_EXTENSION)
        group, public = extensions.parse_server_share(body)
        share = next((s for g, s in self._key_shares.items() if g == group), None)
        if share is None:
            raise PeerMisbehaved(
                f"the server answers a key share of group {group}, which was not sent",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._group = share.group
        self._choose(suite)
        self._note(message)
        self._enter_handshake(share.exchange(public))
        self._layer.switch_writer(HANDSHAKE_EPOCH)
        self._state = State.ENCRYPTED_EXTENSIONS

    def _read_psk(self, hello: ServerHello, suite: CipherSuite) -> None:
        """See which of our pre-shared keys the server has chosen, if any (RFC 8446 §4.2.11)."""
        body = hello.extensions.get(ExtensionType.PRE_SHARED_KEY)
        if body is None:
            if self._configuration.verifier is None:
                raise PeerMisbehaved(
                    "the server knows none of our pre-shared keys", AlertDescription.MISSING_EXTENSION
                )
            return
        index = extensions.parse_uint16(body)
        if index >= len(self._psks):
            raise PeerMisbehaved(
                f"the server chose pre-shared key {index} of {len(self._psks)}",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        psk = self._psks[index]
        if psk.offered.hash_name != CIPHER_SUITE_PARAMETERS[suite].hash_name:
            raise PeerMisbehaved(
                "the server chose a pre-shared key with another hash", AlertDescription.ILLEGAL_PARAMETER
            )
        self._psk = psk.offered
        if psk.session is not None:
            self._session_to_resume = psk.session
        elif psk.credentials is not None:
            self._credentials = psk.credentials
            self._peer = replace(self._peer, pre_shared_key_identity=psk.credentials.identity)

    def _on_encrypted_extensions(self, message: ReassembledMessage) -> None:
        if self._session_to_resume is not None:
            # Not before there are keys: a refusal has to be read by the server.
            self._take_over(self._session_to_resume)
        for kind, body in EncryptedExtensions.parse(message.body).extensions.items():
            if kind not in self._hello.extensions:
                raise PeerMisbehaved(
                    f"the server answers extension {kind}, which was not offered",
                    AlertDescription.UNSUPPORTED_EXTENSION,
                )
            match kind:
                case ExtensionType.USE_SRTP:
                    self._srtp_profile = extensions.read_chosen_srtp_profile(
                        body, self._configuration.srtp_profiles
                    )
                case ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION:
                    self._alpn_protocol = extensions.read_chosen_alpn_protocol(
                        body, self._taken_alpn_protocols
                    )
                case ExtensionType.SERVER_NAME:
                    extensions.check_empty(body, ExtensionType.SERVER_NAME)
                case ExtensionType.SUPPORTED_GROUPS:
                    extensions.parse_uint16_list(body)  # for later connections; we keep none
                case ExtensionType.RECORD_SIZE_LIMIT:
                    self._limit_records(extensions.parse_record_size_limit(body))
                case ExtensionType.SERVER_CERTIFICATE_TYPE if self._psk is None:
                    chosen = extensions.read_chosen_certificate_type(
                        body, self._configuration.peer_certificate_types
                    )
                    self._peer = replace(self._peer, certificate_type=chosen)
                case ExtensionType.CLIENT_CERTIFICATE_TYPE if self._psk is None:
                    self._own_certificate_type = extensions.read_chosen_certificate_type(
                        body, own_certificate_types(self._configuration)
                    )
                case _:
                    raise PeerMisbehaved(
                        f"extension {kind} has no place in EncryptedExtensions",
                        AlertDescription.ILLEGAL_PARAMETER,
                    )
        self._note(message)
        if self._psk is not None:
            self._state = State.FINISHED
            return
        if self._peer.certificate_type not in self._configuration.peer_certificate_types:
            raise NegotiationFailed(
                "the server has no certificate of a type that is taken",
                AlertDescription.UNSUPPORTED_CERTIFICATE,
            )
        self._state = State.CERTIFICATE_OR_REQUEST

    def _on_certificate_request(self, message: ReassembledMessage) -> None:
        request = CertificateRequest13.parse(message.body)
        if request.request_context:
            raise PeerMisbehaved(
                "a request inside the handshake has no context", AlertDescription.ILLEGAL_PARAMETER
            )
        body = request.extensions.get(ExtensionType.SIGNATURE_ALGORITHMS)
        if body is None:
            raise PeerMisbehaved(
                "CertificateRequest lacks signature_algorithms", AlertDescription.MISSING_EXTENSION
            )
        authorities = request.extensions.get(ExtensionType.CERTIFICATE_AUTHORITIES)
        self._choose_credentials(
            PeerAccepts(
                extensions.parse_uint16_list(body),
                (self._own_certificate_type,),
                extensions.parse_certificate_authorities(authorities) if authorities is not None else (),
            )
        )
        self._certificate_requested = True
        self._note(message)
        self._state = State.SERVER_CERTIFICATE

    def _choose_credentials(self, accepts: PeerAccepts) -> None:
        """The first of our credentials that the server takes; without any, the server decides."""
        reason = ""
        for credentials in self._configuration.signing_credentials:
            scheme, reason = choose_scheme13(self._configuration, credentials, accepts)
            if scheme is not None:
                self._credentials = self._signing = credentials
                self._scheme = scheme
                return
        if reason and self._configuration.insist_on_credentials:
            raise nothing_fits(reason)

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = self._receive_certificate(message, _CERTIFICATE_EXTENSIONS & self._hello.extensions.keys())
        if not chain:
            raise DecodeError("the server's Certificate is empty")
        self._verify_peer(chain)
        self._note(message)
        self._state = State.CERTIFICATE_VERIFY

    def _on_certificate_verify(self, message: ReassembledMessage) -> None:
        self._receive_certificate_verify(message)
        self._state = State.FINISHED

    def _on_finished(self, message: ReassembledMessage) -> None:
        self._receive_finished(message, self._server_handshake_secret)
        traffic = self._enter_application()
        if self._certificate_requested:
            self._send_certificate(self._signing, self._scheme)
        self._send_finished(self._client_handshake_secret)
        if self._configuration.resume_sessions:
            self._derive_resumption_secret()
        self._end_flight()
        self._layer.install_writer(traffic.writer())
        self._layer.switch_writer(traffic.write_epoch)
        self._layer.install_reader(traffic.reader(self._layer.counters))
        self._state = State.COMPLETE
        is_resumable = self._configuration.resume_sessions
        self._layer.handshake_completed(self._result(traffic, is_resumable=is_resumable))
