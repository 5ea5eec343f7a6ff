"""A call with a browser goes on while somebody floods the server's port, from elsewhere or in the browser's name.

``python -m tests.e2e.flood`` says how much it takes to harm one.
"""

import pytest

from tests.e2e.flood import is_unharmed, make_call, shares
from tests.e2e.flood_scenario import Source
from tests.tools.browser import BrowserName

pytestmark = pytest.mark.browser

RATE = 1000.0
"Datagrams a second: little enough for a machine that has other things to do."
SECONDS = 3.0
#: What has to be counted of each flood; some of it is STUN, which is not.
COUNTED: dict[Source, dict[str, float]] = {
    "elsewhere": {"unchecked_address": 0.6 * RATE},
    "peer": {
        "srtp_unprotect_failed": 0.2 * RATE,
        "replayed_records": 0.1 * RATE,
        "unauthentic_records": 0.005 * RATE,
        "records_of_other_epochs": 0.02 * RATE,
    },
}


def test_a_call_goes_on_in_a_flood(browser: BrowserName) -> None:
    report = make_call(browser, RATE, SECONDS)
    for source, counted in COUNTED.items():
        dropped, seconds = report["meanwhile"][source]["dropped"], report["meanwhile"][source]["seconds"]
        for reason, rate in counted.items():
            assert dropped.get(reason, 0) / seconds >= rate, dropped
        assert is_unharmed(report, source), (source, shares(report, source), report)
    assert "Traceback" not in report["output"], report["output"]
