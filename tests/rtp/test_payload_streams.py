"""What encoders make, through our packetizers and those of others, and back."""

import random
from collections import Counter

import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder

from mediapeer.rtp import EncodedFrame, PayloadFormat, RtpPacket
from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.rtp.payload import Depacketizer, Packetizer, PayloadError, depacketizer_for, packetizer_for
from mediapeer.rtp.payload.nal import START_CODE, split_units
from mediapeer.rtp.payload.obu import TEMPORAL_DELIMITER, split_obus
from tests.rtp.streams import SOUND, VIDEO, decoded, need, sound, video

RATES = {"opus": 48000, "pcmu": 8000, "pcma": 8000, "g722": 8000}
MODE_1 = {"packetization-mode": "1"}


@pytest.fixture(params=VIDEO)
def codec(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


def both(codec: str) -> tuple[Packetizer, Depacketizer]:
    packetizer, depacketizer = packetizer_for(codec, MODE_1), depacketizer_for(codec, 90000)
    assert packetizer is not None
    assert depacketizer is not None
    return packetizer, depacketizer


def expected(codec: str, data: bytes) -> bytes:
    """The frame as a depacketizer gives it: with long start codes, without delimiters."""
    if codec in ("h264", "h265"):
        return START_CODE + START_CODE.join(split_units(data))
    if codec == "av1":
        units = [unit for unit in split_obus(data) if unit.kind != TEMPORAL_DELIMITER]
        return b"".join(unit.serialize(with_size=True) for unit in units)
    return data


def with_lengths(data: bytes) -> bytes:
    """The same with lengths in place of start codes."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in split_units(data))


@pytest.mark.parametrize("maximum", [50, 333, 1200])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (642, 362), (176, 144)])
def test_each_frame_comes_back_bit_by_bit(codec: str, width: int, height: int, maximum: int) -> None:
    packetizer, depacketizer = both(codec)
    frames = video(codec, width, height)[0]
    assert len(frames) == 24
    back = []
    for data, is_keyframe in frames:
        payloads = packetizer.packetize(data, is_keyframe=is_keyframe, maximum=maximum)
        assert max(map(len, payloads)) <= maximum
        assert depacketizer.begins_frame(payloads[0])
        unit = depacketizer.depacketize(payloads)
        assert unit.data == expected(codec, data)
        assert unit.is_keyframe is is_keyframe
        assert (unit.width, unit.height) == ((width, height) if is_keyframe else (None, None))
        back.append(unit.data)
    assert decoded(codec, back) == [(width, height)] * 24


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_frames_out_of_mp4_files_are_taken_too(codec: str) -> None:
    need(codec)
    for data, is_keyframe in video(codec)[0]:
        ours, others = both(codec)[0], both(codec)[0]
        assert ours.packetize(with_lengths(data), is_keyframe=is_keyframe, maximum=500) == others.packetize(
            data, is_keyframe=is_keyframe, maximum=500
        )


def test_few_payloads_are_made(codec: str) -> None:
    packetizer, _ = both(codec)
    for data, is_keyframe in video(codec)[0]:
        payloads = packetizer.packetize(data, is_keyframe=is_keyframe, maximum=1200)
        # Each slice of H.264 begins a payload of its own, unless it is small.
        assert len(payloads) <= len(data) // 1190 + (4 if codec in ("h264", "h265") else 1)


def test_of_mode_0_each_payload_is_a_nal_unit() -> None:
    need("h264")
    packetizer, depacketizer = packetizer_for("h264"), depacketizer_for("h264", 90000)
    assert packetizer is not None
    assert depacketizer is not None
    for data, is_keyframe in video("h264")[0]:
        payloads = packetizer.packetize(data, is_keyframe=is_keyframe, maximum=65535)
        assert payloads == split_units(data)
        assert depacketizer.depacketize(payloads).data == expected("h264", data)
    with pytest.raises(PayloadError, match="mode 0"):
        packetizer.packetize(video("h264")[0][0].data, is_keyframe=True, maximum=100)


@pytest.mark.parametrize("codec", SOUND)
def test_sound_comes_back(codec: str) -> None:
    need(codec)
    packetizer, depacketizer = packetizer_for(codec), depacketizer_for(codec, RATES[codec])
    assert packetizer is not None
    assert depacketizer is not None
    frames, _ = sound(codec)
    assert len(frames) >= 20
    for data, _ in frames:
        [payload] = packetizer.packetize(data, is_keyframe=True, maximum=1200)
        unit = depacketizer.depacketize([payload])
        assert (unit.data, unit.is_keyframe, unit.duration) == (data, True, RATES[codec] // 50)
    with pytest.raises(PayloadError):
        packetizer.packetize(bytes(1201), is_keyframe=True, maximum=1200)


# Those of others


def assembled(codec: str, packets: list[bytes]) -> list[EncodedFrame]:
    """What comes of packets that are all there."""
    counters: Counter[str] = Counter()
    assembler = FrameAssembler(1, PayloadFormat(codec, RATES.get(codec, 90000)), counters)
    frames = [frame for data in packets for frame in assembler.add(RtpPacket.parse(data), 0.0)]
    assert not counters
    return frames


def test_libavformat_packs_video(codec: str) -> None:
    made, packets = video(codec)
    assert len(packets) > len(made)
    frames = assembled(codec, packets)
    assert [frame.data for frame in frames] == [expected(codec, data) for data, _ in made]
    assert [frame.is_keyframe for frame in frames] == [is_keyframe for _, is_keyframe in made]
    assert {(f.width, f.height) for f in frames if f.is_keyframe} == {(320, 240)}


@pytest.mark.parametrize("codec", SOUND)
def test_libavformat_packs_sound(codec: str) -> None:
    need(codec)
    made, packets = sound(codec)
    frames = assembled(codec, packets)
    # It puts several pieces of G.711 and G.722 into a packet.
    assert b"".join(frame.data for frame in frames) == b"".join(data for data, _ in made)
    starts = [frame.timestamp for frame in frames]
    assert all(
        (b - a) & 0xFFFFFFFF == f.duration for a, b, f in zip(starts, starts[1:], frames, strict=False)
    )


def test_aiortc_packs_vp8() -> None:
    need("vp8")
    _, depacketizer = both("vp8")
    for picture_id, (data, is_keyframe) in enumerate(video("vp8")[0], 120):
        payloads = Vp8Encoder._packetize(data, picture_id)
        unit = depacketizer.depacketize(payloads)
        assert (unit.data, unit.is_keyframe) == (data, is_keyframe)


def test_aiortc_packs_h264() -> None:
    need("h264")
    _, depacketizer = both("h264")
    for data, is_keyframe in video("h264", 642, 362)[0]:
        payloads = H264Encoder._packetize(H264Encoder._split_bitstream(data))
        assert depacketizer.begins_frame(payloads[0])
        unit = depacketizer.depacketize(payloads)
        assert (unit.data, unit.is_keyframe) == (expected("h264", data), is_keyframe)


def test_a_decoder_finds_each_layer_of_a_superframe() -> None:
    """Two frames that follow each other stand for two layers: each is shown."""
    need("vp9")
    _, depacketizer = both("vp9")
    lower, upper = (data for data, _ in video("vp9")[0][:2])
    unit = depacketizer.depacketize([b"\x2c\x00\x01" + lower, b"\x2c\x02\x01" + upper])
    assert (unit.spatial_layer, unit.data.startswith(lower + upper)) == (1, True)
    assert decoded("vp9", [unit.data]) == [(320, 240)] * 2
    assert decoded("vp9", [lower + upper]) != [(320, 240)] * 2


# Losses


@pytest.mark.parametrize("share", [0.02, 0.2])
@pytest.mark.parametrize("is_bursty", [False, True])
def test_what_comes_out_after_losses_is_whole(codec: str, share: float, is_bursty: bool) -> None:
    """A frame comes out if and only if all its packets came. That packets which are not lost come in order is the
    reorder buffer's part.
    """
    generator = random.Random(f"{codec} {share}")
    packetizer, _ = both(codec)
    counters: Counter[str] = Counter()
    assembler = FrameAssembler(1, PayloadFormat(codec, 90000), counters)
    whole: list[bytes] = []
    frames: list[EncodedFrame] = []
    lost = total_lost = burst = 0
    for number, (data, is_keyframe) in enumerate(video(codec)[0] * 8):
        payloads = packetizer.packetize(data, is_keyframe=is_keyframe, maximum=200)
        is_whole = True
        for index, payload in enumerate(payloads):
            if burst == 0 and generator.random() < share:
                burst = generator.randrange(1, 12) if is_bursty else 1
            if burst:
                burst -= 1
                lost += 1
                total_lost += 1
                is_whole = False
                continue
            packet = RtpPacket(96, 0, 3000 * number, 1, payload, marker=index == len(payloads) - 1)
            frames += assembler.add(packet, 0.0, lost)
            lost = 0
        if is_whole:
            whole.append(expected(codec, data))
    assert total_lost > 10
    assert counters["incomplete_frame"] > 3
    assert not counters["malformed_payload"]
    assert [frame.data for frame in frames] == whole
    assert sum(frame.lost_before for frame in frames) + lost + assembler._lost == total_lost
