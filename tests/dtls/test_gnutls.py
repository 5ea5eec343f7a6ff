"""Our engine against ``gnutls-cli`` and ``gnutls-serv`` over UDP on loopback."""

import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from mediapeer.dtls import (
    AcceptAnyPeer,
    ConnectionClosed,
    DtlsConfiguration,
    DtlsConnection,
    ProtocolVersion,
    Role,
    SrtpProtectionProfile,
    StatelessListener,
)
from mediapeer.dtls.registry import HandshakeType
from tests.tools.certificates import credentials, write_pem
from tests.tools.command import Command
from tests.tools.udp import LOOPBACK, UdpAssociation, accept, free_port, loopback_socket

pytestmark = pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="needs gnutls-bin")

HANDSHAKE_TYPE_AT = 13
SRTP_LABEL = "EXTRACTOR-dtls_srtp"
EXPORT = [f"--keymatexport={SRTP_LABEL}", "--keymatexportsize=60"]
KINDS = ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"]
PRIORITIES = {
    "P-256 and AES-128-GCM": "NORMAL:-GROUP-ALL:+GROUP-SECP256R1:-CIPHER-ALL:+AES-128-GCM",
    "P-521 and AES-256-GCM": "NORMAL:-GROUP-ALL:+GROUP-SECP521R1:-CIPHER-ALL:+AES-256-GCM",
    "X25519 and ChaCha20-Poly1305": "NORMAL:-GROUP-ALL:+GROUP-X25519:-CIPHER-ALL:+CHACHA20-POLY1305",
}

Associate = Callable[..., tuple[UdpAssociation, Command]]


@pytest.fixture
def associate(tmp_path: pathlib.Path) -> Iterator[Associate]:
    """Makes associations with commands, and ends those afterwards."""
    commands: list[Command] = []

    def make(
        role: Role, *options: str, kind: str = "ecdsa-p256", mtu: int = 1200, behind_cookie: bool = False
    ) -> tuple[UdpAssociation, Command]:
        files = write_pem(credentials(kind, "theirs"), tmp_path)
        identity = [f"--x509certfile={files.certificate}", f"--x509keyfile={files.private_key}"]
        ours = DtlsConfiguration(
            verifier=AcceptAnyPeer(),
            credentials=(credentials(kind),),
            srtp_profiles=(SrtpProtectionProfile.SRTP_AES128_CM_SHA1_80,),
            mtu=mtu,
        )
        udp = loopback_socket()
        if role is Role.CLIENT:
            port = free_port()
            command = Command(
                [
                    "gnutls-serv",
                    "--udp",
                    "--echo",
                    f"--port={port}",
                    "--require-client-cert",
                    *identity,
                    *options,
                ]
            )
            commands.append(command)
            command.expect(r"listening on IPv4.*done")
            return UdpAssociation(
                DtlsConnection(ours, role, time.monotonic()), udp, command, peer_port=port
            ), command
        port = udp.getsockname()[1]
        command = Command(
            ["gnutls-cli", "--udp", f"--port={port}", "--insecure", *identity, *EXPORT, *options, LOOPBACK]
        )
        commands.append(command)
        if behind_cookie:
            connection, port = accept(StatelessListener(ours, bytes(32)), udp)
            return UdpAssociation(connection, udp, command, peer_port=port), command
        return UdpAssociation(DtlsConnection(ours, role, time.monotonic()), udp, command), command

    yield make
    for command in commands:
        command.close()


def assert_talks(association: UdpAssociation, command: Command, role: Role) -> None:
    """The handshake ends in DTLS 1.2, all that GnuTLS speaks, and a line goes each way: its server is an echo."""
    association.run_until(lambda: association.completed)
    assert association.connection.version is ProtocolVersion.DTLS_1_2
    if role is Role.CLIENT:
        association.connection.send_application_data(b"a line there and back\n")
        association.run_until(lambda: association.received == b"a line there and back\n")
        return
    association.run_until(lambda: b"Handshake was completed" in command.output)
    association.connection.send_application_data(b"a line from us\n")
    association.run_until(lambda: b"a line from us" in command.output)
    command.write(b"a line from them\n")
    association.run_until(lambda: association.received == b"a line from them\n")


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_certificate_on_both_ends(associate: Associate, role: Role, kind: str) -> None:
    association, command = associate(role, kind=kind)
    assert_talks(association, command, role)
    assert association.connection.peer_certificate == credentials(kind, "theirs").chain[0]


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
@pytest.mark.parametrize("priority", PRIORITIES.values(), ids=PRIORITIES.keys())
def test_groups_and_ciphers(associate: Associate, role: Role, priority: str) -> None:
    # With RSA: an ECDSA certificate's own curve would have to be among the groups (RFC 8422 §5.1).
    association, command = associate(role, f"--priority={priority}", kind="rsa-2048")
    assert_talks(association, command, role)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_small_datagrams_both_ways(associate: Associate, role: Role) -> None:
    association, command = associate(role, "--mtu=300", kind="rsa-2048", mtu=256)
    assert_talks(association, command, role)
    assert max(map(len, association.datagrams_sent)) <= 256


@pytest.mark.parametrize("cookie", [True, False])
def test_the_cookie_that_a_server_asks_for(associate: Associate, cookie: bool) -> None:
    association, command = associate(Role.CLIENT, *([] if cookie else ["--nocookie"]))
    assert_talks(association, command, Role.CLIENT)
    hello_verify_requests = [
        datagram
        for datagram in association.datagrams_received
        if datagram[HANDSHAKE_TYPE_AT] == HandshakeType.HELLO_VERIFY_REQUEST
    ]
    assert bool(hello_verify_requests) == cookie


@pytest.mark.parametrize("cookie", [True, False])
def test_a_client_hello_in_two_datagrams_leads_to_1_2(associate: Associate, cookie: bool) -> None:
    association, command = associate(Role.CLIENT, *([] if cookie else ["--nocookie"]))
    assert_talks(association, command, Role.CLIENT)
    first, second = association.datagrams_sent[:2]
    assert first[HANDSHAKE_TYPE_AT] == second[HANDSHAKE_TYPE_AT] == HandshakeType.CLIENT_HELLO
    assert len(first) + len(second) > 1200


def test_the_cookie_that_our_listener_asks_for(associate: Associate) -> None:
    association, command = associate(Role.SERVER, behind_cookie=True)
    assert_talks(association, command, Role.SERVER)


def test_srtp_and_the_keys_exported_for_it(associate: Associate) -> None:
    association, command = associate(Role.SERVER, "--srtp-profiles=SRTP_AES128_CM_HMAC_SHA1_80")
    assert_talks(association, command, Role.SERVER)
    assert association.connection.srtp_profile is SrtpProtectionProfile.SRTP_AES128_CM_SHA1_80
    assert "SRTP profile: SRTP_AES128_CM_HMAC_SHA1_80" in command.text()
    match = re.search(r"Key material: ([0-9a-f]+)", command.text())
    assert match
    ours = association.connection.export_keying_material(SRTP_LABEL.encode(), None, 60)
    assert ours.hex() == match[1]


def test_close_notify_from_us(associate: Associate) -> None:
    association, command = associate(Role.SERVER)
    assert_talks(association, command, Role.SERVER)
    association.connection.close()
    association.run_until(lambda: "Peer has closed the GnuTLS connection" in command.text())


def test_close_notify_from_gnutls(associate: Associate) -> None:
    association, command = associate(Role.SERVER)
    assert_talks(association, command, Role.SERVER)
    command.close_input()
    association.run_until(lambda: association.happened(ConnectionClosed))
