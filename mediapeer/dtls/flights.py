"""Flights (RFC 6347 §4.2.4, RFC 9147 §5.8): what is sent together, cut to the MTU, until it is answered.

A flight keeps handshake *messages*, not sealed records: each time it is sent, what the peer has not acknowledged
yet is cut to the MTU of the moment and sealed with fresh sequence numbers.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mediapeer.dtls.configuration import MINIMUM_MTU
from mediapeer.dtls.epochs import WriteEpoch
from mediapeer.dtls.messages13 import RecordNumber
from mediapeer.dtls.reassembly import HANDSHAKE_HEADER_LENGTH, handshake_header
from mediapeer.dtls.registry import ContentType, HandshakeType, ProtocolVersion

REMEMBERED_TRANSMISSIONS = 4
"How many times of sending a flight an ACK may speak of; one that is older comes too late to spare anything."
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

    def serialize(self) -> bytes:
        """The message as it goes into the transcript (RFC 6347 §4.2.6)."""
        return handshake_header(self.handshake_type, len(self.body), self.message_seq) + self.body


@dataclass(frozen=True, slots=True)
class OutgoingChangeCipherSpec:
    """ChangeCipherSpec (RFC 5246 §7.1), sent in the epoch that it ends."""

    epoch: int


OutgoingMessage = OutgoingHandshakeMessage | OutgoingChangeCipherSpec


class DatagramPacker:
    """Packs records into as few datagrams as the MTU allows."""

    def __init__(self, mtu: int) -> None:
        self._mtu = mtu
        self._current = bytearray()
        self._datagrams: list[bytes] = []

    @property
    def room(self) -> int:
        """How many bytes the current datagram still takes."""
        return self._mtu - len(self._current)

    def add(self, record: bytes) -> None:
        """Append a record that fits, alone at least."""
        if len(record) > self.room:
            self.next_datagram()
        self._current += record

    def next_datagram(self) -> None:
        """Begin a new datagram, if the current one has anything in it."""
        if self._current:
            self._datagrams.append(bytes(self._current))
            self._current.clear()

    def finish(self) -> list[bytes]:
        """All datagrams."""
        self.next_datagram()
        return self._datagrams


@dataclass(frozen=True, slots=True)
class _SentFragment:
    """Which part of which message of the flight a record carried."""

    index: int
    start: int
    end: int


class Flight:
    """Messages that are sent together, and how much of them the peer has acknowledged (RFC 9147 §7.2)."""

    def __init__(self, messages: Sequence[OutgoingMessage] = ()) -> None:
        self._messages = tuple(messages)
        # For each message the spans of its body that are still to be acknowledged. An empty body is one empty span.
        self._pending: list[list[tuple[int, int]]] = []
        # What each record carried, for the latest transmissions.
        self._sent: deque[dict[RecordNumber, _SentFragment]] = deque(maxlen=REMEMBERED_TRANSMISSIONS)
        self.disregard_acknowledgements()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to be sent."""
        return not any(self._pending)

    def disregard_acknowledgements(self) -> None:
        """Have all of it to send again."""
        self._pending = [
            [(0, 0 if isinstance(message, OutgoingChangeCipherSpec) else len(message.body))]
            for message in self._messages
        ]

    def pack(self, epochs: Mapping[int, WriteEpoch], mtu: int) -> list[bytes]:
        """Cut and seal what is pending into datagrams of at most ``mtu`` bytes."""
        packer = DatagramPacker(mtu)
        self._sent.append({})
        for index, message in enumerate(self._messages):
            epoch = epochs[message.epoch]
            for start, end in self._pending[index]:
                if isinstance(message, OutgoingChangeCipherSpec):
                    packer.add(epoch.seal(ContentType.CHANGE_CIPHER_SPEC, b"\x01"))
                else:
                    self._pack_span(packer, epoch, index, start, end)
        return packer.finish()

    def _pack_span(self, packer: DatagramPacker, epoch: WriteEpoch, index: int, start: int, end: int) -> None:
        message = self._messages[index]
        if isinstance(message, OutgoingChangeCipherSpec):
            return
        # The version is not negotiated while a ClientHello is under way (RFC 6347 §4.2.1).
        is_hello = message.handshake_type is HandshakeType.CLIENT_HELLO
        version = ProtocolVersion.DTLS_1_0 if is_hello else ProtocolVersion.DTLS_1_2
        headers = epoch.overhead + HANDSHAKE_HEADER_LENGTH
        offset = start
        while True:
            if packer.room - headers < min(end - offset, SMALLEST_FRAGMENT):
                packer.next_datagram()
            size = min(packer.room - headers, end - offset)
            header = handshake_header(
                message.handshake_type, len(message.body), message.message_seq, offset, size
            )
            number = RecordNumber(epoch.number, epoch.next_sequence_number)
            self._sent[-1][number] = _SentFragment(index, offset, offset + size)
            body = message.body[offset : offset + size]
            packer.add(epoch.seal(ContentType.HANDSHAKE, header + body, version))
            offset += size
            if offset >= end:
                return

    def acknowledge(self, numbers: Iterable[RecordNumber]) -> bool:
        """Note what the peer has; records that are none of this flight's are passed over.

        :returns: whether anything was new.
        """
        progress = False
        for number in numbers:
            fragment = next((sent.pop(number) for sent in self._sent if number in sent), None)
            if fragment is None:
                continue
            pending = self._pending[fragment.index]
            rest = [part for span in pending for part in _without(span, fragment.start, fragment.end)]
            if rest != pending:
                self._pending[fragment.index] = rest
                progress = True
        return progress


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
        self._initial = initial
        self._maximum = maximum
        self._maximum_retransmissions = maximum_retransmissions
        self._timeout = initial
        self.deadline: float | None = None
        "When it fires next; ``None`` while it is not armed."
        self.timeouts = 0
        "How often it has fired for this flight."

    def start(self, now: float) -> None:
        """Arm it for a new flight."""
        self._timeout = self._initial
        self.timeouts = 0
        self.deadline = now + self._timeout

    def stop(self) -> None:
        """The flight was answered."""
        self.deadline = None

    def restart(self, now: float) -> None:
        """Wait the same time again, from ``now``: the flight was sent again for another reason than time."""
        if self.deadline is not None:
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
