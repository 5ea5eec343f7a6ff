"""The directory of recordings: what is shown of it, and what is not."""

import asyncio
import os
import pathlib

import pytest

from mediapeer import AudioStreamTrack
from mediapeer.media import RecordingError, RecordingOptions, RecordingState, RecordingSummary
from mediapeer.media.catalog import CatalogError
from signaling.recordings import PICTURE_TIME, RecordingStore
from tests.signaling.support import new_server, serving

NAME = "2026-01-02_03-04-05_abcdef"


class WrittenAtOnce:
    """A recorder whose file is there when it starts."""

    duration = 1.0
    bytes_written = 4
    error = None

    def __init__(self, path: pathlib.Path, tracks: object, options: RecordingOptions) -> None:
        self.state = RecordingState.NEW
        self.added: list[object] = []
        self.pictures = 0
        self._path = path.with_suffix(".webm")

    def start(self) -> None:
        self.state = RecordingState.RECORDING
        self._path.write_bytes(b"webm")

    def add_track(self, track: object) -> None:
        if self.added:
            raise RecordingError("That is one too many.")
        self.added.append(track)

    def record_channel(self, channel: object) -> None:
        self.added.append(channel)

    def snapshot(self) -> bytes | None:
        self.pictures += 1
        return b"png"

    async def stop(self) -> RecordingSummary:
        self.state = RecordingState.FINISHED
        return RecordingSummary(self._path, 4, 1.0, ("audio",), {})


@pytest.fixture
def store(tmp_path: pathlib.Path) -> RecordingStore:
    directory = tmp_path / "recordings"
    directory.mkdir()
    return RecordingStore(directory, WrittenAtOnce)


def test_a_recording_of_the_first_release_is_listed_and_played(store: RecordingStore) -> None:
    (store.directory / f"{NAME}.webm").write_bytes(b"webm")
    (store.directory / f"{NAME}.json").write_text("[]")
    [entry] = store.list()
    assert (entry["name"], entry["size"], entry["duration"], entry["state"]) == (NAME, 4, None, "finished")
    assert entry["created"]
    assert (entry["url"], entry["thumbnail"], entry["manifest"]) == (f"/api/recordings/{NAME}", None, None)
    for name in (NAME, f"{NAME}.webm"):
        segment = store.segment(name)
        assert segment is not None
        assert segment.path == store.directory / f"{NAME}.webm"


def test_only_whole_files_are_handed_out(store: RecordingStore) -> None:
    (store.directory / "torn.webm.part").write_bytes(b"webm")
    [entry] = store.list()
    assert (entry["state"], entry["url"], entry["segments"][0]["url"]) == ("interrupted", None, None)
    assert store.segment("torn") is None
    assert store.segment("torn.webm.part") is None


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
async def test_a_name_leads_nowhere_else(store: RecordingStore, tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "secret.webm").write_text("secret")
    (store.directory / "x.json").write_text("{}")
    (store.directory / "link.webm").symlink_to(tmp_path / "secret.webm")
    for wanted in (name, "link", "link.webm"):
        assert store.segment(wanted) is None
        assert store.manifest_path(wanted) is None
        assert store.data_path(wanted) is None
        assert await store.thumbnail(wanted) is None
        assert not store.delete(wanted)
    assert (tmp_path / "secret.webm").exists()


async def test_a_running_recording_is_listed_as_such_and_stays(store: RecordingStore) -> None:
    recording = store.start("call", [AudioStreamTrack()], None)
    [entry] = store.list()
    assert (entry["state"], entry["duration"], entry["size"]) == ("recording", 1.0, 4)
    assert entry["thumbnail"]
    assert await store.thumbnail(recording.name) == b"png"
    with pytest.raises(CatalogError, match="is being recorded"):
        store.delete(recording.name)
    await recording.stop()
    assert store.list()[0]["state"] == "finished"
    assert await store.thumbnail(recording.name) is None


async def test_many_who_look_at_a_running_recording_cost_one_decoding(store: RecordingStore) -> None:
    now = 100.0
    store.clock = lambda: now
    recording = store.start("call", [AudioStreamTrack()], None)
    hasty = asyncio.create_task(store.thumbnail(recording.name))
    await asyncio.sleep(0)
    hasty.cancel()
    pictures = await asyncio.gather(*(store.thumbnail(recording.name) for _ in range(10)))
    assert pictures == [b"png"] * 10
    assert recording.recorder.pictures == 1  # type: ignore[attr-defined]
    now += PICTURE_TIME - 0.5
    await store.thumbnail(recording.name)
    assert recording.recorder.pictures == 1  # type: ignore[attr-defined]
    now += 0.5
    await store.thumbnail(recording.name)
    assert recording.recorder.pictures == 2  # type: ignore[attr-defined]
    await recording.stop()


async def test_a_track_too_many_is_left_out(store: RecordingStore) -> None:
    recording = store.start("call", [AudioStreamTrack()], None)
    for _ in range(3):
        recording.add_track(AudioStreamTrack())
    assert len(recording.recorder.added) == 1  # type: ignore[attr-defined]
    await recording.stop()
    recording.add_track(AudioStreamTrack())
    recording.add_channel(None)  # type: ignore[arg-type]
    assert len(recording.recorder.added) == 1  # type: ignore[attr-defined]


async def test_no_path_leads_out_of_the_directory_over_http(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.webm").write_text("secret")
    (tmp_path / "recordings").mkdir()
    async with serving(new_server(tmp_path / "recordings")) as client:
        for path in ("..%2Fsecret.webm", "%2e%2e%2fsecret.webm", "..%5Csecret.webm", "%2Fetc%2Fpasswd"):
            response = await client.get(f"/api/recordings/{path}")
            assert response.status == 404
            assert "secret" not in (await response.text()).replace(path, "")


async def test_nothing_of_a_deleted_recording_comes_back(store: RecordingStore) -> None:
    recording = store.start("call", [AudioStreamTrack()], None)
    entry = await recording.stop()
    assert os.listdir(store.directory) == [entry["file"]]
    assert store.delete(recording.name)
    assert await recording.stop() == entry
    await recording.close()
    assert os.listdir(store.directory) == []
