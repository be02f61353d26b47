"""Scores of predicted numbers: R², Pearson's r, Lin's concordance, the mean absolute error.

All are functions of a few sums over rows. These are taken by group once, so that leaving a group out, or
drawing it twice, is a sum of sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurestore.arrays import Float64Array, IntArray

# Sums `[..., 9]`: rows, target, prediction, their squares, their product, each about its mean over all rows;
# target less prediction, the size of that, its square.
_ROWS, _Y, _P, _YY, _PP, _YP, _LESS, _OFF, _OFF_SQUARED = range(9)
# What is left of a variance by rounding alone, as a share of the squares it is the difference of.
_ROUNDING = 1e-12


def number_score(metric: str, target: Float64Array, guess: Float64Array) -> float:
    """A score of one prediction of all rows `[n]`; NaN where it is not defined or a prediction is not finite.

    Args:
        metric: One of `NUMBER_METRICS`.
        target: Finite numbers `[n]`.
        guess: What is predicted `[n]`.
    """
    if not len(target) or not np.isfinite(guess).all():
        return float("nan")
    one_group = np.zeros(len(target), dtype=np.int64)
    return float(NUMBER_METRICS[metric](group_sums(target, guess[None], one_group))[0, 0])


def group_sums(target: Float64Array, guess: Float64Array, group: IntArray) -> Float64Array:
    """What scores are functions of, by seed and group `[S, G, 9]`.

    Args:
        target: `[n]`.
        guess: What each seed predicts `[S, n]`.
        group: Position of each row's group `[n]`.
    """
    n_groups = int(group.max()) + 1
    y = target - target.mean()  # squares of what is far from 0 would lose the spread
    out = np.empty((len(guess), n_groups, 9))
    for sums, one in zip(out, guess, strict=True):
        p, off = one - one.mean(), target - one
        columns = (np.ones_like(y), y, p, y * y, p * p, y * p, off, np.abs(off), off * off)
        for i, column in enumerate(columns):
            sums[:, i] = np.bincount(group, weights=column, minlength=n_groups)
    return out


def _moments(sums: Float64Array) -> tuple[Float64Array, ...]:
    """Sums of squares about the means, of their products, and how far the means are apart `[...]`."""
    n = np.maximum(sums[..., _ROWS], 1)
    mean_y, mean_p = sums[..., _Y] / n, sums[..., _P] / n
    yy, pp = sums[..., _YY] - n * mean_y**2, sums[..., _PP] - n * mean_p**2
    yy = np.where(yy > _ROUNDING * sums[..., _YY], yy, np.nan)  # targets that are all the same
    return yy, pp, sums[..., _YP] - n * mean_y * mean_p, sums[..., _LESS] / n


def _r2(sums: Float64Array) -> Float64Array:
    return np.asarray(1 - np.maximum(sums[..., _OFF_SQUARED], 0) / _moments(sums)[0])


def _pearson(sums: Float64Array) -> Float64Array:
    yy, pp, yp, _ = _moments(sums)
    pp = np.where(pp > _ROUNDING * sums[..., _PP], pp, np.nan)
    return np.asarray(np.clip(yp / (np.sqrt(yy) * np.sqrt(pp)), -1, 1))


def _concordance(sums: Float64Array) -> Float64Array:
    yy, pp, yp, apart = _moments(sums)
    return np.asarray(2 * yp / (yy + np.maximum(pp, 0) + sums[..., _ROWS] * apart**2))


def _absolute_error(sums: Float64Array) -> Float64Array:
    n = sums[..., _ROWS]
    return np.asarray(np.where(n > 0, sums[..., _OFF] / np.maximum(n, 1), np.nan))


NUMBER_METRICS: dict[str, Callable[[Float64Array], Float64Array]] = {
    "r2": _r2,
    "pearson": _pearson,
    "ccc": _concordance,
    "mae": _absolute_error,
}
