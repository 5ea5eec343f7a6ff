"""What DTLS 1.3 adds: hybrid groups, HelloRetryRequest, ACKs, KeyUpdate, and refusals of its own."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CipherSuite,
    ConnectionClosed,
    DecodeError,
    DtlsConfiguration,
    DtlsConnection,
    DtlsError,
    HandshakeCompleted,
    NamedGroup,
    NotConnected,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    extensions,
)
from mediapeer.dtls.acks import MAXIMUM_RECORD_NUMBERS, AckSchedule
from mediapeer.dtls.epochs import WriteEpoch13
from mediapeer.dtls.flights import Flight, OutgoingHandshakeMessage
from mediapeer.dtls.key_exchange import answer_key_share, generate_key_share
from mediapeer.dtls.messages import CertificateVerify, ClientHello, ServerHello
from mediapeer.dtls.messages13 import (
    Certificate13,
    CertificateEntry,
    CertificateRequest13,
    EncryptedExtensions,
    Finished13,
    KeyUpdate,
    NewSessionTicket13,
    RecordNumber,
    parse_ack,
    serialize_ack,
)
from mediapeer.dtls.protection13 import AEAD_LIMITS, AeadLimits
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import AeadAlgorithm, ContentType, ExtensionType, HandshakeType
from tests.dtls.support import Impairment, Pair, configuration, credentials, deliver, expecting

ALERT = AlertDescription
Datagrams = Sequence[tuple[float, bytes]]


def is_unified(datagram: bytes) -> bool:
    return datagram[0] >> 5 == 1


def losing(*positions: tuple[Role, int]) -> Impairment:
    """Lose exactly these datagrams."""

    def lose(role: Role, index: int, datagram: bytes) -> Datagrams:
        return [] if (role, index) in positions else [(0.0, datagram)]

    return lose


# Post-quantum key exchange


@pytest.mark.parametrize(
    ("group", "client_length", "server_length"),
    [(NamedGroup.X25519MLKEM768, 1216, 1120), (NamedGroup.SECP256R1MLKEM768, 1249, 1153)],
)
def test_hybrid_shares_have_the_lengths_of_the_draft(
    group: NamedGroup, client_length: int, server_length: int
) -> None:
    """draft-ietf-tls-ecdhe-mlkem §4.1, §4.2."""
    share = generate_key_share(group)
    answer, secret = answer_key_share(group, share.public)
    assert (len(share.public), len(answer)) == (client_length, server_length)
    assert share.exchange(answer) == secret
    assert len(secret) == 64


@pytest.mark.parametrize("group", [NamedGroup.X25519MLKEM768, NamedGroup.SECP256R1MLKEM768])
@pytest.mark.parametrize(
    "change", [lambda s: b"", lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"\xff" * len(s)]
)
def test_hybrid_shares_that_are_none_are_refused(group: NamedGroup, change: Callable[[bytes], bytes]) -> None:
    share = generate_key_share(group)
    answer, _ = answer_key_share(group, share.public)
    with pytest.raises(PeerMisbehaved):
        answer_key_share(group, change(share.public))
    if change(answer) != b"\xff" * len(answer) or group is NamedGroup.SECP256R1MLKEM768:
        with pytest.raises(PeerMisbehaved):
            share.exchange(change(answer))


def test_by_default_a_call_is_post_quantum_in_one_round_trip() -> None:
    pair = Pair().run()
    assert pair.client.group is NamedGroup.X25519MLKEM768
    assert pair.client.version is ProtocolVersion.DTLS_1_3
    assert pair.client.cipher_suite is CipherSuite.TLS_AES_128_GCM_SHA256
    pair.assert_connected()


def test_the_client_sends_a_hybrid_and_a_classical_share_and_no_session_id() -> None:
    """And no ChangeCipherSpec: there is no middlebox compatibility mode in DTLS (RFC 9147 §5)."""
    sent: list[ClientHello] = []
    pair = Pair()
    hello: Any = pair.client._handshake
    sent.append(hello._hello)
    shares = extensions.parse_client_shares(sent[0].extensions[ExtensionType.KEY_SHARE])
    assert list(shares) == [NamedGroup.X25519MLKEM768, NamedGroup.X25519]
    assert sent[0].session_id == b""
    pair.run()
    assert [d for role in Role for d in pair.sent[role] if d[0] == ContentType.CHANGE_CIPHER_SPEC] == []


def test_a_stray_change_cipher_spec_is_ignored() -> None:
    pair = Pair()
    for _ in range(10):
        for role in Role:
            pair.end(role).receive_datagram(serialize_record(20, 9, b"\1"), pair.now)
        pair.step()
    pair.run().assert_connected()


# HelloRetryRequest


def retry_pair(**options: Any) -> Pair:
    """A server that speaks P-384 only, of which nobody sends a share unasked."""
    return Pair(
        configuration(**options),
        configuration(groups=(NamedGroup.SECP384R1,), minimum_version=ProtocolVersion.DTLS_1_3),
    )


def test_a_server_asks_for_the_share_it_needs() -> None:
    pair = retry_pair().run()
    assert pair.client.group is NamedGroup.SECP384R1
    pair.assert_connected()


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("sender", list(Role))
def test_a_retried_handshake_makes_up_for_losses(sender: Role, index: int) -> None:
    pair = retry_pair()
    pair.impairment = losing((sender, index))
    pair.run().assert_connected()


def changing(connection: DtlsConnection, changes: dict[type, Callable[[Any], Any]]) -> None:
    """Have an end send other messages than it means to, in its hello phase and in its handshake."""

    def change(handshake: Any) -> None:
        send = handshake._send
        handshake._send = lambda m, *args, **options: send(
            changes.get(type(m), lambda same: same)(m), *args, **options
        )

    change(connection._handshake)
    continue_with = connection.continue_with

    def continue_with_changed(handshake: Any) -> None:
        change(handshake)
        continue_with(handshake)

    connection.continue_with = continue_with_changed  # type: ignore[method-assign]


def with_extension(kind: int, body: bytes | None, *, only_retry: bool | None = None) -> Callable[[Any], Any]:
    """Set an extension, or take it out; in a HelloRetryRequest only, or in everything but."""

    def change(message: Any) -> Any:
        is_retry = ExtensionType.KEY_SHARE in message.extensions and len(message.extensions[51]) == 2
        if only_retry is not None and only_retry is not is_retry:
            return message
        block = {k: v for k, v in message.extensions.items() if k != kind}
        if body is not None:
            block[kind] = body
        return dataclasses.replace(message, extensions=block)

    return change


GROUP = extensions.serialize_uint16


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (with_extension(51, GROUP(NamedGroup.X25519), only_retry=True), ALERT.ILLEGAL_PARAMETER),
        (with_extension(51, GROUP(0x1234), only_retry=True), ALERT.ILLEGAL_PARAMETER),
        (with_extension(51, None, only_retry=True), ALERT.ILLEGAL_PARAMETER),
        (with_extension(0x1234, b"", only_retry=True), ALERT.UNSUPPORTED_EXTENSION),
        (with_extension(44, b"\0\0", only_retry=True), ALERT.DECODE_ERROR),
        (with_extension(43, b"\xfe\xfd", only_retry=True), ALERT.ILLEGAL_PARAMETER),
        (lambda m: dataclasses.replace(m, cipher_suite=0xC02B), ALERT.ILLEGAL_PARAMETER),
        (lambda m: dataclasses.replace(m, cipher_suite=0x1305), ALERT.ILLEGAL_PARAMETER),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(
    change: Callable[[Any], Any], alert: AlertDescription
) -> None:
    pair = retry_pair()
    changing(pair.server, {ServerHello: change})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert
    assert isinstance(pair.server.error, AlertReceived)


def test_a_second_retry_is_unexpected() -> None:
    pair = retry_pair()
    replayed: list[bytes] = []

    def repeat_with_next_number(role: Role, index: int, datagram: bytes) -> Datagrams:
        if role is Role.SERVER and not replayed:
            again = bytearray(datagram)
            again[10] = 1  # record number
            again[18] = 1  # message_seq
            replayed.append(bytes(again))
            return [(0.0, datagram), (0.001, bytes(again))]
        return [(0.0, datagram)]

    pair.impairment = repeat_with_next_number
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNEXPECTED_MESSAGE


def test_after_a_retry_the_version_stays() -> None:
    """A server that asks for a share of 1.3 and goes on in 1.2 (RFC 8446 §4.1.4)."""
    pair = Pair(configuration(), configuration(groups=(NamedGroup.SECP384R1,)))

    def downgrade(message: ServerHello) -> ServerHello:
        without = with_extension(43, None, only_retry=False)(message)
        return without if without is message else dataclasses.replace(without, cipher_suite=0xC02B)

    changing(pair.server, {ServerHello: downgrade})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize(
    "change",
    [
        lambda hello: dataclasses.replace(hello, random=bytes(32)),
        lambda hello: dataclasses.replace(hello, cipher_suites=hello.cipher_suites[1:]),
        with_extension(51, b"\0\0"),
        with_extension(44, extensions.serialize_cookie(b"unasked")),
        lambda hello: with_extension(
            51,
            extensions.serialize_client_shares(
                {**extensions.parse_client_shares(hello.extensions[51]), 29: b"x"}
            ),
        )(hello),
        with_extension(43, None),
        with_extension(43, b"\2\xfe\xfd"),
    ],
    ids=[
        "random",
        "suites",
        "no share",
        "a cookie nobody gave",
        "two shares",
        "no versions",
        "an older version",
    ],
)
def test_a_second_hello_that_is_another_one_is_refused(change: Callable[[Any], Any]) -> None:
    pair = retry_pair()
    hellos = 0

    def change_the_second(hello: ClientHello) -> Any:
        nonlocal hellos
        hellos += 1
        return change(hello)

    changing(pair.client, {ClientHello: change_the_second})
    pair.run()
    assert hellos == 1  # the first was sent when the client was made
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.ILLEGAL_PARAMETER


def test_the_cipher_suite_stays_after_a_retry() -> None:
    pair = retry_pair()
    hellos = 0

    def change_the_second(hello: ServerHello) -> ServerHello:
        nonlocal hellos
        hellos += 1
        return hello if hellos == 1 else dataclasses.replace(hello, cipher_suite=0x1303)

    changing(pair.server, {ServerHello: change_the_second})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


# Which version


@pytest.mark.parametrize(("client", "server"), [("1.2", "1.3"), ("1.3", "1.2"), ("1.2", "1.2")])
def test_ends_meet_at_the_older_version(client: str, server: str) -> None:
    versions = {"1.2": ProtocolVersion.DTLS_1_2, "1.3": ProtocolVersion.DTLS_1_3}
    pair = Pair(
        configuration(maximum_version=versions[client]), configuration(maximum_version=versions[server])
    ).run()
    assert pair.client.version is pair.server.version is ProtocolVersion.DTLS_1_2
    assert pair.client.group is NamedGroup.X25519
    pair.assert_connected()


@pytest.mark.parametrize("only_13", list(Role))
def test_a_version_that_one_end_insists_on_must_be_the_others(only_13: Role) -> None:
    strict = configuration(minimum_version=ProtocolVersion.DTLS_1_3)
    old = configuration(maximum_version=ProtocolVersion.DTLS_1_2)
    pair = Pair(*((strict, old) if only_13 is Role.CLIENT else (old, strict))).run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.PROTOCOL_VERSION
    assert isinstance(pair.client.error, AlertReceived)


def test_a_downgrade_by_somebody_in_between_is_noticed() -> None:
    """Who takes supported_versions out of a ClientHello is given away by the server's random (RFC 8446 §4.1.3)."""
    pair = Pair()
    hello: Any = pair.client._handshake
    pair.client.datagrams_to_send()
    stripped = with_extension(43, None)(hello._hello).serialize()
    header = handshake_header(HandshakeType.CLIENT_HELLO, len(stripped), 0)
    pair.server.receive_datagram(serialize_record(22, 0, header + stripped), pair.now)
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


