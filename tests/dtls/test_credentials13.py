"""How the ends of DTLS 1.3 choose and show their credentials, and what travels beside them."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mediapeer.dtls import (
    AlertDescription,
    CertificateRejected,
    CertificateType,
    ClientAuthentication,
    NamedGroup,
    NegotiationFailed,
    PeerMisbehaved,
    RawPublicKeyCredentials,
    RawPublicKeyVerifier,
    Role,
    SignatureScheme,
    X509Credentials,
)
from mediapeer.dtls.client_offer import own_certificate_types
from mediapeer.dtls.messages import ClientHello, ServerHello
from mediapeer.dtls.messages13 import Certificate13, CertificateRequest13, EncryptedExtensions
from mediapeer.dtls.registry import ExtensionType
from tests.dtls.support import Pair, configuration, credentials
from tests.dtls.test_handshake13 import changing

ALERT = AlertDescription
X509, RAW = CertificateType.X509, CertificateType.RAW_PUBLIC_KEY
SCHEME = SignatureScheme
NONE = ClientAuthentication.NONE
RPK = RawPublicKeyCredentials.generate()
OTHER_RPK = RawPublicKeyCredentials.generate()


def changed(role: Role, message: type, change: Callable[[Any], Any], client: Any, server: Any) -> Pair:
    """A pair of which one end sends another message than it means to."""
    pair = Pair(client, server)
    changing(pair.end(role), {message: change})
    return pair.run()


def with_block(kind: int, body: bytes | None) -> Callable[[Any], Any]:
    """Set an extension of a message, or take it out."""

    def change(message: Any) -> Any:
        block = {k: v for k, v in message.extensions.items() if k != kind}
        return dataclasses.replace(message, extensions=block if body is None else block | {kind: body})

    return change


def with_leaf_extension(kind: int, body: bytes) -> Callable[[Any], Any]:
    """Put an extension to the first certificate."""

    def change(message: Any) -> Any:
        first, *others = message.entries
        changed_first = dataclasses.replace(first, extensions={**first.extensions, kind: body})
        return dataclasses.replace(message, entries=(changed_first, *others))

    return change


# Raw public keys (RFC 7250)


def raw(own: Any, *known: RawPublicKeyCredentials, **options: Any) -> Any:
    """A configuration that takes raw public keys that it knows, and nothing else."""
    return configuration(
        credentials=own,
        verifier=RawPublicKeyVerifier(key.public_key_info for key in known),
        peer_certificate_types=(RAW,),
        **options,
    )


def test_two_ends_with_raw_public_keys() -> None:
    pair = Pair(raw((RPK,), OTHER_RPK), raw((OTHER_RPK,), RPK)).run()
    pair.assert_connected()
    assert pair.client.peer_raw_public_key == OTHER_RPK.public_key_info
    assert pair.server.peer_raw_public_key == RPK.public_key_info
    assert pair.client.peer_certificate is None


@pytest.mark.parametrize("role", list(Role))
def test_a_key_that_is_not_known_is_refused(role: Role) -> None:
    ends = {Role.CLIENT: raw((RPK,), OTHER_RPK), Role.SERVER: raw((OTHER_RPK,), RPK)}
    ends[role] = dataclasses.replace(ends[role], verifier=RawPublicKeyVerifier([credentials().chain[0]]))
    pair = Pair(ends[Role.CLIENT], ends[Role.SERVER]).run()
    assert isinstance(pair.end(role).error, CertificateRejected)


def test_the_first_credentials_of_a_type_that_the_client_takes_are_used() -> None:
    both = (X509, RAW)
    server = configuration(credentials=(RPK, credentials()), peer_certificate_types=both)
    plain = Pair(configuration(), server).run()
    plain.assert_connected()
    assert plain.client.peer_certificate == credentials().chain[0]
    taking_both = Pair(configuration(peer_certificate_types=both), server).run()
    taking_both.assert_connected()
    assert taking_both.client.peer_raw_public_key == RPK.public_key_info


@pytest.mark.parametrize(
    ("client", "server", "error_at"),
    [
        ({"peer_certificate_types": (RAW,)}, {}, Role.SERVER),
        ({}, {"credentials": (RPK,)}, Role.SERVER),
        ({}, {"peer_certificate_types": (RAW,)}, Role.SERVER),
    ],
    ids=["no raw key here", "no certificate here", "no raw key there"],
)
def test_without_a_type_in_common_there_is_no_handshake(client: Any, server: Any, error_at: Role) -> None:
    pair = Pair(configuration(**client), configuration(**server)).run()
    assert isinstance(pair.end(error_at).error, NegotiationFailed)


@pytest.mark.parametrize(
    ("kind", "body", "alert"),
    [
        (ExtensionType.SERVER_CERTIFICATE_TYPE, b"\0", ALERT.ILLEGAL_PARAMETER),
        (ExtensionType.SERVER_CERTIFICATE_TYPE, b"\2\2", ALERT.DECODE_ERROR),
        (ExtensionType.SERVER_CERTIFICATE_TYPE, None, ALERT.UNSUPPORTED_CERTIFICATE),
        (ExtensionType.CLIENT_CERTIFICATE_TYPE, b"\0", ALERT.ILLEGAL_PARAMETER),
    ],
)
def test_a_server_that_answers_another_type_is_refused(kind: int, body: Any, alert: Any) -> None:
    pair = changed(
        Role.SERVER,
        EncryptedExtensions,
        with_block(kind, body),
        raw((RPK,), OTHER_RPK),
        raw((OTHER_RPK,), RPK),
    )
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


def test_two_raw_keys_are_one_too_many() -> None:
    def twice(message: Any) -> Any:
        return dataclasses.replace(message, entries=message.entries * 2)

    pair = changed(Role.SERVER, Certificate13, twice, raw((RPK,), OTHER_RPK), raw((OTHER_RPK,), RPK))
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.DECODE_ERROR


def test_a_type_offered_twice_is_refused() -> None:
    pair = Pair(raw((RPK,), OTHER_RPK), raw((OTHER_RPK,), RPK))
    pair.client.datagrams_to_send()
    changing(pair.client, {ClientHello: with_block(ExtensionType.SERVER_CERTIFICATE_TYPE, b"\2\2\2")})
    hello: Any = pair.client._handshake
    hello._next_message_seq = 0
    hello._send_hello()
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.ILLEGAL_PARAMETER


# Selection (RFC 8446 §4.2.3, §4.2.4)


def issued_by(name: str) -> X509Credentials:
    """Credentials whose certificate has this issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(dn("end entity"))
        .issuer_name(dn(name))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return X509Credentials((der,), key, must_match_issuer=True)


