"""A lite agent in an event loop: its outputs are carried out, and its timeouts kept (RFC 8445 §2.5)."""

import asyncio
import dataclasses
from collections.abc import Sequence

from mediapeer.ice.agent import AgentOwner, host_candidate
from mediapeer.ice.candidate import Candidate, IceParameters
from mediapeer.ice.lite import (
    Claim,
    IceLiteAgent,
    LitePair,
    Output,
    PairSelected,
    Release,
    Respond,
    StateChanged,
)
from mediapeer.ice.mux import MuxSocket
from mediapeer.ice.options import IceState
from mediapeer.ice.pair import CandidatePair

Address = tuple[str, int]

#: Candidates of the peer's that are remembered for statistics.
REMOTE_CANDIDATES = 100


class LiteSession:
    """One generation of a lite side's credentials. Its face is :class:`.Agent`'s.

    :param owner: the transport it belongs to.
    :param parameters: our credentials.
    """

    def __init__(self, owner: AgentOwner, parameters: IceParameters) -> None:
        self.local_parameters = parameters
        self.remote_parameters: IceParameters | None = None
        self.offered: list[Candidate] = []
        self.gathered = False
        self._owner = owner
        self._agent = IceLiteAgent(parameters)
        self._agent.counters = owner.counters
        self._remote: list[tuple[Candidate, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def state(self) -> IceState:
        """The agent's."""
        return self._agent.state

    @property
    def controlling(self) -> bool:
        """A lite side is controlled (RFC 8445 §6.1.1)."""
        return False

    @property
    def selected_pair(self) -> LitePair | None:
        """The pair that data goes over."""
        return self._agent.selected_pair

    @property
    def candidates_taken(self) -> list[tuple[Candidate, str]]:
        """What was signalled of the peer, with addresses."""
        return list(self._remote)

    def pairs(self) -> list[CandidatePair]:
        """The pairs that the peer has checked."""
        return list(self._agent.pairs())

    def pair_of(self, socket: object, source: Address) -> CandidatePair | None:
        """The pair that a datagram came over, if a check has authenticated it."""
        return self._agent.pair_of(socket, source)

    def known_remote(self) -> list[Candidate]:
        """The peer's candidates, signalled or learned."""
        known = {id(candidate): candidate for candidate, _ in self._remote}
        known |= {id(pair.remote): pair.remote for pair in self._agent.pairs() if pair.remote.type == "prflx"}
        return list(known.values())

    def add_host(self, socket: MuxSocket, *, host: str, preference: int) -> Candidate:
        """Take a socket of the mux, whose address the peer is told as ``host``."""
        candidate = host_candidate(socket, host, preference, self.local_parameters)
        self.offered.append(candidate)
        self._agent.add_socket(socket, candidate)
        return candidate

    def gathering_ended(self) -> None:
        """No more local candidates will come."""
        self.gathered = True

    def start(self, remote: IceParameters) -> None:
        """Know the peer's credentials."""
        self.remote_parameters = remote
        self._carry_out(self._agent.start(remote, self._now()))

    def take_candidate(self, candidate: Candidate, address: str) -> None:
        """Know a candidate of the peer's; nothing is sent to it."""
        if len(self._remote) >= REMOTE_CANDIDATES:
            self._owner.counters["too_many_candidates"] += 1
            return
        self._remote.append((candidate, address))
        self._agent.add_remote_candidate(dataclasses.replace(candidate, host=address))

    def end_of_candidates(self) -> None:
        """Nothing depends on them here."""

    def stun_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        """Take a check."""
        if not self._is_closed:
            self._carry_out(self._agent.receive(data, socket, source, self._now()))

    def heard(self, record: CandidatePair | None) -> None:
        """An authenticated packet came over a pair."""
        if isinstance(record, LitePair):
            if isinstance(record.socket, MuxSocket):
                self._owner.claim(record.socket, record.address)
            outputs = self._agent.heard(self._now(), record.socket, record.address)
        else:
            outputs = self._agent.heard(self._now())
        if outputs:
            self._carry_out(outputs)

    def send_datagram(self, data: bytes, now: float, *, droppable: bool) -> None:
        """Send over the selected pair, at once.

        :raises ConnectionError: when there is none (yet, or any more).
        """
        pair = self._agent.selected_pair
        if pair is None or not isinstance(pair.socket, MuxSocket):
            raise ConnectionError("ICE has no path to the peer")
        accepted = pair.socket.send(data, pair.address, droppable=droppable)
        pair.sent(len(data), now, accepted=accepted)

    async def close(self) -> None:
        """End the timer; there is nothing else."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _carry_out(self, outputs: Sequence[Output]) -> None:
        has_changed = False
        for output in outputs:
            match output:
                case Respond(data, socket, remote) if isinstance(socket, MuxSocket):
                    socket.send(data, remote)
                case Claim(socket, remote) if isinstance(socket, MuxSocket):
                    self._owner.claim(socket, remote)
                case Release(socket, remote) if isinstance(socket, MuxSocket):
                    self._owner.release(socket, remote)
                case PairSelected() | StateChanged():
                    has_changed = True
        self._arm()
        if has_changed and not self._is_closed:
            self._owner.agent_changed(self)

    def _arm(self) -> None:
        """See to it that the timer goes off no later than the agent wants."""
        when = self._agent.next_timeout()
        if when is None or self._is_closed:
            return
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._carry_out(self._agent.handle_timeout(self._now()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
