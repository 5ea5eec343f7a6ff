"""What a sender reads: one timeline out of tracks that come, end and are replaced."""

import asyncio
from fractions import Fraction

import pytest
from aiortc.mediastreams import MediaStreamError

from mediapeer.peer.feed import TrackFeed
from tests.media.tracks import PushTrack, picture, settle, tone


def seconds(frame: object) -> Fraction:
    return frame.pts * frame.time_base  # type: ignore[attr-defined]


async def test_frames_of_the_first_track_pass_as_they_are() -> None:
    feed, track = TrackFeed("video"), PushTrack("video")
    feed.attach(track)
    first = picture(3)
    track.put(first)
    assert await feed.recv() is first


async def test_the_timeline_goes_on_when_a_track_is_replaced() -> None:
    feed, one, other = TrackFeed("video"), PushTrack("video"), PushTrack("video")
    feed.attach(one)
    one.put(picture(300))
    before = await feed.recv()
    feed.attach(other)
    shared = picture(0, luma=77)
    other.put(shared)
    other.put(picture(1))
    first, second = await feed.recv(), await feed.recv()
    assert seconds(before) < seconds(first) < seconds(before) + 1
    assert seconds(second) - seconds(first) == Fraction(1, 30)
    assert shared.pts == 0, "others may read this frame too"
    assert bytes(first.planes[0])[0] == 77


async def test_sound_is_replaced_in_the_same_way() -> None:
    feed, one, other = TrackFeed("audio"), PushTrack("audio"), PushTrack("audio")
    feed.attach(one)
    one.put(tone(50))
    before = await feed.recv()
    feed.attach(other)
    other.put(tone(0))
    after = await feed.recv()
    assert seconds(after) > seconds(before)
    assert (after.sample_rate, after.samples, after.layout.name) == (48_000, 960, "stereo")
    assert bytes(after.planes[0]) == bytes(tone(0).planes[0])


async def test_a_reader_does_not_wait_for_a_track_that_was_taken_away() -> None:
    feed, silent, other = TrackFeed("video"), PushTrack("video"), PushTrack("video")
    feed.attach(silent)
    reading = asyncio.create_task(feed.recv())
    await settle()
    feed.attach(other)
    other.put(picture(0))
    assert (await asyncio.wait_for(reading, 1)).pts == 0


async def test_after_the_end_of_a_track_the_feed_waits_for_the_next() -> None:
    feed, one, other = TrackFeed("video"), PushTrack("video"), PushTrack("video")
    feed.attach(one)
    one.put(None)
    reading = asyncio.create_task(feed.recv())
    await settle()
    assert not reading.done()
    feed.attach(other)
    other.put(picture(0))
    await asyncio.wait_for(reading, 1)


async def test_without_a_track_it_waits_and_a_stop_ends_that() -> None:
    feed = TrackFeed("audio")
    reading = asyncio.create_task(feed.recv())
    await settle()
    assert not reading.done()
    feed.stop()
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(reading, 1)


async def test_cancelling_the_reader_is_not_taken_for_a_replacement() -> None:
    feed, silent = TrackFeed("video"), PushTrack("video")
    feed.attach(silent)
    reading = asyncio.create_task(feed.recv())
    await settle()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_stop_stops_the_track() -> None:
    feed, track = TrackFeed("video"), PushTrack("video")
    feed.attach(track)
    feed.stop()
    assert track.readyState == "ended"