def test_the_version_is_chosen_when_the_client_hello_is_whole() -> None:
    """Each half alone decides nothing, and each half is worth keeping."""
    pair = Pair()
    first, second = pair.client.datagrams_to_send()
    pair.server.receive_datagram(second, pair.now)
    assert pair.server.datagrams_to_send() == []
    pair.server.receive_datagram(first, pair.now)
    assert pair.server.datagrams_to_send() != []


@pytest.mark.parametrize("lost", [0, 1])
def test_either_half_of_a_client_hello_may_be_lost(lost: int) -> None:
    pair = Pair(impairment=losing((Role.CLIENT, lost)))
    pair.run().assert_connected()


# Refusals


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({ServerHello: with_extension(51, None)}, ALERT.MISSING_EXTENSION),
        ({ServerHello: with_extension(51, b"\0\x17\0\1\4")}, ALERT.ILLEGAL_PARAMETER),
        ({ServerHello: with_extension(43, b"\xfe\xfb")}, ALERT.PROTOCOL_VERSION),
        (
            {
                ServerHello: lambda m: dataclasses.replace(
                    with_extension(43, b"\xfe\xfd")(m), cipher_suite=0xC02B
                )
            },
            ALERT.ILLEGAL_PARAMETER,
        ),
        ({ServerHello: with_extension(23, b"")}, ALERT.UNSUPPORTED_EXTENSION),
        ({ServerHello: lambda m: dataclasses.replace(m, session_id=b"x")}, ALERT.ILLEGAL_PARAMETER),
        ({ServerHello: lambda m: dataclasses.replace(m, cipher_suite=0xC02B)}, ALERT.ILLEGAL_PARAMETER),
        ({EncryptedExtensions: with_extension(0x1234, b"")}, ALERT.UNSUPPORTED_EXTENSION),
        ({EncryptedExtensions: with_extension(51, b"")}, ALERT.ILLEGAL_PARAMETER),
        ({EncryptedExtensions: lambda m: m.__class__({14: b"\0\2\0\7\0"})}, ALERT.UNSUPPORTED_EXTENSION),
        ({CertificateRequest13: with_extension(13, None)}, ALERT.MISSING_EXTENSION),
        (
            {CertificateRequest13: lambda m: dataclasses.replace(m, request_context=b"x")},
            ALERT.ILLEGAL_PARAMETER,
        ),
        ({Certificate13: lambda m: Certificate13(())}, ALERT.DECODE_ERROR),
        ({Certificate13: lambda m: dataclasses.replace(m, request_context=b"x")}, ALERT.ILLEGAL_PARAMETER),
        (
            {Certificate13: lambda m: Certificate13((CertificateEntry(m.chain[0], {5: b""}),))},
            ALERT.UNSUPPORTED_EXTENSION,
        ),
        (
            {Certificate13: lambda m: Certificate13((CertificateEntry(credentials("ed25519").chain[0]),))},
            ALERT.ILLEGAL_PARAMETER,
        ),
        (
            {
                CertificateVerify: lambda m: dataclasses.replace(
                    m, signature=m.signature[:-1] + bytes([m.signature[-1] ^ 1])
                )
            },
            ALERT.DECRYPT_ERROR,
        ),
        (
            {CertificateVerify: lambda m: dataclasses.replace(m, signature_scheme=0x0503)},
            ALERT.ILLEGAL_PARAMETER,
        ),
        ({CertificateVerify: lambda m: Finished13(bytes(32))}, ALERT.UNEXPECTED_MESSAGE),
        ({Finished13: lambda m: Finished13(bytes(32))}, ALERT.DECRYPT_ERROR),
        ({Finished13: lambda m: Finished13(bytes(31))}, ALERT.DECRYPT_ERROR),
    ],
)
def test_a_server_that_breaks_the_rules_is_refused(
    changes: dict[type, Callable[[Any], Any]], alert: AlertDescription
) -> None:
    pair = Pair()
    changing(pair.server, changes)
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert
    assert not any(isinstance(event, HandshakeCompleted) for event in pair.events[Role.CLIENT])
    assert isinstance(pair.server.error, DtlsError)


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({Certificate13: lambda m: Certificate13(())}, ALERT.CERTIFICATE_REQUIRED),
        ({CertificateVerify: lambda m: Finished13(bytes(32))}, ALERT.UNEXPECTED_MESSAGE),
        ({CertificateVerify: lambda m: dataclasses.replace(m, signature=b"")}, ALERT.DECRYPT_ERROR),
        ({Finished13: lambda m: Finished13(bytes(32))}, ALERT.DECRYPT_ERROR),
    ],
)
def test_a_client_that_cannot_prove_itself_is_refused(
    changes: dict[type, Callable[[Any], Any]], alert: AlertDescription
) -> None:
    """CVE-2022-29222 is about a certificate without proof."""
    pair = Pair()
    changing(pair.client, changes)
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is alert
    assert not any(isinstance(event, HandshakeCompleted) for event in pair.events[Role.SERVER])
    assert isinstance(pair.client.error, AlertReceived)
    assert pair.client.error.alert is alert


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (with_extension(51, None), ALERT.MISSING_EXTENSION),
        (with_extension(10, None), ALERT.MISSING_EXTENSION),
        (with_extension(13, None), ALERT.MISSING_EXTENSION),
        (with_extension(13, b"\0\2\x04\x01"), ALERT.HANDSHAKE_FAILURE),
        (with_extension(51, b"\0\x48" + 2 * (b"\0\x1d\0\x20" + b"a" * 32)), ALERT.ILLEGAL_PARAMETER),
        (with_extension(51, b"\0\5\x12\x34\0\1a"), ALERT.ILLEGAL_PARAMETER),
        (with_extension(51, b"\0\5\0\x1d\0\1a"), ALERT.ILLEGAL_PARAMETER),
        (lambda m: dataclasses.replace(m, cookie=b"of 1.2"), ALERT.ILLEGAL_PARAMETER),
        (lambda m: dataclasses.replace(m, compression_methods=b"\0\1"), ALERT.ILLEGAL_PARAMETER),
        (lambda m: dataclasses.replace(m, cipher_suites=(0x5A5A, 0xC02B)), ALERT.HANDSHAKE_FAILURE),
    ],
)
def test_a_client_hello_that_breaks_the_rules_is_refused(
    change: Callable[[Any], Any], alert: AlertDescription
) -> None:
    """Two shares of one group are CVE-2025-11936's subject."""
    pair = Pair()
    pair.client.datagrams_to_send()
    changing(pair.client, {ClientHello: change})
    hello: Any = pair.client._handshake
    hello._next_message_seq = 0
    hello._send_hello()
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is alert
    assert isinstance(pair.client.error, AlertReceived)


