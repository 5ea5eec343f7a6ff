"""Sending the latest flight until it is answered: by the timer, on demand, and what ACKs have left of it."""

from collections import Counter
from collections.abc import Callable, Sequence

from mediapeer.dtls.configuration import DtlsConfiguration
from mediapeer.dtls.flights import Flight, OutgoingMessage, RetransmissionTimer, mtu_after_timeouts
from mediapeer.dtls.messages13 import RecordNumber

MAXIMUM_DEMANDS = 12
"How often a flight is sent again because somebody repeats what it answers, besides what the timer does."
NOTHING_ANSWERED = -1


class FlightTransmission:
    """The latest flight of one end, its timer, and the MTU it is cut to.

    :param transmit: cuts the flight to an MTU, seals it and has it sent.
    :param activity: where it is counted what is sent again.
    """

    def __init__(
        self,
        configuration: DtlsConfiguration,
        now: float,
        transmit: Callable[[Flight, int], None],
        activity: Counter[str],
    ) -> None:
        self.flight = Flight()
        self.mtu = configuration.mtu
        self._mtu_backs_off = configuration.mtu_backs_off
        self._repeats_apart = configuration.repeats_apart
        self.answers = NOTHING_ANSWERED
        "The ``message_seq`` of the last message that the flight answers."
        self.timer = RetransmissionTimer(
            configuration.initial_retransmission_timeout,
            configuration.maximum_retransmission_timeout,
            configuration.maximum_retransmissions,
        )
        self._transmit = transmit
        self._activity = activity
        self._sent_at = now
        self._demands = 0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing (left) to be sent again."""
        return self.flight.is_done

    def send(
        self, messages: Sequence[OutgoingMessage], now: float, *, answers: int, is_answered: bool
    ) -> None:
        """Send a flight; again by the timer if it is to be answered, else on demand."""
        self.flight = Flight(messages, repeats_apart=self._repeats_apart)
        self.answers = answers
        self._demands = 0
        if is_answered:
            self.timer.start(now)
        else:
            self.timer.stop()
        self._sent_at = now
        self._transmit(self.flight, self.mtu)

    def forget(self) -> None:
        """It was answered, and will not be asked for again."""
        self.flight = Flight()
        self.answers = NOTHING_ANSWERED
        self.timer.stop()

    def retransmit(self, now: float) -> None:
        """Send again what is left of it."""
        self._activity["retransmissions"] += 1
        self._sent_at = now
        self._transmit(self.flight, self.mtu)

    def note_progress(self, now: float, *, is_eager: bool) -> None:
        """Some of it was acknowledged: the peer is there.

        :param is_eager: whether to send the rest at once if the peer has had the time to wait for it. Else it may be
            on its way; and nobody has us send it again faster than that.
        """
        self.timer.timeouts = 0
        if not is_eager:
            return
        self.timer.restart(now)
        if now - self._sent_at >= self.timer.initial / 4:
            self.retransmit(now)

    def retransmit_on_demand(self, now: float, *, is_paced: bool = True) -> None:
        """Send it again because the peer lacks it.

        When anybody may have asked, or the peer may not have meant to, it is paced: ever more slowly, and not for
        ever, so that nobody has us send more than a share of what we are sent.
        """
        if is_paced:
            pace = self.timer.initial / 2 * 2**self._demands
            if now - self._sent_at < pace or self._demands >= MAXIMUM_DEMANDS:
                return
            self._demands += 1
        self.retransmit(now)

    def fire(self, now: float) -> bool:
        """The timer has fired: send again, or return false when that was often enough."""
        if not self.timer.fire(now):
            return False
        if self.timer.timeouts > 2:
            # Nothing has come of what unprotected ACKs have spared: they may have been forged.
            self.flight.disregard_acknowledgements_of(0)
        if self._mtu_backs_off:
            self.mtu = mtu_after_timeouts(self.mtu, self.timer.timeouts)
        self.retransmit(now)
        return True

    def acknowledge(self, numbers: Sequence[RecordNumber]) -> bool:
        """Note what the peer has (RFC 9147 §7.2); whether anything was new."""
        return self.flight.acknowledge(numbers)
