"""What a row points to, and what its file looks like: light to import, since every decoder process does."""

from __future__ import annotations

import os

from featurestore.archives.names import file_of

# Of a file whose size and time nobody knows.
UNKNOWN = -1

# Path, start and end in seconds (NaN: the start and end of the file), channel (None: the mean of all).
Location = tuple[str, float, float, int | None]


def stamp_of(path: str) -> tuple[int, int]:
    """Size and modification time of a file, or of an archive; `UNKNOWN` twice where nobody can tell."""
    try:
        status = os.stat(file_of(path))
    except (OSError, ValueError):
        return UNKNOWN, UNKNOWN
    return status.st_size, status.st_mtime_ns
