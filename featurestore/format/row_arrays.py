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

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, VLenUTF8Codec, ZstdCodec

from featurestore.format.decoding import (
    FREE_BYTES,
    Allowance,
    chunk_places,
    decompressed,
    numbers_in,
    texts_in,
    without_checksum,
)
from featurestore.format.encoding import document_of, encoded, sharding, template

ID_ARRAY = "utterance_id"
STATUS_ARRAY = "status"
LEDGER_ARRAY = "ledger"
SEALED_ARRAY = "ledger_sealed"
CLAIMS_ARRAY = "claims"
MANIFEST_ARRAY = "manifest"
HISTORY_ARRAY = "history"
# Statuses of a row: this one, or this beginning and why.
STATUS_OK = "ok"
FAILED = "failed: "
ROW_ARRAYS: dict[str, tuple[str, Any]] = {
    ID_ARRAY: ("string", ""),
    STATUS_ARRAY: ("string", ""),
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
# Of the sealed ledger: a million units, which hold a thousand million rows.
MOST_UNIT_OBJECTS = 2**8
# Most that a value of a column takes: a million rows that failed for one reason shrink to nearly nothing.
FREE_BYTES_PER_ROW = 128
# The records of a whole key stand in one object: a second copy outlives a bad sector under the first.
SEALED_COPIES = 2
_VALUE_CODECS = (ZstdCodec(level=3), Crc32cCodec())
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def entry_name(array: str, index: int | str) -> str:
    """Object of one entry in an array of one entry per chunk (ledger, claims, manifest), below the key."""
    return f"{array}/c/{index}"


def entry_number(name: str) -> int | None:
    """The number that the last part of an `entry_name` is; None where it is none that we write.

    `str.isdigit` takes ``²`` and ``٣`` too, and ``007`` names another object than 7 does.
    """
    return int(name) if _NUMBER.fullmatch(name) else None


def entry_numbers(names: Iterable[str]) -> list[int]:
    """The numbers among these last parts of names, in their order; see `entry_number`."""
    return sorted(n for n in map(entry_number, names) if n is not None)


def column_document(array: str, n_rows: int) -> bytes:
    """``zarr.json`` of one of `ROW_TYPES`."""
    return document_of(_column(array, n_rows))


def encode_column(array: str, values: np.ndarray) -> dict[str, bytes]:
    """The objects of a whole column `[n_rows]`, by name below the key; none where all is fill value."""
    objects = encoded(_column(array, len(values)), slice(None), values, write_empty=False)
    return {f"{array}/{name}": data for name, data in objects.items()}


def column_objects(array: str, n_rows: int) -> list[str]:
    """Names below the key that `encode_column` may give."""
    return [entry_name(array, i) for i in range(-(-n_rows // ROWS_PER_OBJECT))]


def empty_object(array: str) -> bytes:
    """An object of a column in which every row has the fill value."""
    return encoded(_column(array, ROWS_PER_CHUNK), slice(None), ROW_TYPES[array][1])["c/0"]


def decode_column(array: str, n_rows: int, objects: Mapping[str, bytes]) -> np.ndarray:
    """Inverse of `encode_column`: `[n_rows]`, fill value where there is no object.

    Raises:
        ValueError: bytes do not match their checksum, or are no column of this length.
    """
    parts = {name: decode_column_object(array, n_rows, name, data) for name, data in objects.items()}
    values = filled(array, n_rows)
    for i, name in enumerate(column_objects(array, n_rows)):
        if name in parts:
            values[i * ROWS_PER_OBJECT :][:ROWS_PER_OBJECT] = parts[name]
    return values


def decode_column_object(array: str, n_rows: int, name: str, data: bytes) -> np.ndarray:
    """The values of the rows that one object of a column holds, `[ROWS_PER_OBJECT]`, less in the last one.

    Raises:
        ValueError: see `decode_column`.
    """
    number = entry_number(name.removeprefix(f"{array}/c/"))
    if number is None or not 0 <= number * ROWS_PER_OBJECT < n_rows:
        raise ValueError(f"{name} is no object of a column of {n_rows} rows")
    n_here = min(ROWS_PER_OBJECT, n_rows - number * ROWS_PER_OBJECT)
    allowance = Allowance(len(data), max(FREE_BYTES, FREE_BYTES_PER_ROW * n_here))
    is_text = ROW_TYPES[array][0] == "string"
    found: dict[int, np.ndarray] = {}
    for i, (start, stop) in chunk_places(data, ROWS_PER_OBJECT // ROWS_PER_CHUNK).items():
        content = decompressed(without_checksum(data[start:stop]), allowance)
        if is_text:
            found[i * ROWS_PER_CHUNK] = texts_in(content, ROWS_PER_CHUNK)
        else:
            found[i * ROWS_PER_CHUNK] = numbers_in(content, ROWS_PER_CHUNK, np.dtype(ROW_TYPES[array][0]))
    values = filled(array, n_here)
    for first, part in found.items():
        rows = values[first : first + ROWS_PER_CHUNK]
        rows[:] = part[: len(rows)]
    return values


def filled(array: str, n_rows: int) -> np.ndarray:
    """A column of fill values `[n_rows]`, texts as objects."""
    dtype, fill = ROW_TYPES[array]
    return np.full(n_rows, fill, dtype=object if dtype == "string" else dtype)


def sealed_document(n_units: int) -> bytes:
    """``zarr.json`` of the sealed ledger."""
    return document_of(_sealed(n_units))


def encode_sealed(texts: Sequence[str]) -> dict[str, bytes]:
    """The sealed ledger of these records `[n_units]`, "" where a unit has none, by name below its array."""
    copies = np.array([texts] * SEALED_COPIES, dtype=object)
    return encoded(_sealed(len(texts)), slice(None), copies, write_empty=False)


def decode_sealed(copy: int, objects: Mapping[int, bytes], damaged: set[int] | None = None) -> list[str]:
    """The texts of one copy, from its objects by their place along the units.

    Args:
        copy: which; its number is in the objects' names only.
        objects: place along the units → bytes.
        damaged: where given, what cannot be read does not raise: the numbers of its units, of a whole
            inner chunk or object, are added here, and "" stands for each.

    Raises:
        ValueError: bytes do not match their checksum, or are no sealed ledger.
    """
    if not objects:
        return []
    if not all(0 <= place < MOST_UNIT_OBJECTS for place in objects):
        raise ValueError(f"more than {MOST_UNIT_OBJECTS * UNITS_PER_OBJECT} units in copy {copy}")
    texts = [""] * ((max(objects) + 1) * UNITS_PER_OBJECT)
    for place, data in objects.items():
        first = place * UNITS_PER_OBJECT
        allowance = Allowance(len(data))
        try:
            chunks = chunk_places(data, UNITS_PER_OBJECT // UNITS_PER_CHUNK)
        except ValueError:
            if damaged is None:
                raise
            damaged.update(range(first, first + UNITS_PER_OBJECT))
            continue
        for i, (start, stop) in chunks.items():
            units = slice(first + i * UNITS_PER_CHUNK, first + (i + 1) * UNITS_PER_CHUNK)
            try:
                content = decompressed(without_checksum(data[start:stop]), allowance)
                texts[units] = texts_in(content, UNITS_PER_CHUNK).tolist()
            except ValueError:
                if damaged is None:
                    raise
                damaged.update(range(units.start, units.stop))
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
    document = document_of(_texts(n_entries, compress=compress, dimension=dimension))
    if not attributes:
        return document
    # Not by Zarr, which would change those of the array that all documents are made by.
    return json.dumps(json.loads(document) | {"attributes": attributes}, indent=2).encode()


def encode_text(value: str, *, compress: bool = True) -> bytes:
    """The chunk of an array of texts with one entry per chunk."""
    return encoded(_texts(1, compress=compress), slice(None), np.array([value], dtype=object))["c/0"]


def decode_text(data: bytes, *, compress: bool = True) -> str:
    """Inverse of `encode_text`.

    Raises:
        ValueError: the bytes do not match their checksum, or are no such chunk.
    """
    content = without_checksum(data)
    if compress:
        content = decompressed(content, Allowance(len(data)))
    return str(texts_in(content, 1)[0])


# Arrays that hold no values: what objects are encoded and decoded by.
@lru_cache(maxsize=64)
def _column(array: str, n_rows: int) -> zarr.Array[Any]:
    dtype, fill = ROW_TYPES[array]
    is_text = dtype == "string"
    return template(
        (n_rows,),
        (ROWS_PER_OBJECT,),
        dtype=str if is_text else dtype,
        fill_value=fill,
        serializer=sharding((ROWS_PER_CHUNK,), VLenUTF8Codec() if is_text else BytesCodec(), *_VALUE_CODECS),
        dimension_names=("utterance",),
    )


@lru_cache(maxsize=16)
def _sealed(n_units: int) -> zarr.Array[Any]:
    return template(
        (SEALED_COPIES, n_units),
        (1, UNITS_PER_OBJECT),
        dtype=str,
        fill_value="",
        serializer=sharding((1, UNITS_PER_CHUNK), VLenUTF8Codec(), *_VALUE_CODECS),
        dimension_names=("copy", "unit"),
    )


@lru_cache(maxsize=16)
def _texts(n_entries: int, *, compress: bool, dimension: str | None = "unit") -> zarr.Array[Any]:
    return template(
        (n_entries,),
        (1,),
        dtype=str,
        fill_value="",
        serializer=VLenUTF8Codec(),
        compressors=list(_VALUE_CODECS) if compress else [Crc32cCodec()],
        dimension_names=(dimension,) if dimension else None,
    )
