"""The benchmarks measure what they say, and tell which target is missed. How fast things are is no test."""

import dataclasses
import functools
import operator
from collections.abc import Iterator

import pytest

import mediapeer
from benchmarks import CpuClock, Figures, Result, paired_medians
from benchmarks.__main__ import as_table, names
from benchmarks._protected import ProtectedMedia, material
from benchmarks.call import round_trips_in
from benchmarks.flood import FLOODS, openssl_flood, our_flood
from benchmarks.handshake import SUITES, Clocks, openssl_configuration, openssl_handshake, our_configuration
from benchmarks.handshake import our_handshake as handshake
from benchmarks.idle import idle
from benchmarks.memory import growth, in_fresh_process
from benchmarks.mux import (
    FORGERIES,
    AioiceReceiver,
    AiortcSrtpReceiver,
    OurReceiver,
    OurSrtpReceiver,
    cpu,
)
from benchmarks.receive import STAGES, Feed, Measure, feed, record
from benchmarks.record import our_association, our_protect, our_unprotect
from benchmarks.setup import (
    Callers,
    MakeAnswerer,
    aiortc_answerer,
    full_answerer,
    lite_answerer,
    setup,
)
from mediapeer.dtls import CipherSuite, NamedGroup, ProtocolVersion
from mediapeer.ice import UdpMux

SUITE_12, SUITE_13 = SUITES[ProtocolVersion.DTLS_1_2], SUITES[ProtocolVersion.DTLS_1_3]

RESULT = Result(
    case="a case", metric="time", unit="ms", ours=2.0, peer=1.0, peer_name="somebody", runs=3, target=None
)


@pytest.mark.parametrize(
    ("suite", "group"),
    [
        (SUITE_12, NamedGroup.X25519),
        (SUITE_13, NamedGroup.X25519),
        (SUITE_13, NamedGroup.X25519MLKEM768),
        (CipherSuite.TLS_CHACHA20_POLY1305_SHA256, NamedGroup.X25519),
    ],
)
def test_a_handshake_is_of_the_version_and_group_that_are_measured(
    suite: CipherSuite, group: NamedGroup
) -> None:
    clocks = Clocks()
    configuration = our_configuration(suite, group)
    client, server = handshake(configuration, configuration, clocks)
    expected = ProtocolVersion.DTLS_1_2 if suite is SUITE_12 else ProtocolVersion.DTLS_1_3
    assert client.version is server.version is expected
    assert client.group is server.group is group
    assert clocks.client.seconds > 0
    assert clocks.server.seconds > 0


@pytest.mark.parametrize("change", ["group", "version"])
def test_a_handshake_of_another_kind_is_not_measured(change: str) -> None:
    wanted = our_configuration(SUITE_13, NamedGroup.X25519)
    if change == "group":
        client = wanted
        server = dataclasses.replace(
            wanted, groups=(NamedGroup.SECP256R1,), groups_to_share=(NamedGroup.SECP256R1,)
        )
    else:
        client = dataclasses.replace(
            wanted, minimum_version=ProtocolVersion.DTLS_1_2, cipher_suites=(SUITE_13, SUITE_12)
        )
        server = our_configuration(SUITE_12, NamedGroup.X25519)
    with pytest.raises(RuntimeError, match="is to be measured"):
        handshake(client, server)


def test_a_handshake_of_openssl_with_another_suite_is_not_measured() -> None:
    context = openssl_configuration(SUITE_12)
    openssl_handshake(context, context, suite=SUITE_12)
    with pytest.raises(RuntimeError, match="is to be measured"):
        openssl_handshake(context, context, suite=CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)


def test_a_record_that_is_lost_is_not_measured() -> None:
    sender, receiver = our_association(SUITE_13)
    datagram = our_protect(sender)
    assert our_unprotect(receiver, datagram) == bytes(1_200)
    with pytest.raises(RuntimeError, match="lost"):
        our_unprotect(receiver, datagram)  # a replay


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_dealt_with_and_measured(flood: str) -> None:
    for figures in (
        our_flood(ProtocolVersion.DTLS_1_2, FLOODS[flood]),
        our_flood(ProtocolVersion.DTLS_1_3, FLOODS[flood]),
        openssl_flood(FLOODS[flood]),
    ):
        assert all(microseconds > 0 for microseconds in figures.values())


def test_a_flood_that_gets_through_is_not_measured() -> None:
    for measure in (functools.partial(our_flood, ProtocolVersion.DTLS_1_3), openssl_flood):
        with pytest.raises(RuntimeError, match="made a difference"):
            measure(lambda genuine: [next(genuine), next(genuine)])


def test_the_median_is_taken_of_each_metric_without_the_first_pair() -> None:
    runs = {"ours": iter([99.0, 1.0, 5.0, 3.0]), "peer": iter([99.0, 10.0, 30.0, 20.0])}

    def measure(who: str) -> Figures:
        value = next(runs[who])
        return {"time": value, "twice": 2 * value}

    ours, peer = paired_medians(functools.partial(measure, "ours"), functools.partial(measure, "peer"), 3)
    assert ours == {"time": 3.0, "twice": 6.0}
    assert peer == {"time": 20.0, "twice": 40.0}


