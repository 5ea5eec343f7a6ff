"""Payloads as the payload formats' figures have them, and what is wrong with others."""

import itertools

import pytest

from mediapeer.rtp.payload import PayloadError, RedBlock, Unit, depacketizer_for, packetizer_for, split_red
from mediapeer.rtp.payload.bits import BitReader
from mediapeer.rtp.payload.h264 import sequence_size as h264_size
from mediapeer.rtp.payload.h265 import sequence_size as h265_size
from mediapeer.rtp.payload.nal import split_units
from mediapeer.rtp.payload.obu import read_leb128, read_sequence_header, write_leb128

KEYFRAME = "10 02 00 9d 01 2a 40 01 f0 00 aa"  # VP8, 320 × 240
VP9_KEYFRAME = "82 49 83 42 00 13 f0 0e f0 00"  # profile 0, 320 × 240
VP9_DELTA = "86 00 40 92"


def depacketize(codec: str, *payloads: str, clock_rate: int = 90000, channels: int | None = None) -> Unit:
    """The frame of payloads in hexadecimal, of a new source."""
    depacketizer = depacketizer_for(codec, clock_rate, channels)
    assert depacketizer is not None
    return depacketizer.depacketize([bytes.fromhex(payload) for payload in payloads])


def begins(codec: str, payload: str) -> bool:
    depacketizer = depacketizer_for(codec, 90000)
    assert depacketizer is not None
    return depacketizer.begins_frame(bytes.fromhex(payload))


# VP8


@pytest.mark.parametrize(
    ("descriptor", "temporal_layer"),
    [
        ("10", None),
        ("30", None),  # N: no reference
        ("90 80 11", None),  # RFC 7741 §4.6.1: a picture ID of 7 bits
        ("90 80 92 34", None),  # §4.6.5: of 15 bits
        ("90 00", None),
        ("90 40 07", None),  # TL0PICIDX without TID
        ("90 10 05", None),  # KEYIDX alone
        ("90 20 80", 2),
        ("90 e0 11 05 40", 1),
        ("90 f0 92 34 05 c5", 3),
        ("58", None),  # bits that are reserved, here and below
        ("d8 af 92 34 8f", 2),
    ],
)
def test_vp8_descriptors(descriptor: str, temporal_layer: int | None) -> None:
    unit = depacketize("vp8", f"{descriptor} {KEYFRAME}", "00 bb cc")
    assert unit == (bytes.fromhex(KEYFRAME + "bb cc"), True, 320, 240, None, temporal_layer, None)
    assert depacketize("vp8", f"{descriptor} 31 00", "81 80 92 34 bb") == (
        bytes.fromhex("31 00 bb"), False, None, None, None, temporal_layer, None
    )  # fmt: skip
    assert begins("vp8", f"{descriptor} 31 00")


def test_vp8_sizes_are_without_scales() -> None:
    unit = depacketize("vp8", "10 10 02 00 9d 01 2a 80 42 e0 81")
    assert (unit.width, unit.height) == (640, 480)


@pytest.mark.parametrize(
    "payloads",
    [
        ("",),
        ("10",),
        ("00 31",),  # not the start
        ("11 31",),  # the second partition
        ("90",),
        ("90 80",),
        ("90 80 92 34",),
        ("90 f0 92 34 05",),
        ("10 10 02 00 9d 01 2b 40 01 f0 00",),  # another start code
        ("10 10 02 00 9d 01 2a 40",),
        ("10 10 02 00 9d 01 2a 40 01 00 40",),  # no lines, when the scale is left out
        ("10 31", "80 80 11"),
    ],
)
def test_broken_vp8(payloads: tuple[str, ...]) -> None:
    with pytest.raises(PayloadError):
        depacketize("vp8", *payloads)


def test_vp8_picture_ids_count_up_and_wrap() -> None:
    packetizer = packetizer_for("vp8")
    assert packetizer is not None
    numbers = []
    for _ in range(0x8002):
        [payload] = packetizer.packetize(b"\x31\x00", is_keyframe=False, maximum=1200)
        assert payload[:2] == b"\x90\x80"
        numbers.append(int.from_bytes(payload[2:4], "big"))
    assert all(number & 0x8000 for number in numbers)
    assert all((b - a) & 0x7FFF == 1 for a, b in itertools.pairwise(numbers))


def test_pieces_are_about_equally_long() -> None:
    packetizer = packetizer_for("vp8")
    assert packetizer is not None
    payloads = packetizer.packetize(bytes(1201), is_keyframe=False, maximum=604)
    assert [len(payload) for payload in payloads] == [404, 404, 405]
    assert [payload[0] for payload in payloads] == [0x90, 0x80, 0x80]


# VP9


@pytest.mark.parametrize(
    ("descriptor", "spatial", "temporal"),
    [
        ("08", None, None),
        ("88 11", None, None),
        ("88 92 34", None, None),
        ("a8 92 34 40 07", 0, 2),  # layers and TL0PICIDX
        ("b8 92 34 21", 0, 1),  # flexible: no TL0PICIDX
        ("0a 00", None, None),  # a structure that says nothing
        (
            "0a 08 02 54 02 04 02",
            None,
            None,
        ),  # with a group of two pictures: of one reference and none, and so on
    ],
)
def test_vp9_descriptors(descriptor: str, spatial: int | None, temporal: int | None) -> None:
    unit = depacketize("vp9", f"{descriptor} {VP9_KEYFRAME}", "04 bb")
    assert unit == (bytes.fromhex(VP9_KEYFRAME + "bb"), True, 320, 240, spatial, temporal, None)
    assert begins("vp9", f"{descriptor} {VP9_KEYFRAME}")


