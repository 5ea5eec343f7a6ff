"""What the server does with a call unless a program says otherwise: it sends everything back."""

from mediapeer import RTCDataChannel
from mediapeer.media import RelayedTrack
from signaling.call import Call

#: A peer that sends messages faster than it takes them back is not kept in memory without end, in bytes.
MAXIMUM_BUFFERED = 1 << 20


async def echo(call: Call) -> None:
    """Send back audio, video and data-channel messages."""

    @call.on("track")
    def on_track(track: RelayedTrack) -> None:
        call.peer_connection.addTrack(track)

    @call.on("datachannel")
    def on_data_channel(channel: RTCDataChannel) -> None:
        echo_messages(channel)

    if call.direction == "outgoing":
        call.peer_connection.addTransceiver("audio")
        call.peer_connection.addTransceiver("video")
        echo_messages(call.peer_connection.createDataChannel("chat"))


def echo_messages(channel: RTCDataChannel) -> None:
    """Send each message of a channel back on it; those for which there is no room are dropped."""

    @channel.on("message")
    def on_message(message: str | bytes) -> None:
        if channel.readyState == "open" and channel.bufferedAmount + len(message) <= MAXIMUM_BUFFERED:
            channel.send(message)
