"""A peer that goes silent, comes back, or does not: whole connections in virtual time."""

import asyncio
import random

import aiortc
import pytest

import mediapeer
from tests.ice.virtual_sockets import virtual_bind_all
from tests.peer.calls import echo, negotiate
from tests.transport.virtual import DELAY, Network, until, virtual


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)


def peer_at(address: str) -> mediapeer.RTCPeerConnection:
    return mediapeer.RTCPeerConnection(mediapeer.RTCConfiguration(iceAddresses=[address]))


class Call:
    """Two connections with a data channel that echoes, and what they said of their state, with the time."""

    def __init__(self) -> None:
        self.offerer, self.answerer = peer_at("192.0.2.1"), peer_at("192.0.2.2")
        self.channel = self.offerer.createDataChannel("chat")
        echo(self.answerer)
        self.states: list[tuple[float, str]] = []
        self.ice_states: list[str] = []
        self.offerer.on("connectionstatechange", self._note)
        self.offerer.on("iceconnectionstatechange", self._note_ice)

    def _note(self) -> None:
        self.states.append((asyncio.get_running_loop().time(), self.offerer.connectionState))

    def _note_ice(self) -> None:
        self.ice_states.append(self.offerer.iceConnectionState)

    async def establish(self) -> None:
        await negotiate(self.offerer, self.answerer)
        await until(lambda: self.channel.readyState == "open")

    def names(self) -> list[str]:
        return [name for _, name in self.states]

    async def close(self) -> None:
        await self.offerer.close()
        await self.answerer.close()


async def answers(channel: aiortc.RTCDataChannel, question: str) -> None:
    """See that the other end still echoes."""
    heard: list[str] = []
    channel.on("message", heard.append)
    channel.send(question)
    await until(lambda: question in heard)


@virtual
async def test_silence_is_disconnected_within_five_seconds_and_packets_connect_again(
    network: Network,
) -> None:
    call = Call()
    await call.establish()
    await asyncio.sleep(60)
    assert call.names() == ["connecting", "connected"]

    silent_since = asyncio.get_running_loop().time()
    network.route = lambda datagram: []
    await asyncio.sleep(10)
    assert call.names()[2:] == ["disconnected"]
    assert call.offerer.connectionState == call.offerer.iceConnectionState == "disconnected"
    assert call.states[2][0] - silent_since <= 5

    network.route = lambda datagram: [DELAY]
    await asyncio.sleep(3)
    assert call.names()[2:] == ["disconnected", "connected"]
    alive = ["connected", "completed"]
    assert call.ice_states == ["checking", *alive, "disconnected", *alive]

    await answers(call.channel, "are you back?")
    await call.close()


@virtual
async def test_thirty_seconds_of_silence_fail_the_connection_for_good(network: Network) -> None:
    call = Call()
    await call.establish()
    await asyncio.sleep(7)
    silent_since = asyncio.get_running_loop().time()
    network.route = lambda datagram: []
    await until(lambda: call.offerer.connectionState == "failed", seconds=60)
    assert call.names() == ["connecting", "connected", "disconnected", "failed"]
    assert 24 <= call.states[-1][0] - silent_since <= 31
    assert call.offerer.iceConnectionState == "failed"
    network.route = lambda datagram: [DELAY]
    await asyncio.sleep(60)
    assert call.names()[-1] == "failed", "only a restart leads out of it"
    await call.close()
    assert call.channel.readyState == "closed"
    with pytest.raises(aiortc.InvalidStateError):
        call.channel.send("anybody there?")


@virtual
async def test_a_restart_brings_a_failed_connection_back(network: Network) -> None:
    call = Call()
    await call.establish()
    network.route = lambda datagram: []
    await until(lambda: call.offerer.connectionState == call.answerer.connectionState == "failed", seconds=90)
    network.route = lambda datagram: [DELAY]
    call.offerer.restartIce()
    await negotiate(call.offerer, call.answerer)
    await until(lambda: call.offerer.connectionState == call.answerer.connectionState == "connected")
    await answers(call.channel, "are you back?")
    assert call.offerer.transports[0].counters["retransmissions"] == 0, "the handshake was not done again"
    await call.close()


@virtual
async def test_a_call_survives_a_third_of_its_packets_being_lost(network: Network) -> None:
    call = Call()
    luck = random.Random(1)
    network.route = lambda datagram: [] if luck.random() < 1 / 3 else [DELAY]
    await call.establish()
    for question in ("one", "two", "three"):
        await answers(call.channel, question)
    await asyncio.sleep(60)
    assert "failed" not in call.names()
    await call.close()


@virtual
async def test_closing_while_connecting_leaves_nothing_behind(network: Network) -> None:
    network.route = lambda datagram: []
    call = Call()
    await negotiate(call.offerer, call.answerer)
    await asyncio.sleep(2)
    assert call.offerer.connectionState == "connecting"
    await call.close()
    assert call.names()[-1] == "closed"


@virtual
async def test_a_handshake_that_is_never_answered_fails_the_connection(network: Network) -> None:
    """ICE gets through, DTLS does not: some boxes in the middle do that."""
    network.route = lambda datagram: [DELAY] if datagram.data[0] < 4 else []
    call = Call()
    await negotiate(call.offerer, call.answerer)
    await until(lambda: call.offerer.connectionState == "failed", seconds=60)
    assert call.names() == ["connecting", "failed"]
    await call.close()