def test_vp9_of_pictures_that_refer_to_others() -> None:
    assert depacketize("vp9", f"4c {VP9_DELTA}") == Unit(bytes.fromhex(VP9_DELTA), False)
    # Flexible, with three references.
    flexible = f"fc 92 34 20 03 05 06 {VP9_DELTA}"
    assert depacketize("vp9", flexible) == Unit(bytes.fromhex(VP9_DELTA), False, None, None, 0, 1)
    with pytest.raises(PayloadError, match="references"):
        depacketize("vp9", f"fc 92 34 20 03 05 07 08 {VP9_DELTA}")


def test_vp9_layers_become_a_superframe() -> None:
    structure = "30 01 40 00 f0 02 80 01 e0"  # two layers, 320 × 240 and 640 × 480
    first = f"aa 85 06 00 01 {structure} {VP9_KEYFRAME}"
    unit = depacketize("vp9", first, "a4 85 06 00 01 aa", f"ac 85 06 02 01 {VP9_DELTA}")
    lower, upper = bytes.fromhex(VP9_KEYFRAME + "aa"), bytes.fromhex(VP9_DELTA)
    lower = bytes([lower[0] & ~0x02]) + lower[1:]  # show_frame
    assert unit.data == lower + upper + bytes([0xC1, len(lower), len(upper), 0xC1])
    assert (unit.is_keyframe, unit.width, unit.height) == (True, 640, 480)
    assert (unit.spatial_layer, unit.temporal_layer) == (1, 0)
    assert begins("vp9", first)
    assert not begins("vp9", f"ac 85 06 02 01 {VP9_DELTA}")  # an upper layer


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "08",
        "04 82",
        "88",
        "88 92",
        "a8 92 34",
        "0a 10 00",
        "0a 08 05 00",
        "0a 18",
        "08 02",
        f"00 {VP9_DELTA}",
        "08 82 49 83 43 00 13 f0 0e f0",
        "08 82 49 83 42 00",
    ],
)
def test_broken_vp9(payload: str) -> None:
    with pytest.raises(PayloadError):
        depacketize("vp9", payload)


def test_vp9_has_no_ninth_layer() -> None:
    with pytest.raises(PayloadError, match="layers"):
        depacketize("vp9", *[f"0c {VP9_DELTA}"] * 9)


@pytest.mark.parametrize(
    "header",
    [
        [(0b10, 2), (0, 2), (0, 4), (0x498342, 24), (2, 3), (0, 1)],
        [(0b10, 2), (0, 2), (0, 4), (0x498342, 24), (7, 3)],  # sRGB
        [(0b10, 2), (2, 2), (0, 4), (0x498342, 24), (2, 3), (0, 1), (0, 3)],  # profile 1: low bit first
        [(0b10, 2), (2, 2), (0, 4), (0x498342, 24), (7, 3), (0, 1)],
        [(0b10, 2), (1, 2), (0, 4), (0x498342, 24), (1, 1), (2, 3), (0, 1)],  # profile 2
        [(0b10, 2), (3, 2), (0, 1), (0, 4), (0x498342, 24), (1, 1), (2, 3), (0, 1), (0, 3)],
        [(0b10, 2), (3, 2), (0, 1), (0, 4), (0x498342, 24), (1, 1), (7, 3), (0, 1)],
    ],
)
def test_vp9_profiles(header: list[tuple[int, int]]) -> None:
    """VP9 specification §6.2 and §6.2.2: what stands before the size of a keyframe."""
    unit = depacketize("vp9", "08" + write_bits(*header, (641, 16), (362, 16), (0, 32)).hex())
    assert (unit.is_keyframe, unit.width, unit.height) == (True, 642, 363)


def test_vp9_packets() -> None:
    """RFC 9628 §4.2: I with a picture ID of 15 bits, P unless it is a keyframe, B and E at the ends."""
    packetizer = packetizer_for("vp9")
    assert packetizer is not None
    frames = [packetizer.packetize(b"abcdefghi", is_keyframe=key, maximum=6) for key in (True, False)]
    assert [[payload[0] for payload in frame] for frame in frames] == [[0x88, 0x80, 0x84], [0xC8, 0xC0, 0xC4]]
    assert [b"".join(payload[3:] for payload in frame) for frame in frames] == [b"abcdefghi"] * 2
    assert [payload[1:3] for payload in frames[0]] == [frames[0][0][1:3]] * 3
    [whole] = packetizer.packetize(b"abc", is_keyframe=False, maximum=6)
    assert whole[0] == 0xCC
    numbers = [int.from_bytes(payload[1:3], "big") for payload in (frames[0][0], frames[1][0], whole)]
    while numbers[-1] != 0x8001:
        [payload] = packetizer.packetize(b"abc", is_keyframe=False, maximum=6)
        numbers.append(int.from_bytes(payload[1:3], "big"))
        assert len(numbers) < 0x9000
    assert all(number & 0x8000 for number in numbers)
    assert all((b - a) & 0x7FFF == 1 for a, b in itertools.pairwise(numbers))


# H.264

SPS = "67 42 c0 1e da 02 80 f6 c0 44 00 00 03 00 04 00 00 03 00 f0 3c 58 ba 80"  # 640 × 480
PPS = "68 ce 0f c8"
START = "00 00 00 01"


