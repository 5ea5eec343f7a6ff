"""A WebRTC endpoint for Python that stands on its own DTLS engine.

The names are aiortc's, that is W3C's: a program written for aiortc changes one import. They are loaded when
first used, so that ``mediapeer.dtls`` alone needs nothing but ``cryptography``.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aiortc import (
        AudioStreamTrack,
        InvalidAccessError,
        InvalidStateError,
        MediaStreamError,
        MediaStreamTrack,
        RTCBundlePolicy,
        RTCCertificate,
        RTCDataChannel,
        RTCDataChannelParameters,
        RTCDtlsFingerprint,
        RTCDtlsParameters,
        RTCIceCandidate,
        RTCIceParameters,
        RTCIceServer,
        RTCIceTransportPolicy,
        RTCInboundRtpStreamStats,
        RTCOutboundRtpStreamStats,
        RTCRemoteInboundRtpStreamStats,
        RTCRemoteOutboundRtpStreamStats,
        RTCRtcpParameters,
        RTCRtpCapabilities,
        RTCRtpCodecCapability,
        RTCRtpCodecParameters,
        RTCRtpContributingSource,
        RTCRtpHeaderExtensionCapability,
        RTCRtpHeaderExtensionParameters,
        RTCRtpParameters,
        RTCRtpReceiver,
        RTCRtpSender,
        RTCRtpSynchronizationSource,
        RTCRtpTransceiver,
        RTCSctpCapabilities,
        RTCSctpTransport,
        RTCSessionDescription,
        RTCStatsReport,
        RTCTransportStats,
        VideoStreamTrack,
    )

    from mediapeer.peer import RTCConfiguration, RTCIceGatherer, RTCIceTransport, RTCPeerConnection
    from mediapeer.transport import DtlsTransport, DtlsTransportStats, RTCCertificateStats
    from mediapeer.transport import DtlsTransport as RTCDtlsTransport


__all__ = [
    "AudioStreamTrack",
    "DtlsTransport",
    "DtlsTransportStats",
    "InvalidAccessError",
    "InvalidStateError",
    "MediaStreamError",
    "MediaStreamTrack",
    "RTCBundlePolicy",
    "RTCCertificate",
    "RTCCertificateStats",
    "RTCConfiguration",
    "RTCDataChannel",
    "RTCDataChannelParameters",
    "RTCDtlsFingerprint",
    "RTCDtlsParameters",
    "RTCDtlsTransport",
    "RTCIceCandidate",
    "RTCIceGatherer",
    "RTCIceParameters",
    "RTCIceServer",
    "RTCIceTransport",
    "RTCIceTransportPolicy",
    "RTCInboundRtpStreamStats",
    "RTCOutboundRtpStreamStats",
    "RTCPeerConnection",
    "RTCRemoteInboundRtpStreamStats",
    "RTCRemoteOutboundRtpStreamStats",
    "RTCRtcpParameters",
    "RTCRtpCapabilities",
    "RTCRtpCodecCapability",
    "RTCRtpCodecParameters",
    "RTCRtpContributingSource",
    "RTCRtpHeaderExtensionCapability",
    "RTCRtpHeaderExtensionParameters",
    "RTCRtpParameters",
    "RTCRtpReceiver",
    "RTCRtpSender",
    "RTCRtpSynchronizationSource",
    "RTCRtpTransceiver",
    "RTCSctpCapabilities",
    "RTCSctpTransport",
    "RTCSessionDescription",
    "RTCStatsReport",
    "RTCTransportStats",
    "VideoStreamTrack",
]

#: The module of each name that is ours, and what it is called there; all others are aiortc's as they are.
_OURS = {
    "DtlsTransport": ("mediapeer.transport", "DtlsTransport"),
    "DtlsTransportStats": ("mediapeer.transport", "DtlsTransportStats"),
    "RTCCertificateStats": ("mediapeer.transport", "RTCCertificateStats"),
    "RTCConfiguration": ("mediapeer.peer", "RTCConfiguration"),
    "RTCDtlsTransport": ("mediapeer.transport", "DtlsTransport"),
    "RTCIceGatherer": ("mediapeer.peer", "RTCIceGatherer"),
    "RTCIceTransport": ("mediapeer.peer", "RTCIceTransport"),
    "RTCPeerConnection": ("mediapeer.peer", "RTCPeerConnection"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _OURS.get(name, ("aiortc", name))
    value: object = getattr(importlib.import_module(module), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
