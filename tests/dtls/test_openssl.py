"""Our engine against the ``openssl`` command over UDP on loopback."""

import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from mediapeer.dtls import (
    AcceptAnyPeer,
    AlertDescription,
    CipherSuite,
    ClientAuthentication,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    Fingerprint,
    FingerprintVerifier,
    NamedGroup,
    ProtocolVersion,
    Role,
    SrtpProtectionProfile,
    StatelessListener,
)
from mediapeer.dtls.registry import HandshakeType
from tests.tools.certificates import credentials, write_pem
from tests.tools.command import Command
from tests.tools.pyopenssl import CIPHER_NAMES
from tests.tools.udp import LOOPBACK, Loss, UdpAssociation, accept, loopback_socket, no_loss

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")

HANDSHAKE_TYPE_AT = 13
SRTP_LABEL = "EXTRACTOR-dtls_srtp"
EXPORT = ["-keymatexport", SRTP_LABEL, "-keymatexportlen", "60"]
OPENSSL_GROUPS = {
    NamedGroup.X25519: "X25519",
    NamedGroup.SECP256R1: "P-256",
    NamedGroup.SECP384R1: "P-384",
    NamedGroup.SECP521R1: "P-521",
}
ROLES = [Role.CLIENT, Role.SERVER]

#: ``associate(role, "-option", …, kind=…, …)``: our end in ``role``, and the command in the other one.
Associate = Callable[..., tuple[UdpAssociation, Command]]


def configuration(kind: str = "ecdsa-p256", **changes: object) -> DtlsConfiguration:
    """Ours, with what a test changes."""
    settings = {"verifier": AcceptAnyPeer(), "credentials": (credentials(kind),), **changes}
    return DtlsConfiguration(**settings)  # type: ignore[arg-type]


@pytest.fixture
def associate(tmp_path: pathlib.Path) -> Iterator[Associate]:
    """Makes associations with commands, and ends those afterwards."""
    commands: list[Command] = []

    def make(
        role: Role,
        *options: str,
        kind: str = "ecdsa-p256",
        their_kind: str | None = None,
        authenticated: bool = True,
        behind_cookie: bool = False,
        lose_sent: Loss = no_loss,
        lose_received: Loss = no_loss,
        **changes: object,
    ) -> tuple[UdpAssociation, Command]:
        files = write_pem(credentials(their_kind or kind, "theirs"), tmp_path)
        identity = ["-cert", str(files.certificate), "-key", str(files.private_key)]
        ours = configuration(kind, **changes)
        udp = loopback_socket()
        connection = None
        if role is Role.CLIENT:
            # The port is the command's to choose: it says which when it listens.
            verify = ["-Verify", "1"] if authenticated else []
            command = Command(
                ["openssl", "s_server", "-dtls1_2", "-accept", f"{LOOPBACK}:0", *identity, *verify, *options]
            )
            commands.append(command)
            port = int(command.expect(rf"ACCEPT {LOOPBACK}:(\d+)")[1])
        else:
            port = None
            target = f"{LOOPBACK}:{udp.getsockname()[1]}"
            identity = identity if authenticated else []
            command = Command(["openssl", "s_client", "-dtls1_2", "-connect", target, *identity, *options])
            commands.append(command)
            if behind_cookie:
                connection, port = accept(StatelessListener(ours, bytes(32)), udp)
        association = UdpAssociation(
            connection or DtlsConnection(ours, role, time.monotonic()),
            udp,
            command,
            peer_port=port,
            lose_sent=lose_sent,
            lose_received=lose_received,
        )
        return association, command

    yield make
    for command in commands:
        command.close()


def assert_talks(association: UdpAssociation, command: Command) -> None:
    """The handshake ends in DTLS 1.2, which is all that OpenSSL speaks, and a line goes each way."""
    association.run_until(lambda: association.completed)
    assert association.connection.version is ProtocolVersion.DTLS_1_2
    association.heal()
    association.connection.send_application_data(b"a line from us\n")
    association.run_until(lambda: b"a line from us" in command.output)
    command.write(b"a line from them\n")
    association.run_until(lambda: association.received == b"a line from them\n")


def exported_by(command: Command) -> bytes:
    """The keying material that the command printed."""
    match = re.search(r"Keying material: ([0-9A-F]+)", command.text())
    assert match, command.text()
    return bytes.fromhex(match[1])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("profile", list(SrtpProtectionProfile))
def test_each_srtp_profile_and_the_keys_exported_for_it(
    associate: Associate, role: Role, profile: SrtpProtectionProfile
) -> None:
    association, command = associate(role, *EXPORT, "-use_srtp", profile.name, srtp_profiles=(profile,))
    assert_talks(association, command)
    assert association.connection.srtp_profile is profile
    assert f"SRTP Extension negotiated, profile={profile.name}" in command.text()
    ours = association.connection.export_keying_material(SRTP_LABEL.encode(), None, 60)
    assert ours == exported_by(command)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("suite", list(CIPHER_NAMES))
