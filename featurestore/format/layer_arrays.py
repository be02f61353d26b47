"""The on-disk form of a key's values: its layer and frame arrays, and the bytes of each unit's shards.

Everything in a store is a plain Zarr v3 node, so any reader opens it without this package:

    <model>/<dataset>/layer_07      (utterance, functional, feature)  one shard per unit
    <model>/<dataset>/frames_07     (frame, feature)                  one shard per unit

Its one-dimensional arrays are in `featurestore.format.row_arrays`. Objects are encoded by Zarr itself into
memory and then put whole by `featurestore.backends.storage`, so that the checksum in the ledger is that of
the object's bytes and a write is one atomic operation on any backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import MemoryStore

from featurestore.errors import ConfigError
from featurestore.format.codecs import (
    check_codec,
    chunk_codecs,
    is_blosc,
    numcodecs_meant,
    require_codec,
    rounded,
    unpack_blosc,
    unpack_pcodec,
)
from featurestore.format.decoding import check_shard, chunk_places, without_checksum
from featurestore.format.encoding import decoded, document_of, encoded, sharding, template
from featurestore.format.number_types import DTypeName
from featurestore.names import is_whole_number

FORMAT_VERSION = 1
FORMAT_NAME = "featurestore"

# Rows of one inner chunk: what a reader fetches and checks at a time when it wants a few rows.
# Smaller ones cost Zarr readers more per byte, larger ones are read in vain for single rows.
TARGET_CHUNK_BYTES = 384 * 1024


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """Shape of the layer arrays of a key.

    Attributes:
        n_functionals: statistics per utterance.
        n_features: width of the hidden state.
        unit_rows: rows per shard.
        dtype: ``float32`` or ``float16``.
        codec: ``fast`` plain bytes in inner chunks, each with its checksum; ``small`` the same compressed
            (Blosc: bit-shuffle, zstd); ``raw`` one plain chunk per unit, with one checksum at its end;
            ``pcodec`` compressed for numbers; ``bitround<N>`` rounded to N mantissa bits, then as ``small``.
        chunk_rows: rows per inner chunk; 0 to choose. Part of a key's attributes, so that a later version
            may choose otherwise.
    """

    n_functionals: int
    n_features: int
    unit_rows: int
    dtype: DTypeName = "float32"
    codec: str = "fast"
    chunk_rows: int = 0

    @property
    def n_chunks(self) -> int:
        """Inner chunks that the index of a shard has room for; 0 where there is no index (``raw``)."""
        return 0 if self.codec == "raw" else self.unit_rows // self.chunk_rows

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.n_functionals * self.n_features * np.dtype(self.dtype).itemsize

    def __post_init__(self) -> None:
        check_codec(self.codec, self.dtype, "codec")
        if not self.chunk_rows:
            object.__setattr__(self, "chunk_rows", choose_chunk_rows(self.unit_rows, self.row_bytes))


def choose_chunk_rows(unit_rows: int, row_bytes: int) -> int:
    """Rows per inner chunk of a new key: a divisor of `unit_rows`, near `TARGET_CHUNK_BYTES` or above."""
    most = max(1, TARGET_CHUNK_BYTES // row_bytes)
    divisors = [d for d in range(1, unit_rows + 1) if unit_rows % d == 0]
    below = max(d for d in divisors if d <= most)
    # A unit of, say, a prime number of rows has no small divisor but 1.
    return below if below * 4 >= most else min((d for d in divisors if d > most), default=below)


@dataclass(frozen=True, kw_only=True)
class FrameShape:
    """Shape of the frame arrays of a key: frames of all rows of a unit one after the other, one shard each.

    Attributes:
        n_features: width of the hidden state.
        unit_frames: frames a shard has room for; unit u begins at frame ``u * unit_frames``. Inner chunks
            that no row reaches are not stored, so room costs nothing.
        dtype: ``float16`` unless asked otherwise.
        chunk_frames: frames per inner chunk, of which `unit_frames` is a multiple; 0 to choose.
    """

    n_features: int
    unit_frames: int
    dtype: DTypeName = "float16"
    chunk_frames: int = 0

    @property
    def n_chunks(self) -> int:
        """Inner chunks that the index of a shard has room for."""
        return self.unit_frames // self.chunk_frames

    def __post_init__(self) -> None:
        if not self.chunk_frames:
            object.__setattr__(self, "chunk_frames", choose_chunk_frames(self.n_features, self.dtype))


def choose_chunk_frames(n_features: int, dtype: DTypeName) -> int:
    """Frames per inner chunk of a frame array: about `TARGET_CHUNK_BYTES`."""
    return max(1, TARGET_CHUNK_BYTES // (n_features * np.dtype(dtype).itemsize))


def room_for(n_frames: int, n_features: int, dtype: DTypeName) -> int:
    """`unit_frames` that hold `n_frames`: whole inner chunks."""
    chunk = choose_chunk_frames(n_features, dtype)
    return max(1, -(-n_frames // chunk)) * chunk


def frames_name(layer: int) -> str:
    """``frames_07`` for 7: the frames of hidden state 7."""
    return f"frames_{layer:02d}"


def frames_chunk(layer: int, unit: int) -> str:
    """Object (shard) of one unit in a frame array, relative to the key."""
    return f"{frames_name(layer)}/c/{unit}/0"


def frames_document(shape: FrameShape, n_units: int) -> bytes:
    """``zarr.json`` of a frame array of `n_units` units."""
    return document_of(_frames(shape, n_units))


def encode_frames(shape: FrameShape, values: np.ndarray) -> bytes:
    """The shard of one unit; `values` `[n, features]`, the frames of all its rows, n up to `unit_frames`.

    Raises:
        ConfigError: a value does not fit the stored dtype, or there are more frames than room.
    """
    if len(values) > shape.unit_frames:
        raise ConfigError(f"a unit of {len(values)} frames, room was planned for {shape.unit_frames}")
    if shape.dtype == "float16":
        values = to_half(values)
    made = _frames(shape, 1)
    objects = encoded(made, slice(len(values)), values) if len(values) else {}
    # A unit without a frame (all clips failed): one explicit chunk, so that there is an object to record.
    return (objects or encoded(made, slice(shape.chunk_frames), np.nan))["c/0/0"]


def decode_frames(shape: FrameShape, data: bytes) -> np.ndarray:
    """Inverse of `encode_frames`: `[unit_frames, features]`, NaN where nothing was written.

    Raises:
        ValueError: the bytes do not match their checksums, or are no shard of this shape.
    """
    row_bytes = shape.n_features * np.dtype(shape.dtype).itemsize
    check_shard(data, shape.n_chunks, shape.chunk_frames * row_bytes)
    return decoded(_frames(shape, 1), "c/0/0", data)


def layer_name(layer: int) -> str:
    """``layer_07`` for 7: the array of hidden state 7."""
    return f"layer_{layer:02d}"


def parse_layer_name(name: str) -> int | None:
    """Inverse of `layer_name`; None for any other array."""
    digits = name.removeprefix("layer_")
    return int(digits) if name.startswith("layer_") and is_whole_number(digits) else None


def layer_chunk(layer: int, unit: int) -> str:
    """Object (shard) of one unit in a layer array, relative to the key."""
    return f"{layer_name(layer)}/c/{unit}/0/0"


def group_document(attributes: dict[str, Any]) -> bytes:
    """``zarr.json`` of a group with these attributes."""
    return document_of(zarr.create_group(MemoryStore(), attributes=attributes))


def layer_document(shape: LayerShape, n_rows: int) -> bytes:
    """``zarr.json`` of a layer array with `n_rows` rows."""
    return document_of(_layer(shape, n_rows))


def encode_layer(shape: LayerShape, values: np.ndarray) -> bytes:
    """The shard of one unit.

    Args:
        shape: the key's layer shape.
        values: `[n, functionals, features]`, n at most `unit_rows`; the rest of the shard stays empty.

    Raises:
        ConfigError: a finite value does not fit the stored dtype.
    """
    values = checked_values(shape, values)
    with numcodecs_meant():
        return encoded(_layer(shape, shape.unit_rows), slice(len(values)), values)["c/0/0/0"]


def checked_values(shape: LayerShape, values: np.ndarray) -> np.ndarray:
    """Values of a unit in the stored dtype, if they fit it and the key's shape.

    Raises:
        ConfigError: a finite value does not fit the stored dtype.
    """
    if shape.dtype == "float16":
        values = to_half(values)
    expected = (shape.n_functionals, shape.n_features)
    if values.shape[1:] != expected or len(values) > shape.unit_rows:
        raise ValueError(f"expected at most {shape.unit_rows} rows of {expected}, got {values.shape}")
    return rounded(values, shape.codec)


def decode_layer(shape: LayerShape, data: bytes) -> np.ndarray:
    """Inverse of `encode_layer`: `[unit_rows, functionals, features]`, NaN where nothing was written.

    Raises:
        ValueError: the bytes do not match their checksums, or are no shard of this shape.
    """
    if shape.codec == "pcodec" or is_blosc(shape.codec):
        return _unpacked(shape, data)
    rows = shape.chunk_rows if shape.n_chunks else shape.unit_rows
    check_shard(data, shape.n_chunks, rows * shape.row_bytes)
    return decoded(_layer(shape, shape.unit_rows), "c/0/0/0", data)


def _unpacked(shape: LayerShape, data: bytes) -> np.ndarray:
    """`decode_layer` of compressed chunks, each unpacked into its place.

    Not by Zarr, whose pipeline takes four times as long here, and takes memory for whatever a chunk claims
    to hold.
    """
    require_codec(shape.codec)
    unpack = unpack_pcodec if shape.codec == "pcodec" else unpack_blosc
    row = (shape.n_functionals, shape.n_features)
    out = np.full((shape.unit_rows, *row), np.nan, dtype=np.dtype(shape.dtype).newbyteorder("<"))
    for i, (start, stop) in chunk_places(data, shape.n_chunks).items():
        rows = out[i * shape.chunk_rows : (i + 1) * shape.chunk_rows]
        unpack(without_checksum(data[start:stop]), rows)
    return out


def to_half(values: np.ndarray) -> np.ndarray:
    """Convert to float16, refusing values beyond its range.

    Raises:
        ConfigError: a value would overflow to infinity, or has done so already.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if np.isinf(half).any():
        worst = float(np.nanmax(np.abs(values)))
        raise ConfigError(
            f"float16 holds values up to 65504, this layer reaches {worst:g}; use --dtype float32"
        )
    return half


