"""What SRTP carries: from the protected datagram to the frames of each section, and back."""

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from mediapeer.rtp import (
    EncodedFrame,
    InboundStream,
    Refusal,
    RepairCounts,
    RtpError,
    RtpPacket,
    RtpRouter,
    RtxError,
    repaired_stream,
    unwrap,
)
from mediapeer.srtp import SrtpContexts, SrtpError, is_rtcp
from mediapeer.transport.bandwidth import BandwidthEstimator
from mediapeer.transport.feedback import ARRIVALS_COUNT, Feedback, MediaSender
from mediapeer.transport.routes import FrameReceiver, MediaSection, SectionRoutes

logger = logging.getLogger(__name__)

#: The longest SRTP packet that is taken, in bytes: what fits an Ethernet frame, and libsrtp's binding.
MAXIMUM_PACKET_LENGTH = 1500
#: Protected packets that wait for the end of the handshake.
EARLY_PACKETS = 128
#: Packets that wait for a section to be known.
UNROUTED_PACKETS = 128
#: Seconds that packets wait for their section to be known.
UNROUTED_PATIENCE = 2.0
#: How many sources may ever send authentic packets over one transport: libsrtp keeps a replay window for each.
MAXIMUM_SOURCES = 512
#: Sections without routes whose receivers are remembered: they may have some again.
PAUSED_SECTIONS = 64
#: Seconds between two notices that the peer was heard.
_HEARD_INTERVAL = 0.1
#: The least number of seconds that a time-out is put off.
_SOON = 0.001
#: Feedback that concerns no section alone.
_OF_THE_PATH = frozenset({"goog-remb", "transport-cc"})
_ABS_SEND_TIME_LENGTH = 3
_TRANSPORT_SEQUENCE_NUMBER_LENGTH = 2


