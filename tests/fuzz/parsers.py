"""Everything that parses: messages, extensions, records, fragments, ACKs, certificates, key shares, signatures.

An input begins with two bytes that name a parser, so that seeds stay good when parsers are added. The parsers of
messages and extensions are found by themselves: each class of the engine with ``parse(bytes)``, and each function
called ``parse_…`` or ``check_…`` that takes bytes.

What must hold: nothing but a :class:`PeerMisbehaved` comes out, and what parses is written again with the same bytes
wherever there is one way only to write it.
"""

import functools
import importlib
import inspect
import itertools
import pkgutil
import random
import typing
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import mediapeer.dtls
from mediapeer.dtls.codec import Reader
from mediapeer.dtls.cookies import CookieFactory
from mediapeer.dtls.credentials import PublicKey, public_key_of, verify
from mediapeer.dtls.errors import PeerMisbehaved
from mediapeer.dtls.key_exchange import answer_key_share, generate_key_share
from mediapeer.dtls.reassembly import (
    BLOCK_LENGTH,
    BLOCKS_AHEAD,
    HandshakeReassembler,
    handshake_header,
    parse_fragments,
)
from mediapeer.dtls.record import Record, serialize_record, split_datagram
from mediapeer.dtls.registry import ExtensionType, NamedGroup, SignatureScheme
from mediapeer.dtls.tickets import TicketKeys
from tests.dtls.support import credentials
from tests.fuzz.parser_seeds import examples
from tests.fuzz.target import require

MAXIMUM_LENGTH = 4096

Parser = Callable[[bytes], object]

#: What to give the parameters of a parser after the first; each value makes a parser of its own.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "length": (32,),
    "kind": (ExtensionType.EXTENDED_MASTER_SECRET,),
    "allow_secp224r1": (False,),
    "is_ephemeral": (False, True),
}
#: Parsers of which one value can be written in several ways: what they give is only parsed again and compared.
SEVERAL_FORMS = {
    "parse_server_name",  # names of other types are left out
    "Session",  # our own, whose flags are any number but 0
}
#: What may end in no extensions or in a block of none; it is written in the first way.
ENDS_IN_EXTENSIONS = {"ClientHello", "ServerHello", "parse_block"}
#: What leaves to others what follows it.
READ_FROM_THE_BEGINNING = {"EcdhParameters"}

_KEY_KINDS = ("ecdsa-p256", "ed25519", "rsa-2048")
_MESSAGE_SIZE = 1000


