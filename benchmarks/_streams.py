"""Streams for the benchmarks ``recording`` and ``receive``: encoded once, sent in real time by another process."""

import asyncio
import fractions
import heapq
import multiprocessing.connection
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.filter

import mediapeer
from benchmarks.setup import until_connected
from mediapeer.rtp.payload import packetizer_for
from tests.tools.relay import LOOPBACK

WIDTH, HEIGHT, RATE, BIT_RATE = 1280, 720, 30, 2_000_000
CLIP_SECONDS = 10
_AUDIO_RATE, _AUDIO_SAMPLES, _AUDIO_BIT_RATE = 48_000, 960, 48_000
_MAXIMUM_PAYLOAD = 1_160
_NTP_EPOCH = 2_208_988_800
_REPORT_INTERVAL = 1.0
PAYLOAD_TYPES = {"VP8": 96, "opus": 111}
_HEADER = struct.Struct("!BBHII")

Pipe = multiprocessing.connection.Connection


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame in packets."""

    kind: str
    time: float
    "Seconds from the beginning of the clip."
    payloads: tuple[bytes, ...]


def clip(seconds: float = CLIP_SECONDS) -> list[Piece]:
    """720p30 in VP8 with 2 Mbit/s and a keyframe every two seconds, and sound in Opus."""
    return sorted([*_video(seconds), *_audio(seconds)], key=lambda piece: piece.time)


def _video(seconds: float) -> Iterator[Piece]:
    graph = av.filter.Graph()
    size = f"size={WIDTH}x{HEIGHT}:rate={RATE}"
    graph.link_nodes(
        graph.add("testsrc2", size),
        graph.add("noise", "alls=12:allf=t"),  # without it there would not be two megabits to encode
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ).configure()
    encoder: Any = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = fractions.Fraction(1, RATE), RATE
    encoder.bit_rate, encoder.gop_size, encoder.thread_count = BIT_RATE, 2 * RATE, 1
    rate = str(BIT_RATE)
    encoder.options = {
        "deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0",
        "minrate": rate, "maxrate": rate, "bufsize": rate,
    }  # fmt: skip
    packetizer = packetizer_for("vp8")
    if packetizer is None:
        raise RuntimeError("there is no packetizer for VP8")
    for number in range(int(seconds * RATE)):
        frame = graph.vpull()
        frame.pts, frame.time_base, frame.pict_type = number, encoder.time_base, 0
        for packet in encoder.encode(frame):
            payloads = packetizer.packetize(
                bytes(packet), is_keyframe=packet.is_keyframe, maximum=_MAXIMUM_PAYLOAD
            )
            yield Piece("video", number / RATE, tuple(payloads))


def _audio(seconds: float) -> Iterator[Piece]:
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = _AUDIO_RATE, "stereo", "s16"
    encoder.bit_rate = _AUDIO_BIT_RATE
    noise = random.Random(1)
    samples = bytes(noise.randrange(256) & 0x0F for _ in range(4 * _AUDIO_SAMPLES))
    number = 0
    for index in range(int(seconds * _AUDIO_RATE) // _AUDIO_SAMPLES):
        frame = av.AudioFrame("s16", "stereo", _AUDIO_SAMPLES)
        frame.planes[0].update(samples)
        frame.sample_rate, frame.pts = _AUDIO_RATE, index * _AUDIO_SAMPLES
        frame.time_base = fractions.Fraction(1, _AUDIO_RATE)
        for packet in encoder.encode(frame):
            yield Piece("audio", number * _AUDIO_SAMPLES / _AUDIO_RATE, (bytes(packet),))
            number += 1


class _Track:
    """A source: its numbers and times."""

    def __init__(self, kind: str, ssrc: int) -> None:
        self.clock_rate = _AUDIO_RATE if kind == "audio" else 90_000
        self.payload_type = PAYLOAD_TYPES["opus" if kind == "audio" else "VP8"]
        self.ssrc = ssrc
        self.packets = self.octets = 0
        self._number = random.getrandbits(15)
        self._start = random.getrandbits(31)

    def timestamp(self, seconds: float) -> int:
        return (self._start + round(seconds * self.clock_rate)) & 0xFFFFFFFF

    def packetize(self, piece: Piece, seconds: float) -> Iterator[bytes]:
        timestamp = self.timestamp(seconds)
        last = len(piece.payloads) - 1
        for index, payload in enumerate(piece.payloads):
            marker = 0x80 if index == last and piece.kind == "video" else 0
            yield _HEADER.pack(0x80, marker | self.payload_type, self._number, timestamp, self.ssrc) + payload
            self._number = (self._number + 1) & 0xFFFF
            self.packets += 1
            self.octets += len(payload)

    def report(self, seconds: float, now: float) -> bytes:
        """A sender report with the source's name (RFC 3550 §6.4.1, §6.5)."""
        ntp = int((now + _NTP_EPOCH) * 2**32)
        report = struct.pack(
            "!BBHIQIII", 0x80, 200, 6, self.ssrc, ntp, self.timestamp(seconds), self.packets, self.octets
        )
        return report + struct.pack("!BBHIBB5sx", 0x81, 202, 3, self.ssrc, 1, 5, b"bench")


