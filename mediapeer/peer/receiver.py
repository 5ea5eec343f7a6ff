"""``RTCRtpReceiver``: takes the encoded frames of a media section from the transport, and gives them to its track."""

import asyncio
import datetime

from aiortc.exceptions import InvalidStateError
from aiortc.rtcrtpparameters import RTCRtpCapabilities
from aiortc.rtcrtpreceiver import RTCRtpContributingSource, RTCRtpSynchronizationSource
from aiortc.stats import RTCStatsReport

from mediapeer.peer.codecs import CodecRegistry
from mediapeer.peer.decoding import FrameCounts
from mediapeer.peer.inbound import add_inbound
from mediapeer.peer.track import RemoteTrack
from mediapeer.rtp import EncodedFrame, InboundStream, RepairCounts
from mediapeer.rtp.router import SECTION_SOURCES
from mediapeer.transport import DtlsTransport
from mediapeer.transport.stats import utc_now

#: How long a source counts as one that is heard (W3C webrtc §5.3, ``getSynchronizationSources``), in seconds.
SOURCE_SECONDS = 10.0


class RTCRtpReceiver:
    """Receives one track (W3C webrtc §5.3).

    The transport orders packets, asks for those that are missing, and makes frames of them; here they are given to
    whoever takes the track. Nothing is made before there are any.

    :param kind: ``audio`` or ``video``.
    :param transport: the DTLS transport.
    :raises InvalidStateError: when the transport is closed.
    """

    def __init__(self, kind: str, transport: DtlsTransport) -> None:
        if transport.state == "closed":
            raise InvalidStateError
        self.kind = kind
        "``audio`` or ``video``."
        self.mid: str | None = None
        "The media section that it receives, once there is one."
        self._enabled = True
        self._transport = transport
        self._is_stopped = False
        self._cname: str | None = None
        self._counts = RepairCounts()
        self._frame_counts: dict[int, FrameCounts] = {}
        self._track = RemoteTrack(kind, self)

    @property
    def track(self) -> RemoteTrack:
        """What is received."""
        return self._track

    @property
    def transport(self) -> DtlsTransport:
        """The DTLS transport it is carried by."""
        return self._transport

    def use_transport(self, transport: DtlsTransport) -> None:
        """Be carried by another transport from now on."""
        self._transport = transport

    def set_track_id(self, track_id: str) -> None:
        """Give the track the id that the other side calls it by, while nobody has seen it yet."""
        if track_id != self._track.id:
            self._track._id = track_id

    @classmethod
    def getCapabilities(cls, kind: str) -> RTCRtpCapabilities:
        """The codecs and header extensions that can be received (W3C webrtc §5.3).

        :raises ValueError: for a kind that is neither ``audio`` nor ``video``.
        """
        return CodecRegistry().capabilities(kind, "recvonly")

    # What the transport sees

    @property
    def is_wanted(self) -> bool:
        """Whether anybody takes the track, so that packets are worth ordering."""
        # Asked for every packet: as few calls as can be.
        return bool(self._track._subscriptions)

    def take_frame(self, frame: EncodedFrame) -> None:
        """Give a frame to all who take the track."""
        if self._enabled and not self._is_stopped:
            counts = self._frame_counts.get(frame.ssrc) or self.counts_of(frame.ssrc)
            counts.frames_received += 1
            self._track._take_frame(frame)

    def handle_disconnect(self) -> None:
        """Nothing more comes over the transport: the track ends."""
        self.keep_counts()
        self._track._end()

    # What the track sees

    @property
    def counts(self) -> RepairCounts:
        """What became of the packets of the track, of all its sources together."""
        self.keep_counts()
        return self._counts

    @property
    def cname(self) -> str | None:
        """The canonical name that the sender gave (RFC 3550 §6.5.1), once it did."""
        if self._cname is None and self.mid is not None and not self._is_stopped:
            # Asked for every frame, also of a peer that gives none: of all sources only that one is looked at.
            selected = self._transport.media.selected_stream(self.mid)
            self._cname = None if selected is None else selected.cname
        return self._cname

    def counts_of(self, ssrc: int) -> FrameCounts:
        """What became of the frames of a source."""
        counts = self._frame_counts.get(ssrc)
        if counts is None:
            if len(self._frame_counts) >= SECTION_SOURCES:
                del self._frame_counts[next(iter(self._frame_counts))]
            counts = self._frame_counts[ssrc] = FrameCounts()
        return counts

    def count(self, reason: str) -> None:
        """Count what was dropped with the transport."""
        self._transport.count(reason)

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe; the transport does so twice a second at most."""
        if self.mid is not None and not self._is_stopped:
            self._transport.media.request_keyframe(self.mid)

    def streams(self) -> list[InboundStream]:
        """The sources of the track that were heard, without those of retransmissions."""
        if self.mid is None or self._is_stopped:
            return []
        return [s for s in self._transport.media.streams() if s.mid == self.mid and not s.is_retransmission]

    def keep_counts(self) -> None:
        """Keep what the transport forgets when the section ends."""
        if self.mid is None or self._is_stopped:
            return
        counts = self._transport.media.counts(self.mid)
        if counts.received >= self._counts.received:
            self._counts = counts
        selected = self._transport.media.selected_stream(self.mid)
        for stream in (selected, *self.streams()):
            if stream is not None and stream.cname is not None:
                self._cname = stream.cname
                return

    # What a program sees

    def getSynchronizationSources(self) -> list[RTCRtpSynchronizationSource]:
        """The sources that were heard in the last ten seconds (W3C webrtc §5.3)."""
        now, today = asyncio.get_running_loop().time(), utc_now()
        return [
            RTCRtpSynchronizationSource(today - datetime.timedelta(seconds=now - s.last_arrival), s.ssrc)
            for s in self.streams()
            if s.last_arrival is not None and now - s.last_arrival < SOURCE_SECONDS
        ]

    def getContributingSources(self) -> list[RTCRtpContributingSource]:
        """None: what a mixer tells of its own sources (CSRC, RFC 3550 §5.1) is not kept."""
        return []

    async def getStats(self) -> RTCStatsReport:
        """Statistics of the sources of the track, and of the transport."""
        report = RTCStatsReport()
        now = utc_now()
        for stream in self.streams():
            add_inbound(
                report,
                stream,
                kind=self.kind,
                track_id=self._track.id,
                transport_id=self._transport._stats_id,
                frames=self.counts_of(stream.ssrc),
                counts=self.counts,
                codec_id=None,
                now=now,
            )
        report.update(self._transport._get_stats())
        return report

    async def stop(self) -> None:
        """Receive nothing any more, and end the track. Idempotent."""
        if self._is_stopped:
            return
        self.keep_counts()
        self._is_stopped = True
        self._track._end()
