"""What is known of a candidate pair, as the statistics have it (W3C webrtc-stats §6.21)."""

import enum
from dataclasses import dataclass

from mediapeer.ice.candidate import Candidate


class PairState(enum.StrEnum):
    """RTCStatsIceCandidatePairState: the states of RFC 8445 §6.1.2.6."""

    FROZEN = "frozen"
    WAITING = "waiting"
    IN_PROGRESS = "in-progress"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


@dataclass(slots=True, eq=False)
class CandidatePair:
    """A local and a remote candidate, and what went between them. Counts begin with 0; times are in seconds."""

    local: Candidate
    "The base that sends: a host or a relayed candidate."
    remote: Candidate
    state: PairState = PairState.FROZEN
    nominated: bool = False
    "Whether it has been chosen, once."
    priority: int = 0
    "RFC 8445 §6.1.2.3."
    round_trip_time: float | None = None
    "What the last answered check took, from its first sending; so it never says too little."
    total_round_trip_time: float = 0.0
    requests_sent: int = 0
    requests_received: int = 0
    "Authenticated checks."
    responses_sent: int = 0
    responses_received: int = 0
    "Authenticated answers."
    consent_requests_sent: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    packets_discarded_on_send: int = 0
    "What a full send buffer had no room for."
    bytes_discarded_on_send: int = 0
    last_packet_sent: float | None = None
    "On the event loop's clock, as all times of day here."
    last_packet_received: float | None = None
    last_heard: float = float("-inf")
    "When something authentic came last: a check, an answer, media or data."

    def received(self, size: int, now: float) -> None:
        """A datagram of ``size`` bytes that is not STUN came."""
        self.packets_received += 1
        self.bytes_received += size
        self.last_packet_received = now

    def sent(self, size: int, now: float, *, accepted: bool) -> None:
        """A datagram of ``size`` bytes that is not STUN went out, or had to be discarded."""
        if accepted:
            self.packets_sent += 1
            self.bytes_sent += size
            self.last_packet_sent = now
        else:
            self.packets_discarded_on_send += 1
            self.bytes_discarded_on_send += size

    def answered(self, seconds: float, now: float) -> None:
        """A check of ours was answered authentically after so many seconds."""
        self.responses_received += 1
        self.round_trip_time = seconds
        self.total_round_trip_time += seconds
        self.last_heard = now
