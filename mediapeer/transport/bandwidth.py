"""How much the path to us can carry: one estimate for all streams of a transport, told by REMB."""

from collections import Counter

from aiortc.rate import RemoteBitrateEstimator

#: Seconds without a packet after which what was measured says nothing any more. aiortc's counter of the rate would
#: also go through a pause millisecond by millisecond.
PAUSE = 2.0
#: Seconds between two reports, unless the estimate falls: then it is told at once.
REPORT_INTERVAL = 0.2
#: How much lower an estimate must be to be told at once.
_DROP = 0.97


class BandwidthEstimator:
    """aiortc's estimator of the available bit rate, fed with every stream that says when it was sent.

    :param counters: told when the estimator chokes.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        # A large thing, and a call without video needs none.
        self._estimator: RemoteBitrateEstimator | None = None
        self._last_arrival = 0.0
        self._last_report = 0.0
        self._last_bitrate: int | None = None

    def add(self, abs_send_time: int, now: float, size: int, ssrc: int) -> int | None:
        """Take a packet; the bit rate in bits per second when it is to be reported now, else ``None``.

        :param abs_send_time: when it was sent, in units of 2^-18 s, modulo 64 s (the extension abs-send-time).
        :param now: when it came, in seconds.
        :param size: its payload in bytes.
        """
        if self._estimator is None:
            self._estimator = RemoteBitrateEstimator()
        elif now - self._last_arrival > PAUSE:
            self._estimator.incoming_bitrate.reset()
        self._last_arrival = now
        try:
            estimate = self._estimator.add(
                arrival_time_ms=int(now * 1000), abs_send_time=abs_send_time, payload_size=size, ssrc=ssrc
            )
        except (ArithmeticError, LookupError, TypeError, ValueError):
            self._counters["bandwidth_estimator_errors"] += 1
            self._estimator = None
            return None
        # It never lets go of a source; who is in the report is said elsewhere.
        self._estimator.ssrcs.clear()
        if estimate is None:
            return None
        bitrate = int(estimate[0])
        falls = self._last_bitrate is not None and bitrate < _DROP * self._last_bitrate
        if not falls and self._last_bitrate is not None and now - self._last_report < REPORT_INTERVAL:
            return None
        self._last_bitrate, self._last_report = bitrate, now
        return bitrate
