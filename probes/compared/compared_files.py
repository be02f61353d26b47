"""The comparison of two results folders as a table and a small page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.outputs import make_folder, put_file, require_replaceable, writing
from featurestore.printable import counted, on_page
from featurestore.spreadsheet import spreadsheet_csv
from probes.compared.run_differences import run_differences
from probes.compared.shared_questions import CHOSEN, FolderComparison, SharedLine, compare_folders
from probes.findings.sentences import p_text
from probes.metrics import points
from probes.report.data import load_report_data
from probes.report.progress import OnProgress, Progress
from probes.statistics import NOT_CONTAINED

if TYPE_CHECKING:
    import pandas as pd

PAGE_NAME, CSV_NAME = "index.html", "compare.csv"
PAGE_MARK = b'content="fs report --compare"'
COLUMNS = (
    "dataset",
    "label",
    "split",
    "classifier",
    "model",
    # "chosen": each at the layer that validation chose in its folder
    "layers",
    "layers_a",
    "layers_b",
    "metric",
    # as reported: means over folds and draws
    "score_test_mean_a",
    "score_test_mean_b",
    # A - B, test clips pooled and paired; empty where `reason` says why not
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "n_groups",
    "n_clips",
    "detectable",
    "reason",
    "differs",
)
CSV_MARK = ",".join(COLUMNS).encode()


@dataclass(frozen=True, kw_only=True)
class ComparedPaths:
    """Files of a written comparison."""

    html: Path
    csv: Path


def write_comparison(
    a: Path, b: Path, out: Path, on_progress: OnProgress | None = None
) -> tuple[FolderComparison, ComparedPaths]:
    """Compare two results folders and write ``index.html`` and ``compare.csv`` into `out`.

    `on_progress` is told how far the comparison is.

    Raises:
        ConfigError: `out` holds files of something else, it is one folder twice, or nothing was asked of
            both.
        StoreError: A folder holds no results, or `out` cannot be written.
        CorruptData: A file of one of them cannot be read.
    """
    paths = ComparedPaths(html=out / PAGE_NAME, csv=out / CSV_NAME)
    require_replaceable(paths.html, PAGE_MARK, "comparison")
    require_replaceable(paths.csv, CSV_MARK, "comparison")
    found = compare_folders(load_report_data(a), load_report_data(b), Progress(on_progress))
    make_folder(out, "the comparison")
    with writing(out, "free some room and compare again"):
        put_file(render_page(found).encode(), paths.html)
        put_file(spreadsheet_csv(compared_table(found)).encode(), paths.csv)
    return found, paths


def compared_table(found: FolderComparison) -> pd.DataFrame:
    """One row per line, scores and differences as fractions, columns `COLUMNS`."""
    import pandas as pd

    table = pd.DataFrame([_row(line) for line in found.lines], columns=list(COLUMNS))
    return table.astype({"n_groups": "Int64", "n_clips": "Int64"})


def _row(line: SharedLine) -> dict[str, object]:
    result = None if line.pair is None else line.pair.result
    numbers = ("difference", "p", "detectable")
    known = {name: math.nan if result is None else getattr(result, name) for name in numbers}
    return {
        **{name: getattr(line, name) for name in ("dataset", "label", "split", "classifier", "model")},
        "layers": line.layers,
        "layers_a": line.chosen[0],
        "layers_b": line.chosen[1],
        "metric": line.metric,
        "score_test_mean_a": line.scores[0],
        "score_test_mean_b": line.scores[1],
        **known,
        "ci_low": math.nan if result is None else result.low,
        "ci_high": math.nan if result is None else result.high,
        "p_holm": math.nan if line.pair is None else line.pair.p_holm,
        "n_groups": None if result is None else result.n_groups,
        "n_clips": line.n_clips or None,
        "reason": line.reason or ("" if result is None else result.reason),
        "differs": "; ".join(line.differs),
    }


def render_page(found: FolderComparison) -> str:
    """The page as text; it needs no other file and makes no request."""
    from jinja2 import Environment, StrictUndefined

    source = files("probes.compared").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=on_page
    )
    answers = [{"title": line.title, "sentence": line.sentence} for line in found.answers]
    return environment.from_string(source).render(
        a=found.a.path,
        b=found.b.path,
        answers=answers,
        lines=[_cells(line) for line in found.lines],
        alone=found.alone,
        differences=run_differences(found.a, found.b),
        counted=counted,
        not_contained=NOT_CONTAINED,
    )


def _cells(line: SharedLine) -> dict[str, str]:
    """A row of the page's table."""
    cells = {
        "question": f"{line.label} · {line.dataset}",
        "setting": f"{line.classifier} · split: {line.split}",
        "model": line.model,
        "layers": line.layers if line.layers != CHOSEN else f"chosen: {' and '.join(line.chosen)}",
        "a": f"{100 * line.scores[0]:.1f}",
        "b": f"{100 * line.scores[1]:.1f}",
        "difference": "",
        "interval": line.reason,
        "p": "",
    }
    if line.pair is not None:
        result = line.pair.result
        cells["difference"] = points(result.difference)
        cells["interval"] = result.reason
        if not math.isnan(result.low):
            cells["interval"] = f"{points(result.low)} to {points(result.high)}"
        if not math.isnan(line.pair.p_holm):
            cells["p"] = p_text(line.pair.p_holm)
    return cells
