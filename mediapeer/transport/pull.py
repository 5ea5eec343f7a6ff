"""For paths below that are asked for each datagram, where a transport wants to be given them."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class PulledPath(Protocol):
    """A path that hands out its datagrams one by one."""

    async def _recv(self) -> bytes:
        """The next datagram of the peer; :exc:`ConnectionError` when there is no path (any more)."""


class PullFeed:
    """Takes datagrams from a path, in a task, until the path ends.

    :param receive: given each datagram.
    :param on_end: told why there are no more.
    """

    def __init__(
        self, path: PulledPath, receive: Callable[[bytes], None], on_end: Callable[[ConnectionError], None]
    ) -> None:
        self._path = path
        self._receive = receive
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._pull())

    async def _pull(self) -> None:
        try:
            while self._task is not None:
                self._receive(await self._path._recv())
        except ConnectionError as error:
            self._on_end(error)

    async def stop(self) -> None:
        """Take no more. May be called from within ``receive``."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])
