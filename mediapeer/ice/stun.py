"""STUN messages as ICE uses them (RFC 8489, RFC 8445 §7.1): reading, writing, integrity. Sans-IO.

Only Binding is known. What comes from a network is read in two steps: :func:`peek` looks at no more than what
chooses a session, and :meth:`StunMessage.parse` reads the whole message and checks every attribute it knows.
"""

import binascii
import enum
import functools
import hmac
import ipaddress
import secrets
import struct
from collections.abc import Callable

#: In bytes 4 to 7 of every message (RFC 8489 §5).
MAGIC_COOKIE = 0x2112A442
HEADER_LENGTH = 20
#: A check of a browser has a hundred bytes; what is longer than this is nobody's (RFC 8489 §6.1).
MAXIMUM_LENGTH = 1500
#: Attributes that are read of one message. A check has ten.
MAXIMUM_ATTRIBUTES = 48
#: Attributes that :func:`peek` looks at to find USERNAME.
MAXIMUM_ATTRIBUTES_PEEKED = 12

_COOKIE_BYTES = struct.pack("!I", MAGIC_COOKIE)
_FINGERPRINT_XOR = 0x5354554E
_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_UINT32 = struct.Struct("!I")
_UINT64 = struct.Struct("!Q")
_INTEGRITY_LENGTH = 24
_FINGERPRINT_LENGTH = 8

Address = tuple[str, int]


class StunError(ValueError):
    """A datagram is no STUN message, or a malformed one. The text says what is wrong with it."""


class MessageType(enum.IntEnum):
    """Method and class in one (RFC 8489 §5)."""

    BINDING_REQUEST = 0x0001
    BINDING_INDICATION = 0x0011
    BINDING_SUCCESS = 0x0101
    BINDING_ERROR = 0x0111


class AttributeType(enum.IntEnum):
    """Attributes (RFC 8489 §14, RFC 8445 §16.1). Below 0x8000 they must be understood."""

    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


# Plain integers: members of an enumeration are slow to look up where every check of every peer comes by.
_MESSAGE_INTEGRITY = int(AttributeType.MESSAGE_INTEGRITY)
_FINGERPRINT = int(AttributeType.FINGERPRINT)
_KNOWN = frozenset(int(kind) for kind in AttributeType)
_BINDING_TYPES = frozenset(int(kind) for kind in MessageType)


def transaction_id() -> bytes:
    """A new transaction's twelve random bytes (RFC 8489 §6)."""
    return secrets.token_bytes(12)


def is_stun(data: bytes) -> bool:
    """Whether a datagram's header is that of a STUN message (RFC 8489 §6.3)."""
    return (
        len(data) >= HEADER_LENGTH
        and data[0] < 64
        and data[4:8] == _COOKIE_BYTES
        and (data[2] << 8 | data[3]) == len(data) - HEADER_LENGTH
        and not len(data) & 3
    )


def peek(data: bytes) -> tuple[int, bytes, bytes | None] | None:
    """What chooses the session of a message: type, transaction id, and USERNAME if it is among the first.

    This costs about a microsecond and judges nothing else. ``None`` when it is not even STUN.
    """
    if not is_stun(data):
        return None
    kind = data[0] << 8 | data[1]
    if kind != 1:
        return kind, data[8:20], None
    offset, end = HEADER_LENGTH, len(data)
    for _ in range(MAXIMUM_ATTRIBUTES_PEEKED):
        if offset >= end:
            break
        length = data[offset + 2] << 8 | data[offset + 3]
        if data[offset + 1] == 6 and not data[offset]:
            return kind, data[8:20], data[offset + 4 : offset + 4 + length]
        offset += 4 + (length + 3 & ~3)
    return kind, data[8:20], None


