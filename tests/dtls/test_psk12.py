"""Pre-shared keys in DTLS 1.2 (RFC 4279, RFC 5489), and the suites that go with them and with small devices."""

from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CipherSuite,
    ClientAuthentication,
    ConfigurationError,
    DecodeError,
    DtlsConfiguration,
    HandshakeTimeout,
    ImportedPreSharedKey,
    NamedGroup,
    NegotiationFailed,
    PeerMisbehaved,
    PreSharedKey,
    ProtocolVersion,
    Role,
)
from mediapeer.dtls.key_schedule import psk_premaster_secret
from mediapeer.dtls.messages import (
    CertificateRequest,
    ClientKeyExchange,
    EcdhParameters,
    PskClientKeyExchange,
    PskServerKeyExchange,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AuthenticationMethod,
    CertificateType,
    ExtensionType,
)
from tests.dtls.support import Pair as AnyPair
from tests.dtls.support import configuration as any_configuration
from tests.dtls.support import credentials
from tests.dtls.test_misbehaviour import replacing, tamper, with_extension

SECRET = bytes(range(16))
KEY = PreSharedKey(b"device 1", SECRET)
OTHER_KEY = PreSharedKey(b"device 2", SECRET[::-1])
ALL_SUITES = tuple(CipherSuite)
PSK_SUITES = [
    suite
    for suite, parameters in CIPHER_SUITE_PARAMETERS.items()
    if parameters.authentication is AuthenticationMethod.PSK
]
BARE = CipherSuite.TLS_PSK_WITH_AES_128_CCM_8
EPHEMERAL = CipherSuite.TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256
EITHER = pytest.mark.parametrize("suite", [BARE, EPHEMERAL], ids=["bare", "ephemeral"])
ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)


def configuration(**options: Any) -> DtlsConfiguration:
    """A configuration for DTLS 1.2 with every suite there is."""
    options.setdefault("cipher_suites", ALL_SUITES)
    return any_configuration(maximum_version=ProtocolVersion.DTLS_1_2, **options)


def knowing(*keys: Any, **options: Any) -> DtlsConfiguration:
    """A configuration with nothing but pre-shared keys."""
    return configuration(credentials=keys, verifier=None, **options)


class Pair(AnyPair):
    """A client and a server that both know the one key, unless said otherwise."""

    def __init__(
        self, client: DtlsConfiguration | None = None, server: DtlsConfiguration | None = None
    ) -> None:
        super().__init__(client or knowing(KEY), server or knowing(KEY))


@pytest.mark.parametrize("suite", PSK_SUITES, ids=lambda suite: suite.name)
def test_every_suite_with_a_pre_shared_key(suite: CipherSuite) -> None:
    pair = Pair(server=knowing(KEY, cipher_suites=(suite,))).run()
    pair.assert_connected()
    is_ephemeral = CIPHER_SUITE_PARAMETERS[suite].is_ephemeral
    for end in (pair.client, pair.server):
        assert end.cipher_suite is suite
        assert end.group is (NamedGroup.X25519 if is_ephemeral else None)
        assert end.pre_shared_key_identity == b"device 1"
        assert end.credentials is KEY
        assert end.peer_certificate is None
        assert not end.is_resumed


@pytest.mark.parametrize(
    "suite",
    [
        CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM,
        CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
    ],
    ids=lambda suite: suite.name,
)
def test_ccm_with_certificates(suite: CipherSuite) -> None:
    pair = Pair(configuration(), configuration(cipher_suites=(suite,))).run()
    pair.assert_connected()
    assert pair.client.cipher_suite is suite


@pytest.mark.parametrize(
    ("suite", "expansion"),
    [
        (CipherSuite.TLS_PSK_WITH_AES_128_GCM_SHA256, 24),
        (CipherSuite.TLS_PSK_WITH_AES_128_CCM, 24),
        (CipherSuite.TLS_PSK_WITH_AES_128_CCM_8, 16),
        (CipherSuite.TLS_PSK_WITH_CHACHA20_POLY1305_SHA256, 16),
    ],
)
def test_what_a_record_is_longer_by(suite: CipherSuite, expansion: int) -> None:
    pair = Pair(server=knowing(KEY, cipher_suites=(suite,))).run()
    pair.client.send_application_data(bytes(100))
    (datagram,) = pair.client.datagrams_to_send()
    assert len(datagram) == 13 + 100 + expansion


