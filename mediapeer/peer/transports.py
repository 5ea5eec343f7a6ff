"""Which sections share a transport (RFC 8843), and what both sides said of it."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mediapeer.ice.candidate import IceParameters
from mediapeer.peer.signaling_state import DescriptionError
from mediapeer.sdp import MediaDescription, SessionDescription


class LocalTransport(Protocol):
    """Our end of a transport, as descriptions speak of it. The negotiation asks, and never waits."""

    @property
    def ice_parameters(self) -> IceParameters:
        """The credentials for the next description."""

    @property
    def ice_options(self) -> Sequence[str]:
        """What stands in ``a=ice-options``, such as ``trickle``."""

    @property
    def candidates(self) -> Sequence[str]:
        """The values of ``a=candidate`` that are known by now."""

    @property
    def gathering_complete(self) -> bool:
        """Whether no more candidates will come."""

    @property
    def fingerprints(self) -> Sequence[tuple[str, str]]:
        """Hash and digest of our certificates, such as ``("sha-256", "A0:33:…")``."""

    def restart_ice(self) -> None:
        """Have new credentials in ``ice_parameters`` from now on (RFC 8445 §9). The old ones go on working until
        the peer's new ones come."""

    def undo_ice_restart(self) -> None:
        """Go back to the credentials before :meth:`restart_ice`: that description came to nothing."""


@dataclass(frozen=True)
class TransportPlan:
    """What negotiation knows of a transport by now."""

    key: str
    "What ``transport_for`` was asked for: the mid of the section that it was first made for."
    mids: tuple[str, ...]
    "The sections on it, in the order of their BUNDLE group."
    controlling: bool
    "Whether we are the one that began (RFC 8445 §6.1.1); it stays."
    remote_ice: IceParameters | None
    "The peer's credentials; ``None`` until offer and answer are both there."
    remote_fingerprints: tuple[tuple[str, str], ...]
    dtls_role: str | None
    "``client`` or ``server``, or ``None`` until it is known. It stays."
    remote_candidates: tuple[str, ...]
    "The values of ``a=candidate`` that belong to these credentials."
    end_of_candidates: bool
    ice_restart: bool
    "Whether the last description changed the peer's credentials."


@dataclass(frozen=True)
class TransportState:
    """A transport in the negotiation. It is replaced as a whole, so that it can be put back."""

    key: str
    mids: tuple[str, ...]
    controlling: bool
    candidate_mids: tuple[str, ...] = ()
    "The sections whose remote candidates are for this transport: in a first offer each section may have its own."
    remote_ice: IceParameters | None = None
    remote_fingerprints: tuple[tuple[str, str], ...] = ()
    dtls_role: str | None = None
    ice_restart: bool = False

    def has_remote(self, parameters: tuple[str, str] | None) -> bool:
        """Whether these are the peer's credentials on it."""
        remote = self.remote_ice
        return remote is not None and parameters == (remote.username_fragment, remote.password)


@dataclass(frozen=True)
class RemoteEnd:
    """What a description says of its writer's end of a transport."""

    ice: IceParameters
    fingerprints: tuple[tuple[str, str], ...]
    setup: str | None

    @property
    def insists_on(self) -> str | None:
        """The DTLS role that the peer wants to have whatever we say (RFC 4145 §4)."""
        return {"active": "client", "passive": "server"}.get(self.setup or "")


def tagged(mids: Iterable[str], sections: dict[str, MediaDescription]) -> str | None:
    """The section that speaks for its group: the first that has an address of its own (RFC 8843 §7.3.1)."""
    present = [mid for mid in mids if mid in sections]
    return next((mid for mid in present if not sections[mid].bundle_only), present[0] if present else None)


def remote_end(description: SessionDescription, mid: str, sections: dict[str, MediaDescription]) -> RemoteEnd:
    """Credentials, fingerprints and DTLS role in a section, or in the session.

    :raises DescriptionError: when credentials or fingerprints are missing (RFC 9429 §5.8.2, RFC 8842 §5).
    """
    media = sections[mid]
    index = next(index for index, other in enumerate(description.media) if other is media)
    parameters = description.ice_parameters(media)
    fingerprints = tuple(description.fingerprints(media))
    if parameters is None:
        raise DescriptionError("a=ice-ufrag or a=ice-pwd is missing", index)
    if not fingerprints:
        raise DescriptionError("a=fingerprint is missing", index)
    setup = description.setup(media)
    if setup == "holdconn":
        raise DescriptionError("a=setup:holdconn is not allowed (RFC 8842 §5)", index)
    return RemoteEnd(IceParameters(*parameters, description.ice_lite), fingerprints, setup)


