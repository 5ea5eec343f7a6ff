"""What a stranger or a peer can make an end hold, do and keep: bytes, work, time and secrets, each with its bound.

Bytes are those that Python allocates, its objects with all that belongs to them. How fast floods are handled is
measured by ``python -m benchmarks flood``.
"""

import ast
import gc
import hmac
import itertools
import pathlib
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mediapeer.dtls
from mediapeer.dtls import (
    ClientAuthentication,
    DtlsConnection,
    HandshakeTimeout,
    NamedGroup,
    NotConnected,
    ProtocolVersion,
    Role,
    StatelessListener,
    TicketKeys,
    handshake12,
    handshake12_server,
    handshake13,
    handshake13_server,
)
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.registry import ContentType, HandshakeType
from tests.dtls.forging import (
    answers,
    fresh_server,
    hello_body,
    is_server_hello,
    newest,
    other,
    piece,
    with_number_from_afar,
)
from tests.dtls.support import Pair, configuration, credentials, expecting

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
EACH_ROLE = pytest.mark.parametrize("victim", list(Role))
pytestmark = pytest.mark.usefixtures("version")

HALF_OPEN_BYTES = 65_536
"What a handshake that goes no further may hold of a server's memory."
LONGEST_MESSAGE = 16_384


def growth(action: Callable[[], object]) -> int:
    """The bytes that are held after ``action`` and were not before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = action()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    del kept
    return held


# An address that has proved nothing


def listener() -> StatelessListener:
    return StatelessListener(configuration(), bytes(range(32)))


def first_hello() -> bytes:
    client = DtlsConnection(configuration(groups_to_share=(NamedGroup.X25519,)), Role.CLIENT, 0.0)
    (hello,) = client.datagrams_to_send()
    return hello


def test_an_address_that_has_proved_nothing_costs_no_byte() -> None:
    subject, hello = listener(), first_hello()

    def greet() -> None:
        for number in range(500):
            assert subject.receive_datagram(hello, b"192.0.2.1:%d" % number, 1.0) is not None
            assert subject.receive_datagram(hello[: number % len(hello)], b"192.0.2.2", 1.0) is None

    greet()
    assert growth(greet) < 500  # not a byte for each


@pytest.fixture
def public_key_operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what costs much, each time it is done by a server."""
    done: list[str] = []

    def watch(module: types.ModuleType, name: str) -> None:
        original = getattr(module, name)

        def watched(*args: Any) -> Any:
            done.append(name)
            return original(*args)

        monkeypatch.setattr(module, name, watched)

    for module, name in (
        (handshake12_server, "generate_key_share"),
        (handshake12_server, "sign"),
        (handshake13_server, "answer_key_share"),
        (handshake13, "sign"),
        (handshake13, "verify"),
        (handshake12, "verify"),
    ):
        watch(module, name)
    return done


def test_an_address_that_has_proved_nothing_costs_no_public_key_operation(
    public_key_operations: list[str],
) -> None:
    subject, hello = listener(), first_hello()
    for number in range(50):
        assert isinstance(subject.receive_datagram(hello, b"%d" % number, 1.0), bytes)
    assert public_key_operations == []
    assert is_server_hello(answers(fresh_server(), [hello]))
    assert sorted(public_key_operations)[-1] == "sign", (
        "the operations are not where this test looks for them"
    )


# A handshake that goes no further


def with_large_fragments(server: DtlsConnection) -> Iterator[bytes]:
    """Nearly all of each message that it waits for, and of each that comes later."""
    first = server._reassembler.next_message_seq
    for seq in range(first, first + 20):
        for start in range(1, LONGEST_MESSAGE, 1000):
            yield piece(bytes(LONGEST_MESSAGE), start, start + 1000, kind=HandshakeType.CERTIFICATE, seq=seq)


def with_small_fragments(server: DtlsConnection) -> Iterator[bytes]:
    """One byte here, one byte there."""
    first = server._reassembler.next_message_seq
    for seq in range(first, first + 20):
        for start in (*range(1, 256, 2), *range(256, LONGEST_MESSAGE, 256)):
            yield piece(bytes(LONGEST_MESSAGE), start, start + 1, kind=HandshakeType.CERTIFICATE, seq=seq)


def with_records_that_wait_for_keys(server: DtlsConnection) -> Iterator[bytes]:
    """Records of epochs that nobody has keys for, of either version."""
    for number in range(40):
        yield serialize_record(ContentType.APPLICATION_DATA, (1 << 48) + number, bytes(2048))
        yield bytes([0b00101110]) + bytes(2) + (2048).to_bytes(2, "big") + bytes(2048)


