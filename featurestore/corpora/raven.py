"""Selection tables of Raven (Cornell Lab of Ornithology) and of programs that write its format.

Read here and not through crowsetta, which guesses types (a label ``01`` becomes 1, ``NA`` vanishes)
and requires frequency columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, AudioIndex, annotation_files
from featurestore.corpora.base import Corpus, Draft
from featurestore.corpora.tables import count, first_row, passed_over, read_text_table, seconds, stem
from featurestore.errors import ManifestError

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILE, OFFSET = "Begin File", "File Offset (s)"
_NOT_LABELS = ("Selection", "View", "Channel", FILE, "End File", "Begin Path", "End Path")
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
    tables, other_text, n_views, n_across = [], [], 0, 0
    for file in files:
        header = first_row(root / file, "\t")
        if BEGIN not in header and source.is_dir():
            other_text.append(file)
            continue
        table, duplicates, across = _one(root, file, index, wanted)
        tables.append(table)
        n_views += duplicates
        n_across += across
    if not tables:
        raise ManifestError(f"{source}: found no Raven table, a tab-separated file with a column {BEGIN!r}")
    rows = pd.concat(tables, ignore_index=True)
    labels = [c for c in rows.columns if c not in ("file", "path", "start_s", "end_s", "channel")]
    rows[labels] = rows[labels].fillna("")
    notes = []
    if n_views:
        notes.append(f"dropped {count(n_views, 'row')} repeating a selection, as the views of Raven do")
    if n_across:
        notes.append(f"{count(n_across, 'selection')} run on into a second file")
    notes += passed_over(other_text, f"without a column {BEGIN!r}")
    return Draft(rows=rows, groups={"recording": rows["file"].map(_bare)}, notes=tuple(notes))


def _one(root: Path, file: str, index: AudioIndex, wanted: list[str]) -> tuple[pd.DataFrame, int, int]:
    """Rows of one table, how many repeated a view, and how many end in another file."""
    path = root / file
    table = read_text_table(path, (BEGIN, END, *wanted), separator="\t", quoted=False)
    labels = wanted or [
        c for c in table.columns if c.strip() and c not in _NOT_LABELS and not _MEASUREMENT.search(c)
    ]
    if not labels:
        raise ManifestError(
            f"{path}: expected a label column beside Raven's own, found none; add one, or name one "
            "with --label-column"
        )
    n = len(table)
    if "View" in table:
        same = [c for c in ("Selection", "Channel", BEGIN, END, FILE, OFFSET) if c in table]
        table = table[~table.duplicated([*same, *labels])]
    start, end = seconds(table[BEGIN], path), seconds(table[END], path)
    if FILE in table:
        start, end = _within_file(table, start, end, path)
        unique = {f: index.of_name(f, file) for f in table[FILE].unique()}
        audio = table[FILE].map(unique)
    else:
        audio = pd.Series(index.of_annotation(file), index=table.index, dtype="str")
    across = (table["End File"] != table[FILE]).sum() if {"End File", FILE} <= set(table) else 0
    rows = pd.DataFrame(
        {
            "file": audio,
            "path": audio.map(lambda a: str(index.root / a)),
            "start_s": start,
            "end_s": end,
            "channel": _channel(table, path),
            **{c: table[c] for c in labels},
        }
    )
    return rows, n - len(table), int(across)


def _within_file(
    table: pd.DataFrame, start: pd.Series, end: pd.Series, path: Path
) -> tuple[pd.Series, pd.Series]:
    """Times from the start of ``Begin File``; Raven counts them over all files it had open."""
    if OFFSET in table:
        offset = seconds(table[OFFSET], path)
        return offset, offset + (end - start)
    if table[FILE].nunique() > 1:
        raise ManifestError(
            f"{path}: {table[FILE].nunique()} files in {FILE!r} but no column {OFFSET!r}, so it is open "
            f"where each begins; export that column (or copy {BEGIN!r} into it if the times already "
            "count from the start of each file)"
        )
    return start, end


def _channel(table: pd.DataFrame, path: Path) -> pd.Series:
    """Raven counts channels from 1, the manifest from 0."""
    if "Channel" not in table:
        return pd.Series(pd.NA, index=table.index, dtype="Int64")
    given = table["Channel"] != ""
    numbers = pd.to_numeric(table["Channel"].where(given), errors="coerce")
    bad = given & ~((numbers >= 1) & (numbers % 1 == 0))
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise ManifestError(
            f"{path}: row {int(table.index[row]) + 2}: expected a channel counted from 1, "
            f"got {table['Channel'].iloc[row]!r}; correct it"
        )
    return (numbers - 1).astype("Int64")


def _bare(file: str) -> str:
    folder = file.rpartition("/")[0]
    return f"{folder}/{stem(file)}" if folder else stem(file)


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
