"""What the targets have in common: how a violation is told, and how much an object keeps."""

import gc
import importlib
import random
import types
from collections.abc import Iterable, Iterator
from typing import Protocol


class Violation(AssertionError):
    """Something that must hold does not. The message says what."""


def require(condition: object, message: str) -> None:
    """Raise :class:`Violation` unless ``condition`` holds."""
    if not condition:
        raise Violation(message)


class Target(Protocol):
    """What each target's module has."""

    MAXIMUM_LENGTH: int
    "How long an input may be, in bytes."

    def run(self, data: bytes) -> None:
        """Try one input; whatever this raises is a finding."""

    def mutate(self, data: bytes, generator: random.Random) -> bytes:
        """Change an input in a way that means something to the target; ``data`` itself to have bytes changed."""

    def seeds(self) -> Iterable[tuple[str, bytes]]:
        """What to begin with: names and inputs, the same each time as far as the engine's own keys allow."""


#: The targets in the order that they are run, with the packages whose coverage guides the fuzzer.
TARGETS = {
    "parsers": ("mediapeer",),
    "client": ("mediapeer",),
    "server": ("mediapeer",),
    "listener": ("mediapeer",),
    "signaling": ("signaling", "mediapeer", "aiortc"),
    "media": ("mediapeer", "aiortc"),
    "negotiation": ("mediapeer",),
    "paths": ("mediapeer", "aioice"),
    "sections": ("mediapeer",),
    "payloads": ("mediapeer",),
}


def load(name: str) -> Target:
    """The target of that name."""
    target: Target = importlib.import_module(f"tests.fuzz.{name}")  # type: ignore[assignment]
    return target


_NOT_WALKED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.CodeType,
    types.TracebackType,
)
_OBJECT_COST = 64


def retained_bytes(root: object, *, shared: Iterable[object] = ()) -> int:
    """About how many bytes ``root`` keeps alive by itself, however it is built inside.

    :param shared: objects that it does not own, and which are not counted.
    """
    return sum(_sizes(root, {id(thing) for thing in shared}))


def _sizes(root: object, seen: set[int]) -> Iterator[int]:
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _NOT_WALKED):
            continue
        seen.add(id(thing))
        yield _OBJECT_COST + (len(thing) if isinstance(thing, bytes | bytearray | str) else 0)
        waiting.extend(gc.get_referents(thing))
