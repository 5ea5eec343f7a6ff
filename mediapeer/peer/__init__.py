"""The peer connection: negotiation, and what it negotiates put into effect."""

from mediapeer.peer.certificate import CertificateRotation, RTCCertificate
from mediapeer.peer.configuration import InvalidModificationError, RTCConfiguration
from mediapeer.peer.connection import RTCPeerConnection
from mediapeer.peer.data import RTCSctpTransport
from mediapeer.peer.ice import RTCIceCandidate, RTCIceGatherer, RTCIceTransport
from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.peer.rtp import RTCRtpTransceiver
from mediapeer.peer.sender import RTCRtpSender
from mediapeer.peer.track import RemoteTrack

__all__ = [
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
]
