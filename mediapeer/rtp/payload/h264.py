"""H.264 (RFC 6184), in the modes 0 and 1: single NAL units, STAP-A, FU-A."""

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

_SLICE, _PARTITION_A, _IDR, _SEI, _SPS, _PPS, _DELIMITER = 1, 2, 5, 6, 7, 8, 9
_STAP_A, _FU_A = 24, 28
#: Reserved: to be ignored (RFC 6184 §5.2, Table 1).
_IGNORED = frozenset({0, 30, 31})
#: What stands before the first slice of an access unit (H.264 §7.4.1.2.3).
_BEFORE_SLICES = frozenset({_SEI, _SPS, _PPS, _DELIMITER, 14, 15})
_SLICES = frozenset({_SLICE, _PARTITION_A, _IDR})
#: Profiles whose parameter sets tell the chroma format (H.264 §7.3.2.1.1).
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAXIMUM_SIZE = 1 << 15


class H264Depacketizer:
    """Makes access units with start codes.

    A keyframe is an IDR picture. Where parameter sets do not come with it, those that came last are put before it,
    so that a reader may begin with any keyframe; some senders tell them once only.
    """

    def __init__(self) -> None:
        self._sets = ParameterSets((_SPS, _PPS), _kind)
        self._sps = b""
        self._size: tuple[int, int] | None = None

    def begins_frame(self, payload: bytes) -> bool:
        """What stands before slices, or the slice with the first macroblock: ``first_mb_in_slice``, whose first
        bit says whether it is 0 (H.264 §7.3.3), alone, first in a STAP-A or in the first of the FU-As.
        """
        if not payload:
            return False
        kind = payload[0] & 0x1F
        if kind == _STAP_A:
            return _begins(payload[3] & 0x1F, payload[4:5]) if len(payload) > 3 else False
        if kind == _FU_A:
            return len(payload) > 2 and payload[1] & 0x80 != 0 and _begins(payload[1] & 0x1F, payload[2:3])
        return _begins(kind, payload[1:2])

    def depacketize(self, payloads: Sequence[bytes]) -> Unit:
        """See :meth:`Depacketizer.depacketize`. The size is that of the sequence parameter set, as cropped."""
        units = _units(payloads)
        is_keyframe = False
        sets = 0
        for unit in units:
            kind = unit[0] & 0x1F
            if kind == _IDR:
                is_keyframe = True
            elif kind in (_SPS, _PPS) and sets < MAXIMUM_READ:
                sets += 1
                if kind == _SPS:
                    self._learn_sequence(unit)
                else:
                    # pic_parameter_set_id, of which the first bytes tell enough.
                    self._sets.learn(_PPS, _number(unit[1:]), unit)
        if not is_keyframe:
            return Unit(joined(units), False)
        missing = self._sets.missing_from(units)
        if missing:
            _insert(units, missing)
        width, height = self._size or (None, None)
        return Unit(joined(units), True, width, height)

    def _learn_sequence(self, unit: bytes) -> None:
        if unit == self._sps:
            return
        self._sps = unit
        self._sets.learn(_SPS, _number(unit[4:]), unit)
        try:
            self._size = sequence_size(unit)
        except PayloadError:
            self._size = None


def _kind(unit: bytes) -> int:
    return unit[0] & 0x1F


def _begins(kind: int, rest: bytes) -> bool:
    if kind in _SLICES:
        return bool(rest) and rest[0] & 0x80 != 0
    return kind in _BEFORE_SLICES


def _number(data: bytes) -> bytes:
    """What tells parameter sets apart: their identifier."""
    try:
        return b"%d" % BitReader(data[:8]).ue()
    except PayloadError:
        return b""


def _insert(units: list[bytes], missing: list[bytes]) -> None:
    """Put parameter sets where they belong: sequence before picture, and the delimiter first."""
    sequences = [unit for unit in missing if _kind(unit) == _SPS]
    pictures = [unit for unit in missing if _kind(unit) == _PPS]
    place = int(_kind(units[0]) == _DELIMITER)
    units[place:place] = sequences
    if pictures:
        last = max((i for i, unit in enumerate(units) if _kind(unit) == _SPS), default=place - 1)
        units[last + 1 : last + 1] = pictures


