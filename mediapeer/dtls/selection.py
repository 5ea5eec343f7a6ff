"""Which of our credentials to show to a peer (RFC 5246 §7.4.2, §7.4.6; RFC 8446 §4.2.3, §4.2.4; RFC 7250 §4)."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from mediapeer.dtls.credentials import PrivateKey, PublicKey, SigningCredentials
from mediapeer.dtls.errors import NegotiationFailed
from mediapeer.dtls.registry import AlertDescription, CertificateType, SignatureScheme

NO_COMMON_SCHEME = "takes no signature scheme of our key"

SchemesForKey = Callable[[PrivateKey | PublicKey], frozenset[SignatureScheme]]


@dataclass(frozen=True, slots=True)
class PeerAccepts:
    """What the peer has said that it can verify."""

    signature_schemes: Sequence[int]
    certificate_types: Sequence[int] = (CertificateType.X509,)
    authorities: Sequence[bytes] = ()
    "DER names of the authorities it trusts; empty when it did not say."


def mismatch(credentials: SigningCredentials, accepts: PeerAccepts) -> str | None:
    """Why these credentials are not for this peer, in words, or ``None``. Signatures are another question."""
    if credentials.certificate_type not in accepts.certificate_types:
        return f"does not take certificates of type {credentials.certificate_type.name.lower()}"
    if credentials.must_match_issuer and not has_issuer(credentials.chain, accepts.authorities):
        return "trusts none of our certificate's issuers"
    return None


def usable_schemes(
    credentials: SigningCredentials,
    ours: Sequence[SignatureScheme],
    accepts: PeerAccepts,
    schemes_for_key: SchemesForKey,
) -> list[SignatureScheme]:
    """The schemes by which the credentials can sign for this peer, in our order."""
    usable = schemes_for_key(credentials.private_key).intersection(accepts.signature_schemes)
    preferred = credentials.signature_schemes if credentials.signature_schemes is not None else ours
    return [scheme for scheme in preferred if scheme in usable]


def has_issuer(chain: Sequence[bytes], authorities: Iterable[bytes]) -> bool:
    """Whether one of a chain's issuers is among the authorities."""
    named = set(authorities)
    return bool(named) and any(_issuer(certificate) in named for certificate in chain)


@functools.lru_cache(maxsize=64)
def _issuer(certificate: bytes) -> bytes:
    """The name of a certificate's issuer in DER. The certificates are ours, and few."""
    return x509.load_der_x509_certificate(certificate).issuer.public_bytes()


def nothing_fits(reason: str) -> NegotiationFailed:
    """The error for a peer that takes none of our credentials; ``reason`` is that of the last one."""
    return NegotiationFailed(f"the peer {reason}", AlertDescription.HANDSHAKE_FAILURE)
