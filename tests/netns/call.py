"""A call between two hosts, with the signalling between them, and what is told of it afterwards."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.netns.hosts import Host

#: Seconds until a call must be connected, and until messages that wait must have come.
CONNECT_PATIENCE = 15.0


class Call:
    """Two hosts whose programs are :class:`.End`, and who are told each other's candidates as these come.

    :param offerer: makes the first offer.
    :param candidates: of which ends the candidates are handed on.
    """

    def __init__(self, offerer: Host, answerer: Host, *, candidates: Sequence[Host] | None = None) -> None:
        self.offerer, self.answerer = offerer, answerer
        self.candidates: dict[Host, list[str]] = {offerer: [], answerer: []}
        "All that each end has told."
        self._candidates_of = (offerer, answerer) if candidates is None else candidates
        self._waiting: dict[Host, list[dict[str, Any] | None]] = {offerer: [], answerer: []}
        self._may_tell = {offerer: False, answerer: False}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._states = {offerer: "new", answerer: "new"}
        self._changed = asyncio.Event()
        for host in (offerer, answerer):
            host.on_event = lambda event, host=host: self._on_event(host, event)

    def other(self, host: Host) -> Host:
        """The other end."""
        return self.answerer if host is self.offerer else self.offerer

    def _on_event(self, host: Host, event: dict[str, Any]) -> None:
        if event["event"] == "state":
            self._states[host] = event["state"]
            self._changed.set()
            return
        candidate = event["candidate"]
        if candidate is not None:
            self.candidates[host].append(candidate["candidate"])
            self._changed.set()
        if host in self._candidates_of:
            self._waiting[host].append(candidate)
            self._tell(host)

    def _tell(self, host: Host) -> None:
        if self._may_tell[host]:
            for candidate in self._waiting[host]:
                self._do(self.other(host).call("take_candidate", candidate=candidate))
            self._waiting[host].clear()

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tell_candidate(self, of: Host, candidate: dict[str, Any]) -> None:
        """Tell a candidate in the name of an end, instead of its own ones."""
        self._waiting[of].append(candidate)
        self._tell(of)

    async def negotiate(self, offerer: Host | None = None, *, restart: bool = False) -> None:
        """Offer and answer."""
        offerer = offerer or self.offerer
        answerer = self.other(offerer)
        self._may_tell = dict.fromkeys(self._may_tell, False)
        offer = await offerer.call("offer", restart=restart)
        answer = await answerer.call("answer", **self._description(offerer, offer))
        self._may_tell[offerer] = True
        self._tell(offerer)
        await offerer.call("take_answer", **self._description(answerer, answer))
        self._may_tell[answerer] = True
        self._tell(answerer)

    def _description(self, of: Host, description: dict[str, str]) -> dict[str, str]:
        if of in self._candidates_of:
            return description
        lines = description["sdp"].splitlines(keepends=True)
        return description | {"sdp": "".join(line for line in lines if not line.startswith("a=candidate:"))}

    async def state(self, wanted: str, *hosts: Host, seconds: float = CONNECT_PATIENCE) -> None:
        """Wait until both ends, or those given, have a connection state."""
        chosen = hosts or (self.offerer, self.answerer)
        await self._until(lambda: all(self._states[host] == wanted for host in chosen), seconds)

    async def first_candidate(self, of: Host) -> str:
        """Wait until an end has told a candidate, and give that."""
        await self._until(lambda: bool(self.candidates[of]), CONNECT_PATIENCE)
        return self.candidates[of][0]

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def flows(self, seconds: float = CONNECT_PATIENCE) -> None:
        """Wait until messages and sound come at both ends."""
        async with asyncio.timeout(seconds):
            for host in (self.offerer, self.answerer):
                await host.call("wait_for_more")

    async def connect(self) -> None:
        """Negotiate, and wait until all flows."""
        await self.negotiate()
        await self.state("connected")
        await self.flows()

    async def end(self, seconds: float = CONNECT_PATIENCE) -> dict[str, Any]:
        """Stop sending, wait for what is on its way, hang up, and give both ends' reports."""
        hosts = (self.offerer, self.answerer)
        sent = {host: await host.call("stop_sending") for host in hosts}
        for host in hosts:
            await host.call("wait_for_messages", count=sent[self.other(host)], seconds=seconds)
        reports = {host.name: await host.call("report") for host in hosts}
        for host in hosts:
            reports[host.name]["candidates"] = self.candidates[host]
            reports[host.name]["expected"] = sent[self.other(host)]
        await asyncio.gather(*(host.call("close") for host in hosts))
        return reports


def gap(moments: Iterable[float], since: float, until: float) -> float:
    """The longest time without any of the moments, of those times that touch the window."""
    within = [since, *(moment for moment in moments if since <= moment <= until), until]
    return max(after - before for before, after in itertools.pairwise(within))


def gaps(report: dict[str, Any], since: float, until: float) -> dict[str, float]:
    """The longest pauses in what an end received."""
    return {
        "messages": round(gap((came for _, _, came in report["messages"]), since, until), 2),
        "sound": round(gap(report["frames"], since, until), 2),
    }


def summary(reports: dict[str, Any], windows: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """What the test judges: for each end its states, whether each message came once and in order, and the gaps.

    :param windows: by name, from when to when gaps are looked for. Moments of states are from the first one's begin.
    """
    result: dict[str, Any] = {}
    begin = min(since for since, _ in windows.values())
    for name, report in reports.items():
        numbers = [number for number, _, _ in report["messages"]]
        result[name] = {
            "states": [state for _, state in report["states"]],
            "ice_states": [state for _, state in report["ice_states"]],
            "moments": [(round(moment - begin, 2), state) for moment, state in report["states"]],
            "all_messages": numbers == list(range(report["expected"])),
            "message_count": [len(numbers), report["expected"]],
            "gaps": {window: gaps(report, *times) for window, times in windows.items()},
            "lag": round(report["lag"], 2),
            "pair": report["pair"],
            "counters": report["counters"],
            "ice_counters": report["ice_counters"],
        }
    return result
