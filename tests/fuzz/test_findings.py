"""What fuzzing has found, the inputs it begins with, and whether it would see what it looks for."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mediapeer.dtls import ApplicationData, DtlsConnection, PeerMisbehaved, StatelessListener
from mediapeer.dtls.codec import Reader
from mediapeer.dtls.cookies import CookieFactory
from mediapeer.dtls.epochs import ReplayWindow
from mediapeer.dtls.handshake import Handshake, State
from mediapeer.dtls.messages13 import Finished13
from mediapeer.dtls.registry import HandshakeType
from mediapeer.ice.mux import UdpMux
from mediapeer.ice.stun import StunMessage
from mediapeer.media.catalog import EntrySegment
from mediapeer.peer.session import Session
from mediapeer.rtp import RtpRouter
from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.transport.media import MediaPath
from signaling.recordings import RecordingStore
from signaling.server import SignalingServer
from tests.dtls.support import Pair
from tests.dtls.test_misbehaviour import tamper
from tests.fuzz import corpus
from tests.fuzz.program import Program, mutate_steps
from tests.fuzz.seeds import DEFECT, FOUND
from tests.fuzz.signaling import SECRET
from tests.fuzz.target import TARGETS, Violation, load, retained_bytes
from tests.transport.paths import Ends
from tests.transport.virtual import Network, until, virtual


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the targets provoke in the log is of no interest, unless a target looks at it itself."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# The inputs that are kept


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_with_the_inputs_that_are_kept(target: str) -> None:
    inputs = corpus.read(target)
    assert inputs
    for name, data in inputs.items():
        try:
            load(target).run(data)
        except Exception as error:
            raise AssertionError(f"{target}: {name}: {error}") from error


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "parsers"])
def test_the_seeds_are_those_that_are_made(target: str) -> None:
    """``python -m tests.fuzz.seeds`` writes them; run it when a meeting or a story is new."""
    made = {name.replace(" ", "-") for name, _ in load(target).seeds()}
    assert made == {name for name in corpus.read(target) if not name.startswith((FOUND, DEFECT))}


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_are_an_input(target: str) -> None:
    generator = random.Random(target)
    data = b""
    for _ in range(15):
        load(target).run(data)
        data = load(target).mutate(data, generator) or generator.randbytes(generator.randrange(60))


def test_a_program_is_read_as_it_is_written() -> None:
    generator = random.Random(1)
    data = b"\0"
    for _ in range(200):
        data = mutate_steps(data, generator, operations=9, settings=3)
        assert Program.parse(data).serialize() == data
    assert Program.parse(data + b"\1\xff\xffcut short").steps[-1].argument == b"cut short"


# Would it be seen?


def run_all(target: str) -> None:
    """All inputs of a target."""
    for data in corpus.read(target).values():
        load(target).run(data)


def always(value: object) -> Callable[..., Any]:
    return lambda *arguments, **named: value


DEFECTS: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "replays pass": ("client", ReplayWindow, "is_fresh", always(True)),
    "data too early": ("client", DtlsConnection, "_hold_data", lambda self, data: _hand_out(self, data)),
    "a peer that proves nothing": ("server", Handshake, "receive", lambda self, m: _take_unproven(self, m)),
    "a timer that stays due": ("client", DtlsConnection, "_do_what_is_due", always(None)),
    "a reader that raises something else": ("parsers", Reader, "end", lambda self: 1 // 0),
    "a vector that is cut short": ("parsers", Reader, "vector", lambda self, size, minimum=0: self.take(0)),
    "any cookie is good": ("listener", CookieFactory, "open", always(b"")),
    "a listener that keeps addresses": (
        "listener",
        StatelessListener,
        "_connect",
        lambda self, *rest: setattr(self, "kept", [*getattr(self, "kept", []), bytes(9)]),
    ),
    "a file outside": (
        "signaling",
        RecordingStore,
        "segment",
        lambda self, *rest: EntrySegment(self.directory.parent / SECRET, "webm", 0.0, None, 4),
    ),
    "a server that fails": ("signaling", SignalingServer, "call", lambda self, name: self.calls[name]),
    "a packet that vanishes": ("media", MediaPath, "_route", lambda self, *rest: None),
    "packets kept without end": (
        "media",
        MediaPath,
        "_unprotect",
        lambda self, *rest: setattr(self, "kept", [*getattr(self, "kept", []), bytes(5_000_000)]),
    ),
    "a check of anybody": ("paths", StunMessage, "has_valid_integrity", always(True)),
    "an address of another call": ("paths", UdpMux, "_may_replace", always(True)),
    "a refusal that changes something": ("negotiation", Session, "restore", always(None)),
    "sources of no section": ("sections", RtpRouter, "remove_section", always(None)),
    "a frame that vanishes": ("payloads", FrameAssembler, "gap", lambda self, lost=1: _forget_frame(self)),
    "a frame without end": ("payloads", FrameAssembler, "_drop", always(None)),
}  # fmt: skip


_receive = Handshake.receive


def _take_unproven(handshake: Any, message: Any) -> None:
    if handshake._state is State.CERTIFICATE_VERIFY and message.handshake_type == HandshakeType.FINISHED:
        handshake._state = State.FINISHED
    _receive(handshake, message)


def _forget_frame(assembler: Any) -> None:
    assembler._payloads = []


def _hand_out(connection: Any, data: bytes) -> None:
    connection._events.append(ApplicationData(data))


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_seen(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, owner, name, broken = DEFECTS[defect]
    load(target)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((Violation, ArithmeticError)):
        run_all(target)


def test_what_an_object_keeps_is_counted_however_it_is_built() -> None:
    class Slotted:
        __slots__ = ("held",)

    thing = Slotted()
    thing.held = {"key": [bytearray(1000), (b"x" * 1000,)]}
    assert 2000 < retained_bytes(thing) < 3000
    assert retained_bytes(thing, shared=[thing.held]) < 200


# What was found


@virtual
async def test_a_peer_may_close_in_the_datagram_of_its_finished(network: Network) -> None:
    """HandshakeCompleted and ConnectionClosed come together then, and nothing can be exported any more."""
    ends = Ends()
    held: list[bytes] = []
    send = ends.client_path.send_datagram

    def hold_what_comes_last(datagram: bytes) -> None:
        if ends.client._engine is not None and ends.client._engine.version is not None:
            held.append(datagram)
        else:
            send(datagram)

    def close_at_once() -> None:
        if ends.client.state == "connected" and ends.client._engine is not None:
            ends.client._engine.close()

    ends.client_path.send_datagram = hold_what_comes_last  # type: ignore[method-assign]
    ends.client.on("statechange", close_at_once)
    starting = asyncio.create_task(ends.handshake())
    await until(lambda: len(held) > 1)
    send(b"".join(held))
    await starting
    assert ends.server.state == "closed"
    await ends.stop()


def test_an_error_keeps_nothing_of_the_handshake() -> None:
    """In the frames that it was raised through are secrets, and the datagram."""
    pair = Pair()
    tamper(pair.client, {Finished13: lambda finished: replace(finished, verify_data=bytes(32))})
    pair.run()
    error = pair.server.error
    assert isinstance(error, PeerMisbehaved)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)
