"""Layer curves: test score against layer, one panel per question, one colour per model."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.outputs import put_file
from featurestore.printable import on_page, printable
from probes.classifiers.layer_combination import COMBINATIONS
from probes.report.tables import UNLIKE, extent

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probes.report.data import ReportData, ReportedQuestion

# Okabe & Ito, "Color Universal Design" (2008), without yellow, which is faint on white.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, GRID, PAPER = "#1b1b19", "#6b6b66", "#e4e3de", "#fefefd"
MAX_COLUMNS = 3
# Width of a column of combined layers, in layers: its name has to fit below, whatever their number.
COLUMN_LAYERS, COLUMN_SHARE = 1.2, 0.23
DOTTED, DASHED = (0, (1, 2)), (0, (5, 2))
LAYER_AXIS = "Layer (0 = input of the first block)"


@dataclass(frozen=True, kw_only=True)
class SeriesStyle:
    """How one model looks in every panel; colour and marker repeat after seven models.

    Attributes:
        dashed: It has one layer only wherever it is asked, which is no curve.
    """

    colour: str
    marker: str
    index: int
    dashed: bool


def series_styles(data: ReportData) -> dict[str, SeriesStyle]:
    """Give each model its colour and marker, in order."""
    n_layers = [(m, len(q.layers_of(m))) for q in data.questions for m in q.models]
    dashed = {m for m, n in n_layers if n == 1} - {m for m, n in n_layers if n > 1}
    return {
        model: SeriesStyle(
            colour=SERIES_COLOURS[i % len(SERIES_COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            index=i % len(SERIES_COLOURS),
            dashed=model in dashed,
        )
        for i, model in enumerate(data.models)
    }


def write_figures(data: ReportData, png: Path, svg: Path) -> None:
    """Write the layer curves of all questions as PNG (200 dpi) and SVG; same data, same bytes."""
    with drawing("path"):
        figure = _draw(data, data.questions, legend=True)
        for path, options in (
            (png, {"format": "png", "dpi": 200, "metadata": {"Software": None}}),
            (svg, {"format": "svg", "metadata": {"Date": None, "Creator": None}}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, **options)
            put_file(buffer.getvalue(), path)


def panel_svg(data: ReportData, question: ReportedQuestion, prefix: str) -> Markup:
    """Draw one panel as an inline `<svg>` for a page: text stays text, colours are CSS variables.

    `prefix` keeps ids of several drawings on one page apart. The page has to define `--ink`,
    `--muted`, `--grid`, `--paper`, `--sans` and `--series-0` … `--series-6`.
    """
    with drawing("none"):
        figure = _draw(data, [question], legend=False)
        return inline_svg(figure, prefix, f"Layer curve of {question.title}")


@contextmanager
def drawing(font_type: str) -> Iterator[None]:
    """Matplotlib's settings for every figure of ours; `font_type` is "path" or "none" (text stays text).

    Its own defaults, and none of a ``matplotlibrc``: matplotlib reads one that lies in the current folder, by
    which a figure would look, and run (LaTeX), as somebody else wants it.
    """
    from matplotlib import rc_context, rcParamsDefault

    # All but the backend, which figures of ours do not use; asking for it would choose one.
    defaults = {name: rcParamsDefault[name] for name in rcParamsDefault if name != "backend"}
    settings = {
        **defaults,
        "svg.hashsalt": "featurestore",
        "svg.fonttype": font_type,
        # Names come from data: a dollar sign in one must not start mathematics.
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 9.0,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with rc_context(settings):
        yield


def _draw(data: ReportData, questions: Sequence[ReportedQuestion], *, legend: bool) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Text

    # Four panels are two by two: three and a lonely one would waste half a row.
    n_columns = min(len(questions), 2 if len(questions) == 4 else MAX_COLUMNS)
    n_rows = -(-len(questions) // n_columns)
    width, height = (4.3, 3.2) if legend else (4.3, 3.0)
    styles = series_styles(data)
    figure = Figure(
        figsize=(max(width * n_columns, 5.2 * legend), height * n_rows + 0.55 * legend),
        facecolor=PAPER,
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.04, hspace=0.05),
    )
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for ax, question in zip(axes.flat, questions, strict=False):
        _panel(ax, question, styles)
        ax.set_ylim(*_limits(data.questions))
        if legend:
            ax.set_title(
                question.heading,
                loc="left",
                fontsize=10,
                fontweight="bold",
                pad=28 + 11 * bool(question.scope.other_clips),
            )
            below = f"{question.setting}\n{extent(question)}"
            if question.scope.other_clips:
                below += (
                    f"\n{UNLIKE} of other clips: {printable(', '.join(sorted(question.scope.other_clips)))}"
                )
            ax.text(0, 1.025, below, transform=ax.transAxes, fontsize=8, color=MUTED, linespacing=1.3)
    for ax in axes.flat[len(questions) :]:
        ax.remove()
    for row in axes:
        row[0].set_ylabel(f"Test {' or '.join(dict.fromkeys(q.metric for q in questions))} (%)")
    if legend:
        _legend(figure, styles)
    for text in figure.findobj(Text):
        # Control characters are no XML, and no glyphs either.
        text.set_text(on_page(text.get_text()))
    return figure


def _panel(ax: Axes, question: ReportedQuestion, styles: dict[str, SeriesStyle]) -> None:
    several = [m for m in question.models if len(question.layers_of(m)) > 1]
    layers = sorted({k for m in several or question.models for k in question.layers_of(m)}) or [0]
    chance = 100 * question.chance
    ax.axhline(chance, color=MUTED, linewidth=1.0, linestyle=DOTTED, zorder=1)
    for model in question.models:
        if model in several:
            _curve(ax, question, model, styles[model], faint=0.6 if len(several) > 4 else 1.0)
        else:
            _reference(ax, question.curve(model), styles[model])
    single = any(question.layers_of(m) for m in question.models)
    left, right = layers[0] - 0.4, layers[-1] + 0.4
    end, columns = _combined(ax, question, styles, right, len(layers) * single)
    ax.annotate(
        f"chance {chance:.1f} %",
        (1, chance),
        xycoords=("axes fraction", "data"),
        xytext=(-3, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=MUTED,
    )
    ax.set_xlim(left if single else right, end)
    ticks = [*(([(float(k), str(k)) for k in thinned(layers)]) if single else []), *columns]
    ax.set_xticks([x for x, _ in ticks], [name for _, name in ticks])
    ax.set_xlabel(LAYER_AXIS if several else "Layer" if single else "")
    ax.tick_params(length=3, width=0.8)
    ax.tick_params(axis="y", labelleft=True)
    bare(ax)


def _curve(ax: Axes, question: ReportedQuestion, model: str, style: SeriesStyle, *, faint: float) -> None:
    """Mean test score of a model by layer, its spread, every fit, and a ring around the chosen layer."""
    rows = question.curve(model)
    x, mean = rows["layer"].to_numpy(), 100 * rows["score_test_mean"]
    spread = 100 * rows["score_test_std"].fillna(0.0)
    ax.fill_between(x, mean - spread, mean + spread, color=style.colour, alpha=0.15 * faint, lw=0, zorder=2)
    for fits in question.fits_of(model):
        scores = 100 * fits["score_test"]
        ax.plot(fits["layer"], scores, color=style.colour, lw=0.6, alpha=0.4 * faint, zorder=2)
    ax.plot(x, mean, color=style.colour, lw=1.8, marker=style.marker, markersize=3.2, zorder=3)
    best = rows[rows["best"]].iloc[0]
    ring: dict[str, Any] = {"mfc": "none", "mec": style.colour, "mew": 1.8}
    ax.plot([best["layer"]], [100 * best["score_test_mean"]], marker="o", markersize=10, zorder=4, **ring)


def _reference(ax: Axes, rows: pd.DataFrame, style: SeriesStyle) -> None:
    """The score of a model with one layer, which is no curve: a line across all layers."""
    if rows.empty:
        return
    mean, spread = 100 * rows["score_test_mean"].iloc[0], 100 * rows["score_test_std"].fillna(0.0).iloc[0]
    ax.axhspan(mean - spread, mean + spread, color=style.colour, alpha=0.13, lw=0, zorder=1)
    ax.axhline(mean, color=style.colour, linewidth=1.6, linestyle=DASHED, zorder=2)


def _combined(
    ax: Axes, question: ReportedQuestion, styles: dict[str, SeriesStyle], right: float, n_layers: int
) -> tuple[float, list[tuple[float, str]]]:
    """Mean and spread of probes of several layers at once: columns right of the curves, never on them.

    Args:
        ax: The panel.
        question: Its question.
        styles: Of the models.
        right: Where the curves end.
        n_layers: Layers the curves span; 0 where there are none.

    Returns:
        Where the panel ends, and places and names of the columns, one per way to combine layers.
    """
    rows = question.combined()
    ways = [name for name in COMBINATIONS if (rows["combine"] == name).any()]
    width = max(COLUMN_LAYERS, COLUMN_SHARE * n_layers)
    if ways and n_layers:
        ax.axvline(right, color=GRID, linewidth=0.8, zorder=1)
    centres = [right + (i + 0.5) * width for i in range(len(ways))]
    for centre, way in zip(centres, ways, strict=True):
        of_way = rows[rows["combine"] == way]
        places = centre + width * 0.6 * (np.arange(len(of_way)) + 0.5 - len(of_way) / 2) / max(len(of_way), 2)
        for x, (_, row) in zip(places, of_way.iterrows(), strict=True):
            style, spread = styles[row["model"]], row["score_test_std"]
            ax.errorbar(
                [x],
                [100 * row["score_test_mean"]],
                yerr=None if np.isnan(spread) else [100 * spread],
                color=style.colour,
                marker=style.marker,
                markersize=5,
                elinewidth=1.2,
                capsize=2,
                zorder=3,
            )
    return right + len(ways) * width, list(zip(centres, ways, strict=True))


def thinned(layers: Sequence[int]) -> Sequence[int]:
    """At most 13 of `layers`: more numbers do not fit below a panel."""
    return layers[:: max(1, -(-len(layers) // 13))]


def bare(ax: Axes) -> None:
    """Lines of a grid across, and no frame but the line below."""
    ax.grid(axis="y", color=GRID, linewidth=0.8, zorder=0)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _limits(questions: Sequence[ReportedQuestion]) -> tuple[float, float]:
    """Lowest and highest score in % over all panels, chance included, with a margin."""
    low = min(100 * q.chance for q in questions)
    scores = [q.fits["score_test"] for q in questions]
    low, high = min(low, *(100 * s.min() for s in scores)), max(low, *(100 * s.max() for s in scores))
    margin = 0.07 * max(high - low, 5.0)
    # More room below: the chance level is written under its line.
    return low - 1.6 * margin, min(high + margin, 103.0)


def _legend(figure: Figure, styles: dict[str, SeriesStyle]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=s.colour, lw=1.6, linestyle=DASHED)
        if s.dashed
        else Line2D([], [], color=s.colour, lw=1.8, marker=s.marker, markersize=4)
        for s in styles.values()
    ]
    handles.append(Line2D([], [], lw=0, marker="o", markersize=9, mfc="none", mec=MUTED, mew=1.8))
    labels = [*styles, "layer chosen on validation"]
    legend = figure.legend(
        handles,
        [" "] * len(handles),
        loc="outside upper left",
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=9,
        handlelength=2.2,
        columnspacing=1.6,
    )
    # Set afterwards: a legend drops labels that begin with an underscore, which a name may.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(printable(label))


def inline_svg(figure: Figure, prefix: str, title: str) -> Markup:
    """A drawing as an `<svg>` for a page, which a template does not escape; see `panel_svg`."""
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    view_box = re.search(r'viewBox="([^"]+)"', svg)
    assert view_box is not None
    opening = f'<svg role="img" viewBox="{view_box[1]}"><title>{escape(title)}</title>'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]+", r"\1 var(--sans)", svg)
    variables = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"}
    variables |= {c: f"--series-{i}" for i, c in enumerate(SERIES_COLOURS)}
    for colour, name in variables.items():
        svg = svg.replace(f": {colour}", f": var({name})")
    return Markup(svg)  # matplotlib escapes the text in it
