"""Candidates as browsers and others write them, and credentials."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.ice.candidate import (
    Candidate,
    CandidateError,
    IceParameters,
    candidate_foundation,
    candidate_priority,
    pair_priority,
)

CHROMIUM = (
    "1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0 ufrag EsAw network-id 1 cost 10"
)


@pytest.mark.parametrize(
    "value",
    [
        CHROMIUM,
        "0 1 UDP 2122252543 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 60382 typ host",
        "3 1 tcp 2105524479 10.0.0.1 9 typ host tcptype active",
        "842163049 1 udp 1677729535 203.0.113.141 60769 typ srflx raddr 0.0.0.0 rport 0 generation 0",
        "5 2 udp 92217086 2001:db8::7 3478 typ relay raddr fe80::1 rport 50000",
        "6 1 ssltcp 1 relay.example.com 443 typ token x-new thing",
    ],
)
def test_candidates_come_out_as_they_went_in(value: str) -> None:
    written = value.replace("UDP", "udp")
    assert Candidate.from_sdp(value).to_sdp() == written
    assert Candidate.from_sdp("candidate:" + value) == Candidate.from_sdp("a=candidate:" + value + " ")


def test_every_field_is_read() -> None:
    candidate = Candidate.from_sdp(CHROMIUM)
    assert (candidate.foundation, candidate.component, candidate.transport) == ("1467250027", 1, "udp")
    assert (candidate.priority, candidate.host, candidate.port) == (2122260223, "192.168.0.196", 46243)
    assert (candidate.type, candidate.related_address, candidate.tcp_type) == ("host", None, None)
    assert dict(candidate.extensions) == {
        "generation": "0",
        "ufrag": "EsAw",
        "network-id": "1",
        "cost": "10",
    }
    assert (candidate.is_ip, candidate.is_mdns) == (True, False)
    reflexive = Candidate.from_sdp("1 1 udp 7 203.0.113.1 5 typ srflx raddr 10.0.0.1 rport 6")
    assert (reflexive.related_address, reflexive.related_port) == ("10.0.0.1", 6)
    assert Candidate.from_sdp("1 1 tcp 7 10.0.0.1 9 typ host tcptype active").tcp_type == "active"
    hidden = Candidate.from_sdp("1 1 udp 7 A.LOCAL 5 typ host")
    assert (hidden.is_ip, hidden.is_mdns) == (False, True)
    hash(hidden)


def test_an_extension_that_is_repeated_does_not_overrule_the_first() -> None:
    candidate = Candidate.from_sdp(
        "1 1 udp 7 10.0.0.1 5 typ host ufrag abcd raddr 10.0.0.2 ufrag efgh rport 1"
    )
    assert dict(candidate.extensions) == {"ufrag": "abcd"}
    assert candidate.related_address == "10.0.0.2"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "six fields"),
        ("1 1 udp 7 10.0.0.1 5 host", "six fields"),
        ("1 1 udp 7 10.0.0.1 5 type host", "six fields"),
        ("1 1 udp 7 10.0.0.1 5 typ host generation", "no value"),
        ("1 1 udp 7 10.0.0.1 5 typ host" + " a b" * 30, "too many extensions"),
        ("1 1 udp 7 10.0.0.1 5 typ host" + " " * 2000, "a candidate of 20"),
        ("é 1 udp 7 10.0.0.1 5 typ host", "foundation"),
        ("1" * 33 + " 1 udp 7 10.0.0.1 5 typ host", "foundation"),
        ("1 0 udp 7 10.0.0.1 5 typ host", "component"),
        ("1 257 udp 7 10.0.0.1 5 typ host", "component"),
        ("1 1 u;p 7 10.0.0.1 5 typ host", "transport"),
        ("1 1 udp -7 10.0.0.1 5 typ host", "priority"),
        ("1 1 udp 4294967296 10.0.0.1 5 typ host", "priority"),
        ("1 1 udp ٧ 10.0.0.1 5 typ host", "priority"),
        ("1 1 udp 7 10.0.0.1/8 5 typ host", "address"),
        ("1 1 udp 7 10.0.0.1 0 typ host", "port"),
        ("1 1 udp 7 10.0.0.1 65536 typ host", "port"),
        ("1 1 udp 7 10.0.0.1 5 typ <host>", "type"),
        ("1 1 udp 7 10.0.0.1 5 typ srflx raddr ! rport 1", "related address"),
        ("1 1 udp 7 10.0.0.1 5 typ srflx raddr 10.0.0.2 rport x", "related port"),
    ],
)
def test_what_is_malformed_is_said(value: str, reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        Candidate.from_sdp(value)


@given(st.text(max_size=80) | st.lists(st.text(max_size=9), max_size=12).map(" ".join))
def test_whatever_is_said_raises_nothing_else(value: str) -> None:
    try:
        candidate = Candidate.from_sdp(value)
    except CandidateError:
        return
    assert Candidate.from_sdp(candidate.to_sdp()) == candidate


@given(
    st.lists(
        st.sampled_from(
            ["1", "0", "udp", "tcp", "typ", "host", "raddr", "rport", "::1", "a.local", "9", "tcptype"]
        ),
        min_size=8,
        max_size=16,
    ).map(lambda words: " ".join([*words[:6], "typ", *words[7:]]))
)
def test_what_looks_like_a_candidate_raises_nothing_else(value: str) -> None:
    try:
        candidate = Candidate.from_sdp(value)
    except CandidateError:
        return
    assert Candidate.from_sdp(candidate.to_sdp()) == candidate


def test_priorities_are_those_of_the_rfc() -> None:
    # RFC 8445 §5.1.2.1: type, then local preference, then component.
    assert candidate_priority("host") == 126 * 2**24 + 65535 * 2**8 + 255 == 2130706431
    assert candidate_priority("relay", component=2, local_preference=1) == 256 + 254
    host, reflexive, learned = (candidate_priority(kind) for kind in ("host", "srflx", "prflx"))
    assert host > learned > reflexive > candidate_priority("relay")
    # RFC 8445 §6.1.2.3, and it is another for the same two the other way round.
    assert pair_priority(7, 5) == 5 * 2**32 + 2 * 7 + 1
    assert pair_priority(5, 7) == 5 * 2**32 + 2 * 7


def test_foundations_are_equal_when_type_base_protocol_and_server_are() -> None:
    one = candidate_foundation("host", "10.0.0.1")
    assert re.fullmatch(r"[0-9]{1,10}", one)
    assert one == candidate_foundation("host", "10.0.0.1")
    others = {
        candidate_foundation("host", "10.0.0.2"),
        candidate_foundation("host", "10.0.0.1", transport="tcp"),
        candidate_foundation("srflx", "10.0.0.1"),
        candidate_foundation("srflx", "10.0.0.1", server="203.0.113.1"),
    }
    assert len(others | {one}) == 5


def test_credentials_are_random_and_hide_the_password() -> None:
    made = [IceParameters.random(lite=True) for _ in range(50)]
    assert len({parameters.username_fragment for parameters in made}) == 50
    assert len({parameters.password for parameters in made}) == 50
    assert made[0].lite
    assert made[0].password not in repr(made[0])


@pytest.mark.parametrize(
    ("fragment", "password"),
    [("abc", "p" * 22), ("a" * 257, "p" * 22), ("ab:d", "p" * 22), ("abcd", "p" * 21), ("abcd", "p" * 257)],
)
def test_credentials_that_the_rfc_does_not_allow_are_refused_without_being_told(
    fragment: str, password: str
) -> None:
    with pytest.raises(ValueError, match="letters, digits") as caught:
        IceParameters(fragment, password)
    assert password not in str(caught.value)


def test_browsers_candidates_parse() -> None:
    """Firefox and Chromium as they were captured."""
    for value in (
        "2 1 UDP 2122187007 2001:db8::4 50711 typ host",
        "1 1 TCP 2105524479 10.45.0.2 9 typ host tcptype active",
        "4 1 UDP 1686052351 203.0.113.9 60382 typ srflx raddr 0.0.0.0 rport 0",
        "1052353102 1 tcp 1518280447 192.0.2.33 9 typ host tcptype active generation 0 ufrag x+/9 network-id 1",
    ):
        assert Candidate.from_sdp(value).transport in ("udp", "tcp")
