"""A clip for Chromium's camera and microphone, which tells of itself what is when: each picture has its number in it,
and with the first of them a beep begins. It repeats every :data:`SECONDS`.

Chromium repeats a file too, but after a pause: of a picture after the last one, of some milliseconds after the sound.
So the files are as long as they are needed.
"""

import array
import dataclasses
import functools
import math
import pathlib
import random
import wave
from collections.abc import Sequence

RATE = 30
"Pictures in a second."
SECONDS = 2
PICTURES = RATE * SECONDS
SAMPLE_RATE = 48_000
FLASH_PICTURES = 3
BEEP_SECONDS = 0.1

#: Luma: of blocks that are 0 and 1, and of what flashes, before and in the flash.
DARK, BRIGHT = 16, 235
_BLOCKS = 8
_BITS = 6


@dataclasses.dataclass(frozen=True)
class Clip:
    """A moving pattern under a row of blocks that say its number, in binary, with a dark field that flashes.

    :param width: in pixels, a multiple of 16.
    :param height: likewise.
    :param noise: in steps of luma. With any, no encoder can foresee the lowest twelfth.
    """

    width: int = 640
    height: int = 360
    noise: int = 0

    def write(self, path: pathlib.Path, times: int) -> None:
        """Write the pictures as a YUV4MPEG2 file, so many times one after the other."""
        chroma = b"".join(
            bytes((96 + 64 * x * 2 // self.width) for x in range(self.width // 2))
            for _ in range(self.height // 2)
        )
        pictures = [b"FRAME\n" + self.luma(number) + chroma + chroma[::-1] for number in range(PICTURES)]
        with path.open("wb") as file:
            file.write(f"YUV4MPEG2 W{self.width} H{self.height} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
            for _ in range(times):
                file.writelines(pictures)

    def luma(self, number: int) -> bytes:
        """The luma of a picture, line by line."""
        width, height, pattern = self.width, self.height, self._pattern
        lines = [bytearray(pattern[at : at + width]) for at in self._shifts(number)]
        block = width // _BLOCKS
        bits = [0, *((number >> bit) & 1 for bit in range(_BITS)), 1]
        head = b"".join(bytes([BRIGHT if bit else DARK]) * block for bit in bits)
        lines[: self._band] = [bytearray(head)] * self._band
        field = bytes([BRIGHT if number < FLASH_PICTURES else DARK]) * (width // 4)
        for line in lines[height // 3 : height * 2 // 3]:
            line[width * 3 // 8 : width * 3 // 8 + len(field)] = field
        return b"".join(lines)

    def number(self, luma: bytes, line_size: int) -> int | None:
        """The number of a picture that was encoded and decoded, by its luma; ``None`` if it has none to be read.

        :param line_size: how long a line is in memory.
        """
        bits = []
        for block in range(_BLOCKS):
            left = block * self.width // _BLOCKS + self.width // _BLOCKS // 4
            values = [
                luma[y * line_size + x]
                for y in range(self._band // 3, self._band * 2 // 3, 3)
                for x in range(left, left + self.width // _BLOCKS // 2, 7)
            ]
            bits.append(sum(values) / len(values) > (DARK + BRIGHT) / 2)
        number = sum(bit << place for place, bit in enumerate(bits[1:-1]))
        return number if not bits[0] and bits[-1] and number < PICTURES else None

    def is_flash(self, luma: bytes, line_size: int) -> bool:
        """Whether the field in the middle is bright."""
        at = self.height // 2 * line_size + self.width // 2
        return luma[at] > (DARK + BRIGHT) / 2

    def likeness(self, luma: bytes, line_size: int, number: int) -> float:
        """How near a decoded picture is to the one that it was: the ratio of signal to noise (PSNR) in dB."""
        source = self.luma(number)
        squares = count = 0
        for y in range(0, self.height, 4):
            ours = luma[y * line_size : y * line_size + self.width : 3]
            theirs = source[y * self.width : (y + 1) * self.width : 3]
            squares += sum((a - b) * (a - b) for a, b in zip(ours, theirs, strict=True))
            count += len(ours)
        return 99.0 if not squares else 10 * math.log10(255 * 255 * count / squares)

    @property
    def _band(self) -> int:
        return self.height // 9

    @functools.cached_property
    def _pattern(self) -> bytes:
        """A line that is longer than needed; what is seen of it moves."""
        generator = random.Random(self.width)
        waves = (abs((x * 3) % 256 - 128) + 60 for x in range(self.width + 4 * PICTURES + 512))
        return bytes(min(235, max(16, wave + generator.randint(-self.noise, self.noise))) for wave in waves)

    def _shifts(self, number: int) -> Sequence[int]:
        """How far the pattern is moved in each line."""
        moved = [4 * number + y // 2 % 256 for y in range(self.height)]
        if self.noise:
            generator = random.Random(number)
            lower = range(self.height * 11 // 12, self.height)
            moved[lower.start :] = [4 * number + generator.randrange(256) for _ in lower]
        return moved


def write_beep(path: pathlib.Path, times: int) -> None:
    """Write the sound of the pictures as a WAV file, so many times: a beep at the beginning, then silence."""
    beep = [
        int(16_000 * math.sin(2 * math.pi * 1000 * n / SAMPLE_RATE))
        for n in range(int(BEEP_SECONDS * SAMPLE_RATE))
    ]
    samples = array.array("h", beep + [0] * (SECONDS * SAMPLE_RATE - len(beep)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes() * times)


def beeps(samples: Sequence[int]) -> list[int]:
    """Where beeps begin in sound of :data:`SAMPLE_RATE`, which begins in silence."""
    found: list[int] = []
    latest = -SAMPLE_RATE
    for index, sample in enumerate(samples):
        if abs(sample) > 2000:
            if index - latest > SAMPLE_RATE // 4:
                found.append(index)
            latest = index
    return found


def nearest(seconds: float) -> float:
    """A time relative to the nearest beginning of the clip, in seconds: from minus to plus half of its length."""
    return (seconds + SECONDS / 2) % SECONDS - SECONDS / 2
