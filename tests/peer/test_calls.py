"""Whole calls over real sockets: ours with ours, and ours with aiortc's own, both offering."""

import asyncio
import contextlib
from collections.abc import Callable

import aiortc
import av
import pytest
from aioice import stun

import mediapeer
from mediapeer import DtlsTransportStats, RTCConfiguration, RTCIceServer, RTCPeerConnection
from mediapeer.dtls import AlertDescription
from tests.peer.calls import (
    TONE,
    Picture,
    Tone,
    aiortcs,
    colours_of,
    echo,
    frequency_of,
    negotiate,
    ours,
    state,
)
from tests.peer.turn import PASSWORD, USER, TurnServer


@pytest.fixture(autouse=True)
def aiortc_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiortc's own connections use loopback, which aioice leaves out, so that no other network is needed."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


PAIRS = [
    pytest.param(ours, aiortcs, id="ours-offers-aiortc"),
    pytest.param(aiortcs, ours, id="aiortc-offers-ours"),
    pytest.param(ours, ours, id="ours-offers-ours"),
]
MakePeer = Callable[[], aiortc.RTCPeerConnection]


def collect_tracks(peer: aiortc.RTCPeerConnection) -> dict[str, aiortc.MediaStreamTrack]:
    tracks: dict[str, aiortc.MediaStreamTrack] = {}
    peer.on("track", lambda track: tracks.setdefault(track.kind, track))
    return tracks


async def read_to_the_end(track: aiortc.MediaStreamTrack) -> None:
    with contextlib.suppress(aiortc.MediaStreamError):
        while True:
            await track.recv()


@pytest.mark.parametrize(("make_offerer", "make_answerer"), PAIRS)
async def test_audio_video_and_data_arrive_as_they_were_sent(
    make_offerer: MakePeer, make_answerer: MakePeer
) -> None:
    offerer, answerer = make_offerer(), make_answerer()
    tracks = {peer: collect_tracks(peer) for peer in (offerer, answerer)}
    for peer in (offerer, answerer):
        peer.addTrack(Tone())
        peer.addTrack(Picture())
    echo(answerer)
    channel = offerer.createDataChannel("chat")
    echoed: asyncio.Queue[str | bytes] = asyncio.Queue()
    channel.on("message", echoed.put_nowait)
    sent: list[str | bytes] = ["grüß dich", b"\x00\xff" * 40_000, "", b""]
    channel.on("open", lambda: [channel.send(message) for message in sent])

    await negotiate(offerer, answerer)
    for peer in (offerer, answerer):
        assert await state(peer, "connected", "failed") == "connected"
    assert [await echoed.get() for _ in sent] == sent

    for peer in (offerer, answerer):
        audio, video = tracks[peer]["audio"], tracks[peer]["video"]
        frames = [await audio.recv() for _ in range(30)][5:]
        assert all(isinstance(frame, av.AudioFrame) for frame in frames)
        assert frequency_of(frames) == pytest.approx(TONE, abs=5)
        for _ in range(3):
            picture = await video.recv()
        left, right = colours_of(picture)
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]

    await offerer.close()
    assert await state(answerer, "closed") == "closed"
    assert channel.readyState == "closed"
    for track in tracks[answerer].values():
        await read_to_the_end(track)
        assert track.readyState == "ended"


@pytest.mark.parametrize(("make_offerer", "make_answerer"), PAIRS)
async def test_a_connection_with_data_alone_has_statistics(
    make_offerer: MakePeer, make_answerer: MakePeer
) -> None:
    offerer, answerer = make_offerer(), make_answerer()
    offerer.createDataChannel("chat")
    await negotiate(offerer, answerer)
    for peer in (offerer, answerer):
        assert await state(peer, "connected", "failed") == "connected"
        if isinstance(peer, RTCPeerConnection):
            report = await peer.getStats()
            [transport] = [s for s in report.values() if isinstance(s, DtlsTransportStats)]
            # aiortc stands on OpenSSL, which speaks DTLS 1.2 at the most.
            both_ours = make_offerer is make_answerer
            assert transport.tlsVersion == ("FEFC" if both_ours else "FEFD")
            assert transport.tlsGroup == ("X25519MLKEM768" if both_ours else "X25519")
            assert transport.dtlsState == "connected"
            assert transport.remoteCertificateId in report
    await offerer.close()
    await answerer.close()


