"""What a browser and our end negotiate, and how the path between them lives and dies, as a program: it reports.

``python -m tests.e2e.negotiation_scenario OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is a
:class:`Programme` in JSON; ``{"version", "reports": {scenario: figures}}`` is written to the file REPORT. A scenario
that could not be played to its end has its reason under ``failure``.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.e2e.negotiated_call import (
    LOOPBACK,
    Call,
    Side,
    Stage,
    Trickle,
    kinds_of,
    section_count,
    until,
    username_fragment,
)
from tests.e2e.python_end import Change, Ending, Kind
from tests.tools.browser import BrowserName, launch
from tests.tools.page import serve_page
from tests.tools.sandbox import add_network

#: How the videos of renegotiation end, one after the other.
ENDINGS: tuple[Ending, ...] = ("remove", "stop", "remove", "stop", "remove")
#: Rounds of glare: what the page changes, and what we change at the same time. They are repeated; the last
#: round is like the first.
CHANGES: tuple[tuple[Change, Change], ...] = (
    (("add", "video"), ("add", "video")),
    (("remove", "video"), ("add", "audio")),
    (("add", "audio"), ("remove", "video")),
    (("stop", "audio"), ("add", "audio")),
    (("restart", None), ("restart", None)),
)
ROUNDS_OF_GLARE = 16
#: How long offers that are to cross are waited for, in seconds.
CROSSING_PATIENCE = 2.0
TABS = 3
RIDS = ("h", "m", "l")
#: Pictures that show that a stream is decoded.
ENOUGH_FRAMES = 5
#: Packets that show that a layer is there.
ENOUGH_PACKETS = 20
#: Seconds in which every layer of a simulcast has to be seen.
SIMULCAST_PATIENCE = 20.0
#: Seconds for which media is watched before a restart, and after it.
SECONDS_BEFORE, SECONDS_AFTER = 0.4, 1.1
#: Seconds by which candidates are late when ICE restarts.
LATE_SECONDS = 1.3
#: Our address on the network where browsers hide theirs.
NETWORK = "10.75.20.1"
#: Seconds after which a scenario is given up.
_SCENARIO_PATIENCE = 40.0
#: The large camera of simulcast, in layers of full, half and quarter size.
_LARGE_CAMERA = {"video": {"width": 1280, "height": 720, "frameRate": 15}}
_LAYERS = [
    {"rid": "h", "maxBitrate": 400_000},
    {"rid": "m", "maxBitrate": 150_000, "scaleResolutionDownBy": 2},
    {"rid": "l", "maxBitrate": 60_000, "scaleResolutionDownBy": 4},
]

Scenario = Callable[[Stage], Awaitable[dict[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programme:
    """Scenarios to play with one browser."""

    browser: BrowserName
    scenarios: Sequence[str] = ()
    "Their names; none: all of them that are for a browser that tells its addresses."
    hides_addresses: bool = False
    "Whether there is a network beside loopback on which the browser hides its addresses."


async def start_media(call: Call, *kinds: Kind, both_ways: bool = False) -> None:
    """Let the page send some kinds and open a data channel, and wait until that is agreed upon.

    :param both_ways: whether we send the same kinds, in our answer.
    """
    call.end.returns_kinds = both_ways
    await call.page.evaluate(
        "(kinds) => { peer.open('chat'); for (const kind of kinds) peer.add(kind); }", kinds
    )
    await call.connected()
    await call.agreed()


async def trickle(stage: Stage) -> dict[str, Any]:
    """Candidates follow their descriptions one by one, or come before them."""
    return {
        f"{offerer} offers, {'before' if overtaking else 'after'}": await _trickle(stage, offerer, overtaking)
        for offerer in ("page", "python")
        for overtaking in (False, True)
    }


async def _trickle(stage: Stage, offerer: Side, overtaking: bool) -> dict[str, Any]:
    trickle = Trickle(interval=0.03, overtaking=overtaking)
    async with stage.call(trickle=trickle) as call:
        started = time.time()
        if offerer == "page":
            await call.page.evaluate("() => { peer.open('chat'); peer.add('audio'); }")
        else:
            call.end.add("audio")
            call.end.open("chat")
        connected = await call.connected()
        states = await call.agreed()
        messages = await until(lambda: _messages(call), "a message on the channel")
        pairs = await call.end.statistics("candidate-pair")
        return {
            "connected_after": connected - started,
            "in_descriptions": call.stripped,
            "passages": {side: kinds_of(call.passages, side) for side in ("page", "python")},
            "messages": messages,
            "pairs": len(pairs),
            "errors": _errors(states),
        }


async def _messages(call: Call) -> list[str]:
    return [*(await call.page_state())["messages"], *call.end.messages]


def _errors(states: dict[str, dict[str, Any]]) -> list[str]:
    return [error for state in states.values() for error in state["errors"]]


async def restart(stage: Stage) -> dict[str, Any]:
    """Both sides restart ICE, one after the other, while audio and video go both ways.

    The path that there is has to go on: for some time nobody knows where another could lead.
    """
    async with stage.call() as call:
        await start_media(call, "audio", "video", both_ways=True)
        await until(lambda: _flows(call), "media both ways")
        return {
            "python restarts": await _restart(call, lambda: _restart_ours(call)),
            "page restarts": await _restart(call, lambda: call.page.evaluate("() => peer.pc.restartIce()")),
        }


async def _restart_ours(call: Call) -> None:
    call.end.pc.restartIce()


async def _flows(call: Call) -> bool:
    inbound = await call.page.evaluate("() => peer.inbound()")
    pictures = [entry["framesDecoded"] for entry in inbound.values() if entry["kind"] == "video"]
    return len(inbound) == 2 and sum(pictures) > 0 and all(each.frames for each in call.end.receptions)


async def _restart(call: Call, begin: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    before = await call.page_state()
    states_before = len(call.end.states)
    pair_before = await call.page.evaluate("() => peer.pair()")
    await call.page.evaluate("() => peer.watch()")
    for reception in call.end.receptions:
        reception.watch()
    await asyncio.sleep(SECONDS_BEFORE)
    call.trickle = Trickle(delay=LATE_SECONDS)
    await begin()

    async def has_new_fragments() -> bool:
        state = await call.page_state()
        return all(
            username_fragment(state[side]) not in ("", username_fragment(before[side]))
            for side in ("local", "remote")
        )

    await until(has_new_fragments, "new credentials on both sides")

    async def is_on_another_pair() -> bool:
        return await call.page.evaluate("() => peer.pair()") not in (None, pair_before)

    await until(is_on_another_pair, "another pair")
    states = await call.agreed()
    await asyncio.sleep(SECONDS_AFTER)
    gaps, samples = await call.page.evaluate("() => peer.gaps()")
    return {
        "gaps": {
            "page": gaps,
            "python": {each.kind: each.longest_gap() for each in call.end.receptions},
        },
        "samples": samples,
        "states": [state for _, state in call.end.states[states_before:]],
        "page_states": states["page"]["states"][len(before["states"]) :],
        "errors": _errors(states),
    }


async def renegotiation(stage: Stage) -> dict[str, Any]:
    """A video is added and ended again and again: first the page's, then ours."""
    async with stage.call() as call:
        await start_media(call, "audio")
        started = time.monotonic()
        rounds = [await _renegotiate_theirs(call, how) for how in ENDINGS]
        theirs, started = time.monotonic() - started, time.monotonic()
        rounds += [await _renegotiate_ours(call, how) for how in ENDINGS]
        return {
            "rounds": rounds,
            "seconds": {"page": theirs, "python": time.monotonic() - started},
            "errors": _errors(await call.agreed()),
        }


