"""What comes out of RTP: encoded frames, and who gives and takes them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class EncodedFrame:
    """A picture, or a piece of sound, as the peer has encoded it. Readers share one: it is not written to."""

    codec: str
    "In lower case: ``vp8``, ``vp9``, ``h264``, ``h265``, ``av1``, ``opus``, ``g722``, ``pcmu``, ``pcma``."
    data: bytes
    """The bitstream. H.264 and H.265: an access unit with start codes (Annex B). AV1: a temporal unit of OBUs with
    their sizes and without its delimiter. VP9 with spatial layers: a superframe, with its index."""
    ssrc: int
    "The source it came from; another one after a change of simulcast layers."
    timestamp: int
    "The RTP timestamp, in units of ``clock_rate``, modulo 2^32."
    clock_rate: int
    "In Hertz."
    arrival: float
    "When the first of its packets came, in seconds of the event loop's clock."
    is_keyframe: bool
    "Whether it needs no other to be decoded. Of sound: always."
    payload_type: int = 0
    width: int | None = None
    "In pixels, where the bitstream says so: in keyframes."
    height: int | None = None
    spatial_layer: int | None = None
    temporal_layer: int | None = None
    duration: int | None = None
    "In units of ``clock_rate``, where the bitstream says so: of sound."
    lost_before: int = 0
    "How many packets were given up between the frame before this one and this one, of the same source."
    captured_at: float | None = None
    """When it was captured by the sender's clock, in seconds since 1900 (NTP), once sender reports say so
    (RFC 3550 §6.4.1), or by abs-capture-time."""
    rid: str | None = None
    "The simulcast layer it is of (RFC 8852)."


@dataclass(slots=True)
class RepairCounts:
    """What has become of the packets of a track, all of its sources together."""

    received: int = 0
    "Packets that came, retransmissions not counted twice."
    lost: int = 0
    "Packets that were missing when their successors came."
    repaired: int = 0
    "Those of the lost that came after all: late, retransmitted, or in redundant audio."
    given_up: int = 0
    "Those of the lost that were not waited for any longer."


class FrameConsumer(Protocol):
    """Takes the encoded frames of a track, on the event loop. Neither method may block."""

    def take_frame(self, frame: EncodedFrame) -> None:
        """Take the next frame, in the order of the source."""

    def end(self) -> None:
        """No frame follows: the track has ended."""


class FrameSubscription(Protocol):
    """What a consumer holds while it gets frames."""

    @property
    def counts(self) -> RepairCounts:
        """Of the track, since the call began."""

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe. It may be asked for often; the sender is asked twice a second at most."""

    def close(self) -> None:
        """Get no more frames. Idempotent."""


class EncodedTrack(Protocol):
    """A track whose encoded frames can be had. Nothing is decoded for it."""

    @property
    def kind(self) -> str:
        """``audio`` or ``video``."""

    @property
    def id(self) -> str:
        """Its name in the session."""

    @property
    def cname(self) -> str | None:
        """The canonical name of its sender (RFC 3550 §6.5.1): tracks that share it share a clock."""

    def subscribe(self, consumer: FrameConsumer) -> FrameSubscription:
        """Give every frame from now on to ``consumer``; of video, a keyframe is asked for."""
