"""``RTCPeerConnection``: aiortc's negotiation, with our transport put underneath in a scoped way."""

import asyncio
import importlib.metadata
from collections.abc import Callable
from typing import Any

import aiortc
from aiortc import sdp
from aiortc.rtcrtpreceiver import RemoteStreamTrack

from mediapeer.dtls import ProtocolVersion
from mediapeer.peer.configuration import RTCConfiguration
from mediapeer.peer.frames import EncodedFrames, LatestFrames
from mediapeer.peer.ice import RTCIceGatherer, RTCIceTransport
from mediapeer.transport import DtlsTransport, GuardedEmitter
from mediapeer.transport.emitter import guard

#: The release of aiortc whose private parts are used here; a contract test pins what is used of them.
AIORTC_RELEASE = "1.16"


def check_aiortc() -> None:
    """Make sure that the aiortc that is installed is the one this package stands on.

    :raises ImportError: when it is not; the message says what to install.
    """
    installed = importlib.metadata.version("aiortc")
    if installed != AIORTC_RELEASE and not installed.startswith(AIORTC_RELEASE + "."):
        raise ImportError(
            f"mediapeer stands on aiortc {AIORTC_RELEASE}, and aiortc {installed} is installed. "
            f'Install the right one: pip install "aiortc=={AIORTC_RELEASE}.*"'
        )


check_aiortc()


