"""The inputs that are kept: one file for each target, one line for each input, its name and its bytes in base64."""

import base64
import pathlib
from collections.abc import Mapping

DIRECTORY = pathlib.Path(__file__).parent / "corpus"


def path_of(target: str) -> pathlib.Path:
    """Where the inputs of a target are."""
    return DIRECTORY / f"{target}.txt"


def read(target: str) -> dict[str, bytes]:
    """The inputs of a target by name."""
    path = path_of(target)
    if not path.exists():
        return {}
    lines = (line.split() for line in path.read_text("ascii").splitlines())
    return {name: base64.b64decode(data[0]) if data else b"" for name, *data in lines}


def write(target: str, inputs: Mapping[str, bytes]) -> None:
    """Replace the inputs of a target."""
    lines = (f"{name} {base64.b64encode(data).decode()}".rstrip() for name, data in inputs.items())
    path_of(target).write_text("".join(f"{line}\n" for line in lines), "ascii")
