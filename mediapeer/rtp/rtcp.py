"""RTCP, read and written: reports, feedback, names and goodbyes (RFC 3550 §6, RFC 4585, RFC 5104, RFC 5506)."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
#: Formats of transport layer feedback (RFC 4585 §6.2.1, draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
GENERIC_NACK = 1
TRANSPORT_WIDE = 15
#: Formats of payload-specific feedback (RFC 4585 §6.3, RFC 5104 §4.3.1).
PICTURE_LOSS = 1
FULL_INTRA = 4
APPLICATION_LAYER = 15
#: How many report blocks, chunks of names or sources one packet has room for.
MAXIMUM_COUNT = 31
#: How many packets one transport-wide feedback may speak of. It takes some bytes to claim 65,535.
MAXIMUM_STATUSES = 8192
#: Units of transport-wide feedback: of its reference time, and of the differences between arrivals, in seconds.
REFERENCE_UNIT = 0.064
DELTA_UNIT = 0.00025

_HEADER = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IQIII")
_REPORT_BLOCK = struct.Struct("!IIIIII")
_TWO_SSRCS = struct.Struct("!II")
_PAIR = struct.Struct("!HH")
_FIR_ENTRY = struct.Struct("!IB3x")
_STATUSES = struct.Struct("!HHI")
_CNAME = 1
_REMB = b"REMB"
_MANTISSA_BITS = 18


class RtcpError(ValueError):
    """What is no RTCP, or a packet of it that breaks its own format. Only that packet is lost."""


@dataclass(slots=True)
class ReportBlock:
    """What a receiver tells of one source (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    "Since the last report, in 256ths."
    packets_lost: int
    "In all; negative after duplicates. 24 bits, signed."
    highest_sequence: int
    "The highest extended sequence number received."
    jitter: int
    "In units of the clock rate."
    last_sender_report: int
    "The middle 32 bits of the NTP timestamp of the last sender report; 0 before the first."
    delay_since_last: int
    "How long ago that came, in units of 1/65536 s."

    def serialize(self) -> bytes:
        """The 24 bytes of it."""
        return _REPORT_BLOCK.pack(
            self.ssrc,
            self.fraction_lost << 24 | self.packets_lost & 0xFFFFFF,
            self.highest_sequence,
            self.jitter,
            self.last_sender_report,
            self.delay_since_last,
        )


@dataclass(slots=True)
class SenderReport:
    """A sender report (RFC 3550 §6.4.1)."""

    ssrc: int
    ntp_timestamp: int
    "64 bits: seconds since 1900, in units of 2^-32 s."
    rtp_timestamp: int
    "The same moment in units of the clock rate."
    packet_count: int
    octet_count: int
    reports: Sequence[ReportBlock] = ()

    def serialize(self) -> bytes:
        """The packet. Counts go modulo 2^32, as their fields do."""
        body = _SENDER_INFO.pack(
            self.ssrc,
            self.ntp_timestamp,
            self.rtp_timestamp,
            self.packet_count & 0xFFFFFFFF,
            self.octet_count & 0xFFFFFFFF,
        )
        return _packet(SENDER_REPORT, len(self.reports), body + _blocks(self.reports))


@dataclass(slots=True)
class ReceiverReport:
    """A receiver report (RFC 3550 §6.4.2)."""

    ssrc: int
    reports: Sequence[ReportBlock] = ()

    def serialize(self) -> bytes:
        """The packet."""
        return _packet(
            RECEIVER_REPORT, len(self.reports), self.ssrc.to_bytes(4, "big") + _blocks(self.reports)
        )


@dataclass(slots=True)
class SourceDescription:
    """The canonical names of sources (RFC 3550 §6.5.1). Other items are not read, and none is written."""

    cnames: dict[int, str]
    "By SSRC."

    def serialize(self) -> bytes:
        """The packet.

        :raises ValueError: when a name is longer than 255 bytes, or there are more than 31.
        """
        chunks = []
        for ssrc, cname in self.cnames.items():
            name = cname.encode()
            if len(name) > 255:
                raise ValueError("a canonical name is longer than 255 bytes")
            chunk = ssrc.to_bytes(4, "big") + bytes((_CNAME, len(name))) + name
            # An item of type 0 ends the chunk, and then it goes on to the next 32 bits.
            chunks.append(chunk + bytes(4 - len(chunk) % 4))
        return _packet(SOURCE_DESCRIPTION, len(chunks), b"".join(chunks))


@dataclass(slots=True)
class Goodbye:
    """Sources that have ended (RFC 3550 §6.6)."""

    ssrcs: Sequence[int]

    def serialize(self) -> bytes:
        """The packet."""
        return _packet(GOODBYE, len(self.ssrcs), struct.pack(f"!{len(self.ssrcs)}I", *self.ssrcs))


@dataclass(slots=True)
class Nack:
    """A generic NACK: packets that have not come (RFC 4585 §6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    sequence_numbers: Sequence[int]
    "As the packets bear them, 16 bits each."

    def serialize(self) -> bytes:
        """The packet. It is shortest when the numbers are in order."""
        entries: list[tuple[int, int]] = []
        for number in self.sequence_numbers:
            if entries:
                first, following = entries[-1]
                step = (number - first) & 0xFFFF
                if step <= 16:
                    entries[-1] = first, following | (1 << step >> 1)
                    continue
            entries.append((number, 0))
        body = b"".join(_PAIR.pack(first, following & 0xFFFF) for first, following in entries)
        return _feedback(TRANSPORT_FEEDBACK, GENERIC_NACK, self.sender_ssrc, self.media_ssrc, body)


@dataclass(slots=True)
class PictureLossIndication:
    """A picture cannot be decoded: a keyframe is wanted (RFC 4585 §6.3.1)."""

    sender_ssrc: int
    media_ssrc: int

    def serialize(self) -> bytes:
        """The packet."""
        return _feedback(PAYLOAD_FEEDBACK, PICTURE_LOSS, self.sender_ssrc, self.media_ssrc, b"")


@dataclass(slots=True)
class FullIntraRequest:
    """A keyframe is wanted of each source named (RFC 5104 §4.3.1)."""

    sender_ssrc: int
    entries: Sequence[tuple[int, int]]
    "The SSRC of a source, and the number of the request, modulo 256: the same number is the same request again."
    media_ssrc: int = 0
    "To be 0; there are senders that name the source here."

    def serialize(self) -> bytes:
        """The packet."""
        body = b"".join(_FIR_ENTRY.pack(ssrc, number) for ssrc, number in self.entries)
        return _feedback(PAYLOAD_FEEDBACK, FULL_INTRA, self.sender_ssrc, self.media_ssrc, body)


@dataclass(slots=True)
class Remb:
    """How much the path to a receiver can carry, by its own estimate (draft-alvestrand-rmcat-remb-03 §2.2)."""

    sender_ssrc: int
    bitrate: int
    "For all of the sources together, in bits per second. 18 bits of it are told."
    ssrcs: Sequence[int]

    def serialize(self) -> bytes:
        """The packet."""
        exponent = max(0, self.bitrate.bit_length() - _MANTISSA_BITS)
        rate = exponent << _MANTISSA_BITS | self.bitrate >> exponent
        body = _REMB + (len(self.ssrcs) << 24 | rate).to_bytes(4, "big")
        body += struct.pack(f"!{len(self.ssrcs)}I", *self.ssrcs)
        return _feedback(PAYLOAD_FEEDBACK, APPLICATION_LAYER, self.sender_ssrc, 0, body)


@dataclass(slots=True)
class TransportFeedback:
    """When packets with transport-wide sequence numbers came (draft-holmer-rmcat-transport-wide-cc-extensions-01)."""

    sender_ssrc: int
    media_ssrc: int
    base: int
    "The transport-wide sequence number of the first packet spoken of."
    reference_time: int
    "In units of 64 ms of the receiver's clock; 24 bits, signed."
    count: int
    "Which feedback it is, modulo 256."
    deltas: Sequence[int | None]
    """For each number from ``base`` on: when it came, in units of 250 µs after the one received before it in this
    list, or after ``reference_time``; ``None`` when it did not come. 16 bits, signed."""

    def arrivals(self) -> list[float | None]:
        """The same in seconds of the receiver's clock."""
        time = self.reference_time * REFERENCE_UNIT
        arrivals: list[float | None] = []
        for delta in self.deltas:
            if delta is not None:
                time += delta * DELTA_UNIT
            arrivals.append(None if delta is None else time)
        return arrivals

    def serialize(self) -> bytes:
        """The packet.

        :raises ValueError: when a difference does not fit its 16 bits.
        """
        body = bytearray(
            _STATUSES.pack(
                self.base, len(self.deltas), (self.reference_time & 0xFFFFFF) << 8 | self.count & 0xFF
            )
        )
        symbols = bytes(0 if d is None else 1 if 0 <= d <= 0xFF else 2 for d in self.deltas)
        _write_chunks(symbols, body)
        for delta in self.deltas:
            if delta is None:
                continue
            if not -0x8000 <= delta <= 0x7FFF:
                raise ValueError("too long a time between two packets")
            body += bytes((delta,)) if 0 <= delta <= 0xFF else (delta & 0xFFFF).to_bytes(2, "big")
        return _feedback(TRANSPORT_FEEDBACK, TRANSPORT_WIDE, self.sender_ssrc, self.media_ssrc, bytes(body))


@dataclass(slots=True)
class UnknownPacket:
    """An RTCP packet of a kind that is not read here."""

    packet_type: int
    format: int
    "Its format, subtype or count: the low five bits of the first byte."
    body: bytes
    "What follows the header, without padding."


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | Nack
    | PictureLossIndication
    | FullIntraRequest
    | Remb
    | TransportFeedback
    | UnknownPacket
)


