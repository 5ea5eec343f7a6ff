"""When the sender captured what a packet carries, by the sender's own clock."""

from dataclasses import dataclass

#: How many seconds a reference may depart from what the one before it foretells.
TOLERANCE = 0.1
#: The same, for each second between the two: clocks drift, and no quartz by more than this.
DRIFT = 0.001
#: For so many seconds a capture time counts more than a sender report.
CAPTURE_TIME_LASTS = 10.0
#: NTP seconds of less than this are those after 2036 (RFC 4330 §3).
_ERA = 1 << 31
#: Steps of a timestamp beyond this (half an hour of video) make its packet the new reference: the reports have
#: stopped, and the timestamp must not wrap around unseen.
_FAR = 1 << 28


@dataclass(slots=True)
class _Reference:
    """A moment on the sender's wall clock and on its RTP clock."""

    seconds: float
    timestamp: int
    clock_rate: int
    arrival: float

    def agrees(self, other: "_Reference") -> bool:
        """Whether ``other``, which came later, is what this one foretells."""
        if other.clock_rate != self.clock_rate:
            return False
        elapsed = other.arrival - self.arrival
        steps = signed(other.timestamp - self.timestamp)
        # How often the timestamp has wrapped around since.
        steps += round((elapsed * self.clock_rate - steps) / (1 << 32)) << 32
        error = other.seconds - self.seconds - steps / self.clock_rate
        return abs(error) <= TOLERANCE + DRIFT * abs(elapsed)


class _Source:
    """References of one kind. One that departs from those before it counts when the next one agrees with it."""

    __slots__ = ("doubtful", "reference")

    def __init__(self) -> None:
        self.reference: _Reference | None = None
        self.doubtful: _Reference | None = None

    def take(self, reference: _Reference) -> bool:
        fits = self.reference is None or self.reference.agrees(reference)
        if not fits and (self.doubtful is None or not self.doubtful.agrees(reference)):
            self.doubtful = reference
            return False
        self.reference, self.doubtful = reference, None
        return True


class SenderClock:
    """Maps the RTP timestamps of one source to its sender's NTP time.

    Sender reports say both for one moment (RFC 3550 §6.4.1); so does the header extension abs-capture-time, more
    exactly and for a frame itself, so it goes first. What a peer says is checked against what it said before: a
    reference that does not fit counts only when the next one agrees with it. So one bad report changes nothing,
    and a clock that was set is followed with the second report.
    """

    __slots__ = ("_captures", "_reports")

    def __init__(self) -> None:
        self._reports = _Source()
        self._captures = _Source()

    def receive_report(self, ntp_timestamp: int, timestamp: int, clock_rate: int, now: float) -> bool:
        """Take what a sender report says; whether it was believed.

        :param ntp_timestamp: 64 bits, of which the lower 32 are a fraction; 0 from senders that have no clock.
        :param timestamp: the same moment as an RTP timestamp.
        :param clock_rate: of the timestamp, in Hertz.
        :param now: when the report came, in seconds.
        """
        captured = self._captures.reference
        if captured is not None and now - captured.arrival > CAPTURE_TIME_LASTS:
            self._captures = _Source()
        return _take(self._reports, ntp_timestamp, timestamp, clock_rate, now)

    def receive_capture_time(self, value: bytes, timestamp: int, clock_rate: int, now: float) -> bool:
        """Take the element abs-capture-time of a packet with this RTP timestamp; whether it was believed.

        Where it says how far the clock that captured is behind the sender's, that is added.
        """
        if len(value) not in (8, 16):
            return False
        ntp_timestamp = int.from_bytes(value[:8], "big")
        if len(value) == 16:
            ntp_timestamp += int.from_bytes(value[8:], "big", signed=True)
        return _take(self._captures, ntp_timestamp & 0xFFFFFFFF_FFFFFFFF, timestamp, clock_rate, now)

    def captured_at(self, timestamp: int, clock_rate: int) -> float | None:
        """When a frame was captured, in NTP seconds since 1900; ``None`` while the sender has not said.

        :param timestamp: its RTP timestamp, of a packet that is not much older than the newest.
        """
        reference = self._captures.reference or self._reports.reference
        if reference is None or reference.clock_rate != clock_rate:
            return None
        steps = signed(timestamp - reference.timestamp)
        seconds = reference.seconds + steps / clock_rate
        if steps > _FAR:
            reference.arrival += steps / clock_rate
            reference.seconds, reference.timestamp = seconds, timestamp
        return seconds


def _take(source: _Source, ntp_timestamp: int, timestamp: int, clock_rate: int, now: float) -> bool:
    if ntp_timestamp == 0 or clock_rate <= 0:
        return False
    whole, fraction = ntp_timestamp >> 32, ntp_timestamp & 0xFFFFFFFF
    if whole < _ERA:
        whole += 1 << 32
    return source.take(_Reference(whole + fraction / (1 << 32), timestamp, clock_rate, now))


def signed(steps: int) -> int:
    """A difference of two RTP timestamps, the shorter way around."""
    return ((steps + 0x80000000) & 0xFFFFFFFF) - 0x80000000
