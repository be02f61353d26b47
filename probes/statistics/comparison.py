"""Which of two scores on the same rows is higher, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from featurestore.errors import ConfigError
from probes.statistics.design import check_level
from probes.statistics.influence import Influence, influence_on, influences
from probes.statistics.interval import CLUSTER, NONE
from probes.statistics.refusal import too_little
from probes.statistics.variance import difference_variance

PAIRED = CLUSTER.replace("influence of each group", "difference of the influences of each group").replace(
    ", on the logit scale", ""
)
POWER, ALPHA = 0.8, 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of two scores on the same rows, a - b.

    Attributes:
        difference: Score of a less that of b, each the mean over its seeds and models.
        low: Lower end of its interval; NaN where none is given.
        high: Upper end of its interval; NaN where none is given.
        p: Two-sided p-value of no difference; NaN where it cannot be tested.
        n_groups: Groups that were tested.
        method: How interval and p were made, or "none".
        reason: Why there is no interval, or "".
        level: Nominal coverage of the interval.
        standard_error: Of the difference, between groups; NaN where none is given.
        df: Degrees of freedom of the standard error.
        detectable: Smallest true difference that a test at 0.05 on rows like these would have shown with a
            chance of 80 %; NaN where it is not known.
    """

    difference: float
    low: float
    high: float
    p: float
    n_groups: int
    method: str
    reason: str = ""
    level: float = 0.95
    standard_error: float = float("nan")
    df: float = float("nan")
    detectable: float = float("nan")


def compare_uar(
    target: npt.ArrayLike,
    prediction_a: npt.ArrayLike,
    prediction_b: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Comparison:
    """Compare the UAR of two models on the same rows.

    Args:
        target: Class of each row `[n]`.
        prediction_a: Predicted class of each row `[n]`, or of each seed and row `[S, n]`.
        prediction_b: The same of the other model; its number of seeds may differ.
        group: Group of each row `[n]`; None: every row is a group of its own.
        level: Nominal coverage of the interval.

    Raises:
        ConfigError: Unequal lengths, missing values, or a level that is not between 0 and 1.
    """
    return compare("uar", target, prediction_a, prediction_b, group, level)


def compare(
    metric: str,
    target: npt.ArrayLike,
    prediction_a: npt.ArrayLike,
    prediction_b: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    level: float = 0.95,
    *,
    classes: npt.ArrayLike | None = None,
) -> Comparison:
    """Compare two models by one of `METRICS`; arguments as `influence`'s."""
    check_level(level)
    (a,) = influences(target, [prediction_a], group, metric=metric, classes=classes)
    return compare_influences(a, influence_on(a.design, prediction_b, metric, "prediction_b"), level)


def contrast(a: Sequence[Influence], b: Sequence[Influence], level: float = 0.95) -> Comparison:
    """Compare two sets of models: the mean score of one less that of the other, paired by group.

    Of matched pairs (the same architectures, pretrained on animals or on speech) this is the mean of
    their differences.

    Args:
        a: Influences of the models of one set, all on the same rows.
        b: Those of the other.
        level: Nominal coverage of the interval.

    Raises:
        ConfigError: An empty set, other rows, or different metrics.
    """
    return compare_influences(_mean(a), _mean(b), level)


def compare_influences(a: Influence, b: Influence, level: float = 0.95) -> Comparison:
    """Compare two scores whose influences are known.

    Raises:
        ConfigError: Other rows, or different metrics.
    """
    check_level(level)
    _check_paired(a, b)
    difference = a.estimate - b.estimate
    by_group = a.by_group - b.by_group
    spread = difference_variance(by_group, a.counts)
    reason = _no_spread(a, by_group, difference) or too_little(a, spread.df)
    low = high = p = error = detectable = float("nan")
    if not reason:
        error = float(np.sqrt(spread.variance))
        low, high, p, detectable = _t_test(difference, error, spread.df, level)
        if a.design.number is None:  # of scores between 0 and 1
            low, high = max(low, -1.0), min(high, 1.0)
    elif len(a.values) and a.n_groups >= 2 and not np.abs(by_group).any():
        # Alike throughout, or apart by the same in every group: then the flips of signs tell all.
        p = 1.0 if np.isclose(difference, 0, atol=1e-12) else min(1.0, 2.0 ** (1 - a.n_groups))
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        p=p,
        n_groups=a.n_groups,
        method=NONE if reason else PAIRED,
        reason=reason,
        level=level,
        standard_error=error,
        df=spread.df,
        detectable=detectable,
    )


def _t_test(difference: float, error: float, df: float, level: float) -> tuple[float, float, float, float]:
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(df, (1 + level) / 2)) * error
    p = float(2 * stdtr(df, -abs(difference) / error))
    detectable = float(stdtrit(df, 1 - ALPHA / 2) + stdtrit(df, POWER)) * error
    return difference - half, difference + half, p, detectable


def _no_spread(a: Influence, by_group: Float64Array, difference: float) -> str:
    if len(a.values) == 0 or a.n_groups < 2:
        return ""  # not defined, or nothing that could differ, which `too_little` says
    if np.isnan(by_group).any():
        return "the scores are not defined without one of the groups"
    if np.abs(by_group).max(initial=0) > 1e-12:
        return ""
    if np.isclose(difference, 0, atol=1e-12):
        return "the two score alike in every group"
    return "the difference is the same in every group, which gives no spread to judge by"


def _mean(scores: Sequence[Influence]) -> Influence:
    if not scores:
        raise ConfigError("contrast: expected one model at least in each set; got none")
    first = scores[0]
    for other in scores[1:]:
        _check_paired(first, other)
    return Influence(
        first.metric,
        first.names,
        np.mean([s.values for s in scores], axis=0),
        np.mean([s.by_group for s in scores], axis=0),
        first.counts,
        first.design,
        min(s.n_seeds for s in scores),
    )


def _check_paired(a: Influence, b: Influence) -> None:
    if a.metric != b.metric:
        raise ConfigError(f"compared scores: expected one metric, got {a.metric} and {b.metric}")
    if a.design is b.design:
        return
    x, y = a.design, b.design
    if x.n_rows != y.n_rows:
        raise ConfigError(f"compared scores: expected the same rows; got {x.n_rows} and {y.n_rows} rows")
    if not (np.array_equal(x.positive, y.positive) and np.array_equal(x.classes, y.classes)):
        raise ConfigError("compared scores: expected the same rows; their targets differ")
    if (x.number is None) != (y.number is None) or not np.array_equal(x.number, y.number):  # type: ignore[arg-type]
        raise ConfigError("compared scores: expected the same rows; their targets differ")
    if not np.array_equal(x.group, y.group):
        raise ConfigError("compared scores: expected the same rows; their groups differ")
