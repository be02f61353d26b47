"""Selection tables of Raven (Cornell Lab of Ornithology) and of programs that write its format.

Read here and not through crowsetta, which guesses types (a label ``01`` becomes 1, ``NA`` vanishes)
and requires frequency columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format, stacked
from featurestore.corpora.audio_files import is_audio, name_some, passed_over
from featurestore.corpora.interface import Draft
from featurestore.corpora.tables import channels, exact_sum, read_text_table, refuse_row, seconds
from featurestore.errors import ManifestError
from featurestore.manifest.column_names import ANNOTATION_COLUMNS
from featurestore.manifest.table import NUMBER_COLUMNS
from featurestore.printable import counted
from featurestore.untrusted.text_table import first_row

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILE, PATH, OFFSET = "Begin File", "Begin Path", "File Offset (s)"
# What a manifest keeps of a selection besides: its number in the table, and its box, in hertz.
_KEPT = dict(zip(("Selection", "Low Freq (Hz)", "High Freq (Hz)"), ANNOTATION_COLUMNS, strict=True))
_NOT_LABELS = ("Selection", "View", "Channel", FILE, "End File", PATH, "End Path")
# Raven writes the unit of a measurement in brackets: "Peak Freq (Hz)".
_MEASUREMENT = re.compile(r"\([^)]*\)$")


def read(
    source: Path, *, label_column: str | Sequence[str] | None = None, audio: str | Path | None = None
) -> Draft:
    """Read one table or all below a folder.

    Args:
        source: the table or the folder.
        label_column: columns to keep as labels; default all that are neither Raven's own nor measurements.
        audio: folder of the audio.
    """
    annotations = Annotations(source, audio, (".txt", ".tsv"))
    wanted = [label_column] if isinstance(label_column, str) else list(label_column or [])
    tables: list[pd.DataFrame] = []
    other_text: list[str] = []
    tally = _Tally()
    for file in annotations.files:
        if BEGIN not in first_row(annotations.folder / file, "\t") and source.is_dir():
            other_text.append(file)
        else:
            tables.append(_rows(file, annotations, wanted, tally))
    if not tables:
        raise ManifestError(
            f"{source}: found no Raven table, a tab-separated file with a column {BEGIN!r}; "
            f"other text: {name_some(other_text)}"
        )
    rows = stacked(tables)
    text = [c for c in rows.columns if c not in ("file", *NUMBER_COLUMNS)]
    notes = [*passed_over(other_text, f"without a column {BEGIN!r}")]
    if not set(text) - set(ANNOTATION_COLUMNS):
        notes.append("no column beside Raven's own and measurements, so there are no labels")
    return annotations.draft(rows, notes, first_notes=[*tally.notes(), *annotations.renamed_note()])


def is_label(column: str) -> bool:
    """Whether a column holds labels: it has a name, and is neither Raven's own nor a measurement."""
    bare = column.strip()
    return bool(bare) and column not in _NOT_LABELS and not _MEASUREMENT.search(bare)


@dataclass
class _Tally:
    """What is told of all tables together.

    Attributes:
        n_views, n_across: rows dropped as another view; selections that run on into a second file.
        differing: columns that differ between the views of a selection.
        counted: tables with one named file and no offset in it.
    """

    n_views: int = 0
    n_across: int = 0
    differing: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        said = []
        if self.n_views:
            said.append(
                f"dropped {counted(self.n_views, 'row')} repeating a selection, as the views of Raven do"
            )
        if self.differing:
            names = ", ".join(map(repr, dict.fromkeys(self.differing)))
            said.append(f"measured in each view, the first is kept: {names}")
        if self.n_across:
            said.append(f"{counted(self.n_across, 'selection')} run on into a second file")
        if self.counted:
            said.append(
                f"no column {OFFSET!r}, so {BEGIN!r} is taken to count from the start of the file named, "
                f"which is wrong if others were open before it: {name_some(self.counted)}"
            )
        return said


def _rows(file: str, annotations: Annotations, wanted: list[str], tally: _Tally) -> pd.DataFrame:
    """Rows of one table; what is dropped or doubtful goes to `tally`."""
    path = annotations.folder / file
    table = read_text_table(path, (BEGIN, END, *wanted), separator="\t", quoted=False)
    labels = wanted or [c for c in table.columns if is_label(c)]
    table = _without_views(table, labels, wanted, path, tally)
    start, end = seconds(table[BEGIN], path), seconds(table[END], path)
    named = _named_audio(table, path)
    audio = annotations.of_rows(file, table, named)
    start, end = _within_file(table, named, start, end, path, tally)
    if {"End File", FILE} <= set(table):
        tally.n_across += int((table["End File"] != table[FILE]).sum())
    own = annotations.label_columns(table, labels)
    kept = {c: table[theirs].str.strip() for theirs, c in _KEPT.items() if theirs in table and c not in own}
    # Raven counts channels from 1.
    written = table["Channel"] if "Channel" in table else pd.Series("", index=table.index, dtype="str")
    return pd.DataFrame(
        {
            "file": audio,
            "start_s": start,
            "end_s": end,
            "channel": channels(written, path, first=1, advice="; correct it"),
            **own,
            **kept,
        }
    )


