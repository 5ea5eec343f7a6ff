"""CPU time of each datagram of a flood: junk, replays, forgeries and ClientHellos, beside OpenSSL's 1.2.

A million divided by the microseconds is how many a second one core deals with. Datagrams have 1,200 bytes, and come
to an established connection from where its peer's do; what is measured stays established, delivers nothing of them,
and takes the peer's next record. Only the ClientHellos without a cookie come to a server that knows nobody.
"""

import functools
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator

from OpenSSL import SSL

from benchmarks import Comparison, CpuClock, Figures, Result
from benchmarks.handshake import OPENSSL, SUITES, our_configuration
from benchmarks.record import openssl_association, our_association, our_protect, our_unprotect
from mediapeer.dtls import DtlsConnection, NamedGroup, ProtocolVersion, Role, StatelessListener
from tests.tools.certificates import credentials
from tests.tools.pyopenssl import CIPHER_NAMES, OpenSslEnd, openssl_context

_PAIRS = 9
_DATAGRAMS = 3_000
_LENGTH = 1_200
_METRIC = "CPU of a datagram"
_TARGET = 10.0
_TARGETS = {"many forgeries in each": 60.0}
_TARGET_OF_HELLOS = 100.0
_ADDRESS = b"192.0.2.1:5000"

#: Makes the datagrams of a flood out of genuine ones.
Flood = Callable[[Iterator[bytes]], Iterable[bytes]]


def junk(genuine: Iterator[bytes]) -> Iterable[bytes]:
    """What begins like DTLS, so that a demultiplexer lets it through, and is nothing (RFC 7983)."""
    return (bytes([20 + number % 44]) + secrets.token_bytes(_LENGTH - 1) for number in range(_DATAGRAMS))


def replays(genuine: Iterator[bytes]) -> Iterable[bytes]:
    """One record again and again; the first has been taken already."""
    return itertools.repeat(next(genuine), _DATAGRAMS)


def forgeries(genuine: Iterator[bytes]) -> Iterable[bytes]:
    """Records with numbers that are due, which nobody with keys has sealed."""
    for datagram in itertools.islice(genuine, _DATAGRAMS):
        yield datagram[:-1] + bytes([datagram[-1] ^ 1])


