"""Scores over shares of the training data, as `fs probe --curve` found them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurestore.printable import printable
from probes.questions.curve import GROUPS
from probes.report.charts.figure import (
    Figure,
    ModelScales,
    is_within,
    rows_chart,
    score_limits,
    shown,
    spec_of,
)
from probes.results.learning_curves import QUESTION, last_steps, learning_curves, unsettled_sentence

if TYPE_CHECKING:
    import pandas as pd

    from probes.report.data import ReportData

AXIS: dict[str, Any] = {"grid": False, "tickCount": 6}
# What one chart is of; its lines are models.
CHART = ["dataset", "label", "classifier", "split", "curve"]


def learning_rows(data: ReportData) -> pd.DataFrame:
    """Learning curves (`probes.results.learning_curves`), scores in %, with the number of their ``chart``."""
    table = learning_curves(data.path)
    table = table.assign(chart=table.groupby(CHART, sort=True).ngroup())
    percents = {name: 100 * table[name] for name in ("share", "score_mean", "score_std", "chance")}
    table = table.assign(**percents)
    table = table.assign(
        low=table["score_mean"] - table["score_std"], high=table["score_mean"] + table["score_std"]
    )
    texts = ("model", "dataset", "label", "classifier", "split", "combine", "curve", "place", "group")
    return table.assign(**{name: table[name].map(shown) for name in texts})


def learning_figures(table: pd.DataFrame, scales: ModelScales) -> list[Figure]:
    """A chart for each label, classifier, split and kind of share."""
    found = []
    for number, rows in ((int(n), table[table["chart"] == n]) for n in table["chart"].unique()):
        first = rows.iloc[0]
        of = "groups" if first["curve"] == GROUPS else "clips"
        heading = f"{first['label']} · {first['dataset']}"
        note = f"{first['classifier']} · split: {first['split']}; shares of the training {of}"
        limits = score_limits(rows[["score_mean", "low", "high"]], rows["chance"])
        has_chance = all(is_within(c, limits) for c in rows["chance"])
        if not has_chance and rows["chance"].notna().all():
            note += f"; chance, {rows['chance'].mean():.1f} %, is far from what is drawn"
        alt_text = (
            f"Test {first['metric']} by share of the training {of}, {heading}, {note}: "
            f"{rows['model'].nunique()} models, from {rows['share'].min():.4g} to "
            f"{rows['share'].max():.4g} %. "
            "The table below holds the numbers."
        )
        chart = _chart(scales, of, str(first["metric"]), limits, has_chance=has_chance)
        found.append(
            Figure(
                name=f"learning-curve-{number + 1}",
                section="learning",
                heading=heading,
                note=note,
                alt=alt_text,
                table="learning",
                where={"chart": number},
                spec=spec_of(chart, height=220, description=shown(alt_text)),
            )
        )
    return found


def _chart(
    scales: ModelScales, of: str, metric: str, limits: tuple[float, float], *, has_chance: bool
) -> Any:
    import altair as alt

    x = alt.X("share:Q", title=f"Training {of} (%)", scale=alt.Scale(domain=[0, 104], nice=False), axis=AXIS)
    named = f"Test {metric} (%)"
    of_axis: dict[str, Any] = {"title": named, "scale": alt.Scale(domain=list(limits), nice=False)}
    y, colour, rows = alt.Y("score_mean:Q", **of_axis), scales.colour(), rows_chart()
    tips = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("place:N", title="At"),
        alt.Tooltip("share:Q", title="Share (%)", format=".3~g"),
        alt.Tooltip("score_mean:Q", title=named, format=".1f"),
        alt.Tooltip("score_std:Q", title="± over draws and seeds", format=".1f"),
        alt.Tooltip("n_train:Q", title="Training clips", format=",.0f"),
        alt.Tooltip("n_train_groups:Q", title="Training groups", format=",.4~g"),
        alt.Tooltip("n_draws:Q", title="Draws"),
    ]
    detail = ["place:N", "split_seed:N", "combine:N"]
    chance = rows.mark_line(strokeDash=[1, 3], strokeWidth=1).encode(
        x=x, y=alt.Y("chance:Q", **of_axis), color=alt.value("var(--muted)"), detail=detail
    )
    return alt.layer(
        *([chance] if has_chance else []),
        rows.mark_rule(strokeWidth=1).encode(x=x, y=alt.Y("low:Q", **of_axis), y2="high:Q", color=colour),
        rows.mark_line(strokeWidth=1.8).encode(
            x=x, y=y, color=colour, strokeDash=scales.dash(), detail=detail
        ),
        rows.mark_point(filled=True, size=34).encode(
            x=x, y=y, color=colour, shape=scales.shape(), tooltip=tips
        ),
    )


def learning_sentences(data: ReportData, table: pd.DataFrame) -> list[str]:
    """Whether each curve still rises, and what limits that."""
    if table.empty:
        return []
    steps = last_steps(data.path)
    late = [
        f"{rows['label'].iloc[0]}, {rows['model'].iloc[0]}: {text}"
        for _, rows in table.assign(share=table["share"] / 100).groupby(list(QUESTION), sort=False)
        if (text := unsettled_sentence(rows))
    ]
    contents = dict.fromkeys(text for step in steps if (text := step.contents()))
    return [printable(text) for text in (*(s.sentence() for s in steps), *late, *contents)]
