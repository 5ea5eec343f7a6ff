"""What of the peer's handshake is here, and when to tell it so (RFC 9147 §7)."""

from collections import deque

from mediapeer.dtls.messages13 import RecordNumber, serialize_ack

MAXIMUM_RECORD_NUMBERS = 32
"How many records one ACK names: the newest. What it leaves out is sent again, which does no harm."
RECORD_NUMBER_LENGTH = 16
_VECTOR_HEADER_LENGTH = 2


class AckSchedule:
    """Collects the numbers of handshake records, and says when an ACK is due.

    Receiving our next flight tells the peer that its own has come. An ACK is for when that takes too long, when
    something is missing, and when there is no next flight. Times are those of the caller's clock, in seconds.

    :param delay: how long to wait for the rest of a flight, in seconds.
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        "How long to wait for the rest of a flight, in seconds."
        self._numbers: deque[RecordNumber] = deque(maxlen=MAXIMUM_RECORD_NUMBERS)
        self.deadline: float | None = None
        "When an ACK is due; ``None`` while none is."

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to name."""
        return not self._numbers

    def note(self, number: RecordNumber) -> None:
        """A handshake record has come, and may be part of a flight that is not complete."""
        if number not in self._numbers:
            self._numbers.append(number)

    def expect_more(self, now: float) -> None:
        """More of the flight has to come; if it does not in a short while, the peer is told what has."""
        if self.deadline is None:
            self.deadline = now + self.delay

    def hurry(self, now: float) -> None:
        """The peer needs to know at once, for it would wait in vain: something was lost, or is done."""
        self.deadline = now

    def set_delay(self, delay: float, now: float) -> None:
        """Wait ``delay`` seconds from now on; a timer that is running is rescaled."""
        if self.deadline is not None and self.delay > 0:
            self.deadline = now + (self.deadline - now) * delay / self.delay
        self.delay = delay

    def forget(self) -> None:
        """The flight is answered: our own next one says more than an ACK."""
        self._numbers.clear()
        self.deadline = None

    def is_due(self, now: float) -> bool:
        """Whether to send an ACK."""
        return self.deadline is not None and now >= self.deadline

    def take(self, room: int, *, in_full: bool = True) -> list[bytes]:
        """The bodies of the ACKs that are due. The numbers stay, for an ACK may be lost.

        :param room: how long a body may be, in bytes.
        :param in_full: whether there are as many as it takes to name all; else one, with the newest.
        """
        self.deadline = None
        count = max(1, (room - _VECTOR_HEADER_LENGTH) // RECORD_NUMBER_LENGTH)
        numbers = sorted(self._numbers if in_full else list(self._numbers)[-count:])
        return [
            serialize_ack(tuple(numbers[start : start + count]))
            for start in range(0, max(1, len(numbers)), count)
        ]
