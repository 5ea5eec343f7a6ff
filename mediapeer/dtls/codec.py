"""Reading and writing the presentation language of TLS (RFC 8446 §3): big-endian integers and vectors."""

from mediapeer.dtls.errors import DecodeError


class Reader:
    """Takes a byte string apart from its beginning; every shortfall is a :class:`DecodeError`."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._offset

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        end = self._offset + length
        if end > len(self._data):
            raise DecodeError(f"{length} bytes are announced where {self.remaining} are left")
        data = self._data[self._offset : end]
        self._offset = end
        return data

    def uint8(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def uint16(self) -> int:
        """The next two bytes as an integer."""
        return int.from_bytes(self.take(2), "big")

    def uint24(self) -> int:
        """The next three bytes as an integer."""
        return int.from_bytes(self.take(3), "big")

    def vector(self, length_size: int, minimum: int = 0) -> bytes:
        """The contents of a vector whose length stands before it in ``length_size`` bytes.

        :param minimum: the least number of bytes the vector must have.
        """
        length = int.from_bytes(self.take(length_size), "big")
        if length < minimum:
            raise DecodeError(f"a vector of {length} bytes must have at least {minimum}")
        return self.take(length)

    def uint16_list(self, length_size: int = 2) -> tuple[int, ...]:
        """A vector of two-byte integers that must not be empty."""
        data = self.vector(length_size, minimum=2)
        if len(data) % 2:
            raise DecodeError("a vector of 16-bit values has an odd length")
        return tuple(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))

    def end(self) -> None:
        """Make sure that nothing is left over."""
        if self.remaining:
            raise DecodeError(f"{self.remaining} bytes are left over")


def vector(data: bytes, length_size: int) -> bytes:
    """``data`` with its length before it in ``length_size`` bytes."""
    return len(data).to_bytes(length_size, "big") + data


def uint16_list(values: tuple[int, ...], length_size: int = 2) -> bytes:
    """A vector of two-byte integers."""
    return vector(b"".join(value.to_bytes(2, "big") for value in values), length_size)
