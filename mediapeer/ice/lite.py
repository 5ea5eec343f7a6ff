"""An ICE-lite agent (RFC 8445 §2.5): it answers checks, follows nomination, and sends no checks. Sans-IO.

What becomes of a check is told in outputs, in the order in which they are to be carried out. Times are seconds on
any monotonic clock. Sockets are whatever the caller tells them apart by.

What consent means here
    RFC 7675 §4 asks no consent checks of a lite agent; it has none to send. The peer's own checks, which its
    consent makes it send every five seconds, say that it is there and wants what we send, and so does every
    other packet that authenticates. After :data:`FAILED_AFTER` without one, nothing is sent any more.

Which pair carries our datagrams
    A check with USE-CANDIDATE nominates its pair at once (RFC 8445 §7.3.1.5). A peer of RFC 8445 nominates one
    pair. One of RFC 5245 may nominate many, and the one with the highest priority is used (RFC 8445 §8.1.1).
    Browsers nominate another pair when their own choice changes, and the last nomination is used. What tells
    these apart is in :meth:`_Paths.nominate`.

Somebody on the path may repeat a check from an address of his own, and a check is no less authentic for that.
It cannot be prevented that he is faster; so a path that was moved comes back by itself: with the peer's next
nomination, or when its media keeps coming from where it was.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from mediapeer.ice.candidate import Candidate, IceParameters, candidate_foundation, pair_priority
from mediapeer.ice.options import IceState
from mediapeer.ice.pair import CandidatePair, PairState
from mediapeer.ice.stun import MessageType, StunError, StunMessage, binding_error, binding_success

Address = tuple[str, int]

#: Seconds without an authenticated packet after which the peer counts as disconnected. Chromium checks the path
#: that it uses at least every 2.5 s.
DISCONNECTED_AFTER = 4.5
#: The same for a peer that keeps to the pace of RFC 7675 §5.1, a check every 4 to 6 s, as Firefox does when
#: there is no media.
DISCONNECTED_AFTER_SLOW = 7.5
#: A peer is slow when there was a pause as long as this, and it was not so long as to be an outage.
SLOW_PAUSE, OUTAGE = 3.5, 6.5
#: Seconds without an authenticated packet after which a path has failed (RFC 7675 §5.1).
FAILED_AFTER = 30.0
#: Seconds to wait for the peer's checks before ICE has failed (RFC 8863 §4).
CHECKING_TIMEOUT = 39.5
#: Seconds without media on the selected path after which media on another one moves it.
QUIET_AFTER = 1.0
#: Seconds without any packet on the selected path after which another is taken at its first nomination. Longer
#: than a peer that checks several paths lets each of them rest.
SILENT_AFTER = 3.0
#: Seconds in which nominations of several pairs are those of a peer that nominates whatever it checks.
SETTLING = 2.0
#: Pairs that are kept. The one that was heard of longest ago makes room, never the selected.
PAIRS = 32
#: Transactions that are remembered, to know a repeated check.
TRANSACTIONS = 64
#: The peer's candidates that are remembered; the oldest make room.
REMOTE_CANDIDATES = 100


@dataclass(slots=True, eq=False)
class LitePair(CandidatePair):
    """A pair that the peer has checked."""

    socket: Hashable = None
    "Where its datagrams come in and go out."
    address: Address = ("", 0)
    "The peer's address."
    last_nomination: float | None = None
    "When a check last nominated it."
    last_data: float = float("-inf")
    "When authenticated media or data came from it last."


@dataclass(frozen=True, slots=True)
class Respond:
    """Send this answer to a check."""

    data: bytes
    socket: Hashable
    remote: Address


@dataclass(frozen=True, slots=True)
class Claim:
    """What comes from this address is the peer's. Said with every check that is not a repetition."""

    socket: Hashable
    remote: Address


@dataclass(frozen=True, slots=True)
class Release:
    """The address is no longer the peer's."""

    socket: Hashable
    remote: Address


@dataclass(frozen=True, slots=True)
class PairSelected:
    """Datagrams are to go to this pair from now on."""

    pair: LitePair


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The agent's state is another."""

    state: IceState


Output = Respond | Claim | Release | PairSelected | StateChanged
_NOTHING: tuple[Output, ...] = ()


