"""Cookies: an address is proved before anything is remembered (RFC 6347 §4.2.1)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CipherSuite,
    ConfigurationError,
    DtlsConnection,
    HandshakeCompleted,
    NamedGroup,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    StatelessListener,
)
from mediapeer.dtls.cookies import BARE_COOKIE_LENGTH, CookieFactory
from tests.dtls.support import configuration, credentials

ADDRESS = b"192.0.2.1:4433"
SECRET = bytes(range(32))
NOW = 1000.0


pytestmark = pytest.mark.usefixtures("version")


def listener(secret: bytes = SECRET, **options: Any) -> StatelessListener:
    return StatelessListener(configuration(credentials=(credentials(),), **options), secret)


def greet(mtu: int = 1200) -> tuple[DtlsConnection, list[bytes]]:
    """A client whose first flight is one datagram, and that flight."""
    client = DtlsConnection(configuration(mtu=mtu, groups_to_share=(NamedGroup.X25519,)), Role.CLIENT, NOW)
    return client, client.datagrams_to_send()


def second_hello(subject: StatelessListener, mtu: int = 1200) -> tuple[DtlsConnection, list[bytes]]:
    """A client that has been asked for a cookie, and its second flight."""
    client, hello = greet(mtu)
    request = subject.receive_datagram(hello[0], ADDRESS, NOW)
    assert isinstance(request, bytes)
    client.receive_datagram(request, NOW)
    return client, client.datagrams_to_send()


def finish(client: DtlsConnection, server: DtlsConnection) -> None:
    for _ in range(4):
        for datagram in server.datagrams_to_send():
            client.receive_datagram(datagram, NOW)
        for datagram in client.datagrams_to_send():
            server.receive_datagram(datagram, NOW)
    for end in (client, server):
        assert isinstance(end.next_event(), HandshakeCompleted), end.error
    assert client.export_keying_material(b"EXPORTER-x", None, 32) == server.export_keying_material(
        b"EXPORTER-x", None, 32
    )


def test_a_client_shows_its_cookie_and_connects() -> None:
    subject = listener()
    client, (hello,) = second_hello(subject)
    server = subject.receive_datagram(hello, ADDRESS, NOW)
    assert isinstance(server, DtlsConnection)
    finish(client, server)


def test_nothing_is_kept_and_nothing_amplified_before_the_cookie() -> None:
    subject = listener()
    before = repr(vars(subject))
    _, (hello,) = greet()
    request = subject.receive_datagram(hello, ADDRESS, NOW)
    assert isinstance(request, bytes)
    assert len(request) < len(hello)
    assert repr(vars(subject)) == before


def test_the_request_repeats_the_record_number_of_the_hello() -> None:
    """So that numbers do not come twice although nobody counts them (RFC 6347 §4.2.1)."""
    subject = listener()
    client, _ = greet()
    client.handle_timeout(NOW + 1)
    (again,) = client.datagrams_to_send()
    request = subject.receive_datagram(again, ADDRESS, NOW)
    assert isinstance(request, bytes)
    assert request[3:11] == again[3:11] != bytes(8)


LONG = tuple(b"protocol-%d" % number for number in range(40))


def test_a_hello_in_many_datagrams_needs_no_memory_either() -> None:
    subject = listener(maximum_version=ProtocolVersion.DTLS_1_3)
    only_12 = configuration(mtu=256, alpn_protocols=LONG, maximum_version=ProtocolVersion.DTLS_1_2)
    client = DtlsConnection(only_12, Role.CLIENT, NOW)
    first, second, *_ = client.datagrams_to_send()
    assert subject.receive_datagram(second, ADDRESS, NOW) is None
    request = subject.receive_datagram(first, ADDRESS, NOW)
    assert isinstance(request, bytes)
    client.receive_datagram(request, NOW)
    first, *rest = client.datagrams_to_send()
    assert rest
    server = subject.receive_datagram(first, ADDRESS, NOW)
    assert isinstance(server, DtlsConnection)
    for datagram in rest:
        server.receive_datagram(datagram, NOW)
    finish(client, server)


def test_cutting_a_hello_in_two_makes_nobody_speak_an_older_version() -> None:
    """Who can do that between two ends of DTLS 1.3 ends the handshake, and gains nothing else (RFC 8446 §4.1.3)."""
    both = configuration(
        mtu=256,
        groups_to_share=(NamedGroup.X25519,),
        alpn_protocols=LONG,
        maximum_version=ProtocolVersion.DTLS_1_3,
    )
    subject = listener(maximum_version=ProtocolVersion.DTLS_1_3)
    client = DtlsConnection(both, Role.CLIENT, NOW)
    request = subject.receive_datagram(client.datagrams_to_send()[0], ADDRESS, NOW)
    assert isinstance(request, bytes)
    client.receive_datagram(request, NOW)
    first, *rest = client.datagrams_to_send()
    server = subject.receive_datagram(first, ADDRESS, NOW)
    assert isinstance(server, DtlsConnection)
    for datagram in rest:
        server.receive_datagram(datagram, NOW)
    assert isinstance(server.error, PeerMisbehaved)
    for datagram in server.datagrams_to_send():
        client.receive_datagram(datagram, NOW)
    assert isinstance(client.error, AlertReceived)


@pytest.mark.parametrize("mtu", [256, 304, 352])
def test_the_second_hello_of_dtls_13_may_come_in_pieces(mtu: int) -> None:
    """Its cookie stands first, so the first piece is enough to let the rest in."""
    client = DtlsConnection(
        configuration(
            mtu=mtu,
            groups=(NamedGroup.X25519, NamedGroup.SECP521R1),
            maximum_version=ProtocolVersion.DTLS_1_3,
        ),
        Role.CLIENT,
        NOW,
    )
    subject = listener(groups=(NamedGroup.SECP521R1,), maximum_version=ProtocolVersion.DTLS_1_3)
    (hello,) = client.datagrams_to_send()
    request = subject.receive_datagram(hello, ADDRESS, NOW)
    assert isinstance(request, bytes)
    client.receive_datagram(request, NOW)
    first, *rest = client.datagrams_to_send()
    assert rest
    for datagram in rest:
        assert subject.receive_datagram(datagram, ADDRESS, NOW) is None
    server = subject.receive_datagram(first, ADDRESS, NOW)
    assert isinstance(server, DtlsConnection)
    for datagram in rest:
        server.receive_datagram(datagram, NOW)
    finish(client, server)
    assert server.version is ProtocolVersion.DTLS_1_3


@pytest.mark.parametrize("field", [slice(17, 19), slice(5, 11)], ids=["message_seq", "record"])
def test_a_hello_with_numbers_near_their_end_is_left_alone(field: slice) -> None:
    """Our own go on from there, and would run out at once."""
    subject = listener()
    _, (hello,) = second_hello(subject)
    high = bytearray(hello)
    high[field] = b"\xff" * (field.stop - field.start)
    assert subject.receive_datagram(bytes(high), ADDRESS, NOW) is None


@pytest.mark.parametrize(
    ("address", "later", "secret"),
    [
        (b"192.0.2.2:4433", 0.0, SECRET),
        (b"192.0.2.1:4434", 0.0, SECRET),
        (ADDRESS, 61.0, SECRET),
        (ADDRESS, -1.0, SECRET),
        (ADDRESS, 0.0, bytes(32)),
    ],
    ids=["another address", "another port", "too old", "from the future", "another secret"],
)
def test_a_cookie_is_good_for_one_address_and_for_a_while(
    address: bytes, later: float, secret: bytes
) -> None:
    _, (hello,) = second_hello(listener())
    assert isinstance(listener(secret).receive_datagram(hello, address, NOW + later), bytes)


COOKIES = CookieFactory(SECRET, 60.0)
COOKIE = COOKIES.make(ADDRESS, bytes(32), NOW, b"remembered")


def test_a_cookie_of_another_hello_is_not_taken() -> None:
    assert COOKIES.open(COOKIE, ADDRESS, bytes(32), NOW + 60) == b"remembered"
    assert COOKIES.open(COOKIE, ADDRESS, b"\1" * 32, NOW) is None
    assert COOKIES.open(COOKIE[:-1], ADDRESS, bytes(32), NOW) is None
    assert COOKIES.open(b"", ADDRESS, bytes(32), NOW) is None
    assert len(COOKIES.make(ADDRESS, bytes(32), NOW)) == BARE_COOKIE_LENGTH == 32


@given(st.integers(0, len(COOKIE) - 1), st.integers(0, 7))
def test_a_cookie_with_any_bit_changed_is_not_taken(byte: int, bit: int) -> None:
    forged = bytearray(COOKIE)
    forged[byte] ^= 1 << bit
    assert COOKIES.open(bytes(forged), ADDRESS, bytes(32), NOW) is None


def test_an_established_association_stays_until_a_new_one_is_proved() -> None:
    """A greeting from an address in use: the old connection works until the new handshake is complete."""
    subject = listener()
    client, (hello,) = second_hello(subject)
    old = subject.receive_datagram(hello, ADDRESS, NOW)
    assert isinstance(old, DtlsConnection)
    finish(client, old)
    newcomer, (again,) = second_hello(subject)
    new = subject.receive_datagram(again, ADDRESS, NOW)
    assert isinstance(new, DtlsConnection)
    client.send_application_data(b"still here")
    (datagram,) = client.datagrams_to_send()
    old.receive_datagram(datagram, NOW)
    assert old.next_event() is not None
    finish(newcomer, new)


@given(st.binary(max_size=200))
def test_junk_gets_no_answer(datagram: bytes) -> None:
    assert JUNK_LISTENER.receive_datagram(datagram, ADDRESS, NOW) is None


JUNK_LISTENER = listener()


def test_a_cookie_of_dtls_13_may_ask_for_another_group_too(version: ProtocolVersion) -> None:
    """The one HelloRetryRequest there may be says both, and the cookie remembers what was asked."""
    subject = listener(groups=(NamedGroup.SECP384R1,))
    client, (hello,) = second_hello(subject)
    server = subject.receive_datagram(hello, ADDRESS, NOW)
    assert isinstance(server, DtlsConnection)
    finish(client, server)
    assert (server.group, server.version) == (NamedGroup.SECP384R1, version)


def test_a_listener_of_dtls_13_alone_needs_a_whole_client_hello() -> None:
    subject = listener(minimum_version=ProtocolVersion.DTLS_1_3, maximum_version=ProtocolVersion.DTLS_1_3)
    both_shares = DtlsConnection(configuration(maximum_version=ProtocolVersion.DTLS_1_3), Role.CLIENT, NOW)
    first, second = both_shares.datagrams_to_send()
    assert subject.receive_datagram(first, ADDRESS, NOW) is None
    assert subject.receive_datagram(second, ADDRESS, NOW) is None


def test_a_hello_that_leads_nowhere_is_told_so() -> None:
    subject = listener(
        cipher_suites=(CipherSuite.TLS_AES_256_GCM_SHA384,), maximum_version=ProtocolVersion.DTLS_1_3
    )
    only_12 = DtlsConnection(configuration(maximum_version=ProtocolVersion.DTLS_1_2), Role.CLIENT, NOW)
    (hello,) = only_12.datagrams_to_send()
    alert = subject.receive_datagram(hello, ADDRESS, NOW)
    assert isinstance(alert, bytes)
    only_12.receive_datagram(alert, NOW)
    assert isinstance(only_12.error, AlertReceived)
    assert only_12.error.alert is AlertDescription.PROTOCOL_VERSION


def test_a_listener_that_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        listener(bytes(31))
    with pytest.raises(ConfigurationError, match="credentials"):
        StatelessListener(configuration(credentials=()), SECRET)
