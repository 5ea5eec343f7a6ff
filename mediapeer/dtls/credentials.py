"""Who we are and who the peer is: certificates with their keys, fingerprints, signatures, verifiers."""

import datetime
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mediapeer.dtls.errors import CertificateRejected, ConfigurationError, DtlsError, PeerMisbehaved
from mediapeer.dtls.psk import ImportedPreSharedKey, PreSharedKey
from mediapeer.dtls.registry import AlertDescription, AuthenticationMethod, CertificateType, SignatureScheme

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

MINIMUM_RSA_KEY_SIZE = 2048
MAXIMUM_OCSP_RESPONSE = 2**16 - 256
"Far more than any has; it has to go into an extension (RFC 8446 §4.4.2)."

#: The hash functions of a=fingerprint that this engine checks, by the name RFC 8122 §5 gives them.
FINGERPRINT_HASHES = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}

_HASHES: dict[SignatureScheme, hashes.HashAlgorithm] = {
    SignatureScheme.RSA_PKCS1_SHA256: hashes.SHA256(),
    SignatureScheme.RSA_PKCS1_SHA384: hashes.SHA384(),
    SignatureScheme.RSA_PKCS1_SHA512: hashes.SHA512(),
    SignatureScheme.RSA_PSS_RSAE_SHA256: hashes.SHA256(),
    SignatureScheme.RSA_PSS_RSAE_SHA384: hashes.SHA384(),
    SignatureScheme.RSA_PSS_RSAE_SHA512: hashes.SHA512(),
    SignatureScheme.ECDSA_SECP256R1_SHA256: hashes.SHA256(),
    SignatureScheme.ECDSA_SECP384R1_SHA384: hashes.SHA384(),
    SignatureScheme.ECDSA_SECP521R1_SHA512: hashes.SHA512(),
}
_PKCS1_SCHEMES = frozenset(
    {SignatureScheme.RSA_PKCS1_SHA256, SignatureScheme.RSA_PKCS1_SHA384, SignatureScheme.RSA_PKCS1_SHA512}
)
_PSS_SCHEMES = frozenset(
    {
        SignatureScheme.RSA_PSS_RSAE_SHA256,
        SignatureScheme.RSA_PSS_RSAE_SHA384,
        SignatureScheme.RSA_PSS_RSAE_SHA512,
    }
)
_ECDSA_SCHEMES = frozenset(
    {
        SignatureScheme.ECDSA_SECP256R1_SHA256,
        SignatureScheme.ECDSA_SECP384R1_SHA384,
        SignatureScheme.ECDSA_SECP521R1_SHA512,
    }
)
_EC_CURVES: dict[str, ec.EllipticCurve] = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
}


def schemes_for_key(key: PrivateKey | PublicKey) -> frozenset[SignatureScheme]:
    """The signature schemes of DTLS 1.2 that ``key`` can make or verify."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return _PKCS1_SCHEMES | _PSS_SCHEMES
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return _ECDSA_SCHEMES
    return frozenset({SignatureScheme.ED25519})


def sign(key: PrivateKey, scheme: SignatureScheme, data: bytes) -> bytes:
    """Sign ``data`` by ``scheme``, which must be one of :func:`schemes_for_key` (RFC 5246 §4.7, RFC 8446 §4.2.3)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_HASHES[scheme]))
    return key.sign(data, _rsa_padding(scheme), _HASHES[scheme])


def verify(key: PublicKey, scheme: SignatureScheme, signature: bytes, data: bytes) -> None:
    """Check a signature of the peer (RFC 5246 §4.7).

    :raises PeerMisbehaved: with ``illegal_parameter`` when the scheme does not go with the key, with
        ``decrypt_error`` when the signature is wrong.
    """
    if scheme not in schemes_for_key(key):
        raise PeerMisbehaved(
            f"{scheme.name.lower()} does not go with the peer's key", AlertDescription.ILLEGAL_PARAMETER
        )
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(_HASHES[scheme]))
        else:
            key.verify(signature, data, _rsa_padding(scheme), _HASHES[scheme])
    except InvalidSignature:
        raise PeerMisbehaved("the peer's signature is wrong", AlertDescription.DECRYPT_ERROR) from None


