"""The lite agent on a fake clock: every rule of nomination, liveness, restart and replay as a scenario."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediapeer.ice import stun
from mediapeer.ice.candidate import Candidate, IceParameters, candidate_priority, pair_priority
from mediapeer.ice.lite import (
    CHECKING_TIMEOUT,
    DISCONNECTED_AFTER,
    DISCONNECTED_AFTER_SLOW,
    FAILED_AFTER,
    PAIRS,
    QUIET_AFTER,
    REMOTE_CANDIDATES,
    SETTLING,
    SILENT_AFTER,
    TRANSACTIONS,
    Claim,
    IceLiteAgent,
    LitePair,
    Output,
    PairSelected,
    Release,
    Respond,
    StateChanged,
)
from mediapeer.ice.options import IceState
from mediapeer.ice.stun import MessageType, StunMessage, binding_request, binding_success, transaction_id

Address = tuple[str, int]

WIFI = ("192.0.2.1", 5001)
MOBILE = ("198.51.100.2", 5002)
REBOUND = ("192.0.2.1", 6001)
OBSERVER = ("203.0.113.66", 6666)
SOCKET, SECOND_SOCKET = "first socket", "second socket"
HIGH, LOW = candidate_priority("host"), candidate_priority("srflx")


def local_candidate(host: str) -> Candidate:
    return Candidate("1", 1, "udp", candidate_priority("host"), host, 3478, "host")


@dataclass
class Scenario:
    """An agent with a clock and a peer."""

    agent: IceLiteAgent
    peer: IceParameters = field(default_factory=IceParameters.random)
    now: float = 1000.0
    told: list[Output] = field(default_factory=list)
    "All outputs but answers and claims."
    claimed: set[tuple[object, Address]] = field(default_factory=set)

    def check(
        self,
        source: Address = WIFI,
        *,
        nominate: bool = False,
        priority: int | None = HIGH,
        socket: str = SOCKET,
        to: IceParameters | None = None,
        transaction: bytes | None = None,
        password: str | None = None,
        controlled: int | None = None,
    ) -> bytes:
        """A check of the peer's; it is not sent yet."""
        to = to or self.agent.local_parameters
        return binding_request(
            transaction or transaction_id(),
            username=f"{to.username_fragment}:{self.peer.username_fragment}",
            password=password or to.password,
            priority=priority,
            controlling=None if controlled is not None else 1,
            controlled=controlled,
            use_candidate=nominate,
        )

    def receive(self, data: bytes, source: Address = WIFI, socket: str = SOCKET) -> StunMessage | None:
        """Let the agent have a datagram; its answer, read."""
        outputs = self.agent.receive(data, socket, source, self.now)
        self.take(outputs)
        answers = [output for output in outputs if isinstance(output, Respond)]
        assert len(answers) <= 1
        for answer in answers:
            assert (answer.socket, answer.remote) == (socket, source)
        return StunMessage.parse(answers[0].data) if answers else None

    def nominate(
        self, source: Address = WIFI, priority: int = HIGH, socket: str = SOCKET, **more: object
    ) -> None:
        """A check that nominates, from an address."""
        data = self.check(source, nominate=True, priority=priority, socket=socket, **more)  # type: ignore[arg-type]
        assert self.receive(data, source, socket) is not None

    def data(self, source: Address = WIFI, socket: str = SOCKET) -> None:
        """A media packet that authenticates."""
        assert (socket, source) in self.claimed
        self.take(self.agent.heard(self.now, socket, source))

    def wait(self, seconds: float) -> None:
        """Let time pass, with the timer as a caller would have it."""
        end = self.now + seconds
        for _ in range(1000):
            due = self.agent.next_timeout()
            if due is None or due > end:
                break
            assert due >= self.now
            self.now = due
            self.take(self.agent.handle_timeout(self.now))
        else:
            raise AssertionError("the timer does not move on")
        self.now = end

    def take(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Claim):
                self.claimed.add((output.socket, output.remote))
            elif isinstance(output, Release):
                self.claimed.discard((output.socket, output.remote))
            elif not isinstance(output, Respond):
                self.told.append(output)

    def states(self) -> list[IceState]:
        """The changes of state since this was asked last."""
        states = [output.state for output in self.told if isinstance(output, StateChanged)]
        self.told = [output for output in self.told if not isinstance(output, StateChanged)]
        return states

    @property
    def path(self) -> Address | None:
        """Where our datagrams go, as the outputs have told it."""
        pair = self.agent.selected_pair
        selections = [output.pair for output in self.told if isinstance(output, PairSelected)]
        assert not selections or pair is None or selections[-1] is pair
        return None if pair is None else pair.address


