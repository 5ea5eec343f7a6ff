"""Handshake messages of DTLS 1.2 (RFC 5246 §7.4, RFC 6347 §4.2, RFC 8422 §5): a dataclass for each form of each.

``parse`` takes the body without the handshake header and raises :class:`DecodeError`; ``serialize`` gives it back.
Code points stay integers where the peer may send ones that the engine does not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from mediapeer.dtls.codec import Reader, uint16_list, vector
from mediapeer.dtls.errors import DecodeError
from mediapeer.dtls.extensions import (
    parse_block,
    parse_certificate_status,
    serialize_block,
    serialize_certificate_status,
)
from mediapeer.dtls.registry import AlertDescription, ECCurveType, HandshakeType

RANDOM_LENGTH = 32
VERIFY_DATA_LENGTH = 12

_NULL_COMPRESSION = 0


class HandshakeMessage(Protocol):
    """What all messages have in common."""

    handshake_type: ClassVar[HandshakeType]

    def serialize(self) -> bytes:
        """The body, without the handshake header."""


@dataclass(frozen=True, slots=True)
class HelloRequest:
    """HelloRequest (RFC 5246 §7.4.1.1): a server's wish to renegotiate, which is refused."""

    handshake_type: ClassVar = HandshakeType.HELLO_REQUEST

    @classmethod
    def parse(cls, body: bytes) -> "HelloRequest":
        """Read the body."""
        Reader(body).end()
        return cls()

    def serialize(self) -> bytes:
        """Write the body."""
        return b""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """ClientHello (RFC 5246 §7.4.1.2, with the cookie of RFC 6347 §4.2.1)."""

    handshake_type: ClassVar = HandshakeType.CLIENT_HELLO

    client_version: int
    random: bytes
    cipher_suites: tuple[int, ...]
    extensions: Mapping[int, bytes] = field(default_factory=dict)
    cookie: bytes = b""
    session_id: bytes = b""
    compression_methods: bytes = bytes([_NULL_COMPRESSION])

    @classmethod
    def parse(cls, body: bytes) -> "ClientHello":
        """Read the body."""
        reader = Reader(body)
        client_version = reader.uint16()
        random = reader.take(RANDOM_LENGTH)
        session_id = reader.vector(1)
        if len(session_id) > 32:
            raise DecodeError("a session ID has at most 32 bytes")
        cookie = reader.vector(1)
        cipher_suites = reader.uint16_list()
        compression_methods = reader.vector(1, minimum=1)
        extensions = parse_block(reader)
        return cls(client_version, random, cipher_suites, extensions, cookie, session_id, compression_methods)

    def serialize(self) -> bytes:
        """Write the body."""
        return b"".join(
            (
                self.client_version.to_bytes(2, "big"),
                self.random,
                vector(self.session_id, 1),
                vector(self.cookie, 1),
                uint16_list(self.cipher_suites),
                vector(self.compression_methods, 1),
                serialize_block(self.extensions),
            )
        )

    def with_cookie(self, cookie: bytes) -> "ClientHello":
        """The same with the cookie of a HelloVerifyRequest."""
        return replace(self, cookie=cookie)

    def with_extensions(self, extensions: Mapping[int, bytes]) -> "ClientHello":
        """The same with other extensions, after a HelloRetryRequest."""
        return replace(self, extensions=extensions)

    @property
    def offers_null_compression(self) -> bool:
        """Whether the list of compression methods has the one that is allowed (RFC 5246 §7.4.1.2)."""
        return _NULL_COMPRESSION in self.compression_methods


@dataclass(frozen=True, slots=True)
class ServerHello:
    """ServerHello (RFC 5246 §7.4.1.3)."""

    handshake_type: ClassVar = HandshakeType.SERVER_HELLO

    server_version: int
    random: bytes
    cipher_suite: int
    extensions: Mapping[int, bytes] = field(default_factory=dict)
    session_id: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> "ServerHello":
        """Read the body."""
        reader = Reader(body)
        server_version = reader.uint16()
        random = reader.take(RANDOM_LENGTH)
        session_id = reader.vector(1)
        if len(session_id) > 32:
            raise DecodeError("a session ID has at most 32 bytes")
        cipher_suite = reader.uint16()
        if reader.uint8() != _NULL_COMPRESSION:
            raise DecodeError("the server chose compression", AlertDescription.ILLEGAL_PARAMETER)
        return cls(server_version, random, cipher_suite, parse_block(reader), session_id)

    def serialize(self) -> bytes:
        """Write the body."""
        return b"".join(
            (
                self.server_version.to_bytes(2, "big"),
                self.random,
                vector(self.session_id, 1),
                self.cipher_suite.to_bytes(2, "big"),
                bytes([_NULL_COMPRESSION]),
                serialize_block(self.extensions),
            )
        )