def dn(name: str) -> x509.Name:
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


ONE, TWO = issued_by("one"), issued_by("two")


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("trusted", "chosen"), [("one", ONE), ("two", TWO)])
def test_credentials_are_chosen_by_their_issuer(role: Role, trusted: str, chosen: X509Credentials) -> None:
    choosing = configuration(credentials=(ONE, TWO))
    trusting = configuration(certificate_authorities=(dn(trusted).public_bytes(),))
    ends = (choosing, trusting) if role is Role.CLIENT else (trusting, choosing)
    pair = Pair(*ends).run()
    pair.assert_connected()
    assert pair.end(role).credentials == chosen


@pytest.mark.parametrize("authorities", [(), (dn("three").public_bytes(),)])
@pytest.mark.parametrize("role", list(Role))
def test_who_must_match_an_issuer_and_does_not_ends_the_handshake(role: Role, authorities: Any) -> None:
    choosing = configuration(credentials=(ONE, TWO), insist_on_credentials=True)
    trusting = configuration(certificate_authorities=authorities)
    pair = Pair(*((choosing, trusting) if role is Role.CLIENT else (trusting, choosing))).run()
    assert isinstance(pair.end(role).error, NegotiationFailed)
    assert pair.end(role).error.alert is ALERT.HANDSHAKE_FAILURE  # type: ignore[union-attr]


@pytest.mark.parametrize("role", list(Role))
def test_credentials_are_chosen_by_their_own_schemes(role: Role) -> None:
    rsa = credentials("rsa-2048")
    first = dataclasses.replace(rsa, signature_schemes=(SCHEME.RSA_PSS_RSAE_SHA384,))
    second = dataclasses.replace(rsa, signature_schemes=(SCHEME.RSA_PSS_RSAE_SHA256,))
    choosing = configuration(credentials=(first, second))
    picky = configuration(signature_schemes=(SCHEME.RSA_PSS_RSAE_SHA256, SCHEME.ECDSA_SECP256R1_SHA256))
    pair = Pair(*((choosing, picky) if role is Role.CLIENT else (picky, choosing))).run()
    pair.assert_connected()
    assert pair.end(role).credentials == second


