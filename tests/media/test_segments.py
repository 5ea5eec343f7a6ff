"""When a file of a recording ends, what is asked of the sender for it, and what is bounded meanwhile."""

import asyncio
import datetime
import pathlib
import time

import pytest

from mediapeer.media import job, queue, segments
from mediapeer.media.container import keeps_changes
from mediapeer.media.manifest import ManifestTrack, read_manifest
from mediapeer.rtp.frame import RepairCounts
from tests.media.encoded import (
    Channel,
    FakeTrack,
    Piece,
    bitstream,
    decode_errors,
    packets,
    pictures,
    play,
    probe,
    recorder,
    sound,
    times,
)


def track(path: pathlib.Path, kind: str) -> ManifestTrack:
    """What the manifest says of the one track of a kind."""
    [found] = [each for each in read_manifest(path).tracks if each.kind == kind]
    return found


async def test_a_file_that_is_due_to_end_has_a_keyframe_asked_for_once_a_second(
    tmp_path: pathlib.Path,
) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, segment_duration=2)
    pieces = bitstream("vp8", 240, gop=240)
    play(clock, writer, pictures(video, pieces[:57]), packets(audio, sound("opus")[:95]))
    await asyncio.sleep(0)
    assert video.keyframe_requests == 0
    play(
        clock,
        writer,
        pictures(video, pieces[57:150], start=1.9, timestamp=57 * 3000),
        packets(audio, sound("opus", 155), start=1.9, timestamp=95 * 960),
    )
    await asyncio.sleep(0)
    assert video.keyframe_requests == 3
    play(clock, writer, pictures(video, pieces[:30], start=5.0, timestamp=150 * 3000))
    summary = await recording.stop()
    assert len(summary.files) == 2, "the sound alone does not end the pictures' file"
    assert [len(times(file, "video")) for file in summary.files] == [150, 30]


async def test_pictures_that_have_stopped_keep_no_file_from_ending(tmp_path: pathlib.Path) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, segment_duration=2.7)
    play(clock, writer, pictures(video, bitstream("vp8")[:30]), packets(audio, sound("opus", 275)))
    ended = tmp_path / "call.webm"
    assert ended.exists(), "nobody waits for another picture"
    assert times(ended, "audio")[-1] == pytest.approx(segments.IDLE + 29 / 30, abs=0.05)
    summary = await recording.stop()
    assert len(summary.files) == 2
    assert sum(len(times(file, "audio")) for file in summary.files) == 275
    assert [decode_errors(file) for file in summary.files] == ["", ""]


async def test_a_picture_of_unknown_size_has_that_of_the_one_before(tmp_path: pathlib.Path) -> None:
    video, pieces = FakeTrack("video"), bitstream("vp8")
    recording, clock, writer = recorder(tmp_path / "call", video)
    unknown = [Piece(each.data, each.is_keyframe, 0, 1 << 20) for each in pieces[30:]]
    play(clock, writer, pictures(video, [*pieces[:30], *unknown]))
    summary = await recording.stop()
    assert len(summary.files) == 1
    stream = next(each for each in probe(summary.path)["streams"] if each["codec_type"] == "video")
    assert (stream["width"], stream["height"], stream["nb_read_packets"]) == (320, 240, "60")
    facts = track(tmp_path / "call.json", "video")
    assert (facts.width, facts.height) == (320, 240)


async def test_gaps_beyond_a_number_are_only_counted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MAXIMUM_GAPS", 3)
    audio = FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio)
    for second in range(8):
        play(clock, writer, packets(audio, sound("opus")[:5], start=second, timestamp=second * 48_000))
    await recording.stop()
    facts = track(tmp_path / "call.json", "audio")
    assert [round(gap.start, 2) for gap in facts.gaps] == [0.1, 1.1, 2.1]
    assert [round(gap.duration, 2) for gap in facts.gaps] == [0.9] * 3
    assert facts.gaps_left_out == 4


