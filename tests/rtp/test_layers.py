"""One continuing stream out of several."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import InboundStream, LayerSelector, RtpPacket, RtpSection
from mediapeer.rtp.layers import MAXIMUM_GAP, SILENCE
from tests.rtp.packets import DELTA, KEYFRAME, OPUS, audio, parsed, video


@dataclass
class Layer:
    """What the peer sends on one SSRC."""

    stream: InboundStream
    number: int
    timestamp: int


@dataclass
class Scene:
    """A selector, its streams and its clock."""

    section: RtpSection = field(default_factory=lambda: video(rids=("f", "h", "q")))
    now: float = 100.0
    layers: dict[int, Layer] = field(default_factory=dict)
    seen: list[RtpPacket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.selector = LayerSelector(self.section)

    def layer(self, ssrc: int, rid: str | None = None, number: int = 0, timestamp: int = 0) -> Layer:
        layer = Layer(InboundStream(ssrc, "1"), number, timestamp)
        layer.stream.rid = rid
        self.layers[ssrc] = layer
        return layer

    def give(
        self, layer: Layer, payload: bytes = DELTA, *, number: int | None = None, is_repair: bool = False
    ) -> bool:
        """Give a packet of a layer, the next one unless ``number`` says another."""
        if number is None:
            layer.number += 1
            number = layer.number
        payload_type = OPUS if self.section.kind == "audio" else 96
        packet = parsed(
            number, payload, ssrc=layer.stream.ssrc, timestamp=layer.timestamp, payload_type=payload_type
        )
        if is_repair:
            extended = layer.stream.extend(packet.sequence_number)
        else:
            extended = layer.stream.receive(packet, self.now, 90000)
        streams = [other.stream for other in self.layers.values()]
        taken = self.selector.take(layer.stream, packet, extended, streams, self.now, is_repair=is_repair)
        if taken:
            self.seen.append(packet)
        return taken

    def frames(self, count: int, *layers: Layer, payload: bytes = DELTA) -> None:
        """So many frames of one packet of each layer, at 30 Hz."""
        for _ in range(count):
            self.now += 1 / 30
            for layer in layers:
                layer.timestamp += 3000
                self.give(layer, payload)


def test_a_single_stream_passes_as_it_is() -> None:
    scene = Scene(video())
    only = scene.layer(7, number=65530, timestamp=0xFFFFFFFF - 5000)
    scene.frames(10, only)
    assert [packet.ssrc for packet in scene.seen] == [7] * 10
    assert [packet.sequence_number for packet in scene.seen] == [(65531 + n) & 0xFFFF for n in range(10)]
    assert scene.seen[-1].timestamp == only.timestamp & 0xFFFFFFFF


def test_a_better_layer_takes_over_at_its_keyframe_and_nobody_sees_a_seam() -> None:
    scene = Scene()
    low = scene.layer(3, "q", number=100, timestamp=5_000_000)
    high = scene.layer(1, "f", number=40000, timestamp=77)
    scene.frames(5, low)
    scene.frames(3, high, low)
    assert scene.selector.current is low.stream, "without a keyframe nothing can be decoded"
    scene.give(high)
    assert scene.selector.keyframe_wanted
    scene.now += 1 / 30
    high.timestamp += 3000
    assert scene.give(high, KEYFRAME)
    assert not scene.selector.keyframe_wanted
    scene.frames(4, low, high)
    assert scene.selector.current is high.stream
    assert {packet.ssrc for packet in scene.seen} == {3}
    numbers = [packet.sequence_number for packet in scene.seen]
    assert numbers == list(range(101, 101 + len(numbers)))
    steps = [b.timestamp - a.timestamp for a, b in zip(scene.seen, scene.seen[1:], strict=False)]
    assert all(abs(step - 3000) <= 1 for step in steps), steps


def test_a_layer_that_goes_silent_gives_way_to_the_best_that_flows() -> None:
    scene = Scene()
    high, middle, low = scene.layer(1, "f"), scene.layer(2, "h"), scene.layer(3, "q")
    scene.frames(3, high, middle, low)
    assert scene.selector.current is high.stream
    scene.frames(int(SILENCE * 30) - 1, low, middle)
    assert scene.selector.current is high.stream
    scene.now += 0.04
    assert not scene.give(low), "the middle one flows, and is better"
    assert scene.give(middle)
    assert scene.selector.current is middle.stream
    assert scene.selector.keyframe_wanted, "it was no keyframe that it began with"
    before = len(scene.seen)
    scene.frames(30, low, middle)
    assert len(scene.seen) == before + 30
    numbers = [packet.sequence_number for packet in scene.seen]
    assert numbers == list(range(1, 1 + len(numbers)))


def test_a_goodbye_makes_a_layer_give_way_at_once() -> None:
    scene = Scene()
    high, low = scene.layer(1, "f"), scene.layer(3, "q")
    scene.frames(3, high, low)
    high.stream.ended = True
    assert scene.give(low)
    assert scene.selector.current is low.stream


def test_a_source_that_signaling_names_is_better_than_one_that_it_does_not() -> None:
    scene = Scene(audio(ssrcs=frozenset([5])))
    old, new = scene.layer(4), scene.layer(5)
    scene.frames(3, old)
    assert scene.give(new)
    assert not scene.give(old)


def test_packets_from_before_a_switch_are_not_mixed_in() -> None:
    scene = Scene()
    high, low = scene.layer(1, "f", number=500), scene.layer(3, "q")
    scene.frames(3, low)
    scene.give(high, number=510)
    scene.give(high, KEYFRAME, number=511)
    assert scene.selector.current is high.stream
    assert not scene.give(high, number=509)
    assert not scene.give(high, number=505, is_repair=True)
    assert scene.give(high, number=513)
    assert scene.give(high, number=512, is_repair=True)
    assert [packet.sequence_number for packet in scene.seen] == [1, 2, 3, 4, 6, 5]


def test_a_repair_changes_nothing_about_the_choice() -> None:
    scene = Scene()
    high, low = scene.layer(1, "f"), scene.layer(3, "q")
    scene.frames(3, low)
    assert not scene.give(high, KEYFRAME, number=5, is_repair=True)
    assert not scene.give(low, number=2000, is_repair=True), "no repair comes from the future"
    assert scene.selector.current is low.stream


def test_a_gap_that_no_buffer_holds_is_closed() -> None:
    scene = Scene(video())
    only = scene.layer(1)
    scene.frames(2, only)
    only.number += MAXIMUM_GAP + 5
    scene.frames(1, only)
    assert scene.selector.keyframe_wanted
    scene.frames(2, only)
    assert [packet.sequence_number for packet in scene.seen] == [1, 2, 3, 4, 5]


def test_numbers_are_told_to_the_peer_as_it_knows_them() -> None:
    scene = Scene()
    high, low = scene.layer(1, "f", number=50000), scene.layer(3, "q", number=10)
    scene.frames(3, low)
    assert scene.selector.original_sequence_number(12) == 12
    scene.give(high, KEYFRAME)
    scene.give(high)
    assert [scene.selector.original_sequence_number(n) for n in (13, 14, 15, 16)] == [
        None,
        50001,
        50002,
        50003,
    ]


_steps = st.tuples(
    st.integers(0, 2),
    st.integers(-50, 700),
    st.floats(0, 1),
    st.integers(0, 200_000),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(_steps, max_size=60))
def test_whatever_comes_the_receiver_sees_one_source_with_no_wild_step(
    steps: list[tuple[int, int, float, int, bool, bool]],
) -> None:
    scene = Scene()
    layers = [scene.layer(1, "f", 7), scene.layer(2, "h", 30000, 5), scene.layer(3, "q", 65000, 9)]
    highest = None
    for which, step, seconds, ticks, is_key, is_repair in steps:
        scene.now += seconds
        layer = layers[which]
        layer.number += step
        layer.timestamp += ticks
        if not scene.give(
            layer, KEYFRAME if is_key else DELTA, number=layer.number & 0xFFFF, is_repair=is_repair
        ):
            continue
        packet = scene.seen[-1]
        assert packet.ssrc == scene.seen[0].ssrc
        if highest is not None:
            ahead = (packet.sequence_number - highest) & 0xFFFF
            assert ahead <= MAXIMUM_GAP or ahead > 0x8000
        if highest is None or (packet.sequence_number - highest) & 0xFFFF < 0x8000:
            highest = packet.sequence_number
