"""Whole calls with other people's endpoints: werift, libwebrtc in Node, libdatachannel and pion, over loopback."""

import array
import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiortc
import av
import pytest
from aiortc.codecs.opus import OpusDecoder, OpusEncoder
from aiortc.jitterbuffer import JitterFrame

import mediapeer
from tests.peer.calls import SAMPLE_RATE, TONE, Picture, Tone, colours_of, frequency_of, ours, state, tone
from tests.tools import endpoints
from tests.tools.endpoints import Endpoint, endpoint

# The first test of each kind installs, and may build too.
pytestmark = pytest.mark.timeout(2 * endpoints.LONGEST_BUILD_SECONDS + 60)

OFFERING = ["ours", "theirs"]
#: What a message may have at the most when a description does not say (RFC 8841 §6.1), in bytes.
DEFAULT_LARGEST = 65_536
#: Endpoints that do not always say goodbye by DTLS; then their silence is noticed.
MAY_LEAVE_SILENTLY = ["werift", "node-datachannel"]
#: How long a call may take; about two seconds of it are audio.
LONGEST_CALL_SECONDS = 15


@pytest.fixture(params=endpoints.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """One of the endpoints that can be had here."""
    name: str = request.param
    if (reason := endpoints.refusal(name)) is not None:
        pytest.skip(f"{name} cannot be had here: {reason}")
    endpoints.command(name)
    return name


@contextlib.asynccontextmanager
async def closing(peer: mediapeer.RTCPeerConnection) -> AsyncIterator[mediapeer.RTCPeerConnection]:
    try:
        yield peer
    finally:
        await peer.close()


class Call:
    """A call between an end of ours and an endpoint, which sends its candidates when it finds them.

    :param trickle: whether ours does that too.
    """

    def __init__(self, peer: mediapeer.RTCPeerConnection, other: Endpoint, trickle: bool) -> None:
        self.peer = peer
        self.other = other
        self._trickling: asyncio.Task[None] | None = None
        self._messages: dict[str, asyncio.Queue[str | bytes]] = {}
        self.channels: asyncio.Queue[aiortc.RTCDataChannel] = asyncio.Queue()
        self.tracks: asyncio.Queue[aiortc.MediaStreamTrack] = asyncio.Queue()
        peer.on("datachannel", self.channels.put_nowait)
        peer.on("track", self.tracks.put_nowait)
        if trickle:
            peer.on("icecandidate", self._tell_candidate)

    async def negotiate(self, offering: str, *, hold_answer_seconds: float = 0, **options: Any) -> None:
        """Offer and answer; ``options`` are those of the offer."""
        if offering == "ours":
            await self.peer.setLocalDescription(await self.peer.createOffer(**options))
            self._tell(self.peer.localDescription)
            await self._set_remote()
        else:
            self.other.tell("offer", **options)
            await self._set_remote()
            await self.peer.setLocalDescription(await self.peer.createAnswer())
            await asyncio.sleep(hold_answer_seconds)
            self._tell(self.peer.localDescription)

    async def connect(self, offering: str) -> None:
        """Negotiate, and wait until both ends are connected."""
        await self.negotiate(offering)
        how = await state(self.peer, "connected", "failed", "closed")
        errors = [transport.error for transport in self.peer.transports]
        assert how == "connected", f"ICE is {self.peer.iceConnectionState}, DTLS says {errors}"
        await self.other.said("state", state="connected")

    def end(self) -> None:
        if self._trickling is not None:
            self._trickling.cancel()

    def _tell(self, description: aiortc.RTCSessionDescription) -> None:
        self.other.tell("description", type=description.type, sdp=description.sdp)

    def _tell_candidate(self, candidate: mediapeer.RTCIceCandidate | None) -> None:
        if candidate is not None:
            self.other.tell("candidate", candidate=candidate.candidate, mid=candidate.sdpMid)

    async def _set_remote(self) -> None:
        said = await self.other.said("description")
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(said["sdp"], said["type"]))
        if self._trickling is None:
            self._trickling = asyncio.create_task(self._trickle())

    async def _trickle(self) -> None:
        while True:
            said = await self.other.next("candidate")
            await self.peer.addIceCandidate({"candidate": said["candidate"], "sdpMid": said["mid"]})


