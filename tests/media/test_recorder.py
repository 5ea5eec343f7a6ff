"""Recording encoded frames: what is in the files, judged by ffprobe and ffmpeg."""

import itertools
import json
import pathlib

import av
import pytest

from mediapeer.media import RecordingError, RecordingState
from mediapeer.media.manifest import read_manifest
from mediapeer.media.matroska import OPUS_DELAY
from tests.media.encoded import (
    CAPTURE,
    ENCODERS,
    Channel,
    FakeTrack,
    Piece,
    bitstream,
    decode_errors,
    names,
    packets,
    pictures,
    play,
    probe,
    recorder,
    sound,
    times,
)


@pytest.mark.parametrize(
    ("video_codec", "audio_codec", "wanted", "suffix"),
    [
        ("vp8", "opus", "auto", "webm"),
        ("vp9", "opus", "auto", "webm"),
        ("av1", "opus", "auto", "webm"),
        ("h264", "opus", "auto", "mp4"),
        ("h265", "opus", "auto", "mp4"),
        ("av1", "opus", "mp4", "mp4"),
        ("vp8", "opus", "mkv", "mkv"),
        ("vp9", "pcmu", "auto", "mkv"),
        ("h264", "pcma", "auto", "mkv"),
        ("h265", "g722", "mkv", "mkv"),
        ("av1", "opus", "mkv", "mkv"),
        ("vp8", "g722", "auto", "mkv"),
        ("h264", "pcmu", "webm", "mkv"),
        ("vp8", "opus", "mp4", "webm"),
    ],
)
async def test_each_codec_in_its_container(
    tmp_path: pathlib.Path, video_codec: str, audio_codec: str, wanted: str, suffix: str
) -> None:
    audio, video = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, container=wanted)
    play(
        clock,
        writer,
        pictures(video, bitstream(video_codec), video_codec, timestamp=2**32 - 50_000),
        packets(audio, sound(audio_codec), audio_codec, timestamp=777),
    )
    assert recording.state is RecordingState.RECORDING
    summary = await recording.stop()

    assert recording.state is RecordingState.FINISHED
    assert summary.path == tmp_path / f"call.{suffix}"
    assert names(tmp_path) == sorted([f"call.{suffix}", "call.json", "call.png"])
    assert decode_errors(summary.path) == ""
    found = probe(summary.path)
    streams = {stream["codec_type"]: stream for stream in found["streams"]}
    assert int(streams["video"]["nb_read_packets"]) == 60
    assert int(streams["audio"]["nb_read_packets"]) == 100
    assert (streams["video"]["width"], streams["video"]["height"]) == (320, 240)
    assert abs(float(found["format"]["duration"]) - 2) < 0.03
    assert abs(summary.duration - 2) < 0.03
    for kind, spacing in (("video", 1 / 30), ("audio", 0.02)):
        at = times(summary.path, kind)
        # What a decoder of Opus gives too late, players take off.
        is_late = kind == "audio" and audio_codec == "opus" and suffix != "mp4"
        assert abs(at[0] + is_late * OPUS_DELAY / 48_000) < 0.002
        assert max(abs(time - at[0] - n * spacing) for n, time in enumerate(at)) < 0.002


@pytest.mark.parametrize("suffix", ["webm", "mkv", "mp4"])
async def test_nobody_is_said_to_speak_english(tmp_path: pathlib.Path, suffix: str) -> None:
    audio, video = FakeTrack("audio"), FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / f"call.{suffix}", audio, video)
    codec = "h264" if suffix == "mp4" else "vp8"
    play(clock, writer, pictures(video, bitstream(codec), codec), packets(audio, sound("opus")))
    summary = await recording.stop()
    assert summary.path.suffix == f".{suffix}"
    with av.open(summary.path) as container:
        assert {stream.language for stream in container.streams} <= {None, "und"}


