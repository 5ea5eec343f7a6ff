"""A process that was forked encodes and decodes in threads of its own. In a process of its own, therefore."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

#: A program that encodes and decodes sound, forks, and does so again in the child.
FORKING = """
import asyncio, os, sys, traceback
from collections import Counter
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from mediapeer.peer.outgoing import FrameEncoding, send_formats
from tests.media.tracks import tone
from tests.peer.encoding import receiver_of, sound

async def encode():
    encoding = FrameEncoding(Counter())
    encoding.set_formats(send_formats([RTCRtpCodecParameters("audio/opus", 48000, 2, 96)]))
    return [packet for n in range(5) for packet in await encoding.encode(tone(n), False)]

async def decode():
    receiver, _ = receiver_of("audio")
    reading = asyncio.create_task(receiver.track.recv())
    await asyncio.sleep(0)
    for frame in sound("opus", 5):
        receiver.take_frame(frame)
    return (await reading).samples

async def work():
    # It waits for ever where the threads are missing.
    assert await asyncio.wait_for(encode(), 5), "nothing was encoded"
    assert await asyncio.wait_for(decode(), 5), "nothing was decoded"

asyncio.run(work())
child = os.fork()
if not child:
    status = 1
    try:
        asyncio.run(work())
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_was_forked_encodes_and_decodes() -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORKING], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
