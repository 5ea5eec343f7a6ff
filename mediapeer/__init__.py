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
        RTCDataChannel,
        RTCDataChannelParameters,
        RTCDtlsFingerprint,
        RTCDtlsParameters,
        RTCIceParameters,
        RTCIceServer,
        RTCIceTransportPolicy,
        RTCRtcpParameters,
        RTCRtpCapabilities,
        RTCRtpCodecCapability,
        RTCRtpCodecParameters,
        RTCRtpContributingSource,
        RTCRtpHeaderExtensionCapability,
        RTCRtpHeaderExtensionParameters,
        RTCRtpParameters,
        RTCRtpSynchronizationSource,
        RTCSctpCapabilities,
        RTCSessionDescription,
        RTCStatsReport,
        RTCTransportStats,
        VideoStreamTrack,
    )

    from mediapeer.ice import UdpMux
    from mediapeer.peer import (
        CertificateRotation,
        InvalidModificationError,
        RemoteTrack,
        RTCCertificate,
        RTCConfiguration,
        RTCIceCandidate,
        RTCIceGatherer,
        RTCIceTransport,
        RTCPeerConnection,
        RTCRtpReceiver,
        RTCRtpSender,
        RTCRtpTransceiver,
        RTCSctpTransport,
    )
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
    from mediapeer.rtp import EncodedFrame, EncodedTrack, FrameConsumer, FrameSubscription, RepairCounts
    from mediapeer.transport import DtlsTransport, DtlsTransportStats, RTCCertificateStats
    from mediapeer.transport import DtlsTransport as RTCDtlsTransport


__all__ = [
    "AudioStreamTrack",
    "CertificateRotation",
    "DtlsTransport",
    "DtlsTransportStats",
    "EncodedFrame",
    "EncodedTrack",
    "FrameConsumer",
    "FrameSubscription",
    "InvalidAccessError",
    "InvalidModificationError",
    "InvalidStateError",
    "MediaStreamError",
    "MediaStreamTrack",
    "RTCBundlePolicy",
    "RTCCertificate",
    "RTCCertificateStats",
    "RTCCodecStats",
    "RTCConfiguration",
    "RTCDataChannel",
    "RTCDataChannelParameters",
    "RTCDataChannelStats",
    "RTCDtlsFingerprint",
    "RTCDtlsParameters",
    "RTCDtlsTransport",
    "RTCIceCandidate",
    "RTCIceCandidatePairStats",
    "RTCIceCandidateStats",
    "RTCIceGatherer",
    "RTCIceParameters",
    "RTCIceServer",
    "RTCIceTransport",
    "RTCIceTransportPolicy",
    "RTCInboundRtpStreamStats",
    "RTCOutboundRtpStreamStats",
    "RTCPeerConnection",
    "RTCPeerConnectionStats",
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
    "RemoteTrack",
    "RepairCounts",
    "UdpMux",
    "VideoStreamTrack",
]

#: The names that are ours by the module they come from; all others are aiortc's as they are.
_MODULES = {
    "mediapeer.ice": ("UdpMux",),
    "mediapeer.peer": (
        "CertificateRotation",
        "InvalidModificationError",
        "RTCCertificate",
        "RTCConfiguration",
        "RTCIceCandidate",
        "RTCIceGatherer",
        "RTCIceTransport",
        "RTCPeerConnection",
        "RTCRtpReceiver",
        "RTCRtpSender",
        "RTCRtpTransceiver",
        "RTCSctpTransport",
        "RemoteTrack",
    ),
    "mediapeer.peer.stats": (
        "RTCCodecStats",
        "RTCDataChannelStats",
        "RTCIceCandidatePairStats",
        "RTCIceCandidateStats",
        "RTCInboundRtpStreamStats",
        "RTCOutboundRtpStreamStats",
        "RTCPeerConnectionStats",
        "RTCRemoteInboundRtpStreamStats",
        "RTCRemoteOutboundRtpStreamStats",
    ),
    "mediapeer.rtp": (
        "EncodedFrame",
        "EncodedTrack",
        "FrameConsumer",
        "FrameSubscription",
        "RepairCounts",
    ),
    "mediapeer.transport": ("DtlsTransport", "DtlsTransportStats", "RTCCertificateStats"),
}
_OURS = {name: (module, name) for module, names in _MODULES.items() for name in names}
_OURS["RTCDtlsTransport"] = ("mediapeer.transport", "DtlsTransport")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _OURS.get(name, ("aiortc", name))
    value: object = getattr(importlib.import_module(module), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
