"""ICE transports on a network in memory: finding a path, in every order of what signaling brings."""

import asyncio
import itertools

import pytest
from aioice import stun

from mediapeer.ice import Candidate, GatheringState, IceOptions, IceParameters, IceServer, IceState, mux
from mediapeer.ice.checklist import PAIRS, REMOTE_CANDIDATES
from mediapeer.ice.full import PAC_TIMEOUT
from mediapeer.ice.transport import EARLY_DATAGRAMS, HELD_CANDIDATES
from tests.ice.pairs_of_transports import OURS, PEERS, End, close, connect, pair_of_ends, start
from tests.ice.virtual_sockets import timers_left, virtual_bind_all
from tests.transport.virtual import DELAY, Datagram, Network, until, virtual

ATTACKER = ("198.51.100.66", 6666)


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "bind_all", virtual_bind_all)


def checks_from(network: Network, host: str) -> list[stun.Message]:
    """The checks that a host has sent."""
    sent = [datagram.data for _, datagram in network.sent if datagram.source[0] == host]
    return [stun.parse_message(data) for data in sent if data[:2] == b"\x00\x01"]


def lite(address: str) -> IceOptions:
    return IceOptions(addresses=[address], lite=True)


async def exchange(a: End, b: End) -> None:
    """A datagram each way."""
    a.transport.send_datagram(b"\x80 from a")
    b.transport.send_datagram(b"\x80 from b")
    await asyncio.sleep(0.1)
    assert (a.received, b.received) == ([b"\x80 from b"], [b"\x80 from a"])


@virtual
async def test_two_full_agents_find_a_path_in_a_few_round_trips(network: Network) -> None:
    a, b = pair_of_ends()
    began = asyncio.get_running_loop().time()
    await connect(a, b)
    assert asyncio.get_running_loop().time() - began < 0.01
    assert a.states == b.states == [IceState.CHECKING, IceState.CONNECTED, IceState.COMPLETED]
    assert (a.transport.controlling, b.transport.controlling) == (True, False)
    await exchange(a, b)
    await close(a, b)
    assert a.states[-1] is b.states[-1] is IceState.CLOSED


@virtual
async def test_a_lite_agent_answers_and_sends_no_checks(network: Network) -> None:
    a, b = pair_of_ends(peers=lite(PEERS))
    assert b.transport.local_parameters.lite
    await connect(a, b)
    assert checks_from(network, OURS)
    assert not checks_from(network, PEERS)
    await exchange(a, b)
    pair = b.transport.selected_pair
    assert pair is not None
    assert (pair.packets_sent, pair.packets_received, pair.bytes_sent) == (1, 1, 8)
    await close(a, b)


@virtual
async def test_a_full_agent_is_controlling_towards_a_lite_one_whoever_offered(network: Network) -> None:
    a, b = pair_of_ends(peers=lite(PEERS), controlling=(False, True))
    await connect(a, b)
    assert a.transport.controlling
    assert not b.transport.counters["role_conflicts"]
    await exchange(a, b)
    await close(a, b)


