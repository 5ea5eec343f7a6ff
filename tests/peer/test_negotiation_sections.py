"""Sections in offers and answers: which are rejected, which places are used again, what a rollback undoes."""

import pytest

from mediapeer.peer.signaling_state import DescriptionError, SignalingState, WrongStateError
from mediapeer.peer.transceiver import Transceiver
from mediapeer.sdp import SessionDescription
from tests.peer.negotiators import Negotiator, negotiate


def ports(description: SessionDescription | None) -> list[tuple[str, bool]]:
    """Kind of each section, and whether it is used."""
    return [(media.kind, media.port != 0) for media in description.media] if description else []


def full_offer() -> str:
    """Audio, video and data."""
    peer = Negotiator("o")
    peer.add("audio")
    peer.add("video")
    peer.negotiation.want_data()
    return peer.offer()


class TestRejectedSections:
    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("m=video 9 UDP/TLS/RTP/SAVPF", "m=text 9 UDP/TLS/RTP/SAVPF", "media of kind text is not known"),
            ("m=video 9 UDP/TLS/RTP/SAVPF 96", "m=image 9 udptl 96", "media of kind image is not known"),
            ("m=video 9 UDP/TLS/RTP/SAVPF", "m=video 9 RTP/AVP", "the protocol RTP/AVP is not known"),
            ("m=video 9 UDP/TLS/RTP/SAVPF", "m=video 0 UDP/TLS/RTP/SAVPF", "the peer does not use it"),
            ("a=mid:1\r\n", "a=mid:1\r\na=nothing\r\n", None),
        ],
    )
    def test_a_section_we_cannot_use_is_rejected_alone(self, old: str, new: str, problem: str | None) -> None:
        peer = Negotiator()
        answer = SessionDescription.parse(peer.answer(full_offer().replace(old, new)))
        assert peer.negotiation.problems == ({} if problem is None else {1: problem})
        assert [media.port != 0 for media in answer.media] == [True, problem is None, True]
        assert answer.media[1].kind == new[2:].split()[0] if problem else "video"
        assert answer.bundle_groups == [["0", "2"] if problem else ["0", "1", "2"]]
        assert [item.mid for item in peer.negotiation.transceivers] == (["0"] if problem else ["0", "1"])

    def test_a_section_without_rtcp_mux_is_rejected(self) -> None:
        offer = full_offer()
        head, tail = offer.split("m=video")
        peer = Negotiator()
        answer = peer.answer(head.replace("a=rtcp-mux\r\n", "") + "m=video" + tail)
        assert ports(SessionDescription.parse(answer)) == [
            ("audio", False), ("video", True), ("application", True),
        ]  # fmt: skip
        assert peer.negotiation.problems == {0: "a=rtcp-mux is missing"}
        assert SessionDescription.parse(answer).bundle_groups == [["1", "2"]]

    def test_a_section_without_a_common_codec_is_rejected(self) -> None:
        offer = full_offer()
        for name in ("opus", "G722", "PCMU", "PCMA"):
            offer = offer.replace(f" {name}/", " other/")
        peer = Negotiator()
        peer.answer(offer)
        assert peer.negotiation.problems == {0: "there is no common codec"}

    def test_a_second_section_for_data_is_rejected(self) -> None:
        offer = full_offer()
        second = offer[offer.index("m=application") :].replace("a=mid:2", "a=mid:3")
        peer = Negotiator()
        peer.answer(offer.replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3") + second)
        assert peer.negotiation.problems == {3: "there is a section for data channels already"}
        assert peer.negotiation.data_section is not None
        assert peer.negotiation.data_section.mid == "2"

    def test_an_offer_of_nothing_that_we_know_is_answered_by_nothing(self) -> None:
        peer = Negotiator()
        answer = peer.answer(full_offer().replace("UDP/", "QUIC/"))
        assert [media.port for media in SessionDescription.parse(answer).media] == [0, 0, 0]
        assert "BUNDLE" not in answer
        assert peer.negotiation.transports() == []
        assert peer.negotiation.signaling_state is SignalingState.STABLE

    def test_the_peer_rejects_one_of_ours(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        audio, video = ours.add("audio"), ours.add("video")
        ours.negotiation.want_data()
        answer = theirs.answer(ours.offer())
        changes = ours.negotiation.set_remote(
            "answer",
            answer.replace("m=video 9", "m=video 0").replace("m=application 9", "m=application 0"),
        )
        assert changes.stopped == [video]
        assert video.stopped
        assert changes.data_rejected
        assert ours.negotiation.data_section is None
        assert ours.negotiation.transceivers == [audio]
        assert ours.negotiation.transports()[0].mids == ("0",)
        assert not ours.negotiation.is_negotiation_needed()

    def test_sections_without_a_mid_get_one(self) -> None:
        offer = full_offer().replace("a=mid:0\r\n", "").replace("BUNDLE 0 1 2", "BUNDLE 1 2")
        peer = Negotiator()
        peer.answer(offer)
        mids = [item.mid for item in peer.negotiation.transceivers]
        assert mids == ["0", "1"]
        assert [plan.mids for plan in peer.negotiation.transports()] == [("1", "2"), ("0",)]


class TestReuse:
    def test_a_stopped_section_is_rejected_and_its_place_used_again(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        first, _ = ours.add("audio"), ours.add("audio")
        negotiate(ours, theirs)
        first.stop()
        assert ours.negotiation.is_negotiation_needed()
        changes = negotiate(ours, theirs)
        assert (changes.stopped, changes.ended) == ([first], ["0"])
        assert (first.stopped, first.mid, first.current_direction) == (True, None, "stopped")
        assert ports(ours.negotiation.current_local) == [("audio", False), ("audio", True)]
        theirs.add("video")
        negotiate(theirs, ours)
        for end in (ours, theirs):
            assert ports(end.negotiation.current_local) == [("video", True), ("audio", True)]
            assert [media.mid for media in end.negotiation.current_local.media] == ["2", "1"]
            assert not end.negotiation.is_negotiation_needed()

    def test_the_answerers_stop_waits_for_an_offer_of_its_own(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        theirs.negotiation.transceivers[0].stop()
        negotiate(ours, theirs)
        assert ports(theirs.negotiation.current_local) == [("audio", True)]
        assert theirs.negotiation.transceivers[0].current_direction == "inactive"
        assert theirs.negotiation.is_negotiation_needed()
        negotiate(theirs, ours)
        assert theirs.negotiation.transceivers == ours.negotiation.transceivers == []

    def test_data_takes_the_place_of_video(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        ours.add("video").stop()
        video = ours.add("video")
        negotiate(ours, theirs)
        video.stop()
        negotiate(ours, theirs)
        theirs.negotiation.want_data()
        negotiate(theirs, ours)
        assert ports(ours.negotiation.current_local) == [("audio", True), ("application", True)]

    def test_a_place_is_not_used_again_before_the_peer_has_agreed(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        first, _ = ours.add("audio"), ours.add("audio")
        negotiate(ours, theirs)
        first.stop()
        ours.add("video")
        negotiate(ours, theirs)
        assert ports(ours.negotiation.current_local) == [
            ("audio", False), ("audio", True), ("video", True),
        ]  # fmt: skip

    def test_a_transceiver_stopped_before_any_offer_needs_none(self) -> None:
        ours = Negotiator("a")
        ours.add("audio").stop()
        assert not ours.negotiation.is_negotiation_needed()
        assert ours.negotiation.transceivers == []
        assert ours.negotiation.create_offer().media == []

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("m=audio", "m=video", "of kind audio, now video"),
            ("a=mid:0", "a=mid:5", "another a=mid"),
            ("a=mid:1", "a=mid:0x1", "another a=mid"),
        ],
    )
    def test_the_peer_may_not_shuffle_sections(self, old: str, new: str, message: str) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        ours.add("video")
        negotiate(ours, theirs)
        offer = ours.offer()
        before = theirs.snapshot
        with pytest.raises(DescriptionError, match=message):
            theirs.negotiation.set_remote("offer", offer.replace(old, new))
        assert theirs.snapshot == before


class TestRollback:
    def test_ours_takes_mids_and_data_back(self) -> None:
        ours = Negotiator("a")
        audio = ours.add("audio")
        ours.negotiation.want_data()
        before = ours.snapshot
        first = ours.offer()
        assert (audio.mid, audio.mline_index) == ("0", 0)
        audio.direction = "recvonly"
        ours.negotiation.set_local("rollback")
        assert (audio.mid, audio.mline_index, audio.direction) == (None, None, "recvonly")
        audio.direction = "sendrecv"
        assert ours.snapshot == before
        lines = ours.offer().splitlines()
        assert lines[2:] == first.splitlines()[2:], "the same but for the version"

    def test_theirs_takes_its_transceivers_away(self) -> None:
        ours = Negotiator("a")
        changes = ours.negotiation.set_remote("offer", full_offer())
        audio, video = changes.created
        assert changes.added == [audio, video]
        assert ours.add_track("video") is video
        undone = ours.negotiation.set_remote("rollback")
        assert undone.removed == [audio, video]
        assert (undone.stopped, undone.ended) == ([audio], ["0", "1"])
        assert ours.negotiation.transceivers == [video], "addTrack took it"
        assert (audio.stopped, video.mid, ours.negotiation.data_section) == (True, None, None)
        again = ours.negotiation.set_remote("offer", full_offer())
        assert len(again.created) == 1
        assert video.mid == "1"

    def test_an_offer_on_top_of_ours_rolls_ours_back(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        mine = ours.add("video")
        theirs.add("audio")
        ours.offer()
        ours.answer(theirs.offer())
        assert mine.mid is None
        assert [item.kind for item in ours.negotiation.transceivers] == ["video", "audio"]
        assert ours.negotiation.is_negotiation_needed()

    def test_a_bad_offer_on_top_of_ours_leaves_ours_alone(self) -> None:
        ours = Negotiator("a")
        ours.add("video")
        ours.offer()
        before = ours.snapshot
        with pytest.raises(DescriptionError):
            ours.negotiation.set_remote("offer", full_offer().replace("a=fingerprint", "a=no-fingerprint"))
        assert ours.snapshot == before

    def test_there_is_nothing_to_roll_back_when_stable(self) -> None:
        with pytest.raises(WrongStateError):
            Negotiator().negotiation.set_local("rollback")

    def test_a_second_offer_of_the_peers_replaces_the_first(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        theirs.add("audio")
        first = ours.negotiation.set_remote("offer", theirs.offer())
        (audio,) = first.created
        theirs.add("video")
        second = ours.negotiation.set_remote("offer", theirs.offer())
        assert [item.kind for item in second.created] == ["video"]
        assert second.added == second.created
        third = ours.negotiation.set_remote("offer", full_offer().split("m=video")[0])
        assert (third.stopped, third.ended) == (second.created, ["1"])
        assert ours.negotiation.transceivers == [audio]

    def test_an_exception_of_the_programs_changes_nothing(self) -> None:
        ours = Negotiator("a")

        def fail(kind: str) -> Transceiver:
            raise RuntimeError(kind)

        ours.negotiation._new_transceiver = fail
        before = ours.snapshot
        with pytest.raises(RuntimeError):
            ours.negotiation.set_remote("offer", full_offer())
        assert ours.snapshot == before
        ours.negotiation._new_transceiver = ours.make_transceiver
        ours.answer(full_offer())


class TestTransceivers:
    def test_the_peers_offer_takes_what_add_track_made(self) -> None:
        ours = Negotiator("a")
        by_transceiver, by_track = ours.add("audio"), ours.add_track("video")
        changes = ours.negotiation.set_remote("offer", full_offer())
        assert by_track.mid == "1"
        assert by_transceiver.mid is None
        assert [item.kind for item in changes.created] == ["audio"]
        assert changes.created[0].direction == "recvonly"
        ours.negotiation.set_local("answer")
        assert by_track.current_direction == "sendrecv"

    def test_an_offer_that_only_sends_takes_none(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        mine = ours.add_track("audio")
        theirs.add("audio", "sendonly")
        ours.answer(theirs.offer())
        assert mine.mid is None

    def test_tracks_come_go_and_come_back(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        track = theirs.add("audio")
        changes = ours.negotiation.set_remote("offer", theirs.offer())
        (mine,) = changes.added
        assert changes.streams == {mine: ("stream-b",)}
        assert mine.negotiated.remote_track_id == "track-b-1"
        assert mine.negotiated.remote_cname == "b"
        ours.negotiation.set_local("answer")
        theirs.negotiation.set_remote("answer", str(ours.negotiation.current_local))
        track.direction = "inactive"
        changes = ours.negotiation.set_remote("offer", theirs.offer())
        assert (changes.added, changes.removed) == ([], [mine])
        ours.negotiation.set_remote("rollback")
        theirs.negotiation.set_local("rollback")
        track.direction = "sendonly"
        assert track.sender_source is not None
        track.sender_source.stream_ids = ["another"]
        changes = ours.negotiation.set_remote("offer", theirs.offer())
        assert (changes.added, changes.removed) == ([], [])
        assert changes.streams == {mine: ("another",)}

    def test_new_streams_need_negotiation(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        track = ours.add("audio")
        negotiate(ours, theirs)
        assert not ours.negotiation.is_negotiation_needed()
        assert track.sender_source is not None
        track.sender_source.stream_ids = []
        assert ours.negotiation.is_negotiation_needed()
        negotiate(ours, theirs)
        assert "a=msid:- track-a-1" in str(ours.negotiation.current_local)
        assert not ours.negotiation.is_negotiation_needed()

    def test_bad_values_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no transceivers for media of kind 'text'"):
            Transceiver("text")
        transceiver = Transceiver("audio")
        with pytest.raises(ValueError, match="'both' is no direction"):
            transceiver.direction = "both"
        transceiver.stop()
        with pytest.raises(Exception, match="the transceiver is stopped"):
            transceiver.direction = "sendrecv"


class TestLocalDescriptions:
    def test_a_program_may_leave_codecs_out(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("video")
        offer = str(ours.negotiation.create_offer())
        changed = offer.replace("SAVPF 96 97 102", "SAVPF 102").replace("a=mid:0", "b=AS:500\r\na=mid:0")
        ours.negotiation.set_local("offer", changed)
        ours.negotiation.set_remote("answer", theirs.answer(changed))
        names = [codec.name for codec in ours.negotiation.transceivers[0].negotiated.send_codecs]
        assert names[:4] == ["H264", "rtx", "H264", "rtx"]
        assert "VP8" not in names

    def test_an_answer_may_be_narrowed_too(self) -> None:
        ours = Negotiator("a")
        ours.negotiation.set_remote("offer", full_offer())
        answer = str(ours.negotiation.create_answer())
        changed = answer.replace("SAVPF 111 63 9 0 8", "SAVPF 8").replace("a=recvonly", "a=inactive", 1)
        ours.negotiation.set_local("answer", changed)
        audio = ours.negotiation.transceivers[0]
        assert audio.current_direction == "inactive"
        assert [codec.payloadType for codec in audio.negotiated.receive_codecs] == [8]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("a=mid:0", "a=mid:7", "a=mid was changed"),
            ("m=audio", "m=video", "kind, protocol or a=mid was changed"),
            ("a=ice-ufrag:", "a=ice-ufrag:xx", "ICE credentials were changed"),
            ("sha-256 A0", "sha-256 A1", "fingerprints were changed"),
            ("BUNDLE 0 1", "BUNDLE 0", "BUNDLE groups were changed"),
            ("SAVPF 111", "SAVPF 77 111", "formats were added"),
            ("m=video 9", "m=video 0", "port was changed"),
            ("v=0", "v=1", "this is no SDP"),
        ],
    )
    def test_what_cannot_be_honoured_is_refused(self, old: str, new: str, message: str) -> None:
        ours = Negotiator("a")
        ours.add("audio")
        ours.add("video")
        offer = str(ours.negotiation.create_offer())
        before = ours.snapshot
        with pytest.raises(DescriptionError, match=message):
            ours.negotiation.set_local("offer", offer.replace(old, new))
        assert ours.snapshot == before
        ours.negotiation.set_local("offer", offer)

    def test_no_section_may_be_left_out(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        ours.add("video")
        offer = str(ours.negotiation.create_offer())
        with pytest.raises(DescriptionError, match="number of media sections was changed"):
            ours.negotiation.set_local("offer", offer.split("m=video")[0])
        negotiate(ours, theirs)
        offer = ours.offer()
        with pytest.raises(DescriptionError, match="there were 2 media sections, now 1"):
            theirs.negotiation.set_remote("offer", offer.split("m=video")[0])
        with pytest.raises(DescriptionError, match="the offer has 2 media sections, the answer 1"):
            ours.negotiation.set_remote("answer", theirs.answer(offer).split("m=video")[0])

    def test_only_what_was_created_last_can_be_set(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        old = str(ours.negotiation.create_offer())
        theirs.add("video")
        ours.answer(theirs.offer())
        with pytest.raises(DescriptionError, match="was not created last"):
            ours.negotiation.set_local("offer", old)

    def test_an_offer_may_be_made_again_before_its_answer(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        ours.offer()
        late = ours.add("video")
        negotiate(ours, theirs)
        assert late.mid == "1"
        assert not ours.negotiation.is_negotiation_needed()

    def test_after_close_nothing_is_negotiated(self) -> None:
        ours = Negotiator("a")
        audio = ours.add("audio")
        ours.negotiation.close()
        assert audio.stopped
        assert ours.negotiation.transports() == []
        assert not ours.negotiation.is_negotiation_needed()
        for operation in (
            ours.negotiation.create_offer,
            ours.negotiation.create_answer,
            ours.negotiation.want_data,
            ours.negotiation.want_ice_restart,
            lambda: ours.negotiation.set_remote("offer", ""),
            lambda: ours.negotiation.add_remote_candidate(""),
            lambda: ours.negotiation.add_transceiver(audio),
        ):
            with pytest.raises(WrongStateError, match="closed"):
                operation()
