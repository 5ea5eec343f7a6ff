"""Sends your picture back as a negative, and your voice as it is. Run it, and open the address it prints."""

import asyncio

from av import VideoFrame

from mediapeer import MediaStreamTrack, RTCConfiguration
from mediapeer.media import RelayedTrack
from signaling import Call, ServerOptions, SignalingServer, run_server

NEGATIVE = bytes(255 - value for value in range(256))

server = SignalingServer(ServerOptions(configuration=RTCConfiguration(iceAddresses=["127.0.0.1"])))


def negative(picture: VideoFrame) -> VideoFrame:
    """A new picture: the one that came belongs to other readers too, a recording for one."""
    result = VideoFrame(picture.width, picture.height, "yuv420p")
    for source, target in zip(picture.planes, result.planes, strict=True):
        data, width = bytes(source), target.line_size
        rows = (data[row * source.line_size :][:width] for row in range(target.height))
        target.update(b"".join(row.ljust(width, b"\0") for row in rows).translate(NEGATIVE))
    result.pts, result.time_base = picture.pts, picture.time_base
    return result


class NegativeTrack(MediaStreamTrack):
    """A track made of another one."""

    kind = "video"

    def __init__(self, source: RelayedTrack) -> None:
        super().__init__()
        self._source = source

    async def recv(self) -> VideoFrame:
        return await asyncio.to_thread(negative, await self._source.recv())


@server.on_call
async def handle(call: Call) -> None:
    @call.on("track")
    def on_track(track: RelayedTrack) -> None:
        call.peer_connection.addTrack(NegativeTrack(track) if track.kind == "video" else track)


if __name__ == "__main__":
    asyncio.run(run_server(server, on_started=lambda url: print(f"Open {url}", flush=True)))
