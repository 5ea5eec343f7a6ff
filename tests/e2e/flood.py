"""How many datagrams of a flood the server deals with while a call with a browser goes on.

``python -m tests.e2e.flood --rates 1000 5000`` makes a call for each browser and rate: one flood comes from other
ports, another seems to come from the browser's. What is printed depends on the machine, and on what else it does.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, get_args

from tests.e2e.flood_scenario import Source
from tests.tools import sandbox
from tests.tools.browser import BROWSERS, BrowserName, missing_programs

SOURCES: tuple[Source, ...] = get_args(Source)
RATES = (1000.0, 5000.0, 10_000.0)
ENOUGH = 0.7
"The share of its usual frames and packets that a call has to have in order to count as unharmed."
_HEADING = (
    f"{'browser':<24}{'from':>10}{'sent/s':>8}{'dropped/s':>10}{'CPU':>11}{'round trip':>14}"
    f"{'video in, out':>24}{'audio in, out':>24}"
)


def make_call(browser: BrowserName, rate: float, seconds: float = 6.0) -> dict[str, Any]:
    """Make a call and flood it from everywhere for ``seconds`` each; see :func:`tests.e2e.flood_scenario.play`."""
    options = {"browser": browser, "sources": SOURCES, "rate": rate, "seconds": seconds}
    return sandbox.run_module("tests.e2e.flood_scenario", options, timeout_seconds=150)


def shares(report: dict[str, Any], source: Source) -> dict[str, float]:
    """How much of each kind there was during a flood, as a share of what there was before."""
    before, meanwhile = report["before"], report["meanwhile"][source]
    return {
        f"{end}: {kind}": meanwhile[end][kind] / before[end][kind]
        for end in ("browser", "server")
        for kind in before[end]
    }


def is_unharmed(report: dict[str, Any], source: Source) -> bool:
    """Whether the call went on as before during a flood: states, pictures and sound."""
    states = report["states"]
    return (
        min(shares(report, source).values()) >= ENOUGH
        and states["browser"] == ["connecting", "connected"]
        and states["server"][:2] == ["connecting", "connected"]
        and report["afterwards"]["state"] == "connected"
    )


def describe(browser: BrowserName, source: Source, report: dict[str, Any]) -> str:
    """A line for the table."""
    before, meanwhile = report["before"], report["meanwhile"][source]
    dropped = sum(meanwhile["dropped"].values()) / meanwhile["seconds"]

    def change(*keys: str) -> str:
        values = [before, meanwhile]
        for key in keys:
            values = [value[key] for value in values]
        return f"{values[0]:.2f}→{values[1]:.2f}" if values[0] < 10 else f"{values[0]:.0f}→{values[1]:.0f}"

    return (
        f"{browser + ' ' + report['version']:<24}{source:>10}{report['sent'][source] / report['flood_seconds']:>8.0f}"
        f"{dropped:>10.0f}{change('server_cpu'):>11}{change('round_trip') + ' s':>14}"
        f"{change('server', 'video') + ', ' + change('browser', 'framesDecoded'):>24}"
        f"{change('server', 'audio') + ', ' + change('browser', 'audioPackets'):>24}"
        f"{'' if is_unharmed(report, source) else '  harmed'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the calls, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.flood", description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="datagrams a second")
    options = parser.parse_args(arguments)
    if reason := sandbox.refusal():
        sys.exit(reason)
    print(f"{_HEADING}  (before→meanwhile; frames and packets are those of a second)")
    for browser in BROWSERS:
        if missing := missing_programs(browser):
            print(f"{browser}: needs {' and '.join(missing)}")
            continue
        for rate in options.rates:
            report = make_call(browser, rate)
            for source in SOURCES:
                print(describe(browser, source, report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
