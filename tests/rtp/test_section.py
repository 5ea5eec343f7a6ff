"""Loss, repair and keyframes of one source, from packets to frames."""

import itertools

import pytest

from mediapeer.rtp.nack import MAXIMUM_REQUESTS
from mediapeer.rtp.section import KEYFRAME_INTERVAL, MAXIMUM_NACKS
from mediapeer.rtp.stream import DEADLINES, MAXIMUM_MISSING
from tests.rtp.packets import OPUS, video
from tests.rtp.receiving import FEEDBACK, PICTURE, Scene, Source, sound_scene, speaker

ROUND_TRIP = 0.05


def begun(*lost: int, number: int = 0, timestamp: int = 0) -> tuple[Scene, Source]:
    """A scene after a keyframe, of whose further packets some will be lost."""
    scene = Scene(lost=lambda n: n - number in lost)
    scene.receiver.round_trip_time = ROUND_TRIP
    source = Source(1000, number, timestamp)
    scene.picture(source, is_key=True)
    return scene, source


def steps(scene: Scene) -> set[int]:
    """The differences of the timestamps that came out."""
    return {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(scene.timestamps())}


def test_what_comes_in_order_goes_straight_through() -> None:
    scene, source = begun()
    scene.pictures(10, source)
    assert len(scene.frames) == 11
    assert [frame.is_keyframe for frame in scene.frames] == [True] + 10 * [False]
    assert scene.receiver.next_timeout is None
    assert not scene.nacks
    assert not scene.keyframe_requests, "the first packet began a keyframe"
    assert scene.receiver.counts.received == 33
    assert scene.receiver.current is scene.stream(source)


def test_packets_that_overtake_each_other_are_put_in_order() -> None:
    scene, source = begun(4, 5)
    scene.pictures(2, source)
    assert len(scene.frames) == 1
    for number in (5, 4):
        scene.give(scene.sent[1000, number])
    assert len(scene.frames) == 3
    assert steps(scene) == {PICTURE}
    assert (scene.receiver.counts.lost, scene.receiver.counts.repaired) == (2, 2)
    assert scene.receiver.next_timeout is None
    scene.wait(5)
    assert scene.keyframe_requests == []


def test_a_duplicate_is_dropped_and_counted() -> None:
    scene, source = begun(7)
    scene.pictures(2, source)
    for number in (3, 6, 8):
        scene.give(scene.sent[1000, number])
    assert scene.counters == {"duplicate_rtp": 3}
    scene.give(scene.sent[1000, 8], is_repair=True)
    assert scene.counters["duplicate_rtx"] == 1
    scene.give(scene.sent[1000, 7])
    assert len(scene.frames) == 3
    assert scene.receiver.counts.received == 9


def test_a_lost_packet_is_asked_for_again_and_its_frames_wait() -> None:
    scene, source = begun(4)
    scene.pictures(2, source, packets=3)
    scene.wait(0.14)
    assert len(scene.frames) == 1, "later frames wait, though they are whole"
    assert [request.sequence_numbers for _, request in scene.nacks] == [[4]] * len(scene.nacks)
    times = [when for when, _ in scene.nacks]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) == 3
    assert gaps == pytest.approx([1.25 * ROUND_TRIP + 0.005] * len(gaps))
    del scene.nacks[1:]
    scene.answer_nacks()
    assert len(scene.frames) == 3
    assert [frame.lost_before for frame in scene.frames] == [0, 0, 0]
    counts = scene.receiver.counts
    assert (counts.received, counts.lost, counts.repaired, counts.given_up) == (9, 1, 1, 0)
    scene.wait(5)
    assert not scene.nacks


def test_a_packet_that_is_a_little_late_is_not_asked_for() -> None:
    scene, source = begun(4)
    scene.wait(0.03)
    scene.picture(source)
    scene.wait(0.004)
    scene.give(scene.sent[1000, 4])
    scene.wait(1)
    assert scene.nacks == []


