"""Collects what ``getStats()`` tells of a connection."""

import datetime
from collections.abc import Iterable

import aiortc
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.stats import RTCRemoteInboundRtpStreamStats as AiortcRemoteInbound
from aiortc.stats import RTCStats, RTCStatsReport

from mediapeer.ice import Candidate, CandidatePair
from mediapeer.peer.assembly import Assembly
from mediapeer.peer.path import Path
from mediapeer.peer.rtp import RTCRtpTransceiver
from mediapeer.peer.stats import (
    RTCCodecStats,
    RTCDataChannelStats,
    RTCIceCandidatePairStats,
    RTCIceCandidateStats,
    RTCInboundRtpStreamStats,
    RTCOutboundRtpStreamStats,
    RTCPeerConnectionStats,
    RTCRemoteInboundRtpStreamStats,
    RTCRemoteOutboundRtpStreamStats,
)
from mediapeer.rtp import InboundStream
from mediapeer.transport.stats import DtlsTransportStats, utc_now

#: From NTP's era to the wall clock's: 1900 to 1970, in seconds.
_NTP_EPOCH = 2_208_988_800


async def collect_stats(assembly: Assembly) -> RTCStatsReport:
    """Statistics of a connection and all its parts."""
    report = RTCStatsReport()
    now = utc_now()
    sctp = assembly.sctp
    opened, closed = (0, 0) if sctp is None else (sctp.opened, sctp.closed)
    report.add(RTCPeerConnectionStats(now, "peer-connection", "peer-connection", opened, closed))
    for path in assembly.paths:
        _add_path(report, path, now)
    for transceiver in assembly.negotiation.transceivers:
        if (
            isinstance(transceiver, RTCRtpTransceiver)
            and transceiver.mid is not None
            and not transceiver.stopped
        ):
            await _add_outbound(report, transceiver, now)
            for stream in transceiver.receiver.transport.media.streams():
                if stream.mid == transceiver.mid and not stream.is_retransmission:
                    _add_inbound(report, transceiver, stream, now)
    _add_channels(report, assembly, now)
    return report


def _add_path(report: RTCStatsReport, path: Path, now: datetime.datetime) -> None:
    entries = path.dtls._get_stats()
    report.update(entries)
    transport = next(entry for entry in entries.values() if isinstance(entry, DtlsTransportStats))
    transport.iceState = path.rtc_ice.state
    transport.iceLocalUsernameFragment = path.ice.local_parameters.username_fragment
    for candidate in path.ice.local_candidates:
        report.add(_candidate_stats("local-candidate", candidate, transport.id, now))
    for candidate in path.ice.remote_candidates:
        report.add(_candidate_stats("remote-candidate", candidate, transport.id, now))
    selected = path.ice.selected_pair
    for pair in path.ice.pairs():
        entry = _pair_stats(pair, transport.id, now)
        for kind, candidate in (("local-candidate", pair.local), ("remote-candidate", pair.remote)):
            if _candidate_id(kind, candidate, transport.id) not in report:
                report.add(_candidate_stats(kind, candidate, transport.id, now))
        report.add(entry)
        if pair is selected:
            transport.selectedCandidatePairId = entry.id


def _candidate_id(kind: str, candidate: Candidate, transport_id: str) -> str:
    return f"{kind}_{transport_id}_{candidate.transport}_{candidate.host}_{candidate.port}_{candidate.type}"


def _candidate_stats(
    kind: str, candidate: Candidate, transport_id: str, now: datetime.datetime
) -> RTCIceCandidateStats:
    return RTCIceCandidateStats(
        timestamp=now,
        type=kind,
        id=_candidate_id(kind, candidate, transport_id),
        transportId=transport_id,
        address=candidate.host,
        port=candidate.port,
        protocol=candidate.transport,
        candidateType=candidate.type,
        priority=candidate.priority,
        foundation=candidate.foundation,
        relatedAddress=candidate.related_address,
        relatedPort=candidate.related_port,
        tcpType=candidate.tcp_type,
    )


def _pair_stats(pair: CandidatePair, transport_id: str, now: datetime.datetime) -> RTCIceCandidatePairStats:
    local = _candidate_id("local-candidate", pair.local, transport_id)
    remote = _candidate_id("remote-candidate", pair.remote, transport_id)
    return RTCIceCandidatePairStats(
        timestamp=now,
        type="candidate-pair",
        id=f"candidate-pair_{local}_{remote}",
        transportId=transport_id,
        localCandidateId=local,
        remoteCandidateId=remote,
        state=pair.state.value,
        nominated=pair.nominated,
        packetsSent=pair.packets_sent,
        packetsReceived=pair.packets_received,
        bytesSent=pair.bytes_sent,
        bytesReceived=pair.bytes_received,
        currentRoundTripTime=pair.round_trip_time,
        totalRoundTripTime=pair.total_round_trip_time,
        requestsSent=pair.requests_sent,
        requestsReceived=pair.requests_received,
        responsesSent=pair.responses_sent,
        responsesReceived=pair.responses_received,
        consentRequestsSent=pair.consent_requests_sent,
        packetsDiscardedOnSend=pair.packets_discarded_on_send,
        bytesDiscardedOnSend=pair.bytes_discarded_on_send,
    )


