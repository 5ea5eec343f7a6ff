"""Descriptions and candidates of peers that mean no good: a typed error, or a section rejected, and no change."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediapeer.peer.signaling_state import DescriptionError, NegotiationError
from tests.peer.negotiators import BROWSER_OFFERS, Negotiator, negotiate

VECTORS = list(BROWSER_OFFERS.values())
OFFER = "".join(
    line
    for line in VECTORS[0].splitlines(keepends=True)
    if not re.search(r":(39|40|45|46|9[89]|1[01]\d|120) ", line)
)


def in_a_call() -> Negotiator:
    """A peer with a call that a bad description must not disturb."""
    peer, other = Negotiator("a"), Negotiator("b")
    peer.add("audio")
    peer.add("video")
    peer.negotiation.want_data()
    negotiate(peer, other)
    return peer


def try_offer(peer: Negotiator, text: str) -> None:
    """Answer an offer if it can be answered; otherwise nothing may have changed."""
    before = peer.snapshot
    try:
        peer.negotiation.set_remote("offer", text)
    except NegotiationError:
        assert peer.snapshot == before
    else:
        answer = peer.negotiation.create_answer()
        assert len(answer.media) == len(peer.negotiation.pending_remote.media)
        peer.negotiation.set_local("answer", str(answer))
        assert peer.negotiation.pending_remote is None


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A description with lines that are gone, doubled, swapped, or changed within."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 6))):
        index = draw(st.integers(0, len(lines) - 1))
        what = draw(st.sampled_from(("drop", "double", "swap", "cut", "digits", "word", "move")))
        line = lines[index]
        if what == "drop" and len(lines) > 1:
            del lines[index]
        elif what == "double":
            lines.insert(index, line)
        elif what == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[index], lines[other] = lines[other], lines[index]
        elif what == "cut":
            lines[index] = line[: draw(st.integers(0, len(line)))]
        elif what == "digits":
            lines[index] = re.sub(
                r"\d+", str(draw(st.sampled_from((0, 1, 9, 96, 97, 127, 255, 2**32)))), line
            )
        elif what == "word":
            words = line.split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(
                st.sampled_from(("", "0", "BUNDLE", "sendrecv", "rtx/90000", "apt=96", "send", "é", "-1"))
            )
            lines[index] = " ".join(words)
        else:
            lines.append(lines.pop(index))
    return "\r\n".join(lines) + "\r\n"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([OFFER, *VECTORS[1:]]).flatmap(damaged))
def test_a_damaged_first_offer(text: str) -> None:
    try_offer(Negotiator(), text)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_offer_in_a_call(data: st.DataObject) -> None:
    peer, other = Negotiator("a"), Negotiator("b")
    other.add("audio")
    other.add("video")
    other.negotiation.want_data()
    negotiate(other, peer)
    other.add("audio")
    try_offer(peer, data.draw(damaged(other.offer())))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_answer(data: st.DataObject) -> None:
    peer, other = Negotiator("a"), Negotiator("b")
    peer.add("audio")
    peer.add("video")
    peer.negotiation.want_data()
    answer = data.draw(damaged(other.answer(peer.offer())))
    before = peer.snapshot
    try:
        peer.negotiation.set_remote("answer", answer)
    except NegotiationError:
        assert peer.snapshot == before
    else:
        assert peer.negotiation.pending_local is None
    peer.negotiation.create_offer()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.sampled_from(("offer", "answer", "pranswer", "bye")))
def test_any_text(text: str, type: str) -> None:
    peer = in_a_call()
    before = peer.snapshot
    with pytest.raises(NegotiationError):
        peer.negotiation.set_remote(type, text)
    assert peer.snapshot == before


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=60) | st.just("1 1 udp 1 192.0.2.1 4000 typ host"),
    st.none() | st.sampled_from(("0", "1", "9")),
    st.none() | st.integers(-3, 5),
    st.none() | st.text(max_size=5),
)
def test_any_candidate(candidate: str, mid: str | None, index: int | None, ufrag: str | None) -> None:
    peer = in_a_call()
    before = peer.snapshot
    try:
        peer.negotiation.add_remote_candidate(candidate, mid, index, ufrag)
    except NegotiationError:
        assert peer.snapshot == before


def test_an_error_tells_the_line_but_no_secret() -> None:
    password = "secretsecretsecretsecret"
    with pytest.raises(DescriptionError, match=r"line \d+: a=ice-ufrag is malformed") as caught:
        Negotiator().negotiation.set_remote(
            "offer", VECTORS[0].replace("a=ice-ufrag:", f"a=ice-pwd:{password}\r\na=ice-ufrag:!")
        )
    assert password not in str(caught.value)


def test_a_flood_of_sections_and_formats_is_bounded() -> None:
    section = OFFER[OFFER.index("m=audio") : OFFER.index("m=video")]
    many = "".join(section.replace("a=mid:0", f"a=mid:{number}") for number in range(65))
    with pytest.raises(DescriptionError, match="more than"):
        Negotiator().negotiation.set_remote("offer", OFFER[: OFFER.index("m=audio")] + many)
