"""What was a vulnerability somewhere, done to both our ends: each test names the CVE whose class it is."""

import dataclasses
import gc
import tracemalloc
from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    CipherSuite,
    ClientAuthentication,
    DtlsConnection,
    HandshakeCompleted,
    NamedGroup,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    SessionCache,
    StatelessListener,
    TicketKeys,
    extensions,
)
from mediapeer.dtls.extensions import serialize_client_shares, serialize_cookie
from mediapeer.dtls.key_exchange import generate_key_share
from mediapeer.dtls.messages import CertificateVerify, ClientHello, ServerHello
from mediapeer.dtls.messages13 import RecordNumber, serialize_ack
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import ContentType, ExtensionType, HandshakeType
from tests.dtls.forging import (
    answers,
    fresh_server,
    hello_body,
    is_server_hello,
    newest,
    other,
    piece,
    plain,
    retry_for,
    with_number_from_afar,
)
from tests.dtls.support import Pair, configuration, credentials
from tests.dtls.test_misbehaviour import tamper

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
ALERT = AlertDescription
CERTIFICATE = HandshakeType.CERTIFICATE
EACH_ROLE = pytest.mark.parametrize("victim", list(Role))
ONLY_12 = pytest.mark.parametrize("version", [V12], indirect=True)
ONLY_13 = pytest.mark.parametrize("version", [V13], indirect=True)
pytestmark = pytest.mark.usefixtures("version")


def assert_refused(end: DtlsConnection, alert: AlertDescription) -> None:
    """The association ended because the peer misbehaved, and nothing of it can be used."""
    assert isinstance(end.error, PeerMisbehaved)
    assert end.error.alert is alert
    assert not end.is_connected


# Records


@EACH_ROLE
def test_data_of_epoch_0_among_genuine_records(victim: Role) -> None:
    """CVE-2020-24585: wolfSSL delivered unprotected application data during a handshake.

    Here it is in the same datagrams as the peer's own records, before and behind them.
    """
    forged = serialize_record(ContentType.APPLICATION_DATA, 1, b"forged")
    pair = Pair(
        impairment=lambda role, index, datagram: [
            (0.0, datagram if role is victim or datagram[0] >> 5 == 1 else forged + datagram + forged)
        ]
    )
    pair.run()
    assert pair.received(victim) == []
    assert pair.end(victim).counters["unexpected_unprotected_records"] > 0
    pair.assert_connected()


@EACH_ROLE
def test_a_forged_record_number_does_not_shut_the_genuine_ones_out(victim: Role) -> None:
    """CVE-2016-2181: OpenSSL moved its replay window before the record had authenticated."""
    pair = Pair().run()
    genuine = [newest(pair, other(victim), b"%d" % number) for number in range(5)]
    for datagram in genuine:
        pair.end(victim).receive_datagram(with_number_from_afar(datagram), pair.now)
        pair.end(victim).receive_datagram(datagram, pair.now)
    pair.flush()
    assert pair.received(victim) == [b"0", b"1", b"2", b"3", b"4"]
    assert pair.end(victim).counters["unauthentic_records"] == 5


# Fragments


@EACH_ROLE
def test_a_length_that_is_announced_costs_nothing(victim: Role) -> None:
    """CVE-2014-3506: OpenSSL allocated what the header of a fragment announced."""
    end = Pair().end(victim)
    gc.collect()
    tracemalloc.start()
    try:
        for seq in range(8):
            end.receive_datagram(piece(b"x", 0, 1, kind=CERTIFICATE, seq=seq, length=16_384), 0.0)
        gc.collect()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end._reassembler.blocks <= 8
    assert held < 8_000
    assert peak < 16_000
    end.receive_datagram(piece(b"x", 0, 1, kind=CERTIFICATE, seq=3, length=0xFFFFFF), 0.0)
    assert_refused(end, ALERT.ILLEGAL_PARAMETER)


@EACH_ROLE
def test_nothing_is_held_of_messages_that_never_come(victim: Role) -> None:
    """CVE-2016-2179: OpenSSL kept messages that had come too early when the handshake was long done."""
    pair = Pair()
    end = pair.end(victim)
    while end._handshake is not None:
        seq = end._reassembler.next_message_seq + 5
        end.receive_datagram(piece(bytes(1000), 0, 999, kind=CERTIFICATE, seq=seq), pair.now)
        assert pair.step()
    pair.run().assert_connected()
    assert end._reassembler.blocks == 0


