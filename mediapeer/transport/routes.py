"""A media section as the peer connection describes it to the transport that carries it."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiortc.rtcrtpparameters import RTCRtpReceiveParameters

from mediapeer.rtp import EncodedFrame, ExtensionIds, PayloadFormat, RtpRouter, RtpSection, SectionReceiver

#: Clock rates of payload types of which only the number is known, by the kind of section, in Hertz.
DEFAULT_CLOCK_RATES = {"audio": 48000, "video": 90000}

_URIS = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": "mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": "rid",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": "repaired_rid",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": "abs_send_time",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": "transport_sequence_number",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time": "abs_capture_time",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level": "audio_level",
}


class FrameReceiver(Protocol):
    """Who gets the frames of a section. No method may block; what one raises is counted, and ends nothing."""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody reads. Looked at for every packet: while it is ``False`` no frame is put together."""

    def take_frame(self, frame: EncodedFrame) -> None:
        """Take the next frame."""

    def handle_disconnect(self) -> None:
        """Nothing more comes: the transport has ended. Called once."""


@dataclass
class SectionRoutes:
    """What negotiation said of the RTP that a section receives, and who gets it."""

    mid: str
    kind: str
    "``audio`` or ``video``."
    receiver: FrameReceiver | None
    "Who gets the frames; with ``None`` packets are only counted and reported on."
    parameters: RTCRtpReceiveParameters
    "The codecs, RTX among them, the header extensions, and the encodings as far as they were signalled."
    payload_types: Collection[int] = ()
    "More payload types that the section may carry, beyond those of the codecs in ``parameters``."
    ssrcs: Collection[int] = ()
    "The SSRCs that were signalled, beyond those of the encodings in ``parameters``."
    rids: Collection[str] = ()
    "The RIDs of a simulcast section, best first."
    extension_ids: Mapping[str, int] = field(default_factory=dict)
    "Header extensions by URI, beyond those in ``parameters``."
    reduced_size: bool = False
    "Whether the peer takes RTCP of reduced size (RFC 5506 §5, ``a=rtcp-rsize``)."

    def to_section(self) -> RtpSection:
        """The same for the router."""
        encodings = [encoding for encoding in self.parameters.encodings if encoding.ssrc is not None]
        repaired_ssrcs = {e.rtx.ssrc: e.ssrc for e in encodings if e.rtx is not None}
        uris = {**self.extension_ids, **{e.uri: e.id for e in self.parameters.headerExtensions}}
        return RtpSection(
            mid=self.mid,
            kind=self.kind,
            formats=self._formats(),
            ssrcs=frozenset([*self.ssrcs, *(e.ssrc for e in encodings), *repaired_ssrcs]),
            repaired=repaired_ssrcs,
            rids=tuple(self.rids),
            extensions=ExtensionIds(**{name: uris[uri] for uri, name in _URIS.items() if uri in uris}),
            feedback=frozenset(
                f"{feedback.type} {feedback.parameter or ''}".strip()
                for codec in self.parameters.codecs
                for feedback in codec.rtcpFeedback
            ),
        )

    def _formats(self) -> dict[int, PayloadFormat]:
        clock_rate = DEFAULT_CLOCK_RATES.get(self.kind, 90000)
        formats = {payload_type: PayloadFormat("", clock_rate) for payload_type in self.payload_types}
        for codec in self.parameters.codecs:
            if codec.payloadType is None:
                continue
            name = codec.name.lower()
            apt = codec.parameters.get("apt") if name == "rtx" else None
            formats[codec.payloadType] = PayloadFormat(
                name,
                codec.clockRate or clock_rate,
                # RTX that repairs nothing is still no stream of its own.
                apt if isinstance(apt, int) else (-1 if name == "rtx" else None),
                codec.channels,
                dict(codec.parameters),
            )
        return formats


class MediaSection:
    """A section while it lives in a transport.

    :param routes: what was negotiated; :meth:`update` replaces it.
    :param router: knows the streams.
    :param counters: told what was dropped and why.
    """

    __slots__ = ("_counters", "_router", "receiver", "routes", "section")

    def __init__(self, routes: SectionRoutes, router: RtpRouter, counters: Counter[str]) -> None:
        self._router = router
        self._counters = counters
        self.routes = routes
        self.section = routes.to_section()
        self.receiver = SectionReceiver(self.section, router, counters)

    @property
    def mid(self) -> str:
        """The MID of the section."""
        return self.routes.mid

    def update(self, routes: SectionRoutes) -> None:
        """Take what a later negotiation said. Another receiver begins anew."""
        is_another = routes.receiver is not self.routes.receiver
        self.routes = routes
        self.section = routes.to_section()
        if is_another:
            self.receiver = SectionReceiver(self.section, self._router, self._counters)
        else:
            self.receiver.section = self.section
