"""Our engine against wolfSSL, which speaks DTLS 1.3, over UDP on loopback.

wolfSSL's retransmission timer starts at one second, and ours at 50 ms. What is lost therefore comes again from us,
on our timer or because of an ACK, unless only wolfSSL can know that it is missing.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator

import pytest

from mediapeer.dtls import (
    AlertDescription,
    CipherSuite,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    Fingerprint,
    FingerprintVerifier,
    NamedGroup,
    ProtocolVersion,
    Role,
    StatelessListener,
)
from mediapeer.dtls.messages13 import HELLO_RETRY_REQUEST_RANDOM
from mediapeer.dtls.registry import HYBRID_GROUPS
from tests.tools import wolfssl
from tests.tools.certificates import credentials, write_pem
from tests.tools.command import Command
from tests.tools.udp import Loss, UdpAssociation, accept, loopback_socket, no_loss
from tests.tools.wolfssl import said

pytestmark = [
    pytest.mark.skipif(wolfssl.refusal() is not None, reason=str(wolfssl.refusal())),
    pytest.mark.timeout(wolfssl.LONGEST_BUILD_SECONDS),  # the first test builds
]

LABEL = "EXTRACTOR-dtls_srtp"
ROLES = [Role.CLIENT, Role.SERVER]
GROUP_NAMES = {
    NamedGroup.X25519: "X25519",
    NamedGroup.SECP256R1: "SECP256R1",
    NamedGroup.SECP384R1: "SECP384R1",
    NamedGroup.SECP521R1: "SECP521R1",
    NamedGroup.X25519MLKEM768: "X25519MLKEM768",
    NamedGroup.SECP256R1MLKEM768: "SecP256r1MLKEM768",
}
CIPHER_SUITE_NAMES = {
    CipherSuite.TLS_AES_128_GCM_SHA256: "TLS13-AES128-GCM-SHA256",
    CipherSuite.TLS_AES_256_GCM_SHA384: "TLS13-AES256-GCM-SHA384",
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: "TLS13-CHACHA20-POLY1305-SHA256",
    CipherSuite.TLS_AES_128_CCM_SHA256: "TLS13-AES128-CCM-SHA256",
    CipherSuite.TLS_AES_128_CCM_8_SHA256: "TLS13-AES128-CCM-8-SHA256",
}
VERSION_NAMES = {ProtocolVersion.DTLS_1_2: "DTLSv1.2", ProtocolVersion.DTLS_1_3: "DTLSv1.3"}

#: ``associate(role, "--flag", "value", …, kind=…, …)``: our end in ``role``, and wolfSSL in the other one.
Associate = Callable[..., tuple[UdpAssociation, Command]]


@pytest.fixture(scope="session")
def executable() -> pathlib.Path:
    """The program with wolfSSL in it."""
    try:
        return wolfssl.executable()
    except wolfssl.Unavailable as unavailable:
        pytest.skip(f"wolfSSL cannot be built here: {unavailable}")


@pytest.fixture
def associate(executable: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Associate]:
    """Makes associations with wolfSSL, and ends its processes afterwards. Each end checks who the other is."""
    commands: list[Command] = []

    def make(
        role: Role,
        *flags: str,
        kind: str = "ecdsa-p256",
        behind_cookie: bool = False,
        lose_sent: Loss = no_loss,
        lose_received: Loss = no_loss,
        **changes: object,
    ) -> tuple[UdpAssociation, Command]:
        theirs = credentials(kind, "theirs")
        settings: dict[str, object] = {
            "verifier": FingerprintVerifier([Fingerprint("sha-256", theirs.fingerprint())]),
            "credentials": (credentials(kind),),
            **changes,
        }
        ours = DtlsConfiguration(**settings)  # type: ignore[arg-type]
        files = write_pem(theirs, tmp_path)
        arguments = [
            "--certificate",
            str(files.certificate),
            "--key",
            str(files.private_key),
            "--label",
            LABEL,
        ]
        udp = loopback_socket()
        connection, port = None, None
        if role is Role.CLIENT:
            command = Command([executable, "--role", "server", *arguments, *flags])
            commands.append(command)
            port = int(command.expect(r'"listening","port":(\d+)')[1])
        else:
            target = ["--port", str(udp.getsockname()[1])]
            command = Command([executable, "--role", "client", *target, *arguments, *flags])
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


def connect(association: UdpAssociation, command: Command) -> None:
    """Run the handshake until both ends say that it is done, and the same of what it led to."""
    association.run_until(lambda: association.completed and bool(said(command, "connected")))
    connection = association.connection
    (theirs,) = said(command, "connected")
    assert connection.version is not None
    assert connection.group is not None
    assert connection.cipher_suite is not None
    assert theirs["version"] == VERSION_NAMES[connection.version]
    assert theirs["group"] == GROUP_NAMES[connection.group]
    assert theirs["cipher_suite"] == connection.cipher_suite
    assert theirs["exported"] == connection.export_keying_material(LABEL.encode(), None, 48).hex()


def assert_echoes(association: UdpAssociation, data: bytes = b"there and back") -> None:
    """Data goes each way: wolfSSL sends back what it gets."""
    association.heal()
    before = association.received
    association.connection.send_application_data(data)
    association.run_until(lambda: association.received == before + data)


def hello_retry_requests(association: UdpAssociation) -> int:
    """How many went either way."""
    datagrams = association.datagrams_sent + association.datagrams_received
    return sum(HELLO_RETRY_REQUEST_RANDOM in datagram for datagram in datagrams)


def offered(groups: list[NamedGroup]) -> list[str]:
    """The flags that make wolfSSL support these groups; as a client it sends a share of the first."""
    return ["--groups", ":".join(str(int(group)) for group in groups)]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-4096"])
def test_both_ends_know_each_other(associate: Associate, role: Role, kind: str) -> None:
    association, command = associate(role, "--cookie", "no", kind=kind)
    connect(association, command)
    assert association.connection.version is ProtocolVersion.DTLS_1_3
    assert association.connection.peer_certificate == credentials(kind, "theirs").chain[0]
    assert said(command, "connected")[0]["peer_certificate"] == credentials(kind).chain[0].hex()
    assert_echoes(association)


@pytest.mark.parametrize("role", ROLES)
def test_a_stranger_is_told_so(associate: Associate, role: Role) -> None:
    wrong = FingerprintVerifier([Fingerprint("sha-256", credentials().fingerprint())])
    association, command = associate(role, "--cookie", "no", verifier=wrong)
    association.run_until(lambda: association.happened(ConnectionFailed))
    association.run_until(lambda: bool(said(command, "failed")))
    assert said(command, "failed")[0]["alert_received"] == AlertDescription.BAD_CERTIFICATE
    assert not association.completed


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("group", list(NamedGroup))
def test_each_group_at_once(associate: Associate, role: Role, group: NamedGroup) -> None:
    association, command = associate(
        role,
        *offered([group]),
        "--cookie",
        "no",
        groups=(group,),
        minimum_version=ProtocolVersion.DTLS_1_3,
    )
    connect(association, command)
    assert association.connection.group is group
    # What makes wolfSSL's ClientHello too long for one datagram, it sends only when it is asked for.
    unasked = role is Role.CLIENT or group not in HYBRID_GROUPS
    assert hello_retry_requests(association) == (0 if unasked else 1)
    assert_echoes(association)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("group", list(NamedGroup))
def test_each_group_after_a_retry(associate: Associate, role: Role, group: NamedGroup) -> None:
    other = NamedGroup.X25519 if group is not NamedGroup.X25519 else NamedGroup.SECP256R1
    client, server = (other, group), (group,)
    ours, theirs = (client, server) if role is Role.CLIENT else (server, client)
    association, command = associate(
        role,
        *offered(list(theirs)),
        "--cookie",
        "no",
        groups=ours,
        groups_to_share=ours[:1],
        minimum_version=ProtocolVersion.DTLS_1_3,
    )
    connect(association, command)
    assert association.connection.group is group
    assert hello_retry_requests(association) == 1
    assert_echoes(association)


@pytest.mark.parametrize("group", list(NamedGroup))
def test_the_cookie_that_wolfssl_asks_for(associate: Associate, group: NamedGroup) -> None:
    # A server that keeps nothing before the cookie takes a first ClientHello in one datagram only.
    small = NamedGroup.X25519 if group in HYBRID_GROUPS else group
    association, command = associate(
        Role.CLIENT,
        *offered([group]),
        groups=tuple(dict.fromkeys((small, group))),
        groups_to_share=(small,),
        minimum_version=ProtocolVersion.DTLS_1_3,
    )
    connect(association, command)
    assert association.connection.group is group
    assert hello_retry_requests(association) == 1
    assert_echoes(association)


@pytest.mark.parametrize(
    "theirs",
    [[NamedGroup.X25519], [NamedGroup.SECP384R1, NamedGroup.X25519], []],
    ids=["for the cookie alone", "for a share too", "of a client with its defaults"],
)
def test_the_cookie_that_our_listener_asks_for(associate: Associate, theirs: list[NamedGroup]) -> None:
    # By default wolfSSL prefers a hybrid group, whose share it first keeps to itself.
    ours = (NamedGroup.X25519MLKEM768, NamedGroup.X25519)
    flags = offered(theirs) if theirs else []
    association, command = associate(Role.SERVER, *flags, behind_cookie=True, groups=ours)
    connect(association, command)
    assert association.connection.version is ProtocolVersion.DTLS_1_3
    assert association.connection.group is NamedGroup.X25519
    assert_echoes(association)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("suite", CIPHER_SUITE_NAMES, ids=lambda suite: suite.name)
def test_each_cipher_suite(associate: Associate, role: Role, suite: CipherSuite) -> None:
    association, command = associate(
        role,
        "--cookie",
        "no",
        "--cipher-suites",
        CIPHER_SUITE_NAMES[suite],
        cipher_suites=(suite,),
        minimum_version=ProtocolVersion.DTLS_1_3,
    )
    connect(association, command)
    assert association.connection.cipher_suite is suite
    for length in (1, 100, 1100):
        assert_echoes(association, bytes(length))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("who", ["wolfSSL", "we"])
def test_whoever_speaks_no_1_3_gets_1_2(associate: Associate, role: Role, who: str) -> None:
    theirs = ["--version", "1.2"] if who == "wolfSSL" else []
    newest = ProtocolVersion.DTLS_1_3 if who == "wolfSSL" else ProtocolVersion.DTLS_1_2
    # One share, for the ClientHello to be whole: a server of 1.2 wants its cookie before it keeps anything.
    association, command = associate(
        role, *theirs, maximum_version=newest, groups_to_share=(NamedGroup.X25519,)
    )
    connect(association, command)
    assert association.connection.version is ProtocolVersion.DTLS_1_2
    assert_echoes(association)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("group", [NamedGroup.X25519, NamedGroup.X25519MLKEM768])
def test_small_datagrams_both_ways(associate: Associate, role: Role, group: NamedGroup) -> None:
    # wolfSSL's fragments leave 500 bytes of its MTU free, and it wants some more to itself.
    association, command = associate(
        role,
        *offered([group]),
        "--cookie",
        "no",
        "--mtu",
        "700",
        kind="rsa-4096",
        mtu=256,
        initial_retransmission_timeout=2.0,  # however long a signature takes
    )
    connect(association, command)
    assert max(map(len, association.datagrams_sent)) <= 256
    assert max(map(len, association.datagrams_received)) <= 700
    assert association.connection.activity["retransmissions"] == 0
    assert_echoes(association)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("from_us", [True, False], ids=["from us", "from them"])
@pytest.mark.parametrize("retry", [False, True], ids=["at once", "after a retry"])
def test_each_datagram_of_a_handshake_lost(
    associate: Associate, role: Role, from_us: bool, retry: bool
) -> None:
    group = NamedGroup.X25519MLKEM768
    client = [NamedGroup.X25519, group] if retry else [group]
    ours, theirs = (client, [group]) if role is Role.CLIENT else ([group], client)
    # wolfSSL sends a HelloRetryRequest again only if it keeps nothing but the cookie; else it acknowledges the
    # ClientHello that comes again, and waits for ever for the second one.
    cookie = "yes" if role is Role.CLIENT and retry else "no"

    def make(lost: int) -> tuple[UdpAssociation, Command]:
        side = "lose_sent" if from_us else "lose_received"
        return associate(
            role,
            *offered(theirs),
            "--cookie",
            cookie,
            groups=tuple(ours),
            groups_to_share=tuple(ours[:1]),
            minimum_version=ProtocolVersion.DTLS_1_3,
            initial_retransmission_timeout=0.2,
            **{side: lambda index: index == lost},
        )

    whole, command = make(-1)
    connect(whole, command)
    count = len(whole.datagrams_sent if from_us else whole.datagrams_received)
    assert count >= 2
    for lost in range(count):
        association, command = make(lost)
        connect(association, command)
        assert_echoes(association)
        assert hello_retry_requests(association) >= retry


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("who", ["wolfSSL", "we"])
def test_keys_are_updated(associate: Associate, role: Role, who: str) -> None:
    association, command = associate(role, "--cookie", "no")
    connect(association, command)
    activity = association.connection.activity
    for count in range(1, 6):  # past the epochs that two bits tell apart
        if who == "wolfSSL":
            command.write(b"update\n")
        else:
            association.connection.update_keys()
        association.run_until(functools.partial(lambda n: activity["key_updates_received"] == n, count))
        assert_echoes(association)
        assert activity["key_updates_sent"] == count
    assert not association.connection.counters, "something was dropped"


@pytest.mark.parametrize("role", ROLES)
def test_close_notify_from_us(associate: Associate, role: Role) -> None:
    association, command = associate(role, "--cookie", "no")
    connect(association, command)
    association.connection.close()
    association.run_until(lambda: bool(said(command, "closed")))


@pytest.mark.parametrize("role", ROLES)
def test_close_notify_from_wolfssl(associate: Associate, role: Role) -> None:
    association, command = associate(role, "--cookie", "no")
    connect(association, command)
    command.write(b"close\n")
    association.run_until(lambda: association.happened(ConnectionClosed))
