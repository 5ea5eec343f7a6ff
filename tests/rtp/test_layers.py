"""Several sources of one section: which of them is received, and what is seen of a change."""

from mediapeer.rtp import InboundStream
from mediapeer.rtp.layers import PATIENCE, SILENCE, LayerChoice, Verdict
from tests.rtp.packets import DELTA, KEYFRAME, audio, parsed, video
from tests.rtp.receiving import FEEDBACK, PICTURE, Scene, Source, speaker

RIDS = ("f", "h", "q")


def simulcast() -> tuple[Scene, Source, Source, Source]:
    """A section with three layers, of which none has sent anything."""
    scene = Scene(video(feedback=FEEDBACK, rids=RIDS))
    scene.receiver.round_trip_time = 0.05
    full = Source(1, 40000, 77, "f")
    half = Source(2, 7, 5_000_000, "h")
    quarter = Source(3, 65530, 0xFFFFFFFF - 3 * PICTURE, "q")
    return scene, full, half, quarter


def key(scene: Scene, *sources: Source) -> None:
    """A keyframe of each source, in its time."""
    scene.wait(1 / 30)
    for source in sources:
        scene.picture(source, is_key=True)


def test_a_better_layer_takes_over_when_its_keyframe_is_whole() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, quarter)
    scene.pictures(5, quarter)
    scene.pictures(5, full, quarter)
    assert {frame.ssrc for frame in scene.frames} == {3}, "without a keyframe nothing can be decoded"
    assert [ssrc for _, ssrc in scene.keyframe_requests] == [1]
    full.timestamp += PICTURE
    full.pictures += 1
    scene.send(full, KEYFRAME + b"abc")
    scene.picture(quarter)
    assert scene.frames[-1].ssrc == 3, "the keyframe is not whole"
    assert scene.receiver.current is scene.stream(quarter)
    scene.send(full, b"\x00def", marker=True)
    assert scene.receiver.current is scene.stream(full)
    assert scene.frames[-1].is_keyframe
    assert scene.frames[-1].rid == "f"
    assert scene.frames[-1].timestamp == full.timestamp, "frames have the timestamps of their own source"
    before = len(scene.frames)
    scene.pictures(4, quarter, full)
    assert [frame.ssrc for frame in scene.frames[before:]] == 4 * [1]
    assert scene.receiver.next_timeout is None


def test_a_better_layer_that_loses_its_keyframe_is_repaired_beside_the_other() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, quarter)
    scene.lost = lambda n: n == 40001
    key(scene, quarter, full)
    scene.pictures(3, quarter, full)
    assert {frame.ssrc for frame in scene.frames} == {3}
    assert len(scene.frames) == 5
    assert {request.ssrc for _, request in scene.nacks} == {1}
    scene.answer_nacks()
    assert [frame.ssrc for frame in scene.frames[5:]] == 4 * [1]
    assert scene.frames[5].is_keyframe


def test_a_better_layer_whose_keyframe_cannot_be_repaired_is_asked_for_another() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, quarter)
    scene.lost = lambda n: n == 40001
    key(scene, quarter, full)
    scene.pictures(30, quarter, full)
    assert [frame.ssrc for frame in scene.frames] == 32 * [3]
    assert {ssrc for _, ssrc in scene.keyframe_requests} == {1}
    key(scene, quarter, full)
    assert scene.frames[-1].ssrc == 1


def test_the_best_of_those_that_offer_a_keyframe_is_taken() -> None:
    scene, full, half, quarter = simulcast()
    key(scene, quarter)
    key(scene, quarter, half, full)
    assert [frame.ssrc for frame in scene.frames] == [3, 3, 2, 1]
    scene.pictures(3, quarter, half, full)
    assert [frame.ssrc for frame in scene.frames[4:]] == [1, 1, 1]


