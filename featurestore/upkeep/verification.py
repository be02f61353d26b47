"""Prove a store intact, or say exactly what is not; and re-queue what is not.

*Damage* is anything that makes a committed value unreadable or doubtful: a missing or changed object, a
document that is not the one the attributes call for, a value that contradicts its status, ids that the
manifest does not know. The rest is harmless: shards of units that were never committed, columns behind the
ledger, temporary files of killed writers, claims of the dead, and files that are none of ours.

Others may write meanwhile. What looks like damage is looked at once more, and is damage only where the record
that it contradicts still stands: what a record names is never written over, so that who does a unit again
takes its record away before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from featurestore.backends.read_faults import brief, if_sound, raise_if_not_damage
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, NotPlain, StoreError
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.decoding import parsed_json, same_json
from featurestore.format.row_arrays import (
    CLAIMS_ARRAY,
    HISTORY_ARRAY,
    ID_ARRAY,
    LEDGER_ARRAY,
    MANIFEST_ARRAY,
    SEALED_ARRAY,
    STATUS_ARRAY,
)
from featurestore.outputs import PARTIAL_SUFFIX
from featurestore.store.claims import LEDGER_CLAIM, holding_ledger
from featurestore.store.history import history_document, history_objects, unreadable_entries
from featurestore.store.key import KeyInfo, attributes_of, read_key, read_key_copy
from featurestore.store.ledger import (
    Record,
    entered_units,
    is_complete,
    read_entry,
    read_ledger,
    read_record,
    read_sealed_copy,
    read_sound_record,
    read_sound_records,
)
from featurestore.store.plan import Unit
from featurestore.store.reader import Features
from featurestore.store.row_columns import columns_of, is_whole
from featurestore.store.stored_manifest import read_stored_manifest
from featurestore.store.zarr_documents import (
    documents_before,
    key_document,
    key_documents,
    put_attributes,
    root_documents,
)
from featurestore.upkeep.key_report import Finding, KeyReport, Kind
from featurestore.upkeep.reconstruction import contradicted, restored_key
from featurestore.upkeep.shard_values import MOST_CHARACTERS, wrong_unit

# Units looked at at once.
CHECKERS = 4
SHOWN_ROWS = 8
# Looks at what seems damaged in what others may be writing, and the pause between them.
LOOKS = 3
LOOK_AGAIN_S = 0.2
OWN_FILE = "put the file or folder itself there, or remove it, and verify again"


def verify_key(
    storage: Storage,
    model: str,
    dataset: str,
    *,
    repair: bool = False,
    on_unit: Callable[[], None] = lambda: None,
) -> KeyReport:
    """Read and check every committed object of a key.

    To `repair` it is to withdraw damaged units, so that the next extraction does exactly these again, to
    restore documents, and to delete leftovers (foreign files stay). `on_unit` is called after each unit.

    Raises:
        KeyNotFound: there is no such key.
    """
    report = KeyReport(key=f"{model}/{dataset}")
    try:
        _verify(storage, report, repair=repair, on_unit=on_unit)
    except NotPlain as error:  # a folder in a file's place, which no listing tells from others
        report.find("damaged", "", str(error))
        if repair:
            report.give_up(report.key, OWN_FILE)
    return report


def _verify(storage: Storage, report: KeyReport, *, repair: bool, on_unit: Callable[[], None]) -> None:
    model, dataset = report.key.split("/")
    strangers = _strangers(storage, report.key)
    if found := {name: what for name, what in strangers.items() if _is_ours(name.partition("/")[0])}:
        _block(storage, report, found, repair=repair)
        return
    info, problem = _read_and_compare(storage, model, dataset)
    if problem is not None:
        report.find("damaged", "zarr.json", problem)
        document = f"{report.key}/zarr.json"
        try:
            info = restored_key(storage, model, dataset)
        except CorruptData as error:
            report.give_up(document, f"it cannot be restored ({error}): extract with --overwrite")
            return
        if repair:
            with holding_ledger(storage, report.key):  # whoever adds to it holds it too
                now, problem_now = _read_and_compare(storage, model, dataset)
                if now is not None and problem_now is None:
                    info = now
                else:
                    put_attributes(storage, info)
            info = dataclasses.replace(info, has_checksum=True)
            report.repaired.append(f"restored {document}")
    assert info is not None
    checker = _Checker(storage, info, report, strangers, doubted=problem is not None)
    checker.check(on_unit)
    if repair:
        from featurestore.upkeep.repair import repair_key

        repair_key(storage, info, report)


def _strangers(storage: Storage, path: str) -> dict[str, str]:
    """Links, pipes and the like in a key, sorted: name below it, "" for its own folder → what it is."""
    prefix = f"{path}/"
    try:
        return {k.removeprefix(prefix): what for k, what in sorted(storage.strangers(path))}
    except NotPlain as error:  # the folder itself, or that of its model
        return {"": str(error)}


def _is_ours(array: str) -> bool:
    """Whether a file or folder of the key belongs there; "" is the key itself."""
    fixed = {
        "",
        "zarr.json",
        *row_arrays.ROW_TYPES,
        LEDGER_ARRAY,
        SEALED_ARRAY,
        CLAIMS_ARRAY,
        MANIFEST_ARRAY,
        HISTORY_ARRAY,
    }
    return array in fixed or layer_arrays.parse_layer_name(array.replace("frames_", "layer_")) is not None


def _block(storage: Storage, report: KeyReport, found: Mapping[str, str], *, repair: bool) -> None:
    """Say what is in the way: nothing is read through it, and so no value of the key is checked."""
    for name, what in found.items():
        message = f"{what}, where a file or folder of the key belongs; no value was checked" if name else what
        report.find("damaged", name, message)
        if repair:
            report.give_up(report.findings[-1].object, OWN_FILE)
    with contextlib.suppress(StoreError):
        features = Features(storage, read_key(storage, *report.key.split("/")))
        report.n_units, report.n_committed = len(features.info.units), len(features.units)


def _read_and_compare(storage: Storage, model: str, dataset: str) -> tuple[KeyInfo | None, str | None]:
    """The attributes of a key as its document tells them, and what is wrong with that document."""
    info, problem = None, None
    for _ in _looks():  # who grows a key writes its arrays first and commits units last
        try:
            info = read_key(storage, model, dataset)
        except CorruptData as error:
            info, problem = None, str(error.__cause__ or error)
            continue
        problem = contradicted(storage, info)
        if problem is None:
            break
    return info, problem


def _looks(most: int = LOOKS) -> Iterator[int]:
    """Numbers of the looks at what others may be writing, each after a pause."""
    for look in range(most):
        if look:
            time.sleep(LOOK_AGAIN_S)
        yield look


class _Checker:
    def __init__(
        self,
        storage: Storage,
        info: KeyInfo,
        report: KeyReport,
        strangers: Mapping[str, str],
        *,
        doubted: bool = False,
    ) -> None:
        self.storage = storage
        self.info = info
        # Whether the key's own document is damaged, and `info` told by others.
        self.doubted = doubted
        self.report = report
        self.units = info.units
        self.strangers = strangers
        listed = {k.removeprefix(f"{info.path}/") for k, _ in storage.objects(info.path)}
        self.present = listed - strangers.keys()
        self.expected: set[str] = {"zarr.json"}

    def check(self, on_unit: Callable[[], None]) -> None:
        ids = self._of_key()
        ledger = self._ledger()
        self.report.n_units = len(self.units)
        with ThreadPoolExecutor(CHECKERS) as pool:
            looked = pool.map(lambda u: self._unit(u, ledger.get(u.index), ids), self.units)
            for unit, (record, findings, n_bytes) in zip(self.units, looked, strict=True):
                self.report.findings += findings
                self.report.n_bytes += n_bytes
                if record is not None:
                    self.report.records[unit.index] = record
                    self.report.n_committed += is_complete(record, unit, [])
                on_unit()
        self._places()
        self._columns(ledger)
        self._history()
        self._others()

    def _of_key(self) -> np.ndarray | None:
        """Check documents, manifest and ids, which who grows a key writes before its attributes."""
        before = self.report.findings
        # Where the key's own document is damaged nothing is read again that could be newer.
        for look in _looks(1 if self.doubted else LOOKS):
            if look:
                with contextlib.suppress(CorruptData):
                    self.info = read_key(self.storage, self.info.model, self.info.dataset)
                    self.units = self.info.units
            self.report.findings = []
            self._documents()
            ids = self._ids(self._manifest())
            if not self.report.findings:
                break
        self.report.findings = before + self.report.findings
        return ids

    def _places(self) -> None:
        """Rows that the manifest lists where nobody has found their audio."""
        for _ in _looks():  # who embeds again what moved writes units first, the manifest then
            try:
                features = Features(self.storage, self.info)
                misplaced = features.misplaced().tolist()
            except CorruptData:
                return  # ids, manifest or ledger contradict each other, or are damaged: that is found already
            if not misplaced:
                return
        name = row_arrays.entry_name(MANIFEST_ARRAY, 0)
        said = [features.misplacement(row) for row in misplaced[:SHOWN_ROWS]]
        if len(misplaced) > SHOWN_ROWS:
            said.append(f"and {len(misplaced) - SHOWN_ROWS:,} utterances more")
        remedy = "`fs extract` with its manifest compares the audio, --refresh embeds it again"
        for message in said:
            self.report.find("wrong", name, message, remedy=remedy)

    def _get(self, name: str) -> bytes | None:
        return self.storage.get(f"{self.info.path}/{name}")

    def _documents(self) -> None:
        history = dict.fromkeys(history_objects(self.present)[:1], history_document())
        before = documents_before(self.info)
        # Of what the key is about to become: who adds to it writes its attributes last.
        copy = read_key_copy(self.storage, self.info.model, self.info.dataset)
        grown = key_documents(copy) if copy is not None and copy.is_growth_of(self.info) else {}
        if not self.doubted:
            self._own_document()
        for name, document in (key_documents(self.info) | history).items():
            self.expected.add(name)
            data = self._get(name)
            if data is not None and any(same_json(data, earlier) for earlier in before.get(name, ())):
                continue  # what that means for the whole key is said of its own
            if data is None:
                self.report.find("missing", name, "the array's document is not there")
            elif name in grown and same_json(data, grown[name]):
                message = "of a run that adds to the key, and is at it or was killed; the next one ends it"
                self.report.find("stale", name, message)
            elif not same_json(data, document):
                self.report.find("changed", name, "not the document that the key's attributes call for")

    def _own_document(self) -> None:
        """The key's own document: its attributes are known to be sound; what else there is of it."""
        data = self._get("zarr.json") or b""
        try:
            told = {**parsed_json(data), "attributes": attributes_of(data)}
        except (ValueError, TypeError, CorruptData):
            told = {}
        wanted = json.loads(key_document(self.info))
        if not self.info.has_checksum:
            message = "its attributes have no checksum, as earlier versions wrote them; --repair adds it"
            self.report.find("stale", "zarr.json", message)
        elif any(told.get(name) != value for name, value in wanted.items() if name != "attributes"):
            self.report.find("changed", "zarr.json", "not the document of a Zarr group")

    def _manifest(self) -> set[str] | None:
        name = row_arrays.entry_name(MANIFEST_ARRAY, 0)
        self.expected.add(name)
        try:
            return set(read_stored_manifest(self.storage, self.info).table["utterance_id"])
        except CorruptData as error:
            self.report.find("damaged", name, f"the stored manifest cannot be read ({error})")
            return None

    def _ids(self, manifest_ids: set[str] | None) -> np.ndarray | None:
        """The ids of all rows, checked against each other and the manifest; None if they cannot be read."""
        found: dict[str, np.ndarray] = {}
        sound = True
        for name in row_arrays.column_objects(ID_ARRAY, self.info.n_rows):
            self.expected.add(name)
            data = self._get(name)
            if data is None:
                self.report.find("missing", name, "the rows' ids are not there")
                sound = False
                continue
            try:
                found[name] = row_arrays.decode_column_object(ID_ARRAY, self.info.n_rows, name, data)
            except Exception as error:
                raise_if_not_damage(error)
                self.report.find("damaged", name, f"ids cannot be decoded ({brief(error, MOST_CHARACTERS)})")
                sound = False
        if not sound:
            return None
        ids = np.concatenate(list(found.values())) if found else np.zeros(0, dtype=object)
        named, counts = np.unique(ids[ids != ""].astype(str), return_counts=True)
        for i in named[counts > 1]:
            self.report.find("wrong", next(iter(found)), f"id {str(i)!r} stands twice")
        if manifest_ids is not None and set(named.tolist()) != manifest_ids:
            self._compare_ids(ids, manifest_ids)
        return ids

    def _compare_ids(self, ids: np.ndarray, manifest_ids: set[str]) -> None:
        """Whose fault it is that ids and manifest differ: what was embedded is in the records."""
        records = read_sound_records(self.storage, self.info.path)
        embedded = {i for r in records.values() for i in r.rows[ID_ARRAY]} - {""}
        # Of rows to be embedded yet: who grew the key was killed before the manifest listed them.
        planned = {i for u in self.units if u.index not in records for i in ids[u.first_row : u.stop_row]}
        name = row_arrays.entry_name(MANIFEST_ARRAY, 0)
        for i in sorted(set(ids) - {""} - manifest_ids):
            if i in planned or i in embedded:
                remedy = "`fs extract` as before lists it, --prune leaves it out" if i in planned else ""
                self.report.find("wrong", name, f"the manifest lacks utterance {i!r}", remedy=remedy)
            else:
                self.report.find("wrong", ID_ARRAY, f"{i!r} is in no record and not in the manifest")
        for i in sorted((manifest_ids & embedded) - set(ids)):
            message = f"no row is that of utterance {i!r}, which was embedded and is in the manifest"
            self.report.find("wrong", ID_ARRAY, message)

    def _ledger(self) -> dict[int, Record]:
        """Every record that can be read; entries before sealed ones, as readers do."""
        records: dict[int, Record] = {}
        folder = f"{LEDGER_ARRAY}/c/"
        for name in sorted(n for n in self.present if n.startswith(folder)):
            unit = row_arrays.entry_number(name[len(folder) :])
            if unit is None:
                continue
            self.expected.add(name)
            try:
                record = read_entry(self.storage, self.info.path, unit)
            except CorruptData as error:
                self.report.find("damaged", name, brief(error, MOST_CHARACTERS), unit)
                continue
            if record is not None:
                records[unit] = record
        return self._sealed() | records

    def _sealed(self) -> dict[int, Record]:
        found: dict[int, Record] = {}
        copies = []
        for copy in reversed(range(row_arrays.SEALED_COPIES)):
            folder = f"{SEALED_ARRAY}/c/{copy}/"
            names = sorted(n for n in self.present if n.startswith(folder))
            self.expected |= set(names)
            try:
                copies.append(read_sealed_copy(self.storage, self.info.path, copy))
            except CorruptData as error:
                for name in names:
                    self.report.find("damaged", name, brief(error, MOST_CHARACTERS))
                continue
            found = copies[-1] or found
        if len(copies) > 1 and any(c != copies[0] for c in copies):
            message = "its copies differ, as when a writer was killed between them; the next run writes both"
            self.report.find("stale", SEALED_ARRAY, message)
        return found

    def _unit(
        self, unit: Unit, record: Record | None, ids: np.ndarray | None
    ) -> tuple[Record | None, list[Finding], int]:
        """The record of one unit, findings that contradict it as it stands by then, and bytes read."""
        for _ in range(LOOKS):
            if record is None:
                return None, [], 0
            self.expected |= set(record.objects)
            findings, n_bytes = wrong_unit(self.storage, self.info, unit, record, ids)
            if not findings:
                return record, findings, n_bytes
            try:
                now = read_record(self.storage, self.info.path, unit.index)
            except CorruptData:
                now = record
            if now == record:
                return record, findings, n_bytes
            record = now
        # Done again each time that it was looked at: in work, and nothing can be said of it.
        return None, [], n_bytes

    def _columns(self, ledger: Mapping[int, Record]) -> None:
        """What plain Zarr readers see of the rows: written at the end of a run, it may lag, and not lie."""
        before = self.report.findings
        for look in _looks():
            if look:
                try:
                    ledger = read_ledger(self.storage, self.info.path)
                except CorruptData:
                    break
            self.report.findings = []
            self._columns_of(ledger)
            if self.report.is_intact:
                break
        self.report.findings = before + self.report.findings

    def _columns_of(self, ledger: Mapping[int, Record]) -> None:
        self._lost_records(ledger)
        sealed = not entered_units(self.storage, self.info.path)
        for array, values in columns_of(self.info, ledger).items():
            wanted = row_arrays.encode_column(array, values)
            for name in row_arrays.column_objects(array, self.info.n_rows):
                self.expected.add(name)
                data = self._get(name)
                if data == wanted.get(name):
                    continue
                decoded = partial(row_arrays.decode_column_object, array, self.info.n_rows, name, data or b"")
                if data is not None and if_sound(decoded) is None:
                    self.report.find("damaged", name, "cannot be decoded")
                elif sealed and is_whole(self.info, ledger):
                    kind: Kind = "missing" if data is None else "wrong"
                    self.report.find(kind, name, "not what the ledger says")
                else:
                    self.report.find("stale", name, "behind the ledger; the end of the next run writes it")

    def _lost_records(self, ledger: Mapping[int, Record]) -> None:
        """Units that the columns show and no record tells: statuses are emptied before one is taken away."""
        n_rows = self.info.n_rows
        shown = row_arrays.filled(STATUS_ARRAY, n_rows)
        for i, name in enumerate(row_arrays.column_objects(STATUS_ARRAY, n_rows)):
            with contextlib.suppress(ValueError):  # not there, or damaged, which is said of it
                part = row_arrays.decode_column_object(STATUS_ARRAY, n_rows, name, self._get(name) or b"")
                shown[i * row_arrays.ROWS_PER_OBJECT :][: len(part)] = part
        for unit in self.units:
            if unit.index in ledger or (shown[unit.first_row : unit.stop_row] == "").all():
                continue
            with contextlib.suppress(CorruptData):  # then it is there, and that is said of it
                if read_record(self.storage, self.info.path, unit.index) is None:
                    message = "its rows are shown as embedded, and their record is not there"
                    name = row_arrays.entry_name(LEDGER_ARRAY, unit.index)
                    self.report.find("missing", name, message, unit.index)

    def _history(self) -> None:
        names = history_objects(self.present)
        self.expected |= {*names, f"{HISTORY_ARRAY}/zarr.json"}
        for name in unreadable_entries(self.storage, self.info.path, names):
            self.report.find("damaged", name, "the record of a call that made or changed this key is lost")

    def _others(self) -> None:
        """Objects that no document, record or plan names."""
        units = {u.index for u in self.units}
        torn: dict[int, list[str]] = {}
        for name in sorted(set(self.present) - self.expected):
            array, _, rest = name.partition("/")
            index = rest.removeprefix("c/").split("/")[0]
            unit = row_arrays.entry_number(index)
            ours = layer_arrays.parse_layer_name(array.replace("frames_", "layer_")) is not None
            if name.rsplit("/", 1)[-1].endswith(PARTIAL_SUFFIX) and "/." in f"/{name}":
                self.report.find("leftover", name, "temporary file of a writer that was killed")
            elif array == CLAIMS_ARRAY and (unit is not None or index == LEDGER_CLAIM):
                self.report.find("leftover", name, "claim of a unit; a dead worker's expires by itself", unit)
            elif ours and rest.startswith("c/") and unit is not None:
                torn.setdefault(unit, []).append(name)
            else:
                self.report.find("foreign", name, "not part of the format; left alone")
        for name, what in self.strangers.items():
            self.report.find("foreign", name, f"{what}, which is never followed; left alone")
        for u, names in torn.items():
            # Committed since the ledger was read?
            record = read_sound_record(self.storage, self.info.path, u)
            for name in names:
                if record is None or name not in record.objects:
                    message = "written and never committed; the next extraction replaces it"
                    self.report.find("torn", name, message, u if u in units else None)


def verify_root(storage: Storage, models: list[str], *, repair: bool = False) -> list[Finding]:
    """Damage in the documents above all keys, which `repair` restores."""
    findings = []
    for name, document in root_documents(sorted(set(models))).items():
        data = storage.get(name)
        if data is not None and same_json(data, document):
            continue
        kind: Kind = "missing" if data is None else "changed"
        message = "not the document of a group of this format" + ("; restored" if repair else "")
        findings.append(Finding(kind=kind, key="", unit=None, object=name, message=message))
        if repair:
            storage.put(name, document)
    return findings


def foreign_objects(storage: Storage, keys: list[tuple[str, str]]) -> Iterator[str]:
    """Objects of the root that belong to no key and are not its documents."""
    documents = {"zarr.json", *(f"{m}/zarr.json" for m, _ in keys)}
    prefixes = tuple(f"{m}/{d}/" for m, d in keys)
    for name, _ in storage.objects(""):
        if name not in documents and not name.startswith(prefixes):
            yield name
