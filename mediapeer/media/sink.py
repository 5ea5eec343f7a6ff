"""The file under a muxer: nobody else's is written to, and a full disk leaves room to close it."""

import contextlib
import errno
import io
import os
import pathlib
import tempfile
from typing import IO, Any

#: Kept aside on the disk for a file's end, in bytes; an index that has grown longer asks for more.
RESERVE = 512 * 1024


class FileSink(io.RawIOBase):
    """A new file that counts what is written.

    Some room on the disk is kept aside (:meth:`reserve`). When the disk is full, this is given free for what
    is being written and for the end of the file; ``error`` then says that it is time to end.

    :raises OSError: when the file is there already, or cannot be made.
    """

    def __init__(self, path: pathlib.Path, minimum_free: int) -> None:
        super().__init__()
        # What close() looks at; Python calls it for a file that could not be made, too.
        self._descriptor = -1
        self._reserve: IO[bytes] | None = None
        # O_EXCL: neither a symbolic link nor somebody else's file is written to.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._directory = path.parent
        self._minimum_free = minimum_free
        self._reserved = 0
        self.size = 0
        "Length of the file in bytes."
        self.error: OSError | None = None
        "Why nothing should be added, once the disk is as good as full."
        self.reserve(RESERVE)
        self.check_space()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        total = len(view)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or self._reserve is None:
                    self.error = self.error or error
                    raise
                self.error = OSError(error.errno, "The disk is full")
                self._release()
        self.size = max(self.size, os.lseek(self._descriptor, 0, os.SEEK_CUR))
        return total

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def close(self) -> None:
        """Close the file. Idempotent.

        It is not waited for until it is on the disk itself: that can take seconds, and all recordings' thread.
        """
        if not self.closed:
            self._release()
            try:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
            finally:
                super().close()

    def check_space(self) -> None:
        """See what is left on the disk; ``error`` tells when it is too little."""
        self.error = self.error or want_of_space(self._descriptor, self._minimum_free)

    def reserve(self, size: int) -> None:
        """Keep so many bytes aside in all, in a file without a name: it is gone with the process."""
        if size <= self._reserved or self.error is not None:
            return
        try:
            if self._reserve is None:
                self._reserve = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
            os.posix_fallocate(self._reserve.fileno(), 0, size)
            self._reserved = size
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self._release()  # a file system that cannot set aside
                return
            self.error = OSError(error.errno, "The disk is full")

    def _release(self) -> None:
        if self._reserve is not None:
            with contextlib.suppress(OSError):
                self._reserve.close()
            self._reserve = None


def want_of_space(descriptor: int, minimum_free: int) -> OSError | None:
    """Why nothing more should be written to the disk of an open file; ``None`` while it may.

    :param minimum_free: what is to be left there, in bytes.
    """
    status = os.fstatvfs(descriptor)
    if status.f_bavail * status.f_frsize >= minimum_free:
        return None
    return OSError(errno.ENOSPC, f"Less than {minimum_free // 1_000_000} MB are left on the disk")
