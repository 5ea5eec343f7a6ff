"""Resumption in DTLS 1.3 by tickets (RFC 8446 §2.2, §4.2.11, §4.6.1)."""

from collections.abc import Sequence
from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CertificateRejected,
    CipherSuite,
    ClientAuthentication,
    DecodeError,
    NamedGroup,
    ProtocolVersion,
    Role,
    Session,
    TicketKeys,
)
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.post_handshake13 import MAXIMUM_TICKETS_TAKEN
from mediapeer.dtls.registry import ExtensionType, HandshakeType
from tests.dtls.support import Pair, configuration, credentials, expecting, rewrite


def resuming(**options: Any) -> Any:
    """A client that keeps sessions."""
    return configuration(resume_sessions=True, **options)


def ticketing(keys: TicketKeys | None = None, **options: Any) -> Any:
    """A server that gives out tickets."""
    return configuration(session_tickets=keys or TicketKeys(), **options)


def first_session(server: Any, now: float = 100.0, **options: Any) -> Session:
    """A session from a full handshake."""
    pair = Pair(resuming(**options), server, now=now).run()
    pair.assert_connected()
    return pair.sessions[0]


def test_a_server_gives_two_tickets_and_the_client_resumes_with_either() -> None:
    server = ticketing()
    first = Pair(resuming(), server).run()
    first.assert_connected()
    assert len(first.sessions) == 2
    assert first.sessions[0].ticket != first.sessions[1].ticket
    for session in first.sessions:
        again = Pair(resuming(), server, session=session).run()
        again.assert_connected()
        assert again.client.is_resumed
        assert again.server.is_resumed
        assert again.client.peer_certificate == first.client.peer_certificate
        assert again.server.peer_certificate == first.server.peer_certificate
        assert again.sessions[0].secret != session.secret


def test_the_two_tickets_have_different_secrets() -> None:
    one, other = Pair(resuming(), ticketing()).run().sessions
    assert one.secret != other.secret


def test_a_resumed_handshake_has_a_key_exchange_of_its_own() -> None:
    server = ticketing()
    again = Pair(resuming(groups=(NamedGroup.X25519,)), server, session=first_session(server)).run()
    assert again.completed(Role.CLIENT).group is NamedGroup.X25519


def test_resumption_survives_a_hello_retry_request() -> None:
    keys = TicketKeys()
    session = first_session(ticketing(keys))
    server = ticketing(keys, groups=(NamedGroup.SECP384R1,))
    again = Pair(resuming(), server, session=session).run()
    again.assert_connected()
    assert again.client.is_resumed
    assert again.client.hello_retry_requested


def test_a_ticket_survives_storage() -> None:
    server = ticketing()
    session = Session.parse(first_session(server).serialize())
    assert Pair(resuming(), server, session=session).run().client.is_resumed


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_damaged_session_does_not_parse(cut: int) -> None:
    stored = first_session(ticketing()).serialize()
    with pytest.raises(DecodeError):
        Session.parse(stored[:cut])


def test_a_session_shows_no_secret() -> None:
    session = first_session(ticketing())
    assert session.secret.hex() not in repr(session)
    assert repr(session.secret) not in repr(session)


def test_a_server_without_tickets_gives_and_takes_none() -> None:
    session = first_session(ticketing())
    pair = Pair(resuming(), configuration(), session=session).run()
    pair.assert_connected()
    assert not pair.client.is_resumed
    assert pair.sessions == []


def test_a_client_that_does_not_ask_gets_no_ticket() -> None:
    pair = Pair(configuration(), ticketing()).run()
    pair.assert_connected()
    assert pair.sessions == []


def test_a_ticket_of_another_key_leads_to_a_full_handshake() -> None:
    pair = Pair(resuming(), ticketing(), session=first_session(ticketing())).run()
    pair.assert_connected()
    assert not pair.client.is_resumed
    assert not pair.server.is_resumed


@pytest.mark.parametrize("position", [0, 20, 60, -1])
def test_a_changed_ticket_leads_to_a_full_handshake(position: int) -> None:
    server = ticketing()
    session = first_session(server)
    ticket = bytearray(session.ticket)
    ticket[position] ^= 1
    changed = session.with_ticket(bytes(ticket), session.lifetime, session.received_at)
    pair = Pair(resuming(), server, session=changed).run()
    pair.assert_connected()
    assert not pair.server.is_resumed


