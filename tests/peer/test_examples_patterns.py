"""Programs in the manner of aiortc's examples, run as they are with ``mediapeer`` in the place of ``aiortc``.

Each takes the module that it would import, so that the same lines run on ours and on aiortc's own. The media helpers
and the signaling are aiortc's: ``aiortc.contrib`` takes our tracks and descriptions.
"""

import asyncio
import hashlib
import pathlib
from fractions import Fraction
from types import ModuleType
from typing import Any

import aiortc
import av
import pytest
from aiortc.contrib.media import MediaBlackhole, MediaPlayer, MediaRecorder, MediaRelay
from aiortc.contrib.signaling import BYE, object_from_string, object_to_string

import mediapeer
from tests.peer.calls import BLUE, RED, SAMPLE_RATE, TONE, Picture, Tone, colours_of, frequency_of, tone

#: How long any of the programs may take; they take two seconds.
LONGEST_SECONDS = 20

PAIRS = [
    pytest.param(mediapeer, mediapeer, id="ours-ours"),
    pytest.param(mediapeer, aiortc, id="ours-aiortcs"),
    pytest.param(aiortc, mediapeer, id="aiortcs-ours"),
]


@pytest.fixture(autouse=True)
def aiortc_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiortc's own end use loopback, which aioice leaves out, and ask no public server, which it does."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    monkeypatch.setattr(aiortc.RTCIceGatherer, "getDefaultIceServers", classmethod(lambda cls: []))


class Signaling:
    """One end of a wire for descriptions, candidates and the end, with the methods of aiortc's signaling."""

    def __init__(self, incoming: "asyncio.Queue[str]", outgoing: "asyncio.Queue[str]") -> None:
        self._incoming, self._outgoing = incoming, outgoing

    async def receive(self) -> Any:
        return object_from_string(await self._incoming.get())

    async def send(self, what: Any) -> None:
        await self._outgoing.put(object_to_string(what))


def wire() -> tuple[Signaling, Signaling]:
    one, other = asyncio.Queue[str](), asyncio.Queue[str]()
    return Signaling(one, other), Signaling(other, one)


async def consume_signaling(rtc: ModuleType, pc: Any, signaling: Signaling) -> None:
    """Do what the other end says, until it says goodbye."""
    while True:
        obj = await signaling.receive()
        if isinstance(obj, rtc.RTCSessionDescription):
            await pc.setRemoteDescription(obj)
            if obj.type == "offer":
                await pc.setLocalDescription(await pc.createAnswer())
                await signaling.send(pc.localDescription)
        elif isinstance(obj, rtc.RTCIceCandidate):
            await pc.addIceCandidate(obj)
        elif obj is BYE:
            break


async def both(*programs: Any) -> list[Any]:
    """Run programs at the same time; the first that fails ends the others."""
    async with asyncio.timeout(LONGEST_SECONDS), asyncio.TaskGroup() as group:
        tasks = [group.create_task(program) for program in programs]
    return [task.result() for task in tasks]


# Pings over a data channel


async def ping(rtc: ModuleType, signaling: Signaling, times: int) -> list[float]:
    pc = rtc.RTCPeerConnection()
    channel = pc.createDataChannel("chat")
    loop = asyncio.get_running_loop()
    round_trips: list[float] = []
    done = asyncio.Event()

    async def send_pings() -> None:
        while not done.is_set():
            channel.send(f"ping {loop.time()}")
            await asyncio.sleep(0.01)

    pinging: list[asyncio.Task[None]] = []

    @channel.on("open")
    def on_open() -> None:
        pinging.append(asyncio.ensure_future(send_pings()))

    @channel.on("message")
    def on_message(message: str) -> None:
        assert message.startswith("pong")
        round_trips.append(loop.time() - float(message[4:]))
        if len(round_trips) >= times:
            done.set()

    await pc.setLocalDescription(await pc.createOffer())
    await signaling.send(pc.localDescription)
    consuming = asyncio.ensure_future(consume_signaling(rtc, pc, signaling))
    await done.wait()
    await signaling.send(BYE)
    consuming.cancel()
    await asyncio.wait([*pinging, consuming])
    await pc.close()
    return round_trips


