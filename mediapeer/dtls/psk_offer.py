"""Pre-shared keys in a ClientHello of DTLS 1.3: sessions and external keys alike (RFC 8446 §4.2.11)."""

from collections.abc import Sequence
from dataclasses import dataclass

from mediapeer.dtls.configuration import DtlsConfiguration
from mediapeer.dtls.extensions import OfferedPsks, PskIdentity
from mediapeer.dtls.key_schedule13 import psk_binder
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.psk import ImportedPreSharedKey, OfferedPsk, PreSharedKey
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS, ExtensionType, ProtocolVersion
from mediapeer.dtls.session import Session
from mediapeer.dtls.transcript13 import Transcript

RESUMPTION_BINDER_LABEL = b"res binder"

_DIGEST_SIZES = {"sha256": 32, "sha384": 48}


@dataclass(frozen=True, slots=True)
class ClientPsk:
    """A PSK that a client offers, and what it comes from: a session or an external key."""

    offered: OfferedPsk
    session: Session | None = None
    credentials: PreSharedKey | ImportedPreSharedKey | None = None

    def identity(self, now: float) -> PskIdentity:
        """As it stands in the ClientHello; the age of a ticket is told in disguise (RFC 8446 §4.2.11.1)."""
        if self.session is None:
            return PskIdentity(self.offered.identity)
        age = round((now - self.session.received_at) * 1000)
        return PskIdentity(self.offered.identity, (age + self.session.age_add) & 0xFFFFFFFF)


def client_psks(configuration: DtlsConfiguration, session: Session | None) -> tuple[ClientPsk, ...]:
    """What a client offers: the session, if there is one, and all external keys in order of preference.

    Keys whose hash goes with none of the cipher suites are left out.
    """
    psks = []
    if session is not None and session.version is ProtocolVersion.DTLS_1_3:
        hash_name = CIPHER_SUITE_PARAMETERS[session.cipher_suite].hash_name
        offered = OfferedPsk(session.ticket, session.secret, hash_name, RESUMPTION_BINDER_LABEL)
        psks.append(ClientPsk(offered, session=session))
    for key in configuration.pre_shared_keys:
        psks += [ClientPsk(offered, credentials=key) for offered in key.offers()]
    suites = configuration.suites_of(ProtocolVersion.DTLS_1_3)
    hashes = {CIPHER_SUITE_PARAMETERS[suite].hash_name for suite in suites}
    return tuple(psk for psk in psks if psk.offered.hash_name in hashes)


def with_binders(
    hello: ClientHello, psks: Sequence[ClientPsk], transcript: Transcript, now: float
) -> ClientHello:
    """The ClientHello with pre_shared_key at its end, each key proved by its binder (RFC 8446 §4.2.11.2).

    :param transcript: what came before this ClientHello.
    """
    if not psks and ExtensionType.PRE_SHARED_KEY not in hello.extensions:
        return hello
    block = {k: v for k, v in hello.extensions.items() if k != ExtensionType.PRE_SHARED_KEY}
    if not psks:
        return hello.with_extensions(block)
    identities = tuple(psk.identity(now) for psk in psks)
    blank = OfferedPsks(identities, tuple(bytes(_DIGEST_SIZES[psk.offered.hash_name]) for psk in psks))
    body = hello.with_extensions(block | {ExtensionType.PRE_SHARED_KEY: blank.serialize()}).serialize()
    binders = tuple(_binder(psk.offered, transcript, body, blank.binders_length) for psk in psks)
    offer = OfferedPsks(identities, binders)
    return hello.with_extensions(block | {ExtensionType.PRE_SHARED_KEY: offer.serialize()})


def _binder(psk: OfferedPsk, transcript: Transcript, hello: bytes, binders_length: int) -> bytes:
    digest = transcript.digest_up_to_binders(psk.hash_name, hello, binders_length)
    return psk_binder(psk.hash_name, psk.secret, psk.binder_label, digest)


def expected_binder(psk: OfferedPsk, transcript: Transcript, hello: bytes, offer: OfferedPsks) -> bytes:
    """What the binder of ``psk`` has to be in a ClientHello that has come.

    :param hello: the whole body of the ClientHello.
    :param offer: the pre_shared_key in it, which stands at its end.
    """
    return _binder(psk, transcript, hello, offer.binders_length)
