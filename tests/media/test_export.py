"""Recordings in one file of a chosen format: copied, encoded, joined; and nothing left of what was cancelled."""

import contextlib
import itertools
import os
import pathlib
import subprocess
import threading
from collections.abc import Callable

import av
import pytest

from mediapeer.media.catalog import Catalog, CatalogEntry
from mediapeer.media.export import ExportCancelled, ExportError, ExportOptions, ExportReport, export_recording
from tests.media.films import decoding_errors, make_film, note, probe


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """``talk`` has two files with two seconds between them, the second picture being larger."""
    directory = tmp_path_factory.mktemp("recordings")
    make_film(directory / "talk.webm", 3)
    make_film(directory / "talk-2.webm", 3, size="240x120")
    note(directory, "talk", ("talk.webm", 0, 3), ("talk-2.webm", 5, 3))
    for codec, container in (("h264", "mp4"), ("vp9", "webm"), ("h265", "mkv")):
        make_film(directory / f"{codec}.{container}", 2, video=codec)
    make_film(directory / "sound.webm", 2, video=None)
    make_film(directory / "picture.webm", 2, audio=None)
    make_film(directory / "tracks-video.webm", 2, audio=None)
    make_film(directory / "tracks-audio.webm", 2, video=None)
    manifest = note(directory, "tracks", ("tracks-video.webm", 0, 2), ("tracks-audio.webm", 0.5, 2))
    manifest.segments[0].tracks, manifest.segments[1].tracks = ["v"], ["a"]
    (directory / "tracks.json").write_text(manifest.to_json())
    return Catalog(directory)


def entry_of(catalog: Catalog, name: str) -> CatalogEntry:
    entry = catalog.describe(name)
    if entry is None:
        raise AssertionError(name)
    return entry


@pytest.fixture
def export(catalog: Catalog, tmp_path: pathlib.Path) -> Callable[..., ExportReport]:
    def run(name: str, container: str, video: str = "auto", audio: str = "auto") -> ExportReport:
        options = ExportOptions(container, video, audio)
        report = export_recording(entry_of(catalog, name), tmp_path / f"out.{container}", options)
        assert decoding_errors(report.path) == ""
        assert report.size == report.path.stat().st_size
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        return report

    return run


Export = Callable[..., ExportReport]


def brightness(picture: av.VideoFrame, column: int) -> float:
    """The mean of a column of pixels."""
    plane = picture.planes[0]
    data = bytes(plane)
    return sum(data[row * plane.line_size + column] for row in range(picture.height)) / picture.height


@pytest.mark.parametrize(
    ("name", "container", "copied", "encoded"),
    [
        ("h264", "mp4", {"h264", "opus"}, set()),
        ("h264", "mkv", {"h264", "opus"}, set()),
        ("h264", "webm", {"opus"}, {"h264 → vp9"}),
        ("vp9", "webm", {"vp9", "opus"}, set()),
        ("vp9", "mp4", set(), {"vp9 → h264", "opus → aac"}),
        ("h265", "mp4", {"h265", "opus"}, set()),
        ("h265", "webm", {"opus"}, {"h265 → vp9"}),
    ],
)
def test_what_the_format_takes_is_copied(
    export: Export, name: str, container: str, copied: set[str], encoded: set[str]
) -> None:
    report = export(name, container)
    assert (set(report.copied), set(report.encoded)) == (copied, encoded)
    found = probe(report.path)
    assert found["duration"] == pytest.approx(2, abs=0.1)
    assert int(found["video"]["nb_read_packets"]) == 60


def test_vp8_becomes_an_mp4_for_any_player(export: Export) -> None:
    path = export("talk", "mp4").path
    found = probe(path)
    assert (found["video"]["codec_name"], found["audio"]["codec_name"]) == ("h264", "aac")
    assert found["video"]["pix_fmt"] == "yuv420p"
    # The larger of the two sizes, the other with bars.
    assert (found["video"]["width"], found["video"]["height"]) == (240, 120)
    with av.open(path) as container:
        narrow, *_, wide = list(container.decode(video=0))
    assert [brightness(narrow, column) < 20 for column in (5, 120, 235)] == [True, False, True]
    assert [brightness(wide, column) < 20 for column in (5, 120, 235)] == [False, False, False]


@pytest.mark.parametrize("container", ["webm", "mkv", "mp4"])
def test_parts_are_joined_with_the_gap_between_them(export: Export, container: str) -> None:
    report = export("talk", container)
    found = probe(report.path)
    assert found["duration"] == pytest.approx(8, abs=0.1)
    assert int(found["video"]["nb_read_packets"]) == 180
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "packet=pts_time",
        "-of",
        "csv=p=0",
    ]
    lines = subprocess.run([*command, report.path], check=True, capture_output=True, text=True).stdout.split()
    times = sorted(float(line.rstrip(",")) for line in lines)
    gaps = [(first, second) for first, second in itertools.pairwise(times) if second - first > 0.2]
    [(before, after)] = gaps
    assert before == pytest.approx(3, abs=0.1)
    assert after == pytest.approx(5, abs=0.05)