async def pong(rtc: ModuleType, signaling: Signaling) -> str:
    pc = rtc.RTCPeerConnection()
    labels: list[str] = []

    @pc.on("datachannel")
    def on_datachannel(channel: Any) -> None:
        labels.append(channel.label)

        @channel.on("message")
        def on_message(message: Any) -> None:
            if isinstance(message, str) and message.startswith("ping"):
                channel.send("pong" + message[4:])

    await consume_signaling(rtc, pc, signaling)
    await pc.close()
    assert pc.connectionState == "closed"
    return labels[0]


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_pings_over_a_data_channel(one: ModuleType, other: ModuleType) -> None:
    ends = wire()
    round_trips, label = await both(ping(one, ends[0], times=20), pong(other, ends[1]))
    assert len(round_trips) >= 20
    assert max(round_trips) < 5
    assert label == "chat"


# A file over a data channel, with back pressure


HIGH_WATER, LOW_WATER, BLOCK = 256 * 1024, 64 * 1024, 16 * 1024


async def send_file(rtc: ModuleType, signaling: Signaling, path: pathlib.Path) -> int:
    pc = rtc.RTCPeerConnection()
    channel = pc.createDataChannel("filexfer")
    channel.bufferedAmountLowThreshold = LOW_WATER
    highest = 0
    with path.open("rb") as file:
        done_reading = False

        def send_data() -> None:
            nonlocal done_reading, highest
            while channel.bufferedAmount <= HIGH_WATER and not done_reading:
                data = file.read(BLOCK)
                channel.send(data or "the end")
                done_reading = not data
                highest = max(highest, channel.bufferedAmount)

        channel.on("bufferedamountlow", send_data)
        channel.on("open", send_data)
        await pc.setLocalDescription(await pc.createOffer())
        await signaling.send(pc.localDescription)
        await consume_signaling(rtc, pc, signaling)
    assert done_reading
    assert channel.bufferedAmount == 0
    await pc.close()
    return highest


async def receive_file(rtc: ModuleType, signaling: Signaling, path: pathlib.Path) -> None:
    pc = rtc.RTCPeerConnection()
    farewells: list[asyncio.Future[None]] = []
    with path.open("wb") as file:

        @pc.on("datachannel")
        def on_datachannel(channel: Any) -> None:
            @channel.on("message")
            async def on_message(message: str | bytes) -> None:
                if isinstance(message, bytes):
                    file.write(message)
                else:
                    farewells.append(asyncio.ensure_future(signaling.send(BYE)))
                    finished.set()

        finished = asyncio.Event()
        consuming = asyncio.ensure_future(consume_signaling(rtc, pc, signaling))
        await finished.wait()
        consuming.cancel()
        await asyncio.wait([consuming, *farewells])
    await pc.close()


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_file_over_a_data_channel(one: ModuleType, other: ModuleType, tmp_path: pathlib.Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"".join(hashlib.sha256(bytes([n % 251])).digest() * 64 for n in range(1024)))
    ends = wire()
    highest, _ = await both(send_file(one, ends[0], source), receive_file(other, ends[1], target))
    assert target.read_bytes() == source.read_bytes()
    assert source.stat().st_size == 2 * 1024 * 1024
    assert HIGH_WATER < highest <= HIGH_WATER + BLOCK


# The server that transforms video, echoes audio and answers pings


class VideoTransformTrack(aiortc.MediaStreamTrack):
    """The picture of another track, its halves swapped."""

    kind = "video"

    def __init__(self, track: aiortc.MediaStreamTrack) -> None:
        super().__init__()
        self.track = track

    async def recv(self) -> av.VideoFrame:
        frame = await self.track.recv()
        picture = frame.reformat(format="rgb24")
        size, half = picture.planes[0].line_size, 3 * picture.width // 2
        rows = bytes(picture.planes[0])
        swapped = av.VideoFrame(picture.width, picture.height, "rgb24")
        swapped.planes[0].update(
            b"".join(
                (rows[start + half : start + 2 * half] + rows[start : start + half]).ljust(size, b"\0")
                for start in range(0, len(rows), size)
            )
        )
        swapped.pts, swapped.time_base = frame.pts, frame.time_base
        return swapped


