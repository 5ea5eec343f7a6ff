"""What browsers send is in the recording as they have encoded it, in step, whatever befalls it on the way.

The calls are made by a program in a sandbox, tests/e2e/recording_scenario.py; here its report is judged.
"""

import datetime
import statistics
from typing import Any

import pytest

from tests.e2e.clip import nearest
from tests.e2e.test_calls import SIGNS_OF_TROUBLE
from tests.tools.browser import BrowserName, missing_programs
from tests.tools.sandbox import run_module

pytestmark = [pytest.mark.browser, pytest.mark.timely]

#: What is sent of each kind, by browser: the name in our answer, that in frames, that in files, and what files are.
CODECS: dict[BrowserName, dict[str, tuple[str, str]]] = {
    "chromium": {
        "VP8": ("vp8", "webm"),
        "VP9": ("vp9", "webm"),
        "H264": ("h264", "mp4"),
        "AV1": ("av1", "webm"),
    },
    "firefox": {"VP8": ("vp8", "webm"), "VP9": ("vp9", "webm"), "AV1": ("av1", "webm")},
}
#: By how many seconds sound and pictures may be out of step.
IN_STEP = 0.020
#: Seconds in which nothing arrives.
OUTAGE = 3.0
#: How like to the source pictures must be, in dB.
LIKENESS = 30.0


def make(browser: BrowserName, *calls: dict[str, Any], timeout_seconds: float = 100) -> list[dict[str, Any]]:
    """Make the calls with one browser; nothing may have gone wrong in silence."""
    options = {"calls": [{"browser": browser, **call} for call in calls]}
    result = run_module("tests.e2e.recording_scenario", options, timeout_seconds=timeout_seconds)
    assert [sign for sign in SIGNS_OF_TROUBLE if sign in result["output"]] == [], result["output"]
    assert result["console"] == []
    reports: list[dict[str, Any]] = result["reports"]
    return reports


@pytest.fixture
def chromium(usable_sandbox: None) -> BrowserName:
    """The browser whose camera and microphone can be files."""
    if missing := missing_programs("chromium"):
        pytest.skip(f"needs {' and '.join(missing)}")
    return "chromium"


def test_every_codec_is_recorded_as_it_was_sent(browser: BrowserName) -> None:
    codecs = CODECS[browser]
    reports = make(browser, *({"codec": codec, "seconds": 3} for codec in codecs))
    for (codec, (name, container)), report in zip(codecs.items(), reports, strict=True):
        assert report["sent"]["video"]["mimeType"] == f"video/{codec}", "our answer's first codec is sent"
        assert report["received"]["video"]["codecs"] == [name]
        assert report["names"] == sorted([".data.jsonl", ".json", ".png", f".{container}"])
        assert_it_is_whole(report)
        (file,) = report["files"]
        assert stream(file, "video")["codec_name"] == name
        assert stream(file, "audio")["codec_name"] == "opus"
        if browser == "chromium":
            assert_pictures_are_those_of_the_camera(file)


def stream(file: dict[str, Any], kind: str) -> dict[str, Any]:
    """What ffprobe says of the track of a kind."""
    (found,) = (stream for stream in file["probed"]["streams"] if stream["codec_type"] == kind)
    assert isinstance(found, dict)
    return found


def assert_it_is_whole(report: dict[str, Any]) -> None:
    """All that the browser says that it has sent is in one file, and lasts as long as it took."""
    (file,) = report["files"]
    manifest, video = report["manifest"], file["video"]
    assert (report["state"], manifest["state"], manifest["error"]) == ("finished", "finished", None)
    assert file["complaints"] == ""
    sent = report["sent"]["video"]["framesSent"]
    assert sent > 30
    assert video["frames"] == pytest.approx(sent, abs=max(1, 0.02 * sent))
    assert int(stream(file, "video")["nb_read_packets"]) == video["frames"]
    # Firefox goes on sending silence when its microphone is stopped.
    lasted = max(report["received"][kind]["seconds"] for kind in ("audio", "video"))
    assert float(file["probed"]["format"]["duration"]) == pytest.approx(lasted, abs=0.2)
    assert manifest["duration"] == pytest.approx(float(file["probed"]["format"]["duration"]), abs=0.2)
    assert file["audio"]["decoded"] == pytest.approx(sound_of(report), abs=0.1)
    assert [track["packets"]["given_up"] for track in manifest["tracks"]] == [0, 0]
    assert manifest["data"]["messages"] == 1


def sound_of(report: dict[str, Any]) -> float:
    """How many seconds of sound came: browsers put 20 ms into a packet."""
    return 0.02 * float(report["received"]["audio"]["frames"])


def assert_pictures_are_those_of_the_camera(file: dict[str, Any]) -> None:
    """Each says which it is, and some were compared as a whole."""
    assert file["video"]["numbered"] == file["video"]["frames"]
    assert len(file["video"]["likenesses"]) >= 2
    assert min(file["video"]["likenesses"]) > LIKENESS


@pytest.mark.timeout(400)
def test_sound_and_pictures_are_in_step_after_a_minute(chromium: BrowserName) -> None:
    """A flash and a beep at the same time, thirty times. The camera and the microphone do not begin as one, so what
    the page itself gets from them says what the offset is to be."""
    call = {"codec": "VP8", "seconds": 64, "width": 320, "height": 180, "watches_source": True}
    for attempt in range(2):
        (report,) = make(chromium, call, timeout_seconds=140)
        assert_it_is_whole(report)
        errors = [error for _, error in errors_of_sound(report)]
        assert len(errors) >= 25
        # A machine that stands still for a moment costs the browser sound, which it tells seconds later.
        if abs(statistics.median(errors[-3:]) - statistics.median(errors[:3])) < IN_STEP or attempt:
            break
    assert abs(statistics.median(errors[-3:]) - statistics.median(errors[:3])) < IN_STEP, errors
    # A browser that is kept from its work stamps its sound later than it came, for a whole call, and never earlier.
    best = abs(statistics.median(errors))
    for _ in range(2):
        if best < IN_STEP:
            break
        (report,) = make(chromium, {**call, "seconds": 8})
        best = min(best, abs(statistics.median(error for _, error in errors_of_sound(report))))
    assert best < IN_STEP, errors


