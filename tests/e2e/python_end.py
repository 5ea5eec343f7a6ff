"""Our end of a call whose negotiation is tested: W3C's perfect negotiation (webrtc §10.7), and what it receives."""

import array
import asyncio
import contextlib
import fractions
import inspect
import json
import time
import traceback
from typing import Any, Literal

import av

from mediapeer import (
    MediaStreamError,
    MediaStreamTrack,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)

#: A description or a candidate, as it travels: ``{"description": {"type", "sdp"}}`` or ``{"candidate": {…} | None}``.
Message = dict[str, Any]
Kind = Literal["audio", "video"]
#: How sending ends: by taking the track away, or the whole transceiver.
Ending = Literal["remove", "stop"]
#: A track more or less of a kind, or ICE restarted.
Change = tuple[Literal["add", "remove", "stop"], Kind] | tuple[Literal["restart"], None]

_VIDEO_CLOCK = 90_000
_PICTURES_PER_SECOND = 15
_AUDIO_RATE = 48_000
_AUDIO_FRAME = 960
_WAVE = array.array("h", (n % 96 * 80 for n in range(_AUDIO_FRAME))).tobytes()


class MovingPicture(MediaStreamTrack):
    """A small picture that changes, fifteen times a second."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._count = 0

    async def recv(self) -> av.VideoFrame:
        """The next picture, when it is time for it."""
        if self.readyState != "live":
            raise MediaStreamError
        self._count += 1
        await _sleep_until(self._started + self._count / _PICTURES_PER_SECOND)
        frame = av.VideoFrame(160, 120, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([self._count * 5 % 256]) * plane.buffer_size)
        frame.pts = self._count * _VIDEO_CLOCK // _PICTURES_PER_SECOND
        frame.time_base = fractions.Fraction(1, _VIDEO_CLOCK)
        return frame


class Buzz(MediaStreamTrack):
    """A sound, in frames of twenty milliseconds."""

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
        await _sleep_until(self._started + self._count * _AUDIO_FRAME / _AUDIO_RATE)
        frame = av.AudioFrame(format="s16", layout="mono", samples=_AUDIO_FRAME)
        frame.planes[0].update(_WAVE)
        frame.sample_rate = _AUDIO_RATE
        frame.pts = self._count * _AUDIO_FRAME
        frame.time_base = fractions.Fraction(1, _AUDIO_RATE)
        return frame


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


class Reception:
    """What came of a track of the peer."""

    def __init__(self, track: MediaStreamTrack) -> None:
        self.track = track
        self.kind = track.kind
        self.frames = 0
        self.width = 0
        self.gap = 0.0
        "The longest time without a frame since :meth:`watch`, in seconds."
        self._last = time.monotonic()

    def watch(self) -> None:
        """Measure gaps from now on."""
        self.gap = 0.0
        self._last = time.monotonic()

    def longest_gap(self) -> float:
        """The longest time without a frame since :meth:`watch` until now, in seconds."""
        return max(self.gap, time.monotonic() - self._last)

    async def receive(self) -> None:
        """Take frames until the track ends."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await self.track.recv()
                now = time.monotonic()
                self.gap = max(self.gap, now - self._last)
                self._last = now
                self.frames += 1
                self.width = frame.width if isinstance(frame, av.VideoFrame) else 0


