"""What a client offers in its ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2)."""

from collections.abc import Callable, Mapping, Sequence

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.key_exchange import KeyShare
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    HYBRID_GROUPS,
    CertificateType,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from mediapeer.dtls.resumption import takes_peer
from mediapeer.dtls.session import Session

SESSION_ID_LENGTH = 32


def own_certificate_types(configuration: DtlsConfiguration) -> tuple[CertificateType, ...]:
    """What a client can authenticate with: what the configuration says, else what its credentials are."""
    if configuration.own_certificate_types is not None:
        return configuration.own_certificate_types
    types = dict.fromkeys(credentials.certificate_type for credentials in configuration.signing_credentials)
    return tuple(types) or (CertificateType.X509,)


def is_resumable(configuration: DtlsConfiguration, session: Session, now: float) -> bool:
    """Whether a client may offer ``session``: it has not run out, and goes with the configuration.

    The server must be one that a full handshake could let in too, and of the same name.
    """
    parameters = CIPHER_SUITE_PARAMETERS[session.cipher_suite]
    if session.version is ProtocolVersion.DTLS_1_3:
        # Any suite with the same hash will do (RFC 8446 §4.6.1).
        suites = configuration.suites_of(ProtocolVersion.DTLS_1_3)
        fits = parameters.hash_name in {CIPHER_SUITE_PARAMETERS[suite].hash_name for suite in suites}
    else:
        lacks_secret = configuration.require_extended_master_secret and not session.extended_master_secret
        runs = session.cipher_suite in configuration.cipher_suites and configuration.runs(
            session.cipher_suite
        )
        fits = runs and not lacks_secret and bool(session.ticket or session.session_id)
    return (
        fits
        and session.version in configuration.versions
        and session.is_fresh(now)
        and session.server_name == configuration.server_name
        and takes_peer(configuration, session, Role.CLIENT)
    )


def client_hello(
    configuration: DtlsConfiguration,
    random: bytes,
    key_shares: Mapping[NamedGroup, KeyShare],
    session: Session | None,
    *,
    offers_psk: bool,
) -> ClientHello:
    """The first ClientHello, still without pre_shared_key.

    :param session: what is to be resumed.
    :param offers_psk: whether a pre_shared_key is to follow.
    """
    versions = configuration.versions
    suites: list[int] = [
        suite
        for suite in configuration.cipher_suites
        if CIPHER_SUITE_PARAMETERS[suite].version in versions and configuration.runs(suite)
    ]
    block = _Offer(configuration, session).extensions(key_shares, offers_psk=offers_psk)
    if configuration.grease:
        suites.insert(0, _grease(configuration.random_bytes))
        block = _greased(block, configuration.random_bytes)
    if configuration.permute_extensions:
        block = _permuted(block, configuration.random_bytes)
    session_id = b""
    if session is not None and session.version is ProtocolVersion.DTLS_1_2:
        # A server that takes the ticket echoes the ID, and so tells that it does (RFC 5077 §3.4).
        session_id = session.session_id or configuration.random_bytes(SESSION_ID_LENGTH)
    return ClientHello(ProtocolVersion.DTLS_1_2, random, tuple(suites), block, session_id=session_id)


