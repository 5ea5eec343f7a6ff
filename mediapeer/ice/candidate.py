"""Candidates and credentials as signaling carries them (RFC 8839 §5), and their priorities (RFC 8445 §5.1.2)."""

import base64
import ipaddress
import re
import secrets
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

#: What is taken of one candidate, in characters; and how many extensions.
MAXIMUM_LENGTH = 1024
MAXIMUM_EXTENSIONS = 16
#: Type preferences (RFC 8445 §5.1.2.2).
TYPE_PREFERENCES = {"host": 126, "prflx": 110, "srflx": 100, "relay": 0}

_ICE_CHARACTERS = string.ascii_letters + string.digits + "+/"
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")


class CandidateError(ValueError):
    """A candidate attribute is malformed. The text says where."""


@dataclass(frozen=True, slots=True)
class IceParameters:
    """The credentials of one side (RFC 8839 §5.4).

    :raises ValueError: when a value is not of the length or characters that the RFC wants.
    """

    username_fragment: str
    "4 to 256 characters: letters, digits, ``+``, ``/``."
    password: str = field(repr=False)
    "22 to 256 such characters."
    lite: bool = False
    "Whether this side is a lite implementation (RFC 8839 §5.3)."

    def __post_init__(self) -> None:
        for name, value, minimum in (
            ("ice-ufrag", self.username_fragment, 4),
            ("ice-pwd", self.password, 22),
        ):
            if not minimum <= len(value) <= 256 or not set(value) <= set(_ICE_CHARACTERS):
                raise ValueError(
                    f"{name} must have {minimum} to 256 letters, digits, + and / (RFC 8839 §5.4)"
                )

    @classmethod
    def random(cls, *, lite: bool = False) -> "IceParameters":
        """New credentials: 47 random bits that find the session among many, and 190 that let in (RFC 8445 §5.3)."""
        return cls(_random_characters(8), _random_characters(32), lite)


def _random_characters(count: int) -> str:
    """As many characters, a multiple of four. Those that ICE allows are those of base64."""
    return base64.b64encode(secrets.token_bytes(count * 3 // 4)).decode()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transport address that a side may be reached at."""

    foundation: str
    "Equal for candidates of one type, base, protocol and server (RFC 8445 §5.1.1.3)."
    component: int
    "1 for RTP, and for everything when RTCP is multiplexed."
    transport: str
    "``udp`` or ``tcp``, in lower case; others are kept as they came."
    priority: int
    host: str
    "An IP address, or a name: of mDNS, or one that nobody resolves."
    port: int
    type: str
    "``host``, ``srflx``, ``prflx`` or ``relay``; others are kept as they came."
    related_address: str | None = None
    "What a reflexive or relayed candidate stands on."
    related_port: int | None = None
    tcp_type: str | None = None
    "``active``, ``passive`` or ``so`` (RFC 6544 §4.5)."
    extensions: Mapping[str, str] = field(default_factory=dict, hash=False)
    "Names and values behind all this, in their order: ``generation``, ``ufrag``, ``network-id``."

    @classmethod
    def from_sdp(cls, value: str) -> "Candidate":
        """Read the value of a candidate attribute, with or without ``candidate:`` before it (RFC 8839 §5.1).

        :raises CandidateError: when it is malformed.
        """
        if len(value) > MAXIMUM_LENGTH:
            raise CandidateError(f"a candidate of {len(value)} characters")
        value = value.strip().removeprefix("a=").removeprefix("candidate:")
        words = value.split()
        if len(words) < 8 or words[6] != "typ":
            raise CandidateError("a candidate has six fields, typ, and its type")
        if len(words) % 2:
            raise CandidateError("a candidate's last extension has no value")
        if len(words) > 12 + 2 * MAXIMUM_EXTENSIONS:
            raise CandidateError("a candidate has too many extensions")
        if not _FOUNDATION.fullmatch(words[0]):
            raise CandidateError("a candidate's foundation must have 1 to 32 letters, digits, + and /")
        # The first of each: what is said later does not overrule it.
        extensions = dict(reversed(list(zip(words[8::2], words[9::2], strict=True))))
        extensions = {name: extensions[name] for name in words[8::2]}
        transport = _token("transport", words[2])
        if transport.lower() in ("udp", "tcp"):
            transport = transport.lower()
        related_address, related_port = extensions.pop("raddr", None), extensions.pop("rport", None)
        tcp_type = extensions.pop("tcptype", None)
        for name in extensions:
            _token("extension", name)
        return cls(
            foundation=words[0],
            component=_number("component", words[1], 1, 256),
            transport=transport,
            priority=_number("priority", words[3], 1, 2**32 - 1),
            host=_host("address", words[4]),
            port=_number("port", words[5], 0 if transport == "tcp" else 1, 65535),
            type=_token("type", words[7]),
            related_address=None if related_address is None else _host("related address", related_address),
            related_port=None if related_port is None else _number("related port", related_port, 0, 65535),
            tcp_type=None if tcp_type is None else _token("tcptype", tcp_type),
            extensions=extensions,
        )

    def to_sdp(self) -> str:
        """The attribute's value, without ``candidate:``."""
        words = [self.foundation, str(self.component), self.transport, str(self.priority), self.host]
        words += [str(self.port), "typ", self.type]
        if self.related_address is not None:
            words += ["raddr", self.related_address]
        if self.related_port is not None:
            words += ["rport", str(self.related_port)]
        if self.tcp_type is not None:
            words += ["tcptype", self.tcp_type]
        for name, value in self.extensions.items():
            words += [name, value]
        return " ".join(words)

    @property
    def is_mdns(self) -> bool:
        """Whether the host is a name under ``.local``, which browsers hide addresses behind."""
        return self.host.lower().endswith(".local")

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, so that datagrams can be sent to it without asking anybody."""
        return _is_ip(self.host)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _number(what: str, word: str, least: int, most: int) -> int:
    if not _NUMBER.fullmatch(word) or not least <= int(word) <= most:
        raise CandidateError(f"a candidate's {what} must be a number from {least} to {most}")
    return int(word)


def _token(what: str, word: str) -> str:
    if not _TOKEN.fullmatch(word):
        raise CandidateError(f"a candidate's {what} has characters that it must not have")
    return word


def _host(what: str, word: str) -> str:
    if not _NAME.fullmatch(word) and not _is_ip(word):
        raise CandidateError(f"a candidate's {what} is neither an IP address nor a name")
    return word


def candidate_priority(kind: str, *, component: int = 1, local_preference: int = 65535) -> int:
    """A candidate's priority (RFC 8445 §5.1.2.1).

    :param kind: the candidate's type; one that is not known counts as a relay's.
    :param local_preference: 0 to 65535, more for addresses that are preferred.
    """
    return TYPE_PREFERENCES.get(kind, 0) << 24 | local_preference << 8 | 256 - component


def candidate_foundation(kind: str, base: str, *, transport: str = "udp", server: str = "") -> str:
    """A foundation: equal when type, base address, protocol and server are (RFC 8445 §5.1.1.3)."""
    return str(zlib.crc32(" ".join((kind, base, transport, server)).encode()))


def pair_priority(controlling: int, controlled: int) -> int:
    """A pair's priority from those of the controlling and the controlled side's candidates (RFC 8445 §6.1.2.3)."""
    return (
        (min(controlling, controlled) << 32) + 2 * max(controlling, controlled) + (controlling > controlled)
    )
