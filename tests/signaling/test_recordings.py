"""The directory of recordings: what is shown of it, and what is not."""

import os
import pathlib

import pytest

from mediapeer import AudioStreamTrack
from mediapeer.media import RecordingState, RecordingSummary
from signaling.recordings import RecordingStore
from tests.signaling.support import new_server, serving

NAME = "2026-01-02_03-04-05_abcdef.webm"


class WrittenAtOnce:
    """A recorder whose file is there when it starts."""

    state = RecordingState.FINISHED
    duration = 1.0
    bytes_written = 4
    error = None

    def __init__(self, path: pathlib.Path, tracks: object) -> None:
        self._path = path

    def start(self) -> None:
        self._path.write_bytes(b"webm")

    async def stop(self) -> RecordingSummary:
        return RecordingSummary(self._path, 4, 1.0, ("audio",), {})


@pytest.fixture
def store(tmp_path: pathlib.Path) -> RecordingStore:
    directory = tmp_path / "recordings"
    directory.mkdir()
    return RecordingStore(directory)


def test_only_finished_recordings_are_shown(store: RecordingStore, tmp_path: pathlib.Path) -> None:
    (store.directory / NAME).write_bytes(b"webm")
    (store.directory / "other.webm.part").write_bytes(b"not finished")
    (store.directory / "notes.txt").write_text("somebody's")
    (store.directory / "directory.webm").mkdir()
    (tmp_path / "secret.webm").write_text("secret")
    (store.directory / "link.webm").symlink_to(tmp_path / "secret.webm")
    assert [entry["name"] for entry in store.list()] == [NAME]


def test_a_recording_without_its_facts_is_listed_all_the_same(store: RecordingStore) -> None:
    (store.directory / NAME).write_bytes(b"webm")
    (store.directory / NAME.replace(".webm", ".json")).write_text("[]")
    [entry] = store.list()
    assert entry["size"] == 4
    assert entry["duration"] is None
    assert entry["created"]


@pytest.mark.parametrize(
    "name",
    [
        "../secret.webm",
        "..",
        "",
        ".webm",
        "a/b.webm",
        "/etc/passwd",
        "x.webm\n",
        "x.webm\0",
        "x.json",
        "é.webm",
    ],
)
def test_a_name_leads_nowhere_else(store: RecordingStore, tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "secret.webm").write_text("secret")
    (store.directory / "x.json").write_text("{}")
    assert store.path(name) is None
    assert not store.delete(name)


def test_the_newest_comes_first(store: RecordingStore) -> None:
    for name in ("2026-01-01_00-00-00_aaaaaa.webm", "2026-01-03_00-00-00_aaaaaa.webm", NAME):
        (store.directory / name).write_bytes(b"webm")
    names = [entry["name"] for entry in store.list()]
    assert names == sorted(names, reverse=True)


async def test_no_path_leads_out_of_the_directory_over_http(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.webm").write_text("secret")
    (tmp_path / "recordings").mkdir()
    async with serving(new_server(tmp_path / "recordings")) as client:
        for path in ("..%2Fsecret.webm", "%2e%2e%2fsecret.webm", "..%5Csecret.webm", "%2Fetc%2Fpasswd"):
            response = await client.get(f"/api/recordings/{path}")
            assert response.status == 404
            assert "secret" not in (await response.text()).replace(path, "")


async def test_nothing_of_a_deleted_recording_comes_back(tmp_path: pathlib.Path) -> None:
    store = RecordingStore(tmp_path, WrittenAtOnce)
    recording = store.start("call", [AudioStreamTrack()], None)
    entry = await recording.stop()
    assert sorted(os.listdir(tmp_path)) == [recording.name[:-5] + ".json", recording.name]
    assert store.delete(recording.name)
    assert await recording.stop() == entry
    await recording.close()
    assert os.listdir(tmp_path) == []
