"""What came of a setup, and where that differs from what had to come."""

import dataclasses
import datetime
import functools
import itertools
from collections.abc import Collection

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mediapeer.dtls import (
    AcceptAnyPeer,
    AlertReceived,
    DtlsConfiguration,
    DtlsConnection,
    DtlsError,
    Fingerprint,
    FingerprintVerifier,
    PeerMisbehaved,
    PeerVerifier,
    ProtocolVersion,
    X509Credentials,
)
from mediapeer.dtls.configuration import ClientAuthentication
from tests.dtls.differential.prediction import Expected, Quirk, predict
from tests.dtls.differential.setups import Setup
from tests.tools import certificates

LABEL = b"EXTRACTOR-dtls_srtp"
DATA = b"there and back"


@dataclasses.dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a setup, seen from our end."""

    connected: bool
    "Whether both ends were done, exported the same key and understood each other's data."
    complaint: str = ""
    "What was wrong although both were done."
    error: DtlsError | None = None
    "Why our end failed."
    their_error: str = ""
    version: ProtocolVersion | None = None
    suite: int | None = None
    group: int | None = None
    srtp: int | None = None
    alpn: bytes | None = None
    peer_certificate: bytes | None = None


@functools.cache
def _p224(end: str) -> X509Credentials:
    """Credentials of a kind that we do not make, and may take."""
    key = ec.generate_private_key(ec.SECP224R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, end)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return X509Credentials.from_objects([certificate], key)


def credentials(kind: str, end: str) -> X509Credentials:
    """The credentials of an end, the same for each call."""
    return _p224(end) if kind == "ecdsa-p224" else certificates.credentials(kind, end)


def our_configuration(setup: Setup) -> DtlsConfiguration:
    """Our side as the engine takes it.

    :raises ConfigurationError: when it is not sound.
    """
    side = setup.ours
    theirs = setup.theirs.certificates[:1]
    verifier: PeerVerifier = AcceptAnyPeer()
    if side.takes != "anyone":
        known = credentials(theirs[0], "theirs") if theirs and side.takes == "this peer" else None
        known = known or credentials("ecdsa-p256", "nobody's")
        verifier = FingerprintVerifier([Fingerprint("sha-256", known.fingerprint())])
    return DtlsConfiguration(
        verifier=verifier,
        credentials=tuple(credentials(kind, "ours") for kind in side.certificates),
        minimum_version=max(side.versions),  # older versions are greater numbers
        maximum_version=min(side.versions),
        cipher_suites=side.suites,
        groups=side.groups,
        groups_to_share=side.shares,
        signature_schemes=side.schemes,
        client_authentication=ClientAuthentication(side.asks),
        allow_secp224r1_certificates=side.takes_p224,
        srtp_profiles=side.srtp,
        alpn_protocols=side.alpn,
        mtu=side.mtu,
        maximum_retransmissions=40,
        handshake_timeout=100.0,
    )


def seen_by(connection: DtlsConnection) -> Outcome:
    """What our end says."""
    return Outcome(
        connected=connection.is_connected,
        error=connection.error,
        version=connection.version,
        suite=connection.cipher_suite,
        group=connection.group,
        srtp=connection.srtp_profile,
        alpn=connection.alpn_protocol,
        peer_certificate=connection.peer_certificate,
    )


def judge(setup: Setup, outcome: Outcome) -> tuple[Expected, list[str], tuple[Quirk, ...]]:
    """Compare an outcome with what had to come of the setup.

    :returns: what had to come; where the outcome differs; and the quirks that explain it, if any do.
    """
    expected = predict(setup)
    found = differences(setup, expected, outcome)
    if found:
        known = [quirk for quirk in Quirk if quirk.engine == setup.theirs.engine]
        for quirks in (*itertools.combinations(known, 1), *itertools.combinations(known, 2)):
            otherwise = predict(setup, frozenset(quirks))
            if not differences(setup, otherwise, outcome):
                return otherwise, found, quirks
    return expected, found, ()


def differences(setup: Setup, expected: Expected, outcome: Outcome) -> list[str]:
    """Where the outcome is not the one expected; empty when it is."""
    if outcome.connected != expected.is_connected:
        wanted = "to connect" if expected.is_connected else f"to fail: {', '.join(expected.reasons)}"
        got = "connected" if outcome.connected else f"{outcome.error} / {outcome.their_error}"
        return [f"expected {wanted}; {got} {outcome.complaint}".rstrip()]
    if not expected.is_connected:
        return _failed_otherwise(setup, expected, outcome)
    compared: list[tuple[str, Collection[object], object]] = [
        ("version", {expected.version}, outcome.version),
        ("suite", expected.suites, outcome.suite),
        ("group", expected.groups, outcome.group),
        ("srtp", {expected.srtp}, outcome.srtp),
        ("alpn", {expected.alpn}, outcome.alpn),
    ]
    found = [
        f"expected {name} {' or '.join(map(str, want))}; got {got!s}"
        for name, want, got in compared
        if got not in want
    ]
    shown = setup.theirs.certificates[:1] if setup.ours is setup.client or expected.client_is_known else ()
    certificate = credentials(shown[0], "theirs").chain[0] if shown else None
    if outcome.peer_certificate != certificate:
        found.append("another certificate than the peer's, or none")
    return found


def _failed_otherwise(setup: Setup, expected: Expected, outcome: Outcome) -> list[str]:
    """Whether the alert is another one. Lost ones are not seen, and the error is a time-out then."""
    error = outcome.error
    if error is None:
        return [] if setup.loss else [f"our end did not fail; theirs: {outcome.their_error}"]
    if not isinstance(error, AlertReceived | PeerMisbehaved):
        return [] if setup.loss else [f"expected an alert; our end ended in {error}"]
    if isinstance(error, AlertReceived) and setup.theirs.engine == "wolfSSL":
        return []  # it has its own mind about alerts
    if error.alert not in expected.alerts:
        return [f"expected alert {sorted(a.name for a in expected.alerts)}; got {error.alert!s}: {error}"]
    return []
