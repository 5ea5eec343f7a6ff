"""One clock for all tracks of a recording: where each frame belongs, in seconds."""

from collections.abc import Hashable

from mediapeer.rtp.frame import EncodedFrame

#: For so long a least delay is believed, in seconds; clocks drift apart, routes change.
WINDOW = 10.0
#: By so much of the time that passes a track is put right, until it is where it belongs.
SLEW = 0.05
#: A track is left alone while it is no further than this from where it belongs, in seconds.
TOLERANCE = 0.003
#: What the sender says was not captured between two frames is a gap, and no drift, from so many seconds on.
MISSING = 0.1
#: No two frames of a track are closer than this, in seconds: what the coarsest container can tell apart.
MINIMUM_STEP = 0.001
#: Timestamps that run ahead of arrival, or fall behind it, by more than this in one step have begun anew. In seconds.
LEAP = 2.0
#: What is captured longer than this before it arrives is not believed, in seconds.
MAXIMUM_DELAY = 10.0
#: A track this far ahead of where it belongs stands still rather than slow down, in seconds.
MAXIMUM_LEAD = 1.0
#: Clocks of senders that are remembered.
MAXIMUM_CLOCKS = 64


class LeastDelay:
    """What to add to the time of another clock to get to arrivals: the least seen, as the others came late.

    It is the least of the last 5 to 10 seconds (``WINDOW``), so that it follows a drift.
    """

    __slots__ = ("_began", "_current", "_previous")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._current = self._previous = float("inf")
        self._began = float("-inf")

    def observe(self, time: float, arrival: float) -> float:
        """Take a pair of moments; the least difference so far, this one included."""
        delay = arrival - time
        if not 0 <= arrival - self._began < WINDOW / 2:
            self._previous = self._current
            self._current = delay
            self._began = arrival
        elif delay < self._current:
            self._current = delay
        return min(self._current, self._previous)


class Timeline:
    """The clocks of a recording's senders. Its times are those of arrivals: the event loop's clock."""

    def __init__(self) -> None:
        self._clocks: dict[Hashable, LeastDelay] = {}

    def clock(self, name: Hashable) -> LeastDelay:
        """The delay of a sender's clock, shared by all tracks that name it."""
        found = self._clocks.get(name)
        if found is None:
            if len(self._clocks) >= MAXIMUM_CLOCKS:
                self._clocks.pop(next(iter(self._clocks)))
            found = self._clocks[name] = LeastDelay()
        return found


class TrackTimeline:
    """Where the frames of one track belong.

    Timestamps give the spacing. Where the track as a whole belongs is said by when its frames were captured,
    by the clock that it shares with the sender's other tracks (RFC 3550 §6.4.1), and before that is known by
    their arrival. When one takes the other's place, or a clock drifts, the track is moved there gently, by
    ``SLEW`` of the time that passes, and never backwards. Where the sender's reports tell that something was not
    captured, though its timestamps go on as if it had been (a browser that is stopped for a moment loses sound so),
    that is a gap at once.

    A peer chooses its timestamps and reports freely: a frame belongs at its arrival at the latest, and not
    long before it. So nothing makes a recording longer than the time it took.

    :param timeline: the recording's.
    :param name: the clock's name as long as there is no CNAME: one that no other track has.
    """

    def __init__(self, timeline: Timeline, name: Hashable) -> None:
        self.cname: str | None = None
        "Tracks that share it share a clock (RFC 3550 §6.5.1). It may be set at any time."
        self.restarts = 0
        "How often timestamps began anew, a change of the source included."
        self._timeline = timeline
        self._name = name
        self._delay = LeastDelay()
        self._source: tuple[int, int] | None = None
        self._timestamp = 0
        self._arrival = 0.0
        self._elapsed = 0.0
        self._captured_at: float | None = None
        self._position: float | None = None

    def position(self, frame: EncodedFrame) -> float:
        """Where a frame belongs, in seconds on the scale of arrivals. Each is later than the one before."""
        passed = self._passed(frame)
        missing = self._missing(frame, passed)
        target = self._target(frame)
        last = self._position
        if last is None:
            position = target
        elif passed is None or target - last > passed + LEAP:
            position = max(target, last + MINIMUM_STEP)
        else:
            position = last + passed
            error = target - position
            if error < -MAXIMUM_LEAD:
                position = last + MINIMUM_STEP
            elif error > 0 and missing >= MISSING:
                position += min(error, missing)
            elif error > TOLERANCE:
                position += min(error - TOLERANCE, SLEW * passed)
            elif error < -TOLERANCE:
                position += max(error + TOLERANCE, -SLEW * passed)
            if position < last + MINIMUM_STEP:
                position = last + MINIMUM_STEP
        self._position = position
        return position

    def observe(self, frame: EncodedFrame) -> None:
        """Learn a frame's delay before any is given a place: the first is not always the quickest."""
        if frame.captured_at is not None:
            self._clock().observe(frame.captured_at, frame.arrival)

    def _passed(self, frame: EncodedFrame) -> float | None:
        """Seconds since the frame before by their timestamps; ``None`` where these begin anew."""
        source = (frame.ssrc, frame.clock_rate)
        ticks = (frame.timestamp - self._timestamp) & 0xFFFFFFFF
        passed = ticks / frame.clock_rate
        waited = frame.arrival - self._arrival
        known = source == self._source
        self._source, self._timestamp, self._arrival = source, frame.timestamp, frame.arrival
        if known and passed - waited <= LEAP:
            self._elapsed += passed
            return passed
        if self._position is not None:
            self.restarts += 1
        self._elapsed = 0.0
        self._delay.reset()
        return None

    def _missing(self, frame: EncodedFrame, passed: float | None) -> float:
        """By how many seconds more the capture of a frame is after that of the one before than timestamps tell."""
        before, self._captured_at = self._captured_at, frame.captured_at
        if before is None or frame.captured_at is None or passed is None:
            return 0.0
        return frame.captured_at - before - passed

    def _target(self, frame: EncodedFrame) -> float:
        by_arrival = self._elapsed + self._delay.observe(self._elapsed, frame.arrival)
        captured_at = frame.captured_at
        if captured_at is None:
            return by_arrival
        clock = self._clock()
        target = captured_at + clock.observe(captured_at, frame.arrival)
        if target < frame.arrival - MAXIMUM_DELAY:
            # The sender's clock was set back: what it said before is of no use.
            clock.reset()
            return captured_at + clock.observe(captured_at, frame.arrival)
        return target

    def _clock(self) -> LeastDelay:
        return self._timeline.clock(self._name if self.cname is None else self.cname)
