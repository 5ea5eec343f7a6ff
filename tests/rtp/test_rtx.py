"""Retransmissions: whose they are, and what they carry."""

from collections import Counter

import pytest

from mediapeer.rtp import (
    InboundStream,
    PayloadFormat,
    RtpRouter,
    RtpSection,
    RtxError,
    repaired_stream,
    unwrap,
)
from mediapeer.rtp.rtx import RECENT
from tests.rtp.packets import VIDEO_FORMATS, VP8, VP8_RTX, parsed, video


class Scene:
    def __init__(self, section: RtpSection) -> None:
        self.section = section
        self.router = RtpRouter(Counter())
        self.router.set_section(section)
        self.now = 0.0

    def stream(self, ssrc: int, payload_type: int = VP8, **elements: str) -> InboundStream:
        packet = parsed(ssrc=ssrc, payload_type=payload_type, **elements)
        stream = self.router.route(packet, self.now)
        assert isinstance(stream, InboundStream)
        stream.receive(packet, self.now, 90000)
        return stream

    def repaired(self, stream: InboundStream) -> int | None:
        found = repaired_stream(stream, self.section, self.router, self.now)
        return found.ssrc if found is not None else None


def test_the_only_stream_of_the_section_is_the_one_that_is_repaired() -> None:
    scene = Scene(video())
    repair = scene.stream(2, VP8_RTX)
    assert scene.repaired(repair) is None, "nothing has come that could be repaired"
    original = scene.stream(1)
    assert scene.repaired(repair) == 1
    assert (repair.repairs, original.rtx_ssrc) == (1, 2)
    scene.stream(3)
    assert scene.repaired(repair) == 1, "what is known stays known"


def test_with_two_streams_and_no_word_nothing_is_guessed_until_one_is_silent() -> None:
    scene = Scene(video())
    scene.stream(1)
    scene.stream(3)
    repair = scene.stream(2, VP8_RTX)
    assert scene.repaired(repair) is None
    scene.now = RECENT + 1
    scene.stream(3)
    assert scene.repaired(repair) == 3


def test_a_signalled_group_decides() -> None:
    scene = Scene(video(ssrcs=frozenset([1, 2, 3, 4]), repaired={2: 1, 4: 3}))
    scene.stream(1)
    assert scene.repaired(scene.stream(4, VP8_RTX)) is None
    scene.stream(3)
    assert scene.repaired(scene.stream(4, VP8_RTX)) == 3
    assert scene.repaired(scene.stream(2, VP8_RTX)) == 1


def test_the_repaired_rid_decides_and_may_change() -> None:
    scene = Scene(video(rids=("f", "h")))
    scene.stream(1, rid="f")
    scene.stream(2, rid="h")
    repair = scene.stream(3, VP8_RTX, repaired_rid="h")
    assert scene.repaired(repair) == 2
    scene.stream(3, VP8_RTX, repaired_rid="f")
    assert scene.repaired(repair) == 1


def test_of_a_layer_that_changed_its_source_the_latest_is_repaired() -> None:
    scene = Scene(video(rids=("f", "h")))
    for ssrc, now in [(1, 0.0), (4, 2.0), (5, 1.0)]:
        scene.now = now
        scene.stream(ssrc, rid="f")
    assert scene.repaired(scene.stream(3, VP8_RTX, repaired_rid="f")) == 4


def test_a_stream_that_is_gone_is_repaired_no_more() -> None:
    scene = Scene(video())
    scene.stream(1)
    repair = scene.stream(2, VP8_RTX)
    assert scene.repaired(repair) == 1
    scene.router.set_section(video("9", ssrcs=frozenset([1])))
    assert scene.repaired(repair) is None
    scene.stream(4, mid="1")
    assert scene.repaired(repair) == 4
    scene.stream(4, mid="9")
    assert scene.repaired(repair) is None, "it lives on, in another section"


def test_the_packet_within_is_restored() -> None:
    original = InboundStream(1, "1")
    packet = parsed(500, b"\x12\x34the payload", ssrc=2, payload_type=VP8_RTX, timestamp=77, marker=True)
    unwrap(packet, video(), original)
    assert (packet.sequence_number, packet.payload, packet.payload_type) == (0x1234, b"the payload", VP8)
    assert (packet.ssrc, packet.timestamp, packet.marker) == (1, 77, True)


@pytest.mark.parametrize("payload", [b"", b"\x12"])
def test_what_has_no_number_is_refused(payload: bytes) -> None:
    with pytest.raises(RtxError):
        unwrap(parsed(1, payload, payload_type=VP8_RTX), video(), InboundStream(1, "1"))


@pytest.mark.parametrize("apt", [97, 98, 50, -1])
def test_retransmissions_of_retransmissions_and_of_nothing_are_refused(apt: int) -> None:
    formats = {**VIDEO_FORMATS, 97: PayloadFormat("rtx", 90000, apt), 98: PayloadFormat("rtx", 90000, 97)}
    with pytest.raises(RtxError):
        unwrap(parsed(1, b"\0\1x", payload_type=97), video(formats=formats), InboundStream(1, "1"))
