"""Hundreds of calls, opened and closed: nothing of them is left."""

import asyncio
import contextlib
import ctypes
import gc
import os
import threading
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiortc
import pytest

import mediapeer
from mediapeer.peer.decoding import THREAD_NAME
from tests.peer.calls import Tone, aiortcs, echo, negotiate, ours, state

#: How many calls go on at once.
AT_ONCE = 10
#: How much more memory the process may hold after :data:`QUIET_CALLS`, in bytes. What Python has is counted object by
#: object, so this is for what no such count sees: contexts of OpenSSL and libsrtp, and buffers. One call in ten
#: that kept 200 kB would show, and that the allocator keeps some of what it got does not.
MEMORY = 2 << 20
LONGEST_CALL_SECONDS = 20


@pytest.fixture(autouse=True)
def aiortc_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiortc's own connections use loopback, which aioice leaves out."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


async def message_and_back(offerer: aiortc.RTCPeerConnection, answerer: aiortc.RTCPeerConnection) -> None:
    """A message goes over a data channel and comes back."""
    echo(answerer)
    channel = offerer.createDataChannel("chat")
    messages: asyncio.Queue[str] = asyncio.Queue()
    channel.on("message", messages.put_nowait)
    channel.on("open", lambda: channel.send("hello"))
    await negotiate(offerer, answerer)
    assert await messages.get() == "hello"


async def data(make_other: Callable[[], aiortc.RTCPeerConnection] = ours) -> None:
    """Data alone; the end that offered closes, and the other one notices."""
    offerer, answerer = ours(), make_other()
    await message_and_back(offerer, answerer)
    await offerer.close()
    await state(answerer, "closed", "disconnected", "failed")
    await answerer.close()


async def audio() -> None:
    """Sound both ways, with senders, coders and their threads."""
    offerer, answerer = ours(), ours()
    tracks: asyncio.Queue[aiortc.MediaStreamTrack] = asyncio.Queue()
    for peer in (offerer, answerer):
        peer.addTrack(Tone())
        peer.on("track", tracks.put_nowait)
    await message_and_back(offerer, answerer)
    for _ in range(2):
        await (await tracks.get()).recv()
    await asyncio.gather(offerer.close(), answerer.close())


async def given_up() -> None:
    """One end offers and closes; the other has answered, and finds nobody."""
    offerer, answerer = ours(), ours()
    offerer.addTrack(Tone())
    offerer.createDataChannel("chat")
    await offerer.setLocalDescription(await offerer.createOffer())
    await answerer.setRemoteDescription(offerer.localDescription)
    await answerer.setLocalDescription(await answerer.createAnswer())
    await asyncio.gather(offerer.close(), answerer.close())


async def unused() -> None:
    """A connection that is made, and closed before anything comes of it."""
    peer = ours()
    peer.addTransceiver("audio")
    peer.createDataChannel("chat")
    await peer.close()


async def lite() -> None:
    """An ICE-lite agent answers."""
    offerer, answerer = ours(), ours(iceLite=True)
    await message_and_back(offerer, answerer)
    await answerer.close()
    await offerer.close()


Kinds = list[Callable[[], Awaitable[None]]]
#: Calls with coders and their threads, after which the allocator keeps more or less, and calls with another end.
LOUD: Kinds = [audio, lambda: data(aiortcs)]
LOUD_CALLS = 40
QUIET: Kinds = [data, given_up, lite, unused]
QUIET_CALLS = 120
CALLS = 200


async def make(calls: int, kinds: Kinds) -> None:
    """That many calls, some at once, of every kind."""
    waiting = iter(range(calls))

    async def worker() -> None:
        for index in waiting:
            async with asyncio.timeout(LONGEST_CALL_SECONDS):
                await kinds[index % len(kinds)]()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


def descriptors() -> list[str]:
    """What the process has open."""
    names: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}").split(":")[0])
        except FileNotFoundError:  # the one of the listing itself
            continue
    return sorted(names)


def threads() -> list[str]:
    """The threads there are, without those of the pools that all calls share, which are kept for later."""
    shared = ("asyncio_", THREAD_NAME)
    return [thread.name for thread in threading.enumerate() if not thread.name.startswith(shared)]


def objects() -> Counter[str]:
    """How many objects there are of each class of ours and of those that we stand on."""
    gc.collect()
    counts: Counter[str] = Counter()
    for one in gc.get_objects():
        try:
            kind = type(one)
            if kind.__module__.split(".")[0] in (
                "mediapeer",
                "aiortc",
                "aioice",
                "av",
                "pylibsrtp",
                "asyncio",
            ):
                counts[f"{kind.__module__}.{kind.__qualname__}"] += 1
        except (ReferenceError, AttributeError):
            continue
    return counts


def resident_bytes() -> int:
    """How much memory the process holds, when the allocator has given back what it can."""
    with contextlib.suppress(AttributeError, OSError):  # there is no such function but in glibc
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Snapshot(NamedTuple):
    """What the process has at one moment."""

    tasks: list[str]
    threads: list[str]
    descriptors: list[str]
    objects: Counter[str]
    resident_bytes: int


async def snapshot() -> Snapshot:
    await asyncio.sleep(0.1)  # what was cancelled last ends
    counts = objects()
    tasks = sorted(str(task.get_coro()) for task in asyncio.all_tasks() - {asyncio.current_task()})
    return Snapshot(tasks, threads(), descriptors(), counts, resident_bytes())


async def test_nothing_is_left_of_many_calls() -> None:
    # Caches fill, modules are loaded.
    await make(2 * AT_ONCE, LOUD + QUIET)
    first = await snapshot()
    await make(LOUD_CALLS, LOUD)
    # The allocator comes to what these take too.
    await make(CALLS - LOUD_CALLS - QUIET_CALLS, QUIET)
    second = await snapshot()
    await make(QUIET_CALLS, QUIET)
    third = await snapshot()
    for before, after in ((first, second), (first, third)):
        assert after.tasks == before.tasks
        assert after.threads == before.threads
        assert after.descriptors == before.descriptors
        assert after.objects - before.objects == Counter()
    assert third.resident_bytes - second.resident_bytes < MEMORY


async def test_a_closed_connection_is_forgotten_when_the_program_forgets_it() -> None:
    """By reference counting or by the collector, soon; no registry or timer of ours keeps it."""
    kept: list[weakref.ref[object]] = []

    async def call() -> None:
        offerer, answerer = ours(), ours()
        await message_and_back(offerer, answerer)
        kept.extend(weakref.ref(one) for one in (offerer, answerer, *offerer.transports, offerer.sctp))
        await offerer.close()
        await answerer.close()

    await call()
    await asyncio.sleep(0.05)
    gc.collect()
    assert [one() for one in kept if one() is not None] == []
    assert isinstance(ours(), mediapeer.RTCPeerConnection)