def crumbs(genuine: Iterator[bytes]) -> Iterable[bytes]:
    """As many forgeries as a datagram holds, each as short as one can be that is tried: the dearest there are."""
    is_13 = next(genuine)[0] >> 5 == 1
    header = b"\x2f\0\0\0\x10" if is_13 else b"\x17\xfe\xfd\0\1\1\0\0\0\0\0\0\x18"
    record = header + bytes(16 if is_13 else 24)
    return itertools.repeat(record * (_LENGTH // len(record)), _DATAGRAMS // 10)


def hellos(genuine: Iterator[bytes]) -> Iterable[bytes]:
    """A ClientHello without protection, of somebody who would begin anew."""
    return itertools.repeat(first_hello(ProtocolVersion.DTLS_1_2).ljust(_LENGTH, b"\0"), _DATAGRAMS)


FLOODS: dict[str, Flood] = {
    "junk": junk,
    "replays": replays,
    "forgeries": forgeries,
    "many forgeries in each": crumbs,
    "ClientHellos": hellos,
}


def first_hello(version: ProtocolVersion) -> bytes:
    """The ClientHello of a client of ours, in one datagram."""
    configuration = our_configuration(SUITES[version], NamedGroup.X25519)
    (hello,) = DtlsConnection(configuration, Role.CLIENT, 0.0).datagrams_to_send()
    return hello


def our_flood(version: ProtocolVersion, flood: Flood) -> Figures:
    """The microseconds of each datagram of a flood, for a connection of ours.

    :raises RuntimeError: when it makes a difference to the connection.
    """
    sender, receiver = our_association(SUITES[version])
    genuine = iter(functools.partial(our_protect, sender), b"")
    our_unprotect(receiver, our_protect(sender))
    datagrams = list(flood(_with_the_first_taken(genuine, functools.partial(our_unprotect, receiver))))
    clock = CpuClock()
    with clock:
        for datagram in datagrams:
            receiver.receive_datagram(datagram, 0.0)
    if receiver.next_event() is not None or receiver.datagrams_to_send():
        raise RuntimeError("the flood made a difference")
    our_unprotect(receiver, our_protect(sender))
    return {_METRIC: 1e6 * clock.seconds / len(datagrams)}


def openssl_flood(flood: Flood) -> Figures:
    """The same for a connection of OpenSSL's.

    :raises RuntimeError: when it makes a difference to the connection.
    """
    sender, receiver = openssl_association(SUITES[ProtocolVersion.DTLS_1_2])
    take = functools.partial(_openssl_take, receiver)
    genuine = iter(functools.partial(_openssl_protect, sender), b"")
    take(_openssl_protect(sender))
    datagrams = list(flood(_with_the_first_taken(genuine, take)))
    before = len(receiver.received)
    clock = CpuClock()
    with clock:
        for datagram in datagrams:
            receiver.receive_datagram(datagram)
    if len(receiver.received) != before or receiver.error is not None:
        raise RuntimeError(f"the flood made a difference: {receiver.error}")
    take(_openssl_protect(sender))
    return {_METRIC: 1e6 * clock.seconds / len(datagrams)}


def _with_the_first_taken(genuine: Iterator[bytes], take: Callable[[bytes], object]) -> Iterator[bytes]:
    """Genuine datagrams, the first of which the receiver has had."""
    first = next(genuine)
    take(first)
    yield first
    yield from genuine


def _openssl_protect(sender: OpenSslEnd) -> bytes:
    sender.send(bytes(_LENGTH))
    (datagram,) = sender.datagrams_to_send()
    return datagram


def _openssl_take(receiver: OpenSslEnd, datagram: bytes) -> None:
    before = len(receiver.received)
    receiver.receive_datagram(datagram)
    if len(receiver.received) != before + 1:
        raise RuntimeError("a genuine record was lost")


def our_strangers(version: ProtocolVersion) -> Figures:
    """The microseconds of each ClientHello without a cookie, for a listener of ours."""
    configuration = our_configuration(SUITES[version], NamedGroup.X25519)
    listener, hello = StatelessListener(configuration, secrets.token_bytes(32)), first_hello(version)
    clock = CpuClock()
    with clock:
        answers = [listener.receive_datagram(hello, _ADDRESS, 0.0) for _ in range(_DATAGRAMS)]
    if not all(isinstance(answer, bytes) for answer in answers):
        raise RuntimeError("a ClientHello was not asked for its cookie")
    return {_METRIC: 1e6 * clock.seconds / _DATAGRAMS}


def openssl_strangers() -> Figures:
    """The same for OpenSSL, which needs an object for each."""
    suite = SUITES[ProtocolVersion.DTLS_1_2]
    context = openssl_context(credentials(), cipher_list=CIPHER_NAMES[suite].encode())
    context.set_options(SSL.OP_COOKIE_EXCHANGE or 0)
    context.set_cookie_generate_callback(lambda connection: bytes(16))
    context.set_cookie_verify_callback(lambda connection, cookie: cookie == bytes(16))
    hello = first_hello(ProtocolVersion.DTLS_1_2)
    clock, answers = CpuClock(), []
    with clock:
        for _ in range(_DATAGRAMS):
            server = OpenSslEnd(context, Role.SERVER)
            server.receive_datagram(hello)
            answers.append(server.datagrams_to_send())
    if not all(len(datagrams) == 1 and len(datagrams[0]) < 100 for datagrams in answers):
        raise RuntimeError("a ClientHello was not asked for its cookie")
    return {_METRIC: 1e6 * clock.seconds / _DATAGRAMS}


def _target(flood: str, peer: Figures) -> Figures:
    return {_METRIC: _TARGETS.get(flood, _TARGET)}


def run() -> list[Result]:
    """Measure each flood in both versions."""
    results = []
    for version, (name, flood) in itertools.product(SUITES, FLOODS.items()):
        results += Comparison(
            case=f"{version.label}, {name}",
            unit="µs",
            ours=functools.partial(our_flood, version, flood),
            peer=functools.partial(openssl_flood, flood),
            peer_name=OPENSSL,
            targets=functools.partial(_target, name),
        ).results(_PAIRS)
    for version in SUITES:
        results += Comparison(
            case=f"{version.label}, ClientHellos without a cookie",
            unit="µs",
            ours=functools.partial(our_strangers, version),
            peer=openssl_strangers,
            peer_name=OPENSSL,
            targets=lambda _: {_METRIC: _TARGET_OF_HELLOS},
        ).results(_PAIRS)
    return results
