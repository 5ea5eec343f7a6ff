"""What a call must not do to another on the same port, and a stranger to any."""

import asyncio
import logging

import pytest

from mediapeer.ice import Candidate, IceOptions, IceParameters, IceTransport, UdpMux
from mediapeer.ice.mux import CLAIM_LIFETIME, CLAIMS_PER_SESSION
from mediapeer.ice.stun import binding_error, binding_request, binding_success, transaction_id
from tests.ice.virtual_sockets import virtual_bind_all
from tests.transport.virtual import Address, Network, virtual

OURS = "192.0.2.1"
VICTIM, ATTACKER, STRANGER = ("198.51.100.1", 5001), ("198.51.100.66", 6666), ("198.51.100.99", 9999)
PEER = IceParameters("peer", "p" * 22)


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)


class Port:
    """One port for several calls."""

    def __init__(self, mux: UdpMux, network: Network) -> None:
        self.mux = mux
        self.network = network
        self.calls: list[IceTransport] = []

    @classmethod
    async def open(cls, network: Network) -> "Port":
        return cls(await UdpMux.open([OURS]), network)

    async def call(self, *, lite: bool) -> IceTransport:
        """A call whose peer's credentials are :data:`PEER`; it is heard under ``received``."""
        transport = IceTransport(IceOptions(mux=self.mux, lite=lite), controlling=False)
        transport.received = []  # type: ignore[attr-defined]
        transport.on_datagram = transport.received.append  # type: ignore[attr-defined]
        await transport.gather()
        transport.start(PEER)
        self.calls.append(transport)
        return transport

    def inject(self, data: bytes, source: Address) -> int:
        """Deliver a datagram; how many bytes are sent because of it, at once."""
        before = len(self.network.sent)
        self.network.inject(data, source, self.mux.sockets[0].address)
        return sum(len(datagram.data) for _, datagram in self.network.sent[before:])

    def holder(self, source: Address) -> object:
        return self.mux._claims[self.mux.sockets[0]].get(source)

    async def close(self) -> None:
        for call in self.calls:
            await call.close()
        await self.mux.close()


def check(call: IceTransport, *, password: str | None = None, username: str | None = None) -> bytes:
    """A nominating check for a call, with its own credentials unless others are given."""
    ours = call.local_parameters
    return binding_request(
        transaction_id(),
        username=username or f"{ours.username_fragment}:{PEER.username_fragment}",
        password=password or ours.password,
        priority=1 << 20,
        controlling=1 << 63,
        use_candidate=True,
    )


@virtual
async def test_a_call_cannot_take_an_address_that_another_hears_from(network: Network) -> None:
    """Whoever is in a call can send checks of his own in anybody's name."""
    port = await Port.open(network)
    victim, attacker = await port.call(lite=True), await port.call(lite=True)
    port.inject(check(victim), VICTIM)
    for _ in range(30):
        await asyncio.sleep(1)
        port.inject(bytes([128, 1]), VICTIM)
        victim.heard()
        port.inject(check(victim), VICTIM)
        assert port.inject(check(attacker), VICTIM) == 0
    assert port.holder(VICTIM) is victim
    assert port.mux.counters["address_of_another_call"] == 30
    assert attacker.received == []  # type: ignore[attr-defined]
    await port.close()


@virtual
async def test_media_alone_keeps_an_address(network: Network) -> None:
    """Some peers check no more once they send."""
    port = await Port.open(network)
    victim, attacker = await port.call(lite=True), await port.call(lite=True)
    port.inject(check(victim), VICTIM)
    victim.on_datagram = lambda data: victim.heard()
    for _ in range(40):
        await asyncio.sleep(0.5)
        port.inject(bytes([128, 1]), VICTIM)
    port.inject(check(attacker), VICTIM)
    assert port.holder(VICTIM) is victim
    await port.close()


@virtual
async def test_an_address_claimed_in_anothers_name_is_free_again_soon(network: Network) -> None:
    """The attacker's call goes on from its own address; the victim, who comes later, gets in all the same."""
    port = await Port.open(network)
    attacker, victim = await port.call(lite=True), await port.call(lite=True)
    port.inject(check(attacker), ATTACKER)
    port.inject(check(attacker), VICTIM)
    assert port.inject(check(victim), VICTIM) == 0
    for _ in range(int(CLAIM_LIFETIME)):
        await asyncio.sleep(1)
        port.inject(check(attacker), ATTACKER)
    assert attacker.state == "connected"
    assert port.inject(check(victim), VICTIM) > 0
    assert port.holder(VICTIM) is victim
    assert port.inject(check(attacker), VICTIM) == 0
    port.inject(bytes([20, 1]), VICTIM)
    assert victim.received == [bytes([20, 1])]  # type: ignore[attr-defined]
    await port.close()


