"""One UDP port for all sessions, over real sockets on loopback."""

import asyncio
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import aioice
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediapeer.ice import mux as mux_module
from mediapeer.ice import sockets as sockets_module
from mediapeer.ice.candidate import IceParameters
from mediapeer.ice.mux import (
    CLAIMS_PER_SESSION,
    DATAGRAMS_PER_TURN,
    FAILURES_LOGGED,
    TRANSACTIONS_PER_SESSION,
    UdpMux,
)
from mediapeer.ice.options import IceState
from mediapeer.ice.sockets import CONTROL_QUEUE_LENGTH, DESTINATIONS, Address, MuxSocket
from mediapeer.ice.stun import binding_error, binding_request, binding_success, transaction_id
from tests.ice.loops import client, on_every_loop, until
from tests.ice.sessions import LiteSession

KEY = "0123456789abcdefghijkl"
ADDRESSES = ["127.0.0.1", "127.0.0.2", "::1"]


class Session:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, MuxSocket, Address]] = []

    def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        self.received.append((data, socket, source))

    @property
    def data(self) -> list[bytes]:
        return [data for data, _, _ in self.received]


def check(fragment: str, password: str = KEY) -> bytes:
    return binding_request(transaction_id(), username=f"{fragment}:theirs", password=password, priority=1)


def address_of(opened: socket.socket) -> Address:
    name = opened.getsockname()
    return name[0], name[1]


async def opened() -> tuple[UdpMux, MuxSocket, socket.socket]:
    """A mux on one address, its socket, and somebody else's socket that sends to it."""
    mux = await UdpMux.open(["127.0.0.1"])
    peer = client()
    peer.connect(mux.sockets[0].address)
    return mux, mux.sockets[0], peer


# Routing


@on_every_loop
async def test_checks_go_by_username_and_data_by_claimed_address() -> None:
    mux, bound, peer = await opened()
    sessions = {fragment: Session() for fragment in ("aaaa", "bbbb")}
    for fragment, session in sessions.items():
        mux.register(fragment, session)
    to_b = check("bbbb")
    peer.send(to_b)
    peer.send(b"\x16 before the claim")
    await until(lambda: mux.counters["unchecked_address"])
    assert sessions["bbbb"].received == [(to_b, bound, address_of(peer))]

    assert mux.claim(bound, address_of(peer), sessions["bbbb"])
    peer.send(b"\x16 after it")
    await until(lambda: len(sessions["bbbb"].received) == 2)
    assert sessions["bbbb"].received[1] == (b"\x16 after it", bound, address_of(peer))
    assert sessions["aaaa"].received == []
    mux.release(sessions["bbbb"])
    peer.send(b"\x16 after its release")
    await until(lambda: mux.counters["unchecked_address"] == 2)
    peer.close()
    await mux.close()


@on_every_loop
async def test_datagrams_came_when_they_came_and_not_when_the_loop_saw_them() -> None:
    mux, bound, peer = await opened()
    begun = asyncio.get_running_loop().time()
    peer.send(b"\x80 first")
    time.sleep(0.02)  # noqa: ASYNC251  a loop that is busy with something else
    peer.send(b"\x80 second")
    time.sleep(0.02)  # noqa: ASYNC251
    arrivals = []
    for _ in range(2):
        bound.receive(2048)
        arrivals.append(bound.arrival)
    assert arrivals[0] == pytest.approx(begun, abs=0.015)
    assert arrivals[1] - arrivals[0] >= 0.018
    peer.close()
    await mux.close()


@on_every_loop
async def test_no_arrival_lies_in_the_future_or_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    mux, bound, peer = await opened()
    now = time.time()
    for somebody_set_the_clock_by in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda wrong=now + somebody_set_the_clock_by: wrong)
        peer.send(b"\x80")
        bound.receive(2048)
        assert bound.arrival == pytest.approx(asyncio.get_running_loop().time(), abs=0.1)
    peer.close()
    await mux.close()


