"""When each packet of all streams came: transport-wide congestion feedback.

It is what draft-holmer-rmcat-transport-wide-cc-extensions-01 describes, and what browsers estimate the path by.
"""

from collections.abc import Iterator

from mediapeer.rtp.rtcp import MAXIMUM_STATUSES, TransportFeedback

#: Units of 250 µs in a second, and in one of the reference time, which is 64 ms.
_TICKS = 4000
_TICKS_OF_REFERENCE = 256
#: How many packets may come between two feedbacks before the rest is forgotten.
MAXIMUM_WAITING = 4096
#: Units of 250 µs for which an arrival is remembered, to be told again when an older packet comes after its feedback.
_MEMORY = _TICKS // 2
#: How many arrivals are remembered at most.
MAXIMUM_REMEMBERED = 1024
#: Received packets in one feedback: with the largest differences they are shorter than an Ethernet frame.
_RECEIVED_PER_FEEDBACK = 400
#: How many feedbacks are made at one go. Numbers that are far from each other take one each.
_FEEDBACKS = 16
#: Statuses in one feedback.
_STATUSES_PER_FEEDBACK = MAXIMUM_STATUSES // 2
#: When so many statuses were told at one go, what is left has none: sixteen packets may speak of thousands each.
_STATUSES_AT_ONCE = MAXIMUM_STATUSES


class ArrivalRecorder:
    """Notes when packets came, by their transport-wide sequence numbers, and makes the feedback that says so.

    Each packet is told of once, but when a late one comes, those after it may be told of again: a feedback speaks
    of all numbers from its first to its last. Duplicates count as when they came first.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, float]] = []
        self._arrivals: dict[int, int] = {}
        self._highest: int | None = None
        self._next = 0
        # All that came from here on is remembered.
        self._floor = 0
        self._epoch = 0.0
        self._latest = 0
        self._count = 0

    def add(self, number: int, now: float) -> None:
        """Note that the packet with this number, of 16 bits, came at ``now`` seconds.

        More than :data:`MAXIMUM_WAITING` of them between two feedbacks are not taken.
        """
        if len(self._waiting) < MAXIMUM_WAITING:
            self._waiting.append((number, now))

    def feedback(self, sender_ssrc: int, media_ssrc: int) -> Iterator[TransportFeedback]:
        """What is to be told of the packets that came since this was called last: nothing, one, or several."""
        received = self._place()
        if not received:
            return
        # What came before, and after the oldest of these, is told again; what is missing before them is told too.
        start = min(received[0], self._next)
        if start < self._next:
            received = sorted(number for number in self._arrivals if number >= start)
        position = told = 0
        for _ in range(_FEEDBACKS):
            if position == len(received) or told >= _STATUSES_AT_ONCE:
                break
            # What was lost before a long silence is not spoken of: it is no news of the path any more.
            start = max(start, received[position] - _STATUSES_PER_FEEDBACK)
            end = self._end_of_feedback(received, position, start)
            yield self._make(sender_ssrc, media_ssrc, start, received[position:end])
            told += received[end - 1] + 1 - start
            start, position = received[end - 1] + 1, end
        # What is left has no more of them: numbers of a sender that leaps.
        self._next = received[-1] + 1
        self._forget()

    def _place(self) -> list[int]:
        """Give the packets that wait their places; their numbers, in order, without those that are not told."""
        waiting, self._waiting = self._waiting, []
        arrivals, placed = self._arrivals, []
        for number, now in waiting:
            extended = self._extend(number, now)
            if extended not in arrivals and extended >= self._floor:
                arrivals[extended] = self._latest = round((now - self._epoch) * _TICKS)
                placed.append(extended)
        placed.sort()
        return placed

    def _extend(self, number: int, now: float) -> int:
        """The number as one that does not wrap: the closest to the highest so far."""
        if self._highest is None:
            # A cycle of room for packets that come before the first.
            self._highest = self._next = number + 0x10000
            self._epoch = now
            return self._highest
        step = (number - self._highest) & 0xFFFF
        if step >= 0x8000:
            return self._highest + step - 0x10000
        self._highest += step
        return self._highest

    def _end_of_feedback(self, received: list[int], position: int, start: int) -> int:
        """Where in ``received`` a feedback that begins at ``position`` must end: it has room for so many."""
        end = position + 1
        last = min(len(received), position + _RECEIVED_PER_FEEDBACK)
        while end < last and received[end] - start < _STATUSES_PER_FEEDBACK:
            step = self._arrivals[received[end]] - self._arrivals[received[end - 1]]
            if not -0x8000 <= step <= 0x7FFF:
                break
            end += 1
        return end

    def _make(self, sender_ssrc: int, media_ssrc: int, start: int, received: list[int]) -> TransportFeedback:
        reference = self._arrivals[received[0]] // _TICKS_OF_REFERENCE
        before = reference * _TICKS_OF_REFERENCE
        deltas: list[int | None] = [None] * (received[-1] + 1 - start)
        for number in received:
            ticks = self._arrivals[number]
            deltas[number - start] = ticks - before
            before = ticks
        count, self._count = self._count, (self._count + 1) & 0xFF
        signed = (reference & 0xFFFFFF ^ 0x800000) - 0x800000
        return TransportFeedback(sender_ssrc, media_ssrc, start & 0xFFFF, signed, count, deltas)

    def _forget(self) -> None:
        """Let go of what is too old to be told again."""
        arrivals = self._arrivals
        oldest = self._latest - _MEMORY
        excess = len(arrivals) - MAXIMUM_REMEMBERED
        gone: list[int] = []
        for number, arrival in arrivals.items():
            if arrival >= oldest and len(gone) >= excess:
                break
            gone.append(number)
        for number in gone:
            del arrivals[number]
            self._floor = max(self._floor, number + 1)
