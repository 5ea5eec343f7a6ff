"""Coroutines that are run where they are given, and in order where one of them waits."""

import asyncio

from mediapeer.transport.sequencer import WAITING, Sequencer


class Scene:
    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[Exception] = []
        self.dropped = 0
        self.done: list[int] = []
        self.gate = asyncio.Event()
        self.sequencer = Sequencer(self.tasks, self.errors.append, self._drop)

    def _drop(self) -> None:
        self.dropped += 1

    async def work(self, number: int, *, waits: bool = False, raises: Exception | None = None) -> None:
        if waits:
            await self.gate.wait()
        if raises is not None:
            raise raises
        self.done.append(number)


async def test_what_does_not_wait_is_done_at_once_and_without_a_task() -> None:
    scene = Scene()
    for number in range(3):
        scene.sequencer.run(scene.work(number))
    assert scene.done == [0, 1, 2]
    assert not scene.tasks


async def test_what_comes_after_one_that_waits_comes_after_it() -> None:
    scene = Scene()
    scene.sequencer.run(scene.work(0, waits=True))
    for number in (1, 2):
        scene.sequencer.run(scene.work(number))
    await asyncio.sleep(0)
    assert scene.done == []
    assert len(scene.tasks) == 1
    scene.gate.set()
    await asyncio.wait(scene.tasks)
    assert scene.done == [0, 1, 2]
    scene.sequencer.run(scene.work(3))
    assert scene.done == [0, 1, 2, 3]
    await asyncio.sleep(0)
    assert not scene.tasks


async def test_what_is_raised_is_told_and_stops_nothing() -> None:
    scene = Scene()
    scene.sequencer.run(scene.work(0, raises=ValueError("at once")))
    scene.sequencer.run(scene.work(1, waits=True, raises=ValueError("later")))
    scene.sequencer.run(scene.work(2, raises=ValueError("behind it")))
    scene.sequencer.run(scene.work(3))
    scene.gate.set()
    await asyncio.wait(scene.tasks)
    assert [str(error) for error in scene.errors] == ["at once", "later", "behind it"]
    assert scene.done == [3]


async def test_what_waits_is_bounded_and_a_cancelled_task_leaves_nothing() -> None:
    scene = Scene()
    scene.sequencer.run(scene.work(0, waits=True))
    for number in range(WAITING + 5):
        scene.sequencer.run(scene.work(number))
    assert scene.dropped == 5
    (task,) = scene.tasks
    task.cancel()
    await asyncio.wait([task])
    assert scene.done == []
    scene.sequencer.run(scene.work(9))
    assert scene.done == [9]


async def test_one_that_is_given_from_within_another_comes_after_it() -> None:
    scene = Scene()

    async def nest() -> None:
        scene.sequencer.run(scene.work(2))
        scene.done.append(1)

    scene.sequencer.run(nest())
    assert scene.done == [1, 2]


async def test_a_coroutine_begun_outside_a_task_takes_what_it_waits_for_and_what_is_thrown() -> None:
    scene = Scene()
    told: list[object] = []

    async def ask() -> None:
        await asyncio.sleep(0)
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, KeyError("thrown"))
        try:
            await future
        except KeyError as error:
            told.append(error.args[0])
        told.append(await asyncio.sleep(0, "a result"))

    scene.sequencer.run(ask())
    await asyncio.wait(scene.tasks)
    assert told == ["thrown", "a result"]
    assert not scene.errors
