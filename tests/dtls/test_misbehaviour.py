"""Peers that break the protocol, and strangers that throw things: the lessons of other engines' bugs."""

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CertificateRejected,
    CipherSuite,
    ClientAuthentication,
    ConnectionFailed,
    DecodeError,
    DtlsConfiguration,
    DtlsConnection,
    HandshakeCompleted,
    NamedGroup,
    NegotiationFailed,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    SignatureScheme,
    SrtpProtectionProfile,
    extensions,
)
from mediapeer.dtls.association import MAXIMUM_HELD_DATA, MAXIMUM_REFUSED_RENEGOTIATIONS
from mediapeer.dtls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    EcdhParameters,
    Finished,
    HelloRequest,
    HelloVerifyRequest,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.record_layer import MAXIMUM_HELD_BYTES, MAXIMUM_HELD_RECORDS
from mediapeer.dtls.registry import (
    TLS_EMPTY_RENEGOTIATION_INFO_SCSV,
    TLS_FALLBACK_SCSV,
    ContentType,
    ExtensionType,
    HandshakeType,
)
from tests.dtls.support import Pair as AnyPair
from tests.dtls.support import configuration as any_configuration
from tests.dtls.support import credentials

Change = Callable[[Any], Any]


def configuration(**options: Any) -> DtlsConfiguration:
    """A configuration for DTLS 1.2 alone."""
    return any_configuration(maximum_version=ProtocolVersion.DTLS_1_2, **options)


class Pair(AnyPair):
    """A client and a server that speak DTLS 1.2."""

    def __init__(
        self, client: DtlsConfiguration | None = None, server: DtlsConfiguration | None = None
    ) -> None:
        super().__init__(client or configuration(), server or configuration())


def tamper(connection: DtlsConnection, changes: dict[type, Change]) -> None:
    """Have an end send other messages than it means to; a change to ``None`` leaves the message out."""

    def tamper_with(handshake: Any) -> None:
        send = handshake._send

        def send_changed(message: Any, epoch: int = 0, **options: Any) -> None:
            change = changes.get(type(message))
            changed = change(message) if change else message
            if changed is not None:
                send(changed, epoch, **options)

        handshake._send = send_changed

    watch_handshakes(connection, tamper_with)


def watch_handshakes(connection: DtlsConnection, action: Change) -> None:
    """Do something to the hello phase of a connection, and to the handshake that follows it."""
    action(connection._handshake)
    continue_with = connection.continue_with

    def continue_with_watched(handshake: Any) -> None:
        action(handshake)
        continue_with(handshake)

    connection.continue_with = continue_with_watched  # type: ignore[method-assign]


def tampered_client(changes: dict[type, Change], **server_options: Any) -> Pair:
    """A pair whose client misbehaves; its ClientHello is made anew if that is among the changes."""
    pair = Pair(server=configuration(**server_options))
    tamper(pair.client, changes)
    if ClientHello in changes:
        pair.client.datagrams_to_send()
        handshake: Any = pair.client._handshake
        handshake._next_message_seq = 0
        handshake._send_hello()
    return pair.run()


def tampered_server(changes: dict[type, Change], **client_options: Any) -> Pair:
    """A pair whose server misbehaves."""
    pair = Pair(client=configuration(**client_options))
    tamper(pair.server, changes)
    return pair.run()


def with_extension(kind: int, body: bytes | None) -> Change:
    """Set an extension of a hello, or take it out."""

    def change(hello: Any) -> Any:
        block = {k: v for k, v in hello.extensions.items() if k != kind}
        if body is not None:
            block[kind] = body
        return dataclasses.replace(hello, extensions=block)

    return change


def replacing(**fields: Any) -> Change:
    return lambda message: dataclasses.replace(message, **fields)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


