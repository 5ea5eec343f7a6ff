"""From what a track gives to the payloads of packets: frames are encoded, encoded packets divided as they are."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiortc.codecs import get_encoder
from aiortc.codecs.base import Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import compute_audio_level_dbov
from av import AudioFrame, Packet, VideoFrame

from mediapeer.peer.codecs import h264_profile
from mediapeer.peer.feed import copy_frame
from mediapeer.rtp.payload import Packetizer, PayloadError, packetizer_for

logger = logging.getLogger(__name__)

#: The longest payload that is made of an encoded packet, in bytes: with all headers it fits what every path carries.
MAXIMUM_PAYLOAD = 1180
#: How many seconds of sound aiortc's encoders put into one packet.
AUDIO_PACKET_SECONDS = 0.02
#: The clock rate of all formats of pictures, in Hertz.
VIDEO_CLOCK_RATE = 90_000
#: A keyframe that comes so many seconds from now is waited for, and one that went out so recently is on its way.
SOON = 1.0
RECENT = 0.2
#: By how much the peer's estimate of the path must change for an encoder to be told: aiortc's heed no less.
BITRATE_STEP = 0.1
#: How long an estimate must have been higher for that, in seconds.
RISE_TIME = 1.0
#: The longest keyframe that is kept to be repeated, in bytes.
MAXIMUM_KEYFRAME = 2 << 20

#: The names of codecs in RTP, where libavcodec has others.
_NAMES = {"hevc": "h265", "pcm_mulaw": "pcmu", "pcm_alaw": "pcma", "adpcm_g722": "g722"}
#: What is not a codec of frames.
_AUXILIARY = frozenset({"rtx", "red", "ulpfec", "flexfec-03", "cn", "telephone-event"})

_pool: ThreadPoolExecutor | None = None


def encoder_pool() -> ThreadPoolExecutor:
    """The threads in which all senders encode: as many as there are cores. A sender has one frame in it at a time."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="mediapeer-encoder")
    return _pool


