"""What servers of both versions do with sessions: in and out of tickets, and whether a peer may come back by one."""

import hmac
from collections.abc import Callable
from typing import TypeVar

from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.errors import DecodeError, DtlsError
from mediapeer.dtls.registry import AlertDescription
from mediapeer.dtls.session import Session

MAXIMUM_TICKET_CONTENTS = 8192
"A session that is longer, for the certificates in it, gets no ticket: it would swell each ClientHello."

_Result = TypeVar("_Result")


def open_ticket(configuration: DtlsConfiguration, ticket: bytes, now: float) -> tuple[Session | None, bool]:
    """The session in a ticket, ``None`` when it is not ours, and whether the ticket should be replaced.

    :raises DtlsError: with ``internal_error`` when the ticket protector fails.
    """
    protector = configuration.session_tickets
    opened = _guarded(protector.open, ticket, now) if protector is not None else None
    if opened is None:
        return None, False
    try:
        return Session.parse(opened.contents), opened.renew
    except DecodeError:
        return None, False  # of another release, or of another use of the same keys


def seal_ticket(configuration: DtlsConfiguration, session: Session, now: float) -> bytes:
    """A ticket with the session; empty when there is to be none.

    :raises DtlsError: with ``internal_error`` when the ticket protector fails.
    """
    protector = configuration.session_tickets
    contents = session.serialize()
    # A lifetime of no whole second cannot be told: 0 would say that there is no limit (RFC 5077 §3.3).
    if protector is None or len(contents) > MAXIMUM_TICKET_CONTENTS or session.lifetime < 1:
        return b""
    return _guarded(protector.seal, contents, now) or b""


def takes_peer(configuration: DtlsConfiguration, session: Session, role: Role) -> bool:
    """Whether a full handshake could let such a peer in; the verifier is not asked here.

    :param role: which side we are; a client may be nobody, a server has to be somebody.
    """
    if session.pre_shared_key_identity is not None:
        # The same key, not just one of the same name: it may have been replaced because it got known.
        known = [
            hmac.compare_digest(key.binding(), session.pre_shared_key_binding)
            for key in configuration.pre_shared_keys
            if key.identity == session.pre_shared_key_identity
        ]
        return any(known)
    if configuration.verifier is None:
        return False
    if session.peer_chain:
        return session.peer_certificate_type in configuration.peer_certificate_types
    return role is Role.SERVER and configuration.client_authentication is not ClientAuthentication.REQUIRED


def _guarded(call: Callable[[bytes, float], _Result], data: bytes, now: float) -> _Result:
    """What the caller's ticket protector says; nothing that it raises gets out otherwise than as our error."""
    try:
        return call(data, now)
    except DtlsError:
        raise
    except Exception as error:
        raise DtlsError(
            f"the ticket protector failed: {type(error).__name__}", AlertDescription.INTERNAL_ERROR
        ) from error
