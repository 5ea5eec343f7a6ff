"""aiortc's (that is, ORTC's and W3C's) names for ICE, standing on :class:`mediapeer.ice.IceTransport`."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiortc
from aiortc.exceptions import InvalidStateError

from mediapeer.ice import (
    Candidate,
    GatheringState,
    IceOptions,
    IceParameters,
    IceState,
    IceTransport,
)
from mediapeer.peer.configuration import ice_servers
from mediapeer.transport import GuardedEmitter


@dataclass
class RTCIceCandidate(aiortc.RTCIceCandidate):
    """A candidate with the section that it is for; aiortc's, which also reads and writes W3C's form of it."""

    usernameFragment: str | None = None
    "The generation of ICE that it belongs to (W3C webrtc §4.8.1.1)."

    @property
    def candidate(self) -> str:
        """The candidate as ``a=candidate`` has it, ``candidate:`` included."""
        return f"candidate:{candidate_to_ice(self).to_sdp()}"

    def toJSON(self) -> dict[str, Any]:
        """W3C's ``RTCIceCandidateInit``, which browsers send and take."""
        return {
            "candidate": self.candidate,
            "sdpMid": self.sdpMid,
            "sdpMLineIndex": self.sdpMLineIndex,
            "usernameFragment": self.usernameFragment,
        }

    @classmethod
    def fromJSON(cls, init: dict[str, Any]) -> "RTCIceCandidate | None":
        """From W3C's ``RTCIceCandidateInit``; ``None`` for the empty candidate, which is their end.

        :raises ValueError: when it does not parse.
        """
        text = init.get("candidate", "")
        if not isinstance(text, str):
            raise ValueError("an ICE candidate's member candidate is a string")
        mid, index, ufrag = section_of_candidate(init)
        if not text:
            return None
        return candidate_from_ice(Candidate.from_sdp(text), mid, index, ufrag)


def section_of_candidate(
    candidate: aiortc.RTCIceCandidate | dict[str, Any] | None,
) -> tuple[str | None, int | None, str | None]:
    """The section that a candidate is for, by its mid or its index, and the generation of ICE.

    :raises ValueError: when it is no candidate, or these are not what they must be.
    """
    if isinstance(candidate, dict):
        mid, index, ufrag = (candidate.get(name) for name in ("sdpMid", "sdpMLineIndex", "usernameFragment"))
    elif isinstance(candidate, aiortc.RTCIceCandidate):
        mid, index = candidate.sdpMid, candidate.sdpMLineIndex
        ufrag = getattr(candidate, "usernameFragment", None)
    elif candidate is None:
        return None, None, None
    else:
        raise ValueError("an ICE candidate is an RTCIceCandidate, a dictionary, or None")
    if (
        not isinstance(mid, str | None)
        or not isinstance(index, int | None)
        or not isinstance(ufrag, str | None)
    ):
        raise ValueError("an ICE candidate names its section by a string and an integer")
    return mid, index, ufrag


def candidate_from_ice(
    candidate: Candidate, mid: str | None = None, index: int | None = None, ufrag: str | None = None
) -> RTCIceCandidate:
    """A candidate as the program sees it."""
    return RTCIceCandidate(
        component=candidate.component,
        foundation=candidate.foundation,
        ip=candidate.host,
        port=candidate.port,
        priority=candidate.priority,
        protocol=candidate.transport,
        type=candidate.type,
        relatedAddress=candidate.related_address,
        relatedPort=candidate.related_port,
        sdpMid=mid,
        sdpMLineIndex=index,
        tcpType=candidate.tcp_type,
        usernameFragment=ufrag,
    )


def candidate_to_ice(candidate: aiortc.RTCIceCandidate) -> Candidate:
    """A candidate as ICE sees it.

    :raises ValueError: when a member of it cannot be.
    """
    parts: list[object] = [
        candidate.foundation, candidate.component, candidate.protocol, candidate.priority,
        candidate.ip, candidate.port, "typ", candidate.type,
    ]  # fmt: skip
    if candidate.relatedAddress is not None:
        parts += ["raddr", candidate.relatedAddress]
    if candidate.relatedPort is not None:
        parts += ["rport", candidate.relatedPort]
    if candidate.tcpType is not None:
        parts += ["tcptype", candidate.tcpType]
    return Candidate.from_sdp(" ".join(str(part) for part in parts))


#: ORTC says "completed" where W3C says "complete"; aiortc's gatherer has ORTC's word.
_GATHERER_STATES = {
    GatheringState.NEW: "new",
    GatheringState.GATHERING: "gathering",
    GatheringState.COMPLETE: "completed",
}


