"""What all tests share."""

import pytest

#: The group of the browsers' tests, for pytest-xdist.
BROWSERS = "browsers"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(
        "--repeat-e2e", type=int, default=1, metavar="N", help="run each browser test N times, and count"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker of pytest-xdist: the browsers first, and all in one worker.

    They look at real time, and two at once would be in each other's way; but they mostly wait, and so leave a core to
    the other tests. That they are the longest group is why they go first.
    """
    if hasattr(config, "workerinput"):
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.xdist_group(BROWSERS))
        items.sort(key=lambda item: item.get_closest_marker("browser") is None)
