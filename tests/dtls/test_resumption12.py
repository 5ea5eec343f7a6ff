"""Resumption in DTLS 1.2, by session ID and by ticket (RFC 5246 §7.3, RFC 5077, RFC 7627 §5.3)."""

import dataclasses
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
    DtlsConfiguration,
    DtlsConnection,
    DtlsError,
    HandshakeTimeout,
    NamedGroup,
    NegotiationFailed,
    PeerMisbehaved,
    PreSharedKey,
    ProtocolVersion,
    RawPublicKeyCredentials,
    Role,
    Session,
    SessionCache,
    SrtpProtectionProfile,
    StatelessListener,
    TicketKeys,
)
from mediapeer.dtls.messages import ClientHello, Finished, NewSessionTicket, ServerHello
from mediapeer.dtls.registry import CertificateType, ExtensionType
from mediapeer.dtls.resumption import MAXIMUM_TICKET_CONTENTS
from mediapeer.dtls.tickets import OpenedTicket
from tests.dtls.support import LABEL, Impairment, configuration, credentials, deliver, expecting
from tests.dtls.support import Pair as AnyPair
from tests.dtls.test_misbehaviour import flipped, replacing, tamper, with_extension

ALERT = AlertDescription
ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
KEY = PreSharedKey(b"device 1", bytes(range(16)))


def client_of(**options: Any) -> DtlsConfiguration:
    """A client of DTLS 1.2 that keeps sessions."""
    options.setdefault("maximum_version", ProtocolVersion.DTLS_1_2)
    return configuration(resume_sessions=True, **options)


def with_tickets(keys: Any = None, **options: Any) -> DtlsConfiguration:
    """A server of DTLS 1.2 that gives out tickets."""
    options.setdefault("maximum_version", ProtocolVersion.DTLS_1_2)
    return configuration(session_tickets=keys or TicketKeys(), **options)


def with_cache(cache: SessionCache | None = None, **options: Any) -> DtlsConfiguration:
    """A server of DTLS 1.2 that keeps sessions itself."""
    options.setdefault("maximum_version", ProtocolVersion.DTLS_1_2)
    return configuration(session_cache=SessionCache() if cache is None else cache, **options)


class Pair(AnyPair):
    """A client that keeps sessions and a server."""

    def __init__(
        self,
        server: DtlsConfiguration,
        session: Session | None = None,
        client: DtlsConfiguration | None = None,
        impairment: Impairment = deliver,
        now: float = 100.0,
    ) -> None:
        super().__init__(client or client_of(), server, impairment, session=session, now=now)

    @property
    def session(self) -> Session:
        """The one session that the client may resume."""
        (session,) = self.sessions
        return session

    @property
    def is_resumed(self) -> bool:
        """Whether the handshake was a short one, on which both ends agree."""
        assert self.client.is_resumed == self.server.is_resumed
        assert self.completed(Role.CLIENT).is_resumed == self.client.is_resumed
        return self.client.is_resumed


#: Both ways to resume; a test makes the server by calling it.
WAYS = pytest.mark.parametrize("make", [with_tickets, with_cache], ids=["ticket", "session ID"])


def first_session(server: DtlsConfiguration, client: DtlsConfiguration | None = None) -> Session:
    """The session of a full handshake."""
    pair = Pair(server, client=client).run()
    pair.assert_connected()
    assert not pair.is_resumed
    return pair.session


# What is resumed, and how


@WAYS
def test_a_session_is_resumed_again_and_again(make: Any) -> None:
    ours, theirs = credentials("ecdsa-p256", "client"), credentials("ecdsa-p256", "server")
    client = client_of(credentials=(ours,), verifier=expecting(theirs))
    server = make(credentials=(theirs,), verifier=expecting(ours))
    first = Pair(server, client=client).run()
    first.assert_connected()
    exported = {first.client.export_keying_material(LABEL, None, 32)}
    session = first.session
    for attempt in range(1, 4):
        pair = Pair(server, session, client).run()
        pair.assert_connected()
        assert pair.is_resumed
        assert pair.client.peer_certificate == theirs.chain[0]
        assert pair.server.peer_certificate == ours.chain[0]
        assert pair.client.cipher_suite is first.client.cipher_suite
        assert pair.client.group is pair.server.group is first.client.group
        assert pair.client.credentials is pair.server.credentials is None, "nothing was shown"
        exported.add(pair.client.export_keying_material(LABEL, None, 32))
        assert len(exported) == attempt + 1, "each connection has keys of its own"
        session = pair.session


