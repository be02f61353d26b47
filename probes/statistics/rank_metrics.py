"""Scores that ranks decide, for all rows and with each group left out: AUROC and average precision."""

from __future__ import annotations

import numpy as np

from featurestore.arrays import BoolArray, Float64Array, IntArray
from probes.statistics.design import Design

# Positive rows times groups that are counted at once: 64 MB of float64.
_CELLS_AT_ONCE = 8_000_000


def left_out_auroc(design: Design, scores: Float64Array) -> tuple[Float64Array, Float64Array]:
    """One-against-rest area under the ROC curve of each class, and without each group.

    The area is the share of pairs (positive, negative) in the right order, ties half (Hanley & McNeil 1982,
    Radiology 143). Without a group it is all pairs less those with a row of the group, which sorting
    gives for all groups at once: O(n log n) a class.

    Args:
        design: The rows.
        scores: `[S, n, C]`; the mean over seeds is taken.

    Returns:
        Areas `[C]` and areas without a group `[G, C]`; NaN where positives or negatives are lacking.
    """
    return _mean_over_seeds(_auroc, design, scores)


def left_out_precision(design: Design, scores: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Average precision of each class as scikit-learn defines it, and without each group.

    Args and Returns: as `left_out_auroc`. Time is positives times groups for each class.
    """
    return _mean_over_seeds(_average_precision, design, scores)


def _mean_over_seeds(one: object, design: Design, scores: Float64Array) -> tuple[Float64Array, Float64Array]:
    assert callable(one)
    n_seeds, _, n_classes = scores.shape
    value = np.empty((n_seeds, n_classes))
    without = np.empty((n_seeds, design.n_groups, n_classes))
    for s in range(n_seeds):
        for c in range(n_classes):
            value[s, c], without[s, :, c] = one(
                design.positive[:, c], scores[s, :, c], design.group, design.n_groups
            )
    return value.mean(axis=0), without.mean(axis=0)


def _auroc(
    positive: BoolArray, score: Float64Array, group: IntArray, n_groups: int
) -> tuple[float, Float64Array]:
    wins = _wins(positive, score, np.zeros_like(group))  # against all
    own = _wins(positive, score, group)  # against rows of its own group
    n_pos = np.bincount(group, weights=positive, minlength=n_groups)
    n_neg = np.bincount(group, weights=~positive, minlength=n_groups)
    # Pairs won that a row of the group takes part in: as positive, as negative, less those counted twice.
    lost = np.bincount(group, weights=wins, minlength=n_groups)
    lost -= np.bincount(group, weights=np.where(positive, own, 0), minlength=n_groups)
    total = float(wins[positive].sum())
    pairs = (n_pos.sum() - n_pos) * (n_neg.sum() - n_neg)
    all_pairs = n_pos.sum() * n_neg.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        without = np.where(pairs > 0, (total - lost) / pairs, np.nan)
    return (total / all_pairs if all_pairs else float("nan")), without


def _wins(positive: BoolArray, score: Float64Array, within: IntArray) -> Float64Array:
    """Rows of the other kind of the same part that each row is in the right order with, ties half `[n]`."""
    order = np.lexsort((score, within))
    part, value, pos = within[order], score[order], positive[order].astype(np.float64)
    starts_part = np.r_[True, part[1:] != part[:-1]]
    starts_tie = starts_part | np.r_[True, value[1:] != value[:-1]]
    tie, of_part = np.cumsum(starts_tie) - 1, np.cumsum(starts_part) - 1
    out = np.empty(len(score))
    ranks = np.empty(len(score))
    for kind in (False, True):
        other = pos if not kind else 1 - pos  # what rows of this kind are compared with
        below = np.r_[0.0, np.cumsum(other)]
        first = np.flatnonzero(starts_tie)
        last = np.r_[first[1:], len(score)]
        part_first = np.flatnonzero(starts_part)
        part_last = np.r_[part_first[1:], len(score)]
        less = below[first][tie] - below[part_first][of_part]
        tied = (below[last] - below[first])[tie]
        more = below[part_last][of_part] - below[last][tie]
        wins = (less if kind else more) + tied / 2
        ranks = np.where(pos == kind, wins, ranks)
    out[order] = ranks
    return out


def _average_precision(
    positive: BoolArray, score: Float64Array, group: IntArray, n_groups: int
) -> tuple[float, Float64Array]:
    n_pos = int(positive.sum())
    if n_pos == 0:
        return float("nan"), np.full(n_groups, np.nan)
    order = np.argsort(-score, kind="stable")
    pos, of_group = positive[order], group[order]
    value = score[order]
    # All rows of equal score enter together: each reads its counts at the last of them.
    last = np.r_[np.flatnonzero(value[1:] != value[:-1]), len(value) - 1]
    at = last[np.searchsorted(last, np.flatnonzero(pos))]  # [P]
    hits = np.cumsum(pos)[at].astype(np.float64)
    said = (at + 1).astype(np.float64)
    owner = of_group[pos]
    without = np.empty(n_groups)
    step = max(1, _CELLS_AT_ONCE // len(value))
    for start in range(0, n_groups, step):
        groups = np.arange(start, min(start + step, n_groups))
        member = of_group[:, None] == groups
        left_said = said[:, None] - np.cumsum(member, axis=0)[at]
        left_hits = hits[:, None] - np.cumsum(member & pos[:, None], axis=0)[at]
        keep = owner[:, None] != groups
        precision = np.where(keep, left_hits / np.maximum(left_said, 1), 0).sum(axis=0)
        left = keep.sum(axis=0)
        without[groups] = np.where(left > 0, precision / np.maximum(left, 1), np.nan)
    return float((hits / said).mean()), without