def _add_codec(
    report: RTCStatsReport,
    codecs: Iterable[RTCRtpCodecParameters],
    payload_type: int | None,
    transport_id: str,
    now: datetime.datetime,
) -> str | None:
    """Add the codec of a payload type; its id, or ``None`` when there is none of that number."""
    codec = next((codec for codec in codecs if codec.payloadType == payload_type), None)
    if codec is None or codec.payloadType is None:
        return None
    parameters = ";".join(
        name if value is None else f"{name}={value}" for name, value in codec.parameters.items()
    )
    entry = RTCCodecStats(
        timestamp=now,
        type="codec",
        id=f"codec_{transport_id}_{codec.payloadType}",
        payloadType=codec.payloadType,
        transportId=transport_id,
        mimeType=codec.mimeType,
        clockRate=codec.clockRate,
        channels=codec.channels,
        sdpFmtpLine=parameters or None,
    )
    report.add(entry)
    return entry.id


def _add_inbound(
    report: RTCStatsReport, transceiver: RTCRtpTransceiver, stream: InboundStream, now: datetime.datetime
) -> None:
    transport_id = transceiver.receiver.transport._stats_id
    entry = RTCInboundRtpStreamStats(
        timestamp=now,
        type="inbound-rtp",
        id=f"inbound-rtp_{transport_id}_{stream.ssrc}",
        ssrc=stream.ssrc,
        kind=transceiver.kind,
        transportId=transport_id,
        packetsReceived=stream.packets_received,
        packetsLost=stream.packets_lost,
        jitter=int(stream.jitter_units),
        mid=stream.mid,
        trackIdentifier=transceiver.receiver.track.id,
        rid=stream.rid,
        codecId=_add_codec(
            report, transceiver.negotiated.receive_codecs, stream.payload_type, transport_id, now
        ),
        bytesReceived=stream.bytes_received,
        headerBytesReceived=stream.header_bytes_received,
        retransmittedPacketsReceived=stream.retransmitted_packets_received,
        nackCount=stream.nack_count,
        pliCount=stream.pli_count,
        lastPacketReceivedTimestamp=stream.last_arrival,
    )
    report.add(entry)
    if stream.remote_ntp_timestamp is not None:
        remote = RTCRemoteOutboundRtpStreamStats(
            timestamp=now,
            type="remote-outbound-rtp",
            id=f"remote-outbound-rtp_{transport_id}_{stream.ssrc}",
            ssrc=stream.ssrc,
            kind=transceiver.kind,
            transportId=transport_id,
            packetsSent=stream.remote_packets_sent or 0,
            bytesSent=stream.remote_bytes_sent or 0,
            remoteTimestamp=_wall_clock(stream.remote_ntp_timestamp),
            localId=entry.id,
        )
        entry.remoteId = remote.id
        report.add(remote)


async def _add_outbound(
    report: RTCStatsReport, transceiver: RTCRtpTransceiver, now: datetime.datetime
) -> None:
    sender = transceiver.sender
    if not sender.is_sending:
        return
    transport_id = sender.transport._stats_id
    of_aiortc = await sender.getStats()
    codecs = transceiver.negotiated.send_codecs
    # Our own view comes before the other side's, which refers to it.
    for plain in sorted(of_aiortc.values(), key=lambda entry: isinstance(entry, AiortcRemoteInbound)):
        if isinstance(plain, aiortc.RTCOutboundRtpStreamStats):
            codec = _add_codec(report, codecs, codecs[0].payloadType if codecs else None, transport_id, now)
            report.add(
                RTCOutboundRtpStreamStats(
                    timestamp=now,
                    type="outbound-rtp",
                    id=f"outbound-rtp_{transport_id}_{plain.ssrc}",
                    ssrc=plain.ssrc,
                    kind=plain.kind,
                    transportId=transport_id,
                    packetsSent=plain.packetsSent,
                    bytesSent=plain.bytesSent,
                    trackId=sender.track.id if sender.track is not None else "",
                    mid=transceiver.mid or "",
                    codecId=codec,
                    active=sender._enabled,
                )
            )
        elif isinstance(plain, AiortcRemoteInbound):
            _add_remote_inbound(report, plain, sender._ssrc, transport_id)


def _add_remote_inbound(
    report: RTCStatsReport, plain: AiortcRemoteInbound, ssrc: int, transport_id: str
) -> None:
    entry = RTCRemoteInboundRtpStreamStats(
        timestamp=plain.timestamp,
        type=plain.type,
        id=f"remote-inbound-rtp_{transport_id}_{ssrc}",
        ssrc=ssrc,
        kind=plain.kind,
        transportId=transport_id,
        packetsReceived=plain.packetsReceived,
        packetsLost=plain.packetsLost,
        jitter=plain.jitter,
        roundTripTime=plain.roundTripTime,
        fractionLost=plain.fractionLost,
        localId=f"outbound-rtp_{transport_id}_{ssrc}",
    )
    report.add(entry)
    local: RTCStats | None = report.get(entry.localId)
    if isinstance(local, RTCOutboundRtpStreamStats):
        local.remoteId = entry.id


def _add_channels(report: RTCStatsReport, assembly: Assembly, now: datetime.datetime) -> None:
    if assembly.sctp is None:
        return
    for number, channel in enumerate(assembly.sctp.channels):
        counts = assembly.sctp.counts(channel)
        report.add(
            RTCDataChannelStats(
                timestamp=now,
                type="data-channel",
                id=f"data-channel_{id(assembly.sctp)}_{number}",
                label=channel.label,
                protocol=channel.protocol,
                dataChannelIdentifier=channel.id,
                state=channel.readyState,
                messagesSent=counts["messages_sent"],
                bytesSent=counts["bytes_sent"],
                messagesReceived=counts["messages_received"],
                bytesReceived=counts["bytes_received"],
            )
        )


def _wall_clock(ntp_timestamp: int) -> datetime.datetime:
    seconds = ntp_timestamp / 2**32 - _NTP_EPOCH
    return datetime.datetime.fromtimestamp(max(seconds, 0.0), datetime.UTC)
