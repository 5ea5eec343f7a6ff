"""A TURN allocation as a transport: what it keeps, sheds and refreshes."""

import asyncio
import struct
import time
from collections import Counter
from typing import Any, cast

from mediapeer.ice.relay import SHED_ALL_ABOVE, SHED_MEDIA_ABOVE, WAITING_DATAGRAMS, Relay
from tests.transport.virtual import Network, virtual

PEER = ("192.0.2.2", 9)


class Inner:
    """The client's own transport."""

    def __init__(self) -> None:
        self.buffered = 0
        self.closed = False

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Client:
    """aioice's client without a server: a channel is bound when :attr:`bound` is set."""

    def __init__(self) -> None:
        self.transport = Inner()
        self.peer_to_channel: dict[tuple[str, int], int] = {}
        self.channel_refresh_at: dict[int, float] = {}
        self.bound = asyncio.Event()
        self.sent: list[bytes] = []
        self.bindings = 0
        self.fails = False

    async def send_data(self, data: bytes, addr: tuple[str, int]) -> None:
        await self.bound.wait()
        self._send(data)

    async def channel_bind(self, channel: int, addr: tuple[str, int]) -> None:
        self.bindings += 1
        await self.bound.wait()
        if self.fails:
            raise ConnectionError("refused")

    async def delete(self) -> None:
        await asyncio.Event().wait()

    def _send(self, data: bytes) -> None:
        self.sent.append(data)


def relay_of(client: Client) -> tuple[Relay, Counter[str]]:
    counters: Counter[str] = Counter()
    return Relay(cast(Any, client), counters), counters


@virtual
async def test_what_waits_for_a_channel_is_bounded(network: Network) -> None:
    client = Client()
    relay, counters = relay_of(client)
    accepted = [relay.sendto(b"\x80", PEER) for _ in range(WAITING_DATAGRAMS + 5)]
    assert accepted == [True] * WAITING_DATAGRAMS + [False] * 5
    assert counters == {"relay_channel_unbound": 5}
    client.bound.set()
    await asyncio.sleep(0.1)
    assert len(client.sent) == WAITING_DATAGRAMS
    relay.close()
    await relay.wait_closed()


@virtual
async def test_media_is_shed_before_all_else(network: Network) -> None:
    client = Client()
    client.peer_to_channel[PEER] = 0x4000
    client.channel_refresh_at[0x4000] = time.time() + 60
    relay, counters = relay_of(client)
    client.transport.buffered = SHED_MEDIA_ABOVE + 1
    assert not relay.sendto(b"\x80 media", PEER, droppable=True)
    assert relay.sendto(b"\x16 handshake", PEER)
    assert client.sent == [struct.pack("!HH", 0x4000, 11) + b"\x16 handshake"]
    client.transport.buffered = SHED_ALL_ABOVE + 1
    assert not relay.sendto(b"\x16 handshake", PEER)
    assert counters == {"relay_buffer_full": 2}
    relay.close()
    await relay.wait_closed()


@virtual
async def test_a_channel_is_refreshed_once_while_data_goes_on(network: Network) -> None:
    client = Client()
    client.peer_to_channel[PEER] = 0x4000
    client.channel_refresh_at[0x4000] = time.time() - 1
    relay, counters = relay_of(client)
    for _ in range(10):
        assert relay.sendto(b"\x80", PEER)
        await asyncio.sleep(0.01)
    assert client.bindings == 1
    assert len(client.sent) == 10
    client.fails = True
    client.bound.set()
    await asyncio.sleep(0.1)
    assert counters == {"relay_channel_failed": 1}
    client.fails = False
    relay.sendto(b"\x80", PEER)
    await asyncio.sleep(0.1)
    assert client.bindings == 2
    assert client.channel_refresh_at[0x4000] > time.time()
    relay.close()
    await relay.wait_closed()


@virtual
async def test_closing_takes_a_second_at_most_and_ends_what_waits(network: Network) -> None:
    client = Client()
    relay, _ = relay_of(client)
    relay.sendto(b"\x80", PEER)
    began = asyncio.get_running_loop().time()
    relay.close()
    assert not relay.sendto(b"\x80", PEER)
    await relay.wait_closed()
    assert asyncio.get_running_loop().time() - began <= 1.01
    assert client.transport.closed
