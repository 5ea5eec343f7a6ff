"""A server's door for peers whose address nobody has checked (RFC 6347 §4.2.1, RFC 9147 §5.1).

Not needed behind ICE, which has checked the path already.
"""

import dataclasses

from mediapeer.dtls import extensions
from mediapeer.dtls.codec import Reader
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.connection import DtlsConnection
from mediapeer.dtls.cookies import CookieFactory
from mediapeer.dtls.errors import ConfigurationError, DecodeError, PeerMisbehaved
from mediapeer.dtls.handshake13_server import (
    RetryState,
    check_client_hello13,
    choose_cipher_suite13,
    choose_group13,
    client_shares,
    hello_retry_request,
)
from mediapeer.dtls.messages import RANDOM_LENGTH, ClientHello, HandshakeMessage, HelloVerifyRequest
from mediapeer.dtls.reassembly import HandshakeFragment, handshake_header, parse_fragments
from mediapeer.dtls.record import Record, serialize_record, split_datagram
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    AlertLevel,
    CipherSuite,
    ContentType,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
)
from mediapeer.dtls.server_hello import choose_version
from mediapeer.dtls.transcript13 import Transcript

MINIMUM_SECRET_LENGTH = 32


class StatelessListener:
    """Answers each ClientHello with a cookie, keeps nothing, and makes a connection when the cookie comes back.

    The answer is shorter than what it answers, so it amplifies nothing. The caller keeps the connections by
    address, and asks the listener about datagrams from addresses it has none for. A client that has lost its
    state may greet again from an address that is in use: give such an unprotected ClientHello to the listener
    too, and replace the old connection when the new one's handshake is completed, not before.

    The cookie of DTLS 1.3 carries the hash of the ClientHello that it answers, which has to be whole for that. A
    ClientHello in several datagrams is answered in DTLS 1.2 if the configuration has it, and not at all otherwise;
    clients that come here do well to send one key share of X25519 first.

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
        self._speaks_12 = ProtocolVersion.DTLS_1_2 in configuration.versions
        self._configuration_12 = (
            dataclasses.replace(configuration, maximum_version=ProtocolVersion.DTLS_1_2)
            if self._speaks_12
            else configuration
        )
        # A share of a hybrid group would not leave room for the cookie in one datagram: take it, never ask for it.
        groups = tuple(group for group in configuration.groups if group not in HYBRID_GROUPS)
        self._configuration_to_retry = (
            dataclasses.replace(configuration, groups=groups, groups_to_share=None)
            if groups
            else configuration
        )
        self._cookies = CookieFactory(secret, cookie_lifetime)

    def receive_datagram(self, data: bytes, address: bytes, now: float) -> DtlsConnection | bytes | None:
        """Take a datagram from ``address`` that belongs to no connection.

        :param address: any bytes that name the peer's address and port; they go into the cookie.
        :returns: a connection that has taken in the datagram, when it shows a good cookie; a datagram to send
            back, when it is a ClientHello without one, or one that leads nowhere; ``None`` when it is neither.
        """
        records, _ = split_datagram(data)
        record = records[0] if records else None
        if not isinstance(record, Record) or record.epoch or record.content_type != ContentType.HANDSHAKE:
            return None
        try:
            fragment = parse_fragments(record.fragment)[0]
            if fragment.handshake_type != HandshakeType.CLIENT_HELLO or fragment.offset:
                return None
            if fragment.is_last:
                hello = ClientHello.parse(fragment.data)
                if choose_version(self._configuration, hello) is ProtocolVersion.DTLS_1_3:
                    return self._receive_hello13(hello, fragment, record, data, address, now)
            if self._speaks_12:
                return self._receive_hello12(fragment, record, data, address, now)
        except DecodeError:
            return None
        except PeerMisbehaved as error:
            return serialize_record(
                ContentType.ALERT, record.sequence_number, bytes([AlertLevel.FATAL, error.alert])
            )
        return None

    def _receive_hello12(
        self, fragment: HandshakeFragment, record: Record, data: bytes, address: bytes, now: float
    ) -> DtlsConnection | bytes:
        """The cookie of DTLS 1.2 stands where the ClientHello begins; the rest of it may be elsewhere."""
        reader = Reader(fragment.data)
        reader.uint16()
        client_random = reader.take(RANDOM_LENGTH)
        reader.vector(1)
        cookie = reader.vector(1)
        if self._cookies.open(cookie, address, client_random, now) == b"":
            return self._connect(self._configuration_12, fragment, record, data, now, None)
        cookie = self._cookies.make(address, client_random, now)
        request = HelloVerifyRequest(ProtocolVersion.DTLS_1_0, cookie)
        return _answer(request, fragment, record, ProtocolVersion.DTLS_1_0)

    def _receive_hello13(
        self,
        hello: ClientHello,
        fragment: HandshakeFragment,
        record: Record,
        data: bytes,
        address: bytes,
        now: float,
    ) -> DtlsConnection | bytes:
        check_client_hello13(hello)
        body = hello.extensions.get(ExtensionType.COOKIE)
        if body is not None:
            cookie = extensions.parse_cookie(body)
            contents = self._cookies.open(cookie, address, hello.random, now)
            if contents:
                retry = _retry_from_cookie(contents, cookie)
                return self._connect(self._configuration, fragment, record, data, now, retry)
        suite = choose_cipher_suite13(self._configuration, hello)
        group = choose_group13(self._configuration, hello)
        wanted = None
        if group not in client_shares(hello):
            wanted = choose_group13(self._configuration_to_retry, hello)
        first = Transcript()
        first.choose_hash(CIPHER_SUITE_PARAMETERS[suite].hash_name)
        first.add(HandshakeType.CLIENT_HELLO, fragment.data)
        contents = suite.to_bytes(2, "big") + (wanted or 0).to_bytes(2, "big") + first.digest()
        cookie = self._cookies.make(address, hello.random, now, contents)
        return _answer(
            hello_retry_request(RetryState(first.digest(), suite, wanted, cookie)), fragment, record
        )

    def _connect(
        self,
        configuration: DtlsConfiguration,
        fragment: HandshakeFragment,
        record: Record,
        data: bytes,
        now: float,
        retry: RetryState | None,
    ) -> DtlsConnection:
        connection = DtlsConnection(
            configuration,
            Role.SERVER,
            now,
            _first_message_seq=fragment.message_seq,
            _first_sequence_number=record.sequence_number,
            _retry=retry,
        )
        connection.receive_datagram(data, now)
        return connection


def _retry_from_cookie(contents: bytes, cookie: bytes) -> RetryState:
    """What was remembered; it is authentic, and so well formed."""
    group = int.from_bytes(contents[2:4], "big")
    return RetryState(
        contents[4:],
        CipherSuite(int.from_bytes(contents[:2], "big")),
        NamedGroup(group) if group else None,
        cookie,
    )


def _answer(
    message: HandshakeMessage,
    fragment: HandshakeFragment,
    record: Record,
    version: ProtocolVersion = ProtocolVersion.DTLS_1_2,
) -> bytes:
    """A datagram with one message, numbered as what it answers: nobody counts here (RFC 6347 §4.2.1)."""
    body = message.serialize()
    header = handshake_header(message.handshake_type, len(body), fragment.message_seq)
    return serialize_record(ContentType.HANDSHAKE, record.sequence_number, header + body, version)
