"""What somebody on the path can try against a handshake, and what a peer can try with numbers and fragments."""

import dataclasses

import pytest

from mediapeer.dtls import (
    AlertDescription,
    DtlsConnection,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    SequenceNumbersExhausted,
)
from mediapeer.dtls.flights import REMEMBERED_RECORDS, OutgoingHandshakeMessage
from mediapeer.dtls.messages import ServerHello
from mediapeer.dtls.messages13 import HELLO_RETRY_REQUEST_RANDOM, RecordNumber, serialize_ack
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import ContentType, HandshakeType, NamedGroup
from mediapeer.dtls.transmission import MAXIMUM_DEMANDS
from tests.dtls.support import Pair, configuration
from tests.dtls.test_misbehaviour import tamper

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
HANDSHAKE = ContentType.HANDSHAKE


def exchange(sender: DtlsConnection, receiver: DtlsConnection, now: float) -> None:
    """Carry across what one end has to send."""
    for datagram in sender.datagrams_to_send():
        receiver.receive_datagram(datagram, now)


def forged_unified(epoch: int) -> bytes:
    """A record of DTLS 1.3 that nobody has sealed."""
    return bytes([0b00101100 | epoch & 3]) + bytes(2) + (32).to_bytes(2, "big") + bytes(32)


def trickling_pair() -> Pair:
    """Both ends in many datagrams that arrive one by one."""
    return Pair(
        configuration(mtu=300),
        configuration(mtu=300),
        lambda role, index, datagram: [(0.001 * index, datagram)],
    )


# Unprotected records after the peer has shown that it has keys


@pytest.mark.parametrize("victim", list(Role))
@pytest.mark.parametrize("length", [100_000, 32_000], ids=["too long", "a part"])
def test_forged_fragments_do_not_end_or_stop_a_protected_handshake(victim: Role, length: int) -> None:
    pair = trickling_pair()
    end, injected = pair.end(victim), False
    for _ in range(300):
        if not pair.step():
            break
        if end._handshake is None or not end._saw_authentic_record:
            continue
        injected = True
        for ahead in range(4):
            seq = end._reassembler.next_message_seq + ahead
            for offset in range(0, 30_000, 6_000):
                forged = handshake_header(11, length, seq, offset, 6_000) + bytes(6_000)
                end.receive_datagram(serialize_record(HANDSHAKE, 5, forged), pair.now)
        assert end._reassembler.blocks <= 12
    assert injected
    pair.assert_connected()


def test_what_was_kept_of_forged_fragments_goes_when_the_peer_shows_its_keys() -> None:
    pair = Pair()
    fragment = handshake_header(11, 16_000, 3, 0, 8_000) + bytes(8_000)
    pair.client.receive_datagram(serialize_record(HANDSHAKE, 5, fragment), pair.now)
    assert pair.client._reassembler.blocks == 16
    pair.run().assert_connected()
    assert pair.client._reassembler.blocks == 0


@pytest.mark.parametrize("ahead", [0, 8])
def test_what_was_dropped_is_not_acknowledged(ahead: int) -> None:
    """An ACK names what was processed or kept, and nothing else (RFC 9147 §7)."""
    pair = Pair().run()
    pair.client._acks.forget()
    seq = pair.client._reassembler.next_message_seq + ahead
    record = pair.server._records.writer.seal(
        HANDSHAKE, handshake_header(HandshakeType.KEY_UPDATE, 2, seq, 0, 1) + b"\0"
    )
    pair.client.receive_datagram(record, pair.now)
    assert len(pair.client._acks._numbers) == (1 if ahead == 0 else 0)


# Records of one version in the other


@pytest.mark.parametrize("victim", list(Role))
def test_junk_of_dtls_13_does_not_disturb_a_handshake_of_12(victim: Role) -> None:
    """An ACK would be a record of a type that DTLS 1.2 does not have, and end it."""
    able = configuration(initial_retransmission_timeout=0.04)
    old = configuration(maximum_version=V12)
    pair = Pair(
        *((able, old) if victim is Role.CLIENT else (old, able)),
        impairment=lambda role, index, datagram: [(0.02, datagram)],
    )
    end = pair.end(victim)
    for _ in range(100):
        if not pair.step():
            break
        if end._handshake is not None and end._handshake.version is V12:
            acks = end.activity["acks_sent"]
            end.receive_datagram(forged_unified(2), pair.now)
            assert end.activity["acks_sent"] == acks
    pair.assert_connected()


def test_a_forged_ack_means_nothing_once_dtls_12_is_chosen() -> None:
    pair = Pair(server=configuration(maximum_version=V12))
    while pair.client._handshake is None or pair.client._handshake.version is None:
        pair.step()
    pair._under_way.clear()  # the client's second flight is lost
    forged = serialize_ack(tuple(RecordNumber(0, number) for number in range(20)))
    pair.client.receive_datagram(serialize_record(ContentType.ACK, 0, forged), pair.now)
    pair.run().assert_connected()


def test_junk_makes_a_connected_end_neither_speak_nor_keep_it() -> None:
    pair = Pair().run()
    now, acks = pair.now, pair.server.activity["acks_sent"]
    for number in range(200):
        now = pair.now + 0.02 * number
        pair.server.receive_datagram(forged_unified(1), now)
        if (timeout := pair.server.next_timeout()) is not None and timeout <= now:
            pair.server.handle_timeout(now)
    assert pair.server.activity["acks_sent"] == acks
    assert not pair.server._records.is_holding


