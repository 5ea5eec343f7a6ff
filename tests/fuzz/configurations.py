"""What the two ends of a duel are configured with. A new feature of the engine is fuzzed when it stands here."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mediapeer.dtls import (
    AcceptAnyPeer,
    CipherSuite,
    ClientAuthentication,
    DtlsConfiguration,
    ImportedPreSharedKey,
    NamedGroup,
    PreSharedKey,
    ProtocolVersion,
    Role,
    SessionCache,
    SignatureScheme,
    SrtpProtectionProfile,
    TicketKeys,
)
from mediapeer.dtls.registry import CertificateType, ExtensionType
from tests.fuzz.determinism import credentials, raw_public_key, stapled

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
CURVES = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)
BOTH_TYPES = (CertificateType.RAW_PUBLIC_KEY, CertificateType.X509)


@dataclass(frozen=True)
class Fresh:
    """An option that keeps something, and so is made for each duel."""

    make: Callable[[random.Random], object]


@dataclass(frozen=True)
class Meeting:
    """The options of both ends, and of each. The place of a meeting in the table is how inputs call it."""

    name: str
    both: Mapping[str, Any] = field(default_factory=dict)
    client: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "ed25519"
    "The kind of both ends' keys."
    is_repeatable: bool = True
    "Whether each byte is the same the next time; otherwise each length is."
    is_second: bool = False
    "Whether the two have met before, and the client has a session."

    def configuration(self, role: Role, generator: random.Random) -> DtlsConfiguration:
        """What the end of that role is given."""
        options: dict[str, Any] = {
            "verifier": AcceptAnyPeer(),
            "credentials": (credentials(self.kind),),
            "groups": CURVES,
            "random_bytes": generator.randbytes,
        }
        options |= {**self.both, **(self.client if role is Role.CLIENT else self.server)}
        for name, value in options.items():
            if isinstance(value, Fresh):
                options[name] = value.make(generator)
        return DtlsConfiguration(**options)


KEY = PreSharedKey(b"device", bytes(range(16)))
OTHER_KEY = PreSharedKey(b"another", bytes(range(1, 17)), hash_name="sha384")
IMPORTED_KEY = ImportedPreSharedKey(b"imported", bytes(range(32)), context=b"context")
TICKETS = {"session_tickets": Fresh(lambda generator: TicketKeys(random_bytes=generator.randbytes))}
CACHE = {"session_cache": Fresh(lambda generator: SessionCache(4))}
RESUMING = {"resume_sessions": True}
ONE_SIDED = {"client_authentication": ClientAuthentication.NONE}
NO_CERTIFICATES: Mapping[str, Any] = {"verifier": None, "credentials": (KEY,)}

MEETINGS = (
    Meeting("1.3"),
    Meeting("1.2", {"maximum_version": V12}),
    Meeting("1.2 with a client of 1.3", server={"maximum_version": V12}, kind="ecdsa-p256"),
    Meeting("1.3 after a retry", server={"groups": (NamedGroup.SECP256R1,)}),
    Meeting(
        "1.3 post-quantum, small datagrams",
        {
            "groups": (NamedGroup.X25519MLKEM768, NamedGroup.X25519),
            "srtp_profiles": (SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,),
            "mtu": 300,
        },
        is_repeatable=False,
    ),
    Meeting(
        "1.3, a client without a certificate, ChaCha20",
        {
            "cipher_suites": (CipherSuite.TLS_CHACHA20_POLY1305_SHA256,),
            "alpn_protocols": (b"webrtc", b"c-webrtc"),
        },
        {"credentials": (), "server_name": "server.example"},
        {"client_authentication": ClientAuthentication.OPTIONAL},
    ),
    Meeting(
        "1.3, one-sided, AES-CCM-8, small datagrams, coarse timers, nothing done before it is due",
        {
            "cipher_suites": (CipherSuite.TLS_AES_128_CCM_8_SHA256,),
            "mtu": 256,
            "timer_granularity": 0.015,
            "is_eager": False,
            "mtu_backs_off": False,
            "repeats_apart": False,
        },
        server=ONE_SIDED,
    ),
    Meeting(
        "1.2, one-sided, ChaCha20, small datagrams",
        {
            "maximum_version": V12,
            "cipher_suites": (CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,),
            "mtu": 256,
            "alpn_protocols": (b"webrtc",),
            "srtp_profiles": (SrtpProtectionProfile.SRTP_AES128_CM_SHA1_80,),
        },
        {"server_name": "server.example"},
        ONE_SIDED,
        kind="ecdsa-p384",
    ),
    Meeting(
        "1.2, RSA, without extended_master_secret being asked for",
        {"maximum_version": V12, "require_extended_master_secret": False},
        server={"client_authentication": ClientAuthentication.OPTIONAL},
        kind="rsa-2048",
        is_repeatable=False,
    ),
    Meeting(
        "1.3, RSA, in the end without a certificate",
        {"key_log": lambda line: None},
        {"credentials": ()},
        kind="rsa-2048",
        is_repeatable=False,
    ),
    Meeting(
        "1.2 without a certificate",
        {"maximum_version": V12},
        {"credentials": (), "insist_on_credentials": True},
    ),
    Meeting(
        "1.3 after a retry, no curve in common but one",
        {"maximum_retransmissions": 2, "handshake_timeout": 5.0},
        {"groups": (NamedGroup.X25519, NamedGroup.SECP521R1), "groups_to_share": ()},
        {"groups": (NamedGroup.SECP384R1, NamedGroup.SECP521R1)},
        kind="ecdsa-p384",
    ),
    Meeting("1.2, a pre-shared key alone", {**NO_CERTIFICATES, "cipher_suites": tuple(CipherSuite)[5:7]}),
    Meeting(
        "1.2, a pre-shared key and ECDHE",
        {**NO_CERTIFICATES, "maximum_version": V12, "psk_identity_hint": b"hint"},
    ),
    Meeting(
        "1.3, pre-shared keys", {**NO_CERTIFICATES, "credentials": (OTHER_KEY, KEY), "maximum_version": V13}
    ),
    Meeting(
        "1.3, an imported key or a certificate, after a retry",
        client={"credentials": (OTHER_KEY, IMPORTED_KEY, credentials())},
        server={"credentials": (IMPORTED_KEY, credentials()), "groups": (NamedGroup.SECP256R1,)},
    ),
    Meeting("1.3 again by a ticket", client=RESUMING, server={**TICKETS, **ONE_SIDED}, is_second=True),
    Meeting(
        "1.3 again by a ticket, after a retry, both authenticated",
        {"record_size_limit": 300},
        RESUMING,
        {**TICKETS, "groups": (NamedGroup.SECP256R1,), "tickets_to_send": 1},
        kind="ecdsa-p256",
        is_second=True,
    ),
    Meeting("1.2 again by a ticket", {"maximum_version": V12}, RESUMING, TICKETS, is_second=True),
    Meeting("1.2 again by a session ID", {"maximum_version": V12}, RESUMING, CACHE, is_second=True),
    Meeting(
        "1.2, raw public keys",
        {"maximum_version": V12, "credentials": (raw_public_key(),), "peer_certificate_types": BOTH_TYPES},
    ),
    Meeting(
        "1.3, raw public keys, GREASE, any order",
        {
            "credentials": (raw_public_key(), credentials()),
            "peer_certificate_types": BOTH_TYPES,
            "grease": True,
            "permute_extensions": True,
        },
    ),
    Meeting(
        "1.3, everything stapled",
        {"certificate_authorities": (b"\x30\x00",), "record_size_limit": 64},
        {"request_ocsp_response": True, "request_signed_certificate_timestamps": True},
        {"credentials": (stapled(),), "alpn_selector": lambda offered: None, "trace": lambda *seen: None},
    ),
    Meeting(
        "1.2, everything stapled",
        {
            "maximum_version": V12,
            "certificate_authorities": (b"\x30\x00",),
            "record_size_limit": 500,
            "acknowledge_server_name": False,
        },
        {
            "request_ocsp_response": True,
            "request_signed_certificate_timestamps": True,
            "alpn_protocols": (b"webrtc", b"c-webrtc"),
            "accept_unoffered_alpn": True,
            "server_name": "server.example",
        },
        {"credentials": (stapled(),), "alpn_selector": lambda offered: offered[-1]},
    ),
)

#: Code points that stand in messages, as two bytes each.
CODE_POINTS = tuple(
    int(value).to_bytes(2, "big")
    for kind in (
        CipherSuite,
        ExtensionType,
        NamedGroup,
        ProtocolVersion,
        SignatureScheme,
        SrtpProtectionProfile,
    )
    for value in kind
)
