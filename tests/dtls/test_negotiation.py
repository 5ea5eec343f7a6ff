"""What two ends settle on, and what they say when they cannot."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mediapeer.dtls import (
    AcceptAnyPeer,
    AlertDescription,
    AlertReceived,
    CertificateRejected,
    CipherSuite,
    ClientAuthentication,
    ConfigurationError,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    DtlsError,
    Fingerprint,
    FingerprintVerifier,
    HandshakeCompleted,
    NamedGroup,
    NegotiationFailed,
    NotConnected,
    PreSharedKey,
    ProtocolVersion,
    Role,
    SignatureScheme,
    SrtpProtectionProfile,
    TicketKeys,
    X509Credentials,
)
from mediapeer.dtls.configuration import DEFAULT_SIGNATURE_SCHEMES
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    AuthenticationMethod,
    ContentType,
    HandshakeType,
)
from tests.dtls.support import Pair, configuration, credentials, expecting

pytestmark = pytest.mark.usefixtures("version")
only_12 = pytest.mark.parametrize("version", [ProtocolVersion.DTLS_1_2], indirect=True)
only_13 = pytest.mark.parametrize("version", [ProtocolVersion.DTLS_1_3], indirect=True)

SRTP = SrtpProtectionProfile
KINDS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048")


def assert_refused(pair: Pair, by: Role, alert: AlertDescription, kind: type[DtlsError]) -> None:
    """One end refuses with an alert, the other hears it; neither has keys."""
    judge, judged = pair.end(by), pair.peer(by)
    assert type(judge.error) is kind
    assert judge.error.alert is alert
    assert isinstance(judged.error, AlertReceived)
    assert judged.error.alert is alert
    for role in Role:
        kinds = [type(event) for event in pair.events[role]]
        if by is Role.SERVER and role is Role.CLIENT and kinds[0] is HandshakeCompleted:
            kinds.pop(0)  # a client of DTLS 1.3 is done before the server has judged it
        assert kinds == [ConnectionFailed]
        with pytest.raises(NotConnected):
            pair.end(role).export_keying_material(b"EXTRACTOR-dtls_srtp", None, 60)


@only_13
@pytest.mark.parametrize(
    ("suite", "group"),
    [
        (suite, group)
        for suite in CipherSuite
        for group in NamedGroup
        if CIPHER_SUITE_PARAMETERS[suite].version is ProtocolVersion.DTLS_1_3 or group not in HYBRID_GROUPS
    ],
    ids=lambda code_point: code_point.name,
)
def test_every_suite_runs_with_every_group(suite: CipherSuite, group: NamedGroup) -> None:
    """The suite decides on the version; the client offers both, with every suite there is."""
    is_rsa = CIPHER_SUITE_PARAMETERS[suite].authentication is AuthenticationMethod.RSA
    own = (credentials("rsa-2048" if is_rsa else "ecdsa-p256"), PreSharedKey(b"name", bytes(range(32))))
    # The certificate's curve has to be on offer too, as RFC 8422 §5.1 wants it.
    groups = (group, NamedGroup.SECP256R1)
    pair = Pair(
        configuration(credentials=own, groups=groups, cipher_suites=tuple(CipherSuite)),
        configuration(credentials=own, cipher_suites=(suite,), groups=(group,)),
    ).run()
    version = CIPHER_SUITE_PARAMETERS[suite].version
    used = group if CIPHER_SUITE_PARAMETERS[suite].is_ephemeral else None
    assert pair.completed(Role.CLIENT) == HandshakeCompleted(version, suite, used, None, None)
    assert pair.client.version is pair.server.version is version
    assert (pair.server.cipher_suite, pair.server.group) == (suite, used)
    pair.assert_connected()


@pytest.mark.parametrize("client_kind", KINDS)
@pytest.mark.parametrize("server_kind", KINDS)
def test_all_kinds_of_certificates_authenticate_each_other(client_kind: str, server_kind: str) -> None:
    ours, theirs = credentials(client_kind, "client"), credentials(server_kind, "server")
    pair = Pair(
        configuration(credentials=(ours,), verifier=expecting(theirs)),
        configuration(credentials=(theirs,), verifier=expecting(ours)),
    ).run()
    assert pair.client.peer_certificate == theirs.chain[0]
    assert pair.server.peer_certificate == ours.chain[0]
    pair.assert_connected()


@pytest.mark.parametrize("scheme", DEFAULT_SIGNATURE_SCHEMES, ids=lambda scheme: scheme.name)
def test_every_signature_scheme_signs_and_verifies(scheme: SignatureScheme, version: ProtocolVersion) -> None:
    if version is ProtocolVersion.DTLS_1_3 and "PKCS1" in scheme.name:
        return  # refused: test_dtls_13_ties_schemes_to_keys_and_has_no_pkcs1
    kinds = {
        SignatureScheme.ECDSA_SECP256R1_SHA256: "ecdsa-p256",
        SignatureScheme.ECDSA_SECP384R1_SHA384: "ecdsa-p384",
        SignatureScheme.ECDSA_SECP521R1_SHA512: "ecdsa-p521",
        SignatureScheme.ED25519: "ed25519",
    }
    own = credentials(kinds.get(scheme, "rsa-2048"))
    only = configuration(credentials=(own,), signature_schemes=(scheme,))
    Pair(only, only).run().assert_connected()


@only_12
@pytest.mark.parametrize("scheme", [0x0503, 0x0603])
def test_dtls_12_does_not_tie_the_hash_to_the_curve(scheme: int) -> None:
    only = configuration(signature_schemes=(SignatureScheme(scheme),))
    Pair(only, only).run().assert_connected()


@only_13
@pytest.mark.parametrize(
    ("kind", "scheme"), [("rsa-2048", 0x0401), ("ecdsa-p256", 0x0503), ("ecdsa-p384", 0x0403)]
)
def test_dtls_13_ties_schemes_to_keys_and_has_no_pkcs1(kind: str, scheme: int) -> None:
    only = configuration(credentials=(credentials(kind),), signature_schemes=(SignatureScheme(scheme),))
    pair = Pair(only, only).run()
    assert_refused(pair, Role.SERVER, AlertDescription.HANDSHAKE_FAILURE, NegotiationFailed)


@only_12
def test_an_ecdsa_key_signs_with_the_hash_of_its_size_first() -> None:
    """A peer that reads schemes as DTLS 1.3 does would refuse ecdsa_secp256r1_sha256 by a P-384 key."""
    own = credentials("ecdsa-p384")
    strict = configuration(signature_schemes=DEFAULT_SIGNATURE_SCHEMES)
    pair = Pair(strict, configuration(credentials=(own,)))
    sent: list[Any] = []
    continue_with = pair.server.continue_with

    def watch(handshake: Any) -> None:
        send = handshake._send
        handshake._send = lambda message, epoch=0: (sent.append(message), send(message, epoch))[1]
        continue_with(handshake)

    pair.server.continue_with = watch  # type: ignore[method-assign]
    pair.run().assert_connected()
    assert sent[2].signature_scheme == SignatureScheme.ECDSA_SECP384R1_SHA384


@pytest.mark.parametrize(
    ("client", "server", "chosen"),
    [
        ([SRTP.SRTP_AES128_CM_SHA1_80, SRTP.SRTP_AEAD_AES_128_GCM], [SRTP.SRTP_AEAD_AES_128_GCM], 0x0007),
        (list(SRTP), [SRTP.SRTP_AEAD_AES_256_GCM, SRTP.SRTP_AES128_CM_SHA1_80], 0x0008),
        (list(SRTP), list(reversed(SRTP)), 0x0008),
        ([SRTP.SRTP_AES128_CM_SHA1_32], list(SRTP), 0x0002),
        ([SRTP.SRTP_AES128_CM_SHA1_32], [SRTP.SRTP_AES128_CM_SHA1_80], None),
        ([], list(SRTP), None),
        (list(SRTP), [], None),
    ],
)
def test_the_server_chooses_the_srtp_profile_in_its_order(
    client: list[SRTP], server: list[SRTP], chosen: int | None
) -> None:
    pair = Pair(configuration(srtp_profiles=tuple(client)), configuration(srtp_profiles=tuple(server))).run()
    assert pair.client.srtp_profile == pair.server.srtp_profile == chosen
    pair.assert_connected()


def test_the_server_chooses_the_application_protocol_and_hears_the_name() -> None:
    pair = Pair(
        configuration(alpn_protocols=(b"webrtc", b"c-webrtc"), server_name="peer.example"),
        configuration(alpn_protocols=(b"c-webrtc", b"webrtc")),
    ).run()
    assert pair.client.alpn_protocol == pair.server.alpn_protocol == b"c-webrtc"
    assert pair.server.server_name == "peer.example"
    pair.assert_connected()


def test_application_protocols_without_overlap_end_the_handshake() -> None:
    pair = Pair(configuration(alpn_protocols=(b"a",)), configuration(alpn_protocols=(b"b",))).run()
    assert_refused(pair, Role.SERVER, AlertDescription.NO_APPLICATION_PROTOCOL, NegotiationFailed)


def test_a_server_without_application_protocols_ignores_the_offer() -> None:
    pair = Pair(configuration(alpn_protocols=(b"a",))).run()
    assert pair.client.alpn_protocol is None
    pair.assert_connected()


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (
            {"cipher_suites": (CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,)},
            {"cipher_suites": (CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,)},
        ),
        ({"cipher_suites": (CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,)}, {}),
        ({"groups": (NamedGroup.X25519, NamedGroup.SECP256R1)}, {"groups": (NamedGroup.SECP521R1,)}),
        ({"signature_schemes": (SignatureScheme.ED25519,)}, {}),
        (
            {"cipher_suites": (CipherSuite.TLS_AES_128_GCM_SHA256,)},
            {"cipher_suites": (CipherSuite.TLS_AES_256_GCM_SHA384,)},
        ),
    ],
    ids=["suites", "kind of certificate", "groups", "signature schemes", "suites of 1.3"],
)
@only_13
def test_nothing_in_common_is_a_handshake_failure(client: dict[str, Any], server: dict[str, Any]) -> None:
    pair = Pair(configuration(**client), configuration(**server)).run()
    assert_refused(pair, Role.SERVER, AlertDescription.HANDSHAKE_FAILURE, NegotiationFailed)


@only_12
def test_the_curve_of_the_certificate_must_be_on_offer_in_dtls_12() -> None:
    """RFC 8422 §5.1; DTLS 1.3 keeps the two apart."""
    pair = Pair(configuration(groups=(NamedGroup.X25519,))).run()
    assert_refused(pair, Role.SERVER, AlertDescription.HANDSHAKE_FAILURE, NegotiationFailed)


@only_12
def test_the_certificate_that_fits_the_client_is_chosen() -> None:
    rsa, ecdsa = credentials("rsa-2048"), credentials("ecdsa-p256")
    server = configuration(credentials=(ecdsa, rsa))
    only_rsa = (CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,)
    assert Pair(configuration(cipher_suites=only_rsa), server).run().client.peer_certificate == rsa.chain[0]
    assert Pair(configuration(), server).run().client.peer_certificate == ecdsa.chain[0]


# Identity


@pytest.mark.parametrize("judge", list(Role))
def test_a_wrong_fingerprint_fails_both_ends_with_bad_certificate(judge: Role) -> None:
    right, wrong = credentials(), credentials("ecdsa-p256", "somebody else")
    verifiers = {role: expecting(wrong if role is judge else right) for role in Role}
    pair = Pair(*(configuration(verifier=verifiers[role]) for role in (Role.CLIENT, Role.SERVER))).run()
    assert_refused(pair, judge, AlertDescription.BAD_CERTIFICATE, CertificateRejected)


def changed(value: str) -> str:
    return value[:-1] + ("0" if value[-1] != "0" else "1")


def fingerprints(*pairs: tuple[str, bool]) -> list[Fingerprint]:
    own = credentials()
    return [
        Fingerprint(
            name,
            own.fingerprint(name) if right else changed(own.fingerprint(name)),
        )
        for name, right in pairs
    ]


@pytest.mark.parametrize(
    ("expected", "matches"),
    [
        (fingerprints(("sha-256", True)), True),
        (fingerprints(("sha-384", True)), True),
        (fingerprints(("sha-512", True), ("sha-256", True)), True),
        ([Fingerprint("SHA-256", credentials().fingerprint().lower())], True),
        ([Fingerprint("md5", "00:11"), *fingerprints(("sha-256", True))], True),
        (fingerprints(("sha-512", True), ("sha-256", False)), False),
        (fingerprints(("sha-256", False)), False),
        ([Fingerprint("md5", "00:11")], False),
        ([Fingerprint("sha-1", "00:11")], False),
        ([], False),
        ([Fingerprint("sha-256", "")], False),
        ([Fingerprint("sha-256", "\ud800ü")], False),
    ],
)
@pytest.mark.parametrize("judge", list(Role))
def test_all_supported_fingerprints_must_match(
    expected: Sequence[Fingerprint], matches: bool, judge: Role
) -> None:
    verifiers = {role: FingerprintVerifier(expected) if role is judge else AcceptAnyPeer() for role in Role}
    pair = Pair(*(configuration(verifier=verifiers[role]) for role in (Role.CLIENT, Role.SERVER))).run()
    assert (pair.end(judge).error is None) == matches
    assert (pair.peer(judge).error is None) == matches


@only_12
@pytest.mark.parametrize("judge", list(Role))
def test_the_verifier_speaks_before_our_finished_leaves(judge: Role) -> None:
    pair = Pair(
        *(
            configuration(verifier=FingerprintVerifier([]) if role is judge else AcceptAnyPeer())
            for role in (Role.CLIENT, Role.SERVER)
        )
    ).run()
    protected = [d for d in pair.sent[judge] if d[3:5] != b"\0\0" or b"\x14\xfe\xfd\0\0" in d]
    assert protected == []


def test_a_verifier_that_breaks_fails_closed() -> None:
    class Broken:
        def verify_peer(self, chain: Sequence[bytes]) -> None:
            raise ZeroDivisionError("no")

    pair = Pair(configuration(verifier=Broken())).run()
    assert_refused(pair, Role.CLIENT, AlertDescription.INTERNAL_ERROR, DtlsError)


def test_a_required_client_certificate_must_come(version: ProtocolVersion) -> None:
    pair = Pair(configuration(credentials=())).run()
    is_13 = version is ProtocolVersion.DTLS_1_3
    alert = AlertDescription.CERTIFICATE_REQUIRED if is_13 else AlertDescription.HANDSHAKE_FAILURE
    assert_refused(pair, Role.SERVER, alert, CertificateRejected)


@pytest.mark.parametrize("wish", [ClientAuthentication.OPTIONAL, ClientAuthentication.NONE])
def test_a_client_may_stay_anonymous_where_the_verifier_lets_it(wish: ClientAuthentication) -> None:
    pair = Pair(configuration(credentials=()), configuration(client_authentication=wish)).run()
    assert pair.server.peer_certificate is None
    pair.assert_connected()


@pytest.mark.parametrize("wish", [ClientAuthentication.OPTIONAL, ClientAuthentication.NONE])
def test_an_anonymous_client_never_passes_a_fingerprint_check(wish: ClientAuthentication) -> None:
    server = configuration(client_authentication=wish, verifier=expecting(credentials()))
    pair = Pair(configuration(credentials=()), server).run()
    assert_refused(pair, Role.SERVER, AlertDescription.BAD_CERTIFICATE, CertificateRejected)


def p224_credentials() -> X509Credentials:
    """A self-signed P-224 certificate, such as FFmpeg's WHIP muxer over GnuTLS presents by default."""
    template = x509.load_der_x509_certificate(credentials().chain[0])
    key = ec.generate_private_key(ec.SECP224R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    return X509Credentials((certificate.public_bytes(serialization.Encoding.DER),), key)


@only_12
@pytest.mark.parametrize("allowed", [True, False])
def test_a_p224_key_passes_by_policy_only(allowed: bool) -> None:
    own = p224_credentials()
    pair = Pair(
        configuration(credentials=(own,)),
        configuration(verifier=expecting(own), allow_secp224r1_certificates=allowed),
    ).run()
    if allowed:
        pair.assert_connected()
    else:
        assert_refused(pair, Role.SERVER, AlertDescription.UNSUPPORTED_CERTIFICATE, CertificateRejected)


# Key log, exporter, data, the end


def test_both_ends_log_the_same_secrets_and_only_on_request(version: ProtocolVersion) -> None:
    lines: dict[Role, list[str]] = {Role.CLIENT: [], Role.SERVER: []}
    Pair(
        configuration(key_log=lines[Role.CLIENT].append), configuration(key_log=lines[Role.SERVER].append)
    ).run().assert_connected()
    assert lines[Role.CLIENT] == lines[Role.SERVER]
    words = [line.split(" ") for line in lines[Role.CLIENT]]
    assert len({client_random for _, client_random, _ in words}) == 1
    if version is ProtocolVersion.DTLS_1_2:
        assert [(label, len(secret)) for label, _, secret in words] == [("CLIENT_RANDOM", 96)]
    else:
        assert [(label, len(secret)) for label, _, secret in words] == [
            ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", 64),
            ("SERVER_HANDSHAKE_TRAFFIC_SECRET", 64),
            ("CLIENT_TRAFFIC_SECRET_0", 64),
            ("SERVER_TRAFFIC_SECRET_0", 64),
            ("EXPORTER_SECRET", 64),
        ]


def test_exported_secrets_differ_by_label_context_and_association(version: ProtocolVersion) -> None:
    """An empty context is another than none in DTLS 1.2, and the same in 1.3 (RFC 8446 §7.5)."""
    contexts = [None, b"c"] + ([b""] if version is ProtocolVersion.DTLS_1_2 else [])
    first, second = Pair().run(), Pair().run()
    exported = [
        pair.client.export_keying_material(label, context, 32)
        for pair in (first, second)
        for label in (b"EXPORTER-a", b"EXPORTER-b")
        for context in contexts
    ]
    assert len(set(exported)) == len(exported)


@pytest.mark.parametrize(
    "label", [b"master secret", b"key expansion", b"client finished", b"server finished"]
)
def test_labels_of_tls_itself_cannot_be_exported(label: bytes) -> None:
    with pytest.raises(ValueError, match="reserved"):
        Pair().run().client.export_keying_material(label, None, 48)


def test_nothing_is_sent_or_exported_before_the_end_of_the_handshake() -> None:
    pair = Pair()
    for role in Role:
        with pytest.raises(NotConnected):
            pair.end(role).send_application_data(b"early")
        with pytest.raises(NotConnected):
            pair.end(role).export_keying_material(b"EXPORTER-a", None, 32)


@pytest.mark.parametrize("size", [0, 1, 1200, 16_384])
def test_data_of_any_size_a_record_can_carry_passes(size: int) -> None:
    pair = Pair().run()
    pair.client.send_application_data(bytes(size))
    pair.run()
    assert pair.received(Role.SERVER) == [bytes(size)]


def test_data_too_long_for_a_record_is_refused_and_harms_nothing() -> None:
    pair = Pair().run()
    with pytest.raises(ValueError, match="16384"):
        pair.client.send_application_data(bytes(16_385))
    pair.assert_connected()


@pytest.mark.parametrize("role", list(Role))
def test_close_notify_closes_both_ends(role: Role) -> None:
    pair = Pair().run()
    pair.end(role).close()
    pair.end(role).close()
    pair.run()
    assert [type(e) for e in pair.events[role]] == [HandshakeCompleted]
    other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    assert [type(e) for e in pair.events[other]] == [HandshakeCompleted, ConnectionClosed]
    for end in (pair.client, pair.server):
        assert end.error is None
        assert end.next_timeout() is None
        assert end.cipher_suite is not None  # what was negotiated may still be told
        with pytest.raises(NotConnected):
            end.send_application_data(b"late")
        with pytest.raises(NotConnected):
            end.export_keying_material(b"EXPORTER-a", None, 32)


@pytest.mark.parametrize("role", list(Role))
def test_closing_in_the_middle_of_the_handshake_tells_the_other_end(
    role: Role, version: ProtocolVersion
) -> None:
    pair = Pair()
    pair.step()
    pair.end(role).close()
    pair.run()
    peer = pair.peer(role)
    assert not peer.is_connected
    if peer.version is None:
        assert isinstance(peer.error, AlertReceived)
        assert peer.error.alert is AlertDescription.CLOSE_NOTIFY
    else:
        # A client of DTLS 1.3 has all it needs after one flight, and is connected before it is closed.
        assert (role, version) == (Role.SERVER, ProtocolVersion.DTLS_1_3)
        assert isinstance(pair.events[Role.CLIENT][-1], ConnectionClosed)


def test_secrets_are_gone_after_the_end() -> None:
    pair = Pair().run()
    pair.client.close()
    pair.run()
    for end in (pair.client, pair.server):
        assert end._result is not None
        assert end._result.exporter is None
        assert end._result.traffic is None
        assert not end._records._plain
        assert not end._records._unified


# Configuration


@pytest.mark.parametrize(
    "options",
    [
        {"mtu": 255},
        {"mtu": 65_508},
        {"cipher_suites": ()},
        {"groups": ()},
        {"signature_schemes": ()},
        {"initial_retransmission_timeout": 0.0},
        {"initial_retransmission_timeout": 2.0, "maximum_retransmission_timeout": 1.0},
        {"maximum_retransmissions": -1},
        {"handshake_timeout": 0.0},
        {"alpn_protocols": (b"",)},
        {"alpn_protocols": (bytes(256),)},
        {"server_name": "bücher.example"},
        {"server_name": ""},
        {"minimum_version": ProtocolVersion.DTLS_1_0},
    ],
)
def test_a_configuration_that_cannot_work_is_refused_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        configuration(**options)


def test_a_server_needs_credentials() -> None:
    with pytest.raises(ConfigurationError):
        DtlsConnection(configuration(credentials=()), Role.SERVER, 0.0)


def test_there_is_no_configuration_without_a_verifier() -> None:
    with pytest.raises(TypeError, match="verifier"):
        DtlsConfiguration()  # type: ignore[call-arg]


def test_credentials_do_not_show_their_key() -> None:
    own = credentials()
    assert own.fingerprint() in repr(own)
    assert "EllipticCurvePrivateKey" not in repr(configuration())


def test_credentials_load_from_pem_and_the_key_must_be_the_certificates() -> None:
    own, other = credentials("rsa-2048"), credentials("ed25519")
    pem = serialization.Encoding.PEM
    certificate = x509.load_der_x509_certificate(own.chain[0]).public_bytes(pem)

    def key(of: X509Credentials) -> bytes:
        return of.private_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    assert X509Credentials.from_pem(certificate, key(own)).chain == own.chain
    with pytest.raises(ConfigurationError, match="not that of the certificate"):
        X509Credentials.from_pem(certificate, key(other))
    with pytest.raises(ConfigurationError, match="does not load"):
        X509Credentials.from_pem(b"no certificate", key(own))
    with pytest.raises(ConfigurationError, match="kind"):
        X509Credentials.generate("dsa")


def test_a_configuration_can_be_varied() -> None:
    assert dataclasses.replace(configuration(), mtu=300).mtu == 300


@pytest.mark.usefixtures("version")
def test_a_trace_tells_what_is_sent_and_taken() -> None:
    told: list[tuple[bool, int, bytes]] = []
    client = configuration(trace=lambda *message: told.append(message), groups_to_share=(NamedGroup.X25519,))
    pair = Pair(client).run()
    pair.assert_connected()
    pair.client.close()
    handshake = [(sent, body[0]) for sent, kind, body in told if kind == ContentType.HANDSHAKE]
    assert handshake[:2] == [(True, HandshakeType.CLIENT_HELLO), (False, HandshakeType.SERVER_HELLO)]
    assert (False, HandshakeType.FINISHED) in handshake
    assert told[-1] == (True, ContentType.ALERT, b"\1\0")
    kinds = {kind for _, kind, _ in told}
    is_13 = pair.client.version is ProtocolVersion.DTLS_1_3
    assert (ContentType.ACK in kinds, ContentType.CHANGE_CIPHER_SPEC in kinds) == (is_13, not is_13)


def test_a_psk_of_dtls_12_may_have_no_name() -> None:
    key = PreSharedKey(b"", bytes(range(32)), versions=(ProtocolVersion.DTLS_1_2,))
    alone = configuration(
        credentials=(key,), verifier=None, session_tickets=TicketKeys(), resume_sessions=True
    )
    pair = Pair(alone, alone).run()
    pair.assert_connected()
    assert pair.client.pre_shared_key_identity == pair.server.pre_shared_key_identity == b""
    again = Pair(alone, alone, session=pair.sessions[0]).run()
    again.assert_connected()
    assert again.client.is_resumed
    with pytest.raises(ConfigurationError):
        PreSharedKey(b"", bytes(range(32)))
