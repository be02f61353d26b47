"""Copying keys between stores, local or remote; resumable, checked on the way.

The source may be somebody else's. Nothing of it is put before it has been decoded, and only under names that
the key's attributes call for: whatever a record names, no other object of the target is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, StoreError
from featurestore.format import layer_arrays
from featurestore.manifest.table import Manifest
from featurestore.names import check_name
from featurestore.store.claims import ClaimLost, Claims, Work, do_units
from featurestore.store.fast_shards import describe_shard
from featurestore.store.history import copy_history
from featurestore.store.key import KeyInfo, read_key, unit_objects
from featurestore.store.ledger import (
    Record,
    commit,
    is_complete,
    read_ledger,
    read_record,
    withdraw_held,
)
from featurestore.store.plan import Unit
from featurestore.store.reader import Features
from featurestore.store.row_columns import publish, put_ids, read_ids
from featurestore.store.stored_manifest import store_manifest
from featurestore.store.zarr_documents import put_documents, put_root_documents
from featurestore.upkeep.shard_values import wrong_values

COPIERS = 4
REMEDY = "`fs verify --repair` before copying"


@dataclass(frozen=True, kw_only=True)
class CopySummary:
    """What a copy did: units copied now, units that were there, bytes written, units still pending."""

    key: str
    n_copied: int
    n_present: int
    n_pending: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a copy tells otherwise than its source; values, ids and hashes are always the source's.

    Attributes:
        info: attributes of the source → those of the copy: another model card, nothing else.
        manifest: what is said of the utterances.
        record: what a record says besides its objects and ids.
        with_history: whether the calls that made the key go along.
    """

    info: Callable[[KeyInfo], KeyInfo] = lambda info: info
    manifest: Callable[[Manifest], Manifest] = lambda manifest: manifest
    record: Callable[[Record], Record] = lambda record: record
    with_history: bool = True


AS_IT_IS = Told()


def copy_key(
    source: Storage,
    target: Storage,
    model: str,
    dataset: str,
    *,
    told: Told = AS_IT_IS,
    on_unit: Callable[[], None] = lambda: None,
) -> CopySummary:
    """Copy one key. Run again after an interruption, it copies what is missing.

    The target's group document is written last: until then the key does not exist there.

    Raises:
        KeyNotFound: the source has no such key.
        StoreError: the target has a key of that name that differs.
        ConfigError: the key's name is none.
        CorruptData: an object of the source does not match its checksum, cannot be decoded, or is none of the
            key's; nothing damaged is copied.
    """
    info = read_key(source, check_name(model, "model"), check_name(dataset, "dataset"))
    name = f"{info.path}/zarr.json"
    present = target.get(name)
    if present is not None and read_key(target, model, dataset) != told.info(info):
        raise StoreError(
            f"{target.url}: has another key {info.path} already; remove it with `fs rm`, or copy elsewhere"
        )
    features = Features(source, info)
    _ = features.index  # what no reader takes is not copied
    info, manifest = told.info(features.info), told.manifest(features.manifest)
    records = {unit: told.record(record) for unit, record in features.ledger.items()}
    copier = _Copier(source, target, info, records, told.record)
    committed = [u for u in info.units if is_complete(records.get(u.index), u, [])]
    for unit in committed:
        copier.check(records[unit.index])
    put_root_documents(target, info)
    put_documents(target, info)
    store_manifest(target, info, manifest)
    if not _has_ids(target, info, copier.ids):
        put_ids(target, info, copier.ids)
    if told.with_history:
        copy_history(source, target, info.path)
    held = read_ledger(target, info.path)
    wanted = [u for u in committed if not _covers(held.get(u.index), records[u.index])]
    for _ in range(len(info.units) - len(wanted)):
        on_unit()
    copier.copy(wanted, on_unit)
    group = layer_arrays.group_document(info.to_attributes())
    if not target.put(name, group, if_absent=True) and read_key(target, model, dataset) != info:
        raise StoreError(f"{target.url}: another key {info.path} was made there meanwhile; copy elsewhere")
    publish(target, info)
    return CopySummary(
        key=info.path,
        n_copied=copier.n_copied,
        n_present=len(committed) - len(wanted) + copier.n_by_others,
        n_pending=len(info.units) - len(committed) + copier.n_withdrawn,
        n_bytes=copier.n_bytes,
    )


