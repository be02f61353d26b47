"""Where a command puts what it makes for people: looked at before the work, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurestore.errors import ConfigError, StoreError

_REMOTE = ("s3", "gs", "az")
# What the root, every group and every array of a Zarr store has.
_ZARR_NAME = "zarr.json"


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


def put_file(data: bytes, path: Path) -> None:
    """Write a file that appears whole or not at all, and is on disk when this returns.

    Raises:
        OSError: it could not be written; what was there before still is. See `writing`.
    """
    # Hidden until whole: names with a leading dot are read by nothing.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        # Made by the system with the permissions that the user's umask leaves, which nobody has to ask for.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_place(out: Path) -> None:
    if str(out).split(":")[0] in _REMOTE:
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
