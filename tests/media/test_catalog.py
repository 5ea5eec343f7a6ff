"""What a directory of recordings is said to hold, and what goes when one is deleted."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from mediapeer.media.catalog import Catalog, CatalogError, EntryState
from tests.media.films import note


def put(directory: pathlib.Path, *names: str) -> None:
    for name in names:
        (directory / name).write_bytes(b"media")


@pytest.fixture
def catalog(tmp_path: pathlib.Path) -> Catalog:
    directory = tmp_path / "recordings"
    directory.mkdir()
    return Catalog(directory)


def test_without_a_directory_there_are_none(tmp_path: pathlib.Path) -> None:
    catalog = Catalog(tmp_path / "nowhere")
    assert catalog.list() == []
    assert catalog.describe("x") is None
    assert not catalog.delete("x")


def test_a_finished_recording_says_what_it_is(catalog: Catalog) -> None:
    put(catalog.directory, "talk.webm", "talk-2.webm", "talk.png", "talk.data.jsonl")
    note(
        catalog.directory,
        "talk",
        ("talk.webm", 0, 4),
        ("talk-2.webm", 4, 3.5),
        snapshot="talk.png",
        messages=2,
    )
    [entry] = catalog.list()
    assert (entry.name, entry.state, entry.duration, entry.size) == ("talk", EntryState.FINISHED, 7.5, 10)
    assert entry.codecs == ("vp8", "opus")
    assert [segment.path.name for segment in entry.segments] == ["talk.webm", "talk-2.webm"]
    assert entry.segments[1].media_type == "video/webm"
    assert entry.snapshot == catalog.directory / "talk.png"
    assert entry.data == catalog.directory / "talk.data.jsonl"
    assert entry.created.isoformat() == "2026-01-02T03:04:05+00:00"
    assert json.loads(json.dumps(entry.document()))["segments"][1]["start"] == 4


def test_the_recordings_of_the_first_release_are_still_there(catalog: Catalog) -> None:
    put(catalog.directory, "2026-01-02_03-04-05_abcdef.webm", "bare.webm")
    facts = {
        "duration": 3.2,
        "created": "2026-01-02T03:04:05+00:00",
        "call": "c",
        "tracks": ["audio", "video"],
    }
    (catalog.directory / "2026-01-02_03-04-05_abcdef.json").write_text(json.dumps(facts))
    bare, former = catalog.list()
    assert (former.duration, former.session, former.codecs) == (3.2, "c", ("vp8", "opus"))
    assert (bare.name, bare.duration, bare.state) == ("bare", None, EntryState.FINISHED)


@pytest.mark.parametrize(
    "facts", ["[]", "not json", '{"duration": -1, "tracks": 7, "created": []}', "[" * 100_000]
)
def test_what_lies_beside_a_file_need_not_make_sense(catalog: Catalog, facts: str) -> None:
    put(catalog.directory, "x.webm")
    (catalog.directory / "x.json").write_text(facts)
    [entry] = catalog.list()
    assert (entry.duration, entry.state, entry.tracks) == (None, EntryState.FINISHED, ())


def test_an_empty_manifest_is_no_recording_and_hides_none(catalog: Catalog) -> None:
    """Where a crash comes between the claim of a name and the first manifest, on a file system without links."""
    (catalog.directory / "x.json").touch()
    note(catalog.directory, "talk", ("talk.webm", 0, 4))
    put(catalog.directory, "talk.webm", "y.webm.part")
    (catalog.directory / "y.json").touch()
    states = {entry.name: entry.state for entry in catalog.list()}
    assert states == {"talk": EntryState.FINISHED, "y": EntryState.INTERRUPTED}
    assert catalog.describe("x") is None
    assert catalog.delete("y")
    assert sorted(os.listdir(catalog.directory)) == ["talk.json", "talk.webm", "x.json"]


def test_strangers_files_and_links_are_not_recordings(catalog: Catalog, tmp_path: pathlib.Path) -> None:
    put(tmp_path, "secret.webm")
    put(catalog.directory, "x.webm", "notes.txt", ".hidden.webm", "with space.webm", "é.webm")
    (catalog.directory / "directory.webm").mkdir()
    (catalog.directory / "link.webm").symlink_to(tmp_path / "secret.webm")
    (catalog.directory / "settings.json").write_text('{"tracks": []}')
    os.mkfifo(catalog.directory / "pipe.json")
    assert [entry.name for entry in catalog.list()] == ["x"]


@pytest.mark.parametrize(
    "name", ["../secret", "..", "", ".x", "a/b", "/etc/passwd", "x\n", "x\0", "é", "x.webm"]
)
def test_a_name_leads_nowhere_else(catalog: Catalog, tmp_path: pathlib.Path, name: str) -> None:
    put(tmp_path, "secret.webm")
    put(catalog.directory, "x.webm")
    assert catalog.describe(name) is None
    assert not catalog.delete(name)
    assert (tmp_path / "secret.webm").exists()


def test_what_runs_in_this_process_is_recording(catalog: Catalog) -> None:
    put(catalog.directory, "talk.webm", "talk-2.webm.part")
    note(catalog.directory, "talk", ("talk.webm", 0, 4), ("talk-2.webm.part", 4, 0), state="recording")
    running = Catalog(catalog.directory, lambda name: name == "talk")
    [entry] = running.list()
    assert entry.state is EntryState.RECORDING
    assert [segment.path.name for segment in entry.whole_segments] == ["talk.webm"]
    with pytest.raises(CatalogError, match="is being recorded"):
        running.delete("talk")
    assert (catalog.directory / "talk.webm").exists()


def test_what_another_process_has_open_is_recording(catalog: Catalog) -> None:
    put(catalog.directory, "talk.webm.part")
    note(catalog.directory, "talk", ("talk.webm.part", 0, 0), state="recording")
    program = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, catalog.directory / "talk.webm.part"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        if process.stdout is None:
            raise AssertionError
        process.stdout.readline()
        assert catalog.list()[0].state is EntryState.RECORDING
        process.kill()
    assert catalog.list()[0].state is EntryState.INTERRUPTED


def test_what_nobody_writes_any_more_was_interrupted(catalog: Catalog) -> None:
    put(catalog.directory, "talk.webm", "talk-2.webm.part", "lone.mp4.part")
    note(catalog.directory, "talk", ("talk.webm", 0, 4), state="recording")  # killed before the manifest knew
    lone, talk = catalog.list()
    assert (lone.name, lone.state) == ("lone", EntryState.INTERRUPTED)
    assert (talk.name, talk.state) == ("talk", EntryState.INTERRUPTED)
    assert [segment.path.name for segment in talk.segments] == ["talk.webm", "talk-2.webm.part"]
    assert catalog.describe("talk-2") is None


def test_a_recording_waits_for_its_first_frame_for_a_while(catalog: Catalog) -> None:
    note(catalog.directory, "talk", state="recording")
    assert catalog.list()[0].state is EntryState.RECORDING
    os.utime(catalog.directory / "talk.json", (0, 0))
    assert catalog.list()[0].state is EntryState.INTERRUPTED


def test_a_failed_recording_says_why(catalog: Catalog) -> None:
    note(catalog.directory, "talk", state="failed", error="The disk is full.")
    note(catalog.directory, "gone", ("gone.webm", 0, 4))
    gone, talk = sorted(catalog.list(), key=lambda entry: entry.name)
    assert (talk.state, talk.error) == (EntryState.FAILED, "The disk is full.")
    assert (gone.state, gone.error) == (EntryState.FAILED, "Its files are missing.")


def test_a_recording_goes_with_all_its_files_and_no_others(catalog: Catalog) -> None:
    own = ("talk.webm", "talk-2.webm", "talk.png", "talk.data.jsonl", ".talk.webm.12345678.repairing")
    put(catalog.directory, *own, "talk-3.webm", "talkative.webm")
    note(
        catalog.directory, "talk", ("talk.webm", 0, 4), ("talk-2.webm", 4, 4), snapshot="talk.png", messages=1
    )
    assert catalog.delete("talk")
    assert sorted(os.listdir(catalog.directory)) == ["talk-3.webm", "talkative.webm"]
    assert not catalog.delete("talk")


def test_many_recordings_cost_no_more_each(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("_is_part_of", "_read"):
        method = getattr(Catalog, name)
        monkeypatch.setattr(Catalog, name, lambda *args, _method=method: asked.append("") or _method(*args))
    for number in range(100):
        put(catalog.directory, f"2026-01-02_{number}.webm")
        note(catalog.directory, f"2026-01-02_{number}", (f"2026-01-02_{number}.webm", 0, 4))
    assert {len(entry.files) for entry in catalog.list()} == {2}
    assert len(asked) < 400
    asked.clear()
    entry = catalog.describe("2026-01-02_7")
    assert entry is not None
    assert len(entry.files) == 2
    assert len(asked) < 5


def test_a_manifest_takes_no_other_recordings_files_with_it(catalog: Catalog) -> None:
    put(catalog.directory, "talk.webm", "other.webm", "other.png")
    note(catalog.directory, "talk", ("talk.webm", 0, 4), ("other.webm", 4, 4), snapshot="other.png")
    assert [
        segment.path.name for entry in catalog.list() for segment in entry.segments if entry.name == "talk"
    ] == ["talk.webm"]
    catalog.delete("talk")
    assert sorted(os.listdir(catalog.directory)) == ["other.png", "other.webm"]


def test_a_manifest_takes_no_files_of_names_that_begin_like_its_own(catalog: Catalog) -> None:
    """Names begin with the date: of the year's there would be one to rule them all."""
    put(catalog.directory, "2026-01-02_a.webm", "2026-01-02_b.webm", "2026.webm", "2026-2.webm")
    note(catalog.directory, "2026-01-02_a", ("2026-01-02_a.webm", 0, 4))
    files = ("2026.webm", "2026-2.webm", "2026-01-02_a.webm", "2026-01-02_b.webm")
    note(catalog.directory, "2026", *((file, 0.0, 4.0) for file in files))
    assert catalog.delete("2026")
    assert sorted(os.listdir(catalog.directory)) == [
        "2026-01-02_a.json", "2026-01-02_a.webm", "2026-01-02_b.webm",
    ]  # fmt: skip


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x", "\ud800"])
def test_no_date_of_one_recording_hides_the_others(catalog: Catalog, created: str) -> None:
    put(catalog.directory, "talk.webm", "other.webm")
    note(catalog.directory, "talk", ("talk.webm", 0, 4), created=created)
    assert {entry.name for entry in catalog.list()} == {"talk", "other"}


def test_ten_follows_nine(catalog: Catalog) -> None:
    names = ["talk.webm", *(f"talk-{number}.webm" for number in range(2, 12))]
    put(catalog.directory, *names)
    note(catalog.directory, "talk", state="recording")
    assert [segment.path.name for segment in catalog.list()[0].segments] == names
