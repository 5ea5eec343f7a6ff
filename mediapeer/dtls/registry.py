"""Code points of TLS and DTLS, and what they mean for this engine.

Each enumeration holds the values the engine knows by name. A value that is not listed is not an error: the
wire carries plain integers, and unknown ones (GREASE, RFC 8701, among them) are skipped where they are met.
"""

import enum
from dataclasses import dataclass


class ProtocolVersion(enum.IntEnum):
    """``ProtocolVersion`` as it stands on the wire: the one's complement of the TLS version (RFC 6347 §4.1)."""

    DTLS_1_0 = 0xFEFF
    DTLS_1_2 = 0xFEFD
    DTLS_1_3 = 0xFEFC

    @property
    def label(self) -> str:
        """The version as people write it: ``DTLS 1.2``."""
        return self.name.replace("DTLS_", "DTLS ").replace("_", ".")


class ContentType(enum.IntEnum):
    """``ContentType`` of a record (RFC 5246 §6.2.1, RFC 9147 §4)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    ACK = 26


class HandshakeType(enum.IntEnum):
    """``HandshakeType`` (RFC 5246 §7.4, RFC 6347 §4.3.2, RFC 6066 §8, RFC 9147 §5.2)."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    CERTIFICATE_STATUS = 22
    KEY_UPDATE = 24
    MESSAGE_HASH = 254


class AlertLevel(enum.IntEnum):
    """``AlertLevel`` (RFC 5246 §7.2)."""

    WARNING = 1
    FATAL = 2


