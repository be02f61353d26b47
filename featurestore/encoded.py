"""Zarr nodes encoded into memory: their documents and chunks as bytes, to be put whole."""

from __future__ import annotations

from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore


def document_of(store: MemoryStore) -> bytes:
    """``zarr.json`` of the node at the root of a store."""
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