def test_a_clock_adds_up_what_is_spent_inside_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr("benchmarks.time.process_time", lambda: next(times))
    clock = CpuClock()
    with clock:
        pass
    assert clock.seconds == 1.0
    with clock:
        pass
    assert clock.seconds == 3.0


@pytest.mark.parametrize(("target", "shown"), [(None, ""), (2.5, "≤ 2.5 ms"), (1.5, "MISSED 1.5 ms")])
def test_a_table_tells_which_target_is_missed(target: float | None, shown: str) -> None:
    result = dataclasses.replace(RESULT, target=target)
    table = as_table("handshake", [result])
    assert shown in table
    assert ("MISSED" in table) == (result.is_met is False)
    assert ("≤" in table) == (result.is_met is True)


def test_what_is_no_round_trip_is_not_counted_as_one() -> None:
    work = 7.0
    short = dataclasses.replace(RESULT, case="DTLS 1.3, round trip 50 ms", ours=work + 100, peer=work + 150)
    long = dataclasses.replace(short, case="DTLS 1.3, round trip 150 ms", ours=work + 300, peer=work + 450)
    (result,) = round_trips_in([short], [long], 100)
    assert (result.ours, result.peer, result.unit) == (2.0, 3.0, "round trips")
    assert result.case == "DTLS 1.3, per round trip"


def test_memory_is_what_a_fresh_process_grows_by() -> None:
    """Each association here is 40,960 bytes that are written to; it counts for two ends."""
    (kilobytes,) = in_fresh_process(
        functools.partial(growth, functools.partial(operator.mul, bytes(range(256)), 160))
    ).values()
    assert 20 < kilobytes < 23


def test_each_benchmark_is_listed() -> None:
    assert names() == [
        "call",
        "flood",
        "handshake",
        "idle",
        "memory",
        "mux",
        "receive",
        "record",
        "recording",
        "setup",
    ]


@pytest.mark.parametrize("make", [OurReceiver, AioiceReceiver, OurSrtpReceiver, AiortcSrtpReceiver])
@pytest.mark.parametrize("kind", [None, *FORGERIES])
def test_a_mux_under_a_flood_still_hands_over_what_is_genuine(
    make: type[OurReceiver | AioiceReceiver | OurSrtpReceiver], kind: str | None
) -> None:
    assert set(cpu(make, kind)) == {"CPU of a datagram"}


def test_packets_are_counted_where_they_have_no_receiver() -> None:
    assert set(cpu(functools.partial(OurSrtpReceiver, has_receiver=False), None)) == {"CPU of a datagram"}


def test_packets_that_do_not_authenticate_are_not_measured() -> None:
    class Deceived(OurSrtpReceiver):
        def media(self) -> ProtectedMedia:
            return ProtectedMedia(material(), 1_100)

    with pytest.raises(RuntimeError, match="were lost"):
        cpu(Deceived, None)


@pytest.fixture(scope="module")
def callers() -> Iterator[Callers]:
    with Callers() as callers:
        yield callers


@pytest.mark.parametrize("make", [lite_answerer, full_answerer, aiortc_answerer])
def test_calls_are_answered_at_once_and_measured(callers: Callers, make: MakeAnswerer) -> None:
    one = setup(callers, make, 1, ProtocolVersion.DTLS_1_2)
    assert set(one) == {"offer received to connected", "CPU of each call"}
    three = setup(callers, make, 3, ProtocolVersion.DTLS_1_2)
    assert 0 < three["offer received to connected"] <= three["offers received to last connected"]
    assert three["CPU of each call"] > 0


def test_a_call_that_fails_is_not_measured() -> None:
    def deceived(mux: UdpMux) -> mediapeer.RTCPeerConnection:
        answerer = lite_answerer(mux)
        certificate = answerer._certificate
        answerer._certificate = mediapeer.RTCCertificate.generateCertificate()
        answerer._assembly.first_path()._certificate = certificate
        return answerer

    with Callers() as callers, pytest.raises(RuntimeError, match="a call is"):
        setup(callers, deceived, 1, ProtocolVersion.DTLS_1_2)


def test_idle_calls_are_counted_with_their_threads() -> None:
    ours, theirs = (idle(make, 20, 0.1) for make in (lite_answerer, aiortc_answerer))
    assert (
        set(ours)
        == set(theirs)
        == {"resident memory of a call", "CPU of a call in a second", "threads of a call"}
    )
    assert (ours["threads of a call"], theirs["threads of a call"]) == (0, 2)


@pytest.fixture(scope="module")
def half_a_second() -> Iterator[Feed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.receive._SECONDS", 0.5)
        feed.cache_clear()
        yield feed()
    feed.cache_clear()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_fed_with_what_the_one_before_gives(half_a_second: Feed, stage: str) -> None:
    ours, peers, _ = STAGES[stage]
    for measure in (ours, peers):
        assert measure()["CPU of a packet"] > 0


def test_all_packets_come_from_the_socket_to_the_file(half_a_second: Feed) -> None:
    assert len(half_a_second.frames) == 15 + 25
    assert record()["CPU of a packet"] > 0


def test_a_stage_that_loses_something_is_not_measured(
    half_a_second: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_a_second.routed[0][1], "payload", b"")
    measures: list[Measure] = [STAGES["order, depacketize"][0], STAGES["depacketize alone"][0]]
    for measure in measures:
        with pytest.raises(RuntimeError, match="frames came"):
            measure()
