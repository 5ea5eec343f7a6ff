"""Payloads of every codec, in order and with losses, to frames; and frames that are anything to payloads.

An input is a program (`program.py`): its setting is the codec, its steps are packets of one source, losses, and
frames of ours.

What must hold: nothing raises but the typed error, what comes out is not much more than what came, what is not given
out is counted, and what is kept is bounded.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from mediapeer.rtp import EncodedFrame, PayloadFormat, RtpPacket
from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.rtp.payload import (
    MAXIMUM_FRAME_PACKETS,
    PayloadError,
    depacketizer_for,
    packetizer_for,
    split_red,
)
from tests.fuzz.program import Argument, Program, mutate_steps, program
from tests.fuzz.target import require, retained_bytes

MAXIMUM_LENGTH = 4096
CODECS = ("vp8", "vp9", "h264", "h265", "av1", "opus", "pcmu", "g722", "nothing")
NAMES = {"incomplete_frame", "malformed_payload", "oversized_frame", "unknown_codec"}
#: Eight parameter sets of each of three kinds.
MAXIMUM_SETS = 3 * 8 * 5000
WORDS = (
    b"\x00\x00\x01",
    b"\x00\x00\x00\x01",
    b"\x9d\x01\x2a",
    b"\x49\x83\x42",
    b"\x00\x02",
    b"\xff\xff\xff\xff",
)


class Source:
    """A source's packets, and what becomes of them."""

    def __init__(self, setting: int) -> None:
        self._codec = CODECS[setting % len(CODECS)]
        self._counters: Counter[str] = Counter()
        clock_rate = 48000 if self._codec == "opus" else 90000
        self._assembler = FrameAssembler(1, PayloadFormat(self._codec, clock_rate), self._counters)
        self._depacketizer = depacketizer_for(self._codec, clock_rate)
        self._packetizer = packetizer_for(self._codec, {"packetization-mode": setting >> 7})
        self._timestamp = 0
        self._bytes = 0
        "Of payloads since the last frame."

    def run(self, steps: Program) -> None:
        """Do every step."""
        operations = tuple(OPERATIONS.values())
        for step in steps.steps:
            if step.operation < len(operations):
                operations[step.operation](self, Argument(step.argument))
            self._check()

    # Operations

    def packet(self, argument: Argument) -> None:
        """Flags, and the payload."""
        flags = argument.uint8()
        self._timestamp += 3000 * (flags >> 1 & 3)
        self._take(argument.rest(), has_marker=flags & 1 == 1, lost=flags >> 3)

    def gap(self, argument: Argument) -> None:
        """Packets that are given up."""
        counted = self._counters.total()
        held = bool(self._assembler._payloads)
        self._assembler.gap(argument.uint16())
        require(not held or self._counters.total() > counted, "a frame vanished")

    def flood(self, argument: Argument) -> None:
        """The same packet many times, without a marker."""
        payload = argument.rest()
        for _ in range(300):
            self._take(payload, has_marker=False, lost=0)

    def pack(self, argument: Argument) -> None:
        """A frame of ours that may be anything."""
        if self._packetizer is None or self._depacketizer is None:
            return
        maximum, is_keyframe, data = argument.uint16(), argument.uint8() & 1 == 1, argument.rest()
        try:
            payloads = self._packetizer.packetize(data, is_keyframe=is_keyframe, maximum=maximum)
            require(payloads and max(map(len, payloads)) <= maximum, "payloads that are too long, or none")
            self._depacketizer.depacketize(payloads)
        except PayloadError:
            return

    def red(self, argument: Argument) -> None:
        """Redundant audio."""
        payload = argument.rest()
        try:
            blocks = split_red(payload)
        except PayloadError:
            return
        require(sum(len(block.data) for block in blocks) < len(payload), "more came out than came")

    def _take(self, payload: bytes, *, has_marker: bool, lost: int) -> None:
        if self._depacketizer is not None:
            self._depacketizer.begins_frame(payload)
        counted = self._counters.total()
        held = bool(self._assembler._payloads)
        packet = RtpPacket(96, 0, self._timestamp & 0xFFFFFFFF, 1, payload, marker=has_marker)
        frames = self._assembler.add(packet, 0.0, lost)
        self._bytes += len(payload)
        require(len(frames) <= 2, "more than two frames of a packet")
        for frame in frames:
            self._look_at(frame)
        if held and (lost or (payload and not self._assembler._payloads)):
            require(frames or self._counters.total() > counted, "a frame vanished")
        if frames:
            self._bytes = len(payload)

    def _look_at(self, frame: EncodedFrame) -> None:
        require(frame.data and frame.codec == self._codec, "a frame of nothing")
        require(len(frame.data) <= 2 * self._bytes + MAXIMUM_SETS, "a frame is more than what came")
        for size in (frame.width, frame.height):
            require(size is None or 0 < size <= 1 << 16, "a size that is none")

    # What must hold

    def _check(self) -> None:
        require(self._counters.keys() <= NAMES, "a name that is not known")
        require(len(self._assembler._payloads) < MAXIMUM_FRAME_PACKETS, "a frame without end")
        held = sum(map(len, self._assembler._payloads)) + 200 * len(self._assembler._payloads)
        kept = retained_bytes(self._assembler, shared=[self._counters, self._assembler.format])
        require(kept <= held + MAXIMUM_SETS + 50_000, f"{kept} bytes are kept")


