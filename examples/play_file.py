"""A server that plays a file to everybody who calls, as it is: nothing is decoded or encoded.

Run it with a WebM, MP4, MKV, IVF or Ogg file, open the address it prints, and press Call.
"""

import argparse
import asyncio

from mediapeer import RTCConfiguration
from mediapeer.media import FilePlayer, PlayerError
from signaling import Call, ServerOptions, SignalingServer, run_server

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("file", help="what to play, again and again")
parser.add_argument("--transcode", action="store_true", help="encode anew what a browser does not take")

server = SignalingServer(ServerOptions(configuration=RTCConfiguration(iceAddresses=["127.0.0.1"])))


@server.on_call
async def handle(call: Call) -> None:
    player = open_file()
    for track in (player.audio, player.video):
        if track is not None:
            call.peer_connection.addTrack(track)


def open_file() -> FilePlayer:
    """Each call has a player of its own, which ends with the call."""
    return FilePlayer(arguments.file, loop=True, transcode=arguments.transcode)


if __name__ == "__main__":
    arguments = parser.parse_args()
    try:
        open_file().stop()
    except PlayerError as error:
        parser.error(str(error))
    asyncio.run(run_server(server, on_started=lambda url: print(f"Open {url}", flush=True)))
