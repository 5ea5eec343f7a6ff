"""Authorities, paths and names, in a handshake and alone."""

import datetime
import functools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CertificateRejected,
    ConfigurationError,
    X509Credentials,
    X509Verifier,
)
from tests.dtls.support import Pair, configuration

ALERT = AlertDescription
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
USAGES = {"server": x509.ExtendedKeyUsageOID.SERVER_AUTH, "client": x509.ExtendedKeyUsageOID.CLIENT_AUTH}


@functools.cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(name: str, issuer: str, **options: Any) -> x509.Certificate:
    """A certificate for ``name`` by ``issuer``; an authority if it has no usage."""
    usage, names = options.get("usage"), options.get("names", ())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(options.get("start", NOW - datetime.timedelta(days=30)))
        .not_valid_after(options.get("end", NOW + datetime.timedelta(days=30)))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key(issuer).public_key()), False)
    )
    if usage is None:
        builder = (
            builder.add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key(name).public_key()), False)
            .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
        )
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[usage]]), False)
        general: list[x509.GeneralName] = [x509.DNSName(n) for n in names] or [x509.DNSName("client.example")]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), False)
    return builder.sign(key(issuer), hashes.SHA256())


def der(value: x509.Certificate) -> bytes:
    """As it stands on the wire."""
    return value.public_bytes(Encoding.DER)


ROOT = certificate("root", "root")
MIDDLE = certificate("middle", "root")
SERVER = certificate("server", "middle", usage="server", names=("server.example", "*.wild.example"))
CLIENT = certificate("client", "root", usage="client")


def verifier(name: str | None = "server.example", **options: Any) -> X509Verifier:
    return X509Verifier([der(ROOT)], name, clock=lambda: NOW, **options)


@pytest.mark.usefixtures("version")
def test_a_handshake_between_ends_that_trust_one_authority() -> None:
    server = X509Credentials.from_objects([SERVER, MIDDLE], key("server"))
    client = X509Credentials.from_objects([CLIENT], key("client"))
    Pair(
        configuration(credentials=(client,), verifier=verifier(), server_name="server.example"),
        configuration(credentials=(server,), verifier=verifier(None)),
    ).run().assert_connected()


@pytest.mark.usefixtures("version")
def test_a_self_signed_server_is_refused_and_told_so() -> None:
    pair = Pair(configuration(verifier=verifier()), configuration()).run()
    assert isinstance(pair.client.error, CertificateRejected)
    assert isinstance(pair.server.error, AlertReceived)


def test_a_wildcard_covers_one_label() -> None:
    verifier("a.wild.example").verify_peer([der(SERVER), der(MIDDLE)])
    with pytest.raises(CertificateRejected):
        verifier("a.b.wild.example").verify_peer([der(SERVER), der(MIDDLE)])


def other(**options: Any) -> bytes:
    """A server's certificate that is wrong in one way."""
    return der(certificate("server", options.pop("issuer", "root"), usage="server", **options))


DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("chain", "alert"),
    [
        ([], ALERT.BAD_CERTIFICATE),
        ([b"no certificate"], ALERT.BAD_CERTIFICATE),
        ([der(SERVER)], ALERT.UNKNOWN_CA),
        ([other(names=("server.example",), issuer="stranger")], ALERT.UNKNOWN_CA),
        ([other(names=("another.example",))], ALERT.BAD_CERTIFICATE),
        ([other(names=("server.example",), end=NOW - DAY)], ALERT.CERTIFICATE_EXPIRED),
        ([other(names=("server.example",), start=NOW + DAY)], ALERT.CERTIFICATE_EXPIRED),
        ([der(CLIENT)], ALERT.BAD_CERTIFICATE),
        ([der(SERVER)] * 11, ALERT.BAD_CERTIFICATE),
    ],
    ids=["none", "junk", "no path", "stranger", "name", "expired", "not yet", "usage", "too many"],
)
def test_what_is_wrong_with_a_certificate(chain: list[bytes], alert: AlertDescription) -> None:
    with pytest.raises(CertificateRejected) as caught:
        verifier().verify_peer(chain)
    assert caught.value.alert is alert


def test_a_client_may_come_without_where_that_is_said() -> None:
    verifier(None, accept_none=True).verify_peer([])
    with pytest.raises(CertificateRejected):
        verifier(None).verify_peer([])


def test_a_servers_certificate_is_none_for_a_client() -> None:
    with pytest.raises(CertificateRejected):
        verifier(None).verify_peer([der(SERVER), der(MIDDLE)])


def test_an_address_is_a_name_too() -> None:
    with pytest.raises(CertificateRejected) as caught:
        verifier("192.0.2.1").verify_peer([der(SERVER), der(MIDDLE)])
    assert caught.value.alert is ALERT.BAD_CERTIFICATE


@pytest.mark.parametrize("authorities", [[], [b"junk"]])
def test_a_verifier_that_trusts_nobody_is_refused_at_once(authorities: list[bytes]) -> None:
    with pytest.raises(ConfigurationError):
        X509Verifier(authorities, "server.example")
