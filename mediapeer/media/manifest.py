"""What lies beside a recording: a JSON file that says what it is, from its start on."""

import json
import os
import pathlib
import re
import secrets
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

VERSION = 1
#: Longer manifests are not read, in bytes. The longest that a peer can have made by changing what it sends is of 64
#: tracks in each of 1,000 files.
MAXIMUM_SIZE = 16_000_000
#: What a recording may be: ``interrupted`` is one that nobody finished, told by whoever finds it.
STATES = ("recording", "finished", "failed", "interrupted")

#: What no text of a manifest needs, and a terminal would obey: control characters; and halves of surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_Part = TypeVar("_Part", "PacketCounts", "Gap", "Segment", "RecordedData", "ManifestTrack")


class ManifestError(ValueError):
    """A manifest cannot be read. The message says why."""


@dataclass(slots=True)
class PacketCounts:
    """What became of a track's packets while it was recorded."""

    received: int = 0
    lost: int = 0
    repaired: int = 0
    given_up: int = 0


@dataclass(slots=True)
class Gap:
    """A stretch in which a track has nothing: packets lost, silence not sent, muted."""

    start: float = 0.0
    "In seconds on the recording's time line."
    duration: float = 0.0
    "In seconds."


@dataclass(slots=True)
class ManifestTrack:
    """A track that was recorded."""

    id: str = ""
    kind: str = ""
    "``audio`` or ``video``."
    codec: str | None = None
    "The latest; ``None`` while nothing has come."
    width: int | None = None
    "In pixels, the latest."
    height: int | None = None
    clock_rate: int | None = None
    "In Hertz."
    channels: int | None = None
    cname: str | None = None
    "Tracks that share it share a clock (RFC 3550 §6.5.1)."
    frames: int = 0
    "Written."
    keyframes: int = 0
    dropped: int = 0
    "Frames that came and were not written: no keyframe before them, or the writer was too late."
    packets: PacketCounts = field(default_factory=PacketCounts)
    gaps: list[Gap] = field(default_factory=list)
    gaps_left_out: int = 0
    "Further gaps, for which there was no room in ``gaps``."


@dataclass(slots=True)
class Segment:
    """A file of the recording."""

    file: str = ""
    "Its name, in the directory of the manifest; while it is written it ends in ``.part``."
    container: str = ""
    "``webm``, ``mp4`` or ``mkv``."
    start: float = 0.0
    "Where its zero lies on the recording's time line, in seconds."
    duration: float = 0.0
    "In seconds."
    size: int = 0
    "In bytes."
    started_at: str | None = None
    "The same moment by the sender's clock, or by ours when it told none: ISO 8601, UTC."
    tracks: list[str] = field(default_factory=list)
    "The ids of its tracks, in the order of the file's streams."


@dataclass(slots=True)
class RecordedData:
    """The data channels' messages, as JSON lines."""

    file: str = ""
    messages: int = 0
    dropped: int = 0
    "Messages that came and were not kept: there were too many, or the writer was too late."


