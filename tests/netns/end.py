"""What runs on a host: one end of a call, and the relay that stands in for a NAT where there is none."""

import asyncio
import contextlib
import fractions
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import av

from mediapeer import (
    MediaStreamError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from tests.netns.hosts import Tell

#: Seconds between two messages of an end.
MESSAGE_INTERVAL = 0.04
#: Seconds between two looks at how late the event loop is.
_TICK = 0.02
_RATE = 48_000
_FRAME = 960


class Silence(MediaStreamTrack):
    """A frame of silence every twenty milliseconds."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._count = 0

    async def recv(self) -> av.AudioFrame:
        """The next frame, when it is time for it."""
        if self.readyState != "live":
            raise MediaStreamError
        self._count += 1
        await asyncio.sleep(max(0.0, self._started + self._count * _FRAME / _RATE - time.monotonic()))
        frame = av.AudioFrame(format="s16", layout="mono", samples=_FRAME)
        frame.planes[0].update(bytes(2 * _FRAME))
        frame.sample_rate = _RATE
        frame.pts = self._count * _FRAME
        frame.time_base = fractions.Fraction(1, _RATE)
        return frame


class End:
    """One end of a call. Moments are seconds on the clock that all processes of a machine share."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._peer: RTCPeerConnection | None = None
        self._channel: RTCDataChannel | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sending = True
        self._sent = 0
        self._messages: list[tuple[int, float, float]] = []
        "The number of each message that came, and when it was sent and came."
        self._frames: list[float] = []
        self._came = asyncio.Event()
        self._states: list[tuple[float, str]] = []
        self._ice_states: list[tuple[float, str]] = []
        self._relay: NatRelay | None = None
        self._lag = 0.0

    async def _measure_lag(self) -> None:
        while True:
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            self._lag = max(self._lag, time.monotonic() - due)

    async def open(
        self,
        *,
        servers: Sequence[dict[str, str]] = (),
        relay_only: bool = False,
        **options: Any,
    ) -> None:
        """Make the peer connection, with a track to send."""
        policy = RTCIceTransportPolicy.RELAY if relay_only else RTCIceTransportPolicy.ALL
        peer = self._peer = RTCPeerConnection(
            RTCConfiguration(
                iceServers=[RTCIceServer(**server) for server in servers],
                iceTransportPolicy=policy,
                **options,
            )
        )
        self._tasks.append(asyncio.create_task(self._measure_lag()))
        peer.addTrack(Silence())
        peer.on("connectionstatechange", lambda: self._note(self._states, peer.connectionState))
        peer.on("iceconnectionstatechange", lambda: self._note(self._ice_states, peer.iceConnectionState))
        peer.on(
            "icecandidate",
            lambda candidate: self._tell("candidate", candidate=candidate and candidate.toJSON()),
        )
        peer.on("track", lambda track: self._tasks.append(asyncio.create_task(self._listen(track))))
        peer.on("datachannel", self._use)

    def _note(self, states: list[tuple[float, str]], state: str) -> None:
        states.append((time.monotonic(), state))
        self._tell("state", state=self.peer.connectionState)

    @property
    def peer(self) -> RTCPeerConnection:
        """The connection, once it is open."""
        if self._peer is None:
            raise RuntimeError("not open")
        return self._peer

    # Negotiation

    async def offer(self, *, restart: bool = False) -> dict[str, str]:
        """Make an offer and apply it."""
        if self._channel is None:
            self._use(self.peer.createDataChannel("numbers"))
        if restart:
            self.peer.restartIce()
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self._description()

    async def answer(self, type: str, sdp: str) -> dict[str, str]:
        """Take an offer and answer it."""
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp, type))
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        return self._description()

    async def take_answer(self, type: str, sdp: str) -> None:
        """Take an answer."""
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp, type))

    async def take_candidate(self, candidate: dict[str, Any] | None) -> None:
        """Take a candidate of the other end."""
        await self.peer.addIceCandidate(candidate)

    def _description(self) -> dict[str, str]:
        description = self.peer.localDescription
        return {"type": description.type, "sdp": description.sdp}

    # What goes over it

    def _use(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("message", self._on_message)
        if channel.readyState == "open":
            self._tasks.append(asyncio.create_task(self._send()))
        else:
            channel.on("open", lambda: self._tasks.append(asyncio.create_task(self._send())))

    def _on_message(self, message: str) -> None:
        number, sent = json.loads(message)
        self._messages.append((number, sent, time.monotonic()))
        self._came.set()

    async def _send(self) -> None:
        while self._sending and self._channel is not None and self._channel.readyState == "open":
            self._channel.send(json.dumps([self._sent, time.monotonic()]))
            self._sent += 1
            await asyncio.sleep(MESSAGE_INTERVAL)

    async def _listen(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                await track.recv()
                self._frames.append(time.monotonic())
                self._came.set()
        except MediaStreamError:
            return

    async def stop_sending(self) -> int:
        """Send no more messages; how many there were."""
        self._sending = False
        return self._sent

    async def wait_for_messages(self, count: int, seconds: float) -> None:
        """Wait until so many messages came in all, or it took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until(lambda: len(self._messages) >= count)

    async def wait_for_more(self) -> None:
        """Wait until another message and another frame came."""
        messages, frames = len(self._messages), len(self._frames)
        await self._until(lambda: len(self._messages) > messages and len(self._frames) > frames)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._came.clear()
            await self._came.wait()

    async def report(self) -> dict[str, Any]:
        """All that was seen."""
        ice = self.peer.transports[0].transport
        pair = await self._selected_pair()
        return {
            "lag": self._lag,
            "states": self._states,
            "ice_states": self._ice_states,
            "messages": self._messages,
            "frames": self._frames,
            "counters": dict(self.peer.transports[0].counters),
            "ice_counters": dict(ice.counters),
            "pair": pair,
        }

    async def _selected_pair(self) -> dict[str, str] | None:
        """The selected pair's candidates, by getStats()."""
        stats: dict[str, Any] = await self.peer.getStats()
        transport = next(each for each in stats.values() if each.type == "transport")
        pair = stats.get(transport.selectedCandidatePairId or "")
        if pair is None:
            return None
        local, remote = stats[pair.localCandidateId], stats[pair.remoteCandidateId]
        return {
            "local": f"{local.candidateType} {local.address}",
            "remote": f"{remote.candidateType} {remote.address}",
        }

    async def close(self) -> None:
        """Hang up."""
        await self.peer.close()
        for task in self._tasks:
            task.cancel()

    # What a router does

    async def wait_for_port(self, host: str, port: int) -> None:
        """Wait until somebody listens there."""
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    async def relay(self, inside: str, outside: str, destination: tuple[str, int]) -> int:
        """Be a NAT for one end, where the system has none: gives the inside port that stands for the other end."""
        self._relay = NatRelay(inside, outside, (destination[0], destination[1]))
        return self._relay.port

    async def rebind_relay(self) -> None:
        """Have another outside port from now on."""
        if self._relay is None:
            raise RuntimeError("there is no relay")
        self._relay.rebind()


class NatRelay:
    """Sends on what comes from inside, by a socket of its own, and back what comes to that."""

    def __init__(self, inside: str, outside: str, destination: tuple[str, int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._outside_address = outside
        self._destination = destination
        self._client: Any = None
        self._inside = _bound(inside)
        self._outside = _bound(outside)
        self._loop.add_reader(self._inside, self._from_inside)
        self._loop.add_reader(self._outside, self._from_outside)

    @property
    def port(self) -> int:
        """The inside one."""
        port: int = self._inside.getsockname()[1]
        return port

    def rebind(self) -> None:
        """Use another socket outside; what comes to the old one is lost."""
        self._loop.remove_reader(self._outside)
        fresh = _bound(self._outside_address)
        self._outside.close()
        self._outside = fresh
        self._loop.add_reader(self._outside, self._from_outside)

    def _from_inside(self) -> None:
        data, self._client = self._inside.recvfrom(65535)
        self._outside.sendto(data, self._destination)

    def _from_outside(self) -> None:
        data = self._outside.recv(65535)
        if self._client is not None:
            self._inside.sendto(data, self._client)


def _bound(address: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.bind((address, 0))
    return opened
