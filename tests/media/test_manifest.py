"""The manifest beside a recording: what is written comes back, and nothing else is believed."""

import dataclasses
import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.media.manifest import (
    Gap,
    Manifest,
    ManifestError,
    ManifestTrack,
    PacketCounts,
    RecordedData,
    Segment,
    read_manifest,
    write_manifest,
)


def whole() -> Manifest:
    """A manifest with a value in every field."""
    return Manifest(
        session="a-call",
        created="2026-01-02T03:04:05+00:00",
        state="finished",
        error="The disk is full.",
        duration=12.5,
        size=1000,
        tracks=[
            ManifestTrack(
                "v", "video", "vp8", 1280, 720, 90_000, None, "someone", 300, 4, 2,
                PacketCounts(900, 10, 8, 2), [Gap(3.25, 0.5)], 1,
            )
        ],
        segments=[Segment("a.webm", "webm", 0.0, 12.5, 1000, "2026-01-02T03:04:05+00:00", ["v"])],
        data=RecordedData("a.data.jsonl", 3),
        snapshot="a.png",
    )  # fmt: skip


def test_what_is_written_comes_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.json"
    write_manifest(path, Manifest(session="before"))
    write_manifest(path, whole())
    assert read_manifest(path) == whole()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    values = json.loads(path.read_text())
    assert values["tracks"][0]["packets"] == {"received": 900, "lost": 10, "repaired": 8, "given_up": 2}
    assert values["tracks"][0]["gaps"] == [{"start": 3.25, "duration": 0.5}]


@pytest.mark.parametrize("has_links", [True, False])
def test_the_first_manifest_takes_no_other_ones_place(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError("no links on this file system")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.json"
    write_manifest(path, whole(), is_first=True)
    with pytest.raises(FileExistsError):
        write_manifest(path, Manifest(session="another"), is_first=True)
    assert read_manifest(path) == whole()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_text_that_has_no_encoding_is_written_all_the_same(tmp_path: pathlib.Path) -> None:
    write_manifest(tmp_path / "a.json", Manifest(session="half of a \ud83d"))
    assert read_manifest(tmp_path / "a.json").session == "half of a ?"


def test_no_text_gives_orders_to_a_terminal() -> None:
    manifest = whole()
    manifest.error = "\x1b[2J\u202egone \ud800"
    manifest.tracks[0].id = manifest.segments[0].tracks[0] = "\x9b1"
    read = Manifest.from_json(json.dumps({"version": 1, **dataclasses.asdict(manifest)}))
    assert read.error == "\ufffd[2J\ufffdgone \ufffd"
    assert read.tracks[0].id == read.segments[0].tracks[0] == "\ufffd1"


def test_a_field_from_later_does_no_harm() -> None:
    values = json.loads(whole().to_json()) | {"colour": "red"}
    values["tracks"][0]["colour"] = "red"
    assert Manifest.from_json(json.dumps(values)) == whole()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"tracks": None},
        {"segments": [3]},
        {"segments": [{"file": "../a.webm"}]},
        {"segments": [{"file": ""}]},
        {"segments": [{"file": "a.webm", "duration": float("nan")}]},
        {"segments": [{"file": "a.webm", "tracks": [1]}]},
        {"data": {"file": "/etc/passwd"}},
        {"snapshot": "a/b.png"},
        {"state": "unheard of"},
        {"size": -1},
        {"duration": True},
        {"session": 5},
        {"tracks": [{"id": "a", "gaps": [4]}]},
        {"tracks": [{"id": None}]},
        {"tracks": [{"packets": []}]},
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object]) -> None:
    values = json.loads(whole().to_json()) | change
    with pytest.raises(ManifestError):
        Manifest.from_json(json.dumps(values))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists))
def test_any_json_is_a_manifest_or_the_typed_error(value: object) -> None:
    for name in ("tracks", "segments", "data", "snapshot", "size", "session"):
        values = json.loads(whole().to_json()) | {name: value}
        try:
            Manifest.from_json(json.dumps(values))
        except ManifestError:
            continue


def test_deep_nesting_is_the_typed_error() -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json("[" * 200_000)


def test_no_link_is_followed(tmp_path: pathlib.Path) -> None:
    write_manifest(tmp_path / "a.json", whole())
    os.symlink(tmp_path / "a.json", tmp_path / "b.json")
    with pytest.raises(OSError):
        read_manifest(tmp_path / "b.json")
