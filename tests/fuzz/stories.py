"""Seeds for `datagrams.py`: every operation in every meeting, at a place where it means something."""

from collections.abc import Iterator

from mediapeer.dtls import Role
from mediapeer.dtls.codec import vector
from mediapeer.dtls.messages13 import HELLO_RETRY_REQUEST_RANDOM, NewSessionTicket13
from mediapeer.dtls.registry import ContentType, ExtensionType, HandshakeType
from tests.fuzz import insider
from tests.fuzz.configurations import MEETINGS
from tests.fuzz.datagrams import number_of
from tests.fuzz.duel import other
from tests.fuzz.program import program
from tests.fuzz.recordings import Recording, recording

Steps = list[tuple[int, bytes]]

LONGEST_MESSAGE = 400
"What is longer is in the seeds as a recorded datagram only."
_DATA, _ALERT = bytes([255, ContentType.APPLICATION_DATA]), bytes([255, ContentType.ALERT])
_FORGED = bytes([0x2E, 0, 1, 0, 32]) + bytes(32)
_FATAL_ALERT = bytes([ContentType.ALERT, 0, 7, 2, 40])


def programs(victim: Role) -> Iterator[tuple[str, bytes]]:
    """Their names and bytes."""
    known: set[bytes] = set()
    for setting in range(len(MEETINGS)):
        record = recording(setting)
        stories = [*_STORIES.items(), *_bodies(record, known), *_recorded(record, victim)]
        for name, steps in stories:
            yield f"{setting}-{name}", program(setting, steps)
    for kind in HandshakeType:
        bits = [tamper(kind, 0, 0, bytes([0, 5, 1])), tamper(kind, 1, 0, bytes([0, 9, 1]))]
        for setting in (0, 1):
            yield f"{setting}-message-{kind}", program(setting, [*bits, do("pump")])


def do(operation: str, argument: bytes = b"") -> tuple[int, bytes]:
    """One step."""
    return number_of(operation), argument


def tamper(handshake_type: int, occurrence: int, kind: int, parameters: bytes) -> tuple[int, bytes]:
    """Change a message of the peer."""
    return do("tamper", bytes([handshake_type, occurrence, kind]) + parameters)


def _bodies(record: Recording, known: set[bytes]) -> Iterator[tuple[str, Steps]]:
    """Each message that is not the same as one before, in whole for the fuzzer to change."""
    for kind, body in dict(record.messages).items():
        if len(body) <= LONGEST_MESSAGE and body not in known:
            known.add(body)
            yield f"body-{kind}", [tamper(kind, 0, insider.REPLACE, body), do("pump")]


def _recorded(record: Recording, victim: Role) -> Iterator[tuple[str, Steps]]:
    """What the peer said in another handshake."""
    yield "recorded", [*(do("raw", d) for d in record.datagrams[other(victim)][:1]), do("pump")]


