"""BEANS-Zero: the tests of NatureLM-audio, as Parquet files whose audio is lists of samples.

Fields are those of its card and of https://github.com/earthspecies/beans-zero. No audio is read here: rows
are cells of the files (`featurestore.archives.names`), at the rate that each row's ``metadata`` states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.archives.interface import ArchiveError
from featurestore.archives.names import cell_member, member_path, rated_column
from featurestore.archives.opened import open_archive
from featurestore.archives.parquet_file import ParquetArchive
from featurestore.corpora.audio_files import list_files
from featurestore.corpora.interface import Corpus, Draft
from featurestore.errors import ConfigError, LabelError, ManifestError, did_you_mean, one_line
from featurestore.manifest.labels import join_labels
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError, parse_json
from featurestore.untrusted.parquet_tables import read_parquet_columns

AUDIO, METADATA, OUTPUT, NAME, KIND, ID = "audio", "metadata", "output", "dataset_name", "task", "id"
_REQUIRED = (METADATA, OUTPUT, NAME, KIND, ID)
_KEPT = ("source_dataset", "file_name", "license")
_RATES = ("sample_rate", "sampling_rate")
# The answers of a detection task stand between these; no answer is this word, in any case.
_BETWEEN, _NOTHING = ", ", "none"
_DETECTION = "detection"


def read(source: Path, *, task: str | None = None) -> Draft:
    """Read the Parquet files below `source`, or one file, in the order of their names; rows as they lie.

    Args:
        source: folder or file.
        task: only rows of this ``dataset_name``; default all.
    """
    root = source if source.is_dir() else source.parent
    files = list_files(source, [".parquet"]) if source.is_dir() else [source.name]
    if not files or not files[0].lower().endswith(".parquet"):
        raise ManifestError(f"{source}: expected the .parquet files of BEANS-Zero, found none")
    table = pd.concat([_cells(root / file, file) for file in files], ignore_index=True)
    names = list(dict.fromkeys(table[NAME]))
    if task is not None:
        if task not in names:
            raise ConfigError(
                f"corpus beans-zero has no task {task!r} here; there is {', '.join(names)}"
                f"{did_you_mean(task, names)}"
            )
        table = table[table[NAME] == task].reset_index(drop=True)
    rates = [_rate_hz(cell, table, i) for i, cell in enumerate(table[METADATA])]
    if (again := table[ID].duplicated(keep=False) | (table[ID] == "")).any():
        i = int(again.to_numpy().argmax())
        raise ManifestError(f"{_place(table, i)}: {ID} {table[ID][i]!r} does not stand for one row alone")
    rows = pd.DataFrame(
        {
            "utterance_id": table[ID],
            "file": table[ID],
            "path": [
                member_path(path, cell_member(rated_column(AUDIO, rate_hz), row))
                for path, row, rate_hz in zip(table["path"], table["cell"], rates, strict=True)
            ],
            "split": "test",
            "label": [_label(table, i) for i in range(len(table))],
            **{c: table[c] for c in (NAME, KIND, *_KEPT) if c in table},
        }
    )
    notes = []
    if task is None and len(names) > 1:
        notes.append(
            f"rows of {counted(len(names), 'task')}, of each of which the label is something else; --task "
            "takes one, dataset_name tells them apart"
        )
    return Draft(rows=rows, notes=tuple(notes))


def _cells(path: Path, file: str) -> pd.DataFrame:
    """What a file says of its rows, as text, and where they are."""
    try:
        opened = open_archive(str(path))
    except ArchiveError as error:
        raise ManifestError(f"{path}: {error}; get it once more") from None
    assert isinstance(opened, ParquetArchive)
    has = list(opened.schema.names)
    if absent := [c for c in (AUDIO, *_REQUIRED) if c not in has]:
        raise ManifestError(
            f"{path}: expected columns {', '.join(map(repr, (AUDIO, *_REQUIRED)))}, got "
            f"{', '.join(map(repr, has))}; column {absent[0]!r} is not there"
        )
    if opened.samples_leaf(AUDIO) is None:
        raise ManifestError(
            f"{path}: expected {AUDIO!r} to hold lists of samples, got {opened.schema.field(AUDIO).type}; "
            "`fs manifest hf` reads audio that is kept as files"
        )
    columns = [c for c in (*_REQUIRED, *_KEPT) if c in has]
    try:
        read = read_parquet_columns(path, columns)
    except DocumentError as error:
        raise ManifestError(f"{path}: cannot be read ({one_line(error)}); get it once more") from None
    cells = {c: ["" if v is None else str(v) for v in read.column(c).to_pylist()] for c in columns}
    return pd.DataFrame({**cells, "path": str(path), "file": file, "cell": range(read.num_rows)})


def _place(table: pd.DataFrame, i: int) -> str:
    return f"{table['path'][i]}: row {table['cell'][i]} (counted from 0)"


def _rate_hz(cell: str, table: pd.DataFrame, i: int) -> int:
    try:
        said: Any = parse_json(cell)
    except DocumentError as error:
        raise ManifestError(f"{_place(table, i)}: {METADATA!r}: {error}") from None
    found = next((said[k] for k in _RATES if k in said), None) if isinstance(said, dict) else None
    if (
        isinstance(found, bool)
        or not isinstance(found, int | float)
        or not 1 <= found < 1e9
        or found != int(found)
    ):
        raise ManifestError(
            f"{_place(table, i)}: expected {_RATES[0]!r} of {METADATA!r} to be the rate in Hz, got {found!r}"
        )
    return int(found)


def _label(table: pd.DataFrame, i: int) -> str:
    """The answer; of a detection task a set, which is empty where nothing sounds."""
    output = str(table[OUTPUT][i])
    if table[KIND][i].casefold() != _DETECTION:
        return output
    try:
        return join_labels([] if output.casefold() == _NOTHING else output.split(_BETWEEN))
    except LabelError as error:
        raise ManifestError(f"{_place(table, i)}: {error}") from None


BEANS_ZERO = Corpus(
    name="beans-zero",
    title="BEANS-Zero",
    licence="differs by source, see the column license",
    citation="D. Robinson, M. Miron, M. Hagiwara, O. Pietquin. NatureLM-audio. ICLR 2025, arXiv:2411.07186",
    where="https://huggingface.co/datasets/EarthSpeciesProject/BEANS-Zero",
    groups={},
    options={"task": "only rows of this dataset_name, such as zf-indiv (default: all)"},
    reader=read,
    takes_file=True,
)
