"""Packets that are written, read by others and by ourselves."""

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpSendParameters
from aiortc.rtp import HeaderExtensionsMap
from aiortc.rtp import RtpPacket as AiortcRtpPacket

from mediapeer.rtp import RtpPacket
from mediapeer.rtp.writing import OutboundExtensions, RtpWriter

URIS = {
    "mid": "urn:ietf:params:rtp-hdrext:sdes:mid",
    "abs_send_time": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "audio_level": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "transport_sequence_number": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
}
NTP = 0xE12345678_9ABCDEF


def read_by_aiortc(data: bytes, **ids: int) -> AiortcRtpPacket:
    """The packet as aiortc reads it, with the identifiers of extensions."""
    extensions = HeaderExtensionsMap()
    extensions.configure(
        RTCRtpSendParameters(
            headerExtensions=[RTCRtpHeaderExtensionParameters(id, URIS[name]) for name, id in ids.items()]
        )
    )
    return AiortcRtpPacket.parse(data, extensions)


def test_a_packet_without_extensions_is_header_and_payload() -> None:
    data = RtpWriter(0x11223344).write(96, 0x1FFFF, 0x1_0000_0001, b"payload", marker=True)
    assert data == bytes.fromhex("80e0ffff0000000111223344") + b"payload"


@pytest.mark.parametrize("level", [None, 0, 127])
@pytest.mark.parametrize("number", [None, 0x12345])
def test_extensions_are_read_as_they_were_written(level: int | None, number: int | None) -> None:
    ids = {"mid": 4, "abs_send_time": 2, "audio_level": 1, "transport_sequence_number": 3}
    writer = RtpWriter(7, "video-1", OutboundExtensions(**ids))
    data = writer.write(
        96, 5, 6, b"payload", ntp_timestamp=NTP, audio_level=level, transport_sequence_number=number
    )
    theirs = read_by_aiortc(data, **ids)
    assert theirs.extensions.mid == "video-1"
    assert theirs.extensions.abs_send_time == NTP >> 14 & 0xFFFFFF
    assert theirs.extensions.audio_level == (None if level is None else (False, level))
    assert theirs.extensions.transport_sequence_number == (None if number is None else 0x2345)
    assert (theirs.payload, theirs.sequence_number, theirs.timestamp, theirs.ssrc) == (b"payload", 5, 6, 7)
    ours = RtpPacket.parse(data)
    assert ours.payload == b"payload"
    assert ours.extensions[4] == b"video-1"
    assert (1 in ours.extensions) == (level is not None)
    assert (3 in ours.extensions) == (number is not None)


@pytest.mark.parametrize(("mid", "identifier"), [("m" * 17, 1), ("0", 15), ("m" * 40, 255)])
def test_what_the_short_form_has_no_room_for_takes_the_long_one(mid: str, identifier: int) -> None:
    writer = RtpWriter(7, mid, OutboundExtensions(mid=identifier, abs_send_time=2))
    packet = RtpPacket.parse(writer.write(96, 5, 6, b"payload", ntp_timestamp=NTP))
    assert packet.extensions[identifier] == mid.encode()
    assert packet.extensions[2] == (NTP >> 14 & 0xFFFFFF).to_bytes(3, "big")
    assert packet.payload == b"payload"


def test_a_section_without_mid_has_none_in_its_packets() -> None:
    assert RtpWriter(7, "", OutboundExtensions(mid=1)).write(96, 5, 6, b"")[0] == 0x80
