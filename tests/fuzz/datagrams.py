"""Datagrams into each state of a client or a server, from the path and from a peer that has the keys.

An input is a program (`program.py`): its setting chooses a meeting, its steps say what happens between a live client
and a live server. One of the two, the victim, gets what the steps make up; the other, which the steps can have
misbehave, brings the victim into the states where that hurts.
"""

import contextlib
import random
import zlib
from collections.abc import Callable, Mapping

from mediapeer.dtls import DtlsError, Role
from mediapeer.dtls.messages13 import RecordNumber, serialize_ack
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import ContentType
from tests.fuzz.configurations import CODE_POINTS, MEETINGS
from tests.fuzz.determinism import repeatable
from tests.fuzz.duel import TALK, Duel, End, Scene, other
from tests.fuzz.insider import Edit, KeyHolder, next_message_seq, tampering
from tests.fuzz.program import Argument, Program, Step, mutate_steps
from tests.fuzz.target import require

MAXIMUM_LENGTH = 8192
LARGEST_RECORD = 40_000
"More than twice what a record may be, in bytes."
MAXIMUM_REPETITIONS = 64
"How many steps of an input may be repetitions."
REPEATED_ONE_IN = 16
"Which share of the inputs is run twice, to see the same happen."


class Attack:
    """One program, run."""

    def __init__(self, victim: Role, program: Program) -> None:
        generator = random.Random(1)
        self._latest: Step | None = None
        self._repetitions = MAXIMUM_REPETITIONS
        edits = [Edit.parse(step.argument) for step in program.steps if _name(step) == "tamper"]
        meeting = MEETINGS[program.setting]
        with repeatable(generator):
            scene = Scene.of(meeting, generator)
            with tampering(other(victim), edits) as said:
                self.duel = Duel(scene, said)
                self.duel.is_honest = not edits
                self._victim, self._peer = self.duel.ends[victim], self.duel.ends[other(victim)]
                self._keys = KeyHolder(self._peer.connection)
                for step in program.steps:
                    self._do(step)
                self.duel.settle()

    def _do(self, step: Step) -> None:
        if (operation := OPERATIONS.get(_name(step))) is not None:
            operation(self, Argument(step.argument))
            self._keys.look()
            if operation in _FLOODS:
                self._victim.check_size()
            if operation is not Attack.repeat:
                self._latest = step

    def _end(self, selector: int) -> End:
        return self._peer if selector & 1 else self._victim

    # The path

    def pump(self, argument: Argument) -> None:
        """Deliver what is under way, so many datagrams or all."""
        self.duel.pump(argument.uint8() or TALK)

    def deliver(self, argument: Argument) -> None:
        """One datagram, not always the oldest."""
        end = self._choose(argument)
        self.duel.deliver(end)

    def drop(self, argument: Argument) -> None:
        """Lose one."""
        end = self._choose(argument)
        if end.inbox:
            end.inbox.popleft()

    def postpone(self, argument: Argument) -> None:
        """Have one come last."""
        end = self._choose(argument)
        end.inbox.rotate(-1)

    def duplicate(self, argument: Argument) -> None:
        """Have one come now, and once more."""
        end = self._choose(argument)
        if end.inbox:
            self.duel.receive(end, end.inbox[0])

    def change(self, argument: Argument) -> None:
        """Change bytes of one, which is lost or comes as well."""
        end = self._choose(argument)
        if not end.inbox:
            return
        changed = bytearray(end.inbox[0])
        if argument.uint8() & 1:
            end.inbox.popleft()
        edits = argument.rest()
        for offset in range(0, len(edits) - 2, 3):
            place = int.from_bytes(edits[offset : offset + 2], "big") % len(changed)
            changed[place] ^= edits[offset + 2]
        self.duel.receive(end, bytes(changed))

    def cut(self, argument: Argument) -> None:
        """Have one come without its end, or without its beginning."""
        end = self._choose(argument)
        if end.inbox:
            datagram, place = end.inbox[0], argument.uint16()
            self.duel.receive(end, datagram[place:] if argument.uint8() & 1 else datagram[:place])

    def join(self, argument: Argument) -> None:
        """Put the next two into one."""
        end = self._choose(argument)
        if len(end.inbox) > 1:
            end.inbox.appendleft(end.inbox.popleft() + end.inbox.popleft())

    def replay(self, argument: Argument) -> None:
        """Have an old one come again, to either end."""
        receiver, sender = self._end(argument.uint8()), self._end(argument.uint8())
        if sender.sent:
            self.duel.receive(receiver, sender.sent[argument.uint8() % len(sender.sent)])

    def raw(self, argument: Argument) -> None:
        """Have bytes come that somebody made up."""
        self.duel.receive(self._victim, argument.rest())

    def plain_record(self, argument: Argument) -> None:
        """Have an unprotected record come."""
        content_type, number = argument.uint8(), argument.uint16()
        self.duel.receive(self._victim, serialize_record(content_type, number, argument.rest()))

    def plain_fragment(self, argument: Argument) -> None:
        """Have a piece of an unprotected handshake message come."""
        number = argument.uint16()
        fragment = self._fragment(argument)
        self.duel.receive(self._victim, serialize_record(ContentType.HANDSHAKE, number, fragment))

    def plain_ack(self, argument: Argument) -> None:
        """Have an unprotected ACK come."""
        body = serialize_ack(tuple(self._numbers(argument)))
        self.duel.receive(self._victim, serialize_record(ContentType.ACK, argument.uint16(), body))

    # Time

    def advance(self, argument: Argument) -> None:
        """Milliseconds."""
        self.duel.advance(self.duel.now + argument.uint16() / 1000)

    def time_out(self, argument: Argument) -> None:
        """As long as it takes until a timer of an end fires."""
        due = self._end(argument.uint8()).connection.next_timeout()
        if due is not None:
            self.duel.advance(due)

    # What a program does with either end

    def send(self, argument: Argument) -> None:
        """Send data."""
        end, data = self._end(argument.uint8()), argument.rest()
        with contextlib.suppress(DtlsError, ValueError):  # not connected, or too long
            end.connection.send_application_data(data)
            self._may_arrive(end, data)
        self.duel.collect(end)

    def update_keys(self, argument: Argument) -> None:
        """Change keys."""
        end = self._end(argument.uint8())
        with contextlib.suppress(DtlsError):
            end.connection.update_keys(request_peer=bool(argument.uint8() & 1))
        self.duel.collect(end)

    def close(self, argument: Argument) -> None:
        """Close the association."""
        self.duel.close(self._end(argument.uint8()))

    # What only the peer can do

    def tamper(self, argument: Argument) -> None:
        """Nothing when its turn comes: messages are changed when they are made, from the beginning."""

    def seal(self, argument: Argument) -> None:
        """A record of any type in any epoch."""
        self._seal(argument.uint8(), argument.uint8(), argument.rest())

    def seal_fragment(self, argument: Argument) -> None:
        """A piece of a handshake message in any epoch."""
        self._seal(argument.uint8(), ContentType.HANDSHAKE, self._fragment(argument))

    def seal_message(self, argument: Argument) -> None:
        """A whole handshake message in any epoch, with the number that is waited for."""
        epoch, handshake_type, ahead, body = (
            argument.uint8(),
            argument.uint8(),
            argument.uint8() % 10,
            argument.rest(),
        )
        number = next_message_seq(self._victim.connection) + ahead & 0xFFFF
        self.duel.said[self._peer.role].add(handshake_type)
        self._seal(epoch, ContentType.HANDSHAKE, handshake_header(handshake_type, len(body), number) + body)

    def seal_ack(self, argument: Argument) -> None:
        """An ACK in any epoch."""
        epoch = argument.uint8()
        self._seal(epoch, ContentType.ACK, serialize_ack(tuple(self._numbers(argument))))

    def skip(self, argument: Argument) -> None:
        """Go on with a later sequence number."""
        epoch = self._keys.epoch(argument.uint8())
        epoch.next_sequence_number += argument.uint16() << argument.uint8() % 40
        self.duel.is_honest = False

    def large(self, argument: Argument) -> None:
        """A record of any type, with so many zeros in it; unprotected, or in any epoch."""
        how, content_type = argument.uint8(), argument.uint8()
        plaintext = bytes(argument.uint16() % LARGEST_RECORD)
        if how:
            self._seal(how, content_type, plaintext)
        else:
            self.duel.receive(self._victim, serialize_record(content_type, 0, plaintext))

    def repeat(self, argument: Argument) -> None:
        """The step before this one, so many times again."""
        if self._latest is None:
            return
        for _ in range(min(argument.uint8(), self._repetitions)):
            self._repetitions -= 1
            self._do(self._latest)

    # Parts of these

    def _choose(self, argument: Argument) -> End:
        """The end that is meant, with the datagram that is meant in front."""
        end = self._end(argument.uint8())
        place = argument.uint8()
        if end.inbox:
            place %= len(end.inbox)
            datagram = end.inbox[place]
            del end.inbox[place]
            end.inbox.appendleft(datagram)
        return end

    def _fragment(self, argument: Argument) -> bytes:
        handshake_type, ahead = argument.uint8(), argument.uint8() - 2
        self.duel.said[self._peer.role].add(handshake_type)
        length, offset = argument.uint24(), argument.uint24()
        number = max(0, next_message_seq(self._victim.connection) + ahead)
        body = argument.rest()
        return handshake_header(handshake_type, length, number & 0xFFFF, offset, len(body)) + body

    def _numbers(self, argument: Argument) -> list[RecordNumber]:
        data = argument.rest()[: 3 * 100]
        return [
            RecordNumber(data[offset] % 8, int.from_bytes(data[offset + 1 : offset + 3], "big"))
            for offset in range(0, len(data) - 2, 3)
        ]

    def _seal(self, epoch_selector: int, content_type: int, plaintext: bytes) -> None:
        self.duel.is_honest = False
        epoch = self._keys.epoch(epoch_selector)
        with contextlib.suppress(DtlsError):
            record = epoch.seal(content_type, plaintext)
            if record[0] >> 5 == 1:
                # A record of DTLS 1.3 says its type at the end, before zeros.
                inner = (plaintext + bytes([content_type])).rstrip(b"\0")
                content_type, plaintext = (inner[-1], inner[:-1]) if inner else (0, b"")
            is_data = content_type == ContentType.APPLICATION_DATA
            if is_data and epoch.number not in ((0, 2) if record[0] >> 5 == 1 else (0,)):
                self._may_arrive(self._peer, plaintext)
            self.duel.receive(self._victim, record)

    def _may_arrive(self, sender: End, data: bytes) -> None:
        self.duel.ends[other(sender.role)].may_arrive[data] += 1


