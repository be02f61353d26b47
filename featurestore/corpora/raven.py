"""Selection tables of Raven (Cornell Lab of Ornithology) and of programs that write its format.

Read here and not through crowsetta, which guesses types (a label ``01`` becomes 1, ``NA`` vanishes)
and requires frequency columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.corpora.annotations import (
    AUDIO_OPTION,
    AudioIndex,
    annotation_files,
    bare_name,
    own_columns,
    renamed_note,
)
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import (
    AUDIO_SUFFIXES,
    count,
    name_some,
    passed_over,
    read_text_table,
    seconds,
)
from featurestore.errors import ManifestError
from featurestore.untrusted.text_table import FIRST_ROW, first_row

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILE, PATH, OFFSET = "Begin File", "Begin Path", "File Offset (s)"
_NOT_LABELS = ("Selection", "View", "Channel", FILE, "End File", PATH, "End Path")
# Raven writes the unit of a measurement in brackets: "Peak Freq (Hz)".
_MEASUREMENT = re.compile(r"\([^)]*\)$")


def read(
    source: Path,
    *,
    label_column: str | Sequence[str] | None = None,
    audio: str | Path | None = None,
) -> Draft:
    """Read one table or all below a folder.

    Args:
        source: the table or the folder.
        label_column: columns to keep as labels; default all that are neither Raven's own nor measurements.
        audio: folder of the audio.
    """
    root, files = annotation_files(source, (".txt", ".tsv"))
    index = AudioIndex(source, audio)
    wanted = [label_column] if isinstance(label_column, str) else list(label_column or [])
    tables: list[pd.DataFrame] = []
    other_text: list[str] = []
    found = _Found()
    for file in files:
        if BEGIN not in first_row(root / file, "\t") and source.is_dir():
            other_text.append(file)
            continue
        tables.append(_one(root, file, index, wanted, found))
    if not tables:
        raise ManifestError(
            f"{source}: found no Raven table, a tab-separated file with a column {BEGIN!r}; "
            f"other text: {name_some(other_text)}"
        )
    rows = pd.concat(tables, ignore_index=True)
    labels = [c for c in rows.columns if c not in ("file", "start_s", "end_s", "channel")]
    rows[labels] = rows[labels].fillna("")
    notes = [*found.notes(), *index.notes(), *passed_over(other_text, f"without a column {BEGIN!r}")]
    if not labels:
        notes.append("no column beside Raven's own and measurements, so there are no labels")
    return Draft(
        rows=index.rows(rows),
        groups={"recording": rows["file"].map(bare_name)},
        notes=tuple(notes),
        hint=index.hint,
    )


@dataclass
class _Found:
    """What is told of all tables together.

    Attributes:
        n_views, n_across: rows dropped as another view; selections that run on into a second file.
        differing: columns that differ between the views of a selection.
        counted: tables with one named file and no offset in it.
        renamed: label columns that got another name.
    """

    n_views: int = 0
    n_across: int = 0
    differing: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        said = []
        if self.n_views:
            said.append(
                f"dropped {count(self.n_views, 'row')} repeating a selection, as the views of Raven do"
            )
        if self.differing:
            names = ", ".join(map(repr, dict.fromkeys(self.differing)))
            said.append(f"measured in each view, the first is kept: {names}")
        if self.n_across:
            said.append(f"{count(self.n_across, 'selection')} run on into a second file")
        if self.counted:
            said.append(
                f"no column {OFFSET!r}, so {BEGIN!r} is taken to count from the start of the file named, "
                f"which is wrong if others were open before it: {name_some(self.counted)}"
            )
        return [*said, *renamed_note(self.renamed)]


def _one(root: Path, file: str, index: AudioIndex, wanted: list[str], found: _Found) -> pd.DataFrame:
    """Rows of one table; what is dropped or doubtful goes to `found`."""
    path = root / file
    table = read_text_table(path, (BEGIN, END, *wanted), separator="\t", quoted=False)
    labels = wanted or [
        c for c in table.columns if c.strip() and c not in _NOT_LABELS and not _MEASUREMENT.search(c.strip())
    ]
    table = _without_views(table, labels, wanted, path, found)
    start, end = seconds(table[BEGIN], path), seconds(table[END], path)
    named = _named_audio(table, path)
    if named is None:
        sound = index.of_annotation(file)
        audio = pd.Series(sound, index=table.index, dtype="str")
        _require_one_file(table, start, path)
    else:
        audio = named.map({n: index.of_name(n, file) for n in named.unique()})
        start, end = _within_file(table, named, start, end, path, found)
    if {"End File", FILE} <= set(table):
        found.n_across += int((table["End File"] != table[FILE]).sum())
    return pd.DataFrame(
        {
            "file": audio,
            "start_s": start,
            "end_s": end,
            "channel": _channel(table, path),
            **own_columns(table, labels, found.renamed),
        }
    )


def _without_views(
    table: pd.DataFrame, labels: list[str], wanted: list[str], path: Path, found: _Found
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
    for name in labels:
        filled = table[name].where(table[name] != "")
        first = filled.groupby([table[c] for c in same], sort=False).transform("first").fillna("")
        other = (table[name] != "") & (table[name] != first) & again
        if other.any():
            if name in wanted:
                row = int(table.index[other][0]) + FIRST_ROW
                raise ManifestError(
                    f"{path}: row {row}: {name!r} is {table.loc[row - FIRST_ROW, name]!r} here and "
                    f"{first[row - FIRST_ROW]!r} in another view of this selection; correct one"
                )
            found.differing.append(name)
        shared = group["View"].transform("nunique") > 1
        table[name] = table[name].where(~shared | (table[name] != ""), first)
    found.n_views += int(again.sum())
    return table[~again]


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
    _refuse(named == "", table, path, lambda _: f"{column!r} is empty; fill it in")
    if PATH in table:
        is_folder = ~named.map(lambda n: PurePosixPath(n).suffix.lower() in AUDIO_SUFFIXES)
        if FILE in table:
            named = named.where(~is_folder, named.str.rstrip("/\\") + "/" + table[FILE])
            base = named.str.replace("\\", "/").str.rsplit("/", n=1).str[-1]
            _refuse(
                (base != table[FILE].str.strip()) & (table[FILE].str.strip() != ""),
                table,
                path,
                lambda i: f"{PATH!r} ends in {base[i]!r}, {FILE!r} is {table[FILE][i]!r}; correct one",
            )
    return named


def _require_one_file(table: pd.DataFrame, start: pd.Series, path: Path) -> None:
    if OFFSET in table:
        offset = seconds(table[OFFSET], path)
        _refuse(
            offset != start,
            table,
            path,
            lambda i: (
                f"{OFFSET!r} {table[OFFSET][i]} differs from {BEGIN!r} {table[BEGIN][i]}, so several files "
                f"were open, and no column names them; export {FILE!r} or {PATH!r} too"
            ),
        )


def _within_file(
    table: pd.DataFrame, named: pd.Series, start: pd.Series, end: pd.Series, path: Path, found: _Found
) -> tuple[pd.Series, pd.Series]:
    """Times from the start of the file; Raven counts them over all files it had open."""
    if OFFSET in table:
        offset = seconds(table[OFFSET], path)
        # Decimal: 6.1 + (609.4 - 606.1) is 9.4 and no neighbour of it.
        ends = [
            float(Decimal(o.strip()) + Decimal(e.strip()) - Decimal(b.strip()))
            for o, b, e in zip(table[OFFSET], table[BEGIN], table[END], strict=True)
        ]
        return offset, pd.Series(ends, index=table.index, dtype="float64")
    if named.nunique() > 1:
        raise ManifestError(
            f"{path}: {named.nunique()} files in {PATH if PATH in table else FILE!r} but no column "
            f"{OFFSET!r}, so it is open where each begins; export it (or copy {BEGIN!r} into it if the "
            "times already count from the start of each file)"
        )
    found.counted.append(path.name)
    return start, end


def _channel(table: pd.DataFrame, path: Path) -> pd.Series:
    """Raven counts channels from 1, the manifest from 0."""
    if "Channel" not in table:
        return pd.Series(pd.NA, index=table.index, dtype="Int64")
    given = table["Channel"].str.strip() != ""
    numbers = pd.to_numeric(table["Channel"].where(given), errors="coerce")
    bad = given & ~((numbers >= 1) & (numbers < 2**31) & (numbers % 1 == 0))
    _refuse(
        bad,
        table,
        path,
        lambda i: f"expected a channel counted from 1, got {table['Channel'][i]!r}; correct it",
    )
    return (numbers - 1).astype("Int64")


def _refuse(bad: pd.Series, table: pd.DataFrame, path: Path, said: Callable[[int], str]) -> None:
    """Raise for the first row that is bad."""
    if bad.any():
        index = int(table.index[bad][0])
        raise ManifestError(f"{path}: row {index + FIRST_ROW}: {said(index)}")


RAVEN = Corpus(
    name="raven",
    title="Raven selection tables",
    licence="yours",
    citation="",
    where="your own annotations",
    groups={"recording": "one audio file"},
    options={
        "label_column": "column to keep as a label, may be repeated (default: all that Raven did not make)",
        "audio": AUDIO_OPTION,
    },
    reader=read,
    takes_file=True,
)