def test_each_cipher_suite(associate: Associate, role: Role, suite: CipherSuite) -> None:
    kind = "ecdsa-p256" if "ECDSA" in suite.name else "rsa-2048"
    association, command = associate(role, "-cipher", CIPHER_NAMES[suite], kind=kind)
    assert_talks(association, command)
    assert association.connection.cipher_suite is suite


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("group", list(OPENSSL_GROUPS))
def test_each_group(associate: Associate, role: Role, group: NamedGroup) -> None:
    # With RSA: an ECDSA certificate's own curve would have to be among the groups (RFC 8422 §5.1).
    association, command = associate(role, "-groups", OPENSSL_GROUPS[group], kind="rsa-2048")
    assert_talks(association, command)
    assert association.connection.group is group


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048", "rsa-4096"]
)
def test_each_kind_of_certificate_on_both_ends(associate: Associate, role: Role, kind: str) -> None:
    # OpenSSL has Ed25519 in a TLS server of 1.2 and in a DTLS client, and not in a DTLS server.
    their_kind = "ecdsa-p256" if (role, kind) == (Role.CLIENT, "ed25519") else kind
    association, command = associate(role, kind=kind, their_kind=their_kind)
    assert_talks(association, command)
    assert association.connection.peer_certificate == credentials(their_kind, "theirs").chain[0]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "sigalgs", ["rsa_pss_rsae_sha256", "rsa_pss_rsae_sha512", "RSA+SHA256", "RSA+SHA384"]
)
def test_each_padding_of_rsa(associate: Associate, role: Role, sigalgs: str) -> None:
    association, command = associate(role, "-sigalgs", sigalgs, "-client_sigalgs", sigalgs, kind="rsa-2048")
    assert_talks(association, command)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa-4096"])
def test_small_datagrams_both_ways(associate: Associate, role: Role, kind: str) -> None:
    # OpenSSL's option is the link's MTU, ours is that of the datagram in it.
    association, command = associate(role, "-mtu", "284", kind=kind, mtu=256)
    assert_talks(association, command)
    assert max(map(len, association.datagrams_sent)) <= 256
    assert len(association.datagrams_sent) > 4


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("lost", range(4))
def test_a_datagram_of_each_direction_lost(associate: Associate, role: Role, lost: int) -> None:
    association, command = associate(
        role, "-timeout", lose_sent=lambda index: index == lost, lose_received=lambda index: index == lost
    )
    assert_talks(association, command)


@pytest.mark.parametrize("lost", [None, 0, 1])
def test_a_client_hello_in_two_datagrams_leads_to_1_2(associate: Associate, lost: int | None) -> None:
    association, command = associate(Role.CLIENT, "-timeout", lose_sent=lambda index: index == lost)
    assert_talks(association, command)
    first, second = association.datagrams_sent[:2]
    assert first[HANDSHAKE_TYPE_AT] == second[HANDSHAKE_TYPE_AT] == HandshakeType.CLIENT_HELLO
    assert len(first) + len(second) > 1200


def test_the_cookie_that_a_server_asks_for(associate: Associate) -> None:
    association, command = associate(Role.CLIENT, "-listen")
    assert_talks(association, command)
    first_answer = association.datagrams_received[0]
    assert first_answer[HANDSHAKE_TYPE_AT] == HandshakeType.HELLO_VERIFY_REQUEST


@pytest.mark.parametrize("mtu", ["284", "1400"])
def test_the_cookie_that_our_listener_asks_for(associate: Associate, mtu: str) -> None:
    association, command = associate(Role.SERVER, "-mtu", mtu, behind_cookie=True)
    assert_talks(association, command)


@pytest.mark.parametrize("role", ROLES)
def test_alpn(associate: Associate, role: Role) -> None:
    association, command = associate(
        role, "-alpn", "c-webrtc,webrtc", alpn_protocols=(b"webrtc", b"c-webrtc")
    )
    assert_talks(association, command)
    expected = "c-webrtc" if role is Role.CLIENT else "webrtc"
    assert association.connection.alpn_protocol == expected.encode()
    printed = f"ALPN protocols selected: {expected}" if role is Role.CLIENT else f"ALPN protocol: {expected}"
    assert printed in command.text()


def test_the_server_name_that_a_client_sends(associate: Associate, tmp_path: pathlib.Path) -> None:
    second = write_pem(credentials(), tmp_path, "second")
    options = ["-cert2", str(second.certificate), "-key2", str(second.private_key)]
    options += ["-servername", "peer.example", "-servername_fatal"]
    association, command = associate(Role.CLIENT, *options, server_name="peer.example")
    assert_talks(association, command)
    assert 'Hostname in TLS extension: "peer.example"' in command.text()


@pytest.mark.parametrize("role", ROLES)
def test_one_sided_authentication(associate: Associate, role: Role) -> None:
    association, command = associate(
        role, authenticated=False, client_authentication=ClientAuthentication.OPTIONAL
    )
    assert_talks(association, command)
    assert (association.connection.peer_certificate is None) == (role is Role.SERVER)


def test_a_client_without_certificate_is_refused_where_one_is_required(associate: Associate) -> None:
    association, command = associate(Role.SERVER, authenticated=False)
    association.run_until(lambda: association.happened(ConnectionFailed))
    association.run_until(lambda: "alert" in command.text())
    assert not association.completed


@pytest.mark.parametrize("role", ROLES)
def test_a_fingerprint_that_does_not_match(associate: Associate, role: Role) -> None:
    wrong = FingerprintVerifier([Fingerprint("sha-256", credentials().fingerprint())])
    association, command = associate(role, verifier=wrong)
    association.run_until(lambda: association.happened(ConnectionFailed))
    association.run_until(lambda: "alert bad certificate" in command.text())
    error = association.connection.error
    assert error is not None
    assert error.alert is AlertDescription.BAD_CERTIFICATE
    assert not association.completed


@pytest.mark.parametrize("role", ROLES)
def test_close_notify_from_us(associate: Associate, role: Role) -> None:
    association, command = associate(role)
    assert_talks(association, command)
    association.connection.close()
    # So say s_server and s_client, and only when the peer has said it closes.
    association.run_until(lambda: {"DONE", "closed"} & set(command.text().splitlines()[-1:]) != set())


def test_close_notify_from_openssl(associate: Associate) -> None:
    # s_server closes its socket first, and so cannot say it.
    association, command = associate(Role.SERVER)
    assert_talks(association, command)
    command.write(b"Q\n")
    association.run_until(lambda: association.happened(ConnectionClosed))
