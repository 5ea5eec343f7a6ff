"""A source of ours: its packets numbered, timed, remembered, reported on and sent again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mediapeer.rtp.history import PacketHistory, SentPacket
from mediapeer.rtp.rtcp import Goodbye, ReportBlock, SenderReport, SourceDescription
from mediapeer.rtp.writing import OSN_LENGTH, OutboundExtensions, RtpWriter

#: Seconds by which a frame may come later or earlier than its timestamp says before the timeline counts as another.
JUMP = 0.5
#: Seconds over which the earliest frame says how timestamps and the clock go together.
WINDOW = 2.0
#: How many sender reports are remembered, to measure the round trip by what answers them.
REMEMBERED_REPORTS = 16
#: The longest round trip that is believed, in seconds.
MAXIMUM_ROUND_TRIP = 60.0
#: Seconds until the same packet is sent again, when the round trip is not known, and at the least.
DEFAULT_REPEAT_INTERVAL = 0.1
MINIMUM_REPEAT_INTERVAL = 0.02
#: What may be sent again at one go, in bytes. In the long run it is no more than what is sent: a peer may ask for
#: everything, fifty times a second.
MAXIMUM_REPAIR = 600_000
#: The same before anything was sent: the packets that are lost of a little may be all of them, again and again.
FIRST_REPAIR = 12_000
#: How many packets one NACK may ask for again.
MAXIMUM_NACKS = 128


class MediaClock:
    """How the timestamps of a source and the clock go together.

    A frame comes from its track as soon as it is there, or later, and never earlier. So the frame that came earliest
    by its own timestamp, of those of the last seconds, says what the others are measured by: reports do not
    repeat the jitter of the program's event loop.
    """

    def __init__(self) -> None:
        self._clock_rate = 0
        self._begin = 0.0
        # When timestamp 0 would have been: by the frames since the window began, and by those of the one before.
        self._current = self._previous = 0.0

    @property
    def is_set(self) -> bool:
        """Whether there was a frame."""
        return self._clock_rate > 0

    def note(self, timestamp: int, now: float, clock_rate: int) -> None:
        """A frame of that timestamp, in units of ``clock_rate`` and not wrapped, came at ``now`` seconds."""
        zero = now - timestamp / clock_rate
        if clock_rate != self._clock_rate or abs(zero - min(self._current, self._previous)) > JUMP:
            self._clock_rate = clock_rate
            self._begin, self._current, self._previous = now, zero, zero
        elif now - self._begin >= WINDOW:
            self._begin, self._previous, self._current = now, self._current, zero
        else:
            self._current = min(self._current, zero)

    def timestamp_at(self, now: float) -> int:
        """The timestamp of a frame that would come now."""
        return round((now - min(self._current, self._previous)) * self._clock_rate)


@dataclass(slots=True)
class RemoteReport:
    """What the receiver says of our source (RFC 3550 §6.4.1)."""

    received_at: float
    "On the event loop's clock, in seconds."
    packets_lost: int
    fraction_lost: float
    "Since its last report, 0 to 1."
    jitter: int
    "In units of the clock rate."
    round_trip_time: float | None = None
    "In seconds, by the latest report that answers one of ours."
    total_round_trip_time: float = 0.0
    round_trip_time_measurements: int = 0


class OutboundStream:
    """A source of ours and that of its retransmissions. ``now`` is in seconds of one clock, and ``ntp_timestamp`` the
    same moment in units of 2^-32 s since 1900.

    :param ssrc: the source.
    :param rtx_ssrc: the source of retransmissions (RFC 4588).
    """

    def __init__(self, ssrc: int, rtx_ssrc: int) -> None:
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        self.packets_sent = 0
        self.bytes_sent = 0
        "Payload bytes, without headers."
        self.header_bytes_sent = 0
        self.retransmitted_packets_sent = 0
        self.retransmitted_bytes_sent = 0
        self.nack_count = 0
        "NACK packets that came."
        self.remote: RemoteReport | None = None
        "The latest report on it."
        self._writer = RtpWriter(ssrc)
        self._rtx_writer = RtpWriter(rtx_ssrc)
        self._history = PacketHistory()
        self._clock = MediaClock()
        # In the lower half, so that no receiver's SRTP guesses a rollover that was not (RFC 3711 §3.3.1).
        self._sequence_number = random.randrange(0x8000)
        self._rtx_sequence_number = random.randrange(0x8000)
        self._origin = random.getrandbits(32)
        self._reports: dict[int, float] = {}
        self._repair = FIRST_REPAIR
        "How many bytes may be sent again now."

    def configure(self, mid: str, extensions: OutboundExtensions) -> None:
        """What packets tell in their header extensions from now on."""
        self._writer = RtpWriter(self.ssrc, mid, extensions)
        self._rtx_writer = RtpWriter(self.rtx_ssrc, mid, extensions)

    # Packets

    def note_frame(self, timestamp: int, now: float, clock_rate: int) -> None:
        """A frame has come from its track. ``timestamp`` counts from any point, and does not wrap."""
        self._clock.note(timestamp, now, clock_rate)

    def packet(
        self,
        payload: bytes,
        timestamp: int,
        payload_type: int,
        now: float,
        ntp_timestamp: int,
        *,
        marker: bool = False,
        audio_level: int | None = None,
        rtx_payload_type: int | None = None,
    ) -> bytes:
        """The next packet.

        :param timestamp: on the scale of :meth:`note_frame`.
        :param rtx_payload_type: the payload type under which it may be sent again.
        """
        number = self._sequence_number
        self._sequence_number = number + 1 & 0xFFFF
        data = self._writer.write(
            payload_type,
            number,
            timestamp + self._origin,
            payload,
            marker=marker,
            ntp_timestamp=ntp_timestamp,
            audio_level=audio_level,
        )
        offset = len(data) - len(payload)
        self._repair = min(self._repair + len(data), MAXIMUM_REPAIR)
        self._history.add(SentPacket(number, data, offset, rtx_payload_type, now))
        self.packets_sent += 1
        self.bytes_sent += len(payload)
        self.header_bytes_sent += offset
        return data

    def retransmit(self, sequence_numbers: Sequence[int], now: float, ntp_timestamp: int) -> list[bytes]:
        """The packets that answer a NACK, as far as they are remembered and did not go out again just now.

        They bear the source of retransmissions, or, where none was negotiated, are the same packets byte for byte.
        """
        self.nack_count += 1
        packets = []
        for number in dict.fromkeys(sequence_numbers[:MAXIMUM_NACKS]):
            if self._repair <= 0:
                break
            sent = self._history.take(number & 0xFFFF, now, self._repeat_interval())
            if sent is not None:
                self._repair -= len(sent.data)
                packets.append(self._repeated(sent, ntp_timestamp))
        return packets

    def _repeat_interval(self) -> float:
        round_trip = self.remote.round_trip_time if self.remote is not None else None
        return DEFAULT_REPEAT_INTERVAL if round_trip is None else max(round_trip, MINIMUM_REPEAT_INTERVAL)

    def _repeated(self, sent: SentPacket, ntp_timestamp: int) -> bytes:
        self.retransmitted_packets_sent += 1
        self.retransmitted_bytes_sent += len(sent.data) - sent.payload_offset
        if sent.rtx_payload_type is None:
            return sent.data
        number = self._rtx_sequence_number
        self._rtx_sequence_number = number + 1 & 0xFFFF
        return self._rtx_writer.write(
            sent.rtx_payload_type,
            number,
            int.from_bytes(sent.data[4:8], "big"),
            sent.sequence_number.to_bytes(OSN_LENGTH, "big") + sent.data[sent.payload_offset :],
            marker=bool(sent.data[1] & 0x80),
            ntp_timestamp=ntp_timestamp,
        )

    def forget(self) -> None:
        """Answer no NACK on what was sent so far: it went over a path that is gone."""
        self._history.clear()

    # Reports

    def sender_report(self, cname: str, now: float, ntp_timestamp: int) -> bytes | None:
        """A sender report with the canonical name, compound (RFC 3550 §6.1); ``None`` before the first frame.

        Its RTP timestamp is that of a frame that came just now (§6.4.1).
        """
        if not self._clock.is_set:
            return None
        timestamp = self._clock.timestamp_at(now) + self._origin & 0xFFFFFFFF
        middle = ntp_timestamp >> 16 & 0xFFFFFFFF
        self._reports[middle] = now
        if len(self._reports) > REMEMBERED_REPORTS:
            del self._reports[next(iter(self._reports))]
        report = SenderReport(self.ssrc, ntp_timestamp, timestamp, self.packets_sent, self.bytes_sent)
        return report.serialize() + SourceDescription({self.ssrc: cname}).serialize()

    def goodbye(self, cname: str, now: float, ntp_timestamp: int) -> bytes | None:
        """The end of the source (RFC 3550 §6.6), after a last report; ``None`` when it never began."""
        report = self.sender_report(cname, now, ntp_timestamp)
        return None if report is None else report + Goodbye([self.ssrc]).serialize()

    def receive_report(self, block: ReportBlock, now: float) -> None:
        """Take what a receiver says."""
        last = self.remote
        remote = RemoteReport(now, block.packets_lost, block.fraction_lost / 256, block.jitter)
        if last is not None:
            remote.round_trip_time = last.round_trip_time
            remote.total_round_trip_time = last.total_round_trip_time
            remote.round_trip_time_measurements = last.round_trip_time_measurements
        self.remote = remote
        reported_at = self._reports.get(block.last_sender_report) if block.last_sender_report else None
        if reported_at is None:
            return
        round_trip = now - reported_at - block.delay_since_last / 65536
        # By a hair below zero when the clocks go differently; far below it the report is wrong.
        if -0.01 < round_trip < MAXIMUM_ROUND_TRIP:
            remote.round_trip_time = max(round_trip, 0.0)
            remote.total_round_trip_time += remote.round_trip_time
            remote.round_trip_time_measurements += 1
