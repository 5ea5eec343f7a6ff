"""Encoded tracks for tests: bitstreams made by PyAV, given as if they came from a network, on a clock of ours."""

import fractions
import functools
import json
import pathlib
import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av

from mediapeer.media.recorder import Recorder
from mediapeer.media.writer import SharedWriter, WriterJob
from mediapeer.rtp.frame import EncodedFrame, FrameConsumer, RepairCounts

BEGIN = 1000.0
#: NTP seconds of a moment of 2026, for ``captured_at``.
CAPTURE = 3_976_000_000.0
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "h264": ("libx264", {"tune": "zerolatency", "preset": "ultrafast", "forced-idr": "1"}),
    "h265": ("libx265", {"tune": "zerolatency", "preset": "ultrafast", "x265-params": "log-level=none"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1"}),
}


class Piece:
    """A frame of a bitstream."""

    def __init__(self, data: bytes, is_keyframe: bool, width: int, height: int) -> None:
        self.data, self.is_keyframe, self.width, self.height = data, is_keyframe, width, height


@functools.cache
def bitstream(
    codec: str, count: int = 60, width: int = 320, height: int = 240, gop: int = 30, rate: int = 0
) -> tuple[Piece, ...]:
    """So many pictures, a keyframe every ``gop``; each is of another grey, the first of black."""
    name, options = ENCODERS[codec]
    av.logging.set_level(av.logging.PANIC)
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = fractions.Fraction(1, 30), fractions.Fraction(30)
    # One thread: libvpx's spin while they wait for each other, for minutes where others have the processors.
    encoder.gop_size, encoder.options, encoder.thread_count = gop, options, 1
    if rate:
        encoder.bit_rate = rate
    pieces = []
    for index in range(count):
        frame = av.VideoFrame(width, height, "yuv420p")
        for number, plane in enumerate(frame.planes):
            plane.update(bytes([128 if number else 16 + index * 7 % 220]) * plane.buffer_size)
        frame.pts = index
        for packet in encoder.encode(frame):
            pieces.append(_piece(codec, packet, width, height))
    pieces += [_piece(codec, packet, width, height) for packet in encoder.encode(None)]
    assert len(pieces) == count
    return tuple(pieces)


def _piece(codec: str, packet: av.Packet, width: int, height: int) -> Piece:
    data = bytes(packet)
    if codec == "av1" and data[:2] == b"\x12\x00":
        data = data[2:]  # without its delimiter, as it comes from RTP
    return Piece(data, packet.is_keyframe, width, height)


@functools.cache
def sound(codec: str, count: int = 100) -> tuple[bytes, ...]:
    """So many packets of 20 ms."""
    if codec in ("pcmu", "pcma", "g722"):
        return (bytes([0x55]) * 160,) * count
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "stereo", "s16"
    encoder.time_base = fractions.Fraction(1, 48_000)
    packets = []
    for index in range(count + 5):
        frame = av.AudioFrame("s16", "stereo", 960)
        frame.sample_rate, frame.pts = 48_000, index * 960
        frame.planes[0].update(b"\x10\x00\x10\x00\x00\x08\x00\x08" * 480)
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return tuple(packets[:count])


class FakeTrack:
    """An encoded track that gives what the test puts in."""

    def __init__(self, kind: str, cname: str | None = None, id: str | None = None) -> None:
        self.kind = kind
        self.id = id or f"the {kind}"
        self.cname = cname
        self.counts = RepairCounts()
        self.consumers: list[FrameConsumer] = []
        self.keyframe_requests = 0

    def subscribe(self, consumer: FrameConsumer) -> "FakeSubscription":
        self.consumers.append(consumer)
        return FakeSubscription(self, consumer)

    def give(self, frame: EncodedFrame) -> None:
        self.counts.received += 1
        for consumer in list(self.consumers):
            consumer.take_frame(frame)

    def end(self) -> None:
        for consumer in list(self.consumers):
            consumer.end()


class FakeSubscription:
    """What a consumer of a fake track holds."""

    def __init__(self, track: FakeTrack, consumer: FrameConsumer) -> None:
        self._track, self._consumer = track, consumer

    @property
    def counts(self) -> RepairCounts:
        return self._track.counts

    def request_keyframe(self) -> None:
        self._track.keyframe_requests += 1

    def close(self) -> None:
        if self._consumer in self._track.consumers:
            self._track.consumers.remove(self._consumer)


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self, now: float = BEGIN) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class ManualWriter(SharedWriter):
    """A writer without a thread: it works when the test says so, or somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.recordings: list[WriterJob] = []

    def add(self, job: WriterJob) -> None:
        self.recordings.append(job)

    def hurry(self) -> None:
        self.turn()

    def turn(self) -> None:
        self.recordings = [job for job in self.recordings if job.work()]


Event = tuple[float, Callable[[], object]]


def pictures(
    track: FakeTrack,
    pieces: Iterable[Piece],
    codec: str = "vp8",
    *,
    start: float = 0.0,
    delay: float = 0.0,
    captured: float | None = None,
    timestamp: int = 0,
    ssrc: int = 1,
    **changes: Any,
) -> Iterator[Event]:
    """Pictures, 30 a second.

    :param start: when the first is captured, in seconds from the test's beginning.
    :param delay: how much later each arrives, in seconds.
    :param captured: what to add to get the sender's clock; ``None``: it is not known.
    """
    for index, piece in enumerate(pieces):
        at = start + index / 30
        frame = EncodedFrame(
            codec=codec,
            data=piece.data,
            ssrc=ssrc,
            timestamp=(timestamp + index * 3000) & 0xFFFFFFFF,
            clock_rate=90_000,
            arrival=BEGIN + at + delay,
            is_keyframe=piece.is_keyframe,
            width=piece.width if piece.is_keyframe else None,
            height=piece.height if piece.is_keyframe else None,
            captured_at=None if captured is None else captured + at,
            **changes,
        )
        yield frame.arrival, functools.partial(track.give, frame)


def packets(
    track: FakeTrack,
    data: Iterable[bytes],
    codec: str = "opus",
    *,
    start: float = 0.0,
    delay: float = 0.0,
    captured: float | None = None,
    timestamp: int = 0,
) -> Iterator[Event]:
    """Packets of sound, each 20 ms."""
    rate = 48_000 if codec == "opus" else 8000
    for index, each in enumerate(data):
        at = start + index * 0.02
        frame = EncodedFrame(
            codec=codec,
            data=each,
            ssrc=2,
            timestamp=(timestamp + index * rate // 50) & 0xFFFFFFFF,
            clock_rate=rate,
            arrival=BEGIN + at + delay,
            is_keyframe=True,
            duration=rate // 50,
            captured_at=None if captured is None else captured + at,
        )
        yield frame.arrival, functools.partial(track.give, frame)


def play(clock: Clock, writer: ManualWriter, *scripts: Iterable[Event]) -> None:
    """Do everything at its moment; the writer has its turn five times a second."""
    turn = clock.now + 0.2
    for moment, action in sorted((event for script in scripts for event in script), key=lambda each: each[0]):
        while turn <= moment:
            writer.turn()
            turn += 0.2
        clock.now = moment
        action()
    writer.turn()


def recorder(path: pathlib.Path, *tracks: FakeTrack, **options: Any) -> tuple[Recorder, Clock, ManualWriter]:
    """A recorder with a clock and a writer of the test's, already started."""
    from mediapeer.media import RecordingOptions

    clock, writer = Clock(), ManualWriter()
    options.setdefault("minimum_free", 0)
    made = Recorder(path, tracks, options=RecordingOptions(**options), clock=clock, writer=writer)
    made.start()
    return made, clock, writer


def probe(path: pathlib.Path) -> dict[str, Any]:
    """What ffprobe says of a file, with the number of its packets."""
    entries = (
        "stream=codec_type,codec_name,nb_read_packets,width,height,sample_rate:format=duration,format_name"
    )
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", entries, "-of", "json", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def decode_errors(path: pathlib.Path) -> str:
    """What ffmpeg complains of when it decodes everything."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def times(path: pathlib.Path, kind: str) -> list[float]:
    """When each packet of a kind of stream is shown."""
    with av.open(path) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.size]  # type: ignore[operator]


class Channel:
    """A data channel of which only the messages are there."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._listeners: list[object] = []

    def on(self, event: str, f: object) -> None:
        assert event == "message"
        self._listeners.append(f)

    def remove_listener(self, event: str, f: object) -> None:
        self._listeners.remove(f)

    def emit(self, message: str | bytes) -> None:
        for listener in list(self._listeners):
            listener(message)  # type: ignore[operator]


def names(directory: pathlib.Path) -> list[str]:
    """The files in a directory."""
    return sorted(path.name for path in directory.iterdir())
