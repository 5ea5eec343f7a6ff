"""Which session a server of DTLS 1.2 resumes, and how it hands one out (RFC 5246 §7.3, RFC 5077, RFC 7627 §5.3)."""

import hmac
from dataclasses import dataclass

from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.errors import NegotiationFailed
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.psk import PreSharedKey
from mediapeer.dtls.registry import AlertDescription, CipherSuite, ExtensionType, ProtocolVersion
from mediapeer.dtls.resumption import open_ticket, takes_peer
from mediapeer.dtls.session import Session


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """What a ClientHello says of sessions."""

    session: Session | None
    "One that we know; whether it is resumed is another question."
    takes_tickets: bool
    "Whether the client takes tickets, and we give some."
    renew: bool = False
    "Whether the ticket that the session came in should be replaced."


def read_session_offer(configuration: DtlsConfiguration, hello: ClientHello, now: float) -> SessionOffer:
    """Look up what the client offers: its ticket, else its session ID (RFC 5077 §3.4).

    :raises DtlsError: with ``internal_error`` when the ticket protector fails.
    """
    protector, cache = configuration.session_tickets, configuration.session_cache
    ticket = hello.extensions.get(ExtensionType.SESSION_TICKET) if protector is not None else None
    if protector is not None and ticket:
        session, renew = open_ticket(configuration, ticket, now)
        return SessionOffer(session, takes_tickets=True, renew=renew)
    session = cache.find(hello.session_id, now) if cache is not None and hello.session_id else None
    return SessionOffer(session, takes_tickets=ticket is not None)


def may_resume(
    configuration: DtlsConfiguration,
    session: Session,
    now: float,
    *,
    cipher_suite: CipherSuite,
    server_name: str | None,
    extended_master_secret: bool,
) -> bool:
    """Whether a session goes with what is negotiated now, and its client would still be let in.

    :param cipher_suite: what a full handshake would use; a session keeps its own, and so must have the same.
    :param server_name: what the client asks for (RFC 6066 §3).
    :param extended_master_secret: whether the client offers it.
    :raises NegotiationFailed: when a client goes on without the extended master secret that it had (RFC 7627 §5.3).
    """
    if session.version is not ProtocolVersion.DTLS_1_2 or not session.is_fresh(now):
        return False
    if session.extended_master_secret and not extended_master_secret:
        raise NegotiationFailed(
            "the client resumes without the extended_master_secret that the session has",
            AlertDescription.HANDSHAKE_FAILURE,
        )
    return (
        session.extended_master_secret == extended_master_secret
        and session.cipher_suite is cipher_suite
        and session.server_name == server_name
        and takes_peer(configuration, session, Role.SERVER)
    )


def find_pre_shared_key(configuration: DtlsConfiguration, identity: bytes) -> PreSharedKey | None:
    """The key for DTLS 1.2 that a client names, or ``None``."""
    # All are compared, each in constant time: how long it takes does not tell which there are.
    found = [key for key in pre_shared_keys12(configuration) if hmac.compare_digest(key.identity, identity)]
    return found[0] if found else None


def pre_shared_keys12(configuration: DtlsConfiguration) -> list[PreSharedKey]:
    """The pre-shared keys that are for DTLS 1.2, in order of preference."""
    keys = (key for key in configuration.pre_shared_keys if isinstance(key, PreSharedKey))
    return [key for key in keys if ProtocolVersion.DTLS_1_2 in key.versions]
