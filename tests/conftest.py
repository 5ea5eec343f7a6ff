"""What all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(
        "--repeat-e2e", type=int, default=1, metavar="N", help="run each browser test N times, and count"
    )
