"""What all tests share."""

import contextlib
import os
from collections.abc import Generator

import hypothesis
import pytest

# How long an example takes is the machine's affair; that a test ends is pytest-timeout's.
hypothesis.settings.register_profile("mediapeer", deadline=None)
hypothesis.settings.load_profile("mediapeer")

#: The group of the browsers' tests, for pytest-xdist.
BROWSERS = "browsers"
#: How much the others give way to them.
NICENESS = 10
_gives_way = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(
        "--repeat-e2e", type=int, default=1, metavar="N", help="run each browser test N times, and count"
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker of pytest-xdist: the browsers first, and all in one worker.

    They look at real time, and two at once would be in each other's way; but they mostly wait, and so leave a core to
    the other tests. That they are the longest group is why they go first; those that look closest at the time go last
    among them, when few others are left.
    """
    if _is_worker(config):
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.xdist_group(BROWSERS))
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    if not item.get_closest_marker("browser"):
        return 2
    return 1 if item.get_closest_marker("timely") else 0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Around each test: as root, SVT-AV1 makes the thread that encodes, and so all that it starts, one of real time
    before which nothing else gets a processor."""
    leave_real_time()
    yield
    leave_real_time()


def leave_real_time() -> None:
    """Have all threads of this process give way to others again."""
    for thread in map(int, os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ()):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(thread) != os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """In a worker of pytest-xdist, whatever is not for a browser leaves the cores to the worker that has one.

    A worker that has come to such a test gets no browser any more.
    """
    is_first = _is_worker(item.config) and _gives_way not in item.config.stash
    if is_first and not item.get_closest_marker("browser"):
        item.config.stash[_gives_way] = True
        os.nice(NICENESS)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
