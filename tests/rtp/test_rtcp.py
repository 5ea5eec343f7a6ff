"""RTCP cut into packets."""

import contextlib

import pytest
from aiortc.rtp import RtcpPacket, RtcpRrPacket
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import InboundStream, rtcp
from tests.rtp.packets import parsed


def test_a_compound_is_cut_and_a_single_packet_is_one_too() -> None:
    report, goodbye = b"\x80\xc9\x00\x01" + bytes(4), b"\x81\xcb\x00\x01" + bytes(4)
    assert rtcp.split(report + goodbye) == [report, goodbye]
    assert rtcp.split(goodbye) == [goodbye]
    assert rtcp.split(b"") == []


@pytest.mark.parametrize("data", ["80c9", "80c90001", "80c9ffff00000000", "40c90000", "80c9000080"])
def test_what_does_not_fit_is_an_error(data: str) -> None:
    with pytest.raises(rtcp.RtcpError):
        rtcp.split(bytes.fromhex(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_cut_or_refused(data: bytes) -> None:
    with contextlib.suppress(rtcp.RtcpError):
        assert b"".join(rtcp.split(data)) == data


def test_a_receiver_report_is_one_that_others_read() -> None:
    stream = InboundStream(9, "1")
    stream.receive(parsed(5), 0.0, 90000)
    data = rtcp.receiver_report(4, [stream.report_block(0.0)] * 40)
    (report,) = RtcpPacket.parse(data)
    assert isinstance(report, RtcpRrPacket)
    assert (report.ssrc, len(report.reports)) == (4, 31)
    assert (report.reports[0].ssrc, report.reports[0].highest_sequence) == (9, 5)


def test_a_keyframe_request_names_its_sources_in_entries() -> None:
    entries = b"\0\0\0\5" + b"\1\0\0\0" + b"\0\0\0\6" + b"\2\0\0\0" + b"\0\0"
    assert list(rtcp.requested_ssrcs(entries)) == [5, 6]
