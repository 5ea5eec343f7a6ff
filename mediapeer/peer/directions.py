"""Directions of media, and what can be done with them (RFC 3264 §5.1, RFC 8866 §6.7)."""

DIRECTIONS = ("inactive", "recvonly", "sendonly", "sendrecv")


def make_direction(sends: bool, receives: bool) -> str:
    """The direction's name."""
    return DIRECTIONS[sends << 1 | receives]


def is_sending(direction: str | None) -> bool:
    """Whether the direction has us, or whoever it belongs to, send."""
    return direction in ("sendonly", "sendrecv")


def is_receiving(direction: str | None) -> bool:
    """Whether the direction has us, or whoever it belongs to, receive."""
    return direction in ("recvonly", "sendrecv")


def reverse(direction: str) -> str:
    """The direction as the other side sees it."""
    return make_direction(is_receiving(direction), is_sending(direction))


def intersect(first: str, second: str) -> str:
    """What both directions allow (RFC 3264 §6.1)."""
    return make_direction(
        is_sending(first) and is_sending(second), is_receiving(first) and is_receiving(second)
    )