def with_everything(server: DtlsConnection) -> Iterator[bytes]:
    """All of that."""
    yield from with_small_fragments(server)
    yield from with_large_fragments(server)
    yield from with_records_that_wait_for_keys(server)


def half_open(*, after_hello: bool, **options: Any) -> DtlsConnection:
    """A server whose client has said hello and no more, or not even that."""
    server = fresh_server(maximum_version=V13, **options)
    if after_hello:
        client = DtlsConnection(configuration(**options), Role.CLIENT, 0.0)
        assert answers(server, client.datagrams_to_send())
    return server


@pytest.mark.parametrize("after_hello", [False, True], ids=["before the hello", "after it"])
@pytest.mark.parametrize(
    "attack",
    [with_large_fragments, with_small_fragments, with_records_that_wait_for_keys, with_everything],
)
def test_a_half_open_handshake_holds_no_more_than_64_kilobytes(
    attack: Callable[[DtlsConnection], Iterator[bytes]], after_hello: bool
) -> None:
    def attacked() -> DtlsConnection:
        server = half_open(after_hello=after_hello)
        for datagram in attack(server):
            server.receive_datagram(datagram, 0.1)
        assert server.error is None
        server.datagrams_to_send()
        return server

    attacked()
    assert growth(attacked) <= HALF_OPEN_BYTES


def with_keys_but_not_known() -> DtlsConnection:
    """A server of DTLS 1.2 whose client has shared keys with it, and sends data instead of its Finished."""
    pair = Pair(server=configuration(client_authentication=ClientAuthentication.OPTIONAL))
    pair.impairment = lambda role, index, datagram: [] if role is Role.CLIENT and index else [(0.0, datagram)]
    while 1 not in pair.client._records.writers:
        pair.step()
    flight = b"".join(pair.sent[Role.CLIENT][1:])
    pair.server.receive_datagram(flight[: flight.rindex(b"\x16\xfe\xfd\0\1")], pair.now)
    for _ in range(40):
        data = pair.client._records.writers[1].seal(ContentType.APPLICATION_DATA, bytes(2048))
        pair.server.receive_datagram(data, pair.now)
    for datagram in with_everything(pair.server):
        pair.server.receive_datagram(datagram, pair.now)
    pair.server.datagrams_to_send()
    return pair.server


@pytest.mark.parametrize("version", [V12], indirect=True)
def test_nor_does_one_whose_client_has_keys_and_has_not_finished() -> None:
    """Data that overtakes Finished waits; whoever has done a key exchange can send some, and is nobody yet."""
    server = with_keys_but_not_known()
    assert server.error is None
    assert server.next_event() is None
    assert growth(with_keys_but_not_known) <= HALF_OPEN_BYTES


def test_what_runs_ahead_leaves_room_for_what_is_due() -> None:
    """A stranger's fragments of messages to come, as many as are taken: the ClientHello gets in all the same."""
    server = half_open(after_hello=False)
    for seq in range(1, 20):
        for start in range(0, LONGEST_MESSAGE, 500):
            server.receive_datagram(piece(bytes(LONGEST_MESSAGE), start, start + 400, kind=11, seq=seq), 0.1)
    body = hello_body()
    pieces = [piece(body, start, start + 100) for start in range(0, len(body), 100)]
    assert is_server_hello(answers(server, pieces, 0.1))


@pytest.mark.parametrize("after_hello", [False, True], ids=["before the hello", "after it"])
def test_a_half_open_handshake_ends_in_time_however_much_comes(after_hello: bool) -> None:
    server, now = half_open(after_hello=after_hello, handshake_timeout=5.0), 0.0
    for number, datagram in enumerate(itertools.cycle(with_everything(server))):
        now = 0.01 * number
        server.receive_datagram(datagram, now)
        timeout = server.next_timeout()
        if timeout is None:
            break
        assert timeout <= 5.0
        if timeout <= now:
            server.handle_timeout(now)
    assert isinstance(server.error, HandshakeTimeout)
    assert now == pytest.approx(5.0, abs=0.02)


def test_a_handshake_that_has_ended_holds_next_to_nothing() -> None:
    def ended() -> DtlsConnection:
        server = half_open(after_hello=True)
        for datagram in with_everything(server):
            server.receive_datagram(datagram, 0.1)
        server.close()
        return server

    ended()
    assert growth(ended) < 12_000


def microseconds_each(server: DtlsConnection, datagram: bytes) -> float:
    """What receiving a datagram costs, at best."""
    best = 1.0
    for _ in range(5):
        started = time.perf_counter()
        server.receive_datagram(datagram, 0.1)
        best = min(best, time.perf_counter() - started)
    return 1e6 * best


