"""Media sections (RFC 8866 §5.14)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mediapeer.sdp import values
from mediapeer.sdp.checks import checks_for, is_rtp, is_sctp, read_body
from mediapeer.sdp.errors import SdpError
from mediapeer.sdp.lines import Attribute, AttributeList, Line, NumberedLine
from mediapeer.sdp.values import Codec, HeaderExtension, Rid, RidRef, Simulcast

#: The port that says that none is known yet (RFC 8840 §4.1.1).
DISCARD_PORT = 9
RTP_PROTOCOL = "UDP/TLS/RTP/SAVPF"
SCTP_PROTOCOL = "UDP/DTLS/SCTP"
DATA_CHANNEL_FORMAT = "webrtc-datachannel"


@dataclass
class MediaDescription(AttributeList):
    """A media section: its ``m=`` line, its attributes, and its other lines (``i``, ``c``, ``b``, ``k``, unknown).

    ``formats`` are payload types where the protocol is RTP's. The typed properties read the attributes each time;
    they cannot fail in a description that was parsed, and raise :class:`SdpError` where something malformed was
    put in since.
    """

    kind: str
    port: int
    protocol: str
    formats: list[str]
    attributes: list[Attribute] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    port_count: int | None = None

    @classmethod
    def read(cls, lines: list[NumberedLine]) -> "MediaDescription":
        """Read the lines of a section; the first is its ``m=``.

        :raises SdpError: when one is malformed.
        """
        head = lines[0]
        try:
            media = cls._read_head(head.value)
        except SdpError as error:
            raise SdpError(error.reason, head.number) from None
        media.attributes, media.lines = read_body(lines[1:], checks_for(media.protocol))
        return media

    @classmethod
    def _read_head(cls, value: str) -> "MediaDescription":
        fields = value.split()
        if len(fields) < 4 or not values.is_token(fields[0]):
            raise SdpError("the m= line is malformed (RFC 8866 §5.14)")
        kind, ports, protocol, *formats = fields
        port, slash, count = ports.partition("/")
        try:
            number = values.parse_number("m", port, 0, 65_535)
            port_count = values.parse_number("m", count, 1, 65_535) if slash else None
        except SdpError:
            raise SdpError("the m= line is malformed: the port is no port (RFC 8866 §5.14)") from None
        if is_rtp(protocol):
            for payload_type in formats:
                values.parse_payload_type("the m= line", payload_type)
        return cls(kind, number, protocol, formats, port_count=port_count)

    @classmethod
    def for_rtp(
        cls,
        kind: str,
        mid: str,
        *,
        port: int = DISCARD_PORT,
        protocol: str = RTP_PROTOCOL,
        direction: str = "sendrecv",
        codecs: Sequence[Codec] = (),
        header_extensions: Iterable[HeaderExtension] = (),
        msids: Iterable[tuple[str, str | None]] = (),
        rids: Iterable[Rid] = (),
        simulcast: Simulcast | None = None,
        bundle_only: bool = False,
    ) -> "MediaDescription":
        """A section for audio or video, with RTCP on the same port and of reduced size (RFC 9429 §5.2.1).

        What the transport needs is added by :meth:`add_transport`.
        """
        media = cls(kind, port, protocol, [str(codec.payload_type) for codec in codecs])
        media.set_line("c", "IN IP4 0.0.0.0")
        media.add("mid", mid)
        if bundle_only:
            media.add("bundle-only")
        media.add(direction)
        for stream, track in msids:
            media.add("msid", stream if track is None else f"{stream} {track}")
        media.add("rtcp-mux")
        media.add("rtcp-rsize")
        for extension in header_extensions:
            media.add("extmap", str(extension))
        for codec in codecs:
            media.add_codec(codec)
        for rid in rids:
            media.add("rid", str(rid))
        if simulcast is not None:
            media.add("simulcast", str(simulcast))
        return media

    @classmethod
    def for_data(
        cls,
        mid: str,
        *,
        port: int = DISCARD_PORT,
        protocol: str = SCTP_PROTOCOL,
        sctp_port: int = 5000,
        max_message_size: int | None = None,
        bundle_only: bool = False,
    ) -> "MediaDescription":
        """A section for data channels (RFC 8841 §5); ``max_message_size`` is in bytes, 0 for any (§6)."""
        media = cls("application", port, protocol, [DATA_CHANNEL_FORMAT])
        media.set_line("c", "IN IP4 0.0.0.0")
        media.add("mid", mid)
        if bundle_only:
            media.add("bundle-only")
        media.add("sctp-port", sctp_port)
        if max_message_size is not None:
            media.add("max-message-size", max_message_size)
        return media

    @classmethod
    def rejecting(cls, offered: "MediaDescription") -> "MediaDescription":
        """The section that refuses an offered one: the same but for port 0, without attributes (RFC 9429 §5.3.1)."""
        media = cls(offered.kind, 0, offered.protocol, list(offered.formats))
        media.set_line("c", "IN IP4 0.0.0.0")
        if offered.mid is not None:
            media.add("mid", offered.mid)
        media.add("inactive")
        return media

    def add_codec(self, codec: Codec) -> None:
        """Append the attributes of a codec; its payload type has to stand in ``formats`` too."""
        self.add("rtpmap", codec.rtpmap)
        for feedback in codec.feedback:
            self.add("rtcp-fb", f"{codec.payload_type} {feedback}")
        if codec.parameters:
            self.add("fmtp", f"{codec.payload_type} {values.write_parameters(codec.parameters)}")

    def add_source(self, ssrc: int, cname: str, msid: str | None = None) -> None:
        """Append a synchronization source (RFC 5576 §4.1); ``msid`` is for peers that look for it there."""
        self.add("ssrc", f"{ssrc} cname:{cname}")
        if msid is not None:
            self.add("ssrc", f"{ssrc} msid:{msid}")

    def add_source_group(self, semantics: str, ssrcs: Iterable[int]) -> None:
        """Append a group of sources, such as ``FID`` for a stream and its retransmissions (RFC 5576 §4.2)."""
        self.add("ssrc-group", " ".join([semantics, *map(str, ssrcs)]))

    def add_transport(
        self,
        username_fragment: str,
        password: str,
        fingerprints: Iterable[tuple[str, str]],
        setup: str,
        ice_options: Iterable[str] = ("trickle",),
    ) -> None:
        """Append what ICE and DTLS need (RFC 8839 §5.4, RFC 8122 §5, RFC 8842 §5)."""
        self.add("ice-ufrag", username_fragment)
        self.add("ice-pwd", password)
        options = " ".join(ice_options)
        if options:
            self.add("ice-options", options)
        for algorithm, value in fingerprints:
            self.add("fingerprint", f"{algorithm} {value}")
        self.add("setup", setup)

    def copy(self) -> "MediaDescription":
        """A section of its own with the same lines."""
        lines = [replace(line) for line in self.lines]
        return replace(self, formats=list(self.formats), attributes=list(self.attributes), lines=lines)

    def written_lines(self) -> list[str]:
        """The lines without their ends.

        :raises SdpError: when the ``m=`` line would come out as something else.
        """
        ports = str(self.port) if self.port_count is None else f"{self.port}/{self.port_count}"
        fields = [self.kind, ports, self.protocol, *self.formats]
        if (
            len(fields) < 4
            or not 0 <= self.port <= 65_535
            or any(not part or part.split() != [part] for part in fields)
        ):
            raise SdpError("the m= line cannot be written: it needs four fields or more without spaces")
        return [f"m={' '.join(fields)}", *self._body()]

    @property
    def is_rtp(self) -> bool:
        """Whether the protocol is RTP's."""
        return is_rtp(self.protocol)

    @property
    def is_data(self) -> bool:
        """Whether the section is for data channels over SCTP over DTLS (RFC 8841 §4)."""
        return self.kind == "application" and is_sctp(self.protocol) and self.formats == [DATA_CHANNEL_FORMAT]

    @property
    def connection(self) -> str | None:
        """The value of the ``c=`` line."""
        return self.line("c")

    @property
    def bandwidths(self) -> list[tuple[str, int]]:
        """Type and value of the ``b=`` lines: ``AS`` in kbit/s, ``TIAS`` in bit/s (RFC 8866 §5.8, RFC 3890)."""
        found = [line.value.strip().partition(":") for line in self.lines if line.type == "b"]
        return [(type, int(number)) for type, _, number in found]

    @property
    def mid(self) -> str | None:
        """``a=mid`` (RFC 5888 §4)."""
        value = self.first("mid")
        return None if value is None else values.parse_mid(value)

    @property
    def direction(self) -> str:
        """The direction, as the one who wrote the description sees it (RFC 8866 §6.7).

        The session may have another default: see :meth:`SessionDescription.direction`.
        """
        return self.own_direction or "sendrecv"

    @property
    def own_direction(self) -> str | None:
        """The direction if it is written in this section."""
        return next((item.name for item in self.attributes if item.name in values.DIRECTIONS), None)

    @property
    def is_rejected(self) -> bool:
        """Whether the section is refused or no longer used: port 0, unless it is bundle-only (RFC 8843 §6)."""
        return self.port == 0 and not self.bundle_only

    @property
    def bundle_only(self) -> bool:
        """``a=bundle-only`` (RFC 8843 §6)."""
        return self.has("bundle-only")

    @property
    def rtcp_mux(self) -> bool:
        """``a=rtcp-mux``: RTCP shares the port of RTP (RFC 5761 §5.1.1)."""
        return self.has("rtcp-mux")

    @property
    def rtcp_rsize(self) -> bool:
        """``a=rtcp-rsize``: RTCP of reduced size is understood (RFC 5506 §5)."""
        return self.has("rtcp-rsize")

    @property
    def extmap_allow_mixed(self) -> bool:
        """``a=extmap-allow-mixed`` in this section (RFC 8285 §6); the session may say it for all."""
        return self.has("extmap-allow-mixed")

    @property
    def codecs(self) -> list[Codec]:
        """The formats of an RTP section in order, but for those that nothing gives a meaning (RFC 8866 §6.6)."""
        if not self.is_rtp:
            return []
        return list(
            values.codecs_of(
                tuple(self.formats),
                tuple(self.all("rtpmap")),
                tuple(self.all("fmtp")),
                tuple(self.all("rtcp-fb")),
            )
        )

    @property
    def header_extensions(self) -> list[HeaderExtension]:
        """``a=extmap`` in this section, but for identifiers above 255, which only offers borrow (RFC 8285 §7)."""
        if not self.is_rtp:
            return []
        return unique_extensions(self.all("extmap"))

    @property
    def msids(self) -> list[tuple[str, str | None]]:
        """Streams and track, as (stream identifier, track identifier or ``None``); ``-`` is no stream (RFC 8830 §2).

        Where there is no ``a=msid``, those count that older endpoints give with ``a=ssrc``.
        """
        found = [values.parse_msid(value) for value in self.all("msid")] if self.is_rtp else []
        if not found:
            old = [said["msid"] or "" for said in self.sources.values() if "msid" in said]
            found = [values.parse_msid(value) for value in old if len(value.split()) in (1, 2)]
        return list(dict.fromkeys(found))

    @property
    def stream_ids(self) -> list[str]:
        """The identifiers of the streams that the track belongs to."""
        return list(dict.fromkeys(stream for stream, _ in self.msids if stream != "-"))

    @property
    def track_id(self) -> str | None:
        """The track's identifier, if one is given."""
        return next((track for _, track in self.msids if track is not None), None)

    @property
    def sources(self) -> dict[int, dict[str, str | None]]:
        """The synchronization sources in order, each with what is said of it, such as ``cname`` (RFC 5576 §4.1)."""
        found: dict[int, dict[str, str | None]] = {}
        for line in self.all("ssrc") if self.is_rtp else ():
            ssrc, name, value = values.parse_ssrc(line)
            found.setdefault(ssrc, {}).setdefault(name, value)
        return found

    @property
    def ssrcs(self) -> list[int]:
        """The synchronization sources that are named, in order."""
        return list(self.sources)

    @property
    def ssrc_groups(self) -> list[tuple[str, list[int]]]:
        """The groups of sources: semantics and sources (RFC 5576 §4.2)."""
        return [values.parse_ssrc_group(value) for value in self.all("ssrc-group")] if self.is_rtp else []

    def ssrc_attribute(self, ssrc: int, name: str) -> str | None:
        """What is said of a source under that name; for many sources ask :attr:`sources` once."""
        return self.sources.get(ssrc, {}).get(name)

    @property
    def rids(self) -> list[Rid]:
        """``a=rid`` in order, without the malformed ones and those whose identifier stands twice (RFC 8851 §6)."""
        found: dict[str, list[Rid]] = {}
        for value in self.all("rid") if self.is_rtp else ():
            try:
                rid = values.parse_rid(value)
            except SdpError:
                continue
            found.setdefault(rid.id, []).append(rid)
        return [rids[0] for rids in found.values() if len(rids) == 1]

    @property
    def simulcast(self) -> Simulcast | None:
        """``a=simulcast`` without what has no ``a=rid`` of its direction (RFC 8853 §5.3), if anything is left."""
        value = self.first("simulcast") if self.is_rtp else None
        if value is None:
            return None
        written = values.parse_simulcast(value)
        directions = {rid.id: rid.direction for rid in self.rids}

        def known(streams: list[list[RidRef]], direction: str) -> list[list[RidRef]]:
            left = [[ref for ref in stream if directions.get(ref.id) == direction] for stream in streams]
            return [stream for stream in left if stream]

        simulcast = Simulcast(known(written.send, "send"), known(written.recv, "recv"))
        return simulcast if simulcast.send or simulcast.recv else None

    @property
    def candidates(self) -> list[str]:
        """The values of ``a=candidate`` (RFC 8839 §5.1)."""
        return self.all("candidate")

    @property
    def end_of_candidates(self) -> bool:
        """``a=end-of-candidates`` (RFC 8840 §8.2)."""
        return self.has("end-of-candidates")

    @property
    def sctp_port(self) -> int | None:
        """``a=sctp-port`` (RFC 8841 §5); 0 closes the association."""
        value = self.first("sctp-port") if is_sctp(self.protocol) else None
        return None if value is None else values.parse_number("sctp-port", value, 0, 65_535)

    @property
    def max_message_size(self) -> int | None:
        """``a=max-message-size`` in bytes, 0 for any; ``None`` stands for 64 KiB (RFC 8841 §6)."""
        value = self.first("max-message-size") if is_sctp(self.protocol) else None
        return None if value is None else values.parse_number("max-message-size", value, 0, (1 << 63) - 1)


def unique_extensions(found: Iterable[str]) -> list[HeaderExtension]:
    """The header extensions in these values of ``a=extmap``, each identifier once."""
    extensions: dict[int, HeaderExtension] = {}
    for value in found:
        extension = values.parse_extmap(value)
        if extension.id < 256:
            extensions.setdefault(extension.id, extension)
    return list(extensions.values())
