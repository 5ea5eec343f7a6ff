"""The DTLS engine: sans-IO, in the roles of client and server. See :class:`DtlsConnection`."""

from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.connection import DtlsConnection
from mediapeer.dtls.credentials import (
    AcceptAnyPeer,
    Fingerprint,
    FingerprintVerifier,
    PeerVerifier,
    X509Credentials,
    fingerprint,
)
from mediapeer.dtls.errors import (
    AlertReceived,
    CertificateRejected,
    ConfigurationError,
    DecodeError,
    DtlsError,
    HandshakeTimeout,
    NegotiationFailed,
    NotConnected,
    PeerMisbehaved,
    SequenceNumbersExhausted,
)
from mediapeer.dtls.events import (
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeCompleted,
)
from mediapeer.dtls.listener import StatelessListener
from mediapeer.dtls.registry import (
    AlertDescription,
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
    SrtpProtectionProfile,
)

__all__ = [
    "AcceptAnyPeer",
    "AlertDescription",
    "AlertReceived",
    "ApplicationData",
    "CertificateRejected",
    "CipherSuite",
    "ClientAuthentication",
    "ConfigurationError",
    "ConnectionClosed",
    "ConnectionFailed",
    "DecodeError",
    "DtlsConfiguration",
    "DtlsConnection",
    "DtlsError",
    "Event",
    "Fingerprint",
    "FingerprintVerifier",
    "HandshakeCompleted",
    "HandshakeTimeout",
    "NamedGroup",
    "NegotiationFailed",
    "NotConnected",
    "PeerMisbehaved",
    "PeerVerifier",
    "ProtocolVersion",
    "Role",
    "SequenceNumbersExhausted",
    "SignatureScheme",
    "SrtpProtectionProfile",
    "StatelessListener",
    "X509Credentials",
    "fingerprint",
]