async def test_the_manifest_says_what_it_is(tmp_path: pathlib.Path) -> None:
    audio, video = FakeTrack("audio", "a@b"), FakeTrack("video", "a@b")
    video.counts.lost = 5
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    writer.turn()
    assert read_manifest(tmp_path / "call.json").state == "recording"
    play(clock, writer, pictures(video, bitstream("vp8")), packets(audio, sound("opus")))
    video.counts.lost, video.counts.repaired = 9, 3
    running = read_manifest(tmp_path / "call.json")
    assert [segment.file for segment in running.segments] == ["call.webm.part"]
    summary = await recording.stop()

    manifest = read_manifest(tmp_path / "call.json")
    assert manifest.state == "finished"
    assert manifest.error is None
    assert manifest.size == summary.size == (tmp_path / "call.webm").stat().st_size
    assert abs(manifest.duration - 2) < 0.03
    [segment] = manifest.segments
    assert (segment.file, segment.container, segment.size) == ("call.webm", "webm", summary.size)
    assert segment.tracks == ["the video", "the audio"]
    by_kind = {track.kind: track for track in manifest.tracks}
    assert by_kind["video"].frames == 60
    assert by_kind["video"].keyframes == 2
    assert (by_kind["video"].width, by_kind["video"].height, by_kind["video"].codec) == (320, 240, "vp8")
    assert by_kind["video"].packets.received == 60
    assert by_kind["video"].packets.lost == 4
    assert by_kind["video"].packets.repaired == 3
    assert by_kind["audio"].cname == "a@b"
    assert manifest.snapshot == "call.png"
    assert (tmp_path / "call.png").read_bytes().startswith(b"\x89PNG")


async def test_sound_and_picture_are_where_their_sender_says(tmp_path: pathlib.Path) -> None:
    """The picture arrives 300 ms after the sound that was captured with it."""
    audio, video = FakeTrack("audio", "one"), FakeTrack("video", "one")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(
        clock,
        writer,
        pictures(video, bitstream("vp8"), delay=0.4, captured=CAPTURE),
        packets(audio, sound("opus"), start=0.5, delay=0.1, captured=CAPTURE),
    )
    summary = await recording.stop()
    # Before the first sound came, nothing told that the picture is late.
    assert abs(times(summary.path, "video")[0]) <= 0.005
    assert abs(times(summary.path, "audio")[0] - (0.5 - OPUS_DELAY / 48_000)) <= 0.005
    assert abs(times(summary.path, "video")[-1] - 59 / 30) <= 0.005
    manifest = read_manifest(tmp_path / "call.json")
    assert manifest.segments[0].started_at is not None


async def test_pictures_begin_with_a_keyframe(tmp_path: pathlib.Path) -> None:
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video)
    play(clock, writer, pictures(video, bitstream("vp8")[10:]))
    assert video.keyframe_requests >= 1
    summary = await recording.stop()
    assert decode_errors(summary.path) == ""
    assert len(times(summary.path, "video")) == 30
    assert summary.dropped == {"video": 20}


@pytest.mark.parametrize("skip", [True, False])
async def test_after_a_loss_pictures_go_on_at_the_next_keyframe(tmp_path: pathlib.Path, skip: bool) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, skip_until_keyframe=skip)
    pieces = bitstream("vp8")
    play(
        clock,
        writer,
        pictures(video, pieces[:10]),
        pictures(video, pieces[15:16], start=0.5, timestamp=45_000, lost_before=3),
        pictures(video, pieces[16:], start=16 / 30, timestamp=48_000),
        packets(audio, sound("opus")),
    )
    assert (video.keyframe_requests > 0) is skip
    summary = await recording.stop()
    at = times(summary.path, "video")
    assert len(at) == (40 if skip else 55)
    assert abs(at[10] - (1.0 if skip else 0.5)) < 0.003
    assert len(times(summary.path, "audio")) == 100
    if skip:
        assert decode_errors(summary.path) == ""
        gap = next(
            track for track in read_manifest(tmp_path / "call.json").tracks if track.kind == "video"
        ).gaps
        assert len(gap) == 1
        assert abs(gap[0].start - 10 / 30) < 0.01
        assert abs(gap[0].duration - 20 / 30) < 0.01


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_camera_that_is_muted_and_returns(tmp_path: pathlib.Path, codec: str) -> None:
    """Meanwhile the sound is on the disk, not in memory."""
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    pieces = bitstream(codec)
    play(clock, writer, pictures(video, pieces[:30], codec), packets(audio, sound("opus")[:50]))
    play(clock, writer, packets(audio, sound("opus") * 10, start=1.0, timestamp=48_000))
    suffix = "webm" if codec == "vp8" else "mp4"
    on_disk = times(tmp_path / f"call.{suffix}.part", "audio")[-1]
    play(
        clock,
        writer,
        pictures(video, pieces[30:], codec, start=21.0, timestamp=21 * 90_000),
        packets(audio, sound("opus")[:50], start=21.0, timestamp=21 * 48_000),
    )
    summary = await recording.stop()
    assert on_disk > 20
    assert len(summary.files) == 1
    assert decode_errors(summary.path) == ""
    at = times(summary.path, "video")
    assert len(at) == 60
    assert abs(at[30] - 21) < 0.003
    assert len(times(summary.path, "audio")) == 1100
    assert abs(summary.duration - 22) < 0.03


