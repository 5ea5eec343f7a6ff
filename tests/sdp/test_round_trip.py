"""What is read is written again as it came; what is built can be read."""

import pathlib

import pytest

from mediapeer.sdp import (
    Attribute,
    Codec,
    HeaderExtension,
    MediaDescription,
    Rid,
    RidRef,
    SdpError,
    SessionDescription,
    Simulcast,
)
from tests.sdp.support import VECTORS, vector

SHA_256 = ":".join(f"{n:02X}" for n in range(32))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_each_description_comes_out_byte_for_byte(path: pathlib.Path) -> None:
    """Those of browsers and of aiortc were recorded, the others are written after what these endpoints say."""
    text = path.read_bytes().decode()
    assert SessionDescription.parse(text).serialize() == text


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_line_feeds_alone_and_empty_lines_at_the_end_make_no_difference(path: pathlib.Path) -> None:
    text = path.read_bytes().decode()
    assert str(SessionDescription.parse(text.replace("\r\n", "\n"))) == text
    assert str(SessionDescription.parse(text.rstrip() + "\n\r\n\n")) == text
    assert str(SessionDescription.parse(text.rstrip())) == text


def test_a_copy_is_equal_and_its_own() -> None:
    original = vector("broadcast")
    copy = original.copy()
    assert copy == original
    copy.origin.session_version += 1
    copy.add("new")
    copy.lines[0].value = "other"
    copy.media[0].formats.append("3")
    copy.media[0].add("new")
    copy.media[0].set_line("i", "other")
    assert original == vector("broadcast")


def test_attributes_are_added_replaced_and_removed_in_place() -> None:
    media = MediaDescription("audio", 9, "UDP/TLS/RTP/SAVPF", ["0"])
    for name, value in (
        ("mid", "0"),
        ("setup", "actpass"),
        ("candidate", "x"),
        ("candidate", "y"),
        ("flag", None),
    ):
        media.add(name, value)
    media.set("setup", "active")
    media.set("sctp-port", 5000)
    media.set("candidate", "z")
    assert [str(attribute) for attribute in media.attributes] == [
        "mid:0",
        "setup:active",
        "candidate:z",
        "flag",
        "sctp-port:5000",
    ]
    assert media.has("flag")
    assert media.first("flag") is None
    assert media.all("flag") == []
    media.remove("candidate", "flag")
    assert [attribute.name for attribute in media.attributes] == ["mid", "setup", "sctp-port"]


def test_other_lines_stand_before_the_attributes_unless_they_came_later() -> None:
    description = vector("broadcast")
    audio = description.media[0]
    audio.set_line("c", "IN IP4 192.0.2.9")
    audio.set_line("b", "AS:32")
    lines = list(audio.written_lines())
    assert lines == [
        "m=audio 49170/2 RTP/AVP 0 18",
        "i=the sound",
        "b=AS:32",
        "c=IN IP4 192.0.2.9",
        "a=ptime:20",
        "x=unknown lines stay",
        "a=fmtp:18 annexb=no",
    ]


def built() -> SessionDescription:
    description = SessionDescription.new(4, 2)
    vp8 = Codec(96, "VP8", 90000, feedback=("nack", "nack pli"))
    rtx = Codec(97, "rtx", 90000, parameters={"apt": "96"})
    video = MediaDescription.for_rtp(
        "video",
        "v",
        direction="recvonly",
        codecs=[vp8, rtx],
        header_extensions=[
            HeaderExtension(1, "urn:x"),
            HeaderExtension(2, "urn:y", "sendonly", "more of it"),
        ],
        msids=[("stream", "track"), ("-", None)],
        rids=[Rid("hi", "recv", {"pt": "96", "max-width": "1280"}), Rid("lo", "recv")],
        simulcast=Simulcast(recv=[[RidRef("hi")], [RidRef("lo", paused=True)]]),
        bundle_only=True,
        port=0,
    )
    video.add_source(1, "me", "stream track")
    video.add_source(2, "me")
    video.add_source_group("FID", [1, 2])
    data = MediaDescription.for_data("d", max_message_size=1000)
    for media in (video, data):
        media.add_transport("abcd", "0123456789abcdefghijkl", [("sha-256", SHA_256)], "actpass")
    description.media += [data, video]
    description.set_bundle_groups([["d", "v"]])
    return description


