"""Requests to the signaling server: session descriptions, JSON, paths and header fields, through its own handlers.

An input is a program (`program.py`) whose steps are requests to one server. There is no socket: requests are made as
objects, and what calls send goes to a network in memory, in virtual time.

What must hold: every answer is one that the API promises, refusals are in words, nobody gets a 500, nothing is served
or deleted outside of the directory of recordings, no task is left behind, and no exception reaches the event loop
or the log.
"""

import asyncio
import functools
import json
import pathlib
import random
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any
from unittest import mock

from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

import signaling.application
from mediapeer import RTCConfiguration
from mediapeer.media import RecordingError, RecordingOptions, RecordingState, RecordingSummary
from signaling import Guard, ServerOptions, SignalingServer, create_application
from signaling.pages import load_pages
from signaling.recordings import RecordingStore
from tests.fuzz.program import Program, mutate_steps
from tests.fuzz.surroundings import errors_of, forgetting, in_memory
from tests.fuzz.target import require
from tests.fuzz.texts import mutate_text, session_descriptions
from tests.transport.virtual import VirtualLoop

MAXIMUM_LENGTH = 8192
RECORDING = "2026-01-02_03-04-05_abcdef.webm"
SECRET = "secret.webm"
_HOST = "127.0.0.1:8080"
_JSON = {"Content-Type": "application/json"}


class _Nothing:
    """Stands for the connection of a request: has everything, takes everything, does nothing."""

    def __getattr__(self, name: str) -> "_Nothing":
        return self

    def __call__(self, *arguments: object, **named: object) -> "_Nothing":
        return self


class WrittenAtOnce:
    """A recorder whose file is there when it starts, and which has no threads."""

    duration = 1.0
    bytes_written = 4
    error = None

    def __init__(self, path: pathlib.Path, tracks: Iterable[object], options: RecordingOptions) -> None:
        self._path = path.with_suffix(".webm")
        self._tracks = tuple(tracks)
        self.state = RecordingState.WAITING

    def start(self) -> None:
        """Write the file."""
        if not self._tracks:
            raise RecordingError("The call has neither audio nor video.")
        self._path.write_bytes(b"webm")
        self.state = RecordingState.RECORDING

    def add_track(self, track: object) -> None:
        """Take no notice."""

    def record_channel(self, channel: object) -> None:
        """Take no notice."""

    def snapshot(self) -> bytes | None:
        """No picture."""
        return None

    async def stop(self) -> RecordingSummary:
        """Be done."""
        self.state = RecordingState.FINISHED
        return RecordingSummary(self._path, 4, 1.0, ("audio",), {})


