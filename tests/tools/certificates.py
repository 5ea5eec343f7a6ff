"""Credentials for tests, each kind made once, and as other programs want them."""

import functools
import pathlib
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mediapeer.dtls import X509Credentials


def credentials(kind: str = "ecdsa-p256", end: str = "ours") -> X509Credentials:
    """Credentials of a kind that :meth:`X509Credentials.generate` knows, the same for each call.

    :param end: whose they are; ``ours`` and ``theirs`` get different ones.
    """
    return _generated(kind, end)


@functools.cache
def _generated(kind: str, end: str) -> X509Credentials:
    # The cache goes by how the arguments are written, so they are written in one way only.
    return X509Credentials.generate(kind)


class PemFiles(NamedTuple):
    """Where a certificate and its key are, for a command's line."""

    certificate: pathlib.Path
    private_key: pathlib.Path


def certificate_pem(certificate: bytes) -> bytes:
    """A DER certificate in PEM."""
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def write_pem(wanted: X509Credentials, directory: pathlib.Path, name: str = "first") -> PemFiles:
    """Write credentials to two files in ``directory``."""
    files = PemFiles(directory / f"{name}-certificate.pem", directory / f"{name}-key.pem")
    files.certificate.write_bytes(b"".join(certificate_pem(certificate) for certificate in wanted.chain))
    key = wanted.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.private_key.write_bytes(key)
    return files
