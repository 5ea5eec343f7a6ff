"""Offers, answers, rollbacks and candidates between two peer connections, in any order, and changed on their way.

An input is a program (`program.py`). The first byte of each step's argument says whose turn it is; the rest seeds the
changes that are made to a description, no rest leaves it as it is. There are no sockets, and time is virtual.

What must hold: what is refused is refused by a typed error and has changed nothing; a connection can always be
closed; no task is left behind; no exception reaches the event loop or the log.
"""

import asyncio
import functools
import json
import random
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from aiortc import RTCBundlePolicy
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError

from mediapeer import (
    MediaStreamTrack,
    RTCCertificate,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from mediapeer.peer.codecs import CodecRegistry
from mediapeer.peer.directions import DIRECTIONS
from mediapeer.peer.signaling_state import DESCRIPTION_TYPES, NegotiationError
from tests.fuzz.program import Argument, Program, mutate_steps, program
from tests.fuzz.surroundings import errors_of, forgetting, in_memory
from tests.fuzz.target import require
from tests.fuzz.texts import mutate_text, session_descriptions
from tests.transport.virtual import VirtualLoop

MAXIMUM_LENGTH = 8192
#: What a description or a candidate may be refused by.
REFUSALS = (NegotiationError, InvalidStateError)
#: What everything else may be refused by.
MISUSE = (*REFUSALS, InvalidAccessError, InternalError, ValueError)
_BUNDLE_POLICIES = tuple(RTCBundlePolicy)
_CANDIDATE = "candidate:1 1 udp 2122260223 192.0.2.9 50000 typ host generation 0"


@functools.cache
def _certificate() -> RTCCertificate:
    return RTCCertificate.generateCertificate()


class Silence(MediaStreamTrack):
    """A track without frames: they would be encoded by a thread, which knows nothing of virtual time."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    async def recv(self) -> Any:
        """Wait for ever."""
        await asyncio.Event().wait()


class Meeting:
    """Two connections and what one input does with them."""

    def __init__(self, setting: int) -> None:
        self.ends = [self._make(f"192.0.2.{1 + number}", setting >> 4 * number) for number in range(2)]

    @staticmethod
    def _make(address: str, setting: int) -> RTCPeerConnection:
        configuration = RTCConfiguration(
            iceAddresses=[address],
            iceLite=bool(setting & 4),
            certificates=[_certificate()],
            bundlePolicy=_BUNDLE_POLICIES[(setting & 3) % 3],
        )
        connection = RTCPeerConnection(configuration)
        if setting & 8:
            connection.on("icecandidate", lambda candidate: None)
        return connection

    async def run(self, steps: Iterable[tuple[int, bytes]]) -> None:
        """Do every step, then close both ends."""
        operations = tuple(OPERATIONS.values())
        for number, data in steps:
            if number >= len(operations):
                continue
            argument = Argument(data)
            turn = argument.uint8() & 1
            operation = operations[number]
            try:
                await operation(self, self.ends[turn], self.ends[1 - turn], argument)
            except MISUSE as error:
                require(str(error) or isinstance(error, InvalidStateError), f"{error!r} says nothing")
        for end in self.ends:
            await end.close()
            require(
                end.connectionState == end.signalingState == "closed", "a closed connection is not closed"
            )

    # Operations

    async def local(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """The offer or the answer that is due."""
        await _unless_refused(end, end.setLocalDescription())

    async def deliver(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """What the other end said last, changed."""
        description = other.localDescription
        if description is not None:
            text = _changed(description.sdp, argument.rest())
            await _unless_refused(end, end.setRemoteDescription(_description(description.type, text)))

    async def negotiate(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """Offer and answer between the ends; the offer is changed."""
        await end.setLocalDescription()
        await self.deliver(other, end, argument)
        await other.setLocalDescription()
        await self.deliver(end, other, Argument(b""))

    async def say(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """Any type and any text."""
        kind = DESCRIPTION_TYPES[argument.uint8() % len(DESCRIPTION_TYPES)]
        text = argument.rest().decode("utf-8", "replace")
        await _unless_refused(end, end.setRemoteDescription(_description(kind, text)))

    async def roll_back(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """Take back what is pending."""
        rollback = _description("rollback", "")
        setting = end.setLocalDescription if argument.uint8() & 1 else end.setRemoteDescription
        await _unless_refused(end, setting(rollback))

    async def munge(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """Make an offer or an answer, change it, and set it, as programs do."""
        kind = argument.uint8()
        if kind & 1:
            made = await end.createAnswer()
        else:
            made = await end.createOffer(iceRestart=bool(kind & 2))
        changed = _description(
            "pranswer" if kind & 5 == 5 else made.type, _changed(made.sdp, argument.rest())
        )
        await _unless_refused(end, end.setLocalDescription(changed))

    async def candidate(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """A candidate, as JSON has it."""
        try:
            given = json.loads(argument.rest().decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return
        await end.addIceCandidate(given)

    async def add_transceiver(
        self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument
    ) -> None:
        """``addTransceiver``."""
        number = argument.uint8()
        end.addTransceiver(("audio", "video")[number & 1], DIRECTIONS[(number >> 1) % len(DIRECTIONS)])

    async def add_track(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """``addTrack``."""
        end.addTrack(Silence(("audio", "video")[argument.uint8() & 1]))

    async def add_channel(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """``createDataChannel``."""
        number = argument.uint8()
        end.createDataChannel("label", negotiated=bool(number & 1), id=number if number & 1 else None)

    async def change(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """What a program does with a transceiver."""
        transceivers = end.getTransceivers()
        if not transceivers:
            return
        what, which = argument.uint8(), argument.uint8()
        transceiver = transceivers[which % len(transceivers)]
        match what % 7:
            case 0:
                await transceiver.stop()
            case 1:
                end.removeTrack(transceiver.sender)
            case 2:
                capabilities = CodecRegistry().capabilities(transceiver.kind, "sendrecv")
                transceiver.setCodecPreferences(capabilities.codecs[:which])
            case kind:
                transceiver.direction = DIRECTIONS[kind - 3]

    async def restart_ice(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """``restartIce``."""
        end.restartIce()

    async def wait(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """Tenths of seconds."""
        await asyncio.sleep(argument.uint8() / 10)

    async def report(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """``getStats``."""
        await end.getStats()

    async def close(self, end: RTCPeerConnection, other: RTCPeerConnection, argument: Argument) -> None:
        """The end of one end."""
        await end.close()


Operation = Callable[[Meeting, RTCPeerConnection, RTCPeerConnection, Argument], Coroutine[Any, Any, None]]
OPERATIONS: Mapping[str, Operation] = {
    "local": Meeting.local,
    "deliver": Meeting.deliver,
    "negotiate": Meeting.negotiate,
    "say": Meeting.say,
    "roll_back": Meeting.roll_back,
    "munge": Meeting.munge,
    "candidate": Meeting.candidate,
    "add_transceiver": Meeting.add_transceiver,
    "add_track": Meeting.add_track,
    "add_channel": Meeting.add_channel,
    "change": Meeting.change,
    "restart_ice": Meeting.restart_ice,
    "wait": Meeting.wait,
    "report": Meeting.report,
    "close": Meeting.close,
}


def number_of(operation: str) -> int:
    """How a program calls an operation."""
    return list(OPERATIONS).index(operation)


def _description(kind: str, text: str) -> RTCSessionDescription:
    """A description of any type; aiortc's class asks for one of four."""
    return RTCSessionDescription(sdp=text, type=kind)


def _changed(text: str, seed: bytes) -> str:
    """A description with some lines and words changed, or as it is without a seed."""
    if not seed:
        return text
    return mutate_text(text.encode(), random.Random(seed)).decode("utf-8", "replace")


async def _unless_refused(end: RTCPeerConnection, setting: Coroutine[Any, Any, None]) -> None:
    """Set a description; when that is refused, by a typed error, nothing may have changed."""
    before = _visible(end)
    try:
        await setting
    except REFUSALS:
        require(_visible(end) == before, "what was refused has changed something")
        raise
    except ValueError as error:
        raise AssertionError(f"a description is refused by {error!r}") from error


def _visible(end: RTCPeerConnection) -> object:
    """What a program sees of a connection's negotiation."""
    descriptions = (
        end.currentLocalDescription,
        end.currentRemoteDescription,
        end.pendingLocalDescription,
        end.pendingRemoteDescription,
    )
    return (
        end.signalingState,
        [None if item is None else (item.type, item.sdp) for item in descriptions],
        [(id(t), t.mid, t.kind, t.direction, t.currentDirection) for t in end.getTransceivers()],
    )


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    parsed = Program.parse(data)
    loop = VirtualLoop()

    async def meet() -> None:
        await Meeting(parsed.setting).run((step.operation, step.argument) for step in parsed.steps)
        await asyncio.sleep(1)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        require(not left, f"tasks are left behind: {left}")

    with (
        errors_of("mediapeer", "aiortc", "aioice", "asyncio") as errors,
        in_memory(),
        forgetting(),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        runner.run(meet())
    require(not loop.errors, f"the event loop was told of {loop.errors}")
    require(not errors, f"the log was told of {errors}")


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Change programs by steps, and the texts in them by lines and words."""
    parsed = Program.parse(data)
    texts = [
        place
        for place, step in enumerate(parsed.steps)
        if step.operation == number_of("say") and len(step.argument) > 2
    ]
    if texts and generator.random() < 0.5:
        place = generator.choice(texts)
        steps = list(parsed.steps)
        argument = steps[place].argument
        changed = argument[:2] + mutate_text(argument[2:], generator)
        steps[place] = type(steps[place])(steps[place].operation, changed)
        return Program(parsed.setting, tuple(steps)).serialize()
    return data if generator.random() < 0.1 else mutate_steps(data, generator, len(OPERATIONS))


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""

    def step(operation: str, *argument: int, rest: bytes = b"") -> tuple[int, bytes]:
        return number_of(operation), bytes(argument) + rest

    media = [step("add_track", 0, 0), step("add_track", 0, 1), step("add_channel", 0, 0)]
    call = [*media, step("negotiate", 0), step("wait", 0, 10)]
    yield "call", program(0, [*call, step("report", 1), step("close", 1), step("wait", 0, 5)])
    yield "lite", program(0x40, [*call, step("restart_ice", 0), step("negotiate", 0), step("wait", 0, 50)])
    yield "both lite", program(0x44, call)
    yield "trickle", program(0x88, call)
    added = [step("add_track", 1, 1), step("negotiate", 1), step("change", 0, 0, 1), step("negotiate", 0)]
    yield "renegotiation", program(0x20, [*call, *added, step("add_transceiver", 0, 3), step("negotiate", 1)])
    yield (
        "glare",
        program(
            0,
            [
                *(*media, step("add_track", 1, 0), step("local", 0), step("local", 1), step("deliver", 0)),
                *(step("local", 0), step("deliver", 1), step("wait", 0, 5)),
            ],
        ),
    )
    yield (
        "rollbacks",
        program(
            0,
            [
                *(*media, step("local", 0), step("deliver", 1), step("roll_back", 1, 0)),
                *(
                    step("roll_back", 0, 1),
                    step("negotiate", 1),
                    step("munge", 0, 2),
                    step("roll_back", 0, 0),
                ),
            ],
        ),
    )
    yield (
        "changed",
        program(0, [*media, step("negotiate", 0, 1), step("negotiate", 0, 2), step("munge", 0, 0, 7)]),
    )
    yield (
        "pranswer",
        program(
            0,
            [
                *(*media, step("local", 0), step("deliver", 1), step("munge", 1, 5)),
                *(step("deliver", 0), step("local", 1), step("deliver", 0)),
            ],
        ),
    )
    yield (
        "program",
        program(
            0,
            [
                *(step("add_transceiver", 0, number) for number in range(8)),
                *(step("change", 0, number, number) for number in range(7)),
                step("negotiate", 0),
            ],
        ),
    )
    offers, answers = session_descriptions()
    for name, sdp in offers.items():
        yield (
            f"offer {name}",
            program(0x10, [step("say", 0, 0, rest=sdp), step("local", 0), step("wait", 0, 1)]),
        )
    unusable = re.sub(rb"a=fingerprint.*\r?\n", b"", offers["small"])
    yield (
        "refused",
        program(0, [*media, step("local", 0), step("say", 0, 0, rest=unusable), step("local", 0)]),
    )
    for name, sdp in answers.items():
        yield f"answer {name}", program(0, [*media, step("local", 0), step("say", 0, 1, rest=sdp)])
    candidates = (
        {"candidate": _CANDIDATE, "sdpMid": "0"},
        {
            "candidate": _CANDIDATE.replace("192.0.2.9", "x.local"),
            "sdpMLineIndex": 0,
            "usernameFragment": "abcd",
        },
        {"candidate": ""},
        None,
    )
    given = [step("candidate", 0, rest=json.dumps(item).encode()) for item in candidates]
    yield "candidates", program(0, [*media, step("negotiate", 0), *given, step("wait", 0, 9)])
