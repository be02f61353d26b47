"""How sure a saved probe may be: its validation rows, one temperature for its scores, thresholds by class.

Temperature scaling is that of Guo et al. 2017 (ICML, arXiv 1706.04599): the logits are divided by one number,
which makes the validation labels likeliest and changes no order of classes. Probabilities are all that is
needed, since their logarithms are logits but for a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array, FloatArray

# What underflowed had a logit somewhere below; -87 is that of the smallest normal float32.
SMALLEST = float(np.finfo(np.float32).tiny)
# Beyond these a fit has no answer: hardly an error, or scores that say nothing.
COLDEST, HOTTEST = 0.02, 50.0
# Validation scores that are kept with a probe; of more rows a part is drawn.
MOST_KEPT = 4_000_000
_DRAWN_BY = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationRows:
    """What a probe said of the rows that it was chosen by.

    Attributes:
        scores: Probabilities as the classifier gives them, float32 `[n, C]`.
        target: Position of the class of each row `[n]`; 0 or 1 for each class `[n, C]` for label sets.
        group: Code of the group of each row `[n]`; a row without one has a code of its own. None where it is
            not known, as in probes of earlier versions.
    """

    scores: FloatArray
    target: npt.NDArray[np.int32]
    group: npt.NDArray[np.int32] | None = None

    def is_of(self, k: int) -> npt.NDArray[np.bool_]:
        """Whether each row is of class `k`, `[n]`."""
        return np.asarray(self.target == k if self.target.ndim == 1 else self.target[:, k] > 0)

    @property
    def is_flawless(self) -> bool:
        """Whether every row is told right: then the surer the likelier, without end."""
        if self.target.ndim == 1:
            return bool((self.scores.argmax(axis=1) == self.target).all())
        return bool(((self.scores >= 0.5) == (self.target > 0)).all())

    def drawn(self) -> ValidationRows:
        """These rows, or where they are more than a probe keeps a random part of them."""
        rows = _kept(len(self.scores), max(1, MOST_KEPT // self.scores.shape[1]))
        group = None if self.group is None else self.group[rows]
        return ValidationRows(scores=self.scores[rows], target=self.target[rows], group=group)


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationNumbers:
    """What a probe of numbers said of the rows that it was chosen by, in the unit of the label.

    Attributes:
        predicted: float64 `[n]`.
        target: float64 `[n]`.
        group: Code of the group of each row `[n]`; a row without one has a code of its own.
    """

    predicted: Float64Array
    target: Float64Array
    group: npt.NDArray[np.int32]

    def drawn(self) -> ValidationNumbers:
        """These rows, or where they are more than a probe keeps a random part of them."""
        rows = _kept(len(self.target), MOST_KEPT)
        return ValidationNumbers(
            predicted=self.predicted[rows], target=self.target[rows], group=self.group[rows]
        )


def _kept(n: int, most: int) -> npt.NDArray[np.int64]:
    """Positions of the rows that are kept, ascending, of `n`."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(_DRAWN_BY).choice(n, most, replace=False))


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Where a class begins, for a precision that was asked.

    Attributes:
        value: Lowest calibrated probability; NaN where no threshold reaches the precision.
        precision: Share of the validation rows at or above it that are of the class; where none reaches what
            was asked the best that there is. NaN where no validation row tells.
        recall: Share of the class's validation rows that are at or above it.
        n_rows: Validation rows at or above it.
    """

    value: float
    precision: float
    recall: float
    n_rows: int


def fit_temperature(rows: ValidationRows) -> tuple[float, float, float]:
    """The temperature that makes validation labels likeliest; 1 where no row is wrong, which tells none.

    Returns:
        It, and the mean negative log-likelihood of a row in nats before and after.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(rows, float(np.exp(log_temperature)))

    if rows.is_flawless:
        return 1.0, loss(0.0), loss(0.0)
    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    before, after = loss(0.0), float(found.fun)
    return (float(np.exp(found.x)), before, after) if after < before else (1.0, before, before)


def negative_log_likelihood(rows: ValidationRows, temperature: float) -> float:
    """Mean over rows, in nats; for label sets the sum over classes."""
    own = calibrated(rows.scores, temperature, multilabel=rows.target.ndim == 2).astype(np.float64)
    if rows.target.ndim == 1:
        said = own[np.arange(len(own)), rows.target]
        return float(-np.log(np.maximum(said, SMALLEST)).mean())
    said = np.where(rows.target > 0, own, 1 - own)
    return float(-np.log(np.maximum(said, SMALLEST)).sum(axis=1).mean())


def calibrated(scores: FloatArray, temperature: float, *, multilabel: bool) -> FloatArray:
    """Probabilities `[n, C]` at a temperature, from those at 1.

    Args:
        scores: Probabilities of the classifier `[n, C]`; rows of NaN stay.
        temperature: What logits are divided by.
        multilabel: Each class has a probability of its own, which does not count against the others.
    """
    from scipy.special import expit, logit, softmax

    if temperature == 1:
        return scores
    p = np.asarray(scores, dtype=np.float64)
    if multilabel:
        # 1 - 2⁻²⁴ is the largest float32 below 1.
        found = expit(logit(np.clip(p, SMALLEST, 1 - 2.0**-24)) / temperature)
    else:
        found = softmax(np.log(np.maximum(p, SMALLEST)) / temperature, axis=1)
    return np.asarray(found, dtype=np.float32)


def threshold_for(
    p: FloatArray,
    is_of_class: npt.NDArray[np.bool_],
    precision: float,
    counts: npt.NDArray[np.bool_] | None = None,
) -> Threshold:
    """The probability at and above which most of a class is found with a precision.

    Of all that find as much the highest is taken: a lower one would let in wrong rows and no right one. It
    lies halfway to the next row below, where nothing was seen on either side.

    Args:
        p: Calibrated probability of the class, of every validation row `[n]`.
        is_of_class: Whether the row is of the class `[n]`.
        precision: What is asked, 0 to 1.
        counts: Rows that may be found at all `[n]`, as those that have no likelier class; None: all.
    """
    n_of_class = int(is_of_class.sum())
    found = np.ones(len(p), dtype=bool) if counts is None else counts
    ranked, is_right = p[found], is_of_class[found]
    order = np.argsort(-ranked, kind="stable")
    ranked, right = ranked[order], np.cumsum(is_right[order])
    if not n_of_class or not len(ranked):
        return Threshold(value=float("nan"), precision=float("nan"), recall=float("nan"), n_rows=0)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # rows of one score stand together
    precisions: Float64Array = right[last] / (last + 1)
    good = (precisions >= precision - 1e-12) & (right[last] > 0)
    at = int(np.where(good, right[last], -1).argmax()) if good.any() else int(precisions.argmax())
    below = float(ranked[last[at] + 1]) if last[at] + 1 < len(ranked) else 0.0
    return Threshold(
        value=(float(ranked[last[at]]) + below) / 2 if good.any() else float("nan"),
        precision=float(precisions[at]),
        recall=float(right[last[at]] / n_of_class),
        n_rows=int(last[at] + 1),
    )
