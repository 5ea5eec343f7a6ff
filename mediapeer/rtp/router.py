"""Which media section a packet belongs to (RFC 8843 §9.2)."""

import enum
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields

from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.statistics import InboundStream

#: How many sources one section may have: as many as one receiver report has room for (RFC 3550 §6.4.2).
SECTION_SOURCES = 31
#: How many all sections of a transport may have together.
TRANSPORT_SOURCES = 256
#: A source that has been silent for so many seconds gives its place to a new one.
IDLE_SOURCE = 10.0


class Refusal(enum.Enum):
    """Why a packet has no stream; the value is the name it is counted under."""

    UNROUTED = "unrouted_rtp"
    UNKNOWN_MID = "rtp_of_unknown_mid"
    TOO_MANY_SOURCES = "rtp_of_too_many_sources"


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """What a payload type stands for."""

    name: str
    "The codec's name in lower case: ``vp8``, ``rtx``."
    clock_rate: int
    "In Hertz."
    apt: int | None = None
    "For RTX: the payload type that it repairs (RFC 4588 §8.1)."
    channels: int | None = None
    "Of sound, where they were told."
    parameters: Mapping[str, str | int | None] = field(default_factory=dict, hash=False)
    "Those of the format (``a=fmtp``)."


@dataclass(frozen=True, slots=True)
class ExtensionIds:
    """The local identifiers of the header extensions that are read here; 0 for those not negotiated."""

    mid: int = 0
    rid: int = 0
    repaired_rid: int = 0
    abs_send_time: int = 0
    transport_sequence_number: int = 0
    "draft-holmer-rmcat-transport-wide-cc-extensions-01."
    abs_capture_time: int = 0
    audio_level: int = 0
    "RFC 6464."


@dataclass(frozen=True)
class RtpSection:
    """What negotiation said of a media section's incoming RTP."""

    mid: str
    kind: str
    "``audio`` or ``video``."
    formats: Mapping[int, PayloadFormat]
    "By payload type."
    ssrcs: frozenset[int] = frozenset()
    "The sources that were signalled, those of retransmissions included."
    repaired: Mapping[int, int] = field(default_factory=dict)
    "By the SSRC of a signalled retransmission stream, the SSRC that it repairs (the group FID, RFC 5576 §4.2)."
    rids: tuple[str, ...] = ()
    "The RIDs of a simulcast section, best first."
    extensions: ExtensionIds = ExtensionIds()
    feedback: frozenset[str] = frozenset()
    """The kinds of feedback that the peer's sender takes, as ``a=rtcp-fb`` has them (RFC 4585 §4.2): ``nack``,
    ``nack pli``, ``ccm fir``, ``goog-remb``, ``transport-cc``."""


