"""Fits made again on more rows, once nothing is left to choose.

A probe is chosen by validation rows, which it must not have seen. Once layer, settings and the number of
epochs are chosen, these rows can be learned from too: the chosen fit is made again, from its own initial
weights, on all rows that may be used, for as many epochs as were best, with the learning rate cut after the
epochs after which it was cut before. An epoch has more steps then, since there are more rows.

What is fitted again on training and validation rows is scored on the test rows, which nothing was chosen by.
What is fitted again on all rows cannot be scored by any: it is for use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featurestore.arrays import IntArray
from featurestore.errors import ConfigError
from probes.classifiers.interface import trains_by_epochs
from probes.classifiers.registry import get_classifier
from probes.splits import Split

TRAIN_VAL, ALL = "train+val", "all"
#: The parts whose rows a fit is made again on.
PARTS_OF = {TRAIN_VAL: ("train", "val"), ALL: ("train", "val", "test")}


def check_refit(refit: str | None, classifiers: Sequence[str], known: Sequence[str] = (TRAIN_VAL,)) -> None:
    """Refuse rows that cannot be fitted again on, and classifiers that do not say how.

    Args:
        refit: One of `known`, or None.
        classifiers: Names.
        known: What can be asked for here.

    Raises:
        ConfigError: one line that says which.
    """
    if refit is None:
        return
    if refit not in known:
        why = "; on all rows none is left to score: `fs save-probe --refit all` does that" * (refit == ALL)
        raise ConfigError(f"--refit: expected {' or '.join(known)}, got {refit!r}{why}")
    for name in classifiers:
        if trains_by_epochs(get_classifier(name)) is None:
            raise ConfigError(
                f"--refit: classifier {name} of another package does not say whether validation rows end its "
                "training (its attribute by_epochs); leave out --refit, or ask for it in a command of its own"
            )


def parts_of(split: Split, refit: str) -> dict[str, IntArray]:
    """Rows of each part; where fits are made again, those of several parts are "train".

    Args:
        split: Who trains, chooses and is tested.
        refit: A name of `PARTS_OF`, or "".
    """
    where = dict(split.parts())
    if not refit:
        return where
    joined = np.sort(np.concatenate([where[name] for name in PARTS_OF[refit]]))
    return {"train": joined, **{n: rows for n, rows in where.items() if n not in PARTS_OF[refit]}}
