"""Real handshakes between two ends of the engine, to make seeds of."""

import functools
import random

from mediapeer.dtls import Role
from tests.fuzz.configurations import MEETINGS, Meeting
from tests.fuzz.determinism import repeatable
from tests.fuzz.duel import TALK, Duel, Scene
from tests.fuzz.insider import tampering


class Recording:
    """A handshake as it was: its messages and its datagrams."""

    def __init__(self, meeting: Meeting) -> None:
        self.messages: list[tuple[int, bytes]] = []
        generator = random.Random(2)  # not the one of the targets: there what is recorded must be of no use
        with repeatable(generator):
            scene = Scene.of(meeting, generator)
            with tampering(Role.CLIENT, [], self.messages) as said:
                duel = Duel(scene, said)
                duel.pump(TALK)
                duel.settle()
        self.datagrams = {role: tuple(duel.ends[role].sent) for role in Role}


@functools.cache
def recording(number: int) -> Recording:
    """The handshake of a meeting, by its place in the table; each is done once."""
    return Recording(MEETINGS[number])
