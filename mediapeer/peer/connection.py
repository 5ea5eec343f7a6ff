"""``RTCPeerConnection``: negotiation, paths to the peer, and the tracks and channels over them."""

import asyncio
import contextlib
import datetime
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiortc
from aiortc import MediaStreamTrack
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError
from aiortc.rtcdatachannel import RTCDataChannelParameters

from mediapeer.ice import Candidate
from mediapeer.peer.assembly import Assembly
from mediapeer.peer.certificate import DEFAULT_LIFETIME, CertificateRotation, RTCCertificate
from mediapeer.peer.codecs import DEFAULT_REGISTRY, CodecRegistry
from mediapeer.peer.configuration import RTCConfiguration, check_modification, configured, ice_options
from mediapeer.peer.data import RTCSctpTransport
from mediapeer.peer.directions import is_receiving, make_direction
from mediapeer.peer.ice import RTCIceCandidate, candidate_from_ice, candidate_to_ice, section_of_candidate
from mediapeer.peer.negotiation import Negotiation
from mediapeer.peer.path import Path
from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.peer.release import check_aiortc
from mediapeer.peer.report import collect_stats
from mediapeer.peer.rtp import RTCRtpTransceiver
from mediapeer.peer.sender import RTCRtpSender
from mediapeer.peer.session import RemoteChanges
from mediapeer.peer.signaling_state import SignalingState
from mediapeer.peer.states import connection_state, ice_connection_state, ice_gathering_state
from mediapeer.peer.transceiver import SenderSource
from mediapeer.sdp import SessionDescription
from mediapeer.transport import DtlsTransport, GuardedEmitter

logger = logging.getLogger(__name__)

check_aiortc()


