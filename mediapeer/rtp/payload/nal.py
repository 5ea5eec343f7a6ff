"""NAL units, which H.264 and H.265 are made of: told apart, kept, and put into as few payloads as it takes."""

from collections.abc import Callable, Iterator, Sequence

from mediapeer.rtp.payload.errors import PayloadError

START_CODE = b"\x00\x00\x00\x01"
_SHORT_START_CODE = b"\x00\x00\x01"
#: The most NAL units in a frame. Level 6.2 has 600 slices at most; there are as many packets at most.
MAXIMUM_UNITS = 4096
#: How many parameter sets of an access unit are read: a packet has room for hundreds, and each is work.
MAXIMUM_READ = 16


def split_units(data: bytes) -> list[bytes]:
    """The NAL units of an access unit.

    :param data: either with start codes (Annex B) or with a length of four bytes before each (as in MP4 files).
    :raises PayloadError: when it is neither, or empty.
    """
    units = _split_lengths(data) or _split_start_codes(data)
    if not units:
        raise PayloadError("no NAL units")
    if len(units) > MAXIMUM_UNITS:
        raise PayloadError("too many NAL units")
    return units


def _split_lengths(data: bytes) -> list[bytes]:
    """Nothing unless the lengths lead exactly to the end: a start code read as a length does not."""
    units: list[bytes] = []
    position, end = 0, len(data)
    while position + 4 < end:
        start = position + 4
        position = start + int.from_bytes(data[position:start], "big")
        if position == start or position > end or len(units) > MAXIMUM_UNITS or data[start] & 0x80:
            return []
        units.append(data[start:position])
    return units if position == end else []


def _split_start_codes(data: bytes) -> list[bytes]:
    units: list[bytes] = []
    start = data.find(_SHORT_START_CODE)
    if start < 0 or data[:start].strip(b"\x00"):
        return units
    while start >= 0 and len(units) <= MAXIMUM_UNITS:
        following = data.find(_SHORT_START_CODE, start + 3)
        # Zeros before a start code belong to no unit, and none ends with one (H.264 §7.4.1, Annex B).
        unit = data[start + 3 : None if following < 0 else following].rstrip(b"\x00")
        if unit:
            units.append(unit)
        start = following
    return units


def joined(units: Sequence[bytes]) -> bytes:
    """The NAL units of an access unit, each after a start code (Annex B).

    :raises PayloadError: when there are too many of them, those included that begin within another: none may
        (H.264 §7.4.1), but readers would find them, and a decoder takes kilobytes for each.
    """
    data = START_CODE + START_CODE.join(units)
    if len(data) > len(_SHORT_START_CODE) * MAXIMUM_UNITS and data.count(_SHORT_START_CODE) > MAXIMUM_UNITS:
        raise PayloadError("too many NAL units")
    return data


def unescape(unit: bytes) -> bytes:
    """Without the bytes that keep start codes out (H.264 §7.4.1, H.265 §7.4.2)."""
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")


def aggregated(units: Sequence[bytes], maximum: int, header_length: int) -> Iterator[Sequence[bytes]]:
    """Neighbouring units that fit into one payload, each with a length of two bytes; large ones alone."""
    group: list[bytes] = []
    length = 0
    for unit in units:
        added = 2 + len(unit)
        if group and length + added > maximum:
            yield group
            group = []
        if not group:
            length = header_length
        group.append(unit)
        length += added
    if group:
        yield group


