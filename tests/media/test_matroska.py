"""The structure of WebM files (RFC 9559): what players seek by, read here by its own element sizes."""

import pathlib
import struct
from collections.abc import Iterator

from mediapeer.media.matroska import OPUS_DELAY, MatroskaFile, MatroskaTrack
from mediapeer.media.sink import FileSink

EBML, SEGMENT, SEEK_HEAD, SEEK = 0x1A45DFA3, 0x18538067, 0x114D9B74, 0x4DBB
INFO, TRACKS, CLUSTER, CUES = 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B
TIMESTAMP, SIMPLE_BLOCK, DURATION = 0xE7, 0xA3, 0x4489

Element = tuple[int, int, bytes]
"Identifier, position within what it is in, content."


def elements(data: bytes) -> Iterator[Element]:
    """The elements of a master element (RFC 8794 §5)."""
    position = 0
    while position < len(data):
        begin = position
        length = 9 - data[position].bit_length()
        identifier = int.from_bytes(data[position : position + length], "big")
        position += length
        length = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + length], "big") & (1 << 7 * length) - 1
        position += length
        assert position + size <= len(data), "its size is that of what there is"
        yield identifier, begin, data[position : position + size]
        position += size


def one(data: bytes, *path: int) -> bytes:
    """The content of the only element at a path of identifiers."""
    for identifier in path:
        [data] = [content for kind, _, content in elements(data) if kind == identifier]
    return data


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def written(path: pathlib.Path, tracks: list[MatroskaTrack], blocks: list[tuple[int, int, bool]]) -> bytes:
    """The segment of a file with blocks of 20 ms: track, time in milliseconds, keyframe?"""
    file = MatroskaFile(FileSink(path, 0), tracks, True)
    for track, timestamp, is_keyframe in blocks:
        file.write(track, b"block %d" % timestamp, timestamp, 20, is_keyframe)
    file.close()
    (_, _, _), (kind, _, segment) = elements(path.read_bytes())
    assert kind == SEGMENT
    return segment


def clusters(segment: bytes) -> dict[int, list[tuple[int, int, int, bytes]]]:
    """By position: track, time, flags and data of the blocks of each cluster."""
    found = {}
    for kind, position, content in elements(segment):
        if kind == CLUSTER:
            base = number(one(content, TIMESTAMP))
            heads = [each for each_kind, _, each in elements(content) if each_kind == SIMPLE_BLOCK]
            blocks = [(*struct.unpack(">BhB", head[:4]), head[4:]) for head in heads]
            found[position] = [
                (track & 0x7F, base + time, flags, data) for track, time, flags, data in blocks
            ]
    return found


VIDEO, AUDIO = MatroskaTrack("vp8", 320, 240), MatroskaTrack("opus")


def test_players_find_all_parts_and_every_keyframe(tmp_path: pathlib.Path) -> None:
    sound = [(1, time, True) for time in range(0, 10_000, 20)]
    pictures = [(0, time, time % 2000 == 0) for time in range(0, 10_000, 40)]
    blocks = sorted([*sound, *pictures], key=lambda each: each[1])
    segment = written(tmp_path / "a.webm", [VIDEO, AUDIO], blocks)
    parts = {kind: position for kind, position, _ in elements(segment)}
    sought = [
        (number(one(content, 0x53AB)), number(one(content, 0x53AC)))
        for kind, _, content in elements(one(segment, SEEK_HEAD))
        if kind == SEEK
    ]
    assert sought == [(kind, parts[kind]) for kind in (INFO, TRACKS, CUES)]
    found = clusters(segment)
    cues = [(number(one(cue, 0xB3)), one(cue, 0xB7)) for _, _, cue in elements(one(segment, CUES))]
    assert [time for time, _ in cues] == [0, 2000, 4000, 6000, 8000], "of the pictures alone"
    for time, place in cues:
        track, position = number(one(place, 0xF7)), number(one(place, 0xF1))
        assert (track, time, 0x80, b"block %d" % time) in found[position]
    written_blocks = [block for position in sorted(found) for block in found[position]]
    assert len(written_blocks) == len(blocks)
    assert {(track, flags) for track, _, flags, _ in written_blocks} == {(1, 0), (1, 0x80), (2, 0x80)}
    assert all(data == b"block %d" % time for _, time, _, data in written_blocks)
    assert struct.unpack(">d", one(segment, INFO, DURATION)) == (9980 + 20,)


def test_without_pictures_the_sound_can_be_sought(tmp_path: pathlib.Path) -> None:
    segment = written(tmp_path / "a.webm", [AUDIO], [(0, time, True) for time in range(0, 3000, 20)])
    times = [number(one(cue, 0xB3)) for _, _, cue in elements(one(segment, CUES))]
    assert times == [0, 500, 1000, 1500, 2000, 2500]
    entry = one(segment, TRACKS, 0xAE)
    assert number(one(entry, 0x56BB)) == 80_000_000, "RFC 9559 §5.1.4.1.26, RFC 7845 §4.6"
    assert number(one(entry, 0x56AA)) == OPUS_DELAY * 1_000_000_000 // 48_000


def test_clusters_are_short_and_reach_no_further_than_a_block_can_tell(tmp_path: pathlib.Path) -> None:
    """Times within a cluster have 16 bits, and a crash costs what is not yet one."""
    blocks = [(1, 0, True), (1, 400, True), (1, 100_000, True), (0, 60_000, True), (1, 100_100, True)]
    blocks += [(1, 100_600, True), (1, 101_200, True), (0, 100_900, False)]
    found = clusters(written(tmp_path / "a.webm", [VIDEO, AUDIO], blocks))
    times = [[time for _, time, _, _ in found[position]] for position in sorted(found)]
    assert times == [[0, 400], [100_000], [60_000], [100_100], [100_600], [100_900, 101_200]]