class RTCPeerConnection(GuardedEmitter, aiortc.RTCPeerConnection):
    """A connection to a browser or another WebRTC endpoint, with aiortc's (that is, W3C's) names.

    Beyond aiortc's: DTLS is our own engine; ``connectionState`` and ``iceConnectionState`` also become
    ``disconnected`` when the peer goes silent; exceptions of event handlers are logged and end nothing.

    :param configuration: ours or aiortc's; see :class:`RTCConfiguration`.
    :raises ValueError: when an address of ``iceAddresses`` does not parse.
    """

    def __init__(self, configuration: aiortc.RTCConfiguration | None = None) -> None:
        self._configuration = configuration or RTCConfiguration()
        self._announced: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        super().__init__(self._configuration)
        self.on("datachannel", guard)

    # States

    @property
    def connectionState(self) -> str:
        """One of ``new``, ``connecting``, ``connected``, ``disconnected``, ``failed``, ``closed``.

        ``disconnected`` means that nothing authentic came from the peer for some seconds; it may come back.
        When the state changes, ``connectionstatechange`` is emitted.
        """
        state = super().connectionState
        return "disconnected" if state == "connected" and self._is_disconnected() else state

    @property
    def iceConnectionState(self) -> str:
        """One of ``new``, ``checking``, ``completed``, ``disconnected``, ``failed``, ``closed``.

        When the state changes, ``iceconnectionstatechange`` is emitted.
        """
        state = super().iceConnectionState
        return "disconnected" if state == "completed" and self._is_disconnected() else state

    @property
    def transports(self) -> list[DtlsTransport]:
        """The DTLS transports in use; one, when everything is bundled."""
        return list(self._private("dtlsTransports"))

    def _is_disconnected(self) -> bool:
        return any(transport.disconnected for transport in self._private("iceTransports"))

    def _on_liveness_change(self) -> None:
        # The base class tells changes of its own state; "disconnected" is none of its own.
        if super().iceConnectionState == "completed":
            self.emit("iceconnectionstatechange")
        if super().connectionState == "connected":
            self.emit("connectionstatechange")

    def _on_transport_change(self) -> None:
        """When a transport has failed, the SCTP association over it is over too; its timers must not go on."""
        association = self.sctp
        if association is not None and association.transport.state == "failed":
            task = asyncio.create_task(association.stop())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # What is made on top

    def createDataChannel(self, *args: Any, **kwargs: Any) -> aiortc.RTCDataChannel:
        """Create a data channel; as aiortc's, and what its handlers raise is logged."""
        channel = super().createDataChannel(*args, **kwargs)
        guard(channel)
        return channel

    async def setRemoteDescription(self, sessionDescription: aiortc.RTCSessionDescription) -> None:
        """Apply the peer's description.

        :raises ValueError: when it does not parse, or a section in use has no fingerprint or no ICE password.
        """
        check_description(sessionDescription)
        await super().setRemoteDescription(sessionDescription)
        for receiver in self.getReceivers():
            track: object = receiver.track
            transport: object = receiver.transport
            if (
                isinstance(track, RemoteStreamTrack)
                and isinstance(transport, DtlsTransport)
                and not isinstance(track._queue, LatestFrames)
            ):
                # Nothing has been received yet: that starts in a task which has not run.
                track._queue = LatestFrames(track.kind, transport.count)
                error = getattr(receiver, "_RTCRtpReceiver__decoder_error")  # noqa: B009
                waiting = EncodedFrames(track.kind, error, transport.count)
                setattr(receiver, "_RTCRtpReceiver__decoder_queue", waiting)  # noqa: B010

    async def getStats(self) -> aiortc.RTCStatsReport:
        """Statistics of streams, transports and certificates; also when there are data channels alone."""
        report = await super().getStats()
        for transport in self.transports:
            report.update(transport._get_stats())
        return report

    # The seam. aiortc calls its factory by a name mangled with the name of its class; this is the one
    # private method that is overridden, and tests/peer/test_contract.py pins all that it relies on.

    def _private(self, name: str) -> Any:
        """A private attribute of aiortc's class."""
        return getattr(self, f"_RTCPeerConnection__{name}")

    def _RTCPeerConnection__createDtlsTransport(self) -> DtlsTransport:
        """Make a transport with its ICE below, and register both where the base class keeps them."""
        username, password = self._local_ice_credentials()
        gatherer = RTCIceGatherer(
            self._configuration.iceServers,
            self._configuration.iceTransportPolicy,
            username,
            password,
            getattr(self._configuration, "iceAddresses", None),
        )
        update_ice: Callable[[], None] = self._private("updateIceConnectionState")
        update: Callable[[], None] = self._private("updateConnectionState")
        gatherer.on("statechange", self._private("updateIceGatheringState"))
        ice = RTCIceTransport(gatherer)
        ice.on("statechange", update_ice)
        ice.on("statechange", update)
        ice.on("livenesschange", self._on_liveness_change)
        self._private("iceTransports").add(ice)

        transport = DtlsTransport(
            ice,
            self._private("certificates"),
            key_log=getattr(self._configuration, "keyLog", None),
            maximum_version=getattr(self._configuration, "maximumDtlsVersion", ProtocolVersion.DTLS_1_3),
        )
        transport.on("statechange", update)
        transport.on("statechange", self._on_transport_change)
        self._private("dtlsTransports").add(transport)

        self._private("updateIceGatheringState")()
        update_ice()
        update()
        return transport

    def _local_ice_credentials(self) -> tuple[str | None, str | None]:
        """The user name and password of the transports made so far: one connection has one pair of them."""
        for transport in self._private("dtlsTransports"):
            parameters = transport.transport.iceGatherer.getLocalParameters()
            return parameters.usernameFragment, parameters.password
        return None, None


def check_description(description: aiortc.RTCSessionDescription) -> None:
    """See that every section of a description that is in use can be secured.

    :raises ValueError: when it does not parse, or a section lacks a fingerprint.
    """
    if not description.sdp.startswith("v=0"):
        raise ValueError("the session description does not parse: it does not begin with v=0")
    try:
        parsed = sdp.SessionDescription.parse(description.sdp)
    except (ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        raise ValueError(f"the session description does not parse: {error}") from error
    for index, media in enumerate(parsed.media):
        if media.dtls is None or not media.dtls.fingerprints:
            raise ValueError(f"media section {index} ({media.kind}) has no fingerprint")
