"""Which of their credentials a server and a client of DTLS 1.2 show (RFC 5246 §7.4.2, §7.4.6, RFC 8422 §5.1)."""

import dataclasses
import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CipherSuite,
    ClientAuthentication,
    DtlsConfiguration,
    NamedGroup,
    NegotiationFailed,
    ProtocolVersion,
    Role,
    SignatureScheme,
    X509Credentials,
)
from mediapeer.dtls.choice12 import NO_SHARED_CIPHER_SUITE, WRONG_CURVE
from mediapeer.dtls.messages import CertificateRequest, CertificateVerify, ClientHello, ServerKeyExchange
from mediapeer.dtls.registry import ClientCertificateType, ExtensionType
from mediapeer.dtls.selection import NO_COMMON_SCHEME
from tests.dtls.support import Pair as AnyPair
from tests.dtls.support import configuration as any_configuration
from tests.dtls.support import credentials
from tests.dtls.test_misbehaviour import replacing, tamper, with_extension

ALERT = AlertDescription
P256, P384 = credentials("ecdsa-p256"), credentials("ecdsa-p384")
RSA, ED25519 = credentials("rsa-2048"), credentials("ed25519")
ECDSA_SUITES = (
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
)
RSA_SUITES = (CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,)
NO_ISSUER = "trusts none of our certificate's issuers"


def configuration(**options: Any) -> DtlsConfiguration:
    """A configuration for DTLS 1.2 alone."""
    return any_configuration(maximum_version=ProtocolVersion.DTLS_1_2, **options)


def issued(name: str) -> X509Credentials:
    """Credentials with a chain of two: a leaf that was issued by ``name``, and its issuer's own certificate."""
    now = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = []
    for subject, issuer, key, signer in (
        ("leaf", "intermediate", keys[0], keys[1]),
        ("intermediate", name, keys[1], keys[1]),
    ):
        builder = x509.CertificateBuilder(
            issuer_name=named(issuer),
            subject_name=named(subject),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now,
            not_valid_after=now + datetime.timedelta(days=36_500),
        )
        chain.append(builder.sign(signer, hashes.SHA256()))
    return X509Credentials.from_objects(chain, keys[0])


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


ISSUED = dataclasses.replace(issued("root one"), must_match_issuer=True)
OTHER_ISSUED = dataclasses.replace(issued("root two"), must_match_issuer=True)
ROOT_ONE, ROOT_TWO = named("root one").public_bytes(), named("root two").public_bytes()


def signing(own: X509Credentials, *schemes: SignatureScheme) -> X509Credentials:
    """The same credentials with schemes of their own."""
    return dataclasses.replace(own, signature_schemes=schemes)


def refusal(error: Any, reason: str) -> None:
    """The error is that nothing fits, and why."""
    assert isinstance(error, NegotiationFailed)
    assert error.alert is ALERT.HANDSHAKE_FAILURE
    assert reason in str(error)


SERVER_CASES = [
    pytest.param({"cipher_suites": ECDSA_SUITES}, P256, RSA, NO_SHARED_CIPHER_SUITE, id="suite for ECDSA"),
    pytest.param({"cipher_suites": RSA_SUITES}, RSA, P256, NO_SHARED_CIPHER_SUITE, id="suite for RSA"),
    pytest.param(
        {"cipher_suites": ECDSA_SUITES}, ED25519, RSA, NO_SHARED_CIPHER_SUITE, id="suite for Ed25519"
    ),
    pytest.param(
        {"cipher_suites": RSA_SUITES}, RSA, ED25519, NO_SHARED_CIPHER_SUITE, id="no suite for Ed25519"
    ),
    pytest.param({"groups": (NamedGroup.SECP256R1,)}, P256, P384, WRONG_CURVE, id="curve"),
    pytest.param({"groups": (NamedGroup.SECP256R1,)}, ED25519, P384, WRONG_CURVE, id="no curve"),
    pytest.param(
        {"signature_schemes": (SignatureScheme.ECDSA_SECP256R1_SHA256,)},
        P256,
        RSA,
        NO_COMMON_SCHEME,
        id="scheme",
    ),
    pytest.param(
        {"signature_schemes": (SignatureScheme.ECDSA_SECP256R1_SHA256,)},
        P384,
        RSA,
        NO_COMMON_SCHEME,
        id="scheme without a curve",
    ),
    pytest.param(
        {"signature_schemes": (SignatureScheme.RSA_PSS_RSAE_SHA256,), "credentials": (RSA,)},
        signing(RSA, SignatureScheme.RSA_PSS_RSAE_SHA256),
        signing(RSA, SignatureScheme.RSA_PSS_RSAE_SHA384),
        NO_COMMON_SCHEME,
        id="scheme of the credentials",
    ),
]


