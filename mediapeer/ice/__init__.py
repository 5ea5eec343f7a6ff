"""Connectivity: full ICE on aioice, made safe to stand in front of a network (RFC 8445, RFC 7675)."""

from mediapeer.ice.connection import IceConnection
from mediapeer.ice.liveness import Liveness, PathLiveness

__all__ = ["IceConnection", "Liveness", "PathLiveness"]
