"""One target under atheris: ``python -m tests.fuzz.atheris_run TARGET [libFuzzer's options and directories]``."""

import logging
import random
import sys

import atheris

from tests.fuzz.target import TARGETS, load


def main() -> None:
    """Run until libFuzzer has had enough; it ends the process."""
    name = sys.argv.pop(1)
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=TARGETS[name]):
        target = load(name)

    def mutate(data: bytes, maximum_length: int, seed: int) -> bytes:
        changed = target.mutate(data, random.Random(seed))
        if changed != data and 0 < len(changed) <= maximum_length:
            return changed
        return bytes(atheris.Mutate(data, maximum_length))

    options = [
        f"-max_len={target.MAXIMUM_LENGTH}",
        "-print_final_stats=1",
        "-timeout=20",
        "-rss_limit_mb=2048",
    ]
    again = f"{sys.executable} -m tests.fuzz.atheris_run {name}"  # libFuzzer starts itself to merge
    atheris.Setup([again, *options, *sys.argv[1:]], target.run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