def new() -> Scenario:
    scenario = Scenario(IceLiteAgent(IceParameters.random(lite=True)))
    scenario.agent.add_socket(SOCKET, local_candidate("10.0.0.1"))
    scenario.agent.add_socket(SECOND_SOCKET, local_candidate("10.0.0.2"))
    return scenario


def connected(source: Address = WIFI, priority: int = HIGH) -> Scenario:
    """A session whose path has been in use for some seconds, with checks and media every half second."""
    scenario = new()
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    scenario.nominate(source, priority)
    for _ in range(40):
        scenario.wait(0.5)
        scenario.data(source)
        scenario.nominate(source, priority)
    assert scenario.states() == [IceState.CHECKING, IceState.CONNECTED]
    return scenario


# Answers


def test_a_check_is_answered_with_where_it_came_from_under_our_password() -> None:
    scenario = new()
    check = scenario.check()
    answer = scenario.receive(check)
    assert answer is not None
    assert answer.type is MessageType.BINDING_SUCCESS
    assert answer.transaction_id == check[8:20]
    assert answer.mapped_address == WIFI
    assert answer.has_valid_integrity(scenario.agent.local_parameters.password)
    assert scenario.claimed == {(SOCKET, WIFI)}
    assert scenario.path is None


def test_checks_come_in_at_any_socket_and_over_ipv6() -> None:
    scenario = new()
    source = ("2001:db8::5", 5000)
    answer = scenario.receive(scenario.check(source), source, SECOND_SOCKET)
    assert answer is not None
    assert answer.mapped_address == source
    assert scenario.claimed == {(SECOND_SOCKET, source)}


@pytest.mark.parametrize(
    ("change", "counter"),
    [
        ({"password": "x" * 32}, "wrong_passwords"),
        ({"to": IceParameters("other", "y" * 32)}, "unknown_usernames"),
    ],
)
def test_what_does_not_authenticate_is_not_answered(change: dict[str, object], counter: str) -> None:
    scenario = connected()
    before = scenario.agent.last_heard
    check = scenario.check(nominate=True, **change)  # type: ignore[arg-type]
    assert scenario.receive(check, OBSERVER) is None
    assert scenario.claimed == {(SOCKET, WIFI)}
    assert scenario.agent.counters == {counter: 1}
    assert scenario.agent.last_heard == before


def test_a_check_in_the_name_of_another_peer_is_not_answered_once_ours_is_known() -> None:
    scenario = new()
    stranger = Scenario(scenario.agent)
    assert stranger.receive(stranger.check()) is not None
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    assert stranger.receive(stranger.check()) is None
    assert scenario.receive(scenario.check()) is not None


def test_a_controlled_peer_is_told_of_the_conflict() -> None:
    scenario = new()
    answer = scenario.receive(scenario.check(nominate=True, controlled=2**64 - 1))
    assert answer is not None
    assert answer.error == (487, "Role Conflict")
    assert answer.has_valid_integrity(scenario.agent.local_parameters.password)
    assert (scenario.path, scenario.claimed) == (None, set())
    scenario.nominate()
    assert scenario.path == WIFI


def test_an_authentic_check_that_cannot_be_taken_gets_an_error() -> None:
    scenario = new()
    answer = scenario.receive(scenario.check(priority=None))
    assert answer is not None
    assert answer.error == (400, "Bad Request")
    assert scenario.claimed == set()


def test_an_attribute_that_must_be_understood_and_is_not_is_named() -> None:
    scenario = new()
    parameters = scenario.agent.local_parameters
    attributes = stun._attribute(stun.AttributeType.USERNAME, f"{parameters.username_fragment}:x".encode())
    attributes += b"\x70\x00\x00\x00"
    data = stun._finish(MessageType.BINDING_REQUEST, transaction_id(), attributes, parameters.password)
    answer = scenario.receive(data)
    assert answer is not None
    assert answer.error == (420, "Unknown Attribute")
    assert answer.unknown_attributes == (0x7000,)


