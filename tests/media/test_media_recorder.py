"""Programs that come from aiortc: its recorder's face, and tracks of their own, which are encoded for it."""

import asyncio
import pathlib

import pytest

from mediapeer.media import MediaRecorder, Recorder, RecordingError, RecordingOptions
from mediapeer.media.encoding import TranscodedTrack
from mediapeer.rtp import EncodedFrame
from tests.media.encoded import FakeTrack, bitstream, decode_errors, names, pictures, probe, times
from tests.media.tracks import PushTrack, picture, settle, tone


async def until_read(track: PushTrack) -> None:
    """Wait until the recorder has read everything, in its threads."""
    for _ in range(10_000):
        if track._frames.empty():
            break
        await asyncio.sleep(0.001)
    await settle()


async def test_a_track_of_the_programs_own_is_encoded(tmp_path: pathlib.Path) -> None:
    audio, video = PushTrack("audio"), PushTrack("video")
    recorder = MediaRecorder(tmp_path / "call.webm")
    recorder.addTrack(audio)
    recorder.addTrack(video)
    await recorder.start()
    for n in range(60):
        video.put(picture(n))
    for n in range(100):
        audio.put(tone(n))
    await until_read(video)
    await until_read(audio)
    audio.put(None)
    video.put(None)
    await until_read(video)
    await asyncio.sleep(0.05)
    await recorder.stop()
    assert names(tmp_path) == ["call.png", "call.webm"]
    assert decode_errors(tmp_path / "call.webm") == ""
    assert {each["codec_name"] for each in probe(tmp_path / "call.webm")["streams"]} == {"opus", "vp8"}
    assert len(times(tmp_path / "call.webm", "video")) >= 58
    assert len(times(tmp_path / "call.webm", "audio")) >= 97
    assert audio.readyState == "ended"


async def test_an_encoded_track_is_not_encoded_again(tmp_path: pathlib.Path) -> None:
    video = FakeTrack("video")
    recorder = MediaRecorder(tmp_path / "call.mkv")
    recorder.addTrack(video)
    await recorder.start()
    for _, give in pictures(video, bitstream("h264"), "h264"):
        give()  # type: ignore[operator]
    await recorder.stop()
    [stream] = probe(tmp_path / "call.mkv")["streams"]
    assert (stream["codec_name"], stream["nb_read_packets"]) == ("h264", "60")


async def test_a_kind_of_file_that_it_does_not_make(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="none is wav"):
        MediaRecorder(tmp_path / "call.wav")


async def test_nothing_to_record_is_only_logged(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = MediaRecorder(tmp_path / "call.webm")
    await recorder.start()
    await recorder.stop()
    assert "no audio or video arrived" in caplog.text


async def test_transcoding_is_an_option(tmp_path: pathlib.Path) -> None:
    """The picture changes its size in the middle; the one who reads it too sees it as it was."""
    video = PushTrack("video")
    recorder = Recorder(tmp_path / "call", [video], options=RecordingOptions(transcode=True, minimum_free=0))
    recorder.start()
    given = [picture(n) for n in range(30)] + [picture(n, width=640, height=480) for n in range(30, 60)]
    before = [(frame.pts, frame.time_base, frame.pict_type) for frame in given]
    for frame in given:
        video.put(frame)
    await until_read(video)
    await asyncio.sleep(0.1)
    summary = await recorder.stop()
    assert decode_errors(summary.path) == ""
    assert len(times(summary.path, "video")) >= 59
    assert [(frame.pts, frame.time_base, frame.pict_type) for frame in given] == before


async def test_a_stopped_recorder_reads_no_more(tmp_path: pathlib.Path) -> None:
    audio = PushTrack("audio")
    recorder = MediaRecorder(tmp_path / "call.webm")
    recorder.addTrack(audio)
    await recorder.start()
    audio.put(tone(0))
    await until_read(audio)
    await asyncio.sleep(0.05)
    await recorder.stop()
    audio.put(tone(1))
    await settle()
    assert not audio._frames.empty()


class Consumer:
    """Keeps the timestamps of frames; raises on frame number ``fails_at``."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.timestamps: list[int] = []
        self.ends = 0
        self._fails_at = fails_at

    def take_frame(self, frame: EncodedFrame) -> None:
        self.timestamps.append(frame.timestamp)
        if len(self.timestamps) == self._fails_at:
            raise RuntimeError("full")

    def end(self) -> None:
        self.ends += 1


async def test_a_consumer_that_raises_does_not_end_the_encoding_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = PushTrack("audio")
    track = TranscodedTrack(source)
    broken, sound = Consumer(fails_at=2), Consumer()
    track.subscribe(broken)
    subscription = track.subscribe(sound)
    for n in range(6):
        source.put(tone(n))
    source.put(None)
    await until_read(source)
    for _ in range(1000):
        if sound.ends:
            break
        await asyncio.sleep(0.001)
    assert len(sound.timestamps) >= 4
    assert sound.ends == 1
    assert len(broken.timestamps) == 2
    assert broken.ends == 0
    assert "a consumer of audio did not take a frame" in caplog.text
    subscription.close()


async def test_a_file_that_is_there_is_left_alone_and_nothing_is_lost(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that is run twice; aiortc's recorder writes over the first file."""
    for _ in range(3):
        video = FakeTrack("video")
        recorder = MediaRecorder(tmp_path / "call.mp4")  # VP8 goes into WebM
        recorder.addTrack(video)
        await recorder.start()
        for _, give in pictures(video, bitstream("vp8"), "vp8"):
            give()  # type: ignore[operator]
        await recorder.stop()
    made = ["call", "call-2", "call-3"]
    assert names(tmp_path) == sorted(f"{name}.{suffix}" for name in made for suffix in ("webm", "png"))
    assert [len(times(tmp_path / f"{name}.webm", "video")) for name in made] == [60, 60, 60]
    assert "recording call.mp4 is in call-3.webm" in caplog.text
    assert "was not written" not in caplog.text


@pytest.mark.parametrize("file", ["call.json", "call.webm", "call.mkv.part", "call.data.jsonl"])
async def test_a_name_that_is_taken_is_told_before_the_recording(tmp_path: pathlib.Path, file: str) -> None:
    (tmp_path / file).touch()
    recorder = Recorder(tmp_path / "call")
    with pytest.raises(RecordingError, match=f"a file {file} in .* already: choose another name"):
        recorder.start()
    assert names(tmp_path) == [file]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere/call", "no directory .*nowhere: make it"),
        ("file/call.webm", "no directory .*file: make it"),
        ("", "needs a name"),
        ("a\0b", "needs a name"),
    ],
)
async def test_a_place_where_no_file_can_be_is_told_before_the_recording(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match=words):
        Recorder(path).start()
    with pytest.raises(RecordingError, match=words):
        await MediaRecorder(path).start()
    assert names(tmp_path) == ["file"]
