"""BirdSet: focal recordings of Xeno-canto to train on, soundscapes cut into 5 s to test on.

As its builder reads it (``BirdSet.py``, version 0.0.4, of huggingface.co/datasets/DBD-research-group/BirdSet;
the files lie in that repository's branch ``data``, a folder for each subset ``NAME``):

- ``NAME_metadata_train.parquet``, ``…_test.parquet``, ``…_test_5s.parquet``; of XCM and XCL, which have no
  test, ``NAME_metadata.parquet``. A file is known by the last part of ``filepath``, a column or the index.
- audio in ``NAME_train_shard_0001.tar.gz``, ``NAME_test_shard_…``, ``NAME_test5s_shard_…`` (XCM, XCL:
  ``NAME_shard_…``), 32 kHz Ogg. The builder unpacks them into folders; here each may also stay one ``.tar``.

`events` follows ``XCEventMapping`` (birdset/datamodule/components/event_mapping.py of
github.com/DBD-research-group/BirdSet): of a recording's detected events those of the largest cluster, noise
(-1) left out where there are others. BirdSet draws 5 s at random from around an event; here they are those
around its middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from featurestore.archives.interface import ArchiveError
from featurestore.archives.names import member_path
from featurestore.archives.opened import open_archive
from featurestore.archives.tar_file import UNPACK
from featurestore.corpora.audio_files import list_files, name_some, stem
from featurestore.corpora.interface import Corpus, Draft
from featurestore.errors import ConfigError, LabelError, ManifestError, one_line
from featurestore.manifest.labels import join_labels
from featurestore.manifest.table import NUMBER_COLUMNS, to_text
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.parquet_tables import read_parquet_cells

_TABLES = {
    "train": "{}_metadata_train.parquet",
    "test": "{}_metadata_test.parquet",
    "test_5s": "{}_metadata_test_5s.parquet",
}
_TRAIN_ALONE = "{}_metadata.parquet"  # XCM and XCL
TEST_PARTS = ("test_5s", "test", "none")
WINDOW_S = 5.0
# BirdSet draws a fifth of its training rows to choose by (`val_split: 0.2` of its configs/datamodule).
VAL_OF = 5
NOISE = -1
# Kept as labels, as far as a table has them.
LABELS = [
    "ebird_code",
    "call_type",
    "sex",
    "lat",
    "long",
    "microphone",
    "license",
    "source",
    "local_time",
    "quality",
    "recordist",
    "genus",
    "species_group",
    "order",
]
SETS = (
    "ebird_code_multilabel",
    "ebird_code_secondary",
    "genus_multilabel",
    "species_group_multilabel",
    "order_multilabel",
)


def read(source: Path, *, subset: str | None = None, test: str = "test_5s", events: int = 0) -> Draft:
    """Read the tables of a subset: the training recordings, then the test, each in its table's order."""
    if test not in TEST_PARTS:
        raise ConfigError(f"corpus birdset: --test: expected one of {', '.join(TEST_PARTS)}, got {test!r}")
    if events < 0:
        raise ConfigError(f"corpus birdset: --events: expected 0 or more events of a recording, got {events}")
    root, name = _subset(source, subset)
    tables = _tables(root, name, test)
    found = [_rows(path, part, events if part == "train" else 0) for part, path in tables.items()]
    rows = pd.concat(found, ignore_index=True)
    labels = [c for c in rows.columns if c not in NUMBER_COLUMNS]
    rows[labels] = rows[labels].fillna("")  # of columns that not all tables have
    places = _Places(root)
    rows.insert(0, "path", [places.of(file) for file in rows["file"]])
    groups = {"recording": rows.pop("recording")}
    if "recordist" in rows:
        groups["recordist"] = rows["recordist"]
    notes = places.notes
    if (rows["split"] == "val").any():
        notes = (
            *notes,
            "every fifth training recording of a species is in val; BirdSet draws a fifth at random",
        )
    return Draft(rows=rows, groups=groups, notes=notes, hint=lambda: places.hint)


