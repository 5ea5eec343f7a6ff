"""How long browsers and our end take to connect, and whether they do, when datagrams are lost.

``python -m tests.e2e.lossy --seeds 12`` makes that many calls for each browser and each rate of loss through a
relay that drops STUN, DTLS and SRTP alike, both ways, and prints how many connected and in what time.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from tests.e2e.loss_scenario import PATIENCE
from tests.tools import sandbox
from tests.tools.browser import BROWSERS, BrowserName, missing_programs

RATES = (0.1, 0.3)
_HEADING = f"{'browser':<24}{'rate':>6}{'lost':>8}{'connected':>12}{'min':>8}{'median':>8}{'max':>8}  seconds"


def make_calls(browser: BrowserName, rate: float, seeds: Sequence[int]) -> dict[str, Any]:
    """Make a call for each seed; the report of :func:`tests.e2e.loss_scenario.play`."""
    options = {"browser": browser, "rate": rate, "seeds": list(seeds)}
    timeout_seconds = 60 + 2 * PATIENCE * len(seeds)
    return sandbox.run_module("tests.e2e.loss_scenario", options, timeout_seconds=timeout_seconds)


def describe(browser: BrowserName, rate: float, report: dict[str, Any]) -> str:
    """A line for the table, and one for each call that failed."""
    calls = report["calls"]
    times = [call["connected_after"] for call in calls if call["connected_after"] is not None]
    name = f"{browser} {report['version']}"
    lost = sum(sum(call["lost"].values()) for call in calls)
    lost_share = lost / (lost + sum(sum(call["carried"].values()) for call in calls))
    line = f"{name:<24}{rate:>6.0%}{lost_share:>8.1%}{f'{len(times)} of {len(calls)}':>12}"
    if times:
        line += f"{min(times):>8.2f}{statistics.median(times):>8.2f}{max(times):>8.2f}"
    failures = [
        f"\n  seed {call['seed']}, {call['offerer']} offers, DTLS client {call['dtls_client']}: {call['failure']}"
        for call in calls
        if "failure" in call
    ]
    return line + "".join(failures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the calls, and print the table; not 0 when a call failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.lossy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=12, metavar="N", help="calls for each browser and rate")
    options = parser.parse_args(arguments)
    if reason := sandbox.refusal():
        sys.exit(reason)
    failed = 0
    print(_HEADING)
    for browser in BROWSERS:
        if missing := missing_programs(browser):
            print(f"{browser}: needs {' and '.join(missing)}")
            continue
        for rate in RATES:
            report = make_calls(browser, rate, range(options.seeds))
            print(describe(browser, rate, report), flush=True)
            failed += sum("failure" in call for call in report["calls"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
