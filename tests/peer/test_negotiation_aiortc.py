"""aiortc's own peer connection at the other end: its offers and answers are taken, and it takes ours."""

from collections.abc import AsyncIterator

import aiortc
import pytest
from aiortc import RTCConfiguration, RTCSessionDescription

from mediapeer.peer.directions import reverse
from tests.peer.negotiators import Negotiator


@pytest.fixture
async def aiortc_peer() -> AsyncIterator[aiortc.RTCPeerConnection]:
    connection = aiortc.RTCPeerConnection(RTCConfiguration(iceServers=[]))
    yield connection
    await connection.close()


async def offer_to(peer: Negotiator, other: aiortc.RTCPeerConnection) -> None:
    offer = peer.offer()
    await other.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await other.setLocalDescription(await other.createAnswer())
    peer.negotiation.set_remote("answer", other.localDescription.sdp)


async def offer_from(other: aiortc.RTCPeerConnection, peer: Negotiator) -> None:
    await other.setLocalDescription(await other.createOffer())
    answer = peer.answer(other.localDescription.sdp)
    await other.setRemoteDescription(RTCSessionDescription(answer, "answer"))


def check(peer: Negotiator, other: aiortc.RTCPeerConnection) -> None:
    assert other.signalingState == "stable"
    assert not peer.negotiation.is_negotiation_needed()
    theirs = {item.mid: item for item in other.getTransceivers()}
    assert len(theirs) == len(peer.negotiation.transceivers)
    for item in peer.negotiation.transceivers:
        assert item.current_direction == reverse(theirs[item.mid].currentDirection)
        assert [codec.mimeType for codec in item.negotiated.send_codecs] == [
            codec.mimeType for codec in theirs[item.mid]._codecs
        ]
    (plan,) = peer.negotiation.transports()
    assert plan.remote_ice is not None
    assert plan.remote_fingerprints


async def test_aiortc_answers_our_offer(aiortc_peer: aiortc.RTCPeerConnection) -> None:
    peer = Negotiator("ours")
    peer.add("audio")
    peer.add("video", "recvonly")
    peer.negotiation.want_data()
    aiortc_peer.addTransceiver("video", direction="sendonly")
    await offer_to(peer, aiortc_peer)
    check(peer, aiortc_peer)
    assert aiortc_peer.sctp is not None
    assert peer.negotiation.transports()[0].dtls_role == "server"
    assert peer.negotiation.data_section is not None
    assert peer.negotiation.data_section.remote_sctp_port == 5000


async def test_we_answer_aiortcs_offer(aiortc_peer: aiortc.RTCPeerConnection) -> None:
    peer = Negotiator("ours")
    aiortc_peer.addTransceiver("audio")
    aiortc_peer.addTransceiver("video", direction="recvonly")
    aiortc_peer.createDataChannel("chat")
    peer.add_track("video")
    await offer_from(aiortc_peer, peer)
    check(peer, aiortc_peer)
    assert [item.current_direction for item in peer.negotiation.transceivers] == ["sendonly", "recvonly"]
    assert peer.negotiation.transports()[0].dtls_role == "client"


async def test_the_call_grows_from_both_sides(aiortc_peer: aiortc.RTCPeerConnection) -> None:
    peer = Negotiator("ours")
    peer.add("audio")
    await offer_to(peer, aiortc_peer)
    role = peer.negotiation.transports()[0].dtls_role
    aiortc_peer.addTransceiver("video")
    await offer_from(aiortc_peer, peer)
    check(peer, aiortc_peer)
    peer.negotiation.transceivers[0].direction = "inactive"
    peer.add("audio", "sendonly")
    peer.negotiation.want_data()
    await offer_to(peer, aiortc_peer)
    check(peer, aiortc_peer)
    assert [media.kind for media in peer.negotiation.current_local.media] == [
        "audio", "video", "audio", "application",
    ]  # fmt: skip
    assert peer.negotiation.transports()[0].dtls_role == role


async def test_our_candidates_reach_aiortc(aiortc_peer: aiortc.RTCPeerConnection) -> None:
    peer = Negotiator("ours")
    peer.add("video")
    peer.add("video")
    peer.transport_for("0").candidates = ["1 1 udp 2130706431 192.0.2.7 4321 typ host"]
    await offer_to(peer, aiortc_peer)
    assert "c=IN IP4 192.0.2.7" in str(peer.negotiation.current_local)
    (transport,) = {item.receiver.transport.transport for item in aiortc_peer.getTransceivers()}
    assert [item.ip for item in transport.getRemoteCandidates()] == ["192.0.2.7"]
