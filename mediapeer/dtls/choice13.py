"""What a server of DTLS 1.3 chooses from a ClientHello (RFC 8446 §4.1.1, §4.2.11); a listener needs it as well."""

from collections.abc import Sequence
from dataclasses import dataclass

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.credentials import Credentials, SigningCredentials
from mediapeer.dtls.errors import NegotiationFailed, PeerMisbehaved
from mediapeer.dtls.extensions import OfferedPsks
from mediapeer.dtls.handshake13 import schemes_for_key13
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.psk import OfferedPsk
from mediapeer.dtls.psk_offer import RESUMPTION_BINDER_LABEL
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CertificateType,
    CipherSuite,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from mediapeer.dtls.resumption import open_ticket, takes_peer
from mediapeer.dtls.selection import NO_COMMON_SCHEME, PeerAccepts, mismatch, nothing_fits, usable_schemes
from mediapeer.dtls.session import Session

MAXIMUM_TICKETS_TRIED = 4
"How many identities of a ClientHello we try to open as tickets: nobody needs more, and each costs."

MAXIMUM_KEYS_TRIED = 64
"How many identities of a ClientHello we look up among our pre-shared keys."

_ALWAYS_REQUIRED = (ExtensionType.SUPPORTED_GROUPS, ExtensionType.KEY_SHARE)


@dataclass(frozen=True, slots=True)
class Choice13:
    """A cipher suite, and how the server authenticates: by a PSK or by a signature."""

    cipher_suite: CipherSuite
    psk: OfferedPsk | None = None
    psk_index: int = 0
    "Which of the client's identities it is."
    session: Session | None = None
    "The session that is resumed."
    credentials: Credentials | None = None
    signing: SigningCredentials | None = None
    "The same, if they sign."
    scheme: SignatureScheme | None = None


def check_client_hello13(hello: ClientHello) -> None:
    """Make sure that a ClientHello is one of DTLS 1.3 (RFC 9147 §5.3, RFC 8446 §9.2)."""
    if hello.cookie:
        raise PeerMisbehaved(
            "a ClientHello of DTLS 1.3 has a cookie of DTLS 1.2", AlertDescription.ILLEGAL_PARAMETER
        )
    if hello.compression_methods != b"\0":
        raise PeerMisbehaved("the client offers compression", AlertDescription.ILLEGAL_PARAMETER)
    versions = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if versions is None or ProtocolVersion.DTLS_1_3 not in extensions.parse_supported_versions(versions):
        # A first ClientHello would not have come here, but a second one may try (RFC 8446 §4.1.4).
        raise PeerMisbehaved(
            "the client takes its offer of DTLS 1.3 back", AlertDescription.ILLEGAL_PARAMETER
        )
    required: Sequence[ExtensionType] = _ALWAYS_REQUIRED
    if ExtensionType.PRE_SHARED_KEY not in hello.extensions:
        required = (*_ALWAYS_REQUIRED, ExtensionType.SIGNATURE_ALGORITHMS)
    for kind in required:
        if kind not in hello.extensions:
            raise _missing(kind)


def _missing(kind: ExtensionType) -> PeerMisbehaved:
    return PeerMisbehaved(f"the ClientHello lacks {kind.name.lower()}", AlertDescription.MISSING_EXTENSION)


def client_shares(hello: ClientHello) -> dict[int, bytes]:
    """The key shares of a ClientHello; all of groups that it supports (RFC 8446 §4.2.8)."""
    shares = extensions.parse_client_shares(hello.extensions[ExtensionType.KEY_SHARE])
    supported = extensions.parse_uint16_list(hello.extensions[ExtensionType.SUPPORTED_GROUPS])
    if any(group not in supported for group in shares):
        raise PeerMisbehaved(
            "a key share is of a group that the client does not support", AlertDescription.ILLEGAL_PARAMETER
        )
    return shares


