"""Epochs (RFC 6347 §4.1, RFC 9147 §4.2.1): the keys of one direction, its sequence numbers, the replay window."""

import struct
from abc import ABC, abstractmethod
from collections import Counter

from cryptography.exceptions import InvalidTag

from mediapeer.dtls.errors import DtlsError, SequenceNumbersExhausted
from mediapeer.dtls.key_schedule13 import TrafficKeys, traffic_keys
from mediapeer.dtls.protection import RecordProtection
from mediapeer.dtls.protection13 import AEAD_LIMITS, SAMPLE_LENGTH, TAG_LENGTHS, aead, record_number_mask
from mediapeer.dtls.record import (
    MAXIMUM_PLAINTEXT_LENGTH,
    MAXIMUM_SEQUENCE_NUMBER,
    RECORD_HEADER_LENGTH,
    RECORD_VERSION,
    UNIFIED_HEADER_EPOCH_MASK,
    UNIFIED_HEADER_FIXED_BITS,
    UNIFIED_HEADER_LENGTH_PRESENT,
    UNIFIED_HEADER_LONG_SEQUENCE_NUMBER,
    Record,
    UnifiedRecord,
    serialize_record,
)
from mediapeer.dtls.registry import AlertDescription, CipherSuiteParameters

REPLAY_WINDOW_SIZE = 256

_UNIFIED_HEADER = struct.Struct("!BHH")  # flags and epoch, sequence number, length
_UNIFIED_FLAGS = (
    UNIFIED_HEADER_FIXED_BITS | UNIFIED_HEADER_LONG_SEQUENCE_NUMBER | UNIFIED_HEADER_LENGTH_PRESENT
)

OpenedRecord = tuple[int, int, int, bytes]
"Epoch, content type, sequence number and plaintext of an authentic record."


class ReplayWindow:
    """The sliding window that lets each sequence number pass once (RFC 6347 §4.1.2.6).

    :param size: how far behind the newest record one may come, in records.
    """

    __slots__ = ("_bitmap", "_mask", "_size", "highest")

    def __init__(self, size: int = REPLAY_WINDOW_SIZE) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self.highest = -1
        "The highest sequence number that has passed; -1 before the first."
        self._bitmap = 0  # bit n stands for the sequence number n below the highest

    def is_fresh(self, sequence_number: int) -> bool:
        """Whether a record of this number may pass. Looks only; see :meth:`mark`."""
        behind = self.highest - sequence_number
        if behind < 0:
            return True
        return behind < self._size and not self._bitmap >> behind & 1

    def mark(self, sequence_number: int) -> None:
        """Note a record that proved authentic, which alone may move the window."""
        behind = self.highest - sequence_number
        if behind < 0:
            self._bitmap = (self._bitmap << -behind if -behind < self._size else 0) & self._mask | 1
            self.highest = sequence_number
        elif behind < self._size:
            self._bitmap |= 1 << behind


class ReadEpoch12:
    """What opens the peer's records of one epoch of DTLS 1.2, and of epoch 0 of either version.

    :param protection: ``None`` in epoch 0. Nothing is authentic there, and so nothing moves a window.
    :param counters: where it is counted what does not pass.
    """

    __slots__ = ("_counters", "_protection", "_window", "number")

    def __init__(self, number: int, protection: RecordProtection | None, counters: Counter[str]) -> None:
        self.number = number
        self._protection = protection
        self._window = ReplayWindow()
        self._counters = counters

    def open(self, record: Record) -> OpenedRecord | None:
        """Open a record of this epoch; ``None`` when it is a replay or not authentic."""
        content_type, _, epoch_and_sequence_number, fragment = record
        sequence_number = epoch_and_sequence_number & MAXIMUM_SEQUENCE_NUMBER
        if self._protection is None:
            return self.number, content_type, sequence_number, fragment
        if not self._window.is_fresh(sequence_number):
            self._counters["replayed_records"] += 1
            return None
        plaintext = self._protection.open(content_type, epoch_and_sequence_number, fragment)
        if plaintext is None:
            self._counters["unauthentic_records"] += 1
            return None
        self._window.mark(sequence_number)
        return self.number, content_type, sequence_number, plaintext


class ReadEpoch13:
    """What opens the peer's records of one epoch of DTLS 1.3.

    :param traffic_secret: the peer's secret of that epoch.
    :param counters: where it is counted what does not pass.
    """

    __slots__ = ("_aead", "_counters", "_failures", "_iv", "_limit", "_mask", "_window", "number")

    def __init__(
        self,
        number: int,
        parameters: CipherSuiteParameters,
        traffic_secret: bytes,
        counters: Counter[str],
    ) -> None:
        keys = traffic_keys(parameters, traffic_secret)
        self.number = number
        self._aead = aead(parameters.aead, keys.key)
        self._iv = int.from_bytes(keys.iv, "big")
        self._mask = record_number_mask(parameters.aead, keys)
        self._limit = AEAD_LIMITS[parameters.aead].failed_openings
        self._failures = 0
        self._window = ReplayWindow()
        self._counters = counters

    def open(self, record: UnifiedRecord) -> OpenedRecord | None:
        """Open a record of this epoch; ``None`` when it is a replay or not authentic.

        A content type of 0 is returned for a record that is all padding.

        :raises DtlsError: when more forgeries have come than one key may see (RFC 9147 §4.5.3).
        """
        masked_header, fragment = record
        if len(fragment) < SAMPLE_LENGTH:
            self._counters["unauthentic_records"] += 1
            return None
        mask = self._mask(fragment[:SAMPLE_LENGTH])
        header = bytearray(masked_header)
        header[1] ^= mask[0]
        bits, size = header[1], 8
        if header[0] & UNIFIED_HEADER_LONG_SEQUENCE_NUMBER:
            header[2] ^= mask[1]
            bits, size = bits << 8 | header[2], 16
        sequence_number = reconstruct_sequence_number(self._window.highest + 1, bits, size)
        if not self._window.is_fresh(sequence_number):
            self._counters["replayed_records"] += 1
            return None
        nonce = (self._iv ^ sequence_number).to_bytes(12, "big")
        try:
            inner = self._aead.decrypt(nonce, fragment, header)
        except InvalidTag:
            self._note_forgery()
            return None
        self._window.mark(sequence_number)
        content = inner.rstrip(b"\0")
        if not content:
            return self.number, 0, sequence_number, b""
        return self.number, content[-1], sequence_number, content[:-1]

    def _note_forgery(self) -> None:
        self._counters["unauthentic_records"] += 1
        self._failures += 1
        if self._failures > self._limit:
            raise DtlsError("too many forged records for one key", AlertDescription.BAD_RECORD_MAC)


