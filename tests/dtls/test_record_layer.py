"""The record layer at its exact limits: what is just allowed, what is just not, and which bytes go on the wire."""

import struct
from collections import Counter
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from mediapeer.dtls import DtlsError
from mediapeer.dtls.epochs import (
    ReadEpoch12,
    ReadEpoch13,
    ReplayWindow,
    WriteEpoch12,
    WriteEpoch13,
    reconstruct_sequence_number,
)
from mediapeer.dtls.key_schedule13 import traffic_keys
from mediapeer.dtls.protection import RecordProtection, record_protection
from mediapeer.dtls.protection13 import AEAD_LIMITS, AeadLimits
from mediapeer.dtls.reassembly import (
    HANDSHAKE_HEADER_LENGTH,
    HandshakeFragment,
    HandshakeReassembler,
    handshake_header,
    parse_fragments,
)
from mediapeer.dtls.record import Record, UnifiedRecord, split_datagram
from mediapeer.dtls.record_layer import RecordLayer
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS, AeadAlgorithm, AlertDescription, CipherSuite

SUITES_12 = {
    AeadAlgorithm.AES_128_GCM: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    AeadAlgorithm.AES_256_GCM: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    AeadAlgorithm.AES_128_CCM: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM,
    AeadAlgorithm.AES_128_CCM_8: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
    AeadAlgorithm.CHACHA20_POLY1305: CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}
SUITES_13 = {
    AeadAlgorithm.AES_128_GCM: CipherSuite.TLS_AES_128_GCM_SHA256,
    AeadAlgorithm.AES_256_GCM: CipherSuite.TLS_AES_256_GCM_SHA384,
    AeadAlgorithm.AES_128_CCM: CipherSuite.TLS_AES_128_CCM_SHA256,
    AeadAlgorithm.AES_128_CCM_8: CipherSuite.TLS_AES_128_CCM_8_SHA256,
    AeadAlgorithm.CHACHA20_POLY1305: CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
}
TAG_LENGTHS = {algorithm: 8 if algorithm is AeadAlgorithm.AES_128_CCM_8 else 16 for algorithm in SUITES_12}
algorithms_of_both = pytest.mark.parametrize("algorithm", SUITES_12, ids=lambda algorithm: algorithm.name)

NUMBER = 1 << 48 | 0x0102_0304_0506
"Epoch 1 and a sequence number in which every byte counts."


def cipher(algorithm: AeadAlgorithm, key: bytes) -> Any:
    """The algorithm itself, without the engine."""
    if algorithm is AeadAlgorithm.CHACHA20_POLY1305:
        return ChaCha20Poly1305(key)
    if algorithm in (AeadAlgorithm.AES_128_CCM, AeadAlgorithm.AES_128_CCM_8):
        return AESCCM(key, TAG_LENGTHS[algorithm])
    return AESGCM(key)


def combined(iv: bytes, number: int) -> bytes:
    """The exclusive or of an IV and a number."""
    return bytes(a ^ b for a, b in zip(iv, number.to_bytes(12, "big"), strict=True))


# The headers (RFC 6347 §4.1, RFC 9147 §4)


@pytest.mark.parametrize("length", [0, 18_432])
def test_records_of_the_least_and_the_greatest_length_are_taken(length: int) -> None:
    body = bytes(length)
    plain = struct.pack("!BHQH", 23, 0xFEFD, NUMBER, length) + body
    unified = struct.pack("!BHH", 0x2D, 7, length) + body
    records, whole = split_datagram(plain + unified)
    assert whole
    assert records == [Record(23, 0xFEFD, NUMBER, body), UnifiedRecord(unified[:5], body)]


@pytest.mark.parametrize(
    "header", [struct.pack("!BHQ", 23, 0xFEFD, NUMBER), b"\x2d\0\x07"], ids=["1.2", "1.3"]
)
def test_a_record_that_is_a_byte_too_long_ends_the_datagram(header: bytes) -> None:
    before = struct.pack("!BHQH", 22, 0xFEFD, 0, 0)
    assert split_datagram(before + header + struct.pack("!H", 18_433) + bytes(18_433)) == (
        [Record(22, 0xFEFD, 0, b"")],
        False,
    )