Operation = Callable[[Attack, Argument], None]
#: By number: a program says the place in this table.
OPERATIONS: Mapping[str, Operation] = {
    "pump": Attack.pump,
    "deliver": Attack.deliver,
    "drop": Attack.drop,
    "postpone": Attack.postpone,
    "duplicate": Attack.duplicate,
    "change": Attack.change,
    "cut": Attack.cut,
    "join": Attack.join,
    "replay": Attack.replay,
    "raw": Attack.raw,
    "plain_record": Attack.plain_record,
    "plain_fragment": Attack.plain_fragment,
    "plain_ack": Attack.plain_ack,
    "advance": Attack.advance,
    "time_out": Attack.time_out,
    "send": Attack.send,
    "update_keys": Attack.update_keys,
    "close": Attack.close,
    "tamper": Attack.tamper,
    "seal": Attack.seal,
    "seal_fragment": Attack.seal_fragment,
    "seal_message": Attack.seal_message,
    "seal_ack": Attack.seal_ack,
    "skip": Attack.skip,
    "large": Attack.large,
    "repeat": Attack.repeat,
}
_NAMES = tuple(OPERATIONS)
_FLOODS = (Attack.repeat, Attack.large, Attack.plain_fragment, Attack.seal_fragment)


def _name(step: Step) -> str:
    return _NAMES[step.operation] if step.operation < len(_NAMES) else ""


def number_of(operation: str) -> int:
    """How a program calls an operation."""
    return _NAMES.index(operation)


def attack(victim: Role, data: bytes) -> Attack | None:
    """Run an input against the end of that role; ``None`` when it asks for a meeting that there is not."""
    program = Program.parse(data)
    if program.setting >= len(MEETINGS):
        return None
    first = Attack(victim, program)
    if not zlib.crc32(data) % REPEATED_ONE_IN:
        again = Attack(victim, program)
        require(first.duel.log == again.duel.log, "the same input does not do the same again")
    return first


def mutate(data: bytes, generator: random.Random) -> bytes:
    """See :class:`tests.fuzz.target.Target`."""
    if generator.random() < 0.3:
        return data
    return mutate_steps(data, generator, len(OPERATIONS), len(MEETINGS), CODE_POINTS)
