"""Learned weights of layers: what weighted-sum probes looked at, as a figure and a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.layer_list import parse_layers
from probes.classifiers.layer_combination import WEIGHTED
from probes.report.figures import DOTTED, LAYER_AXIS, MUTED, bare, drawing, inline_svg, series_styles, thinned

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from probes.report.data import ReportData, ReportedQuestion
    from probes.report.figures import SeriesStyle


def learned_weights(data: ReportData, question: ReportedQuestion, prefix: str) -> dict[str, Any] | None:
    """Mean and range of the learned weights over the fits of the chosen setting, per model.

    Returns:
        ``svg``, ``layers`` (heads) and ``rows`` (one per model); None where nothing was learned.
    """
    found = []
    for _, row in question.combined().iterrows():
        fits = question.fits
        fits = fits[
            (fits["model"] == row["model"])
            & (fits["combine"] == WEIGHTED)
            & (fits["layers"] == row["layers"])
            & (fits["layer_weights"] != "")
        ]
        if row["combine"] == WEIGHTED and len(fits):
            found.append((row, np.array([json.loads(text) for text in fits["layer_weights"]])))
    if not found:
        return None
    layers = sorted({k for row, _ in found for k in parse_layers(row["layers"])})
    styles = series_styles(data)
    return {
        "svg": _draw(found, styles, prefix, question.title),
        "layers": layers,
        "rows": [_row(row, values, layers, styles[row["model"]].index) for row, values in found],
    }


def _row(row: pd.Series[Any], values: np.ndarray, layers: list[int], series: int) -> dict[str, Any]:
    mean = dict(zip(parse_layers(row["layers"]), values.mean(axis=0), strict=True))
    return {
        "model": row["model"],
        "series": series,
        "n_fits": len(values),
        "cells": [f"{100 * mean[k]:.1f}" if k in mean else "" for k in layers],
        "top": max(mean, key=lambda k: mean[k]),
    }


def _draw(
    found: list[tuple[pd.Series[Any], np.ndarray]], styles: dict[str, SeriesStyle], prefix: str, title: str
) -> Markup:
    from matplotlib.figure import Figure

    with drawing("none"):
        figure = Figure(figsize=(4.3, 2.2), layout="constrained")
        ax = figure.subplots()
        for row, values in found:
            layers, style = parse_layers(row["layers"]), styles[row["model"]]
            values = 100 * values
            ax.axhline(100 / len(layers), color=MUTED, lw=1.0, linestyle=DOTTED, zorder=1)
            low, high = values.min(axis=0), values.max(axis=0)
            ax.fill_between(layers, low, high, color=style.colour, alpha=0.15, lw=0)
            ax.plot(
                layers, values.mean(axis=0), color=style.colour, lw=1.8, marker=style.marker, markersize=3.2
            )
        ax.set_xticks(thinned(sorted({k for row, _ in found for k in parse_layers(row["layers"])})))
        ax.set_ylim(bottom=0)
        ax.set_ylabel("Weight (%)")
        ax.set_xlabel(LAYER_AXIS)
        bare(ax)
        return inline_svg(figure, prefix, f"Learned weights of layers, {title}")