@dataclass(slots=True, eq=False)
class _Paths:
    """The pairs that the peer has checked, and the one of them that is used."""

    pairs: dict[tuple[Hashable, Address], LitePair] = field(default_factory=dict)
    transactions: OrderedDict[bytes, tuple[Hashable, Address]] = field(default_factory=OrderedDict)
    "Where each came from first."
    selected: LitePair | None = None
    selected_at: float = 0.0
    rival: LitePair | None = None
    "The pair that was nominated last, if that did not suffice to select it."

    def remember(self, transaction: bytes, key: tuple[Hashable, Address]) -> tuple[Hashable, Address] | None:
        """Where a transaction was seen before; if it was not, remember where it is seen now."""
        before = self.transactions.get(transaction)
        if before is None:
            self.transactions[transaction] = key
            if len(self.transactions) > TRANSACTIONS:
                self.transactions.popitem(last=False)
        return before

    def nominate(self, pair: LitePair, now: float) -> bool:
        """Take note that a check nominates the pair; whether that selects it.

        Another pair than the selected one is selected

        - if it has a higher priority (RFC 8445 §8.1.1);
        - or nothing comes from the selected one any more: its address has changed;
        - or it has never been nominated before, while the other has been selected for long enough that a
          peer that nominates whatever it checks would have: the peer changed its mind;
        - or it is nominated for the second time, and the selected one has not been in between.
        """
        selected, is_new = self.selected, pair.last_nomination is None
        pair.nominated, pair.last_nomination = True, now
        if pair is selected:
            self.rival = None
            return False
        if (
            selected is None
            or pair.priority > selected.priority
            or now - selected.last_heard >= SILENT_AFTER
            or (is_new and now - self.selected_at >= SETTLING)
            or self.rival is pair
        ):
            self.select(pair, now)
            return True
        self.rival = pair
        return False

    def select(self, pair: LitePair, now: float) -> None:
        self.selected, self.selected_at, self.rival = pair, now, None

    def prefers_data_from(self, pair: LitePair, now: float) -> bool:
        """Whether media that comes from another pair than the selected one shows that the path is there.

        Media authenticates itself, and who repeats a check cannot make any. So where it comes from is where
        the peer is, if for a while none has come from where we send to.
        """
        selected = self.selected
        return (
            selected is not None
            and pair is not selected
            and now - max(selected.last_data, self.selected_at) >= QUIET_AFTER
        )


class _Patience:
    """How long a silence the peer is allowed, from the pauses that it lately made."""

    __slots__ = ("_longest", "_longest_before", "_until", "last_heard")

    def __init__(self) -> None:
        self.last_heard = float("-inf")
        # Until it is seen how often the peer speaks, it may be slow.
        self._longest, self._longest_before = SLOW_PAUSE, 0.0
        self._until = float("-inf")

    def heard(self, now: float) -> None:
        pause = now - self.last_heard
        self.last_heard = now
        if self._longest < pause < OUTAGE:
            self._longest = pause
        if now >= self._until:
            self._longest_before, self._longest = self._longest, 0.0
            self._until = now + OUTAGE

    @property
    def seconds(self) -> float:
        is_slow = max(self._longest, self._longest_before) >= SLOW_PAUSE
        return DISCONNECTED_AFTER_SLOW if is_slow else DISCONNECTED_AFTER


