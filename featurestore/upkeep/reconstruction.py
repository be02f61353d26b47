"""What is damaged in a key, told from what stands beside it: its attributes, and the records of its units.

A plan that is wrong in one number looks like a sound one: fewer rows, other units, values read in another
dtype. What was stored under the right plan stands beside it, and says so.

A record is told from the columns and from the shards. Columns are written from the ledger, and emptied before
a record is taken away (`featurestore.store.ledger.withdraw_held`); what a record names is never written over.
So a row with a status has a record, or had one that was damaged, and the shards are those of that record.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from featurestore.backends.read_faults import if_sound
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.codecs import codec_told
from featurestore.format.row_arrays import FAILED, ID_ARRAY, STATUS_OK
from featurestore.store.fast_shards import describe_shard
from featurestore.store.key import (
    CHECKSUM,
    MOST_FEATURES,
    MOST_FUNCTIONALS,
    MOST_UNIT_ROWS,
    KeyInfo,
    attributes_of,
    read_key_copy,
    unit_objects,
)
from featurestore.store.ledger import Record, contradiction, read_sound_records
from featurestore.store.plan import Unit
from featurestore.upkeep.shard_values import wrong_values


def contradicted(storage: Storage, info: KeyInfo) -> str | None:
    """What a key's ledger or its array documents say against its own document; None where nothing.

    Of the shape of the layers most documents decide, the key's own and its copy among them; where they are of
    two minds, the values themselves.
    """
    records = read_sound_records(storage, info.path)
    if (said := contradiction(info, records)) is not None:
        return said
    votes = Counter(_layer_shapes(storage, info.path).values())
    votes[info.shape] += 1
    if (copy := read_key_copy(storage, info.model, info.dataset)) is not None:
        votes[copy.shape] += 1
    most = max(votes.values())
    for shape, n in votes.items():
        if shape == info.shape or n < most:
            continue
        if most > votes[info.shape] or _is_of(storage, info, shape, records):
            return f"its arrays were made as {_text(shape)}, and it says {_text(info.shape)}"
    return None


def restored_key(storage: Storage, model: str, dataset: str) -> KeyInfo:
    """The attributes of a key whose document is damaged.

    Raises:
        CorruptData: they cannot be told: their copy is damaged too, and what no array tells may be wrong.
    """
    path = f"{model}/{dataset}"
    records = read_sound_records(storage, path)
    copy = read_key_copy(storage, model, dataset)
    shapes = Counter(_layer_shapes(storage, path).values())
    if copy is not None and contradiction(copy, records) is None:
        usual = shapes.most_common(1)
        if not usual or usual[0][0] == copy.shape or usual[0][1] == 1:
            return copy
    return _from_arrays(storage, model, dataset, records)


def _from_arrays(storage: Storage, model: str, dataset: str, records: Mapping[int, Record]) -> KeyInfo:
    path = f"{model}/{dataset}"
    found = _layer_shapes(storage, path)
    if not found:
        raise CorruptData(f"{path}: no document of its layers can be read")
    shape = Counter(found.values()).most_common(1)[0][0]
    attributes = dict(attributes_of(storage.get(f"{path}/zarr.json") or b""))
    head = attributes.get("feature_store")
    try:
        KeyInfo.from_attributes(model, dataset, attributes)
    except CorruptData:
        pass  # a checksum that is there must fit what is told below: it covers what no array tells
    else:
        if isinstance(head, dict):
            attributes["feature_store"] = {k: v for k, v in head.items() if k != CHECKSUM}
    attributes |= {
        "layers": sorted(k for k, s in found.items() if s == shape),
        "n_features": shape.n_features,
        "dtype": shape.dtype,
        "codec": shape.codec,
        "frames": _frames(storage, path),
        "plan": {
            "unit_rows": shape.unit_rows,
            "chunk_rows": shape.chunk_rows,
            "segments": _segments(storage, path, shape.unit_rows, records),
        },
    }
    if not isinstance(names := attributes.get("functionals"), list) or len(names) != shape.n_functionals:
        fingerprint = attributes.get("fingerprint")
        attributes["functionals"] = fingerprint.get("functionals") if isinstance(fingerprint, dict) else None
    info = KeyInfo.from_attributes(model, dataset, attributes)
    if info.shape != shape:
        raise CorruptData(f"{path}: its functionals cannot be told")
    if (said := contradiction(info, records)) is not None:
        raise CorruptData(f"{path}: {said}")
    return info


def _layer_shapes(storage: Storage, path: str) -> dict[int, layer_arrays.LayerShape]:
    """Layer → the shape that its document tells, of those that can be read."""
    layers = {name: layer_arrays.parse_layer_name(name) for name in storage.children(path)}
    documents = {k: storage.get(f"{path}/{name}/zarr.json") for name, k in layers.items() if k is not None}
    found = {k: if_sound(partial(_layer_shape, document)) for k, document in documents.items()}
    return {k: shape for k, shape in sorted(found.items()) if shape is not None}


def _layer_shape(document: bytes | None) -> layer_arrays.LayerShape | None:
    """The shape of a layer's document; whatever comes of a damaged one is raised."""
    told = json.loads(document or b"")
    _, n_functionals, n_features = told["shape"]
    unit_rows = told["chunk_grid"]["configuration"]["chunk_shape"][0]
    codec = told["codecs"][0]
    is_sharded = codec["name"] == "sharding_indexed"
    chunk_rows = codec["configuration"]["chunk_shape"][0] if is_sharded else 0
    bounds = ((n_functionals, MOST_FUNCTIONALS), (n_features, MOST_FEATURES), (unit_rows, MOST_UNIT_ROWS))
    if not all(0 < n <= most for n, most in bounds):
        return None
    shape = layer_arrays.LayerShape(
        n_functionals=n_functionals,
        n_features=n_features,
        unit_rows=unit_rows,
        dtype=told["data_type"],
        codec=codec_told(codec["configuration"]["codecs"]) if is_sharded else "raw",
        chunk_rows=chunk_rows,
    )
    # The document that such a shape has, or it tells something else besides.
    return shape if json.loads(layer_arrays.layer_document(shape, told["shape"][0])) == told else None


