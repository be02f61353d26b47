"""What plain Zarr readers see of the rows: columns written from the ledger, which stays the truth.

`open_store` reads the ledger and never these arrays but the ids. They are brought up to date at the end of
every run; in between they show less than there is, never anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from featurestore.backends.storage import Storage
from featurestore.errors import KeyNotFound
from featurestore.format import row_arrays
from featurestore.format.row_arrays import ID_ARRAY
from featurestore.store.claims import LEDGER_CLAIM, holding_ledger
from featurestore.store.key import KeyInfo, read_key
from featurestore.store.ledger import Record, is_complete, read_ledger, seal

MOST_ROUNDS = 4


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
    out = {}
    for name in info.row_arrays:
        if name == ID_ARRAY:
            continue
        dtype, fill = row_arrays.ROW_TYPES[name]
        values = np.full(info.n_rows, fill, dtype=object if dtype == "string" else dtype)
        for unit, record in committed:
            rows = slice(unit.first_row, unit.stop_row)
            values[rows] = (
                frame_starts(info, record) if name == row_arrays.FRAME_START else record.column(name)
            )
        out[name] = values
    return out


def frame_starts(info: KeyInfo, record: Record) -> np.ndarray:
    """Where the frames of each row of a unit begin in the frame arrays, int64 `[n_rows]`."""
    if info.frames is None:
        raise ValueError(f"{info.path} holds no frames")
    counts = record.column("n_frames").astype(np.int64)
    return np.cumsum(counts) - counts + record.unit * info.frames.unit_frames
