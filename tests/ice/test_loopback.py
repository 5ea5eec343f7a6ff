"""ICE transports on real sockets: aioice as the peer, STUN and TURN servers, a relay that changes addresses."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aioice
import aioice.ice
import pytest
from aioice import stun

from mediapeer.ice import Candidate, IceOptions, IceServer, IceState, IceTransport
from mediapeer.ice.bases import to_aioice
from mediapeer.ice.mdns import MdnsResolver
from tests.ice.pairs_of_transports import ALIVE, End, Flow, close, connect, restart, start
from tests.peer.turn import PASSWORD, USER, TurnServer
from tests.tools.udp import free_port

LOOPBACK = "127.0.0.1"


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Let the event loop run until ``condition`` holds.

    :param seconds: how long at most; on a busy machine a change may take some consent checks to be seen.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def loopback_ends(ours: IceOptions | None = None, peers: IceOptions | None = None) -> tuple[End, End]:
    a = End(LOOPBACK, controlling=True, options=ours)
    b = End(LOOPBACK, controlling=False, options=peers)
    a.peer, b.peer = b, a
    return a, b


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """After this, no task, descriptor or timer more than before."""
    loop = asyncio.get_running_loop()
    descriptors = len(os.listdir("/proc/self/fd"))
    tasks = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
    assert timers == []


async def exchange(a: End, b: End) -> None:
    """A datagram each way."""
    a.received.clear()
    b.received.clear()
    a.transport.send_datagram(b"\x80 from a")
    b.transport.send_datagram(b"\x80 from b")
    await until(lambda: a.received and b.received)
    assert (a.received, b.received) == ([b"\x80 from b"], [b"\x80 from a"])


@pytest.mark.parametrize(
    ("ours_lite", "peers_lite"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_a_call_with_a_restart_leaves_nothing(ours_lite: bool, peers_lite: bool) -> None:
    async def scenario() -> None:
        async with nothing_left():
            a, b = loopback_ends(
                IceOptions(addresses=[LOOPBACK], lite=ours_lite),
                IceOptions(addresses=[LOOPBACK], lite=peers_lite),
            )
            await connect(a, b)
            await exchange(a, b)
            flows = [Flow(a, b), Flow(b, a)]
            await asyncio.sleep(0.05)
            await restart(b, a)
            await until(lambda: a.transport._next is None and b.transport._next is None)
            await asyncio.sleep(0.05)
            for flow in flows:
                got, count = await flow.stop()
                assert got == list(range(count))
            await close(a, b)

    asyncio.run(scenario())


def test_both_families_and_many_transports_on_one_port() -> None:
    async def scenario() -> None:
        async with nothing_left():
            port = free_port()
            shared = IceOptions(addresses=[LOOPBACK, "::1"], port=port, lite=True)
            pairs = [
                loopback_ends(shared, IceOptions(addresses=[["::1"], [LOOPBACK]][n % 2])) for n in range(10)
            ]
            await asyncio.gather(*(connect(a, b) for a, b in pairs))
            assert {a.transport.local_candidates[0].port for a, _ in pairs} == {port}
            for a, b in pairs:
                await exchange(a, b)
            await close(*(end for pair in pairs for end in pair))

    asyncio.run(scenario())


@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize("controlling", [False, True])
def test_aioice_is_a_peer(lite: bool, controlling: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [LOOPBACK])

    async def scenario() -> None:
        end = End(LOOPBACK, controlling=controlling, options=IceOptions(addresses=[LOOPBACK], lite=lite))
        peer = aioice.Connection(ice_controlling=not controlling or lite)
        peer.remote_is_lite = lite
        await asyncio.gather(end.transport.gather(), peer.gather_candidates())
        ours = end.transport.local_parameters
        peer.remote_username, peer.remote_password = ours.username_fragment, ours.password
        for candidate in end.candidates:
            await peer.add_remote_candidate(to_aioice(candidate))
        await peer.add_remote_candidate(None)
        for theirs in peer.local_candidates:
            end.transport.add_remote_candidate(Candidate.from_sdp(theirs.to_sdp()))
        end.transport.add_remote_candidate(None)
        end.transport.start(type(ours)(peer.local_username, peer.local_password))
        await peer.connect()
        await until(lambda: end.transport.state in ALIVE)
        await peer.send(b"\x80 from aioice")
        await until(lambda: end.received)
        end.transport.send_datagram(b"\x80 from us")
        assert await peer.recv() == b"\x80 from us"
        await peer.close()
        await end.transport.close()

    asyncio.run(scenario())


# Servers


class StunServer(asyncio.DatagramProtocol):
    """Answers as if a NAT had mapped the sender to another address."""

    def __init__(self, mapped: str) -> None:
        self.mapped = mapped
        self.requests = 0

    @classmethod
    async def start(cls, host: str, mapped: str) -> "StunServer":
        loop = asyncio.get_running_loop()
        _, server = await loop.create_datagram_endpoint(lambda: cls(mapped), local_addr=(host, 0))
        return server

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.requests += 1
        request = stun.parse_message(data)
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = (self.mapped, addr[1])
        self.transport.sendto(bytes(answer), addr)


def test_stun_servers_of_both_families_tell_reflexive_candidates_once() -> None:
    async def scenario() -> None:
        async with nothing_left():
            servers = [
                await StunServer.start(LOOPBACK, "198.51.100.1"),
                await StunServer.start(LOOPBACK, "198.51.100.1"),
                await StunServer.start("::1", "2001:db8::1"),
            ]
            urls = [
                f"stun:{host}:{server.port}"
                for host, server in zip([LOOPBACK, LOOPBACK, "[::1]"], servers, strict=True)
            ]
            end = End(
                controlling=True, options=IceOptions(addresses=[LOOPBACK, "::1"], servers=[IceServer(urls)])
            )
            async with asyncio.timeout(4):
                await end.transport.gather()
            reflexive = [candidate for candidate in end.candidates if candidate.type == "srflx"]
            assert sorted(candidate.host for candidate in reflexive) == ["198.51.100.1", "2001:db8::1"]
            assert {(c.related_address, c.related_port) for c in reflexive} == {
                (c.host, c.port) for c in end.candidates if c.type == "host"
            }
            assert all(server.requests == 1 for server in servers)
            assert all(
                c.extensions["ufrag"] == end.transport.local_parameters.username_fragment
                for c in end.candidates
            )
            await close(end)
            for server in servers:
                server.transport.close()
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_servers_that_refuse_or_do_not_exist_cost_no_call() -> None:
    async def scenario() -> None:
        async with nothing_left():
            server = await TurnServer.start()
            bad = [
                IceServer([f"turn:{LOOPBACK}:{server.port}"], USER, "wrong"),
                IceServer([f"turn:{LOOPBACK}:{free_port()}?transport=tcp"], USER, PASSWORD),
                IceServer([f"turns:{LOOPBACK}:{free_port()}"], USER, PASSWORD),
            ]
            a, b = loopback_ends(IceOptions(addresses=[LOOPBACK], servers=bad))
            await connect(a, b)
            assert a.transport.counters["servers_failed"] == 3
            await exchange(a, b)
            await close(a, b)
            server.close()
            await asyncio.sleep(0)

    asyncio.run(scenario())


@asynccontextmanager
async def tcp_front(server: TurnServer) -> AsyncIterator[int]:
    """A TCP port before a TURN server on UDP: messages are framed by their lengths (RFC 8656 §2.1)."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                writer.write(data + bytes(-len(data) % 4))

        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        back, _ = await loop.create_datagram_endpoint(Back, remote_addr=(LOOPBACK, server.port))
        try:
            while True:
                head = await reader.readexactly(4)
                length = int.from_bytes(head[2:])
                rest = await reader.readexactly((length if head[0] & 0x40 else length + 16) + -length % 4)
                back.sendto(head + rest[: len(rest) - (-length % 4) or None])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            back.close()
            writer.close()

    front = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        front.close()
        await front.wait_closed()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_relay_only_sends_everything_by_the_turn_server(transport: str) -> None:
    async def scenario() -> None:
        async with nothing_left():
            server = await TurnServer.start()
            async with tcp_front(server) as tcp_port:
                port = server.port if transport == "udp" else tcp_port
                turn = IceServer([f"turn:{LOOPBACK}:{port}?transport={transport}"], USER, PASSWORD)
                a, b = loopback_ends(IceOptions(addresses=[LOOPBACK], servers=[turn], relay_only=True))
                await connect(a, b)
                assert [candidate.type for candidate in a.candidates] == ["relay"]
                assert a.candidates[0].related_address == "0.0.0.0"  # noqa: S104
                before = server.relayed_datagrams
                await exchange(a, b)
                assert server.relayed_datagrams == before + 2
                # Media makes no task per datagram.
                tasks = len(asyncio.all_tasks())
                for _ in range(200):
                    a.transport.send_datagram(b"\x80 media", droppable=True)
                assert len(asyncio.all_tasks()) == tasks
                await until(lambda: len(b.received) >= 200)
                await close(a, b)
            server.close()
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_direct_path_is_preferred_to_a_relayed_one() -> None:
    async def scenario() -> None:
        server = await TurnServer.start()
        turn = IceServer([f"turn:{LOOPBACK}:{server.port}"], USER, PASSWORD)
        a, b = loopback_ends(IceOptions(addresses=[LOOPBACK], servers=[turn]))
        b.peer = None
        # The relayed pair is there first.
        a.transport.options.relay_only = True
        await asyncio.gather(a.transport.gather(), b.transport.gather())
        for candidate in b.candidates:
            a.transport.add_remote_candidate(candidate)
        start(a, b)
        await until(lambda: a.transport.state in ALIVE)
        assert a.transport.selected_pair is not None
        assert a.transport.selected_pair.local.type == "relay"
        mux = await a.transport._open_mux()
        assert mux is not None
        a.transport._add_hosts(a.transport._current, mux)
        await until(lambda: a.transport.selected_pair.local.type == "host")  # type: ignore[union-attr]
        await until(lambda: b.transport.selected_pair.remote.type == "host")  # type: ignore[union-attr]
        await exchange(a, b)
        await close(a, b)
        server.close()

    asyncio.run(scenario())


