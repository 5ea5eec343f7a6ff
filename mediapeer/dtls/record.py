"""The record layer's header (RFC 6347 §4.1): datagrams into records, and back."""

import struct
from typing import NamedTuple

from mediapeer.dtls.registry import ProtocolVersion

RECORD_HEADER_LENGTH = 13
MAXIMUM_PLAINTEXT_LENGTH = 2**14
MAXIMUM_CIPHERTEXT_LENGTH = 2**14 + 2048
MAXIMUM_SEQUENCE_NUMBER = 2**48 - 1

_HEADER = struct.Struct("!BHQH")  # type, version, epoch (16 bits) and sequence number (48 bits), length


class Record(NamedTuple):
    """One ``DTLSPlaintext`` or ``DTLSCiphertext`` as it came."""

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


def split_datagram(datagram: bytes) -> tuple[list[Record], bool]:
    """The records of a datagram, and whether it was used up without a remainder.

    What does not parse ends the datagram: the records before it stand (RFC 6347 §4.1.2.7).
    """
    records: list[Record] = []
    offset, end = 0, len(datagram)
    while offset < end:
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
    version: int = ProtocolVersion.DTLS_1_2,
) -> bytes:
    """The record as it is sent."""
    return _HEADER.pack(content_type, version, epoch_and_sequence_number, len(fragment)) + fragment
