"""What must be right about a session description before the peer connection sees it.

The parser below takes what it gets for granted, and some of what a description says is used only later, by a
task that nobody waits for. So everything that a client can get wrong is found here and said in words, and what
the RFCs let a client leave out is filled in.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mediapeer.dtls.credentials import FINGERPRINT_HASHES

MAXIMUM_LINES = 1500
MAXIMUM_SECTIONS = 16
#: Each candidate makes us send a few packets to an address of the client's choice.
MAXIMUM_CANDIDATES = 40

_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_DIGEST_LENGTHS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_MEDIA = re.compile(r"m=(\S+) ([0-9]{1,5})(?:/[0-9]+)? (\S+) (\S+(?: \S+)*)")
_RTP_PROFILES = {"UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF"}
_SCTP_PROFILES = {"UDP/DTLS/SCTP", "TCP/DTLS/SCTP"}
#: token of RFC 8866 §9.
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")
_FINGERPRINT = re.compile(r"(\S+) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)")
_ICE_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_ICE_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_CANDIDATE = re.compile(
    r"[A-Za-z0-9+/]{1,32} ([0-9]{1,3}) (\S+) ([0-9]{1,10}) (\S{1,255}) ([0-9]{1,5}) typ (\S+)(?: .*)?"
)
_CANDIDATE_TYPES = {"host", "srflx", "prflx", "relay"}
_RTPMAP = re.compile(r"([0-9]{1,3}) [^\s/]+/[1-9][0-9]{0,6}(?:/[1-9][0-9]{0,2})?")
_PAYLOAD_TYPE_FIRST = re.compile(r"([0-9]{1,3}) \S.*")
_EXTMAP = re.compile(r"([0-9]{1,4})(?:/(?:sendrecv|sendonly|recvonly|inactive))? \S+")
_SSRC = re.compile(r"([0-9]{1,10}) \S+:.*")
_RTCP_FB = re.compile(r"(?:\*|[0-9]{1,3}) [^\s].*")
_RTCP = re.compile(r"[0-9]{1,5}(?: IN IP[46] [^ ]+)?")
_SCTPMAP = re.compile(r"[0-9]{1,5} \S.*")
_SSRC_GROUP = re.compile(r"[^\s]+(?: [0-9]{1,10})*")
_CONNECTION = re.compile(r"IN IP[46] [^ ]+")
#: The payload type that a retransmission is for (RFC 4588 §8.6).
_APT = re.compile(r"apt=(?![0-9]{1,3}(?:;|$))")


#: What a section says once, if at all: of two, the parser takes one and these checks would take the other.
_SINGLE = (
    *("mid", "ice-ufrag", "ice-pwd", "setup", "rtcp", "rtcp-mux", "bundle-only"),
    *("sctp-port", "max-message-size", "msid-semantic"),
)
_SETUPS = ("actpass", "active", "passive")


class DescriptionError(ValueError):
    """A description cannot be used. The message says why, for the one who sent it."""


@dataclass
class _Section:
    """A media section, or the session part: its lines and its attributes."""

    lines: list[str] = field(default_factory=list)
    attributes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            self.attributes.setdefault(name, []).append(value)

    def first(self, name: str) -> str | None:
        values = self.attributes.get(name)
        return values[0] if values else None


def check_description(sdp: str, *, answer: bool = False) -> str:
    """Check a description and complete it.

    :param sdp: the description as it came.
    :param answer: whether it is an answer; otherwise it is an offer.
    :returns: the description to use: with a direction in every section that carries media (RFC 8866 §6.7.1),
        with max-message-size (RFC 8841 §6.1), and without candidates that have no address of their own
        (RFC 8839 §5.1), which the checks of the peer make known all the same.
    :raises DescriptionError: when it cannot be used, with the reason in words.
    """
    session, media = _split(sdp)
    if not media:
        raise DescriptionError("The description has no media sections (no line begins with m=).")
    if len(media) > MAXIMUM_SECTIONS:
        raise DescriptionError(f"The description has more than {MAXIMUM_SECTIONS} media sections.")
    _check_connection(session)
    _check_single(session)
    if any(value not in _SETUPS for value in session.attributes.get("setup", ())):
        raise DescriptionError("The session's a=setup is malformed (RFC 4145 §4).")
    candidates = 0
    for number, section in enumerate(media, 1):
        try:
            _check_section(session, section, answer)
        except DescriptionError as error:
            raise DescriptionError(f"Media section {number} (m={_kind(section)}): {error}") from None
        candidates += len(section.attributes.get("candidate", ()))
    if candidates > MAXIMUM_CANDIDATES:
        raise DescriptionError(f"The description has more than {MAXIMUM_CANDIDATES} candidates.")
    if sum(1 for section in media if _kind(section) == "application") > 1:
        raise DescriptionError("The description has more than one section for data channels.")
    _check_bundle(session, media)
    return "".join(f"{line}\r\n" for part in (session, *media) for line in part.lines)


def _split(sdp: str) -> tuple[_Section, list[_Section]]:
    lines = sdp.replace("\r\n", "\n").rstrip("\n").split("\n")
    if lines[0].strip() != "v=0":
        raise DescriptionError("This is not SDP: the first line must be v=0 (RFC 8866).")
    if len(lines) > MAXIMUM_LINES:
        raise DescriptionError(f"The description has more than {MAXIMUM_LINES} lines.")
    session = _Section()
    media: list[_Section] = []
    for number, line in enumerate(lines, 1):
        if not re.match(r"[a-z]=", line) or not line.isprintable():
            raise DescriptionError(f"This is not SDP: line {number} is not of the form x=value (RFC 8866).")
        if line.startswith("m="):
            media.append(_Section())
        (media[-1] if media else session).add(line)
    return session, media


def _kind(section: _Section) -> str:
    return section.lines[0][2:].split(" ", 1)[0][:20]


def _check_section(session: _Section, section: _Section, answer: bool) -> None:
    match = _MEDIA.fullmatch(section.lines[0])
    if match is None:
        raise DescriptionError("the m= line is malformed.")
    kind, port, profile, formats = match.groups()
    if kind not in ("audio", "video", "application"):
        raise DescriptionError("only audio, video and application sections can be answered.")
    if int(port) > 65_535:
        raise DescriptionError("the port is no port.")
    if int(port) == 0 and section.first("bundle-only") is None:
        raise DescriptionError("the section is rejected (port 0); leave it out, or stop its transceiver.")
    _check_single(section)
    mid = section.first("mid")
    if mid is None or not _TOKEN.fullmatch(mid):
        raise DescriptionError("a=mid is missing or malformed (RFC 5888).")
    _check_connection(section)
    _check_forms(section, (("sctpmap", _SCTPMAP), ("rtcp", _RTCP), ("ssrc-group", _SSRC_GROUP)))
    _check_ice(session, section)
    _check_dtls(session, section, answer)
    if kind == "application":
        _check_data(section, profile, formats)
    else:
        _check_rtp(session, section, profile, formats)
    _check_candidates(section)


def _check_ice(session: _Section, section: _Section) -> None:
    for name, pattern in (("ice-ufrag", _ICE_UFRAG), ("ice-pwd", _ICE_PWD)):
        value = section.first(name) or session.first(name)
        if value is None or not pattern.fullmatch(value):
            raise DescriptionError(f"a={name} is missing or malformed (RFC 8839 §5.4).")


def _check_dtls(session: _Section, section: _Section, answer: bool) -> None:
    fingerprints = section.attributes.get("fingerprint", []) + session.attributes.get("fingerprint", [])
    if not fingerprints:
        raise DescriptionError("a=fingerprint is missing: without it nobody knows whom the call is with.")
    usable = 0
    for value in fingerprints:
        match = _FINGERPRINT.fullmatch(value)
        if match is None:
            raise DescriptionError("a=fingerprint is malformed (RFC 8122 §5).")
        algorithm = match[1].lower()
        if algorithm in FINGERPRINT_HASHES:
            if len(match[2]) != _DIGEST_LENGTHS[algorithm] * 3 - 1:
                raise DescriptionError(f"the fingerprint has not the length of {algorithm}.")
            usable += 1
    if not usable:
        supported = ", ".join(FINGERPRINT_HASHES)
        raise DescriptionError(f"no a=fingerprint uses a supported hash: {supported}.")
    setup = section.first("setup") or session.first("setup")
    allowed = ("active", "passive") if answer else _SETUPS
    if setup not in allowed:
        raise DescriptionError(f"a=setup must be {' or '.join(allowed)} (RFC 8842).")


def _check_data(section: _Section, profile: str, formats: str) -> None:
    if profile not in _SCTP_PROFILES or formats != "webrtc-datachannel":
        raise DescriptionError("data channels are UDP/DTLS/SCTP webrtc-datachannel (RFC 8841).")
    _check_number(section, "sctp-port", 1, 65_535)
    if section.first("max-message-size") is None:
        section.add("a=max-message-size:65536")
    _check_number(section, "max-message-size", 0, (1 << 63) - 1)


def _check_rtp(session: _Section, section: _Section, profile: str, formats: str) -> None:
    if profile not in _RTP_PROFILES:
        raise DescriptionError("the profile is not UDP/TLS/RTP/SAVPF: media must be SRTP keyed by DTLS.")
    if section.first("rtcp-mux") is None:
        raise DescriptionError("a=rtcp-mux is missing: RTCP must share the port of RTP (RFC 8834 §4.5).")
    for payload_type in formats.split(" "):
        if not payload_type.isdecimal() or len(payload_type) > 3 or int(payload_type) > 127:
            raise DescriptionError("a payload type in the m= line is none.")
    for name, pattern, maximum in (
        ("rtpmap", _RTPMAP, 127),
        ("fmtp", _PAYLOAD_TYPE_FIRST, 127),
        ("extmap", _EXTMAP, 255),
        ("ssrc", _SSRC, (1 << 32) - 1),
    ):
        for value in section.attributes.get(name, ()):
            match = pattern.fullmatch(value)
            if match is None or int(match[1]) > maximum or (name == "extmap" and int(match[1]) == 0):
                raise DescriptionError(f"a={name} is malformed.")
    _check_forms(section, (("rtcp-fb", _RTCP_FB),))
    for value in section.attributes.get("fmtp", ()):
        parameters = value.partition(" ")[2].split(";")
        if any(_APT.match(parameter.strip()) for parameter in parameters):
            raise DescriptionError("a=fmtp is malformed: apt is no payload type (RFC 4588).")
    if not any(direction in section.attributes for direction in _DIRECTIONS):
        inherited = [direction for direction in _DIRECTIONS if direction in session.attributes]
        section.add(f"a={inherited[0] if inherited else 'sendrecv'}")


def _check_forms(section: _Section, forms: Iterable[tuple[str, re.Pattern[str]]]) -> None:
    for name, pattern in forms:
        if not all(pattern.fullmatch(value) for value in section.attributes.get(name, ())):
            raise DescriptionError(f"a={name} is malformed.")


def _check_single(section: _Section) -> None:
    for name in _SINGLE:
        if len(section.attributes.get(name, ())) > 1:
            raise DescriptionError(f"a={name} stands there twice.")
    if sum(len(section.attributes.get(direction, ())) for direction in _DIRECTIONS) > 1:
        raise DescriptionError("there is more than one direction.")


def _check_connection(section: _Section) -> None:
    for line in section.lines:
        if line.startswith("c=") and not _CONNECTION.fullmatch(line[2:]):
            raise DescriptionError("the c= line is malformed (RFC 8866 §5.7).")


def _check_number(section: _Section, name: str, minimum: int, maximum: int) -> None:
    value = section.first(name)
    if value is None or not re.fullmatch(r"[0-9]{1,19}", value) or not minimum <= int(value) <= maximum:
        raise DescriptionError(f"a={name} is missing or malformed.")


def _check_candidates(section: _Section) -> None:
    """Refuse candidates that are malformed and take out those that we cannot or should not send to."""
    kept: list[str] = []
    for line in section.lines:
        if line.startswith("a=candidate:"):
            match = _CANDIDATE.fullmatch(line.removeprefix("a=candidate:"))
            if match is None or match[6] not in _CANDIDATE_TYPES or int(match[5]) > 65_535:
                raise DescriptionError("a=candidate is malformed (RFC 8839 §5.1).")
            if not _is_reachable(*match.group(1, 2, 3, 4, 5)):
                continue
        kept.append(line)
    section.lines = kept


def _is_reachable(component: str, transport: str, priority: str, host: str, port: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # a name: Chromium's .local ones, which only its own network resolves
    return (
        component == "1"
        and transport.lower() == "udp"
        and 0 < int(priority) < 1 << 32
        and int(port) > 0
        and not (address.is_multicast or address.is_unspecified)
    )


def _check_bundle(session: _Section, media: list[_Section]) -> None:
    mids = [section.first("mid") for section in media]
    if len(set(mids)) != len(mids):
        raise DescriptionError("Two media sections have the same a=mid.")
    groups = [value.split() for value in session.attributes.get("group", ())]
    bundles = [group[1:] for group in groups if group[:1] == ["BUNDLE"]]
    if len(bundles) != 1 or sorted(bundles[0]) != sorted(mid for mid in mids if mid is not None):
        raise DescriptionError("Every media section must be in one BUNDLE group (RFC 9143).")
