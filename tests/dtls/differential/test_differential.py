"""A few random configurations beside other engines; ``python -m tests.dtls.differential`` makes any number."""

import dataclasses

import pytest

from mediapeer.dtls import AlertDescription, AlertReceived, NamedGroup, PeerMisbehaved, Role
from tests.dtls.differential import openssl, wolf
from tests.dtls.differential.__main__ import Tally, describe, sound_setups
from tests.dtls.differential.outcomes import Outcome, credentials, judge
from tests.dtls.differential.prediction import Quirk, is_sound, predict
from tests.dtls.differential.setups import V12, V13, Setup, Side, draw
from tests.tools import wolfssl

SEED = 20


def test_openssl_and_we_come_to_what_the_configurations_say() -> None:
    tally = Tally()
    for setup, outcome in openssl.run(sound_setups(SEED, "OpenSSL", 60)):
        tally.add(setup, outcome)
    assert not tally.unexplained, describe("OpenSSL", tally, 0)
    assert tally.kinds["we are the client: DTLS 1.2"]
    assert tally.kinds["we are the server: DTLS 1.2"]


@pytest.mark.skipif(wolfssl.refusal() is not None, reason=str(wolfssl.refusal()))
@pytest.mark.timeout(wolfssl.LONGEST_BUILD_SECONDS)
def test_wolfssl_and_we_come_to_what_the_configurations_say() -> None:
    try:
        wolfssl.executable()
    except wolfssl.Unavailable as unavailable:
        pytest.skip(f"wolfSSL cannot be built here: {unavailable}")
    tally = Tally()
    for setup, outcome in wolf.run(sound_setups(SEED, "wolfSSL", 40)):
        tally.add(setup, outcome)
    assert not tally.unexplained, describe("wolfSSL", tally, 0)
    assert tally.kinds["we are the client: DTLS 1.3"]
    assert tally.kinds["we are the server: DTLS 1.3"]


@pytest.fixture
def connecting() -> Setup:
    """A setup that has to connect, in which both ends know each other and nothing is lost."""
    for number in range(1000):
        setup = dataclasses.replace(draw(1, number, "OpenSSL"), loss=0.0)
        if is_sound(setup.ours) and setup.role is Role.SERVER and predict(setup).client_is_known:
            return setup
    raise AssertionError("there is none")


def outcome_as_expected(setup: Setup) -> Outcome:
    expected = predict(setup)
    (suite,), (group,) = expected.suites, expected.groups
    return Outcome(
        connected=True,
        version=expected.version,
        suite=suite,
        group=group,
        srtp=expected.srtp,
        alpn=expected.alpn,
        peer_certificate=credentials(setup.theirs.certificates[0], "theirs").chain[0],
    )


@pytest.mark.parametrize(
    "change",
    [
        {"connected": False},
        {"version": V13},
        {"suite": 0x1301},
        {"group": NamedGroup.SECP256R1MLKEM768},
        {"srtp": 99},
        {"alpn": b"h3"},
        {"peer_certificate": None},
        {"peer_certificate": b"another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_outcome_that_differs_is_noticed(connecting: Setup, change: dict[str, object]) -> None:
    outcome = outcome_as_expected(connecting)
    assert judge(connecting, outcome)[1:] == ([], ())
    _, found, quirks = judge(connecting, dataclasses.replace(outcome, **change))  # type: ignore[arg-type]
    assert found
    assert quirks == ()


def test_a_failure_for_another_reason_is_noticed(connecting: Setup) -> None:
    stranger = dataclasses.replace(connecting.ours, takes="another peer")
    setup = dataclasses.replace(connecting, ours=stranger)
    assert predict(setup).alerts == {AlertDescription.BAD_CERTIFICATE}
    right = Outcome(connected=False, error=PeerMisbehaved("", AlertDescription.BAD_CERTIFICATE))
    assert judge(setup, right)[1] == []
    for wrong in (
        Outcome(connected=False, error=PeerMisbehaved("", AlertDescription.HANDSHAKE_FAILURE)),
        Outcome(connected=False, error=AlertReceived(AlertDescription.INTERNAL_ERROR)),
        Outcome(connected=False),
        outcome_as_expected(connecting),
    ):
        assert judge(setup, wrong)[1] != []


def test_what_another_engine_is_known_for_explains_itself_and_nothing_else() -> None:
    ours = next(
        setup.ours
        for setup in (draw(2, number, "OpenSSL") for number in range(1000))
        if setup.role is Role.CLIENT and setup.ours.versions == {V13} and is_sound(setup.ours)
    )
    theirs = Side(
        engine="OpenSSL",
        versions=frozenset({V12}),
        suites=(),
        groups=(NamedGroup.X25519,),
        certificates=("rsa-2048",),
    )
    setup = Setup(number=0, role=Role.CLIENT, ours=ours, theirs=theirs)
    known = Outcome(connected=False, error=AlertReceived(AlertDescription.HANDSHAKE_FAILURE))
    assert judge(setup, known)[2] == (Quirk.OPENSSL_VERSION,)
    unknown = Outcome(connected=False, error=AlertReceived(AlertDescription.INTERNAL_ERROR))
    assert judge(setup, unknown)[2] == ()
