"""Nearest rows of other groups: by cosine of standardised rows, the same recording and copies left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurestore.arrays import FloatArray, IntArray
from featurestore.duplicates.near_embeddings import cosine_blocks, unit_rows

# Below every cosine: what may be no neighbour.
NONE = -2.0


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Neighbours of rows, nearest first.

    Attributes:
        position: Of each row's neighbours `[n, k]`; -1 where it has fewer.
        cosine: Of each `[n, k]`; NaN where there is none.
    """

    position: IntArray
    cosine: FloatArray

    @property
    def there(self) -> np.ndarray:
        """Where there is a neighbour, bool `[n, k]`."""
        there: np.ndarray = self.position >= 0
        return there


def standardised(x: FloatArray) -> FloatArray:
    """Every feature to mean 0 and standard deviation 1 over the rows `[n, d]`; constant ones to 0."""
    from sklearn.preprocessing import StandardScaler

    out: FloatArray = StandardScaler().fit_transform(x).astype(np.float32, copy=False)
    return out


def nearest_of_other_groups(z: FloatArray, barriers: list[IntArray], k: int) -> Nearest:
    """The k rows nearest to each among those that share no code with it.

    Args:
        z: Rows `[n, d]`, compared by cosine.
        barriers: Codes `[n]`: rows with the same code in one of them are no neighbours;
            see `probes.codes.group_codes`.
        k: Neighbours of each.
    """
    unit, n = unit_rows(z), len(z)
    k = min(k, n - 1)
    position = np.full((n, k), -1, dtype=np.int64)
    cosine = np.full((n, k), np.nan, dtype=np.float32)
    for block, similar in cosine_blocks(unit, np.arange(n)):
        for codes in barriers:
            similar[codes[block, None] == codes[None, :]] = NONE
        found = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        value = np.take_along_axis(similar, found, axis=1)
        order = np.lexsort((found, -value), axis=1)
        found = np.take_along_axis(found, order, axis=1)
        value = np.take_along_axis(value, order, axis=1)
        there = value > NONE
        position[block] = np.where(there, found, -1)
        cosine[block] = np.where(there, value, np.nan)
    return Nearest(position=position, cosine=cosine)