ALERT = AlertDescription


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (replacing(server_version=0xFEFF), ALERT.PROTOCOL_VERSION),
        (replacing(server_version=0xFEFC), ALERT.PROTOCOL_VERSION),
        (replacing(cipher_suite=0x002F), ALERT.ILLEGAL_PARAMETER),
        (replacing(cipher_suite=0x1301), ALERT.ILLEGAL_PARAMETER),
        (with_extension(0x1234, b""), ALERT.UNSUPPORTED_EXTENSION),
        (with_extension(ExtensionType.SUPPORTED_GROUPS, b"\0\2\0\x1d"), ALERT.UNSUPPORTED_EXTENSION),
        (with_extension(ExtensionType.EXTENDED_MASTER_SECRET, None), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.EXTENDED_MASTER_SECRET, b"x"), ALERT.DECODE_ERROR),
        (with_extension(ExtensionType.RENEGOTIATION_INFO, b"\1x"), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.EC_POINT_FORMATS, b"\1\1"), ALERT.ILLEGAL_PARAMETER),
        (with_extension(ExtensionType.USE_SRTP, b"\0\2\0\1\0"), ALERT.ILLEGAL_PARAMETER),
        (with_extension(ExtensionType.USE_SRTP, b"\0\2\0\7\1x"), ALERT.ILLEGAL_PARAMETER),
        (with_extension(ExtensionType.USE_SRTP, b"\0\4\0\7\0\7\0"), ALERT.ILLEGAL_PARAMETER),
        (
            with_extension(
                ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, extensions.serialize_alpn((b"x",))
            ),
            ALERT.ILLEGAL_PARAMETER,
        ),
    ],
)
def test_a_server_hello_that_was_not_asked_for_is_refused(change: Change, alert: AlertDescription) -> None:
    pair = tampered_server(
        {ServerHello: change},
        alpn_protocols=(b"webrtc",),
        srtp_profiles=(SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,),
    )
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert
    assert isinstance(pair.server.error, AlertReceived)


def flip_signature(message: Any) -> Any:
    return dataclasses.replace(message, signature=flipped(message.signature))


def with_group(group: int) -> Change:
    return lambda m: dataclasses.replace(m, parameters=EcdhParameters(group, m.parameters.public))


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({Certificate: replacing(chain=())}, ALERT.DECODE_ERROR),
        ({Certificate: replacing(chain=(b"junk",))}, ALERT.BAD_CERTIFICATE),
        ({Certificate: replacing(chain=credentials("rsa-2048").chain)}, ALERT.ILLEGAL_PARAMETER),
        ({Certificate: replacing(chain=credentials("ecdsa-p256", "other").chain)}, ALERT.DECRYPT_ERROR),
        ({ServerKeyExchange: flip_signature}, ALERT.DECRYPT_ERROR),
        ({ServerKeyExchange: replacing(signature=b"")}, ALERT.DECRYPT_ERROR),
        ({ServerKeyExchange: replacing(signature_scheme=0x0203)}, ALERT.ILLEGAL_PARAMETER),
        ({ServerKeyExchange: replacing(signature_scheme=0x0401)}, ALERT.ILLEGAL_PARAMETER),
        ({ServerKeyExchange: with_group(0x11EC)}, ALERT.ILLEGAL_PARAMETER),
        ({ServerKeyExchange: with_group(24)}, ALERT.DECRYPT_ERROR),
        ({Certificate: lambda m: None}, ALERT.UNEXPECTED_MESSAGE),
        ({ServerKeyExchange: lambda m: None}, ALERT.UNEXPECTED_MESSAGE),
        ({ServerHello: lambda m: None}, ALERT.UNEXPECTED_MESSAGE),
        ({ServerHelloDone: lambda m: HelloRequest()}, ALERT.UNEXPECTED_MESSAGE),
        ({CertificateRequest: lambda m: ServerHelloDone()}, None),
        ({Finished: lambda m: Finished(flipped(m.verify_data))}, ALERT.DECRYPT_ERROR),
    ],
)
def test_a_server_that_cannot_prove_itself_is_refused(
    changes: dict[type, Change], alert: AlertDescription | None
) -> None:
    pair = tampered_server(changes)
    assert pair.client.error is not None
    if alert is not None:
        assert isinstance(pair.client.error, PeerMisbehaved)
        assert pair.client.error.alert is alert
    assert not any(isinstance(event, HandshakeCompleted) for event in pair.events[Role.CLIENT])


def test_a_signature_scheme_that_was_not_offered_is_refused() -> None:
    only = (SignatureScheme.ECDSA_SECP256R1_SHA256,)
    pair = tampered_server({ServerKeyExchange: replacing(signature_scheme=0x0503)}, signature_schemes=only)
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


def test_an_extension_that_was_not_offered_is_unsupported_even_if_it_is_known() -> None:
    alpn = ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION
    pair = tampered_server({ServerHello: with_extension(alpn, extensions.serialize_alpn((b"x",)))})
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNSUPPORTED_EXTENSION


