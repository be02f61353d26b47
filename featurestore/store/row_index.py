"""Which utterance each row of a key is: the plan, written before any unit."""

from __future__ import annotations

import numpy as np

from featurestore.backends.read_faults import decoding
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData
from featurestore.format import row_arrays
from featurestore.format.row_arrays import ID_ARRAY
from featurestore.store.key import KeyInfo


def read_ids(storage: Storage, info: KeyInfo) -> np.ndarray:
    """`[n_rows]` utterance ids in row order, "" for rows no segment uses and for pruned ones.

    Raises:
        CorruptData: they are missing or damaged.
    """
    found = {}
    for name in row_arrays.column_objects(ID_ARRAY, info.n_rows):
        data = storage.get(f"{info.path}/{name}")
        if data is None:
            raise CorruptData(
                f"{storage.url}: {info.path}/{name} is missing; `fs verify --repair` puts it back"
            )
        found[name] = data
    with decoding(f"{storage.url}: {info.path}/{ID_ARRAY}", "`fs verify --repair` puts it back"):
        return row_arrays.decode_column(ID_ARRAY, info.n_rows, found)


def put_ids(storage: Storage, info: KeyInfo, ids: np.ndarray) -> None:
    """Write the ids of all rows `[n_rows]`; each object in one atomic operation."""
    encoded = row_arrays.encode_column(ID_ARRAY, np.asarray(ids, dtype=object))
    for name in row_arrays.column_objects(ID_ARRAY, info.n_rows):
        # All rows of an object pruned: an explicit empty one, so that its absence always means damage.
        data = encoded.get(name) or row_arrays.empty_object(ID_ARRAY)
        storage.put(f"{info.path}/{name}", data)