class StunMessage:
    """A message that was read. Its properties never raise: what they give was checked by :meth:`parse`."""

    __slots__ = ("_data", "_integrity_offset", "attributes", "transaction_id", "type", "unknown_required")

    def __init__(self, kind: MessageType, transaction: bytes, data: bytes) -> None:
        self.type = kind
        self.transaction_id = transaction
        self.attributes: dict[int, bytes] = {}
        "The values by type, the first of each (RFC 8489 §14), unknown ones too."
        self.unknown_required: tuple[int, ...] = ()
        "The types of attributes that must be understood and are not (RFC 8489 §6.3.1)."
        self._data = data
        self._integrity_offset: int | None = None

    def __repr__(self) -> str:
        return f"<StunMessage {self.type.name} {self.transaction_id.hex()}>"

    @classmethod
    def parse(cls, data: bytes) -> "StunMessage":
        """Read a message.

        What stands behind MESSAGE-INTEGRITY is passed over, but for FINGERPRINT (RFC 8489 §14.5).

        :raises StunError: for whatever is not a well-formed Binding message, and for a wrong FINGERPRINT.
        """
        if len(data) > MAXIMUM_LENGTH:
            raise StunError(f"a message of {len(data)} bytes")
        if not is_stun(data):
            raise StunError("not a STUN message")
        kind, _, _, transaction = _HEADER.unpack_from(data)
        if kind not in _BINDING_TYPES:
            raise StunError(f"message type {kind:#06x} is not of Binding")
        message = cls(MessageType(kind), transaction, data)
        message._read_attributes()
        return message

    def _read_attributes(self) -> None:
        data, offset, end, count = self._data, HEADER_LENGTH, len(self._data), 0
        attributes, unknown = self.attributes, []
        while offset < end:
            kind, length = _ATTRIBUTE.unpack_from(data, offset)
            start = offset + 4
            if start + length > end:
                raise StunError(f"attribute {kind:#06x} is longer than the message")
            count += 1
            if count > MAXIMUM_ATTRIBUTES:
                raise StunError("too many attributes")
            if kind == _FINGERPRINT:
                self._check_fingerprint(offset, length)
                return
            if kind not in attributes and self._integrity_offset is None:
                value = data[start : start + length]
                check = _CHECKS.get(kind)
                if check is not None and not check(value):
                    raise StunError(f"attribute {kind:#06x} is malformed")
                attributes[kind] = value
                if kind == _MESSAGE_INTEGRITY:
                    self._integrity_offset = offset
                elif kind < 0x8000 and kind not in _KNOWN:
                    unknown.append(kind)
                    self.unknown_required = tuple(unknown)
            offset = start + (length + 3 & ~3)

    def _check_fingerprint(self, offset: int, length: int) -> None:
        if length != 4 or offset + _FINGERPRINT_LENGTH != len(self._data):
            raise StunError("FINGERPRINT is not the last four bytes")
        if _UINT32.unpack_from(self._data, offset + 4)[0] != _fingerprint(self._data[:offset]):
            raise StunError("FINGERPRINT is wrong")
        self.attributes[_FINGERPRINT] = self._data[offset + 4 :]

    def has_valid_integrity(self, password: str | bytes) -> bool:
        """Whether MESSAGE-INTEGRITY was made with the short-term password (RFC 8489 §9.1), in constant time."""
        offset = self._integrity_offset
        if offset is None:
            return False
        key = password.encode() if isinstance(password, str) else password
        length = offset + _INTEGRITY_LENGTH - HEADER_LENGTH
        covered = self._data[:2] + length.to_bytes(2, "big") + self._data[4:offset]
        return hmac.compare_digest(hmac.digest(key, covered, "sha1"), self.attributes[_MESSAGE_INTEGRITY])

    @property
    def username(self) -> str | None:
        """USERNAME: the receiver's fragment, a colon, and the sender's (RFC 8445 §7.2.2)."""
        value = self.attributes.get(AttributeType.USERNAME)
        return None if value is None else value.decode()

    @property
    def priority(self) -> int | None:
        """PRIORITY: what a peer-reflexive candidate found by this check is to have (RFC 8445 §7.1.1)."""
        return self._uint32(AttributeType.PRIORITY)

    @property
    def use_candidate(self) -> bool:
        """Whether the sender nominates the pair (RFC 8445 §7.1.2)."""
        return AttributeType.USE_CANDIDATE in self.attributes

    @property
    def ice_controlling(self) -> int | None:
        """The tiebreaker of a sender that takes itself for the controlling agent (RFC 8445 §7.1.3)."""
        return self._uint64(AttributeType.ICE_CONTROLLING)

    @property
    def ice_controlled(self) -> int | None:
        """The tiebreaker of a sender that takes itself for the controlled agent (RFC 8445 §7.1.3)."""
        return self._uint64(AttributeType.ICE_CONTROLLED)

    @property
    def software(self) -> str | None:
        """SOFTWARE, for people to read."""
        value = self.attributes.get(AttributeType.SOFTWARE)
        return None if value is None else value.decode(errors="replace")

    @property
    def error(self) -> tuple[int, str] | None:
        """ERROR-CODE: the number and its words (RFC 8489 §14.8)."""
        value = self.attributes.get(AttributeType.ERROR_CODE)
        return None if value is None else ((value[2] & 7) * 100 + value[3], value[4:].decode())

    @property
    def unknown_attributes(self) -> tuple[int, ...]:
        """UNKNOWN-ATTRIBUTES: what the sender of a 420 did not understand (RFC 8489 §14.13)."""
        value = self.attributes.get(AttributeType.UNKNOWN_ATTRIBUTES, b"")
        return struct.unpack(f"!{len(value) // 2}H", value)

    @property
    def mapped_address(self) -> Address | None:
        """XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of an old server: where our request came from."""
        value = self.attributes.get(AttributeType.XOR_MAPPED_ADDRESS)
        if value is not None:
            pad = _COOKIE_BYTES + self.transaction_id
            host = bytes(byte ^ mask for byte, mask in zip(value[4:], pad, strict=False))
            return str(ipaddress.ip_address(host)), (value[2] << 8 | value[3]) ^ MAGIC_COOKIE >> 16
        value = self.attributes.get(AttributeType.MAPPED_ADDRESS)
        if value is not None:
            return str(ipaddress.ip_address(value[4:])), value[2] << 8 | value[3]
        return None

    def _uint32(self, kind: AttributeType) -> int | None:
        value = self.attributes.get(kind)
        return None if value is None else int.from_bytes(value, "big")

    _uint64 = _uint32


