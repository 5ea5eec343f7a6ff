"""The ICE agent on a network in memory."""

import asyncio
import itertools

import pytest
from aioice import Candidate, stun

from mediapeer.ice import IceConnection, Liveness
from mediapeer.ice.addresses import check_addresses, host_addresses
from mediapeer.ice.connection import PAC_TIMEOUT, RECEIVE_QUEUE_LENGTH, REMOTE_CANDIDATES
from mediapeer.ice.liveness import CONSENT_LIFETIME
from tests.transport.virtual import DELAY, Address, Network, until, virtual

ATTACKER = ("198.51.100.66", 6666)


async def gathered() -> tuple[IceConnection, IceConnection]:
    """Two agents that know each other's passwords, but no candidates yet."""
    ours = IceConnection(True, addresses=["192.0.2.1"])
    peer = IceConnection(False, addresses=["192.0.2.2"])
    for agent, other in ((ours, peer), (peer, ours)):
        await agent.gather_candidates()
        agent.remote_username, agent.remote_password = other.local_username, other.local_password
    return ours, peer


async def connected() -> tuple[IceConnection, IceConnection]:
    """Two agents with a path between them."""
    ours, peer = await gathered()
    for agent, other in ((ours, peer), (peer, ours)):
        for candidate in other.local_candidates:
            await agent.add_remote_candidate(candidate)
        await agent.add_remote_candidate(None)
    await asyncio.gather(ours.connect(), peer.connect())
    return ours, peer


def address_of(agent: IceConnection) -> Address:
    candidate = agent.local_candidates[0]
    return candidate.host, candidate.port


def cut(network: Network, victim: Address | None = None) -> None:
    """Lose everything from now on, or everything that ``victim`` sends."""
    network.route = lambda datagram: [] if victim in (None, datagram.source) else [DELAY]


def mend(network: Network) -> None:
    network.route = lambda datagram: [DELAY]


@virtual
async def test_datagrams_of_the_peer_are_received_and_those_of_others_are_dropped(network: Network) -> None:
    ours, peer = await connected()
    network.inject(b"\x16 not from the peer", ATTACKER, address_of(ours))
    peer.send_datagram(b"\x16 from the peer")
    assert await ours.recv() == b"\x16 from the peer"
    assert ours.counters["unchecked_address"] == 1
    await ours.close()
    await peer.close()


@virtual
async def test_a_datagram_of_a_checked_peer_is_kept_until_we_connect(network: Network) -> None:
    """An answering browser checks us and sends its ClientHello before its answer has reached us."""
    ours, peer = await gathered()
    ours_password, ours.remote_password, ours.remote_username = ours.remote_password, None, None
    await peer.add_remote_candidate(ours.local_candidates[0])
    task = asyncio.create_task(peer.connect())
    await until(lambda: (address_of(peer)) in [address for _, address in ours._checked])
    network.inject(b"\x16 ClientHello", address_of(peer), address_of(ours))
    ours.remote_username, ours.remote_password = peer.local_username, ours_password
    await ours.add_remote_candidate(peer.local_candidates[0])
    await asyncio.gather(ours.connect(), task)
    assert await ours.recv() == b"\x16 ClientHello"
    await ours.close()
    await peer.close()


@virtual
async def test_a_check_with_a_wrong_password_opens_nothing(network: Network) -> None:
    ours, peer = await gathered()
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{ours.local_username}:{peer.local_username}"
    request.attributes["PRIORITY"] = 1
    request.add_message_integrity(b"a guess")
    network.inject(bytes(request), ATTACKER, address_of(ours))
    network.inject(b"\x16 ClientHello", ATTACKER, address_of(ours))
    assert ours.counters["unchecked_address"] == 1
    assert ours.remote_candidates == []
    await ours.close()
    await peer.close()


@virtual
async def test_what_nobody_reads_does_not_pile_up(network: Network) -> None:
    ours, peer = await connected()
    for _ in range(RECEIVE_QUEUE_LENGTH + 10):
        network.inject(b"\x80 flood", address_of(peer), address_of(ours))
    assert ours._queue.qsize() == RECEIVE_QUEUE_LENGTH
    assert ours.counters["receive_queue_full"] == 10
    await ours.close()
    await peer.close()


