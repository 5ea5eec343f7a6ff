"""Drives Chromium and Firefox, headless, over WebDriver BiDi.

Both speak the same protocol on a WebSocket: Chromium through chromedriver, which makes the session when it is
asked for one over HTTP; Firefox by itself, on an address that it prints. https://w3c.github.io/webdriver-bidi/

    async with launch("firefox") as browser:
        page = await browser.open("http://127.0.0.1:8080/")
        title = await page.evaluate("() => document.title")
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import aiohttp

from tests.tools.sandbox import replace_directory

BrowserName = Literal["chromium", "firefox"]
BROWSERS: tuple[BrowserName, ...] = ("chromium", "firefox")

#: The programs each browser needs.
PROGRAMS: dict[BrowserName, tuple[str, ...]] = {
    "chromium": ("chromium", "chromedriver"),
    "firefox": ("firefox-esr",),
}

_COMMAND_TIMEOUT = 30.0
_START_TIMEOUT = 60.0
# Firefox takes five seconds to leave after a call. Its profile is thrown away, so it need not tidy up.
_EXIT_GRACE = 0.5
_CONSOLE_LIMIT = 200

_CHROMIUM_SWITCHES = (
    "--headless",
    "--no-sandbox",  # we may be root; what it loads is ours, in a network of its own
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
)
_CHROMIUM_PERMISSION = "--use-fake-ui-for-media-stream"
_CHROMIUM_SETTINGS = pathlib.Path("/etc/chromium")
_CHROMIUM_TELLS_ADDRESSES = "--disable-features=WebRtcHideLocalIpsWithMdns"
#: Pages that may use the camera are given addresses, so none may.
_FIREFOX_HIDES_ADDRESSES: dict[str, bool | int | str] = {
    "permissions.default.camera": 0,
    "permissions.default.microphone": 0,
    "media.peerconnection.ice.loopback": False,
    "media.peerconnection.ice.obfuscate_host_addresses": True,
}
_FIREFOX_PREFERENCES: dict[str, bool | int | str] = {
    "media.navigator.streams.fake": True,
    # Lasting permissions, rather than switching the question off: only with them does ICE look at every
    # interface, and so at loopback; without a default route it would find no candidate at all.
    "permissions.default.camera": 1,
    "permissions.default.microphone": 1,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.prefs.recommended": True,
    "services.settings.server": "data:,nothing",
    "toolkit.telemetry.server": "",
}


class BrowserError(Exception):
    """The browser refused a command, threw in a script, or went away."""


def missing_programs(name: BrowserName) -> list[str]:
    """The programs that ``name`` needs and this machine does not have."""
    return [program for program in PROGRAMS[name] if shutil.which(program) is None]


class BidiConnection:
    """Commands out, results and events in, over one WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.console: deque[str] = deque(maxlen=_CONSOLE_LIMIT)
        "What pages wrote to their consoles at level ``error``, and uncaught exceptions; the newest ones."
        self._socket = socket
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    async def command(
        self,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = _COMMAND_TIMEOUT,
    ) -> dict[str, Any]:
        """Send one command and wait for its result.

        :raises BrowserError: when it is refused, when the connection ends, or after ``timeout_seconds``.
        """
        command_id = next(self._ids)
        future = asyncio.get_running_loop().create_future()
        self._pending[command_id] = future
        message = {"id": command_id, "method": method, "params": dict(parameters or {})}
        try:
            await self._socket.send_str(json.dumps(message))
            async with asyncio.timeout(timeout_seconds):
                result: dict[str, Any] = await future
                return result
        except TimeoutError:
            raise BrowserError(f"{method} took longer than {timeout_seconds} s") from None
        except ConnectionError as error:
            raise BrowserError(f"{method}: {error}") from error
        finally:
            self._pending.pop(command_id, None)

    async def aclose(self) -> None:
        """Close the WebSocket and fail what still waits."""
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._handle(json.loads(message.data))
        for future in self._pending.values():
            if not future.done():
                future.set_exception(BrowserError("the browser closed the connection"))

    def _handle(self, message: dict[str, Any]) -> None:
        if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
            self.console.append(str(message["params"]["text"]))
        future = self._pending.get(message.get("id", 0))
        if future is None or future.done():
            return
        if message["type"] == "success":
            future.set_result(message["result"])
        else:
            future.set_exception(BrowserError(f"{message.get('error')}: {message.get('message')}"))


