"""Time from offer to first media, and from answer to ``connected``, in DTLS 1.2 and 1.3, beside aiortc.

Two ends of one kind in one process, on loopback, by a relay with a delay, and with a datagram lost; the offerer
sends audio. One clock stops at the first frame that the answerer's track gives. The others start when the
offerer has the answer, and stop when an end's ``connectionState`` is ``connected``; the answerer is the client
of the handshake. The exchange of offer and answer costs nothing here, as in no real call.
"""

import asyncio
import dataclasses
import functools
import time
from collections.abc import Callable
from unittest import mock

import aiortc

import mediapeer
from benchmarks import Comparison, Figures, Result, no_targets
from mediapeer.dtls import ProtocolVersion
from tests.tools.relay import LOOPBACK, Relay, lose_first_dtls, lose_nothing

_FIRST_MEDIA = "offer to first audio frame"
_ANSWERER_CONNECTED = "answer to connected, answerer"
_OFFERER_CONNECTED = "answer to connected, offerer"
_AIORTC = f"aiortc {aiortc.__version__}, DTLS 1.2"
_ROUND_TRIPS = (0, 50, 150)  # ms
_PAIRS = 7

MakePeer = Callable[[], aiortc.RTCPeerConnection]
MakeRelay = Callable[[], Relay | None]


def _through(relay: Relay | None, description: aiortc.RTCSessionDescription) -> aiortc.RTCSessionDescription:
    if relay is None:
        return description
    return aiortc.RTCSessionDescription(relay.through(description.type, description.sdp), description.type)


def _new_relay(delay: float, lose_first: bool = False) -> Relay:
    return Relay(delay, lose_first_dtls() if lose_first else lose_nothing)


def our_peer(version: ProtocolVersion) -> aiortc.RTCPeerConnection:
    """An end of ours that speaks ``version`` with its like."""
    return mediapeer.RTCPeerConnection(
        mediapeer.RTCConfiguration(iceAddresses=[LOOPBACK], maximumDtlsVersion=version)
    )


def aiortc_peer() -> aiortc.RTCPeerConnection:
    """An end of aiortc's own."""
    return aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))


async def check_version(end: aiortc.RTCPeerConnection, version: ProtocolVersion) -> None:
    """See that a connected end speaks what is to be measured.

    :raises RuntimeError: when it speaks another version.
    """
    if isinstance(end, mediapeer.RTCPeerConnection):
        (spoken,) = (r.tlsVersion for r in (await end.getStats()).values() if r.type == "transport")
    else:
        # aiortc's statistics do not say; its transport's OpenSSL does.
        ssl = end.getTransceivers()[0].receiver.transport._ssl
        name = ssl.get_protocol_version_name() if ssl else "nothing"
        spoken = {"DTLSv1.2": "FEFD"}.get(name, name)
    if spoken != f"{version:04X}":
        raise RuntimeError(f"{version.label} is to be measured, not {spoken}")


class _ConnectedClock:
    """Notes when an end's ``connectionState`` becomes ``connected``."""

    def __init__(self, end: aiortc.RTCPeerConnection) -> None:
        self._end = end
        self.stopped: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        "When, by :func:`time.perf_counter`."
        end.on("connectionstatechange", self._look)

    def _look(self) -> None:
        if self._end.connectionState == "connected" and not self.stopped.done():
            self.stopped.set_result(time.perf_counter())


