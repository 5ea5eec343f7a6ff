"""What a packet costs on its way from the socket to a file, stage by stage; beside aiortc's stages.

The packets are those of a call with 720p30 in VP8 and Opus, protected (AES-128-GCM). Each stage is fed with what the
one before gave, and its CPU is divided by the number of packets, also where it takes frames. Beside them are the
stages that aiortc has for the same, aioice below them, pylibsrtp alone, and FFmpeg's muxer, as PyAV has it.

The whole path is a call of ours that is recorded, from datagrams that wait in the socket to blocks in a file; what
aiortc's stages come to together is beside it. That is not what aiortc takes: it decodes.
"""

import asyncio
import dataclasses
import fractions
import functools
import importlib.metadata
import pathlib
import queue
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import aioice.ice
import aiortc
import av
import pylibsrtp
from aiortc.codecs import depayload
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcdtlstransport import RtpRouter as AiortcRouter
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import HeaderExtensionsMap
from aiortc.rtp import RtpPacket as AiortcPacket

from benchmarks import Comparison, CpuClock, Figures, Result
from benchmarks._protected import PROFILE, OurPath, PacketCounter, material
from benchmarks._streams import PAYLOAD_TYPES, clip, packets
from mediapeer.media import Recorder
from mediapeer.media.writer import SharedWriter
from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.rtp import EncodedFrame, InboundStream, RtpPacket, RtpRouter, SectionReceiver
from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.srtp import PROFILES, SrtpContexts
from mediapeer.transport.routes import SectionRoutes
from tests.tools.relay import LOOPBACK

AIORTC = f"aiortc {aiortc.__version__}"
AIOICE = f"aioice {importlib.metadata.version('aioice')}"
PYLIBSRTP = f"pylibsrtp {importlib.metadata.version('pylibsrtp')}"

_RUNS = 15
_SECONDS = 4.0
_SIZE = 65_535
#: So many datagrams wait in the socket at once, and the frames of so many are written together.
_BURST = 50
_MILLISECOND = fractions.Fraction(1, 1000)
_CPU = "CPU of a packet"
#: What is left for a packet at 2 Mbit/s in a hundredth of a core, in microseconds.
_TARGET = 36.0
_CLOCK_RATES = {"audio": 48_000, "video": 90_000}
_MIDS = {"audio": "0", "video": "1"}


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """What each stage is given."""

    keys: bytes
    datagrams: list[bytes]
    times: list[float]
    "When each comes, in seconds."
    plain: list[bytes]
    parsed: list[RtpPacket]
    parsed_by_aiortc: list[AiortcPacket]
    routed: list[tuple[InboundStream, RtpPacket, int, float]]
    frames: list[EncodedFrame]

    @property
    def count(self) -> int:
        """How many packets there are."""
        return len(self.datagrams)


@functools.cache
def feed() -> Feed:
    """The clip, as far as it is needed, in all its forms."""
    times, plain = map(list, zip(*packets(clip(_SECONDS)), strict=True))
    keys = material()
    contexts = SrtpContexts(PROFILE, keys, is_client=True)
    parsed = [RtpPacket.parse(data) for data in plain]
    routed = list(_route(parsed, times))
    return Feed(
        keys,
        [contexts.protect(data) for data in plain],
        times,
        plain,
        parsed,
        [AiortcPacket.parse(data) for data in plain],
        routed,
        list(_receive(routed)),
    )


def _per_packet(clock: CpuClock) -> Figures:
    return {_CPU: 1e6 * clock.seconds / feed().count}


# Sockets