def test_what_is_not_repaired_in_time_is_given_up_and_a_keyframe_is_asked_for() -> None:
    scene, source = begun(4, 5)
    scene.pictures(2, source)
    scene.wait(DEADLINES["video"][0] - 0.05)
    assert len(scene.frames) == 1
    scene.wait(0.1)
    assert len(scene.frames) == 2, "the frame after the broken one"
    assert scene.frames[-1].lost_before == 2
    assert scene.receiver.counts.given_up == 2
    assert [ssrc for _, ssrc in scene.keyframe_requests] == [1000]
    assert len(scene.nacks) <= MAXIMUM_REQUESTS
    scene.nacks.clear()
    scene.give(scene.sent[1000, 4], is_repair=True)
    assert scene.counters["late_rtp"] == 1
    scene.wait(0.2)
    assert scene.nacks == []


def test_a_keyframe_behind_the_gap_is_all_that_was_needed() -> None:
    scene, source = begun(4)
    scene.pictures(1, source)
    scene.picture(source, is_key=True)
    scene.pictures(30, source)
    assert scene.receiver.counts.given_up == 1
    assert len(scene.frames) == 32
    assert scene.frames[1].is_keyframe
    assert scene.keyframe_requests == []


def test_a_keyframe_that_is_lost_itself_is_asked_for_again_soon() -> None:
    scene, source = begun(4)
    scene.lost = lambda n: n % 30 == 4
    scene.pictures(150, source)
    times = [when for when, _ in scene.keyframe_requests]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert min(gaps) >= KEYFRAME_INTERVAL - 0.001
    assert max(gaps) <= 2 * KEYFRAME_INTERVAL + 0.1


def test_a_frame_that_cannot_be_read_is_a_loss() -> None:
    scene, source = begun()
    source.timestamp += PICTURE
    scene.send(source, b"\x90\x80", marker=True)
    scene.pictures(1, source)
    assert scene.counters == {"malformed_payload": 1}
    assert [frame.lost_before for frame in scene.frames] == [0, 1]
    assert len(scene.keyframe_requests) == 1


def test_no_packet_is_asked_for_more_than_ten_times() -> None:
    scene, source = begun(4)
    scene.receiver.round_trip_time = 0.001
    scene.pictures(1, source)
    scene.wait(0.49)
    assert len(scene.nacks) == MAXIMUM_REQUESTS
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(scene.nacks)]
    assert min(gaps) >= 0.0199


def test_a_long_round_trip_lengthens_the_deadline() -> None:
    scene, source = begun(4)
    scene.receiver.round_trip_time = 0.4
    scene.pictures(2, source)
    begun_at = scene.now - 1 / 30
    scene.wait(begun_at + 3.5 * 0.4 + 0.04 - scene.now)
    assert [when - begun_at for when, _ in scene.nacks] == pytest.approx([0.005, 0.51, 1.015], abs=0.002)
    assert len(scene.frames) == 1, "the answer to the third request may still come"
    scene.answer_nacks()
    assert len(scene.frames) == 3


def test_no_round_trip_makes_anybody_wait_for_long() -> None:
    scene, source = begun(4)
    scene.receiver.round_trip_time = 30.0
    scene.pictures(2, source)
    scene.wait(2.0)
    assert scene.receiver.counts.given_up == 1
    times = [when for when, _ in scene.keyframe_requests]
    scene.wait(25.0)
    assert [when for when, _ in scene.keyframe_requests] == times, "it has not had the time to answer"


def test_without_nack_nothing_is_asked_for_and_the_wait_is_short() -> None:
    scene = Scene(video(feedback=frozenset(["nack pli"])), lost=lambda n: n == 4)
    source = Source(1000)
    scene.picture(source, is_key=True)
    scene.pictures(2, source)
    scene.wait(DEADLINES["video"][1])
    assert len(scene.frames) == 2
    assert scene.nacks == []
    assert len(scene.keyframe_requests) == 1


def test_a_keyframe_is_asked_for_until_one_comes_at_growing_intervals() -> None:
    scene = Scene()
    source = Source(1000)
    scene.pictures(300, source)
    times = [when for when, _ in scene.keyframe_requests]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] >= KEYFRAME_INTERVAL - 0.001
    assert gaps == sorted(gaps)
    assert 4 <= len(times) <= 6
    scene.picture(source, is_key=True)
    scene.pictures(300, source)
    assert len(scene.keyframe_requests) == len(times)
    assert scene.receiver.next_timeout is None


