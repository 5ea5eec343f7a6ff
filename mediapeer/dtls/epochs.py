"""Epochs (RFC 6347 §4.1): the keys of one direction, its sequence numbers, and the replay window."""

from mediapeer.dtls.errors import SequenceNumbersExhausted
from mediapeer.dtls.protection import RecordProtection
from mediapeer.dtls.record import RECORD_HEADER_LENGTH, Record, serialize_record
from mediapeer.dtls.registry import ProtocolVersion

REPLAY_WINDOW_SIZE = 256


class ReplayWindow:
    """The sliding window that lets each sequence number pass once (RFC 6347 §4.1.2.6).

    :param size: how far behind the newest record one may come, in records.
    """

    __slots__ = ("_bitmap", "_highest", "_mask", "_size")

    def __init__(self, size: int = REPLAY_WINDOW_SIZE) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self._highest = -1
        self._bitmap = 0  # bit n stands for the sequence number n below the highest

    def is_fresh(self, sequence_number: int) -> bool:
        """Whether a record of this number may pass. Looks only; see :meth:`mark`."""
        behind = self._highest - sequence_number
        if behind < 0:
            return True
        return behind < self._size and not self._bitmap >> behind & 1

    def mark(self, sequence_number: int) -> None:
        """Note a record that proved authentic, which alone may move the window."""
        behind = self._highest - sequence_number
        if behind < 0:
            self._bitmap = (self._bitmap << -behind if -behind < self._size else 0) & self._mask | 1
            self._highest = sequence_number
        elif behind < self._size:
            self._bitmap |= 1 << behind


class ReadEpoch:
    """What opens the peer's records of one epoch. ``protection`` is ``None`` in epoch 0."""

    __slots__ = ("number", "protection", "window")

    def __init__(self, number: int, protection: RecordProtection | None) -> None:
        self.number = number
        self.protection = protection
        self.window = ReplayWindow()

    def open(self, record: Record) -> bytes | None:
        """The plaintext of a record of this epoch, or ``None`` when it is a replay or not authentic."""
        if self.protection is None:
            return record.fragment  # nothing is authentic here, so nothing may move the window
        sequence_number = record.sequence_number
        if not self.window.is_fresh(sequence_number):
            return None
        plaintext = self.protection.open(
            record.content_type, record.epoch_and_sequence_number, record.fragment
        )
        if plaintext is not None:
            self.window.mark(sequence_number)
        return plaintext


class WriteEpoch:
    """What makes our records of one epoch. ``protection`` is ``None`` in epoch 0."""

    __slots__ = ("_next", "_protection", "number", "overhead")

    def __init__(
        self, number: int, protection: RecordProtection | None, first_sequence_number: int = 0
    ) -> None:
        self.number = number
        self._protection = protection
        self._next = (number << 48) + first_sequence_number
        self.overhead = RECORD_HEADER_LENGTH + (protection.expansion if protection else 0)
        "How many bytes longer than its plaintext a record is."

    def seal(self, content_type: int, plaintext: bytes, version: int = ProtocolVersion.DTLS_1_2) -> bytes:
        """A record with the next sequence number.

        :raises SequenceNumbersExhausted: after 2^48 records; the number must not wrap (RFC 6347 §4.1).
        """
        epoch_and_sequence_number = self._next
        if epoch_and_sequence_number >> 48 != self.number:
            raise SequenceNumbersExhausted(f"epoch {self.number} has used up its sequence numbers")
        self._next += 1
        if self._protection is None:
            return serialize_record(content_type, epoch_and_sequence_number, plaintext, version)
        return serialize_record(
            content_type,
            epoch_and_sequence_number,
            self._protection.seal(content_type, epoch_and_sequence_number, plaintext),
        )
