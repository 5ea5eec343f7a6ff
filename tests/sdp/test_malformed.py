"""Whatever the text, it is read, or refused with the line and the reason."""

import contextlib
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mediapeer.sdp import MediaDescription, SdpError, SdpLimits, SessionDescription
from tests.sdp.support import VECTORS, vector_text
from tests.sdp.test_values import read_everything

AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 96"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
SESSION = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
DIGEST = ":".join(["00"] * 32)
TEXTS = [path.read_bytes().decode() for path in VECTORS]


def refusal(text: str, limits: SdpLimits | None = None) -> SdpError:
    with pytest.raises(SdpError) as caught:
        SessionDescription.parse(text, limits or SdpLimits())
    return caught.value


@pytest.mark.parametrize(
    ("section", "value", "reason"),
    [
        (AUDIO, "mid", "a=mid is malformed (RFC 5888 §4)"),
        (AUDIO, "mid:", "a=mid is malformed (RFC 5888 §4)"),
        (AUDIO, "mid:a b", "a=mid is malformed (RFC 5888 §4)"),
        (AUDIO, f"mid:{'x' * 257}", "a=mid is malformed (RFC 5888 §4)"),
        (AUDIO, "setup:both", "a=setup is malformed (RFC 4145 §4)"),
        (AUDIO, "ice-ufrag:abc", "a=ice-ufrag is malformed (RFC 8839 §5.4)"),
        (AUDIO, "ice-ufrag:ab:cd", "a=ice-ufrag is malformed (RFC 8839 §5.4)"),
        (AUDIO, f"ice-pwd:{'x' * 21}", "a=ice-pwd is malformed (RFC 8839 §5.4)"),
        (AUDIO, f"ice-pwd:{'x' * 257}", "a=ice-pwd is malformed (RFC 8839 §5.4)"),
        (AUDIO, "fingerprint:sha-256", "a=fingerprint is malformed (RFC 8122 §5)"),
        (AUDIO, "fingerprint:sha-256 0:1", "a=fingerprint is malformed (RFC 8122 §5)"),
        (AUDIO, f"fingerprint:sha-1 {DIGEST}", "a=fingerprint has not the length of sha-1 (RFC 8122 §5)"),
        (AUDIO, "candidate:1 1 udp", "a=candidate is malformed (RFC 8839 §5.1)"),
        (AUDIO, "candidate:1 1 udp 1 127.0.0.1 65536 typ host", "a=candidate is malformed (RFC 8839 §5.1)"),
        (
            AUDIO,
            "candidate:1 1 udp 4294967296 127.0.0.1 1 typ host",
            "a=candidate is malformed (RFC 8839 §5.1)",
        ),
        (AUDIO, "rtcp:x IN IP4 0.0.0.0", "a=rtcp is malformed (RFC 3605 §2.1)"),
        (AUDIO, "rtcp:65536", "a=rtcp is malformed (RFC 3605 §2.1)"),
        (AUDIO, "rtpmap:96", "a=rtpmap is malformed (RFC 8866 §6.6)"),
        (AUDIO, "rtpmap:96 opus", "a=rtpmap is malformed (RFC 8866 §6.6)"),
        (AUDIO, "rtpmap:96 opus/0", "a=rtpmap is malformed (RFC 8866 §6.6)"),
        (AUDIO, "rtpmap:96 opus/48000/0", "a=rtpmap is malformed (RFC 8866 §6.6)"),
        (AUDIO, "rtpmap:96 opus/48000/256", "a=rtpmap is malformed (RFC 8866 §6.6)"),
        (AUDIO, "rtpmap:96 opus/1234567890", "a=rtpmap is malformed (RFC 8866 §6.6)"),
        (AUDIO, "rtpmap:128 opus/48000", "a=rtpmap has a payload type that is none (RFC 3550 §5.1)"),
        (AUDIO, "rtpmap:٣ opus/48000", "a=rtpmap has a payload type that is none (RFC 3550 §5.1)"),
        (AUDIO, "fmtp:x y", "a=fmtp has a payload type that is none (RFC 3550 §5.1)"),
        (AUDIO, "fmtp:96 apt", "a=fmtp is malformed: apt is no payload type (RFC 4588 §8.6)"),
        (AUDIO, "fmtp:96 a=b; apt=128", "a=fmtp is malformed: apt is no payload type (RFC 4588 §8.6)"),
        (AUDIO, "rtcp-fb:96", "a=rtcp-fb is malformed (RFC 4585 §4.2)"),
        (AUDIO, "rtcp-fb:x nack", "a=rtcp-fb has a payload type that is none (RFC 3550 §5.1)"),
        (AUDIO, "extmap:1", "a=extmap is malformed (RFC 8285 §8)"),
        (AUDIO, "extmap:1/both urn:x", "a=extmap is malformed (RFC 8285 §8)"),
        (AUDIO, "extmap:0 urn:x", "a=extmap is malformed: the identifier is none (RFC 8285 §5)"),
        (AUDIO, "extmap:256 urn:x", "a=extmap is malformed: the identifier is none (RFC 8285 §5)"),
        (AUDIO, "extmap:4352 urn:x", "a=extmap is malformed: the identifier is none (RFC 8285 §5)"),
        (AUDIO, "msid:", "a=msid is malformed (RFC 8830 §2)"),
        (AUDIO, "msid:a b c", "a=msid is malformed (RFC 8830 §2)"),
        (AUDIO, "ssrc:1", "a=ssrc is malformed (RFC 5576 §4.1)"),
        (AUDIO, "ssrc:4294967296 cname:x", "a=ssrc is malformed (RFC 5576 §4.1)"),
        (AUDIO, "ssrc-group", "a=ssrc-group is malformed (RFC 5576 §4.2)"),
        (AUDIO, "ssrc-group:FID x", "a=ssrc-group is malformed (RFC 5576 §4.2)"),
        (AUDIO, "ssrc-group:FID 4294967296", "a=ssrc-group is malformed (RFC 5576 §4.2)"),
        (AUDIO, "simulcast:send", "a=simulcast is malformed (RFC 8853 §5.1)"),
        (AUDIO, "simulcast:send a;;b", "a=simulcast is malformed (RFC 8853 §5.1)"),
        (AUDIO, "simulcast:send a send b", "a=simulcast is malformed (RFC 8853 §5.1)"),
        (AUDIO, "simulcast:send a recv", "a=simulcast is malformed (RFC 8853 §5.1)"),
        (AUDIO, "simulcast:send a recv b send c", "a=simulcast is malformed (RFC 8853 §5.1)"),
        (AUDIO, "simulcast:both a", "a=simulcast is malformed (RFC 8853 §5.1)"),
        (DATA, "sctp-port:65536", "a=sctp-port is no number from 0 to 65535"),
        (DATA, "sctp-port", "a=sctp-port is no number from 0 to 65535"),
        (DATA, "max-message-size:-1", "a=max-message-size is no number from 0 to 9223372036854775807"),
        (
            DATA,
            "max-message-size:" + "1" * 5000,
            "a=max-message-size is no number from 0 to 9223372036854775807",
        ),
    ],
)
def test_a_malformed_attribute_is_named_with_its_line(section: str, value: str, reason: str) -> None:
    text = "\n".join([*SESSION, section, "a=x", f"a={value}", "a=y"])
    error = refusal(text)
    assert (error.line, error.reason) == (7, reason)
    assert str(error) == f"line 7: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("group:", "a=group is malformed (RFC 5888 §5)"),
        ("setup:x", "a=setup is malformed (RFC 4145 §4)"),
        ("ice-pwd:x", "a=ice-pwd is malformed (RFC 8839 §5.4)"),
        ("extmap:0 x", "a=extmap is malformed: the identifier is none (RFC 8285 §5)"),
        ("fingerprint:x", "a=fingerprint is malformed (RFC 8122 §5)"),
    ],
)
def test_a_malformed_attribute_of_the_session_is_named_too(line: str, reason: str) -> None:
    error = refusal("\n".join([*SESSION, f"a={line}", AUDIO]))
    assert (error.line, error.reason) == (5, reason)


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        (["", *SESSION], 1, "this is no SDP: the first line must be v=0 (RFC 8866 §5.1)"),
        (SESSION[1:], 1, "this is no SDP: the first line must be v=0 (RFC 8866 §5.1)"),
        (["v=1", *SESSION[1:]], 1, "this is no SDP: the first line must be v=0 (RFC 8866 §5.1)"),
        ([AUDIO, *SESSION], 1, "this is no SDP: the first line must be v=0 (RFC 8866 §5.1)"),
        (["v=0"], 2, "the line must be o= (RFC 8866 §5)"),
        (["v=0", "o=- 1 1 IN IP4 x"], 3, "the line must be s= (RFC 8866 §5)"),
        (["v=0", *SESSION[2:]], 2, "the line must be o= (RFC 8866 §5)"),
        (["v=0", "o=- 1 1 IN IP4", "s=-"], 2, "the o= line is malformed (RFC 8866 §5.2)"),
        (
            ["v=0", "o=- 1 x IN IP4 y", "s=-"],
            2,
            "the o= line is malformed: session and version are numbers (RFC 8866 §5.2)",
        ),
        ([*SESSION, "c=IN"], 5, "the c= line is malformed (RFC 8866 §5.7)"),
        ([*SESSION, AUDIO, "c=IN IP5 x"], 6, "the c= line is malformed (RFC 8866 §5.7)"),
        ([*SESSION, AUDIO, "b=AS"], 6, "the b= line is malformed (RFC 8866 §5.8)"),
        ([*SESSION, AUDIO, "b=AS:x"], 6, "the b= line is malformed (RFC 8866 §5.8)"),
        ([*SESSION, "m=audio 9 RTP/AVP"], 5, "the m= line is malformed (RFC 8866 §5.14)"),
        ([*SESSION, "m="], 5, "the m= line is malformed (RFC 8866 §5.14)"),
        (
            [*SESSION, "m=audio 65536 RTP/AVP 0"],
            5,
            "the m= line is malformed: the port is no port (RFC 8866 §5.14)",
        ),
        (
            [*SESSION, "m=audio 9/0 RTP/AVP 0"],
            5,
            "the m= line is malformed: the port is no port (RFC 8866 §5.14)",
        ),
        (
            [*SESSION, "m=audio 9 RTP/AVP 128"],
            5,
            "the m= line has a payload type that is none (RFC 3550 §5.1)",
        ),
        ([*SESSION, "Not SDP"], 5, "the line is not of the form x=value (RFC 8866 §5)"),
        ([*SESSION, "X=y"], 5, "the line is not of the form x=value (RFC 8866 §5)"),
        ([*SESSION, "é=y"], 5, "the line is not of the form x=value (RFC 8866 §5)"),
        ([*SESSION, "", AUDIO], 5, "the line is not of the form x=value (RFC 8866 §5)"),
        ([*SESSION, AUDIO, "a=x\x85y"], 6, "the line is not of the form x=value (RFC 8866 §5)"),
        ([*SESSION, AUDIO, "a=x\ry"], 6, "the line is not of the form x=value (RFC 8866 §5)"),
        (
            [*SESSION, AUDIO, "a=sendonly", "a=recvonly"],
            7,
            "there is more than one direction (RFC 8866 §6.7)",
        ),
        ([*SESSION, "a=sendonly", "a=sendonly"], 6, "there is more than one direction (RFC 8866 §6.7)"),
        ([*SESSION, AUDIO, "a=mid:0", "a=mid:0"], 7, "a=mid stands there twice"),
        ([*SESSION, "a=ice-ufrag:abcd", "a=ice-ufrag:abcd"], 6, "a=ice-ufrag stands there twice"),
        ([*SESSION, DATA, "a=sctp-port:1", "a=sctp-port:x"], 7, "a=sctp-port stands there twice"),
        (
            [*SESSION, AUDIO, "a=mid:0", DATA, "a=x", "a=mid:0"],
            9,
            "two media sections have the same a=mid (RFC 5888 §4)",
        ),
        (
            [*SESSION, AUDIO, "a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP9/90000"],
            7,
            "a=rtpmap gives 96 two meanings",
        ),
        ([*SESSION, AUDIO, "a=extmap:3 urn:x", "a=extmap:3 urn:y"], 7, "a=extmap gives 3 two meanings"),
    ],
)
def test_a_line_that_is_wrong_or_in_the_wrong_place(lines: list[str], line: int, reason: str) -> None:
    for end in ("\n", "\r\n"):
        error = refusal(end.join(lines) + end)
        assert (error.line, error.reason) == (line, reason)


