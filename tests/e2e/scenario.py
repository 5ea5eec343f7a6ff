"""Calls between a browser and the server, from offer to recording, as a program: it reports what it saw.

``python -m tests.e2e.scenario OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is
``{"scenarios": […]}`` in JSON, each a :class:`Scenario` for the same browser; ``{"reports": […]}``, what :func:`play`
gives, is written to the file REPORT.
"""

import array
import asyncio
import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import av
from aiohttp import web

from mediapeer import MediaStreamError, RTCConfiguration
from mediapeer.dtls import ProtocolVersion
from mediapeer.media import RelayedTrack
from signaling import Call, CallState, Guard, ServerOptions, SignalingServer, create_application, echo
from tests.e2e import hellos
from tests.tools.browser import Browser, BrowserError, BrowserName, Page, launch

TONE = 1000
"The tone that the browser's microphone gives, in Hz. Firefox has no other."
RECORDED_SECONDS = 4.0
ENOUGH_FRAMES = 15
ENOUGH_FRAMES_IN_BRIEF = 3
MESSAGE = "grüezi 👋"

_PAGE_SCRIPT = pathlib.Path(__file__).parent / "call.js"
_LOOPBACK = "127.0.0.1"

Version = Literal["1.2", "1.3"]
_VERSIONS: dict[Version, ProtocolVersion] = {
    "1.2": ProtocolVersion.DTLS_1_2,
    "1.3": ProtocolVersion.DTLS_1_3,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """Who does what."""

    browser: BrowserName
    offerer: Literal["browser", "server"] = "browser"
    dtls_client: Literal["browser", "server"] = "browser"
    wrong_fingerprint: bool = False
    "Whether the fingerprint in the answer is changed on its way to the offerer."
    brief: bool = False
    "Whether they hang up after a message and a few pictures, without a recording."
    server_version: Version = "1.3"
    "The newest DTLS version that our end speaks."
    browser_version: Version = "1.3"
    "The newest one that the browser speaks. Chromium cannot be told."
    hybrid: bool = True
    "Whether the browser offers and takes X25519MLKEM768."


class Observer:
    """Looks at what Python receives of a call."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.frames = {"audio": 0, "video": 0}
        self.pictures: set[int] = set()
        "Pictures that differ."
        self.width = 0
        self.tone: float | None = None
        self.reason: str | None = None
        self.closed = asyncio.Event()

    async def handle(self, call: Call) -> None:
        """The server's handler: the default one, and this one watches."""
        await echo(call)

        @call.on("track")
        def on_track(track: RelayedTrack) -> None:
            watcher = next(reader for reader in call.subscribe() if reader.kind == track.kind)
            call.create_task(self._watch_video(watcher) if track.kind == "video" else self._listen(watcher))

        @call.on("state")
        def on_state(state: CallState) -> None:
            self.states.append(state.value)
            self.reason = call.reason
            if state is CallState.CLOSED:
                self.closed.set()

    async def _watch_video(self, track: RelayedTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while isinstance(frame := await track.recv(), av.VideoFrame):
                self.frames["video"] += 1
                self.width = frame.width
                if self.frames["video"] % 5 == 0 and len(self.pictures) < 50:
                    self.pictures.add(hash(bytes(frame.planes[0])[::97]))

    async def _listen(self, track: RelayedTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            samples = array.array("h")
            while isinstance(frame := await track.recv(), av.AudioFrame):
                self.frames["audio"] += 1
                channels = len(frame.layout.channels)
                samples.extend(
                    array.array("h", bytes(frame.planes[0])[: 2 * channels * frame.samples])[::channels]
                )
                if len(samples) >= frame.sample_rate:
                    self.tone = frequency(samples, frame.sample_rate)
                    samples = array.array("h")


def frequency(samples: Sequence[int], sample_rate: int) -> float | None:
    """The frequency of a pure tone in Hz, from how often it goes up through zero; ``None`` in silence."""
    if max(samples) < 300:
        return None
    rises = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
    return rises * sample_rate / len(samples)


@contextlib.asynccontextmanager
async def serve(server: SignalingServer) -> AsyncIterator[str]:
    """Give a server its HTTP face, and give the URL of its page."""
    runner = web.AppRunner(create_application(server, Guard(_LOOPBACK)), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, _LOOPBACK, 0).start()
        yield f"http://{_LOOPBACK}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def server_options(record_directory: pathlib.Path, version: Version = "1.3") -> ServerOptions:
    """A server on loopback, that speaks ``version`` and older ones."""
    configuration = RTCConfiguration(iceAddresses=[_LOOPBACK], maximumDtlsVersion=_VERSIONS[version])
    return ServerOptions(configuration=configuration, record_directory=record_directory)


@contextlib.asynccontextmanager
async def start_browser(scenario: Scenario, directory: pathlib.Path) -> AsyncIterator[Browser]:
    """Start the browser as the scenario wants it; ``directory`` is for what it needs."""
    if scenario.browser == "firefox":
        # What is not asked for stays as users have it.
        preferences: dict[str, bool | int | str] = {}
        if scenario.browser_version == "1.2":
            preferences["media.peerconnection.dtls.version.max"] = 0x0303
        if not scenario.hybrid:
            preferences["media.webrtc.enable_pq_hybrid_kex"] = False
        async with launch("firefox", preferences=preferences) as browser:
            yield browser
        return
    if scenario.browser_version != "1.3":
        raise ValueError("Chromium has no switch for the version")
    tone = directory / "tone.wav"
    write_tone(tone)
    policies = {} if scenario.hybrid else {"WebRtcPostQuantumKeyAgreement": False}
    switches = [f"--use-file-for-fake-audio-capture={tone}"]
    async with launch("chromium", switches=switches, policies=policies) as browser:
        yield browser


async def open_call_page(browser: Browser, url: str) -> Page:
    """Open the server's page, with ``testCall`` in it."""
    page = await browser.open(url)
    await page.evaluate(f"() => {{ {_PAGE_SCRIPT.read_text()} }}")
    return page


def write_tone(path: pathlib.Path) -> None:
    """A file for Chromium's microphone: :data:`TONE`, a second long, to be repeated."""
    rate = 48_000
    samples = array.array("h", (int(8000 * math.sin(2 * math.pi * TONE * n / rate)) for n in range(rate)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def examine(path: pathlib.Path) -> dict[str, Any]:
    """Decode a recording from its beginning to its end, and say what is in it. Times are in seconds."""
    report: dict[str, Any] = {"probed": probe(path), "decoded": {}}
    with av.open(str(path)) as container:
        for kind in ("audio", "video"):
            times: list[float] = []
            container.seek(0)
            for frame in container.decode(container.streams.get(**{kind: 0})):
                if not isinstance(frame, av.AudioFrame | av.VideoFrame):
                    continue
                length = frame.samples / frame.sample_rate if isinstance(frame, av.AudioFrame) else 0.0
                times += [float(frame.time or 0), float(frame.time or 0) + length]
            report["decoded"][kind] = {"frames": len(times) // 2, "first": min(times), "last": max(times)}
    return report


def probe(path: pathlib.Path) -> dict[str, Any]:
    """What ffprobe says of a recording."""
    entries = "format=format_name,duration:stream=codec_type,codec_name"
    command = ["ffprobe", "-v", "error", "-show_entries", entries, "-of", "json", str(path)]
    result: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


async def play(scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    """Make the calls, one after the other, with one browser.

    :raises ValueError: when they are not for one.
    """
    if len({(s.browser, s.browser_version, s.hybrid) for s in scenarios}) != 1:
        raise ValueError("the scenarios need different browsers")
    with tempfile.TemporaryDirectory() as name:
        async with start_browser(scenarios[0], pathlib.Path(name)) as browser:
            return [await call(scenario, browser) for scenario in scenarios]


async def call(scenario: Scenario, browser: Browser) -> dict[str, Any]:
    """Make one call."""
    observer = Observer()
    errors_before = len(browser.console_errors)
    with tempfile.TemporaryDirectory() as name, hellos.watched() as client_hellos:
        directory = pathlib.Path(name)
        server = SignalingServer(server_options(directory / "recordings", scenario.server_version))
        server.on_call(observer.handle)
        async with serve(server) as url:
            page = await open_call_page(browser, url)
            started = time.monotonic()
            await page.evaluate(
                f"(options) => testCall.{'offer' if scenario.offerer == 'browser' else 'answer'}(options)",
                {"dtlsClient": scenario.dtls_client, "wrongFingerprint": scenario.wrong_fingerprint},
            )
            report: dict[str, Any] = {}
            if scenario.wrong_fingerprint:
                report |= await _watch_it_fail(page, observer)
            elif scenario.brief:
                report |= await _talk(page, started, ENOUGH_FRAMES_IN_BRIEF)
                report |= await _look(page)
                report |= await _hang_up(page, observer)
            else:
                report |= await _talk(page, started, ENOUGH_FRAMES)
                report["recording"] = await _record(page)
                report["tone"] = await _tone(page)
                report |= await _look(page)
                report["recording"] |= examine(directory / "recordings" / report["recording"]["file"])
                report |= await _hang_up(page, observer)
    return report | {
        "version": browser.version,
        "console_errors": browser.console_errors[errors_before:],
        "client_hellos": client_hellos,
        "python": {
            "states": observer.states,
            "reason": observer.reason,
            "frames": observer.frames,
            "pictures": len(observer.pictures),
            "width": observer.width,
            "tone": observer.tone,
        },
    }


async def _wait_for(page: Page, condition: str, *arguments: object) -> None:
    try:
        await page.wait_for(condition, *arguments)
    except BrowserError as error:
        error.add_note(json.dumps(await page.evaluate("() => testCall.statistics()")))
        raise


async def _watch_it_fail(page: Page, observer: Observer) -> dict[str, Any]:
    await _wait_for(page, "() => testCall.pc.connectionState === 'failed'")
    async with asyncio.timeout(20):
        await observer.closed.wait()
    report = {"browser": await page.evaluate("() => testCall.statistics()")}
    await page.evaluate("() => testCall.hangUp()")
    return report


async def _talk(page: Page, started: float, enough_frames: int) -> dict[str, Any]:
    await _wait_for(page, "() => testCall.pc.connectionState === 'connected'")
    connected = time.monotonic() - started
    await _wait_for(page, "(message) => testCall.say(message)", MESSAGE)
    await _wait_for(page, "() => testCall.messages.length > 0")
    await _wait_for(
        page,
        "async (enough) => (await testCall.statistics()).framesDecoded >= enough",
        enough_frames,
    )
    return {"connected_after": connected}


async def _record(page: Page) -> dict[str, Any]:
    recording: dict[str, Any] = await page.evaluate(
        """async (seconds) => {
            const path = `/api/calls/${testCall.id}/recording`;
            await api("POST", path);
            const start = performance.now();
            await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
            const wanted = (performance.now() - start) / 1000;
            const entry = await api("DELETE", path);
            const listed = await api("GET", "/api/recordings");
            return { ...entry, wanted, listed: listed.map((other) => other.name) };
        }""",
        RECORDED_SECONDS,
    )
    return recording


async def _tone(page: Page) -> float | None:
    """The tone that comes back. A moment in which the machine is busy elsewhere is a gap in it: there are three."""
    tone: float | None = None
    for _ in range(3):
        tone = await page.evaluate("() => testCall.tone()")
        if tone is not None and abs(tone - TONE) < 0.02 * TONE:
            break
    return tone


async def _look(page: Page) -> dict[str, Any]:
    return {
        "browser": await page.evaluate("() => testCall.statistics()"),
        "call": await page.evaluate("() => api('GET', `/api/calls/${testCall.id}`)"),
    }


async def _hang_up(page: Page, observer: Observer) -> dict[str, Any]:
    await page.evaluate("() => testCall.hangUp()")
    started = time.monotonic()
    async with asyncio.timeout(20):
        await observer.closed.wait()
    return {"noticed_after": time.monotonic() - started}


def main() -> None:
    """Play what the command line says."""
    scenarios = [Scenario(**options) for options in json.loads(sys.argv[1])["scenarios"]]
    pathlib.Path(sys.argv[2]).write_text(json.dumps({"reports": asyncio.run(play(scenarios), debug=False)}))


if __name__ == "__main__":
    main()
