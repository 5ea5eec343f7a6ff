"""A server in the test's own process, callers for it, and an offer to spoil."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from mediapeer import (
    AudioStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from signaling import Guard, ServerOptions, SignalingServer, create_application
from signaling.server import Timer

LOOPBACK = RTCConfiguration(iceAddresses=["127.0.0.1"])
DIGEST = ":".join(f"{n:02X}" for n in range(32))

AUDIO = f"""\
m=audio 9 UDP/TLS/RTP/SAVPF 111 0
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122260223 127.0.0.1 50000 typ host generation 0
a=ice-ufrag:Abcd
a=ice-pwd:0123456789abcdefghijkl
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:0
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:stream track
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:0 PCMU/8000
a=ssrc:1234567 cname:someone
"""
DATA = f"""\
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:Abcd
a=ice-pwd:0123456789abcdefghijkl
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:1
a=sctp-port:5000
a=max-message-size:262144
"""
SESSION = """\
v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
"""
OFFER = SESSION + AUDIO + DATA


@dataclass
class _FakeTimer:
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """Timers that run when the test says that time has passed."""

    def __init__(self) -> None:
        self.now = 0.0
        self._pending: list[tuple[float, Callable[[], None], _FakeTimer]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = _FakeTimer()
        self._pending.append((self.now + delay, callback, timer))
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [entry for entry in self._pending if entry[0] <= self.now]
        self._pending = [entry for entry in self._pending if entry[0] > self.now]
        for _, callback, timer in due:
            if not timer.cancelled:
                callback()


@contextlib.asynccontextmanager
async def serving(server: SignalingServer, guard: Guard | None = None) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of the server's HTTP face; both are closed on leaving."""
    application = create_application(server, guard or Guard("127.0.0.1"))
    async with TestClient(TestServer(application, host="127.0.0.1")) as client:
        yield client


def new_server(directory: pathlib.Path, **options: Any) -> SignalingServer:
    return SignalingServer(ServerOptions(configuration=LOOPBACK, record_directory=directory, **options))


@dataclass
class Caller:
    """Someone who calls the server, with media and a data channel."""

    connection: RTCPeerConnection
    call_id: str
    messages: asyncio.Queue[str | bytes] = field(default_factory=asyncio.Queue)
    channel: RTCDataChannel | None = None

    async def connected(self) -> None:
        await until(lambda: self.connection.connectionState == "connected", self.connection)

    async def receive(self, kind: str) -> Any:
        """The next frame of what comes back."""
        receiver = next(r for r in self.connection.getReceivers() if r.track.kind == kind)
        async with asyncio.timeout(20):
            return await receiver.track.recv()

    async def ask(self, message: str) -> str | bytes:
        """Send a message and take the next one that comes."""
        if self.channel is None:
            raise AssertionError("there is no data channel")
        self.channel.send(message)
        async with asyncio.timeout(20):
            return await self.messages.get()

    def use(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        channel.on("message", self.messages.put_nowait)


async def until(condition: Callable[[], bool], connection: RTCPeerConnection) -> None:
    """Wait for a state of a connection, by its events."""
    changed = asyncio.Event()
    connection.on("connectionstatechange", changed.set)
    async with asyncio.timeout(30):
        while not condition():
            await changed.wait()
            changed.clear()


@contextlib.asynccontextmanager
async def calling(client: TestClient[Any, Any], *, media: bool = True) -> AsyncIterator[Caller]:
    """Call the server and hang up on leaving. The call is connected, and the data channel open."""
    connection = RTCPeerConnection(LOOPBACK)
    try:
        if media:
            connection.addTrack(AudioStreamTrack())
            connection.addTrack(VideoStreamTrack())
        channel = connection.createDataChannel("chat")
        settled = asyncio.Event()
        channel.on("open", settled.set)
        connection.on(
            "connectionstatechange",
            lambda: settled.set() if connection.connectionState in ("closed", "failed") else None,
        )
        await connection.setLocalDescription(await connection.createOffer())
        response = await client.post(
            "/api/calls", json={"type": "offer", "sdp": connection.localDescription.sdp}
        )
        answer = await response.json()
        if response.status != 201:
            raise AssertionError(answer)
        await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        caller = Caller(connection, answer["id"])
        caller.use(channel)
        async with asyncio.timeout(20):
            await settled.wait()
        if connection.connectionState != "connected":
            raise AssertionError(f"the call is {connection.connectionState}")
        yield caller
    finally:
        await connection.close()
