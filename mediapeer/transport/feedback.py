"""RTCP: to whom the peer's goes, and what we tell the peer of its streams."""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from mediapeer.rtp import InboundStream, KeyframeRequest, RtpRouter, rtcp
from mediapeer.rtp.congestion import ArrivalRecorder
from mediapeer.rtp.rtcp import ReportBlock
from mediapeer.transport.routes import MediaSection

logger = logging.getLogger(__name__)

#: How many packets one NACK of the peer may ask for again: more is no repair.
MAXIMUM_NACKS = 128
#: Seconds that a stream is reported on after its last packet.
REPORTED = 10.0
#: Seconds between two receiver reports, on average, by whether there is video among what is received.
VIDEO_INTERVAL = 1.0
AUDIO_INTERVAL = 2.5
#: Seconds between two transport-wide feedbacks.
ARRIVALS_INTERVAL = 0.1
#: Seconds after a packet with a transport-wide sequence number in which the path is not estimated here.
ARRIVALS_COUNT = 5.0
#: The SSRC of feedback where there is no sender of ours; browsers take the same.
DEFAULT_FEEDBACK_SSRC = 1


class MediaSender(Protocol):
    """Who sends a stream of ours, and is told what the peer says of it. No method may block."""

    @property
    def ssrc(self) -> int:
        """Of the stream."""

    @property
    def rtx_ssrc(self) -> int | None:
        """Of its retransmissions, if it has such a stream. What the peer reports on them is not told."""

    def receive_report(self, block: ReportBlock, now: float) -> None:
        """The peer reports on the stream."""

    def receive_nack(self, numbers: Sequence[int], now: float) -> None:
        """The peer misses packets of the stream, each named once, :data:`MAXIMUM_NACKS` at most."""

    def receive_keyframe_request(self, now: float) -> None:
        """The peer wants a keyframe. It may say so at any rate."""

    def receive_bitrate(self, bits_per_second: int, now: float) -> None:
        """The peer says how much the path can carry, for all streams that it named together."""


