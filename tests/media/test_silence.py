"""Sound that is missing: there is silence in the file, so that what follows is heard with its pictures.

Chromium plays the packets of a file's sound one after the other, whatever their timestamps say.
"""

import pathlib

import av
import pytest

from mediapeer.media.catalog import Catalog
from mediapeer.media.export import ExportOptions, export_recording
from mediapeer.media.manifest import read_manifest
from mediapeer.media.matroska import OPUS_DELAY
from mediapeer.media.probe import probe
from mediapeer.media.silence import is_silence, opus_silence
from mediapeer.rtp.payload.audio import opus_duration
from tests.media.encoded import (
    CAPTURE,
    FakeTrack,
    bitstream,
    decode_errors,
    packets,
    pictures,
    play,
    recorder,
    sound,
)

Sound = list[tuple[float, float, bytes]]


def sound_of(path: pathlib.Path) -> Sound:
    """Of each packet of Opus when it is heard, how long, by what Opus says, and the packet."""
    with av.open(path) as container:
        stream = container.streams.audio[0]
        delay = 0 if path.suffix == ".mp4" else OPUS_DELAY / 48_000
        return [
            (
                float(packet.pts * packet.time_base) + delay,
                opus_duration(bytes(packet)) / 48_000,
                bytes(packet),
            )  # type: ignore[operator]
            for packet in container.demux(stream)
            if packet.size
        ]


def played(found: Sound) -> list[float]:
    """When each packet is heard where one follows the other."""
    times = [found[0][0]]
    for _, length, _ in found[:-1]:
        times.append(times[-1] + length)
    return times


def heard(found: Sound) -> Sound:
    """What is no silence of the recorder's."""
    return [each for each in found if not is_silence(each[2])]


@pytest.mark.parametrize("seconds", [0.0025, 0.01, 0.02, 0.0375, 0.12, 0.5, 2.0, 61.2475])
def test_silence_is_as_long_as_it_should_be_and_silent(seconds: float) -> None:
    made = list(opus_silence(seconds))
    assert sum(length for _, length in made) == pytest.approx(seconds)
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "stereo"
    for data, length in made[-20:]:
        assert is_silence(data)
        assert opus_duration(data) == round(length * 48_000)
        for frame in decoder.decode(av.Packet(data)):
            assert frame.samples == round(length * 48_000)
            assert not any(bytes(frame.planes[0]))
    assert not any(is_silence(packet) for packet in sound("opus"))


@pytest.mark.parametrize(("codec", "suffix"), [("vp8", "webm"), ("h264", "mp4"), ("h264", "mkv")])
async def test_sound_that_was_lost_does_not_bring_what_follows_forward(
    tmp_path: pathlib.Path, codec: str, suffix: str
) -> None:
    audio, video = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, container=suffix)
    pieces = sound("opus", 200)
    play(
        clock,
        writer,
        pictures(video, bitstream(codec, 120), codec),
        packets(audio, pieces[:50]),
        packets(audio, pieces[51:60], start=1.02, timestamp=51 * 960),
        packets(audio, pieces[90:], start=1.8, timestamp=90 * 960),
    )
    summary = await recording.stop()
    assert decode_errors(summary.path) == ""
    found = sound_of(summary.path)
    wanted = [*range(50), *range(51, 60), *range(90, 200)]
    assert [data for _, _, data in heard(found)] == [pieces[number] for number in wanted]
    # Where they were, and there too when each is played after the one before.
    assert [at for at, _, _ in heard(found)] == pytest.approx([n / 50 for n in wanted], abs=0.002)
    assert played(found) == pytest.approx([at for at, _, _ in found], abs=0.003)
    [track] = [each for each in read_manifest(tmp_path / "call.json").tracks if each.kind == "audio"]
    assert track.frames == len(wanted)
    assert [(gap.start, gap.duration) for gap in track.gaps] == [pytest.approx((1.2, 0.6), abs=0.001)]


async def test_silence_is_written_while_the_pictures_go_on(tmp_path: pathlib.Path) -> None:
    """A reader has not to look through minutes of pictures for the sound that belongs to them."""
    audio, video = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(clock, writer, pictures(video, bitstream("vp8") * 5), packets(audio, sound("opus")[:50]))
    at, length, _ = sound_of(tmp_path / "call.webm.part")[-1]
    assert 8.5 < at + length < 9
    play(clock, writer, packets(audio, sound("opus")[50:], start=10.0, timestamp=480_000))
    summary = await recording.stop()
    found = sound_of(summary.path)
    assert played(found) == pytest.approx([at for at, _, _ in found], abs=0.003)
    assert heard(found)[50][0] == pytest.approx(10, abs=0.002)


