"""Scenarios with real sockets on loopback, under asyncio's event loop and under uvloop."""

import asyncio
import functools
import importlib.util
import inspect
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

#: Seconds after which something that should happen at once has not.
PATIENCE = 5.0


def on_every_loop(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a scenario under each event loop that is installed. Exceptions that reach the loop fail it."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @functools.wraps(scenario)
    def run(loop: str, **fixtures: Any) -> None:
        factory: Callable[[], asyncio.AbstractEventLoop] | None = None
        if loop == "uvloop":
            if importlib.util.find_spec("uvloop") is None:
                pytest.skip("uvloop is not installed: pip install -e .[test]")
            import uvloop

            factory = uvloop.new_event_loop
        unhandled: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            before = asyncio.all_tasks()
            await scenario(**fixtures)
            assert asyncio.all_tasks() == before

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        assert unhandled == []

    # pytest goes by the signature: that of the scenario, and the loop.
    signature = inspect.signature(scenario)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *signature.parameters.values(),
        ],
        return_annotation=None,
    )
    return run


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until something holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen")
        await asyncio.sleep(0)


def client(host: str = "127.0.0.1") -> socket.socket:
    """A socket of somebody else's."""
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((host, 0))
    opened.settimeout(PATIENCE)
    return opened
