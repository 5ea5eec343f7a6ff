"""What two descriptions of an audio or video section have in common: codecs, header extensions, simulcast."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters

from mediapeer.peer.codecs import (
    RID_URI,
    CodecPreferences,
    CodecRegistry,
    SupportedCodec,
    codec_parameters,
    identity,
    redundant_payload_types,
)
from mediapeer.peer.directions import is_receiving, is_sending
from mediapeer.peer.identifiers import ExtensionIds, PayloadTypes
from mediapeer.sdp import Codec, HeaderExtension, MediaDescription, Rid, RidRef, Simulcast

#: How many simulcast streams are received from one section.
MAXIMUM_RIDS = 8

_PAYLOAD_TYPE = re.compile("[0-9]{1,3}")


@dataclass(frozen=True)
class AgreedCodec:
    """A format that both sides have. ``supported`` is that of its primary format in case of retransmissions."""

    local: Codec
    "As our description has it: what the peer may send."
    remote: Codec
    "As the peer's description has it: what we may send."
    supported: SupportedCodec

    @property
    def is_rtx(self) -> bool:
        """Whether it carries retransmissions (RFC 4588)."""
        return self.local.name.lower() == "rtx"

    def fits(self, direction: str) -> bool:
        """Whether it is of use in a section of that direction, seen from here."""
        if direction == "inactive":
            return True
        sends = is_sending(direction) and self.supported.sends
        return sends or (is_receiving(direction) and self.supported.receives)


def agree_on_offer(
    registry: CodecRegistry,
    kind: str,
    offered: Sequence[Codec],
    preferences: CodecPreferences | None = None,
) -> list[AgreedCodec]:
    """What an answer takes of the peer's formats, in the offer's order or in that of the preferences.

    Payload types stay those of the offer (RFC 3264 §6.1).
    """
    primary: dict[int, AgreedCodec] = {}
    for codec in offered:
        supported = registry.find(kind, codec)
        if supported is not None and (preferences is None or supported in preferences.codecs):
            primary[codec.payload_type] = AgreedCodec(supported.answer(codec), codec, supported)
    takes_rtx = registry.rtx and (preferences is None or preferences.rtx)
    rtx: dict[int, AgreedCodec] = {}
    for codec in offered:
        apt = _apt(codec)
        if takes_rtx and apt in primary and codec.clock_rate == primary[apt].local.clock_rate:
            local = replace(codec, parameters={"apt": str(apt)}, feedback=(), fmtp=None)
            rtx.setdefault(apt, AgreedCodec(local, codec, primary[apt].supported))
    red = registry.red
    if kind == "audio" and red is not None and (preferences is None or red in preferences.codecs):
        for codec in offered:
            if _carried(codec, primary) is not None:
                primary[codec.payload_type] = AgreedCodec(_red(codec, red), codec, red)
    order = preferences or registry.order
    if order is None:
        taken = {id(agreed.remote): agreed for agreed in (*primary.values(), *rtx.values())}
        return [taken[id(codec)] for codec in offered if id(codec) in taken]
    ordered = sorted(primary.items(), key=lambda item: order.codecs.index(item[1].supported))
    return [agreed for number, codec in ordered for agreed in (codec, rtx.get(number)) if agreed is not None]


def _red(offered: Codec, supported: SupportedCodec) -> Codec:
    """Redundant audio as an answer accepts it."""
    blocks: dict[str, str | None] = {"/".join(redundant_payload_types(offered)): None}
    feedback = tuple(item for item in offered.feedback if item in supported.feedback)
    return replace(offered, parameters=blocks, feedback=feedback, fmtp=None)


def _blocks(codec: Codec) -> set[int]:
    """The payload types that redundant audio names; -1 for one that cannot be read, or none."""
    numbers = set(redundant_payload_types(codec)) or {""}
    return {int(number) if _PAYLOAD_TYPE.fullmatch(number) else -1 for number in numbers}


def _carried(codec: Codec, primary: Mapping[int, AgreedCodec]) -> AgreedCodec | None:
    """The format in redundant audio, if it is Opus alone, and agreed on (RFC 2198 §5)."""
    if (codec.name.lower(), codec.clock_rate) != ("red", 48000):
        return None
    number, *others = _blocks(codec)
    carried = primary.get(number)
    is_opus = carried is not None and carried.local.name.lower() == "opus"
    return carried if is_opus and not others else None


def agree_on_answer(
    registry: CodecRegistry, kind: str, offered: Sequence[Codec], answered: Sequence[Codec]
) -> list[AgreedCodec]:
    """What the peer's answer takes of our formats, in its order. Its payload types may be others than ours."""
    by_number = {codec.payload_type: codec for codec in offered}
    by_identity = {identity(kind, codec): codec for codec in reversed(offered)}
    found: dict[int, AgreedCodec] = {}
    for codec in answered:
        supported, wanted = registry.find(kind, codec), identity(kind, codec)
        local = by_number.get(codec.payload_type)
        if local is None or identity(kind, local) != wanted:
            local = by_identity.get(wanted)
        if supported is not None and local is not None:
            feedback = tuple(item for item in local.feedback if item in codec.feedback)
            found[codec.payload_type] = AgreedCodec(replace(local, feedback=feedback), codec, supported)
    red = registry.red
    agreed = []
    for codec in answered:
        apt = _apt(codec)
        if codec.payload_type in found:
            agreed.append(found[codec.payload_type])
        elif apt in found:
            ours = found[apt].local.payload_type
            local = next((candidate for candidate in offered if _apt(candidate) == ours), None)
            if local is not None:
                agreed.append(AgreedCodec(local, codec, found[apt].supported))
        elif kind == "audio" and red is not None and (carried := _carried(codec, found)) is not None:
            at = {carried.local.payload_type: carried}
            local = next((candidate for candidate in offered if _carried(candidate, at)), None)
            if local is not None:
                agreed.append(AgreedCodec(local, codec, red))
    return agreed