@virtual
async def test_empty_and_malformed_datagrams_are_counted_and_disturb_nothing(network: Network) -> None:
    ours, peer = await connected()
    # A Binding request whose PRIORITY has three bytes: aioice's unpacking raises struct.error on it.
    broken = bytes.fromhex("000100082112a442") + bytes(12) + bytes.fromhex("0024000300000000")
    for data in (b"", b"\x00", b"\x01\x01", broken):
        network.inject(data, address_of(peer), address_of(ours))
    assert ours.counters == {"empty_datagrams": 1, "malformed_stun": 3}
    peer.send_datagram(b"\x16 still here")
    assert await ours.recv() == b"\x16 still here"
    await ours.close()
    await peer.close()


@virtual
async def test_a_silent_peer_is_disconnected_within_five_seconds_and_comes_back(network: Network) -> None:
    ours, peer = await connected()
    changes: list[tuple[float, Liveness]] = []
    ours.on_liveness = lambda state: changes.append((ours.now(), state))
    await asyncio.sleep(20)
    assert changes == []

    silent_since = ours.now()
    cut(network, victim=address_of(peer))
    await asyncio.sleep(10)
    assert [state for _, state in changes] == [Liveness.DISCONNECTED]
    assert 3 < changes[0][0] - silent_since <= 5

    mend(network)
    await asyncio.sleep(2.1)
    assert [state for _, state in changes] == [Liveness.DISCONNECTED, Liveness.CONNECTED]

    # Media that proves to be the peer's connects again at once, whatever becomes of checks.
    cut(network)
    await asyncio.sleep(10)
    assert ours.liveness is Liveness.DISCONNECTED
    ours.heard()
    assert ours.liveness is Liveness.CONNECTED
    await ours.close()
    await peer.close()


@virtual
async def test_consent_expires_after_thirty_seconds_and_closes_the_path(network: Network) -> None:
    ours, peer = await connected()
    await asyncio.sleep(7)
    silent_since = ours.now()
    cut(network)
    with pytest.raises(ConnectionError):
        await ours.recv()
    assert CONSENT_LIFETIME - 6 <= ours.now() - silent_since <= CONSENT_LIFETIME + 0.1
    assert ours.liveness is Liveness.EXPIRED
    with pytest.raises(ConnectionError):
        ours.send_datagram(b"\x80 must not be sent")
    await ours.close()
    await peer.close()


@virtual
async def test_while_media_flows_consent_is_asked_for_at_most_every_four_seconds(network: Network) -> None:
    ours, peer = await connected()
    await asyncio.sleep(0.1)
    network.sent.clear()
    for _ in range(3000):
        ours.heard()
        peer.heard()
        await asyncio.sleep(0.01)
    times = [
        time for time, datagram in network.sent if datagram.source == address_of(ours) and datagram.data[0] == 0
        and datagram.data[1] == 1
    ]  # fmt: skip
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 4 <= len(gaps) <= 7
    assert all(4.0 <= gap <= 6.1 for gap in gaps)
    await ours.close()
    await peer.close()


@virtual
async def test_the_round_trip_of_the_selected_pair_is_known(network: Network) -> None:
    network.route = lambda datagram: [0.08]
    ours, peer = await connected()
    assert ours.round_trip_time == pytest.approx(0.16, abs=0.001)
    await ours.close()
    await peer.close()


@virtual
async def test_names_under_local_are_not_asked_for_and_the_peers_checks_show_its_address(
    network: Network,
) -> None:
    ours, peer = await gathered()
    hidden = Candidate.from_sdp(
        "1 1 udp 2113937151 0b5d4a8e-4f0e-4a9c-8e7f-6a2f0a7c9d11.local 50000 typ host"
    )
    await ours.add_remote_candidate(hidden)
    await ours.add_remote_candidate(None)
    await peer.add_remote_candidate(ours.local_candidates[0])
    await peer.add_remote_candidate(None)
    task = asyncio.create_task(ours.connect())
    # The peer is late; without the PAC timer ICE would have failed at once.
    await asyncio.sleep(10)
    await asyncio.gather(peer.connect(), task)
    assert ours.counters["mdns_candidates"] == 1
    assert [c.type for c in ours.remote_candidates] == ["prflx"]
    await ours.close()
    await peer.close()


