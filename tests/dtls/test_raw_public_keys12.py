"""Raw public keys in DTLS 1.2 (RFC 7250)."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mediapeer.dtls import (
    AcceptAnyPeer,
    AlertDescription,
    AlertReceived,
    CertificateRejected,
    ClientAuthentication,
    ConfigurationError,
    DecodeError,
    DtlsConfiguration,
    FingerprintVerifier,
    NegotiationFailed,
    PeerMisbehaved,
    ProtocolVersion,
    RawPublicKeyCredentials,
    RawPublicKeyVerifier,
    Role,
)
from mediapeer.dtls.messages import Certificate, RawPublicKeyCertificate, ServerHello
from mediapeer.dtls.registry import CertificateType, ExtensionType
from tests.dtls.support import Pair as AnyPair
from tests.dtls.support import configuration as any_configuration
from tests.dtls.support import credentials
from tests.dtls.test_misbehaviour import replacing, tamper, with_extension

ALERT = AlertDescription
X509, RAW = CertificateType.X509, CertificateType.RAW_PUBLIC_KEY
ONLY_RAW = {"peer_certificate_types": (RAW,)}
OURS, THEIRS = RawPublicKeyCredentials.generate(), RawPublicKeyCredentials.generate()
ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
KINDS = ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048")


def configuration(**options: Any) -> DtlsConfiguration:
    """A configuration for DTLS 1.2 alone."""
    return any_configuration(maximum_version=ProtocolVersion.DTLS_1_2, **options)


class Pair(AnyPair):
    """A client and a server that know each other's raw public keys and take nothing else, unless said otherwise."""

    def __init__(
        self, client: DtlsConfiguration | None = None, server: DtlsConfiguration | None = None
    ) -> None:
        super().__init__(
            client or configuration(credentials=(OURS,), verifier=knowing(THEIRS), **ONLY_RAW),
            server or configuration(credentials=(THEIRS,), verifier=knowing(OURS), **ONLY_RAW),
        )


def knowing(*keys: RawPublicKeyCredentials) -> RawPublicKeyVerifier:
    """A verifier for these keys alone."""
    return RawPublicKeyVerifier(key.public_key_info for key in keys)


def watched(pair: Pair, role: Role, kind: type) -> list[Any]:
    """The messages of a kind that an end sends."""
    sent: list[Any] = []
    tamper(pair.end(role), {kind: lambda message: sent.append(message) or message})
    return sent


def test_two_ends_that_know_each_others_keys() -> None:
    pair = Pair()
    hellos = watched(pair, Role.SERVER, ServerHello)
    pair.run().assert_connected()
    assert pair.client.peer_raw_public_key == THEIRS.public_key_info
    assert pair.server.peer_raw_public_key == OURS.public_key_info
    assert pair.client.peer_certificate is pair.server.peer_certificate is None
    assert (pair.client.credentials, pair.server.credentials) == (OURS, THEIRS)
    assert hellos[0].extensions[ExtensionType.SERVER_CERTIFICATE_TYPE] == b"\2"
    assert hellos[0].extensions[ExtensionType.CLIENT_CERTIFICATE_TYPE] == b"\2"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key(kind: str) -> None:
    own = RawPublicKeyCredentials.generate(kind)
    both = configuration(credentials=(own,), verifier=knowing(own), **ONLY_RAW)
    Pair(both, both).run().assert_connected()


@ROLES
def test_a_key_that_is_not_known(role: Role) -> None:
    strict = {"verifier": knowing(RawPublicKeyCredentials.generate())}
    own = OURS if role is Role.CLIENT else THEIRS
    judge = configuration(credentials=(own,), **strict, **ONLY_RAW)
    pair = Pair(judge) if role is Role.CLIENT else Pair(server=judge)
    pair.run()
    error = pair.end(role).error
    assert isinstance(error, CertificateRejected)
    assert error.alert is ALERT.BAD_CERTIFICATE
    assert isinstance(pair.peer(role).error, AlertReceived)


