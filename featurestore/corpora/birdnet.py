"""Results of BirdNET-Analyzer in any of its forms, of one recording each or combined.

The forms are those that it writes (``--rtype`` table, csv, kaleidoscope; r of earlier versions). Its channel
is always 1 and says nothing: what it hears is the mean of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.corpora import kaleidoscope, raven
from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format, stacked
from featurestore.corpora.audio_files import name_some, passed_over
from featurestore.corpora.interface import Draft
from featurestore.corpora.tables import exact_sum, read_text_table, refuse_row, seconds
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.column_names import ANNOTATION_COLUMNS
from featurestore.printable import counted
from featurestore.untrusted.text_table import first_row

CONFIDENCE = "confidence"
# Combined tables of Raven's form count time over all recordings, with the dust of sums of floats.
_DIGITS = 6
# What stands for "not given" in the place and the week of an analysis.
_NOT_GIVEN = -1.0
_NO_CALL = "nocall"
_COMBINED = "BirdNET_"
# Written beside the results, and no results.
_OTHER_TABLES = ("BirdNET_analysis_params.csv", "birdnet.analyze-params.csv")


@dataclass(frozen=True, kw_only=True)
class _Form:
    """One form of result: how it is told, and what its columns are here.

    Attributes:
        separator: between cells.
        start, end: columns of the times in seconds; `length` in the place of an end.
        file: column of the recording; "" where its name has parts, or none is needed.
        labels: other columns, theirs to ours; columns that are in none of these keep their names.
        left_out: columns that say nothing.
    """

    separator: str = ","
    start: str
    end: str = ""
    length: str = ""
    file: str = ""
    labels: Mapping[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that tell the form."""
        return tuple(c for c in (self.start, self.end, self.length, *self.labels) if c)


_FORMS = {
    "table": _Form(
        separator="\t",
        start=raven.BEGIN,
        end=raven.END,
        file=raven.PATH,
        labels={"Common Name": "common_name", "Species Code": "species_code", "Confidence": CONFIDENCE},
        left_out=("Selection", "View", "Channel", "Low Freq (Hz)", "High Freq (Hz)", raven.OFFSET),
    ),
    "csv": _Form(
        start="Start (s)",
        end="End (s)",
        file="File",
        labels={
            "Scientific name": "scientific_name",
            "Common name": "common_name",
            "Confidence": CONFIDENCE,
        },
    ),
    "kaleidoscope": _Form(
        start=kaleidoscope.OFFSET,
        length=kaleidoscope.DURATION,
        labels={c: c for c in ("scientific_name", "common_name", CONFIDENCE)},
        left_out=(kaleidoscope.ROOT, kaleidoscope.FOLDER, kaleidoscope.FILE),
    ),
    "r": _Form(
        start="start",
        end="end",
        file="filepath",
        labels={c: c for c in ("scientific_name", "common_name", CONFIDENCE)},
    ),
}


@dataclass
class _Tally:
    """What is told of all tables together."""

    n_no_call: int = 0
    n_unsure: int = 0
    combined: list[str] = field(default_factory=list)

    def notes(self, least: float | None) -> list[str]:
        said = []
        if self.combined:
            said.append(
                "passed over combined tables, whose rows those of single recordings have: "
                + name_some(self.combined)
            )
        if self.n_no_call:
            said.append(f"left out {counted(self.n_no_call, 'row')} that only say that nothing was found")
        if self.n_unsure:
            said.append(f"left out {counted(self.n_unsure, 'row')} with a confidence below {least:g}")
        return said


def read(source: Path, *, audio: str | Path | None = None, min_confidence: float | None = None) -> Draft:
    """Read one table of results or all below a folder, which must be of one form.

    Args:
        source: the table or the folder. In a folder combined tables are read only where no others are.
        audio: folder that paths count from.
        min_confidence: leave out rows with less than that, 0 to 1.
    """
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise ConfigError(f"--min-confidence: expected 0 to 1, got {min_confidence:g}")
    annotations = Annotations(source, audio, (".csv", ".txt", ".tsv"))
    tally = _Tally()
    forms, other = _forms(annotations, source, tally)
    tables = []
    for file, form in forms.items():
        table = _rows(file, annotations, _FORMS[form], tally)
        if min_confidence is not None:
            unsure = pd.to_numeric(table[CONFIDENCE]) < min_confidence
            tally.n_unsure += int(unsure.sum())
            table = table[~unsure]
        tables.append(table)
    notes = [*passed_over(other, "that are no results"), *tally.notes(min_confidence)]
    return annotations.draft(stacked(tables), [*notes, *annotations.renamed_note()])


