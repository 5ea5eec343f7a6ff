"""Runs a Python module in a network and process namespace of its own, where there is only loopback.

What a browser there wants from the world it does not get, and no browser outlives its test, however that ends.
"""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent.parent

_UNSHARE = ("unshare", "--net", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child")
_AS_USER = ("--user", "--map-root-user")
_BRING_UP_LOOPBACK = 'ip link set lo up && exec "$@"'
_MARK = "MEDIAPEER_TEST_SANDBOX"


def _command() -> list[str]:
    unshare = [*_UNSHARE] if os.geteuid() == 0 else [*_UNSHARE, *_AS_USER]
    return [*unshare, "sh", "-c", _BRING_UP_LOOPBACK, "sh"]


@functools.cache
def refusal() -> str | None:
    """Why there can be no sandbox here, or ``None``."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"needs the command {program}"
    tried = subprocess.run([*_command(), "true"], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode:
        return f"needs namespaces, and this system refuses: {tried.stderr.strip()}"
    return None


def run_module(module: str, options: dict[str, Any], *, timeout_seconds: float = 100) -> dict[str, Any]:
    """Run ``python -m module OPTIONS REPORT`` in the sandbox.

    :param options: given to it as one argument in JSON.
    :returns: the JSON object that it wrote to the file REPORT.
    :raises AssertionError: with what it printed, when it fails or takes longer than ``timeout_seconds``.
    """
    with tempfile.TemporaryDirectory(prefix="mediapeer-") as directory:
        report = pathlib.Path(directory, "report.json")
        output = pathlib.Path(directory, "output.txt")
        command = [*_command(), sys.executable, "-X", "dev", "-m", module, json.dumps(options), str(report)]
        with output.open("wb") as sink:
            # Its whole process group goes with it: unshare kills what is in the namespace.
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Of -X dev the warnings are wanted; its checks of memory cost a core that a browser needs.
                env={**os.environ, _MARK: "1", "PYTHONMALLOC": "default"},
            )
            try:
                status: object = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                status = f"none within {timeout_seconds} s"
            finally:
                process.kill()
                process.wait()
        if status != 0 or not report.exists():
            raise AssertionError(
                f"{module} {options}: exit {status}\n{output.read_text(errors='replace')[-8000:]}"
            )
        result: dict[str, Any] = json.loads(report.read_text())
        result["output"] = output.read_text(errors="replace")
        return result


def add_network(address: str) -> None:
    """Add a network with nobody else on it, where multicast works as it does not on loopback.

    :param address: this sandbox's IPv4 address on it; its neighbours are those that differ in the last byte.
    :raises RuntimeError: outside of a sandbox.
    :raises subprocess.CalledProcessError: when the system has no pairs of virtual Ethernet devices.
    """
    if _MARK not in os.environ:
        raise RuntimeError("networks are added only in a sandbox")
    for command in (
        "link add near type veth peer name far",
        "link set far up",
        f"address add {address}/24 dev near",
        "link set near up",
        "route add default dev near",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def replace_directory(path: pathlib.Path, files: Mapping[str, str]) -> None:
    """Let ``path``, a directory that is there, have just ``files`` in it, for this sandbox alone.

    :param files: what is in each, by their names under ``path``.
    :raises RuntimeError: outside of a sandbox, where everybody would see it.
    """
    if _MARK not in os.environ:
        raise RuntimeError("directories are replaced only in a sandbox")
    subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], check=True)
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
