"""Redundant audio (RFC 2198), as browsers send it: ``red/48000/2`` around Opus."""

from typing import NamedTuple

from mediapeer.rtp.payload.errors import PayloadError

#: How many blocks a payload may have. Browsers send one or two redundant ones.
_MAXIMUM_BLOCKS = 32


class RedBlock(NamedTuple):
    """One of the payloads in a payload."""

    payload_type: int
    timestamp_offset: int
    "How much earlier than the packet's timestamp it was, in units of the clock rate; 0 of the primary."
    data: bytes


def split_red(payload: bytes) -> list[RedBlock]:
    """Take apart a payload (RFC 2198 §3): the redundant blocks as they come, oldest first, the primary last.

    A redundant block may be empty.

    :raises PayloadError: when it is truncated, or has no primary.
    """
    headers: list[tuple[int, int, int]] = []
    position = 0
    while True:
        if position >= len(payload):
            raise PayloadError("RED without its primary block")
        first = payload[position]
        if not first & 0x80:
            break
        if position + 4 > len(payload) or len(headers) >= _MAXIMUM_BLOCKS:
            raise PayloadError("the headers of RED are truncated, or too many")
        rest = int.from_bytes(payload[position + 1 : position + 4], "big")
        headers.append((first & 0x7F, rest >> 10, rest & 0x3FF))
        position += 4
    position += 1
    blocks = []
    for payload_type, offset, length in headers:
        if position + length > len(payload):
            raise PayloadError("a redundant block is truncated")
        blocks.append(RedBlock(payload_type, offset, payload[position : position + length]))
        position += length
    blocks.append(RedBlock(first & 0x7F, 0, payload[position:]))
    return blocks