def test_consumers_may_ask_often_and_the_peer_is_asked_twice_a_second() -> None:
    scene, source = begun()
    for _ in range(60):
        scene.pictures(1, source)
        scene.receiver.request_keyframe()
        scene.collect()
    assert len(scene.keyframe_requests) == pytest.approx(4, abs=1)
    assert scene.keyframe_requests[0][0] < 100.1
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(scene.keyframe_requests)]
    assert min(gaps) >= KEYFRAME_INTERVAL - 0.001


def test_a_source_that_has_gone_silent_is_not_asked_for_ever() -> None:
    scene = Scene()
    source = Source(1000)
    scene.pictures(3, source)
    scene.wait(600)
    asked = len(scene.keyframe_requests)
    assert asked < 8
    assert scene.receiver.next_timeout is None, "nobody is woken for it"
    scene.picture(source)
    assert len(scene.keyframe_requests) == asked + 1, "it has begun again"


def test_padding_is_neither_a_frame_nor_a_gap() -> None:
    scene, source = begun(5)
    scene.wait(0.03)
    for _ in range(2):
        scene.send(source, b"", padding=200)
    assert scene.nacks == []
    scene.send(source, b"", padding=200)  # lost
    scene.picture(source)
    assert len(scene.frames) == 1
    scene.wait(0.01)
    assert [request.sequence_numbers for _, request in scene.nacks] == [[5]], (
        "nobody knows that it was padding"
    )
    scene.answer_nacks()
    assert len(scene.frames) == 2
    assert scene.frames[-1].lost_before == 0


def test_an_outage_of_seconds_asks_for_a_keyframe_and_not_for_thousands_of_packets() -> None:
    scene, source = begun()
    gone = 90 * 27
    scene.lost = lambda n: n < 3 + gone
    scene.pictures(90, source, packets=27)
    scene.lost = lambda n: False
    scene.nacks.clear()
    scene.pictures(3, source, packets=27)
    assert scene.nacks == []
    assert len(scene.keyframe_requests) == 1
    assert len(scene.frames) == 4, "nothing waits for what is gone"
    assert scene.frames[1].lost_before == gone
    assert scene.receiver.counts.given_up == scene.receiver.counts.lost == gone


def test_a_loss_that_can_be_repaired_is_asked_for_in_pieces() -> None:
    scene, source = begun(*range(10, 310))
    scene.pictures(40, source, packets=9)
    assert [len(request.sequence_numbers) for _, request in scene.nacks[:3]] == [128, 128, 44]
    assert max(len(request.sequence_numbers) for _, request in scene.nacks) <= MAXIMUM_NACKS
    assert len(scene.frames) == 1


def test_losses_that_add_up_are_given_up() -> None:
    scene, source = begun()
    scene.lost = lambda n: n > 10 and n % 40 != 0
    scene.pictures(3, source)
    scene.receiver.round_trip_time = 1.0  # a deadline of two seconds
    scene.wait(0)
    before = scene.now
    while not scene.receiver.counts.given_up and source.number < 2000:
        scene.send(source)
    assert scene.now == before
    assert MAXIMUM_MISSING <= source.number - 10 < 512, "the buffer would have room for more"


def test_a_full_buffer_gives_up_the_oldest_gap_alone() -> None:
    scene, source = begun(4, 300)
    source.timestamp += PICTURE
    for _ in range(540):
        scene.send(source, marker=True)
    counts = scene.receiver.counts
    assert (counts.lost, counts.given_up) == (2, 1)
    scene.wait(0.01)
    assert scene.nacks[-1][1].sequence_numbers == [300]


def test_of_sound_a_step_that_the_buffer_does_not_reach_is_a_new_beginning() -> None:
    scene = sound_scene(feedback=FEEDBACK)
    source = speaker()
    scene.sound(source, b"\x780")
    source.number += 100
    scene.sound(source, b"\x781")
    assert [frame.lost_before for frame in scene.frames] == [0, 100]
    assert scene.receiver.next_timeout is None


def test_a_step_that_is_no_outage_says_no_number() -> None:
    scene, source = begun()
    source.number += 20_000
    scene.pictures(1, source)
    assert [frame.lost_before for frame in scene.frames] == [0, 1]
    assert scene.receiver.counts.given_up == 1


def test_a_deadline_does_not_depend_on_the_timer() -> None:
    scene, source = begun(4)
    scene.picture(source)
    scene.now += 1.0
    scene.picture(source)
    assert scene.receiver.counts.given_up == 1
    assert len(scene.frames) == 2


