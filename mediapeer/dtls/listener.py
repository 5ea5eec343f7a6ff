"""A server's door for peers whose address nobody has checked (RFC 6347 §4.2.1).

Not needed behind ICE, which has checked the path already.
"""

from mediapeer.dtls.codec import Reader
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.connection import DtlsConnection
from mediapeer.dtls.cookies import CookieFactory
from mediapeer.dtls.errors import ConfigurationError, DecodeError
from mediapeer.dtls.messages import RANDOM_LENGTH, HelloVerifyRequest
from mediapeer.dtls.reassembly import HandshakeFragment, handshake_header, parse_fragments
from mediapeer.dtls.record import Record, serialize_record, split_datagram
from mediapeer.dtls.registry import ContentType, HandshakeType, ProtocolVersion

MINIMUM_SECRET_LENGTH = 32


class StatelessListener:
    """Answers each ClientHello with a cookie, keeps nothing, and makes a connection when the cookie comes back.

    The answer is shorter than what it answers, so it amplifies nothing. The caller keeps the connections by
    address, and asks the listener about datagrams from addresses it has none for. A client that has lost its
    state may greet again from an address that is in use: give such an unprotected ClientHello to the listener
    too, and replace the old connection when the new one's handshake is completed, not before.

    :param configuration: what the connections are made with.
    :param secret: at least 32 random bytes. Servers that share an address share it; change it now and then.
    :param cookie_lifetime: how long a cookie is good, in seconds.
    :raises ConfigurationError: for a short secret, or when the configuration has no credentials.
    """

    def __init__(
        self, configuration: DtlsConfiguration, secret: bytes, cookie_lifetime: float = 60.0
    ) -> None:
        if len(secret) < MINIMUM_SECRET_LENGTH:
            raise ConfigurationError(f"a cookie secret has {MINIMUM_SECRET_LENGTH} bytes or more")
        if not configuration.credentials:
            raise ConfigurationError(f"a {Role.SERVER.value} needs credentials")
        self._configuration = configuration
        self._cookies = CookieFactory(secret, cookie_lifetime)

    def receive_datagram(self, data: bytes, address: bytes, now: float) -> DtlsConnection | bytes | None:
        """Take a datagram from ``address`` that belongs to no connection.

        The cookie is looked for where the ClientHello begins, so a hello that is spread over several datagrams
        needs no memory either.

        :param address: any bytes that name the peer's address and port; they go into the cookie.
        :returns: a connection that has taken in the datagram, when it shows a good cookie; a datagram to send
            back, when it is a ClientHello without one; ``None`` when it is neither.
        """
        records, _ = split_datagram(data)
        record = records[0] if records else None
        if not isinstance(record, Record) or record.epoch or record.content_type != ContentType.HANDSHAKE:
            return None
        try:
            fragment = parse_fragments(record.fragment)[0]
            client_random, cookie = _beginning_of_client_hello(fragment)
        except DecodeError:
            return None
        if self._cookies.check(cookie, address, client_random, now):
            connection = DtlsConnection(
                self._configuration,
                Role.SERVER,
                now,
                _first_message_seq=fragment.message_seq,
                _first_sequence_number=record.sequence_number,
            )
            connection.receive_datagram(data, now)
            return connection
        body = HelloVerifyRequest(
            ProtocolVersion.DTLS_1_0, self._cookies.make(address, client_random, now)
        ).serialize()
        header = handshake_header(HandshakeType.HELLO_VERIFY_REQUEST, len(body), fragment.message_seq)
        return serialize_record(
            ContentType.HANDSHAKE, record.sequence_number, header + body, ProtocolVersion.DTLS_1_0
        )


def _beginning_of_client_hello(fragment: HandshakeFragment) -> tuple[bytes, bytes]:
    """The random and the cookie of the ClientHello that begins with ``fragment``.

    :raises DecodeError: when it begins none, or is cut before the cookie's end.
    """
    if fragment.handshake_type != HandshakeType.CLIENT_HELLO or fragment.offset:
        raise DecodeError("no ClientHello begins here")
    reader = Reader(fragment.data)
    reader.uint16()
    client_random = reader.take(RANDOM_LENGTH)
    reader.vector(1)
    return client_random, reader.vector(1)