def test_the_servers_key_must_be_of_the_suites_kind() -> None:
    """An RSA key that signs well, under a suite that promises ECDSA."""
    pair = Pair(server=configuration(credentials=(credentials("rsa-2048"),)))
    suite = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    tamper(pair.server, {ServerHello: replacing(cipher_suite=suite)})
    pair.run()
    assert isinstance(pair.client.error, CertificateRejected)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize("share", [bytes(32), b"\1" + bytes(31), bytes(31), bytes(33)])
def test_a_key_share_that_leads_nowhere_is_refused(share: bytes) -> None:
    pair = tampered_client({ClientKeyExchange: replacing(public=share)})
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize("share", [b"\x04" + bytes(64), b"\x02" + bytes(32), b"\x00", b"\x04" + b"\xff" * 64])
def test_points_off_the_curve_are_refused(share: bytes) -> None:
    pair = tampered_client({ClientKeyExchange: replacing(public=share)}, groups=(NamedGroup.SECP256R1,))
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({CertificateVerify: lambda m: None}, ALERT.UNEXPECTED_MESSAGE),
        ({CertificateVerify: flip_signature}, ALERT.DECRYPT_ERROR),
        ({Certificate: replacing(chain=credentials("ecdsa-p256", "other").chain)}, ALERT.DECRYPT_ERROR),
        ({Certificate: lambda m: None}, ALERT.UNEXPECTED_MESSAGE),
        ({Certificate: replacing(chain=())}, ALERT.HANDSHAKE_FAILURE),
        ({ClientKeyExchange: lambda m: None}, ALERT.UNEXPECTED_MESSAGE),
        ({Finished: lambda m: Finished(flipped(m.verify_data))}, ALERT.DECRYPT_ERROR),
    ],
)
def test_a_client_that_cannot_prove_itself_is_refused(
    changes: dict[type, Change], alert: AlertDescription
) -> None:
    pair = Pair()
    tamper(pair.client, changes)
    pair.run()
    error = pair.server.error
    assert isinstance(error, PeerMisbehaved)
    assert error.alert is alert
    assert pair.events[Role.SERVER] == [ConnectionFailed(error)]


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (replacing(client_version=0xFEFF), ALERT.PROTOCOL_VERSION),
        (replacing(client_version=0x0303), ALERT.PROTOCOL_VERSION),
        (with_extension(ExtensionType.SUPPORTED_VERSIONS, b"\2\xfe\xfc"), ALERT.PROTOCOL_VERSION),
        (with_extension(ExtensionType.SUPPORTED_VERSIONS, b"\0"), ALERT.DECODE_ERROR),
        (replacing(compression_methods=b"\1"), ALERT.ILLEGAL_PARAMETER),
        (replacing(compression_methods=b""), ALERT.DECODE_ERROR),
        (replacing(cipher_suites=(0x002F, 0x1301)), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.EXTENDED_MASTER_SECRET, None), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.SIGNATURE_ALGORITHMS, None), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\0"), ALERT.DECODE_ERROR),
        (with_extension(ExtensionType.SUPPORTED_GROUPS, b"\0\2\x1a\x1a"), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.EC_POINT_FORMATS, b"\1\1"), ALERT.ILLEGAL_PARAMETER),
        (with_extension(ExtensionType.RENEGOTIATION_INFO, b"\1x"), ALERT.HANDSHAKE_FAILURE),
        (with_extension(ExtensionType.USE_SRTP, b"\0\1\7\0"), ALERT.DECODE_ERROR),
        (replacing(session_id=bytes(33)), ALERT.DECODE_ERROR),
    ],
)
def test_a_client_hello_that_cannot_be_met_is_refused(change: Change, alert: AlertDescription) -> None:
    pair = tampered_client({ClientHello: change})
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is alert
    assert isinstance(pair.client.error, AlertReceived)
    assert pair.client.error.alert is alert


GREASE = 0x5A5A