def check_end(state: TransportState, end: RemoteEnd, type: str) -> None:
    """Whether what a description says of a transport can be done.

    :raises DescriptionError: when it can not.
    """
    if type != "offer" and end.setup not in ("active", "passive"):
        raise DescriptionError("a=setup must be active or passive in an answer (RFC 8842 §5.3)")
    if state.remote_fingerprints and not set(end.fingerprints) & set(state.remote_fingerprints):
        raise DescriptionError(
            "another a=fingerprint would need a new DTLS association, which we do not make"
        )
    if type == "offer" and state.dtls_role is not None and state.dtls_role == end.insists_on:
        raise DescriptionError("another a=setup would need a new DTLS association, which we do not make")


def dtls_role_after(state: TransportState, end: RemoteEnd) -> str:
    """Our role: what it is already, or what the peer's ``a=setup`` leaves us (RFC 8842 §5.3)."""
    return state.dtls_role or ("server" if end.setup == "active" else "client")


def settle(
    states: Iterable[TransportState],
    description: SessionDescription,
    type: str,
    accepted: Iterable[str],
    *,
    final: bool,
) -> tuple[TransportState, ...]:
    """The transports after an answer: the peer's end is known, and only sections that were accepted are left.

    :param description: the peer's; ``type`` is its type.
    :param final: whether the answer is; sections that a provisional one rejects stay.
    :raises DescriptionError: when the peer's end cannot be reached as its description says.
    """
    sections = by_mid(description)
    alive = set(accepted)
    settled: list[TransportState] = []
    for state in states:
        mids = tuple(mid for mid in state.mids if mid in alive)
        mid = tagged(mids, sections)
        if mid is None:
            settled.extend(() if final else (state,))
            continue
        end = remote_end(description, mid, sections)
        check_end(state, end, type)
        candidate_mids = (
            mids if type != "offer" else tuple(mid for mid in state.candidate_mids if mid in alive)
        )
        is_first, is_new = (
            state.remote_ice is None,
            state.remote_ice is None or changed(state.remote_ice, end.ice),
        )
        settled.append(
            replace(
                state,
                mids=mids if final else state.mids,
                candidate_mids=candidate_mids or (mid,),
                ice_restart=is_new and not is_first,
                # Whether the peer is lite does not change under the same credentials.
                remote_ice=end.ice if is_new else state.remote_ice,
                remote_fingerprints=end.fingerprints,
                dtls_role=dtls_role_after(state, end),
            )
        )
    return tuple(settled)


def changed(old: IceParameters, new: IceParameters) -> bool:
    """Whether credentials changed, which restarts ICE (RFC 8839 §4.4.1.1.1)."""
    return (old.username_fragment, old.password) != (new.username_fragment, new.password)


def by_mid(description: SessionDescription) -> dict[str, MediaDescription]:
    """The sections of a description by their mids."""
    return {mid: media for media in description.media if (mid := media.mid) is not None}


def groups_of(description: SessionDescription, accepted: Sequence[str]) -> list[list[str]]:
    """The mids of accepted sections as their writer groups them; one that is in no group is alone.

    :raises DescriptionError: when a section is in two groups (RFC 8843 §7.1).
    """
    left = dict.fromkeys(accepted)
    seen: set[str] = set()
    groups = []
    for group in description.bundle_groups:
        if seen & set(group) or len(set(group)) != len(group):
            raise DescriptionError("a section is twice in BUNDLE groups (RFC 8843 §7.1)")
        seen.update(group)
        members = [mid for mid in group if mid in left]
        if members:
            groups.append(members)
        for mid in members:
            del left[mid]
    return groups + [[mid] for mid in left]


def unique_key(wanted: str, used: Container[str]) -> str:
    """A key for a transport that no other has."""
    key, number = wanted, 2
    while key in used:
        key = f"{wanted} ({number})"
        number += 1
    return key


def regroup(
    states: Sequence[TransportState],
    groups: Iterable[Sequence[str]],
    offer: SessionDescription,
    *,
    main_key: str | None,
) -> tuple[TransportState, ...]:
    """The transports for the groups of a remote offer.

    A group stays on the transport that one of its sections has, or whose credentials it goes on using when all old
    sections go.

    :param main_key: the key of the first transport, if one was made for an offer of ours already.
    """
    sections = by_mid(offer)
    groups = [list(group) for group in groups]
    grouped = {mid for group in groups for mid in group}
    free = list(states)
    planned = []
    keys = {state.key for state in states}
    for group in groups:
        owner = next((state for mid in group for state in free if mid in state.mids), None)
        tag = tagged(group, sections) or group[0]
        if owner is None:
            parameters = offer.ice_parameters(sections[tag])
            spare = (state for state in free if grouped.isdisjoint(state.mids))
            owner = next((state for state in spare if state.has_remote(parameters)), None)
        if owner is None:
            key = unique_key(group[0] if keys or main_key is None else main_key, keys)
            keys.add(key)
            planned.append(TransportState(key, tuple(group), offer.ice_lite, (tag,)))
        else:
            free.remove(owner)
            known = tuple(mid for mid in group if mid == tag or mid in owner.mids)
            planned.append(replace(owner, mids=tuple(group), candidate_mids=known))
    return tuple(planned)