@pytest.mark.parametrize("own", [(), (ONE,)], ids=["nothing", "nothing that fits"])
def test_a_client_that_has_nothing_to_show_says_so(own: Any) -> None:
    server = configuration(client_authentication=ClientAuthentication.OPTIONAL)
    pair = Pair(configuration(credentials=own), server).run()
    pair.assert_connected()
    assert pair.server.peer_certificate is None


# What is stapled (RFC 8446 §4.4.2.1, RFC 6962 §3.3)

TIMESTAMPS = b"\0\5\0\3abc"


def stapling() -> Any:
    """A server with an OCSP response and a timestamp."""
    own = dataclasses.replace(credentials(), ocsp_response=b"fresh", signed_certificate_timestamps=TIMESTAMPS)
    return configuration(credentials=(own,))


ASKING = {"request_ocsp_response": True, "request_signed_certificate_timestamps": True}


def test_who_asks_is_told() -> None:
    pair = Pair(configuration(**ASKING), stapling()).run()
    pair.assert_connected()
    assert pair.client.peer_ocsp_response == b"fresh"
    assert pair.client.peer_signed_certificate_timestamps == TIMESTAMPS


def test_who_does_not_ask_is_not() -> None:
    pair = Pair(configuration(), stapling()).run()
    pair.assert_connected()
    assert pair.client.peer_ocsp_response == pair.client.peer_signed_certificate_timestamps == b""


