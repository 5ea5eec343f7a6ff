"""Connectivity: one UDP port for all sessions, lite and full ICE above it (RFC 8445, RFC 8838, RFC 7675)."""

from mediapeer.ice.addresses import host_addresses
from mediapeer.ice.candidate import Candidate, CandidateError, IceParameters
from mediapeer.ice.liveness import Liveness, PathLiveness
from mediapeer.ice.mux import MuxSession, MuxSocket, UdpMux
from mediapeer.ice.options import GatheringState, IceOptions, IceServer, IceState, ServerUrl
from mediapeer.ice.pair import CandidatePair, PairState
from mediapeer.ice.transport import IceTransport

__all__ = [
    "Candidate",
    "CandidateError",
    "CandidatePair",
    "GatheringState",
    "IceOptions",
    "IceParameters",
    "IceServer",
    "IceState",
    "IceTransport",
    "Liveness",
    "MuxSession",
    "MuxSocket",
    "PairState",
    "PathLiveness",
    "ServerUrl",
    "UdpMux",
    "host_addresses",
]