class _Copier:
    """Copies units, each claimed in the target like one that is extracted: others may be at work there."""

    def __init__(
        self,
        source: Storage,
        target: Storage,
        info: KeyInfo,
        records: dict[int, Record],
        told: Callable[[Record], Record] = AS_IT_IS.record,
    ) -> None:
        self.source = source
        self.target = target
        self.info = info
        self.records = records
        self.told = told
        self.ids = read_ids(source, info)
        self.claims = Claims(target, info.path)
        self.n_copied = self.n_by_others = self.n_withdrawn = self.n_bytes = 0

    def check(self, record: Record) -> None:
        """Refuse a record of other objects or layers than its unit's.

        Raises:
            CorruptData: what it names.
        """
        _ = record.places_of_rows
        expected = unit_objects(self.info, record.layers, record.unit)
        others = sorted(set(record.objects) ^ expected)
        if not set(record.layers) <= set(self.info.layers):
            problem = f"it has layers {record.layers}, the key {list(self.info.layers)}"
        elif others:
            problem = f"it {'lacks' if others[0] in expected else 'names'} {others[0]!r}"
        else:
            return
        raise CorruptData(
            f"{self.source.url}: the record of unit {record.unit} of {self.info.path} is none of this unit: "
            f"{problem}; {REMEDY}"
        )

    def copy(self, units: Sequence[Unit], on_unit: Callable[[], None]) -> None:
        def is_committed(unit: Unit) -> bool:
            there = read_record(self.target, self.info.path, unit.index)
            return _covers(there, self.records[unit.index])

        def done_by_others(unit: Unit) -> None:
            self.n_by_others += 1
            on_unit()

        work = Work(
            claims=self.claims, units=units, is_committed=is_committed, on_done_by_others=done_by_others
        )
        with ThreadPoolExecutor(COPIERS) as pool:
            do_units(work, partial(self._unit, pool), lambda unit: on_unit())

    def _unit(self, pool: ThreadPoolExecutor, unit: Unit) -> None:
        """Copy and commit one unit as it is by now."""
        key, index = self.info.path, unit.index
        while True:
            record = self.records[index]
            self.check(record)
            there = read_record(self.target, key, index)
            if there is not None and any(
                there.objects.get(name, stored) != stored for name, stored in record.objects.items()
            ):
                # What a record names is never written over.
                withdraw_held(self.target, key, {index})
            if not self.claims.holds(index):
                raise ClaimLost
            copied = list(pool.map(partial(self._object, record), record.objects))
            if None not in copied:
                break
            found = read_record(self.source, key, index)
            if found is None or not is_complete(found, unit, []):
                self.n_withdrawn += 1
                return
            now = self.told(found)
            if now == record:
                bad = next(n for n, size in zip(record.objects, copied, strict=True) if size is None)
                raise CorruptData(f"{self.source.url}: {key}/{bad} does not match its record; {REMEDY}")
            self.records[index] = now  # done again while it was being copied
        if not self.claims.holds(index):
            raise ClaimLost
        commit(self.target, key, record)
        self.n_copied += 1
        self.n_bytes += sum(o.n_bytes for o in record.objects.values())

    def _object(self, record: Record, name: str) -> int | None:
        """Bytes copied; None where the source's object is not what the record says.

        Raises:
            CorruptData: it is, and holds no values of this unit.
        """
        data = self.source.get(f"{self.info.path}/{name}")
        if data is None or not record.objects[name].matches(
            describe_shard(data, self.info.shard_chunks(name))
        ):
            return None
        rows = slice(record.first_row, record.first_row + record.n_rows)
        if said := wrong_values(self.info, name, data, record.rows, self.ids[rows] != ""):
            raise CorruptData(f"{self.source.url}: {self.info.path}/{name}: {said[1]}; {REMEDY}")
        self.target.put(f"{self.info.path}/{name}", data)
        return len(data)


def _covers(there: Record | None, record: Record) -> bool:
    """Whether a record of the target says all that one of the source says: the same, or of more layers."""
    if there is None or there == record:
        return there is not None
    return (
        set(there.layers) > set(record.layers)
        and there.rows == record.rows
        and there.objects.items() >= record.objects.items()
    )


def _has_ids(target: Storage, info: KeyInfo, ids: np.ndarray) -> bool:
    try:
        return bool(np.array_equal(read_ids(target, info), ids))
    except CorruptData:
        return False
