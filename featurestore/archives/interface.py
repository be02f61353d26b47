"""The one interface of all archives."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol

from featurestore.errors import one_line

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BUFFER_BYTES, _STRETCH_BUFFER_BYTES = 1 << 18, 1 << 16


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


class ArchivePlace(Protocol):
    """Where an archive lies: a file, or an object in a bucket, as it was when it was looked at.

    What reads of it raises `PassingError` where it was written over since.
    """

    def headers(self) -> BinaryIO:
        """All of it, to be read forwards, from header to header."""

    def contents(self) -> BinaryIO:
        """All of it, for a table of contents at its end; it takes no descriptor while nobody reads."""

    def stretch(self, start: int, stop: int) -> BinaryIO:
        """Bytes `start` to `stop`, those of a member."""

    def holding(self, start: int, stop: int) -> AbstractContextManager[None]:
        """Have what `contents` gave read these bytes at once, as soon as somebody asks for some of them."""

    def as_file(self, start: int, stop: int) -> AbstractContextManager[tuple[str, tuple[int, int]]]:
        """A file in which at least these bytes stand at their places, and its end does; its size and time."""


class LocalPlace:
    """An archive that is a file.

    Args:
        path: of the file.
        stamp: its size and time, which it must still have when a member is read by its place.
    """

    def __init__(self, path: str, stamp: tuple[int, int]) -> None:
        self._path, self._stamp = path, stamp

    def headers(self) -> BinaryIO:
        """See `ArchivePlace`."""
        return open(self._path, "rb", buffering=tarfile.BLOCKSIZE)  # of headers, and not of what follows

    def contents(self) -> BinaryIO:
        """See `ArchivePlace`."""
        return io.BufferedReader(ReopenedFile(self._path), _BUFFER_BYTES)

    def stretch(self, start: int, stop: int) -> BinaryIO:
        """See `ArchivePlace`."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise failed("its archive cannot be opened ({})", error) from error
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != self._stamp:
            os.close(descriptor)
            raise PassingError("its archive was written over while it was read")
        return io.BufferedReader(FileStretch(descriptor, start, stop), _STRETCH_BUFFER_BYTES)

    @contextmanager
    def holding(self, start: int, stop: int) -> Iterator[None]:
        """See `ArchivePlace`: the system reads ahead."""
        yield

    @contextmanager
    def as_file(self, start: int, stop: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """See `ArchivePlace`."""
        yield self._path, self._stamp
