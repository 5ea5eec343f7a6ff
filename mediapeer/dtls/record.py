"""Records on the wire: the header of DTLS 1.2 (RFC 6347 §4.1) and the unified one of DTLS 1.3 (RFC 9147 §4)."""

import struct
from typing import NamedTuple

from mediapeer.dtls.registry import ProtocolVersion

RECORD_HEADER_LENGTH = 13
MAXIMUM_PLAINTEXT_LENGTH = 2**14
MAXIMUM_CIPHERTEXT_LENGTH = 2**14 + 2048
MAXIMUM_SEQUENCE_NUMBER = 2**48 - 1

UNIFIED_HEADER_FIXED_BITS = 0b0010_0000
UNIFIED_HEADER_CONNECTION_ID = 0b0001_0000
UNIFIED_HEADER_LONG_SEQUENCE_NUMBER = 0b0000_1000
UNIFIED_HEADER_LENGTH_PRESENT = 0b0000_0100
UNIFIED_HEADER_EPOCH_MASK = 0b0000_0011
_FIXED_MASK = 0b1110_0000

_HEADER = struct.Struct("!BHQH")  # type, version, epoch (16 bits) and sequence number (48 bits), length


class Record(NamedTuple):
    """One ``DTLSPlaintext``, or ``DTLSCiphertext`` of DTLS 1.2, as it came."""

    content_type: int
    version: int
    epoch_and_sequence_number: int
    "Epoch and sequence number as the 64-bit number that the AEAD works with (RFC 6347 §4.1.2.1)."
    fragment: bytes

    @property
    def epoch(self) -> int:
        """The epoch the record claims to be of."""
        return self.epoch_and_sequence_number >> 48

    @property
    def sequence_number(self) -> int:
        """The sequence number within the epoch."""
        return self.epoch_and_sequence_number & MAXIMUM_SEQUENCE_NUMBER


class UnifiedRecord(NamedTuple):
    """One ``DTLSCiphertext`` of DTLS 1.3 as it came, its sequence number still encrypted (RFC 9147 §4.2.3)."""

    header: bytes
    fragment: bytes


def split_datagram(datagram: bytes) -> tuple[list[Record | UnifiedRecord], bool]:
    """The records of a datagram, and whether it was used up without a remainder.

    What does not parse ends the datagram: the records before it stand (RFC 6347 §4.1.2.7, RFC 9147 §4.1).
    """
    records: list[Record | UnifiedRecord] = []
    offset, end = 0, len(datagram)
    while offset < end:
        if datagram[offset] & _FIXED_MASK == UNIFIED_HEADER_FIXED_BITS:
            start, length = _unified_extent(datagram, offset)
            if not start or start + length > end or length > MAXIMUM_CIPHERTEXT_LENGTH:
                return records, False
            records.append(UnifiedRecord(datagram[offset:start], datagram[start : start + length]))
            offset = start + length
            continue
        start = offset + RECORD_HEADER_LENGTH
        if start > end:
            return records, False
        content_type, version, epoch_and_sequence_number, length = _HEADER.unpack_from(datagram, offset)
        offset = start + length
        if offset > end or length > MAXIMUM_CIPHERTEXT_LENGTH or version >> 8 != 0xFE:
            return records, False
        records.append(Record(content_type, version, epoch_and_sequence_number, datagram[start:offset]))
    return records, True


def _unified_extent(datagram: bytes, offset: int) -> tuple[int, int]:
    """Where the ciphertext of a unified record starts, and its length; (0, 0) when there is no telling.

    A connection ID has no length of its own on the wire, and we negotiate none (RFC 9147 §9).
    """
    first = datagram[offset]
    if first & UNIFIED_HEADER_CONNECTION_ID:
        return 0, 0
    start = offset + (3 if first & UNIFIED_HEADER_LONG_SEQUENCE_NUMBER else 2)
    if not first & UNIFIED_HEADER_LENGTH_PRESENT:
        return start, max(0, len(datagram) - start)
    if start + 2 > len(datagram):
        return 0, 0
    return start + 2, int.from_bytes(datagram[start : start + 2], "big")


def serialize_record(
    content_type: int,
    epoch_and_sequence_number: int,
    fragment: bytes,
    version: int = ProtocolVersion.DTLS_1_2,
) -> bytes:
    """A record with the header of DTLS 1.2, which the unprotected records of DTLS 1.3 have too."""
    return _HEADER.pack(content_type, version, epoch_and_sequence_number, len(fragment)) + fragment
