"""What a hostile peer may put into descriptions, candidates and channels, and what it must not get for it."""

import asyncio
import contextlib
import gc
import logging
import re
import weakref
from collections.abc import Container, Sequence
from typing import Any

import aiortc
import pytest

import mediapeer
from mediapeer.peer.signaling_state import DescriptionError
from mediapeer.sdp import Attribute
from tests.ice.virtual_sockets import virtual_bind_all
from tests.peer.calls import negotiate as negotiate_peers
from tests.peer.negotiators import Negotiator, negotiate
from tests.peer.test_negotiation_hostile import OFFER
from tests.peer.test_silence import peer_at
from tests.transport.virtual import Network, until, virtual


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


def test_as_many_sections_as_are_read_fit_into_what_is_read() -> None:
    """Limits against floods must let a conference through."""
    peer = Negotiator()
    for _ in range(64):
        peer.add("video")
    offer = peer.offer()
    assert len(re.findall("^m=", Negotiator("b").answer(offer), re.MULTILINE)) == 64


def test_a_flood_of_fingerprints_is_not_read() -> None:
    """Each section reads those of the session: a hundred kilobytes kept the loop for two seconds."""
    fingerprint = "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\n"
    head, rest = OFFER[: OFFER.index("m=audio")], OFFER[OFFER.index("m=audio") :]
    Negotiator().negotiation.set_remote("offer", head + fingerprint * 16 + rest)
    with pytest.raises(DescriptionError, match="more than 16 fingerprints"):
        Negotiator().negotiation.set_remote("offer", head + fingerprint * 17 + rest)


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


# Ends at any moment


class Pair:
    """Two ends with something of everything, and their negotiation."""

    def __init__(self) -> None:
        self.offerer, self.answerer = peer_at("192.0.2.1"), peer_at("192.0.2.2")
        self.offerer.addTransceiver("audio")
        self.offerer.addTransceiver("video")
        self.channel = self.offerer.createDataChannel("chat")

    @property
    def ends(self) -> tuple[mediapeer.RTCPeerConnection, mediapeer.RTCPeerConnection]:
        return self.offerer, self.answerer

    async def close(self) -> None:
        for end in self.ends:
            await end.close()
            assert (end.connectionState, end.signalingState) == ("closed", "closed")


@pytest.mark.parametrize("what", ["negotiation", "close", "getStats"])
@virtual
async def test_what_is_cancelled_at_any_moment_can_be_closed(network: Network, what: str) -> None:
    for moment in (*range(16), 30, 60):
        pair = Pair()
        if what == "negotiation":
            task = asyncio.create_task(negotiate_peers(*pair.ends))
        else:
            await negotiate_peers(*pair.ends)
            await asyncio.sleep(0.01 * (moment % 3))
            task = asyncio.create_task(getattr(pair.offerer, what)())
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await pair.close()


EVENTS = (
    "track",
    "icecandidate",
    *(f"{name}statechange" for name in ("signaling", "icegathering", "connection")),
)


@pytest.mark.parametrize("event", EVENTS)
@virtual
async def test_a_handler_may_close_the_connection(network: Network, event: str) -> None:
    pair = Pair()

    @pair.answerer.on(event)
    async def close(*arguments: Any) -> None:
        await pair.answerer.close()

    with contextlib.suppress(aiortc.InvalidStateError, AttributeError):
        # What comes after that is refused; what it would have given is None.
        await negotiate_peers(*pair.ends)
    await until(lambda: pair.answerer.connectionState == "closed")
    await pair.close()


@virtual
async def test_the_log_has_no_secrets(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    """At the level for debugging, of everything: no passwords, no keys, nothing that was said."""
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = ["topsecret"]
    pair = Pair()
    for end in pair.ends:
        end.getConfiguration().keyLog = lambda line: secrets.append(line.split()[-1])
        for path in end._assembly.paths:
            path.dtls._key_log = end.getConfiguration().keyLog
    await negotiate_peers(*pair.ends)
    await until(lambda: pair.channel.readyState == "open")
    pair.channel.send("topsecret")
    await asyncio.sleep(1)
    secrets += [path.ice.local_parameters.password for end in pair.ends for path in end._assembly.paths]
    assert len(secrets) >= 1 + 2 + 2
    await pair.close()
    assert [secret for secret in secrets if secret.lower() in caplog.text.lower()] == []
