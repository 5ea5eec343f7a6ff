"""The pairs of a full ICE agent and the checks on them, on aioice's (RFC 8445 §6, §7).

aioice pairs what it has when it is told to connect, checks pair after pair, and is done when one is nominated. Here
candidates of both sides may come at any time, and a check of the peer starts ours over at once.
"""

import abc
import asyncio
import functools
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import aioice
from aioice import stun
from aioice.ice import CandidatePair as AioicePair
from aioice.ice import StunProtocol, candidate_pair_priority

from mediapeer.ice.agent import AgentOwner, host_candidate
from mediapeer.ice.bases import Base, from_aioice, to_aioice
from mediapeer.ice.candidate import Candidate, IceParameters
from mediapeer.ice.mux import MuxSocket
from mediapeer.ice.options import IceState
from mediapeer.ice.pair import CandidatePair, PairState
from mediapeer.ice.relay import Relay

logger = logging.getLogger(__name__)

Address = tuple[str, int]
State = AioicePair.State

#: Remote candidates that are kept, signalled or learned from checks, and pairs made of them (RFC 8445 §6.1.2.5).
REMOTE_CANDIDATES = 100
PAIRS = 200
#: Seconds between checks that nobody asked for (RFC 8445 §14.2 has 50 ms for Ta and allows less).
PACE = 0.02
#: Seconds at least between two checks of a pair that the peer's checks ask for.
TRIGGER_INTERVAL = 0.05
#: Seconds after which a check without an answer was sent to a peer that did not know us.
STALE_AFTER = 0.3
#: Role changes that answers to one check may ask for (RFC 8445 §7.2.5.1).
ROLE_CHANGES = 3
#: Nominating checks that are remembered, so that nobody can have one obeyed twice.
REMEMBERED_NOMINATIONS = 64
#: Seconds of silence after which a learned candidate may make room for a new one.
ROOM_AFTER = 10.0

_STATES = {
    State.FROZEN: PairState.FROZEN,
    State.WAITING: PairState.WAITING,
    State.IN_PROGRESS: PairState.IN_PROGRESS,
    State.FAILED: PairState.FAILED,
    State.SUCCEEDED: PairState.SUCCEEDED,
}


class Pair(AioicePair):
    """A pair of the check list."""

    protocol: Base

    def __init__(self, base: Base, remote: aioice.Candidate) -> None:
        super().__init__(base, remote)
        self.record = CandidatePair(base.candidate, from_aioice(remote))
        self.key = (base.key, self.remote_addr)
        self.started = float("-inf")
        "When its last check began."
        self.sent = float("-inf")
        "When it was last sent because the peer's checks asked for it."
        self.request: stun.Message | None = None
        "The request on its way."
        self.nominating = False
        "Whether that check nominates it."

    @property
    def is_relayed(self) -> bool:
        """Whether a TURN server is in the way, ours or the peer's."""
        return self.protocol.is_relay or self.remote_candidate.type == "relay"

    @property
    def is_open(self) -> bool:
        """Whether checking has not ended."""
        return self.state in (State.FROZEN, State.WAITING, State.IN_PROGRESS)


class RoleChanged(Exception):
    """The peer has answered 487; we have the other role now."""


