"""Predictions of fits, brought to the same rows: one column of predictions for every pass over them.

Test folds are pooled: each row is predicted once in a pass, by the probe of the fold that holds it out. A
pass is one seed, and in nested splits one inner fold. Where a split is drawn anew (another split seed), its
rows are rows of their own, of the same groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probes.splits import parse_split

if TYPE_CHECKING:
    import pandas as pd

TextArray = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class PredictedRows:
    """What several fits of one model said of the same rows.

    Attributes:
        key: Utterance and draw of each row, sorted `[n]`: what tells rows of two models apart.
        target: Class of each row `[n]`.
        group: Group of each row, the utterance itself where it has none `[n]`.
        predicted: Predicted classes `[passes, n]`.
        reason: Why the rows cannot be judged, or ""; nothing else is known then.
    """

    key: TextArray
    target: TextArray
    group: TextArray
    predicted: TextArray
    reason: str = ""

    @property
    def has_groups(self) -> bool:
        """Whether rows of one group belong together."""
        return len(set(self.group)) < len(self.group)

    def is_of(self, other: PredictedRows) -> bool:
        """Whether these are the rows of another model, with the same targets and groups."""
        pairs = ((self.key, other.key), (self.target, other.target), (self.group, other.group))
        return all(np.array_equal(a, b) for a, b in pairs)


def predicted_rows(predictions: pd.DataFrame, fits: pd.DataFrame) -> PredictedRows:
    """Bring the predictions of some fits to the same rows.

    Args:
        predictions: Columns fingerprint, utterance_id, group, target, prediction, of these fits or of more.
        fits: Rows of the results table, of one model and one way to look at its layers; one fit for
            every seed, split seed and fold.
    """
    passes = _passes(fits)
    known = predictions[predictions["fingerprint"].isin(passes.index)]
    if known.empty:
        return _none("its predictions are not in the results folder")
    lacking = len(passes) - known["fingerprint"].nunique()
    if lacking:
        return _none(f"the predictions of {lacking} of {len(passes)} fits are not in the results folder")
    of_row = passes.loc[known["fingerprint"]]
    utterance = known["utterance_id"].to_numpy(dtype=object)
    draw = of_row["split_seed"].to_numpy()
    key = (
        utterance
        if len(set(draw)) == 1
        else np.array([f"{u}\t{d}" for u, d in zip(utterance, draw, strict=True)])
    )
    import pandas as pd

    row, keys = pd.factorize(np.asarray(key, dtype=object), sort=True)
    column = of_row["pass"].to_numpy()
    n_passes = int(passes["pass"].max()) + 1
    cells = np.zeros((n_passes, len(keys)), dtype=np.int64)
    np.add.at(cells, (column, row), 1)
    if (cells != 1).any():
        return _none("not every seed was tested on the same rows")
    predicted = np.empty(cells.shape, dtype=object)
    predicted[column, row] = known["prediction"].to_numpy(dtype=object)
    target, group = np.empty(len(keys), dtype=object), np.empty(len(keys), dtype=object)
    target[row] = known["target"].to_numpy(dtype=object)
    of_group = known["group"].to_numpy(dtype=object)
    group[row] = np.where(of_group == "", utterance, of_group)
    return PredictedRows(np.asarray(keys, dtype=object), target, group, predicted)


def _passes(fits: pd.DataFrame) -> pd.DataFrame:
    """By fingerprint: the pass of a fit, from 0, and its split seed."""
    import pandas as pd

    split = parse_split(str(fits["split"].iloc[0]))
    inner = fits["fold"].astype(int) % split.n_inner
    names = pd.MultiIndex.from_arrays([fits["seed"], inner])
    found = pd.DataFrame(
        {"pass": pd.factorize(names, sort=True)[0], "split_seed": fits["split_seed"].to_numpy()}
    )
    found.index = pd.Index(fits["fingerprint"].to_numpy(), name="fingerprint")
    return found[~found.index.duplicated()]


def _none(reason: str) -> PredictedRows:
    nothing = np.empty(0, dtype=object)
    return PredictedRows(nothing, nothing, nothing, nothing, reason)
