"""A command whose input and output a test holds, without threads."""

import os
import re
import select
import subprocess
import time
from collections.abc import Sequence


class Command:
    """A running command. What it prints, errors too, is in :attr:`output` after :meth:`read`."""

    def __init__(self, arguments: Sequence[str | os.PathLike[str]]) -> None:
        self.output = bytearray()
        self.ended = False
        "Whether it closed its output."
        self._process = subprocess.Popen(
            [os.fspath(argument) for argument in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        os.set_blocking(self.fileno(), False)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def fileno(self) -> int:
        """The file descriptor of its output, to select on."""
        if self._process.stdout is None:
            raise ValueError("the command has no output to read")
        return self._process.stdout.fileno()

    def read(self) -> None:
        """Take what it printed since."""
        try:
            while data := os.read(self.fileno(), 65_536):
                self.output += data
            self.ended = True
        except BlockingIOError:
            pass

    def write(self, data: bytes) -> None:
        """Type ``data`` into it."""
        if self._process.stdin is None:
            raise ValueError("the command takes no input")
        self._process.stdin.write(data)

    def close_input(self) -> None:
        """End its input, as Ctrl-D does."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def expect(self, pattern: str, timeout_seconds: float = 10) -> re.Match[str]:
        """Wait until it has printed something that ``pattern`` finds.

        :raises AssertionError: with all that it printed, when it does not within ``timeout_seconds``.
        """
        deadline = time.monotonic() + timeout_seconds
        while (match := re.search(pattern, self.text())) is None:
            left = deadline - time.monotonic()
            if self.ended or left <= 0:
                raise AssertionError(f"no {pattern!r} in: {self.text()}")
            select.select([self.fileno()], [], [], left)
            self.read()
        return match

    def text(self) -> str:
        """Everything it printed so far."""
        return self.output.decode(errors="replace")
