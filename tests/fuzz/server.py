"""A server, and what may come to it in each of its states. See `datagrams.py`."""

from collections.abc import Iterable

from mediapeer.dtls import Role
from tests.fuzz.datagrams import MAXIMUM_LENGTH, attack, mutate
from tests.fuzz.stories import programs

__all__ = ["MAXIMUM_LENGTH", "mutate", "run", "seeds"]


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    attack(Role.SERVER, data)


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""
    return programs(Role.SERVER)