# ACKs


def test_the_servers_ack_ends_the_handshake_for_the_client() -> None:
    pair = Pair().run()
    assert pair.server.activity["acks_sent"] == 1
    assert pair.client._transmission.timer.deadline is None
    assert pair.client.activity["retransmissions"] == 0


def test_the_last_flight_is_acknowledged_at_once() -> None:
    """No flight of the server's follows it, so the client would wait for nothing (RFC 9147 §7.1)."""
    pair = Pair()
    while not pair.server.is_connected:
        pair.step()
    assert pair.server.activity["acks_sent"] == 1
    pair.run()
    pair.client.update_keys()
    pair.step()
    assert pair.server.activity["acks_sent"] == 2


def test_an_empty_ack_asks_for_the_flight_again_at_a_bounded_pace() -> None:
    pair = Pair()
    for datagram in pair.client.datagrams_to_send():
        pair.server.receive_datagram(datagram, pair.now)
    flight = len(pair.server.datagrams_to_send())
    empty = serialize_record(ContentType.ACK, 5, serialize_ack(()))
    for number in range(100):
        pair.server.receive_datagram(empty, pair.now + 0.0001 * number)
    assert pair.server.datagrams_to_send() == []
    pair.server.receive_datagram(empty, pair.now + 0.03)
    assert len(pair.server.datagrams_to_send()) == flight