@pytest.mark.parametrize("record", [struct.pack("!BHQH", 23, 0xFEFD, NUMBER, 2), b"\x2d\0\x07\0\x02"])
def test_what_is_cut_short_anywhere_ends_the_datagram(record: bytes) -> None:
    for length in range(1, len(record) + 2):
        assert split_datagram((record + b"ab")[:length]) == ([], False)


@pytest.mark.parametrize(
    ("first", "header_length"), [(0x20, 2), (0x21, 2), (0x26, 4), (0x2B, 3), (0x2C, 5), (0x2F, 5)]
)
def test_the_flags_say_how_long_a_unified_header_is(first: int, header_length: int) -> None:
    """RFC 9147 §4: the number has one byte or two; where there is no length, the record goes to the end."""
    has_length = bool(first & 4)
    header = bytes([first]) + b"\x09" * (header_length - 1 - 2 * has_length) + b"\0\x03" * has_length
    assert split_datagram(header + b"abc") == ([UnifiedRecord(header, b"abc")], True)
    (rest,) = split_datagram(header + b"abcd")[0][:1]
    assert rest.fragment == (b"abc" if has_length else b"abcd")


def test_a_connection_id_ends_the_datagram_whatever_follows() -> None:
    """RFC 9147 §9: we negotiate none, so nobody can say how long it is; nor may it pass for another header."""
    for first in range(0x30, 0x40):
        assert split_datagram(struct.pack("!BHQH", first, 0xFEFD, 0, 0)) == ([], False)
    for neighbour in (0x1F, 0x40):
        assert split_datagram(struct.pack("!BHQH", neighbour, 0xFEFD, 0, 0))[1]


def test_the_version_of_a_record_is_one_of_dtls() -> None:
    for version in (0xFEFF, 0xFEFD, 0xFE00):
        assert split_datagram(struct.pack("!BHQH", 22, version, 0, 0))[1]
    for version in (0x0303, 0xFDFF, 0xFF00):
        assert split_datagram(struct.pack("!BHQH", 22, version, 0, 0)) == ([], False)


def test_a_record_tells_its_epoch_from_its_number() -> None:
    record = Record(23, 0xFEFD, 0xFFFE << 48 | 5, b"")
    assert (record.epoch, record.sequence_number) == (0xFFFE, 5)


# Protection in DTLS 1.2 (RFC 5288 §3, RFC 6655 §3, RFC 7905 §2)


def protection(algorithm: AeadAlgorithm) -> tuple[RecordProtection, bytes, bytes]:
    """A protection, its key and its IV."""
    parameters = CIPHER_SUITE_PARAMETERS[SUITES_12[algorithm]]
    key, iv = bytes(range(parameters.key_length)), bytes(range(50, 50 + parameters.fixed_iv_length))
    return record_protection(parameters, key, iv), key, iv


@algorithms_of_both
@pytest.mark.parametrize("plaintext", [b"", b"some data"])
def test_a_fragment_of_dtls_12_is_sealed_as_the_rfcs_say(algorithm: AeadAlgorithm, plaintext: bytes) -> None:
    subject, key, iv = protection(algorithm)
    explicit = b"" if algorithm is AeadAlgorithm.CHACHA20_POLY1305 else NUMBER.to_bytes(8, "big")
    nonce = iv + explicit if explicit else combined(iv, NUMBER)
    additional = NUMBER.to_bytes(8, "big") + b"\x17\xfe\xfd" + len(plaintext).to_bytes(2, "big")
    expected = explicit + cipher(algorithm, key).encrypt(nonce, plaintext, additional)
    assert subject.seal(23, NUMBER, plaintext) == expected
    assert subject.expansion == len(expected) - len(plaintext)
    assert subject.open(23, NUMBER, expected) == plaintext
    assert subject.open(22, NUMBER, expected) is None
    assert subject.open(23, NUMBER + 1, expected) is None


@algorithms_of_both
def test_a_fragment_of_dtls_12_without_room_for_its_tag_is_not_authentic(algorithm: AeadAlgorithm) -> None:
    subject, _, _ = protection(algorithm)
    for length in range(subject.expansion + 1):
        assert subject.open(23, NUMBER, bytes(length)) is None


