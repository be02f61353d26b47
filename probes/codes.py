"""Values as whole numbers: what a missing one is has one meaning everywhere.

Classes, folds and groups that are counted are never missing: `codes` refuses that. Where groups only keep
rows apart or together, a row without one is a group of its own: `group_codes`, `group_names`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import IntArray, TextArray
from featurestore.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

# In front of an utterance id that stands for a group. No text has this character, which Unicode keeps for
# uses like this one; not NUL, at which pandas before 3.1 ends a text when it compares.
ALONE = "\uffff"


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
    out[alone] = [ALONE + str(name) for name in utterance_id[alone]]
    return out


class TextCodes:
    """Texts of one kind of column, as codes that mean the same in all tables."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self._last: tuple[pd.Index, IntArray] | None = None
        self._texts: TextArray = np.empty(0, dtype=object)

    def __len__(self) -> int:
        return len(self._code)

    def codes(self, column: pd.Series) -> IntArray:
        """Codes of a column of categories `[n]`."""
        categories = column.cat.categories
        # Equal categories are nearly always the very same.
        if self._last is None or not (self._last[0] is categories or self._last[0].equals(categories)):
            code = self._code
            known = np.array([code.setdefault(str(text), len(code)) for text in categories], dtype=np.int64)
            self._last = categories, known
        return self._last[1][column.cat.codes.to_numpy()]

    def code(self, text: str) -> int | None:
        """The code of a text; None where it has none."""
        return self._code.get(text)

    def texts(self) -> TextArray:
        """The text of each code, which stays it."""
        if len(self._texts) < len(self._code):
            self._texts = np.array(list(self._code), dtype=object)
        return self._texts
