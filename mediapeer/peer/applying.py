"""What descriptions do to transceivers and to the section for data channels (W3C webrtc §4.4.1.5)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mediapeer.peer.agreement import extension_parameters, receive_parameters, send_parameters
from mediapeer.peer.creating import AnswerTerms
from mediapeer.peer.directions import is_receiving, is_sending, reverse
from mediapeer.peer.review import DEFAULT_MAX_MESSAGE_SIZE, DEFAULT_SCTP_PORT, SectionReview
from mediapeer.peer.session import DataSection, RemoteChanges, Saved, Session, note_direction
from mediapeer.peer.transceiver import Negotiated, Transceiver
from mediapeer.peer.transports import by_mid
from mediapeer.sdp import MediaDescription, SessionDescription


def take_data(session: Session, index: int, media: MediaDescription) -> None:
    """Note what the peer says of its SCTP (RFC 8841 §5, §6)."""
    size = media.max_message_size
    session.data = DataSection(
        media.mid or "",
        index,
        media.sctp_port or DEFAULT_SCTP_PORT,
        DEFAULT_MAX_MESSAGE_SIZE if size is None else size,
    )


@dataclass
class OfferedMedia:
    """Brings the audio and video sections of a remote offer to transceivers.

    :param stable: how the session stood before it.
    """

    session: Session
    stable: Saved
    offer: SessionDescription
    new_transceiver: Callable[[str], Transceiver]
    changes: RemoteChanges

    def take(self, review: SectionReview) -> None:
        """Find the transceiver for a section, or make one (RFC 9429 §5.10)."""
        media = review.media
        transceiver = self.session.transceiver(review.mid)
        if transceiver is not None and transceiver.kind != media.kind:
            self._let_go(transceiver)
            transceiver = None
        if transceiver is None and is_receiving(self.offer.direction(media)):
            transceiver = self._waiting(media.kind)
        if transceiver is None:
            transceiver = self.new_transceiver(media.kind)
            transceiver.direction = "recvonly"
            transceiver.added_by_remote_offer = True
            if transceiver not in self.session.transceivers:
                self.session.transceivers.append(transceiver)
            self.changes.created.append(transceiver)
        transceiver.negotiated = replace(transceiver.negotiated, mid=review.mid, mline_index=review.index)
        note_remote(transceiver, media, reverse(self.offer.direction(media)), self.changes)

    def _waiting(self, kind: str) -> Transceiver | None:
        """The first transceiver that ``addTrack`` has left without a section."""
        for transceiver in self.session.transceivers:
            is_free = transceiver.mid is None and not transceiver.stopping
            if is_free and transceiver.kind == kind and transceiver.add_track_used:
                return transceiver
        return None

    def leave(self, mid: str) -> None:
        """A section cannot be used: its remote track goes."""
        transceiver = self.session.transceiver(mid)
        if transceiver is not None:
            note_direction(transceiver, "inactive", self.changes)

    def let_go_of_vanished(self) -> None:
        """Sections that a former pending offer had and this one has not are as if rolled back."""
        sections = by_mid(self.offer)
        for transceiver in list(self.session.transceivers):
            if transceiver.mid is not None and transceiver.mid not in sections:
                self._let_go(transceiver)

    def _let_go(self, transceiver: Transceiver) -> None:
        note_direction(transceiver, None, self.changes)
        self.changes.ended.append(transceiver.mid or "")
        transceiver.negotiated = Negotiated(has_sent=transceiver.negotiated.has_sent)
        is_new = transceiver not in self.stable.states
        if is_new and transceiver.added_by_remote_offer and not transceiver.add_track_used:
            self.session.transceivers.remove(transceiver)
            transceiver.set_stopped()
            self.changes.stopped.append(transceiver)


def note_remote(
    transceiver: Transceiver, media: MediaDescription, direction: str, changes: RemoteChanges
) -> None:
    """Note what the peer says of what it sends; ``direction`` is the transceiver's, seen from here."""
    old = transceiver.negotiated
    ssrcs = tuple(media.ssrcs)
    transceiver.negotiated = replace(
        old,
        remote_stream_ids=tuple(media.stream_ids),
        remote_track_id=media.track_id,
        remote_ssrcs=ssrcs,
        remote_ssrc_groups=tuple((semantics, tuple(group)) for semantics, group in media.ssrc_groups),
        remote_cname=media.ssrc_attribute(ssrcs[0], "cname") if ssrcs else None,
        rtcp_rsize=media.rtcp_rsize,
    )
    if transceiver.stopping:
        return
    note_direction(transceiver, direction, changes)
    streams = transceiver.negotiated.remote_stream_ids
    if is_receiving(direction) and (transceiver in changes.added or streams != old.remote_stream_ids):
        changes.streams[transceiver] = streams


def agree(transceiver: Transceiver, terms: AnswerTerms) -> None:
    """Note what offer and answer have made of a transceiver."""
    kind = transceiver.kind
    transceiver.negotiated = replace(
        transceiver.negotiated,
        current_direction=terms.direction,
        has_sent=transceiver.negotiated.has_sent or is_sending(terms.direction),
        agreed=terms.agreed,
        send_codecs=send_parameters(kind, terms.agreed),
        receive_codecs=receive_parameters(kind, terms.agreed),
        header_extensions=extension_parameters(terms.extensions),
        rids=tuple(rid.id for rid in terms.rids),
    )


def reject(session: Session, mid: str, changes: RemoteChanges, *, final: bool) -> None:
    """A section is rejected in an answer: when that is final its transceiver is stopped (RFC 9429 §5.11)."""
    transceiver = session.transceiver(mid)
    if session.data is not None and session.data.mid == mid and final:
        session.data = None
        changes.data_rejected = True
    elif transceiver is not None:
        note_direction(transceiver, "inactive", changes)
        transceiver.negotiated = replace(transceiver.negotiated, current_direction="inactive")
        if final:
            changes.ended.append(mid)
            transceiver.negotiated = replace(transceiver.negotiated, mid=None, mline_index=None)
            transceiver.set_stopped()
            session.transceivers.remove(transceiver)
            changes.stopped.append(transceiver)
