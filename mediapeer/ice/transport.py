"""The ICE transport of a call: one face for lite and full agents, through restarts (RFC 8445 §9, RFC 8838)."""

import asyncio
import ipaddress
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any

from mediapeer.ice.addresses import host_addresses
from mediapeer.ice.agent import Agent
from mediapeer.ice.bases import Base
from mediapeer.ice.candidate import Candidate, IceParameters
from mediapeer.ice.full import FullIceAgent
from mediapeer.ice.gathering import (
    ask_servers,
    follow_addresses,
    open_mux,
    preferences,
    reason_to_ignore,
)
from mediapeer.ice.lite_session import LiteSession
from mediapeer.ice.mdns import MAXIMUM_NAMES, MdnsResolver
from mediapeer.ice.mux import MuxSocket, UdpMux
from mediapeer.ice.options import GatheringState, IceOptions, IceState
from mediapeer.ice.pair import CandidatePair
from mediapeer.ice.stun import peek

logger = logging.getLogger(__name__)

Address = tuple[str, int]

#: Datagrams of checked addresses that wait until there is a path, or somebody to take them; more are dropped.
EARLY_DATAGRAMS = 64
#: Candidates that wait for the credentials they belong to (RFC 8838); more are dropped.
HELD_CANDIDATES = 100
#: Seconds that the path before a restart goes on receiving: what the peer sent until it had the new one.
LINGER = 3.0

_BINDING_REQUEST = 1
_ALIVE = (IceState.CONNECTED, IceState.COMPLETED)


