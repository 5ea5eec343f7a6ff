"""A TURN server for one client, on loopback: enough of RFC 8656 for a call."""

import asyncio
import struct
from typing import Any

from aioice import stun
from aioice.turn import make_integrity_key

LOOPBACK = "127.0.0.1"
USER, PASSWORD, REALM = "user", "password", "example"

Address = tuple[str, int]


class _Relayed(asyncio.DatagramProtocol):
    """The allocation's own socket."""

    def __init__(self, server: "TurnServer") -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._server.from_peer(data, addr)


class TurnServer(asyncio.DatagramProtocol):
    """Allocations, channels and channel data, for whoever knows :data:`PASSWORD`."""

    def __init__(self) -> None:
        self.relayed_datagrams = 0
        self._client: Address | None = None
        self._relay: _Relayed | None = None
        self._channels: dict[int, Address] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls) -> "TurnServer":
        loop = asyncio.get_running_loop()
        _, server = await loop.create_datagram_endpoint(cls, local_addr=(LOOPBACK, 0))
        return server

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        self.transport.close()
        if self._relay is not None:
            self._relay.transport.close()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if data[0] & 0xC0 == 0x40:
            channel, length = struct.unpack_from("!HH", data)
            self.relayed_datagrams += 1
            if self._relay is not None:
                self._relay.transport.sendto(data[4 : 4 + length], self._channels[channel])
            return
        task = asyncio.create_task(self._answer(stun.parse_message(data), addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def from_peer(self, data: bytes, addr: Address) -> None:
        for channel, peer in self._channels.items():
            if peer == addr:
                self.relayed_datagrams += 1
                self.transport.sendto(struct.pack("!HH", channel, len(data)) + data, self._client)

    async def _answer(self, request: stun.Message, addr: Address) -> None:
        key = make_integrity_key(USER, REALM, PASSWORD)
        answer = stun.Message(request.message_method, stun.Class.RESPONSE, request.transaction_id)
        if not request.check_message_integrity(key):
            answer.message_class = stun.Class.ERROR
            answer.attributes = {"ERROR-CODE": (401, "Unauthorized"), "REALM": REALM, "NONCE": b"nonce"}
            self.transport.sendto(bytes(answer), addr)
            return
        match request.message_method:
            case stun.Method.ALLOCATE:
                loop = asyncio.get_running_loop()
                _, self._relay = await loop.create_datagram_endpoint(
                    lambda: _Relayed(self), local_addr=(LOOPBACK, 0)
                )
                self._client = addr
                answer.attributes["XOR-RELAYED-ADDRESS"] = self._relay.transport.get_extra_info("sockname")
                answer.attributes["XOR-MAPPED-ADDRESS"] = addr
                answer.attributes["LIFETIME"] = 600
            case stun.Method.CHANNEL_BIND:
                peer = request.attributes["XOR-PEER-ADDRESS"]
                self._channels[request.attributes["CHANNEL-NUMBER"]] = peer
            case stun.Method.REFRESH:
                answer.attributes["LIFETIME"] = request.attributes["LIFETIME"]
        answer.add_message_integrity(key)
        self.transport.sendto(bytes(answer), addr)
