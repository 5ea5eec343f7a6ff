"""The file under a muxer."""

import pathlib

import pytest

from mediapeer.media.sink import FileSink


def test_a_file_that_could_not_be_made_can_be_closed(tmp_path: pathlib.Path) -> None:
    """Python itself does so, and newer ones say what comes of it."""
    sink = FileSink.__new__(FileSink)
    with pytest.raises(FileNotFoundError):
        sink.__init__(tmp_path / "nowhere" / "file", 0)  # type: ignore[misc]
    sink.close()
    assert sink.closed
