"""Our engine against OpenSSL in memory: the network between them loses, repeats and reorders.

Our clock is a number. OpenSSL's retransmission timer is a real second, then two: a test that needs it holds
many associations, and waits once for all of them together.
"""

import itertools
import random
import time
from collections.abc import Callable

import pytest

from mediapeer.dtls import (
    AcceptAnyPeer,
    AlertDescription,
    AlertReceived,
    ApplicationData,
    CipherSuite,
    ClientAuthentication,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    Event,
    Fingerprint,
    FingerprintVerifier,
    HandshakeCompleted,
    NamedGroup,
    PeerVerifier,
    ProtocolVersion,
    Role,
    SrtpProtectionProfile,
)
from mediapeer.dtls.registry import HYBRID_GROUPS, HandshakeType
from tests.tools.certificates import credentials
from tests.tools.pyopenssl import CIPHER_NAMES, OpenSslEnd, openssl_context

HANDSHAKE_TYPE_AT = 13
SRTP_LABEL = b"EXTRACTOR-dtls_srtp"
ROLES = [Role.CLIENT, Role.SERVER]

#: What a network makes of a batch of datagrams, each with its number in its direction.
Network = Callable[[list[tuple[int, bytes]]], list[bytes]]


def perfect(batch: list[tuple[int, bytes]]) -> list[bytes]:
    """Everything arrives, in order."""
    return [datagram for _, datagram in batch]


def losing(*lost: int) -> Network:
    """The datagrams with these numbers are lost."""
    return lambda batch: [datagram for index, datagram in batch if index not in lost]


def repeating(batch: list[tuple[int, bytes]]) -> list[bytes]:
    """Everything arrives twice."""
    return [datagram for _, datagram in batch for _ in range(2)]


def reversing(batch: list[tuple[int, bytes]]) -> list[bytes]:
    """What was sent together arrives last first."""
    return [datagram for _, datagram in reversed(batch)]


def chaotic(seed: int, loss: float) -> Network:
    """Loses the given part, repeats a quarter, and shuffles."""
    dice = random.Random(seed)

    def deliver(batch: list[tuple[int, bytes]]) -> list[bytes]:
        arriving = [datagram for _, datagram in batch if dice.random() >= loss]
        arriving += [datagram for datagram in arriving if dice.random() < 0.25]
        dice.shuffle(arriving)
        return arriving

    return deliver


def configuration(**changes: object) -> DtlsConfiguration:
    """Ours, with what a test changes."""
    settings: dict[str, object] = {"verifier": AcceptAnyPeer(), "credentials": (credentials(),), **changes}
    return DtlsConfiguration(**settings)  # type: ignore[arg-type]


class Association:
    """Our end and OpenSSL's, with a network and a fake clock between them."""

    def __init__(
        self,
        role: Role,
        ours: DtlsConfiguration,
        theirs: OpenSslEnd,
        *,
        from_us: Network = perfect,
        from_them: Network = perfect,
    ) -> None:
        self.now = 0.0
        self.ours = DtlsConnection(ours, role, self.now)
        self.theirs = theirs
        self.events: list[Event] = []
        self._from_us, self._from_them = from_us, from_them
        self._numbers_of_ours, self._numbers_of_theirs = itertools.count(), itertools.count()

    def heal(self) -> None:
        """From now on nothing is lost, repeated or reordered."""
        self._from_us = self._from_them = perfect

    @property
    def completed(self) -> bool:
        """Whether both ends are connected."""
        return self.theirs.handshake_completed and any(isinstance(e, HandshakeCompleted) for e in self.events)

    def exchange(self) -> None:
        """Carry datagrams until both ends are silent."""
        while True:
            from_us = list(zip(self._numbers_of_ours, self.ours.datagrams_to_send(), strict=False))
            for datagram in self._from_us(from_us):
                self.theirs.receive_datagram(datagram)
            from_them = list(zip(self._numbers_of_theirs, self.theirs.datagrams_to_send(), strict=False))
            for datagram in self._from_them(from_them):
                self.ours.receive_datagram(datagram, self.now)
            while event := self.ours.next_event():
                self.events.append(event)
            if not from_us and not from_them:
                return

    def run(self) -> None:
        """Carry datagrams, and let our clock jump to our next timer while the handshake is not done.

        It stops after five seconds of that clock: by then only OpenSSL's timer can help.
        """
        self.exchange()
        end = self.now + 5
        while not self.completed and self.theirs.error is None:
            timer = self.ours.next_timeout()
            if timer is None or timer > end:
                return
            self.now = timer
            self.ours.handle_timeout(self.now)
            self.exchange()


