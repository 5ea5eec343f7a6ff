"""What ``getStats()`` tells of a stream that comes in."""

import datetime

from aiortc.stats import RTCStatsReport

from mediapeer.peer.decoding import FrameCounts
from mediapeer.peer.stats import RTCInboundRtpStreamStats, RTCRemoteOutboundRtpStreamStats
from mediapeer.rtp import InboundStream, RepairCounts

#: From NTP's era to the wall clock's: 1900 to 1970, in seconds.
_NTP_EPOCH = 2_208_988_800


def add_inbound(
    report: RTCStatsReport,
    stream: InboundStream,
    *,
    kind: str,
    track_id: str,
    transport_id: str,
    frames: FrameCounts,
    counts: RepairCounts,
    codec_id: str | None,
    now: datetime.datetime,
) -> None:
    """Add what is known of a stream, and what the other side says of it in its sender reports.

    :param frames: what became of its frames.
    :param counts: what became of the packets of the track.
    """
    entry = RTCInboundRtpStreamStats(
        timestamp=now,
        type="inbound-rtp",
        id=f"inbound-rtp_{transport_id}_{stream.ssrc}",
        ssrc=stream.ssrc,
        kind=kind,
        transportId=transport_id,
        packetsReceived=stream.packets_received,
        packetsLost=stream.packets_lost,
        jitter=int(stream.jitter_units),
        mid=stream.mid,
        trackIdentifier=track_id,
        rid=stream.rid,
        codecId=codec_id,
        bytesReceived=stream.bytes_received,
        headerBytesReceived=stream.header_bytes_received,
        retransmittedPacketsReceived=stream.retransmitted_packets_received,
        retransmittedBytesReceived=stream.retransmitted_bytes_received,
        nackCount=stream.nack_count,
        pliCount=stream.pli_count,
        lastPacketReceivedTimestamp=stream.last_arrival,
        firCount=stream.fir_count,
        packetsRepaired=counts.repaired,
        packetsGivenUp=counts.given_up,
        framesReceived=frames.frames_received,
        framesDecoded=frames.frames_decoded,
        keyFramesDecoded=frames.key_frames_decoded,
        framesDropped=frames.frames_dropped,
        frameWidth=frames.frame_width,
        frameHeight=frames.frame_height,
    )
    report.add(entry)
    _add_remote(report, stream, entry, now)


def _add_remote(
    report: RTCStatsReport, stream: InboundStream, entry: RTCInboundRtpStreamStats, now: datetime.datetime
) -> None:
    if stream.remote_ntp_timestamp is None:
        return
    remote = RTCRemoteOutboundRtpStreamStats(
        timestamp=now,
        type="remote-outbound-rtp",
        id=f"remote-outbound-rtp_{entry.transportId}_{stream.ssrc}",
        ssrc=stream.ssrc,
        kind=entry.kind,
        transportId=entry.transportId,
        packetsSent=stream.remote_packets_sent or 0,
        bytesSent=stream.remote_bytes_sent or 0,
        remoteTimestamp=_wall_clock(stream.remote_ntp_timestamp),
        localId=entry.id,
    )
    entry.remoteId = remote.id
    report.add(remote)


def _wall_clock(ntp_timestamp: int) -> datetime.datetime:
    seconds = ntp_timestamp / 2**32 - _NTP_EPOCH
    return datetime.datetime.fromtimestamp(max(seconds, 0.0), datetime.UTC)
