"""The examples run, and do what they say."""

import importlib.util
import pathlib

import pytest

from signaling import SignalingServer
from tests.signaling.support import calling, serving

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def load(name: str) -> SignalingServer:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    if spec is None or spec.loader is None:
        raise AssertionError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server: SignalingServer = module.server
    return server


def test_there_is_a_test_for_each() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"bot", "echo", "play_file", "process_video"}
    assert len((EXAMPLES / "echo.py").read_text().splitlines()) <= 30


async def test_the_echo_sends_everything_back() -> None:
    async with serving(load("echo")) as client, calling(client) as caller:
        assert await caller.ask("hello") == "hello"
        assert await caller.receive("audio")
        assert bytes((await caller.receive("video")).planes[0])[0] < 20  # the caller's picture is dark


async def test_the_bot_sings_and_answers() -> None:
    async with serving(load("bot")) as client, calling(client) as caller:
        first = await caller.ask("who are you?")
        assert first in ("Hello, I am a bot.", "You said: who are you?")
        loudest = 0
        for _ in range(20):
            frame = await caller.receive("audio")
            loudest = max(loudest, *memoryview(bytes(frame.planes[0])).cast("h"))
        assert loudest > 1000
        picture = await caller.receive("video")
        assert (picture.width, picture.height) == (320, 240)
        assert len(set(bytes(picture.planes[0])[:320])) > 3


@pytest.mark.parametrize("plane", [0, 1])
async def test_the_picture_comes_back_as_a_negative(plane: int) -> None:
    async with serving(load("process_video")) as client, calling(client) as caller:
        picture = await caller.receive("video")
        assert bytes(picture.planes[plane])[0] > 230  # the caller sends zeros
