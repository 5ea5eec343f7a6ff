"""What a program may do with a call, and what becomes of its mistakes."""

import asyncio
import json
import logging
import pathlib
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pyee.asyncio import AsyncIOEventEmitter

from mediapeer.media import RecordingError, RecordingOptions, RelayedTrack
from signaling import Call, CallState, Problem, SignalingServer
from signaling import call as call_module
from signaling.echo import echo_messages
from tests.signaling.support import OFFER, calling, new_server, serving


@pytest.fixture
def server(tmp_path: pathlib.Path) -> SignalingServer:
    return new_server(tmp_path)


async def test_a_handler_may_stay_for_the_whole_call(server: SignalingServer) -> None:
    seen: list[str] = []

    @server.on_call
    async def handle(call: Call) -> None:
        call.on("state", lambda state: seen.append(state.value))
        await call.wait_connected()
        seen.append("handler knows")
        await call.wait_closed()
        seen.append("never: what still runs when a call ends is cancelled")

    async with serving(server) as client, calling(client, media=False) as caller:
        await caller.connected()
        [call] = server.calls.values()
        await call.close()
    assert seen == ["connecting", "connected", "handler knows", "closed"]


async def test_a_handler_reads_frames(server: SignalingServer) -> None:
    first_frame: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @server.on_call
    async def handle(call: Call) -> None:
        @call.on("track")
        async def on_track(track: RelayedTrack) -> None:
            while track.kind == "video":
                frame = await track.recv()
                if not first_frame.done():
                    first_frame.set_result(frame)

    async with serving(server) as client, calling(client), asyncio.timeout(20):
        assert (await first_frame).width == 640


