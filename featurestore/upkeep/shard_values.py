"""What is wrong with the shards of a unit, given what its record says of them and of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurestore.backends.read_faults import brief, raise_if_not_damage
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.row_arrays import ID_ARRAY, LEDGER_ARRAY, STATUS_OK
from featurestore.store.fast_shards import describe_shard
from featurestore.store.key import KeyInfo, unit_objects
from featurestore.store.ledger import Record, is_complete
from featurestore.store.plan import Unit
from featurestore.upkeep.key_report import Finding, Kind

# Of what a decoder says.
MOST_CHARACTERS = 160


def wrong_unit(
    storage: Storage, info: KeyInfo, unit: Unit, record: Record, ids: np.ndarray | None
) -> tuple[list[Finding], int]:
    """Findings in one committed unit, and bytes read; every object is read once.

    Args:
        storage: the root.
        info: the key.
        unit: as planned.
        record: as committed.
        ids: `[n_rows]` of all rows of the key; None where they cannot be read.
    """
    findings: list[Finding] = []

    def find(kind: Kind, name: str, message: str, of: int | None = unit.index, remedy: str = "") -> None:
        findings.append(Finding.of(info.path, kind, name, message, of, remedy))

    entry = row_arrays.entry_name(LEDGER_ARRAY, unit.index)
    if not is_complete(record, unit, []):
        planned = f"planned {unit.first_row}+{unit.n_rows}"
        remedy = "nothing recorded is given up for a plan that it contradicts: extract with --overwrite"
        find("wrong", entry, f"record of rows {record.first_row}+{record.n_rows}, {planned}", None, remedy)
        return findings, 0
    try:
        _ = record.places_of_rows
    except CorruptData as error:
        find("damaged", entry, brief(error, MOST_CHARACTERS))
    owned = np.ones(unit.n_rows, dtype=bool)
    if ids is not None:
        part = ids[unit.first_row : unit.stop_row]
        owned = part != ""
        if (owned & (part != record.column(ID_ARRAY))).any():
            # What was embedded is what the record says.
            name = row_arrays.column_objects(ID_ARRAY, unit.first_row + 1)[-1]
            find("wrong", name, f"lists other utterances than unit {unit.index} was made for", None)
    for name in sorted(unit_objects(info, record.layers, unit.index) - set(record.objects)):
        find("wrong", name, "the unit's record does not name it")
    n_bytes = 0
    for name, recorded in record.objects.items():
        data = storage.get(f"{info.path}/{name}")
        if data is None:
            find("missing", name, "recorded, and not there")
            continue
        n_bytes += len(data)
        found = describe_shard(data, info.shard_chunks(name))
        if not recorded.matches(found):
            find("changed", name, f"recorded {recorded}, found {found}")
        elif said := wrong_values(info, name, data, record.rows, owned):
            find(said[0], name, said[1])
    return findings, n_bytes


def wrong_values(
    info: KeyInfo, name: str, data: bytes, rows: Mapping[str, Sequence[Any]], owned: np.ndarray
) -> tuple[Kind, str] | None:
    """Decode a shard, and compare its values with the statuses of the rows.

    Args:
        info: the key.
        name: the shard's, below the key.
        data: its bytes.
        rows: column → one value per row of its unit, as in the unit's record.
        owned: bool `[n_rows]`, which rows of the unit are somebody's: the others may hold anything.

    Returns:
        The complaint; None where there is none.
    """
    try:
        said = _contradiction(info, name, data, rows, owned)
    except Exception as error:  # whatever a decoder may raise over damaged bytes
        raise_if_not_damage(error)
        return "damaged", brief(error, MOST_CHARACTERS)
    return None if said is None else ("wrong", said)


def _contradiction(
    info: KeyInfo, name: str, data: bytes, rows: Mapping[str, Sequence[Any]], owned: np.ndarray
) -> str | None:
    ok = np.array(rows["status"], dtype=object) == STATUS_OK
    if info.frames is not None and name.startswith("frames_"):
        total = sum(n or 0 for n in rows["n_frames"])
        frames = layer_arrays.decode_frames(info.frames, data)[:total]
        is_whole = len(frames) == total and np.isfinite(frames).all()
        return None if is_whole else "frames are missing or not finite"
    values = layer_arrays.decode_layer(info.shape, data)[: len(ok)]
    infinite = ok & owned & ~np.isfinite(values).all(axis=(1, 2))
    if infinite.any():
        return f"{int(infinite.sum())} rows with status ok hold values that are not finite"
    if (~ok & owned & ~np.isnan(values).all(axis=(1, 2))).any():
        return "failed rows hold values"
    return None
