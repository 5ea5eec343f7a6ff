"""Real browsers call the real server: audio, video, data and a recording, whoever offers and whoever greets.

The call is made by a program in a sandbox, tests/e2e/scenario.py; here its report is judged.
"""

import itertools
from typing import Any, Literal, get_args

import pytest

from tests.e2e.scenario import MESSAGE, RECORDED_SECONDS, TONE
from tests.tools.browser import BrowserName
from tests.tools.sandbox import run_module

pytestmark = pytest.mark.browser

Side = Literal["browser", "server"]

HYBRID_SHARE = ["X25519MLKEM768", 1216]
X25519_SHARE = ["X25519", 32]

#: What must not be in the output of a server whose calls went as these do.
SIGNS_OF_TROUBLE = ("Traceback", "never retrieved", "was destroyed but it is pending", "ResourceWarning")


def play(browser: BrowserName, *scenarios: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the calls with one browser; nothing may have gone wrong in silence."""
    options = {"scenarios": [{"browser": browser, **scenario} for scenario in scenarios]}
    result = run_module("tests.e2e.scenario", options)
    assert [sign for sign in SIGNS_OF_TROUBLE if sign in result["output"]] == [], result["output"]
    reports: list[dict[str, Any]] = result["reports"]
    return reports


def test_calls_are_echoed_and_recorded(browser: BrowserName) -> None:
    """Whoever offers, and whoever is the client of the handshake."""
    sides: tuple[Side, ...] = ("browser", "server")
    kinds = list(itertools.product(sides, sides))
    reports = play(browser, *({"offerer": offerer, "dtls_client": client} for offerer, client in kinds))
    for (offerer, dtls_client), report in zip(kinds, reports, strict=True):
        assert_it_was_echoed_and_recorded(report, offerer, dtls_client)


def assert_it_was_echoed_and_recorded(report: dict[str, Any], offerer: Side, dtls_client: Side) -> None:
    """Both ends have had all of it, and so has the file."""
    assert_the_browser_has_it_all(report, dtls_client)
    assert_python_has_it_all(report, offerer, dtls_client)
    if dtls_client == "browser":
        assert_the_browser_offers_the_hybrid_group_first(the_hello(report))
    assert_the_recording_is_whole(report["recording"])
    assert report["python"]["states"] == ["connecting", "connected", "closed"]
    assert report["noticed_after"] < 2, "the end of the call was not told, only found"
    assert report["console_errors"] == []


def assert_the_browser_has_it_all(report: dict[str, Any], dtls_client: Side) -> None:
    """In the browser: the connection is secure, and what it sent has come back."""
    seen = report["browser"]
    transport = seen["transport"]
    assert seen["connectionState"] == "connected"
    assert transport["dtlsState"] == "connected"
    assert transport["dtlsRole"] == ("client" if dtls_client == "browser" else "server")
    assert transport["tlsVersion"] == "FEFC"
    assert transport["dtlsCipher"] == "TLS_AES_128_GCM_SHA256"
    assert transport["srtpCipher"] in ("SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_HMAC_SHA1_80")
    assert seen["framesDecoded"] >= 30
    assert seen["frameWidth"] == 640
    assert seen["audioPackets"] >= 100
    assert report["tone"] == pytest.approx(TONE, rel=0.02)
    assert seen["messages"] == [MESSAGE]


def assert_python_has_it_all(report: dict[str, Any], offerer: Side, dtls_client: Side) -> None:
    """In Python: the same connection from the other end, moving pictures and the tone."""
    call, seen, transport = report["call"], report["python"], report["browser"]["transport"]
    assert call["state"] == "connected"
    assert call["direction"] == ("incoming" if offerer == "browser" else "outgoing")
    security = call["security"]
    assert security["dtlsState"] == "connected"
    assert security["dtlsRole"] == ("server" if dtls_client == "browser" else "client")
    assert security["dtlsVersion"] == "DTLS 1.3"
    assert security["cipherSuite"] == transport["dtlsCipher"]
    assert security["group"] == "X25519MLKEM768"
    assert security["srtpProfile"] == transport["srtpCipher"]
    if dtls_client == "browser":
        assert security["srtpProfile"] == "SRTP_AEAD_AES_128_GCM", "the server's first choice"
    assert security["localFingerprint"] != security["remoteFingerprint"]
    assert seen["frames"]["video"] >= 40
    assert seen["width"] == 640
    assert seen["pictures"] >= 5, "the picture stands still"
    assert seen["frames"]["audio"] >= 130
    assert seen["tone"] == pytest.approx(TONE, rel=0.02)


def the_hello(report: dict[str, Any]) -> dict[str, Any]:
    """The ClientHello that the browser sent. There was one: nothing was asked for in another."""
    (hello,) = report["client_hellos"]
    result: dict[str, Any] = hello
    return result


def assert_the_browser_offers_the_hybrid_group_first(hello: dict[str, Any]) -> None:
    """It offers both versions and both groups, with a share for each."""
    assert hello["versions"][:2] == ["FEFC", "FEFD"]
    assert hello["groups"][:2] == ["X25519MLKEM768", "X25519"]
    assert hello["shares"][:2] == [HYBRID_SHARE, X25519_SHARE]


def assert_the_recording_is_whole(recording: dict[str, Any]) -> None:
    """The file opens in FFmpeg's tools, has both tracks from beginning to end, and is as long as it was run."""
    assert recording["name"] in recording["listed"]
    assert recording["wanted"] == pytest.approx(RECORDED_SECONDS, abs=0.3)
    probed = recording["probed"]
    assert sorted(stream["codec_type"] for stream in probed["streams"]) == ["audio", "video"]
    # It begins with what the browser sends next, and a browser that is kept from its work sends nothing for a while.
    assert float(probed["format"]["duration"]) == pytest.approx(recording["wanted"], abs=1.2)
    for track in recording["decoded"].values():
        assert track["first"] < 1
        assert track["last"] == pytest.approx(recording["wanted"], abs=1.2)
    assert recording["decoded"]["video"]["frames"] > 10 * RECORDED_SECONDS
    assert recording["decoded"]["audio"]["frames"] > 40 * RECORDED_SECONDS


def test_a_wrong_fingerprint_in_the_answer_fails_both_ends(browser: BrowserName) -> None:
    """Whoever offers, and whoever is the client."""
    scenarios = [
        {"offerer": offerer, "dtls_client": dtls_client, "wrong_fingerprint": True}
        for offerer in get_args(Side)
        for dtls_client in get_args(Side)
    ]
    for scenario, report in zip(scenarios, play(browser, *scenarios), strict=True):
        assert_it_failed_at_both_ends(report, scenario["offerer"], scenario["dtls_client"])


def assert_it_failed_at_both_ends(report: dict[str, Any], offerer: Side, dtls_client: Side) -> None:
    """The offerer sees it. The other end learns of it by an alert, and neither gets a frame."""
    seen, python = report["browser"], report["python"]
    assert seen["connectionState"] == "failed"
    assert seen["transport"]["dtlsState"] == "failed"
    assert seen["framesDecoded"] == 0
    assert python["frames"] == {"audio": 0, "video": 0}
    # A client of DTLS 1.3 is done when it has sent its certificate, before anybody has looked at that (RFC 8446
    # §4.4.4): it may say that it is connected until the alert comes. The end that looks never says so.
    states = {"browser": seen["states"], "server": python["states"]}
    if offerer != dtls_client:
        states[dtls_client] = [state for state in states[dtls_client] if state != "connected"]
    assert states == {"browser": ["connecting", "failed"], "server": ["connecting", "failed", "closed"]}
    if offerer == "server":
        assert "does not match the fingerprint" in python["reason"]
    else:
        # Firefox says bad_certificate, Chromium certificate_unknown.
        assert "the peer sent the fatal alert" in python["reason"]
        assert "certificate" in python["reason"]
