"""Silence, encoded: what stands in a file where sound is missing.

A gap in the timestamps is not enough. Chromium plays what follows it at once, and so out of step with the
picture from there on.
"""

from collections.abc import Iterator

#: Where so much sound is missing, silence is written, and where it is more than the other it stays a gap; in seconds.
LEAST = 0.01
LONGEST = 3600.0
#: Sound is not waited for when it is later than it was last by so much, as pictures come, in seconds.
PATIENCE = 1.0
#: An MP4 file whose sound is so late begins with so much silence, in seconds: two packets, as the last one waits.
#: Later than ``container.LATE_BEGINNING`` FFmpeg would not take it.
LATE = 0.15
FIRST = 0.03
#: The shortest frame of Opus and the longest packet, in seconds.
UNIT = 0.0025
LONGEST_PACKET = 0.12
#: The frames by how many of the shortest they last, with the first byte of a packet of one such frame: CELT,
#: fullband, stereo (RFC 6716 §3.1).
_FRAMES = ((8, 0xFC), (4, 0xF4), (2, 0xEC), (1, 0xE4))
#: A frame whose flag of silence is set (RFC 6716 §4.3): nothing is decoded of it.
_SILENT = b"\xff\xfe"
#: So many frames of 20 ms are the longest packet that Opus has.
_MOST_FRAMES = 6
_LONGEST = _FRAMES[0][0] * _MOST_FRAMES
#: A code 3 packet with frames of one size (RFC 6716 §3.2.5).
_MANY = bytes((_FRAMES[0][1] | 3, _MOST_FRAMES)) + _SILENT * _MOST_FRAMES
_PACKETS = {_MANY} | {bytes((first,)) + _SILENT for _, first in _FRAMES}


def is_silence(packet: bytes) -> bool:
    """Whether a packet is one that :func:`opus_silence` makes."""
    return packet in _PACKETS


def opus_silence(seconds: float) -> Iterator[tuple[bytes, float]]:
    """Packets of Opus with nothing to hear.

    :param seconds: how much; rounded to 2.5 ms.
    :returns: each packet with its length in seconds, the longest first.
    """
    units = round(seconds / UNIT)
    for _ in range(units // _LONGEST):
        yield _MANY, _LONGEST * UNIT
    units %= _LONGEST
    for length, first in _FRAMES:
        for _ in range(units // length):
            yield bytes((first,)) + _SILENT, length * UNIT
        units %= length