def test_the_premaster_secret() -> None:
    """RFC 4279 §2: as many zeros as the key has bytes; RFC 5489 §2: the shared secret in their place."""
    assert psk_premaster_secret(b"key", None).hex() == "000300000000036b6579"
    assert psk_premaster_secret(b"key", b"shared").hex() == "000673686172656400036b6579"


@EITHER
@pytest.mark.parametrize("hint", [b"", b"ours", bytes(200)], ids=["none", "short", "long"])
def test_a_hint_changes_nothing(suite: CipherSuite, hint: bytes) -> None:
    server = knowing(OTHER_KEY, KEY, cipher_suites=(suite,), psk_identity_hint=hint)
    pair = Pair(server=server)
    sent: list[PskServerKeyExchange] = []
    tamper(pair.server, {PskServerKeyExchange: lambda message: sent.append(message) or message})
    pair.run().assert_connected()
    # A server without a hint has nothing to say, unless it has a share.
    assert [message.identity_hint for message in sent] == ([hint] if hint or suite is EPHEMERAL else [])


@EITHER
def test_a_server_finds_the_key_that_the_client_names(suite: CipherSuite) -> None:
    pair = Pair(knowing(OTHER_KEY, KEY), knowing(KEY, OTHER_KEY, cipher_suites=(suite,))).run()
    pair.assert_connected()
    assert pair.server.pre_shared_key_identity == pair.client.pre_shared_key_identity == b"device 2"
    assert pair.server.credentials is OTHER_KEY


@EITHER
@pytest.mark.parametrize("identity", [b"device 3", b"x" * 2000], ids=["short", "long"])
def test_a_key_that_the_server_does_not_know(suite: CipherSuite, identity: bytes) -> None:
    client = knowing(PreSharedKey(identity, SECRET))
    pair = Pair(client, knowing(KEY, OTHER_KEY, cipher_suites=(suite,))).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert pair.server.error.alert is AlertDescription.UNKNOWN_PSK_IDENTITY
    assert isinstance(pair.client.error, AlertReceived)
    assert pair.server.pre_shared_key_identity is None


@EITHER
def test_with_different_keys_the_ends_never_understand_each_other(suite: CipherSuite) -> None:
    """The client's Finished cannot be read, and what cannot be read may come from anybody: it is dropped."""
    pair = Pair(knowing(PreSharedKey(b"device 1", SECRET[::-1])), knowing(KEY, cipher_suites=(suite,))).run()
    assert isinstance(pair.client.error, HandshakeTimeout | AlertReceived)
    assert isinstance(pair.server.error, HandshakeTimeout | AlertReceived)
    assert pair.server.counters["unauthentic_records"] > 0


@EITHER
@ROLES
def test_no_certificate_is_shown_or_asked_for(suite: CipherSuite, role: Role) -> None:
    class Never:
        def verify_peer(self, chain: Any) -> None:
            raise AssertionError("the verifier is asked")

    both = configuration(
        credentials=(KEY, credentials()),
        verifier=Never(),
        cipher_suites=(suite,),
        client_authentication=ClientAuthentication.REQUIRED,
        request_ocsp_response=True,
    )
    pair = Pair(both, both).run()
    pair.assert_connected()
    assert pair.end(role).credentials is KEY


def test_a_server_prefers_what_stands_first_among_its_credentials() -> None:
    client = configuration(credentials=(KEY, credentials()))
    for first, second in ((KEY, credentials()), (credentials(), KEY)):
        pair = Pair(client, configuration(credentials=(first, second))).run()
        pair.assert_connected()
        assert pair.server.credentials is first


def test_a_client_without_a_key_gets_the_certificate() -> None:
    pair = Pair(configuration(), configuration(credentials=(KEY, credentials()))).run()
    pair.assert_connected()
    assert pair.server.credentials is credentials()
    assert pair.server.pre_shared_key_identity is None


