"""An end that misbehaves and holds the right keys: what a peer can do to us that a stranger cannot.

It is an end of our own engine whose handshake messages are changed before they enter its transcript, so that both
ends still agree on it, and whose keys seal whatever they are given. All that is known here of the engine's inside is
in this module.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from mediapeer.dtls import DtlsConnection, DtlsError, Role
from mediapeer.dtls.credentials import sign
from mediapeer.dtls.epochs import WriteEpoch
from mediapeer.dtls.handshake import Handshake
from mediapeer.dtls.messages import ClientHello, ServerHello, ServerKeyExchange
from mediapeer.dtls.messages13 import (
    Certificate13,
    CertificateEntry,
    CertificateRequest13,
    EncryptedExtensions,
)
from mediapeer.dtls.psk_offer import with_binders
from mediapeer.dtls.registry import HandshakeType, SignatureScheme
from mediapeer.dtls.transcript13 import Transcript
from tests.fuzz.program import Argument

WITH_EXTENSIONS: dict[int, tuple[Any, ...]] = {
    HandshakeType.CLIENT_HELLO: (ClientHello,),
    HandshakeType.SERVER_HELLO: (ServerHello,),
    HandshakeType.ENCRYPTED_EXTENSIONS: (EncryptedExtensions,),
    HandshakeType.CERTIFICATE_REQUEST: (CertificateRequest13,),
    HandshakeType.CERTIFICATE: (Certificate13,),
}


@dataclasses.dataclass(frozen=True, slots=True)
class RawMessage:
    """A handshake message that may not be one."""

    handshake_type: int
    body: bytes

    def serialize(self) -> bytes:
        """The body."""
        return self.body


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """What to do with one message: which type, which of that type, what, and how."""

    handshake_type: int
    occurrence: int
    kind: int
    parameters: bytes

    @classmethod
    def parse(cls, argument: bytes) -> "Edit":
        """An edit as it stands in a program."""
        reader = Argument(argument)
        return cls(reader.uint8(), reader.uint8() % 4, reader.uint8(), reader.rest())

    def apply(self, message: RawMessage, handshake: Any) -> list[RawMessage]:
        """What ``handshake`` sends in the place of ``message``."""
        reader = Argument(self.parameters)
        body, kind = message.body, message.handshake_type
        match self.kind % EDIT_KINDS:
            case 0:
                changed = bytearray(body)
                for place, value in _pairs(reader.rest()):
                    if changed:
                        changed[place % len(changed)] ^= value
                return [RawMessage(kind, bytes(changed))]
            case 1:
                place = reader.uint16() % (len(body) + 1)
                return [RawMessage(kind, body[:place] + reader.rest() + body[place:])]
            case 2:
                place, length = reader.uint16() % (len(body) + 1), reader.uint8()
                return [RawMessage(kind, body[:place] + body[place + length :])]
            case 3:
                return [RawMessage(kind, reader.rest())]
            case 4:
                return []
            case 5:
                return [message, message]
            case 6:
                return [RawMessage(reader.uint8(), body)]
            case 7:
                extension_type, extension = reader.uint16(), reader.rest()
                return [_with_extensions(message, lambda block: {**block, extension_type: extension})]
            case 8:
                gone = reader.uint8()
                return [_with_extensions(message, lambda block: _without(block, gone))]
            case 9:
                return [_with_extensions(message, lambda block: dict(reversed(block.items())))]
            case 10:
                return [RawMessage(reader.uint8(), reader.rest()), message]
            case 11:
                return [RawMessage(kind, _signed(handshake, message, reader.rest()))]
            case _:
                return [RawMessage(kind, _bound(handshake, message))]


EDIT_KINDS = 13
REPLACE, LEAVE_OUT, SET_EXTENSION, SIGN_AGAIN, BIND_AGAIN = 3, 4, 7, 11, 12


def _pairs(data: bytes) -> Iterator[tuple[int, int]]:
    for offset in range(0, len(data) - 2, 3):
        yield int.from_bytes(data[offset : offset + 2], "big"), data[offset + 2]


def _without(block: dict[int, bytes], number: int) -> dict[int, bytes]:
    kinds = list(block)
    return {kind: block[kind] for kind in kinds if not kinds or kind != kinds[number % len(kinds)]}


def _with_extensions(
    message: RawMessage, change: Callable[[dict[int, bytes]], dict[int, bytes]]
) -> RawMessage:
    for cls in WITH_EXTENSIONS.get(message.handshake_type, ()):
        try:
            parsed = cls.parse(message.body)
        except DtlsError:
            continue
        if isinstance(parsed, Certificate13):
            entries = tuple(
                CertificateEntry(entry.certificate, change(dict(entry.extensions)))
                for entry in parsed.entries
            )
            changed: Any = dataclasses.replace(parsed, entries=entries)
        else:
            changed = dataclasses.replace(parsed, extensions=change(dict(parsed.extensions)))
        with contextlib.suppress(OverflowError):  # more than a length can say
            return RawMessage(message.handshake_type, changed.serialize())
    return message


@contextlib.contextmanager
def tampering(
    role: Role, edits: list[Edit], record: list[tuple[int, bytes]] | None = None
) -> Iterator[dict[Role, set[int]]]:
    """Have the handshakes of one role send other messages than they mean to.

    :param record: where each message of both sides is added to, before it is changed.
    :returns: which types of message each side has sent so far.
    """
    send = Handshake._send
    seen: dict[int, int] = {}
    said: dict[Role, set[int]] = {role: set() for role in Role}

    def send_edited(self: Handshake, message: Any, *rest: Any, **named: Any) -> None:
        if record is not None:
            record.append((int(message.handshake_type), message.serialize()))
        if self.role is not role:
            said[self.role].add(int(message.handshake_type))
            send(self, message, *rest, **named)
            return
        kind = int(message.handshake_type)
        occurrence = seen[kind] = seen.get(kind, -1) + 1
        edited = [RawMessage(kind, message.serialize())]
        for edit in edits:
            if edit.handshake_type == kind and edit.occurrence == occurrence:
                edited = [new for old in edited for new in edit.apply(old, self)]
        for new in edited[:8]:
            said[role].add(new.handshake_type)
            known = next((t for t in HandshakeType if t == new.handshake_type), new.handshake_type)
            send(self, RawMessage(known, new.body), *rest, **named)  # type: ignore[arg-type]

    Handshake._send = send_edited  # type: ignore[method-assign]
    try:
        yield said
    finally:
        Handshake._send = send  # type: ignore[method-assign]


def _signed(handshake: Any, message: RawMessage, parameters: bytes) -> bytes:
    """A ServerKeyExchange of DTLS 1.2 with another group and share, rightly signed."""
    reader = Argument(parameters)
    try:
        original = ServerKeyExchange.parse(message.body)
        scheme = SignatureScheme(original.signature_scheme)
        group = reader.uint16() or original.parameters.named_curve
        offered = dataclasses.replace(original.parameters, named_curve=group, public=reader.rest()[:255])
        data = handshake._client_random + handshake._server_random + offered.serialize()
        key = handshake._configuration.credentials[0].private_key
        return ServerKeyExchange(offered, scheme, sign(key, scheme, data)).serialize()
    except (DtlsError, ValueError, AttributeError):
        return message.body


def _bound(handshake: Any, message: RawMessage) -> bytes:
    """A ClientHello of DTLS 1.3 that was changed, with binders that go with it."""
    try:
        hello = ClientHello.parse(message.body)
        retry = handshake._retry
        before = Transcript() if retry is None else retry.transcript
        return with_binders(hello, handshake._psks, before, handshake._layer.now).serialize()
    except (DtlsError, AttributeError):
        return message.body


class KeyHolder:
    """Seals with all keys that a connection has ever had for writing."""

    def __init__(self, connection: DtlsConnection) -> None:
        self._connection = connection
        self._epochs: dict[int, WriteEpoch] = {}
        self.look()

    def look(self) -> None:
        """Take note of keys that have come."""
        self._epochs.update(self._connection._records.writers)

    def epoch(self, selector: int) -> WriteEpoch:
        """The keys of one epoch; the newest for 255."""
        numbers = sorted(self._epochs)
        return self._epochs[numbers[-1] if selector == 255 else numbers[selector % len(numbers)]]


def next_message_seq(connection: DtlsConnection) -> int:
    """The number of the message that an end waits for."""
    return connection._reassembler.next_message_seq
