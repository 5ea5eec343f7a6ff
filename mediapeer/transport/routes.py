"""A media section as the peer connection describes it to the transport that carries it."""

from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiortc.rtcdtlstransport import RtpReceiver
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters

from mediapeer.rtp import ExtensionIds, InboundStream, LayerSelector, PayloadFormat, RtpPacket, RtpSection
from mediapeer.transport.sequencer import Sequencer

#: Clock rates of payload types of which only the number is known, by the kind of section, in Hertz.
DEFAULT_CLOCK_RATES = {"audio": 48000, "video": 90000}

_URIS = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": "mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": "rid",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": "repaired_rid",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": "abs_send_time",
}


@dataclass
class SectionRoutes:
    """What negotiation said of the RTP that a section receives, and who gets it."""

    mid: str
    kind: str
    "``audio`` or ``video``."
    receiver: RtpReceiver | None
    "Who gets the packets; with ``None`` they are only counted."
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

    def to_section(self) -> RtpSection:
        """The same for the router."""
        clock_rate = DEFAULT_CLOCK_RATES.get(self.kind, 90000)
        formats = {payload_type: PayloadFormat("", clock_rate) for payload_type in self.payload_types}
        for codec in self.parameters.codecs:
            if codec.payloadType is not None:
                name = codec.name.lower()
                apt = codec.parameters.get("apt") if name == "rtx" else None
                # RTX that repairs nothing is still no stream of its own.
                repaired = apt if isinstance(apt, int) else (-1 if name == "rtx" else None)
                formats[codec.payloadType] = PayloadFormat(name, codec.clockRate or clock_rate, repaired)
        encodings = [encoding for encoding in self.parameters.encodings if encoding.ssrc is not None]
        repaired_ssrcs = {e.rtx.ssrc: e.ssrc for e in encodings if e.rtx is not None}
        uris = {**self.extension_ids, **{e.uri: e.id for e in self.parameters.headerExtensions}}
        return RtpSection(
            mid=self.mid,
            kind=self.kind,
            formats=formats,
            ssrcs=frozenset([*self.ssrcs, *(e.ssrc for e in encodings), *repaired_ssrcs]),
            repaired=repaired_ssrcs,
            rids=tuple(self.rids),
            extensions=ExtensionIds(**{name: uris[uri] for uri, name in _URIS.items() if uri in uris}),
        )

    @property
    def takes_remb(self) -> bool:
        """Whether the peer's sender heeds REMB."""
        return any(f.type == "goog-remb" for codec in self.parameters.codecs for f in codec.rtcpFeedback)


class MediaSection:
    """A section while it lives in a transport.

    :param routes: what was negotiated; :meth:`update` replaces it.
    :param is_direct: whether the receiver gets every packet as it came, RTX too: that is how aiortc's own peer
        connection wants it.
    """

    def __init__(self, routes: SectionRoutes, sequencer: Sequencer, *, is_direct: bool = False) -> None:
        self.is_direct = is_direct
        self.is_started = is_direct
        "Whether the receiver has registered itself."
        self.is_announced = False
        "Whether the first packet has been told."
        self.waiting: deque[tuple[InboundStream, RtpPacket, int, float, bool]] = deque()
        "Packets for a receiver that has not started yet."
        self._sequencer = sequencer
        self.routes = routes
        self.section = routes.to_section()
        self.selector = LayerSelector(self.section)

    @property
    def mid(self) -> str:
        """The MID of the section."""
        return self.routes.mid

    def update(self, routes: SectionRoutes) -> int:
        """Take what a later negotiation said. Another receiver begins anew.

        :return: how many packets waited whose payload types have no meaning any more; they are dropped.
        """
        if routes.receiver is not self.routes.receiver:
            self.is_started = self.is_announced = False
            self.waiting.clear()
            self.selector = LayerSelector(self.section)
        self.is_direct = False
        self.routes = routes
        self.section = self.selector.section = routes.to_section()
        waiting = [entry for entry in self.waiting if entry[1].payload_type in self.section.formats]
        dropped = len(self.waiting) - len(waiting)
        self.waiting = deque(waiting)
        return dropped

    def run(self, handling: Coroutine[Any, Any, None]) -> None:
        """Have the receiver handle something, after what it was given before."""
        self._sequencer.run(handling)


def direct_routes(receiver: RtpReceiver, parameters: RTCRtpReceiveParameters, number: int) -> SectionRoutes:
    """The routes of a receiver that registers itself without a section, by its parameters alone.

    :param number: makes up a MID that nobody has, when the parameters have none.
    """
    kind = parameters.codecs[0].mimeType.split("/")[0].lower() if parameters.codecs else "video"
    return SectionRoutes(parameters.muxId or f"\0{number}", kind, receiver, parameters)