_STORIES: dict[str, Steps] = {
    "life": [
        do("pump"),
        do("send", b"\0from the victim"),
        do("send", b"\1to the victim"),
        do("pump"),
        do("update_keys", b"\0\1"),
        do("pump"),
        do("update_keys", b"\1\1"),
        do("pump"),
        do("send", b"\1again"),
        do("replay", b"\0\1\2"),
        do("close", b"\1"),
        do("pump"),
    ],
    "path": [
        do("deliver", b"\0\0"),
        do("deliver", b"\1\0"),
        do("drop", b"\0\0"),
        do("postpone", b"\1\0"),
        do("duplicate", b"\0\1"),
        do("join", b"\0"),
        do("time_out", b"\0"),
        do("change", b"\0\0\1\0\x0b\1\0\x20\xff"),
        do("cut", b"\0\0\0\x40\0"),
        do("advance", b"\1\0"),
        do("cut", b"\1\0\0\x20\1"),
        do("pump", b"\5"),
        do("time_out", b"\1"),
    ],
    "data overtakes the handshake": [
        *[do("deliver", b"\0\0"), do("deliver", b"\1\0"), do("send", b"\1early"), do("deliver", b"\0\xff")]
        * 6,
        do("pump"),
    ],
    "stranger": [
        do("pump", b"\1"),
        do("plain_record", _FATAL_ALERT),
        do("plain_record", b"\x14\0\0\1"),
        do("plain_fragment", b"\0\1\x0b\2\0\0\x40\0\0\x20" + bytes(32)),
        do("plain_ack", b"\0\0\1\0\0\2"),
        do("raw", _FORGED),
        do("pump"),
        do("plain_record", _FATAL_ALERT),
    ],
    "key holder": [
        do("pump"),
        do("seal", _DATA + b"data"),
        do("seal", _DATA),
        do("skip", b"\xff\1\0\2"),
        do("seal", _DATA + b"later"),
        do("seal_message", b"\xff\x18\0\1"),
        do("seal_fragment", b"\xff\x18\2\0\0\1\0\0\0"),
        do("seal_ack", b"\xff\3\0\0\3\0\1"),
        do("seal_message", b"\xff\0\0"),
        do("seal", _ALERT + b"\1\x5a"),
        do("seal", _ALERT + b"\1\0"),
    ],
    "flood": [
        do("large", b"\0\x16\xff\xff"),
        do("large", b"\0\x17\x40\0"),
        do("plain_fragment", b"\0\1\x0b\3\0\x40\0\0\0\x20" + bytes(64)),
        do("repeat", b"\x08"),
        do("raw", _FORGED),
        do("repeat", b"\x20"),
        do("pump"),
        do("send", b"\1" + bytes(100)),
        do("repeat", b"\x10"),
        do("large", b"\xff\x17\x41\0"),
    ],
    "early data": [
        do("deliver", b"\0\0"),
        do("deliver", b"\1\0"),
        do("deliver", b"\0\0"),
        do("seal", b"\xff\x17early"),
        do("repeat", b"\x18"),
        do("pump"),
    ],
    "retry": [
        do("plain_fragment", b"\0\0\3\2\0\0\7\0\0\0\xfe\xff\4\1\2\3\4"),
        do(
            "plain_fragment",
            b"\0\0\2\2\0\0\x38\0\0\0\xfe\xfd" + HELLO_RETRY_REQUEST_RANDOM + b"\0\x13\1\0"
            b"\0\x10\0\x2b\0\2\xfe\xfc\0\x2c\0\6\0\4\1\2\3\4",
        ),
        do("pump"),
    ],
    "ticket": [
        do("pump"),
        do(
            "seal_message",
            bytes([255, HandshakeType.NEW_SESSION_TICKET, 0])
            + NewSessionTicket13(7200, 0, b"n", b"ticket").serialize(),
        ),
        do("pump"),
    ],
    "edits": [
        *(tamper(kind, 0, kind % 12, b"\0\x2b\0\2") for kind in (1, 2, 8, 11, 13)),
        do("pump"),
    ],
    "unproven": [tamper(HandshakeType.CERTIFICATE_VERIFY, 0, insider.LEAVE_OUT, b""), do("pump")],
    "shares": [
        tamper(HandshakeType.SERVER_KEY_EXCHANGE, 0, insider.SIGN_AGAIN, b"\0\0" + bytes(32)),
        tamper(HandshakeType.CLIENT_KEY_EXCHANGE, 0, insider.REPLACE, vector(bytes(32), 1)),
        do("pump"),
    ],
    "extensions": [
        *(
            tamper(hello, 0, insider.SET_EXTENSION, kind.to_bytes(2, "big") + body)
            for hello, kind, body in (
                (HandshakeType.CLIENT_HELLO, ExtensionType.COOKIE, vector(b"cookie", 2)),
                (HandshakeType.SERVER_HELLO, ExtensionType.KEY_SHARE, b"\0\x1d" + vector(bytes(32), 2)),
                (HandshakeType.ENCRYPTED_EXTENSIONS, ExtensionType.SERVER_NAME, b""),
            )
        ),
        do("pump"),
    ],
}