def test_h264_single_units_and_aggregates() -> None:
    assert depacketize("h264", "61 9a 01").data == bytes.fromhex(f"{START} 61 9a 01")
    # RFC 6184 §5.7.1, figure 7: two units with their sizes.
    aggregate = f"78 00 18 {SPS} 00 04 {PPS}"
    unit = depacketize("h264", aggregate, "65 88 80 10")
    assert unit == Unit(bytes.fromhex(f"{START} {SPS} {START} {PPS} {START} 65 88 80 10"), True, 640, 480)
    assert begins("h264", aggregate)


def test_h264_fragments() -> None:
    # RFC 6184 §5.8: the header of the unit is in the indicator's first bits and the header's last.
    unit = depacketize("h264", "7c 85 88 80", "7c 05 10", "7c 45 20", "06 01")
    assert unit.data == bytes.fromhex(f"{START} 65 88 80 10 20 {START} 06 01")
    assert unit.is_keyframe


def test_h264_passes_over_what_is_reserved() -> None:
    """RFC 6184 §5.2, table 1."""
    unit = depacketize("h264", "1e 01 02", "61 9a", "00 01", "1f", "61 40")
    assert unit.data == bytes.fromhex(f"{START} 61 9a {START} 61 40")


@pytest.mark.parametrize(
    "payloads",
    [
        ("",),
        ("61 9a", "79 00 00 00 02 61 40"),  # STAP-B, which the modes 0 and 1 have not
        ("78 00 05 61 9a",),
        ("78 00 00",),
        ("78",),
        ("78 00",),
        ("78 00 03 78 01 01",),  # an aggregate in an aggregate
        ("7c 85",),
        ("7c 05 88",),
        ("7c 85 88",),
        ("7c 85 88", "7c 85 88"),
        ("7c 85 88", "7c 85 88", "7c 45 20"),
        ("7c 85", "7c 45 88"),
        ("06 05 01", "7c 85 88"),
        ("7c 85 88", "7c 41 88"),  # of another unit
        ("7c 85 88", "61 9a"),
        ("7c 85 88", "61 9a", "7c 45 20"),
        ("7c 9c 88", "7c 5c 88"),  # fragments of a fragment
        ("79 61",),  # STAP-B
        ("7a 61",),
        ("7d 81 00 00 88",),  # FU-B
        ("7e 00",),  # nothing but what is reserved
    ],
)
def test_broken_h264(payloads: tuple[str, ...]) -> None:
    with pytest.raises(PayloadError):
        depacketize("h264", *payloads)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("67 42", True),
        ("68 ce", True),
        ("06 05", True),
        ("09 f0", True),
        ("61 9a", True),  # the first macroblock
        ("61 40", False),
        ("65 88", True),
        ("65 00", False),
        ("61", False),
        ("7c 85 88", True),
        ("7c 81 40", False),
        ("7c 05 88", False),
        ("7c 85", False),
        ("78 00 02 61 9a", True),
        ("78 00 02 61 40", False),
        ("78 00 02 67 42", True),
        ("78 00", False),
        ("0c 00", False),
        ("", False),
    ],
)
def test_where_h264_begins(payload: str, expected: bool) -> None:
    assert begins("h264", payload) is expected


def test_h264_keyframes_get_the_parameter_sets_that_came_last() -> None:
    depacketizer = depacketizer_for("h264", 90000)
    assert depacketizer is not None
    sps, pps, idr = bytes.fromhex(SPS), bytes.fromhex(PPS), b"\x65\x88\x80"
    bare = depacketizer.depacketize([idr])
    assert bare == Unit(bytes.fromhex(START) + idr, True)
    depacketizer.depacketize([sps, pps, b"\x61\x9a"])
    assert depacketizer.depacketize([b"\x61\x9a"]) == Unit(bytes.fromhex(START) + b"\x61\x9a", False)
    delimiter, sei = b"\x09\x10", b"\x06\x05\x01"
    for given, expected in [
        ([idr], [sps, pps, idr]),
        ([delimiter, sei, idr], [delimiter, sps, pps, sei, idr]),
        ([sps, idr], [sps, pps, idr]),
        ([delimiter, pps, idr], [delimiter, sps, pps, idr]),
        ([delimiter, sps, sei, idr], [delimiter, sps, pps, sei, idr]),
    ]:
        unit = depacketizer.depacketize(given)
        assert split_units(unit.data) == expected
        assert (unit.width, unit.height) == (640, 480)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_each_parameter_set_is_kept_as_it_was_told_last(codec: str) -> None:
    """By kind and number, however often they are told: with each keyframe, for hours."""
    depacketizer = depacketizer_for(codec, 90000)
    assert depacketizer is not None
    if codec == "h264":
        sets = [bytes.fromhex(SPS), b"\x68" + write_bits(0, 7), b"\x68" + write_bits(1, 7)]
        newer, keyframe = b"\x68" + write_bits(1, 9), b"\x65\x88\x80"
    else:
        heads = [b"\x40\x01\x0c", b"\x40\x01\x1c", h265_sps(0, 1, 640, 480)]
        sets = [*heads, b"\x44\x01" + write_bits(0, 7), b"\x44\x01" + write_bits(1, 7)]
        newer, keyframe = b"\x44\x01" + write_bits(1, 9), b"\x26\x01\x80"
    for _ in range(300):
        depacketizer.depacketize([*sets, keyframe])
    assert split_units(depacketizer.depacketize([keyframe]).data) == [*sets, keyframe]
    depacketizer.depacketize([newer, keyframe])
    assert split_units(depacketizer.depacketize([keyframe]).data) == [*sets[:-1], newer, keyframe]


