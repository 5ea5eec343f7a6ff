"""``RTCRtpTransceiver``: a section of the negotiation with its sender and its receiver."""

from collections.abc import Callable

from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from mediapeer.peer.codecs import CodecRegistry
from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.peer.sender import RTCRtpSender
from mediapeer.peer.transceiver import Transceiver


class RTCRtpTransceiver(Transceiver):
    """A sender and a receiver that share a media section (W3C webrtc §5.4).

    :param kind: ``audio`` or ``video``.
    :param sender: what sends in it.
    :param receiver: what receives in it.
    :param codecs: the codecs of the connection.
    :param on_change: told when the program has changed what is to be negotiated.
    """

    def __init__(
        self,
        kind: str,
        sender: RTCRtpSender,
        receiver: RTCRtpReceiver,
        codecs: CodecRegistry,
        on_change: Callable[[], None],
    ) -> None:
        super().__init__(kind, codecs=codecs)
        self.sender = sender
        "What sends in it."
        self.receiver = receiver
        "What receives in it."
        self._on_change = on_change

    @property
    def direction(self) -> str:
        """What the program wants: ``sendrecv``, ``sendonly``, ``recvonly`` or ``inactive``; ``stopped`` at the end.

        :raises ValueError: when it is set to anything else.
        :raises InvalidStateError: when it is set after :meth:`stop`.
        """
        return super().direction

    @direction.setter
    def direction(self, direction: str) -> None:
        Transceiver.direction.fset(self, direction)  # type: ignore[attr-defined]
        self._on_change()

    @property
    def currentDirection(self) -> str | None:
        """The direction that was negotiated last; ``None`` before."""
        return self.current_direction

    def setCodecPreferences(self, codecs: list[RTCRtpCodecCapability]) -> None:
        """Say which codecs to negotiate, the best first; an empty list restores the default.

        :raises ValueError: when one is not among the capabilities.
        """
        self.set_codec_preferences(codecs)

    async def stop(self) -> None:  # type: ignore[override]
        """End sending and receiving for good. The next negotiation rejects the section (W3C webrtc §5.4.1)."""
        if not self.stopping:
            super().stop()
            await self.end()
            self._on_change()

    async def end(self) -> None:
        """End sender and receiver, without a word to the negotiation."""
        await self.receiver.stop()
        await self.sender.stop()
