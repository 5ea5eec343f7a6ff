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


def _unified_header_length(first: int) -> int:
    """How long the unified header is that begins with this byte; 0 when there is no telling.

    A connection ID has no length of its own on the wire, and we negotiate none (RFC 9147 §9).
    """
    if first & UNIFIED_HEADER_CONNECTION_ID:
        return 0
    sequence_number_length = 2 if first & UNIFIED_HEADER_LONG_SEQUENCE_NUMBER else 1
    return 1 + sequence_number_length + (2 if first & UNIFIED_HEADER_LENGTH_PRESENT else 0)


# For each byte that a unified header may begin with: looked up for each record.
_UNIFIED_HEADER_LENGTHS = {
    first: _unified_header_length(first)
    for first in range(UNIFIED_HEADER_FIXED_BITS, 2 * UNIFIED_HEADER_FIXED_BITS)
}

#: What a record says that is not a first ClientHello. A plain integer, which packs faster than a member of an enum.
RECORD_VERSION = int(ProtocolVersion.DTLS_1_2)

_HEADER = struct.Struct("!BHQH")  # type, version, epoch (16 bits) and sequence number (48 bits), length
_LENGTH = struct.Struct("!H")  # what a unified header ends with


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
        first = datagram[offset]
        header_length = _UNIFIED_HEADER_LENGTHS.get(first)
        if header_length is not None:
            start = offset + header_length
            if not header_length or start > end:
                return records, False
            length = end - start
            if first & UNIFIED_HEADER_LENGTH_PRESENT:
                (length,) = _LENGTH.unpack_from(datagram, start - 2)
            stop = start + length
            if stop > end or length > MAXIMUM_CIPHERTEXT_LENGTH:
                return records, False
            records.append(UnifiedRecord(datagram[offset:start], datagram[start:stop]))
            offset = stop
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


def serialize_record(
    content_type: int,
    epoch_and_sequence_number: int,
    fragment: bytes,
    version: int = RECORD_VERSION,
) -> bytes:
    """A record with the header of DTLS 1.2, which the unprotected records of DTLS 1.3 have too."""
    return _HEADER.pack(content_type, version, epoch_and_sequence_number, len(fragment)) + fragment
