"""Event emitters whose handlers cannot end a call by raising."""

import logging
from typing import Any

from pyee.asyncio import AsyncIOEventEmitter

logger = logging.getLogger(__name__)


def report_handler_error(error: object) -> None:
    """Log what a program's event handler raised, with its traceback: it is the program's to mend."""
    logger.error("an event handler raised", exc_info=error if isinstance(error, BaseException) else None)


def guard(emitter: AsyncIOEventEmitter) -> None:
    """Make exceptions of an emitter's handlers end in the log, unless the program listens for ``error`` itself.

    pyee raises them out of ``emit`` when nobody listens, into the code that happened to emit.
    """
    if report_handler_error not in emitter.listeners("error"):
        emitter.on("error", report_handler_error)


class GuardedEmitter(AsyncIOEventEmitter):
    """An emitter of ours, guarded for as long as it lives, its listeners removed or not."""

    def emit(self, event: str, *args: Any, **kwargs: Any) -> bool:
        """Call the handlers of ``event``. What they raise goes to ``error``, or into the log."""
        if event == "error" and not self.listeners("error"):
            report_handler_error(args[0] if args else None)
            return False
        return super().emit(event, *args, **kwargs)
