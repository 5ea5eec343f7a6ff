"""Handshake messages that DTLS 1.3 adds or changes (RFC 8446 §4, RFC 9147 §5): one dataclass for each."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from mediapeer.dtls.codec import Reader, vector
from mediapeer.dtls.errors import DecodeError
from mediapeer.dtls.extensions import parse_block, serialize_block
from mediapeer.dtls.registry import AlertDescription, HandshakeType

HELLO_RETRY_REQUEST_RANDOM = hashlib.sha256(b"HelloRetryRequest").digest()
"The random that makes a ServerHello a HelloRetryRequest (RFC 8446 §4.1.3)."

DOWNGRADE_SENTINEL = b"DOWNGRD\x01"
"How the random of a server ends that could speak 1.3 and was asked for 1.2 (RFC 8446 §4.1.3)."
DOWNGRADE_SENTINELS = (DOWNGRADE_SENTINEL, b"DOWNGRD\x00")
"The same with that of a server that was asked for something older still: no reason to go on either."


@dataclass(frozen=True, slots=True)
class EncryptedExtensions:
    """EncryptedExtensions (RFC 8446 §4.3.1)."""

    handshake_type: ClassVar = HandshakeType.ENCRYPTED_EXTENSIONS

    extensions: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> "EncryptedExtensions":
        """Read the body."""
        return cls(_parse_required_block(Reader(body)))

    def serialize(self) -> bytes:
        """Write the body."""
        return serialize_block(self.extensions) or vector(b"", 2)


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """``CertificateEntry`` (RFC 8446 §4.4.2)."""

    certificate: bytes
    "In DER."
    extensions: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Certificate13:
    """Certificate (RFC 8446 §4.4.2)."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE

    entries: tuple[CertificateEntry, ...]
    request_context: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> "Certificate13":
        """Read the body."""
        reader = Reader(body)
        request_context = reader.vector(1)
        inner = Reader(reader.vector(3))
        reader.end()
        entries = []
        while inner.remaining:
            certificate = inner.vector(3, minimum=1)
            block = Reader(inner.vector(2))
            entries.append(CertificateEntry(certificate, _parse_bare_block(block)))
        return cls(tuple(entries), request_context)

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(self.request_context, 1) + vector(
            b"".join(
                vector(entry.certificate, 3) + (serialize_block(entry.extensions) or vector(b"", 2))
                for entry in self.entries
            ),
            3,
        )

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The certificates alone."""
        return tuple(entry.certificate for entry in self.entries)


@dataclass(frozen=True, slots=True)
class CertificateRequest13:
    """CertificateRequest (RFC 8446 §4.3.2)."""

    handshake_type: ClassVar = HandshakeType.CERTIFICATE_REQUEST

    extensions: Mapping[int, bytes]
    request_context: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> "CertificateRequest13":
        """Read the body."""
        reader = Reader(body)
        request_context = reader.vector(1)
        return cls(_parse_required_block(reader), request_context)

    def serialize(self) -> bytes:
        """Write the body."""
        return vector(self.request_context, 1) + (serialize_block(self.extensions) or vector(b"", 2))


@dataclass(frozen=True, slots=True)
class Finished13:
    """Finished (RFC 8446 §4.4.4); as long as the hash of the cipher suite."""

    handshake_type: ClassVar = HandshakeType.FINISHED

    verify_data: bytes

    @classmethod
    def parse(cls, body: bytes) -> "Finished13":
        """Read the body. Whatever it is, it is compared as a whole; a wrong length is a wrong proof."""
        return cls(body)

    def serialize(self) -> bytes:
        """Write the body."""
        return self.verify_data


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """KeyUpdate (RFC 8446 §4.6.3)."""

    handshake_type: ClassVar = HandshakeType.KEY_UPDATE

    update_requested: bool

    @classmethod
    def parse(cls, body: bytes) -> "KeyUpdate":
        """Read the body."""
        reader = Reader(body)
        value = reader.uint8()
        reader.end()
        if value not in (0, 1):
            raise DecodeError(f"request_update is {value}", AlertDescription.ILLEGAL_PARAMETER)
        return cls(bool(value))

    def serialize(self) -> bytes:
        """Write the body."""
        return bytes([self.update_requested])


@dataclass(frozen=True, slots=True)
class NewSessionTicket13:
    """NewSessionTicket (RFC 8446 §4.6.1). Read to be acknowledged; sessions are not resumed."""

    handshake_type: ClassVar = HandshakeType.NEW_SESSION_TICKET

    lifetime: int
    age_add: int
    nonce: bytes
    ticket: bytes
    extensions: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> "NewSessionTicket13":
        """Read the body."""
        reader = Reader(body)
        lifetime = int.from_bytes(reader.take(4), "big")
        age_add = int.from_bytes(reader.take(4), "big")
        nonce, ticket = reader.vector(1), reader.vector(2, minimum=1)
        return cls(lifetime, age_add, nonce, ticket, _parse_required_block(reader))

    def serialize(self) -> bytes:
        """Write the body."""
        return (
            self.lifetime.to_bytes(4, "big")
            + self.age_add.to_bytes(4, "big")
            + vector(self.nonce, 1)
            + vector(self.ticket, 2)
            + (serialize_block(self.extensions) or vector(b"", 2))
        )


@dataclass(frozen=True, slots=True, order=True)
class RecordNumber:
    """``RecordNumber`` of an ACK (RFC 9147 §7)."""

    epoch: int
    sequence_number: int


def parse_ack(body: bytes) -> tuple[RecordNumber, ...]:
    """The record numbers of an ACK; there may be none (RFC 9147 §7)."""
    reader = Reader(body)
    inner = Reader(reader.vector(2))
    reader.end()
    numbers = []
    while inner.remaining:
        epoch, sequence_number = inner.take(8), inner.take(8)
        numbers.append(RecordNumber(int.from_bytes(epoch, "big"), int.from_bytes(sequence_number, "big")))
    return tuple(numbers)


def serialize_ack(numbers: tuple[RecordNumber, ...]) -> bytes:
    """The reverse of :func:`parse_ack`."""
    return vector(
        b"".join(n.epoch.to_bytes(8, "big") + n.sequence_number.to_bytes(8, "big") for n in numbers), 2
    )


def _parse_required_block(reader: Reader) -> dict[int, bytes]:
    """A block of extensions that ends a message and must be there, be it empty."""
    if not reader.remaining:
        raise DecodeError("the extensions are missing")
    return parse_block(reader)


def _parse_bare_block(reader: Reader) -> dict[int, bytes]:
    """Extensions whose length was read already."""
    return parse_block(Reader(vector(reader.take(reader.remaining), 2)))
