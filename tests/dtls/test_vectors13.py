"""DTLS 1.3 against what others computed: a whole handshake with its secrets, and known answers of the RFCs."""

import hashlib
import json
import pathlib
from collections import Counter
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mediapeer.dtls.epochs import ReadEpoch13, WriteEpoch13, reconstruct_sequence_number
from mediapeer.dtls.key_schedule13 import (
    Exporter13,
    KeySchedule,
    finished_verify_data,
    hkdf_expand_label,
    hkdf_extract,
    next_traffic_secret,
)
from mediapeer.dtls.messages13 import HELLO_RETRY_REQUEST_RANDOM, parse_ack
from mediapeer.dtls.protection13 import chacha20_mask
from mediapeer.dtls.reassembly import parse_fragments
from mediapeer.dtls.record import UnifiedRecord, split_datagram
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS, CipherSuite, ContentType, HandshakeType
from mediapeer.dtls.transcript13 import Transcript

#: "The Illustrated DTLS 1.3 Connection" by Michael Driscoll, MIT licence (beside the file): X25519,
#: TLS_AES_128_GCM_SHA256, an RSA certificate, records made with wolfSSL.
HANDSHAKE: dict[str, Any] = json.loads(
    (pathlib.Path(__file__).parent / "vectors/illustrated-dtls13.json").read_text()
)
RECORDS: dict[str, dict[str, str]] = {record["name"]: record for record in HANDSHAKE["records"]}
SECRETS: dict[str, str] = HANDSHAKE["traffic_secrets"]
PARAMETERS = CIPHER_SUITE_PARAMETERS[CipherSuite.TLS_AES_128_GCM_SHA256]

#: Which secret protects each record, and the number of the record in its epoch.
PROTECTED = {
    "encrypted_extensions": ("SERVER_HANDSHAKE_TRAFFIC_SECRET", 2, 0),
    "certificate": ("SERVER_HANDSHAKE_TRAFFIC_SECRET", 2, 1),
    "certificate_verify": ("SERVER_HANDSHAKE_TRAFFIC_SECRET", 2, 2),
    "server_finished": ("SERVER_HANDSHAKE_TRAFFIC_SECRET", 2, 3),
    "client_finished": ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", 2, 0),
    "server_ack": ("SERVER_TRAFFIC_SECRET", 3, 0),
    "client_data": ("CLIENT_TRAFFIC_SECRET", 3, 0),
    "server_data": ("SERVER_TRAFFIC_SECRET", 3, 1),
    "server_alert": ("SERVER_TRAFFIC_SECRET", 3, 2),
}


def handshake_message(name: str) -> tuple[int, bytes]:
    """Type and body of a message of the capture, from its record's contents."""
    if name in PROTECTED:
        contents = bytes.fromhex(RECORDS[name]["plaintext"])[:-1]
    else:
        contents = bytes.fromhex(RECORDS[name]["wire"])[13:]
    (fragment,) = parse_fragments(contents)
    return fragment.handshake_type, fragment.data


def transcript(*names: str) -> Transcript:
    result = Transcript()
    result.choose_hash("sha256")
    for name in names:
        result.add(*handshake_message(name))
    return result


HELLOS = ("client_hello", "server_hello")
SERVER_FLIGHT = ("encrypted_extensions", "certificate", "certificate_verify", "server_finished")


def test_the_key_schedule_reproduces_every_secret_of_the_capture() -> None:
    client = X25519PrivateKey.from_private_bytes(bytes.fromhex(HANDSHAKE["client_ephemeral_x25519_private"]))
    server = X25519PrivateKey.from_private_bytes(bytes.fromhex(HANDSHAKE["server_ephemeral_x25519_private"]))
    schedule = KeySchedule("sha256")
    schedule.enter_handshake(client.exchange(server.public_key()))
    digest = transcript(*HELLOS).digest()
    derived = {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET": schedule.derive_secret(b"c hs traffic", digest).hex(),
        "SERVER_HANDSHAKE_TRAFFIC_SECRET": schedule.derive_secret(b"s hs traffic", digest).hex(),
    }
    schedule.enter_application()
    digest = transcript(*HELLOS, *SERVER_FLIGHT).digest()
    derived["CLIENT_TRAFFIC_SECRET"] = schedule.derive_secret(b"c ap traffic", digest).hex()
    derived["SERVER_TRAFFIC_SECRET"] = schedule.derive_secret(b"s ap traffic", digest).hex()
    assert derived == SECRETS


