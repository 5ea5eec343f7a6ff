"""What WebRTC asks of DTLS (RFC 8827 §6.5), as a configuration of the engine."""

from collections.abc import Callable

from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters

from mediapeer.dtls import (
    DtlsConfiguration,
    Fingerprint,
    FingerprintVerifier,
    ProtocolVersion,
    X509Credentials,
)
from mediapeer.srtp import available_profiles

#: The least time until a flight is sent again, in seconds; what browsers use too.
MINIMUM_RETRANSMISSION_TIMEOUT = 0.05
#: Bounds the first time-out on a path that ICE saw stutter, in seconds (RFC 6347 §4.2.4.1 starts there).
MAXIMUM_INITIAL_TIMEOUT = 1.0


def credentials_of(certificate: RTCCertificate) -> X509Credentials:
    """The engine's credentials from an ``RTCCertificate``."""
    return X509Credentials.from_objects([certificate._cert], certificate._key)


def retransmission_timeout(round_trip_time: float | None) -> float:
    """Seconds until a flight is first sent again, from the round trip that ICE measured.

    Half a round trip more leaves the peer the time for its signatures, and never sends twice on a quiet path.
    """
    if round_trip_time is None:
        return MINIMUM_RETRANSMISSION_TIMEOUT
    return min(max(MINIMUM_RETRANSMISSION_TIMEOUT, 1.5 * round_trip_time), MAXIMUM_INITIAL_TIMEOUT)


def webrtc_configuration(
    credentials: X509Credentials,
    remote: RTCDtlsParameters,
    *,
    round_trip_time: float | None,
    key_log: Callable[[str], None] | None,
    maximum_version: ProtocolVersion = ProtocolVersion.DTLS_1_3,
) -> DtlsConfiguration:
    """The configuration for one peer, whose fingerprints signaling delivered.

    Behind ICE the path is validated already, so no cookie round trip is spent. P-224 certificates are verified
    because some WHIP clients present one by default.
    """
    fingerprints = [Fingerprint(f.algorithm, f.value) for f in remote.fingerprints]
    return DtlsConfiguration(
        verifier=FingerprintVerifier(fingerprints),
        credentials=(credentials,),
        allow_secp224r1_certificates=True,
        srtp_profiles=available_profiles(),
        initial_retransmission_timeout=retransmission_timeout(round_trip_time),
        key_log=key_log,
        maximum_version=maximum_version,
    )
