"""Peers that read less of a record than there is in it, and name fewer records in an ACK than they have had.

Firefox is such a one: it keeps no message before its turn, and looks no further in a record than to a message that it
has had; its ACKs leave out the records in which a flight's first message began, and go on naming the record in which
a piece first came, however often that comes again.
"""

from collections.abc import Sequence

import pytest

from mediapeer.dtls import DtlsConfiguration, DtlsConnection, HandshakeTimeout, Role
from mediapeer.dtls.epochs import WriteEpoch
from mediapeer.dtls.flights import REMEMBERED_RECORDS, Flight, OutgoingHandshakeMessage
from mediapeer.dtls.messages13 import RecordNumber
from mediapeer.dtls.reassembly import handshake_header, parse_fragments
from mediapeer.dtls.registry import HandshakeType
from tests.dtls.support import Impairment, Pair, configuration, deliver

MTU = 256
HANDSHAKE_EPOCH = 2


class ReadsInOrder(DtlsConnection):
    """Reads records as Firefox does."""

    def _receive_handshake(self, epoch: int, sequence_number: int, plaintext: bytes) -> None:
        for fragment in parse_fragments(plaintext):
            due = self._reassembler.next_message_seq
            if fragment.message_seq <= due:
                header = handshake_header(
                    fragment.handshake_type,
                    fragment.length,
                    fragment.message_seq,
                    fragment.offset,
                    len(fragment.data),
                )
                super()._receive_handshake(epoch, sequence_number, header + fragment.data)
            if fragment.message_seq < due:
                return
            if fragment.message_seq > due:
                self._leave_out(RecordNumber(epoch, sequence_number))

    def _leave_out(self, number: RecordNumber) -> None:
        """Only records that were read to their end are acknowledged."""
        if number in self._acks._numbers:
            self._acks._numbers.remove(number)


class NamesSome(DtlsConnection):
    """Acknowledges of the peer's last flight only the records that it is told to."""

    named: Sequence[int] = ()
    "Their places in the order in which they came, from 0."

    def __init__(self, configuration: DtlsConfiguration, role: Role, now: float) -> None:
        super().__init__(configuration, role, now)
        self._came: list[RecordNumber] = []
        note = self._acks.note

        def note_some(number: RecordNumber) -> None:
            if number.epoch == HANDSHAKE_EPOCH:
                if number not in self._came:
                    self._came.append(number)
                if self._came.index(number) not in self.named:
                    return
            note(number)

        self._acks.note = note_some  # type: ignore[method-assign]


def pair_with(peer: type[DtlsConnection], role: Role, impairment: Impairment = deliver) -> Pair:
    """Both authenticate in several datagrams; the end of that role is of that kind."""
    end = configuration(mtu=MTU)
    pair = Pair(end, end, impairment)
    if role is Role.CLIENT:
        pair.client = peer(end, role, pair.now)
    else:
        pair.server = peer(end, role, pair.now)
    return pair


def positions() -> list[tuple[Role, int]]:
    """Each datagram of an undisturbed handshake, as (sender, number)."""
    pair = Pair(configuration(mtu=MTU), configuration(mtu=MTU)).run()
    return [(role, index) for role in Role for index in range(len(pair.sent[role]))]


each_position = pytest.mark.parametrize(("sender", "position"), positions())


@each_position
@pytest.mark.parametrize("extra", [None, 0.002, 0.03], ids=["lost", "overtaken", "late"])
def test_a_peer_that_reads_in_order_gets_to_the_end(sender: Role, position: int, extra: float | None) -> None:
    def impair(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        if role is not sender or index != position:
            return [(0.0, datagram)]
        return [] if extra is None else [(extra, datagram)]

    reader = Role.SERVER if sender is Role.CLIENT else Role.CLIENT
    pair = pair_with(ReadsInOrder, reader, impair)
    started = pair.now
    while not (pair.client.is_connected and pair.server.is_connected):
        assert pair.step()
        assert pair.now < started + 1.0
    pair.run().assert_connected()


@pytest.mark.parametrize("apart", [True, False])
def test_each_message_has_its_own_records_when_it_is_sent_again(apart: bool) -> None:
    records: list[int] = []

    def count(is_sent: bool, content_type: int, plaintext: bytes) -> None:
        if is_sent and content_type == 22:
            records.append(len({fragment.message_seq for fragment in parse_fragments(plaintext)}))

    server = configuration(mtu=1200, trace=count, repeats_apart=apart)
    pair = Pair(configuration(mtu=1200), server)
    while not pair.sent[Role.SERVER]:
        pair.step()
    assert max(records) > 1, "at first they share records"
    records.clear()
    pair.server.handle_timeout(pair.now + 1.0)
    assert (max(records) == 1) is apart


def test_a_record_that_came_long_ago_may_still_be_named() -> None:
    """The first sending arrives; the ACKs do not, until the flight was sent again many times."""
    pair = pair_with(NamesSome, Role.SERVER)
    pair.server.named = range(3)  # type: ignore[attr-defined]

    def lose_acks(role: Role, index: int, datagram: bytes) -> Sequence[tuple[float, bytes]]:
        is_lost = role is Role.SERVER and pair.server.is_connected and pair.now < 110.0
        return [] if is_lost else [(0.0, datagram)]

    pair.impairment = lose_acks
    pair.run()
    assert 6 <= pair.client.activity["retransmissions"] <= 9
    assert pair.now < 115.0
    pair.assert_connected()


def test_what_is_never_named_neither_ends_the_association_nor_holds_it_up() -> None:
    """A KeyUpdate waits for the flight before it, and not for ever."""
    pair = pair_with(NamesSome, Role.SERVER)
    pair.server.named = (1, 2)  # type: ignore[attr-defined]
    while not pair.client.is_connected:
        pair.step()
    started = pair.now
    pair.client.update_keys(request_peer=True)
    pair.run()
    assert pair.now > started + 100.0
    assert pair.client.activity["retransmissions"] == 12
    assert pair.client.next_timeout() is None
    assert pair.server.activity["key_updates_received"] == 1
    pair.assert_connected()


def test_an_end_that_is_never_named_ends_it() -> None:
    """Only who has Finished has come to the end of the flight."""
    pair = pair_with(NamesSome, Role.SERVER)
    pair.server.named = (0, 1)  # type: ignore[attr-defined]
    pair.run()
    assert isinstance(pair.client.error, HandshakeTimeout)


def test_what_is_remembered_of_a_flight_is_bounded(writers: dict[int, WriteEpoch]) -> None:
    flight = Flight([OutgoingHandshakeMessage(0, HandshakeType.CERTIFICATE, 0, bytes(1000))])
    for _ in range(300):
        flight.pack(writers, MTU)
    newest = writers[0].next_sequence_number - 1
    assert len(flight._sent) == REMEMBERED_RECORDS
    assert not flight.acknowledge([RecordNumber(0, 0)])
    assert flight.acknowledge([RecordNumber(0, newest)])


@pytest.fixture
def writers() -> dict[int, WriteEpoch]:
    """The epochs of an end that has sent nothing."""
    return dict(DtlsConnection(configuration(), Role.SERVER, 0.0)._records.writers)
