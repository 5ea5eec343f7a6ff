"""Whether a description can be used, told before anything is changed by it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mediapeer.peer.agreement import agree_on_answer
from mediapeer.peer.codecs import MEDIA_KINDS, CodecRegistry
from mediapeer.peer.identifiers import next_mid
from mediapeer.peer.signaling_state import DescriptionError
from mediapeer.peer.transports import TransportState, by_mid, groups_of
from mediapeer.sdp import Codec, MediaDescription, SdpError, SessionDescription

#: RFC 9429 §5.1.2; an answer repeats what the offer says.
RTP_PROTOCOLS = frozenset(
    {
        "UDP/TLS/RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "TCP/DTLS/RTP/SAVPF",
        "TCP/DTLS/RTP/SAVP",
        "RTP/SAVPF",
        "RTP/SAVP",
    }
)
SCTP_PROTOCOLS = frozenset({"UDP/DTLS/SCTP", "TCP/DTLS/SCTP"})
DEFAULT_SCTP_PORT = 5000
#: What stands for an absent ``a=max-message-size``, in bytes (RFC 8841 §6.1).
DEFAULT_MAX_MESSAGE_SIZE = 65536


def parse(description: SessionDescription | str) -> SessionDescription:
    """A description of its own, with a mid in each section.

    :raises DescriptionError: when the text is no SDP.
    """
    try:
        parsed = SessionDescription.parse(str(description))
    except SdpError as error:
        raise DescriptionError(str(error)) from error
    return parsed


def complete_mids(
    description: SessionDescription, like: SessionDescription | None, used: set[str]
) -> SessionDescription:
    """Give a mid to sections without one: that of the same section of ``like``, or a new one (RFC 9429 §5.10)."""
    taken = used | set(by_mid(description))
    for index, media in enumerate(description.media):
        if media.mid is None:
            known = like.media[index].mid if like is not None and index < len(like.media) else None
            free = known is not None and known not in by_mid(description)
            media.set("mid", known if free else next_mid(taken))
    return description


@dataclass(frozen=True)
class SectionReview:
    """What becomes of a section of a remote offer: ``problem`` says why it is rejected, or is ``None``."""

    index: int
    mid: str
    media: MediaDescription
    problem: str | None
    codecs: Sequence[Codec] = ()
    "Its formats, which are long to read."

    @property
    def accepted(self) -> bool:
        """Whether we can answer it with anything but port 0."""
        return self.problem is None


def check_layout(
    description: SessionDescription, local: SessionDescription | None, remote: SessionDescription | None
) -> None:
    """Whether an offer keeps the order of sections, and the mids and kinds of those in use (RFC 9429 §5.8).

    :param local: the descriptions that hold by now; likewise ``remote``.
    :raises DescriptionError: when it does not.
    """
    if local is None or remote is None:
        return
    if len(description.media) < len(local.media):
        raise DescriptionError(f"there were {len(local.media)} media sections, now {len(description.media)}")
    for index, (ours, theirs) in enumerate(zip(local.media, remote.media, strict=False)):
        media = description.media[index]
        if ours.is_rejected or theirs.is_rejected:
            continue
        if media.kind != theirs.kind:
            raise DescriptionError(f"it was of kind {theirs.kind}, now {media.kind}", index)
        if media.mid != theirs.mid:
            raise DescriptionError("it has another a=mid than before", index)


def review_offer(
    description: SessionDescription,
    *,
    registry: CodecRegistry,
    transports: Sequence[TransportState],
    data_mid: str | None,
    max_bundle: bool,
) -> list[SectionReview]:
    """Which sections of a remote offer can be used. Each is judged alone, but for the transports they share.

    :raises DescriptionError: when the groups make no sense.
    """
    reviews: list[SectionReview] = []
    grouped = {mid for group in description.bundle_groups for mid in group}
    for index, (mid, media) in enumerate(by_mid(description).items()):
        codecs = media.codecs
        problem = _problem(media, codecs, registry)
        if problem is None and media.is_data:
            first = data_mid if data_mid in by_mid(description) else None
            taken = next((old.mid for old in reviews if old.accepted and old.media.is_data), first)
            if taken not in (None, mid):
                problem = "there is a section for data channels already"
        if problem is None and media.bundle_only and mid not in grouped:
            problem = "it is bundle-only and in no group"
        reviews.append(SectionReview(index, mid, media, problem, codecs))
    if max_bundle:
        reviews = _keep_one_group(reviews, description, transports)
    return reviews


def _problem(media: MediaDescription, codecs: Sequence[Codec], registry: CodecRegistry) -> str | None:
    """Why a section of an offer is rejected, as far as it can be told from itself."""
    if media.is_rejected:
        return "the peer does not use it"
    if media.kind == "application":
        if not media.is_data or media.protocol not in SCTP_PROTOCOLS:
            return f"data channels need UDP/DTLS/SCTP and webrtc-datachannel, not {media.protocol}"
        return "its a=sctp-port is 0" if media.sctp_port == 0 else None
    if media.kind not in MEDIA_KINDS:
        return f"media of kind {media.kind} is not known"
    if media.protocol not in RTP_PROTOCOLS:
        return f"the protocol {media.protocol} is not known"
    if not media.rtcp_mux:
        return "a=rtcp-mux is missing"
    if all(registry.find(media.kind, codec) is None for codec in codecs):
        return "there is no common codec"
    return None


def _keep_one_group(
    reviews: list[SectionReview], description: SessionDescription, transports: Sequence[TransportState]
) -> list[SectionReview]:
    """Reject what would need a second transport (RFC 9429 §4.1.1, ``max-bundle``)."""
    groups = groups_of(description, [review.mid for review in reviews if review.accepted])
    ours = {mid for state in transports[:1] for mid in state.mids}
    kept = next((group for group in groups if ours & set(group)), groups[0] if groups else [])
    return [
        review
        if review.mid in kept or not review.accepted
        else replace(review, problem="it is not in the BUNDLE group")
        for review in reviews
    ]


def review_answer(
    description: SessionDescription, offer: SessionDescription, registry: CodecRegistry
) -> list[str]:
    """Check the sections of a remote answer against our offer.

    :returns: the mids of those that both sides use.
    :raises DescriptionError: when it is no answer to the offer (RFC 9429 §5.8.3).
    """
    if len(description.media) != len(offer.media):
        raise DescriptionError(
            f"the offer has {len(offer.media)} media sections, the answer {len(description.media)}"
        )
    accepted = []
    for index, (media, ours) in enumerate(zip(description.media, offer.media, strict=True)):
        if media.kind != ours.kind or media.mid != ours.mid:
            raise DescriptionError("its kind or a=mid is not that of the offer", index)
        if media.is_rejected:
            continue
        if ours.is_rejected:
            raise DescriptionError("the offer rejects it, and the answer does not", index)
        if media.kind == "application":
            if not media.is_data:
                raise DescriptionError("the answer has another protocol than the offer", index)
        elif not media.is_rtp or not media.rtcp_mux:
            raise DescriptionError("a=rtcp-mux is missing", index)
        elif not agree_on_answer(registry, media.kind, ours.codecs, media.codecs):
            raise DescriptionError("the answer has no codec of the offer", index)
        accepted.append(media.mid or "")
    return accepted


def check_groups(
    description: SessionDescription, transports: Sequence[TransportState], accepted: Sequence[str]
) -> None:
    """Whether an answer groups the sections that it accepts as the offer did (RFC 8843 §7.3).

    :raises DescriptionError: when sections would need transports of their own that the offer does not have.
    """
    groups = groups_of(description, accepted)
    for state in transports:
        left = {mid for mid in state.mids if mid in accepted}
        if len(left) > 1 and not any(left <= set(group) for group in groups):
            raise DescriptionError(
                "the answer does not take all sections into one BUNDLE group; they have only one transport"
            )
        if any(left & set(group) and set(group) - left for group in groups):
            raise DescriptionError("the answer's BUNDLE group has sections that the offer does not put there")


def check_against_created(description: SessionDescription, created: SessionDescription) -> None:
    """Whether a program's changes to a description that we made can be honoured: those to sections, their order,
    their mids, credentials and fingerprints, groups and additional formats can not.

    :raises DescriptionError: when they are no longer what ``createOffer`` or ``createAnswer`` gave.
    """
    if len(description.media) != len(created.media):
        raise DescriptionError("the number of media sections was changed since it was created")
    if description.bundle_groups != created.bundle_groups:
        raise DescriptionError("the BUNDLE groups were changed since it was created")
    for index, (media, ours) in enumerate(zip(description.media, created.media, strict=True)):
        if (media.kind, media.mid, media.protocol) != (ours.kind, ours.mid, ours.protocol):
            raise DescriptionError("its kind, protocol or a=mid was changed since it was created", index)
        if media.is_rejected != ours.is_rejected:
            raise DescriptionError("its port was changed since it was created", index)
        if not set(media.formats) <= set(ours.formats):
            raise DescriptionError("formats were added since it was created", index)
        if description.ice_parameters(media) != created.ice_parameters(ours):
            raise DescriptionError("its ICE credentials were changed since it was created", index)
        if description.fingerprints(media) != created.fingerprints(ours):
            raise DescriptionError("its fingerprints were changed since it was created", index)
