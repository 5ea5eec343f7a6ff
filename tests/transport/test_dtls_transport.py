"""One transport over a path in memory: handshake, media, data, and everything a peer may do wrong."""

import asyncio
import logging
import random
from collections.abc import Sequence

import pytest
from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import RtcpByePacket, RtpPacket

from mediapeer.dtls import AlertDescription, AlertReceived, CertificateRejected, HandshakeTimeout
from mediapeer.rtp.router import SECTION_SOURCES
from mediapeer.rtp.rtcp import ReportBlock
from mediapeer.transport import DtlsTransport, DtlsTransportStats, RTCCertificateStats
from mediapeer.transport.dtls_transport import EARLY_DATAGRAMS, EARLY_RECORDS
from mediapeer.transport.media import EARLY_PACKETS
from mediapeer.transport.routes import SectionRoutes
from mediapeer.transport.security import retransmission_timeout
from tests.transport.paths import (
    VP8_HEAD,
    Association,
    Ends,
    PathEnd,
    Receiver,
    routes,
    rtp,
    wrong_fingerprint,
)
from tests.transport.scenes import picture
from tests.transport.virtual import Network, VirtualLoop, until, virtual


@virtual
async def test_media_and_data_cross_both_ways(network: Network) -> None:
    ends = Ends()
    states: list[str] = []
    ends.client.on("statechange", lambda: states.append(ends.client.state))
    await ends.handshake()
    receiver, association = Receiver(), Association()
    ends.server.media.set_section("1", routes(receiver))
    ends.client._register_data_receiver(association)

    ends.client.send_media(rtp(1))
    ends.client.send_media(bytes(RtcpByePacket(sources=[1234])))
    await ends.server._send_data(b"a message")
    await until(lambda: receiver.frames and association.records)

    assert [frame.data[1:] for frame in receiver.frames] == [b"frame"]
    assert ends.server.media.streams()[0].ended
    assert association.records == [b"a message"]
    assert ends.server_path.times_heard >= 2
    assert not any(b"frame" in datagram or b"a message" in datagram for datagram in ends.client_path.sent)
    await ends.stop()
    assert states == ["connecting", "connected", "closed"]