class _Offer:
    """The extensions of a configuration."""

    def __init__(self, configuration: DtlsConfiguration, session: Session | None) -> None:
        self._configuration = configuration
        self._session = session
        self._speaks_12 = ProtocolVersion.DTLS_1_2 in configuration.versions
        self._speaks_13 = ProtocolVersion.DTLS_1_3 in configuration.versions

    def extensions(self, key_shares: Mapping[NamedGroup, KeyShare], *, offers_psk: bool) -> dict[int, bytes]:
        configuration = self._configuration
        groups = tuple(g for g in configuration.groups if self._speaks_13 or g not in HYBRID_GROUPS)
        offer: dict[int, bytes] = {}
        if configuration.server_name is not None:
            offer[ExtensionType.SERVER_NAME] = extensions.serialize_server_name(configuration.server_name)
        if self._speaks_12:
            offer |= self._of_12()
        offer[ExtensionType.SUPPORTED_GROUPS] = extensions.serialize_uint16_list(groups)
        if configuration.alpn_protocols:
            offer[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = extensions.serialize_alpn(
                configuration.alpn_protocols
            )
        if configuration.verifier is not None:
            offer |= self._of_certificates()
        if configuration.srtp_profiles:
            offer[ExtensionType.USE_SRTP] = extensions.UseSrtp(configuration.srtp_profiles).serialize()
        if configuration.record_size_limit is not None:
            offer[ExtensionType.RECORD_SIZE_LIMIT] = extensions.serialize_uint16(
                configuration.record_size_limit
            )
        if self._speaks_13:
            offer[ExtensionType.SUPPORTED_VERSIONS] = extensions.serialize_supported_versions(
                configuration.versions
            )
            offer[ExtensionType.KEY_SHARE] = extensions.serialize_client_shares(
                {group: share.public for group, share in key_shares.items()}
            )
            if offers_psk or configuration.resume_sessions:
                offer[ExtensionType.PSK_KEY_EXCHANGE_MODES] = extensions.serialize_psk_key_exchange_modes(
                    bytes([PskKeyExchangeMode.PSK_DHE_KE])
                )
        return offer

    def _of_12(self) -> dict[int, bytes]:
        offer = {
            int(ExtensionType.EXTENDED_MASTER_SECRET): b"",
            int(ExtensionType.RENEGOTIATION_INFO): extensions.RENEGOTIATION_INFO_BODY,
            int(ExtensionType.EC_POINT_FORMATS): extensions.EC_POINT_FORMATS_BODY,
        }
        ticket = b""
        if self._session is not None and self._session.version is ProtocolVersion.DTLS_1_2:
            ticket = self._session.ticket
        if ticket or self._configuration.resume_sessions:
            offer[ExtensionType.SESSION_TICKET] = ticket
        return offer

    def _of_certificates(self) -> dict[int, bytes]:
        configuration = self._configuration
        offer = {
            int(ExtensionType.SIGNATURE_ALGORITHMS): extensions.serialize_uint16_list(
                configuration.signature_schemes
            )
        }
        if configuration.request_ocsp_response:
            offer[ExtensionType.STATUS_REQUEST] = extensions.STATUS_REQUEST_BODY
        if configuration.request_signed_certificate_timestamps:
            offer[ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP] = b""
        if configuration.certificate_authorities:
            offer[ExtensionType.CERTIFICATE_AUTHORITIES] = extensions.serialize_certificate_authorities(
                configuration.certificate_authorities
            )
        # X.509 is what goes without saying (RFC 7250 §4.1).
        if configuration.peer_certificate_types != (CertificateType.X509,):
            offer[ExtensionType.SERVER_CERTIFICATE_TYPE] = extensions.serialize_certificate_types(
                configuration.peer_certificate_types
            )
        if (own := own_certificate_types(configuration)) != (CertificateType.X509,):
            offer[ExtensionType.CLIENT_CERTIFICATE_TYPE] = extensions.serialize_certificate_types(own)
        return offer


# GREASE (RFC 8701), and extensions in any order

_GREASE_VALUES = tuple(0x0A0A + 0x1010 * n for n in range(16))


def _grease(random_bytes: Callable[[int], bytes]) -> int:
    """A code point that means nothing, and never will."""
    return _GREASE_VALUES[random_bytes(1)[0] % len(_GREASE_VALUES)]


def _greased(block: Mapping[int, bytes], random_bytes: Callable[[int], bytes]) -> dict[int, bytes]:
    """The block with unknown extensions at both ends, and unknown values at the head of lists (RFC 8701 §3.1)."""
    first = _grease(random_bytes)
    last = _GREASE_VALUES[(_GREASE_VALUES.index(first) + 1) % len(_GREASE_VALUES)]
    greased = {first: b""} | dict(block) | {last: b"\0"}
    group = _grease(random_bytes)
    for kind, value in ((ExtensionType.SUPPORTED_GROUPS, group), (ExtensionType.SIGNATURE_ALGORITHMS, None)):
        if kind in greased:
            values = extensions.parse_uint16_list(greased[kind])
            unknown = _grease(random_bytes) if value is None else value
            greased[kind] = extensions.serialize_uint16_list((unknown, *values))
    if (body := greased.get(ExtensionType.SUPPORTED_VERSIONS)) is not None:
        versions = extensions.parse_supported_versions(body)
        greased[ExtensionType.SUPPORTED_VERSIONS] = extensions.serialize_supported_versions(
            (_grease(random_bytes), *versions)
        )
    if (body := greased.get(ExtensionType.KEY_SHARE)) is not None:
        shares = {group: b"\0"} | extensions.parse_client_shares(body)
        greased[ExtensionType.KEY_SHARE] = extensions.serialize_client_shares(shares)
    return greased


def _permuted(block: Mapping[int, bytes], random_bytes: Callable[[int], bytes]) -> dict[int, bytes]:
    """The same extensions in random order; which one does not matter, only that it changes."""
    keyed: Sequence[tuple[bytes, int]] = sorted((random_bytes(8), kind) for kind in block)
    return {kind: block[kind] for _, kind in keyed}
