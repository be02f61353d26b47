"""The record of committed units. A unit without a valid record does not exist.

The ledger of a key is the Zarr text array ``ledger``, one entry per unit, each its own object: the entry
is empty until the unit is committed and then holds one JSON record, with everything that is known of the
unit's rows. It is written last, after every object it names, in one atomic operation.

Once all units of a key are committed, their records are *sealed*: put together into the array
``ledger_sealed``, in two copies, and taken out of ``ledger``. A unit that is done again or extended after
that has an entry in ``ledger`` again, which counts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from featurestore.backends.read_faults import decoding
from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, KeyNotFound
from featurestore.fingerprint import canonical_json
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.decoding import parsed_json
from featurestore.format.row_arrays import FAILED, LEDGER_ARRAY, SEALED_ARRAY, STATUS_ARRAY, STATUS_OK
from featurestore.manifest.audio_places import Places
from featurestore.manifest.table import MOST_SECONDS
from featurestore.store.claims import Claims, holding, holding_ledger
from featurestore.store.key import MOST_LAYERS, MOST_UNIT_ROWS, KeyInfo, read_key
from featurestore.store.plan import Unit

# Records fetched at once: a remote store answers each in milliseconds.
RECORD_READERS = 16
# Bounds of a record besides those of its key. Row numbers: those of Zarr's 64-bit indices and far from their
# end. Bytes of an object: a terabyte.
MOST_FIRST_ROW = 2**50
MOST_BYTES = 2**40 - 1
MOST_FRAMES = 2**31 - 1  # of an utterance: the column is int32
_CRC = re.compile(r"[0-9a-f]{8}")
_PLACE_COLUMNS = ("path", "n_bytes", "mtime_ns", "file", "start_s", "end_s", "channel")


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object of a unit.

    Attributes:
        n_bytes: its size.
        crc32c: of all of its bytes. Since every inner chunk ends in its own CRC-32C, it is the same for all
            sound shards of one layout: it finds bytes that changed, and no whole shard in another's place.
        sums: CRC-32C of the inner chunks' checksums, one after the other: other values have another. "" in
            records of versions that did not keep it.
    """

    n_bytes: int
    crc32c: str
    sums: str = ""

    def matches(self, found: StoredObject) -> bool:
        """Whether an object is the one that was recorded, as far as the record tells."""
        same_bytes = (self.n_bytes, self.crc32c) == (found.n_bytes, found.crc32c)
        return same_bytes and self.sums in ("", found.sums)

    def __str__(self) -> str:
        sums = f"/{self.sums}" if self.sums else ""
        return f"{self.n_bytes} bytes with CRC-32C {self.crc32c}{sums}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a committed unit holds.

    Attributes:
        unit, first_row, n_rows: which rows.
        layers: layers that are complete for these rows.
        objects: key-relative object name → size and checksum, for every object of the unit.
        rows: column → one value per row: ``utterance_id``, ``status`` ("ok" or "failed: why", then its
            values are NaN), ``n_frames``, ``duration_s`` (None: unknown), ``audio_hash``.
        audio_s: seconds of audio embedded.
        elapsed_s: wall-clock seconds the unit took.
        started_at: UTC, ISO 8601.
        host: machine that wrote it.
        versions: packages and device it was made with.
        places: what each row was embedded from, see `featurestore.manifest.audio_places`; None in records of
            versions that did not keep it, and of imported values.
    """

    unit: int
    first_row: int
    n_rows: int
    layers: list[int]
    objects: Mapping[str, StoredObject]
    rows: Mapping[str, Sequence[Any]]
    audio_s: float = 0.0
    elapsed_s: float = 0.0
    started_at: str = ""
    host: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Sequence[Any]] | None = None

    @property
    def failed(self) -> dict[str, str]:
        """Utterance id → why its audio failed."""
        pairs = zip(self.rows["utterance_id"], self.rows["status"], strict=True)
        return {i: s.removeprefix(FAILED) for i, s in pairs if s.startswith(FAILED)}

    def column(self, name: str) -> np.ndarray:
        """One column of the rows `[n_rows]`, in the dtype of the Zarr array of that name."""
        dtype, fill = row_arrays.ROW_ARRAYS[name]
        if dtype == "string":
            return np.array(self.rows[name], dtype=object)
        return np.array([fill if v is None else v for v in self.rows[name]], dtype=dtype)

    @cached_property
    def places_of_rows(self) -> Places:
        """What each row was embedded from; unknown where the record does not say.

        Raises:
            CorruptData: what the record says of it is none.
        """
        try:
            return Places.unknown(self.n_rows) if self.places is None else Places.from_json(self.places)
        except (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise CorruptData(
                f"ledger record of unit {self.unit}: its places are damaged ({error}); "
                "run `fs verify --repair`"
            ) from error

    def to_json(self) -> str:
        """Canonical JSON text; without a field that earlier versions do not know where it says nothing."""
        raw = dataclasses.asdict(self)
        if self.places is None:
            del raw["places"]
        for stored in raw["objects"].values():
            if not stored["sums"]:
                del stored["sums"]
        return canonical_json(raw)

    @classmethod
    def from_json(cls, text: str, unit: int | None = None) -> Record:
        """Inverse of `to_json`; fields of later versions are ignored.

        Args:
            text: as kept.
            unit: the unit in whose place it stands; None where that is not known.

        Raises:
            ValueError: the text is not a record, contradicts itself, or is that of another unit.
        """
        try:
            record = cls(**_checked(parsed_json(text)))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a ledger record: {error}") from error
        if unit is not None and record.unit != unit:
            raise ValueError(f"not a ledger record: that of unit {record.unit} in the place of unit {unit}")
        return record


def _checked(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `Record` from its JSON: of their types, in their ranges, each fitting the others.

    Types and ranges of columns are looked at by C code alone: a key may have a million rows.

    Raises:
        TypeError, KeyError, AttributeError: they are not.
    """
    unit = _whole(raw["unit"], 0, MOST_FIRST_ROW, "unit")
    n_rows = _whole(raw["n_rows"], 1, MOST_UNIT_ROWS, "n_rows")
    layers = _list_of(raw["layers"], {int}, "layers")
    if layers != sorted(set(layers)) or not all(0 <= k < MOST_LAYERS for k in layers):
        raise TypeError(f"layers that are not sorted numbers from 0 to {MOST_LAYERS - 1}")
    objects = {name: _stored_object(name, o) for name, o in raw["objects"].items()}
    values = {layer_arrays.layer_chunk(k, unit) for k in layers}
    if objects.keys() not in (values, values | {layer_arrays.frames_chunk(k, unit) for k in layers}):
        raise TypeError(f"objects that are not those of its {len(layers)} layers")
    known: dict[str, Any] = {
        "unit": unit,
        "first_row": _whole(raw["first_row"], 0, MOST_FIRST_ROW, "first_row"),
        "n_rows": n_rows,
        "layers": layers,
        "objects": objects,
        "rows": _rows(raw["rows"], n_rows, has_frames=len(objects) > len(values)),
    }
    for name in ("audio_s", "elapsed_s"):
        if name in raw:
            known[name] = raw[name]
            if type(raw[name]) not in (int, float) or not -MOST_SECONDS <= raw[name] <= MOST_SECONDS:
                raise TypeError(f"{name} is no number of seconds")
    for name in ("started_at", "host"):
        if name in raw:
            known[name] = raw[name]
            _list_of([raw[name]], {str}, name)
    if "versions" in raw:
        known["versions"] = dict(raw["versions"].items())
        _list_of(list(known["versions"].values()), {str, int, float, type(None)}, "versions")
    if raw.get("places") is not None:
        known["places"] = _places(raw["places"], n_rows)
    return known