async def _renegotiate_theirs(call: Call, how: Ending) -> dict[str, Any]:
    frames_before = call.end.frames()
    await call.page.evaluate("() => { peer.add('video'); }")

    async def are_decoded() -> bool:
        return call.end.frames() >= frames_before + ENOUGH_FRAMES

    await until(are_decoded, "pictures from the page")
    added = await call.agreed()
    await call.page.evaluate("(how) => peer.end('video', how)", how)
    return _round("page", how, added, await call.agreed())


async def _renegotiate_ours(call: Call, how: Ending) -> dict[str, Any]:
    decoded_before = await _decoded_by_the_page(call)
    call.end.add("video")

    async def are_decoded() -> bool:
        decoded = await _decoded_by_the_page(call)
        return any(count >= decoded_before.get(mid, 0) + ENOUGH_FRAMES for mid, count in decoded.items())

    await until(are_decoded, "pictures from us")
    added = await call.agreed()
    await call.end.end("video", how)
    return _round("python", how, added, await call.agreed())


async def _decoded_by_the_page(call: Call) -> dict[str, int]:
    inbound = await call.page.evaluate("() => peer.inbound()")
    return {mid: entry["framesDecoded"] for mid, entry in inbound.items() if entry["kind"] == "video"}


def _round(
    side: Side, how: Ending, added: dict[str, dict[str, Any]], ended: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "side": side,
        "how": how,
        "sections_with": section_count(added["page"]["local"]),
        "sections_without": section_count(ended["page"]["local"]),
        "transceivers_without": [len(state["transceivers"]) for state in ended.values()],
    }


