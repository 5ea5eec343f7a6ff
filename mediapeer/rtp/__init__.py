"""RTP without sockets and clocks: packets read, routed to media sections, repaired, counted."""

from mediapeer.rtp.frame import EncodedFrame, EncodedTrack, FrameConsumer, FrameSubscription, RepairCounts
from mediapeer.rtp.layers import LayerSelector
from mediapeer.rtp.packet import RtpError, RtpPacket
from mediapeer.rtp.router import ExtensionIds, PayloadFormat, Refusal, RtpRouter, RtpSection
from mediapeer.rtp.rtx import RtxError, repaired_stream, unwrap
from mediapeer.rtp.statistics import InboundStream

__all__ = [
    "EncodedFrame",
    "EncodedTrack",
    "ExtensionIds",
    "FrameConsumer",
    "FrameSubscription",
    "InboundStream",
    "LayerSelector",
    "PayloadFormat",
    "Refusal",
    "RepairCounts",
    "RtpError",
    "RtpPacket",
    "RtpRouter",
    "RtpSection",
    "RtxError",
    "repaired_stream",
    "unwrap",
]