class Page:
    """One tab."""

    def __init__(self, connection: BidiConnection, context: str) -> None:
        self._connection = connection
        self._context = context

    async def close(self) -> None:
        """Close the tab, without a question and without a word to the page."""
        await self._connection.command("browsingContext.close", {"context": self._context})

    async def goto(self, url: str) -> None:
        """Load ``url`` and wait for its load event."""
        await self._connection.command(
            "browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"}
        )

    async def evaluate(
        self, function: str, *arguments: object, timeout_seconds: float = _COMMAND_TIMEOUT
    ) -> Any:
        """Call a JavaScript function, asynchronous or not, in the page, and give what it returns.

        :param function: its source: ``async (name) => …``.
        :param arguments: what it is given, and what it returns, travel as JSON.
        :raises BrowserError: when it throws.
        """
        result = await self._connection.command(
            "script.callFunction",
            {
                "functionDeclaration": f"""async (json) => {{
                    const value = await ({function})(...JSON.parse(json));
                    return value === undefined ? 'null' : JSON.stringify(value);
                }}""",
                "arguments": [{"type": "string", "value": json.dumps(arguments)}],
                "awaitPromise": True,
                "userActivation": True,
                "target": {"context": self._context},
            },
            timeout_seconds=timeout_seconds,
        )
        if result["type"] == "exception":
            raise BrowserError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    async def wait_for(self, condition: str, *arguments: object, timeout_seconds: float = 20) -> Any:
        """Wait until a JavaScript function gives something true, asked ten times a second, and give that.

        :raises BrowserError: when it does not within ``timeout_seconds``.
        """
        complaint = json.dumps(f"never came true: {condition}")
        return await self.evaluate(
            f"""async (...given) => {{
                const end = performance.now() + {timeout_seconds * 1000};
                for (;;) {{
                    const value = await ({condition})(...given);
                    if (value) return value;
                    if (performance.now() > end) throw new Error({complaint});
                    await new Promise((resolve) => setTimeout(resolve, 100));
                }}
            }}""",
            *arguments,
            timeout_seconds=timeout_seconds + _COMMAND_TIMEOUT,
        )

    async def click(self, selector: str) -> None:
        """Click the middle of the first element that fits a CSS selector, with a pointer, as a person does.

        :raises BrowserError: when there is none, or it cannot be seen or is disabled.
        """
        place = await self.evaluate(
            """(selector) => {
                const element = document.querySelector(selector);
                if (!element) throw new Error('no element ' + selector);
                if (element.disabled) throw new Error('disabled: ' + selector);
                element.scrollIntoView({block: 'center', behavior: 'instant'});
                const box = element.getBoundingClientRect();
                if (!box.width || !box.height) throw new Error('not to be seen: ' + selector);
                return [Math.floor(box.x + box.width / 2), Math.floor(box.y + box.height / 2)];
            }""",
            selector,
        )
        actions = [
            {"type": "pointerMove", "x": place[0], "y": place[1]},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        source = {
            "type": "pointer",
            "id": "mouse",
            "parameters": {"pointerType": "mouse"},
            "actions": actions,
        }
        await self._connection.command(
            "input.performActions", {"context": self._context, "actions": [source]}
        )

    async def type(self, text: str) -> None:
        """Type ``text`` into what has the focus; ``\\n`` is the Enter key."""
        actions = [
            {"type": kind, "value": "\ue007" if character == "\n" else character}
            for character in text
            for kind in ("keyDown", "keyUp")
        ]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        await self._connection.command(
            "input.performActions", {"context": self._context, "actions": [source]}
        )

    async def set_viewport(self, width: int, height: int) -> None:
        """Give the page a size in CSS pixels."""
        await self._connection.command(
            "browsingContext.setViewport",
            {"context": self._context, "viewport": {"width": width, "height": height}},
        )

    async def screenshot(self) -> bytes:
        """What the page looks like, as PNG."""
        result = await self._connection.command(
            "browsingContext.captureScreenshot", {"context": self._context}
        )
        return base64.b64decode(result["data"])


class Browser:
    """A running browser."""

    def __init__(self, name: BrowserName, version: str, connection: BidiConnection, process: int) -> None:
        self.name = name
        self.version = version
        self._connection = connection
        self._process = process

    @property
    def console_errors(self) -> list[str]:
        """What its pages wrote to the console at level ``error``."""
        return list(self._connection.console)

    async def open(self, url: str = "about:blank") -> Page:
        """Open a tab."""
        created = await self._connection.command("browsingContext.create", {"type": "tab"})
        page = Page(self._connection, created["context"])
        if url != "about:blank":
            await page.goto(url)
        return page

    def kill(self) -> None:
        """End all its processes at once, as a crash does. What is asked of it afterwards fails."""
        processes = _with_descendants(self._process)
        # First all stop: one that sees another gone would still say goodbye to its peers.
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal_number)