@pytest.mark.parametrize("order", range(7))
def test_of_two_lite_agents_both_check(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends(lite(OURS), lite(PEERS))
        if order == 0:
            await connect(a, b)
        else:
            # The credentials come before the sockets are open, or while they are being opened.
            tasks = [asyncio.create_task(end.transport.gather()) for end in (a, b) if order > 1]
            for _ in range(order - 2):
                await asyncio.sleep(0)
            start(a, b)
            await asyncio.gather(*tasks, a.transport.gather(), b.transport.gather())
            await until(lambda: a.is_alive and b.is_alive)
        assert checks_from(network, OURS)
        assert checks_from(network, PEERS)
        assert a.transport.controlling != b.transport.controlling
        await exchange(a, b)
        await close(a, b)

    scenario()


@pytest.mark.parametrize("controlling", [True, False])
def test_a_conflict_of_roles_is_resolved(controlling: bool) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends(controlling=(controlling, controlling))
        await connect(a, b)
        assert a.transport.controlling != b.transport.controlling
        await exchange(a, b)
        roles = [a.transport.controlling, b.transport.controlling]
        for end in (a, b):
            end.transport.restart()
        assert [end.transport._newest.controlling for end in (a, b)] == roles
        await close(a, b)

    scenario()


ACTIONS = ("our candidates", "peer's candidates", "we start", "the peer starts")


@pytest.mark.parametrize("order", list(itertools.permutations(ACTIONS)), ids="-".join)
@pytest.mark.parametrize("end_of_candidates", [True, False])
def test_what_signaling_brings_may_come_in_every_order(
    order: tuple[str, ...], end_of_candidates: bool
) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends()
        a.peer = b.peer = None
        await asyncio.gather(a.transport.gather(), b.transport.gather())

        def tell(sender: End, receiver: End) -> None:
            for candidate in sender.candidates:
                receiver.transport.add_remote_candidate(candidate)
            if end_of_candidates:
                receiver.transport.add_remote_candidate(None)

        for action in order:
            match action:
                case "our candidates":
                    tell(a, b)
                case "peer's candidates":
                    tell(b, a)
                case "we start":
                    a.transport.start(b.transport.local_parameters)
                case "the peer starts":
                    b.transport.start(a.transport.local_parameters)
            await asyncio.sleep(0.3)
        await until(lambda: a.is_alive and b.is_alive, seconds=0.3)
        await exchange(a, b)
        await close(a, b)

    scenario()


@virtual
async def test_a_check_that_was_lost_just_before_the_peers_own_is_not_waited_for(network: Network) -> None:
    """A firewall opens by what the peer sends; aioice alone would repeat the check after half a second."""
    a, b = pair_of_ends()
    open_for: set[object] = set()

    def firewall(datagram: Datagram) -> list[float]:
        open_for.add((datagram.destination, datagram.source))
        return [DELAY] if (datagram.source, datagram.destination) in open_for else []

    network.route = firewall
    began = asyncio.get_running_loop().time()
    await connect(a, b)
    assert asyncio.get_running_loop().time() - began < 0.1
    await close(a, b)


@virtual
async def test_one_side_that_knows_no_candidates_learns_from_checks(network: Network) -> None:
    a, b = pair_of_ends()
    a.peer = None
    await connect(a, b)
    assert [candidate.type for candidate in b.transport.remote_candidates] == ["prflx"]
    # What is signalled later is the same candidate.
    b.transport.add_remote_candidate(a.candidates[0])
    assert [candidate.type for candidate in b.transport.remote_candidates] == ["host"]
    await close(a, b)


@virtual
async def test_host_candidates_come_at_once_and_the_path_does_not_wait_for_servers(network: Network) -> None:
    silent = IceServer(["stun:192.0.2.99", "stun:192.0.2.98"])
    a, b = pair_of_ends(IceOptions(addresses=[OURS], servers=[silent]))
    assert a.transport.local_parameters.password
    gathering = asyncio.create_task(a.transport.gather())
    await asyncio.sleep(0.001)
    assert [candidate.type for candidate in a.candidates] == ["host"]
    assert a.transport.gathering_state is GatheringState.GATHERING
    await b.transport.gather()
    start(a, b)
    await until(lambda: a.is_alive and b.is_alive, seconds=0.1)
    assert a.transport.state is IceState.CONNECTED
    began = asyncio.get_running_loop().time()
    await gathering
    assert asyncio.get_running_loop().time() - began < 5
    assert a.transport.gathering_state is GatheringState.COMPLETE
    assert a.transport.counters["servers_without_answer"] == 2
    a.transport.add_remote_candidate(None)
    assert a.transport.state is IceState.COMPLETED
    await close(a, b)


@virtual
async def test_a_datagram_that_is_ahead_of_the_path_is_kept_until_there_is_one(network: Network) -> None:
    """An answering browser checks us and sends its ClientHello before its answer has reached us."""
    a, b = pair_of_ends()
    await asyncio.gather(a.transport.gather(), b.transport.gather())
    b.transport.start(a.transport.local_parameters)
    await until(lambda: a.transport.pairs()[0].requests_received)
    for number in range(EARLY_DATAGRAMS + 3):
        network.inject(b"\x16%d" % number, b.address, a.address)
    assert a.received == []
    a.transport.start(b.transport.local_parameters)
    await until(lambda: a.is_alive)
    assert a.received == [b"\x16%d" % number for number in range(EARLY_DATAGRAMS)]
    assert a.transport.counters["early_datagrams_dropped"] == 3
    await close(a, b)


@virtual
async def test_what_is_not_from_a_checked_address_or_malformed_is_dropped(network: Network) -> None:
    a, b = pair_of_ends()
    await connect(a, b)
    network.inject(b"\x16 not from the peer", ATTACKER, a.address)
    # A Binding request whose PRIORITY has three bytes: aioice's unpacking raises struct.error on it.
    user = f"{a.transport.local_parameters.username_fragment}:x".encode().ljust(12, b":")
    broken = bytes.fromhex("0001001c2112a442") + bytes(12) + b"\x00\x06\x00\x0c" + user[:12]
    broken += bytes.fromhex("0024000300000000") + bytes.fromhex("80220000")
    for data in (b"", b"\x00", b"\x01\x01", broken):
        network.inject(data, b.address, a.address)
    b.transport.send_datagram(b"\x16 still here")
    await asyncio.sleep(0.1)
    assert a.received == [b"\x16 still here"]
    assert a.is_alive
    await close(a, b)


@virtual
async def test_a_check_with_a_wrong_password_opens_nothing_and_is_not_answered(network: Network) -> None:
    a, b = pair_of_ends()
    await a.transport.gather()
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{a.transport.local_parameters.username_fragment}:anybody"
    request.attributes["PRIORITY"] = 1
    request.add_message_integrity(b"a guess")
    network.inject(bytes(request), ATTACKER, a.address)
    network.inject(b"\x16 ClientHello", ATTACKER, a.address)
    await asyncio.sleep(0.1)
    assert a.transport.counters["unauthenticated_checks"] == 1
    assert network.sent == []
    assert a.transport.remote_candidates == []
    assert a.received == []
    await close(a, b)


@virtual
async def test_an_answer_that_somebody_else_repeats_does_not_fail_a_check(network: Network) -> None:
    a, b = pair_of_ends()
    deliver = network.route

    def route(datagram: object) -> list[float]:
        if getattr(datagram, "source", None) == b.address and datagram.data[:2] == b"\x01\x01":  # type: ignore[attr-defined]
            network.inject(datagram.data, ATTACKER, a.address)  # type: ignore[attr-defined]
        return deliver(datagram)  # type: ignore[arg-type]

    network.route = route  # type: ignore[assignment]
    await connect(a, b)
    assert a.transport.counters["answers_from_elsewhere"] >= 1
    await close(a, b)


@virtual
async def test_without_any_answer_ice_fails_after_the_pac_timer(network: Network) -> None:
    a, b = pair_of_ends()
    await a.transport.gather()
    began = asyncio.get_running_loop().time()
    a.transport.start(IceParameters.random())
    a.transport.add_remote_candidate(None)
    await until(lambda: a.transport.state is IceState.FAILED)
    assert PAC_TIMEOUT - 0.01 <= asyncio.get_running_loop().time() - began <= PAC_TIMEOUT + 1
    await close(a, b)


@virtual
async def test_a_refused_check_does_not_end_the_waiting_for_the_peers_own(network: Network) -> None:
    a, b = pair_of_ends()
    b.peer = None
    await asyncio.gather(a.transport.gather(), b.transport.gather())
    elsewhere = ("192.0.2.9", 9)
    a.transport.add_remote_candidate(Candidate.from_sdp("1 1 udp 1 192.0.2.9 9 typ host"))
    a.transport.add_remote_candidate(None)
    a.transport.start(b.transport.local_parameters)
    await asyncio.sleep(0.1)
    [check] = [datagram.data for _, datagram in network.sent if datagram.destination == elsewhere]
    refusal = stun.Message(stun.Method.BINDING, stun.Class.ERROR, check[8:20])
    refusal.attributes["ERROR-CODE"] = (500, "Server Error")
    refusal.add_message_integrity(b.transport.local_parameters.password.encode())
    network.inject(bytes(refusal), elsewhere, a.address)
    await asyncio.sleep(10)
    assert a.transport.pairs()[0].state == "failed"
    b.transport.start(a.transport.local_parameters)
    await until(lambda: a.is_alive and b.is_alive)
    await close(a, b)


@virtual
async def test_a_peer_that_insists_on_both_roles_is_not_argued_with(network: Network) -> None:
    a, b = pair_of_ends()
    await a.transport.gather()
    password = b.transport.local_parameters.password.encode()
    elsewhere = ("192.0.2.9", 9)

    def route(datagram: object) -> list[float]:
        if datagram.destination == elsewhere:  # type: ignore[attr-defined]
            refusal = stun.Message(stun.Method.BINDING, stun.Class.ERROR, datagram.data[8:20])  # type: ignore[attr-defined]
            refusal.attributes["ERROR-CODE"] = (487, "Role Conflict")
            refusal.add_message_integrity(password)
            asyncio.get_running_loop().call_later(0.001, network.inject, bytes(refusal), elsewhere, a.address)
        return []

    network.route = route  # type: ignore[assignment]
    a.transport.add_remote_candidate(Candidate.from_sdp("1 1 udp 1 192.0.2.9 9 typ host"))
    a.transport.start(b.transport.local_parameters)
    await asyncio.sleep(5)
    assert len(network.sent) == 3
    await close(a, b)


@virtual
async def test_candidates_of_no_use_are_counted_and_ignored(network: Network) -> None:
    a, b = pair_of_ends(IceOptions(addresses=[OURS], resolve_mdns=False))
    for text in (
        "1 1 tcp 1 192.0.2.9 9 typ host tcptype active",
        "1 2 udp 1 192.0.2.9 9 typ host",
        "1 1 udp 1 192.0.2.9 9 typ strange",
        "1 1 udp 1 0b5d4a8e-4f0e-4a9c-8e7f-6a2f0a7c9d11.local 9 typ host",
        "1 1 udp 1 example.com 9 typ host",
        "1 1 udp 1 224.0.0.1 9 typ host",
        "1 1 udp 1 0.0.0.0 9 typ host",
    ):
        a.transport.add_remote_candidate(Candidate.from_sdp(text))
    assert a.transport.counters == {
        "tcp_candidates": 1,
        "candidates_of_other_components": 1,
        "candidates_of_unknown_type": 1,
        "mdns_candidates": 1,
        "candidates_with_names": 1,
        "candidates_of_no_host": 2,
    }
    await connect(a, b)
    await close(a, b)


@virtual
async def test_a_peer_cannot_make_us_keep_candidates_and_pairs_without_end(network: Network) -> None:
    a, b = pair_of_ends(IceOptions(addresses=[OURS, "192.0.2.11", "192.0.2.12"]))
    await a.transport.gather()
    for port in range(1, REMOTE_CANDIDATES + 21):
        a.transport.add_remote_candidate(
            Candidate.from_sdp(f"{port} 1 udp 2113937151 192.0.2.9 {port} typ host")
        )
    assert len(a.transport.remote_candidates) == REMOTE_CANDIDATES
    assert len(a.transport.pairs()) == PAIRS
    assert a.transport.counters["too_many_candidates"] == 20
    await close(a, b)


@virtual
async def test_a_peer_that_checks_from_ever_new_addresses_stays_bounded(network: Network) -> None:
    a, b = pair_of_ends()
    await connect(a, b)
    ours, theirs = a.transport.local_parameters, b.transport.local_parameters

    def check_from(port: int) -> None:
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{ours.username_fragment}:{theirs.username_fragment}"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLED"] = 1
        request.add_message_integrity(ours.password.encode())
        network.inject(bytes(request), ("198.51.100.1", port), a.address)

    for port in range(1000, 1300):
        check_from(port)
    assert len(a.transport.remote_candidates) == REMOTE_CANDIDATES
    assert a.transport.counters["too_many_candidates"] == 201
    # Later, one that has long been silent makes room.
    await asyncio.sleep(15)
    check_from(2000)
    assert len(a.transport.remote_candidates) == REMOTE_CANDIDATES
    assert any(candidate.port == 2000 for candidate in a.transport.remote_candidates)
    assert a.is_alive
    await close(a, b)