def _subset(source: Path, subset: str | None) -> tuple[Path, str]:
    """The folder of a subset and its name."""
    marks = (_TABLES["train"], _TRAIN_ALONE, _TABLES["test_5s"], _TABLES["test"])
    folders = [source, *sorted(p for p in source.iterdir() if p.is_dir())]
    found: dict[str, Path] = {}
    for folder in folders:
        for mark in marks:
            end = mark.removeprefix("{}")
            for path in sorted(folder.glob(f"*{end}")):
                found.setdefault(path.name.removesuffix(end), folder)
    names = sorted(found)
    if subset is None and len(names) == 1:
        return found[names[0]], names[0]
    if subset in found:
        return found[subset], subset
    if not names:
        example = _TABLES["train"].format("HSN")
        raise ManifestError(f"{source}: expected tables such as {example} in this folder, found none")
    wanted = f"no subset {subset!r}" if subset is not None else "name a subset with --subset"
    raise ManifestError(f"{source}: {wanted}; its subsets are {', '.join(names)}")


def _tables(root: Path, name: str, test: str) -> dict[str, Path]:
    """The tables by part, as far as they are there.

    Raises:
        ManifestError: none is there, or the one that was asked for is not.
    """
    train = next(
        (p for mark in (_TABLES["train"], _TRAIN_ALONE) if (p := root / mark.format(name)).is_file()), None
    )
    found = {} if train is None else {"train": train}
    if test != "none":
        path = root / _TABLES[test].format(name)
        if path.is_file():
            found[test] = path
        elif not (root / _TRAIN_ALONE.format(name)).is_file():
            raise ManifestError(
                f"{path}: no such file; get it from BirdSet's branch 'data', or say --test none"
            )
    if not found:
        raise ManifestError(f"{root}: expected {_TABLES['train'].format(name)}, found none")
    return found


def _rows(path: Path, part: str, events: int) -> pd.DataFrame:
    """Rows of one table: file, times, labels, part of the split, recording."""
    table = _table(path)
    if part == "test":
        times = [_times(row, path) for row in table.to_dict("records")]
        at = np.arange(len(table))
    elif events:
        cut = [_event_times(row, events, path) for row in table.to_dict("records")]
        at = np.repeat(np.arange(len(table)), [len(found) for found in cut])
        times = [stretch for found in cut for stretch in found]
    else:
        at, times = np.arange(len(table)), [(np.nan, np.nan)] * len(table)
    split = _split(table, part)[at]
    table = table.iloc[at].reset_index(drop=True)
    labels = {c: list(to_text(table[[c]])[c]) for c in LABELS if c in table}
    if part == "test_5s" and "ebird_code" in labels:
        labels["ebird_code"] = [""] * len(table)  # as the builder has it: a window has a set
    labels |= {c: [_set(cell, c, path) for cell in table[c]] for c in SETS if c in table}
    if "ebird_code_multilabel" not in labels and "ebird_code" in labels:
        labels["ebird_code_multilabel"] = labels["ebird_code"]
    # HSN_001_20150708_061805_235_240.ogg is 5 s of HSN_001_20150708_061805.
    named = table["file"].map(stem)
    recording = named.str.replace(r"_\d+_\d+$", "", regex=True) if part == "test_5s" else named
    start_s, end_s = np.array(times, dtype=np.float64).reshape(-1, 2).T
    own = {"file": table["file"], "start_s": start_s, "end_s": end_s, "recording": recording}
    return pd.DataFrame({**own, "split": split, **labels})


def _split(table: pd.DataFrame, part: str) -> np.ndarray:
    """The part of every row; of the training recordings of a species every fifth is to choose by."""
    if part != "train":
        return np.full(len(table), "test", dtype=object)
    if "ebird_code" in table:
        number = table.groupby("ebird_code", dropna=False).cumcount().to_numpy()
    else:
        number = np.arange(len(table))
    return np.where(number % VAL_OF == VAL_OF - 1, "val", "train").astype(object)


def _table(path: Path) -> pd.DataFrame:
    """A table with its file names as a column ``file``."""
    try:
        table = read_parquet_cells(path)
    except DocumentError as error:
        raise ManifestError(
            f"{path}: no Parquet file, or cut short ({one_line(error)}); get it once more"
        ) from None
    if "filepath" not in table:
        raise ManifestError(
            f"{path}: expected a column 'filepath', got {', '.join(map(repr, table.columns))}"
        )
    names = table["filepath"]
    if not names.map(lambda name: isinstance(name, str) and bool(name)).all():
        raise ManifestError(f"{path}: expected the name of a file in every cell of 'filepath'")
    table = table.reset_index(drop=True)
    return table.assign(file=[PurePosixPath(name).name for name in names])


def _times(row: dict[Any, Any], path: Path) -> tuple[float, float]:
    try:
        return float(row["start_time"]), float(row["end_time"])
    except (KeyError, TypeError, ValueError):
        raise ManifestError(
            f"{path}: {row['file']!r}: expected start_time and end_time in seconds of each event"
        ) from None