def test_a_repeated_last_flight_is_acknowledged_while_a_key_update_is_under_way() -> None:
    pair = Pair()
    while not pair.server.is_connected:
        pair.step()
    pair.server.update_keys()
    pair.server.datagrams_to_send()
    pair.client.handle_timeout(pair.now + 0.05)
    for datagram in pair.client.datagrams_to_send():
        pair.server.receive_datagram(datagram, pair.now + 0.05)
    assert pair.server.activity["acks_sent"] == 2
    assert pair.server.activity["retransmissions"] == 0


def test_replayed_data_is_delivered_once() -> None:
    pair = Pair().run()
    pair.client.send_application_data(b"once")
    (datagram,) = pair.client.datagrams_to_send()
    for _ in range(3):
        pair.server.receive_datagram(datagram, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER) == [b"once"]
    assert pair.server.counters["replayed_records"] == 2


def test_the_shortest_record_is_long_enough_to_be_masked() -> None:
    """A tag of 8 bytes leaves too little to sample, so there is padding (RFC 9147 §4.2.3)."""
    only = configuration(cipher_suites=(CipherSuite.TLS_AES_128_CCM_8_SHA256,))
    pair = Pair(only, only).run()
    pair.client.send_application_data(b"")
    pair.client.send_application_data(b"x")
    pair.client.close()
    pair.run()
    assert pair.received(Role.SERVER) == [b"", b"x"]
    assert isinstance(pair.events[Role.SERVER][-1], ConnectionClosed)


