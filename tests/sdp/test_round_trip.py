"""What is read is written again as it came."""

import pathlib

import pytest

from mediapeer.sdp import SessionDescription

VECTORS = pathlib.Path(__file__).parent / "vectors"


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.sdp")), ids=lambda path: path.stem)
def test_each_offer_comes_out_byte_for_byte(path: pathlib.Path) -> None:
    text = path.read_bytes().decode()
    assert SessionDescription.parse(text).serialize() == text
