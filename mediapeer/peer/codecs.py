"""Codecs: which are known, which of them we use, and when two descriptions mean the same one.

Two formats are the same codec when their :func:`identity` is equal: name, clock rate and channels, and of the format
parameters those that no decoder can do without agreeing on.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aiortc.rtcrtpparameters import (
    ParametersDict,
    RTCRtcpFeedback,
    RTCRtpCapabilities,
    RTCRtpCodecCapability,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionCapability,
)

from mediapeer.sdp import Codec

MEDIA_KINDS = ("audio", "video")
#: Formats that carry other formats, and nothing of their own.
AUXILIARY = frozenset({"rtx", "red", "ulpfec", "flexfec-03", "flexfec", "cn", "telephone-event"})
#: All formats that have a name here, with their clock rates in Hz; a registry says which of them are used.
KNOWN: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "audio": {
        "opus": (48000,),
        "red": (48000, 8000),
        "G722": (8000,),
        "PCMU": (8000,),
        "PCMA": (8000,),
        "CN": (8000, 16000, 32000, 48000),
        "telephone-event": (8000, 16000, 32000, 48000),
    },
    "video": dict.fromkeys(
        ("VP8", "VP9", "H264", "H265", "AV1", "rtx", "red", "ulpfec", "flexfec-03"), (90000,)
    ),
}

#: How many formats are kept as aiortc has them; a browser's offer has twenty.
_SHARED_PARAMETERS = 256
#: How many choices of codecs are kept; a program makes its choice once.
_SHARED_REGISTRIES = 16
#: Parameters that aiortc and W3C's dictionaries have as numbers.
_NUMERIC_PARAMETERS = frozenset(
    {"apt", "max-fr", "max-fs", "maxplaybackrate", "minptime", "stereo", "useinbandfec"}
)
#: Profiles of H.264 (RFC 6184 §8.1, Table 5): profile_idc, the bits of profile-iop that matter, their values.
_H264_PROFILES = (
    ("constrained-baseline", 0x42, 0x4F, 0x40),
    ("constrained-baseline", 0x4D, 0x8F, 0x80),
    ("constrained-baseline", 0x58, 0xCF, 0xC0),
    ("baseline", 0x42, 0x4F, 0x00),
    ("baseline", 0x58, 0xCF, 0x80),
    ("main", 0x4D, 0xAF, 0x00),
    ("extended", 0x58, 0xCF, 0x00),
    ("high", 0x64, 0xFF, 0x00),
    ("constrained-high", 0x64, 0xFF, 0x0C),
    ("high-10", 0x6E, 0xFF, 0x00),
    ("high-4:2:2", 0x7A, 0xFF, 0x00),
    ("high-4:4:4", 0xF4, 0xFF, 0x00),
)

CodecIdentity = tuple[str, ...]


def h264_profile(profile_level_id: str) -> str | None:
    """The profile in a ``profile-level-id``, six hexadecimal digits; ``None`` when it names none that is known."""
    try:
        number = int(profile_level_id, 16)
    except ValueError:
        return None
    if len(profile_level_id) != 6:
        return None
    idc, iop = number >> 16, number >> 8 & 0xFF
    return next(
        (name for name, code, mask, value in _H264_PROFILES if (code, value) == (idc, iop & mask)), None
    )


def _h264_format(codec: Codec) -> CodecIdentity | None:
    """RFC 6184 §8.2.2: the profile and the packetization mode are agreed on, the level is each side's."""
    profile = h264_profile(codec.parameter("profile-level-id") or "42000a")
    return None if profile is None else (profile, codec.parameter("packetization-mode") or "0")


def _h265_format(codec: Codec) -> CodecIdentity | None:
    """RFC 7798 §7.2.2: profile, tier and transmission mode; the level may differ."""
    defaults = (("profile-space", "0"), ("profile-id", "1"), ("tier-flag", "0"), ("tx-mode", "SRST"))
    return tuple(codec.parameter(name) or default for name, default in defaults)


def _vp9_format(codec: Codec) -> CodecIdentity | None:
    """RFC 9628 §6: the profile."""
    return (codec.parameter("profile-id") or "0",)


def _av1_format(codec: Codec) -> CodecIdentity | None:
    """AV1's RTP payload format §7.2: the profile; level and tier are each receiver's."""
    return (codec.parameter("profile") or "0",)


