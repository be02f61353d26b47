"""Scores over layers, learned weights of layers, and scores over training data."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.layer_list import parse_layers
from probes.classifiers.layer_combination import COMBINATIONS, EACH, WEIGHTED
from probes.report.charts.figure import (
    LAYER_AXIS,
    Figure,
    ModelScales,
    is_within,
    layer_axis,
    question_figure,
    rows_chart,
    shown,
    thinned,
)
from probes.report.tables import chance_text, extent, percent, place_of
from probes.results.selection import R2

if TYPE_CHECKING:
    import altair as alt

    from probes.findings.question_findings import QuestionFindings
    from probes.report.data import ReportData, ReportedQuestion

CURVE, REFERENCE, COMBINED = "curve", "reference", "combined"
CHOSEN, NOT_TOLD, OTHER = "chosen on validation", "cannot be told from the chosen layer", "other layer"
# Width of a column of combined layers, in layers: its name has to fit below, whatever their number.
COLUMN_LAYERS, COLUMN_SHARE = 1.2, 0.23
LAYER_COLUMNS = (
    "question",
    "model",
    "kind",
    "layer",
    "place",
    "x",
    "score",
    "low",
    "high",
    "std_low",
    "std_high",
    "validation",
    "chosen_share",
    "mark",
    "n_fits",
    "n_test",
)


def layer_rows(data: ReportData) -> list[dict[str, Any]]:
    """One row per question, model and layer or combination of layers, scores in %; `LAYER_COLUMNS`.

    ``low`` and ``high`` are the 95 % interval; one standard deviation stands in ``std_low`` and ``std_high``
    where there is none.
    """
    return [
        row
        for number, question in enumerate(data.questions)
        for row in _rows_of(number, question, data.findings[question.name])
    ]


def _rows_of(number: int, question: ReportedQuestion, findings: QuestionFindings) -> list[dict[str, Any]]:
    places = _Places(question)
    found = []
    for row in question.rows():
        model, combine = str(row["model"]), str(row["combine"])
        interval = findings.judged_places[model, combine, str(row["layers"])].interval
        low, high = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
        mean, std = float(row["score_test_mean"]), float(row["score_test_std"])
        spread = std if math.isnan(low) else math.nan
        kind = COMBINED if combine != EACH else CURVE if model in places.several else REFERENCE
        mark, share = _mark(row, findings)
        found.append(
            {
                "question": number,
                "model": shown(model),
                "kind": kind,
                "layer": int(row["layer"]) if combine == EACH else None,
                "place": shown(place_of(row)),
                "x": places.x(row),
                "score": 100 * mean,
                "low": 100 * low,
                "high": 100 * high,
                "std_low": 100 * (mean - spread),
                "std_high": 100 * (mean + spread),
                "validation": 100 * float(row["score_val_mean"]),
                "chosen_share": share,
                "mark": mark,
                "n_fits": int(row["n_fits"]),
                "n_test": round(float(row["n_test"])),
            }
        )
    return found


def _mark(row: dict[str, Any], findings: QuestionFindings) -> tuple[str, float]:
    """What validation says of a layer, and in what share of resamples it is chosen."""
    if row["combine"] != EACH:
        return "", math.nan
    choice, layer = findings.choices.get(str(row["model"])), int(row["layer"])
    share = math.nan if choice is None else float(choice.chosen_share[choice.layers.index(layer)])
    if row["best"]:
        return CHOSEN, share
    told = choice is None or math.isnan(share) or layer not in choice.not_worse
    return (OTHER if told else NOT_TOLD), share


class _Places:
    """Where layers and combinations of layers of a question stand on the axis."""

    def __init__(self, question: ReportedQuestion) -> None:
        self.several = {m for m in question.models if len(question.layers_of(m)) > 1}
        of = self.several or question.models
        self.layers = sorted({k for m in of for k in question.layers_of(m)}) or [0]
        self.has_curve = any(question.layers_of(m) for m in question.models)
        rows = question.combined()
        self.ways = [name for name in COMBINATIONS if (rows["combine"] == name).any()]
        self._models = {way: sorted(rows.loc[rows["combine"] == way, "model"].unique()) for way in self.ways}
        self.width = max(COLUMN_LAYERS, COLUMN_SHARE * len(self.layers))
        self.right = self.layers[-1] + 0.4 if self.has_curve else 0.0

    def centre(self, way: str) -> float:
        """Middle of the column of a way to combine layers."""
        return self.right + (self.ways.index(way) + 0.5) * self.width

    def x(self, row: dict[str, Any]) -> float:
        """Where a row of the summary stands."""
        if row["combine"] == EACH:
            return float(row["layer"])
        models = self._models[row["combine"]]
        offset = (models.index(row["model"]) + 0.5 - len(models) / 2) / max(len(models), 2)
        return self.centre(row["combine"]) + 0.6 * self.width * offset

    def axis(self) -> tuple[list[float], list[float], str]:
        """Domain, ticks, and an expression of their labels."""
        domain = [self.layers[0] - 0.4 if self.has_curve else 0.0, self.right + len(self.ways) * self.width]
        ticks = [float(k) for k in thinned(self.layers)] if self.has_curve else []
        label = "datum.label"
        for way in self.ways:
            # Names of ways are ours; nothing from data is part of an expression.
            label = f"abs(datum.value - {self.centre(way)!r}) < 1e-6 ? '{way}' : {label}"
        return domain, [*ticks, *map(self.centre, self.ways)], label


def layer_curve(
    number: int, question: ReportedQuestion, scales: ModelScales, limits: tuple[float, float]
) -> Figure:
    """Test score against layer, one line per model, with intervals."""
    best = question.answer
    chance = 100 * question.chance
    beyond = ""
    if not is_within(chance, limits) and not math.isnan(chance):
        side = "below" if chance < limits[0] else "above"
        beyond = f"; chance, {chance:.1f} %, is far {side} what is drawn"
    alt_text = (
        f"Test {question.metric} of {counted_models(question)} by layer, {question.title}. The answer is "
        f"{best['model']}, {place_of(best)}: {percent(best['score_test_mean'])} %; "
        f"{chance_text(question)}. The table Every layer holds all numbers."
    )
    return question_figure(
        number,
        "layer-curve",
        _curve_chart(question, scales, limits),
        height=260,
        section="curves",
        heading=question.heading,
        note=f"{question.setting}; {extent(question)}{beyond}",
        alt=alt_text,
        table="layers",
    )


def counted_models(question: ReportedQuestion) -> str:
    """``1 model``, ``3 models``."""
    n = len(question.models)
    return f"{n} model{'s' * (n != 1)}"


def _curve_chart(question: ReportedQuestion, scales: ModelScales, limits: tuple[float, float]) -> Any:
    import altair as alt

    places = _Places(question)
    domain, ticks, label = places.axis()
    x = alt.X(
        "x:Q",
        title=LAYER_AXIS if places.several else "Layer" if places.has_curve else None,
        scale=alt.Scale(domain=domain, nice=False, zero=False),
        axis=alt.Axis(values=ticks, labelExpr=label, grid=False, format="d"),
    )
    # One title and scale for all that stands on the axis: Vega-Lite joins those that differ.
    of_axis: dict[str, Any] = {
        "title": f"Test {question.metric} (%)",
        "scale": alt.Scale(domain=list(limits), nice=False, zero=False),
    }
    y, low, high = alt.Y("score:Q", **of_axis), alt.Y("low:Q", **of_axis), alt.Y2("high:Q")
    at_chance: dict[str, Any] = {"y": alt.YDatum(100 * question.chance, **of_axis)}
    rows = rows_chart()
    curve = rows.transform_filter(f"datum.kind == '{CURVE}'")
    across = rows.transform_filter(f"datum.kind == '{REFERENCE}'")
    points = rows.transform_filter(f"datum.kind != '{REFERENCE}'")
    combined = rows.transform_filter(f"datum.kind == '{COMBINED}'")
    faint = 0.16 if len(places.several) < 5 else 0.07
    colour, tips = scales.colour(), _tips(question.metric)
    once = rows.transform_aggregate(n="count()")
    text = f"{'always the mean' if question.metric == R2 else 'chance'} {100 * question.chance:.1f} %"
    chance_line = [
        once.mark_rule(strokeDash=[1, 3], color="var(--muted)").encode(**at_chance),
        once.mark_text(align="right", baseline="top", dy=3, fontSize=10, text=text).encode(
            x=alt.XDatum(domain[1]), **at_chance
        ),
    ]
    layers = [
        *(chance_line if is_within(100 * question.chance, limits) else []),
        curve.mark_area(opacity=faint, tooltip=False).encode(x=x, y=low, y2=high, color=colour),
        across.mark_rect(opacity=faint).encode(y=low, y2=high, color=colour),
        across.mark_rule(strokeDash=[6, 3], strokeWidth=1.6).encode(y=y, color=colour, tooltip=tips),
        combined.mark_rule(strokeWidth=1.4).encode(x=x, y=low, y2=high, color=colour),
        points.mark_rule(strokeWidth=1).encode(
            x=x, y=alt.Y("std_low:Q", **of_axis), y2="std_high:Q", color=colour
        ),
        curve.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour, strokeDash=scales.dash()),
        _told(points, NOT_TOLD, inside=False)
        .mark_point(filled=True, size=26)
        .encode(x=x, y=y, color=colour, shape=scales.shape(), tooltip=tips),
        _told(points, NOT_TOLD, inside=True)
        .mark_point(fill="var(--paper)", size=48, strokeWidth=1.8)
        .encode(x=x, y=y, stroke=scales.stroke(), tooltip=tips),
        _told(curve, CHOSEN, inside=True)
        .mark_point(filled=False, size=190, strokeWidth=2.2)
        .encode(x=x, y=y, stroke=scales.stroke(), tooltip=tips),
    ]
    return alt.layer(*layers)


def _told(chart: alt.Chart, mark: str, *, inside: bool) -> alt.Chart:
    """Rows that have a mark, or that have not."""
    return chart.transform_filter(f"datum.mark {'==' if inside else '!='} {json.dumps(mark)}")


def _tips(metric: str) -> list[Any]:
    import altair as alt

    return [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("place:N", title="Layer"),
        alt.Tooltip("score:Q", title=f"Test {metric} (%)", format=".1f"),
        alt.Tooltip("low:Q", title="95 % from", format=".1f"),
        alt.Tooltip("high:Q", title="95 % to", format=".1f"),
        alt.Tooltip("validation:Q", title=f"Validation {metric} (%)", format=".1f"),
        alt.Tooltip("chosen_share:Q", title="Chosen in", format=".0%"),
        alt.Tooltip("mark:N", title="Validation says"),
        alt.Tooltip("n_test:Q", title="Test clips"),
    ]


def weight_rows(data: ReportData) -> list[dict[str, Any]]:
    """Mean and range of learned weights in %, one row per question, model and layer."""
    found = []
    for number, question in enumerate(data.questions):
        for _, row in question.combined().iterrows():
            fits = question.fits
            same = (fits["model"] == row["model"]) & (fits["layers"] == row["layers"])
            fits = fits[same & (fits["combine"] == WEIGHTED) & (fits["layer_weights"] != "")]
            if row["combine"] != WEIGHTED or not len(fits):
                continue
            values = 100 * np.array([json.loads(text) for text in fits["layer_weights"]])
            layers = parse_layers(str(row["layers"]))
            columns = zip(layers, values.mean(0), values.min(0), values.max(0), strict=True)
            found += [
                {
                    "question": number,
                    "model": shown(row["model"]),
                    "layer": k,
                    "weight": float(mean),
                    "lowest": float(low),
                    "highest": float(high),
                    "equal": 100 / len(layers),
                    "n_fits": len(values),
                }
                for k, mean, low, high in columns
            ]
    return found


def weight_figure(
    number: int, question: ReportedQuestion, layers: Collection[float], scales: ModelScales
) -> Figure:
    """Learned weights over layers."""
    import altair as alt

    x = layer_axis(layers)
    y = alt.Y("weight:Q", title="Weight (%)", scale=alt.Scale(zero=True))
    rows, colour = rows_chart(), scales.colour()
    tips = ["model:N", "layer:Q", alt.Tooltip("weight:Q", format=".1f"), "n_fits:Q"]
    chart = alt.layer(
        rows.mark_line(strokeDash=[1, 3], strokeWidth=1).encode(x=x, y="equal:Q", color=colour),
        rows.mark_area(opacity=0.15).encode(x=x, y="lowest:Q", y2="highest:Q", color=colour),
        rows.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour, strokeDash=scales.dash()),
        rows.mark_point(filled=True, size=26).encode(
            x=x, y=y, color=colour, shape=scales.shape(), tooltip=tips
        ),
    )
    alt_text = f"Learned weights of layers, {question.title}; the table below holds the numbers."
    return question_figure(
        number,
        "weights",
        chart,
        height=170,
        section="weights",
        heading=question.heading,
        note=f"{question.setting}; {question.scope}",
        alt=alt_text,
        table="weights",
    )
