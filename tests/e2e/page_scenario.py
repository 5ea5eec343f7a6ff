"""A person's visit to the page, as a program: ``mediapeer serve``, a browser, and every button pressed.

``python -m tests.e2e.page_scenario OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is a
:class:`Visit` in JSON; what :func:`visit` gives is written to the file REPORT.
"""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from tests.tools.browser import BrowserError, BrowserName, Page, launch

MESSAGE = "hello, Python"
RECORDED_SECONDS = 3
_STOP_TIMEOUT = 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visit:
    """Who visits, and how."""

    browser: BrowserName
    server_offers: bool = False
    "Whether the box under Advanced is ticked."
    screenshot: str | None = None
    "Where to put a picture of the page during the call."
    player_screenshot: str | None = None
    "Where to put one of the list of recordings, with a recording that plays."


class ServerProcess:
    """``mediapeer serve``, as a person starts it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, lines: list[str]) -> None:
        self.url = url
        self.lines = lines
        "What it printed."
        self.process = process

    async def stop(self) -> int:
        """Press Ctrl-C, and give its exit code."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(_STOP_TIMEOUT):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serve(record_directory: pathlib.Path) -> AsyncIterator[ServerProcess]:
    """Start the server on a free port, and see that it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-X", "dev", "-m", "mediapeer.cli", "serve", "--port", "0"),
        *("--record-dir", str(record_directory), "--log-level", "info"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    lines: list[str] = []
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    reader = asyncio.create_task(_read(process, lines, url))
    try:
        async with asyncio.timeout(20):
            address = await url
        yield ServerProcess(process, address, lines)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


async def _read(process: asyncio.subprocess.Process, lines: list[str], url: asyncio.Future[str]) -> None:
    if process.stdout is None:
        return
    while line := (await process.stdout.readline()).decode(errors="replace"):
        lines.append(line)
        if not url.done() and (match := re.search(r"http://\S+", line)):
            url.set_result(match[0])
    if not url.done():
        url.set_exception(RuntimeError(f"the server did not start:\n{''.join(lines)}"))


async def visit(plan: Visit) -> dict[str, Any]:
    """Call, chat, mute, record, hang up, play the recording."""
    with tempfile.TemporaryDirectory() as name:
        recordings = pathlib.Path(name, "recordings")
        async with launch(plan.browser) as browser, serve(recordings) as server:
            page = await browser.open(server.url)
            await page.set_viewport(1280, 960)
            try:
                report = await _press_everything(page, plan)
            except BrowserError as error:
                error.add_note(await page.evaluate("() => document.body.innerText"))
                error.add_note("".join(server.lines))
                raise
            report["exit"] = await server.stop()
            report["server_output"] = "".join(server.lines)
            report["console_errors"] = browser.console_errors
        report["files"] = suffixes(recordings)
    return report


async def _press_everything(page: Page, plan: Visit) -> dict[str, Any]:
    if plan.server_offers:
        await page.click("details.advanced summary")
        await page.click("#server-offers")
    await page.click("#call")
    await page.wait_for("() => document.querySelector('#status').dataset.state === 'connected'")
    report: dict[str, Any] = {"security": await _security(page), "picture": await _returned_picture(page)}
    await _chat(page)
    report["muted"] = await _mute(page)
    await _record(page, plan)
    await page.click("#hangup")
    await page.wait_for("() => document.querySelector('#status').dataset.state === 'idle'")
    report["played"] = await _play_the_recording(page, plan)
    report["notice"] = await page.evaluate(
        """() => {
            const notice = document.querySelector('#notice');
            return notice.hidden ? null : [notice.dataset.kind, notice.innerText];
        }"""
    )
    return report


async def _security(page: Page) -> dict[str, Any]:
    """What the panel says, once both ends have said it."""
    await page.wait_for("() => document.querySelectorAll('#security-list dt').length > 0")
    result: dict[str, Any] = await page.evaluate(
        """() => ({
            agree: document.querySelector('#security-verdict').dataset.agree,
            rows: Object.fromEntries([...document.querySelectorAll('#security-list dt')].map(
                (term) => [term.textContent, term.nextElementSibling.textContent])),
        })"""
    )
    return result


async def _returned_picture(page: Page) -> dict[str, Any]:
    """The size of the picture that comes back, once it moves."""
    result: dict[str, Any] = await page.wait_for(
        """() => {
            const video = document.querySelector('#remote-video');
            return video.currentTime > 0 && video.videoWidth > 0
                ? { width: video.videoWidth, height: video.videoHeight } : null;
        }"""
    )
    return result


async def _chat(page: Page) -> None:
    """Say something; it stands in the log twice, once from us and once from Python."""
    await page.wait_for("() => !document.querySelector('#chat-input').disabled")
    await page.click("#chat-input")
    await page.type(f"{MESSAGE}\n")
    await page.wait_for(
        "(text) => document.querySelector('#chat-log').innerText.split(text).length === 3", MESSAGE
    )


async def _mute(page: Page) -> list[str]:
    """Mute and unmute the microphone: what the button says of itself each time."""
    said = []
    for _ in range(2):
        await page.click("#mute-microphone")
        said.append(
            await page.evaluate(
                "() => document.querySelector('#mute-microphone').getAttribute('aria-pressed')"
            )
        )
    return said


async def _record(page: Page, plan: Visit) -> None:
    await page.click("#record")
    await page.wait_for(
        "(clock) => document.querySelector('#record-clock').textContent === clock", f"0:0{RECORDED_SECONDS}"
    )
    if plan.screenshot:
        await page.evaluate("() => scrollTo(0, 0)")
        write(plan.screenshot, await page.screenshot())
    await page.click("#record")
    await page.wait_for("() => document.querySelectorAll('#recordings li').length === 1")


async def _play_the_recording(page: Page, plan: Visit) -> dict[str, Any]:
    """Press Play, see how long the browser finds it, and that it runs, also from another place on."""
    await page.click("#recordings li button")
    result: dict[str, Any] = await page.wait_for(
        """() => {
            const video = document.querySelector('#player-video');
            return video.currentTime > 0.2 ? { duration: video.duration, width: video.videoWidth } : null;
        }"""
    )
    await page.evaluate(
        "(place) => { document.querySelector('#player-video').currentTime = place; }", RECORDED_SECONDS - 1.5
    )
    result["sought"] = await page.wait_for(
        """(place) => {
            const video = document.querySelector('#player-video');
            return !video.seeking && video.currentTime > place ? video.currentTime : null;
        }""",
        RECORDED_SECONDS - 1.4,
    )
    if plan.player_screenshot:
        await page.evaluate("() => document.querySelector('#player').scrollIntoView({block: 'end'})")
        write(plan.player_screenshot, await page.screenshot())
    return result


def suffixes(directory: pathlib.Path) -> list[str]:
    """The kinds of files in a directory."""
    return sorted(path.suffix for path in directory.iterdir())


def write(path: str, data: bytes) -> None:
    """Put ``data`` into a file."""
    pathlib.Path(path).write_bytes(data)


def main() -> None:
    """Make the visit that the command line says."""
    plan = Visit(**json.loads(sys.argv[1]))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(asyncio.run(visit(plan), debug=False)))


if __name__ == "__main__":
    main()
