"""Calls between a browser and the server through a relay that loses datagrams, as a program.

``python -m tests.e2e.loss_scenario OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is a
:class:`LossScenario` in JSON; what :func:`play` gives is written to the file REPORT.
"""

import asyncio
import dataclasses
import json
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from signaling import Call, ServerOptions, SignalingServer
from tests.e2e.scenario import Scenario, open_call_page, serve, server_options, start_browser
from tests.tools.browser import Browser, BrowserError, BrowserName, Page
from tests.tools.relay import Relay, lose_at_random

#: Seconds in which both ends must be connected. The server, and ICE in the browsers, give up after some thirty.
PATIENCE = 35.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossScenario:
    """One call for each seed, all with one browser."""

    browser: BrowserName
    rate: float
    "How probable it is that a datagram is lost, whatever is in it and whichever way it goes: 0 to 1."
    seeds: Sequence[int]
    "What the losses are drawn from. Four in a row have all orders of offerer and DTLS client."


class RelayedServer(SignalingServer):
    """The real server, whose calls go through a relay: both ends' descriptions are changed on their way."""

    def __init__(self, options: ServerOptions, relay: Relay) -> None:
        super().__init__(options)
        self.relay = relay
        "For the next call."

    async def answer_call(self, offer: str) -> tuple[Call, str]:
        """Answer an offer."""
        call, answer = await super().answer_call(self.relay.through("offer", offer))
        return call, self.relay.through("answer", answer)

    async def create_call(self) -> tuple[Call, str]:
        """Make an offer."""
        call, offer = await super().create_call()
        return call, self.relay.through("offer", offer)

    async def accept_answer(self, call: Call, answer: str) -> None:
        """Take the answer to it."""
        await super().accept_answer(call, self.relay.through("answer", answer))


async def play(scenario: LossScenario) -> dict[str, Any]:
    """Make the calls, one after the other."""
    calls = []
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        server = RelayedServer(server_options(directory / "recordings"), Relay())
        async with (
            serve(server) as url,
            start_browser(Scenario(browser=scenario.browser), directory) as browser,
        ):
            for seed in scenario.seeds:
                server.relay = Relay(loses=lose_at_random(scenario.rate, seed))
                await server.relay.open()
                try:
                    calls.append({"seed": seed} | await connect(server, browser, url, seed))
                finally:
                    server.relay.close()
            return {"version": browser.version, "calls": calls}


async def connect(server: RelayedServer, browser: Browser, url: str, seed: int) -> dict[str, Any]:
    """Call until both ends are connected, and hang up."""
    page = await open_call_page(browser, url)
    offerer = "server" if seed // 2 % 2 else "browser"
    dtls_client = "server" if seed % 2 else "browser"
    await page.evaluate(
        f"(options) => testCall.{'offer' if offerer == 'browser' else 'answer'}(options)",
        {"dtlsClient": dtls_client, "wrongFingerprint": False},
    )
    (call,) = server.calls.values()
    report: dict[str, Any] = {"offerer": offerer, "dtls_client": dtls_client, "connected_after": None}
    try:
        await page.wait_for("() => testCall.connectedAt", timeout_seconds=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await call.wait_connected()
    except (BrowserError, ConnectionError, TimeoutError) as error:
        report["failure"] = f"{type(error).__name__}: {error}; {call.state}, {call.reason}"
    else:
        report["connected_after"] = await _seconds_until_connected(page, call)
    report["browser"] = await page.evaluate("() => testCall.statistics()")
    if call.id in server.calls:
        report["call"] = await page.evaluate("() => api('GET', `/api/calls/${testCall.id}`)")
    report |= {"carried": dict(server.relay.carried), "lost": dict(server.relay.lost)}
    await page.evaluate("() => testCall.hangUp()")
    await call.close("Seen enough.")
    return report


async def _seconds_until_connected(page: Page, call: Call) -> float:
    """From when both ends had both descriptions until the later one said ``connected``."""
    if call.connected_at is None:
        raise RuntimeError("the call is not connected")
    times: list[float] = await page.evaluate("() => [testCall.answeredAt, testCall.connectedAt]")
    answered, connected = times
    later = max(connected / 1000, call.connected_at.timestamp())
    return later - answered / 1000


def main() -> None:
    """Play what the command line says."""
    scenario = LossScenario(**json.loads(sys.argv[1]))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(asyncio.run(play(scenario), debug=False)))


if __name__ == "__main__":
    main()
