"""The uncompressed header of a VP9 frame (VP9 specification §6.2), changed so that the frame is not shown."""

from mediapeer.rtp.payload.bits import BitReader
from mediapeer.rtp.payload.errors import PayloadError

#: A tile is at least 256 and at most 4096 pixels wide (§7.2.13), in superblocks of 64.
_LEAST_TILE, _LARGEST_TILE = 4, 64
#: The features of a segment: how many bits each has, and whether a sign (§6.2.11).
_FEATURES = ((8, True), (6, True), (2, False), (0, False))
_SEGMENTS = 8
#: How much of a frame is looked at, in bytes. No header is as long.
_MAXIMUM_LENGTH = 160


def hide(frame: bytes, width: int) -> bytes:
    """Make a frame one that is decoded and not shown.

    The header of a frame that is predicted from others is longer by a bit then (intra_only), which may come out of
    what fills its last byte up.

    The frame that is decoded next must have another size: of one that has the same, motion is predicted by whether
    the frame before was shown (§7.2, LastShowFrame).

    :param width: of the picture in pixels, for a frame that does not say it.
    :raises PayloadError: when that is not a header.
    """
    head = frame[:_MAXIMUM_LENGTH]
    reader = _Reader(head)
    if reader.bits(2) != 2:
        raise PayloadError("a VP9 frame without its marker")
    if (reader.bits(1) | reader.bits(1) << 1) == 3:
        reader.flag()
    if reader.flag():  # show_existing_frame
        raise PayloadError("a VP9 layer that shows another frame")
    is_predicted = reader.flag()
    shown_at = reader.position
    if not reader.flag():
        return frame
    if not is_predicted:
        at = shown_at // 8
        return frame[:at] + bytes([frame[at] & ~(0x80 >> shown_at % 8)]) + frame[at + 1 :]
    insert_at = shown_at + 2  # after error_resilient_mode
    _skip_predicted(reader, width)
    end = reader.position
    length = (end + 7) // 8
    bits = int.from_bytes(head[:length], "big") >> 8 * length - end
    below = end - insert_at
    upper, lower = bits >> below, bits & (1 << below) - 1
    upper &= ~(1 << insert_at - 1 - shown_at)
    bits = upper << below + 1 | lower  # with intra_only, which is 0
    new_length = (end + 8) // 8
    header = (bits << 8 * new_length - end - 1).to_bytes(new_length, "big")
    return header + frame[length:]


class _Reader(BitReader):
    """Knows where it is."""

    @property
    def position(self) -> int:
        """How many bits have been read."""
        return self._position


def _skip_predicted(reader: BitReader, width: int) -> None:
    """The header of a frame that is shown and predicted, from error_resilient_mode to its end."""
    is_resilient = reader.flag()
    if not is_resilient:
        reader.bits(2)  # reset_frame_context
    reader.bits(8)  # refresh_frame_flags
    reader.bits(12)  # ref_frame_idx and ref_frame_sign_bias, of three
    if not any(reader.flag() for _ in range(3)):  # found_ref
        width = reader.bits(16) + 1
        reader.bits(16)
    if reader.flag():  # render_and_frame_size_different
        reader.bits(32)
    reader.flag()  # allow_high_precision_mv
    if not reader.flag():  # is_filter_switchable
        reader.bits(2)
    if not is_resilient:
        reader.bits(2)  # refresh_frame_context, frame_parallel_decoding_mode
    reader.bits(2)  # frame_context_idx
    _skip_loop_filter(reader)
    reader.bits(8)  # base_q_idx
    for _ in range(3):
        if reader.flag():
            reader.bits(5)
    if reader.flag():
        _skip_segmentation(reader)
    _skip_tiles(reader, width)
    if not reader.bits(16):  # header_size_in_bytes
        raise PayloadError("a VP9 frame without its compressed header")


def _skip_loop_filter(reader: BitReader) -> None:
    """§6.2.8."""
    reader.bits(9)
    if reader.flag() and reader.flag():
        for _ in range(6):
            if reader.flag():
                reader.bits(7)


def _skip_segmentation(reader: BitReader) -> None:
    """§6.2.11, when it is enabled."""
    if reader.flag():  # update_map
        for _ in range(7):
            if reader.flag():
                reader.bits(8)
        if reader.flag():  # temporal_update
            for _ in range(3):
                if reader.flag():
                    reader.bits(8)
    if reader.flag():  # update_data
        reader.flag()
        for _ in range(_SEGMENTS):
            for count, is_signed in _FEATURES:
                if reader.flag():
                    reader.bits(count + is_signed)


def _skip_tiles(reader: BitReader, width: int) -> None:
    """§6.2.13 and §6.2.14."""
    columns = (width + 63) // 64
    least = 0
    while _LARGEST_TILE << least < columns:
        least += 1
    most = 1
    while columns >> most >= _LEAST_TILE:
        most += 1
    most -= 1
    while least < most and reader.flag():
        least += 1
    if reader.flag():
        reader.flag()