def _without_views(
    table: pd.DataFrame, labels: list[str], wanted: list[str], path: Path, tally: _Tally
) -> pd.DataFrame:
    """One row per selection: Raven writes one for each view, with what was measured in that view.

    Cells of a label that one view leaves empty are filled from the other.

    Raises:
        ManifestError: views of a selection differ in a label that was asked for.
    """
    if "View" not in table:
        return table
    same = [c for c in ("Selection", "Channel", BEGIN, END, FILE, PATH, OFFSET) if c in table]
    if "Selection" not in table:  # nothing says that two rows are one selection
        same += labels
    group = table.groupby(same, sort=False)
    again = table["View"] != group["View"].transform("first")
    if not again.any():
        return table
    table = table.copy()
    shared = group["View"].transform("nunique") > 1
    for name in labels:
        filled = table[name].where(table[name] != "")
        first = filled.groupby([table[c] for c in same], sort=False).transform("first").fillna("")
        other = (table[name] != "") & (table[name] != first) & again
        if name in wanted:
            _refuse_view(other, path, table[name], first)
        elif other.any():
            tally.differing.append(name)
        table[name] = table[name].where(~shared | (table[name] != ""), first)
    tally.n_views += int(again.sum())
    return table[~again]


def _refuse_view(other: pd.Series, path: Path, cells: pd.Series, first: pd.Series) -> None:
    said = "is {!r} here and {!r} in another view of this selection; correct one"
    refuse_row(other, path, lambda i: f"{cells.name!r} {said.format(cells[i], first[i])}")


def _named_audio(table: pd.DataFrame, path: Path) -> pd.Series | None:
    """The audio that each row names, with its folder where the table has it; None if it names none.

    Raises:
        ManifestError: a row names none, or two.
    """
    if PATH not in table and FILE not in table:
        return None
    column = PATH if PATH in table else FILE
    named = table[column].str.strip()
    if PATH in table and FILE in table:
        named = named.where(named != "", table[FILE].str.strip())
    refuse_row(named == "", path, lambda _: f"{column!r} is empty; fill it in")
    if PATH in table and FILE in table:
        file, is_file = table[FILE].str.strip(), named.map(is_audio).astype(bool)
        named = named.where(is_file, named.str.rstrip("/\\") + "/" + table[FILE])
        base = named.str.replace("\\", "/").str.rsplit("/", n=1).str[-1]
        refuse_row(
            (base != file) & (file != ""),
            path,
            lambda i: f"{PATH!r} ends in {base[i]!r}, {FILE!r} is {table[FILE][i]!r}; correct one",
        )
    return named


def _within_file(
    table: pd.DataFrame, named: pd.Series | None, start: pd.Series, end: pd.Series, path: Path, tally: _Tally
) -> tuple[pd.Series, pd.Series]:
    """Times from the start of the file; Raven counts them over all files it had open.

    Raises:
        ManifestError: several files were open, and the table lacks their names or where each begins.
    """
    offset = seconds(table[OFFSET], path) if OFFSET in table else None
    if named is None and offset is not None:
        refuse_row(
            offset != start,
            path,
            lambda i: (
                f"{OFFSET!r} {table[OFFSET][i]} differs from {BEGIN!r} {table[BEGIN][i]}, so several files "
                f"were open, and no column names them; export {FILE!r} or {PATH!r} too"
            ),
        )
    elif named is not None and offset is not None:
        return offset, exact_sum([table[OFFSET], table[END]], [table[BEGIN]])
    elif named is not None:
        if named.nunique() > 1:
            raise ManifestError(
                f"{path}: {named.nunique()} files in {PATH if PATH in table else FILE!r} but no column "
                f"{OFFSET!r}, so it is open where each begins; export it (or copy {BEGIN!r} into it if the "
                "times already count from the start of each file)"
            )
        tally.counted.append(path.name)
    return start, end


RAVEN = annotation_format(
    "raven",
    "Raven selection tables",
    read,
    options={
        "label_column": "column to keep as a label, may be repeated (default: all that Raven did not make)",
        "audio": AUDIO_OPTION,
    },
)
