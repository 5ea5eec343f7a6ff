"""Media files for tests, made with libavcodec."""

import pathlib
from fractions import Fraction
from typing import Any

import av

WIDTH, HEIGHT, RATE = 160, 128, 30
SAMPLE_RATE = 48_000
_OPTIONS = {
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libx264": {"tune": "zerolatency", "preset": "ultrafast"},
    "libx265": {"tune": "zerolatency", "preset": "ultrafast"},
    "libsvtav1": {"preset": "12"},
}
_SAMPLE_FORMATS = {"libopus": "s16", "aac": "fltp", "pcm_mulaw": "s16"}


def luma_of(index: int) -> int:
    """How bright the picture of that number is."""
    return 16 + 7 * index % 200


def make_file(
    path: pathlib.Path,
    video: str | None = "libvpx",
    audio: str | None = "libopus",
    *,
    pictures: int = 60,
    group: int = 15,
    **options: str,
) -> pathlib.Path:
    """A file of grey pictures, each of another brightness, 30 a second, and silence.

    :param video: libavcodec's encoder of pictures, or ``None`` for none.
    :param audio: the same of sound.
    :param group: how many pictures there are from keyframe to keyframe.
    """
    rate = 8000 if audio == "pcm_mulaw" else SAMPLE_RATE
    with av.open(path, "w") as container:
        pictures_stream: Any = None
        sound_stream: Any = None
        if video is not None:
            pictures_stream = container.add_stream(video, rate=RATE)
            pictures_stream.width, pictures_stream.height = WIDTH, HEIGHT
            pictures_stream.pix_fmt = "yuv420p"
            # libvpx's threads spin while they wait for each other, for minutes where others have the processors.
            pictures_stream.codec_context.thread_count = 1
            pictures_stream.options = {"g": str(group), **_OPTIONS.get(video, {}), **options}
        if audio is not None:
            sound_stream = container.add_stream(audio, rate=rate)
            sound_stream.layout = "mono" if rate == 8000 else "stereo"
        for index in range(pictures):
            if pictures_stream is not None:
                container.mux(pictures_stream.encode(_picture(index)))
            if sound_stream is not None:
                container.mux(sound_stream.encode(_silence(index, rate, _SAMPLE_FORMATS[audio or ""])))
        for stream in (pictures_stream, sound_stream):
            if stream is not None:
                container.mux(stream.encode())
    return path


def _picture(index: int) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for number, plane in enumerate(frame.planes):
        plane.update(bytes([128 if number else luma_of(index)]) * plane.buffer_size)
    frame.pts, frame.time_base = index, Fraction(1, RATE)
    return frame


def _silence(index: int, rate: int, format: str) -> av.AudioFrame:
    samples = rate // RATE
    frame = av.AudioFrame(format, "mono" if rate == 8000 else "stereo", samples)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate, frame.pts, frame.time_base = rate, index * samples, Fraction(1, rate)
    return frame
