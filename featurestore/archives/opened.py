"""Audio by its path, whether it is a file, an object in a bucket, or a member of an archive."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, cast

from featurestore.archives.interface import Archive, ArchiveError, ArchivePlace, LocalPlace, failed
from featurestore.archives.kept_bytes import Kept
from featurestore.archives.names import NO_MEMBER_NAME, file_of, kind_of, plain_member, split_member
from featurestore.archives.object_archive import ObjectPlace
from featurestore.archives.object_file import ObjectFile, is_object, look_at, look_at_all
from featurestore.archives.parquet_file import ParquetArchive
from featurestore.archives.tar_file import UNPACK, TarArchive
from featurestore.archives.zip_file import ZipArchive

# Of tables of contents, which a process keeps by their files' names, sizes and times: some 500 MB.
_MOST_ENTRIES = 2_000_000
_ARCHIVES: Kept[Archive] = Kept(_MOST_ENTRIES)


def open_archive(path: str) -> Archive:
    """An archive by the name of its file; read once as long as that stays as it is.

    Raises:
        ArchiveError: it cannot be read, in a clause.
        AudioUnreachable: it lies in a bucket, whose service does not answer.
    """
    place: ArchivePlace
    try:
        if is_object(path):
            look = look_at(path, anew=False)
            stamp, version, place = (look.n_bytes, look.mtime_ns), look.e_tag, ObjectPlace(path, look)
        else:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise ArchiveError("is no regular file")
            stamp, version = (status.st_size, status.st_mtime_ns), ""
            place = LocalPlace(path, stamp)
    except FileNotFoundError:
        raise ArchiveError("is not there") from None
    except ArchiveError:
        raise
    except (OSError, ValueError) as error:
        raise failed("cannot be opened ({})", error) from None

    def read() -> tuple[Archive, int]:
        archive = _read(path, stamp, place)
        return archive, archive.n_entries

    return _ARCHIVES.get((path, *stamp, version), read)


def _read(path: str, stamp: tuple[int, int], place: ArchivePlace) -> Archive:
    kind = kind_of(path)
    try:
        if kind == "tar":
            return TarArchive(place)
        if kind == "zip":
            return ZipArchive(place)
        if kind == "parquet":
            return ParquetArchive(path, stamp, place)
    except ArchiveError:
        raise
    except OSError as error:
        raise failed("cannot be opened ({})", error) from None
    if kind == "compressed tar":
        raise ArchiveError(
            f"is compressed as a whole, so that members cannot be read where they lie; {UNPACK}"
        )
    raise ArchiveError("is none; expected a name ending in .tar, .zip or .parquet")


def open_bytes(path: str) -> BinaryIO:
    """A file, an object in a bucket, or a member of an archive, to be read from anywhere in it.

    Raises:
        ArchiveError: of a member: why it cannot be read.
        OSError: of a file.
        AudioUnreachable: it lies in a bucket, whose service does not answer.
    """
    parts = split_member(path)
    if parts is None and is_object(path):
        return cast("BinaryIO", ObjectFile(path))
    if parts is None:
        return open(path, "rb", buffering=1 << 18)
    problem = member_problem(path)
    if problem:
        raise ArchiveError(problem)
    return open_archive(parts[0]).open(plain_member(parts[1]))


def member_problem(path: str) -> str:
    """Why a member of an archive is not there, in a clause that begins with its archive; "" where it is."""
    parts = split_member(path)
    if parts is None:
        return ""
    name = plain_member(parts[1])
    if not name:
        return NO_MEMBER_NAME
    try:
        return open_archive(parts[0]).problem(name)
    except ArchiveError as error:
        return f"its archive {error}"


def is_there(path: str) -> bool:
    """Whether a path names a regular file, an object in a bucket, or a member of an archive."""
    if is_object(path):
        return look_at_all([file_of(path)])[file_of(path)] is not None and not member_problem(path)
    return os.path.isfile(file_of(path)) and not member_problem(path)
