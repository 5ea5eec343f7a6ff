"""Receiving a track: aiortc's receiver, with bounds on what waits for the decoder and for the program."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import aiortc
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import NackGenerator, RemoteStreamTrack

from mediapeer.peer.frames import EncodedFrames, LatestFrames
from mediapeer.transport import DtlsTransport, GuardedEmitter

#: The packets of video and of audio that a receiver puts in order, and of audio that it waits for; aiortc's numbers.
VIDEO_PACKETS = 512
AUDIO_PACKETS = 16
AUDIO_PREFETCH = 4
#: What aiortc's constructor makes and only a receiver that has packets needs, by its private names.
LATE_PARTS = (
    "decoder_error", "decoder_queue", "jitter_buffer", "nack_generator", "rtcp_exited", "rtcp_started",
)  # fmt: skip


class RemoteTrack(GuardedEmitter, RemoteStreamTrack):
    """What the other side sends. Emits ``ended``, and ``mute`` and ``unmute`` when :attr:`muted` changes.

    :param count: told of frames that were dropped.
    """

    def __init__(self, kind: str, count: Callable[[str], None]) -> None:
        super().__init__(kind)
        self._muted = True
        self._count = count
        self._frames: LatestFrames | None = None

    @property
    def _queue(self) -> LatestFrames:
        """What aiortc's decoder fills and :meth:`recv` empties; made when the first of them needs it."""
        if self._frames is None:
            self._frames = LatestFrames(self.kind, self._count)
        return self._frames

    @_queue.setter
    def _queue(self, queue: object) -> None:
        """aiortc's constructor has one without an end."""

    @property
    def muted(self) -> bool:
        """Whether the last negotiation says that the other side sends nothing (W3C mediacapture §4.3.1)."""
        return self._muted

    def _set_muted(self, muted: bool) -> None:
        if muted is not self._muted:
            self._muted = muted
            self.emit("mute" if muted else "unmute")


class RTCRtpReceiver(aiortc.RTCRtpReceiver):
    """aiortc's receiver, whose queues have an end, and which starts when the first packet comes.

    :param kind: ``audio`` or ``video``.
    :param transport: the DTLS transport.
    """

    _track: RemoteTrack

    def __init__(self, kind: str, transport: DtlsTransport) -> None:
        # As for audio: for video, aiortc's constructor makes an estimator of the bit rate, of a hundred kilobytes and
        # a tenth of the time that an answer takes. The transport has one for all streams.
        super().__init__("audio", cast(Any, transport))
        self._set_part("kind", kind)
        for name in LATE_PARTS:
            self._set_part(name, None)
        self._kind = kind
        self._is_started = False
        self._is_stopped = False
        self._track = RemoteTrack(kind, transport.count)

    def _set_part(self, name: str, part: object) -> None:
        """Put a part of ours in the place of one that aiortc's constructor has made."""
        setattr(self, f"_RTCRtpReceiver__{name}", part)

    def _make_parts(self) -> None:
        """Make what packets need; most receivers of a server that is called by browsers never get any."""
        is_video, error = self._kind == "video", threading.Event()
        self._set_part("decoder_error", error)
        self._set_part("decoder_queue", EncodedFrames(self._kind, error, self.transport.count))
        self._set_part("rtcp_exited", asyncio.Event())
        self._set_part("rtcp_started", asyncio.Event())
        self._set_part(
            "jitter_buffer",
            JitterBuffer(capacity=VIDEO_PACKETS, is_video=True)
            if is_video
            else JitterBuffer(capacity=AUDIO_PACKETS, prefetch=AUDIO_PREFETCH),
        )
        self._set_part("nack_generator", NackGenerator() if is_video else None)

    @property
    def track(self) -> RemoteTrack:
        """What is received."""
        return self._track

    @property
    def transport(self) -> DtlsTransport:  # type: ignore[override]
        """The DTLS transport it is carried by."""
        transport: object = super().transport
        if not isinstance(transport, DtlsTransport):
            raise TypeError("not a transport of ours")
        return transport

    def use_transport(self, transport: DtlsTransport) -> None:
        """Be carried by another transport from now on."""
        if transport is not self.transport:
            self.setTransport(cast(Any, transport))

    def set_track_id(self, track_id: str) -> None:
        """Give the track the id that the other side calls it by, while nobody has seen it yet."""
        if track_id != self._track.id:
            self._track._id = track_id

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begin to receive: a decoder's thread starts. A second call changes nothing."""
        if not self._is_stopped and not self._is_started:
            self._is_started = True
            self._make_parts()
            await super().receive(parameters)

    async def stop(self) -> None:
        """Receive nothing any more, and end the track. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        await super().stop()
        self._end_unstarted_track()

    def _handle_disconnect(self) -> None:
        super()._handle_disconnect()
        self._end_unstarted_track()

    def _end_unstarted_track(self) -> None:
        """End the track: the decoder's thread does it where there is one, and there is none before a packet."""
        if not self._is_started:
            self._track._queue.put_nowait(None)
            self._track.stop()
