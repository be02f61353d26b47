"""Which rows are meant: positions and masks as NumPy reads them, and nothing that only looks like one."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from featurestore.arrays import IntArray


def as_positions(rows: Any, n: int) -> IntArray:
    """Positions from 0 of the rows meant, int64 `[k]`, in the order asked for.

    Args:
        rows: a slice; positions, of which negative ones count from the end; or a boolean mask `[n]`.
        n: rows there are.

    Raises:
        IndexError: a mask of another length, a position that is out of range or no whole number.
    """
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    given = np.asarray(rows)
    if given.dtype == bool:
        if given.shape != (n,):
            length = len(given) if given.ndim == 1 else f"shape {given.shape}"
            raise IndexError(f"expected a mask of {n} rows, got one of {length}")
        return np.flatnonzero(given)
    if given.size == 0:
        return np.zeros(0, dtype=np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise IndexError(
            f"expected positions (whole numbers `[k]`) or a mask of {n} rows, got {given.dtype} of shape "
            f"{given.shape}"
        )
    # Before the cast, which would turn the largest of unsigned numbers into -1.
    outside = (given >= n) | (given < -n)
    if outside.any():
        raise IndexError(f"position {given[outside][0]} is out of range, there are {n} rows")
    positions = given.astype(np.int64)
    return np.where(positions < 0, positions + n, positions)


def as_position(row: Any, n: int) -> int:
    """One position from 0; a negative one counts from the end.

    Raises:
        IndexError: it is out of range, or no whole number; True and False are none.
    """
    # A mask of one row would pass for a number too.
    if isinstance(row, bool | np.bool_) or np.ndim(row) != 0:
        raise IndexError(f"expected one position of {n} rows, got {row!r}")
    try:
        position = operator.index(row)
    except TypeError:
        raise IndexError(f"expected one position of {n} rows, got {row!r}") from None
    if not -n <= position < n:
        raise IndexError(f"position {position} is out of range, there are {n} rows")
    return position % n
