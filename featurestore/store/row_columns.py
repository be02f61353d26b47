"""The columns of a key's rows: the ids, which are the plan, and the facts that plain Zarr readers see.

Ids are written before any unit. The other columns are written from the ledger, which stays the truth:
`open_store` reads the ledger and never them. They are brought up to date at the end of every run; in between
they show less than there is, never anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from featurestore.backends.read_faults import decoding
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, KeyNotFound
from featurestore.format import row_arrays
from featurestore.format.row_arrays import ID_ARRAY
from featurestore.store.claims import LEDGER_CLAIM, holding_ledger
from featurestore.store.key import KeyInfo, read_key
from featurestore.store.ledger import Record, is_complete, read_ledger, seal

MOST_ROUNDS = 4


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


def publish(storage: Storage, info: KeyInfo) -> None:
    """Write the columns from the ledger, and seal it once every unit is committed for every layer.

    One process at a time, and of the key as it is by then: who began before it grew would cut its columns.
    """
    with holding_ledger(storage, info.path) as claims:
        try:
            info = read_key(storage, info.model, info.dataset)
        except KeyNotFound:
            return  # removed meanwhile
        _publish(storage, info, lambda: claims.holds(LEDGER_CLAIM))


def _publish(storage: Storage, info: KeyInfo, may_seal: Callable[[], bool]) -> None:
    ledger = read_ledger(storage, info.path)
    for _ in range(MOST_ROUNDS):
        for array, values in columns_of(info, ledger).items():
            objects = row_arrays.encode_column(array, values)
            for name in row_arrays.column_objects(array, info.n_rows):
                key = f"{info.path}/{name}"
                if name not in objects:
                    storage.delete(key)
                elif storage.get(key) != objects[name]:
                    storage.put(key, objects[name])
        if is_whole(info, ledger) and may_seal():
            seal(storage, info.path, ledger)
        # Who sees more by now than it wrote writes again. While others go on for long, their end writes it.
        now = read_ledger(storage, info.path)
        if now == ledger:
            return
        ledger = now


def is_whole(info: KeyInfo, ledger: Mapping[int, Record]) -> bool:
    """Whether every unit of the plan is committed for every layer, and no other unit is."""
    layers = list(info.layers)
    units = info.units
    return len(units) == len(ledger) and all(is_complete(ledger.get(u.index), u, layers) for u in units)


def columns_of(info: KeyInfo, ledger: Mapping[int, Record]) -> dict[str, np.ndarray]:
    """Every column but the ids `[n_rows]`, fill value where nothing is committed."""
    committed = [(u, ledger[u.index]) for u in info.units if is_complete(ledger.get(u.index), u, [])]
    columns = {name: row_arrays.filled(name, info.n_rows) for name in info.row_arrays if name != ID_ARRAY}
    for name, values in columns.items():
        for unit, record in committed:
            values[unit.first_row : unit.stop_row] = _column(info, record, name)
    return columns


def _column(info: KeyInfo, record: Record, name: str) -> np.ndarray:
    if name != row_arrays.FRAME_START or info.frames is None:
        return record.column(name)
    # The frames of a unit stand one after the other from the beginning of its shard.
    counts = record.column("n_frames").astype(np.int64)
    return np.cumsum(counts) - counts + record.unit * info.frames.unit_frames