class Feedback:
    """The RTCP of one transport.

    :param router: knows the streams.
    :param sections: by MID.
    :param counters: told what was dropped and why.
    :param send: sends an RTCP packet.
    :param on_error: told what a sender raised.
    """

    def __init__(
        self,
        router: RtpRouter,
        sections: Mapping[str, MediaSection],
        counters: Counter[str],
        send: Callable[[bytes], object],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.ssrc = DEFAULT_FEEDBACK_SSRC
        "The SSRC that our feedback bears."
        self.cname: str | None = None
        "The name that our reports bear, if any."
        self.is_reduced = False
        "Whether feedback on the whole path may go out by itself, as RTCP of reduced size (RFC 5506)."
        self.next_timeout = math.inf
        "When :meth:`handle_timeout` has something to do."
        self.is_reporting = False
        "Whether reports go out; :meth:`begin_reports` begins, and it ends when nothing has flowed for a while."
        self.last_numbered = -math.inf
        "When a packet with a transport-wide sequence number came last."
        self._router = router
        self._sections = sections
        self._counters = counters
        self._send = send
        self._on_error = on_error
        self._senders: dict[int, MediaSender] = {}
        self._report_at = math.inf
        self._arrivals = ArrivalRecorder()
        self._arrivals_at = math.inf
        self._arrivals_ssrc = 0

    # Senders

    def add_sender(self, sender: MediaSender) -> None:
        """Tell ``sender`` what the peer says of its streams."""
        self._senders[sender.ssrc] = sender
        if sender.rtx_ssrc is not None:
            self._senders[sender.rtx_ssrc] = sender

    def remove_sender(self, sender: MediaSender) -> None:
        """Tell it nothing any more."""
        self._senders = {ssrc: other for ssrc, other in self._senders.items() if other is not sender}

    def _tell(self, ssrc: int, tell: Callable[[MediaSender], None]) -> None:
        sender = self._senders.get(ssrc)
        if sender is None:
            return
        try:
            tell(sender)
        except Exception as error:
            self._on_error(error)

    # From the peer

    def receive(self, data: bytes, now: float) -> None:
        """Take RTCP, compound or of reduced size. What does not parse is dropped alone."""
        try:
            packets = rtcp.split(data)
        except rtcp.RtcpError as error:
            self._drop(error)
            return
        for packet in packets:
            if rtcp.is_transport_feedback(packet):
                # What we send has no transport-wide numbers. To read a datagram full of these takes milliseconds.
                self._counters["unasked_transport_feedback"] += 1
                continue
            try:
                parsed = rtcp.parse_packet(packet)
            except rtcp.RtcpError as error:
                self._drop(error)
            else:
                self._take(parsed, now)

    def _drop(self, error: Exception) -> None:
        self._counters["malformed_rtcp"] += 1
        logger.debug("an RTCP packet was dropped: %s", error)

    def _take(self, packet: rtcp.RtcpPacket, now: float) -> None:
        match packet:
            case rtcp.SenderReport():
                self._take_sender_report(packet, now)
                self._take_blocks(packet.reports, now)
            case rtcp.ReceiverReport():
                self._take_blocks(packet.reports, now)
            case rtcp.Nack():
                numbers = list(dict.fromkeys(packet.sequence_numbers))[:MAXIMUM_NACKS]
                self._tell(packet.media_ssrc, lambda sender: sender.receive_nack(numbers, now))
            case rtcp.PictureLossIndication():
                self._tell(packet.media_ssrc, lambda sender: sender.receive_keyframe_request(now))
            case rtcp.FullIntraRequest():
                # It names its sources in its entries, and none in its header (RFC 5104 §4.3.1.2); but some do.
                ssrcs = [packet.media_ssrc, *(ssrc for ssrc, _ in packet.entries)]
                self._tell_each(ssrcs, lambda sender: sender.receive_keyframe_request(now))
            case rtcp.Remb():
                self._tell_each(packet.ssrcs, lambda sender: sender.receive_bitrate(packet.bitrate, now))
            case rtcp.SourceDescription():
                for ssrc, cname in packet.cnames.items():
                    if (stream := self._router.stream(ssrc)) is not None:
                        stream.cname = cname
            case rtcp.Goodbye():
                self._take_goodbye(packet)

    def _tell_each(self, ssrcs: Sequence[int], tell: Callable[[MediaSender], None]) -> None:
        """Tell the senders of these sources, each once."""
        concerned = dict.fromkeys(self._senders[ssrc].ssrc for ssrc in ssrcs if ssrc in self._senders)
        for ssrc in concerned:
            self._tell(ssrc, tell)

    def _take_sender_report(self, report: rtcp.SenderReport, now: float) -> None:
        stream = self._router.stream(report.ssrc)
        if stream is not None and not stream.receive_report(
            report.ntp_timestamp, report.rtp_timestamp, report.packet_count, report.octet_count, now
        ):
            self._counters["disbelieved_sender_reports"] += 1

    def _take_blocks(self, blocks: Sequence[ReportBlock], now: float) -> None:
        told = set()
        for block in blocks:
            sender = self._senders.get(block.ssrc)
            if sender is None or sender.ssrc != block.ssrc or block.ssrc in told:
                continue
            told.add(block.ssrc)
            try:
                sender.receive_report(block, now)
            except Exception as error:
                self._on_error(error)

    def _take_goodbye(self, packet: rtcp.Goodbye) -> None:
        """A source has ended (RFC 3550 §6.6). That ends no track: another layer, or another source, may go on."""
        for ssrc in packet.ssrcs:
            if (stream := self._router.stream(ssrc)) is not None:
                stream.ended = True

    # Requests

    def send_requests(self, section: MediaSection, now: float) -> None:
        """Ask the peer for what the receiver of a section misses (RFC 4585, RFC 5104)."""
        for request in section.receiver.requests(now):
            stream = self._router.stream(request.ssrc)
            if stream is None:
                continue  # the router has forgotten it: it was silent for long
            if isinstance(request, KeyframeRequest):
                self._ask_keyframe(stream, section)
                continue
            stream.nack_count += 1
            nack = rtcp.Nack(self.ssrc, request.ssrc, request.sequence_numbers)
            self._send_feedback(nack.serialize(), section.routes.reduced_size)

    def _ask_keyframe(self, stream: InboundStream, section: MediaSection) -> None:
        """By a Picture Loss Indication, or by a Full Intra Request where only that was negotiated.

        Requests are numbered for each source by itself (RFC 5104 §4.3.1.1).
        """
        feedback, is_reduced = section.section.feedback, section.routes.reduced_size
        if "ccm fir" in feedback and "nack pli" not in feedback:
            stream.fir_count += 1
            request = rtcp.FullIntraRequest(self.ssrc, [(stream.ssrc, stream.fir_count & 0xFF)])
            self._send_feedback(request.serialize(), is_reduced)
        else:
            stream.pli_count += 1
            self._send_feedback(rtcp.PictureLossIndication(self.ssrc, stream.ssrc).serialize(), is_reduced)

    def _send_feedback(self, data: bytes, is_reduced: bool) -> None:
        """Send feedback, alone where the peer takes that.

        Otherwise it goes out behind a report, here an empty one, and our name (RFC 3550 §6.1, RFC 4585 §3.1).
        """
        self._send(data if is_reduced else self._report_of([]) + data)

    # Reports

    def begin_reports(self, now: float) -> None:
        """RTP has come, and nothing is reported yet."""
        self.is_reporting = True
        # The first one sooner (RFC 3550 §6.2).
        self._report_at = now + 0.5 * self._interval()
        self._set_timeout()

    def note_arrival(self, number: int, ssrc: int, now: float) -> None:
        """A packet with a transport-wide sequence number has come."""
        self.last_numbered = now
        self._arrivals_ssrc = ssrc
        self._arrivals.add(number, now)
        if self._arrivals_at == math.inf:
            self._arrivals_at = now + ARRIVALS_INTERVAL
            self._set_timeout()

    def handle_timeout(self, now: float) -> None:
        """Send what is due. When nothing flows, nothing is due any more."""
        if now >= self._arrivals_at:
            self._arrivals_at = math.inf
            for feedback in self._arrivals.feedback(self.ssrc, self._arrivals_ssrc):
                self._send_feedback(feedback.serialize(), self.is_reduced)
        if now >= self._report_at:
            self.is_reporting = self._report(now)
            self._report_at = now + self._interval() if self.is_reporting else math.inf
        self._set_timeout()

    def _set_timeout(self) -> None:
        self.next_timeout = min(self._report_at, self._arrivals_at)

    def end(self) -> None:
        """Nothing is to be sent any more."""
        self.is_reporting = False
        self._report_at = self._arrivals_at = self.next_timeout = math.inf
        self._arrivals = ArrivalRecorder()

    def _interval(self) -> float:
        """Seconds until the next report, not the same every time: so that many ends do not report at once."""
        has_video = any(section.section.kind == "video" for section in self._sections.values())
        return (VIDEO_INTERVAL if has_video else AUDIO_INTERVAL) * random.uniform(0.5, 1.5)

    def _report(self, now: float) -> bool:
        """Report on all streams that flow, retransmissions too; whether there was any."""
        streams = [stream for stream in self._router.streams() if stream.is_flowing(now, REPORTED)]
        for start in range(0, len(streams), rtcp.MAXIMUM_COUNT):
            blocks = [stream.report_block(now) for stream in streams[start : start + rtcp.MAXIMUM_COUNT]]
            self._send(self._report_of(blocks))
        return bool(streams)

    def _report_of(self, blocks: Sequence[ReportBlock]) -> bytes:
        """A receiver report, and our name."""
        data = rtcp.ReceiverReport(self.ssrc, blocks).serialize()
        if self.cname is not None:
            data += rtcp.SourceDescription({self.ssrc: self.cname}).serialize()
        return data

    def report_bitrate(self, bitrate: int, now: float) -> None:
        """Tell the peer how much the path can carry (draft-alvestrand-rmcat-remb-03)."""
        ssrcs = [stream.ssrc for stream in self._media_streams(now)][:31]
        self._send_feedback(rtcp.Remb(self.ssrc, bitrate, ssrcs).serialize(), self.is_reduced)

    def _media_streams(self, now: float) -> Iterator[InboundStream]:
        for stream in self._router.streams():
            if not stream.is_retransmission and stream.is_flowing(now, REPORTED):
                yield stream
