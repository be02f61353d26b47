"""Arrays that may outgrow memory, or that another process made: in files without a name, which vanish."""

from __future__ import annotations

import math
import mmap
import os
import tempfile

import numpy as np

from featurestore.arrays import FloatArray

IN_MEMORY_BYTES = 256 * 1024 * 1024
_PREFIX = "featurestore-"


def scratch(shape: tuple[int, ...], *, in_memory_bytes: int = IN_MEMORY_BYTES) -> np.ndarray:
    """A float32 array of zeros; beyond `in_memory_bytes` a file in `tempfile.gettempdir()`.

    Raises:
        OSError: the disk has no room for it.
    """
    n_bytes = 4 * math.prod(shape)
    if n_bytes <= in_memory_bytes:
        return np.zeros(shape, dtype=np.float32)
    with tempfile.TemporaryFile(prefix=_PREFIX) as file:
        _make_room(file.fileno(), n_bytes)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def nameless(n_bytes: int, *, in_memory_bytes: int = IN_MEMORY_BYTES) -> int:
    """A descriptor of so many zeros that `mapped` makes an array of, in every process that is sent it.

    They are in memory up to `in_memory_bytes`, where the system has files without a name there, else in a
    file in `tempfile.gettempdir()`. Nothing is left behind however a process ends: they are gone with the
    last process that holds them.

    Raises:
        OSError: the disk has no room for it.
    """
    if n_bytes <= in_memory_bytes and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(_PREFIX)
        os.ftruncate(descriptor, n_bytes)
        return descriptor
    with tempfile.TemporaryFile(prefix=_PREFIX) as file:
        _make_room(file.fileno(), n_bytes)
        return os.dup(file.fileno())


def mapped(descriptor: int) -> FloatArray:
    """All of a `nameless` file as a float32 array `[n]`; the descriptor may be closed."""
    n_bytes = os.fstat(descriptor).st_size
    return np.frombuffer(mmap.mmap(descriptor, n_bytes), dtype=np.float32)


def _make_room(descriptor: int, n_bytes: int) -> None:
    # Now: on a full disk a write into mapped memory would kill the process.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:  # macOS
        os.ftruncate(descriptor, n_bytes)
