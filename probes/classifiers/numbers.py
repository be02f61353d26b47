"""Probes of numbers: an age, a size, a distance, a count instead of a class.

What is asked for so is one score a row, fitted by squared error. The numbers of the training rows decide the
scale that is fitted on; predictions are in the unit of the label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array, FloatArray, IntArray, TextArray
from featurestore.errors import ConfigError, LabelError, did_you_mean

CLASSIFICATION, REGRESSION = "classification", "regression"
TASKS = (CLASSIFICATION, REGRESSION)
#: Who can predict numbers; `ridge` can nothing else.
RIDGE = "ridge"
REGRESSORS = ("mlp", "linear", RIDGE, "attention", "mha")
#: Settings of networks that only classes have, with what stands for none.
OF_CLASSES = {"label_smoothing": 0.0, "class_weight": "none"}
# Squares have to be numbers too.
LARGEST = 1e100
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class TargetScale:
    """Mean and population standard deviation of the training rows' numbers, in the unit of the label."""

    mean: float
    scale: float

    @classmethod
    def fit(cls, y: Float64Array) -> TargetScale:
        """Of numbers `[n]` that are not all the same."""
        return cls(float(y.mean()), float(y.std()))

    def __call__(self, y: Float64Array) -> Float64Array:
        """Numbers `[n]` as multiples of the scale from the mean."""
        return np.asarray((y - self.mean) / self.scale, dtype=np.float64)

    def back(self, scores: FloatArray) -> Float64Array:
        """Inverse: what was predicted, in the unit of the label, of any shape."""
        return np.asarray(scores, dtype=np.float64) * self.scale + self.mean


def of_numbers(y: npt.NDArray[Any]) -> bool:
    """Whether targets are numbers: classes and label sets are whole numbers here."""
    return bool(np.issubdtype(y.dtype, np.floating))


def number_cells(cells: TextArray, ids: TextArray, what: str) -> TextArray:
    """Cells of a label column that are read as numbers, in one spelling `[n]`: ``3``, ``3.0`` are ``3.0``.

    Args:
        cells: None is empty `[n]`.
        ids: Utterance of each.
        what: Names label and data set in messages.

    Raises:
        LabelError: a cell is no number, or none that can be squared; one line that names the first.
    """
    value = {cell: _number(str(cell)) for cell in set(cells)}
    wrong = np.array([value[cell] is None for cell in cells], dtype=bool)
    if wrong.any():
        first = int(wrong.argmax())
        n = int(wrong.sum())
        rest = f" and {n - 1:,} more" if n > 1 else ""
        raise LabelError(
            f"{what}: --task regression expected numbers such as 3 or 0.25, got {cells[first]!r} "
            f"({ids[first]!r}{rest}); leave the cell empty where nothing is known, or probe it as classes "
            "(without --task)"
        )
    spelling = {cell: repr(number) for cell, number in value.items()}
    return np.array([spelling[cell] for cell in cells], dtype=object)


def numbers_of(cells: TextArray) -> Float64Array:
    """The numbers that `number_cells`, or predictions, are written as `[n]`."""
    return np.asarray(cells, dtype=object).astype(np.float64)


def _number(cell: str) -> float | None:
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text) + 0.0  # -0 is 0
    return value if abs(value) <= LARGEST else None


def coded_texts(parts: Mapping[str, Sequence[Float64Array]]) -> tuple[tuple[str, ...], dict[str, IntArray]]:
    """Numbers as texts, each once, and where those of each part stand among them.

    Args:
        parts: Arrays `[n]` of each part, as many as there are.

    Returns:
        Texts, shortest that give the same number again, and positions `[m, n]` by part.
    """
    tables = {name: np.stack(arrays) for name, arrays in parts.items()}
    values, where = np.unique(np.concatenate([t.ravel() for t in tables.values()]), return_inverse=True)
    ends = np.cumsum([t.size for t in tables.values()])[:-1]
    codes = {
        name: part.reshape(table.shape)
        for (name, table), part in zip(tables.items(), np.split(where, ends), strict=True)
    }
    return tuple(map(repr, values.tolist())), codes


def check_task(task: str, classifiers: Sequence[str]) -> None:
    """Refuse a task that is unknown, or that a classifier cannot do.

    Raises:
        ConfigError: one line that says which.
    """
    if task not in TASKS:
        raise ConfigError(f"--task: expected {' or '.join(TASKS)}, got {task!r}{did_you_mean(task, TASKS)}")
    for name in classifiers:
        if task == REGRESSION and name not in REGRESSORS:
            raise ConfigError(
                f"classifier {name} predicts no numbers; with --task regression expected "
                f"{', '.join(REGRESSORS)}"
            )
        if task == CLASSIFICATION and name == RIDGE:
            raise ConfigError(
                f"classifier {RIDGE} predicts numbers; add --task regression, or take logreg for classes"
            )


def settings_of_numbers(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a fit but those that only classes have.

    Raises:
        ConfigError: one of those was asked for.
    """
    for key, without in OF_CLASSES.items():
        if settings.get(key, without) != without:
            raise ConfigError(
                f"classifier {name}: setting {key} is of classes; leave it out with --task regression"
            )
    return {key: value for key, value in settings.items() if key not in OF_CLASSES}
