"""What is recognised and what it is taken for: recall of each class, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from probes.report.charts.figure import Figure, rows_chart, shown, spec_of, step_height
from probes.statistics import Interval, interval_of

if TYPE_CHECKING:
    from probes.report.data import ReportData, ReportedQuestion

# Above this shares in the cells of the matrix cannot be read; shades stay, and the file of the figure.
MAX_CLASSES_WITH_NUMBERS = 16


def recall_intervals_of(data: ReportData, question: ReportedQuestion) -> dict[str, Interval]:
    """Interval of the recall of each class, of the probe behind the answer; empty where there is none."""
    judged = data.findings[question.name].judged_answers.get(str(question.answer["model"]))
    if judged is None or judged.influence is None:
        return {}
    return {str(name): interval_of(judged.influence.only(k)) for k, name in enumerate(judged.influence.names)}


def recall_rows(number: int, details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per class of `probes.report.details.details_of`, recalls in %."""
    return [
        {
            "question": number,
            "class": shown(row["name"]),
            "test_clips": row["support_sort"],
            "recall": 100 * float(row["recall_sort"]) if row["recall_sort"] else math.nan,
            "low": 100 * row["low"],
            "high": 100 * row["high"],
            "n_groups": row["n_groups"],
            "mostly_taken_for": shown(row["confused"]),
        }
        for row in details["rows"]
    ]


def confusion_rows(number: int, details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per class and class it was taken for, where that happened."""
    return [
        {
            "question": number,
            "class": shown(row["name"]),
            "predicted": shown(cell["other"]),
            "count": cell["count"],
            "share": cell["exact"],
            "right": bool(cell["hit"]),
        }
        for row in details["rows"]
        for cell in row["cells"]
        if cell["count"]
    ]


def class_figures(number: int, question: ReportedQuestion, details: Mapping[str, Any]) -> list[Figure]:
    """Recall of each class, and where classes exclude each other the confusion matrix."""
    names = [shown(name) for name in details["classes"]]
    of = f"{question.title}, {question.answer['model']}"
    row_height = 19 if len(names) < 40 else 12
    kinds = [("recall", "recalls", "Recall of each class", _recall_chart(names), row_height)]
    if question.metric == "UAR":
        step = max(9, min(28, 420 // len(names)))
        kinds.append(("confusion", "confusion", "Confusion matrix", _confusion_chart(names), step))
    return [
        Figure(
            name=f"q{number + 1}-{kind}",
            section="classes",
            heading=f"{what}",
            note="",
            alt=f"{what}, {of}: {len(names)} classes. The table beside it holds the recalls.",
            table=table,
            where={"question": number},
            spec=spec_of(chart, height=step_height(len(names), step), description=shown(f"{what}, {of}")),
            question=number,
        )
        for kind, table, what, chart, step in kinds
    ]


def _recall_chart(names: list[str]) -> Any:
    import altair as alt

    y = alt.Y("class:N", sort=names, title=None, scale=alt.Scale(domain=names))
    of_axis: dict[str, Any] = {"title": "Recall (%)", "scale": alt.Scale(domain=[0, 100])}
    tips = [
        alt.Tooltip("class:N", title="Class"),
        alt.Tooltip("recall:Q", title="Recall (%)", format=".1f"),
        alt.Tooltip("low:Q", title="95 % from", format=".1f"),
        alt.Tooltip("high:Q", title="95 % to", format=".1f"),
        alt.Tooltip("test_clips:Q", title="Test clips", format=",.4~g"),
        alt.Tooltip("n_groups:Q", title="Groups"),
        alt.Tooltip("mostly_taken_for:N", title="Mostly taken for"),
    ]
    rows = rows_chart()
    return alt.layer(
        rows.mark_rule(color="var(--hit)", strokeWidth=1.6).encode(
            x=alt.X("low:Q", **of_axis), x2="high:Q", y=y
        ),
        rows.mark_point(filled=True, color="var(--hit)", size=60, opacity=1).encode(
            x=alt.X("recall:Q", **of_axis), y=y, tooltip=tips
        ),
    )


def _confusion_chart(names: list[str]) -> Any:
    import altair as alt

    x = alt.X(
        "predicted:N",
        sort=names,
        title="Predicted class",
        scale=alt.Scale(domain=names),
        axis=alt.Axis(labelAngle=-90, labelLimit=110, domain=False, ticks=False),
    )
    y = alt.Y(
        "class:N",
        sort=names,
        title="True class",
        scale=alt.Scale(domain=names),
        axis=alt.Axis(labelLimit=120, domain=False, ticks=False),
    )
    colour = alt.condition("datum.right", alt.value("var(--hit)"), alt.value("var(--miss)"))
    tips = [
        alt.Tooltip("class:N", title="True class"),
        alt.Tooltip("predicted:N", title="Taken for"),
        alt.Tooltip("count:Q", title="Predictions", format=","),
        alt.Tooltip("share:Q", title="% of the class", format=".1f"),
    ]
    cells = (
        rows_chart()
        .mark_rect(stroke="var(--paper)", strokeWidth=1)
        .encode(
            x=x,
            y=y,
            color=colour,
            opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 100], range=[0.06, 1]), legend=None),
            tooltip=tips,
        )
    )
    if len(names) > MAX_CLASSES_WITH_NUMBERS:
        return cells
    dark = alt.condition("datum.share > 55", alt.value("var(--paper)"), alt.value("var(--ink)"))
    numbers = (
        rows_chart()
        .mark_text(fontSize=10)
        .encode(x=x, y=y, text=alt.Text("share:Q", format=".0f"), color=dark)
    )
    return alt.layer(cells, numbers)
