"""Flights (RFC 6347 §4.2.4, RFC 9147 §5.8): what is sent together, cut to the MTU, until it is answered.

A flight keeps handshake *messages*, not sealed records: each time it is sent, what the peer has not acknowledged
yet is cut to the MTU of the moment and sealed with fresh sequence numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mediapeer.dtls.configuration import MINIMUM_MTU
from mediapeer.dtls.epochs import WriteEpoch
from mediapeer.dtls.messages13 import RecordNumber
from mediapeer.dtls.reassembly import HANDSHAKE_HEADER_LENGTH, handshake_header
from mediapeer.dtls.registry import ContentType, HandshakeType, ProtocolVersion

REMEMBERED_RECORDS = 512
"""How many records of a flight an ACK may speak of, the latest ones: more than there are in one that is sent as often
as it may be. A peer may go on naming the record that it first had a message from, as Firefox does."""
FALLBACK_MTUS = (548, MINIMUM_MTU)
"What to shrink to when flights keep timing out: what IPv4 promises (RFC 1122 §3.3.3), then our least."
TIMEOUTS_PER_MTU = 2
"How many time-outs in a row make the MTU suspect."
SMALLEST_FRAGMENT = 32
"A fragment smaller than this, of a longer message, is not worth its headers: it waits for the next datagram."


@dataclass(frozen=True, slots=True)
class OutgoingHandshakeMessage:
    """A handshake message of ours, with the epoch it is protected in."""

    epoch: int
    handshake_type: HandshakeType
    message_seq: int
    body: bytes
    record_version: int = ProtocolVersion.DTLS_1_2
    """What unprotected records say that carry it. For a first ClientHello that is DTLS 1.0, for the version is not
    negotiated yet (RFC 6347 §4.2.1, RFC 9147 §5.3)."""

    def serialize(self) -> bytes:
        """The message as it goes into the transcript (RFC 6347 §4.2.6)."""
        return handshake_header(self.handshake_type, len(self.body), self.message_seq) + self.body


@dataclass(frozen=True, slots=True)
class OutgoingChangeCipherSpec:
    """ChangeCipherSpec (RFC 5246 §7.1), sent in the epoch that it ends."""

    epoch: int


OutgoingMessage = OutgoingHandshakeMessage | OutgoingChangeCipherSpec


@dataclass(frozen=True, slots=True)
class _SentFragment:
    """Which part of which message of the flight a record carried."""

    index: int
    start: int
    end: int


class _Packer:
    """Packs messages into records, and records into as few datagrams as the MTU allows.

    Protected records are filled with as many fragments as fit, of one message or several: each record costs its
    header and its tag. Unprotected ones carry one fragment each, which every peer understands.

    :param shares_records: whether protected ones do hold more than one. When a flight is sent again they should not:
        a peer may read a record only as far as to a message that it has had (Firefox does), and would never come to
        what stands behind that.
    """

    def __init__(
        self,
        epochs: Mapping[int, WriteEpoch],
        mtu: int,
        trace: Callable[[int, bytes], None] | None,
        *,
        shares_records: bool,
    ) -> None:
        self._epochs = epochs
        self._mtu = mtu
        self._trace = trace
        self._shares_records = shares_records
        self.sent: dict[RecordNumber, list[_SentFragment]] = {}
        "What each record carries."
        self._datagrams: list[bytes] = []
        self._datagram = bytearray()
        # The record that is being filled; nothing of it is in the datagram yet.
        self._epoch: WriteEpoch | None = None
        self._record = bytearray()
        self._fragments: list[_SentFragment] = []
        self._version = int(ProtocolVersion.DTLS_1_2)

    def finish(self) -> list[bytes]:
        """All datagrams."""
        self._next_datagram()
        return self._datagrams

    def add_change_cipher_spec(self, epoch_number: int) -> None:
        """Put a ChangeCipherSpec after what is there."""
        self._end_record()
        epoch = self._epochs[epoch_number]
        if epoch.overhead + 1 > self._mtu - len(self._datagram):
            self._next_datagram()
        if self._trace is not None:
            self._trace(ContentType.CHANGE_CIPHER_SPEC, b"\x01")
        self._datagram += epoch.seal(ContentType.CHANGE_CIPHER_SPEC, b"\x01")

    def add_span(self, message: OutgoingHandshakeMessage, span: _SentFragment) -> None:
        """Put a part of a message after what is there, in one fragment or several."""
        epoch = self._epochs[message.epoch]
        offset = span.start
        while True:
            size = self._open_record(epoch, message, span.end - offset)
            header = handshake_header(
                message.handshake_type, len(message.body), message.message_seq, offset, size
            )
            self._record += header
            self._record += message.body[offset : offset + size]
            self._fragments.append(_SentFragment(span.index, offset, offset + size))
            offset += size
            if offset >= span.end:
                return

    def _open_record(self, epoch: WriteEpoch, message: OutgoingHandshakeMessage, wanted: int) -> int:
        """Have a record open for a fragment of up to ``wanted`` bytes; returns how many there is room for."""
        is_shared = epoch.number != 0 and self._shares_records
        if epoch is not self._epoch or not is_shared:
            self._end_record()
        least = min(wanted, 1 if is_shared else SMALLEST_FRAGMENT)
        room = self._room(epoch)
        if room < least:
            self._end_record()
            if self._room(epoch) < least:
                self._next_datagram()
            room = self._room(epoch)
        self._epoch = epoch
        self._version = message.record_version
        return min(room, wanted)

    def _room(self, epoch: WriteEpoch) -> int:
        """How long a fragment may be that goes into the record that is open, or into a new one."""
        in_datagram = self._mtu - len(self._datagram) - epoch.overhead
        return min(in_datagram, epoch.maximum_plaintext) - len(self._record) - HANDSHAKE_HEADER_LENGTH

    def _end_record(self) -> None:
        if self._epoch is not None and self._record:
            number = RecordNumber(self._epoch.number, self._epoch.next_sequence_number)
            self.sent[number] = self._fragments
            if self._trace is not None:
                self._trace(ContentType.HANDSHAKE, bytes(self._record))
            self._datagram += self._epoch.seal(ContentType.HANDSHAKE, bytes(self._record), self._version)
            self._record.clear()
            self._fragments = []
        self._epoch = None

    def _next_datagram(self) -> None:
        self._end_record()
        if self._datagram:
            self._datagrams.append(bytes(self._datagram))
            self._datagram.clear()


class Flight:
    """Messages that are sent together, and how much of them the peer has acknowledged (RFC 9147 §7.2)."""

    def __init__(self, messages: Sequence[OutgoingMessage] = (), *, repeats_apart: bool = True) -> None:
        self._messages = tuple(messages)
        self._repeats_apart = repeats_apart
        self._is_repeated = False
        # For each message the spans of its body that are still to be acknowledged. An empty body is one empty span.
        self._pending: list[list[tuple[int, int]]] = []
        # What each record carried that may still be acknowledged, the oldest first.
        self._sent: dict[RecordNumber, list[_SentFragment]] = {}
        self.disregard_acknowledgements()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to be sent."""
        return not any(self._pending)

    @property
    def is_end_acknowledged(self) -> bool:
        """Whether the peer has all of the last message, if perhaps not yet what goes before it."""
        return bool(self._pending) and not self._pending[-1]

    def disregard_acknowledgements(self) -> None:
        """Have all of it to send again."""
        self._pending = [[_whole(message)] for message in self._messages]

    def pack(
        self, epochs: Mapping[int, WriteEpoch], mtu: int, trace: Callable[[int, bytes], None] | None = None
    ) -> list[bytes]:
        """Cut and seal what is pending into datagrams of at most ``mtu`` bytes.

        :param trace: told of the content type and the plaintext of each record.
        """
        packer = _Packer(epochs, mtu, trace, shares_records=not (self._is_repeated and self._repeats_apart))
        self._is_repeated = True
        for index, message in enumerate(self._messages):
            for start, end in self._pending[index]:
                if isinstance(message, OutgoingChangeCipherSpec):
                    packer.add_change_cipher_spec(message.epoch)
                else:
                    packer.add_span(message, _SentFragment(index, start, end))
        datagrams = packer.finish()
        self._sent |= packer.sent
        for number in list(self._sent)[:-REMEMBERED_RECORDS]:
            del self._sent[number]
        return datagrams

    def acknowledge(self, numbers: Sequence[RecordNumber]) -> bool:
        """Note what the peer has; records that are none of this flight's are passed over.

        :returns: whether anything was new.
        """
        progress = False
        for number in numbers:
            for fragment in self._sent.pop(number, ()):
                pending = self._pending[fragment.index]
                rest = [part for span in pending for part in _without(span, fragment.start, fragment.end)]
                if rest != pending:
                    self._pending[fragment.index] = rest
                    progress = True
        return progress

    def disregard_acknowledgements_of(self, epoch: int) -> None:
        """Have all to send again that goes in ``epoch``: the peer asks for it, whatever an ACK has said."""
        for index, message in enumerate(self._messages):
            if message.epoch == epoch:
                self._pending[index] = [_whole(message)]