@pytest.mark.parametrize("when", ["setting up", "track", "datachannel", "state", "later"])
async def test_a_handler_that_raises_ends_its_own_call_only(
    server: SignalingServer, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    calls: list[Call] = []
    second = asyncio.Event()

    def echo_media(call: Call) -> None:
        call.on("track", lambda track: call.peer_connection.addTrack(track) and None)

    @server.on_call
    async def handle(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            echo_media(call)  # the first call is well behaved
            return
        second.set()

        def fail(*_: object) -> None:
            raise RuntimeError(f"mistake in {when}")

        if when == "setting up":
            fail()
        elif when == "later":
            await call.wait_connected()
            fail()
        else:
            call.on(when, fail)  # type: ignore[arg-type]

    async def misbehave(client: TestClient[Any, Any]) -> None:
        async with calling(client):
            await asyncio.Event().wait()

    async with serving(server) as client, calling(client) as good:
        with caplog.at_level(logging.ERROR):
            bad = asyncio.create_task(misbehave(client))
            async with asyncio.timeout(10):
                await second.wait()
                await calls[1].wait_closed()
            bad.cancel()
            await asyncio.gather(bad, return_exceptions=True)
        assert calls[1].state is CallState.CLOSED
        assert calls[1].id in caplog.text
        assert f"mistake in {when}" in caplog.text
        assert calls[0].state is CallState.CONNECTED
        assert await good.receive("audio")


@pytest.mark.parametrize("late", [False, True])
async def test_a_call_that_ends_while_it_is_answered_is_not_answered(
    server: SignalingServer, late: bool
) -> None:
    async def fail() -> None:
        raise RuntimeError("a mistake")

    @server.on_call
    async def handle(call: Call) -> None:
        @call.on("track")
        def on_track(track: RelayedTrack) -> None:
            if not late:
                raise RuntimeError("a mistake")
            call.create_task(fail())

    with pytest.raises(Problem, match="raised an error"):
        await server.answer_call(OFFER)
    assert not server.calls


async def test_a_handler_that_raises_is_a_server_error_without_its_words(server: SignalingServer) -> None:
    @server.on_call
    async def handle(call: Call) -> None:
        raise RuntimeError("password: hunter2")

    async with serving(server) as client:
        response = await client.post("/api/calls", json={"type": "offer", "sdp": OFFER})
        assert response.status == 500
        assert "hunter2" not in await response.text()
    assert not server.calls


async def test_a_handler_may_refuse_a_call(server: SignalingServer) -> None:
    @server.on_call
    async def handle(call: Call) -> None:
        await call.close("Nobody is here today.")

    async with serving(server) as client:
        response = await client.post("/api/calls", json={"type": "offer", "sdp": OFFER})
        assert response.status == 403
        assert (await response.json())["detail"] == "Nobody is here today."


async def test_a_handler_that_takes_too_long_does_not_hold_the_caller(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_module, "SETUP_TIMEOUT", 0.01)

    @server.on_call
    async def handle(call: Call) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Problem, match="too long"):
        await server.answer_call(OFFER)
    assert not server.calls


async def test_a_handler_that_offers_nothing_is_told(server: SignalingServer) -> None:
    @server.on_call
    async def handle(call: Call) -> None:
        return

    with pytest.raises(Problem, match="offers neither"):
        await server.create_call()
    assert not server.calls


async def test_a_call_that_is_abandoned_while_being_set_up_is_closed(server: SignalingServer) -> None:
    begun = asyncio.Event()

    @server.on_call
    async def handle(call: Call) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(server.answer_call(OFFER))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.calls


async def test_tasks_of_a_call_end_with_it(server: SignalingServer) -> None:
    cancelled = asyncio.Event()

    @server.on_call
    async def handle(call: Call) -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        call.create_task(work())

    call, _ = await server.answer_call(OFFER)
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await call.close()
    assert cancelled.is_set()
    await call.close()


async def test_a_peer_that_hangs_up_ends_the_call(server: SignalingServer) -> None:
    async with serving(server) as client:
        async with calling(client, media=False):
            [call] = server.calls.values()
        async with asyncio.timeout(10):
            await call.wait_closed()
        assert call.reason == "The other side hung up."
        assert not server.calls


async def test_ended_calls_are_not_remembered_for_ever(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signaling.server.REMEMBERED_CALLS", 2)
    identifiers = []
    for _ in range(3):
        call, _ = await server.answer_call(OFFER)
        identifiers.append(call.id)
        await call.close()
    statuses = []
    for identifier in identifiers:
        with pytest.raises(Problem) as caught:
            server.call(identifier)
        statuses.append(caught.value.status)
    assert statuses == [404, 410, 410]


async def test_silence_is_told_and_a_peer_that_vanished_is_removed(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[CallState] = []
    call, _ = await server.answer_call(OFFER)
    call.on("state", told.append)

    def becomes(state: str) -> None:
        monkeypatch.setattr(type(call.peer_connection), "connectionState", property(lambda _: state))
        call.peer_connection.emit("connectionstatechange")

    for state in ("connected", "disconnected", "connected", "disconnected"):
        becomes(state)
    assert told[-4:] == ["connected", "disconnected", "connected", "disconnected"]
    assert server.calls
    becomes("failed")
    await call.wait_closed()
    assert call.reason == "The other side has not been heard for too long."
    assert not server.calls


async def test_a_call_that_finds_no_path_says_so(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, _ = await server.answer_call(OFFER)
    monkeypatch.setattr(type(call.peer_connection), "connectionState", property(lambda _: "failed"))
    call.peer_connection.emit("connectionstatechange")
    await call.wait_closed()
    assert call.reason == "No network path to the other side was found."


class FakeChannel(AsyncIOEventEmitter):
    """A data channel whose other end takes nothing."""

    readyState = "open"
    bufferedAmount = 0

    def send(self, message: str | bytes) -> None:
        self.bufferedAmount += len(message)


def test_an_echo_is_not_kept_for_a_peer_that_does_not_take_it() -> None:
    channel = FakeChannel()
    echo_messages(channel)  # type: ignore[arg-type]
    for _ in range(100):
        channel.emit("message", bytes(60_000))
    assert 1_000_000 < channel.bufferedAmount <= 1 << 20
    channel.readyState = "closed"
    channel.bufferedAmount = 0
    channel.emit("message", b"late")
    assert channel.bufferedAmount == 0


# Recording


async def test_a_program_records_its_call(server: SignalingServer, tmp_path: pathlib.Path) -> None:
    summaries: list[Any] = []

    @server.on_call
    async def handle(call: Call) -> None:
        await call.wait_connected()
        recorder = call.record(RecordingOptions(container="mkv"))
        with pytest.raises(RecordingError, match="already"):
            call.record()
        await asyncio.sleep(2)
        summaries.append(await recorder.stop())
        again = call.record()
        await asyncio.sleep(1)
        summaries.append(await again.stop())
        await call.close()

    async with serving(server) as client, calling(client):
        [call] = server.calls.values()
        async with asyncio.timeout(20):
            await call.wait_closed()
    assert [summary.path.suffix for summary in summaries] == [".mkv", ".webm"]
    assert summaries[0].duration == pytest.approx(2, abs=0.7)
    assert set(summaries[0].tracks) == {"audio", "video"}
    assert {summary.path.parent for summary in summaries} == {tmp_path}


async def test_tracks_and_channels_that_come_later_are_recorded_too(
    server: SignalingServer, tmp_path: pathlib.Path
) -> None:
    async with serving(server) as client, calling(client) as caller:
        [call] = server.calls.values()
        relays, call._relays = call._relays, []
        with pytest.raises(RecordingError, match="no audio and no video"):
            call.record()
        call._relays = [relay for relay in relays if relay.source.kind == "audio"]
        recorder = call.record(channels=True)
        await asyncio.sleep(0.5)
        video = next(relay for relay in relays if relay.source.kind == "video")
        call._on_track(video.source)
        await caller.ask("the channel was there before")
        later = caller.connection.createDataChannel("later")
        caller.use(later)
        opened = asyncio.Event()
        later.on("open", opened.set)
        async with asyncio.timeout(20):
            await opened.wait()
        assert await caller.ask("the channel came later") == "the channel came later"
        await asyncio.sleep(1)
        summary = await recorder.stop()
        for relay in relays:
            await relay.close()
    assert sorted(summary.tracks) == ["audio", "video"]
    [entry] = server.recordings.list()
    assert set(entry["codecs"]) == {"vp8", "opus"}
    lines = (tmp_path / f"{entry['name']}.data.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["chat", "later"]


async def test_a_recording_is_encoded_anew_only_when_asked_for(server: SignalingServer) -> None:
    async with serving(server) as client, calling(client):
        [call] = server.calls.values()
        recorder = call.record(RecordingOptions(transcode=True))
        await asyncio.sleep(3)
        summary = await recorder.stop()
    assert summary.duration > 1
    assert sorted(summary.tracks) == ["audio", "video"]


def test_a_call_of_no_server_has_no_place_for_recordings() -> None:
    class Connection(AsyncIOEventEmitter):
        pass

    call = Call(Connection(), "incoming")  # type: ignore[arg-type]
    with pytest.raises(RecordingError, match="no server"):
        call.record()