def _event_times(row: dict[Any, Any], most: int, path: Path) -> list[tuple[float, float]]:
    """Up to so many stretches of `WINDOW_S` of a recording, around events of its largest cluster."""
    try:
        found = row.get("detected_events")
        times = np.array([list(e) for e in found] if found is not None else [], dtype=np.float64).reshape(
            -1, 2
        )
        clusters = row.get("event_cluster")
        cluster = np.array(list(clusters) if clusters is not None else [0] * len(times), dtype=np.int64)
    except (TypeError, ValueError):
        times, cluster = np.zeros((0, 2)), np.zeros(1, dtype=np.int64)
    if len(times) != len(cluster) or not np.isfinite(times).all():
        raise ManifestError(
            f"{path}: {row['file']!r}: expected detected_events as pairs of seconds, and an event_cluster of "
            "each"
        )
    if len(times) == 0:
        return [_first_seconds(row)]
    # Nothing before the end of the last event is past the file's end; its length is in whole seconds.
    last = float(times[:, 1].max())
    if (cluster != NOISE).any():
        times, cluster = times[cluster != NOISE], cluster[cluster != NOISE]
    values, counts = np.unique(cluster, return_counts=True)
    times = times[cluster == values[counts.argmax()]]
    times = times[np.argsort(times[:, 0], kind="stable")]
    # At the ends of a recording several events may have one stretch.
    return list(dict.fromkeys(_window(float(start + end) / 2, last) for start, end in times))[:most]


def _window(middle_s: float, last_s: float) -> tuple[float, float]:
    end = min(max(WINDOW_S, middle_s + WINDOW_S / 2), last_s)
    return max(0.0, end - WINDOW_S), end


def _first_seconds(row: dict[Any, Any]) -> tuple[float, float]:
    length = row.get("length")
    is_longer = isinstance(length, int | float | np.number) and length > WINDOW_S + 1
    return 0.0, WINDOW_S if is_longer else np.nan


def _set(cell: Any, column: str, path: Path) -> str:
    """A cell of a label set; "" where there is none."""
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    try:
        return join_labels(
            str(label) for label in ([cell] if isinstance(cell, str) else list(cell)) if label is not None
        )
    except (LabelError, TypeError) as error:
        raise ManifestError(f"{path}: column {column!r}: {one_line(error)}") from None


class _Places:
    """Where each file is: unpacked below the folder, or in a tar file there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found = dict(self._all())
        packed = list_files(root, [".tar.gz"])
        self._packed = [name for name in packed if (root / name).is_file()]
        said = f"not read, being compressed: {counted(len(self._packed), 'file')}, {name_some(self._packed)}"
        self.notes = (said,) if self._packed else ()

    def of(self, file: str) -> str:
        """The path of a file; where it would be, if it is not there."""
        return self._found.get(file, str(self._root / file))

    @property
    def hint(self) -> str:
        """Where audio that is missing may be."""
        if not self._packed:
            return ""
        return f"{name_some(self._packed)} cannot be read where they lie; {UNPACK}"

    def _all(self) -> Iterator[tuple[str, str]]:
        for name in list_files(self._root, [".tar"]):
            path = self._root / name
            try:
                members = open_archive(str(path)).members()
            except ArchiveError as error:
                raise ManifestError(f"{path}: {error}") from None
            for member in members:
                yield PurePosixPath(member).name, member_path(str(path), member)
        for name in list_files(self._root):
            yield PurePosixPath(name).name, str(self._root / name)


BIRDSET = Corpus(
    name="birdset",
    title="BirdSet, a benchmark of birds: focal recordings and soundscapes",
    licence="CC BY-NC 4.0 by its card; recordings have their own, see the column license",
    citation=(
        "L. Rauch et al. BirdSet: A Large-Scale Dataset for Audio Classification in Avian Bioacoustics. "
        "ICLR 2025. arXiv:2403.10380"
    ),
    where="https://huggingface.co/datasets/DBD-research-group/BirdSet, branch data",
    groups={
        "recording": "the focal recording, or the soundscape that 5 s or events are cut from",
        "recordist": "who recorded it, of focal recordings",
    },
    options={
        "subset": "which subset, such as HSN, where the source holds several",
        "test": "what to test on: test_5s, windows with sets of species (default); test, events of one; none",
        "events": "cut each training recording into up to so many stretches of 5 s around detected events "
        "(default: 0, each recording whole)",
    },
    reader=read,
)
