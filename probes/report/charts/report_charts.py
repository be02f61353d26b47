"""All charts of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from probes.report.charts.classes import class_figures, confusion_rows, recall_rows
from probes.report.charts.comparisons import comparison_figure, comparison_rows
from probes.report.charts.confounds import confound_figures, confound_layer_rows, confound_rows
from probes.report.charts.curves import (
    LAYER_COLUMNS,
    layer_curve,
    layer_rows,
    weight_figure,
    weight_rows,
)
from probes.report.charts.figure import Charts, Figure, ModelScales, score_limits, series_styles
from probes.report.charts.inside import cka_rows, inside_figures, map_rows, shape_rows
from probes.report.charts.learning import learning_figures, learning_rows
from probes.report.details import details_of
from probes.results.selection import R2

if TYPE_CHECKING:
    from probes.report.data import ReportData


def _limits(data: ReportData, layers: pd.DataFrame) -> dict[bool, tuple[float, float]]:
    """One axis of scores for all questions, and one for those of numbers, whose scores have no lower end."""
    found = {}
    for of_numbers in (False, True):
        numbers = [i for i, q in enumerate(data.questions) if (q.metric == R2) == of_numbers]
        ends = layers.loc[layers["question"].isin(numbers), ["score", "low", "high", "std_low", "std_high"]]
        found[of_numbers] = score_limits(ends, [100 * data.questions[i].chance for i in numbers])
    return found


def report_charts(data: ReportData) -> Charts:
    """Every chart that the results, and what lies beside them, give rise to."""
    scales, beside = ModelScales(series_styles(data)), data.beside
    layers = pd.DataFrame(layer_rows(data), columns=list(LAYER_COLUMNS))
    limits = _limits(data, layers)
    weights = pd.DataFrame(weight_rows(data))
    details = {i: found for i, q in enumerate(data.questions) if (found := details_of(data, q))}
    tables = {
        "layers": layers,
        "weights": weights,
        "learning": learning_rows(data),
        "confounds": confound_rows(data, beside),
        "confound_layers": confound_layer_rows(data, beside),
        "comparisons": comparison_rows(data),
        "recalls": pd.DataFrame([row for i, of in details.items() for row in recall_rows(i, of)]),
        "confusion": pd.DataFrame([row for i, of in details.items() for row in confusion_rows(i, of)]),
        "cka": cka_rows(beside),
        "shape": shape_rows(beside),
        "map": map_rows(data, beside),
    }
    confounds = confound_figures(data, tables["confounds"], tables["confound_layers"])
    figures: list[Figure] = []
    for number, question in enumerate(data.questions):
        figures.append(layer_curve(number, question, scales, limits[question.metric == R2]))
        figures += [f for f in confounds if f.question == number]
        if len(weights) and (weights["question"] == number).any():
            of_question = weights.loc[weights["question"] == number, "layer"]
            figures.append(weight_figure(number, question, set(of_question), scales))
        if n_compared := int((tables["comparisons"]["question"] == number).sum()):
            figures.append(comparison_figure(number, question, n_compared))
        if number in details:
            figures += class_figures(number, question, details[number])
    figures += learning_figures(tables["learning"], scales)
    figures += inside_figures(tables, scales)
    return Charts(figures=tuple(figures), tables={name: t for name, t in tables.items() if len(t)})
