"""What a chart of the report is, and what all of them share: colours, marks of models, text from data.

Charts are Vega-Lite, made with Altair. Colours are CSS variables, so that the page shows one chart in light,
in dark and on paper; files have the light ones. Rows stand in tables that several charts share, and that
the page holds once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.printable import printable

if TYPE_CHECKING:
    import altair as alt
    import numpy.typing as npt
    import pandas as pd

    from probes.report.data import ReportData

# Okabe & Ito, "Color Universal Design" (2008), without yellow, which is faint on white.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
# After seven models colours come again, with other lines.
DASHES = ([1, 0], [7, 3], [2, 2], [8, 2, 2, 2])
#: The page's variables as files have them; ``style.css`` has the same and the dark ones.
LIGHT = {
    "--ink": "#1b1b19",
    "--muted": "#63635e",
    "--grid": "#e4e3de",
    "--rule": "#c9c8c2",
    "--paper": "#fefefd",
    "--accent": "#0b5d94",
    "--hit": "#1f6f54",
    "--miss": "#b4501e",
    **{f"--series-{i}": colour for i, colour in enumerate(SERIES_COLOURS)},
}
LAYER_AXIS = "Layer (0 = input of the first block)"
# An axis of scores has this many points at least, and holds a chance level that is no further from the scores
# than this share of what they span.
LEAST_SPAN, NEAR_SPANS = 5.0, 0.5
#: Name of the table that a chart draws.
ROWS = "rows"
#: Legends of models are left out on the page, whose filters show the same.
MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One chart.

    Attributes:
        name: Of its files, such as ``q1-layer-curve``, and its id on the page.
        section: Where it stands on the page.
        heading: What it is of.
        note: How it was asked, in small print.
        alt: What it shows, in a sentence, for who cannot see it.
        table: Name of the table that holds its rows.
        where: Columns of the table, and the value in the rows that are drawn.
        spec: Vega-Lite without data, of a table `ROWS`.
        question: Number of the question it belongs to; None where it belongs to none.
    """

    name: str
    section: str
    heading: str
    note: str = ""
    alt: str
    table: str
    where: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any]
    question: int | None = None

    def rows(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """What is drawn."""
        table = tables[self.table]
        for column, value in self.where.items():
            table = table[table[column] == value]
        return table


def question_figure(
    number: int, name: str, chart: Any, *, height: int, where: Mapping[str, Any] | None = None, **told: str
) -> Figure:
    """A chart of one question, which draws the question's rows of its table.

    Args:
        number: of the question, from 0.
        name: of the chart among those of the question.
        chart: of Altair, without data.
        height: in pixels.
        where: further columns of the table, and the value in the rows that are drawn.
        told: section, heading, note, alt and table of the `Figure`.
    """
    return Figure(
        name=f"q{number + 1}-{name}",
        where={"question": number, **(where or {})},
        spec=spec_of(chart, height=height, description=shown(told["alt"])),
        question=number,
        **told,
    )


@dataclass(frozen=True, kw_only=True)
class Charts:
    """All charts of a report, in the order of the page, and the tables they draw."""

    figures: tuple[Figure, ...]
    tables: Mapping[str, pd.DataFrame]

    def of(self, section: str, question: int | None = None) -> list[Figure]:
        """Those of a section of the page, and of one question if one is given."""
        return [
            f for f in self.figures if f.section == section and (question is None or f.question == question)
        ]


@dataclass(frozen=True, kw_only=True)
class SeriesStyle:
    """How one model looks in every chart.

    Attributes:
        index: Of its colour in `SERIES_COLOURS`.
        shape: Of its points.
        dash: Lengths of dashes and gaps of its line.
    """

    index: int
    shape: str
    dash: Sequence[int]


def series_styles(data: ReportData) -> dict[str, SeriesStyle]:
    """Give each model its colour, marker and line, in order."""
    n = len(SERIES_COLOURS)
    return {
        model: SeriesStyle(index=i % n, shape=SHAPES[i % len(SHAPES)], dash=DASHES[(i // n) % len(DASHES)])
        for i, model in enumerate(data.models)
    }


@dataclass(frozen=True, eq=False)
class ModelScales:
    """Channels of Altair that give each model its looks."""

    styles: Mapping[str, SeriesStyle]

    def colour(self) -> alt.Color:
        """Colour of lines, points and areas."""
        import altair as alt

        legend = alt.Legend(title="Model", symbolOpacity=1)
        return alt.Color(MODEL, type="nominal", scale=self._scale("colour"), legend=legend)

    def stroke(self) -> alt.Stroke:
        """Colour of what is drawn hollow."""
        import altair as alt

        return alt.Stroke(MODEL, type="nominal", scale=self._scale("colour"), legend=None)

    def shape(self) -> alt.Shape:
        """Shape of points."""
        import altair as alt

        legend = alt.Legend(title="Model", symbolOpacity=1)
        return alt.Shape(MODEL, type="nominal", scale=self._scale("shape"), legend=legend)

    def dash(self) -> alt.StrokeDash:
        """Dashes of lines."""
        import altair as alt

        # A second legend would show dashes apart from colours.
        return alt.StrokeDash(MODEL, type="nominal", scale=self._scale("dash"), legend=None)

    def _scale(self, what: str) -> alt.Scale:
        import altair as alt

        looks: Any = {
            "colour": [f"var(--series-{s.index})" for s in self.styles.values()],
            "shape": [s.shape for s in self.styles.values()],
            "dash": [list(s.dash) for s in self.styles.values()],
        }[what]
        return alt.Scale(domain=[shown(m) for m in self.styles], range=looks)


def shown(text: object) -> str:
    """Text from data as a chart shows it: control characters and turned directions are written out."""
    return printable(text)


def rows_chart() -> alt.Chart:
    """A chart of the table `ROWS`."""
    import altair as alt

    return alt.Chart(alt.NamedData(name=ROWS))


def layer_axis(layers: Collection[float]) -> alt.X:
    """An axis of layers, whole numbers below it; column ``layer``."""
    import altair as alt

    ticks = thinned(sorted({int(k) for k in layers}))
    scale = alt.Scale(domain=[min(layers) - 0.4, max(layers) + 0.4], nice=False, zero=False)
    return alt.X(
        "layer:Q", title=LAYER_AXIS, scale=scale, axis=alt.Axis(values=ticks, grid=False, format="d")
    )


def thinned(layers: Sequence[int]) -> Sequence[int]:
    """At most 13 of `layers`: more numbers do not fit below a panel."""
    return layers[:: max(1, -(-len(layers) // 13))]


def score_limits(scores: npt.ArrayLike, chances: Iterable[float]) -> tuple[float, float]:
    """Lowest and highest score of an axis, in %, with a margin.

    A chance level that lies far from all scores is left out: the curves would be pressed into a strip.

    Args:
        scores: Scores and the ends of their intervals, in %, of any shape; NaN where there is none.
        chances: Levels of guessing, in %.
    """
    ends = np.asarray(scores, dtype=float)
    if np.isnan(ends).all():
        return 0.0, 100.0
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    span = max(high - low, LEAST_SPAN)
    near = [c for c in chances if low - NEAR_SPANS * span <= c <= high + NEAR_SPANS * span]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.05 * max(high - low, LEAST_SPAN)
    # More room below: the chance level is written under its line.
    return round(low - 1.8 * margin, 3), round(min(high + margin, 103.0), 3)


def is_within(score: float, limits: tuple[float, float]) -> bool:
    """Whether a score stands on an axis with these limits."""
    return limits[0] <= score <= limits[1]


def step_height(n: int, step: float) -> int:
    """Height of `n` lines of a chart; of a height in steps Vega-Lite warns on the console."""
    return max(round(n * step), 40)


def spec_of(chart: Any, *, height: int, description: str = "") -> dict[str, Any]:
    """Vega-Lite of a chart that is as wide as what it stands in."""
    made: dict[str, Any] = chart.properties(width="container", height=height).to_dict()
    made.pop("$schema", None)
    made.pop("config", None)
    made.pop("datasets", None)
    return {**made, "description": description}


def config(font: str) -> dict[str, Any]:
    """Looks of all charts."""
    axis: dict[str, Any] = {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--grid)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 170,
    }
    legend = {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 220,
        "symbolStrokeWidth": 2,
    }
    return {
        "background": "transparent",
        "font": font,
        "view": {"stroke": None},
        "axis": axis,
        "legend": legend,
        # Points say to a screen reader what they show; what leads to them would say it again.
        **{mark: {"aria": False} for mark in ("rule", "rect", "area", "line")},
        "text": {"color": "var(--muted)", "aria": False},
        "title": {"color": "var(--ink)", "subtitleColor": "var(--muted)", "anchor": "start", "fontSize": 12},
    }


def in_light(spec: Any) -> Any:
    """A specification with colours for the page's variables, as files need them."""
    text = json.dumps(spec)
    for name, colour in LIGHT.items():
        text = text.replace(f"var({name})", colour)
    return json.loads(text)


def without_model_legends(spec: Any) -> Any:
    """A specification for the page, whose filters say what models look like."""
    if isinstance(spec, list):
        return [without_model_legends(part) for part in spec]
    if not isinstance(spec, dict):
        return spec
    if spec.get("field") == MODEL and "legend" in spec:
        return {**spec, "legend": None}
    return {name: without_model_legends(part) for name, part in spec.items()}
