"""The client's first words, before any version is chosen (RFC 8446 §4.1.2, RFC 9147 §5.3, RFC 6347 §4.2.1)."""

from dataclasses import dataclass, field

from mediapeer.dtls import extensions
from mediapeer.dtls.client_offer import client_hello, is_resumable
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.errors import NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.flights import OutgoingHandshakeMessage
from mediapeer.dtls.handshake import Handshake, HandshakeLayer, State
from mediapeer.dtls.handshake12_client import ClientHandshake12
from mediapeer.dtls.handshake13_client import ClientHandshake13
from mediapeer.dtls.key_exchange import KeyShare, generate_key_share
from mediapeer.dtls.messages import RANDOM_LENGTH, HelloVerifyRequest, ServerHello
from mediapeer.dtls.messages13 import DOWNGRADE_SENTINELS, HELLO_RETRY_REQUEST_RANDOM
from mediapeer.dtls.psk_offer import ClientPsk, client_psks, with_binders
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
from mediapeer.dtls.session import Session
from mediapeer.dtls.transcript13 import Transcript

MAXIMUM_HELLO_VERIFY_REQUESTS = 2
"A server may ask for a cookie, and once more if its secret changed meanwhile."


@dataclass(slots=True)
class Retry:
    """What a HelloRetryRequest has settled (RFC 8446 §4.1.4)."""

    cipher_suite: CipherSuite
    group: NamedGroup | None
    transcript: Transcript = field(default_factory=Transcript)


