"""What attributes mean, with the examples of the RFCs and what browsers say."""

import pytest

from mediapeer.sdp import Codec, HeaderExtension, Rid, RidRef, SessionDescription, Simulcast
from tests.sdp.support import VECTORS, description, vector

RTP = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"


def test_the_session_part_of_rfc_8866() -> None:
    """The example of RFC 8866 §5, with every line that the RFC knows."""
    parsed = vector("broadcast")
    assert parsed.origin.username == "jdoe"
    assert (parsed.origin.session_id, parsed.origin.session_version) == (3724394400, 3724394405)
    assert parsed.origin.address == "198.51.100.1"
    assert parsed.name == "Call to John Smith"
    assert parsed.line("i") == "SDP Offer #1"
    assert parsed.line("t") == "3724394400 3724398000"
    assert parsed.line("k") == "prompt"
    assert parsed.line("y") is None
    assert parsed.first("tool") == "made by hand"


def test_media_lines_of_every_kind() -> None:
    audio, text, message, image, video = vector("broadcast").media
    assert (audio.kind, audio.port, audio.port_count, audio.protocol) == ("audio", 49170, 2, "RTP/AVP")
    assert audio.formats == ["0", "18"]
    assert audio.bandwidths == [("AS", 64), ("TIAS", 50780)]
    assert audio.connection is None
    assert (text.kind, text.is_rtp, [codec.name for codec in text.codecs]) == ("text", True, ["t140", "red"])
    assert (message.protocol, message.formats, message.codecs) == ("TCP/MSRP", ["*"], [])
    assert (image.protocol, image.formats, image.is_data) == ("udptl", ["t38"], False)
    assert video.connection == "IN IP6 2001:db8::2"


def test_what_the_session_says_holds_for_sections_that_say_nothing() -> None:
    """RFC 8866 §6.7, RFC 8839 §5.4, RFC 8122 §5, RFC 4145 §4."""
    parsed = description(
        *("m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0"),
        *(
            "m=audio 9 UDP/TLS/RTP/SAVPF 0",
            "a=mid:1",
            "a=sendonly",
            "a=setup:active",
            "a=ice-options:renomination",
        ),
        *(
            "a=ice-ufrag:9uB6",
            "a=ice-pwd:YH75Fviy6338Vbrhrlp8Yh",
            f"a=fingerprint:SHA-1 {':'.join(['ab'] * 20)}",
        ),
        "a=extmap:5 urn:own",
        session=(
            *(
                "a=ice-lite",
                "a=recvonly",
                "a=setup:passive",
                "a=ice-options:trickle ice2",
                "a=extmap-allow-mixed",
            ),
            *("a=ice-ufrag:8hhY", "a=ice-pwd:asd88fgpdd777uzjYhagZg", "a=extmap:4 urn:session"),
            *(f"a=fingerprint:md5 {':'.join(['01'] * 16)}", f"a=fingerprint:sha-9 {':'.join(['01'] * 3)}"),
            "a=end-of-candidates",
        ),
    )
    quiet, own = parsed.media
    assert parsed.ice_lite
    assert parsed.direction(quiet) == "recvonly"
    assert parsed.setup(quiet) == "passive"
    assert parsed.ice_parameters(quiet) == ("8hhY", "asd88fgpdd777uzjYhagZg")
    assert parsed.ice_options(quiet) == ["trickle", "ice2"]
    assert parsed.fingerprints(quiet) == [("md5", ":".join(["01"] * 16)), ("sha-9", "01:01:01")]
    assert parsed.header_extensions(quiet) == [HeaderExtension(4, "urn:session")]
    assert parsed.direction(own) == "sendonly"
    assert parsed.setup(own) == "active"
    assert parsed.ice_parameters(own) == ("9uB6", "YH75Fviy6338Vbrhrlp8Yh")
    assert parsed.ice_options(own) == ["renomination", "trickle", "ice2"]
    assert parsed.fingerprints(own) == [("sha-1", ":".join(["AB"] * 20))]
    assert parsed.header_extensions(own) == [HeaderExtension(5, "urn:own")]
    for media in (quiet, own):
        assert parsed.extmap_allow_mixed(media)
        assert parsed.end_of_candidates(media)