async def glare(stage: Stage) -> dict[str, Any]:
    """Both sides want something at once, again and again, with either side polite."""
    return {f"polite {polite}": await _glare(stage, polite) for polite in ("page", "python")}


async def _glare(stage: Stage, polite: Side) -> dict[str, Any]:
    async with stage.call(polite=polite) as call:
        await start_media(call, "audio")
        started = time.monotonic()
        met = 0
        for number in range(ROUNDS_OF_GLARE):
            collisions = call.end.collisions + (await call.page_state())["collisions"]
            if (number + number // len(CHANGES)) % 2:
                await _want_at_once(call, number)
            else:
                await _cross_offers(call, number)
            states = await call.agreed()
            met += states["page"]["collisions"] + states["ours"]["collisions"] > collisions
        report = {
            "seconds": time.monotonic() - started,
            "rounds": ROUNDS_OF_GLARE,
            "rounds_in_which_offers_met": met,
            "sections": section_count(states["page"]["local"]),
            "transceivers": [len(state["transceivers"]) for state in states.values()],
            "directions": [each["currentDirection"] for each in states["ours"]["transceivers"]],
        }
        decoded, frames = await _decoded_by_the_page(call), call.end.frames()

        async def flows() -> bool:
            now = await _decoded_by_the_page(call)
            moving = [mid for mid, count in now.items() if count > decoded.get(mid, 0) + ENOUGH_FRAMES]
            return bool(moving) and call.end.frames() > frames + ENOUGH_FRAMES

        await until(flows, "pictures both ways after all")
        return report | {"errors": _errors(await call.agreed())}


async def _cross_offers(call: Call, number: int) -> None:
    """Nothing is delivered until both sides have made an offer.

    A side that was about to say something else can make none before it is delivered: such a round is given up, and
    offers meet in another.
    """
    before = {side: call.said(side, "offer") for side in ("page", "python")}
    call.hold()
    await _want_at_once(call, number)

    async def have_both_offered() -> bool:
        return all(call.said(side, "offer") > before[side] for side in ("page", "python"))

    with contextlib.suppress(TimeoutError):
        await until(have_both_offered, "two offers", CROSSING_PATIENCE, 0.005)
    call.release()


async def _want_at_once(call: Call, number: int) -> None:
    """Make both sides change something, with next to no time between."""
    theirs, ours = CHANGES[number % len(CHANGES)]
    evaluation = asyncio.create_task(call.page.evaluate("(change) => peer.change(...change)", theirs))
    await asyncio.sleep(0.002 * number)
    await call.end.change(ours)
    await evaluation


async def simulcast(stage: Stage) -> dict[str, Any]:
    """The page publishes three layers, and we see them all."""
    async with stage.call(camera=_LARGE_CAMERA) as call:
        started = time.monotonic()
        await call.page.evaluate("(layers) => peer.publish(layers)", _LAYERS)
        await call.connected()
        layers: dict[str, Any] = {}

        async def are_all_seen() -> bool:
            for entry in await call.end.statistics("inbound-rtp"):
                rid = getattr(entry, "rid", None)
                if rid is not None:
                    layers[rid] = {"mid": entry.mid, "ssrc": entry.ssrc, "packets": entry.packetsReceived}
            return all(layers.get(rid, {}).get("packets", 0) >= ENOUGH_PACKETS for rid in RIDS)

        with contextlib.suppress(TimeoutError):
            await until(are_all_seen, "all layers", SIMULCAST_PATIENCE, 0.2)
        states = await call.agreed()
        sent = await call.page.evaluate(
            """async () => Object.fromEntries((await peer.entries('outbound-rtp')).filter((entry) => entry.rid)
                .map((entry) => [entry.rid, [entry.frameWidth ?? 0, entry.packetsSent, entry.targetBitrate ?? 0]]))
            """
        )
        return {
            "seconds": time.monotonic() - started,
            "layers": layers,
            "sent": sent,
            "frames": call.end.frames(),
            "width": max((each.width for each in call.end.receptions), default=0),
            "errors": _errors(states),
        }


async def tabs(stage: Stage) -> dict[str, Any]:
    """Three tabs at once, all on one port of ours."""
    return {"full": await _tabs(stage, False), "lite": await _tabs(stage, True)}


async def _tabs(stage: Stage, lite: bool) -> dict[str, Any]:
    port = free_port()
    before = udp_ports()
    options = {"icePort": port, "iceLite": lite}
    async with contextlib.AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(stage.call(camera={}, options=options)) for _ in range(TABS)]
        started = time.time()
        for number, call in enumerate(calls):
            call.end.open(f"tab {number}")
        await asyncio.gather(*(call.page.evaluate("(label) => peer.open(label)", "page") for call in calls))
        connected = await asyncio.gather(*(call.connected() for call in calls))
        states = await asyncio.gather(*(call.agreed() for call in calls))
        for call in calls:
            await until(functools.partial(_messages_both_ways, call), "a message each way")
        report = {
            "connected_after": [moment - started for moment in connected],
            "ports": [each for each in udp_ports() if each not in before],
            "port": port,
            "messages": [await _messages(call) for call in calls],
            "is_lite": ["a=ice-lite" in state["ours"]["local"] for state in states],
            "errors": [error for state in states for error in _errors(state)],
        }
    return report | {"ports_left": [each for each in udp_ports() if each not in before]}


