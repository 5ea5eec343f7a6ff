"""Reading RTP: what is well-formed is read as it is, anything else is an ``RtpError``."""

import contextlib

import pytest
from aiortc.rtp import HeaderExtensionsMap
from aiortc.rtp import RtpPacket as AiortcRtpPacket
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import RtpError, RtpPacket
from mediapeer.rtp.packet import read_extensions
from tests.rtp.packets import MID, SEND_TIME, one_byte_elements, rtp, two_byte_elements


def test_a_packet_with_everything_is_read() -> None:
    data = bytearray(rtp(7, b"payload", ssrc=99, timestamp=12345, marker=True, padding=5, mid="a"))
    data[0] |= 2
    data[12:12] = bytes([0, 0, 0, 1, 0, 0, 0, 2])
    packet = RtpPacket.parse(bytes(data))
    assert (packet.sequence_number, packet.timestamp, packet.ssrc) == (7, 12345, 99)
    assert (packet.payload_type, packet.marker, packet.csrcs) == (96, True, (1, 2))
    assert (packet.payload, packet.padding_length) == (b"payload", 5)
    assert packet.extensions == {MID: b"a"}
    assert packet.header_length + len(packet.payload) + packet.padding_length == len(data)


def test_padding_may_be_its_count_alone() -> None:
    packet = RtpPacket.parse(rtp(7, b"payload", padding=1))
    assert (packet.payload, packet.padding_length) == (b"payload", 1)


@given(st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=8))
def test_one_byte_elements_are_read(elements: dict[int, bytes]) -> None:
    block = one_byte_elements(elements)
    assert RtpPacket.parse(rtp(1, block=block)).extensions == elements


@given(st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=4), st.integers(0, 15))
def test_two_byte_elements_are_read(elements: dict[int, bytes], application_bits: int) -> None:
    block = two_byte_elements(elements)
    assert RtpPacket.parse(rtp(1, block=block, profile=0x1000 | application_bits)).extensions == elements


def test_identifiers_fifteen_and_zero_with_a_length_end_the_block() -> None:
    for stop in (0xF0, 0xFF, 0x03):
        block = bytes([MID << 4, 0x61, stop, 0xFF])
        assert read_extensions(0xBEDE, block, 0, 4) == {MID: b"a"}


def test_blocks_of_other_profiles_are_nobodys() -> None:
    assert RtpPacket.parse(rtp(1, b"x", block=b"\xff" * 8, profile=0x1234)).extensions == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        rtp(1)[:11],
        b"\x40" + rtp(1)[1:],
        b"\x8f" + rtp(1, b"")[1:],
        b"\x90" + rtp(1, b"abc")[1:],
        b"\x90" + rtp(1, b"\xbe\xde\xff\xff")[1:],
        rtp(1, block=bytes([SEND_TIME << 4 | 15, 0, 0, 0])),
        rtp(1, block=bytes([5, 9, 0, 0]), profile=0x1000),
        rtp(1, block=bytes([0, 0, 0, 5]), profile=0x1000),
        b"\xa0" + rtp(1, b"")[1:],
        b"\xa0" + rtp(1, b"\x00")[1:],
        b"\xa0" + rtp(1, b"\x02")[1:],
    ],
    ids=lambda data: data.hex()[:40],
)
def test_what_does_not_fit_is_an_error(data: bytes) -> None:
    with pytest.raises(RtpError):
        RtpPacket.parse(data)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_read_or_refused_and_as_aiortc_reads_them(data: bytes, with_head: bool) -> None:
    if with_head:
        data = bytes([0x80 | (data[0] if data else 0) & 0x3F]) + data[1:]
    packet: RtpPacket | None = None
    with contextlib.suppress(RtpError):
        packet = RtpPacket.parse(data)
    with contextlib.suppress(ValueError, LookupError):
        theirs = AiortcRtpPacket.parse(data, HeaderExtensionsMap())
        if packet is not None:
            assert packet.payload == theirs.payload
            assert (packet.sequence_number, packet.ssrc) == (theirs.sequence_number, theirs.ssrc)
            assert list(packet.csrcs) == theirs.csrc
            return
        # aiortc does not look into the two-byte form with application bits, and goes on after an end.
        assert data[0] & 0x10