def test_answers_and_indications_are_nothing_to_a_lite_agent() -> None:
    scenario = new()
    password = scenario.agent.local_parameters.password
    assert scenario.receive(binding_success(transaction_id(), WIFI, password)) is None
    assert scenario.receive(b"\0\x11\0\0\x21\x12\xa4\x42" + bytes(12)) is None
    assert scenario.agent.counters == {"unexpected_stun": 2}


# Nomination


def test_nothing_is_selected_until_the_peer_nominates() -> None:
    scenario = new()
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    scenario.receive(scenario.check())
    assert scenario.agent.state is IceState.CHECKING
    scenario.nominate()
    assert scenario.path == WIFI
    assert scenario.states() == [IceState.CHECKING, IceState.CONNECTED]


def test_checks_before_the_peers_answer_count() -> None:
    """An answering peer checks as soon as it has our offer, before its answer has reached us."""
    scenario = new()
    scenario.nominate()
    assert (scenario.path, scenario.agent.state) == (WIFI, IceState.NEW)
    scenario.now += 1
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    assert scenario.states() == [IceState.CHECKING, IceState.CONNECTED]


@pytest.mark.parametrize("order", [(WIFI, MOBILE), (MOBILE, WIFI)])
def test_of_pairs_that_are_all_nominated_the_highest_priority_is_used(order: tuple[Address, Address]) -> None:
    scenario = new()
    priorities = {WIFI: HIGH, MOBILE: LOW}
    for round_number in range(20):
        for source in order:
            scenario.nominate(source, priorities[source])
            scenario.wait(0.05 if round_number < 5 else 1.2)
        assert scenario.path == WIFI
    selections = [output for output in scenario.told if isinstance(output, PairSelected)]
    assert len(selections) == order.index(WIFI) + 1


def test_the_last_nomination_counts_when_the_peer_changes_its_mind() -> None:
    scenario = connected(WIFI, HIGH)
    scenario.nominate(MOBILE, LOW)
    assert scenario.path == MOBILE
    # Back again, while both paths live.
    for _ in range(8):
        scenario.wait(0.5)
        scenario.data(MOBILE)
        scenario.receive(scenario.check(WIFI), WIFI)
    assert scenario.path == MOBILE
    scenario.nominate(WIFI, HIGH)
    assert scenario.path == WIFI
    # And once more to the lower one, which is not new any more: the second nomination convinces.
    for _ in range(8):
        scenario.wait(0.5)
        scenario.data(WIFI)
    scenario.nominate(MOBILE, LOW)
    assert scenario.path == WIFI
    scenario.nominate(MOBILE, LOW)
    assert scenario.path == MOBILE


def test_a_nomination_while_others_are_new_does_not_win_for_being_last() -> None:
    scenario = new()
    scenario.nominate(WIFI, HIGH)
    scenario.wait(SETTLING - 0.1)
    scenario.nominate(MOBILE, LOW)
    assert scenario.path == WIFI
    scenario.nominate(WIFI, HIGH)
    scenario.nominate(MOBILE, LOW)
    assert scenario.path == WIFI


def test_a_check_without_nomination_moves_nothing() -> None:
    scenario = connected(MOBILE, LOW)
    scenario.wait(3)
    scenario.receive(scenario.check(WIFI, priority=HIGH), WIFI)
    assert scenario.path == MOBILE


def test_the_priority_of_a_signalled_candidate_counts_and_not_that_of_the_check() -> None:
    scenario = new()
    scenario.agent.add_remote_candidate(
        Candidate.from_sdp(f"1 1 udp {LOW} {MOBILE[0]} {MOBILE[1]} typ srflx")
    )
    scenario.nominate(MOBILE, HIGH)
    scenario.nominate(WIFI, HIGH - 1)
    assert scenario.path == WIFI
    mobile = scenario.agent.pair_of(SOCKET, MOBILE)
    assert mobile is not None
    assert mobile.remote.type == "srflx"
    assert mobile.priority == pair_priority(LOW, candidate_priority("host"))