@pytest.mark.parametrize("text", ["", "\n", "\r\n\r\n", "v", "v=", "v=0", "=", "\x00", "m=" * 10])
def test_what_is_no_description_at_all(text: str) -> None:
    assert refusal(text).line in (1, 2)


def test_a_reason_never_quotes_a_password() -> None:
    for secret in ("short-secret", "secret" * 100):
        assert "secret" not in str(refusal("\n".join([*SESSION, AUDIO, f"a=ice-pwd:{secret}"])))


def test_there_is_a_limit_to_everything() -> None:
    text = "\n".join(SESSION) + "\n"
    limits = SdpLimits(lines=20, line_length=100, sections=2, candidates=3)
    candidate = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\n"
    SessionDescription.parse(text + "a=x\n" * 16, limits)
    assert "more than 20 lines" in str(refusal(text + "a=x\n" * 17, limits))
    SessionDescription.parse(text + "a=" + "x" * 98, limits)
    error = refusal(text + "a=" + "x" * 99, limits)
    assert (error.line, error.reason) == (5, "the line is longer than 100 characters")
    SessionDescription.parse(text + (AUDIO + "\n") * 2, limits)
    error = refusal(text + (AUDIO + "\n") * 3, limits)
    assert (error.line, error.reason) == (7, "the description has more than 2 media sections")
    SessionDescription.parse(text + AUDIO + "\n" + candidate * 3, limits)
    error = refusal(text + AUDIO + "\n" + candidate * 2 + AUDIO + "\n" + candidate * 2, limits)
    assert (error.line, error.reason) == (None, "the description has more than 3 candidates")
    assert SdpLimits() == SdpLimits(
        length=1 << 20, lines=12_000, line_length=8192, sections=64, candidates=256
    )


