"""One source of the peer: its packets put in order, repaired, and made frames."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.rtp.clock import signed
from mediapeer.rtp.frame import EncodedFrame, RepairCounts
from mediapeer.rtp.nack import NackList
from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.payload import PayloadError, split_red
from mediapeer.rtp.reorder import CAPACITIES, ReorderBuffer
from mediapeer.rtp.router import RtpSection
from mediapeer.rtp.statistics import MAXIMUM_DROPOUT, InboundStream

#: When more packets than these are missing, none is waited for: a keyframe is cheaper.
MAXIMUM_MISSING = 450
#: Seconds that a missing packet is waited for: with NACK and without, by the kind of section.
DEADLINES = {"video": (0.5, 0.1), "audio": (0.2, 0.1)}
#: How many round trips the repair of video may take, and the longest time for that, in seconds: a packet is asked for
#: again after one and a quarter, and the third answer takes one more and a little.
_ROUND_TRIPS = 3.5
_SLACK = 0.05
_LONGEST_DEADLINE = 2.0
#: How far ahead of the packets that came a retransmission may be.
_REPAIR_REACH = 64
#: What may share the sequence numbers of media, and is no frame of it.
_NO_MEDIA = frozenset({"", "cn", "flexfec-03", "red", "rtx", "telephone-event", "ulpfec"})
#: How many of the packets that were given up are remembered, to tell those that come late from duplicates.
_REMEMBERED = 512
_NOTHING: Sequence[EncodedFrame] = ()


class StreamReceiver:
    """Takes the packets of one source as they come, and gives its frames in order.

    While nothing is missing a packet goes straight through. What follows a missing packet waits in a buffer, until
    that has come, or the deadline is over, or the buffer is full.

    :param stream: the source.
    :param section: what was negotiated.
    :param first: the extended sequence number of the first packet; what is older is not waited for.
    :param counts: of the track.
    :param counters: told of what is dropped.
    :param capture_time_id: the identifier of abs-capture-time, 0 for none.
    """

    __slots__ = (
        "_assembler",
        "_assemblers",
        "_buffer",
        "_capture_time_id",
        "_counters",
        "_counts",
        "_forgone",
        "_lost",
        "_payload_type",
        "_red",
        "_section",
        "_timestamp",
        "gave_up",
        "is_disturbed",
        "nacks",
        "round_trip_time",
        "stream",
    )

    def __init__(
        self,
        stream: InboundStream,
        section: RtpSection,
        first: int,
        counts: RepairCounts,
        counters: Counter[str],
        capture_time_id: int = 0,
    ) -> None:
        self.stream = stream
        self.nacks = NackList()
        "What to ask for again; empty where NACK was not negotiated."
        self.round_trip_time: float | None = None
        "In seconds, once it is known."
        self.is_disturbed = False
        "Whether something was not simply the next packet, since the owner set this to ``False``."
        self.gave_up = False
        "Whether packets were given up or of no use since the last keyframe, or since the owner set it to ``False``."
        self._section = section
        self._counts = counts
        self._counters = counters
        self._capture_time_id = capture_time_id
        self._buffer = ReorderBuffer(CAPACITIES[section.kind], first)
        self._assemblers: dict[int, FrameAssembler | None] = {}
        self._assembler: FrameAssembler | None = None
        self._payload_type = -1
        self._red = _red_of(section)
        self._timestamp = 0
        self._lost = 0
        self._forgone: dict[int, None] = {}

    @property
    def section(self) -> RtpSection:
        """What was negotiated; may be replaced. Formats that stay the same go on undisturbed."""
        return self._section

    @section.setter
    def section(self, section: RtpSection) -> None:
        before = self._section.formats
        self._assemblers = {
            payload_type: assembler
            for payload_type, assembler in self._assemblers.items()
            if section.formats.get(payload_type) == before.get(payload_type)
        }
        self._payload_type, self._assembler = -1, None
        self._section = section
        self._red = _red_of(section)
        if "nack" not in section.feedback:
            self.nacks.clear()

    @property
    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` has something to do, or :attr:`nacks` has."""
        since = self._buffer.waiting_since
        if since is None:
            return None
        deadline = since + self._deadline()
        due = self.nacks.next_due
        return deadline if due is None or deadline < due else due

    def _deadline(self) -> float:
        with_nack, without = DEADLINES[self._section.kind]
        if "nack" not in self._section.feedback:
            return without
        if self._section.kind == "video" and self.round_trip_time is not None:
            return min(max(with_nack, _ROUND_TRIPS * self.round_trip_time + _SLACK), _LONGEST_DEADLINE)
        return with_nack

    # Packets

    def receive(
        self, packet: RtpPacket, number: int, now: float, is_repair: bool = False
    ) -> Sequence[EncodedFrame]:
        """Take a packet; the frames that can be given out with it.

        :param number: its extended sequence number.
        :param is_repair: whether it came over RTX.
        """
        if self._capture_time_id and packet.extensions:
            self._read_capture_time(packet, now)
        if packet.payload_type in self._red and (filled := self._unwrap_red(packet, number, now)):
            return [*filled, *self._receive_out_of_order(packet, number, now, is_repair)]
        buffer = self._buffer
        if number == buffer.next and not buffer:
            buffer.next += 1
            buffer.highest = number
            self._counts.received += 1
            return self._assemble(packet, now)
        self.is_disturbed = True
        return self._receive_out_of_order(packet, number, now, is_repair)

    def _receive_out_of_order(
        self, packet: RtpPacket, number: int, now: float, is_repair: bool
    ) -> Sequence[EncodedFrame]:
        buffer = self._buffer
        if number < buffer.next or number in buffer:
            self._counters[self._reason_to_drop(number, is_repair)] += 1
            return _NOTHING
        if is_repair and number > buffer.highest + _REPAIR_REACH:
            self._counters["misnumbered_rtx"] += 1
            return _NOTHING
        frames: list[EncodedFrame] = []
        if number > buffer.highest:
            self._note(number, now, frames)
        else:
            self._repaired(number)
        self._counts.received += 1
        buffer.insert(number, packet, now)
        self._drain(frames)
        self._expire(now, frames)
        return frames

    def _reason_to_drop(self, number: int, is_repair: bool) -> str:
        if number in self._forgone:
            del self._forgone[number]
            return "late_rtp"
        return "duplicate_rtx" if is_repair else "duplicate_rtp"

    def _repaired(self, number: int) -> None:
        self._counts.repaired += 1
        self.nacks.remove(number)

    def _note(self, number: int, now: float, frames: list[EncodedFrame]) -> None:
        """Note what is missing before ``number``, the highest so far; make room for it."""
        buffer = self._buffer
        while len(buffer) and number - buffer.next >= buffer.capacity:
            self._skip(frames)
        missing = number - buffer.next - len(buffer)
        if missing > MAXIMUM_MISSING or number - buffer.next >= buffer.capacity:
            self._begin_anew(number, frames)
            return
        self._counts.lost += number - buffer.highest - 1
        if "nack" in self._section.feedback:
            self.nacks.add(buffer.highest + 1, number, now)
        buffer.highest = number - 1

    def _begin_anew(self, number: int, frames: list[EncodedFrame]) -> None:
        """Too much is missing to be waited for: go on from here."""
        buffer = self._buffer
        while len(buffer):
            self._skip(frames)
        skipped = number - buffer.next
        # A step that is larger than any outage says no number.
        lost = skipped if skipped <= MAXIMUM_DROPOUT else 1
        self._counts.lost += lost
        self._counts.given_up += lost
        self._lost += lost
        self.gave_up = True
        self.nacks.clear()
        self._forgone.clear()
        buffer.restart(number)

    def _skip(self, frames: list[EncodedFrame]) -> None:
        """Give up the gap that the first of the packets waits for, and take those behind it."""
        numbers = self._buffer.skip()
        for number in numbers:
            self.nacks.remove(number)
        self._forgone.update(dict.fromkeys(numbers))
        # At one go: to look for the first of a dictionary anew after each that is taken away goes past all of those.
        for number in list(islice(self._forgone, max(0, len(self._forgone) - _REMEMBERED))):
            del self._forgone[number]
        if numbers:
            self._counts.given_up += len(numbers)
            self._lost += len(numbers)
            self.gave_up = True
        self._drain(frames)

    def _drain(self, frames: list[EncodedFrame]) -> None:
        while (found := self._buffer.take()) is not None:
            frames += self._assemble(*found)

    def _expire(self, now: float, frames: list[EncodedFrame]) -> None:
        deadline = self._deadline()
        while (since := self._buffer.waiting_since) is not None and now >= since + deadline:
            self._skip(frames)

    def handle_timeout(self, now: float) -> Sequence[EncodedFrame]:
        """Give up what has been waited for long enough; the frames that this lets through."""
        frames: list[EncodedFrame] = []
        self._expire(now, frames)
        return frames

    def end(self) -> Sequence[EncodedFrame]:
        """Give up all that is missing; the last frames."""
        frames: list[EncodedFrame] = []
        while len(self._buffer):
            self._skip(frames)
        return frames

    def abandon(self) -> None:
        """Drop what waits: nobody wants it. What is missing counts as given up."""
        self._counts.given_up += self._buffer.missing
        self._buffer.restart(self._buffer.highest + 1)
        self.nacks.clear()

    # Frames

    def _assemble(self, packet: RtpPacket, arrival: float) -> Sequence[EncodedFrame]:
        if packet.payload_type != self._payload_type:
            self._change_format(packet.payload_type)
        self._timestamp = packet.timestamp
        assembler = self._assembler
        if assembler is None:
            return _NOTHING  # an event among sound, or what is not known here
        if self._lost:
            frames = assembler.add(packet, arrival, self._lost)
            self._lost = 0
        else:
            frames = assembler.add(packet, arrival)
        if frames:
            stream = self.stream
            for frame in frames:
                frame.rid = stream.rid
                frame.captured_at = stream.clock.captured_at(frame.timestamp, frame.clock_rate)
                if frame.is_keyframe:
                    self.gave_up = False
                    if frame.width and frame.height:
                        stream.picture_area = frame.width * frame.height
                elif frame.lost_before:
                    self.gave_up = self.is_disturbed = True
        return frames

    def _change_format(self, payload_type: int) -> None:
        if self._section.kind == "video" and payload_type not in self._assemblers:
            self._assemblers.clear()  # a picture of another codec was the last of its own
        format = self._section.formats.get(payload_type)
        if payload_type not in self._assemblers:
            self._assemblers[payload_type] = (
                None
                if format is None or format.name in _NO_MEDIA
                else FrameAssembler(self.stream.ssrc, format, self._counters)
            )
        self._payload_type = payload_type
        self._assembler = self._assemblers[payload_type]

    def _read_capture_time(self, packet: RtpPacket, now: float) -> None:
        value = packet.extensions.get(self._capture_time_id)
        if value is not None:
            format = self._section.formats.get(packet.payload_type)
            if format is not None:
                self.stream.clock.receive_capture_time(value, packet.timestamp, format.clock_rate, now)

    # Redundant audio

    def _unwrap_red(self, packet: RtpPacket, number: int, now: float) -> list[EncodedFrame]:
        """Make a packet of RFC 2198 its primary, and fill with the redundant ones what is missing before it.

        They have no numbers of their own: each is taken for the packet so far before this one (as browsers send
        them), if its timestamp fits there.
        """
        frames: list[EncodedFrame] = []
        if not packet.payload:
            return frames
        try:
            *redundant, primary = split_red(packet.payload)
        except PayloadError:
            # Its number has come; what it has is lost.
            self._counters["malformed_payload"] += 1
            packet.payload = b""
            return frames
        packet.payload_type, packet.payload = primary.payload_type, primary.data
        buffer = self._buffer
        if not redundant or number <= buffer.next:
            return frames
        self.is_disturbed = True
        if number > buffer.highest:
            self._note(number, now, frames)
        for distance, block in zip(range(len(redundant), 0, -1), redundant, strict=True):
            missing = number - distance
            if not block.data or missing < buffer.next or missing in buffer:
                continue
            timestamp = (packet.timestamp - block.timestamp_offset) & 0xFFFFFFFF
            if signed(timestamp - self._timestamp_before(missing)) <= 0:
                continue
            repaired = RtpPacket(block.payload_type, missing & 0xFFFF, timestamp, packet.ssrc, block.data)
            self._repaired(missing)
            buffer.insert(missing, repaired, now)
        self._drain(frames)
        return frames

    def _timestamp_before(self, number: int) -> int:
        """The timestamp of the packet that came closest before ``number``."""
        for before in range(number - 1, self._buffer.next - 1, -1):
            if (packet := self._buffer.peek(before)) is not None:
                return packet.timestamp
        return self._timestamp


def _red_of(section: RtpSection) -> frozenset[int]:
    """The payload types of redundant audio."""
    return frozenset(number for number, format in section.formats.items() if format.name == "red")