def request_due_later() -> tuple[Scene, Source, int]:
    """A request for a keyframe is due in more than 1.5 s, and the next packet, of this number, gets lost."""
    scene = Scene()
    source = Source(1000)
    scene.pictures(240, source)
    assert scene.receiver.next_timeout is not None
    assert scene.receiver.next_timeout - scene.now > 1.5
    gone = source.number
    scene.lost = lambda n: n == gone
    return scene, source, gone


def test_a_loss_makes_the_next_request_come_sooner() -> None:
    scene, source, _ = request_due_later()
    asked = len(scene.keyframe_requests)
    scene.pictures(35, source)
    assert len(scene.keyframe_requests) == asked + 1


def test_a_request_for_a_keyframe_that_is_due_later_delays_no_repair() -> None:
    scene, source, gone = request_due_later()
    scene.pictures(1, source)
    scene.wait(0.05)
    assert [request.sequence_numbers for _, request in scene.nacks] == [[gone]]
    before = len(scene.frames)
    scene.picture(source)
    scene.wait(DEADLINES["video"][0])
    assert len(scene.frames) == before + 1


def test_a_keyframe_that_comes_out_by_a_time_out_is_all_that_was_asked_for() -> None:
    scene = Scene(lost=lambda n: n == 4)
    source = Source(1000)
    scene.pictures(2, source)
    scene.picture(source, is_key=True)
    asked = len(scene.keyframe_requests)
    assert asked == 1
    scene.wait(DEADLINES["video"][0] + 0.01)
    assert scene.frames[-1].is_keyframe
    scene.keyframe_requests.clear()
    scene.pictures(60, source)
    assert scene.keyframe_requests == []


@pytest.mark.parametrize("number", [65530, 131060])
def test_numbers_and_timestamps_wrap_around(number: int) -> None:
    scene, source = begun(4, 6, number=number, timestamp=0xFFFFFFFF - 2 * PICTURE)
    scene.pictures(10, source)
    requested = {n for _, request in scene.nacks for n in request.sequence_numbers}
    assert requested == {(number + 4) & 0xFFFF, (number + 6) & 0xFFFF}
    scene.answer_nacks()
    assert len(scene.frames) == 11
    assert steps(scene) == {PICTURE}


def test_nobody_wants_frames_and_nothing_is_kept_or_asked_for() -> None:
    scene, source = begun(4, 8, 16, 26)
    scene.picture(source)
    scene.receiver.is_wanted = False
    scene.pictures(5, source)
    assert len(scene.frames) == 1
    assert scene.nacks == []
    assert scene.receiver.next_timeout is None
    assert scene.receiver.current is scene.stream(source)
    scene.receiver.is_wanted = True
    scene.pictures(1, source)
    assert [ssrc for _, ssrc in scene.keyframe_requests] == [1000], "a start needs a keyframe"
    counts = scene.receiver.counts
    assert (counts.lost, counts.given_up) == (1, 1), "what was missing when nobody wanted it any more"
    assert len(scene.frames) == 2, "the consumers decide what they do with it"


def test_from_when_nobody_wants_frames_there_are_none() -> None:
    scene, source = begun()
    scene.receiver.is_wanted = False
    scene.picture(source)
    assert len(scene.frames) == 1


def test_a_picture_that_another_codec_interrupts_is_no_picture() -> None:
    scene, source = begun()
    scene.send(source, b"\x10\x31begun")
    source.payload_type = 102
    scene.send(source, b"\x65\x88\x84", marker=True)
    source.payload_type = 96
    scene.send(source, b"\x00rest", marker=True)
    assert [frame.codec for frame in scene.frames] == ["vp8", "h264"]


def test_frames_of_two_codecs_on_one_source() -> None:
    scene, source = begun()
    source.timestamp += PICTURE
    source.payload_type = 102
    scene.send(source, b"\x65\x88\x84", marker=True)
    assert [frame.codec for frame in scene.frames] == ["vp8", "h264"]


