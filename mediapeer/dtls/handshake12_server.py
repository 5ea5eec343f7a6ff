"""The server's side of the DTLS 1.2 handshake."""

from collections.abc import Sequence

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.credentials import X509Credentials, authentication_method, sign
from mediapeer.dtls.errors import CertificateRejected, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, State
from mediapeer.dtls.handshake12 import Handshake12, signature_schemes_for
from mediapeer.dtls.key_exchange import KeyShare, generate_key_share
from mediapeer.dtls.key_schedule import SERVER_FINISHED_LABEL
from mediapeer.dtls.messages import (
    RANDOM_LENGTH,
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    EcdhParameters,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from mediapeer.dtls.messages13 import DOWNGRADE_SENTINEL
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    TLS_EMPTY_RENEGOTIATION_INFO_SCSV,
    AlertDescription,
    CipherSuite,
    ClientCertificateType,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)

_GROUP_OF_CURVE = {
    "secp256r1": NamedGroup.SECP256R1,
    "secp384r1": NamedGroup.SECP384R1,
    "secp521r1": NamedGroup.SECP521R1,
}


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
        self._server_name = None
        self._key_share: KeyShare | None = None
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
        self._group = self._choose_group(hello)
        credentials, schemes = self._choose_suite(hello)
        self._server_random = self._configuration.random_bytes(RANDOM_LENGTH)
        if ProtocolVersion.DTLS_1_3 in self._configuration.versions:
            # Tells a client that could speak 1.3 as well that somebody between us took that away (RFC 8446 §4.1.3).
            self._server_random = self._server_random[: -len(DOWNGRADE_SENTINEL)] + DOWNGRADE_SENTINEL
        self._send(ServerHello(ProtocolVersion.DTLS_1_2, self._server_random, self._chosen_suite, answer))
        self._send(Certificate(credentials.chain))
        self._send(self._server_key_exchange(credentials, schemes[0]))
        self._state = State.CLIENT_KEY_EXCHANGE
        if self._configuration.client_authentication is not ClientAuthentication.NONE:
            self._send(
                CertificateRequest(
                    (ClientCertificateType.ECDSA_SIGN, ClientCertificateType.RSA_SIGN),
                    self._configuration.signature_schemes,
                )
            )
            self._state = State.CLIENT_CERTIFICATE
        else:
            self._verify_peer(())
        self._send(ServerHelloDone())
        self._end_flight()

    def _read_client_extensions(self, hello: ClientHello) -> dict[int, bytes]:
        """Take what the client offers, and make the extensions of the ServerHello."""
        offer, answer = hello.extensions, self._answer_offer(hello.extensions)
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
        return answer

    def _choose_group(self, hello: ClientHello) -> NamedGroup:
        body = hello.extensions.get(ExtensionType.SUPPORTED_GROUPS)
        if body is None:
            # A client that says nothing takes any; P-256 is what it surely has (RFC 8422 §4).
            offered: Sequence[int] = (NamedGroup.SECP256R1,)
        else:
            offered = extensions.parse_uint16_list(body)
        for group in self._configuration.groups:
            if group in offered and group not in HYBRID_GROUPS:
                return group
        raise NegotiationFailed("the client offers none of our groups", AlertDescription.HANDSHAKE_FAILURE)

    def _choose_suite(self, hello: ClientHello) -> tuple[X509Credentials, list[SignatureScheme]]:
        """Settle on a cipher suite in our order, with credentials and signature schemes that go with it."""
        body = hello.extensions.get(ExtensionType.SIGNATURE_ALGORITHMS)
        # A client that says nothing means SHA-1 (RFC 5246 §7.4.1.4.1), which is not spoken here.
        offered = extensions.parse_uint16_list(body) if body is not None else ()
        candidates = []
        for credentials in self._configuration.credentials:
            schemes = signature_schemes_for(credentials, self._configuration.signature_schemes, offered)
            if schemes and _takes_curve(hello, credentials):
                candidates.append((credentials, schemes))
        for suite in self._configuration.cipher_suites:
            method = CIPHER_SUITE_PARAMETERS[suite].authentication
            if suite not in hello.cipher_suites or method is None:
                continue
            for credentials, schemes in candidates:
                if authentication_method(credentials.private_key) is method:
                    self._cipher_suite = CipherSuite(suite)
                    return credentials, schemes
        raise NegotiationFailed(
            "the client offers no cipher suite and signature that go with our certificates",
            AlertDescription.HANDSHAKE_FAILURE,
        )

    def _server_key_exchange(
        self, credentials: X509Credentials, scheme: SignatureScheme
    ) -> ServerKeyExchange:
        self._key_share = generate_key_share(self._chosen_group)
        parameters = EcdhParameters(self._chosen_group, self._key_share.public)
        signed = self._client_random + self._server_random + parameters.serialize()
        return ServerKeyExchange(parameters, scheme, sign(credentials.private_key, scheme, signed))

    # The client's second flight

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = Certificate.parse(message.body).chain
        if not chain and self._configuration.client_authentication is ClientAuthentication.REQUIRED:
            raise CertificateRejected("the client sent no certificate", AlertDescription.HANDSHAKE_FAILURE)
        self._verify_peer(chain)
        self._note(message)
        self._state = State.CLIENT_KEY_EXCHANGE

    def _on_client_key_exchange(self, message: ReassembledMessage) -> None:
        exchange = ClientKeyExchange.parse(message.body)
        self._note(message)
        if self._key_share is None:
            raise PeerMisbehaved("no key share was sent yet", AlertDescription.INTERNAL_ERROR)
        self._derive_keys(self._key_share.exchange(exchange.public))
        self._key_share = None
        self._state = State.CERTIFICATE_VERIFY if self._peer_chain else State.FINISHED

    def _on_certificate_verify(self, message: ReassembledMessage) -> None:
        proof = CertificateVerify.parse(message.body)
        self._verify_signature(proof.signature_scheme, proof.signature, bytes(self._transcript))
        self._note(message)
        self._state = State.FINISHED

    def _on_finished(self, message: ReassembledMessage) -> None:
        secrets = self._derived_secrets
        self._check_finished(message, secrets)
        self._send_finished(SERVER_FINISHED_LABEL, secrets)
        self._end_flight(answered=False)
        self._complete(secrets)


def _takes_curve(hello: ClientHello, credentials: X509Credentials) -> bool:
    """Whether the client can work with the curve of our certificate's key (RFC 8422 §5.1)."""
    body = hello.extensions.get(ExtensionType.SUPPORTED_GROUPS)
    curve = getattr(credentials.private_key, "curve", None)
    if body is None or curve is None:
        return True
    return _GROUP_OF_CURVE.get(curve.name) in extensions.parse_uint16_list(body)