def _is_address(value: bytes) -> bool:
    return (len(value) == 8 and value[1] == 1) or (len(value) == 20 and value[1] == 2)


def _is_username(value: bytes) -> bool:
    # Two fragments of at most 256 and a colon (RFC 8445 §5.3). They are ASCII.
    return len(value) <= 513 and value.isascii()


def _is_error(value: bytes) -> bool:
    return 4 <= len(value) <= 4 + 763 and 3 <= value[2] & 7 <= 6 and value[3] < 100 and _is_text(value[4:])


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_length(length: int) -> Callable[[bytes], bool]:
    return lambda value: len(value) == length


_CHECKS: dict[int, Callable[[bytes], bool]] = {
    int(AttributeType.MAPPED_ADDRESS): _is_address,
    int(AttributeType.USERNAME): _is_username,
    int(AttributeType.MESSAGE_INTEGRITY): _has_length(20),
    int(AttributeType.ERROR_CODE): _is_error,
    int(AttributeType.UNKNOWN_ATTRIBUTES): lambda value: not len(value) & 1,
    int(AttributeType.XOR_MAPPED_ADDRESS): _is_address,
    int(AttributeType.PRIORITY): _has_length(4),
    int(AttributeType.USE_CANDIDATE): _has_length(0),
    int(AttributeType.ICE_CONTROLLED): _has_length(8),
    int(AttributeType.ICE_CONTROLLING): _has_length(8),
}


def _fingerprint(data: bytes) -> int:
    """The CRC-32 of what stands before FINGERPRINT, whose length counts it already (RFC 8489 §14.7)."""
    return binascii.crc32(data) ^ _FINGERPRINT_XOR


# Writing


