"""Codecs, header extensions and simulcast in offers and answers."""

from dataclasses import replace

import pytest
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from mediapeer.peer.agreement import MAXIMUM_RIDS
from mediapeer.peer.codecs import (
    ABS_CAPTURE_TIME_URI,
    ABS_SEND_TIME_URI,
    DEFAULT_CODECS,
    MID_URI,
    TRANSPORT_CC_URI,
    VP9,
    CodecRegistry,
    SupportedCodec,
    h264_profile,
    identity,
)
from mediapeer.peer.signaling_state import DescriptionError
from mediapeer.peer.transceiver import Transceiver
from mediapeer.sdp import Codec, MediaDescription, SessionDescription
from tests.peer.negotiators import BROWSER_OFFERS, Negotiator, negotiate


def names(media: MediaDescription) -> list[str]:
    return [codec.name for codec in media.codecs]


def offer_with(codecs: list[Codec], kind: str = "video", extra: str = "") -> str:
    """An offer to send and receive these formats."""
    peer = Negotiator("o")
    peer.add(kind)
    description = SessionDescription.parse(peer.offer())
    media = description.media[0]
    media.remove("rtpmap", "fmtp", "rtcp-fb")
    media.formats = [str(codec.payload_type) for codec in codecs]
    for codec in codecs:
        media.add_codec(codec)
    return str(description) + extra


def h264(number: int, profile: str | None, mode: str | None = "1") -> Codec:
    parameters: dict[str, str | None] = {"level-asymmetry-allowed": "1"}
    if mode is not None:
        parameters["packetization-mode"] = mode
    if profile is not None:
        parameters["profile-level-id"] = profile
    return Codec(number, "H264", 90000, None, parameters, ("nack", "nack pli", "transport-cc"))


@pytest.mark.parametrize("name", BROWSER_OFFERS)
def test_browsers_offers_are_answered(name: str) -> None:
    peer = Negotiator()
    peer.add_track("audio")
    peer.add_track("video")
    offer = SessionDescription.parse(BROWSER_OFFERS[name])
    answer = SessionDescription.parse(peer.answer(BROWSER_OFFERS[name]))
    assert peer.negotiation.problems == {}
    assert [(media.kind, media.mid, media.protocol) for media in answer.media] == [
        (media.kind, media.mid, media.protocol) for media in offer.media
    ]
    assert answer.bundle_groups == offer.bundle_groups
    for theirs, ours in zip(offer.media, answer.media, strict=True):
        offered = {codec.payload_type: codec for codec in theirs.codecs}
        assert ours.formats == [number for number in theirs.formats if number in ours.formats]
        assert [int(number) for number in ours.formats if ours.is_rtp] == [
            codec.payload_type for codec in ours.codecs
        ]
        for codec in ours.codecs:
            assert identity(ours.kind, codec) == identity(ours.kind, offered[codec.payload_type])
            assert set(codec.feedback) <= set(offered[codec.payload_type].feedback)
        extensions = {extension.id: extension.uri for extension in theirs.header_extensions}
        assert {
            extension.id: extension.uri for extension in ours.header_extensions
        }.items() <= extensions.items()
        if theirs.kind in ("audio", "video"):
            assert MID_URI in [extension.uri for extension in ours.header_extensions]
            expected = "sendrecv" if offer.direction(theirs) == "sendrecv" else "recvonly"
            assert ours.direction == expected
    (plan,) = peer.negotiation.transports()
    assert plan.dtls_role == "client"
    assert plan.remote_candidates
    assert all(candidate.split()[4] for candidate in plan.remote_candidates)
    assert not [
        item for item in peer.negotiation.transceivers if item.mid is not None and not item.current_direction
    ]


