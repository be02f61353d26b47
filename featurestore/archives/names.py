"""How a manifest names a member of an archive: ``clips.tar::a/b.wav``, ``train.parquet::audio[17]``.

A column of Parquet that holds samples and no files has no rate: it stands behind, ``audio@16000[17]``.

The first ``::`` behind a name that ends as archives do parts the two. All other names that hold ``::`` are
names of files, so that ``a::b.wav`` is one.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Literal

MARK = "::"
NO_MEMBER_NAME = "is no name of a member: it is empty, absolute, or leads out of the archive"
Kind = Literal["tar", "zip", "parquet", "compressed tar"]
_COMPRESSED = r"\.tar\.(?:gz|bz2|xz|zst|lz4|lzma|Z)|\.(?:tgz|tbz2?|txz|tzst)"
_MEMBER = re.compile(rf"(.+?(?:\.tar|\.zip|\.parquet|{_COMPRESSED}))::(.*)", re.IGNORECASE | re.DOTALL)
_IS_COMPRESSED = re.compile(rf".*(?:{_COMPRESSED})", re.IGNORECASE | re.DOTALL)
# Column and row, counted from 0.
_CELL = re.compile(r"(.+)\[([0-9]{1,18})\]", re.DOTALL)
_RATED = re.compile(r"(.+)@([1-9][0-9]{0,7})", re.DOTALL)


def split_member(path: str) -> tuple[str, str] | None:
    """Archive and member; None for the name of a file.

    >>> split_member("shards/clips.tar::a/b.wav"), split_member("odd::name.wav")
    (('shards/clips.tar', 'a/b.wav'), None)
    """
    if MARK not in path:
        return None
    found = _MEMBER.fullmatch(path)
    return None if found is None else (found[1], found[2])


def member_path(archive: str, member: str) -> str:
    """Inverse of `split_member`."""
    return f"{archive}{MARK}{member}"


def cell_member(column: str, row: int) -> str:
    """The member of a Parquet file that stands in a column, in a row counted from 0.

    >>> cell_member("audio", 17)
    'audio[17]'
    """
    return f"{column}[{row}]"


def split_cell(member: str) -> tuple[str, int] | None:
    """Inverse of `cell_member`; None where it is none."""
    found = _CELL.fullmatch(member)
    return None if found is None else (found[1], int(found[2]))


def rated_column(column: str, sample_rate_hz: int) -> str:
    """The name of a column of samples, with their rate in Hz."""
    return f"{column}@{sample_rate_hz}"


def split_rate(column: str) -> tuple[str, int] | None:
    """Inverse of `rated_column`; None where no rate is named.

    >>> split_rate("audio@16000"), split_rate("audio")
    (('audio', 16000), None)
    """
    found = _RATED.fullmatch(column)
    return None if found is None else (found[1], int(found[2]))


def kind_of(archive: str) -> Kind | None:
    """What a file is by the end of its name; None where it is no archive."""
    low = archive.lower()
    if low.endswith(".tar"):
        return "tar"
    if low.endswith(".zip"):
        return "zip"
    if low.endswith(".parquet"):
        return "parquet"
    return "compressed tar" if _IS_COMPRESSED.fullmatch(archive) else None


def file_of(path: str) -> str:
    """The file that holds the audio of a path: the archive, or the path itself."""
    parts = split_member(path)
    return path if parts is None else parts[0]


def file_name(path: str) -> str:
    """What is left of a path without the folders that its file lies in."""
    parts = split_member(path)
    return os.path.basename(path) if parts is None else member_path(os.path.basename(parts[0]), parts[1])


def sound_name(path: str) -> str:
    """The name of the recording: of the file, or of the member, without folders."""
    parts = split_member(path)
    return os.path.basename(path) if parts is None else posixpath.basename(parts[1])


def plain_member(name: str) -> str:
    """A member's name without ``./`` in it; "" where it is empty, absolute, or leads out of the archive.

    >>> plain_member("./a//b.wav"), plain_member("../b.wav"), plain_member("/b.wav")
    ('a/b.wav', '', '')
    """
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        return ""
    plain = posixpath.normpath(name)
    return "" if plain == "." else plain


def reading_order(path: str) -> tuple[str, int, str]:
    """What paths are sorted by to be read as they lie: rows of Parquet by number, all else by name."""
    parts = split_member(path)
    if parts is None:
        return path, 0, ""
    cell = split_cell(parts[1]) if kind_of(parts[0]) == "parquet" else None
    return (parts[0], 0, parts[1]) if cell is None else (parts[0], cell[1], cell[0])
