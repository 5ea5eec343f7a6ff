"""What ``getStats()`` tells, under the names of W3C webrtc-stats; aiortc's classes with the members they lack."""

from dataclasses import dataclass

import aiortc
from aiortc.stats import RTCStats


@dataclass
class RTCPeerConnectionStats(RTCStats):
    """The connection as a whole (webrtc-stats §8.15)."""

    dataChannelsOpened: int = 0
    "Data channels that were ever open."
    dataChannelsClosed: int = 0
    "Those of them that are not any more."


@dataclass
class RTCCodecStats(RTCStats):
    """A codec in use (webrtc-stats §8.5)."""

    payloadType: int
    transportId: str
    mimeType: str
    clockRate: int
    "In Hz."
    channels: int | None = None
    sdpFmtpLine: str | None = None
    "The format parameters as ``a=fmtp`` has them, without the payload type."


@dataclass
class RTCInboundRtpStreamStats(aiortc.RTCInboundRtpStreamStats):
    """A stream that comes in, one for each SSRC (webrtc-stats §8.7)."""

    mid: str = ""
    trackIdentifier: str = ""
    rid: str | None = None
    "The layer, when the other side sends several."
    codecId: str | None = None
    remoteId: str | None = None
    bytesReceived: int = 0
    "Payload bytes, without headers and padding."
    headerBytesReceived: int = 0
    retransmittedPacketsReceived: int = 0
    nackCount: int = 0
    pliCount: int = 0
    lastPacketReceivedTimestamp: float | None = None
    "Seconds on the event loop's clock."
    retransmittedBytesReceived: int = 0
    firCount: int = 0
    packetsRepaired: int = 0
    "Packets of the track, over all its streams, that were missing and came after all."
    packetsGivenUp: int = 0
    "Packets of the track that were missing and not waited for any longer. Not W3C's."
    framesReceived: int = 0
    "Whole frames; none while nobody takes the track."
    framesDecoded: int = 0
    keyFramesDecoded: int = 0
    framesDropped: int = 0
    "Frames that were to be decoded and were not."
    frameWidth: int | None = None
    "Of the last decoded picture."
    frameHeight: int | None = None


@dataclass
class RTCOutboundRtpStreamStats(aiortc.RTCOutboundRtpStreamStats):
    """A stream that goes out (webrtc-stats §8.9)."""

    mid: str = ""
    codecId: str | None = None
    remoteId: str | None = None
    active: bool = False
    "Whether the negotiation lets it flow."
    headerBytesSent: int = 0
    framesSent: int = 0
    retransmittedPacketsSent: int = 0
    retransmittedBytesSent: int = 0
    nackCount: int = 0
    "NACK packets that came."
    pliCount: int = 0
    "Requests for a keyframe that came, FIR among them."


@dataclass
class RTCRemoteInboundRtpStreamStats(aiortc.RTCRemoteInboundRtpStreamStats):
    """What the other side says of a stream that goes out (webrtc-stats §8.8)."""

    localId: str = ""
    totalRoundTripTime: float = 0.0
    roundTripTimeMeasurements: int = 0


@dataclass
class RTCRemoteOutboundRtpStreamStats(aiortc.RTCRemoteOutboundRtpStreamStats):
    """What the other side says of a stream that comes in (webrtc-stats §8.10)."""

    localId: str = ""


@dataclass
class RTCDataChannelStats(RTCStats):
    """A data channel (webrtc-stats §8.16)."""

    label: str
    protocol: str
    dataChannelIdentifier: int | None
    state: str
    "``connecting``, ``open``, ``closing`` or ``closed``."
    messagesSent: int = 0
    bytesSent: int = 0
    messagesReceived: int = 0
    bytesReceived: int = 0


@dataclass
class RTCIceCandidateStats(RTCStats):
    """A candidate of either end: its type is ``local-candidate`` or ``remote-candidate`` (webrtc-stats §8.17)."""

    transportId: str
    address: str
    port: int
    protocol: str
    candidateType: str
    "``host``, ``srflx``, ``prflx`` or ``relay``."
    priority: int
    foundation: str
    relatedAddress: str | None = None
    relatedPort: int | None = None
    tcpType: str | None = None


@dataclass
class RTCIceCandidatePairStats(RTCStats):
    """A pair of candidates (webrtc-stats §8.18)."""

    transportId: str
    localCandidateId: str
    remoteCandidateId: str
    state: str
    "``frozen``, ``waiting``, ``in-progress``, ``failed`` or ``succeeded``."
    nominated: bool
    packetsSent: int = 0
    packetsReceived: int = 0
    bytesSent: int = 0
    bytesReceived: int = 0
    currentRoundTripTime: float | None = None
    "Seconds that the latest check took."
    totalRoundTripTime: float = 0.0
    requestsSent: int = 0
    requestsReceived: int = 0
    responsesSent: int = 0
    responsesReceived: int = 0
    consentRequestsSent: int = 0
    packetsDiscardedOnSend: int = 0
    bytesDiscardedOnSend: int = 0
