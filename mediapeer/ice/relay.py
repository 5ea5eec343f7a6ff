"""A TURN allocation as a datagram transport, on aioice's TURN client (RFC 8656)."""

import asyncio
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from aioice import stun, turn

from mediapeer.ice.options import IceServer, ServerUrl

logger = logging.getLogger(__name__)

Address = tuple[str, int]

#: Seconds between refreshments of a channel. Its permission expires after 300 (RFC 8656 §9).
CHANNEL_REFRESH = 240
#: Datagrams that wait for their channel to be bound.
WAITING_DATAGRAMS = 32
#: Bytes in the send buffer beyond which media, and beyond which anything, is dropped.
SHED_MEDIA_ABOVE = 128 * 1024
SHED_ALL_ABOVE = 512 * 1024
#: Seconds that a server has to let an allocation go when it is closed.
DELETION_TIMEOUT = 1.0

# What a server or a relayed peer can make aioice's parsers raise; struct.error is none of the built-in ones.
_MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error)


class _UdpClient(turn.TurnClientUdpProtocol):
    """aioice's client, for which a malformed message is no reason to raise."""

    def datagram_received(self, data: bytes | str, addr: Address) -> None:
        try:
            super().datagram_received(data, addr)
        except _MALFORMED as error:
            logger.debug("dropped a message of a TURN server: %s", error)


class _TcpClient(turn.TurnClientTcpProtocol):
    """The same over TCP and TLS."""

    def datagram_received(self, data: bytes | str, addr: Address) -> None:
        try:
            super().datagram_received(data, addr)
        except _MALFORMED as error:
            logger.debug("dropped a message of a TURN server: %s", error)


class Relay:
    """One allocation. A protocol has it for its transport.

    :param client: connected to the server, without an allocation yet.
    """

    def __init__(self, client: _UdpClient | _TcpClient, counters: Counter[str]) -> None:
        self._client = client
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing: set[Address] = set()
        self._closing: asyncio.Task[None] | None = None
        self.relayed_address: Address = ("", 0)
        "Where the server receives for us."
        self.mapped_address: Address = ("", 0)
        "Where the server sees us."

    @classmethod
    async def allocate(
        cls,
        url: ServerUrl,
        server: IceServer,
        make_protocol: Callable[["Relay"], asyncio.DatagramProtocol],
        counters: Counter[str],
    ) -> "Relay":
        """Connect to a server and ask for an allocation.

        :param make_protocol: called when there is one; what it gives receives the peers' datagrams.
        :raises OSError: when the server cannot be reached, or says no more than half of what it must.
        :raises aioice.stun.TransactionError: when it does not answer, or refuses.
        """
        loop = asyncio.get_running_loop()
        kind: type[_UdpClient | _TcpClient] = _TcpClient if url.transport == "tcp" else _UdpClient

        def make_client() -> _UdpClient | _TcpClient:
            return kind(
                (url.host, url.port),
                username=server.username,
                password=server.credential,
                lifetime=turn.DEFAULT_ALLOCATION_LIFETIME,
                channel_refresh_time=CHANNEL_REFRESH,
            )

        client: _UdpClient | _TcpClient
        if url.transport == "tcp":
            tcp_client = cast(Callable[[], _TcpClient], make_client)
            _, client = await loop.create_connection(
                tcp_client, url.host, url.port, ssl=True if url.tls else None
            )
        else:
            udp_client = cast(Callable[[], _UdpClient], make_client)
            _, client = await loop.create_datagram_endpoint(udp_client, remote_addr=(url.host, url.port))
        relay = cls(client, counters)
        try:
            relay.relayed_address = await client.connect()
            relay.mapped_address = client.mapped_address or ("", 0)
            client.receiver = make_protocol(relay)
        except BaseException:
            if client.refresh_task is not None:
                client.refresh_task.cancel()
            client.transport.close()
            raise
        return relay

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``sockname`` is the relayed address."""
        return self.relayed_address if name == "sockname" else default

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closing is not None or self._client.transport.is_closing()

    def sendto(self, data: bytes, addr: Address, *, droppable: bool = False) -> bool:
        """Send to a peer, whose channel is bound first if need be; whether the datagram was taken."""
        if self.is_closing():
            return False
        transport: Any = self._client.transport
        if transport.get_write_buffer_size() > (SHED_MEDIA_ABOVE if droppable else SHED_ALL_ABOVE):
            self._counters["relay_buffer_full"] += 1
            return False
        channel = self._client.peer_to_channel.get(addr)
        if channel is None:
            if len(self._tasks) >= WAITING_DATAGRAMS:
                self._counters["relay_channel_unbound"] += 1
                return False
            self._keep(self._client.send_data(data, addr))
            return True
        if time.time() > self._client.channel_refresh_at[channel] and addr not in self._refreshing:
            self._refreshing.add(addr)
            self._keep(self._refresh(channel, addr))
        # aioice would make a task of every datagram.
        self._client._send(struct.pack("!HH", channel, len(data)) + data)
        return True

    async def _refresh(self, channel: int, addr: Address) -> None:
        try:
            await self._client.channel_bind(channel, addr)
            self._client.channel_refresh_at[channel] = time.time() + CHANNEL_REFRESH
        finally:
            self._refreshing.discard(addr)

    def _keep(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._counters["relay_channel_failed"] += 1
            logger.debug("a TURN channel could not be bound: %s", error)

    def close(self) -> None:
        """Let the allocation go; the protocol's ``connection_lost`` says when that is over."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._delete())

    async def _delete(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(DELETION_TIMEOUT):
                await self._client.delete()
        except (TimeoutError, OSError, stun.TransactionError) as error:
            # The server lets it go by itself when its lifetime is over.
            logger.debug("a TURN server did not confirm that an allocation is gone: %s", error)
        finally:
            self._client.transport.close()

    async def wait_closed(self) -> None:
        """Wait until everything of it has ended."""
        if self._closing is not None:
            await self._closing