async def serve_call(rtc: ModuleType, offer: Any, recorder: Any, ended: asyncio.Event) -> tuple[Any, Any]:
    pc = rtc.RTCPeerConnection()
    relay = MediaRelay()

    @pc.on("datachannel")
    def on_datachannel(channel: Any) -> None:
        @channel.on("message")
        def on_message(message: Any) -> None:
            channel.send("pong" + message[4:])

    @pc.on("connectionstatechange")
    async def on_connectionstatechange() -> None:
        if pc.connectionState == "failed":
            await pc.close()

    @pc.on("track")
    def on_track(track: Any) -> None:
        if track.kind == "audio":
            pc.addTrack(relay.subscribe(track))
        else:
            pc.addTrack(VideoTransformTrack(relay.subscribe(track)))
            recorder.addTrack(relay.subscribe(track))

        @track.on("ended")
        async def on_ended() -> None:
            await recorder.stop()
            ended.set()

    await pc.setRemoteDescription(offer)
    await recorder.start()
    answer = await pc.createAnswer()
    await pc.setLocalDescription(answer)
    return pc, pc.localDescription


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_server_that_transforms_video(
    one: ModuleType, other: ModuleType, tmp_path: pathlib.Path
) -> None:
    client = one.RTCPeerConnection()
    channel = client.createDataChannel("chat")
    pongs: asyncio.Queue[str] = asyncio.Queue()
    channel.on("open", lambda: channel.send("ping 1"))
    channel.on("message", pongs.put_nowait)
    client.addTrack(Tone())
    client.addTrack(Picture())
    tracks: dict[str, Any] = {}
    client.on("track", lambda track: tracks.setdefault(track.kind, track))
    await client.setLocalDescription(await client.createOffer())

    recorder: Any = MediaBlackhole()
    if other is mediapeer:
        recorder = MediaRecorder(str(tmp_path / "call.mp4"))
    ended = asyncio.Event()
    async with asyncio.timeout(LONGEST_SECONDS):
        server, answer = await serve_call(other, client.localDescription, recorder, ended)
        await client.setRemoteDescription(answer)
        assert await pongs.get() == "pong 1"
        frames = [await tracks["audio"].recv() for _ in range(50)][20:]
        assert frequency_of(frames) == pytest.approx(TONE, abs=5)
        for _ in range(5):
            picture = await tracks["video"].recv()
        left, right = colours_of(picture)
        assert left[2] > 200 > 60 > left[0]  # blue, which was on the right
        assert right[0] > 200 > 60 > right[2]
        await client.close()
        await ended.wait()
        await server.close()

    if other is mediapeer:
        with av.open(str(tmp_path / "call.mp4")) as recording:
            pictures = list(recording.decode(video=0))
        left, right = colours_of(pictures[-1])
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]