def test_a_bare_key_needs_no_group_in_common() -> None:
    client = knowing(KEY, groups=(NamedGroup.X25519,))
    pair = Pair(client, knowing(KEY, groups=(NamedGroup.SECP384R1,))).run()
    pair.assert_connected()
    assert pair.client.group is None


def test_a_share_under_a_key_does() -> None:
    client = knowing(KEY, groups=(NamedGroup.X25519,), cipher_suites=(EPHEMERAL,))
    pair = Pair(client, knowing(KEY, groups=(NamedGroup.SECP384R1,))).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert pair.server.error.alert is AlertDescription.HANDSHAKE_FAILURE


def test_a_certificate_of_a_curve_that_the_client_lacks_leaves_the_key() -> None:
    client = configuration(credentials=(KEY,), groups=(NamedGroup.SECP384R1,), cipher_suites=ALL_SUITES)
    pair = Pair(client, configuration(credentials=(credentials("ecdsa-p256"), KEY))).run()
    pair.assert_connected()
    assert pair.server.credentials is KEY


@pytest.mark.parametrize(
    "key",
    [
        ImportedPreSharedKey(b"device 1", SECRET),
        PreSharedKey(b"device 1", SECRET, versions=(ProtocolVersion.DTLS_1_3,)),
    ],
    ids=["imported", "external"],
)
def test_a_key_of_dtls_13_is_of_no_use(key: Any) -> None:
    with pytest.raises(ConfigurationError):
        knowing(key)
    # With another one beside it, it is passed over.
    pair = Pair(knowing(key, KEY), knowing(key, KEY)).run()
    pair.assert_connected()
    assert pair.client.credentials is pair.server.credentials is KEY


def test_a_key_of_dtls_13_does_not_put_that_of_12_forward() -> None:
    newer = PreSharedKey(b"device 1", SECRET, versions=(ProtocolVersion.DTLS_1_3,))
    server = configuration(credentials=(newer, credentials(), KEY))
    pair = Pair(configuration(credentials=(KEY, credentials())), server).run()
    pair.assert_connected()
    assert pair.server.credentials is credentials()


def test_without_a_verifier_there_is_only_the_key() -> None:
    server = configuration(credentials=(credentials(), KEY), verifier=None)
    pair = Pair(configuration(credentials=(KEY, credentials())), server).run()
    pair.assert_connected()
    assert pair.server.credentials is KEY
    refused = Pair(configuration(), server).run()
    assert isinstance(refused.server.error, NegotiationFailed)


def test_a_key_where_certificates_would_be_raw_public_keys() -> None:
    client = configuration(credentials=(KEY,), peer_certificate_types=(CertificateType.RAW_PUBLIC_KEY,))
    Pair(client).run().assert_connected()


def test_suites_without_forward_secrecy_have_to_be_asked_for() -> None:
    defaults = any_configuration(credentials=(KEY,), verifier=None, maximum_version=ProtocolVersion.DTLS_1_2)
    assert all(CIPHER_SUITE_PARAMETERS[suite].is_ephemeral for suite in defaults.cipher_suites)
    Pair(defaults, defaults).run().assert_connected()


def test_a_server_that_speaks_both_versions_runs_a_key_in_12() -> None:
    server = any_configuration(credentials=(KEY,), verifier=None)
    pair = Pair(server=server).run()
    pair.assert_connected()
    assert pair.server.version is ProtocolVersion.DTLS_1_2


# Peers that break the protocol

ALERT = AlertDescription


