"""Creating offers and answers (RFC 9429 §5.2, §5.3)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from mediapeer.peer.agreement import (
    AgreedCodec,
    agree_on_answer,
    agree_on_extensions,
    agree_on_offer,
    agree_on_simulcast,
    extensions_to_offer,
    formats_to_offer,
    receives_anything,
    receiving,
    sends_anything,
)
from mediapeer.peer.codecs import CodecRegistry
from mediapeer.peer.directions import intersect, is_receiving, reverse
from mediapeer.peer.identifiers import ExtensionIds, PayloadTypes, next_mid
from mediapeer.peer.review import SectionReview
from mediapeer.peer.session import Session
from mediapeer.peer.signaling_state import DescriptionError
from mediapeer.peer.transceiver import Transceiver
from mediapeer.peer.transports import (
    LocalTransport,
    TransportState,
    by_mid,
    dtls_role_after,
    remote_end,
    tagged,
    unique_key,
)
from mediapeer.peer.writing import RtpSection, add_transport
from mediapeer.sdp import HeaderExtension, MediaDescription, Rid, SessionDescription
from mediapeer.sdp.media import RTP_PROTOCOL


@dataclass(frozen=True)
class AnswerTerms:
    """What an answer says of an audio or video section."""

    direction: str
    agreed: tuple[AgreedCodec, ...]
    extensions: tuple[HeaderExtension, ...]
    rids: tuple[Rid, ...]


@dataclass(frozen=True)
class Slot:
    """A section of a description that was created, and whom it is for. Both ``None`` is a rejected section."""

    mid: str
    transceiver: Transceiver | None = None
    is_data: bool = False
    terms: AnswerTerms | None = None
    "In an answer."

    @property
    def is_rejected(self) -> bool:
        """Whether its port is 0."""
        return self.transceiver is None and not self.is_data


@dataclass(frozen=True)
class Created:
    """A description that was created and can be set."""

    type: str
    description: SessionDescription
    text: str = field(repr=False)
    slots: tuple[Slot, ...]
    transports: tuple[TransportState, ...] = ()
    "The transports once an offer is set, with the mids it gives out."


@dataclass
class Author:
    """Writes descriptions for a session.

    :param transport_for: gives our end of a transport by its key.
    """

    session: Session
    registry: CodecRegistry
    transport_for: Callable[[str], LocalTransport]
    max_message_size: int
    session_id: int
    version: int = 0
    "Of the last description that was created."

    def offer_slots(self, wants_data: bool) -> list[Slot]:
        """The sections of the next offer: those there are, in their places, then new ones (RFC 9429 §5.2.2).

        A new one takes the place of one that is no longer used, if there is any.
        """
        session = self.session
        base = session.pending_local or session.current_local
        used = session.mids | (set() if base is None else by_mid(base).keys())
        slots: list[Slot] = []
        unused: list[int] = []
        for index, media in enumerate(base.media if base is not None else ()):
            mid = media.mid or ""
            transceiver = session.transceiver(mid)
            if session.data is not None and session.data.mid == mid:
                slots.append(Slot(mid, is_data=True))
            elif transceiver is not None and not transceiver.stopping:
                slots.append(Slot(mid, transceiver))
            else:
                slots.append(Slot(mid))
                known = session.current_local is not None and index < len(session.current_local.media)
                if transceiver is None and known and not session.is_section_in_use(index):
                    unused.append(index)
        new = [Slot("", item) for item in session.transceivers if item.mid is None and not item.stopping]
        if wants_data and session.data is None:
            new.append(Slot("", is_data=True))
        for slot in new:
            placed = Slot(next_mid(used), slot.transceiver, slot.is_data)
            if unused:
                slots[unused.pop(0)] = placed
            else:
                slots.append(placed)
        return slots

    def offer_transports(self, slots: Sequence[Slot], main_key: str | None) -> tuple[TransportState, ...]:
        """The transports of an offer of these sections: new ones share the first transport that has another.

        One whose sections all go is not kept for new ones: the peer could not know that it stays.
        """
        states = list(self.session.transports)
        used = [slot.mid for slot in slots if not slot.is_rejected]
        known = {mid for state in states for mid in state.mids}
        new = tuple(mid for mid in used if mid not in known)
        for index, state in enumerate(states):
            if any(mid in used for mid in state.mids):
                states[index] = replace(state, mids=state.mids + new)
                return tuple(states)
        if new:
            key = unique_key(
                new[0] if states or main_key is None else main_key, {state.key for state in states}
            )
            states.append(TransportState(key, new, controlling=True))
        return tuple(states)

    def create_offer(self, slots: Sequence[Slot], transports: tuple[TransportState, ...]) -> Created:
        """An offer of these sections on these transports.

        :raises DescriptionError: when there is no codec for a section.
        """
        session = self.session
        base = session.pending_local or session.current_local
        numbers = session.payload_types.copy(), session.extension_ids.copy()
        owners = {mid: state for state in transports for mid in state.mids}
        sections = []
        for index, slot in enumerate(slots):
            if slot.is_data:
                media = MediaDescription.for_data(slot.mid, max_message_size=self.max_message_size)
            elif slot.transceiver is not None:
                section = self._offered_section(slot.mid, slot.transceiver, *numbers)
                if not section.codecs:
                    raise DescriptionError("there is no codec to offer for its direction", index)
                media = section.write()
            elif base is not None:
                media = MediaDescription.rejecting(base.media[index])
            if not slot.is_rejected:
                add_transport(media, self.transport_for(owners[slot.mid].key), "actpass")
            sections.append(media)
        used = {slot.mid for slot in slots if not slot.is_rejected}
        groups = [group for state in transports if (group := [mid for mid in state.mids if mid in used])]
        groups = [group for index, group in enumerate(groups) if index == 0 or len(group) > 1]
        description = self._describe(sections, groups, transports)
        return Created("offer", description, str(description), tuple(slots), transports)

    def _offered_section(
        self, mid: str, transceiver: Transceiver, payload_types: PayloadTypes, extension_ids: ExtensionIds
    ) -> RtpSection:
        kind, negotiated = transceiver.kind, transceiver.negotiated
        direction = transceiver.wanted_direction
        codecs = formats_to_offer(
            self.registry,
            kind,
            direction,
            payload_types,
            agreed=negotiated.agreed,
            preferences=transceiver.preferences,
        )
        rids = [Rid(rid, "recv") for rid in negotiated.rids] if is_receiving(direction) else []
        extensions = extensions_to_offer(self.registry, kind, extension_ids, negotiated.header_extensions)
        return RtpSection(
            kind,
            mid,
            RTP_PROTOCOL,
            direction,
            codecs,
            extensions,
            transceiver.sender_source,
            rids,
            receiving(rids),
        )

    def create_answer(self, reviews: Sequence[SectionReview], offer: SessionDescription) -> Created:
        """The answer to an offer whose sections were reviewed."""
        owners = {mid: state for state in self.session.transports for mid in state.mids}
        slots, sections = [], []
        for review in reviews:
            slot = self._answer_slot(review, offer)
            media = MediaDescription.rejecting(review.media)
            if not slot.is_rejected:
                state = owners[slot.mid]
                media = self._answered_section(slot, review.media, offer)
                add_transport(media, self.transport_for(state.key), self._setup(state, slot.mid, offer))
            slots.append(slot)
            sections.append(media)
        used = {slot.mid for slot in slots if not slot.is_rejected}
        groups = [[mid for mid in group if mid in used] for group in offer.bundle_groups]
        description = self._describe(sections, [group for group in groups if group], self.session.transports)
        return Created("answer", description, str(description), tuple(slots))

    def _answer_slot(self, review: SectionReview, offer: SessionDescription) -> Slot:
        """Whom a section of the offer is for, and on which terms; nobody's is rejected."""
        if not review.accepted:
            return Slot(review.mid)
        if review.media.is_data:
            return Slot(review.mid, is_data=True)
        transceiver = self.session.transceiver(review.mid)
        if transceiver is None:
            return Slot(review.mid)
        terms = answer_terms(self.registry, transceiver, offer, review)
        return Slot(review.mid) if terms is None else Slot(review.mid, transceiver, terms=terms)

    def _answered_section(
        self, slot: Slot, offered: MediaDescription, offer: SessionDescription
    ) -> MediaDescription:
        if slot.transceiver is None or slot.terms is None:
            return MediaDescription.for_data(
                slot.mid, protocol=offered.protocol, max_message_size=self.max_message_size
            )
        terms = slot.terms
        media = RtpSection(
            offered.kind,
            slot.mid,
            offered.protocol,
            terms.direction,
            [codec.local for codec in terms.agreed],
            terms.extensions,
            slot.transceiver.sender_source,
            terms.rids,
            receiving(terms.rids),
        ).write()
        if not offered.rtcp_rsize:
            media.remove("rtcp-rsize")
        return media

    def _setup(self, state: TransportState, mid: str, offer: SessionDescription) -> str:
        """Our DTLS role in an answer: active if we may choose, and what it is once it is (RFC 8842 §5.3)."""
        sections = by_mid(offer)
        tag = tagged(state.mids, sections) or mid
        role = dtls_role_after(state, remote_end(offer, tag, sections))
        return "active" if role == "client" else "passive"

    def _describe(
        self,
        sections: list[MediaDescription],
        groups: Sequence[Sequence[str]],
        transports: Iterable[TransportState],
    ) -> SessionDescription:
        self.version += 1
        description = SessionDescription.new(self.session_id, self.version)
        description.set_bundle_groups(groups)
        if any(self.transport_for(state.key).ice_parameters.lite for state in transports):
            description.add("ice-lite")
        description.media.extend(sections)
        return description


