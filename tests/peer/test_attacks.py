"""What a hostile peer may put into descriptions, candidates and channels, and what it must not get for it."""

import pytest

from mediapeer.peer.signaling_state import DescriptionError
from tests.peer.negotiators import Negotiator
from tests.peer.test_negotiation_hostile import OFFER

# Descriptions


@pytest.mark.parametrize("parameter", ["APT=foo", "Apt=\u00b2", "aPT=128", "APT", "apt=96;APT=x", "apt=+96"])
def test_an_apt_that_is_no_payload_type_is_refused_in_whatever_case(parameter: str) -> None:
    """The name of a parameter is read without regard to case where it is used."""
    assert "apt=96" in OFFER
    with pytest.raises(DescriptionError, match="apt is no payload type"):
        Negotiator().negotiation.set_remote("offer", OFFER.replace("apt=96", parameter))


def test_a_description_of_megabytes_is_not_read() -> None:
    padding = f"a=x:{'y' * 8000}\r\n" * 200
    with pytest.raises(DescriptionError, match="longer than"):
        Negotiator().negotiation.set_remote("offer", OFFER + padding)
