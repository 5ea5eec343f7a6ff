"""Calls that a browser makes and we record, as a program: it reports what was sent and what is in the files.

``python -m tests.e2e.recording_scenario OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is
``{"calls": […]}`` in JSON, each a :class:`RecordedCall` for the same browser and camera. What :func:`play` gives is
written to the file REPORT.
"""

import asyncio
import contextlib
import dataclasses
import json
import math
import pathlib
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mediapeer import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from mediapeer.media import Recorder
from mediapeer.rtp import EncodedFrame
from tests.e2e.clip import SECONDS, Clip, write_beep
from tests.e2e.recorded_file import examine
from tests.tools.browser import Browser, BrowserName, Page, launch
from tests.tools.page import serve_page
from tests.tools.relay import LOOPBACK, Jitter, Relay, lose_at_random, lose_media, lose_nothing

#: Seconds after which a call that does not connect is given up.
PATIENCE = 30.0
#: Seconds of the clip that are gone when a call is connected.
_AHEAD = 4.0
_PAGE_SCRIPT = pathlib.Path(__file__).parent / "record.js"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedCall:
    """A call, and what befalls it."""

    browser: BrowserName
    codec: str
    "Of the video, as our answer names it."
    seconds: float = 4.0
    width: int = 640
    height: int = 360
    noise: int = 0
    "See :class:`Clip`."
    bits_per_second: int | None = None
    "The most that the browser may send of video."
    loss: float = 0.0
    "How probable it is that a packet of RTP or RTCP is lost: 0 to 1."
    jitter: float = 0.0
    "By how many seconds a datagram is late at most."
    reordered: float = 0.0
    "How probable it is that one is overtaken: 0 to 1."
    outage: float = 0.0
    "Seconds in the middle in which nothing arrives."
    changes: bool = False
    "Whether for a third of the time, in the middle, the picture has half the size and the microphone is off."
    encodings: Sequence[dict[str, Any]] = ()
    "How the page sends its video, as RTCRtpEncodingParameters; with RIDs as simulcast."
    switches: str | None = None
    "The RID of a layer that is off for a third of the time, in the middle."
    watches_source: bool = False
    "Whether the page measures how sound and pictures lie to each other before they are sent. Only Chromium can."

    @property
    def clip(self) -> Clip:
        """What the camera sees."""
        return Clip(self.width, self.height, self.noise)

    def relay(self) -> Relay | None:
        """What stands between the ends, if anything does."""
        if not (self.loss or self.jitter or self.reordered or self.outage):
            return None
        losing = lose_media(lose_at_random(self.loss, 1)) if self.loss else lose_nothing
        return Relay(0.01, losing, Jitter(self.jitter, 1, reordered=self.reordered))


class Tap:
    """A consumer of encoded frames beside the recorder, that counts."""

    def __init__(self) -> None:
        self.frames = self.keyframes = self.lost = 0
        self.first: float | None = None
        self.latest = 0.0
        self.codecs: set[str] = set()
        self.rids: Counter[str] = Counter()
        self.layers: set[tuple[int, int]] = set()
        "Of frames: the highest spatial layer and the temporal one."

    def take_frame(self, frame: EncodedFrame) -> None:
        """Count a frame."""
        self.frames += 1
        self.keyframes += frame.is_keyframe
        self.lost += frame.lost_before
        self.codecs.add(frame.codec)
        self.rids[frame.rid or ""] += 1
        self.layers.add((frame.spatial_layer or 0, frame.temporal_layer or 0))
        self.first = frame.arrival if self.first is None else self.first
        self.latest = frame.arrival

    def end(self) -> None:
        """Nothing more comes."""

    def report(self) -> dict[str, Any]:
        """What was seen; ``seconds`` is from the first arrival to the last."""
        seconds = self.latest - self.first if self.first is not None else 0.0
        codecs = sorted(self.codecs)
        return {
            "frames": self.frames,
            "keyframes": self.keyframes,
            "lost": self.lost,
            "seconds": seconds,
            "codecs": codecs,
            "rids": dict(self.rids),
            "layers": sorted(self.layers),
        }


