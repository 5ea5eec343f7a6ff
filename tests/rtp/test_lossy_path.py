"""A minute of a call over a path that loses, delays and reorders, with the peer's answers to what is asked for."""

import heapq
import itertools
import math
import random

import pytest

from mediapeer.rtp.section import KEYFRAME_INTERVAL
from tests.rtp.receiving import PICTURE, Scene, Source

#: Seconds by which packets may overtake each other.
JITTER = 0.003


class Path:
    """Carries packets both ways.

    :param loss: the part of all packets, answers and requests that is lost.
    :param delay: one way, in seconds; to it comes some at random, by which packets overtake each other.
    """

    def __init__(self, loss: float, delay: float, seed: int) -> None:
        self.loss = loss
        self.delay = delay
        self.chance = random.Random(seed)
        self.scene = Scene(lost=lambda number: True)  # nothing comes but through here
        self.scene.receiver.round_trip_time = 2 * delay + JITTER / 2
        self.source = Source(1000, 65000, 0xFFFFFF00)
        self.to_come: list[tuple[float, int, bytes, bool]] = []
        self.count = itertools.count()
        self.keyframe_at = 0.0
        self.sent_again = self.dropped = 0

    def carry(self, when: float, data: bytes, is_repair: bool) -> None:
        if self.chance.random() < self.loss:
            self.dropped += not is_repair
            return
        arrival = when + self.delay + self.chance.random() * JITTER
        heapq.heappush(self.to_come, (arrival, next(self.count), data, is_repair))

    def picture(self) -> None:
        """Send one, a keyframe if one was asked for."""
        scene, source = self.scene, self.source
        first = source.number
        is_key = not source.pictures or 0.0 < self.keyframe_at <= scene.now
        if is_key:
            self.keyframe_at = 0.0
        scene.picture(source, is_key=is_key, packets=9)
        for number in range(first, source.number):
            self.carry(scene.now, scene.sent[1000, number & 0xFFFF], False)

    def answer(self) -> None:
        """The peer's part: send again what was asked for, as far as the request comes there."""
        scene = self.scene
        for when, request in scene.nacks:
            if self.chance.random() >= self.loss:
                for number in request.sequence_numbers:
                    self.sent_again += 1
                    self.carry(when + self.delay, scene.sent[request.ssrc, number], True)
        scene.nacks.clear()
        if scene.keyframe_requests and scene.keyframe_requests[-1][0] + self.delay > self.keyframe_at:
            asked = scene.keyframe_requests[-1][0]
            if asked > scene.now - 0.001 and self.chance.random() >= self.loss:
                self.keyframe_at = asked + self.delay

    def run(self, seconds: float) -> None:
        scene = self.scene
        pictures = scene.now
        end = scene.now + seconds
        while scene.now < end:
            arrival = self.to_come[0][0] if self.to_come else math.inf
            due = scene.receiver.next_timeout
            when = min(arrival, pictures, math.inf if due is None else max(due, scene.now))
            scene.wait(max(0.0, when - scene.now))
            self.answer()
            if when == pictures:
                pictures += 1 / 30
                self.picture()
            elif when == arrival:
                _, _, data, is_repair = heapq.heappop(self.to_come)
                scene.give(data, is_repair=is_repair and scene.router.stream(1000) is not None)
            self.answer()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("loss", "delay", "least"), [(0.0, 0.05, 1.0), (0.05, 0.02, 0.995), (0.1, 0.05, 0.98)]
)
def test_nearly_every_frame_comes(loss: float, delay: float, least: float, seed: int) -> None:
    path = Path(loss, delay, seed)
    path.run(30.0)
    scene, frames = path.scene, path.scene.frames
    sent = path.source.pictures - 20  # the last are still under way
    assert len(frames) >= least * sent
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(frames)]
    assert all(step % PICTURE == 0 and 0 < step < 1 << 31 for step in steps), "in order"
    whole = sum(step == PICTURE for step in steps)
    assert whole >= (least - 0.02) * len(steps)
    counts = scene.receiver.counts
    assert counts.given_up <= 0.01 * counts.lost + 9
    assert path.sent_again <= 1.4 * path.dropped, "nothing is asked for without need"
    times = [when for when, _ in scene.keyframe_requests]
    assert all(b - a >= KEYFRAME_INTERVAL - 0.001 for a, b in itertools.pairwise(times))


def test_an_outage_ends_with_a_keyframe() -> None:
    path = Path(0.0, 0.05, 1)
    path.run(3.0)
    path.loss = 1.0
    path.run(3.0)
    before = len(path.scene.frames)
    path.loss = 0.0
    path.sent_again = 0
    path.run(1.0)
    assert path.sent_again == 0
    after = path.scene.frames[before:]
    assert after[0].lost_before > 500
    assert any(frame.is_keyframe for frame in after[:10])
    assert len(after) > 26