class _Waiting:
    """The datagrams in bursts, each in a socket before it is read."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.bind((LOOPBACK, 0))
        self._sender.connect(address)
        self.address: tuple[str, int] = self._sender.getsockname()

    def send(self, data: bytes) -> None:
        """Send something else."""
        self._sender.send(data)

    def bursts(self) -> Iterator[int]:
        """Put a burst into the socket, and tell how many datagrams it has."""
        datagrams = feed().datagrams
        for start in range(0, len(datagrams), _BURST):
            burst = datagrams[start : start + _BURST]
            for data in burst:
                self._sender.send(data)
            yield len(burst)

    def close(self) -> None:
        self._sender.close()


def read_sockets() -> Figures:
    """Read datagrams from a socket of the mux."""
    return asyncio.run(_read_sockets())


async def _read_sockets() -> Figures:
    path = OurPath(feed().keys, has_receiver=False)
    address = await path.open(LOOPBACK)
    waiting, clock = _Waiting(address), CpuClock()
    receive = path.socket.receive
    for count in waiting.bursts():
        with clock:
            for _ in range(count):
                receive(_SIZE)
    waiting.close()
    await path.close()
    return _per_packet(clock)


class _Nothing(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.count = 0

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.count += 1


def read_transports() -> Figures:
    """Read datagrams as asyncio's transports do, one for each time that the loop has looked."""
    return asyncio.run(_read_transports())


async def _read_transports() -> Figures:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Nothing, local_addr=(LOOPBACK, 0))
    waiting, clock = _Waiting(transport.get_extra_info("sockname")), CpuClock()
    read: Callable[[], None] = transport._read_ready  # type: ignore[attr-defined]
    for count in waiting.bursts():
        with clock:
            for _ in range(count):
                read()
    waiting.close()
    transport.close()
    return _per_packet(clock)


# ICE


def demultiplex() -> Figures:
    """Find the call of each datagram and its checked pair, and hand it up."""
    return asyncio.run(_demultiplex())


async def _demultiplex() -> Figures:
    path, clock = OurPath(feed().keys, has_receiver=False), CpuClock()
    address = await path.open(LOOPBACK)
    taken = Counter[str]()

    def take(data: bytes) -> None:
        taken["datagrams"] += 1

    waiting = _Waiting(address)
    await path.check(waiting.send)
    path.ice.on_datagram = take
    session, receiving, source = path.ice, path.socket, waiting.address
    with clock:
        for data in feed().datagrams:
            session.datagram_received(data, receiving, source)
    waiting.close()
    await path.close()
    return _complete(taken["datagrams"], clock)


def demultiplex_with_aioice() -> Figures:
    """The same for aioice: try it as STUN, and put it into a queue, from which it is taken."""
    return asyncio.run(_demultiplex_with_aioice())


async def _demultiplex_with_aioice() -> Figures:
    connection = aioice.Connection(ice_controlling=True)
    protocol = aioice.ice.StunProtocol(connection)
    protocol.local_candidate = aioice.Candidate("f", 1, "udp", 1, LOOPBACK, 1, "host")
    waiting, clock, count = connection._queue, CpuClock(), 0
    with clock:
        for data in feed().datagrams:
            protocol.datagram_received(data, (LOOPBACK, 1))
            count += waiting.get_nowait()[0] is not None
    return _complete(count, clock)


def _complete(count: int, clock: CpuClock) -> Figures:
    """The figures, if nothing was lost.

    :raises RuntimeError: when something was.
    """
    if count != feed().count:
        raise RuntimeError(f"{count} of {feed().count} packets came through")
    return _per_packet(clock)


# SRTP and RTP


def unprotect() -> Figures:
    """Authenticate and decrypt."""
    contexts, clock = SrtpContexts(PROFILE, feed().keys, is_client=False), CpuClock()
    with clock:
        plain = [contexts.unprotect_rtp(data) for data in feed().datagrams]
    return _complete(sum(map(bytes.__eq__, plain, feed().plain)), clock)


def unprotect_with_pylibsrtp() -> Figures:
    """The same by pylibsrtp alone."""
    parameters = PROFILES[PROFILE]
    key, salts = feed().keys[: parameters.key_length], feed().keys[2 * parameters.key_length :]
    policy = pylibsrtp.Policy(
        key=key + salts[: parameters.salt_length],
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
        srtp_profile=parameters.libsrtp_profile,
    )
    session, clock = pylibsrtp.Session(policy), CpuClock()
    with clock:
        plain = [session.unprotect(data) for data in feed().datagrams]
    return _complete(sum(map(bytes.__eq__, plain, feed().plain)), clock)