#: For each codec whose formats differ: which parameters say so, and how they are read.
_FORMATS: Mapping[str, tuple[frozenset[str], Callable[[Codec], CodecIdentity | None]]] = {
    "h264": (
        frozenset({"level-asymmetry-allowed", "packetization-mode", "profile-level-id"}),
        _h264_format,
    ),
    "h265": (
        frozenset({"profile-space", "profile-id", "tier-flag", "tx-mode", "level-id"}),
        _h265_format,
    ),
    "vp9": (frozenset({"profile-id"}), _vp9_format),
    "av1": (frozenset({"profile", "level-idx", "tier"}), _av1_format),
}


def identity(kind: str, codec: Codec) -> CodecIdentity | None:
    """What a format has to have in common with another to be the same codec; ``None`` when it cannot be read.

    Retransmissions belong to their primary format and are told apart by its payload type (RFC 4588 §8.6), redundant
    audio likewise (RFC 2198 §5).
    """
    name = codec.name.lower()
    base = (kind, name, str(codec.clock_rate), str(codec.channels or 1))
    if name == "rtx":
        apt = codec.parameter("apt")
        return None if apt is None else (*base, str(int(apt)))
    if name == "red" and kind == "audio":
        return (*base, *redundant_payload_types(codec))
    if name not in _FORMATS:
        return base
    format = _FORMATS[name][1](codec)
    return None if format is None else base + format


def redundant_payload_types(codec: Codec) -> list[str]:
    """What redundant audio carries: ``111/111`` names the payload type of each block (RFC 2198 §5)."""
    blocks = next((name for name, value in codec.parameters.items() if value is None), "")
    return [number for number in blocks.split("/") if number]


@dataclass(frozen=True)
class SupportedCodec:
    """A format that we use. ``payload_type`` is asked for first in our offers, where it is free."""

    kind: str
    name: str
    clock_rate: int
    payload_type: int
    channels: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    feedback: tuple[str, ...] = ()
    encodes: bool = True
    "Whether we can make it from pictures or sound."
    sends: bool = True
    "Whether it can be sent at all; what we do not encode, by a track that gives it encoded."
    receives: bool = True
    "Whether we can do something with it when it comes."
    offered: bool = True
    "Whether our own offers name it; if not, it is only taken from the peer's."

    @property
    def is_red(self) -> bool:
        """Whether it is redundant audio, which carries another format (RFC 2198)."""
        return (self.kind, self.name.lower()) == ("audio", "red")

    def with_payload_type(self, payload_type: int) -> Codec:
        """The format as it stands in a description."""
        channels = self.channels if self.channels != 1 else None
        return Codec(payload_type, self.name, self.clock_rate, channels, dict(self.parameters), self.feedback)

    @property
    def identity(self) -> CodecIdentity | None:
        """See :func:`identity`."""
        return identity(self.kind, self.with_payload_type(self.payload_type))

    def answer(self, offered: Codec) -> Codec:
        """The format as an answer accepts it: the payload type and the kind of format are the offer's, and what else
        is said of it is ours."""
        names = _FORMATS[self.name.lower()][0] if self.name.lower() in _FORMATS else frozenset()
        parameters: dict[str, str | None] = {
            name: value for name, value in offered.parameters.items() if name.lower() in names
        }
        if not parameters:
            parameters.update(self.parameters)
        feedback = tuple(item for item in offered.feedback if item in self.feedback)
        return replace(offered, parameters=parameters, feedback=feedback, fmtp=None)

    def capability(self) -> RTCRtpCodecCapability:
        """The codec in W3C's words (W3C webrtc §5.2.4)."""
        return RTCRtpCodecCapability(
            mimeType=f"{self.kind}/{self.name}",
            clockRate=self.clock_rate,
            channels=self.channels,
            parameters=dictionary(self.parameters),
        )


def dictionary(parameters: Mapping[str, str | None]) -> ParametersDict:
    """Format parameters as aiortc has them: some are numbers."""
    return {
        name: int(value)
        if value is not None and name in _NUMERIC_PARAMETERS and value.isascii() and value.isdigit()
        else value
        for name, value in parameters.items()
    }