def falsify(sdp: str) -> str:
    """Change one digit of every fingerprint."""
    lines = []
    for line in sdp.splitlines():
        if line.startswith("a=fingerprint:"):
            line = line[:-1] + ("0" if line[-1] != "0" else "1")
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("deceived", ["offerer", "answerer"])
async def test_with_a_wrong_fingerprint_both_sides_fail(deceived: str) -> None:
    offerer, answerer = ours(), ours()
    offerer.addTrack(Tone())
    channel = offerer.createDataChannel("chat")
    if deceived == "offerer":
        await negotiate(offerer, answerer, change_answer=falsify)
    else:
        await negotiate(offerer, answerer, change_offer=falsify)
    for peer in (offerer, answerer):
        # A DTLS 1.3 client may be connected for a moment, until the server has judged it.
        await state(peer, "failed")
        [transport] = peer.transports
        assert getattr(transport.error, "alert", None) is AlertDescription.BAD_CERTIFICATE
    assert channel.readyState != "open"
    await offerer.close()
    await answerer.close()


async def test_aiortc_with_a_wrong_fingerprint_is_told_so_and_fails_too() -> None:
    offerer, answerer = ours(), aiortcs()
    offerer.createDataChannel("chat")
    await negotiate(offerer, answerer, change_answer=falsify)
    for peer in (offerer, answerer):
        assert await state(peer, "connected", "failed") == "failed"
    await offerer.close()
    await answerer.close()


def unbundled(sdp: str) -> str:
    """A description whose sections have transports of their own."""
    return "".join(line for line in sdp.splitlines(keepends=True) if "BUNDLE" not in line)


async def test_a_peer_that_does_not_bundle_has_a_transport_for_each_section() -> None:
    offerer, answerer = aiortcs(), ours()
    offerer.addTrack(Tone())
    channel = offerer.createDataChannel("chat")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    await negotiate(offerer, answerer, change_offer=unbundled)
    assert "BUNDLE" not in answerer.localDescription.sdp
    assert await state(answerer, "connected", "failed") == "connected"
    await opened.wait()
    assert len(answerer.transports) == 2
    await offerer.close()
    await answerer.close()


async def test_an_answer_that_does_not_bundle_is_refused_in_words() -> None:
    """Our offers have one transport for everything."""
    offerer, answerer = ours(), ours()
    offerer.addTrack(Tone())
    offerer.createDataChannel("chat")
    with pytest.raises(ValueError, match="BUNDLE"):
        await negotiate(offerer, answerer, change_answer=unbundled)
    assert offerer.signalingState == "have-local-offer"
    await offerer.close()
    await answerer.close()


async def test_the_key_log_of_the_configuration_is_used() -> None:
    lines: list[str] = []
    offerer, answerer = ours(keyLog=lines.append), ours()
    offerer.createDataChannel("chat")
    await negotiate(offerer, answerer)
    await state(offerer, "connected")
    assert "CLIENT_TRAFFIC_SECRET_0" in [line.split()[0] for line in lines]
    assert "keyLog" not in repr(offerer._configuration)
    await offerer.close()
    await answerer.close()


async def test_candidates_are_of_the_addresses_that_were_asked_for() -> None:
    peer = ours()
    peer.createDataChannel("chat")
    await peer.setLocalDescription(await peer.createOffer())
    candidates = [line for line in peer.localDescription.sdp.splitlines() if "a=candidate" in line]
    assert len(candidates) == 1
    assert " 127.0.0.1 " in candidates[0]
    await peer.close()


