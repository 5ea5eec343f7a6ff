"""One track for several readers."""

import logging

import pytest
from aiortc.mediastreams import MediaStreamError

from mediapeer.media import TrackRelay
from tests.media.tracks import PushTrack, settle, tone


async def test_every_reader_gets_every_frame() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    first, second = relay.subscribe(), relay.subscribe()
    frames = [tone(n) for n in range(3)]
    for frame in frames:
        source.put(frame)
    assert [await first.recv() for _ in frames] == frames
    assert [await second.recv() for _ in frames] == frames
    await relay.close()


async def test_a_late_reader_loses_the_oldest_frames_and_holds_nobody_up() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    slow, quick = relay.subscribe(capacity=2), relay.subscribe(capacity=10)
    frames = [tone(n) for n in range(5)]
    for frame in frames:
        source.put(frame)
    await settle()
    assert slow.dropped == 3
    assert [await slow.recv(), await slow.recv()] == frames[3:]
    assert quick.dropped == 0
    assert await quick.recv() is frames[0]
    await relay.close()


async def test_a_track_that_nobody_reads_is_emptied() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    for n in range(200):
        source.put(tone(n))
    await settle(400)
    assert relay.frames == 200
    await relay.close()


async def test_the_end_of_the_track_comes_after_its_last_frame() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    reader = relay.subscribe()
    source.put(tone(0))
    source.put(None)
    await settle()
    assert await reader.recv()
    with pytest.raises(MediaStreamError):
        await reader.recv()
    assert reader.readyState == "ended"
    with pytest.raises(MediaStreamError):
        await relay.subscribe().recv()
    await relay.close()


async def test_a_reader_that_leaves_does_not_end_the_others() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    leaving, staying = relay.subscribe(), relay.subscribe()
    leaving.stop()
    with pytest.raises(MediaStreamError):
        await leaving.recv()
    source.put(tone(0))
    assert await staying.recv()
    await relay.close()


async def test_a_track_that_raises_ends_for_its_readers_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    reader = relay.subscribe()
    source.put(RuntimeError("the camera was pulled out"))
    with caplog.at_level(logging.ERROR), pytest.raises(MediaStreamError):
        await reader.recv()
    assert "broke off" in caplog.text
    await relay.close()


async def test_closing_the_relay_ends_its_readers() -> None:
    relay = TrackRelay(PushTrack("video"))
    reader = relay.subscribe()
    await relay.close()
    with pytest.raises(MediaStreamError):
        await reader.recv()
