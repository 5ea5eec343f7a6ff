"""What is agreed upon with each browser when either end speaks only DTLS 1.2, or the browser no hybrid group.

Shorter calls than in tests/e2e/test_calls.py, where both ends speak what they do by default.
"""

from typing import Any

import pytest

from tests.e2e.scenario import MESSAGE
from tests.e2e.test_calls import HYBRID_SHARE, X25519_SHARE, Side, play, the_hello
from tests.tools.browser import BrowserName

pytestmark = pytest.mark.browser

NEGOTIATED = {
    "DTLS 1.2": ("FEFD", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    "DTLS 1.3": ("FEFC", "TLS_AES_128_GCM_SHA256"),
}

each_dtls_client = pytest.mark.parametrize("dtls_client", ["browser", "server"])


def play_briefly(browser: BrowserName, dtls_client: Side, **options: object) -> dict[str, Any]:
    """Make a brief call; all must be well with it."""
    report = play(browser, dtls_client=dtls_client, brief=True, **options)
    seen, python = report["browser"], report["python"]
    assert seen["connectionState"] == "connected"
    assert seen["messages"] == [MESSAGE]
    assert seen["framesDecoded"] > 0
    assert python["frames"]["video"] > 0
    assert python["frames"]["audio"] > 0
    assert python["states"] == ["connecting", "connected", "closed"]
    assert report["noticed_after"] < 2, "the end of the call was not told, only found"
    assert report["console_errors"] == []
    return report


def assert_negotiated(report: dict[str, Any], version: str, group: str, dtls_client: Side) -> None:
    """Both ends say that they agreed upon this."""
    transport, security = report["browser"]["transport"], report["call"]["security"]
    assert (transport["tlsVersion"], transport["dtlsCipher"]) == NEGOTIATED[version]
    assert (security["dtlsVersion"], security["cipherSuite"]) == (version, NEGOTIATED[version][1])
    assert security["group"] == group
    assert transport["dtlsRole"] == ("client" if dtls_client == "browser" else "server")
    assert security["dtlsRole"] == ("server" if dtls_client == "browser" else "client")


@each_dtls_client
def test_a_browser_without_the_hybrid_group(browser: BrowserName, dtls_client: Side) -> None:
    report = play_briefly(browser, dtls_client, hybrid=False)
    assert_negotiated(report, "DTLS 1.3", "X25519", dtls_client)
    if dtls_client == "browser":
        hello = the_hello(report)
        assert "X25519MLKEM768" not in hello["groups"]
        assert hello["shares"][0] == X25519_SHARE
        assert HYBRID_SHARE not in hello["shares"]


@each_dtls_client
def test_our_end_pinned_to_1_2(browser: BrowserName, dtls_client: Side) -> None:
    report = play_briefly(browser, dtls_client, server_version="1.2")
    assert_negotiated(report, "DTLS 1.2", "X25519", dtls_client)
    if dtls_client == "browser":
        assert the_hello(report)["versions"][0] == "FEFC", "the browser would have spoken 1.3"


@pytest.mark.parametrize("browser", ["firefox"], indirect=True)
@each_dtls_client
def test_firefox_pinned_to_1_2(browser: BrowserName, dtls_client: Side) -> None:
    report = play_briefly(browser, dtls_client, browser_version="1.2")
    assert_negotiated(report, "DTLS 1.2", "X25519", dtls_client)
    if dtls_client == "browser":
        assert the_hello(report)["versions"] == ["FEFD"]
