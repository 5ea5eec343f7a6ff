"""What the values of attributes mean: typed values, each with the function that reads it.

Each ``parse_…`` function takes an attribute's value and raises :class:`SdpError`, without a line, when it is
malformed. None looks at the same characters more than a bounded number of times.
"""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mediapeer.sdp.errors import SdpError

Meaning = TypeVar("Meaning")

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
SETUPS = ("actpass", "active", "passive", "holdconn")
MAXIMUM_SSRC = (1 << 32) - 1
#: The lengths of digests in bytes (RFC 8122 §5).
DIGEST_LENGTHS = {"md5": 16, "sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}
#: Payload types that mean a codec without ``a=rtpmap``: name, clock rate in Hz, channels (RFC 3551 §6).
STATIC_PAYLOAD_TYPES: dict[int, tuple[str, int, int | None]] = {
    0: ("PCMU", 8000, None),
    3: ("GSM", 8000, None),
    4: ("G723", 8000, None),
    5: ("DVI4", 8000, None),
    6: ("DVI4", 16000, None),
    7: ("LPC", 8000, None),
    8: ("PCMA", 8000, None),
    9: ("G722", 8000, None),
    10: ("L16", 44100, 2),
    11: ("L16", 44100, None),
    12: ("QCELP", 8000, None),
    13: ("CN", 8000, None),
    14: ("MPA", 90000, None),
    15: ("G728", 8000, None),
    16: ("DVI4", 11025, None),
    17: ("DVI4", 22050, None),
    18: ("G729", 8000, None),
    25: ("CelB", 90000, None),
    26: ("JPEG", 90000, None),
    28: ("nv", 90000, None),
    31: ("H261", 90000, None),
    32: ("MPV", 90000, None),
    33: ("MP2T", 90000, None),
    34: ("H263", 90000, None),
}

#: token of RFC 8866 §9, of bounded length.
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,256}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_PAYLOAD_TYPE = re.compile(r"[0-9]{1,3}")
_SSRC_NUMBER = re.compile(r"[0-9]{1,10}")
_FINGERPRINT = re.compile(r"(\S{1,64}) +([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){0,255})")
_ICE_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_ICE_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_CANDIDATE = re.compile(
    r"(?:[A-Za-z0-9+/]{1,32}) ([0-9]{1,3}) (\S{1,32}) ([0-9]{1,10}) (\S{1,255}) ([0-9]{1,5}) typ (\S{1,32})(?: .*)?"
)
_ENCODING = re.compile(r"([^\s/]{1,64})/([0-9]{1,9})(?:/([0-9]{1,3}))?")
_EXTMAP = re.compile(r"([0-9]{1,4})(?:/([a-z]{1,16}))? +(\S+)(?: +(.*))?")
_SSRC = re.compile(r"([0-9]{1,10}) +([^\s:]+)(?::(.*))?")
_RTCP = re.compile(r"([0-9]{1,5})(?: +IN +IP[46] +\S+)?")
_RID = re.compile(r"([A-Za-z0-9_-]{1,255}) +(send|recv)(?: +(\S.*))?")
_RID_ID = re.compile(r"(~?)([A-Za-z0-9_-]{1,255})")
_BANDWIDTH = re.compile(r"[^\s:]{1,32}:[0-9]{1,20}")
_CONNECTION = re.compile(r"IN +IP[46] +\S+")


#: How many values of each kind are remembered with their meaning, and the longest of them, in characters.
_REMEMBERED = 512
_REMEMBERED_LENGTH = 128
#: The same for what whole sections say of their codecs.
_REMEMBERED_CODECS = 64
_REMEMBERED_CODECS_LENGTH = 8192


def _remembered(parse: Callable[[str], Meaning]) -> Callable[[str], Meaning]:
    """Read the same text once: the descriptions of a browser's calls say the same of their codecs, all of them.

    For what nobody changes, and what is no secret.
    """
    remembering = functools.lru_cache(_REMEMBERED)(parse)

    @functools.wraps(parse)
    def read(value: str) -> Meaning:
        return remembering(value) if len(value) <= _REMEMBERED_LENGTH else parse(value)

    return read