def _apt(codec: Codec) -> int:
    """The primary payload type of retransmissions, -1 for anything else (RFC 4588 §8.6)."""
    apt = codec.parameter("apt") if codec.name.lower() == "rtx" else None
    return -1 if apt is None else int(apt)


def sends_anything(agreed: Iterable[AgreedCodec]) -> bool:
    """Whether there is a codec that we can send."""
    return any(codec.supported.sends for codec in agreed)


def receives_anything(agreed: Iterable[AgreedCodec]) -> bool:
    """Whether there is a codec that we can receive."""
    return any(codec.supported.receives for codec in agreed)


def send_parameters(kind: str, agreed: Iterable[AgreedCodec]) -> tuple[RTCRtpCodecParameters, ...]:
    """What a sender may use: first what we encode, in the peer's order, then what only an encoded track can give."""
    return tuple(
        codec_parameters(
            kind,
            replace(
                codec.remote,
                feedback=tuple(item for item in codec.remote.feedback if item in codec.supported.feedback),
            ),
            "rtx" if codec.is_rtx else codec.supported.name,
        )
        for codec in sorted(agreed, key=lambda codec: not codec.supported.encodes)
        if codec.supported.sends
    )


def receive_parameters(kind: str, agreed: Iterable[AgreedCodec]) -> tuple[RTCRtpCodecParameters, ...]:
    """What a receiver must be ready for."""
    return tuple(
        codec_parameters(kind, codec.local, "rtx" if codec.is_rtx else codec.supported.name)
        for codec in agreed
        if codec.supported.receives
    )


def formats_to_offer(
    registry: CodecRegistry,
    kind: str,
    direction: str,
    numbers: PayloadTypes,
    *,
    agreed: Sequence[AgreedCodec] = (),
    preferences: CodecPreferences | None = None,
) -> list[Codec]:
    """The formats of a section in an offer: first what the last answer took, then the others (RFC 9429 §5.2.2)."""
    primary: dict[SupportedCodec, Codec] = {}
    for old in agreed:
        if not old.is_rtx and old.fits(direction):
            primary.setdefault(old.supported, replace(old.local, feedback=old.supported.feedback))
    for supported in registry.usable(kind, direction):
        codec = supported.with_payload_type(supported.payload_type)
        if supported.is_red:
            codec = replace(codec, parameters=_redundant_opus(registry, primary, numbers))
        wanted = identity(kind, codec)
        if supported not in primary and supported.offered and wanted is not None:
            number = numbers.assign(wanted, supported.payload_type)
            if number is not None:
                primary[supported] = replace(codec, payload_type=number)
    order = list(primary) if preferences is None else [item for item in preferences.codecs if item in primary]
    carried = {primary[supported].payload_type for supported in order}
    order = [item for item in order if not item.is_red or _blocks(primary[item]) <= carried]
    rtx = kind == "video" and registry.rtx and (preferences is None or preferences.rtx)
    formats = []
    for supported in order:
        codec = primary[supported]
        formats.append(codec)
        if rtx:
            parameters: dict[str, str | None] = {"apt": str(codec.payload_type)}
            retransmission = Codec(0, "rtx", codec.clock_rate, None, parameters)
            wanted = identity(kind, retransmission)
            number = None if wanted is None else numbers.assign(wanted, _next_to(codec.payload_type))
            if number is not None:
                formats.append(replace(retransmission, payload_type=number))
    return formats