class CheckList(aioice.Connection, abc.ABC):
    """Candidates, pairs and checks of one generation of credentials; :class:`.FullIceAgent` chooses among them.

    :param owner: the transport it belongs to.
    :param parameters: our credentials.
    :param controlling: the role to begin with; a conflict may change it (RFC 8445 §7.3.1.1).
    """

    def __init__(self, owner: AgentOwner, parameters: IceParameters, *, controlling: bool) -> None:
        super().__init__(
            controlling, local_username=parameters.username_fragment, local_password=parameters.password
        )
        self.local_parameters = parameters
        self.remote_parameters: IceParameters | None = None
        self.state = IceState.NEW
        self.checked: dict[tuple[object, Address], CandidatePair] = {}
        "The paths that a check has authenticated: base and remote address → pair."
        self.offered: list[Candidate] = []
        "Our candidates, as the peer is told them."
        self._owner = owner
        # Checks that come before the peer's credentials make pairs at once; start() checks them.
        self._early_checks_done = True
        self._nominations: deque[bytes] = deque(maxlen=REMEMBERED_NOMINATIONS)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def controlling(self) -> bool:
        """Whether we have the controlling role."""
        return self.ice_controlling

    @property
    def counters(self) -> Counter[str]:
        """The owner's."""
        return self._owner.counters

    @property
    def candidates_taken(self) -> list[tuple[Candidate, str]]:
        """The peer's candidates with their addresses."""
        return [(from_aioice(each), each._network_host) for each in self._remote_candidates]

    def known_remote(self) -> list[Candidate]:
        """The peer's candidates, signalled or learned."""
        return [from_aioice(candidate) for candidate in self._remote_candidates]

    def pair_of(self, socket: object, source: Address) -> CandidatePair | None:
        """The pair that a datagram came over, if a check has authenticated it."""
        return self.checked.get((socket, source))

    def now(self) -> float:
        """The event loop's time in seconds."""
        return asyncio.get_running_loop().time()

    @property
    def selected(self) -> Pair | None:
        """The pair that data goes over."""
        pair = self._nominated.get(1)
        return pair if isinstance(pair, Pair) else None

    @property
    def selected_pair(self) -> CandidatePair | None:
        """The same for statistics."""
        return None if self.selected is None else self._record(self.selected)

    def pairs(self) -> list[CandidatePair]:
        """Every pair there is, those with a higher priority first."""
        return [self._record(pair) for pair in self._check_list if isinstance(pair, Pair)]

    def _record(self, pair: Pair) -> CandidatePair:
        record = pair.record
        record.remote = from_aioice(pair.remote_candidate)
        record.priority = candidate_pair_priority(
            pair.local_candidate, pair.remote_candidate, self.ice_controlling
        )
        return record

    # Local candidates

    def add_host(self, socket: MuxSocket, *, host: str, preference: int) -> Candidate:
        """Take a socket of the mux for a base.

        :param host: the address to tell the peer.
        :param preference: 0 to 65535, more for an address that is preferred.
        """
        candidate = host_candidate(socket, host, preference, self.local_parameters)
        self.offered.append(candidate)
        self._add_base(Base(self, self._owner, candidate, socket=socket))
        return candidate

    def add_relay(self, relay: Relay, candidate: Candidate) -> Base:
        """Take a TURN allocation for a base."""
        base = Base(self, self._owner, candidate, relay=relay)
        self.offered.append(candidate)
        self._add_base(base)
        return base

    def bases(self) -> list[Base]:
        """The sockets and allocations in use."""
        return [base for base in self._protocols if isinstance(base, Base)]

    def base_of(self, socket: MuxSocket) -> Base | None:
        """The base that a socket of the mux is."""
        return next((base for base in self.bases() if base.socket is socket), None)

    def _add_base(self, base: Base) -> None:
        self._protocols.append(base)
        for remote in self._remote_candidates:
            self._pair_remote_candidate(remote)
        self.sort_check_list()
        self._continue_checks()

    def protocol_lost(self, protocol: StunProtocol) -> None:
        """An allocation has ended. Its pairs fail; when one was selected its silence brings another up."""
        if self._closing:
            return
        if protocol in self._protocols:
            self._protocols.remove(protocol)
        for pair in self._check_list:
            if pair.protocol is protocol:
                if pair.task is not None:
                    pair.task.cancel()
                self.check_state(pair, State.FAILED)

    # Remote candidates

    def take_candidate(self, candidate: Candidate, address: str) -> None:
        """Take a candidate of the peer's, whose host is or has the given IP address."""
        if self._closing:
            return
        if len(self._remote_candidates) >= REMOTE_CANDIDATES:
            self.counters["too_many_candidates"] += 1
            return
        self._add_remote_candidate(to_aioice(candidate), address)
        self._continue_checks()

    def _pair_remote_candidate(self, remote_candidate: aioice.Candidate) -> None:
        hidden = remote_candidate.host != remote_candidate._network_host
        for base in self.bases():
            # A TURN server must not learn an address that hides behind a name.
            if base.is_relay and hidden:
                continue
            if not base.local_candidate.can_pair_with(remote_candidate):
                continue
            if self._find_pair(base, remote_candidate) is None:
                self._new_pair(base, remote_candidate)

    def _new_pair(self, base: Base, remote: aioice.Candidate) -> Pair | None:
        if len(self._check_list) >= PAIRS:
            self.counters["too_many_pairs"] += 1
            return None
        pair = Pair(base, remote)
        self._check_list.append(pair)
        return pair

    def _make_room(self) -> bool:
        """Forget the learned candidate that was silent longest, when no more can be kept."""
        if len(self._remote_candidates) < REMOTE_CANDIDATES:
            return True
        heard: dict[int, float] = {}
        for pair in self._check_list:
            if isinstance(pair, Pair):
                key = id(pair.remote_candidate)
                heard[key] = max(heard.get(key, float("-inf")), pair.record.last_heard)
        learned = [
            candidate
            for candidate in self._remote_candidates
            if candidate.type == "prflx"
            and (self.selected is None or self.selected.remote_candidate is not candidate)
        ]
        oldest = min(learned, key=lambda candidate: heard.get(id(candidate), 0.0), default=None)
        if oldest is None or heard.get(id(oldest), 0.0) > self.now() - ROOM_AFTER:
            return False
        self._remote_candidates.remove(oldest)
        for pair in [pair for pair in self._check_list if pair.remote_candidate is oldest]:
            if pair.task is not None:
                pair.task.cancel()
            self._check_list.remove(pair)
            if isinstance(pair, Pair):
                self.checked.pop(pair.key, None)
        return True

    # Checks of the peer

    def stun_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        """Take a request that came to a socket of the mux."""
        base = self.base_of(socket)
        if base is not None:
            base.stun_received(data, source)

    def data_received(self, data: bytes, component: int) -> None:
        """What aioice could not parse as STUN, though its first byte says that it is."""
        self.counters["malformed_stun"] += 1

    def request_received(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """Take a check of the peer's. One that is not authentic gets no answer, not even a refusal."""
        if self._closing or self.state is IceState.FAILED:
            return
        if not self._is_authentic(message):
            # An error (RFC 8489 §9.1.3) would tell a peer nothing that it needs, and make us a reflector.
            self.counters["unauthenticated_checks"] += 1
            return
        if self._known_address(addr) is None and not self._make_room():
            self.counters["too_many_candidates"] += 1
            return
        super().request_received(message, addr, protocol)

    def _is_authentic(self, message: stun.Message) -> bool:
        return (
            message.message_method == stun.Method.BINDING
            and "PRIORITY" in message.attributes
            and self._valid_username(message.attributes.get("USERNAME", ""))
            and message.check_message_integrity(self.local_password.encode())
        )

    def _known_address(self, address: Address) -> aioice.Candidate | None:
        for candidate in self._remote_candidates:
            if candidate._network_host == address[0] and candidate.port == address[1]:
                return candidate
        return None

    def check_incoming(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """What an authenticated check says: the peer is there, and perhaps that this pair is to be used.

        It is answered already (RFC 8445 §7.3.1.3 to §7.3.1.5).
        """
        if not isinstance(protocol, Base):
            return
        candidate = self._known_address(addr)
        if candidate is None:
            candidate = to_aioice(
                Candidate(
                    secrets.token_hex(4), 1, "udp", message.attributes["PRIORITY"], addr[0], addr[1], "prflx"
                )
            )
            self._remote_candidates.append(candidate)
        found = self._find_pair(protocol, candidate)
        pair = found if isinstance(found, Pair) else self._new_pair(protocol, candidate)
        if pair is None:
            return
        if found is None:
            self.sort_check_list()
        pair.record.requests_received += 1
        pair.record.responses_sent += 1
        self._authenticated(pair)
        nominating = "USE-CANDIDATE" in message.attributes and not self.ice_controlling
        if nominating and message.transaction_id in self._nominations:
            nominating = False
        elif nominating:
            pair.remote_nominated = True
        if self.state in (IceState.NEW, IceState.FAILED):
            return
        if pair.state is not State.SUCCEEDED:
            # Who repeats the peer's check from an address of his own gets no further than this: it is not
            # counted as a nomination, so the peer's own copy, though it comes later, still is one.
            self._trigger(pair)
        else:
            if nominating:
                self._nominations.append(message.transaction_id)
            self._peer_checked(pair, nominating=nominating)

    def _trigger(self, pair: Pair) -> None:
        """Check a pair that the peer has checked, even if a check is on its way (RFC 8445 §7.3.1.4)."""
        early = pair.sent + TRIGGER_INTERVAL - self.now()
        if early > 0:
            name = f"trigger {id(pair)}"
            if name not in self._timers:
                self._set_timer(name, early, functools.partial(self._trigger_late, pair))
            return
        if pair.task is None:
            self._start_check(pair)
        elif pair.record.requests_received == 1 and self.now() - pair.started > STALE_AFTER:
            # The peer did not know us when our check came. Another one tells the round trip; done once only, for
            # two sides with a long way between them would never let each other's checks end.
            nominate = pair.nominating
            pair.task.cancel()
            pair.task = None
            self._start_check(pair, nominate=nominate)
        elif pair.request is not None:
            pair.sent = self.now()
            pair.protocol.send_stun(pair.request, pair.remote_addr)

    def _trigger_late(self, pair: Pair) -> None:
        if pair in self._check_list and pair.state is not State.SUCCEEDED:
            self._trigger(pair)

    def _authenticated(self, pair: Pair) -> None:
        """Something authentic came over this pair."""
        socket = pair.protocol.socket
        if socket is not None and not self._owner.claim(socket, pair.remote_addr):
            # Another call has this address, and gets what comes from it.
            self.checked.pop(pair.key, None)
            return
        self.checked[pair.key] = pair.record
        self.heard(pair.record)

    # Our checks

    def check_state(self, pair: AioicePair, state: State) -> None:
        """Change a pair's state."""
        pair.state = state
        if isinstance(pair, Pair):
            pair.record.state = _STATES[state]

    @property
    def _is_looking(self) -> bool:
        """Whether pairs are to be checked though the peer does not ask for it."""
        if self._closing or self.state in (IceState.NEW, IceState.FAILED):
            return False
        return self.selected is None or self.selected.is_relayed

    def _continue_checks(self) -> None:
        if self._is_looking and "pace" not in self._timers:
            self._pace()

    def _pace(self) -> None:
        """Start the next check; the highest priority first, one every :data:`PACE` (RFC 8445 §6.1.4.2)."""
        if not self._is_looking:
            return
        unchecked = (pair for pair in self._check_list if pair.state in (State.WAITING, State.FROZEN))
        pair = next(unchecked, None)
        if isinstance(pair, Pair):
            self._start_check(pair)
            self._set_timer("pace", PACE, self._pace)
        else:
            self._all_checked()

    def _start_check(self, pair: Pair, *, nominate: bool = False) -> None:
        if pair.task is not None or self._closing:
            return
        self.check_state(pair, State.IN_PROGRESS)
        pair.started = pair.sent = self.now()
        pair.nominating = nominate
        task = asyncio.create_task(self._check(pair, nominate))
        pair.task = task  # type: ignore[assignment]  # aioice's checks give nothing
        task.add_done_callback(functools.partial(self._check_ended, pair, nominate))

    async def _check(self, pair: Pair, nominate: bool) -> bool:
        for _ in range(ROLE_CHANGES):
            pair.record.requests_sent += 1
            try:
                await self._request(pair, nominate=nominate and self.ice_controlling)
            except RoleChanged:
                continue
            except stun.TransactionError:
                return False
            return True
        return False

    async def _request(self, pair: Pair, *, nominate: bool, retransmissions: int | None = None) -> None:
        """Send a check and wait for its answer.

        :raises RoleChanged: when the peer insists on the role we had (RFC 8445 §7.2.5.1).
        """
        if self.remote_password is None:
            raise stun.TransactionError("the peer's password is not known")
        request = pair.request = self.build_request(pair, nominate)
        try:
            await pair.protocol.request(
                request,
                pair.remote_addr,
                integrity_key=self.remote_password.encode(),
                retransmissions=retransmissions,
            )
        except stun.TransactionFailed as error:
            if error.response.error_code != 487:
                raise
            self._tie_breaker = secrets.randbits(64)
            self.switch_role(ice_controlling="ICE-CONTROLLED" in request.attributes)
            raise RoleChanged from error

    def check_answered(self, protocol: StunProtocol, address: Address, seconds: float) -> None:
        """A check of ours was answered authentically after so many seconds."""
        for pair in self._check_list:
            if pair.protocol is protocol and pair.remote_addr == address and isinstance(pair, Pair):
                pair.record.answered(seconds, self.now())
                self._authenticated(pair)

    def _check_ended(self, pair: Pair, nominate: bool, task: "asyncio.Task[bool]") -> None:
        if pair.task is task:  # type: ignore[comparison-overlap]
            pair.task = None
            pair.nominating = False
        if task.cancelled() or self._closing:
            return
        error = task.exception()
        if error is not None:
            logger.error("%s: a check ended by %s: %s", self, type(error).__name__, error)
        if pair.task is not None or pair not in self._check_list:
            return
        if error is None and task.result() and pair.key in self.checked:
            self.check_state(pair, State.SUCCEEDED)
            self._succeeded(pair, nominate=nominate)
        else:
            self.check_state(pair, State.FAILED)
            self._failed(pair)

    # What an agent makes of it

    @abc.abstractmethod
    def deliver(self, data: bytes, record: CandidatePair) -> None:
        """A datagram that is not STUN came over a checked pair by way of a TURN server."""

    @abc.abstractmethod
    def _changed(self) -> None:
        """The state is another."""

    @abc.abstractmethod
    def heard(self, record: CandidatePair | None) -> None:
        """Something authentic came over a pair."""

    @abc.abstractmethod
    def _peer_checked(self, pair: Pair, *, nominating: bool) -> None:
        """The peer has checked a pair that we have checked too, and wants it used if ``nominating``."""

    @abc.abstractmethod
    def _succeeded(self, pair: Pair, *, nominate: bool) -> None:
        """A check of ours was answered; ``nominate``: it carried a nomination."""

    @abc.abstractmethod
    def _failed(self, pair: Pair) -> None:
        """A check of ours was not answered, or by an error."""

    @abc.abstractmethod
    def _all_checked(self) -> None:
        """No pair is left that has not been checked."""

    # Timers and tasks

    def _set_state(self, state: IceState) -> None:
        if state is not self.state:
            self.state = state
            self._changed()

    def _set_timer(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel_timer(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, self._fire, name, callback)

    def _fire(self, name: str, callback: Callable[[], None]) -> None:
        self._timers.pop(name, None)
        callback()

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _keep(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("%s: a check ended by %s: %s", self, type(error).__name__, error)