@dataclass(slots=True)
class Manifest:
    """A recording: its tracks, its files, and how it went."""

    session: str = ""
    created: str = ""
    "When it was started: ISO 8601, UTC."
    state: str = "recording"
    error: str | None = None
    "Why it failed, in words."
    duration: float = 0.0
    "In seconds."
    size: int = 0
    "Of all segments, in bytes."
    tracks: list[ManifestTrack] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    data: RecordedData | None = None
    snapshot: str | None = None
    "The name of a PNG of the latest keyframe."
    version: int = VERSION

    def to_json(self) -> str:
        """The manifest's text."""
        values = {"version": self.version, **asdict(self)}
        return json.dumps(_rounded(values), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest. Fields it does not know are left out.

        :raises ManifestError: when it is no manifest, or of another version.
        """
        if len(text) > MAXIMUM_SIZE:
            raise ManifestError("The manifest is too large.")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError("The manifest is not JSON.") from error
        if not isinstance(values, dict):
            raise ManifestError("The manifest is not a JSON object.")
        if values.get("version") != VERSION:
            raise ManifestError("The manifest is of a version that is not known here.")
        if not isinstance(values.get("tracks"), list) or not isinstance(values.get("segments"), list):
            raise ManifestError("The manifest has no lists of tracks and segments.")
        manifest = cls(
            session=_text(values, "session") or "",
            created=_text(values, "created") or "",
            state=_text(values, "state") or "",
            error=_text(values, "error"),
            duration=_number(values, "duration"),
            size=int(_number(values, "size")),
            tracks=[_read_track(entry) for entry in values["tracks"]],
            segments=[_read(Segment, entry) for entry in values["segments"]],
            data=None if values.get("data") is None else _read(RecordedData, values["data"]),
            snapshot=_text(values, "snapshot"),
        )
        if manifest.state not in STATES:
            raise ManifestError("The manifest's state is not known.")
        manifest.check_names()
        return manifest

    def check_names(self) -> None:
        """See that every file it names lies in its own directory.

        :raises ManifestError: when one does not.
        """
        names = [segment.file for segment in self.segments]
        names += [self.data.file] if self.data else []
        names += [self.snapshot] if self.snapshot is not None else []
        for name in names:
            if not _FILE_NAME.fullmatch(name):
                raise ManifestError("The manifest names a file that no recording has.")


def read_manifest(path: pathlib.Path) -> Manifest:
    """Read a manifest's file.

    :raises ManifestError: when it is no manifest.
    :raises OSError: when it cannot be read, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return Manifest.from_json(file.read(MAXIMUM_SIZE + 1))


def write_manifest(path: pathlib.Path, manifest: Manifest, *, is_first: bool = False) -> None:
    """Put a manifest in the place of the one that is there: a reader sees the one or the other, whole.

    :param is_first: whether none may be there: the name is claimed with it.
    :raises FileExistsError: when one is, and ``is_first``.
    :raises OSError: when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        # Half a surrogate, which JSON may have and UTF-8 has not, becomes a question mark.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(manifest.to_json())
        if is_first:
            _claim(temporary, path)
        else:
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _claim(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Give a file a name that no other has, at one blow: a crash leaves the whole of it, or nothing."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # The file system knows no second names.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        temporary.replace(path)
    else:
        temporary.unlink()


def _rounded(value: Any) -> Any:
    """The same with times to the tenth of a millisecond: who reads it needs no more."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value


def _text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    raise ManifestError(f"The manifest's {name} is not a text.")


def _number(values: dict[str, Any], name: str) -> float:
    value = values.get(name, 0)
    # JSON as Python reads it has numbers that are none.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise ManifestError(f"The manifest's {name} is not a number that can be.")
    return value


def _read(kind: type[_Part], values: Any) -> _Part:
    """Make a part of the manifest from its JSON; each field must be of the kind that its default is of."""
    if not isinstance(values, dict):
        raise ManifestError("A part of the manifest is not a JSON object.")
    part = kind()
    for each in fields(kind):
        default = getattr(part, each.name)
        if each.name not in values or isinstance(default, PacketCounts):
            continue
        value = values[each.name]
        if isinstance(default, list):
            if not isinstance(value, list):
                raise ManifestError(f"The manifest's {each.name} is not a list.")
            if each.name == "gaps":
                value = [_read(Gap, entry) for entry in value]
            elif not all(isinstance(entry, str) for entry in value):
                raise ManifestError(f"The manifest's {each.name} are not texts.")
            else:
                value = [_UNPRINTABLE.sub("\ufffd", entry) for entry in value]
        elif isinstance(default, int | float):
            number = _number(values, each.name)
            value = number if isinstance(default, float) else int(number)
        elif value is not None:
            of_text = isinstance(default, str) or each.name in ("codec", "cname", "started_at")
            value = _text(values, each.name) if of_text else int(_number(values, each.name))
        elif default is not None:
            raise ManifestError(f"The manifest's {each.name} is missing.")
        setattr(part, each.name, value)
    return part


def _read_track(values: Any) -> ManifestTrack:
    track = _read(ManifestTrack, values)
    if "packets" in values:
        track.packets = _read(PacketCounts, values["packets"])
    return track