def answer_terms(
    registry: CodecRegistry, transceiver: Transceiver, offer: SessionDescription, review: SectionReview
) -> AnswerTerms | None:
    """What to answer to a section; ``None`` when the codecs that the program prefers leave nothing in common."""
    media = review.media
    direction = intersect(transceiver.wanted_direction, reverse(offer.direction(media)))
    everything = agree_on_offer(registry, media.kind, review.codecs, transceiver.preferences)
    if not sends_anything(everything):
        direction = intersect(direction, "recvonly")
    if not receives_anything(everything):
        direction = intersect(direction, "sendonly")
    agreed = tuple(codec for codec in everything if codec.fits(direction))
    if not agreed:
        return None
    extensions = tuple(agree_on_extensions(registry, media.kind, offer.header_extensions(media)))
    rids = agree_on_simulcast(media, agreed, extensions) if is_receiving(direction) else []
    return AnswerTerms(direction, agreed, extensions, tuple(rids))


def answered_terms(
    registry: CodecRegistry,
    direction: str,
    ours: MediaDescription,
    answer: SessionDescription,
    theirs: MediaDescription,
) -> AnswerTerms:
    """What the peer's answer makes of a section that we offered."""
    simulcast = theirs.simulcast
    offered = {rid.id: rid for rid in ours.rids}
    sent = [stream[0].id for stream in simulcast.send] if simulcast is not None else []
    return AnswerTerms(
        direction,
        tuple(agree_on_answer(registry, theirs.kind, ours.codecs, theirs.codecs)),
        tuple(agree_on_extensions(registry, theirs.kind, answer.header_extensions(theirs))),
        tuple(offered[rid] for rid in sent if rid in offered),
    )
