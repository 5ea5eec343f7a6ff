"""Certificates of our own: made, kept for a while, and replaced before they expire."""

import datetime
import os
import threading
from collections.abc import Callable

import aiortc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

#: How long a certificate is valid unless told otherwise; what browsers do, and RFC 8827 §6.5 suggests no longer.
DEFAULT_LIFETIME = datetime.timedelta(days=30)
#: W3C webrtc §4.9.1 lets a certificate live for a year at the most.
MAXIMUM_LIFETIME = datetime.timedelta(days=365)
#: Clocks differ: a certificate is valid from this long before it was made.
BACKDATED = datetime.timedelta(days=1)


def utc_now() -> datetime.datetime:
    """The wall clock."""
    return datetime.datetime.now(datetime.UTC)


class RTCCertificate(aiortc.RTCCertificate):
    """A self-signed certificate on P-256 with its key (W3C webrtc §4.9)."""

    @classmethod
    def generateCertificate(
        cls, lifetime: datetime.timedelta = DEFAULT_LIFETIME, now: datetime.datetime | None = None
    ) -> "RTCCertificate":
        """Make a certificate with a key of its own.

        :param lifetime: how long it is valid; a year at the most.
        :param now: when it is made, in UTC; the wall clock's time by default.
        :raises ValueError: when ``lifetime`` is not positive or too long.
        """
        if not datetime.timedelta(0) < lifetime <= MAXIMUM_LIFETIME:
            raise ValueError(f"a certificate's lifetime is from 0 to {MAXIMUM_LIFETIME.days} days")
        now = utc_now() if now is None else now
        key = ec.generate_private_key(ec.SECP256R1())
        # The name is random: RFC 8827 §6.5 wants nothing in a certificate by which calls could be linked.
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, os.urandom(16).hex())])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + lifetime)
            .sign(key, hashes.SHA256())
        )
        return cls(key=key, cert=certificate)


class CertificateRotation:
    """One certificate for many connections, replaced before it expires. Give it to each as a configuration's
    ``certificates``, when making a certificate for each call costs too much or peers pin the fingerprint for a day.

    Connections that exist keep the certificate they began with.

    :param lifetime: how long each certificate is valid.
    :param renew_before: how long before its end it is replaced; calls that begin just before that must be able to
        end before it expires.
    :param now: the wall clock in UTC.
    :raises ValueError: when a certificate would be replaced before it is used.
    """

    def __init__(
        self,
        lifetime: datetime.timedelta = DEFAULT_LIFETIME,
        renew_before: datetime.timedelta = datetime.timedelta(days=2),
        now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        if not datetime.timedelta(0) <= renew_before < lifetime:
            raise ValueError("renew_before must be less than lifetime, and not negative")
        self._lifetime = lifetime
        self._renew_before = renew_before
        self._now = now
        self._current: RTCCertificate | None = None
        self._lock = threading.Lock()

    def current(self) -> RTCCertificate:
        """The certificate for a connection that begins now."""
        with self._lock:
            now = self._now()
            if self._current is None or self._current.expires - self._renew_before <= now:
                self._current = RTCCertificate.generateCertificate(self._lifetime, now)
            return self._current
