"""What :meth:`DtlsConnection.next_event` hands out."""

from dataclasses import dataclass

from mediapeer.dtls.errors import DtlsError
from mediapeer.dtls.registry import CipherSuite, NamedGroup, ProtocolVersion, SrtpProtectionProfile
from mediapeer.dtls.session import Session


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """The peer is authenticated and the keys are in place: data may flow, and keys may be exported."""

    version: ProtocolVersion
    "The version that was negotiated."
    cipher_suite: CipherSuite
    "The suite that protects records."
    group: NamedGroup | None
    "The group of the key exchange, or ``None`` when there was none but a pre-shared key of DTLS 1.2."
    srtp_profile: SrtpProtectionProfile | None
    "The SRTP protection profile of use_srtp, or ``None`` when none was negotiated (RFC 5764 §4.1)."
    alpn_protocol: bytes | None
    "The application protocol, or ``None`` when none was negotiated (RFC 7301)."
    is_resumed: bool = False
    "Whether an earlier session was resumed."


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    """A client may resume this session by a later connection; a server of DTLS 1.3 usually gives more than one.

    Each is for one connection: whoever sees a ticket twice knows that it is the same client (RFC 8446 §C.4).
    """

    session: Session
    "To be kept as it is, or by :meth:`Session.serialize`. It holds a secret."


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


Event = HandshakeCompleted | SessionEstablished | ApplicationData | ConnectionClosed | ConnectionFailed