@virtual
async def test_candidates_wait_for_the_credentials_that_they_name(network: Network) -> None:
    a, b = pair_of_ends()
    b.peer = None
    await connect(a, b)
    coming = IceParameters.random()
    for port in range(1, HELD_CANDIDATES + 3):
        text = f"1 1 udp 1 192.0.2.9 {port} typ host ufrag {coming.username_fragment}"
        a.transport.add_remote_candidate(Candidate.from_sdp(text))
    assert a.transport.counters["too_many_candidates"] == 2
    assert all(candidate.host != "192.0.2.9" for candidate in a.transport.remote_candidates)
    a.transport.restart()
    a.transport.start(coming)
    assert [candidate.port for candidate in a.transport.remote_candidates] == list(
        range(1, REMOTE_CANDIDATES + 1)
    )
    await close(a, b)


@virtual
async def test_many_transports_share_a_port_and_each_gets_its_own(network: Network) -> None:
    shared = IceOptions(addresses=[OURS], port=50000)
    pairs = []
    for number in range(20):
        a = End(OURS, controlling=False, options=shared)
        b = End(f"192.0.2.{100 + number}", controlling=True)
        a.peer, b.peer = b, a
        pairs.append((a, b))
    await asyncio.gather(*(connect(a, b) for a, b in pairs))
    assert {a.address for a, _ in pairs} == {(OURS, 50000)}
    for number, (a, b) in enumerate(pairs):
        b.transport.send_datagram(b"\x80%d" % number)
        a.transport.send_datagram(b"\x81%d" % number)
    await asyncio.sleep(0.1)
    for number, (a, b) in enumerate(pairs):
        assert (a.received, b.received) == ([b"\x80%d" % number], [b"\x81%d" % number])
    await close(*(a for a, _ in pairs[1:]))
    assert (OURS, 50000) in network._sockets
    await close(pairs[0][0])
    assert (OURS, 50000) not in network._sockets
    await close(*(b for _, b in pairs))


