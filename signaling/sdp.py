"""What must be right about a session description before the peer connection sees it.

The negotiation below rejects what it cannot use section by section, and a client would learn of it from a call that
has less in it than was offered. So what a client most likely did not mean is refused here, and said in words.
"""

from mediapeer.dtls.credentials import FINGERPRINT_HASHES
from mediapeer.sdp import MediaDescription, SdpError, SdpLimits, SessionDescription

LIMITS = SdpLimits(sections=16, lines=2500)
#: Media that can be answered; sections of other kinds are rejected alone.
_KINDS = ("audio", "video", "application")
_RTP_PROTOCOLS = (
    "UDP/TLS/RTP/SAVPF",
    "TCP/DTLS/RTP/SAVPF",
    "TCP/TLS/RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "RTP/SAVPF",
)


class DescriptionError(ValueError):
    """A description cannot be used. The message says why, for the one who sent it."""


def check_description(sdp: str, *, answer: bool = False) -> str:
    """Check a description.

    Sections with port 0 and of unknown kinds pass, since the others can be used without them, and so do candidates
    that lead nowhere, which ICE leaves out.

    :param sdp: the description as it came.
    :param answer: whether it is an answer; otherwise it is an offer.
    :returns: the description to use: the same, its lines ended by CRLF.
    :raises DescriptionError: when it cannot be used, with the reason in words.
    """
    try:
        description = SessionDescription.parse(sdp, LIMITS)
    except SdpError as error:
        words = str(error)
        raise DescriptionError(f"{words[:1].upper()}{words[1:]}.") from None
    if not description.media:
        raise DescriptionError("The description has no media sections (no line begins with m=).")
    used = [media for media in description.media if _is_used(media)]
    if not used:
        raise DescriptionError(
            "No media section can be used: each is rejected (port 0), or neither audio, video nor data channels."
        )
    for media in used:
        try:
            _check_section(media)
        except DescriptionError as error:
            raise _in_section(description, media, error) from None
    _check_bundle(description, used)
    # The section that speaks for the others of its group (RFC 8843 §7.3.1).
    tagged = next((media for media in used if not media.bundle_only), used[0])
    try:
        _check_transport(description, tagged, answer)
    except DescriptionError as error:
        raise _in_section(description, tagged, error) from None
    return description.serialize()


def _in_section(
    description: SessionDescription, media: MediaDescription, error: DescriptionError
) -> DescriptionError:
    number = next(index for index, other in enumerate(description.media, 1) if other is media)
    return DescriptionError(f"Media section {number} (m={media.kind[:20]}): {error}")


def _is_used(media: MediaDescription) -> bool:
    return not media.is_rejected and media.kind in _KINDS and media.sctp_port != 0


def _check_section(media: MediaDescription) -> None:
    if media.kind == "application":
        if not media.is_data:
            raise DescriptionError("data channels are UDP/DTLS/SCTP webrtc-datachannel (RFC 8841).")
        if media.sctp_port is None:
            raise DescriptionError("a=sctp-port is missing (RFC 8841 §5).")
        return
    if media.protocol not in _RTP_PROTOCOLS:
        raise DescriptionError("the profile is not UDP/TLS/RTP/SAVPF: media must be SRTP keyed by DTLS.")
    if not media.rtcp_mux:
        raise DescriptionError("a=rtcp-mux is missing: RTCP must share the port of RTP (RFC 8834 §4.5).")


def _check_bundle(description: SessionDescription, used: list[MediaDescription]) -> None:
    if len(used) == 1:
        return
    for media in used:
        if media.mid is None:
            raise _in_section(description, media, DescriptionError("a=mid is missing (RFC 5888)."))
    mids = {media.mid for media in used}
    if not any(mids <= set(group) for group in description.bundle_groups):
        raise DescriptionError("All media sections that are used must be in one BUNDLE group (RFC 9143).")


def _check_transport(description: SessionDescription, media: MediaDescription, answer: bool) -> None:
    for name in ("ice-ufrag", "ice-pwd"):
        if not (media.has(name) or description.has(name)):
            raise DescriptionError(f"a={name} is missing (RFC 8839 §5.4).")
    fingerprints = description.fingerprints(media)
    if not fingerprints:
        raise DescriptionError("a=fingerprint is missing: without it nobody knows whom the call is with.")
    if not any(algorithm in FINGERPRINT_HASHES for algorithm, _ in fingerprints):
        supported = ", ".join(FINGERPRINT_HASHES)
        raise DescriptionError(f"no a=fingerprint uses a supported hash: {supported}.")
    allowed = ("active", "passive") if answer else ("actpass", "active", "passive")
    if description.setup(media) not in allowed:
        raise DescriptionError(f"a=setup must be {' or '.join(allowed)} (RFC 8842).")