# Protection in DTLS 1.3 (RFC 9147 §4.2)

SECRET = bytes(range(32)) + bytes(16)


def secret(algorithm: AeadAlgorithm) -> bytes:
    return SECRET[: 48 if algorithm is AeadAlgorithm.AES_256_GCM else 32]


def epochs(algorithm: AeadAlgorithm, number: int = 3) -> tuple[WriteEpoch13, ReadEpoch13, Counter[str]]:
    """Both ends of an epoch, and what the reader counts."""
    parameters, counters = CIPHER_SUITE_PARAMETERS[SUITES_13[algorithm]], Counter[str]()
    write = WriteEpoch13(number, parameters, secret(algorithm))
    return write, ReadEpoch13(number, parameters, secret(algorithm), counters), counters


def sealed(
    algorithm: AeadAlgorithm, number: int, inner: bytes, *, first: int, with_length: bool
) -> UnifiedRecord:
    """A record of DTLS 1.3 that was made without the engine's epochs."""
    keys = traffic_keys(CIPHER_SUITE_PARAMETERS[SUITES_13[algorithm]], secret(algorithm))
    size = 2 if first & 8 else 1
    length = (len(inner) + TAG_LENGTHS[algorithm]).to_bytes(2, "big") if with_length else b""
    bits = number.to_bytes(8, "big")[-size:]
    nonce = combined(keys.iv, number)
    fragment = cipher(algorithm, keys.key).encrypt(nonce, inner, bytes([first]) + bits + length)
    if algorithm is AeadAlgorithm.CHACHA20_POLY1305:
        stream = Cipher(algorithms.ChaCha20(keys.sequence_number_key, fragment[:16]), None).encryptor()
        mask = stream.update(bytes(2))
    else:
        block = Cipher(algorithms.AES(keys.sequence_number_key), modes.ECB()).encryptor()  # noqa: S305
        mask = block.update(fragment[:16])
    masked = bytes(a ^ b for a, b in zip(bits, mask, strict=False))
    return UnifiedRecord(bytes([first]) + masked + length, fragment)


@algorithms_of_both
@pytest.mark.parametrize("plaintext", [b"", b"some data that is long enough"])
def test_a_record_of_dtls_13_is_sealed_as_the_rfc_says(algorithm: AeadAlgorithm, plaintext: bytes) -> None:
    write, read, _ = epochs(algorithm, 6)
    for number in range(3):
        inner = (plaintext + b"\x17").ljust(16 - TAG_LENGTHS[algorithm], b"\0")
        expected = sealed(algorithm, number, inner, first=0x2E, with_length=True)
        assert write.seal(23, plaintext) == expected.header + expected.fragment
        assert read.open(expected) == (6, 23, number, plaintext)
    assert write.overhead == 5 + 1 + TAG_LENGTHS[algorithm]


@algorithms_of_both
def test_a_short_header_is_understood_too(algorithm: AeadAlgorithm) -> None:
    """RFC 9147 §4: eight bits of the number and no length."""
    _, read, _ = epochs(algorithm)
    # One comes that is 128 above the expected number, and one that is 128 below.
    for number in (0, 120, 200, 299, 428, 301, 555, 683, 711, 584):
        record = sealed(algorithm, number, b"a long text\x17\0\0", first=0x23, with_length=False)
        assert read.open(record) == (3, 23, number, b"a long text")


@algorithms_of_both
def test_numbers_beyond_their_sixteen_bits_come_and_go(algorithm: AeadAlgorithm) -> None:
    write, read, _ = epochs(algorithm)
    for number in (0xFFFF, 0x1_0000, 0x1_7FFF, 0x1_FFF0, 0x2_0001, 0x1_FFFE):
        write.next_sequence_number = number
        record = split_datagram(write.seal(23, b"x"))[0][0]
        assert isinstance(record, UnifiedRecord)
        assert read.open(record) == (3, 23, number, b"x")


def test_a_record_that_is_all_padding_has_no_type() -> None:
    _, read, _ = epochs(AeadAlgorithm.AES_128_GCM)
    record = sealed(AeadAlgorithm.AES_128_GCM, 0, bytes(9), first=0x2F, with_length=True)
    assert read.open(record) == (3, 0, 0, b"")


