"""From ICE to RTP and SCTP: DTLS, SRTP, and the demultiplexer between them (RFC 5764, RFC 7983)."""

from mediapeer.transport.dtls_transport import DatagramPath, DtlsTransport
from mediapeer.transport.emitter import GuardedEmitter
from mediapeer.transport.feedback import MediaSender
from mediapeer.transport.media import MediaPath
from mediapeer.transport.routes import FrameReceiver, SectionRoutes
from mediapeer.transport.stats import DtlsTransportStats, RTCCertificateStats

__all__ = [
    "DatagramPath",
    "DtlsTransport",
    "DtlsTransportStats",
    "FrameReceiver",
    "GuardedEmitter",
    "MediaPath",
    "MediaSender",
    "RTCCertificateStats",
    "SectionRoutes",
]
