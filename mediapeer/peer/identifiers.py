"""Numbers that a session agrees on and keeps: payload types, identifiers of header extensions, mids."""

from collections.abc import Iterable

from mediapeer.peer.codecs import CodecIdentity, identity
from mediapeer.sdp import Codec, HeaderExtension

#: Where payload types are taken from: the dynamic range, then what RFC 3551 leaves unassigned. RTCP's packet types,
#: which begin at 64 when the marker bit is taken for the eighth bit, are in neither (RFC 5761 §4).
PAYLOAD_TYPES: tuple[int, ...] = (*range(96, 128), *range(35, 64))
#: One-byte headers carry 1 to 14; 15 is reserved (RFC 8285 §4.2, §4.3).
EXTENSION_IDS: tuple[int, ...] = (*range(1, 15), *range(16, 256))


class PayloadTypes:
    """The payload types of a session. One number means one codec in all sections, since they share a transport."""

    def __init__(self) -> None:
        self._numbers: dict[CodecIdentity, int] = {}
        self._used: dict[int, CodecIdentity] = {}

    def copy(self) -> "PayloadTypes":
        """The same assignments, to be changed on their own."""
        copy = PayloadTypes()
        copy._numbers.update(self._numbers)
        copy._used.update(self._used)
        return copy

    def learn(self, kind: str, codecs: Iterable[Codec]) -> None:
        """Note what a description calls its formats; later assignments keep to it."""
        for codec in codecs:
            wanted = identity(kind, codec)
            if wanted is not None:
                self._numbers[wanted] = codec.payload_type
                self._used[codec.payload_type] = wanted

    def assign(self, wanted: CodecIdentity, preferred: int | None = None) -> int | None:
        """The payload type of a codec: what it has, or ``preferred`` if free, or any. ``None`` when all are taken."""
        number = self._numbers.get(wanted)
        if number is not None and self._used.get(number) == wanted:
            return number
        wishes = PAYLOAD_TYPES if preferred is None else (preferred, *PAYLOAD_TYPES)
        for free in wishes:
            if self._used.get(free, wanted) == wanted:
                self._numbers[wanted] = free
                self._used[free] = wanted
                return free
        return None


class ExtensionIds:
    """The identifiers of header extensions in a session (RFC 8285 §6); one means the same in all sections."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._used: dict[int, str] = {}

    def copy(self) -> "ExtensionIds":
        """The same assignments, to be changed on their own."""
        copy = ExtensionIds()
        copy._numbers.update(self._numbers)
        copy._used.update(self._used)
        return copy

    def learn(self, extensions: Iterable[HeaderExtension]) -> None:
        """Note what a description calls its extensions."""
        for extension in extensions:
            self._numbers[extension.uri] = extension.id
            self._used[extension.id] = extension.uri

    def assign(self, uri: str) -> int | None:
        """The identifier of an extension, or ``None`` when all are taken."""
        number = self._numbers.get(uri)
        if number is not None and self._used.get(number) == uri:
            return number
        for free in EXTENSION_IDS:
            if self._used.get(free, uri) == uri:
                self._numbers[uri] = free
                self._used[free] = uri
                return free
        return None


def next_mid(used: set[str]) -> str:
    """The smallest number that is no mid yet; it is added to ``used``."""
    number = 0
    while str(number) in used:
        number += 1
    used.add(str(number))
    return str(number)
