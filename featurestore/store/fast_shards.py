"""Shards written and read as what they are: runs of plain values with a checksum behind each.

Zarr encodes and decodes a shard chunk by chunk, at a fraction of the speed of memory. Here the same bytes are
put together at once (the tests compare them with Zarr's), and where the ledger's checksum of the whole
object has been checked, the values are put in place at once. Anything else goes through Zarr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import google_crc32c
import numpy as np

from featurestore.format.decoding import CRC_BYTES, NOT_STORED
from featurestore.format.layer_arrays import LayerShape, checked_values, decode_layer, encode_layer
from featurestore.store.ledger import StoredObject

_LITTLE_ENDIAN = sys.byteorder == "little"


def encode(shape: LayerShape, values: np.ndarray) -> bytes:
    """The shard of one unit: the bytes that `layer_arrays.encode_layer` gives, put together at once.

    Args:
        shape: the key's layer shape.
        values: `[n, functionals, features]`, n from 1 to `unit_rows`; the rest of the shard stays empty.

    Raises:
        ConfigError: a finite value does not fit the stored dtype.
    """
    if not _LITTLE_ENDIAN or shape.codec not in ("fast", "raw"):
        return encode_layer(shape, values)
    values = np.ascontiguousarray(checked_values(shape, values), dtype=shape.dtype)
    step = _step(shape)
    n_chunks = -(-len(values) // step)
    chunk_bytes = step * shape.row_bytes
    flat = values.view(np.uint8).reshape(-1)
    chunks = [flat[i * chunk_bytes : (i + 1) * chunk_bytes] for i in range(n_chunks)]
    if n_missing := chunk_bytes - len(chunks[-1]):
        empty = np.full(n_missing // values.itemsize, np.nan, dtype=shape.dtype)
        chunks[-1] = np.concatenate([chunks[-1], empty.view(np.uint8)])
    if shape.codec == "fast":
        index = np.full(2 * (shape.unit_rows // step), NOT_STORED, dtype="<u8")
        index[: 2 * n_chunks] = _expected_index(shape, n_chunks)
        chunks.append(index.view(np.uint8))
    # Every byte is copied once, to where it stays.
    return b"".join(piece.data for chunk in chunks for piece in (chunk, _crc(chunk)))


def _crc(data: np.ndarray) -> np.ndarray:
    return np.array([google_crc32c.value(data)], dtype="<u4").view(np.uint8)


def describe_shard(data: bytes, n_chunks: int) -> StoredObject:
    """Size and checksums of a shard.

    Args:
        data: its bytes.
        n_chunks: inner chunks that its index has room for; 0 where it has no index, and one checksum at its
            end.
    """
    sums = b"" if (ends := _chunk_ends(data, n_chunks)) is None else b"".join(data[e - 4 : e] for e in ends)
    return StoredObject(
        n_bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}", sums=f"{google_crc32c.value(sums):08x}"
    )


def _chunk_ends(data: bytes, n_chunks: int) -> list[int] | None:
    """Where the inner chunks of a shard end, each with its checksum; None where it has no such index."""
    if not n_chunks:
        return [len(data)] if len(data) >= CRC_BYTES else None
    start = len(data) - CRC_BYTES - 16 * n_chunks
    if start < 0:
        return None
    index = np.frombuffer(data, "<u8", count=2 * n_chunks, offset=start).reshape(n_chunks, 2)
    stored = index[index[:, 0] != NOT_STORED]
    ends = [int(offset) + int(length) for offset, length in stored]
    return ends if all(CRC_BYTES <= end <= start for end in ends) else None


def sums_of(read: Callable[[Sequence[tuple[int, int]]], list[bytes] | None], n_chunks: int) -> str | None:
    """`StoredObject.sums` of a shard of which only the index and the checksums are read.

    Args:
        read: gives the bytes ``start:stop`` of the shard for each pair, a negative one from its end; None
            where there is none.
        n_chunks: see `describe_shard`; from 1 on.

    Returns:
        Eight hexadecimal digits; None where there is no shard.
    """
    tail = read([(-(16 * n_chunks + CRC_BYTES), 2**62)])
    if tail is None:
        return None
    stored = np.frombuffer(tail[0][: (len(tail[0]) - CRC_BYTES) // 16 * 16], "<u8").reshape(-1, 2)
    ends = [int(offset) + int(length) for offset, length in stored if offset != NOT_STORED]
    parts = read([(max(0, end - CRC_BYTES), max(0, end)) for end in ends if end < 2**62])
    return None if parts is None else f"{google_crc32c.value(b''.join(parts)):08x}"


def describe_pieces(pieces: Sequence[np.ndarray]) -> StoredObject:
    """`describe_shard` of a shard in the buffers of `scatter_plan`."""
    crc, sums = 0, 0
    for piece in pieces:
        # Bytes, whatever the dtype: without its C extension the package takes nothing else.
        crc = google_crc32c.extend(crc, piece.reshape(-1).view(np.uint8))
        if piece.dtype == np.uint8 and piece.nbytes == CRC_BYTES:  # an index is longer, values are floats
            sums = google_crc32c.extend(sums, piece)
    return StoredObject(n_bytes=sum(p.nbytes for p in pieces), crc32c=f"{crc:08x}", sums=f"{sums:08x}")


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


def _step(shape: LayerShape) -> int:
    """Rows of what one checksum stands behind: of an inner chunk, or of a shard without any."""
    return shape.unit_rows if shape.codec == "raw" else shape.chunk_rows


def _index_bytes(shape: LayerShape) -> int:
    return shape.unit_rows // shape.chunk_rows * 16 + CRC_BYTES


def _expected_index(shape: LayerShape, n_chunks: int) -> np.ndarray:
    """Offset and length of each chunk where chunks stand one after the other, `[2 * n_chunks]`."""
    stored = shape.chunk_rows * shape.row_bytes + CRC_BYTES
    offsets = np.arange(n_chunks, dtype="<u8") * stored
    return np.stack([offsets, np.full(n_chunks, stored, "<u8")], axis=1).ravel()


def decode_layer_into(shape: LayerShape, data: bytes, n_rows: int, out: np.ndarray) -> None:
    """Copy the first `n_rows` rows of a shard into `out` `[n_rows, functionals, features]`.

    The caller has checked the object's checksum; this copies plain values, at the speed of memory. Anything
    but the shards that this package writes goes through Zarr.

    Raises:
        ValueError: the bytes are not a shard of this shape.
    """
    step, n_chunks = _step(shape), -(-n_rows // _step(shape))
    stored = step * shape.row_bytes + CRC_BYTES
    if shape.codec == "raw":
        if len(data) != stored:
            raise ValueError(f"{len(data)} bytes, {shape.unit_rows} rows of {shape.row_bytes} expected")
    else:
        offset = max(0, len(data) - _index_bytes(shape))
        index = np.frombuffer(data, "<u8", count=2 * n_chunks, offset=offset)
        is_plain = shape.codec == "fast" and len(data) >= n_chunks * stored
        if not is_plain or (index != _expected_index(shape, n_chunks)).any():
            out[...] = decode_layer(shape, data)[:n_rows]
            return
    plain = np.dtype(shape.dtype).newbyteorder("<")
    for i in range(n_chunks):
        rows = out[i * step : (i + 1) * step]
        rows[...] = np.frombuffer(data, plain, count=rows.size, offset=i * stored).reshape(rows.shape)