class ClientHelloPhase(Handshake):
    """Offers what the configuration allows, and hands over to the handshake of the version that the server takes.

    :param session: what is to be resumed; not offered when it has run out or does not go with the configuration.
    """

    role = Role.CLIENT

    def __init__(
        self, configuration: DtlsConfiguration, layer: HandshakeLayer, session: Session | None
    ) -> None:
        super().__init__(configuration, layer, next_message_seq=0)
        self._random = configuration.random_bytes(RANDOM_LENGTH)
        self._versions = configuration.versions
        self._key_shares: dict[NamedGroup, KeyShare] = {}
        if ProtocolVersion.DTLS_1_3 in self._versions:
            self._key_shares = {group: generate_key_share(group) for group in configuration.shared_groups}
        if session is not None and not is_resumable(configuration, session, layer.now):
            session = None
        self._offered_session = session
        self._psks: tuple[ClientPsk, ...] = ()
        if ProtocolVersion.DTLS_1_3 in self._versions:
            self._psks = client_psks(configuration, session)
        self._hello = client_hello(
            configuration, self._random, self._key_shares, session, offers_psk=bool(self._psks)
        )
        self._sent: OutgoingHandshakeMessage | None = None
        self._hello_verify_requests = 0
        self._retry: Retry | None = None
        self._state = State.SERVER_HELLO
        self._handlers = {
            State.SERVER_HELLO: {
                HandshakeType.SERVER_HELLO: self._on_server_hello,
                HandshakeType.HELLO_VERIFY_REQUEST: self._on_hello_verify_request,
            }
        }

    @property
    def read_epoch(self) -> int:
        """Hellos are never protected."""
        return 0

    def start(self) -> None:
        """Send the first flight."""
        self._send_hello()

    def _note_sent(self, message: OutgoingHandshakeMessage) -> None:
        self._sent = message

    def _send_hello(self) -> None:
        before = self._retry.transcript if self._retry else Transcript()
        self._hello = with_binders(self._hello, self._psks, before, self._layer.now)
        # A HelloRetryRequest has settled the version, a HelloVerifyRequest has not.
        version = ProtocolVersion.DTLS_1_0 if self._retry is None else ProtocolVersion.DTLS_1_2
        self._send(self._hello, record_version=version)
        self._end_flight()

    # What the server may say

    def _on_hello_verify_request(self, message: ReassembledMessage) -> None:
        request = HelloVerifyRequest.parse(message.body)
        if ProtocolVersion.DTLS_1_2 not in self._versions:
            raise NegotiationFailed(
                "the server speaks DTLS 1.2 at the most", AlertDescription.PROTOCOL_VERSION
            )
        if self._retry is not None:
            raise PeerMisbehaved("DTLS 1.3 has no HelloVerifyRequest", AlertDescription.UNEXPECTED_MESSAGE)
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
        self._hello = self._hello.with_cookie(request.cookie)
        self._send_hello()

    def _on_server_hello(self, message: ReassembledMessage) -> None:
        hello = ServerHello.parse(message.body)
        version = _selected_version(hello)
        if version not in self._versions:
            raise NegotiationFailed(
                f"the server chose version 0x{version:04x}", AlertDescription.PROTOCOL_VERSION
            )
        if version == ProtocolVersion.DTLS_1_2:
            self._continue_with_12(hello, message)
        elif self._hello_verify_requests:
            raise PeerMisbehaved(
                "the server asked for a cookie as DTLS 1.2 does, and chose 1.3",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        elif hello.random == HELLO_RETRY_REQUEST_RANDOM:
            self._retry_hello(hello, message)
        else:
            self._continue_with_13(message)

    def _continue_with_12(self, hello: ServerHello, message: ReassembledMessage) -> None:
        if self._retry is not None:
            raise PeerMisbehaved(
                "the server changed the version after HelloRetryRequest", AlertDescription.ILLEGAL_PARAMETER
            )
        speaks_13 = ProtocolVersion.DTLS_1_3 in self._versions
        if speaks_13 and hello.random.endswith(DOWNGRADE_SENTINELS):
            raise PeerMisbehaved(
                "the server could speak DTLS 1.3 and was made to speak 1.2",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        handshake = ClientHandshake12(
            self._configuration,
            self._layer,
            self._next_message_seq,
            self._hello,
            self._sent_hello.serialize(),
            self._offered_session,
        )
        self._layer.continue_with(handshake)
        handshake.receive(message)

    def _continue_with_13(self, message: ReassembledMessage) -> None:
        handshake = ClientHandshake13(
            self._configuration,
            self._layer,
            self._next_message_seq,
            self._hello,
            self._key_shares,
            self._psks,
            self._transcript_so_far(),
            self._retry.cipher_suite if self._retry else None,
        )
        self._layer.continue_with(handshake)
        handshake.receive(message)

    def _transcript_so_far(self) -> Transcript:
        transcript = self._retry.transcript if self._retry else Transcript()
        transcript.add(HandshakeType.CLIENT_HELLO, self._sent_hello.body)
        return transcript

    @property
    def _sent_hello(self) -> OutgoingHandshakeMessage:
        if self._sent is None:
            raise PeerMisbehaved("the server answers what was not said", AlertDescription.UNEXPECTED_MESSAGE)
        return self._sent

    # HelloRetryRequest (RFC 8446 §4.1.4)

    def _retry_hello(self, request: ServerHello, message: ReassembledMessage) -> None:
        if self._retry is not None:
            raise PeerMisbehaved("a second HelloRetryRequest", AlertDescription.UNEXPECTED_MESSAGE)
        if request.session_id:
            raise PeerMisbehaved(
                "the server echoes a session ID that was not sent", AlertDescription.ILLEGAL_PARAMETER
            )
        ours = self._configuration.suites_of(ProtocolVersion.DTLS_1_3)
        suite = next((s for s in ours if s == request.cipher_suite), None)
        if suite is None:
            raise PeerMisbehaved(
                f"the server chose cipher suite 0x{request.cipher_suite:04x}, which was not offered",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        group, cookie = self._read_retry_extensions(request)
        parameters = CIPHER_SUITE_PARAMETERS[suite]
        first = Transcript()
        first.choose_hash(parameters.hash_name)
        first.add(HandshakeType.CLIENT_HELLO, self._sent_hello.body)
        self._retry = Retry(suite, group)
        self.version = ProtocolVersion.DTLS_1_3
        self._retry.transcript.choose_hash(parameters.hash_name)
        self._retry.transcript.restart_from_hash(first.digest())
        self._retry.transcript.add(message.handshake_type, message.body)
        block: dict[int, bytes] = {}
        if cookie is not None:
            # First, to be in the first datagram: a server keeps no fragments of who has shown no cookie.
            block[ExtensionType.COOKIE] = extensions.serialize_cookie(cookie)
        block |= self._hello.extensions
        if group is not None:
            self._key_shares = {group: generate_key_share(group)}
            block[ExtensionType.KEY_SHARE] = extensions.serialize_client_shares(
                {group: self._key_shares[group].public}
            )
        self._hello = self._hello.with_extensions(block)
        # The suite is chosen: keys with another hash cannot be used any more (RFC 8446 §4.1.4).
        self._psks = tuple(psk for psk in self._psks if psk.offered.hash_name == parameters.hash_name)
        self._send_hello()

    def _read_retry_extensions(self, request: ServerHello) -> tuple[NamedGroup | None, bytes | None]:
        """The group and the cookie that the server asks for; at least one of them is new."""
        known = (ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.COOKIE)
        if any(kind not in known for kind in request.extensions):
            raise PeerMisbehaved(
                "an extension has no place in a HelloRetryRequest", AlertDescription.UNSUPPORTED_EXTENSION
            )
        group: NamedGroup | None = None
        if (body := request.extensions.get(ExtensionType.KEY_SHARE)) is not None:
            wanted = extensions.parse_uint16(body)
            group = next((g for g in self._configuration.groups if g == wanted), None)
            if group is None or group in self._key_shares:
                raise PeerMisbehaved(
                    f"HelloRetryRequest asks for group {wanted}, which makes no sense",
                    AlertDescription.ILLEGAL_PARAMETER,
                )
        cookie = request.extensions.get(ExtensionType.COOKIE)
        if group is None and cookie is None:
            raise PeerMisbehaved("HelloRetryRequest changes nothing", AlertDescription.ILLEGAL_PARAMETER)
        return group, None if cookie is None else extensions.parse_cookie(cookie)


def _selected_version(hello: ServerHello) -> int:
    """The version a ServerHello speaks of (RFC 8446 §4.2.1): that extension alone decides on 1.3."""
    body = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if body is None:
        return hello.server_version
    version = extensions.parse_uint16(body)
    if hello.server_version != ProtocolVersion.DTLS_1_2 or version >= ProtocolVersion.DTLS_1_2:
        raise PeerMisbehaved(
            f"supported_versions selects 0x{version:04x}", AlertDescription.ILLEGAL_PARAMETER
        )
    return version