def parse_number(name: str, value: str, minimum: int, maximum: int) -> int:
    """A decimal number within bounds, in an attribute of that name."""
    value = value.strip()
    if not _NUMBER.fullmatch(value) or not minimum <= int(value) <= maximum:
        raise SdpError(f"a={name} is no number from {minimum} to {maximum}")
    return int(value)


def parse_payload_type(name: str, value: str) -> int:
    """An RTP payload type (RFC 3550 §5.1)."""
    if not _PAYLOAD_TYPE.fullmatch(value) or int(value) > 127:
        raise SdpError(f"{name} has a payload type that is none (RFC 3550 §5.1)")
    return int(value)


def is_token(value: str) -> bool:
    """Whether it is a token (RFC 8866 §9)."""
    return _TOKEN.fullmatch(value) is not None


@_remembered
def parse_mid(value: str) -> str:
    """``a=mid`` (RFC 5888 §4)."""
    value = value.strip()
    if not is_token(value):
        raise SdpError("a=mid is malformed (RFC 5888 §4)")
    return value


def parse_group(value: str) -> tuple[str, list[str]]:
    """``a=group``: semantics and identification tags (RFC 5888 §5)."""
    semantics, *mids = value.split() or [""]
    if not is_token(semantics) or not all(map(is_token, mids)):
        raise SdpError("a=group is malformed (RFC 5888 §5)")
    return semantics, mids


def parse_setup(value: str) -> str:
    """``a=setup`` (RFC 4145 §4)."""
    value = value.strip()
    if value not in SETUPS:
        raise SdpError("a=setup is malformed (RFC 4145 §4)")
    return value


def parse_fingerprint(value: str) -> tuple[str, str]:
    """``a=fingerprint``: the hash's name in lower case, and the digest in upper case (RFC 8122 §5)."""
    match = _FINGERPRINT.fullmatch(value.strip())
    if match is None or not is_token(match[1]):
        raise SdpError("a=fingerprint is malformed (RFC 8122 §5)")
    algorithm, digest = match[1].lower(), match[2].upper()
    expected = DIGEST_LENGTHS.get(algorithm)
    if expected is not None and len(digest) != expected * 3 - 1:
        raise SdpError(f"a=fingerprint has not the length of {algorithm} (RFC 8122 §5)")
    return algorithm, digest


def parse_ice_ufrag(value: str) -> str:
    """``a=ice-ufrag`` (RFC 8839 §5.4)."""
    value = value.strip()
    if not _ICE_UFRAG.fullmatch(value):
        raise SdpError("a=ice-ufrag is malformed (RFC 8839 §5.4)")
    return value


def parse_ice_pwd(value: str) -> str:
    """``a=ice-pwd`` (RFC 8839 §5.4)."""
    value = value.strip()
    if not _ICE_PWD.fullmatch(value):
        raise SdpError("a=ice-pwd is malformed (RFC 8839 §5.4)")
    return value


def check_candidate(value: str) -> None:
    """``a=candidate``: the form alone, since the room of ICE reads it (RFC 8839 §5.1)."""
    match = _CANDIDATE.fullmatch(value)
    if match is None or int(match[3]) >= 1 << 32 or int(match[5]) > 65_535 or not is_token(match[6]):
        raise SdpError("a=candidate is malformed (RFC 8839 §5.1)")


def check_rtcp(value: str) -> None:
    """``a=rtcp`` (RFC 3605 §2.1)."""
    match = _RTCP.fullmatch(value.strip())
    if match is None or int(match[1]) > 65_535:
        raise SdpError("a=rtcp is malformed (RFC 3605 §2.1)")


