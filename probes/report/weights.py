"""Learned weights of layers: what weighted-sum probes looked at, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.report.charts.figure import shown

if TYPE_CHECKING:
    from probes.report.data import ReportData


def learned_weights(data: ReportData, number: int) -> dict[str, Any] | None:
    """Mean of the learned weights over the fits of the chosen setting, per model of a question.

    Returns:
        ``layers`` (heads) and ``rows`` (one per model); None where nothing was learned.
    """
    table = data.charts.tables.get("weights")
    if table is None or not (table["question"] == number).any():
        return None
    table = table[table["question"] == number]
    layers = sorted(table["layer"].unique())
    names = [shown(m) for m in data.models]
    rows = []
    for model, of_model in table.groupby("model", sort=False):
        mean = dict(zip(of_model["layer"], of_model["weight"], strict=True))
        rows.append(
            {
                "model": model,
                "number": names.index(str(model)),
                "n_fits": int(of_model["n_fits"].iloc[0]),
                "cells": [f"{mean[k]:.1f}" if k in mean else "" for k in layers],
            }
        )
    return {"layers": layers, "rows": rows}