def codec_parameters(kind: str, codec: Codec, name: str | None = None) -> RTCRtpCodecParameters:
    """A format of a description as aiortc's senders and receivers take it; ``name`` in the spelling they know."""
    return _codec_parameters(
        f"{kind}/{name or codec.name}",
        codec.clock_rate,
        (codec.channels or 1) if kind == "audio" else None,
        codec.payload_type,
        codec.feedback,
        tuple(codec.parameters.items()),
    )


@functools.lru_cache(_SHARED_PARAMETERS)
def _codec_parameters(
    mime_type: str,
    clock_rate: int,
    channels: int | None,
    payload_type: int,
    feedback: tuple[str, ...],
    parameters: tuple[tuple[str, str | None], ...],
) -> RTCRtpCodecParameters:
    """One object for all calls that have the format; nobody changes it."""
    found = []
    for item in feedback:
        type, _, parameter = item.partition(" ")
        found.append(RTCRtcpFeedback(type=type, parameter=parameter or None))
    return RTCRtpCodecParameters(
        mimeType=mime_type,
        clockRate=clock_rate,
        channels=channels,
        payloadType=payload_type,
        rtcpFeedback=found,
        parameters=dictionary(dict(parameters)),
    )


@dataclass(frozen=True)
class SupportedExtension:
    """An RTP header extension that we use (RFC 8285), and whether our own offers name it."""

    uri: str
    kinds: tuple[str, ...] = MEDIA_KINDS
    offered: bool = True


MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID_URI = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID_URI = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_CC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

ABS_CAPTURE_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

DEFAULT_EXTENSIONS = (
    SupportedExtension(MID_URI),
    SupportedExtension(AUDIO_LEVEL_URI, ("audio",)),
    SupportedExtension(ABS_SEND_TIME_URI),
    SupportedExtension(TRANSPORT_CC_URI),
    # Browsers take it only where they have been told to, and then name it themselves. Chromium gives an identifier
    # that it did not take to another one, and refuses a later offer of ours that keeps to it.
    SupportedExtension(ABS_CAPTURE_TIME_URI, offered=False),
    SupportedExtension(RID_URI, ("video",), offered=False),
    SupportedExtension(REPAIRED_RID_URI, ("video",), offered=False),
)
TRANSPORT_CC = "transport-cc"
_VIDEO_FEEDBACK = ("goog-remb", TRANSPORT_CC, "ccm fir", "nack", "nack pli")


def _h264(
    payload_type: int, profile_level_id: str, mode: str, *, encodes: bool = False, offered: bool = True
) -> SupportedCodec:
    parameters = {
        "level-asymmetry-allowed": "1",
        "packetization-mode": mode,
        "profile-level-id": profile_level_id,
    }
    # Without fragments a frame of a file does not fit (RFC 6184 §6.2), so mode 0 is for receiving.
    return SupportedCodec(
        "video",
        "H264",
        90000,
        payload_type,
        None,
        parameters,
        _VIDEO_FEEDBACK,
        encodes=encodes,
        sends=mode == "1",
        offered=offered,
    )


def _video(payload_type: int, name: str, **parameters: str) -> SupportedCodec:
    """A codec that aiortc has no encoder for."""
    named = {key.replace("_", "-"): value for key, value in parameters.items()}
    return SupportedCodec("video", name, 90000, payload_type, None, named, _VIDEO_FEEDBACK, encodes=False)


VP9 = _video(98, "VP9", profile_id="0")
AV1 = _video(45, "AV1", level_idx="5", profile="0", tier="0")
H265 = _video(51, "H265", level_id="180", profile_id="1", tier_flag="0", tx_mode="SRST")
#: Opus in redundant audio. It is put together for each section, since it names the payload type of what it carries.
RED = SupportedCodec("audio", "red", 48000, 63, 2, encodes=False, sends=False)

