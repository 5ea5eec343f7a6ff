"""A wolfSSL end in a process of its own: ``tests/peers/wolfssl``, built when it is first wanted."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

from tests.tools.command import Command

_PROJECT = pathlib.Path(__file__).parent.parent / "peers" / "wolfssl"
_TARGET = _PROJECT / "build"
_TOOLS = {
    "cargo": "cargo",
    "cc": "a C compiler",
    "make": "make",
    "patch": "patch",
    "autoreconf": "autoconf",
    "aclocal": "automake",
    "libtoolize": "libtool",
    "clang": "clang",
}

LONGEST_BUILD_SECONDS = 900
"How long the first build may take. wolfSSL itself is in it; later ones find everything done."


@functools.cache
def refusal() -> str | None:
    """Why there can be no wolfSSL end here, or ``None``. Says at once what is missing, and builds nothing."""
    missing = [name for tool, name in _TOOLS.items() if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else None


class Unavailable(Exception):
    """wolfSSL cannot be had or not be built here, which is no fault of the program that uses it."""


@functools.cache
def executable() -> pathlib.Path:
    """The program, built. Without optimization, which would take longer than it spares.

    :raises Unavailable: when wolfSSL cannot be had.
    :raises subprocess.CalledProcessError: when the program itself is wrong.
    """
    for arguments in (["fetch"], ["build", "--package", "wolfssl-sys"]):
        result = _cargo(*arguments)
        if result.returncode:
            raise Unavailable(f"cargo {arguments[0]}: {result.stderr.strip()[-300:]}")
    _cargo("build", "--quiet").check_returncode()
    return _TARGET / "debug" / "wolfssl-peer"


def _cargo(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Cargo reads the project's .cargo/config.toml only when it runs there.
    return subprocess.run(
        ["cargo", *arguments],
        cwd=_PROJECT,
        env={**os.environ, "CARGO_TARGET_DIR": os.fspath(_TARGET)},
        capture_output=True,
        text=True,
        timeout=LONGEST_BUILD_SECONDS,
        check=False,
    )


def said(command: Command, event: str) -> list[dict[str, Any]]:
    """What the program has said of an event, the oldest first."""
    lines = [
        json.loads(line)
        for line in command.text().splitlines(keepends=True)
        if line.startswith("{") and line.endswith("}\n")
    ]
    return [line for line in lines if line["event"] == event]