@pytest.mark.parametrize(("client", "match", "mismatch", "reason"), SERVER_CASES)
def test_a_server_takes_the_first_that_fits(client: Any, match: Any, mismatch: Any, reason: str) -> None:
    for both in ((match, mismatch), (mismatch, match)):
        pair = AnyPair(configuration(**client), configuration(credentials=both)).run()
        pair.assert_connected()
        assert pair.server.credentials is match
    pair = AnyPair(configuration(**client), configuration(credentials=(mismatch,))).run()
    refusal(pair.server.error, reason)
    assert isinstance(pair.client.error, AlertReceived)


def test_a_servers_credentials_go_before_its_suites() -> None:
    suites = (*ECDSA_SUITES, *RSA_SUITES)
    pair = AnyPair(configuration(), configuration(credentials=(RSA, P256), cipher_suites=suites)).run()
    pair.assert_connected()
    assert pair.server.credentials is RSA
    assert pair.server.cipher_suite is RSA_SUITES[0]


def test_among_the_suites_of_its_credentials_a_server_goes_by_its_own_order() -> None:
    pair = AnyPair(
        configuration(cipher_suites=ECDSA_SUITES), configuration(cipher_suites=ECDSA_SUITES[::-1])
    ).run()
    pair.assert_connected()
    assert pair.server.cipher_suite is ECDSA_SUITES[1]


def test_without_a_group_in_common_there_is_no_suite() -> None:
    pair = AnyPair(
        configuration(groups=(NamedGroup.SECP256R1,)), configuration(groups=(NamedGroup.X25519,))
    ).run()
    refusal(pair.server.error, NO_SHARED_CIPHER_SUITE)


def test_a_client_that_names_no_scheme_means_sha1() -> None:
    pair = AnyPair(configuration(), configuration())
    tamper_hello(pair, with_extension(ExtensionType.SIGNATURE_ALGORITHMS, None))
    pair.run()
    refusal(pair.server.error, NO_COMMON_SCHEME)


@pytest.mark.parametrize(("authorities", "chosen"), [((ROOT_ONE,), 0), ((b"x", ROOT_TWO), 1)])
def test_a_server_heeds_the_authorities_that_a_client_names(authorities: Any, chosen: int) -> None:
    server = configuration(credentials=(ISSUED, OTHER_ISSUED))
    pair = AnyPair(configuration(certificate_authorities=authorities), server).run()
    pair.assert_connected()
    assert pair.server.credentials is (ISSUED, OTHER_ISSUED)[chosen]


@pytest.mark.parametrize("authorities", [(), (b"x",), (named("leaf").public_bytes(),)])
def test_a_server_whose_authority_the_client_does_not_name(authorities: Any) -> None:
    client = configuration(certificate_authorities=authorities)
    refusal(AnyPair(client, configuration(credentials=(ISSUED,))).run().server.error, NO_ISSUER)
    # Credentials that do not insist are used all the same.
    lenient = dataclasses.replace(ISSUED, must_match_issuer=False)
    AnyPair(client, configuration(credentials=(ISSUED, lenient))).run().assert_connected()


def test_an_intermediate_authority_is_one_too() -> None:
    client = configuration(certificate_authorities=(named("intermediate").public_bytes(),))
    AnyPair(client, configuration(credentials=(ISSUED,))).run().assert_connected()