def parse() -> Figures:
    """Read the headers."""
    clock = CpuClock()
    with clock:
        parsed = [RtpPacket.parse(data) for data in feed().plain]
    return _complete(len(parsed), clock)


def parse_with_aiortc() -> Figures:
    """The same by aiortc."""
    clock, extensions = CpuClock(), HeaderExtensionsMap()
    with clock:
        parsed = [AiortcPacket.parse(data, extensions) for data in feed().plain]
    return _complete(len(parsed), clock)


def _codec(kind: str) -> RTCRtpCodecParameters:
    name = "opus" if kind == "audio" else "VP8"
    return RTCRtpCodecParameters(
        mimeType=f"{kind}/{name}",
        clockRate=_CLOCK_RATES[kind],
        channels=2 if kind == "audio" else None,
        payloadType=PAYLOAD_TYPES[name],
    )


def _routes(kind: str, receiver: RTCRtpReceiver | None = None) -> SectionRoutes:
    parameters = RTCRtpReceiveParameters(codecs=[_codec(kind)], muxId=_MIDS[kind])
    return SectionRoutes(_MIDS[kind], kind, receiver, parameters)


def _router() -> RtpRouter:
    router = RtpRouter(Counter())
    for kind in _MIDS:
        router.set_section(_routes(kind).to_section())
    return router


def _route(
    parsed: list[RtpPacket], times: list[float]
) -> Iterator[tuple[InboundStream, RtpPacket, int, float]]:
    router, kinds = _router(), {_MIDS[kind]: kind for kind in _MIDS}
    for packet, time in zip(parsed, times, strict=True):
        stream = router.route(packet, time)
        if not isinstance(stream, InboundStream):
            raise RuntimeError(f"a packet is {stream.value}")
        yield stream, packet, stream.receive(packet, time, _CLOCK_RATES[kinds[stream.mid]]), time


def route() -> Figures:
    """Find the stream of each packet, and count it."""
    clock = CpuClock()
    with clock:
        routed = list(_route(feed().parsed, feed().times))
    return _complete(len(routed), clock)


def route_with_aiortc() -> Figures:
    """The same by aiortc."""
    router, clock, count = AiortcRouter(), CpuClock(), 0
    statistics: dict[int, StreamStatistics] = {}
    for kind in _MIDS:
        router.register_receiver(PacketCounter(), [], [_codec(kind).payloadType or 0], _MIDS[kind])
    with clock:
        for packet in feed().parsed_by_aiortc:
            count += router.route_rtp(packet) is not None
            if packet.ssrc not in statistics:
                statistics[packet.ssrc] = StreamStatistics(90_000)
            statistics[packet.ssrc].add(packet)
    return _complete(count, clock)


# Frames


def _receive(routed: list[tuple[InboundStream, RtpPacket, int, float]]) -> Iterator[EncodedFrame]:
    counters = Counter[str]()
    router = _router()
    receivers = {mid: SectionReceiver(router._sections[mid], router, counters) for mid in _MIDS.values()}
    for receiver in receivers.values():
        receiver.is_wanted = True
    for stream, packet, number, time in routed:
        yield from receivers[stream.mid].receive(stream, packet, number, time)


def receive() -> Figures:
    """Put packets in order, and frames together."""
    clock = CpuClock()
    with clock:
        frames = list(_receive(feed().routed))
    return _all_frames(len(frames), clock)


def _all_frames(count: int, clock: CpuClock) -> Figures:
    if count != len(feed().frames):
        raise RuntimeError(f"{count} of {len(feed().frames)} frames came")
    return _per_packet(clock)


