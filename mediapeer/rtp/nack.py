"""Which packets of one source to ask for again, and when (RFC 4585 §6.2.1)."""

#: Seconds after which a missing packet is asked for: until then it is late rather than lost.
REORDERING_TOLERANCE = 0.005
#: The least number of seconds between two requests for a packet.
MINIMUM_SPACING = 0.02
#: The same while the round trip is not known.
DEFAULT_SPACING = 0.1
#: Otherwise so many round trips and seconds: few answers take exactly as long as the one that was measured.
_ROUND_TRIPS = 1.25
_JITTER = 0.005
#: How often a packet is asked for.
MAXIMUM_REQUESTS = 10


class NackList:
    """The packets that are missing, each with the time when it is to be asked for and how often it was.

    Numbers are extended sequence numbers. It grows with :meth:`add` only: its owner adds no more than its buffer has
    room for, and removes what came or was given up.
    """

    __slots__ = ("_missing", "next_due")

    def __init__(self) -> None:
        self.next_due: float | None = None
        "When :meth:`due` may have something, in seconds."
        self._missing: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._missing)

    def add(self, first: int, end: int, now: float) -> None:
        """Note that the packets from ``first`` to before ``end`` are missing."""
        when = now + REORDERING_TOLERANCE
        for number in range(first, end):
            self._missing[number] = (when, 0)
        if first < end and (self.next_due is None or when < self.next_due):
            self.next_due = when

    def remove(self, number: int) -> None:
        """Ask for a packet no more."""
        self._missing.pop(number, None)
        if not self._missing:
            self.next_due = None

    def clear(self) -> None:
        """Ask for nothing any more."""
        self._missing.clear()
        self.next_due = None

    def due(self, now: float, round_trip_time: float | None) -> list[int]:
        """What is to be asked for now, in order; it counts as asked.

        :param round_trip_time: in seconds: for as long as an answer takes, and a little, a packet is not asked for
            again.
        """
        if self.next_due is None or now < self.next_due:
            return []
        spacing = DEFAULT_SPACING
        if round_trip_time is not None:
            spacing = max(_ROUND_TRIPS * round_trip_time + _JITTER, MINIMUM_SPACING)
        # In order: they were added so, and stay where they are.
        numbers = [number for number, (when, _) in self._missing.items() if when <= now]
        for number in numbers:
            requests = self._missing[number][1] + 1
            if requests < MAXIMUM_REQUESTS:
                self._missing[number] = (now + spacing, requests)
            else:
                del self._missing[number]
        self.next_due = min((when for when, _ in self._missing.values()), default=None)
        return numbers