class RtpRouter:
    """Finds the stream of each packet: by its MID, its SSRC, or a payload type that one section alone has.

    A stream is remembered by its SSRC, with the MID and the RID that its packets told: a peer tells them only
    until it knows that they arrived. What is remembered is bounded, per section and in all.

    :param counters: told of RIDs that are nobody's.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.extensions = ExtensionIds()
        self._counters = counters
        self._sections: dict[str, RtpSection] = {}
        self._by_mid: dict[bytes, RtpSection] = {}
        self._by_signalled_ssrc: dict[int, RtpSection] = {}
        self._by_payload_type: dict[int, RtpSection | None] = {}
        self._streams: dict[int, InboundStream] = {}
        self._of_section: dict[str, dict[int, InboundStream]] = {}

    # Sections

    def set_section(self, section: RtpSection) -> None:
        """Add a section, or replace what was known of it; its streams stay, as far as they are still its own."""
        self._sections[section.mid] = section
        self._of_section.setdefault(section.mid, {})
        self._index()

    def remove_section(self, mid: str) -> None:
        """Forget a section and its streams."""
        self._sections.pop(mid, None)
        for ssrc in self._of_section.pop(mid, {}):
            self._streams.pop(ssrc, None)
        self._index()

    def _index(self) -> None:
        sections = list(self._sections.values())
        self._by_mid = {section.mid.encode(): section for section in sections}
        self._by_signalled_ssrc = {ssrc: section for section in sections for ssrc in section.ssrcs}
        self._by_payload_type = {}
        for section in sections:
            for payload_type in section.formats:
                unique = payload_type not in self._by_payload_type
                self._by_payload_type[payload_type] = section if unique else None
        names = [name.name for name in fields(ExtensionIds)]
        # In a bundle an identifier means the same in every section (RFC 8843 §10).
        self.extensions = ExtensionIds(
            *(next((i for s in sections if (i := getattr(s.extensions, name))), 0) for name in names)
        )
        for ssrc, section in self._by_signalled_ssrc.items():
            stream = self._streams.get(ssrc)
            if stream is not None and stream.mid != section.mid:
                self._forget(stream)

    # Streams

    def streams(self) -> list[InboundStream]:
        """Every stream, in the order of their first packets."""
        return list(self._streams.values())

    def streams_of(self, mid: str) -> Collection[InboundStream]:
        """Those of a section; to be read at once."""
        return self._of_section.get(mid, {}).values()

    def stream(self, ssrc: int) -> InboundStream | None:
        """The stream of a source that has been heard."""
        return self._streams.get(ssrc)

    def route(self, packet: RtpPacket, now: float) -> InboundStream | Refusal:
        """The stream that a packet, which came at ``now`` seconds, belongs to."""
        stream = self._streams.get(packet.ssrc)
        if packet.extensions and (mid := packet.extensions.get(self.extensions.mid)) is not None:
            section = self._by_mid.get(mid)
            if section is None:
                return Refusal.UNKNOWN_MID
            if stream is not None and stream.mid != section.mid:
                # The peer has given the source to another section; that is a new stream.
                self._forget(stream)
                stream = None
        elif stream is not None:
            section = self._sections[stream.mid]
        else:
            section = self._by_signalled_ssrc.get(packet.ssrc) or self._by_payload_type.get(
                packet.payload_type
            )
            if section is None:
                return Refusal.UNROUTED
        if packet.payload_type not in section.formats:
            return Refusal.UNROUTED
        if stream is None:
            stream = self._remember(packet, section, now)
            if stream is None:
                return Refusal.TOO_MANY_SOURCES
        if packet.extensions and section.rids:
            self._read_rids(packet, stream, section)
        return stream

    def _remember(self, packet: RtpPacket, section: RtpSection, now: float) -> InboundStream | None:
        siblings = self._of_section[section.mid]
        if len(siblings) >= SECTION_SOURCES or len(self._streams) >= TRANSPORT_SOURCES:
            idle = next(self._idle(siblings, now), None)
            if idle is None:
                return None
            self._forget(idle)
        stream = InboundStream(packet.ssrc, section.mid)
        stream.is_retransmission = section.formats[packet.payload_type].apt is not None
        self._streams[packet.ssrc] = siblings[packet.ssrc] = stream
        return stream

    def _idle(self, siblings: Mapping[int, InboundStream], now: float) -> Iterator[InboundStream]:
        """The streams that have been silent for long, the longest first."""
        silent = [s for s in siblings.values() if not s.is_flowing(now, IDLE_SOURCE)]
        return iter(sorted(silent, key=lambda stream: stream.last_arrival or 0.0))

    def _forget(self, stream: InboundStream) -> None:
        self._streams.pop(stream.ssrc, None)
        self._of_section.get(stream.mid, {}).pop(stream.ssrc, None)

    def _read_rids(self, packet: RtpPacket, stream: InboundStream, section: RtpSection) -> None:
        """Note the RID of the stream, or that of the stream it repairs (RFC 8852 §3), if it was negotiated."""
        for identifier, is_repair in ((self.extensions.rid, False), (self.extensions.repaired_rid, True)):
            value = packet.extensions.get(identifier)
            if value is None:
                continue
            rid = value.decode("ascii", "replace")
            if rid not in section.rids:
                self._counters["rtp_of_unknown_rid"] += 1
            elif not is_repair:
                stream.rid = rid
            elif stream.repaired_rid != rid:
                stream.repaired_rid = rid
                stream.repairs = None
