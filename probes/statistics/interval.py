"""Intervals of scores over groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from probes.statistics.design import check_level
from probes.statistics.influence import Influence, influence
from probes.statistics.number_metrics import is_exact, number_interval
from probes.statistics.refusal import too_little
from probes.statistics.variance import difference_variance, score_variance

NOT_CONTAINED = (
    "The interval is over groups like those that were tested; how the score would change with another "
    "training set is not in it."
)
CLUSTER = "influence of each group (CR2), t with Satterthwaite's degrees of freedom, on the logit scale"
NUMBERS = CLUSTER.replace("logit scale", "scale of log(1 − R²), of Fisher's z, or of log(error)")
FLAWLESS = "exact bound from groups without an error (or without a hit)"
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score and where it lies.

    Attributes:
        estimate: The score, the mean over seeds.
        low: Lower end; NaN where no interval is given.
        high: Upper end; NaN where no interval is given.
        n_groups: Groups that were tested.
        method: How the interval was made, or "none".
        reason: Why there is none, or "".
        level: Its nominal coverage.
        standard_error: Of the estimate, between groups; NaN where no interval is given.
        df: Degrees of freedom of the standard error.
        assumed: Share of the variance that no group shows (that of classes without an error);
            much of it makes the interval wider than its level says.
        n_rows: Rows that were tested.
        n_seeds: Seeds that the estimate is the mean of.
    """

    estimate: float
    low: float
    high: float
    n_groups: int
    method: str
    reason: str = ""
    level: float = 0.95
    standard_error: float = float("nan")
    df: float = float("nan")
    assumed: float = 0.0
    n_rows: int = 0
    n_seeds: int = 1


def uar_interval(
    target: npt.ArrayLike,
    prediction: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of UAR, the mean recall over the classes that occur in the target.

    Args:
        target: Class of each row `[n]`.
        prediction: Predicted class of each row `[n]`, or of each seed and row `[S, n]`.
        group: Group of each row `[n]`; None: every row is a group of its own.
        level: Nominal coverage.

    Raises:
        ConfigError: Unequal lengths, missing values, or a level that is not between 0 and 1.
    """
    return metric_interval("uar", target, prediction, group, level)


def metric_interval(
    metric: str,
    target: npt.ArrayLike,
    prediction: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    level: float = 0.95,
    *,
    classes: npt.ArrayLike | None = None,
) -> Interval:
    """Interval of one of `METRICS`; arguments as `influence`'s."""
    check_level(level)
    return interval_of(influence(target, prediction, group, metric=metric, classes=classes), level)


def recall_intervals(
    target: npt.ArrayLike,
    prediction: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> dict[Any, Interval]:
    """Interval of the recall of each class, by its name; arguments as `uar_interval`'s.

    `n_groups` is the number of groups with rows of the class.
    """
    check_level(level)
    scores = influence(target, prediction, group)
    return {name: interval_of(scores.only(k), level) for k, name in enumerate(scores.names)}


def interval_of(scores: Influence, level: float = 0.95) -> Interval:
    """Interval of a score whose influences are known.

    Where each group is right throughout, or wrong throughout, the influences are 0 and tell nothing: the end
    that is not 0 or 1 is then the value at which as many groups without an error would be seen in
    (1 - level) / 2 of all samples.
    """
    check_level(level)
    estimate = scores.estimate
    if scores.design.number is not None:
        return _of_numbers(scores, level)
    spread = score_variance(scores.values, scores.by_group, scores.counts)
    flawless = estimate in (0.0, 1.0)
    reason = too_little(scores, spread.df)
    if not reason and flawless and scores.metric not in ("uar", "recall", "accuracy"):
        reason = f"{scores.metric} is {estimate:g} in every group, which gives no spread to judge by"
    if not reason and spread.variance <= 0:
        reason = "all groups score alike, which gives no spread to judge by"
    low = high = float("nan")
    method = NONE
    if not reason and flawless:
        bound = most_missed(scores.n_groups_of, (1 - level) / 2)
        low, high = (1 - bound, 1.0) if estimate == 1 else (0.0, bound)
        method = FLAWLESS
    elif not reason:
        low, high = _logit_interval(estimate, spread.variance, spread.df, level)
        method = CLUSTER
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        n_groups=scores.n_groups,
        method=method,
        reason=reason,
        level=level,
        standard_error=float("nan") if reason or flawless else float(np.sqrt(spread.variance)),
        df=spread.df,
        assumed=spread.assumed,
        n_rows=scores.n_rows,
        n_seeds=scores.n_seeds,
    )


def _of_numbers(scores: Influence, level: float) -> Interval:
    """`interval_of` where numbers are predicted."""
    from scipy.special import stdtrit

    estimate = scores.estimate
    spread = difference_variance(scores.by_group, scores.counts)
    reason = too_little(scores, spread.df)
    if scores.design.n_groups > 1 and is_exact(scores.metric, estimate):
        reason = f"{scores.metric} is {estimate:g} in every group, which gives no spread to judge by"
    if not reason and not spread.variance > 0:
        reason = "all groups score alike, which gives no spread to judge by"
    low = high = error = float("nan")
    if not reason:
        error = float(np.sqrt(spread.variance))
        low, high = number_interval(
            scores.metric, estimate, error, float(stdtrit(spread.df, (1 + level) / 2))
        )
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        n_groups=scores.n_groups,
        method=NONE if reason else NUMBERS,
        reason=reason,
        level=level,
        standard_error=error,
        df=spread.df,
        n_rows=scores.n_rows,
        n_seeds=scores.n_seeds,
    )


def most_missed(n_groups_of: Float64Array, chance: float) -> float:
    """Largest mean error of classes of which `n_groups_of [K]` groups show none with probability `chance`.

    The largest mean of q_c for which the product of (1 - q_c)^n_c is `chance`: there 1 - q_c = min(1, λ n_c).
    Groups, not rows, are counted, as if the rows of a group were all alike (Clopper & Pearson 1934
    for one class).
    """
    n = np.asarray(n_groups_of, dtype=np.float64)
    low, high = 0.0, 1.0
    for _ in range(200):
        scale = (low + high) / 2
        if float((n * np.log(np.clip(scale * n, 1e-300, 1))).sum()) < np.log(chance):
            low = scale
        else:
            high = scale
    return float((1 - np.minimum(1, high * n)).mean())


def _logit_interval(estimate: float, variance: float, df: float, level: float) -> tuple[float, float]:
    from scipy.special import expit, logit, stdtrit

    half = float(stdtrit(df, (1 + level) / 2)) * np.sqrt(variance) / (estimate * (1 - estimate))
    centre = logit(estimate)
    return float(expit(centre - half)), float(expit(centre + half))
