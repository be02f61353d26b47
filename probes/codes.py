"""Values as whole numbers: what a missing one is has one meaning everywhere.

Classes, folds and groups that are counted are never missing: `codes` refuses that. Where groups only keep
rows apart or together, a row without one is a group of its own: `group_codes`, `group_names`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import IntArray, TextArray
from featurestore.errors import ConfigError

# In front of an utterance id that stands for a group. Names of groups come from cells, which hold no NUL.
_ALONE = "\0"


def codes(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], IntArray]:
    """Distinct values in sorted order `[C]`, and the position of each value among them `[n]`.

    Raises:
        ConfigError: A value is missing (None, NaN or an empty text), or there are both texts and numbers.
    """
    # pandas hashes, which is ten times faster than sorting a million texts.
    import pandas as pd

    position, found = pd.factorize(values)
    names = np.asarray(found)
    missing = position < 0
    if names.dtype.kind == "O" and (empty := np.flatnonzero(names == "")).size:
        missing |= position == empty[0]
    if missing.any():
        raise ConfigError(
            f"expected a value in every row, {int(missing.sum())} of {len(values)} have none, the first at "
            f"{int(np.flatnonzero(missing)[0])}"
        )
    try:
        order = np.argsort(names, kind="stable")
    except TypeError:
        raise ConfigError("expected texts only or numbers only in an array; got both") from None
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return names[order], place[position]


def group_codes(group: TextArray) -> IntArray:
    """A number for each group `[n]`, the same for the same; a row without one ("") has its own."""
    return codes(group_names(group, np.arange(len(group)).astype(str).astype(object)))[1]


def group_names(group: TextArray, utterance_id: TextArray) -> TextArray:
    """The group of each row `[n]`; that of a row without one ("") is its utterance, and like no other's.

    Rows of one utterance, such as those of two draws of a split, stay together.
    """
    alone = group == ""
    if not alone.any():
        return group
    out = group.copy()
    out[alone] = [_ALONE + str(name) for name in utterance_id[alone]]
    return out
