"""A call between a browser and the server while somebody floods the server's port, as a program.

``python -m tests.e2e.flood_scenario OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is a
:class:`FloodScenario` in JSON; what :func:`play` gives is written to the file REPORT.
"""

import asyncio
import collections
import dataclasses
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Literal

from signaling import Call, SignalingServer
from tests.e2e.scenario import Observer, Scenario, open_call_page, serve, server_options, start_browser
from tests.tools.browser import BrowserName, Page

#: Seconds that a call may take to be connected.
PATIENCE = 30.0
#: Seconds in which encoders and jitter buffers find their pace.
WARM_UP = 3.0
#: How much longer than what is measured a flood lasts, in seconds.
MARGIN = 1.0
#: How long the call is watched when the floods are over, in seconds.
AFTERWARDS = 1.0

Source = Literal["elsewhere", "peer"]
"Whence a flood comes."


@dataclasses.dataclass(frozen=True, kw_only=True)
class FloodScenario:
    """One call, and what comes in between."""

    browser: BrowserName
    sources: Sequence[Source]
    "Where the floods come from, one after the other: from ports of their own, or as if from the browser's."
    rate: float
    "Datagrams a second."
    seconds: float = 6.0
    "How long each flood lasts, and the time before the first that all are compared with."


async def play(scenario: FloodScenario) -> dict[str, Any]:
    """Make the call, flood it, and say how it went before, during each flood and afterwards."""
    observer = Observer()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        server = SignalingServer(server_options(directory / "recordings"))
        server.on_call(observer.handle)
        async with (
            serve(server) as url,
            start_browser(Scenario(browser=scenario.browser), directory) as browser,
        ):
            page = await open_call_page(browser, url)
            options = {"dtlsClient": "browser", "wrongFingerprint": False}
            await page.evaluate("(options) => testCall.offer(options)", options)
            (call,) = server.calls.values()
            async with asyncio.timeout(PATIENCE):
                await call.wait_connected()
            await page.wait_for("() => testCall.pc.connectionState === 'connected'", timeout_seconds=PATIENCE)
            await asyncio.sleep(WARM_UP)
            meter = Meter(page, call, observer)
            report: dict[str, Any] = {"version": browser.version}
            report["before"] = await meter.measure(scenario.seconds)
            report["meanwhile"], report["sent"] = {}, {}
            for source in scenario.sources:
                report["meanwhile"][source], report["sent"][source] = await _flooded(
                    scenario, source, meter, call
                )
                await asyncio.sleep(1)
            report["flood_seconds"] = scenario.seconds + MARGIN
            report["afterwards"] = await meter.measure(AFTERWARDS)
            report["states"] = {"server": observer.states, "browser": (await meter.browser())["states"]}
            await page.evaluate("() => testCall.hangUp()")
            async with asyncio.timeout(PATIENCE):
                await observer.closed.wait()
            return report


async def _flooded(
    scenario: FloodScenario, source: Source, meter: "Meter", call: Call
) -> tuple[dict[str, Any], int]:
    """How the call goes while it is flooded, and how many datagrams were sent."""
    ours, peers = ports(call)
    arguments = [
        "--port",
        str(ours),
        "--rate",
        str(scenario.rate),
        "--seconds",
        str(scenario.seconds + MARGIN),
    ]
    if source == "peer":
        arguments += ["--peer-port", str(peers)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.flooder", *arguments, stdout=asyncio.subprocess.PIPE
    )
    before = meter.dropped()
    async with asyncio.timeout(PATIENCE):
        while (meter.dropped() - before).total() < min(100, scenario.rate):
            await meter.round_trip()  # for a forger to hear
    measured = await meter.measure(scenario.seconds)
    output, _ = await process.communicate()
    return measured, int(output)


def ports(call: Call) -> tuple[int, int]:
    """The ports of the pair that ICE has selected, ours and the peer's."""
    (transport,) = call.peer_connection.transports
    ice: Any = transport.transport
    pair = ice._ice.selected_pair
    return pair.local.port, pair.remote.port


class Meter:
    """Says how much of everything there is in a while."""

    def __init__(self, page: Page, call: Call, observer: Observer) -> None:
        self._page = page
        self._call = call
        self._observer = observer
        self._messages = 0

    def dropped(self) -> collections.Counter[str]:
        """What the server's end has dropped so far, and why; what came to its port for no call, too."""
        total: collections.Counter[str] = collections.Counter()
        for transport in self._call.peer_connection.transports:
            ice: Any = transport.transport
            total += transport.counters + ice._ice.options.mux.counters
        return total

    async def browser(self) -> dict[str, Any]:
        """What the browser says."""
        statistics: dict[str, Any] = await self._page.evaluate("() => testCall.statistics()")
        return statistics

    async def measure(self, seconds: float) -> dict[str, Any]:
        """Watch for ``seconds``. Rates are per second; the round trip is that of a message, in seconds."""
        there, here = await self.browser(), dict(self._observer.frames)
        dropped, started, cpu = self.dropped(), time.monotonic(), time.process_time()
        trips = []
        while time.monotonic() - started < seconds:
            trips.append(await self.round_trip())
            await asyncio.sleep(0.5)
        elapsed = time.monotonic() - started
        after = await self.browser()
        return {
            "seconds": elapsed,
            "server_cpu": (time.process_time() - cpu) / elapsed,
            "round_trip": max(trips),
            "browser": {
                kind: (after[kind] - there[kind]) / elapsed for kind in ("framesDecoded", "audioPackets")
            },
            "server": {kind: (self._observer.frames[kind] - here[kind]) / elapsed for kind in here},
            "dropped": dict(self.dropped() - dropped),
            "state": self._call.state.value,
            "browser_state": after["connectionState"],
        }

    async def round_trip(self) -> float:
        """How long a message takes there and back, in seconds."""
        self._messages += 1
        text = f"message {self._messages}"
        started = time.monotonic()
        await self._page.evaluate("(text) => testCall.say(text)", text)
        await self._page.wait_for("(text) => testCall.messages.includes(text)", text)
        return time.monotonic() - started


def main() -> None:
    """Play what the command line says."""
    scenario = FloodScenario(**json.loads(sys.argv[1]))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(asyncio.run(play(scenario), debug=False)))


if __name__ == "__main__":
    main()
