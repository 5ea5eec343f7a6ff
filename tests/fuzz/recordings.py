"""Real handshakes between two ends of the engine, to make seeds of."""

import functools
import random

from mediapeer.dtls import Role
from mediapeer.dtls.handshake import Handshake
from tests.fuzz.configurations import MEETINGS, Meeting
from tests.fuzz.determinism import repeatable
from tests.fuzz.duel import TALK, Duel
from tests.fuzz.insider import RawMessage


class Recording:
    """A handshake as it was: its messages and its datagrams."""

    def __init__(self, meeting: Meeting) -> None:
        self.messages: list[tuple[int, bytes]] = []
        send = Handshake._send

        def send_noted(handshake: Handshake, message: RawMessage, epoch: int = 0) -> None:
            self.messages.append((int(message.handshake_type), message.serialize()))
            send(handshake, message, epoch)  # type: ignore[arg-type]

        generator = random.Random(1)
        Handshake._send = send_noted  # type: ignore[assignment,method-assign]
        try:
            with repeatable(generator):
                duel = Duel(meeting, generator)
                duel.pump(TALK)
                duel.settle()
        finally:
            Handshake._send = send  # type: ignore[method-assign]
        self.datagrams = {role: tuple(duel.ends[role].sent) for role in Role}


@functools.cache
def recording(number: int) -> Recording:
    """The handshake of a meeting, by its place in the table; each is done once."""
    return Recording(MEETINGS[number])
