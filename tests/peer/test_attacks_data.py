"""A peer that floods data channels: what it makes us keep has an end, and the call goes on."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from aiortc.rtcsctptransport import (
    DATA_CHANNEL_OPEN,
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    WEBRTC_BINARY,
    WEBRTC_DCEP,
    DataChunk,
    ForwardTsnChunk,
)

from mediapeer.peer import data as data_module
from mediapeer.peer.data import HELD_CHUNKS, MAXIMUM_NAMES, MAXIMUM_STREAMS, RTCSctpTransport
from tests.ice.virtual_sockets import virtual_bind_all
from tests.peer.test_silence import Call, answers
from tests.transport.virtual import Network, until, virtual

WHOLE = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)


class Flood:
    """Chunks of the offerer's making that come to the answerer as if its own association had sent them."""

    def __init__(self, call: Call) -> None:
        assert call.answerer.sctp is not None
        self.victim: RTCSctpTransport = call.answerer.sctp
        self.tsn = self.victim._last_received_tsn

    async def send(
        self,
        stream: int,
        user_data: bytes,
        *,
        gap: int = 0,
        flags: int = WHOLE,
        seq: int = 0,
        protocol: int = WEBRTC_BINARY,
    ) -> None:
        chunk = DataChunk(flags=flags)
        self.tsn = (self.tsn + 1 + gap) & 0xFFFFFFFF
        chunk.tsn, chunk.stream_id, chunk.stream_seq = self.tsn, stream, seq
        chunk.protocol, chunk.user_data = protocol, user_data
        await self.victim._receive_data_chunk(chunk)

    async def open(self, stream: int, label: bytes) -> None:
        head = struct.pack("!BBHLHH", DATA_CHANNEL_OPEN, 0, 0, 0, len(label), 0)
        await self.send(stream, head + label, protocol=WEBRTC_DCEP)

    @property
    def held(self) -> int:
        return sum(len(stream.reassembly) for stream in self.victim._inbound_streams.values())

    @property
    def refused(self) -> int:
        return self.victim.transport.counters["sctp_chunks_without_room"]


async def flooded(attack: Callable[[Flood], Any]) -> Flood:
    """A call, and the attack in it; whatever was refused, the connection is there afterwards."""
    call = Call()
    await call.establish()
    flood = Flood(call)
    try:
        await attack(flood)
        assert call.names() == ["connecting", "connected"]
    finally:
        await call.close()
    return flood


@virtual
async def test_channels_have_an_end(network: Network) -> None:
    async def attack(flood: Flood) -> None:
        for stream in range(2, 2 * MAXIMUM_STREAMS):
            await flood.open(stream, b"spam")
        assert len(flood.victim.channels) == len(flood.victim._data_channels) == MAXIMUM_STREAMS

    flood = await flooded(attack)
    assert flood.refused == MAXIMUM_STREAMS - 1


@virtual
async def test_channels_that_are_reset_and_never_confirmed_have_an_end(network: Network) -> None:
    """A reset stream is free again, but its channel is there until the peer has confirmed our own reset."""

    async def attack(flood: Flood) -> None:
        for stream in range(2, MAXIMUM_STREAMS + 102):
            await flood.open(stream, b"spam")
            flood.victim._inbound_streams.pop(stream)
        assert len(flood.victim._data_channels) == MAXIMUM_STREAMS
        assert flood.victim.transport.counters["data_channels_refused"] == 101

    await flooded(attack)


@virtual
async def test_labels_have_an_end(network: Network) -> None:
    async def attack(flood: Flood) -> None:
        for stream in range(2, 100):
            await flood.open(stream, b"x" * 65_000)
        names = sum(len(channel.label) for channel in flood.victim.channels)
        assert MAXIMUM_NAMES - 131_070 < names <= MAXIMUM_NAMES
        assert flood.victim.transport.counters["data_channels_refused"] == 98 - (names // 65_000)

    await flooded(attack)


@virtual
async def test_a_message_that_never_ends_has_an_end(network: Network) -> None:
    async def attack(flood: Flood) -> None:
        await flood.send(1, b"x", flags=SCTP_DATA_FIRST_FRAG)
        for _ in range(3 * HELD_CHUNKS - 1):
            await flood.send(1, b"x", flags=0)
        assert flood.held == 2 * HELD_CHUNKS

    flood = await flooded(attack)
    assert flood.refused == HELD_CHUNKS


@virtual
async def test_large_chunks_of_messages_that_never_end_have_an_end(network: Network) -> None:
    async def attack(flood: Flood) -> None:
        for stream in range(2, 402):
            await flood.send(stream, bytes(16_000), flags=SCTP_DATA_FIRST_FRAG)
        assert flood.held * 16_000 < 2 * (1 << 20)
        assert flood.refused > 200

    await flooded(attack)


@virtual
async def test_chunks_behind_a_gap_have_an_end(network: Network) -> None:
    async def attack(flood: Flood) -> None:
        for number in range(2 * HELD_CHUNKS):
            await flood.send(1, b"x", gap=1, seq=number & 0xFFFF)
        assert len(flood.victim._sack_misordered) == HELD_CHUNKS
        await flood.send(1, b"x", gap=0x10000)
        assert len(flood.victim._sack_misordered) == HELD_CHUNKS
        await flood.victim._send_sack()

    await flooded(attack)


@virtual
async def test_streams_named_in_a_forward_tsn_have_an_end(network: Network) -> None:
    async def attack(flood: Flood) -> None:
        for number in range(4):
            chunk = ForwardTsnChunk()
            chunk.cumulative_tsn = flood.tsn + number + 1
            chunk.streams = [(number * 1000 + stream, 1) for stream in range(1000)]
            await flood.victim._receive_forward_tsn_chunk(chunk)
        assert len(flood.victim._inbound_streams) == MAXIMUM_STREAMS

    await flooded(attack)


@virtual
async def test_what_waited_makes_room_when_it_is_whole(network: Network) -> None:
    """Chunks in any order, more than ever wait at a time: all messages come, and nothing is left."""
    call = Call()
    await call.establish()
    flood = Flood(call)
    first = flood.tsn
    for _ in range(3):
        start = flood.tsn
        for number in range(HELD_CHUNKS - 1, 0, -1):
            flood.tsn = start + number
            await flood.send(9, b"x")
        flood.tsn = start
        await flood.send(9, b"x")
        flood.tsn = start + HELD_CHUNKS
    assert flood.victim._last_received_tsn == (first + 3 * HELD_CHUNKS) & 0xFFFFFFFF
    assert (flood.held, flood.refused, len(flood.victim._sack_misordered)) == (0, 0, 0)
    await call.close()


@virtual
async def test_a_lossy_call_gets_every_message(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds, made small, delay a sender that keeps to the rules and take nothing from it."""
    monkeypatch.setattr(data_module, "HELD_CHUNKS", 8)
    call = Call()
    await call.establish()
    count = iter(range(1 << 30))
    network.route = lambda datagram: [] if len(datagram.data) > 500 and next(count) % 7 == 3 else [0.001]
    heard: list[str] = []
    call.channel.on("message", heard.append)
    sent = [f"{number:04}" * 2000 for number in range(30)]
    for message in sent:
        call.channel.send(message)
    await until(lambda: len(heard) == len(sent), seconds=300)
    assert heard == sent
    await answers(call.channel, "still there?")
    await call.close()