def _forms(annotations: Annotations, source: Path, tally: _Tally) -> tuple[dict[str, str], list[str]]:
    """The form of each table to read, and the other files.

    Raises:
        ManifestError: there are none, or results in several forms, which would be rows that stand twice.
    """
    found: dict[str, str] = {}
    other = []
    for file in annotations.files:
        form = _form_of(annotations.folder / file)
        if form:
            found[file] = form
        elif PurePosixPath(file).name not in _OTHER_TABLES:
            other.append(file)
    if not found:
        raise ManifestError(
            f"{source}: found no results of BirdNET (csv, selection table, kaleidoscope or r), expected "
            f"columns such as {', '.join(map(repr, _FORMS['csv'].required))}; other "
            f"files: {name_some(other) or 'none'}"
        )
    single = {f: form for f, form in found.items() if not PurePosixPath(f).name.startswith(_COMBINED)}
    if single:
        tally.combined = [f for f in found if f not in single]
    chosen = single or found
    if len(set(chosen.values())) > 1:
        first = {form: file for file, form in reversed(chosen.items())}
        names = ", ".join(f"{form} ({file})" for form, file in sorted(first.items()))
        raise ManifestError(
            f"{source}: holds results in several forms, which would be the same rows again: {names}; keep "
            "one form in the folder, or give a single table"
        )
    return chosen, other


def _form_of(path: Path) -> str:
    """The form of a table by its first row; "" for any other."""
    rows = {separator: set(first_row(path, separator)) for separator in (",", "\t")}
    fitting = (name for name, form in _FORMS.items() if rows[form.separator].issuperset(form.required))
    return next(fitting, "")


def _rows(file: str, annotations: Annotations, form: _Form, tally: _Tally) -> pd.DataFrame:
    path = annotations.folder / file
    table = read_text_table(path, form.required, separator=form.separator, quoted=form.separator == ",")
    empty = pd.Series(False, index=table.index)
    if form.separator == "\t":
        empty = (table["Common Name"] == _NO_CALL) & (table["Species Code"] == _NO_CALL)
    tally.n_no_call += int(empty.sum())
    table = table[~empty]
    sure = pd.to_numeric(table[_theirs(form)].str.strip().replace("", "nan"), errors="coerce")
    refuse_row(
        ~sure.between(0, 1),
        path,
        lambda i: f"expected a confidence of 0 to 1, got {table[_theirs(form)][i]!r}; correct it",
    )
    start, end = _times(table, form, path)
    named = _named(table, form, path)
    taken = {form.start, form.end, form.length, form.file, *form.left_out}
    cells = {form.labels.get(c, c): _given(table, c) for c in table.columns if c not in taken and c.strip()}
    box = zip(("Selection", "Low Freq (Hz)", "High Freq (Hz)"), ANNOTATION_COLUMNS, strict=True)
    return pd.DataFrame(
        {
            "file": annotations.of_rows(file, table, named),
            "start_s": start,
            "end_s": end,
            **annotations.label_columns(pd.DataFrame(cells, index=table.index), cells),
            **{ours: table[theirs].str.strip() for theirs, ours in box if theirs in table},
        }
    )


def _theirs(form: _Form) -> str:
    return next(theirs for theirs, ours in form.labels.items() if ours == CONFIDENCE)


def _times(table: pd.DataFrame, form: _Form, path: Path) -> tuple[pd.Series, pd.Series]:
    """Start and end in seconds from the beginning of the recording."""
    start = seconds(table[form.start], path)
    length = seconds(table[form.end or form.length], path)
    if form.length:
        return start, exact_sum([table[form.start], table[form.length]])
    if form.separator != "\t" or raven.OFFSET not in table:
        return start, length
    offset = seconds(table[raven.OFFSET], path)
    if (offset == start).all():
        return start, length
    end = exact_sum([table[raven.OFFSET], table[form.end]], [table[form.start]])
    return offset, end.round(_DIGITS)


def _named(table: pd.DataFrame, form: _Form, path: Path) -> pd.Series | None:
    if kaleidoscope.FILE in table and form.length:
        return kaleidoscope.named_audio(table)
    if form.file not in table:
        if form.separator == "\t" and raven.OFFSET in table and len(table):
            refuse_row(
                seconds(table[raven.OFFSET], path) != seconds(table[form.start], path),
                path,
                lambda _: f"the table is of several recordings, and no column {form.file!r} names them",
            )
        return None
    named = table[form.file].str.strip()
    refuse_row(named == "", path, lambda _: f"{form.file!r} is empty; fill it in or remove the row")
    return named


def _given(table: pd.DataFrame, column: str) -> pd.Series:
    """A column's cells; "" in the place and the week of an analysis that had none."""
    cells = table[column].str.strip()
    numbers = {c: pd.to_numeric(table[c], errors="coerce") for c in ("lat", "lon", "week") if c in table}
    if column == "week" and column in numbers:
        return cells.where(numbers["week"] != _NOT_GIVEN, "")
    if column in ("lat", "lon") and {"lat", "lon"} <= set(numbers):
        is_nowhere = (numbers["lat"] == _NOT_GIVEN) & (numbers["lon"] == _NOT_GIVEN)
        return cells.where(~is_nowhere, "")
    return cells


BIRDNET = annotation_format(
    "birdnet",
    "results of BirdNET-Analyzer",
    read,
    options={
        "audio": AUDIO_OPTION,
        "min_confidence": "leave out rows with a lower confidence, 0 to 1 (default: all are kept)",
    },
)
