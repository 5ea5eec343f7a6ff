"""Which attributes are read where, and the judgement of a part's lines before anybody uses them."""

import functools
from collections.abc import Callable, Mapping

from mediapeer.sdp import values
from mediapeer.sdp.errors import SdpError
from mediapeer.sdp.lines import SHARED, SHARED_LENGTH, SHARED_NAMES, Attribute, Line, NumberedLine

Check = Callable[[str], object]


class Checks(dict[str, Check]):
    """What is read of the attributes of one kind of part, by their names. Told apart by identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


def _number(name: str, minimum: int, maximum: int) -> Check:
    return lambda value: values.parse_number(name, value, minimum, maximum)


_EVERYWHERE: dict[str, Check] = {
    "setup": values.parse_setup,
    "fingerprint": values.parse_fingerprint,
    "ice-ufrag": values.parse_ice_ufrag,
    "ice-pwd": values.parse_ice_pwd,
}
SESSION_CHECKS = Checks(
    {
        **_EVERYWHERE,
        "group": values.parse_group,
        "extmap": values.parse_extmap,
    }
)
MEDIA_CHECKS = Checks(
    {
        **_EVERYWHERE,
        "mid": values.parse_mid,
        "candidate": values.check_candidate,
    }
)
#: Other protocols may mean other things by these names. ``a=rid`` is not among them: a malformed one is ignored.
RTP_CHECKS = Checks(
    {
        **MEDIA_CHECKS,
        "rtcp": values.check_rtcp,
        "rtpmap": values.parse_rtpmap,
        "fmtp": values.parse_fmtp,
        "rtcp-fb": values.parse_rtcp_fb,
        "extmap": values.parse_extmap,
        "msid": values.parse_msid,
        "ssrc": values.parse_ssrc,
        "ssrc-group": values.parse_ssrc_group,
        "simulcast": values.parse_simulcast,
    }
)
SCTP_CHECKS = Checks(
    {
        **MEDIA_CHECKS,
        "sctp-port": _number("sctp-port", 0, 65_535),
        "max-message-size": _number("max-message-size", 0, (1 << 63) - 1),
    }
)
_LINE_CHECKS: Mapping[str, Check] = {"c": values.check_connection, "b": values.check_bandwidth}
#: What a part says once, if at all: of two, one reader would take the first and another the last.
_SINGLE = {"mid", "ice-ufrag", "ice-pwd", "setup", "sctp-port", "max-message-size", "simulcast"} | set(
    values.DIRECTIONS
)
#: Fingerprints of one part: of a certificate or two, by each hash. All are read for each section.
MAXIMUM_FINGERPRINTS = 16


def checks_for(protocol: str) -> Checks:
    """The checks for a media section of that transport protocol."""
    if is_rtp(protocol):
        return RTP_CHECKS
    return SCTP_CHECKS if is_sctp(protocol) else MEDIA_CHECKS


def is_rtp(protocol: str) -> bool:
    """Whether a transport protocol carries RTP, so that formats are payload types (RFC 8866 §5.14)."""
    return "RTP" in protocol.split("/")


def is_sctp(protocol: str) -> bool:
    """Whether a transport protocol carries SCTP (RFC 8841 §4)."""
    return "SCTP" in protocol.split("/")


def read_body(lines: list[NumberedLine], checks: Checks) -> tuple[list[Attribute], list[Line]]:
    """The attributes of a part and its other lines.

    :raises SdpError: when one is malformed, or says again what is said once; with its line.
    """
    attributes: list[Attribute] = []
    others: list[Line] = []
    seen: set[str] = set()
    said: dict[tuple[str, int], str] = {}
    fingerprints = 0
    for line in lines:
        try:
            if line.type == "a":
                name = line.value.partition(":")[0]
                if name in _SINGLE:
                    _check_single(name, seen)
                is_common = name in SHARED_NAMES and len(line.value) <= SHARED_LENGTH
                attribute, agreement = (_remembered if is_common else _judge)(line.value, checks)
                attributes.append(attribute)
                fingerprints += attribute.name == "fingerprint"
                if fingerprints > MAXIMUM_FINGERPRINTS:
                    raise SdpError(f"there are more than {MAXIMUM_FINGERPRINTS} fingerprints")
                if agreement is not None:
                    _check_agreement(*agreement, said)
            else:
                others.append(Line(line.type, line.value, len(attributes)))
                if line.type in _LINE_CHECKS:
                    _LINE_CHECKS[line.type](line.value)
        except SdpError as error:
            raise SdpError(error.reason, line.number) from None
    return attributes, others


def _judge(text: str, checks: Checks) -> tuple[Attribute, tuple[tuple[str, int], str] | None]:
    """The attribute in what stands behind ``a=``, and what it gives which meaning."""
    attribute = Attribute.parse(text)
    check = checks.get(attribute.name)
    value = None if check is None else check(attribute.value or "")
    if isinstance(value, values.Codec):
        return attribute, (("rtpmap", value.payload_type), value.rtpmap)
    if isinstance(value, values.HeaderExtension):
        return attribute, (("extmap", value.id), value.uri)
    return attribute, None


#: The same, once for what many descriptions say.
_remembered = functools.lru_cache(SHARED)(_judge)


def _check_single(name: str, seen: set[str]) -> None:
    if name in values.DIRECTIONS:
        if "direction" in seen:
            raise SdpError("there is more than one direction (RFC 8866 §6.7)")
        seen.add("direction")
    elif name in seen:
        raise SdpError(f"a={name} stands there twice")
    seen.add(name)


def _check_agreement(what: tuple[str, int], meaning: str, said: dict[tuple[str, int], str]) -> None:
    """Refuse a second codec for a payload type, and a second header extension for an identifier."""
    if said.setdefault(what, meaning) != meaning:
        raise SdpError(f"a={what[0]} gives {what[1]} two meanings")