# Reading


def split(data: bytes) -> list[bytes]:
    """Cut a datagram into RTCP packets, each with its header.

    :raises RtcpError: when a header or what it announces does not fit, or is not of version 2.
    """
    packets = []
    position = 0
    while position < len(data):
        if position + _HEADER.size > len(data):
            raise RtcpError("an RTCP header is truncated")
        first, _, words = _HEADER.unpack_from(data, position)
        end = position + 4 * (words + 1)
        if first >> 6 != 2:
            raise RtcpError("not of RTCP version 2")
        if end > len(data):
            raise RtcpError("an RTCP packet is truncated")
        packets.append(data[position:end])
        position = end
    return packets


def is_transport_feedback(packet: bytes) -> bool:
    """Whether a packet, as :func:`split` gives it, is transport-wide feedback: the only kind of which a few bytes can
    speak of thousands of packets.
    """
    return packet[1] == TRANSPORT_FEEDBACK and packet[0] & 0x1F == TRANSPORT_WIDE


def parse(data: bytes) -> list[RtcpPacket]:
    """Read a datagram: compound, or of reduced size (RFC 5506).

    Who wants to keep what is good of a datagram with a broken packet in it cuts it first: :func:`split`.

    :raises RtcpError: when it is no sequence of RTCP packets, or one of them is malformed.
    """
    return [parse_packet(packet) for packet in split(data)]


