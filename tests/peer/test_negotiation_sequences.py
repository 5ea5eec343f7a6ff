"""Random programs on both ends, with glare: in the end both agree, and nothing is left to negotiate."""

from collections import deque

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mediapeer.peer.directions import DIRECTIONS, reverse
from mediapeer.peer.signaling_state import CandidateRefused, SignalingState
from mediapeer.sdp import SessionDescription
from tests.peer.negotiators import Negotiator

#: How often each end may have to offer until nothing is needed any more.
ROUNDS = 6


class PerfectPeer(Negotiator):
    """The pattern of W3C webrtc §10.7: the polite end gives way when both offer at once."""

    def __init__(self, name: str, *, polite: bool, **options: object) -> None:
        super().__init__(name, **options)
        self.polite = polite
        self.inbox: deque[tuple[str, str]] = deque()
        self.other: PerfectPeer
        self.known_sections = 0
        self.ignores = False

    def send_offer(self, *, ice_restart: bool = False) -> None:
        negotiation = self.negotiation
        if negotiation.signaling_state is SignalingState.STABLE:
            negotiation.set_local("offer", negotiation.create_offer(ice_restart=ice_restart))
            self.other.inbox.append(("offer", str(negotiation.local_description)))

    def think_again(self) -> None:
        """Make an offer and take it back before anybody has seen it."""
        before = self.snapshot
        if self.negotiation.signaling_state is SignalingState.STABLE:
            self.negotiation.set_local("offer")
            self.negotiation.set_local("rollback")
            assert self.snapshot == before

    def deliver(self) -> None:
        if not self.inbox:
            return
        type, text = self.inbox.popleft()
        negotiation = self.negotiation
        if type == "candidate":
            if negotiation.remote_description is None:
                return
            try:
                negotiation.add_remote_candidate(text, mline_index=0)
            except CandidateRefused:
                assert self.ignores, "only a candidate of an offer that was ignored can be for no section"
            return
        if type == "offer":
            collides = negotiation.signaling_state is not SignalingState.STABLE
            self.ignores = collides and not self.polite
            if self.ignores:
                return
            negotiation.set_remote("offer", text)
            negotiation.set_local("answer")
            self.other.inbox.append(("answer", str(negotiation.local_description)))
        elif negotiation.signaling_state is SignalingState.HAVE_LOCAL_OFFER:
            negotiation.set_remote("answer", text)
        self.check_history()

    def check_history(self) -> None:
        description = self.negotiation.current_local
        if description is not None:
            assert len(description.media) >= self.known_sections
            self.known_sections = len(description.media)

    def send_candidate(self) -> None:
        transports = self.negotiation.transports()
        if transports:
            key = transports[0].key
            local = self.transports[key]
            value = f"1 1 udp {len(local.candidates) + 1} 192.0.2.1 {40000 + len(local.candidates)} typ host"
            local.candidates.append(value)
            self.negotiation.add_local_candidate(key, value)
            self.other.inbox.append(("candidate", value))


def make_pair(**options: object) -> tuple[PerfectPeer, PerfectPeer]:
    polite = PerfectPeer("p", polite=True, **options)
    impolite = PerfectPeer("i", polite=False, **options)
    polite.other, impolite.other = impolite, polite
    return polite, impolite


def do(peer: PerfectPeer, operation: str, kind: str, direction: str, index: int) -> None:
    """One thing that a program may do."""
    transceivers = peer.negotiation.transceivers
    chosen = transceivers[index % len(transceivers)] if transceivers else None
    if operation == "add":
        peer.add(kind, direction)
    elif operation == "track":
        peer.add_track(kind)
    elif operation == "data":
        peer.negotiation.want_data()
    elif operation == "restart":
        peer.negotiation.want_ice_restart()
    elif operation == "offer":
        peer.send_offer(ice_restart=index == 3)
    elif operation == "think again":
        peer.think_again()
    elif operation == "deliver":
        peer.deliver()
    elif operation == "candidate":
        peer.send_candidate()
    elif chosen is not None and operation == "stop":
        chosen.stop()
    elif chosen is not None and operation == "direction" and not chosen.stopping:
        chosen.direction = direction
    elif chosen is not None and operation == "prefer":
        capabilities = peer.negotiation.codecs.capabilities(chosen.kind, "sendrecv").codecs
        chosen.set_codec_preferences([capabilities[0], capabilities[-1]])


def settle(*peers: PerfectPeer) -> None:
    """Deliver what is under way, and offer as long as negotiation is needed."""
    for _ in range(ROUNDS):
        while any(peer.inbox for peer in peers):
            for peer in peers:
                peer.deliver()
        if not any(peer.negotiation.is_negotiation_needed() for peer in peers):
            return
        for peer in peers:
            if peer.negotiation.is_negotiation_needed():
                peer.send_offer()
    pytest.fail("negotiation is still needed")


def sections(description: SessionDescription | None) -> list[tuple[str, str | None, bool]]:
    return [(media.kind, media.mid, media.is_rejected) for media in description.media] if description else []


def check_agreement(left: PerfectPeer, right: PerfectPeer) -> None:
    """Both ends hold the same for true."""
    for one, two in ((left, right), (right, left)):
        negotiation, other = one.negotiation, two.negotiation
        assert negotiation.signaling_state is SignalingState.STABLE
        assert negotiation.pending_local is None
        assert negotiation.pending_remote is None
        assert sections(negotiation.current_local) == sections(other.current_remote)
        rejected = [section[2] for section in sections(negotiation.current_local)]
        theirs = [section[2] for section in sections(negotiation.current_remote)]
        used = [mid for _, mid, refused in sections(negotiation.current_local) if not refused]
        assert len(set(used)) == len(used)
        assert len(rejected) == len(theirs)
        peers_of = {item.mid: item for item in other.transceivers}
        for item in negotiation.transceivers:
            peer = peers_of[item.mid]
            assert (item.kind, item.mline_index) == (peer.kind, peer.mline_index)
            assert item.current_direction == reverse(peer.current_direction or "")
            sends = {(codec.payloadType, codec.mimeType) for codec in item.negotiated.send_codecs}
            receives = {(codec.payloadType, codec.mimeType) for codec in peer.negotiated.receive_codecs}
            assert sends <= receives
        assert (negotiation.data_section is None) == (other.data_section is None)
        for plan, mirror in zip(negotiation.transports(), other.transports(), strict=True):
            assert set(plan.mids) == set(mirror.mids)
            assert {plan.dtls_role, mirror.dtls_role} == {"client", "server"}
            assert plan.controlling is not mirror.controlling
            assert plan.remote_ice == two.transports[mirror.key].ice_parameters


OPERATIONS = (
    "add", "track", "data", "restart", "offer", "offer", "think again", "deliver", "deliver", "candidate",
    "stop", "direction", "prefer",
)  # fmt: skip
steps = st.lists(
    st.tuples(
        st.sampled_from((0, 1)),
        st.sampled_from(OPERATIONS),
        st.sampled_from(("audio", "video")),
        st.sampled_from(DIRECTIONS),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps)
@example([(0, "track", "audio", "sendrecv", 0), (1, "track", "audio", "sendrecv", 0)])
@example(
    [
        (0, "track", "audio", "sendrecv", 0),
        (1, "data", "audio", "sendrecv", 0),
        (1, "offer", "audio", "inactive", 0),
    ]
)
def test_two_peers_agree_after_whatever_they_did(
    program: list[tuple[int, str, str, str, int]],
) -> None:
    peers = make_pair()
    for side, operation, kind, direction, index in program:
        do(peers[side], operation, kind, direction, index)
    settle(*peers)
    check_agreement(*peers)
