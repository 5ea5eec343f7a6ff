"""The JSON API: what is asked, what is answered, and what happens to bad requests."""

import asyncio
import json
import pathlib
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediapeer import RTCPeerConnection, RTCSessionDescription
from signaling import SignalingServer
from tests.media.films import make_film
from tests.signaling.support import LOOPBACK, OFFER, Caller, Timers, calling, new_server, serving, until

Client = TestClient[Any, Any]


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def server(tmp_path: pathlib.Path, timers: Timers) -> SignalingServer:
    return new_server(tmp_path / "recordings", maximum_calls=3, call_later=timers.call_later)


@pytest.fixture
async def client(server: SignalingServer) -> AsyncIterator[Client]:
    async with serving(server) as client:
        yield client


async def offer(client: Client, sdp: str = OFFER) -> ClientResponse:
    return await client.post("/api/calls", json={"type": "offer", "sdp": sdp})


async def problem(response: ClientResponse, status: int) -> str:
    """The words of a problem of that status."""
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    document = await response.json()
    assert document["status"] == status
    assert document["title"]
    return str(document["detail"])


# Calls


async def test_a_call_echoes_sound_picture_and_messages(client: Client) -> None:
    async with calling(client) as caller:
        assert await caller.ask("ping") == "ping"
        assert (await caller.receive("audio")).sample_rate == 48_000
        assert (await caller.receive("video")).width == 640


async def test_an_answer_says_where_the_call_is(client: Client) -> None:
    response = await offer(client)
    assert response.status == 201
    document = await response.json()
    assert document["type"] == "answer"
    assert response.headers["Location"] == f"/api/calls/{document['id']}"
    assert len(document["id"]) >= 22
    assert "127.0.0.1" in document["sdp"]


async def test_the_state_of_a_call_has_what_was_negotiated(client: Client) -> None:
    async with calling(client) as caller:
        state = await (await client.get(f"/api/calls/{caller.call_id}")).json()
        assert state["state"] == "connected"
        security = state["security"]
        assert security["dtlsVersion"] == "DTLS 1.3"
        assert security["cipherSuite"] == "TLS_AES_128_GCM_SHA256"
        assert security["group"] == "X25519MLKEM768"
        assert security["localFingerprint"].startswith("sha-256 ")
        assert security["localFingerprint"] != security["remoteFingerprint"]
        assert security["handshakeDuration"] > 0
        assert {"transport", "certificate"} <= {entry["type"] for entry in state["statistics"]}
        assert state["recording"] is None


async def test_hanging_up_ends_the_call_on_both_sides_and_is_remembered(client: Client) -> None:
    async with calling(client) as caller:
        path = f"/api/calls/{caller.call_id}"
        assert (await client.delete(path)).status == 204
        assert await problem(await client.get(path), 410) == "The other side hung up."
        assert await problem(await client.delete(path), 410)
        await until(lambda: caller.connection.connectionState == "closed", caller.connection)


async def test_a_call_that_is_not_known_is_not_found(client: Client) -> None:
    for request in (
        client.get("/api/calls/nobody"),
        client.delete("/api/calls/nobody"),
        client.post("/api/calls/nobody/recording"),
        client.delete("/api/calls/nobody/recording"),
        client.put("/api/calls/nobody/answer", json={"type": "answer", "sdp": OFFER}),
    ):
        assert await problem(await request, 404)