def _rsa_padding(scheme: SignatureScheme) -> padding.AsymmetricPadding:
    if scheme in _PKCS1_SCHEMES:
        return padding.PKCS1v15()
    digest = _HASHES[scheme]
    return padding.PSS(padding.MGF1(digest), digest.digest_size)


def authentication_method(key: PrivateKey | PublicKey) -> AuthenticationMethod:
    """The authentication method whose cipher suites go with ``key`` (RFC 8422 §2, §5.10)."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return AuthenticationMethod.RSA
    return AuthenticationMethod.ECDSA


def fingerprint(certificate: bytes, algorithm: str = "sha-256") -> str:
    """The fingerprint of a DER certificate as SDP writes it: ``AB:CD:…`` (RFC 8122 §5).

    :raises ConfigurationError: for a hash that is not in :data:`FINGERPRINT_HASHES`.
    """
    try:
        digest = hashlib.new(FINGERPRINT_HASHES[algorithm.lower()], certificate).digest()
    except KeyError:
        raise ConfigurationError(f"no fingerprint hash is called {algorithm!r}") from None
    return digest.hex(":").upper()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A fingerprint that signaling delivered (RFC 8122 §5)."""

    algorithm: str
    "The name of the hash, in any case: ``sha-256``."
    value: str
    "The digest in hexadecimal with colons, in any case."


@dataclass(frozen=True, slots=True)
class X509Credentials:
    """A certificate chain and the private key of its first certificate. The key is not shown by ``repr``."""

    chain: tuple[bytes, ...]
    "The certificates in DER, the end entity's first (RFC 5246 §7.4.2)."
    private_key: PrivateKey
    signature_schemes: tuple[SignatureScheme, ...] | None = None
    "By which schemes the key signs, in order of preference; ``None``: by those of the configuration."
    must_match_issuer: bool = False
    "Whether to use it only where the peer names an issuer of the chain among its certificate authorities."
    ocsp_response: bytes | Callable[[], bytes] = b""
    """An OCSP response in DER for clients that ask for one (RFC 6066 §8, RFC 8446 §4.4.2.1), or what hands out the
    one that is fresh, at once; empty for none."""
    signed_certificate_timestamps: bytes = b""
    "A ``SignedCertificateTimestampList`` as it stands on the wire, for clients that ask for one (RFC 6962 §3.3)."

    certificate_type: ClassVar = CertificateType.X509

    def __repr__(self) -> str:
        return f"X509Credentials({self.fingerprint()})"

    def stapled_ocsp_response(self) -> bytes:
        """The OCSP response of now; empty when there is none.

        :raises DtlsError: with ``internal_error`` when what hands it out fails.
        """
        response = self.ocsp_response
        try:
            if not isinstance(response, bytes):
                response = bytes(memoryview(response()))
        except Exception as error:
            raise DtlsError(
                f"the OCSP response cannot be had: {type(error).__name__}", AlertDescription.INTERNAL_ERROR
            ) from error
        if len(response) > MAXIMUM_OCSP_RESPONSE:
            raise DtlsError("the OCSP response is too long", AlertDescription.INTERNAL_ERROR)
        return response

    def fingerprint(self, algorithm: str = "sha-256") -> str:
        """The fingerprint of the end entity's certificate; see :func:`fingerprint`."""
        return fingerprint(self.chain[0], algorithm)

    @classmethod
    def generate(cls, kind: str = "ecdsa-p256", lifetime_days: int = 30) -> "X509Credentials":
        """Make a fresh key and a self-signed certificate for it, with a random name (RFC 8827 §6.5).

        :param kind: ``ecdsa-p256``, ``ecdsa-p384``, ``ecdsa-p521``, ``ed25519`` or ``rsa-2048``, ``rsa-3072``,
            ``rsa-4096``.
        :param lifetime_days: how long the certificate is valid; it starts a day ago, for clocks that are late.
        :raises ConfigurationError: for any other kind.
        """
        key = _generate_key(kind)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(16))])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=lifetime_days))
        )
        algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        certificate = builder.sign(key, algorithm)
        return cls((certificate.public_bytes(serialization.Encoding.DER),), key)

    @classmethod
    def from_pem(
        cls, certificates: bytes, private_key: bytes, password: bytes | None = None
    ) -> "X509Credentials":
        """Load a chain (end entity first) and its key from PEM.

        :raises ConfigurationError: when either does not parse, or the key is not that of the first certificate.
        """
        try:
            chain = x509.load_pem_x509_certificates(certificates)
            key = serialization.load_pem_private_key(private_key, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"the certificate or its key does not load: {error}") from error
        return cls.from_objects(chain, key)

    @classmethod
    def from_objects(cls, chain: Sequence[x509.Certificate], private_key: object) -> "X509Credentials":
        """Take a chain and a key that ``cryptography`` has loaded; errors as in :meth:`from_pem`."""
        if not isinstance(private_key, PrivateKey):
            raise ConfigurationError("the private key is none of ECDSA, Ed25519 and RSA")
        if private_key.public_key() != chain[0].public_key():
            raise ConfigurationError("the private key is not that of the certificate")
        return cls(tuple(c.public_bytes(serialization.Encoding.DER) for c in chain), private_key)


