"""Decoders: which there are, and one track's, which works off the event loop in threads that all tracks share."""

import asyncio
import concurrent.futures
import functools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import av
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from mediapeer.peer.frames import MAXIMUM_PICTURE, WAITING_FRAMES, EncodedFrames, LatestFrames
from mediapeer.peer.timeline import Timeline
from mediapeer.rtp import EncodedFrame

logger = logging.getLogger(__name__)

#: The most threads that decode, whatever the number of tracks and of processors.
MAXIMUM_THREADS = 8
#: What their names begin with.
THREAD_NAME = "decoding"
#: Pieces of sound that are decoded at one go; pictures go one by one.
AUDIO_BATCH = 10
#: Those whose frames programs know from aiortc, by the name of the codec.
_OF_AIORTC = {
    "opus": "audio/opus", "g722": "audio/G722", "pcmu": "audio/PCMU", "pcma": "audio/PCMA",
    "vp8": "video/VP8", "h264": "video/H264",
}  # fmt: skip
#: libavcodec's decoders for the others.
_OF_LIBAVCODEC = {"vp9": "vp9", "av1": "libdav1d", "h265": "hevc"}
#: What they are told: no picture beyond the bound; frames come out at once.
_OPTIONS = {"max_pixels": str(MAXIMUM_PICTURE)}
_MORE_OPTIONS = {"libdav1d": {"max_frame_delay": "1"}}


class UnknownCodec(Exception):
    """There is no decoder of that name here."""


@dataclass(slots=True)
class FrameCounts:
    """What became of the frames of one source; the names of W3C webrtc-stats §8.7 in snake case."""

    frames_received: int = 0
    "Whole frames that came out of its packets."
    frames_decoded: int = 0
    key_frames_decoded: int = 0
    frames_dropped: int = 0
    "Those that were not decoded: they had nothing to build on, came too fast, were too large, or broken."
    frame_width: int | None = None
    "Of the last decoded picture, in pixels."
    frame_height: int | None = None


class Decoder(Protocol):
    """A decoder of one stream."""

    def decode(self, encoded_frame: JitterFrame) -> list[Any]:
        """The frames that come out of one; ``timestamp`` is in units of the RTP clock rate."""


class LibavcodecDecoder:
    """A decoder of libavcodec, for video that aiortc does not know.

    :param name: libavcodec's name of it.
    :raises UnknownCodec: when it was built without.
    """

    def __init__(self, name: str) -> None:
        try:
            self.codec: Any = av.CodecContext.create(name, "r")
        except ValueError as error:  # av's UnknownCodecError is one
            raise UnknownCodec(name) from error

    def decode(self, encoded_frame: JitterFrame) -> list[Any]:
        """The pictures that come out of a frame, with time in units of 1/90000 s."""
        packet = av.Packet(encoded_frame.data)
        packet.pts, packet.time_base = encoded_frame.timestamp, Fraction(1, 90000)
        frames: list[Any] = self.codec.decode(packet)
        return frames


