"""What a media section receives: one source at a time, repaired, as encoded frames."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mediapeer.rtp.frame import EncodedFrame, RepairCounts
from mediapeer.rtp.keyframes import begins_keyframe
from mediapeer.rtp.layers import SILENCE, LayerChoice, Verdict
from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.router import RtpRouter, RtpSection
from mediapeer.rtp.statistics import InboundStream
from mediapeer.rtp.stream import StreamReceiver

#: The least number of seconds between two requests for a keyframe of one source.
KEYFRAME_INTERVAL = 0.5
#: The most, to which it grows while none comes.
_LONGEST_INTERVAL = 4.0
#: How many packets one request may ask for.
MAXIMUM_NACKS = 128
#: A source that has been silent for so many seconds is asked for nothing.
_SILENT = 10.0
_NOTHING: Sequence[EncodedFrame] = ()


@dataclass(frozen=True, slots=True)
class NackRequest:
    """Packets to ask for again (RFC 4585 §6.2.1)."""

    ssrc: int
    sequence_numbers: list[int]
    "The source's own, 16 bits, in the order of sending; at most 128."


@dataclass(frozen=True, slots=True)
class KeyframeRequest:
    """A source to ask for a keyframe (RFC 4585 §6.3.1, RFC 5104 §4.3.1)."""

    ssrc: int


class SectionReceiver:
    """Makes the encoded frames of one media section.

    The best source that flows is received (:class:`~mediapeer.rtp.layers.LayerChoice`). One that is better takes over
    when the first of its keyframes is whole; until then frames come from the one before. When that goes silent,
    another takes over at once, and of video nothing is given out before its keyframe.

    After packets were given up, frames go on (``lost_before``), and a keyframe is asked for: that is done at the
    start too, and for :meth:`request_keyframe`.

    :param section: what was negotiated.
    :param router: knows the streams of the section.
    :param counters: told of what is dropped.
    """

    def __init__(self, section: RtpSection, router: RtpRouter, counters: Counter[str]) -> None:
        self.is_wanted = False
        """Whether anybody takes the frames; may be set before each packet. While it is ``False`` sources are chosen,
        and nothing is put in order, asked for, or made a frame."""
        self.current: InboundStream | None = None
        "The source that is received."
        self.counts = RepairCounts()
        "Of all sources, while frames were wanted."
        self.round_trip_time: float | None = None
        "In seconds; to be set once it is known."
        self.has_requests = False
        "Whether :meth:`requests` has something to send."
        self.next_timeout: float | None = None
        "When :meth:`handle_timeout` is to be called; it may change with every call."
        self._section = section
        self._router = router
        self._counters = counters
        self._choice = LayerChoice(section)
        self._active: StreamReceiver | None = None
        self._candidate: StreamReceiver | None = None
        self._awaits_keyframe = False
        "Whether the frames of the source are of no use before its next keyframe: another one's came before."
        self._had_source = False
        self._ask_at: float | None = None
        "When to ask the source for a keyframe; ``None`` when none is wanted."
        self._interval = KEYFRAME_INTERVAL
        self._better: InboundStream | None = None
        "A better source that is to be asked for a keyframe."
        self._better_interval = KEYFRAME_INTERVAL

    @property
    def section(self) -> RtpSection:
        """What was negotiated; to be set again after a renegotiation. What has not changed goes on."""
        return self._section

    @section.setter
    def section(self, section: RtpSection) -> None:
        self._section = self._choice.section = section
        for receiver in self._receivers():
            receiver.section = section

    def _receivers(self) -> Iterator[StreamReceiver]:
        if self._active is not None:
            yield self._active
        if self._candidate is not None:
            yield self._candidate

    def _abandon(self) -> None:
        for receiver in self._receivers():
            receiver.abandon()
        self._active = self._candidate = self._better = None

    # Packets

    def receive(
        self,
        stream: InboundStream,
        packet: RtpPacket,
        extended: int,
        now: float,
        *,
        is_repair: bool = False,
    ) -> Sequence[EncodedFrame]:
        """Take a packet of the section; the frames that can be given out with it, in order.

        :param stream: the source of the packet: that which was repaired, if it came over RTX.
        :param extended: its extended sequence number.
        :param now: when it came, in seconds.
        :param is_repair: whether it came over RTX and is unwrapped.
        """
        active = self._active
        if active is None or stream is not active.stream or not self.is_wanted:
            return self._receive_other(stream, packet, extended, now, is_repair)
        frames = active.receive(packet, extended, now, is_repair)
        if frames and (self._ask_at is not None or self._awaits_keyframe):
            frames = self._look_for_keyframe(frames)
        if active.is_disturbed or self.next_timeout is not None:
            self._follow_up(now)
        return frames

    def _receive_other(
        self, stream: InboundStream, packet: RtpPacket, extended: int, now: float, is_repair: bool
    ) -> Sequence[EncodedFrame]:
        if not self.is_wanted and self._active is not None:
            self._let_go()
        if is_repair and (self._candidate is None or stream is not self._candidate.stream):
            return _NOTHING  # of a layer that is not received, as a sender probes the path
        if self._candidate is not None and stream is self._candidate.stream:
            return self._receive_candidate(self._candidate, packet, extended, now, is_repair)
        verdict = Verdict.TAKE_OVER
        if stream is not self.current:
            siblings = self._router.streams_of(self._section.mid)
            verdict = self._choice.judge(stream, self.current, siblings, now)
        if verdict is Verdict.STAY or (verdict is Verdict.WAIT and not self.is_wanted):
            return _NOTHING
        if verdict is not Verdict.TAKE_OVER and self.is_wanted and self._section.kind == "video":
            return self._consider(stream, packet, extended, now, verdict)
        self.current = stream
        if not self.is_wanted:
            return _NOTHING
        return self._take_over(stream, packet, extended, now)

    def _take_over(
        self, stream: InboundStream, packet: RtpPacket, extended: int, now: float
    ) -> Sequence[EncodedFrame]:
        """Receive ``stream`` from this packet on."""
        self._abandon()
        self._active = active = self._receiver(stream, extended)
        if self._section.kind == "video":
            self._awaits_keyframe = self._had_source
            self._interval = KEYFRAME_INTERVAL
            self._ask_at = now + KEYFRAME_INTERVAL if self._begins_keyframe(packet) else now
        self._had_source = True
        frames = active.receive(packet, extended, now)
        if frames:
            frames = self._look_for_keyframe(frames)
        self._follow_up(now)
        return frames

    def _receiver(self, stream: InboundStream, first: int) -> StreamReceiver:
        capture_time_id = self._router.extensions.abs_capture_time
        receiver = StreamReceiver(stream, self._section, first, self.counts, self._counters, capture_time_id)
        receiver.round_trip_time = self.round_trip_time
        return receiver

    def _let_go(self) -> None:
        """Nobody wants frames any more."""
        self._abandon()
        self._awaits_keyframe = self._had_source = False
        self._ask_at = self.next_timeout = None
        self.has_requests = False

    # A better layer

    def _consider(
        self, stream: InboundStream, packet: RtpPacket, extended: int, now: float, verdict: Verdict
    ) -> Sequence[EncodedFrame]:
        """A packet of a better source: begin to receive it beside the other, if a keyframe begins."""
        candidate = self._candidate
        if candidate is not None and not self._choice.is_better(stream, candidate.stream):
            return _NOTHING
        if not self._begins_keyframe(packet):
            if verdict is Verdict.BETTER and self._may_ask(stream, now, self._better_interval):
                self._better = stream
                self.has_requests = True
            return _NOTHING
        if candidate is not None:
            candidate.abandon()
        self._candidate = candidate = self._receiver(stream, extended)
        return self._receive_candidate(candidate, packet, extended, now, False)

    def _receive_candidate(
        self, candidate: StreamReceiver, packet: RtpPacket, extended: int, now: float, is_repair: bool
    ) -> Sequence[EncodedFrame]:
        return self._judge_candidate(candidate.receive(packet, extended, now, is_repair), now)

    def _judge_candidate(self, frames: Sequence[EncodedFrame], now: float) -> Sequence[EncodedFrame]:
        """Let the candidate take over when its keyframe is whole, or go when it has lost that."""
        candidate = self._candidate
        if candidate is None:
            return _NOTHING
        if frames and frames[0].is_keyframe and self._is_in_place(candidate.stream, now):
            self._candidate = None
            self._abandon()
            self._active = candidate
            self.current = candidate.stream
            self._better_interval = self._interval = KEYFRAME_INTERVAL
            self._awaits_keyframe = False
            self._ask_at = None
        elif frames or candidate.gave_up:
            candidate.abandon()
            self._candidate = None
            frames = _NOTHING
        self._follow_up(now)
        return frames

    def _is_in_place(self, stream: InboundStream, now: float) -> bool:
        """Whether a source is to take over, now that it is known how large its pictures are."""
        current = self.current
        if current is None or not current.is_flowing(now, SILENCE):
            return True
        return self._choice.is_better(stream, current)

    def _begins_keyframe(self, packet: RtpPacket) -> bool:
        """Whether a keyframe begins with the packet, or may: of codecs that are not known."""
        format = self._section.formats.get(packet.payload_type)
        return format is None or begins_keyframe(format.name, packet.payload) is not False

    # Keyframes

    def request_keyframe(self) -> None:
        """Have the source asked for a keyframe, as soon as it may be asked again."""
        if self._active is not None and self._section.kind == "video":
            self._interval = KEYFRAME_INTERVAL
            self._ask_at = 0.0
            self.has_requests = True

    def _look_for_keyframe(self, frames: Sequence[EncodedFrame]) -> Sequence[EncodedFrame]:
        """Note that the keyframe has come; without what cannot be decoded before it."""
        for position, frame in enumerate(frames):
            if frame.is_keyframe:
                self._ask_at = None
                self._interval = KEYFRAME_INTERVAL
                if self._awaits_keyframe:
                    self._awaits_keyframe = False
                    return frames[position:]
                return frames
        if self._ask_at == math.inf:
            self.request_keyframe()  # the source has begun again
        if self._awaits_keyframe:
            self._counters["frame_before_keyframe"] += len(frames)
            return _NOTHING
        return frames

    @staticmethod
    def _may_ask(stream: InboundStream, now: float, interval: float) -> bool:
        return stream.keyframe_asked is None or now - stream.keyframe_asked >= interval

    def _ask_after_loss(self, now: float, timeout: float | None) -> float:
        """See to it that a keyframe is asked for; when is there something to do, if it was ``timeout`` before."""
        self._interval = KEYFRAME_INTERVAL
        if self._ask_at is None:
            self._ask_at = now
        else:
            # That which was asked for may be what was lost.
            self._ask_at = min(self._ask_at, now + KEYFRAME_INTERVAL)
        if self._ask_at <= now:
            self.has_requests = True
        return self._ask_at if timeout is None else min(timeout, self._ask_at)

    # Time

    def _follow_up(self, now: float) -> None:
        """After something out of order, or while a time-out is set: see what is to be done when."""
        active, candidate = self._active, self._candidate
        timeout = self._ask_at if self._ask_at != math.inf else None
        if timeout is not None and timeout <= now:
            self.has_requests = True
        for receiver in (active, candidate):
            if receiver is None:
                continue
            receiver.is_disturbed = False
            receiver.round_trip_time = self.round_trip_time
            if (when := receiver.next_timeout) is not None and (timeout is None or when < timeout):
                timeout = when
            if (due := receiver.nacks.next_due) is not None and due <= now:
                self.has_requests = True
        if active is not None and active.gave_up:
            active.gave_up = False
            if self._section.kind == "video":
                timeout = self._ask_after_loss(now, timeout)
        self.next_timeout = timeout

    def handle_timeout(self, now: float) -> Sequence[EncodedFrame]:
        """Do what is due: what has been waited for too long is given up. The frames that this lets through."""
        if self.next_timeout is None or now < self.next_timeout:
            return _NOTHING
        if not self.is_wanted:
            self._let_go()
        frames: Sequence[EncodedFrame] = _NOTHING
        if self._active is not None:
            frames = self._active.handle_timeout(now)
            if frames:
                frames = self._look_for_keyframe(frames)
        if self._candidate is not None:
            frames = [*frames, *self._judge_candidate(self._candidate.handle_timeout(now), now)]
        self._follow_up(now)
        return frames

    def requests(self, now: float) -> Sequence[NackRequest | KeyframeRequest]:
        """What to ask the peer for now; each is told once. Counting what was sent is left to the caller.

        A keyframe is asked for again, at growing intervals, until one comes.
        """
        if not self.has_requests:
            return ()
        self.has_requests = False
        requests: list[NackRequest | KeyframeRequest] = []
        for receiver in self._receivers():
            numbers = receiver.nacks.due(now, self.round_trip_time)
            for start in range(0, len(numbers), MAXIMUM_NACKS):
                chunk = [number & 0xFFFF for number in numbers[start : start + MAXIMUM_NACKS]]
                requests.append(NackRequest(receiver.stream.ssrc, chunk))
        if self._active is not None and self._ask_at is not None and self._ask_at <= now:
            requests += self._keyframe_requests(self._active.stream, now)
        better, self._better = self._better, None
        if better is not None and self._may_ask(better, now, self._better_interval):
            self._better_interval = min(2 * self._better_interval, _LONGEST_INTERVAL)
            better.keyframe_asked = now
            requests.append(KeyframeRequest(better.ssrc))
        self._follow_up(now)
        return requests

    def _keyframe_requests(self, stream: InboundStream, now: float) -> Iterator[KeyframeRequest]:
        if stream.keyframe_asked is not None and now - stream.keyframe_asked < KEYFRAME_INTERVAL:
            self._ask_at = stream.keyframe_asked + KEYFRAME_INTERVAL
            return
        if not stream.is_flowing(now, _SILENT):
            self._ask_at = math.inf  # not before its next frame: nobody is to be woken for it
            return
        self._ask_at = now + max(self._interval, self.round_trip_time or 0.0)
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
        stream.keyframe_asked = now
        yield KeyframeRequest(stream.ssrc)

    def end(self) -> Sequence[EncodedFrame]:
        """Give up what is missing, and receive nothing more; the last frames."""
        frames = self._active.end() if self._active is not None else _NOTHING
        if self._awaits_keyframe:
            frames = self._look_for_keyframe(frames)
        self._let_go()
        return frames
