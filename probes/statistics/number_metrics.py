"""Scores of predicted numbers with each group left out, and the scale on which each has an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array, IntArray
from featurestore.errors import ConfigError
from probes.number_scores import NUMBER_METRICS, group_sums


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