def test_what_is_held_does_not_make_the_next_fragment_dear() -> None:
    """A fragment that repeats one costs about the same however many are held."""
    repeated = handshake_header(HandshakeType.CERTIFICATE, LONGEST_MESSAGE, 1, 1, 1) + b"\0"
    datagram = serialize_record(ContentType.HANDSHAKE, 0, 80 * repeated)
    server, costs = half_open(after_hello=False), []
    for number, small in enumerate(with_small_fragments(server)):
        server.receive_datagram(small, 0.1)
        if number % 100 == 0:
            costs.append(microseconds_each(server, datagram))
    assert max(costs) < 4 * costs[0]


# An established association


def floods(pair: Pair, victim: Role) -> dict[str, list[bytes]]:
    """What somebody with the peer's address can send: junk, copies of what he saw, and forgeries."""
    genuine = newest(pair, other(victim), bytes(100))
    body = piece(bytes(LONGEST_MESSAGE), 1, 1000, seq=pair.end(victim)._reassembler.next_message_seq)
    return {
        "junk": [bytes([first]) + bytes(range(60)) for first in range(20, 64)],
        "replays": [genuine, *pair.sent[other(victim)]],
        "forgeries": [
            with_number_from_afar(genuine),
            genuine[:-1] + bytes([genuine[-1] ^ 1]),
            *(bytes([genuine[0] ^ bits]) + genuine[1:] for bits in range(1, 4)),
        ],
        "fragments": [body, *(b"\x16" + body[1:4] + bytes([n]) + body[5:] for n in range(4))],
        "alerts and ACKs": [
            serialize_record(ContentType.ALERT, 9, b"\2\x28"),
            serialize_record(ContentType.ALERT, 9, b"\1\0"),
            serialize_record(ContentType.ACK, 9, b"\0\x10" + bytes(16)),
        ],
    }


KINDS_OF_FLOODS = ["junk", "replays", "forgeries", "fragments", "alerts and ACKs"]


@EACH_ROLE
@pytest.mark.parametrize("kind", KINDS_OF_FLOODS)
def test_a_flood_leaves_nothing_behind_and_is_not_answered(victim: Role, kind: str) -> None:
    pair = Pair().run()
    end = pair.end(victim)
    flood = floods(pair, victim)[kind]
    pair.end(victim).receive_datagram(flood[0], pair.now)
    pair.flush()

    def pour() -> None:
        for _ in range(2000 // len(flood)):
            for datagram in flood:
                end.receive_datagram(datagram, pair.now)

    pour()
    assert growth(pour) < 1000
    assert end.datagrams_to_send() == []
    assert end.next_event() is None
    assert end.counters.total() > 2000
    pair.assert_connected()


@EACH_ROLE
def test_a_datagram_of_forgeries_is_left_after_a_few(victim: Role) -> None:
    """Trying the rest would cost more than sending it."""
    pair = Pair().run()
    forged = with_number_from_afar(newest(pair, other(victim), b"x"))
    pair.end(victim).receive_datagram(40 * forged, pair.now)
    assert pair.end(victim).counters["unauthentic_records"] <= 4
    pair.assert_connected()


# Time


def silent_client(**options: Any) -> tuple[DtlsConnection, list[float]]:
    """A client that nobody answers, and when its timer fired."""
    client, times = DtlsConnection(configuration(**options), Role.CLIENT, 0.0), []
    while (timeout := client.next_timeout()) is not None:
        client.datagrams_to_send()
        client.handle_timeout(timeout)
        times.append(timeout)
    return client, times


def test_time_outs_double_from_the_initial_one_to_a_cap_and_are_bounded_in_number() -> None:
    client, times = silent_client(
        initial_retransmission_timeout=0.3,
        maximum_retransmission_timeout=2.0,
        maximum_retransmissions=5,
        handshake_timeout=None,
    )
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *times])]
    assert gaps == pytest.approx([0.3, 0.6, 1.2, 2.0, 2.0, 2.0])
    assert isinstance(client.error, HandshakeTimeout)


def test_the_total_time_of_a_handshake_is_bounded() -> None:
    client, times = silent_client(handshake_timeout=7.0, maximum_retransmissions=1000)
    assert times[-1] == 7.0
    assert isinstance(client.error, HandshakeTimeout)


# Secrets