def test_encoded_sound_is_silent_where_there_was_none(export: Export) -> None:
    report = export("talk", "mp4", video="none")
    command = [
        "ffmpeg",
        "-v",
        "info",
        "-i",
        report.path,
        "-af",
        "silencedetect=n=-50dB:d=0.5",
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    starts = [float(line.split()[-1]) for line in said.splitlines() if "silence_start" in line]
    ends = [
        float(line.split("silence_end: ")[1].split()[0])
        for line in said.splitlines()
        if "silence_end" in line
    ]
    assert starts == [pytest.approx(3, abs=0.1)]
    assert ends == [pytest.approx(5, abs=0.1)]


def test_files_of_one_track_each_are_put_together(export: Export) -> None:
    report = export("tracks", "webm")
    found = probe(report.path)
    assert float(found["audio"]["start_time"]) == pytest.approx(0.5, abs=0.05)
    assert found["duration"] == pytest.approx(2.5, abs=0.1)
    assert int(found["video"]["nb_read_packets"]) == 60


def test_codecs_can_be_asked_for(export: Export) -> None:
    found = probe(export("vp9", "mkv", video="vp8", audio="aac").path)
    assert (found["video"]["codec_name"], found["audio"]["codec_name"]) == ("vp8", "aac")


def test_the_sound_alone_and_the_picture_alone(export: Export) -> None:
    assert "video" not in probe(export("sound", "webm").path)
    assert "audio" not in probe(export("picture", "mkv").path)


def test_progress_grows_to_the_end(catalog: Catalog, tmp_path: pathlib.Path) -> None:
    shares: list[float] = []
    export_recording(entry_of(catalog, "talk"), tmp_path / "x.webm", ExportOptions("webm"), shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 50
    assert (shares[0] < 0.1, shares[-1]) == (True, 1.0)


@pytest.mark.parametrize("container", ["webm", "mp4"])
def test_nothing_is_left_of_what_was_cancelled(
    catalog: Catalog, tmp_path: pathlib.Path, container: str
) -> None:
    target = tmp_path / f"x.{container}"
    asked = iter([False] * 100)
    with pytest.raises(ExportCancelled):
        export_recording(
            entry_of(catalog, "talk"),
            target,
            ExportOptions(container),
            is_cancelled=lambda: next(asked, True),
        )
    assert os.listdir(tmp_path) == []

    def interrupt(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_recording(entry_of(catalog, "talk"), target, ExportOptions(container), interrupt)
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_not_written_over(catalog: Catalog, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "x.webm"
    target.write_text("somebody's")
    entry = entry_of(catalog, "talk")
    with pytest.raises(ExportError, match="is there already"):
        export_recording(entry, target, ExportOptions("webm"))
    assert target.read_text() == "somebody's"
    own = entry.segments[0].path
    with pytest.raises(ExportError, match="of the recording itself"):
        export_recording(entry, own, ExportOptions("webm", overwrite=True))
    export_recording(entry, target, ExportOptions("webm", overwrite=True))
    assert probe(target)["duration"] == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("talk", ExportOptions("avi"), "is not a format"),
        ("talk", ExportOptions("mp4", video="copy"), "does not go into mp4"),
        ("talk", ExportOptions("webm", video="h264"), "h264 does not go into webm"),
        ("talk", ExportOptions("webm", video="none", audio="none"), "no track"),
    ],
)
def test_what_cannot_be_is_said_in_words(
    catalog: Catalog, tmp_path: pathlib.Path, name: str, options: ExportOptions, words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        export_recording(entry_of(catalog, name), tmp_path / "x.mp4", options)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_recording_is_to_be_repaired_first(tmp_path: pathlib.Path) -> None:
    (tmp_path / "talk.webm.part").write_bytes(b"torn")
    with pytest.raises(ExportError, match="repair it first"):
        export_recording(entry_of(Catalog(tmp_path), "talk"), tmp_path / "x.mp4", ExportOptions("mp4"))


def test_a_directory_that_is_not_there_is_said_in_words(catalog: Catalog, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ExportError, match="No such file"):
        export_recording(entry_of(catalog, "talk"), tmp_path / "no" / "x.webm", ExportOptions("webm"))


def test_a_gap_of_years_is_not_filled_with_silence(tmp_path: pathlib.Path) -> None:
    """What says where a file begins need not be so."""
    directory = tmp_path / "recordings"
    directory.mkdir()
    make_film(directory / "talk.webm", 1, video=None)
    make_film(directory / "talk-2.webm", 1, video=None)
    manifest = note(directory, "talk", ("talk.webm", 0, 1), ("talk-2.webm", 1e9, 1))
    for segment in manifest.segments:
        segment.tracks = ["a"]
    (directory / "talk.json").write_text(manifest.to_json())
    entry = entry_of(Catalog(directory), "talk")
    with pytest.raises(ExportError, match="more than a day"):
        export_recording(entry, tmp_path / "out.mp4", ExportOptions("mp4"))
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]


def test_no_picture_is_made_as_large_as_a_peer_may_say(
    catalog: Catalog, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediapeer.media.exporting.MAXIMUM_PIXELS", 200 * 120)
    path = export("talk", "mp4").path
    found = probe(path)["video"]
    assert int(found["width"]) * int(found["height"]) <= 200 * 120 + 1000
    assert int(found["nb_read_packets"]) < 120


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="needs libsvtav1")
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_encoding_av1_takes_no_processor_away_from_others(catalog: Catalog, tmp_path: pathlib.Path) -> None:
    """Neither the thread that exports nor the encoder's own become such of real time, as SVT-AV1 has it for root."""
    meanwhile: set[int] = set()
    after: list[int] = []

    def look(share: float) -> None:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):
                meanwhile.add(os.sched_getscheduler(int(thread)))

    def work() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        options = ExportOptions("webm", video="av1")
        export_recording(entry_of(catalog, "h264"), tmp_path / "out.webm", options, look)
        after.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert after == [os.SCHED_BATCH]
    assert meanwhile <= {os.SCHED_OTHER, os.SCHED_BATCH}
    assert decoding_errors(tmp_path / "out.webm") == ""
