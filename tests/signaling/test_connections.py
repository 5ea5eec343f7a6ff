"""Connections that do not get to the end of a request, and those that do."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from signaling import run_server
from signaling.connections import HEAD_TIMEOUT, MAXIMUM_IDLE
from tests.signaling.support import Timers, new_server

HALF = b"POST /api/calls HTTP/1.1\r\nHost: localhost\r\nX-"
WHOLE = b"GET /api/recordings HTTP/1.1\r\nHost: localhost\r\n\r\n"
NAME = "2026-01-02_03-04-05_abcdef.webm"
SIZE = 30_000_000
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Running:
    """A server and the connections to it."""

    def __init__(self, url: str, timers: Timers, stack: contextlib.ExitStack) -> None:
        self.url = url
        self.timers = timers
        self._port = int(url.rstrip("/").rpartition(":")[2])
        self._stack = stack

    async def connect(self, data: bytes = b"") -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._stack.callback(writer.close)
        writer.write(data)
        return reader, writer

    async def seen(self) -> None:
        """Wait until the server has read what was sent before: it answers in order."""
        async with aiohttp.ClientSession() as http, http.get(self.url) as response:
            assert response.status == 200


@pytest.fixture
async def running(tmp_path: pathlib.Path) -> AsyncIterator[Running]:
    timers = Timers()
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = new_server(tmp_path, call_later=timers.call_later)
    task = asyncio.create_task(run_server(server, port=0, on_started=started.set_result))
    with contextlib.ExitStack() as stack:
        async with asyncio.timeout(60):
            yield Running(await started, timers, stack)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server closes without a word; waits for that."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def ask(streams: Streams, request: bytes = WHOLE) -> bytes:
    reader, writer = streams
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: 2\r\n" in head
    await reader.readexactly(2)
    return head


@pytest.mark.parametrize("data", [b"", b"P", HALF])
async def test_a_request_that_does_not_come_ends_the_connection(running: Running, data: bytes) -> None:
    reader, _ = await running.connect(data)
    await running.seen()
    running.timers.advance(HEAD_TIMEOUT)
    assert await is_closed(reader)


async def test_bytes_that_trickle_do_not_give_more_time(running: Running) -> None:
    reader, writer = await running.connect(HALF)
    await running.seen()
    running.timers.advance(HEAD_TIMEOUT - 1)
    writer.write(b"X")
    await running.seen()
    running.timers.advance(1)
    assert await is_closed(reader)


async def test_a_kept_connection_may_wait_and_its_next_request_has_a_limit(running: Running) -> None:
    streams = await running.connect()
    for _ in range(3):
        assert b"200 OK" in await ask(streams)
        running.timers.advance(10 * HEAD_TIMEOUT)
    streams[1].write(HALF)
    await running.seen()
    running.timers.advance(HEAD_TIMEOUT)
    assert await is_closed(streams[0])


async def test_a_long_response_is_sent_to_its_end(running: Running, tmp_path: pathlib.Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(SIZE))
    get = WHOLE.replace(b"/recordings", b"/recordings/" + NAME.encode())
    reader, _ = await running.connect(get)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head
    for _ in range(MAXIMUM_IDLE + 10):
        await running.connect(HALF)
    await running.seen()
    running.timers.advance(10 * HEAD_TIMEOUT)
    assert len(await reader.readexactly(SIZE)) == SIZE


async def test_of_too_many_that_send_nothing_the_oldest_go(running: Running) -> None:
    readers = [(await running.connect(HALF))[0] for _ in range(MAXIMUM_IDLE + 50)]
    await running.seen()
    for reader in readers[:50]:
        assert await is_closed(reader)
    assert not any(reader.at_eof() for reader in readers[60:])
    assert b"200 OK" in await ask(await running.connect())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_a_body_that_claims_to_be_compressed_is_refused(
    running: Running, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    async with aiohttp.ClientSession() as http:
        for path in ("api/calls", "api/calls/outgoing"):
            # As an iterator: aiohttp's client would compress it otherwise.
            async with http.post(running.url + path, data=_body(), headers=headers) as response:
                assert response.status == 415
                assert "Content-Encoding" in (await response.json())["detail"]
    assert not caplog.records


async def _body() -> AsyncIterator[bytes]:
    yield b"not compressed at all"
