"""Sending a track: encoded off the event loop, or as it is, in packets that can be asked for again."""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpCapabilities, RTCRtpSendParameters
from aiortc.stats import RTCStatsReport
from av import Packet

from mediapeer.peer.codecs import ABS_SEND_TIME_URI, AUDIO_LEVEL_URI, MID_URI, CodecRegistry
from mediapeer.peer.feed import TrackFeed
from mediapeer.peer.outgoing import (
    CodecNotTaken,
    FrameEncoding,
    OutgoingFrame,
    PassThrough,
    codec_of,
    send_formats,
)
from mediapeer.peer.stats import RTCOutboundRtpStreamStats, RTCRemoteInboundRtpStreamStats
from mediapeer.rtp.outbound import OutboundStream
from mediapeer.rtp.rtcp import ReportBlock
from mediapeer.rtp.writing import OutboundExtensions
from mediapeer.transport import DtlsTransport
from mediapeer.transport.stats import utc_now

logger = logging.getLogger(__name__)

#: Seconds between two sender reports, on average (RFC 3550 §6.2 has them vary by half).
REPORT_INTERVAL = 1.0
#: Seconds between two keyframes that a peer may have made.
KEYFRAME_INTERVAL = 0.5
#: How many packets go out at once, and over how many seconds a frame of more of them is spread: a keyframe in one
#: burst may be more than the sockets on its way have room for.
BURST = 12
SPREAD = 0.01
#: From 1900, where NTP counts from, to 1970, in seconds.
_NTP_EPOCH = 2_208_988_800


def ntp_now() -> int:
    """The time on the wall in units of 2^-32 s since 1900. The same for all senders, so that tracks go together."""
    return int((time.time() + _NTP_EPOCH) * 2**32)


