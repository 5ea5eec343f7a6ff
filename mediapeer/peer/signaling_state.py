"""The signaling states and what leads from one to another (W3C webrtc §4.3.1, RFC 9429 §3.2)."""

import enum

from aiortc.exceptions import InvalidStateError, OperationError


class NegotiationError(Exception):
    """Something cannot be negotiated. The text says what and why; nothing was changed."""


class WrongStateError(NegotiationError, InvalidStateError):
    """The operation does not fit the signaling state."""


class DescriptionError(NegotiationError, ValueError):
    """A description cannot be used.

    ``section`` is the index of the media section to blame, from 0, or ``None``.
    """

    def __init__(self, reason: str, section: int | None = None) -> None:
        super().__init__(reason if section is None else f"media section {section}: {reason}")
        self.reason = reason
        self.section = section


class CandidateRefused(NegotiationError, OperationError, ValueError):
    """A remote candidate is malformed, or for a section that no remote description has."""


class SignalingState(enum.StrEnum):
    """Where offer and answer stand."""

    STABLE = "stable"
    HAVE_LOCAL_OFFER = "have-local-offer"
    HAVE_REMOTE_OFFER = "have-remote-offer"
    HAVE_LOCAL_PRANSWER = "have-local-pranswer"
    HAVE_REMOTE_PRANSWER = "have-remote-pranswer"
    CLOSED = "closed"


DESCRIPTION_TYPES = ("offer", "answer", "pranswer", "rollback")

_STABLE, _LOCAL_OFFER, _REMOTE_OFFER, _LOCAL_PRANSWER, _REMOTE_PRANSWER, _ = SignalingState
#: (state, side, type of description) → the next state. What is not there is refused.
TRANSITIONS: dict[tuple[SignalingState, str, str], SignalingState] = {
    (_STABLE, "local", "offer"): _LOCAL_OFFER,
    (_STABLE, "remote", "offer"): _REMOTE_OFFER,
    (_LOCAL_OFFER, "local", "offer"): _LOCAL_OFFER,
    (_LOCAL_OFFER, "remote", "answer"): _STABLE,
    (_LOCAL_OFFER, "remote", "pranswer"): _REMOTE_PRANSWER,
    (_LOCAL_OFFER, "local", "rollback"): _STABLE,
    (
        _LOCAL_OFFER,
        "remote",
        "rollback",
    ): _STABLE,  # W3C webrtc §4.4.1.5 does not ask which side it comes from
    (_LOCAL_OFFER, "remote", "offer"): _REMOTE_OFFER,  # the local offer is rolled back first
    (_REMOTE_PRANSWER, "remote", "pranswer"): _REMOTE_PRANSWER,
    (_REMOTE_PRANSWER, "remote", "answer"): _STABLE,
    (_REMOTE_OFFER, "remote", "offer"): _REMOTE_OFFER,
    (_REMOTE_OFFER, "local", "answer"): _STABLE,
    (_REMOTE_OFFER, "local", "pranswer"): _LOCAL_PRANSWER,
    (_REMOTE_OFFER, "remote", "rollback"): _STABLE,
    (_REMOTE_OFFER, "local", "rollback"): _STABLE,
    (_LOCAL_PRANSWER, "local", "pranswer"): _LOCAL_PRANSWER,
    (_LOCAL_PRANSWER, "local", "answer"): _STABLE,
}


def next_state(state: SignalingState, side: str, type: str) -> SignalingState:
    """The state after a description of that type was set on that side, ``local`` or ``remote``.

    :raises WrongStateError: when it does not fit the state.
    :raises DescriptionError: when there is no such type.
    """
    if type not in DESCRIPTION_TYPES:
        raise DescriptionError(f"there is no description of type {str(type)[:32]!r}")
    if state is SignalingState.CLOSED:
        raise WrongStateError("the peer connection is closed")
    following = TRANSITIONS.get((state, side, type))
    if following is None:
        article = "an" if type in ("offer", "answer") else "a"
        raise WrongStateError(
            f"{article} {type} cannot be set as {side} description in state {state.value!r}"
        )
    return following
