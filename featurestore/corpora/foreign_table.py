"""Tables whose columns have other names than a manifest's: a mapping says which are which."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format
from featurestore.corpora.audio_files import name_some
from featurestore.corpora.interface import Draft
from featurestore.corpora.split_parts import split_of
from featurestore.corpora.tables import channels, read_text_table, refuse_row, seconds
from featurestore.errors import ConfigError, ManifestError, did_you_mean
from featurestore.manifest.column_names import near_misses, not_in_seconds
from featurestore.manifest.table import CONTRACT_COLUMNS, NUMBER_COLUMNS, is_unnamed, read_cells
from featurestore.printable import counted
from featurestore.untrusted.text_table import first_row

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def read(source: Path, *, columns: str | Sequence[str] = (), audio: str | Path | None = None) -> Draft:
    """Read one table or all below a folder; separated by commas, semicolons (decimal commas too) or tabs.

    Args:
        source: the table or the folder.
        columns: ``OURS=THEIRS`` between commas: ours are the manifest's own columns, and any other name for
            a label. Without ``path`` a table belongs to the audio of its own name.
        audio: folder that paths count from.
    """
    annotations = Annotations(source, audio, SUFFIXES)
    mapping = _mapping(columns)
    unnamed: list[str] = []
    tables = [_rows(file, annotations, mapping, unnamed) for file in annotations.files]
    rows = pd.concat(tables, ignore_index=True)
    text = [c for c in rows.columns if c not in NUMBER_COLUMNS]
    rows[text] = rows[text].fillna("")
    if "utterance_id" in rows:
        ids = rows["utterance_id"]
        bad = sorted(set(ids[ids.duplicated() | (ids.str.strip() == "")]))
        if bad:
            raise ManifestError(
                f"{source}: utterance_id {bad[0]!r} does not stand for one row alone; correct it"
            )
    groups = {"column": rows.pop("group")} if "group" in rows else {}
    notes = [*annotations.renamed_note()]
    if unnamed:  # such as a column of row numbers, which is no label
        notes.append(f"left out {counted(len(unnamed), 'column')} without a name: {name_some(unnamed)}")
    return annotations.draft(rows, notes, groups=groups)


def _mapping(columns: str | Sequence[str]) -> dict[str, str]:
    """Ours by theirs; a comma within a column's name is one where no ``NAME=`` follows."""
    given = [columns] if isinstance(columns, str) else list(columns)
    mapping: dict[str, str] = {}
    for pair in (p for text in given for p in re.split(r",(?=[^,=]+=)", text)):
        ours, equals, theirs = pair.partition("=")
        ours = ours.strip()
        if not (ours and equals and theirs):
            raise ConfigError(f"--columns: expected OURS=THEIRS such as path=filename, got {pair!r}")
        if ours in mapping.values() or theirs in mapping:
            raise ConfigError(f"--columns: {pair!r}: each column stands for one; name it once")
        mapping[theirs] = ours
    return mapping


def _rows(file: str, annotations: Annotations, mapping: dict[str, str], unnamed: list[str]) -> pd.DataFrame:
    """Rows of one table; a column without a name adds the file to `unnamed`."""
    path = annotations.folder / file
    table, decimal_comma = _read(path)
    contract = [c for c in CONTRACT_COLUMNS if c in table and c not in mapping.values()]
    _check_columns(list(table.columns), contract, mapping, path)
    unnamed += [file for c in table.columns if is_unnamed(c) and c not in mapping]
    cells = {ours: table[theirs] for theirs, ours in mapping.items()} | {c: table[c] for c in contract}
    rows = pd.DataFrame({"file": _audio(file, annotations, table, cells.get("path"))})
    for name in ("start_s", "end_s"):
        if name in cells:
            rows[name] = _times(cells[name], path, decimal_comma)
    if "channel" in cells:
        rows["channel"] = channels(cells["channel"], path, first=0)
    if "split" in cells:
        rows["split"] = split_of(cells["split"], path)
    rows = rows.assign(**{name: cells[name] for name in ("utterance_id", "group") if name in cells})
    labels = {c: column for c, column in cells.items() if c not in CONTRACT_COLUMNS}
    others = [c for c in table.columns if not (c in mapping or c in contract or is_unnamed(c))]
    labels |= {c: table[c] for c in others}
    return rows.assign(**annotations.label_columns(pd.DataFrame(labels, index=table.index), labels))


