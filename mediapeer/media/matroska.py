"""Writes WebM and Matroska files (RFC 9559), cluster by cluster.

FFmpeg's muxer holds the sound back for as long as a VP8 or VP9 picture is missing: a muted camera would cost
memory, and a crash the sound. Here nothing waits for another track, and what has come is a cluster of its own
in the file at each flush.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from mediapeer.media.sink import RESERVE, FileSink

#: A cluster ends when it is so long, in milliseconds, though nobody flushes.
CLUSTER_DURATION = 500
#: Keyframes closer to each other than this get no entry of their own in the index, in milliseconds.
CUE_DISTANCE = 500
#: What an entry of the index takes at most, in bytes.
CUE_SIZE = 32

EBML, EBML_VERSION, EBML_READ_VERSION = b"\x1a\x45\xdf\xa3", b"\x42\x86", b"\x42\xf7"
EBML_MAX_ID_LENGTH, EBML_MAX_SIZE_LENGTH = b"\x42\xf2", b"\x42\xf3"
DOC_TYPE, DOC_TYPE_VERSION, DOC_TYPE_READ_VERSION = b"\x42\x82", b"\x42\x87", b"\x42\x85"
VOID, SEGMENT = b"\xec", b"\x18\x53\x80\x67"
SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x53\xab", b"\x53\xac"
INFO, TIMESTAMP_SCALE, DURATION = b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1", b"\x44\x89"
MUXING_APP, WRITING_APP = b"\x4d\x80", b"\x57\x41"
TRACKS, TRACK_ENTRY, TRACK_NUMBER, TRACK_UID = b"\x16\x54\xae\x6b", b"\xae", b"\xd7", b"\x73\xc5"
TRACK_TYPE, FLAG_LACING, CODEC_ID, CODEC_PRIVATE = b"\x83", b"\x9c", b"\x86", b"\x63\xa2"
LANGUAGE = b"\x22\xb5\x9c"
SEEK_PRE_ROLL, CODEC_DELAY = b"\x56\xbb", b"\x56\xaa"
VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT = b"\xe0", b"\xb0", b"\xba"
AUDIO, SAMPLING_FREQUENCY, CHANNELS = b"\xe1", b"\xb5", b"\x9f"
CLUSTER, TIMESTAMP, SIMPLE_BLOCK = b"\x1f\x43\xb6\x75", b"\xe7", b"\xa3"
CUES, CUE_POINT, CUE_TIME = b"\x1c\x53\xbb\x6b", b"\xbb", b"\xb3"
CUE_TRACK_POSITIONS, CUE_TRACK, CUE_CLUSTER_POSITION = b"\xb7", b"\xf7", b"\xf1"

#: By how much libopus, which browsers encode with, looks ahead in calls: sound comes out of a decoder so much later
#: than it went in, in samples at 48 kHz. Players take it off.
OPUS_DELAY = 312
#: Room for the table of the segment's parts, in bytes: known only at the end.
SEEK_HEAD_ROOM = 96
UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"
_VIDEO_CODECS = {
    "vp8": "V_VP8",
    "vp9": "V_VP9",
    "av1": "V_AV1",
    "h264": "V_MPEG4/ISO/AVC",
    "h265": "V_MPEGH/ISO/HEVC",
}
#: Of what is kept in WAVE's terms (``A_MS/ACM``): the format's tag, the real sampling rate, bits per sample.
_WAVE_FORMATS = {"pcmu": (7, 8000, 8), "pcma": (6, 8000, 8), "g722": (0x028F, 16_000, 4)}


class MatroskaTrack(NamedTuple):
    """What a file says of a track in its head."""

    codec: str
    width: int = 0
    height: int = 0
    channels: int = 2
    private: bytes = b""
    "The decoder's configuration, for codecs that have one: avcC, hvcC, av1C."


class _Block(NamedTuple):
    timestamp: int
    track: int
    is_keyframe: bool
    data: bytes


class MatroskaFile:
    """A file with the tracks given. Times are whole milliseconds from its beginning.

    :param sink: the new file. It is closed by :meth:`close`.
    :param tracks: what it has.
    :param is_webm: whether it says that it is WebM: VP8, VP9 and Opus only.
    :raises OSError: from each method, when the file cannot be written.
    """

    ticks_per_second = 1000

    def __init__(self, sink: FileSink, tracks: Sequence[MatroskaTrack], is_webm: bool) -> None:
        self.sink = sink
        self._with_lengths = {
            number for number, track in enumerate(tracks) if track.codec in ("h264", "h265")
        }
        self._pictures = {number for number, track in enumerate(tracks) if track.codec in _VIDEO_CODECS}
        self._blocks: list[_Block] = []
        self._first = 0
        self._end = 0
        self._cues: list[tuple[int, int, int]] = []
        head = _head(is_webm)
        self._segment = len(head) + 12  # what positions in the file count from
        info = _info()
        described = _element(TRACKS, *(_track_entry(number, each) for number, each in enumerate(tracks, 1)))
        self._info = SEEK_HEAD_ROOM
        self._tracks = self._info + len(info)
        sink.write(head + SEGMENT + UNKNOWN_SIZE + _void(SEEK_HEAD_ROOM) + info + described)

    def write(self, track: int, data: bytes, timestamp: int, duration: int, is_keyframe: bool) -> None:
        """Add a frame; those of one track in the order of time.

        :param track: its number among the tracks, from 0.
        :param timestamp: in milliseconds from the file's beginning.
        :param duration: in milliseconds.
        """
        if track in self._with_lengths:
            data = with_lengths(data)
        blocks = self._blocks
        if blocks and not -20_000 < timestamp - self._first < CLUSTER_DURATION:
            self.flush()
        if not blocks:
            self._first = timestamp
        blocks.append(_Block(timestamp, track, is_keyframe, data))
        self._end = max(self._end, timestamp + duration)

    def flush(self) -> None:
        """Write the cluster as far as it has come."""
        blocks = self._blocks
        if not blocks:
            return
        blocks.sort(key=_timestamp)
        first = blocks[0].timestamp
        position = self.sink.size - self._segment
        parts = [b"", _element(TIMESTAMP, _unsigned(first))]
        for timestamp, track, is_keyframe, data in blocks:
            parts.append(SIMPLE_BLOCK + _size(len(data) + 4))
            # A track's number takes a byte with its marker bit, as there are fewer than 127 (RFC 9559 §10).
            parts.append(struct.pack(">BhB", 0x81 + track, timestamp - first, 0x80 if is_keyframe else 0))
            parts.append(data)
            if is_keyframe and (track in self._pictures or not self._pictures):
                self._note(timestamp, track + 1, position)
        blocks.clear()
        parts[0] = CLUSTER + _size(sum(map(len, parts)))
        self.sink.write(b"".join(parts))
        self.sink.reserve(RESERVE + len(self._cues) * CUE_SIZE // RESERVE * RESERVE)

    def close(self) -> None:
        """Write what is left, the index and the length, and close the file."""
        try:
            self.flush()
            cues = self.sink.size - self._segment
            if self._cues:
                self.sink.write(_element(CUES, *(_cue(*each) for each in self._cues)))
            parts = [(INFO, self._info), (TRACKS, self._tracks)] + ([(CUES, cues)] if self._cues else [])
            seek_head = _element(SEEK_HEAD, *(_seek(*part) for part in parts))
            size = self.sink.size
            self._write_at(self._segment - 8, struct.pack(">Q", (1 << 56) | (size - self._segment)))
            self._write_at(self._segment, seek_head + _void(SEEK_HEAD_ROOM - len(seek_head)))
            duration = _element(DURATION, struct.pack(">d", self._end))
            # It stands first among the segment's information, in the place kept for it.
            self._write_at(self._segment + self._info + len(INFO) + 1, duration)
        finally:
            self.sink.close()

    def _note(self, timestamp: int, track: int, position: int) -> None:
        if not self._cues or timestamp - self._cues[-1][0] >= CUE_DISTANCE:
            self._cues.append((timestamp, track, position))

    def _write_at(self, position: int, data: bytes) -> None:
        self.sink.seek(position)
        self.sink.write(data)


def opus_head(pre_skip: int = 0) -> bytes:
    """The identification header of Opus in two channels (RFC 7845 §5.1).

    :param pre_skip: how much later than what was captured a decoder gives it, in samples at 48 kHz.
    """
    return b"OpusHead" + struct.pack("<BBHIhB", 1, 2, pre_skip, 48_000, 0, 0)


def wave_format(codec: str, channels: int = 1) -> bytes:
    """What WAVE says of G.711 and G.722: a WAVEFORMATEX (RFC 2361)."""
    tag, rate, bits = _WAVE_FORMATS[codec]
    per_second = rate * channels * bits // 8
    return struct.pack("<HHIIHHH", tag, channels, rate, per_second, max(1, channels * bits // 8), bits, 0)


def with_lengths(data: bytes) -> bytes:
    """NAL units with start codes (Annex B) as NAL units that each follow their length in four bytes."""
    parts: list[bytes] = []
    start = data.find(b"\0\0\1")
    while start >= 0:
        end = data.find(b"\0\0\1", start + 3)
        # What lies before a start code of four bytes is its first zero; no NAL unit ends in one.
        unit = data[start + 3 : end if end >= 0 else len(data)].rstrip(b"\0")
        if unit:
            parts += (struct.pack(">I", len(unit)), unit)
        start = end
    return b"".join(parts)


def _timestamp(block: _Block) -> int:
    return block.timestamp


def _size(value: int) -> bytes:
    """A size as a variable-length integer (RFC 8794 §4)."""
    if value < 0x7F:
        return bytes((0x80 | value,))
    if value < 0x3FFF:
        return struct.pack(">H", 0x4000 | value)
    return struct.pack(">I", 0x10000000 | value) if value < 0x0FFFFFFF else struct.pack(">Q", 1 << 56 | value)


def _unsigned(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _element(identifier: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return identifier + _size(len(data)) + data


def _void(length: int) -> bytes:
    """So many bytes that readers pass over, 2 to 128 of them."""
    return VOID + bytes((0x80 | (length - 2),)) + bytes(length - 2)


def _head(is_webm: bool) -> bytes:
    return _element(
        EBML,
        _element(EBML_VERSION, b"\x01"),
        _element(EBML_READ_VERSION, b"\x01"),
        _element(EBML_MAX_ID_LENGTH, b"\x04"),
        _element(EBML_MAX_SIZE_LENGTH, b"\x08"),
        _element(DOC_TYPE, b"webm" if is_webm else b"matroska"),
        _element(DOC_TYPE_VERSION, b"\x04"),
        _element(DOC_TYPE_READ_VERSION, b"\x02"),
    )


def _info() -> bytes:
    return _element(
        INFO,
        _void(11),  # the duration, once it is known
        _element(TIMESTAMP_SCALE, _unsigned(1_000_000)),
        _element(MUXING_APP, b"mediapeer"),
        _element(WRITING_APP, b"mediapeer"),
    )


def _track_entry(number: int, track: MatroskaTrack) -> bytes:
    common = [
        _element(TRACK_NUMBER, _unsigned(number)),
        _element(TRACK_UID, _unsigned(number)),
        _element(FLAG_LACING, b"\x00"),
        _element(LANGUAGE, b"und"),  # where it is not said, it is English (RFC 9559 §5.1.4.1.19)
    ]
    if track.codec in _VIDEO_CODECS:
        size = _element(PIXEL_WIDTH, _unsigned(track.width)) + _element(PIXEL_HEIGHT, _unsigned(track.height))
        codec = _element(CODEC_ID, _VIDEO_CODECS[track.codec].encode())
        private = _element(CODEC_PRIVATE, track.private) if track.private else b""
        kind = _element(TRACK_TYPE, b"\x01")
        return _element(TRACK_ENTRY, *common, kind, codec, private, _element(VIDEO, size))
    common.append(_element(TRACK_TYPE, b"\x02"))
    if track.codec == "opus":
        rate, channels = 48_000.0, 2
        common += [_element(CODEC_ID, b"A_OPUS"), _element(CODEC_PRIVATE, opus_head(OPUS_DELAY))]
        common.append(_element(CODEC_DELAY, _unsigned(OPUS_DELAY * 1_000_000 // 48)))
        common.append(_element(SEEK_PRE_ROLL, _unsigned(80_000_000)))
    else:
        rate, channels = float(_WAVE_FORMATS[track.codec][1]), track.channels
        private = _element(CODEC_PRIVATE, wave_format(track.codec, channels))
        common += [_element(CODEC_ID, b"A_MS/ACM"), private]
    audio = _element(SAMPLING_FREQUENCY, struct.pack(">d", rate)) + _element(CHANNELS, _unsigned(channels))
    return _element(TRACK_ENTRY, *common, _element(AUDIO, audio))


def _seek(identifier: bytes, position: int) -> bytes:
    return _element(SEEK, _element(SEEK_ID, identifier), _element(SEEK_POSITION, _unsigned(position)))


def _cue(timestamp: int, track: int, position: int) -> bytes:
    positions = _element(CUE_TRACK, _unsigned(track)) + _element(CUE_CLUSTER_POSITION, _unsigned(position))
    return _element(
        CUE_POINT, _element(CUE_TIME, _unsigned(timestamp)), _element(CUE_TRACK_POSITIONS, positions)
    )
