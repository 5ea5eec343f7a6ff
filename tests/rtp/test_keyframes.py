"""Where a keyframe begins, by codec."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp.keyframes import begins_keyframe


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("vp8", "10 00", True),
        ("vp8", "10 01", False),
        ("vp8", "00 00", False),  # not the start of a partition
        ("vp8", "11 00", False),  # the second partition
        ("vp8", "90 80 05 00", True),
        ("vp8", "90 80 85 01 00", True),
        ("vp8", "90 e0 85 01 07 20 00", True),
        ("vp8", "90 e0 85 01 07 20 01", False),
        ("vp8", "90 40 07 00", True),  # without a picture ID
        ("vp8", "90 10 05 01 00", False),
        ("vp9", "08 00", True),
        ("vp9", "48 00", False),
        ("vp9", "a8 05 00", True),
        ("vp9", "a8 05 02", False),  # an upper spatial layer
        ("vp9", "88 05 0e", True),  # without layers
        ("vp9", "28 00 07", True),  # without a picture ID
        ("vp9", "28 02 07", False),
        ("vp9", "a0 05 00", False),  # not the beginning of a frame
        ("h264", "65 88", True),
        ("h264", "67 42", True),
        ("h264", "61 9a", False),
        ("h264", "78 00 02 09 f0 00 02 67 42", True),
        ("h264", "78 00 02 61 9a 00 02 61 9a", False),
        ("h264", "7c 85 88", True),
        ("h264", "7c 05 88", False),  # not the first fragment
        ("h264", "7c 81 88", False),
        ("h265", "26 01", True),
        ("h265", "02 01", False),
        ("h265", "60 01 00 02 40 01", True),
        ("h265", "60 01 00 03 46 01 10 00 03 40 01 0c", True),  # behind a delimiter
        ("h265", "60 01 00 03 46 01 10 00 03 02 01 80", False),
        ("h265", "62 01 93", True),
        ("h265", "62 01 13", False),
        ("h265", "62 01 81", False),
        ("av1", "18", True),
        ("av1", "10", False),
    ],
)
def test_a_keyframe_is_known_by_its_first_bytes(codec: str, payload: str, expected: bool) -> None:
    assert begins_keyframe(codec, bytes.fromhex(payload)) is expected


def test_of_other_codecs_nothing_is_known() -> None:
    assert begins_keyframe("opus", b"\x00") is None


@given(st.sampled_from(["vp8", "vp9", "h264", "h265", "av1"]), st.binary(max_size=12))
def test_broken_payloads_begin_nothing_and_raise_nothing(codec: str, payload: bytes) -> None:
    for length in range(len(payload) + 1):
        assert begins_keyframe(codec, payload[:length]) in (True, False)
