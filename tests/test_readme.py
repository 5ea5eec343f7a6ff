"""The program in the README runs as it stands there."""

import asyncio
import contextlib
import pathlib
import re
import sys
from collections.abc import AsyncIterator

import aiohttp

from mediapeer import AudioStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

ROOT = pathlib.Path(__file__).parent.parent


async def test_the_program_in_the_readme_gets_the_frames_of_a_call() -> None:
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert program is not None
    on_a_free_port = program[1].replace("port=8080", "port=0")
    assert on_a_free_port != program[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", on_a_free_port), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            url = (await process.stdout.readline()).decode().strip()
            async with calling(url):
                assert (await process.stdout.readline()).startswith(b"audio ")
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def calling(url: str) -> AsyncIterator[None]:
    """A call to a server, with sound."""
    connection = RTCPeerConnection(RTCConfiguration())
    try:
        connection.addTrack(AudioStreamTrack())
        await connection.setLocalDescription(await connection.createOffer())
        body = {"type": "offer", "sdp": connection.localDescription.sdp}
        async with aiohttp.ClientSession() as http, http.post(f"{url}api/calls", json=body) as response:
            answer = await response.json()
        await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        yield
    finally:
        await connection.close()