@pytest.mark.parametrize(
    "change",
    [
        with_extension(GREASE, b"\0"),
        with_extension(ExtensionType.SUPPORTED_VERSIONS, b"\6\x5a\x5a\xfe\xfc\xfe\xfd"),
        lambda m: dataclasses.replace(m, cipher_suites=(GREASE, *m.cipher_suites, TLS_FALLBACK_SCSV)),
        lambda m: dataclasses.replace(m, extensions=dict(reversed(m.extensions.items()))),
        replacing(client_version=0xFEFC),
        replacing(compression_methods=b"\1\0"),
        replacing(session_id=bytes(32)),
        lambda m: dataclasses.replace(
            with_extension(ExtensionType.RENEGOTIATION_INFO, None)(m),
            cipher_suites=(*m.cipher_suites, TLS_EMPTY_RENEGOTIATION_INFO_SCSV),
        ),
        with_extension(ExtensionType.USE_SRTP, b"\0\4\x5a\x5a\0\1\3mki"),
        with_extension(ExtensionType.SERVER_NAME, b"\0\5\x5a\0\2ab"),
    ],
)
def test_what_the_server_does_not_know_it_ignores(change: Change) -> None:
    tampered_client({ClientHello: change}).assert_connected()


def test_without_groups_a_client_is_given_p256() -> None:
    pair = tampered_client({ClientHello: with_extension(ExtensionType.SUPPORTED_GROUPS, None)})
    assert pair.server.group is not None
    assert pair.server.group.label == "P-256"
    pair.assert_connected()


def test_the_plain_master_secret_is_spoken_where_policy_allows() -> None:
    """Both ends drop the extension, and both were told that they may (RFC 7627 §5.2)."""
    lenient = configuration(require_extended_master_secret=False)
    pair = Pair(lenient, lenient)
    tamper(pair.server, {ServerHello: with_extension(ExtensionType.EXTENDED_MASTER_SECRET, None)})

    def forget_extended_master_secret(handshake: Any) -> None:
        read = getattr(handshake, "_read_client_extensions", None)
        if read is None:
            return

        def read_without_it(hello: ClientHello) -> dict[int, bytes]:
            answer: dict[int, bytes] = read(hello)
            handshake._extended_master_secret = False
            return answer

        handshake._read_client_extensions = read_without_it

    watch_handshakes(pair.server, forget_extended_master_secret)
    pair.run().assert_connected()


# Strangers and noise: nothing that does not authenticate may change the course


def connected_pair() -> Pair:
    pair = Pair().run()
    pair.assert_connected()
    return pair


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_junk_does_not_disturb_an_established_association(datagram: bytes) -> None:
    pair = JUNK_PAIR
    for role in Role:
        pair.end(role).receive_datagram(datagram, pair.now)
        assert pair.end(role).is_connected
        assert pair.end(role).datagrams_to_send() == []


JUNK_PAIR = Pair().run()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=5), st.integers(0, 5), st.sampled_from(list(Role)))
def test_junk_records_at_any_time_never_raise(bodies: list[bytes], after: int, role: Role) -> None:
    """In each state: whole records of every type with any contents."""
    pair = Pair()
    for _ in range(after):
        pair.step()
    for body in bodies:
        kind = ContentType.HANDSHAKE if body[:1] < b"\x80" else ContentType.ALERT
        epoch = (body[1] & 1 if len(body) > 1 else 0) << 48
        pair.end(role).receive_datagram(serialize_record(kind, epoch + 99, body), pair.now)
    pair.run()
    assert (pair.end(role).error is None) == pair.end(role).is_connected


@pytest.mark.parametrize("content_type", [*ContentType, 0, 24, 25, 26, 63, 255])
@pytest.mark.parametrize("epoch", [0, 1, 2, 0xFFFF])
def test_unauthentic_records_of_every_kind_are_dropped_and_counted(content_type: int, epoch: int) -> None:
    pair = connected_pair()
    body = bytes([2, ALERT.HANDSHAKE_FAILURE]) if content_type == ContentType.ALERT else bytes(40)
    for role in Role:
        before = pair.end(role).counters.total()
        pair.end(role).receive_datagram(serialize_record(content_type, (epoch << 48) + 50, body), pair.now)
        assert pair.end(role).counters.total() == before + 1
    pair.assert_connected()


def test_application_data_of_epoch_0_is_never_delivered() -> None:
    """CVE-2020-24585 is about exactly that."""
    record = serialize_record(ContentType.APPLICATION_DATA, 5, b"inject me")
    pair = Pair()
    for _ in range(20):
        for role in Role:
            pair.end(role).receive_datagram(record, pair.now)
        pair.step()
    pair.run()
    assert pair.received(Role.CLIENT) == pair.received(Role.SERVER) == []
    pair.assert_connected()