def test_a_lost_ack_is_sent_again_when_the_last_flight_is() -> None:
    lost = 0

    def lose_acks(role: Role, index: int, datagram: bytes) -> Datagrams:
        nonlocal lost
        if role is Role.SERVER and pair.server.is_connected and lost < 3:
            lost += 1
            return []
        return [(0.0, datagram)]

    pair = Pair(configuration(mtu_backs_off=False))
    pair.impairment = lose_acks
    pair.run()
    assert lost == 3
    assert pair.client.activity["retransmissions"] == 3
    assert pair.server.activity["retransmissions"] == 0
    pair.assert_connected()


def test_what_arrived_of_a_flight_is_acknowledged_and_not_sent_again() -> None:
    """One datagram of the server's flight is lost: only what was in it comes again, and long before the timer."""
    pair = Pair(configuration(mtu=400), configuration(mtu=400), losing((Role.SERVER, 4)))
    started = pair.now
    while not pair.client.is_connected:
        pair.step()
    again = len(pair.sent[Role.SERVER]) - 6
    assert pair.client.activity["acks_sent"] >= 1
    assert again <= 2
    assert pair.now - started < 0.05
    pair.run().assert_connected()


def test_an_ack_that_comes_before_its_keys_is_kept_or_dropped_but_harms_nothing() -> None:
    """Chromium's server may acknowledge a repeated ClientHello in epoch 3, which the client cannot read yet."""
    pair = Pair()
    while not any(map(is_unified, pair.sent[Role.SERVER])):
        pair.step()
    traffic = pair.server._handshake._traffic  # type: ignore[union-attr]
    ack = traffic.writer().seal(ContentType.ACK, serialize_ack((RecordNumber(0, 0),)))
    pair.client.receive_datagram(ack, pair.now)
    pair.run().assert_connected()


def test_a_server_hello_that_is_late_is_asked_for_by_an_ack() -> None:
    """The rest of the flight is here and cannot be read: the client says so in epoch 0 (RFC 9147 §7.1)."""
    pair = Pair(
        configuration(mtu=1200), configuration(mtu=300), losing(*((Role.SERVER, n) for n in range(5)))
    )
    while not pair.client.is_connected:
        pair.step()
    acks = [datagram for datagram in pair.sent[Role.CLIENT] if datagram[0] == ContentType.ACK]
    assert acks
    pair.run().assert_connected()


