"""Offer and answer: the state machine under a peer connection (W3C webrtc §4, RFC 9429, RFC 8843). Sans-IO.

Descriptions go in, descriptions and changes come out. Whatever is wrong with a description is found before anything
is changed by it. Below stand ``creating`` (our descriptions), ``review`` (whether the peer's can be used),
``agreement`` (codecs), ``transports`` (BUNDLE) and ``session`` (all that can be put back).
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mediapeer.peer import candidates, needed
from mediapeer.peer.applying import OfferedMedia, agree, note_remote, reject, take_data
from mediapeer.peer.codecs import CodecRegistry
from mediapeer.peer.creating import Author, Created, answered_terms
from mediapeer.peer.directions import intersect, reverse
from mediapeer.peer.review import (
    DEFAULT_MAX_MESSAGE_SIZE,
    SectionReview,
    check_against_created,
    check_groups,
    check_layout,
    complete_mids,
    parse,
    review_answer,
    review_offer,
)
from mediapeer.peer.session import DataSection, RemoteChanges, Saved, Session
from mediapeer.peer.signaling_state import DescriptionError, SignalingState, WrongStateError, next_state
from mediapeer.peer.transceiver import Transceiver
from mediapeer.peer.transports import (
    LocalTransport,
    TransportPlan,
    TransportState,
    by_mid,
    changed,
    check_end,
    groups_of,
    regroup,
    remote_end,
    settle,
    tagged,
)
from mediapeer.peer.writing import set_candidates
from mediapeer.sdp import SessionDescription

BUNDLE_POLICIES = ("balanced", "max-compat", "max-bundle")


class Negotiation:
    """Negotiates the sections, codecs and transports of one peer connection.

    :param transport_for: gives our end of a transport by its key, the same one each time until :meth:`transports`
        has it no longer.
    :param new_transceiver: makes a transceiver of that kind for a section that the peer offers.
    :param bundle_policy: ``max-bundle`` rejects sections that the peer keeps out of its first BUNDLE group; the
        other two, which are one here, give them transports of their own. Our offers share one transport.
    :param max_message_size: the largest data channel message that we take, in bytes.
    :param session_id: the number in ``o=``; a random one of 62 bits when it is not given (RFC 9429 §5.2.1).
    :raises ValueError: for another policy.
    """

    def __init__(
        self,
        *,
        transport_for: Callable[[str], LocalTransport],
        new_transceiver: Callable[[str], Transceiver],
        bundle_policy: str = "balanced",
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        codecs: CodecRegistry | None = None,
        session_id: int | None = None,
    ) -> None:
        if bundle_policy not in BUNDLE_POLICIES:
            raise ValueError(f"{bundle_policy!r} is no bundle policy")
        self.codecs = codecs or CodecRegistry()
        self._bundle_policy = bundle_policy
        self._transport_for = transport_for
        self._new_transceiver = new_transceiver
        self._session = Session()
        if session_id is None:
            session_id = secrets.randbits(62)
        self._author = Author(self._session, self.codecs, transport_for, max_message_size, session_id)
        self._stable: Saved | None = None
        "How the session stood before the offer that is under way."
        self._created: Created | None = None
        self._reviews: list[SectionReview] = []
        "Of the pending remote offer."
        self._wants_data = False
        self._main_key: str | None = None
        "The key of the transport that an offer was created for first."
        self._restarted: set[str] = set()
        "The transports that have new credentials which no answer has sealed yet."
        self._fragments_to_replace: set[str] = set()
        "The local username fragments that ``restartIce`` wants to be gone."

    @property
    def signaling_state(self) -> SignalingState:
        """Where offer and answer stand."""
        return self._session.signaling_state

    @property
    def transceivers(self) -> list[Transceiver]:
        """Those that are not stopped, in the order in which they were made.

        One that is stopping and has no section is over without any negotiation.
        """
        return [item for item in self._session.transceivers if not (item.stopping and item.mid is None)]

    @property
    def data_section(self) -> DataSection | None:
        """The section for data channels, if there is one."""
        return self._session.data

    @property
    def current_local(self) -> SessionDescription | None:
        """Our side of the last finished negotiation."""
        return self._session.current_local

    @property
    def current_remote(self) -> SessionDescription | None:
        """The peer's side of the last finished negotiation."""
        return self._session.current_remote

    @property
    def pending_local(self) -> SessionDescription | None:
        """Our side of the negotiation that is under way."""
        return self._session.pending_local

    @property
    def pending_remote(self) -> SessionDescription | None:
        """The peer's side of the negotiation that is under way."""
        return self._session.pending_remote

    @property
    def local_description(self) -> SessionDescription | None:
        """The pending local description, or else the current one; it has all candidates known by now."""
        return self._session.local_description

    @property
    def remote_description(self) -> SessionDescription | None:
        """The pending remote description, or else the current one."""
        return self._session.remote_description

    @property
    def problems(self) -> dict[int, str]:
        """Why sections of the last remote offer are rejected, by their index."""
        return {review.index: review.problem for review in self._reviews if review.problem is not None}

    def add_transceiver(self, transceiver: Transceiver) -> None:
        """Take in a transceiver that the program made; the next offer has a section for it."""
        self._check_open()
        self._session.transceivers.append(transceiver)

    def want_data(self) -> None:
        """Have a section for data channels in the next offer."""
        self._check_open()
        self._wants_data = True

    def want_ice_restart(self) -> None:
        """Have new credentials in the next offer (W3C webrtc §4.4.2, ``restartIce``)."""
        self._check_open()
        self._fragments_to_replace = needed.local_fragments(self._session.current_local)

    def is_negotiation_needed(self) -> bool:
        """Whether what the program wants is not what is negotiated (W3C webrtc §4.7.3)."""
        if self.signaling_state is SignalingState.CLOSED:
            return False
        wants_data = self._wants_data and self._session.data is None
        return bool(self._fragments_to_replace) or wants_data or needed.is_needed(self._session)

    def close(self) -> None:
        """Negotiate no more; the transceivers are stopped."""
        self._session.signaling_state = SignalingState.CLOSED
        for transceiver in self._session.transceivers:
            transceiver.set_stopped()
        self._session.transceivers = []
        self._session.transports = ()
        self._created = None

    def _check_open(self) -> None:
        if self.signaling_state is SignalingState.CLOSED:
            raise WrongStateError("the peer connection is closed")

    # Creating descriptions.

    def create_offer(self, *, ice_restart: bool = False) -> SessionDescription:
        """An offer to look at and to change; see :meth:`write_offer`."""
        return self.write_offer(ice_restart=ice_restart).description.copy()

    def create_answer(self) -> SessionDescription:
        """An answer to look at and to change; see :meth:`write_answer`."""
        return self.write_answer().description.copy()

    def write_offer(self, *, ice_restart: bool = False) -> Created:
        """An offer of all that the program wants (RFC 9429 §5.2).

        :param ice_restart: with new credentials.
        :raises WrongStateError: while an offer of the peer's waits for its answer.
        :raises DescriptionError: when a transceiver has no codec for its direction.
        """
        self._check_open()
        if self.signaling_state not in (SignalingState.STABLE, SignalingState.HAVE_LOCAL_OFFER):
            raise WrongStateError(f"an offer cannot be created in state {self.signaling_state.value!r}")
        slots = self._author.offer_slots(self._wants_data)
        transports = self._author.offer_transports(slots, self._main_key)
        if transports and not self._session.transports:
            self._main_key = transports[0].key
        fragments = needed.local_fragments(self._session.current_local)
        restart = ice_restart or bool(self._fragments_to_replace & fragments)
        if restart:
            self._restart({state.key for state in transports if state.remote_ice is not None})
        elif self.signaling_state is SignalingState.STABLE:
            self._restart(set())
        self._created = self._author.create_offer(slots, transports)
        return self._created

    def write_answer(self) -> Created:
        """An answer to the pending remote offer (RFC 9429 §5.3).

        :raises WrongStateError: when there is none.
        """
        self._check_open()
        offer = self._session.pending_remote
        states = (SignalingState.HAVE_REMOTE_OFFER, SignalingState.HAVE_LOCAL_PRANSWER)
        if offer is None or self.signaling_state not in states:
            raise WrongStateError(f"an answer cannot be created in state {self.signaling_state.value!r}")
        self._created = self._author.create_answer(self._reviews, offer)
        return self._created

    def implicit_type(self) -> str:
        """The type of the local description that the state calls for (W3C webrtc §4.4.2, ``setLocalDescription``)."""
        offering = (
            SignalingState.STABLE,
            SignalingState.HAVE_LOCAL_OFFER,
            SignalingState.HAVE_REMOTE_PRANSWER,
        )
        return "offer" if self.signaling_state in offering else "answer"

    # Setting local descriptions.

    def set_local(self, type: str, description: SessionDescription | str | None = None) -> RemoteChanges:
        """Make a description the local one (W3C webrtc §4.4.1.5).

        :param type: ``offer``, ``answer``, ``pranswer`` or ``rollback``.
        :param description: what :meth:`create_offer` or :meth:`create_answer` gave last; what a program may change
            in it is checked. ``None`` or nothing: created now.
        :raises WrongStateError: when the type does not fit the state.
        :raises DescriptionError: when it is not the one that was created last, or was changed too much.
        """
        following = next_state(self.signaling_state, "local", type)
        if type == "rollback":
            return self._roll_back()
        with self._all_or_nothing():
            if not description:
                self.write_offer() if type == "offer" else self.write_answer()
            created = self._chosen(type, description)
            if type == "offer":
                changes = self._set_local_offer(created)
            else:
                changes = self._set_local_answer(created, final=type == "answer")
            self._session.signaling_state = following
        self._created = None
        if following is SignalingState.STABLE:
            self._commit(changes)
        return changes

    def _chosen(self, type: str, description: SessionDescription | str | None) -> Created:
        """What was created last, with the changes that the program has made to it."""
        created = self._created
        wanted = "answer" if type == "pranswer" else type
        if created is None or created.type != wanted:
            raise DescriptionError(
                f"it was not created last: set what create_{wanted} gives, before anything else"
            )
        if not description:
            return created
        text = str(description)
        if text == created.text:
            return created
        parsed = parse(text)
        check_against_created(parsed, created.description)
        return replace(created, description=parsed)

    def _set_local_offer(self, created: Created) -> RemoteChanges:
        session = self._session
        if self._stable is None:
            self._stable = session.save()
        for index, slot in enumerate(created.slots):
            if slot.is_data:
                session.data = session.data or DataSection(slot.mid, index)
            elif slot.transceiver is not None:
                transceiver = slot.transceiver
                transceiver.negotiated = replace(transceiver.negotiated, mid=slot.mid, mline_index=index)
            session.note_mid(slot.mid)
        for media in created.description.media:
            session.payload_types.learn(media.kind, media.codecs)
            session.extension_ids.learn(media.header_extensions)
        session.transports = created.transports
        session.pending_local = created.description
        self._refresh_candidates()
        return RemoteChanges()

    def _set_local_answer(self, created: Created, *, final: bool) -> RemoteChanges:
        session, changes = self._session, RemoteChanges()
        offer = session.pending_remote
        if offer is None:
            raise WrongStateError("there is no remote offer")
        answer = created.description
        accepted = [slot.mid for slot in created.slots if not slot.is_rejected]
        transports = settle(session.transports, offer, "offer", accepted, final=final)
        for slot, ours in zip(created.slots, answer.media, strict=True):
            if slot.is_rejected:
                reject(session, slot.mid, changes, final=final)
            elif slot.transceiver is not None and slot.terms is not None:
                formats = set(ours.formats)
                agreed = tuple(
                    codec for codec in slot.terms.agreed if str(codec.local.payload_type) in formats
                )
                direction = intersect(slot.terms.direction, answer.direction(ours))
                terms = replace(slot.terms, agreed=agreed, direction=direction)
                agree(slot.transceiver, terms)
        session.transports = transports
        session.pending_local = answer
        self._refresh_candidates()
        if final:
            session.current_local, session.current_remote = answer, offer
            session.offered = False
        return changes

    # Setting remote descriptions.

    def set_remote(self, type: str, description: SessionDescription | str = "") -> RemoteChanges:
        """Make a description of the peer's the remote one (W3C webrtc §4.4.1.5).

        An offer that comes while ours is pending rolls ours back first.

        :param type: ``offer``, ``answer``, ``pranswer`` or ``rollback``.
        :raises WrongStateError: when the type does not fit the state.
        :raises DescriptionError: when it cannot be used; nothing is changed then. A section that we cannot use does
            not make it so: it is rejected in the answer.
        """
        following = next_state(self.signaling_state, "remote", type)
        if type == "rollback":
            return self._roll_back()
        parsed = parse(description)
        with self._all_or_nothing():
            is_offer = type == "offer"
            changes = self._set_remote_offer(parsed) if is_offer else self._set_remote_answer(parsed, type)
            self._session.signaling_state = following
        self._created = None
        if following is SignalingState.STABLE:
            self._commit(changes)
        return changes

    def _set_remote_offer(self, offer: SessionDescription) -> RemoteChanges:
        session, changes = self._session, RemoteChanges()
        if session.signaling_state is SignalingState.HAVE_LOCAL_OFFER and self._stable is not None:
            session.roll_back(self._stable, changes)
            self._stable = None
        complete_mids(offer, session.current_remote, session.mids)
        check_layout(offer, session.current_local, session.current_remote)
        reviews, transports = self._review_offer(offer)
        if self._stable is None:
            self._stable = session.save()
        offered = OfferedMedia(session, self._stable, offer, self._new_transceiver, changes)
        for review in reviews:
            if review.accepted and review.media.is_data:
                take_data(session, review.index, review.media)
            elif review.accepted:
                offered.take(review)
            else:
                offered.leave(review.mid)
            session.note_mid(review.mid)
            session.payload_types.learn(review.media.kind, review.codecs)
            session.extension_ids.learn(offer.header_extensions(review.media))
        offered.let_go_of_vanished()
        session.transports = transports
        session.pending_remote = offer
        self._reviews = reviews
        self._restart(self._restarting(offer))
        return changes

    def _review_offer(
        self, offer: SessionDescription
    ) -> tuple[list[SectionReview], tuple[TransportState, ...]]:
        """Judge the sections of a remote offer, and put those that can be used on transports."""
        session = self._session
        stable = self._stable.session.transports if self._stable is not None else session.transports
        known = {state.key for state in stable}
        states = [*stable, *(state for state in session.transports if state.key not in known)]
        reviews = review_offer(
            offer,
            registry=self.codecs,
            transports=states,
            data_mid=session.data.mid if session.data is not None else None,
            max_bundle=self._bundle_policy == "max-bundle",
        )
        accepted = [review.mid for review in reviews if review.accepted]
        transports = regroup(states, groups_of(offer, accepted), offer, main_key=self._main_key)
        sections = by_mid(offer)
        for state in transports:
            mid = tagged(state.mids, sections)
            if mid is not None:
                check_end(state, remote_end(offer, mid, sections), "offer")
        return reviews, transports

    def _set_remote_answer(self, answer: SessionDescription, type: str) -> RemoteChanges:
        session, changes = self._session, RemoteChanges()
        offer, final = session.pending_local, type == "answer"
        if offer is None:
            raise WrongStateError("there is no local offer")
        complete_mids(answer, offer, session.mids)
        accepted = review_answer(answer, offer, self.codecs)
        check_groups(answer, session.transports, accepted)
        transports = settle(session.transports, answer, type, accepted, final=final)
        for index, (ours, theirs) in enumerate(zip(offer.media, answer.media, strict=True)):
            transceiver = session.transceiver(theirs.mid)
            if theirs.is_rejected:
                reject(session, theirs.mid or "", changes, final=final)
            elif theirs.kind == "application":
                take_data(session, index, theirs)
            elif transceiver is not None:
                direction = intersect(offer.direction(ours), reverse(answer.direction(theirs)))
                note_remote(transceiver, theirs, direction, changes)
                agree(transceiver, answered_terms(self.codecs, direction, ours, answer, theirs))
        session.transports = transports
        session.pending_remote = answer
        if final:
            session.current_local, session.current_remote = offer, answer
            session.offered = True
            for state in transports:
                if state.key in self._restarted and not state.ice_restart:
                    self._restarted.discard(state.key)
                    self._transport_for(state.key).undo_ice_restart()
        return changes

    # What both sides' answers do.

    def _commit(self, changes: RemoteChanges) -> None:
        """Offer and answer are both there: nothing is pending, and there is nothing to go back to."""
        session = self._session
        session.pending_local = session.pending_remote = None
        self._stable = None
        if session.data is not None or changes.data_rejected:
            self._wants_data = False
        self._restarted.clear()
        if session.transports:
            self._main_key = None
        if not self._fragments_to_replace & needed.local_fragments(session.current_local):
            self._fragments_to_replace = set()
        self._forget_stopping()

    def _roll_back(self) -> RemoteChanges:
        """Go back to the last stable state, whichever side's offer it was that came to nothing."""
        changes = RemoteChanges()
        if self._stable is not None:
            self._session.roll_back(self._stable, changes)
        self._stable = self._created = None
        self._restart(set())
        self._forget_stopping()
        return changes

    def _forget_stopping(self) -> None:
        """Transceivers that are stopped without ever having had a section need no offer for that."""
        for transceiver in list(self._session.transceivers):
            if transceiver.stopping and transceiver.mid is None:
                transceiver.set_stopped()
                self._session.transceivers.remove(transceiver)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put back everything when what is done inside fails."""
        saved = self._session.save()
        others = self._stable, self._created, self._reviews, self._wants_data, self._main_key
        try:
            yield
        except BaseException:
            self._session.restore(saved)
            self._stable, self._created, self._reviews, self._wants_data, self._main_key = others
            raise

    # ICE.

    def _restart(self, keys: set[str]) -> None:
        """Have new local credentials on these transports, and on no others but those where an answer sealed them."""
        for key in keys - self._restarted:
            self._transport_for(key).restart_ice()
        for key in self._restarted - keys:
            self._transport_for(key).undo_ice_restart()
        self._restarted = set(keys)

    def _restarting(self, offer: SessionDescription) -> set[str]:
        """The transports whose credentials a remote offer changes."""
        sections = by_mid(offer)
        keys = set()
        for state in self._session.transports:
            mid = tagged(state.mids, sections)
            if state.remote_ice is None or mid is None:
                continue
            if changed(state.remote_ice, remote_end(offer, mid, sections).ice):
                keys.add(state.key)
        return keys

    def _refresh_candidates(self) -> None:
        """Have in the local description what its transports know by now."""
        description = self._session.local_description
        sections = by_mid(description) if description is not None else {}
        for state in self._session.transports:
            local = self._transport_for(state.key)
            for mid in state.mids:
                if mid in sections and not sections[mid].is_rejected:
                    set_candidates(sections[mid], local.candidates, local.gathering_complete)

    def add_local_candidate(self, key: str, candidate: str | None) -> None:
        """Put a local candidate into the local descriptions.

        :param key: the transport's.
        :param candidate: the value of ``a=candidate``; ``None``: there will be no more.
        """
        mids = next((state.mids for state in self._session.transports if state.key == key), ())
        for description in (self._session.current_local, self._session.pending_local):
            if description is not None:
                fragment = self._transport_for(key).ice_parameters.username_fragment
                candidates.add_local(description, mids, fragment, candidate)

    def add_remote_candidate(
        self,
        candidate: str,
        mid: str | None = None,
        mline_index: int | None = None,
        ufrag: str | None = None,
    ) -> str | None:
        """Put a candidate of the peer's into the remote description (W3C webrtc §4.4.2, ``addIceCandidate``).

        :param candidate: with or without ``candidate:`` before it; empty: there will be no more.
        :returns: the key of the transport that can use it now. ``None`` when there is nothing to do with it: the
            section is rejected or has no transport of its own, the credentials are old ones, or :meth:`transports`
            will give it when offer and answer are both there.
        :raises WrongStateError: when there is no remote description.
        :raises CandidateRefused: when it is malformed, or no section is like that.
        """
        self._check_open()
        session = self._session
        remote = [item for item in (session.pending_remote, session.current_remote) if item is not None]
        if not remote:
            raise WrongStateError("a candidate needs a remote description")
        added = candidates.add_remote(remote, candidate, mid, mline_index, ufrag)
        for state in session.transports:
            fragment = state.remote_ice.username_fragment if state.remote_ice is not None else None
            if added.mids.intersection(state.candidate_mids) and added.fragment == fragment:
                return state.key
        return None

    def first_mid(self, key: str) -> str | None:
        """The first of the sections that a transport carries."""
        mids = next((state.mids for state in self._session.transports if state.key == key), ())
        return mids[0] if mids else None

    def transports(self) -> list[TransportPlan]:
        """The transports as they are needed now; one that is missing here is needed no longer."""
        session = self._session
        answered = session.signaling_state in (
            SignalingState.HAVE_LOCAL_PRANSWER,
            SignalingState.HAVE_REMOTE_PRANSWER,
        )
        remote = session.pending_remote if answered else session.current_remote
        plans = []
        for state in session.transports:
            known, ended = candidates.known_remote(remote, state)
            plans.append(
                TransportPlan(
                    state.key,
                    state.mids,
                    state.controlling,
                    state.remote_ice,
                    state.remote_fingerprints,
                    state.dtls_role,
                    known,
                    ended,
                    state.ice_restart,
                )
            )
        return plans
