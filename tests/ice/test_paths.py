"""What becomes of a path: silence, loss, moves of the peer, and ICE restarts. On a network in memory."""

import asyncio
import errno
import itertools

import pytest
from aioice import stun

from mediapeer.ice import Candidate, IceOptions, IceParameters, IceState, mux
from mediapeer.ice.liveness import CONSENT_LIFETIME
from mediapeer.ice.transport import LINGER
from tests.ice.pairs_of_transports import OURS, PEERS, End, Flow, close, connect, pair_of_ends, restart, start
from tests.ice.virtual_sockets import Nat, VirtualUdp, virtual_bind_all
from tests.transport.virtual import DELAY, Address, Datagram, Network, until, virtual

KINDS = [("full", "full"), ("full", "lite"), ("lite", "full")]


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "bind_all", virtual_bind_all)


def options(kind: str, *addresses: str) -> IceOptions:
    return IceOptions(addresses=addresses, lite=kind == "lite")


def ends(kinds: tuple[str, str]) -> tuple[End, End]:
    return pair_of_ends(options(kinds[0], OURS), options(kinds[1], PEERS))


def cut(network: Network, victim: Address | None = None) -> None:
    """Lose everything from now on, or everything that ``victim`` sends."""
    network.route = lambda datagram: [] if victim in (None, datagram.source) else [DELAY]


def mend(network: Network) -> None:
    network.route = lambda datagram: [DELAY]


