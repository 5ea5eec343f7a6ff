"""Sections over one transport: routing, layers, retransmissions, who wants frames, and a peer that lies."""

import struct
from collections import Counter

import pytest
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpByePacket, RtcpPsfbPacket, RtcpSenderInfo, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import RepairCounts
from mediapeer.transport.media import (
    MAXIMUM_SOURCES,
    PAUSED_SECTIONS,
    UNROUTED_PACKETS,
    UNROUTED_PATIENCE,
    MediaPath,
)
from mediapeer.transport.routes import SectionRoutes
from tests.rtp.packets import H264, OPUS, SEND_TIME, TRANSPORT_NUMBER, VP8, VP8_RTX, rtp
from tests.transport.scenes import Scene, parameters, picture, retransmission

# Routing


def test_a_bundle_is_routed_by_mid_and_then_by_what_the_mid_told() -> None:
    scene = Scene("0", "1", "2")
    scene.give(picture(1, ssrc=10, mid="1"), picture(1, ssrc=20, mid="2"))
    scene.give(rtp(1, b"\x08sound", ssrc=30, payload_type=OPUS, timestamp=3000))
    scene.give(picture(2, ssrc=10), picture(2, ssrc=20))
    assert (scene.numbers("1"), scene.numbers("2"), scene.numbers("0")) == ([1, 2], [1, 2], [1])
    assert {frame.codec for frame in scene.receivers["0"].frames} == {"opus"}
    assert not scene.counters


def test_a_frame_is_what_was_encoded() -> None:
    scene = Scene("1")
    scene.give(rtp(1, b"\x10\x31ab", timestamp=9, mid="1", send_time=b"\0\0\1"))
    scene.now += 0.001
    scene.give(rtp(2, b"\x00cd", timestamp=9, marker=True, padding=4))
    (frame,) = scene.receivers["1"].frames
    assert (frame.codec, frame.data, frame.timestamp, frame.ssrc) == ("vp8", b"\x31abcd", 9, 1000)
    assert (frame.clock_rate, frame.payload_type, frame.arrival) == (90000, VP8, 50.0)


def test_media_that_overtakes_signaling_waits_for_its_section_but_not_long() -> None:
    scene = Scene()
    scene.give(picture(1, mid="1"))
    scene.section("1")
    assert scene.numbers("1") == [1]
    scene.give(picture(1, ssrc=20, mid="2"), picture(1, ssrc=30, mid="3"))
    scene.section("2")
    assert scene.numbers("2") == [1]
    scene.now += UNROUTED_PATIENCE
    scene.section("3")
    assert scene.numbers("3") == [1], "it came in time"
    scene.give(*(picture(number, ssrc=40, mid="9") for number in range(UNROUTED_PACKETS + 3)))
    assert scene.counters == {"rtp_of_unknown_mid": 3}
    scene.now += UNROUTED_PATIENCE
    scene.give(picture(1, ssrc=50, mid="8"))
    assert scene.counters["unrouted_rtp"] == UNROUTED_PACKETS, "the stale ones made room"


def test_a_renegotiation_disturbs_no_stream_and_a_removed_section_gets_nothing() -> None:
    scene = Scene("1", "2")
    scene.give(picture(1, mid="1"))
    for _ in range(3):
        scene.section("1", ssrcs=[77])
    scene.give(picture(2))
    assert scene.numbers("1") == [1, 2]
    assert scene.path.streams()[0].packets_received == 2
    scene.path.set_section("1", None)
    scene.path.set_section("never set", None)
    scene.give(picture(3, mid="1"))
    assert scene.numbers("1") == [1, 2]


def test_another_receiver_for_a_section_begins_anew() -> None:
    scene = Scene("1")
    scene.give(picture(1, mid="1"))
    old = scene.receivers.pop("1")
    scene.section("1")
    scene.give(picture(2))
    assert scene.numbers("1") == [2]
    assert len(old.frames) == 1
    assert scene.path.counts("1").received == 1
    scene.path.unregister_receiver(scene.receivers["1"])
    scene.give(picture(3))
    assert scene.numbers("1") == [2]
    assert scene.path.streams()[0].packets_received == 3, "it is still counted"


def test_a_section_on_hold_goes_on_with_its_receiver_and_its_counts() -> None:
    scene = Scene("1")
    scene.give(picture(100, mid="1"), picture(102))
    scene.path.set_section("1", None)
    assert scene.numbers("1") == [100, 102], "what waited for the missing one is given out"
    scene.give(picture(103, mid="1"))
    scene.wait(3)
    scene.section("1")
    assert scene.counters["unrouted_rtp"] == 1, "what came during the hold is too old"
    scene.give(picture(7, ssrc=7, mid="1", keyframe=True), picture(8, ssrc=7))
    assert scene.numbers("1")[2:] == [7, 8]
    assert scene.path.counts("1") == RepairCounts(received=4, lost=1, given_up=1)
    scene.path.set_section("1", None)
    assert scene.path.counts("1").received == 4
    scene.path.disconnect()
    assert scene.receivers["1"].disconnected == 1


