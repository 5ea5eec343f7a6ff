"""The command ``python -m benchmarks [NAME [--json]]``."""

import argparse
import importlib
import json
import os
import pathlib
import pkgutil
import platform
import sys
from collections.abc import Sequence

import benchmarks
from benchmarks import Result


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name[0] != "_"
    )


def description(name: str) -> str:
    """The first line of a benchmark's docstring."""
    return (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip().partition("\n")[0]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for key, _, value in fields if key.strip() == "model name"), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def as_json(name: str, results: Sequence[Result]) -> str:
    """One object with everything a program needs to compare runs."""
    rows = [
        {
            "case": result.case,
            "metric": result.metric,
            "unit": result.unit,
            "ours": round(result.ours, 4),
            "peer": round(result.peer, 4),
            "peer_name": result.peer_name,
            "ratio": round(result.ratio, 3),
            "target": None if result.target is None else round(result.target, 4),
            "is_met": result.is_met,
            "runs": result.runs,
        }
        for result in results
    ]
    return json.dumps({"benchmark": name, "machine": machine(), "results": rows}, ensure_ascii=False)


def target(result: Result) -> str:
    """The target, and whether it is missed."""
    if result.target is None:
        return ""
    return f"{'≤' if result.is_met else 'MISSED'} {result.target:.3g} {result.unit}"


def as_table(name: str, results: Sequence[Result]) -> str:
    """A table that a person can read."""
    head = ("case", "metric", "ours", "peer", "ratio", "target", "pairs", "beside")
    rows = [
        (
            result.case,
            result.metric,
            f"{result.ours:.3g} {result.unit}",
            f"{result.peer:.3g} {result.unit}",
            f"{result.ratio:.2f}",
            target(result),
            str(result.runs),
            result.peer_name,
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    facts = machine()
    lines = [
        f"{name}: medians of pairs run in turn; ratio = ours / peer, below 1 is faster",
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}",
        "",
        *(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in (head, *rows)
        ),
    ]
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """List the benchmarks, or run one and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument(
        "name", nargs="?", choices=names(), help="the benchmark to run; without it they are listed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    try:
        if options.name is None:
            for name in names():
                print(f"{name:12} {description(name)}")
            return 0
        results: list[Result] = importlib.import_module(f"benchmarks.{options.name}").run()
    except ModuleNotFoundError as error:
        print(f"{error}: the benchmarks need what the tests need: pip install -e .[test]", file=sys.stderr)
        return 1
    print(as_json(options.name, results) if options.json else as_table(options.name, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