Operation = Callable[[Source, Argument], None]
OPERATIONS: Mapping[str, Operation] = {
    "packet": Source.packet,
    "gap": Source.gap,
    "flood": Source.flood,
    "pack": Source.pack,
    "red": Source.red,
}


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    parsed = Program.parse(data)
    Source(parsed.setting).run(parsed)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """See :class:`tests.fuzz.target.Target`."""
    if generator.random() < 0.2:
        return data
    return mutate_steps(data, generator, len(OPERATIONS), words=WORDS)


#: Frames in hexadecimal, each as its payloads.
FRAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "vp8": (
        ("90 e0 92 34 05 40 10 02 00 9d 01 2a 40 01 f0 00 aa", "80 80 92 34 bb"),
        ("90 f0 11 05 c5 31 00",),
    ),
    "vp9": (
        (
            "aa 92 34 00 01 38 01 40 00 f0 02 80 01 e0 02 04 02 10 82 49 83 42 00 13 f0 0e f0 00",
            "ac 92 34 02 01 86 00 40",
        ),
        ("fc 92 35 20 03 05 06 86 00 40 92",),
        ("4c 86 00 40 92",),
    ),
    "h264": (
        (
            "78 00 18 67 42 c0 1e da 02 80 f6 c0 44 00 00 03 00 04 00 00 03 00 f0 3c 58 ba 80 00 04 68 ce 0f c8",
            "7c 85 88 80",
            "7c 05 10",
            "7c 45 20",
        ),
        ("67 64 00 1e ac d9 40 50 1e d8", "68 ce", "65 88"),
        ("61 9a 01",),
        ("65 88",),
    ),
    "h265": (
        (
            "60 01 00 04 40 01 0c 01 00 03 44 01 c0",
            "42 01 01 01 60 00 00 03 00 90 00 00 03 00 00 03 00 3c a0 0a",
            "62 01 93 80",
            "62 01 13 10",
            "62 01 53 20",
        ),
        ("02 01 80",),
        ("26 01 80",),
    ),
    "av1": (
        ("68 0c 08 00 00 00 04 3c ff bc 4a f9 00 40 30", "d0 10", "90 aa"),
        ("20 04 34 40 30 bb 34 48 30 cc",),
        ("10 30 10 aa",),
        ("00 02 12 00 03 30 30 bb",),
    ),
    "opus": (("fc 01 02",), ("fb 03 00",), ("08",)),
    "pcmu": (("ff ff ff ff",),),
    "g722": (("ff ff ff ff",),),
    "nothing": (("00 01",),),
}  # fmt: skip


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""

    def step(operation: str, *argument: int, rest: str = "") -> tuple[int, bytes]:
        return list(OPERATIONS).index(operation), bytes(argument) + bytes.fromhex(rest)

    for number, codec in enumerate(CODECS):
        whole, broken, ours = [], [], []
        for payloads in FRAMES[codec]:
            last = len(payloads) - 1
            steps = [
                step("packet", 2 * (index == 0) | (index == last), rest=payload)
                for index, payload in enumerate(payloads)
            ]
            whole += steps
            broken += [*steps[1:], step("packet", 0x0A, rest=payloads[0]), *steps[:-1]]
            ours += [step("pack", 0, 40, 1, rest=f"{start}{payloads[0]}") for start in ("", "00 00 01 ")]
        yield f"{codec} whole", program(number, whole)
        yield f"{codec} with losses", program(number, [*broken, step("gap", 0, 3), *whole])
        yield f"{codec} of ours", program(0x80 | number, ours)
    endless = [step("packet", 2, rest="90 80 11 31 00"), *[step("flood", rest="80 80 11 00")] * 8]
    yield "without end", program(0, [*endless, *endless])
    red = ["ef 0f 00 03 6f 61 62 63 64", "6f 61", "ef 0f 00 03", ""]
    yield "red", program(5, [step("red", rest=payload) for payload in red])
