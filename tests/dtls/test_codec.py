"""The wire format: everything that is written is read back, and garbage ends in a typed error and nothing else."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.dtls import DecodeError, extensions
from mediapeer.dtls.codec import Reader, uint16_list, vector
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
from mediapeer.dtls.record import MAXIMUM_CIPHERTEXT_LENGTH, UnifiedRecord, serialize_record, split_datagram
from mediapeer.dtls.registry import AlertDescription, ExtensionType, HandshakeType

uint16 = st.integers(0, 0xFFFF)
random = st.binary(min_size=32, max_size=32)
session_id = st.binary(max_size=32)
blocks = st.dictionaries(uint16, st.binary(max_size=40), max_size=6)
code_points = st.lists(uint16, min_size=1, max_size=20).map(tuple)
certificates = st.lists(st.binary(min_size=1, max_size=80), max_size=4).map(tuple)

MESSAGES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (HelloRequest, st.just(HelloRequest())),
    (
        ClientHello,
        st.builds(
            ClientHello,
            uint16,
            random,
            code_points,
            blocks,
            st.binary(max_size=255),
            session_id,
            st.just(b"\0"),
        ),
    ),
    (ServerHello, st.builds(ServerHello, uint16, random, uint16, blocks, session_id)),
    (HelloVerifyRequest, st.builds(HelloVerifyRequest, uint16, st.binary(max_size=255))),
    (Certificate, st.builds(Certificate, certificates)),
    (
        ServerKeyExchange,
        st.builds(
            ServerKeyExchange,
            st.builds(EcdhParameters, uint16, st.binary(min_size=1, max_size=133)),
            uint16,
            st.binary(max_size=512),
        ),
    ),
    (
        CertificateRequest,
        st.builds(
            CertificateRequest,
            st.lists(st.integers(0, 255), min_size=1, max_size=5).map(tuple),
            code_points,
            certificates,
        ),
    ),
    (ServerHelloDone, st.just(ServerHelloDone())),
    (ClientKeyExchange, st.builds(ClientKeyExchange, st.binary(min_size=1, max_size=133))),
    (CertificateVerify, st.builds(CertificateVerify, uint16, st.binary(max_size=512))),
    (Finished, st.builds(Finished, st.binary(min_size=12, max_size=12))),
]
each_message = pytest.mark.parametrize(
    ("kind", "messages"), MESSAGES, ids=[kind.__name__ for kind, _ in MESSAGES]
)

PARSERS: list[Callable[[bytes], object]] = [
    *(kind.parse for kind, _ in MESSAGES),
    lambda body: extensions.parse_block(Reader(body)),
    extensions.parse_uint16_list,
    extensions.check_ec_point_formats,
    extensions.parse_server_name,
    extensions.parse_alpn,
    extensions.UseSrtp.parse,
    extensions.check_renegotiation_info,
    lambda body: extensions.check_empty(body, ExtensionType.EXTENDED_MASTER_SECRET),
]


@each_message
@given(data=st.data())
def test_messages_round_trip(kind: Any, messages: st.SearchStrategy[Any], data: st.DataObject) -> None:
    message = data.draw(messages)
    assert kind.parse(message.serialize()) == message


@each_message
@given(data=st.data())
def test_a_message_cut_short_or_too_long_is_a_decode_error(
    kind: Any, messages: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    if kind is Finished:
        return  # one of a wrong length is a wrong proof: it is compared as a whole
    body = data.draw(messages).serialize()
    with pytest.raises(DecodeError):
        kind.parse(body + b"\0")
    if kind in (ClientHello, ServerHello) or not body:
        return  # without its extensions a hello is whole
    with pytest.raises(DecodeError):
        kind.parse(body[: data.draw(st.integers(0, len(body) - 1))])


@given(st.sampled_from(PARSERS), st.binary(max_size=120))
def test_garbage_raises_the_typed_error_and_nothing_else(
    parse: Callable[[bytes], object], body: bytes
) -> None:
    with contextlib.suppress(DecodeError):
        parse(body)


@given(st.binary(max_size=300))
def test_any_datagram_splits_into_records_that_make_it_up(datagram: bytes) -> None:
    records, whole = split_datagram(datagram)
    joined = b"".join(
        record.header + record.fragment
        if isinstance(record, UnifiedRecord)
        else serialize_record(
            record.content_type, record.epoch_and_sequence_number, record.fragment, record.version
        )
        for record in records
    )
    assert datagram.startswith(joined)
    assert whole == (len(joined) == len(datagram))


def test_a_record_longer_than_allowed_ends_the_datagram() -> None:
    good = serialize_record(22, 0, b"x")
    longest = serialize_record(23, 1 << 48, bytes(MAXIMUM_CIPHERTEXT_LENGTH))
    too_long = serialize_record(23, 1 << 48, bytes(MAXIMUM_CIPHERTEXT_LENGTH + 1))
    assert len(split_datagram(good + longest)[0]) == 2
    assert split_datagram(good + too_long)[1] is False
    assert len(split_datagram(good + too_long + good)[0]) == 1


def test_a_record_with_a_connection_id_ends_the_datagram() -> None:
    """We negotiate none, so there is no telling how long it is (RFC 9147 §9)."""
    assert split_datagram(b"\x3c\0\0\0\x20" + bytes(40)) == ([], False)


@pytest.mark.parametrize("version", [0x0303, 0x0000, 0xFFFF, 0x7F12])
def test_a_record_of_another_protocol_ends_the_datagram(version: int) -> None:
    assert split_datagram(serialize_record(22, 0, b"x", version)) == ([], False)


def test_an_extension_that_stands_twice_is_fatal() -> None:
    twice = vector((b"\x00\x17" + vector(b"", 2)) * 2, 2)
    with pytest.raises(DecodeError, match="twice"):
        extensions.parse_block(Reader(twice))


def test_a_list_of_odd_length_is_refused() -> None:
    with pytest.raises(DecodeError, match="odd"):
        extensions.parse_uint16_list(b"\x00\x03\x00\x17\x00")


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(DecodeError):
        extensions.parse_uint16_list(uint16_list(()))


@pytest.mark.parametrize(
    "names", [b"\x00\x00\x00", b"\x00\x00\x02a\0", b"\x00\x00\x01\xff", b"\x00\x00\x01a\x00\x00\x01b"]
)
def test_a_server_name_that_is_no_host_name_is_refused(names: bytes) -> None:
    with pytest.raises(DecodeError):
        extensions.parse_server_name(vector(names, 2))


def test_compression_chosen_by_a_server_is_illegal() -> None:
    body = bytearray(ServerHello(0xFEFD, bytes(32), 0xC02B).serialize())
    body[-1] = 1
    with pytest.raises(DecodeError) as caught:
        ServerHello.parse(bytes(body))
    assert caught.value.alert is AlertDescription.ILLEGAL_PARAMETER


def test_every_message_has_its_own_type() -> None:
    types = [kind.handshake_type for kind, _ in MESSAGES]
    assert len(set(types)) == len(types)
    only_in_13 = {
        HandshakeType.NEW_SESSION_TICKET,
        HandshakeType.ENCRYPTED_EXTENSIONS,
        HandshakeType.KEY_UPDATE,
        HandshakeType.MESSAGE_HASH,
        HandshakeType.CERTIFICATE_STATUS,
    }
    assert set(types) == set(HandshakeType) - only_in_13
