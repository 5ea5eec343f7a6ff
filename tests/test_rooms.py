"""The rooms of docs/architecture.md: who may import whom, and how large a thing may grow."""

import ast
import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

ROOT = pathlib.Path(__file__).parent.parent

#: From the bottom up: a room imports itself and those before it.
ROOMS = (
    "mediapeer.dtls",
    "mediapeer.srtp",
    "mediapeer.rtp",
    "mediapeer.sctp",
    "mediapeer.sdp",
    "mediapeer.ice",
    "mediapeer.transport",
    "mediapeer.peer",
    "mediapeer.media",
    "mediapeer.interop",
    "mediapeer",  # the package's own face, which hands on what the rooms below have
    "signaling",
    "mediapeer.commands",
    "mediapeer.cli",
)
#: Distributions a room may use. A room that is not listed may use any that the project depends on.
THIRD_PARTIES = {
    "mediapeer.dtls": {"cryptography"},
    "mediapeer.srtp": {"pylibsrtp"},
    "mediapeer.rtp": set(),
    "mediapeer.sctp": {"google_crc32c"},
    "mediapeer.sdp": set(),
    "mediapeer.ice": {"aioice"},
}
#: Rooms without sockets, event loops and clocks: time and bytes are given to them.
SANS_IO = {"mediapeer.dtls", "mediapeer.srtp", "mediapeer.rtp", "mediapeer.sctp", "mediapeer.sdp"}
INPUT_OUTPUT_AND_TIME = {
    "asyncio", "concurrent", "importlib", "multiprocessing", "sched", "select", "selectors", "signal",
    "socket", "ssl", "subprocess", "threading", "time",
}  # fmt: skip
#: Belongs to the package and to no room.
METADATA = {"__version__"}

MAXIMUM_MODULE_LINES = 600
MAXIMUM_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Module:
    """A module's name and source."""

    name: str
    source: str
    is_package: bool = False

    @property
    def room(self) -> str:
        """The room it lies in."""
        first_two = ".".join(self.name.split(".")[:2])
        return first_two if first_two in ROOMS else self.name.split(".")[0]


def modules() -> list[Module]:
    """The modules of the wheel."""
    found = []
    for package in ("mediapeer", "signaling"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found.append(Module(name, path.read_text(), is_package))
    return found


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, under ``TYPE_CHECKING`` and in functions too."""
    package = module.name.split(".")
    if not module.is_package:
        package = package[:-1]
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def room_of(imported: str) -> str | None:
    """The room that an imported name comes from, or ``None`` when it is not ours."""
    parts = imported.split(".")
    if parts[0] not in ("mediapeer", "signaling"):
        return None
    first_two = ".".join(parts[:2])
    return first_two if first_two in ROOMS else parts[0]


def import_violations(module: Module) -> list[str]:
    """What a module imports and may not."""
    violations = []
    room = module.room
    for line, imported in imported_names(module):
        where = f"{module.name}:{line}: {room} may not import {imported}"
        other = room_of(imported)
        top = imported.split(".")[0]
        if other is not None:
            if other == "mediapeer" and imported.split(".")[1:2] and imported.split(".")[1] in METADATA:
                continue
            if ROOMS.index(other) > ROOMS.index(room):
                violations.append(where)
        elif top in sys.stdlib_module_names:
            if room in SANS_IO and top in INPUT_OUTPUT_AND_TIME:
                violations.append(where)
        elif room in THIRD_PARTIES and top not in THIRD_PARTIES[room]:
            violations.append(where)
    return violations


def shape_violations(module: Module) -> list[str]:
    """Where a module is too long, has too long a function, asserts, or swallows every exception."""
    violations = []
    lines = len(module.source.splitlines())
    if lines > MAXIMUM_MODULE_LINES:
        violations.append(f"{module.name}: {lines} lines")
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAXIMUM_FUNCTION_LINES:
                violations.append(f"{module.name}:{node.lineno}: {node.name} has {length} lines")
        elif isinstance(node, ast.Assert):
            violations.append(f"{module.name}:{node.lineno}: assert is gone with -O: raise what is meant")
        elif isinstance(node, ast.ExceptHandler):
            catches_all = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if catches_all and all(isinstance(statement, ast.Pass) for statement in node.body):
                violations.append(f"{module.name}:{node.lineno}: swallows every exception")
    return violations


def test_every_module_imports_only_from_below() -> None:
    assert [violation for module in modules() for violation in import_violations(module)] == []


def test_no_module_or_function_outgrows_its_reader() -> None:
    assert [violation for module in modules() for violation in shape_violations(module)] == []


def test_every_module_lies_in_a_known_room() -> None:
    known = {room for room in ROOMS if room.count(".") == 1}
    strangers = {
        name
        for module in modules()
        if (name := ".".join(module.name.split(".")[:2])).startswith("mediapeer.") and name not in known
    }
    assert strangers == set()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mediapeer.dtls.record", "import asyncio"),
        ("mediapeer.dtls.record", "from time import monotonic"),
        ("mediapeer.dtls.record", "import ssl, os"),
        ("mediapeer.dtls.record", "import socket as s"),
        ("mediapeer.dtls.record", "from OpenSSL import SSL"),
        ("mediapeer.dtls.record", "from ..transport import DtlsTransport"),
        ("mediapeer.dtls.record", "from .. import srtp"),
        ("mediapeer.dtls.record", "from mediapeer import RTCPeerConnection"),
        ("mediapeer.dtls.record", "if TYPE_CHECKING:\n    from mediapeer.peer import x"),
        ("mediapeer.dtls.record", "def late():\n    import mediapeer.transport.dtls"),
        ("mediapeer.srtp", "import aiortc"),
        ("mediapeer.rtp.packet", "import cryptography"),
        ("mediapeer.transport.dtls", "from mediapeer.peer.connection import RTCPeerConnection"),
        ("mediapeer.media.recorder", "import signaling"),
        ("signaling.server", "from mediapeer import cli"),
    ],
)
def test_an_import_from_above_is_found(name: str, source: str) -> None:
    assert len(import_violations(Module(name, source))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mediapeer.dtls.record", "import hmac\nfrom . import codec\nfrom .codec import Reader"),
        ("mediapeer.dtls.record", "from cryptography.hazmat.primitives import hashes"),
        ("mediapeer.srtp", "from mediapeer.dtls import SrtpProtectionProfile\nimport pylibsrtp"),
        ("mediapeer.transport.dtls", "import asyncio\nfrom .. import __version__\nfrom ..dtls import Role"),
        ("mediapeer.cli", "import signaling\nfrom mediapeer.media import recorder"),
    ],
)
def test_an_import_from_below_is_let_through(name: str, source: str) -> None:
    assert import_violations(Module(name, source)) == []


def test_a_package_counts_its_own_level() -> None:
    assert import_violations(Module("mediapeer.dtls", "from .codec import Reader", is_package=True)) == []
    assert len(import_violations(Module("mediapeer.dtls", "from ..peer import x", is_package=True))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "\n" * 600 + "x = 1",
        "def long():\n" + "    x = 1\n" * 60,
        "assert peer",
        "try:\n    x = 1\nexcept Exception:\n    pass",
        "try:\n    x = 1\nexcept:\n    pass",
    ],
)
def test_a_bad_shape_is_found(source: str) -> None:
    assert len(shape_violations(Module("mediapeer.dtls.record", source))) == 1
