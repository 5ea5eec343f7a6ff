"""H.265 (RFC 7798), without DONL fields: single NAL units, aggregation packets, fragmentation units."""

from collections.abc import Sequence

from mediapeer.rtp.payload.base import Unit, pieces
from mediapeer.rtp.payload.bits import BitReader
from mediapeer.rtp.payload.errors import PayloadError
from mediapeer.rtp.payload.nal import (
    MAXIMUM_READ,
    ParameterSets,
    UnitCollector,
    aggregated,
    joined,
    split_units,
    unescape,
)

_VPS, _SPS, _PPS, _DELIMITER, _PREFIX_SEI = 32, 33, 34, 35, 39
_AGGREGATION, _FRAGMENTATION = 48, 49
_BEFORE_SLICES = frozenset({_VPS, _SPS, _PPS, _DELIMITER, _PREFIX_SEI})
#: Pictures that decoding may begin with: BLA, IDR, CRA (H.265 §7.4.2.2, Table 7-1).
_RANDOM_ACCESS = frozenset(range(16, 22))
_FIRST_NO_SLICE = 32
_MAXIMUM_SIZE = 1 << 15


class H265Depacketizer:
    """Makes access units with start codes.

    A keyframe is a picture of random access. Where parameter sets do not come with it, those that came last are put
    before it, as with H.264.
    """

    def __init__(self) -> None:
        self._sets = ParameterSets((_VPS, _SPS, _PPS), _kind)
        self._sps = b""
        self._size: tuple[int, int] | None = None

    def begins_frame(self, payload: bytes) -> bool:
        """What stands before slices, or the first slice of a picture: ``first_slice_segment_in_pic_flag``, the
        first bit after the NAL unit's header, alone, first in an aggregation packet or in a fragmentation unit.
        """
        if len(payload) < 3:
            return False
        kind = payload[0] >> 1 & 0x3F
        if kind == _AGGREGATION:
            return len(payload) > 5 and _begins(payload[4] >> 1 & 0x3F, payload[6:7])
        if kind == _FRAGMENTATION:
            return payload[2] & 0x80 != 0 and _begins(payload[2] & 0x3F, payload[3:4])
        return _begins(kind, payload[2:3])

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`. The size is that of the sequence parameter set, as cropped."""
        units = _units(payloads)
        is_keyframe = False
        sets = 0
        temporal_layer: int | None = None
        for unit in units:
            kind = unit[0] >> 1 & 0x3F
            if kind < _FIRST_NO_SLICE:
                is_keyframe = is_keyframe or kind in _RANDOM_ACCESS
                temporal_layer = max(0, (unit[1] & 0x07) - 1)
            elif kind in (_VPS, _SPS, _PPS) and sets < MAXIMUM_READ:
                sets += 1
                if kind == _SPS:
                    self._learn_sequence(unit)
                else:
                    self._sets.learn(kind, _number(kind, unit), unit)
        if not is_keyframe:
            return Unit(joined(units), False, None, None, None, temporal_layer)
        if missing := self._sets.missing_from(units):
            _insert(units, missing)
        width, height = self._size or (None, None)
        return Unit(joined(units), True, width, height, None, temporal_layer)

    def _learn_sequence(self, unit: bytes) -> None:
        if unit == self._sps:
            return
        self._sps = unit
        try:
            number, self._size = sequence_size(unit)
        except PayloadError:
            number, self._size = 0, None
        self._sets.learn(_SPS, b"%d" % number, unit)


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 0x3F


def _begins(kind: int, rest: bytes) -> bool:
    if kind < _FIRST_NO_SLICE:
        return bool(rest) and rest[0] & 0x80 != 0
    return kind in _BEFORE_SLICES


def _number(kind: int, unit: bytes) -> bytes:
    """What tells the parameter sets of video and of pictures apart: the identifier that they begin with."""
    try:
        reader = BitReader(unit[2:10])
        return b"%d" % (reader.bits(4) if kind == _VPS else reader.ue())
    except PayloadError:
        return b""


def _insert(units: list[bytes], missing: list[bytes]) -> None:
    """Put parameter sets before what refers to them, and the delimiter first: VPS, SPS, PPS, the rest."""
    sets = [unit for unit in units if _VPS <= _kind(unit) <= _PPS]
    others = [unit for unit in units if not _VPS <= _kind(unit) <= _PPS]
    place = int(bool(others) and _kind(others[0]) == _DELIMITER)
    others[place:place] = sorted(missing + sets, key=_kind)
    units[:] = others


def _units(payloads: Sequence[bytes]) -> list[bytes]:
    """The NAL units in payloads (RFC 7798 §4.4)."""
    units = UnitCollector(_kind, range(_AGGREGATION), header_length=2, shortest=3)
    for payload in payloads:
        if len(payload) < 3:
            raise PayloadError("an H.265 payload that is too short")
        kind = payload[0] >> 1 & 0x3F
        if kind == _FRAGMENTATION:
            flags = payload[2]
            header = bytes([payload[0] & 0x81 | (flags & 0x3F) << 1, payload[1]])
            units.add_fragment(header, flags, payload[3:])
        elif kind < _AGGREGATION:
            units.add(payload)
        elif kind == _AGGREGATION:
            units.add_aggregate(payload)
        else:
            raise PayloadError(f"an H.265 payload of type {kind}")
    return units.finish()


def sequence_size(unit: bytes) -> tuple[int, tuple[int, int]]:
    """The number of a sequence parameter set, and the width and height that it tells (H.265 §7.3.2.2.1).

    :raises PayloadError: when it is broken, or the size makes no sense.
    """
    reader = BitReader(unescape(unit)[2:])
    reader.bits(4)
    layers = reader.bits(3)
    reader.flag()
    _skip_profile(reader, layers)
    number = reader.ue()
    chroma_format = reader.ue()
    if chroma_format == 3:
        reader.flag()
    width, height = reader.ue(), reader.ue()
    if reader.flag():
        left, right, top, bottom = reader.ue(), reader.ue(), reader.ue(), reader.ue()
        width -= (2 if chroma_format in (1, 2) else 1) * (left + right)
        height -= (2 if chroma_format == 1 else 1) * (top + bottom)
    if not (0 < width <= _MAXIMUM_SIZE and 0 < height <= _MAXIMUM_SIZE):
        raise PayloadError(f"pictures of {width} × {height}")
    return number, (width, height)


def _skip_profile(reader: BitReader, layers: int) -> None:
    """``profile_tier_level`` (H.265 §7.3.3), with so many sub-layers besides the highest."""
    reader.bits(96)
    told = [(reader.flag(), reader.flag()) for _ in range(layers)]
    if layers:
        reader.bits(2 * (8 - layers))
    for has_profile, has_level in told:
        reader.bits(88 * has_profile + 8 * has_level)


class H265Packetizer:
    """Divides access units, with start codes or with lengths."""

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """See :meth:`Packetizer.packetize`."""
        units = split_units(data)
        if any(len(unit) < 3 for unit in units):
            raise PayloadError("a NAL unit without contents")
        payloads: list[bytes] = []
        for group in aggregated(units, maximum, 2):
            if len(group) > 1:
                parts = [len(unit).to_bytes(2, "big") + unit for unit in group]
                payloads.append(_aggregation_header(group) + b"".join(parts))
            elif len(group[0]) <= maximum:
                payloads.append(group[0])
            else:
                payloads += _fragments(group[0], maximum)
        return payloads


def _aggregation_header(units: Sequence[bytes]) -> bytes:
    """F is the disjunction of all, the layer and the temporal layer are the lowest (RFC 7798 §4.4.2)."""
    forbidden = max(unit[0] & 0x80 for unit in units)
    layer = min((unit[0] & 0x01) << 5 | unit[1] >> 3 for unit in units)
    temporal = min(unit[1] & 0x07 for unit in units)
    return bytes([forbidden | _AGGREGATION << 1 | layer >> 5, (layer & 0x1F) << 3 | temporal])


def _fragments(unit: bytes, maximum: int) -> list[bytes]:
    """Fragmentation units (RFC 7798 §4.4.3)."""
    header, kind = bytes([unit[0] & 0x81 | _FRAGMENTATION << 1, unit[1]]), _kind(unit)
    parts = list(pieces(unit, maximum - 3, start=2))
    last = len(parts) - 1
    return [
        header + bytes([kind | (0x80 if number == 0 else 0) | (0x40 if number == last else 0)]) + part
        for number, part in enumerate(parts)
    ]
