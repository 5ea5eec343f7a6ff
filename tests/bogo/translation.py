"""The runner's flags as a configuration of the engine.

What BoringSSL does by default is what the runner expects of a shim, so it stands here: versions, groups, time-outs,
limits. None of it is special to a test.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mediapeer.dtls import (
    AlertDescription,
    CertificateRejected,
    CertificateType,
    CipherSuite,
    ClientAuthentication,
    DtlsConfiguration,
    ImportedPreSharedKey,
    NamedGroup,
    NegotiationFailed,
    OpenedTicket,
    PreSharedKey,
    ProtocolVersion,
    RawPublicKeyCredentials,
    Session,
    SessionCache,
    SignatureScheme,
    SrtpProtectionProfile,
    TicketKeys,
    X509Credentials,
)
from mediapeer.dtls.reassembly import parse_fragments
from mediapeer.dtls.registry import ContentType

from .flags import CredentialFlags, ExpectationFailed, Flags, Unimplemented

DEFAULT_GROUPS = (
    NamedGroup.X25519MLKEM768,
    NamedGroup.X25519,
    NamedGroup.SECP256R1,
    NamedGroup.SECP384R1,
)
DEFAULT_MTU = 1500 - 28
"An Ethernet frame without the headers of IPv4 and UDP."
INITIAL_TIMEOUT = 0.4
MAXIMUM_TIMEOUT = 60.0
MAXIMUM_RETRANSMISSIONS = 12
TIMER_GRANULARITY = 0.015
MAXIMUM_MESSAGE_SIZE = 16_384
MAXIMUM_CERTIFICATES_SIZE = 102_400
"What may come from a peer that may send certificates, unless the runner says otherwise."
_DTLS_1_0 = 0xFEFF

T = TypeVar("T")


@dataclass
class Process:
    """What outlives a connection: what a server needs to know its sessions again, and a client's session."""

    ticket_keys: TicketKeys = field(default_factory=TicketKeys)
    session_cache: "ShimSessionCache" = field(default_factory=lambda: ShimSessionCache())
    session: Session | None = None
    "What the latest connection has established, for the next one to resume."
    verification_failed: bool = False
    "What the verifier said of the peer when it was last asked."


class ShimSessionCache(SessionCache):
    """A cache that says whether something was added."""

    def __init__(self) -> None:
        super().__init__()
        self.additions = 0

    def add(self, session: Session) -> None:
        """Keep a session, and count it."""
        self.additions += 1
        super().add(session)


class ShimTickets:
    """Seals tickets as the flags say: not at all, or to be renewed each time."""

    def __init__(self, flags: Flags, keys: TicketKeys) -> None:
        self._flags = flags
        self._keys = keys
        self._was_opened = False

    def seal(self, contents: bytes, now: float) -> bytes | None:
        """A ticket, unless the flags want none."""
        return None if self._flags.skip_ticket else self._keys.seal(contents, now)

    def open(self, ticket: bytes, now: float) -> OpenedTicket | None:
        """What is in the ticket. A program that is called back for it is called once, if that one opens."""
        calls_back = self._flags.use_ticket_callback or self._flags.use_ticket_aead_callback
        if self._was_opened and calls_back:
            raise ExpectationFailed("a ticket is to be opened after another was")
        opened = self._keys.open(ticket, now)
        self._was_opened = opened is not None
        return opened and OpenedTicket(opened.contents, renew=self._flags.renew_ticket)


