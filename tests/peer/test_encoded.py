"""Whole calls whose tracks are taken as they were encoded, read late, or not taken at all."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import aiortc
import pytest

from mediapeer import RemoteTrack
from mediapeer.peer.decoding import decoder_for
from mediapeer.peer.stats import RTCInboundRtpStreamStats
from mediapeer.rtp import EncodedFrame
from tests.peer.calls import Picture, Tone, aiortcs, colours_of, negotiate, ours, state
from tests.peer.encoding import Collector
from tests.transport.virtual import until

MakePeer = Callable[[], aiortc.RTCPeerConnection]
SENDERS = [pytest.param(ours, id="of-ours"), pytest.param(aiortcs, id="of-aiortcs")]


@pytest.fixture(autouse=True)
def aiortc_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiortc's own connections use loopback, which aioice leaves out."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The codecs of the decoders that are made."""
    made: list[str] = []

    def make(frame: EncodedFrame) -> Any:
        made.append(frame.codec)
        return decoder_for(frame)

    monkeypatch.setattr("mediapeer.peer.decoding.decoder_for", make)
    return made


async def call(make_sender: MakePeer) -> tuple[aiortc.RTCPeerConnection, Any, dict[str, RemoteTrack]]:
    """One end that sends sound and pictures, one of ours that gets them, and its tracks by kind."""
    sender, receiver = make_sender(), ours()
    tracks: dict[str, RemoteTrack] = {}
    receiver.on("track", lambda track: tracks.setdefault(track.kind, track))
    sender.addTrack(Tone())
    sender.addTrack(Picture())
    await negotiate(sender, receiver)
    assert await state(receiver, "connected", "failed") == "connected"
    return sender, receiver, tracks


async def inbound(peer: Any) -> dict[str, RTCInboundRtpStreamStats]:
    report = await peer.getStats()
    return {entry.kind: entry for entry in report.values() if isinstance(entry, RTCInboundRtpStreamStats)}


@pytest.mark.parametrize("make_sender", SENDERS)
async def test_frames_come_as_they_were_encoded_and_nothing_is_decoded(
    make_sender: MakePeer, decoders: list[str]
) -> None:
    sender, receiver, tracks = await call(make_sender)
    heard = [frame async for _, frame in enumerated(tracks["audio"], 20)]
    seen = [frame async for _, frame in enumerated(tracks["video"], 5)]
    assert {frame.codec for frame in heard} == {"opus"}
    assert {frame.codec for frame in seen} == {"vp8"}
    assert [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(heard)] == [960] * 19
    assert all(frame.duration == 960 for frame in heard)
    assert seen[0].is_keyframe
    assert (seen[0].width, seen[0].height) == (320, 240)
    assert decoders == []
    assert not tracks["audio"].is_wanted
    stats = await inbound(receiver)
    assert stats["video"].framesReceived >= 5
    assert stats["video"].framesDecoded == 0
    await asyncio.gather(sender.close(), receiver.close())


async def enumerated(track: RemoteTrack, number: int) -> Any:
    """The first so many encoded frames of a track."""
    count = 0
    frames = track.encoded()
    async for frame in frames:
        yield count, frame
        count += 1
        if count == number:
            break
    await frames.aclose()


@pytest.mark.parametrize("make_sender", SENDERS)
async def test_a_track_that_is_read_late_begins_with_a_whole_picture(
    make_sender: MakePeer, decoders: list[str]
) -> None:
    sender, receiver, tracks = await call(make_sender)
    [path] = receiver.transports
    await until(lambda: any(s.packets_received > 9 and s.mid == "1" for s in path.media.streams()))
    stats = await inbound(receiver)
    assert stats["video"].framesReceived == stats["video"].pliCount == 0, "nobody wanted any"
    assert decoders == []
    left, right = colours_of(await tracks["video"].recv())
    assert left[0] > 200 > 60 > left[2]
    assert right[2] > 200 > 60 > right[0]
    assert decoders == ["vp8"]
    entry = (await inbound(receiver))["video"]
    assert entry.pliCount >= 1
    assert (entry.frameWidth, entry.frameHeight) == (320, 240)
    assert entry.framesDecoded >= entry.keyFramesDecoded >= 1
    await asyncio.gather(sender.close(), receiver.close())


async def test_consumers_and_a_reader_share_a_track_and_hear_its_end() -> None:
    sender, receiver, tracks = await call(ours)
    collectors = [Collector(), Collector()]
    subscriptions = [tracks["video"].subscribe(collector) for collector in collectors]
    for _ in range(5):
        await tracks["video"].recv()
    seen = len(collectors[0].frames)
    keyframes = sum(frame.is_keyframe for frame in collectors[0].frames)
    await asyncio.sleep(0.6)  # a keyframe is asked for twice a second at the most
    subscriptions[0].request_keyframe()
    while sum(frame.is_keyframe for frame in collectors[0].frames) == keyframes:
        await tracks["video"].recv()
    subscriptions[1].close()
    taken = len(collectors[1].frames)
    await tracks["video"].recv()
    assert len(collectors[0].frames) > seen
    # Sender reports come in their own time.
    await until(lambda: None not in (tracks["video"].cname, tracks["audio"].cname))
    assert tracks["video"].cname == tracks["audio"].cname
    assert subscriptions[0].counts.received > 0
    await asyncio.gather(sender.close(), receiver.close())
    assert [collector.ends for collector in collectors] == [1, 0]
    assert len(collectors[1].frames) == taken
    assert tracks["video"].readyState == "ended"
    assert tracks["video"].cname is not None