def test_data_that_overtakes_the_clients_last_flight_waits_for_it() -> None:
    pair = Pair()
    while not pair.client.is_connected:
        pair.step()
    flight = pair._under_way.copy()
    pair._under_way.clear()
    pair.client.send_application_data(b"early")
    for datagram in pair.client.datagrams_to_send():
        pair.server.receive_datagram(datagram, pair.now)
    assert pair.server.next_event() is None
    pair._under_way.extend(flight)
    pair.run()
    assert pair.received(Role.SERVER) == [b"early"]


def test_the_servers_data_before_the_clients_flight_is_there_cannot_exist() -> None:
    pair = Pair()
    while not any(map(is_unified, pair.sent[Role.SERVER])):
        pair.step()
    with pytest.raises(NotConnected):
        pair.server.send_application_data(b"half round trip")


@pytest.mark.parametrize("contents", [b"", b"\0", b"\0\1x", b"\0\x10" + bytes(15)])
def test_an_ack_that_does_not_parse_is_the_peers_fault_if_it_is_authentic(contents: bytes) -> None:
    pair = Pair().run()
    pair.client.receive_datagram(serialize_record(ContentType.ACK, 3, contents), pair.now)
    assert pair.client.is_connected
    pair.server._datagrams.append(pair.server._records.writer.seal(ContentType.ACK, contents))
    pair.run()
    assert isinstance(pair.client.error, DecodeError)


def test_an_unprotected_ack_says_nothing_about_protected_records() -> None:
    """Else anybody could stop the server from sending its flight again."""
    pair = Pair(impairment=losing(*((Role.SERVER, n) for n in range(1, 12))))
    while not any(map(is_unified, pair.sent[Role.SERVER])):
        pair.step()
    everything = tuple(RecordNumber(epoch, n) for epoch in (0, 2) for n in range(9))
    pair.server.receive_datagram(serialize_record(ContentType.ACK, 7, serialize_ack(everything)), pair.now)
    assert not pair.server._transmission.is_done
    pair.run().assert_connected()


def test_an_unprotected_ack_of_everything_does_not_stop_the_timer() -> None:
    """It may be forged, and the answer that it promises may be lost: the client would wait for ever."""
    pair = Pair(impairment=losing((Role.SERVER, 0), (Role.SERVER, 1)))
    pair.flush()
    hello = tuple(RecordNumber(0, n) for n in range(len(pair.sent[Role.CLIENT])))
    pair.client.receive_datagram(serialize_record(ContentType.ACK, 7, serialize_ack(hello)), pair.now)
    assert pair.client._transmission.timer.deadline is not None
    pair.run().assert_connected()


def test_acks_name_the_newest_records_and_are_bounded() -> None:
    acks = AckSchedule(0.01)
    for number in range(100):
        acks.note(RecordNumber(2, number))
        acks.expect_more(0.0)
    assert acks.deadline == 0.01
    assert not acks.is_due(0.005)
    assert acks.is_due(0.01)
    assert [len(body) for body in acks.take(100)] == [2 + 6 * 16] * 5 + [2 + 2 * 16]
    assert len(acks.take(17)) == MAXIMUM_RECORD_NUMBERS
    acks.expect_more(0.0)
    (body,) = acks.take(1000)
    numbers = parse_ack(body)
    assert [n.sequence_number for n in numbers] == list(range(100 - MAXIMUM_RECORD_NUMBERS, 100))
    assert acks.deadline is None


def test_a_flight_sends_again_what_is_not_acknowledged_and_nothing_else() -> None:
    body = bytes(range(256)) * 4
    flight = Flight([OutgoingHandshakeMessage(0, HandshakeType.CERTIFICATE, 0, body)])
    connection = DtlsConnection(configuration(), Role.SERVER, 0.0)
    writers = connection._records.writers
    assert len(flight.pack(writers, 300)) == 4
    assert flight.acknowledge(
        [RecordNumber(0, 0), RecordNumber(0, 2), RecordNumber(0, 77), RecordNumber(3, 1)]
    )
    assert not flight.acknowledge([RecordNumber(0, 0)])
    again = flight.pack(writers, 300)
    offsets = [int.from_bytes(datagram[19:22], "big") for datagram in again]
    assert offsets == [275, 825]
    assert flight.acknowledge([RecordNumber(0, 1), RecordNumber(0, 3)])
    assert flight.is_done


# KeyUpdate


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("request_peer", [True, False])
def test_keys_are_updated_and_data_goes_on(role: Role, request_peer: bool) -> None:
    pair = Pair().run()
    for generation in range(1, 6):
        pair.end(role).update_keys(request_peer=request_peer)
        pair.run()
        assert pair.end(role)._records.writer.number == 3 + generation
        assert pair.peer(role)._records.writer.number == 3 + (generation if request_peer else 0)
        pair.assert_connected()


def test_both_ends_may_update_at_once() -> None:
    pair = Pair().run()
    pair.client.update_keys()
    pair.server.update_keys()
    pair.run()
    # The update that is under way answers the one that comes.
    assert pair.client._records.writer.number == pair.server._records.writer.number == 4
    pair.assert_connected()