@contextlib.asynccontextmanager
async def calling(name: str, *, trickle: bool = False, **configuration: Any) -> AsyncIterator[Call]:
    """A call that has not begun, which ends with the block."""
    async with closing(ours(**configuration)) as peer, endpoint(name) as other:
        call = Call(peer, other, trickle)
        try:
            async with asyncio.timeout(LONGEST_CALL_SECONDS):
                yield call
        finally:
            call.end()


def inbox(channel: aiortc.RTCDataChannel) -> asyncio.Queue[str | bytes]:
    """Where the messages of a channel will be."""
    messages: asyncio.Queue[str | bytes] = asyncio.Queue()
    channel.on("message", messages.put_nowait)
    return messages


async def opened(channel: aiortc.RTCDataChannel) -> None:
    """Wait until a channel is open."""
    event = asyncio.Event()
    channel.on("open", event.set)
    if channel.readyState != "open":
        await event.wait()


def largest_message(peer: mediapeer.RTCPeerConnection) -> int:
    """How many bytes a message to the other end may have."""
    said = re.search(r"^a=max-message-size:(\d+)", peer.remoteDescription.sdp, re.MULTILINE)
    return int(said[1]) if said else DEFAULT_LARGEST


async def send_both_ways(
    other: Endpoint,
    channel: aiortc.RTCDataChannel,
    messages: asyncio.Queue[str | bytes],
    sent: list[str | bytes],
) -> None:
    """Every message arrives as it was sent, in both directions."""
    label = channel.label
    for message in sent:
        channel.send(message)
        other.send(label, message)
    assert [await messages.get() for _ in sent] == sent
    assert [await other.received(label) for _ in sent] == sent


SMALL: list[str | bytes] = ["grüß dich", bytes(range(256)), "x", b"\x00"]


@pytest.mark.parametrize(
    "options", [{}, {"trickle": True}, {"iceLite": True}], ids=["full", "trickle", "lite"]
)
@pytest.mark.parametrize("offering", OFFERING)
async def test_messages_arrive_on_every_kind_of_channel(
    name: str, offering: str, options: dict[str, bool]
) -> None:
    async with calling(name, **options) as call:
        peer, other = call.peer, call.other
        agreed = {"label": "agreed", "negotiated": True, "id": 10}
        first = [{"label": "chat"}, {"label": "unordered", "ordered": False}]
        other.tell("start", channels=[agreed, *(first if offering == "theirs" else [])])
        channels = {"agreed": peer.createDataChannel(**agreed)}
        if offering == "ours":
            channels |= {options["label"]: peer.createDataChannel(**options) for options in first}
        inboxes = {label: inbox(channel) for label, channel in channels.items()}
        await call.connect(offering)

        while len(channels) < 3:
            channel = await call.channels.get()
            channels[channel.label], inboxes[channel.label] = channel, inbox(channel)
        for channel in channels.values():
            await opened(channel)
        for _ in channels:
            await other.said("channel")
        assert channels["unordered"].ordered is False
        for label, channel in channels.items():
            await send_both_ways(other, channel, inboxes[label], SMALL[: 2 if label == "unordered" else None])

        # One more, which the end that answered makes while the call goes on.
        if offering == "theirs":
            late = peer.createDataChannel("late")
        else:
            other.tell("open", label="late")
            late = await call.channels.get()
        messages = inbox(late)
        await opened(late)
        await other.said("channel", label="late")
        await send_both_ways(other, late, messages, ["at last"])


@pytest.mark.parametrize("offering", OFFERING)
async def test_large_messages_arrive_whole(name: str, offering: str) -> None:
    async with calling(name) as call:
        peer, other = call.peer, call.other
        agreed = {"label": "agreed", "negotiated": True, "id": 0}
        other.tell("start", channels=[agreed])
        channel = peer.createDataChannel(**agreed)
        messages = inbox(channel)
        await call.connect(offering)
        await opened(channel)
        await other.said("channel")
        text = "ä€😀" * 5_000
        data = (bytes(range(256)) * 400)[: min(100_000, largest_message(peer))]
        for message in (text, data):
            channel.send(message)
            assert await other.received("agreed") == message
        data = (bytes(range(256)) * 400)[:100_000]
        for message in (text, data):
            other.send("agreed", message)
            assert await messages.get() == message