class IceLiteAgent:
    """One lite agent. It is controlled by its peer, always (RFC 8445 §6.1.1), which must not be lite too.

    :param parameters: our first credentials. The caller hands in checks that name them, and those of restarts.
    """

    def __init__(self, parameters: IceParameters) -> None:
        self.state = IceState.NEW
        """``new`` until :meth:`start`, then ``checking`` until a pair is selected, then ``connected`` and
        ``disconnected`` as the peer is heard; ``failed`` stays. An ICE restart is another agent's."""
        self.counters: Counter[str] = Counter()
        "What was dropped or refused, and why."
        self.local_parameters = parameters
        self.remote_parameters: IceParameters | None = None
        "The peer's credentials, once they are known."
        self._paths = _Paths()
        self._checking_until = 0.0
        self._patience = _Patience()
        self._local_candidates: dict[Hashable, Candidate] = {}
        self._remote_candidates: OrderedDict[Address, Candidate] = OrderedDict()

    @property
    def selected_pair(self) -> LitePair | None:
        """Where our datagrams go; ``None`` before there is one and after ICE has failed."""
        return self._paths.selected

    @property
    def last_heard(self) -> float:
        """When something authentic came last; minus infinity before."""
        return self._patience.last_heard

    def pairs(self) -> list[LitePair]:
        """All pairs, in the order in which they were first checked."""
        return list(self._paths.pairs.values())

    def pair_of(self, socket: Hashable, source: Address) -> LitePair | None:
        """The pair that a datagram came over, for its counts."""
        return self._paths.pairs.get((socket, source))

    # What is known beforehand

    def add_socket(self, socket: Hashable, candidate: Candidate) -> None:
        """Take checks that come to a socket, which is this candidate of ours."""
        self._local_candidates[socket] = candidate

    def add_remote_candidate(self, candidate: Candidate) -> None:
        """Know a candidate of the peer's by its address. A lite agent sends nothing to it."""
        if candidate.transport != "udp" or not candidate.is_ip:
            self.counters["ignored_candidates"] += 1
            return
        address = (str(ipaddress.ip_address(candidate.host)), candidate.port)
        self._remote_candidates[address] = candidate
        if len(self._remote_candidates) > REMOTE_CANDIDATES:
            self._remote_candidates.popitem(last=False)
        for pair in self.pairs():
            if pair.address == address and pair.remote.type == "prflx":
                pair.remote = candidate
                pair.priority = pair_priority(candidate.priority, pair.local.priority)

    def start(self, remote: IceParameters, now: float) -> Sequence[Output]:
        """Know the peer's credentials, the first that are given. Checks that came before were answered already."""
        if self.remote_parameters is not None:
            return _NOTHING
        self.remote_parameters = remote
        self._checking_until = now + CHECKING_TIMEOUT
        outputs: list[Output] = []
        self._set_state(IceState.CHECKING, outputs)
        self._update_state(now, outputs)
        return outputs

    # What comes in

    def receive(self, data: bytes, socket: Hashable, source: Address, now: float) -> Sequence[Output]:
        """Take a STUN message from anybody."""
        try:
            message = StunMessage.parse(data)
        except StunError:
            self.counters["malformed_stun"] += 1
            return _NOTHING
        if message.type is not MessageType.BINDING_REQUEST:
            # Answers to checks that we do not send, and indications, which say nothing.
            self.counters["unexpected_stun"] += 1
            return _NOTHING
        is_over = self.state is IceState.FAILED
        if is_over or not self._knows(message.username or "") or socket not in self._local_candidates:
            self.counters["unknown_usernames"] += 1
            return _NOTHING
        if not message.has_valid_integrity(self.local_parameters.password):
            self.counters["wrong_passwords"] += 1
            return _NOTHING
        refusal = self._refusal(message)
        if refusal is not None:
            return (Respond(refusal, socket, source),)
        return self._check_received(message, (socket, source), now)

    def _knows(self, username: str) -> bool:
        """Whether a USERNAME is that of our peer; its own half counts when it is known."""
        ours, _, theirs = username.partition(":")
        if ours != self.local_parameters.username_fragment:
            return False
        return self.remote_parameters is None or theirs == self.remote_parameters.username_fragment

    def _refusal(self, message: StunMessage) -> bytes | None:
        """The error for an authentic check that cannot be taken as it is."""
        transaction, password = message.transaction_id, self.local_parameters.password
        if message.unknown_required:
            self.counters["unknown_attributes"] += 1
            unknown = message.unknown_required
            return binding_error(transaction, 420, "Unknown Attribute", password, unknown)
        if message.priority is None:
            self.counters["checks_without_priority"] += 1
            return binding_error(transaction, 400, "Bad Request", password)
        if message.ice_controlled is not None:
            # The peer of a lite agent is controlling, whatever the tiebreakers (RFC 8445 §6.1.1, §7.3.1.1).
            self.counters["role_conflicts"] += 1
            return binding_error(transaction, 487, "Role Conflict", password)
        return None

    def _check_received(
        self, message: StunMessage, key: tuple[Hashable, Address], now: float
    ) -> Sequence[Output]:
        outputs: list[Output] = []
        socket, source = key
        pair = self._paths.pairs.get(key)
        seen_at = self._paths.remember(message.transaction_id, key)
        if seen_at not in (None, key):
            # A NAT does not change its mind within one transaction; somebody repeats what he has seen.
            self.counters["replayed_checks"] += 1
            if pair is None and source not in self._remote_candidates:
                return _NOTHING
        if pair is None:
            pair = self._new_pair(key, message.priority or 0, outputs)
        pair.requests_received += 1
        pair.responses_sent += 1
        answer = binding_success(message.transaction_id, source, self.local_parameters.password)
        outputs.append(Respond(answer, socket, source))
        if seen_at is not None and not (seen_at != key and self._is_the_signalled_one(source)):
            return outputs
        outputs.append(Claim(socket, source))
        if message.use_candidate and self._paths.nominate(pair, now):
            outputs.append(PairSelected(pair))
        pair.last_heard = now
        self._patience.heard(now)
        self._update_state(now, outputs)
        return outputs

    def _is_the_signalled_one(self, source: Address) -> bool:
        """Whether of two copies of a check the one from ``source`` is the peer's: only it is a candidate of his."""
        selected = self.selected_pair
        return source in self._remote_candidates and (
            selected is None or selected.address not in self._remote_candidates
        )

    def _new_pair(self, key: tuple[Hashable, Address], priority: int, outputs: list[Output]) -> LitePair:
        socket, source = key
        remote = self._remote_candidates.get(source)
        if remote is None:
            foundation = candidate_foundation("prflx", source[0])
            remote = Candidate(foundation, 1, "udp", priority, source[0], source[1], "prflx")
        local = self._local_candidates[socket]
        pair = LitePair(local, remote, PairState.SUCCEEDED, socket=socket, address=source)
        pair.priority = pair_priority(remote.priority, local.priority)
        pairs = self._paths.pairs
        if len(pairs) >= PAIRS:
            others = (each for each in pairs.values() if each is not self.selected_pair)
            oldest = min(others, key=lambda each: each.last_heard)
            self.counters["pairs_forgotten"] += 1
            del pairs[oldest.socket, oldest.address]
            outputs.append(Release(oldest.socket, oldest.address))
        pairs[key] = pair
        return pair

    def heard(self, now: float, socket: Hashable = None, source: Address | None = None) -> Sequence[Output]:
        """An authenticated packet came that is not STUN: media or data.

        :param socket: where it came from, with ``source``. Without them it counts for the state only; with
            them it also shows which path is used, and may move ours there.
        """
        self._patience.heard(now)
        outputs: Sequence[Output] = _NOTHING
        pair = None if source is None else self._paths.pairs.get((socket, source))
        if pair is not None:
            pair.last_heard = pair.last_data = now
            if self._paths.prefers_data_from(pair, now):
                self._paths.select(pair, now)
                self.counters["paths_moved_by_data"] += 1
                outputs = [PairSelected(pair)]
        if self.state is IceState.CONNECTED:
            return outputs
        changes = [*outputs]
        self._update_state(now, changes)
        return changes

    # Time

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due; ``None`` when nothing changes by itself.

        It moves on with every packet. A timer that is set for an earlier value does no harm: nothing happens
        then, and the caller asks again. So none need be set anew for each packet.
        """
        last_heard = self._patience.last_heard
        if self.state is IceState.CONNECTED:
            return last_heard + self._patience.seconds
        if self.state is IceState.DISCONNECTED:
            return last_heard + FAILED_AFTER
        if self.state is IceState.CHECKING:
            return max(self._checking_until, last_heard + FAILED_AFTER)
        return None

    def handle_timeout(self, now: float) -> Sequence[Output]:
        """Do what is due at ``now``."""
        outputs: list[Output] = []
        self._update_state(now, outputs)
        return outputs

    def _update_state(self, now: float, outputs: list[Output]) -> None:
        if self.state in (IceState.NEW, IceState.FAILED):
            return
        last_heard = self._patience.last_heard
        if self.selected_pair is not None and now < last_heard + self._patience.seconds:
            self._set_state(IceState.CONNECTED, outputs)
            return
        deadline = last_heard + FAILED_AFTER
        if self.state is IceState.CHECKING:
            deadline = max(deadline, self._checking_until)
        if now >= deadline:
            self._fail(outputs)
        elif self.state is IceState.CONNECTED:
            self._set_state(IceState.DISCONNECTED, outputs)

    def _set_state(self, state: IceState, outputs: list[Output]) -> None:
        if state is not self.state:
            self.state = state
            outputs.append(StateChanged(state))

    def _fail(self, outputs: list[Output]) -> None:
        """Give up all paths, for good."""
        outputs += [Release(pair.socket, pair.address) for pair in self.pairs()]
        self._paths = _Paths()
        self._set_state(IceState.FAILED, outputs)
