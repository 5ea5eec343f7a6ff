"""One continuing stream out of the several that a section may have: simulcast layers, sources that change."""

from collections.abc import Collection

from mediapeer.rtp.keyframes import begins_keyframe
from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.router import RtpSection
from mediapeer.rtp.statistics import InboundStream

#: A stream that has been silent for so many seconds gives way to another.
SILENCE = 0.5
#: A larger step of the sequence number is no gap to be repaired but a new beginning: no buffer reaches so far.
MAXIMUM_GAP = 512


class LayerSelector:
    """Chooses the stream that the receiver of a section gets, and makes all that are chosen look like one.

    The best layer that flows is chosen. A better one takes over at its next keyframe; when the chosen one goes
    silent, another takes over at once. Whoever reads sees one SSRC, and sequence numbers and timestamps that go
    on; the payload, VP8's picture ids too, is untouched.

    :param section: what was negotiated; may be replaced.
    """

    def __init__(self, section: RtpSection) -> None:
        self.section = section
        self.current: InboundStream | None = None
        "The stream that is chosen."
        self.ssrc: int | None = None
        "The SSRC that the receiver sees: that of the first stream."
        self.keyframe_wanted = False
        "Whether the stream of the packet that was given last should be asked for a keyframe."
        self._offset = 0
        self._timestamp_offset = 0
        self._first = 0
        self._highest = 0
        self._newest_timestamp = 0
        self._last_arrival = 0.0

    def take(
        self,
        stream: InboundStream,
        packet: RtpPacket,
        extended: int,
        siblings: Collection[InboundStream],
        now: float,
        *,
        is_repair: bool = False,
    ) -> bool:
        """Rewrite a packet for the receiver; ``False`` when it is not for it.

        :param stream: the stream of the packet.
        :param extended: its extended sequence number there.
        :param siblings: all streams of the section.
        :param is_repair: whether it came over RTX: such a packet changes nothing about the choice.
        """
        self.keyframe_wanted = False
        if stream is not self.current:
            if is_repair or not self._shall_switch(stream, packet, siblings, now):
                return False
            self._switch(stream, packet, extended, now)
        elif extended + self._offset > self._highest + MAXIMUM_GAP:
            if is_repair:
                return False
            self._begin(packet, extended)
            self.keyframe_wanted = True
        elif extended < self._first:
            return False  # from before the switch: its number is another packet's now
        self._rewrite(packet, extended + self._offset)
        self._last_arrival = now
        return True

    def original_sequence_number(self, sequence_number: int) -> int | None:
        """The number in the chosen stream of a packet by the number that the receiver knows.

        ``None`` for packets of a stream that was chosen before.
        """
        step = (sequence_number - self._highest) & 0xFFFF
        extended = self._highest + (step if step < 0x8000 else step - 0x10000) - self._offset
        return extended & 0xFFFF if extended >= self._first else None

    # The choice

    def rank(self, stream: InboundStream) -> int:
        """How good a stream is; 0 is best."""
        rids = self.section.rids
        if rids:
            return rids.index(stream.rid) if stream.rid in rids else len(rids)
        ssrcs = self.section.ssrcs
        return 1 if ssrcs and stream.ssrc not in ssrcs else 0

    def _shall_switch(
        self, stream: InboundStream, packet: RtpPacket, siblings: Collection[InboundStream], now: float
    ) -> bool:
        current = self.current
        if current is None:
            return True
        rank = self.rank(stream)
        if not current.is_flowing(now, SILENCE) or current not in siblings:
            flowing = [
                self.rank(other)
                for other in siblings
                if not other.is_retransmission and other is not current and other.is_flowing(now, SILENCE)
            ]
            return rank <= min(flowing, default=rank)
        if rank >= self.rank(current):
            return False
        codec = self.section.formats[packet.payload_type].name
        if self.section.kind != "video" or begins_keyframe(codec, packet.payload) is not False:
            return True
        self.keyframe_wanted = True
        return False

    def _switch(self, stream: InboundStream, packet: RtpPacket, extended: int, now: float) -> None:
        self.current = stream
        if self.ssrc is None:
            self.ssrc = packet.ssrc
            self._first = 0
            self._highest = extended
            self._newest_timestamp = packet.timestamp
            return
        codec = self.section.formats[packet.payload_type]
        elapsed = int((now - self._last_arrival) * codec.clock_rate)
        timestamp = self._newest_timestamp + max(1, elapsed)
        self._timestamp_offset = (timestamp - packet.timestamp) & 0xFFFFFFFF
        self._begin(packet, extended)
        if self.section.kind == "video":
            self.keyframe_wanted = begins_keyframe(codec.name, packet.payload) is not True

    def _begin(self, packet: RtpPacket, extended: int) -> None:
        """Give the packet the number after the highest one so far."""
        self._first = extended
        self._offset = self._highest + 1 - extended

    def _rewrite(self, packet: RtpPacket, extended: int) -> None:
        if extended > self._highest:
            self._highest = extended
        packet.sequence_number = extended & 0xFFFF
        packet.timestamp = timestamp = (packet.timestamp + self._timestamp_offset) & 0xFFFFFFFF
        if self.ssrc is not None:
            packet.ssrc = self.ssrc
        if (timestamp - self._newest_timestamp) & 0xFFFFFFFF < 0x80000000:
            self._newest_timestamp = timestamp
