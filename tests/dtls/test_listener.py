"""Cookies: an address is proved before anything is remembered (RFC 6347 §4.2.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import ConfigurationError, DtlsConnection, HandshakeCompleted, Role, StatelessListener
from mediapeer.dtls.cookies import COOKIE_LENGTH, CookieFactory
from tests.dtls.support import configuration, credentials

ADDRESS = b"192.0.2.1:4433"
SECRET = bytes(range(32))
NOW = 1000.0


def listener(secret: bytes = SECRET) -> StatelessListener:
    return StatelessListener(configuration(credentials=(credentials(),)), secret)


def greet(mtu: int = 1200) -> tuple[DtlsConnection, list[bytes]]:
    """A client and its first flight."""
    client = DtlsConnection(configuration(mtu=mtu), Role.CLIENT, NOW)
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
        assert isinstance(end.next_event(), HandshakeCompleted)
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


def test_a_hello_in_many_datagrams_needs_no_memory_either() -> None:
    subject = listener()
    client = DtlsConnection(
        configuration(mtu=256, alpn_protocols=tuple(b"protocol-%d" % n for n in range(40))), Role.CLIENT, NOW
    )
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


def test_a_cookie_of_another_hello_is_not_taken() -> None:
    cookies = CookieFactory(SECRET, 60.0)
    cookie = cookies.make(ADDRESS, bytes(32), NOW)
    assert len(cookie) == COOKIE_LENGTH
    assert cookies.check(cookie, ADDRESS, bytes(32), NOW + 60)
    assert not cookies.check(cookie, ADDRESS, b"\1" * 32, NOW)
    assert not cookies.check(cookie[:-1], ADDRESS, bytes(32), NOW)
    assert not cookies.check(b"", ADDRESS, bytes(32), NOW)


@given(st.integers(0, COOKIE_LENGTH - 1), st.integers(0, 7))
def test_a_cookie_with_any_bit_changed_is_not_taken(byte: int, bit: int) -> None:
    cookies = CookieFactory(SECRET, 60.0)
    forged = bytearray(cookies.make(ADDRESS, bytes(32), NOW))
    forged[byte] ^= 1 << bit
    assert not cookies.check(bytes(forged), ADDRESS, bytes(32), NOW)


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


def test_a_listener_that_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        listener(bytes(31))
    with pytest.raises(ConfigurationError, match="credentials"):
        StatelessListener(configuration(credentials=()), SECRET)
