"""Data channels: aiortc's SCTP, counted, and forgiving where browsers are not aiortc."""

from collections import Counter
from typing import Any, cast

import aiortc
from aiortc.rtcdatachannel import RTCDataChannelParameters
from aiortc.rtcsctptransport import (
    DATA_CHANNEL_ACK,
    DATA_CHANNEL_OPEN,
    WEBRTC_BINARY,
    WEBRTC_DCEP,
    WEBRTC_STRING,
    DataChunk,
    ForwardTsnChunk,
)

from mediapeer.transport import DtlsTransport, GuardedEmitter
from mediapeer.transport.emitter import guard

#: Streams that the peer may send on, and channels that there may be at a time; Chromium has as many.
MAXIMUM_STREAMS = 1024
#: Characters of labels and protocols that all channels together may have; one channel may have 131,070.
MAXIMUM_NAMES = 1 << 20
#: DATA chunks that are kept behind a gap, and as many more for the rest of their messages. The window that we tell
#: the peer, of 1 MiB, has room for less than this in chunks of an Ethernet frame.
HELD_CHUNKS = 1024
#: How far beyond its window a peer may send, in bytes.
WINDOW_TOLERANCE = 1 << 20
#: How far ahead of the others a chunk may be: a SACK has 16 bits for that (RFC 9260 §3.3.4).
MAXIMUM_GAP = 0xFFFF
#: Duplicates of one packet that a SACK tells of.
MAXIMUM_DUPLICATES = 64


