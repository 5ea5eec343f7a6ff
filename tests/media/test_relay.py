"""One track for several readers."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from aiortc.mediastreams import MediaStreamError

from mediapeer.media import TrackRelay
from mediapeer.media.relay import READING_PATIENCE, RelayedEncodedTrack
from mediapeer.rtp import EncodedFrame, FrameConsumer, RepairCounts
from tests.media.tracks import PushTrack, settle, tone
from tests.peer.encoding import Collector
from tests.transport.virtual import Network, virtual


async def begin(*readings: Coroutine[Any, Any, Any]) -> list["asyncio.Task[Any]"]:
    """Start to read, so that the relay does."""
    tasks = [asyncio.create_task(reading) for reading in readings]
    await settle()
    return tasks


async def test_every_reader_gets_every_frame() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    first, second = relay.subscribe(), relay.subscribe()
    reading = await begin(first.recv(), second.recv())
    frames = [tone(n) for n in range(3)]
    for frame in frames:
        source.put(frame)
    assert await asyncio.gather(*reading) == [frames[0]] * 2
    assert [await first.recv() for _ in frames[1:]] == frames[1:]
    assert [await second.recv() for _ in frames[1:]] == frames[1:]
    await relay.close()


async def test_a_late_reader_loses_the_oldest_frames_and_holds_nobody_up() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    slow, quick = relay.subscribe(capacity=2), relay.subscribe(capacity=10)
    first = tone(0)
    reading = await begin(slow.recv(), quick.recv())
    source.put(first)
    assert await asyncio.gather(*reading) == [first] * 2
    frames = [tone(n) for n in range(1, 6)]
    for frame in frames:
        source.put(frame)
    await settle(20)
    assert slow.dropped == 3
    assert [await slow.recv(), await slow.recv()] == frames[3:]
    assert quick.dropped == 0
    assert await quick.recv() is frames[0]
    await relay.close()


@virtual
async def test_a_track_is_read_only_while_somebody_reads(network: Network) -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    reader = relay.subscribe()
    for n in range(3):
        source.put(tone(n))
    await settle()
    assert relay.frames == 0, "nobody has read"
    await reader.recv()
    await settle()
    assert relay.frames == 3
    await asyncio.sleep(READING_PATIENCE + 1)
    for n in range(3, 6):
        source.put(tone(n))
    await settle(20)
    assert relay.frames == 4, "the first frame that nobody wants is the last that is read"
    frame = await reader.recv()
    assert frame.pts == 4 * 960, "what waited when nobody read is not given out"
    reader.stop()
    await settle()
    source.put(tone(6))
    await settle()
    assert relay.frames == 6
    await relay.close()


class EncodedSource(PushTrack):
    """A track that has encoded frames too."""

    cname = "someone"

    def __init__(self) -> None:
        super().__init__("video")
        self.consumers: list[FrameConsumer] = []
        self.asked = 0
        self.reads = 0

    async def recv(self) -> object:
        self.reads += 1
        return await super().recv()

    def request_keyframe(self) -> None:
        self.asked += 1

    def subscribe(self, consumer: FrameConsumer) -> "Held":
        self.consumers.append(consumer)
        return Held(self, consumer)


class Held:
    def __init__(self, source: EncodedSource, consumer: FrameConsumer) -> None:
        self.source, self.consumer = source, consumer
        self.counts = RepairCounts(received=7)

    def request_keyframe(self) -> None:
        self.source.request_keyframe()

    def close(self) -> None:
        if self.consumer in self.source.consumers:
            self.source.consumers.remove(self.consumer)


def encoded(number: int, *, is_keyframe: bool = True) -> EncodedFrame:
    return EncodedFrame("vp8", b"data", 1, 3000 * number, 90_000, number / 30, is_keyframe)


async def test_encoded_frames_pass_the_relay_and_nothing_is_decoded() -> None:
    source = EncodedSource()
    relay = TrackRelay(source)
    reader = relay.subscribe()
    assert isinstance(reader, RelayedEncodedTrack)
    assert not hasattr(TrackRelay(PushTrack("video")).subscribe(), "subscribe")
    collector, leaving = Collector(), Collector()
    subscription, left = reader.subscribe(collector), reader.subscribe(leaving)
    frame = encoded(0)
    for consumer in list(source.consumers):
        consumer.take_frame(frame)
    assert collector.frames == leaving.frames == [frame]
    assert (subscription.counts.received, reader.cname) == (7, "someone")
    subscription.request_keyframe()
    assert source.asked == 1
    left.close()
    assert len(source.consumers) == 1
    reader.stop()
    assert (collector.ends, leaving.ends) == (1, 0)
    assert source.consumers == []
    late = Collector()
    reader.subscribe(late)
    await settle()
    assert late.ends == 1
    assert source.reads == 0
    await relay.close()
    assert collector.ends == 1


async def test_encoded_frames_of_a_relay_end_with_it() -> None:
    source = EncodedSource()
    relay = TrackRelay(source)
    reader = relay.subscribe()
    assert isinstance(reader, RelayedEncodedTrack)
    frames = reader.encoded(capacity=2)
    [reading] = await begin(anext(frames))
    for number in range(5):
        source.consumers[0].take_frame(encoded(number))
    assert (await reading).timestamp == 3 * 3000, "those before went for want of room"
    assert reader.dropped == 3
    await relay.close()
    assert [frame.timestamp async for frame in frames] == [4 * 3000]
    assert source.consumers == []


async def test_the_end_of_the_track_comes_after_its_last_frame() -> None:
    source = PushTrack("audio")
    relay = TrackRelay(source)
    reader = relay.subscribe()
    source.put(tone(0))
    source.put(None)
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