class PythonEnd:
    """Our end. What it has to say to the other end is in :attr:`outbox`.

    :param polite: whether it gives way when two offers meet.
    """

    def __init__(self, pc: RTCPeerConnection, *, polite: bool) -> None:
        self.pc = pc
        self.polite = polite
        self.outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.errors: list[str] = []
        self.states: list[tuple[float, str]] = []
        "Each state of the connection, and when it came."
        self.messages: list[str] = []
        self.receptions: list[Reception] = []
        self.returns_kinds = False
        "Whether a track of the peer makes us send one of its kind."
        self.collisions = 0
        self._making_offer = False
        self._ignore_offer = False
        self._is_setting_remote_answer_pending = False
        self._early: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()
        pc.on("negotiationneeded", self._negotiate)
        pc.on("icecandidate", self._on_candidate)
        pc.on("track", self._on_track)
        pc.on("datachannel", self._on_channel)
        pc.on("connectionstatechange", lambda: self.states.append((time.time(), pc.connectionState)))

    # Signalling

    async def _negotiate(self) -> None:
        try:
            self._making_offer = True
            await self.pc.setLocalDescription()
            self._say_description()
        except Exception:
            self.errors.append(traceback.format_exc())
        finally:
            self._making_offer = False

    def _say_description(self) -> None:
        description = self.pc.localDescription
        if description is None:
            raise RuntimeError("there is no description to send")
        self.outbox.put_nowait({"description": {"type": description.type, "sdp": description.sdp}})

    def _on_candidate(self, candidate: Any) -> None:
        # By way of JSON, as it would travel.
        text = None if candidate is None else json.dumps(candidate.toJSON())
        self.outbox.put_nowait({"candidate": None if text is None else json.loads(text)})

    async def receive(self, message: Message) -> None:
        """Take what the other end said."""
        try:
            if "description" in message:
                await self._take_description(message["description"])
            elif self.pc.remoteDescription is None:
                self._early.append(message["candidate"])
            else:
                await self._take_candidate(message["candidate"])
        except Exception:
            self.errors.append(traceback.format_exc())

    async def _take_description(self, description: dict[str, str]) -> None:
        is_offer = description["type"] == "offer"
        is_ready = not self._making_offer and (
            self.pc.signalingState == "stable" or self._is_setting_remote_answer_pending
        )
        is_collision = is_offer and not is_ready
        self.collisions += is_collision
        self._ignore_offer = is_collision and not self.polite
        if self._ignore_offer:
            return
        self._is_setting_remote_answer_pending = not is_offer
        try:
            await self.pc.setRemoteDescription(RTCSessionDescription(**description))
        finally:
            self._is_setting_remote_answer_pending = False
        early, self._early = self._early, []
        for candidate in early:
            await self._take_candidate(candidate)
        if is_offer:
            await self.pc.setLocalDescription()
            self._say_description()

    async def _take_candidate(self, candidate: dict[str, Any] | None) -> None:
        try:
            await self.pc.addIceCandidate(candidate)
        except Exception:
            if not self._ignore_offer:
                raise

    # Media

    def add(self, kind: Kind) -> None:
        """Send one more track."""
        self.pc.addTrack(MovingPicture() if kind == "video" else Buzz())

    async def end(self, kind: Kind, how: Ending) -> None:
        """End the last transceiver that sends ``kind``."""
        transceiver = [
            each for each in self.pc.getTransceivers() if each.sender.track is not None and each.kind == kind
        ][-1]
        if transceiver.sender.track is not None:
            transceiver.sender.track.stop()
        if how == "stop":
            stopping = transceiver.stop()
            if inspect.isawaitable(stopping):
                await stopping
        else:
            self.pc.removeTrack(transceiver.sender)

    async def change(self, change: Change) -> None:
        """Make a change that has to be negotiated."""
        if change[0] == "restart":
            self.pc.restartIce()
        elif change[0] == "add":
            self.add(change[1])
        else:
            await self.end(change[1], change[0])

    def open(self, label: str) -> None:
        """Open a data channel, and say something in it."""
        channel = self.pc.createDataChannel(label)
        channel.on("open", lambda: channel.send(f"{label} from Python"))
        self._on_channel(channel)

    def _on_channel(self, channel: RTCDataChannel) -> None:
        channel.on("message", lambda message: self.messages.append(str(message)))

    def _on_track(self, track: MediaStreamTrack) -> None:
        reception = Reception(track)
        self.receptions.append(reception)
        if self.returns_kinds:
            self.add("video" if track.kind == "video" else "audio")
        task = asyncio.create_task(reception.receive())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def frames(self) -> int:
        """The pictures that were decoded, of all tracks."""
        return sum(reception.frames for reception in self.receptions if reception.kind == "video")

    # Observation

    @property
    def connected_at(self) -> float | None:
        """When the connection was connected for the first time, as seconds since the epoch."""
        return next((moment for moment, state in self.states if state == "connected"), None)

    async def statistics(self, kind: str) -> list[Any]:
        """The entries of a type in the statistics."""
        return [entry for entry in (await self.pc.getStats()).values() if entry.type == kind]

    def state(self) -> dict[str, Any]:
        """What ``state`` of a peer in a page says, of ours."""
        pc = self.pc
        return {
            "signaling": pc.signalingState,
            "connection": pc.connectionState,
            "errors": self.errors,
            "collisions": self.collisions,
            "local": pc.localDescription.sdp if pc.localDescription else "",
            "remote": pc.remoteDescription.sdp if pc.remoteDescription else "",
            "transceivers": [
                {"mid": each.mid, "direction": each.direction, "currentDirection": each.currentDirection}
                for each in pc.getTransceivers()
            ],
        }

    async def close(self) -> None:
        """Close the connection, and see that nothing of ours goes on."""
        await self.pc.close()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