def _forget_pool() -> None:
    """Begin anew in a process that was forked: the threads are the other one's."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


class CodecNotTaken(ValueError):
    """The peer takes no format that an encoded track could be sent in."""


@dataclass(frozen=True, slots=True)
class SendFormat:
    """A format that the peer takes."""

    codec: str
    "In lower case: ``vp8``."
    payload_type: int
    clock_rate: int
    rtx_payload_type: int | None
    "The payload type of its retransmissions."
    parameters: RTCRtpCodecParameters = field(compare=False)
    "The same in aiortc's words."

    def fits(self, profile: str | None) -> int:
        """How well it fits H.264 of that profile: the higher, the better."""
        fmtp = self.parameters.parameters
        fragments = str(fmtp.get("packetization-mode", "0")) == "1"
        same = profile is not None and profile == h264_profile(str(fmtp.get("profile-level-id", "42000a")))
        return 2 * fragments + same


def send_formats(codecs: Sequence[RTCRtpCodecParameters]) -> list[SendFormat]:
    """The formats among negotiated codecs, in their order, each with its retransmissions (RFC 4588 §8.6)."""
    repairs = {
        codec.parameters.get("apt"): codec.payloadType for codec in codecs if codec.name.lower() == "rtx"
    }
    return [
        SendFormat(
            codec.name.lower(), codec.payloadType, codec.clockRate, repairs.get(codec.payloadType), codec
        )
        for codec in codecs
        if codec.name.lower() not in _AUXILIARY and codec.payloadType is not None
    ]


@dataclass(slots=True)
class OutgoingFrame:
    """A frame as it goes out: one timestamp, and the payloads of its packets."""

    format: SendFormat
    payloads: list[bytes]
    timestamp: int
    "In units of the format's clock rate, from any point, not wrapped."
    is_keyframe: bool = False
    audio_level: int | None = None
    "In -dBov."


class SteadyBitrate:
    """Which of the peer's estimates an encoder is told: for each, aiortc's are made anew, and begin with a keyframe.

    A fall is followed at once; a rise when all estimates of :data:`RISE_TIME` were higher, and to the least of them.
    """

    def __init__(self) -> None:
        self.value: int | None = None
        "What the encoder is told, in bits per second; ``None`` before the first estimate."
        self._rising_since: float | None = None
        self._least = 0

    def take(self, bits_per_second: int, now: float) -> bool:
        """Take an estimate; whether :attr:`value` has changed."""
        if self.value is None or bits_per_second < (1 - BITRATE_STEP) * self.value:
            self.value, self._rising_since = bits_per_second, None
            return True
        if bits_per_second <= (1 + BITRATE_STEP) * self.value:
            self._rising_since = None
            return False
        if self._rising_since is None:
            self._rising_since, self._least = now, bits_per_second
        self._least = min(self._least, bits_per_second)
        if now - self._rising_since < RISE_TIME:
            return False
        self.value, self._rising_since = self._least, None
        self.take(bits_per_second, now)  # what is higher still counts from now on
        return True


class FrameEncoding:
    """Encodes a program's frames with aiortc's encoders, one after the other and off the event loop.

    :param counters: told what was dropped.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._formats: list[SendFormat] = []
        self._format: SendFormat | None = None
        self._encoder: Encoder | None = None
        self._bitrate = SteadyBitrate()

    def set_formats(self, formats: Sequence[SendFormat]) -> None:
        """Encode in the first of these that there is an encoder for. One that is in use goes on."""
        self._formats = list(formats)
        if self._format not in self._formats:
            self._format = self._encoder = None

    def set_bitrate(self, bits_per_second: int, now: float) -> None:
        """How much the peer says that the path can carry. aiortc's encoders of video heed it within their bounds."""
        if self._bitrate.take(bits_per_second, now):
            self._tell_bitrate()

    def _tell_bitrate(self) -> None:
        encoder: Any = self._encoder
        if self._bitrate.value is not None and hasattr(encoder, "target_bitrate"):
            encoder.target_bitrate = self._bitrate.value

    async def encode(self, frame: AudioFrame | VideoFrame, force_keyframe: bool) -> list[OutgoingFrame]:
        """The packets of a frame; none when the encoder keeps it, or cannot take it, which is counted and logged."""
        encoder, format = self._chosen()
        if encoder is None or format is None:
            self._counters["frames_without_encoder"] += 1
            return []
        try:
            payloads, timestamp, level = await asyncio.get_running_loop().run_in_executor(
                encoder_pool(), _encode, encoder, frame, force_keyframe
            )
        except Exception as error:
            # Encoders raise many things on frames that they do not take. The next one may be taken.
            self._counters["frames_not_encoded"] += 1
            known = self._counters["frames_not_encoded"] > 1
            logger.log(
                logging.DEBUG if known else logging.ERROR,
                "a frame could not be encoded as %s and is not sent: %s: %s",
                format.codec,
                type(error).__name__,
                error,
            )
            self._encoder = None
            return []
        if isinstance(frame, VideoFrame):
            return [OutgoingFrame(format, payloads, timestamp, force_keyframe)] if payloads else []
        step = round(AUDIO_PACKET_SECONDS * format.clock_rate)
        return [
            OutgoingFrame(format, [payload], timestamp + index * step, True, level)
            for index, payload in enumerate(payloads)
        ]

    def _chosen(self) -> tuple[Encoder | None, SendFormat | None]:
        if self._encoder is not None:
            return self._encoder, self._format
        for format in self._formats:
            try:
                self._encoder = get_encoder(format.parameters)
            except ValueError:
                continue
            self._format = format
            self._tell_bitrate()
            break
        return self._encoder, self._format


def _encode(encoder: Encoder, frame: Any, force_keyframe: bool) -> tuple[list[bytes], int, int | None]:
    level = None
    if isinstance(frame, VideoFrame):
        # Encoders write to a frame, its time among other things, in steps of a 30th of a second; others may read it.
        pts, time_base = frame.pts, frame.time_base
        payloads, timestamp = encoder.encode(copy_frame(frame), force_keyframe)
        if pts is not None and time_base is not None:
            timestamp = round(pts * time_base * VIDEO_CLOCK_RATE)
        return payloads, timestamp, None
    payloads, timestamp = encoder.encode(frame, force_keyframe)
    if frame.format.name == "s16":
        level = min(127, max(0, -round(compute_audio_level_dbov(frame))))
    return payloads, timestamp, level


