"""Which section a packet belongs to, and what a peer that lies can do about it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mediapeer.rtp import InboundStream, Refusal, RtpRouter, RtpSection
from mediapeer.rtp.router import IDLE_SOURCE, SECTION_SOURCES, TRANSPORT_SOURCES
from tests.rtp.packets import H264, OPUS, VP8, audio, parsed, video


class Scene:
    """A router and its clock."""

    def __init__(self, *sections: RtpSection) -> None:
        self.counters: Counter[str] = Counter()
        self.router = RtpRouter(self.counters)
        self.now = 0.0
        for section in sections:
            self.router.set_section(section)

    def send(self, **packet: object) -> InboundStream | Refusal:
        """Route a packet, and count it where it goes."""
        one = parsed(**packet)  # type: ignore[arg-type]
        stream = self.router.route(one, self.now)
        if isinstance(stream, InboundStream):
            stream.receive(one, self.now, 90000)
        return stream

    def mid(self, **packet: object) -> str | Refusal:
        """The section a packet goes to."""
        stream = self.send(**packet)
        return stream.mid if isinstance(stream, InboundStream) else stream


def test_the_mid_decides_and_is_remembered_for_the_source() -> None:
    scene = Scene(video("1"), video("2"))
    assert scene.mid(ssrc=7) is Refusal.UNROUTED  # two sections have the payload type
    assert scene.mid(ssrc=7, mid="2") == "2"
    assert scene.mid(ssrc=7) == "2"
    assert scene.mid(ssrc=7, payload_type=H264) == "2"


def test_a_signalled_source_needs_no_mid() -> None:
    scene = Scene(video("1", ssrcs=frozenset([10])), video("2", ssrcs=frozenset([20])))
    assert scene.mid(ssrc=20) == "2"
    assert scene.mid(ssrc=10) == "1"


def test_a_payload_type_that_one_section_alone_has_decides_last() -> None:
    scene = Scene(audio("0"), video("1"))
    assert scene.mid(ssrc=5, payload_type=OPUS) == "0"
    assert scene.mid(ssrc=6, payload_type=VP8) == "1"
    assert scene.mid(ssrc=6, payload_type=OPUS) is Refusal.UNROUTED, "the source belongs to the video"
    assert scene.mid(ssrc=8, payload_type=3) is Refusal.UNROUTED


def test_a_mid_that_is_nobodys_is_refused_whatever_else_would_fit() -> None:
    scene = Scene(video("1", ssrcs=frozenset([10])))
    assert scene.mid(ssrc=10, mid="9") is Refusal.UNKNOWN_MID
    assert scene.mid(ssrc=10, mid=b"\xff\xfe") is Refusal.UNKNOWN_MID
    assert scene.mid(ssrc=10) == "1"


def test_a_mid_moves_a_source_and_its_counts_begin_anew() -> None:
    scene = Scene(video("1"), video("2"))
    scene.send(ssrc=7, mid="1")
    scene.send(ssrc=7)
    moved = scene.send(ssrc=7, mid="2")
    assert isinstance(moved, InboundStream)
    assert (moved.mid, moved.packets_received) == ("2", 1)
    assert [(s.ssrc, s.mid) for s in scene.router.streams()] == [(7, "2")]
    assert not scene.router.streams_of("1")


def test_a_mid_with_a_payload_type_of_another_section_is_refused() -> None:
    scene = Scene(audio("0"), video("1"))
    assert scene.mid(ssrc=7, mid="0", payload_type=VP8) is Refusal.UNROUTED
    assert not scene.router.streams()


def test_rids_are_remembered_when_they_were_negotiated() -> None:
    scene = Scene(video("1", rids=("f", "h")))
    high = scene.send(ssrc=1, mid="1", rid="f")
    assert isinstance(high, InboundStream)
    scene.send(ssrc=1)
    repair = scene.send(ssrc=2, mid="1", repaired_rid="f", payload_type=97)
    assert isinstance(repair, InboundStream)
    assert (high.rid, repair.repaired_rid, repair.is_retransmission) == ("f", "f", True)
    lying = scene.send(ssrc=3, mid="1", rid="x")
    assert isinstance(lying, InboundStream)
    assert lying.rid is None
    scene.send(ssrc=3, rid=b"\xff")
    assert scene.counters["rtp_of_unknown_rid"] == 2


def test_a_section_has_room_for_so_many_sources_and_silent_ones_make_place() -> None:
    scene = Scene(video("1"), audio("0"))
    refused = [scene.mid(ssrc=number) for number in range(500)]
    assert refused.count("1") == SECTION_SOURCES
    assert refused.count(Refusal.TOO_MANY_SOURCES) == 500 - SECTION_SOURCES
    assert scene.mid(ssrc=9000, payload_type=OPUS) == "0", "another section still has room"
    scene.now = IDLE_SOURCE - 1
    scene.send(ssrc=0)
    scene.now = IDLE_SOURCE + 0.1
    assert scene.mid(ssrc=8000) == "1"
    sources = {stream.ssrc for stream in scene.router.streams_of("1")}
    assert 8000 in sources
    assert 0 in sources
    assert 1 not in sources, "the one that was silent the longest is gone"
    assert len(sources) == SECTION_SOURCES


def test_all_sections_together_have_room_for_so_many() -> None:
    scene = Scene(*(video(str(number)) for number in range(20)))
    for number in range(1000):
        scene.send(ssrc=number, mid=str(number % 20))
    assert len(scene.router.streams()) == TRANSPORT_SOURCES


def test_a_renegotiation_keeps_streams_and_a_removal_lets_them_go() -> None:
    scene = Scene(video("1"), audio("0"))
    stream = scene.send(ssrc=7)
    scene.router.set_section(video("1", ssrcs=frozenset([8])))
    assert scene.send(ssrc=7) is stream
    scene.router.set_section(video("2", ssrcs=frozenset([7])))
    assert scene.mid(ssrc=7) == "2", "signaling has given the source to another section"
    scene.router.remove_section("2")
    assert scene.router.stream(7) is None
    scene.router.remove_section("never set")
    assert scene.mid(ssrc=7) == "1"


def test_identifiers_of_extensions_are_read_only_where_negotiated() -> None:
    scene = Scene()
    scene.router.set_section(RtpSection("1", "video", video().formats))
    assert scene.mid(ssrc=7, mid="9") == "1"


_packets = st.fixed_dictionaries(
    {"ssrc": st.integers(0, 400), "payload_type": st.sampled_from([96, 97, 102, 111, 3])},
    optional={
        "mid": st.sampled_from(["0", "1", "2", "9", b"\xff"]),
        "rid": st.sampled_from(["f", "h", "x"]),
        "repaired_rid": st.sampled_from(["f", "x"]),
    },
)


@given(st.lists(st.one_of(_packets, st.sampled_from(["set", "remove"]), st.floats(0, 30)), max_size=80))
def test_whatever_comes_the_tables_agree_and_stay_small(steps: list[object]) -> None:
    scene = Scene(audio("0"), video("1", rids=("f", "h")))
    for step in steps:
        if isinstance(step, dict):
            scene.send(**step)
        elif isinstance(step, float):
            scene.now += step
        elif step == "set":
            scene.router.set_section(video("2", ssrcs=frozenset([1, 2, 3])))
        else:
            scene.router.remove_section("2")
        by_section = [stream for mid in "012" for stream in scene.router.streams_of(mid)]
        assert sorted(s.ssrc for s in by_section) == sorted(s.ssrc for s in scene.router.streams())
        assert all(scene.router.stream(s.ssrc) is s for s in by_section)
        assert all(len(scene.router.streams_of(mid)) <= SECTION_SOURCES for mid in "012")
