"""Every form of the report, written into one folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from featurestore.outputs import make_folder, put_file, require_replaceable, writing
from featurestore.spreadsheet import spreadsheet_csv
from probes.findings.across_datasets import across_table
from probes.report.charts.files import FOLDER, require_figures_replaceable, write_figures
from probes.report.data import ReportData, load_report_data
from probes.report.html import render_page
from probes.report.tables import comparisons_table, csv_table

# Every page of ours says what made it; one of an audit does not say this, whatever its clips are called.
PAGE_MARK = b"their own papers, featurestore-audio"


# What earlier versions wrote beside the page.
EARLIER_FIGURES = ("layers.png", "layers.svg")


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """Files of a written report."""

    html: Path
    csv: Path
    comparisons: Path
    across: Path
    figures: Path


def write_report(
    results: str | Path | ReportData, out_dir: str | Path, *, oracle: bool = False
) -> ReportPaths:
    """Report on `results` in `out_dir`; existing files are replaced.

    `results` is the folder (of `fs probe`), or what was loaded of it: intervals and comparisons that others
    show too are then computed once. With `oracle` the page also says what the layer would score that the
    test rows themselves prefer.

    Raises:
        ConfigError: `out_dir` holds a page that is no report, or tables or figures without a page of ours.
        StoreError: `results` holds no results, or `out_dir` cannot be written.
    """
    data = results if isinstance(results, ReportData) else load_report_data(results)
    out = Path(out_dir)
    page = out / "index.html"
    paths = ReportPaths(
        html=page,
        csv=out / "layers.csv",
        comparisons=out / "comparisons.csv",
        across=out / "across_datasets.csv",
        figures=out / FOLDER,
    )
    _require_replaceable(paths)
    is_again = page.exists()
    make_folder(out, "the report")
    with writing(out, "free some room and write the report again"):
        # The page first: it says whose the other files are.
        put_file(render_page(data, oracle=oracle).encode(), paths.html)
        put_file(spreadsheet_csv(csv_table(data)).encode(), paths.csv)
        put_file(spreadsheet_csv(comparisons_table(data)).encode(), paths.comparisons)
        put_file(spreadsheet_csv(across_table(data.across_datasets)).encode(), paths.across)
        write_figures(data, data.charts, out)
        for name in EARLIER_FIGURES if is_again else ():
            # They would show the results of before beside the new page.
            with suppress(FileNotFoundError):
                (out / name).unlink()
    return paths


def _require_replaceable(paths: ReportPaths) -> None:
    """Refuse to write over a page that is no report, and over tables and figures that are not its own."""
    require_replaceable(paths.html, PAGE_MARK, "report")
    if not paths.html.exists():
        for path in (paths.csv, paths.comparisons, paths.across):
            require_replaceable(path, None, "table or figure")
    require_figures_replaceable(paths.figures.parent)
