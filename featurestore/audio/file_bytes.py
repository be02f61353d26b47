"""Bytes of an open file, which may be a member of an archive and have no descriptor."""

from __future__ import annotations

import os
from typing import BinaryIO


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file; its place stays."""
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    return size


def read_at(file: BinaryIO | int, n_bytes: int, at: int) -> bytes:
    """Up to so many bytes from a place of a file, which is open or a descriptor."""
    if isinstance(file, int):
        return os.pread(file, n_bytes, at)
    file.seek(at)
    return file.read(n_bytes)