#: First what aiortc codes. Its H.264 encoder fragments, so it sends packetization mode 1 alone, and no profile above
#: Constrained Baseline. All the others are recorded as they come, and libavcodec decodes them.
DEFAULT_CODECS = (
    SupportedCodec("audio", "opus", 48000, 111, 2, feedback=(TRANSPORT_CC,)),
    RED,
    SupportedCodec("audio", "G722", 8000, 9, 1),
    SupportedCodec("audio", "PCMU", 8000, 0, 1),
    SupportedCodec("audio", "PCMA", 8000, 8, 1),
    SupportedCodec("video", "VP8", 90000, 96, feedback=_VIDEO_FEEDBACK),
    _h264(102, "42001f", "1", encodes=True),
    _h264(108, "42e01f", "1", encodes=True),
    _h264(104, "42001f", "0"),
    _h264(114, "42e01f", "0"),
    _h264(116, "4d001f", "1"),
    _h264(39, "4d001f", "0"),
    _h264(41, "64001f", "1"),
    _h264(43, "64001f", "0"),
    _h264(47, "640c1f", "1"),
    _h264(49, "640c1f", "0"),
    VP9,
    _video(100, "VP9", profile_id="2"),
    AV1,
    H265,
    # Profiles that few send: extended, High 10, High 4:2:2, High 4:4:4. An offer has no numbers to spare for them.
    *(
        _h264(number, profile, mode, offered=False)
        for number, (profile, mode) in enumerate(
            ((profile, mode) for profile in ("58001f", "6e001f", "7a001f", "f4001f") for mode in "10"), 53
        )
    ),
)


@dataclass(frozen=True)
class CodecPreferences:
    """Codecs in order, and whether RTX goes along: what :meth:`Transceiver.set_codec_preferences` was given, or what
    the registry was."""

    codecs: tuple[SupportedCodec, ...]
    rtx: bool


class CodecRegistry:
    """The codecs and header extensions that a peer connection uses, in order of preference.

    :param codecs: the first of each kind is offered first. Retransmissions belong to other formats and cannot stand
        among them. Redundant audio can: where it stands before Opus, peers that know it send it.
    :param rtx: whether retransmissions have streams of their own (RFC 4588).
    :param transport_cc: whether the peer may have transport-wide feedback, besides REMB.
    :param decides_order: whether the order is that of our answers too, instead of the offer's. Most peers send the
        first codec of an answer.
    :raises ValueError: for a codec that has no name here.
    """

    def __init__(
        self,
        codecs: Iterable[SupportedCodec] = DEFAULT_CODECS,
        *,
        extensions: Iterable[SupportedExtension] = DEFAULT_EXTENSIONS,
        rtx: bool = True,
        transport_cc: bool = True,
        decides_order: bool = False,
    ) -> None:
        self.rtx = rtx
        self.codecs = tuple(codecs)
        self.extensions = tuple(extensions)
        for codec in self.codecs:
            if codec.name == "rtx" or codec.clock_rate not in KNOWN.get(codec.kind, {}).get(codec.name, ()):
                raise ValueError(f"there is no {codec.kind} codec {codec.name}/{codec.clock_rate}")
        if not transport_cc:
            self.extensions = tuple(item for item in self.extensions if item.uri != TRANSPORT_CC_URI)
            self.codecs = tuple(
                replace(codec, feedback=tuple(item for item in codec.feedback if item != TRANSPORT_CC))
                for codec in self.codecs
            )
        self.red = next((codec for codec in self.codecs if codec.is_red), None)
        "Redundant audio, where it is used."
        self.order = CodecPreferences(self.codecs, rtx) if decides_order else None
        "The order of answers; ``None`` for the offer's."
        self._by_identity = {codec.identity: codec for codec in reversed(self.codecs) if not codec.is_red}

    @classmethod
    def of(cls, names: Iterable[str]) -> "CodecRegistry":
        """A registry of the named codecs alone, in that order, in offers and in answers.

        Retransmissions go along, and with Opus redundant audio, after it unless it is named. A kind of which nothing
        is named keeps its usual codecs.

        :param names: such as ``VP9``, ``H264``, ``opus``, in whatever case.
        :raises ValueError: when a name is not known, or there is none, or ``red`` without ``opus``.
        """
        return _registry_of(tuple(name.strip().lower() for name in names))

    def find(self, kind: str, codec: Codec) -> SupportedCodec | None:
        """Our codec that a format of a description means by itself, or ``None``."""
        wanted = identity(kind, codec)
        return None if wanted is None else self._by_identity.get(wanted)

    def usable(self, kind: str, direction: str) -> list[SupportedCodec]:
        """The codecs for a section of that direction, seen from here.

        One that sends and receives has those codecs too that can do only one of both (RFC 3264 §6.1): which of them
        the other side gets to see is the sender's choice. An inactive one has them all.
        """
        sends, receives = direction != "recvonly", direction != "sendonly"
        return [
            codec
            for codec in self.codecs
            if codec.kind == kind and ((codec.sends and sends) or (codec.receives and receives))
        ]

    def capabilities(self, kind: str, direction: str) -> RTCRtpCapabilities:
        """What ``getCapabilities`` says, for ``sendonly`` or ``recvonly`` (W3C webrtc §5.2.4).

        What can be sent is what we encode: a track that gives something else encoded needs no capability.

        :raises ValueError: for a kind that is neither audio nor video.
        """
        if kind not in MEDIA_KINDS:
            raise ValueError(f"there are no capabilities for media of kind {kind!r}")
        usable = [codec for codec in self.usable(kind, direction) if codec.encodes or direction != "sendonly"]
        codecs = [codec.capability() for codec in usable]
        if kind == "video" and self.rtx:
            codecs.append(RTCRtpCodecCapability(mimeType="video/rtx", clockRate=90000))
        extensions = [
            RTCRtpHeaderExtensionCapability(uri=extension.uri)
            for extension in self.extensions
            if kind in extension.kinds
        ]
        return RTCRtpCapabilities(codecs=codecs, headerExtensions=extensions)

    def preferences(self, kind: str, wanted: Sequence[RTCRtpCodecCapability]) -> CodecPreferences:
        """Check what ``setCodecPreferences`` is given (W3C webrtc §5.4.2).

        :raises ValueError: when one of them is no capability, or all of them are auxiliary.
        """
        found: dict[SupportedCodec, None] = {}
        rtx = False
        for capability in wanted:
            if capability.mimeType.lower() == "video/rtx" and kind == "video" and self.rtx:
                rtx = True
                continue
            match = next(
                (
                    codec
                    for codec in self.codecs
                    if codec.kind == kind and _is_same_capability(codec, capability)
                ),
                None,
            )
            if match is None:
                raise ValueError(f"{capability.mimeType} as it is given is not among the {kind} capabilities")
            found[match] = None
        if all(codec.name.lower() in AUXILIARY for codec in found):
            raise ValueError("preferences need one codec that carries media itself")
        return CodecPreferences(tuple(found), rtx)