def test_what_does_not_pass_is_counted_by_its_reason() -> None:
    write, read, counters = epochs(AeadAlgorithm.AES_128_GCM)
    record = split_datagram(write.seal(23, b"once"))[0][0]
    assert isinstance(record, UnifiedRecord)
    assert read.open(UnifiedRecord(record.header, bytes(15))) is None
    assert read.open(UnifiedRecord(record.header, bytes(40))) is None
    assert counters == {"unauthentic_records": 2}
    assert read.open(record) is not None
    assert read.open(record) is None
    assert counters == {"unauthentic_records": 2, "replayed_records": 1}


def test_what_does_not_pass_in_dtls_12_is_counted_too() -> None:
    counters = Counter[str]()
    write = WriteEpoch12(1, protection(AeadAlgorithm.AES_128_GCM)[0])
    read = ReadEpoch12(1, protection(AeadAlgorithm.AES_128_GCM)[0], counters)
    record = split_datagram(write.seal(23, b"once"))[0][0]
    assert isinstance(record, Record)
    assert read.open(record._replace(fragment=bytes(40))) is None
    assert counters == {"unauthentic_records": 1}
    assert read.open(record) == (1, 23, 0, b"once")
    assert read.open(record) is None
    assert counters == {"unauthentic_records": 1, "replayed_records": 1}
    assert write.overhead == 13 + 8 + 16
    assert WriteEpoch12(0, None).overhead == 13


def test_a_forgery_too_many_is_fatal_and_what_is_too_short_is_none() -> None:
    """RFC 9147 §4.5.3; what cannot be sampled was never tried with the key."""
    _, read, _ = epochs(AeadAlgorithm.AES_128_CCM_8)
    header = b"\x2f\0\0\0\x10"
    for _ in range(2**7):
        assert read.open(UnifiedRecord(header, bytes(16))) is None
        assert read.open(UnifiedRecord(header, bytes(15))) is None
    with pytest.raises(DtlsError) as caught:
        read.open(UnifiedRecord(header, bytes(16)))
    assert caught.value.alert is AlertDescription.BAD_RECORD_MAC


def test_keys_are_used_no_further_than_the_rfc_allows() -> None:
    """RFC 9147 §4.5.3, RFC 8446 §5.5: forgeries as allowed, records well below 2^24.5 and, with CCM, 2^23."""
    assert {
        AeadAlgorithm.AES_128_GCM: AeadLimits(8_388_608, 68_719_476_736),
        AeadAlgorithm.AES_256_GCM: AeadLimits(8_388_608, 68_719_476_736),
        AeadAlgorithm.CHACHA20_POLY1305: AeadLimits(281_474_976_710_655, 68_719_476_736),
        AeadAlgorithm.AES_128_CCM: AeadLimits(4_194_304, 8_388_608),
        AeadAlgorithm.AES_128_CCM_8: AeadLimits(4_194_304, 128),
    } == AEAD_LIMITS
    assert epochs(AeadAlgorithm.AES_128_CCM)[0].limit == 4_194_304
    assert WriteEpoch12(0, None).limit == 2**48


# Sequence numbers and the replay window (RFC 6347 §4.1.2.6, RFC 9147 §4.2.2)


def test_the_window_reaches_256_records_back() -> None:
    window = ReplayWindow()
    window.mark(1000)
    assert window.is_fresh(1000 - 255)
    assert not window.is_fresh(1000 - 256)


def test_the_window_remembers_no_more_than_its_size() -> None:
    window = ReplayWindow()
    assert window.highest == -1
    for number in (*range(600), 10_000, 2**48 - 1):
        window.mark(number)
        assert window._bitmap < 1 << 256
    for number in (0, 2**48 - 1 - 256):
        window.mark(number)
        assert window._bitmap == 1, "it was too old to be noted"
    assert not window.is_fresh(2**48 - 1)


@pytest.mark.parametrize("jump", [1, 255, 256, 257])
def test_what_has_passed_stays_so_while_the_window_slides(jump: int) -> None:
    window = ReplayWindow()
    for number in (0, 9, 10):
        window.mark(number)
    window.mark(10 + jump)
    window.mark(10 - 256 + jump)  # just too old; nothing to be noted
    assert window.highest == 10 + jump
    assert not window.is_fresh(10)
    assert not window.is_fresh(9)
    assert window.is_fresh(8) == (jump < 254)
    assert window.is_fresh(11) == (1 < jump < 257)