def receive_with_aiortc() -> Figures:
    """The same by aiortc; of each track one frame less, for it waits for the next to begin."""
    codecs = {codec.payloadType: codec for codec in map(_codec, _MIDS)}
    buffers = {
        PAYLOAD_TYPES["opus"]: JitterBuffer(capacity=16),
        PAYLOAD_TYPES["VP8"]: JitterBuffer(capacity=128, is_video=True),
    }
    clock, count = CpuClock(), len(_MIDS)
    with clock:
        for packet in feed().parsed_by_aiortc:
            packet._data = depayload(codecs[packet.payload_type], packet.payload)  # type: ignore[attr-defined]
            count += buffers[packet.payload_type].add(packet)[1] is not None
    return _all_frames(count, clock)


def depacketize() -> Figures:
    """Put frames together, without order."""
    section_formats = {
        number: f for kind in _MIDS for number, f in _routes(kind).to_section().formats.items()
    }
    assemblers = {number: FrameAssembler(1, f, Counter()) for number, f in section_formats.items()}
    clock, count = CpuClock(), 0
    with clock:
        for packet, time in zip(feed().parsed, feed().times, strict=True):
            count += len(assemblers[packet.payload_type].add(packet, time))
    return _all_frames(count, clock)


def depacketize_with_aiortc() -> Figures:
    """Take the payload descriptors off, as aiortc does before it puts packets in order."""
    codecs = {codec.payloadType: codec for codec in map(_codec, _MIDS)}
    clock = CpuClock()
    with clock:
        data = [depayload(codecs[p.payload_type], p.payload) for p in feed().parsed_by_aiortc]
    return _complete(len(data), clock)


# Recording


class _Recording:
    """A call of ours that is recorded, written when it is told to."""

    def __init__(self, directory: str) -> None:
        self._path = OurPath(feed().keys, has_receiver=False)
        self._writer = SharedWriter()
        self._recorder = Recorder(pathlib.Path(directory) / "call.webm", writer=self._writer)
        self.receivers: dict[str, RTCRtpReceiver] = {}

    async def open(self) -> _Waiting:
        """Where the datagrams go."""
        address = await self._path.open(LOOPBACK)
        for kind, mid in _MIDS.items():
            receiver = self.receivers[kind] = RTCRtpReceiver(kind, self._path.dtls)
            receiver.mid = mid
            self._path.dtls.media.set_section(mid, _routes(kind, receiver))
            self._recorder.add_track(receiver.track)
        # The job is made here, and worked on by hand.
        self._writer.add = lambda job: None  # type: ignore[method-assign]
        self._recorder.start()
        waiting = _Waiting(address)
        await self._path.check(waiting.send)
        return waiting

    @property
    def count(self) -> int:
        """How many packets came."""
        return sum(stream.packets_received for stream in self._path.dtls.media.streams())

    def write(self) -> None:
        """Write what waits."""
        if self._recorder._job is not None:
            self._recorder._job.work()

    async def close(self) -> int:
        """End it; how many frames were written."""
        if self._recorder._job is not None:
            self._recorder._job.finish()
        await self._recorder.stop()
        await self._path.close()
        return self._recorder.statistics["written"]


def enqueue() -> Figures:
    """Give frames to the tracks' receivers, which give them to the queue of a recorder."""
    return asyncio.run(_record(is_writing=False))


def write() -> Figures:
    """Take the frames from the queue and write them into a file."""
    return asyncio.run(_record(is_writing=True))


