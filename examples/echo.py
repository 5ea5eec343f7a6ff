"""A server whose page you can call, and that sends everything back. Run it, and open the address it prints."""

import asyncio

from mediapeer import RTCConfiguration, RTCDataChannel
from mediapeer.media import RelayedTrack
from signaling import Call, ServerOptions, SignalingServer, run_server

server = SignalingServer(ServerOptions(configuration=RTCConfiguration(iceAddresses=["127.0.0.1"])))


@server.on_call
async def handle(call: Call) -> None:
    @call.on("track")
    def on_track(track: RelayedTrack) -> None:
        call.peer_connection.addTrack(track)

    @call.on("datachannel")
    def on_data_channel(channel: RTCDataChannel) -> None:
        channel.on("message", channel.send)


if __name__ == "__main__":
    asyncio.run(run_server(server, on_started=lambda url: print(f"Open {url}", flush=True)))