def test_a_turn_server_learns_no_address_that_hides_behind_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(self: MdnsResolver, name: str) -> list[str]:
        return [LOOPBACK]

    monkeypatch.setattr(MdnsResolver, "resolve", resolve)

    async def scenario() -> None:
        server = await TurnServer.start()
        turn = IceServer([f"turn:{LOOPBACK}:{server.port}"], USER, PASSWORD)
        end = End(controlling=True, options=IceOptions(addresses=[LOOPBACK], servers=[turn]))
        await end.transport.gather()
        hidden = "1 1 udp 1 0b5d4a8e-4f0e-4a9c-8e7f-6a2f0a7c9d11.local 9 typ host"
        end.transport.add_remote_candidate(Candidate.from_sdp(hidden))
        end.transport.add_remote_candidate(Candidate.from_sdp(f"1 1 udp 1 {LOOPBACK} 10 typ host"))
        await until(lambda: len(end.transport.pairs()) == 3)
        assert {(pair.local.type, pair.remote.port) for pair in end.transport.pairs()} == {
            ("host", 9),
            ("host", 10),
            ("relay", 10),
        }
        await end.transport.close()
        server.close()

    asyncio.run(scenario())


def test_a_turn_server_that_is_gone_does_not_hold_up_closing() -> None:
    async def scenario() -> None:
        server = await TurnServer.start()
        turn = IceServer([f"turn:{LOOPBACK}:{server.port}"], USER, PASSWORD)
        a, b = loopback_ends(IceOptions(servers=[turn], relay_only=True))
        await connect(a, b)
        server.close()
        began = asyncio.get_running_loop().time()
        await close(a, b)
        assert asyncio.get_running_loop().time() - began < 5

    asyncio.run(scenario())


