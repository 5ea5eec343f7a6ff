"""Recordings of peers that mean harm, and of processes that get in each other's way."""

import asyncio
import pathlib
import random
import subprocess
import sys
import threading
from typing import Any

import av
import pytest

from mediapeer.media import RecordingError, segments, snapshot
from mediapeer.media.catalog import Catalog
from mediapeer.media.container import StreamFormat, create_file
from mediapeer.media.job import MAXIMUM_ID
from mediapeer.media.manifest import Gap, Manifest, ManifestTrack, Segment, read_manifest
from mediapeer.media.probe import ProbeError, first_picture, open_media
from mediapeer.media.recorder import MAXIMUM_TRACKS
from mediapeer.media.segments import CHANGES, MAXIMUM_CHANGES, MAXIMUM_GAPS
from mediapeer.media.silence import is_silence
from mediapeer.media.sink import FileSink
from mediapeer.media.writer import SharedWriter
from mediapeer.rtp.frame import EncodedFrame
from tests.media.encoded import (
    BEGIN,
    FakeTrack,
    Piece,
    bitstream,
    packets,
    pictures,
    play,
    recorder,
    sound,
    times,
)

ROOT = pathlib.Path(__file__).parent.parent.parent


class Silent:
    """A data channel on which nothing comes."""

    label = "chat"

    def on(self, event: str, f: object) -> None:
        raise AssertionError("nobody listens any more")

    def remove_listener(self, event: str, f: object) -> None: ...


async def test_what_comes_after_the_end_is_not_held(tmp_path: pathlib.Path) -> None:
    audio, late = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", audio)
    play(clock, writer, packets(audio, sound("opus", 10)))
    await asyncio.gather(recording.stop(), recording.stop())
    with pytest.raises(RecordingError):
        recording.add_track(late)
    with pytest.raises(RecordingError):
        recording.record_channel(Silent())
    assert late.consumers == audio.consumers == []


async def test_frames_at_line_rate_make_no_recording_longer(tmp_path: pathlib.Path) -> None:
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video)
    keyframe, other = bitstream("vp8", 2)
    for index in range(20_000):
        clock.now = BEGIN + index / 10_000
        piece = other if index % 1000 else keyframe
        video.give(
            EncodedFrame(
                "vp8", piece.data, 1, index * 9, 90_000, clock.now, piece.is_keyframe, width=320, height=240
            )
        )
        if index % 2000 == 0:
            writer.turn()
    summary = await recording.stop()
    assert summary.duration < 3
    assert summary.dropped["video"] > 15_000


async def test_a_peer_that_never_settles_ends_no_recording(tmp_path: pathlib.Path) -> None:
    """Each change of size makes a file of H.264: so many that the recording would end, within minutes."""
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, manifest=False)
    sizes = [bitstream("h264", 1)[0], bitstream("h264", 1, 640, 360)[0]]
    timestamp = 0
    for index in range(4 * CHANGES):
        timestamp += 54_000
        clock.now = BEGIN + timestamp / 90_000
        piece = sizes[index % 2]
        video.give(
            EncodedFrame(
                "h264", piece.data, 1, timestamp, 90_000, clock.now, True, 96, piece.width, piece.height
            )
        )
        audio.give(
            EncodedFrame("opus", sound("opus")[0], 2, index * 28_800, 48_000, clock.now, True, duration=960)
        )
        writer.turn()
    summary = await recording.stop()
    assert summary.error is None
    assert CHANGES < len(summary.files) < 3 * CHANGES
    assert len(summary.files) < MAXIMUM_CHANGES


