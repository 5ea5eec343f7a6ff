"""One UDP port for every call: datagrams find their session by what ICE has authenticated, or are dropped."""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from socket import AF_INET6, socket
from typing import ClassVar, Protocol

from mediapeer.ice.addresses import host_addresses
from mediapeer.ice.sockets import Address, MuxSocket, bind_all
from mediapeer.ice.stun import MessageType, peek

__all__ = ["Address", "MuxSession", "MuxSocket", "UdpMux"]

logger = logging.getLogger(__name__)

#: Datagrams that are read from a socket before the event loop gets its turn: half a millisecond of them.
DATAGRAMS_PER_TURN = 64
#: Remote addresses that belong to one session; beyond it, the one that was claimed longest ago is forgotten.
CLAIMS_PER_SESSION = 64
#: Seconds after which another call may have an address that nothing authentic came from. Whoever is there checks it
#: more often; and who has claimed it in somebody else's name, or has moved away, must not keep it for a whole call.
CLAIM_LIFETIME = 10.0
#: Requests of one session that wait for an answer; beyond it, the oldest is forgotten.
TRANSACTIONS_PER_SESSION = 256
#: Failures of sessions that are logged by one mux; more are only counted, for a log must not grow with a flood.
FAILURES_LOGGED = 20
#: Seconds for which this machine lacks an address until its socket is closed: every path from it has failed by then.
ABSENCE = 60.0

_DATAGRAM_SIZE = 65_535

_Key = tuple[int, tuple[str, ...] | None, int | range]
"The event loop, the addresses and the port of a mux that is shared."


class MuxSession(Protocol):
    """What takes a session's datagrams. It is told apart from others by its hash and equality."""

    def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        """Take a datagram, at once. An exception is counted and logged, and ends nothing."""


@dataclass(slots=True)
class _Member:
    """What one session has in the tables."""

    owner: object
    username_fragments: set[bytes] = field(default_factory=set)
    addresses: OrderedDict[tuple[MuxSocket, Address], float] = field(default_factory=OrderedDict)
    "Each with the time when it was claimed last."
    transactions: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    is_replaceable: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.username_fragments or self.addresses or self.transactions)


