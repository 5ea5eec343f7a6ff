"""What our own peer connection does beyond a call that is set up once: on a network in memory, in virtual time."""

import asyncio
import datetime
import json
import re
from typing import Any

import aiortc
import pytest

import mediapeer
from mediapeer import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from mediapeer.ice.options import IceOptions
from tests.ice.virtual_sockets import virtual_bind_all
from tests.media.tracks import PushTrack, picture
from tests.peer.calls import echo, negotiate, state
from tests.transport.virtual import DELAY, Network, until, virtual


@pytest.fixture(autouse=True)
def sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "loopback" not in request.fixturenames:
        monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)


@pytest.fixture
def loopback() -> None:
    """Real sockets and real time: for frames, which threads encode and decode."""


def on_loopback() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceAddresses=["127.0.0.1"]))


def pair(**configuration: Any) -> tuple[RTCPeerConnection, RTCPeerConnection]:
    """Two ends; the configuration is the first one's."""
    return (
        RTCPeerConnection(RTCConfiguration(iceAddresses=["192.0.2.1"], **configuration)),
        RTCPeerConnection(RTCConfiguration(iceAddresses=["192.0.2.2"])),
    )


async def connected(*peers: RTCPeerConnection) -> None:
    for peer in peers:
        assert await state(peer, "connected", "failed") == "connected"


async def close(*peers: RTCPeerConnection) -> None:
    for peer in peers:
        await peer.close()


def directions(peer: RTCPeerConnection) -> list[str | None]:
    return [transceiver.currentDirection for transceiver in peer.getTransceivers()]


