"""Every operation in every signaling state, beside W3C's diagram (W3C webrtc §4.3.1, figure 1)."""

import pytest
from aiortc.exceptions import InvalidStateError

from mediapeer.peer.signaling_state import (
    DESCRIPTION_TYPES,
    DescriptionError,
    SignalingState,
    WrongStateError,
    next_state,
)
from tests.peer.negotiators import Negotiator

STABLE, LOCAL_OFFER, REMOTE_OFFER, LOCAL_PRANSWER, REMOTE_PRANSWER, CLOSED = SignalingState

#: The diagram, state by state: what each setter with each type leads to. What is missing raises InvalidStateError.
#: A rollback by the other side's setter and a remote offer on top of ours are in the text of §4.4.1.5, not in it.
DIAGRAM = {
    STABLE: {("local", "offer"): LOCAL_OFFER, ("remote", "offer"): REMOTE_OFFER},
    LOCAL_OFFER: {
        ("local", "offer"): LOCAL_OFFER,
        ("local", "rollback"): STABLE,
        ("remote", "answer"): STABLE,
        ("remote", "pranswer"): REMOTE_PRANSWER,
        ("remote", "rollback"): STABLE,
        ("remote", "offer"): REMOTE_OFFER,
    },
    REMOTE_OFFER: {
        ("remote", "offer"): REMOTE_OFFER,
        ("remote", "rollback"): STABLE,
        ("local", "answer"): STABLE,
        ("local", "pranswer"): LOCAL_PRANSWER,
        ("local", "rollback"): STABLE,
    },
    LOCAL_PRANSWER: {("local", "pranswer"): LOCAL_PRANSWER, ("local", "answer"): STABLE},
    REMOTE_PRANSWER: {("remote", "pranswer"): REMOTE_PRANSWER, ("remote", "answer"): STABLE},
    CLOSED: {},
}

OPERATIONS = [(side, type) for side in ("local", "remote") for type in DESCRIPTION_TYPES]


def peer_in(state: SignalingState) -> tuple[Negotiator, Negotiator]:
    """A negotiator in that state, and the other one."""
    peer, other = Negotiator("a"), Negotiator("b")
    peer.add("audio")
    other.add("audio")
    if state in (LOCAL_OFFER, REMOTE_PRANSWER):
        offer = peer.offer()
        if state is REMOTE_PRANSWER:
            peer.negotiation.set_remote("pranswer", other.answer(offer))
    elif state in (REMOTE_OFFER, LOCAL_PRANSWER):
        peer.negotiation.set_remote("offer", other.offer())
        if state is LOCAL_PRANSWER:
            peer.negotiation.set_local("pranswer")
    elif state is CLOSED:
        peer.negotiation.close()
    assert peer.negotiation.signaling_state is state
    return peer, other


def perform(peer: Negotiator, other: Negotiator, side: str, type: str) -> None:
    """Set a description of that type as it would come in a call."""
    negotiation = peer.negotiation
    if side == "local":
        negotiation.set_local(type)
    elif type == "rollback":
        negotiation.set_remote(type)
    elif type == "offer":
        stranger = Negotiator("c")
        stranger.add("audio")
        negotiation.set_remote(type, stranger.offer())
    else:
        pending = negotiation.pending_local
        text = other.negotiation.current_local or Negotiator("d").answer(str(pending)) if pending else ""
        negotiation.set_remote(type, str(text))


@pytest.mark.parametrize(("side", "type"), OPERATIONS)
@pytest.mark.parametrize("state", SignalingState)
def test_the_state_machine_is_that_of_the_diagram(state: SignalingState, side: str, type: str) -> None:
    peer, other = peer_in(state)
    expected = DIAGRAM[state].get((side, type))
    if expected is None:
        before = peer.snapshot
        with pytest.raises(InvalidStateError):
            perform(peer, other, side, type)
        assert peer.snapshot == before
    else:
        perform(peer, other, side, type)
        assert peer.negotiation.signaling_state is expected


@pytest.mark.parametrize("state", SignalingState)
def test_offers_and_answers_are_created_where_they_can_be_set(state: SignalingState) -> None:
    peer, _ = peer_in(state)
    for create, type in (
        (peer.negotiation.create_offer, "offer"),
        (peer.negotiation.create_answer, "answer"),
    ):
        if ("local", type) in DIAGRAM[state]:
            assert str(create()).startswith("v=0")
        else:
            with pytest.raises(WrongStateError):
                create()


@pytest.mark.parametrize(
    ("state", "type"),
    [
        (STABLE, "offer"),
        (LOCAL_OFFER, "offer"),
        (REMOTE_OFFER, "answer"),
        (LOCAL_PRANSWER, "answer"),
        (REMOTE_PRANSWER, "offer"),
    ],
)
def test_a_local_description_without_a_type_is_what_the_state_calls_for(
    state: SignalingState, type: str
) -> None:
    assert peer_in(state)[0].negotiation.implicit_type() == type


@pytest.mark.parametrize("type", ["", "Offer", "bye", "x" * 1000])
def test_a_type_that_is_none_is_refused_by_name(type: str) -> None:
    with pytest.raises(DescriptionError, match="there is no description of type"):
        next_state(STABLE, "remote", type)


def test_pending_and_current_descriptions_follow_the_states() -> None:
    peer, other = Negotiator("a"), Negotiator("b")
    peer.add("audio")
    offer = peer.offer()
    assert (peer.negotiation.current_local, peer.negotiation.remote_description) == (None, None)
    other.negotiation.set_remote("offer", offer)
    assert str(other.negotiation.pending_remote) == offer
    other.negotiation.set_local("pranswer")
    peer.negotiation.set_remote("pranswer", str(other.negotiation.pending_local))
    assert peer.negotiation.pending_remote is not None
    assert peer.negotiation.transceivers[0].current_direction == "sendonly"
    other.negotiation.set_local("answer")
    peer.negotiation.set_remote("answer", str(other.negotiation.current_local))
    for end in (peer, other):
        negotiation = end.negotiation
        assert negotiation.pending_local is negotiation.pending_remote is None
        assert negotiation.local_description is negotiation.current_local is not None
        assert negotiation.remote_description is negotiation.current_remote is not None