@virtual
async def test_a_second_call_between_the_same_two_sockets_does_not_harm_the_first(network: Network) -> None:
    ours, peers = IceOptions(addresses=[OURS], port=50000), IceOptions(addresses=[PEERS], port=50000)
    a, b = pair_of_ends(ours, peers)
    await connect(a, b)
    c, d = pair_of_ends(ours, peers)
    await asyncio.gather(c.transport.gather(), d.transport.gather())
    start(c, d)
    await asyncio.sleep(5)
    assert not c.is_alive
    assert not d.is_alive
    await exchange(a, b)
    # When the first is over there is room for the second.
    await close(a, b)
    await until(lambda: c.is_alive and d.is_alive, seconds=35)
    await exchange(c, d)
    await close(c, d)


@virtual
async def test_a_mux_that_was_given_stays_open(network: Network) -> None:
    given = await mux.UdpMux.open([OURS])
    a, b = pair_of_ends(IceOptions(mux=given))
    await connect(a, b)
    await close(a, b)
    assert not given.is_closed
    assert not given._members
    await given.close()


@virtual
async def test_candidates_carry_the_public_address_of_a_one_to_one_nat(network: Network) -> None:
    options = IceOptions(addresses=[OURS, "2001:db8::1"], public_addresses={OURS: "203.0.113.1"})
    a, b = pair_of_ends(options)
    await a.transport.gather()
    assert [candidate.host for candidate in a.candidates] == ["203.0.113.1", "2001:db8::1"]
    await close(a, b)


