"""What each group adds to the error of a score: the jackknife's values, kept by class.

A macro score is a mean over classes. With `θ_c(-g)` the score of class c without group g, the group's
influence is `(θ_c - θ_c(-g)) · sqrt(1 - s_gc)`, where `s_gc` is the group's share of the rows of the class.
For recall this is the residual of a regression on classes in the form of Bell & McCaffrey 2002 (CR2), which
is unbiased also where each group holds one class only; without the root it is the jackknife (CR3), which is
too wide there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from featurestore.errors import ConfigError
from probes.number_scores import NUMBER_METRICS
from probes.statistics.count_metrics import left_out_accuracy, left_out_f1, left_out_recall
from probes.statistics.design import Design, label_rows, make_design, number_design, score_rows
from probes.statistics.number_metrics import left_out_numbers, seeds_of_numbers
from probes.statistics.rank_metrics import left_out_auroc, left_out_precision

LeftOut = tuple[Float64Array, Float64Array]

# Metrics of predicted classes, and of scores `[n, C]`; all lie between 0 and 1, as those of numbers do not.
_OF_LABELS: dict[str, Callable[..., LeftOut]] = {
    "uar": left_out_recall,
    "accuracy": left_out_accuracy,
    "f1_macro": left_out_f1,
}
_OF_SCORES: dict[str, Callable[..., LeftOut]] = {
    "auroc_macro": left_out_auroc,
    "map": left_out_precision,
}
RECALL = "recall"  # of one class
METRICS = (*_OF_LABELS, *_OF_SCORES, *NUMBER_METRICS)


@dataclass(frozen=True, eq=False)
class Influence:
    """A score and what each group adds to its error.

    Attributes:
        metric: One of `METRICS`, or `RECALL` of one class.
        names: What the score is a mean over: classes, or for accuracy one entry `[K]`.
        values: The score of each `[K]`.
        by_group: Influence of each group, `[G, K]`; 0 where the group has no row of the class, and for
            classes that occur in one group only.
        counts: Rows of each class in each group, `[G, K]`.
        design: The rows; influences can be compared where these are the same.
        n_seeds: How many seeds the score is the mean of.
    """

    metric: str
    names: npt.NDArray[Any]
    values: Float64Array
    by_group: Float64Array
    counts: Float64Array
    design: Design
    n_seeds: int = 1

    @property
    def estimate(self) -> float:
        """The score: the mean over classes."""
        return float(self.values.mean()) if len(self.values) else float("nan")

    @property
    def n_groups(self) -> int:
        """Groups that were tested: of the recall of one class those that hold it."""
        return int(self.n_groups_of[0]) if self.metric == RECALL else self.design.n_groups

    @property
    def n_rows(self) -> int:
        """Rows that were tested: of the recall of one class its own."""
        return int(self.counts.sum()) if self.metric == RECALL else self.design.n_rows

    @property
    def n_groups_of(self) -> Float64Array:
        """In how many groups each class occurs, `[K]`."""
        return np.asarray((self.counts > 0).sum(axis=0), dtype=np.float64)

    def only(self, k: int) -> Influence:
        """The score of one class."""
        at = slice(k, k + 1)
        return Influence(
            RECALL if self.metric == "uar" else self.metric,
            self.names[at],
            self.values[at],
            self.by_group[:, at],
            self.counts[:, at],
            self.design,
            self.n_seeds,
        )


def influence(
    target: npt.ArrayLike,
    prediction: npt.ArrayLike,
    group: npt.ArrayLike | None = None,
    *,
    metric: str = "uar",
    classes: npt.ArrayLike | None = None,
) -> Influence:
    """Influence of each group on a score.

    Args:
        target: Class of each row `[n]`; for `auroc_macro` and `map` also a 0/1 matrix `[n, C]`; numbers for
            `r2`, `pearson`, `ccc` and `mae`.
        prediction: Predicted classes `[n]`, or those of several seeds on the same rows `[S, n]`, whose mean
            score it is. For `auroc_macro` and `map` scores `[n, C]` or `[S, n, C]`.
        group: Group of each row `[n]`; None: every row is a group of its own.
        metric: One of `METRICS`.
        classes: For scores: the class of each column `[C]`; default: the sorted classes of the target.

    Raises:
        ConfigError: Unequal lengths, missing values, or an unknown metric.
    """
    return influence_on(_design(metric, target, group, classes), prediction, metric)


def influences(
    target: npt.ArrayLike,
    predictions: Sequence[npt.ArrayLike],
    group: npt.ArrayLike | None = None,
    *,
    metric: str = "uar",
    classes: npt.ArrayLike | None = None,
) -> list[Influence]:
    """`influence` of many models on the same rows, which are coded once."""
    design = _design(metric, target, group, classes)
    return [influence_on(design, p, metric, f"prediction {i}") for i, p in enumerate(predictions)]


def influence_on(
    design: Design, prediction: npt.ArrayLike, metric: str, what: str = "prediction"
) -> Influence:
    """`influence` on rows that are coded already."""
    _check_metric(metric)
    if metric in NUMBER_METRICS:
        return _of_numbers(design, prediction, metric, what)
    if metric in _OF_SCORES:
        scores = score_rows(design, prediction, what)
        n_pos = design.counts.sum(axis=0)
        defined = (n_pos > 0) & (n_pos < design.n_rows)  # the rule of `probes.metrics`
        values, without = _OF_SCORES[metric](design, scores)
        return made_influence(
            metric, design, design.classes, values, without, design.counts, len(scores), keep=defined
        )
    if design.label is None:
        raise ConfigError(f"target: {metric} needs one class a row [n]; got shape {design.positive.shape}")
    guess = label_rows(design, prediction, what)
    values, without = _OF_LABELS[metric](design, guess)
    if metric == "accuracy":
        one = np.array(["all rows"])
        return made_influence(metric, design, one, values, without, design.rows[:, None], len(guess))
    return made_influence(metric, design, design.classes, values, without, design.counts, len(guess))


def _of_numbers(design: Design, prediction: npt.ArrayLike, metric: str, what: str) -> Influence:
    """Of predicted numbers; NaN is the influence of a group without which the score is not defined."""
    if design.number is None:
        raise ConfigError(f"target: {metric} needs numbers; got classes")
    guess = seeds_of_numbers(prediction, design.n_rows, what)
    values, without = left_out_numbers(metric, design.number, guess, design.group)
    counts = design.rows[:, None]
    by_group = (values - without) * np.sqrt(1 - counts / counts.sum())
    at = ~np.isnan(values)
    return Influence(
        metric, design.classes[at], values[at], by_group[:, at], counts[:, at], design, len(guess)
    )


def _design(metric: str, target: npt.ArrayLike, group: npt.ArrayLike | None, classes: Any) -> Design:
    _check_metric(metric)
    if metric in NUMBER_METRICS:
        return number_design(target, group)
    return make_design(target, group, classes if metric in _OF_SCORES else None)


def made_influence(
    metric: str,
    design: Design,
    names: npt.NDArray[Any],
    values: Float64Array,
    without: Float64Array,
    counts: Float64Array,
    n_seeds: int,
    keep: npt.NDArray[np.bool_] | None = None,
) -> Influence:
    """Influences of scores, from what they are without each group.

    Args:
        metric: Name of the score.
        design: The rows.
        names: Of the classes `[K]`.
        values: Score of each class `[K]`.
        without: The same without each group `[G, K]`.
        counts: What each class weighs in each group `[G, K]`.
        n_seeds: Seeds that the scores are means of.
        keep: Classes that count `[K]`; None: all.
    """
    share = counts / np.maximum(counts.sum(axis=0), 1)
    by_group = np.nan_to_num((values - without) * np.sqrt(1 - share))
    by_group[:, (counts > 0).sum(axis=0) < 2] = 0
    at = slice(None) if keep is None else keep
    return Influence(metric, names[at], values[at], by_group[:, at], counts[:, at], design, n_seeds)


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise ConfigError(f"metric: expected one of {', '.join(METRICS)}; got {metric!r}")