@pytest.mark.parametrize("kind", [HandshakeType.CLIENT_HELLO, CERTIFICATE])
def test_fragments_of_one_number_and_two_types_are_not_one_message(kind: int) -> None:
    """CVE-2026-42009: GnuTLS had no order for messages of the same number.

    And it merged fragments by their type alone, whatever their number and length.
    """
    body, server = hello_body(), fresh_server()
    answers(server, [piece(body, 0, 50), piece(body, 50, len(body), kind=CERTIFICATE)])
    assert_refused(server, ALERT.ILLEGAL_PARAMETER)
    server = fresh_server()
    longer = bytes(200 + len(body))
    fragments = [piece(body, 0, 50), piece(longer, 50, 200, kind=kind, seq=1), piece(body, 40, len(body))]
    assert is_server_hello(answers(server, fragments))


@EACH_ROLE
def test_zero_length_fragments_without_end(victim: Role) -> None:
    """CVE-2022-29190: pion looped for ever on a fragment of no bytes."""
    pair = Pair()
    end = pair.end(victim)
    empty = b"".join(handshake_header(CERTIFICATE, 5, seq, 5, 0) for seq in range(1000))
    for number in range(20):
        end.receive_datagram(serialize_record(ContentType.HANDSHAKE, number, empty), pair.now)
    assert end._reassembler.blocks == 0
    pair.run().assert_connected()


