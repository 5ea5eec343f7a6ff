"""Files played into calls, on loopback: to aiortc's own end, and to ours."""

import asyncio
import gc
import pathlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import aiortc
import av
import pytest
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError

from mediapeer.media import FilePlayer
from mediapeer.rtp import RtpPacket
from mediapeer.srtp import is_rtcp
from mediapeer.transport import DtlsTransport
from tests.media.files import luma_of, make_file
from tests.peer.calls import aiortcs, negotiate, ours

PICTURES = 45


@pytest.fixture(autouse=True)
def aiortc_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiortc's own connections use loopback, which aioice leaves out."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class Viewer:
    """Reads what comes to an end, and notes how bright each picture is."""

    def __init__(self, peer: Any) -> None:
        self.lumas: list[int] = []
        self.sounds = 0
        self.changed = asyncio.Event()
        self.tracks: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        peer.on("track", lambda track: self._tasks.append(asyncio.create_task(self._read(track))))

    async def _read(self, track: aiortc.MediaStreamTrack) -> None:
        self.tracks.append(track)
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            if track.kind == "video":
                self.lumas.append(bytes(frame.planes[0])[0])
            else:
                self.sounds += 1
            self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it has seen or heard something."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def whole(lumas: list[int], count: int) -> bool:
    """Whether these are the pictures of the file, from the first on."""
    return lumas[:count] == pytest.approx([luma_of(index) for index in range(count)], abs=6)


class Call:
    """A player's tracks on their way from our end to another."""

    def __init__(
        self, player: FilePlayer, other: Callable[[], aiortc.RTCPeerConnection], tracks: Any = None
    ) -> None:
        self.player = player
        self.peer, self.other = ours(), other()
        self.viewer = Viewer(self.other)
        self.senders = [
            self.peer.addTrack(track) for track in tracks or (player.audio, player.video) if track is not None
        ]

    async def close(self) -> None:
        self.player.stop()
        await self.peer.close()
        await self.other.close()


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [("clip.webm", "libvpx", "libopus"), ("clip.mp4", "libx264", None), ("clip.mkv", "libx264", "libopus")],
)
async def test_a_file_arrives_whole(tmp_path: pathlib.Path, name: str, video: str, audio: str | None) -> None:
    path = make_file(tmp_path / name, video, audio, pictures=PICTURES)
    call = Call(FilePlayer(path), aiortcs)
    viewer = call.viewer
    await negotiate(call.peer, call.other)
    # aiortc gives a picture when the next one has come.
    await viewer.until(lambda: len(viewer.lumas) >= PICTURES - 1)
    if audio is not None:
        await viewer.until(lambda: viewer.sounds >= 60)
    assert whole(viewer.lumas, PICTURES - 1)
    assert all(sender.error is None for sender in call.senders)
    await call.close()


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("clip.ivf", "libvpx-vp9"),
        ("clip.webm", "libvpx"),
        ("clip.mp4", "libsvtav1"),
        ("clip.ivf", "libsvtav1"),
        ("clip.mp4", "libx265"),
    ],
)
async def test_our_own_end_gets_it_too(tmp_path: pathlib.Path, name: str, encoder: str) -> None:
    if encoder not in av.codecs_available:
        pytest.skip(f"this libavcodec has no {encoder}")
    path = make_file(tmp_path / name, encoder, None, pictures=PICTURES)
    call = Call(FilePlayer(path), ours)
    await negotiate(call.peer, call.other)
    await call.viewer.until(lambda: len(call.viewer.lumas) >= PICTURES)
    assert whole(call.viewer.lumas, PICTURES)
    await call.close()


async def test_what_the_peer_does_not_take_is_encoded_anew(tmp_path: pathlib.Path) -> None:
    path = make_file(tmp_path / "clip.ivf", "libvpx-vp9", None, pictures=PICTURES)
    call = Call(FilePlayer(path, transcode=True), aiortcs)
    await negotiate(call.peer, call.other)
    await call.viewer.until(lambda: len(call.viewer.lumas) >= PICTURES - 2)
    assert call.viewer.lumas[:30] == pytest.approx([luma_of(index) for index in range(30)], abs=12)
    await call.close()


