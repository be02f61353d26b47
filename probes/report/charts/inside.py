"""What `fs inspect` found in layers: how alike they are, their shape, how classes lie in them, and a map."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore.printable import counted
from probes.geometry.plane import NEIGHBOURS, PRINCIPAL
from probes.report.charts.figure import (
    Figure,
    ModelScales,
    layer_axis,
    rows_chart,
    shown,
    spec_of,
    step_height,
)

if TYPE_CHECKING:
    from probes.report.beside import Beside
    from probes.report.data import ReportData

# Column of geometry.csv, its head, what it says, and the column of what chance gives.
MEASURES = (
    ("two_nn", "Dimension (TwoNN)", "dimensions of the surface that utterances lie on", ""),
    ("participation_ratio_debiased", "Participation ratio", "directions that the variance spreads over", ""),
    ("effective_rank", "Effective rank", "directions that matter, by the entropy of singular values", ""),
    ("mean_cosine", "Mean cosine", "1 where all utterances point one way", ""),
    ("silhouette", "Silhouette", "how much nearer utterances of a class are to each other", ""),
    ("fisher_ratio", "Fisher ratio", "variance between classes over that within", "fisher_chance"),
    ("purity", "Neighbour purity", "neighbours of other groups with the same class", "purity_chance"),
)
# More cells or points than this are drawn as a picture.
MOST_LABELS = 30
RIGHT, WRONG, UNTESTED = "right", "wrong", "not tested"
MOST_COLOURS = 20
# How a map was made: in words, its axes, and how to read it.
_MAPS = {
    PRINCIPAL: ("two principal components", ("First principal component", "Second"), ""),
    NEIGHBOURS: ("t-SNE", ("t-SNE", ""), ": near points are near; distances between groups say nothing"),
}


def cka_rows(beside: Beside) -> pd.DataFrame:
    """CKA of every two layers, with the names that the axes show."""
    table = beside.table("cka.csv")
    if table is None:
        return pd.DataFrame(columns=["model_a", "layer_a", "model_b", "layer_b", "cka", "a", "b"])
    found = table[["layer_a", "layer_b", "cka"]].assign(
        model_a=table["model_a"].map(shown), model_b=table["model_b"].map(shown)
    )
    for end in ("a", "b"):
        found[end] = found[f"model_{end}"] + " · " + found[f"layer_{end}"].map("{:g}".format)
    return found


def shape_rows(beside: Beside) -> pd.DataFrame:
    """One row per model, layer and measure of `MEASURES`."""
    columns = ["dataset", "model", "layer", "measure", "value", "chance"]
    table = beside.table("geometry.csv")
    if table is None:
        return pd.DataFrame(columns=columns)
    parts = [
        pd.DataFrame(
            {
                "dataset": table["dataset"].map(shown),
                "model": table["model"].map(shown),
                "layer": table["layer"],
                "measure": name,
                "value": table[name],
                "chance": table.get(chance, np.nan),
            }
        )
        for name, _, _, chance in MEASURES
        if name in table and table[name].notna().any()
    ]
    return pd.concat(parts, ignore_index=True)[columns]


def map_rows(data: ReportData, beside: Beside) -> pd.DataFrame:
    """Points of the map, with what the probe behind the answer said of each in most of its fits."""
    # Not "label": filters take that for the name of a question's label.
    columns = ["model", "layer", "utterance_id", "x", "y", "class", "group", "answer", "map"]
    table = beside.table("map.csv")
    if table is None:
        return pd.DataFrame(columns=columns)
    if data.most_points is not None and len(table) > data.most_points:
        at = np.random.default_rng(0).choice(len(table), data.most_points, replace=False)
        table = table.iloc[np.sort(at)]
    right = _share_right(data, table)
    answer = np.where(right.isna(), UNTESTED, np.where(right > 0.5, RIGHT, WRONG))
    texts = {name: table[name].map(shown) for name in ("model", "utterance_id", "group")}
    texts["class"] = table["label"].map(shown)
    # Tables of earlier versions have no such column: principal components were the only map.
    kind = table["map"].map(shown) if "map" in table else PRINCIPAL
    return table.assign(**texts, answer=answer, map=kind)[columns].reset_index(drop=True)


def _share_right(data: ReportData, points: pd.DataFrame) -> pd.Series:
    """Of each point the share of fits that were right about it; NaN where none of them tested it.

    Of the question whose targets are the labels of the map: a map does not say of which label it is.
    """
    for question in data.questions:
        if question.dataset != points["dataset"].iloc[0] or question.metric != "UAR":
            continue
        said = data.predictions
        said = said[said["fingerprint"].isin(question.answer_fits["fingerprint"])]
        frame = pd.DataFrame(
            {
                "utterance_id": said["utterance_id"].astype(str),
                "target": said["target"].astype(str),
                "right": said["target"].astype(str) == said["prediction"].astype(str),
            }
        )
        targets = frame.drop_duplicates("utterance_id").set_index("utterance_id")["target"]
        own = points["utterance_id"].map(targets)
        if own.notna().any() and (own.dropna() == points.loc[own.notna(), "label"]).all():
            return points["utterance_id"].map(frame.groupby("utterance_id")["right"].mean())
    return pd.Series(np.nan, index=points.index)


def inside_figures(tables: Mapping[str, pd.DataFrame], scales: ModelScales) -> list[Figure]:
    """All charts of an inspection."""
    found = []
    if len(tables["cka"]):
        found.append(_cka_figure(tables["cka"]))
    known = set(scales.styles)
    for name, head, says, chance in MEASURES:
        rows = tables["shape"][tables["shape"]["measure"] == name]
        if len(rows):
            others = set(rows["model"]) - {shown(m) for m in known}
            alt_text = f"{head} by layer, of {counted(rows['model'].nunique(), 'model')}: {says}."
            found.append(
                Figure(
                    name=f"inside-{name.replace('_', '-')}",
                    section="inside",
                    heading=head,
                    note=f"{says[0].upper()}{says[1:]}{'; dotted: by chance' if chance else ''}",
                    alt=alt_text,
                    table="shape",
                    where={"measure": name},
                    spec=spec_of(
                        _shape_chart(head, set(rows["layer"]), scales, plain=bool(others)),
                        height=190,
                        description=shown(alt_text),
                    ),
                )
            )
    if len(tables["map"]):
        found += _map_figures(tables["map"])
    return found


def _cka_figure(rows: pd.DataFrame) -> Figure:
    import altair as alt

    names = list(dict.fromkeys(rows["a"]))
    few = len(names) <= MOST_LABELS
    axis: dict[str, Any] = {"labels": few, "ticks": False, "domain": False, "labelLimit": 120}
    x = alt.X("a:N", sort=names, title="Model and layer", axis=alt.Axis(labelAngle=-90, **axis))
    y = alt.Y("b:N", sort=names, title="Model and layer", axis=alt.Axis(**axis))
    tips = [
        alt.Tooltip("a:N", title="Layer"),
        alt.Tooltip("b:N", title="and"),
        alt.Tooltip("cka:Q", title="CKA", format=".3f"),
    ]
    opacity = alt.Opacity("cka:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 1], clamp=True), title="CKA")
    chart = rows_chart().mark_rect(color="var(--accent)").encode(x=x, y=y, opacity=opacity, tooltip=tips)
    alt_text = (
        f"Debiased linear CKA of every two of {len(names)} layers, from 0 (nothing shared) to 1 (the same)."
    )
    step = max(3, min(20, 480 // len(names)))
    return Figure(
        name="inside-cka",
        section="inside",
        heading="How alike layers are (CKA)",
        note="Debiased linear CKA; 1: the same up to rotation and scale",
        alt=alt_text,
        table="cka",
        spec=spec_of(chart, height=step_height(len(names), step), description=alt_text),
    )


def _shape_chart(head: str, layers: Collection[float], scales: ModelScales, *, plain: bool) -> Any:
    import altair as alt

    x = layer_axis(layers)
    of_axis: dict[str, Any] = {"title": head, "scale": alt.Scale(zero=False)}
    # Models that were inspected and not probed have no colour of theirs.
    colour = alt.Color("model:N", title="Model") if plain else scales.colour()
    shape = alt.Shape("model:N", title="Model") if plain else scales.shape()
    numbers = [alt.Tooltip(f"{name}:Q", format=".3~g") for name in ("value", "chance")]
    tips = ["model:N", "layer:Q", *numbers]
    rows = rows_chart()
    return alt.layer(
        rows.mark_line(strokeDash=[1, 3], strokeWidth=1).encode(
            x=x, y=alt.Y("chance:Q", **of_axis), color=colour
        ),
        rows.mark_line(strokeWidth=1.8).encode(x=x, y=alt.Y("value:Q", **of_axis), color=colour),
        rows.mark_point(filled=True, size=30).encode(
            x=x, y=alt.Y("value:Q", **of_axis), color=colour, shape=shape, tooltip=tips
        ),
    )


def _map_figures(rows: pd.DataFrame) -> list[Figure]:
    import altair as alt

    first = rows.iloc[0]
    place = f"{first['model']}, layer {first['layer']:g}"
    by, axes, means = _MAPS.get(first["map"], (first["map"], ("", ""), ""))
    found = []
    for column, what in (("class", "class"), ("group", "group"), ("answer", "right or wrong")):
        values = sorted(rows[column].unique())
        if values in ([""], [UNTESTED]):
            continue
        legend: alt.Legend | None = alt.Legend(title=what.capitalize(), columns=2, symbolOpacity=1)
        if len(values) > MOST_COLOURS:
            legend = None  # colours come again
        scale = alt.Scale(domain=values, scheme="tableau20")
        if column == "answer":
            looks = {RIGHT: "var(--hit)", WRONG: "var(--miss)", UNTESTED: "var(--rule)"}
            scale = alt.Scale(domain=list(looks), range=list(looks.values()))
        no_axis = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
        chart = (
            rows_chart()
            .mark_circle(size=18, opacity=0.7)
            .encode(
                x=alt.X("x:Q", title=axes[0], axis=no_axis),
                y=alt.Y("y:Q", title=axes[1], axis=no_axis),
                color=alt.Color(f"{column}:N", scale=scale, legend=legend),
                tooltip=["utterance_id:N", "class:N", "group:N", "answer:N"],
            )
        )
        note = f"{place}; {by}{means}"
        note += f"; {len(values)} {what}s, colours come again" if legend is None else ""
        of = f"{len(rows):,} utterances by {by}, {place}"
        alt_text = f"Map of {of}, coloured by {what}."
        found.append(
            Figure(
                name=f"inside-map-{column}",
                section="inside",
                heading=f"Map, by {what}",
                note=note,
                alt=alt_text,
                table="map",
                spec=spec_of(chart, height=300, description=shown(alt_text)),
            )
        )
    return found
