"""Prove a store intact, or say exactly what is not; and re-queue what is not.

*Damage* is anything that makes a committed value unreadable or doubtful: a missing or changed object, a
document that is not the one the attributes call for, a value that contradicts its status, ids that the
manifest does not know. *Leftovers* are harmless: shards of units that were never committed, temporary
files of killed writers, claims of the dead, and files that are none of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from featurestore import layout
from featurestore.claims import CLAIMS_ARRAY
from featurestore.errors import CorruptData, StoreError
from featurestore.key import KeyInfo, read_key
from featurestore.ledger import LEDGER_ARRAY, Record, describe_object, is_complete, read_record
from featurestore.plan import Unit
from featurestore.storage import PARTIAL_SUFFIX, Storage
from featurestore.writer import MANIFEST_ARRAY, key_documents, read_stored_manifest

Kind = Literal["missing", "changed", "damaged", "wrong", "torn", "leftover", "foreign"]
DAMAGE: tuple[Kind, ...] = ("missing", "changed", "damaged", "wrong")
READERS = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: ``missing``, ``changed`` (not the checksum recorded), ``damaged`` (cannot be decoded) and
            ``wrong`` (contradicts its status, plan or manifest) are damage; ``torn`` (an uncommitted
            unit's objects), ``leftover`` and ``foreign`` are not.
        key: ``model/dataset``.
        unit: the unit it belongs to, None for what belongs to the key.
        object: object name below the root.
        message: what was expected and what is there.
    """

    kind: Kind
    key: str
    unit: int | None
    object: str
    message: str

    @property
    def is_damage(self) -> bool:
        """Whether committed values are affected."""
        return self.kind in DAMAGE

    def __str__(self) -> str:
        where = f" (unit {self.unit})" if self.unit is not None else ""
        return f"{self.kind}: {self.object}{where}: {self.message}"


@dataclass(kw_only=True)
class KeyReport:
    """What was found in one key.

    Attributes:
        key: ``model/dataset``.
        n_units: units of the plan.
        n_committed: units with a record.
        n_bytes: bytes of committed objects read.
        findings: everything found.
        repaired: what `repair` did, one line each.
        unrepaired: damage that `repair` could do nothing about.
    """

    key: str
    n_units: int = 0
    n_committed: int = 0
    n_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    unrepaired: list[str] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        """No damage; units may still be pending."""
        return not any(f.is_damage for f in self.findings)

    @property
    def is_mended(self) -> bool:
        """All damage found is repaired: what is left to do is an extraction."""
        return self.is_intact or (bool(self.repaired) and not self.unrepaired)


def verify_key(
    storage: Storage,
    model: str,
    dataset: str,
    *,
    repair: bool = False,
    on_unit: Callable[[], None] | None = None,
) -> KeyReport:
    """Read and check every committed object of a key.

    Args:
        storage: the root.
        model: its name in the store.
        dataset: its name in the store.
        repair: withdraw damaged units so that the next extraction does exactly these again, restore
            documents, and delete leftovers (foreign files stay).
        on_unit: called after each unit, for progress.

    Raises:
        KeyNotFound: there is no such key.
    """
    report = KeyReport(key=f"{model}/{dataset}")
    try:
        info = read_key(storage, model, dataset)
    except CorruptData as error:
        report.findings.append(
            Finding(
                kind="damaged",
                key=report.key,
                unit=None,
                object=f"{report.key}/zarr.json",
                message=f"{error}; it cannot be restored: extract with --overwrite",
            )
        )
        return report
    checker = _Checker(storage, info, report)
    checker.check(on_unit)
    if repair:
        _repair(storage, info, report)
    return report


