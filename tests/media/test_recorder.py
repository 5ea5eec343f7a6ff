"""The recorder: what is in the file, when it has its name, and what happens when it cannot be written."""

import asyncio
import json
import pathlib
import subprocess
import threading
from typing import Any

import av
import pytest

from mediapeer.media import RecordingError, RecordingState, WebmRecorder, webm
from tests.media.tracks import Clock, PushTrack, picture, play, settle, tone

BEGIN = 1000.0
Script = list[tuple[float, PushTrack, object]]


@pytest.fixture(autouse=True)
def _patient_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests outruns the encoder, which must not be taken for an encoder that is late."""
    monkeypatch.setattr(webm, "QUEUE_CAPACITY", {"audio": 100_000, "video": 100_000})


def sound(track: PushTrack, seconds: float, begin: float = BEGIN, first: int = 0) -> Script:
    return [(begin + n * 0.02, track, tone(first + n)) for n in range(round(seconds * 50))]


def pictures(track: PushTrack, seconds: float, begin: float = BEGIN, **size: int) -> Script:
    return [(begin + n / 30, track, picture(n, **size)) for n in range(round(seconds * 30))]


def ffprobe(path: pathlib.Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def names(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def packets(path: pathlib.Path, kind: str) -> list[float]:
    """The times of a track's packets, in seconds."""
    with av.open(path) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None]


async def test_a_recording_has_both_tracks_and_the_length_of_the_call(tmp_path: pathlib.Path) -> None:
    clock, audio, video = Clock(), PushTrack("audio"), PushTrack("video")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio, video], clock=clock)
    assert recorder.state is RecordingState.NEW
    recorder.start()
    assert recorder.state is RecordingState.WAITING

    await play(clock, sound(audio, 4) + pictures(video, 4))
    summary = await recorder.stop()

    assert recorder.state is RecordingState.FINISHED
    assert summary.tracks == ("audio", "video")
    assert summary.size == (tmp_path / "call.webm").stat().st_size == recorder.bytes_written
    assert abs(summary.duration - 4) < 0.1
    probe = ffprobe(summary.path)
    assert {stream["codec_name"] for stream in probe["streams"]} == {"opus", "vp8"}
    assert abs(float(probe["format"]["duration"]) - 4) < 0.1
    with av.open(summary.path) as container:
        shown = list(container.decode(video=0))
    assert len(shown) == 120
    assert (shown[0].width, shown[0].height) == (320, 240)
    assert names(tmp_path) == ["call.webm"]


async def test_it_starts_at_zero_in_the_middle_of_a_call(tmp_path: pathlib.Path) -> None:
    """Timestamps count from the beginning of the call, each track's from a point of its own."""
    clock, audio, video = Clock(), PushTrack("audio"), PushTrack("video")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio, video], clock=clock)
    recorder.start()
    late_sound = [
        (moment, track, tone(n, pts=n * 960 + 48_000 * 60))
        for n, (moment, track, _) in enumerate(sound(audio, 2))
    ]
    late_pictures = [
        (moment, track, picture(n, pts=n * 3000 + 90_000 * 7))
        for n, (moment, track, _) in enumerate(pictures(video, 2))
    ]
    await play(clock, late_sound + late_pictures)
    summary = await recorder.stop()

    assert abs(summary.duration - 2) < 0.1
    assert packets(summary.path, "audio")[0] < 0.1
    assert packets(summary.path, "video")[0] < 0.1


async def test_the_file_has_its_name_only_when_it_is_closed(tmp_path: pathlib.Path) -> None:
    clock, audio = Clock(), PushTrack("audio")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio], clock=clock)
    recorder.start()
    await play(clock, sound(audio, 1))
    assert not (tmp_path / "call.webm").exists()
    await recorder.stop()
    assert names(tmp_path) == ["call.webm"]


async def test_pictures_of_another_size_are_fitted_and_not_distorted(tmp_path: pathlib.Path) -> None:
    clock, video = Clock(), PushTrack("video")
    recorder = WebmRecorder(tmp_path / "call.webm", [video], clock=clock)
    recorder.start()
    landscape = [(BEGIN + n / 30, video, picture(n, luma=200)) for n in range(30)]
    portrait = [(BEGIN + n / 30, video, picture(n, luma=200, width=240, height=480)) for n in range(30, 60)]
    await play(clock, landscape + portrait)
    summary = await recorder.stop()

    with av.open(summary.path) as container:
        last = list(container.decode(video=0))[-1]
    assert (last.width, last.height) == (320, 240)
    row = bytes(last.planes[0])[120 * last.planes[0].line_size :][:320]
    assert row[5] < 40  # the bar at the side
    assert row[160] > 150  # the picture


async def test_a_track_that_never_begins_does_not_spoil_the_file(tmp_path: pathlib.Path) -> None:
    clock, audio, video = Clock(), PushTrack("audio"), PushTrack("video")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio, video], clock=clock)
    recorder.start()
    await play(clock, sound(audio, 4))
    for _ in range(5000):  # it is written now, in its thread, and not only when it is stopped
        if recorder.duration > 3:
            break
        await asyncio.sleep(0.001)
    assert recorder.state is RecordingState.RECORDING
    summary = await recorder.stop()
    assert summary.tracks == ("audio",)
    assert abs(summary.duration - 4) < 0.1


