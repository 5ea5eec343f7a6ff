"""AV1 (RTP Payload Format For AV1, Alliance for Open Media, version 1.0)."""

from collections.abc import Iterator, Sequence

from mediapeer.rtp.payload.base import Unit
from mediapeer.rtp.payload.errors import PayloadError
from mediapeer.rtp.payload.obu import (
    FRAME,
    FRAME_HEADER,
    MAXIMUM_UNITS,
    METADATA,
    REDUNDANT_FRAME_HEADER,
    SEQUENCE_HEADER,
    TEMPORAL_DELIMITER,
    TILE_LIST,
    Obu,
    SequenceHeader,
    is_key_frame,
    read_leb128,
    read_obu,
    read_sequence_header,
    split_obus,
    write_leb128,
)

_FIRST_KINDS = frozenset({SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, METADATA, FRAME})
#: Senders should leave them out, and receivers must (§5).
_IGNORED = frozenset({TEMPORAL_DELIMITER, TILE_LIST})
#: Each of these can have a decoder give out a picture, the last when it repeats none.
_HEADERS_OF_FRAMES = frozenset({FRAME_HEADER, FRAME, REDUNDANT_FRAME_HEADER})
#: How many frames a temporal unit may have: one is shown of each layer, and a few before it are not (AV1
#: specification §7.5). Three bytes have a picture shown once more, and a decoder makes one of 14 MB of each.
MAXIMUM_FRAMES = 8
#: How long a sequence header may be that is kept, in bytes. Those of encoders have a dozen; each keyframe gets it.
_MAXIMUM_SEQUENCE_LENGTH = 512
#: How many elements a packet may have: no picture has more tiles (AV1 specification §A.3), and each may be one.
MAXIMUM_ELEMENTS = 128
#: More elements than this in a packet cannot be told in its header (§4.4, W): each has its length then.
_MAXIMUM_COUNT = 3
#: Not less of an OBU than so many bytes is put behind another, when it does not fit whole.
_LEAST_PART = 8


