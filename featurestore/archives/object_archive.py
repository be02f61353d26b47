"""Archives in a bucket: their tables of contents and their members are fetched by ranges of bytes.

Of all of them what was fetched last is kept as of any object (`featurestore.archives.object_file`); what a
table of contents is made of is not, since the table is.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from featurestore.archives.interface import ArchiveError, FileStretch
from featurestore.archives.object_file import Look, ObjectFile, read_as_looked_at

# What is fetched to find a header. Where headers lie closer to one another than that, twice as much each
# time, up to the second: all of the archive is then read whatever is asked for, and requests take the time.
_STEP_BYTES, _MOST_STEP_BYTES = 1 << 16, 1 << 22
# Of a row group of Parquet that is on its way to a temporary file.
_PART_BYTES = 1 << 26
_MOST_FOOTER_BYTES = 1 << 28
_PARQUET_END = struct.Struct("<I4s")
_BUFFER_BYTES = 1 << 16
_OF_MEMBER = "its archive "


class ObjectPlace:
    """An archive that is an object in a bucket; see `ArchivePlace`.

    Args:
        path: URL of the object.
        look: what it was when it was looked at; what is another by now is not read.
    """

    def __init__(self, path: str, look: Look) -> None:
        self._path, self._look = path, look
        self._contents = _Contents(path, look)
        self._footer = b""

    def headers(self) -> BinaryIO:
        """See `ArchivePlace`."""
        return io.BufferedReader(_Contents(self._path, self._look), tarfile.BLOCKSIZE)

    def contents(self) -> BinaryIO:
        """See `ArchivePlace`; of one and the same file, since others ask `holding` of it."""
        return io.BufferedReader(self._contents, _BUFFER_BYTES)

    def stretch(self, start: int, stop: int) -> BinaryIO:
        """See `ArchivePlace`."""
        return cast("BinaryIO", ObjectFile(self._path, self._look, start, stop, _OF_MEMBER))

    @contextmanager
    def holding(self, start: int, stop: int) -> Iterator[None]:
        """See `ArchivePlace`. They are fetched before anybody waits for his turn to read."""
        stop = min(stop, self._look.n_bytes)
        with self.stretch(start, stop) as file:
            data = file.read(stop - start)
        with self._contents.holding(start, data):
            yield

    @contextmanager
    def as_file(self, start: int, stop: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """See `ArchivePlace`: a temporary file as long as the archive, with holes where nothing is wanted."""
        n_bytes = self._look.n_bytes
        if not self._footer:
            self._footer = self._end_of_parquet()
        whose = _OF_MEMBER if stop > start else ""
        with tempfile.NamedTemporaryFile(prefix="fs-archive-", suffix=".parquet") as file:
            file.truncate(n_bytes)
            start, stop = max(0, start), min(stop, n_bytes)
            for at in range(start, stop, _PART_BYTES):
                file.seek(at)
                end = min(stop, at + _PART_BYTES)
                file.write(read_as_looked_at(self._path, self._look, at, end, whose))
            file.seek(n_bytes - len(self._footer))
            file.write(self._footer)
            file.flush()
            status = os.fstat(file.fileno())
            yield file.name, (status.st_size, status.st_mtime_ns)

    def _end_of_parquet(self) -> bytes:
        """The footer of a Parquet file, which says its length at the very end."""
        n_bytes = self._look.n_bytes
        if not n_bytes:
            return b""
        end = self._part(min(n_bytes, _STEP_BYTES))
        if len(end) < _PARQUET_END.size:
            return end
        said, mark = _PARQUET_END.unpack(end[-_PARQUET_END.size :])
        wanted = min(said + _PARQUET_END.size, n_bytes)
        if mark != b"PAR1" or wanted <= len(end):
            return end[-wanted:]
        if wanted > _MOST_FOOTER_BYTES:
            raise ArchiveError(f"is no Parquet file, or is cut short (a footer of {said:,} bytes)")
        return self._part(wanted)

    def _part(self, n_last: int) -> bytes:
        n_bytes = self._look.n_bytes
        return read_as_looked_at(self._path, self._look, n_bytes - n_last, n_bytes)


class _Contents(FileStretch):
    """All of an object, read here and there for what it holds; only what was fetched last is kept.

    Several threads may ask at once.
    """

    def __init__(self, path: str, look: Look) -> None:
        super().__init__(-1, 0, look.n_bytes)
        self._path, self._look = path, look
        self._lock = threading.Lock()
        self._first, self._data = 0, b""  # what was fetched last, as far as it is kept
        self._after = self._step = 0
        self._held: dict[int, tuple[int, bytes]] = {}

    @contextmanager
    def holding(self, start: int, data: bytes) -> Iterator[None]:
        """Give these bytes out, where somebody asks for what begins among them."""
        key = id(data)
        with self._lock:
            self._held[key] = start, data
        try:
            yield
        finally:
            with self._lock:
                del self._held[key]

    def _bytes(self, n_bytes: int, at: int) -> bytes:
        with self._lock:
            for first, data in ((self._first, self._data), *self._held.values()):
                if first <= at < first + len(data):
                    return data[at - first : at - first + n_bytes]
            if not n_bytes:
                return b""
            is_near = 0 <= at - self._after < _STEP_BYTES and self._step > 0
            self._step = min(_MOST_STEP_BYTES, 2 * self._step) if is_near else _STEP_BYTES
            # The end, where zip has its table of contents, is looked at from further and further before it.
            first = at if is_near else min(at, max(0, self._look.n_bytes - _STEP_BYTES))
            self._after = min(self._look.n_bytes, max(at + n_bytes, first + self._step))
            data = read_as_looked_at(self._path, self._look, first, self._after)
            # A large table of contents is asked for at once, and wanted once.
            self._first, self._data = first, data if n_bytes <= self._step else b""
            return data[at - first : at - first + n_bytes]
