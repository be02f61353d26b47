"""Zarr nodes encoded into memory: their documents and chunks as bytes, to be put whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import MemoryStore, StorePath


def template(shape: tuple[int, ...], chunks: tuple[int, ...], **settings: Any) -> zarr.Array[Any]:
    """An array that holds no values, at the root of a store of its own: what objects are encoded by.

    Args:
        shape: of the array.
        chunks: of an object of it.
        settings: see `zarr.create_array`; there is no filter, and no compressor unless given.
    """
    settings = {"filters": None, "compressors": None, **settings}
    return zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, **settings)


def sharding(chunk: tuple[int, ...], *codecs: Any) -> ShardingCodec:
    """A shard of such inner chunks, each encoded by `codecs`, of which the last gives it a checksum."""
    return ShardingCodec(chunk_shape=chunk, codecs=codecs, index_codecs=[BytesCodec(), Crc32cCodec()])


def encoded(
    made: zarr.Array[Any], where: slice, values: Any, *, write_empty: bool = True
) -> dict[str, bytes]:
    """The objects of an array like `made` of which this part holds these values, by name.

    Args:
        made: a `template`.
        where: along the first axis.
        values: what Zarr takes for that part.
        write_empty: whether chunks of nothing but the fill value are written.
    """
    store = MemoryStore()
    _array_in(store, made, write_empty=write_empty)[where] = values
    return {name: data.to_bytes() for name, data in store._store_dict.items() if name.startswith("c/")}


def decoded(made: zarr.Array[Any], name: str, data: bytes) -> np.ndarray:
    """The values of an array like `made` that has this one object, as Zarr reads them."""
    store = MemoryStore({name: default_buffer_prototype().buffer.from_bytes(data)})
    return np.asarray(_array_in(store, made)[:])


def document_of(made: zarr.Array[Any] | zarr.Group) -> bytes:
    """``zarr.json`` of the node at the root of a store in memory."""
    assert isinstance(made.store, MemoryStore)
    return made.store._store_dict["zarr.json"].to_bytes()


def _array_in(store: MemoryStore, made: zarr.Array[Any], *, write_empty: bool = True) -> zarr.Array[Any]:
    """An array like `made` in another store.

    To make one with Zarr takes as long as to encode a small chunk, and a ledger has thousands of these.
    """
    metadata = made.metadata
    assert isinstance(metadata, ArrayV3Metadata)
    return zarr.Array(zarr.AsyncArray(metadata, StorePath(store), {"write_empty_chunks": write_empty}))
