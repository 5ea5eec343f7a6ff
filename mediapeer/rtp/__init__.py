"""RTP without sockets and clocks: packets read, routed to media sections, repaired, made frames, counted."""

from mediapeer.rtp.clock import SenderClock
from mediapeer.rtp.frame import EncodedFrame, EncodedTrack, FrameConsumer, FrameSubscription, RepairCounts
from mediapeer.rtp.packet import RtpError, RtpPacket
from mediapeer.rtp.router import ExtensionIds, PayloadFormat, Refusal, RtpRouter, RtpSection
from mediapeer.rtp.rtx import RtxError, repaired_stream, unwrap
from mediapeer.rtp.section import KeyframeRequest, NackRequest, SectionReceiver
from mediapeer.rtp.statistics import InboundStream

__all__ = [
    "EncodedFrame",
    "EncodedTrack",
    "ExtensionIds",
    "FrameConsumer",
    "FrameSubscription",
    "InboundStream",
    "KeyframeRequest",
    "NackRequest",
    "PayloadFormat",
    "Refusal",
    "RepairCounts",
    "RtpError",
    "RtpPacket",
    "RtpRouter",
    "RtpSection",
    "RtxError",
    "SectionReceiver",
    "SenderClock",
    "repaired_stream",
    "unwrap",
]
