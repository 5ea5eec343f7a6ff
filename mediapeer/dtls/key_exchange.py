"""Key exchange: ephemeral Diffie-Hellman (RFC 8422 §5.1.1), alone or with ML-KEM (draft-ietf-tls-ecdhe-mlkem)."""

from abc import ABC, abstractmethod

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mediapeer.dtls.errors import PeerMisbehaved
from mediapeer.dtls.registry import HYBRID_GROUPS, AlertDescription, NamedGroup

_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
    NamedGroup.SECP521R1: ec.SECP521R1(),
}


_CLASSICAL_PARTS = {
    NamedGroup.X25519MLKEM768: NamedGroup.X25519,
    NamedGroup.SECP256R1MLKEM768: NamedGroup.SECP256R1,
}
ML_KEM_768_KEY_LENGTH = 1184
ML_KEM_768_CIPHERTEXT_LENGTH = 1088


class KeyShare(ABC):
    """A private key made for one handshake, and the share of it that the peer gets."""

    group: NamedGroup
    public: bytes
    "Our share as it stands on the wire."

    @abstractmethod
    def exchange(self, peer_public: bytes) -> bytes:
        """The premaster secret that comes of the peer's share.

        :raises PeerMisbehaved: with ``illegal_parameter`` when the share is none of the group's.
        """


class X25519KeyShare(KeyShare):
    """X25519 (RFC 7748 §6.1)."""

    group = NamedGroup.X25519

    def __init__(self) -> None:
        self._private_key = x25519.X25519PrivateKey.generate()
        self.public = self._private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def exchange(self, peer_public: bytes) -> bytes:
        """See :meth:`KeyShare.exchange`. A share that leads to zero is refused (RFC 8422 §5.11)."""
        try:
            return self._private_key.exchange(x25519.X25519PublicKey.from_public_bytes(peer_public))
        except ValueError as error:
            raise _bad_share(self.group) from error


class EcdhKeyShare(KeyShare):
    """ECDH on one of the NIST curves, with uncompressed points (RFC 8422 §5.10)."""

    def __init__(self, group: NamedGroup) -> None:
        self.group = group
        self._curve = _CURVES[group]
        self._private_key = ec.generate_private_key(self._curve)
        self.public = self._private_key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )

    def exchange(self, peer_public: bytes) -> bytes:
        """See :meth:`KeyShare.exchange`. Compressed points and points off the curve are refused."""
        if len(peer_public) != len(self.public):
            raise _bad_share(self.group)
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer_public)
            return self._private_key.exchange(ec.ECDH(), peer)
        except ValueError as error:
            raise _bad_share(self.group) from error


class HybridKeyShare(KeyShare):
    """A client's share of a hybrid group: an ML-KEM-768 encapsulation key beside a classical share.

    Whoever breaks one of the two still has the other before him (draft-ietf-tls-ecdhe-mlkem §4).
    """

    def __init__(self, group: NamedGroup) -> None:
        self.group = group
        self._classical = _generate_classical(_CLASSICAL_PARTS[group])
        self._private_key = mlkem.MLKEM768PrivateKey.generate()
        self.public = _joined(
            group, self._private_key.public_key().public_bytes_raw(), self._classical.public
        )

    def exchange(self, peer_public: bytes) -> bytes:
        """See :meth:`KeyShare.exchange`; the peer's share holds a ciphertext where ours holds a key."""
        ciphertext, classical = _parted(self.group, peer_public, ML_KEM_768_CIPHERTEXT_LENGTH)
        try:
            encapsulated = self._private_key.decapsulate(ciphertext)
        except ValueError as error:
            raise _bad_share(self.group) from error
        return _joined(self.group, encapsulated, self._classical.exchange(classical))


def generate_key_share(group: NamedGroup) -> KeyShare:
    """A fresh share of ``group``, for the side that speaks first."""
    return HybridKeyShare(group) if group in HYBRID_GROUPS else _generate_classical(group)


def answer_key_share(group: NamedGroup, peer_public: bytes) -> tuple[bytes, bytes]:
    """Answer the share of the side that spoke first.

    :returns: our share, and the secret that both then have.
    :raises PeerMisbehaved: with ``illegal_parameter`` when the share is none of the group's.
    """
    if group not in HYBRID_GROUPS:
        share = _generate_classical(group)
        return share.public, share.exchange(peer_public)
    encapsulation_key, classical_public = _parted(group, peer_public, ML_KEM_768_KEY_LENGTH)
    classical = _generate_classical(_CLASSICAL_PARTS[group])
    classical_secret = classical.exchange(classical_public)
    try:
        key = mlkem.MLKEM768PublicKey.from_public_bytes(encapsulation_key)
    except ValueError as error:
        raise _bad_share(group) from error
    encapsulated, ciphertext = key.encapsulate()
    return _joined(group, ciphertext, classical.public), _joined(group, encapsulated, classical_secret)


def _generate_classical(group: NamedGroup) -> KeyShare:
    return X25519KeyShare() if group is NamedGroup.X25519 else EcdhKeyShare(group)


def _joined(group: NamedGroup, ml_kem: bytes, classical: bytes) -> bytes:
    """Both parts, in the order that the group wants: the part approved by FIPS stands first."""
    return ml_kem + classical if group is NamedGroup.X25519MLKEM768 else classical + ml_kem


def _parted(group: NamedGroup, share: bytes, ml_kem_length: int) -> tuple[bytes, bytes]:
    """The ML-KEM part and the classical part of a share; the latter checks its own length."""
    if len(share) <= ml_kem_length:
        raise _bad_share(group)
    if group is NamedGroup.X25519MLKEM768:
        return share[:ml_kem_length], share[ml_kem_length:]
    return share[-ml_kem_length:], share[:-ml_kem_length]


def _bad_share(group: NamedGroup) -> PeerMisbehaved:
    return PeerMisbehaved(
        f"the peer's key share is none of {group.label}", AlertDescription.ILLEGAL_PARAMETER
    )
