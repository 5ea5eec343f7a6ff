"""Collects what ``getStats()`` tells of a connection."""

import datetime
from collections.abc import Iterable

from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.stats import RTCStatsReport

from mediapeer.ice import Candidate, CandidatePair
from mediapeer.peer.assembly import Assembly
from mediapeer.peer.inbound import add_inbound
from mediapeer.peer.path import Path
from mediapeer.peer.rtp import RTCRtpTransceiver
from mediapeer.peer.stats import (
    RTCCodecStats,
    RTCDataChannelStats,
    RTCIceCandidatePairStats,
    RTCIceCandidateStats,
    RTCOutboundRtpStreamStats,
    RTCPeerConnectionStats,
)
from mediapeer.rtp import InboundStream
from mediapeer.transport.stats import DtlsTransportStats, utc_now


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
            _add_outbound(report, transceiver, now)
            for stream in transceiver.receiver.streams():
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
    receiver = transceiver.receiver
    transport_id = receiver.transport._stats_id
    codecs = transceiver.negotiated.receive_codecs
    add_inbound(
        report,
        stream,
        kind=transceiver.kind,
        track_id=receiver.track.id,
        transport_id=transport_id,
        frames=receiver.counts_of(stream.ssrc),
        counts=receiver.counts,
        codec_id=_add_codec(report, codecs, stream.payload_type, transport_id, now),
        now=now,
    )


def _add_outbound(report: RTCStatsReport, transceiver: RTCRtpTransceiver, now: datetime.datetime) -> None:
    sender = transceiver.sender
    if not sender.is_sending:
        return
    codecs = transceiver.negotiated.send_codecs
    for entry in sender.stream_stats():
        if isinstance(entry, RTCOutboundRtpStreamStats):
            entry.codecId = _add_codec(report, codecs, sender.payload_type, entry.transportId, now)
        report.add(entry)


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
