"""The DTLS engine: sans-IO, in the roles of client and server. See :class:`DtlsConnection`."""

from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.connection import DtlsConnection
from mediapeer.dtls.credentials import (
    AcceptAnyPeer,
    Credentials,
    Fingerprint,
    FingerprintVerifier,
    PeerVerifier,
    RawPublicKeyCredentials,
    RawPublicKeyPolicy,
    RawPublicKeyVerifier,
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
    SessionEstablished,
)
from mediapeer.dtls.listener import StatelessListener
from mediapeer.dtls.psk import ImportedPreSharedKey, PreSharedKey
from mediapeer.dtls.registry import (
    AlertDescription,
    CertificateType,
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
    SrtpProtectionProfile,
)
from mediapeer.dtls.session import Session
from mediapeer.dtls.tickets import OpenedTicket, SessionCache, TicketKeys, TicketProtector
from mediapeer.dtls.verification import X509Verifier

__all__ = [
    "AcceptAnyPeer",
    "AlertDescription",
    "AlertReceived",
    "ApplicationData",
    "CertificateRejected",
    "CertificateType",
    "CipherSuite",
    "ClientAuthentication",
    "ConfigurationError",
    "ConnectionClosed",
    "ConnectionFailed",
    "Credentials",
    "DecodeError",
    "DtlsConfiguration",
    "DtlsConnection",
    "DtlsError",
    "Event",
    "Fingerprint",
    "FingerprintVerifier",
    "HandshakeCompleted",
    "HandshakeTimeout",
    "ImportedPreSharedKey",
    "NamedGroup",
    "NegotiationFailed",
    "NotConnected",
    "OpenedTicket",
    "PeerMisbehaved",
    "PeerVerifier",
    "PreSharedKey",
    "ProtocolVersion",
    "RawPublicKeyCredentials",
    "RawPublicKeyPolicy",
    "RawPublicKeyVerifier",
    "Role",
    "SequenceNumbersExhausted",
    "Session",
    "SessionCache",
    "SessionEstablished",
    "SignatureScheme",
    "SrtpProtectionProfile",
    "StatelessListener",
    "TicketKeys",
    "TicketProtector",
    "X509Credentials",
    "X509Verifier",
    "fingerprint",
]