class RTCIceGatherer(GuardedEmitter):
    """Gathers candidates. Emits ``statechange``.

    :param iceServers: STUN and TURN servers; none by default.
    :param iceAddresses: the addresses of host candidates, or ``None`` for all of this machine's.
    :param ice: the transport it is part of; one of its own by default.
    :raises ValueError: when an address or a server's URL does not parse.
    """

    def __init__(
        self,
        iceServers: list[aiortc.RTCIceServer] | None = None,
        iceTransportPolicy: aiortc.RTCIceTransportPolicy = aiortc.RTCIceTransportPolicy.ALL,
        iceAddresses: Sequence[str] | None = None,
        *,
        ice: IceTransport | None = None,
    ) -> None:
        super().__init__()
        self._ice = ice or IceTransport(
            IceOptions(
                addresses=iceAddresses,
                servers=ice_servers(iceServers),
                relay_only=iceTransportPolicy is aiortc.RTCIceTransportPolicy.RELAY,
            ),
            controlling=False,
        )
        if ice is None:
            self._ice.on_gathering = lambda _: self._emit_state()

    @property
    def state(self) -> str:
        """One of ``new``, ``gathering``, ``completed``."""
        return _GATHERER_STATES[self._ice.gathering_state]

    async def gather(self) -> None:
        """Gather candidates, and wait until they are all there; a few seconds at the most."""
        await self._ice.gather()

    @classmethod
    def getDefaultIceServers(cls) -> list[aiortc.RTCIceServer]:
        """No server is asked unless one is named."""
        return []

    def getLocalCandidates(self) -> list[RTCIceCandidate]:
        """The candidates so far."""
        return [candidate_from_ice(candidate) for candidate in self._ice.local_candidates]

    def getLocalParameters(self) -> aiortc.RTCIceParameters:
        """Our credentials."""
        return _parameters(self._ice.local_parameters)

    def _emit_state(self) -> None:
        self.emit("statechange")


class RTCIceTransport(GuardedEmitter):
    """The path that ICE found. Emits ``statechange``.

    :param gatherer: what gathers for it.
    """

    def __init__(self, gatherer: RTCIceGatherer | IceTransport) -> None:
        super().__init__()
        if isinstance(gatherer, IceTransport):
            gatherer = RTCIceGatherer(ice=gatherer)
        else:
            gatherer._ice.on_state = self._on_state
        self._gatherer = gatherer
        self._ice = gatherer._ice
        self._settled = asyncio.Event()

    @property
    def iceGatherer(self) -> RTCIceGatherer:
        """What gathers for it."""
        return self._gatherer

    @property
    def role(self) -> str:
        """``controlling`` or ``controlled``."""
        return "controlling" if self._ice.controlling else "controlled"

    @property
    def controlling(self) -> bool:
        """Whether this end chooses the pair."""
        return self._ice.controlling

    @property
    def on_datagram(self) -> Callable[[bytes], None] | None:
        """Given each datagram that comes from a checked address and is no STUN."""
        return self._ice.on_datagram

    @on_datagram.setter
    def on_datagram(self, taker: Callable[[bytes], None] | None) -> None:
        self._ice.on_datagram = taker

    @property
    def state(self) -> str:
        """One of ``new``, ``checking``, ``connected``, ``completed``, ``disconnected``, ``failed``, ``closed``."""
        return self._ice.state.value

    async def addRemoteCandidate(self, candidate: aiortc.RTCIceCandidate | None) -> None:
        """Take a candidate of the peer, or ``None``, which is their end.

        :raises ValueError: when a member of it cannot be.
        """
        self._ice.add_remote_candidate(None if candidate is None else candidate_to_ice(candidate))

    def getRemoteCandidates(self) -> list[RTCIceCandidate]:
        """The peer's candidates so far."""
        return [candidate_from_ice(candidate) for candidate in self._ice.remote_candidates]

    async def start(self, remoteParameters: aiortc.RTCIceParameters) -> None:
        """Check candidates against the peer's until there is a path, or none.

        :raises InvalidStateError: when the transport is closed.
        :raises ValueError: when there is no user name or no password.
        """
        if self._ice.state is IceState.CLOSED:
            raise InvalidStateError("the ICE transport is closed")
        if not remoteParameters.usernameFragment or not remoteParameters.password:
            raise ValueError("the peer's ICE parameters have no user name or no password")
        if self._ice.state is IceState.NEW:
            self._ice.start(
                IceParameters(
                    remoteParameters.usernameFragment, remoteParameters.password, remoteParameters.iceLite
                )
            )
        await self._settled.wait()

    async def stop(self) -> None:
        """End it for good."""
        await self._ice.close()

    # What the DTLS transport above sees

    @property
    def counters(self) -> Counter[str]:
        """What ICE dropped and why."""
        return self._ice.counters

    @property
    def round_trip_time(self) -> float | None:
        """Seconds that the last check of the selected pair took."""
        return self._ice.round_trip_time

    @property
    def arrival(self) -> float:
        """When the datagram that is being handed up came, in seconds of the event loop's clock."""
        return self._ice.arrival

    def heard(self) -> None:
        """An authenticated packet of the peer came: the path is alive."""
        self._ice.heard()

    def send_datagram(self, data: bytes, *, droppable: bool = False) -> None:
        """Send over the selected pair, at once.

        :param droppable: whether it goes first when there is no room.
        :raises ConnectionError: when there is none (yet, or any more).
        """
        self._ice.send_datagram(data, droppable=droppable)

    def _on_state(self, state: IceState) -> None:
        if state not in (IceState.NEW, IceState.CHECKING):
            self._settled.set()
        self.emit("statechange")


def _parameters(parameters: IceParameters) -> aiortc.RTCIceParameters:
    return aiortc.RTCIceParameters(
        usernameFragment=parameters.username_fragment, password=parameters.password, iceLite=parameters.lite
    )