async def _messages_both_ways(call: Call) -> bool:
    return bool(call.end.messages) and bool((await call.page_state())["messages"])


async def silent_ends(stage: Stage) -> dict[str, Any]:
    """A tab is closed in mid-call, then the browser is killed with another. It has to be the last scenario."""
    async with stage.call() as closed, stage.call() as killed:
        for call in (closed, killed):
            await start_media(call, "audio", "video")
        await asyncio.sleep(SECONDS_BEFORE)
        async with asyncio.TaskGroup() as group:
            of_tab = group.create_task(_noticed(closed))
            await closed.page.close()
            await asyncio.sleep(1)
            of_browser = group.create_task(_noticed(killed))
            stage.browser.kill()
        return {"tab closed": of_tab.result(), "browser killed": of_browser.result()}


async def _noticed(call: Call) -> dict[str, Any]:
    """Wait until our end notices that the other is gone."""
    started, count = time.time(), len(call.end.states)

    async def is_noticed() -> bool:
        return len(call.end.states) > count

    await until(is_noticed, "another state")
    moment, state = call.end.states[count]
    return {"seconds": moment - started, "state": state, "errors": call.end.errors}


async def hidden_addresses(stage: Stage) -> dict[str, Any]:
    """The page gives names of the form ``….local`` in the place of its addresses, and never learns ours."""
    options = {"iceAddresses": [NETWORK]}
    async with stage.call(camera={}, options=options, trickle=Trickle(withheld="python")) as call:
        started = time.time()
        await call.page.evaluate("() => peer.open('chat')")
        connected = await call.connected()
        return {
            "connected_after": connected - started,
            "addresses": [each["candidate"].split()[4] for each in call.candidates["page"]],
            "messages": await until(lambda: _messages(call), "a message on the channel"),
            "errors": _errors(await call.agreed()),
        }


SCENARIOS: dict[str, Scenario] = {
    "trickle": trickle,
    "restart": restart,
    "renegotiation": renegotiation,
    "glare": glare,
    "simulcast": simulcast,
    "tabs": tabs,
    "silent_ends": silent_ends,
}
SCENARIOS_FOR_HIDDEN_ADDRESSES: dict[str, Scenario] = {"hidden_addresses": hidden_addresses}


def free_port() -> int:
    """A UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def udp_ports() -> list[int]:
    """The local ports of this process's UDP sockets."""
    links = []
    for path in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(path))
    ports = []
    for table in ("/proc/self/net/udp", "/proc/self/net/udp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in links:
                ports.append(int(fields[1].rpartition(":")[2], 16))
    return sorted(ports)


async def play(programme: Programme) -> dict[str, Any]:
    """Play the scenarios, one after the other."""
    reports: dict[str, Any] = {}
    scenarios = SCENARIOS
    if programme.hides_addresses:
        scenarios = SCENARIOS_FOR_HIDDEN_ADDRESSES
        try:
            add_network(NETWORK)
        except subprocess.CalledProcessError as error:
            return {"cannot": f"needs virtual Ethernet devices: {error}"}
    async with (
        serve_page("a peer") as url,
        launch(programme.browser, hides_addresses=programme.hides_addresses) as browser,
    ):
        stage = Stage(browser, url)
        for name in programme.scenarios or scenarios:
            started = time.monotonic()
            try:
                async with asyncio.timeout(_SCENARIO_PATIENCE):
                    reports[name] = await scenarios[name](stage)
            except Exception:
                reports[name] = {"failure": traceback.format_exc()}
            reports[name]["took"] = time.monotonic() - started
        return {"version": browser.version, "reports": reports, "console_errors": browser.console_errors}


def main() -> None:
    """Play what the command line says."""
    programme = Programme(**json.loads(sys.argv[1]))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(asyncio.run(play(programme), debug=False)))


if __name__ == "__main__":
    main()