def decoder_for(frame: EncodedFrame) -> Decoder:
    """A new decoder for frames like this one.

    What aiortc can decode comes out as from its own receivers: Opus as 48 kHz stereo, G.722 as 16 kHz and G.711 as
    8 kHz mono, of 16 bits; pictures in the format of the stream, mostly ``yuv420p``.

    :raises UnknownCodec: when there is none.
    """
    mime_type = _OF_AIORTC.get(frame.codec)
    if mime_type is not None:
        decoder: Any = get_decoder(RTCRtpCodecParameters(mimeType=mime_type, clockRate=frame.clock_rate))
    elif frame.codec in _OF_LIBAVCODEC:
        decoder = LibavcodecDecoder(_OF_LIBAVCODEC[frame.codec])
    else:
        raise UnknownCodec(frame.codec)
    # The threads are those of the pool; a decoder makes none of its own.
    decoder.codec.thread_count = 1
    if mime_type is None or mime_type.startswith("video/"):
        decoder.codec.options = {**_OPTIONS, **_MORE_OPTIONS.get(decoder.codec.name, {})}
    return decoder  # type: ignore[no-any-return]


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that decode, made when the first frame is to be decoded."""
    threads = min(MAXIMUM_THREADS, (os.cpu_count() or 1) + 2)
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)


if hasattr(os, "register_at_fork"):
    # The threads are the other process's; what is given to them here would wait for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


@dataclass(slots=True)
class _Outcome:
    """What came of decoding one frame."""

    frame: EncodedFrame
    decoded: Sequence[Any] = field(default_factory=tuple)
    error: Exception | None = None


class TrackDecoder:
    """Decodes the frames of one track, in their order, while somebody reads them. Its methods are for the event loop.

    Pictures are decoded from a keyframe on; after a gap, an error or a change of source, nothing comes out before the
    next one, and one is asked for. What waits for the decoder is bounded.

    :param kind: ``audio`` or ``video``.
    :param frames: takes what comes out, and ``None`` after :meth:`end`.
    :param timeline: places the frames.
    :param counts_of: the counts of a source, by its SSRC.
    :param count: told what was dropped and why.
    :param request_keyframe: asks the sender for a keyframe; may be called often.
    :param executor: the threads to decode in; by default those that all tracks share.
    """

    def __init__(
        self,
        kind: str,
        frames: LatestFrames,
        timeline: Timeline,
        *,
        counts_of: Callable[[int], FrameCounts],
        count: Callable[[str], None],
        request_keyframe: Callable[[], None],
        executor: concurrent.futures.Executor | None = None,
    ) -> None:
        self._is_video = kind == "video"
        self._frames = frames
        self._timeline = timeline
        self._counts_of = counts_of
        self._count = count
        self._request_keyframe = request_keyframe
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._waiting = EncodedFrames(kind, self._drop_late, WAITING_FRAMES[kind])
        self._waiting.holds = self._is_video
        self._last: EncodedFrame | None = None
        self._is_too_large = False
        self._is_busy = False
        self._is_ended = False
        self._is_closed = False
        # These two are the business of the thread that decodes.
        self._decoder: Decoder | None = None
        self._format: tuple[str, int, int] | None = None

    def take_frame(self, frame: EncodedFrame) -> None:
        """Take the next frame, to be decoded in its turn."""
        if self._is_ended:
            return
        if self._is_video and not self._fits(frame):
            return
        if self._waiting.put(frame):
            self._work()
        elif not self._is_too_large:
            self._request_keyframe()

    def end(self) -> None:
        """Put the end after what has been decoded, and what a thread is decoding; what waits is dropped."""
        if self._is_ended:
            return
        self._is_ended = True
        self._waiting.clear()
        if not self._is_busy:
            self._frames.put_nowait(None)

    def close(self) -> None:
        """Decode nothing any more, and give out nothing."""
        self._is_ended = self._is_closed = True
        self._waiting.clear()

    # Before decoding

    def _fits(self, frame: EncodedFrame) -> bool:
        """Whether a picture may be decoded, if what it builds on was; note where none builds on what is before it."""
        last, self._last = self._last, frame
        if frame.is_keyframe:
            # There is no use in asking for another one: it would be as large.
            self._is_too_large = (frame.width or 0) * (frame.height or 0) > MAXIMUM_PICTURE
        if frame.is_keyframe and self._is_too_large:
            self._count("pictures_too_large")
            self._drop(frame)
            self._waiting.holds = True
            return False
        if last is not None and not frame.is_keyframe:
            is_new = (last.ssrc, last.payload_type, last.codec) != (
                frame.ssrc,
                frame.payload_type,
                frame.codec,
            )
            if is_new or frame.lost_before:
                self._waiting.holds = True
        return True

    def _drop(self, frame: EncodedFrame) -> None:
        self._counts_of(frame.ssrc).frames_dropped += 1

    def _drop_late(self, frame: EncodedFrame) -> None:
        self._drop(frame)
        self._count("frames_not_decoded")

    # Decoding

    def _work(self) -> None:
        """Have a thread decode what waits, if none does."""
        if self._is_busy or self._is_ended or not self._waiting:
            return
        number = 1 if self._is_video else min(len(self._waiting), AUDIO_BATCH)
        frames = [self._waiting.get() for _ in range(number)]
        batch = [(frame, self._timeline.place(frame)) for frame in frames]
        self._is_busy = True
        (self._executor or _pool()).submit(self._decode_batch, batch)

    def _decode_batch(self, batch: list[tuple[EncodedFrame, int]]) -> None:
        """In a thread: decode, and hand over what came of it."""
        outcomes = [self._decode(frame, position) for frame, position in batch]
        try:
            self._loop.call_soon_threadsafe(self._take_outcomes, outcomes)
        except RuntimeError:
            logger.debug("the event loop was closed while frames were decoded")

    def _decode(self, frame: EncodedFrame, position: int) -> _Outcome:
        format = (frame.codec, frame.clock_rate, frame.payload_type)
        try:
            if self._decoder is None or format != self._format:
                self._decoder = None
                self._decoder, self._format = decoder_for(frame), format
            return _Outcome(frame, self._decoder.decode(JitterFrame(frame.data, position)))
        except Exception as error:
            # Decoders fail in many ways, and none of them may end the track; the next frames get a new one.
            self._decoder = None
            return _Outcome(frame, error=error)

    def _take_outcomes(self, outcomes: Sequence[_Outcome]) -> None:
        self._is_busy = False
        if self._is_closed:
            return
        for outcome in outcomes:
            if outcome.error is not None:
                self._take_error(outcome.frame, outcome.error)
                continue
            counts = self._counts_of(outcome.frame.ssrc)
            for decoded in outcome.decoded:
                counts.frames_decoded += 1
                counts.frame_width = getattr(decoded, "width", None)
                counts.frame_height = getattr(decoded, "height", None)
                self._frames.put_nowait(decoded)
            if outcome.decoded and outcome.frame.is_keyframe:
                counts.key_frames_decoded += 1
        if self._is_ended:
            self._frames.put_nowait(None)
        else:
            self._work()

    def _take_error(self, frame: EncodedFrame, error: Exception) -> None:
        self._drop(frame)
        if isinstance(error, UnknownCodec):
            # A keyframe would be as unknown.
            self._count("undecodable_codecs")
            return
        self._count("decoder_errors")
        logger.debug("%d bytes of %s could not be decoded: %s", len(frame.data), frame.codec, error)
        if self._is_video:
            self._waiting.skip_to_keyframe()
            if self._waiting.holds:
                self._request_keyframe()
