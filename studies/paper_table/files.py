"""The table as files: ``published.csv`` for programs, ``published.md`` and ``published.html`` for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.outputs import make_folder, put_file, require_replaceable, writing
from featurestore.printable import on_page, printable
from featurestore.spreadsheet import spreadsheet_csv
from probes.findings.sentences import interval_text
from probes.statistics import NOT_CONTAINED
from studies.paper_table.halves import HALVES, Answer, answers_of
from studies.paper_table.published import PaperName, paper
from studies.paper_table.sentences import disagreements, question_sentences

if TYPE_CHECKING:
    import pandas as pd

    from studies.study_file.reading import StudyFile
    from studies.study_run.facts import Facts

#: Files in the order in which they are written, and what tells ours from others.
MARKS = {
    "published.html": b"A study beside its paper, made by featurestore-audio",
    "published.csv": b"corpus,label,published_name,half",
    "published.md": b"The paper's values are second-hand",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """One corpus and label: a row for each model, text in every cell.

    Attributes:
        title: corpus and label.
        heads: of the columns.
        rows: cells, the model first.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A study beside its paper.

    Attributes:
        title: of the page.
        caption: what the numbers are.
        tables: one for each corpus and label.
        sentences: question → the sentence that answers it, then the comparisons behind it.
        disagreements: where the halves choose another best model, and what is known of why.
        answers: what the tables show.
    """

    title: str
    caption: str
    tables: list[Table]
    sentences: Mapping[str, Sequence[str]]
    disagreements: list[str]
    answers: list[Answer]


def paper_table(file: StudyFile, facts: Mapping[str, Facts], name: PaperName) -> PaperTable:
    """The results of a study beside what its paper published.

    Raises:
        StoreError: there are no results yet.
        CorruptData: a file that cannot be read.
    """
    from probes.report.data import load_report_data

    data, of = load_report_data(file.results), paper(name)
    answers = answers_of(data, file, of)
    return PaperTable(
        title=f"{file.document.path.stem} beside {of.name}",
        caption="Test UAR in %, of the layer (and settings) that validation chose: mean over folds and "
        f"seeds, and 95 % interval of all tested rows together. {NOT_CONTAINED} {of.note}",
        tables=[
            _table(corpus, label, [a for a in answers if (a.corpus, a.label) == (corpus, label)])
            for corpus, label in dict.fromkeys((a.corpus, a.label) for a in answers)
        ],
        sentences=question_sentences(data, file, facts, of),
        disagreements=disagreements(answers, of),
        answers=answers,
    )


def _table(corpus: str, label: str, answers: Sequence[Answer]) -> Table:
    """One corpus and label; a column for each way that a half asked."""
    asked = sorted({(HALVES.index(a.half), a.split, a.classifier) for a in answers})
    known = {(a.published_name, HALVES.index(a.half), a.split, a.classifier): a for a in answers}
    published = {a.published_name: a.published for a in answers}
    # The paper's models first.
    names = sorted(published, key=lambda name: (not published[name], name))
    rows = [
        [name, _published_text(published[name]), *(_cell(known.get((name, *way))) for way in asked)]
        for name in names
    ]
    heads = ["model", "paper", *(f"{HALVES[half]}: {split}, {clf}" for half, split, clf in asked)]
    return Table(title=f"{label} of {corpus}", heads=heads, rows=rows)


def _published_text(values: Sequence[float]) -> str:
    return " / ".join(f"{100 * value:.2f}" for value in values)


def _cell(answer: Answer | None) -> str:
    """A score, such as ``62.5 (51.0 to 70.1), layer 7``; "" where it was not asked."""
    if answer is None:
        return ""
    between = interval_text(answer.interval) or "no interval"
    layers = "layers" if any(c in answer.layers for c in ",-") else "layer"
    return f"{100 * answer.uar:.1f} ({between}), {layers} {answer.layers}"


def csv_table(table: PaperTable) -> pd.DataFrame:
    """One row per answer; scores as fractions."""
    import pandas as pd

    rows = []
    for a in table.answers:
        first, second, *_ = (*a.published, math.nan, math.nan)
        i = a.interval
        rows.append(
            {
                **{name: getattr(a, name) for name in ("corpus", "label", "published_name", "half")},
                **{name: getattr(a, name) for name in ("model", "split", "classifier", "layers")},
                "uar_test": a.uar,
                "uar_pooled": math.nan if i is None else i.estimate,
                "ci_low": math.nan if i is None else i.low,
                "ci_high": math.nan if i is None else i.high,
                "n_groups": None if i is None else i.n_groups,
                "uar_val": a.uar_val,
                "published_uar": first,
                "published_uar_other": second,
            }
        )
    return pd.DataFrame(rows).astype({"n_groups": "Int64"})


def markdown(table: PaperTable) -> str:
    """The tables and sentences as Markdown."""
    parts = [f"# {_md(table.title)}", _md(table.caption)]
    for one in table.tables:
        lines = [one.heads, ["---"] * len(one.heads), *one.rows]
        parts.append(f"## {_md(one.title)}")
        parts.append("\n".join(f"| {' | '.join(_md(cell) for cell in line)} |" for line in lines))
    for first, *rest in table.sentences.values():
        parts.append(_md(first))
        if rest:
            parts.append("\n".join(f"- {_md(line)}" for line in rest))
    parts += map(_md, table.disagreements)
    return "\n\n".join(parts) + "\n"


def _md(text: str) -> str:
    """A text in which nothing is markup, such as a label with ``|`` or ``_``."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in printable(text))


def page(table: PaperTable) -> str:
    """The tables and sentences as one page that needs no other file."""
    from jinja2 import Environment, StrictUndefined

    source = files("studies.paper_table").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=on_page
    )
    return environment.from_string(source).render(table=table)


def write_paper_table(table: PaperTable, out: Path) -> list[Path]:
    """Write the three files beside the report; earlier ones of ours are replaced.

    Raises:
        ConfigError: there is a file of another kind under one of their names.
        StoreError: they cannot be written.
    """
    for name, mark in MARKS.items():
        require_replaceable(out / name, mark, "table")
    make_folder(out, "the report")
    paths = [out / name for name in MARKS]
    texts = [page(table), spreadsheet_csv(csv_table(table)), markdown(table)]
    with writing(out, "free some room and write the report again"):
        for path, text in zip(paths, texts, strict=True):
            put_file(text.encode(), path)
    return paths
