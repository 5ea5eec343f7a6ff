"""Ephemeral Diffie-Hellman in the groups of RFC 8422 §5.1.1."""

from abc import ABC, abstractmethod

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mediapeer.dtls.errors import PeerMisbehaved
from mediapeer.dtls.registry import AlertDescription, NamedGroup

_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
    NamedGroup.SECP521R1: ec.SECP521R1(),
}


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


def generate_key_share(group: NamedGroup) -> KeyShare:
    """A fresh share of ``group``."""
    return X25519KeyShare() if group is NamedGroup.X25519 else EcdhKeyShare(group)


def _bad_share(group: NamedGroup) -> PeerMisbehaved:
    return PeerMisbehaved(
        f"the peer's key share is no point of {group.label}", AlertDescription.ILLEGAL_PARAMETER
    )
