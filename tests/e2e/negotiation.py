"""How long browsers and our end take to connect, to restart, to agree and to notice an end; how many layers we see.

``python -m tests.e2e.negotiation`` plays with each browser what tests/e2e/test_negotiation.py judges, and prints it.
What is printed depends on the machine, and on what else it does.
"""

import sys
from collections.abc import Iterator
from typing import Any

from tests.tools import sandbox
from tests.tools.browser import BROWSERS, BrowserName, missing_programs

Report = dict[str, Any]


def make_calls(browser: BrowserName, *, hides_addresses: bool = False) -> Report:
    """The report of :func:`tests.e2e.negotiation_scenario.play`, with all scenarios."""
    options = {"browser": browser, "hides_addresses": hides_addresses}
    return sandbox.run_module("tests.e2e.negotiation_scenario", options, timeout_seconds=200)


def describe(reports: Report) -> Iterator[tuple[str, str]]:
    """What each scenario came to, in a line or two."""
    for name, report in reports.items():
        if "failure" in report:
            yield name, f"failed: {report['failure'].splitlines()[-1]}"
        else:
            yield from _LINES[name](report)


def _trickle(report: Report) -> Iterator[tuple[str, str]]:
    for order in ("after", "before"):
        times = [f"{report[f'{side} offers, {order}']['connected_after']:.2f}" for side in ("page", "python")]
        yield (
            f"connected, candidates {order} descriptions",
            f"{times[0]} s (page offers), {times[1]} s (we offer)",
        )


def _restart(report: Report) -> Iterator[tuple[str, str]]:
    for side in ("page", "python"):
        gaps = report[f"{side} restarts"]["gaps"]
        seconds = {end: max(gaps[end].values()) for end in gaps}
        text = f"{seconds['page']:.2f} s in the page, {seconds['python']:.2f} s here"
        yield f"longest gap when {'the page restarts' if side == 'page' else 'we restart'}", text


def _renegotiation(report: Report) -> Iterator[tuple[str, str]]:
    seconds, rounds = report["seconds"], len(report["rounds"]) // 2
    text = f"{seconds['page'] / rounds:.2f} s (the page's), {seconds['python'] / rounds:.2f} s (ours)"
    yield f"a video added, decoded, ended, {rounds} times", text


def _glare(report: Report) -> Iterator[tuple[str, str]]:
    for side in ("page", "python"):
        found = report[f"polite {side}"]
        text = f"{found['rounds']} of {found['rounds']}, offers met in {found['rounds_in_which_offers_met']}"
        yield f"agreed after glare, {'the page' if side == 'page' else 'we'} polite", text


def _simulcast(report: Report) -> Iterator[tuple[str, str]]:
    packets = ", ".join(f"{rid} {layer['packets']}" for rid, layer in sorted(report["layers"].items()))
    yield (
        "layers of simulcast",
        f"{len(report['layers'])} after {report['seconds']:.1f} s (packets: {packets})",
    )


def _tabs(report: Report) -> Iterator[tuple[str, str]]:
    for agent, found in report.items():
        if agent in ("full", "lite"):
            text = f"{max(found['connected_after']):.2f} s, sockets: {len(found['ports'])}"
            yield f"{len(found['connected_after'])} tabs connected, {agent} agent", text


def _silent_ends(report: Report) -> Iterator[tuple[str, str]]:
    for what in ("tab closed", "browser killed"):
        yield what, f"{report[what]['state']} after {report[what]['seconds']:.2f} s"


_LINES: dict[str, Any] = {
    "trickle": _trickle,
    "restart": _restart,
    "renegotiation": _renegotiation,
    "glare": _glare,
    "simulcast": _simulcast,
    "tabs": _tabs,
    "silent_ends": _silent_ends,
    "hidden_addresses": lambda report: [("connected to a .local name", f"{report['connected_after']:.2f} s")],
}


def main() -> int:
    """Play with each browser, and print the tables."""
    if reason := sandbox.refusal():
        sys.exit(reason)
    for browser in BROWSERS:
        if missing := missing_programs(browser):
            print(f"{browser}: needs {' and '.join(missing)}")
            continue
        result = make_calls(browser)
        reports = result["reports"] | make_calls(browser, hides_addresses=True).get("reports", {})
        print(f"{browser} {result['version']}")
        for what, came_to in describe(reports):
            print(f"    {what:<44}{came_to}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