def _units(payloads: Sequence[bytes]) -> list[bytes]:
    """The NAL units in payloads (RFC 6184 §5.6 to §5.8)."""
    units = UnitCollector(_kind, range(1, _STAP_A), header_length=1, shortest=1)
    for payload in payloads:
        kind = payload[0] & 0x1F if payload else 0
        if kind == _FU_A:
            flags = payload[1] if len(payload) > 1 else 0
            units.add_fragment(bytes([payload[0] & 0xE0 | flags & 0x1F]), flags, payload[2:])
        elif 0 < kind < _STAP_A:
            units.add(payload)
        elif kind == _STAP_A:
            units.add_aggregate(payload)
        elif kind in _IGNORED:
            units.expect_whole()
        else:
            raise PayloadError(f"an H.264 payload of type {kind}")
    return units.finish()


def sequence_size(unit: bytes) -> tuple[int, int]:
    """Width and height that a sequence parameter set tells, as cropped (H.264 §7.3.2.1.1).

    :raises PayloadError: when it is broken, or the size makes no sense.
    """
    reader = BitReader(unescape(unit)[1:])
    profile = reader.bits(8)
    reader.bits(16)
    reader.ue()
    chroma_format = 1
    if profile in _HIGH_PROFILES:
        chroma_format = reader.ue()
        if chroma_format == 3:
            reader.flag()
        reader.ue()
        reader.ue()
        reader.flag()
        if reader.flag():
            _skip_scaling_lists(reader, 12 if chroma_format == 3 else 8)
    reader.ue()
    _skip_order_counts(reader)
    reader.ue()
    reader.flag()
    width, height = 16 * (reader.ue() + 1), 16 * (reader.ue() + 1)
    fields = 1
    if not reader.flag():  # frame_mbs_only_flag
        fields = 2
        reader.flag()
    reader.flag()
    height *= fields
    if reader.flag():
        left, right, top, bottom = reader.ue(), reader.ue(), reader.ue(), reader.ue()
        across = 2 if chroma_format in (1, 2) else 1
        down = 2 if chroma_format == 1 else 1
        width -= across * (left + right)
        height -= down * fields * (top + bottom)
    if not (0 < width <= _MAXIMUM_SIZE and 0 < height <= _MAXIMUM_SIZE):
        raise PayloadError(f"pictures of {width} × {height}")
    return width, height


def _skip_scaling_lists(reader: BitReader, count: int) -> None:
    """H.264 §7.3.2.1.1.1."""
    for number in range(count):
        if not reader.flag():
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + reader.se()) % 256
            last = following or last


def _skip_order_counts(reader: BitReader) -> None:
    kind = reader.ue()
    if kind == 0:
        reader.ue()
    elif kind == 1:
        reader.flag()
        reader.se()
        reader.se()
        count = reader.ue()
        if count > 255:
            raise PayloadError(f"{count} reference frames in a cycle")
        for _ in range(count):
            reader.se()


class H264Packetizer:
    """Divides access units, with start codes or with lengths.

    :param mode: 1 to put small NAL units together and divide large ones; 0 for one NAL unit a payload.
    """

    def __init__(self, mode: int = 1) -> None:
        self._mode = mode

    def packetize(self, data: bytes, *, is_keyframe: bool, maximum: int) -> list[bytes]:
        """See :meth:`Packetizer.packetize`. In mode 0 no NAL unit may be longer than ``maximum``."""
        units = split_units(data)
        if self._mode == 0:
            if longest := max((len(unit) for unit in units if len(unit) > maximum), default=0):
                raise PayloadError(f"a NAL unit of {longest} bytes, when {maximum} are the most in mode 0")
            return units
        payloads: list[bytes] = []
        for group in aggregated(units, maximum, 1):
            if len(group) > 1:
                # F is the disjunction of all, NRI the maximum (RFC 6184 §5.7).
                importance = max(unit[0] & 0x60 for unit in group)
                forbidden = max(unit[0] & 0x80 for unit in group)
                parts = [len(unit).to_bytes(2, "big") + unit for unit in group]
                payloads.append(bytes([forbidden | importance | _STAP_A]) + b"".join(parts))
            elif len(group[0]) <= maximum:
                payloads.append(group[0])
            else:
                payloads += _fragments(group[0], maximum)
        return payloads


def _fragments(unit: bytes, maximum: int) -> list[bytes]:
    """FU-As (RFC 6184 §5.8)."""
    indicator, kind = bytes([unit[0] & 0xE0 | _FU_A]), unit[0] & 0x1F
    parts = list(pieces(unit, maximum - 2, start=1))
    last = len(parts) - 1
    return [
        indicator + bytes([kind | (0x80 if number == 0 else 0) | (0x40 if number == last else 0)]) + part
        for number, part in enumerate(parts)
    ]