@pytest.mark.parametrize(
    ("name", "secret", "before"),
    [
        ("server_finished", "SERVER_HANDSHAKE_TRAFFIC_SECRET", (*HELLOS, *SERVER_FLIGHT[:-1])),
        ("client_finished", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", (*HELLOS, *SERVER_FLIGHT)),
    ],
)
def test_both_finished_messages_are_the_ones_of_the_capture(
    name: str, secret: str, before: tuple[str, ...]
) -> None:
    handshake_type, verify_data = handshake_message(name)
    assert handshake_type == HandshakeType.FINISHED
    digest = transcript(*before).digest()
    assert finished_verify_data("sha256", bytes.fromhex(SECRETS[secret]), digest) == verify_data


@pytest.mark.parametrize("name", PROTECTED)
def test_every_record_opens_and_is_sealed_to_the_same_bytes(name: str) -> None:
    secret, epoch, number = PROTECTED[name]
    wire = bytes.fromhex(RECORDS[name]["wire"])
    contents = bytes.fromhex(RECORDS[name]["plaintext"])
    ((record,), whole) = split_datagram(wire)
    assert whole
    assert isinstance(record, UnifiedRecord)
    reader = ReadEpoch13(epoch, PARAMETERS, bytes.fromhex(SECRETS[secret]), Counter())
    assert reader.open(record) == (epoch, contents[-1], number, contents[:-1])
    writer = WriteEpoch13(epoch, PARAMETERS, bytes.fromhex(SECRETS[secret]))
    writer.next_sequence_number = number
    assert writer.seal(contents[-1], contents[:-1]) == wire


def test_the_ack_of_the_capture_names_the_clients_finished() -> None:
    contents = bytes.fromhex(RECORDS["server_ack"]["plaintext"])
    assert contents[-1] == ContentType.ACK
    assert [(n.epoch, n.sequence_number) for n in parse_ack(contents[:-1])] == [(2, 0)]


def test_the_chacha20_mask_is_that_of_rfc_9001() -> None:
    """RFC 9001 §A.5; the mask of QUIC is made in the same way, of which DTLS uses two bytes."""
    key = bytes.fromhex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4")
    sample = bytes.fromhex("5e5cd55c41f69080575d7999c25a5bfb")
    assert chacha20_mask(key)(sample).hex() == "aefefe7d03"


def test_hkdf_extract_is_that_of_rfc_5869() -> None:
    """RFC 5869 §A.1."""
    salt, ikm = bytes.fromhex("000102030405060708090a0b0c"), b"\x0b" * 22
    assert hkdf_extract("sha256", salt, ikm).hex() == (
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    )


def test_the_early_secret_is_that_of_rfc_8448() -> None:
    """RFC 8448 §3, "extract secret early"; it has no label in it, so TLS and DTLS share it."""
    zeros = bytes(32)
    assert hkdf_extract("sha256", zeros, zeros).hex() == (
        "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a"
    )


def test_labels_have_the_prefix_without_a_space() -> None:
    """RFC 9147 §5.9: the one byte in which HKDF labels differ from those of TLS."""
    secret = bytes(range(32))
    info = b"\x00\x10" + b"\x09dtls13key" + b"\x00"
    expected = hkdf_extract("sha256", secret, info + b"\x01")[:16]
    assert hkdf_expand_label("sha256", secret, b"key", b"", 16) == expected
    assert next_traffic_secret("sha256", secret) == hkdf_expand_label(
        "sha256", secret, b"traffic upd", b"", 32
    )


def test_the_exporter_takes_no_context_for_an_empty_one() -> None:
    exporter = Exporter13("sha256", bytes(32))
    assert exporter.export(b"label", None, 40) == exporter.export(b"label", b"", 40)
    assert exporter.export(b"label", b"c", 40) != exporter.export(b"label", b"", 40)


def test_the_random_of_a_hello_retry_request_is_the_one_of_rfc_8446() -> None:
    assert hashlib.sha256(b"HelloRetryRequest").digest() == HELLO_RETRY_REQUEST_RANDOM
    assert HELLO_RETRY_REQUEST_RANDOM.hex().startswith("cf21ad74e59a6111be1d8c021e65b891")


@pytest.mark.parametrize(
    ("expected", "bits", "size", "number"),
    [
        (0, 0, 16, 0),
        (5, 7, 16, 7),
        (5, 3, 16, 3),
        (0x10000, 0xFFFF, 16, 0xFFFF),
        (0xFFFF, 0x0001, 16, 0x10001),
        (0x18000, 0x8000, 16, 0x18000),
        (0x2FFF0, 0x0005, 16, 0x30005),
        (0x100, 0xFE, 8, 0xFE),
        (0xFF, 0x02, 8, 0x102),
        (0, 0xFF, 8, 0xFF),
        (2**48 - 2, 0xFFFF, 16, 2**48 - 1),
    ],
)
def test_sequence_numbers_are_the_nearest_to_what_is_expected(
    expected: int, bits: int, size: int, number: int
) -> None:
    """RFC 9147 §4.2.2."""
    assert reconstruct_sequence_number(expected, bits, size) == number
