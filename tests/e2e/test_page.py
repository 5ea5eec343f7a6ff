"""A person's visit: ``mediapeer serve``, the page in a real browser, every button, and Ctrl-C at the end."""

from typing import Any

import pytest

from tests.e2e.page_scenario import RECORDED_SECONDS
from tests.e2e.test_calls import SIGNS_OF_TROUBLE
from tests.tools.browser import BrowserName
from tests.tools.sandbox import run_module

pytestmark = pytest.mark.browser


def visit(browser: BrowserName, **options: object) -> dict[str, Any]:
    """Make the visit."""
    return run_module("tests.e2e.page_scenario", {"browser": browser, **options})


@pytest.mark.parametrize("server_offers", [False, True])
def test_a_visit(browser: BrowserName, server_offers: bool) -> None:
    report = visit(browser, server_offers=server_offers)
    rows = report["security"]["rows"]
    assert report["security"]["agree"] == "true"
    assert rows["Version"] == "DTLS 1.3"
    assert rows["Key exchange"] == "X25519MLKEM768"
    assert rows["Cipher suite"] == "TLS_AES_128_GCM_SHA256"
    assert rows["Your certificate"].startswith("sha-256 ")
    assert rows["Your certificate"] != rows["Python’s certificate"]
    assert report["picture"]["width"] >= 320
    assert report["muted"] == ["true", "false"]
    assert report["played"]["duration"] == pytest.approx(RECORDED_SECONDS + 0.5, abs=1)
    assert report["played"]["width"] == report["picture"]["width"]
    assert RECORDED_SECONDS - 1.5 < report["played"]["sought"] <= report["played"]["duration"] + 0.1
    kind, text = report["notice"]
    assert kind == "done", text
    assert "Saved" in text
    assert report["console_errors"] == []
    assert report["exit"] == 0
    assert report["files"] == [".json", ".png", ".webm"], "something unfinished was left"
    trouble = [sign for sign in SIGNS_OF_TROUBLE if sign in report["server_output"]]
    assert trouble == [], report["server_output"]
