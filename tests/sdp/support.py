"""Descriptions to test with."""

import pathlib

from mediapeer.sdp import SessionDescription

#: Offers of Chromium 156 and Firefox 153, what aiortc 1.16 offers and answers them, and what others say.
VECTORS = sorted((pathlib.Path(__file__).parent / "vectors").glob("*.sdp"))


def vector_text(name: str) -> str:
    """The text of a description in ``vectors``."""
    return next(path for path in VECTORS if path.stem == name).read_bytes().decode()


def vector(name: str) -> SessionDescription:
    """A description in ``vectors``."""
    return SessionDescription.parse(vector_text(name))


def description(*section: str, session: tuple[str, ...] = ()) -> SessionDescription:
    """A description with these lines in its session part and in its only media section."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", *session, *section]
    return SessionDescription.parse("\r\n".join(lines) + "\r\n")
