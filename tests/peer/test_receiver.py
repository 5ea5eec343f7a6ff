"""A received track: who takes it, in which form, and what is done for nobody."""

import asyncio
import gc
import logging
from typing import Any

import aiortc
import pytest
from aiortc.mediastreams import MediaStreamError

from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.peer.track import READING_PATIENCE, RemoteTrack
from mediapeer.rtp import EncodedFrame, InboundStream
from tests.media.tracks import settle
from tests.peer.encoding import STEP, Collector, Inline, receiver_of, sound, video
from tests.transport.virtual import Network, virtual


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Inline:
    """The threads that decode, in the test's hands."""
    inline = Inline()
    monkeypatch.setattr("mediapeer.peer.decoding._pool", lambda: inline)
    return inline


async def decode(threads: Inline) -> None:
    """Let the threads do all there is to do, and the loop take it."""
    await settle()
    while threads.run():
        await settle()


def give(receiver: RTCRtpReceiver, frames: list[EncodedFrame]) -> None:
    """What the transport does: frames come only for those who want them."""
    for frame in frames:
        if receiver.is_wanted:
            receiver.take_frame(frame)


async def begin(track: RemoteTrack) -> "asyncio.Task[Any]":
    reading = asyncio.create_task(track.recv())
    await settle()
    return reading


async def test_nothing_is_decoded_unless_it_is_read(threads: Inline) -> None:
    receiver, transport = receiver_of("video")
    frames = video("vp8", 6, keyframes=(0, 3))
    assert not receiver.is_wanted
    collector = Collector()
    subscription = receiver.track.subscribe(collector)
    assert receiver.is_wanted
    assert transport.media.asked == ["0"], "a consumer begins with a keyframe"
    give(receiver, frames[:3])
    assert collector.frames == frames[:3]
    assert not threads.run()
    reading = await begin(receiver.track)
    give(receiver, frames[3:])
    await decode(threads)
    assert (await reading).pts == 0
    assert [(await receiver.track.recv()).pts for _ in range(2)] == [STEP, 2 * STEP]
    assert collector.frames == frames
    subscription.close()
    subscription.close()
    assert receiver.is_wanted, "it is still read"


@virtual
async def test_a_track_that_is_not_read_any_more_is_not_decoded(network: Network) -> None:
    receiver, transport = receiver_of("video")
    threads = Inline()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mediapeer.peer.decoding._pool", lambda: threads)
        frames = video("vp8", 9, keyframes=(0, 6))
        reading = await begin(receiver.track)
        await asyncio.sleep(3 * READING_PATIENCE)
        give(receiver, frames[:3])
        await decode(threads)
        assert (await reading).pts == 0, "who waits for long still reads"
        await asyncio.sleep(READING_PATIENCE - 0.1)
        give(receiver, frames[3:4])
        assert receiver.is_wanted
        await asyncio.sleep(0.2)
        give(receiver, frames[4:5])
        assert not receiver.is_wanted
        reading = await begin(receiver.track)
        assert receiver.is_wanted
        assert transport.media.asked == ["0", "0"]
        give(receiver, frames[5:])
        await decode(threads)
        frame = await reading
        assert frame.pts == 6 * STEP, "it begins at a keyframe, where the time has gone on"


@pytest.mark.parametrize("way", ["handle_disconnect", "stop"])
async def test_frames_that_were_decoded_come_before_the_end(threads: Inline, way: str) -> None:
    receiver, _ = receiver_of("video")
    ends: list[str] = []
    receiver.track.on("ended", lambda: ends.append("ended"))
    collector = Collector()
    receiver.track.subscribe(collector)
    reading = await begin(receiver.track)
    give(receiver, video("vp8", 3))
    await decode(threads)
    for _ in range(2):
        if way == "stop":
            await receiver.stop()
        else:
            receiver.handle_disconnect()
    assert collector.ends == 1
    assert not receiver.is_wanted
    assert (ends, receiver.track.readyState) == (["ended"], "ended")
    assert [(await reading).pts, (await receiver.track.recv()).pts, (await receiver.track.recv()).pts] == [
        0, STEP, 2 * STEP,
    ]  # fmt: skip
    for _ in range(2):
        with pytest.raises(MediaStreamError):
            await receiver.track.recv()
    assert ends == ["ended"]