def test_a_keyframe_of_the_best_need_not_wait_for_that_of_a_better_one() -> None:
    scene, full, half, quarter = simulcast()
    key(scene, quarter)
    half.timestamp += PICTURE
    scene.send(half, KEYFRAME + b"half, of which the rest is late")
    scene.picture(full, is_key=True)
    scene.send(half, b"\x00the rest", marker=True)
    assert [frame.ssrc for frame in scene.frames] == [3, 1]


def test_at_the_end_nothing_comes_that_cannot_be_decoded() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, full, quarter)
    scene.lost = lambda n: n == 65537
    scene.stream(full).ended = True
    scene.picture(quarter)
    scene.picture(quarter)
    assert scene.receiver.current is scene.stream(quarter)
    scene.picture(quarter)
    assert scene.receiver.end() == ()


def test_retransmissions_are_no_layer() -> None:
    section = video(ssrcs=frozenset([5, 6]))
    choice = LayerChoice(section)
    gone, other, repair = (InboundStream(ssrc, "1") for ssrc in (5, 9, 6))
    repair.is_retransmission = True
    for stream, when in ((gone, 0.0), (other, 5.0), (repair, 5.0)):
        stream.receive(parsed(1), when, 90000)
    siblings = [gone, other, repair]
    assert choice.judge(other, gone, siblings, 5.0) is Verdict.WAIT
    assert choice.judge(other, gone, siblings, 5.0 + 2 * PATIENCE) is Verdict.TAKE_OVER


def test_few_pictures_a_second_are_no_silence() -> None:
    """A screen that is shared: one picture a second, of which any layer's may come first."""
    scene, full, half, quarter = simulcast()
    key(scene, full, half, quarter)
    for _ in range(5):
        scene.wait(1.0)
        for source in (quarter, half, full):
            scene.picture(source)
            scene.wait(0.01)
    assert [frame.ssrc for frame in scene.frames] == 6 * [1]
    assert scene.keyframe_requests == []
    scene.wait(1.0)
    scene.picture(half)
    scene.wait(1.0)
    scene.picture(half)
    assert scene.receiver.current is scene.stream(half)


def test_a_layer_that_goes_silent_gives_way_to_the_best_that_flows() -> None:
    scene, full, half, quarter = simulcast()
    key(scene, full, half, quarter)
    scene.pictures(int(SILENCE * 30) - 1, half, quarter)
    assert scene.receiver.current is scene.stream(full)
    scene.pictures(2, quarter, half)
    assert scene.receiver.current is scene.stream(half), "it flows, and is better than the quarter"
    assert [frame.ssrc for frame in scene.frames] == [1], "its keyframe has gone by unseen"
    assert scene.counters["frame_before_keyframe"] == 1
    assert scene.keyframe_requests[-1][1] == 2
    key(scene, quarter, half)
    scene.pictures(3, quarter, half)
    assert [frame.ssrc for frame in scene.frames] == [1, 2, 2, 2, 2]
    assert scene.frames[1].is_keyframe


def test_of_sound_another_source_takes_over_as_soon_as_the_first_is_silent() -> None:
    scene = Scene(audio(mid="1"))
    old, new = speaker(4), speaker(5)
    scene.sound(old, b"\x78old")
    scene.sound(new, b"\x78new")
    scene.wait(SILENCE)
    scene.sound(new, b"\x78new")
    assert [frame.ssrc for frame in scene.frames] == [4, 5]
    scene.receiver.is_wanted = False
    scene.wait(SILENCE)
    scene.sound(old, b"\x78old")
    assert scene.receiver.current is scene.stream(old)


def test_what_a_layer_that_is_let_go_misses_is_given_up() -> None:
    scene, full, half, quarter = simulcast()
    key(scene, quarter)
    half.timestamp += PICTURE
    scene.send(half, KEYFRAME + b"half")
    half.number += 2
    scene.send(half, b"\x00half")
    key(scene, full)
    assert scene.receiver.current is scene.stream(full)
    counts = scene.receiver.counts
    assert (counts.lost, counts.given_up) == (2, 2)


