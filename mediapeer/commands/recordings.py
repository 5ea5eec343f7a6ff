"""``mediapeer recordings``: list, show, repair and export what was recorded."""

import argparse
import difflib
import json
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any

from mediapeer.commands.errors import CommandError
from mediapeer.commands.terminal import ProgressBar, clock, size, table, width_of
from mediapeer.media.catalog import MEDIA_TYPES, PART, Catalog, CatalogEntry, EntryState
from mediapeer.media.export import AUDIO_CODECS, VIDEO_CODECS, ExportError, ExportOptions, export_recording
from mediapeer.media.manifest import ManifestTrack
from mediapeer.media.probe import ProbeError, probe
from mediapeer.media.repair import RepairError, repair_file, repair_recording

_DIRECTORY = pathlib.Path("recordings")
_DESCRIPTION = "List, show, repair and export recordings."
_EPILOG = """\
examples:
  mediapeer recordings list
      What there is in ./recordings, the newest first.

  mediapeer recordings show 2026-01-02_03-04-05_abcdef
      Its tracks, its files, what was lost on the way and where there are gaps.

  mediapeer recordings repair --all
      Make whole what a crash or a loss of power left. What can be played is kept, to the last second.

  mediapeer recordings export 2026-01-02_03-04-05_abcdef --to mp4
      One MP4 file for any player: what MP4 takes is copied, the rest encoded as H.264 and AAC.

Each command has its own --help. With --json, list, show and repair write JSON for other programs.
"""
_EXPORT_EPILOG = """\
examples:
  mediapeer recordings export NAME --to mp4
      NAME.mp4 in this directory. VP8 and VP9 become H.264, and the sound AAC with them.

  mediapeer recordings export NAME --to mkv --video copy --audio copy -o /tmp/talk.mkv
      All parts of a recording in one file, as they were recorded.

  mediapeer recordings export NAME --to webm --video none
      The sound alone.

What the format takes is copied in seconds; what has to be encoded takes its time. Ctrl-C ends it and leaves nothing.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``recordings`` with its commands. Each sets ``run`` to what is to be called with the options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "recordings",
        help="list, show, repair and export recordings",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=raw,
    )
    inner = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    listing = inner.add_parser(
        "list", help="what there is", description="List the recordings, the newest first."
    )
    listing.set_defaults(run=_list)
    show = inner.add_parser("show", help="what is in one", description="Say what is in a recording.")
    show.add_argument("name", metavar="NAME", help="as the list has it")
    show.set_defaults(run=_show)
    repair = inner.add_parser(
        "repair",
        help="make whole what a crash left",
        description="Make whole what a crash left: the files can be played and searched then, up to where they were "
        "torn. A torn file is kept until the whole one has been written and read. It may be run again at any time.",
    )
    repair.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="as the list has it, or the path of a file that ends in .part",
    )
    repair.add_argument("--all", action="store_true", help="every recording that was interrupted")
    repair.set_defaults(run=_repair)
    export = inner.add_parser(
        "export",
        help="write one to a file of another format",
        description="Write a recording, with all its parts, to one file.",
        epilog=_EXPORT_EPILOG,
        formatter_class=raw,
    )
    _add_export_options(export)
    export.set_defaults(run=_export)
    for each in (listing, show, repair, export):
        each.add_argument(
            "--dir",
            type=pathlib.Path,
            default=_DIRECTORY,
            metavar="DIR",
            help="where the recordings are (default: ./%(default)s)",
        )
    for each in (listing, show, repair):
        each.add_argument("--json", action="store_true", help="write JSON")


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as the list has it")
    parser.add_argument(
        "--to",
        choices=tuple(MEDIA_TYPES),
        help="the format (default: as the name of the output ends, or mp4)",
    )
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="default: ./NAME.FORMAT")
    parser.add_argument(
        "--video",
        choices=("auto", "copy", "none", *VIDEO_CODECS),
        default="auto",
        help="the codec of pictures; auto copies where the format takes what was recorded (default: %(default)s)",
    )
    parser.add_argument(
        "--audio",
        choices=("auto", "copy", "none", *AUDIO_CODECS),
        default="auto",
        help="the codec of sound (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def run(options: argparse.Namespace) -> int:
    """Run one of the commands.

    :returns: the exit status.
    :raises CommandError: when it cannot be done.
    """
    action: Callable[[argparse.Namespace], int] = options.run
    # Like Ctrl-C: what is half written is taken away.
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        return action(options)
    except BrokenPipeError:
        # Nobody reads on, as with ``| head``.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        signal.signal(signal.SIGTERM, former)


def _terminate(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _catalog(options: argparse.Namespace) -> Catalog:
    directory: pathlib.Path = options.dir
    if not directory.is_dir():
        raise CommandError(f"there is no directory {directory}: say with --dir where the recordings are")
    try:
        os.scandir(directory).close()
    except OSError as error:
        raise CommandError(f"{directory} cannot be read: {error.strerror}") from error
    return Catalog(directory)


def _command(directory: pathlib.Path, action: str) -> str:
    """What to type for another of the commands."""
    where = "" if directory == _DIRECTORY else f" --dir {shlex.quote(str(directory))}"
    return f"mediapeer recordings {action}{where}"


def _find(catalog: Catalog, name: str) -> CatalogEntry:
    wanted = pathlib.PurePath(name).name.removesuffix(PART)
    stem, dot, suffix = wanted.rpartition(".")
    entry = catalog.describe(stem if dot and suffix in (*MEDIA_TYPES, "json") else wanted)
    if entry is None:
        names = [each.name for each in catalog.list()]
        if not names:
            raise CommandError(f"there are no recordings in {catalog.directory}")
        near = difflib.get_close_matches(wanted, names, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else f"see them with: {_command(catalog.directory, 'list')}"
        raise CommandError(f"there is no recording {name} in {catalog.directory}; {hint}")
    return entry


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


# list


def _list(options: argparse.Namespace) -> int:
    entries = _catalog(options).list()
    if options.json:
        _print_json([entry.document() for entry in entries])
        return 0
    if not entries:
        print(f"There are no recordings in {options.dir}.")
        return 0
    rows = [
        (
            entry.name,
            entry.state.value,
            clock(entry.duration),
            size(entry.size),
            str(len(entry.segments)),
            " ".join(entry.codecs) or "-",
        )
        for entry in entries
    ]
    print(table(("NAME", "STATE", "LENGTH", "SIZE", "FILES", "CODECS"), rows, width_of(sys.stdout)))
    if any(entry.state is EntryState.INTERRUPTED for entry in entries):
        again = _command(options.dir, "repair --all")
        print(f"Interrupted recordings are made whole by: {again}", file=sys.stderr)
    return 0


# show


def _show(options: argparse.Namespace) -> int:
    entry = _find(_catalog(options), options.name)
    document = entry.document()
    if not entry.tracks:
        document["tracks"] = _probed(entry)
    if options.json:
        _print_json(document)
        return 0
    print(entry.name)
    facts = [
        ("state", entry.state.value),
        ("created", entry.created.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")),
        ("length", clock(entry.duration)),
        ("size", size(entry.size)),
        ("note", entry.error),
        ("picture", entry.snapshot),
        ("messages", entry.data),
    ]
    for title, value in facts:
        if value:
            print(f"  {title:9} {value}")
    print()
    rows = [
        (
            segment.path.name,
            clock(segment.start),
            clock(segment.duration),
            size(segment.size),
        )
        for segment in entry.segments
    ]
    print(table(("FILE", "FROM", "LENGTH", "SIZE"), rows, width_of(sys.stdout)))
    if entry.tracks:
        print()
        print(
            table(("TRACK", "CODEC", "FRAMES", "LOST", "REPAIRED", "GAPS"), [*map(_track_row, entry.tracks)])
        )
    elif document["tracks"]:
        print()
        print(table(("TRACK", "CODEC"), [_probed_row(track) for track in document["tracks"]]))
    if entry.state is EntryState.INTERRUPTED:
        print(f"\nMake it whole with: {_command(options.dir, f'repair {entry.name}')}", file=sys.stderr)
    return 0


def _shape(width: int | None, height: int | None) -> str:
    return f" {width}x{height}" if width and height else ""


def _probed_row(track: dict[str, Any]) -> tuple[str, ...]:
    return track["kind"], f"{track['codec'] or '-'}{_shape(track['width'], track['height'])}"


def _track_row(track: ManifestTrack) -> tuple[str, ...]:
    shape = _shape(track.width, track.height)
    packets = track.packets
    total = packets.received + packets.given_up
    lost = f"{packets.given_up} ({packets.given_up / total:.1%})" if total and packets.given_up else "0"
    gaps = sum(gap.duration for gap in track.gaps)
    count = len(track.gaps) + track.gaps_left_out
    return (
        track.kind,
        f"{track.codec or '-'}{shape}",
        str(track.frames),
        lost,
        str(packets.repaired),
        f"{count}, {gaps:.1f} s" if count else "0",
    )


def _probed(entry: CatalogEntry) -> list[dict[str, Any]]:
    """The tracks of a recording that says nothing of them."""
    for segment in entry.segments:
        try:
            streams = probe(segment.path).streams
        except ProbeError:
            continue
        return [
            {"kind": each.kind, "codec": each.codec, "width": each.width, "height": each.height}
            for each in streams
        ]
    return []


# repair


def _repair(options: argparse.Namespace) -> int:
    if bool(options.names) is options.all:
        raise CommandError("say which recordings to repair, or --all")
    files = [
        name for name in options.names if name.endswith(PART) and (os.sep in name or os.path.isfile(name))
    ]
    names = [name for name in options.names if name not in files]
    results: list[dict[str, Any]] = [_repair_file(pathlib.Path(name)) for name in files]
    if names or options.all:
        catalog = _catalog(options)
        wanted = [_find(catalog, name).name for name in names]
        if options.all:
            wanted = [entry.name for entry in catalog.list() if entry.state is EntryState.INTERRUPTED]
        for name in wanted:
            results.append(_repair_recording(catalog, name))
    if options.json:
        _print_json(results)
    elif not results:
        print("Nothing was interrupted.")
    for result in results:
        if not options.json:
            print(result["message"], file=sys.stdout if result["repaired"] is not None else sys.stderr)
    return 0 if all(result["repaired"] is not None for result in results) else 1


def _repair_recording(catalog: Catalog, name: str) -> dict[str, Any]:
    try:
        report = repair_recording(catalog, name)
    except RepairError as error:
        return {"name": name, "repaired": None, "message": str(error)}
    files = [
        {
            "file": each.path.name,
            "duration": round(each.duration, 3),
            "frames": each.frames,
            "size": each.size,
        }
        for each in report.files
    ]
    seconds = sum(each.duration for each in report.files)
    message = f"{name}: {seconds:.1f} s in {report.frames} frames recovered, {report.duration:.1f} s in all."
    if not files:
        message = f"{name} is whole."
    if report.lost:
        message += f" There is nothing to play in {', '.join(report.lost)}."
    return {"name": name, "repaired": files, "unplayable": list(report.lost), "message": message}


def _repair_file(path: pathlib.Path) -> dict[str, Any]:
    try:
        file = repair_file(path)
    except RepairError as error:
        return {"name": str(path), "repaired": None, "message": str(error)}
    facts = {
        "file": str(file.path),
        "duration": round(file.duration, 3),
        "frames": file.frames,
        "size": file.size,
    }
    message = f"{file.path}: {file.duration:.1f} s in {file.frames} frames recovered."
    return {"name": str(path), "repaired": [facts], "unplayable": [], "message": message}


# export


def _export(options: argparse.Namespace) -> int:
    entry = _find(_catalog(options), options.name)
    container = options.to or (options.output.suffix[1:].lower() if options.output else "mp4")
    if container not in MEDIA_TYPES:
        raise CommandError(
            f"{options.output} does not say the format: give --to {', --to '.join(MEDIA_TYPES)}"
        )
    target: pathlib.Path = options.output or pathlib.Path(f"{entry.name}.{container}")
    if target.exists() and not options.force:
        raise CommandError(
            f"{target} is there already: choose another name with -o, or --force to write over it"
        )
    if not target.absolute().parent.is_dir():
        raise CommandError(f"there is no directory {target.absolute().parent}")
    os.environ.setdefault("SVT_LOG", "1")  # an encoder that talks
    bar = ProgressBar(target.name)
    chosen = ExportOptions(container, options.video, options.audio, overwrite=options.force)
    try:
        report = export_recording(entry, target, chosen, bar.show)
    except ExportError as error:
        bar.clear()
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        bar.clear()
        print("mediapeer: the export was cancelled, and nothing is left of it", file=sys.stderr)
        raise
    bar.clear()
    how = [*(f"{codec} as it was" for codec in report.copied), *report.encoded]
    print(f"{report.path}: {clock(report.duration)}, {size(report.size)}, {', '.join(how)}")
    return 0
