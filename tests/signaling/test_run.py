"""Starting and stopping the whole server."""

import asyncio
import pathlib
import signal
import socket
import subprocess
import sys
from typing import Any

import aiohttp
import av
import pytest

from mediapeer import RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from signaling import AddressInUse, run_server
from tests.signaling.support import LOOPBACK, new_server

Server = asyncio.subprocess.Process


async def start(directory: pathlib.Path, *options: str) -> tuple[Server, str]:
    """Start ``mediapeer serve`` on a free port; its process and the URL it printed."""
    command = [sys.executable, "-m", "mediapeer.cli", "serve", "--port", "0", *options]
    process = await asyncio.create_subprocess_exec(
        *command, "--record-dir", str(directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if process.stdout is None:
        raise AssertionError("no pipe")
    async with asyncio.timeout(20):
        line = (await process.stdout.readline()).decode()
    return process, next(word for word in line.split() if word.startswith("http")).rstrip("/")


async def call(http: aiohttp.ClientSession, url: str) -> tuple[RTCPeerConnection, str]:
    connection = RTCPeerConnection(LOOPBACK)
    connection.addTrack(VideoStreamTrack())
    await connection.setLocalDescription(await connection.createOffer())
    offer = {"type": "offer", "sdp": connection.localDescription.sdp}
    async with http.post(f"{url}/api/calls", json=offer) as response:
        answer: dict[str, Any] = await response.json()
    await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
    return connection, answer["id"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_the_recording_ends_the_call_and_exits_with_0(
    tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    process, url = await start(tmp_path)
    async with aiohttp.ClientSession() as http:
        connection, call_id = await call(http, url)
        async with http.post(f"{url}/api/calls/{call_id}/recording") as response:
            name = (await response.json())["name"]
        for _ in range(30):
            await connection.getReceivers()[0].track.recv()  # a second of what comes back
        process.send_signal(number)
        async with asyncio.timeout(10):
            _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors
    await connection.close()

    with av.open(tmp_path / f"{name}.webm") as container:
        assert len(list(container.decode(video=0))) > 10
    assert sorted(path.suffix for path in pathlib.Path.iterdir(tmp_path)) == [".json", ".png", ".webm"]


async def test_a_port_that_is_taken_is_an_error_of_its_own(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)):
            await run_server(new_server(tmp_path), port=port)


async def test_it_can_be_run_by_a_program_and_stopped(tmp_path: pathlib.Path) -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = new_server(tmp_path)
    running = asyncio.create_task(run_server(server, port=0, on_started=started.set_result))
    async with aiohttp.ClientSession() as http, http.get(await started) as response:
        assert response.status == 200
        assert "<title>" in await response.text()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert server.draining
