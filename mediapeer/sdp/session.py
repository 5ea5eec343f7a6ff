"""Whole descriptions (RFC 8866 §5)."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mediapeer.sdp import values
from mediapeer.sdp.checks import SESSION_CHECKS, read_body
from mediapeer.sdp.errors import SdpError
from mediapeer.sdp.lines import (
    Attribute,
    AttributeList,
    Line,
    NumberedLine,
    SdpLimits,
    read_parts,
    write_lines,
)
from mediapeer.sdp.media import MediaDescription, unique_extensions
from mediapeer.sdp.values import HeaderExtension

BUNDLE = "BUNDLE"
_DEFAULT_LIMITS = SdpLimits()


@dataclass
class Origin:
    """The ``o=`` line (RFC 8866 §5.2)."""

    username: str
    session_id: int
    session_version: int
    network_type: str = "IN"
    address_type: str = "IP4"
    address: str = "127.0.0.1"

    @classmethod
    def parse(cls, value: str) -> "Origin":
        """Read the value of an ``o=`` line.

        :raises SdpError: when it is malformed.
        """
        fields = value.split()
        if len(fields) != 6:
            raise SdpError("the o= line is malformed (RFC 8866 §5.2)")
        username, session_id, version, network_type, address_type, address = fields
        try:
            numbers = [values.parse_number("o", number, 0, 10**20) for number in (session_id, version)]
        except SdpError:
            raise SdpError(
                "the o= line is malformed: session and version are numbers (RFC 8866 §5.2)"
            ) from None
        return cls(username, numbers[0], numbers[1], network_type, address_type, address)

    def __str__(self) -> str:
        numbers = f"{self.session_id} {self.session_version}"
        return f"{self.username} {numbers} {self.network_type} {self.address_type} {self.address}"


@dataclass
class SessionDescription(AttributeList):
    """A session description: what is said of the session, and its media sections.

    ``lines`` are those of the session part that are no attributes, from ``i=`` to unknown ones. Where a section and
    the session say the same thing, the methods that take a section answer what holds for it.
    """

    origin: Origin
    name: str = "-"
    attributes: list[Attribute] = field(default_factory=list)
    media: list[MediaDescription] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def new(cls, session_id: int, version: int) -> "SessionDescription":
        """A description without media sections (RFC 9429 §5.2.1)."""
        description = cls(Origin("-", session_id, version))
        description.set_line("t", "0 0")
        description.add("extmap-allow-mixed")
        description.add("msid-semantic", "WMS *")
        return description

    @classmethod
    def parse(cls, text: str, limits: SdpLimits = _DEFAULT_LIMITS) -> "SessionDescription":
        """Read a description. Its lines end with CRLF or LF; what is not known is kept where it stands.

        :raises SdpError: when it is malformed or too large, whatever the text.
        """
        session, *parts = read_parts(text, limits)
        description = cls._read_session(session)
        mids: set[str] = set()
        candidates = 0
        for part in parts:
            media = MediaDescription.read(part)
            candidates += len(media.candidates)
            if media.mid in mids:
                number = next(
                    line.number for line in part if line.type == "a" and line.value.startswith("mid:")
                )
                raise SdpError("two media sections have the same a=mid (RFC 5888 §4)", number)
            if media.mid is not None:
                mids.add(media.mid)
            description.media.append(media)
        if candidates > limits.candidates:
            raise SdpError(f"the description has more than {limits.candidates} candidates")
        return description

    @classmethod
    def _read_session(cls, lines: list[NumberedLine]) -> "SessionDescription":
        for number, type in ((2, "o"), (3, "s")):
            if len(lines) < number or lines[number - 1].type != type:
                raise SdpError(f"the line must be {type}= (RFC 8866 §5)", number)
        try:
            origin = Origin.parse(lines[1].value)
        except SdpError as error:
            raise SdpError(error.reason, lines[1].number) from None
        attributes, others = read_body(lines[3:], SESSION_CHECKS)
        return cls(origin, lines[2].value, attributes, lines=others)

    def serialize(self) -> str:
        """The text, its lines ended by CRLF.

        :raises SdpError: when something in it cannot be written as what it is.
        """
        origin = str(self.origin)
        if Origin.parse(origin) != self.origin:
            raise SdpError("the o= line cannot be written: its fields have no spaces and are not empty")
        lines = ["v=0", f"o={origin}", f"s={self.name}", *self._body()]
        for media in self.media:
            lines.extend(media.written_lines())
        return write_lines(lines)

    def __str__(self) -> str:
        return self.serialize()

    def copy(self) -> "SessionDescription":
        """A description of its own with the same lines."""
        return replace(
            self,
            origin=replace(self.origin),
            attributes=list(self.attributes),
            media=[media.copy() for media in self.media],
            lines=[replace(line) for line in self.lines],
        )

    def section(self, mid: str) -> MediaDescription | None:
        """The media section with that ``a=mid``."""
        return next((media for media in self.media if media.mid == mid), None)

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """The groups of media sections: semantics and mids (RFC 5888 §5)."""
        return [values.parse_group(value) for value in self.all("group")]

    @property
    def bundle_groups(self) -> list[list[str]]:
        """The mids of each BUNDLE group (RFC 8843 §5)."""
        return [mids for semantics, mids in self.groups if semantics == BUNDLE]

    def set_bundle_groups(self, groups: Iterable[Iterable[str]]) -> None:
        """Say which sections share a transport, instead of what was said, before the other attributes."""
        others = [
            attribute
            for attribute in self.attributes
            if attribute.name != "group" or values.parse_group(attribute.value or "")[0] != BUNDLE
        ]
        new = [Attribute("group", " ".join([BUNDLE, *mids])) for mids in groups]
        self.attributes[:] = [*new, *others]

    @property
    def ice_lite(self) -> bool:
        """``a=ice-lite``: the agent answers checks and sends none (RFC 8839 §5.3).

        It belongs to the session; werift writes it in its sections, and means the same.
        """
        return self.has("ice-lite") or any(media.has("ice-lite") for media in self.media)

    def ice_options(self, media: MediaDescription) -> list[str]:
        """The ICE options of a section and of the session (RFC 8839 §5.6); libdatachannel puts commas between."""
        found = [*media.all("ice-options"), *self.all("ice-options")]
        return list(dict.fromkeys(option for value in found for option in value.replace(",", " ").split()))

    def ice_parameters(self, media: MediaDescription) -> tuple[str, str] | None:
        """Username fragment and password for a section, or ``None`` when one is missing (RFC 8839 §5.4)."""
        fragment = media.first("ice-ufrag") or self.first("ice-ufrag")
        password = media.first("ice-pwd") or self.first("ice-pwd")
        if fragment is None or password is None:
            return None
        return values.parse_ice_ufrag(fragment), values.parse_ice_pwd(password)

    def fingerprints(self, media: MediaDescription) -> list[tuple[str, str]]:
        """The hash's name in lower case and the digest in upper case; a section's own come first (RFC 8122 §5)."""
        found = media.all("fingerprint") or self.all("fingerprint")
        return [values.parse_fingerprint(value) for value in found]

    def setup(self, media: MediaDescription) -> str | None:
        """The role in DTLS: ``actpass``, ``active``, ``passive`` or ``holdconn`` (RFC 4145 §4, RFC 8842 §5)."""
        value = media.first("setup") or self.first("setup")
        return None if value is None else values.parse_setup(value)

    def direction(self, media: MediaDescription) -> str:
        """The direction of a section, as the one who wrote the description sees it (RFC 8866 §6.7)."""
        default = next((item.name for item in self.attributes if item.name in values.DIRECTIONS), "sendrecv")
        return media.own_direction or default

    def header_extensions(self, media: MediaDescription) -> list[HeaderExtension]:
        """The header extensions of an RTP section: its own, or else the session's (RFC 8285 §8)."""
        if not media.is_rtp:
            return []
        return media.header_extensions or unique_extensions(self.all("extmap"))

    def extmap_allow_mixed(self, media: MediaDescription) -> bool:
        """Whether header extensions of one and two bytes may be mixed in a section (RFC 8285 §6)."""
        return self.has("extmap-allow-mixed") or media.extmap_allow_mixed

    def end_of_candidates(self, media: MediaDescription) -> bool:
        """Whether no more candidates will come for a section (RFC 8840 §8.2)."""
        return self.has("end-of-candidates") or media.end_of_candidates
