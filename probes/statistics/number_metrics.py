"""Scores of predicted numbers, for all rows and with each group left out: R², r, concordance, error.

All are functions of a few sums over rows, which are taken by group once; leaving a group out is a
subtraction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array, IntArray
from featurestore.errors import ConfigError

# Sums `[..., 8]`: rows, target, prediction, their squares, their product; distance of the two, its square.
_ROWS, _Y, _P, _YY, _PP, _YP, _OFF, _OFF_SQUARED = range(8)
# What is left of a variance by rounding alone, as a share of the squares it is the difference of.
_ROUNDING = 1e-12


def left_out_numbers(
    metric: str, target: Float64Array, guess: Float64Array, group: IntArray
) -> tuple[Float64Array, Float64Array]:
    """A score, the mean over seeds, and what it is without each group.

    Args:
        metric: One of `NUMBER_METRICS`.
        target: `[n]`.
        guess: What each seed predicts `[S, n]`.
        group: Position of each row's group `[n]`.

    Returns:
        `[1]` and `[G, 1]`; NaN where the score is not defined.
    """
    score = NUMBER_METRICS[metric]
    by_group = group_sums(target, guess, group)
    total = by_group.sum(axis=1, keepdims=True)
    return score(total).mean(axis=0), score(total - by_group).mean(axis=0)[:, None]


def group_sums(target: Float64Array, guess: Float64Array, group: IntArray) -> Float64Array:
    """What scores are functions of, by seed and group `[S, G, 8]`; arguments as `left_out_numbers`'s."""
    n_groups = int(group.max()) + 1
    y = target - target.mean()  # squares of what is far from 0 would lose the spread
    out = np.empty((len(guess), n_groups, 8))
    for sums, one in zip(out, guess, strict=True):
        p = one - target.mean()
        off = y - p
        columns = (np.ones_like(y), y, p, y * y, p * p, y * p, np.abs(off), off * off)
        for i, column in enumerate(columns):
            sums[:, i] = np.bincount(group, weights=column, minlength=n_groups)
    return out


def seeds_of_numbers(prediction: npt.ArrayLike, n_rows: int, what: str = "prediction") -> Float64Array:
    """Predicted numbers `[S, n]`, given `[n]` or `[S, n]`.

    Raises:
        ConfigError: another shape, texts, or what is not finite.
    """
    guess = number_rows(prediction, what)
    guess = guess[None] if guess.ndim == 1 else guess
    if guess.ndim != 2 or guess.shape[1] != n_rows or len(guess) == 0:
        raise ConfigError(
            f"{what}: expected {n_rows} rows as in target, [n] or [seeds, n]; "
            f"got shape {np.shape(prediction)}"
        )
    return guess


def number_rows(target: npt.ArrayLike, what: str = "target") -> Float64Array:
    """Numbers as float64, of any shape.

    Raises:
        ConfigError: texts, or what is not finite.
    """
    try:
        out = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{what}: expected numbers, got {str(np.asarray(target).flat[0])!r}") from None
    if not np.isfinite(out).all():
        n = int((~np.isfinite(out)).sum())
        raise ConfigError(
            f"{what}: {n} of {out.size} values are not finite; leave those rows out of every array"
        )
    return out


def _moments(sums: Float64Array) -> tuple[Float64Array, ...]:
    """Sums of squares about the means, of their products, and the means `[...]` of both."""
    n = np.maximum(sums[..., _ROWS], 1)
    mean_y, mean_p = sums[..., _Y] / n, sums[..., _P] / n
    yy, pp = sums[..., _YY] - n * mean_y**2, sums[..., _PP] - n * mean_p**2
    yy = np.where(yy > _ROUNDING * sums[..., _YY], yy, np.nan)  # targets that are all the same
    return yy, pp, sums[..., _YP] - n * mean_y * mean_p, mean_y - mean_p


def _r2(sums: Float64Array) -> Float64Array:
    return np.asarray(1 - np.maximum(sums[..., _OFF_SQUARED], 0) / _moments(sums)[0])


def _pearson(sums: Float64Array) -> Float64Array:
    yy, pp, yp, _ = _moments(sums)
    pp = np.where(pp > _ROUNDING * sums[..., _PP], pp, np.nan)
    return np.asarray(np.clip(yp / np.sqrt(yy * pp), -1, 1))


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


def number_interval(metric: str, estimate: float, error: float, t: float) -> tuple[float, float]:
    """Both ends of an interval, on the scale on which the score is least skewed.

    R² is taken as the logarithm of 1 − R², a ratio of squared errors; correlations by Fisher's z; the mean
    absolute error as its logarithm.

    Args:
        metric: One of `NUMBER_METRICS`.
        estimate: The score.
        error: Its standard error.
        t: Quantile to reach.
    """
    if metric == "r2":
        half = t * error / (1 - estimate)
        return 1 - (1 - estimate) * float(np.exp(half)), 1 - (1 - estimate) * float(np.exp(-half))
    if metric == "mae":
        half = t * error / estimate
        return estimate * float(np.exp(-half)), estimate * float(np.exp(half))
    half, centre = t * error / (1 - estimate**2), np.arctanh(estimate)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def is_exact(metric: str, estimate: float) -> bool:
    """Whether a score is at an end of its scale, where no interval can be made from its spread."""
    if metric == "mae":
        return estimate == 0
    return estimate >= 1 or (metric != "r2" and estimate <= -1)
