"""What is agreed upon with each browser when either end speaks only DTLS 1.2, or the browser no hybrid group.

Shorter calls than in tests/e2e/test_calls.py, where both ends speak what they do by default.
"""

from typing import Any, get_args

import pytest

from tests.e2e.scenario import MESSAGE
from tests.e2e.test_calls import HYBRID_SHARE, X25519_SHARE, Side, play, the_hello
from tests.tools.browser import BrowserName

pytestmark = pytest.mark.browser

NEGOTIATED = {
    "DTLS 1.2": ("FEFD", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    "DTLS 1.3": ("FEFC", "TLS_AES_128_GCM_SHA256"),
}


def play_briefly(browser: BrowserName, **options: object) -> dict[Side, dict[str, Any]]:
    """Make a brief call with either end as the DTLS client; all must be well with it.

    :returns: the report of each call by the client.
    """
    sides: tuple[Side, ...] = get_args(Side)
    reports = play(browser, *({"dtls_client": side, "brief": True, **options} for side in sides))
    for report in reports:
        assert_all_is_well(report)
    return dict(zip(sides, reports, strict=True))


def assert_all_is_well(report: dict[str, Any]) -> None:
    """A message and pictures have come back, Python has got both kinds of media, and has noticed the end."""
    seen, python = report["browser"], report["python"]
    assert seen["connectionState"] == "connected"
    assert seen["messages"] == [MESSAGE]
    assert seen["framesDecoded"] > 0
    assert python["frames"]["video"] > 0
    assert python["frames"]["audio"] > 0
    assert python["states"] == ["connecting", "connected", "closed"]
    assert report["noticed_after"] < 2, "the end of the call was not told, only found"
    assert report["console_errors"] == []


def assert_negotiated(reports: dict[Side, dict[str, Any]], version: str, group: str) -> None:
    """Both ends of each call say that they agreed upon this."""
    for dtls_client, report in reports.items():
        transport, security = report["browser"]["transport"], report["call"]["security"]
        assert (transport["tlsVersion"], transport["dtlsCipher"]) == NEGOTIATED[version]
        assert (security["dtlsVersion"], security["cipherSuite"]) == (version, NEGOTIATED[version][1])
        assert security["group"] == group
        assert transport["dtlsRole"] == ("client" if dtls_client == "browser" else "server")
        assert security["dtlsRole"] == ("server" if dtls_client == "browser" else "client")


def test_a_browser_without_the_hybrid_group(browser: BrowserName) -> None:
    reports = play_briefly(browser, hybrid=False)
    assert_negotiated(reports, "DTLS 1.3", "X25519")
    hello = the_hello(reports["browser"])
    assert "X25519MLKEM768" not in hello["groups"]
    assert hello["shares"][0] == X25519_SHARE
    assert HYBRID_SHARE not in hello["shares"]


def test_our_end_pinned_to_1_2(browser: BrowserName) -> None:
    reports = play_briefly(browser, server_version="1.2")
    assert_negotiated(reports, "DTLS 1.2", "X25519")
    assert the_hello(reports["browser"])["versions"][0] == "FEFC", "the browser would have spoken 1.3"


@pytest.mark.parametrize("browser", ["firefox"], indirect=True)
def test_firefox_pinned_to_1_2(browser: BrowserName) -> None:
    reports = play_briefly(browser, browser_version="1.2")
    assert_negotiated(reports, "DTLS 1.2", "X25519")
    assert the_hello(reports["browser"])["versions"] == ["FEFD"]