class UnitCollector:
    """The NAL units in the payloads of one frame: alone, several in one payload, or one in fragments.

    H.264 and H.265 divide and aggregate alike; what differs is the header, and so the kind that it tells.

    :param kind_of: the kind of the NAL unit that begins with a header.
    :param single: the kinds of NAL units, without those of payloads that have a structure of their own.
    :param header_length: of a NAL unit, in bytes.
    :param shortest: a NAL unit in an aggregate has so many bytes at least.
    """

    def __init__(
        self, kind_of: Callable[[bytes], int], single: range, header_length: int, shortest: int
    ) -> None:
        self._kind_of = kind_of
        self._single = single
        self._header_length = header_length
        self._shortest = shortest
        self._units: list[bytes] = []
        self._fragments: list[bytes] | None = None

    def add(self, unit: bytes) -> None:
        """Add a NAL unit that is a payload by itself."""
        self.expect_whole()
        self._units.append(unit)

    def add_aggregate(self, payload: bytes) -> None:
        """Add the NAL units of a payload that has, after its header, a length of two bytes before each.

        :raises PayloadError: when one does not fit in, or may not stand there.
        """
        self.expect_whole()
        position, end = self._header_length, len(payload)
        while position < end:
            start = position + 2
            position = start + int.from_bytes(payload[position:start], "big")
            unit = payload[start:position]
            if position > end or len(unit) < self._shortest or self._kind_of(unit) not in self._single:
                raise PayloadError("an aggregate with a broken NAL unit")
            if len(self._units) >= MAXIMUM_UNITS:
                raise PayloadError("too many NAL units")
            self._units.append(unit)

    def add_fragment(self, header: bytes, flags: int, fragment: bytes) -> None:
        """Add a part of a NAL unit.

        :param header: of the whole NAL unit.
        :param flags: the header of the fragment, whose first bit is set where the unit begins, the second where
            it ends.
        :raises PayloadError: when it does not follow what came before.
        """
        if not fragment:
            raise PayloadError("an empty fragment")
        fragments, kind_of = self._fragments, self._kind_of
        if flags & 0x80:
            if fragments is not None or kind_of(header) not in self._single:
                raise PayloadError("a fragment that begins what it may not")
            fragments = self._fragments = [header]
        elif fragments is None or (fragments[0] != header and kind_of(fragments[0]) != kind_of(header)):
            raise PayloadError("a fragment without its beginning")
        fragments.append(fragment)
        if flags & 0x40:
            self._units.append(b"".join(fragments))
            self._fragments = None

    def expect_whole(self) -> None:
        """Something other than a fragment has come.

        :raises PayloadError: when a fragmented NAL unit has not ended.
        """
        if self._fragments is not None:
            raise PayloadError("a fragmented NAL unit without its end")

    def finish(self) -> list[bytes]:
        """All of them.

        :raises PayloadError: when there is none, or the last is not whole.
        """
        self.expect_whole()
        if not self._units:
            raise PayloadError("no NAL units")
        return self._units


class ParameterSets:
    """The parameter sets of a source: those that were told last, by their kind and number.

    They are bounded, all together too: they are put before each keyframe, and a peer may send such of a few bytes.
    """

    _MAXIMUM_SETS = 8
    _MAXIMUM_LENGTH = 2048
    "Of all of them, in bytes. Encoders tell a few hundred."

    def __init__(self, kinds: Sequence[int], kind_of: Callable[[bytes], int]) -> None:
        self._kind_of = kind_of
        self._kinds = kinds
        "In the order in which they stand in an access unit."
        self._sets: dict[int, dict[bytes, bytes]] = {kind: {} for kind in kinds}
        self._length = 0

    def learn(self, kind: int, number: bytes, unit: bytes) -> None:
        """Keep a set, and forget what it leaves no room for.

        :param number: what tells it from others of its kind.
        """
        sets = self._sets[kind]
        if len(unit) > self._MAXIMUM_LENGTH:
            return
        self._length -= len(sets.pop(number, b""))
        if len(sets) >= self._MAXIMUM_SETS:
            self._forget(sets)
        for others in self._sets.values():
            while others and self._length + len(unit) > self._MAXIMUM_LENGTH:
                self._forget(others)
        sets[number] = unit
        self._length += len(unit)

    def missing_from(self, units: Sequence[bytes]) -> list[bytes]:
        """Those that are known of the kinds that an access unit has none of."""
        present = {self._kind_of(unit) for unit in units}
        return [unit for kind in self._kinds if kind not in present for unit in self._sets[kind].values()]

    def _forget(self, sets: dict[bytes, bytes]) -> None:
        self._length -= len(sets.pop(next(iter(sets))))