def test_a_ticket_runs_out_for_both_ends() -> None:
    server = ticketing(session_lifetime=60.0)
    session = first_session(server, now=100.0)
    assert session.lifetime <= 60
    late = Pair(resuming(), server, session=session, now=170.0)
    late.run().assert_connected()
    assert not late.client.is_resumed
    # The same from a client that does not care: the server looks itself.
    stale = session.with_ticket(session.ticket, 3600.0, 170.0)
    stubborn = Pair(resuming(), server, session=stale, now=170.0).run()
    stubborn.assert_connected()
    assert not stubborn.server.is_resumed


def test_resumption_does_not_lengthen_a_session() -> None:
    server = ticketing(session_lifetime=60.0)
    session = first_session(server, now=100.0)
    again = Pair(resuming(), server, session=session, now=140.0).run()
    assert again.sessions[0].lifetime <= 21
    assert again.sessions[0].created_at < 101


def test_keys_rotate_and_old_tickets_are_renewed_until_their_key_goes() -> None:
    keys = TicketKeys(rotation=10.0, keys_kept=2)
    server = ticketing(keys)
    session = first_session(server, now=100.0)
    keys.rotate(105.0)
    assert Pair(resuming(), server, session=session, now=106.0).run().client.is_resumed
    keys.rotate(107.0)
    assert not Pair(resuming(), server, session=session, now=108.0).run().client.is_resumed


def test_a_session_is_not_offered_under_another_name() -> None:
    server = ticketing()
    session = first_session(server, server_name="one.example")
    pair = Pair(resuming(server_name="two.example"), server, session=session).run()
    pair.assert_connected()
    assert not pair.client.is_resumed
    assert pair.server.server_name == "two.example"


def test_a_session_of_another_hash_is_not_resumed() -> None:
    keys = TicketKeys()
    sha256, sha384 = (CipherSuite.TLS_AES_128_GCM_SHA256,), (CipherSuite.TLS_AES_256_GCM_SHA384,)
    session = first_session(ticketing(keys), cipher_suites=sha256)
    pair = Pair(
        resuming(cipher_suites=sha384 + sha256), ticketing(keys, cipher_suites=sha384), session=session
    ).run()
    pair.assert_connected()
    assert not pair.client.is_resumed


def test_the_suite_may_change_within_the_hash() -> None:
    keys = TicketKeys()
    session = first_session(ticketing(keys), cipher_suites=(CipherSuite.TLS_AES_128_GCM_SHA256,))
    chacha = (CipherSuite.TLS_CHACHA20_POLY1305_SHA256,)
    pair = Pair(resuming(cipher_suites=chacha), ticketing(keys), session=session).run()
    pair.assert_connected()
    assert pair.client.is_resumed


class Refuse:
    """Takes nobody."""

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        raise CertificateRejected("not this one")


def test_a_server_that_is_refused_again_is_told() -> None:
    keys = TicketKeys()
    session = first_session(ticketing(keys))
    pair = Pair(resuming(verifier=Refuse()), ticketing(keys), session=session).run()
    assert isinstance(pair.client.error, CertificateRejected)
    assert isinstance(pair.server.error, AlertReceived)


def test_a_client_that_is_refused_again_may_prove_itself_anew() -> None:
    keys = TicketKeys()
    session = first_session(ticketing(keys))
    others = configuration(credentials=(credentials(name="another"),), resume_sessions=True)
    only_another = expecting(credentials(name="another"))
    pair = Pair(others, ticketing(keys, verifier=only_another), session=session).run()
    pair.assert_connected()
    assert not pair.server.is_resumed
    assert pair.server.peer_certificate == credentials(name="another").chain[0]
    refused = Pair(resuming(), ticketing(keys, verifier=only_another), session=session).run()
    assert isinstance(refused.server.error, CertificateRejected)


class Broken:
    """A ticket protector that fails."""

    def __init__(self, *, at_once: bool) -> None:
        self._keys = TicketKeys()
        self._at_once = at_once

    def seal(self, contents: bytes, now: float) -> bytes:
        if self._at_once:
            raise RuntimeError("no key")
        return self._keys.seal(contents, now)

    def open(self, ticket: bytes, now: float) -> None:
        raise RuntimeError("no key")


