"""Pre-shared keys from outside: of DTLS 1.2 (RFC 4279), external of 1.3 (RFC 8446 §4.2.11), imported (RFC 9258)."""

import hashlib
import hmac
from dataclasses import dataclass

from mediapeer.dtls.codec import vector
from mediapeer.dtls.errors import ConfigurationError
from mediapeer.dtls.key_schedule13 import hkdf_expand_label, hkdf_extract
from mediapeer.dtls.registry import ProtocolVersion

#: The hashes a PSK can go with, and what an importer calls them: HKDF_SHA256, HKDF_SHA384 (RFC 9258 §10).
KDF_IDENTIFIERS = {"sha256": 0x0001, "sha384": 0x0002}

MINIMUM_KEY_LENGTH = 16
"A key that can be guessed offline is no key: whoever listened to one handshake may try (RFC 9257 §6)."
MAXIMUM_IDENTITY_LENGTH = 2**15
BINDING_LENGTH = 16


@dataclass(frozen=True, slots=True)
class OfferedPsk:
    """A PSK as it stands in a ClientHello of DTLS 1.3, or is looked for in one. The key is not shown by ``repr``."""

    identity: bytes
    secret: bytes
    hash_name: str
    "The hash of the key schedule, and so of the cipher suites that the key goes with."
    binder_label: bytes
    "Which label its binder is made with (RFC 8446 §7.1, RFC 9258 §5)."

    def __repr__(self) -> str:
        return f"OfferedPsk({self.identity!r}, {self.hash_name})"


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """A key that both sides have been given, for the PSK suites of DTLS 1.2 and as external PSK of 1.3.

    Whoever has one key in both roles can be made to talk to himself: his own server answers his client (RFC 9257 §6).
    Give each direction a key of its own, or let an imported one depend on the roles by its context.

    Prefer :class:`ImportedPreSharedKey` where the peer has it: it binds the key to one version and one hash. The
    key is not shown by ``repr``.

    :raises ConfigurationError: for a key that is too short, an identity that is too long, or an unknown hash.
    """

    identity: bytes
    "By what name the server finds the key; it travels unprotected."
    key: bytes
    "At least 16 random bytes. Never a password."
    hash_name: str = "sha256"
    "The hash that the key goes with in DTLS 1.3, as :mod:`hashlib` names it."
    versions: tuple[ProtocolVersion, ...] = (ProtocolVersion.DTLS_1_3, ProtocolVersion.DTLS_1_2)
    "Which versions the key is for; whoever can should not use one key for both (RFC 8446 §E.7)."
    allow_short_key: bool = False
    "Take a key of less than 16 bytes, for a peer that has no better one. Whoever listens can try such keys offline."

    def __post_init__(self) -> None:
        if ProtocolVersion.DTLS_1_3 in self.versions:
            _check_identity(self.identity)  # in DTLS 1.2 it may be empty (RFC 4279 §2)
        _check_key(self.key, self.hash_name, 1 if self.allow_short_key else MINIMUM_KEY_LENGTH)

    def __repr__(self) -> str:
        return f"PreSharedKey({self.identity!r})"

    def binding(self) -> bytes:
        """What names this key, and no other, in a session: nothing that leads back to it."""
        return _binding(b"external", self.identity, self.key)

    def offers(self) -> tuple[OfferedPsk, ...]:
        """What a client of DTLS 1.3 offers of it."""
        if ProtocolVersion.DTLS_1_3 not in self.versions:
            return ()
        return (OfferedPsk(self.identity, self.key, self.hash_name, b"ext binder"),)


@dataclass(frozen=True, slots=True)
class ImportedPreSharedKey:
    """A key for DTLS 1.3 that is first bound to the version, the hash and a context (RFC 9258).

    The key is not shown by ``repr``.

    :raises ConfigurationError: as :class:`PreSharedKey`.
    """

    identity: bytes
    "The external identity, without what the importer adds."
    key: bytes
    "At least 16 random bytes. Never a password."
    context: bytes = b""
    "What both sides want the key to depend on (RFC 9258 §5.1)."
    hash_name: str = "sha256"
    "The hash that the key was provisioned with, as :mod:`hashlib` names it."
    target_hash_names: tuple[str, ...] = ("sha256", "sha384")
    "Which hashes to import it for: those of the cipher suites that are to be used."

    def __post_init__(self) -> None:
        _check_identity(self.identity)
        _check_key(self.key, self.hash_name)
        if not self.target_hash_names or not KDF_IDENTIFIERS.keys() >= set(self.target_hash_names):
            raise ConfigurationError(f"a PSK is imported for hashes out of {', '.join(KDF_IDENTIFIERS)}")

    def __repr__(self) -> str:
        return f"ImportedPreSharedKey({self.identity!r})"

    def binding(self) -> bytes:
        """What names this key, and no other, in a session: nothing that leads back to it."""
        return _binding(b"imported", self.identity, self.key, self.context)

    def offers(self) -> tuple[OfferedPsk, ...]:
        """The imported keys, one for each target hash (RFC 9258 §5.1)."""
        extracted = hkdf_extract(self.hash_name, bytes(_digest_size(self.hash_name)), self.key)
        return tuple(self._import(extracted, target) for target in self.target_hash_names)

    def _import(self, extracted: bytes, target: str) -> OfferedPsk:
        identity = b"".join(
            (
                vector(self.identity, 2),
                vector(self.context, 2),
                ProtocolVersion.DTLS_1_3.to_bytes(2, "big"),
                KDF_IDENTIFIERS[target].to_bytes(2, "big"),
            )
        )
        digest = hashlib.new(self.hash_name, identity).digest()
        secret = hkdf_expand_label(self.hash_name, extracted, b"derived psk", digest, _digest_size(target))
        return OfferedPsk(identity, secret, target, b"imp binder")


def _binding(kind: bytes, identity: bytes, key: bytes, context: bytes = b"") -> bytes:
    names = vector(kind, 1) + vector(identity, 2) + vector(context, 2)
    return hmac.digest(key, b"mediapeer session" + names, "sha256")[:BINDING_LENGTH]


def _digest_size(hash_name: str) -> int:
    return hashlib.new(hash_name).digest_size


def _check_identity(identity: bytes) -> None:
    if not 0 < len(identity) <= MAXIMUM_IDENTITY_LENGTH:
        raise ConfigurationError(f"a PSK identity has 1 to {MAXIMUM_IDENTITY_LENGTH} bytes")


def _check_key(key: bytes, hash_name: str, minimum_length: int = MINIMUM_KEY_LENGTH) -> None:
    if len(key) < minimum_length:
        raise ConfigurationError(f"a pre-shared key has at least {minimum_length} bytes")
    if hash_name not in KDF_IDENTIFIERS:
        raise ConfigurationError(f"a PSK goes with one of {', '.join(KDF_IDENTIFIERS)}, not {hash_name}")
