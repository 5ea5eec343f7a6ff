"""RTP packets and their header extensions (RFC 3550 §5.1, RFC 8285 §4), read only."""

import struct
from collections.abc import Mapping

_HEADER = struct.Struct("!BBHII")
_HEADER_LENGTH = _HEADER.size
_TWO_SHORTS = struct.Struct("!HH")
_ONE_BYTE_PROFILE = 0xBEDE
_TWO_BYTE_PROFILE = 0x1000
#: Ends a block of one-byte elements, whatever follows (RFC 8285 §4.2).
_STOP_ID = 15
_NO_EXTENSIONS: Mapping[int, bytes] = {}


class RtpError(ValueError):
    """A packet that is no well-formed RTP. Only that packet is lost."""


class RtpPacket:
    """A packet that was received. A router or a repair may give it another number, time, source and payload."""

    __slots__ = (
        "csrcs",
        "extensions",
        "header_length",
        "marker",
        "padding_length",
        "payload",
        "payload_type",
        "sequence_number",
        "ssrc",
        "timestamp",
    )

    def __init__(
        self,
        payload_type: int,
        sequence_number: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        *,
        marker: bool = False,
        csrcs: tuple[int, ...] = (),
        extensions: Mapping[int, bytes] = _NO_EXTENSIONS,
        padding_length: int = 0,
        header_length: int = _HEADER_LENGTH,
    ) -> None:
        self.payload_type = payload_type
        self.sequence_number = sequence_number
        self.timestamp = timestamp
        "In units of the payload type's clock, modulo 2^32."
        self.ssrc = ssrc
        self.payload = payload
        "Without padding."
        self.marker = marker
        self.csrcs = csrcs
        self.extensions = extensions
        "The elements of the header extension by their local identifier; to be read only."
        self.padding_length = padding_length
        "Bytes of padding after the payload, their count included."
        self.header_length = header_length
        "Bytes before the payload, CSRCs and extensions included."

    def __repr__(self) -> str:
        return (
            f"RtpPacket(payload_type={self.payload_type}, sequence_number={self.sequence_number}, "
            f"timestamp={self.timestamp}, ssrc={self.ssrc}, {len(self.payload)} bytes)"
        )

    @classmethod
    def parse(cls, data: bytes) -> "RtpPacket":
        """Read a packet.

        :raises RtpError: when the header, the block of its extension or the padding does not fit into ``data``.
        """
        if len(data) < _HEADER_LENGTH:
            raise RtpError("shorter than an RTP header")
        first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
        if first & 0xC0 != 0x80:
            raise RtpError("not of RTP version 2")
        start, end = _HEADER_LENGTH, len(data)
        csrcs: tuple[int, ...] = ()
        if count := first & 0x0F:
            start += 4 * count
            if start > end:
                raise RtpError("the CSRCs are truncated")
            csrcs = struct.unpack_from(f"!{count}I", data, _HEADER_LENGTH)
        extensions = _NO_EXTENSIONS
        if first & 0x10:
            if start + 4 > end:
                raise RtpError("the header extension is truncated")
            profile, words = _TWO_SHORTS.unpack_from(data, start)
            block = start + 4
            start = block + 4 * words
            if start > end:
                raise RtpError("the header extension is truncated")
            extensions = read_extensions(profile, data, block, start)
        padding = 0
        if first & 0x20:
            padding = data[-1]
            if not 0 < padding <= end - start:
                raise RtpError("the padding is longer than the payload")
        return cls(
            second & 0x7F,
            sequence_number,
            timestamp,
            ssrc,
            data[start : end - padding],
            marker=second >= 0x80,
            csrcs=csrcs,
            extensions=extensions,
            padding_length=padding,
            header_length=start,
        )


def read_extensions(profile: int, data: bytes, start: int, end: int) -> Mapping[int, bytes]:
    """Read the elements in ``data[start:end]`` by identifier; the last of several with the same one counts.

    Blocks of a profile that is neither the one-byte nor the two-byte form are none of ours, and read as empty.
    An element that is longer than what is left ends its block: those before it count, and so does the payload.
    """
    if profile == _ONE_BYTE_PROFILE:
        return _read_one_byte_elements(data, start, end)
    if profile & 0xFFF0 == _TWO_BYTE_PROFILE:
        return _read_two_byte_elements(data, start, end)
    return _NO_EXTENSIONS


def _read_one_byte_elements(data: bytes, position: int, end: int) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    while position < end:
        head = data[position]
        position += 1
        if head == 0:
            continue  # padding
        identifier = head >> 4
        if identifier == _STOP_ID or identifier == 0:
            # RFC 8285 §4.2: both end the block, what came before them counts.
            break
        after = position + (head & 0x0F) + 1
        if after > end:
            break
        elements[identifier] = data[position:after]
        position = after
    return elements


def _read_two_byte_elements(data: bytes, position: int, end: int) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    while position < end:
        identifier = data[position]
        if identifier == 0:
            position += 1  # padding
            continue
        if position + 2 > end:
            break
        after = position + 2 + data[position + 1]
        if after > end:
            break
        elements[identifier] = data[position + 2 : after]
        position = after
    return elements
