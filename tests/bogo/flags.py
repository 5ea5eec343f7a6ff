"""What the runner asks of the shim on its command line.

A flag that is not a field of :class:`Flags` or :class:`CredentialFlags` has no place in this engine:
:func:`parse` raises :class:`Unimplemented`, and the shim says so to the runner.
"""

import base64
import binascii
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

CREDENTIAL_KINDS = {"new-x509-credential": "x509", "new-rpk-credential": "rpk", "new-psk-credential": "psk"}
_PREFIXES = {"on-initial-": (0,), "on-resume-": (1,), "on-retry-": (2,), "on-shim-": (0, 1, 2)}


class Unimplemented(Exception):
    """The runner asks for something that the engine or the shim does not have."""


class ExpectationFailed(Exception):
    """Something is not as the runner says that it must be."""


@dataclass
class CredentialFlags:
    """Who the shim is to be: one set of credentials."""

    kind: str = "x509"
    cert_file: bytes = b""
    key_file: bytes = b""
    signing_prefs: list[int] = field(default_factory=list)
    ocsp_response: bytearray = field(default_factory=bytearray)
    signed_cert_timestamps: bytearray = field(default_factory=bytearray)
    must_match_issuer: bool = False
    psk_importer_key: bytearray = field(default_factory=bytearray)
    psk_importer_identity: bytearray = field(default_factory=bytearray)
    psk_importer_context: bytearray = field(default_factory=bytearray)
    psk_importer_sha256: bool = False
    psk_importer_sha384: bool = False


@dataclass
class Flags:
    """The flags of one connection. A field's type says how its value is written.

    ``bool``: no value; ``int``: decimal; ``bytes``: as it is; ``bytearray``: base64; ``list``: decimal, repeated.
    """

    port: int = 0
    shim_id: int = 0
    ipv6: bool = False
    server: bool = False
    dtls: bool = False
    resume_count: int = 0
    is_handshaker_supported: bool = False
    # How the shim goes about it. The engine has no blocking calls and no callbacks, so most of these change nothing.
    asynchronous: bool = field(default=False, metadata={"flag": "async"})
    implicit_handshake: bool = False
    use_early_callback: bool = False
    use_old_client_cert_callback: bool = False
    trust_cert: bytes = b""
    # Versions, suites and groups
    min_version: int = 0
    max_version: int = 0
    no_tls1: bool = False
    no_tls11: bool = False
    no_tls12: bool = False
    no_tls13: bool = False
    curves: list[int] = field(default_factory=list)
    verify_prefs: list[int] = field(default_factory=list)
    enable_grease: bool = False
    permute_extensions: bool = False
    # The path
    mtu: int = 0
    initial_timeout_duration_ms: int = 0
    max_cert_list: int = 0
    # Authentication
    host_name: bytes = b""
    verify_peer: bool = False
    verify_fail: bool = False
    require_any_client_certificate: bool = False
    use_custom_verify_callback: bool = False
    reverify_on_resume: bool = False
    available_client_cert_types: list[int] = field(default_factory=list)
    accepted_peer_cert_types: list[int] = field(default_factory=list)
    enable_ocsp_stapling: bool = False
    use_ocsp_callback: bool = False
    set_ocsp_in_callback: bool = False
    decline_ocsp_callback: bool = False
    fail_ocsp_callback: bool = False
    enable_signed_cert_timestamps: bool = False
    psk: bytes = b""
    psk_identity: bytes = b""
    # Sessions
    no_ticket: bool = False
    renew_ticket: bool = False
    skip_ticket: bool = False
    use_ticket_callback: bool = False
    use_ticket_aead_callback: bool = False
    enable_early_data: bool = False
    # Extensions
    advertise_alpn: bytes = b""
    select_alpn: bytes = b""
    select_empty_alpn: bool = False
    decline_alpn: bool = False
    reject_alpn: bool = False
    allow_unknown_alpn_protos: bool = False
    no_server_name_ack: bool = False
    srtp_profiles: bytes = b""
    # What the shim does when the handshake is done
    export_keying_material: int = 0
    export_label: bytes = b""
    export_context: bytes = b""
    use_export_context: bool = False
    send_alert: bool = False
    shim_writes_first: bool = False
    key_update_before_read: bool = False
    # What must have been negotiated
    expect_version: int = 0
    expect_cipher: int = 0
    expect_curve_id: int = 0
    expect_hrr: bool = False
    expect_no_hrr: bool = False
    expect_alpn: bytes = b""
    expect_advertised_alpn: bytes = b""
    expect_server_name: bytes = b""
    expect_selected_credential: int | None = None
    expect_verify_result: bool = False
    expect_no_peer_cert: bool = False
    expect_peer_rpk_sha256: bytearray = field(default_factory=bytearray)
    expect_peer_certificate_type: int | None = None
    expect_ocsp_response: bytearray = field(default_factory=bytearray)
    expect_signed_cert_timestamps: bytearray = field(default_factory=bytearray)
    expect_session_miss: bool = False
    expect_session_id: bool = False
    expect_no_session_id: bool = False
    expect_no_session: bool = False
    expect_ticket_renewal: bool = False
    expect_ticket_supports_early_data: bool = False
    expect_accept_early_data: bool = False
    expect_early_data_reason: bytes = b""
    expect_msg_callback: bytes = b""
    # Filled by the flags of credentials
    default_credential: CredentialFlags = field(default_factory=CredentialFlags, metadata={"flag": None})
    credentials: list[CredentialFlags] = field(default_factory=list, metadata={"flag": None})

    @property
    def target(self) -> CredentialFlags:
        """The credentials that the next flag about credentials speaks of."""
        return self.credentials[-1] if self.credentials else self.default_credential


