"""Two peer connections and a call between them."""

import array
import asyncio
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import aiortc
import av

import mediapeer

#: The tone that is sent, in hertz, and the sampling rate of Opus.
TONE = 440.0
SAMPLE_RATE = 48_000
RED, BLUE = bytes([255, 0, 0]), bytes([0, 0, 255])


def ours(**configuration: Any) -> mediapeer.RTCPeerConnection:
    """An end of ours, on loopback."""
    configuration.setdefault("iceAddresses", ["127.0.0.1"])
    return mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(**configuration))


def aiortcs() -> aiortc.RTCPeerConnection:
    """An end of aiortc's own."""
    return aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))


class Tone(aiortc.AudioStreamTrack):
    """A sine of :data:`TONE`, in real time."""

    async def recv(self) -> av.AudioFrame:
        silence = await super().recv()
        return tone(silence.pts, silence.samples, silence.sample_rate)


def tone(start: int, samples: int, rate: int) -> av.AudioFrame:
    """A frame of :data:`TONE`."""
    wave = (16_000 * math.sin(2 * math.pi * TONE * n / rate) for n in range(start, start + samples))
    frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
    frame.planes[0].update(array.array("h", map(int, wave)).tobytes())
    frame.pts, frame.sample_rate, frame.time_base = start, rate, Fraction(1, rate)
    return frame


class Picture(aiortc.VideoStreamTrack):
    """A picture whose left half is red and whose right half is blue."""

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(320, 240, "rgb24")
        row = RED * 160 + BLUE * 160
        frame.planes[0].update(row * 240)
        frame.pts, frame.time_base = pts, time_base
        return frame


def frequency_of(frames: list[av.AudioFrame]) -> float:
    """The frequency of a decoded tone in hertz, from how often it rises through zero."""
    left = array.array("h", b"".join(bytes(frame.planes[0])[: 4 * frame.samples] for frame in frames))[::2]
    rising = [n for n in range(1, len(left)) if left[n - 1] < 0 <= left[n]]
    return SAMPLE_RATE * (len(rising) - 1) / (rising[-1] - rising[0])


def colours_of(frame: av.VideoFrame) -> tuple[bytes, bytes]:
    """The colours in the middle of both halves of a picture: red, green, blue."""
    plane = frame.reformat(format="rgb24").planes[0]
    pixels, row = bytes(plane), 120 * plane.line_size
    return pixels[row + 3 * 80 :][:3], pixels[row + 3 * 240 :][:3]


def echo(peer: aiortc.RTCPeerConnection) -> None:
    """Send every message back over the channel it came by."""

    @peer.on("datachannel")
    def on_channel(channel: aiortc.RTCDataChannel) -> None:
        channel.on("message", channel.send)


async def negotiate(
    offerer: aiortc.RTCPeerConnection,
    answerer: aiortc.RTCPeerConnection,
    *,
    change_offer: Callable[[str], str] = str,
    change_answer: Callable[[str], str] = str,
) -> None:
    """Offer, answer; both may be changed on the way."""
    await offerer.setLocalDescription(await offerer.createOffer())
    offer = offerer.localDescription
    await answerer.setRemoteDescription(aiortc.RTCSessionDescription(change_offer(offer.sdp), offer.type))
    await answerer.setLocalDescription(await answerer.createAnswer())
    answer = answerer.localDescription
    await offerer.setRemoteDescription(aiortc.RTCSessionDescription(change_answer(answer.sdp), answer.type))


async def state(peer: aiortc.RTCPeerConnection, *wanted: str) -> str:
    """Wait until ``connectionState`` is one of those wanted."""
    changed = asyncio.Event()
    peer.on("connectionstatechange", changed.set)
    try:
        while peer.connectionState not in wanted:
            changed.clear()
            await changed.wait()
    finally:
        if changed.set in peer.listeners("connectionstatechange"):
            peer.remove_listener("connectionstatechange", changed.set)
    return peer.connectionState