async def test_messages_are_bounded_and_count_as_the_recordings_size(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MAXIMUM_DATA", 500)
    for name, options, kept in (("bounded", {}, 4), ("limited", {"maximum_size": 200}, 2)):
        channel = Channel("chat")
        recording, _, writer = recorder(tmp_path / name, FakeTrack("audio"), **options)
        recording.record_channel(channel)
        for _ in range(9):
            channel.emit("x" * 60)
            writer.turn()
        await recording.stop()
        lines = (tmp_path / f"{name}.data.jsonl").read_text().splitlines()
        data = read_manifest(tmp_path / f"{name}.json").data
        assert data is not None
        assert data.messages == len(lines) == kept


async def test_what_waits_for_the_writer_is_bounded_in_bytes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAXIMUM_BYTES", 10_000)
    audio, channel = FakeTrack("audio"), Channel("chat")
    recording, _, writer = recorder(tmp_path / "call", audio)
    recording.record_channel(channel)
    for turn in range(2):
        for _, give in packets(audio, [b"\x78" + bytes(999)] * 15, start=turn * 0.3, timestamp=turn * 14_400):
            give()
        channel.emit("x" * 1000)
        assert recording.statistics["dropped"] == 5 * (turn + 1)
        assert recording.statistics["messages_dropped"] == turn + 1
        writer.turn()
    summary = await recording.stop()
    assert recording.statistics["written"] == 20
    assert summary.dropped == {"audio": 10}


async def test_a_file_ends_at_its_size_or_an_mp4_after_an_hour(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "LONGEST_MP4", 2.5)
    for name, codec, options, files in (
        ("sized", "vp8", {"segment_size": 33_000}, 2),
        ("large", "vp8", {"segment_size": 400_000}, 1),
        ("webm", "vp8", {}, 1),
        ("mp4", "h264", {}, 2),
    ):
        video, audio = FakeTrack("video"), FakeTrack("audio")
        recording, clock, writer = recorder(tmp_path / name, audio, video, **options)
        pieces = [Piece(each.data, each.is_keyframe, 320, 240) for each in bitstream(codec)]
        loud = [b"\x78" + bytes(199)] * 220
        play(clock, writer, pictures(video, pieces * 2, codec), packets(audio, loud))
        summary = await recording.stop()
        assert len(summary.files) == files, name
        told = read_manifest(tmp_path / f"{name}.json").segments
        assert [each.start for each in told] == ([0.0] if files == 1 else [0.0, pytest.approx(3.0, abs=0.04)])
        for file, segment in zip(summary.files, told, strict=True):
            assert segment.duration == pytest.approx(float(probe(file)["format"]["duration"]), abs=0.05)
            assert segment.size == file.stat().st_size
        assert told[-1].start + told[-1].duration == pytest.approx(4.4, abs=0.03)
        assert sum(len(times(file, "video")) for file in summary.files) == 120


def test_a_peer_makes_no_endless_row_of_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MAXIMUM_CHANGES", 2)
    monkeypatch.setattr(segments, "MAXIMUM_SEGMENTS", 5)
    names = segments.FileNames(tmp_path / "call")
    given = [names.next("webm", is_change).name for is_change in (False, True, False, True)]
    assert given == ["call.webm", "call-2.webm", "call-3.webm", "call-4.webm"]
    with pytest.raises(OSError, match="4 files"):
        names.next("webm", True)
    names = segments.FileNames(tmp_path / "call")
    for _ in range(5):
        names.next("webm", False)
    with pytest.raises(OSError, match="5 files"):
        names.next("webm", False)


def test_where_pictures_of_another_size_may_follow() -> None:
    """MP4 names the parameters of H.264, H.265 and AV1 once for all, Matroska those of H.264 and H.265."""
    kept = {(c, k) for c in ("webm", "mkv", "mp4") for k in ("av1", "h264", "h265") if keeps_changes(c, k)}
    assert kept == {("webm", "av1"), ("mkv", "av1")}


async def test_packets_count_from_the_beginning_of_the_recording(tmp_path: pathlib.Path) -> None:
    audio = FakeTrack("audio")
    audio.counts = RepairCounts(received=1000, lost=70, repaired=50, given_up=20)
    recording, clock, writer = recorder(tmp_path / "call", audio)
    play(clock, writer, packets(audio, sound("opus")))
    audio.counts.lost, audio.counts.repaired, audio.counts.given_up = 77, 55, 22
    await recording.stop()
    told = track(tmp_path / "call.json", "audio").packets
    assert (told.received, told.lost, told.repaired, told.given_up) == (100, 7, 5, 2)


async def test_files_bear_the_date_of_the_senders_clock(tmp_path: pathlib.Path) -> None:
    """And ours where that cannot be right."""
    now = time.time()
    for name, error, expected in (("near", -300.0, -300.0), ("far", 2 * segments.PLAUSIBLE_DATE, 0.0)):
        audio = FakeTrack("audio")
        recording, clock, writer = recorder(tmp_path / name, audio, segment_duration=1)
        captured = now + segments.NTP_TO_POSIX + error
        play(clock, writer, packets(audio, sound("opus"), delay=0.2, captured=captured))
        await recording.stop()
        told = read_manifest(tmp_path / f"{name}.json").segments
        assert len(told) == 2
        for segment in told:
            assert segment.started_at is not None
            date = datetime.datetime.fromisoformat(segment.started_at)
            assert date.utcoffset() == datetime.timedelta(0)
            passed = segment.start - told[0].start if name == "near" else 0.0
            assert date.timestamp() - now == pytest.approx(expected + passed, abs=0.01 if error < 0 else 60)


async def test_a_track_that_is_removed_begins_a_file_at_the_next_keyframe(tmp_path: pathlib.Path) -> None:
    """One that ends by itself does not."""
    for name, files in (("removed", 2), ("ended", 1)):
        video, audio = FakeTrack("video"), FakeTrack("audio")
        recording, clock, writer = recorder(tmp_path / name, audio, video)
        pieces = bitstream("vp8", 60, gop=60)
        play(clock, writer, pictures(video, pieces[:30]), packets(audio, sound("opus")[:50]))
        if name == "removed":
            recording.remove_track(audio)
        else:
            audio.end()
        play(clock, writer, pictures(video, pieces[30:], start=1.0, timestamp=90_000))
        await asyncio.sleep(0)
        assert (video.keyframe_requests > 0) is (name == "removed")
        play(clock, writer, pictures(video, pieces, start=2.0, timestamp=180_000))
        summary = await recording.stop()
        assert [len(times(file, "video")) for file in summary.files] == [60, 60] if files == 2 else [120]
        assert len(times(summary.files[0], "audio")) == 50
        streams = [len(probe(file)["streams"]) for file in summary.files]
        assert streams == [2, 1][:files]