async def test_keyframes_of_ever_other_sizes_do_not_hold_up_other_recordings(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To take each apart took a quarter of the thread that writes all of them, for each track."""
    taken: list[bytes] = []
    configure = segments.configuration_of
    monkeypatch.setattr(segments, "configuration_of", lambda *args: taken.append(b"") or configure(*args))
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video)
    sizes = [bitstream("h264", 1)[0], bitstream("h264", 1, 640, 360)[0]]
    for index in range(200):
        clock.now = BEGIN + index / 200
        piece = sizes[index % 2]
        size = piece.width, piece.height
        video.give(EncodedFrame("h264", piece.data, 1, index * 450, 90_000, clock.now, True, 96, *size))
    writer.turn()
    assert 10 < len(taken) <= 20
    assert (await recording.stop()).error is None


def test_sound_that_comes_late_is_in_the_file_to_its_last_packet(tmp_path: pathlib.Path) -> None:
    """Its first packets are put off to what is written, one as soon after the other as the file can tell apart."""
    sink = FileSink(tmp_path / "call.mp4", 0)
    formats = [StreamFormat("video", "h264", 90_000, 320, 240), StreamFormat("audio", "opus", 48_000)]
    file = create_file("mp4", sink, formats, [b"", b""])
    for index, piece in enumerate(bitstream("h264", 30)):
        file.write(0, piece.data, index * 3000, 3000, piece.is_keyframe)
    for index, data in enumerate(sound("opus", 12)):
        file.write(1, data, index * 1800, 1800, True)
    file.close()
    assert len(times(tmp_path / "call.mp4", "audio")) == 12


async def test_no_later_file_begins_with_what_cannot_be_understood(tmp_path: pathlib.Path) -> None:
    """The parameter sets of its first keyframe are a file's: without them nobody can open it, nor hear the sound."""
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", video, audio, segment_duration=1)
    pieces = list(bitstream("h264", 60, gop=15))
    for index in (30, 45):
        _, start, slices = pieces[index].data.rpartition(b"\0\0\1\x65")
        pieces[index] = Piece(start + slices, True, 320, 240)
    pieces += bitstream("h264", 15)
    play(clock, writer, pictures(video, pieces, "h264"), packets(audio, sound("opus", 125)))
    summary = await recording.stop()
    assert summary.error is None
    assert sum(len(times(path, "audio")) for path in summary.files) == 125
    assert len(times(summary.files[-1], "video")) == 15


async def test_what_is_held_for_a_file_is_bounded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediapeer.media.segments.MAXIMUM_HELD", 20_000)
    monkeypatch.setattr("mediapeer.media.job.MAXIMUM_OPENING", 20_000)
    video, never = FakeTrack("video"), FakeTrack("audio")
    recording, _clock, writer = recorder(tmp_path / "call", video, never)
    pieces = bitstream("vp8", 2)
    for index in range(40):
        data = pieces[min(index, 1)].data + random.randbytes(1000)
        video.give(
            EncodedFrame("vp8", data, 1, index * 90, 90_000, BEGIN + index / 1000, not index, 96, 320, 240)
        )
    writer.turn()
    assert recording.bytes_written > 30_000
    await recording.stop()


def test_the_longest_manifest_that_peers_can_cause_is_read() -> None:
    """Where it is not, each file counts as a recording of its own, and deleting the recording leaves all but one."""
    ids = ["\\" * (MAXIMUM_ID - 3) + f"-{number}" for number in range(MAXIMUM_TRACKS)]
    gaps = [Gap(100_000.0001, 100_000.0001)] * MAXIMUM_GAPS
    tracks = [ManifestTrack(id_, "audio", "opus", cname="\\" * 255, gaps=gaps) for id_ in ids]
    date = "2026-11-22T05:00:00.000+00:00"
    segments = [Segment("x" * 40, "webm", 1e5, 1e5, 10**10, date, ids)] * MAXIMUM_CHANGES
    text = Manifest("x", date, tracks=tracks, segments=segments).to_json()
    assert len(Manifest.from_json(text.encode()).segments) == MAXIMUM_CHANGES


async def test_ids_that_peers_choose(tmp_path: pathlib.Path) -> None:
    """They may be as long as a line, and the same for two tracks."""
    tracks = [
        FakeTrack("audio", id="x"),
        FakeTrack("video", id="x"),
        FakeTrack("audio", id="\U0001f600" * 13),
    ]
    recording, clock, writer = recorder(tmp_path / "call", *tracks)
    play(
        clock,
        writer,
        packets(tracks[0], sound("opus", 20)),
        pictures(tracks[1], bitstream("vp8", 12)),
        packets(tracks[2], sound("opus", 20)),
    )
    await recording.stop()
    manifest = read_manifest(tmp_path / "call.json")
    ids = [track.id for track in manifest.tracks]
    assert len(set(ids)) == 3
    assert max(map(len, ids)) < 10
    assert sorted(manifest.segments[0].tracks) == sorted(ids)


def test_a_picture_that_lies_about_its_size_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    large = bitstream("vp9", 1, 640, 480)[0]
    frame = EncodedFrame("vp9", large.data, 1, 0, 90_000, 0.0, True, 96, 16, 16)
    assert snapshot.snapshot_of(frame) is not None
    monkeypatch.setattr(snapshot, "MAXIMUM_PIXELS", 640 * 480 - 1)
    assert snapshot.snapshot_of(frame) is None


async def test_a_large_picture_of_a_torn_file_is_not_decoded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video)
    play(clock, writer, pictures(video, bitstream("vp8", 5)))
    await recording.stop()
    assert first_picture(tmp_path / "call.webm") is not None
    monkeypatch.setattr("mediapeer.media.probe._MAXIMUM_PIXELS", 100)
    assert first_picture(tmp_path / "call.webm") is None


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile other.webm\n", "#EXTM3U\n#EXTINF:1,\nother.webm\n#EXT-X-ENDLIST\n"]
)
async def test_a_file_that_is_a_list_opens_no_others(tmp_path: pathlib.Path, text: str) -> None:
    audio = FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "other", audio)
    play(clock, writer, packets(audio, sound("opus")))
    await recording.stop()
    listing = tmp_path / "list.webm"
    listing.write_text(text)
    with pytest.raises(ProbeError):
        open_media(listing).close()


