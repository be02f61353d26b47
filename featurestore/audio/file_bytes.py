"""Bytes of an open file, which may be a member of an archive or an object in a bucket: no descriptor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Seekable(Protocol):
    """What bytes are read of at any place."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As of a file."""

    def read(self, n_bytes: int, /) -> bytes:
        """As of a file."""


class Source:
    """An open file that libsndfile reads through callbacks, which nothing can be raised through.

    What goes wrong is kept, and from then on the file has ended: who opened it raises `fault`, and not what
    libsndfile makes of a file that seems to end early.

    Args:
        file: open for reading.

    Attributes:
        fault: what went wrong; None while nothing did.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: Exception | None = None

    def read(self, n_bytes: int, /) -> bytes:
        """As of a file."""
        if self.fault is None:
            try:
                return self._file.read(n_bytes)
            except Exception as error:
                self.fault = error
        return b""

    def readinto(self, buffer: Buffer) -> int:
        """As of a file."""
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file; its place stays."""
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    return size


def read_at(file: Seekable | int, n_bytes: int, at: int) -> bytes:
    """Up to so many bytes from a place of a file, which is open or a descriptor."""
    if isinstance(file, int):
        return os.pread(file, n_bytes, at)
    file.seek(at)
    return file.read(n_bytes)