async def test_lost_packets_are_sent_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in ten is lost on its way the first time; aiortc asks for it, and all pictures arrive."""
    path = make_file(tmp_path / "clip.webm", audio=None, pictures=PICTURES)
    call = Call(FilePlayer(path), aiortcs)
    [sender] = call.senders
    send, seen, lost = DtlsTransport.send_media, 0, []

    def lossy(transport: DtlsTransport, data: bytes) -> bool:
        nonlocal seen
        if not is_rtcp(data):
            packet = RtpPacket.parse(data)
            if packet.ssrc == sender.ssrc:
                seen += 1
                if seen % 10 == 0:
                    lost.append(packet.sequence_number)
                    return True
        return send(transport, data)

    monkeypatch.setattr(DtlsTransport, "send_media", lossy)
    await negotiate(call.peer, call.other)
    # aiortc gives one picture for each packet that comes, so it stays behind by those that were late.
    await call.viewer.until(lambda: len(call.viewer.lumas) >= PICTURES - 5)
    assert whole(call.viewer.lumas, PICTURES - 5)
    assert len(lost) >= 4
    assert sender._stream.retransmitted_packets_sent >= 4
    await call.close()


async def test_a_viewer_that_needs_a_keyframe_gets_the_next_one_early(tmp_path: pathlib.Path) -> None:
    path = make_file(tmp_path / "clip.webm", audio=None, pictures=120, group=50)
    call = Call(FilePlayer(path), ours)
    viewer = call.viewer
    await negotiate(call.peer, call.other)
    await viewer.until(lambda: len(viewer.lumas) > 3)
    viewer.tracks[0].request_keyframe()
    await viewer.until(lambda: call.player.skipped > 0)
    seen = len(viewer.lumas)
    await viewer.until(lambda: len(viewer.lumas) > seen + 5)
    assert viewer.lumas[0] == pytest.approx(luma_of(0), abs=6)
    after = viewer.lumas.index(next(luma for luma in viewer.lumas if abs(luma - luma_of(50)) < 4))
    assert after < 40, "less than the pictures before that keyframe"
    assert viewer.lumas[after : after + 4] == pytest.approx([luma_of(50 + n) for n in range(4)], abs=6)
    [stats] = [entry for entry in (await call.peer.getStats()).values() if entry.type == "outbound-rtp"]
    assert stats.pliCount >= 1
    assert stats.codecId is not None
    await call.close()


async def test_a_relay_shows_one_player_to_several(tmp_path: pathlib.Path) -> None:
    """The pattern of aiortc's webcam example, with a player of ours."""
    path = make_file(tmp_path / "clip.mp4", "libx264", None, pictures=PICTURES)
    player, relay = FilePlayer(path, loop=True), MediaRelay()
    calls = [Call(player, aiortcs, [relay.subscribe(player.video)]) for _ in range(2)]
    await asyncio.gather(*(negotiate(call.peer, call.other) for call in calls))
    for call in calls:
        await call.viewer.until(lambda seen=call.viewer: len(seen.lumas) > 10)
    assert {sender.error for call in calls for sender in call.senders} == {None}
    for call in calls:
        await call.close()


async def test_nothing_is_left_of_a_player_after_its_call(tmp_path: pathlib.Path) -> None:
    path = make_file(tmp_path / "clip.webm", pictures=PICTURES)
    tasks = asyncio.all_tasks()

    async def play() -> list[weakref.ref[Any]]:
        call = Call(FilePlayer(path, loop=True), aiortcs)
        await negotiate(call.peer, call.other)
        await call.viewer.until(lambda: len(call.viewer.lumas) > 5)
        await call.close()
        assert call.player.video is not None
        assert call.player.video.readyState == "ended"
        return [weakref.ref(one) for one in (call.player, call.player._reader, *call.senders)]

    kept = await play()
    await asyncio.sleep(0.1)
    gc.collect()
    assert [one() for one in kept if one() is not None] == []
    assert asyncio.all_tasks() == tasks
    names = {thread.name.rsplit("_", 1)[0] for thread in threading.enumerate()}
    shared = {"asyncio", "mediapeer-encoder", "decoding"}
    assert names <= {"MainThread", *shared}
