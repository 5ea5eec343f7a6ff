"""What is negotiated of one audio or video section: the state of a transceiver, without its sender and receiver."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiortc.exceptions import InvalidStateError
from aiortc.rtcrtpparameters import (
    RTCRtpCodecCapability,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
)

from mediapeer.peer.agreement import AgreedCodec
from mediapeer.peer.codecs import MEDIA_KINDS, CodecPreferences, CodecRegistry
from mediapeer.peer.directions import DIRECTIONS


@dataclass
class SenderSource:
    """What our descriptions say of what a transceiver sends."""

    ssrc: int
    rtx_ssrc: int | None
    "The source of its retransmissions, when there may be any (RFC 4588)."
    cname: str
    stream_ids: list[str]
    "The streams that the track belongs to; empty for none (RFC 8830 §2)."
    track_id: str


@dataclass(frozen=True)
class Negotiated:
    """What negotiation has made of a transceiver. It is replaced as a whole, so that it can be put back."""

    mid: str | None = None
    mline_index: int | None = None
    current_direction: str | None = None
    "The direction agreed on; ``None`` before the first answer."
    fired_direction: str | None = None
    "The direction that the program was last told of by a track event (W3C webrtc §5.4, [[FiredDirection]])."
    has_sent: bool = False
    "Whether an agreed direction ever let it send."
    agreed: tuple[AgreedCodec, ...] = ()
    "The formats that both sides have, in the answer's order."
    send_codecs: tuple[RTCRtpCodecParameters, ...] = ()
    "What the peer takes, in its order, by its payload types; retransmissions among them."
    receive_codecs: tuple[RTCRtpCodecParameters, ...] = ()
    "What the peer may send, by our payload types."
    header_extensions: tuple[RTCRtpHeaderExtensionParameters, ...] = ()
    remote_stream_ids: tuple[str, ...] = ()
    remote_track_id: str | None = None
    remote_ssrcs: tuple[int, ...] = ()
    remote_ssrc_groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    "Such as ``FID`` with a source and that of its retransmissions (RFC 5576 §4.2)."
    remote_cname: str | None = None
    rids: tuple[str, ...] = ()
    "The simulcast streams that the peer sends, in the order of its ``a=simulcast`` (RFC 8853 §5.1)."
    rtcp_rsize: bool = False
    "Whether the peer takes RTCP of reduced size (RFC 5506)."


class Transceiver:
    """The state of a transceiver (W3C webrtc §5.4).

    :param kind: ``audio`` or ``video``.
    :param direction: what the program wants of it.
    :param codecs: where its codecs come from; the same registry as the negotiation's.
    :raises ValueError: for another kind or direction.
    """

    def __init__(
        self, kind: str, *, direction: str = "sendrecv", codecs: CodecRegistry | None = None
    ) -> None:
        if kind not in MEDIA_KINDS:
            raise ValueError(f"there are no transceivers for media of kind {kind!r}")
        self._kind = kind
        self._direction = _checked(direction)
        self._stopping = False
        self._stopped = False
        self.codecs = codecs or CodecRegistry()
        self.preferences: CodecPreferences | None = None
        "What :meth:`set_codec_preferences` was given, or ``None`` for the registry's order."
        self.negotiated = Negotiated()
        self.sender_source: SenderSource | None = None
        "Given by whoever has the sender; without it our descriptions name no source and no stream."
        self.added_by_remote_offer = False
        "Whether a remote offer made it, so that a rollback takes it away."
        self.add_track_used = False
        "Whether ``addTrack`` made or took it: a remote offer may use it then, and a rollback lets it be."

    @property
    def kind(self) -> str:
        """``audio`` or ``video``."""
        return self._kind

    @property
    def mid(self) -> str | None:
        """The ``a=mid`` of its section, or ``None`` while it has none."""
        return self.negotiated.mid

    @property
    def mline_index(self) -> int | None:
        """The index of its section in both descriptions."""
        return self.negotiated.mline_index

    @property
    def current_direction(self) -> str | None:
        """The direction agreed on, ``None`` before, ``stopped`` at the end."""
        return "stopped" if self._stopped else self.negotiated.current_direction

    @property
    def direction(self) -> str:
        """What the program wants: ``sendrecv``, ``sendonly``, ``recvonly`` or ``inactive``; ``stopped`` at the end.

        :raises ValueError: when it is set to anything else.
        :raises InvalidStateError: when it is set after :meth:`stop`.
        """
        return "stopped" if self._stopping else self._direction

    @direction.setter
    def direction(self, direction: str) -> None:
        if self._stopping:
            raise InvalidStateError("the transceiver is stopped")
        self._direction = _checked(direction)

    @property
    def wanted_direction(self) -> str:
        """The direction to negotiate: that of a transceiver that stops is ``inactive``."""
        return "inactive" if self._stopping else self._direction

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called, or the peer has rejected the section."""
        return self._stopping

    @property
    def stopped(self) -> bool:
        """Whether that is negotiated too."""
        return self._stopped

    def stop(self) -> None:
        """End it for good: the next offer rejects its section (W3C webrtc §5.4.1)."""
        self._stopping = True

    def set_stopped(self) -> None:
        """Its section is rejected in an answer, or it never had one and is not wanted any more."""
        self._stopping = self._stopped = True

    def restore_stopped(self, stopping: bool, stopped: bool) -> None:
        """Put back what a description that failed has done."""
        self._stopping, self._stopped = stopping, stopped

    def set_codec_preferences(self, codecs: Sequence[RTCRtpCodecCapability]) -> None:
        """Which codecs to negotiate, and in which order; an empty list for the usual ones (W3C webrtc §5.4.2).

        :raises ValueError: when one of them is no capability, or none carries media.
        """
        self.preferences = self.codecs.preferences(self._kind, codecs) if codecs else None


def _checked(direction: str) -> str:
    if direction not in DIRECTIONS:
        raise ValueError(f"{direction!r} is no direction")
    return direction