@on_every_loop
async def test_one_port_serves_every_address() -> None:
    mux = await UdpMux.open(ADDRESSES)
    assert [each.address for each in mux.sockets] == [(host, mux.port) for host in ADDRESSES]
    session = Session()
    mux.register("aaaa", session)
    for bound in mux.sockets:
        peer = client(bound.address[0])
        peer.sendto(check("aaaa"), bound.address)
        await until(lambda: session.received)
        _, where, source = session.received.pop()
        assert (where, source) == (bound, address_of(peer))
        assert mux.claim(where, source, session)
        peer.sendto(b"\x80 media", bound.address)
        await until(lambda: session.received)
        assert session.received.pop() == (b"\x80 media", bound, source)
        assert bound.send(b"\x80 answer", source)
        assert peer.recv(100) == b"\x80 answer"
        peer.close()
    assert mux.counters == Counter()
    await mux.close()


@on_every_loop
async def test_addresses_that_come_up_get_a_socket_on_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    mux = await UdpMux.open(["127.0.0.1"])
    session = Session()
    mux.register("aaaa", session)
    mux.follow(["127.0.0.2", "127.0.0.1"])
    assert [each.address for each in mux.present] == [("127.0.0.1", mux.port), ("127.0.0.2", mux.port)]
    peer = client()
    peer.sendto(check("aaaa"), ("127.0.0.2", mux.port))
    await until(lambda: session.received)
    _, where, source = session.received.pop()
    assert mux.claim(where, source, session)
    # One that is gone may come back. When it does not, its socket and what was claimed on it are let go.
    mux.follow(["127.0.0.1"])
    assert [each.address[0] for each in mux.present] == ["127.0.0.1"]
    assert not where.is_closed
    mux.follow(["127.0.0.1", "127.0.0.2"])
    assert where in mux.present
    monkeypatch.setattr(mux_module, "ABSENCE", 0.0)
    mux.follow(["127.0.0.1"])
    assert where.is_closed
    assert mux.sockets == mux.present
    assert not mux.claim(where, source, session)
    mux.leave(session)
    peer.close()
    # All of them may go.
    mux.follow(["127.0.0.3"])
    assert [each.address for each in mux.sockets] == [("127.0.0.3", mux.port)]
    assert not mux.is_closed
    await mux.close()
    mux.follow(["127.0.0.1"])
    assert mux.sockets[0].is_closed