@pytest.mark.parametrize(
    ("kind", "schemes", "expected"),
    [
        ("ecdsa-p384", None, SignatureScheme.ECDSA_SECP384R1_SHA384),
        (
            "ecdsa-p384",
            (SignatureScheme.ECDSA_SECP256R1_SHA256, SignatureScheme.ECDSA_SECP384R1_SHA384),
            SignatureScheme.ECDSA_SECP256R1_SHA256,
        ),
        ("rsa-2048", (SignatureScheme.RSA_PKCS1_SHA512,), SignatureScheme.RSA_PKCS1_SHA512),
    ],
)
@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
def test_the_scheme_that_credentials_sign_by(role: Role, kind: str, schemes: Any, expected: Any) -> None:
    own = dataclasses.replace(credentials(kind), signature_schemes=schemes)
    options = [{"credentials": (own,)} if end is role else {} for end in Role]
    pair = AnyPair(*(configuration(**option) for option in options))
    message = CertificateVerify if role is Role.CLIENT else ServerKeyExchange
    sent: list[Any] = []
    tamper(pair.end(role), {message: lambda m: sent.append(m) or m})
    pair.run().assert_connected()
    assert sent[0].signature_scheme == expected


# The client, when it is asked


def requesting(pair: AnyPair, **fields: Any) -> AnyPair:
    """The pair with another CertificateRequest."""
    tamper(pair.server, {CertificateRequest: replacing(**fields)})
    return pair.run()


CLIENT_CASES = [
    pytest.param(
        {"certificate_types": (ClientCertificateType.RSA_SIGN,)}, RSA, P256, "certificates of type", id="type"
    ),
    pytest.param(
        {"certificate_types": (ClientCertificateType.ECDSA_SIGN,)},
        ED25519,
        RSA,
        "certificates of type",
        id="Ed25519",
    ),
    pytest.param({"signature_schemes": (0x0403,)}, P256, RSA, NO_COMMON_SCHEME, id="scheme"),
    pytest.param({"signature_schemes": (0x0403,)}, P384, RSA, NO_COMMON_SCHEME, id="scheme without a curve"),
    pytest.param({"authorities": (ROOT_ONE,)}, ISSUED, OTHER_ISSUED, NO_ISSUER, id="issuer"),
    pytest.param({"authorities": ()}, P256, ISSUED, NO_ISSUER, id="no issuer"),
]


@pytest.mark.parametrize(("request_fields", "match", "mismatch", "reason"), CLIENT_CASES)
def test_a_client_takes_the_first_that_fits(
    request_fields: Any, match: Any, mismatch: Any, reason: str
) -> None:
    for both in ((match, mismatch), (mismatch, match)):
        pair = requesting_of(both, request_fields)
        assert pair.client.credentials is match
        assert pair.client.error is None
    insisting = requesting_of((mismatch,), request_fields, insist_on_credentials=True)
    refusal(insisting.client.error, reason)
    assert isinstance(insisting.server.error, AlertReceived)
    without = requesting_of((mismatch,), request_fields)
    assert without.client.is_connected
    assert without.server.peer_certificate is None


def requesting_of(own: Any, request_fields: Any, **options: Any) -> AnyPair:
    """A client with these credentials, and a server that asks in this way."""
    optional = configuration(client_authentication=ClientAuthentication.OPTIONAL)
    return requesting(AnyPair(configuration(credentials=own, **options), optional), **request_fields)


def test_the_authorities_of_a_server_reach_the_client() -> None:
    server = configuration(certificate_authorities=(ROOT_TWO, ROOT_ONE))
    pair = AnyPair(configuration(credentials=(P256, ISSUED)), server)
    sent: list[Any] = []
    tamper(pair.server, {CertificateRequest: lambda m: sent.append(m) or m})
    pair.run().assert_connected()
    assert sent[0].authorities == (ROOT_TWO, ROOT_ONE)
    pair = AnyPair(configuration(credentials=(OTHER_ISSUED, P256)), server).run()
    pair.assert_connected()
    assert pair.client.credentials is OTHER_ISSUED


def test_a_client_that_has_nothing_says_so() -> None:
    pair = AnyPair(
        configuration(credentials=()), configuration(client_authentication=ClientAuthentication.OPTIONAL)
    ).run()
    pair.assert_connected()
    assert pair.client.credentials is None
    assert pair.server.peer_certificate is None


def tamper_hello(pair: AnyPair, change: Any) -> None:
    """Have the client send another ClientHello."""
    tamper(pair.client, {ClientHello: change})
    pair.client.datagrams_to_send()
    handshake: Any = pair.client._handshake
    handshake._next_message_seq = 0
    handshake._send_hello()