def test_what_is_remembered_of_sections_on_hold_is_bounded() -> None:
    scene = Scene()
    for number in range(1, 200):
        scene.section(str(number))
        scene.path.set_section(str(number), None)
    assert len(scene.path._paused) == PAUSED_SECTIONS
    scene.path.unregister_receiver(scene.receivers["199"])
    assert len(scene.path._paused) == PAUSED_SECTIONS - 1
    assert scene.path.counts("1") == RepairCounts()
    scene.section("a")
    scene.path.unregister_receiver(scene.receivers["a"])
    scene.path.set_section("a", None)
    assert len(scene.path._paused) == PAUSED_SECTIONS - 1, "without a receiver there is nothing to go on with"


def test_packets_that_wait_when_their_format_goes_do_no_harm() -> None:
    """A renegotiation takes a payload type away while packets of it wait for one that is missing."""
    scene = Scene("1")
    scene.give(picture(1, mid="1"), picture(3))
    changed = parameters("video")
    changed.codecs = [RTCRtpCodecParameters("video/VP8", 90000, payloadType=H264)]
    scene.path.set_section("1", SectionRoutes("1", "video", scene.receivers["1"], changed))
    scene.give(picture(4), picture(4, payload_type=H264))
    scene.wait(2)
    assert scene.numbers("1") == [1, 4]
    assert scene.counters["unrouted_rtp"] == 1


# Who wants frames


def test_nothing_is_put_together_while_nobody_wants_it_but_it_is_counted() -> None:
    scene = Scene("1")
    receiver = scene.receivers["1"]
    receiver.is_wanted = False
    scene.give(picture(1, mid="1"), picture(3))
    assert scene.numbers("1") == []
    selected = scene.path.selected_stream("1")
    assert selected is not None
    assert (selected.packets_received, selected.packets_lost) == (2, 1)
    assert not scene.sent, "nothing is asked for"
    receiver.is_wanted = True
    scene.give(picture(4))
    assert scene.numbers("1") == [4]
    assert [type(packet) for packet in scene.said()] == [RtcpPsfbPacket]
    receiver.is_wanted = False
    scene.give(picture(5))
    assert scene.numbers("1") == [4]


def test_a_section_without_a_receiver_is_counted_too() -> None:
    scene = Scene()
    scene.path.set_section("1", SectionRoutes("1", "video", None, parameters("video")))
    scene.give(picture(1, mid="1"), picture(2))
    assert [stream.packets_received for stream in scene.path.streams()] == [2]
    scene.path.disconnect()


