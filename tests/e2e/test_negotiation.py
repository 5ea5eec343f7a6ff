"""Browsers and our end negotiate: trickling, restarting, changing their minds, both at once; and a path that ends.

A program in a sandbox does it all with one browser, tests/e2e/negotiation_scenario.py; here its report is judged.
``python -m tests.e2e.negotiation`` prints it.
"""

import pytest

from tests.e2e.negotiation import Report, make_calls
from tests.e2e.negotiation_scenario import (
    ENDINGS,
    ENOUGH_PACKETS,
    RIDS,
    SIMULCAST_PATIENCE,
    TABS,
)
from tests.e2e.test_calls import SIGNS_OF_TROUBLE
from tests.tools.browser import BrowserName

pytestmark = [pytest.mark.browser, pytest.mark.timely, pytest.mark.timeout(240)]

#: The longest time for which media may stop when ICE restarts, in seconds.
LONGEST_GAP = 1.0
#: The longest time until we notice that a page or a browser is no more, in seconds.
LONGEST_UNNOTICED = 5.0
#: The longest time until two ends on one machine are connected, in seconds.
LONGEST_TO_CONNECT = 3.0

_runs: dict[tuple[BrowserName, int], Report | AssertionError] = {}


@pytest.fixture
def reports(browser: BrowserName, request: pytest.FixtureRequest) -> Report:
    """What happened with one browser, by scenario. Each browser plays once, and once more for each attempt."""
    key = (browser, request.node.callspec.params.get("attempt", 1))
    if key not in _runs:
        try:
            _runs[key] = make_calls(browser)
        except AssertionError as error:
            _runs[key] = error
    run = _runs[key]
    if isinstance(run, AssertionError):
        raise run
    assert [sign for sign in SIGNS_OF_TROUBLE if sign in run["output"]] == [], run["output"]
    found: Report = run["reports"]
    return found


def played(reports: Report, scenario: str) -> Report:
    """The report of a scenario, which went to its end."""
    report: Report = reports[scenario]
    assert "failure" not in report, report["failure"]
    return report


@pytest.mark.parametrize("order", ["after", "before"])
@pytest.mark.parametrize("offerer", ["page", "python"])
def test_candidates_trickle_after_their_descriptions_or_before_them(
    reports: Report, offerer: str, order: str
) -> None:
    report = played(reports, "trickle")[f"{offerer} offers, {order}"]
    answerer = "python" if offerer == "page" else "page"
    for side, kind in ((offerer, "offer"), (answerer, "answer")):
        # Firefox may begin with each section by itself, and tell the end of each one's candidates.
        first, *later = report["passages"][side]
        assert (first, later[0], later[-1], {*later}) == (kind, "candidate", "end", {"candidate", "end"})
    assert report["in_descriptions"]["python"] == 0, "our description waited for candidates"
    assert report["connected_after"] < LONGEST_TO_CONNECT
    assert report["messages"] == [f"chat from {'the page' if offerer == 'page' else 'Python'}"]
    assert report["errors"] == []


@pytest.mark.parametrize("side", ["page", "python"])
def test_media_goes_on_when_ice_restarts(reports: Report, side: str) -> None:
    report = played(reports, "restart")[f"{side} restarts"]
    assert sorted(report["gaps"]["python"]) == sorted(report["gaps"]["page"]) == ["audio", "video"]
    for gap in (*report["gaps"]["python"].values(), *report["gaps"]["page"].values()):
        assert gap <= LONGEST_GAP, report["gaps"]
    assert report["samples"] > 10 * LONGEST_GAP, "looked too seldom to see a gap"
    assert not {"disconnected", "failed", "closed"} & {*report["states"], *report["page_states"]}
    assert report["errors"] == []


def test_video_is_added_and_removed_again_and_again(reports: Report) -> None:
    """As W3C webrtc §5.1 and RFC 9429 §5.2.2 have it.

    A transceiver that has sent is not taken for another track: there is a new section for that, or the one of a
    transceiver that was stopped. The page begins with sections for audio and data. Our end finds transceivers that
    the page's tracks have left, and which have never sent.
    """
    report = played(reports, "renegotiation")
    assert [each["how"] for each in report["rounds"]] == [*ENDINGS, *ENDINGS]
    sections = [3, 4, 4, 5, 5, 5, 5, 5, 5, 5]
    assert [each["sections_with"] for each in report["rounds"]] == sections
    assert [each["sections_without"] for each in report["rounds"]] == sections
    left = [2, 2, 3, 3, 4, 4, 3, 3, 3, 4]
    assert [each["transceivers_without"] for each in report["rounds"]] == [[count, count] for count in left]
    assert report["errors"] == []


@pytest.mark.parametrize("polite", ["page", "python"])
def test_both_sides_change_something_at_once_and_agree_in_the_end(reports: Report, polite: str) -> None:
    report = played(reports, "glare")[f"polite {polite}"]
    assert report["rounds_in_which_offers_met"] >= report["rounds"] // 2
    assert "sendrecv" in report["directions"], "the last round's videos have no section in common"
    assert report["errors"] == []


def test_every_layer_of_simulcast_is_seen(reports: Report) -> None:
    report = played(reports, "simulcast")
    assert sorted(report["layers"]) == sorted(RIDS), report
    assert min(layer["packets"] for layer in report["layers"].values()) >= ENOUGH_PACKETS, report
    assert len({layer["ssrc"] for layer in report["layers"].values()}) == len(RIDS)
    assert len({layer["mid"] for layer in report["layers"].values()}) == 1
    assert report["frames"] > 0
    assert report["seconds"] < SIMULCAST_PATIENCE + LONGEST_TO_CONNECT
    assert report["errors"] == []


@pytest.mark.parametrize("agent", ["full", "lite"])
def test_three_tabs_share_one_port(reports: Report, agent: str) -> None:
    report = played(reports, "tabs")[agent]
    assert report["ports"] == [report["port"]], "another socket than the one for all"
    assert report["ports_left"] == []
    assert report["is_lite"] == [agent == "lite"] * TABS
    assert report["messages"] == [
        [f"tab {number} from Python", "page from the page"] for number in range(TABS)
    ]
    assert max(report["connected_after"]) < LONGEST_TO_CONNECT
    assert report["errors"] == []


def test_a_closed_tab_is_noticed(reports: Report) -> None:
    report = played(reports, "silent_ends")["tab closed"]
    assert report["state"] in ("disconnected", "closed")
    assert report["seconds"] <= LONGEST_UNNOTICED
    assert report["errors"] == []


def test_a_killed_browser_is_noticed(reports: Report) -> None:
    report = played(reports, "silent_ends")["browser killed"]
    assert report["state"] == "disconnected"
    assert report["seconds"] <= LONGEST_UNNOTICED
    assert report["errors"] == []


def test_a_page_that_hides_its_addresses_is_found(browser: BrowserName) -> None:
    """By their names alone: it never learns our address."""
    result = make_calls(browser, hides_addresses=True)
    if "cannot" in result:
        pytest.skip(result["cannot"])
    assert [sign for sign in SIGNS_OF_TROUBLE if sign in result["output"]] == [], result["output"]
    report = played(result["reports"], "hidden_addresses")
    assert report["addresses"]
    assert all(address.endswith(".local") for address in report["addresses"]), report
    assert report["connected_after"] < LONGEST_TO_CONNECT
    assert report["messages"] == ["chat from the page"]
    assert report["errors"] == []
