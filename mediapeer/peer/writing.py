"""Writing the sections of our descriptions."""

import functools
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mediapeer.peer.directions import is_sending
from mediapeer.peer.transceiver import SenderSource
from mediapeer.peer.transports import LocalTransport
from mediapeer.sdp import Codec, HeaderExtension, MediaDescription, Rid, Simulcast
from mediapeer.sdp.media import DISCARD_PORT


@dataclass(frozen=True)
class RtpSection:
    """What a section for audio or video says, but for its transport."""

    kind: str
    mid: str
    protocol: str
    direction: str
    codecs: Sequence[Codec]
    header_extensions: Sequence[HeaderExtension]
    source: SenderSource | None
    rids: Sequence[Rid] = ()
    simulcast: Simulcast | None = None

    def write(self) -> MediaDescription:
        """The section, with what we send when the direction lets us (RFC 9429 §5.2.1)."""
        source = self.source if is_sending(self.direction) else None
        msids: list[tuple[str, str | None]] = []
        if source is not None:
            msids = [(stream, source.track_id) for stream in source.stream_ids or ["-"]]
        media = MediaDescription.for_rtp(
            self.kind,
            self.mid,
            protocol=self.protocol,
            direction=self.direction,
            codecs=self.codecs,
            header_extensions=self.header_extensions,
            msids=msids,
            rids=self.rids,
            simulcast=self.simulcast,
        )
        if source is not None:
            retransmits = any(codec.name.lower() == "rtx" for codec in self.codecs)
            if retransmits and source.rtx_ssrc is not None:
                media.add_source_group("FID", (source.ssrc, source.rtx_ssrc))
            media.add_source(source.ssrc, source.cname)
            if retransmits and source.rtx_ssrc is not None:
                media.add_source(source.rtx_ssrc, source.cname)
        return media


def add_transport(media: MediaDescription, transport: LocalTransport, setup: str) -> None:
    """Write a transport into a section.

    Every section of a group says it, candidates too: RFC 8843 §7.1.3 asks only for the first, but some peers, aiortc
    among them, refuse sections without, or take the candidates of another one.
    """
    ice = transport.ice_parameters
    media.add_transport(
        ice.username_fragment, ice.password, transport.fingerprints, setup, transport.ice_options
    )
    set_candidates(media, transport.candidates, transport.gathering_complete)


def set_candidates(media: MediaDescription, candidates: Iterable[str], complete: bool) -> None:
    """Write what is known of a transport's addresses; one of them becomes the default (RFC 8839 §4.2.1)."""
    media.remove("candidate", "end-of-candidates")
    values = list(dict.fromkeys(candidates))
    for value in values:
        media.add("candidate", value)
    if complete:
        media.add("end-of-candidates")
    media.port, connection = default_address(values)
    media.set_line("c", connection)


def default_address(candidates: Iterable[str]) -> tuple[int, str]:
    """Port and ``c=`` line of the default candidate, or what stands for none (RFC 8840 §4.1.1)."""
    found: dict[int, tuple[int, str]] = {}
    for value in candidates:
        fields = value.split()
        if len(fields) < 6 or fields[2].lower() != "udp":
            continue
        version = _ip_version(fields[4])
        if version is None:
            continue  # a name, which c= should not have
        found.setdefault(version, (int(fields[5]), f"IN IP{version} {fields[4]}"))
    return found.get(4) or found.get(6) or (DISCARD_PORT, "IN IP4 0.0.0.0")


@functools.lru_cache(256)
def _ip_version(host: str) -> int | None:
    """4 or 6, or ``None`` for a name. The addresses are our own: a few, written into every section of each call."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
