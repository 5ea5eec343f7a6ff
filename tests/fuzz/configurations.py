"""What the two ends of a duel are configured with. A new feature of the engine is fuzzed when it stands here."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mediapeer.dtls import (
    AcceptAnyPeer,
    CipherSuite,
    ClientAuthentication,
    DtlsConfiguration,
    NamedGroup,
    ProtocolVersion,
    Role,
    SignatureScheme,
    SrtpProtectionProfile,
)
from mediapeer.dtls.registry import ExtensionType
from tests.fuzz.determinism import credentials

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
CURVES = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)


@dataclass(frozen=True)
class Meeting:
    """The options of both ends, and of each."""

    name: str
    both: Mapping[str, Any] = field(default_factory=dict)
    client: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "ed25519"
    "The kind of both ends' keys."
    is_repeatable: bool = True
    "Whether each byte is the same the next time; otherwise each length is."

    def configuration(self, role: Role, generator: random.Random) -> DtlsConfiguration:
        """What the end of that role is given."""
        options: dict[str, Any] = {
            "verifier": AcceptAnyPeer(),
            "credentials": (credentials(self.kind),),
            "groups": CURVES,
            "random_bytes": generator.randbytes,
        }
        options |= {**self.both, **(self.client if role is Role.CLIENT else self.server)}
        return DtlsConfiguration(**options)


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
        "1.3, one-sided, AES-CCM-8, small datagrams",
        {"cipher_suites": (CipherSuite.TLS_AES_128_CCM_8_SHA256,), "mtu": 256},
        server={"client_authentication": ClientAuthentication.NONE},
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
        {"client_authentication": ClientAuthentication.NONE},
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
    Meeting("1.2 without a certificate", {"maximum_version": V12}, {"credentials": ()}),
    Meeting(
        "1.3 after a retry, no curve in common but one",
        {"maximum_retransmissions": 2, "handshake_timeout": 5.0},
        {"groups": (NamedGroup.X25519, NamedGroup.SECP521R1), "groups_to_share": ()},
        {"groups": (NamedGroup.SECP384R1, NamedGroup.SECP521R1)},
        kind="ecdsa-p384",
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
