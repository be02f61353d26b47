"""Fits made again on training and validation rows, as a table of their own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from probes.findings.refits import RefitFinding
from probes.findings.sentences import interval_text
from probes.metrics import points
from probes.report.tables import percent

if TYPE_CHECKING:
    import pandas as pd

    from probes.report.data import ReportData, ReportedQuestion

COLUMNS = [
    *("dataset", "label", "classifier", "split", "model", "combine", "layers", "refit", "metric", "n_fits"),
    *("n_train", "n_epochs_min", "n_epochs_max", "score_test_mean", "ci_low", "ci_high", "n_groups"),
    *("chosen_score_test_mean", "difference", "difference_low", "difference_high", "p"),
]


def refits_of(data: ReportData, question: ReportedQuestion) -> list[dict[str, Any]]:
    """Lines of the page's table of one question; none where nothing was fitted again."""
    names = [str(m) for m in data.models]
    return [
        {
            "model": found.question["model"],
            "number": names.index(found.question["model"]),
            "place": found.place.removeprefix("layer ").replace("-", "–"),
            "refit": found.refit,
            "n_train": f"{found.n_train[0]:,.0f}",
            "epochs": _epochs(found),
            "score": percent(found.score),
            "interval": interval_text(found.judged.interval),
            "chosen": percent(found.chosen_score),
            "difference": _difference(found),
        }
        for found in data.refits
        if tuple(found.question[k] for k in ("dataset", "label", "classifier", "split")) == question.name
    ]


def refit_table(data: ReportData) -> pd.DataFrame:
    """``refit.csv``: one row per curve whose chosen fits were made again; scores are fractions."""
    import pandas as pd

    rows = []
    for found in data.refits:
        interval, d = found.judged.interval, found.difference
        rows.append(
            {
                **found.question,
                "layers": found.layers,
                "refit": found.refit,
                "metric": found.metric,
                "n_fits": found.n_fits,
                "n_train": found.n_train[0],
                "n_epochs_min": found.epochs[0],
                "n_epochs_max": found.epochs[1],
                "score_test_mean": found.score,
                "ci_low": math.nan if interval is None else interval.low,
                "ci_high": math.nan if interval is None else interval.high,
                "n_groups": 0 if interval is None else interval.n_groups,
                "chosen_score_test_mean": found.chosen_score,
                "difference": math.nan if d is None else d.difference,
                "difference_low": math.nan if d is None else d.low,
                "difference_high": math.nan if d is None else d.high,
                "p": math.nan if d is None else d.p,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _epochs(found: RefitFinding) -> str:
    low, high = found.epochs
    return "" if not high else str(low) if low == high else f"{low}–{high}"


def _difference(found: RefitFinding) -> str:
    d = found.difference
    if d is None:
        change = found.score - found.chosen_score
        return "" if math.isnan(change) else points(change)
    between = "" if math.isnan(d.low) else f" ({points(d.low)} to {points(d.high)})"
    return f"{points(d.difference)}{between}"
