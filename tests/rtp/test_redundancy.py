"""Redundant audio (RFC 2198) fills what was lost."""

import pytest

from mediapeer.rtp import PayloadFormat
from tests.rtp.packets import OPUS
from tests.rtp.receiving import FEEDBACK, Scene, Source, sound_scene

RED = 63
STEP = 960


def block(offset: int, data: bytes, payload_type: int = OPUS) -> tuple[bytes, bytes]:
    """A redundant block: its header and its data."""
    header = bytes([0x80 | payload_type]) + (offset << 10 | len(data)).to_bytes(3, "big")
    return header, data


def red(primary: bytes, *blocks: tuple[bytes, bytes], payload_type: int = OPUS) -> bytes:
    """A payload of RFC 2198."""
    headers = b"".join(header for header, _ in blocks) + bytes([payload_type])
    return headers + b"".join(data for _, data in blocks) + primary


def sound(number: int) -> bytes:
    """What the packet of this number says."""
    return b"\x78%d" % number


def redundant(number: int, distance: int = 1) -> bytes:
    """A payload with those before it."""
    before = [block(STEP * back, sound(number - back)) for back in range(min(distance, number), 0, -1)]
    return red(sound(number), *before)


def scene_and_source(**changes: object) -> tuple[Scene, Source]:
    """A section that receives Opus in RED."""
    formats = {OPUS: PayloadFormat("opus", 48000, channels=2), RED: PayloadFormat("red", 48000)}
    return sound_scene(formats=formats, feedback=FEEDBACK, **changes), Source(9, payload_type=RED)


def test_the_primary_is_what_the_packet_says() -> None:
    scene, source = scene_and_source()
    for number in range(5):
        scene.sound(source, redundant(number))
    assert [frame.data for frame in scene.frames] == [sound(number) for number in range(5)]
    assert {frame.codec for frame in scene.frames} == {"opus"}
    assert scene.receiver.counts.received == 5
    assert not scene.counters


@pytest.mark.parametrize("distance", [1, 2])
def test_what_is_lost_is_filled_at_once_and_in_order(distance: int) -> None:
    scene, source = scene_and_source()
    scene.lost = lambda n: 3 <= n < 3 + distance
    for number in range(8):
        scene.sound(source, redundant(number, distance))
    assert [frame.data for frame in scene.frames] == [sound(number) for number in range(8)]
    assert [frame.timestamp for frame in scene.frames] == [STEP * n for n in range(1, 9)]
    assert [frame.lost_before for frame in scene.frames] == 8 * [0]
    assert scene.nacks == []
    counts = scene.receiver.counts
    assert (counts.received, counts.lost, counts.repaired) == (8 - distance, distance, distance)
    scene.give(scene.sent[9, 3])
    assert scene.counters == {"duplicate_rtp": 1}


def test_what_redundancy_does_not_reach_is_asked_for() -> None:
    scene, source = scene_and_source()
    scene.receiver.round_trip_time = 0.03
    scene.lost = lambda n: n in (3, 4)
    for number in range(7):
        scene.sound(source, redundant(number))
    scene.wait(0.001)
    assert {n for _, request in scene.nacks for n in request.sequence_numbers} == {3}
    assert len(scene.frames) == 3
    del scene.nacks[1:]
    scene.answer_nacks()
    assert [frame.data for frame in scene.frames] == [sound(number) for number in range(7)]
    counts = scene.receiver.counts
    assert (counts.lost, counts.repaired, counts.given_up) == (2, 2, 0)


def test_an_empty_block_fills_nothing() -> None:
    scene, source = scene_and_source()
    scene.lost = lambda n: n == 1
    scene.sound(source, red(sound(0)))
    scene.sound(source, red(sound(1)))
    scene.sound(source, red(sound(2), block(STEP, b"")))
    scene.wait(1)
    assert (scene.receiver.counts.lost, scene.receiver.counts.given_up) == (1, 1)
    assert [frame.lost_before for frame in scene.frames] == [0, 1]


def test_a_block_whose_time_does_not_fit_fills_nothing() -> None:
    """The packet between two was another's, an event's: the block is the one before that, which has come."""
    scene, source = scene_and_source()
    scene.lost = lambda n: n == 1
    scene.sound(source, red(sound(0)))
    scene.send(source, b"")
    scene.sound(source, red(sound(2), block(STEP, sound(0))))
    scene.wait(1)
    assert [frame.data for frame in scene.frames] == [sound(0), sound(2)]
    assert scene.receiver.counts.given_up == 1


def test_malformed_redundancy_is_counted_and_ends_nothing() -> None:
    scene, source = scene_and_source()
    scene.sound(source, redundant(0))
    scene.sound(source, b"\xef\xff")
    scene.sound(source, red(b"", block(0, b"", RED), payload_type=RED))
    scene.sound(source, redundant(3))
    assert [frame.data for frame in scene.frames] == [sound(0), sound(3)]
    assert scene.counters == {"malformed_payload": 1}