def test_what_nobody_says_has_its_default() -> None:
    parsed = description("m=application 9 UDP/DTLS/SCTP webrtc-datachannel")
    (media,) = parsed.media
    assert media.mid is None
    assert media.direction == parsed.direction(media) == "sendrecv"
    assert parsed.ice_parameters(media) is None
    assert parsed.setup(media) is None
    assert parsed.fingerprints(media) == []
    assert parsed.ice_options(media) == []
    assert not parsed.ice_lite
    assert not parsed.end_of_candidates(media)
    assert not parsed.extmap_allow_mixed(media)
    assert media.sctp_port is None
    assert media.max_message_size is None
    assert parsed.bundle_groups == []
    assert parsed.section("0") is None


def test_half_of_the_ice_parameters_may_stand_in_the_session() -> None:
    parsed = description(RTP, "a=ice-pwd:asd88fgpdd777uzjYhagZg", session=("a=ice-ufrag:8hhY",))
    assert parsed.ice_parameters(parsed.media[0]) == ("8hhY", "asd88fgpdd777uzjYhagZg")
    parsed = description(RTP, session=("a=ice-ufrag:8hhY",))
    assert parsed.ice_parameters(parsed.media[0]) is None


def test_codecs_with_their_parameters_and_feedback() -> None:
    """RFC 8866 §6.6 and §6.15, RFC 4585 §4.2, RFC 4588 §8.6."""
    (media,) = description(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 109 111 77",
        *(
            "a=rtcp-fb:* nack  pli",
            "a=rtcp-fb:111 transport-cc",
            "a=rtcp-fb:5 nack",
            "a=rtcp-fb:111 nack pli",
        ),
        *("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10; useinbandfec=1;stereo ;a=b=="),
        *("a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111", "a=rtpmap:9 G722/8000/1", "a=rtpmap:13 CN/8000"),
        *("a=rtpmap:110 telephone-event/48000", "a=fmtp:110 0-15", "a=rtpmap:109 L16/44100"),
        *("a=fmtp:111 minptime=20;maxptime=60", "a=rtpmap:111 opus/48000/2", "a=rtpmap:99 VP8/90000"),
    ).media
    opus, red, g722, pcmu, pcma, comfort_noise, events, linear = media.codecs
    assert opus == Codec(
        111,
        "opus",
        48000,
        2,
        {"minptime": "10", "useinbandfec": "1", "stereo": None, "a": "b==", "maxptime": "60"},
        ("nack pli", "transport-cc"),
    )
    assert opus.fmtp == "minptime=10; useinbandfec=1;stereo ;a=b==;minptime=20;maxptime=60"
    assert opus.parameter("UseInbandFEC") == "1"
    assert opus.parameter("stereo") is None
    assert opus.parameter("cbr") is None
    assert (red.name, red.parameters) == ("red", {"111/111": None})
    assert (g722.clock_rate, g722.channels) == (8000, 1)
    assert pcmu == Codec(0, "PCMU", 8000, feedback=("nack pli",))
    assert pcma == Codec(8, "PCMA", 8000, feedback=("nack pli",))
    assert comfort_noise.name == "CN"
    assert events.parameters == {"0-15": None}
    assert linear.channels is None
    assert linear.fmtp is None


def test_the_codecs_that_chromium_offers() -> None:
    codecs = {codec.payload_type: codec for codec in vector("chromium-default").media[1].codecs}
    assert [codec.name for codec in codecs.values()].count("H264") == 6
    assert codecs[97].parameters == {"apt": "96"}
    assert codecs[96].feedback == ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
    assert codecs[102].parameters == {
        "level-asymmetry-allowed": "1",
        "packetization-mode": "1",
        "profile-level-id": "42001f",
    }


def test_feedback_with_a_space_at_its_end() -> None:
    """As pion writes it."""
    assert vector("pion").media[0].codecs[0].feedback == ("goog-remb", "ccm fir", "nack", "nack pli")


