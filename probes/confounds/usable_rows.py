"""The rows of a split whose audio could be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurestore.arrays import IntArray
from featurestore.errors import StoreError
from probes.confounds.label_from_confounds import Parts
from probes.questions.labelled_rows import Question
from probes.questions.tasks import ProbeTask


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The usable rows of one fold.

    Attributes:
        ids: Of the usable rows of all parts.
        table: Confounds of all labelled rows.
        y: Their classes.
        parts: Usable rows, as positions in both.
        index_rows: Row of the key's index of each labelled row.
    """

    ids: list[str]
    table: pd.DataFrame
    y: IntArray
    parts: Parts
    index_rows: IntArray

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
        used = np.concatenate(list(parts.values()))
        return cls(
            ids=[str(i) for i in question.labelled.rows.utterance_id[used]],
            table=rows,
            y=question.y,
            parts=Parts(**parts),
            index_rows=question.labelled.position,
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