def lose(gone: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be sent from addresses that are ``gone``, nor anything arrive there."""
    send = VirtualUdp.sendto

    def sendto(opened: VirtualUdp, data: bytes, destination: Address) -> None:
        if opened.getsockname()[0] in gone:
            raise OSError(errno.ENETUNREACH, "no network")
        if destination[0] not in gone:
            send(opened, data, destination)

    monkeypatch.setattr(VirtualUdp, "sendto", sendto)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_a_silent_peer_is_disconnected_within_five_seconds_and_comes_back(kinds: tuple[str, str]) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = ends(kinds)
        await connect(a, b)
        await asyncio.sleep(20)
        a.states.clear()
        silent_since = now()
        cut(network, victim=b.address)
        await until(lambda: a.transport.state is IceState.DISCONNECTED, seconds=5)
        assert now() - silent_since > 2
        await asyncio.sleep(8 - (now() - silent_since))
        mend(network)
        await until(lambda: a.is_alive, seconds=3)
        assert a.states[0] is IceState.DISCONNECTED
        assert IceState.FAILED not in a.states
        await close(a, b)

    scenario()


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_a_peer_that_stays_away_fails_after_thirty_seconds(kinds: tuple[str, str]) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = ends(kinds)
        await connect(a, b)
        await asyncio.sleep(7)
        silent_since = now()
        cut(network)
        await until(lambda: a.transport.state is IceState.FAILED)
        assert CONSENT_LIFETIME - 6 <= now() - silent_since <= CONSENT_LIFETIME + 0.1
        with pytest.raises(ConnectionError):
            a.transport.send_datagram(b"\x80 must not be sent")
        mend(network)
        network.sent.clear()
        ours, theirs = a.transport.local_parameters, b.transport.local_parameters
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{ours.username_fragment}:{theirs.username_fragment}"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLED" if a.transport.controlling else "ICE-CONTROLLING"] = 1
        request.add_message_integrity(ours.password.encode())
        network.inject(bytes(request), b.address, a.address)
        await asyncio.sleep(40)
        assert a.transport.state is IceState.FAILED
        assert all(datagram.source != a.address for _, datagram in network.sent)
        await close(a, b)

    scenario()


@virtual
async def test_media_that_is_heard_connects_again_at_once(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    cut(network)
    await asyncio.sleep(8)
    assert a.transport.state is IceState.DISCONNECTED
    a.transport.heard()
    assert a.is_alive
    await close(a, b)


@virtual
async def test_while_media_flows_consent_is_asked_for_at_most_every_four_seconds(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    await asyncio.sleep(0.1)
    network.sent.clear()
    flows = [Flow(a, b), Flow(b, a)]
    await asyncio.sleep(30)
    times = [time for time, sent in network.sent if sent.source == a.address and sent.data[:2] == b"\x00\x01"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 4 <= len(gaps) <= 7
    assert all(4.0 <= gap <= 6.1 for gap in gaps)
    for flow in flows:
        await flow.stop()
    await close(a, b)


@virtual
async def test_answers_that_are_errors_do_not_make_us_ask_without_pause(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    password = b.transport.local_parameters.password.encode()
    loop = asyncio.get_running_loop()

    def refuse(datagram: Datagram) -> list[float]:
        if datagram.source == a.address and datagram.data[:2] == b"\x00\x01":
            refusal = stun.Message(stun.Method.BINDING, stun.Class.ERROR, datagram.data[8:20])
            refusal.attributes["ERROR-CODE"] = (500, "Server Error")
            refusal.add_message_integrity(password)
            loop.call_later(DELAY, network.inject, bytes(refusal), b.address, a.address)
        return []

    network.route = refuse
    network.sent.clear()
    await asyncio.sleep(20)
    assert len([sent for _, sent in network.sent if sent.source == a.address]) <= 50
    await close(a, b)


@pytest.mark.parametrize("seconds", [0.02, 0.08, 0.2, 0.7])
def test_the_round_trip_of_the_selected_pair_is_known(seconds: float) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        network.route = lambda datagram: [seconds]
        a, b = ends(("full", "full"))
        await connect(a, b)
        assert now() - 1000 < 6 * seconds + 0.1
        for end in (a, b):
            assert end.transport.round_trip_time == pytest.approx(2 * seconds, abs=0.001)
        pair = a.transport.selected_pair
        assert a.transport.pairs() == [pair]
        assert pair is not None
        assert pair.nominated
        assert pair.responses_received >= 2
        await close(a, b)

    scenario()


@virtual
async def test_the_round_trip_is_not_counted_from_when_the_peer_did_not_know_us(network: Network) -> None:
    a, b = ends(("full", "full"))
    await asyncio.gather(a.transport.gather(), b.transport.gather())
    network.route = lambda datagram: [] if datagram.destination == b.address else [0.02]
    a.transport.start(b.transport.local_parameters)
    await asyncio.sleep(2.7)
    network.route = lambda datagram: [0.02]
    b.transport.start(a.transport.local_parameters)
    await until(lambda: a.is_alive and b.is_alive, seconds=0.2)
    assert a.transport.round_trip_time == pytest.approx(0.04, abs=0.001)
    await close(a, b)


# Moves


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("controlling", [True, False])
def test_a_nat_that_maps_the_peer_anew_is_followed_after_one_check(
    kinds: tuple[str, str], controlling: bool
) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a = End(OURS, controlling=controlling, options=options(kinds[0], OURS))
        b = End(PEERS, controlling=not controlling, options=options(kinds[1], PEERS))
        b.peer = a
        await asyncio.gather(a.transport.gather(), b.transport.gather())
        # The NAT stands before the full agent: a lite one must be reachable.
        hidden, public = (a, b) if kinds[1] == "lite" else (b, a)
        nat = Nat(network, hidden.address, ("198.51.100.1", 1000))
        for candidate in public.candidates:
            hidden.transport.add_remote_candidate(candidate)
        start(a, b)
        await until(lambda: a.is_alive and b.is_alive)
        flows = [Flow(hidden, public), Flow(public, hidden)]
        await asyncio.sleep(3)
        a.states.clear()
        b.states.clear()
        nat.rebind(("198.51.100.1", 2000))
        # The hidden side notices after half a second that nothing comes, and checks; that is enough.
        await asyncio.sleep(3.5)
        selected = public.transport.selected_pair
        assert selected is not None
        assert (selected.remote.host, selected.remote.port) == ("198.51.100.1", 2000)
        for flow in flows:
            assert flow.gap < 1.1
            assert flow.last_arrival > now() - 0.02
            await flow.stop()
        assert a.states == b.states == []
        await close(a, b)

    scenario()


def two_homed(kinds: tuple[str, str], controlling: bool) -> tuple[End, End]:
    """One end with two addresses (Wi-Fi and mobile), the other with one."""
    a = End(OURS, controlling=controlling, options=options(kinds[0], OURS))
    b = End(PEERS, controlling=not controlling, options=options(kinds[1], PEERS, "198.51.100.2"))
    a.peer, b.peer = b, a
    return a, b


@pytest.mark.parametrize("kinds", [("full", "full"), ("lite", "full")], ids="-".join)
@pytest.mark.parametrize("controlling", [True, False])
def test_a_peer_with_another_address_goes_on_over_it(kinds: tuple[str, str], controlling: bool) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = two_homed(kinds, controlling)
        await connect(a, b)
        flows = [Flow(a, b), Flow(b, a)]
        await asyncio.sleep(2)
        used = b.transport.selected_pair
        assert used is not None
        dead = (used.local.host, used.local.port)
        network.route = lambda datagram: [] if dead in (datagram.source, datagram.destination) else [DELAY]
        await asyncio.sleep(8)
        selected = a.transport.selected_pair
        assert selected is not None
        assert (selected.remote.host, selected.remote.port) != dead
        for flow in flows:
            assert flow.last_arrival > now() - 0.02
            assert flow.gap < 3
            await flow.stop()
        assert a.is_alive
        assert b.is_alive
        await close(a, b)

    scenario()


@pytest.mark.parametrize("kinds", [("full", "full"), ("lite", "full")], ids="-".join)
@pytest.mark.parametrize("controlling", [True, False])
def test_an_address_that_this_machine_loses_is_not_waited_for(
    kinds: tuple[str, str], controlling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: set[str] = set()
    lose(gone, monkeypatch)

    @virtual
    async def scenario(network: Network) -> None:
        a, b = two_homed(kinds, controlling)
        await connect(a, b)
        flows = [Flow(a, b), Flow(b, a)]
        await asyncio.sleep(2)
        used = b.transport.selected_pair
        assert used is not None
        gone.add(used.local.host)
        await asyncio.sleep(3)
        for flow in flows:
            assert flow.last_arrival > now() - 0.02
            assert flow.gap < 1
            await flow.stop()
        assert b.transport.selected_pair is not used
        await close(a, b)

    scenario()


@pytest.mark.parametrize("kinds", [("full", "full"), ("lite", "full")], ids="-".join)
def test_a_restart_offers_the_addresses_that_there_are_then(
    kinds: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: set[str] = set()
    lose(gone, monkeypatch)
    addresses = [PEERS]
    monkeypatch.setattr("mediapeer.ice.gathering.host_addresses", lambda: list(addresses))

    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends(options(kinds[0], OURS), IceOptions())
        await connect(a, b)
        port = b.address[1]
        # For a moment there is no network at all, and then another one.
        addresses[:] = ["127.0.0.1"]
        gone.add(PEERS)
        await restart(b, a)
        assert [candidate.host for candidate in b.transport.local_candidates] == [PEERS]
        await asyncio.sleep(5)
        addresses[:] = ["198.51.100.2"]
        await restart(b, a)
        flows = [Flow(a, b), Flow(b, a)]
        await asyncio.sleep(1)
        assert b.address == ("198.51.100.2", port)
        for flow in flows:
            assert flow.last_arrival > now() - 0.02
            await flow.stop()
        await close(a, b)

    scenario()


@pytest.mark.parametrize("controlling", [True, False])
def test_a_check_of_another_pair_does_not_move_a_path_that_works(controlling: bool) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = two_homed(("full", "full"), controlling)
        await connect(a, b)
        await asyncio.sleep(3)
        used = a.transport.selected_pair
        assert used is not None
        spare = next(
            pair for pair in b.transport._current._check_list if pair.local_candidate.port != 0  # type: ignore[attr-defined]
            and pair is not b.transport._current.selected  # type: ignore[attr-defined]
        )  # fmt: skip
        for _ in range(10):
            b.transport._current._start_check(spare)  # type: ignore[attr-defined]
            await asyncio.sleep(0.7)
            assert a.transport.selected_pair is used
        await close(a, b)

    scenario()


@virtual
async def test_a_nomination_that_somebody_repeats_does_not_move_the_path(network: Network) -> None:
    a, b = two_homed(("full", "full"), controlling=False)
    await connect(a, b)
    agent = b.transport._current
    used, spare = agent.selected, next(p for p in agent._check_list if p is not agent.selected)  # type: ignore[attr-defined]
    network.sent.clear()
    agent._start_check(spare)  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)
    # The peer moves there and back again.
    agent._nominate(spare)  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)
    moved = a.transport.selected_pair
    nominations = [d for _, d in network.sent if d.destination == a.address and b"\x00\x25\x00\x00" in d.data]
    agent._nominate(used)  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)
    back = a.transport.selected_pair
    assert moved is not back
    assert nominations
    for datagram in nominations:
        network.inject(datagram.data, datagram.source, datagram.destination)
    await asyncio.sleep(0.1)
    assert a.transport.selected_pair is back
    await close(a, b)


@virtual
async def test_an_address_that_another_call_has_is_not_taken_over(network: Network) -> None:
    shared = IceOptions(addresses=[OURS], port=50000)
    a, b = pair_of_ends(shared)
    await connect(a, b)
    thief, accomplice = End(OURS, controlling=False, options=shared), End(PEERS, controlling=True)
    await asyncio.gather(thief.transport.gather(), accomplice.transport.gather())
    ours, theirs = thief.transport.local_parameters, accomplice.transport.local_parameters
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{ours.username_fragment}:{theirs.username_fragment}"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.add_message_integrity(ours.password.encode())
    network.inject(bytes(request), b.address, a.address)
    b.transport.send_datagram(b"\x80 for a")
    await asyncio.sleep(0.1)
    assert a.received == [b"\x80 for a"]
    # A peer that has fallen silent has no such right: its NAT may have given the port to another.
    cut(network, victim=b.address)
    await until(lambda: a.transport.state is IceState.DISCONNECTED)
    request.transaction_id = b"another time"
    request.add_message_integrity(ours.password.encode())
    network.inject(bytes(request), b.address, a.address)
    assert thief.transport.pairs()
    await close(a, b, thief, accomplice)


# Restarts


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("offerer", ["controlling", "controlled"])
def test_a_restart_from_either_side_loses_no_datagram(kinds: tuple[str, str], offerer: str) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = ends(kinds)
        await connect(a, b)
        flows = [Flow(a, b), Flow(b, a)]
        await asyncio.sleep(1)
        before = (a.transport.local_parameters, b.transport.local_parameters)
        a.states.clear()
        b.states.clear()
        await restart(*((a, b) if offerer == "controlling" else (b, a)))
        for end in (a, b):
            end.transport.add_remote_candidate(None)
        await asyncio.sleep(LINGER + 2)
        assert a.transport._next is None
        assert b.transport._next is None
        assert a.transport._current.local_parameters not in before
        assert a.transport._current.remote_parameters == b.transport.local_parameters
        for flow in flows:
            got, count = await flow.stop()
            assert count > 500
            assert got == list(range(count))
        for end in (a, b):
            assert end.is_alive
            assert set(end.states) <= {IceState.CONNECTED, IceState.COMPLETED}
        assert len(a.transport._agents()) == len(b.transport._agents()) == 1
        await close(a, b)

    scenario()


@virtual
async def test_a_restart_may_move_to_other_sockets(network: Network) -> None:
    """As a browser does: its new credentials come with new ports."""
    a, b = ends(("full", "full"))
    await connect(a, b)
    flows = [Flow(a, b)]
    elsewhere = End("198.51.100.7", controlling=False)
    a.peer, elsewhere.peer = elsewhere, a
    a.transport.restart()
    await asyncio.gather(a.transport.gather(), elsewhere.transport.gather())
    start(a, elsewhere)
    flows.append(Flow(a, elsewhere))
    await asyncio.sleep(1)
    assert elsewhere.is_alive
    assert flows[1].last_arrival > now() - 0.02
    for flow in flows:
        await flow.stop()
    # What the peer sends by the old path until it has the new one is not lost, for a while.
    a.received.clear()
    b.transport.send_datagram(b"\x80 late")
    await asyncio.sleep(LINGER)
    assert a.received == [b"\x80 late"]
    assert b.is_alive
    b.transport.send_datagram(b"\x80 too late")
    await asyncio.sleep(0.1)
    assert a.received == [b"\x80 late"]
    await close(a, b, elsewhere)


@virtual
async def test_the_old_path_works_until_the_new_one_does(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    credentials = a.transport.restart()
    assert a.transport.restart() == credentials == a.transport.local_parameters
    await a.transport.gather()
    a.transport.start(IceParameters.random())
    assert a.transport.state is IceState.CONNECTED
    await asyncio.sleep(10)
    b.transport.send_datagram(b"\x80 by the old path")
    a.transport.send_datagram(b"\x80 and back")
    await asyncio.sleep(0.1)
    assert (a.received, b.received) == ([b"\x80 by the old path"], [b"\x80 and back"])
    # Nobody ever answers with the new credentials. The old path is still what there is.
    await asyncio.sleep(60)
    assert a.is_alive
    assert a.transport._next is None
    cut(network)
    await until(lambda: a.transport.state is IceState.FAILED)
    await close(a, b)


@virtual
async def test_a_restart_after_failure_connects_again(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    cut(network)
    await until(lambda: a.transport.state is b.transport.state is IceState.FAILED)
    a.states.clear()
    mend(network)
    await restart(a, b)
    await until(lambda: a.is_alive and b.is_alive, seconds=1)
    assert a.states[:2] == [IceState.CHECKING, IceState.CONNECTED]
    a.transport.send_datagram(b"\x80 again")
    await asyncio.sleep(0.1)
    assert b.received == [b"\x80 again"]
    await close(a, b)


@virtual
async def test_a_restart_that_fails_too_stays_failed_and_another_may_follow(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    cut(network)
    await until(lambda: a.transport.state is b.transport.state is IceState.FAILED)
    await restart(a, b)
    assert a.transport.state is IceState.CHECKING
    await until(lambda: a.transport.state is b.transport.state is IceState.FAILED, seconds=90)
    mend(network)
    await restart(a, b)
    await until(lambda: a.is_alive and b.is_alive, seconds=1)
    await close(a, b)


@virtual
async def test_a_restart_that_is_taken_back_changes_nothing(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    before = a.transport.local_parameters
    given = a.transport.restart()
    assert given != before
    await a.transport.gather()
    a.transport.undo_restart()
    assert a.transport.local_parameters == before
    assert a.transport.state is IceState.COMPLETED
    a.transport.start(b.transport.local_parameters)
    assert a.transport.state is IceState.COMPLETED
    assert a.transport.restart() != given
    a.transport.undo_restart()
    await asyncio.sleep(60)
    assert a.is_alive
    await close(a, b)


@virtual
async def test_new_credentials_of_the_peer_are_a_restart_though_we_had_none(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    before = a.transport.local_parameters
    b.transport.restart()
    await b.transport.gather()
    a.transport.start(b.transport.local_parameters)
    await asyncio.sleep(0.1)
    assert a.transport.local_parameters != before
    b.transport.start(a.transport.local_parameters)
    await asyncio.sleep(1)
    assert b.transport._next is None
    assert a.is_alive
    assert b.is_alive
    await close(a, b)


@virtual
async def test_candidates_go_to_the_credentials_that_they_name(network: Network) -> None:
    a, b = ends(("full", "full"))
    await connect(a, b)
    old = b.transport.local_parameters.username_fragment
    a.peer = b.peer = None
    b.transport.restart()
    await b.transport.gather()
    new = b.transport.local_parameters.username_fragment
    a.transport.restart()
    await a.transport.gather()

    def candidate(port: int, fragment: str) -> Candidate:
        return Candidate.from_sdp(f"1 1 udp 1 192.0.2.9 {port} typ host ufrag {fragment}")

    a.transport.add_remote_candidate(candidate(1, old))
    a.transport.add_remote_candidate(candidate(2, new))
    assert [each.port for each in a.transport._current.known_remote() if each.host == "192.0.2.9"] == [1]
    assert [each.port for each in a.transport._next.known_remote()] == [2]  # type: ignore[union-attr]
    await close(a, b)
