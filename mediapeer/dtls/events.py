"""What :meth:`DtlsConnection.next_event` hands out."""

from dataclasses import dataclass

from mediapeer.dtls.errors import DtlsError
from mediapeer.dtls.registry import CipherSuite, NamedGroup, ProtocolVersion, SrtpProtectionProfile


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """The peer is authenticated and the keys are in place: data may flow, and keys may be exported."""

    version: ProtocolVersion
    "The version that was negotiated."
    cipher_suite: CipherSuite
    "The suite that protects records."
    group: NamedGroup
    "The group of the key exchange."
    srtp_profile: SrtpProtectionProfile | None
    "The SRTP protection profile of use_srtp, or ``None`` when none was negotiated (RFC 5764 §4.1)."
    alpn_protocol: bytes | None
    "The application protocol, or ``None`` when none was negotiated (RFC 7301)."


@dataclass(frozen=True, slots=True)
class ApplicationData:
    """The plaintext of one record of the peer. Records keep their boundaries, and may come out of order."""

    data: bytes
    "The bytes, 0 to 16,384 of them."


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The association ended in good order: the peer sent close_notify. No further event follows."""


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """The association ended in an error. No further event follows, and nothing can be exported."""

    error: DtlsError
    "Why, with the alert that was sent or received."


Event = HandshakeCompleted | ApplicationData | ConnectionClosed | ConnectionFailed
