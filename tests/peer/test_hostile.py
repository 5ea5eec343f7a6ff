"""What strangers, peers and a program's own handlers may throw at a call that must go on."""

import asyncio
import logging
import os
import random

import aiortc
import pytest

from mediapeer.peer.frames import WAITING_FRAMES, WAITING_PIXELS, LatestFrames
from tests.ice.virtual_sockets import virtual_bind_all
from tests.peer.test_silence import Call, answers
from tests.transport.virtual import DELAY, Datagram, Network, until, virtual

STRANGER = ("198.51.100.66", 6666)


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)


@virtual
async def test_random_datagrams_from_the_peer_and_from_strangers_end_nothing(network: Network) -> None:
    call = Call()
    await call.establish()
    ends = {d.source: d.destination for _, d in network.sent if d.destination[0] == "192.0.2.2"}
    [(source, destination)] = ends.items()
    noise = random.Random(7)
    for round_number in range(600):
        first = noise.choice([0, 1, 2, 3, 20, 21, 22, 23, 25, 63, 64, 127, 128, 144, 191, 255])
        data = bytes([first]) + noise.randbytes(noise.choice([0, 1, 11, 12, 19, 40, 1200, 1501, 9000]))
        network.inject(data, noise.choice([source, STRANGER]), destination)
        if round_number % 50 == 0:
            network.inject(b"", source, destination)
            await asyncio.sleep(0.01)
    await answers(call.channel, "still there?")
    [transport] = call.answerer.transports
    counters = transport.counters + transport.transport._ice._mux.counters
    assert counters["unchecked_address"] > 100
    assert counters["empty_datagrams"] == 12
    assert transport.counters["srtp_unprotect_failed"] > 10
    assert call.names() == ["connecting", "connected"]
    await call.close()


@virtual
async def test_every_datagram_of_the_call_repeated_by_a_stranger_ends_nothing(network: Network) -> None:
    def repeat(datagram: Datagram) -> list[float]:
        # The stranger is faster than the peer.
        asyncio.get_running_loop().call_soon(network.inject, datagram.data, STRANGER, datagram.destination)
        return [DELAY, 5 * DELAY]

    network.route = repeat
    call = Call()
    await call.establish()
    await answers(call.channel, "still there?")
    await asyncio.sleep(20)
    assert call.names() == ["connecting", "connected"]
    await call.close()


@virtual
async def test_handlers_that_raise_are_reported_and_end_nothing(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    call = Call()

    @call.answerer.on("datachannel")
    def on_channel(channel: aiortc.RTCDataChannel) -> None:
        @channel.on("message")
        def on_message(message: str) -> None:
            raise ZeroDivisionError("a defect of the program")

        @channel.on("message")
        async def later(message: str) -> None:
            raise ZeroDivisionError("another defect")

        raise ZeroDivisionError("and one more")

    for event in ("connectionstatechange", "iceconnectionstatechange", "signalingstatechange"):
        call.answerer.on(event, lambda: 1 / 0)
        call.offerer.on(event, lambda: 1 / 0)
    call.channel.on("open", lambda: 1 / 0)
    call.channel.on("message", lambda message: 1 / 0)
    with caplog.at_level(logging.ERROR):
        await call.establish()
        for question in ("one", "two", "three"):
            await answers(call.channel, question)
    assert call.names()[-1] == "connected"
    defects = [r for r in caplog.records if r.exc_info and r.exc_info[0] is ZeroDivisionError]
    assert len(defects) >= 3 * 3 + 3
    for peer in (call.offerer, call.answerer):
        assert peer.transports[0].counters["data_handler_errors"] == 0
    await call.close()


@virtual
async def test_a_peer_that_speaks_broken_sctp_ends_nothing(network: Network) -> None:
    call = Call()
    await call.establish()
    [transport] = call.offerer.transports
    # Two INIT chunks in one packet, which aiortc asserts there never are; and noise.
    init = bytes([1, 0, 0, 20]) + bytes(16)
    packet = bytes.fromhex("13881388") + bytes(8) + init + init
    with_checksum = packet[:8] + crc32c(packet).to_bytes(4, "little") + packet[12:]
    await transport._send_data(with_checksum)
    await transport._send_data(b"")
    await transport._send_data(os.urandom(100))
    await answers(call.channel, "still there?")
    [receiver] = call.answerer.transports
    assert receiver.counters["data_handler_errors"] == 1
    await call.close()


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260 appendix A), bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@virtual
async def test_a_hangup_closes_the_other_end(network: Network) -> None:
    call = Call()
    await call.establish()
    await call.answerer.close()
    await until(lambda: call.offerer.connectionState == "closed", seconds=1)
    assert call.names() == ["connecting", "connected", "closed"]
    await call.close()


async def test_frames_that_nobody_reads_do_not_pile_up() -> None:
    dropped: list[str] = []
    frames = LatestFrames("video", dropped.append)
    total = WAITING_FRAMES["video"] + 5
    for number in range(total):
        await frames.put(number)
    await frames.put(None)
    assert dropped == ["frames_not_read"] * 5
    assert [frames.get_nowait() for _ in range(frames.qsize())] == [*range(5, total), None]


class Picture:
    """As much of a video frame as a queue looks at."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height


async def test_large_pictures_wait_in_small_numbers_and_huge_ones_not_at_all() -> None:
    """A few kilobytes of video can announce gigabytes of pictures."""
    dropped: list[str] = []
    frames = LatestFrames("video", dropped.append)
    await frames.put(Picture(8192, 8192))
    assert (frames.qsize(), dropped) == (0, ["pictures_too_large"])
    dropped.clear()
    for _ in range(20):
        await frames.put(Picture(4096, 2304))
    assert frames.qsize() == WAITING_PIXELS // (4096 * 2304) == 3
    assert dropped == ["frames_not_read"] * 17
    for _ in range(3):
        await frames.get()
    for _ in range(20):
        await frames.put(Picture(1280, 720))
    assert frames.qsize() == 20