class RTCPeerConnection(GuardedEmitter):
    """A connection to a browser or another WebRTC endpoint, with W3C's names as aiortc has them.

    Emits ``track`` (with the track), ``datachannel`` (with the channel), ``negotiationneeded``, ``icecandidate``
    (with an :class:`RTCIceCandidate`, and ``None`` at their end), ``signalingstatechange``,
    ``icegatheringstatechange``, ``iceconnectionstatechange`` and ``connectionstatechange``. What handlers raise is
    logged and ends nothing.

    :param configuration: ours or aiortc's; see :class:`RTCConfiguration`.
    :raises ValueError: when an address or a server's URL in it does not parse, or a codec is not known.
    :raises InvalidAccessError: when its certificate has expired.
    """

    def __init__(self, configuration: aiortc.RTCConfiguration | None = None) -> None:
        super().__init__()
        self._configuration = configured(configuration)
        self._ice_options = ice_options(self._configuration)
        self._certificate = _certificate(self._configuration)
        names = self._configuration.codecs
        self._codecs = DEFAULT_REGISTRY if names is None else CodecRegistry.of(names)
        self._stream_id = str(uuid.uuid4())
        self._cname = str(uuid.uuid4())
        self._assembly = Assembly(self._new_path, self._update_states, self._cname)
        self._negotiation = self._assembly.negotiation = Negotiation(
            transport_for=self._assembly.path_for,
            new_transceiver=lambda kind: self._new_transceiver(kind, None),
            bundle_policy=self._configuration.bundlePolicy.value,
            max_message_size=RTCSctpTransport.getCapabilities().maxMessageSize,
            codecs=self._codecs,
        )
        # W3C's chain of operations (webrtc §4.4.1.2): the next begins when the one before has ended.
        self._operations = asyncio.Lock()
        self._operation_count = 0
        self._closing: asyncio.Task[None] | None = None
        self._offered_last = False
        self._negotiation_needed = False
        self._is_check_due = False
        self._announced = {
            "connection": "new",
            "iceconnection": "new",
            "icegathering": "new",
            "signaling": "stable",
        }

    # States

    @property
    def connectionState(self) -> str:
        """One of ``new``, ``connecting``, ``connected``, ``disconnected``, ``failed``, ``closed``.

        ``disconnected`` means that nothing authentic came from the peer for some seconds; it may come back.
        """
        return self._announced["connection"]

    @property
    def iceConnectionState(self) -> str:
        """One of ``new``, ``checking``, ``connected``, ``completed``, ``disconnected``, ``failed``, ``closed``."""
        return self._announced["iceconnection"]

    @property
    def iceGatheringState(self) -> str:
        """One of ``new``, ``gathering``, ``complete``."""
        return self._announced["icegathering"]

    @property
    def signalingState(self) -> str:
        """One of ``stable``, ``have-local-offer``, ``have-remote-offer``, ``have-local-pranswer``,
        ``have-remote-pranswer``, ``closed``."""
        return self._negotiation.signaling_state.value

    @property
    def localDescription(self) -> aiortc.RTCSessionDescription | None:
        """Our description that is being negotiated, or was last, with the candidates known by now."""
        return self.pendingLocalDescription or self.currentLocalDescription

    @property
    def remoteDescription(self) -> aiortc.RTCSessionDescription | None:
        """The peer's description that is being negotiated, or was last."""
        return self.pendingRemoteDescription or self.currentRemoteDescription

    @property
    def currentLocalDescription(self) -> aiortc.RTCSessionDescription | None:
        """Our description of the last negotiation that was finished."""
        kind = "offer" if self._offered_last else "answer"
        return _description(kind, self._negotiation.current_local)

    @property
    def currentRemoteDescription(self) -> aiortc.RTCSessionDescription | None:
        """The peer's description of the last negotiation that was finished."""
        kind = "answer" if self._offered_last else "offer"
        return _description(kind, self._negotiation.current_remote)

    @property
    def pendingLocalDescription(self) -> aiortc.RTCSessionDescription | None:
        """Our description that is being negotiated."""
        is_answer = self._negotiation.signaling_state is SignalingState.HAVE_LOCAL_PRANSWER
        return _description("pranswer" if is_answer else "offer", self._negotiation.pending_local)

    @property
    def pendingRemoteDescription(self) -> aiortc.RTCSessionDescription | None:
        """The peer's description that is being negotiated."""
        is_answer = self._negotiation.signaling_state is SignalingState.HAVE_REMOTE_PRANSWER
        return _description("pranswer" if is_answer else "offer", self._negotiation.pending_remote)

    @property
    def sctp(self) -> RTCSctpTransport | None:
        """What carries the data channels, or ``None`` while none was wanted."""
        return self._assembly.sctp

    @property
    def transports(self) -> list[DtlsTransport]:
        """The DTLS transports in use; one, when everything is bundled."""
        return [path.dtls for path in self._assembly.paths]

    # Tracks and channels

    def addTrack(self, track: MediaStreamTrack) -> RTCRtpSender:
        """Send a track: through a transceiver that has sent nothing yet, or else through a new one.

        :raises InvalidAccessError: when it is being sent already.
        :raises InternalError: when it is neither audio nor video.
        """
        self._check_open()
        _check_kind(track.kind)
        self._check_not_sent(track)
        transceiver = self._unused_transceiver(track.kind)
        if transceiver is not None:
            transceiver.sender.replaceTrack(track)
            transceiver.direction = make_direction(True, is_receiving(transceiver.direction))
        else:
            transceiver = self._new_transceiver(track.kind, track)
            self._negotiation.add_transceiver(transceiver)
        transceiver.add_track_used = True
        self._update_source(transceiver)
        self._assembly.start_senders()
        self._update_negotiation_needed()
        return transceiver.sender

    def removeTrack(self, sender: RTCRtpSender) -> None:
        """Send nothing through a sender any more; its transceiver stays, and may be used again.

        :raises InvalidAccessError: when the sender is of another connection.
        """
        self._check_open()
        for transceiver in self.getTransceivers():
            if transceiver.sender is sender:
                break
        else:
            raise InvalidAccessError("the sender is none of this connection")
        if transceiver.stopping or sender.track is None:
            return
        sender.replaceTrack(None)
        transceiver.direction = make_direction(False, is_receiving(transceiver.direction))
        self._update_negotiation_needed()

    def addTransceiver(
        self, trackOrKind: MediaStreamTrack | str, direction: str = "sendrecv"
    ) -> RTCRtpTransceiver:
        """Add a section to negotiate, with a track to send in it or the kind alone.

        :raises InternalError: when the kind or the direction is none.
        :raises InvalidAccessError: when the track is being sent already.
        """
        self._check_open()
        track = trackOrKind if isinstance(trackOrKind, MediaStreamTrack) else None
        kind = trackOrKind if isinstance(trackOrKind, str) else trackOrKind.kind
        _check_kind(kind)
        if direction not in ("sendrecv", "sendonly", "recvonly", "inactive"):
            raise InternalError(f'Invalid direction "{direction}"')
        if track is not None:
            self._check_not_sent(track)
        transceiver = self._new_transceiver(kind, track)
        transceiver.direction = direction
        self._negotiation.add_transceiver(transceiver)
        self._update_negotiation_needed()
        return transceiver

    def createDataChannel(
        self,
        label: str,
        maxPacketLifeTime: int | None = None,
        maxRetransmits: int | None = None,
        ordered: bool = True,
        protocol: str = "",
        negotiated: bool = False,
        id: int | None = None,
    ) -> aiortc.RTCDataChannel:
        """Create a data channel.

        :param maxPacketLifeTime: milliseconds in which a message is sent again; ``None``: until it arrives.
        :param maxRetransmits: how many times it is; ``None``: until it arrives.
        :param ordered: whether messages arrive in the order in which they were sent.
        :param negotiated: whether the other end makes the same channel by itself, with the same ``id``.
        :raises ValueError: when both limits are given, or ``id`` is out of range or taken.
        """
        self._check_open()
        if maxPacketLifeTime is not None and maxRetransmits is not None:
            raise ValueError("give maxPacketLifeTime or maxRetransmits, not both")
        parameters = RTCDataChannelParameters(
            id=id,
            label=label,
            maxPacketLifeTime=maxPacketLifeTime,
            maxRetransmits=maxRetransmits,
            negotiated=negotiated,
            ordered=ordered,
            protocol=protocol,
        )
        channel = self._want_data().create_channel(parameters)
        self._negotiation.want_data()
        self._update_negotiation_needed()
        return channel

    def getSenders(self) -> list[RTCRtpSender]:
        """The senders of the transceivers that are not stopped."""
        return [transceiver.sender for transceiver in self.getTransceivers()]

    def getReceivers(self) -> list[RTCRtpReceiver]:
        """The receivers of the transceivers that are not stopped."""
        return [transceiver.receiver for transceiver in self.getTransceivers()]

    def getTransceivers(self) -> list[RTCRtpTransceiver]:
        """The transceivers that are not stopped."""
        return [
            transceiver
            for transceiver in self._negotiation.transceivers
            if isinstance(transceiver, RTCRtpTransceiver) and not transceiver.stopped
        ]

    # Negotiation

    async def createOffer(self, *, iceRestart: bool = False) -> aiortc.RTCSessionDescription:
        """An offer of what there is to negotiate. Costs no traffic.

        :param iceRestart: whether to look for another path (RFC 8445 §9), while the present one goes on.
        :raises InvalidStateError: when the connection is closed, or an offer of the peer stands.
        """
        async with self._operation():
            offer = self._negotiation.write_offer(ice_restart=iceRestart)
            return aiortc.RTCSessionDescription(offer.text, "offer")

    async def createAnswer(self) -> aiortc.RTCSessionDescription:
        """An answer to the peer's offer.

        :raises InvalidStateError: when there is no offer of the peer.
        """
        async with self._operation():
            return aiortc.RTCSessionDescription(self._negotiation.write_answer().text, "answer")

    async def setLocalDescription(
        self, sessionDescription: aiortc.RTCSessionDescription | None = None
    ) -> None:
        """Apply our own description; without one, the offer or answer that is due (W3C webrtc §4.4.2).

        When the program listens for ``icecandidate``, this does not wait for candidates. Otherwise it waits until
        they are all there, so that ``localDescription`` can be sent as it is; a few seconds at the most, and no
        time at all without STUN and TURN servers.

        :raises InvalidStateError: when the state does not allow it.
        :raises ValueError: when the description is not the one that was made.
        :raises OSError: when it waited, and none of the addresses or ports can be used.
        """
        async with self._operation():
            if sessionDescription is None:
                kind, text = self._negotiation.implicit_type(), ""
            else:
                kind, text = sessionDescription.type, sessionDescription.sdp
            changes = self._negotiation.set_local(kind, text)
            if kind == "answer":
                self._offered_last = False
            self._apply(changes)
            gathering = [path.gather() for path in self._assembly.paths] if kind != "rollback" else []
        if gathering and not self.listeners("icecandidate"):
            await asyncio.wait(gathering)
            for path in self._assembly.paths:
                if path.gathering_error is not None:
                    raise path.gathering_error

    async def setRemoteDescription(self, sessionDescription: aiortc.RTCSessionDescription) -> None:
        """Apply the peer's description. An offer that meets one of ours takes its place (W3C webrtc §4.4.1.5).

        :raises ValueError: when it does not parse or cannot be used; nothing has changed then.
        :raises InvalidStateError: when the state does not allow it; nothing has changed then.
        """
        async with self._operation():
            kind = sessionDescription.type
            changes = self._negotiation.set_remote(kind, sessionDescription.sdp)
            if kind == "answer":
                self._offered_last = True
            self._apply(changes)

    async def addIceCandidate(self, candidate: "aiortc.RTCIceCandidate | dict[str, Any] | None") -> None:
        """Take a candidate of the peer that came after its description; ``None`` is their end.

        :param candidate: aiortc's object, or W3C's ``RTCIceCandidateInit`` as browsers send it.
        :raises ValueError: when it is none, does not parse, or names no section.
        :raises InvalidStateError: when there is no remote description.
        """
        async with self._operation():
            mid, index, ufrag = section_of_candidate(candidate)
            given = RTCIceCandidate.fromJSON(candidate) if isinstance(candidate, dict) else candidate
            value = "" if given is None else candidate_to_ice(given).to_sdp()
            self._negotiation.add_remote_candidate(value, mid, index, ufrag)
            self._assembly.connect()

    def restartIce(self) -> None:
        """Look for another path in the next offer; ``negotiationneeded`` asks for it (W3C webrtc §4.4.2)."""
        self._check_open()
        self._negotiation.want_ice_restart()
        self._update_negotiation_needed()

    # Configuration

    def getConfiguration(self) -> RTCConfiguration:
        """The configuration in use."""
        return self._configuration

    def setConfiguration(self, configuration: aiortc.RTCConfiguration) -> None:
        """Use other servers or another policy from the next gathering on, which :meth:`restartIce` brings about.

        :raises InvalidModificationError: when it changes what cannot be: bundle policy, certificates, port.
        :raises ValueError: when a server's URL does not parse.
        """
        self._check_open()
        new = configured(configuration)
        check_modification(self._configuration, new)
        options = ice_options(new)
        self._configuration, self._ice_options = new, options
        for path in self._assembly.paths:
            path.ice.options = options

    @classmethod
    def generateCertificate(cls, lifetime: datetime.timedelta = DEFAULT_LIFETIME) -> RTCCertificate:
        """Make a certificate for :attr:`RTCConfiguration.certificates`.

        :param lifetime: how long it is valid; a year at the most.
        """
        return RTCCertificate.generateCertificate(lifetime)

    # The end

    async def close(self) -> None:
        """End everything, in bounded time: tracks, channels, paths; no task, thread or socket is left. Idempotent."""
        closing = self._begin_closing()
        if closing is not asyncio.current_task():
            await asyncio.shield(closing)

    async def getStats(self) -> aiortc.RTCStatsReport:
        """Statistics under W3C's names (webrtc-stats)."""
        return await collect_stats(self._assembly)

    # Inside: making parts

    def _new_path(self) -> Path:
        path = Path(
            self._ice_options,
            self._certificate,
            key_log=self._configuration.keyLog,
            maximum_version=self._configuration.maximumDtlsVersion,
        )
        path.on_candidate = lambda candidate: self._on_candidate(path, candidate)
        return path

    def _new_transceiver(self, kind: str, track: MediaStreamTrack | None) -> RTCRtpTransceiver:
        dtls = self._assembly.first_path().dtls
        sender = RTCRtpSender(track or kind, dtls)
        sender.on_track = self._assembly.start_senders
        sender._stream_id = self._stream_id
        receiver = RTCRtpReceiver(kind, dtls)
        transceiver = RTCRtpTransceiver(kind, sender, receiver, self._codecs, self._update_negotiation_needed)
        self._update_source(transceiver)
        return transceiver

    def _update_source(self, transceiver: RTCRtpTransceiver) -> None:
        """Tell the negotiation what a description says of the stream that is sent."""
        sender = transceiver.sender
        transceiver.sender_source = SenderSource(
            ssrc=sender._ssrc,
            rtx_ssrc=sender._rtx_ssrc,
            cname=self._cname,
            stream_ids=[self._stream_id],
            track_id=sender._track_id,
        )

    def _want_data(self) -> RTCSctpTransport:
        is_new = self._assembly.sctp is None
        sctp = self._assembly.want_data()
        if is_new:
            sctp.on("datachannel", lambda channel: self.emit("datachannel", channel))
        return sctp

    # Inside: negotiation

    @contextlib.asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        """One operation at a time; none after the end."""
        self._operation_count += 1
        try:
            async with self._operations:
                self._check_open()
                yield
        finally:
            self._operation_count -= 1
            self._update_negotiation_needed()

    def _apply(self, changes: RemoteChanges) -> None:
        """Put into effect what a description of either side has changed, and tell the program."""
        if self._negotiation.data_section is not None:
            self._want_data()
        for transceiver in changes.added:
            if isinstance(transceiver, RTCRtpTransceiver) and transceiver.negotiated.remote_track_id:
                transceiver.receiver.set_track_id(transceiver.negotiated.remote_track_id)
        self._assembly.end_sections(changes.ended, changes.stopped)
        self._assembly.apply()
        if self._negotiation.signaling_state is SignalingState.STABLE:
            # What was asked for before has had its negotiation; what is still missing is asked for anew.
            self._negotiation_needed = False
        self._announce("signaling", self.signalingState)
        self._update_states()
        for transceiver in changes.added:
            if isinstance(transceiver, RTCRtpTransceiver):
                self.emit("track", transceiver.receiver.track)

    def _update_negotiation_needed(self) -> None:
        """Find out soon whether to ask for a negotiation (W3C webrtc §4.7.3)."""
        if self._closing is not None or self._is_check_due:
            return
        try:
            # Not the running one: programs written for aiortc make connections before their loop runs.
            asyncio.get_event_loop().call_soon(self._ask_for_negotiation)
        except RuntimeError:
            return  # there is no loop at all yet: the next operation asks
        self._is_check_due = True

    def _ask_for_negotiation(self) -> None:
        """Ask for a negotiation, once, if it is needed and there is nothing in its way at this moment.

        What is in its way now has :meth:`_update_negotiation_needed` called when it is over.
        """
        self._is_check_due = False
        if self._closing is not None or self._operation_count:
            return
        if self._negotiation.signaling_state is not SignalingState.STABLE:
            return
        was_needed, self._negotiation_needed = (
            self._negotiation_needed,
            self._negotiation.is_negotiation_needed(),
        )
        if self._negotiation_needed and not was_needed:
            self.emit("negotiationneeded")

    def _on_candidate(self, path: Path, candidate: Candidate | None) -> None:
        """A path has another local candidate, or all."""
        key = self._assembly.key_of(path)
        mid = None if key is None else self._negotiation.first_mid(key)
        if self._closing is not None or key is None or mid is None:
            return
        self._negotiation.add_local_candidate(key, None if candidate is None else candidate.to_sdp())
        if candidate is not None:
            ufrag = path.ice_parameters.username_fragment
            index = self._index_of(mid)
            self.emit("icecandidate", candidate_from_ice(candidate, mid, index, ufrag))
        elif all(other.gathering_complete for other in self._assembly.paths):
            self.emit("icecandidate", None)

    def _index_of(self, mid: str) -> int | None:
        """The place of a section in our description."""
        local = self._negotiation.local_description
        mids = [media.mid for media in local.media] if local is not None else []
        return mids.index(mid) if mid in mids else None

    def _unused_transceiver(self, kind: str) -> RTCRtpTransceiver | None:
        """A transceiver that ``addTrack`` may take: it has no track and never sent one.

        W3C webrtc §5.1 has it that its direction never was one of sending; aiortc's programs, which negotiate
        ``sendrecv`` first and add the track that comes, want no more than that nothing was sent.
        """
        for transceiver in self.getTransceivers():
            is_free = transceiver.sender.track is None and not transceiver.sender.is_sending
            if transceiver.kind == kind and is_free and not transceiver.stopping:
                return transceiver
        return None

    # Inside: states

    def _update_states(self) -> None:
        """Tell what has changed of the states that are made from those of the paths."""
        if self._closing is not None:
            return
        paths = self._assembly.paths
        self._announce("icegathering", ice_gathering_state(paths))
        self._announce("iceconnection", ice_connection_state(paths))
        self._announce("connection", connection_state(paths))
        if paths and all(path.dtls.state == "closed" for path in paths):
            self._begin_closing()

    def _announce(self, name: str, state: str) -> None:
        if self._announced[name] != state:
            self._announced[name] = state
            self.emit(f"{name}statechange")

    def _check_open(self) -> None:
        if self._closing is not None:
            raise InvalidStateError("RTCPeerConnection is closed")

    def _check_not_sent(self, track: MediaStreamTrack) -> None:
        if any(sender.track is track for sender in self.getSenders()):
            raise InvalidAccessError("Track already has a sender")

    # Inside: the end

    def _begin_closing(self) -> "asyncio.Task[None]":
        if self._closing is None:
            transceivers = self.getTransceivers()
            self._negotiation.close()
            self._closing = asyncio.create_task(self._close(transceivers))
        return self._closing

    async def _close(self, transceivers: list[RTCRtpTransceiver]) -> None:
        await self._assembly.close(transceivers)
        for name in ("signaling", "iceconnection", "connection"):
            self._announce(name, "closed")
        # Nothing is emitted any more; what the handlers hold can go.
        self.remove_all_listeners()


def _check_kind(kind: str) -> None:
    if kind not in ("audio", "video"):
        raise InternalError(f'Invalid track kind "{kind}"')


def _certificate(configuration: RTCConfiguration) -> aiortc.RTCCertificate:
    """The certificate that a configuration names, or one of the connection's own."""
    given = configuration.certificates
    if given is None:
        return RTCCertificate.generateCertificate()
    if isinstance(given, CertificateRotation):
        return given.current()
    if len(given) != 1:
        raise ValueError("give one certificate, or None")
    if given[0].expires <= datetime.datetime.now(datetime.UTC):
        raise InvalidAccessError("the certificate of the configuration has expired")
    return given[0]


def _description(kind: str, description: SessionDescription | None) -> aiortc.RTCSessionDescription | None:
    return None if description is None else aiortc.RTCSessionDescription(str(description), kind)
