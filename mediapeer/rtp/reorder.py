"""Packets of one source in the order in which they were sent."""

from mediapeer.rtp.packet import RtpPacket

#: How far the packets of a buffer may be apart, by the kind of section.
CAPACITIES = {"video": 512, "audio": 64}


class ReorderBuffer:
    """Holds what came after a packet that is missing, until that has come or is given up.

    Numbers are extended sequence numbers. What is held lies between :attr:`next` and ``next + capacity``, so neither
    numbers nor packets can grow; the caller sees to it with :meth:`skip` and :meth:`restart`.

    :param first: the number that the first packet will have.
    """

    __slots__ = ("_packets", "capacity", "highest", "next")

    def __init__(self, capacity: int, first: int) -> None:
        self.capacity = capacity
        self.next = first
        "The number of the packet that is given out next."
        self.highest = first - 1
        "The highest number that came."
        self._packets: dict[int, tuple[RtpPacket, float]] = {}

    def __len__(self) -> int:
        """How many packets wait."""
        return len(self._packets)

    def __contains__(self, number: int) -> bool:
        return number in self._packets

    def peek(self, number: int) -> RtpPacket | None:
        """A packet that waits."""
        found = self._packets.get(number)
        return None if found is None else found[0]

    @property
    def missing(self) -> int:
        """How many packets are missing between those that came."""
        return self.highest + 1 - self.next - len(self._packets)

    @property
    def waiting_since(self) -> float | None:
        """When it was seen that the next packet is missing; ``None`` when none waits for it."""
        # All that wait came after that packet should have, and the dictionary has them in the order of arrival.
        for _, arrival in self._packets.values():
            return arrival
        return None

    def insert(self, number: int, packet: RtpPacket, arrival: float) -> None:
        """Hold a packet whose number is in the buffer's reach and not held yet."""
        self._packets[number] = (packet, arrival)
        if number > self.highest:
            self.highest = number

    def take(self) -> tuple[RtpPacket, float] | None:
        """The next packet and its arrival, if it is there."""
        found = self._packets.pop(self.next, None)
        if found is not None:
            self.next += 1
        return found

    def skip(self) -> range:
        """Give up the missing packets before the first one that waits; their numbers. Something must wait."""
        first = number = self.next
        while number not in self._packets and number <= self.highest:
            number += 1
        self.next = number
        return range(first, number)

    def restart(self, number: int) -> None:
        """Go on with ``number``, after all that waited has been taken."""
        self._packets.clear()
        self.next = number
        self.highest = number - 1