def associate(
    role: Role,
    *,
    kind: str = "ecdsa-p256",
    their_kind: str | None = None,
    mtu: int = 1200,
    from_us: Network = perfect,
    from_them: Network = perfect,
    **changes: object,
) -> Association:
    """An association with OpenSSL, run until it is connected or stuck; both ends authenticate."""
    ours = configuration(credentials=(credentials(kind),), mtu=mtu, **changes)
    their_role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    theirs = OpenSslEnd(openssl_context(credentials(their_kind or kind, "theirs")), their_role, mtu=mtu)
    association = Association(role, ours, theirs, from_us=from_us, from_them=from_them)
    association.run()
    return association


def settle(associations: list[Association]) -> None:
    """Let those that wait for OpenSSL's timer have it, all at once."""
    started = time.monotonic()
    while stuck := [association for association in associations if not association.completed]:
        assert time.monotonic() - started < 20, [association.events for association in stuck]
        seconds = max((association.theirs.seconds_to_timeout() or 0.0) for association in stuck)
        time.sleep(seconds)
        for association in stuck:
            association.now += seconds
            association.theirs.handle_timeout()
            association.run()


def assert_talks(association: Association) -> None:
    """It is DTLS 1.2, all that OpenSSL speaks; data goes both ways, and both ends export the same keys."""
    assert association.completed, (association.events, association.theirs.error)
    assert association.ours.version is ProtocolVersion.DTLS_1_2
    association.heal()
    association.ours.send_application_data(b"from us")
    association.theirs.send(b"from them")
    association.exchange()
    assert association.theirs.received[-1:] == [b"from us"]
    assert association.events[-1:] == [ApplicationData(b"from them")]
    exported = association.ours.export_keying_material(SRTP_LABEL, None, 60)
    assert exported == association.theirs.ssl.export_keying_material(SRTP_LABEL, 60, None)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mtu", [256, 576, 1200, 16_000])
def test_a_clean_handshake_at_any_mtu(role: Role, mtu: int) -> None:
    association = associate(role, mtu=mtu, from_us=checked_size(mtu))
    assert_talks(association)
    assert association.now == 0.0, "something was lost on a perfect network"
    assert association.ours.activity["retransmissions"] == 0


def checked_size(mtu: int) -> Network:
    """A perfect network, which no datagram is too large for."""

    def deliver(batch: list[tuple[int, bytes]]) -> list[bytes]:
        assert max((len(datagram) for _, datagram in batch), default=0) <= mtu
        return perfect(batch)

    return deliver


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mtu", [256, 1200])
def test_each_datagram_of_ours_lost_once(role: Role, mtu: int) -> None:
    associations = [associate(role, mtu=mtu, from_us=losing(lost)) for lost in range(8)]
    settle(associations)
    for association in associations:
        assert_talks(association)


