"""RTP with MIDs, RIDs, sources and payload types that may be lies, to sections that come, change and go.

An input is a program (`program.py`): its steps are packets of a peer with the keys, and what negotiation does
meanwhile. SRTP lets everything through.

What must hold: nothing raises, a receiver gets frames of its own section only, what is kept is bounded, and what we
say is no more than what came and what is due.
"""

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from aiortc.rtcrtpparameters import (
    RTCRtcpFeedback,
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
)

from mediapeer.rtp import EncodedFrame
from mediapeer.rtp.reorder import CAPACITIES
from mediapeer.rtp.router import SECTION_SOURCES, TRANSPORT_SOURCES
from mediapeer.transport.media import MAXIMUM_PACKET_LENGTH, PAUSED_SECTIONS, UNROUTED_PACKETS, MediaPath
from mediapeer.transport.routes import SectionRoutes
from tests.fuzz.media import Open
from tests.fuzz.program import Argument, Program, mutate_steps, program
from tests.fuzz.target import require, retained_bytes

MAXIMUM_LENGTH = 4096
MIDS = ("0", "1", "22", "x" * 16)
RIDS = ("h", "m", "l", "nobody's")
URIS = (
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
)
MAXIMUM_RETAINED_BYTES = (
    UNROUTED_PACKETS * (MAXIMUM_PACKET_LENGTH + 2000)
    + len(MIDS) * 2 * CAPACITIES["video"] * (MAXIMUM_PACKET_LENGTH + 2000)
    + TRANSPORT_SOURCES * 4000
    + PAUSED_SECTIONS * 20_000
)


class Receiver:
    """Stands for the receiver of a section."""

    def __init__(self, section: str) -> None:
        self.section = section
        self.is_wanted = True
        self.payload_types: set[int] = set()
        "Those that the section ever had."

    def handle_disconnect(self) -> None:
        pass

    def take_frame(self, frame: EncodedFrame) -> None:
        require(frame.payload_type in self.payload_types, "a frame of another section")