@pytest.mark.parametrize(("codec", "files"), [("vp8", 1), ("vp9", 1), ("av1", 1), ("h264", 2), ("h265", 2)])
async def test_another_size(tmp_path: pathlib.Path, codec: str, files: int) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(
        clock,
        writer,
        pictures(video, bitstream(codec, 30), codec),
        pictures(video, bitstream(codec, 30, 640, 360), codec, start=1.0, timestamp=90_000),
        packets(audio, sound("opus")),
    )
    summary = await recording.stop()
    assert len(summary.files) == files
    found = []
    for file in summary.files:
        assert decode_errors(file) == ""
        found += [(len(times(file, "video")), len(times(file, "audio")))]
    assert sum(video for video, _ in found) == 60
    assert sum(audio for _, audio in found) == 100


async def test_keyframes_that_make_no_sense_cost_the_picture_and_not_the_sound(
    tmp_path: pathlib.Path,
) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    nonsense = [Piece(b"\0\0\0\1\x65" + bytes([n]) * 50, True, 70_000, 5) for n in range(60)]
    play(clock, writer, pictures(video, nonsense, "h264"), packets(audio, sound("opus")))
    summary = await recording.stop()
    assert len(summary.files) == 1
    assert len(times(summary.path, "audio")) == 100
    assert summary.dropped == {"video": 60}


async def test_a_peer_that_changes_its_size_all_the_time_does_not_fill_a_directory(
    tmp_path: pathlib.Path,
) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    small, large = bitstream("h264", 1)[0], bitstream("h264", 1, 640, 360)[0]
    play(clock, writer, pictures(video, [small, large] * 60, "h264"), packets(audio, sound("opus") * 2))
    summary = await recording.stop()
    assert 2 <= len(summary.files) <= 9
    assert sum(len(times(file, "audio")) for file in summary.files) == 200
    assert [decode_errors(file) for file in summary.files] == [""] * len(summary.files)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
async def test_other_parameter_sets_of_the_same_size_stay_in_the_file(
    tmp_path: pathlib.Path, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video, container=container)
    other = {"tune": "zerolatency", "preset": "veryfast", "forced-idr": "1"}
    monkeypatch.setitem(ENCODERS, "h264", ("libx264", other))
    with_others = bitstream.__wrapped__("h264", 30)
    monkeypatch.undo()
    play(
        clock,
        writer,
        pictures(video, bitstream("h264", 30), "h264"),
        pictures(video, with_others, "h264", start=1.0, timestamp=90_000),
    )
    summary = await recording.stop()
    assert len(summary.files) == 1
    assert decode_errors(summary.path) == ""
    assert len(times(summary.path, "video")) == 60


