"""The engine's errors: each is fatal to its connection and names the alert that goes with it (RFC 5246 §7.2)."""

from mediapeer.dtls.registry import AlertDescription


class DtlsError(Exception):
    """The association is over. ``alert`` is the alert that was sent or received, where there was one."""

    def __init__(self, message: str, alert: AlertDescription | None = None) -> None:
        super().__init__(message)
        self.alert = alert


class ConfigurationError(DtlsError, ValueError):
    """The configuration asks for something that cannot be had; raised when it is made, before any datagram."""


class PeerMisbehaved(DtlsError):
    """The peer broke the protocol. ``alert`` is what it was told."""

    alert: AlertDescription

    def __init__(self, message: str, alert: AlertDescription) -> None:
        super().__init__(message, alert)


class DecodeError(PeerMisbehaved):
    """A message of the peer does not parse (alert ``decode_error``, RFC 5246 §7.2.2)."""

    def __init__(self, message: str, alert: AlertDescription = AlertDescription.DECODE_ERROR) -> None:
        super().__init__(message, alert)


class NegotiationFailed(PeerMisbehaved):
    """Both sides behave, and have nothing in common: version, cipher suite, group, signature or protocol."""


class CertificateRejected(PeerMisbehaved):
    """The peer's certificate is not the one that was expected, or not one that can be used."""

    def __init__(self, message: str, alert: AlertDescription = AlertDescription.BAD_CERTIFICATE) -> None:
        super().__init__(message, alert)


class AlertReceived(DtlsError):
    """The peer ended the association with a fatal alert, or closed it before the handshake was done."""

    alert: AlertDescription | None

    def __init__(self, description: int) -> None:
        try:
            known = AlertDescription(description)
        except ValueError:
            super().__init__(f"the peer sent the fatal alert {description}")
        else:
            super().__init__(f"the peer sent the fatal alert {known.name.lower()}", known)
        self.description = description


class HandshakeTimeout(DtlsError):
    """The handshake did not end within its time or its number of retransmissions.

    The peer is told by ``handshake_failure``: it may be connected already, and know of nothing.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, AlertDescription.HANDSHAKE_FAILURE)


class SequenceNumbersExhausted(DtlsError):
    """All record sequence numbers of the epoch are used; a nonce must never come twice (RFC 6347 §4.1)."""


class NotConnected(DtlsError):
    """The call needs an established association, and this one is not (yet, or any more)."""
