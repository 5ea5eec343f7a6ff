"""STUN messages: the vectors of RFC 5769, aioice as the other end, and whatever a network may send."""

import struct

import pytest
from aioice import stun as other
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.ice.stun import (
    MAXIMUM_ATTRIBUTES,
    MAXIMUM_LENGTH,
    AttributeType,
    MessageType,
    StunError,
    StunMessage,
    binding_error,
    binding_request,
    binding_success,
    is_stun,
    peek,
    transaction_id,
)

#: RFC 5769 §2: one transaction, and the password of its messages.
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff"
    "80290008932ff9b151263b36000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
RESPONSE_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)
KEY = "0123456789abcdefghijkl"


def message(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    """A message without integrity and fingerprint, with whatever attributes."""
    body = b"".join(
        struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes
    )
    return struct.pack("!HHI", kind, len(body), 0x2112A442) + bytes(12) + body


def check(**changes: object) -> bytes:
    arguments = {
        "username": "ours:theirs",
        "password": KEY,
        "priority": 1862270975,
        "controlling": 2**64 - 1,
        "use_candidate": True,
    } | changes
    return binding_request(transaction_id(), **arguments)  # type: ignore[arg-type]


def aioice_reads(data: bytes) -> other.Message:
    read = other.parse_message(data)
    assert read.check_message_integrity(KEY.encode())
    return read


def test_the_request_of_the_rfc() -> None:
    read = StunMessage.parse(REQUEST)
    assert read.type is MessageType.BINDING_REQUEST
    assert read.transaction_id == TRANSACTION
    assert (read.username, read.software) == ("evtj:h6vY", "STUN test client")
    assert (read.priority, read.ice_controlled, read.ice_controlling) == (
        0x6E0001FF,
        0x932FF9B151263B36,
        None,
    )
    assert read.has_valid_integrity(PASSWORD)
    assert not read.has_valid_integrity(PASSWORD.swapcase())
    assert not read.use_candidate
    assert peek(REQUEST) == (1, TRANSACTION, b"evtj:h6vY")


@pytest.mark.parametrize(
    ("vector", "address"),
    [
        (RESPONSE_IPV4, ("192.0.2.1", 32853)),
        (RESPONSE_IPV6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_responses_of_the_rfc(vector: bytes, address: tuple[str, int]) -> None:
    read = StunMessage.parse(vector)
    assert read.type is MessageType.BINDING_SUCCESS
    assert read.mapped_address == address
    assert read.has_valid_integrity(PASSWORD)
    assert peek(vector) == (0x0101, TRANSACTION, None)


@pytest.mark.parametrize("vector", [REQUEST, RESPONSE_IPV4, RESPONSE_IPV6])
def test_no_byte_can_change_unnoticed(vector: bytes) -> None:
    # The header of FINGERPRINT excepted: without it, its eight bytes are an attribute that says nothing.
    for index in [*range(len(vector) - 8), *range(len(vector) - 4, len(vector))]:
        changed = vector[:index] + bytes([vector[index] ^ 1]) + vector[index + 1 :]
        try:
            intact = StunMessage.parse(changed).has_valid_integrity(PASSWORD)
        except StunError:
            intact = False
        assert not intact, index


def test_aioice_reads_our_check() -> None:
    read = aioice_reads(check())
    assert read.attributes["USERNAME"] == "ours:theirs"
    assert read.attributes["PRIORITY"] == 1862270975
    assert read.attributes["ICE-CONTROLLING"] == 2**64 - 1
    assert "USE-CANDIDATE" in read.attributes
    read = aioice_reads(check(controlling=None, controlled=5, use_candidate=False))
    assert read.attributes["ICE-CONTROLLED"] == 5
    assert "USE-CANDIDATE" not in read.attributes


@pytest.mark.parametrize("address", [("192.0.2.7", 1), ("2001:db8::7", 65535), ("fe80::7%eth0", 9)])
def test_aioice_reads_our_answer(address: tuple[str, int]) -> None:
    read = aioice_reads(binding_success(TRANSACTION, address, KEY))
    assert read.message_class == other.Class.RESPONSE
    assert read.attributes["XOR-MAPPED-ADDRESS"] == (address[0].partition("%")[0], address[1])


def test_aioice_reads_our_errors() -> None:
    answer = binding_error(TRANSACTION, 487, "Role Conflict", KEY)
    read = aioice_reads(answer)
    assert (read.message_class, read.attributes["ERROR-CODE"]) == (other.Class.ERROR, (487, "Role Conflict"))


def test_we_read_our_errors_and_what_was_not_understood() -> None:
    read = StunMessage.parse(
        binding_error(TRANSACTION, 420, "Unknown Attribute", KEY, (0x7000, 0x7001, 0x7002))
    )
    assert read.error == (420, "Unknown Attribute")
    assert read.unknown_attributes == (0x7000, 0x7001, 0x7002)


@pytest.mark.parametrize("mapped", [("192.0.2.7", 40000), ("2001:db8::1", 40000)])
def test_we_read_what_aioice_writes(mapped: tuple[str, int]) -> None:
    request = other.Message(other.Method.BINDING, other.Class.REQUEST)
    request.attributes |= {"USERNAME": "a:b", "PRIORITY": 7, "ICE-CONTROLLED": 9, "USE-CANDIDATE": None}
    request.add_message_integrity(KEY.encode())
    read = StunMessage.parse(bytes(request))
    assert (read.username, read.priority, read.ice_controlled) == ("a:b", 7, 9)
    assert read.use_candidate
    assert read.has_valid_integrity(KEY)

    response = other.Message(other.Method.BINDING, other.Class.RESPONSE, request.transaction_id)
    response.attributes["XOR-MAPPED-ADDRESS"] = mapped
    response.add_message_integrity(KEY.encode())
    read = StunMessage.parse(bytes(response))
    assert read.transaction_id == request.transaction_id
    assert read.mapped_address == mapped


def test_a_server_of_old_says_the_address_as_it_is() -> None:
    read = StunMessage.parse(message(0x0101, (AttributeType.MAPPED_ADDRESS, b"\0\1\x9c\x40\xc0\0\2\7")))
    assert read.mapped_address == ("192.0.2.7", 40000)


def test_attributes_that_must_be_understood_are_told_from_those_that_need_not() -> None:
    read = StunMessage.parse(message(1, (0x7FFF, b"?"), (0xC057, b"\0\1\0\0"), (0x0003, b"")))
    assert read.unknown_required == (0x7FFF, 0x0003)
    assert StunMessage.parse(check()).unknown_required == ()


def test_the_first_of_an_attribute_counts_and_nothing_behind_the_integrity() -> None:
    twice = message(1, (AttributeType.PRIORITY, b"\0\0\0\1"), (AttributeType.PRIORITY, b"\0\0\0\2"))
    assert StunMessage.parse(twice).priority == 1
    # Somebody appends to a check what its sender has not said.
    genuine = check(use_candidate=False)[:-8] + struct.pack("!HH", AttributeType.USE_CANDIDATE, 0)
    longer = genuine[:2] + struct.pack("!H", len(genuine) - 20) + genuine[4:]
    read = StunMessage.parse(longer)
    assert read.has_valid_integrity(KEY)
    assert not read.use_candidate


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a STUN message"),
        (bytes(20), "not a STUN message"),
        (message(1)[:-1], "not a STUN message"),
        (message(1) + bytes(4), "not a STUN message"),
        (message(0x0003), "message type 0x0003 is not of Binding"),
        (message(0x4001), "not a STUN message"),
        (message(1, *[(0xFFFF, bytes(200))] * 8), f"a message of {20 + 8 * 204} bytes"),
        (message(1, *[(0xFFFF, b"")] * (MAXIMUM_ATTRIBUTES + 1)), "too many attributes"),
        (message(1, (AttributeType.PRIORITY, b"\0\0\1")), "attribute 0x0024 is malformed"),
        (message(1, (AttributeType.USE_CANDIDATE, b"\0")), "attribute 0x0025 is malformed"),
        (message(1, (AttributeType.USERNAME, b"\xff:\xff")), "attribute 0x0006 is malformed"),
        (message(1, (AttributeType.USERNAME, b"a" * 514)), "attribute 0x0006 is malformed"),
        (message(1, (AttributeType.ICE_CONTROLLING, bytes(7))), "attribute 0x802a is malformed"),
        (message(1, (AttributeType.MESSAGE_INTEGRITY, bytes(19))), "attribute 0x0008 is malformed"),
        (message(0x0101, (AttributeType.XOR_MAPPED_ADDRESS, b"\0\3" + bytes(6))), "attribute 0x0020 is malformed"),
        (message(0x0101, (AttributeType.XOR_MAPPED_ADDRESS, b"\0\2" + bytes(6))), "attribute 0x0020 is malformed"),
        (message(0x0111, (AttributeType.ERROR_CODE, b"\0\0\2\0")), "attribute 0x0009 is malformed"),
        (message(0x0111, (AttributeType.ERROR_CODE, b"\0\0\4\0\xff")), "attribute 0x0009 is malformed"),
        (message(1)[:2] + b"\0\4" + message(1)[4:] + b"\0\6\0\1", "attribute 0x0006 is longer than the message"),
        (message(1, (AttributeType.FINGERPRINT, bytes(4))), "FINGERPRINT is wrong"),
        (message(1, (AttributeType.FINGERPRINT, bytes(4)), (0xFFFF, b"")), "FINGERPRINT is not the last four bytes"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(StunError, match=reason):
        StunMessage.parse(data)


def test_what_was_not_made_with_a_password_is_not_taken_for_it() -> None:
    assert not StunMessage.parse(check(password=None)).has_valid_integrity(KEY)
    assert not StunMessage.parse(check(password=None)).has_valid_integrity("")
    assert StunMessage.parse(check()).has_valid_integrity(KEY.encode())


def test_a_username_far_behind_is_not_looked_for() -> None:
    near = message(1, (0xFFFF, b"12345"), (AttributeType.USERNAME, b"a:b"))
    far = message(1, *[(0xFFFF, b"")] * 20, (AttributeType.USERNAME, b"a:b"))
    assert peek(near) == (1, bytes(12), b"a:b")
    assert peek(far) == (1, bytes(12), None)


_ATTRIBUTES = st.lists(
    st.tuples(
        st.sampled_from(AttributeType) | st.integers(0, 65535),
        st.binary(max_size=24) | st.sampled_from([bytes(4), bytes(8), bytes(20)]),
    ),
    max_size=8,
)


@given(st.binary(max_size=MAXIMUM_LENGTH + 10))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    read_everything(data)


@given(st.integers(0, 65535) | st.sampled_from(MessageType), _ATTRIBUTES, st.data())
def test_what_looks_like_stun_raises_nothing_else(
    kind: int, attributes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = message(kind, *attributes)
    read_everything(whole)
    read_everything(whole[: data.draw(st.integers(0, len(whole)))])
    position = data.draw(st.integers(0, len(whole) - 1))
    read_everything(whole[:position] + data.draw(st.binary(min_size=1, max_size=4)) + whole[position + 1 :])


def read_everything(data: bytes) -> None:
    """Parse and look at every property: only :class:`StunError` may come of it."""
    seen = peek(data)
    assert (seen is not None) == is_stun(data)
    try:
        read = StunMessage.parse(data)
    except StunError:
        return
    for name in dir(read):
        getattr(read, name)
    read.has_valid_integrity(KEY)
    assert seen is not None
    assert seen[:2] == (read.type, read.transaction_id)
