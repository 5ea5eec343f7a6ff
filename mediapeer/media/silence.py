"""Silence, encoded: what stands in a file where sound is missing.

A gap in the timestamps is not enough. Chromium plays what follows it at once, and so out of step with the
picture from there on.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

Track = TypeVar("Track", bound=Hashable)

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


class Silence(NamedTuple, Generic[Track]):
    """A packet of silence for a track, and where it belongs, in seconds."""

    track: Track
    data: bytes
    position: float
    length: float


class SilenceFiller(Generic[Track]):
    """Tells what silence a file needs where its sound in Opus is missing. All times are in seconds.

    :param start: where the file begins.
    :param shown: where the latest picture is that has come already.
    :param tracks: those that are to begin where the file does; the others, with their first sound.
    """

    def __init__(self, start: float, shown: float | None = None, tracks: Iterable[Track] = ()) -> None:
        self._start = start
        self._shown = start if shown is None else shown
        # Where the sound ends that is in the file, or is to begin.
        self._ends: dict[Track, float] = dict.fromkeys(tracks, start)
        # By how much the latest sound of each was captured before the pictures that had come.
        self._behind: dict[Track, float] = dict.fromkeys(self._ends, 0.0)
        self._begun: set[Track] = set()

    def is_late(self, track: Track, end: float) -> bool:
        """Whether sound that lasts to ``end`` comes when silence has taken its place.

        It would bring what follows out of step.
        """
        return end <= self._ends.get(track, float("-inf"))

    def before_sound(self, track: Track, position: float, length: float) -> Iterator[Silence[Track]]:
        """What is due before sound of a track, which is in the file then."""
        # Where files follow each other, the sound of one may reach a frame's length into the next.
        if track in self._begun or position - self._start > max(length, FIRST):
            yield from self._fill(track, position)
        self._begun.add(track)
        self._ends[track] = max(self._ends.get(track, position), position + length)
        self._behind[track] = max(0.0, self._shown - position)

    def before_picture(self, position: float, is_coming: Callable[[Track], bool]) -> Iterator[Silence[Track]]:
        """What is due before a picture, in the sound that does not come.

        :param is_coming: whether a track is to have sound here yet.
        """
        for track in list(self._ends):
            if track not in self._begun:
                if position - self._start >= LATE:
                    yield from self._fill(track, self._start + FIRST)
            elif is_coming(track):
                end = self._ends[track]
                due = position - PATIENCE - self._behind[track] - end
                yield from self._fill(track, end + due // LONGEST_PACKET * LONGEST_PACKET)
        self._shown = max(self._shown, position)

    def _fill(self, track: Track, until: float) -> Iterator[Silence[Track]]:
        end = self._ends.get(track)
        if end is None or not LEAST <= until - end <= LONGEST:
            return
        self._begun.add(track)
        for data, length in opus_silence(until - end):
            yield Silence(track, data, end, length)
            end += length
        self._ends[track] = end
