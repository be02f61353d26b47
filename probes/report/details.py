"""What the chosen probe got right and wrong, class by class, from the saved predictions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.classifiers.multilabel import class_names, indicator
from probes.findings.sentences import interval_text
from probes.report.charts.classes import MAX_CLASSES_WITH_NUMBERS, recall_intervals_of
from probes.results.selection import MAP, R2

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from probes.report.data import ReportData, ReportedQuestion
    from probes.statistics import Interval


def details_of(data: ReportData, question: ReportedQuestion) -> dict[str, Any] | None:
    """Per-class recall and confusion matrix of the chosen model and layer, over its fits.

    Counts are summed over fits, so recall is the share of all test predictions for a class, over
    all folds together; support is test clips per pass over all folds. None where the predictions are missing,
    and of numbers, which have no classes.
    """
    if question.metric == R2:
        return None
    table = data.predictions
    table = table[table["fingerprint"].isin(question.answer_fits["fingerprint"])]
    if table.empty:
        return None
    if question.metric == MAP:
        return _sets(table, question)
    # Counted as codes: these are millions of rows.
    counts = table.groupby(["target", "prediction"], observed=True).size()
    classes = sorted({name for names in counts.index for name in names})
    total = counts.unstack(fill_value=0).reindex(index=classes, columns=classes, fill_value=0).to_numpy()
    of_class = total.sum(axis=1)
    tested = of_class > 0
    intervals = recall_intervals_of(data, question)
    rows = [
        {
            **_recall(name, int(of_class[i]), int(total[i, i]), question),
            **_sureness(intervals.get(name)),
            **_mistakes(total[i], i, classes),
            "worth": f"{100 / (tested.sum() * of_class[i] / question.n_passes):.1f}" if tested[i] else None,
        }
        for i, name in enumerate(classes)
    ]
    return {
        "classes": classes,
        "rows": rows,
        "numbers": len(classes) <= MAX_CLASSES_WITH_NUMBERS,
        "n_fits": table["fingerprint"].nunique(),
        "n_folds": question.n_test_folds,
        "uar": f"{100 * float(np.mean(total.diagonal()[tested] / of_class[tested])):.1f}",
    }


def _sets(table: pd.DataFrame, question: ReportedQuestion) -> dict[str, Any]:
    """Label sets: recall and support of every label; which is taken for which has no answer."""
    cells = table[["target", "prediction"]].to_numpy(dtype=object)
    classes = class_names(cells.ravel())
    truth, guess = indicator(cells[:, 0], classes), indicator(cells[:, 1], classes)
    n, hits = truth.sum(axis=0), (truth & guess).sum(axis=0)
    no_mistakes: dict[str, Any] = {"worth": None, "confused": "", "confused_share": "", "cells": []}
    return {
        "classes": classes,
        "rows": [
            {**_recall(name, int(n[i]), int(hits[i]), question), **_sureness(None), **no_mistakes}
            for i, name in enumerate(classes)
        ],
        "numbers": True,
        "n_fits": table["fingerprint"].nunique(),
        "n_folds": question.n_test_folds,
        "uar": "",
    }


def _recall(name: str, n: int, hits: int, question: ReportedQuestion) -> dict[str, Any]:
    """Support and recall of a class that `n` predictions are about."""
    # One split gives every pass the same support; otherwise show the mean.
    support = n / question.n_passes
    return {
        "name": name,
        "support": f"{support:g}" if support == int(support) else f"{support:.1f}",
        "support_sort": support,
        "recall": f"{100 * (hits / n):.1f}" if n else None,
        "recall_sort": repr(hits / n) if n else "",
    }


def _sureness(interval: Interval | None) -> dict[str, Any]:
    """Interval of a recall, and in how many groups the class was tested."""
    known = interval is not None and not math.isnan(interval.low)
    return {
        "low": interval.low if interval and known else math.nan,
        "high": interval.high if interval and known else math.nan,
        "interval": interval_text(interval),
        "n_groups": None if interval is None else interval.n_groups,
    }


def _rounded(percent: float) -> int:
    """As charts round: halves up, and not to the even number."""
    return math.floor(percent + 0.5)


def _mistakes(counts: NDArray[np.int64], own: int, classes: list[str]) -> dict[str, Any]:
    """What a class was taken for; `counts`: how often for each of `classes`."""
    n = int(counts.sum())
    wrong = np.where(np.arange(len(counts)) == own, 0, counts)
    most = int(wrong.argmax())
    return {
        "confused": classes[most] if wrong[most] else "",
        "confused_share": str(_rounded(100 * wrong[most] / n)) if wrong[most] else "",
        "cells": [
            {
                "other": other,
                "share": _rounded(100 * count / n) if n else 0,
                "exact": 100 * count / n if n else 0.0,
                "count": count,
                "hit": j == own,
            }
            for j, (other, count) in enumerate(zip(classes, counts.tolist(), strict=True))
        ],
    }
