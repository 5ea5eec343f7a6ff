"""When a program is asked for a negotiation (W3C webrtc §4.7.3): once for each that is needed."""

import asyncio

import pytest

import mediapeer
from mediapeer import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from tests.peer.calls import ours


class Program:
    """A program that answers each ``negotiationneeded`` with an offer, as W3C's examples do."""

    def __init__(self, pc: RTCPeerConnection) -> None:
        self.pc = pc
        self.offers: list[RTCSessionDescription] = []
        pc.on("icecandidate", lambda candidate: None)
        pc.on("negotiationneeded", self._negotiate)

    async def _negotiate(self) -> None:
        await self.pc.setLocalDescription()
        self.offers.append(self.pc.localDescription)


async def turns_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_changes_in_one_go_need_one_negotiation() -> None:
    pc = ours()
    program = Program(pc)
    pc.addTrack(AudioStreamTrack())
    pc.addTrack(VideoStreamTrack())
    pc.createDataChannel("chat")
    await turns_of_the_loop()
    assert [str(offer.sdp).count("\nm=") for offer in program.offers] == [3]
    await pc.close()


async def test_an_offer_of_the_peer_at_the_same_moment_does_not_make_two_of_one() -> None:
    """What we add is not in the peer's offer: it is asked for before that comes and after it has been answered."""
    pc, peer = ours(), ours()
    program = Program(pc)
    peer.createDataChannel("theirs")
    await peer.setLocalDescription()
    pc.addTrack(AudioStreamTrack())
    await pc.setRemoteDescription(peer.localDescription)
    await pc.setLocalDescription()
    await turns_of_the_loop()
    assert [offer.type for offer in program.offers] == ["offer"]
    await asyncio.gather(pc.close(), peer.close())


async def test_what_is_added_during_a_negotiation_is_asked_for_after_it() -> None:
    pc, peer = ours(), ours()
    program = Program(pc)
    pc.addTrack(AudioStreamTrack())
    await turns_of_the_loop()
    pc.addTrack(VideoStreamTrack())
    await turns_of_the_loop()
    assert len(program.offers) == 1
    await peer.setRemoteDescription(program.offers[0])
    await peer.setLocalDescription()
    await pc.setRemoteDescription(peer.localDescription)
    await turns_of_the_loop()
    assert [str(offer.sdp).count("\nm=") for offer in program.offers] == [1, 2]
    await asyncio.gather(pc.close(), peer.close())


async def test_an_operation_that_fails_takes_no_request_with_it() -> None:
    pc = ours()
    program = Program(pc)
    async with pc._operations:
        failing = asyncio.create_task(
            pc.setRemoteDescription(mediapeer.RTCSessionDescription("nonsense", "offer"))
        )
        await turns_of_the_loop()
        pc.addTrack(AudioStreamTrack())
        await turns_of_the_loop()
        assert program.offers == []
    with pytest.raises(ValueError):
        await failing
    await turns_of_the_loop()
    assert len(program.offers) == 1
    await pc.close()
