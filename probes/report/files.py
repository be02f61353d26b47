"""Every form of the report, written into one folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from featurestore.outputs import make_folder, put_file, require_replaceable, writing
from featurestore.spreadsheet import spreadsheet_csv
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
from probes.report.tables import comparisons_table, csv_table

# Every page of ours says what made it; one of an audit does not say this, whatever its clips are called.
PAGE_MARK = b"their own papers, featurestore-audio"

# What the other files begin with that a report alone writes.
OWN_MARKS = {
    "mistakes": b"dataset,label_column,classifier,split,utterance_id,file",
    "suspects": b"dataset,label_column,classifier,split,suspect_rank",
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
    results: ReportData | str | Path,
    out_dir: str | Path,
    *,
    oracle: bool = False,
    sounds_mb: float = DEFAULT_MB,
    store: str | None = None,
) -> ReportPaths:
    """Report on `results`, a folder of `fs probe` or what was read of it, in `out_dir`; files are replaced.

    Args:
        results: Results folder, or its content.
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
    out = Path(out_dir)
    paths = ReportPaths(
        html=out / "index.html",
        csv=out / "layers.csv",
        comparisons=out / "comparisons.csv",
        mistakes=out / "mistakes.csv",
        suspects=out / "suspects.csv",
        tables=out / "tables.tex",
        methods=out / "methods.md",
        references=out / "references.bib",
        figures=out / FOLDER,
    )
    _require_replaceable(paths)
    is_again = paths.html.exists()
    make_folder(out, "the report")
    keys = EmbeddedKeys(data.path, data.run, store)
    wrong, paragraphs = mistakes_of(data, keys), methods(data, keys)
    with writing(out, "free some room and write the report again"):
        # The page first: it says whose the other files are.
        page = render_page(
            data, oracle=oracle, more={**clips_context(wrong, sounds_mb), **methods_context(paragraphs)}
        )
        put_file(page.encode(), paths.html)
        put_file(spreadsheet_csv(csv_table(data)).encode(), paths.csv)
        put_file(spreadsheet_csv(comparisons_table(data)).encode(), paths.comparisons)
        put_file(spreadsheet_csv(mistakes_table(wrong)).encode(), paths.mistakes)
        put_file(spreadsheet_csv(suspects_table(wrong)).encode(), paths.suspects)
        put_file(latex_tables(data).encode(), paths.tables)
        put_file(methods_markdown(paragraphs).encode(), paths.methods)
        put_file(methods_bibtex(paragraphs).encode(), paths.references)
        write_figures(data, data.charts, out)
        for name in EARLIER_FIGURES if is_again else ():
            # They would show the results of before beside the new page.
            with suppress(FileNotFoundError):
                (out / name).unlink()
    return paths


def _require_replaceable(paths: ReportPaths) -> None:
    """Refuse to write over a page that is no report, and over what is none of ours."""
    require_replaceable(paths.html, PAGE_MARK, "report")
    if not paths.html.exists():
        for path in (paths.csv, paths.comparisons):
            require_replaceable(path, None, "table or figure")
    # Reports of earlier versions had none of these: a page beside them does not say that they are ours.
    for name, mark in OWN_MARKS.items():
        require_replaceable(getattr(paths, name), mark, "file of a report")
    require_figures_replaceable(paths.figures.parent)