async def test_files_join_without_loss(tmp_path: pathlib.Path) -> None:
    video, audio = FakeTrack("video", "one"), FakeTrack("audio", "one")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, segment_duration=3)
    asked = []
    for second in range(12):
        # A keyframe every four seconds; one is asked for before that, and comes in the next second.
        wanted = video.keyframe_requests > len(asked)
        asked = [0] * video.keyframe_requests
        first = 0 if second % 4 == 0 or wanted else 30
        pieces = bitstream("vp8", 240, gop=240)[first : first + 30]
        play(
            clock,
            writer,
            pictures(video, pieces, start=second, timestamp=second * 90_000, captured=CAPTURE),
            packets(
                audio,
                sound("opus")[:50],
                start=second - 0.3,
                delay=0.3,
                timestamp=second * 48_000,
                captured=CAPTURE,
            ),
        )
    summary = await recording.stop()
    assert [file.name for file in summary.files] == ["call.webm", "call-2.webm", "call-3.webm"]
    segments = read_manifest(tmp_path / "call.json").segments
    video_times, audio_times = [], []
    for file, segment in zip(summary.files, segments, strict=True):
        with_pictures = times(file, "video")
        assert abs(with_pictures[0]) < 0.01 or segment is segments[0]
        video_times += [segment.start + time for time in with_pictures]
        audio_times += [segment.start + time for time in times(file, "audio")]
    assert len(video_times) == 360
    assert len(audio_times) == 600
    for joined, spacing in ((video_times, 1 / 30), (audio_times, 0.02)):
        assert max(abs(b - a - spacing) for a, b in itertools.pairwise(joined)) < 0.004


async def test_another_codec_begins_another_file(tmp_path: pathlib.Path) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video)
    play(
        clock,
        writer,
        pictures(video, bitstream("vp8", 30)),
        pictures(video, bitstream("h264", 30), "h264", start=1.0, timestamp=90_000),
        packets(audio, sound("opus")),
    )
    summary = await recording.stop()
    assert [file.name for file in summary.files] == ["call.webm", "call-2.mp4"]
    assert [decode_errors(file) for file in summary.files] == ["", ""]
    assert [len(times(file, "video")) for file in summary.files] == [30, 30]
    assert sum(len(times(file, "audio")) for file in summary.files) == 100


async def test_a_track_that_comes_later(tmp_path: pathlib.Path) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio)
    play(clock, writer, packets(audio, sound("opus")))
    recording.add_track(video)
    play(
        clock,
        writer,
        packets(audio, sound("opus"), start=2.0, timestamp=96_000),
        pictures(video, bitstream("vp8"), start=2.0),
    )
    recording.remove_track(video)
    assert video.consumers == []
    play(clock, writer, packets(audio, sound("opus"), start=4.0, timestamp=192_000))
    summary = await recording.stop()
    assert [file.name for file in summary.files] == ["call.webm", "call-2.webm", "call-3.webm"]
    assert [decode_errors(file) for file in summary.files] == ["", "", ""]
    assert len(times(summary.files[1], "video")) == 60
    assert [stream["codec_type"] for stream in probe(summary.files[2])["streams"]] == ["audio"]
    assert sum(len(times(file, "audio")) for file in summary.files) == 300


async def test_a_file_for_each_track(tmp_path: pathlib.Path) -> None:
    video, audio = FakeTrack("video"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, video, layout="track")
    play(clock, writer, pictures(video, bitstream("vp8")), packets(audio, sound("opus")))
    summary = await recording.stop()
    assert len(summary.files) == 2
    kinds = [[stream["codec_type"] for stream in probe(file)["streams"]] for file in summary.files]
    assert sorted(kinds) == [["audio"], ["video"]]


async def test_messages_are_kept(tmp_path: pathlib.Path) -> None:
    channel, audio = Channel("chat"), FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio)
    recording.record_channel(channel)
    play(clock, writer, packets(audio, sound("opus")))
    channel.emit("héllo")
    channel.emit(b"\0\xff")
    await recording.stop()
    channel.emit("too late")
    lines = [json.loads(line) for line in (tmp_path / "call.data.jsonl").read_text().splitlines()]
    assert lines == [
        {"time": 1.98, "label": "chat", "text": "héllo"},
        {"time": 1.98, "label": "chat", "base64": "AP8="},
    ]
    data = read_manifest(tmp_path / "call.json").data
    assert data is not None
    assert data.messages == 2