def test_a_ticket_protector_that_fails_ends_its_own_connection() -> None:
    at_the_end = Pair(resuming(), configuration(session_tickets=Broken(at_once=True))).run()
    assert at_the_end.server.error is not None
    assert at_the_end.server.error.alert is AlertDescription.INTERNAL_ERROR
    server = configuration(session_tickets=Broken(at_once=False))
    again = Pair(resuming(), server, session=first_session(server)).run()
    assert again.server.error is not None
    assert again.server.error.alert is AlertDescription.INTERNAL_ERROR


@pytest.mark.parametrize("role", list(Role))
def test_the_peer_is_not_judged_again_when_that_is_not_wanted(role: Role) -> None:
    keys = TicketKeys()
    session = first_session(ticketing(keys))
    options = {"verifier": Refuse(), "verify_on_resumption": False}
    pair = Pair(
        resuming(**options if role is Role.CLIENT else {}),
        ticketing(keys, **options if role is Role.SERVER else {}),
        session=session,
    ).run()
    pair.assert_connected()
    assert pair.client.is_resumed


def test_a_session_without_client_certificate_is_not_resumed_where_one_is_required() -> None:
    keys = TicketKeys()
    session = first_session(ticketing(keys, client_authentication=ClientAuthentication.NONE))
    pair = Pair(resuming(), ticketing(keys), session=session).run()
    pair.assert_connected()
    assert not pair.server.is_resumed
    assert pair.server.peer_certificate == credentials().chain[0]


def test_a_wrong_binder_is_fatal() -> None:
    server = ticketing()

    def spoil(body: bytes) -> bytes:
        return body[:-1] + bytes([body[-1] ^ 1])

    client = resuming(groups_to_share=(NamedGroup.X25519,))
    impairment = rewrite(HandshakeType.CLIENT_HELLO, spoil)
    pair = Pair(client, server, impairment, session=first_session(server)).run()
    assert pair.server.error is not None
    assert pair.server.error.alert is AlertDescription.DECRYPT_ERROR


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (lambda b: {ExtensionType.PRE_SHARED_KEY: b[ExtensionType.PRE_SHARED_KEY]} | b, "ILLEGAL_PARAMETER"),
        (lambda b: _without(b, ExtensionType.PSK_KEY_EXCHANGE_MODES), "MISSING_EXTENSION"),
    ],
    ids=["not the last", "without modes"],
)
def test_a_malformed_offer_is_fatal(change: Any, alert: str) -> None:
    server = ticketing()

    def spoil(body: bytes) -> bytes:
        hello = ClientHello.parse(body)
        return hello.with_extensions(change(dict(hello.extensions))).serialize()

    client = resuming(groups_to_share=(NamedGroup.X25519,))
    impairment = rewrite(HandshakeType.CLIENT_HELLO, spoil)
    pair = Pair(client, server, impairment, session=first_session(server)).run()
    assert pair.server.error is not None
    assert pair.server.error.alert is AlertDescription[alert]


def _without(block: dict[int, bytes], kind: int) -> dict[int, bytes]:
    return {k: v for k, v in block.items() if k != kind}


def test_lost_tickets_are_sent_again_and_data_does_not_wait_for_them() -> None:
    def lose_tickets(role: Role, index: int, datagram: bytes) -> list[tuple[float, bytes]]:
        if role is Role.SERVER and 2 <= index <= 4:
            return []
        return [(0.0, datagram)]

    pair = Pair(resuming(), ticketing(), lose_tickets).run()
    pair.assert_connected()
    assert len(pair.sessions) == 2


def test_a_client_hands_out_a_bounded_number_of_tickets() -> None:
    pair = Pair(resuming(), ticketing(tickets_to_send=8)).run()
    assert len(pair.sessions) == 8
    post = pair.server._post_handshake
    assert post is not None
    for _ in range(4):
        post.send_tickets()
        pair.run()
    assert len(pair.sessions) == MAXIMUM_TICKETS_TAKEN


def test_the_session_of_one_version_is_not_offered_in_the_other() -> None:
    server = ticketing()
    session = first_session(server)
    assert session.version is ProtocolVersion.DTLS_1_3
    pair = Pair(resuming(maximum_version=ProtocolVersion.DTLS_1_2), server, session=session).run()
    pair.assert_connected()
    assert not pair.client.is_resumed
