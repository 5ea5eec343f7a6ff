"""The recordings of a directory: which there are, how they are, and taking them away."""

import datetime
import enum
import json
import os
import pathlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mediapeer.media.manifest import MAXIMUM_SIZE, Manifest, ManifestError, ManifestTrack

#: What the files of a recording end in, and the media type of each.
MEDIA_TYPES = {"webm": "video/webm", "mp4": "video/mp4", "mkv": "video/x-matroska"}
#: What a file ends in while it is written.
PART = ".part"
#: What a repair has a file end in that has nothing to play.
UNPLAYABLE = ".unplayable"
#: How long after its last change a recording without an open file is taken to wait for its first frame, in seconds.
WAITING_TIME = 30.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MEDIA_FILE = re.compile(
    r"(?P<stem>[A-Za-z0-9][A-Za-z0-9_-]{0,119})\.(?P<container>webm|mp4|mkv)(?P<part>\.part)?"
)
#: The codecs of recordings from before there were manifests.
_FORMER_CODECS = {"audio": "opus", "video": "vp8"}


class CatalogError(Exception):
    """What was asked for cannot be done. The message says why, in words for the person who asked."""


class EntryState(enum.StrEnum):
    """How a recording is."""

    RECORDING = "recording"
    FINISHED = "finished"
    FAILED = "failed"
    "It ended by an error, which ``error`` tells; what was recorded before that can be played."
    INTERRUPTED = "interrupted"
    "Nobody finished it: it can be repaired."