def test_parameter_sets_that_are_kept_are_bounded() -> None:
    depacketizer = depacketizer_for("h264", 90000)
    assert depacketizer is not None
    for number in range(300):
        depacketizer.depacketize([b"\x67\x42\xc0\x1e" + number.to_bytes(3, "big") + b"\x80" + bytes(2000)])
        depacketizer.depacketize([b"\x68" + number.to_bytes(3, "big") + b"\x80" + bytes(5000)])
    assert len(depacketizer.depacketize([b"\x65\x88"]).data) < 3000


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_keyframes_of_a_few_bytes_stay_short(codec: str) -> None:
    """Parameter sets are put before each: a peer must not have us write a thousand times what it sends."""
    depacketizer = depacketizer_for(codec, 90000)
    assert depacketizer is not None
    heads = {"h264": (b"\x67\x42\xc0\x1e", b"\x68"), "h265": (b"\x40\x01", b"\x44\x01")}[codec]
    for number in range(8):
        for head in heads:
            depacketizer.depacketize([head + write_bits(number) + b"\x11" * 1100])
    keyframe = {"h264": b"\x65\x88\x80", "h265": b"\x26\x01\x80"}[codec]
    unit = depacketizer.depacketize([keyframe])
    assert unit.is_keyframe
    assert len(unit.data) < 2500