def _frames(storage: Storage, path: str) -> dict[str, Any] | None:
    """The frames part of the attributes, as the documents of the frame arrays tell it."""
    for name in storage.children(path):
        if not name.startswith("frames_"):
            continue
        try:
            told = json.loads(storage.get(f"{path}/{name}/zarr.json") or b"")
            return {
                "unit_frames": told["chunk_grid"]["configuration"]["chunk_shape"][0],
                "chunk_frames": told["codecs"][0]["configuration"]["chunk_shape"][0],
                "dtype": told["data_type"],
            }
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            continue
    return None


def _segments(storage: Storage, path: str, unit_rows: int, records: Mapping[int, Record]) -> list[list[int]]:
    """Runs of rows: those of committed units from their records, those of the others from the rows' ids.

    Which rows are planned together is told; where one run ends with a full unit, the next is joined to it.
    """
    ids = _ids(storage, path)
    n_units = max(max(records, default=-1) + 1, -(-len(ids) // unit_rows))
    runs: list[list[int]] = []
    for unit in range(n_units):
        first = unit * unit_rows
        if unit in records:
            n_rows = records[unit].n_rows
        else:
            named = np.flatnonzero(ids[first : first + unit_rows] != "")
            n_rows = int(named[-1]) + 1 if len(named) else 0
        if not n_rows:
            continue
        if runs and sum(runs[-1]) == first:
            runs[-1][1] += n_rows
        else:
            runs.append([first, n_rows])
    return runs


def _ids(storage: Storage, path: str) -> np.ndarray:
    """Ids of the rows up to the last that its object tells; none where they cannot be read."""
    objects = {}
    for name in storage.children(f"{path}/{ID_ARRAY}/c"):
        data = storage.get(f"{path}/{ID_ARRAY}/c/{name}")
        if row_arrays.entry_number(name) is not None and data is not None:
            objects[row_arrays.entry_name(ID_ARRAY, name)] = data
    n_rows = row_arrays.ROWS_PER_OBJECT * len(objects)
    ids = if_sound(lambda: row_arrays.decode_column(ID_ARRAY, n_rows, objects))
    if ids is None:
        return np.zeros(0, dtype=object)
    told = np.flatnonzero(ids != "")
    return ids[: told[-1] + 1] if len(told) else ids[:0]


def _is_of(
    storage: Storage, info: KeyInfo, shape: layer_arrays.LayerShape, records: Mapping[int, Record]
) -> bool:
    """Whether recorded values can be read in this shape, and not in the one that the document tells."""
    for record in records.values():
        name = layer_arrays.layer_chunk(record.layers[0], record.unit) if record.layers else ""
        data = storage.get(f"{info.path}/{name}") if name else None
        if data is not None:
            return _decodes(shape, data) and not _decodes(info.shape, data)
    return False


def _decodes(shape: layer_arrays.LayerShape, data: bytes) -> bool:
    return if_sound(lambda: layer_arrays.decode_layer(shape, data)) is not None


def _text(shape: layer_arrays.LayerShape) -> str:
    return (
        f"{shape.n_functionals} × {shape.n_features} {shape.dtype}, {shape.unit_rows} rows a unit in "
        f"chunks of {shape.chunk_rows}, {shape.codec}"
    )


def told_records(storage: Storage, info: KeyInfo, units: Sequence[Unit]) -> dict[int, Record]:
    """Unit → record, of those units whose own records are lost and can be proved.

    Proved means that every row has its facts in the columns, and that every shard is sound by its checksums
    and holds values where these say so, and none elsewhere. What only the record knew is gone: from where the
    rows were embedded, when, and on which machine.
    """
    shown = {}
    for name in row_arrays.ROW_ARRAYS if units else ():
        objects = {o: storage.get(f"{info.path}/{o}") for o in row_arrays.column_objects(name, info.n_rows)}
        sound = {o: data for o, data in objects.items() if data is not None}
        values = if_sound(partial(row_arrays.decode_column, name, info.n_rows, sound))
        if values is None:
            return {}
        shown[name] = values
    told = {}
    for unit in units:
        parts = {name: values[unit.first_row : unit.stop_row].tolist() for name, values in shown.items()}
        # JSON has no NaN.
        rows = {name: [None if v != v else v for v in values] for name, values in parts.items()}
        if all(s == STATUS_OK or str(s).startswith(FAILED) for s in rows["status"]) and any(rows[ID_ARRAY]):
            record = _told_record(storage, info, unit, rows)
            if record is not None:
                told[unit.index] = record
    return told


def _told_record(
    storage: Storage, info: KeyInfo, unit: Unit, rows: Mapping[str, Sequence[Any]]
) -> Record | None:
    owned = np.array([bool(i) for i in rows[ID_ARRAY]])
    layers, objects = [], {}
    for layer in info.layers:
        names = unit_objects(info, [layer], unit.index)
        found = {name: storage.get(f"{info.path}/{name}") for name in names}
        if None in found.values():
            continue  # a layer that was not complete for this unit
        for name, data in found.items():
            if data is None or wrong_values(info, name, data, rows, owned) is not None:
                return None
            objects[name] = describe_shard(data, info.shard_chunks(name))
        layers.append(layer)
    if not layers:
        return None
    audio_s = sum(d or 0 for d, s in zip(rows["duration_s"], rows["status"], strict=True) if s == STATUS_OK)
    return Record(
        unit=unit.index,
        first_row=unit.first_row,
        n_rows=unit.n_rows,
        layers=layers,
        objects=objects,
        rows=rows,
        audio_s=round(audio_s, 3),
    )
