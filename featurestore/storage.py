"""Objects under a root: the few operations the store needs, on a folder or in memory.

Every object is written whole, by one atomic `put`: a reader sees the old bytes or the new ones, never a
part. Zarr reads the same objects through `zarr_store`. Remote roots are in `featurestore.remote`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import zarr.storage
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, default_buffer_prototype

from featurestore.errors import StoreError

PARTIAL_SUFFIX = ".partial"
FOLDER_TRIES = 20
REMOTE_SCHEMES = ("s3", "gs", "az")


class Storage(Protocol):
    """What every kind of root can do. Keys are ``/``-separated paths below the root."""

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

    def zarr_store(self) -> ZarrStore:
        """The same root as a read-only Zarr store."""


def open_storage(url: str | os.PathLike[str]) -> Storage:
    """Open a root by path or URL (``memory://name``; ``s3://…``, ``gs://…``, ``az://…``).

    Raises:
        StoreError: the scheme is unknown, or a remote root cannot be reached.
    """
    text = os.fspath(url)
    scheme, separator, rest = text.partition("://")
    if not separator:
        if text.split(":")[0] in REMOTE_SCHEMES and ":" in text:
            from featurestore.remote_settings import parse_url

            name, _, path = text.partition(":")
            meant = parse_url(f"{name}://{path.lstrip('/')}").url  # which refuses one with a secret in it
            raise StoreError(f"{text}: expected {meant}, with two slashes")
        return LocalStorage(Path(text))
    if scheme == "file":
        return LocalStorage(Path(rest))
    if scheme == "memory":
        return MemoryStorage(rest)
    if scheme in REMOTE_SCHEMES:
        from featurestore.remote import open_remote

        return open_remote(text)
    from featurestore.remote_settings import hide_credentials

    shown = hide_credentials(text)
    raise StoreError(f"{shown}: unknown kind of store {scheme!r}; give a folder, s3://, gs:// or az://")


class LocalStorage:
    """A folder on a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self.root)

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.root / key))
        if not path.is_relative_to(self.root):
            raise StoreError(f"{key!r} would lie outside the store {self.root}; refused")
        return path

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self._path(key)}: {error.strerror}") from error

    def read_into(self, key: str, buffers: Sequence[np.ndarray[Any, Any]]) -> int | None:
        """Read an object straight into buffers, one after the other.

        Args:
            key: the object.
            buffers: contiguous writable arrays, filled in order.

        Returns:
            The object's size in bytes, which may differ from that of the buffers; None where there is
            no such object.
        """
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                views: list[Any] = [memoryview(cast(Any, b)).cast("B") for b in buffers]
                got = os.preadv(file.fileno(), views, 0)
                wanted = sum(b.nbytes for b in buffers)
                # The kernel moves 2 GB at a time at most, and a signal may end a read early.
                while got < wanted:
                    rest, skip = [], got
                    for view in views:
                        if skip < len(view):
                            rest.append(view[skip:])
                        skip = max(0, skip - len(view))
                    more = os.preadv(file.fileno(), rest, got)
                    if not more:
                        break
                    got += more
                return os.fstat(file.fileno()).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self._path(key)}: {error.strerror}") from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Storage.put`; temporary file, fsync, rename, fsync of the folder."""
        path = self._path(key)
        try:
            for _ in range(FOLDER_TRIES):
                # Another process removes folders that are empty, and may have taken the temporary file for
                # that of a killed writer.
                with contextlib.suppress(FileNotFoundError):
                    return self._put(path, data, if_absent)
            return self._put(path, data, if_absent)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(f"cannot write {path}: a file stands where a folder is needed") from None
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror}; nothing stored before is lost, "
                "mend it and run the same command again"
            ) from error

    def _put(self, path: Path, data: bytes, if_absent: bool) -> bool:
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if if_absent:
                try:
                    # link() fails where the name exists, on every POSIX file system, NFS included.
                    os.link(temporary, path)
                except FileExistsError:
                    return False  # at that moment: it may be gone again by now
            else:
                temporary.replace(path)
        finally:
            with contextlib.suppress(NotADirectoryError):
                temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`; folders left empty are removed."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise StoreError(f"cannot delete {path}: {error.strerror}") from error
        # A folder that is not empty, or that somebody else removes or fills just now, is none of ours.
        with contextlib.suppress(OSError):
            parent = path.parent
            while parent != self.root and parent.is_relative_to(self.root):
                parent.rmdir()
                parent = parent.parent

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Storage.objects`."""
        stack = [self._path(prefix)]
        while stack:
            folder = stack.pop()
            try:
                # All names at once: what the caller does meanwhile must not change what is listed.
                with os.scandir(folder) as entries:
                    found = list(entries)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise StoreError(f"cannot list {folder}: {error.strerror}") from error
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                    continue
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # gone since: the others are there
                except OSError as error:
                    raise StoreError(f"cannot list {folder}: {error.strerror}") from error
                yield Path(entry.path).relative_to(self.root).as_posix(), size

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`."""
        folder = self._path(prefix)
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"cannot list {folder}: {error.strerror}") from error

    def zarr_store(self) -> ZarrStore:
        """See `Storage.zarr_store`."""
        return zarr.storage.LocalStore(self.root, read_only=True)


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once its folder is on disk. Some network file systems refuse to open a
    # folder for this; they order metadata themselves.
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


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
        found = self._objects.get(key)
        return None if found is None else found.to_bytes()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Storage.put`."""
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        if if_absent:
            return self._objects.setdefault(key, buffer) is buffer
        self._objects[key] = buffer
        return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._objects.pop(key, None)

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Storage.objects`."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for key, value in sorted(self._objects.items()):
            if key.startswith(start):
                yield key, len(value)

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        return sorted({k[len(start) :].split("/")[0] for k in self._objects if k.startswith(start)})

    def zarr_store(self) -> ZarrStore:
        """See `Storage.zarr_store`."""
        return zarr.storage.MemoryStore(self._objects, read_only=True)
