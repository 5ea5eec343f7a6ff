"""The thread that writes all recordings, a few times a second each."""

import atexit
import logging
import os
import threading
import time
from typing import Protocol

logger = logging.getLogger(__name__)

#: How often recordings are written, in seconds: what waits is lost in a crash.
INTERVAL = 0.2
#: How long the process's end waits for recordings to be finished, in seconds.
EXIT_PATIENCE = 10.0


class WriterJob(Protocol):
    """A recording, as the writer knows it. Both methods are called in the writer's thread."""

    def work(self) -> bool:
        """Write what has come; false when nothing will come any more. It handles its own errors."""

    def finish(self) -> None:
        """Write what has come and end, as the process does."""


class SharedWriter:
    """One thread for all recordings; it runs while there is one.

    A recording costs a thread nothing while it waits, and the frames of a fifth of a second are written
    together: so a hundred of them fit on a core.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._condition = threading.Condition()
        self._jobs: list[WriterJob] = []
        self._thread: threading.Thread | None = None
        self._is_urgent = False
        self._is_ending = False

    @property
    def jobs(self) -> int:
        """How many recordings there are."""
        with self._condition:
            return len(self._jobs)

    def add(self, job: WriterJob) -> None:
        """Write a recording from now on.

        :raises RuntimeError: when the system has no thread for it.
        """
        with self._condition:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="recordings", daemon=True)
                # It waits for the condition until the recording is there.
                thread.start()
                self._thread = thread
            self._jobs.append(job)

    def hurry(self) -> None:
        """Write without waiting for the next turn: somebody waits for a recording's end."""
        with self._condition:
            self._is_urgent = True
            self._condition.notify_all()

    def end(self) -> None:
        """Finish all recordings, and wait for that: the process ends."""
        with self._condition:
            thread = self._thread
            self._is_ending = thread is not None
            self._condition.notify_all()
        if thread is not None:
            thread.join(EXIT_PATIENCE)

    def forget(self) -> None:
        """Begin anew in a process that was forked: the thread, and the recordings, are the other one's."""
        self._condition = threading.Condition()
        self._jobs = []
        self._thread = None
        self._is_urgent = self._is_ending = False

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._jobs:
                    self._thread = None
                    self._is_ending = False
                    return
                if not (self._is_urgent or self._is_ending):
                    self._condition.wait(self._interval)
                self._is_urgent = False
                jobs, is_ending = list(self._jobs), self._is_ending
            started = time.monotonic()
            done = [job for job in jobs if not self._work(job, is_ending)]
            if done:
                with self._condition:
                    self._jobs = [job for job in self._jobs if job not in done]
            took = time.monotonic() - started
            if took > 10 * self._interval:
                logger.warning("writing %d recordings took %.1f s", len(jobs), took)

    def _work(self, job: WriterJob, is_ending: bool) -> bool:
        try:
            if is_ending:
                job.finish()
                return False
            return job.work()
        except Exception:
            # A job handles what can go wrong; this one has a fault, and the others go on.
            logger.exception("a recording was given up")
            return False


_writer = SharedWriter()
atexit.register(_writer.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writer.forget)


def shared_writer() -> SharedWriter:
    """The process's writer."""
    return _writer