def test_a_recording_without_a_thread_is_an_error_and_the_next_one_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = SharedWriter(interval=0.001)
    start = threading.Thread.start

    class Job:
        done = threading.Event()

        def work(self) -> bool:
            self.done.set()
            return False

        def finish(self) -> None: ...

    def fail(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError):
        writer.add(Job())
    assert writer.jobs == 0
    monkeypatch.setattr(threading.Thread, "start", start)
    writer.add(Job())
    assert Job.done.wait(10)


#: A program that records, forks, and records in both; the name of its directory is its argument.
FORKING = """
import asyncio, os, sys
from tests.media.encoded import *
from mediapeer.media import Recorder, RecordingOptions
async def record(name):
    audio = FakeTrack("audio")
    recording = Recorder(f"{sys.argv[1]}/{name}", [audio], options=RecordingOptions(minimum_free=0), clock=Clock())
    recording.start()
    for _, give in packets(audio, sound("opus")):
        give()
    return recording
loop = asyncio.new_event_loop()
before = loop.run_until_complete(record("before"))
child = os.fork()
if not child:
    async def again():
        await asyncio.wait_for((await record("child")).stop(), 20)
    asyncio.run(again())
    os._exit(0)
status = os.waitpid(child, 0)[1]
loop.run_until_complete(before.stop())
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_process_that_was_forked_writes_recordings_of_its_own(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert [len(times(tmp_path / f"{name}.webm", "audio")) for name in ("before", "child")] == [100, 100]


async def test_of_two_recordings_of_one_name_the_first_is_left_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes: neither knows of the other, and they look at the same moment."""
    first, second = FakeTrack("audio"), FakeTrack("audio")
    one, clock, writer = recorder(tmp_path / "call", first)
    two, other_clock, other_writer = recorder(tmp_path / "call", second)
    monkeypatch.setattr("mediapeer.media.job.os.path.lexists", lambda path: False)
    play(clock, writer, packets(first, sound("opus")))
    play(other_clock, other_writer, packets(second, sound("opus")))
    with pytest.raises(RecordingError, match="already"):
        await two.stop()
    summary = await one.stop()
    assert summary.error is None
    manifest = read_manifest(tmp_path / "call.json")
    assert (manifest.state, manifest.tracks[0].frames) == ("finished", 100)
    assert av.open(str(tmp_path / "call.webm")).streams.audio


async def test_a_crash_before_the_first_manifest_leaves_the_name_free(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(manifest: Manifest) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "to_json", crash)
        _, _, writer = recorder(tmp_path / "call", FakeTrack("audio"))
        with pytest.raises(KeyboardInterrupt):
            writer.turn()
    assert Catalog(tmp_path).list() == []
    track = FakeTrack("audio")
    again, clock, writer = recorder(tmp_path / "call", track)
    play(clock, writer, packets(track, sound("opus")))
    assert (await again.stop()).error is None


@pytest.mark.parametrize("pause", [None, 0.4, 0.7, 1.5])
@pytest.mark.parametrize("start", [0.33, 0.5])
def test_a_picture_that_stands_still_does_not_abort_the_process(
    tmp_path: pathlib.Path, start: float, pause: float | None
) -> None:
    """FFmpeg's muxer does so when a track begins before what it has written: in a process of its own, therefore."""
    command = [sys.executable, "-c", STILL, str(tmp_path / "call"), str(start), str(pause or 0)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert len(times(tmp_path / "call.mp4", "video")) == (1 if pause is None else 11)
    with av.open(tmp_path / "call.mp4") as container:
        found = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    assert sum(not is_silence(packet) for packet in found) == 60


#: A keyframe, sound from a moment on, and further pictures after a pause, if it is not 0.
STILL = """
import asyncio, itertools, sys
from tests.media.encoded import *
async def record(path, start, pause):
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(path, video, audio, container="mp4")
    pieces = bitstream("h264", 11)
    later = pictures(video, pieces[1:], "h264", start=pause, timestamp=round(pause * 90000)) if pause else ()
    play(clock, writer, pictures(video, pieces[:1], "h264"), later, packets(audio, sound("opus")[:60], start=start))
    await recording.stop()
asyncio.run(record(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
"""