class Pattern:
    """The pattern of W3C webrtc §10.7, over signaling that takes its time: candidates trickle."""

    def __init__(self, peer: RTCPeerConnection, *, polite: bool) -> None:
        self.peer = peer
        self.other: Pattern
        self.candidates: list[dict[str, Any] | None] = []
        self.rounds = 0
        self._arrival = 0.0
        self._polite = polite
        self._making_offer = False
        self._ignoring = False
        self._tasks: set[asyncio.Task[None]] = set()
        peer.on("negotiationneeded", lambda: self._run(self._offer()))
        peer.on("icecandidate", self._on_candidate)

    def _run(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_candidate(self, candidate: mediapeer.RTCIceCandidate | None) -> None:
        init = None if candidate is None else candidate.toJSON()
        self.candidates.append(init)
        self._send({"candidate": init})

    def _send(self, message: dict[str, Any]) -> None:
        # In order, as a WebSocket has them.
        loop, text = asyncio.get_running_loop(), json.dumps(message)
        self._arrival = max(loop.time() + DELAY, self._arrival + 1e-6)
        loop.call_at(self._arrival, lambda: self.other._run(self.other.receive(text)))

    async def _offer(self) -> None:
        self._making_offer = True
        try:
            await self.peer.setLocalDescription()
            self._send_description()
        finally:
            self._making_offer = False

    def _send_description(self) -> None:
        description = self.peer.localDescription
        assert description is not None
        self._send({"type": description.type, "sdp": description.sdp})

    async def receive(self, text: str) -> None:
        message = json.loads(text)
        if "candidate" in message:
            try:
                await self.peer.addIceCandidate(message["candidate"])
            except (ValueError, mediapeer.InvalidStateError):
                assert self._ignoring, "only candidates of an offer that was ignored may come too early"
            return
        collision = message["type"] == "offer" and (
            self._making_offer or self.peer.signalingState != "stable"
        )
        self._ignoring = not self._polite and collision
        if self._ignoring:
            return
        await self.peer.setRemoteDescription(RTCSessionDescription(message["sdp"], message["type"]))
        if message["type"] == "offer":
            await self.peer.setLocalDescription()
            self._send_description()
        else:
            self.rounds += 1


def patterns(first: RTCPeerConnection, second: RTCPeerConnection) -> tuple[Pattern, Pattern]:
    one, other = Pattern(first, polite=True), Pattern(second, polite=False)
    one.other, other.other = other, one
    return one, other


@virtual
async def test_candidates_trickle_when_the_program_listens_for_them(network: Network) -> None:
    ours, peers = pair()
    sides = patterns(ours, peers)
    ours.createDataChannel("chat")
    await connected(ours, peers)
    for side in sides:
        assert side.candidates[-1] is None
        [candidate] = side.candidates[:-1]
        assert candidate is not None
        assert candidate["candidate"].startswith("candidate:")
        assert (candidate["sdpMid"], candidate["sdpMLineIndex"]) == ("0", 0)
        assert f"a=ice-ufrag:{candidate['usernameFragment']}" in side.peer.localDescription.sdp
        assert "a=candidate:" in side.peer.localDescription.sdp, "it has what is known by now"
    await close(ours, peers)


@virtual
async def test_both_ends_may_change_everything_at_once_again_and_again(network: Network) -> None:
    ours, peers = pair()
    patterns(ours, peers)
    for number in range(20):
        tracks = [PushTrack("video"), PushTrack("audio")]
        for peer, track in zip((ours, peers), tracks, strict=True):
            peer.addTrack(track)
        await until(lambda: _is_settled(ours, peers))
        assert len(ours.getTransceivers()) == len(peers.getTransceivers()), number
        for peer in (ours, peers):
            for sender in peer.getSenders()[:1]:
                peer.removeTrack(sender)
        await until(lambda: _is_settled(ours, peers))
    assert _mirrored(ours, peers)
    await connected(ours, peers)
    await close(ours, peers)


def _is_settled(*peers: RTCPeerConnection) -> bool:
    return all(
        peer.signalingState == "stable" and not peer._negotiation.is_negotiation_needed() for peer in peers
    )


def _mirrored(ours: RTCPeerConnection, peers: RTCPeerConnection) -> bool:
    mirror = {"sendonly": "recvonly", "recvonly": "sendonly"}
    by_mid = {transceiver.mid: transceiver.currentDirection for transceiver in peers.getTransceivers()}
    return all(
        mirror.get(str(transceiver.currentDirection), transceiver.currentDirection) == by_mid[transceiver.mid]
        for transceiver in ours.getTransceivers()
    )


async def test_video_comes_and_goes_in_mid_call(loopback: None) -> None:
    ours, peers = on_loopback(), on_loopback()
    tracks: list[aiortc.MediaStreamTrack] = []
    peers.on("track", tracks.append)
    ours.addTransceiver("audio")
    await negotiate(ours, peers)
    await connected(ours, peers)
    for number in range(5):
        camera = PushTrack("video")
        sender = ours.addTrack(camera)
        await negotiate(ours, peers)
        received = tracks[-1]
        for index in range(12):
            camera.put(picture(index, luma=40 * number))
        frame = await received.recv()
        assert abs(bytes(frame.planes[0])[0] - 40 * number) < 12
        ours.removeTrack(sender)
        await negotiate(ours, peers)
        assert directions(ours)[-1] == "inactive"
        assert received.muted
    await close(ours, peers)


@virtual
async def test_a_stopped_transceiver_leaves_its_section_to_the_next(network: Network) -> None:
    ours, peers = pair()
    ended = asyncio.Event()
    peers.on("track", lambda track: track.on("ended", ended.set))
    transceiver = ours.addTransceiver(PushTrack("video"))
    ours.createDataChannel("chat")
    await negotiate(ours, peers)
    await connected(ours, peers)
    await transceiver.stop()
    await negotiate(ours, peers)
    await asyncio.wait_for(ended.wait(), 5)
    assert ours.getTransceivers() == peers.getTransceivers() == []
    assert "m=video 0" in ours.localDescription.sdp
    ours.addTransceiver("audio")
    await negotiate(ours, peers)
    assert ours.localDescription.sdp.count("m=") == 2, "the section was used again"
    assert directions(ours) == ["sendonly"]
    await close(ours, peers)


async def test_a_track_is_replaced_without_negotiation(loopback: None) -> None:
    ours, peers = on_loopback(), on_loopback()
    tracks: list[aiortc.MediaStreamTrack] = []
    peers.on("track", tracks.append)
    dark, bright = PushTrack("video"), PushTrack("video")
    sender = ours.addTrack(dark)
    await negotiate(ours, peers)
    await connected(ours, peers)
    needed: list[bool] = []
    ours.on("negotiationneeded", lambda: needed.append(True))
    for index in range(5):
        dark.put(picture(index, luma=20))
    first = await tracks[0].recv()
    sender.replaceTrack(bright)
    for index in range(30):
        bright.put(picture(index, luma=220))
    frame = first
    while bytes(frame.planes[0])[0] < 200:
        frame = await tracks[0].recv()
    assert frame.pts > first.pts
    assert needed == []
    with pytest.raises(ValueError, match="cannot send a track of audio"):
        sender.replaceTrack(PushTrack("audio"))
    await close(ours, peers)


@virtual
async def test_a_rollback_leaves_nothing_of_an_offer(network: Network) -> None:
    ours, peers = pair()
    transceiver = ours.addTransceiver("audio")
    ours.createDataChannel("chat")
    await ours.setLocalDescription()
    assert transceiver.mid == "0"
    await peers.setRemoteDescription(ours.localDescription)
    assert len(peers.getTransceivers()) == 1
    await ours.setLocalDescription(RTCSessionDescription("", "rollback"))
    await peers.setRemoteDescription(RTCSessionDescription("", "rollback"))
    for peer in (ours, peers):
        assert peer.signalingState == "stable"
        assert peer.localDescription is peer.remoteDescription is None
    assert transceiver.mid is None
    assert peers.getTransceivers() == []
    await negotiate(ours, peers)
    await connected(ours, peers)
    await close(ours, peers)


@virtual
async def test_a_channel_that_both_ends_make_needs_no_announcement(network: Network) -> None:
    ours, peers = pair()
    announced: list[aiortc.RTCDataChannel] = []
    peers.on("datachannel", announced.append)
    one = ours.createDataChannel("agreed", negotiated=True, id=7)
    other = peers.createDataChannel("agreed", negotiated=True, id=7)
    heard: list[str] = []
    other.on("message", heard.append)
    one.on("open", lambda: one.send("hello"))
    await negotiate(ours, peers)
    await until(lambda: heard == ["hello"])
    assert announced == []
    with pytest.raises(ValueError, match="already registered"):
        ours.createDataChannel("again", negotiated=True, id=7)
    with pytest.raises(ValueError, match="not both"):
        ours.createDataChannel("odd", maxRetransmits=1, maxPacketLifeTime=1)
    await close(ours, peers)


@virtual
async def test_a_channel_is_open_at_the_first_message_though_its_ack_is_to_come(network: Network) -> None:
    """Firefox sends data before its DATA_CHANNEL_ACK."""
    ours, peers = pair()
    channel = ours.createDataChannel("chat")
    heard: list[tuple[str, str]] = []
    channel.on("message", lambda message: heard.append((channel.readyState, message)))
    association = peers._want_data()
    receive = association._data_channel_receive

    async def without_ack(stream_id: int, pp_id: int, data: bytes) -> None:
        association._data_channel_queue = _Unacknowledged(association._data_channel_queue)
        await receive(stream_id, pp_id, data)

    association._data_channel_receive = without_ack  # type: ignore[method-assign]
    peers.on("datachannel", lambda theirs: theirs.send("early"))
    await negotiate(ours, peers)
    await until(lambda: heard)
    assert heard == [("open", "early")]
    await close(ours, peers)


class _Unacknowledged(list[Any]):
    """A queue of messages in which no DATA_CHANNEL_ACK stands."""

    def append(self, item: Any) -> None:
        if item[2] != b"\x02":
            super().append(item)

    def popleft(self) -> Any:
        return self.pop(0)


async def test_statistics_have_the_names_of_w3c(loopback: None) -> None:
    ours, peers = on_loopback(), on_loopback()
    tracks: list[aiortc.MediaStreamTrack] = []
    peers.on("track", tracks.append)
    camera = PushTrack("video")
    ours.addTrack(camera)
    channel = ours.createDataChannel("chat", protocol="talk")
    echo(peers)
    heard: list[str] = []
    channel.on("message", heard.append)
    channel.on("open", lambda: channel.send("hello"))
    await negotiate(ours, peers)
    await until(lambda: heard)
    for index in range(10):
        camera.put(picture(index))
    await tracks[0].recv()
    reports: list[aiortc.RTCStatsReport] = []
    while len({entry.type for report in reports for entry in report.values()}) < 12:
        await asyncio.sleep(0.05)  # RTCP reports come in their own time
        reports = [await peer.getStats() for peer in (ours, peers)]
    by_type = [{entry.type: entry for entry in report.values()} for report in reports]
    everywhere = {"peer-connection", "transport", "certificate", "candidate-pair", "local-candidate"}
    everywhere |= {"remote-candidate", "data-channel", "codec"}
    assert everywhere | {"outbound-rtp", "remote-inbound-rtp"} == set(by_type[0])
    assert everywhere | {"inbound-rtp", "remote-outbound-rtp"} == set(by_type[1])
    sent, received = by_type[0]["outbound-rtp"], by_type[1]["inbound-rtp"]
    assert sent.ssrc == received.ssrc == by_type[0]["remote-inbound-rtp"].ssrc
    assert sent.packetsSent == received.packetsReceived > 0
    assert received.mid == sent.mid == "0"
    assert received.framesReceived >= received.framesDecoded >= received.keyFramesDecoded > 0
    assert (received.frameWidth, received.frameHeight, received.framesDropped) == (320, 240, 0)
    assert reports[1][received.codecId].mimeType == "video/VP8"
    assert reports[1][received.remoteId].localId == received.id
    assert reports[0][sent.remoteId].localId == sent.id
    data = by_type[0]["data-channel"]
    assert (data.label, data.protocol, data.state) == ("chat", "talk", "open")
    assert (data.messagesSent, data.bytesSent, data.messagesReceived, data.bytesReceived) == (1, 5, 1, 5)
    for report, each in zip(reports, by_type, strict=True):
        chosen = report[each["transport"].selectedCandidatePairId]
        assert chosen.state == "succeeded"
        assert chosen.nominated
        assert report[chosen.localCandidateId].candidateType == "host"
        assert report[chosen.remoteCandidateId].address == "127.0.0.1"
        assert chosen.bytesSent > 0 < chosen.packetsReceived
    assert by_type[0]["peer-connection"].dataChannelsOpened == 1
    await close(ours, peers)


def test_an_expired_certificate_is_refused() -> None:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = mediapeer.RTCCertificate.generateCertificate(now=long_ago)
    with pytest.raises(mediapeer.InvalidAccessError, match="expired"):
        RTCPeerConnection(RTCConfiguration(certificates=[expired]))
    with pytest.raises(ValueError, match="one certificate"):
        RTCPeerConnection(RTCConfiguration(certificates=[]))


@virtual
async def test_connections_share_a_certificate_that_rotates(network: Network) -> None:
    rotation = mediapeer.CertificateRotation()
    ours, peers = pair(certificates=rotation)
    ours.createDataChannel("chat")
    await negotiate(ours, peers)
    value = rotation.current().getFingerprints()[0].value
    assert value in ours.localDescription.sdp
    assert value not in peers.localDescription.sdp
    await connected(ours, peers)
    await close(ours, peers)


async def test_servers_can_be_changed_and_what_cannot_be_is_said() -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceAddresses=["127.0.0.1"]))
    peer.createDataChannel("chat")
    servers = [mediapeer.RTCIceServer("stun:127.0.0.1:3478")]
    peer.setConfiguration(RTCConfiguration(iceAddresses=["127.0.0.1"], iceServers=servers))
    assert peer.getConfiguration().iceServers == servers
    [transport] = peer.transports
    options: IceOptions = transport.transport._ice.options
    assert options.servers[0].urls == ["stun:127.0.0.1:3478"]
    with pytest.raises(mediapeer.InvalidModificationError, match="iceAddresses"):
        peer.setConfiguration(RTCConfiguration())
    with pytest.raises(ValueError, match="not the URL"):
        peer.setConfiguration(
            RTCConfiguration(iceAddresses=["127.0.0.1"], iceServers=[mediapeer.RTCIceServer("http://x")])
        )
    await peer.close()
    with pytest.raises(mediapeer.InvalidStateError, match="closed"):
        peer.setConfiguration(RTCConfiguration())


