"""Raw public keys, pre-shared keys and sessions against ``gnutls-cli`` and ``gnutls-serv`` over UDP on loopback."""

import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from mediapeer.dtls import (
    AcceptAnyPeer,
    AlertReceived,
    CipherSuite,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    PreSharedKey,
    ProtocolVersion,
    RawPublicKeyCredentials,
    RawPublicKeyVerifier,
    Role,
    Session,
    SessionEstablished,
)
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS, CertificateType
from tests.tools.certificates import credentials, write_pem
from tests.tools.command import Command
from tests.tools.udp import LOOPBACK, UdpAssociation, free_port, loopback_socket

pytestmark = pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="needs gnutls-bin")

ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
RAW = CertificateType.RAW_PUBLIC_KEY
SECRET = bytes(range(16))
KEY = PreSharedKey(b"device-1", SECRET)
PSK_PRIORITIES = {
    CipherSuite.TLS_PSK_WITH_AES_128_GCM_SHA256: "+PSK:-CIPHER-ALL:+AES-128-GCM",
    CipherSuite.TLS_PSK_WITH_AES_256_GCM_SHA384: "+PSK:-CIPHER-ALL:+AES-256-GCM",
    CipherSuite.TLS_PSK_WITH_AES_128_CCM: "+PSK:-CIPHER-ALL:+AES-128-CCM",
    CipherSuite.TLS_PSK_WITH_AES_128_CCM_8: "+PSK:-CIPHER-ALL:+AES-128-CCM-8",
    CipherSuite.TLS_PSK_WITH_CHACHA20_POLY1305_SHA256: "+PSK:-CIPHER-ALL:+CHACHA20-POLY1305",
    CipherSuite.TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256: "+ECDHE-PSK:-CIPHER-ALL:+CHACHA20-POLY1305",
}


def configuration(**changes: Any) -> DtlsConfiguration:
    """Ours, with every suite there is, and what a test changes."""
    settings = {
        "verifier": AcceptAnyPeer(),
        "credentials": (credentials(),),
        "cipher_suites": tuple(CipherSuite),
        **changes,
    }
    return DtlsConfiguration(**settings)


class Commands:
    """The GnuTLS commands of one test, and our ends beside them."""

    def __init__(self) -> None:
        self._commands: list[Command] = []

    def server(self, *options: str) -> tuple[Command, int]:
        """A ``gnutls-serv`` that echoes, and its port."""
        port = free_port()
        command = Command(["gnutls-serv", "--udp", "--echo", f"--port={port}", *options])
        self._commands.append(command)
        command.expect(r"listening on IPv4.*done")
        return command, port

    def connect(
        self, server: tuple[Command, int], ours: DtlsConfiguration, session: Session | None = None
    ) -> UdpAssociation:
        """Our client at the command's server."""
        command, port = server
        connection = DtlsConnection(ours, Role.CLIENT, time.monotonic(), session)
        return UdpAssociation(connection, loopback_socket(), command, peer_port=port)

    def client(self, ours: DtlsConfiguration, *options: str) -> tuple[UdpAssociation, Command]:
        """A ``gnutls-cli``, and our server."""
        udp = loopback_socket()
        port = udp.getsockname()[1]
        command = Command(["gnutls-cli", "--udp", f"--port={port}", "--insecure", *options, LOOPBACK])
        self._commands.append(command)
        return UdpAssociation(DtlsConnection(ours, Role.SERVER, time.monotonic()), udp, command), command

    def close(self) -> None:
        """End all of them."""
        for command in self._commands:
            command.close()


@pytest.fixture
def commands() -> Iterator[Commands]:
    """Makes associations with commands, and ends those afterwards."""
    made = Commands()
    yield made
    made.close()


def assert_talks(association: UdpAssociation, command: Command, role: Role) -> None:
    """The handshake ends in DTLS 1.2, and a line goes each way: GnuTLS's server is an echo."""
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


def associate(
    commands: Commands, role: Role, ours: DtlsConfiguration, *options: str
) -> tuple[UdpAssociation, Command]:
    """Our end in ``role`` and the command in the other one."""
    if role is Role.SERVER:
        return commands.client(ours, *options)
    server = commands.server(*options)
    return commands.connect(server, ours), server[0]


# Pre-shared keys


def psk_options(role: Role, directory: pathlib.Path, identity: str = "device-1") -> list[str]:
    """How the command in the other role is told the key."""
    if role is Role.SERVER:
        return [f"--pskusername={identity}", f"--pskkey={SECRET.hex()}"]
    file = directory / "keys.psk"
    file.write_text(f"{identity}:{SECRET.hex()}\n")
    return [f"--pskpasswd={file}"]