async def _call(make_peer: MakePeer, version: ProtocolVersion, relay: Relay | None) -> Figures:
    if relay is not None:
        await relay.open()
    offerer, answerer = make_peer(), make_peer()
    offerer.addTrack(aiortc.AudioStreamTrack())
    offerer_clock, answerer_clock = _ConnectedClock(offerer), _ConnectedClock(answerer)
    arrived: asyncio.Future[aiortc.MediaStreamTrack] = asyncio.get_running_loop().create_future()
    answerer.on("track", arrived.set_result)
    try:
        started = time.perf_counter()
        await offerer.setLocalDescription(await offerer.createOffer())
        offer = offerer.localDescription
        await answerer.setRemoteDescription(_through(relay, offer))
        await answerer.setLocalDescription(await answerer.createAnswer())
        answer = answerer.localDescription
        answered = time.perf_counter()
        await offerer.setRemoteDescription(_through(relay, answer))
        async with asyncio.timeout(30):
            await (await arrived).recv()
            playing = time.perf_counter()
            answerer_connected, offerer_connected = await answerer_clock.stopped, await offerer_clock.stopped
        for end in (offerer, answerer):
            await check_version(end, version)
        return {
            _FIRST_MEDIA: 1000 * (playing - started),
            _ANSWERER_CONNECTED: 1000 * (answerer_connected - answered),
            _OFFERER_CONNECTED: 1000 * (offerer_connected - answered),
        }
    finally:
        await offerer.close()
        await answerer.close()
        if relay is not None:
            relay.close()


def call(make_peer: MakePeer, version: ProtocolVersion, make_relay: MakeRelay) -> Figures:
    """Make one call; the milliseconds of each of its stretches.

    :raises RuntimeError: when it is not of ``version``.
    """
    # aioice leaves loopback out; for aiortc's own ends there is no option to have it.
    with mock.patch("aioice.ice.get_host_addresses", return_value=[LOOPBACK]):
        return asyncio.run(_call(make_peer, version, make_relay()))


def compare(
    case: str,
    version: ProtocolVersion,
    make_relay: MakeRelay,
    pairs: int,
    targets: Callable[[Figures], Figures] = no_targets,
) -> list[Result]:
    """Measure calls of ours, in ``version``, beside aiortc's."""
    return Comparison(
        case=f"{version.label}, {case}",
        unit="ms",
        ours=functools.partial(call, functools.partial(our_peer, version), version, make_relay),
        peer=functools.partial(call, aiortc_peer, ProtocolVersion.DTLS_1_2, make_relay),
        peer_name=_AIORTC,
        targets=targets,
    ).results(pairs)


def round_trips_in(shorter: list[Result], longer: list[Result], milliseconds: float) -> list[Result]:
    """How many round trips each stretch takes, from calls whose round trips differ by ``milliseconds``.

    What is no round trip, work or the time-out of a timer, is in both and drops out.
    """
    return [
        dataclasses.replace(
            long,
            case=f"{long.case.rpartition(', ')[0]}, per round trip",
            unit="round trips",
            ours=(long.ours - short.ours) / milliseconds,
            peer=(long.peer - short.peer) / milliseconds,
            target=None,
        )
        for short, long in zip(shorter, longer, strict=True)
    ]


def targets(version: ProtocolVersion, round_trip: float, peer: Figures) -> Figures:
    """What DTLS 1.3 is to save the client of the handshake: one round trip, here in milliseconds."""
    if version is not ProtocolVersion.DTLS_1_3 or not round_trip:
        return {}
    return {_ANSWERER_CONNECTED: peer[_ANSWERER_CONNECTED] - round_trip}


def run() -> list[Result]:
    """Measure calls without a relay, with round trips of each length in each version, and with a loss."""
    results = compare("no relay", ProtocolVersion.DTLS_1_3, lambda: None, 15)
    for version in (ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3):
        by_round_trip = {}
        for round_trip in _ROUND_TRIPS:
            by_round_trip[round_trip] = compare(
                f"round trip {round_trip} ms",
                version,
                functools.partial(_new_relay, round_trip / 2000),
                _PAIRS,
                functools.partial(targets, version, round_trip),
            )
            results += by_round_trip[round_trip]
        results += round_trips_in(by_round_trip[50], by_round_trip[150], 100)
    for delay, lose_first in ((0.05, False), (0.05, True)):
        results += compare(
            "50 ms delay each way" + (", first handshake datagram lost" if lose_first else ""),
            ProtocolVersion.DTLS_1_3,
            functools.partial(_new_relay, delay, lose_first),
            _PAIRS,
        )
    return results