async def test_sound_that_comes_after_its_silence_is_left_out(tmp_path: pathlib.Path) -> None:
    audio, video = FakeTrack("audio", "one"), FakeTrack("video", "one")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    pieces = sound("opus", 250)
    play(
        clock,
        writer,
        pictures(video, bitstream("vp8", 150), captured=CAPTURE),
        packets(audio, pieces[:50], captured=CAPTURE),
        # Half a second of it comes two seconds late, what follows at its time.
        packets(audio, pieces[100:125], start=2.0, delay=2.0, captured=CAPTURE, timestamp=100 * 960),
        packets(audio, pieces[200:], start=4.55, captured=CAPTURE, timestamp=round(4.55 * 48_000)),
    )
    summary = await recording.stop()
    found = sound_of(summary.path)
    assert played(found) == pytest.approx([at for at, _, _ in found], abs=0.003)
    assert [data for _, _, data in heard(found)] == [*pieces[:50], *pieces[200:]]
    assert heard(found)[50][0] == pytest.approx(4.55, abs=0.003)
    assert summary.dropped == {"audio": 25}


@pytest.mark.parametrize(("codec", "suffix"), [("vp8", "webm"), ("h264", "mkv")])
async def test_sound_that_is_always_late_is_no_silence(
    tmp_path: pathlib.Path, codec: str, suffix: str
) -> None:
    audio, video = FakeTrack("audio", "one"), FakeTrack("video", "one")
    recording, clock, writer = recorder(tmp_path / f"call.{suffix}", audio, video)
    play(
        clock,
        writer,
        pictures(video, bitstream(codec, 300), codec, captured=CAPTURE),
        packets(audio, sound("opus", 350), delay=1.7, captured=CAPTURE),
    )
    summary = await recording.stop()
    found = sound_of(summary.path)
    assert [data for _, _, data in heard(found)] == list(sound("opus", 350))
    assert summary.dropped == {}


@pytest.mark.parametrize("lost", [77, 2000])
async def test_silence_makes_no_crash_dearer(tmp_path: pathlib.Path, lost: int) -> None:
    """What is torn is silence a second old: the pictures before and after it are read all the same."""
    audio, video = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(clock, writer, pictures(video, bitstream("h264", 180), "h264"), packets(audio, sound("opus")))
    part = tmp_path / "call.mp4.part"
    (tmp_path / "torn.mp4.part").write_bytes(part.read_bytes()[:-lost])
    whole, torn = probe(part), probe(tmp_path / "torn.mp4.part")
    assert whole.streams[0].end > 5
    assert torn.streams[0].end > whole.streams[0].end - 0.5
    assert torn.streams[0].frames == round(30 * torn.streams[0].end)
    await recording.stop()


@pytest.mark.parametrize("late", [0.1, 0.7, 1.9])
async def test_sound_that_begins_late_is_late_in_mp4(tmp_path: pathlib.Path, late: float) -> None:
    audio, video = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(clock, writer, pictures(video, bitstream("h264"), "h264"), packets(audio, sound("opus"), start=late))
    summary = await recording.stop()
    assert [path.name for path in summary.files] == ["call.mp4"]
    assert decode_errors(summary.path) == ""
    found = sound_of(summary.path)
    assert found[0][0] == 0
    assert heard(found)[0][0] == pytest.approx(late, abs=0.002)
    assert played(found) == pytest.approx([at for at, _, _ in found], abs=0.003)


async def test_parts_are_joined_without_the_silence_that_one_begins_with(tmp_path: pathlib.Path) -> None:
    """Sound comes before its pictures: where the second part begins, the first has sound already."""
    audio, video = FakeTrack("audio", "one"), FakeTrack("video", "one")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(
        clock,
        writer,
        pictures(video, bitstream("h264")[:30], "h264", delay=0.4, captured=CAPTURE),
        pictures(
            video,
            bitstream("h264", 30, 640, 360),
            "h264",
            start=1,
            timestamp=90_000,
            delay=0.4,
            captured=CAPTURE,
        ),
        packets(audio, sound("opus"), captured=CAPTURE),
    )
    summary = await recording.stop()
    assert len(summary.files) == 2
    second = sound_of(summary.files[1])
    assert is_silence(second[0][2])
    assert played(second) == pytest.approx([at for at, _, _ in second], abs=0.003)
    entry = Catalog(tmp_path).describe("call")
    assert entry is not None
    report = export_recording(entry, tmp_path / "out.mkv", ExportOptions("mkv", "none", "copy"))
    joined = sound_of(report.path)
    assert [data for _, _, data in joined] == list(sound("opus"))
    assert played(joined) == pytest.approx([at for at, _, _ in joined], abs=0.004)
