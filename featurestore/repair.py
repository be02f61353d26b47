"""Mend what `featurestore.verify` found: re-queue exactly the damaged units, restore all that can be."""

from __future__ import annotations

import numpy as np

from featurestore import columns
from featurestore.claims import live_claims
from featurestore.documents import key_documents
from featurestore.errors import CorruptData
from featurestore.history import HISTORY_ARRAY, give_up_entry, history_document
from featurestore.ids import ID_ARRAY, put_ids
from featurestore.key import KeyInfo
from featurestore.ledger import (
    LEDGER_ARRAY,
    SEALED_ARRAY,
    is_complete,
    read_entries,
    read_ledger,
    read_sealed,
    withdraw,
    write_sealed,
)
from featurestore.publish import publish
from featurestore.storage import Storage
from featurestore.stored_manifest import MANIFEST_ARRAY, read_stored_manifest
from featurestore.verify import KeyReport


def repair_key(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """Withdraw damaged units, restore documents, ledger copies, ids and columns, delete leftovers.

    What was done, and what could not be, is added to the report.
    """
    documents = key_documents(info) | {f"{HISTORY_ARRAY}/zarr.json": history_document()}
    busy = live_claims(storage, info.path)
    broken: set[int] = set()
    arrays: set[str] = set()
    for finding in report.findings:
        name = finding.object.removeprefix(f"{info.path}/")
        if finding.kind in ("torn", "leftover"):
            # What a running extraction has written and not committed yet looks the same.
            if finding.unit in busy or (busy and finding.unit is None):
                report.repaired.append(f"left alone, an extraction may be at work: {finding.object}")
                continue
            storage.delete(finding.object)
            report.repaired.append(f"deleted {finding.object}")
        elif finding.is_damage and name in documents:
            storage.put(finding.object, documents[name])
            report.repaired.append(f"restored {finding.object}")
        elif finding.is_damage and name == columns.entry_name(MANIFEST_ARRAY, 0):
            report.unrepaired.append(f"not repaired: {finding.object}; `fs manifest attach` puts it back")
        elif finding.is_damage and name.startswith(f"{HISTORY_ARRAY}/"):
            give_up_entry(storage, finding.object)
            report.repaired.append(f"marked as lost: {finding.object}; no value depends on it")
        elif finding.is_damage and finding.unit is not None:
            broken.add(finding.unit)
        elif finding.is_damage or finding.kind == "stale":
            arrays.add(name.split("/")[0])
    _drop_damaged_entries(storage, info, report)
    if SEALED_ARRAY in arrays:
        _mend_sealed(storage, info, report)
    if broken:
        withdraw(storage, info.path, broken)
    for u in sorted(broken):
        report.repaired.append(f"unit {u} withdrawn: the next `fs extract` does it again")
    if ID_ARRAY in arrays:
        _restore_ids(storage, info, report)
    rest = sorted(arrays - {SEALED_ARRAY, ID_ARRAY})
    if rest:
        report.repaired.append(f"written again from the ledger: {', '.join(rest)}")
    publish(storage, info)


def _drop_damaged_entries(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """A damaged entry stands in the way of reading the ledger at all: it goes first."""
    for finding in report.findings:
        if finding.kind == "damaged" and finding.object.startswith(f"{info.path}/{LEDGER_ARRAY}/c/"):
            storage.delete(finding.object)


def _mend_sealed(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """Write both copies of the sealed ledger from the one that is sound."""
    try:
        records = read_sealed(storage, info.path)
    except CorruptData:
        records = {}
    write_sealed(storage, info.path, records)
    if records:
        report.repaired.append(f"{info.path}/{SEALED_ARRAY}: both copies written from the sound one")
    else:
        left = len(read_entries(storage, info.path))
        report.repaired.append(
            f"{info.path}/{SEALED_ARRAY}: no copy is sound; {report.n_units - left} units are withdrawn, "
            "the next `fs extract` does them again"
        )


def _restore_ids(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """Ids of committed units from their records; units to be done get the utterances that are left."""
    try:
        wanted = set(read_stored_manifest(storage, info).table["utterance_id"])
    except CorruptData:
        report.unrepaired.append(
            f"not repaired: {info.path}/{ID_ARRAY}; it needs the manifest, `fs manifest attach` puts it back"
        )
        return
    ledger = read_ledger(storage, info.path)
    ids = np.full(info.n_rows, "", dtype=object)
    done: set[str] = set()
    for unit in reversed(info.units):
        record = ledger.get(unit.index)
        if record is not None and is_complete(record, unit, []):
            # An utterance that was pruned is in the record and not in the manifest, or in a later unit again.
            names = [i if i in wanted and i not in done else "" for i in record.rows[ID_ARRAY]]
            ids[unit.first_row : unit.stop_row] = names
            done |= set(names)
    free = sorted(wanted - done)
    for unit in info.units:
        record = ledger.get(unit.index)
        if record is None or not is_complete(record, unit, []):
            names, free = free[: unit.n_rows], free[unit.n_rows :]
            ids[unit.first_row : unit.first_row + len(names)] = names
    put_ids(storage, info, ids)
    report.repaired.append(f"{info.path}/{ID_ARRAY}: restored from the ledger and the manifest")