@pytest.mark.parametrize(
    ("expected", "bits", "size", "number"),
    [
        (2**48 - 1, 0, 16, 2**48 - 2**16),  # there is nothing above
        (2**48 - 2**16 - 1, 0, 16, 2**48 - 2**16),
        (0x1_0000, 0x8001, 16, 0x8001),
        (0x1_0000, 0x7FFF, 16, 0x1_7FFF),
        (0x1_8001, 0, 16, 0x2_0000),
        (0x1_7FFF, 0, 16, 0x1_0000),
        (0x7FFE, 0xFFFF, 16, 0xFFFF),  # there is nothing below
    ],
)
def test_the_nearest_number_at_the_edges(expected: int, bits: int, size: int, number: int) -> None:
    assert reconstruct_sequence_number(expected, bits, size) == number


# Which epoch opens a record, and what waits


def layer() -> tuple[RecordLayer, Counter[str]]:
    counters = Counter[str]()
    return RecordLayer(counters, 0), counters


def reader(number: int, counters: Counter[str]) -> ReadEpoch13:
    """An epoch whose key depends on its number."""
    parameters = CIPHER_SUITE_PARAMETERS[CipherSuite.TLS_AES_128_GCM_SHA256]
    return ReadEpoch13(number, parameters, bytes([number]) * 32, counters)


class Writer:
    """The peer's side of :func:`reader`."""

    def __init__(self, number: int) -> None:
        parameters = CIPHER_SUITE_PARAMETERS[CipherSuite.TLS_AES_128_GCM_SHA256]
        self._epoch = WriteEpoch13(number, parameters, bytes([number]) * 32)

    def record(self) -> UnifiedRecord:
        record = split_datagram(self._epoch.seal(23, b"data"))[0][0]
        assert isinstance(record, UnifiedRecord)
        return record


def opens(subject: RecordLayer, writer: Writer, now: float = 0.0) -> bool:
    return subject.open(writer.record(), now, lambda record: False) is not None


def hold(subject: RecordLayer, size: int) -> None:
    """Receive a record of an epoch without keys that is to be held."""
    assert subject.open(Record(22, 0xFEFD, 1 << 48, bytes(size)), 0.0, lambda record: True) is None


def test_sixteen_records_wait_for_keys_and_no_more() -> None:
    subject, counters = layer()
    for _ in range(17):
        hold(subject, 1)
    assert len(subject.take_held()) == 16
    assert counters == {"records_of_other_epochs": 1}
    assert not subject.is_holding


def test_8192_bytes_wait_for_keys_and_no_more() -> None:
    subject, counters = layer()
    for size in (4096, 4095, 2, 1, 1):
        hold(subject, size)
    assert [len(record.fragment) for record in subject.take_held()] == [4096, 4095, 1]
    assert counters == {"records_of_other_epochs": 2}
    hold(subject, 8193)
    assert not subject.is_holding
    hold(subject, 8192)
    assert subject.is_holding
    assert len(subject.take_held()) == 1


def test_what_is_not_to_be_held_is_counted() -> None:
    subject, counters = layer()
    assert not opens(subject, Writer(3))
    assert counters == {"records_of_other_epochs": 1}
    assert not subject.is_holding


def test_records_of_both_kinds_may_wait() -> None:
    subject, _ = layer()
    hold(subject, 1)
    assert not subject.is_holding_unified
    subject.open(Writer(3).record(), 0.0, lambda record: True)
    assert subject.is_holding_unified


def retired() -> tuple[RecordLayer, Counter[str], Writer, Writer]:
    """A layer with the epochs 3 and 4, of which 3 is to go, and the peer's sides of them."""
    subject, counters = layer()
    for number in (3, 4):
        subject.install_reader(reader(number, counters))
    subject.retire_reader(3, 4)
    return subject, counters, Writer(3), Writer(4)