@pytest.mark.parametrize(
    ("options", "kind", "body", "alert"),
    [
        ({}, ExtensionType.STATUS_REQUEST, b"\1\0\0\1x", ALERT.UNSUPPORTED_EXTENSION),
        ({}, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, TIMESTAMPS, ALERT.UNSUPPORTED_EXTENSION),
        ({}, 0x1234, b"", ALERT.UNSUPPORTED_EXTENSION),
        (ASKING, ExtensionType.STATUS_REQUEST, b"\1\0\0\0", ALERT.DECODE_ERROR),
        (ASKING, ExtensionType.STATUS_REQUEST, b"\2\0\0\1x", ALERT.ILLEGAL_PARAMETER),
        (ASKING, ExtensionType.STATUS_REQUEST, b"\1\0\0\1xy", ALERT.DECODE_ERROR),
        (ASKING, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\0", ALERT.DECODE_ERROR),
        (ASKING, ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\2\0\0", ALERT.DECODE_ERROR),
    ],
)
def test_what_nobody_asked_for_and_what_makes_no_sense_is_refused(
    options: Any, kind: int, body: bytes, alert: AlertDescription
) -> None:
    change = with_leaf_extension(kind, body)
    pair = changed(Role.SERVER, Certificate13, change, configuration(**options), configuration())
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


def test_a_client_is_not_asked_for_anything_beside_its_certificate() -> None:
    change = with_leaf_extension(ExtensionType.STATUS_REQUEST, b"\1\0\0\1x")
    pair = changed(Role.CLIENT, Certificate13, change, configuration(), configuration())
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.UNSUPPORTED_EXTENSION


@pytest.mark.parametrize("body", [b"\0\0", b"\0\3\0\1", b"\0\4\0\1a"])
def test_authorities_that_make_no_sense_are_refused(body: bytes) -> None:
    change = with_block(ExtensionType.CERTIFICATE_AUTHORITIES, body)
    pair = changed(Role.SERVER, CertificateRequest13, change, configuration(), configuration())
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.DECODE_ERROR


# record_size_limit (RFC 8449), GREASE (RFC 8701)


@pytest.mark.parametrize(("client", "server"), [(64, 64), (100, None), (16_384, 200)])
def test_records_are_no_longer_than_the_peer_takes(client: int | None, server: int | None) -> None:
    pair = Pair(configuration(record_size_limit=client), configuration(record_size_limit=server)).run()
    pair.assert_connected()
    limit = client or 16_384
    with pytest.raises(ValueError, match=f"at most {min(limit - 1, 16_384)} bytes"):
        pair.server.send_application_data(bytes(limit))
    pair.server.send_application_data(bytes(limit - 1))
    pair.run()
    assert pair.received(Role.CLIENT)[-1] == bytes(limit - 1)


def test_a_limit_below_64_bytes_is_refused() -> None:
    change = with_block(ExtensionType.RECORD_SIZE_LIMIT, b"\0\x3f")
    pair = changed(
        Role.SERVER, EncryptedExtensions, change, configuration(record_size_limit=500), configuration()
    )
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


def test_a_peer_that_passes_our_limit_is_told() -> None:
    pair = Pair(configuration(record_size_limit=100), configuration()).run()
    pair.server._records.limit_plaintext(16_384)
    pair.server.send_application_data(bytes(101))
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.RECORD_OVERFLOW


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("seed", range(20))
def test_grease_in_any_order_bothers_nobody(seed: int) -> None:
    count = 0

    def numbered(length: int) -> bytes:
        nonlocal count
        count += 1
        return hashes_of(seed, count, length)

    pair = Pair(configuration(grease=True, permute_extensions=True, random_bytes=numbered), configuration())
    hello: Any = pair.client._handshake
    kinds = list(hello._hello.extensions)
    assert sum(kind & 0x0F0F == 0x0A0A for kind in kinds) == 2
    assert hello._hello.cipher_suites[0] & 0x0F0F == 0x0A0A
    pair.run().assert_connected()


@pytest.mark.parametrize("retry", [False, True])
def test_a_server_that_takes_grease_for_a_suite_is_refused(retry: bool) -> None:
    client = configuration(grease=True, groups_to_share=(NamedGroup.X25519,))
    pair = Pair(client, configuration(groups=(NamedGroup.SECP256R1,)) if retry else configuration())
    hello: Any = pair.client._handshake
    greased = hello._hello.cipher_suites[0]
    changing(pair.server, {ServerHello: lambda m: dataclasses.replace(m, cipher_suite=greased)})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.ILLEGAL_PARAMETER


def hashes_of(seed: int, count: int, length: int) -> bytes:
    """Bytes that look random and are the same each time."""
    digest = hashes.Hash(hashes.SHAKE128(length))
    digest.update(bytes([seed]) + count.to_bytes(4, "big"))
    return digest.finalize()


def test_what_a_client_says_it_has() -> None:
    assert own_certificate_types(configuration(credentials=(RPK, credentials()))) == (RAW, X509)
    assert own_certificate_types(configuration(credentials=())) == (X509,)
    said = configuration(credentials=(RPK,), own_certificate_types=(X509,))
    assert own_certificate_types(said) == (X509,)


# ALPN


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(("chosen", "result"), [(b"b", b"b"), (None, None)])
def test_a_selector_chooses_the_protocol(chosen: bytes | None, result: bytes | None) -> None:
    seen: list[tuple[bytes, ...]] = []

    def select(offered: tuple[bytes, ...]) -> bytes | None:
        seen.append(offered)
        return chosen

    pair = Pair(configuration(alpn_protocols=(b"a", b"b")), configuration(alpn_selector=select)).run()
    pair.assert_connected()
    assert seen == [(b"a", b"b")]
    assert pair.client.alpn_protocol == pair.server.alpn_protocol == result


@pytest.mark.usefixtures("version")
def test_a_selector_may_refuse() -> None:
    def refuse(offered: tuple[bytes, ...]) -> bytes | None:
        raise NegotiationFailed("not these", ALERT.NO_APPLICATION_PROTOCOL)

    pair = Pair(configuration(alpn_protocols=(b"a",)), configuration(alpn_selector=refuse)).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert pair.server.error.alert is ALERT.NO_APPLICATION_PROTOCOL


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("acknowledge", [True, False])
def test_a_server_says_that_it_has_heard_the_name(acknowledge: bool) -> None:
    server = configuration(acknowledge_server_name=acknowledge)
    pair = Pair(configuration(server_name="a.example"), server)
    answers: list[Any] = []

    def note(message: Any) -> Any:
        answers.append(ExtensionType.SERVER_NAME in message.extensions)
        return message

    changing(pair.server, {ServerHello: note, EncryptedExtensions: note})
    pair.run().assert_connected()
    assert any(answers) is acknowledge
    assert pair.server.server_name == "a.example"


@pytest.mark.usefixtures("version")
def test_an_ocsp_response_may_be_handed_out_when_it_is_wanted() -> None:
    responses = iter([b"first", b"second"])
    own = dataclasses.replace(credentials(), ocsp_response=lambda: next(responses))
    server = configuration(credentials=(own,))
    for response in (b"first", b"second"):
        pair = Pair(configuration(**ASKING), server).run()
        pair.assert_connected()
        assert pair.client.peer_ocsp_response == response
    pair = Pair(configuration(**ASKING), server).run()
    assert pair.server.error is not None
    assert pair.server.error.alert is ALERT.INTERNAL_ERROR
    Pair(configuration(), server).run().assert_connected()
