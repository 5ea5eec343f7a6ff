"""Names under ``.local``: the messages byte by byte, and the asking."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediapeer.ice import Candidate, IceOptions, mux
from mediapeer.ice.mdns import (
    MAXIMUM_NAMES,
    MAXIMUM_RECORDS,
    MDNS_PORT,
    TIMEOUT,
    MdnsError,
    MdnsResolver,
    decode_answer,
    encode_question,
    is_hidden_name,
)
from tests.ice.pairs_of_transports import OURS, close, connect, pair_of_ends, restart, start
from tests.ice.virtual_sockets import virtual_bind_all
from tests.transport.virtual import Network, until, virtual

NAME = "0b5d4a8e-4f0e-4a9c-8e7f-6a2f0a7c9d11.local"
LABELS = bytes([36]) + NAME.removesuffix(".local").encode() + b"\x05local\x00"


def record(name: bytes, kind: int, value: bytes, flags: int = 0x8001) -> bytes:
    return name + struct.pack("!HHIH", kind, flags, 120, len(value)) + value


def response(*answers: bytes, additional: tuple[bytes, ...] = ()) -> bytes:
    return struct.pack("!6H", 0, 0x8400, 0, len(answers), 0, len(additional)) + b"".join(answers + additional)


#: As Chromium answers a question for both families when it has one address: the A record with the cache-flush bit,
#: and an NSEC record whose bitmap says that there is no other type (RFC 6762 §6.1).
CHROMIUM = response(
    record(LABELS, 1, bytes([192, 0, 2, 7])),
    additional=(record(b"\xc0\x0c", 47, b"\xc0\x0c\x00\x01\x40"),),
)


def test_a_question_asks_for_both_families() -> None:
    assert encode_question(NAME) == (
        struct.pack("!6H", 0, 0, 2, 0, 0, 0) + LABELS + b"\x00\x01\x00\x01" + b"\xc0\x0c\x00\x1c\x00\x01"
    )


def test_chromiums_answer_is_read_around_its_nsec_record() -> None:
    assert decode_answer(CHROMIUM) == {NAME: ["192.0.2.7"]}
    # The NSEC record may come first, and the owner's name may be in capitals.
    first = response(
        record(LABELS.upper(), 47, b"\xc0\x0c\x00\x04\x40\x00\x00\x08"),
        record(b"\xc0\x0c", 28, bytes(15) + b"\x01"),
    )
    assert decode_answer(first) == {NAME: ["::1"]}


def test_both_families_and_the_question_repeated() -> None:
    header = struct.pack("!6H", 0, 0x8400, 1, 2, 0, 0)
    data = header + LABELS + b"\x00\x01\x00\x01"
    data += record(b"\xc0\x0c", 1, bytes([192, 0, 2, 7])) + record(b"\xc0\x0c", 28, bytes(15) + b"\x02")
    assert decode_answer(data) == {NAME: ["192.0.2.7", "::2"]}


def test_questions_and_failures_are_no_answers() -> None:
    assert decode_answer(encode_question(NAME)) == {}
    assert decode_answer(b"\x00\x00\x84\x03" + CHROMIUM[4:]) == {}
    # Of another class, or of a length that no address has.
    assert decode_answer(response(record(LABELS, 1, bytes(4), flags=3), record(LABELS, 1, bytes(5)))) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        CHROMIUM[:-1],
        CHROMIUM[:60],
        response(record(b"\xc0\x0c", 1, bytes(4))),
        response(record(b"\xc0\xff", 1, bytes(4))),
        response(record(b"\x80", 1, bytes(4))),
        response(record(b"\x3f" + bytes(10), 1, bytes(4))),
        response(record((b"\x3f" + bytes(63)) * 5 + b"\x00", 1, bytes(4))),
        response(*[record(b"\x00", 1, bytes(4))] * (MAXIMUM_RECORDS + 1)),
    ],
    ids=["empty", "cut", "cut in a record", "pointer to itself", "pointer forward", "unknown label", "label too long",
         "name too long", "too many"],
)  # fmt: skip
def test_malformed_answers_are_errors(data: bytes) -> None:
    with pytest.raises(MdnsError):
        decode_answer(data)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: CHROMIUM[:12] + tail)))
def test_no_datagram_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(MdnsError):
        decode_answer(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(NAME, True), (NAME.upper(), True), ("printer.local", False), (f"x{NAME}", False), (f"{NAME}.", False)],
)
def test_only_made_up_names_are_asked_for(name: str, expected: bool) -> None:
    assert is_hidden_name(name) is expected


class Asked(MdnsResolver):
    """A resolver whose questions go nowhere."""

    def __init__(self) -> None:
        super().__init__([OURS])
        self.questions: list[tuple[float, bytes]] = []
        self.is_open = False

    def _open(self) -> bool:
        self.is_open = True
        return True

    def _ask(self, question: bytes) -> None:
        self.questions.append((asyncio.get_running_loop().time(), question))

    def close(self) -> None:
        self.is_open = False
        super().close()


async def asking(resolver: Asked, name: str = NAME) -> "asyncio.Task[list[str]]":
    task = asyncio.create_task(resolver.resolve(name))
    await asyncio.sleep(0.01)
    return task


@virtual
async def test_an_answer_is_given_to_all_who_wait(network: Network) -> None:
    resolver = Asked()
    tasks = [await asking(resolver), await asking(resolver, NAME.upper())]
    assert len(resolver.questions) == 1
    resolver.received(CHROMIUM, 5000)
    resolver.received(b"\x00", MDNS_PORT)
    resolver.received(response(record(LABELS, 1, bytes([224, 0, 0, 1]))), MDNS_PORT)
    resolver.received(response(record(LABELS.replace(b"0b", b"ff"), 1, bytes([192, 0, 2, 9]))), MDNS_PORT)
    assert not any(task.done() for task in tasks)
    resolver.received(CHROMIUM, MDNS_PORT)
    assert [await task for task in tasks] == [["192.0.2.7"]] * 2
    assert resolver.counters == {"mdns_foreign_port": 1, "mdns_malformed": 1}
    assert not resolver.is_open


@virtual
async def test_nobodys_name_is_asked_for_three_times_in_two_seconds(network: Network) -> None:
    resolver = Asked()
    began = asyncio.get_running_loop().time()
    assert await resolver.resolve(NAME) == []
    assert asyncio.get_running_loop().time() - began == pytest.approx(TIMEOUT)
    assert len(resolver.questions) == 3
    assert not resolver.is_open


@virtual
async def test_names_that_wait_are_bounded_and_closing_ends_the_waiting(network: Network) -> None:
    resolver = Asked()
    tasks = [await asking(resolver, f"{number:08x}{NAME[8:]}") for number in range(MAXIMUM_NAMES)]
    assert await resolver.resolve(NAME) == []
    assert await resolver.resolve("printer.local") == []
    assert resolver.counters == {"mdns_not_asked": 2}
    tasks[0].cancel()
    resolver.close()
    assert [await task for task in tasks[1:]] == [[]] * (MAXIMUM_NAMES - 1)


@pytest.mark.parametrize("answer", [["192.0.2.2"], []])
def test_a_transport_pairs_what_the_name_stands_for(
    answer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mux, "bind_all", virtual_bind_all)
    asked: list[str] = []

    async def resolve(self: MdnsResolver, name: str) -> list[str]:
        asked.append(name)
        await asyncio.sleep(0.1)
        return answer

    monkeypatch.setattr(MdnsResolver, "resolve", resolve)

    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends()
        a.peer = b.peer = None
        await asyncio.gather(a.transport.gather(), b.transport.gather())
        hidden = Candidate.from_sdp(f"1 1 udp 2113937151 {NAME} {b.address[1]} typ host")
        a.transport.add_remote_candidate(hidden)
        a.transport.add_remote_candidate(None)
        if answer:
            # The peer does not know us, so that only the name leads to it.
            a.transport.start(b.transport.local_parameters)
            await until(lambda: b.transport.pairs(), seconds=1)
            assert [candidate.host for candidate in a.transport.remote_candidates] == [NAME]
        else:
            start(a, b)
            await until(lambda: a.transport.counters["mdns_unresolved"], seconds=1)
            await asyncio.sleep(0)
        assert asked == [NAME]
        await close(a, b)

    scenario()


def test_after_a_move_names_are_asked_for_on_the_new_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "bind_all", virtual_bind_all)
    addresses = [OURS]
    monkeypatch.setattr("mediapeer.ice.gathering.host_addresses", lambda: addresses)
    asked_on: list[list[str]] = []

    async def resolve(self: MdnsResolver, name: str) -> list[str]:
        asked_on.append(self._interfaces)
        return []

    monkeypatch.setattr(MdnsResolver, "resolve", resolve)

    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends(IceOptions())
        hidden = Candidate.from_sdp(f"1 1 udp 1 {NAME} 9 typ host")
        await connect(a, b)
        a.transport.add_remote_candidate(hidden)
        await asyncio.sleep(0.1)
        addresses[:] = ["198.51.100.2"]
        await restart(a, b)
        a.transport.add_remote_candidate(hidden)
        await asyncio.sleep(0.1)
        assert asked_on == [[OURS], ["198.51.100.2"]]
        await close(a, b)

    scenario()


@pytest.mark.parametrize("options", [{"resolve_mdns": False}, {"relay_only": True}])
def test_a_transport_asks_for_no_name_when_it_must_not(options: dict[str, bool]) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        a, b = pair_of_ends(IceOptions(addresses=[OURS], **options))  # type: ignore[arg-type]
        a.transport.add_remote_candidate(Candidate.from_sdp(f"1 1 udp 1 {NAME} 9 typ host"))
        assert a.transport.counters == Counter(mdns_candidates=1)
        assert a.transport._resolver is None
        await close(a, b)

    scenario()


def test_a_name_is_found_over_real_multicast() -> None:
    """Another socket on this machine plays the browser. Where there is no multicast this is skipped."""

    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as responder:
            try:
                responder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                responder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                responder.bind(("", MDNS_PORT))
                loopback = socket.inet_aton("127.0.0.1")
                group = socket.inet_aton("224.0.0.251") + loopback
                responder.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
                responder.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
                responder.sendto(encode_question(NAME), ("224.0.0.251", MDNS_PORT))
            except OSError as error:
                pytest.skip(f"no multicast on loopback here: {error}")
            responder.setblocking(False)
            loop = asyncio.get_running_loop()
            resolver = MdnsResolver(["127.0.0.1"])
            task = asyncio.create_task(resolver.resolve(NAME))
            while not task.done():
                try:
                    async with asyncio.timeout(0.2):
                        data = await loop.sock_recv(responder, 2000)
                except TimeoutError:
                    continue
                if data == encode_question(NAME):
                    responder.sendto(CHROMIUM, ("224.0.0.251", MDNS_PORT))
            addresses = await task
            if not addresses and not resolver.counters:
                pytest.skip("multicast does not come back on loopback here")
            assert addresses == ["192.0.2.7"]

    asyncio.run(scenario())