def reconstruct_sequence_number(expected: int, bits: int, size: int) -> int:
    """The sequence number nearest to ``expected`` that ends in ``bits`` (RFC 9147 §4.2.2).

    :param expected: one more than the highest number that was authentic.
    :param size: how many bits there are, 8 or 16.
    """
    window = 1 << size
    candidate = (expected & ~(window - 1)) | bits
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    if candidate + window // 2 < expected and candidate + window <= MAXIMUM_SEQUENCE_NUMBER:
        return candidate + window
    return candidate


class WriteEpoch(ABC):
    """What makes our records of one epoch."""

    overhead: int
    "How many bytes longer than its plaintext a record is."
    limit = MAXIMUM_SEQUENCE_NUMBER + 1
    "After how many records a KeyUpdate is due, where there is one."

    def __init__(self, number: int, first_sequence_number: int = 0) -> None:
        self.number = number
        self.next_sequence_number = first_sequence_number
        "The number of the next record."
        self.maximum_plaintext = MAXIMUM_PLAINTEXT_LENGTH
        "How many bytes the peer takes in one record (RFC 8449 §4)."

    def seal(self, content_type: int, plaintext: bytes, version: int = RECORD_VERSION) -> bytes:
        """A record with the next sequence number.

        :param version: what an unprotected record says.
        :raises SequenceNumbersExhausted: after 2^48 records; the number must not wrap (RFC 6347 §4.1).
        """
        sequence_number = self.next_sequence_number
        if sequence_number > MAXIMUM_SEQUENCE_NUMBER:
            raise SequenceNumbersExhausted(f"epoch {self.number} has used up its sequence numbers")
        self.next_sequence_number = sequence_number + 1
        return self._seal(content_type, plaintext, sequence_number, version)

    @abstractmethod
    def _seal(self, content_type: int, plaintext: bytes, sequence_number: int, version: int) -> bytes:
        """The record with this sequence number."""


class WriteEpoch12(WriteEpoch):
    """An epoch of DTLS 1.2, and epoch 0 of either version, which has no protection."""

    def __init__(
        self, number: int, protection: RecordProtection | None, first_sequence_number: int = 0
    ) -> None:
        super().__init__(number, first_sequence_number)
        self._epoch_bits = number << 48
        self._protection = protection
        self.overhead = RECORD_HEADER_LENGTH + (protection.expansion if protection else 0)

    def _seal(self, content_type: int, plaintext: bytes, sequence_number: int, version: int) -> bytes:
        epoch_and_sequence_number = self._epoch_bits | sequence_number
        if self._protection is None:
            return serialize_record(content_type, epoch_and_sequence_number, plaintext, version)
        fragment = self._protection.seal(content_type, epoch_and_sequence_number, plaintext)
        return serialize_record(content_type, epoch_and_sequence_number, fragment)


class WriteEpoch13(WriteEpoch):
    """An epoch of DTLS 1.3 with keys."""

    def __init__(self, number: int, parameters: CipherSuiteParameters, traffic_secret: bytes) -> None:
        super().__init__(number)
        keys: TrafficKeys = traffic_keys(parameters, traffic_secret)
        self._flags = _UNIFIED_FLAGS | number & UNIFIED_HEADER_EPOCH_MASK
        self._aead = aead(parameters.aead, keys.key)
        self._iv = int.from_bytes(keys.iv, "big")
        self._mask = record_number_mask(parameters.aead, keys)
        self._tag_length = TAG_LENGTHS[parameters.aead]
        self._least_inner_length = SAMPLE_LENGTH - self._tag_length
        self.limit = AEAD_LIMITS[parameters.aead].records_sealed
        self.overhead = _UNIFIED_HEADER.size + 1 + self._tag_length

    def _seal(self, content_type: int, plaintext: bytes, sequence_number: int, version: int) -> bytes:
        inner = plaintext + bytes((content_type,))
        if len(inner) < self._least_inner_length:
            inner = inner.ljust(self._least_inner_length, b"\0")  # so that there is enough to sample
        length = len(inner) + self._tag_length
        bits = sequence_number & 0xFFFF
        header = _UNIFIED_HEADER.pack(self._flags, bits, length)
        nonce = (self._iv ^ sequence_number).to_bytes(12, "big")
        fragment = self._aead.encrypt(nonce, inner, header)
        mask = self._mask(fragment[:SAMPLE_LENGTH])
        return _UNIFIED_HEADER.pack(self._flags, bits ^ (mask[0] << 8 | mask[1]), length) + fragment
