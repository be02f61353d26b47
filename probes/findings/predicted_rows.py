"""Predictions of fits, brought to the same rows: one column of predictions for every pass over them.

Test folds are pooled: each row is predicted once in a pass, by the probe of the fold that holds it out. A
pass is one seed, and in nested splits one inner fold. Where a split is drawn anew (another split seed), its
rows are rows of their own, of the same groups.

Hundreds of fits name the same rows. So texts are read as codes, and rows that were seen before are known by
their codes and written out once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from featurestore.arrays import Float64Array, IntArray, TextArray
from probes.classifiers.numbers import numbers_of
from probes.codes import TextCodes, group_names
from probes.splits import parse_split
from probes.statistics import CodedLabels

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
    predicted: CodedLabels
    reason: str = ""

    def predicted_numbers(self) -> Float64Array:
        """Predicted numbers `[passes, n]`, of what is written as texts; NaN where a fit gave none."""
        codes = self.predicted.codes
        used, where = np.unique(codes, return_inverse=True)
        return numbers_of(self.predicted.names[used])[where.reshape(codes.shape)]

    def is_of(self, other: PredictedRows) -> bool:
        """Whether these are the rows of another model, with the same targets and groups."""
        pairs = ((self.key, other.key), (self.target, other.target), (self.group, other.group))
        return all(a is b or np.array_equal(a, b) for a, b in pairs)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows in the order of a file, as codes `[n]`; `draw` tells several draws of a split apart."""

    utterance: IntArray
    draw: IntArray
    group: IntArray
    target: IntArray

    def equals(self, other: _Rows) -> bool:
        names = ("utterance", "draw", "group", "target")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Rows as texts, sorted by `key`; `order` brings the file's order to that `[n]`."""

    order: IntArray
    key: TextArray
    target: TextArray
    group: TextArray
    is_named_twice: bool


@dataclass(frozen=True, eq=False)
class RowsSeen:
    """Rows of the predictions that were read so far, and the codes of their texts."""

    _utterances: TextCodes = field(default_factory=TextCodes)
    _groups: TextCodes = field(default_factory=TextCodes)
    _classes: TextCodes = field(default_factory=TextCodes)
    _seen: list[tuple[_Rows, _Sorted]] = field(default_factory=list)

    def predicted_rows(self, predictions: pd.DataFrame, fits: pd.DataFrame) -> PredictedRows:
        """Bring the predictions of some fits to the same rows.

        Args:
            predictions: Columns fingerprint, utterance_id, group, target, prediction, as categories, of
                these fits or of more.
            fits: Rows of the results table, of one model and one way to look at its layers; one fit for
                every seed, split seed and fold.
        """
        parts = _parts(predictions, fits)
        lacking = sum(at is None for of_pass in parts for _, at in of_pass)
        if lacking:
            n_fits = sum(map(len, parts))
            some = (
                "its predictions" if lacking == n_fits else f"the predictions of {lacking} of {n_fits} fits"
            )
            return no_rows(f"{some} are not in the results folder")
        several = len(set(fits["split_seed"])) > 1
        columns = (
            ("utterance_id", self._utterances),
            ("group", self._groups),
            ("target", self._classes),
            ("prediction", self._classes),
        )
        codes = {name: texts.codes(predictions[name]) for name, texts in columns}
        first: _Sorted | None = None
        predicted = []
        for of_pass in parts:
            rows, said = _column(codes, [(d, at) for d, at in of_pass if at is not None], several)
            found = self._sorted(rows)
            if first is None and found.is_named_twice:
                return no_rows("its predictions name a row twice")
            first = first or found
            if found.key is not first.key and not np.array_equal(found.key, first.key):
                return no_rows("not every seed was tested on the same rows")
            predicted.append(said[found.order])
        assert first is not None
        names = self._classes.texts()
        short = np.stack(predicted).astype(np.min_scalar_type(len(names)))
        return PredictedRows(first.key, first.target, first.group, CodedLabels(short, names))

    def _sorted(self, rows: _Rows) -> _Sorted:
        """Rows as texts in the order of their keys; those seen before are the very same arrays."""
        for known, found in self._seen:
            if known.equals(rows):
                return found
        utterance = self._utterances.texts()[rows.utterance]
        group, target = self._groups.texts()[rows.group], self._classes.texts()[rows.target]
        key = utterance
        if (rows.draw >= 0).any():
            pairs = zip(utterance, rows.draw.tolist(), strict=True)
            key = np.array([f"{u}\t{d}" for u, d in pairs], dtype=object)
        order = np.argsort(key, kind="stable")
        key = key[order]
        group = group_names(group, utterance)
        found = _Sorted(order, key, target[order], group[order], bool((key[1:] == key[:-1]).any()))
        self._seen.append((rows, found))
        return found


def _column(
    codes: dict[str, IntArray], folds: list[tuple[int, IntArray]], several: bool
) -> tuple[_Rows, IntArray]:
    """The folds of one pass, one after the other: their rows, and what was predicted."""
    held = {name: np.concatenate([column[at] for _, at in folds]) for name, column in codes.items()}
    draws = [np.full(len(at), draw if several else -1, dtype=np.int64) for draw, at in folds]
    rows = _Rows(held["utterance_id"], np.concatenate(draws), held["group"], held["target"])
    return rows, held["prediction"]


def _parts(predictions: pd.DataFrame, fits: pd.DataFrame) -> list[list[tuple[int, IntArray | None]]]:
    """For each pass its folds, in order: split seed, and the rows of the fold's fit or None."""
    fit_of_row = predictions["fingerprint"].cat.codes.to_numpy()
    names = predictions["fingerprint"].cat.categories
    # Rows by fit, in the order of the file.
    order = np.argsort(fit_of_row, kind="stable")
    ends = np.cumsum(np.bincount(fit_of_row, minlength=len(names)))
    rows_of_fit = np.split(order, ends)[: len(names)]
    by_fit = {n: rows for n, rows in zip(names, rows_of_fit, strict=True) if len(rows)}
    split = parse_split(str(fits["split"].iloc[0]))
    ordered = fits.sort_values(["seed", "split_seed", "fold"]).drop_duplicates("fingerprint")
    passes: dict[tuple[int, int], list[tuple[int, IntArray | None]]] = {}
    rows_of = zip(*(ordered[c] for c in ("fingerprint", "seed", "split_seed", "fold")), strict=True)
    for fit, seed, draw, fold in rows_of:
        passes.setdefault((int(seed), split.inner(int(fold))), []).append((int(draw), by_fit.get(fit)))
    return list(passes.values())


def no_rows(reason: str) -> PredictedRows:
    """Rows of which nothing is known, and why."""
    nothing = np.empty(0, dtype=object)
    codes = np.empty((0, 0), dtype=np.int64)
    return PredictedRows(nothing, nothing, nothing, CodedLabels(codes, nothing), reason)
