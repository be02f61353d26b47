"""Every chart as SVG, PDF and PNG, and its numbers as CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurestore.errors import ConfigError
from featurestore.outputs import make_folder, put_file
from featurestore.printable import printable
from featurestore.spreadsheet import spreadsheet_csv
from featurestore.untrusted.text_table import first_row, read_table
from probes.report.charts.figure import ROWS, Charts, Figure, config, in_light

if TYPE_CHECKING:
    from probes.report.data import ReportData

FOLDER, INDEX = "figures", "figures.csv"
INDEX_COLUMNS = ("figure", "shows", "how")
FORMATS = ("svg", "pdf", "png", "csv")
WIDTH, PNG_SCALE = 460, 2.0
_NAME = re.compile(r"[a-z0-9-]{1,100}", re.ASCII)


def require_figures_replaceable(out: Path) -> None:
    """Refuse a folder of figures that is none of ours.

    Raises:
        ConfigError: what is in it might be lost.
    """
    folder = out / FOLDER
    if folder.is_dir() and any(folder.iterdir()) and first_row(folder / INDEX) != list(INDEX_COLUMNS):
        raise ConfigError(f"{folder}: these are no figures of ours and might be lost; choose another --out")


def write_figures(data: ReportData, charts: Charts, out: Path) -> None:
    """Write all charts into ``figures/``; those of an earlier report that are no more are removed.

    SVG, PNG and CSV have the same bytes for the same data. PDF has not: its objects come in any order.
    """
    import vl_convert

    folder = out / FOLDER
    make_folder(folder, "figures")
    earlier = _listed(folder / INDEX)
    index = pd.DataFrame([(f.name, f.heading, f.note) for f in charts.figures], columns=list(INDEX_COLUMNS))
    # First, and with those of before: what is cut off here is listed, and removed by the next report.
    gone = earlier - set(index["figure"])
    put_file(spreadsheet_csv(index).encode(), folder / INDEX)
    for name in gone:
        for suffix in FORMATS:
            with suppress(FileNotFoundError):
                (folder / f"{name}.{suffix}").unlink()
    step = data.progress.stage("figures", len(charts.figures))
    for figure in charts.figures:
        rows = figure.rows(charts.tables)
        svg = vl_convert.vegalite_to_svg(file_spec(data, figure, rows))
        put_file(svg.encode(), folder / f"{figure.name}.svg")
        put_file(vl_convert.svg_to_png(svg, scale=PNG_SCALE), folder / f"{figure.name}.png")
        put_file(vl_convert.svg_to_pdf(svg), folder / f"{figure.name}.pdf")
        put_file(spreadsheet_csv(_named(data, rows)).encode(), folder / f"{figure.name}.csv")
        step()


def file_spec(data: ReportData, figure: Figure, rows: pd.DataFrame) -> dict[str, Any]:
    """Vega-Lite of a chart with its rows, its title, and light colours."""
    title: dict[str, Any] = {"text": printable(figure.heading)}
    notes = [figure.note] if figure.note else []
    if figure.question is not None:
        question = data.questions[figure.question]
        if question.heading not in figure.heading:
            title["text"] = f"{title['text']}: {question.heading}"
            notes = [*notes, question.setting]
        if question.scope.other_clips:
            notes.append(f"≠ of other clips: {', '.join(sorted(question.scope.other_clips))}")
    title["subtitle"] = [printable(note) for note in notes]
    spec = {
        **figure.spec,
        "width": WIDTH,
        "title": title,
        "padding": 10,
        "config": {**config("sans-serif"), "background": "#fefefd"},
        "datasets": {ROWS: json.loads(rows.to_json(orient="records", double_precision=10))},
    }
    light: dict[str, Any] = in_light(spec)
    return light


def _named(data: ReportData, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the names of their question for its number."""
    if "question" not in rows:
        return rows
    names: Mapping[str, Any] = {
        name: [getattr(data.questions[i], name) for i in rows["question"]]
        for name in ("dataset", "label", "classifier", "split")
    }
    return pd.concat([pd.DataFrame(names, index=rows.index), rows.drop(columns="question")], axis=1)


def _listed(index: Path) -> set[str]:
    """Names of the figures of an earlier report."""
    if not index.is_file():
        return set()
    return {name for name in read_table(index)["figure"] if _NAME.fullmatch(name)}