def test_an_attribute_that_was_spoilt_later_raises_the_same_error() -> None:
    media = MediaDescription.for_rtp("audio", "0")
    media.set("mid", "a b")
    with pytest.raises(SdpError, match="a=mid is malformed"):
        assert media.mid


def read_or_refuse(text: str) -> None:
    """Fail unless it is read and comes out the same for ever, or is refused with words."""
    try:
        parsed = SessionDescription.parse(text)
    except SdpError as refused:
        error = refused
    else:
        assert is_the_same_for_ever(parsed)
        return
    assert error.reason
    assert error.line is None or 0 < error.line <= text.count("\n") + 2


def is_the_same_for_ever(parsed: SessionDescription) -> bool:
    """Whether what is written of it, and read and written again, is the same."""
    read_everything(parsed)
    assert parsed.copy() == parsed
    written = parsed.serialize()
    again = SessionDescription.parse(written)
    assert again == parsed
    return again.serialize() == written


@given(st.text())
@settings(deadline=None)
@example("v=0\no=- 1 1 IN IP4 x\ns=\n")
@example("v=0\no=- 01 1 IN IP4 x\ns= \na=\na=:x\n")
@example("v=0\no=\u3000- 1 1 IN IP4 x\ns=\nm=a\u30009 b c\n")
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refuse(text)


