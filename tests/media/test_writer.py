"""The thread that all recordings share: order, bounds, errors, and what a hundred of them cost."""

import asyncio
import pathlib
import subprocess
import sys
import threading
import tracemalloc

import pytest

from mediapeer.media import Recorder, RecordingOptions, RecordingState, queue
from mediapeer.media.writer import SharedWriter
from tests.media.encoded import (
    Clock,
    FakeTrack,
    ManualWriter,
    bitstream,
    decode_errors,
    packets,
    pictures,
    play,
    recorder,
    sound,
    times,
)

ROOT = pathlib.Path(__file__).parent.parent.parent


class Job:
    """A recording that works so many turns."""

    def __init__(self, turns: int, fault: bool = False) -> None:
        self.turns, self.fault = turns, fault
        self.threads: set[threading.Thread] = set()
        self.done = threading.Event()

    def work(self) -> bool:
        self.threads.add(threading.current_thread())
        self.turns -= 1
        if self.fault:
            raise RuntimeError("a fault")
        if self.turns <= 0:
            self.done.set()
        return self.turns > 0

    def finish(self) -> None:
        self.done.set()


def test_one_thread_writes_all_and_ends_with_the_last() -> None:
    writer = SharedWriter(interval=0.001)
    jobs = [Job(turns) for turns in (3, 5, 7)]
    for job in jobs:
        writer.add(job)
    assert all(job.done.wait(5) for job in jobs)
    threads = set.union(*(job.threads for job in jobs))
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert writer.jobs == 0
    again = Job(1)
    writer.add(again)
    assert again.done.wait(5)


def test_a_fault_in_one_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    writer = SharedWriter(interval=0.001)
    faulty, sound_one = Job(5, fault=True), Job(5)
    writer.add(faulty)
    writer.add(sound_one)
    assert sound_one.done.wait(5)
    assert "given up" in caplog.text


def test_the_end_of_the_process_finishes_them() -> None:
    writer = SharedWriter(interval=60)
    job = Job(1000)
    writer.add(job)
    writer.end()
    assert job.done.is_set()


async def test_a_writer_that_is_late_costs_a_stretch_and_not_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAXIMUM_FRAMES", 41)
    video = FakeTrack("video")
    recording, _, writer = recorder(tmp_path / "call", video)
    for _, give in pictures(video, bitstream("vp8", 60, gop=10)):
        give()  # type: ignore[operator]
    assert recording.statistics["dropped"] == 20
    writer.turn()
    late = list(pictures(video, bitstream("vp8", 60, gop=10)[5:15], start=2, timestamp=180_000))
    for _, give in late:
        give()  # type: ignore[operator]
    assert video.keyframe_requests > 0
    summary = await recording.stop()
    assert len(times(summary.path, "video")) == 45
    assert decode_errors(summary.path) == ""


async def test_with_the_real_thread(tmp_path: pathlib.Path) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording = Recorder(
        tmp_path / "call", [video, audio], options=RecordingOptions(minimum_free=0), clock=Clock()
    )
    recording.start()
    for script in (pictures(video, bitstream("vp8")), packets(audio, sound("opus"))):
        for _, give in script:
            give()  # type: ignore[operator]
    summary = await recording.stop()
    assert recording.state is RecordingState.FINISHED
    assert decode_errors(summary.path) == ""
    assert len(times(summary.path, "video")) == 60


PROGRAM = """
import asyncio, pathlib, sys
from tests.media.encoded import *
from mediapeer.media import Recorder, RecordingOptions
async def forget():
    audio = FakeTrack("audio")
    recording = Recorder(sys.argv[1], [audio], options=RecordingOptions(minimum_free=0), clock=Clock())
    recording.start()
    for _, give in packets(audio, sound("opus")):
        give()
asyncio.run(forget())
"""


def test_a_recording_that_nobody_stops_is_finished_when_the_process_ends(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "call")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(times(tmp_path / "call.webm", "audio")) == 100


async def test_a_hundred_recordings_do_not_grow(tmp_path: pathlib.Path) -> None:
    clock, writer = Clock(), ManualWriter()
    options = RecordingOptions(minimum_free=0, manifest=False)
    tracks, recordings = [], []
    for number in range(100):
        video, audio = FakeTrack("video"), FakeTrack("audio")
        recording = Recorder(
            tmp_path / f"call{number}", [video, audio], options=options, clock=clock, writer=writer
        )
        recording.start()
        tracks.append((video, audio))
        recordings.append(recording)
    pieces, packets_of_sound = bitstream("vp8"), sound("opus")

    def seconds(first: int, count: int) -> None:
        for second in range(first, first + count):
            at = {"start": float(second)}
            for video, audio in tracks:
                for script in (
                    pictures(video, pieces[:10], timestamp=second * 90_000, **at),
                    packets(audio, packets_of_sound[:10], timestamp=second * 48_000, **at),
                ):
                    for _, give in script:
                        give()  # type: ignore[operator]
            clock.now += 1
            writer.turn()

    tracemalloc.start()
    seconds(0, 2)
    before, _ = tracemalloc.get_traced_memory()
    seconds(2, 4)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # An entry of the index a second each: what there is more of is the frames of one cluster at most.
    assert after - before < 100 * 8_000
    summaries = [await recording.stop() for recording in recordings]
    assert all(abs(summary.duration - 5.33) < 0.1 and not summary.dropped for summary in summaries)


async def test_stopping_may_be_given_up(tmp_path: pathlib.Path) -> None:
    audio = FakeTrack("audio")
    recording = Recorder(tmp_path / "call", [audio], options=RecordingOptions(minimum_free=0), clock=Clock())
    recording.start()
    for _, give in packets(audio, sound("opus")):
        give()  # type: ignore[operator]
    stopping = asyncio.ensure_future(recording.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    summary = await recording.stop()
    assert len(times(summary.path, "audio")) == 100


def test_play_turns_the_writer(tmp_path: pathlib.Path) -> None:
    """The tests' own writer: what is played is written while it plays."""
    writer, turns = ManualWriter(), []

    class Counting(Job):
        def work(self) -> bool:
            turns.append(1)
            return True

    writer.add(Counting(1))
    audio = FakeTrack("audio")
    play(Clock(), writer, packets(audio, sound("opus")))
    assert len(turns) >= 9