def test_events_between_sound_are_no_sound_and_no_gap() -> None:
    section = sound_scene().section
    formats = {**section.formats, 126: section.formats[OPUS].__class__("telephone-event", 48000)}
    scene = sound_scene(formats=formats)
    source = speaker()
    scene.sound(source, b"\x78one")
    source.payload_type = 126
    scene.sound(source, b"\x01\x0a\x00\xa0")
    source.payload_type = OPUS
    scene.sound(source, b"\x78two")
    assert [frame.data for frame in scene.frames] == [b"\x78one", b"\x78two"]
    assert scene.frames[1].lost_before == 0
    assert not scene.counters


def test_sound_waits_for_what_is_missing_but_not_for_long() -> None:
    scene = sound_scene(feedback=FEEDBACK)
    scene.lost = lambda n: n == 3
    source = speaker()
    for n in range(6):
        scene.sound(source, b"\x78%d" % n)
    assert [frame.data for frame in scene.frames] == [b"\x780", b"\x781", b"\x782"]
    assert scene.nacks
    for n in range(6, 16):
        scene.sound(source, b"\x78%d" % n)
    assert [frame.data[1:] for frame in scene.frames] == [b"%d" % n for n in range(16) if n != 3]
    assert scene.frames[3].lost_before == 1
    assert scene.keyframe_requests == []


def test_sound_does_not_wait_for_a_long_round_trip() -> None:
    scene = sound_scene(feedback=FEEDBACK)
    scene.receiver.round_trip_time = 0.4
    source = speaker()
    scene.lost = lambda n: n == 1
    for number in range(3):
        scene.sound(source, b"\x78%d" % number)
    scene.wait(DEADLINES["audio"][0] + 0.001)
    assert [frame.data for frame in scene.frames] == [b"\x780", b"\x782"]


def test_what_still_waits_comes_out_at_the_end() -> None:
    scene, source = begun(4)
    scene.pictures(2, source)
    frames = scene.receiver.end()
    assert [frame.lost_before for frame in frames] == [1]
    assert scene.receiver.next_timeout is None
    assert not scene.receiver.has_requests


def test_padding_of_sound_is_no_sound() -> None:
    scene = sound_scene()
    source = speaker()
    scene.sound(source, b"\x78one")
    scene.sound(source, b"", padding=20)
    scene.sound(source, b"\x78two")
    assert [frame.data for frame in scene.frames] == [b"\x78one", b"\x78two"]
    assert not scene.counters


def test_the_time_of_capture_comes_with_the_packets() -> None:
    scene = Scene()
    source = Source(1000)
    scene.send(source, b"\x10\x31one", marker=True, capture_time=(4_000_000_000 << 32).to_bytes(8, "big"))
    scene.pictures(1, source)
    assert [frame.captured_at for frame in scene.frames] == pytest.approx([4e9, 4e9 + PICTURE / 90000])


def test_a_renegotiation_disturbs_nothing() -> None:
    scene, source = begun(4)
    scene.pictures(2, source)
    scene.receiver.section = scene.section = video(feedback=FEEDBACK, rids=())
    scene.router.set_section(scene.section)
    scene.wait(0.01)
    scene.answer_nacks()
    assert len(scene.frames) == 3
    scene.lost = lambda n: n in (10, 20)
    scene.pictures(1, source)
    scene.picture(source)
    scene.receiver.section = video(feedback=frozenset())
    scene.pictures(6, source)
    scene.wait(1)
    assert scene.nacks == []


def test_a_repair_from_the_future_is_dropped() -> None:
    scene, source = begun()
    source.number += 300
    scene.lost = lambda n: True
    scene.picture(source)
    scene.give(scene.sent[1000, 304], is_repair=True)
    assert scene.counters == {"misnumbered_rtx": 1}
    assert scene.receiver.next_timeout is None


def test_where_the_frames_come_from_is_told() -> None:
    scene = Scene(video(feedback=FEEDBACK, rids=("f", "q")))
    source = Source(1000, rid="q", timestamp=9000)
    scene.picture(source, is_key=True)
    scene.pictures(1, source)
    stream = scene.stream(source)
    assert scene.frames[-1].captured_at is None
    assert stream.receive_report((4_000_000_000 << 32) | (1 << 31), source.timestamp, 6, 6000, scene.now)
    scene.pictures(3, source)
    assert {frame.rid for frame in scene.frames} == {"q"}
    assert scene.frames[-1].captured_at == pytest.approx(4_000_000_000.6)
