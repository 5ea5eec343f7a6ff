"""Files that are played, in virtual time: nothing here takes as long as it plays."""

import asyncio
import itertools
import pathlib
import shutil
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import pytest
from aiortc.mediastreams import MediaStreamError

from mediapeer.media.player import AHEAD, LATE, FilePlayer, FileTrack, PlayerError
from tests.media.files import luma_of, make_file
from tests.transport.virtual import Network, VirtualLoop, virtual


@pytest.fixture(autouse=True)
def threads_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to a thread is done at once: virtual time would run away from it."""

    def run(loop: VirtualLoop, executor: object, function: Callable[..., Any], *args: Any) -> Any:
        future = loop.create_future()
        future.set_result(function(*args))
        return future

    monkeypatch.setattr(VirtualLoop, "run_in_executor", run)


@pytest.fixture(scope="module")
def webm(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two seconds of VP8 and Opus, with a keyframe each half second."""
    return make_file(tmp_path_factory.mktemp("files") / "clip.webm")


@pytest.fixture(scope="module")
def long_groups(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Six seconds of VP8 with a keyframe every three."""
    path = tmp_path_factory.mktemp("files") / "long.webm"
    return make_file(path, audio=None, pictures=180, group=90)


class Reader:
    """Reads a track to its end, and notes when what came."""

    def __init__(self, track: FileTrack | None) -> None:
        assert track is not None
        self.track = track
        self.items: list[Any] = []
        self.moments: list[float] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            try:
                item = await self.track.recv()
            except MediaStreamError:
                return
            self.items.append(item)
            self.moments.append(asyncio.get_running_loop().time())

    @property
    def times(self) -> list[float]:
        """The timestamps, in seconds."""
        return [float(item.pts * item.time_base) for item in self.items]


def steps(values: list[float]) -> set[float]:
    """The differences between neighbours, in hundredths."""
    return {round(after - before, 2) for before, after in itertools.pairwise(values)}


@virtual
async def test_packets_come_when_their_time_has_come(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm)
    assert player.audio is not None
    assert player.video is not None
    assert (player.audio.codec, player.video.codec) == ("opus", "vp8")
    begin = asyncio.get_running_loop().time()
    sound, pictures = Reader(player.audio), Reader(player.video)
    await asyncio.gather(sound.task, pictures.task)
    assert len(pictures.items) == 60
    assert len(sound.items) == pytest.approx(100, abs=2)
    for reader in (sound, pictures):
        lags = [m - begin - t for m, t in zip(reader.moments, reader.times, strict=True)]
        assert max(lags) - min(lags) < 0.002
    assert sound.moments[0] == pytest.approx(pictures.moments[0], abs=0.02)
    assert [index for index, item in enumerate(pictures.items) if item.is_keyframe] == [0, 15, 30, 45]
    assert player.audio.readyState == player.video.readyState == "ended"
    assert not player.dropped


@virtual
async def test_packets_are_those_of_the_file(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm, audio=False)
    assert player.audio is None
    pictures = Reader(player.video)
    await pictures.task
    with av.open(webm) as container:
        assert [bytes(item) for item in pictures.items] == [
            bytes(packet) for packet in container.demux(video=0) if packet.size
        ]


@virtual
async def test_a_loop_goes_on_in_time(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm, loop=True)
    sound, pictures = Reader(player.audio), Reader(player.video)
    await asyncio.sleep(7)
    player.stop()
    await asyncio.gather(sound.task, pictures.task)
    assert len(pictures.items) == pytest.approx(7 * 30, abs=5)
    assert pictures.times == sorted(set(pictures.times))
    assert max(steps(pictures.times)) < 0.08
    assert max(steps(sound.times)) < 0.08
    assert pictures.items[60].is_keyframe
    assert bytes(pictures.items[60]) == bytes(pictures.items[0])


@virtual
async def test_ivf_is_looped_too(network: Network, tmp_path: pathlib.Path) -> None:
    path = make_file(tmp_path / "clip.ivf", "libvpx-vp9", None, pictures=10)
    player = FilePlayer(path, loop=True)
    pictures = Reader(player.video)
    await asyncio.sleep(1)
    player.stop()
    await pictures.task
    assert player.video is not None
    assert player.video.codec == "vp9"
    assert len(pictures.items) == pytest.approx(30, abs=1)
    assert steps(pictures.times) == {0.03}


@virtual
async def test_h264_has_start_codes_and_parameter_sets(network: Network, tmp_path: pathlib.Path) -> None:
    path = make_file(tmp_path / "clip.mp4", "libx264", None, pictures=31)
    pictures = Reader(FilePlayer(path).video)
    await pictures.task
    keyframes = [bytes(item) for item in pictures.items if item.is_keyframe]
    assert len(keyframes) == 3
    for keyframe in keyframes:
        kinds = {part[0] & 0x1F for part in keyframe.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]}
        assert {7, 8, 5} <= kinds


@virtual
async def test_pictures_in_another_order_than_shown_are_encoded_anew_when_asked(
    network: Network, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in most MP4 files that were not made for calls. Chromium shows two in a second of them."""
    path = make_file(tmp_path / "clip.mp4", "libx264", None, tune="film", preset="medium", bf="3")
    pictures = Reader(FilePlayer(path, transcode=True).video)
    await pictures.task
    assert pictures.track.codec is None
    assert pictures.times == sorted(pictures.times)
    assert len(pictures.items) == 60, "those that the decoder has held back to the end are among them"
    assert caplog.text == ""
    packets = Reader(FilePlayer(path).video)
    await packets.task
    assert (packets.track.codec, len(packets.items)) == ("h264", 60)
    assert packets.times != sorted(packets.times)
    assert caplog.text.count("transcode=True encodes them anew") == 1


@virtual
async def test_ogg_is_played(network: Network, tmp_path: pathlib.Path) -> None:
    player = FilePlayer(make_file(tmp_path / "clip.ogg", None, pictures=30), loop=True)
    assert player.video is None
    sound = Reader(player.audio)
    await asyncio.sleep(2.5)
    player.stop()
    await sound.task
    assert sound.track.codec == "opus"
    assert len(sound.items) == pytest.approx(125, abs=4)
    assert max(steps(sound.times)) < 0.05


@virtual
async def test_pcm_is_cut_into_packets_of_20_ms(network: Network, tmp_path: pathlib.Path) -> None:
    path = make_file(tmp_path / "clip.wav", None, "pcm_mulaw")
    sound = Reader(FilePlayer(path).audio)
    await sound.task
    assert sound.track.codec == "pcmu"
    assert max(len(bytes(item)) for item in sound.items) == 160
    assert max(steps(sound.times)) <= 0.02
    assert sum(len(bytes(item)) for item in sound.items) == pytest.approx(16_000, abs=300)


@pytest.mark.parametrize(
    ("name", "encoder", "rate", "layout", "words"),
    [
        ("around.mka", "libopus", 48_000, "5.1", "opus with 6 channels at 48000 Hz"),
        ("fast.wav", "pcm_mulaw", 16_000, "mono", "pcmu with 1 channels at 16000 Hz"),
        ("both.wav", "pcm_alaw", 8_000, "stereo", "pcma with 2 channels at 8000 Hz"),
    ],
)
@virtual
async def test_sound_of_more_channels_than_rtp_has_is_not_sent_as_it_is(
    network: Network, tmp_path: pathlib.Path, name: str, encoder: str, rate: int, layout: str, words: str
) -> None:
    """A peer would take it for sound of one or two channels at the usual rate, and play noise."""
    path = make_sound(tmp_path / name, encoder, rate, layout)
    with pytest.raises(PlayerError, match=f"{words}, which WebRTC does not carry; transcode=True"):
        FilePlayer(path)
    sound = Reader(FilePlayer(path, transcode=True).audio)
    await sound.task
    assert {(item.sample_rate, item.layout.name) for item in sound.items} == {(48_000, "stereo")}
    assert sum(item.samples for item in sound.items) == pytest.approx(48_000, abs=2000)


def make_sound(path: pathlib.Path, encoder: str, rate: int, layout: str) -> pathlib.Path:
    """A second of silence."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(encoder, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame(format="s16", layout=layout, samples=rate)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@virtual
async def test_who_asks_for_a_keyframe_gets_the_next_one_early(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(make_longer(webm))
    sound, pictures = Reader(player.audio), Reader(player.video)
    await asyncio.sleep(0.31)
    count, heard = len(pictures.items), len(sound.items)
    assert pictures.track.request_keyframe()
    await asyncio.sleep(0.1)
    assert pictures.items[count].is_keyframe
    # Both tracks have jumped, and neither shows it in its timestamps.
    assert player.skipped == pytest.approx(1.2, abs=0.1)
    assert max(steps(pictures.times)) < 0.08
    assert max(steps(sound.times)) < 0.08
    assert len(sound.items) > heard
    player.stop()
    await asyncio.gather(sound.task, pictures.task)


@virtual
async def test_who_asks_all_the_time_does_not_wind_the_file_forward(
    network: Network, webm: pathlib.Path
) -> None:
    player = FilePlayer(make_file(webm.with_name("long.webm"), pictures=400, group=45))
    pictures = Reader(player.video)
    for _ in range(20):
        await asyncio.sleep(0.2)
        pictures.track.request_keyframe()
    assert 0 < player.skipped < 2
    player.stop()
    await pictures.task


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile clip.webm\n", "#EXTM3U\n#EXTINF:1,\nclip.webm\n"]
)
def test_a_list_of_files_is_not_played(webm: pathlib.Path, tmp_path: pathlib.Path, text: str) -> None:
    shutil.copy(webm, tmp_path / "clip.webm")
    path = tmp_path / "list.webm"
    path.write_text(text)
    with pytest.raises(PlayerError):
        FilePlayer(path)


def make_longer(webm: pathlib.Path) -> pathlib.Path:
    """A file beside that one with a keyframe every 1.5 s."""
    return make_file(webm.with_name("longer.webm"), pictures=90, group=45)


@virtual
async def test_a_keyframe_that_is_due_anyway_makes_nothing_jump(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm)
    pictures = Reader(player.video)
    await asyncio.sleep(0.2)
    assert pictures.track.request_keyframe()
    assert player.skipped == 0
    player.stop()
    await pictures.task


@virtual
async def test_a_keyframe_that_is_far_is_not_jumped_to(network: Network, long_groups: pathlib.Path) -> None:
    player = FilePlayer(long_groups)
    pictures = Reader(player.video)
    await asyncio.sleep(0.2)
    assert not pictures.track.request_keyframe()
    assert player.skipped == 0
    await asyncio.sleep(3 - AHEAD + 0.2)
    assert pictures.track.request_keyframe()
    player.stop()
    await pictures.task


@virtual
async def test_while_nobody_reads_nothing_plays(network: Network, long_groups: pathlib.Path) -> None:
    player = FilePlayer(long_groups)
    assert player.video is not None
    first = await player.video.recv()
    await asyncio.sleep(60)
    second = await player.video.recv()
    assert (second.pts - first.pts) * second.time_base == pytest.approx(Fraction(1, 30), abs=0.002)
    player.stop()


@virtual
async def test_a_track_that_is_read_late_begins_at_a_keyframe(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm, loop=True)
    sound = Reader(player.audio)
    await asyncio.sleep(LATE + 2)
    pictures = Reader(player.video)
    await asyncio.sleep(0.6)
    assert pictures.items[0].is_keyframe
    assert pictures.times[0] > LATE
    assert pictures.times[-1] == pytest.approx(sound.times[-1], abs=0.05)
    assert player.dropped["video"] > 0
    player.stop()
    await asyncio.gather(sound.task, pictures.task)


@virtual
async def test_what_webrtc_does_not_carry_is_decoded_when_asked(
    network: Network, tmp_path: pathlib.Path
) -> None:
    path = make_file(tmp_path / "clip.mp4", "libx264", "aac")
    with pytest.raises(PlayerError, match=r"aac.*transcode=True.*audio=False"):
        FilePlayer(path)
    player = FilePlayer(path, transcode=True)
    sound, pictures = Reader(player.audio), Reader(player.video)
    await asyncio.gather(sound.task, pictures.task)
    assert {type(item) for item in sound.items} == {av.AudioFrame}
    assert (sound.items[0].format.name, sound.items[0].sample_rate, sound.items[0].samples) == (
        "s16",
        48_000,
        960,
    )
    assert {type(item) for item in pictures.items} == {av.Packet}, "H.264 need not be decoded"


@virtual
async def test_a_peer_that_does_not_take_the_codec_gets_frames(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm, audio=False, transcode=True)
    track = player.video
    assert track is not None
    packet = await track.recv()
    assert isinstance(packet, av.Packet)
    assert track.decode_instead()
    assert track.codec is None
    pictures = Reader(track)
    await pictures.task
    # The packet that was not taken is the first to be decoded.
    assert len(pictures.items) == 60
    lumas = [bytes(frame.planes[0])[0] for frame in pictures.items]
    assert lumas == pytest.approx([luma_of(index) for index in range(60)], abs=6)
    assert steps(pictures.times) == {0.03}


def test_without_transcoding_nothing_is_decoded(webm: pathlib.Path) -> None:
    player = FilePlayer(webm)
    assert player.video is not None
    assert not player.video.decode_instead()
    player.stop()


def test_errors_say_what_is_wrong(tmp_path: pathlib.Path, webm: pathlib.Path) -> None:
    with pytest.raises(PlayerError, match=r"no file .*nowhere\.webm"):
        FilePlayer(tmp_path / "nowhere.webm")
    text = tmp_path / "text.webm"
    text.write_text("this is none")
    with pytest.raises(PlayerError, match=r"text\.webm cannot be read"):
        FilePlayer(text)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(PlayerError, match=r"empty\.mp4 cannot be read as a media file: it is empty$"):
        FilePlayer(empty)
    with pytest.raises(PlayerError, match=r"cannot be read as a media file: Is a directory$"):
        FilePlayer(tmp_path)
    with pytest.raises(ValueError, match="neither audio nor video"):
        FilePlayer(webm, audio=False, video=False)
    silent = make_file(tmp_path / "silent.webm", audio=None, pictures=3)
    with pytest.raises(PlayerError, match=r"silent\.webm has no audio"):
        FilePlayer(silent, video=False)


def half_of(whole: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """The first half of a file."""
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@virtual
async def test_a_file_that_breaks_off_ends_the_tracks(
    network: Network, tmp_path: pathlib.Path, webm: pathlib.Path
) -> None:
    path = half_of(webm, tmp_path / "short.webm")
    pictures = Reader(FilePlayer(path).video)
    await pictures.task
    assert 0 < len(pictures.items) < 60


@virtual
async def test_stopping_closes_the_file_and_wakes_who_waits(network: Network, webm: pathlib.Path) -> None:
    player = FilePlayer(webm)
    sound, pictures = Reader(player.audio), Reader(player.video)
    await asyncio.sleep(0.5)
    pictures.track.stop()
    await asyncio.sleep(0.5)
    assert sound.task.done() is False, "each track for itself"
    player.stop()
    player.stop()
    await asyncio.gather(sound.task, pictures.task)
    with pytest.raises(MediaStreamError):
        await sound.track.recv()