class PassThrough:
    """Divides packets that are encoded already.

    Nobody can be asked for a keyframe of a file. A peer that asks gets the latest one again, and no picture that
    needs others until the next: it sees a still picture at once, where it would see none, or what its decoder makes
    of pictures that are missing. If the next keyframe is due within :data:`SOON`, that is enough.

    :param counters: told what was dropped.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._formats: list[SendFormat] = []
        self._chosen: tuple[str, SendFormat] | None = None
        self._packetizer: Packetizer | None = None
        self._keyframe: bytes | None = None
        self._keyframe_at = 0.0
        self._spacing: float | None = None
        self._is_repeat_wanted = False
        self._is_held = False

    def set_formats(self, formats: Sequence[SendFormat]) -> None:
        """What the peer takes."""
        self._formats = list(formats)
        if self._chosen is not None and self._chosen[1] not in self._formats:
            self._chosen = None

    def begin(self) -> None:
        """Another track follows: it is of another codec maybe, and begins with a keyframe."""
        self._chosen = self._keyframe = self._spacing = None
        self._is_repeat_wanted = self._is_held = False

    def request_keyframe(self, now: float) -> None:
        """The peer wants a keyframe, and the track cannot make one."""
        since = now - self._keyframe_at
        is_near = self._spacing is not None and since + SOON >= self._spacing
        if self._keyframe is not None and since >= RECENT and not is_near:
            self._is_repeat_wanted = True

    def take(self, packet: "Packet[Any]", codec: str | None, now: float) -> OutgoingFrame | None:
        """The payloads of a packet; ``None`` when it is not sent.

        :param codec: of the packet; ``None`` when that is not known, and the peer's first format is meant.
        :raises CodecNotTaken: when the peer takes no format of this codec.
        """
        data = bytes(packet)
        format = self._format_for(codec, data)
        if packet.pts is None or packet.time_base is None or self._packetizer is None:
            self._counters["packets_without_time"] += 1
            return None
        is_keyframe = packet.is_keyframe or format.parameters.mimeType.startswith("audio/")
        if format.parameters.mimeType.startswith("video/"):
            chosen = self._to_send(data, is_keyframe, now)
            if chosen is None:
                return None
            data, is_keyframe = chosen
        try:
            payloads = self._packetizer.packetize(data, is_keyframe=is_keyframe, maximum=MAXIMUM_PAYLOAD)
        except PayloadError as error:
            self._counters["packets_not_divided"] += 1
            known = self._counters["packets_not_divided"] > 1
            logger.log(
                logging.DEBUG if known else logging.WARNING, "a packet of a track is not sent: %s", error
            )
            return None
        timestamp = round(packet.pts * packet.time_base * format.clock_rate)
        return OutgoingFrame(format, payloads, timestamp, is_keyframe) if payloads else None

    def _to_send(self, data: bytes, is_keyframe: bool, now: float) -> tuple[bytes, bool] | None:
        """What goes out in the place of a picture: itself, the latest keyframe, or nothing."""
        if is_keyframe:
            self._spacing = now - self._keyframe_at if self._keyframe is not None else None
            self._keyframe = data if len(data) <= MAXIMUM_KEYFRAME else None
            self._keyframe_at = now
            self._is_repeat_wanted = self._is_held = False
            return data, True
        if self._is_repeat_wanted and self._keyframe is not None:
            self._is_repeat_wanted, self._is_held = False, True
            self._counters["keyframes_repeated"] += 1
            return self._keyframe, True
        return None if self._is_held else (data, False)

    def _format_for(self, codec: str | None, data: bytes) -> SendFormat:
        codec = codec or (self._formats[0].codec if self._formats else "")
        if self._chosen is not None and self._chosen[0] == codec:
            return self._chosen[1]
        fitting = [format for format in self._formats if format.codec == codec]
        if not fitting:
            taken = ", ".join(dict.fromkeys(format.codec for format in self._formats)) or "nothing"
            raise CodecNotTaken(
                f"the track is {codec}, and the peer takes {taken}: nothing of it is sent. "
                "FilePlayer(..., transcode=True) decodes a file and encodes it anew where that is so."
            )
        if codec == "h264":
            profile = _profile_of(data)
            fitting.sort(key=lambda format: format.fits(profile), reverse=True)
        self._packetizer = packetizer_for(codec, _parameters(fitting[0]))
        if self._packetizer is None:
            raise CodecNotTaken(f"{codec} cannot be sent")
        self._chosen = (codec, fitting[0])
        return fitting[0]


def _parameters(format: SendFormat) -> Mapping[str, str | int | None]:
    return dict(format.parameters.parameters)


def _profile_of(data: bytes) -> str | None:
    """The profile that the first sequence parameter set of an Annex B stream names (ITU-T H.264 §7.3.2.1.1)."""
    position = data.find(b"\x00\x00\x01")
    while 0 <= position < len(data) - 6:
        if data[position + 3] & 0x1F == 7:
            return h264_profile(data[position + 4 : position + 7].hex())
        position = data.find(b"\x00\x00\x01", position + 3)
    return None


class PacketCodec(str):
    """The codec of a packet, as RTP calls it, in the packet's ``opaque``: so it is known behind a relay too."""


def codec_of(track: object, packet: "Packet[Any]") -> str | None:
    """The codec of a packet, as RTP calls it: as it says itself, by its track, or by the stream it was read from."""
    name: object = packet.opaque
    if not isinstance(name, PacketCodec):
        name = getattr(track, "codec", None)
    if not isinstance(name, str):
        stream = packet.stream
        name = stream.codec_context.codec.canonical_name if stream is not None else None
    return rtp_name(name) if isinstance(name, str) else None


def rtp_name(name: str) -> str:
    """The name in RTP of what libavcodec calls ``name``."""
    return _NAMES.get(name.lower(), name.lower())