def test_long_codes_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter set may be nothing but codes, and a peer may send one in each packet."""
    data = write_bits(*[(1 << 31) - 1] * 60)
    reads: list[int] = []
    bits = BitReader.bits
    monkeypatch.setattr(BitReader, "bits", lambda self, count: reads.append(count) or bits(self, count))
    reader = BitReader(data)
    assert [reader.ue() for _ in range(60)] == [(1 << 31) - 1] * 60
    assert len(reads) <= 2 * 60


@pytest.mark.parametrize("value", [0, 1, 2, 254, (1 << 32) - 2])
def test_codes_at_the_very_end(value: int) -> None:
    code = f"{value + 1:b}"
    text = "0" * (len(code) - 1) + code
    lead = -len(text) % 8
    reader = BitReader(int(text, 2).to_bytes((lead + len(text)) // 8, "big"))
    reader.bits(lead)
    assert reader.ue() == value
    with pytest.raises(PayloadError):
        reader.ue()


def write_bits(*fields: tuple[int, int] | int) -> bytes:
    """Pairs of a value and its number of bits, and Exp-Golomb codes of single values."""
    text = ""
    for field in fields:
        if isinstance(field, tuple):
            text += f"{field[0]:0{field[1]}b}" if field[1] else ""
        else:
            code = f"{field + 1:b}"
            text += "0" * (len(code) - 1) + code
    text += "1"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def h264_sps(profile: int, *high: int | tuple[int, int], tail: tuple[int | tuple[int, int], ...]) -> bytes:
    return b"\x67" + write_bits((profile, 8), (0, 8), (30, 8), 0, *high, 0, 0, 0, 1, (0, 1), *tail)


@pytest.mark.parametrize(
    ("sps", "size"),
    [
        # 1920 × 1088, cropped by 4 × 2 lines.
        (h264_sps(66, tail=(119, 67, (1, 1), (1, 1), (1, 1), 0, 0, 0, 4)), (1920, 1080)),
        # Fields: map units of two macroblocks; cropping by 2 × 2 × 2 lines.
        (h264_sps(77, tail=(119, 33, (0, 1), (1, 1), (1, 1), (1, 1), 0, 0, 0, 2)), (1920, 1080)),
        # 4:2:2: lines are cropped one by one.
        (h264_sps(122, 2, 0, 0, (0, 1), (0, 1), tail=(39, 29, (1, 1), (1, 1), (1, 1), 1, 1, 0, 5)), (636, 475)),
        # 4:4:4, and a scaling list of eight deltas after one that is not there.
        (
            h264_sps(244, 3, (0, 1), 0, 0, (0, 1), (1, 1), (0, 1), (1, 1), *[2] * 8, (0, 10),
                     tail=(39, 29, (1, 1), (1, 1), (1, 1), 1, 1, 3, 4)), (638, 473),
        ),
        # Scaling lists: one whole of sixteen, one that leaves off, and one of 64 (H.264 §7.3.2.1.1.1).
        (
            h264_sps(100, 1, 0, 0, (0, 1), (1, 1), (1, 1), *[1] * 16, (1, 1), *[1] * 3, 22, (0, 4), (1, 1),
                     *[1, 2] * 32, (0, 1), tail=(39, 29, (1, 1), (1, 1), (0, 1))), (640, 480),
        ),
        # An order of pictures that is told by a cycle (§7.3.2.1.1).
        (
            b"\x67" + write_bits((66, 8), (0, 8), (30, 8), 0, 0, 1, (0, 1), 3, 4, 2, 5, 6, 1, (0, 1), 39, 29,
                                 (1, 1), (1, 1), (0, 1)), (640, 480),
        ),
        # Monochrome, without cropping.
        (h264_sps(100, 0, 0, 0, (0, 1), (0, 1), tail=(19, 14, (1, 1), (1, 1), (0, 1))), (320, 240)),
    ],
)  # fmt: skip
def test_h264_sizes(sps: bytes, size: tuple[int, int]) -> None:
    assert h264_size(sps) == size


@pytest.mark.parametrize(
    "sps",
    [
        b"\x67",
        bytes.fromhex(SPS)[:6],
        h264_sps(66, tail=(1 << 20, 1, (1, 1), (0, 2))),
        b"\x67\x42\x00\x1e" + bytes(50),
        h264_sps(66, tail=(0, 0, (1, 1), (1, 1), (1, 1), 8, 8, 0, 0)),
    ],
)
def test_h264_sizes_that_make_no_sense(sps: bytes) -> None:
    with pytest.raises(PayloadError):
        h264_size(sps)
    unit = depacketize("h264", sps.hex(), "65 88")
    assert (unit.is_keyframe, unit.width, unit.height) == (True, None, None)


def test_small_units_of_h264_are_put_together() -> None:
    packetizer = packetizer_for("h264", {"packetization-mode": 1})
    assert packetizer is not None
    data = bytes.fromhex(f"{START} {SPS} 00 00 01 {PPS} {START} 65 88 80 10")
    assert packetizer.packetize(data, is_keyframe=True, maximum=100) == [
        bytes.fromhex(f"78 00 18 {SPS} 00 04 {PPS} 00 04 65 88 80 10")
    ]
    assert len(packetizer.packetize(data, is_keyframe=True, maximum=39)) == 1
    assert packetizer.packetize(data, is_keyframe=True, maximum=38) == [
        bytes.fromhex(f"78 00 18 {SPS} 00 04 {PPS}"),
        bytes.fromhex("65 88 80 10"),
    ]
    # RFC 6184 §5.7: the most important of all, and broken if one is.
    for kinds, header in [("06 41 21", "58"), ("06 06 06", "18"), ("21 c1 01", "d8")]:
        data = b"".join(b"\x00\x00\x01" + bytes([kind, 0x9A]) for kind in bytes.fromhex(kinds))
        [payload] = packetizer.packetize(data, is_keyframe=False, maximum=100)
        assert payload[:1] == bytes.fromhex(header)
    large = b"\x00\x00\x01\x61" + bytes([0xAB] * 21)
    assert packetizer.packetize(large, is_keyframe=False, maximum=10) == [
        b"\x7c\x81" + b"\xab" * 7,
        b"\x7c\x01" + b"\xab" * 7,
        b"\x7c\x41" + b"\xab" * 7,
    ]


def test_in_mode_0_units_of_h264_go_alone_and_whole() -> None:
    packetizer = packetizer_for("h264", {"packetization-mode": "0"})
    assert packetizer is not None
    data = bytes.fromhex(f"{START} 68 ce {START} 65 88 80 10")
    assert packetizer.packetize(data, is_keyframe=True, maximum=4) == [b"\x68\xce", b"\x65\x88\x80\x10"]
    with pytest.raises(PayloadError, match="4 bytes"):
        packetizer.packetize(data, is_keyframe=True, maximum=3)


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x01", b"ab\x00\x00\x01\x61\x9a", b"\x00\x00\x00\x09\x61"])
def test_what_is_no_access_unit_is_not_packed(data: bytes) -> None:
    for codec in ("h264", "h265"):
        packetizer = packetizer_for(codec)
        assert packetizer is not None
        with pytest.raises(PayloadError):
            packetizer.packetize(data, is_keyframe=True, maximum=1200)


# H.265


def h265_sps(layers: int, chroma: int, width: int, height: int, *window: int) -> bytes:
    told = [(1, 1)] * (2 * layers) + ([(0, 16 - 2 * layers)] if layers else [])
    sub_layers = [(0, 96)] * layers
    ending = [(1, 1), *window] if window else [(0, 1)]
    profile = [(1, 96), *told, *sub_layers]
    separate = [(0, 1)] if chroma == 3 else []
    fields = [(0, 4), (layers, 3), (1, 1), *profile, 5, chroma, *separate, width, height, *ending]
    data = write_bits(*fields)
    return b"\x42\x01" + data.replace(b"\0\0\0", b"\0\0\3\0").replace(b"\0\0\1", b"\0\0\3\1")


@pytest.mark.parametrize(
    ("sps", "size"),
    [
        (h265_sps(0, 1, 640, 480), (640, 480)),
        (h265_sps(0, 1, 1920, 1088, 0, 0, 0, 4), (1920, 1080)),
        (h265_sps(2, 1, 1920, 1088, 0, 1, 0, 4), (1918, 1080)),
        (h265_sps(0, 2, 648, 488, 1, 1, 1, 1), (644, 486)),
        (h265_sps(0, 3, 648, 488, 1, 1, 1, 1), (646, 486)),
    ],
)
def test_h265_sizes(sps: bytes, size: tuple[int, int]) -> None:
    assert h265_size(sps) == (5, size)
    unit = depacketize("h265", sps.hex(), "26 01 80 10")
    assert (unit.is_keyframe, unit.width, unit.height) == (True, *size)


def test_h265_payloads() -> None:
    # RFC 7798 §4.4.2: aggregation, without DONL.
    unit = depacketize("h265", "60 01 00 04 40 01 0c 01 00 03 44 01 c0", "26 01 80")
    assert unit.data == bytes.fromhex(f"{START} 40 01 0c 01 {START} 44 01 c0 {START} 26 01 80")
    assert unit.is_keyframe
    # §4.4.3: the unit's type is in the third byte.
    unit = depacketize("h265", "62 02 93 80", "62 02 13 10", "62 02 53 20")
    assert unit == Unit(bytes.fromhex(f"{START} 26 02 80 10 20"), True, None, None, None, 1)
    assert depacketize("h265", "02 03 80") == Unit(
        bytes.fromhex(f"{START} 02 03 80"), False, None, None, None, 2
    )


@pytest.mark.parametrize("window", [(0, 400, 0, 0), (0, 0, 300, 0), (1 << 20, 0, 0, 0)])
def test_h265_sizes_that_make_no_sense(window: tuple[int, ...]) -> None:
    unit = depacketize("h265", h265_sps(0, 1, 640, 480, *window).hex(), "26 01 80 10")
    assert (unit.is_keyframe, unit.width, unit.height) == (True, None, None)


def test_small_units_of_h265_are_put_together() -> None:
    """RFC 7798 §4.4.2: of the lowest layer and temporal layer that is among them, and broken if one is."""
    packetizer = packetizer_for("h265")
    assert packetizer is not None
    for units, header in [
        ("40 01 0c/42 03 0d/44 02 0e", "60 01"),
        ("03 0b aa/03 12 bb", "61 0a"),  # the layers 33 and 34
        ("02 0b aa/03 02 bb", "60 0a"),  # the layers 1 and 32
        ("02 01 aa/82 01 bb", "e0 01"),
    ]:
        parts = [bytes.fromhex(unit) for unit in units.split("/")]
        data = b"".join(b"\0\0\1" + part for part in parts)
        [payload] = packetizer.packetize(data, is_keyframe=False, maximum=100)
        assert payload == bytes.fromhex(header) + b"".join(b"\0\3" + part for part in parts)


def test_h265_keyframes_get_the_parameter_sets_that_came_last() -> None:
    depacketizer = depacketizer_for("h265", 90000)
    assert depacketizer is not None
    vps, sps, pps = b"\x40\x01\x0c\x01", h265_sps(0, 1, 640, 480), b"\x44\x01\xc0\x01"
    depacketizer.depacketize([vps, sps, pps, b"\x02\x01\x80"])
    cra, delimiter, sei = b"\x2a\x01\x80", b"\x46\x01\x10", b"\x4e\x01\x05"
    for given, expected in [
        ([cra], [vps, sps, pps, cra]),
        ([delimiter, sei, cra], [delimiter, vps, sps, pps, sei, cra]),
        ([sps, pps, cra], [vps, sps, pps, cra]),
        ([vps, sps, pps, cra], [vps, sps, pps, cra]),
    ]:
        unit = depacketizer.depacketize(given)
        assert split_units(unit.data) == expected
        assert (unit.is_keyframe, unit.width, unit.height) == (True, 640, 480)


@pytest.mark.parametrize(
    "payloads",
    [
        ("",),
        ("26 01",),
        ("60 01 00 09 40 01",),
        ("60 01 00 02 40 01",),
        ("60 01 00",),
        ("62 01 93",),
        ("62 01 13 80",),
        ("62 01 93 80",),
        ("62 01 93 80", "62 01 93 80"),
        ("62 01 93 80", "26 01 80"),
        ("62 01 93 80", "62 01 41 80"),
        ("64 01 00 00",),  # PACI
    ],
)
def test_broken_h265(payloads: tuple[str, ...]) -> None:
    with pytest.raises(PayloadError):
        depacketize("h265", *payloads)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("40 01 0c", True),
        ("46 01 10", True),
        ("26 01 80", True),
        ("26 01 40", False),
        ("02 01 80", True),
        ("50 01 80", False),  # a suffix
        ("62 01 93 80", True),
        ("62 01 93 40", False),
        ("62 01 13 80", False),
        ("60 01 00 03 40 01 0c", True),
        ("60 01 00 03 02 01 40", False),
        ("60 01 00", False),
    ],
)
def test_where_h265_begins(payload: str, expected: bool) -> None:
    assert begins("h265", payload) is expected


@pytest.mark.parametrize(
    ("codec", "first", "later"),
    [("h264", "7c 85", "7c 05"), ("h265", "62 01 93", "62 01 13")],
)
def test_nal_units_within_another_are_counted_too(codec: str, first: str, later: str) -> None:
    """For each that a decoder finds it takes kilobytes: three million bytes of start codes were three gigabytes."""
    few, many = ("00 00 01 41" * count for count in (1000, 1400))
    ends = later.replace("05", "45").replace("13", "53")
    unit = depacketize(codec, f"{first} {few}", f"{later} {few}", f"{ends} {few}")
    assert unit.is_keyframe
    with pytest.raises(PayloadError, match="too many"):
        depacketize(codec, f"{first} {many}", f"{later} {many}", f"{ends} {many}")


@pytest.mark.parametrize(
    ("codec", "module", "head", "unit", "slices"),
    [
        ("h264", "h264", "78", "00 0c 67 64 00 1e ac d9 40 a0 2f {:02x} 00 00", "00 02 65 88"),
        ("h265", "h265", "60 01", "00 0c 42 01 01 01 60 00 00 03 00 {:02x} 03 00", "00 03 26 01 80"),
    ],
)
def test_of_hundreds_of_parameter_sets_few_are_read(
    codec: str, module: str, head: str, unit: str, slices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet of them took three milliseconds."""
    read: list[bytes] = []
    target = f"mediapeer.rtp.payload.{module}.sequence_size"
    size = {"h264": (320, 240), "h265": (0, (320, 240))}[codec]
    monkeypatch.setattr(target, lambda unit: read.append(unit) or size)
    made = depacketize(codec, f"{head} {' '.join(unit.format(number) for number in range(95))} {slices}")
    assert (made.is_keyframe, made.width, made.height) == (True, 320, 240)
    assert len(read) == 16


