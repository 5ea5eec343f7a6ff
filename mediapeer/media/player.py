"""Input from storage: a file's packets, sent as they are."""

import asyncio
import collections
import logging
import pathlib
from fractions import Fraction
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioResampler, Packet

from mediapeer.media.reading import CLOCK_RATES, FilePacket, FileReader, FileStream, PlayerError
from mediapeer.peer.outgoing import PacketCodec

__all__ = ["FilePlayer", "FileTrack", "PlayerError"]

logger = logging.getLogger(__name__)

#: How many seconds of the file are read ahead.
AHEAD = 2.0
#: A reader that is later than this loses what it should have read; pictures to the next keyframe. In seconds.
LATE = 3.0
#: When nobody has read for so many seconds, playing has paused.
PAUSE = 2.0
#: A keyframe that comes by itself within so many seconds is waited for.
SOON = 0.5
#: Seconds between two jumps: whoever asks for keyframes all the time must not wind the file forward for all.
JUMP_INTERVAL = 10.0
#: The most that waits to be played, in bytes. A file whose sound is far from its pictures would need more.
MAXIMUM_BUFFER = 64 << 20
#: How decoded sound is given: what aiortc's encoders take, 20 ms at a time.
_SAMPLE_RATE, _SAMPLES = 48_000, 960


class FileTrack(MediaStreamTrack):
    """The sound or the pictures of a :class:`FilePlayer`, paced as the file says. It has one reader at a time."""

    def __init__(self, player: "FilePlayer", stream: FileStream) -> None:
        super().__init__()
        self.kind = stream.kind
        self._player = player
        self._stream = stream
        self._latest: FilePacket | None = None
        # With a decoder frames are given, else packets.
        self._decoder: Any = None
        self._resampler: AudioResampler | None = None
        self._frames: collections.deque[Any] = collections.deque()
        self._pending: FilePacket | None = None
        self._is_keyframe_needed = False
        self._is_flushed = False
        self._time_base = Fraction(1, CLOCK_RATES.get(stream.codec, _SAMPLE_RATE))
        if not stream.is_carried or (stream.is_reordered and player.transcode):
            self._decode()

    @property
    def codec(self) -> str | None:
        """The codec of the packets that it gives, as RTP calls it; ``None`` when it gives decoded frames."""
        return None if self._decoder is not None else self._stream.codec

    async def recv(self) -> Any:
        """The next ``av.Packet`` when its time has come, or a frame where the file is decoded.

        :raises MediaStreamError: at the end of the file, or when the track was stopped.
        """
        while self.readyState == "live":
            if self._frames:
                return self._frames.popleft()
            packet, self._pending = self._pending, None
            if packet is None:
                packet = await self._player.next(self.kind)
            if packet is None:
                if not await self._flush():
                    self.stop()
                continue
            if self._is_keyframe_needed and not packet.is_keyframe:
                continue
            self._is_keyframe_needed = False
            self._latest = packet
            made = self._made(packet)
            if self._decoder is None:
                return made
            loop = asyncio.get_running_loop()
            self._frames.extend(await loop.run_in_executor(None, self._decoded, made))
        raise MediaStreamError

    def request_keyframe(self) -> bool:
        """Play on at the next keyframe, if that is less than :data:`AHEAD` seconds from now; all tracks jump.

        :return: whether a keyframe comes soon. Where it does not, whoever sends the track can do no better than to
            send the latest keyframe again.
        """
        return self._decoder is None and self._player.jump()

    def decode_instead(self) -> bool:
        """Give decoded frames from now on, for a peer that does not take the codec of the file.

        :return: whether the player does so: only one that was made with ``transcode=True``.
        """
        if not self._player.transcode:
            return False
        if self._decoder is None:
            self._decode()
            # Begin with what the peer did not take, if a decoder can.
            if self._latest is not None and self._latest.is_keyframe:
                self._pending = self._latest
            else:
                self._is_keyframe_needed = True
        return True

    def stop(self) -> None:
        """Give nothing any more. The file is closed when all tracks are stopped."""
        if self.readyState == "live":
            super().stop()
            self._frames.clear()
            self._player.track_stopped(self.kind)

    def _decode(self) -> None:
        self._decoder = self._stream.decoder()
        if self.kind == "audio":
            self._resampler = AudioResampler("s16", "stereo", _SAMPLE_RATE, _SAMPLES)

    async def _flush(self) -> bool:
        """Take the pictures that the decoder holds back, at the file's end; false when there are none."""
        if self._decoder is None or self._is_flushed:
            return False
        self._is_flushed = True
        loop = asyncio.get_running_loop()
        self._frames.extend(await loop.run_in_executor(None, self._decoded, None))
        return bool(self._frames)

    def _made(self, read: FilePacket) -> Any:
        """The packet on the timeline of what was played."""
        packet: Any = Packet(read.data)
        packet.time_base = self._time_base
        packet.pts = packet.dts = round((read.time - self._player.skipped) / self._time_base)
        packet.is_keyframe = read.is_keyframe
        packet.opaque = PacketCodec(self._stream.codec)
        return packet

    def _decoded(self, packet: Any) -> list[Any]:
        """What a decoder makes of a packet, or of the end, ``None``."""
        try:
            frames = self._decoder.decode(packet)
        except (OSError, ValueError):
            return []  # a broken picture in the file; the next one may be whole
        for frame in frames:
            if frame.time_base is None:
                frame.time_base = self._time_base  # PyAV has it from the packet, and the end is none
        if self._resampler is None:
            return list(frames)
        return [sound for frame in frames for sound in self._resampler.resample(frame)]