def test_old_keys_go_240_seconds_after_those_of_the_successor_were_first_used() -> None:
    """RFC 9147 §4.2.1: twice the lifetime of a segment."""
    subject, _, old, new = retired()
    subject.expire(1000.0)
    assert opens(subject, old, 1000.0), "the peer has not used the new keys yet"
    forged = new.record()._replace(fragment=bytes(40))
    assert subject.open(forged, 1000.0, lambda record: True) is None
    assert opens(subject, new, 2000.0)
    assert opens(subject, new, 2100.0), "only the first counts"
    subject.expire(2239.5)
    assert opens(subject, old, 2239.5)
    subject.expire(2240.0)
    assert not opens(subject, old, 2240.0)
    assert opens(subject, new, 2240.0)
    assert not subject._expiries


def test_keys_whose_bits_are_used_again_do_not_expire_in_anothers_stead() -> None:
    subject, counters, _, new = retired()
    assert opens(subject, new)
    subject.install_reader(reader(8, counters))
    assert list(subject._expiries) == [3], "it is 4 that has gone"
    subject.install_reader(reader(7, counters))
    assert not subject._expiries
    subject.drop_reader(3)
    subject.expire(1000.0)
    assert opens(subject, Writer(7))


def test_a_retirement_that_waits_is_forgotten_with_the_keys() -> None:
    subject, counters, _, new = retired()
    subject.install_reader(reader(7, counters))
    assert not subject._retiring
    assert opens(subject, new)
    assert not subject._expiries


def test_keys_of_dtls_12_are_dropped_at_once() -> None:
    subject, _ = layer()
    record = Record(22, 0xFEFD, 0, b"hello")
    assert subject.open(record, 0.0, lambda record: False) == (0, 22, 0, b"hello")
    subject.drop_reader(0)
    assert subject.open(record, 0.0, lambda record: False) is None


def test_keys_of_dtls_13_are_dropped_by_their_whole_number() -> None:
    subject, counters = layer()
    for number in range(2, 6):
        subject.install_reader(reader(number, counters))
    for number in range(2, 6):
        writer = Writer(number)
        subject.drop_reader(number + 4)
        assert opens(subject, writer)
        subject.drop_reader(number)
        assert not opens(subject, writer)


def test_an_epoch_that_nothing_is_sent_in_is_forgotten() -> None:
    subject, _ = layer()
    subject.install_writer(epochs(AeadAlgorithm.AES_128_GCM, 3)[0])
    subject.drop_writer(0)
    subject.drop_writer(2)
    assert list(subject.writers) == [3]


def test_the_limit_on_plaintext_is_for_protected_records() -> None:
    subject, _ = layer()
    subject.install_writer(epochs(AeadAlgorithm.AES_128_GCM, 2)[0])
    subject.limit_plaintext(100)
    subject.install_writer(epochs(AeadAlgorithm.AES_128_GCM, 3)[0])
    assert {number: epoch.maximum_plaintext for number, epoch in subject.writers.items()} == {
        0: 16_384,
        2: 100,
        3: 100,
    }


@pytest.mark.parametrize("may_repeat_alert", [True, False])
def test_nothing_is_left_after_the_end_but_what_an_alert_needs(may_repeat_alert: bool) -> None:
    subject, _, old, new = retired()
    subject.retire_reader(4, 5)
    opens(subject, new)
    hold(subject, 1)
    subject.install_writer(epochs(AeadAlgorithm.AES_128_GCM, 3)[0])
    subject.switch_writer(3)
    subject.close(may_repeat_alert=may_repeat_alert)
    assert not subject.is_holding
    assert not opens(subject, old)
    assert not opens(subject, new)
    assert subject.open(Record(22, 0xFEFD, 0, b""), 0.0, lambda record: False) is None
    assert not subject._retiring
    assert not subject._expiries
    assert list(subject.writers) == [3 if may_repeat_alert else 0]
    assert subject.writer is subject.writers[subject.writer.number]


# What a message may take up while it is in pieces


def part(seq: int, start: int, size: int, length: int) -> HandshakeFragment:
    return HandshakeFragment(11, length, seq, start, bytes([seq + 1]) * size)