def parse_packet(packet: bytes) -> RtcpPacket:
    """Read one packet, as :func:`split` gives it.

    :raises RtcpError: when it is malformed.
    """
    first, packet_type, _ = _HEADER.unpack_from(packet)
    body = packet[_HEADER.size :]
    if first & 0x20:
        padding = body[-1] if body else 0
        if not 0 < padding <= len(body):
            raise RtcpError("the padding is longer than the packet")
        body = body[:-padding]
    reader = _READERS.get(packet_type)
    if reader is None:
        return UnknownPacket(packet_type, first & 0x1F, body)
    try:
        return reader(first & 0x1F, body)
    except (struct.error, IndexError) as error:
        raise RtcpError(f"an RTCP packet of type {packet_type} is too short") from error


def _read_blocks(count: int, body: bytes, position: int) -> list[ReportBlock]:
    blocks = []
    for start in range(position, position + count * _REPORT_BLOCK.size, _REPORT_BLOCK.size):
        ssrc, lost, highest, jitter, last, delay = _REPORT_BLOCK.unpack_from(body, start)
        signed = (lost & 0xFFFFFF ^ 0x800000) - 0x800000
        blocks.append(ReportBlock(ssrc, lost >> 24, signed, highest, jitter, last, delay))
    return blocks


def _read_sender_report(count: int, body: bytes) -> RtcpPacket:
    ssrc, ntp_timestamp, rtp_timestamp, packets, octets = _SENDER_INFO.unpack_from(body)
    reports = _read_blocks(count, body, _SENDER_INFO.size)
    return SenderReport(ssrc, ntp_timestamp, rtp_timestamp, packets, octets, reports)


def _read_receiver_report(count: int, body: bytes) -> RtcpPacket:
    (ssrc,) = struct.unpack_from("!I", body)
    return ReceiverReport(ssrc, _read_blocks(count, body, 4))


def _read_source_description(count: int, body: bytes) -> RtcpPacket:
    cnames: dict[int, str] = {}
    position = 0
    for _ in range(count):
        (ssrc,) = struct.unpack_from("!I", body, position)
        position += 4
        while kind := body[position]:
            end = position + 2 + body[position + 1]
            if end > len(body):
                raise RtcpError("an item of a source description is truncated")
            if kind == _CNAME:
                cnames[ssrc] = body[position + 2 : end].decode("utf-8", "replace")
            position = end
        position += 4 - position % 4
    return SourceDescription(cnames)


def _read_goodbye(count: int, body: bytes) -> RtcpPacket:
    return Goodbye(list(struct.unpack_from(f"!{count}I", body)))


def _read_transport_feedback(kind: int, body: bytes) -> RtcpPacket:
    sender, media = _TWO_SSRCS.unpack_from(body)
    if kind == GENERIC_NACK:
        numbers: list[int] = []
        for position in range(8, len(body) - 3, 4):
            first, following = _PAIR.unpack_from(body, position)
            numbers.append(first)
            while following:
                lowest = following & -following
                numbers.append((first + lowest.bit_length()) & 0xFFFF)
                following ^= lowest
        return Nack(sender, media, numbers)
    if kind == TRANSPORT_WIDE:
        return _read_arrivals(sender, media, body)
    return UnknownPacket(TRANSPORT_FEEDBACK, kind, body)