def test_what_browsers_offer_is_received() -> None:
    peer = Negotiator()
    peer.answer(BROWSER_OFFERS["chromium-default"])
    audio, video = peer.negotiation.transceivers
    assert [codec.mimeType for codec in audio.negotiated.receive_codecs] == [
        "audio/opus", "audio/red", "audio/G722", "audio/PCMU", "audio/PCMA",
    ]  # fmt: skip
    assert audio.negotiated.receive_codecs[1].parameters == {"111/111": None}
    received = [codec.payloadType for codec in video.negotiated.receive_codecs]
    assert received == [
        96, 97, 102, 103, 104, 107, 108, 109, 114, 115, 116, 117, 39, 40, 45, 46, 98, 99, 100, 101,
    ]  # fmt: skip
    sent = [codec.payloadType for codec in video.negotiated.send_codecs]
    assert sent[:6] == [96, 97, 102, 103, 108, 109], "our encoder has no other profiles, and fragments"
    assert sent[6:] == [116, 117, 45, 46, 98, 99, 100, 101], "what only an encoded track can give comes last"
    assert [codec.name for codec in audio.negotiated.send_codecs] == ["opus", "G722", "PCMU", "PCMA"]
    rtx = video.negotiated.send_codecs[1]
    assert (rtx.name, rtx.parameters) == ("rtx", {"apt": 96})
    assert [(item.type, item.parameter) for item in video.negotiated.send_codecs[0].rtcpFeedback] == [
        ("goog-remb", None), ("transport-cc", None), ("ccm", "fir"), ("nack", None), ("nack", "pli"),
    ]  # fmt: skip
    assert video.negotiated.remote_ssrc_groups == (("FID", (1089793278, 2155348098)),)
    assert video.negotiated.remote_ssrcs == (1089793278, 2155348098)


