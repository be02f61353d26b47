"""The on-disk form of a key: its Zarr arrays, their metadata, and the bytes of each unit's objects.

Everything in a store is a plain Zarr v3 node, so any reader opens it without this package:

    <model>/<dataset>/layer_07      (utterance, functional, feature)  one shard per unit
    <model>/<dataset>/utterance_id  … one entry per row               one chunk per unit
    <model>/<dataset>/ledger        (unit,)  JSON text                one chunk per unit
    <model>/<dataset>/manifest      (1,)     CSV text                 one chunk

Objects are encoded by Zarr itself into memory and then put whole by `featurestore.storage`, so that the
checksum in the ledger is that of the object's bytes and a write is one atomic operation on any backend.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, VLenUTF8Codec, ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from featurestore.errors import ConfigError

FORMAT_VERSION = 1
CRC_BYTES = 4
_LITTLE_ENDIAN = sys.byteorder == "little"
FORMAT_NAME = "featurestore"

# Rows of one inner chunk: what a reader fetches and checks at a time when it wants a few rows.
# Smaller ones cost Zarr readers more per byte, larger ones are read in vain for single rows.
TARGET_CHUNK_BYTES = 384 * 1024

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
DTypeName = Literal["float32", "float16"]
CodecName = Literal["fast", "small", "raw"]


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """Shape of the layer arrays of a key.

    Attributes:
        n_functionals: statistics per utterance.
        n_features: width of the hidden state.
        unit_rows: rows per shard.
        dtype: ``float32`` or ``float16``.
        codec: ``fast`` plain bytes in inner chunks, each with its checksum; ``small`` the same compressed
            (Blosc: bit-shuffle, zstd); ``raw`` one plain chunk per unit, with one checksum at its end.
        chunk_rows: rows per inner chunk; 0 to choose. Part of a key's attributes, so that a later version
            may choose otherwise.
    """

    n_functionals: int
    n_features: int
    unit_rows: int
    dtype: DTypeName = "float32"
    codec: CodecName = "fast"
    chunk_rows: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.n_functionals * self.n_features * np.dtype(self.dtype).itemsize

    def __post_init__(self) -> None:
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
    store = MemoryStore()
    _create_frames(store, shape, n_units)
    return _document(store)


def encode_frames(shape: FrameShape, values: np.ndarray) -> bytes:
    """The shard of one unit; `values` `[n, features]`, the frames of all its rows, n up to `unit_frames`.

    Raises:
        ConfigError: a value does not fit the stored dtype, or there are more frames than room.
    """
    if len(values) > shape.unit_frames:
        raise ConfigError(f"a unit of {len(values)} frames, room was planned for {shape.unit_frames}")
    if shape.dtype == "float16":
        values = to_half(values)
    store = MemoryStore()
    array = _create_frames(store, shape, 1)
    if len(values):
        array[: len(values)] = values
    found = store._store_dict.get("c/0/0")
    # A unit without a frame (all clips failed): one explicit chunk, so that there is an object to record.
    if found is None:
        array[: shape.chunk_frames] = np.nan
    return _object(store, "c/0/0")


def decode_frames(shape: FrameShape, data: bytes) -> np.ndarray:
    """Inverse of `encode_frames`: `[unit_frames, features]`, NaN where nothing was written.

    Raises:
        ValueError: the bytes do not match their checksums.
    """
    store = MemoryStore()
    array = _create_frames(store, shape, 1)
    store._store_dict["c/0/0"] = _buffer(data)
    return np.asarray(array[:])


def layer_name(layer: int) -> str:
    """``layer_07`` for 7: the array of hidden state 7."""
    return f"layer_{layer:02d}"


def parse_layer_name(name: str) -> int | None:
    """Inverse of `layer_name`; None for any other array."""
    digits = name.removeprefix("layer_")
    return int(digits) if name.startswith("layer_") and digits.isdigit() else None


def row_chunk(array: str, unit: int) -> str:
    """Object of one unit in a one-dimensional array, relative to the key."""
    return f"{array}/c/{unit}"


def layer_chunk(layer: int, unit: int) -> str:
    """Object (shard) of one unit in a layer array, relative to the key."""
    return f"{layer_name(layer)}/c/{unit}/0/0"


def group_document(attributes: dict[str, Any]) -> bytes:
    """``zarr.json`` of a group with these attributes."""
    store = MemoryStore()
    zarr.create_group(store, attributes=attributes)
    return _document(store)


def layer_document(shape: LayerShape, n_rows: int) -> bytes:
    """``zarr.json`` of a layer array with `n_rows` rows."""
    store = MemoryStore()
    _create_layer(store, shape, n_rows)
    return _document(store)


def text_document(n_entries: int, chunk_entries: int, *, compress: bool = True) -> bytes:
    """``zarr.json`` of a one-dimensional text array."""
    store = MemoryStore()
    _create_rows(store, "string", "", n_entries, chunk_entries, compress=compress)
    return _document(store)


def row_document(array: str, n_rows: int, unit_rows: int) -> bytes:
    """``zarr.json`` of one of `ROW_ARRAYS`."""
    dtype, fill = ROW_TYPES[array]
    store = MemoryStore()
    _create_rows(store, dtype, fill, n_rows, unit_rows)
    return _document(store)


def encode_layer(shape: LayerShape, values: np.ndarray) -> bytes:
    """The shard of one unit.

    Args:
        shape: the key's layer shape.
        values: `[n, functionals, features]`, n at most `unit_rows`; the rest of the shard stays empty.

    Raises:
        ConfigError: a finite value does not fit the stored dtype.
    """
    if shape.dtype == "float16":
        values = to_half(values)
    expected = (shape.n_functionals, shape.n_features)
    if values.shape[1:] != expected or len(values) > shape.unit_rows:
        raise ValueError(f"expected at most {shape.unit_rows} rows of {expected}, got {values.shape}")
    store = MemoryStore()
    array = _create_layer(store, shape, shape.unit_rows)
    array[: len(values)] = values
    return _object(store, "c/0/0/0")


def encode_rows(array: str, unit_rows: int, values: np.ndarray) -> bytes:
    """The chunk of one unit in one of `ROW_ARRAYS`; `values` `[n]`, n at most `unit_rows`."""
    dtype, fill = ROW_TYPES[array]
    store = MemoryStore()
    target = _create_rows(store, dtype, fill, unit_rows, unit_rows)
    target[: len(values)] = values
    return _object(store, "c/0")


def encode_text(value: str, *, compress: bool = True) -> bytes:
    """The chunk of a text array with one entry per chunk."""
    store = MemoryStore()
    target = _create_rows(store, "string", "", 1, 1, compress=compress)
    target[:] = np.array([value], dtype=object)
    return _object(store, "c/0")


def decode_text(data: bytes, *, compress: bool = True) -> str:
    """Inverse of `encode_text`.

    Raises:
        ValueError: the bytes do not match their checksum.
    """
    store = MemoryStore()
    target = _create_rows(store, "string", "", 1, 1, compress=compress)
    store._store_dict["c/0"] = _buffer(data)
    # Not target[0]: formatting a 0-d text array takes seconds per megabyte.
    return str(np.asarray(target[:])[0])


def decode_layer(shape: LayerShape, data: bytes) -> np.ndarray:
    """Inverse of `encode_layer`: `[unit_rows, functionals, features]`, NaN where nothing was written.

    Raises:
        ValueError: the bytes do not match their checksums.
    """
    store = MemoryStore()
    array = _create_layer(store, shape, shape.unit_rows)
    store._store_dict["c/0/0/0"] = _buffer(data)
    return np.asarray(array[:])


def scatter_plan(shape: LayerShape, n_rows: int, out: np.ndarray) -> list[np.ndarray] | None:
    """Buffers that an object's bytes, read in order, put straight into place.

    For shards as this package writes them: the values of whole chunks go into `out`, checksums, a last
    chunk that is not full, and the index into buffers of their own. The caller checks the checksum of all
    of them together and then calls `finish_scatter`.

    Args:
        shape: the key's layer shape.
        n_rows: rows wanted, from the first one of the shard.
        out: float32 `[n_rows, functionals, features]`, contiguous.

    Returns:
        The buffers, or None where values need decoding.
    """
    if shape.dtype != "float32" or not out.flags.c_contiguous or not _LITTLE_ENDIAN:
        return None
    row_values = shape.n_functionals * shape.n_features
    flat = out.reshape(-1)
    if shape.codec == "raw":
        rest = np.empty((shape.unit_rows - n_rows) * row_values, dtype=np.float32)
        return [flat, rest, np.empty(CRC_BYTES, dtype=np.uint8)]
    if shape.codec != "fast":
        return None
    buffers: list[np.ndarray] = []
    step = shape.chunk_rows * row_values
    for start in range(0, n_rows * row_values, step):
        part = flat[start : start + step]
        buffers.append(part if len(part) == step else np.empty(step, dtype=np.float32))
        buffers.append(np.empty(CRC_BYTES, dtype=np.uint8))
    buffers.append(np.empty(_index_bytes(shape), dtype=np.uint8))
    return buffers


def finish_scatter(shape: LayerShape, n_rows: int, out: np.ndarray, buffers: list[np.ndarray]) -> bool:
    """Complete what `scatter_plan` began; False if the shard is not laid out as it assumed."""
    if shape.codec == "raw":
        return True
    chunk_rows = shape.chunk_rows
    n_chunks = -(-n_rows // chunk_rows)
    index = buffers[-1][: 16 * n_chunks].view("<u8")
    if (index != _expected_index(shape, n_chunks)).any():
        return False
    rest = n_rows % chunk_rows
    if rest:
        block = buffers[2 * (n_chunks - 1)].reshape(chunk_rows, *out.shape[1:])
        out[n_rows - rest :] = block[:rest]
    return True


def _index_bytes(shape: LayerShape) -> int:
    return shape.unit_rows // shape.chunk_rows * 16 + CRC_BYTES


def _expected_index(shape: LayerShape, n_chunks: int) -> np.ndarray:
    """Offset and length of each chunk where chunks stand one after the other, `[2 * n_chunks]`."""
    stored = shape.chunk_rows * shape.row_bytes + CRC_BYTES
    offsets = np.arange(n_chunks, dtype="<u8") * stored
    return np.stack([offsets, np.full(n_chunks, stored, "<u8")], axis=1).ravel()


def decode_layer_into(shape: LayerShape, data: bytes, n_rows: int, out: np.ndarray) -> None:
    """Copy the first `n_rows` rows of a shard into `out` `[n_rows, functionals, features]`.

    The caller has checked the object's checksum; this reads the shard as one strided block instead of
    chunk by chunk, at the speed of memory. Anything but the plain shards this package writes goes through
    Zarr.

    Raises:
        ValueError: the bytes are not a shard of this shape.
    """
    row = (shape.n_functionals, shape.n_features)
    plain = np.dtype(shape.dtype).newbyteorder("<")
    if shape.codec == "raw":
        out[...] = np.frombuffer(data, plain, count=n_rows * row[0] * row[1]).reshape(n_rows, *row)
        return
    chunk_rows = shape.chunk_rows
    n_chunks = -(-n_rows // chunk_rows)
    stored = chunk_rows * shape.row_bytes + CRC_BYTES
    offset = max(0, len(data) - _index_bytes(shape))
    index = np.frombuffer(data, "<u8", count=2 * n_chunks, offset=offset)
    expected = _expected_index(shape, n_chunks)
    if shape.codec != "fast" or len(data) < n_chunks * stored or (index != expected).any():
        out[...] = decode_layer(shape, data)[:n_rows]
        return
    # [chunk, bytes of values] without each chunk's checksum → [chunk, row, functional, feature]
    chunks = np.frombuffer(data, np.uint8, count=n_chunks * stored).reshape(n_chunks, stored)
    values = np.lib.stride_tricks.as_strided(
        chunks[:, :-CRC_BYTES].view(plain),
        shape=(n_chunks, chunk_rows, *row),
        strides=(stored, shape.row_bytes, row[1] * plain.itemsize, plain.itemsize),
        writeable=False,
    )
    whole = n_rows // chunk_rows
    out[: whole * chunk_rows].reshape(whole, chunk_rows, *row)[...] = values[:whole]
    if whole < n_chunks:
        out[whole * chunk_rows :] = values[whole, : n_rows - whole * chunk_rows]


def decode_rows(array: str, unit_rows: int, data: bytes) -> np.ndarray:
    """Inverse of `encode_rows`: `[unit_rows]`.

    Raises:
        ValueError: the bytes do not match their checksum.
    """
    dtype, fill = ROW_TYPES[array]
    store = MemoryStore()
    target = _create_rows(store, dtype, fill, unit_rows, unit_rows)
    store._store_dict["c/0"] = _buffer(data)
    values = np.asarray(target[:])
    return values.astype(object) if dtype == "string" else values


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


def _create_layer(store: MemoryStore, shape: LayerShape, n_rows: int) -> zarr.Array[Any]:
    row = (shape.n_functionals, shape.n_features)
    itemsize = np.dtype(shape.dtype).itemsize if shape.codec == "small" else None
    return zarr.create_array(
        store,
        shape=(n_rows, *row),
        # The shard is the outer chunk of the grid; inner chunks carry the checksum that readers check.
        chunks=(shape.unit_rows, *row),
        dtype=shape.dtype,
        fill_value=np.nan,
        serializer=BytesCodec() if shape.codec == "raw" else _sharding((shape.chunk_rows, *row), itemsize),
        filters=None,
        compressors=[Crc32cCodec()] if shape.codec == "raw" else None,
        dimension_names=("utterance", "functional", "feature"),
        config={"write_empty_chunks": True},
    )


def _create_frames(store: MemoryStore, shape: FrameShape, n_units: int) -> zarr.Array[Any]:
    return zarr.create_array(
        store,
        shape=(n_units * shape.unit_frames, shape.n_features),
        chunks=(shape.unit_frames, shape.n_features),
        dtype=shape.dtype,
        fill_value=np.nan,
        serializer=_sharding((shape.chunk_frames, shape.n_features)),
        filters=None,
        compressors=None,
        dimension_names=("frame", "feature"),
        config={"write_empty_chunks": True},
    )


def _sharding(chunk: tuple[int, ...], compressed_itemsize: int | None = None) -> ShardingCodec:
    compressor = []
    if compressed_itemsize is not None:
        compressor = [
            BloscCodec(
                typesize=compressed_itemsize, cname="zstd", clevel=5, shuffle="bitshuffle", blocksize=0
            )
        ]
    return ShardingCodec(
        chunk_shape=chunk,
        codecs=[BytesCodec(), *compressor, Crc32cCodec()],
        index_codecs=[BytesCodec(), Crc32cCodec()],
    )


def _create_rows(
    store: MemoryStore, dtype: str, fill: Any, n_rows: int, chunk_rows: int, *, compress: bool = True
) -> zarr.Array[Any]:
    text = dtype == "string"
    return zarr.create_array(
        store,
        shape=(n_rows,),
        chunks=(chunk_rows,),
        dtype=str if text else dtype,
        fill_value=fill,
        serializer=VLenUTF8Codec() if text else BytesCodec(),
        filters=None,
        compressors=[ZstdCodec(level=3), Crc32cCodec()] if compress else [Crc32cCodec()],
        dimension_names=("utterance",) if n_rows != 1 else None,
        config={"write_empty_chunks": True},
    )


def _buffer(data: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(data)


def _document(store: MemoryStore) -> bytes:
    return _object(store, "zarr.json")


def _object(store: MemoryStore, key: str) -> bytes:
    found: Buffer = store._store_dict[key]
    return found.to_bytes()
