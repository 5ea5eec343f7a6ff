"""Connections of HTTP clients: one that does not get to the end of a request does not hold the server."""

import asyncio
from typing import Any

from aiohttp import web

from signaling.server import CallLater, Timer

#: How long the request line and the header fields of a request may take, in seconds.
HEAD_TIMEOUT = 10.0
#: Connections without a request at a time; for one more, that which has been so longest is closed.
MAXIMUM_IDLE = 200


class Connections:
    """Makes the protocol for each connection, and knows which of them have no request to answer.

    :param server: what answers the requests.
    :param call_later: starts timers.
    """

    def __init__(self, server: web.Server, call_later: CallLater) -> None:
        self._server = server
        self._idle: dict[Connection, None] = {}
        self.call_later = call_later

    def __call__(self) -> "Connection":
        """A protocol for one connection. What a body claims to be compressed with is left to the handlers."""
        return Connection(
            self, self._server, loop=asyncio.get_running_loop(), access_log=None, auto_decompress=False
        )

    def add_idle(self, connection: "Connection") -> None:
        """The connection has no request."""
        self._idle[connection] = None
        while len(self._idle) > MAXIMUM_IDLE:
            next(iter(self._idle)).abort()

    def remove_idle(self, connection: "Connection") -> None:
        """The connection has a request, or is gone."""
        self._idle.pop(connection, None)


class Connection(web.RequestHandler):
    """aiohttp's protocol, with a limit to the time that the head of a request takes.

    The limit counts from the connection's start or, when it has answered a request, from the first byte of the
    next. It does not count while a request is answered, nor while a kept connection waits.
    """

    __slots__ = ("_answering", "_connections", "_timer")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self._timer: Timer | None = None
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Await the first request."""
        super().connection_made(transport)
        self._start_timer()
        self._connections.add_idle(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._stop_timer()
        self._connections.remove_idle(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what has come."""
        if not self._answering and self._timer is None:
            self._start_timer()
        super().data_received(data)

    def begin_request(self) -> None:
        """A request has come, and its answer may take its time."""
        self._answering = True
        self._stop_timer()
        self._connections.remove_idle(self)

    async def finish_response(self, *arguments: Any) -> tuple[web.StreamResponse, bool]:
        """Send the response; then the connection waits for the next request."""
        try:
            return await super().finish_response(*arguments)
        finally:
            self._answering = False
            self._stop_timer()
            if self.transport is not None:
                self._connections.add_idle(self)

    def abort(self) -> None:
        """Close it at once."""
        self._stop_timer()
        self._connections.remove_idle(self)
        if self.transport is not None:
            self.transport.abort()

    def _start_timer(self) -> None:
        self._timer = self._connections.call_later(HEAD_TIMEOUT, self.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
