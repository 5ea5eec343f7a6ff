"""What was sent a moment ago, for receivers that ask for it again (RFC 4585 §6.2.1)."""

from dataclasses import dataclass

#: How many packets of a source are kept: two seconds of video at 2 Mbit/s.
CAPACITY = 512
#: Seconds after which a packet is of no use to a receiver any more.
MAXIMUM_AGE = 3.0


@dataclass(slots=True)
class SentPacket:
    """A packet as it went out, without protection."""

    sequence_number: int
    data: bytes
    payload_offset: int
    "Where its payload begins."
    rtx_payload_type: int | None
    "Under which payload type it is sent again; ``None`` where retransmissions have no stream of their own."
    sent_at: float
    "In seconds."
    repeated_at: float | None = None
    "When it was sent again last."


class PacketHistory:
    """The latest packets of one source, by sequence number.

    :param capacity: how many are kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._packets: list[SentPacket | None] = [None] * capacity

    def add(self, packet: SentPacket) -> None:
        """Keep a packet; the oldest one gives place."""
        self._packets[packet.sequence_number % len(self._packets)] = packet

    def take(self, sequence_number: int, now: float, interval: float) -> SentPacket | None:
        """The packet to send again, or ``None``: it is not there any more, or went out again just now.

        :param interval: how many seconds a repetition is given to arrive before there may be another: a round trip.
        """
        packet = self._packets[sequence_number % len(self._packets)]
        if packet is None or packet.sequence_number != sequence_number or now - packet.sent_at > MAXIMUM_AGE:
            return None
        if packet.repeated_at is not None and now - packet.repeated_at < interval:
            return None
        packet.repeated_at = now
        return packet

    def clear(self) -> None:
        """Forget all of them."""
        self._packets = [None] * len(self._packets)
