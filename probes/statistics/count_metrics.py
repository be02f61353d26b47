"""Scores that counts decide, for all rows and with each group left out: recall, accuracy, F1.

Counts are summed by group once; leaving a group out is a subtraction.
"""

from __future__ import annotations

import numpy as np

from featurestore.arrays import BoolArray, Float64Array, IntArray
from probes.statistics.design import Design


def left_out_recall(design: Design, guess: IntArray) -> tuple[Float64Array, Float64Array]:
    """Recall of each class, and what it is without each group.

    Args:
        design: Rows of one class each.
        guess: Predicted positions `[S, n]`; the mean over seeds is taken.

    Returns:
        Recalls `[C]` and recalls without a group `[G, C]`, NaN where no row of the class is left.
    """
    hits = hit_counts(design, guess)  # [G, C]
    return ratio_or_nan(hits.sum(0), design.counts.sum(0)), ratio_or_nan(
        hits.sum(0) - hits, design.counts.sum(0) - design.counts
    )


def left_out_accuracy(design: Design, guess: IntArray) -> tuple[Float64Array, Float64Array]:
    """Share of rows predicted right, as one class: `[1]` and `[G, 1]`; see `left_out_recall`."""
    hits = hit_counts(design, guess).sum(1, keepdims=True)
    rows = design.rows[:, None]
    return ratio_or_nan(hits.sum(0), rows.sum(0)), ratio_or_nan(hits.sum(0) - hits, rows.sum(0) - rows)


def left_out_f1(design: Design, guess: IntArray) -> tuple[Float64Array, Float64Array]:
    """F1 of each class, the mean over seeds, as `probes.metrics.f1_macro` averages; see `left_out_recall`."""
    values, without = [], []
    for one in guess:
        hits, said = hit_counts(design, one[None]), said_counts(design, one)
        total = design.counts + said
        values.append(ratio_or_nan(2 * hits.sum(0), total.sum(0)))
        left = ratio_or_nan(2 * (hits.sum(0) - hits), total.sum(0) - total)
        gone = design.counts.sum(0) - design.counts <= 0
        without.append(np.where(gone, np.nan, left))
    return np.mean(values, axis=0), np.mean(without, axis=0)


def said_counts(design: Design, guess: IntArray) -> Float64Array:
    """How often each class is predicted in each group, `[G, C]`, for `guess [n]`."""
    n_classes = len(design.classes)
    known = guess >= 0
    at = design.group[known] * n_classes + guess[known]
    counts = np.bincount(at, minlength=design.n_groups * n_classes).reshape(-1, n_classes)
    return np.asarray(counts, dtype=np.float64)


def hit_counts(design: Design, guess: IntArray) -> Float64Array:
    """Rows predicted right of each class in each group, the mean over seeds, `[G, C]`; `guess [S, n]`."""
    assert design.label is not None
    right: BoolArray = guess == design.label
    n_classes = len(design.classes)
    at = design.group * n_classes + design.label
    sums = np.bincount(at, weights=right.mean(axis=0), minlength=design.n_groups * n_classes)
    return np.asarray(sums.reshape(-1, n_classes), dtype=np.float64)


def ratio_or_nan(above: Float64Array, below: Float64Array) -> Float64Array:
    """``above / below``, NaN where there is nothing below."""
    some = below > 0
    return np.asarray(np.where(some, above / np.where(some, below, 1), np.nan), dtype=np.float64)
