"""What a command shows: tables, lengths, sizes, and how far it is."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

#: How often a bar is drawn anew, in seconds.
_INTERVAL = 0.1
#: Where the output is no terminal, a line is written each time this much more is done.
_STEP = 0.1


def clock(seconds: float | None) -> str:
    """75.3 is ``1:15``; unknown is a dash."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """1234567 bytes are ``1.2 MB``."""
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Columns of text under their titles. What ends a line is not filled up.

    :param width: the lines are not longer; the first column gives way. ``None``: as long as they need to be, for
        programs that read them.
    """
    lines = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    if width is not None:
        rest = sum(widths[1:]) + 2 * (len(widths) - 1)
        widths[0] = min(widths[0], max(width - rest, 8))
    return "\n".join(
        "  ".join(_cell(text, widths[column]) for column, text in enumerate(line)).rstrip() for line in lines
    )


def _cell(text: str, width: int) -> str:
    return f"{text[: width - 1]}…" if len(text) > width else text.ljust(width)


def width_of(stream: TextIO) -> int | None:
    """The columns of the terminal that the stream goes to; ``None`` when it goes to none."""
    return shutil.get_terminal_size((80, 24)).columns if stream.isatty() else None


class ProgressBar:
    """Says on standard error how far a piece of work is: a bar on a terminal, a line now and then elsewhere.

    Where nobody reads on, as with ``2>&1 | head``, it falls silent, and the work goes on.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._started = self._drawn = time.monotonic()
        self._told = 0.0
        self._is_drawn = False
        self._is_unread = False

    def show(self, share: float) -> None:
        """Tell how much is done, from 0 to 1. It may be told often."""
        now = time.monotonic()
        if not self._is_terminal:
            if share >= self._told + _STEP:
                self._told = share
                self._write(f"{self._label}: {share:.0%}\n")
            return
        if now - self._drawn < _INTERVAL and share < 1:
            return
        self._drawn, self._is_drawn = now, True
        left = (now - self._started) * (1 - share) / share if share > 0.01 else None
        rest = f"{clock(left)} left" if left is not None and share < 1 else ""
        columns = shutil.get_terminal_size((80, 24)).columns
        room = max(10, min(40, columns - len(self._label) - 24))
        filled = round(room * share)
        bar = f"\r{self._label} [{'#' * filled}{' ' * (room - filled)}] {share:4.0%} {rest}"
        self._write(bar[:columns].ljust(columns))

    def clear(self) -> None:
        """Take the bar away."""
        if self._is_drawn:
            columns = shutil.get_terminal_size((80, 24)).columns
            self._write(f"\r{' ' * columns}\r")
            self._is_drawn = False

    def _write(self, text: str) -> None:
        if self._is_unread:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._is_unread = True
