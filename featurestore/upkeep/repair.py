"""Mend what `upkeep.verification` found: re-queue exactly the damaged units, restore all that can be.

Others may be at work meanwhile. Nothing of a unit is deleted or withdrawn but under its claim, and after its
record has been read once more; what belongs to the whole key is looked at once more before it is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import numpy as np

from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, KeyNotFound
from featurestore.format import row_arrays
from featurestore.format.decoding import same_json
from featurestore.format.row_arrays import (
    CLAIMS_ARRAY,
    HISTORY_ARRAY,
    ID_ARRAY,
    LEDGER_ARRAY,
    MANIFEST_ARRAY,
    SEALED_ARRAY,
)
from featurestore.printable import counted
from featurestore.store.claims import LEDGER_CLAIM, Claims, holding_ledger, live_claims, renewing
from featurestore.store.history import give_up_entry, history_document
from featurestore.store.key import KeyInfo, read_key
from featurestore.store.ledger import (
    Record,
    commit,
    entered_units,
    is_complete,
    read_ledger,
    read_record,
    read_sealed,
    read_sealed_if_sound,
    read_sound_record,
    withdraw_held,
    write_sealed,
)
from featurestore.store.row_columns import publish, put_ids, read_ids
from featurestore.store.stored_manifest import read_stored_manifest
from featurestore.store.zarr_documents import key_documents, put_attributes
from featurestore.upkeep.key_report import Finding, KeyReport
from featurestore.upkeep.reconstruction import told_records


def repair_key(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """Withdraw damaged units, restore documents, ledger copies, ids and columns, delete leftovers.

    What was done, and what could not be, is added to the report.
    """
    try:
        info = read_key(storage, info.model, info.dataset)
    except KeyNotFound:
        return  # removed meanwhile
    _Repair(storage, info, report).run()


class _Repair:
    def __init__(self, storage: Storage, info: KeyInfo, report: KeyReport) -> None:
        self.storage = storage
        self.info = info
        self.report = report
        self.claims = Claims(storage, info.path)
        # Units whose records were lost and are told by now.
        self.told: set[int] = set()

    def run(self) -> None:
        self._restore_documents()
        litter: dict[int | None, list[Finding]] = {}
        broken: set[int] = set()
        arrays: set[str] = set()
        for finding in self.report.findings:
            name = self._name(finding)
            if finding.kind in ("torn", "leftover"):
                litter.setdefault(_unit_of(name), []).append(finding)
            elif name.endswith("zarr.json"):
                continue  # restored already
            elif finding.is_damage and finding.remedy:
                self.report.give_up(finding.object, finding.remedy)
            elif finding.is_damage and name == row_arrays.entry_name(MANIFEST_ARRAY, 0):
                self.report.give_up(finding.object, "`fs manifest attach` puts it back")
            elif finding.is_damage and name.startswith(f"{HISTORY_ARRAY}/"):
                give_up_entry(self.storage, finding.object)
                self.report.repaired.append(f"marked as lost: {finding.object}; no value depends on it")
            elif finding.is_damage and finding.unit is not None:
                broken.add(finding.unit)
            elif finding.is_damage or finding.kind == "stale":
                arrays.add(name.split("/")[0])
        if SEALED_ARRAY in arrays:
            self._mend_sealed()
        with renewing(self.claims):
            self._withdraw(broken)
            for unit, findings in litter.items():
                self._clear(unit, findings)
        if ID_ARRAY in arrays:
            is_wrong = any(
                f.kind == "wrong" and self._name(f).startswith(ID_ARRAY) for f in self.report.findings
            )
            with holding_ledger(self.storage, self.info.path):  # who prunes or grows holds it, too
                self._restore_ids(is_wrong=is_wrong)
        rest = sorted(arrays - {SEALED_ARRAY, ID_ARRAY})
        if rest:
            self.report.repaired.append(f"written again from the ledger: {', '.join(rest)}")
        publish(self.storage, self.info)

    def _name(self, finding: Finding) -> str:
        return finding.object.removeprefix(f"{self.info.path}/")

    def _restore_documents(self) -> None:
        """Write documents as the attributes call for them, unless a run has made them right meanwhile.

        Who adds to a key writes its documents before its attributes, and holds the ledger meanwhile.
        """
        found = [f for f in self.report.findings if f.object.endswith("/zarr.json")]
        found = [f for f in found if f.kind not in ("foreign", "torn", "leftover")]
        if not found:
            return
        with holding_ledger(self.storage, self.info.path):
            info = read_key(self.storage, self.info.model, self.info.dataset)
            documents = key_documents(info) | {f"{HISTORY_ARRAY}/zarr.json": history_document()}
            for finding in found:
                name = self._name(finding)
                if name == "zarr.json":
                    if finding.kind != "damaged":  # then it has been restored already
                        put_attributes(self.storage, info)
                        said = f"written again, with its checksum: {finding.object}"
                        self.report.repaired.append(said)
                    continue
                if name not in documents:
                    continue  # replaced by another key
                if not same_json(self.storage.get(finding.object), documents[name]):
                    self.storage.put(finding.object, documents[name])
                self.report.repaired.append(f"restored {finding.object}")

    def _withdraw(self, units: Iterable[int]) -> None:
        """Take damaged units out of the ledger, unless they have been done again or are in work."""
        mine = []
        for u in sorted(units):
            if self.claims.take(u):
                mine.append(u)
            else:
                self.report.give_up(f"unit {u}", "it is in work; verify again when that is done")
        self._tell(mine)

        def still(unit: int, record: Record | None) -> bool:
            # A record that cannot be read is damage whatever was seen before.
            return self.claims.holds(unit) and (record is None or record == self.report.records.get(unit))

        gone = withdraw_held(self.storage, self.info.path, mine, still, lost=set())
        for u in mine:
            if u in gone:
                said = f"unit {u} withdrawn: the next `fs extract` does it again"
            elif u in self.told:
                said = f"unit {u} committed again, its record told from the columns and the shards"
            else:
                said = f"left alone, unit {u} has been done again meanwhile"
            self.report.repaired.append(said)
            self.claims.release(u)

    def _tell(self, units: Iterable[int]) -> None:
        """Commit again what has lost its record and is all there: for who holds the claims of the units."""
        lacking = {u for u in units if read_sound_record(self.storage, self.info.path, u) is None}
        wanted = [u for u in self.info.units if u.index in lacking]
        for u, record in told_records(self.storage, self.info, wanted).items():
            if self.claims.holds(u):
                commit(self.storage, self.info.path, record)
                self.told.add(u)

    def _clear(self, unit: int | None, findings: list[Finding]) -> None:
        """Delete what was never committed, or what the dead left, where it still is that."""
        if unit is None:
            busy = bool(live_claims(self.storage, self.info.path))
        else:
            busy = not self.claims.take(unit)
        if busy:
            self.report.repaired += [
                f"left alone, an extraction may be at work: {f.object}" for f in findings
            ]
            return
        for finding in findings:
            name = self._name(finding)
            if name == row_arrays.entry_name(CLAIMS_ARRAY, LEDGER_CLAIM):
                continue  # a dead owner's is taken over and let go of at the end of every run
            # A claim of the dead is this worker's own by now, and goes when it is let go of.
            if unit is None or name != row_arrays.entry_name(CLAIMS_ARRAY, unit):
                if not self._is_litter(unit, name):
                    if unit in self.told:
                        continue
                    self.report.repaired.append(f"left alone, recorded: {finding.object}")
                    continue
                self.storage.delete(finding.object)
            self.report.repaired.append(f"deleted {finding.object}")
        if unit is not None:
            self.claims.release(unit)

    def _is_litter(self, unit: int | None, name: str) -> bool:
        """Whether no record names an object, and nobody is about to: asked just before it is deleted."""
        if unit is None:
            return True
        try:
            record = read_record(self.storage, self.info.path, unit)
        except CorruptData:
            return False
        # The claim last: with it in hand nobody commits.
        return (record is None or name not in record.objects) and self.claims.holds(unit)

    def _mend_sealed(self) -> None:
        """Write both copies of the sealed ledger, each record from the copy in which it is sound."""
        path = self.info.path
        lost: set[int] = set()
        with holding_ledger(self.storage, path):
            records = read_sealed(self.storage, path, lost)
            if records and read_sealed_if_sound(self.storage, path) == records:
                return  # somebody wrote both meanwhile
            entries = set(entered_units(self.storage, path))
            lacking = [u for u in self.info.units if u.index not in records.keys() | entries]
            proved = told_records(self.storage, self.info, lacking)
            write_sealed(self.storage, path, records | proved)
        self.told |= proved.keys()
        said = "each record from the copy in which it is sound" if records else "no record is sound in any"
        if proved:
            said += f"; {counted(len(proved), 'record')} told from the columns and the shards"
        if gone := len(lacking) - len(proved):
            said += f"; {counted(gone, 'unit')} withdrawn: the next `fs extract` does them again"
        self.report.repaired.append(f"{path}/{SEALED_ARRAY}: both copies written, {said}")

    def _restore_ids(self, *, is_wrong: bool) -> None:
        """Ids of committed units from their records; units to be done get the utterances that are left."""
        storage, info = self.storage, self.info
        if not is_wrong:
            with contextlib.suppress(CorruptData):
                read_ids(storage, info)
                return  # somebody wrote them meanwhile
        try:
            wanted = set(read_stored_manifest(storage, info).table["utterance_id"])
        except CorruptData:
            advice = "it needs the manifest, `fs manifest attach` puts it back"
            self.report.give_up(f"{info.path}/{ID_ARRAY}", advice)
            return
        ledger = read_ledger(storage, info.path)
        ids = np.full(info.n_rows, "", dtype=object)
        done: set[str] = set()
        for unit in reversed(info.units):
            record = ledger.get(unit.index)
            if record is not None and is_complete(record, unit, []):
                # An utterance that was pruned is in the record and not in the manifest, or in a later unit
                # again.
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
        self.report.repaired.append(f"{info.path}/{ID_ARRAY}: restored from the ledger and the manifest")


def _unit_of(name: str) -> int | None:
    """The unit that an object below a key belongs to: of its shards, its record and its claim."""
    array, _, rest = name.partition("/c/")
    first = rest.split("/")[0]
    if array in (LEDGER_ARRAY, CLAIMS_ARRAY) or array.startswith(("layer_", "frames_")):
        # A temporary file of an object n of a folder is named .n.….partial.
        first = first.removeprefix(".").split(".")[0]
        return row_arrays.entry_number(first)
    return None
