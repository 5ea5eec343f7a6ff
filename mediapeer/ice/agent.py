"""What an ICE transport and its agents, lite or full, know of each other."""

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from mediapeer.ice.candidate import Candidate, IceParameters, candidate_foundation, candidate_priority
from mediapeer.ice.mux import MuxSocket
from mediapeer.ice.options import IceState
from mediapeer.ice.pair import CandidatePair

if TYPE_CHECKING:
    from mediapeer.ice.bases import Base

Address = tuple[str, int]


class Agent(Protocol):
    """One generation of credentials, with the checks and the paths that go with them."""

    local_parameters: IceParameters
    remote_parameters: IceParameters | None
    offered: list[Candidate]
    "Our candidates, as the peer is told them."
    gathered: bool
    "Whether no more local candidates will come."

    @property
    def state(self) -> IceState:
        """Never ``CLOSED``; that is for the transport to say."""

    @property
    def controlling(self) -> bool:
        """Whether it has the controlling role; a conflict may change that (RFC 8445 §7.3.1.1)."""

    @property
    def selected_pair(self) -> CandidatePair | None:
        """The pair that data goes over."""

    @property
    def candidates_taken(self) -> list[tuple[Candidate, str]]:
        """What :meth:`take_candidate` was given."""

    def pairs(self) -> list[CandidatePair]:
        """Every pair there is, for statistics."""

    def pair_of(self, socket: object, source: Address) -> CandidatePair | None:
        """The pair that a datagram came over, if a check has authenticated it."""

    def known_remote(self) -> list[Candidate]:
        """The peer's candidates, signalled or learned from its checks."""

    def add_host(self, socket: MuxSocket, *, host: str, preference: int) -> Candidate:
        """Take a socket of the mux, whose address the peer is told as ``host``."""

    def gathering_ended(self) -> None:
        """No more local candidates will come."""

    def start(self, remote: IceParameters) -> None:
        """Begin, with the peer's credentials."""

    def take_candidate(self, candidate: Candidate, address: str) -> None:
        """Take a candidate of the peer's, whose host is or has the given IP address."""

    def end_of_candidates(self) -> None:
        """The peer has no more candidates to tell (RFC 8838 §14)."""

    def stun_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        """Take a STUN message that is for this generation."""

    def heard(self, record: CandidatePair | None) -> None:
        """An authenticated packet came over a pair."""

    def send_datagram(self, data: bytes, now: float, *, droppable: bool) -> None:
        """Send over the selected pair, at once.

        :raises ConnectionError: when there is none (yet, or any more).
        """

    async def close(self) -> None:
        """End tasks, timers and allocations, in bounded time."""


class AgentOwner(Protocol):
    """What an agent needs of the transport it belongs to."""

    counters: Counter[str]

    def agent_changed(self, agent: Agent) -> None:
        """The agent has another state or another selected pair."""

    def deliver(self, data: bytes, agent: Agent, pair: CandidatePair) -> None:
        """A datagram that is not STUN came over a checked pair of the agent."""

    def claim(self, socket: MuxSocket, remote: Address) -> bool:
        """A check has authenticated a remote address; ``False`` when it belongs to another call."""

    def release(self, socket: MuxSocket, remote: Address) -> None:
        """The agent wants nothing from a remote address any more."""

    def expect(self, transaction_id: bytes, base: "Base") -> None:
        """The answer to a request that is sent from a socket of the mux belongs to this base."""

    def forget(self, transaction_id: bytes) -> None:
        """No answer is expected any more."""


def host_candidate(socket: MuxSocket, host: str, preference: int, parameters: IceParameters) -> Candidate:
    """The candidate that a socket of the mux is to a generation of credentials (RFC 8445 §5.1.1.1).

    :param host: the address that the peer is told.
    :param preference: 0 to 65535, more for an address that is preferred.
    """
    return Candidate(
        foundation=candidate_foundation("host", socket.address[0]),
        component=1,
        transport="udp",
        priority=candidate_priority("host", local_preference=preference),
        host=host,
        port=socket.address[1],
        type="host",
        extensions={"ufrag": parameters.username_fragment},
    )
