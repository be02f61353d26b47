"""Shards read as what they are: runs of plain values with a checksum behind each.

Zarr decodes a shard chunk by chunk. Where the ledger's checksum of the whole object has been checked, the
values of the shards that this package writes can be put in place at the speed of memory. Anything else
goes through Zarr.
"""

from __future__ import annotations

import sys

import numpy as np

from featurestore.layout import LayerShape, decode_layer

CRC_BYTES = 4
_LITTLE_ENDIAN = sys.byteorder == "little"


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