@functools.lru_cache(maxsize=256)
def _packed_host(host: str) -> bytes:
    """The bytes of an address, without its scope."""
    return ipaddress.ip_address(host.partition("%")[0]).packed


def _attribute(kind: AttributeType, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) & 3)


def _xor_address(address: Address, transaction: bytes) -> bytes:
    host = _packed_host(address[0])
    mask = int.from_bytes((_COOKIE_BYTES + transaction)[: len(host)], "big")
    xored = (int.from_bytes(host, "big") ^ mask).to_bytes(len(host), "big")
    return struct.pack("!HH", 1 if len(host) == 4 else 2, address[1] ^ MAGIC_COOKIE >> 16) + xored


def _finish(kind: MessageType, transaction: bytes, attributes: bytes, password: str | bytes | None) -> bytes:
    """The message with MESSAGE-INTEGRITY, if there is a password, and FINGERPRINT."""
    if password is not None:
        key = password.encode() if isinstance(password, str) else password
        covered = (
            _HEADER.pack(kind, len(attributes) + _INTEGRITY_LENGTH, MAGIC_COOKIE, transaction) + attributes
        )
        attributes += b"\x00\x08\x00\x14" + hmac.digest(key, covered, "sha1")
    data = _HEADER.pack(kind, len(attributes) + _FINGERPRINT_LENGTH, MAGIC_COOKIE, transaction) + attributes
    return data + b"\x80\x28\x00\x04" + _UINT32.pack(_fingerprint(data))


def binding_request(
    transaction: bytes,
    *,
    username: str | None = None,
    password: str | bytes | None = None,
    priority: int | None = None,
    controlling: int | None = None,
    controlled: int | None = None,
    use_candidate: bool = False,
) -> bytes:
    """A Binding request: a check when all is given (RFC 8445 §7.2.2), a question to a STUN server without.

    :param transaction: twelve bytes, see :func:`transaction_id`.
    :param username: ``<the receiver's fragment>:<ours>``.
    :param password: the receiver's, for MESSAGE-INTEGRITY.
    :param controlling: our tiebreaker if we are the controlling agent, 64 bits.
    :param controlled: our tiebreaker if we are the controlled one.
    """
    attributes = b""
    if username is not None:
        attributes += _attribute(AttributeType.USERNAME, username.encode())
    if priority is not None:
        attributes += _attribute(AttributeType.PRIORITY, _UINT32.pack(priority))
    if controlling is not None:
        attributes += _attribute(AttributeType.ICE_CONTROLLING, _UINT64.pack(controlling))
    if controlled is not None:
        attributes += _attribute(AttributeType.ICE_CONTROLLED, _UINT64.pack(controlled))
    if use_candidate:
        attributes += _attribute(AttributeType.USE_CANDIDATE, b"")
    return _finish(MessageType.BINDING_REQUEST, transaction, attributes, password)


def binding_success(transaction: bytes, mapped: Address, password: str | bytes | None) -> bytes:
    """The answer to a check: where it came from, under the password it was made with (RFC 8445 §7.3.1.2)."""
    attributes = _attribute(AttributeType.XOR_MAPPED_ADDRESS, _xor_address(mapped, transaction))
    return _finish(MessageType.BINDING_SUCCESS, transaction, attributes, password)


def binding_error(
    transaction: bytes,
    code: int,
    reason: str,
    password: str | bytes | None,
    unknown_attributes: tuple[int, ...] = (),
) -> bytes:
    """An error response (RFC 8489 §6.3.1.1).

    :param code: 300 to 699.
    :param unknown_attributes: for 420, the types that were not understood.
    """
    value = struct.pack("!HBB", 0, code // 100, code % 100) + reason.encode()
    attributes = _attribute(AttributeType.ERROR_CODE, value)
    if unknown_attributes:
        packed = struct.pack(f"!{len(unknown_attributes)}H", *unknown_attributes)
        attributes += _attribute(AttributeType.UNKNOWN_ATTRIBUTES, packed)
    return _finish(MessageType.BINDING_ERROR, transaction, attributes, password)
