"""The buffer of packets that wait, and the list of those that are asked for."""

import itertools

from mediapeer.rtp.nack import (
    DEFAULT_SPACING,
    MAXIMUM_REQUESTS,
    MINIMUM_SPACING,
    REORDERING_TOLERANCE,
    NackList,
)
from mediapeer.rtp.reorder import ReorderBuffer
from tests.rtp.packets import parsed


def test_packets_come_out_in_order_and_gaps_are_skipped_one_by_one() -> None:
    buffer = ReorderBuffer(16, 5)
    for position, number in enumerate((9, 7, 8, 12)):
        buffer.insert(number, parsed(number), float(position))
    assert buffer.take() is None
    assert buffer.waiting_since == 0.0
    assert (buffer.missing, len(buffer), buffer.highest) == (4, 4, 12)
    assert buffer.skip() == range(5, 7)
    taken = []
    while (found := buffer.take()) is not None:
        taken.append(found[0].sequence_number)
    assert taken == [7, 8, 9]
    assert buffer.waiting_since == 3.0, "the second gap was seen with the last packet"
    assert (buffer.missing, len(buffer)) == (2, 1)
    buffer.insert(10, parsed(10), 4.0)
    assert buffer.take() is not None
    assert buffer.skip() == range(11, 12)
    assert buffer.take() is not None
    assert buffer.waiting_since is None
    buffer.restart(1000)
    assert (buffer.next, buffer.missing) == (1000, 0)


def test_a_number_is_asked_for_after_the_tolerance_and_again_when_the_answer_is_overdue() -> None:
    nacks = NackList()
    assert nacks.due(1.0, 0.1) == []
    nacks.add(70000, 70002, 1.0)
    assert nacks.due(1.0, 0.1) == []
    assert nacks.next_due == 1.0 + REORDERING_TOLERANCE
    assert nacks.due(1.01, 0.1) == [70000, 70001]
    nacks.add(70010, 70011, 1.05)
    assert nacks.due(1.06, 0.1) == [70010]
    nacks.remove(70001)
    assert nacks.due(1.12, 0.1) == [], "an answer takes a little longer now and then"
    assert nacks.due(1.15, 0.1) == [70000]
    assert nacks.due(1.15, 0.1) == []
    nacks.remove(70000)
    nacks.remove(70010)
    assert nacks.next_due is None


def test_a_number_is_asked_for_ten_times_at_most() -> None:
    nacks, now, asked = NackList(), 0.0, []
    nacks.add(1, 2, now)
    while nacks.next_due is not None:
        now = nacks.next_due
        asked += [(now, number) for number in nacks.due(now, 0.0001)]
    assert len(asked) == MAXIMUM_REQUESTS
    assert min(b[0] - a[0] for a, b in itertools.pairwise(asked)) >= MINIMUM_SPACING - 1e-9
    assert len(nacks) == 0


def test_an_unknown_round_trip_is_taken_for_a_long_one() -> None:
    nacks = NackList()
    nacks.add(1, 2, 0.0)
    assert nacks.due(1.0, None) == [1]
    assert nacks.next_due == 1.0 + DEFAULT_SPACING