# Players, recorders and relays


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Four seconds of the tone, and of a picture: Opus and VP8."""
    path = tmp_path_factory.mktemp("film") / "film.webm"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("libopus", rate=SAMPLE_RATE)
        video = container.add_stream("libvpx", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.options = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}
        picture = av.VideoFrame(320, 240, "rgb24")
        picture.planes[0].update((RED * 160 + BLUE * 160) * 240)
        for index in range(200):
            container.mux(audio.encode(tone(960 * index, 960, SAMPLE_RATE)))
            if index % 2 == 0:
                frame = picture.reformat(format="yuv420p")
                frame.pts, frame.time_base = index // 2, Fraction(1, 25)
                container.mux(video.encode(frame))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


async def publish(rtc: ModuleType, signaling: Signaling, player: MediaPlayer) -> None:
    pc = rtc.RTCPeerConnection()
    pc.addTrack(player.audio)
    pc.addTrack(player.video)
    await pc.setLocalDescription(await pc.createOffer())
    await signaling.send(pc.localDescription)
    await consume_signaling(rtc, pc, signaling)
    await pc.close()


class Counted(aiortc.MediaStreamTrack):
    """Another track, which tells when enough of it was read."""

    def __init__(self, track: aiortc.MediaStreamTrack) -> None:
        super().__init__()
        self.kind, self.track = track.kind, track
        self.enough = asyncio.Event()
        self._left = 50 if track.kind == "audio" else 20

    async def recv(self) -> Any:
        frame = await self.track.recv()
        self._left -= 1
        if self._left == 0:
            self.enough.set()
        return frame


async def record(rtc: ModuleType, signaling: Signaling, sound: pathlib.Path, film: pathlib.Path) -> None:
    pc = rtc.RTCPeerConnection()
    # Two, for aiortc's recorder does not record what begins later than the rest.
    recorders = {"audio": MediaRecorder(str(sound)), "video": MediaRecorder(str(film))}
    tracks: list[Counted] = []

    @pc.on("track")
    def on_track(track: Any) -> None:
        tracks.append(Counted(track))
        recorders[track.kind].addTrack(tracks[-1])

    connected = asyncio.Event()

    @pc.on("connectionstatechange")
    def on_state() -> None:
        if pc.connectionState == "connected":
            connected.set()

    consuming = asyncio.ensure_future(consume_signaling(rtc, pc, signaling))
    await connected.wait()
    for recorder in recorders.values():
        await recorder.start()
    for track in tracks:
        await track.enough.wait()
    for recorder in recorders.values():
        await recorder.stop()
    await signaling.send(BYE)
    consuming.cancel()
    await asyncio.wait([consuming])
    await pc.close()


@pytest.mark.parametrize("decode", [True, False], ids=["decoded", "as-it-is"])
@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_film_is_played_to_a_recorder(
    one: ModuleType, other: ModuleType, decode: bool, film: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ends, sound, silent_film = wire(), tmp_path / "sound.wav", tmp_path / "film.mp4"
    player = MediaPlayer(str(film), decode=decode)
    await both(publish(one, ends[0], player), record(other, ends[1], sound, silent_film))
    with av.open(str(silent_film)) as recording:
        pictures = list(recording.decode(video=0))
    with av.open(str(sound)) as recording:
        heard = list(recording.decode(audio=0))
    assert len(pictures) > 10
    left, right = colours_of(pictures[-1])
    assert left[0] > 180 > 80 > left[2]
    assert right[2] > 180 > 80 > right[0]
    assert frequency_of(as_stereo(heard)[2:]) == pytest.approx(TONE, abs=5)


def as_stereo(frames: list[av.AudioFrame]) -> list[av.AudioFrame]:
    """Frames of samples of 16 bits in turns, as decoders of Opus give them."""
    resampler = av.AudioResampler("s16", "stereo", SAMPLE_RATE)
    return [resampled for frame in frames for resampled in resampler.resample(frame)]


async def test_one_camera_for_many_viewers_with_a_codec_by_choice(film: pathlib.Path) -> None:
    player, relay = MediaPlayer(str(film), loop=True), MediaRelay()

    async def view(codec: str) -> tuple[str, str]:
        viewer, camera = mediapeer.RTCPeerConnection(), mediapeer.RTCPeerConnection()
        viewer.addTransceiver("video", direction="recvonly")
        viewer.addTransceiver("audio", direction="recvonly")
        tracks: dict[str, Any] = {}
        viewer.on("track", lambda track: tracks.setdefault(track.kind, track))
        await viewer.setLocalDescription(await viewer.createOffer())

        await camera.setRemoteDescription(viewer.localDescription)
        sender = camera.addTrack(relay.subscribe(player.video))
        [transceiver] = [one for one in camera.getTransceivers() if one.sender is sender]
        codecs = mediapeer.RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([one for one in codecs if one.mimeType == f"video/{codec}"])
        camera.addTrack(relay.subscribe(player.audio))
        await camera.setLocalDescription(await camera.createAnswer())
        await viewer.setRemoteDescription(camera.localDescription)

        left, right = colours_of(await tracks["video"].recv())
        assert left[0] > 180 > 80 > left[2]
        assert right[2] > 180 > 80 > right[0]
        await tracks["audio"].recv()
        rtpmaps = [line for line in camera.localDescription.sdp.splitlines() if "rtpmap" in line]
        assert any(codec in line for line in rtpmaps)
        states = viewer.connectionState, camera.connectionState
        await viewer.close()
        await camera.close()
        return states

    states = await both(view("VP8"), view("H264"), view("VP8"))
    assert states == [("connected", "connected")] * 3
    player.audio.stop()
    player.video.stop()
