"""A call between a page with ``peer.js`` and our end, with the signalling between them in the test's hands."""

import asyncio
import contextlib
import dataclasses
import pathlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal

from mediapeer import RTCConfiguration, RTCPeerConnection
from tests.e2e.python_end import Message, PythonEnd
from tests.tools.browser import Browser, BrowserError, Page

Side = Literal["page", "python"]

LOOPBACK = "127.0.0.1"
#: Seconds until something is given up.
PATIENCE = 10.0
#: What pages take from their cameras and microphones.
SMALL_CAMERA: dict[str, Any] = {"audio": True, "video": {"width": 320, "height": 240, "frameRate": 15}}
#: Milliseconds that a page waits for something to say before it says that there is nothing.
_FETCH_PATIENCE = 2000
#: Seconds of silence after which a negotiation that looks finished counts as that.
_QUIET = 0.1
_PAGE_SCRIPT = pathlib.Path(__file__).parent / "peer.js"
_CANDIDATE_LINE = re.compile(r"^a=(candidate:.*|end-of-candidates)\r\n", re.MULTILINE)
_MIRRORED = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


def configuration(**options: Any) -> RTCConfiguration:
    """One for loopback."""
    return RTCConfiguration(**{"iceAddresses": [LOOPBACK], **options})


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE, interval: float = 0.05
) -> Any:
    """Ask again and again until the answer is true, and give it.

    :raises TimeoutError: when it is not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (value := await condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(interval)
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trickle:
    """How messages travel. As they come, unless told otherwise; then descriptions have no candidates in them."""

    interval: float = 0.0
    "Seconds between one candidate and the next."
    delay: float = 0.0
    "Seconds by which every candidate is late."
    overtaking: bool = False
    "Whether each side's first description arrives after all of its candidates."
    withheld: Side | None = None
    "Whose candidates never arrive."


@dataclasses.dataclass(frozen=True)
class Passage:
    """A message that was handed to the signalling."""

    moment: float
    side: Side
    kind: str
    "``offer``, ``answer``, ``candidate`` or ``end``."
    message: Message


class Call:
    """A call, its two ends, and the messages between them."""

    def __init__(self, page: Page, end: PythonEnd, trickle: Trickle) -> None:
        self.page = page
        self.end = end
        self.passages: list[Passage] = []
        self.stripped: dict[Side, int] = {"page": 0, "python": 0}
        "How many candidates were in descriptions of each side, and were taken out."
        self.candidates: dict[Side, list[dict[str, Any]]] = {"page": [], "python": []}
        "What each side's candidates were, in W3C's form."
        self.trickle = trickle
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._under_way = 0
        self._set_aside: dict[Side, list[Message]] = {"page": [], "python": []}
        self._has_overtaken: set[Side] = set()
        self._tasks = [
            asyncio.create_task(self._carry_from_page()),
            asyncio.create_task(self._carry_from_python()),
        ]

    # The signalling

    def hold(self) -> None:
        """Deliver nothing until :meth:`release`."""
        self._is_open.clear()

    def release(self) -> None:
        """Deliver what was held."""
        self._is_open.set()

    def said(self, side: Side, *kinds: str) -> int:
        """How many messages of some kinds a side has handed to the signalling."""
        return sum(passage.side == side and passage.kind in kinds for passage in self.passages)

    async def _carry_from_page(self) -> None:
        # The page may go away, or its browser; then there is nothing left to carry.
        with contextlib.suppress(BrowserError):
            while True:
                messages = await self.page.evaluate("(patience) => peer.fetch(patience)", _FETCH_PATIENCE)
                for passage in [self._note("page", message) for message in messages]:
                    await self._carry(passage)

    async def _carry_from_python(self) -> None:
        with contextlib.suppress(BrowserError):
            while True:
                await self._carry(self._note("python", await self.end.outbox.get()))

    def _note(self, side: Side, message: Message) -> Passage:
        kind = "end"
        if description := message.get("description"):
            kind = description["type"]
        elif (candidate := message["candidate"]) and candidate["candidate"]:
            kind = "candidate"
            self.candidates[side].append(candidate)
        self._under_way += 1
        passage = Passage(time.time(), side, kind, message)
        self.passages.append(passage)
        return passage

    async def _carry(self, passage: Passage) -> None:
        await self._is_open.wait()
        side = passage.side
        for message in self._reordered(side, passage.message):
            if "candidate" in message:
                late = passage.moment + self.trickle.delay - time.time()
                await asyncio.sleep(max(self.trickle.interval, late))
            elif self.trickle != Trickle():
                message = {"description": self._without_candidates(side, message["description"])}
            if side == "page":
                await self.end.receive(message)
            else:
                await self.page.evaluate("(message) => peer.receive(message)", message)
            self._under_way -= 1

    def _reordered(self, side: Side, message: Message) -> list[Message]:
        """What is to be delivered now that ``message`` has come."""
        if "candidate" in message and self.trickle.withheld == side:
            self._under_way -= 1
            return []
        if not self.trickle.overtaking or side in self._has_overtaken:
            return [message]
        if "description" in message:
            self._set_aside[side].append(message)
            return []
        if message["candidate"] is not None:
            return [message]
        self._has_overtaken.add(side)
        return [message, *self._set_aside[side]]

    def _without_candidates(self, side: Side, description: dict[str, str]) -> dict[str, str]:
        sdp, count = _CANDIDATE_LINE.subn("", description["sdp"])
        self.stripped[side] += count
        return {**description, "sdp": sdp}

    # What is waited for

    async def connected(self) -> float:
        """Wait until both ends are, and give when the later one was, as seconds since the epoch."""

        async def are_both() -> float | None:
            moments = [self.end.connected_at, (await self.page_state())["connectedAt"]]
            return max(moments) if None not in moments else None

        try:
            moment: float = await until(are_both, "connected")
        except TimeoutError as error:
            self._describe(error, await self.page_state(), self.end.state())
            raise
        return moment

    async def page_state(self) -> dict[str, Any]:
        """The state of the page's end."""
        state: dict[str, Any] = await self.page.evaluate("() => peer.state()")
        return state

    async def agreed(self) -> dict[str, dict[str, Any]]:
        """Wait until both ends have negotiated all that they want, and agree about it; their states.

        :raises TimeoutError: when they do not, with both states in a note.
        """
        states: dict[str, dict[str, Any]] = {}

        async def do_agree() -> bool:
            quiet_since = max((passage.moment for passage in self.passages), default=0.0)
            states.update(page=await self.page_state(), ours=self.end.state())
            is_quiet = not self._under_way and time.time() - quiet_since > _QUIET
            return is_quiet and not disagreements(states["page"], states["ours"])

        try:
            await until(do_agree, "agreement", PATIENCE, 0.03)
        except TimeoutError as error:
            error.add_note("\n".join(disagreements(states["page"], states["ours"])))
            self._describe(error, states["page"], states["ours"])
            raise
        return states

    def _describe(self, error: TimeoutError, page: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        error.add_note(f"{self._under_way} messages under way")
        for name, state in (("page", page), ("ours", ours)):
            brief = {key: value for key, value in state.items() if key not in ("local", "remote")}
            error.add_note(f"{name}: {brief}")

    async def close(self) -> None:
        """Close both ends, as far as they are there."""
        with contextlib.suppress(BrowserError):
            await self.page.evaluate("() => peer.close()")
        await self.end.close()
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def disagreements(page: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """In what the two ends' states contradict each other, or are not what they are to be in the end."""
    found = []
    for name, state in (("page", page), ("ours", ours)):
        if state["signaling"] != "stable":
            found.append(f"{name}: {state['signaling']}")
        if lost := [each for each in state["transceivers"] if each["mid"] is None]:
            found.append(f"{name}: {len(lost)} transceivers without a section")
        for each in state["transceivers"]:
            # Both ends take all that they are sent.
            if ("send" in each["direction"]) != ("send" in str(each["currentDirection"])):
                found.append(f"{name}: {each}")
    mirrored = {each["mid"]: _MIRRORED.get(str(each["currentDirection"])) for each in page["transceivers"]}
    directions = {each["mid"]: each["currentDirection"] for each in ours["transceivers"]}
    if mirrored != directions:
        found.append(f"directions: the page's mirrored are {mirrored}, ours are {directions}")
    counts = [section_count(sdp) for state in (page, ours) for sdp in (state["local"], state["remote"])]
    if len(set(counts)) != 1:
        found.append(f"sections: {counts}")
    return found


def section_count(sdp: str) -> int:
    """The m-lines of a description."""
    return len(re.findall(r"^m=", sdp, re.MULTILINE))


def username_fragment(sdp: str) -> str:
    """The first ICE username fragment in a description."""
    match = re.search(r"^a=ice-ufrag:(\S+)", sdp, re.MULTILINE)
    return match[1] if match else ""


def kinds_of(passages: list[Passage], side: Side) -> list[str]:
    """What a side said, in order, repetitions left out."""
    kinds = [passage.kind for passage in passages if passage.side == side]
    return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A browser, and where it finds an empty page."""

    browser: Browser
    url: str

    @contextlib.asynccontextmanager
    async def tab(self) -> AsyncIterator[Page]:
        """A tab with ``Peer`` in it, closed at the end."""
        page = await self.browser.open(self.url)
        try:
            await page.evaluate(f"() => {{ {_PAGE_SCRIPT.read_text()} }}")
            yield page
        finally:
            with contextlib.suppress(BrowserError):
                await page.close()

    @contextlib.asynccontextmanager
    async def call(
        self,
        *,
        polite: Side = "page",
        options: Mapping[str, Any] | None = None,
        camera: Mapping[str, Any] | None = None,
        trickle: Trickle | None = None,
    ) -> AsyncIterator[Call]:
        """Two ends in a new tab and here that have nothing to negotiate yet.

        :param options: of our configuration.
        :param camera: what the page takes from its camera and microphone; ``{}``: it asks for neither.
        """
        async with self.tab() as page:
            await page.evaluate(
                "(options) => { globalThis.peer = new Peer(options); }", {"polite": polite == "page"}
            )
            if given := SMALL_CAMERA if camera is None else camera:
                await page.evaluate("(constraints) => peer.capture(constraints)", given)
            pc = RTCPeerConnection(configuration(**(options or {})))
            call = Call(page, PythonEnd(pc, polite=polite == "python"), trickle or Trickle())
            try:
                yield call
            finally:
                await call.close()
