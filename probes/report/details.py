"""What the chosen probe got right and wrong, class by class, from the saved predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probes.classifiers.multilabel import class_names, indicator
from probes.metrics import confusion
from probes.results.selection import MAP

if TYPE_CHECKING:
    import pandas as pd

    from probes.report.load import Question, ReportData

# Above this the counts in the matrix cannot be read; shades stay, counts are in the tooltips.
MAX_CLASSES_WITH_NUMBERS = 16


def details_of(data: ReportData, question: Question) -> dict[str, Any] | None:
    """Per-class recall and confusion matrix of the chosen model and layer, over its fits.

    Counts are summed over fits, so recall is the share of all test predictions for a class, over
    all folds together; support is test clips per pass over all folds. None where the predictions are missing.
    """
    table = data.predictions
    table = table[table["fingerprint"].isin(question.answer_fits["fingerprint"])]
    if table.empty:
        return None
    if question.metric == MAP:
        return _sets(table, question)
    classes = sorted(set(table["target"]) | set(table["prediction"]))
    counts = np.stack(
        [confusion(rows["target"], rows["prediction"], classes) for _, rows in table.groupby("fingerprint")]
    )  # [fits, target, prediction]
    total = counts.sum(axis=0)
    of_class = total.sum(axis=1)
    n_tested = int((of_class > 0).sum())
    rows = []
    for i, name in enumerate(classes):
        n = int(of_class[i])
        wrong = np.delete(total[i], i)
        others = [c for c in classes if c != name]
        recall = total[i, i] / n if n else None
        # One split gives every pass the same support; otherwise show the mean.
        support = n / question.n_passes
        rows.append(
            {
                "name": name,
                "support": f"{support:g}" if support == int(support) else f"{support:.1f}",
                "support_sort": support,
                "recall": None if recall is None else f"{100 * recall:.1f}",
                "recall_sort": "" if recall is None else repr(float(recall)),
                "worth": None if not n else f"{100 / (n_tested * support):.1f}",
                "confused": others[int(wrong.argmax())] if len(wrong) and wrong.max() else "",
                "confused_share": f"{100 * wrong.max() / n:.0f}" if n and wrong.max() else "",
                "cells": [
                    {
                        "other": classes[j],
                        "share": round(100 * total[i, j] / n) if n else 0,
                        "count": int(total[i, j]),
                        "hit": i == j,
                    }
                    for j in range(len(classes))
                ],
            }
        )
    return {
        "classes": classes,
        "rows": rows,
        "numbers": len(classes) <= MAX_CLASSES_WITH_NUMBERS,
        "n_fits": len(counts),
        "n_folds": question.n_test_folds,
        "uar": f"{100 * float(np.mean(total.diagonal()[of_class > 0] / of_class[of_class > 0])):.1f}",
    }


def _sets(table: pd.DataFrame, question: Question) -> dict[str, Any]:
    """Label sets: recall and support of every label; which is taken for which has no answer."""
    cells = table[["target", "prediction"]].to_numpy(dtype=object)
    classes = class_names(cells.ravel())
    truth, guess = indicator(cells[:, 0], classes), indicator(cells[:, 1], classes)
    rows = []
    for i, name in enumerate(classes):
        n, hits = int(truth[:, i].sum()), int((truth[:, i] & guess[:, i]).sum())
        support = n / question.n_passes
        rows.append(
            {
                "name": name,
                "support": f"{support:g}" if support == int(support) else f"{support:.1f}",
                "support_sort": support,
                "recall": f"{100 * hits / n:.1f}" if n else None,
                "recall_sort": repr(hits / n) if n else "",
                "worth": None,
                "confused": "",
                "confused_share": "",
                "cells": [],
            }
        )
    return {
        "classes": classes,
        "rows": rows,
        "numbers": True,
        "n_fits": table["fingerprint"].nunique(),
        "n_folds": question.n_test_folds,
        "uar": "",
    }