@EACH_ROLE
def test_fragments_that_are_never_completed_are_not_kept_without_bound(victim: Role) -> None:
    """CVE-2022-29189: pion kept all fragments of a handshake that goes on for ever."""
    end = Pair().end(victim)
    kept = []
    for number in range(2000):
        seq = end._reassembler.next_message_seq + number % 200
        fragment = piece(bytes(16_000), 1 + number // 200 * 1000, 1001 + number // 200 * 1000, seq=seq)
        end.receive_datagram(fragment, 0.0)
        kept.append(end._reassembler.blocks)
    assert max(kept) <= 64
    end = Pair().end(victim)
    for seq in range(1000):
        end.receive_datagram(piece(b"12", 0, 1, seq=end._reassembler.next_message_seq + seq), 0.0)
    assert end._reassembler.blocks <= 8, "there are messages of a byte without bound"


# Who the peer is


@pytest.mark.parametrize("asked", [ClientAuthentication.OPTIONAL, ClientAuthentication.REQUIRED])
@pytest.mark.parametrize("proof", ["none", "by another key"])
def test_a_client_certificate_without_proof_of_its_key(asked: ClientAuthentication, proof: str) -> None:
    """CVE-2022-29222: pion took a client's certificate that came without CertificateVerify."""
    stolen, own = credentials(name="somebody's"), credentials(name="the attacker's")
    pair = Pair(
        configuration(credentials=(dataclasses.replace(own, chain=stolen.chain),)),
        configuration(client_authentication=asked),
    )
    if proof == "none":
        tamper(pair.client, {CertificateVerify: lambda message: None})
    pair.run()
    assert_refused(pair.server, ALERT.UNEXPECTED_MESSAGE if proof == "none" else ALERT.DECRYPT_ERROR)
    assert pair.server.peer_certificate is None
    assert not any(isinstance(event, HandshakeCompleted) for event in pair.events[Role.SERVER])


# Key changes


def unprotected_from(pair: Pair, role: Role) -> list[int]:
    """Have an end send its protected handshake messages in epoch 0; returns their types as they are sent."""
    end = pair.end(role)
    moved: list[int] = []
    send_flight = end.send_flight

    def send_in_epoch_0(messages: Any, *, answered: bool) -> None:
        moved.extend(m.handshake_type for m in messages if m.epoch)
        send_flight(
            [dataclasses.replace(m, epoch=0) if hasattr(m, "body") else m for m in messages],
            answered=answered,
        )

    end.send_flight = send_in_epoch_0  # type: ignore[method-assign]
    return moved


@EACH_ROLE
def test_messages_that_need_protection_come_without(victim: Role) -> None:
    """CVE-2023-6937: wolfSSL took messages from behind the ServerHello, in its record, without protection."""
    options: dict[str, Any] = {"handshake_timeout": 3.0, "mtu": 9000}
    pair = Pair(configuration(**options), configuration(**options))
    moved = unprotected_from(pair, other(victim))
    pair.run()
    assert HandshakeType.FINISHED in moved
    assert pair.end(victim).error is not None
    assert not any(isinstance(event, HandshakeCompleted) for event in pair.events[victim])


@ONLY_13
@EACH_ROLE
def test_a_message_behind_a_key_update_in_its_record(victim: Role) -> None:
    """CVE-2023-6937 for the keys of an established association: nothing may stand behind a KeyUpdate."""
    pair = Pair().run()
    sender = pair.peer(victim)
    post_handshake: Any = sender._post_handshake
    first = post_handshake._next_message_seq
    two = b"".join(handshake_header(HandshakeType.KEY_UPDATE, 1, first + n) + b"\0" for n in (0, 1))
    sender._datagrams.append(sender._records.writer.seal(ContentType.HANDSHAKE, two))
    pair.run()
    assert_refused(pair.end(victim), ALERT.UNEXPECTED_MESSAGE)


# The hellos


def test_a_server_hello_of_a_downgrade_is_read_to_its_end(version: ProtocolVersion) -> None:
    """CVE-2024-5814: a wolfSSL client of 1.3 that was led to 1.2 did not look at the rest of the ServerHello.

    It took a cipher suite that it had not offered.
    """
    suites = (
        CipherSuite.TLS_AES_128_GCM_SHA256,
        CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    )
    good = ServerHello(V12, bytes(32), suites[1], {int(ExtensionType.EXTENDED_MASTER_SECRET): b""})
    body = good.serialize()
    bad = {
        "a suite not offered": dataclasses.replace(good, cipher_suite=0xC030).serialize(),
        "a suite of 1.3": dataclasses.replace(good, cipher_suite=suites[0]).serialize(),
        "compression": body[:37] + b"\1" + body[38:],
        "a long session ID": dataclasses.replace(good, session_id=bytes(33)).serialize(),
        "something behind it": body + b"\0",
        "an extension not offered": dataclasses.replace(good, extensions={0x1234: b""}).serialize(),
    } | {f"cut at {end}": body[:end] for end in range(len(body)) if end != len(body) - 6}
    for what, changed in bad.items():
        client = DtlsConnection(configuration(cipher_suites=suites), Role.CLIENT, 0.0)
        client.receive_datagram(piece(changed, 0, len(changed), kind=HandshakeType.SERVER_HELLO), 0.0)
        assert isinstance(client.error, PeerMisbehaved), what
    client = DtlsConnection(configuration(cipher_suites=suites), Role.CLIENT, 0.0)
    client.receive_datagram(piece(body, 0, len(body), kind=HandshakeType.SERVER_HELLO), 0.0)
    assert client.error is None


def with_shares(hello: ClientHello, body: bytes) -> ClientHello:
    return dataclasses.replace(hello, extensions={**hello.extensions, ExtensionType.KEY_SHARE: body})


@ONLY_13
@pytest.mark.parametrize("after_retry", [False, True])
def test_duplicate_key_shares(after_retry: bool) -> None:
    """CVE-2025-11936: wolfSSL took any number of key shares of the same group."""
    server = fresh_server(groups=(NamedGroup.SECP384R1,) if after_retry else (NamedGroup.X25519,))
    hello = ClientHello.parse(hello_body())
    if after_retry:
        assert is_server_hello(answers(server, [plain(hello)]))
    group = NamedGroup.SECP384R1 if after_retry else NamedGroup.X25519
    once = serialize_client_shares({group: generate_key_share(group).public})[2:]
    doubled = len(once * 20).to_bytes(2, "big") + once * 20
    assert answers(server, [plain(with_shares(hello, doubled), int(after_retry))])[0][0] == ContentType.ALERT
    assert_refused(server, ALERT.ILLEGAL_PARAMETER)


@ONLY_13
@pytest.mark.parametrize("asked_for", ["a share", "a cookie", "both"])
def test_a_server_hello_without_key_share_after_a_retry(asked_for: str) -> None:
    """CVE-2026-3230: a wolfSSL client went on without any key exchange when that was missing."""
    client = DtlsConnection(configuration(), Role.CLIENT, 0.0)
    group = NamedGroup.SECP384R1 if asked_for != "a cookie" else None
    client.receive_datagram(plain(retry_for(group, b"" if asked_for == "a share" else b"cookie")), 0.0)
    assert client.error is None
    chosen = {int(ExtensionType.SUPPORTED_VERSIONS): extensions.serialize_uint16(V13)}
    client.receive_datagram(
        plain(ServerHello(V12, bytes(32), CipherSuite.TLS_AES_128_GCM_SHA256, chosen), 1), 0.0
    )
    assert_refused(client, ALERT.MISSING_EXTENSION)
    assert list(client._records.writers) == [0]


@ONLY_13
def test_a_second_client_hello_without_the_key_share_it_was_asked_for() -> None:
    """CVE-2026-3230 from the server's side."""
    server = fresh_server(groups=(NamedGroup.SECP384R1,))
    hello = ClientHello.parse(hello_body())
    assert is_server_hello(answers(server, [plain(hello)]))
    answers(server, [plain(with_shares(hello, b"\0\0"), 1)])
    assert_refused(server, ALERT.ILLEGAL_PARAMETER)
    assert list(server._records.writers) == [0]


# Addresses

SECRET = bytes(range(32))
HERE, THERE = b"192.0.2.1:5000", b"192.0.2.9:5000"


def listener(**options: Any) -> StatelessListener:
    return StatelessListener(configuration(**options), SECRET)


def small_client() -> tuple[DtlsConnection, bytes]:
    """A client whose ClientHello is one datagram, and that."""
    client = DtlsConnection(configuration(groups_to_share=(NamedGroup.X25519,)), Role.CLIENT, 0.0)
    (hello,) = client.datagrams_to_send()
    return client, hello


def second_hello(subject: StatelessListener, address: bytes) -> tuple[DtlsConnection, bytes]:
    """A client that has been asked for a cookie, and the ClientHello that shows it."""
    client, hello = small_client()
    request = subject.receive_datagram(hello, address, 0.0)
    assert isinstance(request, bytes)
    client.receive_datagram(request, 0.0)
    (hello,) = client.datagrams_to_send()
    return client, hello


def finish(client: DtlsConnection, server: DtlsConnection, now: float = 0.0) -> None:
    for _ in range(4):
        for sender, receiver in ((server, client), (client, server)):
            for datagram in sender.datagrams_to_send():
                receiver.receive_datagram(datagram, now)
    assert client.is_connected
    assert server.is_connected


def test_a_client_hello_that_is_raced_from_another_address() -> None:
    """The ClientHello race: who copies a ClientHello, cookie and all, and is the first to send it, gets nothing.

    Neither a connection at the wrong address, nor one in the way of the client's own.
    """
    subject = listener()
    client, hello = second_hello(subject, HERE)
    assert isinstance(subject.receive_datagram(hello, THERE, 0.0), bytes)
    server = subject.receive_datagram(hello, HERE, 0.0)
    assert isinstance(server, DtlsConnection)
    assert isinstance(subject.receive_datagram(hello, THERE, 0.0), bytes)
    finish(client, server)


@pytest.mark.parametrize(
    "groups", [(NamedGroup.X25519,), (NamedGroup.SECP256R1,)], ids=["at once", "after a retry"]
)
def test_two_client_hellos_to_one_connection(groups: tuple[NamedGroup, ...]) -> None:
    """The ClientHello race where addresses can be forged: the handshake that was begun goes on to its end."""
    groups_there = (*groups, NamedGroup.SECP384R1)
    options: dict[str, Any] = {"groups": (NamedGroup.X25519, NamedGroup.SECP256R1)}
    pair = Pair(configuration(**options), configuration(groups=groups_there))
    while not pair.sent[Role.SERVER]:
        pair.step()
    _, another = small_client()
    for _ in range(3):
        pair.server.receive_datagram(another, pair.now)
    pair.run().assert_connected()


def test_a_client_hello_on_a_live_association() -> None:
    """RFC 6347 §4.2.8, RFC 9147 §5.11: it ends nothing, resets nothing, and is not answered."""
    pair = Pair().run()
    _, hello = small_client()
    before = pair.server.export_keying_material(b"EXTRACTOR-dtls_srtp", None, 60)
    for datagram in [*pair.sent[Role.CLIENT], hello]:
        pair.server.receive_datagram(datagram, pair.now)
    assert pair.server.datagrams_to_send() == []
    assert pair.server.export_keying_material(b"EXTRACTOR-dtls_srtp", None, 60) == before
    pair.assert_connected()


def least_hello(version: ProtocolVersion) -> bytes:
    """About the shortest ClientHello that a listener answers."""
    hello = ClientHello(V12, bytes(32), (0xC02B,))
    if version is V13:
        block: dict[int, bytes] = {
            ExtensionType.SUPPORTED_VERSIONS: extensions.serialize_supported_versions((V13,)),
            ExtensionType.SUPPORTED_GROUPS: extensions.serialize_uint16_list((NamedGroup.SECP384R1,)),
            ExtensionType.SIGNATURE_ALGORITHMS: extensions.serialize_uint16_list((0x0403,)),
            ExtensionType.KEY_SHARE: b"\0\0",
        }
        hello = dataclasses.replace(hello, cipher_suites=(0x1302,), extensions=block)
    return plain(hello)


def test_a_listener_is_no_reflector(version: ProtocolVersion) -> None:
    """Reflection amplification: what goes to an address that has proved nothing is at most three times the request.

    RFC 9000 §8.1 set that factor. Cut, repeated and broken ones get no more than that either.
    """
    subject = listener()
    hello = least_hello(version)
    answer = subject.receive_datagram(hello, HERE, 0.0)
    assert isinstance(answer, bytes)
    assert answer[0] == ContentType.HANDSHAKE
    assert len(answer) <= 3 * len(hello)
    for length in range(len(hello)):
        for datagram in (hello[:length], plain(ClientHello.parse(hello[25:]))[:length] + bytes(20)):
            answer = subject.receive_datagram(datagram, HERE, 0.0)
            assert answer is None or (isinstance(answer, bytes) and len(answer) <= 3 * len(datagram))


def test_a_cookie_is_asked_for_however_the_first_hello_looks(version: ProtocolVersion) -> None:
    """Reflection amplification: no shape of a first ClientHello is answered by a flight."""
    hello = ClientHello.parse(hello_body(groups_to_share=(NamedGroup.X25519,)))
    block = dict(hello.extensions)
    shapes = [
        dataclasses.replace(hello, cookie=bytes(32)),
        dataclasses.replace(hello, session_id=bytes(32)),
        dataclasses.replace(hello, extensions={**block, ExtensionType.COOKIE: serialize_cookie(bytes(100))}),
        dataclasses.replace(hello, extensions={**block, 35: b"a ticket that is none"}),
    ]
    for shape in shapes:
        for seq in (0, 1, 3):
            answer = listener().receive_datagram(plain(shape, seq), HERE, 0.0)
            assert answer is None or isinstance(answer, bytes)
            assert answer is None or len(answer) <= 3 * len(plain(shape))


@pytest.mark.parametrize(
    ("changes", "is_resumed"),
    [
        ({}, True),
        ({"session_tickets": TicketKeys()}, False),
        (
            {"cipher_suites": (CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, CipherSuite(0x1302))},
            False,
        ),
        ({"session_tickets": None}, False),
    ],
    ids=["it resumes", "another key", "another suite", "no tickets any more"],
)
def test_a_ticket_does_not_spare_the_cookie(changes: dict[str, Any], is_resumed: bool) -> None:
    """CVE-2022-2576: Californium did a full handshake without a cookie where a resumption did not work out."""
    options: dict[str, Any] = {"groups_to_share": (NamedGroup.X25519,), "mtu": 1400}
    tickets: dict[str, Any] = {"session_tickets": TicketKeys()}
    first = Pair(configuration(resume_sessions=True, **options), configuration(**tickets)).run()
    session, now = first.sessions[0], first.now + 1
    subject = listener(**(tickets | changes))
    client = DtlsConnection(configuration(resume_sessions=True, **options), Role.CLIENT, now, session)
    (hello,) = client.datagrams_to_send()
    assert session.ticket in hello
    request = subject.receive_datagram(hello, HERE, now)
    assert isinstance(request, bytes)
    assert len(request) < len(hello)
    client.receive_datagram(request, now)
    (hello,) = client.datagrams_to_send()
    assert isinstance(subject.receive_datagram(hello, THERE, now), bytes)
    server = subject.receive_datagram(hello, HERE, now)
    assert isinstance(server, DtlsConnection)
    finish(client, server, now)
    assert client.is_resumed == server.is_resumed == is_resumed


@ONLY_12
def test_a_session_id_does_not_spare_the_cookie() -> None:
    """CVE-2022-2576 with a session that the server keeps."""
    options: dict[str, Any] = {"groups_to_share": (NamedGroup.X25519,)}
    cached: dict[str, Any] = {"session_cache": SessionCache()}
    first = Pair(configuration(resume_sessions=True, **options), configuration(**cached)).run()
    session, now = first.sessions[0], first.now + 1
    client = DtlsConnection(configuration(resume_sessions=True, **options), Role.CLIENT, now, session)
    (hello,) = client.datagrams_to_send()
    assert session.session_id in hello
    assert isinstance(listener(**cached).receive_datagram(hello, HERE, now), bytes)


@ONLY_13
def test_a_forged_ack_of_a_server_hello_that_is_lost() -> None:
    """No CVE: a stranger's ACK, and one datagram lost, would have the server keep its ServerHello to itself."""
    pair = Pair(
        impairment=lambda role, index, datagram: [] if (role, index) == (Role.SERVER, 0) else [(0, datagram)]
    )
    while not pair.sent[Role.SERVER]:
        pair.step()
    ack = serialize_ack(tuple(RecordNumber(0, number) for number in range(8)))
    pair.server.receive_datagram(serialize_record(ContentType.ACK, 0, ack), pair.now)
    pair.run().assert_connected()
