"""The command ``python -m tests.dtls.differential``."""

import argparse
import collections
import sys
import time
from collections.abc import Iterator, Sequence

from tests.dtls.differential import openssl, wolf
from tests.dtls.differential.outcomes import Outcome, judge
from tests.dtls.differential.prediction import Expected, is_sound
from tests.dtls.differential.setups import Peer, Setup, draw
from tests.tools import wolfssl

PEERS: tuple[Peer, ...] = ("OpenSSL", "wolfSSL")


def sound_setups(seed: int, peer: Peer, count: int) -> list[Setup]:
    """The first ``count`` setups of a seed in which our configuration can be made."""
    found: list[Setup] = []
    number = 0
    while len(found) < count:
        setup = draw(seed, number, peer)
        number += 1
        if is_sound(setup.ours):
            found.append(setup)
    return found


def associations(peer: Peer, setups: list[Setup]) -> Iterator[tuple[Setup, Outcome]]:
    """Make the associations of these setups."""
    return openssl.run(setups) if peer == "OpenSSL" else wolf.run(setups)


class Tally:
    """What came of all setups with one peer."""

    def __init__(self) -> None:
        self.kinds: collections.Counter[str] = collections.Counter()
        "How many there were of each kind."
        self.quirks: collections.Counter[str] = collections.Counter()
        "How many differ for a known reason."
        self.unexplained: list[str] = []
        "Those that differ for no known reason."

    def add(self, setup: Setup, outcome: Outcome) -> None:
        """Take one more."""
        expected, found, quirks = judge(setup, outcome)
        self.kinds[_kind(setup, expected)] += 1
        if quirks:
            self.quirks[" and ".join(quirk.value for quirk in quirks)] += 1
        elif found:
            self.unexplained.append(f"{setup}\n    {'; '.join(found)}")


def _kind(setup: Setup, expected: Expected) -> str:
    role = f"we are the {setup.role.value}"
    if expected.version is not None:
        return f"{role}: {expected.version.label}" + (", with losses" if setup.loss else "")
    return f"{role}: {', '.join(expected.reasons)}"


def describe(peer: Peer, tally: Tally, seconds: float) -> str:
    """A report of one peer."""
    total = tally.kinds.total()
    explained = tally.quirks.total()
    lines = [
        f"{peer}: {total} configurations in {seconds:.0f} s; {total - explained - len(tally.unexplained)} as "
        f"expected, {explained} explained, {len(tally.unexplained)} not explained",
        *(f"  {count:5}  {kind}" for kind, count in sorted(tally.kinds.items())),
        *(f"  {count:5}  explained: {quirk}" for quirk, count in tally.quirks.items()),
        *(f"\n{text}" for text in tally.unexplained),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the associations, and report; not 0 when an outcome is not explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.dtls.differential", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="configurations, shared among the peers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", choices=PEERS, action="append", help="only this one")
    options = parser.parse_args(arguments)
    peers: list[Peer] = list(options.peer or PEERS)
    if "wolfSSL" in peers and (reason := wolfssl.refusal()):
        sys.exit(f"wolfSSL {reason}")
    unexplained = 0
    for peer in peers:
        tally, started = Tally(), time.monotonic()
        for setup, outcome in associations(
            peer, sound_setups(options.seed, peer, options.count // len(peers))
        ):
            tally.add(setup, outcome)
        print(describe(peer, tally, time.monotonic() - started), flush=True)
        unexplained += len(tally.unexplained)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