class ShimVerifier:
    """Takes or refuses every peer, as the flags say, and remembers what it did."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self.was_asked = False
        self.has_failed = False

    def verify_peer(self, chain: Sequence[bytes]) -> None:
        """Refuse the peer if the flags want that and its certificate matters; then its OCSP response."""
        flags = self._flags
        if not chain:
            return
        self.was_asked = True
        self.has_failed = flags.verify_fail
        if flags.verify_fail and flags.use_custom_verify_callback:
            raise CertificateRejected("the verifier refuses the peer", AlertDescription.CERTIFICATE_UNKNOWN)
        if flags.verify_fail and (flags.verify_peer or flags.require_any_client_certificate):
            raise CertificateRejected("the verifier refuses the peer", AlertDescription.HANDSHAKE_FAILURE)
        if flags.fail_ocsp_callback and flags.enable_ocsp_stapling and not flags.server:
            alert = AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE
            raise CertificateRejected("the verifier refuses the OCSP response", alert)

    def verify_raw_public_key(self, public_key_info: bytes) -> None:
        """Refuse a key that is not the one in the flags."""
        self.was_asked = True
        if hashlib.sha256(public_key_info).digest() != self._flags.expect_peer_rpk_sha256:
            raise CertificateRejected("the verifier refuses the key", AlertDescription.CERTIFICATE_UNKNOWN)


@dataclass
class Translation:
    """A configuration, and what its parts are called by the runner."""

    configuration: DtlsConfiguration
    verifier: ShimVerifier
    credentials: list[Any] = field(default_factory=list)
    "Those the runner numbers, from 0; the default one is not among them."
    trace: list[str] = field(default_factory=list)
    "What was sent and received, in the runner's words."


def translate(flags: Flags, process: Process) -> Translation:
    """The configuration that ``flags`` describe.

    :raises Unimplemented: when the engine does not have what they want.
    :raises ConfigurationError: when the engine refuses it.
    """
    verifier = ShimVerifier(flags)
    is_psk_alone = bool(flags.credentials) and all(each.kind == "psk" for each in flags.credentials)
    numbered = [_credentials(each) for each in flags.credentials]
    credentials = list(numbered)
    if flags.default_credential.cert_file or flags.default_credential.key_file:
        credentials.append(_credentials(flags.default_credential, flags))
    if flags.psk:
        versions = (ProtocolVersion.DTLS_1_2,)
        identity = flags.psk_identity
        credentials.append(PreSharedKey(identity, flags.psk, versions=versions, allow_short_key=True))
    wanted: dict[str, object] = {
        # Whoever has pre-shared keys and asks for no certificate takes none.
        "verifier": None if is_psk_alone and not flags.verify_peer else verifier,
        "credentials": tuple(credentials),
        "cipher_suites": tuple(CipherSuite),
        "require_extended_master_secret": False,
        **_versions(flags),
        **_path(flags),
        **_authentication(flags),
        **_extensions(flags),
        **_sessions(flags, process),
    }
    trace: list[str] = []
    if flags.expect_msg_callback:
        wanted["trace"] = functools.partial(_note_message, trace)
    return Translation(_make(DtlsConfiguration, wanted), verifier, numbered, trace)


def _note_message(trace: list[str], is_sent: bool, content_type: int, plaintext: bytes) -> None:
    """Write down a message as the runner's traces name it."""
    verb = "write" if is_sent else "read"
    if content_type == ContentType.HANDSHAKE:
        trace.extend(f"{verb} hs {fragment.handshake_type}\n" for fragment in parse_fragments(plaintext))
    elif content_type == ContentType.ALERT:
        trace.append(f"{verb} alert {plaintext[0]} {plaintext[1]}\n")
    else:
        trace.append(f"{verb} {'ack' if content_type == ContentType.ACK else 'ccs'}\n")


def _make(kind: type[T], wanted: Mapping[str, object]) -> T:
    """An instance of a dataclass of the engine, if it has all the fields that are wanted."""
    _check_fields(kind, wanted)
    return kind(**wanted)


def _check_fields(kind: type, wanted: Mapping[str, object]) -> None:
    missing = wanted.keys() - {each.name for each in fields(kind)}
    if missing:
        raise Unimplemented(f"{kind.__name__} has no {', '.join(sorted(missing))}")


def _versions(flags: Flags) -> dict[str, object]:
    # DTLS 1.0 is what the flags start from. This engine does not have it, so its range begins above.
    minimum = min(flags.min_version or _DTLS_1_0, ProtocolVersion.DTLS_1_2)
    maximum = flags.max_version or ProtocolVersion.DTLS_1_3
    if flags.no_tls12 and minimum == ProtocolVersion.DTLS_1_2:
        minimum = ProtocolVersion.DTLS_1_3
    if flags.no_tls13 and maximum == ProtocolVersion.DTLS_1_3:
        maximum = ProtocolVersion.DTLS_1_2
    wanted: dict[str, object] = {
        "minimum_version": ProtocolVersion(minimum),
        "maximum_version": ProtocolVersion(maximum),
        "groups": _members(NamedGroup, flags.curves) or DEFAULT_GROUPS,
    }
    if flags.verify_prefs:
        wanted["signature_schemes"] = _members(SignatureScheme, flags.verify_prefs)
    if flags.enable_grease:
        wanted["grease"] = True
    if flags.permute_extensions:
        wanted["permute_extensions"] = True
    return wanted


def _members(kind: Any, values: Sequence[int]) -> tuple[Any, ...]:
    try:
        return tuple(kind(value) for value in values)
    except ValueError as error:
        raise Unimplemented(str(error)) from None


def _path(flags: Flags) -> dict[str, object]:
    takes_certificates = not flags.server or _client_authentication(flags) is not ClientAuthentication.NONE
    return {
        "mtu": flags.mtu or DEFAULT_MTU,
        "initial_retransmission_timeout": flags.initial_timeout_duration_ms / 1000 or INITIAL_TIMEOUT,
        "maximum_retransmission_timeout": MAXIMUM_TIMEOUT,
        "maximum_retransmissions": MAXIMUM_RETRANSMISSIONS,
        "handshake_timeout": None,
        "timer_granularity": TIMER_GRANULARITY,
        "is_eager": False,
        "mtu_backs_off": False,
        "repeats_apart": False,
        "maximum_handshake_message_size": max(
            MAXIMUM_MESSAGE_SIZE,
            (flags.max_cert_list or MAXIMUM_CERTIFICATES_SIZE) if takes_certificates else 0,
        ),
    }


def _client_authentication(flags: Flags) -> ClientAuthentication:
    if flags.verify_peer:
        return ClientAuthentication.OPTIONAL
    if flags.require_any_client_certificate:
        return ClientAuthentication.REQUIRED
    return ClientAuthentication.NONE


