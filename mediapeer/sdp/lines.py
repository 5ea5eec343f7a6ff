"""Lines: the layer of SDP that knows no meanings (RFC 8866 §5)."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import NamedTuple

from mediapeer.sdp.errors import SdpError

#: What no line may hold: control characters but the tabulator, what some parsers take for the end of a line, and
#: surrogates, which have no encoding.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: The same but for the line feed.
_FORBIDDEN_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: Attributes whose values are secrets, which no ``repr`` shows: who has them can join the call.
_SECRETS = ("ice-pwd", "crypto")
#: Attributes that the calls of a browser have in common. One object serves all: they are most of a description, and a
#: server keeps two descriptions of each call. Credentials are never among them.
SHARED_NAMES = frozenset(
    {
        "bundle-only", "end-of-candidates", "extmap", "extmap-allow-mixed", "fmtp", "ice-lite", "ice-options",
        "inactive", "max-message-size", "mid", "msid-semantic", "recvonly", "rtcp", "rtcp-fb", "rtcp-mux",
        "rtcp-rsize", "rtpmap", "sctp-port", "sendonly", "sendrecv", "setup",
    }
)  # fmt: skip
#: How many are kept, and how long their values may be, in characters.
SHARED = 1024
SHARED_LENGTH = 128


@dataclass(frozen=True)
class SdpLimits:
    """How much of a description is read. Lengths are in characters."""

    length: int = 1 << 20
    "Of the whole text; browsers' descriptions have some ten thousand characters."
    lines: int = 12_000
    "A section for video of Chromium's has more than a hundred, of ours a hundred and sixty."
    line_length: int = 8192
    sections: int = 64
    candidates: int = 256


@dataclass(frozen=True, slots=True, repr=False)
class Attribute:
    """A line ``a=name`` or ``a=name:value`` (RFC 8866 §5.13), as it came or as it will be written.

    :raises SdpError: when what is given would not come out as this one line.
    """

    name: str
    value: str | None = None

    def __post_init__(self) -> None:
        if ":" in self.name or _FORBIDDEN.search(self.name):
            raise SdpError("an attribute's name has characters that no name may have (RFC 8866 §9)")
        if self.value is not None and _FORBIDDEN.search(self.value):
            raise SdpError(f"the value of a={self.name} has characters that no line may have (RFC 8866 §9)")

    @classmethod
    def parse(cls, text: str) -> "Attribute":
        """The attribute in what stands behind ``a=``, in a text that :func:`read_parts` has taken apart.

        That has searched it for what no line may hold; doing so again would be half of the work.
        """
        name, colon, value = text.partition(":")
        attribute = object.__new__(cls)
        object.__setattr__(attribute, "name", name)
        object.__setattr__(attribute, "value", value if colon else None)
        return attribute

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value}"

    def __repr__(self) -> str:
        value = "…" if self.name in _SECRETS else self.value
        return f"Attribute(name={self.name!r}, value={value!r})"


@functools.lru_cache(SHARED)
def _shared(name: str, value: str | None) -> Attribute:
    return Attribute(name, value)


def shared(name: str, value: str | None) -> Attribute:
    """An attribute, the same one for all descriptions if many are likely to have it.

    :raises SdpError: when it would not come out as one line.
    """
    if name in SHARED_NAMES and (value is None or len(value) <= SHARED_LENGTH):
        return _shared(name, value)
    return Attribute(name, value)


@dataclass(slots=True)
class Line:
    """A line that is no attribute: its type, one letter, its value, and how many attributes stand before it.

    The last is 0 where the order of RFC 8866 §5 is kept.
    """

    type: str
    value: str
    position: int = 0


class NumberedLine(NamedTuple):
    """A line of a text: its number from 1, its type and its value."""

    number: int
    type: str
    value: str


class AttributeList:
    """What the session and each media section have: attributes in order, and other lines among them."""

    attributes: list[Attribute]
    lines: list[Line]

    def first(self, name: str) -> str | None:
        """The value of the first attribute of that name: ``None`` if there is none, or it has no value."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute.value
        return None

    def all(self, name: str) -> list[str]:
        """The values of all attributes of that name that have one, in order."""
        return [
            attribute.value
            for attribute in self.attributes
            if attribute.name == name and attribute.value is not None
        ]

    def has(self, name: str) -> bool:
        """Whether there is an attribute of that name, with or without a value."""
        for attribute in self.attributes:  # noqa: SIM110 - a description is asked hundreds of times
            if attribute.name == name:
                return True
        return False

    def add(self, name: str, value: str | int | None = None) -> None:
        """Append an attribute.

        :raises SdpError: when it would not come out as one line.
        """
        self.attributes.append(shared(name, None if value is None else str(value)))

    def set(self, name: str, value: str | int | None = None) -> None:
        """Replace the attributes of that name by one, where the first stood, or append it.

        :raises SdpError: when it would not come out as one line.
        """
        new = Attribute(name, None if value is None else str(value))
        for index, attribute in enumerate(self.attributes):
            if attribute.name == name:
                rest = [other for other in self.attributes[index + 1 :] if other.name != name]
                self.attributes[index:] = [new, *rest]
                return
        self.attributes.append(new)

    def remove(self, *names: str) -> None:
        """Take out all attributes of these names."""
        self.attributes[:] = [attribute for attribute in self.attributes if attribute.name not in names]

    def line(self, type: str) -> str | None:
        """The value of the first line of that type, such as ``c``, which is no attribute."""
        return next((line.value for line in self.lines if line.type == type), None)

    def set_line(self, type: str, value: str) -> None:
        """Replace the lines of that type by one, where the first stood, or add it before the attributes."""
        old = [line for line in self.lines if line.type == type]
        self.lines[:] = [line for line in self.lines if line.type != type or line is old[0]]
        if old:
            old[0].value = value
        else:
            self.lines.append(Line(type, value))
            self.lines.sort(key=lambda line: line.position)

    def _body(self) -> list[str]:
        """All lines, each where it stood."""
        others = sorted(self.lines, key=lambda line: line.position)
        written = []
        index = 0
        for position, attribute in enumerate(self.attributes):
            while index < len(others) and others[index].position <= position:
                written.append(f"{others[index].type}={others[index].value}")
                index += 1
            name, value = attribute.name, attribute.value
            written.append(f"a={name}" if value is None else f"a={name}:{value}")
        return written + [f"{line.type}={line.value}" for line in others[index:]]