def test_a_candidate_that_is_told_late_replaces_what_the_check_taught() -> None:
    scenario = new()
    scenario.nominate(WIFI, HIGH - 1)
    learned = scenario.agent.pairs()[0]
    assert (learned.remote.type, learned.remote.priority) == ("prflx", HIGH - 1)
    scenario.agent.add_remote_candidate(Candidate.from_sdp(f"1 1 udp {HIGH} {WIFI[0]} {WIFI[1]} typ host"))
    assert (learned.remote.type, learned.priority) == (
        "host",
        pair_priority(HIGH, candidate_priority("host")),
    )


# Paths that move


def test_a_rebound_address_goes_on_after_one_check() -> None:
    scenario = connected(WIFI)
    scenario.wait(0.6)
    scenario.nominate(REBOUND)
    assert scenario.path == REBOUND
    scenario.wait(0.1)
    scenario.data(REBOUND)
    assert scenario.states() == []


def test_an_address_that_comes_back_goes_on_after_one_check_when_the_other_is_silent() -> None:
    scenario = connected(WIFI)
    scenario.nominate(REBOUND)
    scenario.wait(SETTLING)
    scenario.nominate(REBOUND)
    scenario.wait(SILENT_AFTER)
    scenario.nominate(WIFI)
    assert scenario.path == WIFI


def test_media_from_a_checked_address_moves_the_path_when_the_old_one_carries_none() -> None:
    scenario = connected(WIFI)
    scenario.receive(scenario.check(REBOUND), REBOUND)
    scenario.data(REBOUND)
    assert scenario.path == WIFI  # a straggler of either path
    scenario.wait(QUIET_AFTER)
    scenario.data(REBOUND)
    assert scenario.path == REBOUND
    assert scenario.agent.counters["paths_moved_by_data"] == 1


def test_media_on_the_selected_path_keeps_it() -> None:
    scenario = connected(WIFI)
    scenario.receive(scenario.check(REBOUND), REBOUND)
    for _ in range(20):
        scenario.wait(0.2)
        scenario.data(WIFI)
        scenario.data(REBOUND)
    assert scenario.path == WIFI


# Replays


def test_a_repeated_check_from_elsewhere_opens_nothing() -> None:
    scenario = connected()
    check = scenario.check(nominate=True)
    scenario.receive(check)
    assert scenario.receive(check, OBSERVER) is None
    assert scenario.claimed == {(SOCKET, WIFI)}
    assert scenario.path == WIFI
    assert scenario.agent.counters == {"replayed_checks": 1}


def test_a_repeated_check_from_where_the_peer_has_been_is_answered_and_moves_nothing() -> None:
    scenario = connected(WIFI, HIGH)
    scenario.nominate(MOBILE, LOW)
    old = scenario.check(nominate=True, priority=HIGH)
    scenario.receive(old, MOBILE)
    assert scenario.receive(old, WIFI) is not None
    assert scenario.path == MOBILE


def test_a_retransmitted_check_is_answered_again_but_is_no_sign_of_life() -> None:
    scenario = connected()
    check = scenario.check()
    scenario.receive(check)
    heard = scenario.agent.last_heard
    scenario.now += 1
    assert scenario.receive(check) is not None
    assert scenario.agent.last_heard == heard


@pytest.mark.parametrize("peer_priority", [HIGH, LOW])
def test_who_repeats_a_check_faster_than_it_travels_has_the_path_for_one_interval(peer_priority: int) -> None:
    scenario = connected(WIFI, HIGH)
    scenario.agent.add_remote_candidate(
        Candidate.from_sdp(f"1 1 udp {peer_priority} {WIFI[0]} {WIFI[1]} typ host")
    )
    for pair in scenario.agent.pairs():
        pair.priority = pair_priority(peer_priority, pair.local.priority)
    check = scenario.check(nominate=True)
    scenario.receive(check, OBSERVER)
    assert scenario.path == OBSERVER
    assert scenario.receive(check, WIFI) is not None
    # The peer's media goes on from where it was.
    for _ in range(6):
        scenario.wait(0.2)
        scenario.data(WIFI)
    assert scenario.path == WIFI