@pytest.mark.parametrize("network", [perfect, losing(0), losing(1), losing(0, 1), reversing, repeating])
def test_a_client_hello_in_two_datagrams_leads_to_1_2(network: Network) -> None:
    sent: list[bytes] = []

    def recorded(batch: list[tuple[int, bytes]]) -> list[bytes]:
        sent.extend(datagram for _, datagram in batch)
        return network(batch)

    association = associate(Role.CLIENT, from_us=recorded)
    settle([association])
    assert_talks(association)
    first, second = sent[:2]
    assert first[HANDSHAKE_TYPE_AT] == second[HANDSHAKE_TYPE_AT] == HandshakeType.CLIENT_HELLO
    assert len(first) + len(second) > 1200


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mtu", [256, 1200])
def test_a_flight_of_ours_lost_twice(role: Role, mtu: int) -> None:
    datagrams_of_two_flights = range(2 if mtu == 1200 else 8)
    association = associate(role, mtu=mtu, from_us=losing(*datagrams_of_two_flights))
    settle([association])
    assert_talks(association)
    assert association.ours.activity["retransmissions"] > 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mtu", [256, 1200])
@pytest.mark.parametrize("network", [repeating, reversing])
def test_both_directions_repeated_or_reversed(role: Role, mtu: int, network: Network) -> None:
    association = associate(role, mtu=mtu, from_us=network, from_them=network)
    assert_talks(association)


@pytest.mark.parametrize("role", ROLES)
def test_chaos_both_ways(role: Role) -> None:
    associations = [
        associate(
            role,
            mtu=300,
            from_us=chaotic(seed, loss=0.3),
            from_them=chaotic(~seed, loss=0.05),
            maximum_retransmissions=40,
        )
        for seed in range(20)
    ]
    settle(associations)
    for association in associations:
        assert_talks(association)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mtu", [300, 1200])
def test_each_datagram_of_openssl_lost_once(role: Role, mtu: int) -> None:
    associations = [associate(role, mtu=mtu, from_them=losing(lost)) for lost in range(6)]
    settle(associations)
    for association in associations:
        assert_talks(association)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("group", [g for g in NamedGroup if g not in HYBRID_GROUPS])
def test_each_group(role: Role, group: NamedGroup) -> None:
    # With RSA: an ECDSA certificate's own curve would have to be among the groups (RFC 8422 §5.1).
    association = associate(role, kind="rsa-2048", groups=(group,))
    assert_talks(association)
    assert association.ours.group is group


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("suite", list(CIPHER_NAMES))
def test_each_cipher_suite(role: Role, suite: CipherSuite) -> None:
    kind = "ecdsa-p256" if "ECDSA" in suite.name else "rsa-2048"
    association = associate(role, kind=kind, cipher_suites=(suite,))
    assert_talks(association)
    assert association.theirs.ssl.get_cipher_name() == CIPHER_NAMES[suite]
    assert association.ours.cipher_suite is suite


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048", "rsa-4096"]
)
def test_each_kind_of_certificate_on_both_ends(role: Role, kind: str) -> None:
    # OpenSSL has Ed25519 in a TLS server of 1.2 and in a DTLS client, and not in a DTLS server.
    their_kind = "ecdsa-p256" if (role, kind) == (Role.CLIENT, "ed25519") else kind
    association = associate(role, kind=kind, their_kind=their_kind)
    assert_talks(association)
    assert association.ours.peer_certificate == credentials(their_kind, "theirs").chain[0]


@pytest.mark.parametrize("role", ROLES)
def test_the_srtp_profile_is_the_servers_first(role: Role) -> None:
    gcm_128, cm_80 = (
        SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,
        SrtpProtectionProfile.SRTP_AES128_CM_SHA1_80,
    )
    context = openssl_context(
        credentials(end="theirs"), srtp_profiles=b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM"
    )
    their_role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    association = Association(
        role, configuration(srtp_profiles=(gcm_128, cm_80)), OpenSslEnd(context, their_role)
    )
    association.run()
    assert_talks(association)
    assert association.ours.srtp_profile is (cm_80 if role is Role.CLIENT else gcm_128)
    assert association.theirs.ssl.get_selected_srtp_profile().decode() == association.ours.srtp_profile.name


