"""Of what a browser sends in layers the best is recorded, whichever comes and goes, and the files can be played.

The calls are those of tests/e2e/test_recording.py.
"""

import itertools
from typing import Any

import pytest

from tests.e2e.test_recording import chromium, errors_of_sound, make, stream
from tests.tools.browser import BrowserName

__all__ = ["chromium"]

pytestmark = [pytest.mark.browser, pytest.mark.timely]

#: Chromium sends three layers only of pictures of this size and larger ones.
WIDTH, HEIGHT = 960, 544
#: From the best layer to the poorest.
SIMULCAST = [
    {"rid": "f", "maxBitrate": 700_000},
    {"rid": "h", "maxBitrate": 200_000, "scaleResolutionDownBy": 2},
    {"rid": "q", "maxBitrate": 80_000, "scaleResolutionDownBy": 4},
]
SIZES = [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2), (WIDTH // 4, HEIGHT // 4)]
#: For how many seconds the best layer flows, is off, and flows again.
THIRD = 2.5
#: For so many seconds it may be missed, until another one has taken its place with a keyframe.
LONGEST_GAP = 1.0
#: How long it may take until the browser sends the best layer, in seconds.
BEGINNING = 1.5
#: By how many seconds sound and pictures may come out of step when another layer is recorded, or be put right in the
#: call's first seconds: a twentieth of the time.
STEP = 0.3
#: Layers in one stream: by codec and mode.
SCALABLE = [("VP9", "L1T3"), ("VP9", "L3T3_KEY"), ("AV1", "L3T3_KEY")]


def runs_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of pictures of one size in the one file, in order."""
    (file,) = report["files"]
    runs: list[dict[str, Any]] = file["video"]["runs"]
    return runs


def size(run: dict[str, Any]) -> tuple[int, int]:
    """Of a run's pictures."""
    return run["width"], run["height"]


def length(run: dict[str, Any]) -> float:
    """Of a run, in seconds."""
    return float(run["last"] - run["first"])


def assert_it_can_be_played(report: dict[str, Any], left_out: int = 0) -> None:
    """To its end, every picture once.

    :param left_out: how many pictures a decoder may leave out.
    """
    (file,) = report["files"]
    video = file["video"]
    assert (report["state"], report["manifest"]["error"]) == ("finished", None)
    assert file["complaints"] == ""
    written = int(stream(file, "video")["nb_read_packets"])
    assert written - left_out <= video["frames"] <= written
    assert video["numbered"] >= video["frames"] - 1, "broken pictures were recorded"
    assert min(video["likenesses"]) > 30


def test_the_best_layer_of_simulcast_is_recorded_while_it_is_there(chromium: BrowserName) -> None:
    """It is switched off and on again: another takes its place meanwhile, and the recording goes on, in step. Pages
    name the best layer first or last."""
    call = {"codec": "VP8", "seconds": 3 * THIRD, "width": WIDTH, "height": HEIGHT}
    orders = (SIMULCAST, SIMULCAST[::-1])
    reports = make(
        chromium,
        *({**call, "encodings": order, "switches": "f", "watches_source": True} for order in orders),
    )
    for report in reports:
        assert set(report["sent"]["layers"]) == {"f", "h", "q"}
        assert report["sent"]["layers"]["f"]["frameWidth"] == WIDTH
        assert_it_can_be_played(report)
        assert_the_best_comes_and_goes(report)
        errors = [error for _, error in errors_of_sound(report)]
        assert len(errors) >= 2
        assert max(errors) - min(errors) < STEP, errors


def assert_the_best_comes_and_goes(report: dict[str, Any]) -> None:
    """First the best that has come so far, then the best, then the second best, then the best."""
    runs = runs_of(report)
    assert {size(run) for run in runs} <= set(SIZES)
    first, second = (number for number, run in enumerate(runs) if size(run) == SIZES[0])
    assert runs[first]["first"] < BEGINNING
    assert length(runs[first]) > THIRD - 0.5
    assert size(runs[second - 1]) == SIZES[1], "the best of those that are left"
    assert THIRD - LONGEST_GAP < runs[second]["first"] - runs[first]["last"] < THIRD + 1
    assert second == len(runs) - 1
    assert length(runs[second]) > THIRD - 0.5
    assert report["files"][0]["video"]["longest_gap"] < LONGEST_GAP
    received = report["received"]["video"]["rids"]
    assert received["f"] == pytest.approx(report["sent"]["layers"]["f"]["framesSent"], rel=0.1)


def test_layers_in_one_stream_are_recorded_together(chromium: BrowserName) -> None:
    """With several spatial layers each picture is there once, in the size of the highest that has come."""
    camera = {"width": WIDTH, "height": HEIGHT, "seconds": 3}
    calls = [
        {**camera, "codec": codec, "encodings": [{"scalabilityMode": mode, "maxBitrate": 1_000_000}]}
        for codec, mode in SCALABLE
    ]
    for (codec, mode), report in zip(SCALABLE, make(chromium, *calls), strict=True):
        assert report["sent"]["video"]["scalabilityMode"] == mode
        spatial, temporal = int(mode[1]), int(mode[3])
        layers = report["received"]["video"]["layers"]
        assert {layer for _, layer in layers} == set(range(temporal)), "they were sent"
        assert max(layer for layer, _ in layers) == spatial - 1
        # A decoder of AV1 waits for the highest layer, which the browser sends some pictures later.
        assert_it_can_be_played(report, left_out=10 if codec == "AV1" and spatial > 1 else 0)
        runs = runs_of(report)
        assert size(runs[-1]) == SIZES[0]
        assert length(runs[-1]) > 2
        assert all(size(before) < size(after) for before, after in itertools.pairwise(runs))
        assert report["files"][0]["video"]["longest_gap"] < 0.5
