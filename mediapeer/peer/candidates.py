"""Candidates in descriptions (RFC 8839 §5.1, RFC 8840)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mediapeer.ice.candidate import Candidate, CandidateError
from mediapeer.peer.signaling_state import CandidateRefused
from mediapeer.peer.transports import TransportState
from mediapeer.peer.writing import set_candidates
from mediapeer.sdp import MediaDescription, SessionDescription

#: How many candidates of the peer's a section keeps.
MAXIMUM_CANDIDATES = 64


@dataclass(frozen=True)
class AddedCandidate:
    """What a remote candidate is for: sections, and the username fragment; ``None`` when it was not taken."""

    mids: frozenset[str]
    fragment: str | None


NOT_TAKEN = AddedCandidate(frozenset(), None)


def add_local(
    description: SessionDescription, mids: Iterable[str], fragment: str, candidate: str | None
) -> None:
    """Put one of our candidates, or their end, into the sections that have these credentials."""
    for mid in mids:
        media = description.section(mid)
        if media is None or media.is_rejected:
            continue
        parameters = description.ice_parameters(media)
        if parameters is not None and parameters[0] == fragment:
            values = [*media.candidates, candidate] if candidate is not None else media.candidates
            set_candidates(media, values, candidate is None or media.end_of_candidates)


def add_remote(
    descriptions: Sequence[SessionDescription],
    candidate: str,
    mid: str | None,
    mline_index: int | None,
    ufrag: str | None,
) -> AddedCandidate:
    """Put a candidate of the peer's, or the end of them when it is empty, into the description that it is for.

    :param descriptions: the pending and the current one, as far as they are there; one at least.
    :raises CandidateRefused: when it is malformed, or there is no such section.
    """
    value = candidate.strip().removeprefix("a=").removeprefix("candidate:").strip()
    parsed = _parse(value) if value else None
    if parsed is not None and mid is None and mline_index is None:
        raise CandidateRefused("a candidate needs the mid or the index of its section")
    if parsed is not None and ufrag is None:
        ufrag = parsed.extensions.get("ufrag")
    # The first is the newest; a candidate of the old credentials can only be for the other one.
    found = NOT_TAKEN
    for number, description in enumerate(descriptions):
        try:
            sections = _sections(description, mid, mline_index)
        except CandidateRefused:
            if number == len(descriptions) - 1 and found is NOT_TAKEN:
                raise
            continue
        taken = _add_to(description, sections, value, parsed, ufrag)
        if taken is not NOT_TAKEN:
            return taken
    return found


def _parse(value: str) -> Candidate:
    try:
        return Candidate.from_sdp(value)
    except CandidateError as error:
        raise CandidateRefused(str(error)) from error


def _sections(
    description: SessionDescription, mid: str | None, mline_index: int | None
) -> list[MediaDescription]:
    """The sections that a candidate is for: the mid goes before the index, neither means all."""
    if mid is not None:
        media = description.section(mid)
        if media is None:
            raise CandidateRefused("the remote description has no section of the candidate's mid")
        return [media]
    if mline_index is not None:
        if not 0 <= mline_index < len(description.media):
            raise CandidateRefused("the remote description has no section of the candidate's index")
        return [description.media[mline_index]]
    return list(description.media)


def _add_to(
    description: SessionDescription,
    sections: Iterable[MediaDescription],
    value: str,
    parsed: Candidate | None,
    ufrag: str | None,
) -> AddedCandidate:
    mids: set[str] = set()
    fragment = None
    for media in sections:
        parameters = description.ice_parameters(media)
        if media.is_rejected or parameters is None or ufrag not in (None, parameters[0]):
            continue
        if parsed is None:
            media.set("end-of-candidates")
        elif parsed.component != 1 or len(media.candidates) >= MAXIMUM_CANDIDATES:
            continue  # the second component was for RTCP on a port of its own
        elif value not in media.candidates:
            media.add("candidate", value)
        fragment = parameters[0]
        mids.add(media.mid or "")
    return AddedCandidate(frozenset(mids), fragment) if mids else NOT_TAKEN


def known_remote(
    description: SessionDescription | None, state: TransportState
) -> tuple[tuple[str, ...], bool]:
    """The remote candidates of a transport that belong to its present credentials, and whether these are all."""
    if description is None or state.remote_ice is None:
        return (), False
    found: dict[str, None] = {}
    ended = False
    for mid in state.candidate_mids:
        media = description.section(mid)
        parameters = None if media is None else description.ice_parameters(media)
        if media is None or parameters is None or parameters[0] != state.remote_ice.username_fragment:
            continue
        found.update(dict.fromkeys(media.candidates[:MAXIMUM_CANDIDATES]))
        ended = ended or description.end_of_candidates(media)
    return tuple(found), ended
