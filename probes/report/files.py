"""Every form of the report, written into one folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from featurestore.outputs import make_folder, put_file, require_replaceable, writing
from featurestore.spreadsheet import spreadsheet_csv
from probes.findings.across_datasets import across_table
from probes.report.charts.files import FOLDER, require_figures_replaceable, write_figures
from probes.report.clips.embedded_keys import EmbeddedKeys
from probes.report.clips.mistakes import mistakes_of, mistakes_table, suspects_table
from probes.report.clips.mistakes import page_context as clips_context
from probes.report.clips.section import DEFAULT_MB, check_budget
from probes.report.data import ReportData, load_report_data
from probes.report.html import render_page
from probes.report.latex import LATEX_MARK, latex_tables
from probes.report.methods.document import (
    BIBTEX_MARK,
    MARKDOWN_MARK,
    methods,
    methods_bibtex,
    methods_markdown,
)
from probes.report.methods.document import page_context as methods_context
from probes.report.refits import refit_table
from probes.report.tables import comparisons_table, csv_table

# Every page of ours says what made it; one of an audit does not say this, whatever its clips are called.
PAGE_MARK = b"their own papers, featurestore-audio"

# What the other files begin with that a report alone writes.
OWN_MARKS = {
    "mistakes": b"dataset,label_column,classifier,split,utterance_id,file",
    "suspects": b"dataset,label_column,classifier,split,suspect_rank",
    "refit": b"dataset,label,classifier,split,model,combine,layers,refit",
    "tables": LATEX_MARK.encode(),
    "methods": MARKDOWN_MARK.encode(),
    "references": BIBTEX_MARK.encode(),
}


# What earlier versions wrote beside the page.
EARLIER_FIGURES = ("layers.png", "layers.svg")


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """Files of a written report."""

    html: Path
    csv: Path
    comparisons: Path
    across: Path
    refit: Path
    mistakes: Path
    suspects: Path
    tables: Path
    methods: Path
    references: Path
    figures: Path

    @property
    def others(self) -> list[Path]:
        """All but the page."""
        return [path for name, path in vars(self).items() if name != "html"]


def write_report(
    results: str | Path | ReportData,
    out_dir: str | Path,
    *,
    oracle: bool = False,
    sounds_mb: float = DEFAULT_MB,
    store: str | None = None,
) -> ReportPaths:
    """Report on `results` in `out_dir`; existing files are replaced.

    Args:
        results: The folder (of `fs probe`), or what was loaded of it: intervals and comparisons that others
            show too are then computed once.
        out_dir: Folder of the report.
        oracle: The page also says what the layer would score that the test rows themselves prefer.
        sounds_mb: Room of sounds and their pictures in the page, megabytes.
        store: Where the feature store is now; None: where `fs probe` read it, if on this machine.

    Raises:
        ConfigError: `sounds_mb` cannot be; or `out_dir` holds a page that is no report, tables or figures
            without a page of ours, or other files of ours that are somebody's.
        StoreError: `results` holds no results, or `out_dir` cannot be written.
    """
    check_budget(sounds_mb)
    data = results if isinstance(results, ReportData) else load_report_data(results)
    paths = _paths_in(Path(out_dir))
    _require_replaceable(paths)
    is_again = paths.html.exists()
    make_folder(Path(out_dir), "the report")
    keys = EmbeddedKeys(data.path, data.run, store)
    wrong, paragraphs = mistakes_of(data, keys), methods(data, keys)
    more = {**clips_context(wrong, sounds_mb, data.progress), **methods_context(paragraphs)}
    with writing(Path(out_dir), "free some room and write the report again"):
        # The page first: it says whose the other files are.
        put_file(render_page(data, oracle=oracle, more=more).encode(), paths.html)
        for path, table in (
            (paths.csv, csv_table(data)),
            (paths.comparisons, comparisons_table(data)),
            (paths.across, across_table(data.across_datasets)),
            (paths.refit, refit_table(data)),
            (paths.mistakes, mistakes_table(wrong)),
            (paths.suspects, suspects_table(wrong)),
        ):
            put_file(spreadsheet_csv(table).encode(), path)
        put_file(latex_tables(data).encode(), paths.tables)
        put_file(methods_markdown(paragraphs).encode(), paths.methods)
        put_file(methods_bibtex(paragraphs).encode(), paths.references)
        write_figures(data, data.charts, Path(out_dir))
        for name in EARLIER_FIGURES if is_again else ():
            # They would show the results of before beside the new page.
            with suppress(FileNotFoundError):
                (Path(out_dir) / name).unlink()
    return paths


def _paths_in(out: Path) -> ReportPaths:
    return ReportPaths(
        html=out / "index.html",
        csv=out / "layers.csv",
        comparisons=out / "comparisons.csv",
        across=out / "across_datasets.csv",
        refit=out / "refit.csv",
        mistakes=out / "mistakes.csv",
        suspects=out / "suspects.csv",
        tables=out / "tables.tex",
        methods=out / "methods.md",
        references=out / "references.bib",
        figures=out / FOLDER,
    )


def _require_replaceable(paths: ReportPaths) -> None:
    """Refuse to write over a page that is no report, and over what is none of ours."""
    require_replaceable(paths.html, PAGE_MARK, "report")
    if not paths.html.exists():
        for path in (paths.csv, paths.comparisons, paths.across):
            require_replaceable(path, None, "table or figure")
    require_figures_replaceable(paths.figures.parent)
    # Reports of earlier versions had none of these: a page beside them does not say that they are ours.
    for name, mark in OWN_MARKS.items():
        require_replaceable(getattr(paths, name), mark, "file of a report")