def test_a_server_answers_no_junk_before_a_client_hello() -> None:
    """Nobody has shown that he speaks DTLS 1.3, or anything at all."""
    server = DtlsConnection(configuration(), Role.SERVER, 0.0)
    for number in range(100):
        server.receive_datagram(forged_unified(number), 0.02 * number)
        if (timeout := server.next_timeout()) is not None and timeout <= 0.02 * number:
            server.handle_timeout(0.02 * number)
    assert server.datagrams_to_send() == []
    assert not server._records.is_holding


@pytest.mark.parametrize("sentinel", [b"DOWNGRD\1", b"DOWNGRD\0"])
def test_either_sentinel_of_a_downgrade_is_heeded(sentinel: bytes) -> None:
    """RFC 8446 §4.1.3."""
    marked = configuration(maximum_version=V12, random_bytes=lambda n: bytes(n - 8) + sentinel)
    pair = Pair(configuration(), marked).run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is AlertDescription.ILLEGAL_PARAMETER


def test_a_retry_that_echoes_a_session_id_is_refused() -> None:
    pair = Pair(server=configuration(groups=(NamedGroup.SECP256R1,)))

    def echo(hello: ServerHello) -> ServerHello:
        is_retry = hello.random == HELLO_RETRY_REQUEST_RANDOM
        return dataclasses.replace(hello, session_id=b"x" * 32) if is_retry else hello

    tamper(pair.server, {ServerHello: echo})
    pair.run()
    assert isinstance(pair.client.error, PeerMisbehaved)
    assert pair.client.error.alert is AlertDescription.ILLEGAL_PARAMETER


# Amplification and memory


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_server_is_not_made_to_send_its_flight_again_and_again(
    version: ProtocolVersion, is_empty: bool
) -> None:
    """Repeated ClientHellos, or the empty ends of one, in 29 seconds of a handshake that goes no further."""
    server = DtlsConnection(configuration(mtu=256), Role.SERVER, 0.0)
    client = DtlsConnection(configuration(maximum_version=version), Role.CLIENT, 0.0)
    hello = client.datagrams_to_send()
    for datagram in hello:
        server.receive_datagram(datagram, 0.0)
    flight = sum(map(len, server.datagrams_to_send()))
    length = int.from_bytes(hello[-1][14:17], "big")
    poke = (
        serialize_record(HANDSHAKE, 9, handshake_header(1, length, 0, length, 0)) if is_empty else hello[-1]
    )
    sent = 0
    for number in range(1, 1156):
        now = 0.0251 * number
        server.receive_datagram(poke, now)
        if (timeout := server.next_timeout()) is not None and timeout <= now:
            server.handle_timeout(now)
        sent += sum(map(len, server.datagrams_to_send()))
    by_the_timer = 10
    assert sent < 1.2 * flight * (by_the_timer + (0 if is_empty else MAXIMUM_DEMANDS))
    assert len(server._transmission.flight._sent) <= REMEMBERED_RECORDS


# Keys and numbers


def test_old_keys_are_kept_until_the_new_ones_are_used() -> None:
    """However long the peer hears nothing of its KeyUpdate (RFC 9147 §8)."""
    slow = configuration(initial_retransmission_timeout=1.0)
    pair = Pair(slow, slow).run()
    healed = pair.now + 245
    pair.impairment = lambda role, index, datagram: (
        [] if role is Role.CLIENT and pair.now < healed else [(0.0, datagram)]
    )
    pair.server.update_keys(request_peer=False)
    while pair.now < healed and pair.step():
        pass
    pair.server.send_application_data(b"in the old keys: no ACK came")
    pair.run()
    assert pair.received(Role.CLIENT) == [b"in the old keys: no ACK came"]
    pair.assert_connected()


def test_a_repeated_key_update_is_acknowledged_while_our_last_flight_is_pending() -> None:
    client = DtlsConnection(configuration(), Role.CLIENT, 0.0)
    server = DtlsConnection(configuration(), Role.SERVER, 0.0)
    exchange(client, server, 0.0)
    exchange(server, client, 0.0)
    exchange(client, server, 0.0)
    assert client.is_connected
    assert server.is_connected
    server.datagrams_to_send()  # the ACK of the client's last flight is lost
    server.update_keys(request_peer=False)
    exchange(server, client, 0.001)
    client.datagrams_to_send()  # and so is that of the KeyUpdate
    server.handle_timeout(0.06)
    exchange(server, client, 0.06)
    assert client.activity["acks_sent"] == 2


def test_a_message_behind_a_key_update_in_its_epoch_is_refused() -> None:
    """Two KeyUpdates in one epoch would leave the two ends in different ones."""
    pair = Pair().run()
    client = pair.client
    assert client._post_handshake is not None
    first = client._post_handshake._next_message_seq
    client.send_flight(
        [OutgoingHandshakeMessage(3, HandshakeType.KEY_UPDATE, first + n, b"\0") for n in (0, 1)],
        answered=True,
    )
    exchange(client, pair.server, pair.now)
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is AlertDescription.UNEXPECTED_MESSAGE


def test_message_numbers_do_not_wrap() -> None:
    pair = Pair().run()
    assert pair.client._post_handshake is not None
    pair.client._post_handshake._next_message_seq = 2**16 - 1
    pair.server._reassembler.next_message_seq = 2**16 - 1
    pair.client.update_keys(request_peer=False)
    pair.run()
    with pytest.raises(SequenceNumbersExhausted):
        pair.client.update_keys(request_peer=False)
    assert isinstance(pair.client.error, SequenceNumbersExhausted)


def test_record_numbers_that_run_out_while_a_timer_fires_end_typed() -> None:
    pair = Pair(impairment=lambda role, index, datagram: [])
    pair.flush()
    pair.client._records.writer.next_sequence_number = 2**48 - 1
    pair.client.handle_timeout(pair.now + 0.05)
    assert isinstance(pair.client.error, SequenceNumbersExhausted)
