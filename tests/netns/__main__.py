"""Say how long calls take to get over what happens to their networks: ``python -m tests.netns [SCENARIOS]``."""

import sys

from tests.netns.scenarios import SCENARIOS
from tests.tools import sandbox


def main() -> None:
    """Play, and print a line for each scenario."""
    reports = sandbox.run_module(
        "tests.netns.scenarios", {"scenarios": sys.argv[1:] or list(SCENARIOS)}, timeout_seconds=300
    )
    del reports["output"]
    print(f"{'scenario':<32}{'longest gap of caller, server; lag, in seconds':<48}states of the caller")
    for name, report in reports.items():
        if "caller" not in report:
            print(f"{name:<32}{report}")
            continue
        gaps = [
            max(gap for gaps in report[end]["gaps"].values() for gap in gaps.values())
            for end in ("caller", "server")
        ]
        states = ", ".join(f"{state} {moment:+.1f}" for moment, state in report["caller"]["moments"])
        lag = max(report[end]["lag"] for end in ("caller", "server"))
        print(f"{name:<32}{gaps[0]:<8}{gaps[1]:<8}{lag:<32}{states}")


if __name__ == "__main__":
    main()
