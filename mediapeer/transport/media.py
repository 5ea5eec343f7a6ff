"""What SRTP carries: from the protected datagram to the receivers and senders it is for, and back."""

import logging
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from aiortc import clock
from aiortc.rtcdtlstransport import RtpReceiver, RtpRouter, RtpSender
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtp import HeaderExtensionsMap, RtcpPacket, RtpPacket

from mediapeer.srtp import SrtpContexts, SrtpError, is_rtcp

logger = logging.getLogger(__name__)

#: The longest SRTP packet that is taken, in bytes: what fits an Ethernet frame, and libsrtp's binding.
MAXIMUM_PACKET_LENGTH = 1500
#: Protected packets that wait for the end of the handshake.
EARLY_PACKETS = 128
#: Packets that wait between the handshake's end and the first receiver's registration.
UNROUTED_PACKETS = 128

#: How many synchronization sources a peer may use: as many as one receiver report has room for (RFC 3550 §6.4.2).
#: What is above keeps something for each and never lets go of it.
MAXIMUM_SSRCS = 31

#: What aiortc's parsers raise on malformed input.
_PARSE_ERRORS = (ValueError, LookupError, struct.error)


class MediaPath:
    """The SRTP side of one transport. Packets are taken in order, each in full before the next.

    :param counters: told what was dropped and why.
    :param heard: called for each packet that proved to be the peer's.
    """

    def __init__(self, counters: Counter[str], heard: Callable[[], None]) -> None:
        self.contexts: SrtpContexts | None = None
        "Set when the handshake has authenticated the peer; before that nothing is unprotected or sent."
        self._counters = counters
        self._heard = heard
        self._router = RtpRouter()
        self._extensions = HeaderExtensionsMap()
        self._early: deque[tuple[bytes, int]] = deque()
        self._unrouted: deque[tuple[RtpPacket, int]] = deque()
        self._had_receiver = False
        self._ssrcs: set[int] = set()

    def register_receiver(self, receiver: RtpReceiver, parameters: RTCRtpReceiveParameters) -> None:
        """Route packets to ``receiver`` by the SSRCs and payload types of ``parameters``."""
        self._had_receiver = True
        self._extensions.configure(parameters)
        self._router.register_receiver(
            receiver,
            ssrcs=list({e.ssrc for e in parameters.encodings if e.ssrc is not None}),
            payload_types=[c.payloadType for c in parameters.codecs if c.payloadType is not None],
            mid=parameters.muxId,
        )

    def unregister_receiver(self, receiver: RtpReceiver) -> None:
        """Route nothing to ``receiver`` any more."""
        self._router.unregister_receiver(receiver)

    def register_sender(self, sender: RtpSender, parameters: RTCRtpSendParameters) -> None:
        """Route feedback on the SSRC of ``sender`` to it."""
        self._extensions.configure(parameters)
        self._router.register_sender(sender, ssrc=sender._ssrc)

    def unregister_sender(self, sender: RtpSender) -> None:
        """Route no feedback to ``sender`` any more."""
        self._router.unregister_sender(sender)

    def disconnect(self) -> None:
        """Tell the receivers that nothing more comes, which ends their tracks; forget what waits."""
        self._early.clear()
        self._unrouted.clear()
        for receiver in list(self._router.receivers):
            try:
                receiver._handle_disconnect()
            except Exception:
                logger.exception("a receiver did not take the end of its transport")

    def protect(self, packet: bytes) -> bytes | None:
        """Protect an RTP or RTCP packet; ``None``, and counted, when it cannot be.

        :raises ConnectionError: when there are no keys: before the handshake, or when no profile was negotiated.
        """
        if self.contexts is None:
            raise ConnectionError("no SRTP keys: the handshake negotiated no protection profile")
        try:
            return self.contexts.protect(packet)
        except SrtpError as error:
            self._counters["srtp_protect_failed"] += 1
            logger.debug("a packet of %d bytes was not protected: %s", len(packet), error)
            return None

    async def receive(self, datagram: bytes) -> None:
        """Take a datagram whose first byte says SRTP. Before the handshake's end it waits."""
        arrival = clock.current_ms()
        if len(datagram) > MAXIMUM_PACKET_LENGTH:
            self._counters["srtp_too_long"] += 1
        elif self.contexts is not None:
            await self._unprotect(datagram, arrival)
        elif len(self._early) < EARLY_PACKETS:
            self._early.append((datagram, arrival))
        else:
            self._counters["early_srtp_full"] += 1

    async def release(self) -> None:
        """Take what has been waiting, as far as it need not wait any longer."""
        while self._early and self.contexts is not None:
            await self._unprotect(*self._early.popleft())
        while self._unrouted and self._had_receiver:
            await self._route_rtp(*self._unrouted.popleft())

    async def _unprotect(self, datagram: bytes, arrival: int) -> None:
        if self.contexts is None:
            return
        try:
            packet = self.contexts.unprotect(datagram)
        except SrtpError as error:
            self._counters["srtp_unprotect_failed"] += 1
            logger.debug("an SRTP packet was dropped: %s", error)
            return
        self._heard()
        if is_rtcp(packet):
            await self._receive_rtcp(packet)
        else:
            await self._receive_rtp(packet, arrival)

    async def _receive_rtp(self, data: bytes, arrival: int) -> None:
        try:
            packet = RtpPacket.parse(data, self._extensions)
        except _PARSE_ERRORS as error:
            self._counters["malformed_rtp"] += 1
            logger.debug("an RTP packet was dropped: %s", error)
            return
        await self._route_rtp(packet, arrival)

    async def _route_rtp(self, packet: RtpPacket, arrival: int) -> None:
        if packet.ssrc not in self._ssrcs:
            if len(self._ssrcs) >= MAXIMUM_SSRCS:
                self._counters["rtp_of_too_many_sources"] += 1
                return
            self._ssrcs.add(packet.ssrc)
        receiver = self._router.route_rtp(packet)
        if receiver is not None:
            await self._guarded(receiver._handle_rtp_packet(packet, arrival_time_ms=arrival))
        elif not self._had_receiver and len(self._unrouted) < UNROUTED_PACKETS:
            # The first packets, a keyframe among them, overtake the registration of the receivers.
            self._unrouted.append((packet, arrival))
        else:
            self._counters["unrouted_rtp"] += 1

    async def _receive_rtcp(self, data: bytes) -> None:
        try:
            routed = [(packet, self._router.route_rtcp(packet)) for packet in RtcpPacket.parse(data)]
        except _PARSE_ERRORS as error:
            self._counters["malformed_rtcp"] += 1
            logger.debug("an RTCP packet was dropped: %s", error)
            return
        for packet, recipients in routed:
            for recipient in recipients:
                await self._guarded(recipient._handle_rtcp_packet(packet))

    async def _guarded(self, handling: Awaitable[None]) -> None:
        """Let a packet be handled. What one recipient makes of it must not end the call for the others."""
        try:
            await handling
        except ConnectionError:
            # It answered (feedback, a retransmission), and the transport closed meanwhile.
            self._counters["unanswered_packets"] += 1
        except Exception as error:
            self._counters["packet_handler_errors"] += 1
            # Once is enough: a peer could fill the log with packets of this kind.
            level = logging.WARNING if self._counters["packet_handler_errors"] == 1 else logging.DEBUG
            logger.log(level, "a packet could not be handled: %s: %s", type(error).__name__, error)