async def test_a_gap_stays_a_gap(tmp_path: pathlib.Path) -> None:
    clock, audio = Clock(), PushTrack("audio")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio], clock=clock)
    recorder.start()
    await play(clock, sound(audio, 1) + sound(audio, 1, begin=BEGIN + 3, first=150))
    summary = await recorder.stop()

    assert abs(summary.duration - 4) < 0.1
    times = packets(summary.path, "audio")
    assert not [time for time in times if 1.2 < time < 2.8]


async def test_no_timestamp_makes_a_recording_longer_than_it_took(tmp_path: pathlib.Path) -> None:
    """A peer chooses its RTP timestamps."""
    clock, audio, video = Clock(), PushTrack("audio"), PushTrack("video")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio, video], clock=clock)
    recorder.start()
    leaps = [(BEGIN + 2 + n * 0.02, audio, tone(n, pts=n * 2**31)) for n in range(50)]
    stuck = [(BEGIN + 2 + n / 30, video, picture(n, pts=-(2**31) * n)) for n in range(30)]
    await play(clock, sound(audio, 2) + pictures(video, 2) + leaps + stuck)
    summary = await recorder.stop()
    assert 2 < summary.duration < 3.2
    assert abs(float(ffprobe(summary.path)["format"]["duration"]) - summary.duration) < 0.1


async def test_a_recording_of_nothing_says_so_and_leaves_no_file(tmp_path: pathlib.Path) -> None:
    recorder = WebmRecorder(tmp_path / "call.webm", [PushTrack("audio")], clock=Clock())
    recorder.start()
    with pytest.raises(RecordingError, match="no audio or video arrived"):
        await recorder.stop()
    assert recorder.state is RecordingState.FAILED
    assert names(tmp_path) == []


async def test_a_full_disk_ends_the_recording_and_not_its_readers(tmp_path: pathlib.Path) -> None:
    clock, audio = Clock(), PushTrack("audio")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio], minimum_free=1 << 60, clock=clock)
    recorder.start()
    await play(clock, sound(audio, 4))
    with pytest.raises(RecordingError, match="MB are left on the disk"):
        await recorder.stop()
    assert recorder.state is RecordingState.FAILED
    assert recorder.error is not None
    assert not (tmp_path / "call.webm").exists()


async def test_a_directory_that_is_not_there_is_an_error_in_words(tmp_path: pathlib.Path) -> None:
    clock, audio = Clock(), PushTrack("audio")
    recorder = WebmRecorder(tmp_path / "missing" / "call.webm", [audio], clock=clock)
    recorder.start()
    await play(clock, sound(audio, 3))
    with pytest.raises(RecordingError, match="No such file or directory"):
        await recorder.stop()


async def test_a_file_that_is_there_is_not_written_over(tmp_path: pathlib.Path) -> None:
    clock, audio = Clock(), PushTrack("audio")
    (tmp_path / "call.webm.part").write_text("somebody else's")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio], clock=clock)
    recorder.start()
    await play(clock, sound(audio, 3))
    with pytest.raises(RecordingError, match="File exists"):
        await recorder.stop()
    assert (tmp_path / "call.webm.part").read_text() == "somebody else's"


async def test_stopping_twice_gives_the_same_recording(tmp_path: pathlib.Path) -> None:
    clock, audio = Clock(), PushTrack("audio")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio], clock=clock)
    recorder.start()
    await play(clock, sound(audio, 1))
    assert await recorder.stop() == await recorder.stop()


async def test_recording_nothing_at_all_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RecordingError, match="no audio and no video"):
        WebmRecorder(tmp_path / "call.webm", [])


async def test_an_encoder_that_is_late_costs_frames_and_not_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webm, "QUEUE_CAPACITY", {"audio": 500, "video": 3})
    queue = webm.FrameQueue(["video"])
    for n in range(10):
        queue.put(webm.Item(0, BEGIN, picture(n)))
    assert queue.dropped == {"video": 7}
    queue.close()
    taken = 0
    while queue.get() is not None:
        taken += 1
    assert taken == 3


async def test_frames_that_others_read_are_left_as_they_are(tmp_path: pathlib.Path) -> None:
    clock, audio, video = Clock(), PushTrack("audio"), PushTrack("video")
    recorder = WebmRecorder(tmp_path / "call.webm", [audio, video], clock=clock)
    recorder.start()
    script = sound(audio, 1) + pictures(video, 1)
    before = [(frame.pts, frame.time_base) for _, _, frame in script]  # type: ignore[attr-defined]
    await play(clock, script)
    await recorder.stop()
    assert [(frame.pts, frame.time_base) for _, _, frame in script] == before  # type: ignore[attr-defined]
    await settle()


def test_a_recording_that_nobody_stops_is_finished_when_the_event_loop_ends(tmp_path: pathlib.Path) -> None:
    async def forget() -> None:
        clock, audio = Clock(), PushTrack("audio")
        WebmRecorder(tmp_path / "call.webm", [audio], clock=clock).start()
        await play(clock, sound(audio, 3))

    asyncio.run(forget())
    for thread in threading.enumerate():
        if thread.name.startswith("recording"):
            thread.join(10)
            assert not thread.is_alive()
    assert abs(float(ffprobe(tmp_path / "call.webm")["format"]["duration"]) - 3) < 0.1