def _check_columns(columns: list[str], contract: list[str], mapping: dict[str, str], path: Path) -> None:
    """Refuse a mapping of columns that are not there, and what would be a label by a slip.

    Args:
        columns: those of the table.
        contract: of these, those that are the manifest's own and stand for themselves.
        mapping: ours by theirs.
        path: where the table was read.
    """
    for theirs, ours in mapping.items():
        if theirs not in columns:
            raise ManifestError(
                f"{path}: --columns {ours}={theirs}: no column {theirs!r}; there is "
                f"{', '.join(map(repr, columns))}{did_you_mean(theirs, columns)}"
            )
    if lost := not_in_seconds([c for c in columns if c not in mapping], mapping.values()):
        raise ManifestError(f"{path}: {lost}")
    for theirs, ours in mapping.items():
        if ours in ("start_s", "end_s") and (lost := not_in_seconds([theirs])):
            raise ManifestError(f"{path}: --columns {ours}={theirs}: {lost}")
    missed = near_misses([c for c in columns if c not in mapping and c not in contract], mapping.values())
    if missed:
        pairs = [(ours, theirs) for theirs, ours in mapping.items()] + list(missed.items())
        mapped = shlex.quote(",".join(f"{ours}={theirs}" for ours, theirs in pairs))
        raise ManifestError(
            f"{path}: {', '.join(map(repr, missed.values()))} would be a label; did you mean "
            f"--columns {mapped}? map each; a label is mapped to another name"
        )
    for theirs, ours in mapping.items():
        if ours not in CONTRACT_COLUMNS and ours in columns and ours not in mapping:
            raise ConfigError(
                f"--columns {ours}={theirs}: {path} has a column {ours!r} of its own; choose another"
            )


def _read(path: Path) -> tuple[pd.DataFrame, bool]:
    """The table, and whether its numbers may have decimal commas: then nothing else is a comma."""
    if path.suffix.lower() == ".parquet":
        return read_cells(path), False
    separators = [s for s in (",", ";", "\t") if len(first_row(path, s)) > 1]
    # A name may hold another separator in brackets; the one that makes the most columns is meant.
    separator = max(separators or [","], key=lambda s: len(first_row(path, s)))
    table = read_text_table(path, (), separator=separator)
    for name in [c for c in table.columns if c != c.strip()]:  # blanks behind separators
        table[name] = table[name].str.strip()
    table.columns = table.columns.str.strip()
    return table, separator != ","


def _audio(file: str, annotations: Annotations, table: pd.DataFrame, named: pd.Series | None) -> pd.Series:
    path = annotations.folder / file
    if named is not None:
        said = f"{named.name!r} names no audio; fill it in or remove the row"
        refuse_row(named.str.strip() == "", path, lambda _: said)
    elif not Path(annotations.path(sound := annotations.of_annotation(file))).is_file():
        raise ManifestError(
            f"{path}: no column 'path', and no audio of the table's own name ({sound}) beside it; "
            "say --columns path=COLUMN"
        )
    return annotations.of_rows(file, table, named)


def _times(cells: pd.Series, path: Path, decimal_comma: bool) -> pd.Series:
    """Seconds; an empty cell is the start or the end of the file."""
    given = cells[cells.str.strip() != ""]
    if decimal_comma:
        given = given.str.replace(r"^(\s*[+-]?\d*),(\d+\s*)$", r"\1.\2", regex=True)
    return seconds(given, path).reindex(cells.index)


TABLE = annotation_format(
    "table",
    "tables of other programs",
    read,
    options={
        "columns": "OURS=THEIRS[,…]: path=filename,start_s=start; may be repeated; other names become labels",
        "audio": AUDIO_OPTION,
    },
    groups={"column": "the column mapped to group"},
)