def choose_group13(configuration: DtlsConfiguration, hello: ClientHello) -> NamedGroup:
    """The first of our groups that the client has sent a share of, else the first that it supports.

    A round trip costs more than a group that is second in our order.
    """
    supported = extensions.parse_uint16_list(hello.extensions[ExtensionType.SUPPORTED_GROUPS])
    shares = client_shares(hello)
    common = [group for group in configuration.groups if group in supported]
    for group in common:
        if group in shares:
            return group
    if common:
        return common[0]
    raise NegotiationFailed("the client offers none of our groups", AlertDescription.HANDSHAKE_FAILURE)


def read_psk_offer(hello: ClientHello) -> OfferedPsks | None:
    """The pre-shared keys of a ClientHello, or ``None`` when it has none (RFC 8446 §4.2.9, §4.2.11)."""
    body = hello.extensions.get(ExtensionType.PRE_SHARED_KEY)
    if body is None:
        return None
    if next(reversed(list(hello.extensions))) != ExtensionType.PRE_SHARED_KEY:
        raise PeerMisbehaved("pre_shared_key is not the last extension", AlertDescription.ILLEGAL_PARAMETER)
    if ExtensionType.PSK_KEY_EXCHANGE_MODES not in hello.extensions:
        raise _missing(ExtensionType.PSK_KEY_EXCHANGE_MODES)
    return OfferedPsks.parse(body)


def takes_psk_dhe(hello: ClientHello) -> bool:
    """Whether the client takes a PSK together with a key exchange: the one way that is spoken here."""
    body = hello.extensions.get(ExtensionType.PSK_KEY_EXCHANGE_MODES)
    return body is not None and PskKeyExchangeMode.PSK_DHE_KE in extensions.parse_psk_key_exchange_modes(body)


def requests_certificate(configuration: DtlsConfiguration) -> bool:
    """Whether a server asks its clients for certificates, when no PSK is used."""
    wanted = configuration.client_authentication is not ClientAuthentication.NONE
    return wanted and configuration.verifier is not None


def choose13(
    configuration: DtlsConfiguration,
    hello: ClientHello,
    now: float,
    *,
    pinned: CipherSuite | None = None,
    may_resume: bool = True,
) -> Choice13:
    """Choose: a session first, then our credentials in their order.

    :param pinned: the suite that a HelloRetryRequest has settled on.
    :param may_resume: whether to look for a session at all.
    :raises NegotiationFailed: when nothing fits.
    """
    suites = [s for s in configuration.suites_of(ProtocolVersion.DTLS_1_3) if s in hello.cipher_suites]
    if pinned is not None:
        if pinned not in suites:
            raise PeerMisbehaved(
                "the second ClientHello leads to another cipher suite", AlertDescription.ILLEGAL_PARAMETER
            )
        suites = [pinned]
    if not suites:
        raise NegotiationFailed(
            "the client offers no cipher suite of ours", AlertDescription.HANDSHAKE_FAILURE
        )
    return _Chooser(configuration, hello, now, suites).choose(may_resume=may_resume)


