"""One secured transport: ICE below, RTP and SCTP above, our DTLS engine in the middle."""

import asyncio
import enum
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import DataReceiver, RTCCertificate, RTCDtlsParameters
from aiortc.stats import RTCStatsReport

from mediapeer.dtls import (
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConnection,
    DtlsError,
    Event,
    HandshakeCompleted,
    ProtocolVersion,
    Role,
)
from mediapeer.srtp import EXPORTER_LABEL, PROFILES, SrtpContexts, is_rtcp
from mediapeer.transport.emitter import GuardedEmitter
from mediapeer.transport.media import MediaPath
from mediapeer.transport.security import credentials_of, webrtc_configuration
from mediapeer.transport.sequencer import Sequencer
from mediapeer.transport.stats import DtlsTransportStats, certificate_stats, utc_now

logger = logging.getLogger(__name__)

#: Decrypted records that wait for a data receiver: the peer's SCTP may be faster than the making of ours.
EARLY_RECORDS = 64
#: Datagrams that wait for :meth:`DtlsTransport.start`: a peer may answer the answer before it is told to us.
EARLY_DATAGRAMS = 32

#: Seconds that a timer may be late before that counts as the program's doing, and the most it is then put off.
LATE = 0.02
MAXIMUM_PATIENCE = 1.0


class State(enum.Enum):
    """``RTCDtlsTransportState`` (W3C webrtc §5.5.1)."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"
    FAILED = "failed"


_ENDED = (State.CLOSED, State.FAILED)


class DatagramPath(Protocol):
    """What lies below: an ICE transport.

    It has an attribute ``on_datagram``, called with each datagram of a checked pair; where that is ``None`` the
    transport above puts its own :meth:`~DtlsTransport.receive_datagram` there. It may have ``on_state`` too, called
    with each new state of it.
    """

    @property
    def controlling(self) -> bool:
        """Whether this end has the controlling role."""

    @property
    def counters(self) -> Counter[str]:
        """What was dropped below, and why."""

    @property
    def round_trip_time(self) -> float | None:
        """Seconds of a round trip to the peer, if known."""

    @property
    def arrival(self) -> float:
        """When the datagram that is being handed up came, in seconds of the event loop's clock."""

    def heard(self) -> None:
        """An authenticated packet of the peer came."""

    def send_datagram(self, data: bytes, *, droppable: bool = False) -> None:
        """Send, at once or never; :exc:`ConnectionError` when there is no path.

        :param droppable: whether this one goes first when not everything can be sent: media, and not control.
        """


