"""The record layer of one association: which epochs there are, which one opens a record, which one seals."""

import math
from collections import Counter
from collections.abc import Callable

from mediapeer.dtls.epochs import OpenedRecord, ReadEpoch12, ReadEpoch13, WriteEpoch, WriteEpoch12
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH, UNIFIED_HEADER_EPOCH_MASK, Record, UnifiedRecord

MAXIMUM_HELD_RECORDS = 16
"How many records without keys yet are kept for later (RFC 6347 §4.1, RFC 9147 §4.2.1)."
MAXIMUM_HELD_BYTES = 8_192
HELD_LIFETIME = 2.0
"For how long, in seconds: what overtakes its keys does so by little, and forgeries must not take its place for ever."
OLD_EPOCH_LIFETIME = 240.0
"How long the keys of an epoch that has passed still open late records, in seconds (RFC 9147 §4.2.1)."
INITIAL_EPOCH = 0


class RecordLayer:
    """The epochs of both directions.

    :param counters: where it is counted what is dropped, by reason.
    :param first_sequence_number: the number of our first unprotected record.
    """

    def __init__(self, counters: Counter[str], first_sequence_number: int) -> None:
        self._counters = counters
        self._plain: dict[int, ReadEpoch12] = {INITIAL_EPOCH: ReadEpoch12(INITIAL_EPOCH, None, counters)}
        self._unified: dict[int, ReadEpoch13] = {}  # by the two bits that a record shows of its epoch
        self._retiring: dict[int, int] = {}  # which epoch the first authentic record of another lets go
        self._expiries: dict[int, float] = {}  # by epoch; no more than there are readers
        self._held: list[Record | UnifiedRecord] = []
        self._held_bytes = 0
        self._held_until = 0.0
        self.expires_at = math.inf
        "When :meth:`expire` has something to do, at the earliest; read for each datagram."
        self.writers: dict[int, WriteEpoch] = {
            INITIAL_EPOCH: WriteEpoch12(INITIAL_EPOCH, None, first_sequence_number)
        }
        "The epochs that we can write in; flights are sent again in the epoch that they were first sent in."
        self.writer = self.writers[INITIAL_EPOCH]
        "The epoch for alerts and data."
        self._maximum_plaintext = MAXIMUM_PLAINTEXT_LENGTH

    def open(
        self,
        record: Record | UnifiedRecord,
        now: float,
        is_to_be_held: Callable[[Record | UnifiedRecord], bool],
    ) -> OpenedRecord | None:
        """What is in a record, or ``None`` when there is nothing to be had of it (yet).

        :param is_to_be_held: whether to keep it for later; asked when its keys are not known yet.
        :raises DtlsError: when too many forgeries have come.
        """
        if isinstance(record, UnifiedRecord):
            unified = self._unified.get(record.header[0] & UNIFIED_HEADER_EPOCH_MASK)
            if unified is not None:
                opened = unified.open(record)
                if self._retiring and opened is not None:
                    self._let_go_of_predecessor(unified.number, now)
                return opened
        else:
            plain = self._plain.get(record.epoch_and_sequence_number >> 48)
            if plain is not None:
                return plain.open(record)
        if is_to_be_held(record):
            self._hold(record, now)
        else:
            self._counters["records_of_other_epochs"] += 1
        return None

    def _hold(self, record: Record | UnifiedRecord, now: float) -> None:
        size = len(record.fragment)
        if not self._held:
            self._held_until = now + HELD_LIFETIME
            self.expires_at = min(self.expires_at, self._held_until)
        if len(self._held) < MAXIMUM_HELD_RECORDS and self._held_bytes + size <= MAXIMUM_HELD_BYTES:
            self._held.append(record)
            self._held_bytes += size
        else:
            self._counters["records_of_other_epochs"] += 1

    def take_held(self) -> list[Record | UnifiedRecord]:
        """The records that were kept, whether their keys have come or not; they are forgotten here."""
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    @property
    def is_holding(self) -> bool:
        """Whether there are records to be taken."""
        return bool(self._held)

    @property
    def is_holding_unified(self) -> bool:
        """Whether one of them is of DTLS 1.3."""
        return any(isinstance(record, UnifiedRecord) for record in self._held)

    def install_reader(self, epoch: ReadEpoch12 | ReadEpoch13) -> None:
        """Open records of ``epoch`` from now on. It takes the place of the one whose bits look the same."""
        if isinstance(epoch, ReadEpoch13):
            replaced = self._unified.get(epoch.number & UNIFIED_HEADER_EPOCH_MASK)
            if replaced is not None:
                self._expiries.pop(replaced.number, None)
                self._retiring.pop(replaced.number + 1, None)
            self._unified[epoch.number & UNIFIED_HEADER_EPOCH_MASK] = epoch
        else:
            self._plain[epoch.number] = epoch

    def retire_reader(self, number: int, successor: int) -> None:
        """Let go of an epoch's keys a while after the peer has used those of its successor (RFC 9147 §8)."""
        self._retiring[successor] = number

    def _let_go_of_predecessor(self, number: int, now: float) -> None:
        predecessor = self._retiring.pop(number, None)
        if predecessor is not None:
            self._expiries[predecessor] = now + OLD_EPOCH_LIFETIME
            self.expires_at = min(self.expires_at, now + OLD_EPOCH_LIFETIME)

    def drop_reader(self, number: int) -> None:
        """Let go of an epoch's keys at once."""
        self._plain.pop(number, None)
        bits = number & UNIFIED_HEADER_EPOCH_MASK
        if bits in self._unified and self._unified[bits].number == number:
            del self._unified[bits]

    def expire(self, now: float) -> None:
        """Let go of what was retired, or has waited, long enough."""
        if self._held and now >= self._held_until:
            self.take_held()
        for number in [number for number, expiry in self._expiries.items() if expiry <= now]:
            del self._expiries[number]
            self.drop_reader(number)
        held_until = self._held_until if self._held else math.inf
        self.expires_at = min(held_until, *self._expiries.values(), math.inf)

    def limit_plaintext(self, size: int) -> None:
        """Put at most ``size`` bytes into a protected record, in all epochs to come and those known."""
        self._maximum_plaintext = size
        for epoch in self.writers.values():
            if epoch.number != INITIAL_EPOCH:
                epoch.maximum_plaintext = size

    def install_writer(self, epoch: WriteEpoch) -> None:
        """Make an epoch known; see :meth:`switch_writer`."""
        epoch.maximum_plaintext = self._maximum_plaintext
        self.writers[epoch.number] = epoch

    def switch_writer(self, number: int) -> None:
        """Write alerts and data in this epoch from now on."""
        self.writer = self.writers[number]

    def drop_writer(self, number: int) -> None:
        """Forget an epoch that nothing is sent in any more."""
        self.writers.pop(number, None)

    def close(self, *, may_repeat_alert: bool) -> None:
        """Drop all keys, but the one that an alert may have to be repeated with."""
        self._plain.clear()
        self._unified.clear()
        self._expiries.clear()
        self._retiring.clear()
        self.take_held()
        if not may_repeat_alert:
            self.writer = WriteEpoch12(INITIAL_EPOCH, None)
        self.writers = {self.writer.number: self.writer}