class _Checker:
    def __init__(self, storage: Storage, info: KeyInfo, report: KeyReport) -> None:
        self.storage = storage
        self.info = info
        self.report = report
        self.units = info.units
        self.present = {k.removeprefix(f"{info.path}/"): n for k, n in storage.objects(info.path)}
        self.expected: set[str] = {"zarr.json"}
        self.known_ids: set[str] = set()

    def check(self, on_unit: Callable[[], None] | None) -> None:
        self._documents()
        manifest_ids = self._manifest()
        with ThreadPoolExecutor(READERS) as pool:
            for unit, found in zip(self.units, pool.map(self._unit, self.units), strict=True):
                findings, n_bytes, ids, expected = found
                self.report.findings += findings
                self.report.n_bytes += n_bytes
                self.expected |= expected
                for i in ids:
                    if i in self.known_ids:
                        self._find("wrong", unit.index, "utterance_id", f"id {i!r} stands twice")
                    elif manifest_ids is not None and i not in manifest_ids:
                        name = layout.row_chunk(MANIFEST_ARRAY, 0)
                        self._find("wrong", None, name, f"the manifest lacks utterance {i!r}")
                    self.known_ids.add(i)
                if on_unit:
                    on_unit()
        self.report.n_units = len(self.units)
        self._others()

    def _find(self, kind: Kind, unit: int | None, name: str, message: str) -> None:
        self.report.findings.append(self._finding(kind, unit, name, message))

    def _finding(self, kind: Kind, unit: int | None, name: str, message: str) -> Finding:
        path = self.info.path
        return Finding(kind=kind, key=path, unit=unit, object=f"{path}/{name}", message=message)

    def _documents(self) -> None:
        for name, document in key_documents(self.info).items():
            self.expected.add(name)
            data = self.storage.get(f"{self.info.path}/{name}")
            if data is None:
                self._find("missing", None, name, "the array's document is not there")
            elif not _same_json(data, document):
                self._find("changed", None, name, "not the document that the key's attributes call for")

    def _manifest(self) -> set[str] | None:
        name = layout.row_chunk(MANIFEST_ARRAY, 0)
        self.expected.add(name)
        try:
            return set(read_stored_manifest(self.storage, self.info).table["utterance_id"])
        except (CorruptData, StoreError, ValueError) as error:
            self._find("damaged", None, name, f"the stored manifest cannot be read ({error})")
            return None

    def _unit(self, unit: Unit) -> tuple[list[Finding], int, list[str], set[str]]:
        """Findings, bytes read, ids, and names of objects that belong to the unit."""
        u = unit.index
        id_name, ledger_name = layout.row_chunk("utterance_id", u), layout.row_chunk(LEDGER_ARRAY, u)
        expected = {id_name, ledger_name}
        findings: list[Finding] = []
        ids: np.ndarray | None = None
        try:
            data = self.storage.get(f"{self.info.path}/{id_name}")
            if data is None:
                findings.append(self._finding("missing", u, id_name, "the unit's ids are not there"))
            else:
                ids = layout.decode_rows("utterance_id", self.info.shape.unit_rows, data)[: unit.n_rows]
        except Exception as error:
            findings.append(self._finding("damaged", u, id_name, f"ids cannot be decoded ({_brief(error)})"))
        named = [str(i) for i in ids if i] if ids is not None else []
        try:
            record = read_record(self.storage, self.info.path, u)
        except CorruptData as error:
            findings.append(self._finding("damaged", u, ledger_name, _brief(error)))
            return findings, 0, named, expected
        if record is None:
            return findings, 0, named, expected
        if not is_complete(record, unit, []):
            message = (
                f"record of rows {record.first_row}+{record.n_rows}, planned {unit.first_row}+{unit.n_rows}"
            )
            findings.append(self._finding("wrong", u, ledger_name, message))
            return findings, 0, named, expected
        expected |= set(record.objects)
        n_bytes, objects = self._objects(unit, record, findings)
        self._values(unit, record, ids, objects, findings)
        self._frames(unit, record, objects, findings)
        return findings, n_bytes, named, expected

    def _objects(
        self, unit: Unit, record: Record, findings: list[Finding]
    ) -> tuple[int, Callable[[str], bytes | None]]:
        """Check size and checksum of every object; hand out those that are sound."""
        sound: dict[str, bool] = {}
        n_bytes = 0
        wanted = {layout.row_chunk(a, unit.index) for a in self.info.row_arrays if a != "utterance_id"}
        wanted |= {layout.layer_chunk(k, unit.index) for k in record.layers}
        if self.info.frames is not None:
            wanted |= {layout.frames_chunk(k, unit.index) for k in record.layers}
        for name in sorted(wanted - set(record.objects)):
            findings.append(self._finding("wrong", unit.index, name, "the unit's record does not name it"))
        for name, recorded in record.objects.items():
            data = self.storage.get(f"{self.info.path}/{name}")
            if data is None:
                findings.append(self._finding("missing", unit.index, name, "recorded, and not there"))
                continue
            n_bytes += len(data)
            found = describe_object(data)
            sound[name] = found == recorded
            if not sound[name]:
                message = (
                    f"recorded {recorded.n_bytes} bytes with CRC-32C {recorded.crc32c}, "
                    f"found {found.n_bytes} with {found.crc32c}"
                )
                findings.append(self._finding("changed", unit.index, name, message))

        def read(name: str) -> bytes | None:
            # Read again instead of kept: a unit's layers together may be larger than memory.
            return self.storage.get(f"{self.info.path}/{name}") if sound.get(name) else None

        return n_bytes, read

    def _values(
        self,
        unit: Unit,
        record: Record,
        ids: np.ndarray | None,
        read: Callable[[str], bytes | None],
        findings: list[Finding],
    ) -> None:
        """Statuses, failures and values agree with each other."""
        unit_rows = self.info.shape.unit_rows
        name = layout.row_chunk("status", unit.index)
        data = read(name)
        if data is None:
            return
        status = layout.decode_rows("status", unit_rows, data)[: unit.n_rows]
        ok = status == "ok"
        if ids is not None:
            failed = {
                str(i): str(s).removeprefix("failed: ")
                for i, s in zip(ids, status, strict=True)
                if i and str(s).startswith("failed: ")
            }
            recorded = {i: why for i, why in record.failed.items() if i in set(ids.tolist())}
            if failed != recorded:
                message = f"{len(failed)} failed rows, the record names {len(recorded)}"
                findings.append(self._finding("wrong", unit.index, name, message))
        for layer in record.layers:
            name = layout.layer_chunk(layer, unit.index)
            data = read(name)
            if data is None:
                continue
            try:
                values = layout.decode_layer(self.info.shape, data)[: unit.n_rows]
            except Exception as error:
                findings.append(self._finding("damaged", unit.index, name, _brief(error)))
                continue
            finite = np.isfinite(values).all(axis=(1, 2))
            if (ok & ~finite).any():
                message = f"{int((ok & ~finite).sum())} rows with status ok hold values that are not finite"
                findings.append(self._finding("wrong", unit.index, name, message))
            if (~ok & ~np.isnan(values).all(axis=(1, 2))).any():
                findings.append(self._finding("wrong", unit.index, name, "failed rows hold values"))

    def _frames(
        self,
        unit: Unit,
        record: Record,
        read: Callable[[str], bytes | None],
        findings: list[Finding],
    ) -> None:
        """The frames of every row are there and finite."""
        if self.info.frames is None:
            return
        counts = read(layout.row_chunk("n_frames", unit.index))
        if counts is None:
            return
        total = int(layout.decode_rows("n_frames", self.info.shape.unit_rows, counts)[: unit.n_rows].sum())
        for layer in record.layers:
            name = layout.frames_chunk(layer, unit.index)
            data = read(name)
            if data is None:
                continue
            try:
                frames = layout.decode_frames(self.info.frames, data)[:total]
            except Exception as error:
                findings.append(self._finding("damaged", unit.index, name, _brief(error)))
                continue
            if len(frames) < total or not np.isfinite(frames).all():
                findings.append(self._finding("wrong", unit.index, name, "frames are missing or not finite"))

    def _others(self) -> None:
        """Objects that no document, record or plan names."""
        units = {u.index for u in self.units}
        committed = 0
        for name in sorted(self.present):
            array, _, rest = name.partition("/")
            if name in self.expected:
                committed += array == LEDGER_ARRAY and rest != "zarr.json"
                continue
            index = rest.removeprefix("c/").split("/")[0]
            ours = array in {*layout.ROW_TYPES, LEDGER_ARRAY, CLAIMS_ARRAY} or (
                layout.parse_layer_name(array.replace("frames_", "layer_")) is not None
            )
            if name.rsplit("/", 1)[-1].endswith(PARTIAL_SUFFIX) and "/." in f"/{name}":
                self._find("leftover", None, name, "temporary file of a writer that was killed")
            elif array == CLAIMS_ARRAY and index.isdigit():
                self._find("leftover", int(index), name, "claim of a unit; a dead worker's expires by itself")
            elif ours and rest.startswith("c/") and index.isdigit():
                unit = int(index) if int(index) in units else None
                self._find("torn", unit, name, "written and never committed; the next extraction replaces it")
            else:
                self._find("foreign", None, name, "not part of the format; left alone")
        self.report.n_committed = committed