ATTRIBUTES = st.sampled_from(sorted({line for text in TEXTS for line in text.splitlines() if line[0] != "m"}))
LINES = st.one_of(
    ATTRIBUTES,
    st.sampled_from([AUDIO, DATA, "m=text 0 RTP/AVP 98", "m=image 9 udptl t38", "i=x", "x=y"]),
    st.builds("a={}:{}".format, st.text(max_size=12), st.text(max_size=30)),
    st.builds("{}={}".format, st.sampled_from("abciktuz"), st.text(max_size=30)),
)


@given(st.lists(LINES, max_size=25))
@settings(deadline=None)
def test_any_lines_are_read_or_refused(lines: list[str]) -> None:
    read_or_refuse("\n".join([*SESSION, *lines]))


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=200, deadline=None)
def test_a_description_that_was_damaged_is_read_or_refused(text: str, data: st.DataObject) -> None:
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(lines) - 1))
        at = data.draw(st.integers(0, len(lines[index])))
        action = data.draw(st.sampled_from(["drop", "double", "cut", "insert", "overwrite", "swap"]))
        if action == "drop" and len(lines) > 1:
            del lines[index]
        elif action == "double":
            lines.insert(index, lines[index])
        elif action == "cut":
            lines[index] = lines[index][:at]
        elif action == "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[index], lines[other] = lines[other], lines[index]
        else:
            skipped = 1 if action == "overwrite" else 0
            lines[index] = lines[index][:at] + data.draw(st.text(max_size=8)) + lines[index][at + skipped :]
    read_or_refuse("\r\n".join(lines))


