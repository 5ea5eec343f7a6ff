"""From the keying material of a DTLS handshake to a pair of SRTP contexts (RFC 5764 §4.2, RFC 7714 §12)."""

from dataclasses import dataclass

import pylibsrtp

from mediapeer.dtls import SrtpProtectionProfile

#: The label under which DTLS-SRTP exports its keys (RFC 5764 §4.2).
EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"

#: How far behind the newest packet one may be and still be taken, in packets (RFC 3711 §3.3.2). Video at a
#: high bit rate, reordered over a round trip and retransmitted, needs more than the 64 of the RFC.
REPLAY_WINDOW = 1024

#: Second bytes of RTCP packets, where RTP has its marker and payload type (RFC 5761 §4).
_RTCP_PACKET_TYPES = range(192, 224)


class SrtpError(Exception):
    """A packet could not be protected or unprotected. Only that packet is lost."""


@dataclass(frozen=True, slots=True)
class ProfileParameters:
    """What an SRTP protection profile stands for (RFC 5764 §4.1.2, RFC 7714 §14.2)."""

    name: str
    "The profile as IANA registers it, and as browsers print it in ``srtpCipher``."
    key_length: int
    "Length of a master key in bytes."
    salt_length: int
    "Length of a master salt in bytes."
    libsrtp_profile: int
    "The number libsrtp knows the profile by."

    @property
    def keying_material_length(self) -> int:
        """How many bytes to export: two keys, two salts (RFC 5764 §4.2)."""
        return 2 * (self.key_length + self.salt_length)


PROFILES: dict[SrtpProtectionProfile, ProfileParameters] = {
    SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM: ProfileParameters(
        "SRTP_AEAD_AES_128_GCM", 16, 12, pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    ),
    SrtpProtectionProfile.SRTP_AEAD_AES_256_GCM: ProfileParameters(
        "SRTP_AEAD_AES_256_GCM", 32, 12, pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM
    ),
    SrtpProtectionProfile.SRTP_AES128_CM_SHA1_80: ProfileParameters(
        "SRTP_AES128_CM_HMAC_SHA1_80", 16, 14, pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80
    ),
    SrtpProtectionProfile.SRTP_AES128_CM_SHA1_32: ProfileParameters(
        "SRTP_AES128_CM_HMAC_SHA1_32", 16, 14, pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32
    ),
}


def _is_available(parameters: ProfileParameters) -> bool:
    try:
        pylibsrtp.Policy(srtp_profile=parameters.libsrtp_profile)
    except pylibsrtp.Error:
        return False
    return True


def available_profiles() -> tuple[SrtpProtectionProfile, ...]:
    """The profiles that this machine's libsrtp can run, cheapest first.

    AES-GCM comes first because it takes half the time of AES-CM with HMAC; libsrtp may be built without it.
    """
    return tuple(profile for profile, parameters in PROFILES.items() if _is_available(parameters))


def is_rtcp(packet: bytes) -> bool:
    """Whether an RTP or RTCP packet, protected or not, is RTCP (RFC 5761 §4)."""
    return len(packet) >= 2 and packet[1] in _RTCP_PACKET_TYPES


class SrtpContexts:
    """The SRTP contexts of one association: one that protects what goes out, one for what comes in.

    :param profile: the profile that the handshake negotiated.
    :param keying_material: what the exporter gave for :data:`EXPORTER_LABEL`, without a context.
    :param is_client: whether this end was the DTLS client, whose keys come first (RFC 5764 §4.2).
    :raises ValueError: when ``keying_material`` has the wrong length.
    """

    def __init__(self, profile: SrtpProtectionProfile, keying_material: bytes, *, is_client: bool) -> None:
        parameters = PROFILES[profile]
        if len(keying_material) != parameters.keying_material_length:
            length = parameters.keying_material_length
            raise ValueError(f"{profile.name} takes {length} bytes of keying material")
        client_key, server_key = _split(keying_material, parameters)
        self.profile = profile
        self._outbound = _session(parameters, client_key if is_client else server_key, inbound=False)
        self._inbound = _session(parameters, server_key if is_client else client_key, inbound=True)

    def protect(self, packet: bytes) -> bytes:
        """Protect an RTP or RTCP packet.

        :raises SrtpError: when it is not one, or is too long for libsrtp's 1,500 bytes.
        """
        try:
            if is_rtcp(packet):
                return bytes(self._outbound.protect_rtcp(packet))
            return bytes(self._outbound.protect(packet))
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(str(error)) from error

    def unprotect(self, packet: bytes) -> bytes:
        """Authenticate and decrypt an SRTP or SRTCP packet.

        :raises SrtpError: when it is not authentic, a replay, malformed, or longer than 1,500 bytes.
        """
        return self.unprotect_rtcp(packet) if is_rtcp(packet) else self.unprotect_rtp(packet)

    def unprotect_rtp(self, packet: bytes) -> bytes:
        """The same for a packet that is known to be RTP."""
        try:
            return bytes(self._inbound.unprotect(packet))
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(str(error)) from error

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """The same for a packet that is known to be RTCP."""
        try:
            return bytes(self._inbound.unprotect_rtcp(packet))
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(str(error)) from error


def _split(material: bytes, parameters: ProfileParameters) -> tuple[bytes, bytes]:
    """Cut the exported block into the client's and the server's master key with salt (RFC 5764 §4.2)."""
    key, salt = parameters.key_length, parameters.salt_length
    salts = material[2 * key :]
    return material[:key] + salts[:salt], material[key : 2 * key] + salts[salt:]


def _session(parameters: ProfileParameters, key: bytes, *, inbound: bool) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(
        key=key,
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND if inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=parameters.libsrtp_profile,
    )
    policy.window_size = REPLAY_WINDOW
    # A retransmission without RTX is the same packet again, byte for byte: no keystream is used twice.
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)
