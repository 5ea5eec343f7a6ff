"""What a transport tells about itself in ``getStats()``, under the names of W3C webrtc-stats where it has one."""

import base64
import datetime
import hashlib
from dataclasses import dataclass, field

from aiortc.stats import RTCStats, RTCTransportStats

from mediapeer.dtls import DtlsConnection
from mediapeer.dtls.credentials import fingerprint
from mediapeer.srtp import PROFILES


@dataclass
class RTCCertificateStats(RTCStats):
    """A certificate of either end (W3C webrtc-stats §8.19)."""

    fingerprint: str
    "The digest in hexadecimal with colons."
    fingerprintAlgorithm: str
    "The name of the hash: ``sha-256``."
    base64Certificate: str
    "The certificate in DER, in base64."


@dataclass
class DtlsTransportStats(RTCTransportStats):
    """A transport with what its handshake negotiated. The empty string stands for what is not known yet."""

    dtlsRole: str = "unknown"
    "``client`` or ``server``; ``unknown`` before the handshake starts."
    tlsVersion: str = ""
    "The version in the hexadecimal digits of the wire, as browsers print it: ``FEFD``."
    dtlsCipher: str = ""
    "The cipher suite by its IANA name."
    tlsGroup: str = ""
    "The group of the key exchange: ``X25519``."
    srtpCipher: str = ""
    "The SRTP protection profile: ``SRTP_AEAD_AES_128_GCM``. Empty too when the peer does not use SRTP."
    iceState: str = ""
    iceLocalUsernameFragment: str = ""
    selectedCandidatePairId: str = ""
    "The id of the entry of the pair of candidates in use; empty while there is none."
    localCertificateId: str = ""
    "The id of our certificate's entry in the report."
    remoteCertificateId: str = ""
    "The id of the peer's; empty until the peer is authenticated."
    handshakeDuration: float | None = None
    "Seconds from the start of the handshake to its completion."
    retransmissions: int = 0
    "How many times a flight of the handshake was sent again."
    roundTripTime: float | None = None
    "Seconds that the last ICE check of the selected pair took."
    datagramsDropped: dict[str, int] = field(default_factory=dict)
    "How many datagrams or packets were dropped, by reason."

    def describe(self, connection: DtlsConnection, handshake_duration: float) -> None:
        """Fill in what the handshake of ``connection`` negotiated."""
        self.handshakeDuration = handshake_duration
        if connection.version is not None:
            self.tlsVersion = f"{connection.version:04X}"
        if connection.cipher_suite is not None:
            self.dtlsCipher = connection.cipher_suite.name
        if connection.group is not None:
            self.tlsGroup = connection.group.label
        if connection.srtp_profile is not None:
            self.srtpCipher = PROFILES[connection.srtp_profile].name


def utc_now() -> datetime.datetime:
    """The wall clock, which is what statistics are stamped with."""
    return datetime.datetime.now(datetime.UTC)


def certificate_stats(certificate: bytes) -> RTCCertificateStats:
    """The entry of a certificate in DER."""
    return RTCCertificateStats(
        timestamp=utc_now(),
        type="certificate",
        id=f"certificate_{hashlib.sha256(certificate).hexdigest()[:16]}",
        fingerprint=fingerprint(certificate),
        fingerprintAlgorithm="sha-256",
        base64Certificate=base64.b64encode(certificate).decode(),
    )
