"""Runs BoringSSL's test runner with our shim, and says what is otherwise than ``expected.json`` has it.

A test passes, fails, or is unimplemented (the shim knew a flag that it cannot serve). ``expected.json`` names, by
pattern and with its reason, each test that need not pass; a test that passes in spite of that is as unexpected as one
that fails without it.
"""

import argparse
import collections
import contextlib
import fnmatch
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
EVERYTHING = "*DTLS*"
MAXIMUM_ARGUMENT = 120_000
"How long the list of tests to skip may be: the kernel takes no argument of more than 128 KiB."

_OUTCOME = re.compile(r"^(PASSED|FAILED|UNIMPLEMENTED) \((.+)\)$")
_PANIC = re.compile(r"^Test '(.+)' panicked\.$", re.MULTILINE)


class RunnerFailed(Exception):
    """The runner itself did not work."""


@dataclass
class Results:
    """How the tests went, by name, and what the runner said of those that did not pass."""

    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def take(self, output: str) -> None:
        """Read what the runner printed."""
        name = ""
        for line in output.splitlines():
            if match := _OUTCOME.match(line):
                outcome, name = match.groups()
                self.outcomes[name] = outcome
                self.details[name] = ""
            elif name:
                self.details[name] += line + "\n"


@dataclass(frozen=True)
class Expectations:
    """Which tests need not pass."""

    reasons: Mapping[str, str]
    "Pattern to reason."

    @classmethod
    def load(cls, path: pathlib.Path) -> "Expectations":
        """Read ``expected.json``."""
        return cls(json.loads(path.read_text()))

    def reason(self, name: str) -> str | None:
        """Why a test need not pass; ``None`` when it must."""
        return next(
            (why for pattern, why in self.reasons.items() if fnmatch.fnmatchcase(name, pattern)), None
        )

    def unused(self, names: Sequence[str]) -> list[str]:
        """The patterns that speak of none of these tests."""
        return [pattern for pattern in self.reasons if not fnmatch.filter(names, pattern)]


def family(name: str) -> str:
    """The family that a test belongs to: the first word of its name, or two where the first says nothing."""
    words = name.split("-")
    return "-".join(words[:2]) if words[0] == "DTLS" and len(words) > 1 else words[0]


@contextlib.contextmanager
def shim_command() -> Iterator[pathlib.Path]:
    """A command that starts the shim with this interpreter: the runner wants the path of one file."""
    with tempfile.TemporaryDirectory(prefix="mediapeer-bogo-") as directory:
        path = pathlib.Path(directory) / "shim"
        python = shlex.quote(sys.executable)
        search = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        path.write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(search)} exec {python} -m tests.bogo.shim "$@"\n'
        )
        path.chmod(0o755)
        yield path


def run_tests(runner: pathlib.Path, pattern: str, jobs: int) -> Results:
    """Run the tests that match ``pattern``; patterns are separated by semicolons.

    When a shim does something that the runner thinks impossible, the runner as a whole panics. The test at fault has
    failed then, and the others go on in a new process.
    """
    results = Results()
    with shim_command() as shim:
        while True:
            skip = ";".join(results.outcomes)
            if len(skip) > MAXIMUM_ARGUMENT:
                raise RunnerFailed("the runner panicked late; run fewer tests at once, by --filter")
            command = [
                *(str(runner.absolute()), "-shim-path", str(shim)),
                *("-shim-config", str(HERE / "config.json"), "-allow-unimplemented", "-pipe"),
                *("-num-workers", str(jobs), "-test", pattern, "-skip", skip),
            ]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            results.take(done.stdout)
            panic = _PANIC.search(done.stderr)
            if panic is None:
                if done.returncode not in (0, 1) or not results.outcomes:
                    raise RunnerFailed((done.stderr or done.stdout).strip())
                return results
            results.outcomes[panic[1]] = "FAILED"
            results.details[panic[1]] = done.stderr[panic.start() :].split("\n\n")[0]


def summary(results: Results) -> str:
    """A table: families and how many of their tests passed."""
    families: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, outcome in results.outcomes.items():
        families[family(name)][outcome] += 1
        families["all"][outcome] += 1
    lines = [f"{'family':52}  tests  passed  failed  unimplemented"]
    for name in sorted(families, key=lambda name: (name == "all", name)):
        counts = families[name]
        passed, failed, other = (counts[each] for each in ("PASSED", "FAILED", "UNIMPLEMENTED"))
        lines.append(f"{name:52}  {counts.total():5}  {passed:6}  {failed:6}  {other:13}")
    return "\n".join(lines)


def report(results: Results, expectations: Expectations, *, whole: bool, verbose: bool) -> bool:
    """Print what happened; return whether all of it was expected."""
    passes, failures = [], []
    for name, outcome in sorted(results.outcomes.items()):
        reason = expectations.reason(name)
        if outcome == "PASSED" and reason is not None:
            passes.append(name)
        elif outcome != "PASSED" and reason is None:
            failures.append(name)
    print(summary(results))
    for name in passes:
        print(f"\nunexpected pass: {name} (expected.json: {expectations.reason(name)})")
    for name in failures:
        print(f"\nunexpected: {name} {results.outcomes[name]}")
        if verbose:
            print(results.details[name].rstrip())
    unused = expectations.unused(list(results.outcomes)) if whole else []
    for pattern in unused:
        print(f"\nno test is called {pattern}: expected.json is out of date")
    excluded = sum(expectations.reason(name) is not None for name in results.outcomes)
    print(
        f"\n{len(results.outcomes)} tests, {excluded} of them excluded; unexpected: {len(passes)} passes,",
        end=" ",
    )
    print(f"{len(failures)} others")
    return not (passes or failures or unused)


def write_json(results: Results, expectations: Expectations, path: pathlib.Path) -> None:
    """Write each test's outcome, and the reason why it need not pass if there is one."""
    tests = {
        name: {"outcome": outcome, "reason": expectations.reason(name)}
        for name, outcome in sorted(results.outcomes.items())
    }
    path.write_text(json.dumps({"tests": tests}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; the exit code is 0 when everything is as expected."""
    parser = argparse.ArgumentParser(prog="tests/bogo/run", description=__doc__.partition("\n")[0])
    parser.add_argument("--runner", type=pathlib.Path, required=True, help="the runner; see README.md")
    parser.add_argument("--filter", default=EVERYTHING, metavar="GLOB", help="the tests to run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="tests at once")
    parser.add_argument("--json", type=pathlib.Path, default="bogo.json", help="where the outcomes go")
    parser.add_argument("--verbose", action="store_true", help="print what the runner says of failures")
    chosen = parser.parse_args(arguments)
    expectations = Expectations.load(HERE / "expected.json")
    try:
        results = run_tests(chosen.runner, chosen.filter, chosen.jobs)
    except (RunnerFailed, OSError) as error:
        print(f"the runner does not run: {error}", file=sys.stderr)
        return 2
    write_json(results, expectations, chosen.json)
    as_expected = report(results, expectations, whole=chosen.filter == EVERYTHING, verbose=chosen.verbose)
    return 0 if as_expected else 1
