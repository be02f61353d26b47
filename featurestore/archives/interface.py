"""The one interface of all archives."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from featurestore.errors import one_line

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ArchiveError(OSError):
    """Why an archive, or a member of it, cannot be read; one clause."""


class PassingError(ArchiveError):
    """A fault of the system, not of the archive: the next time it may be gone."""


def failed(text: str, error: Exception) -> ArchiveError:
    """The error for what the system or a library raised; `text` has ``{}`` for what that says."""
    is_passing = isinstance(error, MemoryError) or getattr(error, "errno", None) is not None
    said = getattr(error, "strerror", None) or one_line(error, 120) or type(error).__name__
    return (PassingError if is_passing else ArchiveError)(text.format(said))


class Archive(Protocol):
    """An archive whose table of contents has been read.

    Nothing is ever written to disk. Several threads may ask at once.
    """

    @property
    def n_entries(self) -> int:
        """What its table of contents takes in memory, in entries of some hundred bytes."""

    def members(self) -> Iterable[str]:
        """Names of all members that can be opened."""

    def problem(self, member: str) -> str:
        """Why there is no such member, in a clause; "" where there is one."""

    def open(self, member: str) -> BinaryIO:
        """The bytes of a member.

        Raises:
            ArchiveError: they are not there, or are damaged.
        """


class FileStretch(io.RawIOBase):
    """Bytes `start` to `stop` of a file, as a file; its place is its own, whoever else reads.

    Args:
        descriptor: of the file; closed with this.
        start: first byte.
        stop: byte after the last.
    """

    def __init__(self, descriptor: int, start: int, stop: int) -> None:
        self._descriptor, self._start, self._stop = descriptor, start, stop
        self._at = 0

    def _bytes(self, n_bytes: int, at: int) -> bytes:
        return os.pread(self._descriptor, n_bytes, at)

    def readable(self) -> bool:
        """As of a file."""
        return True

    def seekable(self) -> bool:
        """As of a file."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._stop - self._start}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        """As of a file."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._stop - self._start - self._at))
        found = self._bytes(wanted, self._start + self._at)
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        """Also closes the descriptor."""
        if not self.closed and self._descriptor >= 0:
            os.close(self._descriptor)
        super().close()


class ReopenedFile(FileStretch):
    """A file that is open only while bytes of it are read: hundreds may wait, and take no descriptor.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(-1, 0, os.stat(path).st_size)
        self._path = path

    def _bytes(self, n_bytes: int, at: int) -> bytes:
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            return os.pread(descriptor, n_bytes, at)
        finally:
            os.close(descriptor)
