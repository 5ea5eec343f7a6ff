"""The server's side of the DTLS 1.3 handshake."""

from collections.abc import Mapping
from dataclasses import dataclass

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.errors import CertificateRejected, NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, State
from mediapeer.dtls.handshake13 import HANDSHAKE_EPOCH, Handshake13
from mediapeer.dtls.key_exchange import answer_key_share
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages import RANDOM_LENGTH, ClientHello, ServerHello
from mediapeer.dtls.messages13 import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest13,
    EncryptedExtensions,
)
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CipherSuite,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
)
from mediapeer.dtls.transcript13 import Transcript

_RETRY_BODY_VERSION = extensions.serialize_uint16(ProtocolVersion.DTLS_1_3)


@dataclass(frozen=True, slots=True)
class RetryState:
    """What is to be remembered of a first ClientHello that was answered by a HelloRetryRequest."""

    hello_hash: bytes
    "The hash of the first ClientHello, by the hash of the cipher suite."
    cipher_suite: CipherSuite
    group: NamedGroup | None
    "The group of which a share was asked for, or ``None`` when it was for the cookie only."
    cookie: bytes
    "The cookie that was sent; empty when none was."


class ServerHandshake13(Handshake13):
    """A server that has settled on DTLS 1.3.

    :param retry: given when a stateless listener has sent a HelloRetryRequest already.
    """

    role = Role.SERVER

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        retry: RetryState | None = None,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq, Transcript())
        self._server_name = None
        self._retry = retry
        self._first_random: bytes | None = None
        self._traffic: ApplicationTraffic | None = None
        self._state = State.CLIENT_HELLO
        self._handlers = {
            State.CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: self._on_client_hello},
            State.CLIENT_CERTIFICATE: {HandshakeType.CERTIFICATE: self._on_certificate},
            State.CERTIFICATE_VERIFY: {HandshakeType.CERTIFICATE_VERIFY: self._on_certificate_verify},
            State.FINISHED: {HandshakeType.FINISHED: self._on_finished},
            State.COMPLETE: {},
        }

    def _on_client_hello(self, message: ReassembledMessage) -> None:
        hello = ClientHello.parse(message.body)
        check_client_hello13(hello)
        if self._first_random is not None and hello.random != self._first_random:
            raise PeerMisbehaved(
                "the second ClientHello is not the first one again", AlertDescription.ILLEGAL_PARAMETER
            )
        self._client_random = hello.random
        self._choose(choose_cipher_suite13(self._configuration, hello))
        shares = client_shares(hello)
        if self._retry is None:
            group = choose_group13(self._configuration, hello)
            if group not in shares:
                self._send_retry(message, hello, group)
                return
        else:
            group = self._check_retried(hello, shares)
            if not self._transcript_has_retry:
                self._rebuild_transcript(self._retry)
        self._group = group
        self._note(message)
        encrypted = self._answer_offer(hello.extensions)
        schemes = hello.extensions[ExtensionType.SIGNATURE_ALGORITHMS]
        credentials, scheme = self._credentials_for(extensions.parse_uint16_list(schemes))
        if credentials is None:
            raise NegotiationFailed(
                "the client offers no signature that goes with our certificates",
                AlertDescription.HANDSHAKE_FAILURE,
            )
        if self._configuration.client_authentication is ClientAuthentication.NONE:
            self._verify_peer(())  # while an alert can still be read by the client
        public, secret = answer_key_share(group, shares[group])
        self._send_server_hello(group, public)
        self._enter_handshake(secret)
        self._send(EncryptedExtensions(encrypted), HANDSHAKE_EPOCH)
        self._request_certificate()
        self._send_certificate(credentials, scheme)
        self._send_finished(self._server_handshake_secret)
        self._traffic = self._enter_application()
        self._layer.install_writer(self._traffic.writer())
        self._end_flight()

    # HelloRetryRequest (RFC 8446 §4.1.4)

    @property
    def _transcript_has_retry(self) -> bool:
        return self._first_random is not None

    def _send_retry(self, message: ReassembledMessage, hello: ClientHello, group: NamedGroup) -> None:
        self._note(message)
        self._retry = RetryState(self._transcript.digest(), self._chosen_suite, group, b"")
        self._first_random = hello.random
        self._transcript.restart_from_hash(self._retry.hello_hash)
        self._send(hello_retry_request(self._retry))
        self._end_flight()

    def _rebuild_transcript(self, retry: RetryState) -> None:
        """Go on where a listener stopped that kept nothing but what its cookie says."""
        self._transcript.restart_from_hash(retry.hello_hash)
        request = hello_retry_request(retry)
        self._transcript.add(request.handshake_type, request.serialize())

    def _check_retried(self, hello: ClientHello, shares: Mapping[int, bytes]) -> NamedGroup:
        """Make sure that the second ClientHello does what it was asked to, and nothing else (RFC 8446 §4.1.2)."""
        retry = self._retry
        if retry is None or self._chosen_suite != retry.cipher_suite:
            raise PeerMisbehaved(
                "the second ClientHello leads to another cipher suite", AlertDescription.ILLEGAL_PARAMETER
            )
        body = hello.extensions.get(ExtensionType.COOKIE)
        cookie = b"" if body is None else extensions.parse_cookie(body)
        if cookie != retry.cookie:
            raise PeerMisbehaved(
                "the second ClientHello has another cookie", AlertDescription.ILLEGAL_PARAMETER
            )
        if retry.group is None:
            group = choose_group13(self._configuration, hello)
        else:
            group = retry.group
            if list(shares) != [group]:
                raise PeerMisbehaved(
                    "the second ClientHello lacks the one share it was asked for",
                    AlertDescription.ILLEGAL_PARAMETER,
                )
        if group not in shares:
            raise PeerMisbehaved("no key share fits, again", AlertDescription.ILLEGAL_PARAMETER)
        return group

    # Our first flight

    def _send_server_hello(self, group: NamedGroup, public: bytes) -> None:
        random = self._configuration.random_bytes(RANDOM_LENGTH)
        answer: dict[int, bytes] = {
            ExtensionType.SUPPORTED_VERSIONS: extensions.serialize_uint16(ProtocolVersion.DTLS_1_3),
            ExtensionType.KEY_SHARE: extensions.serialize_server_share(group, public),
        }
        # The session ID of a DTLS 1.3 client is not echoed (RFC 9147 §5.3).
        self._send(ServerHello(ProtocolVersion.DTLS_1_2, random, self._chosen_suite, answer))

    def _request_certificate(self) -> None:
        if self._configuration.client_authentication is ClientAuthentication.NONE:
            self._state = State.FINISHED
            return
        schemes = extensions.serialize_uint16_list(self._configuration.signature_schemes)
        self._send(CertificateRequest13({ExtensionType.SIGNATURE_ALGORITHMS: schemes}), HANDSHAKE_EPOCH)
        self._state = State.CLIENT_CERTIFICATE

    # The client's last flight

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = self._receive_certificate(message).chain
        if not chain and self._configuration.client_authentication is ClientAuthentication.REQUIRED:
            raise CertificateRejected("the client sent no certificate", AlertDescription.CERTIFICATE_REQUIRED)
        self._verify_peer(chain)
        self._note(message)
        self._state = State.CERTIFICATE_VERIFY if chain else State.FINISHED

    def _on_certificate_verify(self, message: ReassembledMessage) -> None:
        self._receive_certificate_verify(message)
        self._state = State.FINISHED

    def _on_finished(self, message: ReassembledMessage) -> None:
        self._receive_finished(message, self._client_handshake_secret)
        traffic = self._traffic
        if traffic is None:
            raise PeerMisbehaved("Finished comes too early", AlertDescription.UNEXPECTED_MESSAGE)
        self._layer.forget_flight()
        self._layer.install_reader(traffic.reader(self._layer.counters))
        self._layer.switch_writer(traffic.write_epoch)
        self._state = State.COMPLETE
        self._layer.handshake_completed(self._result(traffic))