@pytest.mark.parametrize(
    ("theirs", "taken", "chosen"),
    [
        ((THEIRS, credentials()), (X509, RAW), RAW),
        ((credentials(), THEIRS), (RAW, X509), X509),
        ((credentials(), THEIRS), (RAW,), RAW),
        ((THEIRS, credentials()), (X509,), X509),
    ],
)
def test_the_servers_credentials_decide_on_their_type(theirs: Any, taken: Any, chosen: Any) -> None:
    client = configuration(peer_certificate_types=taken)
    pair = Pair(client, configuration(credentials=theirs)).run()
    pair.assert_connected()
    expected = theirs[0] if theirs[0].certificate_type is chosen else theirs[1]
    assert pair.server.credentials is expected
    assert (pair.client.peer_raw_public_key is None) == (chosen is X509)
    assert (pair.client.peer_certificate is None) == (chosen is RAW)


@pytest.mark.parametrize(
    ("ours", "taken", "chosen"),
    [
        ((OURS, credentials()), (X509, RAW), X509),
        ((OURS, credentials()), (RAW, X509), RAW),
        ((credentials(), OURS), (RAW,), RAW),
        ((credentials(),), (RAW, X509), X509),
    ],
)
def test_the_server_decides_on_the_type_of_the_clients_certificate(
    ours: Any, taken: Any, chosen: Any
) -> None:
    server = configuration(peer_certificate_types=taken)
    pair = Pair(configuration(credentials=ours), server).run()
    pair.assert_connected()
    assert (pair.server.peer_raw_public_key is None) == (chosen is X509)
    assert (pair.server.peer_certificate is None) == (chosen is RAW)


def test_what_a_client_says_it_has_may_be_less_than_it_has() -> None:
    client = configuration(credentials=(OURS, credentials()), own_certificate_types=(X509,))
    server = configuration(peer_certificate_types=(RAW, X509))
    pair = Pair(client, server).run()
    pair.assert_connected()
    assert pair.client.credentials is credentials()


def test_a_client_that_has_no_key_after_all() -> None:
    """It says so by an empty key, for which RFC 7250 has no place, and others do the same."""
    client = configuration(credentials=(), own_certificate_types=(RAW,))
    lenient = configuration(
        credentials=(credentials(),), client_authentication=ClientAuthentication.OPTIONAL, **ONLY_RAW
    )
    pair = Pair(client, lenient)
    sent = watched(pair, Role.CLIENT, RawPublicKeyCertificate)
    pair.run().assert_connected()
    assert sent == [RawPublicKeyCertificate(b"")]
    assert pair.server.peer_raw_public_key is None
    pair = Pair(client, configuration(**ONLY_RAW)).run()
    assert isinstance(pair.server.error, CertificateRejected)
    assert pair.server.error.alert is ALERT.HANDSHAKE_FAILURE


def test_a_client_whose_type_is_not_taken() -> None:
    pair = Pair(configuration(), configuration(**ONLY_RAW)).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert pair.server.error.alert is ALERT.UNSUPPORTED_CERTIFICATE


def test_who_is_not_asked_needs_no_type() -> None:
    server = configuration(client_authentication=ClientAuthentication.NONE, **ONLY_RAW)
    pair = Pair(configuration(credentials=(OURS,)), server)
    hellos = watched(pair, Role.SERVER, ServerHello)
    pair.run().assert_connected()
    assert ExtensionType.CLIENT_CERTIFICATE_TYPE not in hellos[0].extensions


def test_a_server_without_a_type_that_the_client_takes() -> None:
    for theirs, taken in ((credentials(), RAW), (THEIRS, X509)):
        client = configuration(peer_certificate_types=(taken,))
        pair = Pair(client, configuration(credentials=(theirs,))).run()
        assert isinstance(pair.server.error, NegotiationFailed)
        assert pair.server.error.alert is ALERT.HANDSHAKE_FAILURE
        assert "certificates of type" in str(pair.server.error)