async def _record(*, is_writing: bool) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        recording = _Recording(directory)
        (await recording.open()).close()
        kinds = {"opus": "audio", "vp8": "video"}
        takers = [recording.receivers[kinds[frame.codec]] for frame in feed().frames]
        pairs = list(zip(takers, map(_now_and_later(), feed().frames), strict=True))
        clocks = [CpuClock(), CpuClock()]
        burst = max(1, len(pairs) * _BURST // feed().count)
        for start in range(0, len(pairs), burst):
            with clocks[0]:
                for taker, frame in pairs[start : start + burst]:
                    taker.take_frame(frame)
            with clocks[1]:
                recording.write()
        return _all_frames(await recording.close(), clocks[is_writing])


def _now_and_later() -> Callable[[EncodedFrame], EncodedFrame]:
    """Lets frames arrive on the event loop's clock, from now on."""
    now = asyncio.get_running_loop().time()
    return lambda frame: dataclasses.replace(frame, arrival=now + frame.arrival)


def enqueue_with_aiortc() -> Figures:
    """Give frames to the queue of a decoder's thread, as aiortc does, and take them out."""
    waiting, clock, count = queue.Queue[EncodedFrame](), CpuClock(), 0
    with clock:
        for frame in feed().frames:
            waiting.put(frame)
            count += waiting.get() is not None
    return _all_frames(count, clock)


def write_with_ffmpeg() -> Figures:
    """Write the frames into a file by FFmpeg's muxer."""
    clock, count = CpuClock(), 0
    with tempfile.TemporaryDirectory() as directory:
        container = av.open(f"{directory}/call.webm", "w")
        sound = container.add_stream("libopus", rate=_CLOCK_RATES["audio"])
        picture = container.add_mux_stream("vp8", width=1280, height=720)
        streams = {"opus": sound, "vp8": picture}
        starts = {codec: next(f.timestamp for f in feed().frames if f.codec == codec) for codec in streams}
        container.start_encoding()
        with clock:
            for frame in feed().frames:
                packet = av.Packet(frame.data)
                packet.stream = streams[frame.codec]
                packet.pts = packet.dts = (frame.timestamp - starts[frame.codec]) * 1000 // frame.clock_rate
                packet.time_base = _MILLISECOND
                packet.is_keyframe = frame.is_keyframe
                container.mux(packet)
                count += 1
        container.close()
    return _all_frames(count, clock)


# All of it


def record() -> Figures:
    """From datagrams in the socket to blocks in a file."""
    return asyncio.run(_record_datagrams())


async def _record_datagrams() -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        recording = _Recording(directory)
        waiting, clock, expected = await recording.open(), CpuClock(), 0
        for count in waiting.bursts():
            expected += count
            with clock:
                for _ in range(count):
                    await asyncio.sleep(0)
                    if recording.count >= expected:
                        break
                recording.write()
        waiting.close()
        return _all_frames(await recording.close(), clock)


Measure = Callable[[], Figures]
STAGES: dict[str, tuple[Measure, Measure, str]] = {
    "socket": (read_sockets, read_transports, "asyncio"),
    "demultiplexer": (demultiplex, demultiplex_with_aioice, AIOICE),
    "unprotect": (unprotect, unprotect_with_pylibsrtp, PYLIBSRTP),
    "parse": (parse, parse_with_aiortc, AIORTC),
    "route, count": (route, route_with_aiortc, AIORTC),
    "order, depacketize": (receive, receive_with_aiortc, AIORTC),
    "depacketize alone": (depacketize, depacketize_with_aiortc, AIORTC),
    "enqueue": (enqueue, enqueue_with_aiortc, f"{AIORTC}, to its decoder"),
    "mux": (write, write_with_ffmpeg, f"FFmpeg by PyAV {av.__version__}"),
}


def run() -> list[Result]:
    """Measure each stage, and all. Takes half a minute, most of it to encode the clip."""
    feed()
    results: list[Result] = []
    for case, (ours, peer, name) in STAGES.items():
        results += Comparison(case=case, unit="µs", ours=ours, peer=peer, peer_name=name).results(_RUNS)
    # The row "depacketize alone" is in the one before it.
    together = sum(result.peer for result in results if result.case != "depacketize alone")
    results += Comparison(
        case="socket to file",
        unit="µs",
        ours=record,
        peer=lambda: {_CPU: together},
        peer_name="the stages above together",
        targets=lambda _: {_CPU: _TARGET},
    ).results(_RUNS)
    return results
