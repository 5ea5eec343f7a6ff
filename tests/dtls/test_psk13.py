"""External and imported pre-shared keys in DTLS 1.3 (RFC 8446 §4.2.11, RFC 9258)."""

from typing import Any

import pytest

from mediapeer.dtls import (
    AlertDescription,
    CipherSuite,
    ConfigurationError,
    ImportedPreSharedKey,
    NamedGroup,
    NegotiationFailed,
    PreSharedKey,
    ProtocolVersion,
    TicketKeys,
)
from mediapeer.dtls.registry import HandshakeType
from tests.dtls.support import Pair, configuration, credentials, rewrite

SECRET = bytes(range(32))
KEY = PreSharedKey(b"device 1", SECRET)
OTHER_KEY = PreSharedKey(b"device 2", SECRET[::-1])
IMPORTED = ImportedPreSharedKey(b"device 1", SECRET, b"context")
ONLY_13: dict[str, Any] = {"minimum_version": ProtocolVersion.DTLS_1_2}


def knowing(*keys: Any, **options: Any) -> Any:
    """A configuration with nothing but pre-shared keys."""
    return configuration(credentials=keys, verifier=None, **options)


@pytest.mark.parametrize("key", [KEY, IMPORTED], ids=["external", "imported"])
def test_two_ends_with_one_key(key: Any) -> None:
    pair = Pair(knowing(key), knowing(key)).run()
    pair.assert_connected()
    assert pair.client.version is ProtocolVersion.DTLS_1_3
    for end in (pair.client, pair.server):
        assert end.pre_shared_key_identity == b"device 1"
        assert end.credentials == key
        assert end.peer_certificate is None


@pytest.mark.parametrize("suite", [CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384])
def test_an_imported_key_goes_with_every_hash(suite: CipherSuite) -> None:
    pair = Pair(knowing(IMPORTED), knowing(IMPORTED, cipher_suites=(suite,))).run()
    pair.assert_connected()
    assert pair.client.cipher_suite is suite


def test_an_external_key_decides_on_the_hash() -> None:
    key = PreSharedKey(b"device 1", SECRET, "sha384")
    pair = Pair(knowing(key), knowing(key)).run()
    pair.assert_connected()
    assert pair.client.cipher_suite is CipherSuite.TLS_AES_256_GCM_SHA384


@pytest.mark.parametrize(
    "other",
    [
        ImportedPreSharedKey(b"device 1", SECRET, b"another context"),
        ImportedPreSharedKey(b"device 2", SECRET, b"context"),
        PreSharedKey(b"device 1", SECRET),
    ],
    ids=["context", "identity", "not imported"],
)
def test_an_imported_key_depends_on_everything(other: Any) -> None:
    pair = Pair(knowing(IMPORTED), knowing(other)).run()
    assert isinstance(pair.server.error, NegotiationFailed)
    assert pair.server.error.alert is AlertDescription.HANDSHAKE_FAILURE


def test_the_same_name_with_another_key_is_refused_by_the_binder() -> None:
    pair = Pair(knowing(KEY), knowing(PreSharedKey(KEY.identity, SECRET[::-1]))).run()
    assert pair.server.error is not None
    assert pair.server.error.alert is AlertDescription.DECRYPT_ERROR


def test_the_server_chooses_by_its_own_order() -> None:
    pair = Pair(knowing(KEY, OTHER_KEY), knowing(OTHER_KEY, KEY)).run()
    pair.assert_connected()
    assert pair.client.pre_shared_key_identity == b"device 2"


def test_keys_and_certificates_stand_in_one_order() -> None:
    client = configuration(credentials=(KEY, credentials()))
    by_key = Pair(client, configuration(credentials=(KEY, credentials()))).run()
    by_key.assert_connected()
    assert by_key.server.credentials == KEY
    by_certificate = Pair(client, configuration(credentials=(credentials(), KEY))).run()
    by_certificate.assert_connected()
    assert by_certificate.client.peer_certificate == credentials().chain[0]
    assert by_certificate.client.pre_shared_key_identity is None


def test_a_server_falls_back_to_its_certificate() -> None:
    pair = Pair(
        configuration(credentials=(OTHER_KEY, credentials())), configuration(credentials=(KEY, credentials()))
    ).run()
    pair.assert_connected()
    assert pair.client.peer_certificate == credentials().chain[0]


def test_a_client_that_wants_a_key_takes_no_certificate() -> None:
    pair = Pair(knowing(KEY), configuration(credentials=(credentials(),)))
    pair.run()
    assert pair.server.error is not None
    assert not pair.client.is_connected


def test_with_a_hello_retry_request() -> None:
    pair = Pair(knowing(KEY, IMPORTED), knowing(IMPORTED, groups=(NamedGroup.SECP384R1,))).run()
    pair.assert_connected()
    assert pair.client.hello_retry_requested


def test_a_session_of_a_key_is_resumed_without_a_verifier() -> None:
    server = knowing(KEY, session_tickets=TicketKeys())
    client = knowing(KEY, resume_sessions=True)
    session = Pair(client, server).run().sessions[0]
    again = Pair(client, server, session=session).run()
    again.assert_connected()
    assert again.client.is_resumed
    assert again.server.pre_shared_key_identity == b"device 1"


def test_an_index_that_was_not_offered_is_refused() -> None:
    def choose_another(body: bytes) -> bytes:
        return body[:-1] + b"\x02"  # pre_shared_key stands last

    client = knowing(KEY, groups_to_share=(NamedGroup.X25519,))
    pair = Pair(client, knowing(KEY), rewrite(HandshakeType.SERVER_HELLO, choose_another)).run()
    assert pair.client.error is not None
    assert pair.client.error.alert is AlertDescription.ILLEGAL_PARAMETER


def test_a_key_for_dtls_12_alone_is_not_offered_in_13() -> None:
    key = PreSharedKey(b"device 1", SECRET, versions=(ProtocolVersion.DTLS_1_2,))
    assert knowing(key).versions == (ProtocolVersion.DTLS_1_2,)
    assert knowing(IMPORTED).versions == (ProtocolVersion.DTLS_1_3,)


def test_a_key_is_not_shown() -> None:
    assert SECRET.hex() not in repr(KEY) + repr(IMPORTED) + repr(IMPORTED.offers())
    assert repr(SECRET) not in repr(KEY) + repr(IMPORTED) + repr(IMPORTED.offers())


@pytest.mark.parametrize(
    "make",
    [
        lambda: PreSharedKey(b"", SECRET),
        lambda: PreSharedKey(b"name", b"too short"),
        lambda: PreSharedKey(b"name", SECRET, "md5"),
        lambda: PreSharedKey(bytes(2**16), SECRET),
        lambda: ImportedPreSharedKey(b"name", b"too short"),
        lambda: ImportedPreSharedKey(b"name", SECRET, target_hash_names=("sha512",)),
        lambda: ImportedPreSharedKey(b"name", SECRET, target_hash_names=()),
        lambda: configuration(verifier=None),
    ],
)
def test_a_key_that_is_none_is_refused_at_once(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_known_answers_of_the_importer() -> None:
    """An ImportedIdentity as RFC 9258 §5.1 lays it out, with DTLS 1.3 and HKDF_SHA384 as targets."""
    sha256, sha384 = ImportedPreSharedKey(b"id", SECRET, b"ctx").offers()
    assert sha384.identity == b"\x00\x02id" + b"\x00\x03ctx" + b"\xfe\xfc" + b"\x00\x02"
    assert sha256.identity.endswith(b"\xfe\xfc\x00\x01")
    assert (len(sha256.secret), len(sha384.secret)) == (32, 48)
