"""What is wrong with a description is found and said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.sdp import DescriptionError, check_description
from tests.signaling.support import AUDIO, DATA, DIGEST, OFFER, SESSION


def lines(sdp: str) -> list[str]:
    return sdp.splitlines()


def is_taken_or_refused(sdp: str) -> bool:
    """Whether it is completed, or refused with words; anything else is raised."""
    try:
        return bool(check_description(sdp))
    except DescriptionError as error:
        return bool(str(error))


def test_a_good_offer_passes_as_it_is() -> None:
    assert lines(check_description(OFFER)) == lines(OFFER)
    assert check_description(OFFER).endswith("\r\n")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("v=0\n", "", "first line must be v=0"),
        ("v=0\n", "hello\n", "first line must be v=0"),
        ("s=-\n", "not a line\n", "not of the form x=value"),
        ("s=-\n", "s=\x00\n", "not of the form x=value"),
        ("m=audio 9", "m=audio 99999", "the port is no port"),
        ("UDP/TLS/RTP/SAVPF 111 0", "", "m= line is malformed"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "must be SRTP keyed by DTLS"),
        ("SAVPF 111 0", "SAVPF 111 200", "payload type"),
        ("SAVPF 111 0", "SAVPF 111 x", "payload type"),
        ("a=rtcp-mux\n", "", "a=rtcp-mux is missing"),
        (f"a=fingerprint:sha-256 {DIGEST}\n", "", "a=fingerprint is missing"),
        (f"sha-256 {DIGEST}", "sha-1 " + DIGEST[:59], "supported hash"),
        (f"sha-256 {DIGEST}", "md5 " + DIGEST[:47], "supported hash"),
        (f"sha-256 {DIGEST}", "sha-256 " + DIGEST[:59], "length of sha-256"),
        (f"sha-256 {DIGEST}", "sha-256 nonsense", "a=fingerprint is malformed"),
        ("a=setup:actpass\n", "", "a=setup must be"),
        ("a=setup:actpass\n", "a=setup:holdconn\n", "a=setup must be"),
        ("a=ice-ufrag:Abcd\n", "", "a=ice-ufrag is missing"),
        ("a=ice-pwd:0123456789abcdefghijkl\n", "a=ice-pwd:short\n", "a=ice-pwd is malformed"),
        ("a=mid:0\n", "", "a=mid is missing"),
        ("a=mid:1\n", "a=mid:0\n", "the same a=mid"),
        ("a=mid:0\n", "a=mid:0\na=mid:1\n", "a=mid stands there twice"),
        ("a=ice-ufrag:Abcd\n", "a=ice-ufrag:Abcd\na=ice-ufrag:x\n", "a=ice-ufrag stands there twice"),
        ("a=sctp-port:5000\n", "a=sctp-port:5000\na=sctp-port:x\n", "a=sctp-port stands there twice"),
        ("a=rtcp-mux\n", "a=rtcp-mux\na=sendonly\na=inactive\n", "more than one direction"),
        ("s=-\n", "s=-\na=setup:nobody\n", "a=setup is malformed"),
        ("BUNDLE 0 1", "BUNDLE 0", "BUNDLE"),
        ("a=group:BUNDLE 0 1\n", "", "BUNDLE"),
        ("a=sctp-port:5000\n", "", "a=sctp-port"),
        ("a=sctp-port:5000\n", "a=sctp-port:70000\n", "a=sctp-port"),
        ("a=max-message-size:262144", "a=max-message-size:-1", "a=max-message-size"),
        ("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000", "RFC 8841"),
        ("a=extmap:4", "a=extmap:0", "a=extmap is malformed"),
        ("a=extmap:4", "a=extmap:256", "a=extmap is malformed"),
        ("a=ssrc:1234567", "a=ssrc:99999999999", "a=ssrc is malformed"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 opus/0", "a=rtpmap is malformed"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111", "a=rtpmap is malformed"),
        ("a=rtcp-mux\n", "a=rtcp-mux\na=rtcp-fb:111\n", "a=rtcp-fb is malformed"),
        ("a=rtcp-mux\n", "a=rtcp-mux\na=ssrc-group:FID x y\n", "a=ssrc-group is malformed"),
        ("a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp:x IN IP4", "a=rtcp is malformed"),
        ("a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp:9 IN IP4", "a=rtcp is malformed"),
        ("a=fmtp:111 minptime=10;", "a=fmtp:111 apt=foo;", "apt is no payload type"),
        ("c=IN IP4 0.0.0.0", "c=IN", "c= line is malformed"),
        ("s=-\n", "s=-\nc=IN\n", "c= line is malformed"),
        ("a=candidate:1 1 udp", "a=candidate:1 1", "a=candidate is malformed"),
        ("50000 typ host", "99999 typ host", "a=candidate is malformed"),
        ("typ host", "of host", "a=candidate is malformed"),
        ("a=rtpmap:0 PCMU/8000", "a=rtpmap:111 PCMU/8000", "a=rtpmap gives 111 two meanings"),
    ],
)
def test_a_spoilt_offer_is_refused_with_the_reason(old: str, new: str, reason: str) -> None:
    spoilt = OFFER.replace(old, new, 1) if "fingerprint" not in old else OFFER.replace(old, new)
    assert spoilt != OFFER
    with pytest.raises(DescriptionError, match=reason):
        check_description(spoilt)


def test_what_browsers_say_of_feedback_and_retransmission_passes() -> None:
    more = (
        "a=rtcp-fb:* nack pli\na=rtcp-fb:111 transport-cc\na=ssrc-group:FID 1 2\na=rtpmap:97 rtx/90000\n"
        "a=fmtp:97 apt=111;rtx-time=3000\na=rtcp-mux\n"
    )
    sdp = OFFER.replace("a=rtcp-mux\n", more).replace(
        "a=sctp-port", "a=sctpmap:5000 webrtc-datachannel 256\na=sctp-port"
    )
    assert lines(check_description(sdp)) == lines(sdp)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ("", "Line 1: this is no SDP"),
        ("\n", "Line 1: this is no SDP"),
        ("v=0", "Line 2: the line must be o="),
        (SESSION, "The description has no media sections"),
        (SESSION + AUDIO + DATA + DATA, "Line 38: two media sections have the same a=mid"),
    ],
)
def test_what_is_no_offer_at_all_is_refused(spoilt: str, reason: str) -> None:
    with pytest.raises(DescriptionError, match=reason):
        check_description(spoilt)


def test_there_is_a_limit_to_everything_that_costs_something() -> None:
    with pytest.raises(DescriptionError, match="lines"):
        check_description(OFFER + "a=x\n" * 2500)
    with pytest.raises(DescriptionError, match="candidates"):
        check_description(OFFER + "a=candidate:1 1 udp 1 127.0.0.1 50000 typ host\n" * 300)
    with pytest.raises(DescriptionError, match="more than 16 media sections"):
        check_description(SESSION + AUDIO * 20)


def test_an_answer_must_have_decided_who_is_client() -> None:
    with pytest.raises(DescriptionError, match="active or passive"):
        check_description(OFFER, answer=True)
    check_description(OFFER.replace("actpass", "active"), answer=True)


def test_a_fingerprint_with_an_unknown_hash_beside_a_known_one_is_fine() -> None:
    check_description(OFFER.replace("a=setup", "a=fingerprint:sha-1 " + DIGEST[:59] + "\na=setup"))


def test_session_level_fingerprint_setup_and_ice_count_for_every_section() -> None:
    """Firefox writes its fingerprint once."""
    moved = [f"a=fingerprint:sha-256 {DIGEST}", "a=setup:actpass", "a=ice-ufrag:Abcd"]
    body = [line for line in lines(AUDIO + DATA) if line not in moved]
    check_description("\n".join([*lines(SESSION), *moved, *body]) + "\n")


def test_what_may_be_left_out_is_left_out() -> None:
    """The negotiation knows the defaults (RFC 8866 §6.7.1, RFC 8841 §6)."""
    shorter = OFFER.replace("a=sendrecv\n", "").replace("a=max-message-size:262144\n", "")
    assert lines(check_description(shorter)) == lines(shorter)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m=audio 9", "m=audio 0"),
        ("m=audio 9", "m=text 9"),
        (AUDIO, "m=image 54111 udptl t38\na=mid:0\n"),
        (AUDIO, "m=video 0 UDP/TLS/RTP/SAVPF 96\na=mid:0\n"),
        (AUDIO, ""),
        ("m=application 9", "m=application 0"),
        (DATA, "m=application 0 UDP/DTLS/SCTP 0\n"),
        ("a=sctp-port:5000", "a=sctp-port:0"),
    ],
)
def test_what_cannot_be_used_does_not_spoil_the_rest(old: str, new: str) -> None:
    """It is rejected alone, and needs no place in the BUNDLE group."""
    offer = OFFER.replace(old, new)
    assert offer != OFFER
    assert lines(check_description(offer)) == lines(offer)
    ungrouped = offer.replace("a=group:BUNDLE 0 1\n", "")
    assert lines(check_description(ungrouped)) == lines(ungrouped)


@pytest.mark.parametrize("rejected", ["m=audio 0", "m=text 9"])
def test_a_description_with_nothing_to_use_is_refused(rejected: str) -> None:
    with pytest.raises(DescriptionError, match="No media section can be used"):
        check_description(SESSION + AUDIO.replace("m=audio 9", rejected))


def test_one_section_speaks_for_its_group() -> None:
    """Those that are bundle-only need say nothing of the transport (RFC 8843 §7.2.1)."""
    quiet = "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\na=bundle-only\na=mid:1\na=sctp-port:5000\n"
    for offer in (SESSION + AUDIO + quiet, SESSION + quiet + AUDIO):
        assert lines(check_description(offer)) == lines(offer)
    for name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup"):
        spoilt = "".join(line for line in AUDIO.splitlines(True) if not line.startswith(f"a={name}"))
        with pytest.raises(DescriptionError, match=rf"Media section 2 \(m=audio\): a={name} "):
            check_description(SESSION + quiet + spoilt)


def test_the_session_may_say_what_a_section_overrules() -> None:
    offer = OFFER.replace("s=-\n", "s=-\na=setup:holdconn\n")
    assert lines(check_description(offer)) == lines(offer)


def test_a_section_alone_needs_neither_group_nor_mid() -> None:
    offer = (SESSION + DATA).replace("a=group:BUNDLE 0 1\n", "").replace("a=mid:1\n", "")
    assert lines(check_description(offer)) == lines(offer)


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 udp 2122260223 0a7fbd3e-1f7c-4a51-9d6f-7f6c42a9f7d7.local 50000 typ host",
        "1 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active",
        "1 2 udp 2122260223 127.0.0.1 50001 typ host",
        "1 1 udp 2122260223 224.0.0.251 5353 typ host",
        "1 1 udp 2122260223 0.0.0.0 50000 typ host",
        "1 1 udp 2122260223 127.0.0.1 0 typ host",
        "1 1 udp 2122260223 127.0.0.1 50000 typ magic",
    ],
)
def test_candidates_that_lead_nowhere_are_left_to_ice(candidate: str) -> None:
    with_candidate = OFFER.replace("a=ice-ufrag", f"a=candidate:{candidate}\na=ice-ufrag", 1)
    assert lines(check_description(with_candidate)) == lines(with_candidate)


@given(st.text())
def test_any_text_is_either_taken_or_refused(text: str) -> None:
    assert is_taken_or_refused(text)


@given(st.data())
def test_an_offer_with_lines_lost_doubled_and_garbled_is_either_taken_or_refused(data: st.DataObject) -> None:
    changed = lines(OFFER)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(changed) - 1))
        action = data.draw(st.sampled_from(["drop", "double", "cut", "insert"]))
        if action == "drop" and len(changed) > 1:
            del changed[index]
        elif action == "double":
            changed.insert(index, changed[index])
        elif action == "cut":
            changed[index] = changed[index][: data.draw(st.integers(0, len(changed[index])))]
        else:
            at = data.draw(st.integers(0, len(changed[index])))
            changed[index] = changed[index][:at] + data.draw(st.text(max_size=8)) + changed[index][at:]
    assert is_taken_or_refused("\r\n".join(changed))
