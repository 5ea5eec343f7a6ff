"""Bits of headers that are not byte aligned, the first one the highest."""

from mediapeer.rtp.payload.errors import PayloadError

#: How much of a header is looked at, in bytes: sequence headers are far shorter.
_MAXIMUM_LENGTH = 512
#: How many zeros a code may begin with: its value has 32 bits then.
_MAXIMUM_ZEROS = 32


class BitReader:
    """Reads unsigned integers one after the other.

    Its methods raise :class:`PayloadError` when the bits do not suffice.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data[:_MAXIMUM_LENGTH]
        self._position = 0
        self._end = 8 * len(self._data)

    def bits(self, count: int) -> int:
        """The next ``count`` bits."""
        end = self._position + count
        if end > self._end:
            raise PayloadError("a header is truncated")
        last = (end + 7) >> 3
        value = int.from_bytes(self._data[self._position >> 3 : last], "big")
        self._position = end
        return value >> 8 * last - end & (1 << count) - 1

    def flag(self) -> bool:
        """The next bit."""
        return self.bits(1) == 1

    def ue(self) -> int:
        """An unsigned Exp-Golomb code (H.264 and H.265 §9.1 and §9.2; AV1's ``uvlc`` is the same)."""
        # Not bit by bit: a peer may send headers of nothing but codes.
        window = min(_MAXIMUM_ZEROS + 1, self._end - self._position)
        zeros = window - self.bits(window).bit_length()
        if zeros == window:
            raise PayloadError("an Exp-Golomb code without end")
        self._position -= window - zeros
        return self.bits(zeros + 1) - 1

    def se(self) -> int:
        """A signed one (H.264 §9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)