@on_every_loop
async def test_an_address_on_which_the_port_is_taken_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    mux = await UdpMux.open(["127.0.0.1"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", mux.port))
        mux.follow(["127.0.0.1", "127.0.0.2", "127.0.0.3", "203.0.113.1"])
    assert [each.address[0] for each in mux.present] == ["127.0.0.1", "127.0.0.3"]
    assert mux.counters["addresses_not_opened"] == 2
    assert "no candidate on 127.0.0.2" in caplog.text
    await mux.close()


@on_every_loop
async def test_who_shares_all_addresses_shares_those_that_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["127.0.0.1"]
    monkeypatch.setattr(mux_module, "host_addresses", lambda: addresses)
    first = await UdpMux.shared(None)
    addresses.append("127.0.0.2")
    assert await UdpMux.shared(None) is first
    assert [each.address[0] for each in first.sockets] == addresses
    for _ in range(2):
        await first.close()
    assert UdpMux._shared == {}


@on_every_loop
async def test_answers_go_to_whoever_has_asked() -> None:
    mux, _, peer = await opened()
    asking, other = Session(), Session()
    asked, forgotten = transaction_id(), transaction_id()
    mux.register("aaaa", other)
    mux.expect(asked, asking)
    mux.expect(forgotten, asking)
    mux.forget(forgotten)
    answers = [
        binding_success(asked, ("192.0.2.1", 1), KEY),
        binding_error(asked, 487, "Role Conflict", KEY),
        binding_success(forgotten, ("192.0.2.1", 1), KEY),
    ]
    for answer in answers:
        peer.send(answer)
    await until(lambda: mux.counters["unexpected_answers"])
    assert asking.data == answers[:2]
    assert other.data == []
    peer.close()
    await mux.close()


@on_every_loop
async def test_what_belongs_to_nobody_is_counted_and_nothing_is_kept_of_it() -> None:
    mux, _, peer = await opened()
    session = Session()
    mux.register("aaaa", session)
    junk = {
        b"": "empty_datagrams",
        b"\0\1 no STUN": "malformed_stun",
        check("zzzz"): "unknown_usernames",
        binding_request(transaction_id()): "unknown_usernames",
        binding_success(transaction_id(), ("192.0.2.1", 1), KEY): "unexpected_answers",
        b"\0\3\0\0\x21\x12\xa4\x42" + bytes(12): "other_stun_methods",
        b"\0\x11\0\0\x21\x12\xa4\x42" + bytes(12): "unchecked_address",
        b"\x80 media": "unchecked_address",
    }
    for data in junk:
        peer.send(data)
    await until(lambda: mux.counters.total() == len(junk))
    assert mux.counters == Counter(junk.values())
    assert session.received == []
    peer.settimeout(0.01)
    with pytest.raises(TimeoutError):
        peer.recv(100)
    assert [len(table) for table in (mux._members, mux._sessions, mux._expected)] == [1, 1, 0]
    peer.close()
    await mux.close()


@on_every_loop
async def test_no_datagram_raises() -> None:
    mux, bound, peer = await opened()
    session = Session()
    mux.register("aaaa", session)
    mux.claim(bound, address_of(peer), session)
    beginning = st.sampled_from([b"", b"\0\1", check("aaaa")[:20], check("aaaa")[:34], check("aaaa")])

    @settings(max_examples=200)
    @given(beginning, st.binary(max_size=100))
    def received(start: bytes, rest: bytes) -> None:
        mux._session_of_stun(start + rest, {}, ("192.0.2.1", 1))

    received()
    peer.close()
    await mux.close()


@on_every_loop
async def test_a_flood_does_not_keep_the_loop_from_its_other_work() -> None:
    mux, bound, peer = await opened()
    session = Session()
    mux.claim(bound, address_of(peer), session)
    for number in range(5 * DATAGRAMS_PER_TURN):
        peer.send(b"\x80%d" % number)
    turns: list[int] = []
    while len(session.received) < 5 * DATAGRAMS_PER_TURN:
        before = len(session.received)
        await asyncio.sleep(0)
        turns.append(len(session.received) - before)
        assert len(turns) < 1000
    assert max(turns) == DATAGRAMS_PER_TURN
    assert session.data == [b"\x80%d" % number for number in range(5 * DATAGRAMS_PER_TURN)]
    peer.close()
    await mux.close()


@on_every_loop
async def test_a_session_that_fails_takes_nobody_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
            raise RuntimeError("broken session")

    mux, bound, peer = await opened()
    session, second = Session(), client()
    mux.claim(bound, address_of(peer), Broken())
    mux.claim(bound, address_of(second), session)
    count = 3 * FAILURES_LOGGED
    for _ in range(count):
        peer.send(b"\x80 to the broken one")
    second.sendto(b"\x80 to the other", bound.address)
    with caplog.at_level(logging.INFO):
        await until(lambda: session.received)
    assert mux.counters == {"session_errors": count}
    # No traceback for the log to grow by, and no end of lines.
    assert len(caplog.records) == FAILURES_LOGGED
    assert all(record.exc_info is None for record in caplog.records)
    assert "RuntimeError: broken session" in caplog.text
    peer.close()
    second.close()
    await mux.close()


@on_every_loop
async def test_a_session_may_close_the_mux_from_within() -> None:
    mux, bound, peer = await opened()
    tasks: list[asyncio.Task[None]] = []

    class Last:
        def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
            for each in mux.sockets:
                each.close()
            tasks.append(asyncio.get_running_loop().create_task(mux.close()))

    mux.claim(bound, address_of(peer), Last())
    peer.send(b"\x80 one")
    peer.send(b"\x80 two")
    await until(lambda: tasks)
    await tasks[0]
    assert mux.is_closed
    assert not bound.send(b"late", address_of(peer))
    assert mux.counters == {"sent_after_close": 1}
    peer.close()


@on_every_loop
async def test_errors_that_icmp_brings_are_counted_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    mux, bound, peer = await opened()
    session = Session()
    mux.claim(bound, address_of(peer), session)
    errors = [ConnectionRefusedError(), OSError(errno.EHOSTUNREACH, "no route")]
    receive = MuxSocket.receive

    def failing(each: MuxSocket, size: int) -> tuple[bytes, tuple[str, int]]:
        if errors:
            raise errors.pop()
        return receive(each, size)

    monkeypatch.setattr(MuxSocket, "receive", failing)
    mux._loop.remove_reader(bound)
    mux._loop.add_reader(bound, mux._readable, bound, mux._claims[bound])
    peer.send(b"\x80 still here")
    await until(lambda: session.received)
    assert mux.counters == {"receive_errors": 2}
    peer.close()
    await mux.close()


# Claims


@on_every_loop
async def test_an_address_of_one_call_cannot_be_taken_by_another() -> None:
    mux, bound, peer = await opened()
    victim, thief = Session(), Session()
    mux.register("vvvv", victim)
    mux.register("tttt", thief)
    assert mux.claim(bound, address_of(peer), victim)
    assert not mux.claim(bound, address_of(peer), thief)
    peer.send(check("tttt"))
    await until(lambda: mux.counters["address_of_another_call"])
    peer.send(b"\x80 media")
    await until(lambda: victim.received)
    assert thief.received == []
    # When the victim has fallen silent, whoever has the address now may have it.
    mux.set_replaceable(victim, True)
    peer.send(check("tttt"))
    await until(lambda: thief.received)
    assert mux.claim(bound, address_of(peer), thief)
    assert mux.counters == {"address_of_another_call": 1, "claims_refused": 1}
    peer.close()
    await mux.close()


@on_every_loop
async def test_sessions_of_one_call_hand_addresses_on() -> None:
    """The session of an ICE restart meets the peer where the old one has met it."""
    mux, bound, peer = await opened()
    old, new, call = Session(), Session(), object()
    mux.register("oooo", old, owner=call)
    mux.register("nnnn", new, owner=call)
    assert mux.claim(bound, address_of(peer), old)
    peer.send(check("nnnn"))
    await until(lambda: new.received)
    assert mux.claim(bound, address_of(peer), new)
    peer.send(b"\x80 media")
    await until(lambda: len(new.received) == 2)
    mux.leave(old)
    peer.send(b"\x80 media")
    await until(lambda: len(new.received) == 3)
    assert old.received == []
    peer.close()
    await mux.close()


@on_every_loop
async def test_what_a_session_can_occupy_is_bounded() -> None:
    mux, bound, peer = await opened()
    session = Session()
    mux.claim(bound, address_of(peer), session)
    for port in range(1, 3 * CLAIMS_PER_SESSION):
        mux.claim(bound, ("192.0.2.1", port), session)
        mux.claim(bound, address_of(peer), session)
    assert len(mux._claims[bound]) == CLAIMS_PER_SESSION
    assert mux.counters == {"claims_forgotten": 2 * CLAIMS_PER_SESSION}
    peer.send(b"\x80 of the address that is claimed again and again")
    await until(lambda: session.received)
    for _ in range(2 * TRANSACTIONS_PER_SESSION):
        mux.expect(transaction_id(), session)
    assert len(mux._expected) == TRANSACTIONS_PER_SESSION
    mux.leave(session)
    assert [len(table) for table in (mux._members, mux._expected, mux._claims[bound])] == [0, 0, 0]
    peer.close()
    await mux.close()


@on_every_loop
async def test_a_username_fragment_belongs_to_one_session() -> None:
    mux = await UdpMux.open(["127.0.0.1"])
    session = Session()
    mux.register("aaaa", session)
    mux.register("aaaa", session)
    with pytest.raises(ValueError, match="another session"):
        mux.register("aaaa", Session())
    mux.unregister("aaaa")
    mux.unregister("aaaa")
    mux.register("aaaa", Session())
    assert session not in mux._members
    await mux.close()


# Opening and closing


@on_every_loop
async def test_a_port_of_a_range_is_taken_until_none_is_left() -> None:
    first = await UdpMux.open(["127.0.0.1"])
    ports = range(first.port, first.port + 2)
    try:
        second = await UdpMux.open(["127.0.0.1"], ports)
    except OSError:
        pytest.skip("somebody else has the port behind the first")
    assert second.port == ports[1]
    with pytest.raises(
        OSError, match=rf"no UDP port is free on all of 127\.0\.0\.1: tried {ports[0]} to {ports[1]}"
    ):
        await UdpMux.open(["127.0.0.1"], ports)
    with pytest.raises(OSError, match=f"tried {first.port}"):
        await UdpMux.open(["127.0.0.2", "127.0.0.1"], first.port)
    await first.close()
    await second.close()


@on_every_loop
async def test_a_free_port_is_looked_for_until_it_is_free_on_every_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals = 3
    bind: Callable[..., socket.socket] = sockets_module._bind

    def taken(family: Any, sockaddr: Any, port: int) -> socket.socket:
        nonlocal refusals
        if port and refusals:
            refusals -= 1
            raise OSError(errno.EADDRINUSE, "taken")
        return bind(family, sockaddr, port)

    monkeypatch.setattr(sockets_module, "_bind", taken)
    mux = await UdpMux.open(ADDRESSES)
    assert refusals == 0
    assert len({each.address[1] for each in mux.sockets}) == 1
    await mux.close()


@on_every_loop
async def test_addresses_that_this_machine_lacks_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    mux = await UdpMux.open(["203.0.113.7", "127.0.0.1"])
    assert [each.address[0] for each in mux.sockets] == ["127.0.0.1"]
    assert "no candidate on 203.0.113.7" in caplog.text
    await mux.close()
    with pytest.raises(
        OSError, match=r"none of the addresses can be used: 203\.0\.113\.7: .+; 2001:db8::7: .+"
    ):
        await UdpMux.open(["203.0.113.7", "2001:db8::7"])


@on_every_loop
async def test_what_is_no_address_or_port_is_refused() -> None:
    for addresses, port in (
        ([], 0),
        (["localhost"], 0),
        (["127.0.0.1"], 65536),
        (["127.0.0.1"], -1),
        (["127.0.0.1"], range(0, 5)),
        (["127.0.0.1"], range(5, 5)),
    ):
        with pytest.raises(ValueError, match=r".+"):
            await UdpMux.open(addresses, port)


@on_every_loop
async def test_a_shared_mux_closes_with_its_last_user() -> None:
    first = await UdpMux.shared(["127.0.0.1"])
    assert await UdpMux.shared(["127.0.0.1"]) is first
    other = await UdpMux.shared(["127.0.0.2"])
    own = await UdpMux.open(["127.0.0.1"])
    assert first not in (other, own)
    await first.close()
    assert not first.is_closed
    await first.close()
    assert first.is_closed
    again = await UdpMux.shared(["127.0.0.1"])
    assert again is not first
    for mux in (other, own, again):
        await mux.close()
        assert mux.is_closed
    assert UdpMux._shared == {}


def test_a_mux_is_shared_within_one_event_loop_only() -> None:
    async def left_open() -> UdpMux:
        return await UdpMux.shared(["127.0.0.1"])

    first = asyncio.run(left_open())

    async def second() -> None:
        # The first loop is gone, and this one may be where it was.
        UdpMux._shared[id(asyncio.get_running_loop()), ("127.0.0.1",), 0] = first
        mux = await UdpMux.shared(["127.0.0.1"])
        assert mux is not first
        await mux.close()

    asyncio.run(second())
    for bound in first.sockets:
        bound._socket.close()
    UdpMux._shared.clear()


# Sending


class FullSocket:
    """A socket whose buffer is full until it is emptied, and an event loop that waits for that."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = 0
        self.error: OSError | None = None
        self.on_writable: Callable[[], None] | None = None

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.1", 5000

    def sendto(self, data: bytes, destination: tuple[str, int]) -> None:
        if self.error is not None:
            raise self.error
        if not self.room:
            raise BlockingIOError
        self.room -= 1
        self.sent.append(data)

    def add_writer(self, opened: object, callback: Callable[[], None]) -> None:
        assert self.on_writable is None
        self.on_writable = callback

    def remove_writer(self, opened: object) -> None:
        self.on_writable = None

    def remove_reader(self, opened: object) -> None: ...

    def close(self) -> None: ...


def full() -> tuple[FullSocket, MuxSocket]:
    fake = FullSocket()
    return fake, MuxSocket(cast(Any, fake), Counter(), cast(Any, fake))


PEER = ("192.0.2.2", 6000)


def test_a_full_buffer_sheds_media_and_keeps_control_in_order() -> None:
    fake, bound = full()
    assert not bound.send(b"media 1", PEER, droppable=True)
    assert bound.send(b"check", PEER)
    fake.room = 1
    # There is room again, but what waits goes first, and media may not overtake it.
    assert not bound.send(b"media 2", PEER, droppable=True)
    assert bound.send(b"handshake", PEER)
    assert fake.on_writable is not None
    fake.on_writable()
    assert fake.sent == [b"check"]
    fake.room = 5
    fake.on_writable()
    assert fake.sent == [b"check", b"handshake"]
    assert fake.on_writable is None
    assert bound.send(b"media 3", PEER, droppable=True)
    assert bound.counters == {"media_shed": 2}


def test_what_waits_is_bounded() -> None:
    fake, bound = full()
    sent = [bound.send(b"%d" % number, PEER) for number in range(CONTROL_QUEUE_LENGTH + 5)]
    assert sent == [True] * CONTROL_QUEUE_LENGTH + [False] * 5
    assert bound.counters == {"control_shed": 5}
    bound.close()
    assert fake.on_writable is None


def test_errors_of_the_network_are_counted_and_lose_one_datagram() -> None:
    fake, bound = full()
    fake.error = OSError(errno.ENETUNREACH, "no network")
    assert not bound.send(b"lost", PEER)
    assert bound.is_cut_off
    fake.error, fake.room = None, 1
    assert bound.send(b"sent", PEER)
    assert not bound.is_cut_off
    assert bound.send(b"first", PEER)
    assert bound.send(b"second", PEER)
    fake.error = OSError(errno.EPERM, "not allowed")
    assert fake.on_writable is not None
    fake.on_writable()
    assert fake.on_writable is None
    assert bound.counters == {"send_errors": 3}
    assert not bound.is_cut_off


def test_names_are_not_asked_for_and_other_families_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    fake, bound = full()
    fake.room = 100
    for remote in (
        ("localhost", 1),
        ("x.local", 1),
        ("2001:db8::1", 1),
        ("192.0.2.1", 0),
        ("192.0.2.1", 65536),
        ("", 1),
    ):
        assert not bound.send(b"x", remote)
    assert bound.counters == {"bad_destinations": 6}
    for port in range(1, 2 * DESTINATIONS):
        fake.room = 1
        assert bound.send(b"x", ("192.0.2.1", port))
    assert len(bound._destinations) <= DESTINATIONS


# Beside aioice


@on_every_loop
async def test_aioice_connects_to_lite_agents_that_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    mux = await UdpMux.open(["127.0.0.1"])
    calls: list[tuple[LiteSession, aioice.Connection]] = []
    for controlling in (True, True, True, False):
        # The last believes that it is controlled, and is told better.
        session, peer = LiteSession(mux), aioice.Connection(controlling, stun_server=None)
        peer.remote_is_lite = True
        await peer.gather_candidates()
        local = session.agent.local_parameters
        peer.remote_username, peer.remote_password = local.username_fragment, local.password
        for candidate in session.candidates:
            await peer.add_remote_candidate(aioice.Candidate.from_sdp(candidate.to_sdp()))
        await peer.add_remote_candidate(None)
        remote = IceParameters(peer.local_username, peer.local_password)
        session.agent.start(remote, asyncio.get_running_loop().time())
        calls.append((session, peer))
    await asyncio.gather(*(peer.connect() for _, peer in calls))
    for number, (session, peer) in enumerate(calls):
        assert session.agent.state is IceState.CONNECTED
        await peer.send(b"\x80 from %d" % number)
        session.send(b"\x80 to %d" % number)
        assert await peer.recv() == b"\x80 to %d" % number
    await until(lambda: all(session.received for session, _ in calls))
    assert [session.received for session, _ in calls] == [[b"\x80 from %d" % number] for number in range(4)]
    assert calls[3][0].agent.counters["role_conflicts"] >= 1
    assert mux.counters == Counter()
    await asyncio.gather(*(peer.close() for _, peer in calls))
    await mux.close()
