"""OCSP responses and SCTs in DTLS 1.2 (RFC 6066 §8, RFC 6962 §3.3); record_size_limit (RFC 8449) and ALPN."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    DecodeError,
    DtlsConfiguration,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    TicketKeys,
)
from mediapeer.dtls.messages import CertificateStatus, ServerHello, ServerHelloDone, ServerKeyExchange
from mediapeer.dtls.registry import ExtensionType
from tests.dtls.support import Pair as AnyPair
from tests.dtls.support import configuration as any_configuration
from tests.dtls.support import credentials
from tests.dtls.test_misbehaviour import replacing, tamper, with_extension

ALERT = AlertDescription
RESPONSE = b"an OCSP response, which nobody here judges"
TIMESTAMPS = b"\0\6\0\4SCT1"
STAPLED = dataclasses.replace(credentials(), ocsp_response=RESPONSE, signed_certificate_timestamps=TIMESTAMPS)
ASKING: dict[str, Any] = {"request_ocsp_response": True, "request_signed_certificate_timestamps": True}


def configuration(**options: Any) -> DtlsConfiguration:
    """A configuration for DTLS 1.2 alone."""
    return any_configuration(maximum_version=ProtocolVersion.DTLS_1_2, **options)


class Pair(AnyPair):
    """A client that asks and a server that has something to say, unless said otherwise."""

    def __init__(
        self,
        client: DtlsConfiguration | None = None,
        server: DtlsConfiguration | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            client or configuration(**ASKING), server or configuration(credentials=(STAPLED,)), **options
        )

    def assert_carried(self, response: bytes, timestamps: bytes) -> None:
        """The handshake ends, and the client has these."""
        self.run().assert_connected()
        assert self.client.peer_ocsp_response == response
        assert self.client.peer_signed_certificate_timestamps == timestamps


def test_who_asks_gets_both() -> None:
    Pair().assert_carried(RESPONSE, TIMESTAMPS)


def test_who_does_not_ask_gets_neither() -> None:
    Pair(configuration()).assert_carried(b"", b"")


def test_who_asks_for_one_gets_one() -> None:
    Pair(configuration(request_ocsp_response=True)).assert_carried(RESPONSE, b"")
    Pair(configuration(request_signed_certificate_timestamps=True)).assert_carried(b"", TIMESTAMPS)


def test_a_server_without_anything_says_nothing() -> None:
    Pair(server=configuration()).assert_carried(b"", b"")


def test_what_is_stapled_is_that_of_the_credentials_chosen() -> None:
    server = configuration(
        credentials=(
            dataclasses.replace(credentials("rsa-2048"), ocsp_response=b"of the other"),
            STAPLED,
        )
    )
    suites = tuple(s for s in configuration().cipher_suites if "ECDSA" in s.name)
    Pair(configuration(cipher_suites=suites, **ASKING), server).assert_carried(RESPONSE, TIMESTAMPS)


def test_another_kind_of_status_is_passed_over() -> None:
    pair = Pair()
    tamper_hello(pair, with_extension(ExtensionType.STATUS_REQUEST, b"\2something"))
    pair.assert_carried(b"", TIMESTAMPS)


def test_a_server_may_leave_out_what_it_has_announced() -> None:
    pair = Pair()
    tamper(pair.server, {CertificateStatus: lambda _: None})
    pair.assert_carried(b"", TIMESTAMPS)


def test_a_session_keeps_both() -> None:
    server = configuration(credentials=(STAPLED,), session_tickets=TicketKeys())
    client = configuration(resume_sessions=True, **ASKING)
    first = Pair(client, server)
    first.assert_carried(RESPONSE, TIMESTAMPS)
    again = Pair(client, server, session=first.sessions[0])
    hellos: list[ServerHello] = []
    tamper(again.server, {ServerHello: lambda hello: hellos.append(hello) or hello})
    again.assert_carried(RESPONSE, TIMESTAMPS)
    assert again.client.is_resumed
    kinds = {ExtensionType.STATUS_REQUEST, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP}
    assert not kinds & set(hellos[0].extensions), "nothing is said again"


def test_a_server_that_says_it_again_is_tolerated() -> None:
    server = configuration(credentials=(STAPLED,), session_tickets=TicketKeys())
    client = configuration(resume_sessions=True, **ASKING)
    first = Pair(client, server)
    first.assert_carried(RESPONSE, TIMESTAMPS)
    again = Pair(client, server, session=first.sessions[0])
    other = with_extension(ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\3\0\1x")
    announced = with_extension(ExtensionType.STATUS_REQUEST, b"")
    tamper(again.server, {ServerHello: lambda hello: announced(other(hello))})
    again.assert_carried(RESPONSE, TIMESTAMPS)
    assert again.client.is_resumed


@pytest.mark.parametrize("mtu", [256, 1200])
def test_a_lost_status_comes_again(mtu: int) -> None:
    def lossy(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [] if role is Role.SERVER and index % 2 and index < 12 else [(0.0, datagram)]

    long = dataclasses.replace(STAPLED, ocsp_response=RESPONSE * 40)
    server = configuration(credentials=(long,), mtu=mtu)
    Pair(server=server, impairment=lossy).assert_carried(RESPONSE * 40, TIMESTAMPS)


# Peers that break the protocol


def tamper_hello(pair: Pair, change: Any) -> None:
    """Have the client send another ClientHello, and remember that one."""
    pair.client.datagrams_to_send()
    handshake: Any = pair.client._handshake
    handshake._next_message_seq = 0
    handshake._hello = change(handshake._hello)
    handshake._send_hello()


@pytest.mark.parametrize(
    ("kind", "body", "alert"),
    [
        (ExtensionType.STATUS_REQUEST, b"x", ALERT.DECODE_ERROR),
        (ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"", ALERT.DECODE_ERROR),
        (ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\0", ALERT.DECODE_ERROR),
        (ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\2\0\0", ALERT.DECODE_ERROR),
    ],
)
def test_a_server_hello_with_a_wrong_answer(
    kind: ExtensionType, body: bytes, alert: AlertDescription
) -> None:
    pair = Pair()
    tamper(pair.server, {ServerHello: with_extension(kind, body)})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


@pytest.mark.parametrize("kind", [ExtensionType.STATUS_REQUEST, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP])
def test_an_answer_that_was_not_asked_for(kind: ExtensionType) -> None:
    pair = Pair(configuration(), configuration())
    tamper(pair.server, {ServerHello: with_extension(kind, b"")})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNSUPPORTED_EXTENSION


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (replacing(ocsp_response=b""), ALERT.DECODE_ERROR),
        (lambda _: ServerHelloDone(), ALERT.UNEXPECTED_MESSAGE),
    ],
)
def test_a_wrong_certificate_status(change: Any, alert: AlertDescription) -> None:
    pair = Pair()
    tamper(pair.server, {CertificateStatus: change})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


def test_a_certificate_status_that_was_not_announced() -> None:
    pair = Pair()
    tamper(pair.server, {ServerHello: with_extension(ExtensionType.STATUS_REQUEST, None)})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNEXPECTED_MESSAGE


def test_two_of_them() -> None:
    pair = Pair()
    tamper(pair.server, {ServerKeyExchange: lambda _: CertificateStatus(b"another")})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ExtensionType.STATUS_REQUEST, b""),
        (ExtensionType.STATUS_REQUEST, b"\1\0\0\0"),
        (ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"x"),
    ],
)
def test_a_client_that_asks_wrongly(kind: ExtensionType, body: bytes) -> None:
    pair = Pair()
    tamper_hello(pair, with_extension(kind, body))
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.DECODE_ERROR


def test_the_message_as_it_stands_on_the_wire() -> None:
    body = bytes.fromhex("01000003abcdef")
    assert CertificateStatus(b"\xab\xcd\xef").serialize() == body
    assert CertificateStatus.parse(body).ocsp_response == b"\xab\xcd\xef"
    for wrong in (body[:-1], body + b"\0", b"", bytes.fromhex("01000000"), b"\2" + body[1:]):
        with pytest.raises(DecodeError):
            CertificateStatus.parse(wrong)


# record_size_limit


@pytest.mark.parametrize("limits", [(100, None), (None, 100), (200, 300), (64, 64)])
def test_each_end_heeds_the_other_ones_limit(limits: tuple[int | None, int | None]) -> None:
    client, server = (configuration(record_size_limit=limit) for limit in limits)
    pair = Pair(client, server).run()
    pair.assert_connected()
    # A server says its own only to a client that says one (RFC 8449 §4).
    heeded = {Role.SERVER: limits[0], Role.CLIENT: limits[1] if limits[0] else None}
    for role in Role:
        limit = heeded[role] or 16_384
        pair.end(role).send_application_data(bytes(limit))
        with pytest.raises(ValueError, match=f"{limit} bytes"):
            pair.end(role).send_application_data(bytes(limit + 1))


def test_a_client_that_could_take_more_than_there_is() -> None:
    pair = Pair(configuration(record_size_limit=16_384), configuration())
    tamper_hello(pair, with_extension(ExtensionType.RECORD_SIZE_LIMIT, b"\xff\xff"))
    pair.run()
    pair.server.send_application_data(bytes(16_384))
    with pytest.raises(ValueError, match="16384 bytes"):
        pair.server.send_application_data(bytes(16_385))


@pytest.mark.parametrize(
    ("body", "alert"), [(b"\0\x3f", ALERT.ILLEGAL_PARAMETER), (b"\0", ALERT.DECODE_ERROR)]
)
def test_a_limit_that_makes_no_sense(body: bytes, alert: AlertDescription) -> None:
    pair = Pair()
    tamper_hello(pair, with_extension(ExtensionType.RECORD_SIZE_LIMIT, body))
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is alert


# Application protocols


def test_a_protocol_that_was_not_offered() -> None:
    for accepts in (False, True):
        client = configuration(alpn_protocols=(b"a", b"b"), accept_unoffered_alpn=accepts)
        pair = Pair(client, configuration(alpn_protocols=(b"a",)))
        kind = ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION
        tamper(pair.server, {ServerHello: with_extension(kind, b"\0\x08\x07another")})
        pair.run()
        if accepts:
            assert pair.client.is_connected
            assert pair.client.alpn_protocol == b"another"
        else:
            assert isinstance(pair.client.error, PeerMisbehaved)
            assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


@pytest.mark.parametrize("body", [b"", b"\0\0", b"\0\1\0", b"\0\4\1a\1b"])
def test_a_protocol_that_is_none_or_several(body: bytes) -> None:
    client = configuration(alpn_protocols=(b"a", b"b"), accept_unoffered_alpn=True)
    pair = Pair(client, configuration(alpn_protocols=(b"a",)))
    tamper(
        pair.server,
        {ServerHello: with_extension(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, body)},
    )
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert in (ALERT.DECODE_ERROR, ALERT.ILLEGAL_PARAMETER)


def test_a_protocol_where_none_was_offered() -> None:
    pair = Pair(configuration(accept_unoffered_alpn=True), configuration())
    tamper(
        pair.server,
        {ServerHello: with_extension(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\0\2\1a")},
    )
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNSUPPORTED_EXTENSION
