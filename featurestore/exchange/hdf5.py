"""HDF5: one self-describing file for any number of keys. The layout is in docs/exchange.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from featurestore.errors import ConfigError, one_line
from featurestore.exchange.hdf5_source import link_name, open_hdf5
from featurestore.exchange.interface import Advance, Format, Selection, block_rows, row_blocks, slices
from featurestore.fingerprint import canonical_json
from featurestore.format.layer_arrays import layer_name
from featurestore.store.writer import package_versions

FILE_FORMAT = "featurestore-hdf5"
FILE_VERSION = 1

# What HDF5 reads, checks and caches as a piece: within the 1 MiB that the library caches by default.
CHUNK_BYTES = 512 * 1024


def write_hdf5(selections: Sequence[Selection], target: Path, advance: Advance) -> list[str]:
    """See `Format.write`."""
    try:
        # No cache of chunks: blocks are whole chunks, and a full disk is then an error where it is met.
        with h5py.File(target, "w", rdcc_nbytes=0) as file:
            file.attrs["format"] = FILE_FORMAT
            file.attrs["format_version"] = FILE_VERSION
            file.attrs["created_by"] = canonical_json(package_versions(("featurestore-audio", "h5py")))
            for selection in selections:
                _write_key(file, selection, advance)
    except RuntimeError as error:
        # What h5py raises when the rest of a file cannot be written as it is closed.
        raise OSError(one_line(error, None)) from error
    return []


def is_hdf5_export(path: Path) -> bool:
    """See `Format.holds_export`."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == FILE_FORMAT)
    except (OSError, RuntimeError):
        return False


def _write_key(file: h5py.File, selection: Selection, advance: Advance) -> None:
    features = selection.features
    attributes = features.attrs
    group = file.create_group(f"{features.model}/{features.dataset}")
    for name in ("fingerprint", "versions", "model_card"):
        group.attrs[name] = canonical_json(attributes[name])
    group.attrs["functionals"] = features.functionals
    group.attrs["layers"] = np.array(selection.layers, dtype=np.int64)
    group.attrs["unit_rows"] = features.info.shape.unit_rows
    group.attrs["codec"] = features.info.shape.codec
    for layer in selection.layers:
        _write_layer(group, selection, layer, advance)
    index = features.index
    for name in ("utterance_id", "status", "audio_hash"):
        _write_text(group, name, index[name])
    _write_numbers(group, "n_frames", index["n_frames"].to_numpy(np.int32))
    _write_numbers(group, "duration_s", index["duration_s"].to_numpy(np.float64))
    _write_manifest(group, selection)


def _write_layer(group: h5py.Group, selection: Selection, layer: int, advance: Advance) -> None:
    source = selection.features.layer(layer)
    row_bytes = int(np.prod(source.shape[1:])) * source.dtype.itemsize
    chunk_rows = min(_chunk_rows(selection.features.info.shape.unit_rows, row_bytes), source.shape[0])
    target = group.create_dataset(
        layer_name(layer),
        shape=source.shape,
        dtype=source.dtype,
        chunks=(chunk_rows, *source.shape[1:]),
        fletcher32=True,
        fillvalue=np.nan,
    )
    for axis, label in enumerate(("utterance", "functional", "feature")):
        target.dims[axis].label = label
    for rows in row_blocks(source, selection.row_bytes, multiple=chunk_rows):
        # Stored float16 comes as float32: back again nothing is lost.
        target[rows] = source.sound(rows).astype(source.dtype)
        advance(rows.stop - rows.start)


def _chunk_rows(unit_rows: int, row_bytes: int) -> int:
    """Rows of a chunk: the largest divisor of a unit, which is what is read at a time, in `CHUNK_BYTES`."""
    most = max(1, min(unit_rows, CHUNK_BYTES // row_bytes))
    return next(d for d in range(most, 0, -1) if unit_rows % d == 0)


def _write_manifest(group: h5py.Group, selection: Selection) -> None:
    features = selection.features
    index = features.index
    columns = ["path", "start_s", "end_s", "channel", "split", "group", *features.label_columns]
    manifest = group.create_group("manifest")
    manifest.attrs["columns"] = json.dumps(columns, ensure_ascii=False)
    manifest.attrs["label_columns"] = json.dumps(features.label_columns, ensure_ascii=False)
    for column in columns:
        name = link_name(column)
        if column in ("start_s", "end_s"):
            _write_numbers(manifest, name, index[column].to_numpy(np.float64))
        elif column == "channel":
            _write_numbers(manifest, name, index[column].fillna(-1).to_numpy(np.int64))
        else:
            _write_text(manifest, name, index[column])
        manifest[name].attrs["column"] = column
    _write_numbers(group, "manifest_row", selection.positions)


def _write_numbers(group: h5py.Group, name: str, values: np.ndarray) -> None:
    chunk_rows = min(len(values), CHUNK_BYTES // values.itemsize)
    target = group.create_dataset(name, data=values, chunks=(chunk_rows,), fletcher32=True)
    target.dims[0].label = "utterance"


def _write_text(group: h5py.Group, name: str, column: pd.Series[Any]) -> None:
    """Text of fixed length: HDF5 keeps checksums of it, unlike of text of variable length."""
    values = column.tolist()
    if any(v.endswith("\0") for v in values):
        raise ConfigError(
            f"{group.name}: a value of {name!r} ends with a NUL character, which HDF5 cannot keep; "
            "correct the manifest, or export to another format"
        )
    width = max(1, max(len(v.encode()) for v in values))
    dtype = h5py.string_dtype("utf-8", width)
    chunk_rows = min(len(values), max(1, CHUNK_BYTES // width))
    target = group.create_dataset(
        name,
        shape=(len(values),),
        dtype=dtype,
        chunks=(chunk_rows,),
        fletcher32=True,
        compression="gzip",  # for the padding; every HDF5 library has it
        shuffle=True,
    )
    target.dims[0].label = "utterance"
    for rows in slices(len(values), block_rows(width, multiple=chunk_rows)):
        target[rows] = np.array([v.encode() for v in values[rows]], dtype=f"S{width}").astype(dtype)


HDF5 = Format(
    name="hdf5",
    title="one HDF5 file that describes itself, for h5py, MATLAB, R, Julia",
    is_folder=False,
    write=write_hdf5,
    open=open_hdf5,
    holds_export=is_hdf5_export,
)