async def test_codecs_are_named_once_and_for_all() -> None:
    """The order that a program names is that of a real connection's offer; it cannot be changed in mid-call."""
    with pytest.raises(ValueError, match="no codec 'theora'"):
        RTCPeerConnection(RTCConfiguration(codecs=["theora"]))
    configuration = RTCConfiguration(iceAddresses=["127.0.0.1"], codecs=["AV1", "VP8"])
    peer = RTCPeerConnection(configuration)
    peer.addTransceiver("video", direction="recvonly")
    offer = (await peer.createOffer()).sdp
    assert re.findall(r"a=rtpmap:\d+ (\w+)/90000", offer) == ["AV1", "rtx", "VP8", "rtx"]
    with pytest.raises(mediapeer.InvalidModificationError, match="codecs"):
        peer.setConfiguration(RTCConfiguration(iceAddresses=["127.0.0.1"]))
    await peer.close()


@virtual
async def test_a_candidate_that_cannot_be_used_is_refused(network: Network) -> None:
    ours, peers = pair()
    ours.createDataChannel("chat")
    await ours.setLocalDescription()
    with pytest.raises(mediapeer.InvalidStateError):
        await ours.addIceCandidate({"candidate": "candidate:1 1 udp 1 192.0.2.2 9 typ host", "sdpMid": "0"})
    await peers.setRemoteDescription(ours.localDescription)
    for init in (
        {"candidate": "candidate:nonsense", "sdpMid": "0"},
        {"candidate": 7},
        {"candidate": "candidate:1 1 udp 1 192.0.2.2 9 typ host"},
        {"candidate": "candidate:1 1 udp 1 192.0.2.2 9 typ host", "sdpMid": "9"},
        {"candidate": "candidate:1 1 udp 1 192.0.2.2 9 typ host", "sdpMid": ["0"]},
    ):
        with pytest.raises(ValueError):
            await peers.addIceCandidate(init)
    await peers.addIceCandidate({"candidate": "", "sdpMid": "0"})
    await close(ours, peers)