class _Chooser:
    """The choice between sessions, pre-shared keys and certificates.

    :param suites: what both sides have, in our order; never empty.
    """

    def __init__(
        self,
        configuration: DtlsConfiguration,
        hello: ClientHello,
        now: float,
        suites: Sequence[CipherSuite],
    ) -> None:
        self._configuration = configuration
        self._hello = hello
        self._now = now
        self._suites = suites
        self._offer = read_psk_offer(hello)
        self._takes_psk = takes_psk_dhe(hello)

    def choose(self, *, may_resume: bool) -> Choice13:
        choice = self._choose_session() if may_resume else None
        if choice is not None:
            return choice
        psk_rank, by_psk = self._choose_psk()
        reason = self._why_no_psk()
        for credentials in self._configuration.signing_credentials:
            if by_psk is not None and psk_rank < self._configuration.credentials.index(credentials):
                break
            by_signature, reason = self._choose_signing(credentials)
            if by_signature is not None:
                return by_signature
        if by_psk is None:
            raise nothing_fits(reason)
        return by_psk

    def _suite_with(self, hash_name: str) -> CipherSuite | None:
        return next((s for s in self._suites if CIPHER_SUITE_PARAMETERS[s].hash_name == hash_name), None)

    def _choose_session(self) -> Choice13 | None:
        if self._offer is None or self._configuration.session_tickets is None or not self._takes_psk:
            return None
        for index, entry in enumerate(self._offer.identities[:MAXIMUM_TICKETS_TRIED]):
            session, _ = open_ticket(self._configuration, entry.identity, self._now)
            if session is None:
                continue
            hash_name = CIPHER_SUITE_PARAMETERS[session.cipher_suite].hash_name
            suite = self._suite_with(hash_name)
            if suite is not None and self._may_resume(session):
                psk = OfferedPsk(entry.identity, session.secret, hash_name, RESUMPTION_BINDER_LABEL)
                return Choice13(suite, psk, index, session)
        return None

    def _may_resume(self, session: Session) -> bool:
        body = self._hello.extensions.get(ExtensionType.SERVER_NAME)
        name = extensions.parse_server_name(body) if body is not None else None
        return (
            session.version is ProtocolVersion.DTLS_1_3
            and session.is_fresh(self._now)
            and session.server_name == name
            and takes_peer(self._configuration, session, Role.SERVER)
        )

    def _choose_psk(self) -> tuple[int, Choice13 | None]:
        """The best of our keys among those that the client names, and its place among our credentials."""
        if self._offer is None or not self._takes_psk:
            return 0, None
        found: list[tuple[int, int, Choice13]] = []
        known = self._configuration.psk_offers
        for index, entry in enumerate(self._offer.identities[:MAXIMUM_KEYS_TRIED]):
            for rank, psk, credentials in known.get(entry.identity, ()):
                suite = self._suite_with(psk.hash_name)
                if suite is not None:
                    choice = Choice13(suite, psk, index, credentials=credentials)
                    found.append((rank, self._suites.index(suite), choice))
        if not found:
            return 0, None
        rank, _, choice = min(found, key=lambda each: each[:2])
        return rank, choice

    def _why_no_psk(self) -> str:
        if self._offer is None:
            return "offers no pre-shared key"
        if not self._takes_psk:
            return "takes no pre-shared key with a key exchange"
        return "knows no pre-shared key of ours"

    def _choose_signing(self, credentials: SigningCredentials) -> tuple[Choice13 | None, str]:
        if self._configuration.verifier is None:
            return None, "knows no pre-shared key of ours, and nobody is there to judge certificates"
        block = self._hello.extensions
        schemes = block.get(ExtensionType.SIGNATURE_ALGORITHMS)
        types = block.get(ExtensionType.SERVER_CERTIFICATE_TYPE)
        authorities = block.get(ExtensionType.CERTIFICATE_AUTHORITIES)
        accepts = PeerAccepts(
            extensions.parse_uint16_list(schemes) if schemes is not None else (),
            extensions.parse_certificate_types(types) if types is not None else (CertificateType.X509,),
            extensions.parse_certificate_authorities(authorities) if authorities is not None else (),
        )
        scheme, reason = choose_scheme13(self._configuration, credentials, accepts)
        if scheme is None:
            return None, reason
        return Choice13(self._suites[0], credentials=credentials, signing=credentials, scheme=scheme), ""


def choose_scheme13(
    configuration: DtlsConfiguration, credentials: SigningCredentials, accepts: PeerAccepts
) -> tuple[SignatureScheme | None, str]:
    """The scheme by which these credentials sign for the peer, or ``None`` and why not; for clients too."""
    reason = mismatch(credentials, accepts)
    if reason is not None:
        return None, reason
    schemes = usable_schemes(credentials, configuration.signature_schemes, accepts, schemes_for_key13)
    return (schemes[0], "") if schemes else (None, NO_COMMON_SCHEME)
