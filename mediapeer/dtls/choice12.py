"""What a server of DTLS 1.2 chooses from a ClientHello (RFC 5246 §7.4.1.3, RFC 8422 §5.1, RFC 4279, RFC 7250 §4)."""

from collections.abc import Sequence
from dataclasses import dataclass

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration
from mediapeer.dtls.credentials import (
    Credentials,
    SigningCredentials,
    authentication_method,
    schemes_for_key,
)
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.psk import ImportedPreSharedKey, PreSharedKey
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    AuthenticationMethod,
    CertificateType,
    CipherSuite,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)
from mediapeer.dtls.selection import NO_COMMON_SCHEME, PeerAccepts, mismatch, nothing_fits, usable_schemes

NO_SHARED_CIPHER_SUITE = "offers no cipher suite that goes with our keys and its groups"
WRONG_CURVE = "does not take the curve of our certificate's key"

_GROUP_OF_CURVE = {
    "secp256r1": NamedGroup.SECP256R1,
    "secp384r1": NamedGroup.SECP384R1,
    "secp521r1": NamedGroup.SECP521R1,
}
_SCHEME_FOR_CURVE = {
    "secp256r1": SignatureScheme.ECDSA_SECP256R1_SHA256,
    "secp384r1": SignatureScheme.ECDSA_SECP384R1_SHA384,
    "secp521r1": SignatureScheme.ECDSA_SECP521R1_SHA512,
}


@dataclass(frozen=True, slots=True)
class Choice12:
    """A cipher suite, and what the server does in it."""

    cipher_suite: CipherSuite
    group: NamedGroup | None = None
    "The group of the key exchange, or ``None`` with a bare PSK."
    signing: SigningCredentials | None = None
    "What the server authenticates with; ``None`` where a pre-shared key does."
    scheme: SignatureScheme | None = None
    "What it signs by."


def choose12(configuration: DtlsConfiguration, hello: ClientHello) -> Choice12:
    """Choose the first of our credentials that the client can deal with, and for it the first of our cipher suites.

    :raises NegotiationFailed: with ``handshake_failure`` when nothing fits; it tells why the last one does not.
    """
    chooser = _Chooser(configuration, hello)
    reason = NO_SHARED_CIPHER_SUITE
    for credentials in configuration.credentials:
        choice, reason = chooser.choose(credentials)
        if choice is not None:
            return choice
    raise nothing_fits(reason)


def choose_schemes12(
    credentials: SigningCredentials, ours: Sequence[SignatureScheme], accepts: PeerAccepts
) -> list[SignatureScheme]:
    """The schemes by which ``credentials`` can sign for this peer, the best first; for clients too.

    That is our order, but an ECDSA key takes the hash of its own size first, if it was not told otherwise: a peer
    that thinks in terms of DTLS 1.3 then finds what it expects.
    """
    schemes = usable_schemes(credentials, ours, accepts, schemes_for_key)
    natural = _SCHEME_FOR_CURVE.get(_curve_name(credentials))
    if natural in schemes and credentials.signature_schemes is None:
        schemes.remove(natural)
        schemes.insert(0, natural)
    return schemes


class _Chooser:
    """What a ClientHello offers, seen from each of our credentials."""

    def __init__(self, configuration: DtlsConfiguration, hello: ClientHello) -> None:
        self._configuration = configuration
        self._suites = [
            suite
            for suite in configuration.suites_of(ProtocolVersion.DTLS_1_2)
            if suite in hello.cipher_suites and configuration.runs(suite)
        ]
        block = hello.extensions
        groups = block.get(ExtensionType.SUPPORTED_GROUPS)
        schemes = block.get(ExtensionType.SIGNATURE_ALGORITHMS)
        types = block.get(ExtensionType.SERVER_CERTIFICATE_TYPE)
        authorities = block.get(ExtensionType.CERTIFICATE_AUTHORITIES)
        self._client_groups = extensions.parse_uint16_list(groups) if groups is not None else None
        self._accepts = PeerAccepts(
            # A client that says nothing means SHA-1 (RFC 5246 §7.4.1.4.1), which is not spoken here.
            extensions.parse_uint16_list(schemes) if schemes is not None else (),
            extensions.parse_certificate_types(types) if types is not None else (CertificateType.X509,),
            extensions.parse_certificate_authorities(authorities) if authorities is not None else (),
        )
        self._group = self._choose_group()

    def choose(self, credentials: Credentials) -> tuple[Choice12 | None, str]:
        """What to do with these credentials, or ``None`` and why they are not for this client."""
        if isinstance(credentials, ImportedPreSharedKey):
            return None, NO_SHARED_CIPHER_SUITE  # of DTLS 1.3 only
        if isinstance(credentials, PreSharedKey):
            fits = ProtocolVersion.DTLS_1_2 in credentials.versions
            choice = self._choose_suite(AuthenticationMethod.PSK) if fits else None
            return choice, NO_SHARED_CIPHER_SUITE
        return self._choose_signing(credentials)

    def _choose_signing(self, credentials: SigningCredentials) -> tuple[Choice12 | None, str]:
        reason = mismatch(credentials, self._accepts)
        if reason is not None:
            return None, reason
        if not self._takes_curve(credentials):
            return None, WRONG_CURVE
        choice = self._choose_suite(authentication_method(credentials.private_key))
        if choice is None:
            return None, NO_SHARED_CIPHER_SUITE
        schemes = choose_schemes12(credentials, self._configuration.signature_schemes, self._accepts)
        if not schemes:
            return None, NO_COMMON_SCHEME
        return Choice12(choice.cipher_suite, choice.group, credentials, schemes[0]), ""

    def _choose_suite(self, method: AuthenticationMethod) -> Choice12 | None:
        for suite in self._suites:
            parameters = CIPHER_SUITE_PARAMETERS[suite]
            if parameters.authentication is not method:
                continue
            if not parameters.is_ephemeral:
                return Choice12(suite)
            if self._group is not None:
                return Choice12(suite, self._group)
        return None

    def _choose_group(self) -> NamedGroup | None:
        # A client that says nothing takes any; P-256 is what it surely has (RFC 8422 §4).
        offered = (NamedGroup.SECP256R1,) if self._client_groups is None else self._client_groups
        groups = self._configuration.groups
        return next((g for g in groups if g in offered and g not in HYBRID_GROUPS), None)

    def _takes_curve(self, credentials: SigningCredentials) -> bool:
        """Whether the client can work with the curve of our key (RFC 8422 §5.1)."""
        curve = _curve_name(credentials)
        return not curve or self._client_groups is None or _GROUP_OF_CURVE.get(curve) in self._client_groups


def _curve_name(credentials: SigningCredentials) -> str:
    """The curve of an ECDSA key; empty for other keys."""
    name: str = getattr(getattr(credentials.private_key, "curve", None), "name", "")
    return name
