"""The packets of one source, in order, to frames."""

from collections import Counter
from collections.abc import Sequence

from mediapeer.rtp.frame import EncodedFrame
from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.payload import MAXIMUM_FRAME_LENGTH, MAXIMUM_FRAME_PACKETS, PayloadError, depacketizer_for
from mediapeer.rtp.router import PayloadFormat

_SOUND = frozenset({"opus", "pcmu", "pcma", "g722"})
_NOTHING: Sequence[EncodedFrame] = ()


class FrameAssembler:
    """Puts frames together.

    A frame ends with the packet that bears the marker, or where the timestamp changes; of sound, each packet is one.
    What is not whole is dropped and counted: ``incomplete_frame`` where packets were given up, ``malformed_payload``
    what is not of its format, ``oversized_frame`` what has no end, ``unknown_codec`` where no format is known here.

    :param ssrc: the source.
    :param format: that of all its packets; with another one, another assembler is made.
    :param counters: told of what is dropped.
    """

    def __init__(self, ssrc: int, format: PayloadFormat, counters: Counter[str]) -> None:
        self.ssrc = ssrc
        self.format = format
        self._counters = counters
        self._codec = format.name.lower()
        self._is_sound = self._codec in _SOUND
        self._clock_rate = format.clock_rate
        self._depacketizer = depacketizer_for(self._codec, format.clock_rate, format.channels)
        self._payloads: list[bytes] = []
        self._length = 0
        self._timestamp: int | None = None
        "Of the frame in progress, or of the last one."
        self._payload_type = 0
        self._arrival = 0.0
        self._lost = 0
        self._must_begin = True
        "Whether the next packet may be from the middle of a frame."
        self._is_skipping = False
        "Whether the rest of the frame with this timestamp is dropped."

    def add(self, packet: RtpPacket, arrival: float, lost_before: int = 0) -> Sequence[EncodedFrame]:
        """Take the next packet, and give the frames that are whole with it: at most two.

        :param arrival: when it came, in seconds.
        :param lost_before: how many packets before it were given up.
        """
        if lost_before:
            self.gap(lost_before)
        if self._is_sound:
            return self._take_sound(packet, arrival)
        payload = packet.payload
        if not payload:
            return _NOTHING  # padding
        before: EncodedFrame | None = None
        if packet.timestamp != self._timestamp:
            if self._payloads:
                before = self._finish()
            self._timestamp = packet.timestamp
            self._is_skipping = False
        payloads = self._payloads
        if self._is_skipping:
            if packet.marker:
                self._end_skipping()
        elif payloads or self._begin(packet, arrival):
            payloads.append(payload)
            self._length += len(payload)
            if arrival < self._arrival:
                self._arrival = arrival
            if packet.marker:
                frame = self._finish()
                if before is None:
                    return _NOTHING if frame is None else (frame,)
                return (before,) if frame is None else (before, frame)
            if self._length > MAXIMUM_FRAME_LENGTH or len(payloads) >= MAXIMUM_FRAME_PACKETS:
                self._drop("oversized_frame")
                self._is_skipping = True
        return _NOTHING if before is None else (before,)

    def gap(self, lost: int = 1) -> None:
        """Note that packets were given up before the next one. The frame in progress is dropped.

        :param lost: how many.
        """
        self._lost += lost
        self._must_begin = True
        if self._payloads:
            self._counters["incomplete_frame"] += 1
            self._payloads = []
            # The rest of it may still come.
            self._is_skipping = True

    def _begin(self, packet: RtpPacket, arrival: float) -> bool:
        """Begin a frame, if the packet does."""
        if self._must_begin:
            if self._depacketizer is None:
                self._counters["unknown_codec"] += 1
                return False
            if not self._depacketizer.begins_frame(packet.payload):
                self._counters["incomplete_frame"] += 1
                self._is_skipping = not packet.marker
                return False
            self._must_begin = False
        self._payload_type = packet.payload_type
        self._arrival = arrival
        self._length = 0
        return True

    def _end_skipping(self) -> None:
        """The frame that was dropped has ended, and the next packet begins another."""
        self._is_skipping = self._must_begin = False
        self._timestamp = None

    def _finish(self) -> EncodedFrame | None:
        """Make the frame in progress."""
        payloads, self._payloads = self._payloads, []
        if self._timestamp is None:
            return None
        return self._make(payloads, self._timestamp)

    def _make(self, payloads: Sequence[bytes], timestamp: int) -> EncodedFrame | None:
        if self._depacketizer is None:
            return None
        try:
            unit = self._depacketizer.depacketize(payloads)
        except PayloadError:
            self._counters["malformed_payload"] += 1
            self._lost += len(payloads)
            return None
        lost, self._lost = self._lost, 0
        data, is_keyframe, width, height, spatial, temporal, duration = unit
        return EncodedFrame(
            self._codec, data, self.ssrc, timestamp, self._clock_rate, self._arrival, is_keyframe,
            self._payload_type, width, height, spatial, temporal, duration, lost,
        )  # fmt: skip

    def _drop(self, name: str) -> None:
        """Drop the frame in progress, as if its packets had been lost."""
        self._counters[name] += 1
        self._lost += len(self._payloads)
        self._payloads = []

    def _take_sound(self, packet: RtpPacket, arrival: float) -> Sequence[EncodedFrame]:
        if not packet.payload:
            return _NOTHING
        self._payload_type, self._arrival = packet.payload_type, arrival
        frame = self._make((packet.payload,), packet.timestamp)
        return _NOTHING if frame is None else (frame,)
