"""Handshake messages out of fragments that come in any order, twice, overlapping, or not at all (RFC 6347 §4.2.3)."""

import struct
from dataclasses import dataclass

from mediapeer.dtls.codec import Reader
from mediapeer.dtls.errors import DecodeError, PeerMisbehaved
from mediapeer.dtls.registry import AlertDescription

HANDSHAKE_HEADER_LENGTH = 12

_HEADER_TAIL = struct.Struct("!H")

MESSAGES_AHEAD = 7
"How many messages, from the next one on, are collected at once: as many as the longest flight has."
BLOCK_LENGTH = 512
"Messages in pieces are kept in blocks of so many bytes: then it costs the same in how many pieces they come."
BLOCKS_AHEAD = 16
"How many blocks may be held of messages whose turn has not come."


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
    fragments = [parse_fragment(reader)]
    while reader.remaining:
        fragments.append(parse_fragment(reader))
    return fragments


def parse_fragment(reader: Reader) -> HandshakeFragment:
    """The next fragment of a handshake record; the error is that of :func:`parse_fragments`."""
    handshake_type, length, message_seq = reader.uint8(), reader.uint24(), reader.uint16()
    offset, fragment_length = reader.uint24(), reader.uint24()
    if offset + fragment_length > length:
        raise DecodeError("a fragment reaches past the end of its message")
    return HandshakeFragment(handshake_type, length, message_seq, offset, reader.take(fragment_length))


class _Block:
    """A stretch of a message, and which of its bytes are here."""

    __slots__ = ("data", "mask")

    def __init__(self) -> None:
        self.data = bytearray(BLOCK_LENGTH)
        self.mask = 0  # bit n stands for the byte n

    def add(self, start: int, data: bytes) -> int:
        """Put ``data`` at ``start``; where there is a byte already, that stays.

        :returns: how many bytes are new.
        """
        span = ((1 << len(data)) - 1) << start
        present = self.mask & span
        if not present:
            self.data[start : start + len(data)] = data
        elif present != span:
            for index, byte in enumerate(data, start):
                if not self.mask >> index & 1:
                    self.data[index] = byte
        self.mask |= span
        return len(data) - present.bit_count()


class _PartialMessage:
    """A message of which some is here. Holds what was received, block by block, not what was announced."""

    __slots__ = ("_blocks", "_missing", "_whole", "handshake_type", "length")

    def __init__(self, handshake_type: int, length: int) -> None:
        self.handshake_type = handshake_type
        self.length = length
        self._blocks: dict[int, _Block] = {}
        self._missing = length
        self._whole = b""

    @property
    def is_complete(self) -> bool:
        return not self._missing

    @property
    def body(self) -> bytes:
        if self._whole:
            return self._whole
        return b"".join(self._blocks[index].data for index in sorted(self._blocks))[: self.length]

    @property
    def blocks(self) -> int:
        """How many blocks it takes up."""
        return _blocks_of(self.length) if self._whole else len(self._blocks)

    def new_blocks(self, offset: int, length: int) -> int:
        """How many blocks more a fragment would take up."""
        indices = range(offset // BLOCK_LENGTH, (offset + length - 1) // BLOCK_LENGTH + 1)
        return sum(index not in self._blocks for index in indices)

    def add(self, offset: int, data: bytes) -> None:
        if len(data) == self.length:
            self._whole, self._missing = data, 0
            self._blocks.clear()
            return
        position = 0
        while position < len(data):
            index, start = divmod(offset + position, BLOCK_LENGTH)
            part = data[position : position + BLOCK_LENGTH - start]
            block = self._blocks.get(index)
            if block is None:
                block = self._blocks[index] = _Block()
            self._missing -= block.add(start, part)
            position += len(part)


def _blocks_of(length: int) -> int:
    """How many blocks a message of ``length`` bytes fills."""
    return -(-length // BLOCK_LENGTH)


class HandshakeReassembler:
    """Collects the peer's fragments and hands out whole messages, in the order of ``message_seq``.

    Fragments are kept by epoch and ``message_seq``, so that nothing unprotected can mix with a message that has
    to be protected, and no message can span a change of keys. The next message always has room; what runs ahead of
    it shares :data:`BLOCKS_AHEAD` blocks.

    :param maximum_message_size: the longest message that is taken, in bytes.
    """

    def __init__(self, maximum_message_size: int) -> None:
        self.next_message_seq = 0
        self._maximum_message_size = maximum_message_size
        self._maximum_blocks = _blocks_of(maximum_message_size) + BLOCKS_AHEAD
        self._partial: dict[tuple[int, int], _PartialMessage] = {}

    @property
    def blocks(self) -> int:
        """How many blocks of :data:`BLOCK_LENGTH` bytes are held."""
        return sum(partial.blocks for partial in self._partial.values())

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
            partial = _PartialMessage(fragment.handshake_type, fragment.length)
        elif (partial.handshake_type, partial.length) != (fragment.handshake_type, fragment.length):
            raise PeerMisbehaved(
                "fragments of one message differ in its type or length", AlertDescription.ILLEGAL_PARAMETER
            )
        if partial.is_complete and fragment.length:
            return True
        if not self._has_room(key, partial, fragment):
            return False
        self._partial[key] = partial
        if fragment.data:
            partial.add(fragment.offset, fragment.data)
        return True

    def _has_room(self, key: tuple[int, int], partial: _PartialMessage, fragment: HandshakeFragment) -> bool:
        if key[1] == self.next_message_seq and not self._partial:
            return True  # the usual case
        wanted = partial.new_blocks(fragment.offset, len(fragment.data)) if fragment.data else 0
        if not wanted:
            return True
        ahead = sum(other.blocks for (_, seq), other in self._partial.items() if seq != self.next_message_seq)
        if key[1] != self.next_message_seq and ahead + wanted > BLOCKS_AHEAD:
            return False
        return self.blocks + wanted <= self._maximum_blocks

    def next_message(self, epoch: int) -> ReassembledMessage | None:
        """The next message, if it is complete and came in ``epoch``."""
        partial = self._partial.get((epoch, self.next_message_seq))
        if partial is None or not partial.is_complete:
            return None
        message = ReassembledMessage(partial.handshake_type, self.next_message_seq, partial.body)
        self.skip_to(self.next_message_seq + 1)
        return message

    @property
    def is_holding(self) -> bool:
        """Whether anything is kept of messages to come."""
        return bool(self._partial)

    def holds(self, epoch: int) -> bool:
        """Whether anything of a message to come is kept that came in ``epoch``."""
        return any(key[0] == epoch for key in self._partial)

    def clear(self) -> None:
        """Forget everything held."""
        self._partial.clear()

    def drop_epoch(self, epoch: int) -> None:
        """Forget what came in ``epoch``."""
        self._partial = {key: partial for key, partial in self._partial.items() if key[0] != epoch}

    def skip_to(self, message_seq: int) -> None:
        """Expect ``message_seq`` next, and forget what came before it."""
        self.next_message_seq = message_seq
        self._partial = {key: partial for key, partial in self._partial.items() if key[1] >= message_seq}