@pytest.mark.parametrize("lite", [True, False])
@virtual
async def test_who_does_not_authenticate_gets_no_byte(network: Network, lite: bool) -> None:
    """Whatever he knows but the password, such as the fragments, which the network sees: nobody is a reflector."""
    port = await Port.open(network)
    call = await port.call(lite=lite)
    ours = call.local_parameters
    right = f"{ours.username_fragment}:{PEER.username_fragment}"
    transaction = transaction_id()
    spoilt = check(call)
    datagrams = [
        check(call, password="q" * 22),
        check(call, username=f"{ours.username_fragment}:else"),
        check(call, username=ours.username_fragment),
        check(call, username=f":{right}"),
        binding_request(transaction, username=right),
        binding_request(transaction),
        binding_success(transaction, VICTIM, ours.password),
        binding_success(transaction, VICTIM, PEER.password),
        binding_error(transaction, 487, "Role Conflict", PEER.password),
        b"\x00\x11" + check(call)[2:],
        b"\x00\x03" + check(call)[2:],
        check(call)[:-1],
        spoilt[:-1] + bytes([spoilt[-1] ^ 1]),
        b"",
        bytes(20),
        bytes([20]) * 1200,
        bytes([128]) * 1200,
    ]
    for datagram in datagrams:
        assert port.inject(datagram, STRANGER) == 0
    await asyncio.sleep(5)
    assert not [datagram for _, datagram in network.sent if datagram.destination == STRANGER]
    assert port.holder(STRANGER) is None
    assert not call.pairs()
    await port.close()


@pytest.mark.parametrize("lite", [True, False])
@virtual
async def test_a_flood_with_the_right_fragment_keeps_nothing(network: Network, lite: bool) -> None:
    port = await Port.open(network)
    call = await port.call(lite=lite)
    for number in range(2000):
        source = (f"203.0.{number >> 8}.{number & 255}", 1000 + number)
        assert port.inject(check(call, password="q" * 22), source) == 0
    assert (call.pairs(), call.remote_candidates, port.mux._members[call].addresses) == ([], [], {})
    refused = call.counters["wrong_passwords"] + call.counters["unauthenticated_checks"]
    assert refused == 2000
    await port.close()


@pytest.mark.parametrize("lite", [True, False])
@virtual
async def test_a_peer_that_checks_from_everywhere_is_bounded(network: Network, lite: bool) -> None:
    """It has the password, and the addresses are others': what we send there is bounded too."""
    port = await Port.open(network)
    call = await port.call(lite=lite)
    sources = [(f"203.0.{number >> 8}.{number & 255}", 1000 + number) for number in range(1000)]
    received = 0
    for source in sources:
        datagram = check(call)
        received += len(datagram)
        port.inject(datagram, source)
        await asyncio.sleep(0.001)
    assert len(port.mux._members[call].addresses) <= CLAIMS_PER_SESSION
    assert len(call.pairs()) <= 200
    await asyncio.sleep(60)
    sent = sum(len(datagram.data) for _, datagram in network.sent)
    assert sent < 2 * received
    await port.close()


@virtual
async def test_a_peer_cannot_make_a_full_agent_flood_others(network: Network) -> None:
    """A hundred candidates on a victim's ports, and a hundred more with each restart of the peer's."""
    port = await Port.open(network)
    call = await port.call(lite=False)
    for restart in range(3):
        call.start(IceParameters(f"peer{restart}", "p" * 22))
        for number in range(1000):
            call.add_remote_candidate(
                Candidate("1", 1, "udp", 1 + number, STRANGER[0], 1 + number, "host", None, None, None, {})
            )
        begin, before = asyncio.get_running_loop().time(), len(network.sent)
        while asyncio.get_running_loop().time() < begin + 60:
            second = len(network.sent)
            await asyncio.sleep(1)
            assert len(network.sent) - second <= 150
        assert len(network.sent) - before <= 2 * 100 * 7
    await port.close()


@pytest.mark.parametrize("is_started", [True, False])
@pytest.mark.parametrize("lite", [True, False])
@virtual
async def test_what_is_done_after_the_end_does_nothing(
    network: Network, lite: bool, is_started: bool
) -> None:
    port = await Port.open(network)
    call = await port.call(lite=lite)
    call.restart()
    if is_started:
        call.start(IceParameters("next", "p" * 22))
    await call.close()
    call.restart()
    call.undo_restart()
    call.start(IceParameters("else", "p" * 22, lite=True))
    call.add_remote_candidate(None)
    call.heard()
    with pytest.raises(ConnectionError):
        call.send_datagram(b"x")
    await call.gather()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await port.close()


@pytest.mark.parametrize("lite", [True, False])
@virtual
async def test_the_log_has_no_passwords(
    network: Network, lite: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mediapeer")
    caplog.set_level(logging.DEBUG, "aioice")
    port = await Port.open(network)
    call = await port.call(lite=lite)
    passwords = [PEER.password, call.local_parameters.password]
    port.inject(check(call), VICTIM)
    port.inject(check(call, password="q" * 22), STRANGER)
    await asyncio.sleep(1)
    passwords.append(call.restart().password)
    await asyncio.sleep(1)
    shown = caplog.text + repr(vars(call)) + repr([vars(port.mux), call.options, call.pairs()])
    await port.close()
    assert not [password for password in passwords if password in shown + caplog.text]
