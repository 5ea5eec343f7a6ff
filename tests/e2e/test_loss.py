"""Browsers and our end connect over DTLS 1.3 through a relay that loses datagrams of every kind, both ways.

``python -m tests.e2e.lossy`` does it for more seeds, and says how long it takes.
"""

import pytest

from tests.e2e.lossy import make_calls
from tests.tools.browser import BrowserName

pytestmark = pytest.mark.browser


# Seeds that lose an early DTLS datagram of each side, and with 30 % an early check or answer of each too, but not so
# many checks in a row that ICE would run out of patience. With the first two the browser offers, with the others the
# server; in either pair each of them is the DTLS client once.
@pytest.mark.parametrize(("rate", "seeds"), [(0.1, (0, 49)), (0.3, (10, 15))], ids=["10%", "30%"])
def test_they_connect_in_spite_of_losses(browser: BrowserName, rate: float, seeds: tuple[int, ...]) -> None:
    report = make_calls(browser, rate, seeds)
    assert [call.get("failure") for call in report["calls"]] == [None] * len(seeds), report["output"]
    assert {call["dtls_client"] for call in report["calls"]} == {"browser", "server"}
    for call in report["calls"]:
        assert call["browser"]["transport"]["tlsVersion"] == "FEFC"
        assert call["call"]["security"]["dtlsVersion"] == "DTLS 1.3"
        assert sorted(call["lost"]) == ["answerer", "offerer"], "too little is lost: what is in the way?"
    assert "Traceback" not in report["output"], report["output"]