async def test_who_waits_at_the_end_hears_of_it(threads: Inline) -> None:
    receiver, _ = receiver_of("audio")
    readings = [await begin(receiver.track) for _ in range(3)]
    receiver.handle_disconnect()
    for outcome in await asyncio.gather(*readings, return_exceptions=True):
        assert isinstance(outcome, MediaStreamError)


async def test_what_is_being_decoded_at_the_end_is_waited_for(threads: Inline) -> None:
    receiver, _ = receiver_of("video")
    reading = await begin(receiver.track)
    give(receiver, video("vp8", 2))
    receiver.handle_disconnect()
    await decode(threads)
    assert (await reading).pts == 0
    with pytest.raises(MediaStreamError):
        await receiver.track.recv()


async def test_a_track_that_nobody_reads_ends_at_once() -> None:
    receiver, _ = receiver_of("audio")
    ends: list[str] = []
    receiver.track.on("ended", lambda: ends.append("ended"))
    receiver.handle_disconnect()
    await receiver.stop()
    assert ends == ["ended"]


async def test_a_program_that_stops_a_track_wants_no_more_of_it(threads: Inline) -> None:
    receiver, _ = receiver_of("video")
    collector = Collector()
    receiver.track.subscribe(collector)
    reading = await begin(receiver.track)
    receiver.track.stop()
    with pytest.raises(MediaStreamError):
        await reading
    assert collector.ends == 1
    assert not receiver.is_wanted
    late = Collector()
    receiver.track.subscribe(late)
    assert late.ends == 0, "not before it has its subscription"
    await settle()
    assert late.ends == 1


async def test_encoded_frames_are_read_from_a_keyframe_to_the_end() -> None:
    receiver, transport = receiver_of("video")
    frames = video("vp8", 6, keyframes=(0, 2))
    heard: list[EncodedFrame] = []

    async def read() -> None:
        async for frame in receiver.track.encoded():
            heard.append(frame)

    reading = asyncio.create_task(read())
    await settle()
    give(receiver, frames[1:])
    receiver.handle_disconnect()
    await reading
    assert heard == frames[2:]
    assert transport.counters == {}


async def test_a_loop_that_is_left_wants_no_more() -> None:
    receiver, _ = receiver_of("audio")

    async def read() -> None:
        async for _ in receiver.track.encoded():
            break

    reading = asyncio.create_task(read())
    await settle()
    assert receiver.is_wanted
    give(receiver, sound("opus", 1))
    await reading
    gc.collect()
    await settle()
    assert not receiver.is_wanted


async def test_a_slow_reader_of_encoded_frames_goes_on_at_a_keyframe() -> None:
    receiver, transport = receiver_of("video")
    frames = video("vp8", 12, keyframes=(0, 9))
    encoded = receiver.track.encoded(capacity=4)
    first = asyncio.create_task(anext(encoded))
    await settle()
    give(receiver, frames[:1])
    assert await first is frames[0]
    give(receiver, frames[1:])
    assert transport.counters == {"encoded_frames_not_read": 8}
    assert len(transport.media.asked) > 1
    assert [await anext(encoded) for _ in range(3)] == frames[9:]
    await encoded.aclose()
    assert not receiver.is_wanted


async def test_a_consumer_that_raises_is_logged_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    receiver, _ = receiver_of("audio")

    class Broken(Collector):
        def take_frame(self, frame: EncodedFrame) -> None:
            super().take_frame(frame)
            raise ZeroDivisionError("a defect of the program")

        def end(self) -> None:
            raise ZeroDivisionError("another")

    broken, whole, late = Broken(), Collector(), Broken()
    receiver.track.subscribe(broken)
    receiver.track.subscribe(whole)
    frames = sound("opus", 3)
    with caplog.at_level(logging.ERROR):
        give(receiver, frames)
        receiver.track.subscribe(late)
        receiver.handle_disconnect()
    assert (len(broken.frames), whole.frames, whole.ends) == (1, frames, 1)
    assert len(caplog.records) == 2


async def test_a_consumer_may_send_another_away() -> None:
    receiver, _ = receiver_of("audio")

    class Jealous(Collector):
        def take_frame(self, frame: EncodedFrame) -> None:
            super().take_frame(frame)
            subscription.close()

    jealous, other, late = Jealous(), Collector(), Collector()
    receiver.track.subscribe(jealous)
    subscription = receiver.track.subscribe(other)
    give(receiver, sound("opus", 2))
    receiver.handle_disconnect()
    receiver.track.subscribe(late).close()
    await settle()
    assert (len(jealous.frames), jealous.ends) == (2, 1)
    assert (other.frames, other.ends, late.ends) == ([], 0, 0)


