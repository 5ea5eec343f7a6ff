"""What SRTP carries: from the protected datagram to the receivers and senders it is for, and back."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable

from aiortc.rtcdtlstransport import RtpReceiver, RtpSender
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtp import RtpPacket as AiortcRtpPacket

from mediapeer.rtp import (
    InboundStream,
    Refusal,
    RtpError,
    RtpPacket,
    RtpRouter,
    RtxError,
    repaired_stream,
    unwrap,
)
from mediapeer.rtp.router import SECTION_SOURCES
from mediapeer.srtp import SrtpContexts, SrtpError, is_rtcp
from mediapeer.transport.bandwidth import BandwidthEstimator
from mediapeer.transport.feedback import Feedback
from mediapeer.transport.routes import MediaSection, SectionRoutes, direct_routes
from mediapeer.transport.sequencer import Sequencer

logger = logging.getLogger(__name__)

#: The longest SRTP packet that is taken, in bytes: what fits an Ethernet frame, and libsrtp's binding.
MAXIMUM_PACKET_LENGTH = 1500
#: Protected packets that wait for the end of the handshake.
EARLY_PACKETS = 128
#: Packets that wait for a section to be known, and as many for receivers to start.
UNROUTED_PACKETS = 128
#: Seconds that packets wait for their section to be known.
UNROUTED_PATIENCE = 2.0
#: How many synchronization sources one section may have.
MAXIMUM_SSRCS = SECTION_SOURCES
#: How many sources may ever send authentic packets over one transport: libsrtp keeps a replay window for each.
MAXIMUM_SOURCES = 512
#: Sections without routes whose receivers are remembered: they may have some again.
PAUSED_SECTIONS = 64
#: Seconds between two notices that the peer was heard.
_HEARD_INTERVAL = 0.1
_ABS_SEND_TIME_LENGTH = 3


class MediaPath:
    """The SRTP side of one transport. Packets are taken in order; ``now`` is the event loop's time in seconds.

    :param counters: told what was dropped and why.
    :param heard: called for packets that proved to be the peer's, not for every one of them.
    :param send: sends an RTCP packet of ours, at once or never.
    :param release_soon: sees to it that :meth:`release` is called.
    """

    def __init__(
        self,
        counters: Counter[str],
        heard: Callable[[], None],
        send: Callable[[bytes], None] = lambda packet: None,
        release_soon: Callable[[], None] = lambda: None,
    ) -> None:
        self.contexts: SrtpContexts | None = None
        "Set when the handshake has authenticated the peer; before that nothing is unprotected or sent."
        self.on_first_packet: Callable[[str], None] | None = None
        "Told the MID of a section whose receiver has not started, when its first packet comes: time to start it."
        self._counters = counters
        self._heard = heard
        self._release_soon = release_soon
        self._last_heard = float("-inf")
        self._router = RtpRouter(counters)
        self._sections: dict[str, MediaSection] = {}
        self._paused: dict[str, MediaSection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._feedback = Feedback(self._router, self._sections, counters, self._sequencer(), send)
        self._bandwidth = BandwidthEstimator(counters)
        self._takes_remb = False
        self._early: deque[tuple[bytes, float]] = deque()
        self._unrouted: deque[tuple[RtpPacket, float]] = deque()
        self._sources: set[bytes] = set()
        self._direct_sections = 0

    # What the peer connection sees

    @property
    def feedback_ssrc(self) -> int:
        """The SSRC under which our REMB and keyframe requests go: that of a sender of ours, 1 when there is none."""
        return self._feedback.ssrc

    @feedback_ssrc.setter
    def feedback_ssrc(self, ssrc: int) -> None:
        self._feedback.ssrc = ssrc

    def set_section(self, mid: str, routes: SectionRoutes | None) -> None:
        """Route what belongs to the section ``mid`` as ``routes`` says, or nothing there any more.

        To be called after each negotiation; what has not changed goes on undisturbed. The receiver gets packets
        once it has registered itself (``receive``); until then they wait, and :attr:`on_first_packet` is called.
        """
        if routes is None:
            self._pause(mid)
        else:
            section = self._sections.get(mid) or self._paused.pop(mid, None)
            if section is None:
                section = MediaSection(routes, self._sequencer())
            else:
                self._counters["unrouted_rtp"] += section.update(routes)
            self._sections[mid] = section
            self._router.set_section(section.section)
            self._release_soon()
        self._takes_remb = any(s.routes.takes_remb for s in self._sections.values() if not s.is_direct)

    def _pause(self, mid: str) -> None:
        """Route nothing to a section. Its receiver goes on where it was when the section has routes again."""
        section = self._sections.pop(mid, None)
        self._router.remove_section(mid)
        if section is None or section.is_direct:
            return
        section.waiting.clear()
        section.is_announced = False
        self._paused[mid] = section
        if len(self._paused) > PAUSED_SECTIONS:
            del self._paused[next(iter(self._paused))]

    def streams(self) -> list[InboundStream]:
        """The counts of every source that the peer sends, layers and retransmissions each for itself."""
        return self._router.streams()

    def selected_stream(self, mid: str) -> InboundStream | None:
        """The stream whose packets the receiver of a section gets now."""
        section = self._sections.get(mid)
        return section.selector.current if section is not None else None

    # What receivers and senders see

    def register_receiver(self, receiver: RtpReceiver, parameters: RTCRtpReceiveParameters) -> None:
        """The receiver is ready for the packets of its section.

        One that has no section gets a section of its own by its parameters, and every packet as it comes.
        """
        for section in (*self._sections.values(), *self._paused.values()):
            if section.routes.receiver is receiver and not section.is_direct:
                section.is_started = True
                self._release_soon()
                return
        self.unregister_receiver(receiver)
        self._direct_sections += 1
        routes = direct_routes(receiver, parameters, self._direct_sections)
        section = MediaSection(routes, self._sequencer(), is_direct=True)
        self._sections[routes.mid] = section
        self._router.set_section(section.section)
        self._release_soon()

    def unregister_receiver(self, receiver: RtpReceiver) -> None:
        """Give nothing to ``receiver`` any more."""
        self._paused = {mid: s for mid, s in self._paused.items() if s.routes.receiver is not receiver}
        for mid, section in list(self._sections.items()):
            if section.routes.receiver is not receiver:
                continue
            if section.is_direct:
                self.set_section(mid, None)
            else:
                section.is_started = False
                section.routes.receiver = None
                section.waiting.clear()

    def register_sender(self, sender: RtpSender, parameters: RTCRtpSendParameters) -> None:
        """Route feedback on the SSRC of ``sender`` to it."""
        self._feedback.senders[sender._ssrc] = sender

    def unregister_sender(self, sender: RtpSender) -> None:
        """Route no feedback to ``sender`` any more."""
        self._feedback.senders = {ssrc: s for ssrc, s in self._feedback.senders.items() if s is not sender}

    def disconnect(self) -> None:
        """Tell the receivers that nothing more comes, which ends their tracks; forget what waits."""
        self._early.clear()
        self._unrouted.clear()
        for section in (*self._sections.values(), *self._paused.values()):
            section.waiting.clear()
            if section.routes.receiver is None:
                continue
            try:
                section.routes.receiver._handle_disconnect()
            except Exception:
                logger.exception("a receiver did not take the end of its transport")

    async def stop(self) -> None:
        """End handlers of packets that are still waiting for something."""
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # What goes out

    def protect(self, packet: bytes, now: float) -> bytes | None:
        """Protect an RTP or RTCP packet; ``None`` when there is nothing to send, or, counted, when it cannot be.

        :raises ConnectionError: when there are no keys: before the handshake, or when no profile was negotiated.
        """
        if self.contexts is None:
            raise ConnectionError("no SRTP keys: the handshake negotiated no protection profile")
        try:
            if is_rtcp(packet):
                feedback = self._feedback.outgoing(packet, now)
                return self.contexts.protect(feedback) if feedback is not None else None
            return self.contexts.protect(packet)
        except SrtpError as error:
            self._counters["srtp_protect_failed"] += 1
            logger.debug("a packet of %d bytes was not protected: %s", len(packet), error)
            return None

    # What comes in

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram whose first byte says SRTP. Before the handshake's end it waits."""
        if len(datagram) > MAXIMUM_PACKET_LENGTH:
            self._counters["srtp_too_long"] += 1
        elif self.contexts is not None:
            self._unprotect(self.contexts, datagram, now)
        elif len(self._early) < EARLY_PACKETS:
            self._early.append((datagram, now))
        else:
            self._counters["early_srtp_full"] += 1

    def release(self, now: float) -> None:
        """Take what has been waiting, as far as it need not wait any longer."""
        while self._early and self.contexts is not None:
            self._unprotect(self.contexts, *self._early.popleft())
        if self._unrouted and self._sections:
            unrouted, self._unrouted = self._unrouted, deque()
            for packet, arrival in unrouted:
                if now - arrival > UNROUTED_PATIENCE:
                    self._counters["unrouted_rtp"] += 1
                else:
                    self._route(packet, arrival, now)
        for section in list(self._sections.values()):
            while section.waiting and section.is_started:
                self._hand_over(section, *section.waiting.popleft())

    def _unprotect(self, contexts: SrtpContexts, datagram: bytes, now: float) -> None:
        control = is_rtcp(datagram)
        source = datagram[4:8] if control else datagram[8:12]
        if source not in self._sources and len(self._sources) >= MAXIMUM_SOURCES:
            self._counters["srtp_of_too_many_sources"] += 1
            return
        try:
            packet = contexts.unprotect_rtcp(datagram) if control else contexts.unprotect_rtp(datagram)
        except SrtpError as error:
            self._counters["srtp_unprotect_failed"] += 1
            logger.debug("an SRTP packet was dropped: %s", error)
            return
        self._sources.add(source)
        if now - self._last_heard >= _HEARD_INTERVAL:
            self._last_heard = now
            self._heard()
        if control:
            self._feedback.receive(packet, now)
            return
        try:
            parsed = RtpPacket.parse(packet)
        except RtpError as error:
            self._counters["malformed_rtp"] += 1
            logger.debug("an RTP packet was dropped: %s", error)
            return
        self._route(parsed, now, now)

    def _route(self, packet: RtpPacket, arrival: float, now: float) -> None:
        sent_at = packet.extensions.get(self._router.extensions.abs_send_time)
        if sent_at is not None and len(sent_at) != _ABS_SEND_TIME_LENGTH:
            self._counters["malformed_rtp"] += 1
            return
        stream = self._router.route(packet, arrival)
        if isinstance(stream, Refusal):
            self._refuse(packet, stream, arrival, now)
            return
        section = self._sections[stream.mid]
        clock_rate = section.section.formats[packet.payload_type].clock_rate
        extended = stream.receive(packet, arrival, clock_rate)
        if sent_at is not None and self._takes_remb:
            self._estimate(packet, sent_at, arrival)
        if section.is_direct:
            self._deliver(section, stream, packet, extended, arrival, False)
        elif stream.is_retransmission or section.section.formats[packet.payload_type].apt is not None:
            self._take_retransmission(section, stream, packet, arrival)
        else:
            self._deliver(section, stream, packet, extended, arrival, False)

    def _refuse(self, packet: RtpPacket, refusal: Refusal, arrival: float, now: float) -> None:
        """Keep a packet whose section may be known soon, or count it.

        Media overtakes signaling: the first packets, a keyframe among them, may come before their section is set.
        """
        waits = not self._sections or (
            refusal is Refusal.UNKNOWN_MID and now - arrival < UNROUTED_PATIENCE and not self._all_direct()
        )
        if waits and len(self._unrouted) >= UNROUTED_PACKETS:
            while self._unrouted and now - self._unrouted[0][1] >= UNROUTED_PATIENCE:
                self._unrouted.popleft()
                self._counters["unrouted_rtp"] += 1
        if waits and len(self._unrouted) < UNROUTED_PACKETS:
            self._unrouted.append((packet, arrival))
        else:
            self._counters[refusal.value] += 1

    def _all_direct(self) -> bool:
        return all(section.is_direct for section in self._sections.values())

    def _estimate(self, packet: RtpPacket, sent_at: bytes, arrival: float) -> None:
        size = len(packet.payload) + packet.padding_length
        bitrate = self._bandwidth.add(int.from_bytes(sent_at, "big"), arrival, size, packet.ssrc)
        if bitrate is not None:
            self._feedback.report_bitrate(bitrate, arrival)

    def _take_retransmission(
        self, section: MediaSection, stream: InboundStream, packet: RtpPacket, arrival: float
    ) -> None:
        if not packet.payload:
            return  # padding, by which a sender probes the path
        original = repaired_stream(stream, section.section, self._router, arrival)
        if original is None:
            self._counters["rtx_of_unknown_stream"] += 1
            return
        try:
            unwrap(packet, section.section, original)
        except RtxError as error:
            self._counters["malformed_rtx"] += 1
            logger.debug("a retransmission was dropped: %s", error)
            return
        original.receive_retransmission(len(packet.payload))
        extended = original.extend(packet.sequence_number)
        self._deliver(section, original, packet, extended, arrival, True)

    def _deliver(
        self,
        section: MediaSection,
        stream: InboundStream,
        packet: RtpPacket,
        extended: int,
        arrival: float,
        is_repair: bool,
    ) -> None:
        """Give a packet to the receiver of its section, or keep it until that has started."""
        if section.routes.receiver is None:
            return
        if section.is_started and not section.waiting:
            self._hand_over(section, stream, packet, extended, arrival, is_repair)
            return
        if sum(len(other.waiting) for other in self._sections.values()) < UNROUTED_PACKETS:
            section.waiting.append((stream, packet, extended, arrival, is_repair))
        else:
            self._counters["unstarted_rtp_full"] += 1
        if section.is_started or section.is_announced or self.on_first_packet is None:
            return
        section.is_announced = True
        try:
            self.on_first_packet(section.mid)
        except Exception:
            logger.exception("the start of a receiver failed")

    def _hand_over(
        self,
        section: MediaSection,
        stream: InboundStream,
        packet: RtpPacket,
        extended: int,
        arrival: float,
        is_repair: bool,
    ) -> None:
        """Give a packet to the receiver, if it is of the stream that the receiver gets."""
        receiver = section.routes.receiver
        if receiver is None:
            return
        if not section.is_direct:
            selector = section.selector
            siblings = self._router.streams_of(section.mid)
            taken = selector.take(stream, packet, extended, siblings, arrival, is_repair=is_repair)
            if selector.keyframe_wanted:
                self._feedback.ask_keyframe(stream, arrival)
            if not taken:
                return
        section.run(
            receiver._handle_rtp_packet(
                self._for_aiortc(packet, section), arrival_time_ms=int(arrival * 1000)
            )
        )

    def _for_aiortc(self, packet: RtpPacket, section: MediaSection) -> AiortcRtpPacket:
        """The packet as aiortc's receivers want it.

        Without the time of sending: bandwidth is estimated here, for all of them together.
        """
        converted = AiortcRtpPacket(
            payload_type=packet.payload_type,
            marker=int(packet.marker),
            sequence_number=packet.sequence_number,
            timestamp=packet.timestamp,
            ssrc=packet.ssrc,
            payload=packet.payload,
        )
        converted.csrc = list(packet.csrcs)
        converted.padding_size = packet.padding_length
        if section.is_direct:
            sent_at = packet.extensions.get(self._router.extensions.abs_send_time)
            if sent_at is not None:
                converted.extensions.abs_send_time = int.from_bytes(sent_at, "big")
        return converted

    # Handlers

    def _sequencer(self) -> Sequencer:
        return Sequencer(self._tasks, self._handler_failed, self._handlers_full)

    def _handlers_full(self) -> None:
        self._counters["packet_handlers_full"] += 1

    def _handler_failed(self, error: Exception) -> None:
        """What one recipient makes of a packet must not end the call for the others."""
        if isinstance(error, ConnectionError):
            # It answered (feedback, a retransmission), and the transport closed meanwhile.
            self._counters["unanswered_packets"] += 1
            return
        self._counters["packet_handler_errors"] += 1
        # Once is enough: a peer could fill the log with packets of this kind.
        level = logging.WARNING if self._counters["packet_handler_errors"] == 1 else logging.DEBUG
        logger.log(level, "a packet could not be handled: %s: %s", type(error).__name__, error)