def test_replayed_data_is_delivered_once() -> None:
    pair = connected_pair()
    pair.client.send_application_data(b"once")
    (datagram,) = pair.client.datagrams_to_send()
    for _ in range(3):
        pair.server.receive_datagram(datagram, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER).count(b"once") == 1
    assert pair.server.counters["replayed_records"] == 2


def test_a_repeated_client_hello_leaves_an_established_association_alone() -> None:
    """RFC 6347 §4.2.8: whoever can send one from the peer's address has proved nothing."""
    pair = connected_pair()
    fresh = DtlsConnection(configuration(), Role.CLIENT, pair.now)
    for datagram in [*pair.sent[Role.CLIENT][:1], *fresh.datagrams_to_send()]:
        pair.server.receive_datagram(datagram, pair.now)
    assert pair.server.datagrams_to_send() == []
    pair.assert_connected()


def test_repeated_flights_are_answered_at_a_bounded_pace() -> None:
    """A flood of the same ClientHello must not have the server send a flight for each (amplification)."""
    pair = Pair()
    (hello,) = pair.client.datagrams_to_send()
    pair.server.receive_datagram(hello, pair.now)
    answered = len(pair.server.datagrams_to_send())
    for number in range(1000):
        pair.server.receive_datagram(hello, pair.now + number / 100_000)
    assert len(pair.server.datagrams_to_send()) == 0
    pair.server.receive_datagram(hello, pair.now + 0.03)
    assert len(pair.server.datagrams_to_send()) == answered


def test_records_ahead_of_their_keys_are_kept_within_bounds() -> None:
    pair = Pair()
    for number in range(1000):
        record = serialize_record(ContentType.APPLICATION_DATA, (1 << 48) + number, bytes(500))
        pair.client.receive_datagram(record, pair.now)
        pair.server.receive_datagram(record, pair.now)
    assert not pair.server._records.is_holding, "there is no client yet whose records these could be"
    held = pair.client._records._held
    assert len(held) == MAXIMUM_HELD_RECORDS
    assert sum(len(record.fragment) for record in held) <= MAXIMUM_HELD_BYTES
    assert pair.client.counters["records_of_other_epochs"] == 1000 - len(held)
    pair.run().assert_connected()


def test_authentic_data_before_finished_is_kept_within_bounds() -> None:
    """A client that has keys and sends data instead of its Finished: none is delivered, little is kept."""
    pair = Pair()

    def hold_back_finished(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [(0.0, datagram)] if role is Role.SERVER or index == 0 else []

    pair.impairment = hold_back_finished
    while 1 not in pair.client._records.writers:
        pair.step()
    flight = b"".join(pair.sent[Role.CLIENT][1:])
    finished = flight.rindex(b"\x16\xfe\xfd\x00\x01")
    pair.server.receive_datagram(flight[:finished], pair.now)
    epoch = pair.client._records.writers[1]
    for number in range(100):
        record = epoch.seal(ContentType.APPLICATION_DATA, bytes([number]))
        pair.server.receive_datagram(record, pair.now)
    assert pair.server.next_event() is None
    assert len(pair.server._held_data) == MAXIMUM_HELD_DATA
    pair.server.receive_datagram(flight[finished:], pair.now)
    pair.flush()
    assert pair.received(Role.SERVER) == [bytes([number]) for number in range(MAXIMUM_HELD_DATA)]


@pytest.mark.parametrize("level", [1, 2])
def test_a_forged_alert_does_not_end_an_established_association(level: int) -> None:
    pair = connected_pair()
    for role in Role:
        for description in AlertDescription:
            alert = serialize_record(ContentType.ALERT, 77, bytes([level, description]))
            pair.end(role).receive_datagram(alert, pair.now)
    pair.assert_connected()


def test_warnings_are_passed_over_and_fatal_alerts_are_not() -> None:
    pair = connected_pair()
    pair.client._send_alert(bytes([1, ALERT.USER_CANCELED]))
    pair.run().assert_connected()
    assert pair.server.counters["warning_alerts"] == 1
    pair.client._send_alert(bytes([2, 199]))
    pair.run()
    assert isinstance(pair.server.error, AlertReceived)
    assert (pair.server.error.alert, pair.server.error.description) == (None, 199)


@pytest.mark.parametrize("role", list(Role))
def test_renegotiation_is_refused_and_harms_nothing(role: Role) -> None:
    """RFC 5746 §4.5, told a few times at most."""
    pair = connected_pair()
    wish = HandshakeType.HELLO_REQUEST if role is Role.CLIENT else HandshakeType.CLIENT_HELLO
    for _ in range(10):
        pair.peer(role)._datagrams.append(
            pair.peer(role)._records.writer.seal(ContentType.HANDSHAKE, handshake_header(wish, 0, 9))
        )
    pair.run().assert_connected()
    assert pair.end(role).counters["renegotiations_refused"] == 10
    assert pair.peer(role).counters["warning_alerts"] == MAXIMUM_REFUSED_RENEGOTIATIONS


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        (ContentType.HANDSHAKE, handshake_header(HandshakeType.FINISHED, 0, 9), PeerMisbehaved),
        (ContentType.HANDSHAKE, b"short", DecodeError),
        (ContentType.CHANGE_CIPHER_SPEC, b"\1", PeerMisbehaved),
        (ContentType.ALERT, b"\1", DecodeError),
        (99, b"", PeerMisbehaved),
    ],
)
def test_authentic_nonsense_is_the_peers_fault(content_type: int, body: bytes, kind: type[Exception]) -> None:
    pair = connected_pair()
    pair.client._datagrams.append(pair.client._records.writer.seal(content_type, body))
    pair.run()
    assert type(pair.server.error) is kind
    assert isinstance(pair.client.error, AlertReceived)