def test_sixteen_blocks_are_held_of_messages_whose_turn_has_not_come() -> None:
    subject = HandshakeReassembler(16_384)
    assert subject.add(0, part(1, 0, 512 * 8, 16_384))
    assert subject.add(0, part(2, 0, 512 * 8, 16_384))
    assert not subject.add(0, part(3, 0, 1, 16_384))
    assert subject.add(0, part(1, 10, 100, 16_384)), "it needs no block more"
    assert subject.blocks == 16


def test_the_next_message_may_be_as_long_as_is_allowed_and_no_longer_in_two_epochs() -> None:
    subject = HandshakeReassembler(1024)
    assert subject.add(0, part(1, 0, 1023, 1024))
    for epoch in range(8):  # the first two blocks, and then what is left of those for messages ahead
        assert subject.add(epoch, part(0, 0, 1023, 1024))
    assert subject.blocks == 2 + 16
    assert not subject.add(9, part(0, 0, 1, 1024))


def test_what_is_there_already_needs_no_room_and_says_so() -> None:
    """A peer that sends a fragment again must see it acknowledged, however little room there is."""
    subject = HandshakeReassembler(16_384)
    assert subject.add(0, part(1, 0, 16_384, 16_384)) is False
    assert subject.add(0, part(1, 0, 512 * 16, 512 * 16)) is True
    assert subject.add(0, part(1, 0, 512 * 16, 512 * 16)) is True
    assert subject.add(0, part(1, 5, 20, 512 * 16)) is True
    assert subject.add(0, part(2, 0, 0, 0)) is True
    assert subject.add(0, part(9, 0, 1, 1)) is False
    assert subject.blocks == 16


def test_what_came_for_the_next_message_takes_no_room_from_those_ahead() -> None:
    subject = HandshakeReassembler(16_384)
    assert subject.add(0, part(0, 0, 512 * 10, 16_384))
    assert subject.add(0, part(1, 0, 512 * 16, 16_384))


def test_blocks_are_counted_where_a_piece_touches_them() -> None:
    subject = HandshakeReassembler(4096)
    assert subject.add(0, part(0, 511, 2, 4096))
    assert subject.blocks == 2
    assert subject.add(0, part(0, 1024, 512, 4096))
    assert subject.blocks == 3
    assert subject.add(0, part(1, 0, 513, 513)), "a whole message counts as what it is long"
    assert subject.blocks == 5
    assert subject.add(0, part(2, 0, 512, 512))
    assert subject.blocks == 6


def test_a_whole_message_takes_the_place_of_its_pieces() -> None:
    subject = HandshakeReassembler(4096)
    assert subject.add(0, part(0, 0, 1000, 2000))
    assert subject.add(0, part(0, 0, 2000, 2000))
    assert subject.blocks == 4
    assert not subject._partial[0, 0]._blocks


def test_the_longest_message_is_taken() -> None:
    subject = HandshakeReassembler(4096)
    assert subject.add(0, part(0, 0, 4096, 4096))
    message = subject.next_message(0)
    assert message is not None
    assert message.body == b"\x01" * 4096


def test_what_is_forgotten_and_what_is_kept() -> None:
    subject = HandshakeReassembler(4096)
    for epoch, seq in ((0, 0), (0, 1), (1, 1), (1, 2)):
        assert subject.add(epoch, part(seq, 0, 1, 9))
    subject.skip_to(1)
    assert (subject.holds(0), subject.blocks) == (True, 3)
    subject.drop_epoch(0)
    assert (subject.holds(0), subject.holds(1), subject.blocks) == (False, True, 2)
    subject.clear()
    assert (subject.holds(1), subject.blocks) == (False, 0)


def test_the_wire_form_of_a_fragment() -> None:
    """RFC 6347 §4.2.2."""
    wire = bytes.fromhex("0b 000a0c 0102 000a07 000005") + b"abcde"
    assert parse_fragments(wire) == [HandshakeFragment(11, 0x0A0C, 0x0102, 0x0A07, b"abcde")]
    assert parse_fragments(wire)[0].is_last
    assert not parse_fragments(bytes.fromhex("0b 000a0c 0102 000a06 000005") + b"abcde")[0].is_last
    assert handshake_header(11, 0x0A0C, 0x0102, 0x0A07, 5) == wire[:12]
    assert HANDSHAKE_HEADER_LENGTH == 12
