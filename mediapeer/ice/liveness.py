"""Whether the peer is still there, told from when authentic packets came. Sans-IO: time is an argument."""

import enum

#: Seconds without an authenticated packet after which the path counts as disconnected.
DISCONNECTED_AFTER = 4.0
#: Seconds without an answered check after which consent to send has expired (RFC 7675 §5.1).
CONSENT_LIFETIME = 30.0
#: The base of the period between consent checks, in seconds; each is 0.8 to 1.2 times this (RFC 7675 §5.1).
CONSENT_INTERVAL = 5.0
#: Seconds of silence after which the path is probed without waiting for the next consent check: at the most, and
#: at the least, on a path where packets came one after the other.
QUIET_AFTER, QUIET_AFTER_BUSY = 1.5, 0.5
#: How many times the usual pause a pause is that counts as silence.
_UNUSUAL = 8


class Liveness(enum.Enum):
    """What is known of the peer."""

    CONNECTED = "connected"
    "An authenticated packet came lately."
    DISCONNECTED = "disconnected"
    "Nothing authentic came for :data:`DISCONNECTED_AFTER`; it may come back."
    EXPIRED = "expired"
    "The peer did not answer a check for :data:`CONSENT_LIFETIME`; nothing may be sent to it any more."


class PathLiveness:
    """Follows one path from the moment ICE completes.

    :param now: seconds, on any monotonic clock; so are all other times here.
    """

    def __init__(self, now: float) -> None:
        self.last_heard = now
        "When the last authenticated packet of any protocol came."
        self._usual_pause = QUIET_AFTER
        self._last_consent = now
        self._last_check = now
        self._check_period = CONSENT_INTERVAL

    def heard(self, now: float) -> None:
        """An authenticated packet came: media, data, or a check of the peer's."""
        self._usual_pause += (min(now - self.last_heard, QUIET_AFTER) - self._usual_pause) / 8
        self.last_heard = now

    def consented(self, now: float) -> None:
        """The peer answered a check of ours, which renews its consent."""
        self.heard(now)
        self._last_consent = now

    def checked(self, now: float, period: float) -> None:
        """A check was sent; the next is due in ``period`` seconds, or earlier when the path goes quiet."""
        self._last_check = now
        self._check_period = period

    @property
    def expiry(self) -> float:
        "When consent to send expires if no further check is answered."
        return self._last_consent + CONSENT_LIFETIME

    def state(self, now: float) -> Liveness:
        """What the path is at ``now``."""
        if now >= self.expiry:
            return Liveness.EXPIRED
        if now >= self.last_heard + DISCONNECTED_AFTER:
            return Liveness.DISCONNECTED
        return Liveness.CONNECTED

    def next_change(self, now: float) -> float:
        """When :meth:`state` changes next if nothing comes until then."""
        if self.state(now) is Liveness.CONNECTED:
            return min(self.expiry, self.last_heard + DISCONNECTED_AFTER)
        return self.expiry

    @property
    def quiet_after(self) -> float:
        """Seconds of silence that are not usual on this path: many where packets are few."""
        return min(max(_UNUSUAL * self._usual_pause, QUIET_AFTER_BUSY), QUIET_AFTER)

    def next_check(self) -> float:
        """When the next check is due.

        While packets come, that is the slow pace of consent (RFC 7675 §5.1 forbids less than 4 s). A path
        that is quiet is checked at once, and again whenever a check stays without an answer.
        """
        quiet = max(self.last_heard + self.quiet_after, self._last_check)
        return min(self._last_check + self._check_period, quiet)