@WAYS
def test_a_short_handshake_takes_one_flight_of_the_server(make: Any) -> None:
    server = make()
    pair = Pair(server, first_session(server)).run()
    assert pair.is_resumed
    assert [len(pair.sent[role]) for role in Role] == [2, 1]
    assert pair.client.activity["retransmissions"] == pair.server.activity["retransmissions"] == 0


@WAYS
def test_the_key_log_opens_a_resumed_association(make: Any) -> None:
    lines: list[str] = []
    server = make(key_log=lines.append)
    session = first_session(server)
    ours: list[str] = []
    Pair(server, session, client_of(key_log=ours.append)).run().assert_connected()
    assert lines[-1] == ours[0]
    assert ours[0].endswith(session.secret.hex())


def test_a_session_id_is_kept_only_where_there_is_a_cache() -> None:
    cache = SessionCache()
    session = first_session(with_cache(cache))
    assert len(session.session_id) == 32
    assert session.ticket == b""
    assert len(cache) == 1
    assert Pair(configuration(maximum_version=ProtocolVersion.DTLS_1_2)).run().sessions == []


def test_a_ticket_goes_before_a_session_id() -> None:
    cache = SessionCache()
    server = with_tickets(session_cache=cache)
    session = first_session(server)
    assert session.ticket
    assert session.session_id == b""
    assert len(cache) == 0
    assert Pair(server, session).run().is_resumed


def test_a_client_without_tickets_is_kept_in_the_cache() -> None:
    """What a client keeps without asking for tickets, as other implementations do."""
    cache = SessionCache()
    server = with_tickets(session_cache=cache)
    pair = Pair(server)
    tamper_hello(pair, with_extension(ExtensionType.SESSION_TICKET, None))
    pair.run().assert_connected()
    assert len(cache) == 1
    again = Pair(server, pair.session)
    tamper_hello(again, with_extension(ExtensionType.SESSION_TICKET, None))
    assert again.run().is_resumed


def test_a_client_keeps_no_session_unless_told_to() -> None:
    plain = configuration(maximum_version=ProtocolVersion.DTLS_1_2)
    for server in (with_tickets(), with_cache()):
        pair = Pair(server, client=plain).run()
        pair.assert_connected()
        assert pair.sessions == []


def test_a_session_survives_storage() -> None:
    for server in (with_tickets(), with_cache()):
        session = first_session(server)
        assert Pair(server, Session.parse(session.serialize())).run().is_resumed


@WAYS
def test_a_psk_session_is_resumed(make: Any) -> None:
    client = client_of(credentials=(KEY,), verifier=None)
    server = make(credentials=(KEY,), verifier=None)
    pair = Pair(server, first_session(server, client), client).run()
    pair.assert_connected()
    assert pair.is_resumed
    assert pair.client.pre_shared_key_identity == pair.server.pre_shared_key_identity == b"device 1"


def test_a_psk_session_ends_with_its_key() -> None:
    keys, other = TicketKeys(), PreSharedKey(b"device 2", bytes(16))
    both = client_of(credentials=(KEY, other), verifier=None)
    session = first_session(with_tickets(keys, credentials=(KEY, other), verifier=None), both)
    client = client_of(credentials=(other,), verifier=None)
    pair = Pair(with_tickets(keys, credentials=(other,), verifier=None), session, client).run()
    pair.assert_connected()
    assert not pair.is_resumed
    assert pair.server.pre_shared_key_identity == b"device 2"


@WAYS
def test_a_session_of_raw_public_keys_is_resumed(make: Any) -> None:
    own = RawPublicKeyCredentials.generate()
    types = (CertificateType.RAW_PUBLIC_KEY,)
    client = client_of(credentials=(own,), peer_certificate_types=types)
    server = make(credentials=(own,), peer_certificate_types=types)
    pair = Pair(server, first_session(server, client), client).run()
    pair.assert_connected()
    assert pair.is_resumed
    assert pair.client.peer_raw_public_key == pair.server.peer_raw_public_key == own.public_key_info