def test_old_checks_that_are_repeated_for_long_do_not_keep_the_path_away() -> None:
    """An observer with more checks than are remembered; the peer sends media and checks now and then."""
    scenario = connected(WIFI, HIGH)
    library = [scenario.check(nominate=True) for _ in range(3 * TRANSACTIONS)]
    for check in library:
        scenario.receive(check)
    away = 0
    for step in range(300):
        scenario.wait(0.02)
        scenario.receive(library[step % len(library)], OBSERVER)
        scenario.data(WIFI)
        away += scenario.path != WIFI
        if step % 100 == 99:
            scenario.nominate(WIFI, HIGH)
            scenario.data(WIFI)
    assert scenario.claimed >= {(SOCKET, WIFI)}
    for _ in range(60):
        scenario.wait(0.02)
        scenario.data(WIFI)
    assert scenario.path == WIFI
    assert away < 300


# Liveness


def test_a_silent_peer_is_disconnected_then_failed() -> None:
    scenario = connected()
    scenario.wait(DISCONNECTED_AFTER - 0.01)
    assert scenario.states() == []
    scenario.wait(0.02)
    assert scenario.states() == [IceState.DISCONNECTED]
    scenario.wait(FAILED_AFTER - DISCONNECTED_AFTER - 0.02)
    assert scenario.states() == []
    scenario.wait(0.02)
    assert scenario.states() == [IceState.FAILED]
    assert (scenario.path, scenario.claimed) == (None, set())
    assert scenario.receive(scenario.check()) is None
    assert scenario.agent.next_timeout() is None


@pytest.mark.parametrize("sign", ["check", "data"])
def test_a_peer_that_is_heard_again_is_connected_again(sign: str) -> None:
    scenario = connected()
    scenario.wait(20)
    assert scenario.states() == [IceState.DISCONNECTED]
    if sign == "check":
        scenario.receive(scenario.check())
    else:
        scenario.data()
    assert scenario.states() == [IceState.CONNECTED]
    assert scenario.path == WIFI


def test_failed_is_final_without_a_restart() -> None:
    scenario = connected()
    scenario.wait(60)
    assert scenario.receive(scenario.check(nominate=True)) is None
    scenario.take(scenario.agent.heard(scenario.now, SOCKET, WIFI))
    assert scenario.agent.state is IceState.FAILED


def test_a_peer_with_slow_checks_is_not_disconnected_between_them() -> None:
    """RFC 7675 §5.1: every 4 to 6 seconds, and nothing else when there is no media. From the first on."""
    scenario = new()
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    scenario.nominate()
    for pause in (5.9, 4.1, 5.0, 5.9, 5.9, 4.0):
        scenario.wait(pause)
        scenario.receive(scenario.check())
    assert scenario.states() == [IceState.CHECKING, IceState.CONNECTED]
    scenario.wait(DISCONNECTED_AFTER_SLOW + 0.01)
    assert scenario.states() == [IceState.DISCONNECTED]


def test_one_long_pause_does_not_make_a_lively_peer_slow_for_good() -> None:
    scenario = connected()
    scenario.wait(5)
    scenario.data()
    assert scenario.states() == [IceState.DISCONNECTED, IceState.CONNECTED]
    for _ in range(40):
        scenario.wait(0.5)
        scenario.data()
    scenario.wait(DISCONNECTED_AFTER + 0.01)
    assert scenario.states() == [IceState.DISCONNECTED]


def test_without_a_nomination_ice_fails_when_the_peer_has_had_its_time() -> None:
    scenario = new()
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    scenario.wait(CHECKING_TIMEOUT - 0.01)
    assert scenario.states() == [IceState.CHECKING]
    scenario.wait(0.02)
    assert scenario.states() == [IceState.FAILED]


def test_a_peer_that_still_checks_has_more_time() -> None:
    scenario = new()
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    for _ in range(20):
        scenario.wait(5)
        scenario.receive(scenario.check())
    assert scenario.states() == [IceState.CHECKING]
    scenario.nominate()
    assert scenario.states() == [IceState.CONNECTED]


