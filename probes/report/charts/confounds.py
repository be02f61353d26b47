"""How well confounds alone say a label, and how well layers know them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pandas as pd

from probes.confounds.layers import R2
from probes.report.charts.figure import (
    SERIES_COLOURS,
    SHAPES,
    Figure,
    layer_axis,
    question_figure,
    rows_chart,
    shown,
    step_height,
)

if TYPE_CHECKING:
    from probes.report.beside import Beside
    from probes.report.data import ReportData, ReportedQuestion

EXPLAINS, NOT = "may explain the label", "does not"


def confound_rows(data: ReportData, beside: Beside) -> pd.DataFrame:
    """Scores of confounds for each question of the results that they were measured for, in %."""
    columns = ["question", "models", "confound", "uar", "low", "high", "chance", "says", "n_test", "n_groups"]
    table, found = beside.table("confound_scores.csv"), []
    for number, question in enumerate(data.questions):
        rows = _of_question(table, question)
        if rows is None or question.metric != "UAR":
            continue
        # Models have the same clips nearly always; where not, those of the answer's are shown.
        own = rows[[str(question.answer["model"]) in m.split(", ") for m in rows["models"]]]
        rows = own if len(own) else rows[rows["models"] == rows["models"].iloc[0]]
        for row in rows.to_dict("records"):
            found.append(
                {
                    "question": number,
                    "models": shown(row["models"]),
                    "confound": shown(row["confound"]),
                    "uar": 100 * row["uar"],
                    "low": 100 * row["ci_low"],
                    "high": 100 * row["ci_high"],
                    "chance": 100 * row["chance"],
                    "says": EXPLAINS if row["explains"] == "True" else NOT,
                    "n_test": row["n_test"],
                    "n_groups": row["n_groups"],
                }
            )
    return pd.DataFrame(found, columns=columns)


def confound_layer_rows(data: ReportData, beside: Beside) -> pd.DataFrame:
    """How well each layer of the models of a question knows each confound."""
    table, found = beside.table("confound_layers.csv"), []
    for number, question in enumerate(data.questions):
        rows = _of_question(table, question)
        if rows is not None:
            rows = rows[rows["model"].isin(question.models)]
            found.append(
                pd.DataFrame(
                    {
                        "question": number,
                        "model": rows["model"].map(shown),
                        "layer": rows["layer"],
                        "confound": rows["confound"].map(shown),
                        "measure": rows["measure"].map(shown),
                        "score": rows["balanced_accuracy_or_r2"],
                        "chance": rows["chance"],
                    }
                )
            )
    columns = ["question", "model", "layer", "confound", "measure", "score", "chance"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _of_question(table: pd.DataFrame | None, question: ReportedQuestion) -> pd.DataFrame | None:
    if table is None:
        return None
    names = {"dataset": question.dataset, "label": question.label, "split": question.split}
    rows = table[(table[list(names)] == list(names.values())).all(axis=1)]
    return rows if len(rows) else None


def confound_figures(data: ReportData, scores: pd.DataFrame, layers: pd.DataFrame) -> list[Figure]:
    """For each question the score of each confound beside its answer, and confounds over layers."""
    found: list[Figure] = []
    of_layers: set[tuple[str, str, str]] = set()
    for number, question in enumerate(data.questions):
        if n_scores := int((scores["question"] == number).sum()):
            answer = 100 * float(question.answer["score_test_mean"])
            alt_text = (
                f"Test UAR of forests that know one confound alone, {question.title}, beside the answer of "
                f"the probes, {answer:.1f} %, and chance, {100 * question.chance:.1f} %."
            )
            found.append(
                question_figure(
                    number,
                    "confounds",
                    _score_chart(question, answer),
                    height=step_height(n_scores, 22),
                    section="confounds",
                    heading="The label from confounds alone",
                    note="Forests on one confound each, on the same clips and split",
                    alt=alt_text,
                    table="confounds",
                )
            )
        name = question.dataset, question.label, question.split
        if name in of_layers:  # layers know what they know, whatever classifier is asked
            continue
        of_layers.add(name)
        of_question = layers[layers["question"] == number]
        for measure, rows in of_question.groupby("measure"):
            named = "R²" if measure == R2 else str(measure).replace("_", " ")
            alt_text = f"How well layers know confounds, {named} by layer, {question.title}."
            kind = "r2" if measure == R2 else "accuracy"
            found.append(
                question_figure(
                    number,
                    f"confounds-in-layers-{kind}",
                    _layer_chart(sorted(rows["confound"].unique()), set(rows["layer"]), named),
                    height=230,
                    where={"measure": measure},
                    section="confounds",
                    heading="What layers know of confounds",
                    note=f"{named} on test clips; one line for each confound and model",
                    alt=alt_text,
                    table="confound_layers",
                )
            )
    return found


def _score_chart(question: ReportedQuestion, answer: float) -> Any:
    import altair as alt

    y = alt.Y("confound:N", sort=None, title=None)
    of_axis: dict[str, Any] = {"title": "Test UAR (%)", "scale": alt.Scale(domain=[0, 100])}
    colour = alt.condition(f"datum.says == '{EXPLAINS}'", alt.value("var(--miss)"), alt.value("var(--muted)"))
    tips = [
        alt.Tooltip("confound:N", title="Confound"),
        alt.Tooltip("uar:Q", title="Test UAR (%)", format=".1f"),
        alt.Tooltip("low:Q", title="95 % from", format=".1f"),
        alt.Tooltip("high:Q", title="95 % to", format=".1f"),
        alt.Tooltip("says:N", title="It"),
        alt.Tooltip("n_test:Q", title="Test clips", format=","),
    ]
    rows = rows_chart()
    once = rows.transform_aggregate(n="count()")

    def line(at: float, name: str, colour: str, dash: list[int]) -> list[Any]:
        x = alt.XDatum(at, **of_axis)
        label = once.mark_text(align="left", baseline="bottom", dx=3, dy=-2, fontSize=10, text=name)
        return [
            once.mark_rule(strokeDash=dash, color=colour).encode(x=x),
            label.encode(x=x, y=alt.value(0)),
        ]

    return alt.layer(
        *line(100 * question.chance, "chance", "var(--muted)", [1, 3]),
        *line(answer, "probe", "var(--accent)", [1, 0]),
        rows.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q", **of_axis), x2="high:Q", y=y, color=colour),
        rows.mark_point(filled=True, size=60, opacity=1).encode(
            x=alt.X("uar:Q", **of_axis), y=y, color=colour, tooltip=tips
        ),
    )


def _layer_chart(confounds: list[str], layers: Collection[float], named: str) -> Any:
    import altair as alt

    n = len(SERIES_COLOURS)
    looks = {
        "colour": [f"var(--series-{i % n})" for i in range(len(confounds))],
        "shape": [SHAPES[i % len(SHAPES)] for i in range(len(confounds))],
    }
    legend = alt.Legend(title="Confound", symbolOpacity=1)
    colour = alt.Color("confound:N", scale=alt.Scale(domain=confounds, range=looks["colour"]), legend=legend)
    shape = alt.Shape("confound:N", scale=alt.Scale(domain=confounds, range=looks["shape"]), legend=legend)
    x = layer_axis(layers)
    y = alt.Y("score:Q", title=f"{named[0].upper()}{named[1:]}", scale=alt.Scale(zero=True))
    tips = ["confound:N", "model:N", "layer:Q", alt.Tooltip("score:Q", format=".2f")]
    rows = rows_chart()
    return alt.layer(
        rows.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=colour, detail="model:N"),
        rows.mark_point(filled=True, size=30).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips),
    )