def test_a_receiver_that_raises_is_counted_and_gets_the_next_frame(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene("1")
    scene.receivers["1"].raises = RuntimeError("a defect above")
    scene.give(*(picture(number, mid="1") for number in range(3)))
    assert scene.numbers("1") == [0, 1, 2]
    assert scene.counters == {"packet_handler_errors": 3}
    assert len(caplog.records) == 1, "once is enough for the log"


# Layers and retransmissions


def test_all_layers_are_counted_and_the_best_that_flows_is_received() -> None:
    scene = Scene("1", rids=["f", "h"])
    for number in range(1, 4):
        scene.wait(0.03)
        rid = {"mid": "1", "rid": "h"} if number == 1 else {}
        scene.give(picture(number, ssrc=2, keyframe=number == 1, **rid))
    scene.said()
    scene.wait(0.03)
    scene.give(picture(500, ssrc=1, mid="1", rid="f"))
    assert [(p.fmt, p.media_ssrc) for p in scene.said() if isinstance(p, RtcpPsfbPacket)] == [(1, 1)]
    scene.give(picture(501, ssrc=1, keyframe=True), picture(502, ssrc=1), picture(4, ssrc=2))
    assert scene.numbers("1") == [1, 2, 3, 501, 502]
    assert [frame.rid for frame in scene.receivers["1"].frames] == ["h", "h", "h", "f", "f"]
    selected = scene.path.selected_stream("1")
    assert selected is not None
    assert selected.rid == "f"
    assert {(s.rid, s.packets_received) for s in scene.path.streams()} == {("h", 4), ("f", 3)}
    # The best one goes silent.
    for number in range(5, 30):
        scene.wait(0.03)
        scene.give(picture(number, ssrc=2, keyframe=number == 29))
    assert scene.numbers("1")[5:] == [29], "nothing before the keyframe"
    asked = [(p.fmt, p.media_ssrc) for p in scene.said() if isinstance(p, RtcpPsfbPacket)]
    assert asked == [(1, 2)]


def test_a_retransmission_is_unwrapped_without_a_word_of_signaling() -> None:
    scene = Scene("1")
    scene.give(picture(10, mid="1"), picture(12))
    assert scene.numbers("1") == [10]
    scene.give(retransmission(1, 11, mid="1"))
    assert scene.numbers("1") == [10, 11, 12]
    original = next(s for s in scene.path.streams() if s.ssrc == 1000)
    assert (original.retransmitted_packets_received, original.rtx_ssrc) == (1, 2)
    assert original.retransmitted_bytes_received == len(retransmission(1, 11)) - 12 - 2
    assert (original.packets_received, original.packets_lost) == (2, 1)
    assert scene.path.counts("1") == RepairCounts(received=3, lost=1, repaired=1)


def test_retransmissions_of_layers_go_where_their_rid_says() -> None:
    scene = Scene("1", rids=["f", "h"])
    scene.give(picture(10, ssrc=1, mid="1", rid="f", keyframe=True), picture(12, ssrc=1))
    scene.give(picture(70, ssrc=5, mid="1", rid="h", keyframe=True))
    scene.give(retransmission(1, 71, ssrc=4, mid="1", repaired_rid="h"))
    scene.give(retransmission(1, 11, ssrc=3, mid="1", repaired_rid="f"))
    assert scene.numbers("1") == [10, 11, 12]


def test_retransmissions_that_carry_nothing_are_dropped() -> None:
    scene = Scene("1")
    scene.give(rtp(1, b"\0\1x", ssrc=2, payload_type=VP8_RTX, mid="1"))
    assert scene.counters == {"rtx_of_unknown_stream": 1}
    scene.give(picture(10))
    scene.give(rtp(2, b"", ssrc=2, payload_type=VP8_RTX), rtp(3, b"\0", ssrc=2, payload_type=VP8_RTX))
    assert scene.counters["malformed_rtx"] == 1, "padding is none"
    assert scene.numbers("1") == [10]


# A peer that lies


def test_broken_extensions_cost_their_packet_and_no_other() -> None:
    scene = Scene("1")
    scene.give(picture(1, block=bytes([SEND_TIME << 4 | 1, 0, 0, 0])))
    scene.give(picture(2, block=bytes([SEND_TIME << 4 | 15, 0, 0, 0])))
    scene.give(picture(2, block=bytes([TRANSPORT_NUMBER << 4, 0, 0, 0])))
    scene.give(picture(3, block=b"\xff\xff\xff\xff"), picture(4, mid=b"\xff\xff"), picture(4))
    assert scene.numbers("1") == [3, 4]
    assert scene.counters["malformed_rtp"] == 3


def test_made_up_sources_get_no_room_in_srtp_either() -> None:
    scene = Scene("1")
    for ssrc in range(MAXIMUM_SOURCES + 10):
        scene.give(picture(1, ssrc=ssrc))
    assert scene.counters["srtp_of_too_many_sources"] == 10
    scene.give(picture(2, ssrc=0))
    assert scene.numbers("1") == [1, 2]


def test_the_peer_is_heard_but_not_at_every_packet() -> None:
    scene = Scene("1")
    for number in range(100):
        scene.wait(0.01)
        scene.give(picture(number))
    assert 8 <= scene.heard <= 12


def test_before_the_handshakes_end_nothing_is_protected() -> None:
    assert MediaPath(Counter(), lambda: None).protect(picture(1)) is None


_mids = st.sampled_from([None, "0", "1", "2", "9", b"\xff"])
_lies = st.builds(
    rtp,
    st.integers(0, 0xFFFF),
    st.binary(max_size=12),
    ssrc=st.integers(0, 40),
    payload_type=st.sampled_from([VP8, VP8_RTX, H264, OPUS, 3]),
    timestamp=st.integers(0, 0xFFFFFFFF),
    marker=st.booleans(),
    mid=_mids,
    rid=st.sampled_from([None, "f", "h", "x"]),
    repaired_rid=st.sampled_from([None, "f", "h"]),
    send_time=st.sampled_from([None, b"\0\0\1", b"\xff\xff\xff", b"\0"]),
    transport_number=st.one_of(st.none(), st.binary(min_size=2, max_size=2)),
)
_reports = st.sampled_from(
    [
        bytes(RtcpSrPacket(3, RtcpSenderInfo(0x1111222233334444, 5, 6, 7))),
        bytes(RtcpByePacket([0, 1, 2, 3])),
        bytes(RtcpPsfbPacket(15, 1, 0, b"REMB\xff\0\0\0")),
        bytes(RtcpPsfbPacket(4, 1, 0, b"abc!")),
        struct.pack("!BBHIIHHIHH", 0x8F, 205, 5, 1, 2, 1, 9, 0, 0x2009, 0),
        b"\x9f\xc9\0\0",
    ]
)


@given(st.lists(st.one_of(_lies, _reports, st.binary(max_size=40)), max_size=60), st.floats(0, 2))
def test_no_sequence_of_packets_raises_or_ends_a_section(datagrams: list[bytes], pause: float) -> None:
    scene = Scene("0", "1", rids=["f", "h"], feedback=("nack", "nack pli", "goog-remb", "transport-cc"))
    for datagram in datagrams:
        scene.wait(pause / 10)
        scene.give(datagram)
        scene.path.release(scene.now)
        scene.path.request_keyframe("1")
    assert scene.counters["packet_handler_errors"] == 0
    assert scene.wake_ups <= 40 * (len(datagrams) + 1)
    assert all(len(packet) <= 1200 for packet in scene.sent)
    scene.wait(11)
    scene.give(picture(1, ssrc=5000, mid="1", rid="f", keyframe=True), picture(2, ssrc=5000))
    assert scene.receivers["1"].frames[-1].ssrc == 5000
