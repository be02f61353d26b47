"""The one-dimensional arrays of a key: what is known of each row, the ledger's texts, the manifest.

    utterance_id, status, n_frames, duration_s, audio_hash, frame_start     (utterance,)
    ledger, claims                                                          (unit,)       one chunk per unit
    ledger_sealed                                                           (copy, unit)
    manifest                                                                (1,)
    history                                                                 (call,)       one chunk per call

Columns are sharded so that a key of up to a million rows has one object of each, whatever its length: the
inner chunks behind the end are not stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, VLenUTF8Codec, ZstdCodec
from zarr.storage import MemoryStore

from featurestore.encoded import chunk_of, chunks_of, document_of, set_chunk

LEDGER_ARRAY = "ledger"
ROW_ARRAYS: dict[str, tuple[str, Any]] = {
    "utterance_id": ("string", ""),
    "status": ("string", ""),
    "n_frames": ("int32", -1),
    "duration_s": ("float64", np.nan),
    "audio_hash": ("string", ""),
}
# Only in keys that hold frames: where the frames of a row begin in the frame arrays.
FRAME_START = "frame_start"
ROW_TYPES: dict[str, tuple[str, Any]] = {**ROW_ARRAYS, FRAME_START: ("int64", -1)}
ROWS_PER_OBJECT = 2**20
ROWS_PER_CHUNK = 2**13
# 4,096 units hold four million rows. The ledger is always read whole: few chunks of many units.
UNITS_PER_OBJECT = 2**12
UNITS_PER_CHUNK = 2**8
# The records of a whole key stand in one object: a second copy outlives a bad sector under the first.
SEALED_COPIES = 2
_VALUE_CODECS = (ZstdCodec(level=3), Crc32cCodec())


@dataclass(frozen=True)
class _Grid:
    """Shape, shard and inner chunk of a sharded array."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    dimensions: tuple[str, ...]


def entry_name(array: str, index: int | str) -> str:
    """Object of one entry in an array of one entry per chunk (ledger, claims, manifest), below the key."""
    return f"{array}/c/{index}"


def column_document(array: str, n_rows: int) -> bytes:
    """``zarr.json`` of one of `ROW_TYPES`."""
    store = MemoryStore()
    _column(store, array, n_rows)
    return document_of(store)


def encode_column(array: str, values: np.ndarray) -> dict[str, bytes]:
    """The objects of a whole column `[n_rows]`, by name below the key; none where all is fill value."""
    store = MemoryStore()
    _column(store, array, len(values))[:] = values
    return {f"{array}/{name}": data for name, data in chunks_of(store).items()}