def test_a_finished_without_protection_is_never_taken() -> None:
    """The message in epoch 0 waits in vain; the handshake ends in time and in failure."""
    pair = Pair()
    finished = Finished(secrets.token_bytes(12)).serialize()
    for seq in range(1, 6):
        header = handshake_header(HandshakeType.FINISHED, len(finished), seq)
        pair.client.receive_datagram(
            serialize_record(ContentType.HANDSHAKE, seq, header + finished), pair.now
        )
    pair.run()
    assert pair.client.error is not None or pair.client.is_connected
    if pair.client.is_connected:
        pair.assert_connected()


def test_finished_needs_a_change_cipher_spec_before_it() -> None:
    """Keys are not used because they could be, but because the peer has said so (RFC 5246 §7.1)."""
    pair = Pair()

    def leave_out_change_cipher_spec(handshake: Any) -> None:
        end_flight = handshake._end_flight

        def end_flight_without_it(**options: Any) -> None:
            handshake._flight = [m for m in handshake._flight if hasattr(m, "body")]
            end_flight(**options)

        handshake._end_flight = end_flight_without_it

    watch_handshakes(pair.client, leave_out_change_cipher_spec)
    pair.run()
    assert pair.events[Role.CLIENT] == [ConnectionFailed(pair.client.error)]  # type: ignore[arg-type]
    assert pair.events[Role.SERVER] == [ConnectionFailed(pair.server.error)]  # type: ignore[arg-type]


def test_a_change_cipher_spec_that_comes_early_or_often_changes_nothing() -> None:
    pair = Pair()
    change = serialize_record(ContentType.CHANGE_CIPHER_SPEC, 3, b"\1")
    for _ in range(20):
        for role in Role:
            pair.end(role).receive_datagram(change, pair.now)
            pair.end(role).receive_datagram(change[:-1] + b"\2", pair.now)
        pair.step()
    pair.run().assert_connected()


def test_a_client_follows_few_requests_for_cookies() -> None:
    pair = Pair()
    pair.client.datagrams_to_send()
    hellos = 0
    for seq in range(5):
        body = HelloVerifyRequest(0xFEFF, b"c" * 20).serialize()
        header = handshake_header(HandshakeType.HELLO_VERIFY_REQUEST, len(body), seq)
        pair.client.receive_datagram(serialize_record(ContentType.HANDSHAKE, seq, header + body), pair.now)
        hellos += sum(1 for datagram in pair.client.datagrams_to_send() if datagram[0] == 22)
    assert hellos == 2
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNEXPECTED_MESSAGE


def test_an_anonymous_server_is_unthinkable() -> None:
    pair = tampered_server({Certificate: replacing(chain=())})
    assert isinstance(pair.client.error, DecodeError | CertificateRejected | NegotiationFailed)


def test_a_client_certificate_nobody_asked_for_is_unexpected() -> None:
    pair = Pair(server=configuration(client_authentication=ClientAuthentication.NONE))
    tamper(pair.client, {ClientKeyExchange: lambda m: Certificate(credentials().chain)})
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.UNEXPECTED_MESSAGE
