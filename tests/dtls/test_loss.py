"""Every single datagram of a handshake lost, doubled, late, cut short or damaged, in each position and both roles."""

from collections.abc import Sequence

import pytest

from mediapeer.dtls import (
    AlertReceived,
    ClientAuthentication,
    DtlsError,
    HandshakeTimeout,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
)
from tests.dtls import support
from tests.dtls.support import Impairment, Pair, configuration, credentials, expecting

SMALL_MTU = 400


def make_pair(impairment: Impairment, mtu: int = SMALL_MTU) -> Pair:
    """Mutual authentication by fingerprint, in many datagrams."""
    ours, theirs = credentials(name="client"), credentials(name="server")
    return Pair(
        configuration(credentials=(ours,), verifier=expecting(theirs), mtu=mtu),
        configuration(credentials=(theirs,), verifier=expecting(ours), mtu=mtu),
        impairment,
    )


def positions() -> list[tuple[ProtocolVersion, Role, int]]:
    """Each datagram of an undisturbed handshake, as (version, sender, number)."""
    found = []
    for version in (ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(support, "maximum_version", version)
            pair = make_pair(lambda role, index, datagram: [(0.0, datagram)]).run()
        found += [(version, role, index) for role in Role for index in range(len(pair.sent[role]))]
    return found


POSITIONS = positions()
each_position = pytest.mark.parametrize(
    ("version", "sender", "position"),
    POSITIONS,
    ids=[f"{version.name}-{role.value}-{index}" for version, role, index in POSITIONS],
    indirect=["version"],
)
pytestmark = pytest.mark.usefixtures("version")
only_12 = pytest.mark.parametrize("version", [ProtocolVersion.DTLS_1_2], indirect=True)


@pytest.mark.parametrize("sender", list(Role))
def test_the_handshake_is_spread_over_enough_datagrams_to_matter(
    version: ProtocolVersion, sender: Role
) -> None:
    assert len([case for case in POSITIONS if case[:2] == (version, sender)]) >= 3


@only_12
def test_record_versions_are_those_that_old_servers_expect() -> None:
    """A ClientHello says DTLS 1.0 until a version is chosen (RFC 6347 §4.2.1); it offers 1.2 inside."""
    pair = make_pair(lambda role, index, datagram: [(0.0, datagram)]).run()
    assert pair.sent[Role.CLIENT][0][1:3] == b"\xfe\xff"
    assert {datagram[1:3] for datagram in pair.sent[Role.CLIENT][1:]} == {b"\xfe\xfd"}
    assert {datagram[1:3] for datagram in pair.sent[Role.SERVER]} == {b"\xfe\xfd"}


@each_position
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_lost_datagram_is_made_up_for(sender: Role, position: int, times: int) -> None:
    lost = 0

    def lose(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        nonlocal lost
        if role is sender and position <= index < position + times:
            lost += 1
            return []
        return [(0.0, datagram)]

    pair = make_pair(lose).run()
    assert lost
    assert pair.client.activity["retransmissions"] + pair.server.activity["retransmissions"] > 0
    pair.assert_connected()


@each_position
def test_a_doubled_datagram_changes_nothing(sender: Role, position: int) -> None:
    def double(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        copies = 3 if role is sender and index == position else 1
        return [(0.001 * copy, datagram) for copy in range(copies)]

    pair = make_pair(double).run()
    assert pair.client.activity["retransmissions"] == pair.server.activity["retransmissions"] == 0
    pair.assert_connected()


@each_position
@pytest.mark.parametrize(
    "delay", [0.002, 0.03, 0.2], ids=["past its neighbour", "past its flight", "past a time-out"]
)
def test_a_late_datagram_finds_its_place(sender: Role, position: int, delay: float) -> None:
    def hold_back(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [(delay if role is sender and index == position else 0.0, datagram)]

    make_pair(hold_back).run().assert_connected()


@pytest.mark.parametrize("sender", list(Role))
def test_flights_that_arrive_backwards_are_put_in_order(sender: Role) -> None:
    def reverse(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [(0.02 - 0.001 * index if role is sender else 0.0, datagram)]

    pair = make_pair(reverse).run()
    assert pair.client.activity["retransmissions"] == pair.server.activity["retransmissions"] == 0
    pair.assert_connected()


@each_position
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_datagram_cut_short_is_as_good_as_lost(sender: Role, position: int, share: float) -> None:
    def cut(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        if role is sender and index == position:
            datagram = datagram[: int(len(datagram) * share)]
        return [(0.0, datagram)]

    make_pair(cut).run().assert_connected()


@each_position
def test_a_damaged_datagram_never_leads_to_a_wrong_connection(sender: Role, position: int) -> None:
    """Wherever a bit falls over, both ends connect to the right peer or both fail, each with a typed error."""
    length = len(make_pair(lambda r, i, d: [(0.0, d)]).run().sent[sender][position])
    for byte in range(0, length, 3):

        def damage(
            role: Role, index: int, datagram: bytes, byte: int = byte
        ) -> Sequence[tuple[float, bytes]]:
            if role is sender and index == position:
                flipped = bytearray(datagram)
                flipped[min(byte, len(flipped) - 1)] ^= 1 << byte % 8
                datagram = bytes(flipped)
            return [(0.0, datagram)]

        pair = make_pair(damage).run()
        if pair.client.error is None and pair.server.error is None:
            pair.assert_connected()
            continue
        errors = [pair.client.error, pair.server.error]
        assert all(isinstance(error, DtlsError) for error in errors), (byte, errors)
        # In DTLS 1.3 a damaged hello may lead to keys that differ: nothing is authentic then, until time is out.
        kinds = (PeerMisbehaved, HandshakeTimeout)
        assert any(isinstance(error, kinds) for error in errors), (byte, errors)


@pytest.mark.parametrize("mtu", [256, 257, 300, 548, 1200, 1400, 9000, 65_507])
def test_any_mtu_is_kept_to(mtu: int) -> None:
    pair = make_pair(lambda r, i, d: [(0.0, d)], mtu).run()
    assert max(len(datagram) for role in Role for datagram in pair.sent[role]) <= mtu
    pair.assert_connected()


@pytest.mark.parametrize("mtu", [256, 1200])
def test_a_large_certificate_passes(mtu: int) -> None:
    large = credentials("rsa-4096")
    chain = large.chain * 3
    assert sum(map(len, chain)) > 3000
    server = configuration(credentials=(type(large)(chain, large.private_key),), mtu=mtu)
    pair = Pair(configuration(mtu=mtu), server).run()
    assert pair.client.peer_certificate_chain == chain
    pair.assert_connected()


@pytest.mark.parametrize("limit", [1300, 600, 256])
def test_the_mtu_backs_off_when_large_datagrams_vanish(limit: int) -> None:
    def swallow(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        return [(0.0, datagram)] if len(datagram) <= limit else []

    large = credentials("rsa-4096")
    pair = Pair(configuration(mtu=1400), configuration(credentials=(large,), mtu=1400), swallow).run()
    assert pair.server.activity["retransmissions"] >= 2
    pair.assert_connected()


def test_retransmissions_double_from_their_start_to_their_cap_and_end_typed() -> None:
    silence = Pair(
        configuration(
            initial_retransmission_timeout=0.05,
            maximum_retransmission_timeout=0.4,
            maximum_retransmissions=6,
            handshake_timeout=None,
        ),
        impairment=lambda role, index, datagram: [],
    )
    started, times = silence.now, []
    while (timeout := silence.client.next_timeout()) is not None:
        silence.flush()
        silence.now = timeout
        times.append(round(timeout - started, 6))
        silence.client.handle_timeout(silence.now)
    assert times == [0.05, 0.15, 0.35, 0.75, 1.15, 1.55, 1.95]
    assert isinstance(silence.client.error, HandshakeTimeout)
    assert silence.client.activity["retransmissions"] == 6


@pytest.mark.parametrize("role", list(Role))
def test_the_whole_handshake_is_bounded_in_time(role: Role) -> None:
    pair = Pair(
        configuration(handshake_timeout=3.0),
        configuration(handshake_timeout=3.0),
        lambda sender, index, datagram: [],
    )
    started = pair.now
    pair.run()
    assert isinstance(pair.end(role).error, HandshakeTimeout)
    assert pair.now - started == pytest.approx(3.0)


@only_12
def test_data_that_overtakes_the_last_flight_waits_for_it() -> None:
    """The server's Finished is late, its first data is not."""
    pair = make_pair(lambda r, i, d: [(0.0, d)], mtu=1200)
    while pair.server.version is None:
        pair.step()
    late = pair._under_way.copy()
    pair._under_way.clear()
    pair.server.send_application_data(b"early")
    pair.step()
    assert pair.received(Role.CLIENT) == []
    pair._under_way.extend(late)
    pair.run()
    assert pair.received(Role.CLIENT) == [b"early"]


@only_12
@pytest.mark.parametrize("client_authentication", list(ClientAuthentication))
def test_a_lost_last_flight_is_answered_again(client_authentication: ClientAuthentication) -> None:
    last_flights = 0

    def lose_last_flight(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        nonlocal last_flights
        if role is Role.SERVER and datagram[0] == 20:  # ChangeCipherSpec begins it
            last_flights += 1
            return [(0.0, datagram)] if last_flights == 4 else []
        return [(0.0, datagram)]

    pair = Pair(
        configuration(),
        configuration(client_authentication=client_authentication),
        lose_last_flight,
    ).run()
    assert last_flights == 4
    assert pair.server.activity["retransmissions"] == 3
    pair.assert_connected()


def test_a_fatal_alert_that_is_lost_is_said_again() -> None:
    alerts = 0

    def lose_first_alerts(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        nonlocal alerts
        if role is Role.SERVER and pair.server.error is not None:
            alerts += 1
            return [(0.0, datagram)] if alerts > 2 else []
        return [(0.0, datagram)]

    wrong = expecting(credentials("ecdsa-p384"))
    pair = Pair(configuration(), configuration(verifier=wrong), lose_first_alerts)
    pair.run()
    assert alerts >= 3
    assert isinstance(pair.client.error, AlertReceived)