@virtual
async def test_ipv6_alone_will_do(network: Network) -> None:
    a, b = pair_of_ends(IceOptions(addresses=["2001:db8::1"]), IceOptions(addresses=["2001:db8::2", PEERS]))
    await connect(a, b)
    await exchange(a, b)
    await close(a, b)


@virtual
async def test_an_address_that_cannot_be_used_is_an_error(network: Network) -> None:
    a = End("203.0.113.255", controlling=True)
    with pytest.raises(OSError, match="none of the addresses"):
        await a.transport.gather()
    await close(a)


@virtual
async def test_an_exception_in_a_callback_ends_nothing(network: Network) -> None:
    a, b = pair_of_ends()

    def fail(argument: object) -> None:
        raise RuntimeError("a mistake in the program")

    for end in (a, b):
        end.transport.on_state = fail
        end.transport.on_gathering = fail
    a.transport.on_datagram = fail
    await connect(a, b)
    b.transport.send_datagram(b"\x80 into the mistake")
    await asyncio.sleep(0.1)
    assert a.is_alive
    assert a.transport.counters["callbacks_failed"] >= 4
    await close(a, b)


@pytest.mark.parametrize(
    "moment", ["new", "gathering", "gathered", "checking", "connected", "restarting", "told"]
)
def test_closing_leaves_nothing_at_any_moment(moment: str) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        silent = IceServer(["stun:192.0.2.99"])
        a, b = pair_of_ends(IceOptions(addresses=[OURS], servers=[silent]))
        loop = asyncio.get_running_loop()
        if moment == "told":
            a.transport.on_state = lambda state: (
                None
                if a.transport._closing
                else (
                    tasks.append(asyncio.ensure_future(a.transport.close()))
                    if state is IceState.CONNECTED
                    else None
                )
            )
        tasks: list[asyncio.Future[None]] = []
        gathering = None
        if moment != "new":
            gathering = asyncio.create_task(a.transport.gather())
            await asyncio.sleep(0.1)
        if moment not in ("new", "gathering"):
            await b.transport.gather()
        if moment == "checking":
            network.route = lambda datagram: []
        if moment in ("checking", "connected", "restarting", "told"):
            start(a, b)
            await asyncio.sleep(1)
        if moment == "restarting":
            a.transport.restart()
            a.transport.start(IceParameters.random())
            await asyncio.sleep(0.1)
        await asyncio.gather(close(a, a, b), close(a), *tasks)
        if gathering is not None:
            await asyncio.gather(gathering, return_exceptions=True)
        assert a.transport.state is IceState.CLOSED
        assert network._sockets == {}
        await asyncio.sleep(0)
        mine = asyncio.current_task()
        assert {task for task in asyncio.all_tasks() if task is not mine} == set()
        # What is left belongs to the test's own time limit.
        assert len(timers_left(loop)) == 1
        with pytest.raises(ConnectionError):
            a.transport.send_datagram(b"\x80 too late")

    scenario()


