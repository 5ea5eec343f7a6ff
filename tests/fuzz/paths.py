"""Datagrams to two ICE transports on one port, a lite and a full one, with whatever signaling may say meanwhile.

An input is a program (`program.py`). Checks and answers are made with the right passwords, and then bytes of them are
changed, or not. Sources are a few addresses; one of them may be in both calls. There are no sockets, and time is
virtual.

What must hold: what does not authenticate is answered by nothing and claims nothing; what is kept and what is sent of
our own accord is bounded; what is handed up came from a checked address; nothing raises, and nothing is left behind.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from mediapeer.ice import IceOptions, IceParameters, IceTransport, UdpMux
from mediapeer.ice.candidate import Candidate, CandidateError
from mediapeer.ice.checklist import PAIRS, REMOTE_CANDIDATES
from mediapeer.ice.lite import PAIRS as LITE_PAIRS
from mediapeer.ice.mux import CLAIM_LIFETIME, CLAIMS_PER_SESSION, MuxSession
from mediapeer.ice.stun import binding_error, binding_request, binding_success, peek
from mediapeer.ice.transport import EARLY_DATAGRAMS, HELD_CANDIDATES
from tests.fuzz.program import Argument, Program, mutate_steps, program
from tests.fuzz.surroundings import errors_of, forgetting, in_memory
from tests.fuzz.target import require
from tests.transport.virtual import Address, Datagram, VirtualLoop

MAXIMUM_LENGTH = 4096
OURS = "192.0.2.1"
SOURCES = [(f"198.51.100.{number}", 5000 + number) for number in range(8)]
#: What we send in a second at the most, whatever was said: one check in 20 ms from each call, each repeated at times.
DATAGRAMS_A_SECOND = 400
_PASSWORD = "p" * 22
_DATA = 20


class Port:
    """One port with both transports, and what one input does to it."""

    def __init__(self, mux: UdpMux, loop: VirtualLoop) -> None:
        self._mux = mux
        self._loop = loop
        self._network = loop.network
        self._arriving: Address | None = None
        options = (IceOptions(mux=mux, lite=True), IceOptions(mux=mux))
        self.transports = [IceTransport(each, controlling=not each.lite) for each in options]
        for transport in self.transports:
            transport.on_datagram = lambda data, transport=transport: self._handed_up(transport)  # type: ignore[misc]

    async def run(self, steps: Iterable[tuple[int, bytes]]) -> None:
        """Do every step, then close everything."""
        operations = tuple(OPERATIONS.values())
        for transport in self.transports:
            await transport.gather()
        for number, data in steps:
            if number >= len(operations):
                continue
            argument = Argument(data)
            transport = self.transports[argument.uint8() & 1]
            await operations[number](self, transport, argument)
            self._check_bounds()
        for transport in self.transports:
            await transport.close()
        require(not self._mux._members, "closed transports are not forgotten")
        await self._mux.close()

    # Operations

    async def check(self, transport: IceTransport, argument: Argument) -> None:
        """A check of the peer's, from anywhere."""
        flags, source = argument.uint8(), _source(argument)
        ours, theirs = transport.local_parameters, transport.remote_parameters
        fragment = "peer" if theirs is None else theirs.username_fragment
        check = binding_request(
            argument.take(12),
            username=f"{ours.username_fragment}:{fragment if not flags & 8 else 'else'}",
            password=ours.password,
            priority=argument.uint24() if not flags & 16 else None,
            controlling=argument.uint8() if flags & 2 else None,
            controlled=argument.uint8() if flags & 4 else None,
            use_candidate=bool(flags & 1),
        )
        self._inject_changed(_without_fingerprint(check) if flags & 32 else check, source, argument)

    async def answer(self, transport: IceTransport, argument: Argument) -> None:
        """An answer to the latest check of ours, right or wrong, from anywhere."""
        flags, source = argument.uint8(), _source(argument)
        sent = [datagram for _, datagram in self._network.sent if (peek(datagram.data) or (0, b""))[0] == 1]
        if not sent:
            return
        request = sent[-1 - argument.uint8() % len(sent)]
        transaction = request.data[8:20]
        if flags & 1:
            answer = binding_error(transaction, 300 + argument.uint8(), "No", _PASSWORD)
        else:
            answer = binding_success(transaction, SOURCES[argument.uint8() % 8], _PASSWORD)
        answer = _without_fingerprint(answer) if flags & 4 else answer
        self._inject_changed(answer, request.destination if flags & 2 else source, argument)

    async def datagram(self, transport: IceTransport, argument: Argument) -> None:
        """Any bytes from anywhere."""
        source = _source(argument)
        self._inject(argument.rest(), source, is_authentic=False)

    async def repeat(self, transport: IceTransport, argument: Argument) -> None:
        """One of our own datagrams comes back."""
        source, place = _source(argument), argument.uint8()
        if self._network.sent:
            _, datagram = self._network.sent[-1 - place % len(self._network.sent)]
            self._inject(datagram.data, source, is_authentic=False)

    async def start(self, transport: IceTransport, argument: Argument) -> None:
        """The peer's credentials: the first, or those of a restart."""
        number = argument.uint8()
        transport.start(IceParameters(f"peer{number & 3}", _PASSWORD, lite=bool(number & 4)))

    async def candidate(self, transport: IceTransport, argument: Argument) -> None:
        """A candidate as signaling has it."""
        text = argument.rest().decode("utf-8", "replace")
        try:
            transport.add_remote_candidate(Candidate.from_sdp(text) if text else None)
        except CandidateError:
            return

    async def candidates(self, transport: IceTransport, argument: Argument) -> None:
        """Many candidates, all over a victim's ports."""
        for number in range(argument.uint8()):
            host, port = SOURCES[7][0], 1 + argument.uint16() % 65_535
            candidate = Candidate(str(number), 1, "udp", 1 + number, host, port, "host")
            transport.add_remote_candidate(candidate)

    async def restart(self, transport: IceTransport, argument: Argument) -> None:
        """New credentials of ours, for good or not."""
        transport.restart()
        if argument.uint8() & 1:
            transport.undo_restart()
        await transport.gather()

    async def say(self, transport: IceTransport, argument: Argument) -> None:
        """Send something, where there is a path."""
        try:
            transport.send_datagram(bytes([_DATA]), droppable=bool(argument.uint8() & 1))
        except ConnectionError:
            require(transport.selected_pair is None, "there is a path, and nothing can be sent")

    async def hear(self, transport: IceTransport, argument: Argument) -> None:
        """Something authentic came, of which no more is known."""
        transport.heard()

    async def wait(self, transport: IceTransport, argument: Argument) -> None:
        """Tenths of seconds, and what we send meanwhile."""
        seconds = argument.uint8() / 10
        before = len(self._network.sent)
        await asyncio.sleep(seconds)
        sent = len(self._network.sent) - before
        require(sent <= DATAGRAMS_A_SECOND * (1 + seconds), f"{sent} datagrams are sent in {seconds} s")

    async def close(self, transport: IceTransport, argument: Argument) -> None:
        """The end of one call."""
        await transport.close()

    # How they are done

    def _inject_changed(self, data: bytes, source: Address, argument: Argument) -> None:
        """Change some bytes, as the rest says: a place of two bytes, and what to add to the byte there."""
        changed = bytearray(data)
        for _ in range(argument.uint8() & 7):
            place, step = argument.uint16() % len(changed), argument.uint8()
            changed[place] = (changed[place] + step) & 0xFF
        # MESSAGE-INTEGRITY says nothing of FINGERPRINT behind it, without which a message is authentic too.
        covered = len(data) - 8 if data[-8:-6] == b"\x80\x28" else len(data)
        self._inject(bytes(changed), source, is_authentic=changed[:covered] == data[:covered])

    def _inject(self, data: bytes, source: Address, *, is_authentic: bool) -> None:
        sent, claims, holder = len(self._network.sent), self._claims(), self._holder(source)
        destination = self._mux.sockets[0].address
        self._arriving = source
        self._network._deliver(Datagram(data, source, destination))
        self._arriving = None
        if holder is not None:
            require(self._holder(source) is holder, "a call has taken an address that another hears from")
        if not is_authentic:
            require(len(self._network.sent) == sent, "what does not authenticate is answered")
            require(self._claims() == claims, "what does not authenticate claims an address")

    def _holder(self, source: Address) -> MuxSession | None:
        """The call that heard from an address lately, and goes on."""
        socket = self._mux.sockets[0]
        holder = self._mux._claims[socket].get(source)
        member = None if holder is None else self._mux._members[holder]
        if member is None or member.is_replaceable:
            return None
        return holder if self._loop.time() < member.addresses[socket, source] + CLAIM_LIFETIME else None

    def _claims(self) -> set[Address]:
        return set(self._mux._claims[self._mux.sockets[0]])

    def _handed_up(self, transport: IceTransport) -> None:
        if self._arriving is not None:
            holder = self._mux._claims[self._mux.sockets[0]].get(self._arriving)
            require(holder is transport, "a datagram of an address that is not the call's is handed up")

    def _check_bounds(self) -> None:
        require(not self._mux.counters["session_errors"], "a transport raised on a datagram")
        for transport in self.transports:
            require(not transport.counters["callbacks_failed"], "a callback failed")
            require(not transport.counters["tasks_failed"], "a task failed")
            require(len(transport._early) <= EARLY_DATAGRAMS, "too much waits for a path")
            require(len(transport._held) <= HELD_CANDIDATES, "too many candidates wait for their credentials")
            require(len(transport.pairs()) <= 2 * max(PAIRS, LITE_PAIRS), "too many pairs")
            require(len(transport.remote_candidates) <= REMOTE_CANDIDATES + LITE_PAIRS, "too many candidates")
            member = self._mux._members.get(transport)
            if member is not None:
                require(len(member.addresses) <= CLAIMS_PER_SESSION, "too many addresses are claimed")