class Av1Depacketizer:
    """Makes temporal units of OBUs with their sizes, without delimiters.

    A keyframe is a shown key frame with its sequence header. Where the header does not come with it, the last one is
    put before it, so that a reader may begin there.
    """

    def __init__(self) -> None:
        self._sequence_unit: Obu | None = None
        self._sequence: SequenceHeader | None = None

    def begins_frame(self, payload: bytes) -> bool:
        """A packet that does not go on with an OBU (§4.4: Z) and begins with one that can be the first of a temporal
        unit, of the lowest spatial layer. No bit says more, but for the first of a sequence (N).
        """
        if len(payload) < 2 or payload[0] & 0x80:
            return False
        try:
            position = 1 if payload[0] & 0x30 == 0x10 else read_leb128(payload, 1)[1]
        except PayloadError:
            return False
        first = payload[position : position + 2]
        if not first or first[0] >> 3 & 0x0F not in _FIRST_KINDS:
            return False
        return not (first[0] & 0x04 and len(first) > 1 and first[1] & 0x18)

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`. The size is the sequence header's."""
        units: list[Obu] = []
        frames = 0
        has_sequence = False
        is_key: bool | None = None
        spatial = temporal = None
        for element in _elements(payloads):
            unit, end = read_obu(element)
            if end != len(element):
                raise PayloadError("an OBU element with more than an OBU")
            kind = unit.kind
            if kind in _IGNORED:
                continue
            units.append(unit)
            frames += kind in _HEADERS_OF_FRAMES
            if frames > MAXIMUM_FRAMES:
                raise PayloadError("too many frames in a temporal unit")
            if kind == SEQUENCE_HEADER:
                if not has_sequence:  # others are the same, or of nobody who means well
                    self._learn_sequence(unit)
                has_sequence = True
            elif len(unit.header) > 1:
                layers = unit.header[1]
                temporal = layers >> 5
                spatial = max(spatial or 0, layers >> 3 & 0x03)
            if is_key is None and kind in (FRAME, FRAME_HEADER):
                is_key = self._is_key(unit)
        if not units:
            raise PayloadError("a temporal unit without OBUs")
        if not is_key:
            return Unit(_serialize(units), False, None, None, spatial, temporal)
        if not has_sequence:
            if self._sequence_unit is None:
                return Unit(_serialize(units), False, None, None, spatial, temporal)
            units.insert(0, self._sequence_unit)
        width, height = self._sequence[:2] if self._sequence is not None else (None, None)
        return Unit(_serialize(units), True, width, height, spatial, temporal)

    def _learn_sequence(self, unit: Obu) -> None:
        if unit == self._sequence_unit or len(unit.payload) > _MAXIMUM_SEQUENCE_LENGTH:
            return
        self._sequence_unit = unit
        self._sequence = None
        try:
            self._sequence = read_sequence_header(unit.payload)
        except PayloadError:
            # The decoder will tell; only the size is missing.
            return

    def _is_key(self, unit: Obu) -> bool:
        if self._sequence is not None and self._sequence.is_reduced_still_picture:
            return True
        return is_key_frame(unit.payload)


def _serialize(units: Sequence[Obu]) -> bytes:
    return b"".join([unit.serialize(with_size=True) for unit in units])


def _elements(payloads: Sequence[bytes]) -> Iterator[bytes]:
    """The OBU elements of packets (§4.3), with those joined that go on from one packet to the next."""
    fragments: list[bytes] = []
    count = 0
    for payload in payloads:
        if len(payload) < 2:
            raise PayloadError("an AV1 payload without OBU elements")
        elements = _split(payload)
        if bool(payload[0] & 0x80) is not bool(fragments):
            raise PayloadError("an AV1 payload that does not go on with the one before it")
        fragments.append(elements[0])
        for element in elements[1:]:
            yield b"".join(fragments)
            fragments = [element]
        if not payload[0] & 0x40:  # Y
            yield b"".join(fragments)
            fragments = []
        count += len(elements)
        if count > MAXIMUM_UNITS:
            raise PayloadError("too many OBU elements")
    if fragments:
        raise PayloadError("an OBU without its end")


def _split(payload: bytes) -> list[bytes]:
    """The elements of one packet (§4.3 and §4.4)."""
    count = payload[0] >> 4 & 0x03
    if count == 1:
        return [payload[1:]]
    elements: list[bytes] = []
    position, end = 1, len(payload)
    while position < end:
        if count and len(elements) == count - 1:
            elements.append(payload[position:])
            return elements
        length, position = read_leb128(payload, position)
        if not length or position + length > end or len(elements) >= MAXIMUM_ELEMENTS:
            raise PayloadError("a broken OBU element")
        elements.append(payload[position : position + length])
        position += length
    if count:
        raise PayloadError("fewer OBU elements than are told")
    return elements


class Av1Packetizer:
    """Divides temporal units in the low-overhead format, with sizes or without one in the last OBU."""

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """See :meth:`Packetizer.packetize`. Of a keyframe the first payload says that a sequence begins (N)."""
        units = [unit for unit in split_obus(data) if unit.kind not in _IGNORED]
        if not units:
            raise PayloadError("a temporal unit without OBUs")
        if maximum < 8:
            raise PayloadError("the maximum leaves no room for a payload")
        payloads: list[bytes] = []
        elements: list[bytes] = []
        room = maximum - 1
        is_going_on = False
        "Whether the first of the elements goes on with an OBU of the packet before."
        for unit in units:
            rest = unit.serialize(with_size=False)
            while rest:
                part = rest[: max(0, room - len(write_leb128(max(0, room))))]
                if elements and len(part) < min(len(rest), _LEAST_PART):
                    payloads.append(_payload(elements, is_going_on, False))
                    elements, room, is_going_on = [], maximum - 1, False
                    continue
                elements.append(part)
                room -= len(part) + len(write_leb128(len(part)))
                rest = rest[len(part) :]
                if rest:
                    payloads.append(_payload(elements, is_going_on, True))
                    elements, room, is_going_on = [], maximum - 1, True
        if elements:
            payloads.append(_payload(elements, is_going_on, False))
        if is_keyframe:
            payloads[0] = bytes([payloads[0][0] | 0x08]) + payloads[0][1:]
        return payloads


def _payload(elements: Sequence[bytes], is_going_on: bool, goes_on: bool) -> bytes:
    """A packet's aggregation header and elements; of the last one no length is told if there are few."""
    count = len(elements) if len(elements) <= _MAXIMUM_COUNT else 0
    parts = [bytes([0x80 * is_going_on | 0x40 * goes_on | count << 4])]
    for number, element in enumerate(elements, 1):
        if number != count:
            parts.append(write_leb128(len(element)))
        parts.append(element)
    return b"".join(parts)
