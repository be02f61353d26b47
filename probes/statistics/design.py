"""The rows that were tested: their classes and the groups they come in, checked and coded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import BoolArray, Float64Array, IntArray
from featurestore.errors import ConfigError
from probes.codes import codes
from probes.statistics.number_metrics import number_rows

_TEXT, _NUMBER = "text", "numbers"


@dataclass(frozen=True, eq=False)
class Design:
    """Which row is of which class and group.

    Attributes:
        classes: Names of the classes that occur in the target, sorted `[C]`.
        positive: Whether a row is of a class, bool `[n, C]`; one class a row unless the target is a matrix.
        label: Position of each row's class in `classes`, int64 `[n]`; None where rows may have several.
        group: Position of each row's group, int64 `[n]`, 0 … G-1.
        counts: Rows of each class in each group, float64 `[G, C]`.
        rows: Rows of each group, float64 `[G]`.
        number: Target of each row, float64 `[n]`, where these are numbers; all rows are one class then.
    """

    classes: npt.NDArray[Any]
    positive: BoolArray
    label: IntArray | None
    group: IntArray
    counts: Float64Array
    rows: Float64Array
    number: Float64Array | None = None

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.group)

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class CodedLabels:
    """Predicted classes as positions among their names, where few names were predicted millions of times.

    Attributes:
        codes: Position of each prediction in `names`, whole numbers `[S, n]`.
        names: Names of classes, texts or numbers `[K]`; they may be more than were predicted.
    """

    codes: npt.NDArray[Any]
    names: npt.NDArray[Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The names `[S, n]`, as NumPy asks for them."""
        return np.asarray(self.names[self.codes], dtype=dtype)


def make_design(target: npt.ArrayLike, group: npt.ArrayLike | None, classes: Any = None) -> Design:
    """Code classes and groups of the rows.

    Args:
        target: Class of each row `[n]`, texts or numbers; or a 0/1 matrix `[n, C]` where rows have several.
        group: Group of each row `[n]`; None: every row is a group of its own.
        classes: Names of the columns of a matrix, or of all classes that scores are given for `[C]`.

    Raises:
        ConfigError: No rows, missing values, unequal lengths.
    """
    y = as_array(target)
    if y.ndim not in (1, 2) or len(y) == 0:
        raise ConfigError(
            f"target: expected one class a row [n], or 0/1 for each class [n, C]; got {y.shape}"
        )
    check_present("target", y)
    label: IntArray | None = None
    if y.ndim == 2:
        positive = _zero_one(y)
        names = np.arange(y.shape[1]) if classes is None else np.asarray(classes)
    elif classes is None:
        names, label = codes(y)
        positive = label[:, None] == np.arange(len(names))
    else:
        names = np.asarray(classes)
        positive = y[:, None] == names
        label = positive.argmax(axis=1).astype(np.int64)
        if not positive.any(axis=1).all():
            row = int(np.flatnonzero(~positive.any(axis=1))[0])
            raise ConfigError(f"target: row {row} is of class {str(y[row])!r}, not one of the classes given")
    if names.shape != positive.shape[1:]:
        raise ConfigError(f"classes: expected {positive.shape[1]} names, one a column; got {names.shape}")
    group_of = _groups(group, len(y))
    n_groups = int(group_of.max()) + 1
    rows = np.bincount(group_of, minlength=n_groups).astype(np.float64)
    return Design(names, positive, label, group_of, _counts(positive, label, group_of, n_groups), rows)


def number_design(target: npt.ArrayLike, group: npt.ArrayLike | None) -> Design:
    """Code the groups of rows whose targets are numbers `[n]`; arguments as `make_design`'s.

    Raises:
        ConfigError: No rows, no finite numbers, unequal lengths.
    """
    y = number_rows(target)
    if y.ndim != 1 or len(y) == 0:
        raise ConfigError(f"target: expected one number a row [n]; got {y.shape}")
    group_of = _groups(group, len(y))
    rows = np.bincount(group_of).astype(np.float64)
    one, label = np.ones((len(y), 1), dtype=bool), np.zeros(len(y), dtype=np.int64)
    return Design(np.array(["all rows"]), one, label, group_of, rows[:, None], rows, number=y)


def label_rows(design: Design, prediction: npt.ArrayLike, what: str = "prediction") -> IntArray:
    """Predicted classes as positions in the design's, int64 `[S, n]`; -1 where no target has that class.

    Args:
        design: The rows, of one class each.
        prediction: One class a row `[n]`, or one for each seed and row `[S, n]`.
        what: Names the argument in messages.

    Raises:
        ConfigError: Unequal lengths, missing values, texts for numbers.
    """
    if isinstance(prediction, CodedLabels):
        return _recoded(design, prediction, what)
    guess = as_array(prediction)
    if guess.ndim == 1:
        guess = guess[None]
    if guess.ndim != 2 or guess.shape[1] != design.n_rows or len(guess) == 0:
        raise ConfigError(
            f"{what}: expected {design.n_rows} rows as in target, [n] or [seeds, n]; "
            f"got shape {np.shape(prediction)}"
        )
    check_present(what, guess)
    if _kind(guess) != _kind(design.classes):
        raise ConfigError(
            f"{what}: expected {_kind(design.classes)} as in target, got {_kind(guess)} such as "
            f"{str(guess[0, 0])!r}"
        )
    unique, where = codes(guess.ravel())
    return _places(design, unique)[where].reshape(guess.shape)