def read_parts(text: str, limits: SdpLimits) -> list[list[NumberedLine]]:
    """Take a text apart into its lines: first the session part, then each media section, from its ``m=``.

    Lines end with CRLF or LF; empty lines at the end do not count.

    :raises SdpError: when the first line is not ``v=0``, one is not of the form x=value, or there is too much.
    """
    if len(text) > limits.length:
        raise SdpError(f"the description is longer than {limits.length} characters")
    text = text.replace("\r\n", "\n").rstrip("\n")
    lines = text.split("\n")
    if len(lines) > limits.lines:
        raise SdpError(f"the description has more than {limits.lines} lines")
    if lines[0].strip() != "v=0":
        raise SdpError("this is no SDP: the first line must be v=0 (RFC 8866 §5.1)", 1)
    forbidden = _FORBIDDEN_IN_TEXT.search(text)
    spoilt = text.count("\n", 0, forbidden.start()) + 1 if forbidden else None
    parts: list[list[NumberedLine]] = [[]]
    for number, line in enumerate(lines, 1):
        if len(line) > limits.line_length:
            raise SdpError(f"the line is longer than {limits.line_length} characters", number)
        if line[1:2] != "=" or line[0] not in ascii_lowercase or number == spoilt:
            raise SdpError("the line is not of the form x=value (RFC 8866 §5)", number)
        if line[0] == "m":
            if len(parts) > limits.sections:
                raise SdpError(f"the description has more than {limits.sections} media sections", number)
            parts.append([])
        parts[-1].append(NumberedLine(number, line[0], line[2:]))
    return parts


def write_lines(lines: Sequence[str]) -> str:
    """The text of these lines, each ended by CRLF.

    :raises SdpError: when one would come out as something else.
    """
    text = "\n".join(lines)
    # One search through all of it is faster than one in each line; a line feed in a line makes a line too many.
    is_spoilt = text.count("\n") != len(lines) - 1 or _FORBIDDEN_IN_TEXT.search(text)
    for line in lines:
        if line[1:2] != "=" or line[0] not in ascii_lowercase or (is_spoilt and _FORBIDDEN.search(line)):
            raise SdpError(f"the value of {line[:1]}= has characters that no line may have (RFC 8866 §9)")
    return "\r\n".join([*lines, ""])
