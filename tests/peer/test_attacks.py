"""What a hostile peer may put into descriptions, candidates and channels, and what it must not get for it."""

from typing import Any

import pytest

from mediapeer.peer.signaling_state import DescriptionError
from mediapeer.sdp import Attribute
from tests.ice.virtual_sockets import virtual_bind_all
from tests.peer.calls import negotiate as negotiate_peers
from tests.peer.negotiators import Negotiator, negotiate
from tests.peer.test_negotiation_hostile import OFFER
from tests.peer.test_silence import peer_at
from tests.transport.virtual import Network, virtual


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)


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


def test_a_peer_that_turns_lite_in_mid_call_changes_nothing() -> None:
    """It would be another agent under the same credentials, and an ICE restart that nobody asked for."""
    peer, other = Negotiator("a"), Negotiator("b")
    other.add("audio")
    negotiate(other, peer)
    [before] = peer.negotiation.transports()
    peer.answer(other.offer().replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"))
    [after] = peer.negotiation.transports()
    assert (after.remote_ice, after.ice_restart) == (before.remote_ice, False)


def test_no_secret_of_a_description_is_in_a_repr() -> None:
    peer, other = Negotiator("a"), Negotiator("b")
    other.add("audio")
    negotiate(other, peer)
    negotiation = peer.negotiation
    shown = repr(
        [negotiation.current_local, negotiation.current_remote, negotiation._session, negotiation._author]
    )
    other.negotiation.create_offer()
    shown += repr(other.negotiation._created)
    for end in (peer, other):
        for transport in end.transports.values():
            assert transport.ice_parameters.username_fragment in shown
            assert transport.ice_parameters.password not in shown
    assert "MTIz" not in repr(Attribute("crypto", "1 AES_CM_128_HMAC_SHA1_80 inline:MTIz"))


# Candidates

CANDIDATE = "candidate:1 1 udp 1 192.0.2.9 4000 typ host"


@pytest.mark.parametrize(
    "candidate",
    [
        {"candidate": "", "sdpMid": [1]},
        {"candidate": "", "sdpMLineIndex": "x"},
        {"candidate": "", "sdpMLineIndex": 0.5},
        {"candidate": "", "usernameFragment": {}},
        {"candidate": CANDIDATE, "sdpMid": {}},
        {"candidate": CANDIDATE, "sdpMLineIndex": 1 << 40},
        {"candidate": CANDIDATE},
        {"candidate": None},
        {"candidate": "x" * 100_000, "sdpMid": "0"},
        "candidate:1",
        3,
        [],
    ],
)
@virtual
async def test_a_candidate_that_is_none_raises_a_value_error(network: Network, candidate: Any) -> None:
    """As it comes out of a browser's JSON, of which a program trusts nothing."""
    offerer, answerer = peer_at("192.0.2.1"), peer_at("192.0.2.2")
    offerer.addTransceiver("audio")
    await negotiate_peers(offerer, answerer)
    before = answerer.remoteDescription
    with pytest.raises(ValueError):
        await answerer.addIceCandidate(candidate)
    assert answerer.remoteDescription == before
    await offerer.close()
    await answerer.close()


@virtual
async def test_every_trickled_candidate_is_taken_whatever_section_names_it(network: Network) -> None:
    """Those of the first section stand before those of the second, and are new all the same."""
    offerer, answerer = peer_at("192.0.2.1"), peer_at("192.0.2.2")
    offerer.addTransceiver("audio")
    offerer.addTransceiver("video")
    await negotiate_peers(offerer, answerer)
    for number, mid in enumerate("0101"):
        await offerer.addIceCandidate(
            {"candidate": f"candidate:1 1 udp 1 198.51.100.{number} 4000 typ host", "sdpMid": mid}
        )
    [path] = offerer._assembly.paths
    hosts = [candidate.host for candidate in path.ice.remote_candidates]
    assert [hosts.count(f"198.51.100.{number}") for number in range(4)] == [1, 1, 1, 1]
    await offerer.close()
    await answerer.close()
