"""Associations with wolfSSL, one after the other: each end in a process of its own, over UDP on loopback."""

import pathlib
import random
import tempfile
import time
from collections.abc import Iterator

from mediapeer.dtls import CipherSuite, ConnectionFailed, DtlsConnection, NamedGroup, ProtocolVersion, Role
from tests.dtls.differential.outcomes import DATA, LABEL, Outcome, credentials, our_configuration, seen_by
from tests.dtls.differential.setups import V12, V13, Setup, Side
from tests.tools import wolfssl
from tests.tools.certificates import PemFiles, write_pem
from tests.tools.command import Command
from tests.tools.udp import Loss, UdpAssociation, loopback_socket
from tests.tools.wolfssl import said

PATIENCE = 20.0
"Seconds until two ends that can connect must be connected; wolfSSL's timer takes 1, 2, 4 and so on."
PATIENCE_AFTER_FAILURE = 2.0
SUITE_NAMES = {
    CipherSuite.TLS_AES_128_GCM_SHA256: "TLS13-AES128-GCM-SHA256",
    CipherSuite.TLS_AES_256_GCM_SHA384: "TLS13-AES256-GCM-SHA384",
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: "TLS13-CHACHA20-POLY1305-SHA256",
    CipherSuite.TLS_AES_128_CCM_SHA256: "TLS13-AES128-CCM-SHA256",
    CipherSuite.TLS_AES_128_CCM_8_SHA256: "TLS13-AES128-CCM-8-SHA256",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ECDHE-ECDSA-AES128-GCM-SHA256",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: "ECDHE-ECDSA-AES256-GCM-SHA384",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "ECDHE-ECDSA-AES128-CCM",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: "ECDHE-ECDSA-AES128-CCM-8",
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256",
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: "ECDHE-RSA-AES256-GCM-SHA384",
    CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-RSA-CHACHA20-POLY1305",
}
VERSION_NAMES = {ProtocolVersion.DTLS_1_2: "DTLSv1.2", ProtocolVersion.DTLS_1_3: "DTLSv1.3"}
GROUP_NAMES = {
    NamedGroup.X25519: "X25519",
    NamedGroup.SECP256R1: "SECP256R1",
    NamedGroup.SECP384R1: "SECP384R1",
    NamedGroup.SECP521R1: "SECP521R1",
    NamedGroup.X25519MLKEM768: "X25519MLKEM768",
    NamedGroup.SECP256R1MLKEM768: "SecP256r1MLKEM768",
}


def flags_of(side: Side, role: Role, files: PemFiles) -> list[str]:
    """What the program is told."""
    flags = ["--role", role.value, "--label", LABEL.decode(), "--mtu", str(side.mtu)]
    flags += ["--certificate", str(files.certificate), "--key", str(files.private_key)]
    flags += ["--groups", ":".join(str(int(group)) for group in side.groups)]
    flags += ["--cipher-suites", ":".join(SUITE_NAMES[suite] for suite in side.suites)]
    flags += ["--cookie", "yes" if side.cookie else "no"]
    if len(side.versions) == 1:
        flags += ["--version", "1.2" if V12 in side.versions else "1.3"]
    return flags


def losing(setup: Setup, direction: str) -> Loss:
    """Says of each datagram of a direction whether it is lost.

    A server's first one never is: wolfSSL says its HelloVerifyRequest once, and without a cookie its
    HelloRetryRequest too, and waits for ever for the ClientHello that answers it.
    """
    dice = random.Random(f"{setup.number} {direction}")
    begins = direction == "from them" and setup.role is Role.CLIENT
    return lambda index: dice.random() < setup.loss and not (begins and index == 0)


def associate(setup: Setup, directory: pathlib.Path) -> tuple[UdpAssociation, Command]:
    """Both ends, begun."""
    kind = setup.theirs.certificates[0]
    files = write_pem(credentials(kind, "theirs"), directory, kind)
    udp, port = loopback_socket(), None
    if setup.role is Role.CLIENT:
        command = Command([wolfssl.executable(), *flags_of(setup.theirs, Role.SERVER, files)])
        port = int(command.expect(r'"listening","port":(\d+)')[1])
    else:
        flags = [*flags_of(setup.theirs, Role.CLIENT, files), "--port", str(udp.getsockname()[1])]
        command = Command([wolfssl.executable(), *flags])
    association = UdpAssociation(
        DtlsConnection(our_configuration(setup), setup.role, time.monotonic()),
        udp,
        command,
        peer_port=port,
        lose_sent=losing(setup, "from us"),
        lose_received=losing(setup, "from them"),
    )
    return association, command


def _run(association: UdpAssociation, command: Command) -> None:
    """Until both ends are connected, or one has failed and the other has had time to hear of it."""

    def is_settled() -> bool:
        if association.happened(ConnectionFailed) and (said(command, "failed") or command.ended):
            return True
        return association.completed and bool(said(command, "connected")) and not command.ended

    def has_failed() -> bool:
        return is_settled() or association.happened(ConnectionFailed) or command.ended

    try:
        association.run_until(has_failed, PATIENCE)
        association.run_until(is_settled, PATIENCE_AFTER_FAILURE)
    except AssertionError:
        return


def outcome_of(association: UdpAssociation, command: Command) -> Outcome:
    """What came of it."""
    connected = said(command, "connected")
    failed = said(command, "failed")
    if association.completed and connected and not failed:
        association.heal()
        before = association.received
        try:
            association.connection.send_application_data(DATA)
            association.run_until(
                lambda: association.received == before + DATA or association.happened(ConnectionFailed), 5
            )
        except Exception as error:
            outcome = seen_by(association.connection)
            outcome.connected, outcome.complaint = False, f"data does not arrive: {error}"
            return outcome
    outcome = seen_by(association.connection)
    outcome.their_error = failed[0]["reason"] if failed else command.text()[-200:] if command.ended else ""
    outcome.connected = bool(connected) and not failed and association.connection.is_connected
    if outcome.connected:
        outcome.complaint = _disagreement(association.connection, connected[0])
        outcome.connected = not outcome.complaint
    return outcome


def _disagreement(ours: DtlsConnection, theirs: dict[str, object]) -> str:
    """What both ends do not see alike, if there is something."""
    if ours.version is None or ours.group is None:
        return "nothing was negotiated"
    for name, value in (
        ("version", VERSION_NAMES[ours.version]),
        ("cipher_suite", ours.cipher_suite),
        ("exported", ours.export_keying_material(LABEL, None, 48).hex()),
    ):
        if theirs[name] != value:
            return f"{name}: {value} here, {theirs[name]} there"
    if ours.version is V13 and theirs["group"] != GROUP_NAMES[ours.group]:
        return f"group: {ours.group.label} here, {theirs['group']} there"
    return ""


def run(setups: list[Setup]) -> Iterator[tuple[Setup, Outcome]]:
    """Make the associations, and say what came of each."""
    with tempfile.TemporaryDirectory() as name:
        for setup in setups:
            association, command = associate(setup, pathlib.Path(name))
            try:
                _run(association, command)
                yield setup, outcome_of(association, command)
            finally:
                command.close()
                association._udp.close()