# What a listener needs as well, which keeps no state


def check_client_hello13(hello: ClientHello) -> None:
    """Make sure that a ClientHello is one of DTLS 1.3 (RFC 9147 §5.3, RFC 8446 §9.2)."""
    if hello.cookie:
        raise PeerMisbehaved(
            "a ClientHello of DTLS 1.3 has a cookie of DTLS 1.2", AlertDescription.ILLEGAL_PARAMETER
        )
    if hello.compression_methods != b"\0":
        raise PeerMisbehaved("the client offers compression", AlertDescription.ILLEGAL_PARAMETER)
    versions = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if versions is None or ProtocolVersion.DTLS_1_3 not in extensions.parse_supported_versions(versions):
        # A first ClientHello would not have come here, but a second one may try (RFC 8446 §4.1.4).
        raise PeerMisbehaved(
            "the client takes its offer of DTLS 1.3 back", AlertDescription.ILLEGAL_PARAMETER
        )
    required = (
        ExtensionType.SUPPORTED_GROUPS,
        ExtensionType.KEY_SHARE,
        ExtensionType.SIGNATURE_ALGORITHMS,
    )
    for kind in required:
        if kind not in hello.extensions:
            raise PeerMisbehaved(
                f"the ClientHello lacks {kind.name.lower()}", AlertDescription.MISSING_EXTENSION
            )