@dataclass(frozen=True, slots=True)
class RawPublicKeyCredentials:
    """A key pair without a certificate (RFC 7250). The private key is not shown by ``repr``."""

    private_key: PrivateKey
    signature_schemes: tuple[SignatureScheme, ...] | None = None
    "By which schemes the key signs, in order of preference; ``None``: by those of the configuration."

    certificate_type: ClassVar = CertificateType.RAW_PUBLIC_KEY
    must_match_issuer: ClassVar = False
    signed_certificate_timestamps: ClassVar = b""

    def __repr__(self) -> str:
        return f"RawPublicKeyCredentials({hashlib.sha256(self.public_key_info).hexdigest()})"

    @property
    def public_key_info(self) -> bytes:
        """The ``SubjectPublicKeyInfo`` in DER: what the peer is to expect."""
        return self.private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def stapled_ocsp_response(self) -> bytes:
        """Nothing: nobody has signed the key."""
        return b""

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What stands in the Certificate message: the public key alone."""
        return (self.public_key_info,)

    @classmethod
    def generate(cls, kind: str = "ecdsa-p256") -> "RawPublicKeyCredentials":
        """Make a fresh key; for the kinds and the error see :meth:`X509Credentials.generate`."""
        return cls(_generate_key(kind))


SigningCredentials = X509Credentials | RawPublicKeyCredentials
"What a CertificateVerify or ServerKeyExchange can be signed with."
Credentials = X509Credentials | RawPublicKeyCredentials | PreSharedKey | ImportedPreSharedKey
"All ways to say who we are."


def _generate_key(kind: str) -> PrivateKey:
    if kind in _EC_CURVES:
        return ec.generate_private_key(_EC_CURVES[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind in ("rsa-2048", "rsa-3072", "rsa-4096"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[4:]))
    raise ConfigurationError(f"no certificate kind is called {kind!r}")


def public_key_of(certificate: bytes, *, allow_secp224r1: bool) -> PublicKey:
    """The public key of the peer's certificate, if it is one that this engine lets a peer use.

    :param certificate: DER.
    :param allow_secp224r1: whether a P-224 key passes; some WHIP clients present one by default.
    :raises CertificateRejected: with ``bad_certificate`` when it does not parse, with
        ``unsupported_certificate`` when the key is of a kind or size that is not taken.
    """
    try:
        key: object = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise CertificateRejected(f"the peer's certificate does not parse: {error}") from error
    return _checked(key, allow_secp224r1=allow_secp224r1)


def load_raw_public_key(public_key_info: bytes, *, allow_secp224r1: bool) -> PublicKey:
    """The peer's raw public key; parameters and errors as for :func:`public_key_of`.

    :param public_key_info: ``SubjectPublicKeyInfo`` in DER (RFC 7250 §3).
    """
    try:
        key: object = serialization.load_der_public_key(public_key_info)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateRejected(f"the peer's public key does not parse: {error}") from error
    return _checked(key, allow_secp224r1=allow_secp224r1)


def _checked(key: object, *, allow_secp224r1: bool) -> PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MINIMUM_RSA_KEY_SIZE:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        curve = key.curve.name
        if curve in ("secp256r1", "secp384r1", "secp521r1") or (curve == "secp224r1" and allow_secp224r1):
            return key
    raise CertificateRejected(
        "the peer's key is of a kind or size that is not taken", AlertDescription.UNSUPPORTED_CERTIFICATE
    )


class PeerVerifier(Protocol):
    """Decides, inside the handshake and before any key leaves the engine, whether the peer is the right one."""

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        """Judge the peer's certificates (DER, end entity first; empty when it sent none and none was required).

        :raises CertificateRejected: to end the handshake with its alert. Any other exception ends it with
            ``internal_error``.
        """


@runtime_checkable
class RawPublicKeyPolicy(Protocol):
    """What a verifier has besides, if the configuration takes raw public keys of the peer."""

    def verify_raw_public_key(self, public_key_info: bytes) -> None:
        """Judge the peer's ``SubjectPublicKeyInfo`` (DER); errors as in :meth:`PeerVerifier.verify_peer`."""


