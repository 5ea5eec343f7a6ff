"""Where a frame belongs on a recording's time line, from its timestamp and the moment it came."""

#: A timestamp cannot run ahead of the clock on the wall; more than this says that it jumped. In seconds.
MAXIMUM_LEAD = 2.0
#: How far timestamps may fall behind arrival before they are taken for a clock that stood still. In seconds.
MAXIMUM_LAG = 10.0


class TrackClock:
    """Turns a track's timestamps into seconds on the recording's time line.

    The timestamps give the spacing, because arrival jitters; arrival gives the beginning, because the tracks
    of a call count from points of their own. A peer chooses its timestamps freely: where they part from
    arrival by more than a live call can explain, the clock starts anew at the arrival, so that no timestamp
    makes a recording longer than the time it took.

    :param offset: what to add to a timestamp, in seconds, to get to the time scale of arrivals.
    """

    def __init__(self, offset: float) -> None:
        self._offset = offset
        self.restarts = 0
        "How often timestamps were not believed."

    def position(self, timestamp: float | None, arrival: float) -> float:
        """The position of a frame in seconds, on the time scale of arrivals.

        :param timestamp: the frame's own time in seconds, or ``None`` if it has none.
        :param arrival: when it came, in seconds of a monotonic clock.
        """
        if timestamp is None:
            return arrival
        position = timestamp + self._offset
        if not arrival - MAXIMUM_LAG <= position <= arrival + MAXIMUM_LEAD:
            self._offset = arrival - timestamp
            self.restarts += 1
            position = arrival
        return position