# AV1

SEQUENCE = "0a 0b 00 00 00 04 3c ff bc 4a f9 00 40"  # with its size; 320 × 240
BARE_SEQUENCE = "08 00 00 00 04 3c ff bc 4a f9 00 40"
KEY, INTER = "30 10 aa", "30 30 bb"  # frames without their sizes


def test_av1_elements() -> None:
    # §4.4: W says how many elements there are, and the last has no length.
    unit = depacketize("av1", f"28 0c {BARE_SEQUENCE} {KEY}")
    assert unit == Unit(bytes.fromhex(f"{SEQUENCE} 32 02 10 aa"), True, 320, 240)
    # Without W each has one.
    assert depacketize("av1", f"08 0c {BARE_SEQUENCE} 03 {KEY}") == unit
    # The frame goes on in two more packets; the size stays.
    assert depacketize("av1", f"68 0c {BARE_SEQUENCE} 30", "d0 10", "90 aa") == unit
    # Delimiters and tile lists are left out, and elements may have their sizes.
    assert depacketize("av1", f"38 01 10 0c {BARE_SEQUENCE} 32 02 10 aa") == unit
    assert depacketize("av1", f"00 02 12 00 0c {BARE_SEQUENCE} 03 40 01 02 03 {KEY}") == unit


def test_av1_layers() -> None:
    unit = depacketize("av1", "20 04 34 40 30 bb 34 48 30 cc")
    assert unit == Unit(bytes.fromhex("36 40 02 30 bb 36 48 02 30 cc"), False, None, None, 1, 2)