async def test_audio_is_heard_at_both_ends(name: str) -> None:
    async with calling(name, iceLite=True) as call:
        call.other.tell("start", channels=[], audio=True)
        call.peer.addTrack(Tone())
        await call.connect("theirs")
        await both_hear(call)


@pytest.mark.parametrize("offering", OFFERING)
async def test_audio_is_added_in_the_middle_of_a_call(name: str, offering: str) -> None:
    async with calling(name) as call:
        call.other.tell("start", channels=[{"label": "chat"}] if offering == "theirs" else [])
        if offering == "ours":
            channel = call.peer.createDataChannel("chat")
        await call.connect(offering)
        if offering == "theirs":
            channel = await call.channels.get()
        messages = inbox(channel)
        await opened(channel)
        await call.other.said("channel")

        call.peer.addTrack(Tone())
        call.other.tell("add-audio")
        await call.negotiate(offering)
        await both_hear(call)
        await send_both_ways(call.other, channel, messages, ["still here"])


@pytest.mark.parametrize("closing_end", OFFERING)
async def test_the_end_of_a_call_is_noticed(name: str, closing_end: str) -> None:
    async with calling(name) as call:
        call.other.tell("start", channels=[])
        channel = call.peer.createDataChannel("chat")
        closed = asyncio.Event()
        channel.on("close", closed.set)
        await call.connect("ours")
        await opened(channel)
        await call.other.said("channel")
        if closing_end == "ours":
            await call.peer.close()
            assert channel.readyState == "closed"
            await call.other.said("channel-closed", label="chat")
        else:
            call.other.tell("close")
            how = await state(call.peer, "closed", "disconnected", "failed")
            if name not in MAY_LEAVE_SILENTLY:
                assert how == "closed"
            if how == "closed":
                await closed.wait()
            else:
                assert how == "disconnected"


@pytest.mark.parametrize("closing_end", OFFERING)
async def test_the_end_of_a_channel_is_noticed(name: str, closing_end: str) -> None:
    async with calling(name) as call:
        call.other.tell("start", channels=[])
        channels = {label: call.peer.createDataChannel(label) for label in ("chat", "other")}
        messages = inbox(channels["other"])
        closed = asyncio.Event()
        channels["chat"].on("close", closed.set)
        await call.connect("ours")
        for channel in channels.values():
            await opened(channel)
            await call.other.said("channel")
        if closing_end == "ours":
            channels["chat"].close()
        else:
            call.other.tell("close-channel", label="chat")
        await closed.wait()
        await call.other.said("channel-closed", label="chat")
        await send_both_ways(call.other, channels["other"], messages, ["still open"])


#: werift gives no candidates when ICE restarts, and checks ours with other credentials than it names.
@pytest.mark.parametrize("name", ["wrtc", "pion"], indirect=True)
@pytest.mark.parametrize("offering", OFFERING)
async def test_ice_is_restarted_while_messages_flow(name: str, offering: str) -> None:
    async with calling(name) as call:
        call.other.tell("start", channels=[])
        channel = call.peer.createDataChannel("chat")
        messages = inbox(channel)
        states: list[str] = []
        await call.connect("ours")
        await opened(channel)
        await call.other.said("channel")
        call.peer.on("connectionstatechange", lambda: states.append(call.peer.connectionState))

        before = credentials(call.peer)
        await call.negotiate(offering, iceRestart=True)
        assert not before & credentials(call.peer)
        restarted_at = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - restarted_at < 1:
            await send_both_ways(call.other, channel, messages, ["still here"])
            await asyncio.sleep(0.05)
        assert not {"disconnected", "failed", "closed"} & set(states)


def credentials(peer: mediapeer.RTCPeerConnection) -> set[str]:
    """The user name fragments of both ends."""
    descriptions = peer.localDescription.sdp + peer.remoteDescription.sdp
    return set(re.findall(r"^a=ice-ufrag:(\S+)", descriptions, re.MULTILINE))