@ROLES
@pytest.mark.parametrize("suite", PSK_PRIORITIES, ids=lambda suite: suite.name)
def test_each_suite_with_a_pre_shared_key(
    commands: Commands, tmp_path: pathlib.Path, role: Role, suite: CipherSuite
) -> None:
    ours = configuration(credentials=(KEY,), verifier=None)
    priority = f"--priority=NORMAL:-KX-ALL:-VERS-ALL:+VERS-DTLS1.2:{PSK_PRIORITIES[suite]}"
    association, command = associate(commands, role, ours, priority, *psk_options(role, tmp_path))
    if role is Role.SERVER and CIPHER_SUITE_PARAMETERS[suite].is_ephemeral:
        # When it prints what it has negotiated, gnutls-cli 3.7 dies of this one, with OpenSSL's server too.
        association.run_until(lambda: association.completed)
    else:
        assert_talks(association, command, role)
    assert association.connection.cipher_suite is suite
    assert association.connection.pre_shared_key_identity == b"device-1"


@ROLES
@pytest.mark.parametrize("suite", list(PSK_PRIORITIES)[-2:], ids=lambda suite: suite.name)
def test_an_identity_that_is_not_known(
    commands: Commands, tmp_path: pathlib.Path, role: Role, suite: CipherSuite
) -> None:
    ours = configuration(credentials=(KEY,), verifier=None, handshake_timeout=1.0)
    priority = f"--priority=NORMAL:-KX-ALL:-VERS-ALL:+VERS-DTLS1.2:{PSK_PRIORITIES[suite]}"
    options = psk_options(role, tmp_path, "device-2")
    association, command = associate(commands, role, ours, priority, *options)
    association.run_until(lambda: association.happened(ConnectionFailed))
    if role is Role.SERVER:
        association.run_until(lambda: "SRP/PSK username is missing or not known" in command.text())


@ROLES
def test_hints(commands: Commands, tmp_path: pathlib.Path, role: Role) -> None:
    priority = "--priority=NORMAL:-KX-ALL:-VERS-ALL:+VERS-DTLS1.2:+PSK:-CIPHER-ALL:+AES-128-GCM"
    ours = configuration(credentials=(KEY,), verifier=None, psk_identity_hint=b"which one?")
    hint = ["--pskhint=which one?"] if role is Role.CLIENT else []
    association, command = associate(commands, role, ours, priority, *hint, *psk_options(role, tmp_path))
    assert_talks(association, command, role)


# Raw public keys


def write_raw(own: RawPublicKeyCredentials, directory: pathlib.Path) -> list[str]:
    """How the command is told its key pair."""
    files = directory / "public.pem", directory / "private.pem"
    files[0].write_bytes(
        own.private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    files[1].write_bytes(
        own.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return [f"--rawpkfile={files[0]}", f"--rawpkkeyfile={files[1]}"]


RAW_PRIORITY = "--priority=NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CTYPE-ALL:+CTYPE-RAWPK"


@ROLES
@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519", "rsa-2048"])
def test_raw_public_keys_on_both_ends(
    commands: Commands, tmp_path: pathlib.Path, role: Role, kind: str
) -> None:
    own, theirs = RawPublicKeyCredentials.generate(kind), RawPublicKeyCredentials.generate(kind)
    ours = configuration(
        credentials=(own,),
        verifier=RawPublicKeyVerifier([theirs.public_key_info]),
        peer_certificate_types=(RAW,),
    )
    options = [RAW_PRIORITY, *write_raw(theirs, tmp_path)]
    if role is Role.CLIENT:
        options.append("--require-client-cert")
    association, command = associate(commands, role, ours, *options)
    assert_talks(association, command, role)
    assert association.connection.peer_raw_public_key == theirs.public_key_info


@ROLES
def test_a_raw_public_key_that_is_not_known(commands: Commands, tmp_path: pathlib.Path, role: Role) -> None:
    own, theirs = RawPublicKeyCredentials.generate(), RawPublicKeyCredentials.generate()
    ours = configuration(
        credentials=(own,),
        verifier=RawPublicKeyVerifier([own.public_key_info]),
        peer_certificate_types=(RAW,),
    )
    options = [RAW_PRIORITY, *write_raw(theirs, tmp_path)]
    if role is Role.CLIENT:
        options.append("--require-client-cert")
    association, _ = associate(commands, role, ours, *options)
    association.run_until(lambda: association.happened(ConnectionFailed))
    assert not association.completed
    assert not isinstance(association.connection.error, AlertReceived)


# Sessions


@pytest.mark.parametrize("way", [[], ["--noticket"]], ids=["ticket", "session ID"])
def test_our_client_resumes(commands: Commands, tmp_path: pathlib.Path, way: list[str]) -> None:
    files = write_pem(credentials("ecdsa-p256", "theirs"), tmp_path)
    identity = [f"--x509certfile={files.certificate}", f"--x509keyfile={files.private_key}"]
    server = commands.server("--require-client-cert", *way, *identity)
    ours = configuration(resume_sessions=True)
    first = commands.connect(server, ours)
    assert_talks(first, server[0], Role.CLIENT)
    (session,) = (e.session for e in first.events if isinstance(e, SessionEstablished))
    assert bool(session.ticket) == (not way)
    first.connection.close()
    first.run_until(lambda: True)
    second = commands.connect(server, ours, session)
    assert_talks(second, server[0], Role.CLIENT)
    assert second.connection.is_resumed
    assert second.connection.peer_certificate == credentials("ecdsa-p256", "theirs").chain[0]
