"""Makes the seeds: real handshakes, and one example at least of everything that an input can say.

``python -m tests.fuzz.seeds`` makes them anew. What the fuzzer made stays, and so does what has shown a defect.
"""

import sys

from tests.fuzz import corpus
from tests.fuzz.target import TARGETS, load

FOUND = "found-"
"How the names begin of inputs that the fuzzer made, which cover more than the seeds."
DEFECT = "defect-"
"How the names begin of inputs that have shown a defect."


def main() -> None:
    """Write the seeds of the targets that are named, or of all."""
    for name in sys.argv[1:] or TARGETS:
        kept = {n: data for n, data in corpus.read(name).items() if n.startswith((FOUND, DEFECT))}
        made = {n.replace(" ", "-"): data for n, data in load(name).seeds()}
        corpus.write(name, made | kept)
        print(f"{name}: {len(made)} seeds, {len(kept)} others, {corpus.path_of(name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
