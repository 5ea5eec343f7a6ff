"""Inputs that are small programs: one byte for a setting, then steps, each an operation with an argument.

Any bytes are a program, so that the fuzzer cannot get it wrong; and a step can be moved, repeated or left out as a
whole. Steps that a target does not know say nothing, so that inputs stay what they are when it learns more of them.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAXIMUM_STEPS = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One operation. What its number and its argument mean, the target decides."""

    operation: int
    argument: bytes


@dataclass(frozen=True, slots=True)
class Program:
    """A setting and what to do in it."""

    setting: int
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Program":
        """Any bytes; an argument that is cut short ends the program."""
        setting = data[0] if data else 0
        steps = []
        offset = 1
        while offset < len(data) and len(steps) < MAXIMUM_STEPS:
            length = int.from_bytes(data[offset + 1 : offset + 3], "big")
            steps.append(Step(data[offset], data[offset + 3 : offset + 3 + length]))
            offset += 3 + length
        return cls(setting, tuple(steps))

    def serialize(self) -> bytes:
        """The reverse of :meth:`parse`."""
        return bytes([self.setting]) + b"".join(
            bytes([step.operation]) + len(step.argument).to_bytes(2, "big") + step.argument
            for step in self.steps
        )


def program(setting: int, steps: Iterable[tuple[int, bytes]]) -> bytes:
    """An input written by hand."""
    return Program(setting, tuple(Step(operation, argument) for operation, argument in steps)).serialize()


class Argument:
    """Takes an argument apart; where it ends, zeros follow."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, length: int) -> bytes:
        """The next bytes."""
        data = self._data[self._offset : self._offset + length]
        self._offset += length
        return data.ljust(length, b"\0")

    def uint8(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def uint16(self) -> int:
        """The next two."""
        return int.from_bytes(self.take(2), "big")

    def uint24(self) -> int:
        """The next three."""
        return int.from_bytes(self.take(3), "big")

    def rest(self) -> bytes:
        """All that is left."""
        data = self._data[self._offset :]
        self._offset = max(self._offset, len(self._data))
        return data


def mutate_steps(
    data: bytes,
    generator: random.Random,
    operations: int,
    settings: int = 256,
    words: Sequence[bytes] = (b"",),
) -> bytes:
    """Change a program by whole steps, or one step's argument by a byte or a word.

    :param operations: how many operations there are.
    :param settings: how many settings there are.
    :param words: what stands in arguments and means something.
    """
    parsed = Program.parse(data)
    steps = list(parsed.steps)
    setting = parsed.setting
    for _ in range(generator.choice((1, 1, 2, 3))):
        place = generator.randrange(len(steps) + 1)
        match generator.randrange(8):
            case 0:
                steps.insert(place, Step(generator.randrange(operations), generator.randbytes(4)))
            case 1 if steps:
                steps.insert(place, generator.choice(steps))
            case 2 if len(steps) > 1:
                steps.pop(generator.randrange(len(steps)))
            case 3 if len(steps) > 1:
                steps.insert(place % len(steps), steps.pop(generator.randrange(len(steps))))
            case 4 if steps:
                place %= len(steps)
                steps[place] = Step(generator.randrange(operations), steps[place].argument)
            case 5:
                setting = generator.randrange(settings)
            case _ if steps:
                place %= len(steps)
                steps[place] = Step(steps[place].operation, _changed(steps[place].argument, generator, words))
            case _:
                steps.insert(place, Step(generator.randrange(operations), b""))
    return Program(setting, tuple(steps[:MAXIMUM_STEPS])).serialize()


def _changed(argument: bytes, generator: random.Random, words: Sequence[bytes]) -> bytes:
    if not argument:
        return generator.randbytes(generator.randrange(1, 9))
    changed = bytearray(argument)
    place = generator.randrange(len(changed))
    match generator.randrange(7):
        case 0 | 1:
            word = generator.choice(words)
            changed[place : place + len(word)] = word
        case 2:
            changed[place] = generator.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF))
        case 3:
            changed[place] ^= 1 << generator.randrange(8)
        case 4:
            changed[place:place] = generator.randbytes(generator.randrange(1, 5))
        case 5:
            del changed[place : place + generator.randrange(1, 9)]
        case _:
            changed[place] = generator.randrange(256)
    return bytes(changed)