def _redundant_opus(
    registry: CodecRegistry, primary: Mapping[SupportedCodec, Codec], numbers: PayloadTypes
) -> dict[str, str | None]:
    """The parameters of redundant audio in an offer: one block before the present one."""
    opus = next((codec for codec in registry.codecs if codec.name == "opus"), None)
    wanted = opus.identity if opus is not None else None
    if opus is None or wanted is None:
        return {}
    number = primary[opus].payload_type if opus in primary else numbers.assign(wanted, opus.payload_type)
    return {f"{number}/{number}": None}


def _next_to(payload_type: int) -> int | None:
    """Where browsers put retransmissions, if it is one of the dynamic payload types."""
    following = payload_type + 1
    return following if 96 <= following < 128 or 35 <= following < 64 else None


def extensions_to_offer(
    registry: CodecRegistry,
    kind: str,
    numbers: ExtensionIds,
    agreed: Iterable[RTCRtpHeaderExtensionParameters] = (),
) -> list[HeaderExtension]:
    """The header extensions of a section in an offer: ours, and those that were agreed on before."""
    found = {extension.uri: extension.id for extension in agreed}
    for extension in registry.extensions:
        if extension.offered and kind in extension.kinds and extension.uri not in found:
            number = numbers.assign(extension.uri)
            if number is not None:
                found[extension.uri] = number
    return [HeaderExtension(number, uri) for uri, number in found.items()]


_MIRRORED = {"sendonly": "recvonly", "recvonly": "sendonly"}


def agree_on_extensions(
    registry: CodecRegistry, kind: str, offered: Iterable[HeaderExtension]
) -> list[HeaderExtension]:
    """What an answer takes of the peer's header extensions, by the offer's identifiers (RFC 8285 §6)."""
    known = {extension.uri for extension in registry.extensions if kind in extension.kinds}
    found: dict[str, HeaderExtension] = {}
    for extension in offered:
        if extension.uri in known:
            direction = _MIRRORED.get(extension.direction or "", extension.direction)
            found.setdefault(extension.uri, HeaderExtension(extension.id, extension.uri, direction))
    return list(found.values())


def extension_parameters(agreed: Iterable[HeaderExtension]) -> tuple[RTCRtpHeaderExtensionParameters, ...]:
    """Header extensions as aiortc's senders and receivers take them."""
    return tuple(RTCRtpHeaderExtensionParameters(id=extension.id, uri=extension.uri) for extension in agreed)


def agree_on_simulcast(
    offered: MediaDescription, agreed: Iterable[AgreedCodec], extensions: Iterable[HeaderExtension]
) -> list[Rid]:
    """The simulcast streams of an offer that we receive, in its order, at most :data:`MAXIMUM_RIDS`.

    Of alternatives the first that can be had counts (RFC 8853 §5.3.2). Without the header extension that carries
    the RID the streams could not be told apart, so then there are none.
    """
    simulcast = offered.simulcast
    if simulcast is None or all(extension.uri != RID_URI for extension in extensions):
        return []
    usable = {codec.local.payload_type for codec in agreed if codec.supported.receives}
    by_id = {rid.id: rid for rid in offered.rids}
    found: list[Rid] = []
    for alternatives in simulcast.send[:MAXIMUM_RIDS]:
        taken = (_answered_rid(by_id[reference.id], usable) for reference in alternatives)
        rid = next(
            (rid for rid in taken if rid is not None and rid.id not in {old.id for old in found}), None
        )
        if rid is not None:
            found.append(rid)
    return found


def _answered_rid(rid: Rid, usable: set[int]) -> Rid | None:
    """The answer to a ``a=rid``: its restrictions stay, but for payload types that are not taken (RFC 8851 §6.2)."""
    restrictions = dict(rid.restrictions)
    if "pt" in restrictions:
        left = [number for number in rid.payload_types if number in usable]
        if not left:
            return None
        restrictions["pt"] = ",".join(map(str, left))
    return Rid(rid.id, "recv", restrictions)


def receiving(rids: Sequence[Rid]) -> Simulcast | None:
    """The ``a=simulcast`` that goes with received streams."""
    return Simulcast(recv=[[RidRef(rid.id)] for rid in rids]) if rids else None
