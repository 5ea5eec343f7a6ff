"""CPU time of a full DTLS 1.2 handshake in memory, both sides, beside OpenSSL through pyOpenSSL."""

from cryptography.hazmat.backends.openssl import backend
from OpenSSL import SSL

from benchmarks import Result, cpu_seconds, paired_medians
from mediapeer.dtls import (
    AcceptAnyPeer,
    CipherSuite,
    DtlsConfiguration,
    DtlsConnection,
    HandshakeCompleted,
    NamedGroup,
    Role,
    SrtpProtectionProfile,
)
from tests.tools.certificates import credentials
from tests.tools.pyopenssl import CIPHER_NAMES, OpenSslEnd, openssl_context

_SUITE = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
_PAIRS = 15
_HANDSHAKES = 40


def our_handshake(
    client_configuration: DtlsConfiguration, server_configuration: DtlsConfiguration
) -> tuple[DtlsConnection, DtlsConnection]:
    """One handshake of ours with ourselves.

    :returns: the client and the server, connected.
    :raises RuntimeError: when it does not end well, or not with X25519.
    """
    client = sender = DtlsConnection(client_configuration, Role.CLIENT, 0.0)
    server = receiver = DtlsConnection(server_configuration, Role.SERVER, 0.0)
    while datagrams := sender.datagrams_to_send():
        for datagram in datagrams:
            receiver.receive_datagram(datagram, 0.0)
        sender, receiver = receiver, sender
    for end in (client, server):
        if not isinstance(end.next_event(), HandshakeCompleted) or end.group is not NamedGroup.X25519:
            raise RuntimeError(f"our handshake went wrong: {end.error}")
    return client, server


def openssl_handshake(
    client_context: SSL.Context, server_context: SSL.Context, mtu: int = 1200
) -> tuple[OpenSslEnd, OpenSslEnd]:
    """One handshake of OpenSSL's with itself.

    :returns: the client and the server, connected.
    :raises RuntimeError: when it does not end well, or not with X25519.
    """
    client = sender = OpenSslEnd(client_context, Role.CLIENT, mtu=mtu)
    server = receiver = OpenSslEnd(server_context, Role.SERVER, mtu=mtu)
    while datagrams := sender.datagrams_to_send():
        for datagram in datagrams:
            receiver.receive_datagram(datagram)
        sender, receiver = receiver, sender
    for end in (client, server):
        if not end.handshake_completed or end.ssl.get_group_name() != "x25519":
            raise RuntimeError(f"OpenSSL's handshake went wrong: {end.error}")
    return client, server


def run() -> list[Result]:
    """Measure mutual ECDSA P-256 authentication over X25519, with AES-128-GCM and use_srtp, on both."""
    client, server = (
        DtlsConfiguration(
            verifier=AcceptAnyPeer(),
            credentials=(credentials(end=end),),
            cipher_suites=(_SUITE,),
            srtp_profiles=(SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,),
        )
        for end in ("ours", "theirs")
    )
    openssl_client, openssl_server = (
        openssl_context(
            credentials(end=end),
            cipher_list=CIPHER_NAMES[_SUITE].encode(),
            srtp_profiles=b"SRTP_AEAD_AES_128_GCM",
        )
        for end in ("ours", "theirs")
    )
    ours, peer = paired_medians(
        lambda: 1e3 * cpu_seconds(lambda: our_handshake(client, server), _HANDSHAKES),
        lambda: 1e3 * cpu_seconds(lambda: openssl_handshake(openssl_client, openssl_server), _HANDSHAKES),
        _PAIRS,
    )
    return [
        Result(
            case="mutual ECDSA P-256, X25519",
            metric="CPU of both sides",
            unit="ms",
            ours=ours,
            peer=peer,
            peer_name=f"pyOpenSSL, {backend.openssl_version_text()}",
            runs=_PAIRS,
        )
    ]
