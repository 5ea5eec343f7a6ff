"""aiortc's ICE classes, standing on our ICE agent."""

from collections import Counter
from collections.abc import Sequence

import aiortc
from aiortc.rtcicetransport import ICE_TRANSPORT_POLICIES, connection_kwargs

from mediapeer.ice import IceConnection, Liveness
from mediapeer.ice.addresses import check_addresses
from mediapeer.transport import GuardedEmitter


class RTCIceGatherer(GuardedEmitter, aiortc.RTCIceGatherer):
    """Gathers candidates through :class:`mediapeer.ice.IceConnection`.

    :param iceServers: STUN and TURN servers; none by default.
    :param iceAddresses: the addresses of host candidates, or ``None`` for all of this machine's.
    :raises ValueError: when an address or a server's URL does not parse.
    """

    def __init__(
        self,
        iceServers: list[aiortc.RTCIceServer] | None = None,
        iceTransportPolicy: aiortc.RTCIceTransportPolicy = aiortc.RTCIceTransportPolicy.ALL,
        local_username: str | None = None,
        local_password: str | None = None,
        iceAddresses: Sequence[str] | None = None,
    ) -> None:
        servers = iceServers or []
        # The base class makes a connection of its own, which has opened nothing yet; ours takes its place.
        super().__init__(servers, iceTransportPolicy, local_username, local_password)
        self._connection: IceConnection = IceConnection(
            ice_controlling=False,
            addresses=None if iceAddresses is None else check_addresses(iceAddresses),
            local_username=local_username,
            local_password=local_password,
            transport_policy=ICE_TRANSPORT_POLICIES[iceTransportPolicy],
            **connection_kwargs(servers),
        )

    @classmethod
    def getDefaultIceServers(cls) -> list[aiortc.RTCIceServer]:
        """No server is asked unless one is named."""
        return []


class RTCIceTransport(GuardedEmitter, aiortc.RTCIceTransport):
    """aiortc's ICE transport, which also tells when the path goes quiet.

    Emits ``statechange`` as aiortc's does, and ``livenesschange`` when :attr:`disconnected` changes.
    """

    _connection: IceConnection

    def __init__(self, gatherer: RTCIceGatherer) -> None:
        super().__init__(gatherer)
        self._connection.on_liveness = self._on_liveness

    @property
    def disconnected(self) -> bool:
        """Whether nothing authentic came from the peer for some seconds, though the path is not given up."""
        return self.state == "completed" and self._connection.liveness is not Liveness.CONNECTED

    @property
    def counters(self) -> Counter[str]:
        """What ICE dropped and why."""
        return self._connection.counters

    @property
    def round_trip_time(self) -> float | None:
        """Seconds that the last check of the selected pair took."""
        return self._connection.round_trip_time

    def heard(self) -> None:
        """An authenticated packet of the peer came: the path is alive."""
        self._connection.heard()

    @property
    def controlling(self) -> bool:
        """Whether this end has the controlling role."""
        return self.role == "controlling"

    def send_datagram(self, data: bytes, *, droppable: bool = False) -> None:
        """Send over the selected pair, at once.

        :param droppable: whether this one goes first when not everything can be sent; nothing is kept here.
        :raises ConnectionError: when there is none (yet, or any more).
        """
        self._connection.send_datagram(data)

    def _on_liveness(self, liveness: Liveness) -> None:
        # Expired consent closes the connection below, and is told as "failed".
        if liveness is not Liveness.EXPIRED:
            self.emit("livenesschange")
