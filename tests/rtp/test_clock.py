"""When something was captured, by what the sender reports."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import InboundStream, SenderClock
from mediapeer.rtp.clock import TOLERANCE, signed
from tests.rtp.packets import parsed

RATE = 90000
SOME_DAY = 3_995_000_000.25
"Seconds since 1900."


def ntp(seconds: float) -> int:
    """A 64-bit NTP timestamp."""
    return int(seconds * (1 << 32)) & 0xFFFFFFFF_FFFFFFFF


class Sender:
    """A peer with a wall clock, an RTP clock that may run wrongly, and a path with a delay.

    :param drift: by how much the RTP clock runs too fast.
    """

    def __init__(self, first: int = 1_000_000, drift: float = 0.0, delay: float = 0.04) -> None:
        self.clock = SenderClock()
        self.first = first
        self.rate = RATE * (1 + drift)
        self.delay = delay
        self.elapsed = 0.0

    @property
    def wall(self) -> float:
        return SOME_DAY + self.elapsed

    @property
    def timestamp(self) -> int:
        return int(self.first + self.elapsed * self.rate) & 0xFFFFFFFF

    def report(self, *, wall_error: float = 0.0, ticks: int = 0) -> bool:
        """Send a report, with these errors."""
        timestamp = (self.timestamp + ticks) & 0xFFFFFFFF
        arrival = 50.0 + self.elapsed + self.delay
        return self.clock.receive_report(ntp(self.wall + wall_error), timestamp, RATE, arrival)

    @property
    def error(self) -> float:
        """How far the time of a frame of now is from the truth."""
        captured = self.clock.captured_at(self.timestamp, RATE)
        assert captured is not None
        return captured - self.wall


def test_nothing_is_known_before_the_first_report() -> None:
    sender = Sender()
    assert sender.clock.captured_at(5, RATE) is None
    assert not sender.clock.receive_report(0, 5, RATE, 1.0), "a sender without a clock says 0"
    assert sender.clock.captured_at(5, RATE) is None
    assert sender.report()
    assert sender.error == pytest.approx(0, abs=1e-4)
    assert sender.clock.captured_at(sender.timestamp - 2 * RATE, RATE) == pytest.approx(
        SOME_DAY - 2, abs=1e-4
    )
    assert sender.clock.captured_at(5, 48000) is None, "it says nothing of another clock"


def test_timestamps_wrap_around() -> None:
    sender = Sender(first=0xFFFFFFFF - RATE)
    sender.report()
    sender.elapsed = 3.0
    assert sender.timestamp < 3 * RATE
    assert sender.error == pytest.approx(0, abs=1e-4)
    sender.report()
    assert sender.error == pytest.approx(0, abs=1e-4)


def test_two_days_without_a_report() -> None:
    sender = Sender()
    sender.report()
    for _ in range(48 * 6):
        sender.elapsed += 600
        assert sender.error == pytest.approx(0, abs=1e-3)
    assert sender.report()


def test_reports_after_a_long_time_without_frames_are_believed() -> None:
    sender = Sender()
    sender.report()
    sender.elapsed = 20 * 3600.0
    assert sender.report()
    assert sender.error == pytest.approx(0, abs=1e-3)


def test_a_clock_that_drifts_is_followed() -> None:
    sender = Sender(drift=200e-6)
    worst = 0.0
    for _ in range(720):
        assert sender.report()
        sender.elapsed += 5.0
        worst = max(worst, abs(sender.error))
    assert worst < 0.0011, "what has gathered in five seconds"


def test_a_delay_that_varies_does_not_matter() -> None:
    sender, chance = Sender(), random.Random(1)
    for _ in range(100):
        sender.delay = chance.uniform(0.01, 2.0)
        assert sender.report()
        sender.elapsed += 1.0
        assert sender.error == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("wall_error", [-30.0, -0.5, 0.5, 40 * 86400.0])
def test_one_report_that_lies_changes_nothing(wall_error: float) -> None:
    sender = Sender()
    sender.report()
    for _ in range(5):
        sender.elapsed += 1.0
        assert not sender.report(wall_error=wall_error)
        assert sender.error == pytest.approx(0, abs=1e-3)
        sender.elapsed += 1.0
        assert sender.report()
        assert sender.error == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("wall_error", [-3600.0, 2.0])
def test_a_clock_that_was_set_is_followed_with_the_second_report(wall_error: float) -> None:
    sender = Sender()
    sender.report()
    sender.elapsed += 1.0
    assert not sender.report(wall_error=wall_error)
    sender.elapsed += 1.0
    assert sender.report(wall_error=wall_error)
    assert sender.error == pytest.approx(wall_error, abs=1e-3)


def test_an_rtp_clock_that_jumps_is_followed_with_the_second_report() -> None:
    sender = Sender()
    sender.report()
    sender.first += 1_000_000_000
    sender.elapsed += 1.0
    assert not sender.report()
    sender.elapsed += 1.0
    assert sender.report()
    assert sender.error == pytest.approx(0, abs=1e-3)


def test_reports_that_never_agree_are_never_believed() -> None:
    sender, chance = Sender(), random.Random(2)
    sender.report()
    for _ in range(200):
        sender.elapsed += 1.0
        assert not sender.report(wall_error=chance.choice((-1, 1)) * chance.uniform(1, 1e6))
    assert sender.error == pytest.approx(0, abs=1e-3)


def test_the_turn_of_the_era() -> None:
    """NTP seconds begin anew in 2036; time does not go back."""
    sender = Sender()
    moment = (1 << 32) - 1.0
    assert sender.clock.receive_report(ntp(moment), 0, RATE, 1.0)
    assert sender.clock.receive_report(ntp(1.0), 2 * RATE, RATE, 3.0)
    assert sender.clock.captured_at(3 * RATE, RATE) == pytest.approx((1 << 32) + 2.0)


def capture_time(seconds: float, offset: float | None = None) -> bytes:
    """The element abs-capture-time."""
    value = ntp(seconds).to_bytes(8, "big")
    if offset is not None:
        value += int(offset * (1 << 32)).to_bytes(8, "big", signed=True)
    return value


def test_the_time_of_capture_goes_before_reports_while_it_comes() -> None:
    sender = Sender()
    sender.report(wall_error=0.03)  # the time of sending
    assert sender.error == pytest.approx(0.03, abs=1e-3)
    arrival = 50.0
    assert sender.clock.receive_capture_time(capture_time(sender.wall), sender.timestamp, RATE, arrival)
    assert sender.error == pytest.approx(0, abs=1e-3)
    sender.elapsed += 5
    sender.report(wall_error=0.03)
    assert sender.error == pytest.approx(0, abs=1e-3)
    sender.elapsed += 10
    sender.report(wall_error=0.03)
    assert sender.error == pytest.approx(0.03, abs=1e-3), "it has stopped"


@pytest.mark.parametrize("offset", [None, 0.0, 1.5, -1.5])
def test_the_clock_that_captured_may_be_another(offset: float | None) -> None:
    sender = Sender()
    value = capture_time(sender.wall - (offset or 0.0), offset)
    assert sender.clock.receive_capture_time(value, sender.timestamp, RATE, 1.0)
    assert sender.error == pytest.approx(0, abs=1e-3)


@given(st.lists(st.tuples(st.binary(max_size=17), st.integers(0, 0xFFFFFFFF), st.floats(0, 10)), max_size=30))
def test_no_capture_time_raises(elements: list[tuple[bytes, int, float]]) -> None:
    clock, now = SenderClock(), 0.0
    for value, timestamp, seconds in elements:
        now += seconds
        believed = clock.receive_capture_time(value, timestamp, RATE, now)
        assert not believed or len(value) in (8, 16)
        captured = clock.captured_at(timestamp, RATE)
        assert captured is None or abs(captured) < 1 << 34


_reports = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.booleans())


@given(st.lists(_reports, max_size=30))
def test_no_report_raises(reports: list[tuple[int, int, float, bool]]) -> None:
    clock, now = SenderClock(), 0.0
    for ntp_timestamp, timestamp, seconds, other in reports:
        now += seconds
        clock.receive_report(ntp_timestamp, timestamp, 48000 if other else RATE, now)
        clock.captured_at(timestamp + 5, RATE)
        clock.captured_at(timestamp ^ 0x55555555, 48000)


def test_a_report_on_times_that_no_packet_has_is_of_another_clock() -> None:
    stream = InboundStream(1, "1")
    assert not stream.receive_report(ntp(SOME_DAY), 90, 1, 1, 10.0), "no packet has come"
    stream.receive(parsed(1, timestamp=50_000), 10.0, RATE)
    assert not stream.receive_report(ntp(SOME_DAY), 50_000 + 6 * RATE, 1, 1, 10.5)
    assert not stream.receive_report(ntp(SOME_DAY), 50_000 - 6 * RATE, 1, 1, 10.5)
    assert stream.clock.captured_at(50_000, RATE) is None
    assert stream.remote_reports_sent == 3
    assert stream.receive_report(ntp(SOME_DAY), 50_000 + 20 * RATE, 1, 1, 30.0), "nothing has been sent since"
    assert stream.clock.captured_at(50_000, RATE) == pytest.approx(SOME_DAY - 20, abs=1e-3)


def test_steps_go_the_shorter_way_around() -> None:
    assert [signed(n) for n in (0, 5, -5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)] == [
        0,
        5,
        -5,
        0x7FFFFFFF,
        -0x80000000,
        -1,
    ]
    assert TOLERANCE < 1