def errors_of_sound(report: dict[str, Any]) -> list[tuple[float, float]]:
    """When each beep is in the file, and by how much later to its picture than it was when it was captured."""
    (file,) = report["files"]
    (segment,) = report["manifest"]["segments"]
    begun = datetime.datetime.fromisoformat(segment["started_at"]).timestamp()
    sources = [source for source in report["source_offsets"] if source["offset"] is not None]
    errors = []
    for beep, offset in file["offsets"]:
        source = min(sources, key=lambda source: abs(source["at"] - begun - beep))
        if abs(source["at"] - begun - beep) < 1:
            errors.append((beep, nearest(offset - source["offset"])))
    return errors


def test_the_browser_gives_a_large_picture_the_bits_it_needs(chromium: BrowserName) -> None:
    """It needs our feedback for that."""
    call = {"codec": "VP8", "seconds": 9, "width": 1280, "height": 720, "noise": 8}
    (report,) = make(chromium, call)
    assert_it_is_whole(report)
    assert stream(report["files"][0], "video")["width"] == 1280
    samples = report["sent_over_time"]
    first, last = samples[-4], samples[-1]
    bits_per_second = 8 * (last["bytesSent"] - first["bytesSent"]) / (last["at"] - first["at"])
    assert bits_per_second > 2_000_000, samples
    assert last["frameWidth"] == 1280


def test_a_picture_that_changes_its_size_and_a_microphone_that_is_off(chromium: BrowserName) -> None:
    """What the container cannot hold goes into another file, and all of them can be played."""
    reports = make(
        chromium, *({"codec": codec, "seconds": 4.5, "changes": True} for codec in ("VP8", "H264"))
    )
    for report in reports:
        files = report["files"]
        assert [file["complaints"] for file in files] == [""] * len(files)
        sent = report["sent"]["video"]["framesSent"]
        assert sum(file["video"]["frames"] for file in files) >= 0.95 * sent
        assert sum(file["audio"]["decoded"] for file in files) == pytest.approx(sound_of(report), abs=0.1)
        sizes = {tuple(size) for file in files for size in file["video"]["sizes"]}
        assert sizes == {(640, 360), (320, 180)}
        assert report["state"] == "finished"
    assert len(reports[1]["files"]) == 3, "an MP4 file has pictures of one size"


@pytest.fixture(scope="module")
def troubled(usable_sandbox: None) -> list[dict[str, Any]]:
    """Two calls of one browser: a twentieth is lost; a fifth is, and in the middle everything, for three seconds."""
    if missing := missing_programs("chromium"):
        pytest.skip(f"needs {' and '.join(missing)}")
    late = {"codec": "VP8", "jitter": 0.05, "reordered": 0.02}
    return make(
        "chromium",
        {"seconds": 7, "loss": 0.05, **late},
        {"seconds": 11, "loss": 0.2, "outage": OUTAGE, **late},
    )


def test_what_is_lost_on_the_way_is_asked_for_again(troubled: list[dict[str, Any]]) -> None:
    report = troubled[0]
    (file,) = report["files"]
    packets = packets_of(report, "video")
    assert packets["lost"] > 20
    assert packets["repaired"] >= 0.95 * packets["lost"]
    assert file["complaints"] == ""
    assert file["video"]["frames"] >= 0.9 * report["sent"]["video"]["framesSent"]
    assert file["video"]["numbered"] == file["video"]["frames"], "broken pictures were recorded"
    assert_nothing_grew(report)


def test_gaps_stay_where_they_were(troubled: list[dict[str, Any]]) -> None:
    report = troubled[1]
    (file,) = report["files"]
    packets = packets_of(report, "video")
    assert packets["repaired"] > 0
    assert packets["given_up"] > 0
    assert packets["repaired"] + packets["given_up"] == pytest.approx(packets["lost"], abs=3)
    assert file["complaints"] == ""
    assert file["video"]["numbered"] == file["video"]["frames"], "broken pictures were recorded"
    for kind in ("audio", "video"):
        assert OUTAGE - 0.5 < file[kind]["longest_gap"] < OUTAGE + 2.5
        (track,) = (track for track in report["manifest"]["tracks"] if track["kind"] == kind)
        assert OUTAGE - 0.5 < max(gap["duration"] for gap in track["gaps"]) < OUTAGE + 2.5
    assert float(file["probed"]["format"]["duration"]) == pytest.approx(
        report["received"]["audio"]["seconds"], abs=0.5
    )
    assert file["audio"]["beeps"][-1] > file["audio"]["beeps"][0] + 6, "there is sound after the outage"
    assert_nothing_grew(report)


def packets_of(report: dict[str, Any], kind: str) -> dict[str, int]:
    """What the manifest says has become of the packets of a kind."""
    (track,) = (track for track in report["manifest"]["tracks"] if track["kind"] == kind)
    packets = track["packets"]
    assert isinstance(packets, dict)
    return packets


def assert_nothing_grew(report: dict[str, Any]) -> None:
    """What waited for lost packets was let go."""
    before, after = report["memory"]
    assert after - before < 60_000_000, report["memory"]
