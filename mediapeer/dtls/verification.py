"""Judging the peer by authorities that are trusted (RFC 5280 §6), where no fingerprint comes by signaling."""

import datetime
import ipaddress
from collections.abc import Callable, Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mediapeer.dtls.configuration import Role
from mediapeer.dtls.errors import CertificateRejected, ConfigurationError
from mediapeer.dtls.registry import AlertDescription

MAXIMUM_CHAIN_LENGTH = 10
"How many certificates of a peer are looked at: searching for a path through more can take long."


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class X509Verifier:
    """Takes the peers that can show a path from their certificate to an authority of ours.

    The rules are those of the Web's PKI, as ``cryptography.x509.verification`` knows them: a server's certificate
    names it in subjectAltName, and may be used for servers; a client's may be used for clients. Whether a certificate
    was revoked is not looked at.

    :param authorities: certificates in DER that are trusted; one at least.
    :param server_name: the host name or IP address that a server must have; ``None`` to judge clients.
    :param accept_none: whether a client without a certificate passes, where none is required of it.
    :param clock: the time to judge by.
    :raises ConfigurationError: when an authority does not parse, there is none, or the name is no name.
    """

    def __init__(
        self,
        authorities: Iterable[bytes],
        server_name: str | None,
        *,
        accept_none: bool = False,
        clock: Callable[[], datetime.datetime] = _now,
    ) -> None:
        try:
            self._store = Store([x509.load_der_x509_certificate(authority) for authority in authorities])
            self._subject = None if server_name is None else _subject(server_name)
        except ValueError as error:
            raise ConfigurationError(f"the authorities or the name cannot be used: {error}") from error
        self.judges = Role.CLIENT if server_name is None else Role.SERVER
        "Whom it judges; an end of that role does not take it for its verifier."
        self._accept_none = accept_none
        self._clock = clock

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        """Look for a path.

        :raises CertificateRejected: with the alert for what is wrong (RFC 5246 §7.2.2): ``certificate_expired``,
            ``unknown_ca``, ``bad_certificate``.
        """
        if not chain:
            if self._accept_none:
                return
            raise CertificateRejected("the peer sent no certificate")
        if len(chain) > MAXIMUM_CHAIN_LENGTH:
            raise CertificateRejected(f"the peer sent {len(chain)} certificates")
        try:
            leaf, *others = [x509.load_der_x509_certificate(certificate) for certificate in chain]
        except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
            raise CertificateRejected(f"the peer's certificate does not parse: {error}") from error
        now = self._clock()
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            raise CertificateRejected(
                f"the peer's certificate is valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}",
                AlertDescription.CERTIFICATE_EXPIRED,
            )
        builder = PolicyBuilder().store(self._store).time(now)
        try:
            if self._subject is None:
                builder.build_client_verifier().verify(leaf, others)
            else:
                builder.build_server_verifier(self._subject).verify(leaf, others)
        except (VerificationError, UnsupportedAlgorithm, ValueError) as error:
            raise CertificateRejected(
                f"no trusted path leads to the peer's certificate: {error}", self._alert_for(leaf)
            ) from error

    def _alert_for(self, leaf: x509.Certificate) -> AlertDescription:
        """What is wrong, as far as that can be told: the name, else the authority."""
        if self._subject is None:
            return AlertDescription.UNKNOWN_CA
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            return AlertDescription.BAD_CERTIFICATE
        wanted = self._subject.value
        known: list[object] = [
            *names.get_values_for_type(x509.DNSName),
            *names.get_values_for_type(x509.IPAddress),
        ]
        if isinstance(wanted, str) and any(_covers(str(name), wanted) for name in known):
            return AlertDescription.UNKNOWN_CA
        return AlertDescription.UNKNOWN_CA if wanted in known else AlertDescription.BAD_CERTIFICATE


def _covers(pattern: str, name: str) -> bool:
    """Whether a name of a certificate, perhaps with a wildcard, is that of the server (RFC 9525 §6.3)."""
    if pattern.startswith("*."):
        return name.partition(".")[2].lower() == pattern[2:].lower()
    return pattern.lower() == name.lower()


def _subject(server_name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(server_name))
    except ValueError:
        return x509.DNSName(server_name)
