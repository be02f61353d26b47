"""Arrays that may outgrow memory: beyond a size they live in a file that vanishes with them."""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np

IN_MEMORY_BYTES = 256 * 1024 * 1024


def scratch(shape: tuple[int, ...], *, in_memory_bytes: int = IN_MEMORY_BYTES) -> np.ndarray:
    """A float32 array of zeros; beyond `in_memory_bytes` a file in `tempfile.gettempdir()`.

    Raises:
        OSError: the disk has no room for it.
    """
    n_bytes = 4 * math.prod(shape)
    if n_bytes <= in_memory_bytes:
        return np.zeros(shape, dtype=np.float32)
    with tempfile.TemporaryFile(prefix="featurestore-") as file:
        # Room first: on a full disk a write into mapped memory would kill the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:  # macOS
            file.truncate(n_bytes)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