def _authentication(flags: Flags) -> dict[str, object]:
    wanted: dict[str, object] = {"client_authentication": _client_authentication(flags)}
    if not flags.server:
        wanted["insist_on_credentials"] = True
    if flags.host_name:
        wanted["server_name"] = os.fsdecode(flags.host_name)
    if flags.no_server_name_ack:
        wanted["acknowledge_server_name"] = False
    if flags.accepted_peer_cert_types:
        wanted["peer_certificate_types"] = _members(CertificateType, flags.accepted_peer_cert_types)
    if flags.available_client_cert_types:
        wanted["own_certificate_types"] = _members(CertificateType, flags.available_client_cert_types)
    if flags.enable_ocsp_stapling:
        wanted["request_ocsp_response"] = True
    if flags.enable_signed_cert_timestamps:
        wanted["request_signed_certificate_timestamps"] = True
    if flags.psk_identity and flags.server:
        wanted["psk_identity_hint"] = flags.psk_identity
    return wanted


def _extensions(flags: Flags) -> dict[str, object]:
    wanted: dict[str, object] = {}
    if flags.srtp_profiles:
        names = os.fsdecode(flags.srtp_profiles).split(":")
        known = SrtpProtectionProfile.__members__
        if not set(names) <= known.keys():
            raise Unimplemented(f"-srtp-profiles {':'.join(names)}")
        wanted["srtp_profiles"] = tuple(known[name] for name in names)
    if flags.advertise_alpn:
        wanted["alpn_protocols"] = _split_alpn(flags.advertise_alpn)
    if flags.allow_unknown_alpn_protos:
        wanted["accept_unoffered_alpn"] = True
    if flags.select_alpn or flags.select_empty_alpn or flags.decline_alpn or flags.reject_alpn:
        wanted["alpn_selector"] = functools.partial(_select_alpn, flags)
    return wanted


def _split_alpn(names: bytes) -> tuple[bytes, ...]:
    protocols = []
    while names:
        protocols.append(names[1 : 1 + names[0]])
        names = names[1 + names[0] :]
    return tuple(protocols)


def _select_alpn(flags: Flags, offered: tuple[bytes, ...]) -> bytes | None:
    """What a server's program answers to an offer of application protocols."""
    if flags.decline_alpn:
        return None
    if flags.reject_alpn:
        alert = AlertDescription.NO_APPLICATION_PROTOCOL
        raise NegotiationFailed("the program takes none of the application protocols", alert)
    if flags.expect_advertised_alpn and offered != _split_alpn(flags.expect_advertised_alpn):
        raise NegotiationFailed("the wrong protocols are offered", AlertDescription.INTERNAL_ERROR)
    return flags.select_alpn


def _sessions(flags: Flags, process: Process) -> dict[str, object]:
    wanted: dict[str, object] = {"verify_on_resumption": flags.reverify_on_resume}
    if not flags.server:
        wanted["resume_sessions"] = True
        return wanted
    wanted["session_cache"] = process.session_cache
    if not flags.no_ticket:
        wanted["session_tickets"] = ShimTickets(flags, process.ticket_keys)
    return wanted


def _credentials(given: CredentialFlags, flags: Flags | None = None) -> Any:
    """Credentials of the engine. ``flags`` are those of the connection, for the default ones."""
    schemes = _members(SignatureScheme, given.signing_prefs) or None
    if given.kind == "psk":
        hash_name = "sha384" if given.psk_importer_sha384 else "sha256"
        wanted: dict[str, object] = {
            "identity": bytes(given.psk_importer_identity),
            "key": bytes(given.psk_importer_key),
            "context": bytes(given.psk_importer_context),
            "hash_name": hash_name,
        }
        return _make(ImportedPreSharedKey, wanted)
    key = _read(given.key_file)
    if given.kind == "rpk":
        wanted = {"private_key": load_pem_private_key(key, None), "signature_schemes": schemes}
        return _make(RawPublicKeyCredentials, wanted)
    extra: dict[str, object] = {}
    if schemes:
        extra["signature_schemes"] = schemes
    if given.must_match_issuer:
        extra["must_match_issuer"] = True
    if flags is not None and flags.server and flags.use_ocsp_callback:
        extra["ocsp_response"] = functools.partial(_hand_out_ocsp_response, flags)
    elif given.ocsp_response:
        extra["ocsp_response"] = bytes(given.ocsp_response)
    if given.signed_cert_timestamps:
        extra["signed_certificate_timestamps"] = bytes(given.signed_cert_timestamps)
    credentials = X509Credentials.from_pem(_read(given.cert_file), key)
    _check_fields(X509Credentials, extra)
    return replace(credentials, **extra)  # type: ignore[arg-type]


def _hand_out_ocsp_response(flags: Flags) -> bytes:
    """What a server's program does when it is asked for its OCSP response."""
    if flags.fail_ocsp_callback:
        raise LookupError("there is no OCSP response")
    return b"" if flags.decline_ocsp_callback else bytes(flags.default_credential.ocsp_response)


def _read(path: bytes) -> bytes:
    return pathlib.Path(os.fsdecode(path)).read_bytes() if path else b""