class ChangingRelay(asyncio.DatagramProtocol):
    """Stands between a client and one server; the client seems to be wherever the newest outer socket is."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.client: Any = None
        self.outer: Any = None
        self.old: list[Any] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.client = addr
        if self.outer is not None:
            self.outer.sendto(data, self.server)

    async def change(self) -> None:
        """From now on the client has another address, and the old one leads nowhere."""
        relay = self

        class Outer(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                if relay.client is not None:
                    relay.transport.sendto(data, relay.client)

        if self.outer is not None:
            self.outer.close()
        self.outer, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Outer, local_addr=(LOOPBACK, 0)
        )


@pytest.mark.parametrize("lite", [False, True])
def test_an_address_that_changes_under_way_is_followed(lite: bool) -> None:
    async def scenario() -> None:
        a, b = loopback_ends(IceOptions(addresses=[LOOPBACK], lite=lite))
        a.peer = b.peer = None
        await asyncio.gather(a.transport.gather(), b.transport.gather())
        loop = asyncio.get_running_loop()
        _, relay = await loop.create_datagram_endpoint(
            lambda: ChangingRelay(a.address), local_addr=(LOOPBACK, 0)
        )
        await relay.change()
        port = relay.transport.get_extra_info("sockname")[1]
        b.transport.add_remote_candidate(Candidate.from_sdp(f"1 1 udp 2113937151 {LOOPBACK} {port} typ host"))
        start(a, b)
        await until(lambda: a.is_alive and b.is_alive)
        await exchange(a, b)
        before = a.transport.selected_pair
        flows = [Flow(a, b), Flow(b, a)]
        await asyncio.sleep(0.1)
        await relay.change()
        changed = loop.time()
        await until(lambda: a.transport.selected_pair is not before, seconds=8)
        await until(lambda: all(flow.last_arrival > changed + 0.2 for flow in flows))
        for flow in flows:
            await flow.stop()
        assert IceState.FAILED not in a.states
        await close(a, b)
        relay.outer.close()
        relay.transport.close()

    asyncio.run(scenario())


def test_two_hundred_transports_leave_nothing() -> None:
    async def scenario() -> None:
        async with nothing_left():
            for _ in range(10):
                pairs = [loopback_ends(peers=IceOptions(addresses=[LOOPBACK], lite=True)) for _ in range(10)]
                await asyncio.gather(*(connect(a, b) for a, b in pairs))
                await close(*(end for pair in pairs for end in pair))

    asyncio.run(scenario())


def test_addresses_none_means_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediapeer.ice.gathering.host_addresses", lambda: [LOOPBACK])

    async def scenario() -> None:
        transport = IceTransport(IceOptions(), controlling=True)
        await transport.gather()
        assert [candidate.host for candidate in transport.local_candidates] == [LOOPBACK]
        await transport.close()

    asyncio.run(scenario())
