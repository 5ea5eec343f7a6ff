"""What targets run in that have an event loop: no sockets, a log that is looked at, and nothing left over."""

import contextlib
import gc
import itertools
import logging
from collections.abc import Iterator
from unittest import mock

from aiohttp import web_app

from mediapeer.ice.mdns import MdnsResolver
from tests.ice.virtual_sockets import virtual_bind_all

_RUNS_PER_FULL_COLLECTION = 50
_runs = itertools.count(1)


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Have the network of a :class:`tests.transport.virtual.VirtualLoop` for sockets, and nobody to ask for names."""
    with (
        mock.patch("mediapeer.ice.mux.bind_all", virtual_bind_all),
        mock.patch.object(MdnsResolver, "_open", return_value=False),
    ):
        yield


class _Errors(logging.Handler):
    """Collects what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@contextlib.contextmanager
def errors_of(*names: str) -> Iterator[list[str]]:
    """What these loggers say is wrong, though nobody else hears it."""
    handler = _Errors()
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.propagate, logger.level, logging.root.manager.disable) for logger in loggers]
    logging.disable(logging.NOTSET)
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.ERROR)
    try:
        yield handler.messages
    finally:
        for logger, (propagate, level, disabled) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate, logger.level = propagate, level
            logging.disable(disabled)


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Let go of all that is made inside: a task tells of an exception that nobody took when it is collected.

    Nothing is collected meanwhile, so that all of it is young, and collecting it is cheap. What outlives that is
    looked at now and then.
    """
    gc.collect(1 if next(_runs) % _RUNS_PER_FULL_COLLECTION else 2)
    gc.disable()
    try:
        yield
    finally:
        web_app._cached_build_middleware.cache_clear()  # it remembers a thousand applications
        gc.collect(1)
        gc.enable()