class TestCodecs:
    @pytest.mark.parametrize("direction", ["sendrecv", "sendonly"])
    def test_what_is_recorded_as_it_comes_is_taken_in_every_section(self, direction: str) -> None:
        ours = Negotiator()
        ours.add_track("video")
        offer = BROWSER_OFFERS["chromium-default"].replace("a=sendrecv", f"a={direction}")
        answer = SessionDescription.parse(ours.answer(offer))
        assert answer.media[1].direction == {"sendrecv": "sendrecv", "sendonly": "recvonly"}[direction]
        accepted = [codec for codec in answer.media[1].codecs if codec.name in ("VP9", "AV1")]
        assert [(codec.payload_type, codec.parameters) for codec in accepted] == [
            (45, {"level-idx": "5", "profile": "0", "tier": "0"}),
            (98, {"profile-id": "0"}),
            (100, {"profile-id": "2"}),
        ]
        h265 = Codec(49, "H265", 90000, None, {"level-id": "93", "profile-id": "1", "tier-flag": "0"})
        assert names(SessionDescription.parse(Negotiator().answer(offer_with([h265]))).media[0]) == ["H265"]

    def test_offers_name_them_after_what_we_encode(self) -> None:
        ours = Negotiator("a")
        for direction in ("sendrecv", "sendonly", "recvonly"):
            ours.add("video", direction)
        sections = ours.negotiation.create_offer().media
        for media in sections:
            found = list(dict.fromkeys(name for name in names(media) if name != "rtx"))
            assert found == ["VP8", "H264", "VP9", "AV1", "H265"]
            numbers = [codec.payload_type for codec in media.codecs]
            assert len(set(numbers)) == len(numbers)
        modes = [
            {codec.parameter("packetization-mode") for codec in media.codecs if codec.name == "H264"}
            for media in sections
        ]
        assert modes == [{"0", "1"}, {"1"}, {"0", "1"}], "without fragments nothing is sent"

    @pytest.mark.parametrize(
        ("theirs", "taken"),
        [
            (h264(100, "42e01f"), True),
            (h264(100, "42C028"), True),
            (h264(100, "42001f", mode=None), True),
            (h264(100, "4d0032"), True),
            (h264(100, "640c34"), True),
            (h264(100, None), True),
            (h264(100, "f4001f"), True),
            (h264(100, "6e001f", mode=None), True),
            (h264(100, "42e01f", mode="2"), False),
            (h264(100, "nonsense"), False),
            (h264(100, "zz001f"), False),
        ],
    )
    def test_h264_is_matched_by_profile_and_mode(self, theirs: Codec, taken: bool) -> None:
        answer = SessionDescription.parse(Negotiator().answer(offer_with([theirs])))
        assert (answer.media[0].port != 0) is taken
        if taken:
            assert answer.media[0].codecs[0].parameters == theirs.parameters

    @pytest.mark.parametrize(
        ("text", "profile"),
        [
            ("42e01f", "constrained-baseline"),
            ("4d801f", "constrained-baseline"),
            ("58c01f", "constrained-baseline"),
            ("42001f", "baseline"),
            ("58801f", "baseline"),
            ("4d001f", "main"),
            ("64001f", "high"),
            ("640c1f", "constrained-high"),
            ("00001f", None),
            ("42e0", None),
            ("+2e01f", None),
        ],
    )
    def test_profiles_are_those_of_rfc_6184(self, text: str, profile: str | None) -> None:
        assert h264_profile(text) == profile

    def test_formats_that_differ_are_not_the_same_codec(self) -> None:
        def same(left: Codec, right: Codec, kind: str = "video") -> bool:
            return identity(kind, left) == identity(kind, right)

        assert same(Codec(1, "vp9", 90000), Codec(2, "VP9", 90000, None, {"profile-id": "0"}))
        assert not same(Codec(1, "VP9", 90000), Codec(2, "VP9", 90000, None, {"profile-id": "2"}))
        assert same(Codec(1, "AV1", 90000, None, {"level-idx": "9"}), Codec(2, "AV1", 90000))
        assert not same(Codec(1, "AV1", 90000, None, {"profile": "1"}), Codec(2, "AV1", 90000))
        assert not same(Codec(1, "H265", 90000, None, {"profile-id": "2"}), Codec(2, "H265", 90000))
        assert same(Codec(1, "G722", 8000, 1), Codec(2, "G722", 8000), "audio")
        assert not same(Codec(1, "opus", 48000, 1), Codec(2, "opus", 48000, 2), "audio")
        assert not same(Codec(1, "telephone-event", 8000), Codec(2, "telephone-event", 48000), "audio")
        assert not same(
            Codec(1, "red", 48000, 2, {"111/111": None}), Codec(2, "red", 48000, 2, {"96/96": None}), "audio"
        )

    def test_a_codec_we_can_only_receive_makes_us_only_receive(self) -> None:
        ours = Negotiator()
        ours.add_track("video")
        ours.answer(offer_with([h264(100, "640032", mode="0")]))
        (video,) = ours.negotiation.transceivers
        assert video.current_direction == "recvonly"
        assert video.negotiated.send_codecs == ()
        assert ours.negotiation.is_negotiation_needed(), "an offer of ours may find a codec"

    def test_payload_types_are_the_offerers_and_stay(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.answer(offer_with([Codec(77, "PCMU", 8000), Codec(120, "opus", 48000, 2)], "audio"))
        ours.add("audio")
        media = ours.negotiation.create_offer().media
        assert [(codec.payload_type, codec.name) for codec in media[0].codecs] == [
            (77, "PCMU"), (120, "opus"), (63, "red"), (9, "G722"), (8, "PCMA"),
        ]  # fmt: skip
        assert {codec.name: codec.payload_type for codec in media[1].codecs} == {
            "opus": 120, "red": 63, "G722": 9, "PCMU": 77, "PCMA": 8,
        }  # fmt: skip
        assert [section.codecs[index].parameters for section, index in zip(media, (2, 1), strict=True)] == [
            {"120/120": None}
        ] * 2
        assert theirs.negotiation.transceivers == []

    def test_a_number_that_the_peer_uses_is_not_given_to_something_else(self) -> None:
        ours = Negotiator("a")
        ours.answer(offer_with([Codec(96, "opus", 48000, 2), Codec(102, "CN", 8000)], "audio"))
        ours.add("video")
        media = ours.negotiation.create_offer().media
        numbers = [codec.payload_type for section in media for codec in section.codecs]
        assert len(set(numbers)) == len(numbers)
        assert not {96, 102} & {codec.payload_type for codec in media[1].codecs}
        assert not any(64 <= number < 96 for number in numbers)

    def test_an_answer_with_other_payload_types_is_understood(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("video")
        answer = theirs.answer(ours.offer())
        for old, new in (("96", "120"), ("97", "121")):
            for before, after in ((" {} ", " {} "), ("rtpmap:{} ", "rtpmap:{} "), ("apt={}\r", "apt={}\r")):
                answer = answer.replace(before.format(old), after.format(new))
            answer = answer.replace(f"fmtp:{old} ", f"fmtp:{new} ").replace(
                f"rtcp-fb:{old} ", f"rtcp-fb:{new} "
            )
        ours.negotiation.set_remote("answer", answer)
        negotiated = ours.negotiation.transceivers[0].negotiated
        assert [codec.payloadType for codec in negotiated.send_codecs][:2] == [120, 121]
        assert negotiated.send_codecs[1].parameters == {"apt": 120}
        assert [codec.payloadType for codec in negotiated.receive_codecs][:2] == [96, 97]

    def test_retransmissions_are_taken_with_their_codec_alone(self) -> None:
        formats = [
            Codec(98, "rtx", 90000, None, {"apt": "96"}),
            Codec(96, "VP8", 90000),
            Codec(99, "rtx", 90000, None, {"apt": "100"}),
            Codec(101, "rtx", 90000),
        ]
        answer = SessionDescription.parse(Negotiator().answer(offer_with(formats)))
        assert answer.media[0].formats == ["98", "96"]
        without = Negotiator(rtx=False)
        assert SessionDescription.parse(without.answer(offer_with(formats))).media[0].formats == ["96"]
        without.add("video")
        assert "rtx" not in str(without.negotiation.create_offer())

    def test_without_retransmissions_there_is_one_source(self) -> None:
        ours = Negotiator("a", rtx=False)
        ours.add("video")
        media = SessionDescription.parse(ours.offer()).media[0]
        assert len(media.ssrcs) == 1
        assert media.ssrc_groups == []

    def test_preferences_order_offers_and_answers(self) -> None:
        registry = CodecRegistry()
        capabilities = {codec.mimeType: codec for codec in registry.capabilities("video", "sendonly").codecs}
        wanted = [capabilities["video/H264"], capabilities["video/VP8"]]
        ours = Negotiator("a", codecs=registry)
        ours.add("video").set_codec_preferences(wanted)
        assert names(ours.negotiation.create_offer().media[0]) == ["H264", "VP8"]
        ours.negotiation.transceivers[0].set_codec_preferences([])
        assert names(ours.negotiation.create_offer().media[0])[:2] == ["VP8", "rtx"]
        track = ours.add_track("video")
        track.set_codec_preferences([*wanted, capabilities["video/rtx"]])
        answer = SessionDescription.parse(ours.answer(BROWSER_OFFERS["chromium-default"]))
        assert names(answer.media[1]) == ["H264", "rtx", "VP8", "rtx"]

    def test_preferences_that_leave_nothing_reject_the_section(self) -> None:
        ours = Negotiator("a")
        (pcma,) = [
            codec
            for codec in ours.negotiation.codecs.capabilities("audio", "sendonly").codecs
            if codec.name == "PCMA"
        ]
        ours.add_track("audio").set_codec_preferences([pcma])
        answer = SessionDescription.parse(ours.answer(offer_with([Codec(96, "opus", 48000, 2)], "audio")))
        assert answer.media[0].port == 0
        assert ours.negotiation.transceivers == []

    @pytest.mark.parametrize(
        "capabilities",
        [
            [RTCRtpCodecCapability("video/VP7", 90000)],
            [RTCRtpCodecCapability("audio/opus", 48000, 2)],
            [RTCRtpCodecCapability("video/VP8", 8000)],
            [RTCRtpCodecCapability("video/VP8", 90000, parameters={"x": "1"})],
            [RTCRtpCodecCapability("video/rtx", 90000)],
        ],
    )
    def test_preferences_are_checked(self, capabilities: list[RTCRtpCodecCapability]) -> None:
        transceiver = Transceiver("video")
        with pytest.raises(ValueError, match=r"not among|need one codec"):
            transceiver.set_codec_preferences(capabilities)
        assert transceiver.preferences is None

    def test_a_registry_has_only_known_codecs(self) -> None:
        for name in ("rtx", "VP7"):
            with pytest.raises(ValueError, match="there is no video codec"):
                CodecRegistry([SupportedCodec("video", name, 90000, 96)])
        with pytest.raises(ValueError, match="no capabilities for media of kind 'text'"):
            CodecRegistry().capabilities("text", "sendonly")

    def test_an_offer_needs_a_codec(self) -> None:
        ours = Negotiator("a", codecs=CodecRegistry([replace(VP9, sends=False)]))
        ours.add("video", "recvonly")
        assert names(ours.negotiation.create_offer().media[0]) == ["VP9", "rtx"]
        ours.add("video", "sendonly")
        with pytest.raises(DescriptionError, match="media section 1: there is no codec to offer"):
            ours.negotiation.create_offer()


class TestOrder:
    """What a program names, and nothing else of that kind, in that order."""

    @pytest.mark.parametrize(
        ("named", "video", "audio"),
        [
            (["VP9", "VP8", "opus"], ["VP9", "VP9", "VP8"], ["opus", "red"]),
            (["av1", "h264", "VP8"], ["AV1", *["H264"] * 6, "VP8"], ["opus", "red", "G722", "PCMU", "PCMA"]),
            (["red", "opus", "PCMU", "vp8"], ["VP8"], ["red", "opus", "PCMU"]),
            (["PCMA", "pcma", "G722", "VP8"], ["VP8"], ["PCMA", "G722"]),
        ],
    )
    def test_an_answer_is_in_our_order(self, named: list[str], video: list[str], audio: list[str]) -> None:
        ours = Negotiator("a", codecs=CodecRegistry.of(named))
        answer = SessionDescription.parse(ours.answer(BROWSER_OFFERS["chromium-default"]))
        assert names(answer.media[0]) == audio
        assert names(answer.media[1])[::2] == video
        assert set(names(answer.media[1])[1::2]) == {"rtx"}
        for primary, repair in zip(*[iter(answer.media[1].codecs)] * 2, strict=True):
            assert repair.parameter("apt") == str(primary.payload_type)

    def test_an_offer_is_in_our_order(self) -> None:
        ours = Negotiator("a", codecs=CodecRegistry.of(["VP9", "VP8", "opus"]))
        ours.add("audio")
        ours.add("video")
        audio, video = ours.negotiation.create_offer().media
        assert names(audio) == ["opus", "red"]
        assert names(video) == ["VP9", "rtx", "VP9", "rtx", "VP8", "rtx"]

    def test_what_a_transceiver_prefers_goes_before_it(self) -> None:
        registry = CodecRegistry.of(["VP9", "VP8"])
        ours = Negotiator("a", codecs=registry)
        vp8 = next(
            codec for codec in registry.capabilities("video", "recvonly").codecs if codec.name == "VP8"
        )
        ours.add_track("video").set_codec_preferences([vp8])
        answer = SessionDescription.parse(ours.answer(BROWSER_OFFERS["chromium-default"]))
        assert names(answer.media[1]) == ["VP8"]

    @pytest.mark.parametrize(
        ("named", "message"),
        [
            (["VP9", "VP7"], "no codec 'vp7'; those there are: opus, red, G722, PCMU, PCMA, VP8, H264, VP9"),
            ([], "no codec is named"),
            (["red", "PCMU"], "red carries opus"),
        ],
    )
    def test_names_are_checked(self, named: list[str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            CodecRegistry.of(named)


class TestRedundantAudio:
    def test_it_is_offered_and_taken_between_two_of_ours(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        negotiate(ours, theirs)
        for peer in (ours, theirs):
            negotiated = peer.negotiation.transceivers[0].negotiated
            codecs = {codec.name: codec for codec in negotiated.receive_codecs}
            assert (codecs["red"].payloadType, codecs["red"].parameters) == (63, {"111/111": None})
            assert "red" not in [codec.name for codec in negotiated.send_codecs]

    def test_an_answer_may_number_it_otherwise(self) -> None:
        ours, theirs = Negotiator("a"), Negotiator("b")
        ours.add("audio")
        answer = theirs.answer(ours.offer()).replace(" 111 63 ", " 96 97 ").replace(":111 ", ":96 ")
        answer = answer.replace(":63 111/111", ":97 96/96").replace(":63 ", ":97 ")
        ours.negotiation.set_remote("answer", answer)
        negotiated = ours.negotiation.transceivers[0].negotiated
        assert [codec.payloadType for codec in negotiated.receive_codecs][:2] == [111, 63]

    @pytest.mark.parametrize(
        ("blocks", "taken"),
        [
            ("111/111", True),
            ("111/111/111", True),
            ("111", True),
            (None, False),
            ("111/0", False),
            ("112/112", False),
            ("0/0", False),
            ("x/x", False),
            ("٣/٣", False),
            ("9" * 5000, False),
        ],
    )
    def test_it_is_taken_for_opus_alone(self, blocks: str | None, taken: bool) -> None:
        parameters: dict[str, str | None] = {} if blocks is None else {blocks: None}
        formats = [
            Codec(63, "red", 48000, 2, parameters), Codec(111, "opus", 48000, 2), Codec(0, "PCMU", 8000),
        ]  # fmt: skip
        answer = SessionDescription.parse(Negotiator().answer(offer_with(formats, "audio")))
        assert (names(answer.media[0])[0] == "red") is taken, "in the offer's order"
        if taken:
            assert answer.media[0].codecs[0].parameters == parameters

    def test_it_follows_what_is_preferred(self) -> None:
        registry = CodecRegistry()
        found = {codec.name: codec for codec in registry.capabilities("audio", "recvonly").codecs}
        assert "red" not in [codec.name for codec in registry.capabilities("audio", "sendonly").codecs]
        for wanted, expected in (
            (["red", "opus"], ["red", "opus"]),
            (["PCMU", "opus"], ["PCMU", "opus"]),
            (["red", "PCMU"], ["PCMU"]),
        ):
            ours = Negotiator("a", codecs=registry)
            ours.add_track("audio").set_codec_preferences([found[name] for name in wanted])
            assert names(ours.negotiation.create_offer().media[0]) == expected
            answer = SessionDescription.parse(ours.answer(BROWSER_OFFERS["chromium-default"]))
            assert names(answer.media[0]) == expected


class TestHeaderExtensions:
    def test_identifiers_stay_those_of_the_session(self) -> None:
        ours = Negotiator("a")
        ours.answer(BROWSER_OFFERS["chromium-default"])
        ours.add("audio")
        ours.add("video")
        for media in ours.negotiation.create_offer().media:
            numbers = {extension.uri: extension.id for extension in media.header_extensions}
            if media.is_rtp:
                assert numbers[MID_URI] == 4
                assert numbers[ABS_SEND_TIME_URI] == 2
                assert len(set(numbers.values())) == len(numbers)

    @pytest.mark.parametrize("expected", [True, False])
    def test_transport_wide_feedback_is_taken_unless_it_is_switched_off(self, expected: bool) -> None:
        peer = Negotiator(codecs=CodecRegistry(transport_cc=expected))
        answer = SessionDescription.parse(peer.answer(BROWSER_OFFERS["chromium-default"]))
        offerer = Negotiator("b", codecs=CodecRegistry(transport_cc=expected))
        offerer.add("audio")
        offerer.add("video")
        for description in (answer, offerer.negotiation.create_offer()):
            for media in description.media[:2]:
                assert (TRANSPORT_CC_URI in [item.uri for item in media.header_extensions]) is expected
                assert ("transport-cc" in media.codecs[0].feedback) is expected
            assert "goog-remb" in description.media[1].codecs[0].feedback

    def test_the_time_of_capture_is_taken_and_not_offered(self) -> None:
        line = f"a=extmap:12 {ABS_CAPTURE_TIME_URI}\r\na=extmap:4 "
        ours = Negotiator("a")
        ours.answer(BROWSER_OFFERS["chromium-default"].replace("a=extmap:4 ", line))
        for transceiver in ours.negotiation.transceivers:
            found = {item.uri: item.id for item in transceiver.negotiated.header_extensions}
            assert found[ABS_CAPTURE_TIME_URI] == 12
        theirs = Negotiator("b")
        theirs.add("video", "recvonly")
        offered = [item.uri for item in theirs.negotiation.create_offer().media[0].header_extensions]
        assert ABS_CAPTURE_TIME_URI not in offered

    def test_directions_are_mirrored(self) -> None:
        answer = SessionDescription.parse(Negotiator().answer(BROWSER_OFFERS["firefox-simulcast"]))
        directions = {item.id: item.direction for item in answer.media[1].header_extensions}
        assert directions == {3: None, 4: None, 7: None, 9: "recvonly", 10: "recvonly"}

    def test_reduced_size_is_answered_when_it_is_offered(self) -> None:
        answer = SessionDescription.parse(Negotiator().answer(BROWSER_OFFERS["firefox-default"]))
        assert [media.rtcp_rsize for media in answer.media] == [False, True, False]


class TestSimulcast:
    @pytest.mark.parametrize("browser", ["chromium", "firefox"])
    def test_all_streams_are_received_in_their_order(self, browser: str) -> None:
        ours = Negotiator()
        answer = SessionDescription.parse(ours.answer(BROWSER_OFFERS[f"{browser}-simulcast"]))
        media = answer.media[1]
        assert [(rid.id, rid.direction) for rid in media.rids] == [
            ("q", "recv"),
            ("h", "recv"),
            ("f", "recv"),
        ]
        assert media.first("simulcast") == "recv q;h;f"
        assert ours.negotiation.transceivers[1].negotiated.rids == ("q", "h", "f")

    def test_our_offers_keep_them(self) -> None:
        ours = Negotiator()
        ours.answer(BROWSER_OFFERS["chromium-simulcast"])
        offer = ours.offer()
        assert "a=simulcast:recv q;h;f" in offer
        answer = BROWSER_OFFERS["chromium-simulcast"].replace("setup:actpass", "setup:passive")
        answer = answer.replace("a=sendrecv", "a=sendonly")
        ours.negotiation.set_remote("answer", answer.replace("a=simulcast:send q;h;f", "a=simulcast:send f"))
        assert ours.negotiation.transceivers[1].negotiated.rids == ("f",)

    @pytest.mark.parametrize(
        ("offered", "rids", "taken"),
        [
            ("send 1,2;3", ["1", "2", "3"], ("1", "3")),
            ("send 1;~2", ["1", "2"], ("1", "2")),
            ("send 1;2", ["1 send pt=200", "2 send pt=96"], ("2",)),
            ("send 1;2;9", ["1", "2"], ("1", "2")),
            ("send 1;1", ["1"], ("1",)),
            ("recv 1", ["1 recv"], ()),
            (
                "send " + ";".join(map(str, range(20))),
                [str(number) for number in range(20)],
                tuple("01234567"),
            ),
        ],
    )
    def test_streams_are_chosen(self, offered: str, rids: list[str], taken: tuple[str, ...]) -> None:
        lines = "".join(f"a=rid:{rid if ' ' in rid else rid + ' send'}\r\n" for rid in rids)
        base = BROWSER_OFFERS["chromium-simulcast"]
        start = base.index("a=rid:q")
        ours = Negotiator()
        ours.answer(f"{base[:start]}{lines}a=simulcast:{offered}\r\n")
        assert ours.negotiation.transceivers[1].negotiated.rids == taken
        assert len(taken) <= MAXIMUM_RIDS

    def test_without_the_extension_there_is_no_simulcast(self) -> None:
        offer = BROWSER_OFFERS["chromium-simulcast"].replace("sdes:rtp-stream-id", "sdes:other")
        ours = Negotiator()
        assert "simulcast" not in ours.answer(offer)
        assert ours.negotiation.transceivers[1].negotiated.rids == ()


def test_two_of_ours_agree_on_everything() -> None:
    ours, theirs = Negotiator("a"), Negotiator("b")
    ours.add("video", "recvonly")
    negotiate(ours, theirs)
    received = [codec.payloadType for codec in ours.negotiation.transceivers[0].negotiated.receive_codecs]
    offered = [codec for codec in DEFAULT_CODECS if codec.kind == "video" and codec.offered]
    assert len(received) == 2 * len(offered)