def test_av1_keyframes_get_the_sequence_header_that_came_last() -> None:
    depacketizer = depacketizer_for("av1", 90000)
    assert depacketizer is not None
    key, inter = bytes.fromhex("10" + KEY), bytes.fromhex("10" + INTER)
    assert not depacketizer.depacketize([key]).is_keyframe
    depacketizer.depacketize([bytes.fromhex(f"28 0c {BARE_SEQUENCE} {KEY}")])
    assert depacketizer.depacketize([inter]) == Unit(bytes.fromhex("32 02 30 bb"), False)
    assert depacketizer.depacketize([key]) == Unit(bytes.fromhex(f"{SEQUENCE} 32 02 10 aa"), True, 320, 240)
    # A frame that is shown again, and one that is not shown, are no beginnings.
    assert not depacketizer.depacketize([b"\x10\x18\x88"]).is_keyframe
    assert not depacketizer.depacketize([b"\x10\x30\x00\xaa"]).is_keyframe


@pytest.mark.parametrize(
    "payloads",
    [
        ("",),
        ("10",),
        (f"90 {KEY}",),  # goes on with nothing
        (f"50 {KEY}",),  # without its end
        ("50 30", f"10 {KEY}"),
        (f"10 {KEY}", "90 aa"),
        ("20 09 30",),
        ("20 03 30 10 aa",),  # the second is missing
        ("00 00",),
        ("00 ff ff ff ff ff ff ff ff ff",),
        ("10 b0 00",),  # the forbidden bit
        ("10 32 09 aa",),
        ("10 32 01 aa bb",),  # more than one in an element
        ("10 34",),
        ("10 10",),  # nothing but a delimiter
        ("00" + " 01 78" * 129,),  # more elements than any picture has tiles
    ],
)
def test_broken_av1(payloads: tuple[str, ...]) -> None:
    with pytest.raises(PayloadError):
        depacketize("av1", *payloads)


@pytest.mark.parametrize("again", ["18 88", "38 88", "30 30"])
def test_a_temporal_unit_of_av1_has_no_frames_without_end(again: str) -> None:
    """Each may be a picture shown again, in three bytes, for which a decoder takes 14 MB."""
    element = f"02 {again}"
    few, many = (" ".join([f"00 0c {BARE_SEQUENCE} 03 {KEY}", *[element] * count]) for count in (7, 8))
    assert depacketize("av1", few).is_keyframe
    with pytest.raises(PayloadError, match="too many frames"):
        depacketize("av1", many)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (f"28 0c {BARE_SEQUENCE} {KEY}", True),
        (f"10 {INTER}", True),
        (f"50 {INTER}", True),
        ("00 03 30 30 bb", True),
        (f"90 {INTER}", False),
        ("10 20 30", False),  # a tile group
        ("10 34 08 30", False),  # an upper layer
        ("10 34 40 30", True),
        ("10", False),
        ("00 ff", False),
        ("", False),
    ],
)
def test_where_av1_begins(payload: str, expected: bool) -> None:
    assert begins("av1", payload) is expected


def test_av1_packets() -> None:
    packetizer = packetizer_for("av1")
    assert packetizer is not None
    data = bytes.fromhex(f"12 00 {SEQUENCE} 32 02 10 aa")
    [payload] = packetizer.packetize(data, is_keyframe=True, maximum=100)
    assert payload == bytes.fromhex(f"28 0c {BARE_SEQUENCE} {KEY}")
    # Four elements: each with its length, and no count.
    [payload] = packetizer.packetize(
        bytes.fromhex("32 01 30 32 01 31 32 01 32 30 33"), is_keyframe=False, maximum=99
    )
    assert payload == bytes.fromhex("00 02 30 30 02 30 31 02 30 32 02 30 33")
    payloads = packetizer.packetize(bytes.fromhex("30" + "30" * 30), is_keyframe=False, maximum=13)
    assert [payload[0] for payload in payloads] == [0x50, 0xD0, 0x90]
    for broken in ("", "12 00", "32 09 00", "b2 00", "32"):
        with pytest.raises(PayloadError):
            packetizer.packetize(bytes.fromhex(broken), is_keyframe=True, maximum=100)