async def test_the_server_can_offer(client: Client) -> None:
    created = await client.post("/api/calls/outgoing")
    assert created.status == 201
    document = await created.json()
    assert document["type"] == "offer"
    connection = RTCPeerConnection(LOOPBACK)
    try:
        caller = Caller(connection, document["id"])
        opened = asyncio.Event()

        @connection.on("datachannel")
        def on_data_channel(channel: Any) -> None:
            caller.use(channel)
            opened.set()

        await connection.setRemoteDescription(RTCSessionDescription(document["sdp"], "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        answer = {"type": "answer", "sdp": connection.localDescription.sdp}
        path = f"/api/calls/{document['id']}/answer"
        assert (await client.put(path, json=answer)).status == 204
        async with asyncio.timeout(20):
            await opened.wait()
        assert await caller.ask("ping") == "ping"
        assert await problem(await client.put(path, json=answer), 409)
    finally:
        await connection.close()


async def test_a_bad_answer_is_refused(client: Client) -> None:
    document = await (await client.post("/api/calls/outgoing")).json()
    path = f"/api/calls/{document['id']}/answer"
    assert "Not an answer" in str(await (await client.put(path, json={"type": "offer", "sdp": OFFER})).json())
    await problem(await client.put(path, json={"type": "answer", "sdp": "v=0"}), 400)
    other = OFFER.replace("actpass", "active")
    detail = await problem(await client.put(path, json={"type": "answer", "sdp": other}), 400)
    assert "the offer has 3 media sections, the answer 2" in detail


# Limits


async def test_a_call_that_never_connects_is_forgotten(
    client: Client, server: SignalingServer, timers: Timers
) -> None:
    document = await (await offer(client)).json()
    path = f"/api/calls/{document['id']}"
    timers.advance(29)
    assert (await client.get(path)).status == 200
    timers.advance(2)
    async with asyncio.timeout(10):
        await server.calls[document["id"]].wait_closed()
    assert "did not connect within 30 seconds" in await problem(await client.get(path), 410)


async def test_a_call_that_connected_is_not(client: Client, timers: Timers) -> None:
    async with calling(client) as caller:
        await caller.connected()
        timers.advance(100)
        assert await caller.ask("still here") == "still here"


async def test_one_call_too_many_is_asked_to_come_back(client: Client, server: SignalingServer) -> None:
    for _ in range(3):
        assert (await offer(client)).status == 201
    refused = await offer(client)
    assert "Try again later" in await problem(refused, 503)
    assert int(refused.headers["Retry-After"]) > 0
    assert (await client.post("/api/calls/outgoing")).status == 503
    await client.delete(f"/api/calls/{next(iter(server.calls))}")
    assert (await offer(client)).status == 201


async def test_a_server_that_shuts_down_takes_no_calls(client: Client, server: SignalingServer) -> None:
    document = await (await offer(client)).json()
    await server.close()
    refused = await offer(client)
    assert "no new calls" in await problem(refused, 503)
    assert "Retry-After" in refused.headers
    assert "shutting down" in await problem(await client.get(f"/api/calls/{document['id']}"), 410)


# Bad requests


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"{}", "text/plain", 415, "application/json"),
        (b"v=0", "application/sdp", 415, "application/json"),
        (b"", "application/json", 400, "not JSON"),
        (b"{", "application/json", 400, "not JSON"),
        (b"\xff\xfe", "application/json", 400, "not JSON"),
        (b"[" * 30_000, "application/json", 400, "not JSON"),
        (b"[]", "application/json", 400, "object"),
        (b"null", "application/json", 400, "object"),
        (b"{}", "application/json", 400, '"type": "offer"'),
        (b'{"type": "answer", "sdp": "v=0"}', "application/json", 400, '"type": "offer"'),
        (b'{"type": "offer"}', "application/json", 400, "string in"),
        (b'{"type": "offer", "sdp": 7}', "application/json", 400, "string in"),
        (b'{"type": "offer", "sdp": ""}', "application/json", 400, "string in"),
        (b'{"type": "offer", "sdp": "hello"}', "application/json", 400, "v=0"),
        (b'{"type": "offer", "sdp": "\\ud800"}', "application/json", 400, "v=0"),
        (b" " * 70_000, "application/json", 413, "64 kB"),
    ],
)
async def test_a_bad_body_is_refused_in_words(
    client: Client, body: bytes, content_type: str, status: int, words: str
) -> None:
    response = await client.post("/api/calls", data=body, headers={"Content-Type": content_type})
    assert words in await problem(response, status)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c=IN IP4 0.0.0.0", "c=elsewhere"),
        ("a=ssrc:1234567 cname:someone", "a=ssrc-group:FID x y"),
        ("a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp:nine"),
    ],
)
async def test_what_the_negotiation_chokes_on_is_the_offer_s_fault(
    client: Client, server: SignalingServer, caplog: pytest.LogCaptureFixture, old: str, new: str
) -> None:
    assert await problem(await offer(client, OFFER.replace(old, new, 1)), 400)
    assert not server.calls
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\na=rtpmap:0 PCMU/8000\n", ""),
        ("a=fmtp:111 minptime=10", "a=fmtp:111 minptime=ten"),
        ("a=fmtp:111", "a=fmtp:99"),
        ("a=extmap:4 urn", "a=extmap:4 a b urn"),
    ],
)
async def test_what_is_odd_in_an_offer_and_does_no_harm_is_answered(
    client: Client, old: str, new: str
) -> None:
    response = await offer(client, OFFER.replace(old, new, 1))
    assert response.status == 201, await response.text()


async def test_a_bad_request_harms_no_other_call(client: Client) -> None:
    async with calling(client) as caller:
        for body in ("", "v=0", OFFER.replace("opus", "x")):
            await offer(client, body)
        assert await caller.ask("still here") == "still here"