@virtual
async def test_a_path_that_works_is_found_in_a_round_trip(network: Network) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    ours, peer = await connected()
    assert loop.time() - started < 0.01
    await ours.close()
    await peer.close()


@virtual
async def test_without_any_answer_ice_fails_after_the_pac_timer(network: Network) -> None:
    ours, peer = await gathered()
    started = ours.now()
    await ours.add_remote_candidate(None)
    with pytest.raises(ConnectionError):
        await ours.connect()
    assert PAC_TIMEOUT <= ours.now() - started <= PAC_TIMEOUT + 1
    await ours.close()
    await peer.close()


@virtual
async def test_a_check_that_fails_early_does_not_end_the_waiting_for_the_peers_own(network: Network) -> None:
    ours, peer = await gathered()
    elsewhere = ("192.0.2.9", 9)
    await ours.add_remote_candidate(Candidate.from_sdp("1 1 udp 1 192.0.2.9 9 typ host"))
    await ours.add_remote_candidate(None)
    task = asyncio.create_task(ours.connect())
    await asyncio.sleep(0.1)
    [check] = [datagram.data for _, datagram in network.sent if datagram.destination == elsewhere]
    refusal = stun.Message(stun.Method.BINDING, stun.Class.ERROR, check[8:20])
    refusal.attributes["ERROR-CODE"] = (500, "Server Error")
    refusal.add_message_integrity(peer.local_password.encode())
    network.inject(bytes(refusal), elsewhere, address_of(ours))
    await asyncio.sleep(10)
    await peer.add_remote_candidate(ours.local_candidates[0])
    await peer.add_remote_candidate(None)
    await asyncio.gather(peer.connect(), task)
    await ours.close()
    await peer.close()


@virtual
async def test_a_peer_cannot_make_us_keep_candidates_without_end(network: Network) -> None:
    ours, peer = await gathered()
    for port in range(1, REMOTE_CANDIDATES + 21):
        await ours.add_remote_candidate(
            Candidate.from_sdp(f"{port} 1 udp 2113937151 192.0.2.9 {port} typ host")
        )
    assert len(ours.remote_candidates) == REMOTE_CANDIDATES
    assert ours.counters["too_many_candidates"] == 20
    await ours.close()
    await peer.close()


@virtual
async def test_an_address_that_cannot_be_used_is_an_error_when_it_was_asked_for(network: Network) -> None:
    agent = IceConnection(True, addresses=["203.0.113.255"])
    with pytest.raises(ConnectionError, match=r"none of the addresses 203\.0\.113\.255"):
        await agent.gather_candidates()
    await agent.close()


@virtual
async def test_closing_ends_everything_at_any_time(network: Network) -> None:
    ours, peer = await gathered()
    await ours.add_remote_candidate(Candidate.from_sdp("1 1 udp 1 192.0.2.9 9 typ host"))
    await ours.add_remote_candidate(None)
    task = asyncio.create_task(ours.connect())
    await asyncio.sleep(1)
    await ours.close()
    with pytest.raises(ConnectionError):
        await task
    await ours.close()
    await peer.close()


def test_host_addresses_are_not_loopback_unless_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "mediapeer.ice.addresses.get_host_addresses"
    monkeypatch.setattr(module, lambda use_ipv4, use_ipv6: ["127.0.0.2", "192.0.2.1", "2001:db8::1"])
    assert host_addresses() == ["192.0.2.1", "2001:db8::1"]
    monkeypatch.setattr(module, lambda use_ipv4, use_ipv6: ["127.0.0.2"])
    assert host_addresses() == ["127.0.0.1"]


@pytest.mark.parametrize("addresses", [[], ["localhost"], ["192.0.2.1", "::1::"]])
def test_addresses_that_are_none_are_refused(addresses: list[str]) -> None:
    with pytest.raises(ValueError, match="iceAddresses"):
        check_addresses(addresses)
