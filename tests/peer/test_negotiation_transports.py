"""BUNDLE, ICE and DTLS in descriptions: which sections share a transport, roles, restarts, candidates."""

import pytest

from mediapeer.peer.candidates import MAXIMUM_CANDIDATES
from mediapeer.peer.signaling_state import CandidateRefused, DescriptionError, SignalingState, WrongStateError
from mediapeer.sdp import SessionDescription
from tests.peer.negotiators import FINGERPRINT, Negotiator, negotiate

CANDIDATE = "1 1 udp 2130706431 192.0.2.1 4000 typ host"


def offer_of(*kinds: str, name: str = "b") -> tuple[Negotiator, str]:
    """A peer, and its offer with sections of these kinds."""
    peer = Negotiator(name)
    for kind in kinds:
        peer.add(kind)
    return peer, peer.offer()


class TestBundle:
    def test_all_that_we_offer_shares_one_transport(self) -> None:
        ours, offer = offer_of("audio", "video", "video")
        assert SessionDescription.parse(offer).bundle_groups == [["0", "1", "2"]]
        assert [plan.mids for plan in ours.negotiation.transports()] == [("0", "1", "2")]
        assert len(ours.transports) == 1

    def test_sections_outside_the_group_have_transports_of_their_own(self) -> None:
        _, offer = offer_of("audio", "video", "video")
        ours = Negotiator("a")
        answer = ours.answer(offer.replace("BUNDLE 0 1 2", "BUNDLE 0 2"))
        assert [(plan.key, plan.mids) for plan in ours.negotiation.transports()] == [
            ("0", ("0", "2")), ("1", ("1",)),
        ]  # fmt: skip
        assert SessionDescription.parse(answer).bundle_groups == [["0", "2"]]
        assert len({plan.key for plan in ours.negotiation.transports()}) == 2

    def test_max_bundle_rejects_them(self) -> None:
        _, offer = offer_of("audio", "video", "video")
        ours = Negotiator("a", bundle_policy="max-bundle")
        ours.answer(offer.replace("BUNDLE 0 1 2", "BUNDLE 0 2"))
        assert ours.negotiation.problems == {1: "it is not in the BUNDLE group"}
        assert [plan.mids for plan in ours.negotiation.transports()] == [("0", "2")]

    @pytest.mark.parametrize(
        ("policy", "transports"), [("balanced", 2), ("max-compat", 2), ("max-bundle", 1)]
    )
    def test_an_offer_without_groups(self, policy: str, transports: int) -> None:
        _, offer = offer_of("audio", "video")
        ours = Negotiator("a", bundle_policy=policy)
        answer = ours.answer(offer.replace("a=group:BUNDLE 0 1\r\n", ""))
        assert len(ours.negotiation.transports()) == transports
        assert "BUNDLE" not in answer

    def test_two_groups_are_two_transports(self) -> None:
        _, offer = offer_of("audio", "video", "video")
        ours = Negotiator("a")
        answer = ours.answer(offer.replace("BUNDLE 0 1 2", "BUNDLE 1 0\r\na=group:BUNDLE 2"))
        assert [plan.mids for plan in ours.negotiation.transports()] == [("1", "0"), ("2",)]
        assert SessionDescription.parse(answer).bundle_groups == [["1", "0"], ["2"]]

    def test_a_section_in_two_groups_makes_no_sense(self) -> None:
        _, offer = offer_of("audio", "video")
        with pytest.raises(DescriptionError, match="twice in BUNDLE groups"):
            Negotiator("a").answer(offer.replace("BUNDLE 0 1", "BUNDLE 0 1\r\na=group:BUNDLE 1"))

    def test_bundle_only_sections_need_no_transport_of_their_own(self) -> None:
        _, offer = offer_of("audio", "video")
        head, video = offer.split("m=video 9")
        bare = "".join(
            line
            for line in video.splitlines(keepends=True)
            if not line.startswith(("a=ice-", "a=fingerprint", "a=setup"))
        )
        ours = Negotiator("a")
        answer = ours.answer(f"{head}m=video 0{bare}a=bundle-only\r\n")
        assert [plan.mids for plan in ours.negotiation.transports()] == [("0", "1")]
        assert SessionDescription.parse(answer).media[1].port == 9
        with_none = head.replace("a=group:BUNDLE 0 1\r\n", "")
        alone = Negotiator("c")
        alone.answer(f"{with_none}m=video 0{bare}a=bundle-only\r\n")
        assert alone.negotiation.problems == {1: "it is bundle-only and in no group"}

    def test_an_answer_without_bundle_does_for_one_section(self) -> None:
        ours, offer = offer_of("audio")
        answer = Negotiator("b").answer(offer).replace("a=group:BUNDLE 0\r\n", "")
        ours.negotiation.set_remote("answer", answer)
        assert [plan.mids for plan in ours.negotiation.transports()] == [("0",)]

    @pytest.mark.parametrize(
        "group", ["", "a=group:BUNDLE 0\r\n", "a=group:BUNDLE 0\r\na=group:BUNDLE 1\r\n"]
    )
    def test_an_answer_that_takes_sections_apart_is_refused(self, group: str) -> None:
        ours, offer = offer_of("audio", "video")
        answer = Negotiator("b").answer(offer).replace("a=group:BUNDLE 0 1\r\n", group)
        with pytest.raises(DescriptionError, match="they have only one transport"):
            ours.negotiation.set_remote("answer", answer)
        assert ours.negotiation.signaling_state is SignalingState.HAVE_LOCAL_OFFER

    def test_the_transport_stays_when_its_first_section_goes(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        first = ours.add("audio")
        ours.add("video")
        negotiate(ours, theirs)
        first.stop()
        negotiate(ours, theirs)
        for end in (ours, theirs):
            (plan,) = end.negotiation.transports()
            assert (plan.key, plan.mids) == ("0", ("1",))
            assert SessionDescription.parse(str(end.negotiation.current_local)).bundle_groups == [["1"]]
        theirs.add("audio")
        negotiate(theirs, ours)
        assert [(plan.key, plan.mids) for plan in ours.negotiation.transports()] == [("0", ("1", "2"))]
        assert ours.negotiation.current_local.bundle_groups == [["1", "2"]]

    def test_when_all_sections_go_new_ones_get_a_new_transport(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        only = ours.add("audio")
        negotiate(ours, theirs)
        only.stop()
        ours.add("video")
        offer = ours.offer()
        assert [plan.key for plan in ours.negotiation.transports()] == ["0", "1"]
        ours.negotiation.set_remote("answer", theirs.answer(offer))
        for end in (ours, theirs):
            assert [(plan.key, plan.mids) for plan in end.negotiation.transports()] == [("1", ("1",))]

    def test_a_peer_may_keep_the_transport_whose_sections_all_go(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        theirs.add("audio").stop()
        theirs.add("audio")
        negotiate(theirs, ours)
        theirs.negotiation.transceivers[0].stop()
        theirs.add("video")
        second = theirs.transport_for("0")
        theirs.transports["1"] = second
        negotiate(theirs, ours)
        assert [(plan.key, plan.mids) for plan in ours.negotiation.transports()] == [("0", ("1",))]

    def test_a_section_that_leaves_the_group_gets_a_transport(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        theirs.add("audio")
        theirs.add("video")
        negotiate(theirs, ours)
        ours.negotiation.set_remote("offer", theirs.offer().replace("BUNDLE 0 1", "BUNDLE 0"))
        ours.negotiation.set_local("answer")
        assert [(plan.key, plan.mids) for plan in ours.negotiation.transports()] == [
            ("0", ("0",)), ("1", ("1",)),
        ]  # fmt: skip

    def test_the_transport_made_for_our_offer_serves_the_peers(self) -> None:
        ours, _ = offer_of("video", name="a")
        theirs = Negotiator("b")
        theirs.add("audio")
        text = theirs.offer().replace("a=mid:0", "a=mid:audio").replace("BUNDLE 0", "BUNDLE audio")
        ours.answer(text)
        (plan,) = ours.negotiation.transports()
        assert (plan.key, plan.mids, plan.controlling) == ("0", ("audio",), False)
        assert len(ours.transports) == 1


class TestDtls:
    @pytest.mark.parametrize(
        ("offered", "answered", "role"),
        [("actpass", "active", "client"), ("active", "passive", "server"), ("passive", "active", "client")],
    )
    def test_our_answer_takes_the_role_that_is_left(self, offered: str, answered: str, role: str) -> None:
        _, offer = offer_of("audio")
        ours = Negotiator("a")
        answer = ours.answer(offer.replace("setup:actpass", f"setup:{offered}"))
        assert f"a=setup:{answered}" in answer
        assert ours.negotiation.transports()[0].dtls_role == role

    @pytest.mark.parametrize(("answered", "role"), [("active", "server"), ("passive", "client")])
    def test_the_peers_answer_gives_us_ours(self, answered: str, role: str) -> None:
        ours, offer = offer_of("audio")
        assert ours.negotiation.transports()[0].dtls_role is None
        answer = Negotiator("b").answer(offer).replace("setup:active", f"setup:{answered}")
        ours.negotiation.set_remote("answer", answer)
        assert ours.negotiation.transports()[0].dtls_role == role

    @pytest.mark.parametrize("line", ["a=setup:actpass\r\n", "a=setup:holdconn\r\n", ""])
    def test_an_answer_without_a_role_is_refused(self, line: str) -> None:
        ours, offer = offer_of("audio")
        answer = Negotiator("b").answer(offer).replace("a=setup:active\r\n", line)
        with pytest.raises(DescriptionError, match="a=setup"):
            ours.negotiation.set_remote("answer", answer)

    def test_an_offer_to_hold_the_connection_is_refused(self) -> None:
        _, offer = offer_of("audio")
        with pytest.raises(DescriptionError, match="media section 0: a=setup:holdconn"):
            Negotiator("a").answer(offer.replace("actpass", "holdconn"))

    def test_roles_stay_whoever_offers_next(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        assert "a=setup:passive" in ours.answer(theirs.offer())
        assert [end.negotiation.transports()[0].dtls_role for end in (ours, theirs)] == ["server", "client"]

    def test_a_role_cannot_be_changed_by_a_new_offer(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        offer = ours.offer().replace("setup:actpass", "setup:active")
        with pytest.raises(DescriptionError, match="another a=setup"):
            theirs.negotiation.set_remote("offer", offer)

    def test_another_certificate_cannot_come_into_a_running_call(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        before = theirs.snapshot
        with pytest.raises(DescriptionError, match="another a=fingerprint"):
            theirs.negotiation.set_remote("offer", ours.offer().replace("sha-256 A0", "sha-256 A1"))
        assert theirs.snapshot == before

    def test_fingerprints_and_credentials_may_stand_in_the_session(self) -> None:
        _, offer = offer_of("audio", "video")
        lines = offer.splitlines()
        moved = [line for line in lines if line.startswith(("a=fingerprint", "a=ice-"))]
        rest = [line for line in lines if line not in moved]
        ours = Negotiator("a")
        ours.answer("\r\n".join([*rest[:4], *dict.fromkeys(moved), *rest[4:], ""]))
        (plan,) = ours.negotiation.transports()
        assert plan.remote_fingerprints == (("sha-256", FINGERPRINT),)
        assert plan.remote_ice is not None

    @pytest.mark.parametrize(
        ("name", "said"), [("fingerprint", "fingerprint"), ("ice-ufrag", "ice-"), ("ice-pwd", "ice-")]
    )
    def test_without_them_an_offer_and_an_answer_are_refused(self, name: str, said: str) -> None:
        ours, offer = offer_of("audio")
        other = Negotiator("a")
        with pytest.raises(DescriptionError, match=f"a={said}.* is missing"):
            other.answer(offer.replace(f"a={name}:", "a=x:"))
        answer = other.answer(offer)
        with pytest.raises(DescriptionError, match=f"a={said}.* is missing"):
            ours.negotiation.set_remote("answer", answer.replace(f"a={name}:", "a=x:"))


class TestIce:
    def test_the_one_who_began_controls(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        negotiate(theirs, ours)
        assert [end.negotiation.transports()[0].controlling for end in (ours, theirs)] == [True, False]

    def test_a_lite_peer_is_controlled(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b", lite=True)
        theirs.add("audio")
        negotiate(theirs, ours)
        (plan,) = ours.negotiation.transports()
        assert plan.controlling
        assert plan.remote_ice is not None
        assert plan.remote_ice.lite
        assert "a=ice-lite" in str(theirs.negotiation.current_local)
        assert "a=ice-lite" not in str(ours.negotiation.current_local)

    def test_a_peer_that_says_so_in_its_sections_is_lite_too(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b", lite=True)
        theirs.add("audio")
        offer = (
            theirs.offer().replace("a=ice-lite\r\n", "").replace("a=mid:0\r\n", "a=mid:0\r\na=ice-lite\r\n")
        )
        ours.answer(offer)
        (plan,) = ours.negotiation.transports()
        assert plan.controlling
        assert plan.remote_ice is not None
        assert plan.remote_ice.lite

    def test_our_restart(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        before = ours.negotiation.transports()[0].remote_ice
        ours.negotiation.want_ice_restart()
        assert ours.negotiation.is_negotiation_needed()
        answer = theirs.answer(ours.offer())
        assert ours.negotiation.transports()[0].remote_ice == before, "the old pair works until the answer"
        assert theirs.negotiation.transports()[0].ice_restart
        ours.negotiation.set_remote("answer", answer)
        (plan,) = ours.negotiation.transports()
        assert plan.ice_restart
        assert plan.remote_ice == theirs.transports["0"].ice_parameters != before
        assert (ours.transports["0"].restarts, theirs.transports["0"].restarts) == (1, 1)
        assert not ours.negotiation.is_negotiation_needed()
        negotiate(ours, theirs)
        assert not ours.negotiation.transports()[0].ice_restart
        assert ours.transports["0"].restarts == 1

    def test_a_restart_that_comes_to_nothing_is_undone(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        ours.negotiation.want_ice_restart()
        ours.offer()
        theirs.negotiation.set_remote("offer", str(ours.negotiation.pending_local))
        for end in (ours, theirs):
            assert end.transports["0"].generation == 1
            end.negotiation.set_remote("rollback")
            assert end.transports["0"].generation == 0
        assert ours.negotiation.is_negotiation_needed(), "it is still wanted"
        assert not theirs.negotiation.is_negotiation_needed()

    def test_an_offer_that_was_only_created_is_undone_by_the_next(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        ours.negotiation.create_offer(ice_restart=True)
        ours.negotiation.create_offer(ice_restart=True)
        assert ours.transports["0"].generation == 1
        negotiate(ours, theirs)
        assert ours.transports["0"].generation == 0
        assert not theirs.negotiation.transports()[0].ice_restart

    def test_a_peer_that_does_not_restart_goes_on_with_the_old_credentials(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        offer = str(ours.negotiation.create_offer(ice_restart=True))
        ours.negotiation.set_local("offer", offer)
        old = ours.negotiation.current_local.media[0].first("ice-ufrag")
        fragment = f"a=ice-ufrag:{ours.transports['0'].ice_parameters.username_fragment}"
        password = f"a=ice-pwd:{ours.transports['0'].ice_parameters.password}"
        old_password = ours.negotiation.current_local.media[0].first("ice-pwd")
        unheard = offer.replace(fragment, f"a=ice-ufrag:{old}").replace(password, f"a=ice-pwd:{old_password}")
        ours.negotiation.set_remote("answer", theirs.answer(unheard))
        assert ours.transports["0"].undone == 1
        assert not ours.negotiation.transports()[0].ice_restart

    def test_a_restart_before_anything_was_negotiated_is_nothing(self) -> None:
        ours = Negotiator("a")
        ours.negotiation.want_ice_restart()
        assert not ours.negotiation.is_negotiation_needed()


class TestCandidates:
    def test_ours_go_into_the_local_description(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        ours.add("video")
        ours.transport_for("0").candidates.append(CANDIDATE)
        offer = SessionDescription.parse(ours.offer())
        for media in offer.media:
            assert media.candidates == [CANDIDATE]
            assert (media.port, media.connection) == (4000, "IN IP4 192.0.2.1")
        ours.negotiation.add_local_candidate("0", CANDIDATE.replace("4000", "4001"))
        ours.negotiation.add_local_candidate("0", None)
        negotiation = ours.negotiation
        assert len(negotiation.local_description.media[1].candidates) == 2
        assert negotiation.local_description.media[1].end_of_candidates
        theirs.negotiation.set_remote("offer", str(negotiation.local_description))
        theirs.negotiation.set_local("answer")
        (plan,) = theirs.negotiation.transports()
        assert len(plan.remote_candidates) == 2
        assert plan.end_of_candidates

    def test_candidates_found_since_a_description_was_created_are_in_it_once_it_is_set(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        offer = str(ours.negotiation.create_offer())
        ours.transports["0"].candidates.append(CANDIDATE)
        ours.negotiation.set_local("offer", offer)
        assert ours.negotiation.local_description.media[0].candidates == [CANDIDATE]
        theirs.negotiation.set_remote("offer", offer)
        answer = str(theirs.negotiation.create_answer())
        theirs.transports["0"].candidates.append(CANDIDATE)
        theirs.negotiation.set_local("answer", answer)
        assert theirs.negotiation.local_description.media[0].candidates == [CANDIDATE]

    @pytest.mark.parametrize(
        ("candidate", "port", "connection"),
        [
            ("1 1 udp 1 name.local 4000 typ host", 9, "IN IP4 0.0.0.0"),
            ("1 1 tcp 1 192.0.2.1 9 typ host tcptype active", 9, "IN IP4 0.0.0.0"),
            ("1 1 udp 1 2001:db8::1 4000 typ host", 4000, "IN IP6 2001:db8::1"),
        ],
    )
    def test_the_default_candidate_is_an_address(self, candidate: str, port: int, connection: str) -> None:
        ours = Negotiator("a")
        ours.add("audio")
        ours.transport_for("0").candidates.append(candidate)
        media = SessionDescription.parse(ours.offer()).media[0]
        assert (media.port, media.connection) == (port, connection)

    def test_candidates_of_the_peers_wait_for_the_answer(self) -> None:
        _, offer = offer_of("audio")
        ours = Negotiator("a")
        with pytest.raises(WrongStateError, match="needs a remote description"):
            ours.negotiation.add_remote_candidate(CANDIDATE, "0")
        ours.negotiation.set_remote("offer", offer)
        assert ours.negotiation.add_remote_candidate(f"candidate:{CANDIDATE}", "0") is None
        ours.negotiation.set_local("answer")
        (plan,) = ours.negotiation.transports()
        assert plan.remote_candidates == (CANDIDATE,)
        assert not plan.end_of_candidates
        later = CANDIDATE.replace("4000", "4001")
        assert ours.negotiation.add_remote_candidate(later, None, 0) == "0"
        assert ours.negotiation.add_remote_candidate("", None, None) == "0"
        (plan,) = ours.negotiation.transports()
        assert plan.remote_candidates == (CANDIDATE, later)
        assert plan.end_of_candidates

    def test_in_a_first_offer_only_the_first_sections_candidates_are_for_the_transport(self) -> None:
        theirs, offer = offer_of("audio", "video")
        ours = Negotiator("a")
        ours.negotiation.set_remote("offer", offer)
        ours.negotiation.add_remote_candidate(CANDIDATE, "1")
        ours.negotiation.set_local("answer")
        assert ours.negotiation.transports()[0].remote_candidates == ()
        theirs.negotiation.set_remote("answer", str(ours.negotiation.current_local))
        assert theirs.negotiation.add_remote_candidate(CANDIDATE, "1") == "0", (
            "an answer knows what is shared"
        )

    @pytest.mark.parametrize(
        ("candidate", "mid", "index", "message"),
        [
            (CANDIDATE, "7", None, "no section of the candidate's mid"),
            (CANDIDATE, None, 7, "no section of the candidate's index"),
            (CANDIDATE, None, -1, "no section of the candidate's index"),
            (CANDIDATE, None, None, "needs the mid or the index"),
            ("nonsense", "0", None, "a candidate"),
            (CANDIDATE + "\r\na=evil", "0", None, "a candidate"),
            ("", "7", None, "no section"),
        ],
    )
    def test_what_fits_nowhere_is_refused(
        self, candidate: str, mid: str | None, index: int | None, message: str
    ) -> None:
        _, offer = offer_of("audio")
        ours = Negotiator("a")
        ours.answer(offer)
        before = ours.snapshot
        with pytest.raises(CandidateRefused, match=message):
            ours.negotiation.add_remote_candidate(candidate, mid, index)
        assert ours.snapshot == before

    def test_what_is_of_no_use_is_ignored(self) -> None:
        theirs, offer = offer_of("audio", "video")
        ours = Negotiator("a")
        ours.answer(offer.replace("m=video", "m=text"))
        negotiation = ours.negotiation
        assert negotiation.add_remote_candidate(CANDIDATE, "1") is None, "rejected"
        assert negotiation.add_remote_candidate(CANDIDATE, "0", ufrag="old1") is None
        assert negotiation.add_remote_candidate(f"{CANDIDATE} ufrag old1", "0") is None
        assert negotiation.add_remote_candidate(CANDIDATE.replace("1 1 ", "1 2 "), "0") is None, "for RTCP"
        assert negotiation.transports()[0].remote_candidates == ()
        fragment = theirs.transports["0"].ice_parameters.username_fragment
        assert negotiation.add_remote_candidate(CANDIDATE, "0", ufrag=fragment) == "0"

    def test_after_a_restart_old_candidates_are_not_taken_for_new_ones(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        theirs.add("audio")
        negotiate(theirs, ours)
        old = theirs.transports["0"].ice_parameters.username_fragment
        ours.negotiation.add_remote_candidate(CANDIDATE, "0")
        theirs.negotiation.want_ice_restart()
        ours.negotiation.set_remote("offer", theirs.offer())
        new = theirs.transports["0"].ice_parameters.username_fragment
        late = CANDIDATE.replace("4000", "4001")
        early = CANDIDATE.replace("4000", "4002")
        assert ours.negotiation.add_remote_candidate(late, "0", ufrag=old) == "0", "they still work"
        assert ours.negotiation.add_remote_candidate(early, "0", ufrag=new) is None, "not before the answer"
        assert ours.negotiation.transports()[0].remote_candidates == (CANDIDATE, late)
        ours.negotiation.set_local("answer")
        assert ours.negotiation.transports()[0].remote_candidates == (early,)
        assert ours.negotiation.add_remote_candidate(late, "0", ufrag=old) is None

    def test_a_peer_cannot_make_us_keep_any_number(self) -> None:
        _, offer = offer_of("audio")
        ours = Negotiator("a")
        ours.answer(offer)
        for number in range(MAXIMUM_CANDIDATES + 10):
            ours.negotiation.add_remote_candidate(CANDIDATE.replace("4000", str(4000 + number)), "0")
        assert len(ours.negotiation.transports()[0].remote_candidates) == MAXIMUM_CANDIDATES
