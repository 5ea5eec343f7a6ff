"""CPU time of one record of 1,200 bytes, protected and unprotected, beside OpenSSL through pyOpenSSL."""

from cryptography.hazmat.backends.openssl import backend

from benchmarks import Result, cpu_seconds, paired_medians
from mediapeer.dtls import (
    AcceptAnyPeer,
    ApplicationData,
    CipherSuite,
    DtlsConfiguration,
    DtlsConnection,
    Role,
)
from tests.tools.certificates import credentials
from tests.tools.pyopenssl import OpenSslEnd, openssl_context

_PAIRS = 15
_RECORDS = 3_000
_DATA = bytes(1_200)
_MTU = 1_400

_SUITES = {
    "AES-128-GCM": (CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, b"ECDHE-ECDSA-AES128-GCM-SHA256"),
    "AES-256-GCM": (CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, b"ECDHE-ECDSA-AES256-GCM-SHA384"),
    "ChaCha20-Poly1305": (
        CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
}


def our_association(suite: CipherSuite) -> tuple[DtlsConnection, DtlsConnection]:
    """A client and a server of ours, connected."""
    configuration = DtlsConfiguration(
        verifier=AcceptAnyPeer(), credentials=(credentials(),), cipher_suites=(suite,), mtu=_MTU
    )
    client, server = (DtlsConnection(configuration, role, 0.0) for role in (Role.CLIENT, Role.SERVER))
    sender, receiver = client, server
    while datagrams := sender.datagrams_to_send():
        for datagram in datagrams:
            receiver.receive_datagram(datagram, 0.0)
        sender, receiver = receiver, sender
    client.next_event()
    server.next_event()
    return client, server


def openssl_association(cipher_list: bytes) -> tuple[OpenSslEnd, OpenSslEnd]:
    """A client and a server of OpenSSL's, connected."""
    context = openssl_context(credentials(), cipher_list=cipher_list)
    client, server = (OpenSslEnd(context, role, mtu=_MTU) for role in (Role.CLIENT, Role.SERVER))
    sender, receiver = client, server
    while datagrams := sender.datagrams_to_send():
        for datagram in datagrams:
            receiver.receive_datagram(datagram)
        sender, receiver = receiver, sender
    return client, server


def our_record(sender: DtlsConnection, receiver: DtlsConnection) -> None:
    """Carry one record across.

    :raises RuntimeError: when it does not arrive.
    """
    sender.send_application_data(_DATA)
    for datagram in sender.datagrams_to_send():
        receiver.receive_datagram(datagram, 0.0)
    event = receiver.next_event()
    if not isinstance(event, ApplicationData) or event.data != _DATA:
        raise RuntimeError("our record was lost")


def openssl_record(sender: OpenSslEnd, receiver: OpenSslEnd) -> None:
    """Carry one record across, by the bare calls, with nothing of the tests' driver in the way.

    :raises RuntimeError: when it does not arrive.
    """
    sender.ssl.send(_DATA)
    receiver.ssl.bio_write(sender.ssl.bio_read(_MTU))
    if receiver.ssl.recv(_MTU) != _DATA:
        raise RuntimeError("OpenSSL's record was lost")


def run() -> list[Result]:
    """Measure each AEAD."""
    results = []
    for name, (suite, cipher_list) in _SUITES.items():
        our_ends, openssl_ends = our_association(suite), openssl_association(cipher_list)
        ours, peer = paired_medians(
            lambda ends=our_ends: 1e6 * cpu_seconds(lambda: our_record(*ends), _RECORDS),
            lambda ends=openssl_ends: 1e6 * cpu_seconds(lambda: openssl_record(*ends), _RECORDS),
            _PAIRS,
        )
        results.append(
            Result(
                case=f"{name}, {len(_DATA)} B",
                metric="CPU of protect and unprotect",
                unit="µs",
                ours=ours,
                peer=peer,
                peer_name=f"pyOpenSSL, {backend.openssl_version_text()}",
                runs=_PAIRS,
            )
        )
    return results