def test_header_extensions() -> None:
    """RFC 8285 §5, §7 and §8."""
    (media,) = description(
        RTP,
        "a=extmap:1 URI-toffset",
        "a=extmap:2/recvonly http://example.com/082005/ext.htm#xmeta short  one",
        "a=extmap:255/inactive urn:last",
        "a=extmap:1 URI-toffset",
        "a=extmap:4096 urn:to-choose-from",
        "a=extmap-allow-mixed",
    ).media
    assert media.header_extensions == [
        HeaderExtension(1, "URI-toffset"),
        HeaderExtension(2, "http://example.com/082005/ext.htm#xmeta", "recvonly", "short  one"),
        HeaderExtension(255, "urn:last", "inactive"),
    ]
    assert media.extmap_allow_mixed


def test_streams_and_tracks() -> None:
    """RFC 8830 §2; RFC 9429 §5.2.1 lets the track's identifier out, and has - for no stream."""
    (media,) = description(RTP, "a=msid:one t", "a=msid:two t", "a=msid:one t", "a=msid:-").media
    assert media.msids == [("one", "t"), ("two", "t"), ("-", None)]
    assert media.stream_ids == ["one", "two"]
    assert media.track_id == "t"
    (media,) = description(RTP, "a=msid:-").media
    assert media.stream_ids == []
    assert media.track_id is None


def test_streams_of_endpoints_that_give_them_with_their_sources() -> None:
    (video, audio, _) = vector("gstreamer").media
    assert video.msids == [("user3344942761@host-c94f6db", "webrtctransceiver0")]
    assert audio.track_id == "webrtctransceiver1"


def test_sources_and_their_groups() -> None:
    """RFC 5576 §4."""
    (media,) = description(
        RTP,
        *(
            "a=ssrc:2 cname:user@example.com",
            "a=ssrc:4294967295 cname:other",
            "a=ssrc:2 fmtp:96 x:y",
            "a=ssrc:2 alone",
        ),
        *("a=ssrc-group:FID 2 4294967295", "a=ssrc-group:SIM 2"),
    ).media
    assert media.ssrcs == [2, 4294967295]
    assert media.sources[2] == {"cname": "user@example.com", "fmtp": "96 x:y", "alone": None}
    assert media.ssrc_attribute(2, "cname") == "user@example.com"
    assert media.ssrc_attribute(2, "fmtp") == "96 x:y"
    assert media.ssrc_attribute(2, "alone") is None
    assert media.ssrc_attribute(3, "cname") is None
    assert media.ssrc_groups == [("FID", [2, 4294967295]), ("SIM", [2])]


def test_rids_and_their_restrictions() -> None:
    """RFC 8851 §4 and §10; §6 has malformed lines and doubled identifiers ignored."""
    (media,) = description(
        RTP,
        *(
            "a=rid:1 send pt=97,98;max-width=1280;max-height=720;lonely",
            "a=rid:two_2 recv",
            "a=rid:x-3 send pt=96",
        ),
        *("a=rid:twice send", "a=rid:twice recv", "a=rid:no direction", "a=rid", "a=rid:~ send"),
    ).media
    assert media.rids == [
        Rid("1", "send", {"pt": "97,98", "max-width": "1280", "max-height": "720", "lonely": None}),
        Rid("two_2", "recv"),
        Rid("x-3", "send", {"pt": "96"}),
    ]
    assert [rid.payload_types for rid in media.rids] == [[97, 98], [], [96]]


def test_simulcast_with_alternatives_and_paused_streams() -> None:
    """The example of RFC 8853 §5.1, and what has no a=rid of its direction (§5.3)."""
    rids = [f"a=rid:{number} send" for number in range(1, 6)] + [
        f"a=rid:{number} recv" for number in range(6, 9)
    ]
    (media,) = description(RTP, *rids, "a=simulcast:send 1,2,3;~4,~5 recv 6;~7,~8").media
    assert media.simulcast == Simulcast(
        send=[[RidRef("1"), RidRef("2"), RidRef("3")], [RidRef("4", True), RidRef("5", True)]],
        recv=[[RidRef("6")], [RidRef("7", True), RidRef("8", True)]],
    )
    assert str(media.simulcast) == "send 1,2,3;~4,~5 recv 6;~7,~8"
    (media,) = description(RTP, *rids, "a=simulcast:recv 1;6;unknown send 9;5,9").media
    assert media.simulcast == Simulcast(send=[[RidRef("5")]], recv=[[RidRef("6")]])
    (media,) = description(RTP, "a=simulcast:send 1;2").media
    assert media.simulcast is None
    (media,) = description(RTP).media
    assert media.simulcast is None


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_the_simulcast_that_browsers_offer(browser: str) -> None:
    video = vector(f"{browser}-simulcast").media[1]
    assert video.simulcast == Simulcast(send=[[RidRef("q")], [RidRef("h")], [RidRef("f")]])
    assert [rid.id for rid in video.rids] == ["q", "h", "f"]
    assert len(video.ssrcs) == (0 if browser == "chromium" else 6)


