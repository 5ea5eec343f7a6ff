"""aioice's ICE agent, with bounds on what a network can make it keep, and a lost peer noticed in seconds."""

import asyncio
import logging
import random
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import aioice
from aioice import mdns, stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import (
    CandidatePair,
    StunProtocol,
    TransportPolicy,
    relayed_candidate,
    server_reflexive_candidate,
)

from mediapeer.ice.addresses import host_addresses
from mediapeer.ice.liveness import CONSENT_INTERVAL, Liveness, PathLiveness

logger = logging.getLogger(__name__)

#: Datagrams that wait for :meth:`IceConnection.recv`; more are dropped. Two tenths of a second of 10 Mbit/s.
RECEIVE_QUEUE_LENGTH = 256
#: Remote addresses that are remembered as checked. More than any one peer has candidates.
CHECKED_ADDRESSES = 64
#: Remote candidates that are taken, signalled or learned from checks (RFC 8445 §6.1.2.5 bounds pairs so).
REMOTE_CANDIDATES = 100
#: Seconds to wait for checks of the peer before ICE may fail (RFC 8863 §4).
PAC_TIMEOUT = 39.5
#: How much the kernel keeps for a socket until the event loop comes to read it, in bytes.
SOCKET_RECEIVE_BUFFER = 262_144
#: How often a consent check is sent again: with aioice's 0.5 s doubling it then waits 3.5 s for its answer.
CONSENT_RETRANSMISSIONS = 2

Address = tuple[str, int]
_T = TypeVar("_T")


@dataclass(slots=True)
class _CheckedAddress:
    """A remote address that proved that it knows the passwords of this session."""

    round_trip_time: float | None = None
    "Seconds that the last check to it took, or ``None`` when only it has checked us."


class _CheckedProtocol(StunProtocol):
    """One socket or TURN allocation. It sorts STUN out and passes the rest on with its sender's address."""

    receiver: "IceConnection"

    def __init__(self, receiver: "IceConnection") -> None:
        super().__init__(receiver)
        self._destinations: dict[bytes, Address] = {}

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        data = cast(bytes, data)  # aioice's type says more than asyncio gives
        address = (addr[0], addr[1])
        if not data:
            self.receiver.counters["empty_datagrams"] += 1
        elif data[0] > 3:
            self.receiver.datagram_received(data, self, address)
        else:
            self._stun_received(data, address)

    def _stun_received(self, data: bytes, address: Address) -> None:
        destination = self._destinations.get(data[8:20])
        if data[0] == 1 and destination not in (None, address):
            # Somebody repeats the peer's answers. The check is not failed for that (as RFC 8445 §7.2.5.2.1 has
            # it, who meant NATs of a kind that ICE cannot pass): the answer itself may still come.
            self.receiver.counters["answers_from_elsewhere"] += 1
            return
        # aioice raises whatever its unpacking raises; left alone, asyncio would print it with a traceback.
        try:
            super().datagram_received(data, address)
        except Exception as error:
            self.receiver.counters["malformed_stun"] += 1
            logger.debug("%s dropped a STUN message: %s: %s", self.receiver, type(error).__name__, error)

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        started = self.receiver.now()
        self._destinations[request.transaction_id] = addr
        try:
            response, source = await super().request(request, addr, integrity_key, retransmissions)
        finally:
            del self._destinations[request.transaction_id]
        if integrity_key is not None:
            self.receiver.check_answered(self, source, self.receiver.now() - started)
        return response, source