class RTCSctpTransport(GuardedEmitter, aiortc.RTCSctpTransport):
    """aiortc's SCTP association with its data channels.

    A channel of ours counts as open at the first message that comes on it: Firefox as an answerer sends data
    before its DATA_CHANNEL_ACK (RFC 8832 §6 lets it). What handlers of a channel raise is logged.
    """

    def __init__(self, transport: DtlsTransport, port: int = 5000) -> None:
        super().__init__(cast(Any, transport), port)
        self.opened = 0
        "Channels that were ever open."
        self.closed = 0
        "Those of them that are not any more."
        # In the order in which they were made; of those that have ended, none.
        self._counts: dict[aiortc.RTCDataChannel, Counter[str]] = {}
        self._held = 0

    @property
    def transport(self) -> DtlsTransport:  # type: ignore[override]
        """The DTLS transport it is carried by."""
        transport: object = super().transport
        if not isinstance(transport, DtlsTransport):
            raise TypeError("not a transport of ours")
        return transport

    def use_transport(self, transport: DtlsTransport) -> None:
        """Be carried by another transport from now on."""
        if transport is not self.transport:
            self.setTransport(cast(Any, transport))

    @property
    def channels(self) -> list[aiortc.RTCDataChannel]:
        """The channels that are not closed."""
        return list(self._counts)

    def counts(self, channel: aiortc.RTCDataChannel) -> Counter[str]:
        """``messages_sent``, ``bytes_sent``, ``messages_received``, ``bytes_received`` of a channel."""
        return self._counts.get(channel, Counter())

    def create_channel(self, parameters: RTCDataChannelParameters) -> aiortc.RTCDataChannel:
        """A channel of ours.

        :raises ValueError: when its id is out of range or taken.
        """
        channel = aiortc.RTCDataChannel(self, parameters)
        self._follow(channel)
        return channel

    def _follow(self, channel: aiortc.RTCDataChannel) -> None:
        """Guard a channel's handlers, and count its messages until it is closed."""
        guard(channel)
        self._counts[channel] = Counter()
        if channel.readyState == "open":
            self.opened += 1
        else:
            channel.once("open", self._on_open)
        channel.once("close", lambda: self._on_close(channel))

    def _on_open(self) -> None:
        self.opened += 1

    def _on_close(self, channel: aiortc.RTCDataChannel) -> None:
        self.closed += 1
        self._counts.pop(channel, None)

    def _data_channel_send(self, channel: aiortc.RTCDataChannel, data: bytes | str) -> None:
        super()._data_channel_send(channel, data)
        if (counts := self._counts.get(channel)) is not None:
            counts["messages_sent"] += 1
            counts["bytes_sent"] += len(data.encode() if isinstance(data, str) else data)

    # What the peer may make us keep. aiortc trusts it to keep to the window, and to finish its messages.

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        if self._last_received_tsn is None:
            self.transport.count("sctp_chunks_too_early")
            return
        if self._has_no_room_for(chunk, self._last_received_tsn):
            # It is not acknowledged, so who means well sends it again (RFC 9260 §6.2).
            self._sack_needed = True
            self.transport.count("sctp_chunks_without_room")
            return
        stream = self._inbound_streams.get(chunk.stream_id)
        before = 0 if stream is None else len(stream.reassembly)
        await super()._receive_data_chunk(chunk)
        stream = self._inbound_streams.get(chunk.stream_id)
        self._held += (0 if stream is None else len(stream.reassembly)) - before

    def _has_no_room_for(self, chunk: DataChunk, last_received: int) -> bool:
        ahead = (chunk.tsn - last_received) & 0xFFFFFFFF
        if ahead == 0 or ahead >= 1 << 31 or chunk.tsn in self._sack_misordered:
            return False  # a duplicate, of which nothing is kept
        if ahead > MAXIMUM_GAP or self._advertised_rwnd < len(chunk.user_data) - WINDOW_TOLERANCE:
            return True
        if chunk.stream_id not in self._inbound_streams and len(self._inbound_streams) >= MAXIMUM_STREAMS:
            return True
        # What closes a gap is taken when what is behind the gap is not: it lets that go.
        limit = HELD_CHUNKS if ahead > 1 else 2 * HELD_CHUNKS
        if self._held >= limit:
            # Streams that are reset and messages that are given up take theirs along.
            self._held = sum(len(stream.reassembly) for stream in self._inbound_streams.values())
        return self._held >= limit or (ahead > 1 and len(self._sack_misordered) >= HELD_CHUNKS)

    def _mark_received(self, tsn: int) -> bool:
        """Note a chunk, whether it is a duplicate: as aiortc does it, without sorting all others each time."""
        last = self._last_received_tsn or 0
        if (tsn - last - 1) & 0xFFFFFFFF >= 1 << 31 or tsn in self._sack_misordered:
            if len(self._sack_duplicates) < MAXIMUM_DUPLICATES:
                self._sack_duplicates.append(tsn)
            return True
        self._sack_misordered.add(tsn)
        while (last + 1) & 0xFFFFFFFF in self._sack_misordered:
            last = (last + 1) & 0xFFFFFFFF
            self._sack_misordered.remove(last)
        self._last_received_tsn = last
        return False

    async def _receive_forward_tsn_chunk(self, chunk: ForwardTsnChunk) -> None:
        known = [entry for entry in chunk.streams if entry[0] in self._inbound_streams]
        new = [entry for entry in chunk.streams if entry[0] not in self._inbound_streams]
        chunk.streams = [*known, *new[: max(0, MAXIMUM_STREAMS - len(self._inbound_streams))]]
        await super()._receive_forward_tsn_chunk(chunk)

    def _may_open(self, data: bytes) -> bool:
        """Whether there is room for one more channel, which this message opens (RFC 8832 §5.1)."""
        names = sum(len(channel.label) + len(channel.protocol) for channel in self._counts)
        return len(self._data_channels) < MAXIMUM_STREAMS and names + len(data) <= MAXIMUM_NAMES

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        channel = self._data_channels.get(stream_id)
        if pp_id == WEBRTC_DCEP:
            kind = data[0] if data else None
            if (kind == DATA_CHANNEL_OPEN and channel is not None) or (
                kind == DATA_CHANNEL_ACK and channel is None
            ):
                return  # said twice, or of a channel that is gone: harmless, and aiortc would raise
            if kind == DATA_CHANNEL_OPEN and not self._may_open(data):
                self.transport.count("data_channels_refused")
                return
        elif channel is not None:
            if channel.readyState == "connecting":
                channel._setReadyState("open")
            if (counts := self._counts.get(channel)) is not None:
                counts["messages_received"] += 1
                counts["bytes_received"] += len(data) if pp_id in (WEBRTC_STRING, WEBRTC_BINARY) else 0
        await super()._data_channel_receive(stream_id, pp_id, data)

    def emit(self, event: str, *args: Any, **kwargs: Any) -> bool:
        """Emit an event; a new channel is guarded and counted before the program sees it."""
        if event == "datachannel":
            self._follow(args[0])
        return super().emit(event, *args, **kwargs)
