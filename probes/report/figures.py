"""Layer curves: test score against layer, one panel per question, one colour per model."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import DependencyMissing
from featurestore.outputs import put_file
from featurestore.printable import on_page, printable
from probes.report.combined import draw_combined
from probes.report.tables import UNLIKE, extent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probes.report.load import Question, ReportData

# Okabe & Ito, "Color Universal Design" (2008), without yellow, which is faint on white.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, GRID, PAPER = "#1b1b19", "#6b6b66", "#e4e3de", "#fefefd"
MAX_COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class SeriesStyle:
    """How one model looks in every panel; both repeat after seven models."""

    colour: str
    marker: str
    index: int


def series_styles(models: Sequence[str]) -> dict[str, SeriesStyle]:
    """Give each of `models` its colour and marker, in order."""
    return {
        model: SeriesStyle(
            colour=SERIES_COLOURS[i % len(SERIES_COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            index=i % len(SERIES_COLOURS),
        )
        for i, model in enumerate(models)
    }


def write_figures(data: ReportData, png: Path, svg: Path) -> None:
    """Write the layer curves of all questions as PNG (200 dpi) and SVG; same data, same bytes.

    Raises:
        DependencyMissing: matplotlib is not installed.
    """
    with drawing("path"):
        figure = _draw(data, data.questions, legend=True)
        for path, options in (
            (png, {"format": "png", "dpi": 200, "metadata": {"Software": None}}),
            (svg, {"format": "svg", "metadata": {"Date": None, "Creator": None}}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, **options)
            put_file(buffer.getvalue(), path)


def panel_svg(data: ReportData, question: Question, prefix: str) -> str:
    """Draw one panel as an inline `<svg>` for a page: text stays text, colours are CSS variables.

    `prefix` keeps ids of several drawings on one page apart. The page has to define `--ink`,
    `--muted`, `--grid`, `--paper`, `--sans` and `--series-0` … `--series-6`.
    """
    with drawing("none"):
        figure = _draw(data, [question], legend=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(buffer.getvalue(), prefix, f"Layer curve of {question.title}")


@contextmanager
def drawing(font_type: str) -> Iterator[None]:
    """Matplotlib's settings for every figure of ours; `font_type` is "path" or "none" (text stays text).

    Its own defaults, and none of a ``matplotlibrc``: matplotlib reads one that lies in the current folder, by
    which a figure would look, and run (LaTeX), as somebody else wants it.
    """
    try:
        from matplotlib import rc_context, rcParamsDefault
    except ImportError as error:
        raise DependencyMissing(
            "the report's figures need matplotlib, which is not installed; "
            "install it again: pip install featurestore-audio"
        ) from error
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


def _draw(data: ReportData, questions: Sequence[Question], *, legend: bool) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Text

    # Four panels are two by two: three and a lonely one would waste half a row.
    n_columns = min(len(questions), 2 if len(questions) == 4 else MAX_COLUMNS)
    n_rows = -(-len(questions) // n_columns)
    width, height = (4.3, 3.2) if legend else (4.3, 3.0)
    styles = series_styles(data.models)
    figure = Figure(
        figsize=(max(width * n_columns, 5.2 * legend), height * n_rows + 0.55 * legend),
        facecolor=PAPER,
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.04, hspace=0.05),
    )
    FigureCanvasAgg(figure)
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
        _legend(figure, styles, data)
    for text in figure.findobj(Text):
        # Control characters are no XML, and no glyphs either.
        text.set_text(on_page(text.get_text()))
    return figure


def _panel(ax: Axes, question: Question, styles: dict[str, SeriesStyle]) -> None:
    several = [m for m in question.models if len(question.layers_of(m)) > 1]
    layers = sorted({k for m in several or question.models for k in question.layers_of(m)}) or [0]
    span = (layers[0] - 0.4, layers[-1] + 0.4)
    faint = 0.6 if len(several) > 4 else 1.0
    ax.axhline(100 * question.chance, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
    for model in question.models:
        rows = question.curve(model)
        style = styles[model]
        mean, spread = 100 * rows["score_test_mean"], 100 * rows["score_test_std"].fillna(0.0)
        if rows.empty:
            continue
        if model not in several:
            # One layer is no curve: a reference across all layers.
            centre, half = float(mean.iloc[0]), float(spread.iloc[0])
            ax.axhspan(centre - half, centre + half, color=style.colour, alpha=0.13, lw=0, zorder=1)
            ax.axhline(centre, color=style.colour, linewidth=1.6, linestyle=(0, (5, 2)), zorder=2)
            continue
        x = rows["layer"].to_numpy()
        ax.fill_between(
            x, mean - spread, mean + spread, color=style.colour, alpha=0.15 * faint, lw=0, zorder=2
        )
        for seed in question.fits_of(model):
            ax.plot(
                seed["layer"],
                100 * seed["score_test"],
                color=style.colour,
                lw=0.6,
                alpha=0.4 * faint,
                zorder=2,
            )
        ax.plot(x, mean, color=style.colour, lw=1.8, marker=style.marker, markersize=3.2, zorder=3)
        best = rows[rows["best"]].iloc[0]
        ax.plot(
            [best["layer"]],
            [100 * best["score_test_mean"]],
            marker="o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=style.colour,
            markeredgewidth=1.8,
            zorder=4,
        )
    single = any(question.layers_of(m) for m in question.models)
    right, columns = draw_combined(ax, question, styles, span[1], len(layers) * single, GRID)
    ax.annotate(
        f"chance {100 * question.chance:.1f} %",
        (1, 100 * question.chance),
        xycoords=("axes fraction", "data"),
        xytext=(-3, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=MUTED,
    )
    ax.set_xlim(span[0] if single else span[1], right)
    step = max(1, -(-len(layers) // 13))
    ticks = [(float(k), str(k)) for k in layers[::step]] if single else []
    ax.set_xticks([x for x, _ in ticks + columns], [name for _, name in ticks + columns])
    ax.set_xlabel("Layer (0 = input of the first block)" if several else "Layer" if single else "")
    ax.grid(axis="y", color=GRID, linewidth=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(length=3, width=0.8)
    ax.tick_params(axis="y", labelleft=True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _limits(questions: Sequence[Question]) -> tuple[float, float]:
    """Lowest and highest score in % over all panels, chance included, with a margin."""
    low = min(100 * q.chance for q in questions)
    high = low
    for q in questions:
        low = min(low, 100 * float(q.fits["score_test"].min()))
        high = max(high, 100 * float(q.fits["score_test"].max()))
    margin = 0.07 * max(high - low, 5.0)
    # More room below: the chance level is written under its line.
    return low - 1.6 * margin, min(high + margin, 103.0)


def _legend(figure: Figure, styles: dict[str, SeriesStyle], data: ReportData) -> None:
    from matplotlib.lines import Line2D

    curves = {m for q in data.questions for m in q.models if len(q.layers_of(m)) > 1}
    handles: list[Any] = []
    alone = {m for q in data.questions for m in q.models if len(q.layers_of(m)) == 1}
    for model, s in styles.items():
        if model not in alone - curves:
            handles.append(Line2D([], [], color=s.colour, lw=1.8, marker=s.marker, markersize=4))
        else:
            handles.append(Line2D([], [], color=s.colour, lw=1.6, linestyle=(0, (5, 2))))
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


def markup(svg: str) -> Any:
    """An `<svg>` of ours as text that a template does not escape."""
    from markupsafe import Markup

    return Markup(svg)  # matplotlib escapes the text in it


def inline_svg(svg: str, prefix: str, title: str) -> str:
    """A drawing as an `<svg>` for a page; see `panel_svg`."""
    from markupsafe import escape

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
    return svg