def _names(of: type) -> dict[str, tuple[str, object]]:
    """Flag to field name and type, for a class of flags."""
    found = {}
    for each in fields(of):
        flag = each.metadata.get("flag", each.name.replace("_", "-"))
        if flag is not None and flag != "kind":
            found[flag] = (each.name, each.type)
    return found


_CONNECTION_FLAGS = _names(Flags)
_CREDENTIAL_FLAGS = _names(CredentialFlags)


def parse(arguments: Sequence[str]) -> tuple[Flags, Flags, Flags]:
    """Read the command line: the flags of the first connection, of resumptions, and of retries after 0-RTT.

    :raises Unimplemented: for a flag or a value that is not known.
    """
    connections = Flags(), Flags(), Flags()
    rest = iter(arguments)
    for argument in rest:
        name = argument.removeprefix("-")
        chosen: tuple[int, ...] = (0, 1, 2)
        for prefix, which in _PREFIXES.items():
            if name.startswith(prefix):
                name, chosen = name.removeprefix(prefix), which
        targets = [connections[each] for each in chosen]
        if name in CREDENTIAL_KINDS:
            for flags in targets:
                flags.credentials.append(CredentialFlags(CREDENTIAL_KINDS[name]))
        elif name in _CREDENTIAL_FLAGS:
            _apply([flags.target for flags in targets], argument, *_CREDENTIAL_FLAGS[name], rest)
        elif name in _CONNECTION_FLAGS:
            _apply(targets, argument, *_CONNECTION_FLAGS[name], rest)
        else:
            raise Unimplemented(f"the flag {argument} is not known")
    return connections


def _apply(
    targets: Sequence[Flags | CredentialFlags], flag: str, name: str, kind: object, rest: Iterator[str]
) -> None:
    if kind is bool:
        for target in targets:
            setattr(target, name, True)
        return
    value = next(rest, None)
    if value is None:
        raise Unimplemented(f"the flag {flag} has no value")
    try:
        for target in targets:
            if kind == list[int]:
                getattr(target, name).append(int(value))
            elif kind is bytearray:
                setattr(target, name, bytearray(base64.b64decode(value, validate=True)))
            else:
                setattr(target, name, os.fsencode(value) if kind is bytes else int(value))
    except (ValueError, binascii.Error):
        raise Unimplemented(f"the flag {flag} has the value {value!r}") from None