def check_connection(value: str) -> None:
    """The ``c=`` line (RFC 8866 §5.7)."""
    if not _CONNECTION.fullmatch(value.strip()):
        raise SdpError("the c= line is malformed (RFC 8866 §5.7)")


def check_bandwidth(value: str) -> None:
    """A ``b=`` line (RFC 8866 §5.8)."""
    if not _BANDWIDTH.fullmatch(value.strip()):
        raise SdpError("the b= line is malformed (RFC 8866 §5.8)")


@dataclass(frozen=True)
class Codec:
    """A format of an RTP section: ``a=rtpmap`` with what ``a=fmtp`` and ``a=rtcp-fb`` say of it (RFC 8866 §6.6).

    ``clock_rate`` is in Hz; ``channels`` is ``None`` where it is not written, which means one for audio.
    ``parameters`` has those of ``a=fmtp`` in order, ``None`` for one without a value (``0-15``); ``fmtp`` is what
    they were read from. ``feedback`` has lines such as ``nack pli`` (RFC 4585 §4.2), those for all formats too.
    """

    payload_type: int
    name: str
    clock_rate: int
    channels: int | None = None
    parameters: dict[str, str | None] = field(default_factory=dict, hash=False)
    feedback: tuple[str, ...] = ()
    fmtp: str | None = field(default=None, compare=False, repr=False)

    def parameter(self, name: str) -> str | None:
        """A parameter's value by its name, in whatever case (RFC 4855 §3); ``None`` if it is not there."""
        for key, value in self.parameters.items():
            if key.lower() == name.lower():
                return value
        return None

    @property
    def rtpmap(self) -> str:
        """The value of ``a=rtpmap``."""
        channels = "" if self.channels is None else f"/{self.channels}"
        return f"{self.payload_type} {self.name}/{self.clock_rate}{channels}"


@_remembered
def parse_rtpmap(value: str) -> Codec:
    """``a=rtpmap`` (RFC 8866 §6.6)."""
    number, _, encoding = value.strip().partition(" ")
    match = _ENCODING.fullmatch(encoding.strip())
    channels = int(match[3] or 1) if match else 0
    if match is None or not is_token(match[1]) or not int(match[2]) or not 0 < channels < 256:
        raise SdpError("a=rtpmap is malformed (RFC 8866 §6.6)")
    payload_type = parse_payload_type("a=rtpmap", number)
    return Codec(payload_type, match[1], int(match[2]), channels if match[3] else None)


def parse_parameters(text: str) -> dict[str, str | None]:
    """The parameters in an ``a=fmtp``, without its payload type; of two of a name the first counts."""
    parameters: dict[str, str | None] = {}
    for item in text.split(";"):
        name, equals, value = item.strip().partition("=")
        if name:
            parameters.setdefault(name.strip(), value.strip() if equals else None)
    return parameters


def write_parameters(parameters: dict[str, str | None]) -> str:
    """The text of parameters for ``a=fmtp``."""
    return ";".join(name if value is None else f"{name}={value}" for name, value in parameters.items())


@_remembered
def parse_fmtp(value: str) -> tuple[int, str]:
    """``a=fmtp``: the payload type and its parameters as they stand there, maybe none (RFC 8866 §6.15)."""
    number, _, text = value.strip().partition(" ")
    payload_type = parse_payload_type("a=fmtp", number)
    for name, apt in parse_parameters(text).items() if "apt" in text.lower() else ():
        if name.lower() == "apt" and (not _PAYLOAD_TYPE.fullmatch(apt or "") or int(apt or "") > 127):
            raise SdpError("a=fmtp is malformed: apt is no payload type (RFC 4588 §8.6)")
    return payload_type, text.strip()


@_remembered
def parse_rtcp_fb(value: str) -> tuple[int | None, str]:
    """``a=rtcp-fb``: the payload type, ``None`` for all, and the feedback (RFC 4585 §4.2)."""
    number, _, feedback = value.strip().partition(" ")
    if not feedback.strip():
        raise SdpError("a=rtcp-fb is malformed (RFC 4585 §4.2)")
    return None if number == "*" else parse_payload_type("a=rtcp-fb", number), " ".join(feedback.split())


