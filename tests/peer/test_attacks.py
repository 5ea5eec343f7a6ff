"""What a hostile peer may put into descriptions, candidates and channels, and what it must not get for it."""

import asyncio
import gc
import re
import weakref
from collections.abc import Container, Sequence
from typing import Any

import aiortc
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


# Negotiation again and again


def sections(mids: Sequence[str], rejected: Container[str] = ()) -> aiortc.RTCSessionDescription:
    """An offer of audio sections with these mids."""
    head, audio = OFFER[: OFFER.index("m=audio")], OFFER[OFFER.index("m=audio") : OFFER.index("m=video")]
    used = " ".join(mid for mid in mids if mid not in rejected)
    text = re.sub(r"a=group:.*", f"a=group:BUNDLE {used}", head)
    for mid in mids:
        section = re.sub(r"a=mid:.*", f"a=mid:{mid}", audio)
        text += section if mid not in rejected else re.sub(r"m=audio \d+", "m=audio 0", section)
    return aiortc.RTCSessionDescription(text, "offer")


@virtual
async def test_sections_that_come_and_go_without_end_leave_nothing(network: Network) -> None:
    """Each re-offer rejects all sections but one, and the next puts new ones in their places."""
    peer = peer_at("192.0.2.1")
    gone: list[weakref.ref[Any]] = []
    peer.on("track", lambda track: gone.append(weakref.ref(track)))
    for number in range(20):
        mids = ["kept", *(f"{number}-{section}" for section in range(3))]
        for rejected in ([], mids[1:]):
            await peer.setRemoteDescription(sections(mids, rejected))
            await peer.setLocalDescription()
    await asyncio.sleep(1)
    gc.collect()
    assert len(gone) == 1 + 20 * 3
    assert sum(reference() is not None for reference in gone) == 1
    [transport] = peer.transports
    assert list(transport.media._router._sections) == ["kept"]
    assert len(transport.media._sections) + len(transport.media._paused) == 1
    assert len(peer._negotiation._session.mids) == 0
    await peer.close()


@virtual
async def test_a_mid_of_ours_is_none_that_the_peer_has_used(network: Network) -> None:
    peer = peer_at("192.0.2.1")
    for mids in (["0", "x"], ["0", "1"]):
        await peer.setRemoteDescription(sections(mids))
        await peer.setLocalDescription()
        await peer.setRemoteDescription(sections(mids, mids[1:]))
        await peer.setLocalDescription()
    peer.addTransceiver("video")
    offer = (await peer.createOffer()).sdp
    assert re.findall(r"a=mid:(.*)\r", offer) == ["0", "2"]
    await peer.close()
