"""The client's side of the DTLS 1.2 handshake."""

from collections.abc import Sequence

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import X509Credentials, authentication_method
from mediapeer.dtls.errors import CertificateRejected, DecodeError, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake12 import Handshake12, HandshakeLayer, State, signature_schemes_for
from mediapeer.dtls.key_exchange import generate_key_share
from mediapeer.dtls.key_schedule import CLIENT_FINISHED_LABEL
from mediapeer.dtls.messages import (
    RANDOM_LENGTH,
    Certificate,
    CertificateRequest,
    ClientHello,
    ClientKeyExchange,
    HelloVerifyRequest,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    AuthenticationMethod,
    ClientCertificateType,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)

MAXIMUM_HELLO_VERIFY_REQUESTS = 2
"A server may ask for a cookie, and once more if its secret changed meanwhile."

_CERTIFICATE_TYPES = {
    AuthenticationMethod.ECDSA: ClientCertificateType.ECDSA_SIGN,
    AuthenticationMethod.RSA: ClientCertificateType.RSA_SIGN,
}


class ClientHandshake12(Handshake12):
    """A client that offers DTLS 1.2 and nothing else."""

    role = Role.CLIENT

    def __init__(self, configuration: DtlsConfiguration, layer: HandshakeLayer) -> None:
        super().__init__(configuration, layer, next_message_seq=0)
        self._client_random = configuration.random_bytes(RANDOM_LENGTH)
        self._offer = self._extensions_to_offer()
        self._hello_verify_requests = 0
        self._peer_share = b""
        self._certificate_requested = False
        self._credentials: X509Credentials | None = None
        self._schemes: Sequence[SignatureScheme] = ()
        self._state = State.SERVER_HELLO
        self._handlers = {
            State.SERVER_HELLO: {
                HandshakeType.SERVER_HELLO: self._on_server_hello,
                HandshakeType.HELLO_VERIFY_REQUEST: self._on_hello_verify_request,
            },
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

    def start(self) -> None:
        """Send the first flight."""
        self._send_client_hello(b"")

    def _extensions_to_offer(self) -> dict[int, bytes]:
        configuration = self._configuration
        offer: dict[int, bytes] = {}
        if configuration.server_name is not None:
            offer[ExtensionType.SERVER_NAME] = extensions.serialize_server_name(configuration.server_name)
        offer[ExtensionType.EXTENDED_MASTER_SECRET] = b""
        offer[ExtensionType.RENEGOTIATION_INFO] = extensions.RENEGOTIATION_INFO_BODY
        offer[ExtensionType.SUPPORTED_GROUPS] = extensions.serialize_uint16_list(configuration.groups)
        offer[ExtensionType.EC_POINT_FORMATS] = extensions.EC_POINT_FORMATS_BODY
        if configuration.alpn_protocols:
            offer[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = extensions.serialize_alpn(
                configuration.alpn_protocols
            )
        offer[ExtensionType.SIGNATURE_ALGORITHMS] = extensions.serialize_uint16_list(
            configuration.signature_schemes
        )
        if configuration.srtp_profiles:
            offer[ExtensionType.USE_SRTP] = extensions.UseSrtp(configuration.srtp_profiles).serialize()
        return offer

    def _send_client_hello(self, cookie: bytes) -> None:
        self._send(
            ClientHello(
                ProtocolVersion.DTLS_1_2,
                self._client_random,
                self._configuration.cipher_suites,
                self._offer,
                cookie,
            )
        )
        self._end_flight()

    # The server's first flight

    def _on_hello_verify_request(self, message: ReassembledMessage) -> None:
        request = HelloVerifyRequest.parse(message.body)
        if request.server_version not in (ProtocolVersion.DTLS_1_0, ProtocolVersion.DTLS_1_2):
            raise PeerMisbehaved(
                f"HelloVerifyRequest has version 0x{request.server_version:04x}",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._hello_verify_requests += 1
        if self._hello_verify_requests > MAXIMUM_HELLO_VERIFY_REQUESTS:
            raise PeerMisbehaved(
                "the server asks for a cookie again and again", AlertDescription.UNEXPECTED_MESSAGE
            )
        # Neither it nor the ClientHello before it are part of the transcript (RFC 6347 §4.2.1).
        self._transcript.clear()
        self._send_client_hello(request.cookie)

    def _on_server_hello(self, message: ReassembledMessage) -> None:
        hello = ServerHello.parse(message.body)
        if hello.server_version != ProtocolVersion.DTLS_1_2:
            raise NegotiationFailed(
                f"the server chose version 0x{hello.server_version:04x}", AlertDescription.PROTOCOL_VERSION
            )
        self._cipher_suite = next(
            (suite for suite in self._configuration.cipher_suites if suite == hello.cipher_suite), None
        )
        if self._cipher_suite is None:
            raise PeerMisbehaved(
                f"the server chose cipher suite 0x{hello.cipher_suite:04x}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._server_random = hello.random
        self._read_server_extensions(hello.extensions)
        self._note(message)
        self._state = State.SERVER_CERTIFICATE

    def _read_server_extensions(self, block: extensions.ExtensionBlock) -> None:
        for kind, body in block.items():
            if kind not in self._offer:
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
                    self._read_use_srtp(body)
                case ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION:
                    self._read_alpn(body)
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

    def _read_use_srtp(self, body: bytes) -> None:
        answer = extensions.UseSrtp.parse(body)
        chosen = [p for p in self._configuration.srtp_profiles if p in answer.profiles]
        if len(answer.profiles) != 1 or not chosen or answer.mki:
            raise DecodeError(
                "the server's use_srtp is not one of the profiles offered", AlertDescription.ILLEGAL_PARAMETER
            )
        self._srtp_profile = chosen[0]

    def _read_alpn(self, body: bytes) -> None:
        protocols = extensions.parse_alpn(body)
        if len(protocols) != 1 or protocols[0] not in self._configuration.alpn_protocols:
            raise DecodeError(
                "the server's application protocol is not one of those offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._alpn_protocol = protocols[0]

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = Certificate.parse(message.body).chain
        if not chain:
            raise DecodeError("the server's Certificate is empty")
        self._verify_peer(chain)
        method = CIPHER_SUITE_PARAMETERS[self._chosen_suite].authentication
        if self._peer_key is None or authentication_method(self._peer_key) is not method:
            raise CertificateRejected(
                f"the server's key is not of the kind that the cipher suite needs ({method.value})",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._note(message)
        self._state = State.SERVER_KEY_EXCHANGE

    def _on_server_key_exchange(self, message: ReassembledMessage) -> None:
        exchange = ServerKeyExchange.parse(message.body)
        parameters = exchange.parameters
        if parameters.named_curve not in self._configuration.groups:
            raise PeerMisbehaved(
                f"the server chose group {parameters.named_curve}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self._verify_signature(
            exchange.signature_scheme,
            exchange.signature,
            self._client_random + self._server_random + parameters.serialize(),
        )
        self._group = NamedGroup(parameters.named_curve)
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
