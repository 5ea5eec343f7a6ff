"""CPU time of a full DTLS 1.2 handshake in memory, both sides, beside OpenSSL through pyOpenSSL."""

from cryptography.hazmat.backends.openssl import backend

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
from tests.tools.pyopenssl import OpenSslEnd, openssl_context

_PAIRS = 15
_HANDSHAKES = 40


def our_handshake(client: DtlsConfiguration, server: DtlsConfiguration) -> None:
    """One handshake of ours with ourselves.

    :raises RuntimeError: when it does not end well, or not with what is measured.
    """
    ends = DtlsConnection(client, Role.CLIENT, 0.0), DtlsConnection(server, Role.SERVER, 0.0)
    sender, receiver = ends
    while datagrams := sender.datagrams_to_send():
        for datagram in datagrams:
            receiver.receive_datagram(datagram, 0.0)
        sender, receiver = receiver, sender
    for end in ends:
        if not isinstance(end.next_event(), HandshakeCompleted) or end.group is not NamedGroup.X25519:
            raise RuntimeError(f"our handshake went wrong: {end.error}")


def openssl_handshake(client_context: object, server_context: object) -> None:
    """One handshake of OpenSSL's with itself.

    :raises RuntimeError: when it does not end well, or not with what is measured.
    """
    ends = OpenSslEnd(client_context, Role.CLIENT), OpenSslEnd(server_context, Role.SERVER)
    sender, receiver = ends
    while datagrams := sender.datagrams_to_send():
        for datagram in datagrams:
            receiver.receive_datagram(datagram)
        sender, receiver = receiver, sender
    for end in ends:
        if not end.handshake_completed or end.ssl.get_group_name() != "x25519":
            raise RuntimeError(f"OpenSSL's handshake went wrong: {end.error}")


def run() -> list[Result]:
    """Measure mutual ECDSA P-256 authentication over X25519, with AES-128-GCM and use_srtp, on both."""
    client, server = (
        DtlsConfiguration(
            verifier=AcceptAnyPeer(),
            credentials=(credentials(end=end),),
            cipher_suites=(CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,),
            srtp_profiles=(SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,),
        )
        for end in ("ours", "theirs")
    )
    openssl_client, openssl_server = (
        openssl_context(
            credentials(end=end),
            cipher_list=b"ECDHE-ECDSA-AES128-GCM-SHA256",
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
