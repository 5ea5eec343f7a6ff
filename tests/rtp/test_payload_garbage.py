"""Whatever a peer sends as a payload: a frame or the typed error comes of it, and nothing else."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mediapeer.rtp import PayloadFormat, RtpPacket
from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.rtp.payload import PayloadError, Unit, depacketizer_for, packetizer_for, split_red

CODECS = ["vp8", "vp9", "h264", "h265", "av1", "opus", "pcmu", "g722"]
#: First bytes that lead somewhere.
HEADS = {
    "vp8": [b"\x10", b"\x90\xf0\x92\x34\x05\xc5", b"\x10\x10\x02\x00\x9d\x01\x2a", b"\x80\x80"],
    "vp9": [b"\x08\x82\x49\x83\x42", b"\xaa\x92\x34\x20", b"\xfc\x92\x34\x20", b"\x0a\x18", b"\x04"],
    "h264": [
        b"\x78",
        b"\x7c\x85",
        b"\x7c\x05",
        b"\x7c\x45",
        b"\x67\x64\x00\x1e",
        b"\x67\xf4\x00\x1e",
        b"\x68",
        b"\x65",
    ],
    "h265": [
        b"\x60\x01",
        b"\x62\x01\x93",
        b"\x62\x01\x13",
        b"\x62\x01\x53",
        b"\x42\x01",
        b"\x40\x01",
        b"\x26\x01",
    ],
    "av1": [b"\x10\x08", b"\x28\x0c\x08", b"\x50\x30", b"\xd0", b"\x90", b"\x00", b"\x30", b"\x10\x36"],
}


def payload(codec: str) -> st.SearchStrategy[bytes]:
    heads = st.sampled_from([b"", *HEADS.get(codec, [])])
    return st.builds(lambda head, rest: head + rest, heads, st.binary(max_size=40))


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_depacketizing_garbage(codec: str, data: st.DataObject) -> None:
    depacketizer = depacketizer_for(codec, 48000 if codec == "opus" else 90000)
    assert depacketizer is not None
    for _ in range(3):
        frame = data.draw(st.lists(payload(codec), min_size=1, max_size=6))
        for one in frame:
            assert depacketizer.begins_frame(one) in (True, False)
        try:
            unit = depacketizer.depacketize(frame)
        except PayloadError:
            continue
        assert isinstance(unit, Unit)
        assert unit.data
        assert unit.width is None or (
            0 < unit.width <= 1 << 16 and unit.height and 0 < unit.height <= 1 << 16
        )


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.builds(lambda data: b"\x00\x00\x01" + data, st.binary(max_size=200))
    ),
    st.integers(0, 60),
    st.booleans(),
)
@example(b"\x0a", 1200, True)
def test_packetizing_garbage(codec: str, data: bytes, maximum: int, is_keyframe: bool) -> None:
    packetizer, depacketizer = (
        packetizer_for(codec, {"packetization-mode": "1"}),
        depacketizer_for(codec, 90000),
    )
    assert packetizer is not None
    assert depacketizer is not None
    try:
        made = packetizer.packetize(data, is_keyframe=is_keyframe, maximum=maximum)
    except PayloadError:
        return
    assert made
    assert max(map(len, made)) <= maximum
    try:
        depacketizer.depacketize(made)
    except PayloadError:
        return


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_splitting_garbage(data: bytes) -> None:
    try:
        blocks = split_red(data)
    except PayloadError:
        return
    assert blocks[-1].timestamp_offset == 0
    assert sum(len(block.data) for block in blocks) + 4 * len(blocks) - 3 == len(data)


@pytest.mark.parametrize("codec", [*CODECS, "nothing"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_assembling_garbage(codec: str, data: st.DataObject) -> None:
    """All that comes is given out, counted or held, and of the latter no more than the frame in progress."""
    counters: Counter[str] = Counter()
    assembler = FrameAssembler(1, PayloadFormat(codec, 90000), counters)
    packets = st.tuples(payload(codec), st.integers(0, 2), st.booleans(), st.integers(0, 2))
    for content, timestamp, has_marker, lost in data.draw(st.lists(packets, max_size=12)):
        packet = RtpPacket(96, 0, timestamp, 1, content, marker=has_marker)
        frames = assembler.add(packet, 0.0, lost)
        assert len(frames) <= 2
        assert all(frame.data and frame.codec == codec for frame in frames)
    assert len(assembler._payloads) <= 12
    assert counters.keys() <= {"incomplete_frame", "malformed_payload", "unknown_codec"}