class UdpMux:
    """One socket for each local address, all on one port, that any number of sessions share.

    A datagram goes to the session that

    - has claimed the remote address it comes from, unless it is STUN;
    - has registered the fragment that its USERNAME begins with, for a Binding request (RFC 8445 §7.2.2);
    - expects its transaction id, for the answer to a request.

    All else is counted and dropped, and so is a check from an address that another call's session has claimed.
    That costs a few microseconds and nothing is kept of it. No error is sent for what does not authenticate,
    though RFC 8489 §9.1.3 would have one: no peer that has our description makes such requests, and answers
    would serve those who guess, and those who send in others' names.

    Datagrams of two sessions between the same two sockets cannot be told apart. A client that calls the same
    server twice from one port is therefore heard once: servers share a mux, clients open their own.

    Use :meth:`open` or :meth:`shared`.
    """

    _shared: ClassVar[dict["_Key", "UdpMux"]] = {}

    def __init__(self) -> None:
        self.sockets: tuple[MuxSocket, ...] = ()
        self.counters: Counter[str] = Counter()
        "What was dropped, shed or failed, by name."
        self._loop = asyncio.get_running_loop()
        self._members: dict[MuxSession, _Member] = {}
        self._sessions: dict[bytes, MuxSession] = {}
        self._expected: dict[bytes, MuxSession] = {}
        self._claims: dict[MuxSocket, dict[Address, MuxSession]] = {}
        self._port = 0
        self._is_closed = False
        self._absent_since: dict[MuxSocket, float] = {}
        self._users = 1
        self._key: _Key | None = None
        self._failures_logged = 0

    @classmethod
    async def open(cls, addresses: Sequence[str], port: int | range = 0) -> "UdpMux":
        """Open a mux of one's own.

        :param addresses: IP addresses of this machine, an IPv6 one with its scope if it needs one.
        :param port: the port; or those to choose from; or 0 for any that is free on all addresses.
        :raises ValueError: when an address is none, or a port is out of range.
        :raises OSError: when no address can be used, or no port is free on all; the text says which.
        """
        mux = cls()
        for each in bind_all(addresses, port):
            mux._add(each)
        mux._port = mux.sockets[0].address[1]
        return mux

    @classmethod
    async def shared(cls, addresses: Sequence[str] | None, port: int | range = 0) -> "UdpMux":
        """The mux that all in this event loop share who ask for these addresses and this port.

        Each of them calls :meth:`close` once; the last closes the sockets. Arguments and errors are those
        of :meth:`open`.

        :param addresses: ``None`` for all that this machine has at any time.
        """
        loop = asyncio.get_running_loop()
        key = (id(loop), None if addresses is None else tuple(addresses), port)
        mux = cls._shared.get(key)
        # A loop that was closed with its mux open may have left its identity to this one.
        if mux is not None and mux._loop is loop and not mux.is_closed:
            mux._users += 1
            if addresses is None:
                mux.follow(host_addresses())
            return mux
        mux = await cls.open(host_addresses() if addresses is None else addresses, port)
        mux._key = key
        cls._shared[key] = mux
        return mux

    @property
    def port(self) -> int:
        """The port of every socket."""
        return self._port

    @property
    def is_closed(self) -> bool:
        """Whether the sockets are closed."""
        return self._is_closed

    # Sockets

    @property
    def present(self) -> tuple[MuxSocket, ...]:
        """The sockets whose addresses this machine had when :meth:`follow` was called last."""
        return tuple(each for each in self.sockets if each not in self._absent_since)

    def follow(self, addresses: Sequence[str]) -> None:
        """Open sockets on addresses that came up, on the same port; see which have gone.

        An address on which the port is taken, or which has gone again, is left out with a warning. A socket whose
        address is gone may still be used: the address may come back. It is closed after :data:`ABSENCE`.

        :param addresses: all that there are now.
        :raises ValueError: when an address is none.
        """
        if self._is_closed:
            return
        wanted = dict.fromkeys(address.partition("%")[0] for address in addresses)
        known = {each.address[0] for each in self.sockets}
        for address in addresses:
            if address.partition("%")[0] not in known:
                try:
                    bound = bind_all([address], self._port)
                except OSError as error:
                    self.counters["addresses_not_opened"] += 1
                    logger.warning("no candidate on %s: %s", address, error)
                else:
                    self._add(bound[0])
        now = self._loop.time()
        for each in self.sockets:
            if each.address[0] in wanted:
                self._absent_since.pop(each, None)
            elif now - self._absent_since.setdefault(each, now) >= ABSENCE:
                self._remove(each)

    def _add(self, bound: socket) -> None:
        added = MuxSocket(bound, self.counters, self._loop)
        self.sockets += (added,)
        claims = self._claims[added] = {}
        self._loop.add_reader(added, self._readable, added, claims)

    def _remove(self, gone: MuxSocket) -> None:
        for remote, session in list(self._claims[gone].items()):
            self._release_address(gone, remote, session)
        del self._claims[gone]
        del self._absent_since[gone]
        self.sockets = tuple(each for each in self.sockets if each is not gone)
        gone.close()

    # Who gets what

    def register(self, username_fragment: str, session: MuxSession, *, owner: object | None = None) -> None:
        """Give a session the checks whose USERNAME begins with this fragment.

        :param owner: what sessions of one call have in common, such as those before and after an ICE restart:
            they may take addresses over from each other. Without it, a session stands alone.
        :raises ValueError: when another session has this fragment.
        """
        fragment = username_fragment.encode()
        if self._sessions.get(fragment, session) is not session:
            raise ValueError("another session has this username fragment")
        self._sessions[fragment] = session
        member = self._member(session)
        member.username_fragments.add(fragment)
        if owner is not None:
            member.owner = owner

    def unregister(self, username_fragment: str) -> None:
        """Drop further checks with this fragment. Addresses stay claimed."""
        fragment = username_fragment.encode()
        session = self._sessions.pop(fragment, None)
        if session is not None:
            self._members[session].username_fragments.discard(fragment)
            self._forget_if_empty(session)

    def expect(self, transaction_id: bytes, session: MuxSession) -> None:
        """Give a session the answer to a request of its own."""
        transactions = self._member(session).transactions
        self._expected[transaction_id] = session
        transactions[transaction_id] = None
        if len(transactions) > TRANSACTIONS_PER_SESSION:
            self._expected.pop(transactions.popitem(last=False)[0], None)
            self.counters["transactions_forgotten"] += 1

    def forget(self, transaction_id: bytes) -> None:
        """Expect no answer to a request any more."""
        session = self._expected.pop(transaction_id, None)
        if session is not None:
            self._members[session].transactions.pop(transaction_id, None)
            self._forget_if_empty(session)

    def claim(self, socket: MuxSocket, remote: Address, session: MuxSession) -> bool:
        """Give a session what comes to a socket from an address that a check of its own has authenticated.

        Claiming again is free, and to be done with whatever authentic comes from there: it keeps the address from
        being the first that is forgotten, and from being another's after :data:`CLAIM_LIFETIME`.

        :return: ``False`` when a session of another call has the address, which keeps it: whoever is in a call
            could otherwise take another's datagrams away by a check in the other's name.
        """
        claims = self._claims.get(socket)
        if claims is None or socket.is_closed:
            return False
        holder = claims.get(remote)
        if holder is not None and holder is not session:
            if not self._may_replace(holder, session, (socket, remote)):
                self.counters["claims_refused"] += 1
                return False
            self._release_address(socket, remote, holder)
        member = self._member(session)
        claims[remote] = session
        member.addresses[socket, remote] = self._loop.time()
        member.addresses.move_to_end((socket, remote))
        if len(member.addresses) > CLAIMS_PER_SESSION:
            (other_socket, other_remote), _ = member.addresses.popitem(last=False)
            self._claims[other_socket].pop(other_remote, None)
            self.counters["claims_forgotten"] += 1
        return True

    def release(
        self, session: MuxSession, socket: MuxSocket | None = None, remote: Address | None = None
    ) -> None:
        """Give up one claimed address, or all that a session has."""
        member = self._members.get(session)
        if member is None:
            return
        chosen = list(member.addresses) if socket is None or remote is None else [(socket, remote)]
        for each in chosen:
            if each in member.addresses:
                self._release_address(*each, session)
        self._forget_if_empty(session)

    def set_replaceable(self, session: MuxSession, is_replaceable: bool) -> None:
        """Say whether others may take over a session's addresses, because its peer has fallen silent."""
        member = self._members.get(session)
        if member is not None:
            member.is_replaceable = is_replaceable

    def leave(self, session: MuxSession) -> None:
        """Forget everything that a session has registered, claimed and expected."""
        self.release(session)
        member = self._members.pop(session, None)
        if member is not None:
            for fragment in member.username_fragments:
                self._sessions.pop(fragment, None)
            for transaction_id in member.transactions:
                self._expected.pop(transaction_id, None)

    def _member(self, session: MuxSession) -> _Member:
        member = self._members.get(session)
        if member is None:
            member = self._members[session] = _Member(session)
        return member

    def _forget_if_empty(self, session: MuxSession) -> None:
        member = self._members.get(session)
        if member is not None and member.is_empty:
            del self._members[session]

    def _may_replace(
        self, holder: MuxSession, session: MuxSession, address: tuple[MuxSocket, Address]
    ) -> bool:
        held = self._members.get(holder)
        if held is None or held.is_replaceable:
            return True
        member = self._members.get(session)
        if held.owner is (session if member is None else member.owner):
            return True
        return self._loop.time() >= held.addresses.get(address, 0.0) + CLAIM_LIFETIME

    def _release_address(self, socket: MuxSocket, remote: Address, session: MuxSession) -> None:
        self._members[session].addresses.pop((socket, remote), None)
        self._claims[socket].pop(remote, None)

    # What comes in

    def _readable(self, socket: MuxSocket, claims: dict[Address, MuxSession]) -> None:
        receive, is_ipv6 = socket.receive, socket.family == AF_INET6
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, source = receive(_DATAGRAM_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # What ICMP says of an earlier datagram is no reason to stop: anybody can forge it.
                self.counters["receive_errors"] += 1
                continue
            if is_ipv6:
                source = (source[0].partition("%")[0], source[1])
            if data and data[0] > 3:
                session = claims.get(source)
                if session is None:
                    self.counters["unchecked_address"] += 1
                    continue
            else:
                session = self._session_of_stun(data, claims, (socket, source))
                if session is None:
                    continue
            try:
                session.datagram_received(data, socket, source)
            except Exception as error:
                self._session_failed(session, error)
            if socket.is_closed:
                return

    def _session_of_stun(
        self, data: bytes, claims: dict[Address, MuxSession], address: tuple[MuxSocket, Address]
    ) -> MuxSession | None:
        """Who is to judge a STUN message, found at the price of looking at its header and USERNAME."""
        if not data:
            self.counters["empty_datagrams"] += 1
            return None
        seen = peek(data)
        if seen is None:
            self.counters["malformed_stun"] += 1
            return None
        kind, transaction_id, username = seen
        if kind == MessageType.BINDING_REQUEST:
            return self._session_of_check(username, claims.get(address[1]), address)
        if kind == MessageType.BINDING_SUCCESS or kind == MessageType.BINDING_ERROR:
            session, reason = self._expected.get(transaction_id), "unexpected_answers"
        elif kind == MessageType.BINDING_INDICATION:
            session, reason = claims.get(address[1]), "unchecked_address"
        else:
            session, reason = None, "other_stun_methods"
        if session is None:
            self.counters[reason] += 1
        return session

    def _session_of_check(
        self, username: bytes | None, holder: MuxSession | None, address: tuple[MuxSocket, Address]
    ) -> MuxSession | None:
        session = None if username is None else self._sessions.get(username.partition(b":")[0])
        if session is None:
            self.counters["unknown_usernames"] += 1
            return None
        if holder not in (None, session) and not self._may_replace(holder, session, address):
            self.counters["address_of_another_call"] += 1
            return None
        return session

    def _session_failed(self, session: MuxSession, error: Exception) -> None:
        self.counters["session_errors"] += 1
        if self._failures_logged < FAILURES_LOGGED:
            self._failures_logged += 1
            logger.error("%r failed on a datagram: %s: %s", session, type(error).__name__, error)
            logger.debug("where it failed:", exc_info=error)

    async def close(self) -> None:
        """Close the sockets, or if the mux is shared, do so when the last of its users closes it."""
        self._users -= 1
        if self._users > 0:
            return
        self._is_closed = True
        for each in self.sockets:
            each.close()
        for table in (self._members, self._sessions, self._expected):
            table.clear()
        for claims in self._claims.values():
            claims.clear()
        if self._key is not None and self._shared.get(self._key) is self:
            del self._shared[self._key]