@pytest.mark.parametrize(
    ("suite", "changes", "alert"),
    [
        # A share where there is to be none, and none where there is to be one.
        (
            BARE,
            {PskServerKeyExchange: replacing(parameters=EcdhParameters(29, bytes(32)))},
            ALERT.DECODE_ERROR,
        ),
        (EPHEMERAL, {PskServerKeyExchange: replacing(parameters=None)}, ALERT.DECODE_ERROR),
        (EPHEMERAL, {PskServerKeyExchange: lambda _: None}, ALERT.UNEXPECTED_MESSAGE),
        (
            EPHEMERAL,
            {PskServerKeyExchange: replacing(parameters=EcdhParameters(4588, bytes(32)))},
            ALERT.ILLEGAL_PARAMETER,
        ),
        (
            EPHEMERAL,
            {PskServerKeyExchange: replacing(parameters=EcdhParameters(29, bytes(32)))},
            ALERT.ILLEGAL_PARAMETER,
        ),
        (
            EPHEMERAL,
            {
                PskServerKeyExchange: lambda message: ServerKeyExchange(
                    EcdhParameters(message.parameters.named_curve, message.parameters.public), 0x0403, b"sig"
                )
            },
            ALERT.DECODE_ERROR,
        ),
        # A CertificateRequest has no place here (RFC 4279 §2).
        (BARE, {ServerHelloDone: lambda _: CertificateRequest((64,), (0x0403,))}, ALERT.UNEXPECTED_MESSAGE),
        (
            EPHEMERAL,
            {ServerHelloDone: lambda _: CertificateRequest((64,), (0x0403,))},
            ALERT.UNEXPECTED_MESSAGE,
        ),
    ],
)
def test_a_server_that_breaks_the_protocol(suite: CipherSuite, changes: Any, alert: AlertDescription) -> None:
    pair = Pair(server=knowing(KEY, cipher_suites=(suite,), psk_identity_hint=b"hint"))
    tamper(pair.server, changes)
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is alert


@pytest.mark.parametrize(
    ("suite", "change", "alert"),
    [
        (BARE, replacing(public=bytes(32)), ALERT.DECODE_ERROR),
        (EPHEMERAL, replacing(public=b""), ALERT.DECODE_ERROR),
        (EPHEMERAL, replacing(public=bytes(32)), ALERT.ILLEGAL_PARAMETER),
        (BARE, lambda message: ClientKeyExchange(message.identity), ALERT.DECODE_ERROR),
        (BARE, replacing(identity=b""), ALERT.UNKNOWN_PSK_IDENTITY),
        (BARE, replacing(identity=b"device 1\0"), ALERT.UNKNOWN_PSK_IDENTITY),
    ],
)
def test_a_client_that_breaks_the_protocol(suite: CipherSuite, change: Any, alert: AlertDescription) -> None:
    pair = Pair(server=knowing(KEY, cipher_suites=(suite,)))
    tamper(pair.client, {PskClientKeyExchange: change})
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is alert


@pytest.mark.parametrize(
    ("kind", "body"),
    [(ExtensionType.STATUS_REQUEST, b""), (ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\3\0\1x")],
)
def test_what_goes_with_certificates_has_no_place_beside_a_key(kind: ExtensionType, body: bytes) -> None:
    asking = configuration(
        credentials=(KEY, credentials()),
        request_ocsp_response=True,
        request_signed_certificate_timestamps=True,
    )
    pair = Pair(asking)
    tamper(pair.server, {ServerHello: with_extension(kind, body)})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is ALERT.UNSUPPORTED_EXTENSION


@pytest.mark.parametrize(
    ("kind", "message", "encoded"),
    [
        (PskServerKeyExchange, PskServerKeyExchange(b"hint"), "000468696e74"),
        (
            PskServerKeyExchange,
            PskServerKeyExchange(b"", EcdhParameters(29, b"\1\2")),
            "000003001d020102",
        ),
        (PskClientKeyExchange, PskClientKeyExchange(b"me"), "00026d65"),
        (PskClientKeyExchange, PskClientKeyExchange(b"me", b"\1\2"), "00026d65020102"),
    ],
)
def test_the_messages_as_they_stand_on_the_wire(kind: Any, message: Any, encoded: str) -> None:
    body = bytes.fromhex(encoded)
    is_ephemeral = b"\1\2" in body
    assert message.serialize() == body
    assert kind.parse(body, is_ephemeral=is_ephemeral) == message
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(DecodeError):
            kind.parse(wrong, is_ephemeral=is_ephemeral)
