"""Keys and signatures that come out the same each time, so that what is found can be found again.

The engine takes nonces from ``random_bytes``, but keys from ``cryptography``. While :func:`repeatable` is in force
these come from a generator too. What ``cryptography`` keeps random are encapsulations of ML-KEM and PSS signatures.
"""

import contextlib
import datetime
import functools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519

from mediapeer.dtls import RawPublicKeyCredentials, X509Credentials, key_exchange
from mediapeer.dtls import credentials as dtls_credentials
from tests.dtls import support

_CURVES = {"ecdsa-p256": ec.SECP256R1(), "ecdsa-p384": ec.SECP384R1()}
_VALID = (datetime.datetime(2020, 1, 1), datetime.datetime(2120, 1, 1))


class _Instead:
    """A module with some of its names replaced."""

    def __init__(self, original: Any, **replaced: Any) -> None:
        self._original = original
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@contextlib.contextmanager
def repeatable(generator: random.Random) -> Iterator[None]:
    """Take the keys of key exchanges from ``generator``, and sign without randomness."""

    def ec_key(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(generator.getrandbits(248) + 1, curve)

    x25519_keys = _Instead(
        x25519.X25519PrivateKey,
        generate=lambda: x25519.X25519PrivateKey.from_private_bytes(generator.randbytes(32)),
    )
    ml_kem_keys = _Instead(
        mlkem.MLKEM768PrivateKey,
        generate=lambda: mlkem.MLKEM768PrivateKey.from_seed_bytes(generator.randbytes(64)),
    )
    changes: tuple[tuple[Any, str, Any], ...] = (
        (key_exchange, "x25519", _Instead(x25519, X25519PrivateKey=x25519_keys)),
        (key_exchange, "ec", _Instead(ec, generate_private_key=ec_key)),
        (key_exchange, "mlkem", _Instead(mlkem, MLKEM768PrivateKey=ml_kem_keys)),
        (dtls_credentials, "ec", _Instead(ec, ECDSA=functools.partial(ec.ECDSA, deterministic_signing=True))),
    )
    originals = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, replacement in changes:
            setattr(module, name, replacement)
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def raw_public_key() -> RawPublicKeyCredentials:
    """The key of :func:`credentials` by itself."""
    return RawPublicKeyCredentials(credentials().private_key)


def stapled() -> X509Credentials:
    """Credentials with everything that a server may staple to them; nobody judges it."""
    return replace(credentials(), ocsp_response=b"response", signed_certificate_timestamps=b"\0\4\0\2ab")


@functools.cache
def credentials(kind: str = "ed25519") -> X509Credentials:
    """Credentials that are the same in each process; but RSA keys, which cannot be made so."""
    if kind.startswith("rsa"):
        return support.credentials(kind)
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    else:
        key = ec.derive_private_key(2**200 + 1, _CURVES[kind])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, kind)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_VALID[0])
        .not_valid_after(_VALID[1])
    )
    if isinstance(key, ed25519.Ed25519PrivateKey):
        certificate = builder.sign(key, None)
    else:
        certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return X509Credentials((certificate.public_bytes(serialization.Encoding.DER),), key)
