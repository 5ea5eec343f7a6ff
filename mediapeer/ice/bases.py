"""What checks are sent from: a socket of the mux, or a TURN allocation (RFC 8445 §4, "base")."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import aioice
from aioice import stun
from aioice.ice import StunProtocol

from mediapeer.ice.agent import AgentOwner
from mediapeer.ice.candidate import Candidate
from mediapeer.ice.mux import MuxSocket
from mediapeer.ice.relay import Relay

if TYPE_CHECKING:
    from mediapeer.ice.checklist import CheckList

logger = logging.getLogger(__name__)

Address = tuple[str, int]


def to_aioice(candidate: Candidate) -> aioice.Candidate:
    """A candidate in aioice's form."""
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=candidate.component,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        type=candidate.type,
        related_address=candidate.related_address,
        related_port=candidate.related_port,
    )


def from_aioice(candidate: aioice.Candidate) -> Candidate:
    """A candidate in our form."""
    return Candidate(
        foundation=candidate.foundation,
        component=candidate.component,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        type=candidate.type,
        related_address=candidate.related_address,
        related_port=candidate.related_port,
    )


class _MuxTransport(asyncio.DatagramTransport):
    """A socket of the mux, as aioice's protocol wants it. Closing it leaves the socket to the other sessions."""

    def __init__(self, socket: MuxSocket, protocol: "Base") -> None:
        super().__init__({"sockname": socket.address})
        self._socket = socket
        self._protocol = protocol
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        if not self._closing:
            self._socket.send(bytes(data), addr)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)


class Base(StunProtocol):
    """One socket or allocation of one agent: requests and answers go through it, and what is not STUN.

    :param socket: the mux's socket, or ``None`` for a TURN allocation.
    :param candidate: what the peer is told of it.
    """

    receiver: "CheckList"
    transport: Any

    def __init__(
        self,
        agent: "CheckList",
        owner: AgentOwner,
        candidate: Candidate,
        *,
        socket: MuxSocket | None = None,
        relay: Relay | None = None,
    ) -> None:
        super().__init__(agent)
        self.candidate = candidate
        self.socket = socket
        self.relay = relay
        self.key: object = self if socket is None else socket
        "What, with a remote address, names a path."
        self._owner = owner
        self._destinations: dict[bytes, Address] = {}
        self.local_candidate = to_aioice(candidate)
        if socket is not None:
            # The candidate may carry another address, which a NAT maps to this one.
            self.local_candidate.host, self.local_candidate.port = socket.address[:2]
            self.local_candidate._network_host = socket.address[0]
            self.transport = _MuxTransport(socket, self)
        else:
            self.transport = relay

    @property
    def is_relay(self) -> bool:
        """Whether it is a TURN allocation."""
        return self.socket is None

    def send(self, data: bytes, address: Address, *, droppable: bool) -> bool:
        """Send what is not STUN; whether there was room for it."""
        if self.socket is not None:
            return self.socket.send(data, address, droppable=droppable)
        return self.relay is not None and self.relay.sendto(data, address, droppable=droppable)

    @property
    def is_cut_off(self) -> bool:
        """Whether this machine could not send the last datagram anywhere."""
        return self.socket is not None and self.socket.is_cut_off

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """What a TURN server hands on."""
        data = cast(bytes, data)  # aioice's type says more than it gives
        address = (addr[0], addr[1])
        if not data:
            self._owner.counters["empty_datagrams"] += 1
        elif data[0] <= 3:
            self.stun_received(data, address)
        else:
            pair = self.receiver.checked.get((self.key, address))
            if pair is None:
                self._owner.counters["unchecked_address"] += 1
            else:
                self.receiver.deliver(data, pair)

    def stun_received(self, data: bytes, address: Address) -> None:
        """Take a request, or an answer to a request of ours."""
        destination = self._destinations.get(data[8:20])
        if data[0] == 1 and destination not in (None, address):
            # Somebody repeats the peer's answers. The check is not failed for that (as RFC 8445 §7.2.5.2.1 has
            # it, who meant NATs of a kind that ICE cannot pass): the answer itself may still come.
            self._owner.counters["answers_from_elsewhere"] += 1
            return
        # aioice raises whatever its unpacking raises.
        try:
            super().datagram_received(data, address)
        except Exception as error:
            self._owner.counters["malformed_stun"] += 1
            logger.debug("%s dropped a STUN message: %s: %s", self.receiver, type(error).__name__, error)

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        """Send a request until it is answered.

        :raises aioice.stun.TransactionError: when it is not, or by an error.
        """
        started = self.receiver.now()
        self._destinations[request.transaction_id] = addr
        if self.socket is not None:
            self._owner.expect(request.transaction_id, self)
        try:
            response, source = await super().request(request, addr, integrity_key, retransmissions)
        finally:
            del self._destinations[request.transaction_id]
            if self.socket is not None:
                self._owner.forget(request.transaction_id)
        if integrity_key is not None:
            self.receiver.check_answered(self, source, self.receiver.now() - started)
        return response, source

    async def close(self) -> None:
        """Close an allocation; a socket of the mux stays open for others."""
        self.transport.close()
        if self.relay is not None:
            await self.relay.wait_closed()