class AcceptAnyPeer:
    """Takes every peer. For tests, and for programs that authenticate in another way after the handshake."""

    def verify_raw_public_key(self, public_key_info: bytes) -> None:
        """Accept any key."""

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        """Accept ``chain`` whatever it is."""


class RawPublicKeyVerifier:
    """Takes the peers whose public keys are known (RFC 7250 §6), and no certificate.

    :param keys: the ``SubjectPublicKeyInfo`` of each in DER.
    """

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = tuple(keys)

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        """Refuse, whatever it is."""
        raise CertificateRejected("a raw public key was expected", AlertDescription.UNSUPPORTED_CERTIFICATE)

    def verify_raw_public_key(self, public_key_info: bytes) -> None:
        """Compare with each known key, in constant time."""
        matches = [hmac.compare_digest(public_key_info, key) for key in self._keys]
        if not any(matches):
            raise CertificateRejected("the peer's public key is not one of those expected")


class FingerprintVerifier:
    """Takes the peer whose certificate has the fingerprints that signaling delivered (RFC 8122 §6.2).

    All fingerprints with a supported hash must match, unknown hashes are passed over, and when none is
    supported nothing matches. The same code serves both roles.
    """

    def __init__(self, fingerprints: Iterable[Fingerprint]) -> None:
        self._fingerprints = tuple(f for f in fingerprints if f.algorithm.lower() in FINGERPRINT_HASHES)

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        """Compare the end entity's certificate with the fingerprints, in constant time."""
        if not chain:
            raise CertificateRejected("the peer sent no certificate")
        if not self._fingerprints:
            raise CertificateRejected("signaling gave no fingerprint with a supported hash")
        matches = [
            hmac.compare_digest(
                fingerprint(chain[0], expected.algorithm).encode(),
                expected.value.upper().encode("utf-8", "replace"),
            )
            for expected in self._fingerprints
        ]
        if not all(matches):
            raise CertificateRejected("the peer's certificate does not match the fingerprint from signaling")