class MediaPath:
    """The SRTP side of one transport. Packets are taken in order; ``now`` is the event loop's time in seconds.

    :param counters: told what was dropped and why.
    :param heard: called for packets that proved to be the peer's, not for every one of them.
    :param send: sends an RTCP packet of ours, at once or never.
    :param release_soon: sees to it that :meth:`release` is called.
    :param arm: sees to it that :meth:`handle_timeout` is called at a time, instead of when it said before;
        with ``None``, not at all.
    :param clock: the time.
    :param round_trip_time: that of the path, in seconds, if it is known.
    """

    def __init__(
        self,
        counters: Counter[str],
        heard: Callable[[], None],
        send: Callable[[bytes], object] = lambda packet: None,
        release_soon: Callable[[], None] = lambda: None,
        *,
        arm: Callable[[float | None], None] = lambda when: None,
        clock: Callable[[], float] = time.monotonic,
        round_trip_time: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.contexts: SrtpContexts | None = None
        "Set when the handshake has authenticated the peer; before that nothing is unprotected or sent."
        self._counters = counters
        self._heard = heard
        self._release_soon = release_soon
        self._arm = arm
        self._clock = clock
        self._round_trip_time = round_trip_time
        self._last_heard = -math.inf
        # When handle_timeout() will be called.
        self._due = math.inf
        self._router = RtpRouter(counters)
        self._sections: dict[str, MediaSection] = {}
        self._paused: dict[str, MediaSection] = {}
        self._feedback = Feedback(self._router, self._sections, counters, send, self._handler_failed)
        self._bandwidth = BandwidthEstimator(counters)
        self._takes_remb = False
        self._takes_arrivals = False
        self._early: deque[tuple[bytes, float]] = deque()
        self._unrouted: deque[tuple[RtpPacket, float]] = deque()
        self._sources: set[bytes] = set()

    # What the peer connection sees

    @property
    def feedback_ssrc(self) -> int:
        """The SSRC under which our feedback and reports go: that of a sender of ours, 1 when there is none."""
        return self._feedback.ssrc

    @feedback_ssrc.setter
    def feedback_ssrc(self, ssrc: int) -> None:
        self._feedback.ssrc = ssrc

    @property
    def cname(self) -> str | None:
        """The canonical name that our receiver reports bear; ``None`` for none (RFC 3550 §6.5.1)."""
        return self._feedback.cname

    @cname.setter
    def cname(self, cname: str | None) -> None:
        self._feedback.cname = cname

    def set_section(self, mid: str, routes: SectionRoutes | None) -> None:
        """Route what belongs to the section ``mid`` as ``routes`` says, or nothing there any more.

        To be called after each negotiation; what has not changed goes on undisturbed. A section that had none for
        a while goes on with its receiver and its counts.
        """
        if routes is None:
            self._pause(mid)
        else:
            section = self._sections.get(mid) or self._paused.pop(mid, None)
            if section is None:
                section = MediaSection(routes, self._router, self._counters)
            else:
                section.update(routes)
            section.receiver.round_trip_time = self._round_trip_time()
            self._sections[mid] = section
            self._router.set_section(section.section)
            self._release_soon()
        negotiated = {kind for section in self._sections.values() for kind in section.section.feedback}
        self._takes_remb = "goog-remb" in negotiated
        self._takes_arrivals = "transport-cc" in negotiated
        self._feedback.is_reduced = all(
            section.routes.reduced_size
            for section in self._sections.values()
            if not _OF_THE_PATH.isdisjoint(section.section.feedback)
        )

    def _pause(self, mid: str) -> None:
        section = self._sections.pop(mid, None)
        if section is not None and section.routes.receiver is not None:
            self._give(section, section.receiver.end())
            self._paused[mid] = section
        self._router.remove_section(mid)
        if len(self._paused) > PAUSED_SECTIONS:
            del self._paused[next(iter(self._paused))]

    def unregister_receiver(self, receiver: FrameReceiver) -> None:
        """Give nothing to ``receiver`` any more, and let go of it."""
        self._paused = {mid: s for mid, s in self._paused.items() if s.routes.receiver is not receiver}
        for section in self._sections.values():
            if section.routes.receiver is receiver:
                section.receiver.end()
                section.routes.receiver = None

    def streams(self) -> list[InboundStream]:
        """The counts of every source that the peer sends, layers and retransmissions each for itself."""
        return self._router.streams()

    def selected_stream(self, mid: str) -> InboundStream | None:
        """The stream whose frames the receiver of a section gets now."""
        section = self._sections.get(mid)
        return section.receiver.current if section is not None else None

    def counts(self, mid: str) -> RepairCounts:
        """What has become of the packets of a section that were wanted."""
        section = self._sections.get(mid) or self._paused.get(mid)
        return section.receiver.counts if section is not None else RepairCounts()

    def request_keyframe(self, mid: str) -> None:
        """Ask the peer for a keyframe of what a section receives, as soon as it may be asked again."""
        section = self._sections.get(mid)
        if section is not None:
            section.receiver.request_keyframe()
            self._follow_up(section, self._clock())

    def add_sender(self, sender: MediaSender) -> None:
        """Tell ``sender`` what the peer says of its SSRCs, which stay the same as long as it is here."""
        self._feedback.add_sender(sender)

    def remove_sender(self, sender: MediaSender) -> None:
        """Tell ``sender`` nothing any more."""
        self._feedback.remove_sender(sender)

    def disconnect(self) -> None:
        """Tell the receivers that nothing more comes, which ends their tracks; forget what waits."""
        self._early.clear()
        self._unrouted.clear()
        for section in (*self._sections.values(), *self._paused.values()):
            receiver = section.routes.receiver
            if receiver is None:
                continue
            self._give(section, section.receiver.end())
            try:
                receiver.handle_disconnect()
            except Exception:
                logger.exception("a receiver did not take the end of its transport")
        self._feedback.end()
        self._due = math.inf
        self._arm(None)

    # What goes out

    def protect(self, packet: bytes) -> bytes | None:
        """Protect an RTP or RTCP packet; ``None`` when it cannot be: there are no keys, or, counted, it is broken."""
        if self.contexts is None:
            return None
        try:
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

    def _unprotect(self, contexts: SrtpContexts, datagram: bytes, now: float) -> None:
        control = is_rtcp(datagram)
        source = datagram[4:8] if control else datagram[8:12]
        is_new = source not in self._sources
        if is_new and len(self._sources) >= MAXIMUM_SOURCES:
            self._counters["srtp_of_too_many_sources"] += 1
            return
        try:
            packet = contexts.unprotect_rtcp(datagram) if control else contexts.unprotect_rtp(datagram)
        except SrtpError as error:
            self._counters["srtp_unprotect_failed"] += 1
            logger.debug("an SRTP packet was dropped: %s", error)
            return
        if is_new:
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
        sent_at = None
        if packet.extensions:
            identifiers = self._router.extensions
            sent_at = packet.extensions.get(identifiers.abs_send_time)
            number = packet.extensions.get(identifiers.transport_sequence_number)
            # What is said of another length is as good as not said; the payload is none the worse for it.
            if sent_at is not None and len(sent_at) != _ABS_SEND_TIME_LENGTH:
                self._counters["malformed_header_extension"] += 1
                sent_at = None
            if number is not None and len(number) != _TRANSPORT_SEQUENCE_NUMBER_LENGTH:
                self._counters["malformed_header_extension"] += 1
                number = None
            if number is not None and self._takes_arrivals:
                # Of all packets, whatever becomes of them: the path has carried them.
                self._feedback.note_arrival(number[0] << 8 | number[1], packet.ssrc, arrival)
                if self._feedback.next_timeout < self._due:
                    self._wake_at(self._feedback.next_timeout, now)
        stream = self._router.route(packet, arrival)
        if isinstance(stream, Refusal):
            self._refuse(packet, stream, arrival, now)
            return
        section = self._sections[stream.mid]
        format = section.section.formats[packet.payload_type]
        extended = stream.receive(packet, arrival, format.clock_rate)
        if sent_at is not None and self._takes_remb:
            self._estimate(packet, sent_at, arrival)
        if not self._feedback.is_reporting:
            self._feedback.begin_reports(now)
            self._wake_at(min(self._feedback.next_timeout, self._due), now)
        if stream.is_retransmission or format.apt is not None:
            self._take_retransmission(section, stream, packet, arrival, now)
        else:
            self._deliver(section, stream, packet, extended, arrival, now, False)

    def _refuse(self, packet: RtpPacket, refusal: Refusal, arrival: float, now: float) -> None:
        """Keep a packet whose section may be known soon, or count it.

        Media overtakes signaling: the first packets, a keyframe among them, may come before their section is set.
        """
        waits = not self._sections or (refusal is Refusal.UNKNOWN_MID and now - arrival < UNROUTED_PATIENCE)
        if waits and len(self._unrouted) >= UNROUTED_PACKETS:
            while self._unrouted and now - self._unrouted[0][1] >= UNROUTED_PATIENCE:
                self._unrouted.popleft()
                self._counters["unrouted_rtp"] += 1
        if waits and len(self._unrouted) < UNROUTED_PACKETS:
            self._unrouted.append((packet, arrival))
        else:
            self._counters[refusal.value] += 1

    def _estimate(self, packet: RtpPacket, sent_at: bytes, arrival: float) -> None:
        if arrival - self._feedback.last_numbered < ARRIVALS_COUNT:
            return  # the peer estimates the path by our transport-wide feedback
        size = len(packet.payload) + packet.padding_length
        bitrate = self._bandwidth.add(int.from_bytes(sent_at, "big"), arrival, size, packet.ssrc)
        if bitrate is not None:
            self._feedback.report_bitrate(bitrate, arrival)

    def _take_retransmission(
        self, section: MediaSection, stream: InboundStream, packet: RtpPacket, arrival: float, now: float
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
        self._deliver(section, original, packet, extended, arrival, now, True)

    def _deliver(
        self,
        section: MediaSection,
        stream: InboundStream,
        packet: RtpPacket,
        extended: int,
        arrival: float,
        now: float,
        is_repair: bool,
    ) -> None:
        """Give a packet to the receiver of its section, and the frames that come out of it to who wants them."""
        receiver = section.receiver
        taker = section.routes.receiver
        receiver.is_wanted = taker is not None and taker.is_wanted
        frames = receiver.receive(stream, packet, extended, arrival, is_repair=is_repair)
        if frames:
            self._give(section, frames)
        if receiver.has_requests or receiver.next_timeout is not None:
            self._follow_up(section, now)

    def _give(self, section: MediaSection, frames: Sequence[EncodedFrame]) -> None:
        taker = section.routes.receiver
        if taker is None:
            return
        for frame in frames:
            try:
                taker.take_frame(frame)
            except Exception as error:
                self._handler_failed(error)

    # Time

    def _follow_up(self, section: MediaSection, now: float) -> None:
        """Send what a receiver wants to have sent, and be there when it wants to be called."""
        receiver = section.receiver
        if receiver.has_requests:
            self._feedback.send_requests(section, now)
        if (when := receiver.next_timeout) is not None and when < self._due:
            self._wake_at(when, now)

    def _wake_at(self, when: float, now: float) -> None:
        self._due = max(when, now + _SOON)
        self._arm(self._due)

    def handle_timeout(self, now: float) -> None:
        """Do what is due: give up what was waited for, ask again, report. To be called when it was armed for."""
        self._due = math.inf
        if self.contexts is None:
            return
        is_reporting = now >= self._feedback.next_timeout
        self._feedback.handle_timeout(now)
        for section in list(self._sections.values()):
            receiver = section.receiver
            if is_reporting:
                receiver.round_trip_time = self._round_trip_time()
            if receiver.next_timeout is not None and receiver.next_timeout <= now:
                self._give(section, receiver.handle_timeout(now))
            self._follow_up(section, now)
        if self._feedback.next_timeout < self._due:
            self._wake_at(self._feedback.next_timeout, now)

    def _handler_failed(self, error: Exception) -> None:
        """What one recipient makes of a packet must not end the call for the others."""
        self._counters["packet_handler_errors"] += 1
        # Once is enough: a peer could fill the log with packets of this kind.
        level = logging.WARNING if self._counters["packet_handler_errors"] == 1 else logging.DEBUG
        logger.log(level, "a packet could not be handled: %s: %s", type(error).__name__, error)