def test_being_started_again_changes_nothing() -> None:
    scenario = connected(WIFI)
    for peer in (scenario.peer, IceParameters.random()):
        assert list(scenario.agent.start(peer, scenario.now)) == []
    assert scenario.agent.remote_parameters == scenario.peer
    assert scenario.path == WIFI


# Bounds and statistics


def test_pairs_are_bounded_and_the_selected_one_is_never_forgotten() -> None:
    scenario = connected(WIFI)
    scenario.wait(1)
    for port in range(1, 200):
        scenario.receive(scenario.check(), ("192.0.2.9", port))
    assert len(scenario.agent.pairs()) == len(scenario.claimed) == PAIRS
    assert (SOCKET, WIFI) in scenario.claimed
    assert scenario.path == WIFI
    assert scenario.agent.counters["pairs_forgotten"] == 200 - PAIRS
    assert len(scenario.agent._paths.transactions) == TRANSACTIONS


def test_remote_candidates_are_bounded_and_those_of_no_use_ignored() -> None:
    agent = new().agent
    for port in range(1, REMOTE_CANDIDATES + 50):
        agent.add_remote_candidate(Candidate.from_sdp(f"1 1 udp 1 192.0.2.1 {port} typ host"))
    assert len(agent._remote_candidates) == REMOTE_CANDIDATES
    agent.add_remote_candidate(Candidate.from_sdp("1 1 tcp 1 192.0.2.1 9 typ host tcptype active"))
    agent.add_remote_candidate(Candidate.from_sdp("1 1 udp 1 x.local 9 typ host"))
    assert agent.counters["ignored_candidates"] == 2


def test_a_pair_counts_what_it_answers() -> None:
    scenario = new()
    check = scenario.check()
    for data in (check, check, scenario.check(nominate=True)):
        scenario.receive(data)
    [pair] = scenario.agent.pairs()
    assert isinstance(pair, LitePair)
    assert (pair.requests_received, pair.responses_sent, pair.nominated) == (3, 3, True)
    assert pair.last_heard == scenario.now
    assert scenario.agent.pair_of(SOCKET, WIFI) is pair
    assert scenario.agent.pair_of(SOCKET, MOBILE) is None
    assert pair.priority == pair_priority(HIGH, candidate_priority("host"))


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["check", "nominate", "replay", "data", "wait", "start", "junk"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(_STEPS)
def test_whatever_happens_claims_are_pairs_and_states_agree(steps: list[tuple[str, int]]) -> None:
    """A random life. What was claimed and not released is what there are pairs of."""
    scenario = new()
    scenario.take(scenario.agent.start(scenario.peer, scenario.now))
    sources = [WIFI, MOBILE, REBOUND, OBSERVER, ("2001:db8::1", 1), ("2001:db8::1", 2)]
    last = b""
    for action, number in steps:
        source = sources[number]
        if action in ("check", "nominate"):
            last = scenario.check(nominate=action == "nominate", priority=HIGH - number)
            scenario.receive(last, source)
        elif action == "replay":
            scenario.receive(last, source)
        elif action == "data" and (SOCKET, source) in scenario.claimed:
            scenario.data(source)
        elif action == "wait":
            scenario.wait(number**2)
        elif action == "start":
            scenario.take(scenario.agent.start(scenario.peer, scenario.now))
        elif action == "junk":
            scenario.receive(last[:number] + last[number + 1 :], source)
        agent = scenario.agent
        assert scenario.claimed == {(pair.socket, pair.address) for pair in agent.pairs()}
        states = [output.state for output in scenario.told if isinstance(output, StateChanged)]
        assert states[-1] is agent.state
        selected = agent.selected_pair
        assert selected is None or selected.nominated or agent.counters["paths_moved_by_data"]
        if agent.state in (IceState.CONNECTED, IceState.DISCONNECTED):
            assert selected in agent.pairs()
        if agent.state is IceState.FAILED:
            assert selected is None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_does_nothing(data: bytes) -> None:
    scenario = connected()
    before = scenario.agent.last_heard
    assert scenario.receive(data, OBSERVER) is None
    assert (scenario.path, scenario.claimed) == (WIFI, {(SOCKET, WIFI)})
    assert scenario.agent.last_heard == before
