"""Differences with their intervals, as a forest plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from probes.findings.question_findings import LAYERS
from probes.findings.sentences import ALPHA
from probes.report.charts.figure import Figure, question_figure, rows_chart, shown, step_height

if TYPE_CHECKING:
    from probes.report.data import ReportData, ReportedQuestion

# More lines than this cannot be taken in; the table and comparisons.csv hold all.
MOST_LINES = 40
COLUMNS = ("question", "contrast", "a", "b", "compared", "difference", "low", "high", "p_holm", "n_groups")
MODEL_COLUMNS = ("model_a", "model_b")


def comparison_rows(data: ReportData) -> pd.DataFrame:
    """Comparisons but those of layers, differences in points; of models first those with the answer's."""
    numbers = {q.name: i for i, q in enumerate(data.questions)}
    rows = []
    for question, found in data.comparisons:
        if found.contrast == LAYERS:
            continue
        findings, result = data.findings[question.name], found.result
        answer = findings.shown(str(question.answer["model"]))
        model_of = {findings.shown(m): m for m in findings.answers}
        rows.append(
            {
                "question": numbers[question.name],
                "contrast": found.contrast,
                "a": shown(found.a),
                "b": shown(found.b),
                "compared": shown(f"{found.a} − {found.b}"),
                "difference": 100 * result.difference,
                "low": 100 * result.low,
                "high": 100 * result.high,
                "p_holm": found.p_holm,
                "n_groups": result.n_groups,
                # For filters; "" where it is no single model.
                "model_a": shown(model_of.get(found.a, "")),
                "model_b": shown(model_of.get(found.b, "")),
                "of_answer": answer in (found.a, found.b),
            }
        )
    table = pd.DataFrame(rows, columns=[*COLUMNS, *MODEL_COLUMNS, "of_answer"])
    table = table.sort_values(["question", "of_answer"], ascending=[True, False], kind="stable")
    return table.groupby("question").head(MOST_LINES).drop(columns="of_answer").reset_index(drop=True)


def comparison_figure(number: int, question: ReportedQuestion, n_lines: int) -> Figure:
    """Each comparison as a point with its interval, and a line at no difference."""
    import altair as alt

    y = alt.Y("compared:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
    of_axis: dict[str, Any] = {"title": f"Difference of test {question.metric} (points)"}
    tips = [
        alt.Tooltip("contrast:N", title="Compared"),
        alt.Tooltip("a:N", title="A"),
        alt.Tooltip("b:N", title="B"),
        alt.Tooltip("difference:Q", title="A − B (points)", format="+.1f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.1f"),
        alt.Tooltip("high:Q", title="95 % to", format="+.1f"),
        alt.Tooltip("p_holm:Q", title="p (Holm)", format=".3f"),
        alt.Tooltip("n_groups:Q", title="Groups"),
    ]
    rows = rows_chart()
    is_told = f"isValid(datum.p_holm) && datum.p_holm <= {ALPHA}"
    colour = alt.condition(is_told, alt.value("var(--accent)"), alt.value("var(--muted)"))
    chart: Any = alt.layer(
        rows.transform_aggregate(n="count()")
        .mark_rule(color="var(--rule)")
        .encode(x=alt.XDatum(0, **of_axis)),
        rows.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q", **of_axis), x2="high:Q", y=y, color=colour),
        rows.mark_point(filled=True, size=60, opacity=1).encode(
            x=alt.X("difference:Q", **of_axis), y=y, color=colour, tooltip=tips
        ),
    )
    alt_text = f"Differences with 95 % intervals, {question.title}; the table holds the numbers."
    return question_figure(
        number,
        "comparisons",
        chart,
        height=step_height(n_lines, 19),
        section="comparisons",
        heading=question.heading,
        note=f"{question.setting}; {question.scope}",
        alt=alt_text,
        table="comparisons",
    )
