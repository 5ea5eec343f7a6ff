"""What was negotiated, put into effect: paths, senders, receivers and data channels."""

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpDecodingParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
    RTCRtpSendParameters,
)
from aiortc.rtcsctptransport import RTCSctpCapabilities

from mediapeer.peer.data import RTCSctpTransport
from mediapeer.peer.directions import is_receiving, is_sending
from mediapeer.peer.negotiation import Negotiation
from mediapeer.peer.path import Path
from mediapeer.peer.rtp import RTCRtpTransceiver
from mediapeer.peer.signaling_state import SignalingState
from mediapeer.peer.transceiver import Transceiver
from mediapeer.peer.transports import TransportPlan
from mediapeer.transport.routes import SectionRoutes

logger = logging.getLogger(__name__)

#: How long a part may take to end, in seconds. What is not done then is cancelled.
STOP_TIMEOUT = 3.0


class Assembly:
    """The moving parts of one connection.

    :meth:`apply` may be called at any time, any number of times: it does what is missing.

    :param new_path: makes a path to the peer.
    :param on_change: told when the state of a path has changed.
    :param cname: the canonical name of our streams (RFC 7022).
    """

    def __init__(self, new_path: Callable[[], Path], on_change: Callable[[], None], cname: str) -> None:
        self.negotiation: Negotiation
        "What was agreed on; set by the owner, whose negotiation asks for paths in turn."
        self.sctp: RTCSctpTransport | None = None
        "The SCTP association, from when it was first wanted."
        self._new_path = new_path
        self._on_change = on_change
        self._cname = cname
        self._paths: dict[str, Path] = {}
        self._spare: Path | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        # The program may keep what has ended; we do not: a peer can make any number of them.
        self._ended: weakref.WeakSet[RTCRtpTransceiver] = weakref.WeakSet()

    # Paths

    @property
    def paths(self) -> list[Path]:
        """The paths that sections use, or the one that the first section will use."""
        return [*self._paths.values(), *([] if self._spare is None else [self._spare])]

    def path_for(self, key: str) -> Path:
        """The path that the negotiation calls so, made when it is first asked for."""
        path = self._paths.get(key)
        if path is None:
            path = self._spare if self._spare is not None else self._made()
            self._spare = None
            self._paths[key] = path
        return path

    def first_path(self) -> Path:
        """The path that the first section will have; senders, receivers and channels begin with it."""
        if self._paths:
            return next(iter(self._paths.values()))
        if self._spare is None:
            self._spare = self._made()
        return self._spare

    def key_of(self, path: Path) -> str | None:
        """What the negotiation calls a path; ``None`` when no section uses it."""
        return next((key for key, other in self._paths.items() if other is path), None)

    def _made(self) -> Path:
        path = self._new_path()
        path.on_change = lambda: self._on_path_change(path)
        path.dtls.media.cname = self._cname
        return path

    def _on_path_change(self, path: Path) -> None:
        if path.dtls.state == "connected":
            self.start_senders()
            self._start_data()
        elif path.dtls.state in ("failed", "closed"):
            self._stop_data(path)
        self._on_change()

    # Putting into effect

    def apply(self) -> None:
        """Do what the negotiation says and is not done yet."""
        plans = self.connect()
        paths = {mid: self.path_for(plan.key) for plan in plans for mid in plan.mids}
        for transceiver in self.negotiation.transceivers:
            if isinstance(transceiver, RTCRtpTransceiver):
                self._apply_media(transceiver, paths.get(transceiver.mid or ""))
        section = self.negotiation.data_section
        if section is not None and section.mid in paths:
            self.want_data().use_transport(paths[section.mid].dtls)
            self._start_data()
        self._let_go(plans)

    def connect(self) -> list[TransportPlan]:
        """Tell the paths what is known of the peer's ends by now, its candidates above all."""
        plans = self.negotiation.transports()
        for plan in plans:
            self.path_for(plan.key).connect(plan)
        return plans

    def _let_go(self, plans: list[TransportPlan]) -> None:
        """Close the paths that no section uses any more; while a description is pending, none."""
        if self.negotiation.signaling_state is not SignalingState.STABLE:
            return
        keys = {plan.key for plan in plans}
        for key in [key for key in self._paths if key not in keys]:
            self.keep(self._paths.pop(key).close())

    # Media

    def _apply_media(self, transceiver: RTCRtpTransceiver, path: Path | None) -> None:
        direction = transceiver.current_direction
        receives = is_receiving(direction) and not transceiver.stopping
        sends = is_sending(direction) and not transceiver.stopping
        receiver, sender = transceiver.receiver, transceiver.sender
        sender._enabled = sends
        receiver.track._set_muted(not receives)
        mid = transceiver.mid
        if not receives:
            receiver.keep_counts()
        receiver.mid = mid
        if path is not None and mid is not None:
            sender.use_transport(path.dtls)
            receiver.use_transport(path.dtls)
            path.dtls.media.set_section(mid, _routes(transceiver) if receives else None)
            if sends:
                path.dtls.media.feedback_ssrc = sender._ssrc
            self._start_sender(transceiver)
        # Not before the transport has given out its last frames.
        receiver._enabled = receives

    def end_sections(self, mids: Sequence[str], transceivers: Sequence[Transceiver]) -> None:
        """Route nothing by these mids any more, and end what the negotiation has stopped."""
        for transceiver in transceivers:
            if isinstance(transceiver, RTCRtpTransceiver):
                self.end(transceiver)
        for path in self.paths:
            for mid in mids:
                path.dtls.media.set_section(mid, None)

    def end(self, transceiver: RTCRtpTransceiver) -> "asyncio.Task[Any] | None":
        """End sender and receiver; once."""
        if transceiver in self._ended:
            return None
        self._ended.add(transceiver)
        transceiver.receiver.handle_disconnect()
        transceiver.receiver.transport.media.unregister_receiver(transceiver.receiver)
        return self.keep(transceiver.end())

    def start_senders(self) -> None:
        """A sender may have got a track, or its transport a peer."""
        for transceiver in self.negotiation.transceivers:
            if isinstance(transceiver, RTCRtpTransceiver):
                self._start_sender(transceiver)

    def _start_sender(self, transceiver: RTCRtpTransceiver) -> None:
        sender, codecs = transceiver.sender, transceiver.negotiated.send_codecs
        is_ready = sender._enabled and sender.track is not None and sender.transport.state == "connected"
        # One that sends already goes on with what was negotiated now.
        if codecs and (is_ready or sender.is_sending) and is_sending(transceiver.current_direction):
            parameters = RTCRtpSendParameters(
                codecs=list(codecs),
                headerExtensions=list(transceiver.negotiated.header_extensions),
                muxId=transceiver.mid or "",
                rtcp=RTCRtcpParameters(cname=self._cname, ssrc=sender._ssrc, mux=True),
            )
            sender.start(parameters)

    # Data

    def want_data(self) -> RTCSctpTransport:
        """The SCTP association; made when it is first wanted."""
        if self.sctp is None:
            self.sctp = RTCSctpTransport(self.first_path().dtls)
        return self.sctp

    def _start_data(self) -> None:
        section, sctp = self.negotiation.data_section, self.sctp
        if sctp is None or section is None or section.remote_sctp_port is None:
            return
        if sctp.state == "new" and sctp.transport.state == "connected":
            # A section without max-message-size means 64 kB (RFC 8841 §6.1).
            size = 65_536 if section.max_message_size is None else section.max_message_size
            self.keep(sctp.start(RTCSctpCapabilities(maxMessageSize=size), section.remote_sctp_port))

    def _stop_data(self, path: Path) -> None:
        """When a transport is over, the association over it is too; its timers must not go on."""
        if self.sctp is not None and self.sctp.transport is path.dtls and self.sctp.state != "closed":
            self.keep(self.sctp.stop())

    # The end

    def keep(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something that nobody waits for, and log what it raises."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The transport may close while a part of it begins.
            level = logging.DEBUG if isinstance(error, ConnectionError) else logging.ERROR
            logger.log(level, "a part of the connection failed: %s", error, exc_info=error)

    async def close(self, transceivers: list[RTCRtpTransceiver]) -> None:
        """End all parts: tracks first, then channels, then paths. None waits longer than :data:`STOP_TIMEOUT`."""
        for transceiver in transceivers:
            self.end(transceiver)
        if self.sctp is not None and self.sctp.state != "closed":
            self.keep(self.sctp.stop())
        await self._finish()
        for path in self.paths:
            self.keep(path.close())
        await self._finish()

    async def _finish(self) -> None:
        """Wait for the tasks there are, and cancel what takes too long."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        for task in late:
            logger.error("a part of the connection did not end within %.0f s", STOP_TIMEOUT)
            task.cancel()
        if late:
            await asyncio.wait(late)


def _routes(transceiver: RTCRtpTransceiver) -> SectionRoutes:
    """What the transport is told of the section that a transceiver receives."""
    negotiated = transceiver.negotiated
    repairs = {
        group[0]: group[1]
        for kind, group in negotiated.remote_ssrc_groups
        if kind == "FID" and len(group) > 1
    }
    repairing = set(repairs.values())
    codecs = list(negotiated.receive_codecs)
    encodings = []
    for ssrc in negotiated.remote_ssrcs:
        if ssrc not in repairing and codecs:
            rtx = RTCRtpRtxParameters(repairs[ssrc]) if ssrc in repairs else None
            encodings.append(RTCRtpDecodingParameters(ssrc, codecs[0].payloadType or 0, rtx))
    return SectionRoutes(
        mid=transceiver.mid or "",
        kind=transceiver.kind,
        receiver=transceiver.receiver,
        parameters=RTCRtpReceiveParameters(
            codecs=codecs,
            headerExtensions=list(negotiated.header_extensions),
            muxId=transceiver.mid or "",
            encodings=encodings,
        ),
        rids=negotiated.rids,
        reduced_size=negotiated.rtcp_rsize,
    )
