"""Tables whose columns have other names than a manifest's: a mapping says which are which."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import (
    AUDIO_OPTION,
    AudioIndex,
    annotation_files,
    bare_name,
    own_columns,
    renamed_note,
)
from featurestore.corpora.folder import split_of
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import count, name_some, read_text_table, seconds
from featurestore.errors import ConfigError, ManifestError, did_you_mean
from featurestore.manifest.column_names import near_misses, not_in_seconds
from featurestore.manifest.table import CONTRACT_COLUMNS, is_unnamed, read_cells
from featurestore.untrusted.text_table import FIRST_ROW, first_row

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def read(source: Path, *, columns: str | Sequence[str] = (), audio: str | Path | None = None) -> Draft:
    """Read one table or all below a folder; separated by commas, semicolons (decimal commas too) or tabs.

    Args:
        source: the table or the folder.
        columns: ``OURS=THEIRS`` between commas: ours are the manifest's own columns, and any other name for
            a label. Without ``path`` a table belongs to the audio of its own name.
        audio: folder that paths count from.
    """
    root, files = annotation_files(source, SUFFIXES)
    index = AudioIndex(source, audio)
    mapping = _mapping(columns)
    renamed: dict[str, str] = {}
    unnamed: list[str] = []
    tables = [_one(root, file, index, mapping, renamed, unnamed) for file in files]
    rows = pd.concat(tables, ignore_index=True)
    text = [c for c in rows.columns if c not in ("start_s", "end_s", "channel")]
    rows[text] = rows[text].fillna("")
    if "utterance_id" in rows:
        ids = rows["utterance_id"]
        bad = sorted(set(ids[ids.duplicated() | (ids.str.strip() == "")]))
        if bad:
            raise ManifestError(
                f"{source}: utterance_id {bad[0]!r} does not stand for one row alone; correct it"
            )
    groups = {"recording": rows["file"].map(bare_name)}
    if "group" in rows:
        groups = {"column": rows.pop("group"), **groups}
    return Draft(
        rows=index.rows(rows),
        groups=groups,
        notes=(*index.notes(), *renamed_note(renamed), *_unnamed_note(unnamed)),
        hint=index.hint,
    )


def _unnamed_note(files: list[str]) -> tuple[str, ...]:
    """The note about columns without a name, of which those of row numbers are no labels."""
    return (f"left out {count(len(files), 'column')} without a name: {name_some(files)}",) if files else ()


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


def _one(
    root: Path,
    file: str,
    index: AudioIndex,
    mapping: dict[str, str],
    renamed: dict[str, str],
    unnamed: list[str],
) -> pd.DataFrame:
    path = root / file
    table, decimal_comma = _read(path)
    for theirs, ours in mapping.items():
        if theirs not in table:
            raise ManifestError(
                f"{path}: --columns {ours}={theirs}: no column {theirs!r}; there is "
                f"{', '.join(map(repr, table.columns))}{did_you_mean(theirs, table.columns)}"
            )
    taken = {*mapping, *(c for c in CONTRACT_COLUMNS if c in table and c not in mapping.values())}
    if lost := not_in_seconds([c for c in table.columns if c not in mapping], {*mapping.values()}):
        raise ManifestError(f"{path}: {lost}")
    for theirs, ours in mapping.items():
        if ours in ("start_s", "end_s") and (lost := not_in_seconds([theirs])):
            raise ManifestError(f"{path}: --columns {ours}={theirs}: {lost}")
    missed = near_misses([c for c in table.columns if c not in taken], mapping.values())
    if missed:
        mapped = ",".join(
            f"{ours}={theirs}" for theirs, ours in [*mapping.items(), *((t, o) for o, t in missed.items())]
        )
        raise ManifestError(
            f"{path}: {', '.join(map(repr, missed.values()))} would be a label; did you mean "
            f"--columns {shlex.quote(mapped)}? map each; a label is mapped to another name"
        )
    for theirs, ours in mapping.items():
        if ours not in CONTRACT_COLUMNS and ours in table and ours not in mapping:
            raise ConfigError(
                f"--columns {ours}={theirs}: {path} has a column {ours!r} of its own; choose another"
            )
    unnamed += [file for c in table.columns if is_unnamed(c) and c not in mapping]
    found = {ours: table[theirs] for theirs, ours in mapping.items()}
    found |= {c: table[c] for c in CONTRACT_COLUMNS if c in table and c not in found}
    labels = {o: c for o, c in found.items() if o not in CONTRACT_COLUMNS}
    labels |= {c: table[c] for c in table.columns if c not in taken and not is_unnamed(c)}
    rows = pd.DataFrame({"file": _audio(found.get("path"), file, path, index, table.index)})
    for name in ("start_s", "end_s"):
        if name in found:
            rows[name] = _times(found[name], path, decimal_comma)
    if "channel" in found:
        rows["channel"] = _channels(found["channel"], path)
    if "split" in found:
        rows["split"] = split_of(found["split"], path)
    for name in ("utterance_id", "group"):
        if name in found:
            rows[name] = found[name]
    return rows.assign(**own_columns(pd.DataFrame(labels, index=table.index), labels, renamed))


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


def _audio(named: pd.Series | None, file: str, path: Path, index: AudioIndex, rows: pd.Index) -> pd.Series:
    if named is None:
        sound = index.of_annotation(file)
        if not Path(index.path(sound)).is_file():
            raise ManifestError(
                f"{path}: no column 'path', and no audio of the table's own name ({sound}) beside it; "
                "say --columns path=COLUMN"
            )
        return pd.Series(sound, index=rows, dtype="str")
    empty = named.str.strip() == ""
    if empty.any():
        row = int(named.index[int(empty.to_numpy().argmax())]) + FIRST_ROW
        raise ManifestError(f"{path}: row {row}: {named.name!r} names no audio; fill it in or remove the row")
    return named.map({n: index.of_name(n, file) for n in named.unique()})


def _times(cells: pd.Series, path: Path, decimal_comma: bool) -> pd.Series:
    """Seconds; an empty cell is the start or the end of the file."""
    given = cells[cells.str.strip() != ""]
    if decimal_comma:
        given = given.str.replace(r"^(\s*[+-]?\d*),(\d+\s*)$", r"\1.\2", regex=True)
    return seconds(given, path).reindex(cells.index)


def _channels(cells: pd.Series, path: Path) -> pd.Series:
    given = cells[cells.str.strip() != ""]
    numbers = pd.to_numeric(given, errors="coerce")
    bad = ~((numbers >= 0) & (numbers < 2**31) & (numbers % 1 == 0))
    if bad.any():
        row = int(given.index[int(bad.to_numpy().argmax())])
        raise ManifestError(
            f"{path}: row {row + FIRST_ROW}: expected a channel counted from 0, got {cells[row]!r}"
        )
    return numbers.astype("Int64").reindex(cells.index)


TABLE = Corpus(
    name="table",
    title="tables of other programs",
    licence="yours",
    citation="",
    where="your own annotations",
    groups={"column": "the column mapped to group", "recording": "one audio file"},
    options={
        "columns": "OURS=THEIRS[,…]: path=filename,start_s=start; may be repeated; other names become labels",
        "audio": AUDIO_OPTION,
    },
    reader=read,
    takes_file=True,
)
