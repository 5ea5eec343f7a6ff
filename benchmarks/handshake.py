"""CPU time of a full handshake in memory: DTLS 1.2, and 1.3 without and with ML-KEM, beside OpenSSL's 1.2.

Both ends authenticate with ECDSA P-256, and negotiate AES-128-GCM and use_srtp. OpenSSL, through pyOpenSSL, has
no DTLS 1.3, so each version of ours stands beside its DTLS 1.2 with X25519. Each end has a clock of its own, on
from before it is made.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.backends.openssl import backend
from OpenSSL import SSL

from benchmarks import Comparison, CpuClock, Figures, Result
from mediapeer.dtls import (
    AcceptAnyPeer,
    CipherSuite,
    DtlsConfiguration,
    DtlsConnection,
    HandshakeCompleted,
    NamedGroup,
    ProtocolVersion,
    Role,
    SrtpProtectionProfile,
)
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS
from tests.tools.certificates import credentials
from tests.tools.pyopenssl import CIPHER_NAMES, OpenSslEnd, openssl_context

OPENSSL = f"pyOpenSSL, {backend.openssl_version_text()}, DTLS 1.2"
PAIRS = 15
SUITES = {
    ProtocolVersion.DTLS_1_2: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ProtocolVersion.DTLS_1_3: CipherSuite.TLS_AES_128_GCM_SHA256,
}

_HANDSHAKES = 40
_CLIENT, _SERVER, _BOTH = "CPU of the client", "CPU of the server", "CPU of both"
_PROFILE = SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM


@dataclass(frozen=True, slots=True)
class Clocks:
    """What each side has spent on its handshakes."""

    client: CpuClock = field(default_factory=CpuClock)
    server: CpuClock = field(default_factory=CpuClock)


@dataclass(frozen=True, slots=True)
class _Side:
    """One end in a conversation, with the clock that runs while it works."""

    clock: CpuClock
    receive: Callable[[bytes], None]
    datagrams_to_send: Callable[[], list[bytes]]


def _converse(sender: _Side, receiver: _Side) -> None:
    """Carry datagrams to and fro until one side has nothing to say."""
    while True:
        with sender.clock:
            datagrams = sender.datagrams_to_send()
        if not datagrams:
            return
        with receiver.clock:
            for datagram in datagrams:
                receiver.receive(datagram)
        sender, receiver = receiver, sender


def our_configuration(
    suite: CipherSuite, group: NamedGroup, *, end: str = "ours", mtu: int = 1200
) -> DtlsConfiguration:
    """A configuration that leaves nothing to choose: one version, one cipher suite, a share of one group.

    P-256 is there for the certificate alone, whose curve DTLS 1.2 has a peer announce (RFC 8422 §5.1).

    :param end: whose certificate it has.
    """
    version = CIPHER_SUITE_PARAMETERS[suite].version
    return DtlsConfiguration(
        verifier=AcceptAnyPeer(),
        credentials=(credentials(end=end),),
        minimum_version=version,
        maximum_version=version,
        cipher_suites=(suite,),
        groups=(group, NamedGroup.SECP256R1),
        groups_to_share=(group,),
        srtp_profiles=(_PROFILE,),
        mtu=mtu,
    )


def our_handshake(
    client_configuration: DtlsConfiguration,
    server_configuration: DtlsConfiguration,
    clocks: Clocks | None = None,
) -> tuple[DtlsConnection, DtlsConnection]:
    """One handshake of ours with ourselves.

    :returns: the client and the server, connected.
    :raises RuntimeError: when it does not end well, or not with the version, suite and group that come first.
    """
    clocks = clocks or Clocks()
    with clocks.client:
        client = DtlsConnection(client_configuration, Role.CLIENT, 0.0)
    with clocks.server:
        server = DtlsConnection(server_configuration, Role.SERVER, 0.0)
    _converse(
        *(
            _Side(clock, functools.partial(end.receive_datagram, now=0.0), end.datagrams_to_send)
            for clock, end in ((clocks.client, client), (clocks.server, server))
        )
    )
    for end, configuration in ((client, client_configuration), (server, server_configuration)):
        wanted = HandshakeCompleted(
            configuration.versions[0],
            configuration.cipher_suites[0],
            configuration.groups[0],
            _PROFILE,
            None,
        )
        if (event := end.next_event()) != wanted:
            raise RuntimeError(
                f"our handshake went wrong: {wanted} is to be measured, not {end.error or event}"
            )
    return client, server


def openssl_configuration(suite: CipherSuite, *, end: str = "ours") -> SSL.Context:
    """A context that leaves nothing to choose but the group, of which X25519 comes first.

    :param end: whose certificate it has.
    """
    return openssl_context(
        credentials(end=end),
        cipher_list=CIPHER_NAMES[suite].encode(),
        srtp_profiles=b"SRTP_AEAD_AES_128_GCM",
    )


def openssl_handshake(
    client_context: SSL.Context,
    server_context: SSL.Context,
    clocks: Clocks | None = None,
    *,
    suite: CipherSuite = SUITES[ProtocolVersion.DTLS_1_2],
    mtu: int = 1200,
) -> tuple[OpenSslEnd, OpenSslEnd]:
    """One handshake of OpenSSL's with itself.

    :param suite: what is to come of it.
    :returns: the client and the server, connected.
    :raises RuntimeError: when it does not end well, or not with DTLS 1.2, ``suite`` and X25519.
    """
    clocks = clocks or Clocks()
    with clocks.client:
        client = OpenSslEnd(client_context, Role.CLIENT, mtu=mtu)
    with clocks.server:
        server = OpenSslEnd(server_context, Role.SERVER, mtu=mtu)
    _converse(
        _Side(clocks.client, client.receive_datagram, client.datagrams_to_send),
        _Side(clocks.server, server.receive_datagram, server.datagrams_to_send),
    )
    wanted = ("DTLSv1.2", CIPHER_NAMES[suite], "x25519")
    for end in (client, server):
        ssl = end.ssl
        got = (ssl.get_protocol_version_name(), ssl.get_cipher_name(), ssl.get_group_name())
        if not end.handshake_completed or got != wanted:
            raise RuntimeError(
                f"OpenSSL's handshake went wrong: {wanted} is to be measured, not {end.error or got}"
            )
    return client, server


def _figures(handshake: Callable[[Clocks], object]) -> Figures:
    """The milliseconds of one handshake, from several."""
    clocks = Clocks()
    for _ in range(_HANDSHAKES):
        handshake(clocks)
    client, server = (1e3 * clock.seconds / _HANDSHAKES for clock in (clocks.client, clocks.server))
    return {_CLIENT: client, _SERVER: server, _BOTH: client + server}


def _openssl_figures() -> Figures:
    suite = SUITES[ProtocolVersion.DTLS_1_2]
    client, server = (openssl_configuration(suite, end=end) for end in ("ours", "theirs"))
    return _figures(functools.partial(openssl_handshake, client, server))


def _our_figures(version: ProtocolVersion, group: NamedGroup) -> Figures:
    client, server = (our_configuration(SUITES[version], group, end=end) for end in ("ours", "theirs"))
    return _figures(functools.partial(our_handshake, client, server))


def run() -> list[Result]:
    """Measure each version with X25519, and DTLS 1.3 with X25519MLKEM768 too."""

    def compare(
        version: ProtocolVersion, group: NamedGroup, targets: Callable[[Figures], Figures]
    ) -> list[Result]:
        return Comparison(
            case=f"{version.label}, {group.label}, mutual ECDSA P-256",
            unit="ms",
            ours=functools.partial(_our_figures, version, group),
            peer=_openssl_figures,
            peer_name=OPENSSL,
            targets=targets,
        ).results(PAIRS)

    return [
        *compare(
            ProtocolVersion.DTLS_1_2,
            NamedGroup.X25519,
            lambda peer: {_CLIENT: 1.0, _SERVER: 1.0, _BOTH: 2.0 * peer[_BOTH]},
        ),
        *compare(ProtocolVersion.DTLS_1_3, NamedGroup.X25519, lambda _: {_CLIENT: 1.0, _SERVER: 1.0}),
        *compare(ProtocolVersion.DTLS_1_3, NamedGroup.X25519MLKEM768, lambda _: {_CLIENT: 1.3, _SERVER: 1.3}),
    ]
