"""What a user decides about a DTLS association, checked when it is made and fixed from then on."""

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from mediapeer.dtls.credentials import PeerVerifier, X509Credentials
from mediapeer.dtls.errors import ConfigurationError
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
    SrtpProtectionProfile,
)

MINIMUM_MTU = 256
MAXIMUM_MTU = 65_507


class Role(enum.Enum):
    """Which side of the handshake this end plays."""

    CLIENT = "client"
    SERVER = "server"


class ClientAuthentication(enum.Enum):
    """What a server asks of the client (RFC 5246 §7.4.4)."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


DEFAULT_CIPHER_SUITES = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
)
DEFAULT_GROUPS = (
    NamedGroup.X25519MLKEM768,
    NamedGroup.X25519,
    NamedGroup.SECP256R1,
    NamedGroup.SECP384R1,
    NamedGroup.SECP521R1,
)
DEFAULT_SIGNATURE_SCHEMES = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ED25519,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.ECDSA_SECP521R1_SHA512,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
    SignatureScheme.RSA_PKCS1_SHA512,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DtlsConfiguration:
    """Everything the engine is told beforehand. One configuration may serve any number of associations.

    Lists are in order of preference. A server chooses by its own order.

    :raises ConfigurationError: at construction, when the parts do not go together.
    """

    verifier: PeerVerifier
    "Who judges the peer's certificate. There is no default: say ``AcceptAnyPeer()`` to take everybody."
    credentials: tuple[X509Credentials, ...] = ()
    "Our certificates with keys. A server needs one; the first that fits what the peer offers is used."
    minimum_version: ProtocolVersion = ProtocolVersion.DTLS_1_2
    maximum_version: ProtocolVersion = ProtocolVersion.DTLS_1_3
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    groups_to_share: tuple[NamedGroup, ...] | None = None
    """The groups of which a client of DTLS 1.3 sends a key share at once. By default the first group, and X25519 if
    that is another. ``(X25519,)`` keeps the ClientHello in one datagram, for peers that need that."""
    signature_schemes: tuple[SignatureScheme, ...] = DEFAULT_SIGNATURE_SCHEMES
    client_authentication: ClientAuthentication = ClientAuthentication.REQUIRED
    "What a server asks of its clients."
    allow_secp224r1_certificates: bool = False
    "Whether a peer may present a P-224 key. Some WHIP clients do by default."
    require_extended_master_secret: bool = True
    "Whether a peer without extended_master_secret is refused (RFC 7627 §5.2, §5.3)."
    srtp_profiles: tuple[SrtpProtectionProfile, ...] = ()
    "What use_srtp offers, or chooses from (RFC 5764 §4.1); empty: the extension is not used."
    alpn_protocols: tuple[bytes, ...] = ()
    "What ALPN offers, or chooses from (RFC 7301); empty: the extension is not used."
    server_name: str | None = None
    "The host name a client sends in server_name (RFC 6066 §3)."
    mtu: int = 1200
    """The largest datagram that a handshake sends, in bytes of UDP payload. Application data is not cut: each
    piece travels in one record, in a datagram of its own."""
    initial_retransmission_timeout: float = 0.05
    "Seconds until a flight is first sent again. May be set from the round trip that ICE measured."
    maximum_retransmission_timeout: float = 60.0
    "What the doubling timer is capped at, in seconds (RFC 6347 §4.2.4.1)."
    maximum_retransmissions: int = 12
    "How often a flight is sent again before the handshake fails."
    handshake_timeout: float | None = 30.0
    "Seconds from construction in which the handshake must end, or ``None`` for no such limit."
    maximum_handshake_message_size: int = 32_768
    "The longest handshake message taken from a peer, in bytes."
    key_log: Callable[[str], None] | None = field(default=None, repr=False)
    "Given each line in NSS key log format, without the newline. It receives secrets: for debugging only."
    random_bytes: Callable[[int], bytes] = os.urandom
    "Where nonces come from. Tests replace it; key shares do not come from it."

    def __post_init__(self) -> None:
        self._check(bool(self.cipher_suites), "no cipher suite is given")
        self._check(bool(self.groups), "no group is given")
        self._check(bool(self.signature_schemes), "no signature scheme is given")
        self._check(self.minimum_version <= ProtocolVersion.DTLS_1_2, "DTLS 1.0 is not spoken (RFC 8996)")
        self._check(
            bool(self.versions),
            "no version is left: one between minimum and maximum, with a cipher suite and a group",
        )
        self._check(
            all(group in self.groups for group in self.shared_groups),
            "a group to share is not among the groups",
        )
        self._check(MINIMUM_MTU <= self.mtu <= MAXIMUM_MTU, f"the MTU must be {MINIMUM_MTU} to {MAXIMUM_MTU}")
        self._check(self.initial_retransmission_timeout > 0, "the retransmission time-out must be positive")
        self._check(
            self.maximum_retransmission_timeout >= self.initial_retransmission_timeout,
            "the cap of the retransmission time-out is below its start",
        )
        self._check(self.maximum_retransmissions >= 0, "the number of retransmissions is negative")
        self._check(
            self.handshake_timeout is None or self.handshake_timeout > 0, "the handshake needs some time"
        )
        self._check(
            all(0 < len(protocol) < 256 for protocol in self.alpn_protocols),
            "an ALPN protocol has 1 to 255 bytes",
        )
        self._check(
            self.server_name is None or (self.server_name.isascii() and 0 < len(self.server_name) < 256),
            "the server name must be a host name in ASCII",
        )

    @property
    def versions(self) -> tuple[ProtocolVersion, ...]:
        """The versions that are spoken, the newest first.

        Those between minimum and maximum for which there is a cipher suite and a group.
        """
        return tuple(
            version
            for version in (ProtocolVersion.DTLS_1_3, ProtocolVersion.DTLS_1_2)
            # Versions of DTLS count downwards on the wire.
            if self.maximum_version <= version <= self.minimum_version
            and any(CIPHER_SUITE_PARAMETERS[suite].version is version for suite in self.cipher_suites)
            and (version is ProtocolVersion.DTLS_1_3 or not HYBRID_GROUPS.issuperset(self.groups))
        )

    @property
    def shared_groups(self) -> tuple[NamedGroup, ...]:
        """The groups of which a client of DTLS 1.3 sends a key share at once; see :attr:`groups_to_share`."""
        if self.groups_to_share is not None:
            return self.groups_to_share
        first = self.groups[:1]
        if NamedGroup.X25519 in self.groups and NamedGroup.X25519 not in first:
            return (*first, NamedGroup.X25519)
        return first

    @staticmethod
    def _check(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigurationError(message)