def codecs_of(
    formats: tuple[str, ...], rtpmaps: tuple[str, ...], fmtps: tuple[str, ...], feedback: tuple[str, ...]
) -> tuple[Codec, ...]:
    """What the formats of a section mean by its attributes. Read once for all sections that say the same."""
    length = sum(map(len, formats)) + sum(map(len, rtpmaps)) + sum(map(len, fmtps)) + sum(map(len, feedback))
    read = _remembered_codecs if length <= _REMEMBERED_CODECS_LENGTH else _codecs
    return read(formats, rtpmaps, fmtps, feedback)


def _codecs(
    formats: tuple[str, ...], rtpmaps: tuple[str, ...], fmtps: tuple[str, ...], feedback: tuple[str, ...]
) -> tuple[Codec, ...]:
    found: dict[int, Codec] = {}
    for value in rtpmaps:
        codec = parse_rtpmap(value)
        found.setdefault(codec.payload_type, codec)
    texts: dict[int, list[str]] = {}
    for value in fmtps:
        payload_type, text = parse_fmtp(value)
        texts.setdefault(payload_type, []).append(text)
    for_each: dict[int, dict[str, None]] = {}
    for number in dict.fromkeys(parse_payload_type("the m= line", text) for text in formats):
        for_each[number] = {}
    for target, text in map(parse_rtcp_fb, feedback):
        for number in for_each if target is None else (target,):
            if number in for_each:
                for_each[number][text] = None
    codecs = []
    for number, lines in for_each.items():
        static = STATIC_PAYLOAD_TYPES.get(number)
        base = found.get(number) or (Codec(number, *static) if static else None)
        if base is not None:
            fmtp = ";".join(texts[number]) if number in texts else None
            parameters = parse_parameters(fmtp or "")
            codecs.append(replace(base, parameters=parameters, feedback=tuple(lines), fmtp=fmtp))
    return tuple(codecs)


_remembered_codecs = functools.lru_cache(_REMEMBERED_CODECS)(_codecs)


@dataclass(frozen=True)
class HeaderExtension:
    """``a=extmap`` (RFC 8285 §8): an identifier from 1 to 255 for a URI.

    ``direction`` is ``None`` where it is the section's own.
    """

    id: int
    uri: str
    direction: str | None = None
    attributes: str | None = None

    def __str__(self) -> str:
        direction = "" if self.direction is None else f"/{self.direction}"
        attributes = "" if self.attributes is None else f" {self.attributes}"
        return f"{self.id}{direction} {self.uri}{attributes}"


@_remembered
def parse_extmap(value: str) -> HeaderExtension:
    """``a=extmap``; its identifier may be one of the range above 4095 that offers borrow from (RFC 8285 §7)."""
    match = _EXTMAP.fullmatch(value.strip())
    if match is None or (match[2] is not None and match[2] not in DIRECTIONS):
        raise SdpError("a=extmap is malformed (RFC 8285 §8)")
    number = int(match[1])
    if not (0 < number < 256 or 4096 <= number <= 4351):
        raise SdpError("a=extmap is malformed: the identifier is none (RFC 8285 §5)")
    return HeaderExtension(number, match[3], match[2], match[4])


def parse_msid(value: str) -> tuple[str, str | None]:
    """``a=msid``: the stream's identifier, ``-`` for no stream, and the track's (RFC 8830 §2)."""
    fields = value.split()
    if len(fields) not in (1, 2):
        raise SdpError("a=msid is malformed (RFC 8830 §2)")
    return fields[0], fields[1] if len(fields) == 2 else None


