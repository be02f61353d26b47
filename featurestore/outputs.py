"""Where a command puts what it makes for people: looked at before the work, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featurestore.errors import ConfigError, StoreError

REMOTE_SCHEMES = ("s3", "gs", "az")
# What the root, every group and every array of a Zarr store has.
_ZARR_NAME = "zarr.json"
PARTIAL_SUFFIX = ".partial"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_folder(out: Path) -> None:
    """Refuse a folder that results, a report or a probe cannot go into, before anything is computed.

    Raises:
        ConfigError: no name, a URL, a file, or a place inside a feature store.
        StoreError: it cannot be made, or not be written.
    """
    _check_place(out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, this is a file; choose another")
    _check_writable(out)


def check_file(out: Path) -> None:
    """`check_folder` for a file: its folder has to be one that can be written.

    Raises:
        ConfigError: no name, a URL, a folder, or a place inside a feature store.
        StoreError: its folder cannot be made, or not be written.
    """
    _check_place(out)
    if out.is_dir():
        raise ConfigError(f"--out {out}: expected a file, this is a folder; add a name")
    _check_writable(out.parent)


def require_replaceable(path: Path, mark: bytes | None, what: str) -> None:
    """Refuse to write over a file that is none of ours.

    Args:
        path: where a command is about to write.
        mark: what every file of ours of this kind contains; None: nothing tells it apart.
        what: what it would be, in the message.

    Raises:
        ConfigError: there is something else.
        StoreError: what there is cannot be read.
    """
    if not os.path.lexists(path):
        return
    try:
        ours = path.is_file() and mark is not None and mark in path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); choose another --out") from error
    if not ours:
        raise ConfigError(f"{path}: this is no {what} of ours and would be lost; choose another --out")


def make_folder(out: Path, what: str) -> None:
    """Make a folder, and make sure that it can be written.

    Raises:
        StoreError: it cannot; `what` was to be put there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise StoreError(
            f"{out}: cannot write {what} here ({error.strerror}); choose another --out"
        ) from error


def columns_there(path: Path) -> list[str]:
    """Columns of a CSV or Parquet table that a command is about to replace; empty where it is no table."""
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            return [str(name) for name in pq.read_schema(path).names]
        return list(map(str, pd.read_csv(path, nrows=0).columns))
    except (OSError, ValueError):
        return []


@contextmanager
def writing(place: Path, advice: str) -> Iterator[None]:
    """Turn what a full or broken disk raises into one line.

    Args:
        place: What is written.
        advice: How to go on: the end of the message.

    Raises:
        StoreError: instead of any other `OSError`.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{place}: cannot be written ({reason}); {advice}") from error


def _hidden_name(name: str) -> str:
    """A name beside this one for what is not whole yet: with a leading dot it is read by nothing."""
    return f".{name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}"


def put_file(
    data: bytes, path: str | os.PathLike[str], *, folder: int | None = None, if_absent: bool = False
) -> bool:
    """Write a file that appears whole or not at all, and is on disk when this returns.

    Args:
        data: all of it.
        path: where; what is there is replaced.
        folder: descriptor of the folder that `path` is relative to.
        if_absent: write nothing, and return False, where there is something.

    Raises:
        OSError: it could not be written; what was there before still is. See `writing`.
    """
    parent, name = os.path.split(path)
    temporary = os.path.join(parent, _hidden_name(name))
    try:
        # Made by the system with the permissions that the user's umask leaves, which nobody has to ask for.
        with open(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not if_absent:
            os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
            return True
        try:
            # link() fails where the name exists, on every POSIX file system, NFS included.
            os.link(temporary, path, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False  # at that moment: it may be gone again by now
        return True
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)


@contextmanager
def written_whole(path: Path, *, replace: Callable[[Path, Path], object] = os.replace) -> Iterator[Path]:
    """`put_file` for what writes to a path: a hidden place that takes the name `path` when all is on disk.

    Args:
        path: of a file, or of a folder of files.
        replace: gives what stands at its first argument the name of its second.
    """
    partial = path.with_name(_hidden_name(path.name))
    try:
        yield partial
        for file in files_in(partial):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        replace(partial, path)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise


def files_in(path: Path) -> list[Path]:
    """All files below a folder; a file itself."""
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def _check_place(out: Path) -> None:
    if str(out).split(":")[0] in REMOTE_SCHEMES:
        raise ConfigError(f"--out {out}: expected a place on this machine; only stores can be remote")
    if out == Path():
        raise ConfigError("--out: expected a name, got an empty one or the folder you are in; choose another")
    full = out.resolve()
    for folder in (full, *full.parents):
        if (folder / _ZARR_NAME).is_file():
            raise ConfigError(f"--out {out}: this is in the feature store {folder}; choose another place")


def _check_writable(folder: Path) -> None:
    """Try it where the folder would be made; nothing is left behind."""
    there = next((f for f in (folder, *folder.parents) if f.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"--out {folder}: cannot be written ({reason}); choose another place") from error
