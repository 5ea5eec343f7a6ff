"""Whether a payload begins a picture that needs no other (a keyframe)."""

from collections.abc import Callable, Iterator, Mapping


def begins_keyframe(codec: str, payload: bytes) -> bool | None:
    """Whether ``payload`` is the first of a keyframe; ``None`` for codecs that are not known here.

    A broken payload begins none.

    :param codec: the codec's name in lower case.
    """
    reader = _READERS.get(codec)
    if reader is None:
        return None
    try:
        return reader(payload)
    except IndexError:
        return False


def _vp8(payload: bytes) -> bool:
    """RFC 7741 §4.2 and §4.3."""
    if payload[0] & 0x17 != 0x10:  # S set, PID 0
        return False
    position = 1
    if payload[0] & 0x80:
        bits = payload[1]
        position = 2
        if bits & 0x80:
            position += 2 if payload[position] & 0x80 else 1
        position += bool(bits & 0x40) + bool(bits & 0x30)
    return not payload[position] & 0x01


def _vp9(payload: bytes) -> bool:
    """RFC 9628 §4.2: the beginning of a frame that is not predicted from another picture."""
    if payload[0] & 0x48 != 0x08:
        return False
    position = 1
    if payload[0] & 0x80:
        position += 2 if payload[position] & 0x80 else 1
    # With layers: of the lowest spatial layer.
    return not payload[0] & 0x20 or not payload[position] & 0x0E


def _h264(payload: bytes) -> bool:
    """RFC 6184 §5.6 to §5.8: an IDR picture, or the parameter sets before it."""
    kind = payload[0] & 0x1F
    if kind == 24:  # STAP-A
        return any(first & 0x1F in (5, 7) for first in _firsts(payload, 1))
    if kind == 28:  # FU-A
        return bool(payload[1] & 0x80) and payload[1] & 0x1F in (5, 7)
    return kind in (5, 7)


def _h265(payload: bytes) -> bool:
    """RFC 7798 §4.4: a picture of random access, or the parameter sets before it."""
    starts = {*range(16, 22), 32, 33, 34}
    kind = payload[0] >> 1 & 0x3F
    if kind == 48:  # an aggregation packet
        return any(first >> 1 & 0x3F in starts for first in _firsts(payload, 2))
    if kind == 49:  # a fragmentation unit
        return bool(payload[2] & 0x80) and payload[2] & 0x3F in starts
    return kind in starts


def _firsts(payload: bytes, position: int) -> Iterator[int]:
    """The first bytes of the NAL units in an aggregate, which begin at ``position``, each behind its length."""
    while position + 2 < len(payload):
        yield payload[position + 2]
        position += 2 + int.from_bytes(payload[position : position + 2], "big")


def _av1(payload: bytes) -> bool:
    """The AV1 RTP specification §4.4: the first packet of a coded video sequence."""
    return bool(payload[0] & 0x08)


_READERS: Mapping[str, Callable[[bytes], bool]] = {
    "vp8": _vp8,
    "vp9": _vp9,
    "h264": _h264,
    "h265": _h265,
    "av1": _av1,
}