def test_a_better_layer_needs_nothing_that_the_one_before_waited_for() -> None:
    """That one had taken over without its keyframe, and was asked for it."""
    scene, full, half, quarter = simulcast()
    key(scene, half)
    scene.stream(half).ended = True
    scene.pictures(2, quarter)
    assert scene.receiver.current is scene.stream(quarter)
    assert len(scene.frames) == 1
    key(scene, full)
    scene.keyframe_requests.clear()
    scene.pictures(60, full)
    assert [frame.ssrc for frame in scene.frames[1:]] == 61 * [1]
    assert scene.keyframe_requests == []


def test_a_source_that_takes_over_is_asked_as_often_as_the_first_was_at_first() -> None:
    scene, full, _, quarter = simulcast()
    scene.pictures(240, full)
    scene.stream(full).ended = True
    scene.keyframe_requests.clear()
    scene.pictures(45, quarter)
    assert [ssrc for _, ssrc in scene.keyframe_requests] == [3, 3]


def test_what_a_source_misses_that_gives_way_is_given_up() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, full)
    full.number += 2
    scene.picture(full)
    scene.stream(full).ended = True
    key(scene, quarter)
    assert scene.receiver.current is scene.stream(quarter)
    counts = scene.receiver.counts
    assert (counts.lost, counts.given_up) == (2, 2)


def test_a_goodbye_makes_a_layer_give_way_at_once() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, full, quarter)
    scene.stream(full).ended = True
    key(scene, quarter)
    assert [frame.ssrc for frame in scene.frames] == [1, 3]


def test_a_source_that_the_router_has_forgotten_gives_way() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, full, quarter)
    scene.router.remove_section("1")
    scene.router.set_section(scene.section)
    key(scene, full)
    assert [frame.ssrc for frame in scene.frames] == [1, 1]
    assert scene.receiver.current is scene.stream(full)


def test_a_repair_changes_nothing_about_the_choice() -> None:
    scene, full, half, _ = simulcast()
    key(scene, half)
    scene.pictures(1, half, full)
    scene.lost = lambda n: n >= 40003
    scene.picture(full, is_key=True)
    for number in (40003, 40004, 40005):
        assert scene.give(scene.sent[1, number], is_repair=True) == []
    assert scene.receiver.current is scene.stream(half)


def test_while_nobody_wants_frames_the_best_layer_is_known() -> None:
    scene, full, half, quarter = simulcast()
    scene.receiver.is_wanted = False
    scene.pictures(2, quarter)
    scene.pictures(1, half, full)
    assert scene.receiver.current is scene.stream(full)
    assert scene.keyframe_requests == []
    scene.receiver.is_wanted = True
    scene.pictures(1, quarter, half, full)
    assert [ssrc for _, ssrc in scene.keyframe_requests] == [1]
    assert {frame.ssrc for frame in scene.frames} == {1}
    scene.receiver.is_wanted = False
    scene.wait(1.0)
    scene.picture(quarter)
    assert scene.receiver.current is scene.stream(full), "it may only have few pictures"


def test_a_better_layer_is_asked_less_and_less_often() -> None:
    scene, full, _, quarter = simulcast()
    key(scene, quarter)
    scene.pictures(300, quarter, full)
    assert [ssrc for _, ssrc in scene.keyframe_requests] == len(scene.keyframe_requests) * [1]
    assert 4 <= len(scene.keyframe_requests) <= 6
    assert len(scene.frames) == 301


def test_of_sound_a_source_that_signaling_names_takes_over_at_once() -> None:
    scene = Scene(audio(mid="1", ssrcs=frozenset([5])))
    old, new = speaker(4), speaker(5)
    for _ in range(3):
        scene.sound(old, b"\x78old")
    scene.sound(new, b"\x78new")
    scene.sound(old, b"\x78old")
    assert [frame.ssrc for frame in scene.frames] == [4, 4, 4, 5]


