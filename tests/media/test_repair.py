"""Files that were torn anywhere become whole, and ffmpeg agrees."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys

import pytest

from mediapeer.media import repair
from mediapeer.media.catalog import Catalog, EntryState
from mediapeer.media.manifest import read_manifest
from mediapeer.media.probe import packets_of
from mediapeer.media.repair import RepairError, repair_file, repair_recording
from tests.media.films import decoding_errors, make_film, note, probe

ROOT = pathlib.Path(__file__).parent.parent.parent
SECONDS = 4
FILMS = [("webm", "vp8", "libopus"), ("mkv", "h264", "pcm_s16le"), ("mp4", "h264", "libopus")]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    directory = tmp_path_factory.mktemp("films")
    return {
        container: make_film(directory / f"film.{container}", SECONDS, video=video, audio=audio)
        for container, video, audio in FILMS
    }


def tear(film: pathlib.Path, part: pathlib.Path, share: float) -> int:
    """Leave so much of a film; returns the bytes."""
    data = film.read_bytes()
    length = int(len(data) * share)
    part.write_bytes(data[:length])
    return length


@pytest.mark.parametrize("container", ["webm", "mkv", "mp4"])
def test_a_torn_file_is_whole_again(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path, container: str
) -> None:
    dice = random.Random(container)
    whole = probe(films[container])
    for share in [0.3, 0.999, *(dice.uniform(0.3, 1) for _ in range(6))]:
        part = tmp_path / f"talk.{container}.part"
        tear(films[container], part, share)
        file = repair_file(part)
        assert file.path == tmp_path / f"talk.{container}"
        assert not part.exists()
        assert decoding_errors(file.path) == "", share
        found = probe(file.path)
        assert found["duration"] == pytest.approx(file.duration, abs=0.1), share
        # The bytes are not spread evenly; a fragment of MP4 has half a second.
        assert found["duration"] > SECONDS * share - 1.2, share
        assert int(found["video"]["nb_read_packets"]) <= int(whole["video"]["nb_read_packets"])
        assert int(found["video"]["nb_read_packets"]) >= 30 * (found["duration"] - 0.6), share
        assert os.listdir(tmp_path) == [f"talk.{container}"]


def test_a_file_that_ends_within_the_head_of_a_fragment_is_whole_again(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    data = films["mp4"].read_bytes()
    head = data.index(b"moof", len(data) // 2)
    for end in (head, head + 5, head + 150):
        part = tmp_path / "talk.mp4.part"
        part.write_bytes(data[:end])
        file = repair_file(part)
        assert decoding_errors(file.path) == ""
        assert probe(file.path)["duration"] > SECONDS * 0.5 - 1.2


@pytest.mark.parametrize("container", ["webm", "mkv", "mp4"])
def test_zeros_and_noise_behind_the_end_do_no_harm(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path, container: str
) -> None:
    whole = probe(films[container])
    for tail in (bytes(70_000), random.Random(1).randbytes(20_000)):
        part = tmp_path / f"talk.{container}.part"
        tear(films[container], part, 0.8)
        with part.open("ab") as file:
            file.write(tail)
        repaired = repair_file(part)
        assert whole["duration"] * 0.5 < probe(repaired.path)["duration"] < whole["duration"] + 0.5


@pytest.mark.parametrize("content", [b"", b"\x1a\x45\xdf\xa3", bytes(5000), b"ftypisom" * 100])
@pytest.mark.parametrize("container", ["webm", "mp4"])
def test_where_there_is_nothing_to_play_the_file_stays(
    tmp_path: pathlib.Path, content: bytes, container: str
) -> None:
    part = tmp_path / f"talk.{container}.part"
    part.write_bytes(content)
    with pytest.raises(RepairError, match=r"talk\."):
        repair_file(part)
    assert part.read_bytes() == content
    assert os.listdir(tmp_path) == [part.name]


def test_a_header_alone_is_nothing_to_play(films: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    part = tmp_path / "talk.webm.part"
    part.write_bytes(films["webm"].read_bytes()[:600])
    with pytest.raises(RepairError, match=r"played|read"):
        repair_file(part)
    assert part.exists()


def test_the_torn_file_stays_when_the_disk_takes_no_more(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "talk.webm.part"
    tear(films["webm"], part, 0.7)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RepairError, match="No space left"):
        repair_file(part)
    assert os.listdir(tmp_path) == [part.name]


def test_the_torn_file_stays_when_something_is_missing_in_the_whole_one(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "talk.webm.part"
    tear(films["webm"], part, 0.7)
    monkeypatch.setattr(repair, "packets_of", lambda *rest: list(packets_of(*rest))[:-1])
    with pytest.raises(RepairError, match="1 frames would be lost"):
        repair_file(part)
    assert os.listdir(tmp_path) == [part.name]


def test_a_recording_is_repaired_with_its_manifest(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    shutil.copy(films["webm"], tmp_path / "talk.webm")
    tear(films["webm"], tmp_path / "talk-2.webm.part", 0.6)
    (tmp_path / "talk.data.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"te')
    note(tmp_path, "talk", ("talk.webm", 0, SECONDS), ("talk-2.webm.part", SECONDS, 0), state="recording")
    catalog = Catalog(tmp_path)
    report = repair_recording(catalog, "talk")
    assert [file.path.name for file in report.files] == ["talk-2.webm"]
    assert report.files[0].duration > 1
    assert report.duration == pytest.approx(SECONDS + report.files[0].duration)

    manifest = read_manifest(tmp_path / "talk.json")
    assert (manifest.session, manifest.state) == ("session", "finished")
    assert "interrupted" in (manifest.error or "")
    assert [segment.file for segment in manifest.segments] == ["talk.webm", "talk-2.webm"]
    assert manifest.segments[1].start == SECONDS
    counted = sum(int(probe(tmp_path / s.file)["video"]["nb_read_packets"]) for s in manifest.segments)
    assert {track.id: track.frames for track in manifest.tracks}["v"] == counted
    assert manifest.data is not None
    assert manifest.data.messages == 2
    assert (tmp_path / "talk.png").read_bytes().startswith(b"\x89PNG")

    [entry] = catalog.list()
    assert (entry.state, entry.snapshot is not None) == (EntryState.FINISHED, True)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    again = repair_recording(catalog, "talk")
    assert (again.files, again.lost) == ((), ())
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_a_part_alone_is_enough(films: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    tear(films["mp4"], tmp_path / "talk.mp4.part", 0.8)
    repair_recording(Catalog(tmp_path), "talk")
    [entry] = Catalog(tmp_path).list()
    assert entry.state is EntryState.FINISHED
    assert entry.codecs == ("h264", "opus")
    assert sorted(os.listdir(tmp_path)) == ["talk.json", "talk.mp4", "talk.png"]


def test_a_repair_that_was_cut_off_is_done_again(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    tear(films["webm"], tmp_path / "talk.webm.part", 0.8)
    tear(films["webm"], tmp_path / "talk.webm", 0.4)  # renamed, but the part was not removed
    note(tmp_path, "talk", ("talk.webm.part", 0, 0), state="recording")
    report = repair_recording(Catalog(tmp_path), "talk")
    assert probe(tmp_path / "talk.webm")["duration"] == pytest.approx(report.duration, abs=0.1)
    assert report.duration > 2
    assert not (tmp_path / "talk.webm.part").exists()


def test_all_closed_but_for_the_manifest(films: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    shutil.copy(films["webm"], tmp_path / "talk.webm")
    note(tmp_path, "talk", ("talk.webm.part", 0, 0), state="recording")
    report = repair_recording(Catalog(tmp_path), "talk")
    assert report.files == ()
    manifest = read_manifest(tmp_path / "talk.json")
    assert (manifest.state, manifest.segments[0].file) == ("finished", "talk.webm")
    assert manifest.duration == pytest.approx(SECONDS, abs=0.1)


def test_what_cannot_be_repaired_is_said_in_words(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    catalog = Catalog(tmp_path, lambda name: name == "running")
    (tmp_path / "running.webm.part").write_bytes(b"")
    (tmp_path / "empty.webm.part").write_bytes(b"")
    (tmp_path / "talk.wav.part").write_bytes(b"RIFF")
    with pytest.raises(RepairError, match="is being recorded"):
        repair_recording(catalog, "running")
    with pytest.raises(RepairError, match="nothing in empty that can be played"):
        repair_recording(catalog, "empty")
    with pytest.raises(RepairError, match="There is no recording"):
        repair_recording(catalog, "nobody")
    with pytest.raises(RepairError, match="is none of"):
        repair_file(tmp_path / "talk.wav.part")
    assert len(os.listdir(tmp_path)) == 3


def test_what_can_be_played_is_kept_when_another_file_cannot(
    films: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    shutil.copy(films["webm"], tmp_path / "talk.webm")
    (tmp_path / "talk-2.webm.part").write_bytes(bytes(100))
    note(tmp_path, "talk", ("talk.webm", 0, SECONDS), ("talk-2.webm.part", SECONDS, 0), state="recording")
    report = repair_recording(Catalog(tmp_path), "talk")
    assert report.lost == ("talk-2.webm.part",)
    assert (tmp_path / "talk-2.webm.unplayable").read_bytes() == bytes(100)
    catalog = Catalog(tmp_path)
    assert catalog.list()[0].state is EntryState.FINISHED
    assert catalog.delete("talk")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("video", "audio", "container"),
    [("vp8", "opus", "webm"), ("h264", "opus", "mp4"), ("h264", "pcmu", "mkv"), ("vp9", "g722", "mkv")],
)
def test_what_a_killed_recorder_left_is_whole_again(
    tmp_path: pathlib.Path, video: str, audio: str, container: str
) -> None:
    path = str(tmp_path / "call")
    command = [sys.executable, "-m", "tests.media.test_crash", path, video, audio, f"{container},1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise AssertionError
        given = 0.0
        for line in process.stdout:
            given = float(line.split()[0])
            if given >= 3:
                os.kill(process.pid, signal.SIGKILL)
                break
    catalog = Catalog(tmp_path)
    assert catalog.list()[0].state is EntryState.INTERRUPTED
    report = repair_recording(catalog, "call")
    assert report.duration > given - 1
    [entry] = catalog.list()
    assert (entry.state, set(entry.codecs)) == (EntryState.FINISHED, {video, audio})
    whole = tmp_path / f"call.{container}"
    assert decoding_errors(whole) == ""
    found = probe(whole)
    assert found["duration"] == pytest.approx(report.duration, abs=0.1)
    counted = {track.kind: track.frames for track in entry.tracks}
    assert int(found["video"]["nb_read_packets"]) == counted["video"] > 30 * (given - 1)
    assert counted["audio"] > 50 * (given - 1)