def _whole(message: OutgoingMessage) -> tuple[int, int]:
    """The span of a whole message."""
    return 0, 0 if isinstance(message, OutgoingChangeCipherSpec) else len(message.body)


def _without(span: tuple[int, int], start: int, end: int) -> list[tuple[int, int]]:
    """What is left of a span when ``start`` to ``end`` is taken out."""
    if span[0] == span[1]:
        return [] if start <= span[0] <= end else [span]
    parts = ((span[0], min(span[1], start)), (max(span[0], end), span[1]))
    return [part for part in parts if part[0] < part[1]]


class RetransmissionTimer:
    """The timer of RFC 6347 §4.2.4.1: armed with a flight, doubled each time it fires, up to a cap.

    Times are those of the caller's clock, in seconds.
    """

    def __init__(self, initial: float, maximum: float, maximum_retransmissions: int) -> None:
        self.initial = initial
        "How long it waits the first time, in seconds."
        self._maximum = maximum
        self._maximum_retransmissions = maximum_retransmissions
        self._timeout = initial
        self.deadline: float | None = None
        "When it fires next; ``None`` while it is not armed."
        self.timeouts = 0
        "How often it has fired for this flight."

    def start(self, now: float) -> None:
        """Arm it for a new flight."""
        self._timeout = self.initial
        self.timeouts = 0
        self.deadline = now + self._timeout

    def set_initial(self, initial: float) -> None:
        """Wait ``initial`` seconds the first time from now on; a timer that is running is rescaled."""
        if self.deadline is not None:
            scale = initial / self.initial
            self.deadline += self._timeout * (scale - 1)
            self._timeout *= scale
        self.initial = initial

    def stop(self) -> None:
        """The flight was answered."""
        self.deadline = None

    def restart(self, now: float) -> None:
        """Wait the same time again, from ``now``: the flight was sent again for another reason than time."""
        self.deadline = now + self._timeout

    def fire(self, now: float) -> bool:
        """Note that it fired, and arm it with twice the time.

        :returns: whether the flight may be sent again; false when it has been often enough.
        """
        self.timeouts += 1
        if self.timeouts > self._maximum_retransmissions:
            self.deadline = None
            return False
        self._timeout = min(2 * self._timeout, self._maximum)
        self.deadline = now + self._timeout
        return True


def mtu_after_timeouts(mtu: int, timeouts: int) -> int:
    """The MTU to use when a flight has timed out ``timeouts`` times at ``mtu`` or less (RFC 6347 §4.1.1.1)."""
    steps = min(timeouts // TIMEOUTS_PER_MTU, len(FALLBACK_MTUS))
    return min(mtu, FALLBACK_MTUS[steps - 1]) if steps else mtu
