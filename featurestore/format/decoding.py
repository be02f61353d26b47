"""Stored bytes decoded without trust: every size that they declare is held against the bytes at hand first.

A checksum finds bytes that changed, and is right in bytes that somebody made. Zarr's own pipeline takes
memory for what a header claims: sixteen bytes of a text chunk can ask for 32 GB. So the small arrays of a key
are decoded here (the tests compare with Zarr's own reading), and shards of values are looked at here before
Zarr decodes them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd

CRC_BYTES = 4
# Offset and length of an inner chunk that is not stored (Zarr v3, sharding codec).
NOT_STORED = 2**64 - 1
# What an object may decompress to: this much in any case, or so many times its own size. Measured on what we
# write: records and manifests shrink 50 times, ids 10 to 550 (long common folders), records of a key of which
# every row failed with one message of 400 letters 960. Columns of one value ("ok") shrink by 1,600 and are
# small: a million of them take 6 MB. A bomb shrinks by up to 30,000.
FREE_BYTES = 16 * 2**20
MOST_RATIO = 1000
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BLOSC_HEADER_BYTES = 16


class Allowance:
    """Bytes that one object may still decompress to.

    Args:
        n_stored: size of the object.
        n_free: see `FREE_BYTES`.
    """

    def __init__(self, n_stored: int, n_free: int = FREE_BYTES) -> None:
        self.left = self.most = max(n_free, MOST_RATIO * n_stored)

    def take(self, n_bytes: int) -> None:
        """Use some of it up.

        Raises:
            ValueError: there is not so much left.
        """
        if n_bytes > self.left:
            raise ValueError(f"decompresses to more than {self.most:,} bytes")
        self.left -= n_bytes


def without_checksum(data: bytes) -> bytes:
    """The bytes before the CRC-32C that they end in.

    Raises:
        ValueError: they do not match it.
    """
    if len(data) < CRC_BYTES:
        raise ValueError(f"{len(data)} bytes, too few for a checksum")
    body, crc = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "little")
    found = google_crc32c.value(body)
    if found != crc:
        raise ValueError(f"stored and computed checksum do not match: {crc:08x} and {found:08x}")
    return body


def decompressed(data: bytes, allowance: Allowance) -> bytes:
    """What a Zstandard frame holds.

    Raises:
        ValueError: it is none, does not say how much it holds, or that is more than allowed.
    """
    n_bytes = _content_bytes(data)
    allowance.take(n_bytes)
    try:
        content = bytes(Zstd().decode(data))
    except RuntimeError as error:
        raise ValueError(f"not decompressed: {error}") from error
    if len(content) != n_bytes:
        raise ValueError(f"decompresses to {len(content)} bytes, {n_bytes} declared")
    return content


def _content_bytes(data: bytes) -> int:
    """Declared size of a Zstandard frame's content (RFC 8878, section 3.1.1.1)."""
    if len(data) < 6 or data[:4] != _ZSTD_MAGIC:
        raise ValueError("not a Zstandard frame")
    descriptor = data[4]
    is_single_segment = descriptor >> 5 & 1
    start = 5 + (1 - is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    width = (is_single_segment, 2, 4, 8)[descriptor >> 6]
    field = data[start : start + width]
    if not width or len(field) < width:
        raise ValueError("a Zstandard frame that does not say how much it holds")
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def texts_in(data: bytes, n: int) -> np.ndarray:
    """Texts of a VLen-UTF8 chunk, object `[n]`.

    Raises:
        ValueError: it does not hold exactly `n`, or they do not end where it ends.
    """
    found = int.from_bytes(data[:4], "little")
    if len(data) < 4 + 4 * n or found != n:
        raise ValueError(f"expected {n} texts, {len(data)} bytes claim to hold {found}")
    texts: np.ndarray = VLenUTF8().decode(data)
    joined = "".join(texts.tolist())
    n_bytes = len(joined) if joined.isascii() else len(joined.encode())
    if 4 + 4 * n + n_bytes != len(data):
        raise ValueError("texts that do not end where their chunk ends")
    return texts


def numbers_in(data: bytes, n: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Numbers of a chunk `[n]`.

    Raises:
        ValueError: its size is another.
    """
    if len(data) != n * dtype.itemsize:
        raise ValueError(f"expected {n} numbers of {dtype.itemsize} bytes, got {len(data)} bytes")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)


def chunk_places(data: bytes, n_chunks: int) -> dict[int, tuple[int, int]]:
    """Where the inner chunks of a shard begin and end, by their number; those that are not stored left out.

    Args:
        data: the shard.
        n_chunks: inner chunks that its index, at its end, has room for.

    Raises:
        ValueError: the index is not there, or damaged; a chunk lies outside the shard, or in another.
    """
    index_bytes = 16 * n_chunks + CRC_BYTES
    if len(data) < index_bytes:
        raise ValueError(f"{len(data)} bytes, too few for the index of {n_chunks} chunks")
    end = len(data) - index_bytes
    index = np.frombuffer(without_checksum(data[end:]), "<u8").reshape(n_chunks, 2).tolist()
    places = {i: (o, o + n) for i, (o, n) in enumerate(index) if (o, n) != (NOT_STORED, NOT_STORED)}
    before = 0
    for start, stop in sorted(places.values()):
        if start < before or stop > end or start == stop:
            raise ValueError("an index that names chunks outside of the shard, or one in another")
        before = stop
    return places


def check_shard(data: bytes, n_chunks: int, chunk_bytes: int) -> None:
    """Check that the inner chunks of a shard of plain values hold what they must, without decoding one.

    Args:
        data: the shard.
        n_chunks: inner chunks that its index has room for; 0 where it is one chunk, and has none.
        chunk_bytes: bytes of the values of one chunk.

    Raises:
        ValueError: they do not.
    """
    places = chunk_places(data, n_chunks) if n_chunks else {0: (0, len(data))}
    for i, (start, stop) in places.items():
        found = stop - start - CRC_BYTES
        if found != chunk_bytes:
            raise ValueError(f"chunk {i} holds {found} bytes of values, expected {chunk_bytes}")


def blosc_bytes(header: bytes, n_stored: int) -> int:
    """Bytes that a Blosc chunk of `n_stored` bytes declares to hold (C-Blosc, README_CHUNK_FORMAT)."""
    if len(header) < BLOSC_HEADER_BYTES:
        raise ValueError("too short for a Blosc header")
    n_bytes, block_bytes, n_compressed = np.frombuffer(header, "<u4", offset=4).tolist()
    if n_compressed != n_stored or not 0 < block_bytes <= max(n_bytes, 1):
        raise ValueError("a Blosc header that does not fit its chunk")
    return int(n_bytes)


def parsed_json(text: str | bytes) -> Any:
    """A JSON value of standard JSON: without NaN and infinity, and of texts that can be written again.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if _SURROGATE.search(text if isinstance(text, bytes) else text.encode()):
            json.dumps(value, ensure_ascii=False).encode()  # half a character is none
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def same_json(a: bytes | None, b: bytes) -> bool:
    """Whether two texts are the same JSON value, however written; no JSON, or no text, is no other."""
    try:
        return a is not None and bool(parsed_json(a) == parsed_json(b))
    except ValueError:
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