class RecordingEnd:
    """Our end: it takes what comes, and records it."""

    def __init__(self, call: RecordedCall, path: pathlib.Path) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceAddresses=[LOOPBACK], codecs=[call.codec, "opus"]))
        self.recorder = Recorder(path)
        self.taps = {"audio": Tap(), "video": Tap()}
        self.connected, self._gathered = asyncio.Event(), asyncio.Event()
        self.pc.on("track", self._on_track)
        self.pc.on("datachannel", self.recorder.record_channel)
        self.pc.on("connectionstatechange", self._on_state)
        self.pc.on("icegatheringstatechange", self._on_state)

    def _on_track(self, track: Any) -> None:
        self.recorder.add_track(track)
        track.subscribe(self.taps[track.kind])

    def _on_state(self) -> None:
        if self.pc.connectionState == "connected":
            self.connected.set()
        if self.pc.iceGatheringState == "complete":
            self._gathered.set()

    async def answer(self, offer: str) -> str:
        """Take the offer, and give the answer with all candidates in it."""
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self.recorder.start()
        await self.pc.setLocalDescription()
        async with asyncio.timeout(PATIENCE):
            await self._gathered.wait()
        description = self.pc.localDescription
        if description is None:
            raise RuntimeError("there is no answer")
        return str(description.sdp)

    def counters(self) -> dict[str, int]:
        """What the transport has dropped, by name."""
        [transport] = self.pc.transports
        return dict(transport.counters)


async def play(calls: Sequence[RecordedCall]) -> dict[str, Any]:
    """Make the calls, one after the other, with one browser.

    :raises ValueError: when they are not for one.
    """
    if len({(call.browser, call.clip) for call in calls}) != 1:
        raise ValueError("the calls need different browsers or cameras")
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        async with serve_page("Recorded") as url, _start(calls, directory) as browser:
            made = [
                await _make(call, browser, url, directory / f"call-{number}")
                for number, call in enumerate(calls)
            ]
            report: dict[str, Any] = {"version": browser.version, "console": browser.console_errors}
        # What takes the processor for itself comes when nobody needs it any more.
        return report | {
            "reports": [each | _look(call, each) for call, each in zip(calls, made, strict=True)]
        }


@contextlib.asynccontextmanager
async def _start(calls: Sequence[RecordedCall], directory: pathlib.Path) -> AsyncIterator[Browser]:
    call, switches = calls[0], []
    if call.browser == "chromium":
        pictures, sound = directory / "clip.y4m", directory / "clip.wav"
        times = math.ceil(max(each.seconds for each in calls) + _AHEAD) // SECONDS + 1
        await asyncio.to_thread(call.clip.write, pictures, times)
        write_beep(sound, times)
        switches = [
            f"--use-file-for-fake-video-capture={pictures}",
            f"--use-file-for-fake-audio-capture={sound}",
        ]
    async with launch(call.browser, switches=switches) as browser:
        yield browser


async def _make(call: RecordedCall, browser: Browser, url: str, path: pathlib.Path) -> dict[str, Any]:
    """Make a call; what both ends say of it."""
    page = await browser.open(url)
    await page.evaluate(f"() => {{ {_PAGE_SCRIPT.read_text()} }}")
    end, relay = RecordingEnd(call, path), call.relay()
    if relay is not None:
        await relay.open()
    try:
        return await _converse(call, page, end, relay) | {"path": str(path)}
    finally:
        await end.pc.close()
        if relay is not None:
            relay.close()
        await page.close()


