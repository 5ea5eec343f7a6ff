"""Hello extensions (RFC 5246 §7.4.1.4 and the RFC named at each): blocks, and the bodies inside them.

A block is a mapping of extension type to body. Types that the engine does not know stay in it untouched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mediapeer.dtls.codec import Reader, uint16_list, vector
from mediapeer.dtls.errors import DecodeError
from mediapeer.dtls.registry import (
    AlertDescription,
    CertificateType,
    ECPointFormat,
    ExtensionType,
    SrtpProtectionProfile,
)

ExtensionBlock = Mapping[int, bytes]


def parse_block(reader: Reader) -> dict[int, bytes]:
    """The extensions at the end of a hello; the whole block may be missing (RFC 5246 §7.4.1.2).

    :raises DecodeError: when it does not parse, or a type stands in it twice.
    """
    block: dict[int, bytes] = {}
    if not reader.remaining:
        return block
    inner = Reader(reader.vector(2))
    reader.end()
    while inner.remaining:
        extension_type = inner.uint16()
        if extension_type in block:
            raise DecodeError(f"extension {extension_type} stands in the hello twice")
        block[extension_type] = inner.vector(2)
    return block


def serialize_block(block: ExtensionBlock) -> bytes:
    """The block as it ends a hello; nothing at all when it is empty."""
    if not block:
        return b""
    return vector(b"".join(kind.to_bytes(2, "big") + vector(body, 2) for kind, body in block.items()), 2)


# supported_groups (RFC 8422 §5.1.1), signature_algorithms (RFC 8446 §4.2.3)


def parse_uint16_list(body: bytes) -> tuple[int, ...]:
    """The body of an extension that is one list of 16-bit code points."""
    reader = Reader(body)
    values = reader.uint16_list()
    reader.end()
    return values


def serialize_uint16_list(values: tuple[int, ...]) -> bytes:
    """The reverse of :func:`parse_uint16_list`."""
    return uint16_list(values)


# ec_point_formats (RFC 8422 §5.1.2)

EC_POINT_FORMATS_BODY = vector(bytes([ECPointFormat.UNCOMPRESSED]), 1)


def check_ec_point_formats(body: bytes) -> None:
    """Make sure that the peer takes uncompressed points, the one format there is (RFC 8422 §5.1.2).

    :raises DecodeError: with ``illegal_parameter`` when it does not.
    """
    reader = Reader(body)
    formats = reader.vector(1, minimum=1)
    reader.end()
    if ECPointFormat.UNCOMPRESSED not in formats:
        raise DecodeError("ec_point_formats lacks uncompressed points", AlertDescription.ILLEGAL_PARAMETER)


# One code point: supported_versions of a ServerHello, key_share of a HelloRetryRequest (RFC 8446 §4.2.1, §4.2.8)


def parse_uint16(body: bytes) -> int:
    """The body of an extension that is one 16-bit code point."""
    reader = Reader(body)
    value = reader.uint16()
    reader.end()
    return value


def serialize_uint16(value: int) -> bytes:
    """The reverse of :func:`parse_uint16`."""
    return value.to_bytes(2, "big")


# server_name (RFC 6066 §3)

_HOST_NAME = 0


def parse_server_name(body: bytes) -> str | None:
    """The host name a client asks for, or ``None`` when the list has only names of other types."""
    reader = Reader(body)
    names = Reader(reader.vector(2, minimum=1))
    reader.end()
    found: str | None = None
    while names.remaining:
        name_type, name = names.uint8(), names.vector(2, minimum=1)
        if name_type != _HOST_NAME:
            continue
        if found is not None:
            raise DecodeError("server_name has two host names")
        try:
            found = name.decode("ascii")
        except UnicodeDecodeError:
            raise DecodeError("server_name is not ASCII") from None
        if "\0" in found:
            raise DecodeError("server_name has a null character")
    return found


def serialize_server_name(name: str) -> bytes:
    """The extension of a client that asks for ``name``."""
    return vector(bytes([_HOST_NAME]) + vector(name.encode("ascii"), 2), 2)


# application_layer_protocol_negotiation (RFC 7301 §3.1)


def parse_alpn(body: bytes) -> tuple[bytes, ...]:
    """The protocols of an ALPN extension; none of them is empty."""
    reader = Reader(body)
    inner = Reader(reader.vector(2, minimum=2))
    reader.end()
    protocols = []
    while inner.remaining:
        protocols.append(inner.vector(1, minimum=1))
    return tuple(protocols)


def serialize_alpn(protocols: tuple[bytes, ...]) -> bytes:
    """The reverse of :func:`parse_alpn`."""
    return vector(b"".join(vector(protocol, 1) for protocol in protocols), 2)


def read_chosen_alpn_protocol(body: bytes, offered: Sequence[bytes] | None) -> bytes:
    """The protocol that a server answers, which must be one that was offered (RFC 7301 §3.1).

    :param offered: ``None`` to take any.
    """
    protocols = parse_alpn(body)
    if len(protocols) != 1 or (offered is not None and protocols[0] not in offered):
        raise DecodeError(
            "the server's application protocol is not one of those offered",
            AlertDescription.ILLEGAL_PARAMETER,
        )
    return protocols[0]


# use_srtp (RFC 5764 §4.1.1)


@dataclass(frozen=True, slots=True)
class UseSrtp:
    """The body of use_srtp."""

    profiles: tuple[int, ...]
    "SRTP protection profiles, in order of preference."
    mki: bytes = b""
    "The SRTP master key identifier; empty when none is used."

    @classmethod
    def parse(cls, body: bytes) -> "UseSrtp":
        """Read the body of the extension."""
        reader = Reader(body)
        parsed = cls(reader.uint16_list(), reader.vector(1))
        reader.end()
        return parsed

    def serialize(self) -> bytes:
        """Write the body of the extension."""
        return uint16_list(self.profiles) + vector(self.mki, 1)


def read_chosen_srtp_profile(body: bytes, offered: Sequence[SrtpProtectionProfile]) -> SrtpProtectionProfile:
    """The profile that a server answers, which must be one that was offered, without an MKI (RFC 5764 §4.1.1)."""
    answer = UseSrtp.parse(body)
    chosen = [profile for profile in offered if profile in answer.profiles]
    if len(answer.profiles) != 1 or not chosen or answer.mki:
        raise DecodeError(
            "the server's use_srtp is not one of the profiles offered", AlertDescription.ILLEGAL_PARAMETER
        )
    return chosen[0]


# extended_master_secret (RFC 7627 §5.1), renegotiation_info (RFC 5746 §3.2)


def check_empty(body: bytes, kind: ExtensionType) -> None:
    """Make sure that an extension that says everything by being there says nothing else."""
    if body:
        raise DecodeError(f"{kind.name.lower()} must be empty")


RENEGOTIATION_INFO_BODY = vector(b"", 1)


def check_renegotiation_info(body: bytes) -> None:
    """Make sure that the peer's renegotiation_info is that of a first handshake (RFC 5746 §3.4, §3.6).

    :raises DecodeError: with ``handshake_failure`` when it names an earlier one.
    """
    reader = Reader(body)
    renegotiated_connection = reader.vector(1)
    reader.end()
    if renegotiated_connection:
        raise DecodeError(
            "renegotiation_info names a connection that this is not", AlertDescription.HANDSHAKE_FAILURE
        )


# supported_versions (RFC 8446 §4.2.1)


def parse_supported_versions(body: bytes) -> tuple[int, ...]:
    """The versions of a ClientHello."""
    reader = Reader(body)
    versions = reader.uint16_list(1)
    reader.end()
    return versions


def serialize_supported_versions(versions: tuple[int, ...]) -> bytes:
    """The reverse of :func:`parse_supported_versions`."""
    return uint16_list(versions, 1)


# cookie (RFC 8446 §4.2.2)


def parse_cookie(body: bytes) -> bytes:
    """The cookie, which is not empty."""
    reader = Reader(body)
    cookie = reader.vector(2, minimum=1)
    reader.end()
    return cookie


def serialize_cookie(cookie: bytes) -> bytes:
    """The reverse of :func:`parse_cookie`."""
    return vector(cookie, 2)


# key_share (RFC 8446 §4.2.8)


def parse_client_shares(body: bytes) -> dict[int, bytes]:
    """The shares of a ClientHello by group, in its order; there may be none.

    :raises DecodeError: with ``illegal_parameter`` when a group stands there twice.
    """
    reader = Reader(body)
    entries = Reader(reader.vector(2))
    reader.end()
    shares: dict[int, bytes] = {}
    while entries.remaining:
        group = entries.uint16()
        if group in shares:
            raise DecodeError(f"two key shares are of group {group}", AlertDescription.ILLEGAL_PARAMETER)
        shares[group] = entries.vector(2, minimum=1)
    return shares


def serialize_client_shares(shares: Mapping[int, bytes]) -> bytes:
    """The reverse of :func:`parse_client_shares`."""
    return vector(b"".join(serialize_server_share(group, share) for group, share in shares.items()), 2)


def parse_server_share(body: bytes) -> tuple[int, bytes]:
    """The group and share of a ServerHello."""
    reader = Reader(body)
    group, share = reader.uint16(), reader.vector(2, minimum=1)
    reader.end()
    return group, share


def serialize_server_share(group: int, share: bytes) -> bytes:
    """The reverse of :func:`parse_server_share`."""
    return group.to_bytes(2, "big") + vector(share, 2)


# pre_shared_key (RFC 8446 §4.2.11)


@dataclass(frozen=True, slots=True)
class PskIdentity:
    """``PskIdentity``."""

    identity: bytes
    obfuscated_ticket_age: int = 0


@dataclass(frozen=True, slots=True)
class OfferedPsks:
    """``OfferedPsks``: the body of a client's pre_shared_key."""

    identities: tuple[PskIdentity, ...]
    binders: tuple[bytes, ...]

    @classmethod
    def parse(cls, body: bytes) -> "OfferedPsks":
        """Read the body of the extension; it must have as many binders as identities."""
        reader = Reader(body)
        names, macs = Reader(reader.vector(2, minimum=7)), Reader(reader.vector(2, minimum=2))
        reader.end()
        identities, binders = [], []
        while names.remaining:
            identity = names.vector(2, minimum=1)
            identities.append(PskIdentity(identity, int.from_bytes(names.take(4), "big")))
        while macs.remaining:
            binders.append(macs.vector(1))
        if len(identities) != len(binders):
            raise DecodeError(
                f"there are {len(identities)} PSK identities and {len(binders)} binders",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        return cls(tuple(identities), tuple(binders))

    def serialize(self) -> bytes:
        """Write the body of the extension."""
        names = b"".join(
            vector(i.identity, 2) + i.obfuscated_ticket_age.to_bytes(4, "big") for i in self.identities
        )
        return vector(names, 2) + vector(b"".join(vector(binder, 1) for binder in self.binders), 2)

    @property
    def binders_length(self) -> int:
        """How many bytes at the end of the ClientHello the binders do not cover."""
        return 2 + sum(1 + len(binder) for binder in self.binders)


# psk_key_exchange_modes (RFC 8446 §4.2.9)


def parse_psk_key_exchange_modes(body: bytes) -> bytes:
    """The modes, one in each byte."""
    reader = Reader(body)
    modes = reader.vector(1, minimum=1)
    reader.end()
    return modes


def serialize_psk_key_exchange_modes(modes: bytes) -> bytes:
    """The reverse of :func:`parse_psk_key_exchange_modes`."""
    return vector(modes, 1)


# client_certificate_type, server_certificate_type (RFC 7250 §3)


def parse_certificate_types(body: bytes) -> tuple[int, ...]:
    """The types in a client's extension, in its order; none of them twice.

    :raises DecodeError: with ``illegal_parameter`` when one is.
    """
    reader = Reader(body)
    types = tuple(reader.vector(1, minimum=1))
    reader.end()
    if len(set(types)) != len(types):
        raise DecodeError("a certificate type is offered twice", AlertDescription.ILLEGAL_PARAMETER)
    if types == (CertificateType.X509,):
        raise DecodeError(
            "what goes without saying must not be said: X.509 alone", AlertDescription.ILLEGAL_PARAMETER
        )
    return types


def serialize_certificate_types(types: Sequence[CertificateType]) -> bytes:
    """The reverse of :func:`parse_certificate_types`."""
    return vector(bytes(types), 1)


def read_chosen_certificate_type(body: bytes, offered: Sequence[CertificateType]) -> CertificateType:
    """The type that a server answers, which must be one that was offered (RFC 7250 §4.2)."""
    reader = Reader(body)
    value = reader.uint8()
    reader.end()
    for certificate_type in offered:
        if certificate_type == value:
            return certificate_type
    raise DecodeError(
        f"the server chose certificate type {value}, which was not offered",
        AlertDescription.ILLEGAL_PARAMETER,
    )


# certificate_authorities (RFC 8446 §4.2.4)


def parse_certificate_authorities(body: bytes) -> tuple[bytes, ...]:
    """The names of the authorities in DER; there is one at least."""
    reader = Reader(body)
    inner = Reader(reader.vector(2, minimum=3))
    reader.end()
    names = []
    while inner.remaining:
        names.append(inner.vector(2, minimum=1))
    return tuple(names)


def serialize_certificate_authorities(names: Sequence[bytes]) -> bytes:
    """The reverse of :func:`parse_certificate_authorities`."""
    return vector(b"".join(vector(name, 2) for name in names), 2)


# status_request (RFC 6066 §8, RFC 8446 §4.4.2.1)

_OCSP = 1
STATUS_REQUEST_BODY = bytes([_OCSP]) + vector(b"", 2) + vector(b"", 2)
"What a client sends that wants an OCSP response and does not mind from whom."


def asks_for_ocsp(body: bytes) -> bool:
    """Whether a client's status_request asks for an OCSP response; other kinds are passed over."""
    reader = Reader(body)
    if reader.uint8() != _OCSP:
        return False
    reader.vector(2)
    reader.vector(2)
    reader.end()
    return True


def parse_certificate_status(body: bytes) -> bytes:
    """The OCSP response in a ``CertificateStatus``, which is not empty."""
    reader = Reader(body)
    if reader.uint8() != _OCSP:
        raise DecodeError("the certificate status is none of OCSP", AlertDescription.ILLEGAL_PARAMETER)
    response = reader.vector(3, minimum=1)
    reader.end()
    return response


def serialize_certificate_status(response: bytes) -> bytes:
    """The reverse of :func:`parse_certificate_status`."""
    return bytes([_OCSP]) + vector(response, 3)


# signed_certificate_timestamp (RFC 6962 §3.3.1)


def check_signed_certificate_timestamps(body: bytes) -> bytes:
    """Make sure that a ``SignedCertificateTimestampList`` has one at least, and none that is empty; returns it."""
    reader = Reader(body)
    inner = Reader(reader.vector(2, minimum=1))
    reader.end()
    while inner.remaining:
        inner.vector(2, minimum=1)
    return body


# record_size_limit (RFC 8449 §4)

MINIMUM_RECORD_SIZE_LIMIT = 64


def parse_record_size_limit(body: bytes) -> int:
    """The limit, which is sensible.

    :raises DecodeError: with ``illegal_parameter`` below 64.
    """
    limit = parse_uint16(body)
    if limit < MINIMUM_RECORD_SIZE_LIMIT:
        raise DecodeError(
            f"record_size_limit is {limit}, below {MINIMUM_RECORD_SIZE_LIMIT}",
            AlertDescription.ILLEGAL_PARAMETER,
        )
    return limit