def _read_payload_feedback(kind: int, body: bytes) -> RtcpPacket:
    sender, media = _TWO_SSRCS.unpack_from(body)
    if kind == PICTURE_LOSS:
        return PictureLossIndication(sender, media)
    if kind == FULL_INTRA:
        entries = [_FIR_ENTRY.unpack_from(body, position) for position in range(8, len(body) - 7, 8)]
        return FullIntraRequest(sender, [(ssrc, number) for ssrc, number in entries], media)
    if kind == APPLICATION_LAYER and body[8:12] == _REMB:
        (word,) = struct.unpack_from("!I", body, 12)
        bitrate = (word & 0x3FFFF) << (word >> _MANTISSA_BITS & 0x3F)
        return Remb(sender, bitrate, list(struct.unpack_from(f"!{word >> 24}I", body, 16)))
    return UnknownPacket(PAYLOAD_FEEDBACK, kind, body)


_READERS: dict[int, Callable[[int, bytes], RtcpPacket]] = {
    SENDER_REPORT: _read_sender_report,
    RECEIVER_REPORT: _read_receiver_report,
    SOURCE_DESCRIPTION: _read_source_description,
    GOODBYE: _read_goodbye,
    TRANSPORT_FEEDBACK: _read_transport_feedback,
    PAYLOAD_FEEDBACK: _read_payload_feedback,
}


# Writing


def _packet(packet_type: int, count: int, body: bytes) -> bytes:
    if count > MAXIMUM_COUNT:
        raise ValueError(f"an RTCP packet has no room for {count} of these")
    return _HEADER.pack(0x80 | count, packet_type, len(body) // 4) + body


def _blocks(reports: Sequence[ReportBlock]) -> bytes:
    return b"".join([report.serialize() for report in reports])


def _feedback(packet_type: int, kind: int, sender: int, media: int, information: bytes) -> bytes:
    """A feedback packet, padded to 32 bits if need be (RFC 4585 §6.1)."""
    if padding := -len(information) % 4:
        information += bytes(padding - 1) + bytes((padding,))
        kind |= 0x20
    words = 2 + len(information) // 4
    return _HEADER.pack(0x80 | kind, packet_type, words) + _TWO_SSRCS.pack(sender, media) + information


# The chunks of transport-wide feedback: runs of one symbol, and vectors of 14 short or 7 long symbols (§3.1.1 to
# §3.1.4 of the draft). Symbols: 0 not received, 1 with a difference of one byte, 2 of two bytes.


def _write_chunks(symbols: bytes, body: bytearray) -> None:
    position = 0
    while position < len(symbols):
        symbol = symbols[position]
        end = position
        while end < len(symbols) and symbols[end] == symbol and end - position < 0x1FFF:
            end += 1
        near = symbols[position : position + 14]
        size = 7 if 2 in near else 14
        if end - position >= size or end == len(symbols):
            chunk = symbol << 13 | end - position
            position = end
        else:
            chunk = 0xC000 if size == 7 else 0x8000
            width = 14 // size
            for place, symbol in enumerate(near[:size]):
                chunk |= symbol << 14 - width * (place + 1)
            position += size
        body += chunk.to_bytes(2, "big")


def _read_arrivals(sender: int, media: int, body: bytes) -> TransportFeedback:
    base, count, reference = _STATUSES.unpack_from(body, 8)
    if count > MAXIMUM_STATUSES:
        raise RtcpError("transport-wide feedback on too many packets")
    symbols: list[int] = []
    position = 16
    while len(symbols) < count:
        (chunk,) = struct.unpack_from("!H", body, position)
        position += 2
        if chunk < 0x8000:
            symbols += [chunk >> 13] * min(chunk & 0x1FFF, count - len(symbols))
            if not chunk & 0x1FFF:
                raise RtcpError("a run of no packets")
        elif chunk < 0xC000:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
        else:
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
    deltas: list[int | None] = []
    for symbol in symbols[:count]:
        if symbol == 0:
            deltas.append(None)
        elif symbol == 1:
            deltas.append(body[position])
            position += 1
        elif symbol == 2:
            (delta,) = struct.unpack_from("!h", body, position)
            deltas.append(delta)
            position += 2
        else:
            raise RtcpError("a reserved symbol in transport-wide feedback")
    signed = (reference >> 8 ^ 0x800000) - 0x800000
    return TransportFeedback(sender, media, base, signed, reference & 0xFF, deltas)
