"""Certificates: how long they live, and that they are replaced in time."""

import datetime

import pytest

from mediapeer.peer.certificate import CertificateRotation, RTCCertificate

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def test_a_certificate_lives_as_long_as_it_was_told() -> None:
    certificate = RTCCertificate.generateCertificate(3 * DAY, START)
    assert certificate.expires == START + 3 * DAY


@pytest.mark.parametrize("days", [0, -1, 366])
def test_lifetimes_that_cannot_be(days: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 365 days"):
        RTCCertificate.generateCertificate(days * DAY)


def test_no_two_certificates_have_anything_in_common() -> None:
    one, other = (RTCCertificate.generateCertificate(now=START) for _ in range(2))
    assert one.getFingerprints() != other.getFingerprints()
    assert one._cert.subject != other._cert.subject
    assert one._cert.serial_number != other._cert.serial_number


def test_a_rotation_keeps_a_certificate_until_shortly_before_its_end() -> None:
    now = START
    rotation = CertificateRotation(10 * DAY, 2 * DAY, lambda: now)
    first = rotation.current()
    now = START + 8 * DAY - datetime.timedelta(seconds=1)
    assert rotation.current() is first
    now = START + 8 * DAY
    second = rotation.current()
    assert second is not first
    assert second.expires == now + 10 * DAY


def test_a_rotation_that_would_never_use_a_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="renew_before"):
        CertificateRotation(DAY, DAY)