@pytest.mark.parametrize("role", ROLES)
def test_alpn_is_negotiated(role: Role) -> None:
    context = openssl_context(credentials(end="theirs"), alpn_protocols=[b"webrtc", b"c-webrtc"])
    their_role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    ours = configuration(alpn_protocols=(b"c-webrtc", b"webrtc"))
    association = Association(role, ours, OpenSslEnd(context, their_role))
    association.run()
    assert_talks(association)
    expected = b"webrtc" if role is Role.CLIENT else b"c-webrtc"
    assert association.ours.alpn_protocol == association.theirs.ssl.get_alpn_proto_negotiated() == expected


@pytest.mark.parametrize("role", ROLES)
def test_close_notify_from_us(role: Role) -> None:
    association = associate(role)
    association.ours.close()
    association.exchange()
    assert association.theirs.closed
    assert association.theirs.error is None


@pytest.mark.parametrize("role", ROLES)
def test_close_notify_from_openssl(role: Role) -> None:
    association = associate(role)
    association.theirs.close()
    association.exchange()
    assert association.events[-1] == ConnectionClosed()


@pytest.mark.parametrize("role", ROLES)
def test_a_fingerprint_that_does_not_match_fails_both_ends(role: Role) -> None:
    wrong: PeerVerifier = FingerprintVerifier([Fingerprint("sha-256", credentials().fingerprint())])
    association = associate(role, verifier=wrong)
    failed = association.events[-1]
    assert isinstance(failed, ConnectionFailed)
    assert failed.error.alert is AlertDescription.BAD_CERTIFICATE
    assert association.theirs.error is not None
    assert not association.theirs.handshake_completed
    assert "bad certificate" in str(association.theirs.error)


@pytest.mark.parametrize("role", ROLES)
def test_a_matching_fingerprint_lets_openssl_in(role: Role) -> None:
    right = FingerprintVerifier([Fingerprint("SHA-256", credentials(end="theirs").fingerprint().lower())])
    assert_talks(associate(role, verifier=right))


@pytest.mark.parametrize("role", ROLES)
def test_nothing_in_common_is_told_to_both(role: Role) -> None:
    context = openssl_context(credentials(end="theirs"), cipher_list=b"ECDHE-ECDSA-AES128-SHA256")
    their_role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    association = Association(role, configuration(), OpenSslEnd(context, their_role))
    association.run()
    failed = association.events[-1]
    assert isinstance(failed, ConnectionFailed)
    assert failed.error.alert is AlertDescription.HANDSHAKE_FAILURE
    assert isinstance(failed.error, AlertReceived) == (role is Role.CLIENT)
    assert association.theirs.error is not None


def test_a_client_without_certificate_is_refused_where_one_is_required() -> None:
    association = Association(
        Role.SERVER,
        configuration(client_authentication=ClientAuthentication.REQUIRED),
        OpenSslEnd(openssl_context(None), Role.CLIENT),
    )
    association.run()
    assert isinstance(association.events[-1], ConnectionFailed)
    assert association.theirs.error is not None


@pytest.mark.parametrize("asked", [ClientAuthentication.NONE, ClientAuthentication.OPTIONAL])
def test_a_client_without_certificate_is_taken_where_none_is_required(asked: ClientAuthentication) -> None:
    association = Association(
        Role.SERVER,
        configuration(client_authentication=asked),
        OpenSslEnd(openssl_context(None), Role.CLIENT),
    )
    association.run()
    assert_talks(association)
    assert association.ours.peer_certificate is None


def test_a_server_that_asks_for_no_certificate_gets_none() -> None:
    context = openssl_context(credentials(end="theirs"), require_peer_certificate=False)
    association = Association(Role.CLIENT, configuration(), OpenSslEnd(context, Role.SERVER))
    association.run()
    assert_talks(association)
    assert association.theirs.ssl.get_peer_certificate() is None