async def test_what_is_known_of_a_track_outlives_its_section() -> None:
    receiver, transport = receiver_of("video")
    track = receiver.track
    assert track.cname is None
    stream = InboundStream(1, "0")
    stream.cname, stream.last_arrival = "someone", asyncio.get_running_loop().time()
    old, repair = InboundStream(2, "0"), InboundStream(3, "0")
    old.last_arrival = stream.last_arrival - 11
    repair.is_retransmission, repair.last_arrival = True, stream.last_arrival
    transport.media.inbound = [stream, old, repair, InboundStream(4, "1")]
    transport.media.repairs.received = 10
    assert track.cname == "someone"
    assert [source.source for source in receiver.getSynchronizationSources()] == [1]
    assert receiver.getContributingSources() == []
    subscription = track.subscribe(Collector())
    receiver.handle_disconnect()
    transport.media.inbound = []
    transport.media.repairs = type(transport.media.repairs)()
    assert (track.cname, subscription.counts.received) == ("someone", 10)


async def test_keyframes_are_asked_for_of_video_in_a_section() -> None:
    for kind, mid, asked in (("video", "0", ["0"]), ("audio", "0", []), ("video", None, [])):
        receiver, transport = receiver_of(kind)
        receiver.mid = mid
        receiver.track.request_keyframe()
        assert transport.media.asked == asked


async def test_statistics_tell_what_became_of_frames(threads: Inline) -> None:
    receiver, transport = receiver_of("video")
    transport.media.inbound = [InboundStream(1, "0")]
    reading = await begin(receiver.track)
    give(receiver, video("vp8", 5, keyframes=(0, 3))[1:])
    await decode(threads)
    await reading
    [entry] = (await receiver.getStats()).values()
    assert (entry.type, entry.ssrc, entry.trackIdentifier) == ("inbound-rtp", 1, receiver.track.id)
    assert (entry.framesReceived, entry.framesDecoded, entry.keyFramesDecoded) == (4, 2, 1)
    assert (entry.framesDropped, entry.frameWidth, entry.frameHeight) == (2, 64, 48)


async def test_the_counts_of_sources_that_come_and_go_are_bounded() -> None:
    receiver, _ = receiver_of("video")
    for ssrc in range(1000):
        receiver.counts_of(ssrc)
    assert len(receiver._frame_counts) < 40


async def test_muting_is_told_when_it_changes() -> None:
    receiver, _ = receiver_of("audio")
    events: list[str] = []
    receiver.track.on("mute", lambda: events.append("mute"))
    receiver.track.on("unmute", lambda: events.append("unmute"))
    for muted in (True, False, False, True):
        receiver.track._set_muted(muted)
    assert events == ["unmute", "mute"]


async def test_a_receiver_that_is_switched_off_gives_nothing() -> None:
    receiver, _ = receiver_of("audio")
    collector = Collector()
    receiver.track.subscribe(collector)
    receiver._enabled = False
    give(receiver, sound("opus", 1))
    assert collector.frames == []


def test_it_has_what_programs_for_aiortc_use() -> None:
    theirs = {name for name in dir(aiortc.RTCRtpReceiver) if not name.startswith("_")}
    assert theirs - set(dir(RTCRtpReceiver)) == {"receive", "setTransport"}
    codecs = {codec.mimeType for codec in RTCRtpReceiver.getCapabilities("video").codecs}
    assert {"video/VP8", "video/H264", "video/rtx"} <= codecs


async def test_a_closed_transport_has_no_receivers() -> None:
    _, transport = receiver_of("audio")
    transport.state = "closed"
    with pytest.raises(aiortc.InvalidStateError):
        RTCRtpReceiver("audio", transport)  # type: ignore[arg-type]


async def test_real_threads_decode_in_order() -> None:
    receiver, _ = receiver_of("audio")
    reading = await begin(receiver.track)
    give(receiver, sound("opus", 60))
    heard = [await reading] + [await receiver.track.recv() for _ in range(59)]
    assert [piece.pts for piece in heard] == [960 * number for number in range(60)]
    receiver.handle_disconnect()
