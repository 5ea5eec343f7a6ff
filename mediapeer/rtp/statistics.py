"""What is known of one synchronization source of the peer (RFC 3550 §6.4 and appendix A)."""

from mediapeer.rtp.clock import SenderClock, signed
from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.rtcp import ReportBlock

#: A step forward by more than this many packets is a new beginning and no loss (RFC 3550 appendix A.1).
MAXIMUM_DROPOUT = 3000
#: A step of the transit time by more than this many seconds says nothing about jitter: a clock was set.
_MAXIMUM_TRANSIT_STEP = 5.0
#: A sender report whose RTP timestamp is by more than so many seconds not that of the packets is of another clock.
MAXIMUM_REPORT_DISTANCE = 5.0


class InboundStream:
    """One source: where it belongs, and its counts. Times are in seconds, on the clock of the caller.

    The members that W3C webrtc-stats has (``packetsReceived``, ``packetsLost``, …) bear its names in snake case.
    """

    __slots__ = (
        "_expected_before",
        "_last_report",
        "_last_report_arrival",
        "_last_timestamp",
        "_last_transit",
        "_received_before",
        "_skipped",
        "base",
        "bytes_received",
        "clock",
        "clock_rate",
        "cname",
        "ended",
        "fir_count",
        "header_bytes_received",
        "highest",
        "is_retransmission",
        "jitter",
        "jitter_units",
        "keyframe_asked",
        "last_arrival",
        "mid",
        "nack_count",
        "packets_received",
        "payload_type",
        "picture_area",
        "pli_count",
        "remote_bytes_sent",
        "remote_ntp_timestamp",
        "remote_packets_sent",
        "remote_reports_sent",
        "remote_rtp_timestamp",
        "repaired_rid",
        "repairs",
        "retransmitted_bytes_received",
        "retransmitted_packets_received",
        "rid",
        "rtx_ssrc",
        "ssrc",
    )

    def __init__(self, ssrc: int, mid: str) -> None:
        self.ssrc = ssrc
        self.mid = mid
        self.rid: str | None = None
        "The RID of the stream (RFC 8852), when the peer said one that was negotiated."
        self.repaired_rid: str | None = None
        "For a retransmission stream: the RID of the stream that it repairs."
        self.is_retransmission = False
        "Whether it carries RTX (RFC 4588)."
        self.repairs: int | None = None
        "For a retransmission stream: the SSRC that it repairs, once that is known."
        self.rtx_ssrc: int | None = None
        "The SSRC of the retransmissions of this stream, once there was one."
        self.payload_type: int | None = None
        "Of the last packet."
        self.packets_received = 0
        self.bytes_received = 0
        "Bytes of payload; headers and padding do not count (W3C webrtc-stats ``bytesReceived``)."
        self.header_bytes_received = 0
        "Bytes of headers and padding."
        self.retransmitted_packets_received = 0
        "Packets that came again over RTX; those are in no other count."
        self.retransmitted_bytes_received = 0
        self.jitter = 0.0
        "Seconds (RFC 3550 appendix A.8)."
        self.jitter_units = 0.0
        "The same in units of the clock rate, as receiver reports have it."
        self.clock = SenderClock()
        "When the sender captured what it sends."
        self.clock_rate = 0
        "Of the last packet's timestamp, in Hertz."
        self.last_arrival: float | None = None
        self.ended = False
        "Whether the peer said goodbye (RTCP BYE) and sent nothing since."
        self.cname: str | None = None
        "The canonical name that the peer gave in RTCP SDES."
        self.nack_count = 0
        "NACK packets sent for this stream."
        self.pli_count = self.fir_count = 0
        "Keyframes asked for, by Picture Loss Indications and by Full Intra Requests."
        self.picture_area: int | None = None
        "How many pixels the last keyframe had that was put together, where it said so."
        self.keyframe_asked: float | None = None
        "When a keyframe was asked for last."
        self.remote_packets_sent: int | None = None
        "From the peer's last sender report, as the four members below."
        self.remote_bytes_sent: int | None = None
        self.remote_ntp_timestamp: int | None = None
        self.remote_rtp_timestamp: int | None = None
        self.remote_reports_sent = 0
        "How many sender reports came."
        self.base: int | None = None
        "The first extended sequence number."
        self.highest = 0
        "The highest one so far."
        self._last_transit: float | None = None
        self._last_timestamp: int | None = None
        self._skipped = self._expected_before = self._received_before = 0
        self._last_report: int | None = None
        self._last_report_arrival = 0.0

    @property
    def packets_expected(self) -> int:
        """How many packets the peer has sent, to judge by their numbers."""
        return 0 if self.base is None else self.highest - self.base + 1 - self._skipped

    @property
    def packets_lost(self) -> int:
        """Packets expected and not received; negative after duplicates (RFC 3550 appendix A.3)."""
        return self.packets_expected - self.packets_received

    def is_flowing(self, now: float, silence: float) -> bool:
        """Whether something came within the last ``silence`` seconds, and no goodbye after it."""
        return not self.ended and self.last_arrival is not None and now - self.last_arrival < silence

    def extend(self, sequence_number: int) -> int:
        """The extended sequence number that is closest to the highest one so far (RFC 3550 appendix A.1)."""
        if self.base is None:
            # A cycle of room for packets that come before the first.
            return sequence_number + 0x10000
        step = (sequence_number - self.highest) & 0xFFFF
        return self.highest + (step if step < 0x8000 else step - 0x10000)

    def receive(self, packet: RtpPacket, now: float, clock_rate: int) -> int:
        """Count a packet of this source that came at ``now``; return its extended sequence number."""
        extended = self.extend(packet.sequence_number)
        self.packets_received += 1
        self.bytes_received += len(packet.payload)
        self.header_bytes_received += packet.header_length + packet.padding_length
        self.payload_type = packet.payload_type
        self.last_arrival = now
        self.ended = False
        if self.base is None:
            self.base = self.highest = extended
        elif extended > self.highest:
            step = extended - self.highest
            if step > MAXIMUM_DROPOUT:
                self._skipped += step - 1
            self.highest = extended
        else:
            self.base = min(self.base, extended)
            return extended  # out of order: its transit time is not the path's
        if packet.timestamp != self._last_timestamp:
            self.clock_rate = clock_rate
            self._update_jitter(packet.timestamp, now, clock_rate)
        return extended

    def _update_jitter(self, timestamp: int, now: float, clock_rate: int) -> None:
        transit = (int(now * clock_rate) - timestamp) & 0xFFFFFFFF
        if self._last_transit is not None:
            step = (transit - int(self._last_transit)) & 0xFFFFFFFF
            step = min(step, 0x100000000 - step)
            if step < _MAXIMUM_TRANSIT_STEP * clock_rate:
                self.jitter_units += (step - self.jitter_units) / 16
                self.jitter = self.jitter_units / clock_rate
        self._last_transit = transit
        self._last_timestamp = timestamp

    def receive_retransmission(self, size: int) -> None:
        """Count a packet of this source, of ``size`` bytes of payload, that came again over RTX."""
        self.retransmitted_packets_received += 1
        self.retransmitted_bytes_received += size

    def receive_report(
        self, ntp_timestamp: int, rtp_timestamp: int, packets: int, size: int, now: float
    ) -> bool:
        """Note a sender report of this source (RFC 3550 §6.4.1).

        :return: whether its times were believed. They are not when they are far from those of the packets, or not
            what the reports before foretell.
        """
        self.remote_ntp_timestamp = ntp_timestamp
        self.remote_rtp_timestamp = rtp_timestamp
        self.remote_packets_sent = packets
        self.remote_bytes_sent = size
        self.remote_reports_sent += 1
        self._last_report = (ntp_timestamp >> 16) & 0xFFFFFFFF
        self._last_report_arrival = now
        if self._last_timestamp is None or self.last_arrival is None or not self.clock_rate:
            return False
        elapsed = int((now - self.last_arrival) * self.clock_rate)
        ahead = signed(rtp_timestamp - self._last_timestamp - elapsed)
        if abs(ahead) > MAXIMUM_REPORT_DISTANCE * self.clock_rate:
            return False
        return self.clock.receive_report(ntp_timestamp, rtp_timestamp, self.clock_rate, now)

    def report_block(self, now: float) -> ReportBlock:
        """What a receiver report says of this source (RFC 3550 §6.4.1), since the last one."""
        expected = self.packets_expected
        expected_since = expected - self._expected_before
        lost_since = expected_since - (self.packets_received - self._received_before)
        self._expected_before, self._received_before = expected, self.packets_received
        fraction = 0
        if expected_since > 0 and lost_since > 0:
            fraction = min(255, (lost_since << 8) // expected_since)
        lost = max(-0x800000, min(self.packets_lost, 0x7FFFFF))
        last_report, delay = 0, 0
        if self._last_report is not None:
            last_report = self._last_report
            delay = min(int(max(0.0, now - self._last_report_arrival) * 65536), 0xFFFFFFFF)
        return ReportBlock(
            self.ssrc,
            fraction,
            lost,
            # The cycle of room is none of the peer's.
            (self.highest - 0x10000) & 0xFFFFFFFF,
            min(int(self.jitter_units), 0xFFFFFFFF),
            last_report,
            delay,
        )