def _with_descendants(process: int) -> list[int]:
    """A process, its children, theirs and so on."""
    children: dict[int, list[int]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name before the last parenthesis may have anything in it.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found


@contextlib.asynccontextmanager
async def launch(
    name: BrowserName,
    *,
    switches: Sequence[str] = (),
    preferences: Mapping[str, bool | int | str] | None = None,
    policies: Mapping[str, bool | int | str] | None = None,
    environment: Mapping[str, str] | None = None,
    hides_addresses: bool = False,
) -> AsyncIterator[Browser]:
    """Start a browser with a fresh profile, and end it with all its processes on leaving.

    :param switches: further command-line switches.
    :param preferences: further preferences of Firefox.
    :param policies: what Chromium is made to do as by an administrator; only in a sandbox.
    :param environment: further environment variables.
    :param hides_addresses: whether pages are told names of the form ``….local`` in the place of this machine's
        addresses, as users have it; they get no camera and no microphone then.
    :raises BrowserError: when it does not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        profile = tempfile.mkdtemp(prefix=f"{name}-")
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        variables = {**os.environ, "HOME": profile, **(environment or {})}
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if name == "firefox":
            hiding = _FIREFOX_HIDES_ADDRESSES if hides_addresses else {}
            _write_preferences(profile, {**_FIREFOX_PREFERENCES, **hiding, **(preferences or {})})
            command = ["firefox-esr", "--headless", "--no-remote", "--profile", profile]
            command += ["--remote-debugging-port=0", *switches, "about:blank"]
            pattern = r"WebDriver BiDi listening on (ws://\S+)"
            process, address = await _start(stack, command, pattern, variables)
            connection = await _connect(stack, http, f"{address}/session")
            capabilities = {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}}
            granted = (await connection.command("session.new", capabilities))["capabilities"]
        else:
            if policies:
                replace_directory(_CHROMIUM_SETTINGS, {"policies/managed/tests.json": json.dumps(policies)})
            command = ["chromedriver", "--port=0"]
            process, port = await _start(stack, command, r"successfully on port (\d+)", variables)
            telling = () if hides_addresses else (_CHROMIUM_PERMISSION, _CHROMIUM_TELLS_ADDRESSES)
            granted = await _new_chromium_session(http, port, profile, [*telling, *switches])
            connection = await _connect(stack, http, granted["webSocketUrl"])
        stack.push_async_callback(_end_session, name, connection)
        await connection.command("session.subscribe", {"events": ["log.entryAdded"]})
        yield Browser(name, granted["browserVersion"], connection, process)


def _write_preferences(profile: str, preferences: Mapping[str, bool | int | str]) -> None:
    lines = (f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in preferences.items())
    pathlib.Path(profile, "user.js").write_text("".join(lines))


async def _new_chromium_session(
    http: aiohttp.ClientSession, port: str, profile: str, switches: Sequence[str]
) -> dict[str, Any]:
    # Of several --disable-features only the last counts: they are merged here.
    features: list[str] = []
    rest = []
    for switch in switches:
        key, _, value = switch.partition("=")
        if key == "--disable-features":
            features += value.split(",")
        else:
            rest.append(switch)
    arguments = [
        *_CHROMIUM_SWITCHES,
        f"--disable-features={','.join(features)}",
        f"--user-data-dir={profile}",
    ]
    options = {"binary": shutil.which("chromium"), "args": [*arguments, *rest]}
    body = {"capabilities": {"alwaysMatch": {"webSocketUrl": True, "goog:chromeOptions": options}}}
    timeout = aiohttp.ClientTimeout(total=_START_TIMEOUT)
    async with http.post(f"http://127.0.0.1:{port}/session", json=body, timeout=timeout) as response:
        value = (await response.json())["value"]
    if "error" in value:
        raise BrowserError(f"chromedriver: {value['message']}")
    capabilities: dict[str, Any] = value["capabilities"]
    return capabilities


async def _connect(
    stack: contextlib.AsyncExitStack, http: aiohttp.ClientSession, address: str
) -> BidiConnection:
    connection = BidiConnection(await http.ws_connect(address, max_msg_size=0))
    stack.push_async_callback(connection.aclose)
    return connection


async def _end_session(name: BrowserName, connection: BidiConnection) -> None:
    with contextlib.suppress(BrowserError):
        method = "browser.close" if name == "firefox" else "session.end"
        await connection.command(method, timeout_seconds=5)


async def _start(
    stack: contextlib.AsyncExitStack, command: Sequence[str], pattern: str, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Start a program, and give its process and what ``pattern`` captures of its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    stack.push_async_callback(_end_process, process)
    output = process.stdout
    if output is None:
        raise BrowserError(f"{command[0]} has no output to read")
    lines: deque[str] = deque(maxlen=20)
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            while line := (await output.readline()).decode(errors="replace"):
                lines.append(line)
                if match := re.search(pattern, line):
                    # It goes on talking, and must not come to wait for a reader.
                    drain = asyncio.create_task(_drain(output))
                    stack.push_async_callback(_cancel, drain)
                    return process.pid, match[1]
    except TimeoutError:
        lines.append(f"(nothing more in {_START_TIMEOUT} s)")
    raise BrowserError(f"{command[0]} did not start:\n{''.join(lines)}")


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.read(65_536):
        pass


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _end_process(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_EXIT_GRACE):
            await process.wait()
    # The program may be gone and have left children in its group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
