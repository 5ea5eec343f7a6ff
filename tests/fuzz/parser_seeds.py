"""For each parser some of what it takes, out of all that was said in real handshakes."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from mediapeer.dtls import DtlsError
from mediapeer.dtls.codec import vector
from mediapeer.dtls.cookies import CookieFactory
from mediapeer.dtls.key_exchange import answer_key_share, generate_key_share
from mediapeer.dtls.messages13 import RecordNumber, serialize_ack
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import Record, split_datagram
from mediapeer.dtls.registry import ContentType, HandshakeType, NamedGroup
from tests.fuzz.configurations import MEETINGS
from tests.fuzz.determinism import credentials, repeatable
from tests.fuzz.insider import WITH_EXTENSIONS
from tests.fuzz.recordings import recording

SEEDS_PER_PARSER = 2


def examples(parsers: Mapping[str, Callable[[bytes], object]]) -> Iterator[tuple[str, bytes]]:
    """Names of parsers, and bytes for them."""
    pool = list(dict.fromkeys(_byte_strings()))
    special = _special_seeds()
    for name, parse in sorted(parsers.items()):
        chosen = special.get(name)
        if chosen is None:
            chosen = sorted((data for data in pool if _takes(parse, data)), key=len)[-SEEDS_PER_PARSER:]
        for data in chosen or [b""]:
            yield name, data


def _takes(parse: Callable[[bytes], object], data: bytes) -> bool:
    try:
        parse(data)
    except DtlsError:
        return False
    return True


def _byte_strings() -> Iterator[bytes]:
    """Messages, and what extensions say."""
    yield serialize_ack((RecordNumber(0, 1), RecordNumber(2, 3)))
    yield b"\x00"
    yield b"\x01"
    yield (7200).to_bytes(4, "big") + bytes(4) + vector(b"n", 1) + vector(b"ticket", 2) + vector(b"", 2)
    for number in range(len(MEETINGS)):
        for kind, body in recording(number).messages:
            yield body
            yield from _extensions(kind, body)


def _extensions(kind: int, body: bytes) -> Iterator[bytes]:
    for cls in WITH_EXTENSIONS.get(kind, ()):
        try:
            parsed = cls.parse(body)
        except DtlsError:
            continue
        yield from getattr(parsed, "extensions", {}).values()


def _special_seeds() -> dict[str, list[bytes]]:
    hello = next(body for kind, body in recording(0).messages if kind == HandshakeType.CLIENT_HELLO)
    datagrams = [d for n in range(5) for sent in recording(n).datagrams.values() for d in sent[:2]]
    fragments = [
        record.fragment
        for datagram in datagrams
        for record in split_datagram(datagram)[0]
        if isinstance(record, Record) and record.content_type == ContentType.HANDSHAKE
    ]
    cookie = CookieFactory(b"another secret".ljust(32), 60.0).make(b"address", bytes(32), 1.0, b"contents")
    seeds = {
        "datagram": datagrams[:4],
        "fragments": sorted(fragments, key=len)[-2:],
        "reassembly": [_pieces(hello[:100], 3), _pieces(bytes(90), 1)],
        "certificate": [credentials(kind).chain[0] for kind in ("ed25519", "ecdsa-p256", "ecdsa-p384")],
        "cookie": [cookie],
    }
    for kind, size in (("ecdsa-p256", 70), ("ed25519", 64), ("rsa-2048", 256)):
        seeds[f"signature by {kind}"] = [bytes([n]) + bytes(size) for n in (0, 3, 6, 9)]
    for group, shares in _shares().items():
        seeds[f"share of {group.name}"] = [b"\0" + shares[0], b"\1" + shares[-1]]
    return seeds


def _shares() -> dict[NamedGroup, list[bytes]]:
    shares = defaultdict(list)
    with repeatable(random.Random(2)):
        for group in NamedGroup:
            public = generate_key_share(group).public
            shares[group] = [answer_key_share(group, public)[0], public]
    return dict(shares)


def _pieces(body: bytes, count: int) -> bytes:
    """A message in so many pieces, the last one first."""
    size = -(-len(body) // count)
    pieces = []
    for offset in reversed(range(0, len(body), size)):
        piece = body[offset : offset + size]
        header = handshake_header(HandshakeType.CLIENT_HELLO, len(body), 0, offset, len(piece))
        pieces.append(b"\0" + vector(header + piece, 1))
    return b"".join(pieces)
