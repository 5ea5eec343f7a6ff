"""A call as JSON: its state, what its handshake negotiated, and its statistics."""

import dataclasses
import datetime
from typing import Any

from mediapeer import DtlsTransportStats, RTCCertificateStats, RTCStatsReport
from signaling.call import Call

#: The versions as people write them, by their number on the wire in hexadecimal.
_VERSIONS = {"FEFD": "DTLS 1.2", "FEFC": "DTLS 1.3"}


async def describe_call(call: Call) -> dict[str, Any]:
    """What ``GET /api/calls/{id}`` answers. Times are in UTC, durations in seconds."""
    report = await call.peer_connection.getStats()
    since = call.connected_at
    return {
        "id": call.id,
        "state": call.state.value,
        "direction": call.direction,
        "reason": call.reason,
        "created": call.created_at.isoformat(),
        "connected": since.isoformat() if since else None,
        "duration": (datetime.datetime.now(datetime.UTC) - since).total_seconds() if since else 0.0,
        "security": describe_security(report),
        "recording": call.recording.describe() if call.recording else None,
        "statistics": [_as_json(entry) for entry in report.values()],
    }


def describe_security(report: RTCStatsReport) -> dict[str, Any] | None:
    """What the handshake negotiated, or ``None`` before there is a transport."""
    transport = next((entry for entry in report.values() if isinstance(entry, DtlsTransportStats)), None)
    if transport is None:
        return None
    return {
        "dtlsState": transport.dtlsState,
        "dtlsRole": transport.dtlsRole,
        "dtlsVersion": _VERSIONS.get(transport.tlsVersion, transport.tlsVersion) or None,
        "cipherSuite": transport.dtlsCipher or None,
        "group": transport.tlsGroup or None,
        "srtpProfile": transport.srtpCipher or None,
        "localFingerprint": _fingerprint(report, transport.localCertificateId),
        "remoteFingerprint": _fingerprint(report, transport.remoteCertificateId),
        "handshakeDuration": transport.handshakeDuration,
        "retransmissions": transport.retransmissions,
        "datagramsDropped": transport.datagramsDropped,
    }


def _fingerprint(report: RTCStatsReport, certificate_id: str) -> str | None:
    entry = report.get(certificate_id)
    if not isinstance(entry, RTCCertificateStats):
        return None
    return f"{entry.fingerprintAlgorithm} {entry.fingerprint}"


def _as_json(entry: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(entry)
    return {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value
        for name, value in fields.items()
    }