@virtual
async def test_after_the_end_every_operation_is_refused_and_a_second_close_is_nothing(
    network: Network,
) -> None:
    ours, peers = pair()
    ours.createDataChannel("chat")
    await negotiate(ours, peers)
    await connected(ours, peers)
    await asyncio.gather(ours.close(), ours.close())
    await until(lambda: peers.connectionState == "closed")
    for peer in (ours, peers):
        assert (peer.signalingState, peer.iceConnectionState, peer.connectionState) == ("closed",) * 3
        with pytest.raises(mediapeer.InvalidStateError):
            await peer.createOffer()
        with pytest.raises(mediapeer.InvalidStateError):
            peer.addTransceiver("audio")
        with pytest.raises(mediapeer.InvalidStateError):
            await peer.setRemoteDescription(RTCSessionDescription("v=0", "offer"))
        await peer.close()


@virtual
async def test_an_idle_call_has_no_thread_and_no_decoder(network: Network) -> None:
    import threading

    before = threading.active_count()
    ours, peers = pair()
    ours.addTransceiver("audio")
    ours.addTransceiver("video")
    ours.createDataChannel("chat")
    await negotiate(ours, peers)
    await connected(ours, peers)
    await asyncio.sleep(10)
    assert threading.active_count() == before
    await close(ours, peers)


