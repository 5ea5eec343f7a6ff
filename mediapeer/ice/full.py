"""A full ICE agent for one generation of credentials: it chooses a pair and watches it (RFC 8445 §8, RFC 7675).

aioice leaves the pair alone that was nominated first. Here another takes its place when the peer has moved to
another address, or when the first has fallen silent and the other works.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Sequence
from typing import Any

from aioice import stun

from mediapeer.ice.agent import AgentOwner
from mediapeer.ice.bases import Base
from mediapeer.ice.candidate import IceParameters
from mediapeer.ice.checklist import CheckList, Pair, RoleChanged, State
from mediapeer.ice.liveness import CONSENT_INTERVAL, Liveness, PathLiveness
from mediapeer.ice.options import IceState
from mediapeer.ice.pair import CandidatePair

logger = logging.getLogger(__name__)

#: Seconds to wait for checks of the peer before ICE may fail (RFC 8863 §4).
PAC_TIMEOUT = 39.5
#: Seconds that a direct path has to be found while a relayed one waits to be nominated.
PATIENCE_FOR_DIRECT = 0.3
#: How often a consent check is sent again: with aioice's 0.5 s doubling it then waits 3.5 s for its answer.
CONSENT_RETRANSMISSIONS = 2
#: Seconds between consent checks at least, whatever the answers.
CONSENT_SPACING = 0.5
#: Seconds that the selected pair has to answer before another takes its place: at least, and at most.
CHALLENGE_TIMES = (0.2, 1.0)
#: Seconds of further silence after which other pairs are looked at, when the selected one has been quiet for so long
#: that it was checked: it should have answered by now.
ANSWER_TIME = 1.0
#: Pairs that are checked again when the selected one is silent, and the seconds until the next time.
RECHECKED_PAIRS = 10
RECHECK_INTERVAL = 3.0


class FullIceAgent(CheckList):
    """One generation of a session: our credentials, then the peer's, and the path between.

    Parameters are those of :class:`.CheckList`.
    """

    def __init__(self, owner: AgentOwner, parameters: IceParameters, *, controlling: bool) -> None:
        super().__init__(owner, parameters, controlling=controlling)
        self.gathered = False
        "Whether no more local candidates will come."
        self._nominating_pair: Pair | None = None
        self._first_valid: float | None = None
        self._pac_expired = False
        self._liveness = PathLiveness(0.0)
        self._consent: asyncio.Task[None] | None = None
        self._consent_started = float("-inf")
        self._rechecked = float("-inf")
        self._rival: Pair | None = None
        self._is_cut_off = False

    def start(self, remote: IceParameters) -> None:
        """Begin to check, with the peer's credentials."""
        if self.state is not IceState.NEW:
            return
        self.remote_parameters = remote
        self.remote_username, self.remote_password = remote.username_fragment, remote.password
        self.remote_is_lite = remote.lite
        if remote.lite:
            # RFC 8445 §6.1.1. When both were to be lite both may say so; the conflict is resolved as any other.
            self.ice_controlling = True
        self.sort_check_list()
        self._set_timer("pac", PAC_TIMEOUT, self._pac_timeout)
        self._set_state(IceState.CHECKING)
        for pair in list(self._check_list):
            if isinstance(pair, Pair) and pair.record.requests_received:
                self._start_check(pair)
        self._continue_checks()

    def end_of_candidates(self) -> None:
        """The peer has no more candidates to tell (RFC 8838 §14)."""
        self._remote_candidates_end = True
        self._update()

    def gathering_ended(self) -> None:
        """No more local candidates will come."""
        self.gathered = True
        self._update()

    # Nomination

    def deliver(self, data: bytes, record: CandidatePair) -> None:
        """A datagram that is not STUN came over a checked pair by way of a TURN server."""
        self._owner.deliver(data, self, record)

    def _changed(self) -> None:
        self._owner.agent_changed(self)

    def _peer_checked(self, pair: Pair, *, nominating: bool) -> None:
        if nominating:
            self._select(pair)
        elif self.selected not in (None, pair):
            self._challenge(pair)

    def _failed(self, pair: Pair) -> None:
        if self._nominating_pair is pair:
            self._nominating_pair = None
        self._consider_nomination()
        self._maybe_fail()

    def _all_checked(self) -> None:
        self._maybe_fail()

    def _succeeded(self, pair: Pair, *, nominate: bool) -> None:
        selected = self.selected
        if self._first_valid is None:
            self._first_valid = self.now()
        if (nominate and self.ice_controlling) or (pair.remote_nominated and not self.ice_controlling):
            self._select(pair)
        elif selected is None:
            self._consider_nomination()
        elif self.ice_controlling and selected.is_relayed and not pair.is_relayed:
            self._nominate(pair)
        elif pair is not selected:
            # Checks that were on their way when another pair was selected are no reason to doubt it.
            is_silent = selected.record.last_heard < self._rechecked <= pair.started
            if self._is_cut_off:
                self._replace_selected(pair)
            elif is_silent or pair.record.requests_received:
                self._challenge(pair)

    def _consider_nomination(self) -> None:
        """Nominate the best valid pair, if that is for us to do and has not been done (RFC 8445 §8.1.1)."""
        if not self.ice_controlling or self._closing or self.selected is not None or self._nominating_pair:
            return
        valid = [pair for pair in self._check_list if pair.state is State.SUCCEEDED]
        if not valid or not isinstance(valid[0], Pair) or self._first_valid is None:
            return
        best = valid[0]
        until = self._first_valid + PATIENCE_FOR_DIRECT
        open_pairs = (pair for pair in self._check_list if isinstance(pair, Pair) and pair.is_open)
        if best.is_relayed and self.now() < until and any(not pair.is_relayed for pair in open_pairs):
            if "nomination" not in self._timers:
                self._set_timer("nomination", until - self.now(), self._consider_nomination)
            return
        self._nominate(best)

    def _nominate(self, pair: Pair) -> None:
        self._nominating_pair = pair
        if pair.task is not None:
            pair.task.cancel()
            pair.task = None
        self._start_check(pair, nominate=True)

    def switch_role(self, ice_controlling: bool) -> None:
        """Take the other role; pairs get other priorities by that."""
        super().switch_role(ice_controlling)
        self._nominating_pair = None
        if ice_controlling:
            asyncio.get_running_loop().call_soon(self._consider_nomination)

    def _select(self, pair: Pair) -> None:
        """Use this pair from now on."""
        pair.remote_nominated = False
        before = self.selected
        self._nominating_pair = None
        if before is pair or self._closing:
            return
        self._nominated[1] = pair
        pair.nominated = pair.record.nominated = True
        now = self.now()
        if before is None:
            self._liveness = PathLiveness(now)
        self._liveness.consented(now)
        self._liveness.checked(now, _consent_period())
        logger.debug("%s selected %s", self, pair)
        self._update()
        self._owner.agent_changed(self)

    # The selected pair is watched

    def _challenge(self, rival: Pair) -> None:
        """The peer checks another pair than the selected one: it takes over unless that one answers now."""
        self._rival = rival
        selected = self.selected
        if selected is None or "challenge" in self._timers:
            return
        least, most = CHALLENGE_TIMES
        seconds = min(max(3 * (selected.record.round_trip_time or 0.0), least), most)
        self._keep(self._probe(selected))
        self._set_timer("challenge", seconds, functools.partial(self._judge, selected, self.now()))

    def _judge(self, challenged: Pair, since: float) -> None:
        rival, self._rival = self._rival, None
        if rival is None or self.selected is not challenged or rival.state is not State.SUCCEEDED:
            return
        if challenged.record.last_heard <= since:
            self._replace_selected(rival)

    def _replace_selected(self, rival: Pair) -> None:
        if self.ice_controlling:
            self._nominate(rival)
        else:
            self._select(rival)

    @property
    def _silent_after(self) -> float:
        """Seconds without anything authentic after which other pairs are looked at."""
        return self._liveness.quiet_after + ANSWER_TIME

    async def _probe(self, pair: Pair) -> None:
        try:
            await self._request(pair, nominate=False, retransmissions=1)
        except (stun.TransactionError, RoleChanged) as error:
            logger.debug("%s: the selected pair does not answer: %s", self, error)

    def _update(self) -> None:
        """Find the state of the selected pair, check it when that is due, and come back in time."""
        self._cancel_timer("update")
        pair = self.selected
        if self._closing or pair is None or self.state is IceState.FAILED:
            return
        now = self.now()
        liveness = self._liveness.state(now)
        if liveness is Liveness.EXPIRED:
            logger.info("%s: the peer has not answered for too long, consent to send has expired", self)
            self._fail()
            return
        due = max(self._liveness.next_check(), self._consent_started + CONSENT_SPACING)
        if due <= now and self._consent is None:
            self._consent_started = now
            self._liveness.checked(now, _consent_period())
            self._consent = self._keep(self._check_consent(pair))
        if now >= self._liveness.last_heard + self._silent_after:
            self._recheck(now)
        if liveness is Liveness.DISCONNECTED:
            self._set_state(IceState.DISCONNECTED)
        else:
            if self.state is not IceState.COMPLETED:
                self._set_state(IceState.CONNECTED)
            if self.gathered and self._remote_candidates_end:
                self._set_state(IceState.COMPLETED)
        wake = self._liveness.next_change(now)
        if self._consent is None:
            wake = min(wake, max(self._liveness.next_check(), self._consent_started + CONSENT_SPACING))
        silent_at = self._liveness.last_heard + self._silent_after
        wake = min(wake, max(silent_at, self._rechecked + RECHECK_INTERVAL))
        # A closed agent (by whoever was told the state) must not get a timer.
        if not self._closing:
            self._set_timer("update", max(wake - now, 0.001), self._update)

    async def _check_consent(self, pair: Pair) -> None:
        """Ask whether the peer still wants our packets (RFC 7675)."""
        pair.record.consent_requests_sent += 1
        try:
            await self._request(pair, nominate=False, retransmissions=CONSENT_RETRANSMISSIONS)
        except (stun.TransactionError, RoleChanged) as error:
            logger.debug("%s: a consent check failed: %s", self, error)
        else:
            if pair is self.selected:
                self._liveness.consented(self.now())
        finally:
            self._consent = None
            asyncio.get_running_loop().call_soon(self._update)

    def _recheck(self, now: float) -> None:
        """The selected pair is silent or cut off: look whether another still works, or works again."""
        if now < self._rechecked + RECHECK_INTERVAL:
            return
        self._rechecked = now
        others = [pair for pair in self._check_list if isinstance(pair, Pair) and pair is not self.selected]
        for pair in others[:RECHECKED_PAIRS]:
            self._start_check(pair)

    def heard(self, record: CandidatePair | None) -> None:
        """An authenticated packet came over a pair; to be called for media and data too."""
        now = self.now()
        if record is not None:
            record.last_heard = now
        self._liveness.heard(now)
        if self.state is IceState.DISCONNECTED:
            self._update()

    # The end

    def _pac_timeout(self) -> None:
        self._pac_expired = True
        self._maybe_fail()

    def _maybe_fail(self) -> None:
        """Fail when no pair is left that could work, and the peer had time to show another (RFC 8863 §4)."""
        if self.selected is not None or not self._pac_expired or self._nominating_pair is not None:
            return
        if not any(pair.is_open for pair in self._check_list if isinstance(pair, Pair)):
            self._fail()

    def _fail(self) -> None:
        """Nothing may be sent any more (RFC 7675 §5.1); the state says so."""
        self._nominated.clear()
        for name in list(self._timers):
            self._cancel_timer(name)
        tasks: list[asyncio.Task[Any]] = [pair.task for pair in self._check_list if pair.task is not None]
        for task in (*tasks, *self._tasks):
            task.cancel()
        self._set_state(IceState.FAILED)

    def send_datagram(self, data: bytes, now: float, *, droppable: bool) -> None:
        """Send a datagram over the selected pair, at once.

        :raises ConnectionError: when there is none (yet, or any more).
        """
        pair = self._nominated.get(1)
        if not isinstance(pair, Pair):
            raise ConnectionError("ICE has no path to the peer")
        accepted = pair.protocol.send(data, pair.remote_addr, droppable=droppable)
        pair.record.sent(len(data), now, accepted=accepted)
        self._is_cut_off = not accepted and pair.protocol.is_cut_off
        if self._is_cut_off:
            # Our own address or its network has gone: there is no silence to wait for.
            self._recheck(now)

    async def close(self) -> None:
        """End the generation: tasks, timers, allocations; the mux's sockets stay."""
        self._closing = True
        for name in list(self._timers):
            self._cancel_timer(name)
        tasks: list[asyncio.Task[Any]] = [pair.task for pair in self._check_list if pair.task is not None]
        tasks += self._tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._nominated.clear()
        self.checked.clear()
        bases: Sequence[Base] = self.bases()
        self._protocols.clear()
        await asyncio.gather(*(base.close() for base in bases))
        self._closed = True


def _consent_period() -> float:
    return CONSENT_INTERVAL * random.uniform(0.8, 1.2)
