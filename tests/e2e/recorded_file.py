"""What is in a recorded file, by the judgement of ffmpeg's commands and of a decoder."""

import array
import dataclasses
import itertools
import json
import pathlib
import statistics
import subprocess
from typing import Any

import av

from mediapeer.media.silence import is_silence
from tests.e2e.clip import BEEP_SECONDS, FLASH_PICTURES, RATE, SAMPLE_RATE, SECONDS, Clip, beeps, nearest

#: Of how many pictures of a file the likeness to the clip's is measured.
COMPARED = 5
#: How many seconds around a beep the pictures say where they are in the clip.
AROUND = 0.5
#: A gap in the sound that counts, in seconds. A recorder that puts sound right makes gaps of a millisecond.
LEAST_GAP = 0.0005


def probe(path: pathlib.Path) -> dict[str, Any]:
    """What ffprobe says, the packets of each track counted."""
    entries = (
        "format=format_name,duration:stream=codec_type,codec_name,width,height,nb_read_packets,start_time"
    )
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", entries, "-of", "json", str(path)]
    result: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def complaints(path: pathlib.Path) -> str:
    """What ffmpeg has to say against it while it decodes it to the end.

    It is told to keep to the file's times. Otherwise it rounds them to the rate of pictures that it guesses, and
    complains when two of a camera that was late come to the same.
    """
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-enc_time_base:v", "-1", "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stderr + (f"exit {result.returncode}" if result.returncode else "")


def examine(path: pathlib.Path, clip: Clip | None) -> dict[str, Any]:
    """Judge a file. Times are in seconds.

    :param clip: what the camera saw, if it is known.
    """
    report: dict[str, Any] = {"probed": probe(path), "complaints": complaints(path)}
    pictures, likenesses, flashes, runs = _pictures(path, clip)
    sounds = _sounds(path)
    report["video"] = {
        "frames": len(pictures),
        "first": pictures[0][0] if pictures else None,
        "last": pictures[-1][0] if pictures else None,
        "longest_gap": max((b[0] - a[0] for a, b in itertools.pairwise(pictures)), default=0.0),
        "numbered": sum(number is not None for _, number in pictures),
        "likenesses": likenesses,
        "flashes": flashes,
        "sizes": sorted({(run["width"], run["height"]) for run in runs}),
        "runs": runs,
    }
    report["audio"] = sounds
    report["offsets"] = _offsets(pictures, sounds["beeps"])
    return report


def _pictures(
    path: pathlib.Path, clip: Clip | None
) -> tuple[list[tuple[float, int | None]], list[float], list[float], list[dict[str, Any]]]:
    """When each picture is, with its number in the clip; how like some are to what they were; when flashes are; and
    the runs of pictures of one size: of each also when the camera began the clip, by its times and numbers."""
    pictures: list[tuple[float, int | None]] = []
    likenesses: list[float] = []
    flashes: list[float] = []
    runs: list[dict[str, Any]] = []
    was_bright = True
    with av.open(str(path)) as container:
        if not container.streams.video:
            return [], [], [], []
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            number = None
            time = float(frame.time or 0)
            if not runs or (frame.width, frame.height) != (runs[-1]["width"], runs[-1]["height"]):
                runs.append({"width": frame.width, "height": frame.height, "first": time, "times": []})
            if clip is not None:
                plane = frame.planes[0]
                luma = bytes(plane)
                seen = dataclasses.replace(clip, width=frame.width, height=frame.height)
                number = seen.number(luma, plane.line_size)
                is_bright = seen.is_flash(luma, plane.line_size)
                if is_bright and not was_bright:
                    flashes.append(time)
                was_bright = is_bright
                is_whole = seen == clip and number is not None
                if is_whole and len(pictures) % 25 == 24 and len(likenesses) < COMPARED:
                    likenesses.append(clip.likeness(luma, plane.line_size, number))
            runs[-1]["times"].append((time, number))
            pictures.append((time, number))
    return pictures, likenesses, flashes, [_run(**run) for run in runs]


def _run(width: int, height: int, first: float, times: list[tuple[float, int | None]]) -> dict[str, Any]:
    """What is told of pictures of one size."""
    begun = [(time - number / RATE) % SECONDS for time, number in times if number is not None]
    around = [begun[0] + nearest(each - begun[0]) for each in begun]
    return {
        "width": width,
        "height": height,
        "frames": len(times),
        "first": first,
        "last": times[-1][0],
        "begun": statistics.median(around) % SECONDS if around else None,
    }


def _sounds(path: pathlib.Path) -> dict[str, Any]:
    """How long the sound is, and when beeps begin. A gap in it is as long as it is in the file's times."""
    found: list[float] = []
    first = last = None
    samples = array.array("h")
    begins = decoded = longest = 0.0
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return {"first": None, "last": None, "decoded": 0.0, "longest_gap": 0.0, "beeps": []}
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        # What the recorder writes where nothing came is none of what was sent.
        packets = (packet for packet in container.demux(audio=0) if not is_silence(bytes(packet)))
        for frame in (frame for packet in packets for frame in packet.decode()):
            time = float(frame.time or 0)
            length = frame.samples / frame.sample_rate
            if first is None:
                first = begins = time
            elif time - last > LEAST_GAP:
                longest = max(longest, time - last)
                found += [begins + at / SAMPLE_RATE for at in beeps(samples)]
                samples, begins = array.array("h"), time
            last = time + length
            decoded += length
            for piece in resampler.resample(frame):
                samples.extend(array.array("h", bytes(piece.planes[0])[: 2 * piece.samples]))
    found += [begins + at / SAMPLE_RATE for at in beeps(samples)]
    # One with gaps in it was found once for each of its pieces.
    heard = [at for number, at in enumerate(found) if not number or at - found[number - 1] > 2 * BEEP_SECONDS]
    return {"first": first, "last": last, "decoded": decoded, "longest_gap": longest, "beeps": heard}


def _offsets(pictures: list[tuple[float, int | None]], beeps: list[float]) -> list[tuple[float, float]]:
    """When each beep is, and by how much it is later than the picture 0 that belongs to it.

    That picture need not be there: its neighbours say by their numbers when it was.
    """
    offsets = []
    for beep in beeps:
        begun = [
            nearest(beep - (time - number / RATE))
            for time, number in pictures
            if number is not None and abs(time - beep) < AROUND
        ]
        if len(begun) > FLASH_PICTURES:
            offsets.append((beep, statistics.median(begun)))
    return offsets
