"""The manifest inside a key: a store alone is enough to probe."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from featurestore.backends.read_faults import decoding
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData
from featurestore.format import row_arrays
from featurestore.format.row_arrays import MANIFEST_ARRAY
from featurestore.manifest.table import CONTRACT_COLUMNS, PLACE_COLUMNS, Manifest, from_csv_text, to_csv_text
from featurestore.printable import counted
from featurestore.store.key import KeyInfo

_NOT_TEXT = ("start_s", "end_s", "channel")


def store_manifest(storage: Storage, info: KeyInfo, manifest: Manifest) -> str:
    """Put the manifest into a key, whole, in one operation, where it does not hold the same already.

    Returns:
        `digest_of` the object.
    """
    data = row_arrays.encode_text(to_csv_text(manifest))
    if storage.get(manifest_object(info)) != data:
        storage.put(manifest_object(info), data)
    return digest_of(data)


def digest_of(data: bytes | None) -> str:
    """BLAKE2b of a manifest's object, "" where there is none; its CRC-32C says nothing, as it ends in one."""
    return "" if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()


def replace_manifest(storage: Storage, info: KeyInfo, manifest: Manifest) -> tuple[str, list[str]]:
    """`store_manifest`, and the `changes` to the one before; none where that was missing or damaged."""
    before = storage.get(manifest_object(info))
    stored = store_manifest(storage, info, manifest)
    if before is None or digest_of(before) == stored:
        return stored, []
    try:
        return stored, changes(_parse(storage, info, before), manifest)
    except CorruptData:
        return stored, []


def manifest_object(info: KeyInfo) -> str:
    """The object, below the root, that holds a key's manifest."""
    return f"{info.path}/{row_arrays.entry_name(MANIFEST_ARRAY, 0)}"


def read_stored_manifest(storage: Storage, info: KeyInfo) -> Manifest:
    """The manifest inside a key.

    Raises:
        CorruptData: it is missing or damaged.
    """
    name = manifest_object(info)
    data = storage.get(name)
    if data is None:
        raise CorruptData(f"{storage.url}: {name} is missing; `fs manifest attach` puts it back")
    return _parse(storage, info, data)


def _parse(storage: Storage, info: KeyInfo, data: bytes) -> Manifest:
    with decoding(f"{storage.url}: {manifest_object(info)}", "`fs manifest attach` puts it back"):
        return from_csv_text(row_arrays.decode_text(data), source=f"{storage.url}/{info.path}")


def with_rows_of(manifest: Manifest, stored: Manifest, ids: Sequence[str]) -> Manifest:
    """The manifest with the stored rows appended of those ids that it lacks; labels it has not become ""."""
    wanted = set(ids) - set(manifest.table["utterance_id"])
    kept = stored.table[stored.table["utterance_id"].isin(wanted)]
    joined = pd.concat([manifest.table, kept], ignore_index=True).fillna(
        dict.fromkeys({*manifest.table.columns, *kept.columns} - set(_NOT_TEXT), "")
    )
    text = [c for c in joined.columns if c not in _NOT_TEXT]
    found = {i: proof for i, proof in stored.found_audio.items() if i in wanted}
    return replace(
        manifest,
        table=joined.astype(dict.fromkeys(text, "str")),
        found_audio={**found, **manifest.found_audio},
    )


def changes(before: Manifest, after: Manifest) -> list[str]:
    """What differs between two manifests for the utterances of both, one clause for each column.

    ``group: bird → path in 221 rows`` where a group is another column's value in every row;
    ``call: 'tet' → 'tuk' in 3 rows (first 'a1')`` otherwise.
    """
    old = before.table.set_index("utterance_id")
    new = after.table.set_index("utterance_id")
    both = old.index.intersection(new.index, sort=False)
    old, new = old.loc[both], new.loc[both]
    said = []
    for name in ["split", "group", *sorted({*before.label_columns, *after.label_columns})]:
        if name not in new:
            said.append(f"label {name} removed")
        elif name not in old:
            said.append(f"label {name} added")
        else:
            said += _cells_changed(name, old, new)
    labels = [c for c in said if not c.startswith(("split:", "group:"))]
    moved = np.zeros(len(both), dtype=bool)
    for name in PLACE_COLUMNS:
        moved |= _differ(old[name], new[name])
    if moved.any():
        n = int(moved.sum())
        said.append(f"places changed in {counted(n, 'row')}")
    if said and not labels:
        said.append("labels unchanged")
    return said


def _cells_changed(name: str, old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    differ = _differ(old[name], new[name])
    n = int(differ.sum())
    if not n:
        return []
    first = int(np.flatnonzero(differ)[0])
    example = f"{old[name].iloc[first]!r} → {new[name].iloc[first]!r}"
    count = counted(n, "row")
    if name == "group" and (_named_by(old) or _named_by(new)):
        return [f"group: {_named_by(old) or 'of its own'} → {_named_by(new) or 'of its own'} in {count}"]
    return [f"{name}: {example} in {count} (first {old.index[first]!r})"]


def _named_by(table: pd.DataFrame) -> str | None:
    """The column that a group repeats in every row, if there is one."""
    group = table["group"].to_numpy(dtype=object)
    labels = [c for c in table.columns if c not in CONTRACT_COLUMNS]
    for name in (*labels, "path"):
        if (table[name].to_numpy(dtype=object) == group).all():
            return name
    return "none" if (group == "").all() else None


def _differ(a: pd.Series, b: pd.Series) -> np.ndarray:
    same = (a == b) | (a.isna() & b.isna())
    return ~same.fillna(value=False).to_numpy(dtype=bool)
