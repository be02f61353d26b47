"""Objects under a root: the few operations the store needs, on a folder or in memory.

Every object is written whole, by one atomic `put`: a reader sees the old bytes or the new ones, never a
part. Zarr reads the same objects through `zarr_store`. Remote roots are in `featurestore.backends.remote`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import zarr.storage
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from featurestore.backends import contained_files
from featurestore.backends.read_only_view import ReadOnlyView
from featurestore.errors import NotPlain, StoreError
from featurestore.names import object_parts, prefix_parts
from featurestore.outputs import REMOTE_SCHEMES, put_file

T = TypeVar("T")
FOLDER_TRIES = 20
# What one call of `preadv` takes on every system (IOV_MAX of limits.h).
MOST_BUFFERS = 1024


class Storage(Protocol):
    """What every kind of root can do.

    Keys are ``/``-separated paths below the root. One that could lead elsewhere is refused with a
    `StoreError`, see `featurestore.names.object_parts`.
    """

    @property
    def url(self) -> str:
        """Where the root is; `open_storage(url)` opens it again, in any process."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is no such object."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write an object whole; with `if_absent`, return False and write nothing if it exists."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys below ``prefix/`` (all of them for "") with their sizes in bytes."""

    def children(self, prefix: str) -> list[str]:
        """Sorted names one level below ``prefix/``."""

    def strangers(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Those of `objects` that are none, each with what it is: links, pipes and devices in a folder."""

    def zarr_store(self) -> ZarrStore:
        """The same root as a read-only Zarr store."""


def open_storage(url: str | os.PathLike[str]) -> Storage:
    """Open a root by path or URL (``memory://name``; ``s3://…``, ``gs://…``, ``az://…``).

    Raises:
        StoreError: the scheme is unknown, a remote root cannot be reached, or there is no name at all.
    """
    text = os.fspath(url)
    if not text:  # of a shell's variable that is not set; as a folder it would be the one we are in
        raise StoreError("expected the folder or the URL of a store, got an empty text")
    scheme, separator, rest = text.partition("://")
    if not separator:
        if text.split(":")[0] in REMOTE_SCHEMES and ":" in text:
            from featurestore.backends.remote_settings import parse_url

            name, _, path = text.partition(":")
            meant = parse_url(f"{name}://{path.lstrip('/')}").url  # which refuses one with a secret in it
            raise StoreError(f"{text}: expected {meant}, with two slashes")
        return LocalStorage(Path(text))
    if scheme == "file":
        return LocalStorage(Path(rest))
    if scheme == "memory":
        return MemoryStorage(rest)
    if scheme in REMOTE_SCHEMES:
        from featurestore.backends.remote import open_remote

        return open_remote(text)
    from featurestore.backends.remote_settings import hide_credentials

    shown = hide_credentials(text)
    if scheme in ("https", "http"):
        raise StoreError(
            f"{shown}: is on a web server; copy what is published there with `fs pull`, then open that"
        )
    raise StoreError(f"{shown}: unknown kind of store {scheme!r}; give a folder, s3://, gs:// or az://")


class LocalStorage:
    """A folder on a local or shared file system. It may be a symbolic link; none inside it is followed."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self._root = str(self.root)

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return self._root

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        return self.read_range(key, None)

    def read_range(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        """`get` of a part, as Zarr asks for it."""
        return self._read(key, lambda file, size: _read_span(file, *_span(byte_range, size)))

    def read_parts(self, key: str, parts: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Bytes ``start:stop`` of an object, for each pair; None where there is no such object.

        A negative start counts from its end; what lies outside it is left out.
        """
        return self._read(
            key, lambda file, size: [_read_span(file, *slice(*pair).indices(size)[:2]) for pair in parts]
        )

    def read_into(self, key: str, buffers: Sequence[np.ndarray[Any, Any]]) -> int | None:
        """Read an object straight into buffers, one after the other.

        Args:
            key: the object.
            buffers: contiguous writable arrays, filled in order.

        Returns:
            The object's size in bytes, which may differ from that of the buffers; None where there is
            no such object.
        """
        return self._read(key, lambda file, size: _fill(file, size, buffers))

    def _read(self, key: str, take: Callable[[int, int], T]) -> T | None:
        """What `take` makes of an object's descriptor and size; None where there is no such object."""
        parts = object_parts(key, self._root)
        with self._told("read", parts):
            try:
                file, size = contained_files.open_file(self._root, parts)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except IsADirectoryError as error:
                raise NotPlain(
                    f"{self._root}/{key} is a folder, where a file of a store belongs: remove it"
                ) from error
            try:
                return take(file, size)
            finally:
                os.close(file)

    @contextlib.contextmanager
    def _told(self, doing: str, parts: Sequence[str], advice: str = "") -> Iterator[None]:
        """Turn what the system says of a place below the root into one line."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            path = "/".join((self._root, *parts))
            raise StoreError(f"cannot {doing} {path}: {error.strerror}{advice}") from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Storage.put`; temporary file, fsync, rename, fsync of the folder."""
        parts = object_parts(key, self._root)
        advice = "; nothing stored before is lost, mend it and run the same command again"
        with self._told("write", parts, advice):
            try:
                for _ in range(FOLDER_TRIES):
                    # Another process removes folders that are empty, and may have taken the temporary file
                    # for that of a killed writer.
                    with contextlib.suppress(FileNotFoundError):
                        return self._put(parts, data, if_absent)
                return self._put(parts, data, if_absent)
            except (FileExistsError, NotADirectoryError):
                raise StoreError(
                    f"cannot write {self._root}/{key}: a file stands where a folder is needed"
                ) from None

    def _put(self, parts: list[str], data: bytes, if_absent: bool) -> bool:
        folder = contained_files.open_folder(self._root, parts[:-1], make=True)
        try:
            contained_files.refuse_occupied(folder, parts[-1], "/".join((self._root, *parts)))
            is_put = put_file(data, parts[-1], folder=folder, if_absent=if_absent)
            if is_put:
                contained_files.sync_folder(folder)
            return is_put
        finally:
            os.close(folder)

    def delete(self, key: str) -> None:
        """See `Storage.delete`; a link is removed itself, and folders left empty are."""
        parts = object_parts(key, self._root)
        with self._told("delete", parts):
            try:
                folder = contained_files.open_folder(self._root, parts[:-1])
                try:
                    os.unlink(parts[-1], dir_fd=folder)
                finally:
                    os.close(folder)
            except NotADirectoryError:
                return
            except FileNotFoundError:
                pass
        # A folder that is not empty, or that somebody else removes or fills just now, is none of ours.
        with contextlib.suppress(OSError):
            for depth in range(len(parts) - 1, 0, -1):
                os.rmdir("/".join((self._root, *parts[:depth])))

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Storage.objects`."""
        for name, found in self._found(prefix):
            yield name, found.st_size

    def strangers(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `Storage.strangers`."""
        for name, found in self._found(prefix):
            what = contained_files.describe(found.st_mode, f"{self._root}/{name}")
            if what is not None:
                yield name, what

    def _found(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Everything below a prefix but folders, with its status; what a link points to is not looked at."""
        stack = [prefix_parts(prefix, self._root)]
        while stack:
            parts = stack.pop()
            found: list[tuple[str, os.stat_result]] = []
            with self._listing(parts) as folder:
                if folder is None:
                    continue
                # All names at once: what the caller does meanwhile must not change what is listed.
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            stack.append([*parts, entry.name])
                            continue
                        with contextlib.suppress(FileNotFoundError):  # gone since: the others are there
                            found.append((entry.name, entry.stat(follow_symlinks=False)))
            for name, status in found:
                yield "/".join((*parts, name)), status

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`."""
        with self._listing(prefix_parts(prefix, self._root)) as folder:
            return [] if folder is None else sorted(os.listdir(folder))

    @contextlib.contextmanager
    def _listing(self, parts: list[str]) -> Iterator[int | None]:
        """A folder opened to be listed; None where there is no such folder."""
        with self._told("list", parts):
            try:
                folder = contained_files.open_listed(self._root, parts)
            except (FileNotFoundError, NotADirectoryError):
                folder = None
            try:
                yield folder
            finally:
                if folder is not None:
                    os.close(folder)

    def zarr_store(self) -> ZarrStore:
        """See `Storage.zarr_store`."""
        return _Reader(self)


def _span(wanted: ByteRequest | None, size: int) -> tuple[int, int]:
    """First byte and one past the last of what is asked of an object."""
    match wanted:
        case None:
            return 0, size
        case RangeByteRequest():
            start = min(wanted.start, size)
            return start, max(start, min(wanted.end, size))
        case OffsetByteRequest():
            return min(wanted.offset, size), size
        case SuffixByteRequest():
            return max(0, size - wanted.suffix), size
        case _:
            raise TypeError(f"expected a range of bytes, got {wanted!r}")


def _read_span(file: int, start: int, stop: int) -> bytes:
    """Bytes of an open file, fewer where it ends."""
    data = os.pread(file, max(0, stop - start), start)
    # The kernel moves 2 GB at a time at most, and a signal may end a read early.
    while len(data) < stop - start and (more := os.pread(file, stop - start - len(data), start + len(data))):
        data += more
    return data


def _fill(file: int, size: int, buffers: Sequence[np.ndarray[Any, Any]]) -> int:
    """`LocalStorage.read_into` of an open file."""
    views: list[Any] = [memoryview(cast(Any, b)).cast("B") for b in buffers]
    at = 0
    while views and (n := os.preadv(file, views[:MOST_BUFFERS], at)):  # often once, see `_read_span`
        at += n
        while views and n >= len(views[0]):
            n -= len(views.pop(0))
        if n:
            views[0] = views[0][n:]
    return size


class _Reader(ReadOnlyView, zarr.storage.LocalStore):
    """Zarr's view of a `LocalStorage`: read-only, and nothing through a link."""

    _storage: LocalStorage
    getsize = ZarrStore.getsize  # LocalStore's own looks through links

    def __init__(self, storage: LocalStorage) -> None:
        super().__init__(storage.root, read_only=True)
        self._storage = storage

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `get`."""
        try:
            data = self._storage.read_range(key, byte_range)
        except StoreError as error:
            if isinstance(error.__cause__, IsADirectoryError):
                return None  # Zarr asks, and does not know
            raise
        return None if data is None else (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """The bytes of an object, or a range of them; None where there is no such object.

        Raises:
            StoreError: it cannot be read, or a symbolic link is in the way.
        """
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """`get` of several."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return await self.get(key, byte_range=RangeByteRequest(0, 0)) is not None

    async def list(self) -> AsyncIterator[str]:
        """Names of all objects."""
        for name, _ in self._storage.objects(""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Names of the objects below a folder."""
        for name, _ in self._storage.objects(prefix):
            yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder."""
        for name in self._storage.children(prefix):
            yield name


_MEMORY_ROOTS: dict[str, dict[str, Buffer]] = {}


class MemoryStorage:
    """A named root that lives as long as the process; for tests and for throw-away work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._objects = _MEMORY_ROOTS.setdefault(name, {})

    def __reduce__(self) -> tuple[type[MemoryStorage], tuple[str]]:
        return MemoryStorage, (self.name,)

    @property
    def url(self) -> str:
        """``memory://name``, good within this process only."""
        return f"memory://{self.name}"

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        found = self._objects.get(self._checked(key))
        return None if found is None else found.to_bytes()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Storage.put`."""
        self._checked(key)
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        if if_absent:
            return self._objects.setdefault(key, buffer) is buffer
        self._objects[key] = buffer
        return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._objects.pop(self._checked(key), None)

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Storage.objects`."""
        start = "".join(f"{part}/" for part in prefix_parts(prefix, self.url))
        for key, value in sorted(self._objects.items()):
            if key.startswith(start):
                yield key, len(value)

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`."""
        start = "".join(f"{part}/" for part in prefix_parts(prefix, self.url))
        return sorted({k[len(start) :].split("/")[0] for k in self._objects if k.startswith(start)})

    def strangers(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `Storage.strangers`."""
        prefix_parts(prefix, self.url)
        return iter(())

    def _checked(self, key: str) -> str:
        object_parts(key, self.url)
        return key

    def zarr_store(self) -> ZarrStore:
        """See `Storage.zarr_store`."""
        return zarr.storage.MemoryStore(self._objects, read_only=True)