def test_data_channels() -> None:
    """RFC 8841 §4 to §6."""
    media = vector("firefox-default").media[2]
    assert media.is_data
    assert (media.sctp_port, media.max_message_size) == (5000, 1073741823)
    (media,) = description(DATA, "a=sctp-port:0", "a=max-message-size:9223372036854775807").media
    assert (media.sctp_port, media.max_message_size) == (0, (1 << 63) - 1)
    (old,) = description("m=application 9 DTLS/SCTP 5000", "a=sctpmap:5000 webrtc-datachannel 256").media
    assert not old.is_data
    (refused,) = description("m=application 0 UDP/DTLS/SCTP 0").media
    assert not refused.is_data


def test_rejected_and_bundle_only_sections() -> None:
    """RFC 8843 §6."""
    video, audio, data = vector("gstreamer").media
    assert not any(media.is_rejected for media in (video, audio, data))
    assert [media.bundle_only for media in (video, audio, data)] == [False, True, True]
    assert vector("janus-answer").media[2].is_rejected


def test_flags_and_candidates() -> None:
    parsed = vector("firefox-default")
    audio, video, _ = parsed.media
    assert parsed.bundle_groups == [["0", "1", "2"]]
    assert (audio.rtcp_mux, audio.rtcp_rsize, video.rtcp_rsize) == (True, False, True)
    assert audio.end_of_candidates
    assert len(audio.candidates) == 8
    assert audio.candidates[2] == "2 1 TCP 2105458943 127.0.0.1 9 typ host tcptype active"
    assert parsed.section("1") is video
    assert parsed.section("3") is None


def test_groups() -> None:
    """RFC 5888 §5, RFC 8843 §5."""
    parsed = vector("libdatachannel")
    assert parsed.groups == [("BUNDLE", ["0"]), ("LS", ["0"])]
    assert parsed.ice_options(parsed.media[0]) == ["ice2", "trickle"]


def test_what_is_peculiar_to_rtp_means_nothing_elsewhere() -> None:
    (media,) = description(
        DATA,
        "a=rtpmap:1 x",
        "a=ssrc:x",
        "a=simulcast:x",
        "a=rid:1 send",
        "a=msid:a b c",
        "a=extmap:x",
        "a=ssrc-group:",
    ).media
    assert media.codecs == []
    assert media.ssrcs == []
    assert media.ssrc_groups == []
    assert media.simulcast is None
    assert media.rids == []
    assert media.msids == []
    assert media.header_extensions == []
    (media,) = description(RTP, "a=sctp-port:x", "a=max-message-size:x").media
    assert media.sctp_port is None
    assert media.max_message_size is None


def read_everything(parsed: SessionDescription) -> None:
    """Use every property and method that reads."""
    names = [name for name in dir(parsed) if not name.startswith("_")]
    for name in names:
        if isinstance(getattr(type(parsed), name, None), property):
            getattr(parsed, name)
    for media in parsed.media:
        for name in dir(media):
            if isinstance(getattr(type(media), name, None), property):
                getattr(media, name)
        for method in (
            *(parsed.ice_options, parsed.ice_parameters, parsed.fingerprints, parsed.setup, parsed.direction),
            *(parsed.header_extensions, parsed.extmap_allow_mixed, parsed.end_of_candidates),
        ):
            method(media)
        media.ssrc_attribute(1, "cname")
        for rid in media.rids:
            assert rid.payload_types is not None


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_everything_can_be_read(path: object) -> None:
    read_everything(vector(getattr(path, "stem")))  # noqa: B009
