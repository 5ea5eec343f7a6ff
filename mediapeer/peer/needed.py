"""Whether negotiation is needed (W3C webrtc §4.7.3)."""

from mediapeer.peer.directions import intersect, is_sending, reverse
from mediapeer.peer.session import Session
from mediapeer.peer.transceiver import Transceiver
from mediapeer.sdp import SessionDescription


def local_fragments(description: SessionDescription | None) -> set[str]:
    """The username fragments in the sections in use of a description."""
    if description is None:
        return set()
    found = (description.ice_parameters(media) for media in description.media if not media.is_rejected)
    return {parameters[0] for parameters in found if parameters is not None}


def is_needed(session: Session) -> bool:
    """Whether a transceiver is not in the current descriptions as the program wants it."""
    return any(
        _is_needed_for(transceiver, session)
        for transceiver in session.transceivers
        if not (transceiver.stopping and transceiver.mid is None)
    )


def _is_needed_for(transceiver: Transceiver, session: Session) -> bool:
    local, remote = session.current_local, session.current_remote
    if transceiver.stopping or transceiver.mid is None or local is None or remote is None:
        return True
    ours, theirs = local.section(transceiver.mid), remote.section(transceiver.mid)
    if ours is None or theirs is None:
        return True
    wanted = transceiver.direction
    source = transceiver.sender_source
    sends = is_sending(wanted) and is_sending(local.direction(ours))
    if sends and source is not None and set(ours.stream_ids) != set(source.stream_ids):
        return True
    if session.offered:
        return wanted not in (local.direction(ours), reverse(remote.direction(theirs)))
    answered = intersect(wanted, reverse(remote.direction(theirs)))
    return answered != local.direction(ours)