def reachable(root: object) -> Iterator[object]:
    """Every object that can be got at from ``root``, but no code."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(thing))
        yield thing
        waiting += gc.get_referents(thing)


def secrets_in(connection: DtlsConnection, lines: list[str]) -> int:
    """How many of the secrets of a key log are to be found in a connection."""
    secrets = [bytes.fromhex(line.split()[2]) for line in lines]
    held = [thing for thing in reachable(connection) if isinstance(thing, bytes | bytearray)]
    return sum(any(secret in thing for thing in held) for secret in secrets)


ENDINGS: dict[str, Callable[[Pair, Role], None]] = {
    "it closes": lambda pair, role: pair.end(role).close(),
    "the peer closes": lambda pair, role: pair.peer(role).close(),
    "it fails": lambda pair, role: pair.peer(role)._datagrams.append(
        pair.peer(role)._records.writer.seal(ContentType.HANDSHAKE, b"nonsense")
    ),
    "the peer fails": lambda pair, role: pair.end(role)._datagrams.append(
        pair.end(role)._records.writer.seal(ContentType.HANDSHAKE, b"nonsense")
    ),
}


@EACH_ROLE
@pytest.mark.parametrize("ending", ENDINGS)
def test_secrets_are_dropped_when_the_association_ends(victim: Role, ending: str) -> None:
    lines: list[str] = []
    logging = configuration(key_log=lines.append)
    pair = Pair(logging, logging).run()
    end = pair.end(victim)
    assert secrets_in(end, lines) > 0
    ENDINGS[ending](pair, victim)
    pair.run()
    assert not end.is_connected
    assert secrets_in(end, lines) == 0
    assert not end._records._plain
    assert not end._records._unified
    with pytest.raises(NotConnected):
        end.export_keying_material(b"EXTRACTOR-dtls_srtp", None, 60)


@EACH_ROLE
@pytest.mark.parametrize("ending", ["it closes", "the peer closes"])
def test_no_key_is_kept_when_nothing_may_have_to_be_said_again(victim: Role, ending: str) -> None:
    """The key that a fatal alert is repeated with is another matter."""
    pair = Pair().run()
    ENDINGS[ending](pair, victim)
    pair.run()
    names = {type(thing).__name__ for thing in reachable(pair.end(victim))}
    assert names.isdisjoint({"AESGCM", "AESCCM", "ChaCha20Poly1305", "CipherContext"})


# Comparisons

SECRET_WORDS = ("verify_data", "mac", "binder", "cookie", "digest", "fingerprint", "finished", "tag")


def names_of(node: ast.expr) -> set[str]:
    """The names in an expression, those of attributes alone: ``retry.cookie`` has ``retry`` and ``cookie``."""
    found = {n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "") for n in ast.walk(node)}
    return {name.removeprefix("_") for name in found}  # code points are in capitals


def comparisons(source: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Module and function of each ``==``, ``!=`` and ``in`` between byte strings that name a secret."""
    for function in ast.walk(ast.parse(source.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Compare):
                continue
            operands = [node.left, *node.comparators]
            is_equality = isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn)
            is_of_lengths = any(isinstance(o, ast.Call) for o in operands)
            named = set[str]().union(*map(names_of, operands))
            if is_equality and not is_of_lengths and named.intersection(SECRET_WORDS):
                yield source.stem, function.name


def test_secrets_are_compared_in_constant_time_and_in_no_other_way() -> None:
    directory = pathlib.Path(mediapeer.dtls.__file__).parent
    assert [place for source in directory.glob("*.py") for place in comparisons(source)] == []


def test_finished_cookie_fingerprint_and_binder_are_what_compare_digest_sees(
    version: ProtocolVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    genuine = hmac.compare_digest

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((bytes(a), bytes(b)))
        return genuine(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    ours, theirs = credentials(name="ours"), credentials(name="theirs")
    pair = Pair(
        configuration(credentials=(ours,), verifier=expecting(theirs)),
        configuration(credentials=(theirs,), verifier=expecting(ours)),
    )
    pair.run().assert_connected()
    values = {a for a, _ in compared}
    assert {ours.fingerprint().encode(), theirs.fingerprint().encode()} <= values
    assert sum(len(value) == (12 if version is V12 else 32) for value in values) == 2  # both Finished
    compared.clear()
    subject = listener()
    client = DtlsConnection(configuration(groups_to_share=(NamedGroup.X25519,)), Role.CLIENT, 0.0)
    request = subject.receive_datagram(client.datagrams_to_send()[0], b"here", 0.0)
    assert isinstance(request, bytes)
    client.receive_datagram(request, 0.0)
    (hello,) = client.datagrams_to_send()
    assert isinstance(subject.receive_datagram(hello, b"here", 0.0), DtlsConnection)
    assert [a for a, b in compared if a == b and a in request]
    if version is V13:
        resuming = configuration(resume_sessions=True, groups_to_share=(NamedGroup.X25519,), mtu=9000)
        ticketing = configuration(session_tickets=TicketKeys())
        first = Pair(resuming, ticketing).run()
        compared.clear()
        again = Pair(resuming, ticketing, session=first.sessions[0]).run()
        assert again.server.is_resumed
        binder = again.sent[Role.CLIENT][0][-32:]
        assert (binder, binder) in compared