@pytest.mark.parametrize("name", ["werift", "pion"], indirect=True)
@pytest.mark.parametrize("lite", [False, True], ids=["full", "lite"])
@pytest.mark.parametrize("offering", OFFERING)
async def test_the_other_end_is_a_lite_agent(name: str, offering: str, lite: bool) -> None:
    """When both are, one of them has to be more than that (RFC 8445 §6.1.1)."""
    async with calling(name, iceLite=lite) as call:
        agreed = {"label": "agreed", "negotiated": True, "id": 0}
        call.other.tell("start", channels=[agreed], lite=True)
        channel = call.peer.createDataChannel(**agreed)
        messages = inbox(channel)
        await call.connect(offering)
        assert "a=ice-lite" in call.peer.remoteDescription.sdp
        await opened(channel)
        await call.other.said("channel")
        await send_both_ways(call.other, channel, messages, ["light"])


@pytest.mark.parametrize("name", ["node-datachannel"], indirect=True)
async def test_an_offerer_meets_our_client_hello_before_it_knows_our_answer(name: str) -> None:
    """libdatachannel settles on the fingerprint's hash at that moment, so there is but one to settle on."""
    async with calling(name) as call:
        call.other.tell("start", channels=[{"label": "chat"}])
        await call.negotiate("theirs", hold_answer_seconds=0.2)
        assert await state(call.peer, "connected", "failed", "closed") == "connected"
        [fingerprint] = re.findall(r"^a=fingerprint:(\S+)", call.peer.localDescription.sdp, re.MULTILINE)
        assert fingerprint == "sha-256"


@pytest.mark.parametrize("name", ["wrtc"], indirect=True)
@pytest.mark.parametrize("offering", OFFERING)
async def test_video_is_seen_at_both_ends(name: str, offering: str) -> None:
    async with calling(name) as call:
        call.other.tell("start", channels=[], video=True)
        call.peer.addTrack(Picture())
        await call.connect(offering)
        call.other.tell("play")
        track = await call.tracks.get()
        for _ in range(5):
            picture = await track.recv()
        left, right = colours_of(picture)
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]

        seen = await ask(call.other, lambda seen: "colours" in seen)
        (_, u, v), (_, other_u, other_v) = seen["colours"]
        assert u < 110 < 220 < v
        assert other_v < 128 < 220 < other_u


def opus_tone() -> list[str]:
    """A second of :data:`TONE` as Opus packets in base64, of 20 milliseconds each; it can be repeated."""
    encoder = OpusEncoder()
    packets: list[str] = []
    for index in range(50):
        payloads, _ = encoder.encode(tone(960 * index, 960, SAMPLE_RATE))
        packets += [base64.b64encode(payload).decode() for payload in payloads]
    return packets


def decoded(payloads: list[str]) -> list[av.AudioFrame]:
    """What Opus packets in base64 say."""
    decoder = OpusDecoder()
    frames: list[av.AudioFrame] = []
    for index, payload in enumerate(payloads):
        frames += decoder.decode(JitterFrame(data=base64.b64decode(payload), timestamp=960 * index))
    return frames


def of_samples(samples: str) -> list[av.AudioFrame]:
    """Frames of mono samples in base64, the right channel made of the left one."""
    data = array.array("h", base64.b64decode(samples))
    frame = av.AudioFrame(format="s16", layout="stereo", samples=len(data))
    frame.planes[0].update(array.array("h", (value for value in data for _ in range(2))).tobytes())
    return [frame]


async def ask(other: Endpoint, is_enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What came to the other end, when it is enough."""
    while True:
        other.tell("heard")
        if is_enough(heard := await other.said("heard")):
            return heard
        await asyncio.sleep(0.1)


async def both_hear(call: Call) -> None:
    """Both ends hear the tone of the other."""
    call.other.tell("play", packets=opus_tone(), frequency=TONE)
    track = await call.tracks.get()
    frames = [await track.recv() for _ in range(40)][20:]
    assert frequency_of(frames) == pytest.approx(TONE, abs=5)

    heard = await ask(call.other, lambda heard: heard["packets"] >= 40)
    theirs = of_samples(heard["samples"]) if "samples" in heard else decoded(heard["payloads"])
    assert frequency_of(theirs) == pytest.approx(TONE, abs=5)
