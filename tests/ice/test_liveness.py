"""Liveness told from times alone."""

from mediapeer.ice.liveness import (
    CONSENT_LIFETIME,
    DISCONNECTED_AFTER,
    QUIET_AFTER,
    QUIET_AFTER_BUSY,
    Liveness,
    PathLiveness,
)


def test_a_path_is_connected_while_packets_come() -> None:
    path = PathLiveness(now=100.0)
    for second in range(20):
        path.heard(100.0 + second)
        assert path.state(100.0 + second + 0.9) is Liveness.CONNECTED


def test_silence_disconnects_within_five_seconds_and_a_packet_reconnects() -> None:
    path = PathLiveness(now=100.0)
    assert DISCONNECTED_AFTER < 5
    assert path.next_change(100.0) == 100.0 + DISCONNECTED_AFTER
    assert path.state(100.0 + DISCONNECTED_AFTER) is Liveness.DISCONNECTED
    path.heard(110.0)
    assert path.state(110.0) is Liveness.CONNECTED


def test_consent_expires_after_thirty_seconds_without_an_answer_even_if_media_comes() -> None:
    path = PathLiveness(now=100.0)
    path.consented(107.0)
    path.heard(136.0)
    assert path.state(136.9) is Liveness.CONNECTED
    assert path.next_change(136.9) == 107.0 + CONSENT_LIFETIME
    assert path.state(107.0 + CONSENT_LIFETIME) is Liveness.EXPIRED


def test_a_busy_path_is_checked_at_the_pace_of_consent_and_a_quiet_one_at_once() -> None:
    path = PathLiveness(now=100.0)
    path.checked(100.0, period=4.0)
    path.heard(103.0)
    assert path.next_check() == 104.0
    quiet = PathLiveness(now=100.0)
    quiet.checked(100.0, period=6.0)
    assert quiet.next_check() == 100.0 + QUIET_AFTER
    # Unanswered: once more, without a pause.
    quiet.checked(101.5, period=6.0)
    assert quiet.next_check() == 101.5


def test_silence_shows_sooner_where_packets_came_one_after_the_other() -> None:
    path = PathLiveness(now=100.0)
    path.checked(100.0, period=6.0)
    for number in range(100):
        path.heard(100.0 + number * 0.02)
    assert path.next_check() == path.last_heard + QUIET_AFTER_BUSY
    # A packet a second is what there is without media: a pause of a second says nothing.
    for second in range(3, 20):
        path.heard(100.0 + second)
    path.checked(119.0, period=6.0)
    assert path.next_check() == path.last_heard + QUIET_AFTER
