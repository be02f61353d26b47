"""npz as the authors of the paper keep features, and nothing in it that needs unpickling.

One entry per utterance, named by its position in the data set (``0``, ``1``, …), each float32
`[layers, functionals * features]`, mean beside std: what ``compile_feats.py`` of idiap/ssl-human-animal
writes and its transforms load. Positions are rows of ``manifest.csv``, which is written beside it; which
utterance is which, and which failed, is in ``index.csv``.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.archives.interface import ArchiveError
from featurestore.archives.zip_file import read_member
from featurestore.errors import ConfigError, CorruptData, StoreError, one_line
from featurestore.exchange.interface import (
    DTYPES,
    Advance,
    Format,
    ReadOptions,
    Selection,
    Source,
    block_rows,
    row_blocks,
)
from featurestore.fingerprint import digest
from featurestore.format.number_types import DTypeName
from featurestore.manifest.table import Manifest, write_manifest
from featurestore.names import is_whole_number
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError, require_regular
from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, read_table

LAYOUT = "npz, one entry per utterance [layers, functionals * features]"
PAPER_FUNCTIONALS = ("mean", "std")
POSITION_COLUMNS = ("position", "old_id")
FACTS = ("status", "n_frames", "duration_s", "audio_hash")
# Most bytes of all layers held at a time: a shard of 1024 rows of 13 layers of width 768 is 78 MiB.
ALL_LAYERS_BYTES = 128 * 2**20
# Of an entry, unpacked: all layers of one utterance, some hundred kilobytes.
MOST_ENTRY_BYTES = 1 << 28
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that zip can hold: equal features give equal files


def write_npz(selections: Sequence[Selection], target: Path, advance: Advance) -> list[str]:
    """See `Format.write`."""
    notes = []
    for selection in selections:
        features = selection.features
        folder = target / features.model / features.dataset
        folder.mkdir(parents=True)
        index = features.index
        _write_archive(selection, folder / f"all_{features.model}.npz", advance)
        write_manifest(features.manifest.table, folder / "manifest.csv")
        facts = index[["utterance_id", *FACTS]]
        facts.insert(0, "position", selection.positions)
        facts.sort_values("position").to_csv(
            # All quoted: a lone carriage return in an id would else end the line.
            folder / "index.csv",
            index=False,
            lineterminator="\n",
            quoting=csv.QUOTE_NONNUMERIC,
        )
        if selection.layers != tuple(range(len(selection.layers))):
            notes.append(
                f"{features.model}/{features.dataset}: row i of an entry is layer "
                f"{', '.join(map(str, selection.layers))} for i = 0, 1, …"
            )
    return notes


def _write_archive(selection: Selection, path: Path, advance: Advance) -> None:
    positions = selection.positions
    layers = [selection.features.layer(k) for k in selection.layers]
    _, n_functionals, n_features = layers[0].shape
    shape = (len(layers), n_functionals * n_features)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for rows in row_blocks(layers[0], len(layers) * selection.row_bytes, most_bytes=ALL_LAYERS_BYTES):
            # [rows, layers, functionals, features]
            values = np.empty((rows.stop - rows.start, len(layers), n_functionals, n_features), dtype="<f4")
            for i, layer in enumerate(layers):
                values[:, i] = layer.sound(rows)
                advance(rows.stop - rows.start)
            for position, row in zip(positions[rows], values, strict=True):
                entry = zipfile.ZipInfo(f"{position}.npy", _DATE)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, header.getvalue() + row.tobytes())


@contextmanager
def open_npz(path: Path, options: ReadOptions) -> Iterator[list[Source]]:
    """See `Format.open`.

    Raises:
        StoreError: not an npz file.
        CorruptData: entries that are not alike, or damaged.
        ConfigError: options that do not fit the file, or a manifest or id map that does not.
    """
    if options.manifest is None:
        raise ConfigError(f"{path}: an npz file names no utterances; give the data set's --manifest")
    if options.key is not None:
        raise ConfigError("--key is for HDF5 files; an npz file holds one key")
    try:
        require_regular(path)
        archive = zipfile.ZipFile(path)
    except (DocumentError, OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: not a readable npz file ({error})") from error
    with archive:
        yield [_source(path, archive, options, options.manifest)]


def _source(path: Path, archive: zipfile.ZipFile, options: ReadOptions, manifest: Manifest) -> Source:
    entries = _entries(path, archive)
    names, infos = list(entries), list(entries.values())
    if options.id_map is not None:
        rows = _rows_of_map(path, names, options.id_map)
    else:
        rows = _rows_of_manifest(path, names, manifest)
    first, dtype = _read_entry(path, archive, infos[0])
    n_layers, n_values = first.shape
    functionals = options.functionals or PAPER_FUNCTIONALS
    layers = options.layers or tuple(range(n_layers))
    if len(layers) != n_layers:
        raise ConfigError(f"{path}: entries hold {n_layers} layers, --layers names {len(layers)}")
    if n_values % len(functionals):
        raise ConfigError(
            f"{path}: rows of {n_values} values are not {len(functionals)} functionals side by "
            f"side ({', '.join(functionals)}); say which they are with --functionals"
        )

    def read(which: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        values = np.empty((len(which), *first.shape), dtype=dtype)
        for i, row in enumerate(which):
            entry, _ = _read_entry(path, archive, infos[row])
            if entry.shape != first.shape or entry.dtype != first.dtype:
                raise CorruptData(
                    f"{path}: entry {names[row]!r} is {entry.dtype} {entry.shape}, "
                    f"entry {names[0]!r} is {first.dtype} {first.shape}; they must be alike"
                )
            values[i] = entry
        # [rows, layers, functionals * features] -> [rows, layers, functionals, features]
        split = values.reshape(len(which), len(layers), len(functionals), -1)
        for i, layer in enumerate(layers):
            yield layer, split[:, i]

    return Source(
        where=str(path),
        **rows,
        manifest=manifest,
        layers=layers,
        functionals=functionals,
        n_features=n_values // len(functionals),
        dtype=dtype,
        fingerprint={
            "layout": LAYOUT,
            "rows_sha256": digest(dict(zip(names, rows["ids"].tolist(), strict=True))),
        },
        block_rows=block_rows(first.nbytes),
        read=read,
    )


def _entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if not info.filename.endswith(".npy") or name in entries:
            raise CorruptData(f"{path}: entry {info.filename!r} stands twice or is not an array (.npy)")
        entries[name] = info
    if not entries:
        raise CorruptData(f"{path}: holds no arrays")
    return entries


def _read_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[np.ndarray, DTypeName]:
    """One entry's array; zip's own checksum is checked. Only plain floats are read, by their bytes."""
    where = f"{path}: entry {info.filename.removesuffix('.npy')!r}"
    if info.file_size > MOST_ENTRY_BYTES:
        raise CorruptData(f"{where}: expected at most {MOST_ENTRY_BYTES:,} bytes, it has {info.file_size:,}")
    try:
        stream = io.BytesIO(read_member(archive, info))
    except (ArchiveError, RuntimeError) as error:  # RuntimeError: it is encrypted
        raise CorruptData(f"{where}: {one_line(error)}") from error
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise CorruptData(f"{where}: unknown array format {version}")
    except CorruptData:
        raise
    except Exception as error:  # the header is Python's text, of which the parser raises many kinds
        raise CorruptData(f"{where}: cannot be read ({one_line(error)})") from error
    name = DTYPES.get(dtype.str[1:])
    if name is None or len(shape) != 2 or min(shape) < 1:
        raise CorruptData(
            f"{where}: expected float32 or float16 [layers, functionals * features], got {dtype} {shape}"
        )
    data = stream.getbuffer()[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise CorruptData(f"{where}: its size does not fit its shape {shape}")
    values = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False), name


def _rows_of_map(path: Path, names: list[str], id_map: Path) -> dict[str, Any]:
    """Fields of `Source` by a CSV of ``position`` (or ``old_id``), ``utterance_id`` and what facts it has."""
    try:
        table = read_table(id_map)
    except TextTableError as error:
        raise ConfigError(f"{id_map}: not a readable CSV ({error})") from error
    keys = [c for c in POSITION_COLUMNS if c in table]
    if len(keys) != 1 or "utterance_id" not in table:
        raise ConfigError(
            f"{id_map}: expected the columns position (or old_id) and utterance_id, "
            f"got {', '.join(table.columns)}"
        )
    twice = table[keys[0]].duplicated()
    if twice.any():
        row = int(table.index[twice][0])
        cell = table[keys[0]][row]
        raise ConfigError(
            f"{id_map}: row {row + FIRST_ROW}: {keys[0]} {cell!r} stands already above; keep one"
        )
    table = table.set_index(keys[0])
    missing = [n for n in names if n not in table.index]
    if missing:
        raise ConfigError(
            f"{id_map}: {len(missing)} of {len(names)} entries of {path} are not in column {keys[0]} "
            f"(first {missing[0]!r}); add them"
        )
    unused = len(table) - len(names)
    table = table.loc[names]
    facts = _unknown(len(names))
    return {
        "ids": table["utterance_id"].to_numpy(object),
        **{name: _fact(id_map, table, name, default) for name, default in facts.items()},
        "notes": (f"{unused} rows of {id_map} have no entry in {path}",) if unused else (),
    }


def _unknown(n: int) -> dict[str, np.ndarray | None]:
    """Of each fact what stands for it where it is not known."""
    return {
        "status": None,
        "n_frames": np.full(n, -1, dtype=np.int32),
        "duration_s": np.full(n, np.nan),
        "audio_hash": np.full(n, "", dtype=object),
    }


def _rows_of_manifest(path: Path, names: list[str], manifest: Manifest) -> dict[str, Any]:
    """Fields of `Source` by position in the manifest, as the authors' own loader goes by the data set's."""
    n = len(manifest)
    fits = len(names) == n and all(is_whole_number(name) and str(int(name)) == name for name in names)
    positions = np.array([int(name) for name in names]) if fits else np.zeros(0, dtype=np.int64)
    if not fits or positions.max() >= n:
        raise ConfigError(
            f"{path}: expected entries 0 to {n - 1}, one per row of {manifest.source}, found {len(names)} "
            f"from {names[0]!r}; give an --id-map (columns position, utterance_id)"
        )
    table = manifest.table.iloc[positions]
    length_s = (table["end_s"] - table["start_s"].fillna(0.0)).to_numpy(np.float64)
    n_empty = int((length_s <= 0).sum())
    return {
        "ids": table["utterance_id"].to_numpy(object),
        **_unknown(n),
        "duration_s": np.where(length_s > 0, length_s, np.nan),
        "notes": (
            f"{counted(n_empty, 'row')} of {manifest.source} without a sample between start and end: what "
            "their values were made of is not known",
        )
        if n_empty
        else (),
    }


def _fact(source: Path, table: pd.DataFrame, name: str, default: np.ndarray | None) -> np.ndarray | None:
    if name not in table:
        return default
    cells = table[name]
    if default is None or default.dtype == object:
        return cells.to_numpy(object)
    numbers = pd.to_numeric(cells.where(cells != "", None), errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(numbers) & (cells != "").to_numpy()
    if wrong.any():
        raise ConfigError(f"{source}: {name} {cells.iloc[int(wrong.argmax())]!r} is not a number")
    return np.where(np.isnan(numbers), default, numbers).astype(default.dtype)


NPZ = Format(
    name="npz",
    title="npz in the layout of Sarkar & Magimai-Doss 2025: one entry per utterance, all layers",
    is_folder=True,
    write=write_npz,
    open=open_npz,
)
