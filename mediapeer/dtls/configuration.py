"""What a user decides about a DTLS association, checked when it is made and fixed from then on."""

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mediapeer.dtls.credentials import (
    Credentials,
    PeerVerifier,
    RawPublicKeyCredentials,
    RawPublicKeyPolicy,
    SigningCredentials,
    X509Credentials,
)
from mediapeer.dtls.errors import ConfigurationError
from mediapeer.dtls.psk import ImportedPreSharedKey, OfferedPsk, PreSharedKey
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    AuthenticationMethod,
    CertificateType,
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
    SrtpProtectionProfile,
)
from mediapeer.dtls.tickets import SessionCache, TicketProtector

MINIMUM_MTU = 256
MAXIMUM_MTU = 65_507
MAXIMUM_SESSION_LIFETIME = 7 * 24 * 3600.0


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
    # Offered and chosen only by who has a pre-shared key. Those without forward secrecy have to be asked for.
    CipherSuite.TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384,
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


class RankedPsk(NamedTuple):
    """A pre-shared key as it is offered in DTLS 1.3, and its place among the credentials."""

    rank: int
    offer: OfferedPsk
    credentials: PreSharedKey | ImportedPreSharedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class DtlsConfiguration:
    """Everything the engine is told beforehand. One configuration may serve any number of associations.

    Lists are in order of preference. A server chooses by its own order.

    :raises ConfigurationError: at construction, when the parts do not go together.
    """

    verifier: PeerVerifier | None
    """Who judges the peer's certificate. There is no default: say ``AcceptAnyPeer()`` to take everybody. ``None``
    goes with pre-shared keys only: then no certificate is asked for, and none is taken."""
    credentials: tuple[Credentials, ...] = ()
    """Our certificates, raw public keys and pre-shared keys, in order of preference. A server needs one; the first
    that fits what the peer offers is used. A client offers all its pre-shared keys."""
    insist_on_credentials: bool = False
    """Whether a client that has certificates or raw public keys gives up when the server takes none of them.
    Otherwise it shows none, and leaves the decision to the server (RFC 8446 §4.4.2)."""
    psk_identity_hint: bytes = b""
    "What a server of DTLS 1.2 tells its clients about the pre-shared key it expects (RFC 4279 §5.2)."
    peer_certificate_types: tuple[CertificateType, ...] = (CertificateType.X509,)
    "What the peer may authenticate with, in order of preference (RFC 7250 §4)."
    own_certificate_types: tuple[CertificateType, ...] | None = None
    "What a client says it can authenticate with; ``None``: what its credentials are, in their order."
    certificate_authorities: tuple[bytes, ...] = ()
    "Names in DER of the authorities we trust, for the peer to choose a certificate by (RFC 8446 §4.2.4)."
    request_ocsp_response: bool = False
    "Whether a client asks for a stapled OCSP response. What comes is carried through, not judged."
    request_signed_certificate_timestamps: bool = False
    "Whether a client asks for SCTs (RFC 6962). What comes is carried through, not judged."
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
    alpn_selector: Callable[[tuple[bytes, ...]], bytes | None] | None = None
    """Chooses for a server in place of :attr:`alpn_protocols`: one of what the client offers, or ``None`` to go on
    without. May raise :class:`NegotiationFailed`."""
    accept_unoffered_alpn: bool = False
    "Whether a client takes an application protocol that it has not offered."
    resume_sessions: bool = False
    "Whether a client asks for tickets and hands out sessions, to be given to a later connection."
    session_tickets: TicketProtector | None = None
    "What a server seals sessions into tickets with; ``None``: it gives out none, and takes none."
    tickets_to_send: int = 2
    "How many tickets a server of DTLS 1.3 sends after the handshake: one for each connection that may follow."
    session_cache: SessionCache | None = None
    "Where a server of DTLS 1.2 keeps sessions of clients without tickets; ``None``: nowhere."
    session_lifetime: float = 7200.0
    "How many seconds a session may be resumed after the peer was authenticated; 7 days at most (RFC 8446 §4.6.1)."
    verify_on_resumption: bool = True
    """Whether the peer's certificate is judged again when a session is resumed. Without that, a session that one
    verifier has let in may be resumed under another."""
    record_size_limit: int | None = None
    "The longest plaintext that a record of the peer may have, 64 to 16,384 bytes (RFC 8449); ``None``: not said."
    grease: bool = False
    "Whether unknown code points are sent among the known ones, so that peers stay used to them (RFC 8701)."
    permute_extensions: bool = False
    "Whether a client's extensions come in random order, so that servers do not get used to one."
    server_name: str | None = None
    "The host name a client sends in server_name (RFC 6066 §3)."
    acknowledge_server_name: bool = True
    "Whether a server says that it has heard the host name (RFC 6066 §3)."
    mtu: int = 1200
    """The largest datagram that a handshake sends, in bytes of UDP payload. Application data is not cut: each
    piece travels in one record, in a datagram of its own."""
    mtu_backs_off: bool = True
    "Whether what is sent again is cut smaller when it keeps timing out: the path may take less than was thought."
    repeats_apart: bool = True
    """Whether each message has records of its own when a flight is sent again, for a peer that looks no further in a
    record than to a message that it has had, as Firefox does. It costs a header and a tag for each."""
    initial_retransmission_timeout: float = 0.05
    "Seconds until a flight is first sent again. May be set from the round trip that ICE measured."
    maximum_retransmission_timeout: float = 60.0
    "What the doubling timer is capped at, in seconds (RFC 6347 §4.2.4.1)."
    maximum_retransmissions: int = 12
    "How often a flight is sent again before the handshake fails."
    timer_granularity: float = 0.0
    "How early a timer may fire, in seconds: for event loops whose clocks are coarse."
    is_eager: bool = True
    """Whether to do at once what RFC 9147 lets wait for a timer: to send the rest of a flight when an ACK shows that
    some of it was lost (§5.8.1), and to acknowledge what follows the handshake (§7.1); and whether all that came is
    named, in several ACKs if need be. It saves time where packets are lost, and costs a few more of them."""
    handshake_timeout: float | None = 30.0
    "Seconds from construction in which the handshake must end, or ``None`` for no such limit."
    maximum_handshake_message_size: int = 16_384
    "The longest handshake message taken from a peer, in bytes."
    key_log: Callable[[str], None] | None = field(default=None, repr=False)
    "Given each line in NSS key log format, without the newline. It receives secrets: for debugging only."
    trace: Callable[[bool, int, bytes], None] | None = field(default=None, repr=False)
    """Told of each handshake message, alert, ACK and ChangeCipherSpec: whether it is sent, its content type, and its
    plaintext. What is sent is told record by record, each time; what is received message by message. For debugging:
    it sees certificates and names. It must not raise."""
    random_bytes: Callable[[int], bytes] = os.urandom
    "Where nonces come from. Tests replace it; key shares do not come from it."

    versions: tuple[ProtocolVersion, ...] = field(init=False, repr=False, compare=False)
    """The versions that are spoken, the newest first: those between minimum and maximum for which there is a cipher
    suite, a group where one is needed, and a way to authenticate (without a verifier a pre-shared key)."""
    _suites: Mapping[ProtocolVersion, tuple[CipherSuite, ...]] = field(init=False, repr=False, compare=False)
    _running: frozenset[CipherSuite] = field(init=False, repr=False, compare=False)
    signing_credentials: tuple[SigningCredentials, ...] = field(init=False, repr=False, compare=False)
    "Certificates and raw public keys among the credentials."
    pre_shared_keys: tuple[PreSharedKey | ImportedPreSharedKey, ...] = field(
        init=False, repr=False, compare=False
    )
    "Pre-shared keys among the credentials."
    psk_offers: Mapping[bytes, Sequence[RankedPsk]] = field(init=False, repr=False, compare=False)
    "What may stand for them in a ClientHello of DTLS 1.3, by identity."

    def __post_init__(self) -> None:
        self._sort_credentials()
        self._sort_suites()
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
        self._check(self.timer_granularity >= 0, "a timer cannot be late on purpose")
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
            self.verifier is not None or bool(self.pre_shared_keys),
            "there is neither a verifier nor a pre-shared key",
        )
        self._check(bool(self.peer_certificate_types), "the peer has nothing left to authenticate with")
        self._check(
            self.verifier is None
            or CertificateType.RAW_PUBLIC_KEY not in self.peer_certificate_types
            or isinstance(self.verifier, RawPublicKeyPolicy),
            "the verifier cannot judge raw public keys",
        )
        self._check(0 <= self.tickets_to_send <= 8, "a server sends 0 to 8 tickets")
        self._check(0 < self.session_lifetime <= MAXIMUM_SESSION_LIFETIME, "a session lives 7 days at most")
        self._check(
            self.record_size_limit is None or 64 <= self.record_size_limit <= MAXIMUM_PLAINTEXT_LENGTH,
            f"the record size limit is 64 to {MAXIMUM_PLAINTEXT_LENGTH}",
        )
        self._check(
            self.server_name is None or (self.server_name.isascii() and 0 < len(self.server_name) < 256),
            "the server name must be a host name in ASCII",
        )

    def _sort_credentials(self) -> None:
        """Find once what is looked for in each handshake: there may be many keys."""
        signing: list[SigningCredentials] = []
        keys: list[PreSharedKey | ImportedPreSharedKey] = []
        offers: dict[bytes, list[RankedPsk]] = {}
        for rank, credentials in enumerate(self.credentials):
            if isinstance(credentials, X509Credentials | RawPublicKeyCredentials):
                signing.append(credentials)
                continue
            keys.append(credentials)
            for offer in credentials.offers():
                offers.setdefault(offer.identity, []).append(RankedPsk(rank, offer, credentials))
        object.__setattr__(self, "signing_credentials", tuple(signing))
        object.__setattr__(self, "pre_shared_keys", tuple(keys))
        object.__setattr__(self, "psk_offers", offers)

    def _sort_suites(self) -> None:
        """Find once which versions and suites are left, for each handshake asks."""
        suites: dict[ProtocolVersion, tuple[CipherSuite, ...]] = {
            version: tuple(s for s in self.cipher_suites if CIPHER_SUITE_PARAMETERS[s].version is version)
            for version in (ProtocolVersion.DTLS_1_3, ProtocolVersion.DTLS_1_2)
        }
        object.__setattr__(self, "_suites", suites)
        object.__setattr__(self, "_running", frozenset(filter(self._runs, self.cipher_suites)))
        versions = tuple(
            version
            for version in (ProtocolVersion.DTLS_1_3, ProtocolVersion.DTLS_1_2)
            # Versions of DTLS count downwards on the wire.
            if self.maximum_version <= version <= self.minimum_version
            and any(map(self.runs, self.suites_of(version)))
            and (self.verifier is not None or self._has_psk_for(version))
        )
        object.__setattr__(self, "versions", versions)

    def suites_of(self, version: ProtocolVersion) -> tuple[CipherSuite, ...]:
        """The cipher suites of one version, in our order."""
        return self._suites[version]

    def runs(self, suite: CipherSuite) -> bool:
        """Whether there is what one of our suites needs: a key for PSK, a verifier for others, and a group."""
        return suite in self._running

    def _runs(self, suite: CipherSuite) -> bool:
        parameters = CIPHER_SUITE_PARAMETERS[suite]
        if parameters.version is ProtocolVersion.DTLS_1_3:
            return True
        if parameters.authentication is AuthenticationMethod.PSK:
            if not self._has_psk_for(ProtocolVersion.DTLS_1_2):
                return False
        elif self.verifier is None:
            return False
        return not parameters.is_ephemeral or not HYBRID_GROUPS.issuperset(self.groups)

    def _has_psk_for(self, version: ProtocolVersion) -> bool:
        return any(
            version in key.versions if isinstance(key, PreSharedKey) else version is ProtocolVersion.DTLS_1_3
            for key in self.pre_shared_keys
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