def test_a_connection_may_be_made_before_its_event_loop_runs() -> None:
    """Programs written for aiortc do that."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        peer = RTCPeerConnection()
        channel = peer.createDataChannel("chat")
        assert (peer.connectionState, channel.readyState) == ("new", "connecting")
        loop.run_until_complete(peer.close())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class StunServer(asyncio.DatagramProtocol):
    """Answers every Binding request that its client looks like 203.0.113.7."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = stun.parse_message(data)
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.7", addr[1])
        self.transport.sendto(bytes(answer), addr)


def candidate_types(peer: RTCPeerConnection) -> list[str]:
    """The types of the candidates in our description."""
    return [line.split()[7] for line in peer.localDescription.sdp.splitlines() if "a=candidate" in line]


async def test_a_stun_server_gives_a_candidate_and_a_dead_one_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(StunServer, local_addr=("127.0.0.1", 0))
    port = server.get_extra_info("sockname")[1]
    peer = ours(iceServers=[RTCIceServer(f"stun:127.0.0.1:{port}")])
    peer.createDataChannel("chat")
    await peer.setLocalDescription(await peer.createOffer())
    assert candidate_types(peer) == ["host", "srflx"]
    await peer.close()
    server.close()

    monkeypatch.setattr("mediapeer.ice.gathering.SERVER_TIMEOUT", 0.05)
    peer = ours(iceServers=[RTCIceServer("stun:127.0.0.1:9")])
    peer.createDataChannel("chat")
    await peer.setLocalDescription(await peer.createOffer())
    assert candidate_types(peer) == ["host"]
    assert peer.iceGatheringState == "complete"
    await peer.close()


async def test_a_call_through_a_turn_server_alone() -> None:
    server = await TurnServer.start()
    url = f"turn:127.0.0.1:{server.port}?transport=udp"
    offerer = ours(
        iceServers=[RTCIceServer(url, username=USER, credential=PASSWORD)],
        iceTransportPolicy=aiortc.RTCIceTransportPolicy.RELAY,
    )
    answerer = ours()
    echo(answerer)
    channel = offerer.createDataChannel("chat")
    echoed: asyncio.Queue[str] = asyncio.Queue()
    channel.on("open", lambda: channel.send("through the relay"))
    channel.on("message", echoed.put_nowait)
    await negotiate(offerer, answerer)
    assert await state(offerer, "connected", "failed") == "connected"
    assert await echoed.get() == "through the relay"
    assert candidate_types(offerer) == ["relay"]
    assert server.relayed_datagrams > 10
    await offerer.close()
    await answerer.close()
    server.close()


async def test_no_stun_server_is_asked_unless_one_is_named() -> None:
    for configuration in (None, RTCConfiguration(), aiortc.RTCConfiguration()):
        peer = RTCPeerConnection(configuration)
        peer.createDataChannel("chat")
        [transport] = peer.transports
        assert transport.transport._ice.options.servers == []
        await peer.close()
    assert mediapeer.RTCIceGatherer.getDefaultIceServers() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda sdp: sdp.replace("a=fingerprint", "a=x-fingerprint"),
            "media section 0: a=fingerprint is missing",
        ),
        (lambda sdp: sdp.replace("a=ice-pwd", "a=x-pwd"), "a=ice-ufrag or a=ice-pwd is missing"),
        (lambda sdp: "this is not SDP", "this is no SDP"),
        (lambda sdp: "", "this is no SDP"),
    ],
)
async def test_a_description_that_cannot_be_used_is_a_value_error(
    change: Callable[[str], str], message: str
) -> None:
    offerer, answerer = ours(), ours()
    offerer.createDataChannel("chat")
    await offerer.setLocalDescription(await offerer.createOffer())
    offer = aiortc.RTCSessionDescription(change(offerer.localDescription.sdp), "offer")
    with pytest.raises(ValueError, match=message):
        await answerer.setRemoteDescription(offer)
    await offerer.close()
    await answerer.close()
