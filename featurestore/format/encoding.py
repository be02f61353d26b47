"""Zarr nodes encoded into memory: their documents and chunks as bytes, to be put whole."""

from __future__ import annotations

from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import MemoryStore, StorePath


def array_in(store: MemoryStore, made: zarr.Array[Any], *, write_empty: bool = True) -> zarr.Array[Any]:
    """An array like `made`, which lies in a store of its own, at the root of another store.

    To make one with Zarr takes as long as to encode a small chunk, and a ledger has thousands of these.

    Args:
        store: where its chunks are, or are written.
        made: what has its metadata.
        write_empty: whether chunks of nothing but the fill value are written.
    """
    metadata = made.metadata
    assert isinstance(metadata, ArrayV3Metadata)
    return zarr.Array(zarr.AsyncArray(metadata, StorePath(store), {"write_empty_chunks": write_empty}))


def document_of(store: Store) -> bytes:
    """``zarr.json`` of the node at the root of a store in memory."""
    assert isinstance(store, MemoryStore)
    return chunk_of(store, "zarr.json")


def chunk_of(store: MemoryStore, name: str) -> bytes:
    """One object of a store.

    Raises:
        KeyError: it was not written.
    """
    found: Buffer = store._store_dict[name]
    return found.to_bytes()


def chunks_of(store: MemoryStore) -> dict[str, bytes]:
    """All chunks of the array at the root of a store, by name."""
    return {name: data.to_bytes() for name, data in store._store_dict.items() if name.startswith("c/")}


def set_chunk(store: MemoryStore, name: str, data: bytes) -> None:
    """Put an encoded chunk under an array, to be decoded by reading it."""
    store._store_dict[name] = default_buffer_prototype().buffer.from_bytes(data)
