"""Probes of label sets: any number of classes can be right at once.

A column of label sets holds cells such as ``AMRE|OVEN`` (`featurestore.manifest.labels`). A probe of it has
one sigmoid per class (`probes.training.autograd`). What selects epoch, settings and layer is mean average
precision (mAP) on validation; UAR is not defined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import IntArray, TextArray
from featurestore.errors import ConfigError
from featurestore.manifest.labels import NOTHING, join_labels, split_labels
from probes.classifiers.interface import Settings

#: A class is predicted where its sigmoid says at least this.
THRESHOLD = 0.5
CLASSIFIERS = ("mlp", "linear")


def rarest_label(cells: TextArray) -> TextArray:
    """The rarest label of each row's set, ``|`` for the empty set `[n]`: what splits stratify by.

    The first step of iterative stratification (Sechidis et al. 2011): a rare label goes by itself, and
    frequent ones find their way into every part anyhow.
    """
    sets = {cell: split_labels(cell) or frozenset() for cell in set(cells)}
    sizes = Counter(name for cell in cells for name in sets[cell])
    rarest = {
        cell: min(names, key=lambda n: (sizes[n], n)) if names else NOTHING for cell, names in sets.items()
    }
    return np.array([rarest[cell] for cell in cells], dtype=object)


def class_names(cells: TextArray) -> list[str]:
    """All labels that occur in the sets of `cells`, by name."""
    return sorted({name for cell in set(cells) for name in split_labels(cell) or ()})


def indicator(cells: TextArray, classes: Sequence[str]) -> IntArray:
    """0/1 matrix `[n, C]`: which classes each set holds."""
    sets = [split_labels(cell) or frozenset() for cell in cells]
    return np.array([[int(c in s) for c in classes] for s in sets], dtype=np.int64).reshape(-1, len(classes))


def cells_of(matrix: npt.NDArray[Any], classes: Sequence[str]) -> TextArray:
    """Inverse of `indicator`: sets as text `[n]`."""
    names = np.array(classes, dtype=object)
    return np.array([join_labels(names[row.astype(bool)]) for row in matrix], dtype=object)


def learnable(y_train: IntArray) -> IntArray:
    """Columns of `y_train [n, C]` that hold 0 and 1: others cannot be learned."""
    positive = y_train.sum(axis=0)
    return np.flatnonzero((positive > 0) & (positive < len(y_train)))


def check_classifier(name: str, combine: str, fits: Sequence[Settings], what: str) -> None:
    """Refuse what cannot be trained on label sets.

    Raises:
        ConfigError: one line that says what can.
    """
    if name not in CLASSIFIERS:
        raise ConfigError(
            f"{what} holds sets of labels: expected classifier {' or '.join(CLASSIFIERS)}, got {name}; "
            "or spread it over one column per class (`fs manifest … --explode`) and probe each"
        )
    if combine == "weighted":
        raise ConfigError(f"{what} holds sets of labels: combine weighted is for single labels; leave it out")
    for settings in fits:
        if settings.get("precision", "fp32") != "fp32" or not isinstance(settings["class_weight"], str):
            raise ConfigError(
                f"{what} holds sets of labels: expected precision fp32 and class_weight none or balanced"
            )
