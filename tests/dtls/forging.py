"""What a peer that breaks the protocol sends, and a stranger: records and messages made by hand."""

from collections.abc import Iterable
from typing import Any

from mediapeer.dtls import CipherSuite, DtlsConnection, NamedGroup, Role
from mediapeer.dtls.handshake13_server import RetryState, hello_retry_request
from mediapeer.dtls.messages import HandshakeMessage, ServerHello
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import ContentType, HandshakeType
from tests.dtls.support import Pair, configuration


def plain(message: HandshakeMessage, message_seq: int = 0, number: int = 0) -> bytes:
    """A handshake message in one record of epoch 0."""
    body = message.serialize()
    header = handshake_header(message.handshake_type, len(body), message_seq)
    return serialize_record(ContentType.HANDSHAKE, number, header + body)


def piece(
    body: bytes, start: int, end: int, *, kind: int = 1, seq: int = 0, length: int | None = None
) -> bytes:
    """A fragment of a handshake message, in a record of epoch 0.

    :param kind: the message's type; a ClientHello unless said otherwise.
    :param length: what the fragment says of the whole message's length, if that is a lie.
    """
    data = body[start:end]
    header = handshake_header(kind, len(body) if length is None else length, seq, start, len(data))
    return serialize_record(ContentType.HANDSHAKE, 0, header + data)


def hello_body(**options: Any) -> bytes:
    """The body of a client's first ClientHello."""
    client: Any = DtlsConnection(configuration(**options), Role.CLIENT, 0.0)
    body: bytes = client._handshake._sent.body
    return body


def retry_for(group: NamedGroup | None, cookie: bytes = b"") -> ServerHello:
    """A HelloRetryRequest."""
    return hello_retry_request(RetryState(b"", CipherSuite.TLS_AES_128_GCM_SHA256, group, cookie))


def fresh_server(**options: Any) -> DtlsConnection:
    """A server that has heard nothing yet."""
    return DtlsConnection(configuration(**options), Role.SERVER, 0.0)


def answers(end: DtlsConnection, datagrams: Iterable[bytes], now: float = 0.0) -> list[bytes]:
    """What an end sends when it receives ``datagrams``."""
    for datagram in datagrams:
        end.receive_datagram(datagram, now)
    return end.datagrams_to_send()


def is_server_hello(datagrams: list[bytes]) -> bool:
    """Whether what a server sends begins with a ServerHello, or a HelloRetryRequest."""
    if not datagrams:
        return False
    return (datagrams[0][0], datagrams[0][13]) == (ContentType.HANDSHAKE, HandshakeType.SERVER_HELLO)


def other(role: Role) -> Role:
    """The role of the peer."""
    return Role.SERVER if role is Role.CLIENT else Role.CLIENT


def newest(pair: Pair, sender: Role, data: bytes) -> bytes:
    """A datagram with application data that is not under way yet."""
    pair.end(sender).send_application_data(data)
    return pair.end(sender).datagrams_to_send()[-1]


def with_number_from_afar(datagram: bytes) -> bytes:
    """The same record under another number, far ahead: a forgery."""
    forged = bytearray(datagram)
    forged[2 if forged[0] >> 5 == 1 else 9] ^= 0x40
    return bytes(forged)