async def test_messages_that_are_too_many_are_told_of(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediapeer.media.job.MAXIMUM_DATA", 500)
    monkeypatch.setattr("mediapeer.media.queue.MAXIMUM_BYTES", 1500)
    channel = Channel("chat")
    recording, _, writer = recorder(tmp_path / "call")
    recording.record_channel(channel)
    for turn in range(2):
        for _ in range(20 + turn):
            channel.emit("x" * 50)
        writer.turn()
    assert recording.statistics["messages_dropped"] == 36
    assert (await recording.stop()).error is None
    data = read_manifest(tmp_path / "call.json").data
    assert data is not None
    assert (data.messages, data.dropped) == (5, 36)


async def test_messages_leave_room_on_the_disk_too(tmp_path: pathlib.Path) -> None:
    channel = Channel("chat")
    recording, _, writer = recorder(tmp_path / "call", minimum_free=1 << 60)
    recording.record_channel(channel)
    channel.emit("héllo")
    writer.turn()
    assert recording.state is RecordingState.FAILED
    assert "MB are left on the disk" in (recording.error or "")


async def test_a_snapshot_shows_the_latest_keyframe(tmp_path: pathlib.Path) -> None:
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video)
    assert recording.snapshot() is None
    play(clock, writer, pictures(video, bitstream("vp8", 1, 1280, 720)))
    picture = recording.snapshot()
    assert picture is not None
    (tmp_path / "x.png").write_bytes(picture)
    [stream] = probe(tmp_path / "x.png")["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("png", 640, 360)
    await recording.stop()


async def test_pictures_that_cannot_be_decoded_are_not_said_to_be_missing(tmp_path: pathlib.Path) -> None:
    video = FakeTrack("video")
    recording, clock, writer = recorder(tmp_path / "call", video)
    later = [piece for piece in bitstream("vp8") if not piece.is_keyframe][:20]
    play(clock, writer, pictures(video, later))
    with pytest.raises(RecordingError, match="of 20 frames that arrived none was a keyframe"):
        await recording.stop()
    assert names(tmp_path) == []


async def test_a_recording_of_nothing_says_so_and_leaves_no_file(tmp_path: pathlib.Path) -> None:
    recording, _, writer = recorder(tmp_path / "call", FakeTrack("audio"))
    assert recording.state is RecordingState.WAITING
    writer.turn()
    with pytest.raises(RecordingError, match="no audio or video arrived"):
        await recording.stop()
    assert recording.state is RecordingState.FAILED
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["call.json", "call.webm", "call.webm.part"])
async def test_a_file_that_is_there_is_not_written_over(tmp_path: pathlib.Path, name: str) -> None:
    """It came in the moment after the name was found free."""
    audio = FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio)
    (tmp_path / name).write_text("somebody else's")
    play(clock, writer, packets(audio, sound("opus")))
    with pytest.raises(RecordingError):
        await recording.stop()
    assert recording.state is RecordingState.FAILED
    assert (tmp_path / name).read_text() == "somebody else's"


async def test_a_directory_that_goes_away_is_an_error_in_words(tmp_path: pathlib.Path) -> None:
    audio = FakeTrack("audio")
    (tmp_path / "missing").mkdir()
    recording, clock, writer = recorder(tmp_path / "missing" / "call", audio)
    (tmp_path / "missing").rmdir()
    play(clock, writer, packets(audio, sound("opus")))
    with pytest.raises(RecordingError, match="No such file or directory"):
        await recording.stop()


async def test_it_ends_by_itself_at_its_limits(tmp_path: pathlib.Path) -> None:
    for name, options in (("long", {"maximum_duration": 1.0}), ("large", {"maximum_size": 10_000})):
        audio = FakeTrack("audio")
        recording, clock, writer = recorder(tmp_path / name, audio, **options)
        play(clock, writer, packets(audio, sound("opus") * 3))
        assert recording.state is RecordingState.FINISHED
        summary = await recording.stop()
        assert summary == await recording.stop()
        assert 0.9 < summary.duration < 3
        assert decode_errors(summary.path) == ""
        assert audio.consumers == []


async def test_too_little_space_ends_it_and_what_there_is_can_be_played(tmp_path: pathlib.Path) -> None:
    audio = FakeTrack("audio")
    recording, clock, writer = recorder(tmp_path / "call", audio, minimum_free=1 << 60)
    play(clock, writer, packets(audio, sound("opus")))
    summary = await recording.stop()
    assert recording.state is RecordingState.FAILED
    assert summary.error is not None
    assert "MB are left on the disk" in summary.error
    assert decode_errors(summary.path) == ""
    assert read_manifest(tmp_path / "call.json").state == "failed"