async def test_any_body_gets_an_answer_and_never_a_server_error(tmp_path: pathlib.Path) -> None:
    server = new_server(tmp_path, maximum_calls=1000)
    loop = asyncio.get_running_loop()
    async with serving(server) as client:

        async def post(body: bytes) -> int:
            headers = {"Content-Type": "application/json"}
            async with client.post("/api/calls", data=body, headers=headers) as response:
                await response.read()
                return int(response.status)

        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
        )
        sdps = st.lists(st.sampled_from(OFFER.splitlines()), max_size=40).map("\r\n".join)
        documents = st.fixed_dictionaries({"type": st.just("offer") | values, "sdp": sdps | values})

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.binary(max_size=200) | documents.map(lambda d: json.dumps(d).encode()))
        def check(body: bytes) -> None:
            status = asyncio.run_coroutine_threadsafe(post(body), loop).result(20)
            assert 400 <= status < 500 or status == 201

        await asyncio.to_thread(check)


async def test_an_offer_with_changed_lines_gets_an_answer_and_never_a_server_error(
    tmp_path: pathlib.Path,
) -> None:
    """Beyond what the checks look at: all of it goes through the negotiation."""
    server = new_server(tmp_path, maximum_calls=1000)
    lines = OFFER.splitlines()
    garbled = ["a=fmtp:111 x", "a=fmtp:111 apt=111", "a=rtcp-fb:111 nack", "a=rtcp-fb:* x y z", "a=msid:a"]
    garbled += ["a=rtcp-fb:111", "a=rtpmap:111 opus/8000", "a=rtpmap:0 rtx/90000", "a=fmtp:0 apt=111"]
    garbled += ["a=ssrc-group:FID", "a=ssrc:1 cname:", "a=group:BUNDLE", "a=msid-semantic:", "a=inactive"]
    garbled += [
        "a=ice-lite",
        "a=sctpmap:5000 webrtc-datachannel 1024",
        "a=mid",
        "a=setup:passive",
        "a=rtcp:9",
    ]
    async with serving(server) as client:
        for index in range(len(lines)):
            changes = [[], [lines[index]] * 2, *([lines[index], extra] for extra in garbled)]
            for change in changes[index % 3 :: 3]:
                changed = lines[:index] + change + lines[index + 1 :]
                response = await offer(client, "\r\n".join(changed) + "\r\n")
                body = await response.text()
                assert response.status in (201, 400), (change, body)
                if response.status == 201:
                    await client.delete(response.headers["Location"])


async def test_a_path_or_method_that_is_not_there_is_a_problem_in_words(client: Client) -> None:
    assert "API under /api/" in await problem(await client.get("/nothing"), 404)
    response = await client.put("/api/calls")
    assert await problem(response, 405)
    assert response.headers["Allow"] == "POST"


# Recordings


async def test_a_call_is_recorded_listed_played_and_deleted(client: Client, server: SignalingServer) -> None:
    async with calling(client) as caller:
        path = f"/api/calls/{caller.call_id}/recording"
        begin = time.monotonic()
        started = await client.post(path)
        assert started.status == 201
        assert "already" in await problem(await client.post(path), 409)
        await asyncio.sleep(3)  # a recording takes the time it takes
        state = await (await client.get(f"/api/calls/{caller.call_id}")).json()
        assert state["recording"]["state"] == "recording"
        [running] = await (await client.get("/api/recordings")).json()
        assert (running["name"], running["state"]) == (state["recording"]["name"], "recording")
        assert running["duration"] > 0
        assert "stop the recording first" in await problem(
            await client.delete(f"/api/recordings/{running['name']}"), 409
        )
        live = await client.get(running["thumbnail"])
        assert (live.content_type, (await live.read())[:4]) == ("image/png", b"\x89PNG")
        stopped = await client.delete(path)
        assert stopped.status == 200
        entry = await stopped.json()
        taken = time.monotonic() - begin
    assert 2.5 < entry["duration"] < taken + 0.5
    assert (entry["state"], entry["codecs"]) == ("finished", ["vp8", "opus"])
    assert caller.call_id not in str(entry), "whoever knows it may end the call"
    assert await (await client.get("/api/recordings")).json() == [entry]

    url = entry["url"]
    response = await client.get(url)
    assert response.content_type == "video/webm"
    assert len(await response.read()) == entry["size"]
    part = await client.get(url, headers={"Range": "bytes=0-3"})
    assert part.status == 206
    assert await part.read() == b"\x1a\x45\xdf\xa3"  # the beginning of every WebM file
    assert (await client.get(entry["segments"][0]["url"])).headers["Content-Length"] == str(entry["size"])
    assert await problem(await client.get(f"{url}/parts/2"), 404)
    picture = await client.get(entry["thumbnail"])
    assert (picture.content_type, (await picture.read())[:4]) == ("image/png", b"\x89PNG")
    manifest = await (await client.get(entry["manifest"])).json()
    assert [track["kind"] for track in manifest["tracks"]] == ["audio", "video"]

    assert (await client.delete(url)).status == 204
    for gone in (url, entry["thumbnail"], entry["manifest"], entry["segments"][0]["url"]):
        assert await problem(await client.get(gone), 404)
    assert await problem(await client.delete(url), 404)
    assert await (await client.get("/api/recordings")).json() == []
    assert list(server.recordings.directory.iterdir()) == []