def test_another_source_without_layers_takes_over_when_the_first_is_silent() -> None:
    scene = Scene()
    old, new = Source(1), Source(2, 900)
    key(scene, old)
    key(scene, new)
    assert [frame.ssrc for frame in scene.frames] == [1]
    scene.wait(SILENCE)
    scene.send(new, DELTA)
    key(scene, new)
    assert [frame.ssrc for frame in scene.frames] == [1, 2]


# Sizes


def sized(width: int, height: int) -> bytes:
    """The first payload of a VP8 keyframe of that size."""
    return KEYFRAME[:-4] + width.to_bytes(2, "little") + height.to_bytes(2, "little")


def sized_key(scene: Scene, source: Source, width: int, height: int) -> None:
    """A keyframe of one packet."""
    source.timestamp += PICTURE
    scene.send(source, sized(width, height) + b"abc", marker=True)


def smallest_first() -> tuple[Scene, Source, Source]:
    """A section whose first RID is that of the smaller layer."""
    scene = Scene(video(feedback=FEEDBACK, rids=("q", "f")))
    return scene, Source(3, 65530, 0xFFFFFFFF - 3 * PICTURE, "q"), Source(1, 40000, 77, "f")


def test_the_layer_with_the_largest_pictures_is_the_best_wherever_it_is_named() -> None:
    scene, quarter, full = smallest_first()
    sized_key(scene, quarter, 160, 90)
    scene.pictures(3, quarter)
    sized_key(scene, full, 640, 360)
    scene.pictures(3, quarter, full)
    assert [frame.ssrc for frame in scene.frames] == 4 * [3] + 4 * [1]
    assert scene.frames[4].is_keyframe
    sized_key(scene, quarter, 160, 90)
    scene.pictures(3, quarter, full)
    assert scene.frames[-1].ssrc == 1, "the smaller one does not come back"
    assert scene.keyframe_requests == []


def test_a_layer_of_unknown_size_is_asked_for_a_keyframe_until_one_tells_it() -> None:
    scene, quarter, full = smallest_first()
    sized_key(scene, quarter, 160, 90)
    scene.pictures(40, quarter, full)
    asked = [ssrc for _, ssrc in scene.keyframe_requests]
    assert set(asked) == {1}
    assert len(asked) == 2, "at growing intervals"
    sized_key(scene, full, 80, 44)
    scene.pictures(90, quarter, full)
    assert {frame.ssrc for frame in scene.frames} == {3}, "it was smaller"
    assert len(scene.keyframe_requests) == len(asked)


def test_when_the_best_layer_is_silent_the_largest_of_the_others_is_next() -> None:
    scene = Scene(video(feedback=FEEDBACK, rids=("q", "h", "f")))
    quarter, half, full = Source(3, 5, 1, "q"), Source(2, 6, 2, "h"), Source(1, 7, 3, "f")
    for source, width in ((quarter, 160), (half, 320), (full, 640)):
        sized_key(scene, source, width, width * 9 // 16)
    assert [frame.ssrc for frame in scene.frames] == [3, 2, 1]
    scene.pictures(3, quarter, half, full)
    scene.pictures(int(SILENCE * 30) + 1, quarter, half)
    assert scene.receiver.current is scene.stream(half)


def test_the_wait_for_a_silent_layer_is_no_longer_than_it_must_be() -> None:
    """That others go on sending is known by the time that it counts as silent."""
    scene, full, half, quarter = simulcast()
    key(scene, full, half, quarter)
    scene.pictures(3, full, half, quarter)
    silent_since = scene.now
    while scene.receiver.current is scene.stream(full):
        scene.pictures(1, half, quarter)
    assert SILENCE <= scene.now - silent_since < SILENCE + PATIENCE / 2
