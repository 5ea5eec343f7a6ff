"""Packets in order to frames: where one ends, and what becomes of those that are not whole."""

from collections import Counter

from mediapeer.rtp import EncodedFrame, PayloadFormat, RtpPacket
from mediapeer.rtp.assembler import FrameAssembler
from mediapeer.rtp.payload import packetizer_for

VP8 = PayloadFormat("vp8", 90000)
KEYFRAME = b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00" + bytes(range(200))
DELTA = b"\x31\x02\x00" + bytes(range(200, 250)) * 4


class Source:
    """Packs VP8 frames, and knows what each was."""

    def __init__(self, maximum: int = 60) -> None:
        self.packetizer = packetizer_for("vp8")
        self.maximum = maximum
        self.timestamp = 4294960000

    def packets(self, data: bytes = DELTA, *, with_marker: bool = True) -> list[RtpPacket]:
        self.timestamp = self.timestamp + 3000 & 0xFFFFFFFF
        assert self.packetizer is not None
        payloads = self.packetizer.packetize(data, is_keyframe=data is KEYFRAME, maximum=self.maximum)
        packets = [RtpPacket(96, 0, self.timestamp, 7, payload) for payload in payloads]
        packets[-1].marker = with_marker
        return packets


class Assembly:
    """An assembler and what came out of it."""

    def __init__(self, format: PayloadFormat = VP8) -> None:
        self.counters: Counter[str] = Counter()
        self.assembler = FrameAssembler(7, format, self.counters)
        self.frames: list[EncodedFrame] = []
        self.now = 0.0

    def add(self, *packets: RtpPacket, lost_before: int = 0) -> list[EncodedFrame]:
        """What comes out with these, the first of which comes after a loss."""
        before = len(self.frames)
        for packet in packets:
            self.now += 0.001
            self.frames += self.assembler.add(packet, self.now, lost_before)
            lost_before = 0
        return self.frames[before:]


def test_a_frame_ends_with_the_marker() -> None:
    source, assembly = Source(), Assembly()
    packets = source.packets(KEYFRAME)
    assert len(packets) > 3
    assert assembly.add(*packets[:-1]) == []
    assert assembly.add(packets[-1]) == [
        EncodedFrame("vp8", KEYFRAME, 7, packets[0].timestamp, 90000, 0.001, True, 96, 320, 240)
    ]
    assert [(f.data, f.is_keyframe, f.width) for f in assembly.add(*source.packets())] == [
        (DELTA, False, None)
    ]
    assert not assembly.counters


def test_a_frame_ends_where_the_timestamp_changes_when_there_is_no_marker() -> None:
    source, assembly = Source(), Assembly()
    assert assembly.add(*source.packets(KEYFRAME, with_marker=False)) == []
    following = source.packets(with_marker=False)
    assert [frame.data for frame in assembly.add(following[0])] == [KEYFRAME]
    assert assembly.add(*following[1:]) == []
    # The end of one, and all of the next.
    single = RtpPacket(96, 0, source.timestamp + 3000, 7, b"\x10" + DELTA, marker=True)
    assert [frame.data for frame in assembly.add(single)] == [DELTA, DELTA]
    assert not assembly.counters


def test_a_frame_with_a_loss_in_it_is_dropped_and_the_next_one_tells() -> None:
    source, assembly = Source(), Assembly()
    assembly.add(*source.packets(KEYFRAME))
    broken, whole, after = source.packets(), source.packets(), source.packets()
    assert assembly.add(*broken[:2]) == []
    assert assembly.add(*broken[3:], lost_before=1) == []
    assert [frame.lost_before for frame in assembly.add(*whole)] == [1]
    assert [frame.lost_before for frame in assembly.add(*after)] == [0]
    assert assembly.counters == {"incomplete_frame": 1}


def test_a_frame_that_lost_its_beginning_is_dropped() -> None:
    source, assembly = Source(), Assembly()
    assembly.add(*source.packets(KEYFRAME))
    assert assembly.add(*source.packets()[1:], lost_before=1) == []
    assert [frame.lost_before for frame in assembly.add(*source.packets())] == [1]
    assert assembly.counters == {"incomplete_frame": 1}


def test_a_frame_that_lost_its_end_is_dropped() -> None:
    source, assembly = Source(), Assembly()
    assembly.add(*source.packets(KEYFRAME)[:-1])
    assert [(f.data, f.lost_before) for f in assembly.add(*source.packets(), lost_before=1)] == [(DELTA, 1)]
    assert assembly.counters == {"incomplete_frame": 1}


def test_a_loss_from_one_frame_into_another_drops_both() -> None:
    source, assembly = Source(), Assembly()
    assembly.add(*source.packets(KEYFRAME)[:-1])
    assert assembly.add(*source.packets()[2:], lost_before=3) == []
    assert [frame.lost_before for frame in assembly.add(*source.packets())] == [3]
    assert assembly.counters == {"incomplete_frame": 2}


