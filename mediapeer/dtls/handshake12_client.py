"""The client's side of the DTLS 1.2 handshake."""

from collections.abc import Sequence

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import X509Credentials, authentication_method
from mediapeer.dtls.errors import CertificateRejected, DecodeError, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, State
from mediapeer.dtls.handshake12 import Handshake12, signature_schemes_for
from mediapeer.dtls.key_exchange import generate_key_share
from mediapeer.dtls.key_schedule import CLIENT_FINISHED_LABEL
from mediapeer.dtls.messages import (
    Certificate,
    CertificateRequest,
    ClientHello,
    ClientKeyExchange,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    AlertDescription,
    AuthenticationMethod,
    CipherSuite,
    ClientCertificateType,
    ExtensionType,
    HandshakeType,
    SignatureScheme,
)

_CERTIFICATE_TYPES = {
    AuthenticationMethod.ECDSA: ClientCertificateType.ECDSA_SIGN,
    AuthenticationMethod.RSA: ClientCertificateType.RSA_SIGN,
}


class ClientHandshake12(Handshake12):
    """A client whose server has chosen DTLS 1.2.

    :param hello: the ClientHello that the server answers.
    :param hello_message: the same as it goes into the transcript.
    """

    role = Role.CLIENT

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        hello: ClientHello,
        hello_message: bytes,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq)
        self._client_random = hello.random
        self._hello = hello
        self._transcript += hello_message
        self._peer_share = b""
        self._certificate_requested = False
        self._credentials: X509Credentials | None = None
        self._schemes: Sequence[SignatureScheme] = ()
        self._state = State.SERVER_HELLO
        self._handlers = {
            State.SERVER_HELLO: {HandshakeType.SERVER_HELLO: self._on_server_hello},
            State.SERVER_CERTIFICATE: {HandshakeType.CERTIFICATE: self._on_certificate},
            State.SERVER_KEY_EXCHANGE: {HandshakeType.SERVER_KEY_EXCHANGE: self._on_server_key_exchange},
            State.CERTIFICATE_REQUEST: {
                HandshakeType.CERTIFICATE_REQUEST: self._on_certificate_request,
                HandshakeType.SERVER_HELLO_DONE: self._on_server_hello_done,
            },
            State.SERVER_HELLO_DONE: {HandshakeType.SERVER_HELLO_DONE: self._on_server_hello_done},
            State.FINISHED: {HandshakeType.FINISHED: self._on_finished},
            State.COMPLETE: {},
        }

    # The server's first flight

    def _on_server_hello(self, message: ReassembledMessage) -> None:
        hello = ServerHello.parse(message.body)
        suite = next((s for s in self._hello.cipher_suites if s == hello.cipher_suite), None)
        if suite is None or CIPHER_SUITE_PARAMETERS[CipherSuite(suite)].version is not self.version:
            raise PeerMisbehaved(
                f"the server chose cipher suite 0x{hello.cipher_suite:04x}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._cipher_suite = CipherSuite(suite)
        self._server_random = hello.random
        self._read_server_extensions(hello.extensions)
        self._note(message)
        self._state = State.SERVER_CERTIFICATE

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
                    self._alpn_protocol = extensions.read_chosen_alpn_protocol(
                        body, self._configuration.alpn_protocols
                    )
                case _:
                    # supported_groups and signature_algorithms, which a server has no business to send.
                    raise PeerMisbehaved(
                        f"extension {kind} has no place in a ServerHello",
                        AlertDescription.UNSUPPORTED_EXTENSION,
                    )
        if self._configuration.require_extended_master_secret and not self._extended_master_secret:
            raise NegotiationFailed(
                "the server lacks extended_master_secret", AlertDescription.HANDSHAKE_FAILURE
            )

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = Certificate.parse(message.body).chain
        if not chain:
            raise DecodeError("the server's Certificate is empty")
        self._verify_peer(chain)
        method = CIPHER_SUITE_PARAMETERS[self._chosen_suite].authentication
        if self._peer_key is None or authentication_method(self._peer_key) is not method:
            raise CertificateRejected(
                f"the server's key is not of the kind that {self._chosen_suite.name} needs",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._note(message)
        self._state = State.SERVER_KEY_EXCHANGE

    def _on_server_key_exchange(self, message: ReassembledMessage) -> None:
        exchange = ServerKeyExchange.parse(message.body)
        parameters = exchange.parameters
        group = next((g for g in self._configuration.groups if g == parameters.named_curve), None)
        if group is None or group in HYBRID_GROUPS:
            raise PeerMisbehaved(
                f"the server chose group {parameters.named_curve}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._verify_signature(
            exchange.signature_scheme,
            exchange.signature,
            self._client_random + self._server_random + parameters.serialize(),
        )
        self._group = group
        self._peer_share = parameters.public
        self._note(message)
        self._state = State.CERTIFICATE_REQUEST

    def _on_certificate_request(self, message: ReassembledMessage) -> None:
        request = CertificateRequest.parse(message.body)
        self._certificate_requested = True
        for credentials in self._configuration.credentials:
            kind = _CERTIFICATE_TYPES[authentication_method(credentials.private_key)]
            if kind not in request.certificate_types:
                continue
            schemes = signature_schemes_for(
                credentials, self._configuration.signature_schemes, request.signature_schemes
            )
            if schemes:
                self._credentials, self._schemes = credentials, schemes
                break
        self._note(message)
        self._state = State.SERVER_HELLO_DONE

    # Our answer, and the end

    def _on_server_hello_done(self, message: ReassembledMessage) -> None:
        ServerHelloDone.parse(message.body)
        self._note(message)
        share = generate_key_share(self._chosen_group)
        premaster_secret = share.exchange(self._peer_share)
        if self._certificate_requested:
            self._send(Certificate(self._credentials.chain if self._credentials else ()))
        self._send(ClientKeyExchange(share.public))
        secrets = self._derive_keys(premaster_secret)
        if self._credentials is not None:
            self._send(self._certificate_verify(self._credentials, self._schemes))
        self._send_finished(CLIENT_FINISHED_LABEL, secrets)
        self._state = State.FINISHED
        self._end_flight()

    def _on_finished(self, message: ReassembledMessage) -> None:
        secrets = self._derived_secrets
        self._check_finished(message, secrets)
        self._layer.forget_flight()
        self._complete(secrets)