def packets(pieces: list[Piece]) -> Iterator[tuple[float, bytes]]:
    """The RTP packets of a clip, each with its time."""
    tracks = {"audio": _Track("audio", 1), "video": _Track("video", 2)}
    for piece in pieces:
        for packet in tracks[piece.kind].packetize(piece, piece.time):
            yield piece.time, packet


class Stream:
    """A call of ours that sends a clip again and again, as it was encoded.

    :param pieces: the clip.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self._end = mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(iceAddresses=[LOOPBACK]))
        self._tracks: dict[str, _Track] = {}
        self._index = 0
        self._started = 0.0
        self._reported = 0.0

    async def offer(self) -> str:
        """The offer to send audio and video."""
        for kind, name in (("audio", "opus"), ("video", "VP8")):
            transceiver = self._end.addTransceiver(kind, "sendonly")
            codecs = mediapeer.RTCRtpSender.getCapabilities(kind).codecs
            transceiver.setCodecPreferences([c for c in codecs if c.name.lower() == name.lower()])
            self._tracks[kind] = _Track(kind, transceiver.sender._ssrc)
        await self._end.setLocalDescription(await self._end.createOffer())
        description = self._end.localDescription
        return description.sdp if description is not None else ""

    async def accept(self, answer: str) -> None:
        """Take the answer, and wait until media can flow."""
        await self._end.setRemoteDescription(mediapeer.RTCSessionDescription(answer, "answer"))
        for transceiver in self._end.getTransceivers():
            # The answer's payload types are the offer's.
            codec = transceiver.negotiated.send_codecs[0]
            self._tracks[transceiver.kind].payload_type = codec.payloadType or 0
        await until_connected(self._end)

    def start(self, now: float) -> None:
        """Let the clip begin ``now``."""
        self._started = now

    def send_due(self, now: float) -> float:
        """Send what is due, and say when there is more."""
        transport = self._end.transports[0]
        while (due := self._due()) <= now:
            piece = self._pieces[self._index % len(self._pieces)]
            for packet in self._tracks[piece.kind].packetize(piece, due - self._started):
                transport.send_media(packet)
            self._index += 1
        if now - self._reported >= _REPORT_INTERVAL:
            self._reported = now
            for track in self._tracks.values():
                transport.send_media(track.report(now - self._started, time.time()))
        return due

    def _due(self) -> float:
        rounds, index = divmod(self._index, len(self._pieces))
        return self._started + rounds * CLIP_SECONDS + self._pieces[index].time

    @property
    def packets(self) -> int:
        """Packets sent."""
        return sum(track.packets for track in self._tracks.values())

    async def close(self) -> None:
        """Hang up."""
        await self._end.close()


def send(pipe: Pipe, count: int) -> None:
    """Send ``count`` streams to whoever is at the other end of a pipe; runs in a process of its own.

    Offers go out and answers come in, all at once. Then streams begin, spread over the time of a frame, until the
    pipe says anything more. At the end it tells how many packets were sent, and how late it was at the worst.
    """
    asyncio.run(_send(pipe, count))


async def _send(pipe: Pipe, count: int) -> None:
    pieces = await asyncio.to_thread(clip)
    streams = [Stream(pieces) for _ in range(count)]
    pipe.send([await stream.offer() for stream in streams])
    answers = await asyncio.to_thread(pipe.recv)
    for stream, answer in zip(streams, answers, strict=True):
        await stream.accept(answer)
    now = time.monotonic()
    for number, stream in enumerate(streams):
        stream.start(now + number / count / RATE)
    due = [(now, number) for number in range(count)]
    heapq.heapify(due)
    latest = 0.0
    while not pipe.poll():
        now = time.monotonic()
        while due[0][0] <= now:
            at, number = due[0]
            latest = max(latest, now - at)
            heapq.heapreplace(due, (streams[number].send_due(now), number))
        await asyncio.sleep(max(0.0, due[0][0] - time.monotonic()))
    pipe.send((sum(stream.packets for stream in streams), latest))
    for stream in streams:
        await stream.close()