async def test_hanging_up_closes_the_recording(client: Client, server: SignalingServer) -> None:
    async with calling(client) as caller:
        await client.post(f"/api/calls/{caller.call_id}/recording")
        await caller.receive("video")
        await asyncio.sleep(1)
        await client.delete(f"/api/calls/{caller.call_id}")
    [entry] = await (await client.get("/api/recordings")).json()
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    path = str(server.recordings.directory / entry["file"])
    probe = await asyncio.to_thread(
        subprocess.run, [*command, path], check=True, capture_output=True, text=True
    )
    assert abs(float(probe.stdout) - entry["duration"]) < 0.1


async def test_a_client_chooses_how_it_is_recorded(client: Client) -> None:
    async with calling(client) as caller:
        path = f"/api/calls/{caller.call_id}/recording"
        options = {"container": "mkv", "layout": "track", "dataChannels": True}
        assert (await client.post(path, json=options)).status == 201
        await caller.receive("video")
        await caller.ask("for the record")
        await asyncio.sleep(1)
        entry = await (await client.delete(path)).json()
    assert [segment["container"] for segment in entry["segments"]] == ["mkv", "mkv"]
    for segment in entry["segments"]:
        response = await client.get(segment["url"])
        assert response.content_type == "video/x-matroska"
        assert len(await response.read()) == segment["size"]
    lines = await (await client.get(entry["data"])).text()
    assert [json.loads(line)["text"] for line in lines.splitlines()] == ["for the record"]


async def test_by_default_no_message_is_kept(client: Client) -> None:
    async with calling(client) as caller:
        path = f"/api/calls/{caller.call_id}/recording"
        await client.post(path)
        await caller.receive("video")
        await caller.ask("between us")
        await asyncio.sleep(1)
        entry = await (await client.delete(path)).json()
    assert entry["data"] is None
    assert await problem(await client.get(f"{entry['url']}/data"), 404)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"container": "avi"}, "no container"),
        ({"layout": 7}, "must be a text"),
        ({"segmentDuration": 0.001}, "a number of 1 or more"),
        ({"segmentDuration": True}, "a number"),
        ({"maximumSize": "many"}, "a number"),
        ({"transcode": 1}, "true or false"),
        ({"minimum_free": 0}, "no option"),
        ({"manifest": False}, "no option"),
    ],
)
async def test_options_that_cannot_be_are_said_in_words(
    client: Client, options: dict[str, object], words: str
) -> None:
    async with calling(client) as caller:
        path = f"/api/calls/{caller.call_id}/recording"
        assert words in await problem(await client.post(path, json=options), 400)
        assert await problem(await client.delete(path), 409)


async def test_what_a_crash_left_is_listed_and_repaired(client: Client, server: SignalingServer) -> None:
    directory = server.recordings.directory
    directory.mkdir()
    film = await asyncio.to_thread(make_film, directory / "film.webm", 2)
    (directory / "torn.webm.part").write_bytes(film.read_bytes()[:-5000])
    (directory / "bad.webm.part").write_bytes(bytes(10))
    film.unlink()
    states = {entry["name"]: entry["state"] for entry in await (await client.get("/api/recordings")).json()}
    assert states == {"torn": "interrupted", "bad": "interrupted"}
    assert await problem(await client.get("/api/recordings/torn"), 404)
    assert "can be played" in await problem(await client.post("/api/recordings/bad/repair"), 409)
    assert await problem(await client.post("/api/recordings/nobody/repair"), 404)
    entry = await (await client.post("/api/recordings/torn/repair")).json()
    assert (entry["state"], entry["file"]) == ("finished", "torn.webm")
    assert (await client.get(entry["url"])).status == 200
    assert (await client.get(entry["thumbnail"])).content_type == "image/png"


async def test_a_call_without_media_cannot_be_recorded(client: Client) -> None:
    async with calling(client, media=False) as caller:
        path = f"/api/calls/{caller.call_id}/recording"
        assert "no audio and no video" in await problem(await client.post(path), 409)
        assert await problem(await client.delete(path), 409)


async def test_a_recording_that_cannot_be_written_leaves_the_call(
    client: Client, server: SignalingServer, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "recordings").write_text("a file where the directory should be")
    async with calling(client) as caller:
        path = f"/api/calls/{caller.call_id}/recording"
        assert "cannot be made" in await problem(await client.post(path), 409)
        assert await caller.ask("still here") == "still here"