async def _converse(call: RecordedCall, page: Page, end: RecordingEnd, relay: Relay | None) -> dict[str, Any]:
    through = relay.through if relay is not None else _unchanged
    camera = {
        "width": call.width,
        "height": call.height,
        "bitsPerSecond": call.bits_per_second,
        "encodings": call.encodings,
    }
    offer = await page.evaluate("(camera) => recordedCall.offer(camera)", camera)
    answer = await end.answer(through("offer", offer))
    await page.evaluate("(sdp) => recordedCall.accept(sdp)", through("answer", answer))
    async with asyncio.timeout(PATIENCE):
        await end.connected.wait()
    await page.wait_for("() => recordedCall.say('recorded')")
    report: dict[str, Any] = {"sent_over_time": [], "memory": [resident()]}
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(page, report["sent_over_time"], call.seconds))
        if call.watches_source:
            group.create_task(_watch_source(page, report, call.seconds - 1))
        group.create_task(_befall(call, page, relay))
        await watching
    report["sent"] = await page.evaluate("() => recordedCall.finish()")
    report["memory"].append(resident())
    # What was sent is on its way, or waits for what was lost.
    await asyncio.sleep(0.3 + 2 * call.jitter)
    report["received"] = {kind: tap.report() for kind, tap in end.taps.items()}
    summary = await end.recorder.stop()
    report |= {
        "summary": dataclasses.asdict(summary),
        "state": end.recorder.state.value,
        "counters": end.counters(),
    }
    await page.evaluate("() => recordedCall.close()")
    if relay is not None:
        report["relay"] = {"carried": dict(relay.carried), "lost": dict(relay.lost)}
    return report


def resident() -> int:
    """The memory of this process, in bytes."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def _unchanged(kind: str, sdp: str) -> str:
    return sdp


async def _watch(page: Page, samples: list[dict[str, Any]], seconds: float) -> None:
    """What the browser says that it has sent, once a second."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        await asyncio.sleep(min(1.0, left))
        sent = await page.evaluate("() => recordedCall.statistics()")
        video = sent["video"]
        names = ("bytesSent", "framesSent", "frameWidth", "frameHeight", "qualityLimitationReason")
        samples.append({"at": sent["at"], "available": sent["available"], **{n: video.get(n) for n in names}})


async def _watch_source(page: Page, report: dict[str, Any], seconds: float) -> None:
    report["source_offsets"] = await page.evaluate(
        "(seconds) => recordedCall.sourceOffsets(seconds)", seconds, timeout_seconds=seconds + PATIENCE
    )


async def _befall(call: RecordedCall, page: Page, relay: Relay | None) -> None:
    """What happens in the middle."""
    if call.outage and relay is not None:
        await asyncio.sleep((call.seconds - call.outage) / 2)
        relay.cut(call.outage)
    if call.changes:
        for scale in (2, 1):
            await asyncio.sleep(call.seconds / 3)
            await page.evaluate("(scale) => recordedCall.change(scale)", scale)
    if call.switches:
        await _switch(page, call.switches, call.seconds / 3)


async def _switch(page: Page, rid: str, seconds: float) -> None:
    """Let a layer of simulcast flow, be off, and flow again, for so long each."""
    flows = "async (rid, sent) => await recordedCall.sentOf(rid) > sent + 10"
    await page.wait_for(flows, rid, 0)
    await asyncio.sleep(seconds)
    await page.evaluate("(rid) => recordedCall.activate(rid, false)", rid)
    await asyncio.sleep(seconds)
    sent = await page.evaluate("(rid) => recordedCall.sentOf(rid)", rid)
    await page.evaluate("(rid) => recordedCall.activate(rid, true)", rid)
    await page.wait_for(flows, rid, sent)
    await asyncio.sleep(seconds)


def _look(call: RecordedCall, made: dict[str, Any]) -> dict[str, Any]:
    """What lies beside each other after a call, and what is in it."""
    path = pathlib.Path(made["path"])
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.name.startswith(path.name))
    manifest = json.loads(path.with_name(f"{path.name}.json").read_text())
    clip = call.clip if call.browser == "chromium" else None
    segments = [path.with_name(segment["file"]) for segment in manifest["segments"]]
    return {
        "names": [name.removeprefix(path.name) for name in names],
        "manifest": manifest,
        "files": [examine(segment, clip) for segment in segments],
    }


def main() -> None:
    """Play what the command line says."""
    calls = [RecordedCall(**options) for options in json.loads(sys.argv[1])["calls"]]
    pathlib.Path(sys.argv[2]).write_text(json.dumps(asyncio.run(play(calls), debug=False), default=str))


if __name__ == "__main__":
    main()