def key_of(name: str) -> bytes:
    """How an input names a parser."""
    return zlib.crc32(name.encode()).to_bytes(4, "big")[:2]


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    parsers = all_parsers()
    name = parsers_by_key().get(data[:2])
    if name is None:
        name = sorted(parsers)[int.from_bytes(data[:2], "big") % len(parsers)]
    try:
        parsers[name](data[2:])
    except PeerMisbehaved:
        return


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Give the same bytes to another parser, now and then."""
    if generator.random() < 0.9:
        return data
    return key_of(generator.choice(sorted(all_parsers()))) + data[2:]


# Those that are found


@functools.cache
def all_parsers() -> Mapping[str, Parser]:
    """Every parser by its name."""
    found = dict(_special())
    for module in _modules():
        found |= _parsers_in(module)
    return found


@functools.cache
def parsers_by_key() -> Mapping[bytes, str]:
    """The names by what an input calls them."""
    keys = {key_of(name): name for name in all_parsers()}
    require(len(keys) == len(all_parsers()), "two parsers have the same key: make keys longer")
    return keys


def _modules() -> Iterator[ModuleType]:
    for entry in pkgutil.iter_modules(mediapeer.dtls.__path__):
        yield importlib.import_module(f"mediapeer.dtls.{entry.name}")


def _parsers_in(module: ModuleType) -> dict[str, Parser]:
    found: dict[str, Parser] = {}
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(thing) and isinstance(vars(thing).get("parse"), classmethod):
            function, serialize = thing.parse, getattr(thing, "serialize", None)
        elif inspect.isfunction(thing) and name.startswith(("parse_", "check_", "load_")):
            writer = name.replace("parse_", "serialize_")
            function, serialize = thing, getattr(module, writer, None) if writer != name else None
        else:
            continue
        for suffix, parse in _bytes_takers(function):
            found[name + suffix] = functools.partial(_parse_and_serialize, name, parse, serialize)
    return found


def _bytes_takers(function: Callable[..., Any]) -> Iterator[tuple[str, Parser]]:
    """The function as one of bytes alone, once for each choice of its other arguments; never when it takes others."""
    first, *rest = inspect.signature(function).parameters.values()
    kind = typing.get_type_hints(function).get(first.name)
    if kind not in (bytes, Reader):
        return
    others = [p.name for p in rest if p.default is p.empty]
    for values in itertools.product(*(ARGUMENTS[name] for name in others)):
        call = functools.partial(function, **dict(zip(others, values, strict=True)))
        suffix = "".join(f", {name} is {value}" for name, value in zip(others, values, strict=True))
        yield suffix, call if kind is bytes else functools.partial(_read, call)


def _read(function: Callable[[Reader], object], data: bytes) -> object:
    return function(Reader(data))


def _parse_and_serialize(
    name: str, parse: Parser, serialize: Callable[[Any], bytes] | None, data: bytes
) -> None:
    if name == "parse_server_share":
        serialize = _splat(serialize)
    parsed = parse(data)
    if serialize is None or parsed is None:
        return
    written = serialize(parsed)
    require(parse(written) == parsed, f"{name}: {parsed!r} is written so that it reads differently")
    if name in SEVERAL_FORMS:
        return
    if name in ENDS_IN_EXTENSIONS and data == written + bytes(2):
        return
    if name in READ_FROM_THE_BEGINNING:
        data = data[: len(written)]
    require(written == data, f"{name}: {data.hex()} is written as {written.hex()}")


def _splat(serialize: Callable[..., bytes] | None) -> Callable[[Any], bytes] | None:
    return None if serialize is None else lambda parsed: serialize(*parsed)


# Those that need something said


def _special() -> dict[str, Parser]:
    found: dict[str, Parser] = {
        "datagram": _datagram,
        "fragments": _fragments,
        "reassembly": _reassembly,
        "certificate": _certificate,
        "ticket": _ticket,
        "cookie": _cookie,
    }
    for group in NamedGroup:
        found[f"share of {group.name}"] = functools.partial(_share, group)
    for kind in _KEY_KINDS:
        found[f"signature by {kind}"] = functools.partial(_signature, kind)
    return found


def _datagram(data: bytes) -> None:
    """Records are cut out of a datagram so that nothing between them is lost."""
    records, whole = split_datagram(data)
    written = b""
    for record in records:
        if isinstance(record, Record):
            numbers, version = record.epoch_and_sequence_number, record.version
            require(record.epoch << 48 | record.sequence_number == numbers, "a record's number falls apart")
            written += serialize_record(record.content_type, numbers, record.fragment, version)
        else:
            written += record.header + record.fragment
    require(data.startswith(written), "the records are not those of the datagram")
    require(whole == (written == data), "a remainder of the datagram is not told")


def _fragments(data: bytes) -> None:
    fragments = parse_fragments(data)
    require(fragments, "a handshake record without a fragment parses")
    written = b"".join(
        handshake_header(f.handshake_type, f.length, f.message_seq, f.offset, len(f.data)) + f.data
        for f in fragments
    )
    require(written == data, "the fragments are not those of the record")


def _reassembly(data: bytes) -> None:
    """Fragments come in records, each with an epoch and a length before it; messages are as the first bytes say."""
    reassembler = HandshakeReassembler(_MESSAGE_SIZE)
    first_said: dict[tuple[int, int], dict[int, int]] = {}
    reader = Reader(data)
    while reader.remaining:
        epoch = reader.uint8() % 3
        for fragment in parse_fragments(reader.vector(1)):
            if reassembler.add(epoch, fragment):
                said = first_said.setdefault((epoch, fragment.message_seq), {})
                for place, byte in enumerate(fragment.data, fragment.offset):
                    said.setdefault(place, byte)
        kept = reassembler.blocks * BLOCK_LENGTH
        require(
            kept <= _MESSAGE_SIZE + (BLOCKS_AHEAD + 1) * BLOCK_LENGTH, f"{kept} bytes are kept of fragments"
        )
        while (message := reassembler.next_message(epoch)) is not None:
            said = first_said.pop((epoch, message.message_seq), {})
            require(sorted(said) == list(range(len(message.body))), "a message has bytes that nobody sent")
            require(bytes(said[n] for n in sorted(said)) == message.body, "a message is not as it was sent")


def _certificate(data: bytes) -> None:
    public_key_of(data, allow_secp224r1=True)


def _ticket(data: bytes) -> None:
    require(_ticket_keys().open(data, 1.0) is None, "a ticket was forged")


@functools.cache
def _ticket_keys() -> TicketKeys:
    keys = TicketKeys()
    keys.add_key(bytes(16), bytes(32), 0.0)
    return keys


def _cookie(data: bytes) -> None:
    factory = CookieFactory(bytes(32), 60.0)
    require(factory.open(data, b"address", bytes(32), 1e9) is None, "a cookie was forged")


def _share(group: NamedGroup, data: bytes) -> None:
    """A share goes to either side of the exchange, by its first byte."""
    if data[:1] == b"\0":
        generate_key_share(group).exchange(data[1:])
    else:
        answer_key_share(group, data[1:])


@functools.cache
def _public_key(kind: str) -> PublicKey:
    return public_key_of(credentials(kind).chain[0], allow_secp224r1=False)


def _signature(kind: str, data: bytes) -> None:
    """A scheme by number, and a signature."""
    reader = Reader(data)
    schemes = list(SignatureScheme)
    scheme = schemes[reader.uint8() % len(schemes)]
    verify(_public_key(kind), scheme, reader.take(reader.remaining), b"what nobody has signed")
    require(False, "a signature was forged")


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""
    for number, (name, data) in enumerate(examples(all_parsers())):
        yield f"{name}-{number}", key_of(name) + data
