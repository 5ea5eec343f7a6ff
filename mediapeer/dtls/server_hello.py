"""The server's decision on a version, when a ClientHello is whole and not before (RFC 8446 §4.2.1)."""

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.errors import NegotiationFailed
from mediapeer.dtls.flights import OutgoingHandshakeMessage
from mediapeer.dtls.handshake import Handshake, HandshakeLayer, State
from mediapeer.dtls.handshake12_server import ServerHandshake12
from mediapeer.dtls.handshake13_server import RetryState, ServerHandshake13
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import AlertDescription, ExtensionType, HandshakeType, ProtocolVersion

_OLDEST_FUTURE = 0x8000
"Versions of DTLS count downwards, to here at the most: those of TLS, which are none, begin with 3."


class ServerHelloPhase(Handshake):
    """Waits for a ClientHello, and hands over to the handshake of the best version that both speak.

    :param next_message_seq: the ``message_seq`` of the ClientHello, which our ServerHello takes too: both sides
        have counted the same number of requests for cookies (RFC 6347 §4.2.2).
    :param retry: what a HelloRetryRequest of a stateless listener has settled, as its cookie tells.
    """

    role = Role.SERVER

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        retry: RetryState | None = None,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq)
        self._retry = retry
        self._state = State.CLIENT_HELLO
        self._handlers = {State.CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: self._on_client_hello}}

    @property
    def read_epoch(self) -> int:
        """Hellos are never protected."""
        return 0

    def _note_sent(self, message: OutgoingHandshakeMessage) -> None:
        """Nothing: this phase only listens."""

    def _on_client_hello(self, message: ReassembledMessage) -> None:
        hello = ClientHello.parse(message.body)
        version = choose_version(self._configuration, hello)
        handshake: Handshake
        if version is ProtocolVersion.DTLS_1_3:
            handshake = ServerHandshake13(
                self._configuration, self._layer, self._next_message_seq, self._retry
            )
        else:
            handshake = ServerHandshake12(self._configuration, self._layer, self._next_message_seq)
        self._layer.continue_with(handshake)
        handshake.receive(message)


def choose_version(configuration: DtlsConfiguration, hello: ClientHello) -> ProtocolVersion:
    """The newest version that both sides speak.

    Versions of DTLS count downwards on the wire, so a newer one is a smaller number.

    :raises NegotiationFailed: with ``protocol_version`` when there is none.
    """
    body = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if body is not None:
        offered = extensions.parse_supported_versions(body)
    elif _OLDEST_FUTURE <= hello.client_version <= ProtocolVersion.DTLS_1_2:
        # What is newer than 1.2 without that extension is of a future that did not come (RFC 8446 §D.2).
        offered = (ProtocolVersion.DTLS_1_2,)
    else:
        offered = ()
    for version in configuration.versions:
        if version in offered:
            return version
    raise NegotiationFailed(
        "the client offers no version that is spoken here", AlertDescription.PROTOCOL_VERSION
    )
