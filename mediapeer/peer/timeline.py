"""The time of a track's frames, in one line over all sources that they come from."""

from mediapeer.rtp import EncodedFrame

#: How far the sender's clock and ours may differ on the time between two frames, in seconds, before ours counts.
PLAUSIBLE_STEP = 5.0


class Timeline:
    """Gives each frame its place on one timeline, which begins with 0 at the first and always grows.

    Within a source the RTP timestamps tell it, extended beyond their 32 bits (RFC 3550 §5.1). Where another source
    goes on, after a change of layers, the sender's clock tells how much later its first frame was captured, or, when
    that is not known, the time of arrival.
    """

    def __init__(self) -> None:
        self._last: EncodedFrame | None = None
        self._position = 0

    def place(self, frame: EncodedFrame) -> int:
        """The place of the next frame, in units of its clock rate."""
        last, self._last = self._last, frame
        if last is None:
            return 0
        rate = frame.clock_rate
        if rate != last.clock_rate:
            self._position = self._position * rate // max(last.clock_rate, 1)
        if frame.ssrc == last.ssrc and rate == last.clock_rate:
            step = _timestamp_step(last, frame)
        else:
            step = round(_seconds_between(last, frame) * rate)
        self._position += max(step, 1)
        return self._position


def _timestamp_step(last: EncodedFrame, frame: EncodedFrame) -> int:
    """How far two timestamps of one source are apart: modulo 2^32, and as close to the time that passed as can be."""
    passed = round(max(frame.arrival - last.arrival, 0.0) * frame.clock_rate)
    deviation = (frame.timestamp - last.timestamp - passed + 0x80000000) & 0xFFFFFFFF
    step = passed + deviation - 0x80000000
    # A source that turns its clock back has begun anew.
    return step if step > 0 else passed


def _seconds_between(last: EncodedFrame, frame: EncodedFrame) -> float:
    arrived = max(frame.arrival - last.arrival, 0.0)
    if frame.captured_at is None or last.captured_at is None:
        return arrived
    captured = frame.captured_at - last.captured_at
    return captured if abs(captured - arrived) < PLAUSIBLE_STEP else arrived
