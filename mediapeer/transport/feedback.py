"""RTCP: to whom the peer's goes, and ours made to say what the peer knows."""

import logging
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from aiortc.rtcdtlstransport import RtpSender
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
    pack_remb_fci,
    unpack_remb_fci,
)

from mediapeer.rtp import InboundStream, RtpRouter, rtcp
from mediapeer.transport.routes import MediaSection
from mediapeer.transport.sequencer import Sequencer

logger = logging.getLogger(__name__)

#: What parsers raise on malformed input.
PARSE_ERRORS = (ValueError, LookupError, struct.error)
#: How many packets one NACK may ask for again: more a sender does not remember (aiortc's ``RTP_HISTORY_SIZE``).
MAXIMUM_NACKS = 128
#: Seconds between two requests for a keyframe of one stream.
KEYFRAME_INTERVAL = 0.5
#: Seconds that a stream is reported on after its last packet.
REPORTED = 10.0
#: The SSRC of feedback where there is no sender of ours; browsers take the same.
DEFAULT_FEEDBACK_SSRC = 1
_CNAME = 1


class Feedback:
    """The RTCP of one transport.

    :param router: knows the streams.
    :param sections: by MID.
    :param counters: told what was dropped and why.
    :param sequencer: runs what senders do about feedback.
    :param send: sends an RTCP packet.
    """

    def __init__(
        self,
        router: RtpRouter,
        sections: Mapping[str, MediaSection],
        counters: Counter[str],
        sequencer: Sequencer,
        send: Callable[[bytes], None],
    ) -> None:
        self.ssrc = DEFAULT_FEEDBACK_SSRC
        "The SSRC that our feedback bears."
        self.senders: dict[int, RtpSender] = {}
        "By SSRC."
        self._router = router
        self._sections = sections
        self._counters = counters
        self._sequencer = sequencer
        self._send = send

    # From the peer

    def receive(self, data: bytes, now: float) -> None:
        """Take RTCP, compound or of reduced size. What does not parse is dropped alone."""
        try:
            packets = rtcp.split(data)
        except rtcp.RtcpError as error:
            self._drop("malformed_rtcp", error)
            return
        for packet in packets:
            try:
                parsed = RtcpPacket.parse(packet)
            except PARSE_ERRORS as error:
                self._drop("malformed_rtcp", error)
                continue
            for one in parsed:
                self._take(one, now)

    def _drop(self, reason: str, error: Exception) -> None:
        self._counters[reason] += 1
        logger.debug("an RTCP packet was dropped: %s", error)

    def _take(self, packet: AnyRtcpPacket, now: float) -> None:
        if isinstance(packet, RtcpSrPacket):
            self._take_sender_report(packet, now)
        elif isinstance(packet, RtcpByePacket):
            self._take_goodbye(packet)
        elif isinstance(packet, RtcpSdesPacket):
            self._take_names(packet)
        elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            # A sender answers each number it is told, also when it is told one a thousand times.
            packet.lost = list(dict.fromkeys(packet.lost))[:MAXIMUM_NACKS]
        for sender in self._senders_concerned(packet):
            self._sequencer.run(sender._handle_rtcp_packet(packet))

    def _take_sender_report(self, packet: RtcpSrPacket, now: float) -> None:
        stream = self._router.stream(packet.ssrc)
        info = packet.sender_info
        if stream is not None:
            stream.receive_report(
                info.ntp_timestamp, info.rtp_timestamp, info.packet_count, info.octet_count, now
            )
        section = self._sections.get(self._router.section_of(packet.ssrc) or "")
        if section is None or section.routes.receiver is None or not section.is_started:
            return
        if not section.is_direct:
            selector = section.selector
            if stream is None or stream is not selector.current or selector.ssrc is None:
                return
            packet = RtcpSrPacket(selector.ssrc, info, packet.reports)
        section.run(section.routes.receiver._handle_rtcp_packet(packet))

    def _take_goodbye(self, packet: RtcpByePacket) -> None:
        """A source has ended (RFC 3550 §6.6). That ends no track: another layer, or another source, may go on."""
        told = set()
        for ssrc in packet.sources:
            stream = self._router.stream(ssrc)
            if stream is not None:
                stream.ended = True
            mid = self._router.section_of(ssrc)
            section = self._sections.get(mid) if mid is not None else None
            if section is not None and section.is_direct and mid not in told:
                told.add(mid)
                if section.routes.receiver is not None:
                    section.run(section.routes.receiver._handle_rtcp_packet(packet))

    def _take_names(self, packet: RtcpSdesPacket) -> None:
        for chunk in packet.chunks:
            stream = self._router.stream(chunk.ssrc)
            for kind, value in chunk.items:
                if stream is not None and kind == _CNAME:
                    stream.cname = value.decode("utf-8", "replace")

    def _senders_concerned(self, packet: AnyRtcpPacket) -> list[RtpSender]:
        ssrcs: list[int] = []
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            ssrcs = [report.ssrc for report in packet.reports]
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == rtcp.FULL_INTRA_REQUEST:
            # It names its sources in its entries, and none in its header (RFC 5104 §4.3.1.2).
            ssrcs = [packet.media_ssrc, *rtcp.requested_ssrcs(packet.fci)]
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            try:
                ssrcs = unpack_remb_fci(packet.fci)[1]
            except PARSE_ERRORS:
                ssrcs = [packet.media_ssrc]
        elif isinstance(packet, RtcpPsfbPacket | RtcpRtpfbPacket):
            ssrcs = [packet.media_ssrc]
        # In order, each once.
        return list(dict.fromkeys(self.senders[ssrc] for ssrc in ssrcs if ssrc in self.senders))

    # From us

    def outgoing(self, data: bytes, now: float) -> bytes | None:
        """What to send in place of RTCP that a sender or a receiver made; ``None`` for nothing.

        A receiver reports on the one stream it sees. The peer is told of the streams that there are: numbers and
        SSRCs are its own, and reports cover every layer and every retransmission stream.
        """
        if data[1] not in (rtcp.RECEIVER_REPORT, rtcp.TRANSPORT_FEEDBACK, rtcp.PAYLOAD_FEEDBACK):
            return data
        try:
            parsed = RtcpPacket.parse(data)
        except PARSE_ERRORS:
            return data  # not of aiortc's making, and none of ours to judge
        if len(parsed) != 1:
            return data
        packet = parsed[0]
        if isinstance(packet, RtcpRrPacket) and packet.reports:
            return self._outgoing_report(packet, data, now)
        if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            return self._outgoing_nack(packet, data)
        if isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_PLI:
            return self._outgoing_keyframe_request(packet, data, now)
        return data

    def _seen_by_receiver(self, ssrc: int) -> MediaSection | None:
        for section in self._sections.values():
            if not section.is_direct and section.selector.ssrc == ssrc:
                return section
        return None

    def _outgoing_report(self, packet: RtcpRrPacket, data: bytes, now: float) -> bytes | None:
        blocks: list[bytes] = []
        found = False
        seen: RtcpReceiverInfo
        for seen in packet.reports:
            section = self._seen_by_receiver(seen.ssrc)
            if section is None:
                blocks.append(bytes(seen))
                continue
            found = True
            blocks += [
                stream.report_block(now)
                for stream in self._router.streams_of(section.mid)
                if stream.is_flowing(now, REPORTED)
            ]
        if not found:
            return data
        return rtcp.receiver_report(packet.ssrc, blocks) if blocks else None

    def _outgoing_nack(self, packet: RtcpRtpfbPacket, data: bytes) -> bytes | None:
        section = self._seen_by_receiver(packet.media_ssrc)
        if section is None or section.selector.current is None:
            return data
        selector, current = section.selector, section.selector.current
        numbers = (selector.original_sequence_number(number) for number in packet.lost)
        lost = sorted({number for number in numbers if number is not None})
        if not lost:
            return None
        current.nack_count += 1
        return bytes(RtcpRtpfbPacket(packet.fmt, packet.ssrc, current.ssrc, lost))

    def _outgoing_keyframe_request(self, packet: RtcpPsfbPacket, data: bytes, now: float) -> bytes | None:
        section = self._seen_by_receiver(packet.media_ssrc)
        if section is None or section.selector.current is None:
            return data
        current = section.selector.current
        current.pli_count += 1
        current.keyframe_asked = now
        return bytes(RtcpPsfbPacket(packet.fmt, packet.ssrc, current.ssrc))

    def ask_keyframe(self, stream: InboundStream, now: float) -> None:
        """Ask the peer for a keyframe (RFC 4585 §6.3.1), unless it was asked just now."""
        if stream.keyframe_asked is not None and now - stream.keyframe_asked < KEYFRAME_INTERVAL:
            return
        stream.keyframe_asked = now
        stream.pli_count += 1
        self._send(bytes(RtcpPsfbPacket(RTCP_PSFB_PLI, self.ssrc, stream.ssrc)))

    def report_bitrate(self, bitrate: int, now: float) -> None:
        """Tell the peer how much the path can carry (draft-alvestrand-rmcat-remb-03)."""
        ssrcs = [stream.ssrc for stream in self._media_streams(now)][:31]
        fci = pack_remb_fci(bitrate, ssrcs)
        self._send(bytes(RtcpPsfbPacket(RTCP_PSFB_APP, self.ssrc, 0, fci)))

    def _media_streams(self, now: float) -> Iterator[InboundStream]:
        for stream in self._router.streams():
            if not stream.is_retransmission and stream.is_flowing(now, REPORTED):
                yield stream
