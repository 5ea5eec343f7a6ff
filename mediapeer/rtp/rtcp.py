"""Compound and reduced-size RTCP (RFC 3550 §6.1, RFC 5506), cut into its packets."""

import struct
from collections.abc import Iterator

SENDER_REPORT = 200
RECEIVER_REPORT = 201
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
#: The format of a Full Intra Request, and the length of an entry of it in bytes (RFC 5104 §4.3.1.1).
FULL_INTRA_REQUEST = 4
_FIR_ENTRY_LENGTH = 8

_HEADER = struct.Struct("!BBH")


class RtcpError(ValueError):
    """A datagram that is no sequence of RTCP packets."""


def split(data: bytes) -> list[bytes]:
    """Cut a datagram into RTCP packets, each with its header.

    :raises RtcpError: when a header or what it announces does not fit, or is not of version 2.
    """
    packets = []
    position = 0
    while position < len(data):
        if position + _HEADER.size > len(data):
            raise RtcpError("an RTCP header is truncated")
        first, _, words = _HEADER.unpack_from(data, position)
        end = position + 4 * (words + 1)
        if first >> 6 != 2:
            raise RtcpError("not of RTCP version 2")
        if end > len(data):
            raise RtcpError("an RTCP packet is truncated")
        packets.append(data[position:end])
        position = end
    return packets


def receiver_report(ssrc: int, blocks: list[bytes]) -> bytes:
    """A receiver report of ``ssrc`` with up to 31 report blocks (RFC 3550 §6.4.2)."""
    body = ssrc.to_bytes(4, "big") + b"".join(blocks[:31])
    return _HEADER.pack(0x80 | len(blocks[:31]), RECEIVER_REPORT, len(body) // 4) + body


def requested_ssrcs(fir: bytes) -> Iterator[int]:
    """The media sources that a Full Intra Request names, from its feedback control information."""
    for position in range(0, len(fir) - _FIR_ENTRY_LENGTH + 1, _FIR_ENTRY_LENGTH):
        yield int.from_bytes(fir[position : position + 4], "big")
