"""CPU time of one record of 1,200 bytes, protected and unprotected, beside OpenSSL through pyOpenSSL."""

import functools

from cryptography.hazmat.backends.openssl import backend

from benchmarks import Result, cpu_seconds, paired_medians
from benchmarks.handshake import openssl_handshake, our_handshake
from mediapeer.dtls import AcceptAnyPeer, ApplicationData, CipherSuite, DtlsConfiguration, DtlsConnection
from tests.tools.certificates import credentials
from tests.tools.pyopenssl import CIPHER_NAMES, OpenSslEnd, openssl_context

_PAIRS = 15
_RECORDS = 3_000
_DATA = bytes(1_200)
_MTU = 1_400
_SUITES = {
    "AES-128-GCM": CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    "AES-256-GCM": CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    "ChaCha20-Poly1305": CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}


def our_association(suite: CipherSuite) -> tuple[DtlsConnection, DtlsConnection]:
    """A client and a server of ours, connected."""
    configuration = DtlsConfiguration(
        verifier=AcceptAnyPeer(), credentials=(credentials(),), cipher_suites=(suite,), mtu=_MTU
    )
    return our_handshake(configuration, configuration)


def openssl_association(suite: CipherSuite) -> tuple[OpenSslEnd, OpenSslEnd]:
    """A client and a server of OpenSSL's, connected."""
    context = openssl_context(credentials(), cipher_list=CIPHER_NAMES[suite].encode())
    return openssl_handshake(context, context, _MTU)


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
    for name, suite in _SUITES.items():
        our_work = functools.partial(our_record, *our_association(suite))
        openssl_work = functools.partial(openssl_record, *openssl_association(suite))
        ours, peer = paired_medians(
            functools.partial(cpu_seconds, our_work, _RECORDS),
            functools.partial(cpu_seconds, openssl_work, _RECORDS),
            _PAIRS,
        )
        results.append(
            Result(
                case=f"{name}, {len(_DATA)} B",
                metric="CPU of protect and unprotect",
                unit="µs",
                ours=1e6 * ours,
                peer=1e6 * peer,
                peer_name=f"pyOpenSSL, {backend.openssl_version_text()}",
                runs=_PAIRS,
            )
        )
    return results