# Arrays that hold no values: what shards are encoded and decoded by.
@lru_cache(maxsize=16)
def _layer(shape: LayerShape, n_rows: int) -> zarr.Array[Any]:
    row = (shape.n_functionals, shape.n_features)
    is_raw = shape.codec == "raw"
    # The shard is the outer chunk of the grid; inner chunks carry the checksum that readers check.
    with numcodecs_meant():
        codecs = [] if is_raw else chunk_codecs(shape.codec, shape.dtype)
        return template(
            (n_rows, *row),
            (shape.unit_rows, *row),
            dtype=shape.dtype,
            fill_value=np.nan,
            serializer=BytesCodec() if is_raw else sharding((shape.chunk_rows, *row), *codecs),
            compressors=[Crc32cCodec()] if is_raw else None,
            dimension_names=("utterance", "functional", "feature"),
        )


@lru_cache(maxsize=16)
def _frames(shape: FrameShape, n_units: int) -> zarr.Array[Any]:
    return template(
        (n_units * shape.unit_frames, shape.n_features),
        (shape.unit_frames, shape.n_features),
        dtype=shape.dtype,
        fill_value=np.nan,
        serializer=sharding((shape.chunk_frames, shape.n_features), BytesCodec(), Crc32cCodec()),
        dimension_names=("frame", "feature"),
    )
