"""Where frames belong: in step with each other, never backwards, whatever a sender says of its clocks."""

import itertools
import random

import pytest

from mediapeer.media.timeline import Timeline, TrackTimeline
from mediapeer.rtp.frame import EncodedFrame

NTP = 3_976_000_000.0


def frame(
    arrival: float, media: float, *, rate: int = 90_000, captured: float | None = None, ssrc: int = 1
) -> EncodedFrame:
    """A frame whose timestamp says ``media`` seconds."""
    ticks = round(media * rate) & 0xFFFFFFFF
    return EncodedFrame("vp8", b"", ssrc, ticks, rate, arrival, True, captured_at=captured)


def track(timeline: Timeline, cname: str | None = "one") -> TrackTimeline:
    made = TrackTimeline(timeline, object())
    made.cname = cname
    return made


@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_a_drift_of_200_ppm_stays_in_step_for_ten_minutes(drift: float) -> None:
    """The sound card runs fast against the sender's clock, and that against ours; the reports tell."""
    noise = random.Random(1)
    timeline = Timeline()
    audio, video = track(timeline), track(timeline)
    events = []
    for n in range(600 * 50):
        at = n * 0.02
        # What is captured at ``at`` of our time: the sender's clock drifts by as much as the sound card again.
        sender = at * (1 + drift)
        sound = frame(
            at + 0.05 + noise.random() * 0.05, at * (1 + 2 * drift), rate=48_000, captured=NTP + sender
        )
        events.append((sound.arrival, audio, sound, at))
    for n in range(600 * 30):
        at = n / 30
        sender = at * (1 + drift)
        picture = frame(at + 0.20 + noise.random() * 0.05, sender, captured=NTP + sender, ssrc=2)
        events.append((picture.arrival, video, picture, at))
    latest = {audio: 0.0, video: 0.0}
    for n, (arrival, which, each, at) in enumerate(events):
        # Frames are in the order of their source, as late as the latest.
        latest[which] = each.arrival = max(latest[which], arrival)
        events[n] = (each.arrival, which, each, at)
    events.sort(key=lambda each: each[0])
    worst, last, delays = 0.0, {audio: -1.0, video: -1.0}, {audio: 0.0, video: 0.0}
    for arrival, which, each, at in events:
        position = which.position(each)
        assert position > last[which]
        last[which] = position
        delays[which] = position - at
        if arrival > 10:
            worst = max(worst, abs(delays[audio] - delays[video]))
    assert worst <= 0.020
    assert abs(last[audio] - 600) < 0.3


def test_a_first_report_that_comes_late_moves_the_track_gently() -> None:
    """Until then the picture is where it arrived, 150 ms after the sound."""
    timeline = Timeline()
    audio, video = track(timeline), track(timeline)
    steps, offsets = [], []
    last = None
    for n in range(30 * 20):
        at = n / 30
        captured = NTP + at if at >= 5 else None
        sound = audio.position(frame(at + 0.05, at, rate=48_000, captured=captured))
        picture = video.position(frame(at + 0.20, at, captured=captured, ssrc=2))
        if last is not None:
            steps.append(picture - last)
        last = picture
        offsets.append(picture - sound)
    assert abs(offsets[0] - 0.15) < 0.001
    assert abs(offsets[-1]) <= 0.020
    assert abs(offsets[30 * 10]) <= 0.020
    assert min(steps) >= 0.949 / 30
    assert max(steps) <= 1.051 / 30


def test_sound_that_was_not_captured_is_a_gap_once_the_reports_tell() -> None:
    """A browser that stood still for 600 ms goes on with the next timestamp; the picture shows the pause itself."""
    timeline = Timeline()
    audio, video = track(timeline), track(timeline)
    for n in range(50 * 20):
        at = n * 0.02
        stood_still = 5 <= at < 5.6
        media = at if at < 5 else at - 0.6
        # The second report after that is believed.
        said = at if at < 5 or at >= 7 else at - 0.6
        if not stood_still:
            sound = audio.position(frame(at + 0.05, media, rate=48_000, captured=NTP + said))
            picture = video.position(frame(at + 0.05, at, captured=NTP + at, ssrc=2))
            if at < 5 or at >= 7:
                assert abs(picture - sound) < 0.02, at


def test_a_correction_never_goes_backwards() -> None:
    noise = random.Random(3)
    one = track(Timeline())
    last = float("-inf")
    for n in range(3000):
        captured = NTP + n / 30 + noise.choice([0.0, -3.0, 0.5, 1e6, -1e6]) if n % 7 else None
        position = one.position(frame(n / 30 + 1, n / 30, captured=captured))
        assert last < position <= n / 30 + 1 + 0.05
        last = position


@pytest.mark.parametrize(
    "media",
    [
        pytest.param(lambda n: n * 2.0**15, id="leaps"),
        pytest.param(lambda n: 0.0, id="stands still"),
        pytest.param(lambda n: n / 15, id="twice as fast"),
        pytest.param(lambda n: -n / 30, id="backwards"),
        pytest.param(lambda n: (n * 7919 % 1000) / 10, id="anything"),
    ],
)
def test_no_timestamp_makes_a_recording_longer_than_it_took(media) -> None:  # type: ignore[no-untyped-def]
    one, last = track(Timeline()), float("-inf")
    for n in range(900):
        position = one.position(frame(100 + n / 30, media(n)))
        assert position > last
        last = position
    assert 100 + 18 < last < 100 + 31.5


@pytest.mark.parametrize("begin", [1e4, 1.0, -1.0])
def test_a_change_of_layers_leaves_no_gap(begin: float) -> None:
    """Another source, another beginning of timestamps; the clock is the same."""
    one = track(Timeline())
    positions = [one.position(frame(n / 30 + 0.1, n / 30, captured=NTP + n / 30, ssrc=1)) for n in range(60)]
    positions += [
        one.position(frame(n / 30 + 0.13, begin + n / 30, captured=NTP + n / 30, ssrc=2))
        for n in range(60, 120)
    ]
    assert one.restarts == 1
    assert max(abs(b - a - 1 / 30) for a, b in itertools.pairwise(positions)) < 0.002


def test_an_outage_of_the_network_is_none_of_the_sender() -> None:
    """What arrives late and all at once was captured at its time."""
    one = track(Timeline())
    positions = []
    for n in range(300):
        at = n / 30
        arrival = 8.0 if 5 <= at < 8 else at
        positions.append(one.position(frame(arrival + 0.1, at, captured=NTP + at)))
    assert max(abs(b - a - 1 / 30) for a, b in itertools.pairwise(positions)) < 0.002


def test_a_wrap_of_the_timestamp_is_no_restart() -> None:
    one = track(Timeline())
    begin = 2**32 / 90_000 - 1
    positions = [one.position(frame(n / 30, begin + n / 30)) for n in range(60)]
    assert one.restarts == 0
    assert abs(positions[-1] - positions[0] - 59 / 30) < 0.002


def test_many_senders_are_not_remembered_for_ever() -> None:
    timeline = Timeline()
    one = track(timeline)
    for n in range(1000):
        one.cname = str(n)
        one.position(frame(n / 30, n / 30, captured=NTP + n / 30))
    assert len(timeline._clocks) <= 64
