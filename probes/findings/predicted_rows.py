"""Predictions of fits, brought to the same rows: one column of predictions for every pass over them.

Test folds are pooled: each row is predicted once in a pass, by the probe of the fold that holds it out. A
pass is one seed, and in nested splits one inner fold. Where a split is drawn anew (another split seed), its
rows are rows of their own, of the same groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurestore.arrays import TextArray
from probes.codes import group_names
from probes.splits import parse_split

if TYPE_CHECKING:
    import pandas as pd


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
    parts = _parts(predictions, fits)
    lacking = sum(part is None for of_pass in parts for _, part in of_pass)
    if lacking:
        n_fits = sum(map(len, parts))
        some = "its predictions" if lacking == n_fits else f"the predictions of {lacking} of {n_fits} fits"
        return no_rows(f"{some} are not in the results folder")
    several = len(set(fits["split_seed"])) > 1
    columns = [_column([(d, part) for d, part in of_pass if part is not None], several) for of_pass in parts]
    first = columns[0]
    order = np.argsort(first["key"], kind="stable")
    key = first["key"][order]
    if (key[1:] == key[:-1]).any():
        return no_rows("its predictions name a row twice")
    predicted = np.empty((len(columns), len(key)), dtype=object)
    for line, held in enumerate(columns):
        # Fits of one fold name its rows in one order, nearly always.
        at = order if np.array_equal(held["key"], first["key"]) else np.argsort(held["key"], kind="stable")
        if not np.array_equal(held["key"][at], key):
            return no_rows("not every seed was tested on the same rows")
        predicted[line] = held["prediction"][at]
    group = group_names(first["group"], first["utterance_id"])
    return PredictedRows(key, first["target"][order], group[order], predicted)


def _column(folds: list[tuple[int, pd.DataFrame]], several: bool) -> dict[str, TextArray]:
    """The folds of one pass, one after the other; `key` tells rows apart, those of several draws too."""
    names = ("utterance_id", "group", "target", "prediction")
    held = {name: np.concatenate([part[name].to_numpy(dtype=object) for _, part in folds]) for name in names}
    held["key"] = held["utterance_id"]
    if several:
        draws = np.concatenate([np.full(len(part), draw) for draw, part in folds])
        pairs = zip(held["key"], draws, strict=True)
        held["key"] = np.array([f"{u}\t{d}" for u, d in pairs], dtype=object)
    return held


def _parts(predictions: pd.DataFrame, fits: pd.DataFrame) -> list[list[tuple[int, pd.DataFrame | None]]]:
    """For each pass its folds, in order: split seed, and the rows of the fold's fit or None."""
    by_fit = dict(iter(predictions.groupby("fingerprint", sort=False)))
    split = parse_split(str(fits["split"].iloc[0]))
    ordered = fits.sort_values(["seed", "split_seed", "fold"]).drop_duplicates("fingerprint")
    passes: dict[tuple[int, int], list[tuple[int, pd.DataFrame | None]]] = {}
    names = zip(*(ordered[c] for c in ("fingerprint", "seed", "split_seed", "fold")), strict=True)
    for fit, seed, draw, fold in names:
        passes.setdefault((int(seed), split.inner(int(fold))), []).append((int(draw), by_fit.get(fit)))
    return list(passes.values())


def no_rows(reason: str) -> PredictedRows:
    """Rows of which nothing is known, and why."""
    nothing = np.empty(0, dtype=object)
    return PredictedRows(nothing, nothing, nothing, nothing, reason)
