"""The peer connection: aiortc's negotiation over our transport."""

from mediapeer.peer.configuration import RTCConfiguration
from mediapeer.peer.connection import RTCPeerConnection
from mediapeer.peer.ice import RTCIceGatherer, RTCIceTransport

__all__ = ["RTCConfiguration", "RTCIceGatherer", "RTCIceTransport", "RTCPeerConnection"]
