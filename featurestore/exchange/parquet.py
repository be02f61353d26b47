"""Parquet: one table per key and layer, one row per utterance, one list column per functional."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.exchange.interface import Advance, Format, Selection, row_blocks
from featurestore.fingerprint import canonical_json
from featurestore.format.layer_arrays import layer_name

OWN_COLUMNS = ("model", "dataset", "layer")
_TYPES = {
    "row": pa.int64(),
    "n_frames": pa.int32(),
    "duration_s": pa.float64(),
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "channel": pa.int64(),
}


def write_parquet(selections: Sequence[Selection], target: Path, advance: Advance) -> list[str]:
    """See `Format.write`."""
    notes = []
    for selection in selections:
        features = selection.features
        folder = target / features.model / features.dataset
        folder.mkdir(parents=True)
        renamed = _clashes(features.label_columns, features.functionals)
        notes += [
            f"{features.model}/{features.dataset}: label {old!r} is column {new!r}, since {old!r} is taken"
            for old, new in renamed.items()
        ]
        for layer in selection.layers:
            _write_layer(selection, layer, renamed, folder / f"{layer_name(layer)}.parquet", advance)
    return notes


def _clashes(labels: Sequence[str], functionals: Sequence[str]) -> dict[str, str]:
    """Labels whose names the table needs for itself → the names they get."""
    taken = {*OWN_COLUMNS, *functionals, *labels}
    renamed = {}
    for label in labels:
        if label in OWN_COLUMNS or label in functionals:
            new = f"label_{label}"
            while new in taken:
                new += "_"
            taken.add(new)
            renamed[label] = new
    return renamed


def _write_layer(
    selection: Selection, layer: int, renamed: dict[str, str], path: Path, advance: Advance
) -> None:
    features = selection.features
    source = features.layer(layer)
    n_features = source.shape[2]
    index = features.index
    constants = {"model": features.model, "dataset": features.dataset}
    text = [c for c in index.columns if c not in _TYPES]
    vectors = pa.list_(pa.float32(), n_features)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in constants),
            ("layer", pa.int32()),
            *((renamed.get(c, c), _TYPES.get(c, pa.string())) for c in index.columns),
            *((name, vectors) for name in features.functionals),
        ],
        metadata={
            "featurestore": canonical_json(
                {
                    **{n: features.attrs[n] for n in ("fingerprint", "functionals", "versions")},
                    "model": features.model,
                    "dataset": features.dataset,
                    "layer": layer,
                    "label_columns": [renamed.get(c, c) for c in features.label_columns],
                }
            )
        },
    )
    coded = [*constants, *(renamed.get(c, c) for c in text)]
    with pq.ParquetWriter(
        path,
        schema,
        # Embeddings hardly shrink (7 % by zstd) and then no longer read at the speed of the disk.
        compression={name: "zstd" if name in coded else "none" for name in _leaves(schema)},
        use_dictionary=coded,
        write_page_checksum=True,
    ) as writer:
        for rows in row_blocks(source, selection.row_bytes):
            n = rows.stop - rows.start
            values = source.sound(rows)
            columns: list[Any] = [pa.array([v] * n, pa.string()) for v in constants.values()]
            columns.append(pa.array(np.full(n, layer, dtype=np.int32)))
            for name in index.columns:
                kind = _TYPES.get(name, pa.string())
                # from_pandas: an unknown time is null, not NaN.
                columns.append(pa.array(index[name].iloc[rows], kind, from_pandas=True))
            for i in range(len(features.functionals)):
                flat = pa.array(np.ascontiguousarray(values[:, i]).reshape(-1))
                columns.append(pa.FixedSizeListArray.from_arrays(flat, type=vectors))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=n)
            advance(n)


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of the stored columns: a list's values are a column below it."""
    return [f"{f.name}.list.element" if pa.types.is_fixed_size_list(f.type) else f.name for f in schema]


PARQUET = Format(
    name="parquet",
    title="Parquet tables, one per key and layer, for pandas, DuckDB, R",
    is_folder=True,
    write=write_parquet,
)