class RTCRtpSender:
    """Sends one track after the other from one source (W3C webrtc §5.2).

    Frames are encoded with aiortc's encoders. A track that gives ``av.Packet`` is sent as it is, in the format of its
    codec: that of its attribute ``codec``, or of the stream that the packets were read from.

    :param trackOrKind: the track to send, or ``audio`` or ``video``.
    :param transport: the DTLS transport.
    :raises InvalidStateError: when the transport is closed.
    """

    def __init__(self, trackOrKind: MediaStreamTrack | str, transport: DtlsTransport) -> None:
        if transport.state == "closed":
            raise InvalidStateError("the transport is closed")
        track = trackOrKind if isinstance(trackOrKind, MediaStreamTrack) else None
        kind = trackOrKind if isinstance(trackOrKind, str) else trackOrKind.kind
        self.on_track: Callable[[], None] | None = None
        "Told when there is something to send."
        self.error: CodecNotTaken | None = None
        "Why nothing is sent of the track, if that is so."
        self.counters: Counter[str] = Counter()
        "What was not sent, and why."
        self._enabled = True
        self._ssrc = random.getrandbits(32)
        self._rtx_ssrc = random.getrandbits(32)
        self._stream_id = self._track_id = str(uuid.uuid4())
        self._feed = TrackFeed(kind)
        self._transport = transport
        self._stream = OutboundStream(self._ssrc, self._rtx_ssrc)
        self._encoding = FrameEncoding(self.counters)
        self._pass_through = PassThrough(self.counters)
        self._parameters: RTCRtpSendParameters | None = None
        self._is_sending = False
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reported_packets = 0
        self._payload_type: int | None = None
        self._reading: MediaStreamTrack | None = None
        # Keyframes: when one was made last because the peer wanted it, and whether it wants one.
        self._forced_at = float("-inf")
        self._is_keyframe_wanted = False
        self._frames_sent = self._keyframe_requests = 0
        self.replaceTrack(track)

    # What the program sees

    @property
    def kind(self) -> str:
        """``audio`` or ``video``."""
        return self._feed.kind

    @property
    def track(self) -> MediaStreamTrack | None:
        """The track that is sent, or ``None``."""
        return self._feed.attached

    @property
    def transport(self) -> DtlsTransport:
        """The DTLS transport it is carried by."""
        return self._transport

    @classmethod
    def getCapabilities(cls, kind: str) -> RTCRtpCapabilities:
        """What can be sent (W3C webrtc §5.2, ``getCapabilities``).

        :raises ValueError: for a kind that is neither audio nor video.
        """
        return CodecRegistry().capabilities(kind, "sendonly")

    def replaceTrack(self, track: MediaStreamTrack | None) -> None:
        """Send another track from now on, without negotiation; or none (W3C webrtc §5.2, ``replaceTrack``).

        :raises ValueError: when the track is of the other kind.
        """
        if track is not None and track.kind != self.kind:
            raise ValueError(f"a sender of {self.kind} cannot send a track of {track.kind}")
        self.error = None
        self._feed.attach(track)
        if track is not None:
            self._track_id = track.id
            if self.on_track is not None:
                self.on_track()

    async def getStats(self) -> RTCStatsReport:
        """What was sent, what the peer says of it, and the transport."""
        report = RTCStatsReport()
        for entry in self.stream_stats():
            report.add(entry)
        report.update(self._transport._get_stats())
        return report

    # What the connection sees

    @property
    def is_sending(self) -> bool:
        """Whether :meth:`send` was called, and not :meth:`stop`."""
        return self._is_sending and not self._is_stopped

    @property
    def ssrc(self) -> int:
        """The source that packets bear."""
        return self._ssrc

    @property
    def payload_type(self) -> int | None:
        """The payload type of the latest packet."""
        return self._payload_type

    @property
    def rtx_ssrc(self) -> int:
        """The source of retransmissions (RFC 4588)."""
        return self._rtx_ssrc

    def use_transport(self, transport: DtlsTransport) -> None:
        """Be carried by another transport from now on."""
        if transport is self._transport:
            return
        if self.is_sending:
            self._transport.media.remove_sender(self)
            transport.media.add_sender(self)
        self._transport = transport
        # Other keys: what was sent before must not go out again under them.
        self._stream.forget()
        if self.is_sending and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name=f"sender of {self.kind}")

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Begin to send, or go on with other parameters (ORTC's name for it)."""
        self.start(parameters)

    def start(self, parameters: RTCRtpSendParameters) -> None:
        """Begin to send, or go on with other parameters.

        :param parameters: what the peer takes, by its payload types; the header extensions, the MID and the canonical
            name. Frames are encoded as the first of the codecs that there is an encoder for.
        """
        if self._is_stopped:
            return
        if parameters != self._parameters:
            self._parameters = parameters
            self.error = None
            formats = send_formats(parameters.codecs)
            self._encoding.set_formats(formats)
            self._pass_through.set_formats(formats)
            ids = {extension.uri: extension.id for extension in parameters.headerExtensions}
            # Without transport-wide numbers: a peer that gets them sends no REMB, and nothing here reads what it
            # sends instead.
            extensions = OutboundExtensions(
                mid=ids.get(MID_URI, 0),
                abs_send_time=ids.get(ABS_SEND_TIME_URI, 0),
                audio_level=ids.get(AUDIO_LEVEL_URI, 0),
            )
            self._stream.configure(parameters.muxId, extensions)
        if not self._is_sending:
            self._is_sending = True
            self._transport.media.add_sender(self)
            self._task = asyncio.create_task(self._run(), name=f"sender of {self.kind}")

    async def stop(self) -> None:
        """Send nothing any more, and stop the track. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._feed.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._is_sending:
            self._transport.media.remove_sender(self)
            goodbye = self._stream.goodbye(self._cname, self._now(), ntp_now())
            if goodbye is not None:
                self._transport.send_media(goodbye)
        self._stream.forget()

    def stream_stats(self) -> list[RTCOutboundRtpStreamStats | RTCRemoteInboundRtpStreamStats]:
        """The entries of ``getStats`` on what goes out, ours before the peer's."""
        stream, transport_id = self._stream, self._transport._stats_id
        now, suffix = utc_now(), f"{self._transport._stats_id}_{self._ssrc}"
        outbound = RTCOutboundRtpStreamStats(
            timestamp=now,
            type="outbound-rtp",
            id=f"outbound-rtp_{suffix}",
            ssrc=self._ssrc,
            kind=self.kind,
            transportId=transport_id,
            packetsSent=stream.packets_sent,
            bytesSent=stream.bytes_sent,
            trackId=self.track.id if self.track is not None else "",
            mid=self._parameters.muxId if self._parameters is not None else "",
            active=self._enabled,
            headerBytesSent=stream.header_bytes_sent,
            framesSent=self._frames_sent,
            retransmittedPacketsSent=stream.retransmitted_packets_sent,
            retransmittedBytesSent=stream.retransmitted_bytes_sent,
            nackCount=stream.nack_count,
            pliCount=self._keyframe_requests,
        )
        remote = stream.remote
        if remote is None:
            return [outbound]
        inbound = RTCRemoteInboundRtpStreamStats(
            timestamp=now,
            type="remote-inbound-rtp",
            id=f"remote-inbound-rtp_{suffix}",
            ssrc=self._ssrc,
            kind=self.kind,
            transportId=transport_id,
            packetsReceived=stream.packets_sent - remote.packets_lost,
            packetsLost=remote.packets_lost,
            jitter=remote.jitter,
            roundTripTime=remote.round_trip_time or 0.0,
            fractionLost=remote.fraction_lost,
            localId=outbound.id,
            totalRoundTripTime=remote.total_round_trip_time,
            roundTripTimeMeasurements=remote.round_trip_time_measurements,
        )
        outbound.remoteId = inbound.id
        return [outbound, inbound]

    # What the transport tells

    def receive_report(self, block: ReportBlock, now: float) -> None:
        """The peer reports on our source (RFC 3550 §6.4); of its reports on retransmissions there is no use."""
        if block.ssrc == self._ssrc:
            self._stream.receive_report(block, now)

    def receive_nack(self, numbers: Sequence[int], now: float) -> None:
        """The peer misses packets (RFC 4585 §6.2.1)."""
        if self.is_sending:
            for packet in self._stream.retransmit(numbers, now, ntp_now()):
                self._transport.send_media(packet)

    def receive_keyframe_request(self, now: float) -> None:
        """The peer needs a keyframe: a PLI (RFC 4585 §6.3.1) or a FIR (RFC 5104 §4.3.1) came."""
        self._keyframe_requests += 1
        self._is_keyframe_wanted = True

    def receive_bitrate(self, bits_per_second: int, now: float) -> None:
        """The peer says how much the path can carry (draft-alvestrand-rmcat-remb-03)."""
        self._encoding.set_bitrate(bits_per_second, now)

    # Inside

    @property
    def _cname(self) -> str:
        return self._parameters.rtcp.cname or "" if self._parameters is not None else ""

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        """Read the track, and send what it gives, until the feed is stopped or the transport is over."""
        while self._transport.state not in ("closed", "failed"):
            try:
                item = await self._feed.recv()
            except MediaStreamError:
                return
            now = self._now()
            # What is not sent is read all the same: it would pile up in the track.
            if self._enabled and self._transport.state == "connected":
                frames = await self._frames_of(item, now)
                if frames:
                    newest = frames[-1]
                    self._stream.note_frame(newest.timestamp, now, newest.format.clock_rate)
                for frame in frames:
                    await self._send(frame)

    async def _frames_of(self, item: Any, now: float) -> list[OutgoingFrame]:
        track = self._feed.attached
        if track is not self._reading:
            self._reading = track
            self._pass_through.begin()
        if not isinstance(item, Packet):
            return await self._encoding.encode(item, self._takes_keyframe_request(now))
        if self._takes_keyframe_request(now) and not _ask(track):
            self._pass_through.request_keyframe(now)
        try:
            frame = self._pass_through.take(item, codec_of(track, item), now)
        except CodecNotTaken as error:
            self._not_taken(track, error)
            return []
        return [frame] if frame is not None else []

    def _takes_keyframe_request(self, now: float) -> bool:
        """Whether the peer wants a keyframe, and may have one: twice a second at most."""
        if not self._is_keyframe_wanted or now - self._forced_at < KEYFRAME_INTERVAL:
            return False
        self._is_keyframe_wanted = False
        self._forced_at = now
        return True

    def _not_taken(self, track: MediaStreamTrack | None, error: CodecNotTaken) -> None:
        decode = getattr(track, "decode_instead", None)
        if callable(decode) and decode():
            return
        self.counters["packets_of_codec_not_taken"] += 1
        if self.error is None:
            self.error = error
            logger.error("%s", error)

    async def _send(self, frame: OutgoingFrame) -> None:
        """Send the packets of a frame, many of them in slices."""
        format, last = frame.format, len(frame.payloads) - 1
        is_video = self.kind == "video"
        pause = SPREAD / (len(frame.payloads) // BURST + 1)
        for index, payload in enumerate(frame.payloads):
            if index and index % BURST == 0:
                await asyncio.sleep(pause)
            # Of sound, the marker says that it begins after a silence (RFC 3551 §4.1).
            marker = index == last if is_video else self._stream.packets_sent == 0
            packet = self._stream.packet(
                payload,
                frame.timestamp,
                format.payload_type,
                self._now(),
                ntp_now(),
                marker=marker,
                audio_level=frame.audio_level,
                rtx_payload_type=format.rtx_payload_type,
            )
            self._transport.send_media(packet)
        self._frames_sent += 1
        self._payload_type = format.payload_type
        if self._timer is None:
            self._report()

    def _report(self) -> None:
        """Send a report, and the next in a second; none any more once nothing is sent."""
        self._timer = None
        if self._is_stopped or self._stream.packets_sent == self._reported_packets:
            return
        self._reported_packets = self._stream.packets_sent
        report = self._stream.sender_report(self._cname, self._now(), ntp_now())
        if report is not None:
            self._transport.send_media(report)
        delay = REPORT_INTERVAL * random.uniform(0.5, 1.5)
        self._timer = asyncio.get_running_loop().call_later(delay, self._report)


def _ask(track: MediaStreamTrack | None) -> bool:
    """Ask an encoded track for a keyframe; whether one comes soon."""
    ask = getattr(track, "request_keyframe", None)
    return callable(ask) and ask() is not False