@dataclass(frozen=True, slots=True)
class HelloVerifyRequest:
    """HelloVerifyRequest (RFC 6347 §4.2.1): say that again, with this cookie."""

    handshake_type: ClassVar = HandshakeType.HELLO_VERIFY_REQUEST

    server_version: int
    cookie: bytes

    @classmethod
    def parse(cls, body: bytes) -> "HelloVerifyRequest":
        """Read the body."""
        reader = Reader(body)
        parsed = cls(reader.uint16(), reader.vector(1))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return self.server_version.to_bytes(2, "big") + vector(self.cookie, 1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Certificate (RFC 5246 §7.4.2, §7.4.6)."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE

    chain: tuple[bytes, ...]
    "Certificates in DER, the end entity's first; empty when a client has none."

    @classmethod
    def parse(cls, body: bytes) -> "Certificate":
        """Read the body."""
        reader = Reader(body)
        entries = Reader(reader.vector(3))
        reader.end()
        chain = []
        while entries.remaining:
            chain.append(entries.vector(3, minimum=1))
        return cls(tuple(chain))

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(b"".join(vector(certificate, 3) for certificate in self.chain), 3)


@dataclass(frozen=True, slots=True)
class RawPublicKeyCertificate:
    """Certificate where a raw public key was agreed on (RFC 7250 §3)."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE

    public_key_info: bytes
    "``SubjectPublicKeyInfo`` in DER. Empty when a client has none, which the RFC has no other way to say."

    @classmethod
    def parse(cls, body: bytes) -> "RawPublicKeyCertificate":
        """Read the body."""
        reader = Reader(body)
        parsed = cls(reader.vector(3))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(self.public_key_info, 3)


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """CertificateStatus (RFC 6066 §8): the server's OCSP response."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE_STATUS

    ocsp_response: bytes
    "In DER, not empty."

    @classmethod
    def parse(cls, body: bytes) -> "CertificateStatus":
        """Read the body."""
        return cls(parse_certificate_status(body))

    def serialize(self) -> bytes:
        """Write the body."""
        return serialize_certificate_status(self.ocsp_response)


@dataclass(frozen=True, slots=True)
class EcdhParameters:
    """``ServerECDHParams`` (RFC 8422 §5.4): the group and the server's share."""

    named_curve: int
    public: bytes

    @classmethod
    def parse(cls, reader: Reader) -> "EcdhParameters":
        """Read the parameters from the beginning of a ServerKeyExchange."""
        if reader.uint8() != ECCurveType.NAMED_CURVE:
            raise DecodeError("the server's group has no name", AlertDescription.ILLEGAL_PARAMETER)
        return cls(reader.uint16(), reader.vector(1, minimum=1))

    def serialize(self) -> bytes:
        """Write the parameters, as they are signed too."""
        return bytes([ECCurveType.NAMED_CURVE]) + self.named_curve.to_bytes(2, "big") + vector(self.public, 1)


@dataclass(frozen=True, slots=True)
class ServerKeyExchange:
    """ServerKeyExchange of the ECDHE suites with certificates (RFC 8422 §5.4)."""

    handshake_type: ClassVar = HandshakeType.SERVER_KEY_EXCHANGE

    parameters: EcdhParameters
    signature_scheme: int
    signature: bytes

    @classmethod
    def parse(cls, body: bytes) -> "ServerKeyExchange":
        """Read the body."""
        reader = Reader(body)
        parsed = cls(EcdhParameters.parse(reader), reader.uint16(), reader.vector(2))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return (
            self.parameters.serialize() + self.signature_scheme.to_bytes(2, "big") + vector(self.signature, 2)
        )


@dataclass(frozen=True, slots=True)
class PskServerKeyExchange:
    """ServerKeyExchange of the PSK suites (RFC 4279 §2, RFC 5489 §2); nobody signs it."""

    handshake_type: ClassVar = HandshakeType.SERVER_KEY_EXCHANGE

    identity_hint: bytes = b""
    parameters: EcdhParameters | None = None
    "``None`` with a bare PSK."

    @classmethod
    def parse(cls, body: bytes, *, is_ephemeral: bool) -> "PskServerKeyExchange":
        """Read the body; whether it has parameters depends on the cipher suite."""
        reader = Reader(body)
        parsed = cls(reader.vector(2), EcdhParameters.parse(reader) if is_ephemeral else None)
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(self.identity_hint, 2) + (self.parameters.serialize() if self.parameters else b"")


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """CertificateRequest (RFC 5246 §7.4.4)."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE_REQUEST

    certificate_types: tuple[int, ...]
    signature_schemes: tuple[int, ...]
    authorities: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> "CertificateRequest":
        """Read the body."""
        reader = Reader(body)
        certificate_types = tuple(reader.vector(1, minimum=1))
        signature_schemes = reader.uint16_list()
        names = Reader(reader.vector(2))
        reader.end()
        authorities = []
        while names.remaining:
            authorities.append(names.vector(2, minimum=1))
        return cls(certificate_types, signature_schemes, tuple(authorities))

    def serialize(self) -> bytes:
        """Write the body."""
        return (
            vector(bytes(self.certificate_types), 1)
            + uint16_list(self.signature_schemes)
            + vector(b"".join(vector(name, 2) for name in self.authorities), 2)
        )


@dataclass(frozen=True, slots=True)
class ServerHelloDone:
    """ServerHelloDone (RFC 5246 §7.4.5)."""

    handshake_type: ClassVar = HandshakeType.SERVER_HELLO_DONE

    @classmethod
    def parse(cls, body: bytes) -> "ServerHelloDone":
        """Read the body."""
        Reader(body).end()
        return cls()

    def serialize(self) -> bytes:
        """Write the body."""
        return b""


@dataclass(frozen=True, slots=True)
class ClientKeyExchange:
    """ClientKeyExchange of the ECDHE suites with certificates (RFC 8422 §5.7)."""

    handshake_type: ClassVar = HandshakeType.CLIENT_KEY_EXCHANGE

    public: bytes

    @classmethod
    def parse(cls, body: bytes) -> "ClientKeyExchange":
        """Read the body."""
        reader = Reader(body)
        parsed = cls(reader.vector(1, minimum=1))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(self.public, 1)


@dataclass(frozen=True, slots=True)
class PskClientKeyExchange:
    """ClientKeyExchange of the PSK suites (RFC 4279 §2, RFC 5489 §2)."""

    handshake_type: ClassVar = HandshakeType.CLIENT_KEY_EXCHANGE

    identity: bytes
    public: bytes = b""
    "The client's share; empty with a bare PSK."

    @classmethod
    def parse(cls, body: bytes, *, is_ephemeral: bool) -> "PskClientKeyExchange":
        """Read the body; whether it has a share depends on the cipher suite."""
        reader = Reader(body)
        parsed = cls(reader.vector(2), reader.vector(1, minimum=1) if is_ephemeral else b"")
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(self.identity, 2) + (vector(self.public, 1) if self.public else b"")


@dataclass(frozen=True, slots=True)
class CertificateVerify:
    """CertificateVerify (RFC 5246 §7.4.8)."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE_VERIFY

    signature_scheme: int
    signature: bytes

    @classmethod
    def parse(cls, body: bytes) -> "CertificateVerify":
        """Read the body."""
        reader = Reader(body)
        parsed = cls(reader.uint16(), reader.vector(2))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return self.signature_scheme.to_bytes(2, "big") + vector(self.signature, 2)


@dataclass(frozen=True, slots=True)
class NewSessionTicket:
    """NewSessionTicket (RFC 5077 §3.3)."""

    handshake_type: ClassVar = HandshakeType.NEW_SESSION_TICKET

    lifetime_hint: int
    "For how many seconds the ticket is good; 0 when the server does not say."
    ticket: bytes
    "Empty when the server has changed its mind."

    @classmethod
    def parse(cls, body: bytes) -> "NewSessionTicket":
        """Read the body."""
        reader = Reader(body)
        parsed = cls(int.from_bytes(reader.take(4), "big"), reader.vector(2))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body."""
        return self.lifetime_hint.to_bytes(4, "big") + vector(self.ticket, 2)


@dataclass(frozen=True, slots=True)
class Finished:
    """Finished (RFC 5246 §7.4.9)."""

    handshake_type: ClassVar = HandshakeType.FINISHED

    verify_data: bytes

    @classmethod
    def parse(cls, body: bytes) -> "Finished":
        """Read the body. Whatever it is, it is compared as a whole; a wrong length is a wrong proof."""
        return cls(body)

    def serialize(self) -> bytes:
        """Write the body."""
        return self.verify_data
