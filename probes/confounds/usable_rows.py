"""The rows of a split whose audio could be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurestore.arrays import IntArray, TextArray
from featurestore.errors import StoreError
from probes.codes import group_names
from probes.confounds.label_from_confounds import Parts
from probes.questions.labelled_rows import Question
from probes.questions.tasks import ProbeTask
from probes.splits.interface import SplitSpec
from probes.statistics import Interval, uar_interval


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The usable rows of one fold.

    Attributes:
        ids: Of the usable rows of all parts.
        table: Confounds of all labelled rows.
        y: Their classes.
        parts: Usable rows, as positions in both.
        index_rows: Row of the key's index of each labelled row.
        group: What is held out together, of each labelled row; a row without one is its own.
        number: Which of the split's folds.
    """

    ids: list[str]
    table: pd.DataFrame
    y: IntArray
    parts: Parts
    index_rows: IntArray
    group: TextArray
    number: int

    @classmethod
    def of(cls, question: Question, table: pd.DataFrame, task: ProbeTask) -> Fold:
        """Leave out what could not be read.

        Raises:
            StoreError: nothing is left of a part.
        """
        rows = table.loc[question.labelled.position]
        usable = (rows["problem"] == "").to_numpy()
        parts = {}
        for part, where in question.split.parts():
            parts[part] = where[usable[where]]
            if len(parts[part]) == 0 or (part == "train" and len(np.unique(question.y[parts[part]])) < 2):
                raise StoreError(
                    f"label {task.label!r} of {task.model}/{task.dataset}, split {task.split!r}: the audio "
                    f"of too few {part} clips can be read to compare anything; bring it back"
                )
        used, of = np.concatenate(list(parts.values())), question.labelled.rows
        return cls(
            ids=[str(i) for i in of.utterance_id[used]],
            table=rows,
            y=question.y,
            parts=Parts(**parts),
            index_rows=question.labelled.position,
            group=group_names(of.group, of.utterance_id),
            number=question.split.fold,
        )

    @property
    def position(self) -> IntArray:
        """Usable rows of the key's index."""
        return np.concatenate([self.of_index(part) for part in ("train", "val", "test")])

    def of_index(self, part: str) -> IntArray:
        """Usable rows of a part, as rows of the key's index."""
        rows: IntArray = getattr(self.parts, part)
        return self.index_rows[rows]


def sizes(folds: Sequence[Fold]) -> dict[str, int]:
    """Rows of a fold's training and validation (means), and test rows of all folds."""
    train, val = (round(float(np.mean([len(getattr(f.parts, p)) for f in folds]))) for p in ("train", "val"))
    return {"n_train": train, "n_val": val, "n_test": sum(len(f.parts.test) for f in folds)}


def interval(folds: Sequence[Fold], predicted: Sequence[IntArray], split: SplitSpec) -> Interval:
    """Where the UAR of predictions lies, over groups like those tested; see `probes.statistics`.

    Test rows of all folds are pooled; inner folds of nested splits, which predict each row once more, count
    as seeds do.

    Args:
        folds: All folds of a split.
        predicted: Class of each test row of each.
        split: The split.
    """
    rows, guesses = [], []
    for inner in range(split.n_inner):
        own = [i for i, fold in enumerate(folds) if split.inner(fold.number) == inner]
        at = np.concatenate([folds[i].parts.test for i in own])
        order = np.argsort(at, kind="stable")
        rows.append(at[order])
        guesses.append(np.concatenate([predicted[i] for i in own])[order])
    assert all(np.array_equal(rows[0], other) for other in rows)
    return uar_interval(folds[0].y[rows[0]], np.stack(guesses), folds[0].group[rows[0]])