def test_no_text_takes_more_time_than_its_length_warrants(capsys: pytest.CaptureFixture[str]) -> None:
    """100 kB of what would be dear to a regular expression that tries again, or to a loop within a loop."""
    head = "\n".join(SESSION) + "\n"
    long_line = 8100
    hostile = {
        "spaces": f"{AUDIO}\n" + f"a=extmap:1 {' ' * long_line}x\n" * 12,
        "digest": f"{AUDIO}\n" + f"a=fingerprint:sha-9 {'00:' * (long_line // 3)}0\n" * 12,
        "candidate": f"{AUDIO}\n" + f"a=candidate:1 1 udp 1 h 9 typ host{' x' * (long_line // 2)}\n" * 12,
        "sources": f"{AUDIO}\n" + "".join(f"a=ssrc:{n} cname:{n}\n" for n in range(1490)),
        "rtpmap": f"{AUDIO}\n" + f"a=rtpmap:96 {'/' * long_line}\n" * 12,
        "formats": f"m=audio 9 RTP/AVP{' 96' * 2700}\n" + "a=rtcp-fb:* nack\n" * 1490,
        "parameters": f"{AUDIO}\n" + f"a=fmtp:96 {'x;' * (long_line // 2)}\n" * 12,
        "rids": f"{AUDIO}\n" + "".join(f"a=rid:{n} send pt={'1,' * 30}\n" for n in range(1480)),
        "simulcast": f"{AUDIO}\na=simulcast:send {'a;' * (long_line // 2)}a\n",
        "groups": f"a=group:BUNDLE{' 0' * (long_line // 2)}\n" * 12 + f"{AUDIO}\na=mid:0\n",
        "others": f"{AUDIO}\n" + "x=y\na=z\n" * 740,
        "sections": (f"{AUDIO}\n" + "a=rtcp-mux\n" * 20) * 64,
        "no line": "a=" + "x" * 100_000,
        "no end": "\n" * 100_000 + "x",
        "controls": "a=\x00\n" * 25_000,
    }
    seconds = {}
    for name, text in hostile.items():
        started = time.perf_counter()
        with contextlib.suppress(SdpError):
            SessionDescription.parse(head + text)
        seconds[name] = time.perf_counter() - started
        read_or_refuse(head + text)
    with capsys.disabled():
        worst = max(seconds, key=lambda name: seconds[name])
        print(f" [{1000 * seconds[worst]:.0f} ms at most, for {worst}]", end="")
    assert max(seconds.values()) < 2


def test_the_vectors_are_there() -> None:
    assert len(VECTORS) >= 16
    assert vector_text("chromium-default").startswith("v=0\r\n")