class FilePlayer:
    """Plays a WebM, MP4, MKV, IVF or Ogg file, in real time, without decoding it.

    Its tracks go to ``addTrack``, as those of aiortc's ``MediaPlayer`` do. They give packets, which are sent as they
    are where the peer takes the codec. Both keep to one timeline, which begins when the first of them is read.

    A peer that joins in the middle, or has lost too much, asks for a keyframe. If there is one in the two seconds to
    come, the player jumps to it. If not, the peer gets the latest one again: a still picture at once, until the next
    keyframe of the file. So a file for this has a keyframe every two seconds or so.

    :param path: the file.
    :param loop: whether to begin again at the end.
    :param video: whether to play pictures, if there are any.
    :param audio: whether to play sound, if there is any.
    :param transcode: whether to decode what a peer does not take as it is, so that it is encoded anew. Pictures that
        are decoded in another order than shown are none that a browser takes.
    :raises PlayerError: when there is no such file, none of these in it, or its codec is none of WebRTC's and is not
        to be transcoded.
    :raises ValueError: when neither is wanted.
    """

    def __init__(
        self,
        path: pathlib.Path | str,
        *,
        loop: bool = False,
        video: bool = True,
        audio: bool = True,
        transcode: bool = False,
    ) -> None:
        kinds = tuple(kind for kind, wanted in (("audio", audio), ("video", video)) if wanted)
        if not kinds:
            raise ValueError("neither audio nor video is wanted: there is nothing to play")
        self.transcode = transcode
        "Whether tracks may decode."
        self.dropped: collections.Counter[str] = collections.Counter()
        "How many packets were not played in time, by the kind of track."
        self.skipped = Fraction(0)
        "How many seconds were jumped over, to keyframes."
        self._reader = FileReader(path, kinds, repeat=loop)
        for stream in self._reader.streams.values():
            if not stream.is_carried and not transcode:
                self._reader.close()
                raise PlayerError(
                    f"the {stream.kind} of {path} is {stream}, which WebRTC does not carry; "
                    f"transcode=True encodes it anew, {stream.kind}=False leaves it out"
                )
            if stream.is_reordered and not transcode:
                logger.warning(
                    "%s has pictures that are decoded in another order than shown (B-frames), of which browsers show "
                    "few; transcode=True encodes them anew",
                    path,
                )
        self._queues: dict[str, collections.deque[FilePacket]] = {
            kind: collections.deque() for kind in self._reader.streams
        }
        self._buffered = 0
        # When position 0 was played, by the event loop's clock; who reads now, and when the last one did.
        self._begin: float | None = None
        self._reading = 0
        self._read_at = 0.0
        self._read_to = 0.0
        self._jumped_at: float | None = None
        self._filling: asyncio.Task[None] | None = None
        self._is_closed = False
        self._tracks: dict[str, FileTrack] = {
            kind: FileTrack(self, stream) for kind, stream in self._reader.streams.items()
        }

    @property
    def audio(self) -> FileTrack | None:
        """The sound, or ``None`` when there is none."""
        return self._tracks.get("audio")

    @property
    def video(self) -> FileTrack | None:
        """The pictures, or ``None`` when there are none."""
        return self._tracks.get("video")

    def stop(self) -> None:
        """Stop both tracks and close the file. Idempotent."""
        for track in self._tracks.values():
            track.stop()

    # What the tracks use

    async def next(self, kind: str) -> FilePacket | None:
        """The next packet of a track, when its time has come; ``None`` at the end."""
        now = self._now()
        if self._reading == 0 and self._begin is not None and now - self._read_at > PAUSE:
            self._begin += now - self._read_at
        self._reading += 1
        try:
            return await self._paced(kind)
        finally:
            self._reading -= 1
            self._read_at = self._now()

    def jump(self) -> bool:
        """Play on at the next keyframe, if it is read already; whether one comes soon."""
        queue = self._queues.get("video", ())
        keyframe = next((packet for packet in queue if packet.is_keyframe), None)
        if keyframe is None or self._begin is None:
            return False
        ahead = keyframe.position - (self._now() - self._begin)
        if ahead <= SOON:
            return True
        if self._jumped_at is not None and self._now() - self._jumped_at < JUMP_INTERVAL:
            return False
        self._jumped_at = self._now()
        self._begin -= ahead
        self.skipped += Fraction(ahead).limit_denominator(90_000)
        for kind, waiting in self._queues.items():
            while waiting and waiting[0].position < keyframe.position:
                self._pop(kind)
        return True

    def track_stopped(self, kind: str) -> None:
        """A track is read no more."""
        while self._queues[kind]:
            self._pop(kind)
        if all(track.readyState != "live" for track in self._tracks.values()):
            self._is_closed = True
            if self._filling is None:
                self._reader.close()

    # Inside

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _paced(self, kind: str) -> FilePacket | None:
        queue = self._queues[kind]
        while not self._is_closed and self._tracks[kind].readyState == "live":
            if not queue:
                if self._reader.ended and self._filling is None:
                    return None
                await self._fill()
                continue
            now = self._now()
            if self._begin is None:
                self._begin = now - queue[0].position
            self._drop_late(kind, now)
            if not queue:
                continue
            if queue[-1].position - (now - self._begin) < AHEAD / 2:
                self._fill_soon()
            wait = self._begin + queue[0].position - now
            if wait <= 0:
                return self._pop(kind)
            await asyncio.sleep(wait)
        return None

    def _pop(self, kind: str) -> FilePacket:
        packet = self._queues[kind].popleft()
        self._buffered -= len(packet.data)
        return packet

    def _drop_late(self, kind: str, now: float) -> None:
        """Drop what should have been read long ago, and pictures that need what was dropped."""
        queue, begin = self._queues[kind], self._begin
        if begin is None or not queue or now - begin - queue[0].position <= LATE:
            return
        while queue and (now - begin - queue[0].position > 0 or not queue[0].is_keyframe):
            self._pop(kind)
            self.dropped[kind] += 1

    async def _fill(self) -> None:
        """Read on in the file; reading goes on when the caller is cancelled."""
        self._fill_soon()
        if self._filling is not None:
            await asyncio.shield(self._filling)

    def _fill_soon(self) -> None:
        if self._filling is None and not self._reader.ended and not self._is_closed:
            self._filling = asyncio.create_task(self._read(), name="reading of a file")

    async def _read(self) -> None:
        position = self._now() - self._begin if self._begin is not None else 0.0
        # Always a bit further, so that a track whose packets stand far behind those of the other one comes to them.
        until = max(position + AHEAD, self._read_to + 0.1)
        try:
            packets = await asyncio.get_running_loop().run_in_executor(None, self._reader.read, until)
        finally:
            self._filling = None
            if self._is_closed:
                self._reader.close()
        if self._is_closed:
            return
        for packet in packets:
            if self._tracks[packet.kind].readyState == "live":
                self._queues[packet.kind].append(packet)
                self._buffered += len(packet.data)
        self._read_to = max((packet.position for packet in packets), default=self._read_to)
        now = self._now()
        for kind in self._queues:
            self._drop_late(kind, now)
        while self._buffered > MAXIMUM_BUFFER:
            longest = max(self._queues, key=lambda kind: len(self._queues[kind]))
            self._pop(longest)
            self.dropped[longest] += 1