class AlertDescription(enum.IntEnum):
    """``AlertDescription`` (RFC 5246 §7.2, RFC 8446 §6, RFC 7301 §3.2)."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    DECOMPRESSION_FAILURE = 30
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    NO_RENEGOTIATION = 100
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class ExtensionType(enum.IntEnum):
    """``ExtensionType``, the ones this engine sends or reads (IANA TLS ExtensionType Values)."""

    SERVER_NAME = 0
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    USE_SRTP = 14
    APPLICATION_LAYER_PROTOCOL_NEGOTIATION = 16
    SIGNED_CERTIFICATE_TIMESTAMP = 18
    CLIENT_CERTIFICATE_TYPE = 19
    SERVER_CERTIFICATE_TYPE = 20
    PADDING = 21
    EXTENDED_MASTER_SECRET = 23
    RECORD_SIZE_LIMIT = 28
    SESSION_TICKET = 35
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    KEY_SHARE = 51
    RENEGOTIATION_INFO = 0xFF01


class CipherSuite(enum.IntEnum):
    """``CipherSuite`` values that this engine can run.

    RFC 8446 §B.4, RFC 5289 §3.2, RFC 7905 §2, RFC 7251 §2; with PSKs RFC 5487 §2, RFC 6655 §3, RFC 8442 §3.
    """

    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_AES_256_GCM_SHA384 = 0x1302
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    TLS_AES_128_CCM_SHA256 = 0x1304
    TLS_AES_128_CCM_8_SHA256 = 0x1305
    TLS_PSK_WITH_AES_128_GCM_SHA256 = 0x00A8
    TLS_PSK_WITH_AES_256_GCM_SHA384 = 0x00A9
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 = 0xC02B
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 = 0xC02C
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 = 0xC02F
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 = 0xC030
    TLS_PSK_WITH_AES_128_CCM = 0xC0A4
    TLS_PSK_WITH_AES_128_CCM_8 = 0xC0A8
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM = 0xC0AC
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 = 0xC0AE
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 = 0xCCA8
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 = 0xCCA9
    TLS_PSK_WITH_CHACHA20_POLY1305_SHA256 = 0xCCAB
    TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256 = 0xCCAC
    TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256 = 0xD001
    TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384 = 0xD002
    TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256 = 0xD003
    TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256 = 0xD005


#: Signalling values that stand in a list of cipher suites without being one (RFC 5746 §3.3, RFC 7507 §2).
TLS_EMPTY_RENEGOTIATION_INFO_SCSV = 0x00FF
TLS_FALLBACK_SCSV = 0x5600


class AeadAlgorithm(enum.Enum):
    """The AEAD algorithm of a cipher suite (RFC 5116 §5, RFC 8439 §2.8)."""

    AES_128_GCM = "AES-128-GCM"
    AES_256_GCM = "AES-256-GCM"
    AES_128_CCM = "AES-128-CCM"
    AES_128_CCM_8 = "AES-128-CCM-8"
    CHACHA20_POLY1305 = "ChaCha20-Poly1305"


class AuthenticationMethod(enum.Enum):
    """What the two sides prove with a DTLS 1.2 suite. Ed25519 keys count as ECDSA (RFC 8422 §5.10)."""

    ECDSA = "ECDSA"
    RSA = "RSA"
    PSK = "PSK"


@dataclass(frozen=True, slots=True)
class CipherSuiteParameters:
    """What a cipher suite stands for."""

    aead: AeadAlgorithm
    "The algorithm that protects records."
    hash_name: str
    "The hash of the PRF and of the transcript, as :mod:`hashlib` names it."
    authentication: AuthenticationMethod | None
    "What authenticates the server, or ``None`` in DTLS 1.3, where any suite goes with anything."
    key_length: int
    "Length of an AEAD key in bytes."
    fixed_iv_length: int
    "Length of the implicit part of the nonce, in bytes."
    is_ephemeral: bool = True
    "Whether there is a Diffie-Hellman exchange, and with it forward secrecy: not with a bare PSK (RFC 4279 §2)."

    @property
    def version(self) -> ProtocolVersion:
        """The one version that the suite belongs to."""
        return ProtocolVersion.DTLS_1_3 if self.authentication is None else ProtocolVersion.DTLS_1_2


def _parameters(
    aead: AeadAlgorithm, authentication: AuthenticationMethod | None, *, is_ephemeral: bool = True
) -> CipherSuiteParameters:
    """The parameters that follow from the AEAD: AES-256 goes with SHA-384, everything else with SHA-256."""
    wide = aead is AeadAlgorithm.AES_256_GCM
    chacha = aead is AeadAlgorithm.CHACHA20_POLY1305
    return CipherSuiteParameters(
        aead,
        "sha384" if wide else "sha256",
        authentication,
        32 if wide or chacha else 16,
        # In DTLS 1.2 the AES modes put the other eight bytes of the nonce into each record (RFC 5288 §3).
        12 if authentication is None or chacha else 4,
        is_ephemeral,
    )


_ECDSA, _RSA, _PSK = AuthenticationMethod.ECDSA, AuthenticationMethod.RSA, AuthenticationMethod.PSK
_GCM_128, _GCM_256 = AeadAlgorithm.AES_128_GCM, AeadAlgorithm.AES_256_GCM
_CCM, _CCM_8 = AeadAlgorithm.AES_128_CCM, AeadAlgorithm.AES_128_CCM_8
_CHACHA = AeadAlgorithm.CHACHA20_POLY1305

CIPHER_SUITE_PARAMETERS: dict[CipherSuite, CipherSuiteParameters] = {
    CipherSuite.TLS_AES_128_GCM_SHA256: _parameters(_GCM_128, None),
    CipherSuite.TLS_AES_256_GCM_SHA384: _parameters(_GCM_256, None),
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: _parameters(_CHACHA, None),
    CipherSuite.TLS_AES_128_CCM_SHA256: _parameters(_CCM, None),
    CipherSuite.TLS_AES_128_CCM_8_SHA256: _parameters(_CCM_8, None),
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: _parameters(_GCM_128, _ECDSA),
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: _parameters(_GCM_128, _RSA),
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: _parameters(_GCM_256, _ECDSA),
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: _parameters(_GCM_256, _RSA),
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: _parameters(_CHACHA, _ECDSA),
    CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: _parameters(_CHACHA, _RSA),
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM: _parameters(_CCM, _ECDSA),
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: _parameters(_CCM_8, _ECDSA),
    CipherSuite.TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256: _parameters(_GCM_128, _PSK),
    CipherSuite.TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384: _parameters(_GCM_256, _PSK),
    CipherSuite.TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256: _parameters(_CHACHA, _PSK),
    CipherSuite.TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256: _parameters(_CCM, _PSK),
    CipherSuite.TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256: _parameters(_CCM_8, _PSK),
    CipherSuite.TLS_PSK_WITH_AES_128_GCM_SHA256: _parameters(_GCM_128, _PSK, is_ephemeral=False),
    CipherSuite.TLS_PSK_WITH_AES_256_GCM_SHA384: _parameters(_GCM_256, _PSK, is_ephemeral=False),
    CipherSuite.TLS_PSK_WITH_CHACHA20_POLY1305_SHA256: _parameters(_CHACHA, _PSK, is_ephemeral=False),
    CipherSuite.TLS_PSK_WITH_AES_128_CCM: _parameters(_CCM, _PSK, is_ephemeral=False),
    CipherSuite.TLS_PSK_WITH_AES_128_CCM_8: _parameters(_CCM_8, _PSK, is_ephemeral=False),
}


class NamedGroup(enum.IntEnum):
    """``NamedGroup`` (RFC 8446 §4.2.7, draft-ietf-tls-ecdhe-mlkem): the groups of the key exchange."""

    SECP256R1 = 23
    SECP384R1 = 24
    SECP521R1 = 25
    X25519 = 29
    SECP256R1MLKEM768 = 0x11EB
    X25519MLKEM768 = 0x11EC

    @property
    def label(self) -> str:
        """The group as people write it: ``X25519``, ``P-256``."""
        return _GROUP_LABELS[self]


_GROUP_LABELS = {
    NamedGroup.SECP256R1: "P-256",
    NamedGroup.SECP384R1: "P-384",
    NamedGroup.SECP521R1: "P-521",
    NamedGroup.X25519: "X25519",
    NamedGroup.SECP256R1MLKEM768: "SecP256r1MLKEM768",
    NamedGroup.X25519MLKEM768: "X25519MLKEM768",
}

#: Groups that only DTLS 1.3 has (draft-ietf-tls-ecdhe-mlkem).
HYBRID_GROUPS = frozenset({NamedGroup.SECP256R1MLKEM768, NamedGroup.X25519MLKEM768})


class SignatureScheme(enum.IntEnum):
    """``SignatureScheme`` (RFC 8446 §4.2.3), read in DTLS 1.2 as a pair of hash and signature (RFC 5246 §7.4.1.4.1).

    DTLS 1.2 does not tie the curve of an ECDSA key to the hash: ``ecdsa_secp256r1_sha256`` there means
    "ECDSA with SHA-256, whatever the curve".
    """

    RSA_PKCS1_SHA256 = 0x0401
    RSA_PKCS1_SHA384 = 0x0501
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    ECDSA_SECP521R1_SHA512 = 0x0603
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807


class CertificateType(enum.IntEnum):
    """``CertificateType``: what a Certificate message carries (RFC 7250 §3)."""

    X509 = 0
    RAW_PUBLIC_KEY = 2


class PskKeyExchangeMode(enum.IntEnum):
    """``PskKeyExchangeMode`` (RFC 8446 §4.2.9). The one without forward secrecy is not spoken here."""

    PSK_KE = 0
    PSK_DHE_KE = 1


class ClientCertificateType(enum.IntEnum):
    """``ClientCertificateType`` of a CertificateRequest (RFC 5246 §7.4.4, RFC 8422 §5.5)."""

    RSA_SIGN = 1
    ECDSA_SIGN = 64


class ECCurveType(enum.IntEnum):
    """``ECCurveType`` (RFC 8422 §5.4); the explicit curves are gone."""

    NAMED_CURVE = 3


class ECPointFormat(enum.IntEnum):
    """``ECPointFormat`` (RFC 8422 §5.1.2)."""

    UNCOMPRESSED = 0


class SrtpProtectionProfile(enum.IntEnum):
    """``SRTPProtectionProfile`` (RFC 5764 §4.1.2, RFC 7714 §14.2)."""

    SRTP_AES128_CM_SHA1_80 = 0x0001
    SRTP_AES128_CM_SHA1_32 = 0x0002
    SRTP_AEAD_AES_128_GCM = 0x0007
    SRTP_AEAD_AES_256_GCM = 0x0008