@virtual
async def test_statistics_tell_what_was_negotiated(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    report = ends.server._get_stats()
    stats = report[ends.server._stats_id]
    assert isinstance(stats, DtlsTransportStats)
    assert (stats.tlsVersion, stats.tlsGroup, stats.srtpCipher) == (
        "FEFC",
        "X25519MLKEM768",
        "SRTP_AEAD_AES_128_GCM",
    )
    assert stats.dtlsCipher == "TLS_AES_128_GCM_SHA256"
    assert (stats.dtlsRole, stats.dtlsState, stats.iceRole) == ("server", "connected", "controlling")
    assert stats.handshakeDuration == pytest.approx(0.004, abs=0.0015)
    assert (stats.retransmissions, stats.datagramsDropped) == (0, {})
    assert stats.packetsSent == len(ends.server_path.sent)
    local, remote = report[stats.localCertificateId], report[stats.remoteCertificateId]
    assert isinstance(local, RTCCertificateStats)
    assert isinstance(remote, RTCCertificateStats)
    assert local.fingerprint == ends.server.getLocalParameters().fingerprints[0].value
    assert remote.fingerprint == ends.client.getLocalParameters().fingerprints[0].value
    await ends.stop()


@virtual
async def test_lost_flights_are_sent_again_by_one_timer_and_counted(network: Network) -> None:
    ends = Ends()
    # The first flight, a ClientHello in two datagrams, is lost twice.
    ends.client_path.route = lambda datagram: [] if len(ends.client_path.sent) <= 4 else [0.001]
    loop = asyncio.get_running_loop()
    started = loop.time()
    await ends.handshake()
    assert ends.client.state == ends.server.state == "connected"
    assert ends.client.counters["retransmissions"] == 2
    # Sent again after 50 ms, then after 100 ms more.
    assert loop.time() - started == pytest.approx(0.154, abs=0.005)
    await ends.stop()


@pytest.mark.parametrize(("answered_after", "retransmissions"), [(0.13, 0), (None, 1)])
@virtual
async def test_a_program_that_was_busy_reads_before_it_sends_again(
    network: Network, answered_after: float | None, retransmissions: int
) -> None:
    ends = Ends()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    # The first answer comes when the program is back, or never.
    ends.server_path.route = lambda datagram: (
        [0.001] if loop.time() > started + 0.15 else [answered_after] if answered_after else []
    )
    started = loop.time()
    # The time-out of 50 ms passes while the program does something else until 120 ms.
    loop.call_later(0.02, loop.be_busy, 0.1)
    again = loop.call_later(0.18, lambda: sent.append(ends.client.counters["retransmissions"]))
    sent: list[int] = []
    await ends.handshake()
    assert ends.client.state == ends.server.state == "connected"
    assert ends.client.counters["retransmissions"] == retransmissions
    assert not any(sent), "sent again before there was time to read"
    again.cancel()
    await ends.stop()


@virtual
async def test_a_long_round_trip_that_ice_measured_causes_no_retransmission(network: Network) -> None:
    ends = Ends()
    for path in (ends.client_path, ends.server_path):
        path.round_trip_time = 0.3
        path.route = lambda datagram: [0.15]
    await ends.handshake()
    assert ends.client.state == ends.server.state == "connected"
    assert ends.client.counters["retransmissions"] == ends.server.counters["retransmissions"] == 0
    await ends.stop()


def test_the_retransmission_time_out_follows_the_round_trip_within_bounds() -> None:
    assert retransmission_timeout(None) == retransmission_timeout(0.001) == 0.05
    assert retransmission_timeout(0.2) == pytest.approx(0.3)
    assert retransmission_timeout(10.0) == 1.0


@pytest.mark.parametrize("deceived", ["client", "server"])
@virtual
async def test_a_wrong_fingerprint_fails_both_ends_with_bad_certificate(
    network: Network, deceived: str
) -> None:
    ends = Ends()
    if deceived == "client":
        await ends.handshake(for_client=wrong_fingerprint())
        rejecting, rejected = ends.client, ends.server
    else:
        await ends.handshake(for_server=wrong_fingerprint())
        rejecting, rejected = ends.server, ends.client
        # A DTLS 1.3 client is connected for a moment, until the server has judged it.
        await until(lambda: rejected.state == "failed")
    assert rejecting.state == rejected.state == "failed"
    assert isinstance(rejecting.error, CertificateRejected)
    assert rejecting.error.alert is AlertDescription.BAD_CERTIFICATE
    assert isinstance(rejected.error, AlertReceived)
    assert rejected.error.alert is AlertDescription.BAD_CERTIFICATE
    for end in (rejecting, rejected):
        assert not end.send_media(rtp(1))
        with pytest.raises(ConnectionError):
            await end._send_data(b"secret")
    await ends.stop()
    assert rejecting.state == "failed"


@virtual
async def test_every_supported_fingerprint_must_match_and_unknown_hashes_are_passed_over(
    network: Network,
) -> None:
    ends = Ends()
    right = ends.client.getLocalParameters().fingerprints
    unknown = RTCDtlsFingerprint("sha-3000", "00:11")
    await ends.handshake(for_server=RTCDtlsParameters([unknown, right[2]]))
    assert ends.server.state == "connected"
    await ends.stop()
    for fingerprints in ([right[0], *wrong_fingerprint().fingerprints], [unknown], []):
        ends = Ends()
        await ends.handshake(for_server=RTCDtlsParameters(fingerprints))
        await until(lambda: ends.client.state == "failed")  # noqa: B023
        assert ends.server.state == "failed"
        await ends.stop()


@virtual
async def test_junk_and_empty_datagrams_at_any_time_are_counted_and_change_nothing(network: Network) -> None:
    ends = Ends()
    junk = [
        b"",
        b"\x00",
        b"\x45\x00",
        b"\xff" * 40,
        b"\x16",
        b"\x16\xfe\xfd" + bytes(30),
        b"\x17" * 60,
        b"\x80" * 40,
    ]
    for data in junk:
        ends.server_path.inject(data)
        ends.client_path.inject(data)
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    for data in junk:
        ends.server_path.inject(data)
    ends.client.send_media(rtp(1))
    await until(lambda: receiver.frames)
    assert ends.server.state == "connected"
    counters = ends.server.counters
    assert counters["empty_datagrams"] == 2
    assert counters["unknown_protocol"] == 6
    assert counters["srtp_unprotect_failed"] == 2
    assert counters["malformed_datagrams"] >= 2
    await ends.stop()


@virtual
async def test_srtp_before_the_handshakes_end_waits_and_is_released_to_the_receiver(network: Network) -> None:
    """The peer is done half a round trip before us, and its receivers are registered later still."""
    ends = Ends()

    def hold_last_flight(datagram: bytes) -> list[float]:
        # The client's last flight travels slowly; what the client sends after it does not.
        late = ends.client.state == "connecting" and len(ends.client_path.sent) > 2
        return [0.04 if late else 0.001]

    ends.client_path.route = hold_last_flight
    tasks = asyncio.gather(
        ends.client.start(ends.server.getLocalParameters()),
        ends.server.start(ends.client.getLocalParameters()),
    )
    await until(lambda: ends.client.state == "connected")
    ends.client.send_media(rtp(1, b"keyframe"))
    await asyncio.sleep(0.01)
    assert ends.server.state == "connecting"
    await tasks
    await asyncio.sleep(0.01)
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    await until(lambda: receiver.frames)
    assert receiver.frames[0].data[1:] == b"keyframe"
    await ends.stop()


@virtual
async def test_early_srtp_is_bounded(network: Network) -> None:
    ends = Ends()
    for _ in range(EARLY_PACKETS + 7):
        ends.client_path.inject(b"\x80\x60" + bytes(30))
    await ends.handshake()
    assert ends.client.counters["early_srtp_full"] == 7
    assert ends.client.counters["srtp_unprotect_failed"] == EARLY_PACKETS
    assert ends.client.state == "connected"
    await ends.stop()


@virtual
async def test_data_that_is_earlier_than_its_receiver_waits_within_bounds(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    for number in range(EARLY_RECORDS + 3):
        await ends.client._send_data(b"%d" % number)
    await asyncio.sleep(0.1)
    association = Association()
    ends.server._register_data_receiver(association)
    await until(lambda: len(association.records) == EARLY_RECORDS)
    assert association.records[0] == b"0"
    assert ends.server.counters["records_full"] == 3
    await ends.stop()


@virtual
async def test_an_authentic_packet_with_a_broken_header_is_dropped_alone(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    # More padding than there is payload.
    broken = bytearray(rtp(1))
    broken[0] |= 0x20
    broken[-1] = 0xFF
    ends.client.send_media(bytes(broken))
    ends.client.send_media(b"\x80\xc8\x00\x09" + bytes(8))
    ends.client.send_media(rtp(2))
    await until(lambda: receiver.frames)
    assert [frame.timestamp for frame in receiver.frames] == [6000]
    assert ends.server.counters["malformed_rtp"] == 1
    assert ends.server.counters["malformed_rtcp"] == 1
    await ends.stop()


@virtual
async def test_a_receiver_that_raises_ends_neither_the_call_nor_the_stream(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver, association = Receiver(), Association()
    receiver.raises = association.raises = RuntimeError("a defect above")
    ends.server.media.set_section("1", routes(receiver))
    ends.server._register_data_receiver(association)
    for number in range(3):
        ends.client.send_media(rtp(number))
        await ends.client._send_data(b"message")
    await until(lambda: len(receiver.frames) == 3 and len(association.records) == 3)
    assert ends.server.state == "connected"
    assert ends.server.counters["packet_handler_errors"] == 3
    assert ends.server.counters["data_handler_errors"] == 3
    await ends.stop()


@virtual
async def test_a_state_handler_that_raises_is_reported_and_changes_nothing(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends()
    ends.client.on("statechange", lambda: 1 / 0)

    @ends.server.on("statechange")
    async def fail_later() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        await ends.handshake()
        await asyncio.sleep(0.01)
    assert ends.client.state == ends.server.state == "connected"
    assert len([r for r in caplog.records if "handler raised" in r.message]) == 4
    await ends.stop()


@virtual
async def test_packets_too_long_for_srtp_are_dropped_both_ways(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    ends.client.send_media(rtp(1, bytes(1490)))
    ends.server_path.inject(b"\x80" + bytes(1600))
    await asyncio.sleep(0.01)
    assert ends.client.counters["srtp_protect_failed"] == 1
    assert ends.server.counters["srtp_too_long"] == 1
    assert ends.client.state == ends.server.state == "connected"
    await ends.stop()


@virtual
async def test_a_packet_that_is_nobodys_is_counted(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver, ssrc=1, payload_type=100))
    ends.client.send_media(rtp(1))
    await until(lambda: ends.server.counters["unrouted_rtp"])
    assert not receiver.frames
    await ends.stop()


@virtual
async def test_the_peers_close_notify_closes_and_ends_the_tracks(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver, association = Receiver(), Association()
    ends.server.media.set_section("1", routes(receiver))
    ends.server._register_data_receiver(association)
    await ends.client._send_data(b"goodbye")
    await ends.client.stop()
    await until(lambda: ends.server.state == "closed")
    assert ends.client.state == "closed"
    assert association.records == [b"goodbye"]
    assert receiver.disconnected
    with pytest.raises(ConnectionError):
        await ends.server._send_data(b"too late")
    await ends.server.stop()


@virtual
async def test_stopping_is_safe_at_any_time_and_any_number_of_times(network: Network) -> None:
    ends = Ends()
    await ends.client.stop()
    assert ends.client.state == "closed"
    with pytest.raises(InvalidStateError):
        await ends.client.start(ends.server.getLocalParameters())
    starting = asyncio.create_task(ends.server.start(ends.client.getLocalParameters()))
    await asyncio.sleep(1)
    await asyncio.gather(ends.server.stop(), ends.server.stop())
    await starting
    await ends.server.stop()
    assert ends.server.state == "closed"
    ends = Ends()
    await ends.handshake()
    for _ in range(3):
        await ends.client.stop()
    await ends.server.stop()


@virtual
async def test_a_transport_may_be_stopped_from_within_its_own_receive_path(network: Network) -> None:
    ends = Ends()
    await ends.handshake()

    class Hangup(Association):
        async def _handle_data(self, data: bytes) -> None:
            await ends.server.stop()
            self.records.append(data)

    association = Hangup()
    ends.server._register_data_receiver(association)
    await ends.client._send_data(b"go")
    await until(lambda: ends.client.state == "closed")
    assert ends.server.state == "closed"
    assert association.records == [b"go"]
    await ends.stop()


@virtual
async def test_when_the_path_is_lost_the_transport_fails_and_the_tracks_end(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    ends.server_path.lose()
    await until(lambda: ends.server.state == "failed")
    assert isinstance(ends.server.error, ConnectionError)
    assert receiver.disconnected
    await ends.stop()


@virtual
async def test_a_handshake_without_an_answer_fails_in_bounded_time(network: Network) -> None:
    ends = Ends()
    ends.client_path.route = lambda datagram: []
    loop = asyncio.get_running_loop()
    started = loop.time()
    await ends.client.start(ends.server.getLocalParameters())
    assert ends.client.state == "failed"
    assert isinstance(ends.client.error, HandshakeTimeout)
    assert loop.time() - started <= 31
    await ends.stop()


@virtual
async def test_a_clienthello_that_came_before_start_is_answered(network: Network) -> None:
    ends = Ends()
    starting = asyncio.create_task(ends.client.start(ends.server.getLocalParameters()))
    await asyncio.sleep(0.01)
    sent = len(ends.client_path.sent)
    await ends.server.start(ends.client.getLocalParameters())
    await starting
    assert ends.server.state == "connected"
    assert ends.client.counters["retransmissions"] == 0
    assert sent == 2, "a ClientHello with hybrid shares takes two datagrams"
    await ends.stop()


@virtual
async def test_the_role_follows_ice_when_nobody_decided_it(network: Network) -> None:
    ends = Ends()
    ends.client._role = ends.server._role = "auto"
    await ends.handshake()
    assert (ends.client._role, ends.server._role) == ("client", "server")
    ends.client._set_role("server")
    assert ends.client._role == "client"
    await ends.stop()


@virtual
async def test_the_key_log_gets_the_handshakes_secrets(network: Network) -> None:
    lines: list[str] = []
    ends = Ends(key_log=lines.append)
    await ends.handshake()
    assert "CLIENT_TRAFFIC_SECRET_0" in [line.split()[0] for line in lines]
    await ends.stop()


def test_a_transport_takes_one_certificate() -> None:
    certificate = RTCCertificate.generateCertificate()
    for certificates in ([], [certificate, certificate]):
        with pytest.raises(ValueError, match="one certificate"):
            DtlsTransport(PathEnd("controlling"), certificates)


@virtual
async def test_an_end_in_the_datagram_of_the_last_flight_is_a_close_and_no_defect(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends()
    together: list[bytes] = []
    send = ends.client_path.send_datagram

    def collect(datagram: bytes) -> None:
        engine = ends.client._engine
        if engine is not None and engine.version is not None:
            together.append(datagram)
        else:
            send(datagram)

    ends.client_path.send_datagram = collect  # type: ignore[method-assign]
    ends.client.on("statechange", lambda: ends.client._engine and ends.client._engine.close())
    handshake = asyncio.gather(
        ends.client.start(ends.server.getLocalParameters()),
        ends.server.start(ends.client.getLocalParameters()),
        return_exceptions=True,
    )
    await asyncio.sleep(0.02)
    send(b"".join(together))
    await asyncio.sleep(0.02)
    assert ends.server.state == "closed"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    await ends.stop()
    await handshake


@virtual
async def test_a_peer_that_makes_up_sources_is_not_given_room_for_all(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    for source in range(100):
        packet = bytearray(rtp(1))
        packet[8:12] = source.to_bytes(4, "big")
        ends.client.send_media(bytes(packet))
    await asyncio.sleep(0.05)
    assert len(ends.server.media.streams()) == SECTION_SOURCES
    assert ends.server.counters["rtp_of_too_many_sources"] == 100 - SECTION_SOURCES
    await ends.stop()


# The path below


@pytest.mark.parametrize("state", ["failed", "closed"])
@virtual
async def test_the_end_of_ice_is_the_failure_of_the_transport_and_other_states_are_not(
    network: Network, state: str
) -> None:
    ends = Ends()
    await ends.handshake()
    receiver, association = Receiver(), Association()
    ends.server.media.set_section("1", routes(receiver))
    ends.server._register_data_receiver(association)
    for passing in ("disconnected", "checking", "connected", "completed"):
        ends.server_path.tell(passing)
    await ends.client._send_data(b"after a restart")
    await until(lambda: association.records)
    assert ends.server.state == "connected"
    ends.server_path.lose(state)
    assert ends.server.state == "failed"
    assert state in str(ends.server.error)
    assert receiver.disconnected
    await ends.stop()


@virtual
async def test_over_a_path_that_has_ended_no_handshake_begins(network: Network) -> None:
    ends = Ends()
    ends.client_path.lose()
    await ends.client.start(ends.server.getLocalParameters())
    assert ends.client.state == "failed"
    assert not ends.client_path.sent
    await ends.stop()


@virtual
async def test_what_comes_before_start_waits_within_bounds_and_what_comes_after_the_end_is_nothing(
    network: Network,
) -> None:
    ends = Ends()
    for _ in range(EARLY_DATAGRAMS + 5):
        ends.server.receive_datagram(b"\x16\xfe\xfd" + bytes(30))
        ends.server.receive_datagram(b"")
    assert ends.server.counters["early_datagrams_full"] == 5
    await ends.handshake()
    assert ends.server.state == "connected"
    await ends.stop()
    for data in (b"", b"\x80" * 40, b"\x16" * 40, b"\x17\xfe\xfd" + bytes(40)):
        ends.server.receive_datagram(data)
    assert ends.server.state == "closed"


@virtual
async def test_media_may_be_shed_before_control(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    ends.client.send_media(rtp(1))
    ends.client.send_media(bytes(RtcpByePacket(sources=[1234])))
    await ends.client._send_data(b"message")
    assert [datagram[1] & 0x7F for datagram in ends.client_path.sent_droppable] == [96]
    await ends.stop()


@virtual
async def test_a_stray_clienthello_in_a_call_changes_nothing(network: Network) -> None:
    ends, stranger = Ends(), Ends()
    await ends.handshake()
    starting = asyncio.create_task(stranger.client.start(stranger.server.getLocalParameters()))
    await asyncio.sleep(0.01)
    for hello in stranger.client_path.sent:
        ends.server_path.inject(hello)
    association = Association()
    ends.server._register_data_receiver(association)
    await ends.client._send_data(b"still here")
    await until(lambda: association.records)
    assert ends.server.state == "connected"
    await stranger.stop()
    await starting
    await ends.stop()


@virtual
async def test_what_a_lossy_path_loses_is_asked_for_and_comes_again(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    generator = random.Random(7)
    sending = Sending(ends.client)
    ends.client.media.add_sender(sending)
    ends.server.media.set_section("1", repaired_routes(receiver))
    for path in (ends.client_path, ends.server_path):
        path.route = lambda datagram: [] if generator.random() < 0.1 else [0.02]
    for number in range(65_400, 65_700):
        sending.send(number)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.6)
    numbers = [int(frame.data[1:]) for frame in receiver.frames]
    assert numbers == sorted(numbers)
    counts = ends.server.media.counts("1")
    assert counts.lost >= 15
    assert counts.repaired >= 0.9 * counts.lost
    assert len(numbers) + counts.given_up >= 295
    assert sum(frame.lost_before for frame in receiver.frames) == counts.given_up
    stream = ends.server.media.selected_stream("1")
    assert stream is not None
    assert stream.nack_count >= 10
    assert stream.retransmitted_packets_received >= counts.repaired
    assert sending.reports, "the receiver has reported"
    assert ends.server.state == ends.client.state == "connected"
    await ends.stop()


@virtual
async def test_nobody_is_woken_while_nothing_flows(network: Network) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    assert ends.server._media_timer is None
    for number in range(10):
        ends.client.send_media(rtp(number) if number else picture(0, keyframe=True, ssrc=1234))
        await asyncio.sleep(0.02)
    assert ends.server._media_timer is not None
    await asyncio.sleep(20)
    assert ends.server._media_timer is None
    sent = len(ends.server_path.sent)
    await asyncio.sleep(300)
    assert len(ends.server_path.sent) == sent
    ends.client.send_media(rtp(10))
    await asyncio.sleep(0.01)
    assert ends.server._media_timer is not None
    await ends.stop()
    assert ends.server._media_timer is None


@virtual
async def test_a_timer_that_is_set_anew_rings_once(network: Network) -> None:
    ends = Ends()
    rung: list[float] = []
    ends.server.media.handle_timeout = rung.append  # type: ignore[method-assign]
    now = asyncio.get_running_loop().time()
    ends.server._arm_media(now + 2)
    ends.server._arm_media(now + 1)
    await asyncio.sleep(3)
    assert rung == [pytest.approx(now + 1)]
    ends.server._arm_media(now + 4)
    ends.server._arm_media(None)
    await asyncio.sleep(3)
    assert len(rung) == 1
    await ends.stop()


@virtual
async def test_a_defect_at_a_time_out_fails_the_transport_and_is_reported(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends()
    await ends.handshake()
    receiver = Receiver()
    ends.server.media.set_section("1", routes(receiver))
    ends.client.send_media(rtp(1))
    await asyncio.sleep(0.01)
    ends.server.media._feedback.handle_timeout = lambda now: 1 / 0  # type: ignore[assignment]
    await asyncio.sleep(3)
    assert ends.server.state == "failed"
    assert receiver.disconnected == 1
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    await ends.stop()


class Sending:
    """A stream of pictures, one a packet, that answers NACKs over RTX (RFC 4588)."""

    ssrc, rtx_ssrc = 1234, 1235

    def __init__(self, transport: DtlsTransport) -> None:
        self._transport = transport
        self._payloads: dict[int, bytes] = {}
        self._retransmissions = 0
        self.reports: list[ReportBlock] = []

    def send(self, number: int) -> None:
        """A picture with its number."""
        self._payloads[number & 0xFFFF] = VP8_HEAD + b"%d" % number
        self._transport.send_media(
            self._packet(96, number, number, self.ssrc, self._payloads[number & 0xFFFF])
        )

    def _packet(self, payload_type: int, number: int, picture: int, ssrc: int, payload: bytes) -> bytes:
        packet = RtpPacket(
            payload_type=payload_type, sequence_number=number & 0xFFFF, ssrc=ssrc, payload=payload, marker=1
        )
        packet.timestamp = 3000 * picture & 0xFFFFFFFF
        return packet.serialize()

    def receive_nack(self, numbers: Sequence[int], now: float) -> None:
        for number in numbers:
            self._retransmissions += 1
            picture = int(self._payloads[number][2:])
            payload = number.to_bytes(2, "big") + self._payloads[number]
            packet = self._packet(97, self._retransmissions, picture, self.rtx_ssrc, payload)
            self._transport.send_media(packet)

    def receive_report(self, block: ReportBlock, now: float) -> None:
        self.reports.append(block)

    def receive_keyframe_request(self, now: float) -> None:
        pass

    def receive_bitrate(self, bits_per_second: int, now: float) -> None:
        pass


def repaired_routes(receiver: Receiver) -> SectionRoutes:
    """A section with VP8, NACK and RTX."""
    feedback = [RTCRtcpFeedback("nack"), RTCRtcpFeedback("nack", "pli")]
    codecs = [
        RTCRtpCodecParameters("video/VP8", 90000, payloadType=96, rtcpFeedback=feedback),
        RTCRtpCodecParameters("video/rtx", 90000, payloadType=97, parameters={"apt": 96}),
    ]
    return SectionRoutes("1", "video", receiver, RTCRtpReceiveParameters(codecs))