def test_av1_sequence_headers() -> None:
    points = [(1, 5), *[(0, 12), (9, 5), (1, 1), (1, 1), (0, 21), (1, 1), (3, 4)] * 2]
    model = [(1, 1), (0, 64), (1, 1), 7, (1, 1), (9, 5), (0, 42)]
    size = [(10, 4), (9, 4), (1919, 11), (1000, 10)]
    header = read_sequence_header(write_bits((0, 5), *model, (1, 1), *points, *size))
    assert header == (1920, 1001, False)
    reduced = read_sequence_header(write_bits((3, 5), (0, 5), *size))
    assert reduced == (1920, 1001, True)
    with pytest.raises(PayloadError):
        read_sequence_header(b"\x00\x00")


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, (1 << 32) - 1])
def test_leb128(value: int) -> None:
    data = write_leb128(value)
    assert read_leb128(b"x" + data + b"y", 1) == (value, 1 + len(data))


def test_leb128_has_an_end() -> None:
    for data in (b"", b"\x80", b"\x80" * 9, b"\xff\xff\xff\xff\x1f"):
        with pytest.raises(PayloadError):
            read_leb128(data, 0)


# Sound


@pytest.mark.parametrize(
    ("packet", "duration"),
    [
        ("00", 480),
        ("08", 960),  # SILK at 8 kHz, 20 ms: a packet of nothing but its TOC (DTX)
        ("10", 1920),
        ("18 00", 2880),
        ("60 00", 480),  # hybrid
        ("78 00", 960),
        ("e0 00", 120),  # CELT, 2.5 ms
        ("e8 00", 240),
        ("f0 00", 480),
        ("f8 ff fe", 960),
        ("f9 00", 1920),
        ("fa 00", 1920),
        ("fb 03 00", 2880),
        ("fb 06", 5760),
    ],
)
def test_opus_durations(packet: str, duration: int) -> None:
    """RFC 6716 §3.1, tables 2 to 4, and §3.2.5."""
    assert depacketize("opus", packet, clock_rate=48000) == (
        bytes.fromhex(packet), True, None, None, None, None, duration
    )  # fmt: skip


@pytest.mark.parametrize("packet", ["", "fb", "fb 00", "fb 07", "1b 03"])
def test_broken_opus(packet: str) -> None:
    with pytest.raises(PayloadError):
        depacketize("opus", packet, clock_rate=48000)


def test_pcm_durations() -> None:
    assert depacketize("pcmu", "ff" * 160, clock_rate=8000).duration == 160
    assert depacketize("pcma", "ff" * 160, clock_rate=8000, channels=2).duration == 80
    # RFC 3551 §4.5.2: the clock has 8000 Hz though there are 16000 samples a second.
    assert depacketize("g722", "ff" * 160, clock_rate=8000).duration == 160
    for broken in ("", "ff"):
        with pytest.raises(PayloadError):
            depacketize("pcmu", broken, clock_rate=8000, channels=2)
    with pytest.raises(PayloadError):
        depacketize("pcmu", "ff", "ff", clock_rate=8000)


def test_red() -> None:
    """RFC 2198 §4's example in small: a redundant block, 20 ms older, before the primary."""
    header = (0x80 | 7) << 24 | 960 << 10 | 3
    assert split_red(header.to_bytes(4, "big") + b"\x05" + b"old" + b"new one") == [
        RedBlock(7, 960, b"old"),
        RedBlock(5, 0, b"new one"),
    ]
    assert split_red(b"\x6falone") == [RedBlock(111, 0, b"alone")]
    empty = (0x80 | 111) << 24 | 16383 << 10
    assert split_red(empty.to_bytes(4, "big") + b"\x6f") == [RedBlock(111, 16383, b""), RedBlock(111, 0, b"")]


@pytest.mark.parametrize(
    "payload", [b"", b"\xef", b"\xef\x0f\x00\x03", b"\xef\x0f\x00\x03\x6fab", b"\xef\0\0\0" * 9]
)
def test_broken_red(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        split_red(payload)


# All


def test_codecs_that_are_not_known() -> None:
    assert depacketizer_for("ulpfec", 90000) is None
    assert packetizer_for("flexfec-03") is None
    assert depacketizer_for("VP8", 90000) is not None
    assert packetizer_for("PCMU") is not None


@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "h265", "av1", "opus"])
def test_a_maximum_that_leaves_no_room(codec: str) -> None:
    packetizer = packetizer_for(codec, {"packetization-mode": "1"})
    assert packetizer is not None
    data = bytes.fromhex(START + "26 01 80 10") if codec in ("h264", "h265") else b"\x30" * 9
    with pytest.raises(PayloadError):
        packetizer.packetize(data, is_keyframe=True, maximum=2)


def test_exp_golomb_codes() -> None:
    """H.264 §9.1, tables 9-2 and 9-3."""
    reader = BitReader(write_bits(0, 1, 2, 3, 4, 5, 254))
    assert [reader.ue() for _ in range(7)] == [0, 1, 2, 3, 4, 5, 254]
    reader = BitReader(write_bits(0, 1, 2, 3, 4))
    assert [reader.se() for _ in range(5)] == [0, 1, -1, 2, -2]
    for broken in (b"", b"\x00", bytes(100), b"\x01"):
        with pytest.raises(PayloadError):
            BitReader(broken).ue()