class Visit:
    """One server, and the requests of one input."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory / "recordings"
        self._directory.mkdir(exist_ok=True)
        _lay_out(directory, {SECRET})
        _lay_out(self._directory, {RECORDING})
        options = ServerOptions(
            configuration=RTCConfiguration(iceAddresses=["192.0.2.1"]),
            record_directory=self._directory,
            maximum_calls=3,
        )
        store = RecordingStore(self._directory, WrittenAtOnce)
        self._server = SignalingServer(options, store)
        self._application = create_application(self._server, Guard("127.0.0.1"))
        self._application.freeze()
        self._call_id = "none"

    async def run(self, program: Program) -> None:
        """Do every step, then close."""
        operations = tuple(OPERATIONS.values())
        for step in program.steps:
            if step.operation < len(operations):
                await operations[step.operation](self, step.argument)
        await asyncio.sleep(1)
        await self._server.close()
        require(not self._server.calls, "a closed server has calls")
        require((self._directory.parent / SECRET).exists(), "a file was deleted that is no recording")

    # Operations

    async def offer(self, argument: bytes) -> None:
        """An offer."""
        await self._describe("POST", "/api/calls", "offer", argument)

    async def call_out(self, argument: bytes) -> None:
        """Have the server offer."""
        await self.request("POST", "/api/calls/outgoing", _JSON if argument else {}, argument)

    async def answer(self, argument: bytes) -> None:
        """An answer to what the server offered."""
        await self._describe("PUT", f"/api/calls/{self._call_id}/answer", "answer", argument)

    async def post_json(self, argument: bytes) -> None:
        """Any body where an offer is due."""
        await self.request("POST", "/api/calls", _JSON, argument)

    async def put_json(self, argument: bytes) -> None:
        """Any body where an answer is due."""
        await self.request("PUT", f"/api/calls/{self._call_id}/answer", _JSON, argument)

    async def look(self, argument: bytes) -> None:
        """Ask about the call."""
        await self.request("GET", f"/api/calls/{self._call_id}", {}, argument)

    async def hang_up(self, argument: bytes) -> None:
        """End the call."""
        await self.request("DELETE", f"/api/calls/{self._call_id}", {}, argument)

    async def record(self, argument: bytes) -> None:
        """Start a recording."""
        await self.request("POST", f"/api/calls/{self._call_id}/recording", _JSON, argument)

    async def stop(self, argument: bytes) -> None:
        """Stop it."""
        await self.request("DELETE", f"/api/calls/{self._call_id}/recording", {}, argument)

    async def wait(self, argument: bytes) -> None:
        """Some seconds."""
        await asyncio.sleep(argument[0] if argument else 1)

    async def any_request(self, argument: bytes) -> None:
        """A method and a path, header fields, an empty line, a body."""
        head, _, body = argument.partition(b"\n\n")
        first, *fields = head.decode("utf-8", "surrogateescape").split("\n")
        method, _, path = first.partition(" ")
        headers = {name: value for name, _, value in (field.partition(": ") for field in fields) if name}
        await self.request(method or "GET", path.replace("{id}", self._call_id) or "/", headers, body)

    # How they are done

    async def _describe(self, method: str, path: str, kind: str, sdp: bytes) -> None:
        text = sdp.decode("utf-8", "replace")
        await self.request(method, path, _JSON, json.dumps({"type": kind, "sdp": text}).encode())

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Make a request and check what comes back."""
        request = self._make_request(method, path, {"Host": _HOST, **headers}, body)
        if request is None:
            return
        response = await self._application._handle(request)
        self._check(f"{method} {path}", response)
        if response.status == 201 and isinstance(response, web.Response):
            document = json.loads(response.text or "")
            if "sdp" in document:
                self._call_id = document["id"]
                require("m=" in document["sdp"], "a description without media")

    def _make_request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> web.Request | None:
        try:
            url = URL(path)
        except ValueError:
            return None  # aiohttp has refused it before there is a request
        loop = asyncio.get_running_loop()
        protocol: Any = _Nothing()
        payload = StreamReader(protocol, 2**16, loop=loop) if body else EMPTY_PAYLOAD
        if body:
            payload.feed_data(body)
            payload.feed_eof()
        fields = CIMultiDictProxy(CIMultiDict(headers))
        raw = tuple((n.encode("utf-8", "replace"), v.encode("utf-8", "replace")) for n, v in headers.items())
        message = RawRequestMessage(
            method.upper(), path, HttpVersion11, fields, raw, False, None, False, False, url
        )
        maximum = signaling.application.MAXIMUM_BODY
        return web.Request(message, payload, protocol, protocol, protocol, loop, client_max_size=maximum)

    def _check(self, what: str, response: web.StreamResponse) -> None:
        require(response.status in EXPECTED, f"{what}: {response.status}")
        require("Content-Security-Policy" in response.headers, f"{what}: no security headers")
        if isinstance(response, web.FileResponse):
            path = pathlib.Path(response._path).resolve()
            require(path.parent == self._directory.resolve(), f"{what}: serves {path}")
        elif response.status >= 400 and isinstance(response, web.Response):
            require(response.content_type == "application/problem+json", f"{what}: {response.content_type}")
            problem = json.loads(response.text or "")
            require(problem["status"] == response.status and problem["detail"], f"{what}: {problem}")


def _lay_out(directory: pathlib.Path, wanted: set[str]) -> None:
    """Have just these files in a directory, and touch no more than needs be: this is before each input."""
    present = {path.name: path for path in directory.iterdir() if not path.is_dir()}
    for name in wanted - present.keys():
        (directory / name).write_bytes(b"webm")
    for name in present.keys() - wanted:
        present[name].unlink()


#: What the API answers.
EXPECTED = {200, 201, 204, 304, 400, 403, 404, 405, 409, 410, 413, 415, 503}

