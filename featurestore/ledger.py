"""The record of committed units. A unit without a valid record does not exist.

The ledger of a key is the Zarr text array ``ledger``, one entry per unit, each its own object: the entry
is empty until the unit is committed and then holds one JSON record. It is written last, after every
object it names, in one atomic operation.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np

from featurestore import layout
from featurestore.errors import CorruptData
from featurestore.fingerprint import canonical_json
from featurestore.plan import Unit
from featurestore.storage import Storage

LEDGER_ARRAY = "ledger"
# Records fetched at once: a remote store answers each in milliseconds.
READERS = 16


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object of a unit: its size and the CRC-32C of its bytes."""

    n_bytes: int
    crc32c: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a committed unit holds.

    Attributes:
        unit, first_row, n_rows: which rows.
        layers: layers that are complete for these rows.
        objects: key-relative object name → size and checksum, for every object of the unit.
        failed: utterance id → why its audio failed; these rows are NaN.
        audio_s: seconds of audio embedded.
        elapsed_s: wall-clock seconds the unit took.
        started_at: UTC, ISO 8601.
        host: machine that wrote it.
        versions: packages and device it was made with.
    """

    unit: int
    first_row: int
    n_rows: int
    layers: list[int]
    objects: Mapping[str, StoredObject]
    failed: Mapping[str, str] = field(default_factory=dict)
    audio_s: float = 0.0
    elapsed_s: float = 0.0
    started_at: str = ""
    host: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON text."""
        return canonical_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Inverse of `to_json`; fields of later versions are ignored.

        Raises:
            ValueError: the text is not a record.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            names = {f.name for f in dataclasses.fields(cls)}
            known = {k: v for k, v in raw.items() if k in names}
            known["objects"] = {
                name: StoredObject(n_bytes=o["n_bytes"], crc32c=o["crc32c"])
                for name, o in raw["objects"].items()
            }
            return cls(**known)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a ledger record: {error}") from error


def describe_object(data: bytes) -> StoredObject:
    """Size and checksum of an object's bytes."""
    return StoredObject(n_bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}")


def describe_pieces(pieces: Sequence[np.ndarray]) -> StoredObject:
    """Size and checksum of the bytes of contiguous arrays, one after the other."""
    crc = 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, piece)
    return StoredObject(n_bytes=sum(p.nbytes for p in pieces), crc32c=f"{crc:08x}")


def read_record(storage: Storage, key: str, unit: int) -> Record | None:
    """The record of one unit, or None where it is not committed.

    Raises:
        CorruptData: there is a record and its bytes are damaged.
    """
    name = f"{key}/{layout.row_chunk(LEDGER_ARRAY, unit)}"
    data = storage.get(name)
    if data is None:
        return None
    try:
        return Record.from_json(layout.decode_text(data, compress=False))
    except (ValueError, UnicodeDecodeError) as error:
        raise CorruptData(
            f"{storage.url}: ledger record {name} is damaged ({error}); run `fs verify --repair`"
        ) from error


def read_ledger(storage: Storage, key: str) -> dict[int, Record]:
    """All committed units of a key: one listing, then the records side by side."""
    units = sorted(int(n) for n in storage.children(f"{key}/{LEDGER_ARRAY}/c") if n.isdigit())
    with ThreadPoolExecutor(READERS) as pool:
        records = pool.map(lambda unit: read_record(storage, key, unit), units)
        return {unit: record for unit, record in zip(units, records, strict=True) if record is not None}


def commit(storage: Storage, key: str, record: Record) -> None:
    """Put the record: from here on the unit exists."""
    data = layout.encode_text(record.to_json(), compress=False)
    storage.put(f"{key}/{layout.row_chunk(LEDGER_ARRAY, record.unit)}", data)


def is_complete(record: Record | None, unit: Unit, layers: list[int]) -> bool:
    """Whether a record covers this unit's rows and all these layers."""
    return (
        record is not None
        and (record.first_row, record.n_rows) == (unit.first_row, unit.n_rows)
        and set(layers) <= set(record.layers)
    )
