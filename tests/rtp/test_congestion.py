"""Transport-wide congestion feedback: what is told of which packets, and when they came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import rtcp
from mediapeer.rtp.congestion import MAXIMUM_REMEMBERED, MAXIMUM_WAITING, ArrivalRecorder

UNIT = 0.00025


class Scene:
    """A recorder, and the sender of the packets, who reads the feedback."""

    def __init__(self) -> None:
        self.recorder = ArrivalRecorder()
        self.told: dict[int, float] = {}
        self.lost: set[int] = set()
        self.feedbacks: list[rtcp.TransportFeedback] = []

    def give(self, *packets: tuple[int, float]) -> None:
        for number, now in packets:
            self.recorder.add(number & 0xFFFF, now)

    def tell(self) -> None:
        """Read the feedback of now."""
        for feedback in self.recorder.feedback(1, 2):
            data = feedback.serialize()
            assert len(data) <= 1200
            (read,) = rtcp.parse(data)
            assert read == feedback
            self.feedbacks.append(feedback)
            for offset, arrival in enumerate(feedback.arrivals()):
                number = (feedback.base + offset) & 0xFFFF
                if arrival is None:
                    self.lost.add(number)
                else:
                    self.told[number] = arrival

    def times_since_first(self) -> list[float]:
        times = list(self.told.values())
        return [time - times[0] for time in times]


def test_arrivals_are_right_to_250_microseconds_and_no_error_adds_up() -> None:
    scene = Scene()
    for batch in range(20):
        numbers = range(50 * batch, 50 * batch + 50)
        scene.give(*((number, 1000 + number * 0.0011111) for number in numbers))
        scene.tell()
    assert len(scene.told) == 1000
    for number, time in enumerate(scene.times_since_first()):
        assert time == pytest.approx(number * 0.0011111, abs=UNIT)
    assert [feedback.count for feedback in scene.feedbacks] == list(range(20))
    assert not scene.lost


def test_what_is_too_much_for_one_feedback_is_told_in_several_that_join() -> None:
    scene = Scene()
    scene.give(*((65_000 + number, 1.0 + number / 10_000) for number in range(1000) if number % 100))
    scene.tell()
    assert len(scene.feedbacks) == 3
    assert len(scene.told) == 990
    assert scene.lost == {65_000 + number & 0xFFFF for number in range(100, 1000, 100)}


def test_what_is_missing_is_told_also_between_two_feedbacks() -> None:
    scene = Scene()
    scene.give((65533, 1.0), (65534, 1.01))
    scene.tell()
    scene.give((1, 1.02), (2, 1.03), (4, 1.04))
    scene.tell()
    assert sorted(scene.told) == [1, 2, 4, 65533, 65534]
    assert scene.lost == {65535, 0, 3}
    assert [feedback.base for feedback in scene.feedbacks] == [65533, 65535]


def test_a_late_packet_is_told_of_with_those_after_it() -> None:
    scene = Scene()
    scene.give((10, 1.0), (12, 1.02), (13, 1.03))
    scene.tell()
    assert scene.lost == {11}
    scene.give((11, 1.1), (14, 1.11))
    scene.tell()
    second = scene.feedbacks[1]
    assert second.base == 11
    assert second.deltas[1] is not None
    assert second.deltas[1] < 0, "it came before the one that it follows"
    expected = {10: 1.0, 11: 1.1, 12: 1.02, 13: 1.03, 14: 1.11}
    for number, time in scene.told.items():
        assert time == pytest.approx(expected[number] - 1.0, abs=UNIT)


def test_a_packet_that_is_too_late_does_not_make_others_lost() -> None:
    scene = Scene()
    scene.give((10, 1.0), (12, 1.02), (13, 2.0))
    scene.tell()
    scene.give((11, 2.01), (14, 2.02))
    scene.tell()
    assert scene.lost == {11}
    assert 12 in scene.told
    assert scene.feedbacks[-1].base == 14


def test_reordered_packets_before_the_first_one_are_told_of() -> None:
    scene = Scene()
    scene.give((2, 1.0), (65535, 1.01), (0, 1.02), (1, 1.03), (2, 1.04))
    scene.tell()
    assert scene.feedbacks[0].base == 65535
    assert scene.told[2] == pytest.approx(0.0, abs=UNIT), "a duplicate changes nothing"
    assert not scene.lost


def test_nothing_new_is_nothing_to_tell() -> None:
    scene = Scene()
    scene.tell()
    scene.give((1, 1.0))
    scene.tell()
    scene.tell()
    scene.give((1, 1.1))
    scene.tell()
    assert len(scene.feedbacks) == 1


def test_a_silence_that_no_difference_can_say_begins_another_feedback() -> None:
    scene = Scene()
    scene.give((1, 1.0), (2, 20.0), (3, 5.0))
    scene.tell()
    assert len(scene.feedbacks) == 3
    assert scene.told[2] - scene.told[1] == pytest.approx(19.0, abs=UNIT)
    assert scene.told[3] - scene.told[1] == pytest.approx(4.0, abs=UNIT)


def test_after_a_long_outage_only_the_last_losses_are_told() -> None:
    scene = Scene()
    scene.give((1, 1.0))
    scene.tell()
    scene.give((20_000, 2.0))
    scene.tell()
    assert 20_000 in scene.told
    assert max(len(feedback.deltas) for feedback in scene.feedbacks) < 5000


def test_many_packets_are_told_in_feedbacks_that_fit_a_datagram() -> None:
    scene = Scene()
    scene.give(*((2 * number, 1 + number * 0.07) for number in range(1500)))
    scene.tell()
    assert len(scene.told) == 1500
    assert len(scene.feedbacks) == 4


def test_the_reference_time_wraps() -> None:
    scene = Scene()
    scene.give((1, 0.0))
    scene.tell()
    for week in range(1, 5):
        scene.give((week + 1, week * 7 * 86400.0))
        scene.tell()
    assert all(-0x800000 <= feedback.reference_time < 0x800000 for feedback in scene.feedbacks)
    assert any(feedback.reference_time < 0 for feedback in scene.feedbacks)


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 0xFFFF), st.floats(0, 30))), min_size=1, max_size=200
    )
)
def test_any_packets_are_told_of_within_bounds(steps: list[tuple[int, float] | None]) -> None:
    scene = Scene()
    now = 5.0
    given_numbers = set()
    for step in steps:
        if step is None:
            scene.tell()
        else:
            number, pause = step
            now += pause**4 / 30**4
            given_numbers.add(number)
            scene.give((number, now))
    scene.tell()
    assert set(scene.told) <= given_numbers
    assert len(scene.recorder._arrivals) <= MAXIMUM_REMEMBERED


def test_what_waits_and_what_is_remembered_is_bounded() -> None:
    scene = Scene()
    scene.give(*((number, 1.0) for number in range(2 * MAXIMUM_WAITING)))
    assert len(scene.recorder._waiting) == MAXIMUM_WAITING
    scene.tell()
    assert len(scene.recorder._arrivals) == MAXIMUM_REMEMBERED


def test_numbers_that_leap_do_not_take_a_feedback_each() -> None:
    """Each would speak of thousands of packets that never were."""
    scene = Scene()
    scene.give(*((number * 20_000 & 0xFFFF, 1.0 + number / 100_000) for number in range(1000)))
    assert len(list(scene.recorder.feedback(1, 2))) <= 16
    scene.give((5, 1.2))
    assert len(list(scene.recorder.feedback(1, 2))) <= 16


def test_numbers_that_leap_are_not_worth_thousands_of_statuses_each() -> None:
    """Sixteen packets every tenth of a second kept a tenth of a core at work."""
    scene = Scene()
    for batch in range(3):
        before = len(scene.feedbacks)
        scene.give(*(((batch * 16 + index) * 4000, 100 + batch / 10) for index in range(16)))
        scene.tell()
        assert (
            sum(len(feedback.deltas) for feedback in scene.feedbacks[before:]) <= 1.5 * rtcp.MAXIMUM_STATUSES
        )
    # Whoever sends as he should is told of all that comes after.
    scene.told.clear()
    scene.give(*((200_000 + index, 101 + index / 10_000) for index in range(900)))
    scene.tell()
    assert len(scene.told) == 900
