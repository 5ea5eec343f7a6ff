"""Whatever a peer sends: frames in order, a bounded state, no exception."""

import gc
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mediapeer.rtp import EncodedFrame, PayloadFormat
from mediapeer.rtp.reorder import CAPACITIES
from mediapeer.rtp.stream import StreamReceiver
from tests.rtp.packets import DELTA, KEYFRAME, OPUS, VP8, audio, rtp, video
from tests.rtp.receiving import FEEDBACK, Scene

RED = 63
FORMATS = {
    **video().formats,
    OPUS: PayloadFormat("opus", 48000),
    RED: PayloadFormat("red", 48000),
    98: PayloadFormat("vp9", 90000),
    45: PayloadFormat("av1", 90000),
    126: PayloadFormat("telephone-event", 8000),
    127: PayloadFormat("of no use", 90000),
}
_step = st.one_of(st.integers(1, 3), st.integers(60, 600), st.integers(-20, 40), st.integers(-70000, 70000))
_payload = st.one_of(
    st.sampled_from([KEYFRAME + b"abc", DELTA, b"\x00more", b"", b"\x6f\x00\x04\x02\x6f", b"\x65\x88"]),
    st.binary(max_size=24),
)
_packets = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3]),
        _step,
        st.sampled_from([0, 0, 0, 3000, -3000, 1 << 31]),
        _payload,
        st.sampled_from([VP8, VP8, VP8, 102, 98, 45, OPUS, RED, 126, 127]),
        st.booleans(),
        st.sampled_from([0.0, 0.0, 0.001, 0.03, 0.7, 11.0]),
        st.sampled_from(["", "", "", "repair", "unwanted", "keyframe", "end", "renegotiate"]),
    ),
    max_size=120,
)


def bounded(receiver: StreamReceiver) -> None:
    """Nothing of a source has grown beyond its bound."""
    buffer = receiver._buffer
    assert len(buffer) < buffer.capacity
    assert 0 <= buffer.missing <= buffer.capacity
    assert buffer.highest - buffer.next < buffer.capacity
    assert len(receiver.nacks) <= buffer.missing
    assert len(receiver._forgone) <= 512
    assert len(receiver._assemblers) <= len(FORMATS)


def in_order(frames: list[EncodedFrame], arrivals: dict[tuple[int, bytes], int]) -> None:
    """Frames of one source came out in the order of their numbers."""
    for ssrc in {frame.ssrc for frame in frames}:
        numbers = [arrivals[ssrc, frame.data] for frame in frames if frame.ssrc == ssrc]
        assert numbers == sorted(set(numbers))


@given(_packets, st.sampled_from(["audio", "video"]), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_packets_at_all(packets: list[tuple], kind: str, has_layers: bool, has_nack: bool) -> None:
    feedback = FEEDBACK if has_nack else frozenset(["nack pli"])
    make = video if kind == "video" else audio
    section = make(mid="1", formats=FORMATS, feedback=feedback, rids=("f", "h", "q") if has_layers else ())
    scene = Scene(section)
    receiver = scene.receiver
    numbers, timestamps = Counter({1: 65000, 2: 5, 3: 30000}), Counter({1: 0xFFFFFFF0})
    for ssrc, step, ticks, payload, payload_type, marker, seconds, what in packets:
        scene.wait(seconds)
        receiver.is_wanted = what != "unwanted"
        numbers[ssrc] += step
        timestamps[ssrc] += ticks
        data = rtp(
            numbers[ssrc], payload, ssrc=ssrc, timestamp=timestamps[ssrc], marker=marker,
            payload_type=payload_type, rid="xfhq"[ssrc] if has_layers else None,
        )  # fmt: skip
        scene.give(data, is_repair=what == "repair" and scene.router.stream(ssrc) is not None)
        if what == "keyframe":
            receiver.request_keyframe()
        elif what == "renegotiate":
            receiver.section = make(mid="1", formats=dict(list(FORMATS.items())[::2]))
            receiver.section = section
        elif what == "end":
            scene.frames += receiver.end()
        for one in receiver._receivers():
            bounded(one)
        counts = receiver.counts
        assert counts.repaired + counts.given_up <= counts.lost
    receiver.end()
    counts = receiver.counts
    assert counts.repaired + counts.given_up == counts.lost
    assert receiver.next_timeout is None
    assert counts.received <= len(packets)
    for when, request in scene.nacks:
        assert when <= scene.now
        assert 0 < len(request.sequence_numbers) <= 128


_arrivals = st.lists(
    st.tuples(st.integers(0, 150), st.sampled_from([0.0, 0.0, 0.0, 0.004, 0.2])), max_size=250
)


@given(_arrivals, st.integers(0, 65535), st.booleans())
@settings(deadline=None)
def test_frames_come_out_in_the_order_of_their_numbers(
    arrivals: list[tuple[int, float]], first: int, is_sound: bool
) -> None:
    scene = Scene(audio(mid="1") if is_sound else video(feedback=FEEDBACK))
    expected = {}
    for number, seconds in [(0, 0.0), *arrivals]:
        scene.wait(seconds)
        payload = b"\x78%d" % number if is_sound else DELTA + b"%d" % number
        payload_type = OPUS if is_sound else VP8
        timestamp = number * 960
        scene.give(rtp(first + number, payload, timestamp=timestamp, marker=True, payload_type=payload_type))
        data = payload if is_sound else payload[1:]
        expected[1000, data] = number
    scene.frames += scene.receiver.end()
    in_order(scene.frames, expected)
    counts = scene.receiver.counts
    assert counts.lost == counts.repaired + counts.given_up
    assert len(scene.frames) == counts.received
    if counts.given_up == 0:
        assert len(scene.frames) == len({number for number, _ in [(0, 0), *arrivals]})


def test_a_flood_of_numbers_keeps_its_bounds() -> None:
    scene = Scene(video(feedback=FEEDBACK))
    for number in range(0, 400_000, 2):
        scene.give(rtp(number, DELTA, marker=True, timestamp=number))
    (receiver,) = scene.receiver._receivers()
    bounded(receiver)
    scene.frames.clear()
    gc.collect()
    assert len(receiver._buffer) <= CAPACITIES["video"]
    assert scene.receiver.counts.lost == 199_999
