"""RTP and RTCP packets through the media side of a transport, after SRTP and before it.

An input is a program (`program.py`): its setting says whether SRTP is real or lets everything through, so that the
parsers behind it get what the fuzzer made; its steps are packets, and what a call does meanwhile.

What must hold: nothing raises, whatever comes is delivered, kept or counted, SRTP gives back what was protected and
nothing else, and what is kept is bounded.
"""

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
)

from mediapeer.rtp import EncodedFrame, Refusal
from mediapeer.rtp.reorder import CAPACITIES
from mediapeer.rtp.rtcp import ReportBlock
from mediapeer.srtp import PROFILES, SrtpContexts, SrtpError, is_rtcp
from mediapeer.transport.feedback import MAXIMUM_NACKS
from mediapeer.transport.media import EARLY_PACKETS, MAXIMUM_PACKET_LENGTH, UNROUTED_PACKETS, MediaPath
from tests.fuzz.program import Argument, Program, mutate_steps, program
from tests.fuzz.target import require, retained_bytes
from tests.transport.paths import routes

MAXIMUM_LENGTH = 4096
SSRC, PAYLOAD_TYPE = 1234, 96
#: Packets that wait for others of their source: of the one that is received, and of one that may take over.
WAITING_PACKETS = 2 * CAPACITIES["video"]
MAXIMUM_RETAINED_BYTES = (EARLY_PACKETS + UNROUTED_PACKETS + WAITING_PACKETS) * (
    MAXIMUM_PACKET_LENGTH + 2000
) + 100_000


class Open:
    """SRTP contexts that protect nothing."""

    def protect(self, packet: bytes) -> bytes:
        """As it is."""
        return packet

    def unprotect_rtp(self, packet: bytes) -> bytes:
        """As it is."""
        return packet

    unprotect = unprotect_rtcp = unprotect_rtp


class Part:
    """Stands for a receiver and for a sender."""

    ssrc, rtx_ssrc = SSRC, SSRC + 1

    def __init__(self) -> None:
        self.is_wanted = True
        self.frames = 0
        self.told = 0
        self.raises = False

    def handle_disconnect(self) -> None:
        pass

    def take_frame(self, frame: EncodedFrame) -> None:
        self.frames += 1
        if self.raises:
            raise ValueError("a defect of the receiver")

    def receive_report(self, block: ReportBlock, now: float) -> None:
        require(block.ssrc == SSRC, "a report on another")
        self._tell()

    def receive_nack(self, numbers: Sequence[int], now: float) -> None:
        require(0 < len(numbers) <= MAXIMUM_NACKS, "a NACK of too many packets, or of none")
        self._tell()

    def receive_keyframe_request(self, now: float) -> None:
        self._tell()

    def receive_bitrate(self, bits_per_second: int, now: float) -> None:
        self._tell()

    def _tell(self) -> None:
        self.told += 1
        if self.raises:
            raise ValueError("a defect of the sender")


