"""RTCP, read and written: beside aiortc's parser, and by examples from others."""

import contextlib

import aiortc.rtp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import rtcp
from mediapeer.rtp.rtcp import (
    FullIntraRequest,
    Goodbye,
    Nack,
    PictureLossIndication,
    ReceiverReport,
    Remb,
    ReportBlock,
    SenderReport,
    SourceDescription,
    TransportFeedback,
    UnknownPacket,
)

BLOCK = ReportBlock(7, 255, -3, 0x10005, 99, 0xABCDEF01, 0x10000)


def theirs(data: bytes) -> aiortc.rtp.AnyRtcpPacket:
    """What aiortc reads."""
    (packet,) = aiortc.rtp.RtcpPacket.parse(data)
    return packet


# Datagrams


def test_a_compound_is_cut_and_a_single_packet_is_one_too() -> None:
    report, goodbye = b"\x80\xc9\x00\x01" + bytes(4), b"\x81\xcb\x00\x01" + bytes(4)
    assert rtcp.split(report + goodbye) == [report, goodbye]
    assert rtcp.split(goodbye) == [goodbye]
    assert rtcp.split(b"") == []
    assert rtcp.parse(report + goodbye) == [ReceiverReport(0, []), Goodbye([0])]


@pytest.mark.parametrize("data", ["80c9", "80c90001", "80c9ffff00000000", "40c90000", "80c9000080"])
def test_what_does_not_fit_is_an_error(data: str) -> None:
    with pytest.raises(rtcp.RtcpError):
        rtcp.split(bytes.fromhex(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_cut_or_refused(data: bytes) -> None:
    with contextlib.suppress(rtcp.RtcpError):
        assert b"".join(rtcp.split(data)) == data


@given(st.integers(0, 63), st.sampled_from([*range(200, 208)]), st.integers(0, 12), st.data())
def test_any_body_is_read_or_refused(first: int, kind: int, words: int, data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=4 * words, max_size=4 * words))
    with contextlib.suppress(rtcp.RtcpError):
        rtcp.parse(bytes((0x80 | first, kind, 0, words)) + body)


def test_padding_is_no_part_of_a_packet() -> None:
    assert rtcp.parse(bytes.fromhex("a1cb0002 00000005 00000004")) == [Goodbye([5])]
    for broken in ("a0c90001 00000009", "a0c90001 00000000", "a0cb0000"):
        with pytest.raises(rtcp.RtcpError):
            rtcp.parse(bytes.fromhex(broken))


# Reports, names, goodbyes


def test_a_sender_report_is_one_that_others_read() -> None:
    report = SenderReport(5, 0x1234567890ABCDEF, 0xFFFFFFFF, 10, 1 << 32 | 20, [BLOCK])
    packet = theirs(report.serialize())
    assert isinstance(packet, aiortc.rtp.RtcpSrPacket)
    assert packet.ssrc == 5
    info = packet.sender_info
    assert (info.ntp_timestamp, info.rtp_timestamp) == (0x1234567890ABCDEF, 0xFFFFFFFF)
    assert (info.packet_count, info.octet_count) == (10, 20)
    assert len(packet.reports) == 1
    assert rtcp.parse(bytes(packet)) == [SenderReport(5, 0x1234567890ABCDEF, 0xFFFFFFFF, 10, 20, [BLOCK])]


def test_a_receiver_report_is_one_that_others_read() -> None:
    packet = theirs(ReceiverReport(4, [BLOCK] * 31).serialize())
    assert isinstance(packet, aiortc.rtp.RtcpRrPacket)
    assert (packet.ssrc, len(packet.reports)) == (4, 31)
    seen = packet.reports[0]
    assert (seen.ssrc, seen.fraction_lost, seen.packets_lost) == (7, 255, -3)
    assert (seen.highest_sequence, seen.jitter, seen.lsr, seen.dlsr) == (0x10005, 99, 0xABCDEF01, 0x10000)
    assert rtcp.parse(bytes(packet)) == [ReceiverReport(4, [BLOCK] * 31)]
    with pytest.raises(ValueError):
        ReceiverReport(4, [BLOCK] * 32).serialize()


@pytest.mark.parametrize("length", range(6))
def test_names_are_such_as_others_read(length: int) -> None:
    name = "n" * length + "é"
    packet = theirs(SourceDescription({5: name}).serialize())
    assert isinstance(packet, aiortc.rtp.RtcpSdesPacket)
    assert [(chunk.ssrc, chunk.items) for chunk in packet.chunks] == [(5, [(1, name.encode())])]
    assert rtcp.parse(bytes(packet)) == [SourceDescription({5: name})]
    several = SourceDescription({5: name, 6: "", 7: name})  # aiortc does not align chunks
    assert rtcp.parse(several.serialize()) == [several]


def test_only_names_are_read_of_a_source_description() -> None:
    source = aiortc.rtp.RtcpSourceInfo(5, [(2, b"somebody"), (1, b"a\xff"), (8, b"\x01xy")])
    data = bytes(aiortc.rtp.RtcpSdesPacket([source]))
    assert rtcp.parse(data) == [SourceDescription({5: "a�"})]
    with pytest.raises(ValueError):
        SourceDescription({1: "x" * 256}).serialize()


def test_a_goodbye_may_say_why() -> None:
    packet = theirs(Goodbye([5, 6]).serialize())
    assert isinstance(packet, aiortc.rtp.RtcpByePacket)
    assert packet.sources == [5, 6]
    assert rtcp.parse(bytes.fromhex("81cb0002 00000005 02686900")) == [Goodbye([5])]


# Feedback


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=40, unique=True))
def test_a_nack_is_one_that_others_read(numbers: list[int]) -> None:
    packet = theirs(Nack(1, 2, sorted(numbers)).serialize())
    assert isinstance(packet, aiortc.rtp.RtcpRtpfbPacket)
    assert (packet.fmt, packet.ssrc, packet.media_ssrc) == (1, 1, 2)
    assert sorted(packet.lost) == sorted(numbers)
    (read,) = rtcp.parse(bytes(packet))
    assert isinstance(read, Nack)
    assert sorted(read.sequence_numbers) == sorted(numbers)


