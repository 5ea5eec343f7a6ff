"""What is left of a recording after a crash, and on a full disk."""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from mediapeer.media.manifest import read_manifest
from tests.media.encoded import bitstream, decode_errors, probe, sound, times

ROOT = pathlib.Path(__file__).parent.parent.parent


async def _record_in_real_time(path: str, video_codec: str, audio_codec: str, options: str) -> None:
    """In a process of its own: record until killed, so many times faster than life, saying what was given."""
    from mediapeer.media import Recorder, RecordingOptions
    from mediapeer.rtp.frame import EncodedFrame
    from tests.media.encoded import FakeTrack

    loop = asyncio.get_running_loop()

    def clock() -> float:
        return loop.time() * int(speed)

    audio, video = FakeTrack("audio"), FakeTrack("video")
    container, speed = options.split(",")
    recording = Recorder(
        path, [audio, video], options=RecordingOptions(container=container, minimum_free=0), clock=clock
    )
    pieces, pieces_of_sound = bitstream(video_codec, 90, rate=500_000), sound(audio_codec, 150)
    recording.start()
    begin, picture, packet = clock(), 0, 0
    rate = 48_000 if audio_codec == "opus" else 8000
    while recording.error is None:
        now = clock() - begin
        while picture / 30 <= now:
            piece = pieces[picture % 90]
            video.give(
                EncodedFrame(
                    video_codec, piece.data, 1, picture * 3000, 90_000, begin + picture / 30, piece.is_keyframe,
                    width=320, height=240,
                )
            )  # fmt: skip
            picture += 1
        while packet / 50 <= now:
            audio.give(
                EncodedFrame(
                    audio_codec, pieces_of_sound[packet % 150], 2, packet * rate // 50, rate,
                    begin + packet / 50, True, duration=rate // 50,
                )
            )  # fmt: skip
            packet += 1
        print(f"{picture / 30:.3f} {packet / 50:.3f}", flush=True)
        await asyncio.sleep(0.02)
    print("the call goes on", flush=True)
    summary = await recording.stop()
    print(summary.error, *summary.files, sep="\n", flush=True)


@pytest.mark.parametrize(
    ("video_codec", "audio_codec", "container"),
    [("vp8", "opus", "webm"), ("h264", "opus", "mp4"), ("h264", "pcmu", "mkv")],
)
def test_a_crash_costs_a_second_at_most(
    tmp_path: pathlib.Path, video_codec: str, audio_codec: str, container: str
) -> None:
    command = [
        sys.executable, "-m", "tests.media.test_crash", str(tmp_path / "call"), video_codec, audio_codec,
        f"{container},1",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given = (0.0, 0.0)
        for line in process.stdout:
            given = (float(line.split()[0]), float(line.split()[1]))
            if given[0] >= 3.9:
                os.kill(process.pid, signal.SIGKILL)
                break
    part = tmp_path / f"call.{container}.part"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["call.json", part.name]
    assert given[0] - times(part, "video")[-1] <= 1.0
    assert given[1] - times(part, "audio")[-1] <= 1.0
    assert len(times(part, "video")) >= 85
    manifest = read_manifest(tmp_path / "call.json")
    assert manifest.state == "recording"
    assert [segment.file for segment in manifest.segments] == [part.name]


@pytest.mark.parametrize(("video_codec", "container"), [("vp8", "webm"), ("h264", "mp4"), ("h264", "mkv")])
def test_a_full_disk_ends_the_recording_with_a_file_that_can_be_played(
    tmp_path: pathlib.Path, video_codec: str, container: str
) -> None:
    (tmp_path / "disk").mkdir()
    inside = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/disk"
    command = (
        f"{inside} && {sys.executable} -m tests.media.test_crash {tmp_path}/disk/call {video_codec} opus "
    )
    command += f"{container},40 && cp {tmp_path}/disk/call.* {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    end = lines.index("the call goes on")
    assert lines[end + 1] == "The recording ended: The disk is full."
    assert lines[end + 2 :] == [f"{tmp_path}/disk/call.{container}"]
    file = tmp_path / f"call.{container}"
    assert decode_errors(file) == ""
    assert read_manifest(tmp_path / "call.json").state == "failed"
    given = float(lines[end - 1].split()[0])
    assert float(probe(file)["format"]["duration"]) > given - 40  # a second, at this speed


if __name__ == "__main__":
    asyncio.run(_record_in_real_time(*sys.argv[1:]))
