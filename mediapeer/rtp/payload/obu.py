"""Open bitstream units, which AV1 is made of (AV1 specification §5.3 to §5.9)."""

from typing import NamedTuple

from mediapeer.rtp.payload.bits import BitReader
from mediapeer.rtp.payload.errors import PayloadError

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, METADATA, FRAME = 1, 2, 3, 5, 6
REDUNDANT_FRAME_HEADER, TILE_LIST = 7, 8
_KEY_FRAME = 0
#: How many units a temporal unit may have: one for each packet and some.
MAXIMUM_UNITS = 4096


class Obu(NamedTuple):
    """A unit without its size."""

    header: bytes
    "One byte, or two with the layers."
    payload: bytes

    @property
    def kind(self) -> int:
        """Its ``obu_type``."""
        return self.header[0] >> 3 & 0x0F

    def serialize(self, *, with_size: bool) -> bytes:
        """Write it, with ``obu_has_size_field`` or without."""
        if not with_size:
            return bytes([self.header[0] & 0xFD]) + self.header[1:] + self.payload
        size = write_leb128(len(self.payload))
        return b"".join((bytes([self.header[0] | 0x02]), self.header[1:], size, self.payload))


class SequenceHeader(NamedTuple):
    """What is used of a sequence header."""

    width: int
    height: int
    is_reduced_still_picture: bool


def read_leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number and the position after it (AV1 specification §4.10.5)."""
    value = 0
    for index, byte in enumerate(data[position : position + 8]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >= 1 << 32:
                break
            return value, position + index + 1
    raise PayloadError("a broken leb128 number")


def write_leb128(value: int) -> bytes:
    """In as few bytes as it takes."""
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def read_obu(data: bytes, position: int = 0) -> tuple[Obu, int]:
    """The unit at ``position``, and the position after it: one without a size goes to the end of ``data``."""
    try:
        first = data[position]
        start = position + (2 if first & 0x04 else 1)
        header = data[position:start]
        if first & 0x80 or len(header) < start - position:
            raise PayloadError("a broken OBU header")
    except IndexError:
        raise PayloadError("an OBU without its header") from None
    if not first & 0x02:
        return Obu(header, data[start:]), len(data)
    size, start = read_leb128(data, start)
    if start + size > len(data):
        raise PayloadError("an OBU is truncated")
    return Obu(header, data[start : start + size]), start + size


def split_obus(data: bytes) -> list[Obu]:
    """The units of a temporal unit in the low-overhead format (AV1 specification §5.2)."""
    units = []
    position = 0
    while position < len(data):
        unit, position = read_obu(data, position)
        units.append(unit)
        if len(units) > MAXIMUM_UNITS:
            raise PayloadError("too many OBUs")
    return units


def is_key_frame(payload: bytes) -> bool:
    """Whether a frame header is that of a shown key frame (AV1 specification §5.9.2).

    :param payload: of a frame header's or a frame's OBU, in a sequence that is no reduced still picture.
    """
    # show_existing_frame, frame_type, show_frame
    return (
        bool(payload)
        and payload[0] & 0x80 == 0
        and payload[0] >> 5 & 0x03 == _KEY_FRAME
        and payload[0] & 0x10 != 0
    )


def read_sequence_header(payload: bytes) -> SequenceHeader:
    """Read a sequence header (AV1 specification §5.5.1).

    :raises PayloadError: when it is broken.
    """
    reader = BitReader(payload)
    reader.bits(4)  # seq_profile, still_picture
    is_reduced = reader.flag()
    if is_reduced:
        reader.bits(5)
    else:
        _skip_operating_points(reader)
    width_length, height_length = reader.bits(4) + 1, reader.bits(4) + 1
    return SequenceHeader(reader.bits(width_length) + 1, reader.bits(height_length) + 1, is_reduced)


def _skip_operating_points(reader: BitReader) -> None:
    delay_length: int | None = None
    if reader.flag():  # timing_info_present_flag
        reader.bits(64)
        if reader.flag():
            reader.ue()
        if reader.flag():  # decoder_model_info_present_flag
            delay_length = reader.bits(5) + 1
            reader.bits(42)
    has_display_delay = reader.flag()
    for _ in range(reader.bits(5) + 1):
        reader.bits(12)
        if reader.bits(5) > 7:
            reader.flag()
        if delay_length is not None and reader.flag():
            reader.bits(2 * delay_length + 1)
        if has_display_delay and reader.flag():
            reader.bits(4)