def _recoded(design: Design, prediction: CodedLabels, what: str) -> IntArray:
    """`label_rows` of labels that are codes already."""
    codes, names = prediction.codes, prediction.names
    if codes.ndim != 2 or codes.shape[1] != design.n_rows or len(codes) == 0:
        raise ConfigError(f"{what}: expected {design.n_rows} rows as in target, got shape {codes.shape}")
    check_present(what, names)
    if _kind(names) != _kind(design.classes):
        raise ConfigError(f"{what}: expected {_kind(design.classes)} as in target, got {_kind(names)}")
    return np.asarray(_places(design, names)[codes], dtype=np.int64)


def _places(design: Design, names: npt.NDArray[Any]) -> IntArray:
    """Position of each name in the classes of the design, -1 where it is none of them `[K]`."""
    order = np.argsort(design.classes)
    ordered = design.classes[order]
    at = np.clip(np.searchsorted(ordered, names), 0, len(ordered) - 1)
    return np.asarray(np.where(ordered[at] == names, order[at], -1), dtype=np.int64)


def score_rows(design: Design, scores: npt.ArrayLike, what: str = "scores") -> Float64Array:
    """Scores as float64 `[S, n, C]`, higher meaning more likely; given `[n, C]` or `[S, n, C]`.

    Raises:
        ConfigError: Another shape, or NaN.
    """
    out = np.asarray(scores, dtype=np.float64)
    if out.ndim == 2:
        out = out[None]
    if out.ndim != 3 or out.shape[1:] != design.positive.shape or len(out) == 0:
        n, k = design.positive.shape
        raise ConfigError(
            f"{what}: expected {n} rows and {k} classes, [n, C] or [seeds, n, C]; "
            f"got shape {np.shape(scores)}"
        )
    check_present(what, out)
    return out


def as_array(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Values as an array; NaN and None in a list of texts stay what they are; NumPy would spell them out."""
    if hasattr(values, "dtype"):
        return np.asarray(values)
    try:
        plain = np.asarray(values)
    except ValueError:
        raise ConfigError("expected arrays of one length in every row; got a ragged list") from None
    return np.asarray(values, dtype=object) if plain.dtype.kind in "US" else plain


def check_present(what: str, values: npt.NDArray[Any]) -> None:
    """Refuse arrays that lack values: NaN, None, or an empty text."""
    if values.dtype.kind in "biu":
        return
    if values.dtype.kind in "fc":
        missing = np.isnan(values)
    else:
        import pandas as pd

        missing = np.asarray(pd.isna(values)) | np.asarray(values == "")
    if missing.any():
        first = [int(at) for at in np.argwhere(missing)[0]]
        raise ConfigError(
            f"{what}: {int(missing.sum())} of {values.size} values are missing, the first at {first}; "
            "leave those rows out of every array"
        )


def check_level(level: float) -> None:
    """Refuse levels that are not shares."""
    if not 0 < level < 1:
        raise ConfigError(f"level: expected a share between 0 and 1, such as 0.95; got {level}")


def _counts(positive: BoolArray, label: IntArray | None, group: IntArray, n_groups: int) -> Float64Array:
    n_classes = positive.shape[1]
    if label is not None:
        at = group * n_classes + label
        return np.bincount(at, minlength=n_groups * n_classes).astype(np.float64).reshape(-1, n_classes)
    each = [np.bincount(group, weights=positive[:, c], minlength=n_groups) for c in range(n_classes)]
    return np.stack(each, axis=1).astype(np.float64)


def _kind(values: npt.NDArray[Any]) -> str:
    if values.dtype.kind in "biuf":
        return _NUMBER
    return _TEXT if any(isinstance(v, str) for v in values.flat[:1]) else _NUMBER


def _zero_one(y: npt.NDArray[Any]) -> BoolArray:
    if not np.isin(y, (0, 1)).all():
        raise ConfigError("target: a matrix [n, C] holds 0 and 1 only; one class a row is [n]")
    return np.asarray(y, dtype=bool)


def _groups(group: npt.ArrayLike | None, n_rows: int) -> IntArray:
    if group is None:
        return np.arange(n_rows, dtype=np.int64)
    names = as_array(group)
    if names.shape != (n_rows,):
        raise ConfigError(f"group: expected {n_rows} rows as in target; got shape {names.shape}")
    check_present("group", names)
    return codes(names)[1]