@WAYS
def test_what_is_not_of_the_session_is_negotiated_anew(make: Any) -> None:
    profile = SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM
    server = make(alpn_protocols=(b"b", b"a"), srtp_profiles=(profile,), record_size_limit=1000)
    session = first_session(server, client_of(alpn_protocols=(b"a",)))
    client = client_of(alpn_protocols=(b"b",), srtp_profiles=(profile,), record_size_limit=2000)
    pair = Pair(server, session, client).run()
    pair.assert_connected()
    assert pair.is_resumed
    assert pair.client.alpn_protocol == pair.server.alpn_protocol == b"b"
    assert pair.client.srtp_profile is pair.server.srtp_profile is profile
    with pytest.raises(ValueError, match="1000 bytes"):
        pair.client.send_application_data(bytes(1001))


@WAYS
def test_the_server_name_of_a_resumed_session(make: Any) -> None:
    server = make()
    named = client_of(server_name="one.example")
    session = first_session(server, named)
    pair = Pair(server, session, named)
    pair.run().assert_connected()
    assert pair.is_resumed
    assert pair.client.server_name == pair.server.server_name == "one.example"


@WAYS
def test_a_session_is_resumed_behind_a_cookie(make: Any) -> None:
    server = make()
    listener = StatelessListener(server, bytes(32))
    client = DtlsConnection(client_of(), Role.CLIENT, 100.0, first_session(server))
    (hello,) = client.datagrams_to_send()
    request = listener.receive_datagram(hello, b"address", 100.0)
    assert isinstance(request, bytes)
    client.receive_datagram(request, 100.0)
    (hello,) = client.datagrams_to_send()
    connection = listener.receive_datagram(hello, b"address", 100.0)
    assert isinstance(connection, DtlsConnection)
    for sender, receiver in ((connection, client), (client, connection)):
        for datagram in sender.datagrams_to_send():
            receiver.receive_datagram(datagram, 100.0)
    for end in (client, connection):
        assert end.is_connected
        assert end.is_resumed


# Renewal, and what a ticket is good for


def test_a_ticket_of_the_old_key_is_replaced() -> None:
    keys = TicketKeys()
    server = with_tickets(keys)
    session = first_session(server)
    assert Pair(server, session).run().session == session, "the same may be used again"
    keys.rotate(100.0)
    renewing = Pair(server, session, now=150.0).run()
    renewing.assert_connected()
    assert renewing.is_resumed
    renewed = renewing.session
    assert renewed.ticket != session.ticket
    assert renewed.secret == session.secret
    assert renewed.created_at == session.created_at
    assert renewed.created_at + server.session_lifetime >= renewed.received_at + renewed.lifetime
    assert Pair(server, renewed, now=160.0).run().is_resumed


def test_renewal_does_not_prolong_a_session() -> None:
    keys = TicketKeys()
    server = with_tickets(keys, session_lifetime=100.0)
    session = first_session(server)
    keys.rotate(100.0)
    renewed = Pair(server, session, now=190.0).run().session
    assert renewed.received_at > session.received_at
    assert renewed.lifetime <= 10
    assert not Pair(server, renewed, now=201.0).run().is_resumed


def test_no_ticket_is_given_for_less_than_a_second() -> None:
    server = with_tickets(session_lifetime=0.9)
    pair = Pair(server).run()
    pair.assert_connected()
    assert pair.sessions == []


@pytest.mark.parametrize(("hint", "lifetime"), [(0, 7200), (60, 60), (10**9, 7200)])
def test_how_long_a_client_keeps_a_ticket(hint: int, lifetime: float) -> None:
    pair = Pair(with_tickets())
    tamper(pair.server, {NewSessionTicket: replacing(lifetime_hint=hint)})
    pair.run()
    assert pair.session.lifetime == pytest.approx(lifetime, abs=1)


