"""Copying keys between stores, local or remote; resumable, checked on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from featurestore import columns, layout
from featurestore.documents import put_documents, put_root_documents
from featurestore.errors import CorruptData, StoreError
from featurestore.history import copy_history
from featurestore.ids import ID_ARRAY
from featurestore.key import KeyInfo, read_key
from featurestore.ledger import Record, commit, describe_object, is_complete, read_ledger
from featurestore.publish import publish
from featurestore.storage import Storage
from featurestore.stored_manifest import MANIFEST_ARRAY

COPIERS = 4


@dataclass(frozen=True, kw_only=True)
class CopySummary:
    """What a copy did: units copied now, units that were there, bytes written, units still pending."""

    key: str
    n_copied: int
    n_present: int
    n_pending: int
    n_bytes: int


def copy_key(
    source: Storage,
    target: Storage,
    model: str,
    dataset: str,
    *,
    on_unit: Callable[[], None] | None = None,
) -> CopySummary:
    """Copy one key. Run again after an interruption, it copies what is missing.

    The target's group document is written last: until then the key does not exist there.

    Raises:
        KeyNotFound: the source has no such key.
        StoreError: the target has a key of that name that differs.
        CorruptData: an object of the source does not match its checksum; nothing damaged is copied.
    """
    info = read_key(source, model, dataset)
    group = layout.group_document(info.to_attributes())
    name = f"{info.path}/zarr.json"
    present = target.get(name)
    if present is not None and read_key(target, model, dataset) != info:
        raise StoreError(
            f"{target.url}: has another key {info.path} already; remove it with `fs rm`, or copy elsewhere"
        )
    put_root_documents(target, info)
    put_documents(target, info)
    _copy_object(source, target, f"{info.path}/{columns.entry_name(MANIFEST_ARRAY, 0)}")
    for ids in columns.column_objects(ID_ARRAY, info.n_rows):
        _copy_object(source, target, f"{info.path}/{ids}")
    copy_history(source, target, info.path)
    records = read_ledger(source, info.path)
    held = read_ledger(target, info.path)
    copied = there = pending = n_bytes = 0
    with ThreadPoolExecutor(COPIERS) as pool:
        for unit in info.units:
            record = records.get(unit.index)
            if record is None or not is_complete(record, unit, []):
                pending += 1
            elif held.get(unit.index) == record:
                there += 1
            else:
                n_bytes += _copy_unit(source, target, info, record, pool)
                copied += 1
            if on_unit:
                on_unit()
    target.put(name, group)
    publish(target, info)
    return CopySummary(key=info.path, n_copied=copied, n_present=there, n_pending=pending, n_bytes=n_bytes)


def _copy_unit(
    source: Storage, target: Storage, info: KeyInfo, record: Record, pool: ThreadPoolExecutor
) -> int:
    """Bytes copied."""

    def copy(name: str) -> int:
        key = f"{info.path}/{name}"
        data = source.get(key)
        if data is None or describe_object(data) != record.objects[name]:
            raise CorruptData(
                f"{source.url}: {key} does not match its record; `fs verify --repair` before copying"
            )
        target.put(key, data)
        return len(data)

    n_bytes = sum(pool.map(copy, record.objects))
    commit(target, info.path, record)
    return n_bytes


def _copy_object(source: Storage, target: Storage, key: str) -> None:
    data = source.get(key)
    if data is None:
        raise CorruptData(f"{source.url}: {key} is missing; `fs verify --repair` before copying")
    if target.get(key) != data:
        target.put(key, data)