@virtual
async def test_candidates_stand_in_the_description_when_the_first_section_is_gone(network: Network) -> None:
    ours, peers = pair()
    first = ours.addTransceiver("video")
    ours.createDataChannel("chat")
    await negotiate(ours, peers)
    await connected(ours, peers)
    await first.stop()
    await negotiate(ours, peers)
    told: list[mediapeer.RTCIceCandidate | None] = []
    ours.on("icecandidate", told.append)
    ours.restartIce()
    await ours.setLocalDescription()
    assert "a=candidate" not in ours.localDescription.sdp
    await until(lambda: None in told)
    assert [candidate.sdpMid for candidate in told if candidate is not None] == ["1"]
    assert "a=candidate" in ours.localDescription.sdp
    await close(ours, peers)


async def test_an_address_that_this_machine_does_not_have_is_said(loopback: None) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceAddresses=["192.0.2.77"]))
    peer.createDataChannel("chat")
    with pytest.raises(OSError, match=r"192\.0\.2\.77"):
        await peer.setLocalDescription()
    await peer.close()


@virtual
async def test_the_transport_knows_which_sections_take_rtcp_of_reduced_size(network: Network) -> None:
    offerer, answerer = pair()
    offerer.addTransceiver("audio")
    offerer.addTransceiver("video")
    offer = (await offerer.createOffer()).sdp.replace("a=rtcp-rsize\r\n", "", 1)
    await answerer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await answerer.setLocalDescription()
    (path,) = answerer._assembly.paths
    sections = path.dtls.media._sections
    assert {mid: section.routes.reduced_size for mid, section in sections.items()} == {"0": False, "1": True}
    await close(offerer, answerer)
