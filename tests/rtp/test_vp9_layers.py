"""Of the layers of a VP9 picture only the highest is shown, and nothing else is changed by that."""

import contextlib

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp.payload import PayloadError
from mediapeer.rtp.payload.vp9 import Vp9Depacketizer
from mediapeer.rtp.payload.vp9_header import hide

WIDTH, HEIGHT = 640, 368
#: Two layers: that of the pictures here, and one that is twice as large.
STRUCTURE = bytes([0x30, *(WIDTH.to_bytes(2, "big")), *(HEIGHT.to_bytes(2, "big")), 5, 0, 2, 0xE0])


def encoded(count: int, **options: str) -> list[bytes]:
    """Pictures of VP9. None needs to know whether the one before it was shown."""
    encoder = av.CodecContext.create("libvpx-vp9", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.bit_rate = WIDTH, HEIGHT, "yuv420p", 400_000
    encoder.options = {
        "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0",
        "error-resilient": "1", **options,
    }  # fmt: skip
    frames = []
    for number in range(count):
        picture = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for index, plane in enumerate(picture.planes):
            lines = bytes((x * 3 + number * 7 + index * 40) & 0xFF for x in range(plane.line_size))
            plane.update(lines * (plane.buffer_size // plane.line_size))
        picture.pts = number
        frames += [bytes(packet) for packet in encoder.encode(picture)]
    return frames + [bytes(packet) for packet in encoder.encode(None)]


def decoded(units: list[bytes]) -> list[bytes]:
    """What a decoder shows of them."""
    decoder = av.CodecContext.create("vp9", "r")
    pictures: list[av.VideoFrame] = []
    for data in units:
        pictures += decoder.decode(av.Packet(data))
    pictures += decoder.decode(None)
    return [bytes(picture.planes[0]) for picture in pictures]


@pytest.mark.parametrize("options", [{}, {"aq-mode": "3"}, {"tile-columns": "1"}], ids=str)
def test_only_the_highest_layer_is_shown(options: dict[str, str]) -> None:
    """Each picture and the next stand for two layers of one."""
    frames = encoded(41, **options)
    shown = decoded(frames)
    depacketizer = Vp9Depacketizer()
    units = [depacketizer.depacketize([b"\x2a\x00\x01" + STRUCTURE + frames[0]]).data]
    for lower, upper in zip(frames[1::2], frames[2::2], strict=True):
        units.append(depacketizer.depacketize([b"\x6c\x00\x01" + lower, b"\x6c\x02\x01" + upper]).data)
    assert decoded(units) == shown[::2]


def test_a_keyframe_of_a_lower_layer_is_not_shown() -> None:
    frames = encoded(2)
    shown = decoded(frames)
    unit = Vp9Depacketizer().depacketize(
        [b"\x2e\x00\x01" + STRUCTURE + frames[0], b"\x6c\x02\x01" + frames[1]]
    )
    assert unit.is_keyframe
    assert decoded([unit.data]) == shown[1:]


def test_layers_of_one_size_stay_as_they_are() -> None:
    """Motion in one may be foretold by whether the other was shown."""
    frames = encoded(2)
    same = STRUCTURE[:5] + STRUCTURE[1:5]
    payloads = [b"\x2e\x00\x01" + same + frames[0], b"\x6c\x02\x01" + frames[1]]
    assert Vp9Depacketizer().depacketize(payloads).data.startswith(b"".join(frames))


def test_what_is_not_shown_stays_as_it_is() -> None:
    for frame in encoded(4):
        hidden = hide(frame, WIDTH)
        assert hidden != frame
        assert hide(hidden, WIDTH) == hidden


def test_of_a_header_that_ends_early_nothing_is_made() -> None:
    _, frame = encoded(2)
    for length in range(12):
        with pytest.raises(PayloadError):
            hide(frame[:length], WIDTH)


@given(st.binary(max_size=200), st.integers(1, 0xFFFF))
def test_garbage_gives_the_typed_error_or_a_frame(garbage: bytes, width: int) -> None:
    frame = b"\x86" + garbage  # shown, and predicted from others
    with contextlib.suppress(PayloadError):
        assert len(hide(frame, width)) - len(frame) in (0, 1)
