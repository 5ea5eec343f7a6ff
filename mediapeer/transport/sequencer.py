"""Runs what aiortc wrote as coroutines without a task, as long as it does not wait."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

#: Coroutines that wait for one that waits itself.
WAITING = 64


class Sequencer:
    """Runs coroutines to their end, one after the other, in the order in which they come.

    aiortc's handlers of packets are coroutines, but they wait for nothing over a transport like ours, whose sending
    never blocks. So each is run at once where it is given; should one wait after all, a task finishes it, and
    those after it wait in a bounded queue.

    :param tasks: keeps such tasks until they are done; whoever closes cancels what is in it.
    :param on_error: told what a coroutine raised.
    :param on_full: called for each coroutine that was dropped.
    """

    __slots__ = ("_is_busy", "_on_error", "_on_full", "_tasks", "_waiting")

    def __init__(
        self,
        tasks: set[asyncio.Task[None]],
        on_error: Callable[[Exception], None],
        on_full: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._on_error = on_error
        self._on_full = on_full
        self._is_busy = False
        self._waiting: deque[Coroutine[Any, Any, None]] | None = None

    def run(self, handling: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine now, or after those that were given before."""
        if not self._is_busy:
            self._is_busy = True
            self._run(handling)
        elif self._waiting is None:
            self._waiting = deque([handling])
        elif len(self._waiting) < WAITING:
            self._waiting.append(handling)
        else:
            handling.close()
            self._on_full()

    def _run(self, handling: Coroutine[Any, Any, None]) -> None:
        while True:
            try:
                awaited = handling.send(None)
            except (StopIteration, asyncio.CancelledError):
                pass
            except Exception as error:
                self._on_error(error)
            else:
                task = asyncio.get_running_loop().create_task(self._finish(_Begun(handling, awaited)))
                self._tasks.add(task)
                task.add_done_callback(self._finished)
                return
            if not self._waiting:
                self._is_busy = False
                return
            handling = self._waiting.popleft()

    async def _finish(self, begun: "_Begun") -> None:
        """Finish one that waits, and then those behind it."""
        try:
            await begun
        except Exception as error:
            self._on_error(error)
        while self._waiting:
            try:
                await self._waiting.popleft()
            except Exception as error:
                self._on_error(error)
        self._is_busy = False

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            for handling in self._waiting or ():
                handling.close()
            self._waiting = None
            self._is_busy = False


class _Begun:
    """The rest of a coroutine that was started without a task and has given out something to wait for."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        awaited = self._awaited
        while True:
            try:
                result = yield awaited
            except BaseException as error:
                step: Callable[[Any], Any] = self._coroutine.throw
                argument: Any = error
            else:
                step, argument = self._coroutine.send, result
            try:
                awaited = step(argument)
            except StopIteration:
                return