class Sections:
    """One media path with its sections."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter()
        self._sent = 0
        self._came = 0
        self._due: float | None = None
        self._now = 100.0
        self._path = MediaPath(
            self._counters, lambda: None, self._send, arm=self._note_due, clock=lambda: self._now
        )
        self._contexts: Any = Open()
        self._path.contexts = self._contexts
        self._receivers: dict[str, Receiver] = {}

    def _send(self, packet: bytes) -> None:
        self._sent += 1

    def _note_due(self, when: float | None) -> None:
        self._due = when

    async def run(self, steps: Program) -> None:
        """Do every step."""
        self._is_wanted = not steps.setting & 1
        operations = tuple(OPERATIONS.values())
        for step in steps.steps:
            if step.operation < len(operations):
                await operations[step.operation](self, Argument(step.argument))
            self._check()

    # Operations

    async def section(self, argument: Argument) -> None:
        """What a negotiation says of a section."""
        mid, flags, first = MIDS[argument.uint8() % len(MIDS)], argument.uint8(), 96 + argument.uint8() % 4
        kind = "video" if flags & 1 else "audio"
        receiver = self._receivers.get(mid)
        if receiver is None or flags & 2:
            receiver = self._receivers[mid] = Receiver(mid)
            receiver.is_wanted = self._is_wanted
        codec = f"{kind}/{('VP8', 'H264')[flags >> 7] if kind == 'video' else 'opus'}"
        kinds = (("nack", None), ("nack", "pli"), ("ccm", "fir"), ("transport-cc", None), ("goog-remb", None))
        feedback = [
            RTCRtcpFeedback(*told) for place, told in enumerate(kinds) if (len(mid) + first) >> place & 1
        ]
        codecs = [RTCRtpCodecParameters(codec, 90_000, None, first, rtcpFeedback=feedback)]
        receiver.payload_types |= {first, first + 1}
        if flags & 4:
            repaired = {"apt": first + (argument.uint8() & 1)}
            codecs.append(RTCRtpCodecParameters(f"{kind}/rtx", 90_000, None, first + 1, parameters=repaired))
        encodings = []
        for _ in range(flags >> 3 & 3):
            source, other = argument.uint8(), argument.uint8()
            encodings.append(RTCRtpDecodingParameters(source, first, RTCRtpRtxParameters(other)))
        extensions = [
            RTCRtpHeaderExtensionParameters(1 + index, uri)
            for index, uri in enumerate(URIS)
            if flags & 0x20 or index == 3
        ]
        parameters = RTCRtpReceiveParameters(codecs, extensions, mid, encodings)
        rids = RIDS[:3] if flags & 0x40 else ()
        self._path.set_section(mid, SectionRoutes(mid, kind, receiver, parameters, rids=rids))

    async def remove(self, argument: Argument) -> None:
        """A section is over, or paused."""
        mid = MIDS[argument.uint8() % len(MIDS)]
        self._path.set_section(mid, None)
        if argument.uint8() & 1 and (receiver := self._receivers.pop(mid, None)) is not None:
            self._path.unregister_receiver(receiver)

    async def start(self, argument: Argument) -> None:
        """Somebody wants the frames of a section, or nobody any more, and perhaps a keyframe."""
        mid = MIDS[argument.uint8() % len(MIDS)]
        receiver = self._receivers.get(mid)
        if receiver is not None:
            receiver.is_wanted = not argument.uint8() & 1
        self._path.request_keyframe(mid)
        self._came += 1

    async def packet(self, argument: Argument) -> None:
        """A packet with what header extensions the flags say."""
        flags, source, number = argument.uint8(), argument.uint8(), argument.uint16()
        elements = b""
        values = (MIDS[argument.uint8() % 4], RIDS[argument.uint8() % 4], RIDS[argument.uint8() % 4])
        for index, value in enumerate(values):
            if flags & 1 << index:
                elements += bytes([(1 + index) << 4 | len(value) - 1]) + value.encode()
        if flags & 8:
            elements += b"\x42" + argument.take(3)
        elements += bytes(-len(elements) % 4)
        head = bytes([0x90, 96 + (flags >> 4 & 3) | (flags & 0x80)]) + number.to_bytes(2, "big")
        head += (int(self._now * 90_000) & 0xFFFFFFFF).to_bytes(4, "big") + source.to_bytes(4, "big")
        block = b"\xbe\xde" + (len(elements) // 4).to_bytes(2, "big") + elements
        await self.datagram(Argument(head + block + argument.rest()))

    async def datagram(self, argument: Argument) -> None:
        """Any authentic packet."""
        data = argument.rest()
        if data:
            self._came += 1
            self._path.receive(data, self._now)

    async def flood(self, argument: Argument) -> None:
        """A packet of each of many sources."""
        kind, first = argument.uint8(), argument.uint16()
        for number in range(100):
            head = bytes([0x80, 96 + kind % 4, 0, 1, 0, 0, 0, 1]) + (first * 100 + number).to_bytes(4, "big")
            await self.datagram(Argument(head + b"\x10\0payload"))

    async def wait(self, argument: Argument) -> None:
        """Tenths of seconds."""
        self._now += argument.uint8() / 10
        if self._due is not None and self._due <= self._now:
            self._due = None
            self._path.handle_timeout(self._now)
            require(self._due is None or self._due > self._now, "a time-out that does not go by")
            self._came += 2 * len(MIDS) + SECTION_SOURCES
        self._path.release(self._now)

    async def report(self, argument: Argument) -> None:
        """What statistics and reports look at."""
        for stream in self._path.streams():
            stream.report_block(self._now)
        for mid in MIDS:
            self._path.selected_stream(mid)
            counts = self._path.counts(mid)
            require(counts.repaired + counts.given_up <= counts.lost + counts.received, "more than was lost")

    async def feedback(self, argument: Argument) -> None:
        """RTCP of the peer on its streams."""
        first, kind = argument.uint8(), 200 + argument.uint8() % 7
        content = argument.take(40)
        await self.datagram(
            Argument(bytes([0x80 | first & 31, kind]) + (len(content) // 4).to_bytes(2, "big") + content)
        )

    # What must hold

    def _check(self) -> None:
        require(not self._counters["packet_handler_errors"], "a handler raised")
        require(self._sent <= 2 * self._came, "more is said than is due")
        streams = self._path.streams()
        require(len(streams) <= TRANSPORT_SOURCES, "too many sources are remembered")
        of_each = Counter(stream.mid for stream in streams)
        require(max(of_each.values(), default=0) <= SECTION_SOURCES, "too many sources of one section")
        require(set(of_each) <= set(self._path._sections), "sources of no section")
        kept = retained_bytes(
            self._path, shared=[*self._receivers.values(), self._counters, self._contexts, self]
        )
        require(kept <= MAXIMUM_RETAINED_BYTES, f"{kept} bytes are kept")


Operation = Callable[[Sections, Argument], Coroutine[Any, Any, None]]
OPERATIONS: Mapping[str, Operation] = {
    "section": Sections.section,
    "remove": Sections.remove,
    "start": Sections.start,
    "packet": Sections.packet,
    "datagram": Sections.datagram,
    "flood": Sections.flood,
    "wait": Sections.wait,
    "report": Sections.report,
    "feedback": Sections.feedback,
}


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    parsed = Program.parse(data)
    coroutine = Sections().run(parsed)
    # Nothing in it waits: no event loop is needed.
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    require(False, "a packet is waited for")


def mutate(data: bytes, generator: random.Random) -> bytes:
    """See :class:`tests.fuzz.target.Target`."""
    return data if generator.random() < 0.2 else mutate_steps(data, generator, len(OPERATIONS))


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""

    def step(operation: str, *argument: int, rest: bytes = b"") -> tuple[int, bytes]:
        return list(OPERATIONS).index(operation), bytes(argument) + rest

    def packets(flags: int, source: int, *values: int) -> list[tuple[int, bytes]]:
        values = (*values, 0, 0, 0)[:3]
        return [
            step("packet", flags, source, 0, n, *values, rest=b"\x10\0key" if n else b"\x10\1")
            for n in range(3)
        ]

    video = [step("section", 0, 0x65, 0, 0)]
    layers = [*packets(3, 1, 0, 0), *packets(3, 2, 0, 1), *packets(3, 3, 0, 3), *packets(0x14, 4, 0, 0, 0)]
    end = [step("report"), step("feedback", 1, 0), step("feedback", 1, 1), step("feedback", 1, 2)]
    yield "simulcast", program(0, [*video, *reversed(layers), step("wait", 20), *layers, *end])
    yield (
        "late",
        program(
            1, [*video, *layers, step("section", 0, 0x65, 2, 1), step("start", 0), step("wait", 1), *end]
        ),
    )
    signalled = [step("section", 1, 0x1D, 1, 0, 9, 8, 8, 9)]
    yield "signalled", program(0, [*signalled, *packets(0x10, 9), *packets(0x20, 8), *end])
    two = [step("section", number, 0x25, 0) for number in range(2)]
    yield (
        "moved",
        program(0, [*two, *packets(1, 5, 0), *packets(1, 5, 1), *packets(0, 5), step("remove", 1, 1)]),
    )
    yield (
        "unknown",
        program(0, [*packets(1, 6, 2), *two, *packets(1, 6, 3), step("wait", 30), *packets(9, 6, 0)]),
    )
    yield (
        "flood",
        program(0, [*two, *(step("flood", 0, 0, n) for n in range(6)), step("wait", 110), *packets(1, 7)]),
    )
    yield (
        "paused",
        program(0, [*video, *layers, step("remove", 0, 0), *layers, *video, *layers, step("remove", 0, 1)]),
    )
    yield (
        "any",
        program(0, [*two, step("datagram", 0x80), step("datagram", 0x81, 200), step("datagram", 0x90, 96)]),
    )
