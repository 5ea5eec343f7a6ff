"""Decoders, what waits before and after them, and one timeline for all sources of a track."""

import asyncio
import dataclasses
from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import pytest
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from mediapeer.peer.decoding import FrameCounts, TrackDecoder, UnknownCodec, decoder_for
from mediapeer.peer.frames import MAXIMUM_PICTURE, WAITING_FRAMES, EncodedFrames, LatestFrames
from mediapeer.peer.timeline import Timeline
from mediapeer.rtp import EncodedFrame
from tests.media.tracks import settle
from tests.peer.encoding import ENCODERS, SOUND, STEP, Inline, sound, video


def frame(number: int, *, is_keyframe: bool = False, size: int = 10, **fields: Any) -> EncodedFrame:
    return EncodedFrame(
        "vp8",
        bytes(size),
        1,
        STEP * number,
        90_000,
        number / 30,
        is_keyframe,
        **{"payload_type": 96, **fields},
    )


# What waits for a reader


class Waiting(EncodedFrames):
    """Encoded frames that note what was dropped."""

    def __init__(self, kind: str, capacity: int, **options: int) -> None:
        self.dropped: list[int] = []
        super().__init__(
            kind, lambda frame: self.dropped.append(frame.timestamp // STEP), capacity, **options
        )

    def left(self) -> list[int]:
        return [self.get().timestamp // STEP for _ in range(len(self))]


def test_sound_that_does_not_fit_loses_its_oldest() -> None:
    waiting = Waiting("audio", 3)
    assert all(waiting.put(frame(number, is_keyframe=True)) for number in range(5))
    assert waiting.dropped == [0, 1]
    assert waiting.left() == [2, 3, 4]
    with pytest.raises(IndexError):
        waiting.get()


def test_pictures_that_do_not_fit_go_up_to_the_next_keyframe() -> None:
    waiting = Waiting("video", 5)
    for number in range(6):
        assert waiting.put(frame(number, is_keyframe=number in (0, 3)))
    assert waiting.dropped == [0, 1, 2]
    assert waiting.left() == [3, 4, 5]


def test_without_a_keyframe_all_pictures_go_and_one_is_asked_for() -> None:
    waiting = Waiting("video", 3)
    taken = [waiting.put(frame(number, is_keyframe=number in (0, 6))) for number in range(8)]
    assert taken == [True, True, True, False, False, False, True, True]
    assert waiting.dropped == [0, 1, 2, 3, 4, 5]
    assert waiting.left() == [6, 7]


def test_a_gap_behind_what_waits_keeps_what_waits() -> None:
    waiting = Waiting("video", 10)
    waiting.put(frame(0, is_keyframe=True))
    waiting.holds = True
    waiting.skip_to_keyframe()
    assert not waiting.put(frame(1))
    assert waiting.left() == [0]


def test_large_frames_wait_in_small_numbers() -> None:
    waiting = Waiting("video", 100, maximum_bytes=1000)
    for number in range(9):
        waiting.put(frame(number, is_keyframe=number % 3 == 0, size=200))
    assert waiting.dropped == [0, 1, 2, 3, 4, 5]
    assert waiting.left() == [6, 7, 8]
    assert waiting.put(frame(9, is_keyframe=True, size=5000)), "one is taken whatever its size"


# One timeline


def place(timeline: Timeline, **fields: Any) -> int:
    known = {"ssrc": 1, "timestamp": 0, "clock_rate": 90_000, "arrival": 0.0, "is_keyframe": True}
    return timeline.place(EncodedFrame("vp8", b"", **{**known, **fields}))


def test_timestamps_go_on_past_their_32_bits() -> None:
    timeline = Timeline()
    start = 0xFFFFFFFF - 2 * STEP
    places = [place(timeline, timestamp=(start + STEP * n) & 0xFFFFFFFF, arrival=n / 30) for n in range(100)]
    assert places == [STEP * n for n in range(100)]


def test_a_day_without_a_frame_is_a_day_on_the_timeline() -> None:
    timeline = Timeline()
    place(timeline)
    day = 24 * 3600
    assert place(timeline, timestamp=(day * 90_000) & 0xFFFFFFFF, arrival=day + 0.2) == day * 90_000


def test_a_change_of_layers_goes_by_the_clock_of_the_sender_or_by_arrival() -> None:
    timeline = Timeline()
    place(timeline, captured_at=50.0)
    first = place(timeline, timestamp=STEP, arrival=1 / 30, captured_at=50 + 1 / 30)
    other = place(timeline, ssrc=2, timestamp=777, arrival=0.2, captured_at=50.1)
    assert (first, other) == (STEP, 9000)
    unknown = place(timeline, ssrc=3, timestamp=5, arrival=0.3)
    assert unknown == 9000 + 9000
    assert place(timeline, ssrc=1, arrival=0.4, captured_at=50.3) == 27_000
    assert place(timeline, ssrc=2, arrival=0.5, captured_at=9e9) == 36_000, "a clock that cannot be right"


def test_a_source_that_begins_anew_goes_on_by_arrival() -> None:
    timeline = Timeline()
    place(timeline, timestamp=1_000_000)
    assert place(timeline, timestamp=5000, arrival=1.0) == 90_000
    assert place(timeline, timestamp=5000 + STEP, arrival=1.1) == 90_000 + STEP


def test_the_timeline_never_goes_back() -> None:
    timeline = Timeline()
    clock = [5000, 4000, 5000, 5000, 90_000, 0, 1]
    places = [place(timeline, timestamp=timestamp, arrival=1.0) for timestamp in clock]
    assert places == sorted(set(places))
    assert place(timeline, ssrc=9, arrival=0.5) > places[-1], "nor when our own clock does"


def test_another_clock_rate_tells_the_same_time() -> None:
    timeline = Timeline()
    place(timeline, clock_rate=48_000)
    place(timeline, clock_rate=48_000, timestamp=48_000, arrival=1.0)
    assert place(timeline, clock_rate=8_000, timestamp=3, arrival=1.5) == 12_000


# Decoders


@pytest.mark.parametrize("codec", ENCODERS)
def test_pictures_of_every_codec_come_out_at_once(codec: str) -> None:
    frames = video(codec, 4)
    decoder = decoder_for(frames[0])
    for number, encoded in enumerate(frames):
        [picture] = decoder.decode(JitterFrame(encoded.data, STEP * number))
        assert (picture.width, picture.height, picture.format.name) == (64, 48, "yuv420p")
        assert (picture.pts, picture.time_base) == (STEP * number, Fraction(1, 90_000))
        assert bytes(picture.planes[0])[0] == pytest.approx(3 * number, abs=20)


@pytest.mark.parametrize("codec", SOUND)
def test_sound_comes_out_as_of_aiortc(codec: str) -> None:
    frames = sound(codec, 4)
    theirs = get_decoder(RTCRtpCodecParameters(f"audio/{codec}", frames[0].clock_rate))
    ours = decoder_for(frames[0])
    for encoded in frames:
        heard = [d.decode(JitterFrame(encoded.data, encoded.timestamp))[0] for d in (theirs, ours)]
        format = [(f.format.name, f.layout.name, f.sample_rate, f.samples, f.pts, f.time_base) for f in heard]
        assert format[0] == format[1]
        assert bytes(heard[0].planes[0]) == bytes(heard[1].planes[0])


def test_what_cannot_be_decoded_has_no_decoder() -> None:
    with pytest.raises(UnknownCodec):
        decoder_for(dataclasses.replace(frame(0), codec="theora"))


class Decoding:
    """A decoder of a track with everything around it, in the test's hands."""

    def __init__(self, kind: str = "video") -> None:
        self.counts: defaultdict[int, FrameCounts] = defaultdict(FrameCounts)
        self.dropped: Counter[str] = Counter()
        self.asked = 0
        self.executor = Inline()
        self.frames = LatestFrames(kind, self.count)
        self.decoder = TrackDecoder(
            kind,
            self.frames,
            Timeline(),
            counts_of=self.counts.__getitem__,
            count=self.count,
            request_keyframe=self.ask,
            executor=self.executor,
        )

    def count(self, reason: str) -> None:
        self.dropped[reason] += 1

    def ask(self) -> None:
        self.asked += 1

    async def take(self, *frames: EncodedFrame) -> list[Any]:
        """Give it frames, let it work, and return what came out."""
        for encoded in frames:
            self.decoder.take_frame(encoded)
        while self.executor.run():
            await settle(2)
        return [self.frames.get_nowait() for _ in range(self.frames.qsize())]


async def test_decoding_begins_at_a_keyframe() -> None:
    frames = video("vp8", 6, keyframes=(0, 3))
    decoding = Decoding()
    pictures = await decoding.take(*frames[1:])
    assert [picture.pts for picture in pictures] == [0, STEP, 2 * STEP]
    assert decoding.asked == 2
    assert decoding.dropped == {"frames_not_decoded": 2}
    counts = decoding.counts[1]
    assert (counts.frames_decoded, counts.key_frames_decoded, counts.frames_dropped) == (3, 1, 2)
    assert (counts.frame_width, counts.frame_height) == (64, 48)


async def test_no_broken_picture_comes_out_after_a_gap() -> None:
    frames = video("vp8", 8, keyframes=(0, 5))
    frames[2].lost_before = 3
    decoding = Decoding()
    pictures = await decoding.take(*frames)
    assert [picture.pts // STEP for picture in pictures] == [0, 1, 5, 6, 7]
    assert decoding.asked == 3


async def test_a_gap_before_a_keyframe_is_none() -> None:
    frames = video("vp8", 4, keyframes=(0, 2))
    frames[2].lost_before = 3
    decoding = Decoding()
    assert len(await decoding.take(*frames)) == 4
    assert decoding.asked == 0


async def test_sound_goes_on_after_a_gap_which_stays_one() -> None:
    frames = sound("opus", 10)
    decoding = Decoding("audio")
    frames[6].lost_before = 3
    heard = await decoding.take(*frames[:3], *frames[6:])
    assert [piece.pts // 960 for piece in heard] == [0, 1, 2, 6, 7, 8, 9]


async def test_another_source_needs_a_keyframe() -> None:
    small, large = video("vp8", 4), video("vp8", 8, keyframes=(0, 6), size=(128, 96))
    for encoded in large:
        encoded.ssrc = 2
    decoding = Decoding()
    pictures = await decoding.take(*small, *large[4:])
    assert [picture.width for picture in pictures] == [64] * 4 + [128] * 2
    places = [picture.pts for picture in pictures]
    assert places[4] == 6 * STEP, "by arrival"
    assert places == sorted(set(places))
    assert decoding.asked == 2


async def test_another_codec_has_another_decoder() -> None:
    first, second = video("vp8", 3), video("h264", 6, keyframes=(0, 3))
    for encoded in second:
        encoded.payload_type = 102
    decoding = Decoding()
    assert len(await decoding.take(*first, *second[3:])) == 6
    heard = Decoding("audio")
    opus, pcmu = sound("opus", 3), sound("pcmu", 6)
    pieces = await heard.take(*opus, *pcmu[3:])
    assert [piece.sample_rate for piece in pieces] == [48_000] * 3 + [8000] * 3
    assert heard.dropped == {}


async def test_a_decoder_that_fails_is_made_anew_and_begins_at_a_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[EncodedFrame] = []

    def make(encoded: EncodedFrame) -> Any:
        made.append(encoded)
        return decoder_for(encoded)

    monkeypatch.setattr("mediapeer.peer.decoding.decoder_for", make)
    frames = video("vp8", 8, keyframes=(0, 5))
    frames[2].data = b"\x00"
    decoding = Decoding()
    pictures = [picture for encoded in frames for picture in await decoding.take(encoded)]
    assert [picture.pts // STEP for picture in pictures] == [0, 1, 5, 6, 7]
    assert decoding.dropped["decoder_errors"] == 1
    assert decoding.asked == 1 + 2
    assert made == [frames[0], frames[5]]


async def test_what_was_behind_a_failure_is_not_decoded() -> None:
    frames = video("vp8", 8, keyframes=(0, 5))
    frames[2].data = b"\x00"
    decoding = Decoding()
    pictures = await decoding.take(*frames)
    assert [picture.pts // STEP for picture in pictures] == [0, 1, 5, 6, 7]
    assert decoding.asked == 0, "a keyframe was waiting"


async def test_sound_that_cannot_be_decoded_costs_itself_alone() -> None:
    frames = sound("opus", 5)
    frames[2].data = b"\xff"
    decoding = Decoding("audio")
    assert len(await decoding.take(*frames)) == 4
    assert decoding.dropped == {"decoder_errors": 1}
    assert decoding.asked == 0


async def test_an_unknown_codec_is_counted_and_nothing_is_asked_for() -> None:
    decoding = Decoding()
    encoded = [dataclasses.replace(f, codec="theora") for f in video("vp8", 3)]
    assert await decoding.take(*encoded) == []
    assert decoding.dropped == {"undecodable_codecs": 3}
    assert decoding.asked == 0


async def test_a_picture_that_says_it_is_huge_never_sees_a_decoder() -> None:
    frames = video("vp8", 6, keyframes=(0, 4))
    frames[0].width = MAXIMUM_PICTURE
    decoding = Decoding()
    pictures = await decoding.take(*frames)
    assert len(pictures) == 2
    assert decoding.executor.runs == 2
    assert decoding.dropped == {"pictures_too_large": 1, "frames_not_decoded": 3}
    assert decoding.asked == 0, "another would be as large"


async def test_a_picture_that_is_huge_without_saying_so_does_not_come_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mediapeer.peer.decoding._OPTIONS", {"max_pixels": "3000"})
    for codec in ENCODERS:
        frames = video(codec, 2)
        for encoded in frames:
            encoded.width = encoded.height = None
        decoding = Decoding()
        assert await decoding.take(*frames) == [], codec
        assert decoding.dropped["decoder_errors"] == 1


async def test_a_decoder_that_is_behind_goes_on_at_the_next_keyframe() -> None:
    limit = WAITING_FRAMES["video"]
    frames = video("vp8", limit + 20, keyframes=(0, limit - 5))
    decoding = Decoding()
    pictures = await decoding.take(*frames)
    numbers = [picture.pts // STEP for picture in pictures]
    assert len(numbers) == 1 + 25
    assert decoding.dropped == {"frames_not_decoded": limit - 6}
    assert decoding.asked == 0


async def test_one_frame_of_a_track_is_decoded_at_a_time() -> None:
    frames = video("vp8", 5)
    decoding = Decoding()
    for encoded in frames:
        decoding.decoder.take_frame(encoded)
        assert len(decoding.executor.waiting) == 1
    assert len(await decoding.take()) == 5


async def test_what_is_being_decoded_at_the_end_still_comes_out() -> None:
    frames = video("vp8", 3)
    decoding = Decoding()
    for encoded in frames:
        decoding.decoder.take_frame(encoded)
    decoding.decoder.end()
    decoding.decoder.end()
    pictures = await decoding.take(*frames)
    assert [getattr(picture, "pts", None) for picture in pictures] == [0, None]


async def test_nothing_comes_out_of_a_closed_decoder() -> None:
    [encoded] = video("vp8", 1)
    decoding = Decoding()
    decoding.decoder.take_frame(encoded)
    decoding.decoder.close()
    decoding.decoder.end()
    assert await decoding.take(encoded) == []


async def test_a_loop_that_is_closed_meanwhile_is_no_matter() -> None:
    """A thread may finish after everything else."""
    frames = video("vp8", 1)

    def leave() -> Inline:
        async def begin() -> Decoding:
            decoding = Decoding()
            decoding.decoder.take_frame(frames[0])
            return decoding

        return asyncio.run(begin()).executor

    executor = await asyncio.to_thread(leave)
    assert executor.run()