@WAYS
def test_a_session_runs_out_for_both_ends(make: Any) -> None:
    server = make(session_lifetime=60.0)
    session = first_session(server)
    if make is with_tickets:
        assert session.lifetime <= 60, "so much a client is told"
        assert not Pair(server, session, now=170.0).run().client.is_resumed
    # A client that keeps it for longer finds out by a full handshake.
    stale = dataclasses.replace(session, lifetime=3600.0)
    late = Pair(server, stale, now=170.0)
    assert not late.run().is_resumed
    late.assert_connected()


def test_a_server_may_change_its_mind_about_a_ticket() -> None:
    class Unwilling(TicketKeys):
        def seal(self, contents: bytes, now: float) -> Any:
            return None

    pair = Pair(with_tickets(Unwilling())).run()
    pair.assert_connected()
    assert pair.sessions == []
    assert pair.server.session is None


def test_a_session_too_long_for_a_ticket_gets_none() -> None:
    own = credentials()
    long = dataclasses.replace(own, chain=own.chain * (MAXIMUM_TICKET_CONTENTS // len(own.chain[0]) + 1))
    pair = Pair(with_tickets(), client=client_of(credentials=(long,))).run()
    pair.assert_connected()
    assert pair.sessions == []


@pytest.mark.parametrize("method", ["seal", "open"])
def test_a_ticket_protector_that_fails_ends_the_handshake_in_order(method: str) -> None:
    class Broken(TicketKeys):
        def seal(self, contents: bytes, now: float) -> bytes:
            if method == "seal":
                raise RuntimeError("the key server is away")
            return super().seal(contents, now)

        def open(self, ticket: bytes, now: float) -> Any:
            raise RuntimeError("the key server is away")

    keys = Broken()
    session = first_session(with_tickets(keys)) if method == "open" else None
    pair = Pair(with_tickets(keys), session).run()
    assert type(pair.server.error) is DtlsError
    assert pair.server.error.alert is ALERT.INTERNAL_ERROR


# When there is a full handshake instead


@pytest.mark.parametrize("position", [0, 20, 60, -1])
def test_a_ticket_that_was_changed(position: int) -> None:
    server = with_tickets()
    session = first_session(server)
    ticket = bytearray(session.ticket)
    ticket[position] ^= 1
    pair = Pair(server, dataclasses.replace(session, ticket=bytes(ticket))).run()
    pair.assert_connected()
    assert not pair.is_resumed
    assert pair.session.ticket != session.ticket


def test_a_ticket_of_another_server() -> None:
    pair = Pair(with_tickets(), first_session(with_tickets())).run()
    pair.assert_connected()
    assert not pair.is_resumed


def test_a_ticket_that_holds_something_else() -> None:
    class Foreign(TicketKeys):
        def open(self, ticket: bytes, now: float) -> OpenedTicket:
            return OpenedTicket(b"\1 no session")

    pair = Pair(with_tickets(Foreign()), first_session(with_tickets())).run()
    pair.assert_connected()
    assert not pair.is_resumed


def test_a_server_that_takes_no_tickets_any_more() -> None:
    session = first_session(with_tickets())
    for server in (configuration(maximum_version=ProtocolVersion.DTLS_1_2), with_cache()):
        pair = Pair(server, session).run()
        pair.assert_connected()
        assert not pair.is_resumed


def test_a_session_that_made_room_in_the_cache() -> None:
    server = with_cache(SessionCache(capacity=1))
    session = first_session(server)
    first_session(server)
    assert not Pair(server, session).run().is_resumed


SUITES = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM


def sharing(make: Any) -> dict[str, Any]:
    """The store of two servers that share their sessions."""
    return {"keys": TicketKeys()} if make is with_tickets else {"cache": SessionCache()}


@WAYS
@pytest.mark.parametrize("case", ["not configured", "not offered", "not preferred"])
def test_the_suite_of_the_session_is(make: Any, case: str) -> None:
    store = sharing(make)
    session = first_session(make(**store, cipher_suites=SUITES[:1]))
    client = client_of(cipher_suites=SUITES)
    server = make(**store, cipher_suites=SUITES)
    if case == "not configured":
        server = make(**store, cipher_suites=SUITES[1:])
    elif case == "not preferred":
        server = make(**store, cipher_suites=SUITES[::-1])
    pair = Pair(server, session, client)
    if case == "not offered":
        tamper_hello(pair, replacing(cipher_suites=(int(SUITES[1]),)))
    pair.run()
    pair.assert_connected()
    assert not pair.is_resumed
    assert pair.server.cipher_suite is SUITES[1]


@WAYS
def test_another_server_name(make: Any) -> None:
    store = sharing(make)
    session = first_session(make(**store), client_of(server_name="one.example"))
    # Our client does not offer it; this one lies about what the session was for.
    forged = dataclasses.replace(session, server_name="two.example")
    pair = Pair(make(**store), forged, client_of(server_name="two.example")).run()
    pair.assert_connected()
    assert not pair.is_resumed
    assert pair.server.server_name == "two.example"


@WAYS
def test_a_client_that_has_shown_no_certificate_where_one_is_required(make: Any) -> None:
    store = sharing(make)
    lenient = make(**store, client_authentication=ClientAuthentication.NONE)
    session = first_session(lenient)
    assert Pair(lenient, session).run().is_resumed
    strict = Pair(make(**store), session).run()
    strict.assert_connected()
    assert not strict.is_resumed
    assert strict.server.peer_certificate == credentials().chain[0]


@WAYS
def test_a_certificate_of_a_type_that_is_not_taken_any_more(make: Any) -> None:
    store = sharing(make)
    session = first_session(make(**store))
    own = RawPublicKeyCredentials.generate()
    server = make(**store, peer_certificate_types=(CertificateType.RAW_PUBLIC_KEY,))
    pair = Pair(server, session, client_of(credentials=(own,))).run()
    pair.assert_connected()
    assert not pair.is_resumed
    assert pair.server.peer_raw_public_key == own.public_key_info


@WAYS
def test_a_client_whom_the_verifier_does_not_want_any_more_may_be_another(make: Any) -> None:
    store = sharing(make)
    old, new = credentials("ecdsa-p256", "old"), credentials("ecdsa-p256", "new")
    session = first_session(make(**store), client_of(credentials=(old,)))
    server = make(**store, verifier=expecting(new))
    pair = Pair(server, session, client_of(credentials=(new,))).run()
    pair.assert_connected()
    assert not pair.is_resumed
    assert pair.server.peer_certificate == new.chain[0]
    refused = Pair(server, session, client_of(credentials=(old,))).run()
    assert isinstance(refused.server.error, CertificateRejected)
    lenient = make(**store, verifier=expecting(new), verify_on_resumption=False)
    assert Pair(lenient, session, client_of(credentials=(old,))).run().is_resumed


@WAYS
def test_a_server_whom_the_verifier_does_not_want_any_more(make: Any) -> None:
    server = make()
    session = first_session(server)
    strict = expecting(credentials("ecdsa-p256", "other"))
    pair = Pair(server, session, client_of(verifier=strict)).run()
    assert isinstance(pair.client.error, CertificateRejected)
    assert isinstance(pair.server.error, AlertReceived)
    assert Pair(server, session, client_of(verifier=strict, verify_on_resumption=False)).run().is_resumed


def test_a_session_of_dtls_13_is_not_resumed_in_12() -> None:
    keys = TicketKeys()
    both = {"maximum_version": ProtocolVersion.DTLS_1_3}
    newer = Pair(with_tickets(keys, **both), client=client_of(**both)).run()
    session = newer.sessions[0]
    assert session.version is ProtocolVersion.DTLS_1_3
    pair = Pair(with_tickets(keys), session, client_of(**both)).run()
    pair.assert_connected()
    assert pair.client.version is ProtocolVersion.DTLS_1_2
    assert not pair.is_resumed
    # Nor when it comes where a ticket of 1.2 belongs.
    forged = dataclasses.replace(first_session(with_tickets(keys)), ticket=session.ticket)
    pair = Pair(with_tickets(keys), forged).run()
    pair.assert_connected()
    assert not pair.is_resumed


def test_a_ticket_of_dtls_13_says_nothing_on_the_extended_master_secret() -> None:
    keys = TicketKeys()
    both = {"maximum_version": ProtocolVersion.DTLS_1_3}
    newer = Pair(with_tickets(keys, **both), client=client_of(**both)).run()
    forged = dataclasses.replace(first_session(with_tickets(keys)), ticket=newer.sessions[0].ticket)
    pair = Pair(with_tickets(keys, **LENIENT), forged, client_of(**LENIENT))
    without_extended_master_secret(pair, Role.CLIENT).run().assert_connected()
    assert not pair.is_resumed


def test_a_session_of_dtls_12_is_not_resumed_in_13() -> None:
    keys = TicketKeys()
    session = first_session(with_tickets(keys))
    both = {"maximum_version": ProtocolVersion.DTLS_1_3}
    pair = Pair(with_tickets(keys, **both), session, client_of(**both)).run()
    pair.assert_connected()
    assert pair.client.version is ProtocolVersion.DTLS_1_3
    assert not pair.is_resumed


# The extended master secret (RFC 7627 §5.3)


def without_extended_master_secret(pair: Pair, role: Role) -> Pair:
    change = with_extension(ExtensionType.EXTENDED_MASTER_SECRET, None)
    if role is Role.CLIENT:
        tamper_hello(pair, change)
    else:
        tamper(pair.server, {ServerHello: change})
    return pair


LENIENT: dict[str, Any] = {"require_extended_master_secret": False}


@WAYS
def test_a_session_with_the_extended_master_secret_is_not_resumed_without(make: Any) -> None:
    server, client = make(**LENIENT), client_of(**LENIENT)
    session = first_session(server, client)
    pair = without_extended_master_secret(Pair(server, session, client), Role.CLIENT).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert pair.server.error.alert is ALERT.HANDSHAKE_FAILURE
    pair = without_extended_master_secret(Pair(server, session, client), Role.SERVER).run()
    assert isinstance(pair.client.error, NegotiationFailed)
    assert pair.client.error.alert is ALERT.HANDSHAKE_FAILURE


@WAYS
def test_a_session_without_the_extended_master_secret_is_resumed_without(make: Any) -> None:
    server, client = make(**LENIENT), client_of(**LENIENT)
    first = without_extended_master_secret(Pair(server, client=client), Role.CLIENT).run()
    first.assert_connected()
    session = first.session
    assert not session.extended_master_secret
    again = without_extended_master_secret(Pair(server, session, client), Role.CLIENT).run()
    again.assert_connected()
    assert again.is_resumed
    # When the client offers it now, there is a full handshake.
    renewed = Pair(server, session, client).run()
    renewed.assert_connected()
    assert not renewed.is_resumed
    assert renewed.session.extended_master_secret
    # And a server that adds it all the same is refused.
    pair = without_extended_master_secret(Pair(server, session, client), Role.CLIENT)
    pair.client._handshake._hello = with_extension(ExtensionType.EXTENDED_MASTER_SECRET, b"")(  # type: ignore[union-attr]
        pair.client._handshake._hello  # type: ignore[union-attr]
    )
    tamper(pair.server, {ServerHello: with_extension(ExtensionType.EXTENDED_MASTER_SECRET, b"")})
    pair.run()
    assert isinstance(pair.client.error, NegotiationFailed)


def test_where_it_is_required_no_session_without_is_offered_or_taken() -> None:
    keys = TicketKeys()
    lenient = with_tickets(keys, **LENIENT)
    first = without_extended_master_secret(Pair(lenient, client=client_of(**LENIENT)), Role.CLIENT).run()
    pair = Pair(with_tickets(keys), first.session).run()
    pair.assert_connected()
    assert not pair.is_resumed


# Loss: in a short handshake the client speaks last


@WAYS
@pytest.mark.parametrize("lost", [(Role.CLIENT, 0), (Role.SERVER, 0), (Role.CLIENT, 1)])
def test_a_lost_datagram_of_a_short_handshake(make: Any, lost: tuple[Role, int]) -> None:
    def lossy(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [] if (role, index) == lost else [(0.0, datagram)]

    server = make()
    pair = Pair(server, first_session(server), impairment=lossy).run()
    pair.assert_connected()
    assert pair.is_resumed


@pytest.mark.parametrize("mtu", [256, 1200])
@ROLES
def test_each_datagram_of_a_renewal_lost_in_turn(role: Role, mtu: int) -> None:
    keys = TicketKeys()
    server, client = with_tickets(keys, mtu=mtu), client_of(mtu=mtu)
    session = first_session(server, client)
    keys.rotate(100.0)
    count = len(Pair(server, session, client).run().sent[role])
    for lost in range(count):

        def lossy(sender: Role, index: int, datagram: bytes, lost: int = lost) -> Any:
            return [] if (sender, index) == (role, lost) else [(0.0, datagram)]

        pair = Pair(server, session, client, lossy).run()
        pair.assert_connected()
        assert pair.is_resumed
        assert pair.session.ticket != session.ticket


@pytest.mark.parametrize("mtu", [256, 1200])
@ROLES
def test_each_datagram_of_a_full_handshake_with_a_ticket_lost_in_turn(role: Role, mtu: int) -> None:
    server, client = with_tickets(mtu=mtu), client_of(mtu=mtu)
    count = len(Pair(server, client=client).run().sent[role])
    for lost in range(count):

        def lossy(sender: Role, index: int, datagram: bytes, lost: int = lost) -> Any:
            return [] if (sender, index) == (role, lost) else [(0.0, datagram)]

        pair = Pair(server, client=client, impairment=lossy).run()
        pair.assert_connected()
        assert pair.session.ticket


@WAYS
def test_a_short_handshake_over_a_path_that_reorders_and_repeats(make: Any) -> None:
    def reversing(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [(0.01 / (index + 1), datagram), (0.02, datagram)]

    server, client = make(mtu=256), client_of(mtu=256)
    pair = Pair(server, first_session(server, client), client, reversing).run()
    pair.assert_connected()
    assert pair.is_resumed


@WAYS
def test_data_that_overtakes_the_last_flight_waits_for_it(make: Any) -> None:
    server = make()
    pair = Pair(server, first_session(server))
    while not pair.client.is_connected:
        pair.step()
    pair.client.send_application_data(b"early")
    finished, data = pair._under_way[0][3], pair.client.datagrams_to_send()
    pair._under_way.clear()
    pair.server.receive_datagram(data[0], pair.now)
    assert pair.received(Role.SERVER) == []
    pair.server.receive_datagram(finished, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER) == [b"early"]


def test_the_last_flight_is_sent_again_as_often_as_it_is_lost() -> None:
    def lossy(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [] if role is Role.CLIENT and 1 <= index <= 4 else [(0.0, datagram)]

    server = with_tickets()
    pair = Pair(server, first_session(server), impairment=lossy).run()
    pair.assert_connected()
    assert pair.server.activity["retransmissions"] >= 4
    assert pair.client.activity["retransmissions"] == 4


# Peers that break the protocol


def tamper_hello(pair: Pair, change: Any) -> None:
    """Have the client send another ClientHello."""
    tamper(pair.client, {ClientHello: change})
    pair.client.datagrams_to_send()
    handshake: Any = pair.client._handshake
    handshake._next_message_seq = 0
    handshake._hello = change(handshake._hello)
    handshake._send_hello()


def test_a_server_that_resumes_what_was_not_offered() -> None:
    pair = Pair(with_tickets())
    tamper_hello(pair, replacing(session_id=b"made up"))
    tamper(pair.server, {ServerHello: replacing(session_id=b"made up")})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


@WAYS
def test_a_server_that_resumes_with_another_suite(make: Any) -> None:
    server = make()
    session = first_session(server)
    pair = Pair(server, session)
    tamper(
        pair.server,
        {ServerHello: replacing(cipher_suite=int(CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256))},
    )
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize(
    ("kind", "body", "alert"),
    [
        (ExtensionType.SESSION_TICKET, b"x", ALERT.DECODE_ERROR),
        (ExtensionType.RECORD_SIZE_LIMIT, b"\0\x3f", ALERT.ILLEGAL_PARAMETER),
        (ExtensionType.RECORD_SIZE_LIMIT, b"\0", ALERT.DECODE_ERROR),
    ],
)
def test_a_server_hello_with_a_wrong_extension(
    kind: ExtensionType, body: bytes, alert: AlertDescription
) -> None:
    pair = Pair(with_tickets(), client=client_of(record_size_limit=1000))
    tamper(pair.server, {ServerHello: with_extension(kind, body)})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


def test_a_ticket_that_was_not_announced() -> None:
    """It comes unprotected where only Finished is due, and so may come from anybody: nothing comes of it."""
    pair = Pair(with_tickets())
    tamper(pair.server, {ServerHello: with_extension(ExtensionType.SESSION_TICKET, None)})
    pair.run()
    assert isinstance(pair.client.error, HandshakeTimeout)
    assert pair.sessions == []


def test_a_ticket_that_was_announced_and_does_not_come() -> None:
    pair = Pair(with_tickets())
    tamper(pair.server, {NewSessionTicket: lambda _: None})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNEXPECTED_MESSAGE


def test_a_client_that_did_not_ask_is_offered_no_ticket() -> None:
    pair = Pair(
        configuration(maximum_version=ProtocolVersion.DTLS_1_2),
        client=configuration(maximum_version=ProtocolVersion.DTLS_1_2),
    )
    tamper(pair.server, {ServerHello: with_extension(ExtensionType.SESSION_TICKET, b"")})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNSUPPORTED_EXTENSION


@WAYS
@ROLES
def test_a_wrong_finished_of_a_short_handshake(make: Any, role: Role) -> None:
    server = make()
    pair = Pair(server, first_session(server))
    tamper(
        pair.end(role),
        {Finished: lambda m: dataclasses.replace(m, verify_data=flipped(m.verify_data))},
    )
    pair.run()
    error = pair.peer(role).error
    assert isinstance(error, PeerMisbehaved)
    assert error.alert is ALERT.DECRYPT_ERROR


@WAYS
def test_who_knows_the_ticket_and_not_the_secret_gets_nowhere(make: Any) -> None:
    server = make()
    stolen = dataclasses.replace(first_session(server), secret=bytes(48))
    pair = Pair(server, stolen).run()
    assert pair.client.error is not None
    assert pair.server.error is not None
    assert not pair.client.is_resumed


@WAYS
def test_what_a_server_tells_of_its_session(make: Any) -> None:
    """By its ID a session is taken out of the cache when its connection fails (RFC 5246 §7.2.2)."""
    server = make()
    first = Pair(server).run()
    again = Pair(server, first.session).run()
    for pair in (first, again):
        assert pair.server.session is not None
        assert pair.server.session.secret == first.session.secret
        assert pair.server.session.session_id == first.session.session_id
        assert pair.server.session.ticket == b""


@pytest.mark.parametrize("session_id", [b"", b"x", bytes(16), bytes(32)])
def test_the_session_id_beside_a_ticket_is_echoed(session_id: bytes) -> None:
    """Whatever it is: it is how the client learns that its ticket was taken (RFC 5077 §3.4)."""
    server = with_tickets()
    pair = Pair(server, first_session(server))
    tamper_hello(pair, replacing(session_id=session_id))
    answers: list[ServerHello] = []
    tamper(pair.server, {ServerHello: lambda hello: answers.append(hello) or hello})
    pair.run()
    assert answers[0].session_id == session_id
    if session_id:
        pair.assert_connected()
        assert pair.is_resumed


@pytest.mark.parametrize(
    ("message", "encoded"),
    [(NewSessionTicket(7200, b"abc"), "00001c200003616263"), (NewSessionTicket(0, b""), "000000000000")],
)
def test_the_message_as_it_stands_on_the_wire(message: NewSessionTicket, encoded: str) -> None:
    body = bytes.fromhex(encoded)
    assert message.serialize() == body
    assert NewSessionTicket.parse(body) == message
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(DecodeError):
            NewSessionTicket.parse(wrong)


def test_the_group_of_a_session() -> None:
    server = with_tickets(groups=(NamedGroup.SECP384R1,))
    session = first_session(server)
    assert session.group is NamedGroup.SECP384R1
    assert Pair(server, session).run().completed(Role.CLIENT).group is NamedGroup.SECP384R1
