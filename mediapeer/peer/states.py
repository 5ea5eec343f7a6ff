"""The states of a connection, out of those of its paths (W3C webrtc §4.3)."""

from collections.abc import Iterable

from mediapeer.peer.path import Path


def connection_state(paths: Iterable[Path]) -> str:
    """``RTCPeerConnectionState`` of a connection that is not closed."""
    used = list(paths)
    ice = {path.rtc_ice.state for path in used}
    dtls = {path.dtls.state for path in used}
    if "failed" in ice or "failed" in dtls:
        return "failed"
    if ice <= {"new", "closed"} and dtls <= {"new", "closed"}:
        return "new"
    if "disconnected" in ice:
        return "disconnected"
    if ice & {"new", "checking"} or dtls & {"new", "connecting"}:
        return "connecting"
    return "connected"


def ice_connection_state(paths: Iterable[Path]) -> str:
    """``RTCIceConnectionState`` of a connection that is not closed."""
    states = {path.rtc_ice.state for path in paths}
    for state in ("failed", "disconnected"):
        if state in states:
            return state
    if states <= {"new", "closed"}:
        return "new"
    if states & {"new", "checking"}:
        return "checking"
    return "completed" if states <= {"completed", "closed"} else "connected"


def ice_gathering_state(paths: Iterable[Path]) -> str:
    """``RTCIceGatheringState``."""
    states = {path.ice.gathering_state.value for path in paths}
    if states == {"complete"}:
        return "complete"
    return "gathering" if "gathering" in states else "new"
