"""What a row points to, and what its file looks like: light to import, since every decoder process does."""

from __future__ import annotations

import os
from collections.abc import Sequence

from featurestore.archives.names import file_of
from featurestore.archives.object_file import is_object, look_at, look_at_all

# Of a file whose size and time nobody knows.
UNKNOWN = -1

# Path, start and end in seconds (NaN: the start and end of the file), channel (None: the mean of all).
Location = tuple[str, float, float, int | None]


def stamp_of(path: str) -> tuple[int, int]:
    """Size and modification time of a file, an object or an archive; `UNKNOWN` twice where nobody can tell.

    An archive in a bucket, which thousands of clips lie in, is asked for once a minute.

    Raises:
        AudioUnreachable: an object's service does not answer.
    """
    file = file_of(path)
    try:
        if is_object(file):
            look = look_at(file, anew=file == path)
            return look.n_bytes, look.mtime_ns
        status = os.stat(file)
    except (OSError, ValueError):
        return UNKNOWN, UNKNOWN
    return status.st_size, status.st_mtime_ns


def stamps_of(paths: Sequence[str]) -> list[tuple[int, int]]:
    """`stamp_of` of each; objects in buckets are asked for side by side, each once."""
    objects = look_at_all(file_of(path) for path in paths if is_object(path))
    looks = {
        path: (UNKNOWN, UNKNOWN) if o is None else (o.n_bytes, o.mtime_ns) for path, o in objects.items()
    }
    return [looks[file_of(path)] if is_object(path) else stamp_of(path) for path in paths]