def test_what_is_built_says_what_was_asked_for() -> None:
    assert str(built()).split("\r\n") == [
        *("v=0", "o=- 4 2 IN IP4 127.0.0.1", "s=-", "t=0 0"),
        *("a=group:BUNDLE d v", "a=extmap-allow-mixed", "a=msid-semantic:WMS *"),
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        *("c=IN IP4 0.0.0.0", "a=mid:d", "a=sctp-port:5000", "a=max-message-size:1000"),
        *("a=ice-ufrag:abcd", "a=ice-pwd:0123456789abcdefghijkl", "a=ice-options:trickle"),
        *(f"a=fingerprint:sha-256 {SHA_256}", "a=setup:actpass"),
        "m=video 0 UDP/TLS/RTP/SAVPF 96 97",
        *("c=IN IP4 0.0.0.0", "a=mid:v", "a=bundle-only", "a=recvonly", "a=msid:stream track", "a=msid:-"),
        *("a=rtcp-mux", "a=rtcp-rsize", "a=extmap:1 urn:x", "a=extmap:2/sendonly urn:y more of it"),
        *("a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli"),
        *("a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"),
        *("a=rid:hi recv pt=96;max-width=1280", "a=rid:lo recv", "a=simulcast:recv hi;~lo"),
        *("a=ssrc:1 cname:me", "a=ssrc:1 msid:stream track", "a=ssrc:2 cname:me", "a=ssrc-group:FID 1 2"),
        *("a=ice-ufrag:abcd", "a=ice-pwd:0123456789abcdefghijkl", "a=ice-options:trickle"),
        *(f"a=fingerprint:sha-256 {SHA_256}", "a=setup:actpass", ""),
    ]
    assert SessionDescription.parse(str(built())) == built()


def test_a_section_is_refused_by_one_of_its_kind() -> None:
    offered = vector("chromium-default").media[1]
    refusal = MediaDescription.rejecting(offered)
    assert refusal.is_rejected
    assert refusal.mid == "1"
    assert list(refusal.written_lines()) == [
        f"m=video 0 UDP/TLS/RTP/SAVPF {' '.join(offered.formats)}",
        *("c=IN IP4 0.0.0.0", "a=mid:1", "a=inactive"),
    ]


def test_the_bundle_groups_are_replaced_and_other_groups_are_not() -> None:
    description = vector("libdatachannel")
    description.set_bundle_groups([["0", "1"], ["2"]])
    assert description.groups == [("BUNDLE", ["0", "1"]), ("BUNDLE", ["2"]), ("LS", ["0"])]
    description.set_bundle_groups([])
    assert description.groups == [("LS", ["0"])]


@pytest.mark.parametrize(
    "end", ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_no_value_becomes_a_second_line(end: str) -> None:
    injected = f"x{end}a=setup:active"
    with pytest.raises(SdpError, match="characters"):
        Attribute("mid", injected)
    with pytest.raises(SdpError, match="characters"):
        Attribute(injected.replace(":", " "))
    media = MediaDescription("audio", 9, "UDP/TLS/RTP/SAVPF", ["0"])
    for change in (media.add, media.set):
        with pytest.raises(SdpError, match="a=cname has characters"):
            change("cname", injected)
        with pytest.raises(SdpError, match="characters"):
            change("a:b", "value")
    assert media.attributes == []
    for spoil in (
        lambda description: setattr(description, "name", injected),
        lambda description: setattr(description.origin, "username", injected),
        lambda description: setattr(description.origin, "address", "two words"),
        lambda description: setattr(description.media[0], "kind", injected),
        lambda description: setattr(description.media[0], "protocol", "two words"),
        lambda description: setattr(description.media[0], "port", 65_536),
        lambda description: description.media[0].formats.append(injected),
        lambda description: description.media[0].formats.append(""),
        lambda description: description.media[0].formats.clear(),
        lambda description: description.media[0].set_line("c", injected),
        lambda description: description.set_line("i", injected),
        lambda description: description.set_line("xx", "no type"),
    ):
        description = built()
        spoil(description)
        with pytest.raises(SdpError) as caught:
            description.serialize()
        assert caught.value.line is None
