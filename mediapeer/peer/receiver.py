"""Receiving a track: aiortc's receiver, with bounds on what waits for the decoder and for the program."""

from typing import Any, cast

import aiortc
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import NackGenerator, RemoteStreamTrack

from mediapeer.peer.frames import EncodedFrames, LatestFrames
from mediapeer.transport import DtlsTransport, GuardedEmitter

#: The packets of video that a receiver puts in order; aiortc's number.
VIDEO_PACKETS = 512


class RemoteTrack(GuardedEmitter, RemoteStreamTrack):
    """What the other side sends. Emits ``ended``, and ``mute`` and ``unmute`` when :attr:`muted` changes."""

    def __init__(self, kind: str, id: str | None = None) -> None:
        super().__init__(kind, id)
        self._muted = True

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
        # As for audio at first: for video, aiortc's constructor makes an estimator of the bit rate, of a hundred
        # kilobytes and a tenth of the time that an answer takes. The transport estimates for all its streams.
        super().__init__("audio", cast(Any, transport))
        if kind == "video":
            self._become_video()
        self._is_started = False
        self._is_stopped = False
        self._replace_track(kind, None, transport)
        error = getattr(self, "_RTCRtpReceiver__decoder_error")  # noqa: B009
        waiting = EncodedFrames(kind, error, transport.count)
        setattr(self, "_RTCRtpReceiver__decoder_queue", waiting)  # noqa: B010

    def _become_video(self) -> None:
        parts = {
            "kind": "video",
            "jitter_buffer": JitterBuffer(capacity=VIDEO_PACKETS, is_video=True),
            "nack_generator": NackGenerator(),
        }
        for name, part in parts.items():
            setattr(self, f"_RTCRtpReceiver__{name}", part)

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

    def _replace_track(self, kind: str, track_id: str | None, transport: DtlsTransport) -> None:
        self._track = RemoteTrack(kind, track_id)
        self._track._queue = LatestFrames(kind, transport.count)
