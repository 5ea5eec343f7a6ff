"""Runs a server until it is told to stop, and stops it in order."""

import asyncio
import errno
import logging
import os
import signal
from collections.abc import Callable, Iterable

from aiohttp import web

from signaling.application import create_application
from signaling.connections import Connections
from signaling.guard import Guard
from signaling.server import SignalingServer

logger = logging.getLogger(__name__)

#: How long calls and recordings may take to close after SIGTERM or Ctrl-C, in seconds.
GRACE_PERIOD = 10.0


class AddressInUse(OSError):
    """The port is taken by another program."""


class MediaPortError(OSError):
    """The UDP sockets for calls cannot be opened."""


async def run_server(
    server: SignalingServer,
    host: str = "127.0.0.1",
    port: int = 8080,
    allowed_hosts: Iterable[str] = (),
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then close recordings and calls and return.

    A second signal ends the process at once.

    :param host: the address or name to listen on.
    :param port: the TCP port; 0 takes any that is free.
    :param allowed_hosts: further names under which the server is reached; see :class:`signaling.Guard`.
    :param on_started: called with the URL to open once the server listens.
    :raises AddressInUse: when the port is taken.
    :raises MediaPortError: when no UDP socket for calls can be opened.
    :raises OSError: when the address cannot be used.
    """
    try:
        await server.open()
    except OSError as error:
        raise MediaPortError(str(error)) from error
    application = create_application(server, Guard(host, allowed_hosts))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    listener: asyncio.Server | None = None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        logger.info("%s: closing recordings and calls", number.name)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        listener = await _listen(runner, server, host, port)
        if on_started is not None:
            on_started(_url(host, listener.sockets[0].getsockname()[1]))
        await stop.wait()
    finally:
        if listener is not None:
            listener.close()
        try:
            async with asyncio.timeout(GRACE_PERIOD):
                await server.close()
                await runner.cleanup()
        except TimeoutError:
            logger.error("not everything closed within %.0f s", GRACE_PERIOD)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _listen(runner: web.AppRunner, server: SignalingServer, host: str, port: int) -> asyncio.Server:
    if runner.server is None:
        raise RuntimeError("the runner was not set up")
    loop = asyncio.get_running_loop()
    connections = Connections(runner.server, server.options.call_later or loop.call_later)
    try:
        return await loop.create_server(connections, host, port, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(error.errno, f"port {port} on {host} is in use") from error
        raise


def _url(host: str, port: int) -> str:
    """What to type into a browser."""
    name = {"": "localhost", "0.0.0.0": "localhost", "::": "localhost"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