Operation = Callable[[Visit, bytes], Coroutine[Any, Any, None]]
OPERATIONS: Mapping[str, Operation] = {
    "offer": Visit.offer,
    "call_out": Visit.call_out,
    "answer": Visit.answer,
    "post_json": Visit.post_json,
    "put_json": Visit.put_json,
    "look": Visit.look,
    "hang_up": Visit.hang_up,
    "record": Visit.record,
    "stop": Visit.stop,
    "wait": Visit.wait,
    "any_request": Visit.any_request,
}


def number_of(operation: str) -> int:
    """How a program calls an operation."""
    return list(OPERATIONS).index(operation)


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Stands for ``asyncio.to_thread``: a thread knows nothing of virtual time."""
    return function(*arguments)


_cached_pages = functools.cache(load_pages)


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    """One for all inputs; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    program = Program.parse(data)
    loop = VirtualLoop()

    async def visit() -> None:
        await Visit(pathlib.Path(_directory().name)).run(program)
        await asyncio.sleep(1)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        require(not left, f"tasks are left behind: {left}")

    with (
        errors_of("signaling", "mediapeer", "aiortc", "aioice", "asyncio") as errors,
        mock.patch.object(asyncio, "to_thread", _at_once),
        mock.patch.object(signaling.application, "load_pages", _cached_pages),
        in_memory(),
        forgetting(),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        runner.run(visit())
    require(not loop.errors, f"the event loop was told of {loop.errors}")
    require(not errors, f"the log was told of {errors}")


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Change texts by lines and words, programs by steps."""
    match generator.randrange(4):
        case 0:
            return data
        case 1:
            return mutate_steps(data, generator, len(OPERATIONS))
        case _:
            program = Program.parse(data)
            if not program.steps:
                return data
            steps = list(program.steps)
            place = max(generator.randrange(len(steps)) for _ in range(2))
            argument = mutate_text(steps[place].argument, generator)
            steps[place] = type(steps[place])(steps[place].operation, argument)
            return Program(program.setting, tuple(steps)).serialize()


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""
    from tests.fuzz.program import program

    def step(operation: str, argument: bytes = b"") -> tuple[int, bytes]:
        return number_of(operation), argument

    offers, answers = session_descriptions()
    for name, sdp in offers.items():
        steps = [
            step("offer", sdp),
            step("look"),
            step("record"),
            step("stop"),
            step("hang_up"),
            step("look"),
        ]
        yield f"offer-{name}", program(0, steps)
    for name, sdp in answers.items():
        yield f"answer-{name}", program(0, [step("call_out"), step("answer", sdp), step("wait", b"\x28")])
    yield "json", program(0, [step("post_json", b'{"type": "offer", "sdp": 1, "x": [1e3, null, "\\ud800"]}')])
    yield (
        "put",
        program(0, [step("call_out", b"{}"), step("put_json", b'{"type": "answer", "sdp": "v=0\\r\\n"}')]),
    )
    for number, request in enumerate(REQUESTS):
        yield f"request-{number}", program(0, [step("any_request", request)])


REQUESTS = (
    f"GET /api/recordings/{RECORDING}\nRange: bytes=0-1".encode(),
    f"DELETE /api/recordings/{RECORDING}\nOrigin: http://{_HOST}".encode(),
    b"GET /api/recordings/..%2Fsecret.webm",
    b"DELETE /api/recordings/%2e%2e%2fsecret.webm",
    b"GET /api/recordings",
    b'GET /\nIf-None-Match: "abc", W/"*"\nHost: localhost',
    b"POST /api/calls\nContent-Type: application/json; charset=x\nContent-Encoding: gzip\n\n{}",
    b"POST /api/calls\nContent-Type: text/plain\nOrigin: http://elsewhere.example\nSec-Fetch-Site: none\n\n{}",
    b"PATCH /api/calls/{id}\nHost: [::1]:8080",
    f"GET /api/recordings/{RECORDING}/thumbnail".encode(),
    f"GET /api/recordings/{RECORDING}/parts/1".encode(),
    b"GET /api/recordings/%2e%2e/manifest",
    f"POST /api/recordings/{RECORDING}/repair\nOrigin: http://{_HOST}".encode(),
)
