"""Where the browsers' tests are skipped, and why; and repeating them."""

import collections
import shutil
from typing import cast

import pytest

from tests.conftest import BROWSERS as GROUP
from tests.tools import sandbox
from tests.tools.browser import BROWSERS, BrowserName, missing_programs


@pytest.fixture(scope="session")
def usable_sandbox() -> None:
    """Skip where there can be no sandbox."""
    if reason := sandbox.refusal():
        pytest.skip(reason)
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffmpeg")


@pytest.fixture(params=BROWSERS)
def browser(request: pytest.FixtureRequest, usable_sandbox: None) -> BrowserName:
    """Each browser in turn; one that is not here is skipped."""
    name = cast(BrowserName, request.param)
    if missing := missing_programs(name):
        pytest.skip(f"needs {' and '.join(missing)}")
    return name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test as often as ``--repeat-e2e`` says."""
    times = metafunc.config.getoption("repeat_e2e")
    if times > 1:
        metafunc.fixturenames.append("attempt")
        metafunc.parametrize("attempt", range(1, times + 1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many attempts of each test passed."""
    if config.getoption("repeat_e2e") < 2:
        return
    attempts: collections.Counter[str] = collections.Counter()
    passed: collections.Counter[str] = collections.Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" and "tests/e2e/" in report.nodeid:
                name, _, parameters = report.nodeid.removesuffix(f"@{GROUP}").removesuffix("]").partition("[")
                without_attempt = "-".join(part for part in parameters.split("-") if not part.isdigit())
                attempts[f"{name}[{without_attempt}]"] += 1
                passed[f"{name}[{without_attempt}]"] += outcome == "passed"
    terminalreporter.section("attempts that passed")
    for name, count in sorted(attempts.items()):
        terminalreporter.line(f"{passed[name]} of {count}  {name}")
    terminalreporter.line(f"{passed.total()} of {attempts.total()}  in all")