@dataclass(frozen=True, slots=True)
class EntrySegment:
    """A file of a recording."""

    path: pathlib.Path
    container: str
    "``webm``, ``mp4`` or ``mkv``."
    start: float
    "Where its zero lies on the recording's time line, in seconds."
    duration: float | None
    "In seconds; ``None`` when nobody wrote it down."
    size: int
    "In bytes."
    tracks: tuple[str, ...] = ()
    "The ids of its tracks, in the order of the file's streams."

    @property
    def is_whole(self) -> bool:
        """Whether it was closed."""
        return self.path.suffix != PART

    @property
    def media_type(self) -> str:
        """As in ``Content-Type``."""
        return MEDIA_TYPES[self.container]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A recording."""

    name: str
    state: EntryState
    created: datetime.datetime
    "In UTC."
    duration: float | None
    "In seconds; ``None`` when nobody wrote it down."
    size: int
    "Of its media files, in bytes."
    error: str | None = None
    "What went wrong, in words."
    session: str | None = None
    tracks: tuple[ManifestTrack, ...] = ()
    segments: tuple[EntrySegment, ...] = ()
    snapshot: pathlib.Path | None = None
    "A PNG."
    data: pathlib.Path | None = None
    "The data channels' messages, as JSON lines."
    manifest: Manifest | None = None
    files: tuple[pathlib.Path, ...] = field(default=(), repr=False)
    "All that belongs to it."

    @property
    def codecs(self) -> tuple[str, ...]:
        """The codecs of its tracks, each once; those of pictures first."""
        tracks = sorted(self.tracks, key=lambda track: track.kind != "video")
        return tuple(dict.fromkeys(track.codec for track in tracks if track.codec))

    def document(self) -> dict[str, Any]:
        """The entry for JSON: times as ISO 8601 in UTC, lengths in seconds, sizes in bytes, files by name."""
        return {
            "name": self.name,
            "state": self.state.value,
            "created": self.created.isoformat(),
            "duration": None if self.duration is None else round(self.duration, 3),
            "size": self.size,
            "error": self.error,
            "session": self.session,
            "codecs": list(self.codecs),
            "tracks": [_track_document(track) for track in self.tracks],
            "segments": [
                {
                    "file": segment.path.name,
                    "container": segment.container,
                    "start": round(segment.start, 3),
                    "duration": None if segment.duration is None else round(segment.duration, 3),
                    "size": segment.size,
                    "whole": segment.is_whole,
                }
                for segment in self.segments
            ],
            "snapshot": self.snapshot.name if self.snapshot else None,
            "data": self.data.name if self.data else None,
        }

    @property
    def whole_segments(self) -> tuple[EntrySegment, ...]:
        """The files that can be played."""
        return tuple(segment for segment in self.segments if segment.is_whole)


@dataclass(slots=True)
class _Found:
    """What the directory has of one recording."""

    name: str
    document: dict[str, object] | None = None
    manifest: Manifest | None = None
    media: dict[str, os.stat_result] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.manifest is not None and self.manifest.state == "recording"


class Catalog:
    """The recordings of one directory. Other files in it are left alone, and links are not followed.

    It keeps nothing: each question looks at the directory. It may be asked from any thread.

    :param directory: need not be there yet.
    :param is_running: tells whether a recording is written in this process. Those of other processes are known by
        their open files.
    """

    def __init__(
        self, directory: pathlib.Path | str, is_running: Callable[[str], bool] | None = None
    ) -> None:
        self.directory = pathlib.Path(directory)
        self._is_running = is_running or (lambda name: False)

    def list(self) -> list[CatalogEntry]:
        """All recordings, the newest first."""
        files = self._files()
        found = self._group(files)
        is_written, belongings = _OpenFiles(), self._belongings(files, found)
        entries = [
            self._entry(each, files, is_written, belongings.get(name, ())) for name, each in found.items()
        ]
        return sorted(entries, key=lambda entry: (entry.created, entry.name), reverse=True)

    def describe(self, name: str) -> CatalogEntry | None:
        """The recording of that name; ``None`` when there is none, or the name is none that a recording has."""
        if not _NAME.fullmatch(name):
            return None
        # All the others' manifests need not be read: a part of a file is asked for as often as a player likes.
        files = {file: status for file, status in self._files().items() if _may_concern(file, name)}
        found = self._group(files)
        if name not in found:
            return None
        belongings = self._belongings(files, found)
        return self._entry(found[name], files, _OpenFiles(), belongings.get(name, ()))

    def delete(self, name: str) -> bool:
        """Take a recording away with all its files; false when there is none of that name.

        :raises CatalogError: when it is being recorded, or a file cannot be removed.
        """
        entry = self.describe(name)
        if entry is None:
            return False
        if entry.state is EntryState.RECORDING:
            raise CatalogError(f"{name} is being recorded: stop the recording first.")
        try:
            # The manifest last: what is left by an error in between is still a recording, and can be deleted.
            for path in sorted(entry.files, key=lambda path: path.suffix == ".json"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise CatalogError(f"{name} cannot be deleted: {error.strerror}.") from error
        return True

    def manifest_path(self, name: str) -> pathlib.Path:
        """Where the manifest of a recording is, or would be."""
        return self.directory / f"{name}.json"

    def _files(self) -> dict[str, os.stat_result]:
        """The plain files of the directory."""
        files = {}
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    try:
                        if entry.is_file(follow_symlinks=False):
                            files[entry.name] = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # it went while we looked
        except OSError:
            return {}  # there is none before the first recording
        return files

    def _group(self, files: dict[str, os.stat_result]) -> dict[str, _Found]:
        """Which files belong to which recording."""
        found: dict[str, _Found] = {}
        claimed: set[str] = set()
        for file in sorted(files):
            name = file.removesuffix(".json")
            if name == file or not _NAME.fullmatch(name):
                continue
            each = self._read(name)
            listed = [segment.file for segment in each.manifest.segments] if each.manifest else []
            for segment_file in listed:
                whole = segment_file.removesuffix(PART)
                for candidate in (whole, whole + PART):
                    # A manifest speaks of no files but its own recording's.
                    # Nor of those of a recording whose name begins like its own.
                    if candidate in files and _is_file_of(candidate, name) and candidate not in claimed:
                        each.media[candidate] = files[candidate]
                        claimed.add(candidate)
            if each.manifest is not None or each.document is not None:
                found[name] = each
        for file in sorted(files):
            match = _MEDIA_FILE.fullmatch(file)
            if match is None or file in claimed:
                continue
            name = _owner(match["stem"], found)
            if _NAME.fullmatch(name):
                found.setdefault(name, _Found(name)).media[file] = files[file]
        return {name: each for name, each in found.items() if each.media or each.manifest is not None}

    def _read(self, name: str) -> _Found:
        try:
            descriptor = os.open(
                self.manifest_path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            )
            with os.fdopen(descriptor, "rb") as file:
                text = file.read(MAXIMUM_SIZE + 1)
        except OSError:
            return _Found(name)
        try:
            return _Found(name, manifest=Manifest.from_json(text))
        except ManifestError:
            pass
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return _Found(name)
        return _Found(name, document=document if isinstance(document, dict) else {})

    def _belongings(
        self, files: Iterable[str], found: dict[str, _Found]
    ) -> Mapping[str, Sequence[pathlib.Path]]:
        """By the name of a recording, the files that go when it does."""
        # Each file is held against the few that it may be of: a list of thousands took a quarter of a minute.
        belongings: defaultdict[str, list[pathlib.Path]] = defaultdict(list)
        for file in files:
            for name in _possible_owners(file):
                if name in found and self._is_part_of(file, found[name]):
                    belongings[name].append(self.directory / file)
        return belongings

    def _entry(
        self,
        found: _Found,
        files: dict[str, os.stat_result],
        open_files: "_OpenFiles",
        belongings: Iterable[pathlib.Path],
    ) -> CatalogEntry:
        manifest = found.manifest
        segments = self._segments(found)
        state = self._state(found, files, open_files)
        error = manifest.error if manifest else None
        if not segments and state is EntryState.FINISHED:
            state, error = EntryState.FAILED, "Its files are missing."
        newest = max((status.st_mtime for status in found.media.values()), default=0.0)
        snapshot, data = self._beside(found, files)
        return CatalogEntry(
            name=found.name,
            state=state,
            created=_moment(_created(found)) or datetime.datetime.fromtimestamp(newest, datetime.UTC),
            duration=_duration(found, state, segments),
            size=sum(segment.size for segment in segments),
            error=error,
            session=_session(found),
            tracks=tuple(manifest.tracks) if manifest else _former_tracks(found),
            segments=segments,
            snapshot=snapshot,
            data=data,
            manifest=manifest,
            files=tuple(belongings),
        )

    def _segments(self, found: _Found) -> tuple[EntrySegment, ...]:
        """The media files in the order of the manifest, those that it does not know after them."""
        media = dict(found.media)
        segments = []
        end = 0.0
        for segment in found.manifest.segments if found.manifest else ():
            whole = segment.file.removesuffix(PART)
            # Both are there when a repair was cut off before its end: then the part is what counts.
            file = whole + PART if whole + PART in media else whole
            status = media.pop(file, None)
            media.pop(whole, None)
            end = max(end, segment.start + segment.duration)
            if status is not None:
                container = whole.rpartition(".")[2]
                path = self.directory / file
                duration = segment.duration or None
                segments.append(
                    EntrySegment(
                        path, container, segment.start, duration, status.st_size, tuple(segment.tracks)
                    )
                )
        for file in sorted(media, key=_natural):
            if file + PART in media:
                continue
            container = file.removesuffix(PART).rpartition(".")[2]
            segments.append(EntrySegment(self.directory / file, container, end, None, media[file].st_size))
        return tuple(segments)

    def _state(self, found: _Found, files: dict[str, os.stat_result], open_files: "_OpenFiles") -> EntryState:
        if self._is_running(found.name):
            return EntryState.RECORDING
        parts = [status for file, status in found.media.items() if file.endswith(PART)]
        if parts or found.is_open:
            if any(open_files.has(status) for status in parts):
                return EntryState.RECORDING
            manifest = files.get(f"{found.name}.json")
            # Before the first frame there is nothing but the manifest.
            if not found.media and manifest is not None and time.time() - manifest.st_mtime < WAITING_TIME:
                return EntryState.RECORDING
            return EntryState.INTERRUPTED
        if found.manifest is not None and found.manifest.state != "finished":
            return EntryState(found.manifest.state)
        return EntryState.FINISHED

    def _beside(
        self, found: _Found, files: dict[str, os.stat_result]
    ) -> tuple[pathlib.Path | None, pathlib.Path | None]:
        manifest = found.manifest
        snapshot = (manifest.snapshot if manifest else None) or f"{found.name}.png"
        data = (manifest.data.file if manifest and manifest.data else None) or f"{found.name}.data.jsonl"
        names = (snapshot, data)
        paths = [
            self.directory / name if name in files and _belongs(name, found.name) else None for name in names
        ]
        return paths[0], paths[1]

    def _is_part_of(self, file: str, found: _Found) -> bool:
        """Whether a file goes when the recording does."""
        if file in found.media:
            return True
        name = found.name
        if file in (f"{name}.json", f"{name}.png", f"{name}.data.jsonl", f"{name}.data.jsonl{PART}"):
            return True
        if file.endswith(UNPLAYABLE) and _owner(file.partition(".")[0], {name: found}, of_any=True) == name:
            return True
        # What a repair, or the writing of a manifest, left when it was killed.
        return file.startswith(f".{name}.")


class _OpenFiles:
    """The files that processes have open, looked up when first asked for."""

    def __init__(self) -> None:
        self._known: set[tuple[int, int]] | None = None

    def has(self, status: os.stat_result) -> bool:
        """Whether a process has the file open, as far as that can be seen."""
        if self._known is None:
            self._known = set(_open_files())
        if (status.st_dev, status.st_ino) in self._known:
            return True
        # Another user's processes cannot be looked into; a recording changes several times a second.
        can_look = os.path.isdir("/proc/self/fd") and os.geteuid() in (0, status.st_uid)
        return not can_look and time.time() - status.st_mtime < WAITING_TIME


def _open_files() -> Iterable[tuple[int, int]]:
    """Device and inode of each file that a process of ours has open; on systems with /proc."""
    try:
        processes = [entry for entry in os.listdir("/proc") if entry.isdecimal()]
    except OSError:
        return
    for process in processes:
        try:
            descriptors = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue  # it has ended, or is another user's
        for descriptor in descriptors:
            try:
                status = os.stat(f"/proc/{process}/fd/{descriptor}")
            except OSError:
                continue
            yield status.st_dev, status.st_ino


def _track_document(track: ManifestTrack) -> dict[str, Any]:
    """What a list says of a track; the manifest has the gaps one by one."""
    return {
        "kind": track.kind,
        "codec": track.codec,
        "width": track.width,
        "height": track.height,
        "frames": track.frames,
        "dropped": track.dropped,
        "packets": asdict(track.packets),
        "gaps": len(track.gaps) + track.gaps_left_out,
    }


def _is_file_of(file: str, name: str) -> bool:
    """Whether a media file is called as a recording calls its own: ``NAME.webm``, ``NAME-2.webm``."""
    match = _MEDIA_FILE.fullmatch(file)
    return (
        match is not None
        and re.fullmatch(r"(-[A-Za-z0-9]{1,20})?", match["stem"].removeprefix(name)) is not None
    )


def _belongs(file: str, name: str) -> bool:
    return file.startswith((f"{name}.", f"{name}-"))


def _owner(stem: str, found: dict[str, _Found], of_any: bool = False) -> str:
    """The recording that a file belongs to of which no manifest speaks: one that is not finished may have more files
    than its manifest knows yet."""
    if stem in found:
        return stem
    name = stem
    while "-" in name:
        name = name.rpartition("-")[0]
        if name in found and (of_any or found[name].is_open):
            return name
    return stem


def _possible_owners(file: str) -> Iterable[str]:
    """The names that a recording may have whose file this is: its stem, and what of that is before a dash."""
    name = file.removeprefix(".").partition(".")[0]
    yield name
    while "-" in name:
        name = name.rpartition("-")[0]
        yield name


def _may_concern(file: str, name: str) -> bool:
    """Whether a file may be one of a recording, or say whose one of its files is."""
    stem = file.removeprefix(".").partition(".")[0]
    return f"{stem}-".startswith(f"{name}-") or name.startswith(f"{stem}-")


def _natural(file: str) -> list[object]:
    """Orders ``NAME-10`` behind ``NAME-9``."""
    stem = file.partition(".")[0]
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", stem))]


def _created(found: _Found) -> object:
    return found.manifest.created if found.manifest else (found.document or {}).get("created")


def _moment(text: object) -> datetime.datetime | None:
    try:
        moment = datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    try:
        return moment.astimezone(datetime.UTC) if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    except OverflowError:
        return None  # in UTC it is before the first year, or after the last


def _duration(found: _Found, state: EntryState, segments: tuple[EntrySegment, ...]) -> float | None:
    if found.manifest is not None:
        if found.manifest.duration or state is EntryState.FINISHED:
            return found.manifest.duration
        return max((each.start + each.duration for each in segments if each.duration), default=None)
    value = (found.document or {}).get("duration")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and isinstance(value, int | float) and 0 <= value < 1e9 else None


def _session(found: _Found) -> str | None:
    value = found.manifest.session if found.manifest else (found.document or {}).get("call")
    return value if isinstance(value, str) and value else None


def _former_tracks(found: _Found) -> tuple[ManifestTrack, ...]:
    """The tracks of a recording from before there were manifests: their kinds were written down."""
    kinds = (found.document or {}).get("tracks")
    if not isinstance(kinds, list):
        return ()
    return tuple(
        ManifestTrack(id=kind, kind=kind, codec=_FORMER_CODECS[kind])
        for kind in kinds
        if kind in ("audio", "video")
    )