class Stream:
    """One media path, and what came to it."""

    def __init__(self, setting: int) -> None:
        self._counters: Counter[str] = Counter()
        self._heard = 0
        self._now = 0.0
        self._due: float | None = None
        self._path = MediaPath(self._counters, self._note_heard, arm=self._note_due, clock=lambda: self._now)
        profiles = list(PROFILES)
        profile = profiles[setting % len(profiles)]
        material = bytes(range(PROFILES[profile].keying_material_length))
        self._is_open = not setting & 0x80
        self._ours: Any = Open() if self._is_open else SrtpContexts(profile, material, is_client=True)
        self._peers: Any = Open() if self._is_open else SrtpContexts(profile, material, is_client=False)
        if setting & 0x40:
            self._path.contexts = self._ours
        self._part = Part()
        self._sent: list[bytes] = []
        self._came = self._rtp_came = 0

    def _note_heard(self) -> None:
        self._heard += 1

    def _note_due(self, when: float | None) -> None:
        self._due = when

    async def run(self, steps: Program) -> None:
        """Do every step."""
        operations = tuple(OPERATIONS.values())
        for step in steps.steps:
            if step.operation < len(operations):
                await operations[step.operation](self, Argument(step.argument))
            self._path.release(self._now)
            self._check()

    # Operations

    async def datagram(self, argument: Argument) -> None:
        """As it comes."""
        await self._receive(argument.rest())

    async def packet(self, argument: Argument) -> None:
        """Protected by the peer."""
        try:
            protected = self._peers.protect(argument.rest())
        except SrtpError:
            return
        self._sent.append(protected)
        await self._receive(protected)

    async def rtp(self, argument: Argument) -> None:
        """RTP whose header makes sense, but for its first byte and its payload type."""
        first, second, number = argument.uint8(), argument.uint8(), argument.uint16()
        head = bytes([0x80 | first & 0x3F, second & 0x7F | (second & 0x80)]) + number.to_bytes(2, "big")
        await self.packet(Argument(head + bytes(4) + SSRC.to_bytes(4, "big") + argument.rest()))

    async def rtcp(self, argument: Argument) -> None:
        """RTCP whose length is right."""
        first, kind = argument.uint8(), argument.uint8()
        body = argument.rest()
        body += bytes(-len(body) % 4)
        head = bytes([0x80 | first & 0x3F, 192 + kind % 32]) + (len(body) // 4).to_bytes(2, "big")
        await self.packet(Argument(head + body))

    async def change(self, argument: Argument) -> None:
        """A packet that came, with bytes changed."""
        if not self._sent:
            return
        changed = bytearray(self._sent[argument.uint8() % len(self._sent)])
        place = argument.uint16() % len(changed) if changed else 0
        for offset, value in enumerate(argument.rest()[: len(changed) - place]):
            changed[place + offset] ^= value
        await self._receive(bytes(changed))

    async def connect(self, argument: Argument) -> None:
        """The handshake ends."""
        self._path.contexts = self._ours

    async def disconnect(self, argument: Argument) -> None:
        """The association ends."""
        self._path.contexts = None
        self._path.disconnect()
        self._rtp_came = self._accounted_for()

    async def register(self, argument: Argument) -> None:
        """A receiver and a sender come."""
        self._part.raises = bool(argument.uint8() & 1)
        self._path.set_section("1", routes(self._part, SSRC, PAYLOAD_TYPE))
        self._path.add_sender(self._part)

    async def unregister(self, argument: Argument) -> None:
        """They go."""
        self._path.set_section("1", None)
        self._path.unregister_receiver(self._part)
        self._path.remove_sender(self._part)
        self._rtp_came = self._accounted_for()

    async def protect(self, argument: Argument) -> None:
        """Send something ourselves, which the peer reads as it was."""
        packet = argument.rest()
        if self._path.contexts is None:
            return
        protected = self._path.protect(packet)
        if protected is None or is_rtcp(protected) != is_rtcp(packet):
            return
        try:
            require(self._peers.unprotect(protected) == packet, "SRTP changes a packet")
        except SrtpError:
            return  # a number that was used before, or too far back

    async def wait(self, argument: Argument) -> None:
        """Hundredths of seconds, in which the timer rings."""
        self._now += argument.uint8() / 100
        self._part.is_wanted = not argument.uint8() & 1
        if self._due is not None and self._due <= self._now:
            self._due = None
            self._path.handle_timeout(self._now)
            require(self._due is None or self._due > self._now, "a time-out that does not go by")

    # What must hold

    async def _receive(self, datagram: bytes) -> None:
        if not datagram:
            return
        self._came += 1
        self._rtp_came += not is_rtcp(datagram)
        self._path.receive(datagram, self._now)

    def _accounted_for(self) -> int:
        """RTP packets that were taken, are kept, or were counted."""
        kept = len(self._path._unrouted)
        kept += sum(1 for datagram, _ in self._path._early if not is_rtcp(datagram))
        names = ("malformed_rtp", *(refusal.value for refusal in Refusal))
        told = sum(self._counters[name] for name in names)
        return sum(stream.packets_received for stream in self._path.streams()) + kept + told

    def _check(self) -> None:
        require(self._heard <= self._came, "more was heard than came")
        if self._is_open:
            # What is dropped before it is looked at is counted together with RTCP.
            early = self._counters["srtp_too_long"] + self._counters["early_srtp_full"]
            accounted = self._accounted_for()
            require(accounted <= self._rtp_came <= accounted + early, "a packet has vanished, or come twice")
        kept = retained_bytes(self._path, shared=[self._part, self._counters, self._ours, self])
        require(kept <= MAXIMUM_RETAINED_BYTES, f"{kept} bytes are kept")


Operation = Callable[[Stream, Argument], Coroutine[Any, Any, None]]
OPERATIONS: Mapping[str, Operation] = {
    "datagram": Stream.datagram,
    "packet": Stream.packet,
    "rtp": Stream.rtp,
    "rtcp": Stream.rtcp,
    "change": Stream.change,
    "connect": Stream.connect,
    "disconnect": Stream.disconnect,
    "register": Stream.register,
    "unregister": Stream.unregister,
    "protect": Stream.protect,
    "wait": Stream.wait,
}


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    parsed = Program.parse(data)
    coroutine = Stream(parsed.setting).run(parsed)
    # Nothing in it waits: no event loop is needed.
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    require(False, "a packet is waited for")


def mutate(data: bytes, generator: random.Random) -> bytes:
    """See :class:`tests.fuzz.target.Target`."""
    return data if generator.random() < 0.5 else mutate_steps(data, generator, len(OPERATIONS))


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""

    def step(operation: str, argument: bytes = b"") -> tuple[int, bytes]:
        return list(OPERATIONS).index(operation), argument

    packets = [*_rtp_packets(), *map(bytes, _rtcp_packets())]
    for number, packet in enumerate(packets):
        for setting in (0x40, 0xC0 + number % 4):
            yield f"{setting}-{number}", program(setting, [step("register"), step("packet", packet)])
    life = [step("packet", packet) for packet in packets[:3]] + [step("connect"), step("register", b"\1")]
    life += [step("packet", packet) for packet in packets] + [step("change", bytes([1, 0, 1, 1]))]
    life += [step("protect", packets[0]), step("unregister"), step("packet", packets[0]), step("disconnect")]
    life += [
        step("rtp", b"\x10\x60\0\7\xbe\xde\0\1\x32abc"),
        step("rtcp", b"\1\x0a" + bytes(4)),
        step("datagram", b"\x80"),
    ]
    hole = [step("rtp", bytes([0, 0xE0, 0, n]) + b"\x10\x31") for n in (1, 2, 9, 5)]
    life += [step("register"), *hole, *(step("wait", b"\x09") for _ in range(9)), step("wait", b"\xff\1")]
    for setting in (0x00, 0x40, 0x80, 0xC1, 0xC2, 0xC3):
        yield f"life-{setting}", program(setting, life)


def _rtp_packets() -> list[bytes]:
    plain = RtpPacket(payload_type=PAYLOAD_TYPE, sequence_number=1, ssrc=SSRC, payload=b"frame")
    padded = RtpPacket(payload_type=PAYLOAD_TYPE, sequence_number=2, marker=1, ssrc=SSRC, payload=b"frame")
    padded.csrc = [1, 2]
    padded_bytes = bytearray(padded.serialize())
    padded_bytes[0] |= 0x20
    head = bytes([0x90, PAYLOAD_TYPE, 0, 3]) + bytes(4) + SSRC.to_bytes(4, "big")
    return [
        plain.serialize(),
        bytes(padded_bytes) + b"\0\0\3",
        head + b"\xbe\xde\0\2\x32abc\x10m\0\0payload",
        head + b"\x10\0\0\2\3\3abc\1\1m" + b"payload",
        RtpPacket(payload_type=97, sequence_number=9, ssrc=99, payload=b"\0\1frame").serialize(),
    ]


def _rtcp_packets() -> list[AnyRtcpPacket]:
    report = RtcpReceiverInfo(SSRC, 1, -1, 2, 3, 4, 5)
    return [
        RtcpByePacket([SSRC, 2]),
        RtcpRrPacket(1, [report, report]),
        RtcpSrPacket(SSRC, RtcpSenderInfo(1, 2, 3, 4), [report]),
        RtcpSdesPacket([RtcpSourceInfo(SSRC, [(1, b"someone"), (2, b"")])]),
        RtcpPsfbPacket(1, 1, SSRC),
        RtcpPsfbPacket(15, 1, 0, pack_remb_fci(1_000_000, [SSRC, 7])),
        RtcpRtpfbPacket(1, 1, SSRC, [1, 2, 20]),
    ]