def _source(argument: Argument) -> Address:
    return SOURCES[argument.uint8() % len(SOURCES)]


def _without_fingerprint(message: bytes) -> bytes:
    """The message without its last attribute: otherwise that refuses whatever is changed before integrity does."""
    length = int.from_bytes(message[2:4], "big") - 8
    return message[:2] + length.to_bytes(2, "big") + message[4:-8]


Operation = Callable[[Port, IceTransport, Argument], Coroutine[Any, Any, None]]
OPERATIONS: Mapping[str, Operation] = {
    "check": Port.check,
    "answer": Port.answer,
    "datagram": Port.datagram,
    "repeat": Port.repeat,
    "start": Port.start,
    "candidate": Port.candidate,
    "candidates": Port.candidates,
    "restart": Port.restart,
    "say": Port.say,
    "hear": Port.hear,
    "wait": Port.wait,
    "close": Port.close,
}


def number_of(operation: str) -> int:
    """How a program calls an operation."""
    return list(OPERATIONS).index(operation)


def run(data: bytes) -> None:
    """See :class:`tests.fuzz.target.Target`."""
    parsed = Program.parse(data)
    loop = VirtualLoop()

    async def meet() -> None:
        port = Port(await UdpMux.open([OURS]), loop)
        await port.run((step.operation, step.argument) for step in parsed.steps)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        require(not left, f"tasks are left behind: {left}")

    with (
        errors_of("mediapeer", "aioice", "asyncio") as errors,
        in_memory(),
        forgetting(),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        runner.run(meet())
    require(not loop.errors, f"the event loop was told of {loop.errors}")
    require(not errors, f"the log was told of {errors}")


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Change programs by steps."""
    return data if generator.random() < 0.1 else mutate_steps(data, generator, len(OPERATIONS))


def seeds() -> Iterable[tuple[str, bytes]]:
    """See :class:`tests.fuzz.target.Target`."""

    def step(operation: str, *argument: int, rest: bytes = b"") -> tuple[int, bytes]:
        return number_of(operation), bytes(argument) + rest

    def check(turn: int, flags: int, source: int, number: int, *changes: int) -> tuple[int, bytes]:
        head = bytes([turn, flags, source]) + bytes([number]) * 12 + b"\x7e\xff\xff" + b"\x01"
        return number_of("check"), head + bytes([len(changes) // 3, *changes])

    # The peer of the lite one is controlling and nominates; that of the full one is controlled.
    for turn, name, role in ((0, "lite", 3), (1, "full", 4)):
        begun = [step("start", turn, 0), check(turn, role, 0, 1)]
        begun.append(step("wait", turn, 1))
        answered = [step("answer", turn, 2), step("wait", turn, 4)]
        connected = [*begun, *answered, *answered, step("say", turn)]
        data = [step("datagram", turn, source, _DATA, 1) for source in range(2)]
        yield (
            f"{name} call",
            program(0, [*connected, *data, step("wait", turn, 255), step("wait", turn, 100)]),
        )
        moved = [
            check(turn, role, 1, 2),
            step("wait", turn, 1),
            step("answer", turn, 2),
            step("wait", turn, 20),
            step("say", turn, 1),
        ]
        yield f"{name} moved", program(0, [*connected, *moved, step("hear", turn), check(turn, role, 2, 2)])
        restarted = [
            step("restart", turn, 0),
            step("start", turn, 1),
            check(turn, role, 3, 3),
            step("wait", turn, 1),
        ]
        yield f"{name} restart", program(0, [*connected, *restarted, *answered, *answered, *data])
        yield (
            f"{name} undone",
            program(0, [*connected, step("restart", turn, 1), step("start", turn, 2), *data]),
        )
        other = [step("start", 1 - turn, 0), check(1 - turn, 7 - role, 0, 9)]
        yield f"{name} taken", program(0, [*connected, *other, step("wait", turn, 200), *other])
        refused = [check(turn, flags, 4, flags) for flags in (0, 4, 5, 6, 8, 16)]
        yield f"{name} refused", program(0, [*begun, *refused, step("answer", turn, 1, 0, 0, 187)])
        changed = [
            check(turn, kind, 5, 9, 0, place, 1)
            for place in (1, 3, 20, 40, 60, 80)
            for kind in (role, role + 32)
        ]
        yield f"{name} changed", program(0, [*begun, *changed, step("answer", turn, 6, 0, 0, 0, 1, 0, 40, 1)])
        lite = [step("start", turn, 4), step("wait", turn, 5), step("answer", turn, 2)]
        yield f"{name} meets lite", program(0, [*lite, step("close", turn), step("wait", turn, 5)])
        victims = [step("candidates", turn, 255, rest=random.Random(turn).randbytes(510))]
        yield f"{name} victims", program(0, [step("start", turn, 0), *victims, step("wait", turn, 200)])
        early = [step("datagram", turn, 0, _DATA)] * 3
        yield f"{name} early", program(0, [check(turn, role, 0, 1), *early, step("start", turn, 0), *early])
    given = (
        b"candidate:1 1 udp 2122260223 198.51.100.1 5001 typ host generation 0 ufrag peer0",
        b"candidate:2 1 udp 1 198.51.100.2 5002 typ srflx raddr 10.0.0.1 rport 9 ufrag peer1",
        b"candidate:3 1 tcp 1 198.51.100.2 9 typ host tcptype active",
        b"candidate:4 1 udp 1 0b6c5e5e-9e2b-4b3b-9d0e-7f3a7d7c2a11.local 50002 typ host",
        b"candidate:5 1 udp 1 224.0.0.1 5000 typ host",
        b"candidate:6 1 udp 1 255.255.255.255 5000 typ host",
        b"",
    )
    told = [step("candidate", turn, rest=text) for turn in (0, 1) for text in given]
    yield "candidates", program(0, [*told, step("start", 0, 0), step("start", 1, 0), step("wait", 0, 30)])
    yield "junk", program(0, [step("datagram", 0, 0), step("datagram", 0, 0, 0), step("datagram", 0, 0, 0xFF),
                              step("repeat", 0, 0, 0)])  # fmt: skip
