"""Somebody who floods the port of a call, in a process of his own and in a sandbox.

A stranger sends what he can from ports of his own. A forger, who may make raw packets, sends from the address of the
server's peer: junk, copies of what he hears on the wire, and the same with a bit changed.

``python -m tests.e2e.flooder --port 40000 --rate 5000 --seconds 10 [--peer-port 50000]`` prints how many he sent.
"""

import argparse
import itertools
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence

from mediapeer.dtls import AcceptAnyPeer, DtlsConfiguration, DtlsConnection, NamedGroup, ProtocolVersion, Role

LOOPBACK = "127.0.0.1"
SOCKETS = 16
"From so many ports at once a stranger sends."
TICK = 0.002
"Seconds between two bursts."
HEARING = 2.0
"Seconds that the forger listens to the peer before he begins."

_IP_HEADER = struct.Struct("!BBHHHBBH4s4s")
_UDP_HEADER = struct.Struct("!HHHH")
_ALL_PROTOCOLS = 3  # ETH_P_ALL
_ETHERNET_HEADER_LENGTH = 14


def client_hello(version: ProtocolVersion) -> bytes:
    """A ClientHello in one datagram."""
    configuration = DtlsConfiguration(
        verifier=AcceptAnyPeer(), maximum_version=version, groups_to_share=(NamedGroup.X25519,)
    )
    (datagram,) = DtlsConnection(configuration, Role.CLIENT, 0.0).datagrams_to_send()
    return datagram


def junk(seed: int = 1) -> list[bytes]:
    """What may be sent without hearing anything to a port that carries STUN, DTLS and SRTP (RFC 7983)."""
    dice = random.Random(seed)
    return [
        client_hello(ProtocolVersion.DTLS_1_2),
        client_hello(ProtocolVersion.DTLS_1_3),
        b"\x17\xfe\xfd\0\1" + bytes(6) + b"\0\x40" + dice.randbytes(64),  # a protected record of 1.2
        b"\x2f\0\0\0\x40" + dice.randbytes(64),  # and of 1.3
        b"\x15\xfe\xfd" + bytes(8) + b"\0\2\2\x28",  # a fatal alert
        b"\x80\x60" + dice.randbytes(1000),  # SRTP
        b"\x80\xc8" + dice.randbytes(60),  # SRTCP
        b"\0\1\0\0\x21\x12\xa4\x42" + dice.randbytes(12),  # a Binding request without credentials
        b"\1\1\0\0\x21\x12\xa4\x42" + dice.randbytes(12),  # an answer that nobody waits for
        b"\xff" + dice.randbytes(200),
    ]


def flood_as_stranger(port: int, rate: float, seconds: float) -> int:
    """Send junk from other ports; returns how many datagrams were sent."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
    try:
        for udp in sockets:
            udp.connect((LOOPBACK, port))
            udp.setblocking(False)
        turns = itertools.cycle(sockets)
        return _send(lambda data: next(turns).send(data), itertools.cycle(junk()), rate, seconds)
    finally:
        for udp in sockets:
            udp.close()


def flood_as_peer(port: int, peer_port: int, rate: float, seconds: float) -> int:
    """Send junk, and copies and forgeries of DTLS and SRTP, from the peer's address; returns how many in all."""
    heard = listen(peer_port, port)
    kinds = [junk()]
    for is_media in (False, True):
        copies = [datagram for datagram in heard if (datagram[0] >= 128) == is_media]
        forgeries = [datagram[:-1] + bytes([datagram[-1] ^ 1]) for datagram in copies]
        kinds += [kind for kind in (copies, forgeries) if kind]
    contents = (next(turn) for turn in itertools.cycle([itertools.cycle(kind) for kind in kinds]))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setblocking(False)
        return _send(
            lambda data: raw.sendto(ip_packet(data, peer_port, port), (LOOPBACK, 0)),
            contents,
            rate,
            seconds,
        )


def ip_packet(data: bytes, source_port: int, destination_port: int) -> bytes:
    """A UDP datagram on loopback with any source (RFC 791, RFC 768; the kernel fills in IP's checksum)."""
    length = _UDP_HEADER.size + len(data)
    udp = _UDP_HEADER.pack(source_port, destination_port, length, 0)
    here = socket.inet_aton(LOOPBACK)
    ip = _IP_HEADER.pack(0x45, 0, _IP_HEADER.size + length, 0, 0, 64, socket.IPPROTO_UDP, 0, here, here)
    return ip + udp + data


def listen(source_port: int, destination_port: int) -> list[bytes]:
    """What goes from one port to another on loopback, DTLS and SRTP alike."""
    heard: list[bytes] = []
    deadline = time.monotonic() + HEARING
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as wire:
        wire.bind(("lo", 0))
        while (left := deadline - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                packet = wire.recv(65_536)[_ETHERNET_HEADER_LENGTH:]
            except TimeoutError:
                break
            udp_at = 4 * (packet[0] & 15)
            source, destination, *_ = _UDP_HEADER.unpack_from(packet, udp_at)
            data = packet[udp_at + _UDP_HEADER.size :]
            if (source, destination) == (source_port, destination_port) and data[:1] > b"\3":
                heard.append(data)
    return heard


def _send(send: Callable[[bytes], object], contents: Iterator[bytes], rate: float, seconds: float) -> int:
    started, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        while sent < rate * elapsed and time.monotonic() - started < seconds:
            try:
                send(next(contents))
            except (BlockingIOError, ConnectionRefusedError):
                continue  # nobody listens, or there is no room: another one may go
            sent += 1
        time.sleep(TICK)
    return sent


def main(arguments: Sequence[str] | None = None) -> None:
    """Flood, and print how much it was."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.flooder", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peer-port", type=int, help="whose datagrams to forge")
    parser.add_argument("--rate", type=float, default=5000.0, help="datagrams a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    if options.peer_port is None:
        print(flood_as_stranger(options.port, options.rate, options.seconds))
    else:
        print(flood_as_peer(options.port, options.peer_port, options.rate, options.seconds))


if __name__ == "__main__":
    main()
