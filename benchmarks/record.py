"""CPU time of one record of 1,200 bytes, protected and unprotected, in DTLS 1.2 and 1.3, beside OpenSSL's 1.2."""

import functools
from collections.abc import Callable

from OpenSSL import SSL

from benchmarks import Comparison, CpuClock, Figures, Result
from benchmarks.handshake import (
    OPENSSL,
    PAIRS,
    openssl_configuration,
    openssl_handshake,
    our_configuration,
    our_handshake,
)
from mediapeer.dtls import ApplicationData, CipherSuite, DtlsConnection, NamedGroup
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS
from tests.tools.pyopenssl import OpenSslEnd

_BATCH = 50
_BATCHES = 60
_DATA = bytes(1_200)
_MTU = 1_400
_TARGET = 4.0
_PROTECT, _UNPROTECT, _BOTH = "CPU of protect", "CPU of unprotect", "CPU of both"
#: Each of our suites, and OpenSSL's with the same AEAD.
_SUITES = {
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: (
        CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    ),
    CipherSuite.TLS_AES_128_GCM_SHA256: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384: CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}


def our_association(suite: CipherSuite) -> tuple[DtlsConnection, DtlsConnection]:
    """A client and a server of ours, connected."""
    configuration = our_configuration(suite, NamedGroup.X25519, mtu=_MTU)
    return our_handshake(configuration, configuration)


def openssl_association(suite: CipherSuite) -> tuple[OpenSslEnd, OpenSslEnd]:
    """A client and a server of OpenSSL's, connected."""
    context = openssl_configuration(suite)
    return openssl_handshake(context, context, suite=suite, mtu=_MTU)


def our_protect(sender: DtlsConnection) -> bytes:
    """A datagram with one record."""
    sender.send_application_data(_DATA)
    (datagram,) = sender.datagrams_to_send()
    return datagram


def our_unprotect(receiver: DtlsConnection, datagram: bytes) -> bytes:
    """What the record in a datagram carries.

    :raises RuntimeError: when nothing comes of it.
    """
    receiver.receive_datagram(datagram, 0.0)
    event = receiver.next_event()
    if not isinstance(event, ApplicationData):
        raise RuntimeError(f"our record was lost: {event}")
    return event.data


def openssl_protect(sender: SSL.Connection) -> bytes:
    """A datagram with one record, by the bare calls, with nothing of the tests' driver in the way."""
    sender.send(_DATA)
    return sender.bio_read(_MTU)


def openssl_unprotect(receiver: SSL.Connection, datagram: bytes) -> bytes:
    """What the record in a datagram carries."""
    receiver.bio_write(datagram)
    return receiver.recv(_MTU)


def _figures(protect: Callable[[], bytes], unprotect: Callable[[bytes], bytes]) -> Figures:
    """The microseconds of one record.

    :raises RuntimeError: when one does not arrive as it was sent.
    """
    protecting, unprotecting = CpuClock(), CpuClock()
    for _ in range(_BATCHES):
        with protecting:
            datagrams = [protect() for _ in range(_BATCH)]
        with unprotecting:
            arrived = [unprotect(datagram) for datagram in datagrams]
        if arrived != [_DATA] * _BATCH:
            raise RuntimeError("a record was lost")
    each_way = [1e6 * clock.seconds / (_BATCH * _BATCHES) for clock in (protecting, unprotecting)]
    return {_PROTECT: each_way[0], _UNPROTECT: each_way[1], _BOTH: sum(each_way)}


def run() -> list[Result]:
    """Measure each AEAD in each version."""
    results = []
    for suite, openssl_suite in _SUITES.items():
        parameters = CIPHER_SUITE_PARAMETERS[suite]
        our_sender, our_receiver = our_association(suite)
        sender, receiver = (end.ssl for end in openssl_association(openssl_suite))
        results += Comparison(
            case=f"{parameters.version.label}, {parameters.aead.value}, {len(_DATA)} B",
            unit="µs",
            ours=functools.partial(
                _figures,
                functools.partial(our_protect, our_sender),
                functools.partial(our_unprotect, our_receiver),
            ),
            peer=functools.partial(
                _figures,
                functools.partial(openssl_protect, sender),
                functools.partial(openssl_unprotect, receiver),
            ),
            peer_name=OPENSSL,
            targets=lambda _: {_PROTECT: _TARGET, _UNPROTECT: _TARGET},
        ).results(PAIRS)
    return results
