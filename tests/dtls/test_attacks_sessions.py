"""Ways in by sessions and keys, and forgeries against what waits for them: each was one once."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CertificateRejected,
    ClientAuthentication,
    ConfigurationError,
    DtlsConnection,
    DtlsError,
    ImportedPreSharedKey,
    NamedGroup,
    NegotiationFailed,
    OpenedTicket,
    PreSharedKey,
    ProtocolVersion,
    RawPublicKeyCredentials,
    Role,
    SessionCache,
    StatelessListener,
    TicketKeys,
    X509Verifier,
)
from mediapeer.dtls.messages13 import serialize_ack
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import CertificateType, ContentType
from tests.dtls.support import Pair, configuration, credentials
from tests.dtls.test_attacks import trickling_pair

SECRET = bytes(range(32))
KEY = PreSharedKey(b"device", SECRET)


class Refuse:
    """Takes nobody."""

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        raise CertificateRejected("nobody")


def resuming(**options: Any) -> Any:
    """A client that keeps sessions."""
    return configuration(resume_sessions=True, **options)


# Who gets in


@pytest.mark.usefixtures("version")
def test_a_server_that_judges_no_certificates_lets_nobody_in_without_a_key() -> None:
    server = configuration(credentials=(KEY, credentials()), verifier=None)
    pair = Pair(configuration(credentials=()), server).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert not pair.client.is_connected


@pytest.mark.usefixtures("version")
def test_nobodys_session_does_not_open_a_server_for_keys() -> None:
    keys = TicketKeys()
    nobody = resuming(credentials=())
    anonymous = configuration(client_authentication=ClientAuthentication.NONE, session_tickets=keys)
    session = Pair(nobody, anonymous).run().sessions[0]
    only_keys = configuration(credentials=(KEY,), verifier=None, session_tickets=keys)
    pair = Pair(nobody, only_keys, session=session).run()
    assert not pair.server.is_connected


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("own", [(), (PreSharedKey(b"another", SECRET[::-1]),)], ids=["no key", "another"])
def test_the_session_of_a_key_is_not_offered_without_it(own: Any) -> None:
    server = configuration(credentials=(KEY, credentials()), session_tickets=TicketKeys())
    session = Pair(resuming(credentials=(KEY,), verifier=None), server).run().sessions[0]
    pair = Pair(resuming(credentials=own, verifier=Refuse()), server, session=session).run()
    assert not pair.client.is_resumed
    assert not pair.client.is_connected


@pytest.mark.usefixtures("version")
def test_a_session_ends_with_its_key_even_if_the_name_goes_on() -> None:
    keys = TicketKeys()
    server = configuration(credentials=(KEY,), verifier=None, session_tickets=keys)
    client = resuming(credentials=(KEY,), verifier=None)
    session = Pair(client, server).run().sessions[0]
    replaced = PreSharedKey(KEY.identity, SECRET[::-1])
    after = configuration(credentials=(replaced,), verifier=None, session_tickets=keys)
    assert not Pair(client, after, session=session).run().server.is_connected
    pair = Pair(resuming(credentials=(replaced,), verifier=None), after, session=session).run()
    pair.assert_connected()
    assert not pair.server.is_resumed


def test_bindings_tell_keys_apart() -> None:
    keys: list[Any] = [
        KEY,
        PreSharedKey(b"device", SECRET[::-1]),
        PreSharedKey(b"devic", SECRET),
        ImportedPreSharedKey(b"device", SECRET),
        ImportedPreSharedKey(b"device", SECRET, b"context"),
    ]
    assert len({key.binding() for key in keys}) == len(keys)
    assert KEY.binding() == dataclasses.replace(KEY, hash_name="sha384").binding()


@pytest.mark.usefixtures("version")
def test_the_session_of_a_raw_key_is_not_offered_where_none_is_taken() -> None:
    raw = {"peer_certificate_types": (CertificateType.RAW_PUBLIC_KEY, CertificateType.X509)}
    own = (RawPublicKeyCredentials.generate(), credentials())
    server = configuration(credentials=own, session_tickets=TicketKeys())
    session = Pair(resuming(**raw), server).run().sessions[0]
    pair = Pair(resuming(), server, session=session).run()
    pair.assert_connected()
    assert not pair.client.is_resumed


def test_a_failed_association_leaves_nothing_in_the_cache() -> None:
    cache = SessionCache()
    options = {"maximum_version": ProtocolVersion.DTLS_1_2}
    pair = Pair(resuming(**options), configuration(session_cache=cache, **options)).run()
    assert len(cache) == 1
    pair.client.abort(AlertDescription.INTERNAL_ERROR)
    pair.run()
    assert len(cache) == 0


# What the program gives us may fail


class Broken:
    """A ticket protector that cannot stand what strangers send."""

    def seal(self, contents: bytes, now: float) -> bytes | None:
        return None

    def open(self, ticket: bytes, now: float) -> OpenedTicket | None:
        raise RuntimeError("that is no ticket")


def test_a_protector_that_fails_does_not_end_a_listener() -> None:
    server = configuration(session_tickets=TicketKeys())
    session = Pair(resuming(), server).run().sessions[0]
    client = Pair(resuming(groups_to_share=(NamedGroup.X25519,)), session=session)
    (hello,) = client.client.datagrams_to_send()
    listener = StatelessListener(configuration(session_tickets=Broken()), bytes(32))
    answer = listener.receive_datagram(hello, b"address", 100.0)
    assert isinstance(answer, bytes)
    assert answer.endswith(bytes([2, AlertDescription.INTERNAL_ERROR]))


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    "select",
    [lambda o: o[0].decode("ascii"), lambda o: b"", lambda o: b"x" * 300, lambda o: b"c", lambda o: 1 / 0],
)
def test_a_selector_that_fails_ends_its_own_connection(select: Any) -> None:
    pair = Pair(configuration(alpn_protocols=(b"\xff",)), configuration(alpn_selector=select)).run()
    assert isinstance(pair.server.error, DtlsError)
    assert pair.server.error.alert is AlertDescription.INTERNAL_ERROR


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("response", ["text", None, bytes(2**16), bytes(2**24)])
def test_an_ocsp_response_that_is_none_ends_its_own_connection(response: Any) -> None:
    own = dataclasses.replace(credentials(), ocsp_response=lambda: response)
    pair = Pair(configuration(request_ocsp_response=True), configuration(credentials=(own,))).run()
    assert pair.server.error is not None
    assert pair.server.error.alert is AlertDescription.INTERNAL_ERROR


# Forgeries


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("victim", list(Role))
@pytest.mark.parametrize("lengths", [(100_000,), (50, 60)], ids=["too long", "two that differ"])
def test_a_forged_fragment_ends_nothing_when_none_is_due(victim: Role, lengths: tuple[int, ...]) -> None:
    pair = trickling_pair()
    end, forged = pair.end(victim), 0
    for _ in range(400):
        handshake = end._handshake
        if handshake is not None and handshake.version is not None and handshake.read_epoch != 0:
            forged += 1
            seq = end._reassembler.next_message_seq
            for length in lengths:
                fragment = handshake_header(11, length, seq, 0, 10) + bytes(10)
                record = serialize_record(ContentType.HANDSHAKE, 7, fragment)
                end.receive_datagram(record, pair.now)
        if not pair.step():
            break
    assert forged
    pair.assert_connected()


@pytest.mark.parametrize("eager", [False, True])
def test_a_forged_fragment_does_not_stop_a_servers_timer(eager: bool) -> None:
    pair = Pair(configuration(is_eager=eager), configuration(is_eager=eager, mtu=400))
    while not pair.sent[Role.SERVER]:
        assert pair.step()
    assert pair.server._transmission.timer.deadline is not None
    fragment = handshake_header(11, 100, pair.server._reassembler.next_message_seq, 0, 10) + bytes(10)
    pair.server.receive_datagram(serialize_record(ContentType.HANDSHAKE, 7, fragment), pair.now)
    assert pair.server._transmission.timer.deadline is not None
    pair.run().assert_connected()


# Nobody's fault


@pytest.mark.parametrize(("limit", "mtu"), [(64, 1200), (None, 256)])
def test_a_long_flight_of_tickets_is_not_sent_over_and_over_on_a_perfect_network(
    limit: int | None, mtu: int
) -> None:
    """Each datagram is acknowledged, and no ACK names all of a long flight: that must not look like loss."""
    own = dataclasses.replace(credentials(), chain=(*credentials().chain, bytes(3000)))
    options = {"mtu": mtu, "record_size_limit": limit}
    server = configuration(session_tickets=TicketKeys(), tickets_to_send=8, **options)
    pair = Pair(resuming(credentials=(own,), **options), server).run()
    pair.assert_connected()
    assert len(pair.sessions) == 8
    assert pair.server.activity["retransmissions"] <= 2


def test_an_ack_may_be_longer_than_a_limit_that_its_sender_has_not_heard_of() -> None:
    for lost in range(12):
        server = configuration(record_size_limit=64, mtu=400)

        def lose(role: Role, index: int, datagram: bytes, lost: int = lost) -> list[tuple[float, bytes]]:
            return [] if (role, index) == (Role.SERVER, lost) else [(0.0, datagram)]

        Pair(configuration(record_size_limit=16_384, mtu=1200), server, lose).run().assert_connected()


def test_a_datagram_of_acks_does_not_have_a_flight_sent_for_each() -> None:
    pair = Pair(resuming(record_size_limit=64), configuration(session_tickets=TicketKeys()))
    while not pair.server.is_connected:
        pair.step()
    pair.server.datagrams_to_send()
    flight = pair.server._transmission.flight
    numbers = list(flight._sent)
    assert len(numbers) > 5
    writer = pair.client._records.writer
    acks = b"".join(writer.seal(ContentType.ACK, serialize_ack((number,))) for number in reversed(numbers))
    pair.server.receive_datagram(acks, pair.now + 0.001)
    assert pair.server.activity["retransmissions"] == 0


def test_forgeries_do_not_take_the_place_of_early_records_for_ever() -> None:
    pair = Pair().run()
    forged = b"\x2c\0\0\0\x20" + bytes(32)  # the bits of epoch 4, whose keys may come
    for _ in range(50):
        pair.server.receive_datagram(forged, pair.now)
    assert pair.server._records.is_holding
    pair.client.send_application_data(b"later")
    (later,) = pair.client.datagrams_to_send()
    pair.server.receive_datagram(later, pair.now + 2.1)
    assert not pair.server._records.is_holding


def test_nobody_is_judged_by_a_ticket_that_was_overheard() -> None:
    judged: list[Sequence[bytes]] = []

    class Note:
        def verify_peer(self, chain: Sequence[bytes]) -> None:
            judged.append(chain)

    server = configuration(session_tickets=TicketKeys(), verifier=Note())
    client = resuming(groups_to_share=(NamedGroup.X25519,))
    session = Pair(client, server).run().sessions[0]
    judged.clear()
    overheard = dataclasses.replace(session, secret=bytes(32))
    pair = Pair(client, server, session=overheard).run()
    assert pair.server.error is not None
    assert pair.server.error.alert is AlertDescription.DECRYPT_ERROR
    assert not judged


def test_a_server_that_fails_before_its_flight_says_so_readably() -> None:
    def fail() -> bytes:
        raise RuntimeError("no response")

    own = dataclasses.replace(credentials(), ocsp_response=fail)
    pair = Pair(configuration(request_ocsp_response=True), configuration(credentials=(own,))).run()
    assert isinstance(pair.client.error, AlertReceived)
    assert pair.client.error.alert is AlertDescription.INTERNAL_ERROR


def test_a_server_goes_on_in_epoch_2_until_the_client_begins_its_flight() -> None:
    pair = Pair(server=configuration(mtu=400))
    while not pair.client._saw_authentic_record:
        pair.step()
    client = pair.client
    ack = client._records.writers[2].seal(ContentType.ACK, serialize_ack(()))
    pair.server.receive_datagram(ack, pair.now)
    assert pair.server._saw_authentic_record
    assert pair.server._records.writer.number == 2


@pytest.mark.parametrize("role", list(Role))
def test_an_end_does_not_take_a_verifier_for_its_own_kind(role: Role) -> None:
    name = None if role is Role.CLIENT else "server.example"
    verifier = X509Verifier([credentials().chain[0]], name)
    with pytest.raises(ConfigurationError, match="judges"):
        DtlsConnection(configuration(verifier=verifier), role, 0.0)