@pytest.mark.parametrize("lost", ["KeyUpdate", "ACK", "both"])
def test_a_lost_key_update_or_ack_is_made_up_for(lost: str) -> None:
    pair = Pair().run()
    counts = {role: len(pair.sent[role]) for role in Role}

    def lose(role: Role, index: int, datagram: bytes) -> Datagrams:
        is_first = index == counts[role]
        wanted = {"KeyUpdate": [Role.CLIENT], "ACK": [Role.SERVER], "both": list(Role)}[lost]
        return [] if is_first and role in wanted else [(0.0, datagram)]

    pair.impairment = lose
    pair.client.update_keys(request_peer=False)
    pair.run()
    assert pair.client._records.writer.number == 4
    assert pair.client.activity["retransmissions"] >= 1
    pair.assert_connected()


def test_records_of_the_old_epoch_still_open_for_a_while_and_then_no_more() -> None:
    pair = Pair().run()
    pair.client.send_application_data(b"late")
    (late,) = pair.client.datagrams_to_send()
    pair.client.send_application_data(b"too late")
    (too_late,) = pair.client.datagrams_to_send()
    pair.client.update_keys(request_peer=False)
    pair.run()
    pair.server.receive_datagram(late, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER) == [b"late"]
    pair.client.send_application_data(b"in the new one")
    pair.run()
    assert len(pair.server._records._unified) == 3  # epoch 2, the old epoch 3, and the new one
    assert pair.server.next_timeout() is None  # nobody has to be woken to forget keys
    pair.server.receive_datagram(too_late, pair.now + 241)
    assert len(pair.server._records._unified) == 1
    pair.flush()
    assert pair.received(Role.SERVER) == [b"late", b"in the new one"]


def test_key_updates_without_end_leave_no_more_than_four_epochs_behind() -> None:
    pair = Pair().run()
    for _ in range(50):
        pair.client.update_keys()
        while not pair.client._transmission.is_done:
            pair.step()
    assert len(pair.server._records._unified) <= 4
    assert len(pair.server._records._expiries) <= 3


def test_data_goes_on_in_the_old_keys_until_the_update_is_acknowledged() -> None:
    pair = Pair().run()
    pair.impairment = lambda role, index, datagram: []
    pair.client.update_keys()
    pair.flush()
    pair.client.send_application_data(b"meanwhile")
    (datagram,) = pair.client.datagrams_to_send()
    pair.server.receive_datagram(datagram, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER) == [b"meanwhile"]