@pytest.mark.parametrize(
    "options",
    [
        {"addresses": []},
        {"addresses": ["localhost"]},
        {"port": -1},
        {"port": 65536},
        {"port": range(0, 10)},
        {"port": range(10, 10)},
        {"public_addresses": {"192.0.2.1": "example.com"}},
        {"lite": True, "relay_only": True},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        IceOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stun:example.com", ("example.com", 3478, False, "udp", False)),
        ("turn:example.com:80", ("example.com", 80, True, "udp", False)),
        ("turn:[2001:db8::1]:80?transport=TCP", ("2001:db8::1", 80, True, "tcp", False)),
        ("turns:example.com", ("example.com", 5349, True, "tcp", True)),
    ],
)
def test_server_urls_are_read(url: str, expected: tuple[object, ...]) -> None:
    [address] = IceServer([url], "user", "password").addresses()
    assert (address.host, address.port, address.is_turn, address.transport, address.tls) == expected


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "stun:", "stun:example.com:0", "stun:example.com:70000", "stuns:example.com",
     "turns:example.com?transport=udp", "turn:example.com?transport=sctp", "turn:user@example.com"],
)  # fmt: skip
def test_server_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"STUN|TURN|port"):
        IceServer([url], "user", "password")


def test_a_turn_server_needs_a_credential_and_does_not_show_it() -> None:
    with pytest.raises(ValueError, match="credential"):
        IceServer(["turn:example.com"])
    assert "secret" not in repr(IceServer(["turn:example.com"], "user", "secret"))
    assert "secret" not in repr(IceOptions(servers=[IceServer(["turn:example.com"], "user", "secret")]))
