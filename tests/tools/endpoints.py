"""Endpoints of others, each a small program of ours in a process of its own: ``tests/peers/node`` and ``…/pion``.

The first use installs or builds what they stand on, in the user's cache; later ones find everything done. Commands
go in and events come out as JSON, one object a line.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

_PROJECTS = pathlib.Path(__file__).parent.parent / "peers"
#: The program of each endpoint that runs in Node, and the package that it stands on.
_IN_NODE = {
    "werift": ("werift.js", "werift"),
    "wrtc": ("wrtc.js", "@roamhq/wrtc"),
    "node-datachannel": ("datachannel.js", "node-datachannel"),
}

NAMES = [*_IN_NODE, "pion"]
"The endpoints that there are."
LONGEST_BUILD_SECONDS = 240
"How long installing or building may take, with everything to be fetched."
_PATIENCE_SECONDS = 10
"How long an endpoint may take to say what it is asked for."


class Unavailable(Exception):
    """What an endpoint stands on cannot be had here, which is no fault of the program that uses it."""


@functools.cache
def refusal(name: str) -> str | None:
    """Why an endpoint cannot be had here, or ``None``. Installs what it stands on, and asks no second time."""
    if name == "pion":
        return _refused(_pion_modules)
    # A library without a binary for this machine, or too new for this Node, says so when it is loaded.
    load = ["node", "--eval", f"require({_IN_NODE[name][1]!r}); process.exit()"]
    return _node_refusal() or _refused(lambda: _run(load, _PROJECTS, _node_environment()))


@functools.cache
def _node_refusal() -> str | None:
    return _refused(_node_environment)


def _refused(install: Callable[[], object]) -> str | None:
    try:
        install()
    except Unavailable as unavailable:
        return str(unavailable)
    return None


@functools.cache
def command(name: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """How to run an endpoint that is not refused, with what its environment has besides.

    :raises Unavailable: when our own program does not build.
    """
    if name == "pion":
        build = ["go", "build", "-o", "endpoint", "."]
        return (os.fspath(_made_once("pion", ["go.mod", "go.sum", "main.go"], build) / "endpoint"),), {}
    return ("node", os.fspath(_PROJECTS / "node" / _IN_NODE[name][0])), _node_environment()


@functools.cache
def _node_environment() -> dict[str, str]:
    _need("node", "npm")
    install = ["npm", "ci", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    made = _made_once("node", ["package.json", "package-lock.json"], install)
    return {"NODE_PATH": os.fspath(made / "node_modules")}


def _pion_modules() -> None:
    _need("go")
    _made_once("pion", ["go.mod", "go.sum"], ["go", "mod", "download"])


def _need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Unavailable(f"needs {' and '.join(missing)}")


def _made_once(name: str, sources: list[str], command: list[str]) -> pathlib.Path:
    """The directory in which a command was run beside copies of the sources; made anew when these have changed."""
    paths = [_PROJECTS / name / source for source in sources]
    digest = hashlib.sha256(b"\0".join([*(path.read_bytes() for path in paths), *map(str.encode, command)]))
    cache = (
        pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mediapeer-tests"
    )
    made = cache / f"{name}-{digest.hexdigest()[:16]}"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as making:
            for path in paths:
                shutil.copy(path, making)
            _run(command, pathlib.Path(making), {})
            # Another run may have been faster; what it made is as good.
            with contextlib.suppress(OSError):
                os.rename(making, made)
    return made


def _run(command: list[str], cwd: pathlib.Path, environment: dict[str, str]) -> None:
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took longer than {LONGEST_BUILD_SECONDS} seconds") from None
    if result.returncode:
        raise Unavailable(f"{command[0]}: {' '.join(result.stderr.split())[:200]}")


class Endpoint:
    """The far end of a call. Made by :func:`endpoint`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._events: defaultdict[str, asyncio.Queue[dict[str, Any] | None]] = defaultdict(asyncio.Queue)
        self._noise: list[str] = []
        self._errors: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def tell(self, command: str, **fields: Any) -> None:
        """Give it a command; a field that is ``None`` is left out."""
        if self._process.stdin is None:
            raise ValueError("the endpoint takes no input")
        line = {"command": command, **{name: value for name, value in fields.items() if value is not None}}
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def said(self, event: str, **wanted: Any) -> dict[str, Any]:
        """The next event of a kind that has the fields wanted; those before it are forgotten.

        :raises AssertionError: when it does not come in time, or the endpoint could not carry out a command.
        """
        events = self._events[event]
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while True:
                    if events.empty() and self._errors:
                        raise AssertionError(f"from the other end: {self._errors}; it printed {self._noise}")
                    said = await events.get()
                    if said is not None and all(said[name] == value for name, value in wanted.items()):
                        return said
        except TimeoutError:
            raise AssertionError(
                f"no {event} {wanted} from the other end; it printed {self._noise}"
            ) from None

    async def next(self, event: str) -> dict[str, Any]:
        """The next event of a kind, however long it takes."""
        while (said := await self._events[event].get()) is None:
            pass
        return said

    def send(self, label: str, message: str | bytes) -> None:
        """Have a message sent by a data channel."""
        if isinstance(message, str):
            self.tell("send", label=label, text=message)
        else:
            self.tell("send", label=label, base64=base64.b64encode(message).decode())

    async def received(self, label: str) -> str | bytes:
        """The next message that it received by a data channel."""
        message = await self.said("message", label=label)
        return message["text"] if "text" in message else base64.b64decode(message["base64"])

    async def end(self) -> None:
        """End its process."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        if self._process.stdout is None:
            return
        async for line in self._process.stdout:
            try:
                event = json.loads(line)
                kind = event["event"]
            except (ValueError, TypeError, KeyError):
                self._noise.append(line.decode(errors="replace"))
                continue
            if kind == "error":
                self._fail(event)
            else:
                self._events[kind].put_nowait(event)
        self._fail({"event": "ended"})

    def _fail(self, error: dict[str, Any]) -> None:
        self._errors.append(error)
        for events in self._events.values():
            events.put_nowait(None)


@contextlib.asynccontextmanager
async def endpoint(name: str) -> AsyncIterator[Endpoint]:
    """An endpoint of :data:`NAMES`, which ends with the block."""
    arguments, environment = command(name)
    process = await asyncio.create_subprocess_exec(
        *arguments,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 24,
    )
    other = Endpoint(process)
    try:
        yield other
    finally:
        await other.end()