def parse_ssrc(value: str) -> tuple[int, str, str | None]:
    """``a=ssrc``: the source, the name of its attribute, and that one's value (RFC 5576 §4.1)."""
    match = _SSRC.fullmatch(value)
    if match is None or int(match[1]) > MAXIMUM_SSRC:
        raise SdpError("a=ssrc is malformed (RFC 5576 §4.1)")
    return int(match[1]), match[2], match[3]


def parse_ssrc_group(value: str) -> tuple[str, list[int]]:
    """``a=ssrc-group``: semantics and sources (RFC 5576 §4.2)."""
    semantics, *sources = value.split() or [""]
    if not is_token(semantics) or not all(_SSRC_NUMBER.fullmatch(source) for source in sources):
        raise SdpError("a=ssrc-group is malformed (RFC 5576 §4.2)")
    numbers = [int(source) for source in sources]
    if any(number > MAXIMUM_SSRC for number in numbers):
        raise SdpError("a=ssrc-group is malformed (RFC 5576 §4.2)")
    return semantics, numbers


@dataclass(frozen=True)
class Rid:
    """``a=rid`` (RFC 8851 §4): ``direction`` is ``send`` or ``recv``; restrictions in order, ``pt`` among them."""

    id: str
    direction: str
    restrictions: dict[str, str | None] = field(default_factory=dict, hash=False)

    @property
    def payload_types(self) -> list[int]:
        """The payload types that the restriction ``pt`` allows; an empty list is for all of the section."""
        listed = (self.restrictions.get("pt") or "").split(",")
        return [int(number) for number in listed if _PAYLOAD_TYPE.fullmatch(number)]

    def __str__(self) -> str:
        restrictions = write_parameters(self.restrictions)
        return f"{self.id} {self.direction}" + (f" {restrictions}" if restrictions else "")


def parse_rid(value: str) -> Rid:
    """``a=rid`` (RFC 8851 §10)."""
    match = _RID.fullmatch(value.strip())
    if match is None:
        raise SdpError("a=rid is malformed (RFC 8851 §10)")
    return Rid(match[1], match[2], parse_parameters(match[3] or ""))


@dataclass(frozen=True)
class RidRef:
    """A stream in ``a=simulcast``: its RID, and whether it starts paused (``~``)."""

    id: str
    paused: bool = False

    def __str__(self) -> str:
        return ("~" if self.paused else "") + self.id


@dataclass(frozen=True)
class Simulcast:
    """``a=simulcast`` (RFC 8853 §5.1): the streams of each direction, best first, each with its alternatives."""

    send: list[list[RidRef]] = field(default_factory=list)
    recv: list[list[RidRef]] = field(default_factory=list)

    def __str__(self) -> str:
        halves = [
            f"{direction} " + ";".join(",".join(map(str, alternatives)) for alternatives in streams)
            for direction, streams in (("send", self.send), ("recv", self.recv))
            if streams
        ]
        return " ".join(halves)


def parse_simulcast(value: str) -> Simulcast:
    """``a=simulcast`` (RFC 8853 §5.1)."""
    fields = value.split()
    halves: dict[str, list[list[RidRef]]] = {}
    for direction, streams in zip(fields[::2], fields[1::2], strict=False):
        if direction in halves or direction not in ("send", "recv"):
            raise SdpError("a=simulcast is malformed (RFC 8853 §5.1)")
        halves[direction] = [_parse_alternatives(stream.split(",")) for stream in streams.split(";")]
    if len(fields) not in (2, 4):
        raise SdpError("a=simulcast is malformed (RFC 8853 §5.1)")
    return Simulcast(halves.get("send", []), halves.get("recv", []))


def _parse_alternatives(references: Iterable[str]) -> list[RidRef]:
    alternatives = []
    for reference in references:
        match = _RID_ID.fullmatch(reference)
        if match is None:
            raise SdpError("a=simulcast is malformed (RFC 8853 §5.1)")
        alternatives.append(RidRef(match[2], bool(match[1])))
    return alternatives