class IceConnection(aioice.Connection):
    """An ICE agent for one component.

    What differs from aioice's: which addresses it takes; datagrams are received only from addresses that ICE
    has checked, into a bounded queue; malformed STUN is counted, not raised; a lost peer is noticed within
    seconds; ``.local`` candidates are not resolved (the peer's own checks reveal its address).

    :param addresses: the addresses of host candidates, or ``None`` for :func:`.host_addresses`.
    :param on_liveness: told when the path goes quiet and when it comes back, after ICE has completed.
    :param kwargs: as for :class:`aioice.Connection`.
    """

    def __init__(
        self,
        ice_controlling: bool,
        *,
        addresses: Sequence[str] | None = None,
        on_liveness: Callable[[Liveness], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(ice_controlling, components=1, **kwargs)
        self.counters: Counter[str] = Counter()
        "What was dropped and why."
        self.on_liveness = on_liveness
        self._addresses = addresses
        self._checked: OrderedDict[tuple[StunProtocol, Address], _CheckedAddress] = OrderedDict()
        self._liveness = PathLiveness(0.0)
        self._liveness_state = Liveness.CONNECTED
        self._liveness_timer: asyncio.TimerHandle | None = None
        self._pac_timer: asyncio.TimerHandle | None = None
        self._end_of_candidates: asyncio.Task[None] | None = None

    def now(self) -> float:
        """The event loop's time in seconds."""
        return asyncio.get_running_loop().time()

    @property
    def liveness(self) -> Liveness:
        """What is known of the peer; meaningful once ICE has completed."""
        return self._liveness_state

    @property
    def round_trip_time(self) -> float | None:
        """Seconds that the last check of the selected pair took, or ``None`` before there is one.

        A check that was sent twice is timed from its first sending, so this never says too little.
        """
        pair = self._nominated.get(1)
        if pair is None:
            return None
        checked = self._checked.get((pair.protocol, pair.remote_addr))
        return checked.round_trip_time if checked else None

    # What comes in

    def datagram_received(self, data: bytes, protocol: StunProtocol, address: Address) -> None:
        """Keep a datagram that is not STUN for :meth:`recv`, if ICE has checked the address it came from."""
        if (protocol, address) not in self._checked:
            self.counters["unchecked_address"] += 1
        elif self._queue.qsize() >= RECEIVE_QUEUE_LENGTH:
            self.counters["receive_queue_full"] += 1
        else:
            self._queue.put_nowait((data, 1))

    def data_received(self, data: bytes, component: int) -> None:
        """What aioice could not parse as STUN, though its first byte says that it is."""
        self.counters["malformed_stun"] += 1

    def request_received(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """Take a check of the peer, and remember the address when it is authentic."""
        if self._is_authentic(message):
            if self._is_unknown(addr) and len(self._remote_candidates) >= REMOTE_CANDIDATES:
                self.counters["too_many_candidates"] += 1
                return
            self._remember(protocol, addr)
            self.heard()
        super().request_received(message, addr, protocol)

    def check_answered(self, protocol: StunProtocol, address: Address, seconds: float) -> None:
        """A check of ours was answered authentically after so many seconds."""
        self._remember(protocol, address).round_trip_time = seconds
        self.heard()

    def heard(self) -> None:
        """An authenticated packet came from the peer; to be called for media and data too."""
        self._liveness.heard(self.now())
        if self._liveness_state is Liveness.DISCONNECTED:
            self._update_liveness()

    def _is_authentic(self, message: stun.Message) -> bool:
        return (
            message.message_method == stun.Method.BINDING
            and "PRIORITY" in message.attributes
            and self._valid_username(message.attributes.get("USERNAME", ""))
            and message.check_message_integrity(self.local_password.encode())
        )

    def _is_unknown(self, address: Address) -> bool:
        return not any(
            getattr(candidate, "_network_host", candidate.host) == address[0] and candidate.port == address[1]
            for candidate in self._remote_candidates
        )

    def _remember(self, protocol: StunProtocol, address: Address) -> _CheckedAddress:
        key = (protocol, address)
        checked = self._checked.setdefault(key, _CheckedAddress())
        self._checked.move_to_end(key)
        if len(self._checked) > CHECKED_ADDRESSES:
            self._checked.popitem(last=False)
        return checked

    # What goes out

    def send_datagram(self, data: bytes) -> None:
        """Send a datagram over the selected pair, at once.

        :raises ConnectionError: when there is none (yet, or any more).
        """
        pair = self._nominated.get(1)
        if pair is None:
            raise ConnectionError("ICE has no path to the peer")
        pair.protocol.transport.sendto(data, pair.remote_addr)

    # Candidates

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109 - the name is aioice's
    ) -> list[Candidate]:
        """Open the sockets and gather host, server-reflexive and relayed candidates.

        :param addresses: aioice's choice of host addresses, which ours replaces.
        :param timeout: seconds that STUN and TURN servers have to answer.
        :raises ConnectionError: when addresses were asked for and none of them can be used.
        """
        chosen: Sequence[str] = ()
        if self._transport_policy == TransportPolicy.ALL:
            chosen = host_addresses() if self._addresses is None else self._addresses
        hosts: list[_CheckedProtocol] = []
        for address in chosen:
            protocol = await self._open_host(address, component)
            if protocol is not None:
                hosts.append(protocol)
        if self._addresses is not None and chosen and not hosts:
            raise ConnectionError(f"none of the addresses {', '.join(chosen)} can be used on this machine")
        self._protocols += hosts
        candidates = [protocol.local_candidate for protocol in hosts]
        for candidate, relay in await self._ask_servers(component, hosts, timeout):
            candidates.append(candidate)
            if relay is not None:
                self._protocols.append(relay)
        return candidates

    async def _open_host(self, address: str, component: int) -> _CheckedProtocol | None:
        try:
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _CheckedProtocol(self), local_addr=(address, 0)
            )
        except OSError as error:
            logger.warning("no candidate on %s: %s", address, error)
            return None
        open_socket = transport.get_extra_info("socket")
        if open_socket is not None:
            open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_RECEIVE_BUFFER)
        host, port = transport.get_extra_info("sockname")[:2]
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=component,
            transport="udp",
            priority=candidate_priority(component, "host"),
            host=host,
            port=port,
            type="host",
        )
        return protocol

    async def _ask_servers(
        self, component: int, hosts: Sequence[_CheckedProtocol], seconds: float
    ) -> list[tuple[Candidate, StunProtocol | None]]:
        """Ask the STUN server from every IPv4 socket and the TURN server once; keep what comes in time."""
        questions: list[Coroutine[Any, Any, tuple[Candidate, StunProtocol | None]]] = []
        if self.stun_server is not None:
            questions += [
                server_reflexive_candidate(protocol, self.stun_server)
                for protocol in hosts
                if ":" not in protocol.local_candidate.host
            ]
        if self.turn_server is not None:
            questions.append(
                relayed_candidate(
                    component=component,
                    hide_related_address=self._transport_policy == TransportPolicy.RELAY,
                    protocol_factory=lambda: _CheckedProtocol(self),
                    turn_server=self.turn_server,
                    turn_username=self.turn_username,
                    turn_password=self.turn_password,
                    turn_ssl=self.turn_ssl,
                    turn_transport=self.turn_transport,
                )
            )
        answers, errors = await _gather_in_time(questions, seconds)
        for error in errors:
            logger.warning("a STUN or TURN server gave no candidate: %s", error or type(error).__name__)
        return answers

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Take a candidate of the peer, or their end, which is heeded when the PAC timer has run out."""
        if remote_candidate is None:
            if self._pac_timer is None and not self._closing:
                # The peer's checks may still reveal an address that no candidate told (RFC 8863 §4). aioice
                # would give a component up whose candidates have all been told, and are none.
                self._pac_timer = asyncio.get_running_loop().call_later(PAC_TIMEOUT, self._pac_expired)
        elif mdns.is_mdns_hostname(remote_candidate.host):
            self.counters["mdns_candidates"] += 1
        elif len(self._remote_candidates) >= REMOTE_CANDIDATES:
            self.counters["too_many_candidates"] += 1
        else:
            await super().add_remote_candidate(remote_candidate)

    def _remote_candidates_expected(self) -> bool:
        """Whether :meth:`connect` must go on looking for new pairs to check, every 20 ms.

        When candidates have been told to their end there are none; new pairs then come from the peer's checks,
        which start checks of their own.
        """
        if self._pac_timer is not None and self._check_list:
            return False
        return super()._remote_candidates_expected()

    def _check_periodic(self) -> bool:
        """Start the next check; whether :meth:`connect` shall come back in 20 ms for another.

        aioice comes back once more when none is left, and so takes 20 ms where a round trip would do.
        """
        if not super()._check_periodic():
            return False
        unchecked = (CandidatePair.State.WAITING, CandidatePair.State.FROZEN)
        return self._remote_candidates_expected() or any(
            pair.task is None and pair.state in unchecked for pair in self._check_list
        )

    def _check_list_maybe_fail(self) -> None:
        if self._pac_timer is None or self._remote_candidates_end:
            super()._check_list_maybe_fail()

    def _pac_expired(self) -> None:
        self._end_of_candidates = asyncio.create_task(super().add_remote_candidate(None))

    # Liveness

    async def query_consent(self) -> None:
        """Check that the peer still wants our packets, until it does not (RFC 7675)."""
        self._liveness = PathLiveness(self.now())
        self._liveness.checked(self.now(), _consent_period())
        self._update_liveness()
        while self._liveness_state is not Liveness.EXPIRED:
            await asyncio.sleep(max(0.0, self._liveness.next_check() - self.now()))
            pair = self._nominated.get(1)
            if self._liveness.next_check() <= self.now() and pair is not None:
                self._liveness.checked(self.now(), _consent_period())
                await self._check_consent(pair)
        logger.info("%s: the peer has not answered for too long, consent to send has expired", self)
        # close() would wait for this very task.
        self._query_consent_task = None
        await self.close()

    async def _check_consent(self, pair: CandidatePair) -> None:
        if self.remote_password is None:
            raise ConnectionError("consent is asked for before the peer's password is known")
        try:
            async with asyncio.timeout_at(self._liveness.expiry):
                await pair.protocol.request(
                    self.build_request(pair, nominate=False),
                    pair.remote_addr,
                    integrity_key=self.remote_password.encode(),
                    retransmissions=CONSENT_RETRANSMISSIONS,
                )
        except TimeoutError:
            self._update_liveness()
        except stun.TransactionError as error:
            logger.debug("%s: a consent check failed: %s", self, error)
            # An error answer comes at once; without this a peer could make us ask in a tight loop.
            await asyncio.sleep(0.5 if isinstance(error, stun.TransactionFailed) else 0)
        else:
            self._liveness.consented(self.now())
            self._update_liveness()

    def _update_liveness(self) -> None:
        """Tell a change of liveness, and come again when it changes next by itself."""
        if self._liveness_timer is not None:
            self._liveness_timer.cancel()
            self._liveness_timer = None
        if self._closing:
            return
        now = self.now()
        state = self._liveness.state(now)
        if state is not Liveness.EXPIRED:
            when = self._liveness.next_change(now)
            self._liveness_timer = asyncio.get_running_loop().call_at(when, self._update_liveness)
        if state is not self._liveness_state:
            self._liveness_state = state
            if self.on_liveness is not None:
                self.on_liveness(state)

    async def close(self) -> None:
        """End the session: sockets, timers and tasks."""
        for timer in (self._liveness_timer, self._pac_timer):
            if timer is not None:
                timer.cancel()
        if self._end_of_candidates is not None:
            self._end_of_candidates.cancel()
        await super().close()
        self._checked.clear()


def _consent_period() -> float:
    return CONSENT_INTERVAL * random.uniform(0.8, 1.2)


async def _gather_in_time(
    questions: Sequence[Coroutine[Any, Any, _T]], seconds: float
) -> tuple[list[_T], list[BaseException]]:
    """Run all at once; what each gave or raised, with :exc:`TimeoutError` for those that took too long."""
    if not questions:
        return [], []
    results = await asyncio.gather(
        *(asyncio.wait_for(question, seconds) for question in questions), return_exceptions=True
    )
    answers = [result for result in results if not isinstance(result, BaseException)]
    return answers, [result for result in results if isinstance(result, BaseException)]