class IceTransport:
    """Finds a path to the peer, watches it, and carries datagrams.

    To be used in one event loop. The callbacks are called in it, at once, and may call any method.

    :param options: where to listen, what to offer, whom to ask.
    :param controlling: the role: the offerer's, unless a side is lite (RFC 8445 §6.1.1).
    """

    def __init__(self, options: IceOptions, *, controlling: bool) -> None:
        self.options = options
        self.on_state: Callable[[IceState], None] | None = None
        self.on_gathering: Callable[[GatheringState], None] | None = None
        self.on_candidate: Callable[[Candidate], None] | None = None
        self.on_datagram: Callable[[bytes], None] | None = None
        "Given what is not STUN and came from an address that a check has authenticated."
        self.counters: Counter[str] = Counter()
        "What was dropped or refused, and why."
        self._state = IceState.NEW
        self._gathering_state = GatheringState.NEW
        self._controlling = controlling
        self._mux: UdpMux | None = None
        self._opening: asyncio.Task[UdpMux] | None = None
        self._current: Agent = self._new_agent()
        self._next: Agent | None = None
        self._successors: dict[Agent, Agent] = {}
        self._retired: dict[Agent, asyncio.TimerHandle] = {}
        self._gatherings: dict[Agent, asyncio.Task[None]] = {}
        self._expected: dict[bytes, Base] = {}
        self.arrival = 0.0
        "When the datagram that is being handed up came, in seconds of the event loop's clock."
        self._early: deque[tuple[bytes, Agent, CandidatePair, float]] = deque()
        self._held: list[Candidate] = []
        self._arriving: tuple[Agent, CandidatePair] | None = None
        self._resolver: MdnsResolver | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dismissals: set[asyncio.Task[Any]] = set()
        self._names = 0
        self._closing: asyncio.Task[None] | None = None

    # What it is

    @property
    def state(self) -> IceState:
        """``FAILED`` is left by a restart only; a restart keeps ``CONNECTED`` as long as the old path works."""
        return self._state

    @property
    def gathering_state(self) -> GatheringState:
        """How far :meth:`gather` is, for the newest credentials."""
        return self._gathering_state

    @property
    def controlling(self) -> bool:
        """Whether we have the controlling role. It can be set until :meth:`start`."""
        return self._current.controlling if self._started else self._controlling

    @controlling.setter
    def controlling(self, controlling: bool) -> None:
        if self._started or controlling == self._controlling:
            return
        self._controlling = controlling
        if isinstance(self._current, FullIceAgent):
            self._current.switch_role(controlling)

    @property
    def local_parameters(self) -> IceParameters:
        """Our newest credentials: after :meth:`restart`, those that it gave."""
        return self._newest.local_parameters

    @property
    def local_candidates(self) -> list[Candidate]:
        """Our candidates so far, of the newest credentials. Each says so by its ``ufrag`` (RFC 8838)."""
        return list(self._newest.offered)

    @property
    def remote_parameters(self) -> IceParameters | None:
        """The peer's newest credentials, as :meth:`start` was given them."""
        return self._newest.remote_parameters or self._current.remote_parameters

    @property
    def remote_candidates(self) -> list[Candidate]:
        """The peer's candidates, signalled or learned from its checks, of the newest credentials."""
        return self._newest.known_remote()

    @property
    def selected_pair(self) -> CandidatePair | None:
        """The pair that data goes over, with its counts."""
        return self._current.selected_pair

    @property
    def round_trip_time(self) -> float | None:
        """Seconds that the last answered check of the selected pair took; ``None`` before there was one.

        A lite agent sends no checks and so does not know.
        """
        pair = self._current.selected_pair
        return None if pair is None else pair.round_trip_time

    def pairs(self) -> list[CandidatePair]:
        """Every pair of the current and the coming credentials, for statistics."""
        return self._current.pairs() + ([] if self._next is None else self._next.pairs())

    @property
    def _newest(self) -> Agent:
        return self._current if self._next is None else self._next

    @property
    def _started(self) -> bool:
        return self._current.remote_parameters is not None

    def _agents(self) -> list[Agent]:
        return [self._current, *([] if self._next is None else [self._next]), *self._retired]

    # Local candidates

    async def gather(self) -> None:
        """Open the sockets and tell host candidates, then ask the servers and tell theirs as they come.

        Ends when every server has answered, after five seconds, or when the transport closes. Calling it again waits
        for the same, after :meth:`restart` it gathers for the new credentials.

        :raises OSError: when none of the addresses that were asked for, or no port, can be used.
        """
        if self._closing is not None:
            return
        agent = self._newest
        task = self._gatherings.get(agent)
        if task is None:
            task = self._gatherings[agent] = asyncio.create_task(self._gather(agent))
            # Those who wait are told; if nobody does any more, the exception is nobody's.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _gather(self, agent: Agent) -> None:
        self._set_gathering(agent, GatheringState.GATHERING)
        try:
            mux = None if self.options.relay_only else await self._open_mux()
            if mux is not None and agent is not self._current:
                follow_addresses(mux, self.options)
            agent = self._successors.pop(agent, agent)
            if mux is not None and not agent.offered:
                self._add_hosts(agent, mux)
            if isinstance(agent, FullIceAgent):
                await ask_servers(agent, self.options, lambda candidate: self._tell(agent, candidate))
        finally:
            if agent in self._agents() and self._closing is None:
                agent.gathering_ended()
                self._set_gathering(agent, GatheringState.COMPLETE)

    async def _open_mux(self) -> UdpMux | None:
        if self._mux is None:
            if self._opening is None:
                self._opening = asyncio.create_task(open_mux(self.options))
            self._mux = await self._opening
        return self._mux

    def _add_hosts(self, agent: Agent, mux: UdpMux, *, is_told: bool = False) -> None:
        mux.register(agent.local_parameters.username_fragment, self, owner=self)
        public = self.options.public_addresses
        for socket, preference in zip(mux.present, preferences(mux.present), strict=True):
            host = socket.address[0]
            candidate = agent.add_host(socket, host=public.get(host, host), preference=preference)
            if not is_told:
                self._tell(agent, candidate)

    def _tell(self, agent: Agent, candidate: Candidate) -> None:
        if agent is self._newest and self.on_candidate is not None:
            self._call("on_candidate", self.on_candidate, candidate)

    def _set_gathering(self, agent: Agent, state: GatheringState) -> None:
        if agent is self._newest and state is not self._gathering_state:
            self._gathering_state = state
            if self.on_gathering is not None:
                self._call("on_gathering", self.on_gathering, state)

    # The peer

    def start(self, remote: IceParameters) -> None:
        """Begin to look for a path, or begin again: other credentials of the peer's are its restart.

        The restart takes the credentials that :meth:`restart` gave; the path in use goes on working until there
        is a new one. The same credentials as before change nothing, unless a restart is waiting for them.
        """
        if self._closing is not None:
            return
        agent = self._next
        if agent is None and not self._started:
            agent = self._current
        elif agent is None:
            if remote == self._current.remote_parameters:
                return
            # The peer began again and we did not answer with new credentials (RFC 8445 §9), though we should.
            self.restart()
            agent = self._newest
            self._keep(self.gather())
        if agent.remote_parameters is not None:
            return
        if remote.lite and not isinstance(agent, FullIceAgent):
            agent = self._become_full(agent)
        agent.start(remote)
        self._take_held()
        self._update_state()

    def add_remote_candidate(self, candidate: Candidate | None) -> None:
        """Take a candidate of the peer's; ``None`` when there will be no more (RFC 8838 §14).

        A candidate that is of no use is counted and forgotten. During a restart a candidate goes where its
        ``ufrag`` says; without one, to the newest credentials.
        """
        if self._closing is not None:
            return
        if candidate is None:
            self._newest.end_of_candidates()
            return
        reason = reason_to_ignore(candidate, self.options)
        if reason is not None:
            self.counters[reason] += 1
            return
        agent = self._agent_of(candidate)
        if agent is None:
            if len(self._held) >= HELD_CANDIDATES:
                self.counters["too_many_candidates"] += 1
            else:
                self._held.append(candidate)
        elif candidate.is_mdns:
            self._resolve(agent, candidate)
        else:
            agent.take_candidate(candidate, str(ipaddress.ip_address(candidate.host)))

    def _agent_of(self, candidate: Candidate) -> Agent | None:
        """Whose candidate it is; ``None`` when its credentials are still to come."""
        fragment = candidate.extensions.get("ufrag")
        if fragment is None:
            return self._newest
        agents = [self._newest, self._current]
        for agent in agents:
            remote = agent.remote_parameters
            if remote is not None and remote.username_fragment == fragment:
                return agent
        return next((agent for agent in agents if agent.remote_parameters is None), None)

    def _take_held(self) -> None:
        """Now that credentials are known, take the candidates that came before them; drop what is of others."""
        held, self._held = self._held, []
        for candidate in held:
            if self._agent_of(candidate) is None:
                self.counters["candidates_of_unknown_credentials"] += 1
            else:
                self.add_remote_candidate(candidate)

    def _resolve(self, agent: Agent, candidate: Candidate) -> None:
        if self._names >= MAXIMUM_NAMES:
            self.counters["too_many_candidates"] += 1
            return
        self._names += 1
        self._keep(self._resolve_name(agent, candidate))

    async def _resolve_name(self, agent: Agent, candidate: Candidate) -> None:
        interfaces = [] if self._mux is None else [socket.address[0] for socket in self._mux.present]
        if self._resolver is None:
            self._resolver = MdnsResolver((), self.counters)
        self._resolver.ask_on(interfaces or host_addresses())
        try:
            addresses = await self._resolver.resolve(candidate.host)
        finally:
            self._names -= 1
        if not addresses:
            self.counters["mdns_unresolved"] += 1
        for address in addresses:
            if agent in self._agents() and self._closing is None:
                agent.take_candidate(candidate, address)

    # Restart

    def restart(self) -> IceParameters:
        """New credentials for an offer or answer that restarts ICE (RFC 8445 §9).

        They take effect when :meth:`start` comes with the peer's new ones. Called again before that, it gives the
        same. Then :meth:`gather` gives their candidates.
        """
        if self._closing is not None:
            return self.local_parameters
        if self._next is not None and self._next.remote_parameters is not None:
            # A restart is under way that never came to a path: another takes its place.
            self._discard_next()
        if self._next is None:
            self._controlling = self.controlling  # a role stays, as conflicts have made it (RFC 8445 §6.1.1)
            self._next = self._new_agent()
            self._gathering_state = GatheringState.NEW
        return self.local_parameters

    def undo_restart(self) -> None:
        """Take back a :meth:`restart` whose offer was rolled back. One that has been started goes on."""
        if self._closing is None and self._next is not None and self._next.remote_parameters is None:
            self._discard_next()
            self._gathering_state = (
                GatheringState.COMPLETE if self._current.gathered else GatheringState.GATHERING
            )

    def _new_agent(self) -> Agent:
        parameters = IceParameters.random(lite=self.options.lite)
        if self.options.lite:
            return LiteSession(self, parameters)
        return FullIceAgent(self, parameters, controlling=self._controlling)

    def _become_full(self, lite: Agent) -> Agent:
        """Of two lite sides one must check, and neither knows which (RFC 8445 §6.1.1): both do."""
        full = FullIceAgent(self, lite.local_parameters, controlling=True)
        for candidate, address in lite.candidates_taken:
            full.take_candidate(candidate, address)
        if lite is self._next:
            self._next = full
        else:
            self._current = full
        if self._mux is not None and lite.offered:
            self._add_hosts(full, self._mux, is_told=True)
        if lite.gathered:
            full.gathering_ended()
        gathering = self._gatherings.pop(lite, None)
        if gathering is not None:
            self._gatherings[full] = gathering
            self._successors[lite] = full
        self._keep(lite.close(), self._dismissals)
        return full

    def _discard_next(self) -> None:
        agent, self._next = self._next, None
        if agent is not None:
            self._dismiss(agent)

    def _promote(self) -> None:
        """The restart has a path: it is the one from now on, and the old one only receives for a while."""
        if self._next is None:
            return
        before, self._current, self._next = self._current, self._next, None
        timer = asyncio.get_running_loop().call_later(LINGER, self._dismiss, before)
        self._retired[before] = timer

    def _dismiss(self, agent: Agent) -> None:
        timer = self._retired.pop(agent, None)
        if timer is not None:
            timer.cancel()
        if self._mux is not None:
            self._mux.unregister(agent.local_parameters.username_fragment)
        gathering = self._gatherings.pop(agent, None)
        if gathering is not None:
            gathering.cancel()
        self._keep(agent.close(), self._dismissals)

    # What agents say

    def agent_changed(self, agent: Agent) -> None:
        """An agent has another state or another selected pair."""
        if self._closing is not None:
            return
        if agent is self._next:
            if agent.state in _ALIVE:
                self._promote()
            elif agent.state is IceState.FAILED:
                self._discard_next()
        if agent in (self._current, self._next) or self._next is None:
            self._update_state()

    def _update_state(self) -> None:
        """Tell what the agents' states amount to (W3C webrtc §5.6.2)."""
        state = self._current.state
        if self._next is not None and self._next.remote_parameters is not None:
            # Until the restart has a path, the old one counts as long as it works.
            state = IceState.CONNECTED if state in _ALIVE else IceState.CHECKING
        self._set_state(state)
        if state in _ALIVE:
            self._deliver_early()

    def _set_state(self, state: IceState) -> None:
        if state is self._state or (self._state is IceState.CLOSED):
            return
        self._state = state
        if self._mux is not None:
            # Another call may take over what a silent peer has left, such as a port that its NAT gives away again.
            self._mux.set_replaceable(self, state in (IceState.DISCONNECTED, IceState.FAILED))
        if self.on_state is not None:
            self._call("on_state", self.on_state, state)

    def claim(self, socket: MuxSocket, remote: Address) -> bool:
        """A check has authenticated a remote address."""
        return self._mux is not None and self._mux.claim(socket, remote, self)

    def release(self, socket: MuxSocket, remote: Address) -> None:
        """An agent wants nothing from a remote address any more; perhaps another one does."""
        if self._mux is not None and not any(agent.pair_of(socket, remote) for agent in self._agents()):
            self._mux.release(self, socket, remote)

    def expect(self, transaction_id: bytes, base: Base) -> None:
        """A request goes out from a socket of the mux."""
        if self._mux is not None:
            self._expected[transaction_id] = base
            self._mux.expect(transaction_id, self)

    def forget(self, transaction_id: bytes) -> None:
        """No answer is expected any more."""
        self._expected.pop(transaction_id, None)
        if self._mux is not None:
            self._mux.forget(transaction_id)

    # Datagrams

    def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        """Take a datagram that the mux has for us."""
        if not data:
            self.counters["empty_datagrams"] += 1
        elif data[0] > 3:
            agents = (self._current,) if self._next is None and not self._retired else self._agents()
            for agent in agents:
                pair = agent.pair_of(socket, source)
                if pair is not None:
                    self.deliver(data, agent, pair, socket.arrival)
                    return
            self.counters["unchecked_address"] += 1
        else:
            self._stun_received(data, socket, source)

    def _stun_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        seen = peek(data)
        if seen is None:
            self.counters["malformed_stun"] += 1
            return
        kind, transaction_id, username = seen
        if kind == _BINDING_REQUEST:
            fragment = (username or b"").partition(b":")[0]
            for agent in self._agents():
                if agent.local_parameters.username_fragment.encode() == fragment:
                    agent.stun_received(data, socket, source)
                    return
            self.counters["unknown_usernames"] += 1
            return
        base = self._expected.get(transaction_id)
        if base is None:
            self.counters["unexpected_answers"] += 1
        elif base.socket is not socket:
            self.counters["answers_from_elsewhere"] += 1
        else:
            base.stun_received(data, source)

    def deliver(self, data: bytes, agent: Agent, pair: CandidatePair, arrival: float | None = None) -> None:
        """Hand a datagram of a checked pair up, or keep it until there is a path: a peer may be ahead of us."""
        arrival = arrival or asyncio.get_running_loop().time()
        pair.received(len(data), arrival)
        if self._early or self.on_datagram is None or self._current.selected_pair is None:
            if len(self._early) >= EARLY_DATAGRAMS:
                self.counters["early_datagrams_dropped"] += 1
            else:
                self._early.append((data, agent, pair, arrival))
            self._deliver_early()
            return
        self._hand_up(data, agent, pair, arrival)

    def _deliver_early(self) -> None:
        if self._arriving is not None:
            return
        while self._early and self.on_datagram is not None and self._current.selected_pair is not None:
            self._hand_up(*self._early.popleft())

    def _hand_up(self, data: bytes, agent: Agent, pair: CandidatePair, arrival: float) -> None:
        if self.on_datagram is None:
            return
        self._arriving, self.arrival = (agent, pair), arrival
        try:
            self.on_datagram(data)
        except Exception as error:
            self._callback_failed("on_datagram", error)
        finally:
            self._arriving = None

    def heard(self) -> None:
        """An authenticated packet of the peer came (SRTP, DTLS): the path that it came over is alive.

        To be called within :attr:`on_datagram`; elsewhere it counts for the selected pair.
        """
        if self._arriving is not None:
            agent, pair = self._arriving
            agent.heard(pair)
        elif self._started:
            self._current.heard(self._current.selected_pair)

    def send_datagram(self, data: bytes, *, droppable: bool = False) -> None:
        """Send a datagram over the selected pair, at once.

        :param droppable: whether it is the first to go when the send buffer is full: media is.
        :raises ConnectionError: when there is no path (yet, or any more).
        """
        self._current.send_datagram(data, asyncio.get_running_loop().time(), droppable=droppable)

    # The end

    async def close(self) -> None:
        """End everything: tasks, timers, allocations, and the sockets unless they are shared. Takes a second at most
        when a TURN server does not answer."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._set_state(IceState.CLOSED)
        for timer in self._retired.values():
            timer.cancel()
        tasks = [*self._tasks, *self._gatherings.values()]
        for task in tasks:
            task.cancel()
        tasks += self._dismissals
        if self._resolver is not None:
            self._resolver.close()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(agent.close() for agent in self._agents()))
        self._retired.clear()
        self._early.clear()
        self._held.clear()
        await self._release_mux()

    async def _release_mux(self) -> None:
        mux, self._mux = self._mux, None
        if mux is None and self._opening is not None:
            # Gathering was cancelled while the sockets were being opened.
            results = await asyncio.gather(self._opening, return_exceptions=True)
            mux = results[0] if isinstance(results[0], UdpMux) else None
        if mux is not None:
            mux.leave(self)
            if mux is not self.options.mux:
                await mux.close()

    def _keep(self, work: Coroutine[Any, Any, Any], kept: set[asyncio.Task[Any]] | None = None) -> None:
        task = asyncio.create_task(work)
        (self._tasks if kept is None else kept).add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        self._dismissals.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.counters["tasks_failed"] += 1
            logger.warning("%s: %s", type(error).__name__, error)

    def _call(self, name: str, callback: Callable[[Any], None], argument: object) -> None:
        try:
            callback(argument)
        except Exception as error:
            self._callback_failed(name, error)

    def _callback_failed(self, name: str, error: Exception) -> None:
        self.counters["callbacks_failed"] += 1
        logger.error("%s failed: %s: %s", name, type(error).__name__, error)
        logger.debug("where it failed:", exc_info=error)