def client_shares(hello: ClientHello) -> dict[int, bytes]:
    """The key shares of a ClientHello; all of groups that it supports (RFC 8446 §4.2.8)."""
    shares = extensions.parse_client_shares(hello.extensions[ExtensionType.KEY_SHARE])
    supported = extensions.parse_uint16_list(hello.extensions[ExtensionType.SUPPORTED_GROUPS])
    if any(group not in supported for group in shares):
        raise PeerMisbehaved(
            "a key share is of a group that the client does not support", AlertDescription.ILLEGAL_PARAMETER
        )
    return shares


def choose_cipher_suite13(configuration: DtlsConfiguration, hello: ClientHello) -> CipherSuite:
    """The first of our suites of DTLS 1.3 that the client offers."""
    for suite in configuration.cipher_suites:
        if (
            CIPHER_SUITE_PARAMETERS[suite].version is ProtocolVersion.DTLS_1_3
            and suite in hello.cipher_suites
        ):
            return suite
    raise NegotiationFailed("the client offers no cipher suite of ours", AlertDescription.HANDSHAKE_FAILURE)


def choose_group13(configuration: DtlsConfiguration, hello: ClientHello) -> NamedGroup:
    """The first of our groups that the client has sent a share of, else the first that it supports.

    A round trip costs more than a group that is second in our order.
    """
    supported = extensions.parse_uint16_list(hello.extensions[ExtensionType.SUPPORTED_GROUPS])
    shares = client_shares(hello)
    common = [group for group in configuration.groups if group in supported]
    for group in common:
        if group in shares:
            return group
    if common:
        return common[0]
    raise NegotiationFailed("the client offers none of our groups", AlertDescription.HANDSHAKE_FAILURE)


def hello_retry_request(retry: RetryState) -> ServerHello:
    """The HelloRetryRequest that ``retry`` remembers; the same bytes each time (RFC 8446 §4.1.4)."""
    block: dict[int, bytes] = {ExtensionType.SUPPORTED_VERSIONS: _RETRY_BODY_VERSION}
    if retry.group is not None:
        block[ExtensionType.KEY_SHARE] = extensions.serialize_uint16(retry.group)
    if retry.cookie:
        block[ExtensionType.COOKIE] = extensions.serialize_cookie(retry.cookie)
    return ServerHello(ProtocolVersion.DTLS_1_2, HELLO_RETRY_REQUEST_RANDOM, retry.cipher_suite, block)
