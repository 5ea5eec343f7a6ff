"""RTP packets, written (RFC 3550 §5.1), with the header extensions that senders tell (RFC 8285)."""

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("!BBHII")
_BLOCK = struct.Struct("!HH")
_ONE_BYTE_PROFILE = 0xBEDE
_TWO_BYTE_PROFILE = 0x1000
#: The highest identifier and the longest element of the one-byte form (RFC 8285 §4.2).
_ONE_BYTE_MAXIMUM_ID = 14
_ONE_BYTE_MAXIMUM_LENGTH = 16
#: The bytes of a retransmission that tell its original sequence number (RFC 4588 §4).
OSN_LENGTH = 2


@dataclass(frozen=True, slots=True)
class OutboundExtensions:
    """The local identifiers of the header extensions that are written; 0 for those not negotiated."""

    mid: int = 0
    abs_send_time: int = 0
    audio_level: int = 0
    "RFC 6464. Written where the level is known."
    transport_sequence_number: int = 0
    "draft-holmer-rmcat-transport-wide-cc-extensions-01. Written where a number is given."


class RtpWriter:
    """Writes the packets of one source.

    :param ssrc: the source.
    :param mid: the MID of its section (RFC 8843 §15).
    :param extensions: what was negotiated.
    """

    def __init__(
        self, ssrc: int, mid: str = "", extensions: OutboundExtensions = OutboundExtensions()
    ) -> None:
        self.ssrc = ssrc
        self._mid = mid.encode()
        self._extensions = extensions
        # What stands before the elements that change, by which of the optional ones are there.
        self._prefixes: dict[tuple[bool, bool], tuple[bytes, bytes]] = {}
        used = [
            identifier
            for identifier in (
                extensions.mid if self._mid else 0,
                extensions.abs_send_time,
                extensions.audio_level,
                extensions.transport_sequence_number,
            )
            if identifier
        ]
        self._is_long = (
            max(used, default=0) > _ONE_BYTE_MAXIMUM_ID or len(self._mid) > _ONE_BYTE_MAXIMUM_LENGTH
        )
        self._has_extensions = bool(used)

    def write(
        self,
        payload_type: int,
        sequence_number: int,
        timestamp: int,
        payload: bytes,
        *,
        marker: bool = False,
        ntp_timestamp: int = 0,
        audio_level: int | None = None,
        transport_sequence_number: int | None = None,
    ) -> bytes:
        """A packet.

        :param timestamp: of any size; its low 32 bits count.
        :param ntp_timestamp: when it is sent, in units of 2^-32 s: for abs-send-time.
        :param audio_level: in -dBov, 0 to 127.
        """
        second = payload_type | 0x80 if marker else payload_type
        numbers = (second, sequence_number & 0xFFFF, timestamp & 0xFFFFFFFF, self.ssrc)
        if not self._has_extensions:
            return _HEADER.pack(0x80, *numbers) + payload
        extensions = self._extensions
        has_level = audio_level is not None and extensions.audio_level != 0
        has_number = transport_sequence_number is not None and extensions.transport_sequence_number != 0
        prefix, padding = self._prefix(has_level, has_number)
        parts = [_HEADER.pack(0x90, *numbers), prefix]
        if has_level:
            parts += (self._element(extensions.audio_level, 1), bytes((min(audio_level or 0, 127),)))
        if has_number:
            number = (transport_sequence_number or 0) & 0xFFFF
            parts += (self._element(extensions.transport_sequence_number, 2), number.to_bytes(2, "big"))
        if extensions.abs_send_time:
            # 24 bits of seconds, 18 of them after the point.
            parts += (
                self._element(extensions.abs_send_time, 3),
                (ntp_timestamp >> 14 & 0xFFFFFF).to_bytes(3, "big"),
            )
        parts += (padding, payload)
        return b"".join(parts)

    def _element(self, identifier: int, length: int) -> bytes:
        """The header of an element."""
        return bytes((identifier, length)) if self._is_long else bytes((identifier << 4 | length - 1,))

    def _prefix(self, has_level: bool, has_number: bool) -> tuple[bytes, bytes]:
        """The beginning of the extension with the MID, and its padding to 32 bits."""
        known = self._prefixes.get((has_level, has_number))
        if known is not None:
            return known
        extensions = self._extensions
        mid = b""
        if extensions.mid and self._mid:
            mid = self._element(extensions.mid, len(self._mid)) + self._mid
        header = 2 if self._is_long else 1
        length = len(mid) + has_level * (header + 1) + has_number * (header + 2)
        length += header + 3 if extensions.abs_send_time else 0
        padding = bytes(-length % 4)
        profile = _TWO_BYTE_PROFILE if self._is_long else _ONE_BYTE_PROFILE
        made = (_BLOCK.pack(profile, (length + len(padding)) // 4) + mid, padding)
        self._prefixes[has_level, has_number] = made
        return made