#: What a program can name, as it is spelled in descriptions.
NAMES = tuple(dict.fromkeys(codec.name for codec in DEFAULT_CODECS))
#: What is used unless a program names codecs. Nothing in it changes, and it takes time to make.
DEFAULT_REGISTRY = CodecRegistry()


@functools.lru_cache(_SHARED_REGISTRIES)
def _registry_of(names: tuple[str, ...]) -> CodecRegistry:
    """One registry for all connections that name the same."""
    by_name: dict[str, list[SupportedCodec]] = {}
    for codec in DEFAULT_CODECS:
        by_name.setdefault(codec.name.lower(), []).append(codec)
    for name in names:
        if name not in by_name:
            raise ValueError(f"there is no codec {name!r}; those there are: {', '.join(NAMES)}")
    if not names:
        raise ValueError(f"no codec is named; those there are: {', '.join(NAMES)}")
    if "red" in names and "opus" not in names:
        raise ValueError("red carries opus: name that too")
    wanted = [codec for name in dict.fromkeys(names) for codec in by_name[name]]
    if "opus" in names and "red" not in names:
        wanted.insert(next(index for index, codec in enumerate(wanted) if codec.name == "opus") + 1, RED)
    kinds = {codec.kind for codec in wanted}
    return CodecRegistry(
        (*wanted, *(codec for codec in DEFAULT_CODECS if codec.kind not in kinds)), decides_order=True
    )


def _is_same_capability(codec: SupportedCodec, capability: RTCRtpCodecCapability) -> bool:
    parameters = {name: str(value) for name, value in capability.parameters.items()}
    return (
        capability.mimeType.lower() == f"{codec.kind}/{codec.name}".lower()
        and capability.clockRate == codec.clock_rate
        and (capability.channels or 1) == (codec.channels or 1)
        and parameters == dict(codec.parameters)
    )