def test_a_nack_goes_on_where_numbers_wrap() -> None:
    data = Nack(1, 2, [65534, 65535, 0, 14, 15]).serialize()
    assert data[12:] == bytes.fromhex("fffe 8003 000f 0000")
    assert rtcp.parse(data) == [Nack(1, 2, [65534, 65535, 0, 14, 15])]


def test_requests_for_keyframes() -> None:
    loss = theirs(PictureLossIndication(1, 2).serialize())
    assert isinstance(loss, aiortc.rtp.RtcpPsfbPacket)
    assert (loss.fmt, loss.ssrc, loss.media_ssrc, loss.fci) == (1, 1, 2, b"")
    assert rtcp.parse(bytes(loss)) == [PictureLossIndication(1, 2)]
    request = FullIntraRequest(1, [(5, 1), (6, 255)])
    full = theirs(request.serialize())
    assert isinstance(full, aiortc.rtp.RtcpPsfbPacket)
    assert (full.fmt, full.media_ssrc) == (4, 0)
    assert full.fci == bytes.fromhex("00000005 01000000 00000006 ff000000")
    assert rtcp.parse(bytes(full)) == [request]


@pytest.mark.parametrize("bitrate", [0, 1, 262143, 262144, 4_160_000, 1 << 60])
def test_an_estimate_of_the_path_is_one_that_others_read(bitrate: int) -> None:
    packet = theirs(Remb(1, bitrate, [5, 6]).serialize())
    assert isinstance(packet, aiortc.rtp.RtcpPsfbPacket)
    told, ssrcs = aiortc.rtp.unpack_remb_fci(packet.fci)
    assert ssrcs == [5, 6]
    assert bitrate - (bitrate >> 17) <= told <= bitrate
    assert rtcp.parse(bytes(packet)) == [Remb(1, told, [5, 6])]


