"""Calls go on over networks that change: between hosts in namespaces, with real sockets.

``python -m tests.netns`` says how long the gaps were.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.netns.scenarios import SCENARIOS
from tests.tools import sandbox

# All are played by one program, several at a time: one worker of pytest-xdist runs it.
pytestmark = [pytest.mark.xdist_group("networks"), pytest.mark.timeout(240)]

ENDS = ("caller", "server")
Played = Callable[[str], dict[str, Any]]


def variants(play: str) -> pytest.MarkDecorator:
    """The scenarios of one play."""
    return pytest.mark.parametrize("name", [name for name in SCENARIOS if name.startswith(play)])


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Played:
    """Play what the chosen tests need, and give what came of each."""
    if reason := sandbox.refusal():
        pytest.skip(reason)
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    reports = sandbox.run_module("tests.netns.scenarios", {"scenarios": names}, timeout_seconds=200)

    def of(name: str) -> dict[str, Any]:
        report: dict[str, Any] = reports[name]
        if "skipped" in report:
            pytest.skip(report["skipped"])
        assert "failure" not in report, report["failure"]
        for end in ENDS:
            assert report[end]["all_messages"], report
            assert "failed" not in report[end]["ice_states"], report
            assert report[end]["states"][-1] == "connected"
        assert "Traceback" not in reports["output"], reports["output"]
        return report

    return of


def longest_gap(report: dict[str, Any]) -> float:
    """The longest time without sound or without messages at either end."""
    return max(gap for end in ENDS for gaps in report[end]["gaps"].values() for gap in gaps.values())


def allowed(report: dict[str, Any], seconds: float) -> float:
    """So many seconds on a machine with time, more on one that let the ends' event loops wait."""
    return seconds + 4 * max(report[end]["lag"] for end in ENDS)


@variants("rebinding")
def test_a_call_goes_on_when_the_nat_has_forgotten_it(name: str, played: Played) -> None:
    report = played(name)
    for end in ENDS:
        assert report[end]["states"] == ["connecting", "connected"], report
        # Each time the way was really gone.
        assert all(gaps["sound"] > 0.3 for gaps in report[end]["gaps"].values()), report
    assert report["server"]["pair"]["remote"].startswith("prflx"), report
    assert longest_gap(report) < allowed(report, 1.5), report


@variants("outage")
def test_a_call_comes_back_after_an_outage_of_eight_seconds(name: str, played: Played) -> None:
    report = played(name)
    for end in ENDS:
        assert report[end]["states"] == ["connecting", "connected", "disconnected", "connected"], report
        disconnected = next(moment for moment, state in report[end]["moments"] if state == "disconnected")
        assert 3 < disconnected < allowed(report, 5), report
    assert report["seconds"]["connected"] < allowed(report, 2), report
    assert report["seconds"]["flowing"] < allowed(report, 3), report


@variants("address_change")
def test_a_call_goes_on_from_another_network(name: str, played: Played) -> None:
    report = played(name)
    for end in ENDS:
        assert report[end]["states"] == ["connecting", "connected"], report
    assert report["caller"]["pair"]["local"] == "host 10.2.0.2", report
    assert longest_gap(report) < allowed(report, 1), report


@variants("restart")
def test_ice_restarts_from_either_side_while_all_flows(name: str, played: Played) -> None:
    report = played(name)
    for end in ENDS:
        assert report[end]["states"] == ["connecting", "connected"], report
        assert len(report[end]["gaps"]) == 4
    assert longest_gap(report) < allowed(report, 1), report


@variants("ipv6")
def test_ipv6_alone_will_do(name: str, played: Played) -> None:
    report = played(name)
    assert report["caller"]["pair"] == {"local": "host 2001:db8:1::2", "remote": "host 2001:db8:2::2"}
    assert report["seconds"]["flowing"] < allowed(report, 3), report


@variants("relay_only")
def test_relay_only_tells_and_uses_nothing_else(name: str, played: Played) -> None:
    report = played(name)
    assert report["told"], report
    for candidate in report["told"]:
        assert " typ relay raddr 0.0.0.0 rport 9" in candidate
    assert report["caller"]["pair"]["local"] == "relay 203.0.113.1", report
    assert report["server"]["pair"]["remote"] == "relay 203.0.113.1", report
    assert report["seconds"]["flowing"] < allowed(report, 3), report
    assert longest_gap(report) < allowed(report, 1), report
