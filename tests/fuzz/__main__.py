"""``python -m tests.fuzz``: each target under atheris for a while, and what came of it; ``make fuzz`` calls this.

What the fuzzer learns stays in ``build/fuzz`` and is gone on with the next time.
"""

import argparse
import hashlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

from tests.fuzz import corpus
from tests.fuzz.seeds import FOUND
from tests.fuzz.target import TARGETS, load

DIRECTORY = pathlib.Path("build/fuzz")
_PATTERNS = {
    "executions": r"stat::number_of_executed_units:\s*(\d+)",
    "edges": r"^#\d+\s.*?cov: (\d+)",
    "inputs": r"^#\d+\s.*?corp: (\d+)",
    "megabytes": r"stat::peak_rss_mb:\s*(\d+)",
}


def main() -> int:
    """The command line. 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"out of {', '.join(TARGETS)}; all by default"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--input", type=pathlib.Path, help="try this one input, without atheris")
    parser.add_argument(
        "--keep",
        type=int,
        metavar="BYTES",
        help="do not fuzz: put the best of what was learnt into the repository",
    )
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    if unknown := set(targets) - TARGETS.keys():
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    if options.input is not None:
        for target in targets:
            load(target).run(options.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print(
            "Nothing is fuzzed: atheris is not installed. It is to be had for Python 3.11 to 3.13 on x86-64 Linux."
        )
        return 0
    if options.keep is not None:
        for target in targets:
            keep(target, options.keep)
        return 0
    print(f"{'target':10} {'executions':>10} {'per second':>10} {'edges':>6} {'inputs':>6} {'MB':>5}")
    return int(sum(fuzz(target, options.seconds) for target in targets) > 0)


def fuzz(target: str, seconds: int) -> bool:
    """Run one target, print its line, and say whether something was found."""
    directory = DIRECTORY / target
    learnt, findings = directory / "corpus", directory / "findings"
    for path in (learnt, findings):
        path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        _lay_out(target, pathlib.Path(seeds))
        status, log = _atheris(
            target, f"-max_total_time={seconds}", f"-artifact_prefix={findings}/", str(learnt), seeds
        )
    (directory / "log.txt").write_text(log)
    figures = {
        name: ([*re.findall(pattern, log, re.MULTILINE), "0"][-2:])[0] for name, pattern in _PATTERNS.items()
    }
    rate = int(figures["executions"]) // max(1, seconds)
    print(
        f"{target:10} {figures['executions']:>10} {rate:>10} {figures['edges']:>6} {figures['inputs']:>6}"
        f" {figures['megabytes']:>5}",
        flush=True,
    )
    if status == 0:
        return False
    print(_what_was_found(log))
    artifact = re.findall(r"Test unit written to (\S+)", log)
    if artifact:
        print(f"To see it again: python -m tests.fuzz {target} --input {artifact[-1]}")
    return True


def keep(target: str, maximum_bytes: int) -> None:
    """Put into the corpus what covers more than the seeds do, the shortest first, until so many bytes are used."""
    with tempfile.TemporaryDirectory() as merged:
        kept = {name: data for name, data in corpus.read(target).items() if not name.startswith(FOUND)}
        for name, data in kept.items():
            (pathlib.Path(merged) / name).write_bytes(data)
        status, log = _atheris(target, "-merge=1", merged, str(DIRECTORY / target / "corpus"))
        if status:
            print(_what_was_found(log))
            return
        new = [path.read_bytes() for path in pathlib.Path(merged).iterdir() if path.name not in kept]
    found: dict[str, bytes] = {}
    for data in sorted(new, key=lambda data: (len(data), data)):
        maximum_bytes -= len(data)
        if maximum_bytes < 0:
            break
        found[FOUND + hashlib.sha256(data).hexdigest()[:8]] = data
    corpus.write(target, kept | found)
    print(
        f"{target}: {len(found)} of {len(new)} are kept, {corpus.path_of(target).stat().st_size:,} bytes in all"
    )


def _lay_out(target: str, directory: pathlib.Path) -> None:
    for name, data in corpus.read(target).items():
        (directory / name).write_bytes(data)


def _atheris(target: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.fuzz.atheris_run", target, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _what_was_found(log: str) -> str:
    """The part of the log that tells of a finding."""
    _, mark, rest = log.partition(" === Uncaught Python exception: ===")
    lines = (mark + rest).splitlines() if mark else log.splitlines()[-40:]
    return "\n".join(line[:300] for line in lines if not line.startswith(("0x", "stat::")))


if __name__ == "__main__":
    sys.exit(main())