def test_other_kinds_do_no_harm() -> None:
    for data, kind, form in (("80cf0001 00000001", 207, 0), ("83cd0002 0000000100000002", 205, 3)):
        (packet,) = rtcp.parse(bytes.fromhex(data))
        assert isinstance(packet, UnknownPacket)
        assert (packet.packet_type, packet.format) == (kind, form)
    # Application layer feedback that is no REMB.
    assert isinstance(rtcp.parse(bytes.fromhex("8fce0003 00000001 00000002 41424344"))[0], UnknownPacket)


# Transport-wide feedback


def feedback(*deltas: int | None) -> TransportFeedback:
    return TransportFeedback(1, 2, 65530, -2, 7, list(deltas))


def wire(count: int, rest: str) -> bytes:
    """A feedback on so many packets, with chunks and differences in hexadecimal."""
    body = count.to_bytes(2, "big") + bytes.fromhex("fffffe07" + rest)
    padding = -(len(body) + 2) % 4
    body += bytes(padding - 1) + bytes([padding]) if padding else b""
    first, words = (0xAF if padding else 0x8F), 2 + (len(body) + 2) // 4
    return bytes((first, 205, 0, words)) + bytes.fromhex("0000000100000002fffa") + body


@pytest.mark.parametrize(
    ("rest", "deltas"),
    [
        # The run of 221 packets that were not received, and one of 24 that were.
        ("00dd 2018" + "04" * 24, [None] * 221 + [4] * 24),
        # The vector of 14 short symbols.
        ("9f1c" + "01" * 8, [None, 1, 1, 1, 1, 1, None, None, None, 1, 1, 1, None, None]),
        # The vector of 7 long ones, but for the second symbol, which has been reserved since.
        ("c950 0100 010203", [None, 256, 1, 2, 3, None, None]),
    ],
)
def test_the_chunks_of_the_draft(rest: str, deltas: list[int | None]) -> None:
    """The examples of draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.3 and §3.1.4."""
    assert rtcp.parse(wire(len(deltas), rest)) == [feedback(*deltas)]


@pytest.mark.parametrize(
    ("deltas", "rest"),
    [
        ([1], "2001 01"),
        ([None] * 20 + [5], "0014 2001 05"),
        ([None] * 8192, "1fff 0001"),  # a run has 13 bits
        ([1, None] * 7 + [1], "aaaa 2001" + "01" * 8),
        # Seven, with one among them that takes two bytes.
        ([1, -1, 1, None, 1, 1, 1, 1], "d915 2001 01 ffff 01 010101 01"),
    ],
)
def test_runs_and_vectors_are_written_where_each_is_shorter(deltas: list[int | None], rest: str) -> None:
    assert feedback(*deltas).serialize() == wire(len(deltas), rest)


deltas = st.lists(
    st.none() | st.integers(0, 255) | st.integers(-0x8000, 0x7FFF) | st.just(4), min_size=1, max_size=80
)


@given(deltas, st.integers(0, 30))
def test_transport_wide_feedback_is_read_as_it_was_written(some: list[int | None], run: int) -> None:
    packet = feedback(*[None] * run, *some, *[4] * run, *some)
    data = packet.serialize()
    assert len(data) % 4 == 0
    assert rtcp.parse(data) == [packet]


def test_arrivals_are_in_seconds() -> None:
    assert feedback(4, None, -8).arrivals() == [-0.127, None, -0.129]


@pytest.mark.parametrize(
    ("count", "rest"),
    [
        (9, ""),  # no chunk
        (9, "2009 01"),  # differences are missing
        (1, "6001"),  # a reserved symbol
        (1, "0000"),  # a run of none
        (65535, "1fff 1fff 1fff 1fff 1fff 1fff 1fff 1fff 0007"),  # more than anyone sends
    ],
)
def test_broken_transport_wide_feedback_is_an_error(count: int, rest: str) -> None:
    with pytest.raises(rtcp.RtcpError):
        rtcp.parse(wire(count, rest))


def test_a_difference_must_fit() -> None:
    with pytest.raises(ValueError):
        feedback(0x8000).serialize()
