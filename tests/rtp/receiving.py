"""A peer that sends a media section, and what is made of it, on a clock that the test owns."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mediapeer.rtp import (
    EncodedFrame,
    InboundStream,
    KeyframeRequest,
    NackRequest,
    Refusal,
    RtpPacket,
    RtpRouter,
    RtpSection,
    SectionReceiver,
)
from tests.rtp.packets import DELTA, KEYFRAME, OPUS, VP8, audio, rtp, video

FEEDBACK = frozenset(["nack", "nack pli"])
PICTURE = 3000
"Ticks between two pictures, 30 in a second."


@dataclass
class Source:
    """What the peer sends on one SSRC."""

    ssrc: int
    number: int = 0
    timestamp: int = 0
    rid: str | None = None
    payload_type: int = VP8
    pictures: int = 0


@dataclass
class Scene:
    """A section's receiver, as a transport would use it. Whatever it asks for is noted with the time."""

    section: RtpSection = field(default_factory=lambda: video(feedback=FEEDBACK))
    now: float = 100.0
    lost: Callable[[int], bool] = lambda number: False
    "Which packets the network loses, by their number."

    def __post_init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.router = RtpRouter(self.counters)
        self.router.set_section(self.section)
        self.receiver = SectionReceiver(self.section, self.router, self.counters)
        self.receiver.is_wanted = True
        self.frames: list[EncodedFrame] = []
        self.nacks: list[tuple[float, NackRequest]] = []
        self.keyframe_requests: list[tuple[float, int]] = []
        self.sent: dict[tuple[int, int], bytes] = {}

    def give(self, data: bytes, *, is_repair: bool = False) -> list[EncodedFrame]:
        """Give a packet, as if the network had just brought it."""
        packet = RtpPacket.parse(data)
        if is_repair:
            known = self.router.stream(packet.ssrc)
            assert known is not None
            stream, number = known, known.extend(packet.sequence_number)
        else:
            routed = self.router.route(packet, self.now)
            assert not isinstance(routed, Refusal)
            clock_rate = self.section.formats[packet.payload_type].clock_rate
            stream, number = routed, routed.receive(packet, self.now, clock_rate)
        frames = list(self.receiver.receive(stream, packet, number, self.now, is_repair=is_repair))
        self.frames += frames
        self.collect()
        return frames

    def collect(self) -> None:
        """Note what it asks for."""
        if not self.receiver.has_requests:
            return
        for request in self.receiver.requests(self.now):
            if isinstance(request, KeyframeRequest):
                self.keyframe_requests.append((self.now, request.ssrc))
            else:
                self.nacks.append((self.now, request))

    def wait(self, seconds: float) -> None:
        """Let time go by, and time-outs end."""
        end = self.now + seconds
        for _ in range(10_000):
            when = self.receiver.next_timeout
            if when is None or when > end:
                break
            self.now = max(self.now, when)
            self.frames += self.receiver.handle_timeout(self.now)
            self.collect()
        else:
            raise AssertionError("a time-out does not end")
        self.now = end

    def send(
        self, source: Source, payload: bytes = DELTA, *, marker: bool = False, **changes: object
    ) -> None:
        """Send the next packet of a source; the network may lose it."""
        number = source.number
        source.number += 1
        data = rtp(
            number, payload, ssrc=source.ssrc, timestamp=source.timestamp, marker=marker, rid=source.rid,
            payload_type=source.payload_type, **changes,
        )  # fmt: skip
        self.sent[source.ssrc, number & 0xFFFF] = data
        if not self.lost(number):
            self.give(data)

    def picture(self, source: Source, *, is_key: bool = False, packets: int = 3) -> None:
        """Send a picture of VP8 of several packets; its bytes say which it was."""
        source.timestamp += PICTURE
        source.pictures += 1
        first = KEYFRAME if is_key else DELTA
        for part in range(packets):
            head = first if part == 0 else b"\x00"
            self.send(source, head + bytes([source.pictures & 0xFF, part]), marker=part == packets - 1)

    def pictures(self, count: int, *sources: Source, packets: int = 3) -> None:
        """Send so many pictures of each source, 30 in a second."""
        for _ in range(count):
            self.wait(1 / 30)
            for source in sources:
                self.picture(source, packets=packets)

    def sound(self, source: Source, payload: bytes, **changes: object) -> None:
        """Send a packet of sound, 20 ms after the one before."""
        self.wait(0.02)
        source.timestamp += 960
        self.send(source, payload, **changes)

    def answer_nacks(self) -> int:
        """Send again, unwrapped from RTX, all that was asked for."""
        answered = 0
        for _, request in self.nacks:
            for number in request.sequence_numbers:
                self.give(self.sent[request.ssrc, number], is_repair=True)
                answered += 1
        self.nacks.clear()
        return answered

    def stream(self, source: Source) -> InboundStream:
        """What is known of a source."""
        stream = self.router.stream(source.ssrc)
        assert stream is not None
        return stream

    def timestamps(self) -> list[int]:
        """Those of the frames that were given out."""
        return [frame.timestamp for frame in self.frames]


def sound_scene(**changes: object) -> Scene:
    """A section that receives Opus."""
    return Scene(audio(**{"mid": "1", **changes}))


def speaker(ssrc: int = 2000, number: int = 0, **changes: int) -> Source:
    """A source of Opus."""
    return Source(ssrc, number, payload_type=OPUS, **changes)
