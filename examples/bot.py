"""A bot that answers calls with a chord and a moving picture of its own, and greets over the data channel.

Run it, open the address it prints, and press Call.
"""

import array
import asyncio
import fractions
import math
import time

from av import AudioFrame, VideoFrame

from mediapeer import MediaStreamTrack, RTCConfiguration, RTCDataChannel
from signaling import Call, ServerOptions, SignalingServer, run_server

RATE, SAMPLES = 48_000, 960
WIDTH, HEIGHT, PICTURES_PER_SECOND = 320, 240, 25

server = SignalingServer(ServerOptions(configuration=RTCConfiguration(iceAddresses=["127.0.0.1"])))


class Chord(MediaStreamTrack):
    """A quiet major chord, in real time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._begin = time.monotonic()
        self._count = 0

    async def recv(self) -> AudioFrame:
        await asyncio.sleep(self._begin + self._count * SAMPLES / RATE - time.monotonic())
        first = self._count * SAMPLES
        samples = array.array("h")
        for n in range(first, first + SAMPLES):
            value = sum(math.sin(2 * math.pi * pitch * n / RATE) for pitch in (220.0, 277.2, 329.6))
            samples.append(int(1500 * value))
        frame = AudioFrame(format="s16", layout="mono", samples=SAMPLES)
        frame.planes[0].update(samples.tobytes())
        frame.pts, frame.sample_rate, frame.time_base = first, RATE, fractions.Fraction(1, RATE)
        self._count += 1
        return frame


class Bars(MediaStreamTrack):
    """Grey bars that wander to the left, in real time."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._begin = time.monotonic()
        self._count = 0

    async def recv(self) -> VideoFrame:
        await asyncio.sleep(self._begin + self._count / PICTURES_PER_SECOND - time.monotonic())
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        luma, *chroma = frame.planes
        row = bytes(40 + ((x + 2 * self._count) // 20 * 37) % 180 for x in range(luma.line_size))
        luma.update(row * HEIGHT)
        for plane, value in zip(chroma, (150, 110), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = (
            self._count * 90_000 // PICTURES_PER_SECOND,
            fractions.Fraction(1, 90_000),
        )
        self._count += 1
        return frame


@server.on_call
async def handle(call: Call) -> None:
    call.peer_connection.addTrack(Chord())
    call.peer_connection.addTrack(Bars())

    @call.on("datachannel")
    def on_data_channel(channel: RTCDataChannel) -> None:
        channel.send("Hello, I am a bot.")
        channel.on("message", lambda message: channel.send(f"You said: {message}"))


if __name__ == "__main__":
    asyncio.run(run_server(server, on_started=lambda url: print(f"Open {url}", flush=True)))