def column_objects(array: str, n_rows: int) -> list[str]:
    """Names below the key that `encode_column` may give."""
    return [entry_name(array, i) for i in range(-(-n_rows // ROWS_PER_OBJECT))]


def empty_object(array: str) -> bytes:
    """An object of a column in which every row has the fill value."""
    store = MemoryStore()
    _column(store, array, ROWS_PER_CHUNK, write_empty=True)[:] = ROW_TYPES[array][1]
    return chunk_of(store, "c/0")


def decode_column(array: str, n_rows: int, objects: Mapping[str, bytes]) -> np.ndarray:
    """Inverse of `encode_column`: `[n_rows]`, fill value where there is no object.

    Raises:
        ValueError: bytes do not match their checksum.
    """
    store = MemoryStore()
    target = _column(store, array, n_rows)
    for name, data in objects.items():
        set_chunk(store, name.removeprefix(f"{array}/"), data)
    values = np.asarray(target[:])
    return values.astype(object) if ROW_TYPES[array][0] == "string" else values


def sealed_document(n_units: int) -> bytes:
    """``zarr.json`` of the sealed ledger."""
    store = MemoryStore()
    _sealed(store, n_units)
    return document_of(store)


def encode_sealed(texts: Sequence[str]) -> dict[str, bytes]:
    """The sealed ledger of these records `[n_units]`, "" where a unit has none, by name below its array."""
    store = MemoryStore()
    target = _sealed(store, len(texts))
    row = np.array(texts, dtype=object)
    for copy in range(SEALED_COPIES):
        target[copy, :] = row
    return chunks_of(store)


def decode_sealed(copy: int, objects: Mapping[int, bytes], damaged: set[int] | None = None) -> list[str]:
    """The texts of one copy, from its objects by their place along the units.

    Args:
        copy: which.
        objects: place along the units → bytes.
        damaged: takes up the units of inner chunks that cannot be read, "" stands there; None raises.

    Raises:
        ValueError: bytes do not match their checksum.
    """
    if not objects:
        return []
    store = MemoryStore()
    target = _sealed(store, (max(objects) + 1) * UNITS_PER_OBJECT)
    for place, data in objects.items():
        set_chunk(store, f"c/{copy}/{place}", data)
    if damaged is None:
        return [str(t) for t in np.asarray(target[copy, :])]
    texts: list[str] = []
    for first in range(0, target.shape[1], UNITS_PER_CHUNK):
        try:
            texts += [str(t) for t in np.asarray(target[copy, first : first + UNITS_PER_CHUNK])]
        except Exception:
            texts += [""] * UNITS_PER_CHUNK
            damaged |= set(range(first, first + UNITS_PER_CHUNK))
    return texts


def text_document(
    n_entries: int,
    *,
    compress: bool = True,
    dimension: str | None = "unit",
    attributes: dict[str, Any] | None = None,
) -> bytes:
    """``zarr.json`` of an array of texts with one entry per chunk.

    Args:
        n_entries: its length.
        compress: whether its texts are compressed.
        dimension: name of its dimension, without which xarray opens no group; None as earlier versions wrote
            arrays of one entry.
        attributes: of the array.
    """
    store = MemoryStore()
    _texts(store, n_entries, compress=compress, dimension=dimension).update_attributes(attributes or {})
    return document_of(store)


def encode_text(value: str, *, compress: bool = True) -> bytes:
    """The chunk of an array of texts with one entry per chunk."""
    store = MemoryStore()
    _texts(store, 1, compress=compress)[:] = np.array([value], dtype=object)
    return chunk_of(store, "c/0")


def decode_text(data: bytes, *, compress: bool = True) -> str:
    """Inverse of `encode_text`.

    Raises:
        ValueError: the bytes do not match their checksum.
    """
    store = MemoryStore()
    target = _texts(store, 1, compress=compress)
    set_chunk(store, "c/0", data)
    # Not target[0]: formatting a 0-d text array takes seconds per megabyte.
    return str(np.asarray(target[:])[0])


def _column(store: MemoryStore, array: str, n_rows: int, *, write_empty: bool = False) -> zarr.Array[Any]:
    dtype, fill = ROW_TYPES[array]
    grid = _Grid((n_rows,), (ROWS_PER_OBJECT,), (ROWS_PER_CHUNK,), ("utterance",))
    return _sharded(store, grid, dtype, fill, write_empty=write_empty)


def _sealed(store: MemoryStore, n_units: int) -> zarr.Array[Any]:
    shape = (SEALED_COPIES, n_units)
    grid = _Grid(shape, (1, UNITS_PER_OBJECT), (1, UNITS_PER_CHUNK), ("copy", "unit"))
    return _sharded(store, grid, "string", "")


def _sharded(
    store: MemoryStore, grid: _Grid, dtype: str, fill: Any, *, write_empty: bool = False
) -> zarr.Array[Any]:
    text = dtype == "string"
    return zarr.create_array(
        store,
        shape=grid.shape,
        chunks=grid.shard,
        dtype=str if text else dtype,
        fill_value=fill,
        serializer=ShardingCodec(
            chunk_shape=grid.chunk,
            codecs=[VLenUTF8Codec() if text else BytesCodec(), *_VALUE_CODECS],
            index_codecs=[BytesCodec(), Crc32cCodec()],
        ),
        filters=None,
        compressors=None,
        dimension_names=grid.dimensions,
        config={"write_empty_chunks": write_empty},
    )


def _texts(
    store: MemoryStore, n_entries: int, *, compress: bool, dimension: str | None = "unit"
) -> zarr.Array[Any]:
    return zarr.create_array(
        store,
        shape=(n_entries,),
        chunks=(1,),
        dtype=str,
        fill_value="",
        serializer=VLenUTF8Codec(),
        filters=None,
        compressors=list(_VALUE_CODECS) if compress else [Crc32cCodec()],
        dimension_names=(dimension,) if dimension else None,
        config={"write_empty_chunks": True},
    )