def _repair(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """Withdraw damaged units, restore documents and ids, delete leftovers; say what was done."""
    documents = key_documents(info)
    broken: set[int] = set()
    for finding in report.findings:
        name = finding.object.removeprefix(f"{info.path}/")
        if finding.kind in ("torn", "leftover"):
            storage.delete(finding.object)
            report.repaired.append(f"deleted {finding.object}")
        elif finding.is_damage and name in documents:
            storage.put(finding.object, documents[name])
            report.repaired.append(f"restored {finding.object}")
        elif finding.is_damage and finding.unit is not None:
            broken.add(finding.unit)
        elif finding.is_damage:
            report.unrepaired.append(f"not repaired: {finding.object}; `fs manifest attach` puts it back")
    for u in sorted(broken):
        storage.delete(f"{info.path}/{layout.row_chunk(LEDGER_ARRAY, u)}")
        report.repaired.append(f"unit {u} withdrawn: the next `fs extract` does it again")
    _restore_ids(storage, info, report)


def _restore_ids(storage: Storage, info: KeyInfo, report: KeyReport) -> None:
    """Give units whose ids are lost the utterances that no other unit has."""
    lost = {
        f.unit
        for f in report.findings
        if f.is_damage and f.unit is not None and f.object.startswith(f"{info.path}/utterance_id/")
    }
    if not lost:
        return
    unit_rows = info.shape.unit_rows
    known: set[str] = set()
    for unit in info.units:
        if unit.index not in lost:
            data = storage.get(f"{info.path}/{layout.row_chunk('utterance_id', unit.index)}")
            if data is not None:
                known |= set(layout.decode_rows("utterance_id", unit_rows, data).tolist())
    manifest = read_stored_manifest(storage, info).table["utterance_id"]
    free = sorted(set(manifest) - known)
    for unit in info.units:
        if unit.index in lost:
            ids, free = free[: unit.n_rows], free[unit.n_rows :]
            padded = np.array([*ids, *[""] * (unit.n_rows - len(ids))], dtype=object)
            name = layout.row_chunk("utterance_id", unit.index)
            storage.put(f"{info.path}/{name}", layout.encode_rows("utterance_id", unit_rows, padded))
            report.repaired.append(f"unit {unit.index}: ids restored from the manifest")


def foreign_objects(storage: Storage, keys: list[tuple[str, str]]) -> Iterator[str]:
    """Objects of the root that belong to no key and are not its documents."""
    documents = {"zarr.json", *(f"{m}/zarr.json" for m, _ in keys)}
    prefixes = tuple(f"{m}/{d}/" for m, d in keys)
    for name, _ in storage.objects(""):
        if name not in documents and not name.startswith(prefixes):
            yield name


def _same_json(a: bytes, b: bytes) -> bool:
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