def _whole(value: Any, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:  # True is an int to isinstance
        raise TypeError(f"{what} is no whole number from {low} to {high}")
    return value


def _list_of(values: Any, types: set[type], what: str, n: int | None = None) -> list[Any]:
    """`values`, if they are a list of these very types, and `n` long."""
    if type(values) is not list or not set(map(type, values)) <= types:
        raise TypeError(f"{what} of another type than expected")
    if n is not None and len(values) != n:
        raise TypeError(f"{len(values)} values of {what}, {n} rows")
    return values


def _stored_object(name: str, raw: Mapping[str, Any]) -> StoredObject:
    crc32c, sums = raw["crc32c"], raw.get("sums", "")
    _list_of([crc32c, sums], {str}, f"checksums of {name}")
    if not _CRC.fullmatch(crc32c) or not (sums == "" or _CRC.fullmatch(sums)):
        raise TypeError(f"checksums of {name} are not 8 hexadecimal digits")
    return StoredObject(n_bytes=_whole(raw["n_bytes"], 0, MOST_BYTES, "n_bytes"), crc32c=crc32c, sums=sums)


def _rows(raw: Mapping[str, Any], n_rows: int, *, has_frames: bool) -> dict[str, list[Any]]:
    nothing = type(None)
    ids = _list_of(raw["utterance_id"], {str}, "utterance_id", n_rows)
    status = _list_of(raw["status"], {str}, "status", n_rows)
    n_frames = _list_of(raw["n_frames"], {int, nothing}, "n_frames", n_rows)
    duration_s = _list_of(raw["duration_s"], {int, float, nothing}, "duration_s", n_rows)
    hashes = _list_of(raw["audio_hash"], {str}, "audio_hash", n_rows)
    named = [i for i in ids if i]
    if len(set(named)) != len(named):
        raise TypeError("an utterance_id that stands twice")
    for name, text in set(zip((bool(i) for i in ids), status, strict=True)):
        # Rows that are nobody's, as those that were pruned before they were embedded, have none.
        if text != STATUS_OK and not text.startswith(FAILED) and (name or text):
            raise TypeError(f"status {text[:40]!r}")
    counts = [n for n in n_frames if n is not None]
    fewest = 0 if has_frames else -1  # -1: imported, and not known
    if counts and not fewest <= min(counts) <= max(counts) <= MOST_FRAMES:
        raise TypeError("n_frames out of range")
    times = [t for t in duration_s if t is not None]
    if times and not 0 <= min(times) <= max(times) <= MOST_SECONDS:
        raise TypeError("duration_s out of range")
    values = (ids, status, n_frames, duration_s, hashes)
    return dict(zip(row_arrays.ROW_ARRAYS, values, strict=True))


def _places(raw: Mapping[str, Any], n_rows: int) -> dict[str, list[Any]]:
    """Flat columns of places; what they say is looked at when it is asked for: `Record.places_of_rows`."""
    places = {n: _list_of(raw[n], {str, int, float}, f"places: {n}") for n in _PLACE_COLUMNS if n in raw}
    if len(places["file"]) != n_rows:
        raise TypeError(f"{len(places['file'])} places, {n_rows} rows")
    return places


def read_record(storage: Storage, key: str, unit: int) -> Record | None:
    """The record of one unit, or None where it is not committed.

    Raises:
        CorruptData: there is a record and its bytes are damaged.
    """
    record = read_entry(storage, key, unit)
    return record if record is not None else read_sealed(storage, key).get(unit)


def read_sound_record(storage: Storage, key: str, unit: int) -> Record | None:
    """The record of one unit, or None where it has none that can be read."""
    try:
        return read_record(storage, key, unit)
    except CorruptData:
        return None


def read_ledger(storage: Storage, key: str) -> dict[int, Record]:
    """All committed units of a key: one listing, then the records side by side.

    Raises:
        CorruptData: a record's bytes are damaged.
    """
    # Entries before the sealed ones: what is sealed in between is found there.
    entries = read_entries(storage, key)
    merged = read_sealed(storage, key) | entries
    return {unit: merged[unit] for unit in sorted(merged)}


def read_sound_records(storage: Storage, key: str) -> dict[int, Record]:
    """`read_ledger` of what can be read: for who looks at a key that may be damaged anywhere."""
    records = read_sealed(storage, key, set())
    for unit in entered_units(storage, key):
        try:
            record = read_entry(storage, key, unit)
        except CorruptData:
            records.pop(unit, None)
            continue
        if record is not None:
            records[unit] = record
    return records


def read_entries(storage: Storage, key: str) -> dict[int, Record]:
    """Records of units that are not sealed, or were written again since."""
    units = entered_units(storage, key)
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        records = pool.map(lambda unit: read_entry(storage, key, unit), units)
        return {unit: record for unit, record in zip(units, records, strict=True) if record is not None}


def entered_units(storage: Storage, key: str) -> list[int]:
    """Units that have an entry of their own, in their order."""
    return row_arrays.entry_numbers(storage.children(f"{key}/{LEDGER_ARRAY}/c"))


def read_entry(storage: Storage, key: str, unit: int) -> Record | None:
    """The entry of one unit, sealed ones left out.

    Raises:
        CorruptData: its bytes are damaged.
    """
    name = f"{key}/{row_arrays.entry_name(LEDGER_ARRAY, unit)}"
    data = storage.get(name)
    if data is None:
        return None
    with decoding(f"{storage.url}: ledger record {name}", "run `fs verify --repair`"):
        return Record.from_json(row_arrays.decode_text(data, compress=False), unit)


def read_sealed(storage: Storage, key: str, lost: set[int] | None = None) -> dict[int, Record]:
    """The sealed records, each from the first copy in which it is sound.

    Where `lost` is given, it takes up the units whose records are sound in no copy.

    Raises:
        CorruptData: a record is sound in no copy, and `lost` is None.
    """
    copies: list[tuple[dict[int, Record], set[int]]] = []
    problem: CorruptData | None = None
    for copy in range(row_arrays.SEALED_COPIES):
        damaged: set[int] = set()
        try:
            found = read_sealed_copy(storage, key, copy, damaged)
        except CorruptData as error:
            problem = error
            continue
        if found or damaged:
            copies.append((found, damaged))
        if found and not damaged:
            break
    if not copies:
        if problem is not None and lost is None:
            raise problem
        return {}
    records, missing = copies[0]
    for found, damaged in copies[1:]:
        # Only what is damaged: of a unit that was withdrawn between two writes the later copy still tells.
        records = records | {u: r for u, r in found.items() if u in missing}
        missing = missing & damaged
    if missing and lost is None:
        raise CorruptData(
            f"{storage.url}: sealed ledger {key}/{SEALED_ARRAY}: records are damaged in every copy (unit "
            f"{min(missing)}); run `fs verify --repair`"
        )
    if lost is not None:
        lost |= missing
    return records


def read_sealed_copy(
    storage: Storage, key: str, copy: int, damaged: set[int] | None = None
) -> dict[int, Record]:
    """One copy of the sealed records; none where there is no such object.

    Where `damaged` is given, it takes up the units whose records cannot be read here.

    Raises:
        CorruptData: its bytes are damaged.
    """
    folder = f"{key}/{SEALED_ARRAY}/c/{copy}"
    places = row_arrays.entry_numbers(storage.children(folder))
    found = {n: data for n in places if (data := storage.get(f"{folder}/{n}")) is not None}
    records = {}
    with decoding(f"{storage.url}: sealed ledger {folder}", "run `fs verify --repair`"):
        for unit, text in enumerate(row_arrays.decode_sealed(copy, found, damaged)):
            try:
                if text:
                    records[unit] = Record.from_json(text, unit)
            except ValueError:
                if damaged is None:
                    raise
                damaged.add(unit)
    return records


def commit(storage: Storage, key: str, record: Record) -> None:
    """Put the record: from here on the unit exists."""
    storage.put(f"{key}/{row_arrays.entry_name(LEDGER_ARRAY, record.unit)}", _encode(record))


def withdraw(
    storage: Storage,
    key: str,
    units: Collection[int],
    still: Callable[[int, Record | None], bool] = lambda unit, record: True,
) -> set[int]:
    """Take the records of units away, so that these are done again; waits for units that others work on.

    `still` is asked with each unit and its record as it is by then (None: it has none, or a damaged one):
    whether it is still to be taken away, since somebody may have done it again.

    Returns:
        The units taken away.
    """
    with holding(Claims(storage, key), list(units)):
        return withdraw_held(storage, key, units, still)


def withdraw_held(
    storage: Storage,
    key: str,
    units: Collection[int],
    still: Callable[[int, Record | None], bool] = lambda unit, record: True,
    lost: set[int] | None = None,
) -> set[int]:
    """`withdraw`, for who holds the units' claims already; `lost` as in `read_sealed`."""
    if not units:
        return set()
    # Both copies of the sealed records are written whole: of two that change them at once, one would bring
    # back what the other took away.
    with holding_ledger(storage, key):
        sealed = read_sealed(storage, key, lost)
        gone = {u for u in units if still(u, _entry_if_sound(storage, key, u, sealed))}
        _unpublish(storage, key, gone)
        if sealed.keys() & gone:
            write_sealed(storage, key, {u: r for u, r in sealed.items() if u not in gone})
        for unit in gone:
            storage.delete(f"{key}/{row_arrays.entry_name(LEDGER_ARRAY, unit)}")
    return gone


def _unpublish(storage: Storage, key: str, units: Collection[int]) -> None:
    """Empty the statuses that plain readers see of units, before their records are taken away.

    From columns that never show more than the ledger the records can be told, should both copies be lost.
    """
    model, dataset = key.split("/")
    try:
        info = read_key(storage, model, dataset)
    except (KeyNotFound, CorruptData):
        return
    rows = [slice(u.first_row, u.stop_row) for u in info.units if u.index in units]
    for i, name in enumerate(row_arrays.column_objects(STATUS_ARRAY, info.n_rows)):
        data = storage.get(f"{key}/{name}")
        if data is None or not rows:
            continue
        try:
            statuses = row_arrays.decode_column_object(STATUS_ARRAY, info.n_rows, name, data)
        except ValueError:
            continue  # damaged: it tells nothing
        first, before = i * row_arrays.ROWS_PER_OBJECT, statuses.copy()
        for run in rows:
            statuses[max(0, run.start - first) : max(0, run.stop - first)] = ""
        if (statuses == before).all():
            continue
        changed = list(row_arrays.encode_column(STATUS_ARRAY, statuses).values())
        if changed:
            storage.put(f"{key}/{name}", changed[0])
        else:
            storage.delete(f"{key}/{name}")


def _entry_if_sound(storage: Storage, key: str, unit: int, sealed: Mapping[int, Record]) -> Record | None:
    try:
        return read_entry(storage, key, unit) or sealed.get(unit)
    except CorruptData:
        return None


def seal(storage: Storage, key: str, records: Mapping[int, Record]) -> None:
    """Put all records of a complete key together, and take away the entries that hold the same.

    For who holds the ledger (`claims.holding_ledger`). Readers look at the entries first and at the sealed
    records then, so at every moment they find each unit. An entry written meanwhile stays, and counts.
    """
    if read_sealed_if_sound(storage, key) != records:
        if read_ledger(storage, key) != records:
            return  # somebody withdrew or added a unit: the end of their run seals
        write_sealed(storage, key, records)
    claims = Claims(storage, key)

    def drop(unit: int) -> None:
        name = f"{key}/{row_arrays.entry_name(LEDGER_ARRAY, unit)}"
        # Whoever holds a claim may be about to put another record there.
        if not claims.take(unit):
            return
        try:
            if storage.get(name) == _encode(records[unit]) and claims.holds(unit):
                storage.delete(name)
        finally:
            claims.release(unit)

    entries = entered_units(storage, key)
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        list(pool.map(drop, (u for u in entries if u in records)))


def read_sealed_if_sound(storage: Storage, key: str) -> dict[int, Record]:
    """The sealed records if all copies are sound and agree, else none."""
    try:
        first, *others = (read_sealed_copy(storage, key, c) for c in range(row_arrays.SEALED_COPIES))
    except CorruptData:
        return {}
    return first if all(o == first for o in others) else {}


def write_sealed(storage: Storage, key: str, records: Mapping[int, Record]) -> None:
    """Write the sealed records, one copy after the other."""
    texts = [records[u].to_json() if u in records else "" for u in range(max(records, default=-1) + 1)]
    objects = row_arrays.encode_sealed(texts)
    folder = f"{key}/{SEALED_ARRAY}"
    for name in sorted(objects):
        storage.put(f"{folder}/{name}", objects[name])
    for copy in range(row_arrays.SEALED_COPIES):
        # Whole objects only: what else lies there is the temporary file of somebody who seals too.
        for place in storage.children(f"{folder}/c/{copy}"):
            if row_arrays.entry_number(place) is not None and f"c/{copy}/{place}" not in objects:
                storage.delete(f"{folder}/c/{copy}/{place}")


def _encode(record: Record) -> bytes:
    return row_arrays.encode_text(record.to_json(), compress=False)


def contradiction(info: KeyInfo, records: Mapping[int, Record]) -> str | None:
    """Where the records of a key were made under another plan than its document tells; None where nowhere."""
    planned = {u.index: u for u in info.units}
    for unit, record in records.items():
        there = planned.get(unit)
        if not (there and is_complete(record, there, [])):
            plan = "no such unit" if there is None else f"rows {there.first_row}–{there.stop_row - 1}"
            rows = f"{record.first_row}–{record.first_row + record.n_rows - 1}"
            return f"unit {unit} is recorded with rows {rows}, and its plan has {plan}"
    return None


def is_complete(record: Record | None, unit: Unit, layers: list[int]) -> bool:
    """Whether a record covers this unit's rows and all these layers."""
    return (
        record is not None
        and (record.first_row, record.n_rows) == (unit.first_row, unit.n_rows)
        and set(layers) <= set(record.layers)
    )