def test_keys_are_updated_before_they_have_sealed_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9147 §4.5.3, at a smaller number than that of the RFC."""
    monkeypatch.setitem(AEAD_LIMITS, AeadAlgorithm.AES_128_GCM, AeadLimits(10, 2**36))
    pair = Pair().run()
    for number in range(25):
        pair.client.send_application_data(bytes([number]))
        pair.run()
    writer = pair.client._records.writer
    assert isinstance(writer, WriteEpoch13)
    assert writer.number == 5
    assert pair.received(Role.SERVER) == [bytes([number]) for number in range(25)]


def test_forgeries_without_end_end_the_association(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AEAD_LIMITS, AeadAlgorithm.AES_128_GCM, AeadLimits(2**23, 5))
    pair = Pair().run()
    forged = b"\x2f\0\0\0\x14" + bytes(20)
    for _ in range(5):
        pair.server.receive_datagram(forged, pair.now)
    assert pair.server.is_connected
    pair.server.receive_datagram(forged, pair.now)
    assert isinstance(pair.server.error, DtlsError)


def test_keys_are_not_updated_where_that_cannot_be() -> None:
    with pytest.raises(NotConnected):
        Pair().client.update_keys()
    old = configuration(maximum_version=ProtocolVersion.DTLS_1_2)
    with pytest.raises(NotConnected):
        Pair(old, old).run().client.update_keys()


# After the handshake


def send_after_handshake(pair: Pair, sender: Role, message: Any) -> Pair:
    end = pair.end(sender)
    body = message.serialize()
    post_handshake: Any = end._post_handshake
    header = handshake_header(message.handshake_type, len(body), post_handshake._next_message_seq)
    post_handshake._next_message_seq += 1
    end._datagrams.append(end._records.writer.seal(ContentType.HANDSHAKE, header + body))
    return pair.run()


def test_a_ticket_is_taken_and_acknowledged() -> None:
    pair = send_after_handshake(Pair().run(), Role.SERVER, NewSessionTicket13(60, 1, b"n", b"ticket"))
    assert pair.client.activity["acks_sent"] == 1
    pair.assert_connected()


@pytest.mark.parametrize(
    ("sender", "message", "alert"),
    [
        (Role.SERVER, CertificateRequest13({13: b"\0\2\4\3"}, b"later"), ALERT.UNEXPECTED_MESSAGE),
        (Role.CLIENT, NewSessionTicket13(60, 1, b"n", b"ticket"), ALERT.UNEXPECTED_MESSAGE),
        (Role.CLIENT, ClientHello(0xFEFD, bytes(32), (0x1301,)), ALERT.UNEXPECTED_MESSAGE),
        (Role.SERVER, Finished13(bytes(32)), ALERT.UNEXPECTED_MESSAGE),
    ],
)
def test_post_handshake_messages_nobody_asked_for_are_refused(
    sender: Role, message: Any, alert: AlertDescription
) -> None:
    pair = send_after_handshake(Pair().run(), sender, message)
    error = pair.peer(sender).error
    assert isinstance(error, PeerMisbehaved)
    assert error.alert is alert


def test_a_key_update_that_asks_for_something_else_is_refused() -> None:
    class Strange(KeyUpdate):
        def serialize(self) -> bytes:
            return b"\2"

    pair = send_after_handshake(Pair().run(), Role.CLIENT, Strange(True))
    assert isinstance(pair.server.error, DecodeError)
    assert pair.server.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize("epoch", [2, 3])
def test_application_data_of_the_handshake_epoch_is_never_delivered(epoch: int) -> None:
    pair = Pair()
    while 2 not in pair.server._records.writers:
        pair.step()
    writer = pair.server._records.writers[epoch]
    pair.client.receive_datagram(writer.seal(ContentType.APPLICATION_DATA, b"inject"), pair.now)
    pair.run()
    if epoch == 2:
        assert isinstance(pair.client.error, PeerMisbehaved)
    assert b"inject" not in pair.received(Role.CLIENT) or epoch == 3


def test_a_record_of_padding_alone_is_refused() -> None:
    """RFC 8446 §5.4."""
    pair = Pair().run()
    pair.client._datagrams.append(pair.client._records.writer.seal(0, bytes(20)))
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.UNEXPECTED_MESSAGE


def test_forged_alerts_do_not_end_a_handshake_that_is_protected() -> None:
    """Once the peer has shown that it has keys, an unprotected alert is not its own."""
    pair = Pair(
        configuration(mtu=400),
        configuration(mtu=400),
        lambda role, index, datagram: [(0.001 * index if role is Role.SERVER else 0.0, datagram)],
    )
    while not pair.client._saw_authentic_record:
        pair.step()
    assert not pair.client.is_connected
    alert = serialize_record(ContentType.ALERT, 40, bytes([2, ALERT.HANDSHAKE_FAILURE]))
    pair.client.receive_datagram(alert, pair.now)
    pair.run().assert_connected()


@pytest.mark.parametrize(
    "junk",
    [b"\x20", b"\x2f", b"\x2f\0\0", b"\x3f" + bytes(40), b"\x2c\0\0\xff\xff" + bytes(60), b"\x2b\0\0\0"],
)
def test_unified_records_that_are_none_are_dropped_and_counted(junk: bytes) -> None:
    pair = Pair().run()
    for role in Role:
        before = pair.end(role).counters.total()
        pair.end(role).receive_datagram(junk, pair.now)
        assert pair.end(role).counters.total() > before
    pair.assert_connected()


def test_records_with_short_numbers_and_without_a_length_open_too() -> None:
    """The other forms of the header (RFC 9147 §4), as a peer may send them."""
    pair = Pair().run()
    writer: Any = pair.client._records.writer
    for flags in (0b0010_0011, 0b0010_1011, 0b0010_0111):
        number = writer.next_sequence_number
        writer.next_sequence_number += 1
        inner = b"hello" + b"\x17" + bytes(20)
        short = not flags & 0b1000
        bits = number & (0xFF if short else 0xFFFF)
        size = 1 if short else 2
        length = (len(inner) + 16).to_bytes(2, "big") if flags & 0b100 else b""
        header = bytes([flags]) + bits.to_bytes(size, "big") + length
        fragment = writer._aead.encrypt((writer._iv ^ number).to_bytes(12, "big"), inner, header)
        mask = int.from_bytes(writer._mask(fragment[:16])[:size], "big")
        masked = bytes([flags]) + (bits ^ mask).to_bytes(size, "big") + length
        pair.server.receive_datagram(masked + fragment, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER) == [b"hello"] * 3


def test_mutual_authentication_by_fingerprint_protects_both_ways() -> None:
    ours, theirs = credentials(name="client"), credentials(name="server")

    def make(own: Any, peer: Any) -> DtlsConfiguration:
        return configuration(credentials=(own,), verifier=expecting(peer))

    Pair(make(ours, theirs), make(theirs, ours)).run().assert_connected()
    pair = Pair(make(ours, theirs), make(theirs, theirs), deliver).run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.BAD_CERTIFICATE
    assert isinstance(pair.client.error, AlertReceived)