def test_whole_frames_that_are_lost_are_counted_and_no_more() -> None:
    source, assembly = Source(), Assembly()
    assembly.add(*source.packets(KEYFRAME))
    source.packets()
    assert [frame.lost_before for frame in assembly.add(*source.packets(), lost_before=4)] == [4]
    assembly.assembler.gap()
    assembly.assembler.gap(2)
    assert [frame.lost_before for frame in assembly.add(*source.packets(), lost_before=4)] == [7]
    assert not assembly.counters


def test_it_may_begin_in_the_middle_of_a_frame() -> None:
    source, assembly = Source(), Assembly()
    assert assembly.add(*source.packets(KEYFRAME)[1:]) == []
    assert [frame.lost_before for frame in assembly.add(*source.packets())] == [0]


def test_after_a_frame_that_is_dropped_with_its_end_any_packet_begins_the_next() -> None:
    """Not only one that looks like a beginning: filler data, here."""
    assembly = Assembly(PayloadFormat("h264", 90000))

    def packet(timestamp: int, payload: bytes, marker: bool) -> RtpPacket:
        return RtpPacket(102, 0, timestamp, 7, payload, marker=marker)

    assembly.add(packet(0, b"\x65\x88", False))
    # The rest of the first, and a whole one with its timestamp.
    assert assembly.add(packet(0, b"\x65\x40", True), lost_before=1) == []
    assert len(assembly.add(packet(0, b"\x0c\xff", False), packet(0, b"\x61\x9a", True))) == 1
    assert (
        assembly.add(packet(3000, b"\x65\x40", False), packet(3000, b"\x65\x40", True), lost_before=1) == []
    )
    assert len(assembly.add(packet(6000, b"\x0c\xff", False), packet(6000, b"\x61\x9a", True))) == 1
    # After a loss it has to look like one.
    assert (
        assembly.add(packet(9000, b"\x0c\xff", False), packet(9000, b"\x61\x9a", True), lost_before=1) == []
    )
    assert assembly.counters == {"incomplete_frame": 3}


def test_what_is_malformed_counts_as_lost() -> None:
    source, assembly = Source(), Assembly()
    packets = source.packets(KEYFRAME)
    packets[1].payload = b"\x80"
    assert assembly.add(*packets) == []
    assert [frame.lost_before for frame in assembly.add(*source.packets())] == [len(packets)]
    assert assembly.counters == {"malformed_payload": 1}


def test_padding_is_no_frame_and_no_part_of_one() -> None:
    source, assembly = Source(), Assembly()
    packets = source.packets(KEYFRAME)
    padding = RtpPacket(96, 0, source.timestamp, 7, b"")
    assert len(assembly.add(padding, packets[0], padding, *packets[1:], padding)) == 1
    assert not assembly.counters


def test_a_frame_came_when_its_first_packet_came() -> None:
    source, assembly = Source(), Assembly()
    packets = source.packets(KEYFRAME)
    # The first was sent again, and came after the others.
    for packet, arrival in zip(packets, [9.0, 5.0, 5.5, 6.0, 6.5], strict=False):
        frames = assembly.assembler.add(packet, arrival)
    assert [frame.arrival for frame in frames] == [5.0]


def test_a_frame_without_end_is_dropped() -> None:
    source, assembly = Source(), Assembly()
    first, *rest = source.packets(KEYFRAME)
    assembly.add(first)
    for _ in range(5000):
        assert assembly.add(rest[0]) == []
        assert len(assembly.assembler._payloads) < 2048
    assert assembly.counters == {"oversized_frame": 1}
    assert [frame.lost_before for frame in assembly.add(*source.packets())] == [2048]
    large = RtpPacket(96, 0, 1, 7, b"\x10" + bytes(9 * 1024 * 1024))
    assert assembly.add(large, large, RtpPacket(96, 0, 1, 7, bytes(50), marker=True)) == []
    assert assembly.counters == {"oversized_frame": 2}
    assert [frame.data for frame in assembly.add(*source.packets())] == [DELTA]


def test_sound_is_a_frame_a_packet() -> None:
    assembly = Assembly(PayloadFormat("opus", 48000, channels=2))
    [first] = assembly.add(RtpPacket(111, 0, 960, 7, b"\xfc\x01\x02"))
    assert (first.duration, first.is_keyframe, first.data) == (960, True, b"\xfc\x01\x02")
    assert assembly.add(RtpPacket(111, 0, 1920, 7, b"\xff")) == []
    [third] = assembly.add(RtpPacket(111, 0, 2880, 7, b"\xfc"), lost_before=2)
    assert (third.lost_before, third.timestamp) == (3, 2880)
    assert assembly.counters == {"malformed_payload": 1}


def test_of_a_codec_that_is_not_known_nothing_comes() -> None:
    assembly = Assembly(PayloadFormat("ulpfec", 90000))
    assert assembly.add(RtpPacket(99, 0, 1, 7, b"x", marker=True), RtpPacket(99, 0, 2, 7, b"x")) == []
    assert assembly.counters == {"unknown_codec": 2}
