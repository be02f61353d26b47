"""Scores of a probe on held-out rows.

UAR (unweighted average recall) is the mean recall over the classes that occur in the targets: a
class absent from them is left out, as in `sklearn.metrics.balanced_accuracy_score`. torchmetrics'
macro recall, which the paper's code used, differs when an absent class is predicted: that class
then counts as recall 0. Both are here by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from probes.number_scores import number_score

Labels = npt.ArrayLike
Floats = npt.NDArray[np.floating[Any]]


def uar(targets: Labels, predictions: Labels) -> float:
    """Mean recall over the classes that occur in `targets [n]`.

    Equals `sklearn.metrics.balanced_accuracy_score`, without its warning about predicted classes
    that the targets do not hold.
    """
    from sklearn.metrics import recall_score

    y = np.asarray(targets)
    score = recall_score(y, predictions, labels=np.unique(y), average="macro", zero_division=0)
    return float(score)


def uar_torchmetrics(targets: Labels, predictions: Labels) -> float:
    """Mean recall over the classes that occur in targets or predictions (torchmetrics' rule).

    A class that is predicted but absent from the targets counts as recall 0.
    """
    from sklearn.metrics import recall_score

    return float(recall_score(targets, predictions, average="macro", zero_division=0))


def accuracy(targets: Labels, predictions: Labels) -> float:
    """Share of rows predicted right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, predictions))


def f1_macro(targets: Labels, predictions: Labels) -> float:
    """Mean F1 over the classes that occur in `targets` (the same rule as `uar`)."""
    from sklearn.metrics import f1_score

    y = np.asarray(targets)
    score = f1_score(y, predictions, labels=np.unique(y), average="macro", zero_division=0)
    return float(score)


def confusion(targets: Labels, predictions: Labels, classes: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Counts `[C, C]`: row = target, column = prediction, both in the order of `classes`."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(targets, predictions, labels=list(classes)), dtype=np.int64)


def chance_level(targets: Labels, train: Labels | None = None) -> float:
    """Expected UAR on `targets` of guessing among the classes of `train`, each as often as any other.

    A class that was trained is then recalled in 1 / (classes trained) of its rows, one that was not never:
    a fold that tests two of four trained classes has 0.25. Without `train` it is all classes of `targets`.
    """
    tested = np.unique(np.asarray(targets))
    can_say = tested if train is None else np.unique(np.asarray(train))
    if len(can_say) == 0 or len(tested) == 0:
        raise ValueError(f"chance level of no {'training rows' if len(tested) else 'targets'}")
    return float(np.isin(tested, can_say).mean() / len(can_say))


def chance_precision(targets: Labels) -> float:
    """Mean average precision of scores that are all alike, `targets [n, C]` being 0 or 1.

    It is the mean share of positives over the classes that occur (not in all rows); NaN if none does.
    """
    y = np.asarray(targets)
    return mean_average_precision(y, np.zeros(y.shape))


def f1_macro_sets(targets: Labels, predictions: Labels) -> float:
    """Mean F1 over the classes that occur in `targets`, both 0/1 matrices `[n, C]`; NaN if none does."""
    from sklearn.metrics import f1_score

    y, guess = np.asarray(targets), np.asarray(predictions)
    occur = y.any(axis=0)
    if not occur.any():
        return float("nan")
    return float(f1_score(y[:, occur], guess[:, occur], average="macro", zero_division=0))


def majority_accuracy(train: Labels, targets: Labels) -> float:
    """Accuracy of always saying the most frequent class of `train` (the first of equals)."""
    return accuracy(targets, _majority(train, targets))


def majority_uar(train: Labels, targets: Labels) -> float:
    """UAR of always saying the most frequent class of `train` (the first of equals)."""
    return uar(targets, _majority(train, targets))


def _majority(train: Labels, targets: Labels) -> npt.NDArray[Any]:
    classes, counts = np.unique(np.asarray(train), return_counts=True)
    return np.full(len(np.asarray(targets)), classes[counts.argmax()])


def auroc_macro(targets: Labels, scores: Floats) -> float:
    """Mean one-against-rest area under the ROC curve over classes that occur (not in all rows).

    Args:
        targets: Class positions 0 … C-1 `[n]`, or a 0/1 matrix `[n, C]` for multi-label targets.
        scores: Higher means more likely, `[n, C]`.
    """
    from sklearn.metrics import roc_auc_score

    return _mean_over_classes(roc_auc_score, targets, scores)


def mean_average_precision(targets: Labels, scores: Floats) -> float:
    """Mean average precision over classes that occur (not in all rows); arguments as `auroc_macro`."""
    from sklearn.metrics import average_precision_score

    return _mean_over_classes(average_precision_score, targets, scores)


def _mean_over_classes(metric: Any, targets: Labels, scores: Floats) -> float:
    y = np.asarray(targets)
    if y.ndim == 1:
        y = y[:, None] == np.arange(scores.shape[1])
    defined = [c for c in range(scores.shape[1]) if 0 < y[:, c].sum() < len(y)]
    if not defined:
        return float("nan")
    return float(np.mean([metric(y[:, c], scores[:, c]) for c in defined]))


def expected_calibration_error(targets: Labels, probabilities: Floats, n_bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by rows.

    Guo et al. 2017 (ICML), who use 15 bins. Confidence is the largest of `probabilities [n, C]`.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == np.asarray(targets)
    # bins (i/n, (i+1)/n], as in the paper
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gap = np.bincount(bins, weights=confidence - right, minlength=n_bins)
    return float(np.abs(gap).sum() / len(confidence))


def r2(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Coefficient of determination of numbers `[n]`: 1 − (squared errors) / (those of the targets' mean).

    Equals `sklearn.metrics.r2_score`; NaN where the targets are all the same (scikit-learn says 0 or 1), or
    a prediction is not finite.
    """
    return _of_numbers("r2", targets, predictions)


def pearson(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Pearson's correlation of numbers `[n]`; NaN as `r2`, and where the predictions are all the same."""
    return _of_numbers("pearson", targets, predictions)


def concordance(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Lin's concordance correlation coefficient (Biometrics 45:255, 1989) of numbers `[n]`; NaN as `r2`.

    2 · covariance / (both variances + squared difference of the means), moments divided by n as Lin's.
    """
    return _of_numbers("ccc", targets, predictions)


def mean_absolute_error(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Mean distance of predictions from targets `[n]`, in their unit; NaN where one is not finite."""
    return _of_numbers("mae", targets, predictions)


def _of_numbers(metric: str, targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    return number_score(
        metric, np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    )


def points(difference: float) -> str:
    """A difference of scores in percentage points, such as ``−1.1``."""
    text = f"{100 * difference:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def is_shown_as_zero(difference: float) -> bool:
    """Whether `points` writes 0.0, so that words must not say in which direction a difference goes."""
    return points(difference) == "0.0"
