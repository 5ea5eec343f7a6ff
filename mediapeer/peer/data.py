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
)

from mediapeer.transport import DtlsTransport, GuardedEmitter
from mediapeer.transport.emitter import guard


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

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        channel = self._data_channels.get(stream_id)
        if pp_id == WEBRTC_DCEP:
            kind = data[0] if data else None
            if (kind == DATA_CHANNEL_OPEN and channel is not None) or (
                kind == DATA_CHANNEL_ACK and channel is None
            ):
                return  # said twice, or of a channel that is gone: harmless, and aiortc would raise
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
