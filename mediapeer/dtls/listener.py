"""A server's door for peers whose address nobody has checked (RFC 6347 §4.2.1, RFC 9147 §5.1).

Not needed behind ICE, which has checked the path already.
"""

import dataclasses

from mediapeer.dtls import extensions
from mediapeer.dtls.choice13 import check_client_hello13, choose13, choose_group13, client_shares
from mediapeer.dtls.codec import Reader
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.connection import DtlsConnection
from mediapeer.dtls.cookies import CookieFactory
from mediapeer.dtls.errors import ConfigurationError, DecodeError, DtlsError
from mediapeer.dtls.handshake13_server import RetryState, hello_retry_request
from mediapeer.dtls.messages import RANDOM_LENGTH, ClientHello, HandshakeMessage, HelloVerifyRequest
from mediapeer.dtls.reassembly import HandshakeFragment, handshake_header, parse_fragment
from mediapeer.dtls.record import (
    RECORD_HEADER_LENGTH,
    Record,
    UnifiedRecord,
    serialize_record,
    split_datagram,
)
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
MAXIMUM_MESSAGE_SEQ = 8
"A client has said hello so often at the most; its numbers are ours to go on from."
MAXIMUM_RECORD_NUMBER = 2**47


class StatelessListener:
    """Answers each ClientHello with a cookie, keeps nothing, and makes a connection when the cookie comes back.

    The answer is never three times as long as what it answers. The caller keeps the connections by address, and
    asks the listener about datagrams from addresses it has none for. A client that has lost its state may greet
    again from an address that is in use: give such an unprotected ClientHello to the listener too, and replace the
    old connection when the new one's handshake is completed, not before.

    The cookie of DTLS 1.3 carries the hash of the first ClientHello, which has to be whole for that: clients that
    come here send one key share of X25519 first (``groups_to_share``). The second one may come in pieces. A first
    ClientHello in pieces is asked for the cookie of DTLS 1.2, which only a client that offers no 1.3 can use.

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
        record = _first_record(data)
        if not isinstance(record, Record) or record.epoch or record.content_type != ContentType.HANDSHAKE:
            return None
        try:
            fragment = parse_fragment(Reader(record.fragment))
            beginning = _HelloBeginning.parse(fragment)
            if fragment.message_seq > MAXIMUM_MESSAGE_SEQ or record.sequence_number > MAXIMUM_RECORD_NUMBER:
                return None
            return self._receive_hello(beginning, fragment, record, data, address, now)
        except DecodeError:
            return None
        except DtlsError as error:
            if error.alert is None:
                return None
            return serialize_record(
                ContentType.ALERT, record.sequence_number, bytes([AlertLevel.FATAL, error.alert])
            )

    def _receive_hello(
        self,
        beginning: "_HelloBeginning",
        fragment: HandshakeFragment,
        record: Record,
        data: bytes,
        address: bytes,
        now: float,
    ) -> DtlsConnection | bytes | None:
        """Look for either cookie where the ClientHello begins: the rest of it may be elsewhere."""
        random = beginning.random
        if contents := self._cookies.open(beginning.cookie_extension, address, random, now):
            retry = _retry_from_cookie(contents, beginning.cookie_extension)
            return self._connect(fragment, record, data, now, retry)
        if self._cookies.open(beginning.legacy_cookie, address, random, now) == b"":
            # The version is chosen when the hello is whole, and a hello of DTLS 1.3 may not have this cookie:
            # cutting one in two makes nobody speak 1.2.
            return self._connect(fragment, record, data, now, None)
        if fragment.is_last:
            hello = ClientHello.parse(fragment.data)
            if choose_version(self._configuration, hello) is ProtocolVersion.DTLS_1_3:
                return self._ask_again13(hello, fragment, record, address, now)
        if ProtocolVersion.DTLS_1_2 not in self._configuration.versions:
            return None
        if fragment.message_seq and not fragment.is_last:
            return None  # it may answer a HelloRetryRequest, whose cookie is somewhere behind
        request = HelloVerifyRequest(ProtocolVersion.DTLS_1_0, self._cookies.make(address, random, now))
        return _answer(request, fragment, record, ProtocolVersion.DTLS_1_0)

    def _ask_again13(
        self, hello: ClientHello, fragment: HandshakeFragment, record: Record, address: bytes, now: float
    ) -> bytes:
        check_client_hello13(hello)
        suite = choose13(self._configuration, hello, now).cipher_suite
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
        fragment: HandshakeFragment,
        record: Record,
        data: bytes,
        now: float,
        retry: RetryState | None,
    ) -> DtlsConnection:
        connection = DtlsConnection(
            self._configuration,
            Role.SERVER,
            now,
            _first_message_seq=fragment.message_seq,
            _first_sequence_number=record.sequence_number,
            _retry=retry,
        )
        connection.receive_datagram(data, now)
        return connection


def _first_record(data: bytes) -> Record | UnifiedRecord | None:
    """The first record of a datagram; who has proved nothing yet does not get the others taken apart."""
    length = int.from_bytes(data[RECORD_HEADER_LENGTH - 2 : RECORD_HEADER_LENGTH], "big")
    records, _ = split_datagram(data[: RECORD_HEADER_LENGTH + length])
    return records[0] if records else None


@dataclasses.dataclass(frozen=True, slots=True)
class _HelloBeginning:
    """What the first fragment of a ClientHello tells."""

    random: bytes
    legacy_cookie: bytes
    "The cookie of DTLS 1.2."
    cookie_extension: bytes
    "The cookie of DTLS 1.3, if it stands in this fragment; else empty."

    @classmethod
    def parse(cls, fragment: HandshakeFragment) -> "_HelloBeginning":
        """Read as far as it goes.

        :raises DecodeError: when no ClientHello begins here, or is cut before the first cookie's end.
        """
        if fragment.handshake_type != HandshakeType.CLIENT_HELLO or fragment.offset:
            raise DecodeError("no ClientHello begins here")
        reader = Reader(fragment.data)
        reader.uint16()
        random = reader.take(RANDOM_LENGTH)
        reader.vector(1)
        legacy_cookie = reader.vector(1)
        try:
            return cls(random, legacy_cookie, _find_cookie_extension(reader))
        except DecodeError:
            return cls(random, legacy_cookie, b"")


def _find_cookie_extension(reader: Reader) -> bytes:
    """The cookie among the extensions that are whole in a fragment; the reader stands at the cipher suites."""
    reader.vector(2)
    reader.vector(1)
    reader.uint16()
    while reader.remaining:
        kind, body = reader.uint16(), reader.vector(2)
        if kind == ExtensionType.COOKIE:
            return extensions.parse_cookie(body)
    return b""


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
