"""Handshake messages out of fragments that come in any order, twice, overlapping, or not at all (RFC 6347 §4.2.3)."""

import struct
from dataclasses import dataclass

from mediapeer.dtls.codec import Reader
from mediapeer.dtls.errors import DecodeError, PeerMisbehaved
from mediapeer.dtls.registry import AlertDescription

HANDSHAKE_HEADER_LENGTH = 12

_HEADER_TAIL = struct.Struct("!H")

MESSAGES_AHEAD = 8
"How many messages, from the next one on, are collected at once: more than any flight has."
MAXIMUM_PIECES = 128
"How many separate pieces of one message are kept: what a small MTU with losses needs, and no more."


@dataclass(frozen=True, slots=True)
class HandshakeFragment:
    """One fragment with its header (RFC 6347 §4.2.2)."""

    handshake_type: int
    length: int
    "Length of the whole message's body in bytes."
    message_seq: int
    offset: int
    data: bytes

    @property
    def is_last(self) -> bool:
        """Whether the message ends with this fragment."""
        return self.offset + len(self.data) == self.length


@dataclass(frozen=True, slots=True)
class ReassembledMessage:
    """A whole handshake message of the peer."""

    handshake_type: int
    message_seq: int
    body: bytes

    def serialize(self) -> bytes:
        """The message as it goes into the transcript: as if it had come in one fragment (RFC 6347 §4.2.6)."""
        return handshake_header(self.handshake_type, len(self.body), self.message_seq) + self.body


def handshake_header(
    handshake_type: int, length: int, message_seq: int, offset: int = 0, fragment_length: int | None = None
) -> bytes:
    """The twelve bytes before a fragment; without the last two arguments, those before a whole message."""
    if fragment_length is None:
        fragment_length = length
    return (
        handshake_type.to_bytes(1, "big")
        + length.to_bytes(3, "big")
        + _HEADER_TAIL.pack(message_seq)
        + offset.to_bytes(3, "big")
        + fragment_length.to_bytes(3, "big")
    )


def parse_fragments(record_body: bytes) -> list[HandshakeFragment]:
    """The fragments that fill a handshake record.

    :raises DecodeError: when the record is empty, a fragment is cut short or reaches past its message's end.
    """
    reader = Reader(record_body)
    fragments = []
    while True:
        handshake_type, length, message_seq = reader.uint8(), reader.uint24(), reader.uint16()
        offset, fragment_length = reader.uint24(), reader.uint24()
        if offset + fragment_length > length:
            raise DecodeError("a fragment reaches past the end of its message")
        fragments.append(
            HandshakeFragment(handshake_type, length, message_seq, offset, reader.take(fragment_length))
        )
        if not reader.remaining:
            return fragments


class _PartialMessage:
    """A message of which some is here. Holds what was received, not what was announced."""

    __slots__ = ("handshake_type", "length", "pieces")

    def __init__(self, handshake_type: int, length: int) -> None:
        self.handshake_type = handshake_type
        self.length = length
        self.pieces: list[tuple[int, bytearray]] = []  # by offset, apart from each other

    @property
    def is_complete(self) -> bool:
        if not self.length:
            return True
        return len(self.pieces) == 1 and len(self.pieces[0][1]) == self.length

    @property
    def body(self) -> bytes:
        return bytes(self.pieces[0][1]) if self.pieces else b""

    @property
    def size(self) -> int:
        return sum(len(data) for _, data in self.pieces)

    def add(self, offset: int, data: bytes) -> None:
        """Merge a fragment with the pieces it touches; where both have a byte, the one that came first stays."""
        if self.pieces and offset == self.pieces[-1][0] + len(self.pieces[-1][1]):
            self.pieces[-1][1].extend(data)  # in order, the common case
            return
        start, merged = offset, bytearray(data)
        apart = []
        for piece_start, piece in self.pieces:
            if piece_start + len(piece) < start or piece_start > start + len(merged):
                apart.append((piece_start, piece))
                continue
            low = min(start, piece_start)
            joined = bytearray(max(start + len(merged), piece_start + len(piece)) - low)
            joined[start - low : start - low + len(merged)] = merged
            joined[piece_start - low : piece_start - low + len(piece)] = piece
            start, merged = low, joined
        self.pieces = sorted([*apart, (start, merged)], key=lambda piece: piece[0])


class HandshakeReassembler:
    """Collects the peer's fragments and hands out whole messages, in the order of ``message_seq``.

    Fragments are kept by epoch and ``message_seq``, so that nothing unprotected can mix with a message that has
    to be protected, and no message can span a change of keys.

    :param maximum_message_size: the longest message that is taken, in bytes.
    :param maximum_bytes: how much is held at once, in bytes, over all messages.
    """

    def __init__(self, maximum_message_size: int, maximum_bytes: int) -> None:
        self.next_message_seq = 0
        self._maximum_message_size = maximum_message_size
        self._maximum_bytes = maximum_bytes
        self._partial: dict[tuple[int, int], _PartialMessage] = {}

    @property
    def size(self) -> int:
        """How many bytes of fragments are held."""
        return sum(partial.size for partial in self._partial.values())

    def add(self, epoch: int, fragment: HandshakeFragment) -> bool:
        """Take in a fragment that came in a record of ``epoch``.

        :returns: whether all of it is here now: false for what is too early, too late, or too much.
        :raises PeerMisbehaved: when it contradicts an earlier fragment, or its message is too long.
        """
        if not 0 <= fragment.message_seq - self.next_message_seq < MESSAGES_AHEAD:
            return False
        if fragment.length > self._maximum_message_size:
            raise PeerMisbehaved(
                f"a handshake message of {fragment.length} bytes is too long",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        if fragment.length and not fragment.data:
            return True  # says nothing; never worth a thing kept
        key = (epoch, fragment.message_seq)
        partial = self._partial.get(key)
        if partial is None:
            partial = self._partial[key] = _PartialMessage(fragment.handshake_type, fragment.length)
        elif (partial.handshake_type, partial.length) != (fragment.handshake_type, fragment.length):
            raise PeerMisbehaved(
                "fragments of one message differ in its type or length", AlertDescription.ILLEGAL_PARAMETER
            )
        if partial.is_complete and fragment.length:
            return True
        if len(partial.pieces) >= MAXIMUM_PIECES or self.size + len(fragment.data) > self._maximum_bytes:
            return False
        if fragment.data:
            partial.add(fragment.offset, fragment.data)
        return True

    def next_message(self, epoch: int) -> ReassembledMessage | None:
        """The next message, if it is complete and came in ``epoch``."""
        partial = self._partial.get((epoch, self.next_message_seq))
        if partial is None or not partial.is_complete:
            return None
        message = ReassembledMessage(partial.handshake_type, self.next_message_seq, partial.body)
        self.skip_to(self.next_message_seq + 1)
        return message

    def holds(self, epoch: int) -> bool:
        """Whether anything of a message to come is kept that came in ``epoch``."""
        return any(key[0] == epoch for key in self._partial)

    def drop_epoch(self, epoch: int) -> None:
        """Forget what came in ``epoch``."""
        self._partial = {key: partial for key, partial in self._partial.items() if key[0] != epoch}

    def skip_to(self, message_seq: int) -> None:
        """Expect ``message_seq`` next, and forget what came before it."""
        self.next_message_seq = message_seq
        self._partial = {key: partial for key, partial in self._partial.items() if key[1] >= message_seq}
