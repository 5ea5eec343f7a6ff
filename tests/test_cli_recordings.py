"""``mediapeer recordings``: what it shows, what it says when it cannot, and that Ctrl-C leaves nothing."""

import io
import json
import os
import pathlib
import pty
import shlex
import signal
import subprocess
import sys
import time

import pytest

from mediapeer import cli
from mediapeer.commands.terminal import ProgressBar, clock, size, table
from tests.media.films import decoding_errors, make_film, note, probe


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_film(tmp_path_factory.mktemp("film") / "film.webm", 3).read_bytes()


@pytest.fixture
def directory(tmp_path: pathlib.Path, film: bytes, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Recordings, one of which was interrupted; the command runs beside them."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    (recordings / "2026-01-02_03-04-05_abcdef.webm").write_bytes(film)
    note(recordings, "2026-01-02_03-04-05_abcdef", ("2026-01-02_03-04-05_abcdef.webm", 0, 3))
    (recordings / "torn.webm.part").write_bytes(film[: len(film) * 2 // 3])
    (recordings / "bad.webm.part").write_bytes(bytes(100))
    (recordings / "noise.webm").write_bytes(bytes(100))
    monkeypatch.chdir(tmp_path)
    return recordings


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    status = cli.main(["recordings", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--help"], ("examples:", "repair --all", "--to mp4")),
        (["export", "--help"], ("examples:", "Ctrl-C", "--video", "--force")),
        (["repair", "--help"], ("--all", ".part")),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["recordings", *arguments])
        assert end.value.code == 0
        said = capsys.readouterr().out
        assert [word for word in words if word not in said] == []


def test_the_list(directory: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run("list", capsys=capsys)
    assert status == 0
    title, *rows = out.splitlines()
    assert title.split() == ["NAME", "STATE", "LENGTH", "SIZE", "FILES", "CODECS"]
    assert sorted(row.split()[:2] for row in rows) == [
        ["2026-01-02_03-04-05_abcdef", "finished"],
        ["bad", "interrupted"],
        ["noise", "finished"],
        ["torn", "interrupted"],
    ]
    assert "vp8 opus" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "recordings repair --all" in err
    listed = json.loads(run("list", "--json", capsys=capsys)[1])
    assert {entry["name"]: entry["state"] for entry in listed}["torn"] == "interrupted"


def test_one_in_detail(directory: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("show", "2026-01-02_03-04-05_abcdef.webm", capsys=capsys)
    assert status == 0
    for word in ("finished", "0:03", "vp8 160x120", "opus", "2026-01-02_03-04-05_abcdef.webm"):
        assert word in out
    shown = json.loads(run("show", "torn", "--json", capsys=capsys)[1])
    assert [track["codec"] for track in shown["tracks"]] == ["vp8", "opus"]
    lines = [line.split() for line in run("show", "torn", capsys=capsys)[1].splitlines()]
    assert ["video", "vp8", "160x120"] in lines
    assert ["audio", "opus"] in lines


def test_what_is_to_be_typed_next_names_the_directory(
    directory: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = directory.rename(directory.with_name("else where"))
    where = ["--dir", str(elsewhere)]
    for arguments in (["show", "of no such name"], ["show", "torn"], ["list"]):
        _, _, err = run(*arguments, *where, capsys=capsys)
        status, *_ = run(*shlex.split(err.strip().split("mediapeer recordings ")[1]), capsys=capsys)
        assert status == (1 if arguments == ["list"] else 0), "one of them cannot be played"


def test_repair_says_what_it_saved(directory: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run("repair", "--all", capsys=capsys)
    assert status == 1, "one of them cannot be played"
    assert "torn: 2." in out or "torn: 1." in out
    assert "recovered" in out
    assert "nothing in bad that can be played" in err
    assert decoding_errors(directory / "torn.webm") == ""
    assert run("repair", "torn", capsys=capsys) == (0, "torn is whole.\n", "")
    (directory / "bad.webm.part").unlink()
    assert run("repair", "--all", capsys=capsys)[:2] == (0, "Nothing was interrupted.\n")


def test_a_file_of_any_name_can_be_repaired(
    directory: pathlib.Path, tmp_path: pathlib.Path, film: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my talk.webm.part"
    path.write_bytes(film[:-1000])
    status, out, _ = run("repair", str(path), capsys=capsys)
    assert (status, "recovered" in out) == (0, True)
    assert decoding_errors(tmp_path / "my talk.webm") == ""


def test_a_file_in_this_directory_can_be_repaired(
    directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(directory)
    assert run("repair", "torn.webm.part", capsys=capsys)[0] == 0
    assert decoding_errors(directory / "torn.webm") == ""


def test_an_export_goes_on_when_nobody_reads_how_far_it_is(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "mediapeer.cli", "recordings", "export", "2026-01-02_03-04-05_abcdef"]
    with os.fdopen(theirs, "w") as unread:
        subprocess.run(
            [*command, "--to", "mkv"], cwd=tmp_path, stdout=unread, stderr=unread, check=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(cli.__file__).parents[1])},
        )  # fmt: skip
    assert decoding_errors(tmp_path / "2026-01-02_03-04-05_abcdef.mkv") == ""


def test_export_writes_a_file_and_says_how_far_it_is(
    directory: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "2026-01-02_03-04-05_abcdef"
    status, out, err = run("export", name, "--to", "mp4", capsys=capsys)
    assert status == 0
    assert "vp8 → h264" in out
    assert f"{name}.mp4: 50%" in err
    assert "\r" not in err
    assert probe(tmp_path / f"{name}.mp4")["video"]["codec_name"] == "h264"
    status, _, err = run("export", name, capsys=capsys)
    assert (status, "--force" in err) == (1, True)
    assert run("export", name, "--force", capsys=capsys)[0] == 0
    assert run("export", name, "-o", "x.mkv", capsys=capsys)[0] == 0
    assert "matroska" in probe(tmp_path / "x.mkv")["format"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--dir", "nowhere"], "there is no directory nowhere"),
        (["show", "tornn"], "did you mean torn?"),
        (["show", "../../etc/passwd"], "there is no recording"),
        (["repair"], "or --all"),
        (["export", "noise"], "noise.webm cannot be read"),
        (["export", "torn"], "repair it first"),
        (["export", "2026-01-02_03-04-05_abcdef", "-o", "x.avi"], "does not say the format"),
        (["export", "2026-01-02_03-04-05_abcdef", "-o", "no/x.mp4"], "there is no directory"),
        (["export", "2026-01-02_03-04-05_abcdef", "--to", "mp4", "--video", "copy"], "does not go into mp4"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    directory: pathlib.Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    before = sorted(os.listdir(directory))
    status, _, err = run(*arguments, capsys=capsys)
    assert status == 1
    assert words in err
    assert err.startswith("mediapeer: ")
    assert sorted(os.listdir(directory)) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_export_leaves_nothing(
    directory: pathlib.Path, tmp_path: pathlib.Path, number: signal.Signals, status: int
) -> None:
    make_film(directory / "long.webm", 10, size="320x240", audio=None)
    command = [sys.executable, "-m", "mediapeer.cli", "recordings", "export", "long", "--to", "webm"]
    with subprocess.Popen(
        [*command, "--video", "av1"], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(cli.__file__).parents[1])},
    ) as process:  # fmt: skip
        if process.stderr is None:
            raise AssertionError
        assert "10%" in process.stderr.readline()
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == status
    assert "Traceback" not in rest
    assert sorted(os.listdir(tmp_path)) == ["recordings"]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        bar = ProgressBar("x.mp4", terminal)
        bar.show(0.2)  # too early to draw
        later = time.monotonic() + 10
        monkeypatch.setattr(time, "monotonic", lambda: later)
        bar.show(0.5)
        bar.clear()
    drawn = os.read(ours, 10_000).decode()
    os.close(ours)
    assert drawn.count("\r") == 3
    assert "x.mp4 [###" in drawn
    assert " 50% 0:" in drawn
    assert "20%" not in drawn
    assert len(drawn.split("\r")[1]) < 60, "a full line would go on in the next"


def test_elsewhere_there_are_lines() -> None:
    stream = io.StringIO()
    bar = ProgressBar("x.mp4", stream)
    for percent in range(101):
        bar.show(percent / 100)
    bar.clear()
    lines = stream.getvalue().splitlines()
    assert len(lines) in (9, 10, 11)
    assert lines[0] == "x.mp4: 10%"


def test_numbers_and_tables_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (None, 0, 75.3, 3661)] == ["-", "0:00", "1:15", "1:01:01"]
    assert [size(count) for count in (0, 1500, 1_234_567, 2_500_000_000)] == [
        "0 kB",
        "2 kB",
        "1.2 MB",
        "2.50 GB",
    ]
    text = table(("NAME", "SIZE"), [("a" * 100, "1 kB"), ("b", "2 kB")], 40)
    assert max(map(len, text.splitlines())) == 40
    assert "…" in text
    assert "a" * 100 in table(("NAME", "SIZE"), [("a" * 100, "1 kB")])