class DtlsTransport(GuardedEmitter):
    """Secures one ICE transport, and carries RTP, RTCP and SCTP over it.

    Emits ``statechange``. Everything a peer can send is either used or dropped and counted: an empty datagram,
    junk, records and packets that are not authentic, ones that do not parse, ones that a handler chokes on.

    :param transport: the ICE transport.
    :param certificates: our certificate, one.
    :param key_log: given each line of the handshake's secrets in NSS key log format; for debugging only.
    :param maximum_version: the newest DTLS version to speak.
    :raises ValueError: when there is not exactly one certificate.
    """

    def __init__(
        self,
        transport: DatagramPath,
        certificates: Sequence[RTCCertificate],
        *,
        key_log: Callable[[str], None] | None = None,
        maximum_version: ProtocolVersion = ProtocolVersion.DTLS_1_3,
    ) -> None:
        super().__init__()
        if len(certificates) != 1:
            raise ValueError("a DTLS transport takes one certificate")
        self.error: DtlsError | ConnectionError | None = None
        "Why the transport failed."
        self._certificate = certificates[0]
        self._credentials = credentials_of(self._certificate)
        self._engine: DtlsConnection | None = None
        self._key_log = key_log
        self._maximum_version = maximum_version
        self._role = "auto"
        self._state = State.NEW
        self._stats_id = f"transport_{id(self)}"
        self._transport = transport
        # The first settled state (connected, closed or failed) ends the waiting of start().
        self._settled = asyncio.Event()
        self._delivery: asyncio.Handle | None = None
        self._early: deque[bytes] = deque()
        self._path_error: ConnectionError | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The engine's time-out that the timer is for, and whether it was put off because the loop came late to it.
        self._due = 0.0
        self._is_postponed = False
        self._data_receiver: DataReceiver | None = None
        self._records: deque[bytes] = deque()
        self._drops: Counter[str] = Counter()
        self._datagrams_sent = self._bytes_sent = self._datagrams_received = self._bytes_received = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._data_handlers = Sequencer(self._tasks, self._data_handler_failed, self._records_full)
        self._media_timer: asyncio.TimerHandle | None = None
        self._media = MediaPath(
            self._drops,
            transport.heard,
            self.send_media,
            self._deliver_soon,
            arm=self._arm_media,
            clock=self._now,
            round_trip_time=lambda: transport.round_trip_time,
        )
        self._started_at = 0.0
        self._handshake_duration: float | None = None
        self._connect_path()

    # What the peer connection sees

    @property
    def state(self) -> str:
        """One of ``new``, ``connecting``, ``connected``, ``closed``, ``failed``."""
        return self._state.value

    @property
    def transport(self) -> DatagramPath:
        """The ICE transport below."""
        return self._transport

    @property
    def media(self) -> MediaPath:
        """What SRTP carries: the sections, and the statistics of their streams."""
        return self._media

    @property
    def counters(self) -> Counter[str]:
        """What was dropped so far and why, here, in ICE below and in the engine; and ``retransmissions``."""
        total = self._drops + self._transport.counters
        if self._engine is not None:
            total += self._engine.counters
            if retransmissions := self._engine.activity["retransmissions"]:
                total["retransmissions"] = retransmissions
        return total

    def count(self, reason: str) -> None:
        """Add to :attr:`counters` what a part above dropped, and why."""
        self._drops[reason] += 1

    def getLocalParameters(self) -> RTCDtlsParameters:
        """The fingerprints of our certificate."""
        return RTCDtlsParameters(fingerprints=self._certificate.getFingerprints())

    def send_media(self, data: bytes) -> bool:
        """Protect a packet of RTP or RTCP and send it. Of the two, RTP is shed first when not everything can be sent.

        :return: whether there was a path to send it on, and a key to protect it with. Else it is dropped; what was
            broken, or shed below, is counted.
        """
        packet = self._media.protect(data)
        if packet is None:
            return False
        try:
            self._send(packet, droppable=not is_rtcp(data))
        except ConnectionError:
            # There may be a path again soon.
            self._drops["unsent_datagrams"] += 1
            return False
        return True

    async def start(self, remoteParameters: RTCDtlsParameters) -> None:
        """Do the handshake with the peer whose fingerprints signaling delivered.

        Returns when it has ended, well (:attr:`state` is ``connected``) or not (``failed``, and :attr:`error`
        says why).

        :raises InvalidStateError: when it was started or stopped before.
        """
        if self._state is not State.NEW:
            raise InvalidStateError(f"the DTLS transport is {self.state}")
        if self._role == "auto":
            # Without an offer and answer that decide it, ORTC's rule: by the ICE role.
            self._set_role("server" if self._transport.controlling else "client")
        self._set_state(State.CONNECTING)
        self._started_at = self._now()
        try:
            configuration = webrtc_configuration(
                self._credentials,
                remoteParameters,
                round_trip_time=self._transport.round_trip_time,
                key_log=self._key_log,
                maximum_version=self._maximum_version,
            )
            self._engine = DtlsConnection(configuration, Role(self._role), self._started_at)
        except DtlsError as error:
            self._fail(error)
            return
        if self._path_error is not None:
            self._fail(self._path_error)
            return
        self._pump()
        while self._early:
            self._take_record(self._early.popleft())
        await self._settled.wait()

    async def stop(self) -> None:
        """Tell the peer that the association ends, and end it. May be called any number of times."""
        if self._state in (State.CONNECTING, State.CONNECTED) and self._engine is not None:
            self._engine.close()
            self._flush()
        self._end(State.CLOSED)
        self._stop_timer()
        self._records.clear()
        self._early.clear()
        if self._delivery is not None:
            self._delivery.cancel()
        # A handler of an event may stop the transport from within one of these very tasks.
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # What SCTP sees

    def _set_role(self, role: str) -> None:
        if self._engine is None:
            self._role = role

    def _register_data_receiver(self, receiver: DataReceiver) -> None:
        if self._data_receiver not in (None, receiver):
            raise InvalidStateError("the transport carries another SCTP association")
        self._data_receiver = receiver
        self._deliver_soon()

    def _unregister_data_receiver(self, receiver: DataReceiver) -> None:
        if self._data_receiver is receiver:
            self._data_receiver = None

    async def _send_data(self, data: bytes) -> None:
        if self._state is not State.CONNECTED or self._engine is None:
            raise ConnectionError("data cannot be sent: the transport is not connected")
        try:
            self._engine.send_application_data(data)
        except (DtlsError, ValueError) as error:
            raise ConnectionError(f"data cannot be sent: {error}") from error
        self._pump()

    # The path below

    def _connect_path(self) -> None:
        """Have the path below call us, where it calls and nobody else is to be called."""
        if getattr(self._transport, "on_datagram", self) is None:
            self._transport.on_datagram = self.receive_datagram  # type: ignore[attr-defined]
        if getattr(self._transport, "on_state", self) is None:
            self._transport.on_state = self.ice_state_changed  # type: ignore[attr-defined]

    def ice_state_changed(self, state: str) -> None:
        """The path below is in another state; called by it, or by its owner when that listens itself.

        When it has ``failed`` or ``closed``, so has this transport failed; all other states change nothing, nor
        does an ICE restart. An owner that wants to restart ICE after its failure does not pass ``failed`` on.
        """
        if state in ("failed", "closed"):
            self.path_ended(ConnectionError(f"ICE has {state}"))

    def path_ended(self, error: ConnectionError) -> None:
        """There is no path to the peer any more, for good."""
        if self._path_error is None:
            self._path_error = error
            self._stop_timer()
            self._fail(error)

    # The receive path

    def receive_datagram(self, data: bytes) -> None:
        """Take a datagram of the peer; sorted by its first byte (RFC 7983 §7). Raises nothing."""
        try:
            self._datagrams_received += 1
            self._bytes_received += len(data)
            if not data:
                self._drops["empty_datagrams"] += 1
            elif 128 <= data[0] <= 191:
                if self._state not in _ENDED:
                    self._media.receive(data, self._transport.arrival)
            elif 20 <= data[0] <= 63:
                self._take_record(data)
            else:
                self._drops["unknown_protocol"] += 1
        except Exception as error:
            # Not a peer's doing: the engine and the paths below never raise on input. Fail, and say so.
            logger.exception("the transport failed on a defect of its own")
            self._fail(ConnectionError(f"internal error: {error}"))

    def _take_record(self, data: bytes) -> None:
        if self._engine is not None:
            if self._state is not State.CLOSED:
                self._engine.receive_datagram(data, self._now())
                self._pump()
                self._deliver()
        elif self._state is not State.NEW:
            pass  # it has ended before it began
        elif len(self._early) < EARLY_DATAGRAMS:
            self._early.append(data)
        else:
            self._drops["early_datagrams_full"] += 1

    def _deliver(self) -> None:
        """Hand over what the handshake held back and what the engine decrypted."""
        self._media.release(self._now())
        while self._records and self._data_receiver is not None:
            self._data_handlers.run(self._data_receiver._handle_data(self._records.popleft()))

    def _data_handler_failed(self, error: Exception) -> None:
        if isinstance(error, ConnectionError):
            # SCTP answered, and the transport closed meanwhile.
            self._drops["unanswered_records"] += 1
            return
        # aiortc's SCTP trusts its peer here and there. Once is enough for the log.
        level = logging.DEBUG if self._drops["data_handler_errors"] else logging.WARNING
        self._drops["data_handler_errors"] += 1
        logger.log(level, "a record could not be handled: %s: %s", type(error).__name__, error)

    def _records_full(self) -> None:
        self._drops["records_full"] += 1

    def _deliver_soon(self) -> None:
        """Hand over what has been waiting for a receiver, without waiting for the next datagram."""
        if self._state is State.CONNECTED and self._delivery is None:
            self._delivery = asyncio.get_running_loop().call_soon(self._deliver_now)

    def _deliver_now(self) -> None:
        self._delivery = None
        self._deliver()

    # The engine

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _pump(self) -> None:
        """Send what the engine wants to send, act on what it says, and set its timer: after each call of it."""
        self._flush()
        while self._engine is not None and (event := self._engine.next_event()) is not None:
            self._act_on(event)
        self._flush()
        self._set_timer()

    def _flush(self) -> None:
        if self._engine is None:
            return
        for datagram in self._engine.datagrams_to_send():
            try:
                self._send(datagram)
            except ConnectionError:
                # The loss of the path is told by its state; until then this is a lost datagram like another.
                self._drops["unsent_datagrams"] += 1

    def _send(self, datagram: bytes, *, droppable: bool = False) -> None:
        if droppable:
            self._transport.send_datagram(datagram, droppable=True)
        else:
            self._transport.send_datagram(datagram)
        self._datagrams_sent += 1
        self._bytes_sent += len(datagram)

    def _act_on(self, event: Event) -> None:
        match event:
            case HandshakeCompleted():
                self._complete(event)
            case ApplicationData(data=data):
                self._transport.heard()
                if len(self._records) < EARLY_RECORDS:
                    self._records.append(data)
                else:
                    self._drops["records_full"] += 1
            case ConnectionClosed():
                self._end(State.CLOSED)
            case ConnectionFailed(error=error):
                self._fail(error)

    def _complete(self, event: HandshakeCompleted) -> None:
        if self._engine is None or self._state is not State.CONNECTING:
            return
        if not self._engine.is_connected:
            return  # it ended within the same datagram: the event that says so follows, and no key is to be had
        self._handshake_duration = self._now() - self._started_at
        if event.srtp_profile is not None:
            length = PROFILES[event.srtp_profile].keying_material_length
            self._media.contexts = SrtpContexts(
                event.srtp_profile,
                self._engine.export_keying_material(EXPORTER_LABEL, None, length),
                is_client=self._role == "client",
            )
        self._transport.heard()
        logger.debug(
            "DTLS %s: %s, %s, %s in %.0f ms",
            self._role,
            event.version.label,
            event.cipher_suite.name,
            event.group.label if event.group is not None else "no key exchange",
            1000 * self._handshake_duration,
        )
        self._set_state(State.CONNECTED)

    def _fail(self, error: DtlsError | ConnectionError) -> None:
        if self._state in (State.CONNECTING, State.CONNECTED):
            self.error = error
            logger.info("DTLS %s failed: %s", self._role, error)
            self._end(State.FAILED)

    def _end(self, state: State) -> None:
        """No key is used any more, tracks end, and whoever waits is told."""
        if self._state in (State.CLOSED, State.FAILED):
            return
        self._media.contexts = None
        self._set_state(state)
        self._media.disconnect()

    def _set_timer(self) -> None:
        """Arm the one timer for the engine's next time-out, which may have moved."""
        when = None
        if self._engine is not None and self._state is not State.CLOSED:
            when = self._engine.next_timeout()
        if self._timer is not None and when == self._due:
            return
        self._stop_timer()
        if when is not None:
            self._due, self._is_postponed = when, False
            self._timer = asyncio.get_running_loop().call_at(when, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """The engine's time has come, or has passed while the program did something else.

        In the latter case the answer may wait in the socket, behind those of other calls: there is once as much time
        again to read it, before the same is sent twice and makes the queue longer.
        """
        self._timer = None
        late = min(self._now() - self._due, MAXIMUM_PATIENCE)
        if late > LATE and not self._is_postponed:
            self._is_postponed = True
            self._timer = asyncio.get_running_loop().call_later(late, self._on_timer)
        elif self._engine is not None:
            self._engine.handle_timeout(self._now())
            self._pump()

    def _arm_media(self, when: float | None) -> None:
        """Set the timer of the media path, or stop it."""
        if self._media_timer is not None:
            self._media_timer.cancel()
            self._media_timer = None
        if when is not None:
            self._media_timer = asyncio.get_running_loop().call_at(when, self._on_media_timer)

    def _on_media_timer(self) -> None:
        self._media_timer = None
        try:
            self._media.handle_timeout(self._now())
        except Exception as error:
            logger.exception("the transport failed on a defect of its own")
            self._fail(ConnectionError(f"internal error: {error}"))

    def _set_state(self, state: State) -> None:
        if state is self._state:
            return
        logger.debug("DTLS %s: %s -> %s", self._role, self._state.value, state.value)
        self._state = state
        if state in (State.CONNECTED, State.CLOSED, State.FAILED):
            self._settled.set()
        self.emit("statechange")

    # Statistics

    def _get_stats(self) -> RTCStatsReport:
        """This transport and the certificates of both ends."""
        report = RTCStatsReport()
        local = certificate_stats(self._credentials.chain[0])
        report.add(local)
        counters = self.counters
        stats = DtlsTransportStats(
            timestamp=utc_now(),
            type="transport",
            id=self._stats_id,
            packetsSent=self._datagrams_sent,
            packetsReceived=self._datagrams_received,
            bytesSent=self._bytes_sent,
            bytesReceived=self._bytes_received,
            iceRole="controlling" if self._transport.controlling else "controlled",
            dtlsState=self.state,
            localCertificateId=local.id,
            retransmissions=counters.pop("retransmissions", 0),
            roundTripTime=self._transport.round_trip_time,
            datagramsDropped=dict(counters),
        )
        report.add(stats)
        if self._engine is not None:
            stats.dtlsRole = self._role
        if self._engine is not None and self._handshake_duration is not None:
            stats.describe(self._engine, self._handshake_duration)
            if self._engine.peer_certificate is not None:
                remote = certificate_stats(self._engine.peer_certificate)
                stats.remoteCertificateId = remote.id
                report.add(remote)
        return report