def test_who_offers_x509_alone_says_nothing_and_hears_nothing() -> None:
    pair = Pair(configuration(), configuration())
    hellos = watched(pair, Role.SERVER, ServerHello)
    pair.run().assert_connected()
    kinds = {ExtensionType.SERVER_CERTIFICATE_TYPE, ExtensionType.CLIENT_CERTIFICATE_TYPE}
    assert not kinds & set(hellos[0].extensions)


def test_a_verifier_that_cannot_judge_raw_public_keys() -> None:
    with pytest.raises(ConfigurationError):
        configuration(verifier=FingerprintVerifier([]), **ONLY_RAW)


# Peers that break the protocol


def test_a_server_that_goes_back_to_x509() -> None:
    for change in (
        with_extension(ExtensionType.SERVER_CERTIFICATE_TYPE, None),
        with_extension(ExtensionType.SERVER_CERTIFICATE_TYPE, b"\0"),
    ):
        pair = Pair()
        tamper(pair.server, {ServerHello: change})
        pair.run()
        assert isinstance(pair.client.error, PeerMisbehaved)
        assert pair.client.error.alert in (ALERT.UNSUPPORTED_CERTIFICATE, ALERT.ILLEGAL_PARAMETER)


@pytest.mark.parametrize(
    "kind", [ExtensionType.SERVER_CERTIFICATE_TYPE, ExtensionType.CLIENT_CERTIFICATE_TYPE]
)
@pytest.mark.parametrize("body", [b"", b"\2\2", b"\1", b"\7"])
def test_a_type_that_is_none(kind: ExtensionType, body: bytes) -> None:
    pair = Pair()
    tamper(pair.server, {ServerHello: with_extension(kind, body)})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert in (ALERT.DECODE_ERROR, ALERT.ILLEGAL_PARAMETER)


def test_a_type_that_nobody_asked_for() -> None:
    client = configuration()
    pair = Pair(client, configuration())
    tamper(pair.server, {ServerHello: with_extension(ExtensionType.SERVER_CERTIFICATE_TYPE, b"\2")})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNSUPPORTED_EXTENSION


def curve_that_is_not_taken() -> bytes:
    key = ec.generate_private_key(ec.SECP256K1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (replacing(public_key_info=b""), ALERT.DECODE_ERROR),
        (replacing(public_key_info=b"junk"), ALERT.BAD_CERTIFICATE),
        (replacing(public_key_info=curve_that_is_not_taken()), ALERT.UNSUPPORTED_CERTIFICATE),
        (
            replacing(public_key_info=RawPublicKeyCredentials.generate("rsa-2048").public_key_info),
            ALERT.ILLEGAL_PARAMETER,
        ),
        (replacing(public_key_info=OURS.public_key_info), ALERT.DECRYPT_ERROR),
        # What X.509 looks like: a list of one.
        (lambda _: Certificate(credentials().chain), ALERT.BAD_CERTIFICATE),
    ],
)
def test_a_server_that_shows_another_key(change: Any, alert: AlertDescription) -> None:
    pair = Pair(configuration(credentials=(OURS,), verifier=AcceptAnyPeer(), **ONLY_RAW))
    tamper(pair.server, {RawPublicKeyCertificate: change})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


def test_a_client_that_shows_a_key_it_does_not_have() -> None:
    pair = Pair(server=configuration(credentials=(THEIRS,), **ONLY_RAW))
    tamper(pair.client, {RawPublicKeyCertificate: replacing(public_key_info=THEIRS.public_key_info)})
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.DECRYPT_ERROR


def test_the_message_as_it_stands_on_the_wire() -> None:
    """RFC 7250 §3: the key alone, not a list of one certificate."""
    body = bytes.fromhex("000003abcdef")
    assert RawPublicKeyCertificate(b"\xab\xcd\xef").serialize() == body
    assert RawPublicKeyCertificate.parse(body).public_key_info == b"\xab\xcd\xef"
    for wrong in (body[:-1], body + b"\0", b""):
        with pytest.raises(DecodeError):
            RawPublicKeyCertificate.parse(wrong)
